//! From the short words of a case to the bytes that are sent.

/// Leading `[name: value; …]`.
pub(super) fn headers(body: &str) -> (Vec<(String, String)>, &str) {
    let Some((inside, rest)) = body.strip_prefix('[').filter(|b| !b.starts_with('{')).and_then(|b| b.split_once(']')) else {
        return (Vec::new(), body);
    };
    let all = inside.split(';').filter_map(|h| h.split_once(':')).map(|(n, v)| (n.trim().to_lowercase(), v.trim().to_owned()));
    (all.collect(), rest.trim())
}

/// What every message has need not be written; in backquotes nothing is added.
pub(super) fn message(text: &str) -> String {
    if let Some(exact) = text.strip_prefix('`').and_then(|t| t.strip_suffix('`')) {
        return exact.replace("\\n", "\n").replace("\\r", "\r");
    }
    match text.strip_prefix('{') {
        Some(rest) if !text.contains("\"jsonrpc\"") => {
            let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
            format!("{{\"jsonrpc\":\"2.0\"{comma}{rest}")
        }
        _ => text.to_owned(),
    }
}

pub(super) fn long(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, (number, behind))) = rest.split_once('⟨').and_then(|(b, r)| Some((b, r.split_once('⟩')?))) {
        out.push_str(before);
        out.push_str(&"x".repeat(number.parse().unwrap_or(0)));
        rest = behind;
    }
    out + rest
}

/// A message as a stateless client of these capabilities writes it, with what describes it in
/// `_meta`; capabilities that the message has itself count more.
pub(super) fn describe(body: &str, capabilities: &str) -> String {
    if body.contains("io.modelcontextprotocol/protocolVersion") || !body.contains("\"method\"") {
        return body.to_owned();
    }
    let mut keys = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#.to_owned();
    if !body.contains("io.modelcontextprotocol/clientCapabilities") {
        keys += &format!(r#","io.modelcontextprotocol/clientCapabilities":{capabilities}"#);
    }
    let insert = |at: usize, new: String| {
        let comma = if body[at..].trim_start().starts_with('}') { "" } else { "," };
        format!("{}{new}{comma}{}", &body[..at], &body[at..])
    };
    match (body.find("\"_meta\":{"), body.find("\"params\":{")) {
        (Some(at), _) => insert(at + 9, keys),
        (None, Some(at)) => insert(at + 10, format!("\"_meta\":{{{keys}}}")),
        (None, None) => insert(1, format!("\"params\":{{\"_meta\":{{{keys}}}}}")),
    }
}
