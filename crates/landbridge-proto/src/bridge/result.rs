//! What every result has in 2026-07-28 and had not before: a type, cache hints, a server's name.

use bytes::Bytes;

use super::{own, write_object};
use crate::call::{Server, object};
use crate::fault::{Fault, Kind};
use crate::json::{self, Span};
use crate::message::{META_SERVER_INFO, META_SUBSCRIPTION};
use crate::methods::Method;

/// A handshake server's result as 2026-07-28 wants it: with a type, with cache hints where the
/// method has them, with the server's name.
pub(super) fn complete(server: &Server, method: &Method, result: Bytes) -> Bytes {
    let Ok(message) = object(result.clone()) else { return result };
    let Ok([kind, ttl, scope, meta]) = message.params_fields(&["resultType", "ttlMs", "cacheScope", "_meta"]) else {
        return result;
    };
    let empty = memchr::memchr(b'"', &result).is_none();
    let mut head = Vec::with_capacity(96 + server.info.len());
    let mut edits: Vec<(Span, Vec<u8>)> = Vec::with_capacity(4);
    // What stands there already was no word of the server's revision: it stays where it makes
    // sense in 2026-07-28.
    let mut set = |key: &str, at: Option<Span>, makes_sense: bool, value: &str| match at {
        None => ["\"", key, "\":", value, ","].iter().for_each(|part| head.extend_from_slice(part.as_bytes())),
        Some(_) if makes_sense => {}
        Some(at) => edits.push((at, value.into())),
    };
    let is_one_of = |at: Option<Span>, words: &[&str]| message.string_at(at).is_some_and(|said| words.contains(&&*said));
    set("resultType", kind, is_one_of(kind, &["complete"]), "\"complete\"");
    if method.is_cacheable() {
        set("ttlMs", ttl, ttl.is_some_and(|at| message.text(at).parse::<u64>().is_ok()), "0");
        set("cacheScope", scope, is_one_of(scope, &["public", "private"]), "\"private\"");
    }
    let info = [b"\"", META_SERVER_INFO.as_bytes(), b"\":", &server.info].concat();
    match meta {
        None => {
            head.extend_from_slice(b"\"_meta\":{");
            head.extend_from_slice(&info);
            head.extend_from_slice(b"},");
        }
        Some(meta) => {
            let named = message.fields_at(meta, &[META_SERVER_INFO]).is_ok_and(|[named]| named.is_some());
            let old = meta.of_bytes(&result);
            if old == b"null" {
                edits.push((meta, [b"{", &info[..], b"}"].concat()));
            } else if !named && old.first() == Some(&b'{') {
                let comma: &[u8] = if memchr::memchr(b'"', old).is_some() { b"," } else { b"" };
                edits.push((Span::inside(old).within(meta), [&info, comma].concat()));
            }
        }
    }
    if empty && head.last() == Some(&b',') {
        head.pop();
    }
    edits.push((Span::inside(&result), head));
    edits.sort_by_key(|(at, _)| at.start());
    let edits: Vec<(Span, &[u8])> = edits.iter().map(|(at, new)| (*at, new.as_slice())).collect();
    json::splice(&result, &edits).into()
}

/// A 2026-07-28 result without what only that revision has.
pub(super) fn plain(result: Bytes) -> Result<Bytes, Fault> {
    let Ok(message) = object(result.clone()) else { return Ok(result) };
    let Ok([kind, ttl, scope, meta]) = message.params_fields(&["resultType", "ttlMs", "cacheScope", "_meta"]) else {
        return Ok(result);
    };
    let raw = kind.map(|at| message.text(at)).filter(|raw| *raw != "null");
    let said = message.string_at(kind);
    if let Some(other) = said.as_deref().or(raw).filter(|said| *said != "complete") {
        return Err(Fault::gateway(Kind::Untranslatable)
            .tell(format!("the server answered with a result of type `{other}`, which this client's protocol version cannot carry")));
    }
    let hop_keys = [META_SERVER_INFO, META_SUBSCRIPTION];
    let tagged = meta.is_some_and(|m| message.fields_at(m, &hop_keys).is_ok_and(|f| f.iter().any(Option::is_some)));
    if kind.is_none() && ttl.is_none() && scope.is_none() && !tagged {
        return Ok(result);
    }
    let members = json::members(message.params_text()).unwrap_or_default();
    let kept = members.into_iter().filter(|(k, _)| !matches!(&**k, "resultType" | "ttlMs" | "cacheScope"));
    Ok(write_object(kept.filter_map(|(key, value)| {
        if key != "_meta" || !tagged {
            return Some((key.into_owned(), value.as_bytes().to_vec()));
        }
        let rest = json::members(value).unwrap_or_default();
        let rest = write_object(rest.into_iter().filter(|(k, _)| !hop_keys.contains(&&**k)).map(own));
        (rest != b"{}").then(|| (key.into_owned(), rest))
    }))
    .into())
}

