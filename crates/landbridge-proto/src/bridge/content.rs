//! Contents for older clients: a type that their revision lacks becomes text.

use bytes::Bytes;

use super::holds;
use crate::call::object;
use crate::json::{self, Span};
use crate::methods::Method;
use crate::version::Revision;

/// The result of a `tools/call` of a stateless server: its `structuredContent` is an object, as it
/// was until 2025-11-25, and the value is there as text too.
///
/// The value alone decides whether it is wrapped: which tool was called, and with what schema, is
/// not known here. `null` is a value.
pub(super) fn with_object(result: Bytes) -> Bytes {
    structured(&result, true).unwrap_or(result)
}

fn structured(result: &Bytes, wrap: bool) -> Option<Bytes> {
    if !holds(result, "structuredContent") {
        return None;
    }
    let message = object(result.clone()).ok()?;
    let [at, content] = message.params_fields(&["structuredContent", "content"]).ok()?;
    let (at, value) = at.map(|at| (at, message.text(at)))?;
    // Some handshake servers write every field, the empty ones as null.
    if !wrap && value == "null" {
        return None;
    }
    let mut edits = Vec::new();
    if wrap && !value.starts_with('{') {
        edits.push((at, format!("{{\"result\":{value}}}")));
    }
    let text = || format!("{{\"type\":\"text\",\"text\":{}}}", json::quote(value));
    match content.map(|at| (at, message.text(at))) {
        None => edits.push((Span::inside(result), format!("\"content\":[{}],", text()))),
        Some((at, "null")) => edits.push((at, format!("[{}]", text()))),
        Some((at, list)) => {
            let blocks = json::elements(list, usize::MAX).ok().flatten();
            if let (Some(blocks), Some(open)) = (blocks, list.strip_suffix(']'))
                && !blocks.iter().any(|block| is_text(block))
            {
                let comma = if blocks.is_empty() { "" } else { "," };
                edits.push((at, format!("{open}{comma}{}]", text())));
            }
        }
    }
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(at, _)| at.start());
    let edits: Vec<(Span, &[u8])> = edits.iter().map(|(at, new)| (*at, new.as_bytes())).collect();
    Some(json::splice(result, &edits).into())
}

fn is_text(block: &str) -> bool {
    let mut kind = [None];
    let read = json::fields(block, &["type"], &mut kind);
    let kind = kind[0].and_then(|at| json::string(at.of_bytes(block.as_bytes())));
    read.is_ok() && kind.is_some_and(|kind| kind == "text")
}

/// A result without what came after the client's revision and it could not overlook: types of
/// content, and a structured value that is nowhere said as text. Types that no revision knows
/// pass: they may be an agreement between the two ends.
pub(super) fn down_level(client: Revision, method: &Method, result: Bytes) -> Bytes {
    if client >= Revision::V2025_06_18 || !matches!(method, Method::ToolsCall | Method::PromptsGet) {
        return result;
    }
    let said = if *method == Method::ToolsCall { structured(&result, false) } else { None };
    let result = said.unwrap_or(result);
    // Most results hold neither.
    if !(holds(&result, "audio") || holds(&result, "resource_link")) {
        return result;
    }
    let rewrite = || {
        let message = object(result.clone()).ok()?;
        let (key, nested) = if *method == Method::ToolsCall { ("content", false) } else { ("messages", true) };
        let [list] = message.params_fields(&[key]).ok()?;
        let list = list?;
        let items = json::elements(message.text(list), usize::MAX).ok()??;
        let new: Vec<String> =
            items.into_iter().map(|item| if nested { older_message(client, item) } else { older(client, item) }).collect();
        Some(Bytes::from(json::splice(&result, &[(list, format!("[{}]", new.join(",")).as_bytes())])))
    };
    rewrite().unwrap_or_else(|| result.clone())
}

fn older_message(client: Revision, item: &str) -> String {
    let rewrite = || {
        let message = object(Bytes::copy_from_slice(item.as_bytes())).ok()?;
        let [content] = message.params_fields(&["content"]).ok()?;
        let content = content?;
        let new = older(client, message.text(content));
        String::from_utf8(json::splice(item.as_bytes(), &[(content, new.as_bytes())])).ok()
    };
    rewrite().unwrap_or_else(|| item.to_owned())
}

