//! One pipe to a server, many calls on it.
//!
//! ```text
//!   begin ──▶ slot ──line──▶ server          the slot's number is the request's id, and its
//!   poll_reply ◀── slot ◀─line── server      progress token: ids of clients never meet
//! ```
//!
//! A slot holds the replies its owner has not taken yet. What belongs to no call becomes an
//! [`Event`]: stdio gives a server's own requests and logs no association, so on a pipe that
//! several clients share they are only passed on where nothing has to be guessed.
//!
//! Over HTTP a call has a stream of its own, whose questions and logs are that call's
//! ([`Link::handle_line_of`]); what comes on any other stream is treated as on a pipe, as servers put
//! questions of calls there too, or is no call's where that is certain ([`Link::handle_line_apart`]).
//!
//! Whom a question of the server belongs to is decided in `questions`, whom a log line in `logs`; what waits to
//! be written is in `queue`.

mod logs;
mod questions;
mod queue;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use logs::Logs;
pub use queue::{Queued, What};

use crate::back::stdio::{cancelled, own_request, request};
use crate::bridge::{self, Increasing};
use crate::call::{Ask, Call, Client, Level, Note, Notice, Outcome, Reply, Server};
use crate::fault::{Fault, Kind as FaultKind};
use crate::json;
use crate::message::{Id, Kind, META_SUBSCRIPTION, Message};
use crate::methods::Method;
use crate::tasks;
use crate::version::Era;

/// What a link may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of replies that wait for one call's owner (one message always fits).
    pub reply_bytes: usize,
    /// Bytes of lines that wait for the server to read them (one message always fits).
    pub write_bytes: usize,
    /// Calls in flight.
    pub calls: usize,
    /// How long one call may take.
    pub call: Duration,
    /// How long a question of a shared server may wait until it is clear whose it is.
    pub hold: Duration,
}

/// Bits of an id that are the slot's number; the rest counts how often the slot was used, so
/// that a late answer never meets the slot's next call. Ids stay below 2^53.
const SLOT_BITS: u32 = 20;

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    /// The id the request has on the pipe.
    pub fn id(self) -> u64 {
        self.0
    }

    /// The call that has this id on the pipe.
    pub fn of_id(id: u64) -> Key {
        Key(id)
    }
}

/// Something that belongs to no call.
#[derive(Debug)]
pub enum Event {
    /// A list or resource changed, or a log line of unknown origin.
    Notice(Notice),
    /// The server asks, and it is not clear for which call.
    Ask(Ask),
    /// The server does not want that answer any more.
    Withdrawn(u64),
    /// The pipe carried something that is no MCP, or an answer nobody asked for.
    Stray(String),
}

/// The pipe.
#[derive(Debug)]
pub struct Link {
    server: Arc<Server>,
    shared: bool,
    limits: Limits,
    slots: Vec<Slot>,
    free: Vec<usize>,
    in_flight: usize,
    ghosts: usize,
    out: VecDeque<Queued>,
    out_bytes: usize,
    writer: Option<Waker>,
    events: VecDeque<Event>,
    /// Sessions that the server has forgotten.
    sessions: u64,
    /// Questions the server waits for, with the call each was put to.
    asks: BTreeMap<u64, (Id, Option<Key>)>,
    next_ticket: u64,
    held: Option<Held>,
    /// Questions for tasks whose result nobody waits for yet.
    early: Vec<Early>,
    /// Whether the server has asked anything while clients shared it.
    has_asked: bool,
    /// The last time that we know of.
    clock: Option<Instant>,
    /// Something was taken to be sent that is to be read before what follows.
    settling: bool,
    /// The level the server was told, and the one that sessions want of it.
    level: Option<Level>,
    wanted_level: Option<Level>,
    closed: Option<Fault>,
}

/// A question that may belong to one of several calls.
#[derive(Debug)]
struct Held {
    ask: Ask,
    candidates: Vec<Key>,
    /// Counts from the first look at the clock.
    until: Option<Instant>,
}

/// A question for a task.
#[derive(Debug)]
struct Early {
    task: String,
    ask: Ask,
    /// Counts from the first look at the clock.
    until: Option<Instant>,
}

/// Where a line of the server came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    /// The one there is for everything.
    All,
    /// That call's own.
    Of(Key),
    /// The same, in a session that the server has forgotten.
    OfLost(Key),
    /// One beside those of the calls: what is on it is no call's.
    Apart,
}

