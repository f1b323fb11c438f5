//! What carries an instance over Streamable HTTP: a POST for each call, and for a session a GET stream.
//!
//! ```text
//!   queued ──▶ call ──▶ POST ──▶ one answer as JSON
//!          │                └──▶ a stream: its events are the call's
//!          │                       └ broken off, in a session ──▶ GET with Last-Event-ID, after `retry`
//!          ├─▶ cancel ──▶ stateless: the POST is dropped; session: said so
//!          └─▶ word ──▶ POST
//! ```
//!
//! A session that the server has forgotten (404) is opened anew, once for all who notice, and what was
//! refused for that reason is sent again: it was not delivered.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Response};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use landbridge_proto::back::approach::Wire;
use landbridge_proto::back::link::{Key, Link, What};
use landbridge_proto::back::probe::Protocol;
use landbridge_proto::back::stateless;
use landbridge_proto::back::streamable::{Attempts, Next, Opened, Resumption, wait};
use landbridge_proto::call::{Call, Client, Outcome, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::message::{Kind as MessageKind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::sse::Decoded;
use landbridge_proto::version::{Era, Revision};

use crate::backend::Peer;
use crate::backend::http::write_headers;
use crate::backend::pool::Instance;
use crate::backend::pool::exchanges::Exchanges;
use crate::backend::pool::instance::queued;
use crate::backend::pool::remote::meet::{self, Met, header_map};
use crate::backend::pool::remote::stream::Stream;
use crate::backend::pool::remote::words::{Word, Words};
use crate::backend::pool::remote::{Arrival, LAST_EVENT, Site, is_events, refusal, session_headers, whole};
use crate::eras;

/// For a server to end a session.
const GOODBYE: Duration = Duration::from_secs(5);

/// A session at the server, as the server names it.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// `Mcp-Session-Id`; a server need not give one.
    pub(super) id: Option<HeaderValue>,
    /// The how-manieth it is.
    pub(super) number: u64,
}

/// What carries the calls of one instance.
pub(in crate::backend::pool) struct Carrier {
    site: Arc<Site>,
    revision: Revision,
    /// Who we said we are.
    client: Client,
    limit: usize,
    /// A call that was withdrawn is listened to for so long.
    haunts: Duration,
    /// For another session to be there.
    patience: Duration,
    session: watch::Sender<Session>,
    renewing: tokio::sync::Mutex<()>,
    words: Words,
    /// Calls under way.
    exchanges: Exchanges,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("site", &self.site.name).finish_non_exhaustive()
    }
}

/// Why a call's exchange came to nothing.
enum Lost {
    /// Nobody waits for it any more.
    Nobody,
    /// This; the server is not at it.
    To(Fault),
    /// The same, but the server may be at it.
    Sight(Fault),
}

impl From<Fault> for Lost {
    fn from(fault: Fault) -> Lost {
        Lost::To(fault)
    }
}

/// What is sent: a call's line, and what has been read of it.
struct Sent {
    key: Key,
    line: Bytes,
    read: Option<(Message, Params)>,
}

/// The stream that a call is answered by, and the session it is of.
type Streamed = Option<(Session, Response<Incoming>)>;

/// An instance of the server that was met.
pub(super) fn begin(arrival: Arrival<'_>, site: &Arc<Site>, server: Server, session: Session) -> Arc<Instance> {
    let Arrival { pool, place, client, shared, ordinal } = arrival;
    let carrier = Arc::new(Carrier {
        site: site.clone(),
        revision: server.revision,
        client: client.clone(),
        limit: pool.limits.message_bytes,
        haunts: Duration::from_millis(pool.limits.ask_hold_ms),
        patience: Duration::from_millis(pool.limits.handshake_ms),
        session: watch::channel(session).0,
        renewing: tokio::sync::Mutex::default(),
        words: Words::new(site.clone()),
        exchanges: Exchanges::default(),
    });
    // A server without a handshake keeps nothing for us.
    let place = (server.era() == Era::Handshake).then_some(place);
    let (stop, stopped) = mpsc::channel(1);
    let instance = Instance::begin(pool, eras::Wire::Http, server, shared, ordinal, stop, Vec::new());
    instance.carried_by(carrier.clone());
    tokio::spawn(carry(Arc::downgrade(&instance), carrier, stopped, place));
    instance
}

