//! A stateless server's questions, asked of a client that waits for its call.
//!
//! ```text
//!   called ──input_required──▶ asking ──every answer──▶ called again ──▶ … ──▶ its result
//!                                │
//!                                └──refused, withdrawn, too late, too often──▶ over
//! ```
//!
//! The server keeps nothing of the call: it is sent again with the answers of this round and with
//! the state it gave, byte for byte. What cannot be said in an answer (a client's error to sampling
//! or roots) ends the call.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bridge::ask;
use crate::bridge::write_object;
use crate::call::{Ask, Call, Outcome, object};
use crate::fault::{Fault, Kind};
use crate::json;
use crate::message::{Message, Params};
use crate::methods::Method;

/// Rounds one call may take.
pub const MAX_ROUNDS: u32 = 8;
/// Questions one round may hold.
const MAX_QUESTIONS: usize = 32;
/// Before a call is sent again for a state alone.
const PAUSE: Duration = Duration::from_millis(250);

/// A call with the rounds it has taken.
#[derive(Debug)]
pub struct Rounds {
    call: Call,
    round: u32,
    /// How long a client may take for one round.
    patience: Duration,
    /// Questions of this round: their keys, and the answers so far.
    asked: Vec<Asked>,
    /// The JSON text of the server's state.
    state: Option<Bytes>,
    /// When this round is over, or when a state alone is sent back.
    due: Instant,
}

#[derive(Debug)]
struct Asked {
    ticket: u64,
    key: String,
    method: Method,
    answer: Option<Bytes>,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// Wait for an answer, or until then.
    Wait(Instant),
    /// Send this call.
    Call(Box<Call>),
    /// The call is over.
    Done(Outcome),
}

/// Whether a result is an InputRequiredResult.
pub fn is_input_required(result: &Bytes) -> bool {
    if memchr::memmem::find(result, b"input_required").is_none() {
        return false;
    }
    let Ok(message) = object(result.clone()) else { return false };
    let Ok([kind]) = message.params_fields(&["resultType"]) else { return false };
    message.string_at(kind).as_deref() == Some("input_required")
}

impl Rounds {
    /// The rounds of `call`, none of which was taken.
    pub fn new(call: Call, patience: Duration, now: Instant) -> Rounds {
        Rounds { call, round: 0, patience, asked: Vec::new(), state: None, due: now }
    }

    /// The server's InputRequiredResult: gives the questions for the client, with tickets from
    /// `first` on.
    pub fn handle_result(&mut self, result: &Bytes, first: u64, now: Instant) -> Result<Vec<Ask>, Outcome> {
        let broken =
            |why: String| Fault::backend("", Kind::Backend).tell(format!("the server asked in a way that cannot be understood: {why}"));
        self.round += 1;
        if self.round > MAX_ROUNDS {
            let told = format!("the server asked again after {MAX_ROUNDS} rounds of answers");
            return Err(self.failed(Fault::backend("", Kind::Backend).tell(told)));
        }
        let read = || {
            let message = object(result.clone())?;
            let [requests, state] = message.params_fields(&["inputRequests", "requestState"]).map_err(|e| e.to_string())?;
            let state = state.map(|at| message.slice(at));
            let Some(requests) = requests else { return Ok((Vec::new(), Vec::new(), state)) };
            let members = json::members(message.text(requests)).map_err(|e| format!("`inputRequests`: {e}"))?;
            if members.len() > MAX_QUESTIONS {
                return Err(format!("more than {MAX_QUESTIONS} questions at once"));
            }
            let mut asks = Vec::with_capacity(members.len());
            let mut asked = Vec::with_capacity(members.len());
            for (ticket, (key, request)) in (first..).zip(members) {
                let ask = ask::ask(ticket, request).map_err(|why| format!("`{key}`: {why}"))?;
                asked.push(Asked { ticket, key: key.into_owned(), method: ask.method.clone(), answer: None });
                asks.push(ask);
            }
            Ok((asks, asked, state))
        };
        let (asks, asked, state) = read().map_err(|why: String| self.failed(broken(why)))?;
        if asked.is_empty() && state.is_none() {
            return Err(self.failed(broken("neither `inputRequests` nor `requestState`".into())));
        }
        self.due = now + if asked.is_empty() { PAUSE } else { self.patience };
        (self.asked, self.state) = (asked, state);
        Ok(asks)
    }

    /// The client's answer to a question, or its refusal. An outcome ends the call.
    pub fn handle_answer(&mut self, ticket: u64, answer: Result<&[u8], &[u8]>) -> Option<Outcome> {
        let at = self.asked.iter().position(|a| a.ticket == ticket && a.answer.is_none())?;
        let asked = &mut self.asked[at];
        match answer {
            Ok(result) if result.first() == Some(&b'{') => asked.answer = Some(ask::answer(result)),
            // There is no way to say an error, but a user who does not want to be asked has one.
            _ if asked.method == Method::Elicitation => asked.answer = Some(Bytes::from_static(b"{\"action\":\"cancel\"}")),
            Ok(_) => {
                let told = format!("the client's answer to {} is no object", asked.method.as_str());
                return Some(self.failed(Fault::client(Kind::Untranslatable).tell(told)));
            }
            Err(error) => {
                let why = message_of(error);
                let told = format!("the client refused {}: {why}", asked.method.as_str());
                return Some(self.failed(Fault::client(Kind::Untranslatable).tell(told)));
            }
        }
        None
    }

