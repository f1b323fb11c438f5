//! Errors: codes that describe one hop stay on it.

use bytes::Bytes;

use crate::call::{Outcome, object};
use crate::json::{self, Span};
use crate::message::Message;
use crate::methods::Method;
use crate::version::{Era, Revision};

/// A server's error, in the words of the client's revision.
///
/// Codes from -32020 to -32099 describe one hop, and 2026-07-28 forbids undefined ones among
/// them; relayed they would describe the wrong one. -32002 (resource not found) became -32602.
pub(super) fn error(client: Revision, server: Era, method: &Method, error: Bytes) -> Outcome {
    let Ok(message) = object(error.clone()) else { return Outcome::Error(error) };
    let Ok([code, text, data]) = message.params_fields(&["code", "message", "data"]) else { return Outcome::Error(error) };
    let Some(at) = code else { return Outcome::Error(error) };
    let internal =
        |text: &str| Bytes::from([b"{\"code\":-32603,\"message\":", text.as_bytes(), b",\"data\":{\"error\":", &error, b"}}"].concat());
    let text = text.map_or("\"\"", |t| message.text(t));
    Outcome::Error(match (number(message.text(at)), client.era(), server) {
        // Both ends of one stateless hop mean the same: our request carried the client's own
        // revision and capabilities.
        (Some(-32022..=-32020), Era::Stateless, Era::Stateless) => error,
        (Some(-32002), Era::Stateless, _) => json::splice(&error, &[(at, b"-32602")]).into(),
        // URL elicitation required: a client of an earlier revision cannot do what it asks for.
        (Some(-32042), Era::Handshake, Era::Handshake) if client < Revision::V2025_11_25 => internal(text),
        // Until 2025-11-25 all codes from -32000 to -32099 are the server's own.
        (_, Era::Handshake, Era::Handshake) => error,
        (Some(-32021), Era::Handshake, Era::Stateless) => {
            let told = json::quote(&undeclared(&message, data));
            if *method == Method::ToolsCall {
                // The model should read it: it may go on without that tool.
                let result = format!("{{\"content\":[{{\"type\":\"text\",\"text\":{told}}}],\"isError\":true}}");
                return Outcome::Result(result.into());
            }
            internal(&told)
        }
        (Some(-32099..=-32020), ..) => internal(text),
        _ => error,
    })
}

/// Which capabilities the server missed, in words (`data.requiredCapabilities` of -32021).
fn undeclared(error: &Message, data: Option<Span>) -> String {
    let names = || {
        let [required] = error.fields_at(data?, &["requiredCapabilities"]).ok()?;
        let mut names = Vec::new();
        for (name, inside) in json::members(error.text(required?)).ok()? {
            let inside = json::members(inside).unwrap_or_default();
            match &*name {
                "extensions" => names.extend(inside.iter().map(|(id, _)| format!("`{id}`"))),
                _ if inside.is_empty() => names.push(format!("`{name}`")),
                _ => names.extend(inside.iter().map(|(part, _)| format!("`{name}.{part}`"))),
            }
        }
        (!names.is_empty()).then(|| names.join(", "))
    };
    let needed = "the server needs a capability that the client did not declare";
    names().map_or(needed.into(), |names| format!("{needed}: {names}"))
}

/// The code of an error object.
pub fn code_of(error: &Bytes) -> Option<i64> {
    let message = object(error.clone()).ok()?;
    let [code] = message.params_fields(&["code"]).ok()?;
    number(message.text(code?))
}

/// An integer, also where it is written as `-32021.0` or with an exponent.
fn number(text: &str) -> Option<i64> {
    let odd = || text.parse::<f64>().ok().filter(|n| n.fract() == 0.0).map(|n| n as i64);
    text.parse().ok().or_else(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cross(client: Revision, server: Era, method: Method, text: &str) -> String {
        match error(client, server, &method, Bytes::copy_from_slice(text.as_bytes())) {
            Outcome::Error(e) => String::from_utf8(e.to_vec()).unwrap(),
            Outcome::Result(r) => format!("result {}", String::from_utf8(r.to_vec()).unwrap()),
            Outcome::Fault(f) => panic!("{f}"),
        }
    }

    #[test]
    fn codes_of_one_hop_stay_on_it() {
        use Revision::{V2024_11_05, V2025_06_18, V2025_11_25, V2026_07_28};
        let e = |c, s, text: &str| cross(c, s, Method::ToolsCall, text);
        assert_eq!(
            e(V2026_07_28, Era::Handshake, r#"{"code":-32002,"message":"no","data":1.0}"#),
            r#"{"code":-32602,"message":"no","data":1.0}"#
        );
        for code in ["-32020", "-32022", "-32042", "-32099", "-32022.0", "-3.2022e4"] {
            let text = format!(r#"{{"code":{code},"message":"u","x":1.0}}"#);
            let internal = format!(r#"{{"code":-32603,"message":"u","data":{{"error":{text}}}}}"#);
            assert_eq!(e(V2025_11_25, Era::Stateless, &text), internal);
            assert_eq!(e(V2026_07_28, Era::Handshake, &text), internal);
        }
        let other = r#"{"code":-32050,"message":"u"}"#;
        assert!(e(V2026_07_28, Era::Stateless, other).contains("-32603"));
        assert_eq!(e(V2024_11_05, Era::Handshake, other), other);
        let url = r#"{"code":-32042,"message":"u"}"#;
        assert_eq!(e(V2025_11_25, Era::Handshake, url), url);
        assert_eq!(e(V2025_06_18, Era::Handshake, url), format!(r#"{{"code":-32603,"message":"u","data":{{"error":{url}}}}}"#));
        for passes in [r#"{"code":7,"message":"u"}"#, r#"{"code":-32021,"data":{"requiredCapabilities":{}}}"#, "{}", "[1]"] {
            assert_eq!(e(V2026_07_28, Era::Stateless, passes), passes);
        }
        // The server's own, on both sides of a handshake.
        for code in [-32020, -32021, -32022, -32002, -32000] {
            let own = format!(r#"{{"code":{code}}}"#);
            assert_eq!(e(V2024_11_05, Era::Handshake, &own), own);
        }
    }

    #[test]
    fn a_missing_capability_is_told_in_words() {
        let told = |required: &str| {
            let text = format!(r#"{{"code":-32021,"message":"m","data":{required}}}"#);
            cross(Revision::V2025_11_25, Era::Stateless, Method::ToolsCall, &text)
        };
        let words = "the server needs a capability that the client did not declare";
        assert_eq!(
            told(r#"{"requiredCapabilities":{"sampling":{},"elicitation":{"url":{}},"extensions":{"a/b":{}}}}"#),
            format!(r#"result {{"content":[{{"type":"text","text":"{words}: `sampling`, `elicitation.url`, `a/b`"}}],"isError":true}}"#)
        );
        for none in [r#"{"requiredCapabilities":{}}"#, "{}", "null", r#"{"requiredCapabilities":["sampling"]}"#] {
            assert_eq!(told(none), format!(r#"result {{"content":[{{"type":"text","text":"{words}"}}],"isError":true}}"#));
        }
        let text = r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{"roots":{}}}}"#;
        assert_eq!(
            cross(Revision::V2024_11_05, Era::Stateless, Method::PromptsGet, text),
            format!(r#"{{"code":-32603,"message":"{words}: `roots`","data":{{"error":{text}}}}}"#)
        );
    }
}
