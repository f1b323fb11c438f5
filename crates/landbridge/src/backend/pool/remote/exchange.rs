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
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method as HttpMethod, Response};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};

use landbridge_proto::back::approach::{Wire, supported};
use landbridge_proto::back::link::{Key, What};
use landbridge_proto::back::probe::Protocol;
use landbridge_proto::back::stateless;
use landbridge_proto::bridge::code_of;
use landbridge_proto::call::{Client, Outcome, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::message::{Kind as MessageKind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::sse::Decoded;
use landbridge_proto::version::{Era, Revision};

use crate::backend::Peer;
use crate::backend::pool::Instance;
use crate::backend::pool::exchanges::Exchanges;
use crate::backend::pool::instance::queued;
use crate::backend::pool::remote::meet::{self, Met, header_map};
use crate::backend::pool::remote::stream::Stream;
use crate::backend::pool::remote::words::{Word, Words};
use crate::backend::pool::remote::{Arrival, LAST_EVENT, Site, answer_in, is_events, refusal, session_headers, whole};
use crate::eras;

/// How long a stream that broke off is left alone, where the server does not say.
const RETRY: Duration = Duration::from_secs(1);
/// The longest it may say.
const LONGEST: Duration = Duration::from_secs(60);
/// Attempts in a row to take a call's stream up again.
const RESUMES: u32 = 5;
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
    /// This.
    To(Fault),
}

impl From<Fault> for Lost {
    fn from(fault: Fault) -> Lost {
        Lost::To(fault)
    }
}

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
                What::Call(key) => carrier.send(&strong, key, line.line),
                What::First(key) => {
                    carrier.send(&strong, key, line.line);
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
                What::Word => carrier.say(line.line).await,
            }
        }
        strong.link().settled();
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

/// One call, from its request to its answer.
async fn exchange(instance: Weak<Instance>, carrier: Arc<Carrier>, key: Key, line: Bytes) {
    let ended = match carrier.call(&instance, key, &line).await {
        Ok(()) | Err(Lost::Nobody) => carrier.site.misbehaves("did not answer the call"),
        Err(Lost::To(fault)) => fault,
    };
    if let Some(instance) = instance.upgrade() {
        instance.operate(|link| link.handle_end_of(key, Outcome::Fault(ended)));
    }
}

impl Carrier {
    /// Sends a call.
    pub(in crate::backend::pool) fn send(self: &Arc<Self>, instance: &Arc<Instance>, key: Key, line: Bytes) {
        self.exchanges.begin(key, exchange(Arc::downgrade(instance), self.clone(), key, line));
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
        let (url, headers) = (self.site.url.clone(), self.headers(&self.session()));
        self.words.say(Word { url, line, headers, after: None }).await;
    }

    async fn call(&self, instance: &Weak<Instance>, key: Key, line: &Bytes) -> Result<(), Lost> {
        let (mut renewed, mut looked_again) = (false, false);
        loop {
            let session = self.session();
            let headers = match self.has_session() {
                true => self.headers(&session),
                false => self.stateless_headers(instance, line).await?,
            };
            let response = self.site.post(&self.site.url, line, headers).await.map_err(|trouble| {
                let what = if trouble.delivered { "broke off before it answered" } else { "cannot be reached" };
                self.site.unreachable(what, trouble)
            })?;
            let status = response.status();
            if status.is_success() && is_events(&response) {
                return self.follow(instance, key, response).await;
            }
            let body = whole(response, self.limit).await.map_err(|why| self.site.misbehaves(format!("cannot be understood: {why}")))?;
            let answer = answer_in(&body);
            let (is_ours, code) = answer.as_ref().map_or((false, None), |answer| match &answer.kind {
                MessageKind::Response(id, result) => {
                    let ours = id.as_ref().and_then(|id| id.as_number()) == Some(key.id());
                    (ours, result.err().and_then(|at| code_of(&answer.slice(at))))
                }
                _ => (false, None),
            });
            if !renewed && self.has_session() && forgot_session(status.as_u16(), &session, is_ours, code, &body) {
                renewed = true;
                self.renew(instance, session.number).await?;
                continue;
            }
            if !looked_again && code == Some(-32020) && self.forget_tools(instance, line)? {
                looked_again = true;
                continue;
            }
            if code == Some(-32022) && !self.has_session() {
                let error = answer.and_then(|answer| match &answer.kind {
                    MessageKind::Response(_, Err(at)) => Some(answer.slice(*at)),
                    _ => None,
                });
                return Err(Lost::To(self.changed(instance, &error.map(supported).unwrap_or_default())));
            }
            let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
            match answer.map(|answer| (answer.kind.clone(), answer)) {
                Some((_, answer)) if is_ours => strong.read_lines(|link| link.handle_line_of(key, answer.bytes)),
                Some((MessageKind::Response(_, Err(at)), answer)) => {
                    strong.operate(|link| link.handle_end_of(key, Outcome::Error(answer.slice(at))));
                }
                _ => return Err(Lost::To(self.site.misbehaves(refusal(status.as_u16())))),
            }
            return Ok(());
        }
    }

    async fn stateless_headers(&self, instance: &Weak<Instance>, line: &Bytes) -> Result<HeaderMap, Lost> {
        let unreadable = |why: String| Lost::To(Fault::gateway(Kind::Invalid).tell(why));
        let message = Message::read(line.clone()).map_err(|bad| unreadable(bad.why))?;
        let params = Params::read(&message).map_err(|e| unreadable(e.to_string()))?;
        let is_tool = matches!(message.kind, MessageKind::Request(_, Method::ToolsCall));
        let facts = match message.string_at(params.name).filter(|_| is_tool) {
            Some(tool) => {
                let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
                Peer::Instance(strong).facts(&tool).await
            }
            None => None,
        };
        let mirrored = facts.map(|facts| facts.mirrored);
        Ok(header_map(stateless::headers(&message, &params, mirrored.as_deref().unwrap_or_default())))
    }

