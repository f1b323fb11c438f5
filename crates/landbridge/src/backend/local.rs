//! A server in this process: what a Rust author implements to be served without a wire.
//!
//! A call that needs no time is answered at once, without a task and without a channel. One that
//! needs time is a future, polled by whoever pulls its replies, so that a slow reader slows the
//! tool down and a dropped call is a dropped future. Only while its call waits for a client that
//! cannot be asked live does a tool run by itself.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use landbridge_proto::call::{Ask, Call, Client, Level, Note, Notice, Outcome, Principal, Reply, Server, Transport};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::message::{Id, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::version::Revision;

use crate::backend::mirrors::Mirrors;
use crate::backend::{Hub, lock};
use crate::plan::ToolFilter;

/// A server that runs in this process.
///
/// It speaks plain results, as of 2025-11-25; what other revisions want of them is added on the
/// way out.
pub trait Service: Send + Sync + 'static {
    /// What it says of itself: an InitializeResult, without `protocolVersion`.
    fn hello(&self) -> Value;

    /// Answers a call, at once or later.
    fn call(self: Arc<Self>, call: Call, context: Ctx) -> Answer;

    /// It is served from now on. What changes besides its calls is told by `changes`.
    fn served(&self, changes: Changes) {
        let _ = changes;
    }
}

/// How a call is answered.
pub enum Answer {
    /// At once: the JSON text of the result, or a fault.
    Now(Result<Bytes, Fault>),
    /// After a while.
    Later(Pin<Box<dyn Future<Output = Result<Bytes, Fault>> + Send>>),
}

/// The service, and who listens to it.
pub struct Local {
    name: String,
    service: Arc<dyn Service>,
    server: Arc<Server>,
    /// Which of its tools are there for clients.
    pub(super) tools: Arc<ToolFilter>,
    /// Who hears of its changes.
    pub hub: Arc<Hub>,
    /// What its tools want mirrored in headers.
    pub(super) mirrors: Mirrors,
    next: AtomicU64,
    calls: Mutex<HashMap<u64, Arc<Mutex<Talk>>>>,
    asks: Mutex<HashMap<u64, Arc<Mutex<Talk>>>>,
    gone: watch::Sender<bool>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a call and its tool say to each other while it runs.
#[derive(Debug, Default)]
struct Talk {
    replies: VecDeque<Reply>,
    answers: HashMap<u64, Result<Bytes, Bytes>>,
    /// Ends the call with this, whatever the tool is doing.
    ended: Option<Fault>,
    began: Option<Instant>,
    /// Whoever pulls the replies.
    reader: Option<Waker>,
    /// What of the tool waits for an answer or for room. Mostly it is the same task.
    tool: Vec<Waker>,
    /// Nobody hears what the tool says any more.
    over: bool,
    /// The progress token of the exchange that waits for the call.
    token: Option<Bytes>,
    /// From which level on that exchange wants logs; `None`: it did not say.
    level: Option<Level>,
}

impl Talk {
    fn end(&mut self, fault: Fault) {
        self.ended.get_or_insert(fault);
        self.wake();
    }

    fn wait(&mut self, cx: &Context<'_>) {
        if !self.tool.iter().any(|tool| tool.will_wake(cx.waker())) {
            self.tool.push(cx.waker().clone());
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.tool.drain(..)).for_each(Waker::wake);
    }
}

/// Replies of one call that may wait for its reader; a tool that says more waits itself.
const MAX_TALK: usize = 64;

impl Local {
    /// Serves `service` under `name`.
    pub fn new(name: &str, service: Arc<dyn Service>, tools: &ToolFilter) -> Result<Arc<Local>, String> {
        let mut hello = service.hello();
        let Some(fields) = hello.as_object_mut() else { return Err(format!("what the server `{name}` says of itself is no object")) };
        fields.insert("protocolVersion".into(), Revision::LAST_HANDSHAKE.as_str().into());
        let server = Server::read(Revision::LAST_HANDSHAKE, hello.to_string().into(), name)?;
        let local = Arc::new(Local {
            name: name.into(),
            service: service.clone(),
            server: Arc::new(server),
            tools: Arc::new(tools.clone()),
            hub: Arc::default(),
            mirrors: Mirrors::default(),
            next: AtomicU64::new(1),
            calls: Mutex::default(),
            asks: Mutex::default(),
            gone: watch::channel(false).0,
        });
        service.served(Changes(Arc::downgrade(&local)));
        Ok(local)
    }

