//! One question, in the words of each era.
//!
//! ```text
//!   handshake  {"jsonrpc":"2.0","id":7,"method":M,"params":P}       a request of the server
//!   stateless  "inputRequests":{KEY:{"method":M,"params":P}}        part of a result
//! ```
//!
//! M and the letters of P are the same. Only what belongs to one hop or one era goes: `_meta`,
//! and the `elicitationId` of a URL, which 2026-07-28 does not have.

use bytes::Bytes;

use crate::bridge::write_object;
use crate::call::{Ask, object};
use crate::json;
use crate::message::Message;
use crate::methods::Method;
use crate::version::Revision;

/// By this key of `_meta`, a handshake server may name its question: that is what a stateless client
/// finds it under.
pub const META_KEY: &str = "landbridge/key";

/// How long a name of a server's choice may be.
const MAX_KEY: usize = 128;

/// A question as a stateless client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputRequest {
    /// Under which key.
    pub key: String,
    /// `{"method":…,"params":…}`
    pub request: Bytes,
}

/// The name that the server gave its question, if it gave one.
pub fn named(ask: &Ask) -> Option<String> {
    let [meta] = ask.message.params_fields(&["_meta"]).ok()?;
    let [key] = ask.message.fields_at(meta?, &[META_KEY]).ok()?;
    let key = ask.message.string_at(key)?;
    (!key.is_empty() && key.len() <= MAX_KEY).then(|| key.into_owned())
}

/// Questions of a handshake server as a stateless client gets them, in their order. A key is unique
/// in its round.
pub fn input_requests(asks: &[Ask]) -> Vec<InputRequest> {
    let mut requests: Vec<InputRequest> = Vec::with_capacity(asks.len());
    for ask in asks {
        let is_free = |key: &str| !requests.iter().any(|r| r.key == key);
        let word = ask.method.as_str().split('/').next().unwrap_or_default();
        let numbered = || (1..).map(|n| format!("{word}-{n}")).find(|key| is_free(key));
        let Some(key) = named(ask).filter(|key| is_free(key)).or_else(numbered) else { continue };
        let params = without(ask.message.params_text(), &["_meta", "elicitationId"]);
        let mut request = format!("{{\"method\":{},\"params\":", json::quote(ask.method.as_str())).into_bytes();
        request.extend_from_slice(&params);
        request.push(b'}');
        json::one_line(&mut request);
        requests.push(InputRequest { key, request: request.into() });
    }
    requests
}

/// The URLs that a server of 2025-11-25 wants visited before the call is sent again (-32042), as a
/// stateless client gets them. `None`: the error is another, or names none.
pub fn required_urls(error: &Bytes) -> Option<Vec<InputRequest>> {
    if memchr::memmem::find(error, b"32042").is_none() || super::code_of(error)? != -32042 {
        return None;
    }
    let message = object(error.clone()).ok()?;
    let [data] = message.params_fields(&["data"]).ok()?;
    let [elicitations] = message.fields_at(data?, &["elicitations"]).ok()?;
    let all = json::elements(message.text(elicitations?), 32).ok()??;
    let mut requests: Vec<InputRequest> = Vec::new();
    for (n, elicitation) in all.into_iter().enumerate() {
        let one = object(Bytes::copy_from_slice(elicitation.as_bytes())).ok()?;
        let [mode, url, id] = one.params_fields(&["mode", "url", "elicitationId"]).ok()?;
        url?;
        let is_free = |key: &str| !requests.iter().any(|r| r.key == key);
        let id = one.string_at(id).filter(|id| !id.is_empty() && id.len() <= MAX_KEY && is_free(id));
        let numbered = || (n + 1..).map(|n| format!("url-{n}")).find(|key| is_free(key)).unwrap_or_default();
        let key = id.map_or_else(numbered, |id| id.into_owned());
        let mut params = without(elicitation, &["elicitationId", "_meta"]);
        if mode.is_none() {
            params.splice(1..1, *b"\"mode\":\"url\",");
        }
        let request = [b"{\"method\":\"elicitation/create\",\"params\":", &params[..], b"}"].concat();
        requests.push(InputRequest { key, request: request.into() });
    }
    (!requests.is_empty()).then_some(requests)
}

