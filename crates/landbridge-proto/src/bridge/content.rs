//! Contents for older clients: a type that their revision lacks becomes text.

use bytes::Bytes;

use crate::call::object;
use crate::json;
use crate::methods::Method;
use crate::version::Revision;

/// A result without content types that came after the client's revision. Types that no revision
/// knows pass: they may be an agreement between the two ends.
pub(super) fn down_level(client: Revision, method: &Method, result: Bytes) -> Bytes {
    if client >= Revision::V2025_06_18 || !matches!(method, Method::ToolsCall | Method::PromptsGet) {
        return result;
    }
    // Most results hold neither; a look for the words (or for an escape that may spell them)
    // is much cheaper than reading the contents.
    let may_hold = |word: &str| memchr::memmem::find(&result, word.as_bytes()).is_some();
    if !(may_hold("audio") || may_hold("resource_link") || may_hold("\\u00")) {
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
}
