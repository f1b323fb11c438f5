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
//! What the server says is read in `incoming`. Whom a question of it belongs to is decided in `questions`, whom a
//! log line in `logs`; what waits to be written is in `queue`, the calls under way are in `slots`.

mod incoming;
mod logs;
mod questions;
mod queue;
mod slots;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use logs::Logs;
pub use queue::{Queued, What};
pub use slots::Key;
use slots::{Live, Slots};

use crate::back::stdio::{cancelled, own_request, request};
use crate::call::{Ask, Call, Client, Level, Notice, Outcome, Reply, Server};
use crate::fault::{Fault, Kind as FaultKind};
use crate::json;
use crate::message::Id;
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
    slots: Slots,
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

impl Link {
    /// The pipe to `server`; `shared` if calls of different clients meet on it.
    pub fn new(server: Arc<Server>, shared: bool, limits: Limits) -> Link {
        Link {
            server,
            shared,
            limits,
            slots: Slots::default(),
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
        self.slots.in_flight()
    }

    /// Calls that could still ask their clients something, also those that we have ended.
    pub fn askers(&self) -> usize {
        self.slots.iter().filter(|(_, live)| live.may_ask()).count()
    }

    /// Calls that we ended and that may still ask. Until they have faded, it cannot be told whose a
    /// question is.
    pub fn ghosts(&self) -> usize {
        self.slots.ghosts()
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
        let key = self.occupy(Live::new(token, self.logs_for(call), false, now + self.limits.call), now);
        if (call.method.may_ask() || self.is_of_task(call))
            && let Some(live) = self.live(key)
        {
            live.asker = Some(call.client.clone());
        }
        Ok((key, request(call, &self.server, key.id())))
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
        let key = self.occupy(Live::new(None, Logs::Never, *method == Method::Listen, now + self.limits.call), now);
        if let Some(live) = self.live(key) {
            live.own = true;
        }
        self.send(what(key), own_request(&self.server, key.id(), method.as_str(), params));
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
            self.send(What::Cancel(key), cancelled(key.id(), reason));
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

    /// The pipe ended: every call on it fails with this.
    pub fn handle_closed(&mut self, fault: Fault) {
        let calls: Vec<Key> = self.slots.iter().map(|(key, _)| key).collect();
        for key in calls {
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
        let hold = self.limits.hold;
        let faded = |live: &mut Live| live.ghost && *live.ghost_until.get_or_insert(now + hold) <= now;
        let faded: Vec<Key> = self.slots.iter_mut().filter_map(|(key, live)| faded(live).then_some(key)).collect();
        for key in faded {
            if self.held.as_ref().is_some_and(|held| held.candidates.contains(&key)) {
                self.refuse_held("the call it may belong to was given up");
            }
            self.release(key);
        }
        let overdue = |live: &Live| !live.done && !live.listen && live.deadline <= now;
        let overdue: Vec<Key> = self.slots.iter().filter_map(|(key, live)| overdue(live).then_some(key)).collect();
        for key in overdue {
            let secs = self.limits.call.as_secs_f32();
            let fault = Fault::backend("", FaultKind::Timeout).tell(format!("the server did not answer within {secs} s"));
            self.cut(key, "timeout");
            self.push(key, Reply::Done(Outcome::Fault(fault)));
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
        if self.slots.in_flight() >= self.limits.calls {
            return Err(Fault::gateway(FaultKind::Busy)
                .tell(format!("{} calls to this server are under way already; try again later", self.limits.calls)));
        }
        Ok(())
    }

    fn occupy(&mut self, live: Live, now: Instant) -> Key {
        self.clock = Some(now);
        self.slots.occupy(live)
    }

    fn live(&mut self, key: Key) -> Option<&mut Live> {
        self.slots.get(key)
    }

    fn release(&mut self, key: Key) {
        let room = self.slots.ghosts() < self.limits.calls && self.closed.is_none();
        let haunts = self.shared && self.server.era() == Era::Handshake && room;
        let Some(live) = self.slots.get(key) else { return };
        // A call whose client cannot be asked anything has no question to be taken for another's.
        let can_ask = live.task.is_none() && live.asker.as_ref().is_some_and(|client| client.capabilities.len() > 2);
        let is_open = can_ask && live.cut && !live.ghost;
        if is_open && haunts {
            return self.slots.haunt(key);
        }
        if is_open && self.held.as_ref().is_some_and(|held| held.candidates.contains(&key)) {
            self.refuse_held("the call it may belong to was given up");
        }
        if self.slots.leave(key) {
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
}

fn size(reply: &Reply) -> usize {
    64 + match reply {
        Reply::Note(note) => note.message.len(),
        Reply::Ask(ask) => ask.message.bytes.len(),
        Reply::Done(Outcome::Result(b) | Outcome::Error(b)) => b.len(),
        Reply::Withdrawn(_) | Reply::Done(Outcome::Fault(_)) => 0,
    }
}
