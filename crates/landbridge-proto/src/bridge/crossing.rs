//! One call between the eras, and what becomes of its server's questions.
//!
//! | | server asks live (until 2025-11-25) | server answers `input_required` (2026-07-28) |
//! |---|---|---|
//! | **client can be asked live** | (no crossing: passed on as it is) | asked, and the call sent again |
//! | **client is stateless** | the call is parked, `input_required` | (no crossing: passed on as it is) |
//!
//! A call that its server makes a task is handed over in the kind of the client's era, or followed to
//! its end for a client that knows of no tasks.
//!
//! ```text
//!   server ──handle_reply──▶ ┌──────────┐ ──Step::Reply──▶ client
//!   server ◀──Step::Answer── │ crossing │ ◀─handle_answer─ client, asked live
//!   server ◀──Step::Call──── └──────────┘ ──Step::Park───▶ where calls wait for stateless clients
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::abilities::Abilities;
use crate::bridge::ask;
use crate::bridge::following::{Following, Looked};
use crate::bridge::parked::{Question, Responses};
use crate::bridge::rounds::{self, Next, Rounds, is_input_required};
use crate::bridge::{self, Increasing};
use crate::call::{Ask, Call, Client, Note, Outcome, Reply, Server};
use crate::fault::{Fault, Kind};
use crate::json;
use crate::message::Message;
use crate::methods::Method;
use crate::tasks;
use crate::version::Era;

/// Tickets that one round of questions may take.
pub const TICKETS: u64 = 64;

/// What becomes of a task that the server makes of the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tasks {
    /// The client gets what comes of it, as if there were none.
    #[default]
    Follow,
    /// The same within the handshake era: the client is older than tasks.
    FollowAnyway,
    /// The client gets the task, in the kind of its era.
    HandOver,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A client, for one answer.
    pub answer: Duration,
    /// A task that is followed.
    pub task: Duration,
}

/// A call between the eras that its server may ask something for.
#[derive(Debug)]
pub struct Crossing {
    call: Call,
    server: Arc<Server>,
    patience: Patience,
    tasks: Tasks,
    steps: VecDeque<Step>,
    /// Questions for a stateless client, until it is clear that there are no more of them.
    asks: Vec<Ask>,
    looked_again: bool,
    /// Answers that came with the call and were used.
    used: Vec<String>,
    /// What the server wanted to ask and the client did not declare.
    lacked: Option<Abilities>,
    rounds: Option<Rounds>,
    /// The client is being asked; no call is under way.
    asking: bool,
    /// A task of a stateless server, being followed.
    following: Option<Following>,
    /// A task of a handshake server whose result is being waited for.
    fetching: Option<String>,
    /// The task is the client's own, which only waits for its result.
    is_theirs: bool,
    withdrawn: bool,
    progress: Increasing,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// This is for the client.
    Reply(Reply),
    /// This is for the server: the answer to its question, or why there is none.
    Answer(u64, Result<Bytes, Fault>),
    /// The call is put aside until its client has answered these; the client is told so.
    Park(Vec<Question>),
    /// The call has ended, and is sent anew when its client has been where these send it.
    ParkUntilVisited(Vec<Question>),
    /// The call is sent again, as this one.
    Call(Box<Call>),
    /// This is asked of the server on our own account, instead of the call: a method and the inside
    /// of its params.
    Own(Method, String),
    /// What came of this task of a handshake server is asked for; what it asks meanwhile is asked
    /// for the call.
    Fetch(String),
    /// This is told to the server, and nobody waits for what it says to it.
    Tell(Method, String),
    /// There is nothing to do before that time, unless something arrives.
    Wait(Instant),
}

impl Crossing {
    /// Whether a call to this server needs one.
    pub fn is_needed(call: &Call, server: &Server) -> bool {
        call.method.may_ask() && call.client.revision.era() != server.era()
    }

    /// Whether a reply needs no crossing: it is translated like any other, and nothing follows from it.
    /// Most calls hear only such, and none has to be set up for them.
    pub fn is_plain(call: &Call, server: &Server, reply: &Reply) -> bool {
        let stateless = call.client.revision.era() == Era::Stateless;
        match reply {
            // Over several rounds it must grow.
            Reply::Note(note) => stateless || note.method != Method::Progress,
            Reply::Done(Outcome::Result(result)) => !is_task(call, server, result) && (stateless || !is_input_required(result)),
            Reply::Done(Outcome::Error(error)) => !stateless || ask::required_urls(error).is_none(),
            Reply::Done(Outcome::Fault(_)) => true,
            Reply::Ask(_) | Reply::Withdrawn(_) => false,
        }
    }

