//! The calls under way, and the ids they have on the pipe.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;

use super::logs::Logs;
use crate::bridge::Increasing;
use crate::call::{Ask, Client, Reply};

/// Bits of an id that are the slot's number; the rest counts how often the slot was used, so
/// that a late answer never meets the slot's next call. Ids stay below 2^53.
const SLOT_BITS: u32 = 20;

/// A call under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    fn of_slot(slot: usize, uses: u32) -> Key {
        Key((u64::from(uses) << SLOT_BITS) | slot as u64)
    }

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

/// Places for calls. One that is left is used again, with another id.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
    in_flight: usize,
    ghosts: usize,
}

#[derive(Debug, Default)]
struct Slot {
    uses: u32,
    live: Option<Live>,
}

#[derive(Debug)]
pub(super) struct Live {
    /// The client's progress token, as it wrote it.
    pub(super) token: Option<Bytes>,
    pub(super) progress: Increasing,
    pub(super) logs: Logs,
    pub(super) queue: VecDeque<Reply>,
    pub(super) queued_bytes: usize,
    /// Who could be asked something before it ends.
    pub(super) asker: Option<Arc<Client>>,
    /// The task whose result it waits for: its questions come here.
    pub(super) task: Option<String>,
    /// Nobody takes its replies; the slot only waits for the answer, so that it is no stray.
    pub(super) forgotten: bool,
    /// Questions of the server while this call ran.
    pub(super) asks: Vec<u64>,
    /// Those of a task, in case somebody else waits for its result.
    pub(super) task_asks: Vec<Ask>,
    pub(super) done: bool,
    /// It was we who ended it; the server may not know yet.
    pub(super) cut: bool,
    /// Nobody's any more, but the server may still be at it.
    pub(super) ghost: bool,
    /// As long as a question would be held; counts from the first look at the clock.
    pub(super) ghost_until: Option<Instant>,
    pub(super) waker: Option<Waker>,
    pub(super) deadline: Instant,
    /// A request of ours: no client waits for it.
    pub(super) own: bool,
    /// A `subscriptions/listen` of ours: has no deadline, and its notes are notices.
    pub(super) listen: bool,
}

impl Live {
    /// A call that has just begun.
    pub(super) fn new(token: Option<Bytes>, logs: Logs, listen: bool, deadline: Instant) -> Live {
        Live {
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
            cut: false,
            ghost: false,
            ghost_until: None,
            waker: None,
            deadline,
            own: false,
            listen,
        }
    }

    /// Whether the server may still ask something for it.
    pub(super) fn may_ask(&self) -> bool {
        // Questions of a task name it.
        self.asker.is_some() && self.task.is_none() && (!self.done || self.cut)
    }
}

impl Slots {
    /// How many are in flight: neither listens nor ghosts.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many are nobody's any more.
    pub(super) fn ghosts(&self) -> usize {
        self.ghosts
    }

    pub(super) fn occupy(&mut self, live: Live) -> Key {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.all.push(Slot::default());
            self.all.len() - 1
        });
        self.in_flight += usize::from(!live.listen);
        self.all[slot].uses = self.all[slot].uses.wrapping_add(1);
        self.all[slot].live = Some(live);
        Key::of_slot(slot, self.all[slot].uses)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Live> {
        self.all.get_mut(key.slot()).filter(|slot| key == Key::of_slot(key.slot(), slot.uses))?.live.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Live)> {
        self.all.iter().enumerate().filter_map(|(n, slot)| Some((Key::of_slot(n, slot.uses), slot.live.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Live)> {
        self.all.iter_mut().enumerate().filter_map(|(n, slot)| Some((Key::of_slot(n, slot.uses), slot.live.as_mut()?)))
    }

    /// The one like that, if there is exactly one.
    pub(super) fn only(&self, is_one: impl Fn(&Live) -> bool) -> Option<Key> {
        let mut found = self.iter().filter(|(_, live)| is_one(live));
        let (key, _) = found.next()?;
        found.next().is_none().then_some(key)
    }

    /// The call is nobody's any more, but its slot stays.
    pub(super) fn haunt(&mut self, key: Key) {
        let Some(live) = self.get(key).filter(|live| !live.ghost) else { return };
        live.ghost = true;
        live.done = true;
        live.logs = Logs::Never;
        (live.queue, live.queued_bytes) = (VecDeque::new(), 0);
        (live.waker, live.token, live.task) = (None, None, None);
        let counted = !live.listen;
        self.in_flight -= usize::from(counted);
        self.ghosts += 1;
    }

    /// The slot is free; false if it was.
    pub(super) fn leave(&mut self, key: Key) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let Some(live) = self.all[key.slot()].live.take() else { return false };
        self.in_flight -= usize::from(!live.listen && !live.ghost);
        self.ghosts -= usize::from(live.ghost);
        self.free.push(key.slot());
        true
    }
}
