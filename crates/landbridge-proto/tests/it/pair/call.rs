//! A call of a client under way, whatever its wire: pulled by the exchange that carries it.

use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use landbridge_proto::back::link::Key;
use landbridge_proto::bridge;
use landbridge_proto::call::{Call, Client, Level, Note, Outcome, Reply};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::front::session::{Session, Tag};
use landbridge_proto::front::streamable::{self, introduce};
use landbridge_proto::message::{Id, Kind, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;
use landbridge_proto::version::Era;

use super::gate::{Gate, Promise};

/// Where a call's replies come from.
enum Source {
    /// The server has not been met yet.
    Hello(Message),
    Waiting(Box<Message>),
    WaitingStateless(Box<Call>),
    Ready(Option<Outcome>),
    /// A subscription that the server was told of.
    Subscribing(Promise, Arc<str>),
    Link(Key),
}

pub(crate) struct Running {
    pub(crate) id: Id,
    client: Arc<Client>,
    method: Method,
    source: Source,
    /// The client reads no stream: it only gets the end.
    pub(crate) mute: bool,
}

/// What a client hears when it cannot be asked.
pub(crate) fn unaskable() -> String {
    Fault::gateway(FaultKind::Untranslatable).tell("this client cannot be asked here").error()
}

impl Running {
    pub(crate) fn hello(id: Id, client: Arc<Client>, message: Message) -> Running {
        Running { id, client, method: Method::Initialize, source: Source::Hello(message), mute: false }
    }

    pub(crate) fn of_session(id: Id, method: Method, client: Arc<Client>, message: Message, mute: bool) -> Running {
        Running { id, client, method, source: Source::Waiting(Box::new(message)), mute }
    }

    pub(crate) fn stateless(call: Call, mute: bool) -> Running {
        let (id, client, method) = (call.id.clone(), call.client.clone(), call.method.clone());
        Running { id, client, method, source: Source::WaitingStateless(Box::new(call)), mute }
    }

    fn tag(&self) -> Option<Tag> {
        match self.source {
            Source::Link(key) => Some(Tag { link: 0, number: key.id() }),
            _ => None,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.source, Source::Hello(_) | Source::Waiting(_) | Source::WaitingStateless(_) | Source::Subscribing(..))
    }

    /// Hands the call to the server, once it is there.
    fn begin(&mut self, gate: &mut Gate, session: Option<&mut Session>) {
        let Some(seat) = gate.seat(&self.client) else { return };
        let seat = seat.map(|link| link.server().clone());
        let server = match seat {
            Ok(server) => server,
            Err(fault) => return self.source = Source::Ready(Some(Outcome::Fault(fault))),
        };
        let ready = |outcome: Result<Bytes, Fault>| Source::Ready(Some(outcome.map_or_else(Outcome::Fault, Outcome::Result)));
        let source = std::mem::replace(&mut self.source, Source::Ready(None));
        self.source = match source {
            Source::Hello(message) => match introduce(&message) {
                Ok(client) => ready(Ok(bridge::initialize_result(&server, client.revision))),
                Err(fault) => ready(Err(fault)),
            },
            Source::WaitingStateless(call) if call.method == Method::Discover => ready(Ok(bridge::discover_result(&server))),
            Source::WaitingStateless(call) => self.begin_call(gate, &call),
            Source::Waiting(message) => match (streamable::call(*message, &self.client), session) {
                (Err(fault), _) => ready(Err(fault)),
                (Ok(mut call), Some(session)) => match self.own_answer(gate, session, &call) {
                    Some(source) => source,
                    None => {
                        if server.era() == Era::Stateless {
                            call.log_level = session.level();
                            // What it would be asked cannot be brought to it, so nothing is promised.
                            let client = Client {
                                revision: self.client.revision,
                                principal: Default::default(),
                                info: self.client.info.clone(),
                                capabilities: "{}".into(),
                            };
                            call.client = Arc::new(client);
                        }
                        let source = self.begin_call(gate, &call);
                        if let Source::Link(key) = &source {
                            session.begin_call(self.id.clone(), Tag { link: 0, number: key.id() });
                        }
                        source
                    }
                },
                (Ok(_), None) => unreachable!("a session's call has a session"),
            },
            other => other,
        };
    }

    fn begin_call(&self, gate: &mut Gate, call: &Call) -> Source {
        let now = gate.now;
        match gate.link().expect("it was met").begin(call, now) {
            Ok(key) => Source::Link(key),
            Err(fault) => Source::Ready(Some(Outcome::Fault(fault))),
        }
    }

    /// What a gateway answers itself.
    fn own_answer(&self, gate: &mut Gate, session: &mut Session, call: &Call) -> Option<Source> {
        let done = |outcome: Result<(), Fault>| {
            let outcome = outcome.map_or_else(Outcome::Fault, |()| Outcome::Result("{}".into()));
            Some(Source::Ready(Some(outcome)))
        };
        let refused = |kind, told: &str| done(Err(Fault::client(kind).tell(told)));
        let shared = gate.is_shared();
        let can = gate.link()?.server().can;
        match call.method {
            Method::Ping => done(Ok(())),
            Method::SetLevel if shared => {
                if !can.logging {
                    return refused(FaultKind::UnknownMethod, "the server does not log");
                }
                let Some(level) = call.message.string_at(call.params.level).as_deref().and_then(Level::parse) else {
                    return refused(FaultKind::Params, "`params.level` must be a log level, such as \"info\"");
                };
                let old = session.level();
                session.set_level(level);
                done(gate.change_level(old, Some(level)))
            }
            Method::Subscribe | Method::Unsubscribe if shared && can.subscribe => {
                let Some(uri) = call.message.string_at(call.params.uri).map(|u| Arc::<str>::from(&*u)) else {
                    return refused(FaultKind::Params, "`params.uri` must be a string");
                };
                let had = session.subscriptions().contains(&uri);
                if call.method == Method::Unsubscribe {
                    if had {
                        session.unsubscribe(&uri);
                        gate.keep(&only(&uri), &Filter::default());
                    }
                    return done(Ok(()));
                }
                if had {
                    return done(Ok(()));
                }
                Some(Source::Subscribing(gate.want(&only(&uri)), uri))
            }
            _ => None,
        }
    }

    /// The next reply, in the words of the call's client.
    pub(crate) fn poll(&mut self, gate: &mut Gate, mut session: Option<&mut Session>, waker: &Waker) -> Poll<Reply> {
        if matches!(self.source, Source::Hello(_) | Source::Waiting(_) | Source::WaitingStateless(_)) {
            self.begin(gate, session.as_deref_mut());
        }
        if let Source::Subscribing(promise, uri) = &self.source {
            let Some(granted) = promise.borrow_mut().take() else { return Poll::Pending };
            let outcome = if granted.uris.contains(uri) {
                session.expect("a session subscribes").subscribe(uri);
                Outcome::Result("{}".into())
            } else {
                gate.keep(&only(uri), &Filter::default());
                Outcome::Fault(Fault::client(FaultKind::Params).tell(format!("the server does not offer updates of {uri:?}")))
            };
            self.source = Source::Ready(Some(outcome));
        }
        match &mut self.source {
            Source::Ready(outcome) => Poll::Ready(Reply::Done(outcome.take().expect("one end"))),
            Source::Link(key) => {
                let key = *key;
                let link = gate.link().expect("it was met");
                match link.poll_reply(key, waker) {
                    Poll::Ready(Reply::Done(outcome)) => {
                        let outcome = bridge::outcome(&self.client, link.server(), &self.method, outcome);
                        Poll::Ready(Reply::Done(outcome))
                    }
                    other => other,
                }
            }
            _ => Poll::Pending,
        }
    }

    /// The next message for a session's client, and whether it is the answer.
    pub(crate) fn poll_message(&mut self, gate: &mut Gate, session: &mut Session, waker: &Waker) -> Poll<(Vec<u8>, bool)> {
        loop {
            let tag = self.tag();
            match std::task::ready!(self.poll(gate, Some(session), waker)) {
                Reply::Note(note) if self.mute || is_too_quiet(session, &note) => {}
                Reply::Note(note) => return Poll::Ready((note.message.to_vec(), false)),
                Reply::Ask(ask) => {
                    let asked = if self.mute { None } else { session.ask(&ask, Tag { link: 0, number: ask.ticket }) };
                    match asked {
                        Some(message) => return Poll::Ready((message.to_vec(), false)),
                        None => gate.link().expect("it was met").answer(ask.ticket, Err(unaskable().as_bytes())),
                    }
                }
                Reply::Withdrawn(_) => {}
                Reply::Done(outcome) => {
                    if let Some(tag) = tag.or(self.tag()) {
                        session.end_call(tag, gate.now);
                    }
                    let withdrawn = matches!(&outcome, Outcome::Fault(Fault { kind: FaultKind::Cancelled, .. }));
                    let silent = withdrawn && session.transport() == landbridge_proto::front::session::Transport::Sse;
                    let answer = if silent { Vec::new() } else { streamable::answer(&self.id, &outcome) };
                    return Poll::Ready((answer, true));
                }
            }
        }
    }

    /// Nobody wants the answer any more.
    pub(crate) fn withdraw(&self, gate: &mut Gate) {
        if let (Source::Link(key), Some(link)) = (&self.source, gate.link()) {
            link.cancel(*key, "the client went away");
        }
    }
}

/// Updates of one resource.
pub(crate) fn only(uri: &Arc<str>) -> Filter {
    Filter { uris: [uri.clone()].into(), ..Filter::default() }
}

/// A log line below the level that the session set with us.
fn is_too_quiet(session: &Session, note: &Note) -> bool {
    let Some(least) = session.level().filter(|_| note.method == Method::Log) else { return false };
    let level = Message::read(note.message.clone()).ok().and_then(|m| {
        let [level] = m.params_fields(&["level"]).ok()?;
        Level::parse(&m.string_at(level)?)
    });
    level.is_some_and(|l| l < least)
}

/// The request's id and method, if it is one.
pub(crate) fn request(message: &Message) -> Option<(Id, Method)> {
    match &message.kind {
        Kind::Request(id, method) => Some((id.clone(), method.clone())),
        _ => None,
    }
}