/// A question of a stateless server as a request to a handshake client, whose session gives it its
/// id.
pub fn ask(ticket: u64, request: &str) -> Result<Ask, String> {
    let whole = object(Bytes::copy_from_slice(request.as_bytes()))?;
    let [method, params] = whole.params_fields(&["method", "params"]).map_err(|e| e.to_string())?;
    let method = whole.string_at(method).ok_or("it has no `method`")?;
    let method = Method::parse(&method);
    if !matches!(method, Method::Elicitation | Method::Sampling | Method::Roots) {
        return Err(format!("{} is nothing a client can be asked", method.as_str()));
    }
    let params = params.map_or("{}", |at| whole.text(at));
    let inside = object(Bytes::copy_from_slice(params.as_bytes()))?;
    let [mode, id] = inside.params_fields(&["mode", "elicitationId"]).map_err(|e| format!("its `params`: {e}"))?;
    let url = method == Method::Elicitation && inside.string_at(mode).as_deref() == Some("url");
    let params = if url && id.is_none() {
        format!("{{\"elicitationId\":\"landbridge-{ticket}\",{}", params.trim_start().strip_prefix('{').unwrap_or("}"))
    } else {
        params.to_owned()
    };
    let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"{}\",\"params\":{params}}}", method.as_str());
    let mut text = text.into_bytes();
    json::one_line(&mut text);
    let message = Message::read(text.into()).map_err(|bad| bad.why)?;
    Ok(Ask { ticket, method, message })
}

/// A question for a client of that revision. A message to a model may hold several contents only
/// since 2025-11-25: before, each is a message of its own. `Err`: there is no way to ask it.
pub fn for_revision(ask: &Ask, revision: Revision) -> Result<Option<Message>, &'static str> {
    if revision >= Revision::V2025_11_25 {
        return Ok(None);
    }
    match ask.method {
        Method::Elicitation if has_several_choices(&ask.message) => {
            Err("this client's protocol version has no form in which several choices may be made at once")
        }
        Method::Sampling => Ok(with_single_contents(&ask.message)),
        _ => Ok(None),
    }
}

/// Whether a form has a field that takes a list, as only 2025-11-25 has.
fn has_several_choices(ask: &Message) -> bool {
    let look = || {
        let [schema] = ask.params_fields(&["requestedSchema"]).ok()?;
        let [properties] = ask.fields_at(schema?, &["properties"]).ok()?;
        let members = json::members(ask.text(properties?)).ok()?;
        Some(members.iter().any(|(_, field)| json::field(field.as_bytes(), "type") == Some(b"\"array\"")))
    };
    look().unwrap_or(false)
}

/// The question with one content to each message; `None` where that is so already.
fn with_single_contents(ask: &Message) -> Option<Message> {
    let [messages] = ask.params_fields(&["messages"]).ok()?;
    let at = messages?;
    let mut new: Vec<String> = Vec::new();
    let mut changed = false;
    for message in json::elements(ask.text(at), usize::MAX).ok()?? {
        let mut content = [None];
        json::fields(message, &["content"], &mut content).ok()?;
        let Some(content) = content[0].filter(|at| at.of_bytes(message.as_bytes()).starts_with(b"[")) else {
            new.push(message.to_owned());
            continue;
        };
        changed = true;
        for one in json::elements(message.get(content.range())?, usize::MAX).ok()?? {
            new.push(String::from_utf8(json::splice(message.as_bytes(), &[(content, one.as_bytes())])).ok()?);
        }
    }
    let text = json::splice(&ask.bytes, &[(at, format!("[{}]", new.join(",")).as_bytes())]);
    if changed { Message::read(text.into()).ok() } else { None }
}

/// Whether an elicitation's answer is the user's consent.
pub fn is_accepted(answer: &[u8]) -> bool {
    json::field(answer, "action") == Some(b"\"accept\"")
}

/// A client's answer as the other era carries it: its letters, without what belonged to the hop.
pub fn answer(result: &[u8]) -> Bytes {
    let text = std::str::from_utf8(result).unwrap_or("{}");
    without(text, &["_meta"]).into()
}

