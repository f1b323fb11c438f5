//! What arrives on our own standard input, line by line: whose is it, and is it well formed?
//!
//! A host that starts us need not have said which era it speaks, and some speak both on one pipe: they ask
//! `server/discover`, and then shake hands. So each request is looked at by itself, as on HTTP: one that
//! describes itself in `_meta` is stateless, everything else belongs to the one session there may be. Odd:
//! whatever is refused is refused on the same pipe, so that an id that is given back must be one of a
//! request, or our client would take the refusal for the answer to another request of its own.

use std::time::Duration;

use bytes::Bytes;

use crate::call::{Call, Principal, Transport};
use crate::fault::{Fault, Kind as FaultKind};
use crate::front::stateless;
use crate::front::streamable::{self, Field, Head, Refusal, classify};
use crate::json;
use crate::message::{Id, Kind, META_REVISION, Message};
use crate::methods::Method;
use crate::version::{Era, Revision};

/// What a line turned out to be.
#[derive(Debug)]
pub enum Incoming {
    /// A call of 2026-07-28, checked.
    Stateless(Box<Call>),
    /// The first request of a handshake session.
    Initialize(Message),
    /// For the session; without one a notification, or a response to nothing.
    Session(Message),
    /// Several for it (2025-03-26 only).
    Batch(Vec<Message>),
    /// A `ping`, which may come before the handshake (lifecycle).
    Ping(Id),
    /// No answer to a question that could be read: nobody answers answers.
    Stray(String),
}

/// On a pipe the headers say nothing, and there is a session or there is none.
const HEAD: Head<'static> = Head {
    revision: Field::Absent,
    session: Field::One(""),
    method: Field::Absent,
    name: Field::Absent,
    accept: None,
    content_type: Some("application/json"),
};

/// Sorts a line. `session` is what the session there is speaks.
pub fn read(line: Bytes, session: Option<Revision>) -> Result<Incoming, Refusal> {
    let sorted = match classify(&HEAD, line.clone()) {
        Ok(sorted) => sorted,
        Err(mut refusal) => {
            let shape = Shape::of(&line);
            if shape == Shape::Answer {
                return Ok(Incoming::Stray(refusal.fault.told));
            }
            refusal.id = refusal.id.filter(|_| shape == Shape::Request);
            return Err(refusal);
        }
    };
    match sorted {
        streamable::Incoming::Initialize(message) => Ok(Incoming::Initialize(message)),
        streamable::Incoming::Stateless(message, params) => match &message.kind {
            // It says two things; hosts that say both mean the older one.
            Kind::Request(_, Method::Initialize) => Ok(Incoming::Initialize(message)),
            // Who holds our standard streams has started us: there is nobody else.
            _ => stateless::read(Principal::default(), Transport::Stdio, None, message, params)
                .map(|call| Incoming::Stateless(Box::new(call))),
        },
        streamable::Incoming::StatelessNotification => Ok(Incoming::Stray("a notification nobody defined".into())),
        streamable::Incoming::Session(message) => match (&message.kind, session) {
            (Kind::Request(id, Method::Ping), None) => Ok(Incoming::Ping(id.clone())),
            (Kind::Request(id, method), None) => Err(Refusal { fault: homeless(method), id: Some(id.clone()) }),
            _ => Ok(Incoming::Session(message)),
        },
        streamable::Incoming::Batch(messages) => match session {
            Some(Revision::V2025_03_26) => Ok(Incoming::Batch(messages)),
            _ => Err(Fault::client(FaultKind::Invalid).tell("only 2025-03-26 has batches; send one message a line").into()),
        },
    }
}

/// A request that says nothing of itself, and there is no session that would.
fn homeless(method: &Method) -> Fault {
    if !method.exists_in(Era::Handshake) {
        return Fault::client(FaultKind::Envelope)
            .tell(format!("`params._meta` must hold {META_REVISION:?} and the client's capabilities"));
    }
    Fault::client(FaultKind::NoSession).tell(format!(
        "there is no session; begin with `initialize`, or speak {} and say so in `params._meta[{META_REVISION:?}]`",
        Revision::NEWEST
    ))
}