    /// `call` on its way to `server`.
    pub fn new(call: Call, server: Arc<Server>, patience: Patience, tasks: Tasks) -> Crossing {
        Crossing {
            call,
            server,
            patience,
            tasks,
            steps: VecDeque::new(),
            asks: Vec::new(),
            looked_again: false,
            used: Vec::new(),
            lacked: None,
            rounds: None,
            asking: false,
            following: None,
            fetching: None,
            is_theirs: false,
            withdrawn: false,
            progress: Increasing::default(),
        }
    }

    /// A handshake client's `tasks/result`, of the task `id` of a stateless server.
    pub fn of_task(call: Call, server: Arc<Server>, patience: Patience, id: &str, now: Instant) -> Result<Crossing, Fault> {
        let task = format!("{{{},\"status\":\"working\"}}", tasks::params_of(id));
        let following = Following::new(&server.name, task.as_bytes(), patience.answer, now, now + patience.task)?.at_once(now);
        Ok(Crossing { following: Some(following), is_theirs: true, ..Crossing::new(call, server, patience, Tasks::Follow) })
    }

    /// The call as it stands.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The server it is for.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whether its client's answers and its cancellation are for this, and not for the server.
    pub fn is_asking(&self) -> bool {
        self.asking || self.following.is_some()
    }

    /// Whether the client may still answer this.
    pub fn waits_for(&self, ticket: u64) -> bool {
        let in_round = self.asking && self.rounds.as_ref().is_some_and(|r| r.open().any(|t| t == ticket));
        in_round || self.following.as_ref().is_some_and(|f| f.open().any(|t| t == ticket))
    }

    /// A task that nobody follows any more: what its server is told.
    pub fn abandoned(&self) -> Option<(Method, String)> {
        let id = self.following.as_ref().map(Following::task_id).or(self.fetching.as_deref()).filter(|_| !self.is_theirs)?;
        Some((Method::TaskCancel, tasks::params_of(id)))
    }

    /// The server said something. Should that be questions, they get tickets from `first` on.
    pub fn handle_reply(&mut self, reply: Reply, first: u64, now: Instant) {
        let stateless = self.call.client.revision.era() == Era::Stateless;
        match reply {
            Reply::Ask(ask) if stateless => self.handle_ask(ask),
            Reply::Ask(ask) if self.fetching.is_some() => self.steps.push_back(Step::Reply(Reply::Ask(self.unmarked(ask)))),
            Reply::Withdrawn(ticket) if stateless => self.asks.retain(|ask| ask.ticket != ticket),
            Reply::Done(Outcome::Result(result)) if self.following.is_some() => self.handle_task(&result, first, now),
            Reply::Done(outcome) if self.following.is_some() => {
                self.following = None;
                self.end(outcome);
            }
            Reply::Done(Outcome::Result(result)) if is_task(&self.call, &self.server, &result) => self.handle_begun(&result, now),
            Reply::Done(outcome) if stateless => self.handle_end(outcome),
            Reply::Done(outcome) if self.fetching.is_some() => self.handle_end(outcome),
            Reply::Done(Outcome::Result(result)) if is_input_required(&result) => self.handle_round(&result, first, now),
            Reply::Done(outcome) => self.end(outcome),
            Reply::Note(note) if note.method == Method::Progress && !self.grows(&note) => {}
            reply => self.steps.push_back(Step::Reply(reply)),
        }
    }

    /// Whether progress is more than the client knows: each round of a call counts from the start.
    fn grows(&mut self, note: &Note) -> bool {
        let Ok(message) = Message::read(note.message.clone()) else { return true };
        let [progress] = message.params_fields(&["progress"]).unwrap_or_default();
        self.progress.passes(progress.map(|at| message.text(at)))
    }

