//! What a case expects of a message: JSON with `…` for "and more" and `$x` for "the same again".
//!
//! Odd: numbers are compared as they are written, because a gateway must not turn `1.0` into `1`;
//! and a text in backquotes is compared byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What `$x` stands for, once it was seen.
pub(crate) type Bound = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq)]
enum Json {
    /// A number, `true`, `false` or `null`, as written.
    Word(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
    /// `…`
    More,
    /// `$x`
    Same(String),
}

/// Whether `actual` is what `expected` says; binds the placeholders it meets. The error says where.
pub(crate) fn matches(expected: &str, actual: &str, bound: &mut Bound) -> Result<(), String> {
    if let Some(exact) = expected.strip_prefix('`') {
        return bytes(exact.strip_suffix('`').ok_or("a backquote is missing")?, actual, bound);
    }
    let mut expected = parse(expected)?;
    let actual = parse(actual)?;
    // What every message has need not be written in every line.
    if let (Json::Object(wanted), Json::Object(_)) = (&mut expected, &actual)
        && !wanted.iter().any(|(k, _)| k == "jsonrpc")
    {
        wanted.push(("jsonrpc".into(), Json::Text("2.0".into())));
    }
    compare(&expected, &actual, bound, "")
}

/// `text` with every placeholder that is bound replaced; `$x!` is `$x` with one letter changed.
pub(crate) fn substitute(text: &str, bound: &Bound) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let name: String = rest[at + 1..].chars().take_while(char::is_ascii_alphanumeric).collect();
        rest = &rest[at + 1 + name.len()..];
        let value = bound.get(&name).ok_or(format!("${name} was not seen yet"))?;
        match rest.strip_prefix('!') {
            Some(behind) => {
                let (head, tail) = value.split_at(value.len() / 2);
                let other = if tail.starts_with('A') { 'B' } else { 'A' };
                write!(out, "{head}{other}{}", &tail[1..]).unwrap();
                rest = behind;
            }
            None => out.push_str(value),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// `actual` as a case would write it: what is bound becomes its placeholder again.
pub(crate) fn generalise(actual: &str, bound: &Bound) -> String {
    let mut text = actual.to_owned();
    for (name, value) in bound.iter().filter(|(_, v)| v.len() > 5) {
        text = text.replace(value, &format!("${name}"));
    }
    text.replace("{\"jsonrpc\":\"2.0\",", "{").replace(",\"jsonrpc\":\"2.0\"", "")
}

fn bytes(expected: &str, actual: &str, bound: &mut Bound) -> Result<(), String> {
    let (mut expected, mut actual) = (expected, actual);
    let wrong = |at: &str| Err(format!("differs from here on: {at}"));
    while let Some(at) = expected.find('$') {
        let (literal, rest) = (&expected[..at], &expected[at + 1..]);
        let Some(behind) = actual.strip_prefix(literal) else { return wrong(actual) };
        let name: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
        expected = &rest[name.len()..];
        let end = behind.find([',', '}', ']']).unwrap_or(behind.len());
        bind(&name, &behind[..end], bound)?;
        actual = &behind[end..];
    }
    if expected == actual { Ok(()) } else { wrong(actual) }
}

fn bind(name: &str, value: &str, bound: &mut Bound) -> Result<(), String> {
    // A number that is new to the case is new: no two calls of a pipe have one id.
    let number = |text: &str| text.len() > 5 && text.bytes().all(|b| b.is_ascii_digit());
    if number(value)
        && let Some((other, _)) = bound.iter().find(|(other, v)| *other != name && *v == value)
    {
        return Err(format!("${name} is ${other} again"));
    }
    let before = bound.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    if before == value { Ok(()) } else { Err(format!("${name} was {before} and is {value}")) }
}

fn compare(expected: &Json, actual: &Json, bound: &mut Bound, path: &str) -> Result<(), String> {
    match (expected, actual) {
        (Json::More, _) => Ok(()),
        (Json::Same(name), _) => bind(name, &actual.to_string(), bound),
        (Json::Object(wanted), Json::Object(there)) => {
            let more = wanted.iter().any(|(key, _)| key == "…");
            for (key, value) in wanted.iter().filter(|(key, _)| key != "…") {
                let found = there.iter().find(|(k, _)| k == key).ok_or(format!("{path}.{key} is missing"))?;
                compare(value, &found.1, bound, &format!("{path}.{key}"))?;
            }
            match there.iter().find(|(key, _)| !wanted.iter().any(|(k, _)| k == key)) {
                Some((key, _)) if !more => Err(format!("{path}.{key} is too much")),
                _ => Ok(()),
            }
        }
        (Json::List(wanted), Json::List(there)) => {
            let more = wanted.last() == Some(&Json::More);
            let fixed = wanted.len() - usize::from(more);
            if there.len() < fixed || (there.len() > fixed && !more) {
                return Err(format!("{path} has {} elements", there.len()));
            }
            wanted.iter().take(fixed).zip(there).enumerate().try_for_each(|(i, (w, t))| compare(w, t, bound, &format!("{path}[{i}]")))
        }
        (wanted, there) if wanted == there => Ok(()),
        (_, there) => Err(format!("{path} is {there}")),
    }
}

fn parse(text: &str) -> Result<Json, String> {
    let mut rest = text.trim();
    let value = value(&mut rest)?;
    if rest.trim().is_empty() { Ok(value) } else { Err(format!("more behind the end: {rest}")) }
}

fn value(rest: &mut &str) -> Result<Json, String> {
    *rest = rest.trim_start();
    let first = rest.chars().next().ok_or("the text ends too soon")?;
    match first {
        '{' => {
            let mut members = Vec::new();
            *rest = rest[1..].trim_start();
            while !take(rest, '}') {
                if let Some(behind) = rest.strip_prefix('…') {
                    *rest = behind;
                    members.push(("…".to_owned(), Json::More));
                } else {
                    let key = string(rest)?;
                    *rest = rest.trim_start().strip_prefix(':').ok_or(format!("no colon behind {key}"))?;
                    members.push((key, value(rest)?));
                }
                let _ = take(rest, ',');
            }
            Ok(Json::Object(members))
        }
        '[' => {
            let mut items = Vec::new();
            *rest = rest[1..].trim_start();
            while !take(rest, ']') {
                items.push(value(rest)?);
                let _ = take(rest, ',');
            }
            Ok(Json::List(items))
        }
        '"' => Ok(Json::Text(string(rest)?)),
        '…' => {
            *rest = &rest['…'.len_utf8()..];
            Ok(Json::More)
        }
        _ => {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "$+-.".contains(c))).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            *rest = behind;
            match word.strip_prefix('$') {
                Some(name) => Ok(Json::Same(name.to_owned())),
                None if word.is_empty() => Err(format!("no JSON: {behind}")),
                None => Ok(Json::Word(word.to_owned())),
            }
        }
    }
}

