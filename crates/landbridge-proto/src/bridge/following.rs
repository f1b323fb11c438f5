//! A stateless server's task, followed to its end for a client that knows of none.
//!
//! ```text
//!   tasks/get ── working ──▶ wait ──▶ tasks/get … ──▶ its result
//!       └─ input_required ──▶ the client is asked ──▶ tasks/update, while tasks/get goes on
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bridge::ask;
use crate::bridge::rounds::message_of;
use crate::bridge::write_object;
use crate::call::{Ask, Outcome};
use crate::fault::{Fault, Kind};
use crate::json;
use crate::methods::Method;
use crate::tasks::{self, Poll};

/// One task being followed.
#[derive(Debug)]
pub struct Following {
    poll: Poll,
    /// When to look again; `None` while an answer is on its way.
    due: Option<Instant>,
    patience: Duration,
    open: Vec<Open>,
}

/// A question the client has not answered.
#[derive(Debug)]
struct Open {
    ticket: u64,
    key: String,
    method: Method,
    until: Instant,
}

/// What a look at the task came to.
#[derive(Debug)]
pub enum Looked {
    /// It goes on.
    GoesOn,
    /// It asks these.
    Asks(Vec<Ask>),
    /// It has ended, in its server's words.
    Ended(Outcome),
}

impl Following {
    /// Follows the task that `created` begins; a client may take `patience` for an answer.
    pub fn new(server: &str, created: &[u8], patience: Duration, now: Instant, deadline: Instant) -> Result<Following, Fault> {
        let poll = Poll::new(server, created, deadline)?;
        let due = Some(poll.next(now));
        Ok(Following { poll, due, patience, open: Vec::new() })
    }

    /// Looks at it at once.
    pub fn at_once(mut self, now: Instant) -> Following {
        self.due = Some(now);
        self
    }

    /// The id its server knows it by.
    pub fn task_id(&self) -> &str {
        self.poll.task_id()
    }

    /// The result of `tasks/get`. Questions get tickets from `first` on.
    pub fn handle_get(&mut self, result: &Bytes, first: u64, now: Instant) -> Looked {
        self.due = Some(self.poll.next(now));
        match self.poll.handle_get(result, now) {
            tasks::Step::WaitUntil(at) => {
                self.due = Some(at);
                Looked::GoesOn
            }
            tasks::Step::Done(outcome) => Looked::Ended(outcome),
            tasks::Step::Ask(questions) => {
                let mut asks = Vec::with_capacity(questions.len());
                for (ticket, question) in (first..).zip(questions) {
                    let text = format!(
                        "{{\"method\":{},\"params\":{}}}",
                        json::quote(question.method.as_str()),
                        String::from_utf8_lossy(&question.params)
                    );
                    match ask::ask(ticket, &text) {
                        Ok(ask) => asks.push(ask),
                        Err(why) => {
                            let told = format!("the server asked in a way that cannot be understood: {why}");
                            return Looked::Ended(Outcome::Fault(Fault::backend("", Kind::Backend).tell(told)));
                        }
                    }
                    self.open.push(Open { ticket, key: question.key, method: question.method, until: now + self.patience });
                }
                Looked::Asks(asks)
            }
        }
    }

    /// The client's answer: the params of the `tasks/update` that tells it, or why the task is not
    /// worth following any more. `None`: it was no answer to a question of this task.
    pub fn handle_answer(&mut self, ticket: u64, answer: Result<&[u8], &[u8]>) -> Option<Result<String, Fault>> {
        let at = self.open.iter().position(|o| o.ticket == ticket)?;
        let open = self.open.swap_remove(at);
        let answer = match answer {
            Ok(result) if result.first() == Some(&b'{') => ask::answer(result),
            _ if open.method == Method::Elicitation => Bytes::from_static(b"{\"action\":\"cancel\"}"),
            Ok(_) => {
                let told = format!("the client's answer to {} is no object", open.method.as_str());
                return Some(Err(Fault::client(Kind::Untranslatable).tell(told)));
            }
            Err(error) => {
                let told = format!("the client refused {}: {}", open.method.as_str(), message_of(error));
                return Some(Err(Fault::client(Kind::Untranslatable).tell(told)));
            }
        };
        let responses = write_object([(open.key, answer.to_vec())]);
        Some(Ok(tasks::update_params(self.task_id(), &String::from_utf8_lossy(&responses))))
    }

    /// Questions that the client has not answered.
    pub fn open(&self) -> impl Iterator<Item = u64> + '_ {
        self.open.iter().map(|o| o.ticket)
    }

    /// Whether a question has waited too long for its answer.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.open.iter().any(|o| o.until <= now)
    }

    /// When to look again; `None` while an answer is on its way.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Looks: the params of `tasks/get`.
    pub fn look(&mut self) -> String {
        self.due = None;
        tasks::params_of(self.task_id())
    }
}
