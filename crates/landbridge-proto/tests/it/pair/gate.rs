//! The far side of a pair: the meeting, the link, and what the product does between them and the
//! fronts — sharing, subscriptions, who hears of what, where calls wait for stateless clients.
//!
//! Odd: the server is the case itself. What it is written waits in `heard`; what it says is handed to
//! `hear`, or where it is one over HTTP to `say`. Nothing is polled that was not woken, so a lost wake-up
//! is a failed case.

pub(crate) mod elsewhere;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::approach::Approach;
use landbridge_proto::back::link::{self, Event, Key, Link};
use landbridge_proto::back::probe::{Patience, Probe, Protocol, Step};
use landbridge_proto::bridge::crossing::Crossing;
use landbridge_proto::bridge::parked::{self, Parked, Question, Responses, Retry};
use landbridge_proto::call::{Ask, Call, Client, Level, Notice, Outcome, Reply, Server};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::json;
use landbridge_proto::lines::{Line, Lines};
use landbridge_proto::message::{Kind, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::sealed::Keys;
use landbridge_proto::subscribe::{Change, Filter, Granted, Wanted, Wish};
use landbridge_proto::version::{Era, Revision};

use super::{Bell, LIMITS};
use crate::far::{Far, Request};

/// Something the server, or the machine it runs on, was told.
#[derive(Debug)]
pub(crate) enum Heard {
    Line(String),
    /// It was started again.
    Respawn,
    /// A request over HTTP.
    Request(Request),
    /// A request that it has not answered is closed; what it is told elsewhere.
    Dropped(String),
}

/// How the server is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// A child.
    Pipe,
    /// Streamable HTTP of any revision.
    Http,
    /// HTTP+SSE.
    Sse,
}

/// Something for the fronts.
#[derive(Debug)]
pub(crate) enum Told {
    Notice(Notice),
    Ask(Ask),
    Withdrawn(u64),
    /// The server knows nothing of what it was told.
    Renewed,
}

/// A filter that will be honoured, once it is known how much of it.
pub(crate) type Promise = Rc<RefCell<Option<Filter>>>;

/// What waits for a stateless client.
pub(crate) enum Waiting {
    /// A call under way, for its answers.
    Call(Key, Box<Crossing>),
    /// Nothing: the call is sent anew when its URLs have been visited.
    Again,
}

enum State {
    Unmet,
    Approaching(Box<Approach>),
    /// Its stream is there, or on its way, and names no endpoint yet.
    Piping,
    Meeting(Box<Probe>),
    Met(Box<Link>),
    Failed(Fault),
}

/// A change that the server was told of and has not answered.
struct Telling {
    key: Key,
    bell: Arc<Bell>,
    change: Change,
}

pub(crate) struct Gate {
    pub(crate) now: Instant,
    pub(crate) heard: VecDeque<Heard>,
    pub(crate) told: VecDeque<Told>,
    pub(crate) strays: Vec<String>,
    protocol: Protocol,
    pub(crate) wire: Wire,
    /// What carries the link of a server over HTTP.
    far: Option<Far>,
    meeting: elsewhere::Meeting,
    /// The case has the server say something for which it has no stream.
    pub(crate) unsayable: bool,
    /// Each session has a server of its own, unless it is a stateless one.
    own: bool,
    state: State,
    lines: Lines,
    bell: Arc<Bell>,
    early: Vec<Notice>,
    wanted: Wanted,
    granted: Granted,
    telling: Vec<Telling>,
    listening: Option<Key>,
    /// It was started again, and nobody was told that something may have been missed.
    missed: bool,
    promises: Vec<(Filter, Promise)>,
    parked: Parked<Waiting>,
    keys: Keys,
    /// Counts parked calls, and the tickets of questions asked on behalf of stateless servers.
    next: u64,
}

