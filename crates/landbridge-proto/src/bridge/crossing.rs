//! One call between the eras, and what becomes of its server's questions.
//!
//! | | server asks live (until 2025-11-25) | server answers `input_required` (2026-07-28) |
//! |---|---|---|
//! | **client can be asked live** | (no crossing: passed on as it is) | asked, and the call sent again |
//! | **client is stateless** | the call is parked, `input_required` | (no crossing: passed on as it is) |
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
use crate::bridge;
use crate::bridge::ask;
use crate::bridge::parked::{Question, Responses};
use crate::bridge::rounds::{Next, Rounds, is_input_required};
use crate::call::{Ask, Call, Client, Outcome, Reply, Server};
use crate::fault::{Fault, Kind};
use crate::json;
use crate::version::Era;

/// Tickets that one round of questions may take.
pub const TICKETS: u64 = 64;

/// A call between the eras that its server may ask something for.
#[derive(Debug)]
pub struct Crossing {
    call: Call,
    server: Arc<Server>,
    patience: Duration,
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
    /// There is nothing to do before that time, unless something arrives.
    Wait(Instant),
}

impl Crossing {
    /// Whether a call to this server needs one.
    pub fn is_needed(call: &Call, server: &Server) -> bool {
        call.method.may_ask() && call.client.revision.era() != server.era()
    }

    /// `call` on its way to `server`, whose questions a client may take `patience` to answer.
    pub fn new(call: Call, server: Arc<Server>, patience: Duration) -> Crossing {
        Crossing {
            call,
            server,
            patience,
            steps: VecDeque::new(),
            asks: Vec::new(),
            looked_again: false,
            used: Vec::new(),
            lacked: None,
            rounds: None,
            asking: false,
        }
    }

    /// The call as it stands.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// The server it is for.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Whether the client is being asked, and no call is under way.
    pub fn is_asking(&self) -> bool {
        self.asking
    }

    /// Whether the client may still answer this.
    pub fn waits_for(&self, ticket: u64) -> bool {
        self.asking && self.rounds.as_ref().is_some_and(|r| r.open().any(|t| t == ticket))
    }

    /// The server said something. Should that be questions, they get tickets from `first` on.
    pub fn handle_reply(&mut self, reply: Reply, first: u64, now: Instant) {
        let stateless = self.call.client.revision.era() == Era::Stateless;
        match reply {
            Reply::Ask(ask) if stateless => self.handle_ask(ask),
            Reply::Withdrawn(ticket) if stateless => self.asks.retain(|ask| ask.ticket != ticket),
            Reply::Done(outcome) if stateless => self.handle_end(outcome),
            Reply::Done(Outcome::Result(result)) if is_input_required(&result) => self.handle_round(&result, first, now),
            Reply::Done(outcome) => self.end(outcome),
            reply => self.steps.push_back(Step::Reply(reply)),
        }
    }

    /// The server says nothing more for now; true: look once more, at once.
    ///
    /// What it asked so far belongs together, so the client is asked all of it. `is_open` tells
    /// whether the server still waits for an answer.
    pub fn handle_quiet(&mut self, is_open: impl Fn(u64) -> bool) -> bool {
        if self.asks.is_empty() {
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
        if let Some(outcome) = self.rounds.as_mut().filter(|_| self.asking).and_then(|r| r.handle_answer(ticket, answer)) {
            self.stop_asking(outcome);
        }
    }

    /// The client withdrew the call while it was asked.
    pub fn handle_abort(&mut self) {
        if self.asking {
            self.stop_asking(Outcome::Fault(Fault::client(Kind::Cancelled).tell("cancelled by the client")));
        }
    }

    /// A stateless client came back with the answers: the call is this one from now on.
    pub fn handle_resumed(&mut self, call: Call) {
        self.call = call;
    }

    /// What to do now.
    pub fn poll_step(&mut self, now: Instant) -> Option<Step> {
        if let Some(step) = self.steps.pop_front() {
            return Some(step);
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
            self.lacked.get_or_insert(lacked);
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
        if let Some(lacked) = self.lacked.filter(|_| is_failure(&outcome)) {
            return self.done(Outcome::Fault(missing(lacked)));
        }
        let urls = match &outcome {
            Outcome::Error(error) => ask::required_urls(error),
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
        let rounds = self.rounds.get_or_insert_with(|| Rounds::new(self.call.clone(), self.patience, now));
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
        // What the client was not asked yet, it need not be asked any more.
        let told = |step: &Step, ticket: u64| !matches!(step, Step::Reply(Reply::Ask(ask)) if ask.ticket == ticket);
        let open: Vec<u64> = self.rounds.iter().flat_map(Rounds::open).collect();
        for ticket in open {
            let before = self.steps.len();
            self.steps.retain(|step| told(step, ticket));
            if self.steps.len() == before {
                self.steps.push_back(Step::Reply(Reply::Withdrawn(ticket)));
            }
        }
        self.done(outcome);
    }

    // --- either way ----------------------------------------------------------------------------

    /// The server's last word, for the client.
    fn end(&mut self, outcome: Outcome) {
        let outcome = bridge::outcome(&self.call.client, &self.server, &self.call.method, outcome);
        self.done(outcome);
    }

    fn done(&mut self, outcome: Outcome) {
        self.steps.push_back(Step::Reply(Reply::Done(outcome)));
    }
}

fn undeclared(client: &Client, ask: &Ask) -> Option<Fault> {
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
    let Outcome::Result(result) = outcome else { return true };
    let mut found = [None];
    let read = std::str::from_utf8(result).is_ok_and(|text| json::fields(text, &["isError"], &mut found).is_ok());
    read && found[0].is_some_and(|at| at.of_bytes(result) == b"true")
}