    /// What to do now.
    pub fn poll_next(&mut self, now: Instant) -> Next {
        let waiting = self.asked.iter().any(|a| a.answer.is_none());
        if waiting && self.due <= now {
            let told = format!("the client did not answer the server's question within {} s", self.patience.as_secs_f32());
            return Next::Done(self.failed(Fault::client(Kind::Timeout).tell(told)));
        }
        if waiting || (self.asked.is_empty() && self.due > now) {
            return Next::Wait(self.due);
        }
        match self.again() {
            Some(call) => Next::Call(Box::new(call)),
            None => Next::Done(self.failed(Fault::gateway(Kind::Backend).tell("the call could not be written again"))),
        }
    }

    /// Questions that the client has not answered.
    pub fn open(&self) -> impl Iterator<Item = u64> + '_ {
        self.asked.iter().filter(|a| a.answer.is_none()).map(|a| a.ticket)
    }

    /// How the call ends with `fault`, as its client is used to it: a tool that failed says so in its
    /// result, where the model reads it.
    pub fn failed(&self, fault: Fault) -> Outcome {
        failed(&self.call.method, fault)
    }

    /// The call, with this round's answers and the server's state.
    fn again(&mut self) -> Option<Call> {
        let answers = std::mem::take(&mut self.asked);
        let answers = write_object(answers.into_iter().filter_map(|a| Some((a.key, a.answer?.to_vec()))));
        let mut members: Vec<(String, Vec<u8>)> = Vec::new();
        if answers != b"{}" {
            members.push(("inputResponses".into(), answers));
        }
        if let Some(state) = self.state.take() {
            members.push(("requestState".into(), state.to_vec()));
        }
        with_params(&self.call, &["inputResponses", "requestState"], members)
    }
}

/// The call without members of its params named `drop`, and with `add`.
fn with_params(call: &Call, drop: &[&str], add: Vec<(String, Vec<u8>)>) -> Option<Call> {
    let kept = json::members(call.message.params_text()).ok()?;
    let kept = kept.into_iter().filter(|(key, _)| !drop.contains(&&**key));
    let params = write_object(kept.map(|(key, value)| (key.into_owned(), value.as_bytes().to_vec())).chain(add));
    let bytes = match call.message.params {
        Some(at) => json::splice(&call.message.bytes, &[(at, &params)]),
        None => {
            json::splice(&call.message.bytes, &[(json::Span::inside(&call.message.bytes), &[b"\"params\":", &params[..], b","].concat())])
        }
    };
    let message = Message::read(bytes.into()).ok()?;
    let params = Params::read(&message).ok()?;
    Some(Call { message, params, ..call.clone() })
}

/// The call as it would be sent for the first time: a handshake server knows nothing of retries.
pub fn first_time(call: Call) -> Call {
    if call.params.input_responses.is_none() && call.params.request_state.is_none() {
        return call;
    }
    with_params(&call, &["inputResponses", "requestState"], Vec::new()).unwrap_or(call)
}

/// How a call of this method ends with `fault`, for a handshake client.
pub fn failed(method: &Method, fault: Fault) -> Outcome {
    if *method != Method::ToolsCall || fault.kind == Kind::Cancelled {
        return Outcome::Fault(fault);
    }
    let text = json::quote(&fault.told);
    Outcome::Result(format!("{{\"content\":[{{\"type\":\"text\",\"text\":{text}}}],\"isError\":true}}").into())
}