#[derive(Debug, Default)]
struct Slot {
    uses: u32,
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    /// The client's progress token, as it wrote it.
    token: Option<Bytes>,
    progress: Increasing,
    logs: Logs,
    queue: VecDeque<Reply>,
    queued_bytes: usize,
    /// Who could be asked something before it ends.
    asker: Option<Arc<Client>>,
    /// The task whose result it waits for: its questions come here.
    task: Option<String>,
    /// Nobody takes its replies; the slot only waits for the answer, so that it is no stray.
    forgotten: bool,
    /// Questions of the server while this call ran.
    asks: Vec<u64>,
    /// Those of a task, in case somebody else waits for its result.
    task_asks: Vec<Ask>,
    done: bool,
    /// It was we who ended it; the server may not know yet.
    cut: bool,
    /// Nobody's any more, but the server may still be at it.
    ghost: bool,
    /// As long as a question would be held; counts from the first look at the clock.
    ghost_until: Option<Instant>,
    waker: Option<Waker>,
    deadline: Instant,
    /// A request of ours: no client waits for it.
    own: bool,
    /// A `subscriptions/listen` of ours: has no deadline, and its notes are notices.
    listen: bool,
}

impl Live {
    /// Whether the server may still ask something for it.
    fn may_ask(&self) -> bool {
        // Questions of a task name it.
        self.asker.is_some() && self.task.is_none() && (!self.done || self.cut)
    }
}

impl Link {
    /// The pipe to `server`; `shared` if calls of different clients meet on it.
    pub fn new(server: Arc<Server>, shared: bool, limits: Limits) -> Link {
        Link {
            server,
            shared,
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            ghosts: 0,
            out: VecDeque::new(),
            out_bytes: 0,
            writer: None,
            events: VecDeque::new(),
            sessions: 0,
            asks: BTreeMap::new(),
            next_ticket: 1,
            held: None,
            early: Vec::new(),
            has_asked: false,
            clock: None,
            settling: false,
            level: None,
            wanted_level: None,
            closed: None,
        }
    }

    /// The server at the other end.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// How many calls are in flight, listens aside.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Calls that could still ask their clients something, also those that we have ended.
    pub fn askers(&self) -> usize {
        self.slots.iter().filter(|s| s.live.as_ref().is_some_and(Live::may_ask)).count()
    }

    /// Calls that we ended and that may still ask. Until they have faded, it cannot be told whose a
    /// question is.
    pub fn ghosts(&self) -> usize {
        self.ghosts
    }

    /// Whether this server asks its clients. On a shared pipe it then gets one call a time that it
    /// could ask for.
    pub fn has_asked(&self) -> bool {
        self.has_asked
    }

    /// Whether the server still waits for this answer.
    pub fn is_open(&self, ticket: u64) -> bool {
        self.asks.contains_key(&ticket)
    }

    /// Why the pipe is closed, if it is.
    pub fn closed(&self) -> Option<&Fault> {
        self.closed.as_ref()
    }

    /// Sends a call. Its replies come out of [`Link::poll_reply`].
    pub fn begin(&mut self, call: &Call, now: Instant) -> Result<Key, Fault> {
        let (key, line) = self.enter(call, now)?;
        self.send(What::Call(key), line);
        self.expect_questions_of(key, call);
        Ok(key)
    }

    /// The same; where nothing is to be read before it, its line is the caller's to send.
    pub fn begin_at_once(&mut self, call: &Call, now: Instant) -> Result<(Key, Option<Bytes>), Fault> {
        let (key, line) = self.enter(call, now)?;
        let mut own = Some(line);
        if (self.settling || !self.out.is_empty())
            && let Some(line) = own.take()
        {
            self.send(What::Call(key), line);
        }
        self.expect_questions_of(key, call);
        Ok((key, own))
    }

    /// A call gets its place, and its line.
    fn enter(&mut self, call: &Call, now: Instant) -> Result<(Key, Bytes), Fault> {
        self.admit()?;
        // Up at once, down when the clock is looked at: calls in quick succession that want logs cost
        // two lines together, not two each.
        if let Some(level) = call.log_level
            && self.has_a_level()
            && self.level.is_none_or(|told| level < told)
        {
            self.tell_level(level, now);
        }
        let token = call.params.progress_token.map(|at| call.message.slice(at));
        let key = self.occupy(token, self.logs_for(call), false, now);
        if (call.method.may_ask() || self.is_of_task(call))
            && let Some(live) = self.live(key)
        {
            live.asker = Some(call.client.clone());
        }
        Ok((key, request(call, &self.server, key.0)))
    }

