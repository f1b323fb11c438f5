//! What arrives on the one HTTP endpoint: which era is it, and is it well formed?
//!
//! The body decides, not the headers: a request that describes itself in `_meta` is stateless,
//! everything else belongs to a handshake. What is sorted here as [`Incoming::Session`] is
//! Streamable HTTP of 2025-03-26 to 2025-11-25, or a message to an HTTP+SSE session.

use std::sync::Arc;

use bytes::Bytes;

use crate::call::{Call, Client, Principal, Transport};
use crate::fault::{Fault, Kind as FaultKind};
use crate::headers::{Accept, is_json};
use crate::json;
use crate::message::{BadMessage, Id, Kind, META_REVISION, Message, Params};
use crate::methods::Method;
use crate::version::{Era, Revision};

/// What a client may say of itself is kept for as long as its session, so it has a bound.
const MAX_INTRODUCTION: usize = 64 * 1024;

/// Messages one batch may hold.
const MAX_BATCH: usize = 100;

/// One header, read so that two of it are never taken for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field<'a> {
    /// It is not there.
    #[default]
    Absent,
    /// Its value, white space around it taken off.
    One(&'a str),
    /// It is there more than once, or is no text.
    Bad,
}

impl<'a> Field<'a> {
    /// The value, if it is there and good.
    pub fn value(self) -> Option<&'a str> {
        match self {
            Field::One(value) => Some(value),
            _ => None,
        }
    }
}

/// The headers of an exchange that MCP gives a meaning.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'a> {
    /// `MCP-Protocol-Version`
    pub revision: Field<'a>,
    /// `Mcp-Session-Id`
    pub session: Field<'a>,
    /// `Mcp-Method`
    pub method: Field<'a>,
    /// `Mcp-Name`
    pub name: Field<'a>,
    /// `Accept`
    pub accept: Option<&'a str>,
    /// `Content-Type`
    pub content_type: Option<&'a str>,
}

impl Head<'_> {
    /// Whether the headers alone say 2026-07-28 or later.
    pub fn names_stateless(&self) -> bool {
        self.revision.value().is_some_and(is_modern)
    }
}

/// A refused exchange: the fault, and the id of the request it refuses where that could be read.
#[derive(Debug)]
pub struct Refusal {
    /// What is wrong.
    pub fault: Fault,
    /// The request's id.
    pub id: Option<Id>,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        Refusal { fault, id: None }
    }
}

impl From<BadMessage> for Refusal {
    fn from(bad: BadMessage) -> Refusal {
        let kind = if bad.syntax { FaultKind::Syntax } else { FaultKind::Invalid };
        Refusal { fault: Fault::client(kind).tell(bad.why), id: bad.id }
    }
}

/// What a POST turned out to be.
#[derive(Debug)]
pub enum Incoming {
    /// A request of 2026-07-28, still to be checked by [`super::stateless::read`].
    Stateless(Message, Params),
    /// A notification of 2026-07-28, which defines none over HTTP: taken and dropped.
    StatelessNotification,
    /// The first request of a handshake session.
    Initialize(Message),
    /// For the session the head names.
    Session(Message),
    /// Several for it (2025-03-26 only; the session knows whether it is).
    Batch(Vec<Message>),
}

/// Sorts a POST.
pub fn classify(head: &Head<'_>, body: Bytes) -> Result<Incoming, Refusal> {
    let unreadable = if !is_json(head.content_type) {
        Some(Fault::client(FaultKind::MediaType).tell("the body must be of type application/json"))
    } else if Accept::read(head.accept) == (Accept { json: false, events: false }) {
        Some(Fault::client(FaultKind::NotAcceptable).tell("`Accept` must allow application/json and text/event-stream"))
    } else {
        None
    };
    if let Some(fault) = unreadable {
        let id = match Message::read(body).map(|m| m.kind) {
            Ok(Kind::Request(id, _)) => Some(id),
            _ => None,
        };
        return Err(Refusal { fault, id });
    }
    if body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        return batch(body);
    }
    let message = Message::read(body)?;
    let refuse = |id: Option<&Id>, fault: Fault| Err(Refusal { fault, id: id.cloned() });
    match &message.kind {
        Kind::Request(id, method) => {
            let params = match Params::read(&message) {
                Ok(params) => params,
                Err(e) => return refuse(Some(id), Fault::client(FaultKind::Invalid).tell(format!("`params`: {e}"))),
            };
            if params.revision.is_some() {
                return Ok(Incoming::Stateless(message, params));
            }
            match head.revision {
                Field::Bad => return refuse(Some(id), bad_version_header()),
                Field::One(v) if is_modern(v) && *method == Method::Initialize => {
                    return refuse(
                        Some(id),
                        Fault::client(FaultKind::HeaderMismatch)
                            .tell(format!("MCP-Protocol-Version says {v}, which has no `initialize`; leave the header out")),
                    );
                }
                Field::One(v) if is_modern(v) => {
                    return refuse(
                        Some(id),
                        Fault::client(FaultKind::Envelope).tell(format!(
                            "MCP-Protocol-Version says {v}, so `params._meta` must hold {META_REVISION:?} and the client's capabilities"
                        )),
                    );
                }
                _ => {}
            }
            Ok(if *method == Method::Initialize { Incoming::Initialize(message) } else { Incoming::Session(message) })
        }
        Kind::Notification(_) => {
            if let Err(e) = Params::read(&message) {
                return refuse(None, Fault::client(FaultKind::Invalid).tell(format!("`params`: {e}")));
            }
            // A session id beside it means nothing: that revision ignores the header.
            let modern = head.names_stateless();
            Ok(if modern { Incoming::StatelessNotification } else { Incoming::Session(message) })
        }
        Kind::Response(..) if head.session == Field::Absent => refuse(
            None,
            Fault::client(FaultKind::Invalid)
                .tell("a response answers a request of the server, and only a session has those; name it in Mcp-Session-Id"),
        ),
        Kind::Response(..) => Ok(Incoming::Session(message)),
    }
}

