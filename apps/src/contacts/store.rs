//! The SQLite file: many may read while one writes, and every change is one transaction that is on the disk before
//! anybody hears of it.
//!
//! Contacts are read through a view of each connection, `people`, which says what follows from what is stored: who is
//! overdue, and what is to be done. Odd: SQLite knows no letters but those of English and sqlx can teach it no
//! functions, only how to compare; so what looks for a part of a text is a way to compare as well ([`compared`]).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, Sqlite, Transaction};

use super::arguments::Trouble;
use super::people::{Contact, mentions, plain_label, view};
use super::rules::Rules;
use super::schema;

/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(5);
/// The most contacts there can be.
const MOST: i64 = 100_000;
/// The most characters of names and notes that are read at once.
const MOST_TEXT: i64 = 200_000_000;
/// The mark of a text that is looked for. No field holds it: control characters are refused.
const SOUGHT: char = '\u{1}';

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    reads: SqlitePool,
    writes: SqlitePool,
}

/// A change, or several looks at one state of things.
pub(super) type Change = Transaction<'static, Sqlite>;

impl Store {
    /// Opens it, and makes it if there is none.
    pub(super) async fn open(path: &Path, rules: &Rules) -> Result<Store, String> {
        let told = |e: &dyn std::fmt::Display| format!("CONTACTS_DB_PATH: the contacts at {} cannot be opened: {e}", path.display());
        let path_of = std::path::absolute(path).map_err(|e| told(&e))?;
        if let Some(dir) = path_of.parent() {
            std::fs::create_dir_all(dir).map_err(|e| told(&e))?;
        }
        let options = SqliteConnectOptions::new().filename(&path_of).busy_timeout(BUSY).disable_statement_logging();
        if path_of.exists() {
            // Before anything is changed: it may be somebody else's.
            let mut connection = options.clone().connect().await.map_err(|e| told(&e))?;
            let looked = schema::look(&mut connection).await;
            let closed = connection.close().await;
            looked.and_then(|good| closed.map(|()| good)).map_err(|e| told(&e))?.map_err(|why| told(&why))?;
        }
        let options = compared(options).create_if_missing(true).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let mut connection = options.clone().foreign_keys(false).connect().await.map_err(|e| told(&e))?;
        make_private(&path_of).map_err(|e| told(&e))?;
        let migrated = schema::migrate(&mut connection, &PathBuf::from(format!("{}.before", path_of.display()))).await;
        let closed = connection.close().await;
        migrated.and(closed).map_err(|e| told(&e))?;
        let view = view(rules);
        let pool = |most| {
            let view = view.clone();
            SqlitePoolOptions::new()
                .max_connections(most)
                .acquire_timeout(Duration::from_secs(10))
                .idle_timeout(None)
                .max_lifetime(None)
                .after_connect(move |connection, _| {
                    let view = view.clone();
                    Box::pin(async move { sqlx::raw_sql(AssertSqlSafe(view)).execute(connection).await.map(drop) })
                })
                .connect_lazy_with(options.clone())
        };
        Ok(Store { reads: pool(4), writes: pool(1) })
    }

