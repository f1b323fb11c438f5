//! The SQLite file: many may read while one writes, and every change is one transaction that is on the disk before
//! anybody hears of it.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, Sqlite, Transaction};

use super::arguments::Trouble;
use super::people::{Contact, SELECT, mentions, plain_label};
use super::schema;

/// How long a statement waits for another process.
const BUSY: Duration = Duration::from_secs(5);
/// The most contacts there can be: every one is looked at by a search.
pub(super) const MOST: i64 = 100_000;

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    reads: SqlitePool,
    writes: SqlitePool,
}

/// A change.
pub(super) type Change = Transaction<'static, Sqlite>;

impl Store {
    /// Opens it, and makes it if there is none.
    pub(super) async fn open(path: &Path) -> Result<Store, String> {
        let told = |e: &dyn std::fmt::Display| format!("CONTACTS_DB_PATH: the contacts at {} cannot be opened: {e}", path.display());
        let path_of = std::path::absolute(path).map_err(|e| told(&e))?;
        if let Some(dir) = path_of.parent() {
            std::fs::create_dir_all(dir).map_err(|e| told(&e))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(&path_of)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let mut connection = options.clone().foreign_keys(false).connect().await.map_err(|e| told(&e))?;
        #[cfg(unix)]
        {
            // It is nobody else's business whom somebody knows.
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path_of, std::fs::Permissions::from_mode(0o600)).map_err(|e| told(&e))?;
        }
        let copy = format!("{}.before", path_of.display());
        let migrated = schema::migrate(&mut connection, &copy).await;
        let closed = connection.close().await;
        migrated.and(closed).map_err(|e| told(&e))?;
        let pool = || SqlitePoolOptions::new().acquire_timeout(Duration::from_secs(10)).idle_timeout(None).max_lifetime(None);
        Ok(Store {
            reads: pool().max_connections(4).connect_lazy_with(options.clone()),
            writes: pool().max_connections(1).connect_lazy_with(options),
        })
    }

    /// Begins a change. Nothing of it happens unless it is committed.
    pub(super) async fn change(&self) -> Result<Change, Trouble> {
        Ok(self.writes.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Somebody to read by.
    pub(super) async fn read(&self) -> Result<sqlx::pool::PoolConnection<Sqlite>, Trouble> {
        Ok(self.reads.acquire().await?)
    }

    /// Everybody, by name.
    pub(super) async fn all(&self) -> Result<Vec<Contact>, Trouble> {
        let mut connection = self.read().await?;
        all(&mut connection).await
    }

    pub(super) async fn contact(&self, id: i64) -> Result<Contact, Trouble> {
        let mut connection = self.read().await?;
        contact(&mut connection, id).await
    }
}

/// Everybody, by name.
pub(super) async fn all(connection: &mut SqliteConnection) -> Result<Vec<Contact>, Trouble> {
    let query = format!("{SELECT} ORDER BY name COLLATE NOCASE, id LIMIT {MOST}");
    let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(connection).await?;
    Ok(rows.iter().map(Contact::read).collect::<Result<_, _>>()?)
}

pub(super) async fn contact(connection: &mut SqliteConnection, id: i64) -> Result<Contact, Trouble> {
    let row = sqlx::query(AssertSqlSafe(format!("{SELECT} WHERE id = ?"))).bind(id).fetch_optional(connection).await?;
    let row = row.ok_or_else(|| Trouble::Missing(format!("contact {id} was not found; search_contacts finds ids")))?;
    Ok(Contact::read(&row)?)
}

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

/// Writes what may be changed of somebody who is there.
pub(super) async fn update(connection: &mut SqliteConnection, contact: &Contact) -> Result<(), Trouble> {
    check_label(connection, contact.label.as_deref(), Some(contact.id)).await?;
    rewrite(connection, contact).await
}

/// The same where the caller knows that nobody else has the label.
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
async fn check_label(connection: &mut SqliteConnection, label: Option<&str>, own: Option<i64>) -> Result<(), Trouble> {
    let Some(label) = label else { return Ok(()) };
    let plain = plain_label(label);
    match labelled(connection).await?.into_iter().find(|(id, theirs)| *theirs == plain && Some(*id) != own) {
        Some((id, _)) => Err(Trouble::Conflict(format!("the label {label:?} is that of contact {id} already"))),
        None => Ok(()),
    }
}

/// Who has a label, and which.
async fn labelled(connection: &mut SqliteConnection) -> Result<Vec<(i64, String)>, Trouble> {
    let rows = sqlx::query("SELECT id, label FROM contacts WHERE label IS NOT NULL AND label <> ''").fetch_all(connection).await?;
    let read = rows.iter().map(|row| Ok((row.try_get(0)?, plain_label(row.try_get(1)?))));
    Ok(read.collect::<Result<_, sqlx::Error>>()?)
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
        let Some((id, _)) = known.iter().find(|(_, label)| *label == mention) else {
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

/// Logs, the latest first: of a contact, of the last days, with a text in lower case.
pub(super) async fn logs(
    connection: &mut SqliteConnection,
    of: Option<i64>,
    days: Option<i64>,
    text: Option<&str>,
    limit: usize,
) -> Result<Vec<Value>, Trouble> {
    let query = "SELECT id, content, substr(created_at, 1, 19),
            (SELECT group_concat(contact_id) FROM log_contacts WHERE log_id = logs.id)
        FROM logs WHERE (?1 IS NULL OR id IN (SELECT log_id FROM log_contacts WHERE contact_id = ?1))
            AND (?2 IS NULL OR created_at >= datetime('now', '-' || ?2 || ' days'))
        ORDER BY created_at DESC, id DESC LIMIT ?3";
    // What is looked for is compared here: SQLite knows no letters but those of English.
    let most = if text.is_some() { MOST } else { limit as i64 };
    let rows = sqlx::query(query).bind(of).bind(days).bind(most).fetch_all(connection).await?;
    let mut found = Vec::new();
    for row in rows {
        let content: String = row.try_get(1)?;
        if text.is_some_and(|text| !content.to_lowercase().contains(text)) {
            continue;
        }
        let ids: Option<String> = row.try_get(3)?;
        let ids: Vec<i64> = ids.iter().flat_map(|ids| ids.split(',')).filter_map(|id| id.parse().ok()).collect();
        let created: Option<String> = row.try_get(2)?;
        found.push(json!({"id": row.try_get::<i64, _>(0)?, "content": content, "created_at": created, "contact_ids": ids}));
        if found.len() == limit {
            break;
        }
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
