//! The tables, and how an older file gets them.
//!
//! ```text
//!   a file ──▶ look: is it one of contacts, and not newer than we are? ──no──▶ why not; nothing is touched
//!                └─yes─▶ is a table older? ──yes──▶ a copy beside it ─┐
//!                          └─no──────────────────▶ one transaction ◀──┘
//! ```
//!
//! The tables are those of contacts-tui, which opens the same file, writes no number of a version and may be older than
//! we are. So what is missing is what is there compared with what should be: a table with fewer columns, or one that
//! forbids a word of ours, gives ids twice or forgets who belongs to whom, is made anew around its rows. Columns, indexes
//! and triggers that we do not know stay. Our own number is there for those who come after us.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::people::{RELATIONSHIPS, STATES, STYLES};

/// The number that we write into a file (`user_version`). Who changes what a column means counts on.
const VERSION: i64 = 1;

/// A table as it should be.
struct Table {
    name: &'static str,
    /// Its columns: their names, and what else is to be said of them.
    columns: &'static [(&'static str, &'static str)],
    /// What is said behind them.
    behind: &'static str,
    /// What tells its rows apart.
    keys: &'static [&'static str],
    /// A table without these is not ours, whatever its name.
    needs: &'static [&'static str],
    /// What becomes of an older value, `{}`, where it does not stay as it is.
    values: &'static [(&'static str, &'static str)],
    /// How a row comes into the new table.
    insert: &'static str,
}

/// All of them. Whoever is referred to comes last.
const TABLES: [Table; 4] = [
    Table {
        name: "logs",
        columns: &[
            ("id", "INTEGER PRIMARY KEY AUTOINCREMENT"),
            ("content", "TEXT NOT NULL"),
            ("created_at", "DATETIME DEFAULT CURRENT_TIMESTAMP"),
            ("updated_at", "DATETIME DEFAULT CURRENT_TIMESTAMP"),
        ],
        behind: "",
        keys: &["id"],
        needs: &["content"],
        values: &[("content", "coalesce({}, '')")],
        insert: "INSERT",
    },
    Table {
        name: "contact_interactions",
        columns: &[
            ("id", "INTEGER PRIMARY KEY AUTOINCREMENT"),
            ("contact_id", "INTEGER NOT NULL REFERENCES contacts (id) ON DELETE CASCADE"),
            ("interaction_type", "TEXT NOT NULL"),
            ("interaction_date", "DATE NOT NULL"),
            ("notes", "TEXT"),
            ("created_at", "DATETIME DEFAULT CURRENT_TIMESTAMP"),
        ],
        behind: "",
        keys: &["id"],
        needs: &["contact_id", "interaction_type", "interaction_date"],
        // Nobody's, and of no day, are what an older table may allow.
        values: &[
            ("contact_id", "coalesce({}, 0)"),
            ("interaction_type", "coalesce({}, 'other')"),
            ("interaction_date", "coalesce({}, '1970-01-01')"),
        ],
        insert: "INSERT",
    },
    Table {
        name: "log_contacts",
        columns: &[
            ("log_id", "INTEGER NOT NULL REFERENCES logs (id) ON DELETE CASCADE"),
            ("contact_id", "INTEGER NOT NULL REFERENCES contacts (id) ON DELETE CASCADE"),
        ],
        behind: ", PRIMARY KEY (log_id, contact_id)",
        keys: &["log_id", "contact_id"],
        needs: &["log_id", "contact_id"],
        values: &[],
        // Twice is no more than once.
        insert: "INSERT OR IGNORE",
    },
    Table {
        name: "contacts",
        columns: &[
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
        ],
        behind: "",
        keys: &["id"],
        needs: &["id", "name"],
        values: &[
            ("name", "coalesce({}, '(no name)')"),
            // Where two have the same, it is who had it first.
            ("external_id", "CASE row_number() OVER (PARTITION BY {} ORDER BY id) WHEN 1 THEN {} END"),
            ("source", "coalesce({}, 'manual')"),
            ("relationship_type", "CASE WHEN {} IN ({relationships}) THEN {} ELSE 'network' END"),
            ("state", "CASE WHEN {} IN ({states}) THEN {} END"),
            ("contact_style", "CASE WHEN {} IN ({styles}) THEN {} ELSE 'periodic' END"),
            ("bump_count", "coalesce({}, 0)"),
            ("archived", "coalesce({}, 0)"),
        ],
        insert: "INSERT",
    },
];

