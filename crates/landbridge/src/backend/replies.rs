//! A call under way: pulled by whoever owns it, and withdrawn when dropped.
//!
//! Between the server's words and the client's stands the bridge: within an era it only looks at the
//! last word; between the eras a [`Crossing`] decides what becomes of each, and this does what it
//! decides.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::link::Key;
use landbridge_proto::bridge;
use landbridge_proto::bridge::crossing::{self, Crossing, Patience, Step, Tasks};
use landbridge_proto::bridge::parked::Question;
use landbridge_proto::bridge::{listing, rounds};
use landbridge_proto::call::{Call, Client, Outcome, Reply, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::Tag;
use landbridge_proto::headers::mirrored_params;
use landbridge_proto::json;
use landbridge_proto::methods::Method;
use landbridge_proto::version::{Era, Revision};

use crate::backend::local::LocalCall;
use crate::backend::parked::{Lot, Waiting};
use crate::backend::pool::{Exchange, Instance, Turn};
use crate::backend::tasks::Errand;
use crate::backend::{Backend, OfServer as _, Peer, lock};
use crate::eras::Wire;
use crate::plan::ToolFilter;

/// A call under way. Dropping it withdraws the call.
pub struct Replies {
    source: Source,
    client: Arc<Client>,
    /// `None`: the answer is ours, in the client's words already.
    server: Option<Arc<Server>>,
    method: Method,
    done: bool,
    /// Held where a server takes one call a time that it could ask for.
    turn: Option<Turn>,
    bridge: Bridge,
    /// There where the outcome may name a task.
    errand: Option<Box<Errand>>,
    /// Which tools its client may see.
    tools: Option<Arc<ToolFilter>>,
    /// Whether calls of the tools that it lists repeat parameters in headers.
    mirrors: bool,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    again: Option<Box<Again>>,
}

/// How a call is begun anew, once, that its server refused unread ([`Kind::Changed`]).
struct Again {
    /// Not polled before.
    refused: bool,
    begin: Beginning,
}

/// A call that is not under way yet: its server is being started, perhaps.
pub type Beginning = Pin<Box<dyn Future<Output = Result<Replies, Fault>> + Send>>;

/// What stands between a call's server and its client.
enum Bridge {
    /// At most the last word is translated.
    Plain,
    /// Words may have to change their form; so far none had to.
    Quiet(Box<Quiet>),
    /// It decides about each word.
    Crossing(Arc<Asking>),
}

/// What a crossing is made of when it is needed.
struct Quiet {
    call: Box<Call>,
    way: Way,
    peer: Peer,
    tasks: Tasks,
}

/// How a call goes.
#[derive(Default)]
pub struct Passage {
    /// Between the eras.
    pub way: Option<Way>,
    /// Held until it has ended.
    pub turn: Option<Turn>,
    /// What becomes of a task that its server makes of it, between the eras.
    pub tasks: Tasks,
    /// What its outcome needs, because of tasks.
    pub errand: Option<Box<Errand>>,
    /// Which tools its client may see, if it lists them and there are others.
    pub tools: Option<Arc<ToolFilter>>,
}

/// Where the server's words come from.
enum Source {
    Ready(Option<Outcome>),
    Instance(Arc<Instance>, Key, Option<Exchange>),
    Local(Box<LocalCall>),
    /// The server is being started again, for the next round of the call.
    Starting(Pin<Box<dyn Future<Output = Result<Peer, Fault>> + Send>>, Box<Call>),
    /// An answer that takes several requests.
    Later(Pin<Box<dyn Future<Output = Outcome> + Send>>),
}

/// What a call needs to know of its surroundings, to cross between the eras.
#[derive(Clone)]
pub struct Way {
    /// The server it is for.
    pub backend: Arc<Backend>,
    /// Where it waits for a stateless client.
    pub lot: Arc<Lot>,
    /// How long things may take.
    pub patience: Patience,
}

/// The link, in the tags of a session, of calls whose client we ask ourselves.
pub const ASKING: u32 = u32::MAX;

/// Tickets of questions that are asked on behalf of a stateless server.
static TICKETS: AtomicU64 = AtomicU64::new(1);

/// A call between the eras; its session finds it here when answers come.
pub struct Asking {
    number: u64,
    way: Way,
    peer: Peer,
    state: Mutex<State>,
}

struct State {
    crossing: Crossing,
    waker: Option<Waker>,
}

impl Asking {
    fn new(way: Way, peer: Peer, crossing: Crossing) -> Arc<Asking> {
        let number = TICKETS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Asking { number, way, peer, state: Mutex::new(State { crossing, waker: None }) })
    }

    /// By what its session knows the call while it asks.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether this answer is one it waits for.
    pub fn waits_for(&self, ticket: u64) -> bool {
        lock(&self.state).crossing.waits_for(ticket)
    }

    /// The client answered.
    pub fn answer(&self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        self.change(|crossing| crossing.handle_answer(ticket, answer));
    }

    /// The client withdrew the call.
    pub fn abort(&self) {
        self.change(Crossing::handle_abort);
    }

    fn change(&self, change: impl FnOnce(&mut Crossing)) {
        let mut state = lock(&self.state);
        change(&mut state.crossing);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asking({})", self.number)
    }
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").field("method", &self.method).field("done", &self.done).finish_non_exhaustive()
    }
}

