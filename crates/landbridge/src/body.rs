//! What an HTTP response carries: all of it at once, or a stream somebody pulls.
//!
//! A stream has no task and no channel of ours: hyper polls the body, the body polls the call or
//! the session. What a client that went away leaves behind is decided by the drop: a stateless
//! call is withdrawn, a session's call runs on and its answer waits in the session.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use landbridge_proto::call::{Level, Note, Outcome, Reply};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::{Reader, Tag, Transport};
use landbridge_proto::front::streamable::answer;
use landbridge_proto::message::{Id, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::sse;

use crate::backend::{Replies, lock};
use crate::gateway::{Gateway, Listening};
use crate::sessions::Live;

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
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Body::Full(bytes) => Poll::Ready(bytes.take()),
            Body::Call(body) => body.poll(cx),
            Body::Session(body) => body.poll(cx),
            Body::Listen(body) => body.poll(cx),
            Body::Late(body) => body.poll(cx),
        };
        next.map(|bytes| bytes.map(|b| Ok(Frame::data(b))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            _ => SizeHint::default(),
        }
    }
}

// --- keepalive ------------------------------------------------------------------------------

/// Wakes every open stream once a period, so that it sends a comment: one timer for all.
#[derive(Debug)]
pub struct Beats {
    slots: Vec<Mutex<Vec<Weak<Beat>>>>,
    next: std::sync::atomic::AtomicUsize,
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
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let taken = || self.due.swap(false, Ordering::AcqRel);
        if taken() {
            return Poll::Ready(Bytes::from_static(sse::COMMENT));
        }
        *lock(&self.waker) = Some(cx.waker().clone());
        if taken() { Poll::Ready(Bytes::from_static(sse::COMMENT)) } else { Poll::Pending }
    }
}

// --- stateless ------------------------------------------------------------------------------

/// A call that is not under way yet: its server is being started, perhaps.
pub type Beginning = Pin<Box<dyn Future<Output = Result<Replies, Fault>> + Send>>;

/// How far a call is.
enum Stage {
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
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

// --- sessions -------------------------------------------------------------------------------

/// A call of a session, under way. Whoever owns it pulls; when it is dropped before its end, it
/// runs on by itself, because to a handshake client a lost connection is not a cancellation.
pub struct SessionCall {
    inner: Option<Running>,
}

impl std::fmt::Debug for SessionCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionCall")
    }
}

struct Running {
    live: Arc<Live>,
    id: Id,
    tag: Option<Tag>,
    stage: Stage,
    /// The stream its messages go to once it has one.
    stream: Option<u32>,
    /// The client reads no stream: it only gets the end.
    mute: bool,
}

impl SessionCall {
    /// A call that has begun.
    pub fn new(live: Arc<Live>, id: Id, replies: Replies, mute: bool) -> SessionCall {
        let (tag, stage) = (replies.tag(), Stage::Running(replies));
        SessionCall { inner: Some(Running { live, id, tag, stage, stream: None, mute }) }
    }

    /// A call that is still beginning.
    pub fn beginning(live: Arc<Live>, id: Id, begin: Beginning, mute: bool) -> SessionCall {
        SessionCall { inner: Some(Running { live, id, tag: None, stage: Stage::Beginning(begin), stream: None, mute }) }
    }

    /// From now on its messages belong to this stream.
    pub fn ride_on(&mut self, stream: u32) {
        if let Some(running) = &mut self.inner {
            running.stream = Some(stream);
        }
    }

    /// The next message for the client, and whether it is the answer; `None` behind that. The
    /// call is to be dropped only after its answer is on its way.
    pub fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Vec<u8>, bool)>> {
        match &mut self.inner {
            None | Some(Running { stage: Stage::Over, .. }) => Poll::Ready(None),
            Some(running) => running.poll_message(cx).map(Some),
        }
    }
}

impl Drop for SessionCall {
    fn drop(&mut self) {
        let Some(running) = self.inner.take().filter(|r| !matches!(r.stage, Stage::Over)) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(running.run());
        }
    }
}