    /// Begins a change. Nothing of it happens unless it is committed.
    pub(super) async fn change(&self) -> Result<Change, Trouble> {
        Ok(self.writes.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Somebody to read by, who sees one state of things throughout.
    pub(super) async fn read(&self) -> Result<Change, Trouble> {
        Ok(self.reads.begin().await?)
    }
}

/// It is nobody else's business whom somebody knows.
pub(super) fn make_private(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

/// Teaches a connection three ways to compare texts:
/// `has` says that a text and a part of it are equal, in letters of any size, where the part is [`sought`];
/// `folded` is the order of names; `label` is what labels are told apart by.
fn compared(options: SqliteConnectOptions) -> SqliteConnectOptions {
    let has = |text: &str, part: &str| if text.to_lowercase().contains(part) { Ordering::Equal } else { Ordering::Less };
    options
        .collation("has", move |a, b| match (a.strip_prefix(SOUGHT), b.strip_prefix(SOUGHT)) {
            (_, Some(part)) => has(a, part),
            (Some(part), None) => has(b, part),
            (None, None) => a.cmp(b),
        })
        .collation("folded", |a, b| a.chars().flat_map(char::to_lowercase).cmp(b.chars().flat_map(char::to_lowercase)))
        .collation("label", |a, b| plain_label(a).cmp(&plain_label(b)))
}

/// A text to look for.
fn sought(part: &str) -> String {
    format!("{SOUGHT}{}", part.to_lowercase())
}

// --- who there is --------------------------------------------------------------------------------

/// Whom a list is of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Which<'w> {
    /// Who has this somewhere, in letters of any size.
    pub(super) text: &'w str,
    pub(super) relationship: Option<&'static str>,
    pub(super) state: Option<&'static str>,
    pub(super) only: Only,
}

/// More of that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Only {
    #[default]
    Everybody,
    /// Who is not put away.
    Around,
    /// About whom something is to be done.
    Open,
    /// With whom it is time to speak. First who was never spoken with, then who has waited longest.
    Overdue,
    /// Both of them, and whom a day was set for that has come. First what is most urgent.
    Urgent,
}

/// How many these are, and the first of them, by name unless they have an order of their own.
pub(super) async fn list(connection: &mut SqliteConnection, which: Which<'_>, limit: usize) -> Result<(i64, Vec<Contact>), Trouble> {
    let late_first = "last_contact IS NOT NULL, overdue_days DESC";
    let (only, order) = match which.only {
        Only::Everybody => ("", String::new()),
        Only::Around => ("AND NOT archived", String::new()),
        Only::Open => ("AND is_open AND NOT archived", String::new()),
        Only::Overdue => ("AND overdue", format!("{late_first},")),
        Only::Urgent => {
            let day = "CASE urgency WHEN 0 THEN deadline_date WHEN 1 THEN follow_up_date WHEN 2 THEN coalesce(contacted_at, '') END";
            ("AND urgency IS NOT NULL", format!("urgency, {day}, {late_first},"))
        }
    };
    let fits = format!(
        "(?1 = '' OR name = ?2 COLLATE has OR email = ?2 COLLATE has OR company = ?2 COLLATE has OR notes = ?2 COLLATE has
            OR label = ?2 COLLATE has) AND (?3 IS NULL OR relationship_type = ?3) AND (?4 IS NULL OR state = ?4) {only}"
    );
    let total = format!("SELECT count(*) FROM people WHERE {fits}");
    let total = sqlx::query_scalar(AssertSqlSafe(total)).bind(which.text).bind(sought(which.text)).bind(which.relationship);
    let total: i64 = total.bind(which.state).fetch_one(&mut *connection).await?;
    let shown = format!("SELECT * FROM people WHERE {fits} ORDER BY {order} name COLLATE folded, id LIMIT ?5");
    let shown = sqlx::query(AssertSqlSafe(shown)).bind(which.text).bind(sought(which.text)).bind(which.relationship);
    let shown = shown.bind(which.state).bind(limit as i64).fetch_all(connection).await?;
    Ok((total, shown.iter().map(Contact::read).collect::<Result<_, _>>()?))
}

/// Everybody, by name, as long as they fit into memory.
pub(super) async fn all(connection: &mut SqliteConnection, relationship: Option<&'static str>) -> Result<Vec<Contact>, Trouble> {
    let sizes = [("size", "sum(length(name) + coalesce(length(notes), 0) + coalesce(length(basic_memory_url), 0))")];
    let size = counts(connection, &sizes, "true", relationship).await?;
    if size.get("size").and_then(Value::as_i64).is_some_and(|size| size > MOST_TEXT) {
        return Err(Trouble::Conflict(format!(
            "names and notes have more than {MOST_TEXT} characters together, too many to be read at once"
        )));
    }
    let which = Which { relationship, ..Which::default() };
    Ok(list(connection, which, MOST as usize).await?.1)
}

