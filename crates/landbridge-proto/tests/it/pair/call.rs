//! A call of a client under way, whatever its wire: pulled by the exchange that carries it.

use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use landbridge_proto::back::link::Key;
use landbridge_proto::bridge::crossing::{self, Crossing, Patience, Step, Tasks};
use landbridge_proto::bridge::parked::Retry;
use landbridge_proto::bridge::{self, rounds};
use landbridge_proto::call::{Call, Client, Level, Note, Outcome, Principal, Reply};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::front::session::{Session, Tag, Transport};
use landbridge_proto::front::streamable::{self, introduce};
use landbridge_proto::message::{Id, Kind, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;
use landbridge_proto::version::Era;

use super::LIMITS;
use super::gate::{Gate, Promise, Waiting};

/// The link, in the tags of a session, of calls whose client is asked on behalf of a stateless server.
pub(crate) const ASKING: u32 = u32::MAX;

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
    /// It is sent again, as soon as the server is there.
    Again(Box<Call>),
}

pub(crate) struct Running {
    pub(crate) id: Id,
    client: Arc<Client>,
    method: Method,
    source: Source,
    /// There where questions have to change their form.
    crossing: Option<Box<Crossing>>,
    /// By what its session knows it.
    tag: Option<Tag>,
    /// The client reads no stream: it only gets the end.
    pub(crate) mute: bool,
}

/// What a client hears when it cannot be asked.
pub(crate) fn unaskable() -> Fault {
    Fault::gateway(FaultKind::Untranslatable).tell("this client cannot be asked here")
}

impl Running {
    fn new(id: Id, method: Method, client: Arc<Client>, source: Source, mute: bool) -> Running {
        Running { id, client, method, source, crossing: None, tag: None, mute }
    }

    pub(crate) fn hello(id: Id, client: Arc<Client>, message: Message) -> Running {
        Running::new(id, Method::Initialize, client, Source::Hello(message), false)
    }

    pub(crate) fn of_session(id: Id, method: Method, client: Arc<Client>, message: Message, mute: bool) -> Running {
        Running::new(id, method, client, Source::Waiting(Box::new(message)), mute)
    }

    pub(crate) fn stateless(call: Call, mute: bool) -> Running {
        let (id, client, method) = (call.id.clone(), call.client.clone(), call.method.clone());
        Running::new(id, method, client, Source::WaitingStateless(Box::new(call)), mute)
    }