impl Gate {
    pub(crate) fn new(protocol: Protocol, wire: Wire, own: bool, now: Instant) -> Gate {
        Gate {
            now,
            heard: VecDeque::new(),
            told: VecDeque::new(),
            strays: Vec::new(),
            protocol,
            wire,
            far: None,
            meeting: elsewhere::Meeting::default(),
            unsayable: false,
            own,
            state: State::Unmet,
            lines: Lines::new(LIMITS.message),
            bell: Bell::new(),
            early: Vec::new(),
            wanted: Wanted::default(),
            granted: Granted::default(),
            telling: Vec::new(),
            listening: None,
            missed: false,
            promises: Vec::new(),
            parked: Parked::new(parked::Limits { calls: LIMITS.parked, of_each: None, keep: LIMITS.patience }, now),
            keys: Keys::new([7; 32]),
            next: 1,
        }
    }

    /// Begins the meeting, for nobody in particular.
    pub(crate) fn meet(&mut self) {
        let stranger = Client {
            revision: Revision::NEWEST,
            principal: Default::default(),
            transport: landbridge_proto::call::Transport::Streamable,
            info: None,
            capabilities: "{}".into(),
        };
        let _ = self.seat(&stranger);
    }

    /// The server is started again. It was told nothing.
    pub(crate) fn start_again(&mut self) {
        (self.state, self.lines) = (State::Unmet, Lines::new(LIMITS.message));
        self.far = None;
        self.forget_what_was_told();
        self.meet();
    }

    /// The link, the fault, or nothing yet: then the meeting has begun.
    pub(crate) fn seat(&mut self, client: &Client) -> Option<Result<&mut Link, Fault>> {
        if let State::Unmet = self.state {
            let patience = Patience { probe: LIMITS.probe, handshake: LIMITS.handshake };
            // Whoever shares a server, it only gets to know what they can.
            let us = Client {
                revision: Revision::LAST_HANDSHAKE,
                principal: Default::default(),
                transport: landbridge_proto::call::Transport::Streamable,
                info: None,
                capabilities: Abilities::of(client).to_json().into(),
            };
            let who = if self.own && client.revision.era() == Era::Handshake { client } else { &us };
            self.state = match self.wire {
                Wire::Pipe => State::Meeting(Box::new(Probe::new("s", self.protocol, Some(who), patience, self.now))),
                Wire::Http | Wire::Sse => self.approach(who.clone()),
            };
        }
        match &mut self.state {
            State::Met(link) => Some(match link.closed().cloned() {
                Some(fault) => Err(fault),
                None => Ok(link),
            }),
            State::Failed(fault) => Some(Err(fault.clone())),
            _ => None,
        }
    }

    /// The link for one more round of a call: a stateless server that ended is started again.
    pub(crate) fn seat_again(&mut self) -> Option<Result<&mut Link, Fault>> {
        if self.link().is_some_and(|link| link.closed().is_some()) {
            self.heard.push_back(Heard::Respawn);
            self.lines = Lines::new(LIMITS.message);
            self.protocol = Protocol::Pinned(Revision::NEWEST);
            self.state = State::Unmet;
        }
        let us = Client {
            revision: Revision::NEWEST,
            principal: Default::default(),
            transport: landbridge_proto::call::Transport::Streamable,
            info: None,
            capabilities: "{}".into(),
        };
        self.seat(&us)
    }

    pub(crate) fn link(&mut self) -> Option<&mut Link> {
        match &mut self.state {
            State::Met(link) => Some(link),
            _ => None,
        }
    }

    /// Whether clients share the server.
    pub(crate) fn is_shared(&mut self) -> bool {
        let stateless = self.link().is_some_and(|l| l.server().era() == Era::Stateless);
        !self.own || stateless
    }

    // --- what comes from the server ------------------------------------------------------------

