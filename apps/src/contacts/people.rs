//! What is known of somebody.

use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::rules::{Rules, today};

/// How somebody is related to us.
pub(super) const RELATIONSHIPS: [&str; 7] = ["close", "family", "network", "social", "providers", "recruiters", "work"];
/// What is to be done, or was done, about somebody.
pub(super) const STATES: [&str; 10] = ["ping", "invite", "write", "pinged", "followup", "sked", "notes", "scheduled", "timeout", "ok"];
/// Whether somebody wants to hear of us at regular times.
pub(super) const STYLES: [&str; 3] = ["periodic", "ambient", "triggered"];

/// A contact, as it is stored. Days are `2026-01-31`, times `2026-01-31 12:00:00`, in UTC.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Contact {
    pub(super) id: i64,
    pub(super) external_id: Option<String>,
    pub(super) source: Option<String>,
    pub(super) name: String,
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    pub(super) company: Option<String>,
    pub(super) notes: Option<String>,
    pub(super) label: Option<String>,
    pub(super) relationship_type: String,
    pub(super) state: Option<String>,
    pub(super) contacted_at: Option<String>,
    pub(super) follow_up_date: Option<String>,
    pub(super) deadline_date: Option<String>,
    pub(super) created_at: Option<String>,
    pub(super) updated_at: Option<String>,
    pub(super) basic_memory_url: Option<String>,
    pub(super) last_bump_date: Option<String>,
    pub(super) bump_count: i64,
    pub(super) archived: bool,
    pub(super) archived_at: Option<String>,
    pub(super) contact_style: String,
    pub(super) custom_frequency_days: Option<i64>,
}

/// What reads a [`Contact`]. Other programs write days with a time and a zone behind them.
pub(super) const SELECT: &str = "SELECT id, external_id, source, name, email, phone, company, notes, label,
    coalesce(relationship_type, 'network') AS relationship_type, nullif(state, '') AS state,
    substr(contacted_at, 1, 10) AS contacted_at, substr(follow_up_date, 1, 10) AS follow_up_date,
    substr(deadline_date, 1, 10) AS deadline_date, substr(created_at, 1, 19) AS created_at, substr(updated_at, 1, 19) AS updated_at,
    basic_memory_url, substr(last_bump_date, 1, 10) AS last_bump_date, coalesce(bump_count, 0) + 0 AS bump_count,
    coalesce(archived, 0) + 0 AS archived, substr(archived_at, 1, 19) AS archived_at,
    coalesce(contact_style, 'periodic') AS contact_style, custom_frequency_days + 0 AS custom_frequency_days
    FROM contacts ";

impl Contact {
    pub(super) fn read(row: &SqliteRow) -> Result<Contact, sqlx::Error> {
        Ok(Contact {
            id: row.try_get("id")?,
            external_id: row.try_get("external_id")?,
            source: row.try_get("source")?,
            name: row.try_get("name")?,
            email: row.try_get("email")?,
            phone: row.try_get("phone")?,
            company: row.try_get("company")?,
            notes: row.try_get("notes")?,
            label: row.try_get("label")?,
            relationship_type: row.try_get("relationship_type")?,
            state: row.try_get("state")?,
            contacted_at: row.try_get("contacted_at")?,
            follow_up_date: row.try_get("follow_up_date")?,
            deadline_date: row.try_get("deadline_date")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            basic_memory_url: row.try_get("basic_memory_url")?,
            last_bump_date: row.try_get("last_bump_date")?,
            bump_count: row.try_get("bump_count")?,
            archived: row.try_get::<i64, _>("archived")? != 0,
            archived_at: row.try_get("archived_at")?,
            contact_style: row.try_get("contact_style")?,
            custom_frequency_days: row.try_get("custom_frequency_days")?,
        })
    }

    /// The later of the day somebody spoke with them and the day that was put off to.
    pub(super) fn last_contact(&self) -> Option<Date> {
        let day = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<Date>().ok());
        day(&self.contacted_at).max(day(&self.last_bump_date))
    }

    /// Whether this text, in lower case, is anywhere in it.
    pub(super) fn has(&self, text: &str) -> bool {
        let fields = [Some(&self.name), self.email.as_ref(), self.company.as_ref(), self.notes.as_ref(), self.label.as_ref()];
        fields.into_iter().flatten().any(|field| field.to_lowercase().contains(text))
    }

    /// A line of a list.
    pub(super) fn line(&self, rules: &Rules) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "company": self.company,
            "email": self.email,
            "label": self.label,
            "relationship_type": self.relationship_type,
            "state": self.state,
            "contacted_at": self.contacted_at,
            "overdue": rules.overdue(self, today()).is_some(),
        })
    }

    /// All of it.
    pub(super) fn whole(&self, rules: &Rules) -> Value {
        let mut all = serde_json::to_value(self).unwrap_or_default();
        if let Some(fields) = all.as_object_mut() {
            let overdue = rules.overdue(self, today());
            fields.insert("overdue".into(), overdue.is_some().into());
            fields.insert("overdue_days".into(), overdue.flatten().into());
            fields.insert("frequency_days".into(), rules.days_for(self).into());
        }
        all
    }
}

/// A label as it is compared: `@Ada` and `ada` are the same.
pub(super) fn plain_label(label: &str) -> String {
    label.trim().trim_start_matches('@').to_lowercase()
}

/// The labels that a text mentions, each once, as `@ada` or `@ada.l`; an address of mail mentions nobody.
pub(super) fn mentions(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut found: Vec<String> = Vec::new();
    for (at, _) in text.match_indices('@') {
        if text.get(..at).and_then(|before| before.chars().next_back()).is_some_and(is_part) {
            continue;
        }
        let rest = text.get(at + 1..).unwrap_or_default();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let label = rest.get(..end).unwrap_or_default().trim_end_matches(['.', '-']).to_lowercase();
        if !label.is_empty() && !found.contains(&label) {
            found.push(label);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_where_they_are_meant() {
        let found = mentions("Lunch with @Ada and @bob-b. Then @ada again, write to x@example.com; (@ü) @ @.");
        assert_eq!(found, ["ada", "bob-b", "ü"]);
        assert_eq!((plain_label(" @Ada "), plain_label("ada")), ("ada".into(), "ada".into()));
    }
}
