//! Three notations, one tree: TOML, JSON as editors write it (with comments and trailing commas),
//! and YAML. Everything in the tree knows where it was written.
//!
//! Which notation a text is in is seen from the text: a file may be called anything, and standard
//! input has no name.

use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged as _;
use saphyr_parser::{Event, Parser, ScalarStyle};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::fault::{Fault, Span};

/// Something that was written, and where.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Span,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    /// A date, in TOML.
    Date,
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key and what it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Span,
    pub(crate) node: Node,
}

impl Node {
    /// What it is, for whoever expected something else.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Date => "a date",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// Its entries, if it is a table.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// What stands under a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The text of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    Toml,
    Json,
    Yaml,
}

impl Notation {
    /// JSON begins with a brace, YAML with a key and a colon, and neither is TOML.
    pub(crate) fn of(text: &str) -> Notation {
        for line in text.trim_start_matches('\u{feff}').lines().map(str::trim) {
            // A comment of JSON is nothing that TOML or YAML can begin with.
            if line.starts_with('{') || line.starts_with("//") || line.starts_with("/*") {
                return Notation::Json;
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = line.trim_start_matches(['"', '\'']);
            let behind = key.trim_start_matches(|c: char| c.is_alphanumeric() || "._-".contains(c)).trim_start_matches(['"', '\'']);
            let colon = behind.trim_start().strip_prefix(':').is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
            return if line == "---" || colon { Notation::Yaml } else { Notation::Toml };
        }
        Notation::Toml
    }
}

/// Reads a text. What can be understood of a faulty one is not worth more than its faults.
pub(crate) fn read(text: &str) -> (Notation, Result<Node, Vec<Fault>>) {
    let notation = Notation::of(text);
    let read = match notation {
        Notation::Toml => of_toml(text),
        Notation::Json => of_json(text).map_err(|fault| vec![fault]),
        Notation::Yaml => of_yaml(text).map_err(|fault| vec![fault]),
    };
    (notation, read)
}

// --- TOML -----------------------------------------------------------------------------------------

fn of_toml(text: &str) -> Result<Node, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(Node { at: table.span(), value: of_toml_table(table.get_ref()) });
    }
    Err(errors.iter().map(|e| Fault { at: e.span(), said: e.message().trim_end().replace('\n', ", ") }).collect())
}

fn of_toml_table(table: &DeTable<'_>) -> Value {
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| Entry {
        key: AsRef::<str>::as_ref(key.get_ref()).to_owned(),
        key_at: key.span(),
        node: of_toml_value(value),
    };
    let mut entries: Vec<Entry> = table.iter().map(entry).collect();
    entries.sort_by_key(|entry| entry.key_at.start); // `toml` sorts by name
    Value::Table(entries)
}

fn of_toml_value(value: &Spanned<DeValue<'_>>) -> Node {
    let read = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => Value::Number(number.to_string()),
        DeValue::Float(number) => Value::Number(number.to_string()),
        DeValue::Boolean(yes) => Value::Bool(*yes),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(all) => Value::List(all.iter().map(of_toml_value).collect()),
        DeValue::Table(table) => of_toml_table(table),
    };
    Node { at: value.span(), value: read }
}

// --- JSON -----------------------------------------------------------------------------------------

fn of_json(text: &str) -> Result<Node, Fault> {
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let plain = text.trim_start_matches('\u{feff}');
    let shift = text.len() - plain.len();
    let read = jsonc_parser::parse_to_ast(plain, &Default::default(), &options).map_err(|e| {
        let at = e.range();
        Fault::at(&(at.start + shift..at.end + shift), lower(&e.kind().to_string()))
    })?;
    let Some(value) = read.value else { return Err(Fault { at: None, said: "there is nothing in it".into() }) };
    of_json_value(&value, shift)
}

fn of_json_value(value: &ast::Value<'_>, shift: usize) -> Result<Node, Fault> {
    let span = |at: jsonc_parser::common::Range| at.start + shift..at.end + shift;
    let read = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(yes) => Value::Bool(yes.value),
        ast::Value::NumberLit(number) => Value::Number(number.value.to_owned()),
        ast::Value::StringLit(text) => Value::Text(text.value.to_string()),
        ast::Value::Array(all) => Value::List(all.elements.iter().map(|e| of_json_value(e, shift)).collect::<Result<_, _>>()?),
        ast::Value::Object(object) => {
            let mut entries: Vec<Entry> = Vec::new();
            for property in &object.properties {
                let (key, key_at) = (property.name.as_str().to_owned(), span(property.name.range()));
                if entries.iter().any(|entry| entry.key == key) {
                    return Err(Fault::at(&key_at, format!("the key `{key}` is written twice")));
                }
                entries.push(Entry { key, key_at, node: of_json_value(&property.value, shift)? });
            }
            Value::Table(entries)
        }
    };
    Ok(Node { at: span(value.range()), value: read })
}