async fn carry(instance: Weak<Instance>, carrier: Arc<Carrier>, mut stopped: mpsc::Receiver<()>, place: Option<OwnedSemaphorePermit>) {
    let has_session = carrier.revision.era() == Era::Handshake;
    let listening = has_session.then(|| tokio::spawn(listen(instance.clone(), carrier.clone())));
    loop {
        tokio::select! {
            () = queued(&instance) => {}
            _ = stopped.recv() => break,
        }
        let Some(strong) = instance.upgrade() else { break };
        let Some(lines) = strong.link().take_queued() else { break };
        for line in lines {
            match line.what {
                What::Call(key) => {
                    let line = strong.link().let_go(key, line.line);
                    if let Some(line) = line {
                        carrier.begin_line(&strong, key, line).run_by_itself();
                    }
                }
                What::First(key) => {
                    let attempts = Attempts::first(key, carrier.revision.era(), line.line.clone());
                    carrier.begin_as(&strong, attempts, Sent { key, line: line.line, read: None }).run_by_itself();
                    strong.settled(key).await;
                }
                What::Cancel(key) if has_session => {
                    carrier.say(line.line).await;
                    carrier.let_haunt(key);
                }
                // To end its stream is to withdraw it (2026-07-28, basic/transports).
                What::Cancel(key) => {
                    carrier.exchanges.take(key).inspect(AbortHandle::abort);
                }
                What::Answer(of) => carrier.answer(of, line.line).await,
                What::Word => carrier.say(line.line).await,
            }
        }
        strong.operate(Link::settled);
    }
    carrier.exchanges.abort_all();
    if let Some(listening) = listening {
        listening.abort();
    }
    if has_session {
        carrier.say_goodbye().await;
    }
    drop(place);
}

/// A call, as far as the head of its response, or its answer. It goes on while it is polled, which spares it a
/// task: most answers are there at once.
pub struct Exchange {
    instance: Weak<Instance>,
    carrier: Arc<Carrier>,
    key: Key,
    /// Whether it may have been sent.
    begun: bool,
    /// Nothing: it is done, or goes on by itself.
    work: Option<Work<Option<Work<()>>>>,
}

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Exchange {
    /// Goes on. When it is done, its link knows what came of it, or a task follows its stream.
    pub(in crate::backend) fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(work) = &mut self.work else { return };
        self.begun = true;
        // What comes of it is looked at behind this, and so need not wake anybody.
        if let Some(instance) = self.instance.upgrade() {
            instance.link().let_sleep(self.key);
        }
        if let Poll::Ready(rest) = work.as_mut().poll(cx) {
            self.work = None;
            if let Some(rest) = rest {
                self.carrier.exchanges.begin(self.key, rest);
            }
        }
    }

    /// It goes on by itself from here.
    pub(in crate::backend) fn run_by_itself(&mut self) {
        if let Some(work) = self.work.take() {
            self.carrier.exchanges.begin(self.key, to_the_end(work));
        }
    }
}

/// Nobody waits for it. That withdraws the call at a stateless server; in a session the server may still be at
/// it, and ask. But not for ever.
impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(work) = self.work.take().filter(|_| self.begun) else { return };
        if self.carrier.has_session()
            && self.instance.upgrade().is_some_and(|instance| instance.is_alive())
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(self.carrier.haunts, to_the_end(work)));
        }
    }
}

async fn to_the_end(work: Work<Option<Work<()>>>) {
    if let Some(rest) = work.await {
        rest.await;
    }
}

/// One call, from its request to its answer, or to the stream that is to be followed.
async fn exchange(instance: Weak<Instance>, carrier: Arc<Carrier>, attempts: Attempts, sent: Sent) -> Option<Work<()>> {
    let key = sent.key;
    match carrier.call(&instance, attempts, &sent).await {
        Ok(None) => None,
        Ok(Some((session, response))) => Some(Box::pin(async move {
            let ended = carrier.follow(&instance, key, &session, response).await.err().unwrap_or(Lost::Nobody);
            lose(&instance, &carrier, key, ended);
        })),
        Err(lost) => {
            lose(&instance, &carrier, key, lost);
            None
        }
    }
}

/// Whatever was not said of a call so far: its end.
fn lose(instance: &Weak<Instance>, carrier: &Carrier, key: Key, lost: Lost) {
    let Some(instance) = instance.upgrade() else { return };
    instance.operate(|link| match lost {
        Lost::Nobody => link.handle_end_of(key, Outcome::Fault(carrier.site.misbehaves("did not answer the call"))),
        Lost::To(fault) => link.handle_end_of(key, Outcome::Fault(fault)),
        Lost::Sight(fault) => link.handle_lost(key, fault),
    });
}