    /// What we call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it said of itself.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whether it takes calls.
    pub fn is_alive(&self) -> bool {
        !*self.gone.borrow()
    }

    /// Waits until it takes no calls any more.
    pub async fn gone(&self) {
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await; // we hold what could close
    }

    /// Another server is there in its place from now on, which may have other things. Its calls go on.
    pub fn leave(&self) {
        self.gone.send_replace(true);
        for method in [Method::ToolsChanged, Method::PromptsChanged, Method::ResourcesChanged] {
            self.tell_all(method, None);
        }
        // Who listens to this one hears nothing of the other.
        self.hub.break_off();
    }

    /// Starts a call.
    pub fn begin(self: &Arc<Self>, call: Call) -> Box<LocalCall> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let token = call.params.progress_token.map(|at| call.message.slice(at));
        let talk = Arc::new(Mutex::new(Talk { token, level: call.log_level, ..Talk::default() }));
        let context = Ctx { local: self.clone(), talk: talk.clone(), client: call.client.clone() };
        let answer = unless_it_panics(|| self.service.clone().call(call, context)).unwrap_or_else(|| Answer::Now(Err(self.panicked())));
        if let Answer::Later(_) = answer {
            lock(&talk).began = Some(Instant::now());
            lock(&self.calls).insert(number, talk.clone());
        }
        Box::new(LocalCall { local: self.clone(), number, answer: Some(answer), talk, running: None })
    }

    /// Starts a call of our own.
    pub fn begin_own(self: &Arc<Self>, method: &Method, params: &str) -> Result<Box<LocalCall>, Fault> {
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"{}\",\"params\":{{{params}}}}}", method.as_str());
        let bad = |why: String| Fault::gateway(Kind::Backend).tell("a request of our own is malformed").because(why);
        let message = Message::read(text.into()).map_err(|e| bad(e.why))?;
        let params = Params::read(&message).map_err(|e| bad(e.to_string()))?;
        let call = Call { id: Id::number(0), method: method.clone(), message, params, client: ourselves(), log_level: None };
        Ok(self.begin(call))
    }

    /// The client withdrew a call.
    pub fn abort(&self, number: u64) {
        let talk = lock(&self.calls).get(&number).cloned();
        let Some(talk) = talk else { return };
        let open: Vec<u64> = lock(&self.asks).extract_if(|_, of| Arc::ptr_eq(of, &talk)).map(|(ticket, _)| ticket).collect();
        let mut talk = lock(&talk);
        for ticket in open {
            let untold = talk.replies.iter().position(|r| matches!(r, Reply::Ask(ask) if ask.ticket == ticket));
            match untold {
                Some(at) => drop(talk.replies.remove(at)),
                None => talk.replies.push_back(Reply::Withdrawn(ticket)),
            }
        }
        talk.end(Fault::client(Kind::Cancelled).tell("cancelled by the client"));
    }

    /// Ends the calls that take longer than `limit`. Called every second.
    pub fn housekeep(&self, limit: Duration, now: Instant) {
        for talk in lock(&self.calls).values() {
            let mut talk = lock(talk);
            if talk.began.is_some_and(|began| now.saturating_duration_since(began) > limit) {
                let told = format!("the server `{}` did not answer within {} s", self.name, limit.as_secs_f32());
                talk.end(Fault::backend(&self.name, Kind::Timeout).tell(told));
            }
        }
    }

    /// Whether no call is under way.
    pub fn is_quiet(&self) -> bool {
        lock(&self.calls).is_empty()
    }

    /// Ends every call.
    pub fn stop(&self) {
        for talk in lock(&self.calls).values() {
            let told = format!("the server `{}` is being stopped", self.name);
            lock(talk).end(Fault::backend(&self.name, Kind::Backend).tell(told));
        }
    }

    /// One tool's bug is one call's failure, and not that of the connection it came on.
    fn panicked(&self) -> Fault {
        Fault::backend(&self.name, Kind::Backend).tell(format!("the server `{}` panicked in this call", self.name))
    }

    fn tell_all(&self, method: Method, uri: Option<&str>) {
        if method == Method::ToolsChanged {
            self.mirrors.forget();
        }
        self.hub.publish(&Notice::new(method, uri), false);
    }

    /// The client answered a question.
    pub fn answer(&self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        let Some(talk) = lock(&self.asks).remove(&ticket) else { return };
        let answer = answer.map(Bytes::copy_from_slice).map_err(Bytes::copy_from_slice);
        let mut talk = lock(&talk);
        talk.answers.insert(ticket, answer);
        talk.wake();
    }
}

