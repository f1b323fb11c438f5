//! The far side of a pair: the meeting, the link, and what the product does between them and the
//! fronts — sharing, subscriptions, who hears of what, where calls wait for stateless clients.
//!
//! Odd: the child process is the case itself. What it is written waits in `heard`; what it says
//! is handed to `hear`. Nothing is polled that was not woken, so a lost wake-up is a failed case.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::link::{self, Event, Key, Link};
use landbridge_proto::back::probe::{Patience, Probe, Protocol, Step};
use landbridge_proto::bridge::crossing::Crossing;
use landbridge_proto::bridge::parked::{self, Parked, Question, Responses, Retry};
use landbridge_proto::call::{Ask, Call, Client, Notice, Outcome, Reply, Server};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::json;
use landbridge_proto::lines::{Line, Lines};
use landbridge_proto::message::{Kind, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::sealed::Keys;
use landbridge_proto::subscribe::Filter;
use landbridge_proto::version::{Era, Revision};

use super::{Bell, LIMITS};

/// Something the server, or the machine it runs on, was told.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Line(String),
    /// It was started again.
    Respawn,
}

/// Something for the fronts.
#[derive(Debug)]
pub(crate) enum Told {
    Notice(Notice),
    Ask(Ask),
    Withdrawn(u64),
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
    Meeting(Box<Probe>),
    Met(Box<Link>),
    Failed(Fault),
}

/// A wish for changes that the server was told of and has not answered.
struct Want {
    key: Key,
    bell: Arc<Bell>,
    filter: Filter,
    left: Vec<Arc<str>>,
    granted: Filter,
    promise: Promise,
}

pub(crate) struct Gate {
    pub(crate) now: Instant,
    pub(crate) heard: VecDeque<Heard>,
    pub(crate) told: VecDeque<Told>,
    pub(crate) strays: Vec<String>,
    protocol: Protocol,
    /// Each session has a server of its own, unless it is a stateless one.
    own: bool,
    state: State,
    lines: Lines,
    bell: Arc<Bell>,
    early: Vec<Notice>,
    wants: Vec<Want>,
    listening: Option<(Key, Filter)>,
    uris: BTreeMap<Arc<str>, usize>,
    parked: Parked<Waiting>,
    keys: Keys,
    /// Counts parked calls, and the tickets of questions asked on behalf of stateless servers.
    next: u64,
}

impl Gate {
    pub(crate) fn new(protocol: Protocol, own: bool, now: Instant) -> Gate {
        Gate {
            now,
            heard: VecDeque::new(),
            told: VecDeque::new(),
            strays: Vec::new(),
            protocol,
            own,
            state: State::Unmet,
            lines: Lines::new(LIMITS.message),
            bell: Bell::new(),
            early: Vec::new(),
            wants: Vec::new(),
            listening: None,
            uris: BTreeMap::new(),
            parked: Parked::new(parked::Limits { calls: LIMITS.parked, keep: LIMITS.patience }, now),
            keys: Keys::new([7; 32]),
            next: 1,
        }
    }