    /// The server wrote these bytes.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.lines.buffer().extend_from_slice(bytes);
        while let Some(line) = self.lines.next_line() {
            match (&mut self.state, line) {
                (State::Met(link), Line::Whole(line)) => link.handle_line(line),
                (State::Met(link), Line::TooLong { head, tail }) => link.handle_too_long(&head, &tail, LIMITS.message),
                (State::Meeting(probe), Line::Whole(line)) => {
                    if let Some(message) = probe.handle_line(line, self.now)
                        && let Kind::Notification(method) = message.kind.clone()
                    {
                        self.early.push(Notice::read(method, &message));
                    }
                    // What stands behind the last word of the meeting is for the link.
                    self.step();
                }
                _ => {}
            }
        }
    }

    /// The server closed its output. One that has none has nothing to say it with.
    pub(crate) fn hear_end(&mut self) {
        match &mut self.state {
            State::Met(_) if self.wire != Wire::Pipe => self.hear_end_of_stream(),
            State::Met(link) => link.handle_closed(Fault::backend("s", FaultKind::Backend).tell("the server `s` ended (exit code 1)")),
            State::Meeting(probe) => probe.handle_end(),
            _ => {}
        }
    }

    pub(crate) fn handle_timeout(&mut self) {
        for (waiting, open) in self.parked.handle_timeout(self.now) {
            let late = Fault::client(FaultKind::Timeout).tell("the client did not answer in time");
            open.into_iter().for_each(|ticket| self.answer(ticket, Err(late.clone())));
            self.give_up(&waiting);
        }
        match &mut self.state {
            State::Met(link) => {
                link.handle_timeout(self.now);
                if let Some(far) = &mut self.far {
                    far.handle_timeout(self.now);
                }
            }
            State::Meeting(probe) if probe.timeout() <= self.now => probe.handle_timeout(self.now),
            _ => {}
        }
    }

    // --- questions -------------------------------------------------------------------------------

    /// Answers a question of the server.
    pub(crate) fn answer(&mut self, ticket: u64, answer: Result<Bytes, Fault>) {
        let Some(link) = self.link() else { return };
        match answer {
            Ok(answer) => link.answer(ticket, Ok(&answer)),
            Err(fault) => link.answer(ticket, Err(fault.error().as_bytes())),
        }
    }

    /// Whether the server still waits for this answer.
    pub(crate) fn is_open(&self, ticket: u64) -> bool {
        matches!(&self.state, State::Met(link) if link.is_open(ticket))
    }

    /// So many tickets, for questions that are asked on behalf of a stateless server.
    pub(crate) fn take_tickets(&mut self, n: u64) -> u64 {
        self.next += n;
        self.next - n
    }

    /// Whether a `requestState` would be one of ours: a stateless server has its own.
    pub(crate) fn keeps_calls(&mut self) -> bool {
        self.link().is_some_and(|link| link.server().era() == Era::Handshake)
    }

    /// Puts a call aside until its client has answered, and gives what that is told.
    pub(crate) fn park(&mut self, waiting: Waiting, call: &Call, server: &Arc<Server>, questions: Vec<Question>) -> Outcome {
        let id = self.take_tickets(1).into();
        match self.parked.park(&self.keys, id, waiting, (call, parked::digest(call), server, "s"), questions, self.now) {
            Ok(result) => Outcome::Result(result),
            Err((waiting, fault)) => {
                self.give_up(&waiting);
                Outcome::Fault(fault)
            }
        }
    }

    /// A call comes with a `requestState`.
    pub(crate) fn retry(&mut self, call: &Call) -> Result<Retry<Waiting>, Fault> {
        let State::Met(link) = &self.state else { unreachable!("it was met") };
        let is_open = |waiting: &Waiting, ticket| matches!(waiting, Waiting::Again) || link.is_open(ticket);
        let responses = Responses::read(call)?;
        self.parked.retry(&self.keys, (call, parked::digest(call), &responses, "s"), is_open, self.now)
    }

    pub(crate) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    fn give_up(&mut self, waiting: &Waiting) {
        if let (Waiting::Call(key, _), Some(link)) = (waiting, self.link()) {
            link.cancel(*key, "the client went away");
        }
    }

    /// Does what can be done without anybody else; whether anything was.
    pub(crate) fn pump(&mut self) -> bool {
        let mut moved = self.step() | self.step_elsewhere() | self.carry();
        let State::Met(link) = &mut self.state else { return moved };
        if self.far.is_none() && self.bell.rang() {
            moved = true;
            while link.poll_queued(&Waker::from(self.bell.clone())).is_ready() {
                let Some(lines) = link.take_queued() else { break };
                for queued in lines {
                    let line = String::from_utf8(queued.line.to_vec()).expect("lines are UTF-8");
                    assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "one line: {line:?}");
                    self.heard.push_back(Heard::Line(line.trim_end_matches('\n').to_owned()));
                }
            }
        }
        let events: Vec<Event> = std::iter::from_fn(|| link.poll_event()).collect();
        moved |= !events.is_empty();
        for event in events {
            self.tell(event);
        }
        moved | self.pump_wanted()
    }

    fn step(&mut self) -> bool {
        let mut moved = false;
        while let State::Meeting(probe) = &mut self.state {
            let Some(step) = probe.poll_step() else { break };
            moved = true;
            match step {
                Step::Send(line) if self.wire == Wire::Sse => self.post_of_meeting(&line),
                Step::Send(line) => {
                    let line = String::from_utf8(line.to_vec()).expect("lines are UTF-8");
                    self.heard.push_back(Heard::Line(line.trim_end_matches('\n').to_owned()));
                }
                Step::Respawn => {
                    self.heard.push_back(Heard::Respawn);
                    self.lines = Lines::new(LIMITS.message);
                    probe.respawned(self.now);
                }
                Step::Met(server) => self.met(*server),
                Step::Failed(why) => {
                    let told = format!("the server `s` did not come up: {why}");
                    self.state = State::Failed(Fault::backend("s", FaultKind::Backend).tell(told));
                }
            }
        }
        moved
    }

    fn met(&mut self, server: Server) {
        let revision = server.revision;
        let limits = link::Limits {
            reply_bytes: LIMITS.reply_bytes,
            write_bytes: LIMITS.write_bytes,
            calls: LIMITS.calls,
            call: LIMITS.call,
            hold: LIMITS.hold,
        };
        let mut link = Link::new(Arc::new(server), !self.own, limits);
        link.want_level(self.wanted.level(), self.now).expect("room for a level");
        self.state = State::Met(Box::new(link));
        self.bell.ring();
        for notice in std::mem::take(&mut self.early) {
            self.tell(Event::Notice(notice));
        }
        self.carried_from_now_on(revision);
    }

    fn tell(&mut self, event: Event) {
        match event {
            // Whose it is cannot be told.
            Event::Notice(notice) if notice.method == Method::Log && self.is_shared() => {}
            Event::Notice(notice) => self.told.push_back(Told::Notice(notice)),
            Event::Ask(ask) => self.told.push_back(Told::Ask(ask)),
            Event::Withdrawn(ticket) => self.told.push_back(Told::Withdrawn(ticket)),
            Event::Stray(what) => self.strays.push(what),
        }
    }

    // --- what clients want to hear of -------------------------------------------------------------

    /// Somebody wants this besides what others want; the promise says how much of it will be told.
    pub(crate) fn want(&mut self, filter: &Filter) -> Promise {
        let promise = Promise::default();
        let Some(link) = self.link() else { return promise };
        let filter = filter.honoured_by(link.server().can);
        self.add(&filter);
        self.promises.push((filter, promise.clone()));
        promise
    }

    /// Of a wish this much came true; or it is over, and nothing is wanted.
    pub(crate) fn keep(&mut self, wish: &Filter, kept: &Filter) {
        let Some(link) = self.link() else { return };
        let wish = wish.honoured_by(link.server().can);
        self.add(kept);
        self.wanted.remove(&Wish { filter: wish, level: None });
    }

    /// The server has to be told again what is wanted of it, and who listens of what may have been missed.
    fn forget_what_was_told(&mut self) {
        (self.granted, self.listening, self.missed) = (Granted::default(), None, true);
        self.telling.clear();
    }

    fn add(&mut self, filter: &Filter) {
        self.wanted.add(&Wish { filter: filter.clone(), level: None });
    }

    /// A session wants logs from another level on, or none any more.
    pub(crate) fn change_level(&mut self, old: Option<Level>, new: Option<Level>) -> Result<(), Fault> {
        self.wanted.add(&Wish { level: new, ..Wish::default() });
        self.wanted.remove(&Wish { level: old, ..Wish::default() });
        let (level, now) = (self.wanted.level(), self.now);
        self.link().map_or(Ok(()), |link| link.want_level(level, now))
    }

    fn pump_wanted(&mut self) -> bool {
        let now = self.now;
        let State::Met(link) = &mut self.state else { return false };
        let (era, can) = (link.server().era(), link.server().can);
        let mut moved = false;
        for telling in std::mem::take(&mut self.telling) {
            if !telling.bell.rang() {
                self.telling.push(telling);
                continue;
            }
            moved = true;
            let Poll::Ready(reply) = link.poll_reply(telling.key, &Waker::from(telling.bell.clone())) else {
                self.telling.push(telling);
                continue;
            };
            match (telling.change, reply) {
                (Change::Subscribe(uri), reply) => self.granted.subscribed(uri, matches!(reply, Reply::Done(Outcome::Result(_)))),
                (Change::Listen(asked), Reply::Note(note)) if note.method == Method::Acknowledged => {
                    let given = Message::read(note.message).ok().and_then(|m| Filter::read(&m).ok()).unwrap_or_default();
                    self.granted.listens(asked, given);
                    if let Some(old) = self.listening.replace(telling.key) {
                        link.cancel(old, "replaced by one for what is wanted now");
                    }
                }
                (Change::Listen(asked), _) => self.granted.refused(asked),
                (Change::Unsubscribe(_) | Change::Unlisten, _) => {}
            }
        }
        let wanted = self.wanted.filter().honoured_by(can);
        let changes = self.granted.changes(&wanted, era);
        if changes.is_empty() {
            if std::mem::take(&mut self.missed) {
                moved = true;
                self.told.extend(self.granted.tells_of(&wanted, era).notices().into_iter().map(Told::Notice));
            }
            for (filter, promise) in self.promises.drain(..) {
                moved = true;
                *promise.borrow_mut() = Some(self.granted.tells_of(&filter, era));
            }
        }
        for change in changes {
            let (method, params) = match &change {
                change if self.telling.iter().any(|t| t.change == *change) => continue,
                Change::Subscribe(uri) => (Method::Subscribe, format!("\"uri\":{}", json::quote(uri))),
                Change::Unsubscribe(uri) => (Method::Unsubscribe, format!("\"uri\":{}", json::quote(uri))),
                Change::Listen(_) if !self.telling.is_empty() => continue,
                Change::Listen(filter) => (Method::Listen, format!("\"notifications\":{}", filter.to_json())),
                Change::Unlisten => {
                    moved = true;
                    self.granted = Granted::default();
                    if let Some(old) = self.listening.take() {
                        link.cancel(old, "nobody listens any more");
                    }
                    continue;
                }
            };
            if let Change::Unsubscribe(uri) = &change {
                self.granted.unsubscribed(uri);
            }
            // Where there is no room now there will be.
            let Ok(key) = link.begin_own(&method, &params, now) else { continue };
            moved = true;
            self.telling.push(Telling { key, bell: Bell::new(), change });
        }
        moved
    }

    /// Passes a client's notification on, where the server is its own.
    pub(crate) fn notify(&mut self, message: &Bytes) {
        if self.is_shared() {
            return;
        }
        if let Some(link) = self.link() {
            let mut line = json::splice(message, &[]);
            line.push(b'\n');
            link.notify(line.into());
        }
    }
}
