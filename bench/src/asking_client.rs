//! A client that is asked one question in each of its calls, in either era.
//!
//! ```text
//! session    POST call ──▶ stream: the question · POST answer ──▶ 202 · stream: the result
//! stateless  POST call ──▶ input_required · POST call with the answer ──▶ the result
//! ```
//!
//! Odd: a session needs two connections, because the call's own is taken by its stream until the
//! result has come. Each question must be the message of this client's call, and each result the
//! answer given to it, which nobody but this client can know. The state goes back as it came.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::answer::{Verdict, judge};
use crate::call::{self, Calls};
use crate::connection::Connection;
use crate::events::next_event;
use crate::fault::{Fault, excerpt_of};
use crate::http_client::{handshake, refused, session_headers, stateless_headers};
use crate::plan::{Mode, Work};
use crate::response::Response;

pub(crate) struct AskingClient {
    connection: Connection,
    response: Response,
    request: Vec<u8>,
    calls: Calls,
    /// Only a session has one.
    answers: Option<Answers>,
}

/// Where a session POSTs its answers.
struct Answers {
    connection: Connection,
    response: Response,
    head: Vec<u8>,
}

/// A request of the server.
#[derive(Deserialize)]
struct Question<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<QuestionParams<'a>>,
}

#[derive(Deserialize)]
struct QuestionParams<'a> {
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

impl Question<'_> {
    fn asks(&self, message: &str) -> bool {
        self.method == "elicitation/create" && self.params.as_ref().is_some_and(|params| params.message == message)
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    result: Option<InputRequired<'a>>,
}

#[derive(Deserialize)]
struct InputRequired<'a> {
    #[serde(borrow, default, rename = "resultType")]
    kind: Cow<'a, str>,
    /// The keys are the server's, or the gateway's own.
    #[serde(borrow, default, rename = "inputRequests")]
    questions: BTreeMap<String, Question<'a>>,
    #[serde(borrow, rename = "requestState")]
    state: Option<&'a RawValue>,
}

/// How often one call may come back with a question. The server asks once; a gateway may need a round more.
const ROUNDS: usize = 4;

impl AskingClient {
    pub(crate) async fn open(address: SocketAddr, path: &str, mode: Mode, client: usize) -> Result<Self, Fault> {
        let mut connection = Connection::open(address, None).await?;
        let mut response = Response::default();
        let host = address.to_string();
        if mode == Mode::Stateless {
            let calls = Calls::new(mode, Work::Asking, client, 1, call::post_head(&host, path, &stateless_headers(Work::Asking)));
            return Ok(AskingClient { connection, response, request: Vec::new(), calls, answers: None });
        }
        let session = handshake(&mut connection, &mut response, &host, path, Work::Asking, None).await?;
        let head = call::post_head(&host, path, &session_headers(session.as_deref()));
        let answers = Answers { connection: Connection::open(address, None).await?, response: Response::default(), head: head.clone() };
        // The handshake used the id 1.
        let calls = Calls::new(mode, Work::Asking, client, 2, head);
        Ok(AskingClient { connection, response, request: Vec::new(), calls, answers: Some(answers) })
    }