impl Peer {
    /// Starts a call.
    pub fn begin(&self, call: Box<Call>, passage: Passage) -> Result<Replies, Fault> {
        let (client, method, server) = (call.client.clone(), call.method.clone(), self.server().clone());
        let Passage { way, turn, tasks, errand, tools } = passage;
        // Answers that came with the call are kept for its questions; the server knows nothing of them.
        let source = match way.is_some() && client.revision.era() == Era::Stateless && call.params.input_responses.is_some() {
            true => self.source(&rounds::first_time((*call).clone()))?,
            false => self.source(&call)?,
        };
        let bridge = way.map_or(Bridge::Plain, |way| Bridge::Quiet(Box::new(Quiet { call, way, peer: self.clone(), tasks })));
        let mirrors = method == Method::ToolsList && self.end() == (Wire::Http, Revision::V2026_07_28);
        let (server, again) = (Some(server), None);
        Ok(Replies { source, client, server, method, done: false, turn, bridge, errand, tools, mirrors, timer: None, again })
    }

    /// Follows the task `id` of this stateless server for a handshake client that waits for its
    /// result.
    pub fn follow(&self, call: Call, way: Way, id: &str, errand: Box<Errand>) -> Result<Replies, Fault> {
        let (client, method, server) = (call.client.clone(), call.method.clone(), self.server().clone());
        let crossing = Crossing::of_task(call, server.clone(), way.patience, id, Instant::now())?;
        let bridge = Bridge::Crossing(Asking::new(way, self.clone(), crossing));
        let source = Source::Ready(None);
        Ok(Replies {
            source,
            client,
            server: Some(server),
            method,
            done: false,
            turn: None,
            bridge,
            errand: Some(errand),
            tools: None,
            mirrors: false,
            timer: None,
            again: None,
        })
    }

    /// Waits for what comes of the task `id` of this handshake server; what that asks meanwhile is
    /// for `client`. The words are the server's.
    pub fn fetch(&self, id: &str, client: &Arc<Client>) -> Result<Replies, Fault> {
        let Peer::Instance(instance) = self else { return Err(super::tasks::unknown()) };
        let key = instance.link().fetch(id, client, Instant::now())?;
        let source = Source::Instance(instance.clone(), key, None);
        Ok(Replies::bare(source, client.clone(), Method::TaskResult))
    }

    /// A request of our own, and what the server says to it.
    pub async fn request(&self, method: Method, params: &str) -> Outcome {
        let source = match self.own(method.clone(), params) {
            Ok(source) => source,
            Err(fault) => return Outcome::Fault(fault),
        };
        let mut replies = Replies::bare(source, super::local::ourselves(), method);
        loop {
            match std::future::poll_fn(|cx| replies.poll_next(cx)).await {
                Reply::Done(outcome) => return outcome,
                Reply::Note(_) | Reply::Withdrawn(_) => {}
                Reply::Ask(ask) => replies.refuse(ask.ticket),
            }
        }
    }