    /// By what the call is to be known to its session now.
    fn current_tag(&self) -> Option<Tag> {
        match (&self.crossing, &self.source) {
            // While it asks it has no number at the server; the last one it had tells it apart.
            (Some(crossing), Source::Link(key)) if crossing.is_asking() => Some(Tag { link: ASKING, number: key.id() }),
            (_, Source::Link(key)) => Some(Tag { link: 0, number: key.id() }),
            _ => None,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !matches!(self.source, Source::Ready(_) | Source::Link(_)) && !matches!(&self.crossing, Some(c) if c.is_asking())
    }

    /// The call between the eras, while it waits for that answer.
    pub(crate) fn waiting_for(&mut self, ticket: u64) -> Option<&mut Crossing> {
        self.crossing.as_deref_mut().filter(|c| c.waits_for(ticket))
    }

    /// The client withdrew the call of that tag, while it was asked; whether it is this one.
    pub(crate) fn abort(&mut self, tag: Tag) -> bool {
        let asking = self.crossing.as_mut().filter(|_| self.tag == Some(tag));
        asking.map(|crossing| crossing.handle_abort()).is_some()
    }

    /// Hands the call to the server, once it is there.
    fn begin(&mut self, gate: &mut Gate, session: Option<&mut Session>) {
        if let Some(source) = self.retry(gate) {
            return self.source = source;
        }
        let Some(seat) = gate.seat(&self.client) else { return };
        let seat = seat.map(|link| link.server().clone());
        let server = match seat {
            Ok(server) => server,
            Err(fault) => return self.source = Source::Ready(Some(Outcome::Fault(fault))),
        };
        let ready = |outcome: Result<Bytes, Fault>| Source::Ready(Some(outcome.map_or_else(Outcome::Fault, Outcome::Result)));
        let source = std::mem::replace(&mut self.source, Source::Ready(None));
        self.source = match source {
            Source::Hello(message) => match introduce(Principal::default(), Transport::Streamable, &message) {
                Ok(client) => ready(Ok(bridge::initialize_result(&server, client.revision, gate.is_shared()))),
                Err(fault) => ready(Err(fault)),
            },
            Source::WaitingStateless(call) if call.method == Method::Discover => ready(Ok(bridge::discover_result(&server))),
            Source::WaitingStateless(call) => self.begin_call(gate, *call),
            Source::Waiting(message) => match (streamable::call(*message, &self.client), session) {
                (Err(fault), _) => ready(Err(fault)),
                (Ok(mut call), Some(session)) => match self.own_answer(gate, session, &call) {
                    Some(source) => source,
                    None => {
                        if server.era() == Era::Stateless {
                            call.log_level = session.level();
                        }
                        let source = self.begin_call(gate, call);
                        if let Source::Link(key) = &source {
                            let tag = Tag { link: 0, number: key.id() };
                            session.begin_call(self.id.clone(), tag);
                            self.tag = Some(tag);
                        }
                        source
                    }
                },
                (Ok(_), None) => unreachable!("a session's call has a session"),
            },
            other => other,
        };
    }

    /// What a retry comes to, before anything is begun: a call that waits for it goes on.
    fn retry(&mut self, gate: &mut Gate) -> Option<Source> {
        let now = gate.now;
        let Source::WaitingStateless(call) = &mut self.source else { return None };
        if call.params.request_state.is_none() || !call.method.may_ask() || !gate.keeps_calls() {
            return None;
        }
        let outcome = match gate.retry(call) {
            Err(fault) => Outcome::Fault(fault),
            Ok(Retry::AskAgain(result)) => Outcome::Result(result),
            Ok(Retry::Resumed(Waiting::Again, answers)) if answers.iter().all(|(_, a)| bridge::ask::is_accepted(a)) => {
                **call = rounds::first_time((**call).clone());
                return None;
            }
            Ok(Retry::Resumed(Waiting::Again, _)) => {
                let told = "the user did not open the page that the server needs to be visited first";
                let outcome = rounds::failed(&call.method, Fault::client(FaultKind::Untranslatable).tell(told));
                bridge::outcome(&call.client, gate.link()?.server(), &call.method, outcome)
            }
            Ok(Retry::Resumed(Waiting::Call(key, mut crossing), answers)) => {
                let link = gate.link()?;
                link.resume(key, call, now);
                answers.iter().for_each(|(ticket, answer)| link.answer(*ticket, Ok(answer)));
                crossing.handle_resumed((**call).clone());
                self.crossing = Some(crossing);
                return Some(Source::Link(key));
            }
        };
        Some(Source::Ready(Some(outcome)))
    }

    fn begin_call(&mut self, gate: &mut Gate, call: Call) -> Source {
        let server = gate.link().expect("it was met").server().clone();
        let crosses = Crossing::is_needed(&call, &server);
        // What came with the call is for its questions; a handshake server knows nothing of it.
        let first = if crosses && server.era() == Era::Handshake { rounds::first_time(call.clone()) } else { call.clone() };
        match gate.begin(&first) {
            Ok(key) => {
                let patience = Patience { answer: LIMITS.patience, task: LIMITS.call };
                self.crossing = crosses.then(|| Box::new(Crossing::new(call, server, patience, Tasks::Follow)));
                Source::Link(key)
            }
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
        if self.crossing.is_some() {
            return self.poll_crossing(gate, waker);
        }
        let ours = matches!(self.source, Source::Ready(_));
        match self.poll_source(gate, waker) {
            Poll::Ready(Reply::Done(outcome)) if !ours => {
                let server = gate.link().expect("it was met").server();
                Poll::Ready(Reply::Done(bridge::outcome(&self.client, server, &self.method, outcome)))
            }
            other => other,
        }
    }

    /// The next thing the server said.
    fn poll_source(&mut self, gate: &mut Gate, waker: &Waker) -> Poll<Reply> {
        if let Source::Again(call) = &self.source {
            let Some(link) = gate.seat_again() else { return Poll::Pending };
            let there = link.map(|_| ());
            self.source = match there.and_then(|()| gate.begin(call)) {
                Ok(key) => Source::Link(key),
                Err(fault) => Source::Ready(Some(Outcome::Fault(fault))),
            };
        }
        match &mut self.source {
            Source::Ready(outcome) => Poll::Ready(Reply::Done(outcome.take().expect("one end"))),
            Source::Link(key) => gate.link().expect("it was met").poll_reply(*key, waker),
            _ => Poll::Pending,
        }
    }

    /// Does what the crossing says, up to its next reply.
    fn poll_crossing(&mut self, gate: &mut Gate, waker: &Waker) -> Poll<Reply> {
        let now = gate.now;
        loop {
            let crossing = self.crossing.as_mut().expect("one between the eras");
            match crossing.poll_step(now) {
                Some(Step::Reply(reply)) => {
                    if let (Reply::Done(_), Source::Link(key), Some(link)) = (&reply, &self.source, gate.link()) {
                        link.cancel(*key, "not needed any more");
                    }
                    return Poll::Ready(reply);
                }
                Some(Step::Own(method, params)) => {
                    self.source = match gate.link().expect("it was met").begin_own(&method, &params, now) {
                        Ok(key) => Source::Link(key),
                        Err(fault) => Source::Ready(Some(Outcome::Fault(fault))),
                    };
                }
                Some(Step::Fetch(id)) => {
                    let client = crossing.call().client.clone();
                    self.source = match gate.link().expect("it was met").fetch(&id, &client, now) {
                        Ok(key) => Source::Link(key),
                        Err(fault) => Source::Ready(Some(Outcome::Fault(fault))),
                    };
                }
                Some(Step::Tell(method, params)) => gate.link().expect("it was met").tell(&method, &params, now),
                Some(Step::Answer(ticket, answer)) => gate.answer(ticket, answer),
                Some(Step::Call(call)) => self.source = Source::Again(call),
                Some(Step::Wait(due)) if due > now => return Poll::Pending,
                Some(Step::Wait(_)) => {}
                Some(Step::Park(questions)) => {
                    let Source::Link(key) = self.source else { unreachable!("it was asked") };
                    let (call, server) = (crossing.call().clone(), crossing.server().clone());
                    let waiting = Waiting::Call(key, self.crossing.take().expect("it is there"));
                    return Poll::Ready(Reply::Done(gate.park(waiting, &call, &server, questions)));
                }
                Some(Step::ParkUntilVisited(questions)) => {
                    let outcome = gate.park(Waiting::Again, crossing.call(), crossing.server(), questions);
                    return Poll::Ready(Reply::Done(outcome));
                }
                None if matches!(self.source, Source::Again(_)) && crossing.is_withdrawn() => {
                    let fault = Fault::client(FaultKind::Cancelled).tell("cancelled by the client");
                    return Poll::Ready(Reply::Done(Outcome::Fault(fault)));
                }
                None => {
                    let said = self.poll_source(gate, waker);
                    let crossing = self.crossing.as_mut().expect("it is there");
                    match said {
                        Poll::Ready(reply) => crossing.handle_reply(reply, gate.take_tickets(crossing::TICKETS), now),
                        Poll::Pending => {
                            if crossing.handle_quiet(|ticket| gate.is_open(ticket)) {
                                waker.wake_by_ref();
                            }
                            return Poll::Pending;
                        }
                    }
                }
            }
        }
    }

    /// This client cannot be asked.
    fn refuse(&mut self, gate: &mut Gate, ticket: u64) {
        match self.waiting_for(ticket) {
            Some(crossing) => crossing.handle_unaskable(unaskable()),
            None => gate.answer(ticket, Err(unaskable())),
        }
    }

    /// The next message for a session's client, and whether it is the answer.
    pub(crate) fn poll_message(&mut self, gate: &mut Gate, session: &mut Session, waker: &Waker) -> Poll<(Vec<u8>, bool)> {
        loop {
            let reply = self.poll(gate, Some(session), waker);
            let tag = self.current_tag().or(self.tag);
            if let (Some(old), Some(new)) = (self.tag, tag)
                && old != new
            {
                let withdrawn = session.retag(old, new);
                self.tag = tag;
                match new.link {
                    _ if !withdrawn => {}
                    ASKING => {
                        self.abort(new);
                        waker.wake_by_ref();
                    }
                    _ => gate.link().into_iter().for_each(|link| link.abort(Key::of_id(new.number), "cancelled by the client")),
                }
            }
            self.tag = tag;
            match std::task::ready!(reply) {
                Reply::Note(note) if self.mute || is_too_quiet(session, &note) => {}
                Reply::Note(note) => return Poll::Ready((note.message.to_vec(), false)),
                Reply::Ask(ask) => {
                    let asked = if self.mute { None } else { session.ask(&ask, self.question(ask.ticket)) };
                    match asked {
                        Some(message) => return Poll::Ready((message.to_vec(), false)),
                        None => self.refuse(gate, ask.ticket),
                    }
                }
                Reply::Withdrawn(ticket) => {
                    if let Some(message) = session.withdraw(self.question(ticket)) {
                        return Poll::Ready((message.into_bytes(), false));
                    }
                }
                Reply::Done(outcome) => {
                    if let Some(tag) = self.tag {
                        session.end_call(tag, gate.now);
                    }
                    let withdrawn = matches!(&outcome, Outcome::Fault(Fault { kind: FaultKind::Cancelled, .. }));
                    let silent = withdrawn && session.transport() == Transport::Sse;
                    let answer = if silent { Vec::new() } else { streamable::answer(&self.id, &outcome) };
                    return Poll::Ready((answer, true));
                }
            }
        }
    }

    /// By what a session knows a question of this call.
    fn question(&self, ticket: u64) -> Tag {
        Tag { link: if self.crossing.is_some() { ASKING } else { 0 }, number: ticket }
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
