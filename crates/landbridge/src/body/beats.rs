//! Keepalive: one timer for every open stream. And its end, when what lets it be does not count any more.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::sse;

use crate::backend::lock;

/// Wakes every open stream once a period, so that it sends a comment: one timer for all.
#[derive(Debug)]
pub struct Beats {
    slots: Vec<Mutex<Vec<Weak<Beat>>>>,
    next: AtomicUsize,
}

/// A stream, to whoever wakes it: that timer, and whoever finds that it may not go on.
#[derive(Default)]
pub struct Beat {
    due: AtomicBool,
    over: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// The credential that lets it be, if one has to.
    by: Mutex<Option<Hash>>,
}

impl fmt::Debug for Beat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Beat")
    }
}

impl Beats {
    /// The parts a period is cut into, so that not all streams wake at once.
    pub const SLOTS: usize = 15;

    /// No streams yet.
    pub fn new() -> Beats {
        Beats { slots: (0..Beats::SLOTS).map(|_| Mutex::default()).collect(), next: Default::default() }
    }

    /// A new stream takes part.
    pub fn join(&self) -> Arc<Beat> {
        let beat = Arc::new(Beat::default());
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % Beats::SLOTS;
        lock(&self.slots[slot]).push(Arc::downgrade(&beat));
        beat
    }

    /// The period has come to its part `tick`.
    pub fn tick(&self, tick: usize) {
        let mut slot = lock(&self.slots[tick % Beats::SLOTS]);
        slot.retain(|beat| {
            let Some(beat) = beat.upgrade() else { return false };
            beat.wake();
            true
        });
        if slot.capacity() > 4 * slot.len() + 64 {
            slot.shrink_to_fit();
        }
    }
}

impl Default for Beats {
    fn default() -> Beats {
        Beats::new()
    }
}

impl Beat {
    /// From now on this credential lets it be, in place of another; whether it did not before.
    pub(crate) fn let_by(&self, credential: &Hash) -> bool {
        let mut by = lock(&self.by);
        if by.as_ref() == Some(credential) {
            return false;
        }
        *by = Some(*credential);
        self.over.store(false, Ordering::Release);
        true
    }

    /// Whether it is this credential that lets it be.
    pub(crate) fn is_let_by(&self, credential: &Hash) -> bool {
        lock(&self.by).as_ref() == Some(credential)
    }

    /// This credential counts no more: unless another lets it be by now, the stream is to end. Whether it is.
    pub(crate) fn end(&self, credential: &Hash) -> bool {
        let by = lock(&self.by);
        if by.as_ref() != Some(credential) {
            return false;
        }
        self.over.store(true, Ordering::Release);
        drop(by);
        self.wake();
        true
    }

    /// Whether the stream is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn wake(&self) {
        self.due.store(true, Ordering::Release);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let taken = || self.due.swap(false, Ordering::AcqRel);
        if taken() {
            return Poll::Ready(Bytes::from_static(sse::COMMENT));
        }
        *lock(&self.waker) = Some(cx.waker().clone());
        if taken() { Poll::Ready(Bytes::from_static(sse::COMMENT)) } else { Poll::Pending }
    }
}