fn take(rest: &mut &str, what: char) -> bool {
    *rest = rest.trim_start();
    let Some(behind) = rest.strip_prefix(what) else { return false };
    *rest = behind;
    true
}

fn string(rest: &mut &str) -> Result<String, String> {
    let bytes = rest.as_bytes();
    if bytes.first() != Some(&b'"') {
        return Err(format!("no string: {rest}"));
    }
    let mut at = 1;
    while bytes.get(at).is_some_and(|b| *b != b'"') {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    let raw = rest.get(..=at).ok_or("a string does not end")?;
    *rest = &rest[at + 1..];
    serde_json::from_str(raw).map_err(|e| format!("{raw}: {e}"))
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Json::Word(word) => f.write_str(word),
            Json::Text(text) => write!(f, "{}", serde_json::Value::from(text.as_str())),
            Json::More => f.write_char('…'),
            Json::Same(name) => write!(f, "${name}"),
            Json::List(items) => {
                f.write_char('[')?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
                }
                f.write_char(']')
            }
            Json::Object(members) => {
                f.write_char('{')?;
                for (i, (key, value)) in members.iter().enumerate() {
                    write!(f, "{}{}:{value}", if i > 0 { "," } else { "" }, serde_json::Value::from(key.as_str()))?;
                }
                f.write_char('}')
            }
        }
    }
}
