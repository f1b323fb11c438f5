//! The tables, and how an older file gets them.
//!
//! They are those of contacts-tui, which opens the same file and may be older or newer than we are. So there is no
//! number of a version: what is missing is what is there compared with what should be. A table with fewer columns, or
//! one that forbids a word of ours, is made anew around its rows, and a copy of the file is kept from before. Columns
//! that we do not know stay.

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::people::{RELATIONSHIPS, STATES, STYLES};

/// The columns of `contacts`: their names, and what else is to be said of them.
const COLUMNS: [(&str, &str); 24] = [
    ("id", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    ("external_id", "TEXT UNIQUE"),
    ("source", "TEXT NOT NULL DEFAULT 'manual'"),
    ("name", "TEXT NOT NULL"),
    ("email", "TEXT"),
    ("phone", "TEXT"),
    ("company", "TEXT"),
    ("notes", "TEXT"),
    ("label", "TEXT"),
    ("relationship_type", "TEXT NOT NULL DEFAULT 'network' CHECK (relationship_type IN ({relationships}))"),
    ("contacted_at", "DATE"),
    ("state", "TEXT CHECK (state IS NULL OR state IN ({states}))"),
    ("follow_up_date", "DATE"),
    ("deadline_date", "DATE"),
    ("created_at", "DATETIME DEFAULT CURRENT_TIMESTAMP"),
    ("updated_at", "DATETIME DEFAULT CURRENT_TIMESTAMP"),
    ("synced_at", "DATETIME"),
    ("basic_memory_url", "TEXT"),
    ("last_bump_date", "TIMESTAMP"),
    ("bump_count", "INTEGER DEFAULT 0"),
    ("archived", "BOOLEAN DEFAULT 0"),
    ("archived_at", "TIMESTAMP"),
    ("contact_style", "TEXT DEFAULT 'periodic' CHECK (contact_style IN ({styles}))"),
    ("custom_frequency_days", "INTEGER"),
];

/// What else there is.
const REST: &str = "
    CREATE TABLE IF NOT EXISTS contact_interactions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        contact_id INTEGER NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
        interaction_type TEXT NOT NULL,
        interaction_date DATE NOT NULL,
        notes TEXT,
        created_at DATETIME DEFAULT CURRENT_TIMESTAMP
    );
    CREATE TABLE IF NOT EXISTS logs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        content TEXT NOT NULL,
        created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
        updated_at DATETIME DEFAULT CURRENT_TIMESTAMP
    );
    CREATE TABLE IF NOT EXISTS log_contacts (
        log_id INTEGER NOT NULL REFERENCES logs (id) ON DELETE CASCADE,
        contact_id INTEGER NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
        PRIMARY KEY (log_id, contact_id)
    );
    CREATE INDEX IF NOT EXISTS idx_contacts_relationship_type ON contacts (relationship_type);
    CREATE INDEX IF NOT EXISTS idx_contacts_contacted_at ON contacts (contacted_at);
    CREATE INDEX IF NOT EXISTS idx_contacts_state ON contacts (state);
    CREATE INDEX IF NOT EXISTS idx_contacts_label ON contacts (label);
    CREATE INDEX IF NOT EXISTS idx_contacts_relationship_contacted ON contacts (relationship_type, contacted_at);
    CREATE INDEX IF NOT EXISTS idx_interactions_contact_date ON contact_interactions (contact_id, interaction_date DESC);
    CREATE INDEX IF NOT EXISTS idx_log_contacts_contact ON log_contacts (contact_id);
    CREATE INDEX IF NOT EXISTS idx_logs_created_at ON logs (created_at DESC);
    CREATE TRIGGER IF NOT EXISTS update_contact_timestamp AFTER UPDATE ON contacts
        FOR EACH ROW WHEN NEW.updated_at IS OLD.updated_at
        BEGIN UPDATE contacts SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END;
    CREATE TRIGGER IF NOT EXISTS update_log_timestamp AFTER UPDATE ON logs
        FOR EACH ROW WHEN NEW.updated_at IS OLD.updated_at
        BEGIN UPDATE logs SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END;";

