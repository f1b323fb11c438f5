//! One JSON-RPC message: its bytes, and where in them the parts lie that a gateway acts on.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::json::{self, Span, Unreadable};
use crate::methods::Method;

/// A request id exactly as it was written, quotes included. It is echoed byte for byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Id(Bytes);

/// How long an id may be.
const MAX_ID_BYTES: usize = 4 * 1024;

impl Id {
    /// An id of our own making.
    pub fn number(n: u64) -> Id {
        Id(Bytes::from(n.to_string()))
    }

    /// The JSON text of the id.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id as a number of ours, if it is one.
    pub fn as_number(&self) -> Option<u64> {
        std::str::from_utf8(&self.0).ok()?.parse().ok()
    }

    /// A string or an integer; anything else is no id (basic, "Requests").
    fn read(bytes: &Bytes, span: Span) -> Option<Id> {
        let raw = span.of_bytes(bytes);
        let integral = || {
            let text = std::str::from_utf8(raw).ok()?;
            text.parse::<f64>().ok().filter(|n| n.fract() == 0.0)
        };
        // Copied: a slice would keep the whole message for as long as the call runs.
        let good = raw.len() <= MAX_ID_BYTES && (raw.first() == Some(&b'"') || integral().is_some());
        good.then(|| Id(Bytes::copy_from_slice(raw)))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants an answer.
    Request(Id, Method),
    /// Wants none.
    Notification(Method),
    /// Answers; the id is `None` where the peer could not read ours. Holds the result, or the
    /// error object.
    Response(Option<Id>, Result<Span, Span>),
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// The whole text.
    pub bytes: Bytes,
    /// What it is.
    pub kind: Kind,
    /// Where the id lies.
    pub id: Option<Span>,
    /// Where `params` lies.
    pub params: Option<Span>,
}

/// A text that is no message, with the id of the request it would have been, where that could
/// still be read.
#[derive(Clone, Debug)]
pub struct BadMessage {
    /// Whether it is no JSON at all (-32700) or no JSON-RPC (-32600).
    pub syntax: bool,
    /// The id to refuse it with.
    pub id: Option<Id>,
    /// What is wrong.
    pub why: String,
}

impl Message {
    /// Reads one message.
    pub fn read(bytes: Bytes) -> Result<Message, BadMessage> {
        let mut found = [None; 6];
        let read = match std::str::from_utf8(&bytes) {
            Ok(text) => json::fields(text, &["jsonrpc", "id", "method", "params", "result", "error"], &mut found),
            Err(_) => Err(Unreadable::Syntax("not UTF-8".into())),
        };
        let [version, id_at, method, params, result, mut error] = found;
        // Some servers write every field of a response, the empty ones as null.
        if result.is_some() && error.is_some_and(|at| at.of_bytes(&bytes) == b"null") {
            error = None;
        }
        let id = id_at.and_then(|at| Id::read(&bytes, at));
        let bad = |why: &str| BadMessage { syntax: false, id: id.clone(), why: why.into() };
        match read {
            Ok(()) => {}
            Err(Unreadable::NotAnObject) => return Err(bad("a JSON-RPC message is a JSON object")),
            Err(e) => {
                return Err(BadMessage { syntax: matches!(e, Unreadable::Syntax(_)), id, why: e.to_string() });
            }
        }
        if version.is_none_or(|v| v.of_bytes(&bytes) != b"\"2.0\"") {
            return Err(bad("`jsonrpc` must be \"2.0\""));
        }
        let null_id = id_at.is_some_and(|at| at.of_bytes(&bytes) == b"null");
        if id_at.is_some() && id.is_none() && !(null_id && method.is_none()) {
            return Err(bad("`id` must be a string or an integer, of 4096 bytes at most"));
        }
        if params.is_some_and(|p| p.of_bytes(&bytes).first() != Some(&b'{')) {
            return Err(bad("`params` must be an object"));
        }
        let kind = match (method, result, error) {
            (Some(method), None, None) => {
                let Some(name) = json::string(method.of_bytes(&bytes)) else {
                    return Err(bad("`method` must be a string"));
                };
                let method = Method::parse(&name);
                match id {
                    Some(id) => Kind::Request(id, method),
                    None => Kind::Notification(method),
                }
            }
            (None, Some(result), None) => Kind::Response(id, Ok(result)),
            (None, None, Some(error)) => Kind::Response(id, Err(error)),
            _ => return Err(bad("a message has either `method`, or `result`, or `error`")),
        };
        Ok(Message { bytes, kind, id: id_at, params })
    }

    /// The text of `params`, `{}` where there are none.
    pub fn params_text(&self) -> &str {
        self.params.map_or("{}", |at| self.text(at))
    }

    /// The text at a place of this message.
    pub fn text(&self, at: Span) -> &str {
        // The whole text was checked when it was read, and spans end at character borders.
        std::str::from_utf8(at.of_bytes(&self.bytes)).unwrap_or_default()
    }

    /// The bytes at a place, without copying them.
    pub fn slice(&self, at: Span) -> Bytes {
        self.bytes.slice(at.range())
    }

    /// The fields of `params` named `keys`, as places in the whole message.
    pub fn params_fields<const N: usize>(&self, keys: &[&str; N]) -> Result<[Option<Span>; N], Unreadable> {
        let Some(params) = self.params else { return Ok([None; N]) };
        self.fields_at(params, keys)
    }

