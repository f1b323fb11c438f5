//! One call over Streamable HTTP: a POST, and its answer or its stream.
//!
//! What becomes of a response is decided in [`streamable`](landbridge_proto::back::streamable).

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::Incoming;
use tracing::{debug, warn};

use landbridge_proto::back::link::{Key, Link};
use landbridge_proto::back::stateless;
use landbridge_proto::back::streamable::{Attempts, Next, Opened, Resumption};
use landbridge_proto::call::{Call, Outcome};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::message::{Kind as MessageKind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::sse::Decoded;
use landbridge_proto::version::Revision;

use super::{Carrier, Session};
use crate::backend::Peer;
use crate::backend::pool::Instance;
use crate::backend::pool::remote::meet::header_map;
use crate::backend::pool::remote::stream::Stream;
use crate::backend::pool::remote::{is_events, refusal, whole};

/// What is sent: a call's line, and what has been read of it.
pub(super) struct Sent {
    pub(super) key: Key,
    pub(super) line: Bytes,
    pub(super) read: Option<(Message, Params)>,
}

/// The stream that a call is answered by, and the session it is of.
type Streamed = Option<(Session, Response<Incoming>)>;

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

pub(super) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Exchange {
    /// Goes on. When it is done, its link knows what came of it, or a task follows its stream.
    pub(in crate::backend) fn poll(&mut self, cx: &mut Context<'_>) {
        if self.work.is_none() {
            return;
        }
        // What comes of it is looked at behind this, and so need not wake anybody.
        if !self.wants(Link::let_sleep) && !self.begun {
            self.work = None; // it was withdrawn before it was sent
        }
        self.begun = true;
        let Some(work) = &mut self.work else { return };
        if let Poll::Ready(rest) = work.as_mut().poll(cx) {
            self.work = None;
            match rest {
                Some(rest) if self.wants(|_, _| {}) => self.carrier.exchanges.begin(self.key, rest),
                // Withdrawn meanwhile, when there was nothing yet that could be ended.
                Some(rest) if self.carrier.has_session() => drop(tokio::spawn(tokio::time::timeout(self.carrier.haunts, rest))),
                _ => {}
            }
        }
    }

    /// Whether anybody waits for its answer, having done that to its link.
    fn wants(&self, and: impl FnOnce(&mut Link, Key)) -> bool {
        self.instance.upgrade().is_some_and(|instance| {
            let mut link = instance.link();
            and(&mut link, self.key);
            link.is_wanted(self.key)
        })
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

    pub(super) fn begin_line(self: &Arc<Self>, instance: &Arc<Instance>, key: Key, line: Bytes) -> Exchange {
        self.begin_as(instance, Attempts::new(key, self.revision.era(), line.clone()), Sent { key, line, read: None })
    }

    pub(super) fn begin_as(self: &Arc<Self>, instance: &Arc<Instance>, attempts: Attempts, sent: Sent) -> Exchange {
        let (instance, key) = (Arc::downgrade(instance), sent.key);
        let work = Box::pin(exchange(instance.clone(), self.clone(), attempts, sent));
        Exchange { instance, carrier: self.clone(), key, begun: false, work: Some(work) }
    }

    /// Sends a call and hears its answer. If that is a stream, it is the caller's to follow.
    async fn call(self: &Arc<Self>, instance: &Weak<Instance>, mut attempts: Attempts, sent: &Sent) -> Result<Streamed, Lost> {
        let (key, line) = (sent.key, &sent.line);
        loop {
            let mut session = self.session();
            if self.has_session() && self.aside.wait_for(session.number, &self.site.silent).await {
                // Meanwhile it may have been withdrawn, and the session be another.
                let strong = instance.upgrade().ok_or(Lost::Nobody)?;
                if !strong.link().is_wanted(key) {
                    return Err(Lost::Nobody);
                }
                session = self.session();
            }
            let headers = match self.has_session() {
                true => self.headers(&session),
                false => self.stateless_headers(instance, sent).await?,
            };
            let response = self.site.post(&self.site.url, line, headers).await.map_err(|trouble| match trouble.delivered {
                true => Lost::Sight(self.site.unreachable("broke off before it answered", trouble)),
                false => {
                    let fault = self.site.troubled("cannot be reached", &trouble);
                    if fault.kind == Kind::Changed
                        && let Some(instance) = instance.upgrade()
                    {
                        instance.retire();
                    }
                    Lost::To(fault)
                }
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
                    self.renew_by_itself(instance, session.number).await?;
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
}

/// Why a call's exchange came to nothing.
pub(super) enum Lost {
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
