//! What a server asks, and which call it asks it for.
//!
//! On a pipe that clients share nothing says whose a question is. Whoever asks waits for the answer, so its call
//! does not end before. A question is held until only one call is left of those that could have asked
//! it; if another comes first, or its time is over, it is refused. A call that *we* ended may still
//! run at the server, and ask: its slot stays for a while as a ghost, whose questions are refused.

use super::incoming::Stream;
use super::{Early, Event, Held, Key, Link, Live, size};
use crate::call::{Ask, Reply};
use crate::fault::{Fault, Kind as FaultKind};
use crate::message::{Id, Message};
use crate::methods::Method;
use crate::tasks;
use crate::version::Era;

/// Requests of the server that wait for an answer, at most.
const MAX_ASKS: usize = 256;
/// Those of them that are for tasks whose results nobody waits for.
const MAX_EARLY: usize = 64;

impl Link {
    /// The questions of that task are this call's from now on.
    pub(super) fn expect_questions(&mut self, key: Key, task: &str) {
        if let Some(live) = self.live(key) {
            live.task = Some(task.to_owned());
        }
        let (mine, others): (Vec<Early>, Vec<Early>) = std::mem::take(&mut self.early).into_iter().partition(|e| e.task == task);
        self.early = others;
        for early in mine {
            self.put(key, early.ask);
        }
    }

    /// A question for a task whose result nobody waits for. The oldest gives way.
    pub(super) fn keep_early(&mut self, task: String, ask: Ask) {
        if self.early.len() >= MAX_EARLY {
            let oldest = self.early.remove(0);
            self.refuse(oldest.ask.ticket, "nobody came for the result of its task");
        }
        self.early.push(Early { task, ask, until: None });
    }

    /// That question of a call is not asked any more: whoever pulls its replies learns of it, if it
    /// was told of the question at all.
    pub(super) fn unask(&mut self, key: Key, ticket: u64) {
        if !self.take_back(ticket)
            && let Some(live) = self.live(key)
        {
            live.queue.push_back(Reply::Withdrawn(ticket));
            if let Some(waker) = live.waker.take() {
                waker.wake();
            }
        }
    }

    /// The server does not wait for an answer to that question any more, which was put to that call, if any.
    pub(super) fn handle_withdrawn(&mut self, ticket: u64, of: Option<Key>) {
        match of {
            Some(key) => {
                if let Some(live) = self.live(key) {
                    live.asks.retain(|t| *t != ticket);
                }
                self.unask(key, ticket);
            }
            None if self.take_back(ticket) => {}
            None => self.events.push_back(Event::Withdrawn(ticket)),
        }
    }