    /// The link, the fault, or nothing yet: then the meeting has begun.
    pub(crate) fn seat(&mut self, client: &Client) -> Option<Result<&mut Link, Fault>> {
        if let State::Unmet = self.state {
            let patience = Patience { probe: LIMITS.probe, handshake: LIMITS.handshake };
            // Whoever shares a server, it only gets to know what they can.
            let us = Client {
                revision: Revision::LAST_HANDSHAKE,
                principal: Default::default(),
                info: None,
                capabilities: Abilities::of(client).to_json().into(),
            };
            let who = if self.own && client.revision.era() == Era::Handshake { client } else { &us };
            self.state = State::Meeting(Box::new(Probe::new("s", self.protocol, Some(who), patience, self.now)));
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
        let us = Client { revision: Revision::NEWEST, principal: Default::default(), info: None, capabilities: "{}".into() };
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

    /// The server closed its output.
    pub(crate) fn hear_end(&mut self) {
        match &mut self.state {
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
            State::Met(link) => link.handle_timeout(self.now),
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
        let mut moved = self.step();
        let State::Met(link) = &mut self.state else { return moved };
        if self.bell.rang() {
            moved = true;
            while link.poll_queued(&Waker::from(self.bell.clone())).is_ready() {
                let Some(lines) = link.take_queued() else { break };
                for line in lines {
                    let line = String::from_utf8(line.to_vec()).expect("lines are UTF-8");
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
        moved | self.pump_wants()
    }

    fn step(&mut self) -> bool {
        let mut moved = false;
        while let State::Meeting(probe) = &mut self.state {
            let Some(step) = probe.poll_step() else { break };
            moved = true;
            match step {
                Step::Send(line) => {
                    let line = String::from_utf8(line.to_vec()).expect("lines are UTF-8");
                    self.heard.push_back(Heard::Line(line.trim_end_matches('\n').to_owned()));
                }
                Step::Respawn => {
                    self.heard.push_back(Heard::Respawn);
                    self.lines = Lines::new(LIMITS.message);
                    probe.respawned(self.now);
                }
                Step::Met(server) => {
                    let limits = link::Limits {
                        reply_bytes: LIMITS.reply_bytes,
                        write_bytes: LIMITS.write_bytes,
                        calls: LIMITS.calls,
                        call: LIMITS.call,
                        hold: LIMITS.hold,
                    };
                    self.bell.ring();
                    self.state = State::Met(Box::new(Link::new(Arc::new(*server), !self.own, limits)));
                    for notice in std::mem::take(&mut self.early) {
                        self.tell(Event::Notice(notice));
                    }
                }
                Step::Failed(why) => {
                    let told = format!("the server `s` did not come up: {why}");
                    self.state = State::Failed(Fault::backend("s", FaultKind::Backend).tell(told));
                }
            }
        }
        moved
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

    /// Makes sure that the server tells of what `filter` wants.
    pub(crate) fn want(&mut self, filter: &Filter) -> Promise {
        let (now, wanted) = (self.now, self.wanted_uris());
        let promise = Promise::default();
        let Some(link) = self.link() else { return promise };
        let can = link.server().can;
        let filter = filter.honoured_by(can);
        if link.server().era() == Era::Handshake {
            let mut left: Vec<Arc<str>> = filter.uris.iter().cloned().collect();
            let granted = Filter { uris: BTreeSet::new(), ..filter.clone() };
            let Some(uri) = left.pop() else {
                *promise.borrow_mut() = Some(granted);
                return promise;
            };
            let key = subscribe(link, &uri, now);
            left.push(uri);
            self.wants.push(Want { key, bell: Bell::new(), filter, left, granted, promise: promise.clone() });
            return promise;
        }
        let covered = self.listening.as_ref().is_some_and(|(_, covered)| {
            let mut both = covered.clone();
            both.union(&filter);
            both == *covered
        });
        if covered {
            *promise.borrow_mut() = Some(filter);
            return promise;
        }
        // A listen cannot be changed: the next one is acknowledged before the old one ends.
        let mut all = Filter { tools: can.tools_changed, prompts: can.prompts_changed, resources: can.resources_changed, uris: wanted };
        all.union(&filter);
        let link = self.link().expect("it was met");
        let key = link.begin_own(&Method::Listen, &format!("\"notifications\":{}", all.to_json()), now).expect("room to listen");
        self.wants.push(Want { key, bell: Bell::new(), filter, left: Vec::new(), granted: Filter::default(), promise: promise.clone() });
        promise
    }

    fn pump_wants(&mut self) -> bool {
        let now = self.now;
        let State::Met(link) = &mut self.state else { return false };
        let mut moved = false;
        let mut at = 0;
        while at < self.wants.len() {
            let want = &mut self.wants[at];
            at += 1;
            if !want.bell.rang() {
                continue;
            }
            moved = true;
            let Poll::Ready(reply) = link.poll_reply(want.key, &Waker::from(want.bell.clone())) else { continue };
            let over = match (link.server().era(), reply) {
                (Era::Handshake, reply) => {
                    let uri = want.left.pop().expect("the resource it was asked for");
                    if matches!(reply, Reply::Done(Outcome::Result(_))) {
                        want.granted.uris.insert(uri);
                    }
                    match want.left.last().cloned() {
                        Some(next) => {
                            want.key = subscribe(link, &next, now);
                            want.bell.ring();
                            false
                        }
                        None => true,
                    }
                }
                (Era::Stateless, Reply::Note(note)) if note.method == Method::Acknowledged => {
                    let all = Message::read(note.message).ok().and_then(|m| Filter::read(&m).ok()).unwrap_or_default();
                    let filter = &want.filter;
                    want.granted = Filter {
                        tools: filter.tools && all.tools,
                        prompts: filter.prompts && all.prompts,
                        resources: filter.resources && all.resources,
                        uris: filter.uris.intersection(&all.uris).cloned().collect(),
                    };
                    if let Some((old, _)) = self.listening.replace((want.key, all)) {
                        link.cancel(old, "replaced by one that covers more");
                    }
                    true
                }
                (Era::Stateless, _) => true,
            };
            if over {
                at -= 1;
                let want = self.wants.swap_remove(at);
                *want.promise.borrow_mut() = Some(want.granted);
            }
        }
        moved
    }

    pub(crate) fn count_in(&mut self, uri: &Arc<str>) {
        *self.uris.entry(uri.clone()).or_insert(0) += 1;
    }

    /// One listener less; the last one's going is told to a shared handshake server.
    pub(crate) fn count_out(&mut self, uri: &Arc<str>) {
        let Some(count) = self.uris.get_mut(uri) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.uris.remove(uri);
        let now = self.now;
        if let Some(link) = self.link()
            && link.server().era() == Era::Handshake
        {
            // Nobody waits for the answer, but somebody has to be there for it.
            let params = format!("\"uri\":{}", json::quote(uri));
            if let Ok(key) = link.begin_own(&Method::Unsubscribe, &params, now) {
                let filter = Filter::default();
                let want =
                    Want { key, bell: Bell::new(), left: vec![uri.clone()], granted: filter.clone(), filter, promise: Promise::default() };
                self.wants.push(want);
            }
        }
    }

    fn wanted_uris(&self) -> BTreeSet<Arc<str>> {
        self.uris.keys().cloned().collect()
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

fn subscribe(link: &mut Link, uri: &str, now: Instant) -> Key {
    link.begin_own(&Method::Subscribe, &format!("\"uri\":{}", json::quote(uri)), now).expect("room to subscribe")
}
