//! HTTP header values that MCP gives a meaning: what a client accepts, where it comes from, and
//! the mirrors of 2026-07-28 (`Mcp-Name`, `Mcp-Param-*`).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::json;

/// What a client can read, from its `Accept` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// `application/json`
    pub json: bool,
    /// `text/event-stream`
    pub events: bool,
}

impl Accept {
    /// Everything.
    pub const ALL: Accept = Accept { json: true, events: true };

    /// Reads a header (RFC 9110 §12.5.1). No header accepts everything; a media range with
    /// `q=0` accepts nothing.
    pub fn read(header: Option<&str>) -> Accept {
        // As nearly all clients write it.
        const USUAL: &str = "application/json, text/event-stream";
        let Some(header) = header.filter(|header| *header != USUAL) else { return Accept::ALL };
        let mut accept = Accept { json: false, events: false };
        let mut refused_exactly = accept;
        for range in header.split(',') {
            let mut parts = range.split(';');
            let media = parts.next().unwrap_or("").trim();
            let refused = parts.any(|p| {
                let p = p.trim();
                p.get(..2).is_some_and(|key| key.eq_ignore_ascii_case("q=")) && p[2..].trim().parse::<f32>().is_ok_and(|q| q == 0.0)
            });
            let is = |m: &str| media.eq_ignore_ascii_case(m);
            if refused {
                refused_exactly.json |= is("application/json");
                refused_exactly.events |= is("text/event-stream");
                continue;
            }
            accept.json |= is("application/json") || is("application/*") || is("*/*");
            accept.events |= is("text/event-stream") || is("text/*") || is("*/*");
        }
        // The most specific range counts: a refusal by name outweighs a wildcard.
        accept.json &= !refused_exactly.json;
        accept.events &= !refused_exactly.events;
        accept
    }
}

/// Whether a `Content-Type` says JSON (any parameters).
pub fn is_json(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|v| v.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("application/json"))
}

/// Whom we serve: the names by which we may be called, and the pages that may call.
///
/// Both are exact. A page elsewhere that resolves its own name to our address (DNS rebinding)
/// sends a foreign Host and a foreign Origin; neither passes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guard {
    /// Host names served on a loopback bind, whatever the port.
    pub loopback: bool,
    /// More hosts: `name` (any port) or `name:port`, lower case.
    pub hosts: Vec<String>,
    /// More origins: `scheme://host[:port]`, lower case; `*` is everybody.
    pub origins: Vec<String>,
}

impl Guard {
    /// Whether a request with this `Host` is meant for us.
    pub fn allows_host(&self, host: &str) -> bool {
        let host = lower_case(host.trim());
        let name = without_port(&host);
        (self.loopback && is_loopback(name)) || self.hosts.iter().any(|h| **h == host || (h == name && without_port(h) == name))
    }

    /// Whether a page from this `Origin` may call.
    pub fn allows_origin(&self, origin: &str) -> bool {
        let origin = origin.trim().to_ascii_lowercase();
        if self.origins.iter().any(|o| *o == origin || o == "*") {
            return true;
        }
        let Some((scheme, host)) = origin.split_once("://") else { return false };
        if !matches!(scheme, "http" | "https") {
            return false;
        }
        (self.loopback && is_loopback(without_port(host))) || self.hosts.iter().any(|h| h == host)
    }
}

fn lower_case(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|b| b.is_ascii_uppercase()) {
        true => Cow::Owned(text.to_ascii_lowercase()),
        false => Cow::Borrowed(text),
    }
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| match &host[end + 1..] {
            "" => host,
            port if is_port(port) => &host[..=end],
            _ => host,
        });
    }
    match host.rfind(':') {
        Some(at) if is_port(&host[at..]) => &host[..at],
        _ => host,
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|p| !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_loopback(name: &str) -> bool {
    matches!(name, "localhost" | "[::1]" | "127.0.0.1")
        || (name.starts_with("127.") && name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()))
}

/// The value a mirror header stands for: `=?base64?…?=` decoded, anything else as it is
/// (2026-07-28, "Value encoding"). `None` where the form is there and its content is broken.
pub fn decode_mirror(value: &str) -> Option<Cow<'_, str>> {
    let value = value.trim_matches([' ', '\t']);
    let Some(inner) = value.strip_prefix("=?base64?").and_then(|v| v.strip_suffix("?=")) else {
        return Some(Cow::Borrowed(value));
    };
    let bytes = STANDARD.decode(inner).ok()?;
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// `value` as it may stand in a mirror header.
pub fn encode_mirror(value: &str) -> Cow<'_, str> {
    let plain = value.bytes().all(|b| (0x20..=0x7e).contains(&b) || b == b'\t');
    let padded = value.trim_matches([' ', '\t']).len() != value.len();
    let looks_encoded = value.starts_with("=?base64?") && value.ends_with("?=");
    if plain && !padded && !looks_encoded {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("=?base64?{}?=", STANDARD.encode(value)))
}