    pub(super) fn handle_ask(&mut self, id: Id, method: Method, message: Message, stream: Stream) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.asks.insert(ticket, (id, None));
        if self.server.era() == Era::Stateless {
            return self.refuse(ticket, "a server of 2026-07-28 sends no requests");
        }
        if self.asks.len() > MAX_ASKS {
            return self.refuse(ticket, "too many requests to the client are open");
        }
        let ask = Ask { ticket, method, message };
        if let Stream::Of(key) = stream
            && !(self.shared && related_task(&ask.message).is_some())
        {
            return self.handle_ask_of(key, ask);
        }
        if self.shared {
            return self.handle_shared_ask(ask);
        }
        if stream == Stream::Apart {
            return self.events.push_back(Event::Ask(ask));
        }
        // A question of a task does not end with whatever call is under way.
        let of_task = related_task(&ask.message).is_some();
        let mut askers = self.slots.iter().filter(|(_, live)| !of_task && live.may_ask()).map(|(key, _)| key);
        let (first, second) = (askers.next(), askers.next());
        drop(askers);
        match (first, second, self.slots.only(|l| !l.own && !l.done)) {
            (Some(key), None, _) => self.put(key, ask),
            // It goes where the client looks now, but does not end with a call that asks nothing.
            (None, _, Some(key)) => self.push(key, Reply::Ask(ask)),
            _ => self.events.push_back(Event::Ask(ask)),
        }
    }

    /// A question on the stream of that call.
    pub(super) fn handle_ask_of(&mut self, key: Key, ask: Ask) {
        let shared = self.shared;
        // Its answer may have come on another stream, and wait to be taken.
        match self.live(key).filter(|live| !live.done || live.cut) {
            None => self.refuse(ask.ticket, "the call that this is asked for is over"),
            // Its session may be asked at any time.
            Some(live) if !shared && live.own => self.events.push_back(Event::Ask(ask)),
            Some(live) if shared && live.asker.is_none() => {
                self.refuse(ask.ticket, "this request is one that its client cannot be asked anything for");
            }
            Some(_) => {
                // Where two calls may ask, not every server says which of them does.
                self.has_asked |= shared;
                self.put(key, ask);
            }
        }
    }

    /// A question on a pipe that clients share: it must belong to one call, and be seen to.
    pub(super) fn handle_shared_ask(&mut self, ask: Ask) {
        if let Some(task) = related_task(&ask.message) {
            let waits = |l: &Live| !l.done && l.task.as_deref() == Some(&task);
            let waiting = self.slots.iter().find(|(_, l)| waits(l)).map(|(key, _)| key);
            return match waiting {
                Some(key) => self.put(key, ask),
                None => self.keep_early(task, ask),
            };
        }
        // Clients that share a process can mostly be asked the same, so the first few tell.
        const LOOK: usize = 16;
        let mut candidates = Vec::new();
        let mut can_answer = false;
        for (key, live) in self.slots.iter().filter(|(_, live)| live.may_ask()) {
            candidates.push(key);
            let looks = !can_answer && candidates.len() <= LOOK;
            can_answer |= looks && live.asker.as_ref().is_some_and(|client| client.lacks(&ask).is_none());
        }
        // What a server asks when it has just started says nothing about its calls.
        self.has_asked |= !candidates.is_empty();
        match candidates[..] {
            [] => self.refuse(ask.ticket, "no call is under way whose client could be asked"),
            [key] => self.put(key, ask),
            _ if !can_answer => self.refuse(ask.ticket, "no client of this server can be asked that"),
            _ if self.held.is_some() => {
                const WHY: &str = "several questions came while several calls were under way, and it cannot be told whose they are";
                self.refuse(ask.ticket, WHY);
                self.refuse_held(WHY);
            }
            _ => self.held = Some(Held { ask, candidates, until: None }),
        }
    }

    /// A call has ended, so it is not the one whose question is held.
    pub(super) fn settle_held(&mut self, ended: Key) {
        let Some(held) = &mut self.held else { return };
        held.candidates.retain(|key| *key != ended);
        if let [key] = held.candidates[..]
            && let Some(held) = self.held.take()
        {
            self.put(key, held.ask);
        }
    }

    pub(super) fn refuse_held(&mut self, why: &str) {
        if let Some(held) = self.held.take() {
            self.refuse(held.ask.ticket, why);
        }
    }

    /// Tells the server that nobody will answer.
    pub(super) fn refuse(&mut self, ticket: u64, why: &str) {
        let error = Fault::gateway(FaultKind::Untranslatable).tell(why).error();
        self.answer(ticket, Err(error.as_bytes()));
    }

    /// A question is one of that call.
    pub(super) fn put(&mut self, key: Key, ask: Ask) {
        match self.live(key).filter(|live| !live.cut) {
            Some(live) => {
                live.asks.push(ask.ticket);
                if live.task.is_some() {
                    live.task_asks.push(Ask { message: ask.message.clone(), method: ask.method.clone(), ..ask });
                }
                if let Some((_, of)) = self.asks.get_mut(&ask.ticket) {
                    *of = Some(key);
                }
                self.push(key, Reply::Ask(ask));
            }
            None => self.refuse(ask.ticket, "the call that this is asked for was given up"),
        }
    }

    /// Takes a question back that nobody has taken yet; false if it was.
    pub(super) fn take_back(&mut self, ticket: u64) -> bool {
        let is_it = |ask: &Ask| ask.ticket == ticket;
        if self.held.take_if(|held| is_it(&held.ask)).is_some() {
            return true;
        }
        let early = self.early.len();
        self.early.retain(|e| !is_it(&e.ask));
        if self.early.len() < early {
            return true;
        }
        let events = self.events.len();
        self.events.retain(|e| !matches!(e, Event::Ask(ask) if is_it(ask)));
        let mut found = self.events.len() < events;
        for (_, live) in self.slots.iter_mut() {
            if let Some(at) = live.queue.iter().position(|r| matches!(r, Reply::Ask(ask) if is_it(ask)))
                && let Some(reply) = live.queue.remove(at)
            {
                live.queued_bytes = live.queued_bytes.saturating_sub(size(&reply));
                found = true;
            }
        }
        found
    }
}

/// The task that a question belongs to (2025-11-25).
fn related_task(message: &Message) -> Option<String> {
    let [meta] = message.params_fields(&["_meta"]).ok()?;
    let [related] = message.fields_at(meta?, &[tasks::META_RELATED]).ok()?;
    let [task] = message.fields_at(related?, &["taskId"]).ok()?;
    message.string_at(task).map(|task| task.into_owned())
}