    fn own(&self, method: Method, params: &str) -> Result<Source, Fault> {
        Ok(match self {
            Peer::Instance(instance) => {
                let key = instance.link().begin_own(&method, params, Instant::now()).map_err(|f| f.of(instance.name()))?;
                Source::Instance(instance.clone(), key, None)
            }
            Peer::Local(local) => Source::Local(local.begin_own(&method, params)?),
        })
    }

    fn source(&self, call: &Call) -> Result<Source, Fault> {
        Ok(match self {
            Peer::Instance(instance) => {
                let (key, exchange) = instance.begin_call(call).map_err(|f| f.of(instance.name()))?;
                Source::Instance(instance.clone(), key, exchange)
            }
            Peer::Local(local) => Source::Local(local.begin(call.clone())),
        })
    }

    /// Calls with a request of our own and waits for its result. `params` is the inside of the
    /// params object.
    pub async fn ask_own(&self, method: Method, params: &str) -> Result<Bytes, Fault> {
        match self.request(method, params).await {
            Outcome::Result(result) => Ok(result),
            Outcome::Error(error) => Err(Fault::gateway(Kind::Backend).tell("the server refused").because(String::from_utf8_lossy(&error))),
            Outcome::Fault(fault) => Err(fault),
        }
    }
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        match self {
            Source::Ready(outcome) => {
                let spent = || Outcome::Fault(Fault::gateway(Kind::Backend).tell("the call has ended already"));
                Poll::Ready(Reply::Done(outcome.take().unwrap_or_else(spent)))
            }
            Source::Instance(instance, key, exchange) => {
                if let Some(exchange) = exchange {
                    exchange.poll(cx);
                }
                let reply = instance.link().poll_reply(*key, cx.waker());
                match reply {
                    Poll::Ready(Reply::Done(Outcome::Fault(fault))) => Poll::Ready(Reply::Done(Outcome::Fault(fault.of(instance.name())))),
                    other => other,
                }
            }
            Source::Local(call) => call.poll_next(cx),
            Source::Starting(peer, call) => {
                let begun = match std::task::ready!(peer.as_mut().poll(cx)) {
                    Ok(peer) => peer.source(call),
                    Err(fault) => Err(fault),
                };
                *self = begun.unwrap_or_else(|fault| Source::Ready(Some(Outcome::Fault(fault))));
                self.poll(cx)
            }
            Source::Later(outcome) => outcome.as_mut().poll(cx).map(Reply::Done),
        }
    }

    fn answer(&self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        match self {
            Source::Ready(_) | Source::Starting(..) | Source::Later(_) => {}
            Source::Instance(instance, ..) => instance.link().answer(ticket, answer),
            Source::Local(call) => call.answer(ticket, answer),
        }
    }

    fn refuse(&self, ticket: u64, fault: &Fault) {
        self.answer(ticket, Err(fault.error().as_bytes()));
    }
}

impl Replies {
    /// An answer of our own, in the client's words.
    pub fn ready(call: &Call, outcome: Outcome) -> Replies {
        let source = Source::Ready(Some(outcome));
        Replies::bare(source, call.client.clone(), call.method.clone())
    }

    /// An answer of our own that takes several requests to the server.
    pub fn later(call: &Call, outcome: impl Future<Output = Outcome> + Send + 'static) -> Replies {
        let source = Source::Later(Box::pin(outcome));
        Replies::bare(source, call.client.clone(), call.method.clone())
    }

    /// What a source says, as it says it.
    fn bare(source: Source, client: Arc<Client>, method: Method) -> Replies {
        Replies {
            source,
            client,
            server: None,
            method,
            done: false,
            turn: None,
            bridge: Bridge::Plain,
            errand: None,
            tools: None,
            mirrors: false,
            timer: None,
            again: None,
        }
    }

    /// Begun anew by that, once, should its server refuse it unread.
    pub fn or_again(mut self, begin: impl Future<Output = Result<Replies, Fault>> + Send + 'static) -> Replies {
        self.again = Some(Box::new(Again { refused: false, begin: Box::pin(begin) }));
        self
    }

    /// Waits until the call is begun anew: from then on it is that one.
    fn poll_again(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(again) = self.again.as_mut().filter(|again| again.refused) else { return Poll::Ready(Ok(())) };
        let begun = std::task::ready!(again.begin.as_mut().poll(cx));
        self.again = None;
        let mut replies = match begun {
            Ok(replies) => replies,
            Err(fault) => return Poll::Ready(Err(fault)),
        };
        replies.again = None;
        self.done = true; // there is nothing to withdraw at its first server
        *self = replies;
        Poll::Ready(Ok(()))
    }