    /// Whether what a task asks is asked for this call.
    fn is_of_task(&self, call: &Call) -> bool {
        call.method == Method::TaskResult && self.shared
    }

    fn expect_questions_of(&mut self, key: Key, call: &Call) {
        if self.is_of_task(call)
            && let Some(task) = call.message.string_at(call.params.task_id)
        {
            self.expect_questions(key, &task);
        }
    }

    /// The client of a call comes back to it with another exchange: what the call says from now on
    /// is for that one, and what it said while nobody listened is gone.
    pub fn resume(&mut self, key: Key, call: &Call, now: Instant) {
        let logs = self.logs_for(call);
        let Some(live) = self.live(key) else { return };
        live.queue.retain(|reply| !matches!(reply, Reply::Note(_)));
        live.queued_bytes = live.queue.iter().map(size).sum();
        live.token = call.params.progress_token.map(|at| call.message.slice(at));
        live.logs = logs;
        live.asker = Some(call.client.clone());
        let _ = self.settle_level(now); // a pipe too full for it is looked at again
    }

    /// Sends a request of our own. `params` is the inside of its params object.
    pub fn begin_own(&mut self, method: &Method, params: &str, now: Instant) -> Result<Key, Fault> {
        self.admit()?;
        Ok(self.begin_own_as(What::Call, method, params, now))
    }

    fn begin_own_as(&mut self, what: fn(Key) -> What, method: &Method, params: &str, now: Instant) -> Key {
        let key = self.occupy(None, Logs::Never, *method == Method::Listen, now);
        if let Some(live) = self.live(key) {
            live.own = true;
        }
        self.send(what(key), own_request(&self.server, key.0, method.as_str(), params));
        key
    }

    /// Asks a handshake server for what came of a task; until it says so, the questions of that task
    /// are for `client`.
    pub fn fetch(&mut self, task: &str, client: &Arc<Client>, now: Instant) -> Result<Key, Fault> {
        let key = self.begin_own(&Method::TaskResult, &tasks::params_of(task), now)?;
        if let Some(live) = self.live(key) {
            live.asker = Some(client.clone());
        }
        self.expect_questions(key, task);
        Ok(key)
    }

    /// Sends a request of our own whose answer nobody waits for.
    pub fn tell(&mut self, method: &Method, params: &str, now: Instant) {
        if let Ok(key) = self.begin_own(method, params, now) {
            self.forget(key);
        }
    }

    /// The same, for what follows to rely on.
    pub fn tell_first(&mut self, method: &Method, params: &str, now: Instant) {
        if self.admit().is_ok() {
            let key = self.begin_own_as(What::First, method, params, now);
            self.forget(key);
        }
    }

    /// Passes a client's notification on.
    pub fn notify(&mut self, line: Bytes) {
        if self.closed.is_none() && self.out_bytes < self.limits.write_bytes {
            self.send(What::Word, line);
        }
    }

    /// Answers a request of the server: with a result, or with an error object.
    pub fn answer(&mut self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        let Some((id, of)) = self.asks.remove(&ticket) else { return };
        if let Some(live) = of.and_then(|key| self.live(key)) {
            live.asks.retain(|t| *t != ticket);
        }
        let (word, body): (&[u8], &[u8]) = match answer {
            Ok(result) => (b"result", result),
            Err(error) => (b"error", error),
        };
        let mut line = [b"{\"jsonrpc\":\"2.0\",\"id\":", id.as_bytes(), b",\"", word, b"\":", body, b"}"].concat();
        json::one_line(&mut line);
        line.push(b'\n');
        self.send(What::Answer(self.sessions), line.into());
    }

    /// The call is not wanted any more. Whatever still comes for it is dropped.
    pub fn cancel(&mut self, key: Key, reason: &str) {
        // A ghost is nobody's any more: to give it up once more must not lay it.
        let Some(live) = self.live(key).filter(|live| !live.ghost) else { return };
        if !live.done {
            self.cut(key, reason);
            return self.release(key);
        }
        let last = live.queue.pop_back();
        self.release(key);
        if let Some(Reply::Done(Outcome::Result(result))) = last {
            self.end_task_of(&result);
        }
    }