    /// The server says nothing more for now; true: look once more, at once.
    ///
    /// What it asked so far belongs together, so the client is asked all of it. `is_open` tells
    /// whether the server still waits for an answer.
    pub fn handle_quiet(&mut self, is_open: impl Fn(u64) -> bool) -> bool {
        if self.asks.is_empty() {
            self.looked_again = false;
            return false;
        }
        if !std::mem::replace(&mut self.looked_again, true) {
            return true; // what was asked at once may come in two pieces
        }
        self.looked_again = false;
        let mut asks = std::mem::take(&mut self.asks);
        asks.retain(|ask| is_open(ask.ticket));
        if !asks.is_empty() {
            let asked = ask::input_requests(&asks);
            self.steps.push_back(Step::Park(asks.iter().zip(asked).map(|(ask, asked)| Question { ticket: ask.ticket, asked }).collect()));
        }
        true
    }

    /// The client answered a question, or refused to.
    pub fn handle_answer(&mut self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        if let Some(told) = self.following.as_mut().and_then(|f| f.handle_answer(ticket, answer)) {
            return match told {
                Ok(params) => self.steps.push_back(Step::Tell(Method::TaskUpdate, params)),
                Err(fault) => self.stop_following(fault),
            };
        }
        if let Some(outcome) = self.rounds.as_mut().filter(|_| self.asking).and_then(|r| r.handle_answer(ticket, answer)) {
            self.stop_asking(outcome);
        }
    }

    /// The client cannot be asked after all: the call ends with this.
    pub fn handle_unaskable(&mut self, fault: Fault) {
        if self.following.is_some() {
            return self.stop_following(fault);
        }
        if let Some(rounds) = self.rounds.as_ref().filter(|_| self.asking) {
            let outcome = rounds.failed(fault);
            self.stop_asking(outcome);
        }
    }

    /// The client withdrew the call while it was asked.
    pub fn handle_abort(&mut self) {
        if self.following.is_some() {
            return self.stop_following(Fault::client(Kind::Cancelled).tell("cancelled by the client"));
        }
        if self.asking {
            return self.stop_asking(Outcome::Fault(Fault::client(Kind::Cancelled).tell("cancelled by the client")));
        }
        self.withdrawn = true;
    }