    /// The last word, as the client gets it.
    fn finish(&mut self, outcome: Outcome) -> Reply {
        self.done = true;
        let outcome = match (outcome, &self.server) {
            (Outcome::Fault(fault), Some(server)) => Outcome::Fault(fault.of(&server.name)),
            (outcome, _) => outcome,
        };
        if let Some(errand) = &mut self.errand
            && let Some(peer) = self.source.peer()
        {
            errand.peer = peer;
        }
        let outcome = match &self.errand {
            Some(errand) => errand.finish(&self.client, &self.method, outcome),
            None => outcome,
        };
        Reply::Done(match outcome {
            Outcome::Result(result) if self.tools.is_some() || self.mirrors => self.filtered(&result),
            outcome => outcome,
        })
    }

    /// A listing of tools without those that clients may not see, or that nobody can call: a tool with
    /// invalid headers must be left out where its calls would have to carry them (2026-07-28, "x-mcp-header").
    fn filtered(&self, result: &Bytes) -> Outcome {
        let can_be_called = |name: &str, tool: &str| {
            let why = if self.mirrors && tool.contains("x-mcp-header") { invalid_headers(tool) } else { None };
            if let Some(why) = &why {
                tracing::warn!(tool = name, why, "a tool that nobody could call is left out of the listing");
            }
            why.is_none()
        };
        let admits = |name: &str, tool: &str| self.tools.as_ref().is_none_or(|tools| tools.admits(name)) && can_be_called(name, tool);
        match listing::keep_tools(result, admits) {
            Some(kept) => Outcome::Result(kept),
            None => Outcome::Fault(Fault::gateway(Kind::Backend).tell("the server's answer to tools/list is no listing of tools")),
        }
    }

    /// A reply that only its era's words have to be put on.
    fn pass(&mut self, reply: Reply) -> Reply {
        match (reply, &self.server, &self.errand) {
            (Reply::Done(outcome), Some(server), _) => {
                let outcome = bridge::outcome(&self.client, server, &self.method, outcome);
                self.finish(outcome)
            }
            (Reply::Done(outcome), None, _) => self.finish(outcome),
            (Reply::Ask(ask), _, Some(errand)) => Reply::Ask(errand.mark(ask)),
            (reply, ..) => reply,
        }
    }