/// What counts of everybody there are, of a relationship, or of none that is put away, by the names of these counts.
pub(super) async fn counts(
    connection: &mut SqliteConnection,
    counts: &[(&str, &str)],
    fits: &'static str,
    relationship: Option<&str>,
) -> Result<Map<String, Value>, Trouble> {
    let columns: Vec<String> = counts.iter().map(|(_, sql)| format!("coalesce({sql}, 0)")).collect();
    let query = format!("SELECT {} FROM people WHERE {fits} AND (?1 IS NULL OR relationship_type = ?1)", columns.join(", "));
    let row = sqlx::query(AssertSqlSafe(query)).bind(relationship).fetch_one(connection).await?;
    let read = counts.iter().enumerate().map(|(at, (name, _))| Ok(((*name).to_owned(), row.try_get::<i64, _>(at)?.into())));
    Ok(read.collect::<Result<_, sqlx::Error>>()?)
}

/// How many have each of these words in that column.
pub(super) async fn counts_by(
    connection: &mut SqliteConnection,
    column: &'static str,
    words: &[&str],
) -> Result<Map<String, Value>, Trouble> {
    let query = format!("SELECT {column}, count(*) FROM people WHERE {column} IS NOT NULL GROUP BY 1");
    let there: Vec<(String, i64)> = sqlx::query_as(AssertSqlSafe(query)).fetch_all(connection).await?;
    let count = |word: &str| there.iter().find(|(known, _)| known == word).map_or(0, |(_, count)| *count);
    Ok(words.iter().map(|word| ((*word).to_owned(), count(word).into())).collect())
}

pub(super) async fn contact(connection: &mut SqliteConnection, id: i64) -> Result<Contact, Trouble> {
    let row = sqlx::query("SELECT * FROM people WHERE id = ?").bind(id).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| Trouble::Missing(format!("contact {id} was not found; search_contacts finds ids")))?;
    Ok(Contact::read(&row)?)
}

// --- changes -------------------------------------------------------------------------------------

/// Adds somebody; their id.
pub(super) async fn insert(connection: &mut SqliteConnection, contact: &Contact) -> Result<i64, Trouble> {
    check_room(connection, 1).await?;
    check_label(connection, contact.label.as_deref(), None).await?;
    write(connection, contact).await
}

/// Whether so many more may come.
pub(super) async fn check_room(connection: &mut SqliteConnection, more: usize) -> Result<(), Trouble> {
    let count = sqlx::query("SELECT count(*) FROM contacts").fetch_one(&mut *connection).await?;
    if count.try_get::<i64, _>(0)?.saturating_add(more as i64) > MOST {
        return Err(Trouble::Conflict(format!("there can be {MOST} contacts at most")));
    }
    Ok(())
}

/// The same for one of many, where the caller knows that there is room, and that nobody else has the label.
pub(super) async fn write(connection: &mut SqliteConnection, contact: &Contact) -> Result<i64, Trouble> {
    let query = "INSERT INTO contacts (external_id, source, name, email, phone, company, notes, label, relationship_type, state,
        contacted_at, follow_up_date, deadline_date, contact_style, custom_frequency_days)
        VALUES (?, coalesce(?, 'manual'), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let result = sqlx::query(query)
        .bind(&contact.external_id)
        .bind(&contact.source)
        .bind(&contact.name)
        .bind(&contact.email)
        .bind(&contact.phone)
        .bind(&contact.company)
        .bind(&contact.notes)
        .bind(&contact.label)
        .bind(&contact.relationship_type)
        .bind(&contact.state)
        .bind(&contact.contacted_at)
        .bind(&contact.follow_up_date)
        .bind(&contact.deadline_date)
        .bind(if contact.contact_style.is_empty() { "periodic" } else { &contact.contact_style })
        .bind(contact.custom_frequency_days)
        .execute(connection)
        .await?;
    Ok(result.last_insert_rowid())
}