    /// The call is ended by us: its server is told, and what it asked needs no answers any more. In that
    /// order, or a server might go on with the refusal of its question.
    fn cut(&mut self, key: Key, reason: &str) {
        if self.closed.is_none() {
            self.send(What::Cancel(key), cancelled(key.0, reason));
        }
        let Some(live) = self.live(key) else { return };
        live.cut = true;
        let (task, mut of_task) = (live.task.clone(), std::mem::take(&mut live.task_asks));
        for ticket in std::mem::take(&mut live.asks) {
            self.unask(key, ticket);
            // A task goes on when nobody waits for its result, and so does its question.
            let at = of_task.iter().position(|ask| ask.ticket == ticket);
            if let (Some(task), Some(at), Some((_, of))) = (&task, at, self.asks.get_mut(&ticket)) {
                *of = None;
                self.keep_early(task.clone(), of_task.swap_remove(at));
            } else if self.closed.is_none() {
                self.refuse(ticket, "the call that this was asked for is over");
            }
        }
    }

    /// The client withdrew the call, while somebody still waits for its replies.
    pub fn abort(&mut self, key: Key, reason: &str) {
        if self.live(key).is_none_or(|l| l.done) {
            return;
        }
        let fault = Fault::client(FaultKind::Cancelled).tell("cancelled by the client");
        self.cut(key, reason);
        self.push(key, Reply::Done(Outcome::Fault(fault)));
    }

    /// A line of the server.
    pub fn handle_line(&mut self, line: Bytes) {
        self.handle(line, Stream::All);
    }

    /// A line of the server on the stream of that call.
    pub fn handle_line_of(&mut self, key: Key, line: Bytes) {
        self.handle(line, Stream::Of(key));
    }

    /// The same, where the line has been read.
    pub fn handle_message_of(&mut self, key: Key, message: Message) {
        self.handle_message(message, Stream::Of(key));
    }

    /// The same, where the server has forgotten the session that the call was sent in. What it asks there has
    /// nowhere to be answered: in the new session its number may be another question's.
    pub fn handle_line_of_lost(&mut self, key: Key, line: Bytes) {
        self.handle(line, Stream::OfLost(key));
    }

    /// A line of the server on a stream beside those of all calls.
    pub fn handle_line_apart(&mut self, line: Bytes) {
        self.handle(line, Stream::Apart);
    }

    /// The stream of that call has ended. Unless its answer was there, it ends with this. That the server
    /// has noticed that a call is over, the end of the stream tells in the stateless era alone.
    pub fn handle_end_of(&mut self, key: Key, outcome: Outcome) {
        if self.live(key).is_none_or(|live| !live.cut) {
            self.push(key, Reply::Done(outcome));
        } else if self.server.era() == Era::Stateless {
            self.handle_end_of_cut(key);
        }
    }

    /// The stream of that call broke off, and its answer will not come. A server with a session does not take that
    /// for the end of the call: it is told, and may ask for it until it has noticed.
    pub fn handle_lost(&mut self, key: Key, fault: Fault) {
        let goes_on = self.live(key).is_some_and(|live| !live.done);
        if goes_on && self.server.era() == Era::Handshake {
            self.cut(key, "its answer cannot be had any more");
            return self.push(key, Reply::Done(Outcome::Fault(fault)));
        }
        self.handle_end_of(key, Outcome::Fault(fault));
    }

    /// Whether anybody waits for the answer to that call. If not, it is not to be sent again.
    pub fn is_wanted(&mut self, key: Key) -> bool {
        self.live(key).is_some_and(|live| !live.done && !live.cut)
    }

    /// Whether the server may still say something about that call.
    pub fn is_under_way(&mut self, key: Key) -> bool {
        self.live(key).is_some_and(|live| !live.done || live.cut)
    }

    fn handle(&mut self, line: Bytes, stream: Stream) {
        match Message::read(line.clone()) {
            Ok(message) => self.handle_message(message, stream),
            Err(bad) => self.stray(format!("{}: {}", bad.why, excerpt(&line))),
        }
    }

