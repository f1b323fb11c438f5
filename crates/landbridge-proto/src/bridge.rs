//! What must be translated between the eras, and between a server and an older client.
//!
//! Within an era everything passes untouched. Across, these are the differences in the letters
//! themselves; who may ask whom is the business of the edges.
//!
//! | what | handshake server, stateless client | stateless server, handshake client |
//! |---|---|---|
//! | hello | `discover_result` | `initialize_result` |
//! | result | + `resultType`, cache hints, `serverInfo` | − the same |
//! | error | codes of one hop become -32603 | likewise |
//! | content types | pass | a type the revision lacks becomes text |

pub mod ask;
pub mod crossing;
pub mod parked;
pub mod rounds;

use bytes::Bytes;

use crate::call::{Client, Outcome, Server, object};
use crate::fault::{Fault, Kind};
use crate::json::{self, Span};
use crate::message::{META_SERVER_INFO, META_SUBSCRIPTION};
use crate::methods::Method;
use crate::version::{Era, Revision};

/// The answer to `initialize`, for a client that gets `revision`.
pub fn initialize_result(server: &Server, revision: Revision) -> Bytes {
    if server.era() == Era::Handshake {
        // Whatever else the server said of itself passes as it is.
        let asked = object(server.hello.clone()).and_then(|hello| {
            let [version] = hello.params_fields(&["protocolVersion"]).map_err(|e| e.to_string())?;
            let version = version.ok_or("no version")?;
            Ok(json::splice(&hello.bytes, &[(version, format!("\"{revision}\"").as_bytes())]))
        });
        if let Ok(result) = asked {
            return result.into();
        }
    }
    let mut out = format!("{{\"protocolVersion\":\"{revision}\",\"capabilities\":").into_bytes();
    out.extend_from_slice(&without_tasks(&server.capabilities));
    out.extend_from_slice(b",\"serverInfo\":");
    out.extend_from_slice(&server.info);
    if let Some(instructions) = &server.instructions {
        out.extend_from_slice(b",\"instructions\":");
        out.extend_from_slice(instructions);
    }
    out.push(b'}');
    out.into()
}

