//! What an HTTP response carries: all of it at once, or a stream somebody pulls.
//!
//! A stream has no task and no channel of ours: hyper polls the body, the body polls the call or
//! the session. What a client that went away leaves behind is decided by the drop: a stateless
//! call is withdrawn, a session's call runs on and its answer waits in the session.

mod beats;
mod session;
mod stateless;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::pages::{BodyError, PageBody};
pub use beats::{Beat, Beats};
pub use session::{SessionBody, SessionCall};
pub use stateless::{Beginning, CallBody, LateBody, ListenBody, Listened, Opening, StatelessCall, StatelessListen};

/// The body of every response of ours.
pub enum Body {
    /// Nothing, or one piece.
    Full(Option<Bytes>),
    /// One call's replies, to a stateless client.
    Call(Box<CallBody>),
    /// A stream of a session.
    Session(Box<SessionBody>),
    /// A `subscriptions/listen`.
    Listen(Box<ListenBody>),
    /// One answer that takes its time.
    Late(Box<LateBody>),
    /// A page of somebody else's.
    Page(PageBody),
}

impl Body {
    /// No body.
    pub fn empty() -> Body {
        Body::Full(None)
    }

    /// A body in one piece.
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        Body::Full(Some(bytes.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = match self.get_mut() {
            Body::Full(bytes) => Poll::Ready(bytes.take()),
            Body::Call(body) => body.poll(cx),
            Body::Session(body) => body.poll(cx),
            Body::Listen(body) => body.poll(cx),
            Body::Late(body) => body.poll(cx),
            Body::Page(body) => return Pin::new(body).poll_frame(cx),
        };
        next.map(|bytes| bytes.map(|b| Ok(Frame::data(b))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Full(bytes) => bytes.is_none(),
            Body::Page(body) => body.is_end_stream(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Page(body) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}
