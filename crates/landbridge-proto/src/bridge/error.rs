//! Errors: codes that describe one hop stay on it.

use bytes::Bytes;

use crate::call::object;
use crate::json;
use crate::version::Era;

/// An error object in the words of the client's era.
///
/// Codes from -32020 to -32099 describe one hop, and 2026-07-28 forbids undefined ones among
/// them; relayed they would describe the wrong one. -32002 (resource not found) became -32602.
pub(super) fn error(client: Era, server: Era, error: Bytes) -> Bytes {
    let Ok(message) = object(error.clone()) else { return error };
    let Ok([code, text, _]) = message.params_fields(&["code", "message", "data"]) else { return error };
    let Some(at) = code else { return error };
    let code: Option<i64> = message.text(at).parse().ok();
    match (code, client, server) {
        // Both ends of one stateless hop mean the same: our request carried the client's own
        // revision and capabilities.
        (Some(-32022..=-32020), Era::Stateless, Era::Stateless) => error,
        // URL elicitation required: 2025-11-25's own, known to both ends.
        (Some(-32042), Era::Handshake, Era::Handshake) => error,
        (Some(-32002), Era::Stateless, _) => json::splice(&error, &[(at, b"-32602")]).into(),
        (Some(-32099..=-32020), ..) => {
            let text = text.map_or("\"\"", |t| message.text(t));
            [b"{\"code\":-32603,\"message\":", text.as_bytes(), b",\"data\":{\"error\":", &error, b"}}"].concat().into()
        }
        _ => error,
    }
}

/// The code of an error object.
pub fn code_of(error: &Bytes) -> Option<i64> {
    let message = object(error.clone()).ok()?;
    let [code] = message.params_fields(&["code"]).ok()?;
    message.text(code?).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_one_hop_stay_on_it() {
        let e = |c, s, text: &str| String::from_utf8(error(c, s, Bytes::copy_from_slice(text.as_bytes())).to_vec()).unwrap();
        assert_eq!(
            e(Era::Stateless, Era::Handshake, r#"{"code":-32002,"message":"no","data":1.0}"#),
            r#"{"code":-32602,"message":"no","data":1.0}"#
        );
        assert_eq!(
            e(Era::Handshake, Era::Stateless, r#"{"code":-32021,"message":"no"}"#),
            r#"{"code":-32603,"message":"no","data":{"error":{"code":-32021,"message":"no"}}}"#
        );
        assert_eq!(e(Era::Handshake, Era::Handshake, r#"{"code":-32042,"message":"u"}"#), r#"{"code":-32042,"message":"u"}"#);
        assert_eq!(e(Era::Stateless, Era::Stateless, r#"{"code":7,"message":"u"}"#), r#"{"code":7,"message":"u"}"#);
    }
}
