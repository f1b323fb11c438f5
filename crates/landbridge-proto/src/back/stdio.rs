//! A call as one line for a server, in the words of its era.
//!
//! Within an era only the id and the progress token change: both are ours on a shared pipe, so
//! that two clients that number alike never meet. Across the eras `_meta` is written anew, and
//! what described the hop to us does not travel on.

use bytes::Bytes;

use crate::bridge::may_spell;
use crate::call::{Call, Client, Level, Server};
use crate::json::{self, Span};
use crate::message::{META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL, META_REVISION};
use crate::tasks;
use crate::version::{Era, Revision};

/// The request line for `call`, with `id` as its id and, where the client wants progress, as its
/// progress token.
pub fn request(call: &Call, server: &Server, id: u64) -> Bytes {
    let number = id.to_string();
    let mut edits: Vec<(Span, &[u8])> = Vec::with_capacity(2);
    if let Some(at) = call.message.id {
        edits.push((at, number.as_bytes()));
    }
    let meta;
    if call.client.revision.era() == server.era() {
        if let Some(token) = call.params.progress_token {
            edits.push((token, number.as_bytes()));
        }
    } else {
        let described = match server.era() {
            Era::Stateless => describe(&call.client, call.log_level),
            Era::Handshake => Vec::new(),
        };
        let rewritten = rewrite_meta(call, described, &number);
        let (at, before, after): (Span, &[u8], &[u8]) = match (call.params.meta, call.message.params) {
            (Some(at), _) => (at, b"", b""),
            (None, _) if rewritten == b"{}" => (Span::inside(&call.message.bytes), b"", b""),
            (None, Some(params)) => {
                let old = params.of_bytes(&call.message.bytes);
                let comma: &[u8] = if memchr::memchr(b'"', old).is_some() { b"," } else { b"" };
                (Span::inside(old).within(params), b"\"_meta\":", comma)
            }
            (None, None) => (Span::inside(&call.message.bytes), b"\"params\":{\"_meta\":", b"},"),
        };
        meta = if before.is_empty() && call.params.meta.is_none() { Vec::new() } else { [before, &rewritten, after].concat() };
        edits.push((at, &meta));
    }
    edits.sort_by_key(|(at, _)| at.start());
    let mut line = json::splice(&call.message.bytes, &edits);
    line.push(b'\n');
    line.into()
}

/// The `_meta` keys by which a client describes itself to a stateless server.
fn describe(client: &Client, level: Option<Level>) -> Vec<(String, Vec<u8>)> {
    let mut keys = vec![
        (META_REVISION.to_owned(), format!("\"{}\"", Revision::NEWEST).into_bytes()),
        (META_CAPABILITIES.to_owned(), for_one_request(client)),
    ];
    if let Some(info) = &client.info {
        keys.push((META_CLIENT_INFO.to_owned(), info.to_vec()));
    }
    if let Some(level) = level {
        keys.push((META_LOG_LEVEL.to_owned(), format!("\"{}\"", level.as_str()).into_bytes()));
    }
    keys
}

/// What a handshake client declared, as far as it makes sense for one request: no change of its roots
/// is told any more, and the tasks it might run are those of its own era.
fn for_one_request(client: &Client) -> Vec<u8> {
    let capabilities = &client.capabilities;
    let may_hold = |word: &str| memchr::memmem::find(capabilities, word.as_bytes()).is_some();
    if !(may_hold("tasks") || may_hold("listChanged") || may_hold("url") || may_spell(capabilities)) {
        return capabilities.to_vec();
    }
    let text = std::str::from_utf8(capabilities).unwrap_or("{}");
    let Ok(members) = json::members(text) else { return capabilities.to_vec() };
    let kept = members.into_iter().filter(|(key, _)| key != "tasks").map(|(key, value)| {
        let value = match (&*key, json::members(value)) {
            ("roots", Ok(members)) => crate::bridge::write_object(
                members.into_iter().filter(|(k, _)| k != "listChanged").map(|(k, v)| (k.into_owned(), v.as_bytes().to_vec())),
            ),
            // There was one kind of it then.
            ("elicitation", _) if client.revision < Revision::V2025_11_25 => b"{}".to_vec(),
            _ => value.as_bytes().to_vec(),
        };
        (key.into_owned(), value)
    });
    crate::bridge::write_object(kept)
}

fn rewrite_meta(call: &Call, described: Vec<(String, Vec<u8>)>, token: &str) -> Vec<u8> {
    let old = call.params.meta.map_or(&b"{}"[..], |at| at.of_bytes(&call.message.bytes));
    let hop = [META_REVISION, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL];
    let kept = json::members_within(old).unwrap_or_default().into_iter().filter(|(k, _)| !hop.contains(&&**k)).map(|(key, value)| {
        let value = if key == "progressToken" { token.as_bytes() } else { value.of_bytes(old) };
        (key, value.to_vec())
    });
    crate::bridge::write_object(described.into_iter().chain(kept))
}