impl Carrier {
    /// A client's call, whose line this is; it is sent when it is polled.
    pub(in crate::backend::pool) fn begin(self: &Arc<Self>, instance: &Arc<Instance>, key: Key, call: &Call, line: Bytes) -> Exchange {
        // What its headers repeat is in the line what it is in the call, where it has been found already.
        let read = (!self.has_session()).then(|| (call.message.clone(), call.params));
        self.begin_as(instance, Attempts::new(key, self.revision.era(), line.clone()), Sent { key, line, read })
    }

    fn begin_line(self: &Arc<Self>, instance: &Arc<Instance>, key: Key, line: Bytes) -> Exchange {
        self.begin_as(instance, Attempts::new(key, self.revision.era(), line.clone()), Sent { key, line, read: None })
    }

    fn begin_as(self: &Arc<Self>, instance: &Arc<Instance>, attempts: Attempts, sent: Sent) -> Exchange {
        let (instance, key) = (Arc::downgrade(instance), sent.key);
        let work = Box::pin(exchange(instance.clone(), self.clone(), attempts, sent));
        Exchange { instance, carrier: self.clone(), key, begun: false, work: Some(work) }
    }

    /// A call was withdrawn. The server may still be at it, and ask; but not for ever.
    fn let_haunt(&self, key: Key) {
        let Some(exchange) = self.exchanges.take(key) else { return };
        let haunts = self.haunts;
        tokio::spawn(async move {
            tokio::time::sleep(haunts).await;
            exchange.abort();
        });
    }

    fn has_session(&self) -> bool {
        self.revision.era() == Era::Handshake
    }

    fn session(&self) -> Session {
        self.session.borrow().clone()
    }

    fn headers(&self, session: &Session) -> HeaderMap {
        if self.has_session() { session_headers(self.revision, session.id.as_ref()) } else { HeaderMap::new() }
    }

    async fn say(&self, line: Bytes) {
        self.say_in(&self.session(), line).await;
    }

    /// Says an answer, if the session that it is for is the one there is. Another may have asked something else
    /// by that number.
    async fn answer(&self, of: u64, line: Bytes) {
        let session = self.session();
        if session.number == of {
            self.say_in(&session, line).await;
        }
    }

    async fn say_in(&self, session: &Session, line: Bytes) {
        let (url, headers) = (self.site.url.clone(), self.headers(session));
        self.words.say(Word { url, line, headers, after: None }).await;
    }

    /// Sends a call and hears its answer. If that is a stream, it is the caller's to follow.
    async fn call(&self, instance: &Weak<Instance>, mut attempts: Attempts, sent: &Sent) -> Result<Streamed, Lost> {
        let (key, line) = (sent.key, &sent.line);
        loop {
            let session = self.session();
            let headers = match self.has_session() {
                true => self.headers(&session),
                false => self.stateless_headers(instance, sent).await?,
            };
            let response = self.site.post(&self.site.url, line, headers).await.map_err(|trouble| match trouble.delivered {
                true => Lost::Sight(self.site.unreachable("broke off before it answered", trouble)),
                false => Lost::To(self.site.unreachable("cannot be reached", trouble)),
            })?;
            let status = response.status();
            if status.is_success() && is_events(&response) {
                return Ok(Some((session, response)));
            }
            let body = whole(response, self.limit).await.map_err(|why| self.site.misbehaves(format!("cannot be understood: {why}")))?;
            let next = attempts.handle_response(status.as_u16(), session.id.is_some(), &body);
            let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
            match next {
                // It has been withdrawn meanwhile, and was not read.
                Next::Renew | Next::LookAgain if !strong.link().is_wanted(key) => return Err(Lost::Nobody),
                Next::Renew => {
                    drop(strong);
                    Box::pin(self.renew(instance, session.number)).await?;
                    let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
                    strong.all_settled().await;
                    if !strong.link().is_wanted(key) {
                        return Err(Lost::Nobody);
                    }
                    continue;
                }
                Next::LookAgain => {
                    strong.mirrors.forget();
                    continue;
                }
                Next::MeetAgain(supported) => return Err(Lost::To(self.changed(&strong, &supported))),
                Next::Answered(answer) => strong.read_lines(|link| link.handle_message_of(key, answer)),
                Next::Ended(outcome) => strong.operate(|link| link.handle_end_of(key, outcome)),
                Next::Unanswered => return Err(Lost::To(self.site.misbehaves(refusal(status.as_u16())))),
            }
            return Ok(None);
        }
    }

