//! Who is at the other end of the pipe: one handshake session, stateless calls, or both.
//!
//! Lines come in one by one; what is to go out is pulled from whoever has something to say. A stateless call
//! ends with a `notifications/cancelled`, because there is no stream of its own that could be closed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tracing::{debug, warn};

use landbridge_proto::abilities::Abilities;
use landbridge_proto::call::{Call, Client, Outcome, Principal};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::{Reader, Transport};
use landbridge_proto::front::stdio::{Incoming, Tries, may_pass, read, read_too_long};
use landbridge_proto::front::streamable::{self, Refusal, answer};
use landbridge_proto::json;
use landbridge_proto::lines::Line;
use landbridge_proto::message::{Id, Kind as MessageKind, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;

use crate::backend::{Backend, lock};
use crate::body::{Listened, SessionCall, StatelessCall, StatelessListen};
use crate::conversation::Visitor;
use crate::eras::Wire;
use crate::gateway::Gateway;
use crate::sessions::{Live, handle_silent};

/// Everybody on the pipe.
pub(super) struct Clients {
    gateway: Arc<Gateway>,
    backend: Arc<Backend>,
    reach: Arc<Reach>,
    /// Who they are, if not whoever has started us.
    visitor: Option<Visitor>,
    session: Option<Arc<Live>>,
    sources: Vec<Source>,
}

/// Whoever has something to say to the client.
enum Source {
    /// The answer to `initialize`, until it was given.
    Opening(Option<Pin<Box<dyn Future<Output = Vec<u8>> + Send>>>),
    /// What a session hears of besides its calls.
    Session(Arc<Live>, Reader),
    SessionCall(SessionCall),
    /// Says nothing: sees to it that a session has a server.
    Presence(Pin<Box<dyn Future<Output = ()> + Send>>),
    Call(StatelessCall),
    Listen(StatelessListen),
}

impl Clients {
    pub(super) fn new(gateway: Arc<Gateway>, backend: Arc<Backend>, visitor: Option<Visitor>) -> Clients {
        Clients { gateway, backend, reach: Arc::default(), visitor, session: None, sources: Vec::new() }
    }

    fn principal(&self) -> Principal {
        self.visitor.as_ref().map(Visitor::principal).unwrap_or_default()
    }

    /// Whether they may ask for one thing more.
    fn may_ask(&self) -> Result<(), Fault> {
        self.visitor.as_ref().map_or(Ok(()), |visitor| visitor.ask(&self.gateway))
    }

    // --- out ---------------------------------------------------------------------------------

    /// Takes what there is to say, up to about `enough` bytes; whether that was the reason to stop.
    pub(super) fn pull(&mut self, out: &mut BytesMut, enough: usize, cx: &mut Context<'_>) -> bool {
        let mut at = 0;
        while at < self.sources.len() {
            if out.len() >= enough {
                return true;
            }
            match self.sources[at].poll(out, cx) {
                Poll::Pending => at += 1,
                Poll::Ready(false) => drop(self.sources.remove(at)),
                // Whoever spoke goes last, so that a talkative call starves nobody.
                Poll::Ready(true) => {
                    let spoke = self.sources.remove(at);
                    self.sources.push(spoke);
                }
            }
        }
        false
    }

    /// How many requests wait for their answers.
    pub(super) fn n_waiting(&self) -> usize {
        let waits = |source: &&Source| matches!(source, Source::Opening(_) | Source::SessionCall(_) | Source::Call(_));
        self.sources.iter().filter(waits).count()
    }

    /// Begins at once, in the order of the lines: the next one may withdraw it.
    fn begin(&mut self, mut source: Source, out: &mut BytesMut, cx: &mut Context<'_>) {
        if source.poll(out, cx) != Poll::Ready(false) {
            self.sources.push(source);
        }
    }

    /// Withdraws everything and ends the session.
    pub(super) fn leave(&mut self) {
        self.end_session();
        self.sources.clear();
    }

    // --- in ----------------------------------------------------------------------------------

    /// One line of the client.
    pub(super) fn handle_line(&mut self, line: Line, out: &mut BytesMut, cx: &mut Context<'_>) {
        self.session.take_if(|live| lock(&live.state).is_closed());
        let session = self.session.as_ref().map(|live| lock(&live.state).client().revision);
        let incoming = match line {
            Line::Whole(line) => read(line, session),
            Line::TooLong { head, tail } => read_too_long(&head, &tail, self.gateway.plan.limits.message_bytes),
        };
        let taken = match incoming {
            Ok(Incoming::Stateless(call)) => self.handle_call(call, out, cx),
            Ok(Incoming::Initialize(message)) => self.handle_initialize(message, out, cx),
            Ok(Incoming::Session(message)) => {
                self.handle_message(message, out, cx);
                Ok(())
            }
            // Answered one by one, as each is done: a slow one holds up no other.
            Ok(Incoming::Batch(messages)) => {
                for message in messages {
                    self.handle_message(message, out, cx);
                }
                Ok(())
            }
            Ok(Incoming::Ping(id)) => {
                put(out, &answer(&id, &Outcome::Result(Bytes::from_static(b"{}"))));
                Ok(())
            }
            Ok(Incoming::Stray(why)) => {
                debug!(why, "ignored");
                Ok(())
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(Refusal { fault, id }) = taken {
            debug!(%fault, "refused");
            put(out, fault.message(id.as_ref()).as_bytes());
        }
    }

    fn handle_call(&mut self, mut call: Box<Call>, out: &mut BytesMut, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let id = call.id.clone();
        let refuse = |fault| Refusal { fault, id: Some(id.clone()) };
        self.may_ask().map_err(refuse)?;
        if self.visitor.is_some() {
            call.client = Arc::new(Client { principal: self.principal(), ..(*call.client).clone() });
        }
        let (gateway, backend, reach) = (self.gateway.clone(), self.backend.clone(), self.reach.clone());
        if call.method == Method::Listen {
            let filter = Filter::read(&call.message).map_err(|why| refuse(Fault::client(Kind::Params).tell(why)))?;
            self.check_room("streams of changes are open", |s| matches!(s, Source::Listen(_))).map_err(refuse)?;
            let name = id.clone();
            let opening = async move {
                match gateway.listen(&backend, &call.client, name.clone(), filter.clone()).await {
                    Err(fault) if may_pass(&fault) => {
                        reach.again(fault, Goal::Shared(&backend, &call.client)).await?;
                        gateway.listen(&backend, &call.client, name, filter).await
                    }
                    opened => opened,
                }
            };
            let listen = StatelessListen::new(Listened::Opening(Box::pin(opening)), id);
            self.begin(Source::Listen(listen), out, cx);
            return Ok(());
        }
        self.check_room("calls are under way", |s| matches!(s, Source::Call(_))).map_err(refuse)?;
        let beside = self.visitor.as_ref().map(|visitor| visitor.calls(&self.gateway, &self.backend, &call)).transpose().map_err(refuse)?;
        let begin = async move {
            let begun = match gateway.call_stateless(&backend, call.clone(), Wire::Stdio, None).await {
                Err(fault) if may_pass(&fault) => match reach.again(fault, Goal::Shared(&backend, &call.client)).await {
                    Ok(()) => gateway.call_stateless(&backend, call, Wire::Stdio, None).await,
                    Err(fault) => Err(fault),
                },
                begun => begun,
            };
            match beside {
                Some(beside) => beside.begun(begun),
                None => begun,
            }
        };
        self.begin(Source::Call(StatelessCall::beginning(Box::pin(begin), id)), out, cx);
        Ok(())
    }

    fn check_room(&self, what: &str, like: impl Fn(&Source) -> bool) -> Result<(), Fault> {
        let limit = self.gateway.plan.limits.calls_per_session;
        match self.sources.iter().filter(|source| like(source)).count() < limit {
            true => Ok(()),
            false => Err(Fault::client(Kind::Busy).tell(format!("{limit} {what} already; wait for one of them, or cancel one"))),
        }
    }

    /// A handshake. Whoever shakes hands twice begins anew.
    fn handle_initialize(&mut self, message: Message, out: &mut BytesMut, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let MessageKind::Request(id, _) = message.kind.clone() else { return Ok(()) };
        let refuse = |fault| Refusal { fault, id: Some(id.clone()) };
        self.may_ask().map_err(refuse)?;
        self.check_room("handshakes are under way", |s| matches!(s, Source::Opening(_))).map_err(refuse)?;
        self.end_session();
        let live = self.gateway.open(&self.backend, self.principal(), &message, Transport::Stdio).map_err(refuse)?;
        let reader = lock(&live.state).open_standalone();
        self.session = Some(live.clone());
        let (gateway, reach, seated) = (self.gateway.clone(), self.reach.clone(), live.clone());
        let opening = async move {
            let outcome = match reach.arrive(&seated).await {
                Ok(()) => gateway.seat(seated).await,
                Err(fault) => {
                    gateway.sessions.close(seated.id);
                    Err(fault)
                }
            };
            answer(&id, &outcome.map_or_else(Outcome::Fault, Outcome::Result))
        };
        // In this order: nothing of the session comes before its answer.
        self.begin(Source::Opening(Some(Box::pin(opening))), out, cx);
        self.begin(Source::Session(live, reader), out, cx);
        Ok(())
    }

    fn handle_message(&mut self, message: Message, out: &mut BytesMut, cx: &mut Context<'_>) {
        if message.kind == MessageKind::Notification(Method::Cancelled) {
            self.withdraw(&message);
        }
        let Some(live) = self.session.clone() else { return debug!("a message of a session, and there is none") };
        match message.kind.clone() {
            MessageKind::Request(id, _) => self.handle_request(live.clone(), id, message, out, cx),
            _ => handle_silent(&live, message),
        }
        // It ends when it has tried in vain; whatever its client says next may bring the server back.
        if !self.sources.iter().any(|source| matches!(source, Source::Presence(_))) {
            self.begin(Source::Presence(Box::pin(stay(live))), out, cx);
        }
    }

    fn handle_request(&mut self, live: Arc<Live>, id: Id, message: Message, out: &mut BytesMut, cx: &mut Context<'_>) {
        let room = self.check_room("calls are under way", |s| matches!(s, Source::SessionCall(_)));
        let client = lock(&live.state).client().clone();
        let begun = room.and_then(|()| self.may_ask()).and_then(|()| {
            let call = Box::new(streamable::call(message, &client)?);
            let beside = self.visitor.as_ref().map(|visitor| visitor.calls(&self.gateway, &self.backend, &call)).transpose()?;
            Ok((call, beside))
        });
        let (call, beside) = match begun {
            Ok(begun) => begun,
            Err(fault) => return put(out, fault.message(Some(&id)).as_bytes()),
        };
        let (gateway, reach, asking) = (self.gateway.clone(), self.reach.clone(), live.clone());
        let begin = Box::pin(async move {
            let begun = match reach.arrive(&asking).await {
                Ok(()) => gateway.call(&asking, call).await,
                Err(fault) => Err(fault),
            };
            match beside {
                Some(beside) => beside.begun(begun),
                None => begun,
            }
        });
        self.begin(Source::SessionCall(SessionCall::beginning(live, id, begin, false)), out, cx);
    }

    /// A stateless call, a stream of changes, or a call of the session that waits for its server, is not
    /// wanted any more; nobody waits for an answer.
    fn withdraw(&mut self, message: &Message) {
        let [id] = message.params_fields(&["requestId"]).unwrap_or_default();
        let Some(id) = id.map(|at| at.of_bytes(&message.bytes)) else { return };
        let is_it = |theirs: &Id| theirs.as_bytes() == id;
        let withdrawn = self.sources.extract_if(.., |source| match source {
            Source::Call(call) => is_it(call.id()),
            Source::Listen(listen) => is_it(listen.id()),
            Source::SessionCall(call) => call.is_beginning(id),
            _ => false,
        });
        for source in withdrawn {
            // The others are withdrawn by being dropped.
            if let Source::SessionCall(call) = source {
                call.withdraw();
            }
        }
    }

    fn end_session(&mut self) {
        if let Some(live) = self.session.take() {
            self.gateway.sessions.close(live.id);
        }
        self.sources.retain(|source| !matches!(source, Source::Session(..) | Source::SessionCall(_) | Source::Presence(_)));
    }
}

impl Source {
    /// Says the next thing it has to say; false: there is no more.
    fn poll(&mut self, out: &mut BytesMut, cx: &mut Context<'_>) -> Poll<bool> {
        match self {
            Source::Opening(opening) => {
                let Some(answer) = opening else { return Poll::Ready(false) };
                let message = ready!(answer.as_mut().poll(cx));
                *opening = None;
                put(out, &message);
            }
            Source::Session(live, reader) => {
                let (line, n_lost) = {
                    let mut state = lock(&live.state);
                    (state.poll_event(*reader, cx.waker()), state.take_lost())
                };
                if n_lost > 0 {
                    warn!(n_lost, "the client does not read what it is told; the oldest of it was dropped");
                }
                let Some(line) = ready!(line) else { return Poll::Ready(false) };
                out.extend_from_slice(&line);
            }
            Source::SessionCall(call) => {
                let Some((message, _)) = ready!(call.poll_message(cx)) else { return Poll::Ready(false) };
                put(out, &message);
            }
            Source::Presence(stay) => {
                ready!(stay.as_mut().poll(cx));
                return Poll::Ready(false);
            }
            Source::Call(call) => {
                let Some(message) = ready!(call.poll_message(cx)) else { return Poll::Ready(false) };
                put(out, &message);
            }
            Source::Listen(listen) => match ready!(listen.poll_message(cx)) {
                Some(message) => put(out, &message),
                None => {
                    // The one notification by which a server of 2026-07-28 withdraws something.
                    if listen.is_broken_off() {
                        put(out, &withdrawn(listen.id()));
                    }
                    return Poll::Ready(false);
                }
            },
        }
        Poll::Ready(true)
    }
}

/// One message more to be written. A call that its client withdrew ends with an empty one.
fn put(out: &mut BytesMut, message: &[u8]) {
    if message.is_empty() {
        return;
    }
    let at = out.len();
    out.extend_from_slice(message);
    json::one_line(&mut out[at..]);
    out.extend_from_slice(b"\n");
}

/// What a client is told whose stream of changes ends before its time.
fn withdrawn(id: &Id) -> Vec<u8> {
    let (before, after) = (
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":".as_slice(),
        b",\"reason\":\"something may have been missed; listen again\"}}".as_slice(),
    );
    [before, id.as_bytes(), after].concat()
}

/// Starts the session's own server again when it has died, also while no call waits for it: its client may
/// wait for news.
async fn stay(live: Arc<Live>) {
    let there = live.seated().map(|peer| peer.is_remote());
    let deserted = || {
        let live = live.clone();
        async move { live.deserted().await }
    };
    let arrive = || {
        let live = live.clone();
        async move { live.peer().await.inspect_err(|fault| debug!(%fault, "it is still away")).ok().map(|peer| peer.is_remote()) }
    };
    stay_with(there, deserted, arrive).await;
}

/// The same: `there` is who is there, if somebody is, and whether elsewhere.
async fn stay_with<D, A>(mut there: Option<bool>, mut deserted: impl FnMut() -> D, mut arrive: impl FnMut() -> A)
where
    D: Future<Output = ()>,
    A: Future<Output = Option<bool>>,
{
    let mut tries = Tries::default();
    loop {
        let since = tokio::time::Instant::now();
        deserted().await;
        let wait = match there {
            Some(elsewhere) => tries.handle_loss(since.elapsed(), elsewhere),
            None => tries.handle_miss(),
        };
        let Some(wait) = wait else { return };
        tokio::time::sleep(wait).await;
        there = arrive().await;
    }
}

/// The way to the server, for whoever found it closed: one tries again, the others wait for what comes of
/// it.
#[derive(Default)]
struct Reach {
    /// Counts how often that was.
    round: AtomicU64,
    /// How it ended the last time.
    last: tokio::sync::Mutex<Option<Fault>>,
}

/// What is to be reached.
#[derive(Clone, Copy)]
enum Goal<'a> {
    /// The server of a session.
    Own(&'a Arc<Live>),
    /// The one for stateless calls of such a client.
    Shared(&'a Backend, &'a Client),
}

impl Reach {
    /// Waits for a session's server.
    async fn arrive(&self, live: &Arc<Live>) -> Result<(), Fault> {
        match live.peer().await {
            Err(fault) if may_pass(&fault) => self.again(fault, Goal::Own(live)).await,
            arrived => arrived.map(drop),
        }
    }

    /// An attempt ended with `fault`; more of them, as long as that may help.
    async fn again(&self, mut fault: Fault, goal: Goal<'_>) -> Result<(), Fault> {
        let round = self.round.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if self.round.load(Ordering::Acquire) != round {
            return last.clone().map_or(Ok(()), Err);
        }
        let mut tries = Tries::default();
        let outcome = loop {
            let Some(wait) = tries.handle_failure(&fault) else { break Err(fault) };
            warn!(%fault, "trying again in {} s", wait.as_secs());
            tokio::time::sleep(wait).await;
            let reached = match goal {
                Goal::Own(live) => live.peer().await,
                Goal::Shared(backend, client) => backend.shared(&client.principal, Abilities::of(client)).await,
            };
            match reached {
                Ok(_) => break Ok(()),
                Err(again) => fault = again,
            }
        };
        *last = outcome.clone().err();
        self.round.fetch_add(1, Ordering::Release);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// When a server was tried that was lost, in seconds; `lasts` says for how long it then stays, attempt by attempt.
    async fn tried(elsewhere: bool, lasts: &[Option<u64>]) -> Vec<u64> {
        let began = tokio::time::Instant::now();
        let (tried, stays) = (std::cell::RefCell::new(Vec::new()), std::cell::Cell::new(0));
        let arrive = || {
            let lasts = lasts.get(tried.borrow().len()).copied().flatten();
            tried.borrow_mut().push(began.elapsed().as_secs());
            stays.set(lasts.unwrap_or_default());
            std::future::ready(lasts.map(|_| elsewhere))
        };
        stay_with(Some(elsewhere), || tokio::time::sleep(Duration::from_secs(stays.take())), arrive).await;
        tried.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_was_lost_is_tried_five_times() {
        assert_eq!(tried(true, &[]).await, [2, 6, 14, 30, 62]);
        // Once it was there again, however briefly, it is as if nothing had been.
        assert_eq!(tried(true, &[None, None, None, None, Some(1)]).await, [2, 6, 14, 30, 62, 65, 69, 77, 93, 125]);
        assert_eq!(tried(true, &[Some(0); 9]).await[..10], [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
        // A process that only comes up to end again is let be.
        assert_eq!(tried(false, &[Some(0); 9]).await, [2, 6, 14, 30, 62]);
        assert_eq!(tried(false, &[Some(60), Some(0)]).await, [2, 64, 68, 76, 92, 124]);
    }
}
