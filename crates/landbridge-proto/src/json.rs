//! Reading JSON without taking it apart.
//!
//! A gateway needs a handful of fields of a message and must not touch the rest: arguments and
//! results stay the bytes they were. So an object is read in one pass into the *places* (`Span`)
//! of the fields asked for, and a message is changed by splicing those places. Everything the
//! pass walks over is validated; duplicate keys are refused, because two readers of one message
//! must never see two different things (one would check what the other does not run).
//!
//! What has been validated is not validated again: an object within it is walked over by its brackets and
//! quotes alone.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A place in a message: byte offsets into the text it was read from.
///
/// Offsets are 32 bits wide, which every configured message limit stays far below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part` lies within `whole`; `part` must be borrowed from `whole`.
    pub(crate) fn of(part: &str, whole: &str) -> Span {
        let start = part.as_ptr() as usize - whole.as_ptr() as usize;
        Span { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The span as a range, for slicing the text it was read from.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The bytes at this place.
    pub fn of_bytes(self, text: &[u8]) -> &[u8] {
        text.get(self.range()).unwrap_or_default()
    }

    /// The same place, seen from a text in which this one's text begins at `outer`.
    pub fn within(self, outer: Span) -> Span {
        Span { start: self.start + outer.start, end: self.end + outer.start }
    }

    /// All of `text`.
    pub fn whole(text: &[u8]) -> Span {
        Span { start: 0, end: text.len() as u32 }
    }

    /// An empty place just inside the object that begins `text`, behind its brace.
    pub fn inside(text: &[u8]) -> Span {
        let at = memchr::memchr(b'{', text).map_or(0, |i| i as u32 + 1);
        Span { start: at, end: at }
    }

    /// Where the place begins, for putting edits in order.
    pub fn start(self) -> u32 {
        self.start
    }
}

/// Why a text could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// No JSON, or bytes behind its end.
    Syntax(String),
    /// JSON, but no object where one is needed.
    NotAnObject,
    /// One key twice in one object.
    Duplicate(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Syntax(why) => write!(f, "not valid JSON: {why}"),
            Unreadable::NotAnObject => f.write_str("a JSON object is needed here"),
            Unreadable::Duplicate(key) => write!(f, "the key `{key}` appears twice in one object"),
        }
    }
}

/// Finds the fields named `keys` in the object `text`, in one pass.
///
/// `found` is filled as the pass goes, so that after an error it still holds what was read
/// before it: a refusal can then carry the id of the request it refuses.
pub fn fields<const N: usize>(text: &str, keys: &[&str; N], found: &mut [Option<Span>; N]) -> Result<(), Unreadable> {
    walk(text, |key, value| {
        let Some(i) = keys.iter().position(|k| *k == key) else { return };
        found[i].get_or_insert(Span::of(value, text));
    })
}

/// The same for an object that lies in a text which has been walked over: that it is JSON is known.
pub(crate) fn fields_within<const N: usize>(text: &[u8], keys: &[&str; N], found: &mut [Option<Span>; N]) -> Result<(), Unreadable> {
    walk_within(text, |key, value| {
        let Some(i) = keys.iter().position(|k| k.as_bytes() == key) else { return };
        found[i].get_or_insert(value);
    })
}

/// Every member of such an object, as decoded key and place of the value, in order.
pub(crate) fn members_within(text: &[u8]) -> Result<Vec<(String, Span)>, Unreadable> {
    let mut all = Vec::new();
    walk_within(text, |key, value| all.push((String::from_utf8_lossy(key).into_owned(), value)))?;
    Ok(all)
}

