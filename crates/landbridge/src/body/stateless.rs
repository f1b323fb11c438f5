//! What a stateless client gets as a stream. Dropped, it withdraws its call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use landbridge_proto::call::{Outcome, Reply};
use landbridge_proto::fault::Fault;
use landbridge_proto::front::streamable::answer;
use landbridge_proto::message::Id;
use landbridge_proto::sse;

use crate::backend::{Replies, lock};
use crate::body::beats::{Beat, Beats};
use crate::gateway::Listening;

/// A call that is not under way yet: its server is being started, perhaps.
pub type Beginning = Pin<Box<dyn Future<Output = Result<Replies, Fault>> + Send>>;

/// How far a call is.
pub(super) enum Stage {
    Beginning(Beginning),
    Running(Replies),
    Over,
}

/// One call of a stateless client, answered as a stream.
pub struct CallBody {
    stage: Stage,
    id: Id,
    first: Option<Bytes>,
    beat: Arc<Beat>,
}

impl CallBody {
    /// A call that has begun; `first` is what it has said already.
    pub fn new(replies: Replies, id: Id, first: Option<Bytes>, beats: &Beats) -> CallBody {
        CallBody { stage: Stage::Running(replies), id, first: first.or(Some(Bytes::from_static(sse::COMMENT))), beat: beats.join() }
    }

    /// A call that is still beginning.
    pub fn beginning(begin: Beginning, id: Id, beats: &Beats) -> CallBody {
        CallBody { stage: Stage::Beginning(begin), id, first: Some(Bytes::from_static(sse::COMMENT)), beat: beats.join() }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let outcome = loop {
            match &mut self.stage {
                Stage::Over => return Poll::Ready(None),
                Stage::Beginning(begin) => match begin.as_mut().poll(cx) {
                    Poll::Ready(Ok(replies)) => self.stage = Stage::Running(replies),
                    Poll::Ready(Err(fault)) => break Outcome::Fault(fault),
                    Poll::Pending => return self.beat.poll(cx).map(Some),
                },
                Stage::Running(replies) => match replies.poll_next(cx) {
                    Poll::Ready(Reply::Note(note)) => return Poll::Ready(Some(sse::event(None, None, &note.message))),
                    Poll::Ready(Reply::Ask(ask)) => replies.refuse(ask.ticket),
                    Poll::Ready(Reply::Withdrawn(_)) => {}
                    Poll::Ready(Reply::Done(outcome)) => break outcome,
                    Poll::Pending => return self.beat.poll(cx).map(Some),
                },
            }
        };
        self.stage = Stage::Over;
        Poll::Ready(Some(sse::event(None, None, &answer(&self.id, &outcome))))
    }
}

/// One answer that takes its time, as a stream of one event.
pub struct LateBody {
    answer: Option<Pin<Box<dyn Future<Output = Vec<u8>> + Send>>>,
    beat: Arc<Beat>,
    first: bool,
}

impl LateBody {
    /// The message that answers, once it is there.
    pub fn new(answer: Pin<Box<dyn Future<Output = Vec<u8>> + Send>>, beats: &Beats) -> LateBody {
        LateBody { answer: Some(answer), beat: beats.join(), first: true }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if std::mem::take(&mut self.first) {
            return Poll::Ready(Some(Bytes::from_static(sse::COMMENT)));
        }
        let Some(answer) = &mut self.answer else { return Poll::Ready(None) };
        match answer.as_mut().poll(cx) {
            Poll::Ready(message) => {
                self.answer = None;
                Poll::Ready(Some(sse::event(None, Some("message"), &message)))
            }
            Poll::Pending => self.beat.poll(cx).map(Some),
        }
    }
}

/// A `subscriptions/listen` of a stateless client.
pub struct ListenBody {
    stage: Listened,
    id: Id,
    beat: Arc<Beat>,
    first: bool,
}

/// A stream of changes that is not open yet.
pub type Opening = Pin<Box<dyn Future<Output = Result<Listening, Fault>> + Send>>;

/// How far such a stream is.
pub enum Listened {
    /// Its server is being started, or has not acknowledged yet.
    Opening(Opening),
    /// It is open.
    Open(Listening),
    /// It could not be opened, and its client was told.
    Refused,
}

impl ListenBody {
    /// The stream that the request `id` asked for.
    pub fn new(stage: Listened, id: Id, beats: &Beats) -> ListenBody {
        ListenBody { stage, id, beat: beats.join(), first: true }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if std::mem::take(&mut self.first) {
            return Poll::Ready(Some(Bytes::from_static(sse::COMMENT)));
        }
        loop {
            match &mut self.stage {
                Listened::Refused => return Poll::Ready(None),
                Listened::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Ready(Ok(listening)) => self.stage = Listened::Open(listening),
                    Poll::Ready(Err(fault)) => {
                        self.stage = Listened::Refused;
                        return Poll::Ready(Some(sse::event(None, None, &answer(&self.id, &Outcome::Fault(fault)))));
                    }
                    Poll::Pending => return self.beat.poll(cx).map(Some),
                },
                Listened::Open(listening) => {
                    let event = lock(&listening.queue).poll_event(cx.waker());
                    return if event.is_pending() { self.beat.poll(cx).map(Some) } else { event };
                }
            }
        }
    }
}