/// The message of an error object.
pub(super) fn message_of(error: &[u8]) -> String {
    let read = || {
        let message = object(Bytes::copy_from_slice(error)).ok()?;
        let [text] = message.params_fields(&["message"]).ok()?;
        message.string_at(text).map(|t| t.into_owned())
    };
    read().unwrap_or_else(|| "it gave no reason".into())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // An origin for virtual time; nothing waits.
mod tests {
    use super::*;
    use crate::call::{Client, Principal};
    use crate::message::Kind as MessageKind;
    use crate::version::Revision;
    use std::sync::Arc;

    fn rounds(method: &str) -> Rounds {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"t","arguments":{{"x":1.0}}}}}}"#);
        let message = Message::read(text.into()).unwrap();
        let params = Params::read(&message).unwrap();
        let MessageKind::Request(id, method) = message.kind.clone() else { unreachable!() };
        let client = Client {
            revision: Revision::V2025_11_25,
            principal: Principal::default(),
            transport: crate::call::Transport::Streamable,
            info: None,
            capabilities: "{}".into(),
        };
        let call = Call { id, method, message, params, client: Arc::new(client), log_level: None };
        Rounds::new(call, Duration::from_secs(10), Instant::now())
    }

    fn handle(rounds: &mut Rounds, result: &str) -> Result<Vec<u64>, String> {
        let now = rounds.due;
        let asks = rounds.handle_result(&Bytes::copy_from_slice(result.as_bytes()), 10, now);
        asks.map(|a| a.iter().map(|a| a.ticket).collect()).map_err(|o| format!("{o:?}"))
    }

    fn next(rounds: &mut Rounds, after: u64) -> String {
        match rounds.poll_next(rounds.due - Duration::from_secs(10) + Duration::from_millis(after)) {
            Next::Wait(_) => "wait".into(),
            Next::Call(call) => String::from_utf8_lossy(&call.message.bytes).into_owned(),
            Next::Done(Outcome::Result(r)) => String::from_utf8_lossy(&r).into_owned(),
            Next::Done(other) => format!("{other:?}"),
        }
    }

    const TWO: &str = r#"{"resultType":"input_required","inputRequests":{"b":{"method":"sampling/createMessage","params":{"maxTokens":1}},"a":{"method":"elicitation/create","params":{"message":"?"}}},"requestState":"s\u0074"}"#;

    #[test]
    fn gathers_every_answer_and_calls_again() {
        let mut r = rounds("tools/call");
        assert_eq!(handle(&mut r, TWO).unwrap(), [10, 11]);
        assert_eq!(next(&mut r, 0), "wait");
        assert!(r.handle_answer(11, Ok(br#"{"action":"accept","content":{"v":2.50}}"#)).is_none());
        assert_eq!((next(&mut r, 1), r.open().collect::<Vec<_>>()), ("wait".into(), vec![10]));
        assert!(r.handle_answer(99, Ok(b"{}")).is_none(), "an answer to nothing");
        assert!(r.handle_answer(11, Err(b"{}")).is_none(), "the first answer counts");
        assert!(r.handle_answer(10, Ok(br#"{"_meta":{},"model":"m"}"#)).is_none());
        assert_eq!(
            next(&mut r, 2),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"x":1.0},"inputResponses":{"b":{"model":"m"},"a":{"action":"accept","content":{"v":2.50}}},"requestState":"s\u0074"}}"#
        );
        // Answers and state are those of one round.
        assert_eq!(handle(&mut r, r#"{"resultType":"input_required","inputRequests":{"c":{"method":"roots/list"}}}"#).unwrap(), [10]);
        assert!(r.handle_answer(10, Ok(br#"{"roots":[]}"#)).is_none());
        let again = next(&mut r, 3);
        assert!(again.ends_with(r#""inputResponses":{"c":{"roots":[]}}}}"#), "{again}");
    }

    #[test]
    fn what_no_answer_can_say_ends_the_call() {
        let mut r = rounds("tools/call");
        handle(&mut r, TWO).unwrap();
        assert!(r.handle_answer(11, Err(br#"{"code":-1,"message":"no"}"#)).is_none(), "a user may cancel");
        let Some(Outcome::Result(result)) = r.handle_answer(10, Err(br#"{"code":-1,"message":"no model"}"#)) else { panic!("it goes on") };
        assert_eq!(
            &result[..],
            br#"{"content":[{"type":"text","text":"the client refused sampling/createMessage: no model"}],"isError":true}"#
        );
        let mut r = rounds("prompts/get");
        handle(&mut r, TWO).unwrap();
        assert!(matches!(r.handle_answer(10, Ok(b"5")), Some(Outcome::Fault(_))));
    }

    #[test]
    fn rounds_and_time_are_bounded() {
        let mut r = rounds("tools/call");
        let alone = r#"{"resultType":"input_required","requestState":{"n":1}}"#;
        for _ in 0..MAX_ROUNDS {
            assert!(handle(&mut r, alone).unwrap().is_empty());
            assert!(matches!(r.poll_next(r.due - Duration::from_millis(1)), Next::Wait(_)), "a pause");
            let Next::Call(call) = r.poll_next(r.due) else { panic!("no call") };
            assert!(call.message.params_text().ends_with(r#""requestState":{"n":1}}"#));
        }
        assert!(handle(&mut r, alone).unwrap_err().contains("after 8 rounds"));
        let mut r = rounds("tools/call");
        handle(&mut r, TWO).unwrap();
        assert!(next(&mut r, 10_000).contains("did not answer"), "too late");
    }

    #[test]
    fn a_server_that_asks_badly_is_at_fault() {
        for bad in [
            r#"{"resultType":"input_required"}"#,
            r#"{"resultType":"input_required","inputRequests":{}}"#,
            r#"{"resultType":"input_required","inputRequests":[]}"#,
            r#"{"resultType":"input_required","inputRequests":{"a":{"method":"ping"}}}"#,
            r#"{"resultType":"input_required","inputRequests":{"a":1}}"#,
        ] {
            assert!(handle(&mut rounds("prompts/get"), bad).unwrap_err().contains("cannot be understood"), "{bad}");
        }
        assert!(is_input_required(&Bytes::from_static(TWO.as_bytes())));
        for no in [r#"{"resultType":"complete","x":"input_required"}"#, r#"{"content":["input_required"]}"#, "[]"] {
            assert!(!is_input_required(&Bytes::from_static(no.as_bytes())), "{no}");
        }
    }
}