/// A tool parameter that clients of 2026-07-28 mirror in `Mcp-Param-{header}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirroredParam {
    /// The name behind `Mcp-Param-`, lower case.
    pub header: String,
    /// The keys from the arguments to the value.
    pub path: Vec<String>,
}

/// How deep a schema is looked into for mirrored parameters, and how many it may have.
const MAX_DEPTH: usize = 16;
const MAX_PARAMS: usize = 64;

/// The mirrored parameters of a tool, from its `inputSchema`. `Err` says why the annotation is
/// invalid, and with it the tool (2026-07-28, "x-mcp-header").
pub fn mirrored_params(schema: &Value) -> Result<Vec<MirroredParam>, String> {
    let mut found = Vec::new();
    collect(schema, &mut Vec::new(), &mut found)?;
    if count(schema, 0) != found.len() {
        return Err("an `x-mcp-header` stands where no argument can be found for certain: not on a property, or below a keyword other than `properties`".into());
    }
    let mut names: Vec<&str> = found.iter().map(|p| p.header.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(format!("`x-mcp-header: {}` appears twice", twice[0]));
    }
    Ok(found)
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<MirroredParam>) -> Result<(), String> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (key, property) in properties {
        path.push(key.clone());
        if let Some(name) = property.get("x-mcp-header") {
            let name = name.as_str().ok_or("`x-mcp-header` must be a string")?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(format!("`x-mcp-header: {name}` is no header name"));
            }
            if !matches!(property.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
                return Err(format!("`x-mcp-header: {name}` stands on a property that is no string, integer or boolean"));
            }
            if found.len() == MAX_PARAMS {
                return Err(format!("more than {MAX_PARAMS} mirrored parameters"));
            }
            found.push(MirroredParam { header: name.to_ascii_lowercase(), path: path.clone() });
        }
        if path.len() < MAX_DEPTH {
            collect(property, path, found)?;
        }
        path.pop();
    }
    Ok(())
}