/// Ourselves, as a client.
pub fn ourselves() -> Arc<Client> {
    Arc::new(Client {
        revision: Revision::LAST_HANDSHAKE,
        principal: Principal::default(),
        transport: Transport::Local,
        info: Some(landbridge_proto::back::stdio::own_info().into()),
        capabilities: Bytes::from_static(b"{}"),
    })
}

/// A call to a local service, under way.
pub struct LocalCall {
    local: Arc<Local>,
    number: u64,
    answer: Option<Answer>,
    talk: Arc<Mutex<Talk>>,
    /// The tool, where it runs by itself.
    running: Option<tokio::task::AbortHandle>,
}

impl fmt::Debug for LocalCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalCall({})", self.number)
    }
}

impl LocalCall {
    /// Its number at the service.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next reply.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        loop {
            if let Some(polled) = self.poll_once(cx) {
                return polled;
            }
        }
    }

    /// The same; `None`: it was ended while the tool was at it, and has to be looked at again.
    fn poll_once(&mut self, cx: &mut Context<'_>) -> Option<Poll<Reply>> {
        let future = match self.answer.take() {
            Some(Answer::Now(result)) => return Some(Poll::Ready(Reply::Done(result.map_or_else(Outcome::Fault, Outcome::Result)))),
            Some(Answer::Later(future)) => future,
            None => {
                let fault = Fault::gateway(Kind::Backend).tell("the call has ended already");
                return Some(Poll::Ready(Reply::Done(Outcome::Fault(fault))));
            }
        };
        let mut future = future;
        {
            let mut talk = lock(&self.talk);
            if talk.ended.is_some() {
                // Only what its client must hear of still counts.
                talk.replies.retain(|reply| matches!(reply, Reply::Withdrawn(_)));
            }
            if talk.replies.is_empty()
                && let Some(fault) = talk.ended.take()
            {
                return Some(Poll::Ready(Reply::Done(Outcome::Fault(fault))));
            }
            if let Some(reply) = talk.replies.pop_front() {
                self.answer = Some(Answer::Later(future));
                talk.tool.drain(..).for_each(Waker::wake); // there is room again
                return Some(Poll::Ready(reply));
            }
        }
        let polled = unless_it_panics(|| future.as_mut().poll(cx)).unwrap_or_else(|| Poll::Ready(Err(self.local.panicked())));
        let mut talk = lock(&self.talk);
        Some(match polled {
            Poll::Ready(result) => {
                let outcome = result.map_or_else(Outcome::Fault, Outcome::Result);
                match talk.replies.pop_front() {
                    None => Poll::Ready(Reply::Done(outcome)),
                    Some(first) => {
                        // What the tool said before it ended goes first.
                        talk.replies.push_back(Reply::Done(outcome));
                        self.answer = Some(Answer::Later(Box::pin(std::future::pending())));
                        Poll::Ready(first)
                    }
                }
            }
            Poll::Pending => {
                self.answer = Some(Answer::Later(future));
                if talk.ended.is_some() {
                    return None;
                }
                match talk.replies.pop_front() {
                    Some(reply) => Poll::Ready(reply),
                    None => {
                        talk.reader = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            }
        })
    }

    /// Answers a question of the tool.
    pub fn answer(&self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        self.local.answer(ticket, answer);
    }

    /// Nobody pulls the replies for a while: the tool runs by itself, so that what it waits for
    /// besides its answer still happens.
    pub fn run_by_itself(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some(Answer::Later(tool)) = self.answer.take() else { return };
        let task = tokio::spawn(tool);
        self.running = Some(task.abort_handle());
        let lost = |e| Fault::gateway(Kind::Backend).tell("the tool ended without an answer").because(e);
        self.answer = Some(Answer::Later(Box::pin(async move { task.await.unwrap_or_else(|e| Err(lost(e))) })));
    }

    /// Whether the tool still waits for this answer.
    pub fn is_open(&self, ticket: u64) -> bool {
        lock(&self.local.asks).contains_key(&ticket)
    }

    /// Another exchange waits for the call from now on; what it said meanwhile is gone.
    pub fn resume(&self, call: &Call) {
        let mut talk = lock(&self.talk);
        talk.replies.retain(|reply| !matches!(reply, Reply::Note(_)));
        talk.token = call.params.progress_token.map(|at| call.message.slice(at));
        talk.level = call.log_level;
        talk.wake(); // there is room again
    }
}

impl Drop for LocalCall {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
        lock(&self.local.calls).remove(&self.number);
        let mut talk = lock(&self.talk);
        talk.over = true;
        talk.wake();
    }
}