    fn handle_message(&mut self, message: Message, stream: Stream) {
        match message.kind.clone() {
            Kind::Response(id, answer) => self.handle_answer(id, answer, &message),
            Kind::Notification(Method::Log) if stream == Stream::Apart => {
                self.events.push_back(Event::Notice(Notice::read(Method::Log, &message)));
            }
            Kind::Notification(Method::Cancelled) | Kind::Request(..) if matches!(stream, Stream::OfLost(_)) => {
                self.stray("a question, or the end of one, in a session that is over".into());
            }
            Kind::Notification(method) => match stream {
                Stream::Of(key) | Stream::OfLost(key) if method == Method::Log => self.handle_log_of(key, Notice::read(method, &message)),
                _ => self.handle_notification(method, message),
            },
            // Where calls have streams of their own, what was on its way may come behind the end.
            Kind::Request(..) if self.closed.is_some() => {}
            // A server that does not read is owed no more than it may be written.
            Kind::Request(..) if self.out_bytes >= self.limits.write_bytes => self.stray("a request, though it does not read".into()),
            Kind::Request(id, Method::Ping) => {
                let line = [b"{\"jsonrpc\":\"2.0\",\"id\":", id.as_bytes(), b",\"result\":{}}\n"].concat();
                self.send(What::Answer(self.sessions), line.into());
            }
            Kind::Request(id, method) => self.handle_ask(id, method, message, stream),
        }
    }

    /// A line beyond the limit went by. The call it answers fails, if that can be told.
    pub fn handle_too_long(&mut self, head: &[u8], tail: &[u8], limit: usize) {
        let named: Vec<Key> = ids_in(head).into_iter().chain(ids_in(tail)).map(Key).collect();
        let live = named.iter().copied().find(|k| self.live(*k).is_some());
        // Where it names somebody, and nobody is there, it was for a call that is over.
        let key = live.or_else(|| named.is_empty().then(|| self.only(|l| !l.listen && !l.done)).flatten());
        // A request or a notification answers nothing.
        let key = key.filter(|_| !has_method(head));
        match key {
            // It is an answer to a call that is over: all that counts is that there is one.
            Some(key) if self.live(key).is_some_and(|l| l.cut) => self.handle_end_of_cut(key),
            Some(key) => {
                let fault = Fault::backend("", FaultKind::Backend)
                    .tell(format!("the server's answer is larger than the limit of {limit} bytes for one message"));
                self.push(key, Reply::Done(Outcome::Fault(fault)));
            }
            None => self.stray(format!("a message beyond the limit of {limit} bytes, for no call that is under way")),
        }
    }

    /// The pipe ended: every call on it fails with this.
    pub fn handle_closed(&mut self, fault: Fault) {
        for slot in 0..self.slots.len() {
            let key = self.key_of(slot);
            self.push(key, Reply::Done(Outcome::Fault(fault.clone())));
        }
        self.out.clear();
        self.out_bytes = 0;
        // What no call asked has nobody else to tell its client.
        let of_none: Vec<u64> = self.asks.iter().filter(|(_, (_, of))| of.is_none()).map(|(ticket, _)| *ticket).collect();
        for ticket in of_none {
            if !self.take_back(ticket) {
                self.events.push_back(Event::Withdrawn(ticket));
            }
        }
        self.asks.clear();
        self.held = None;
        self.early.clear();
        self.closed = Some(fault);
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    /// The server has forgotten the session this was, and has another with us now. What it asked it does
    /// not wait for any more, and the level that is wanted it has to be told again; calls whose streams
    /// have not ended go on.
    pub fn handle_new_session(&mut self, now: Instant) {
        self.sessions += 1;
        self.held = None;
        self.early.clear();
        for (ticket, (_, of)) in std::mem::take(&mut self.asks) {
            self.handle_withdrawn(ticket, of);
        }
        self.level = None;
        // Also where there is no room for more calls: those that are refused now rely on it.
        if let Some(level) = self.level_now().filter(|_| self.has_a_level() && self.closed.is_none()) {
            self.tell_level(level, now);
        }
    }

    /// Ends the calls that took too long, refuses the question whose call did not show in time, and
    /// lowers the level that calls had raised.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = Some(now);
        if let Some(held) = &mut self.held
            && *held.until.get_or_insert(now + self.limits.hold) <= now
        {
            self.refuse_held("it could not be told in time which of several calls it belongs to");
        }
        let _ = self.settle_level(now); // a pipe too full for it is looked at again
        // A question for a task has as long as a call to find somebody who waits for its result.
        for early in &mut self.early {
            early.until.get_or_insert(now + self.limits.call);
        }
        let (over, rest): (Vec<Early>, Vec<Early>) =
            std::mem::take(&mut self.early).into_iter().partition(|early| early.until.is_some_and(|until| until <= now));
        self.early = rest;
        for early in over {
            self.refuse(early.ask.ticket, "nobody came for the result of its task");
        }
        for slot in 0..self.slots.len() {
            let ghost = self.slots[slot].live.as_mut().filter(|l| l.ghost);
            if ghost.is_some_and(|l| *l.ghost_until.get_or_insert(now + self.limits.hold) <= now) {
                let key = self.key_of(slot);
                if self.held.as_ref().is_some_and(|held| held.candidates.contains(&key)) {
                    self.refuse_held("the call it may belong to was given up");
                }
                self.release(key);
            }
            let overdue = self.slots[slot].live.as_ref().is_some_and(|l| !l.done && !l.listen && l.deadline <= now);
            if overdue {
                let key = self.key_of(slot);
                let secs = self.limits.call.as_secs_f32();
                let fault = Fault::backend("", FaultKind::Timeout).tell(format!("the server did not answer within {secs} s"));
                self.cut(key, "timeout");
                self.push(key, Reply::Done(Outcome::Fault(fault)));
            }
        }
    }