    /// The fields of the object at `outer`, as places in the whole message.
    pub fn fields_at<const N: usize>(&self, outer: Span, keys: &[&str; N]) -> Result<[Option<Span>; N], Unreadable> {
        let mut found = [None; N];
        json::fields_within(outer.of_bytes(&self.bytes), keys, &mut found)?;
        Ok(found.map(|s| s.map(|s| s.within(outer))))
    }

    /// The string at a place, if it is one.
    pub fn string_at(&self, at: Option<Span>) -> Option<Cow<'_, str>> {
        json::string(at?.of_bytes(&self.bytes))
    }
}

/// What a gateway reads of a request's `params` and `_meta`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params {
    /// `name`, of a tool or a prompt.
    pub name: Option<Span>,
    /// `uri`, of a resource.
    pub uri: Option<Span>,
    /// `taskId`.
    pub task_id: Option<Span>,
    /// `arguments`.
    pub arguments: Option<Span>,
    /// `level`, of `logging/setLevel`.
    pub level: Option<Span>,
    /// `inputResponses`, of a call that is sent again (2026-07-28).
    pub input_responses: Option<Span>,
    /// `requestState`, of the same.
    pub request_state: Option<Span>,
    /// `task`, of a call that may become one (2025-11-25).
    pub task: Option<Span>,
    /// `_meta`.
    pub meta: Option<Span>,
    /// `_meta.progressToken`.
    pub progress_token: Option<Span>,
    /// `_meta["io.modelcontextprotocol/protocolVersion"]`: the modern claim.
    pub revision: Option<Span>,
    /// `_meta["io.modelcontextprotocol/clientInfo"]`.
    pub client_info: Option<Span>,
    /// `_meta["io.modelcontextprotocol/clientCapabilities"]`.
    pub capabilities: Option<Span>,
    /// `_meta["io.modelcontextprotocol/logLevel"]`.
    pub log_level: Option<Span>,
}

/// Which revision a request speaks. This key and the next three describe one hop and end with it.
pub const META_REVISION: &str = "io.modelcontextprotocol/protocolVersion";
/// Who the client says it is.
pub const META_CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// What the client can.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// From which level on the client wants logs of this request.
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Who the server says it is.
pub const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// Which `subscriptions/listen` a notification belongs to.
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

impl Params {
    /// Reads what there is, and refuses duplicate keys in `params` and `_meta`.
    pub fn read(message: &Message) -> Result<Params, Unreadable> {
        let keys = ["name", "uri", "taskId", "arguments", "level", "inputResponses", "requestState", "task", "_meta"];
        let [name, uri, task_id, arguments, level, input_responses, request_state, task, meta] = message.params_fields(&keys)?;
        let mut params = Params { name, uri, task_id, arguments, level, input_responses, request_state, task, meta, ..Params::default() };
        if let Some(meta) = meta {
            let keys = [META_REVISION, META_CLIENT_INFO, META_CAPABILITIES, META_LOG_LEVEL, "progressToken"];
            [params.revision, params.client_info, params.capabilities, params.log_level, params.progress_token] =
                message.fields_at(meta, &keys)?;
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, BadMessage> {
        Message::read(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn tells_the_three_kinds_apart() {
        let m = read(r#"{"jsonrpc":"2.0","id":"a","method":"tools\/call","params":{}}"#).unwrap();
        assert!(matches!(m.kind, Kind::Request(_, Method::ToolsCall)));
        assert!(matches!(read(r#"{"jsonrpc":"2.0","method":"x"}"#).unwrap().kind, Kind::Notification(Method::Other(_))));
        assert!(matches!(read(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).unwrap().kind, Kind::Response(Some(_), Ok(_))));
        assert!(matches!(
            read(r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}"#).unwrap().kind,
            Kind::Response(None, Err(_))
        ));
    }

    #[test]
    fn refuses_with_the_id_where_it_can_be_read() {
        for (text, syntax, id) in [
            (r#"{"jsonrpc":"1.0","id":5,"method":"x"}"#, false, Some("5")),
            (r#"{"jsonrpc":"2.0","id":5,"method":"x","method":"y"}"#, false, Some("5")),
            (r#"{"jsonrpc":"2.0","id":5,"method":"x"} x"#, true, Some("5")),
            (r#"{"jsonrpc":"2.0","id":5,"method":"x","params":[]}"#, false, Some("5")),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"x"}"#, false, None),
            (r#"{"jsonrpc":"2.0","id":null,"method":"x"}"#, false, None),
            (r#"[]"#, false, None),
            (r#"{"#, true, None),
        ] {
            let bad = read(text).unwrap_err();
            assert_eq!(bad.syntax, syntax, "{text}");
            assert_eq!(bad.id.map(|i| String::from_utf8(i.as_bytes().to_vec()).unwrap()).as_deref(), id, "{text}");
        }
        assert!(Message::read(Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}")).is_err());
    }

    #[test]
    fn an_id_keeps_its_bytes() {
        for id in ["9007199254740993", "123456789012345678901234567890", "\"\\u00e9\"", "-1", "1.0"] {
            let m = read(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#)).unwrap();
            let Kind::Request(read, _) = m.kind else { unreachable!("a request") };
            assert_eq!(read.as_bytes(), id.as_bytes());
        }
    }
}