/// Annotations wherever a schema may have schemas.
fn count(schema: &Value, depth: usize) -> usize {
    // What is deeper than we look is not looked at by `collect` either.
    let Some(schema) = schema.as_object().filter(|_| depth <= MAX_DEPTH) else { return 0 };
    let below = schema.iter().map(|(keyword, value)| match (keyword.as_str(), value) {
        ("properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas", Value::Object(named)) => {
            named.values().map(|schema| count(schema, depth + 1)).sum()
        }
        ("default" | "const" | "enum" | "examples", _) => 0,
        (_, Value::Array(all)) => all.iter().map(|schema| count(schema, depth + 1)).sum(),
        (_, schema) => count(schema, depth + 1),
    });
    usize::from(schema.contains_key("x-mcp-header")) + below.sum::<usize>()
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// Checks one mirrored parameter: `header` is what the client sent, `arguments` the body's.
/// The error says what disagrees.
pub fn check_param(param: &MirroredParam, header: Option<&str>, arguments: &str) -> Result<(), String> {
    let name = format!("Mcp-Param-{}", param.header);
    // Arguments that two readers may read differently are no ground to compare a header with.
    let value = value_at(arguments, &param.path).map_err(|e| format!("{name}: the arguments cannot be read: {e}"))?;
    let (header, value) = match (header, value) {
        (None, None) => return Ok(()),
        (None, Some(_)) => return Err(format!("the header {name} is missing, though the body has a value for it")),
        (Some(_), None) => return Err(format!("the header {name} has a value, though the body has none for it")),
        (Some(header), Some(value)) => (header, value),
    };
    let Some(header) = decode_mirror(header) else {
        return Err(format!("the header {name} is no valid base64 form"));
    };
    let agrees = match &value {
        Value::String(s) => *s == *header,
        Value::Bool(b) => header == if *b { "true" } else { "false" },
        // Integers compare as numbers: 42.0 is 42. Where a double cannot tell neighbours apart, they
        // compare as they are written.
        Value::Number(n) => {
            *n.to_string() == *header || n.as_f64().is_some_and(|n| n.abs() < 9_007_199_254_740_992.0 && header.parse() == Ok(n))
        }
        _ => false,
    };
    agrees.then_some(()).ok_or(format!("the header {name} and the body disagree"))
}

/// The header that mirrors a parameter of these arguments, and its value; `None` where there is none
/// to mirror (2026-07-28, "Value encoding").
pub fn mirror_param(param: &MirroredParam, arguments: &str) -> Option<(String, String)> {
    let value = match value_at(arguments, &param.path).ok()?? {
        Value::String(text) => encode_mirror(&text).into_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(n) => match n.as_f64() {
            // 42.0 is an integer, and is written as one.
            Some(whole) if !n.is_i64() && !n.is_u64() && whole.fract() == 0.0 && whole.abs() < 9e15 => (whole as i64).to_string(),
            _ => n.to_string(),
        },
        _ => return None,
    };
    Some((format!("mcp-param-{}", param.header), value))
}

fn value_at(arguments: &str, path: &[String]) -> Result<Option<Value>, json::Unreadable> {
    let mut at = arguments;
    for key in path {
        if !at.starts_with('{') {
            return Ok(None);
        }
        let members = json::members(at)?;
        let Some((_, value)) = members.into_iter().find(|(k, _)| k == key) else { return Ok(None) };
        at = value;
    }
    Ok(serde_json::from_str(at).ok().filter(|v: &Value| !v.is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn accept_reads_lists_wildcards_and_zeroes() {
        let both = Accept::ALL;
        assert_eq!(Accept::read(None), both);
        assert_eq!(Accept::read(Some("*/*")), both);
        assert_eq!(Accept::read(Some("application/json, text/event-stream")), both);
        assert_eq!(Accept::read(Some("Text/Event-Stream;charset=utf-8")), Accept { json: false, events: true });
        assert_eq!(Accept::read(Some("application/json;q=0, text/*;q=0.5")), Accept { json: false, events: true });
        assert_eq!(Accept::read(Some("text/html")), Accept { json: false, events: false });
    }

    #[test]
    fn hosts_and_origins_are_exact() {
        let guard = Guard { loopback: true, hosts: vec!["mcp.example.com".into()], origins: vec!["https://app.example.com".into()] };
        for good in
            ["localhost", "LOCALHOST:8808", "127.0.0.1:1", "127.8.9.10", "[::1]:8808", "[::1]", "mcp.example.com", "mcp.example.com:443"]
        {
            assert!(guard.allows_host(good), "{good}");
        }
        for evil in
            ["localhost.evil.com", "evil.com", "127.0.0.1.evil.com", "mcp.example.com.evil", "localhost:80:80", "[::1]x", "", "127.0.0.1:x"]
        {
            assert!(!guard.allows_host(evil), "{evil}");
        }
        for good in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5", "https://app.example.com", "https://mcp.example.com"] {
            assert!(guard.allows_origin(good), "{good}");
        }
        for evil in [
            "null",
            "http://evil.com",
            "https://app.example.com.evil",
            "https://app.example.com:444",
            "file://localhost",
            "http://localhost@evil.com",
        ] {
            assert!(!guard.allows_origin(evil), "{evil}");
        }
        let public = Guard { loopback: false, ..guard };
        assert!(!public.allows_host("localhost") && !public.allows_origin("http://localhost"));
    }

    #[test]
    fn mirrors_round_trip_and_follow_the_vectors() {
        for (plain, coded) in [
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ] {
            assert_eq!(encode_mirror(plain), coded);
            assert_eq!(decode_mirror(coded).unwrap(), plain);
        }
        assert_eq!(decode_mirror("  us-west1\t").unwrap(), "us-west1");
        assert_eq!(decode_mirror("=?BASE64?SGk=?=").unwrap(), "=?BASE64?SGk=?=");
        assert_eq!(decode_mirror("=?base64?SGk?="), None);
        assert_eq!(decode_mirror("=?base64?SG!=?="), None);
    }

    #[test]
    fn schemas_yield_their_mirrors_or_a_reason() {
        let schema = json!({"properties": {"region": {"type": "string", "x-mcp-header": "Region"},
            "a": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}}}});
        let params = mirrored_params(&schema).unwrap();
        let by = |h: &str| params.iter().find(|p| p.header == h).unwrap();
        assert_eq!(by("n").path, ["a", "n"]);
        let args = r#"{"region":"eu","a":{"n":42}}"#;
        assert!(check_param(by("region"), Some("eu"), args).is_ok());
        assert!(check_param(by("region"), Some("EU"), args).is_err());
        assert!(check_param(by("region"), None, args).is_err());
        assert!(check_param(by("region"), None, r#"{"region":null}"#).is_ok());
        assert!(check_param(by("region"), Some("x"), "{}").is_err());
        assert!(check_param(by("n"), Some("42.0"), args).is_ok());
        assert!(check_param(by("n"), Some("41"), args).is_err());
        for bad in [
            json!({"properties": {"a": {"type": "string", "x-mcp-header": ""}}}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "a b"}}}),
            json!({"properties": {"a": {"type": "object", "x-mcp-header": "a"}}}),
            json!({"properties": {"a": {"type": "number", "x-mcp-header": "a"}}}),
            json!({"x-mcp-header": "a", "properties": {}}),
            json!({"properties": {"a": {"type": "array", "items": {"type": "string", "x-mcp-header": "a"}}}}),
            json!({"anyOf": [{"properties": {"a": {"type": "string", "x-mcp-header": "a"}}}]}),
            json!({"$defs": {"a": {"type": "string", "x-mcp-header": "a"}}, "properties": {"a": {"$ref": "#/$defs/a"}}}),
            json!({"if": {"properties": {"a": {"type": "string", "x-mcp-header": "a"}}}}),
            json!({"properties": {"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}}),
        ] {
            assert!(mirrored_params(&bad).is_err(), "{bad}");
        }
        // A property or an example may be called like that, and is no annotation.
        let named = json!({"properties": {"x-mcp-header": {"type": "string"}, "default": {"type": "string", "x-mcp-header": "D"}},
            "examples": [{"x-mcp-header": 1}]});
        assert_eq!(mirrored_params(&named).unwrap().len(), 1);
    }
}