    /// The next reply to a call. After [`Reply::Done`] the key is used up.
    pub fn poll_reply(&mut self, key: Key, waker: &Waker) -> Poll<Reply> {
        let Some(live) = self.live(key) else {
            let fault = Fault::gateway(FaultKind::Backend).tell("the call has ended already");
            return Poll::Ready(Reply::Done(Outcome::Fault(fault)));
        };
        let Some(reply) = live.queue.pop_front() else {
            match &mut live.waker {
                Some(old) if old.will_wake(waker) => {}
                slot => *slot = Some(waker.clone()),
            }
            return Poll::Pending;
        };
        live.queued_bytes = live.queued_bytes.saturating_sub(size(&reply));
        if matches!(reply, Reply::Done(_)) {
            self.release(key);
        }
        Poll::Ready(reply)
    }

    /// Nobody waits for the replies of that call, until they are polled again.
    pub fn let_sleep(&mut self, key: Key) {
        if let Some(live) = self.live(key) {
            live.waker = None;
        }
    }

    /// What belongs to no call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn admit(&self) -> Result<(), Fault> {
        if let Some(fault) = &self.closed {
            return Err(fault.clone());
        }
        if self.out_bytes >= self.limits.write_bytes {
            return Err(Fault::backend("", FaultKind::Busy).tell("the server does not read its input; try again later"));
        }
        if self.in_flight >= self.limits.calls {
            return Err(Fault::gateway(FaultKind::Busy)
                .tell(format!("{} calls to this server are under way already; try again later", self.limits.calls)));
        }
        Ok(())
    }

    fn occupy(&mut self, token: Option<Bytes>, logs: Logs, listen: bool, now: Instant) -> Key {
        self.clock = Some(now);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.slots[slot].uses = self.slots[slot].uses.wrapping_add(1);
        self.slots[slot].live = Some(Live {
            token,
            progress: Increasing::default(),
            logs,
            queue: VecDeque::new(),
            queued_bytes: 0,
            asker: None,
            task: None,
            forgotten: false,
            asks: Vec::new(),
            task_asks: Vec::new(),
            done: false,
            own: false,
            cut: false,
            ghost: false,
            ghost_until: None,
            waker: None,
            deadline: now + self.limits.call,
            listen,
        });
        self.in_flight += usize::from(!listen);
        self.key_of(slot)
    }

    fn key_of(&self, slot: usize) -> Key {
        Key((u64::from(self.slots[slot].uses) << SLOT_BITS) | slot as u64)
    }

    fn live(&mut self, key: Key) -> Option<&mut Live> {
        let slot = self.slots.get_mut(key.slot())?;
        if u64::from(slot.uses) != key.0 >> SLOT_BITS {
            return None;
        }
        slot.live.as_mut()
    }

    fn release(&mut self, key: Key) {
        let room = self.ghosts < self.limits.calls && self.closed.is_none();
        let haunts = self.shared && self.server.era() == Era::Handshake && room;
        let Some(live) = &mut self.slots[key.slot()].live else { return };
        // A call whose client cannot be asked anything has no question to be taken for another's.
        let can_ask = live.task.is_none() && live.asker.as_ref().is_some_and(|client| client.capabilities.len() > 2);
        if !haunts && can_ask && live.cut && !live.ghost && self.held.as_ref().is_some_and(|held| held.candidates.contains(&key)) {
            self.refuse_held("the call it may belong to was given up");
            return self.release(key);
        }
        if haunts && can_ask && live.cut && !live.ghost {
            live.ghost = true;
            live.done = true;
            live.logs = Logs::Never;
            (live.queue, live.queued_bytes) = (VecDeque::new(), 0);
            (live.waker, live.token, live.task) = (None, None, None);
            self.in_flight -= 1;
            self.ghosts += 1;
            return;
        }
        if let Some(live) = self.slots[key.slot()].live.take() {
            self.in_flight -= usize::from(!live.listen && !live.ghost);
            self.ghosts -= usize::from(live.ghost);
            self.free.push(key.slot());
            self.settle_held(key);
        }
    }

    /// Nobody will take this call's replies.
    fn forget(&mut self, key: Key) {
        // The slot stays occupied until the answer comes, so that it is no stray.
        if let Some(live) = self.live(key) {
            live.waker = None;
            live.forgotten = true;
        }
    }

    fn push(&mut self, key: Key, reply: Reply) {
        let limit = self.limits.reply_bytes;
        let Some(live) = self.live(key) else { return };
        if live.done {
            return;
        }
        let done = matches!(reply, Reply::Done(_));
        if done && live.forgotten {
            return self.release(key);
        }
        if done {
            // The server waits for no answer any more.
            for ticket in std::mem::take(&mut live.asks) {
                self.asks.remove(&ticket);
                self.unask(key, ticket);
            }
        }
        let Some(live) = self.live(key) else { return };
        let bytes = size(&reply);
        if !done && live.queued_bytes + bytes > limit && !live.queue.is_empty() {
            match &reply {
                // Logs go first; of progress only the newest counts; asks and results never go.
                Reply::Note(note) if note.method == Method::Progress => {
                    let newest = |r: &&mut Reply| matches!(r, Reply::Note(n) if n.method == Method::Progress);
                    if let Some(old) = live.queue.iter_mut().rev().find(newest) {
                        live.queued_bytes = live.queued_bytes.saturating_sub(size(old)) + bytes;
                        *old = reply;
                    }
                    return;
                }
                Reply::Note(_) => return,
                _ => {}
            }
        }
        live.done = done;
        live.queued_bytes += bytes;
        live.queue.push_back(reply);
        if let Some(waker) = live.waker.take() {
            waker.wake();
        }
        if done && !live.cut {
            self.settle_held(key);
        }
    }

    /// Nobody hears of that result. A task that it begins would run for nobody.
    fn end_task_of(&mut self, result: &[u8]) {
        if !tasks::begins_task(result, self.server.era()) {
            return;
        }
        if let (Ok(task), Some(now)) = (tasks::Task::read(&self.server.name, result), self.clock) {
            self.tell(&Method::TaskCancel, &tasks::params_of(&task.id), now);
        }
    }

    /// The server has noticed that a call is over, or was faster: it will ask nothing more for it.
    fn handle_end_of_cut(&mut self, key: Key) {
        let Some(live) = self.live(key) else { return };
        live.cut = false;
        if live.ghost {
            self.release(key);
        } else {
            self.settle_held(key);
        }
        self.stray("an answer to a call that is over".into());
    }

    fn handle_answer(&mut self, id: Option<Id>, answer: Result<json::Span, json::Span>, message: &Message) {
        let key = id.as_ref().and_then(Id::as_number).map(Key);
        let is_cut = key.is_some_and(|key| self.live(key).is_some_and(|l| l.cut));
        let is_awaited = key.is_some_and(|key| self.live(key).is_some_and(|l| !l.done));
        if let Ok(result) = answer
            && key.is_some()
            && (is_cut || !is_awaited)
        {
            self.end_task_of(result.of_bytes(&message.bytes));
        }
        if let Some(key) = key.filter(|_| is_cut) {
            return self.handle_end_of_cut(key);
        }
        let Some(key) = key.filter(|_| is_awaited) else {
            // To the meeting's own requests a late answer is no news. What is in it is not for our
            // log: it may be the result of a call that was withdrawn.
            if !id.as_ref().is_some_and(|id| id.as_bytes().starts_with(b"\"landbridge-")) {
                self.stray("an answer nobody asked for".into());
            }
            return;
        };
        let outcome = match answer {
            Ok(result) => Outcome::Result(message.slice(result)),
            Err(error) => Outcome::Error(message.slice(error)),
        };
        self.push(key, Reply::Done(outcome));
    }

    fn handle_notification(&mut self, method: Method, message: Message) {
        match method {
            Method::Progress => {
                let [token, progress] = message.params_fields(&["progressToken", "progress"]).unwrap_or_default();
                let key = token.and_then(|t| message.text(t).parse().ok()).map(Key);
                let Some((key, at)) = key.zip(token) else { return self.stray("progress without a token of ours".into()) };
                // After the call has ended nobody wants its progress.
                let Some(live) = self.live(key) else { return };
                let Some(client_token) = live.token.clone() else { return };
                // Clients may take a value that does not grow for an error of ours.
                if !live.progress.passes(progress.map(|at| message.text(at))) {
                    return;
                }
                let text = json::splice(&message.bytes, &[(at, &client_token)]);
                self.push(key, Reply::Note(Note { method, message: text.into() }));
            }
            Method::Cancelled => {
                let [id] = message.params_fields(&["requestId"]).unwrap_or_default();
                let Some(raw) = id.map(|at| message.text(at)) else { return };
                // Either the server withdraws a question, or it ends a listen of ours (stdio).
                let ticket = self.asks.iter().find(|(_, (id, _))| id.as_bytes() == raw.as_bytes()).map(|(t, _)| *t);
                if let Some((ticket, (_, of))) = ticket.and_then(|ticket| self.asks.remove_entry(&ticket)) {
                    self.handle_withdrawn(ticket, of);
                } else if let Some(key) = raw.parse().ok().map(Key)
                    && self.live(key).is_some_and(|l| l.listen)
                {
                    self.push(key, Reply::Done(Outcome::Result(Bytes::from_static(b"{}"))));
                }
            }
            Method::Acknowledged => {
                if let Some(key) = subscription(&message).map(Key)
                    && self.live(key).is_some_and(|l| l.listen)
                {
                    self.push(key, Reply::Note(Note { method, message: message.bytes }));
                }
            }
            Method::Log => {
                let notice = Notice::read(method, &message);
                match self.logger(notice.level) {
                    Some(key) => self.push(key, Reply::Note(Note { method: Method::Log, message: notice.message })),
                    None => self.events.push_back(Event::Notice(notice)),
                }
            }
            method => {
                let mut notice = Notice::read(method, &message);
                if subscription(&message).is_some() {
                    notice.message = bridge::untag(&notice.message);
                }
                self.events.push_back(Event::Notice(notice));
            }
        }
    }

    /// The one call like that, if there is exactly one.
    fn only(&self, is_one: impl Fn(&Live) -> bool) -> Option<Key> {
        let mut calls = self.slots.iter().enumerate().filter(|(_, s)| s.live.as_ref().is_some_and(&is_one));
        let (slot, _) = calls.next()?;
        calls.next().is_none().then(|| self.key_of(slot))
    }

    fn stray(&mut self, what: String) {
        self.events.push_back(Event::Stray(what));
    }
}

