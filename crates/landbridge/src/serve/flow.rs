//! Whether an HTTP/2 connection is still used.
//!
//! Over HTTP/1.1 a client that does not read is seen at the socket. Over HTTP/2 it may read the socket, answer
//! every ping, and give a stream no room; what is to be said on it would wait forever. So each body is handed out
//! in pieces, and notes since when the client has one it may not have taken: a body that has more and is not
//! asked for it is stuck. And a connection with nothing under way is idle, for as long as a head may take.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep};

use crate::body::Body;

/// What is handed out at once: what has no room waits here, and not where it cannot be seen.
const PIECE: usize = 16 * 1024;
/// The client has all there is.
const NOTHING: u64 = u64::MAX;

/// What is under way on a connection.
pub(super) struct Flow {
    began: Instant,
    now: Mutex<Now>,
}

struct Now {
    /// For each request under way: since when its client has a piece, in milliseconds since the beginning.
    waiting: Vec<Arc<AtomicU64>>,
    /// When the last of them ended.
    ended: Instant,
}

impl Flow {
    pub(super) fn new() -> Arc<Flow> {
        let began = Instant::now();
        Arc::new(Flow { began, now: Mutex::new(Now { waiting: Vec::new(), ended: began }) })
    }

    /// A request, for as long as what is returned is there.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let since = Arc::new(AtomicU64::new(NOTHING));
        self.now().waiting.push(since.clone());
        UnderWay { flow: self.clone(), since }
    }

    /// Returns when nothing was under way for so long.
    pub(super) async fn idle(&self, patience: Duration) {
        loop {
            let left = {
                let now = self.now();
                let since = if now.waiting.is_empty() { now.ended } else { Instant::now() };
                (since + patience).saturating_duration_since(Instant::now())
            };
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }

    /// Returns when a body was not asked for more for so long, though it may have more.
    pub(super) async fn stuck(&self, patience: Duration) {
        loop {
            sleep(patience / 4).await;
            let now = self.elapsed();
            let oldest = self.now().waiting.iter().map(|since| since.load(Ordering::Relaxed)).min().unwrap_or(NOTHING);
            if now.saturating_sub(oldest) > patience.as_millis() as u64 {
                return;
            }
        }
    }

    fn elapsed(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request.
pub(super) struct UnderWay {
    flow: Arc<Flow>,
    since: Arc<AtomicU64>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut now = self.flow.now();
        now.waiting.retain(|since| !Arc::ptr_eq(since, &self.since));
        now.ended = Instant::now();
    }
}

/// A body that is watched.
pub(super) struct Flowing {
    body: Body,
    /// What was not handed out yet of what the body gave.
    rest: Bytes,
    under_way: UnderWay,
}

impl Flowing {
    pub(super) fn new(body: Body, under_way: UnderWay) -> Flowing {
        // Its head is a piece too: there may be no room from the beginning.
        under_way.since.store(under_way.flow.elapsed(), Ordering::Relaxed);
        Flowing { body, rest: Bytes::new(), under_way }
    }
}

impl http_body::Body for Flowing {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            match polled {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => {
                    this.under_way.since.store(NOTHING, Ordering::Relaxed);
                    return other;
                }
            }
        }
        this.under_way.since.store(this.under_way.flow.elapsed(), Ordering::Relaxed);
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_asked_for_more_is_stuck() {
        let flow = Flow::new();
        let mut body = Flowing::new(Body::full(Bytes::from(vec![7; PIECE + 1])), flow.begin());
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(PIECE as u64 + 1));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), PIECE);
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(1));
        assert!(!http_body::Body::is_end_stream(&body));
        let began = Instant::now();
        flow.stuck(PATIENCE).await;
        assert!(began.elapsed() >= PATIENCE && began.elapsed() <= PATIENCE * 3 / 2);
        // Asked again, it is not; and it never is when it is gone.
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1);
        assert!(http_body::Body::is_end_stream(&body));
        drop(body);
        assert!(tokio::time::timeout(PATIENCE * 10, flow.stuck(PATIENCE)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_nothing_was_under_way_for_long() {
        let flow = Flow::new();
        let began = Instant::now();
        let request = flow.begin();
        assert!(tokio::time::timeout(PATIENCE * 10, flow.idle(PATIENCE)).await.is_err());
        // Nor is one stuck that has no answer yet.
        assert!(tokio::time::timeout(PATIENCE * 10, flow.stuck(PATIENCE)).await.is_err());
        drop(request);
        let ended = Instant::now();
        flow.idle(PATIENCE).await;
        assert_eq!((ended - began, ended.elapsed()), (PATIENCE * 20, PATIENCE));
    }
}