fn walk_within(text: &[u8], mut each: impl FnMut(&[u8], Span)) -> Result<(), Unreadable> {
    let mut seen = Seen::default();
    let mut rest = Rest { text, at: 0 };
    if rest.next() != Some(b'{') {
        return Err(Unreadable::NotAnObject);
    }
    rest.at += 1;
    while rest.next() == Some(b'"') {
        let (raw, value) = rest.member();
        let raw = raw.of_bytes(text);
        let key = match raw {
            [b'"', key @ .., b'"'] if memchr::memchr(b'\\', key).is_none() => Cow::Borrowed(key),
            // Half a surrogate pair was walked over unseen.
            _ => match string(raw) {
                Some(key) => Cow::Owned(key.into_owned().into_bytes()),
                None => return Err(Unreadable::Syntax(format!("the key {} is no text", String::from_utf8_lossy(raw)))),
            },
        };
        each(&key, value);
        if let Some(twice) = seen.insert(key) {
            return Err(Unreadable::Duplicate(String::from_utf8_lossy(&twice).into_owned()));
        }
        if rest.next() == Some(b',') {
            rest.at += 1;
        }
    }
    Ok(())
}

/// What is left of a JSON text. Whatever else it should be given, it comes to the end and not beyond.
struct Rest<'t> {
    text: &'t [u8],
    at: usize,
}

/// Behind so many bytes it pays to look for the next of those that matter, instead of at each one.
const NEAR: usize = 48;
/// The same within a string, where fewer matter.
const NEAR_IN_STRING: usize = 8;

impl Rest<'_> {
    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// A key, with its quotes, and its value.
    fn member(&mut self) -> (Span, Span) {
        let key = self.value();
        if self.next() == Some(b':') {
            self.at += 1;
        }
        self.next();
        (key, self.value())
    }

    /// The value that begins here.
    fn value(&mut self) -> Span {
        let (from, bytes) = (self.at, self.text);
        self.at = match bytes.get(from) {
            Some(b'"') => behind_string(bytes, from),
            // What is in between is balanced by itself.
            Some(b'{') => behind_brackets(bytes, from, b'{', b'}'),
            Some(b'[') => behind_brackets(bytes, from, b'[', b']'),
            _ => {
                let mut at = from;
                while !matches!(bytes.get(at), None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')) {
                    at += 1;
                }
                at
            }
        };
        Span { start: from as u32, end: self.at as u32 }
    }
}

/// Where the string ends that begins at `from`.
fn behind_string(bytes: &[u8], from: usize) -> usize {
    let (mut at, mut near) = (from + 1, from + NEAR_IN_STRING);
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) if at < near => at += 1,
            Some(_) => {
                at += memchr::memchr2(b'"', b'\\', &bytes[at..]).unwrap_or(bytes.len() - at);
                near = at + NEAR_IN_STRING;
            }
        }
    }
}

/// Where the object or array ends that begins at `from`.
fn behind_brackets(bytes: &[u8], from: usize, open: u8, close: u8) -> usize {
    let (mut at, mut depth, mut near) = (from, 0_usize, from + NEAR);
    loop {
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => at = behind_string(bytes, at),
            Some(&byte) if byte == close => {
                at += 1;
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            Some(&byte) if byte == open => {
                at += 1;
                depth += 1;
            }
            Some(_) if at < near => at += 1,
            Some(_) => {
                at += memchr::memchr3(b'"', open, close, &bytes[at..]).unwrap_or(bytes.len() - at);
                near = at + NEAR;
            }
        }
    }
}

/// The raw value of one field of `object`, if it is an object that has it.
pub fn field<'t>(object: &'t [u8], key: &str) -> Option<&'t [u8]> {
    let mut found = [None];
    fields(std::str::from_utf8(object).ok()?, &[key], &mut found).ok()?;
    found[0].map(|at| at.of_bytes(object))
}

/// Every member of the object `text`, as decoded key and raw value, in order.
pub fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &str)>, Unreadable> {
    let mut all = Vec::new();
    walk(text, |key, value| all.push((Cow::Owned(key.to_owned()), value)))?;
    Ok(all)
}

/// Every element of the array `text`, raw, at most `limit` of them (`None` beyond that).
pub fn elements(text: &str, limit: usize) -> Result<Option<Vec<&str>>, Unreadable> {
    let all: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| Unreadable::Syntax(e.to_string()))?;
    Ok((all.len() <= limit).then(|| all.into_iter().map(RawValue::get).collect()))
}