    /// Whether the client withdrew the call between two rounds, when there was nothing to withdraw.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn
    }

    /// A stateless client came back with the answers: the call is this one from now on.
    pub fn handle_resumed(&mut self, call: Call) {
        self.call = call;
        self.progress = Increasing::default(); // the exchange has a token of its own
    }

    /// What to do now.
    pub fn poll_step(&mut self, now: Instant) -> Option<Step> {
        if let Some(step) = self.steps.pop_front() {
            return Some(step);
        }
        if let Some(following) = &mut self.following {
            if following.is_overdue(now) {
                let told = format!("the client did not answer the server's question within {} s", self.patience.answer.as_secs_f32());
                self.stop_following(Fault::client(Kind::Timeout).tell(told));
                return self.steps.pop_front();
            }
            return match following.due()? {
                due if due <= now => Some(Step::Own(Method::TaskGet, following.look())),
                due => Some(Step::Wait(due)),
            };
        }
        if !self.asking {
            return None;
        }
        match self.rounds.as_mut()?.poll_next(now) {
            Next::Wait(due) => Some(Step::Wait(due)),
            Next::Call(call) => {
                self.asking = false;
                Some(Step::Call(call))
            }
            Next::Done(outcome) => {
                self.stop_asking(outcome);
                self.steps.pop_front()
            }
        }
    }

    // --- a handshake server, a stateless client ------------------------------------------------

    fn handle_ask(&mut self, ask: Ask) {
        if let Some(lacked) = self.call.client.lacks(&ask) {
            // For what no revision names there is nothing to declare.
            if lacked != Abilities::NONE {
                self.lacked = Some(self.lacked.unwrap_or_default().and(lacked));
            }
            let told = format!("the client did not declare that it can be asked {}", ask.method.as_str());
            let fault = Fault::client(Kind::UnknownMethod).tell(told);
            return self.steps.push_back(Step::Answer(ask.ticket, Err(fault)));
        }
        match self.given(&ask) {
            Some(answer) => self.steps.push_back(Step::Answer(ask.ticket, Ok(answer))),
            None => self.asks.push(ask),
        }
    }

    /// An answer that came with the call itself, for a question that the server gave a name. Each is
    /// good for one.
    fn given(&mut self, ask: &Ask) -> Option<Bytes> {
        if self.call.params.input_responses.is_none() || self.call.params.request_state.is_some() {
            return None;
        }
        let key = ask::named(ask).filter(|key| !self.used.contains(key))?;
        let answer = Responses::read(&self.call).ok()?.get(&key)?;
        self.used.push(key);
        Some(answer)
    }

    fn handle_end(&mut self, outcome: Outcome) {
        let outcome = match (self.fetching.take(), outcome) {
            // It did not end in time, and nobody waits for it any more.
            (Some(id), Outcome::Fault(fault)) if fault.kind == Kind::Timeout => {
                self.steps.push_back(Step::Tell(Method::TaskCancel, tasks::params_of(&id)));
                Outcome::Fault(fault)
            }
            (Some(_), Outcome::Result(result)) => match tasks::unrelated(&self.server.name, &result) {
                Ok(result) => Outcome::Result(result),
                Err(fault) => Outcome::Fault(fault),
            },
            (_, outcome) => outcome,
        };
        if let Some(lacked) = self.lacked.filter(|_| is_failure(&outcome)) {
            return self.done(Outcome::Fault(missing(lacked)));
        }
        let urls = match &outcome {
            Outcome::Error(error) if self.call.client.revision.era() == Era::Stateless => ask::required_urls(error),
            _ => None,
        };
        match urls {
            None => self.end(outcome),
            Some(_) if !Abilities::of(&self.call.client).include(Abilities::URL) => self.done(Outcome::Fault(missing(Abilities::URL))),
            Some(urls) => {
                let questions = urls.into_iter().map(|asked| Question { ticket: 0, asked }).collect();
                self.steps.push_back(Step::ParkUntilVisited(questions));
            }
        }
    }

    // --- a stateless server, a handshake client ------------------------------------------------

    fn handle_round(&mut self, result: &Bytes, first: u64, now: Instant) {
        let rounds = self.rounds.get_or_insert_with(|| Rounds::new(self.call.clone(), self.patience.answer, now));
        let asks = match rounds.handle_result(result, first, now) {
            Ok(asks) => asks,
            Err(outcome) => return self.done(outcome),
        };
        if let Some(fault) = asks.iter().find_map(|ask| undeclared(&self.call.client, ask)) {
            let outcome = rounds.failed(fault);
            return self.done(outcome);
        }
        self.asking = true;
        self.steps.extend(asks.into_iter().map(|ask| Step::Reply(Reply::Ask(ask))));
    }

    fn stop_asking(&mut self, outcome: Outcome) {
        self.asking = false;
        let open: Vec<u64> = self.rounds.iter().flat_map(Rounds::open).collect();
        self.withdraw(open);
        self.done(outcome);
    }

    /// These questions need no answers any more. What the client was not asked yet, it need not be
    /// asked.
    fn withdraw(&mut self, open: Vec<u64>) {
        let other = |step: &Step, ticket: u64| !matches!(step, Step::Reply(Reply::Ask(ask)) if ask.ticket == ticket);
        for ticket in open {
            let before = self.steps.len();
            self.steps.retain(|step| other(step, ticket));
            if self.steps.len() == before {
                self.steps.push_back(Step::Reply(Reply::Withdrawn(ticket)));
            }
        }
    }

    // --- tasks ----------------------------------------------------------------------------------

    /// The server made a task of the call.
    fn handle_begun(&mut self, created: &Bytes, now: Instant) {
        let name = &self.server.name;
        let handed = match (self.tasks, self.server.era()) {
            (Tasks::HandOver, Era::Stateless) => tasks::legacy_created(name, created).map(Some),
            (Tasks::HandOver, Era::Handshake) => tasks::extension_created(name, created).map(Some),
            (Tasks::Follow | Tasks::FollowAnyway, Era::Stateless) => {
                let following = Following::new(name, created, self.patience.answer, now, now + self.patience.task);
                following.map(|following| {
                    self.following = Some(following);
                    None
                })
            }
            (Tasks::Follow | Tasks::FollowAnyway, Era::Handshake) => tasks::Task::read(name, created).map(|task| {
                self.steps.push_back(Step::Fetch(task.id.clone()));
                self.fetching = Some(task.id);
                None
            }),
        };
        match handed {
            Ok(None) => {}
            Ok(Some(task)) => self.done(Outcome::Result(task)),
            Err(fault) => self.done(Outcome::Fault(fault)),
        }
    }

    /// A question of a task that its client knows nothing of.
    fn unmarked(&self, ask: Ask) -> Ask {
        let plain = || {
            let params = tasks::unrelated(&self.server.name, ask.message.params_text().as_bytes()).ok()?;
            Message::read(json::splice(&ask.message.bytes, &[(ask.message.params?, &params)]).into()).ok()
        };
        let message = plain();
        Ask { message: message.unwrap_or(ask.message), ..ask }
    }

    /// How the task is that is followed.
    fn handle_task(&mut self, result: &Bytes, first: u64, now: Instant) {
        let Some(following) = &mut self.following else { return };
        match following.handle_get(result, first, now) {
            Looked::GoesOn => {}
            // A task that takes too long is a fault of the call; a client that refuses is the tool's.
            Looked::Ended(Outcome::Fault(fault)) => {
                let open: Vec<u64> = following.open().collect();
                let abandoned = self.abandoned();
                self.steps.extend(abandoned.map(|(method, params)| Step::Tell(method, params)));
                self.withdraw(open);
                self.following = None;
                self.done(Outcome::Fault(fault));
            }
            Looked::Ended(outcome) => {
                let open: Vec<u64> = following.open().collect();
                self.withdraw(open);
                self.following = None;
                self.end(outcome);
            }
            Looked::Asks(asks) => match asks.iter().find_map(|ask| undeclared(&self.call.client, ask)) {
                Some(fault) => self.stop_following(fault),
                None => self.steps.extend(asks.into_iter().map(|ask| Step::Reply(Reply::Ask(ask)))),
            },
        }
    }

    /// The task is not worth following any more, nor worth working on.
    fn stop_following(&mut self, fault: Fault) {
        let abandoned = self.abandoned();
        let Some(following) = self.following.take() else { return };
        self.steps.extend(abandoned.map(|(method, params)| Step::Tell(method, params)));
        self.withdraw(following.open().collect());
        self.done(rounds::failed(&self.call.method, fault));
    }

    // --- either way ----------------------------------------------------------------------------

    /// The server's last word, for the client.
    fn end(&mut self, outcome: Outcome) {
        // What came of a task is the result of the call it was made of.
        let method = if self.call.method == Method::TaskResult { &Method::ToolsCall } else { &self.call.method };
        let outcome = bridge::outcome(&self.call.client, &self.server, method, outcome);
        self.done(outcome);
    }

    fn done(&mut self, outcome: Outcome) {
        self.steps.push_back(Step::Reply(Reply::Done(outcome)));
    }
}

