//! What is known of somebody.

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::rules::Rules;

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
    /// Whether it is time to speak with them.
    pub(super) overdue: bool,
    /// For how many days; nothing if nobody has ever spoken with them.
    pub(super) overdue_days: Option<i64>,
    /// After how many days it is.
    pub(super) frequency_days: i64,
    /// What has to be done first: 0 is a deadline, 1 a day to follow up, 2 a state, 3 a silence that was too long.
    #[serde(skip)]
    pub(super) urgency: Option<i64>,
}

/// What [`Contact`]s are read from: what is stored, and what follows from it. Other programs write days with a time and a
/// zone behind them, nothing as an empty text, and now and then something that is no day; none of that may keep
/// somebody from being found.
pub(super) fn view(rules: &Rules) -> String {
    let text = |column: &str| format!("CAST({column} AS TEXT) AS {column}");
    let texts = ["external_id", "source", "name", "email", "phone", "company", "notes", "label", "basic_memory_url"].map(text).join(", ");
    let day = |column: &str| format!("nullif(substr({column}, 1, 10), '') AS {column}");
    let days = ["contacted_at", "follow_up_date", "deadline_date", "last_bump_date"].map(day).join(", ");
    let time = |column: &str| format!("substr({column}, 1, 19) AS {column}");
    let times = ["created_at", "updated_at", "archived_at"].map(time).join(", ");
    let real = |column: &str| {
        format!("CASE WHEN date(substr({column}, 1, 10)) = substr({column}, 1, 10) THEN substr({column}, 1, 10) ELSE '' END")
    };
    format!(
        "CREATE TEMP VIEW people AS SELECT *,
            CASE WHEN overdue THEN silent_days - frequency_days END AS overdue_days,
            CASE WHEN archived THEN NULL WHEN deadline_date <= date('now') THEN 0 WHEN follow_up_date <= date('now') THEN 1
                WHEN is_open THEN 2 WHEN overdue THEN 3 END AS urgency
        FROM (SELECT *, NOT archived AND contact_style = 'periodic' AND (last_contact IS NULL OR silent_days > frequency_days) AS overdue
        FROM (SELECT *, CAST(julianday('now', 'start of day') - julianday(last_contact) AS INTEGER) AS silent_days,
            coalesce(state NOT IN ('ok', 'timeout'), 0) AS is_open
        FROM (SELECT id, {texts}, {days}, {times}, coalesce(relationship_type, 'network') AS relationship_type,
            nullif(state, '') AS state, CAST(coalesce(bump_count, 0) AS INTEGER) AS bump_count,
            CAST(coalesce(archived, 0) AS INTEGER) <> 0 AS archived, coalesce(contact_style, 'periodic') AS contact_style,
            CAST(custom_frequency_days AS INTEGER) AS custom_frequency_days,
            CASE WHEN CAST(custom_frequency_days AS INTEGER) > 0 THEN CAST(custom_frequency_days AS INTEGER) ELSE {usual} END
                AS frequency_days,
            nullif(max({contacted}, {bumped}), '') AS last_contact
        FROM main.contacts)))",
        usual = rules.sql(),
        contacted = real("contacted_at"),
        bumped = real("last_bump_date"),
    )
}

impl Contact {
    pub(super) fn read(row: &SqliteRow) -> Result<Contact, sqlx::Error> {
        // Not all that others call text is UTF-8.
        let text = |column: &str| {
            let bytes: Option<Vec<u8>> = row.try_get(column)?;
            Ok::<_, sqlx::Error>(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        Ok(Contact {
            id: row.try_get("id")?,
            external_id: text("external_id")?,
            source: text("source")?,
            name: text("name")?.unwrap_or_default(),
            email: text("email")?,
            phone: text("phone")?,
            company: text("company")?,
            notes: text("notes")?,
            label: text("label")?,
            relationship_type: text("relationship_type")?.unwrap_or_default(),
            state: text("state")?,
            contacted_at: text("contacted_at")?,
            follow_up_date: text("follow_up_date")?,
            deadline_date: text("deadline_date")?,
            created_at: text("created_at")?,
            updated_at: text("updated_at")?,
            basic_memory_url: text("basic_memory_url")?,
            last_bump_date: text("last_bump_date")?,
            bump_count: row.try_get("bump_count")?,
            archived: row.try_get("archived")?,
            archived_at: text("archived_at")?,
            contact_style: text("contact_style")?.unwrap_or_default(),
            custom_frequency_days: row.try_get("custom_frequency_days")?,
            overdue: row.try_get("overdue")?,
            overdue_days: row.try_get("overdue_days")?,
            frequency_days: row.try_get("frequency_days")?,
            urgency: row.try_get("urgency")?,
        })
    }

    /// A line of a list.
    pub(super) fn line(&self) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "company": self.company,
            "email": self.email,
            "label": self.label,
            "relationship_type": self.relationship_type,
            "state": self.state,
            "contacted_at": self.contacted_at,
            "overdue": self.overdue,
            "overdue_days": self.overdue_days,
        })
    }

    /// All of it.
    pub(super) fn whole(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
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
