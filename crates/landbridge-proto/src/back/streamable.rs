//! A call over Streamable HTTP: what becomes of the response to its POST, and of streams that break off.
//!
//! ```text
//!   POST ──▶ a stream of events ─────────▶ followed; where it breaks off, [`Resumption`]
//!        ├─▶ its answer, or an error ────▶ the end
//!        ├─▶ 404: a forgotten session ───▶ another session, and the POST again
//!        ├─▶ -32020, of a tool ──────────▶ a look at the server's tools, and the POST again
//!        ├─▶ -32022, of 2026-07-28 ──────▶ the server has to be met again
//!        └─▶ anything else ──────────────▶ the end, without an answer
//! ```
//!
//! Only what the server says that it has not read is sent again, and for each reason once.

use std::time::Duration;

use bytes::Bytes;

use crate::back::approach::supported;
use crate::back::link::Key;
use crate::bridge::code_of;
use crate::call::Outcome;
use crate::json;
use crate::message::{Kind, Message};
use crate::methods::Method;
use crate::version::{Era, Revision};

/// What becomes of a call whose POST was answered without a stream.
#[derive(Debug)]
pub enum Next {
    /// This is its answer.
    Answered(Message),
    /// It ends with this, which does not say whose answer it is.
    Ended(Outcome),
    /// The server has forgotten the session: open another, and send the call again.
    Renew,
    /// What is known of the server's tools is old: look again, and send the call again.
    LookAgain,
    /// The server does not speak what it spoke, but these.
    MeetAgain(Vec<Revision>),
    /// There is no answer in it.
    Unanswered,
}

/// The attempts to send one call.
#[derive(Debug)]
pub struct Attempts {
    key: Key,
    era: Era,
    line: Bytes,
    renewed: bool,
    looked_again: bool,
}

impl Attempts {
    /// Of the call `key`, whose request is `line`.
    pub fn new(key: Key, era: Era, line: Bytes) -> Attempts {
        Attempts { key, era, line, renewed: false, looked_again: false }
    }

    /// Of what a session is told before all else, and again when there is another: that opens none, or a server
    /// that refuses it would be asked for sessions for ever.
    pub fn first(key: Key, era: Era, line: Bytes) -> Attempts {
        Attempts { renewed: true, ..Attempts::new(key, era, line) }
    }

    /// A response that is no stream. `named`: the request named a session.
    pub fn handle_response(&mut self, status: u16, named: bool, body: &Bytes) -> Next {
        let answer = answer_in(body).and_then(|answer| match answer.kind.clone() {
            Kind::Response(id, result) => Some((id, result, answer)),
            _ => None,
        });
        let (is_ours, code) = answer.as_ref().map_or((false, None), |(id, result, answer)| {
            let number = id.as_ref().and_then(|id| id.as_number());
            (number == Some(self.key.id()), result.err().and_then(|at| code_of(&answer.slice(at))))
        });
        if named && !self.renewed && forgot_session(status, is_ours, code, body) {
            self.renewed = true;
            return Next::Renew;
        }
        if self.era == Era::Stateless && code == Some(-32020) && !self.looked_again && self.is_of_a_tool() {
            self.looked_again = true;
            return Next::LookAgain;
        }
        match answer {
            // It was another server, or another version of it, that said what it speaks.
            Some((_, Err(at), answer)) if self.era == Era::Stateless && code == Some(-32022) => {
                Next::MeetAgain(supported(answer.slice(at)))
            }
            Some((_, _, answer)) if is_ours => Next::Answered(answer),
            Some((_, Err(at), answer)) => Next::Ended(Outcome::Error(answer.slice(at))),
            _ => Next::Unanswered,
        }
    }

    fn is_of_a_tool(&self) -> bool {
        Message::read(self.line.clone()).is_ok_and(|m| matches!(m.kind, Kind::Request(_, Method::ToolsCall)))
    }
}

/// The answer in a body, on one line, if it is one.
pub fn answer_in(body: &Bytes) -> Option<Message> {
    let message = Message::read(json::on_one_line(body)).ok()?;
    matches!(message.kind, Kind::Response(..)).then_some(message)
}

/// Whether a response says that the session is unknown, and so that the request was not read: 404 as the
/// specification has it, or 400 as many servers say it that were never told of a session.
fn forgot_session(status: u16, is_ours: bool, code: Option<i64>, body: &[u8]) -> bool {
    match status {
        404 => !(is_ours && code == Some(-32601)),
        400 => !is_ours && memchr::memmem::find(&body.to_ascii_lowercase(), b"session").is_some(),
        _ => false,
    }
}

/// What becomes of a stream that we tried to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Its events follow.
    Stream,
    /// The server is in trouble: another try, later.
    Later,
    /// There is none.
    Refused,
}

impl Opened {
    /// By the response to a GET.
    pub fn by(status: u16, is_events: bool) -> Opened {
        match status {
            200..=299 if is_events => Opened::Stream,
            500.. => Opened::Later,
            _ => Opened::Refused,
        }
    }
}