    /// One round trip, from the first byte of the call out to its result in.
    pub(crate) async fn call(&mut self) -> Result<Duration, Fault> {
        self.calls.advance();
        self.request.clear();
        self.calls.write_request(&mut self.request);
        let text = format!("answer to {}", self.calls.message());
        let answer = format!(r#"{{"action":"accept","content":{{"answer":"{text}"}}}}"#);
        match &mut self.answers {
            Some(answers) => {
                let (connection, response) = (&mut self.connection, &mut self.response);
                let outcome = ask_in_session(connection, response, answers, &self.request, &self.calls, &text, &answer).await;
                outcome.map_err(|fault| unusable_unless(self.response.is_done(), fault))
            }
            None => self.ask_stateless(&text, &answer).await,
        }
    }

    async fn ask_stateless(&mut self, text: &str, answer: &str) -> Result<Duration, Fault> {
        let sent = Instant::now();
        for _ in 0..ROUNDS {
            self.connection.exchange(&self.request, &mut self.response).await?;
            if self.response.status != 200 {
                return Err(unexpected("a question or its result", &self.response.body));
            }
            let body = last_message(&self.response);
            let reply = serde_json::from_slice::<Reply<'_>>(&body).ok().and_then(|reply| reply.result);
            let Some(asked) = reply.filter(|result| result.kind == "input_required") else {
                return right(judge(&body, self.calls.id(), Some(text)), &body).map(|()| sent.elapsed());
            };
            if !asked.questions.values().all(|question| question.asks(self.calls.message())) {
                return Err(unexpected("the question of this call", &body));
            }
            let mut more = String::new();
            for key in asked.questions.into_keys() {
                more.push_str(if more.is_empty() { r#","inputResponses":{"# } else { "," });
                more.push_str(&Value::from(key).to_string());
                more.push(':');
                more.push_str(answer);
            }
            if !more.is_empty() {
                more.push('}');
            }
            if let Some(state) = asked.state {
                more.push_str(r#","requestState":"#);
                more.push_str(state.get());
            }
            self.calls.renumber();
            self.request.clear();
            self.calls.write_request_with(&more, &mut self.request);
        }
        Err(unexpected("a result after so many rounds", &self.response.body))
    }
}

async fn ask_in_session(
    connection: &mut Connection,
    response: &mut Response,
    answers: &mut Answers,
    request: &[u8],
    calls: &Calls,
    text: &str,
    answer: &str,
) -> Result<Duration, Fault> {
    let sent = Instant::now();
    response.reset();
    connection.send(request).await?;
    let mut read = 0;
    let body = next_message(connection, response, &mut read).await?;
    let question = serde_json::from_slice::<Question<'_>>(&body).ok().filter(|question| question.asks(calls.message()));
    let Some(id) = question.and_then(|question| question.id) else {
        return Err(unexpected("the question of this call", &body));
    };
    let post = call::post(&answers.head, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{answer}}}"#, id.get()));
    let posting = async {
        answers.connection.exchange(&post, &mut answers.response).await?;
        if answers.response.status == 202 { Ok(()) } else { Err(refused("the POST of an answer", &answers.response)) }
    };
    let finishing = async {
        let body = next_message(connection, response, &mut read).await?;
        let elapsed = sent.elapsed();
        right(judge(&body, calls.id(), Some(text)), &body)?;
        while !response.is_done() {
            connection.advance(response).await?;
        }
        Ok(elapsed)
    };
    let outcome = tokio::try_join!(posting, finishing);
    outcome.map(|((), elapsed)| elapsed).map_err(|fault| unusable_unless(answers.response.is_done(), fault))
}

/// The next event with data behind `read`, or the whole body if it is no event stream.
async fn next_message(connection: &mut Connection, response: &mut Response, read: &mut usize) -> Result<Vec<u8>, Fault> {
    loop {
        if response.event_stream {
            while let Some((event, used)) = next_event(&response.body[*read..]) {
                *read += used;
                if !event.data.is_empty() {
                    return Ok(event.data.into_owned());
                }
            }
        }
        if response.is_done() {
            return match response.event_stream {
                true => Err(Fault::wrong("the event stream ended too early")),
                false => Ok(response.body.clone()),
            };
        }
        connection.advance(response).await?;
    }
}

/// What a whole response says: its body, or the last event of its stream.
fn last_message(response: &Response) -> Cow<'_, [u8]> {
    if !response.event_stream {
        return Cow::Borrowed(&response.body);
    }
    let (mut rest, mut last) = (&response.body[..], Cow::Borrowed(&b""[..]));
    while let Some((event, used)) = next_event(rest) {
        rest = &rest[used..];
        if !event.data.is_empty() {
            last = event.data;
        }
    }
    last
}

/// What is still to come of a response would be taken for the next call's.
fn unusable_unless(done: bool, fault: Fault) -> Fault {
    match fault {
        Fault::Wrong(why) if !done => Fault::broken(why),
        fault => fault,
    }
}

fn right(verdict: Verdict, body: &[u8]) -> Result<(), Fault> {
    if verdict == Verdict::Right { Ok(()) } else { Err(unexpected("the result with the answer", body)) }
}

fn unexpected(wanted: &str, body: &[u8]) -> Fault {
    Fault::wrong(format!("waited for {wanted}, the gateway answered: {}", excerpt_of(body, 400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_with_its_last_message() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nid: 1\ndata:\n\ndata: {\"a\":1}\n\ndata: {\"a\":2}\n\n";
        let mut response = Response::default();
        response.advance(bytes).expect("HTTP");
        assert_eq!(&*last_message(&response), br#"{"a":2}"#);
    }

    #[test]
    fn a_question_must_be_that_of_the_call() {
        let question: Question<'_> =
            serde_json::from_str(r#"{"id":"q","method":"elicitation/create","params":{"message":"a\u0062"}}"#).expect("JSON");
        assert!(question.asks("ab") && !question.asks("a"));
        let other: Question<'_> = serde_json::from_str(r#"{"id":1,"method":"roots/list"}"#).expect("JSON");
        assert!(!other.asks(""));
    }
}