/// The indexes: their names, tables, and columns.
const INDEXES: [(&str, &str, &[&str]); 8] = [
    ("idx_contacts_relationship_type", "contacts", &["relationship_type"]),
    ("idx_contacts_contacted_at", "contacts", &["contacted_at"]),
    ("idx_contacts_state", "contacts", &["state"]),
    ("idx_contacts_label", "contacts", &["label"]),
    ("idx_contacts_relationship_contacted", "contacts", &["relationship_type", "contacted_at"]),
    ("idx_interactions_contact_date", "contact_interactions", &["contact_id", "interaction_date DESC"]),
    ("idx_log_contacts_contact", "log_contacts", &["contact_id"]),
    ("idx_logs_created_at", "logs", &["created_at DESC"]),
];

/// The triggers: who changes something and does not say when, has done it now.
const TRIGGERS: [(&str, &str); 2] = [("update_contact_timestamp", "contacts"), ("update_log_timestamp", "logs")];

// --- looking -------------------------------------------------------------------------------------

/// Whether this is a file of contacts, and one that we know enough of. The sentence says why not.
pub(super) async fn look(connection: &mut SqliteConnection) -> Result<Result<(), String>, sqlx::Error> {
    const ELSEWHERE: &str = "name another file in CONTACTS_DB_PATH";
    let version = number(connection, "PRAGMA user_version").await?;
    if version > VERSION {
        let told = format!(
            "it was written by a newer version of this program (its number is {version}; {VERSION} is the newest that is known \
             here), and is left as it is: use that version, or {ELSEWHERE}"
        );
        return Ok(Err(told));
    }
    let find = "SELECT name, type FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let rows = sqlx::query(find).fetch_all(&mut *connection).await?;
    let there = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<(String, String)>, sqlx::Error>>()?;
    let kind = |name: &str| there.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| kind.as_str());
    if !there.is_empty() && kind("contacts").is_none() {
        let names: Vec<&str> = there.iter().map(|(name, _)| name.as_str()).take(5).collect();
        return Ok(Err(format!("it is a database of something else, with {} and no contacts; {ELSEWHERE}", names.join(", "))));
    }
    for table in TABLES {
        match kind(table.name) {
            None => continue,
            Some("table") => {}
            Some(other) => return Ok(Err(format!("{} is a {other} in it, and no table; {ELSEWHERE}", table.name))),
        }
        let columns = columns(connection, table.name).await?;
        if let Some(missing) = table.needs.iter().find(|needed| !columns.iter().any(|column| column.is(needed))) {
            return Ok(Err(format!("its table {} has no column {missing}, so it is of something else; {ELSEWHERE}", table.name)));
        }
        if let Some(column) = columns.iter().find(|column| column.is_wanted && !table.has(&column.name)) {
            let told = format!(
                "its table {} wants a column {:?} that is not known here, so it is newer, or of something else; {ELSEWHERE}",
                table.name, column.name
            );
            return Ok(Err(told));
        }
    }
    Ok(Ok(()))
}

/// A column that is there.
struct Column {
    name: String,
    kind: String,
    is_key: bool,
    /// Nobody can add a row without a value for it.
    is_wanted: bool,
}

