//! What waits to be written to a server, and in which order.
//!
//! On a pipe what is written first is read first. Where each call goes its own way, what others rely on is to be
//! answered before they are sent: [`What::First`].

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::{Key, Link};

/// A line for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// The message, with its end of line.
    pub line: Bytes,
    /// What it is.
    pub what: What,
}

/// What a line for the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The request of this call.
    Call(Key),
    /// The same, and what follows relies on its having been answered. On a pipe that goes without saying.
    First(Key),
    /// This call is not wanted any more.
    Cancel(Key),
    /// An answer to the server, for the session that it asked in: the how-manieth it is.
    Answer(u64),
    /// A notification.
    Word,
}

impl Link {
    /// Waits until there is something to write, or never will be.
    pub fn poll_queued(&mut self, waker: &Waker) -> Poll<()> {
        if !self.out.is_empty() || self.closed.is_some() {
            return Poll::Ready(());
        }
        match &mut self.writer {
            Some(old) if old.will_wake(waker) => {}
            slot => *slot = Some(waker.clone()),
        }
        Poll::Pending
    }

    /// What the server is to be written, all lines at once; `None`: the pipe is closed. Whoever sends calls
    /// at once besides says when what others rely on is done ([`Link::settled`]).
    pub fn take_queued(&mut self) -> Option<VecDeque<Queued>> {
        self.out_bytes = 0;
        self.settling |= self.out.iter().any(|queued| matches!(queued.what, What::First(_)));
        (self.closed.is_none()).then(|| std::mem::take(&mut self.out))
    }

    /// What was taken and is to be read before what follows has been.
    pub fn settled(&mut self) {
        self.settling = false;
    }

    /// Whether nothing is to be read before what is sent now, besides what is taken.
    pub fn is_settled(&self) -> bool {
        self.closed.is_some() || !(self.settling || self.has_first())
    }

    fn has_first(&self) -> bool {
        self.out.iter().any(|queued| matches!(queued.what, What::First(_)))
    }

    /// A call was taken and is about to be sent: its line, unless it has been withdrawn meanwhile, or another
    /// session has to be told first what it relies on. Then it is queued again, behind that.
    pub fn let_go(&mut self, key: Key, line: Bytes) -> Option<Bytes> {
        if !self.is_wanted(key) {
            return None;
        }
        if !self.has_first() {
            return Some(line);
        }
        self.send(What::Call(key), line);
        None
    }

    pub(super) fn send(&mut self, what: What, line: Bytes) {
        self.out_bytes += line.len();
        // What calls rely on goes before those that wait: in another session they rely on it too.
        let is_call = |queued: &Queued| matches!(queued.what, What::Call(_));
        let at = match what {
            What::First(_) => self.out.iter().position(is_call).unwrap_or(self.out.len()),
            _ => self.out.len(),
        };
        self.out.insert(at, Queued { line, what });
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}