/// What a line that could not be taken would have been, as far as can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Request,
    Answer,
    Other,
}

impl Shape {
    fn of(line: &[u8]) -> Shape {
        let mut found = [None; 3];
        if let Ok(text) = std::str::from_utf8(line) {
            // Of what is no message something may still be found.
            let _ = json::fields(text, &["method", "result", "error"], &mut found);
        }
        match found {
            [Some(_), ..] => Shape::Request,
            [None, None, None] => Shape::Other,
            _ => Shape::Answer,
        }
    }
}

/// A line beyond the limit, of which only both ends are left: a request is refused, the answer to a
/// question fails.
pub fn read_too_long(head: &[u8], tail: &[u8], limit: usize) -> Result<Incoming, Refusal> {
    let fault = Fault::client(FaultKind::TooLarge).tell(format!("the message is larger than the limit of {limit} bytes"));
    let holds = |word: &str| [head, tail].iter().any(|end| memchr::memmem::find(end, word.as_bytes()).is_some());
    let id = id_at_the_beginning(head).or_else(|| id_at_the_end(tail));
    if holds("\"method\"") {
        return Err(Refusal { fault, id });
    }
    match id {
        Some(id) if holds("\"result\"") || holds("\"error\"") => {
            let answer = Message::read(fault.message(Some(&id)).into());
            Ok(answer.map_or_else(|bad| Incoming::Stray(bad.why), Incoming::Session))
        }
        _ => Err(fault.into()),
    }
}

/// The `id` of an object that was cut off, if it is one of its first members.
fn id_at_the_beginning(head: &[u8]) -> Option<Id> {
    let (at, value) = memchr::memmem::find_iter(head, b"\"id\"").find_map(|at| Some((at, scalar(after_colon(&head[at + 4..])?)?)))?;
    // With the brace that it lacks it must be an object: this is not the id of something within.
    id_of(&[&head[..at], b"\"id\":", value, b"}"].concat())
}

/// The `id` of an object whose beginning is gone, if it is one of its last members.
fn id_at_the_end(tail: &[u8]) -> Option<Id> {
    let at = memchr::memmem::rfind(tail, b"\"id\"")?;
    id_of(&[b"{", &tail[at..]].concat())
}

fn id_of(object: &[u8]) -> Option<Id> {
    let id = json::field(object, "id")?;
    let request = [b"{\"jsonrpc\":\"2.0\",\"method\":\"\",\"id\":", id, b"}"].concat();
    match Message::read(request.into()).ok()?.kind {
        Kind::Request(id, _) => Some(id),
        _ => None,
    }
}

fn after_colon(text: &[u8]) -> Option<&[u8]> {
    text.trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start)
}

/// The string or number that `text` begins with.
fn scalar(text: &[u8]) -> Option<&[u8]> {
    let end = match text.first()? {
        b'"' => {
            let mut escaped = false;
            let closes = |b: &u8| {
                let closes = *b == b'"' && !escaped;
                escaped = *b == b'\\' && !escaped;
                closes
            };
            text[1..].iter().position(closes)? + 2
        }
        _ => text.iter().position(|b| !(b.is_ascii_digit() || b"+-.eE".contains(b)))?,
    };
    Some(&text[..end])
}

/// How often, and after which waits, a server that cannot be reached is tried again.
#[derive(Debug, Default)]
pub struct Tries {
    n_waits: u32,
}

impl Tries {
    /// So often, before that is given up until its client wants something. While a client waits to hear whether it can
    /// be reached at all, the attempt that it waits for is the first of them: many wait no longer than a minute.
    pub const MOST: u32 = 5;
    /// Before the first; it doubles.
    const FIRST_WAIT: Duration = Duration::from_secs(2);
    /// A process that lasted as long as this was a success; what comes up only to end again was none.
    const STEADY: Duration = Duration::from_secs(60);

    /// Somebody waits, and an attempt failed with this. How long to wait before the next; `None`: there is none, and
    /// the fault is the answer.
    pub fn handle_failure(&mut self, fault: &Fault) -> Option<Duration> {
        may_pass(fault).then(|| self.wait(Tries::MOST - 1)).flatten()
    }