#[cfg(test)]
mod tests {
    use super::super::outcome;
    use super::super::tests::{client, result, server};
    use super::*;
    use crate::call::Outcome;
    use crate::version::Revision;

    #[test]
    fn up_level_adds_only_what_is_missing() {
        let s =
            server(Revision::V2025_06_18, r#"{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"n","version":"1"}}"#);
        assert_eq!(
            result(Revision::V2026_07_28, &s, Method::ToolsCall, r#"{"content":[1.0]}"#),
            r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"1"}},"content":[1.0]}"#
        );
        assert_eq!(
            result(Revision::V2026_07_28, &s, Method::ToolsList, r#"{"_meta":{"a":1},"ttlMs":5}"#),
            r#"{"resultType":"complete","cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"1"},"a":1},"ttlMs":5}"#
        );
        assert_eq!(
            result(Revision::V2026_07_28, &s, Method::Complete, "{}"),
            r#"{"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n","version":"1"}}}"#
        );
    }

    #[test]
    fn up_level_replaces_what_makes_no_sense() {
        let s = server(Revision::V2025_11_25, r#"{"serverInfo":{"name":"n"}}"#);
        let list = |text: &str| result(Revision::V2026_07_28, &s, Method::ToolsList, text);
        let named = r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"n"}}"#;
        for (odd, good) in [
            (r#""ttlMs":-1,"cacheScope":"private""#, r#""ttlMs":0,"cacheScope":"private""#),
            (r#""ttlMs":1.5,"cacheScope":"publi\u0063""#, r#""ttlMs":0,"cacheScope":"publi\u0063""#),
            (r#""cacheScope":"shared","ttlMs":"5""#, r#""cacheScope":"private","ttlMs":0"#),
            (r#""cacheScope":null,"ttlMs":null"#, r#""cacheScope":"private","ttlMs":0"#),
            (r#""ttlMs":60000,"cacheScope":"public""#, r#""ttlMs":60000,"cacheScope":"public""#),
        ] {
            assert_eq!(
                list(&format!(r#"{{"resultType":"odd","x":1.0,{odd},"_meta":null}}"#)),
                format!(r#"{{"resultType":"complete","x":1.0,{good},{named}}}"#)
            );
        }
        // Where they mean nothing they are the server's own.
        let call = r#"{"ttlMs":-1,"cacheScope":7,"content":[]}"#;
        assert_eq!(
            result(Revision::V2026_07_28, &s, Method::ToolsCall, call),
            format!(r#"{{"resultType":"complete",{named},{}"#, &call[1..])
        );
    }

    #[test]
    fn down_level_takes_away_what_the_hop_added() {
        let s = server(Revision::V2026_07_28, r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#);
        assert_eq!(
            result(
                Revision::V2025_11_25,
                &s,
                Method::ToolsCall,
                r#"{"resultType":"complete","content":[],"x":1e400,"_meta":{"io.modelcontextprotocol/serverInfo":{},"k":2}}"#
            ),
            r#"{"content":[],"x":1e400,"_meta":{"k":2}}"#
        );
        assert_eq!(result(Revision::V2024_11_05, &s, Method::ToolsCall, r#"{"resultType":null,"ttlMs":1}"#), "{}");
        for strange in [r#"{"resultType":"task"}"#, r#"{"resultType":"input_required"}"#, r#"{"resultType":7}"#] {
            let strange = Outcome::Result(Bytes::from_static(strange.as_bytes()));
            let asked = outcome(&client(Revision::V2025_11_25), &s, &Method::ToolsCall, strange);
            assert!(matches!(asked, Outcome::Fault(f) if f.kind == Kind::Untranslatable));
        }
    }
}