/// The answer to `server/discover`. The versions are those *we* serve on this endpoint.
pub fn discover_result(server: &Server) -> Bytes {
    let versions: Vec<String> = Revision::ALL.iter().rev().map(|r| format!("\"{r}\"")).collect();
    let versions = format!("[{}]", versions.join(","));
    if server.era() == Era::Stateless {
        let asked = object(server.hello.clone()).and_then(|hello| {
            let [supported] = hello.params_fields(&["supportedVersions"]).map_err(|e| e.to_string())?;
            let supported = supported.ok_or("no versions")?;
            Ok(json::splice(&hello.bytes, &[(supported, versions.as_bytes())]))
        });
        if let Ok(result) = asked {
            return result.into();
        }
    }
    let mut out = format!("{{\"resultType\":\"complete\",\"supportedVersions\":{versions},\"capabilities\":").into_bytes();
    out.extend_from_slice(&without_tasks(&server.capabilities));
    if let Some(instructions) = &server.instructions {
        out.extend_from_slice(b",\"instructions\":");
        out.extend_from_slice(instructions);
    }
    out.extend_from_slice(b",\"ttlMs\":0,\"cacheScope\":\"private\",\"_meta\":{\"");
    out.extend_from_slice(META_SERVER_INFO.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(&server.info);
    out.extend_from_slice(b"}}");
    out.into()
}

/// The capabilities without tasks: the two eras mean different methods by the word.
fn without_tasks(capabilities: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(capabilities) else { return b"{}".to_vec() };
    let Ok(members) = json::members(text) else { return b"{}".to_vec() };
    write_object(members.into_iter().filter(|(key, _)| key != "tasks").map(|(key, value)| {
        let value = if key == "extensions" {
            let kept = json::members(value).unwrap_or_default();
            write_object(kept.into_iter().filter(|(k, _)| k != "io.modelcontextprotocol/tasks").map(own))
        } else {
            value.as_bytes().to_vec()
        };
        (key.into_owned(), value)
    }))
}

fn own((key, value): (std::borrow::Cow<'_, str>, &str)) -> (String, Vec<u8>) {
    (key.into_owned(), value.as_bytes().to_vec())
}

/// An object of these members, in this order.
pub fn write_object(members: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (key, value) in members {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(json::quote(&key).as_bytes());
        out.push(b':');
        out.extend_from_slice(&value);
    }
    out.push(b'}');
    out
}

/// How a call ended, in the words of its client.
pub fn outcome(client: &Client, server: &Server, method: &Method, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Result(result) => match (server.era(), client.revision.era()) {
            (Era::Handshake, Era::Stateless) => Outcome::Result(complete(server, method, result)),
            (Era::Stateless, Era::Handshake) => match plain(result) {
                Ok(result) => Outcome::Result(down_level(client.revision, method, result)),
                Err(fault) => Outcome::Fault(fault),
            },
            (Era::Handshake, Era::Handshake) => Outcome::Result(down_level(client.revision, method, result)),
            (Era::Stateless, Era::Stateless) => Outcome::Result(result),
        },
        Outcome::Error(error) => Outcome::Error(self::error(client.revision.era(), server.era(), error)),
        fault => fault,
    }
}

/// A handshake server's result as 2026-07-28 wants it: with a type, with cache hints where the
/// method has them, with the server's name.
fn complete(server: &Server, method: &Method, result: Bytes) -> Bytes {
    let Ok(message) = object(result.clone()) else { return result };
    let Ok([kind, ttl, scope, meta]) = message.params_fields(&["resultType", "ttlMs", "cacheScope", "_meta"]) else {
        return result;
    };
    let empty = memchr::memchr(b'"', &result).is_none();
    let mut head = Vec::with_capacity(96 + server.info.len());
    if kind.is_none() {
        head.extend_from_slice(b"\"resultType\":\"complete\",");
    }
    if method.is_cacheable() {
        if ttl.is_none() {
            head.extend_from_slice(b"\"ttlMs\":0,");
        }
        if scope.is_none() {
            head.extend_from_slice(b"\"cacheScope\":\"private\",");
        }
    }
    let info = [b"\"", META_SERVER_INFO.as_bytes(), b"\":", &server.info].concat();
    let inside = Span::inside(&result);
    let edits = match meta {
        None => {
            head.extend_from_slice(b"\"_meta\":{");
            head.extend_from_slice(&info);
            head.extend_from_slice(b"},");
            vec![(inside, head)]
        }
        Some(meta) => {
            let named = message.fields_at(meta, &[META_SERVER_INFO]).is_ok_and(|[named]| named.is_some());
            let old = meta.of_bytes(&result);
            if named || old.first() != Some(&b'{') {
                vec![(inside, head)]
            } else {
                let comma: &[u8] = if memchr::memchr(b'"', old).is_some() { b"," } else { b"" };
                let at = Span::inside(old).within(meta);
                vec![(inside, head), (at, [&info, comma].concat())]
            }
        }
    };
    let mut edits: Vec<(Span, &[u8])> = edits.iter().map(|(at, new)| (*at, new.as_slice())).collect();
    if empty && let Some((_, first)) = edits.first_mut() {
        *first = first.strip_suffix(b",").unwrap_or(first);
    }
    json::splice(&result, &edits).into()
}

/// A 2026-07-28 result without what only that revision has.
fn plain(result: Bytes) -> Result<Bytes, Fault> {
    let Ok(message) = object(result.clone()) else { return Ok(result) };
    let Ok([kind, ttl, scope, meta]) = message.params_fields(&["resultType", "ttlMs", "cacheScope", "_meta"]) else {
        return Ok(result);
    };
    match message.string_at(kind).as_deref() {
        None | Some("complete") => {}
        Some(other) => {
            return Err(Fault::gateway(Kind::Untranslatable)
                .tell(format!("the server answered with a result of type `{other}`, which this client's protocol version cannot carry")));
        }
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

/// A notification of a stateless server without the mark of its subscription.
pub fn untag(message: &Bytes) -> Bytes {
    let strip = || {
        let m = crate::message::Message::read(message.clone()).ok()?;
        let [meta] = m.params_fields(&["_meta"]).ok()?;
        let meta = meta?;
        let members = json::members(m.text(meta)).ok()?;
        let kept = write_object(members.into_iter().filter(|(k, _)| k != META_SUBSCRIPTION).map(own));
        Some(json::splice(message, &[(meta, &kept)]).into())
    };
    strip().unwrap_or_else(|| message.clone())
}

/// A notification marked as belonging to the `subscriptions/listen` with the id `listen`.
pub fn tag(message: &Bytes, listen: &[u8]) -> Bytes {
    let mark = [b"\"", META_SUBSCRIPTION.as_bytes(), b"\":", listen].concat();
    let plain = untag(message);
    let Ok(m) = crate::message::Message::read(plain.clone()) else { return plain };
    let spliced = match (m.params, m.params_fields(&["_meta"])) {
        (Some(_), Ok([Some(meta)])) => {
            let old = meta.of_bytes(&m.bytes);
            let comma: &[u8] = if memchr::memchr(b'"', old).is_some() { b"," } else { b"" };
            json::splice(&plain, &[(Span::inside(old).within(meta), &[&mark, comma].concat())])
        }
        (Some(params), _) => {
            let old = params.of_bytes(&m.bytes);
            let comma: &[u8] = if memchr::memchr(b'"', old).is_some() { b"," } else { b"" };
            let new = [b"\"_meta\":{", &mark[..], b"}", comma].concat();
            json::splice(&plain, &[(Span::inside(old).within(params), &new)])
        }
        (None, _) => {
            let new = [b"\"params\":{\"_meta\":{", &mark[..], b"}},"].concat();
            json::splice(&plain, &[(Span::inside(&plain), &new)])
        }
    };
    spliced.into()
}

/// An error object in the words of the client's era.
///
/// Codes from -32020 to -32099 describe one hop, and 2026-07-28 forbids undefined ones among
/// them; relayed they would describe the wrong one. -32002 (resource not found) became -32602.
fn error(client: Era, server: Era, error: Bytes) -> Bytes {
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

/// A result without content types that came after the client's revision. Types that no revision
/// knows pass: they may be an agreement between the two ends.
fn down_level(client: Revision, method: &Method, result: Bytes) -> Bytes {
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
    use super::*;
    use crate::call::Principal;

    fn server(revision: Revision, hello: &str) -> Server {
        Server::read(revision, Bytes::copy_from_slice(hello.as_bytes()), "demo").unwrap()
    }

    fn client(revision: Revision) -> Client {
        Client { revision, principal: Principal::default(), info: None, capabilities: Bytes::from_static(b"{}") }
    }

    fn result(c: Revision, s: &Server, method: Method, text: &str) -> String {
        match outcome(&client(c), s, &method, Outcome::Result(Bytes::copy_from_slice(text.as_bytes()))) {
            Outcome::Result(r) => String::from_utf8(r.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

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
        let asked = outcome(
            &client(Revision::V2025_11_25),
            &s,
            &Method::ToolsCall,
            Outcome::Result(Bytes::from_static(br#"{"resultType":"task"}"#)),
        );
        assert!(matches!(asked, Outcome::Fault(f) if f.kind == Kind::Untranslatable));
    }

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

    #[test]
    fn marks_of_subscriptions_come_and_go() {
        let note = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
        let tagged = tag(&note, b"7");
        assert_eq!(
            &tagged[..],
            br#"{"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}},"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#
        );
        let again = tag(&tagged, b"\"x\"");
        assert!(memchr::memmem::find(&again, b"subscriptionId\":\"x\"}").is_some());
        assert!(memchr::memmem::find(&again, b":7").is_none());
    }

    #[test]
    fn hellos_cross() {
        let old = server(
            Revision::V2025_06_18,
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"tasks":{},"x":1.0},"serverInfo":{"name":"n","version":"1"},"instructions":"do","extra":2.50}"#,
        );
        assert!(old.can.tools_changed && old.can.tools && !old.can.subscribe);
        let said = String::from_utf8(initialize_result(&old, Revision::V2024_11_05).to_vec()).unwrap();
        assert!(said.contains(r#""protocolVersion":"2024-11-05""#) && said.contains("2.50"));
        let said = String::from_utf8(discover_result(&old).to_vec()).unwrap();
        assert!(said.contains(r#""capabilities":{"tools":{"listChanged":true},"x":1.0},"instructions":"do""#), "{said}");
        let new = server(
            Revision::V2026_07_28,
            r#"{"supportedVersions":["2026-07-28"],"capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}}"#,
        );
        let said = String::from_utf8(initialize_result(&new, Revision::V2025_11_25).to_vec()).unwrap();
        assert_eq!(
            said,
            r#"{"protocolVersion":"2025-11-25","capabilities":{"extensions":{"a/b":{}}},"serverInfo":{"name":"demo","version":"0"}}"#
        );
        let said = String::from_utf8(discover_result(&new).to_vec()).unwrap();
        assert!(said.contains(r#"["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"]"#));
    }
}