/// Other people's messages, in our voice.
fn lower(said: &str) -> String {
    let mut chars = said.trim_end_matches('.').chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

// --- YAML -----------------------------------------------------------------------------------------

/// A list or a table that is being read.
struct Open {
    from: usize,
    node: Value,
    key: Option<(String, Span)>,
}

/// The deepest that anybody's configuration nests, with much to spare.
const DEEP: usize = 64;

fn of_yaml(text: &str) -> Result<Node, Fault> {
    // Places are counted in characters there.
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let place = |index: usize| bytes.get(index).copied().unwrap_or(text.len());
    let span = |at: saphyr_parser::Span| -> Range<usize> { place(at.start.index())..place(at.end.index()) };
    let mut open: Vec<Open> = Vec::new();
    let mut whole = None;
    for event in Parser::new_from_str(text) {
        let (event, at) = event.map_err(|e| {
            let at = place(e.marker().index());
            Fault::at(&(at..at), lower(e.info()))
        })?;
        let at = span(at);
        let done = match event {
            Event::Scalar(text, style, ..) => Node { value: scalar(&text, style), at },
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() == DEEP {
                    return Err(Fault::at(&at, format!("this is nested more than {DEEP} deep")));
                }
                let list = matches!(event, Event::SequenceStart(..));
                let node = if list { Value::List(Vec::new()) } else { Value::Table(Vec::new()) };
                open.push(Open { from: at.start, node, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open { from, node, .. }) => Node { at: from..at.end, value: node },
                None => continue,
            },
            // A few lines of aliases can stand for gigabytes.
            Event::Alias(_) => return Err(Fault::at(&at, "aliases (`*name`) are not read; write it out")),
            Event::DocumentStart(_) if whole.is_some() => return Err(Fault::at(&at, "a second document; one is read")),
            _ => continue,
        };
        let Some(Open { node, key, .. }) = open.last_mut() else {
            whole = Some(done);
            continue;
        };
        match node {
            Value::List(all) => all.push(done),
            Value::Table(entries) => match (key.take(), &done.value) {
                (Some((key, key_at)), _) => entries.push(Entry { key, key_at, node: done }),
                (None, Value::Text(name) | Value::Number(name)) => {
                    if entries.iter().any(|entry| entry.key == *name) {
                        return Err(Fault::at(&done.at, format!("the key `{name}` is written twice")));
                    }
                    *key = Some((name.clone(), done.at));
                }
                (None, Value::Bool(yes)) => *key = Some((yes.to_string(), done.at)),
                (None, _) => return Err(Fault::at(&done.at, format!("{} cannot be a key", done.kind()))),
            },
            _ => {}
        }
    }
    whole.ok_or_else(|| Fault { at: None, said: "there is nothing in it".into() })
}

/// What a scalar means in the core schema of YAML 1.2.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    let number = || text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) && text.parse::<f64>().is_ok();
    match text {
        _ if style != ScalarStyle::Plain => Value::Text(text.into()),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ if number() => Value::Number(text.into()),
        _ => Value::Text(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree in a few characters.
    fn plain(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".into(),
            Value::Bool(yes) => yes.to_string(),
            Value::Number(text) => text.clone(),
            Value::Date => "date".into(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(all) => format!("[{}]", all.iter().map(plain).collect::<Vec<_>>().join(",")),
            Value::Table(all) => {
                format!("{{{}}}", all.iter().map(|e| format!("{}:{}", e.key, plain(&e.node))).collect::<Vec<_>>().join(","))
            }
        }
    }

    #[test]
    fn three_notations_are_one_tree() {
        let wanted = r#"{b:{x:"1",y:[1,true]},a:"ä"}"#;
        for text in [
            "# a comment\na = \"ä\"\n[b]\nx = \"1\"\ny = [1, true]\n",
            "\u{feff}// a comment\n{\"b\": {\"x\": \"1\", \"y\": [1, true,],}, /* too */ \"a\": \"ä\"}",
            "# a comment\nb:\n  x: '1'\n  y:\n    - 1\n    - true\na: ä\n",
            "---\nb: {x: \"1\", y: [1, true]}\na: ä",
        ] {
            let read = read(text).1.unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
            let mut sorted = read.clone();
            if let Value::Table(all) = &mut sorted.value {
                all.sort_by(|a, b| b.key.cmp(&a.key));
            }
            assert_eq!(plain(&sorted), wanted, "{text}");
            let list = read.get("b").and_then(|b| b.get("y")).unwrap();
            let Value::List(all) = &list.value else { panic!("a list") };
            assert_eq!(&text[all[1].at.clone()], "true", "{text}");
            assert_eq!(text[read.get("a").unwrap().at.clone()].trim_matches('"'), "ä", "{text}");
        }
    }

    #[test]
    fn the_notation_is_seen_from_the_text() {
        for (text, notation) in [
            ("", Notation::Toml),
            ("listen = \"a: b\"", Notation::Toml),
            ("[servers.a]", Notation::Toml),
            ("\"a.b\" = 1", Notation::Toml),
            ("  {}", Notation::Json),
            ("/* hm */ {}", Notation::Json),
            ("mcpServers:", Notation::Yaml),
            ("# hm\n\"a\": 1", Notation::Yaml),
            ("---\na: 1", Notation::Yaml),
        ] {
            assert_eq!(Notation::of(text), notation, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (text, at, part) in [
            ("a = 1\na = 2", 6, "duplicate key"),
            ("{\"a\": 1, \"a\": 2}", 9, "written twice"),
            ("{\"a\": }", 6, ""),
            ("a: 1\na: 2", 5, "written twice"),
            ("a: &x 1\nb: *x", 11, "aliases"),
            ("a: [1", 5, ""),
        ] {
            let faults = read(text).1.unwrap_err();
            let (found, said) = (faults[0].at.clone().unwrap(), &faults[0].said);
            assert!(found.start == at && said.contains(part), "{text}: {found:?} {said}");
        }
        let deep = format!("a: {}", "[".repeat(100_000));
        assert!(read(&deep).1.is_err() && read(&"{\"a\":".repeat(100_000)).1.is_err());
    }

    #[test]
    fn several_faults_of_a_toml_file_are_told_together() {
        assert_eq!(read("a = \nb = 1\nc 2\n").1.unwrap_err().len(), 2);
    }
}