/// Attempts in a row to take a call's stream up again.
const RESUMES: u32 = 5;

/// The stream of a call, in case it breaks off: with `Last-Event-ID` it may go on, in the session in which
/// it began.
#[derive(Debug)]
pub struct Resumption {
    era: Era,
    failures: u32,
}

impl Resumption {
    /// Of a stream that has just begun.
    pub fn new(era: Era) -> Resumption {
        Resumption { era, failures: 0 }
    }

    /// An event came.
    pub fn handle_event(&mut self) {
        self.failures = 0;
    }

    /// It broke off, or could not be taken up yet: how long to wait before the next attempt. `None`: it is
    /// lost.
    pub fn handle_broken(&mut self, last_id: Option<&str>, retry_ms: Option<u64>) -> Option<Duration> {
        self.failures += 1;
        let may = self.era == Era::Handshake && last_id.is_some() && self.failures <= RESUMES;
        may.then(|| wait(retry_ms, self.failures))
    }
}

/// How long to wait before the `failures`-th attempt to come back.
pub fn wait(retry_ms: Option<u64>, failures: u32) -> Duration {
    /// Where the server does not say.
    const RETRY: Duration = Duration::from_secs(1);
    /// The longest it may say.
    const LONGEST: Duration = Duration::from_secs(60);
    let first = retry_ms.map_or(RETRY, Duration::from_millis);
    (first * 2_u32.pow(failures.saturating_sub(1).min(6))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x"}}"#;

    /// What becomes of call 7, by what its POSTs came to one after the other.
    fn becomes(era: Era, responses: &[(u16, &str)]) -> Vec<String> {
        let mut attempts = Attempts::new(Key::of_id(7), era, CALL.into());
        let body = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let next = responses.iter().map(|(status, text)| match attempts.handle_response(*status, era == Era::Handshake, &body(text)) {
            Next::Answered(answer) => format!("answered {}", answer.bytes.len()),
            Next::Ended(Outcome::Error(error)) => format!("ended {}", String::from_utf8_lossy(&error)),
            next => format!("{next:?}"),
        });
        next.collect()
    }

    #[test]
    fn a_forgotten_session_is_renewed_once() {
        let said = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: no valid session"}}"#;
        for (status, text) in [(404, ""), (404, "gone"), (404, said), (400, said), (400, "unknown Session")] {
            assert_eq!(becomes(Era::Handshake, &[(status, text)]), ["Renew"], "{status} {text}");
            assert_eq!(becomes(Era::Handshake, &[(status, text); 2])[0], "Renew");
            assert_ne!(becomes(Era::Handshake, &[(status, text); 2])[1], "Renew", "{status} {text}");
            assert_ne!(becomes(Era::Stateless, &[(status, text)]), ["Renew"], "{status} {text}");
        }
        let unknown = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no such method"}}"#;
        assert_eq!(becomes(Era::Handshake, &[(404, unknown)]), [format!("answered {}", unknown.len())]);
        assert_eq!(becomes(Era::Handshake, &[(400, "bad")]), ["Unanswered"]);
    }

    #[test]
    fn tools_are_looked_at_once() {
        let old = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32020,"message":"mismatch"}}"#;
        let answered = format!("answered {}", old.len());
        assert_eq!(becomes(Era::Stateless, &[(400, old); 2]), ["LookAgain", &answered]);
        assert_eq!(becomes(Era::Handshake, &[(400, old)]), [answered]);
    }

    #[test]
    fn an_answer_is_one_whatever_its_status() {
        let result = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
        for (status, era) in [(200, Era::Stateless), (500, Era::Handshake)] {
            assert_eq!(becomes(era, &[(status, result)]), [format!("answered {}", result.len())]);
        }
        let other = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600}}"#;
        assert_eq!(becomes(Era::Stateless, &[(400, other)]), [r#"ended {"code":-32600}"#]);
        for (status, text) in [(202, ""), (200, r#"{"jsonrpc":"2.0","id":8,"result":{}}"#), (500, "oh")] {
            assert_eq!(becomes(Era::Stateless, &[(status, text)]), ["Unanswered"], "{text}");
        }
        let another = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32022,"message":""}}"#;
        assert_eq!(becomes(Era::Stateless, &[(400, another)]), ["MeetAgain([])"]);
    }

    #[test]
    fn a_stream_is_taken_up_a_few_times_and_each_time_later() {
        let mut stream = Resumption::new(Era::Handshake);
        let waits: Vec<_> = (0..6).map(|_| stream.handle_broken(Some("e"), None).map(|w| w.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), Some(16), None]);
        stream.handle_event();
        assert_eq!(stream.handle_broken(Some("e"), Some(500)), Some(Duration::from_millis(500)));
        assert_eq!(stream.handle_broken(None, None), None);
        assert_eq!(Resumption::new(Era::Stateless).handle_broken(Some("e"), None), None);
        assert_eq!(wait(Some(600_000), 1), Duration::from_secs(60));
    }
}