/// The object without these members; as it was where it has none of them.
pub(super) fn without(text: &str, keys: &[&str]) -> Vec<u8> {
    let Ok(members) = json::members(text) else { return text.as_bytes().to_vec() };
    if !members.iter().any(|(key, _)| keys.contains(&&**key)) {
        return text.as_bytes().to_vec();
    }
    let kept = members.into_iter().filter(|(key, _)| !keys.contains(&&**key));
    write_object(kept.map(|(key, value)| (key.into_owned(), value.as_bytes().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_server(method: &str, params: &str) -> Ask {
        let text = format!(r#"{{"jsonrpc":"2.0","id":9,"method":"{method}","params":{params}}}"#);
        Ask { ticket: 1, method: Method::parse(method), message: Message::read(text.into()).unwrap() }
    }

    fn shown(requests: &[InputRequest]) -> Vec<String> {
        requests.iter().map(|r| format!("{} {}", r.key, String::from_utf8_lossy(&r.request))).collect()
    }

    #[test]
    fn questions_keep_their_letters_and_get_keys() {
        let asks = [
            of_server("elicitation/create", r#"{"message":"a","requestedSchema":{"n":1.0,"z":1e400}}"#),
            of_server("elicitation/create", r#"{"_meta":{"landbridge/key":"who"},"message":"b"}"#),
            of_server("elicitation/create", r#"{"_meta":{"landbridge/key":"who"},"message":"c"}"#),
            of_server("sampling/createMessage", r#"{"maxTokens":1}"#),
            of_server("elicitation/create", r#"{"mode":"url","elicitationId":"x","url":"https://a/"}"#),
        ];
        assert_eq!(
            shown(&input_requests(&asks)),
            [
                r#"elicitation-1 {"method":"elicitation/create","params":{"message":"a","requestedSchema":{"n":1.0,"z":1e400}}}"#,
                r#"who {"method":"elicitation/create","params":{"message":"b"}}"#,
                r#"elicitation-2 {"method":"elicitation/create","params":{"message":"c"}}"#,
                r#"sampling-1 {"method":"sampling/createMessage","params":{"maxTokens":1}}"#,
                r#"elicitation-3 {"method":"elicitation/create","params":{"mode":"url","url":"https://a/"}}"#,
            ]
        );
    }

    #[test]
    fn required_urls_become_questions() {
        let error = |data: &str| Bytes::from(format!(r#"{{"code":-32042,"message":"m","data":{data}}}"#));
        let two = error(r#"{"elicitations":[{"mode":"url","elicitationId":"e1","url":"https://a/","message":"go"},{"url":"https://b/"}]}"#);
        assert_eq!(
            shown(&required_urls(&two).unwrap()),
            [
                r#"e1 {"method":"elicitation/create","params":{"mode":"url","url":"https://a/","message":"go"}}"#,
                r#"url-2 {"method":"elicitation/create","params":{"mode":"url","url":"https://b/"}}"#,
            ]
        );
        for bad in ["{}", r#"{"elicitations":[]}"#, r#"{"elicitations":[1]}"#, r#"{"elicitations":[{"mode":"url"}]}"#, "1"] {
            assert_eq!(required_urls(&error(bad)), None, "{bad}");
        }
        assert_eq!(required_urls(&Bytes::from_static(br#"{"code":-32603,"message":"m"}"#)), None);
    }

    #[test]
    fn questions_of_a_stateless_server_become_requests() {
        let text = |request: &str| ask(5, request).map(|a| String::from_utf8_lossy(&a.message.bytes).into_owned());
        assert_eq!(
            text(r#"{"method":"elicitation/create","params":{"message":"?","x":1.50}}"#).unwrap(),
            r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"message":"?","x":1.50}}"#
        );
        assert_eq!(
            text(r#"{"method":"elicitation/create","params":{"mode":"url","url":"https://a/"}}"#).unwrap(),
            r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"elicitationId":"landbridge-5","mode":"url","url":"https://a/"}}"#
        );
        assert!(text(r#"{"method":"roots/list"}"#).unwrap().ends_with(r#""params":{}}"#));
        for bad in ["1", "{}", r#"{"method":"ping"}"#, r#"{"method":"roots/list","params":[]}"#, r#"{"method":"roots/list","method":"x"}"#]
        {
            assert!(text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn older_clients_are_asked_in_their_own_way() {
        let old = Revision::V2025_06_18;
        let several = of_server(
            "sampling/createMessage",
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"user","content":{"n":1.0}}]}"#,
        );
        assert_eq!(
            for_revision(&several, old).unwrap().unwrap().params_text(),
            r#"{"messages":[{"role":"user","content":{"type":"text","text":"a"}},{"role":"user","content":{"type":"text","text":"b"}},{"role":"user","content":{"n":1.0}}]}"#
        );
        assert!(for_revision(&several, Revision::V2025_11_25).unwrap().is_none());
        let choices = of_server("elicitation/create", r#"{"requestedSchema":{"type":"object","properties":{"c":{"type":"array"}}}}"#);
        assert!(for_revision(&choices, old).is_err());
        assert!(for_revision(&choices, Revision::V2025_11_25).unwrap().is_none());
        let plain = of_server("elicitation/create", r#"{"requestedSchema":{"type":"object","properties":{"c":{"type":"string"}}}}"#);
        assert!(for_revision(&plain, old).unwrap().is_none());
    }

    #[test]
    fn answers_keep_their_letters() {
        assert_eq!(&answer(br#"{"action":"accept","content":{"n":1.0}}"#)[..], br#"{"action":"accept","content":{"n":1.0}}"#);
        assert_eq!(&answer(br#"{"_meta":{"x":1},"action":"accept"}"#)[..], br#"{"action":"accept"}"#);
    }
}