    async fn stateless_headers(&self, instance: &Weak<Instance>, sent: &Sent) -> Result<HeaderMap, Lost> {
        let unreadable = |why: String| Lost::To(Fault::gateway(Kind::Invalid).tell(why));
        let own;
        let (message, params) = match &sent.read {
            Some((message, params)) => (message, params),
            None => {
                let message = Message::read(sent.line.clone()).map_err(|bad| unreadable(bad.why))?;
                let params = Params::read(&message).map_err(|e| unreadable(e.to_string()))?;
                own = (message, params);
                (&own.0, &own.1)
            }
        };
        let is_tool = matches!(message.kind, MessageKind::Request(_, Method::ToolsCall));
        let facts = match message.string_at(params.name).filter(|_| is_tool) {
            Some(tool) => {
                let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
                Peer::Instance(strong).facts(&tool).await
            }
            None => None,
        };
        let mirrored = facts.map(|facts| facts.mirrored);
        Ok(header_map(stateless::headers(message, params, mirrored.as_deref().unwrap_or_default())))
    }

    /// The server has refused a call for its revision, and names those it speaks. If what it spoke is not
    /// among them, it was another server, or another version of it, that said so: it has to be met again.
    fn changed(&self, instance: &Instance, supported: &[Revision]) -> Fault {
        if supported.contains(&self.revision) {
            return self.site.misbehaves(format!("refuses {}, and says that it speaks that", self.revision));
        }
        // Other calls may still be under way where the old version runs.
        if instance.retire() {
            warn!(server = self.site.name, "it speaks another protocol version than before; it will be met again");
        }
        let told = format!("the server `{}` does not speak {} any more; send the call again", self.site.name, self.revision);
        Fault::backend(&self.site.name, Kind::Changed).tell(told)
    }

    /// The stream of a call, to its end, in the session that it was sent in.
    async fn follow(&self, instance: &Weak<Instance>, key: Key, session: &Session, response: Response<Incoming>) -> Result<(), Lost> {
        let mut stream = Stream::new(self.limit);
        stream.connect(response);
        let mut resumption = Resumption::new(self.revision.era());
        loop {
            let ended = loop {
                let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
                let mut over = false;
                while let Some(decoded) = stream.next_here() {
                    resumption.handle_event();
                    match decoded {
                        Decoded::Event(event) if event.is_message() => {
                            let line = json::on_one_line(&event.data);
                            strong.read_lines(|link| match self.session.borrow().number == session.number {
                                true => link.handle_line_of(key, line),
                                false => link.handle_line_of_lost(key, line),
                            });
                        }
                        Decoded::Event(_) => {}
                        Decoded::TooLong { head, tail } => {
                            strong.read_lines(|link| link.handle_too_long(&head, &tail, self.limit));
                        }
                    }
                    over = !strong.link().is_under_way(key);
                }
                drop(strong);
                if over {
                    stream.drain().await;
                    return Ok(());
                }
                if let Err(why) = stream.more().await {
                    break why;
                }
            };
            let broke = |why: &str| Lost::Sight(self.site.unreachable("broke off before it answered", why));
            debug!(server = self.site.name, why = ended, "a call's stream broke off");
            loop {
                let last_id = stream.last_id().map(str::to_owned);
                let Some(wait) = resumption.handle_broken(last_id.as_deref(), stream.retry_ms()) else { return Err(broke(&ended)) };
                tokio::time::sleep(wait).await;
                let response = match self.open(session, last_id.as_deref()).await {
                    Ok(response) => response,
                    Err(trouble) => {
                        debug!(server = self.site.name, %trouble, "it cannot be reached to take a stream up again");
                        continue;
                    }
                };
                match Opened::by(response.status().as_u16(), is_events(&response)) {
                    Opened::Stream => {
                        stream.connect(response);
                        break;
                    }
                    Opened::Later => {}
                    Opened::Refused => {
                        return Err(broke(&format!("{ended}, and it cannot be taken up again (HTTP {})", response.status().as_u16())));
                    }
                }
            }
        }
    }

