//! What a tool is called with. Names are also understood as JavaScript writes them: `sprint_id`, `sprintId`.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value};

use super::github::{Range, Repo};

/// The arguments of one call.
#[derive(Clone, Copy)]
pub(super) struct Arguments<'a>(pub(super) &'a Map<String, Value>);

impl Arguments<'_> {
    fn find(&self, name: &str) -> Option<&Value> {
        let mut camel = String::new();
        for part in name.split('_') {
            match part.chars().next().filter(|_| !camel.is_empty()) {
                Some(first) => camel.extend([first.to_ascii_uppercase().to_string().as_str(), &part[first.len_utf8()..]]),
                None => camel.push_str(part),
            }
        }
        self.0.get(name).or_else(|| self.0.get(&camel)).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A number, or its digits.
    pub(super) fn maybe_id(&self, name: &str) -> Result<Option<u64>, String> {
        let bad = || format!("{name} must be a number of 1 to 20 digits");
        match self.find(name) {
            None => Ok(None),
            Some(Value::Number(number)) => number.as_u64().map(Some).ok_or_else(bad),
            Some(Value::String(text)) if (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().map(Some).map_err(|_| bad())
            }
            Some(_) => Err(bad()),
        }
    }

    pub(super) fn id(&self, name: &str) -> Result<u64, String> {
        self.maybe_id(name)?.ok_or_else(|| format!("{name} is missing; it is a number"))
    }

    pub(super) fn text(&self, name: &str, most: usize) -> Result<Option<&str>, String> {
        let Some(value) = self.find(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| format!("{name} must be a text"))?.trim();
        if text.is_empty() || text.chars().count() > most {
            return Err(format!("{name} must have 1 to {most} letters"));
        }
        if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
            return Err(format!("{name} has letters that cannot be read"));
        }
        Ok(Some(text))
    }

    pub(super) fn needed(&self, name: &str, most: usize) -> Result<&str, String> {
        self.text(name, most)?.ok_or_else(|| format!("{name} is missing"))
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.find(name) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| format!("{name} must be true or false")),
        }
    }

    pub(super) fn number(&self, name: &str, least: u64, most: u64, default: u64) -> Result<u64, String> {
        match self.find(name) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .or_else(|| value.as_f64().filter(|n| n.fract() == 0.0 && *n >= 0.0).map(|n| n as u64))
                .filter(|n| (least..=most).contains(n))
                .ok_or_else(|| format!("{name} must be a whole number from {least} to {most}")),
        }
    }

    pub(super) fn one_of<'c>(&self, name: &str, choices: &[&'c str], default: &'c str) -> Result<&'c str, String> {
        let Some(value) = self.find(name) else { return Ok(default) };
        let found = value.as_str().and_then(|text| choices.iter().find(|choice| **choice == text));
        found.copied().ok_or_else(|| format!("{name} must be one of {}", choices.join(", ")))
    }

    pub(super) fn list(&self, name: &str, most: usize) -> Result<Option<Vec<String>>, String> {
        let bad = || format!("{name} must be a list of 1 to {most} texts");
        let Some(value) = self.find(name) else { return Ok(None) };
        // Some clients send a list as a text with commas.
        let texts: Vec<String> = match value {
            Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>().ok_or_else(bad)?,
            Value::String(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
            _ => return Err(bad()),
        };
        let good = (1..=most).contains(&texts.len()) && texts.iter().all(|text| (1..=100).contains(&text.len()));
        if good { Ok(Some(texts)) } else { Err(bad()) }
    }

    /// `since` and `until`: days or times, a year apart at most.
    pub(super) fn range(&self) -> Result<Range, String> {
        let (since, until) = (self.time("since", false)?, self.time("until", true)?);
        if let (Some(since), Some(until)) = (since, until) {
            if since > until {
                return Err("since is later than until".into());
            }
            if until.duration_since(since).as_hours() > 366 * 24 {
                return Err("since and until may be 365 days apart at most".into());
            }
        }
        Ok(range(since, until))
    }

    fn time(&self, name: &str, is_end: bool) -> Result<Option<Timestamp>, String> {
        let Some(text) = self.text(name, 40)? else { return Ok(None) };
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Some(at));
        }
        let bad = || format!("{name} must be a day (2026-01-31) or a time (2026-01-31T12:00:00Z)");
        // A day ends with its last second.
        let (hour, minute, second) = if is_end { (23, 59, 59) } else { (0, 0, 0) };
        let day: Date = if text.len() == 10 { text.parse().map_err(|_| bad())? } else { return Err(bad()) };
        day.at(hour, minute, second, 0).to_zoned(jiff::tz::TimeZone::UTC).map(|at| Some(at.timestamp())).map_err(|_| bad())
    }

    /// The repository that `owner` and `repo` name, or else the one that the environment does.
    pub(super) fn repo(&self, names: (&str, &str), usual: (Option<&str>, Option<&str>)) -> Result<Repo, String> {
        let part = |name: &str, usual: Option<&str>, variable: &str| {
            let given = self.text(name, 100)?.map(str::to_owned);
            let text =
                given.or_else(|| usual.map(str::to_owned)).ok_or_else(|| format!("{name} is missing; give it, or set {variable}"))?;
            let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            if good && text != "." && text != ".." { Ok(text) } else { Err(format!("{name} is {text:?}, which is no name at GitHub")) }
        };
        Ok(Repo { owner: part(names.0, usual.0, "GITHUB_OWNER")?, name: part(names.1, usual.1, "GITHUB_REPO")? })
    }
}