impl Running {
    async fn run(mut self) {
        loop {
            let (message, last) = std::future::poll_fn(|cx| self.poll_message(cx)).await;
            self.deliver(&message, last);
            if last {
                return;
            }
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<(Vec<u8>, bool)> {
        let outcome = loop {
            let replies = match &mut self.stage {
                Stage::Over => break Outcome::Fault(Fault::gateway(Kind::Backend).tell("the call has ended already")),
                Stage::Beginning(begin) => match std::task::ready!(begin.as_mut().poll(cx)) {
                    Ok(replies) => {
                        self.tag = replies.tag();
                        self.stage = Stage::Running(replies);
                        continue;
                    }
                    Err(fault) => break Outcome::Fault(fault),
                },
                Stage::Running(replies) => replies,
            };
            match std::task::ready!(replies.poll_next(cx)) {
                Reply::Note(note) if self.mute || is_too_quiet(&self.live, &note) => {}
                Reply::Note(note) => return Poll::Ready((note.message.to_vec(), false)),
                Reply::Ask(ask) if self.mute => replies.refuse(ask.ticket),
                Reply::Ask(ask) => {
                    let tag = Tag { link: self.tag.map_or(0, |t| t.link), number: ask.ticket };
                    match lock(&self.live.state).ask(&ask, tag) {
                        Some(message) => return Poll::Ready((message.to_vec(), false)),
                        None => replies.refuse(ask.ticket),
                    }
                }
                Reply::Done(outcome) => break outcome,
            }
        };
        self.stage = Stage::Over;
        let withdrawn = matches!(&outcome, Outcome::Fault(Fault { kind: Kind::Cancelled, .. }));
        // Over HTTP+SSE nobody waits for the answer to a call it withdrew.
        let silent = withdrawn && lock(&self.live.state).transport() == Transport::Sse;
        Poll::Ready((if silent { Vec::new() } else { answer(&self.id, &outcome) }, true))
    }

    fn deliver(&self, message: &[u8], last: bool) {
        if message.is_empty() {
            return;
        }
        let mut state = lock(&self.live.state);
        match (state.transport(), self.stream) {
            (Transport::Sse, _) => state.append(0, message, false, Instant::now()),
            (Transport::Streamable, Some(stream)) => state.append(stream, message, last, Instant::now()),
            // The client left before it had a stream to come back to.
            (Transport::Streamable, None) => {}
        }
    }
}

impl Drop for Running {
    /// The session forgets the call: last of all, when its answer is where it belongs, because a
    /// stream without a call under way may be forgotten too.
    fn drop(&mut self) {
        if let Some(tag) = self.tag {
            lock(&self.live.state).end_call(tag, Instant::now());
        }
    }
}

/// A log line below the level that the session set with us.
fn is_too_quiet(live: &Live, note: &Note) -> bool {
    if note.method != Method::Log {
        return false;
    }
    let Some(least) = lock(&live.state).level() else { return false };
    let level = Message::read(note.message.clone()).ok().and_then(|m| {
        let [level] = m.params_fields(&["level"]).ok()?;
        Level::parse(&m.string_at(level)?)
    });
    level.is_some_and(|l| l < least)
}

/// A stream of a session: what a POST is answered with, a GET stream, or all of HTTP+SSE.
pub struct SessionBody {
    gateway: Arc<Gateway>,
    live: Arc<Live>,
    reader: Reader,
    /// The calls whose messages it pulls.
    calls: Vec<SessionCall>,
    first: Option<Bytes>,
    beat: Arc<Beat>,
    sse: bool,
    ended: bool,
}

impl SessionBody {
    /// Reads a stream and pulls `calls` for it. `first` goes ahead of everything.
    pub fn new(
        gateway: Arc<Gateway>,
        live: Arc<Live>,
        reader: Reader,
        mut calls: Vec<SessionCall>,
        first: Bytes,
        beats: &Beats,
    ) -> SessionBody {
        for call in &mut calls {
            call.ride_on(reader.stream());
        }
        let sse = lock(&live.state).transport() == Transport::Sse;
        SessionBody { gateway, live, reader, calls, first: Some(first), beat: beats.join(), sse, ended: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            let event = lock(&self.live.state).poll_event(self.reader, cx.waker());
            match event {
                Poll::Ready(None) => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Poll::Ready(event) => return Poll::Ready(event),
                Poll::Pending => {}
            }
            match self.pull(cx) {
                Pulled::Frame(frame) => return Poll::Ready(Some(frame)),
                Pulled::Queued => {}
                Pulled::Nothing => return self.beat.poll(cx).map(Some),
            }
        }
    }

    /// Takes one message of the calls: into the session's ring, or straight out where nothing is
    /// kept and nothing waits.
    fn pull(&mut self, cx: &mut Context<'_>) -> Pulled {
        if self.sse {
            self.live.take_over(&mut self.calls, cx.waker());
        }
        let mut at = 0;
        while at < self.calls.len() {
            match self.calls[at].poll_message(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(None) => drop(self.calls.swap_remove(at)),
                Poll::Ready(Some((message, answered))) => {
                    // Whoever spoke goes last, so that a talkative call starves nobody; one that
                    // has ended is dropped when its answer is where it belongs.
                    let call = self.calls.remove(at);
                    let ended = if answered {
                        Some(call)
                    } else {
                        self.calls.push(call);
                        None
                    };
                    if message.is_empty() {
                        continue;
                    }
                    let mut state = lock(&self.live.state);
                    let frame = state.pass(self.reader, &message);
                    if frame.is_none() {
                        // The one stream of HTTP+SSE has no last message.
                        let last = answered && self.calls.is_empty() && !self.sse;
                        state.append(self.reader.stream(), &message, last, Instant::now());
                    }
                    drop(state);
                    drop(ended);
                    return frame.map_or(Pulled::Queued, Pulled::Frame);
                }
            }
        }
        Pulled::Nothing
    }
}

/// What came of asking the calls.
enum Pulled {
    /// An event to be sent.
    Frame(Bytes),
    /// An event in the session's ring.
    Queued,
    /// They wait.
    Nothing,
}

impl Drop for SessionBody {
    fn drop(&mut self) {
        lock(&self.live.state).close_reader(self.reader, Instant::now());
        // Over HTTP+SSE the stream is the session.
        if self.sse {
            self.gateway.sessions.close(self.live.id);
        }
    }
}
