//! What somebody asks for, read with care: a model, a client of REST, or a person with curl.

use std::fmt;

use jiff::civil::Date;
use serde_json::{Map, Value};

use super::people::plain_label;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It was asked for wrongly.
    Bad(String),
    /// There is no such thing.
    Missing(String),
    /// It would contradict what is there.
    Conflict(String),
    /// Nobody has configured it.
    Unconfigured(String),
    /// It is our fault. The log knows more.
    Failed,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Bad(told) | Trouble::Missing(told) | Trouble::Conflict(told) | Trouble::Unconfigured(told) => f.write_str(told),
            Trouble::Failed => f.write_str("the contacts cannot be read or written just now; the log of the server says why"),
        }
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Trouble {
        tracing::error!(%error, "the database failed");
        Trouble::Failed
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        tracing::error!(%error, "a file failed");
        Trouble::Failed
    }
}

/// The most characters of a name, an address, a label.
pub(super) const SHORT: usize = 500;
/// The most characters of notes and logs.
pub(super) const LONG: usize = 20_000;
/// The most contacts that one call changes, and the most lines that one call answers.
pub(super) const MANY: usize = 500;

/// The arguments of a call.
#[derive(Debug)]
pub(super) struct Arguments(Map<String, Value>);

impl Arguments {
    /// Those of a call that knows these names and no others. A null is nothing.
    pub(super) fn new(mut all: Map<String, Value>, known: &[&str]) -> Result<Arguments, Trouble> {
        if let (true, Some(id)) = (known.contains(&"contact_id"), all.remove("id")) {
            all.entry("contact_id").or_insert(id);
        }
        all.retain(|_, value| !value.is_null());
        match all.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Trouble::Bad(format!("there is no argument {name:?}; there is {}", known.join(", ")))),
            None => Ok(Arguments(all)),
        }
    }

    /// Whether it is there at all, be it empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text that is not blank, if one is there.
    pub(super) fn text(&self, name: &str, most: usize) -> Result<Option<String>, Trouble> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| Trouble::Bad(format!("`{name}` must be a text")))?;
        if text.chars().count() > most {
            return Err(Trouble::Bad(format!("`{name}` has more than {most} characters")));
        }
        if let Some(bad) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(Trouble::Bad(format!("`{name}` holds the control character {bad:?}")));
        }
        Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned))
    }

    pub(super) fn needed_text(&self, name: &str, most: usize) -> Result<String, Trouble> {
        self.text(name, most)?.ok_or_else(|| Trouble::Bad(format!("`{name}` is missing or blank")))
    }

    /// One of these words.
    pub(super) fn word(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Trouble> {
        let Some(text) = self.text(name, SHORT)? else { return Ok(None) };
        let found = words.iter().copied().find(|word| word.eq_ignore_ascii_case(&text));
        found.map(Some).ok_or_else(|| Trouble::Bad(format!("`{name}` is {text:?}, and can be {}", words.join(", "))))
    }

    /// A label, which has something behind its `@`.
    pub(super) fn label(&self) -> Result<Option<String>, Trouble> {
        let label = self.text("label", SHORT)?;
        match label.as_deref().is_some_and(|label| plain_label(label).is_empty()) {
            true => Err(Trouble::Bad("`label` is empty behind its @".into())),
            false => Ok(label),
        }
    }

    /// A whole number from 1 to `most`, also as text.
    pub(super) fn number(&self, name: &str, most: i64) -> Result<Option<i64>, Trouble> {
        self.between(name, 1, most)
    }

    /// One that may be 0.
    pub(super) fn count(&self, name: &str, most: i64) -> Result<Option<i64>, Trouble> {
        self.between(name, 0, most)
    }

    fn between(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, Trouble> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let number = number(value).filter(|number| (least..=most).contains(number));
        number.map(Some).ok_or_else(|| Trouble::Bad(format!("`{name}` must be a whole number from {least} to {most}")))
    }

    /// How many lines are wanted.
    pub(super) fn limit(&self, usual: usize) -> Result<usize, Trouble> {
        let limit = self.number("limit", MANY as i64)?;
        Ok(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usual))
    }

    /// Whose contact it is about.
    pub(super) fn id(&self, name: &str) -> Result<i64, Trouble> {
        self.number(name, i64::MAX)?.ok_or_else(|| Trouble::Bad(format!("`{name}` is missing")))
    }

    /// Several of them, each once.
    pub(super) fn ids(&self, name: &str) -> Result<Vec<i64>, Trouble> {
        let list = self.0.get(name).and_then(Value::as_array).filter(|list| !list.is_empty() && list.len() <= MANY);
        let list = list.ok_or_else(|| Trouble::Bad(format!("`{name}` must be a list of 1 to {MANY} ids")))?;
        let mut ids = Vec::new();
        for value in list {
            let id = number(value).filter(|id| *id > 0).ok_or_else(|| Trouble::Bad(format!("`{name}` holds {value}, which is no id")))?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// A day, of a date or a time of ISO 8601.
    pub(super) fn day(&self, name: &str) -> Result<Option<Date>, Trouble> {
        let Some(text) = self.text(name, SHORT)? else { return Ok(None) };
        let day = text.get(..10).and_then(|day| day.parse::<Date>().ok());
        let rest = text.get(10..).unwrap_or_default();
        let good = day.filter(|day| (1900..=2200).contains(&day.year()) && (rest.is_empty() || rest.starts_with(['T', ' '])));
        good.map(Some).ok_or_else(|| Trouble::Bad(format!("`{name}` is {text:?}, which is no day; write 2026-01-31")))
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Trouble> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(_) => Err(Trouble::Bad(format!("`{name}` must be true or false"))),
        }
    }

    /// A whole file, of at most so many bytes.
    pub(super) fn file(&self, name: &str, most: usize) -> Result<&str, Trouble> {
        let text = self.0.get(name).and_then(Value::as_str).ok_or_else(|| Trouble::Bad(format!("`{name}` is missing, or no text")))?;
        if text.len() > most { Err(Trouble::Bad(format!("`{name}` has more than {most} bytes"))) } else { Ok(text) }
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn arguments(all: Value) -> Arguments {
        Arguments::new(all.as_object().unwrap().clone(), &["contact_id", "name", "day", "ids", "limit"]).unwrap()
    }

    #[test]
    fn what_is_meant_is_taken_and_what_is_not_is_told() {
        for (value, id) in [(json!(7), Some(7)), (json!("7"), Some(7)), (json!(7.0), Some(7)), (json!(7.5), None), (json!(0), None)] {
            assert_eq!(arguments(json!({"contact_id": value})).id("contact_id").ok(), id, "{value}");
            assert_eq!(arguments(json!({"id": value})).id("contact_id").ok(), id, "{value}");
        }
        let unknown = Arguments::new(json!({"nmae": 1}).as_object().unwrap().clone(), &["name"]).unwrap_err();
        assert_eq!(unknown.to_string(), "there is no argument \"nmae\"; there is name");
        for (day, good) in
            [("2026-02-28", true), ("2026-02-28T10:00:00Z", true), ("2026-02-29", false), ("2026-02-28x", false), ("ü", false)]
        {
            assert_eq!(arguments(json!({"day": day})).day("day").is_ok(), good, "{day}");
        }
        assert_eq!(arguments(json!({"ids": [1, "2", 1]})).ids("ids").unwrap(), [1, 2]);
        assert!(arguments(json!({"ids": []})).ids("ids").is_err());
        assert!(arguments(json!({"name": "a\u{0}b"})).text("name", 9).is_err());
        assert_eq!(arguments(json!({"name": "  "})).text("name", 9).unwrap(), None);
        assert!(arguments(json!({"limit": 501})).limit(20).is_err());
    }
}