/// What a tool can say to its caller while it runs, and to everybody.
#[derive(Clone)]
pub struct Ctx {
    local: Arc<Local>,
    talk: Arc<Mutex<Talk>>,
    client: Arc<Client>,
}

impl Ctx {
    /// How far the call is, of `total`. Says nothing to a client that did not ask.
    pub async fn progress(&self, progress: f64, total: f64, message: &str) {
        let Some(token) = lock(&self.talk).token.clone() else { return };
        let text = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{},\"progress\":{progress},\"total\":{total},\"message\":{}}}}}",
            String::from_utf8_lossy(&token),
            json::quote(message)
        );
        self.say(Reply::Note(Note { method: Method::Progress, message: text.into() })).await;
    }

    /// A log line of this call.
    pub async fn log(&self, level: Level, data: Value) {
        let stateless = self.client.revision == Revision::NEWEST;
        if stateless && lock(&self.talk).level.is_none_or(|least| level < least) {
            return;
        }
        let text = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{{\"level\":\"{}\",\"logger\":{},\"data\":{data}}}}}",
            level.as_str(),
            json::quote(self.local.name())
        );
        self.say(Reply::Note(Note { method: Method::Log, message: text.into() })).await;
    }

    /// A notification that belongs to this call.
    pub(crate) async fn note(&self, method: &str, params: &Value) {
        let text = format!("{{\"jsonrpc\":\"2.0\",\"method\":{},\"params\":{params}}}", json::quote(method));
        self.say(Reply::Note(Note { method: Method::parse(method), message: text.into() })).await;
    }

    /// Asks the client, with the params of `elicitation/create`, `sampling/createMessage` or `roots/list`: its
    /// result, or why there is none. A client of any era can be asked.
    pub async fn ask(&self, method: Method, params: Value) -> Result<Value, String> {
        let ticket = self.local.next.fetch_add(1, Ordering::Relaxed);
        let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":{ticket},\"method\":\"{}\",\"params\":{params}}}", method.as_str());
        let message = Message::read(text.into()).map_err(|e| e.why)?;
        lock(&self.local.asks).insert(ticket, self.talk.clone());
        let forget = Forget { local: &self.local, ticket };
        self.say(Reply::Ask(Ask { ticket, method, message })).await;
        let answer = std::future::poll_fn(|cx| {
            let mut talk = lock(&self.talk);
            match talk.answers.remove(&ticket) {
                Some(answer) => Poll::Ready(answer),
                None if talk.over => Poll::Ready(Err(Bytes::from_static(b"the call is over"))),
                None => {
                    talk.wait(cx);
                    Poll::Pending
                }
            }
        })
        .await;
        drop(forget);
        match answer {
            Ok(result) => serde_json::from_slice(&result).map_err(|e| e.to_string()),
            // A JSON-RPC error: what it says is what counts.
            Err(error) => {
                let read = serde_json::from_slice::<Value>(&error).unwrap_or_default();
                let said = read.get("message").and_then(Value::as_str).map(str::to_owned);
                Err(said.unwrap_or_else(|| String::from_utf8_lossy(&error).into_owned()))
            }
        }
    }

    /// Who calls, and what it can be asked.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Something changed, for all who listen: `notifications/tools/list_changed` and its like, or
    /// `notifications/resources/updated` with the resource's URI.
    pub fn tell_all(&self, method: Method, uri: Option<&str>) {
        self.local.tell_all(method, uri);
    }

    async fn say(&self, reply: Reply) {
        let mut reply = Some(reply);
        std::future::poll_fn(|cx| {
            let mut talk = lock(&self.talk);
            if talk.over {
                return Poll::Ready(());
            }
            if talk.replies.len() >= MAX_TALK {
                talk.wait(cx);
                return Poll::Pending;
            }
            talk.replies.extend(reply.take());
            talk.wake();
            Poll::Ready(())
        })
        .await;
    }
}

/// What a service says besides its calls.
#[derive(Clone, Debug)]
pub struct Changes(Weak<Local>);

impl Changes {
    /// As [`Ctx::tell_all`].
    pub fn tell_all(&self, method: Method, uri: Option<&str>) {
        if let Some(local) = self.0.upgrade() {
            local.tell_all(method, uri);
        }
    }
}

fn unless_it_panics<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

struct Forget<'a> {
    local: &'a Local,
    ticket: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.local.asks).remove(&self.ticket);
    }
}