/// As GitHub reads times.
pub(super) fn range(since: Option<Timestamp>, until: Option<Timestamp>) -> Range {
    let show = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Range { since: since.map(show), until: until.map(show) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with<T>(value: Value, read: impl Fn(Arguments<'_>) -> T) -> T {
        read(Arguments(value.as_object().unwrap()))
    }

    #[test]
    fn ids_are_digits_under_either_name() {
        let id = |value| with(json!({"sprintId": value}), |a| a.id("sprint_id"));
        assert_eq!((id(json!(7)), id(json!("0042"))), (Ok(7), Ok(42)));
        for bad in [json!(-1), json!(1.5), json!("1x"), json!(""), json!("9".repeat(21)), json!(true), json!([1])] {
            assert!(id(bad.clone()).unwrap_err().starts_with("sprint_id must be"), "{bad}");
        }
        assert!(id(json!(null)).unwrap_err().contains("missing"));
    }

    #[test]
    fn a_range_is_in_order_and_a_year_at_most() {
        let range = |since: &str, until: &str| with(json!({"since": since, "until": until}), |a| a.range());
        let good = range("2026-01-01", "2026-12-31").unwrap();
        assert_eq!((good.since.as_deref(), good.until.as_deref()), (Some("2026-01-01T00:00:00Z"), Some("2026-12-31T23:59:59Z")));
        assert!(range("2026-02-01", "2026-01-01").unwrap_err().contains("later"));
        assert!(range("2024-01-01", "2026-01-01").unwrap_err().contains("365"));
        for bad in ["yesterday", "2026-13-01", "2026-1-1"] {
            assert!(range(bad, "2026-01-01").unwrap_err().starts_with("since must be"), "{bad}");
        }
    }

    #[test]
    fn a_repository_has_a_name_and_nothing_else() {
        let usual = (Some("acme"), None);
        assert!(with(json!({}), |a| a.repo(("owner", "repo"), usual)).unwrap_err().contains("GITHUB_REPO"));
        assert_eq!(with(json!({"repo": "shop"}), |a| a.repo(("owner", "repo"), usual)).unwrap().owner, "acme");
        for bad in ["..", "a/b", "a b", "a?x=1"] {
            assert!(with(json!({"repo": bad}), |a| a.repo(("owner", "repo"), usual)).is_err(), "{bad}");
        }
    }
}