fn size(reply: &Reply) -> usize {
    64 + match reply {
        Reply::Note(note) => note.message.len(),
        Reply::Ask(ask) => ask.message.bytes.len(),
        Reply::Done(Outcome::Result(b) | Outcome::Error(b)) => b.len(),
        Reply::Withdrawn(_) | Reply::Done(Outcome::Fault(_)) => 0,
    }
}

/// The number of the listen a notification belongs to.
fn subscription(message: &Message) -> Option<u64> {
    let [meta] = message.params_fields(&["_meta"]).ok()?;
    let [id] = message.fields_at(meta?, &[META_SUBSCRIPTION]).ok()?;
    message.text(id?).parse().ok()
}

/// The numbers behind each `"id":` in a piece of a message: one may be its own.
fn ids_in(piece: &[u8]) -> Vec<u64> {
    let numbers = memchr::memmem::find_iter(piece, b"\"id\":").map(|at| {
        let digits = piece[at + 5..].iter().copied().skip_while(|b| *b == b' ').take_while(u8::is_ascii_digit);
        digits.fold(0_u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')))
    });
    numbers.collect()
}

/// Whether the message that begins like this is a request or a notification: its method comes
/// before its body.
fn has_method(head: &[u8]) -> bool {
    let at = |word: &[u8]| memchr::memmem::find(head, word).unwrap_or(usize::MAX);
    let body = at(b"\"result\"").min(at(b"\"error\"")).min(at(b"\"params\""));
    at(b"\"method\"") < body
}

fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