impl Column {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

impl Table {
    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|(known, _)| known.eq_ignore_ascii_case(column))
    }

    /// How it is made, under that name.
    fn sql(&self, name: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(name, rest)| format!("{name} {rest}")).collect();
        worded(&format!("CREATE TABLE {name} ({}{});", columns.join(", "), self.behind))
    }

    /// Whether the table that is there lacks something. `None` where there is none.
    async fn is_old(&self, connection: &mut SqliteConnection) -> Result<Option<bool>, sqlx::Error> {
        let find = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE";
        let Some(row) = sqlx::query(find).bind(self.name).fetch_optional(&mut *connection).await? else { return Ok(None) };
        let written = row.try_get::<String, _>(0)?;
        let there = columns(connection, self.name).await?;
        let lacks = self.columns.iter().any(|(name, _)| !there.iter().any(|column| column.is(name)));
        let keys = there.iter().filter(|column| column.is_key);
        let is_keyed = keys.clone().count() == self.keys.len() && keys.clone().all(|column| self.keys.iter().any(|key| column.is(key)));
        let counts = |sql: &str| sql.to_ascii_uppercase().contains("AUTOINCREMENT");
        let forgets_ids = counts(&self.sql("t")) && !counts(&written);
        let cascades = "SELECT count(*) FROM pragma_foreign_key_list(?) WHERE on_delete = 'CASCADE'";
        let cascades: i64 = sqlx::query(cascades).bind(self.name).fetch_one(connection).await?.try_get(0)?;
        let n_references = self.columns.iter().filter(|(_, rest)| rest.contains("REFERENCES")).count();
        Ok(Some(lacks || !is_keyed || forgets_ids || cascades < n_references as i64 || self.name == "contacts" && forbids(&written)))
    }

    /// As https://sqlite.org/lang_altertable.html says to: a new table, the rows, and then its name.
    async fn rebuild(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let new = format!("{}_made_anew", self.name);
        let mut steps = self.sql(&new);
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for column in columns(connection, self.name).await? {
            let name = format!("\"{}\"", column.name.replace('"', "\"\""));
            if !self.has(&column.name) {
                let kind: String =
                    column.kind.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '(' | ')' | ',')).collect();
                steps.push_str(&format!("ALTER TABLE {new} ADD COLUMN {name} {kind};"));
            }
            let value = self.values.iter().find(|(known, _)| column.is(known)).map_or("{}", |(_, value)| value);
            values.push(worded(value).replace("{}", &name));
            names.push(name);
        }
        steps.push_str(&format!("{} INTO {new} ({}) SELECT {} FROM {};", self.insert, names.join(", "), values.join(", "), self.name));
        sqlx::raw_sql(AssertSqlSafe(steps)).execute(&mut *connection).await?;

        // What others have put beside it goes with it, and comes back. So does the last id: who was removed, and is still
        // referred to where nobody looked, must not become somebody else.
        let find = "SELECT sql FROM sqlite_master WHERE tbl_name = ? COLLATE NOCASE AND type IN ('index', 'trigger') AND sql IS NOT NULL";
        let beside = sqlx::query(find).bind(self.name).fetch_all(&mut *connection).await?;
        let mut last = "SELECT max(coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = '{}' COLLATE NOCASE), 0)".to_owned();
        if self.name == "contacts" {
            last.push_str(", coalesce((SELECT max(contact_id) FROM contact_interactions), 0)");
        }
        last.push_str(if self.name == "contacts" { ", coalesce((SELECT max(contact_id) FROM log_contacts), 0))" } else { ", 0)" });
        let last = number(connection, &last.replace("{}", self.name)).await?;
        let mut steps = format!("DROP TABLE {name}; ALTER TABLE {new} RENAME TO {name};", name = self.name);
        if self.keys == ["id"] {
            steps.push_str(&format!(
                "INSERT INTO sqlite_sequence (name, seq) SELECT '{name}', 0 WHERE '{name}' NOT IN (SELECT name FROM sqlite_sequence);
                 UPDATE sqlite_sequence SET seq = max(seq, {last}) WHERE name = '{name}';",
                name = self.name
            ));
        }
        for row in beside {
            steps.push_str(&row.try_get::<String, _>(0)?);
            steps.push_str("\n;");
        }
        sqlx::raw_sql(AssertSqlSafe(steps)).execute(connection).await.map(drop)
    }
}

/// Whether a table of contacts forbids a word. Only one that checks its words can.
fn forbids(written: &str) -> bool {
    let lacks = |words: &[&str]| words.iter().any(|word| !written.contains(&format!("'{word}'")));
    let checks = |column: &str| written.split("CHECK").skip(1).any(|check| check.trim_start().trim_start_matches('(').starts_with(column));
    checks("relationship_type") && lacks(&RELATIONSHIPS) || checks("state") && lacks(&STATES) || checks("contact_style") && lacks(&STYLES)
}