fn batch(body: Bytes) -> Result<Incoming, Refusal> {
    let invalid = |told: &str| Refusal::from(Fault::client(FaultKind::Invalid).tell(told));
    let text = std::str::from_utf8(&body).map_err(|_| Refusal::from(Fault::client(FaultKind::Syntax).tell("the body is not UTF-8")))?;
    let items = json::elements(text, MAX_BATCH).map_err(|e| Refusal::from(Fault::client(FaultKind::Syntax).tell(e.to_string())))?;
    let Some(items) = items else { return Err(invalid(&format!("a batch may hold {MAX_BATCH} messages at most"))) };
    if items.is_empty() {
        return Err(invalid("a batch must hold a message"));
    }
    let mut messages = Vec::with_capacity(items.len());
    for item in items {
        let message = Message::read(body.slice_ref(item.as_bytes()))?;
        if matches!(message.kind, Kind::Request(_, Method::Initialize)) {
            return Err(invalid("`initialize` must not be part of a batch"));
        }
        let params = Params::read(&message).map_err(|e| invalid(&format!("`params`: {e}")))?;
        if params.revision.is_some() {
            return Err(invalid("2026-07-28 has no batches"));
        }
        messages.push(message);
    }
    Ok(Incoming::Batch(messages))
}

/// The revision of a request that belongs to no session, by its `MCP-Protocol-Version`: without one it is that of
/// 2025-03-26 (2025-06-18, "Protocol Version Header").
pub fn revision(head: &Head<'_>) -> Result<Revision, Fault> {
    match head.revision {
        Field::Absent => Ok(Revision::V2025_03_26),
        Field::One(date) => Revision::parse(date).ok_or_else(|| {
            Fault::client(FaultKind::Invalid).tell(format!("unsupported MCP protocol version {date:?} in MCP-Protocol-Version"))
        }),
        Field::Bad => Err(bad_version_header()),
    }
}

/// Checks `MCP-Protocol-Version` on a request to a session that negotiated `negotiated`
/// (2025-06-18, "Protocol Version Header"). Absent is fine: the session knows.
pub fn check_version(head: &Head<'_>, negotiated: Revision) -> Result<(), Fault> {
    match head.revision {
        Field::Absent => Ok(()),
        Field::Bad => Err(bad_version_header()),
        // Any handshake revision passes: clients are seen that send their newest, not the
        // negotiated one, and nothing depends on it.
        Field::One(v) if Revision::parse(v).is_some_and(|r| r.era() == Era::Handshake) => Ok(()),
        Field::One(v) => {
            Err(Fault::client(FaultKind::NoSession).tell(format!("MCP-Protocol-Version says {v:?}, but this session speaks {negotiated}")))
        }
    }
}

fn bad_version_header() -> Fault {
    Fault::client(FaultKind::HeaderMismatch).tell("MCP-Protocol-Version appears more than once, or is no text")
}

/// A date from 2026-07-28 on: whoever names it means the stateless protocol.
fn is_modern(version: &str) -> bool {
    let date =
        version.len() == 10 && version.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    date && version >= Revision::V2026_07_28.as_str()
}

/// The client of `who` that an `initialize` introduces, with the revision it gets.
pub fn introduce(who: Principal, transport: Transport, message: &Message) -> Result<Client, Fault> {
    let invalid = |told: &str| Fault::client(FaultKind::Params).tell(told);
    let [version, capabilities, info] =
        message.params_fields(&["protocolVersion", "capabilities", "clientInfo"]).map_err(|e| invalid(&format!("`params`: {e}")))?;
    let version = message.string_at(version).ok_or_else(|| invalid("`params.protocolVersion` must be a string, such as \"2025-11-25\""))?;
    if capabilities.is_some_and(|c| !message.text(c).starts_with('{')) {
        return Err(invalid("`params.capabilities` must be an object"));
    }
    if [info, capabilities].into_iter().flatten().any(|at| at.of_bytes(&message.bytes).len() > MAX_INTRODUCTION) {
        return Err(invalid(&format!("`clientInfo` and `capabilities` may have {MAX_INTRODUCTION} bytes each")));
    }
    Ok(Client {
        revision: Revision::answer_to_initialize(&version),
        principal: who,
        transport,
        // Copied: a slice would keep the whole read buffer for as long as the session lives.
        info: info.map(|at| Bytes::copy_from_slice(at.of_bytes(&message.bytes))),
        capabilities: match capabilities.map(|at| at.of_bytes(&message.bytes)) {
            None | Some(b"{}") => Bytes::from_static(b"{}"),
            Some(capabilities) => Bytes::copy_from_slice(capabilities),
        },
    })
}

