//! Keepalive: one timer for every open stream.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use landbridge_proto::sse;

use crate::backend::lock;

/// Wakes every open stream once a period, so that it sends a comment: one timer for all.
#[derive(Debug)]
pub struct Beats {
    slots: Vec<Mutex<Vec<Weak<Beat>>>>,
    next: AtomicUsize,
}

/// A stream's share of it.
#[derive(Debug, Default)]
pub struct Beat {
    due: AtomicBool,
    waker: Mutex<Option<Waker>>,
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
            beat.due.store(true, Ordering::Release);
            if let Some(waker) = lock(&beat.waker).take() {
                waker.wake();
            }
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
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let taken = || self.due.swap(false, Ordering::AcqRel);
        if taken() {
            return Poll::Ready(Bytes::from_static(sse::COMMENT));
        }
        *lock(&self.waker) = Some(cx.waker().clone());
        if taken() { Poll::Ready(Bytes::from_static(sse::COMMENT)) } else { Poll::Pending }
    }
}