    /// The headers did not agree with what the server knows of its tools: ours may be old. Whether to look
    /// again.
    fn forget_tools(&self, instance: &Weak<Instance>, line: &Bytes) -> Result<bool, Lost> {
        let is_tool = Message::read(line.clone()).is_ok_and(|m| matches!(m.kind, MessageKind::Request(_, Method::ToolsCall)));
        let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
        strong.mirrors.forget();
        Ok(is_tool && !self.has_session())
    }

    /// The server has refused a call for its revision, and names those it speaks. If what it spoke is not
    /// among them, it was another server, or another version of it, that said so: it has to be met again.
    fn changed(&self, instance: &Weak<Instance>, supported: &[Revision]) -> Fault {
        if supported.contains(&self.revision) {
            return self.site.misbehaves(format!("refuses {}, and says that it speaks that", self.revision));
        }
        // Other calls may still be under way where the old version runs.
        if instance.upgrade().is_some_and(|instance| instance.retire()) {
            warn!(server = self.site.name, "it speaks another protocol version than before; it will be met again");
        }
        let told = format!("the server `{}` does not speak {} any more; send the call again", self.site.name, self.revision);
        Fault::backend(&self.site.name, Kind::Changed).tell(told)
    }

    /// The stream of a call, to its end.
    async fn follow(&self, instance: &Weak<Instance>, key: Key, response: Response<Incoming>) -> Result<(), Lost> {
        let mut stream = Stream::new(self.limit);
        stream.connect(response);
        let mut failures = 0;
        loop {
            let ended = loop {
                let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
                let mut over = false;
                while let Some(decoded) = stream.next_here() {
                    failures = 0;
                    match decoded {
                        Decoded::Event(event) if event.is_message() => {
                            strong.read_lines(|link| link.handle_line_of(key, json::on_one_line(&event.data)));
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
            let broke = |why: &str| Lost::To(self.site.unreachable("broke off before it answered", why));
            let Some(id) = stream.last_id().map(str::to_owned).filter(|_| self.has_session()) else { return Err(broke(&ended)) };
            debug!(server = self.site.name, why = ended, "a call's stream broke off; taking it up again");
            loop {
                failures += 1;
                if failures > RESUMES {
                    return Err(broke(&ended));
                }
                tokio::time::sleep(wait(stream.retry_ms(), failures)).await;
                match self.open(Some(&id)).await {
                    Ok(response) if response.status().is_success() && is_events(&response) => {
                        stream.connect(response);
                        break;
                    }
                    Ok(response) if response.status().is_server_error() => {}
                    Ok(response) => {
                        return Err(broke(&format!("{ended}, and it cannot be taken up again (HTTP {})", response.status().as_u16())));
                    }
                    Err(trouble) => debug!(server = self.site.name, %trouble, "it cannot be reached to take a stream up again"),
                }
            }
        }
    }

    async fn open(&self, last_id: Option<&str>) -> Result<Response<Incoming>, crate::backend::http::Trouble> {
        let mut headers = self.headers(&self.session());
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
        let mut headers = self.site.headers.clone();
        headers.extend(self.headers(&session));
        let goodbye = self.site.http.send(HttpMethod::DELETE, &self.site.url, headers, Bytes::new());
        let _ = tokio::time::timeout(GOODBYE, goodbye).await; // a server may refuse, or be gone
    }
}

/// What the server says that belongs to no call.
async fn listen(instance: Weak<Instance>, carrier: Arc<Carrier>) {
    let mut stream = Stream::new(carrier.limit);
    let mut sessions = carrier.session.subscribe();
    let (mut failures, mut was_open) = (0, false);
    loop {
        let session = sessions.borrow_and_update().clone();
        let last_id = stream.last_id().map(str::to_owned);
        match carrier.open(last_id.as_deref()).await {
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
                        more = stream.more() => if let Err(why) = more {
                            break why;
                        },
                        // The stream was the old session's.
                        _ = sessions.changed() => break "the session is another".into(),
                    }
                };
                debug!(server = carrier.site.name, why = ended, "its stream of notifications ended; opening it again");
            }
            Ok(response) if response.status().is_server_error() => failures += 1,
            // It offers none. What the status would be is not agreed upon (400, 404, 405, 406).
            Ok(_) if !was_open => return,
            Ok(response) if response.status().as_u16() == 404 && session.id.is_some() => {
                match carrier.renew(&instance, session.number).await {
                    Ok(()) => stream = Stream::new(carrier.limit),
                    Err(_) => failures += 1,
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

/// How long to wait before the `failures`-th attempt to come back.
fn wait(retry_ms: Option<u64>, failures: u32) -> Duration {
    let first = retry_ms.map_or(RETRY, Duration::from_millis);
    (first * 2_u32.pow(failures.saturating_sub(1).min(6))).min(LONGEST.max(first.min(LONGEST)))
}

/// Whether a response says that the session is unknown, and so that the request was not read: 404 as the
/// specification has it, or 400 as many servers say it that were never told of a session.
fn forgot_session(status: u16, session: &Session, is_ours: bool, code: Option<i64>, body: &[u8]) -> bool {
    if session.id.is_none() {
        return false;
    }
    match status {
        404 => !(is_ours && code == Some(-32601)),
        400 => !is_ours && memchr::memmem::find(&body.to_ascii_lowercase(), b"session").is_some(),
        _ => false,
    }
}
