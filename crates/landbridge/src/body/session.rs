//! What a session's client gets as a stream, and the calls behind it. Dropped, a call runs on.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use landbridge_proto::call::{Level, Note, Outcome, Reply};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::{Reader, Tag, Transport};
use landbridge_proto::front::streamable::answer;
use landbridge_proto::message::{Id, Message};
use landbridge_proto::methods::Method;

use crate::backend::{Replies, lock};
use crate::body::beats::Beat;
use crate::body::stateless::{Beginning, Stage};
use crate::gateway::Gateway;
use crate::sessions::Live;

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
    /// Questions that it put to the client, and that were not withdrawn.
    asked: Vec<Tag>,
}

impl SessionCall {
    /// A call that has begun.
    pub fn new(live: Arc<Live>, id: Id, replies: Replies, mute: bool) -> SessionCall {
        let (tag, stage) = (replies.tag(), Stage::Running(replies));
        SessionCall { inner: Some(Running { live, id, tag, stage, stream: None, mute, asked: Vec::new() }) }
    }

    /// A call that is still beginning.
    pub fn beginning(live: Arc<Live>, id: Id, begin: Beginning, mute: bool) -> SessionCall {
        SessionCall { inner: Some(Running { live, id, tag: None, stage: Stage::Beginning(begin), stream: None, mute, asked: Vec::new() }) }
    }

    /// From now on its messages belong to this stream.
    pub fn ride_on(&mut self, stream: u32) {
        if let Some(running) = &mut self.inner {
            running.stream = Some(stream);
        }
    }

    /// Whether it is the call `id`, and has not reached its server.
    pub fn is_beginning(&self, id: &[u8]) -> bool {
        self.inner.as_ref().is_some_and(|r| matches!(r.stage, Stage::Beginning(_)) && r.id.as_bytes() == id)
    }

    /// Nobody waits for it after all: it ends instead of running on.
    pub fn withdraw(mut self) {
        let aborted = match &self.inner {
            Some(Running { live, id, tag: Some(tag), .. }) => {
                lock(&live.state).withdraw_call(id.as_bytes());
                live.abort(*tag)
            }
            _ => false,
        };
        if let Some(running) = self.inner.as_mut().filter(|_| !aborted) {
            running.stage = Stage::Over;
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
        let Some(mut running) = self.inner.take().filter(|r| !matches!(r.stage, Stage::Over)) else { return };
        // Without a stream to come back to, what it says is lost, and a question would be one that
        // nobody gets.
        running.mute |= running.stream.is_none() && lock(&running.live.state).transport() == Transport::Streamable;
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
            let reply = replies.poll_next(cx);
            // A call that asks for a stateless server is known to its session by another tag.
            let tag = replies.tag();
            if let (Some(old), Some(new)) = (self.tag, tag)
                && old != new
            {
                if let Some(asking) = replies.asking() {
                    self.live.is_asked_by(asking);
                }
                let withdrawn = lock(&self.live.state).retag(old, new);
                self.tag = tag;
                if withdrawn {
                    self.live.abort(new);
                }
            }
            match std::task::ready!(reply) {
                Reply::Note(note) if self.mute || is_too_quiet(&self.live, &note) => {}
                Reply::Note(note) => return Poll::Ready((note.message.to_vec(), false)),
                Reply::Ask(ask) if self.mute => replies.refuse(ask.ticket),
                Reply::Ask(ask) => {
                    let tag = Tag { link: self.tag.map_or(0, |t| t.link), number: ask.ticket };
                    match lock(&self.live.state).ask(&ask, tag) {
                        Some(message) => {
                            self.asked.push(tag);
                            return Poll::Ready((message.to_vec(), false));
                        }
                        None => replies.refuse(ask.ticket),
                    }
                }
                Reply::Withdrawn(ticket) => {
                    let at = self.asked.iter().position(|tag| tag.number == ticket);
                    let tag = at.map(|at| self.asked.swap_remove(at));
                    if let Some(message) = tag.and_then(|tag| lock(&self.live.state).withdraw(tag)) {
                        return Poll::Ready((message.into_bytes(), false));
                    }
                }
                Reply::Done(outcome) => break outcome,
            }
        };
        self.stage = Stage::Over;
        if let (Some(tag), Outcome::Result(_)) = (self.tag, &outcome) {
            lock(&self.live.state).accepted(tag);
        }
        let withdrawn = matches!(&outcome, Outcome::Fault(Fault { kind: Kind::Cancelled, .. }));
        // Where nothing ends with a call, nobody waits for the answer to one it withdrew.
        let silent = withdrawn && lock(&self.live.state).transport().is_one_stream();
        Poll::Ready((if silent { Vec::new() } else { answer(&self.id, &outcome) }, true))
    }

    fn deliver(&self, message: &[u8], last: bool) {
        if message.is_empty() {
            return;
        }
        let mut state = lock(&self.live.state);
        match (state.transport(), self.stream) {
            (Transport::Sse | Transport::Stdio | Transport::Local, _) => state.append(0, message, false, Instant::now()),
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
        beat: Arc<Beat>,
    ) -> SessionBody {
        for call in &mut calls {
            call.ride_on(reader.stream());
        }
        let sse = lock(&live.state).transport() == Transport::Sse;
        SessionBody { gateway, live, reader, calls, first: Some(first), beat, sse, ended: false }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if !self.ended && self.beat.is_over() {
            self.ended = self.may_end(cx);
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
                Pulled::Nothing => return self.beat.poll(cx).map(|beat| Some(self.alive(beat))),
            }
        }
    }

    /// What keeps this stream alive.
    fn alive(&self, comment: Bytes) -> Bytes {
        if self.sse { self.gateway.plan.profile.keepalive.frame() } else { comment }
    }

    /// Whether it may end before its time. What was not read is kept for whoever comes back; over HTTP+SSE, where
    /// nobody can, a call that was let in is answered first.
    fn may_end(&mut self, cx: &mut Context<'_>) -> bool {
        if self.sse {
            self.live.take_over(&mut self.calls, cx.waker());
        }
        !self.sse || (self.calls.is_empty() && !self.live.is_busy())
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
                        state.append(self.reader.stream(), &message, answered, Instant::now());
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