/// A request of our own, in the words of the server's era. `params` is the inside of its params
/// object, without braces.
pub fn own_request(server: &Server, id: u64, method: &str, params: &str) -> Bytes {
    let comma = if params.is_empty() { "" } else { "," };
    let params = match server.era() {
        Era::Handshake => format!("{{{params}}}"),
        // Of its tasks a server tells only who declares the extension.
        Era::Stateless if method.starts_with("tasks/") => {
            let extended = format!("{{\"extensions\":{{\"{}\":{{}}}}}}", tasks::EXTENSION);
            format!("{{{params}{comma}\"_meta\":{}}}", own_meta_with(&extended))
        }
        Era::Stateless => format!("{{{params}{comma}\"_meta\":{}}}", own_meta()),
    };
    Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n"))
}

/// `_meta` of a request that is ours.
pub fn own_meta() -> String {
    own_meta_with("{}")
}

fn own_meta_with(capabilities: &str) -> String {
    format!("{{\"{META_REVISION}\":\"{}\",\"{META_CAPABILITIES}\":{capabilities},\"{META_CLIENT_INFO}\":{}}}", Revision::NEWEST, own_info())
}

/// Who we say we are when we call on our own account.
pub fn own_info() -> String {
    format!("{{\"name\":\"landbridge\",\"version\":\"{}\"}}", env!("CARGO_PKG_VERSION"))
}

/// A notification that the request `id` is not wanted any more.
pub fn cancelled(id: u64, reason: &str) -> Bytes {
    Bytes::from(format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{id},\"reason\":{}}}}}\n",
        json::quote(reason)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Principal;
    use crate::message::{Id, Kind, Message, Params};
    use std::sync::Arc;

    fn call(revision: Revision, text: &str) -> Call {
        let message = Message::read(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let Kind::Request(id, method) = message.kind.clone() else { panic!("a request") };
        let params = Params::read(&message).unwrap();
        let client = Arc::new(Client {
            revision,
            principal: Principal::default(),
            transport: crate::call::Transport::Streamable,
            info: Some(Bytes::from_static(b"{\"name\":\"c\"}")),
            capabilities: Bytes::from_static(b"{\"roots\":{}}"),
        });
        Call { id, method, message, params, client, log_level: None }
    }

    fn line(client: Revision, server: Revision, text: &str) -> String {
        let server = Server::read(server, Bytes::from_static(b"{}"), "s").unwrap();
        String::from_utf8(request(&call(client, text), &server, 42).to_vec()).unwrap()
    }

    #[test]
    fn within_an_era_only_id_and_token_change() {
        let text = r#"{ "params":{"_meta":{"progressToken":"t","x":1.0},"arguments":{"n":1e400}}, "method":"tools/call","id":"a","jsonrpc":"2.0"}"#;
        let out =
            r#"{ "params":{"_meta":{"progressToken":42,"x":1.0},"arguments":{"n":1e400}}, "method":"tools/call","id":42,"jsonrpc":"2.0"}"#;
        assert_eq!(line(Revision::V2025_06_18, Revision::V2024_11_05, text), format!("{out}\n"));
        let _ = Id::number(1);
    }

    #[test]
    fn across_the_eras_meta_is_written_anew() {
        assert_eq!(
            line(Revision::V2025_11_25, Revision::V2026_07_28, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#),
            "{\"params\":{\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\"io.modelcontextprotocol/clientCapabilities\":{\"roots\":{}},\"io.modelcontextprotocol/clientInfo\":{\"name\":\"c\"}}},\"jsonrpc\":\"2.0\",\"id\":42,\"method\":\"tools/list\"}\n"
        );
        assert_eq!(
            line(
                Revision::V2026_07_28,
                Revision::V2025_11_25,
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1,"traceparent":"00-1"}}}"#
            ),
            "{\"jsonrpc\":\"2.0\",\"id\":42,\"method\":\"tools/call\",\"params\":{\"name\":\"x\",\"_meta\":{\"progressToken\":42,\"traceparent\":\"00-1\"}}}\n"
        );
        assert_eq!(
            line(Revision::V2025_11_25, Revision::V2026_07_28, r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{ }}"#)
                .matches("\"_meta\"")
                .count(),
            1
        );
        assert_eq!(
            line(Revision::V2026_07_28, Revision::V2025_11_25, r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#),
            "{\"jsonrpc\":\"2.0\",\"id\":42,\"method\":\"x\"}\n"
        );
    }
}