/// A request of a session, as a call.
pub fn call(message: Message, client: &Arc<Client>) -> Result<Call, Fault> {
    let Kind::Request(id, method) = message.kind.clone() else {
        return Err(Fault::client(FaultKind::Invalid).tell("a request is needed here"));
    };
    let params = Params::read(&message).map_err(|e| Fault::client(FaultKind::Invalid).tell(format!("`params`: {e}")))?;
    if !method.exists_in(Era::Handshake) {
        return Err(Fault::client(FaultKind::UnknownMethod).tell(format!("Method not found: {}", method.as_str())));
    }
    Ok(Call { id, method, message, params, client: client.clone(), log_level: None })
}

/// The whole message that answers `id`.
pub fn answer(id: &Id, outcome: &crate::call::Outcome) -> Vec<u8> {
    use crate::call::Outcome;
    let fault;
    let (word, body): (&[u8], &[u8]) = match outcome {
        Outcome::Result(result) => (b"result", result),
        Outcome::Error(error) => (b"error", error),
        Outcome::Fault(f) => {
            fault = f.error();
            (b"error", fault.as_bytes())
        }
    };
    let mut out = Vec::with_capacity(40 + id.as_bytes().len() + body.len());
    for part in [b"{\"jsonrpc\":\"2.0\",\"id\":", id.as_bytes(), b",\"", word, b"\":", body, b"}"] {
        out.extend_from_slice(part);
    }
    json::one_line(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Head<'static> = Head {
        revision: Field::Absent,
        session: Field::Absent,
        method: Field::Absent,
        name: Field::Absent,
        accept: None,
        content_type: Some("application/json"),
    };

    fn sort(head: &Head<'_>, body: &str) -> String {
        match classify(head, Bytes::copy_from_slice(body.as_bytes())) {
            Ok(Incoming::Stateless(..)) => "stateless".into(),
            Ok(Incoming::StatelessNotification) => "dropped".into(),
            Ok(Incoming::Initialize(_)) => "initialize".into(),
            Ok(Incoming::Session(_)) => "session".into(),
            Ok(Incoming::Batch(b)) => format!("batch {}", b.len()),
            Err(r) => format!("{} {} {:?}", r.fault.status(Era::Stateless), r.fault.code(), r.id),
        }
    }

    #[test]
    fn the_body_decides() {
        let modern = Head { revision: Field::One("2026-07-28"), ..JSON };
        let meta = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
        let claim = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{meta}}}"#);
        for (head, body, expected) in [
            (&JSON, r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, "initialize"),
            (&JSON, claim.as_str(), "stateless"),
            (&modern, r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, "400 -32020 Some(1)"),
            (&modern, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "400 -32602 Some(1)"),
            (&JSON, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "session"),
            (&modern, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, "dropped"),
            (&JSON, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#, "session"),
            (&JSON, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, "400 -32600 None"),
            (&JSON, "[]", "400 -32600 None"),
            (&JSON, r#" [{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"x"}]"#, "batch 2"),
            (&JSON, r#"[{"jsonrpc":"2.0","id":1,"method":"initialize"}]"#, "400 -32600 None"),
            (&JSON, r#"{"jsonrpc":"2.0","id":"q","method":"x","params":{"a":1,"a":2}}"#, "400 -32600 Some(\"q\")"),
            (&JSON, r#"{"jsonrpc":"2.0","id":"q","method":"x","params":{"_meta":{"a":1,"a":2}}}"#, "400 -32600 Some(\"q\")"),
            (&JSON, "{", "400 -32700 None"),
            (&Head { content_type: None, ..JSON }, "{}", "415 -32000 None"),
            (&Head { accept: Some("text/html"), ..JSON }, "{}", "406 -32000 None"),
        ] {
            assert_eq!(sort(head, body), expected, "{body}");
        }
    }

    #[test]
    fn version_headers_are_checked() {
        let v = Revision::V2025_06_18;
        assert!(check_version(&JSON, v).is_ok());
        assert!(check_version(&Head { revision: Field::One("2025-11-25"), ..JSON }, v).is_ok());
        for bad in [Field::One("2026-07-28"), Field::One("latest"), Field::Bad] {
            assert_eq!(check_version(&Head { revision: bad, ..JSON }, v).unwrap_err().status(Era::Handshake), 400);
        }
    }
}