/// With our words in their places.
fn worded(sql: &str) -> String {
    let quoted = |words: &[&str]| words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
    sql.replace("{relationships}", &quoted(&RELATIONSHIPS)).replace("{states}", &quoted(&STATES)).replace("{styles}", &quoted(&STYLES))
}

async fn columns(connection: &mut SqliteConnection, table: &str) -> Result<Vec<Column>, sqlx::Error> {
    let find = "SELECT name, type, pk > 0, pk = 0 AND \"notnull\" AND dflt_value IS NULL FROM pragma_table_info(?)";
    let rows = sqlx::query(find).bind(table).fetch_all(connection).await?;
    let read = rows
        .iter()
        .map(|row| Ok(Column { name: row.try_get(0)?, kind: row.try_get(1)?, is_key: row.try_get(2)?, is_wanted: row.try_get(3)? }));
    read.collect()
}

async fn number(connection: &mut SqliteConnection, query: &str) -> Result<i64, sqlx::Error> {
    sqlx::query(AssertSqlSafe(query)).fetch_one(connection).await?.try_get(0)
}

// --- changing ------------------------------------------------------------------------------------

/// Brings the file of this connection up to date; foreign keys must be off. `copy` is kept from before, if there is need.
pub(super) async fn migrate(connection: &mut SqliteConnection, copy: &Path) -> Result<(), sqlx::Error> {
    if is_old(connection).await? {
        // A copy of an earlier day stays what it is.
        if !copy.exists() {
            keep(connection, copy).await?;
        }
        tracing::info!(copy = %copy.display(), "an older file of contacts is brought up to date; it is kept as it was beside it");
    }
    // Else views and triggers of others, which name the table, would forbid it to change its name.
    sqlx::query("PRAGMA legacy_alter_table = ON").execute(&mut *connection).await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    // First those that are missing, so that what is looked up in them is there.
    let mut old = Vec::new();
    for table in &TABLES {
        // Another process may have been faster.
        match table.is_old(&mut transaction).await? {
            None => {
                sqlx::raw_sql(AssertSqlSafe(table.sql(table.name))).execute(&mut *transaction).await?;
            }
            Some(true) => old.push(table),
            Some(false) => {}
        }
    }
    for table in old {
        table.rebuild(&mut transaction).await?;
    }
    for (name, table, on) in INDEXES {
        let find = "SELECT group_concat(name) FROM pragma_index_info(?)";
        let there: Option<String> = sqlx::query(find).bind(name).fetch_one(&mut *transaction).await?.try_get(0)?;
        let wanted: Vec<&str> = on.iter().map(|column| column.trim_end_matches(" DESC")).collect();
        if there.is_none_or(|there| !there.eq_ignore_ascii_case(&wanted.join(","))) {
            let anew = format!("DROP INDEX IF EXISTS {name}; CREATE INDEX {name} ON {table} ({});", on.join(", "));
            sqlx::raw_sql(AssertSqlSafe(anew)).execute(&mut *transaction).await?;
        }
    }
    for (name, table) in TRIGGERS {
        let trigger = format!(
            "CREATE TRIGGER IF NOT EXISTS {name} AFTER UPDATE ON {table} FOR EACH ROW WHEN NEW.updated_at IS OLD.updated_at
             BEGIN UPDATE {table} SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id; END"
        );
        sqlx::raw_sql(AssertSqlSafe(trigger)).execute(&mut *transaction).await?;
    }
    if number(&mut transaction, "PRAGMA user_version").await? < VERSION {
        sqlx::raw_sql(AssertSqlSafe(format!("PRAGMA user_version = {VERSION}"))).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

async fn is_old(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    for table in &TABLES {
        if table.is_old(connection).await? == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies the file. Half a copy never has the name of a whole one.
async fn keep(connection: &mut SqliteConnection, copy: &Path) -> Result<(), sqlx::Error> {
    let part = PathBuf::from(format!("{}.{}", copy.display(), std::process::id()));
    let _ = std::fs::remove_file(&part);
    sqlx::query("VACUUM INTO ?").bind(part.display().to_string()).execute(connection).await?;
    super::store::make_private(&part)?;
    std::fs::rename(&part, copy)?;
    Ok(())
}