    /// Nobody waits, and an attempt failed. How long to wait before the next; `None`: there is none.
    pub fn handle_miss(&mut self) -> Option<Duration> {
        self.wait(Tries::MOST)
    }

    /// What was reached is gone again, after it `lasted` so long. How long to wait before the next attempt. A server
    /// `elsewhere` that was there at all is tried as often as if it was lost for the first time.
    pub fn handle_loss(&mut self, lasted: Duration, elsewhere: bool) -> Option<Duration> {
        if elsewhere || lasted >= Tries::STEADY {
            self.n_waits = 0;
        }
        self.wait(Tries::MOST)
    }

    fn wait(&mut self, most: u32) -> Option<Duration> {
        self.n_waits = (self.n_waits + 1).min(most + 1);
        (self.n_waits <= most).then(|| Tries::FIRST_WAIT * 2_u32.pow(self.n_waits - 1))
    }
}

/// Whether time may mend it. A command that cannot be started, a server that refuses us, one that broke the
/// protocol: those stay as they are, and who waits for them is told at once.
pub fn may_pass(fault: &Fault) -> bool {
    fault.kind == FaultKind::Unreachable
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: &str =
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

    fn sort(line: &str, session: Option<Revision>) -> String {
        told(read(Bytes::copy_from_slice(line.as_bytes()), session))
    }

    fn told(read: Result<Incoming, Refusal>) -> String {
        match read {
            Ok(Incoming::Stateless(call)) => format!("call {:?}", call.id),
            Ok(Incoming::Initialize(_)) => "initialize".into(),
            Ok(Incoming::Session(m)) => match m.kind {
                Kind::Response(id, Err(_)) => format!("failed answer {:?}", id.unwrap()),
                _ => "session".into(),
            },
            Ok(Incoming::Batch(all)) => format!("batch {}", all.len()),
            Ok(Incoming::Ping(id)) => format!("ping {id:?}"),
            Ok(Incoming::Stray(_)) => "stray".into(),
            Err(refusal) => format!("{} {:?}", refusal.fault.code(), refusal.id),
        }
    }

    #[test]
    fn each_line_says_whose_it_is() {
        let session = Some(Revision::V2025_11_25);
        let batch = r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"x"}]"#;
        let modern = |method: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{MODERN}}}}}"#);
        for (line, without, with) in [
            (modern("server/discover").as_str(), "call 1", "call 1"),
            (&modern("tools/call"), "call 1", "call 1"),
            (&modern("initialize"), "initialize", "initialize"),
            (&modern("ping"), "-32601 Some(1)", "-32601 Some(1)"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, "initialize", "initialize"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "ping 1", "session"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "-32000 Some(1)", "session"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#, "-32602 Some(1)", "session"),
            (r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#, "session", "session"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "session", "session"),
            (batch, "-32600 None", "-32600 None"),
            ("[]", "-32600 None", "-32600 None"),
            ("{", "-32700 None", "-32700 None"),
            ("garbage", "-32700 None", "-32700 None"),
            ("7", "-32600 None", "-32600 None"),
            (r#"{"jsonrpc":"1.0","id":5,"method":"x"}"#, "-32600 Some(5)", "-32600 Some(5)"),
            (r#"{"jsonrpc":"2.0","id":"q","method":"x","params":{"a":1,"a":2}}"#, "-32600 Some(\"q\")", "-32600 Some(\"q\")"),
            // An id of theirs is only given back where it was a request's.
            (r#"{"jsonrpc":"2.0","id":5}"#, "-32600 None", "-32600 None"),
            (r#"{"jsonrpc":"1.0","id":5,"result":{}}"#, "stray", "stray"),
            (r#"{"jsonrpc":"2.0","id":5,"result":{},"error":{}}"#, "stray", "stray"),
        ] {
            assert_eq!(sort(line, None), without, "{line}");
            assert_eq!(sort(line, session), with, "{line}");
        }
        assert_eq!(sort(batch, Some(Revision::V2025_03_26)), "batch 2");
    }

    #[test]
    fn a_call_is_checked_as_far_as_a_pipe_can() {
        let claim = |version: &str, more: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"x","_meta":{{"io.modelcontextprotocol/protocolVersion":{version}{more}}}}}}}"#
            )
        };
        let caps = r#","io.modelcontextprotocol/clientCapabilities":{}"#;
        assert_eq!(sort(&claim("\"2026-07-28\"", caps), None), "call 7");
        assert_eq!(sort(&claim("\"2026-07-28\"", ""), None), "-32602 Some(7)");
        assert_eq!(sort(&claim("1", caps), None), "-32602 Some(7)");
        assert_eq!(sort(&claim("\"v999\"", caps), None), "-32022 Some(7)");
    }

    #[test]
    fn the_id_of_an_overlong_line_is_found_at_either_end() {
        let filling = "x".repeat(2_000);
        for (line, expected) in [
            (format!(r#"{{"jsonrpc":"2.0","id": 5 ,"method":"x","params":{{"a":"{filling}"}}}}"#), "-32000 Some(5)"),
            (format!(r#"{{"id":"a\"b","method":"x","params":{{"id":6,"a":"{filling}"}}}}"#), r#"-32000 Some("a\"b")"#),
            (format!(r#"{{"method":"x","params":{{"id":6,"a":"{filling}"}},"jsonrpc":"2.0","id":7}}"#), "-32000 Some(7)"),
            (format!(r#"{{"method":"x","params":{{"a":"{filling}","id":6}}}}"#), "-32000 None"),
            (format!(r#"{{"method":"x","params":{{"a":"{filling}\"id\":6"}}}}"#), "-32000 None"),
            (format!(r#"{{"jsonrpc":"2.0","id":8,"result":{{"a":"{filling}"}}}}"#), "failed answer 8"),
            (filling.clone(), "-32000 None"),
            (format!("{{\"id\":{filling}"), "-32000 None"),
        ] {
            let (head, tail) = (&line.as_bytes()[..512.min(line.len())], &line.as_bytes()[line.len().saturating_sub(512)..]);
            assert_eq!(told(read_too_long(head, tail, 1_000)), expected, "{}", &line[..60]);
        }
    }

    #[test]
    fn only_what_time_may_mend_is_tried_again() {
        let away = Fault::backend("s", FaultKind::Unreachable);
        let mut tries = Tries::default();
        let waits: Vec<Option<u64>> = (0..6).map(|_| tries.handle_failure(&away).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(2), Some(4), Some(8), Some(16), None, None]);
        for kind in [FaultKind::Backend, FaultKind::Timeout, FaultKind::Busy, FaultKind::Capability] {
            assert_eq!(Tries::default().handle_failure(&Fault::backend("s", kind)), None, "{kind:?}");
        }
    }

    #[test]
    fn what_was_lost_is_tried_five_times_and_anew_once_it_was_there() {
        let secs = |wait: Option<Duration>| wait.map(|wait| wait.as_secs());
        let mut tries = Tries::default();
        let lost = secs(tries.handle_loss(Duration::from_secs(1), true));
        let missed: Vec<_> = (0..6).map(|_| secs(tries.handle_miss())).collect();
        assert_eq!((lost, missed), (Some(2), vec![Some(4), Some(8), Some(16), Some(32), None, None]));
        assert_eq!(secs(tries.handle_loss(Duration::ZERO, true)), Some(2));
    }

    #[test]
    fn a_process_that_lasted_is_tried_anew_and_one_that_did_not_less_and_less() {
        let mut tries = Tries::default();
        let waits: Vec<Option<u64>> = [0, 59, 60, 3_600, 1, 1, 1, 1, 1, 60]
            .into_iter()
            .map(|secs| tries.handle_loss(Duration::from_secs(secs), false).map(|wait| wait.as_secs()))
            .collect();
        assert_eq!(waits, [Some(2), Some(4), Some(2), Some(2), Some(4), Some(8), Some(16), Some(32), None, Some(2)]);
    }
}