    async fn open(&self, session: &Session, last_id: Option<&str>) -> Result<Response<Incoming>, crate::backend::http::Trouble> {
        let mut headers = self.headers(session);
        if let Some(id) = last_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(LAST_EVENT, id);
        }
        self.site.open(headers).await
    }

    /// Opens the session anew that the server has forgotten, unless somebody else has done so.
    async fn renew(&self, instance: &Weak<Instance>, number: u64) -> Result<(), Lost> {
        let _renewing = self.renewing.lock().await;
        if self.session().number != number {
            return Ok(());
        }
        info!(server = self.site.name, "it has forgotten our session; opening another");
        let protocol = Protocol::Pinned(self.revision);
        let meeting = meet::approach(&self.site, protocol, Wire::Streamable, &self.client, self.limit);
        let met = tokio::time::timeout(self.patience, meeting).await.unwrap_or_else(|_| {
            Err(self
                .site
                .unreachable("has forgotten this session", format!("and opened no other within {} s", self.patience.as_secs_f32())))
        });
        let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
        match met {
            Ok(Met::Server(server, session)) if server.revision == self.revision => {
                self.session.send_replace(Session { id: session.id, number: number + 1 });
                strong.renewed();
                Ok(())
            }
            Err(fault) if fault.kind == Kind::Unreachable => Err(Lost::To(fault)),
            met => {
                let why = match met {
                    Err(fault) => fault.told,
                    Ok(_) => "it speaks another protocol version than before".into(),
                };
                let told = format!("the server `{}` has forgotten this session: {why}", self.site.name);
                let fault = Fault::backend(&self.site.name, Kind::Backend).tell(told);
                strong.forget_verdict();
                strong.end(fault.clone());
                Err(Lost::To(fault))
            }
        }
    }

    async fn say_goodbye(&self) {
        let session = self.session();
        if session.id.is_none() {
            return;
        }
        let own = self.headers(&session);
        let head = |headers: &mut HeaderMap| {
            write_headers(headers, &self.site.headers);
            write_headers(headers, &own);
        };
        let goodbye = self.site.http.send(HttpMethod::DELETE, &self.site.url, head, Bytes::new());
        let _ = tokio::time::timeout(GOODBYE, goodbye).await; // a server may refuse, or be gone
    }
}

/// What the server says that belongs to no call.
async fn listen(instance: Weak<Instance>, carrier: Arc<Carrier>) {
    let mut stream = Stream::new(carrier.limit);
    let mut sessions = carrier.session.subscribe();
    let (mut failures, mut was_open, mut of) = (0, false, 0);
    loop {
        let session = sessions.borrow_and_update().clone();
        // Another session knows nothing of the events of the old one.
        if std::mem::replace(&mut of, session.number) != session.number {
            stream = Stream::new(carrier.limit);
        }
        let last_id = stream.last_id().map(str::to_owned);
        match carrier.open(&session, last_id.as_deref()).await {
            Ok(response) if response.status().is_success() && is_events(&response) => {
                stream.connect(response);
                failures = 0;
                if std::mem::replace(&mut was_open, true) && last_id.is_none() {
                    instance.upgrade().inspect(Instance::missed);
                }
                let ended = loop {
                    let Some(strong) = instance.upgrade() else { return };
                    while let Some(decoded) = stream.next_here() {
                        strong.read_lines(|link| match decoded {
                            Decoded::Event(event) if event.is_message() => link.handle_line(json::on_one_line(&event.data)),
                            Decoded::Event(_) => {}
                            Decoded::TooLong { head, tail } => link.handle_too_long(&head, &tail, carrier.limit),
                        });
                    }
                    drop(strong);
                    tokio::select! {
                        biased;
                        // The stream was the old session's.
                        _ = sessions.changed() => break "the session is another".into(),
                        more = stream.more() => if let Err(why) = more {
                            break why;
                        },
                    }
                };
                debug!(server = carrier.site.name, why = ended, "its stream of notifications ended; opening it again");
            }
            Ok(response) if response.status().is_server_error() => failures += 1,
            // It offers none. What the status would be is not agreed upon (400, 404, 405, 406).
            Ok(_) if !was_open => return,
            Ok(response) if response.status().as_u16() == 404 && session.id.is_some() => {
                if carrier.renew(&instance, session.number).await.is_err() {
                    failures += 1;
                }
            }
            Ok(_) => return,
            Err(trouble) => {
                failures += 1;
                debug!(server = carrier.site.name, %trouble, "its stream of notifications cannot be opened");
            }
        }
        if instance.upgrade().is_none_or(|instance| !instance.is_alive()) {
            return;
        }
        tokio::time::sleep(wait(stream.retry_ms(), failures.max(1))).await;
    }
}