/// Brings the file of this connection up to date; foreign keys must be off. `copy` is kept from before, if there is need.
pub(super) async fn migrate(connection: &mut SqliteConnection, copy: &str) -> Result<(), sqlx::Error> {
    if is_old(connection).await? {
        // A copy of an earlier day stays what it is.
        let kept = std::path::Path::new(copy).exists();
        if !kept {
            sqlx::query("VACUUM INTO ?").bind(copy).execute(&mut *connection).await?;
        }
        tracing::info!(copy, "an older file of contacts is brought up to date; it is kept as it was beside it");
    }
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // Another process may have been faster.
    if is_old(&mut transaction).await? {
        rebuild(&mut transaction).await?;
    }
    let table = format!("CREATE TABLE IF NOT EXISTS contacts ({})", columns());
    sqlx::raw_sql(AssertSqlSafe(table)).execute(&mut *transaction).await?;
    sqlx::raw_sql(REST).execute(&mut *transaction).await?;
    transaction.commit().await
}

fn columns() -> String {
    let quoted = |words: &[&str]| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
    let lines: Vec<String> = COLUMNS.iter().map(|(name, rest)| format!("{name} {rest}")).collect();
    let all = lines.join(", ");
    all.replace("{relationships}", &quoted(&RELATIONSHIPS)).replace("{states}", &quoted(&STATES)).replace("{styles}", &quoted(&STYLES))
}

/// Whether there is a table of contacts that lacks a column, or forbids a word.
async fn is_old(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let find = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'contacts'";
    let Some(row) = sqlx::query(find).fetch_optional(&mut *connection).await? else { return Ok(false) };
    let written = row.try_get::<String, _>(0)?;
    let there = existing(connection).await?;
    if COLUMNS.iter().any(|(name, _)| !there.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))) {
        return Ok(true);
    }
    // Only a table that checks its words can forbid one.
    let forbids = |words: &[&str]| words.iter().any(|word| !written.contains(&format!("'{word}'")));
    let checks = |column: &str| written.split("CHECK").skip(1).any(|check| check.trim_start().trim_start_matches('(').starts_with(column));
    Ok(checks("relationship_type") && forbids(&RELATIONSHIPS)
        || checks("state") && forbids(&STATES)
        || checks("contact_style") && forbids(&STYLES))
}

/// The columns that are there, and their types.
async fn existing(connection: &mut SqliteConnection) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query("SELECT name, type FROM pragma_table_info('contacts')").fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// As https://sqlite.org/lang_altertable.html says to: a new table, the rows, and then its name.
async fn rebuild(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let there = existing(connection).await?;
    let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut steps = format!("CREATE TABLE contacts_new ({});", columns());
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, kind) in &there {
        let is_ours = COLUMNS.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        let column = quote(name);
        if !is_ours {
            let kind: String = kind.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '(' | ')' | ',')).collect();
            steps.push_str(&format!("ALTER TABLE contacts_new ADD COLUMN {column} {kind};"));
        }
        let among = |words: &[&str]| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        values.push(match name.to_ascii_lowercase().as_str() {
            "relationship_type" => format!("CASE WHEN {column} IN ({}) THEN {column} ELSE 'network' END", among(&RELATIONSHIPS)),
            "state" => format!("CASE WHEN {column} IN ({}) THEN {column} END", among(&STATES)),
            "contact_style" => format!("CASE WHEN {column} IN ({}) THEN {column} ELSE 'periodic' END", among(&STYLES)),
            "source" => format!("coalesce({column}, 'manual')"),
            "bump_count" | "archived" => format!("coalesce({column}, 0)"),
            _ => column.clone(),
        });
        names.push(column);
    }
    steps.push_str(&format!("INSERT INTO contacts_new ({}) SELECT {} FROM contacts;", names.join(", "), values.join(", ")));
    steps.push_str("DROP TABLE contacts; ALTER TABLE contacts_new RENAME TO contacts;");
    sqlx::raw_sql(AssertSqlSafe(steps)).execute(connection).await.map(drop)
}