    /// The next reply, in the words of the call's client. Nothing comes behind [`Reply::Done`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        if let Err(fault) = std::task::ready!(self.poll_again(cx)) {
            return Poll::Ready(self.finish(Outcome::Fault(fault)));
        }
        let asking = match &mut self.bridge {
            Bridge::Crossing(asking) => asking.clone(),
            bridge => {
                let reply = std::task::ready!(self.source.poll(cx));
                if matches!(&reply, Reply::Done(Outcome::Fault(fault)) if fault.kind == Kind::Changed)
                    && let Some(again) = &mut self.again
                {
                    again.refused = true;
                    self.source = Source::Ready(None);
                    return self.poll_next(cx);
                }
                if let (Bridge::Quiet(quiet), Some(server)) = (&mut *bridge, &self.server)
                    && !Crossing::is_plain(&quiet.call, server, &reply)
                {
                    let Quiet { call, way, peer, tasks } = &**quiet;
                    let mut crossing = Crossing::new((**call).clone(), server.clone(), way.patience, *tasks);
                    crossing.handle_reply(reply, TICKETS.fetch_add(crossing::TICKETS, Ordering::Relaxed), Instant::now());
                    *bridge = Bridge::Crossing(Asking::new(way.clone(), peer.clone(), crossing));
                    return self.poll_next(cx);
                }
                return Poll::Ready(self.pass(reply));
            }
        };
        loop {
            let step = {
                let mut state = lock(&asking.state);
                let step = state.crossing.poll_step(Instant::now());
                // An answer may come from now on; under one lock, so that none comes in between.
                if matches!(step, None | Some(Step::Wait(_))) && !state.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                step
            };
            match step {
                Some(Step::Reply(Reply::Done(outcome))) => {
                    // The bridge may have ended what its server is still at.
                    if let Source::Instance(instance, key, _) = &self.source {
                        instance.operate(|link| link.cancel(*key, "not needed any more"));
                    }
                    return Poll::Ready(self.finish(outcome));
                }
                Some(Step::Reply(Reply::Ask(ask))) => {
                    return Poll::Ready(Reply::Ask(match &self.errand {
                        Some(errand) => errand.mark(ask),
                        None => ask,
                    }));
                }
                Some(Step::Reply(reply)) => return Poll::Ready(reply),
                Some(Step::Answer(ticket, Ok(answer))) => self.source.answer(ticket, Ok(&answer)),
                Some(Step::Answer(ticket, Err(fault))) => self.source.refuse(ticket, &fault),
                Some(Step::Call(call)) => {
                    let (backend, client) = (asking.way.backend.clone(), self.client.clone());
                    let starting = Box::pin(async move { backend.shared(Abilities::NONE, &client.principal).await });
                    self.source = Source::Starting(starting, call);
                }
                Some(Step::Own(method, params)) => {
                    let own = self.source.peer().unwrap_or(asking.peer.clone()).own(method, &params);
                    self.source = own.unwrap_or_else(|fault| Source::Ready(Some(Outcome::Fault(fault))));
                }
                Some(Step::Fetch(id)) => {
                    let fetched = self.source.peer().unwrap_or(asking.peer.clone()).fetch(&id, &self.client);
                    self.source = match fetched {
                        Ok(mut fetch) => {
                            fetch.done = true; // its words are ours now
                            std::mem::replace(&mut fetch.source, Source::Ready(None))
                        }
                        Err(fault) => Source::Ready(Some(Outcome::Fault(fault))),
                    };
                }
                Some(Step::Tell(method, params)) => self.source.peer().unwrap_or(asking.peer.clone()).tell(&method, &params),
                Some(Step::Wait(due)) => {
                    let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due.into())));
                    if timer.deadline() != due.into() {
                        timer.as_mut().reset(due.into());
                    }
                    std::task::ready!(timer.as_mut().poll(cx));
                }
                Some(Step::Park(questions)) => return Poll::Ready(Reply::Done(self.park(&asking, questions))),
                Some(Step::ParkUntilVisited(questions)) => {
                    self.done = true;
                    let server = lock(&asking.state).crossing.server().clone();
                    return Poll::Ready(Reply::Done(asking.park(Waiting::Again(server), questions)));
                }
                None if lock(&asking.state).crossing.is_withdrawn() => {
                    if let Source::Instance(instance, key, _) = &self.source {
                        instance.operate(|link| link.cancel(*key, "cancelled by the client"));
                    }
                    let fault = Fault::client(Kind::Cancelled).tell("cancelled by the client");
                    return Poll::Ready(self.finish(Outcome::Fault(fault)));
                }
                None => match self.source.poll(cx) {
                    Poll::Ready(reply) => {
                        let first = TICKETS.fetch_add(crossing::TICKETS, Ordering::Relaxed);
                        lock(&asking.state).crossing.handle_reply(reply, first, Instant::now());
                    }
                    Poll::Pending => {
                        let source = &self.source;
                        if lock(&asking.state).crossing.handle_quiet(|ticket| source.is_open(ticket)) {
                            cx.waker().wake_by_ref();
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Puts the call aside, and gives what its client is told.
    fn park(&mut self, asking: &Arc<Asking>, questions: Vec<Question>) -> Outcome {
        match &mut self.source {
            Source::Local(call) => call.run_by_itself(),
            Source::Instance(_, _, Some(exchange)) => exchange.run_by_itself(),
            _ => {}
        }
        let rest = Replies {
            source: std::mem::replace(&mut self.source, Source::Ready(None)),
            client: self.client.clone(),
            server: self.server.clone(),
            method: self.method.clone(),
            done: false,
            turn: self.turn.take(),
            bridge: std::mem::replace(&mut self.bridge, Bridge::Plain),
            errand: self.errand.take(),
            tools: self.tools.take(),
            mirrors: self.mirrors,
            timer: None,
            again: None,
        };
        self.done = true;
        asking.park(Waiting::Call(Box::new(rest)), questions)
    }

    /// Its client came back with the answers: from here on the call is this one.
    pub fn resume(&mut self, call: Call, answers: &[(u64, Bytes)]) {
        match &mut self.source {
            Source::Instance(instance, key, _) => instance.link().resume(*key, &call, Instant::now()),
            Source::Local(local) => local.resume(&call),
            Source::Ready(_) | Source::Starting(..) | Source::Later(_) => {}
        }
        for (ticket, answer) in answers {
            self.source.answer(*ticket, Ok(answer));
        }
        self.client = call.client.clone();
        if let Bridge::Crossing(asking) = &self.bridge {
            lock(&asking.state).crossing.handle_resumed(call);
        }
    }

    /// Its client did not come back: the server is told, and the call ends with the drop.
    pub fn give_up(self, open: &[u64]) {
        let fault = Fault::client(Kind::Timeout).tell("the client did not answer in time");
        for ticket in open {
            self.source.refuse(*ticket, &fault);
        }
    }

    /// Whether the server still waits for this answer.
    pub fn is_open(&self, ticket: u64) -> bool {
        self.source.is_open(ticket)
    }

    /// By what the call is known to its session; `None` for one that is answered already.
    pub fn tag(&self) -> Option<Tag> {
        if let Some(asking) = self.asking() {
            return Some(Tag { link: ASKING, number: asking.number });
        }
        match &self.source {
            Source::Ready(_) | Source::Starting(..) | Source::Later(_) => None,
            Source::Instance(instance, key, _) => Some(Tag { link: instance.ordinal(), number: key.id() }),
            Source::Local(call) => Some(Tag { link: 0, number: call.number() }),
        }
    }

    /// The questions we ask on behalf of a stateless server, while they are open.
    pub fn asking(&self) -> Option<&Arc<Asking>> {
        match &self.bridge {
            Bridge::Crossing(asking) => Some(asking).filter(|a| lock(&a.state).crossing.is_asking()),
            Bridge::Plain | Bridge::Quiet(_) => None,
        }
    }

    /// The client answered a question of the server.
    pub fn answer(&self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        self.source.answer(ticket, answer);
    }

    /// This client cannot be asked.
    pub fn refuse(&self, ticket: u64) {
        let fault = Fault::gateway(Kind::Untranslatable)
            .tell("the client cannot be asked now: it did not declare that it can be, accepts no event stream, or is gone");
        match self.asking() {
            Some(asking) => asking.change(|crossing| crossing.handle_unaskable(fault)),
            None => self.source.refuse(ticket, &fault),
        }
    }
}

impl Source {
    /// The server it is at, which need not be the one it began at.
    fn peer(&self) -> Option<Peer> {
        match self {
            Source::Instance(instance, ..) => Some(Peer::Instance(instance.clone())),
            _ => None,
        }
    }

    fn is_open(&self, ticket: u64) -> bool {
        match self {
            Source::Ready(_) | Source::Starting(..) | Source::Later(_) => false,
            Source::Instance(instance, ..) => instance.link().is_open(ticket),
            Source::Local(call) => call.is_open(ticket),
        }
    }
}

impl Asking {
    /// Puts something aside until the client has answered, and gives what it is told.
    fn park(&self, waiting: Waiting, questions: Vec<Question>) -> Outcome {
        let (call, server) = {
            let state = lock(&self.state);
            (state.crossing.call().clone(), state.crossing.server().clone())
        };
        let parked = self.way.lot.park(waiting, &call, &server, self.way.backend.name(), questions);
        parked.map_or_else(Outcome::Fault, Outcome::Result)
    }
}

/// What is wrong with the headers that a tool's schema asks for.
fn invalid_headers(tool: &str) -> Option<String> {
    let schema = json::field(tool.as_bytes(), "inputSchema")?;
    let schema = serde_json::from_slice(schema).ok()?;
    mirrored_params(&schema).err().map(|why| why.to_string())
}

impl Drop for Replies {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Bridge::Crossing(asking) = &self.bridge
            && let Some((method, params)) = lock(&asking.state).crossing.abandoned()
        {
            self.source.peer().unwrap_or(asking.peer.clone()).tell(&method, &params);
        }
        if let Source::Instance(instance, key, _) = &self.source {
            instance.operate(|link| link.cancel(*key, "the client went away"));
        }
    }
}