/// Writes what may be changed of somebody who is there, where nobody else has the label.
pub(super) async fn rewrite(connection: &mut SqliteConnection, contact: &Contact) -> Result<(), Trouble> {
    let query = "UPDATE contacts SET name = ?, email = ?, phone = ?, company = ?, notes = ?, label = ?, relationship_type = ?, state = ?,
        contacted_at = ?, follow_up_date = ?, deadline_date = ?, contact_style = ?, custom_frequency_days = ?, basic_memory_url = ?,
        last_bump_date = ?, bump_count = ?, archived = ?,
        archived_at = CASE WHEN ? THEN coalesce(archived_at, CURRENT_TIMESTAMP) END, updated_at = CURRENT_TIMESTAMP WHERE id = ?";
    sqlx::query(query)
        .bind(&contact.name)
        .bind(&contact.email)
        .bind(&contact.phone)
        .bind(&contact.company)
        .bind(&contact.notes)
        .bind(&contact.label)
        .bind(&contact.relationship_type)
        .bind(&contact.state)
        .bind(&contact.contacted_at)
        .bind(&contact.follow_up_date)
        .bind(&contact.deadline_date)
        .bind(&contact.contact_style)
        .bind(contact.custom_frequency_days)
        .bind(&contact.basic_memory_url)
        .bind(&contact.last_bump_date)
        .bind(contact.bump_count)
        .bind(contact.archived)
        .bind(contact.archived)
        .bind(contact.id)
        .execute(connection)
        .await?;
    Ok(())
}

/// A label means one contact, or logs would mean two.
pub(super) async fn check_label(connection: &mut SqliteConnection, label: Option<&str>, own: Option<i64>) -> Result<(), Trouble> {
    let Some(label) = label else { return Ok(()) };
    let find = "SELECT id FROM contacts WHERE label = ? COLLATE label AND id IS NOT ? LIMIT 1";
    match sqlx::query_scalar::<_, i64>(find).bind(label).bind(own).fetch_optional(connection).await? {
        Some(id) => Err(Trouble::Conflict(format!("the label {label:?} is that of contact {id} already"))),
        None => Ok(()),
    }
}

/// Whose each label is; of two who have the same, as another program allows, it is who had it first.
async fn labelled(connection: &mut SqliteConnection) -> Result<BTreeMap<String, i64>, Trouble> {
    let rows = sqlx::query("SELECT id, label FROM people WHERE label <> '' ORDER BY id").fetch_all(connection).await?;
    let mut all = BTreeMap::new();
    for row in rows {
        all.entry(plain_label(row.try_get(1)?)).or_insert(row.try_get(0)?);
    }
    Ok(all)
}

/// Notes that somebody was spoken with.
pub(super) async fn interact(
    connection: &mut SqliteConnection,
    id: i64,
    kind: &str,
    day: &str,
    notes: Option<&str>,
) -> Result<i64, Trouble> {
    let query = "INSERT INTO contact_interactions (contact_id, interaction_type, interaction_date, notes) VALUES (?, ?, ?, ?)";
    let result = sqlx::query(query).bind(id).bind(kind).bind(day).bind(notes).execute(connection).await?;
    Ok(result.last_insert_rowid())
}

/// When somebody was spoken with, the latest first.
pub(super) async fn interactions(connection: &mut SqliteConnection, id: i64, limit: usize) -> Result<Vec<Value>, Trouble> {
    let query = "SELECT id, interaction_type, substr(interaction_date, 1, 10), notes, substr(created_at, 1, 19)
        FROM contact_interactions WHERE contact_id = ? ORDER BY interaction_date DESC, id DESC LIMIT ?";
    let rows = sqlx::query(query).bind(id).bind(limit as i64).fetch_all(connection).await?;
    let read = rows.iter().map(|row| {
        Ok(json!({
            "id": row.try_get::<i64, _>(0)?,
            "interaction_type": row.try_get::<String, _>(1)?,
            "interaction_date": row.try_get::<String, _>(2)?,
            "notes": row.try_get::<Option<String>, _>(3)?,
            "created_at": row.try_get::<Option<String>, _>(4)?,
        }))
    });
    Ok(read.collect::<Result<_, sqlx::Error>>()?)
}