/// One content block for an older client: what it cannot show becomes text that says so.
fn older(client: Revision, item: &str) -> String {
    let rewrite = || {
        let message = object(Bytes::copy_from_slice(item.as_bytes())).ok()?;
        let [kind, mime, uri, name] = message.params_fields(&["type", "mimeType", "uri", "name"]).ok()?;
        let text = match &*message.string_at(kind)? {
            "audio" if client < Revision::V2025_03_26 => {
                format!(
                    "[audio of type {}, which this client's protocol version cannot carry]",
                    message.string_at(mime).unwrap_or_default()
                )
            }
            "resource_link" if client < Revision::V2025_06_18 => {
                let uri = message.string_at(uri)?;
                match message.string_at(name) {
                    Some(name) => format!("{name}: {uri}"),
                    None => uri.into_owned(),
                }
            }
            _ => return None,
        };
        Some(format!("{{\"type\":\"text\",\"text\":{}}}", json::quote(&text)))
    };
    rewrite().unwrap_or_else(|| item.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{result, server};
    use super::*;

    #[test]
    fn old_clients_get_text_for_newer_contents_and_strangers_pass() {
        let s = server(Revision::V2025_11_25, r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#);
        let contents = r#"{"content":[{"type":"audio","mimeType":"audio/wav","data":"x"},{"type":"resource_link","uri":"a:b","name":"n"},{"type":"hologram","z":1.0}]}"#;
        assert_eq!(
            result(Revision::V2024_11_05, &s, Method::ToolsCall, contents),
            r#"{"content":[{"type":"text","text":"[audio of type audio/wav, which this client's protocol version cannot carry]"},{"type":"text","text":"n: a:b"},{"type":"hologram","z":1.0}]}"#
        );
        assert_eq!(result(Revision::V2025_06_18, &s, Method::ToolsCall, contents), contents);
        let prompt = r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"a:b"}}]}"#;
        assert_eq!(
            result(Revision::V2025_03_26, &s, Method::PromptsGet, prompt),
            r#"{"messages":[{"role":"user","content":{"type":"text","text":"a:b"}}]}"#
        );
    }

    #[test]
    fn a_structured_value_is_an_object_and_said_as_text() {
        let s = server(Revision::V2026_07_28, r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#);
        let call = |text: &str| result(Revision::V2025_11_25, &s, Method::ToolsCall, text);
        for (before, after) in [
            (r#"{"structuredContent":[ 1.0]}"#, r#"{"content":[{"type":"text","text":"[ 1.0]"}],"structuredContent":{"result":[ 1.0]}}"#),
            (
                r#"{"structuredContent":"é\"","content":[{"type":"text","text":""}]}"#,
                r#"{"structuredContent":{"result":"é\""},"content":[{"type":"text","text":""}]}"#,
            ),
            (
                r#"{"content":[{"type":"image"} ],"structuredContent":null,"isError":false}"#,
                r#"{"content":[{"type":"image"} ,{"type":"text","text":"null"}],"structuredContent":{"result":null},"isError":false}"#,
            ),
            (
                r#"{"structuredContent":{"a":1e400},"content":[ ]}"#,
                r#"{"structuredContent":{"a":1e400},"content":[ {"type":"text","text":"{\"a\":1e400}"}]}"#,
            ),
            (
                r#"{"content":null,"structured\u0043ontent":0}"#,
                r#"{"content":[{"type":"text","text":"0"}],"structured\u0043ontent":{"result":0}}"#,
            ),
        ] {
            assert_eq!(call(before), after);
            // Another method means something else by the words.
            assert_eq!(result(Revision::V2025_11_25, &s, Method::PromptsGet, before), before);
            assert_eq!(result(Revision::V2026_07_28, &s, Method::ToolsCall, before), before);
        }
        for stays in [
            r#"{"structuredContent":{ },"content":[{"t\u0079pe":"text"}]}"#,
            r#"{"content":[{"structuredContent":1}]}"#,
            r#"{"structuredContent":{},"content":"odd"}"#,
        ] {
            assert_eq!(call(stays), stays);
        }
    }

    #[test]
    fn a_client_that_knows_no_structured_content_can_read_it() {
        let s = server(Revision::V2025_11_25, r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#);
        let structured = r#"{"content":[{"type":"resource_link","uri":"a:b"}],"structuredContent":{"a":1.0}}"#;
        assert_eq!(
            result(Revision::V2025_03_26, &s, Method::ToolsCall, structured),
            r#"{"content":[{"type":"text","text":"a:b"},{"type":"text","text":"{\"a\":1.0}"}],"structuredContent":{"a":1.0}}"#
        );
        assert_eq!(result(Revision::V2025_06_18, &s, Method::ToolsCall, structured), structured);
        // Of a handshake server it is a field that was left empty.
        let empty = r#"{"content":[],"structuredContent":null}"#;
        assert_eq!(result(Revision::V2024_11_05, &s, Method::ToolsCall, empty), empty);
    }
}