/// The string that `raw` (with its quotes) stands for; `None` if it is no string.
pub fn string(raw: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(raw).ok()?;
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(text).ok().map(Cow::Owned)
}

/// `text` as a JSON string, quotes included.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A copy of `text` in which each place is replaced; `edits` are in ascending order and disjoint.
///
/// Raw line ends become spaces: JSON strings cannot contain them, so outside of strings they are
/// mere layout, and on a pipe or a `data:` line they would end the message.
pub fn splice(text: &[u8], edits: &[(Span, &[u8])]) -> Vec<u8> {
    let grown: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = Vec::with_capacity(text.len() + grown + 1);
    let mut at = 0;
    for (span, new) in edits {
        let range = span.range();
        out.extend_from_slice(text.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(new);
        at = range.end;
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
    one_line(&mut out);
    out
}

/// Turns raw line ends of a validated JSON text into spaces.
pub fn one_line(text: &mut [u8]) {
    let mut at = 0;
    while let Some(i) = memchr::memchr2(b'\n', b'\r', &text[at..]) {
        text[at + i] = b' ';
        at += i + 1;
    }
}

/// A validated JSON text as a line of its own, end included.
pub fn line(text: &[u8]) -> bytes::Bytes {
    let mut line = Vec::with_capacity(text.len() + 1);
    line.extend_from_slice(text);
    one_line(&mut line);
    line.push(b'\n');
    line.into()
}

/// A validated JSON text on one line; a copy only where it was not.
pub fn on_one_line(text: &bytes::Bytes) -> bytes::Bytes {
    if memchr::memchr2(b'\r', b'\n', text).is_none() { text.clone() } else { splice(text, &[]).into() }
}

fn walk<'t>(text: &'t str, each: impl FnMut(&str, &'t str)) -> Result<(), Unreadable> {
    let mut duplicate = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Walk { each, duplicate: &mut duplicate }.deserialize(&mut reader).and_then(|()| reader.end());
    match (read, duplicate) {
        (Ok(()), _) => Ok(()),
        (_, Some(key)) => Err(Unreadable::Duplicate(key)),
        (Err(e), _) if e.is_data() => Err(Unreadable::NotAnObject),
        (Err(e), _) => Err(Unreadable::Syntax(e.to_string())),
    }
}

struct Walk<'d, F> {
    each: F,
    duplicate: &'d mut Option<String>,
}

impl<'de, F: FnMut(&str, &'de str)> DeserializeSeed<'de> for Walk<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de, F: FnMut(&str, &'de str)> Visitor<'de> for Walk<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Seen::default();
        while let Some(Key(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            (self.each)(&key, value.get());
            let key = match key {
                Cow::Borrowed(key) => Cow::Borrowed(key.as_bytes()),
                Cow::Owned(key) => Cow::Owned(key.into_bytes()),
            };
            if let Some(twice) = seen.insert(key) {
                *self.duplicate = Some(String::from_utf8_lossy(&twice).into_owned());
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(())
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct AsKey;
        impl<'de> Visitor<'de> for AsKey {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        d.deserialize_str(AsKey)
    }
}

/// The keys of one object so far. Objects on this path have a handful of keys, which are compared one by one; those
/// of others, and those with escapes, are in a set.
#[derive(Default)]
struct Seen<'a> {
    few: [&'a [u8]; 16],
    n_few: usize,
    others: Option<HashSet<Cow<'a, [u8]>>>,
}

impl<'a> Seen<'a> {
    /// Takes the key in, or gives it back if it was there already.
    fn insert(&mut self, key: Cow<'a, [u8]>) -> Option<Cow<'a, [u8]>> {
        if self.few[..self.n_few].contains(&&*key) || self.others.as_ref().is_some_and(|others| others.contains(&key)) {
            return Some(key);
        }
        match (key, self.few.get_mut(self.n_few)) {
            (Cow::Borrowed(key), Some(place)) => {
                *place = key;
                self.n_few += 1;
            }
            (key, _) => {
                self.others.get_or_insert_default().insert(key);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<const N: usize>(text: &str, keys: &[&str; N]) -> Result<[Option<String>; N], Unreadable> {
        let mut found = [None; N];
        fields(text, keys, &mut found)?;
        Ok(found.map(|s| s.map(|s| String::from_utf8(s.of_bytes(text.as_bytes()).to_vec()).unwrap())))
    }

    #[test]
    fn finds_fields_and_leaves_their_bytes_alone() {
        let text = r#" {"a" : 1.0, "b":[ 1 ,2], "c\u0064":{"x":12345678901234567890123} } "#;
        let [a, b, cd, none] = find(text, &["a", "b", "cd", "e"]).unwrap();
        assert_eq!(a.as_deref(), Some("1.0"));
        assert_eq!(b.as_deref(), Some("[ 1 ,2]"));
        assert_eq!(cd.as_deref(), Some(r#"{"x":12345678901234567890123}"#));
        assert_eq!(none, None);
    }

    #[test]
    fn refuses_duplicates_in_any_spelling_and_trailing_bytes() {
        assert_eq!(find(r#"{"a":1,"\u0061":2}"#, &["a"]), Err(Unreadable::Duplicate("a".into())));
        assert_eq!(find(r#"{"x":1,"x":2}"#, &["a"]), Err(Unreadable::Duplicate("x".into())));
        assert!(matches!(find(r#"{"a":1} 2"#, &["a"]), Err(Unreadable::Syntax(_))));
        assert_eq!(find("[1]", &["a"]), Err(Unreadable::NotAnObject));
        assert!(matches!(find(r#"{"a":1"#, &["a"]), Err(Unreadable::Syntax(_))));
        let many: String = (0..100).map(|i| format!("\"k{i}\":0,")).collect();
        assert_eq!(find(&format!("{{{many}\"k7\":1}}"), &["a"]), Err(Unreadable::Duplicate("k7".into())));
    }

    #[test]
    fn keeps_what_was_read_before_a_fault() {
        let mut found = [None];
        let text = r#"{"id":7,"a":1,"a":2}"#;
        assert!(fields(text, &["id"], &mut found).is_err());
        assert_eq!(found[0].unwrap().of_bytes(text.as_bytes()), b"7");
    }

    #[test]
    fn splices_and_keeps_one_line() {
        let text = b"{\"id\":1,\n\"x\":2\r}";
        let mut found = [None];
        fields(std::str::from_utf8(text).unwrap(), &["id"], &mut found).unwrap();
        assert_eq!(splice(text, &[(found[0].unwrap(), b"\"new\"")]), b"{\"id\":\"new\", \"x\":2 }");
    }

    proptest::proptest! {
        /// Two readers of one message never see two different things.
        #[test]
        fn what_is_read_again_is_as_it_was(picks in proptest::collection::vec(("[ab]{1,2}|[a-z]{3}", 0..12_usize, 0..4_usize), 0..30)) {
            const VALUES: [&str; 12] = [
                "1e400", "-0.0", "null", "true", "[]", "{}", r#""""#, r#""}\"]{""#, r#""\u0061é\\""#, r#"[ 1 ,["]"]]"#,
                r#"{"a":{"}":"{"} , "a":1}"#, r#"[{"x":[]},"\\\"]"]"#,
            ];
            let member = |(key, value, style): &(String, usize, usize)| {
                let escaped = || format!("\"\\u{:04x}{}\"", key.as_bytes()[0], &key[1..]);
                let key = if style % 2 == 0 { quote(key) } else { escaped() };
                let space = if *style > 1 { " \n\t" } else { "" };
                format!("{space}{key}{space}:{space}{}{space}", VALUES[*value])
            };
            let text = format!("{{{}}}", picks.iter().map(member).collect::<Vec<_>>().join(","));
            let first = members(&text).map(|all| all.into_iter().map(|(key, value)| (key.into_owned(), Span::of(value, &text))).collect());
            proptest::prop_assert_eq!(first, members_within(text.as_bytes()), "{}", text);
        }
    }

    #[test]
    fn a_deep_document_is_no_stack_overflow() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(find(&deep, &["a"]).is_ok());
    }
}
