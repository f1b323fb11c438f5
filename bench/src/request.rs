//! The one shape in which the echo child and the floors read a JSON-RPC request, and their answers.
//!
//! Odd: the message is kept as the raw JSON string it came as and written back unread, so an
//! echo never unescapes anything. This is the least work that still parses the whole request.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) method: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) params: Option<Params<'a>>,
    /// Only in the answer to a question of ours.
    #[serde(borrow)]
    pub(crate) result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct Params<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) arguments: Option<Arguments<'a>>,
    #[serde(borrow, rename = "protocolVersion")]
    pub(crate) protocol_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) capabilities: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    pub(crate) meta: Option<&'a RawValue>,
    #[serde(borrow, rename = "inputResponses")]
    pub(crate) input_responses: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestState")]
    pub(crate) request_state: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct Arguments<'a> {
    #[serde(borrow)]
    pub(crate) message: Option<&'a RawValue>,
}

impl<'a> Request<'a> {
    /// The message of a well-formed call of `tool`, as the JSON text it came as.
    pub(crate) fn message(&self, tool: &str) -> Option<&'a str> {
        let params = self.params.as_ref().filter(|params| params.name == tool)?;
        params.arguments.as_ref()?.message.map(RawValue::get)
    }
}

pub(crate) const TOOL: &str = r#"{"name":"echo","description":"Answers with the message it was given.","inputSchema":{"type":"object","properties":{"message":{"type":"string"}},"required":["message"]}}"#;

/// Writes the answer to `request` at the end of `out`; a notification gets none.
pub(crate) fn answer(request: &Request<'_>, modern: bool, out: &mut Vec<u8>) {
    let Some(id) = request.id.map(RawValue::get) else {
        return;
    };
    let mut put = |parts: &[&str]| parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    put(&[r#"{"jsonrpc":"2.0","id":"#, id]);
    let kind = if modern { r#""resultType":"complete","# } else { "" };
    let cache = if modern { r#","ttlMs":0,"cacheScope":"public""# } else { "" };
    match &*request.method {
        "tools/call" => match request.message("echo") {
            Some(message) => {
                put(&[r#","result":{"#, kind, r#""content":[{"type":"text","text":"#, message, r#"}],"isError":false}}"#]);
            }
            None => put(&[r#","error":{"code":-32602,"message":"the only tool is echo, with one argument named message"}}"#]),
        },
        "tools/list" => put(&[r#","result":{"#, kind, r#""tools":["#, TOOL, "]", cache, "}}"]),
        "initialize" if !modern => {
            let version = request.params.as_ref().and_then(|params| params.protocol_version);
            let version = version.map_or(r#""2025-11-25""#, RawValue::get);
            put(&[
                r#","result":{"protocolVersion":"#,
                version,
                r#","capabilities":{"tools":{}},"serverInfo":{"name":"bench-echo","version":"0"}}}"#,
            ]);
        }
        "server/discover" if modern => put(&[
            r#","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"#,
            r#""ttlMs":0,"cacheScope":"public","serverInfo":{"name":"bench-echo","version":"0"}}}"#,
        ]),
        "ping" => put(&[r#","result":{}}"#]),
        _ => put(&[r#","error":{"code":-32601,"message":"the bench's echo server has no such method"}}"#]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str, modern: bool) -> String {
        let mut out = Vec::new();
        answer(&serde_json::from_str(text).expect("the test's request parses"), modern, &mut out);
        String::from_utf8(out).expect("the answer is UTF-8")
    }

    #[test]
    fn a_call_is_echoed_with_its_id_and_escapes() {
        let text =
            answered(r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"echo","arguments":{"message":"q\"\n"}}}"#, false);
        assert_eq!(text, r#"{"jsonrpc":"2.0","id":"a","result":{"content":[{"type":"text","text":"q\"\n"}],"isError":false}}"#);
    }

    #[test]
    fn every_answer_is_json_and_notifications_get_none() {
        for modern in [false, true] {
            for method in ["initialize", "tools/list", "tools/call", "ping", "server/discover", "other"] {
                let text = answered(&format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{}}}}"#), modern);
                let value: serde_json::Value = serde_json::from_str(&text).expect("the answer parses");
                assert_eq!(value["id"], 7);
            }
        }
        assert_eq!(answered(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, false), "");
    }
}
