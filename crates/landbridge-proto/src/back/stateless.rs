//! What the headers of a request to a stateless server repeat (2026-07-28, basic/transports).
//!
//! They are computed from the request as it goes out: names may have changed on the way, and the
//! client may not have sent any.

use std::borrow::Cow;

use crate::headers::{MirroredParam, encode_mirror, mirror_param};
use crate::message::{Kind, Message, Params};
use crate::methods::{Method, Mirrored};
use crate::version::Revision;

/// The headers of the request `message`, but for those that are the same for all. `mirrored` are the
/// parameters of its tool that have one.
pub fn headers(message: &Message, params: &Params, mirrored: &[MirroredParam]) -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
    let Kind::Request(_, method) = &message.kind else { return Vec::new() };
    let newest = Revision::NEWEST.as_str();
    let revision = message.string_at(params.revision).filter(|revision| *revision != newest);
    let mut headers = Vec::with_capacity(3 + mirrored.len());
    headers.push(("mcp-protocol-version".into(), revision.map_or(newest.into(), |revision| revision.into_owned().into())));
    headers.push(("mcp-method".into(), encode_mirror(method.as_str()).into_owned().into()));
    let name = match method.mirrored() {
        Some(Mirrored::Name) => params.name,
        Some(Mirrored::Uri) => params.uri,
        Some(Mirrored::TaskId) => params.task_id,
        None => None,
    };
    if let Some(name) = message.string_at(name) {
        headers.push(("mcp-name".into(), encode_mirror(&name).into_owned().into()));
    }
    if *method == Method::ToolsCall
        && let Some(arguments) = params.arguments
    {
        let of_params = mirrored.iter().filter_map(|param| mirror_param(param, message.text(arguments)));
        headers.extend(of_params.map(|(name, value)| (name.into(), value.into())));
    }
    headers
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn of(text: &str, mirrored: &[MirroredParam]) -> Vec<String> {
        let message = Message::read(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        let params = Params::read(&message).unwrap();
        headers(&message, &params, mirrored).into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn each_method_repeats_what_names_its_object() {
        let start = ["mcp-protocol-version: 2026-07-28".to_owned()];
        for (method, params, rest) in [
            ("tools/call", r#"{"name":"a b"}"#, "mcp-name: a b"),
            ("prompts/get", r#"{"name":"ü"}"#, "mcp-name: =?base64?w7w=?="),
            ("resources/read", r#"{"uri":"file:///x","name":"no"}"#, "mcp-name: file:///x"),
            ("tasks/get", r#"{"taskId":"t"}"#, "mcp-name: t"),
            ("tools/list", r#"{"name":"no"}"#, ""),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            let want: Vec<String> =
                start.iter().cloned().chain([format!("mcp-method: {method}"), rest.into()]).filter(|l| !l.is_empty()).collect();
            assert_eq!(of(&text, &[]), want);
        }
    }

    #[test]
    fn mirrored_parameters_are_written_as_the_specification_says() {
        let param = |name: &str, path: &[&str]| MirroredParam { header: name.into(), path: path.iter().map(|k| (*k).to_owned()).collect() };
        let mirrored =
            [param("a", &["a"]), param("b", &["b", "c"]), param("n", &["n"]), param("f", &["f"]), param("t", &["t"]), param("z", &["z"])];
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":" padded ","b":{"c":"us"},"n":null,"f":42.0,"t":true,"z":9007199254740993}}}"#;
        assert_eq!(
            of(text, &mirrored)[3..],
            [
                "mcp-param-a: =?base64?IHBhZGRlZCA=?=",
                "mcp-param-b: us",
                "mcp-param-f: 42",
                "mcp-param-t: true",
                "mcp-param-z: 9007199254740993"
            ]
        );
    }
}