/// Writes a log, and links it to whom its labels mean: its id, who they are, and the labels that nobody has.
pub(super) async fn log(connection: &mut SqliteConnection, content: &str) -> Result<(i64, Vec<i64>, Vec<String>), Trouble> {
    let result = sqlx::query("INSERT INTO logs (content) VALUES (?)").bind(content).execute(&mut *connection).await?;
    let log = result.last_insert_rowid();
    let known = labelled(connection).await?;
    let (mut linked, mut unknown) = (Vec::new(), Vec::new());
    for mention in mentions(content) {
        let Some(id) = known.get(&mention) else {
            unknown.push(mention);
            continue;
        };
        sqlx::query("INSERT OR IGNORE INTO log_contacts (log_id, contact_id) VALUES (?, ?)")
            .bind(log)
            .bind(id)
            .execute(&mut *connection)
            .await?;
        linked.push(*id);
    }
    Ok((log, linked, unknown))
}

/// Logs, the latest first: of a contact, of the last days, with a text in letters of any size.
pub(super) async fn logs(
    connection: &mut SqliteConnection,
    of: Option<i64>,
    days: Option<i64>,
    text: &str,
    limit: usize,
) -> Result<Vec<Value>, Trouble> {
    let query = "SELECT id, content, substr(created_at, 1, 19),
            (SELECT group_concat(contact_id) FROM log_contacts WHERE log_id = logs.id)
        FROM logs WHERE (?1 IS NULL OR id IN (SELECT log_id FROM log_contacts WHERE contact_id = ?1))
            AND (?2 IS NULL OR created_at >= datetime('now', '-' || ?2 || ' days'))
            AND (?3 = '' OR content = ?4 COLLATE has)
        ORDER BY created_at DESC, id DESC LIMIT ?5";
    let rows = sqlx::query(query).bind(of).bind(days).bind(text).bind(sought(text)).bind(limit as i64).fetch_all(connection).await?;
    let mut found = Vec::new();
    for row in rows {
        let content: String = row.try_get(1)?;
        let ids: Option<String> = row.try_get(3)?;
        let ids: Vec<i64> = ids.iter().flat_map(|ids| ids.split(',')).filter_map(|id| id.parse().ok()).collect();
        let created: Option<String> = row.try_get(2)?;
        found.push(json!({"id": row.try_get::<i64, _>(0)?, "content": content, "created_at": created, "contact_ids": ids}));
    }
    Ok(found)
}

/// Removes somebody, and what is only theirs.
pub(super) async fn delete(connection: &mut SqliteConnection, id: i64) -> Result<(), Trouble> {
    // The tables of an older file may not do the first two by themselves.
    for query in [
        "DELETE FROM contact_interactions WHERE contact_id = ?",
        "DELETE FROM log_contacts WHERE contact_id = ?",
        "DELETE FROM contacts WHERE id = ?",
    ] {
        sqlx::query(query).bind(id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// What was of the one is of the other from now on.
pub(super) async fn hand_over(connection: &mut SqliteConnection, from: i64, to: i64) -> Result<(), Trouble> {
    sqlx::query("UPDATE contact_interactions SET contact_id = ? WHERE contact_id = ?")
        .bind(to)
        .bind(from)
        .execute(&mut *connection)
        .await?;
    let links = "INSERT OR IGNORE INTO log_contacts (log_id, contact_id) SELECT log_id, ? FROM log_contacts WHERE contact_id = ?";
    sqlx::query(links).bind(to).bind(from).execute(&mut *connection).await?;
    Ok(())
}
