//! What a stateless client gets: messages, and over HTTP streams of them. Dropped, it withdraws its call.

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

pub use crate::backend::replies::Beginning;
use crate::backend::{Replies, lock};
use crate::body::beats::Beat;
use crate::gateway::Listening;

/// How far a call is.
#[expect(clippy::large_enum_variant, reason = "most are running, from their first moment on")]
pub(super) enum Stage {
    Beginning(Beginning),
    Running(Replies),
    Over,
}

/// One call of a stateless client, under way. Whoever owns it pulls.
pub struct StatelessCall {
    stage: Stage,
    id: Id,
}

impl StatelessCall {
    /// A call that has begun.
    pub fn new(replies: Replies, id: Id) -> StatelessCall {
        StatelessCall { stage: Stage::Running(replies), id }
    }

    /// A call that is still beginning.
    pub fn beginning(begin: Beginning, id: Id) -> StatelessCall {
        StatelessCall { stage: Stage::Beginning(begin), id }
    }

    /// By what its client knows it.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// The next message for the client; `None` behind the answer.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let outcome = loop {
            match &mut self.stage {
                Stage::Over => return Poll::Ready(None),
                Stage::Beginning(begin) => match std::task::ready!(begin.as_mut().poll(cx)) {
                    Ok(replies) => self.stage = Stage::Running(replies),
                    Err(fault) => break Outcome::Fault(fault),
                },
                Stage::Running(replies) => match std::task::ready!(replies.poll_next(cx)) {
                    Reply::Note(note) => return Poll::Ready(Some(note.message)),
                    // Such a client is never asked.
                    Reply::Ask(ask) => replies.refuse(ask.ticket),
                    Reply::Withdrawn(_) => {}
                    Reply::Done(outcome) => break outcome,
                },
            }
        };
        self.stage = Stage::Over;
        Poll::Ready(Some(answer(&self.id, &outcome).into()))
    }
}

/// One call of a stateless client, answered as a stream.
pub struct CallBody {
    call: StatelessCall,
    first: Option<Bytes>,
    beat: Arc<Beat>,
}

impl CallBody {
    /// The stream of a call; `first` is what it has said already.
    pub fn new(call: StatelessCall, first: Option<Bytes>, beat: Arc<Beat>) -> CallBody {
        CallBody { call, first: first.or(Some(Bytes::from_static(sse::COMMENT))), beat }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        match self.call.poll_message(cx) {
            Poll::Ready(message) => Poll::Ready(message.map(|message| sse::event(None, None, &message))),
            Poll::Pending => self.beat.poll(cx).map(Some),
        }
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
    pub fn new(answer: Pin<Box<dyn Future<Output = Vec<u8>> + Send>>, beat: Arc<Beat>) -> LateBody {
        LateBody { answer: Some(answer), beat, first: true }
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

/// A `subscriptions/listen` of a stateless client. Dropped, it ends.
pub struct StatelessListen {
    stage: Listened,
    id: Id,
}

impl StatelessListen {
    /// What the request `id` asked for.
    pub fn new(stage: Listened, id: Id) -> StatelessListen {
        StatelessListen { stage, id }
    }

    /// By what its client knows it.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Whether it ended without a result.
    pub fn is_broken_off(&self) -> bool {
        matches!(&self.stage, Listened::Open(listening) if lock(&listening.queue).is_broken_off())
    }

    /// The next message for the client; `None` behind the last.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.stage {
                Listened::Refused => return Poll::Ready(None),
                Listened::Opening(opening) => match std::task::ready!(opening.as_mut().poll(cx)) {
                    Ok(listening) => self.stage = Listened::Open(listening),
                    Err(fault) => {
                        self.stage = Listened::Refused;
                        return Poll::Ready(Some(answer(&self.id, &Outcome::Fault(fault)).into()));
                    }
                },
                Listened::Open(listening) => return lock(&listening.queue).poll_message(cx.waker()),
            }
        }
    }
}

/// The same as a stream, which ends with the right of whoever opened it.
pub struct ListenBody {
    listen: StatelessListen,
    beat: Arc<Beat>,
    first: bool,
}

impl ListenBody {
    /// Its stream.
    pub fn new(listen: StatelessListen, beat: Arc<Beat>) -> ListenBody {
        ListenBody { listen, beat, first: true }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if std::mem::take(&mut self.first) {
            return Poll::Ready(Some(Bytes::from_static(sse::COMMENT)));
        }
        // Without its result, which would say that nothing is left to be told: the client is to come back.
        if self.beat.is_over() {
            return Poll::Ready(None);
        }
        match self.listen.poll_message(cx) {
            Poll::Ready(message) => Poll::Ready(message.map(|message| sse::event(None, None, &message))),
            Poll::Pending => self.beat.poll(cx).map(Some),
        }
    }
}