/// Whether the server made a task of the call.
fn is_task(call: &Call, server: &Server, result: &Bytes) -> bool {
    call.method == Method::ToolsCall && server.can.tasks && tasks::begins_task(result, server.era())
}

fn undeclared(client: &Client, ask: &Ask) -> Option<Fault> {
    if let Err(why) = ask::for_revision(ask, client.revision) {
        return Some(Fault::client(Kind::Untranslatable).tell(why));
    }
    let lacked = client.lacks(ask)?;
    Some(Fault::client(Kind::Untranslatable).tell(format!(
        "the server needs to ask {}, and this client did not declare that it can answer ({})",
        ask.method.as_str(),
        lacked.to_json()
    )))
}

/// The client lacks what the server needs (2026-07-28, "MissingRequiredClientCapability").
fn missing(lacked: Abilities) -> Fault {
    let required = lacked.to_json();
    Fault::client(Kind::Capability)
        .tell(format!("Missing required client capability: the server needs to ask this client something, which takes {required}"))
        .with_data(format!("{{\"requiredCapabilities\":{required}}}"))
}

/// Whether a call came to nothing: by an error, or by a result that says so.
fn is_failure(outcome: &Outcome) -> bool {
    let result = match outcome {
        Outcome::Result(result) => result,
        Outcome::Error(_) => return true,
        // What failed on the way has nothing to do with what was asked.
        Outcome::Fault(_) => return false,
    };
    json::field(result, "isError") == Some(b"true")
}
