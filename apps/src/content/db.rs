//! What is known of contents, in SQLite or Postgres.
//!
//! ```sql
//! content (seq, id, owner, tenant, …, derive, words)   -- derive: 1 wants pictures made of it, 2 they are being made
//!         (…, deleted_ms, purge_ms)                    -- purge_ms: from when on its bytes, and then it, are to be removed
//! content_tags (id, tag)
//! content_fts (words)                                  -- SQLite: by its seq, kept by triggers
//! ```
//!
//! Statements are the same for both but for the search. All of them name whose contents they are about.

use std::time::Duration;

use sqlx::postgres::{PgPoolOptions, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ColumnIndex, Decode, Pool, Row, Type};

use super::model::{Content, Status, Trouble, Who, now_ms};

/// How long a statement may take, with waiting for its turn.
const STATEMENT: Duration = Duration::from_secs(15);
/// What is not done after so long was given up by a program that has ended.
const STALE_MS: i64 = 10 * 60_000;

const COLUMNS: &str = "id, owner, tenant, name, description, document_type, status, derivation_type, parent, variant, file_name, \
    file_size, checksum, tags, metadata, backend, object_key, failure, created_ms, updated_ms, deleted_ms";

const TABLE: &str = "id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, tenant TEXT NOT NULL, name TEXT NOT NULL, description TEXT NOT NULL,
    document_type TEXT NOT NULL, status TEXT NOT NULL, derivation_type TEXT NOT NULL, parent TEXT NOT NULL, variant TEXT NOT NULL,
    file_name TEXT NOT NULL, file_size BIGINT NOT NULL, checksum TEXT NOT NULL, tags TEXT NOT NULL, metadata TEXT NOT NULL,
    backend TEXT NOT NULL, object_key TEXT NOT NULL, failure TEXT NOT NULL, created_ms BIGINT NOT NULL, updated_ms BIGINT NOT NULL,
    deleted_ms BIGINT NOT NULL, derive BIGINT NOT NULL, words TEXT NOT NULL);
    CREATE INDEX content_of ON content (owner, tenant, created_ms);
    CREATE INDEX content_by_status ON content (status, created_ms);
    CREATE UNIQUE INDEX content_derived ON content (parent, variant) WHERE parent <> '';
    CREATE INDEX content_wanting ON content (derive) WHERE derive <> 0;";

/// What made the tables what they are, in order; a released step never changes.
fn steps(is_postgres: bool) -> [String; 3] {
    let purge = "ALTER TABLE content ADD COLUMN purge_ms BIGINT NOT NULL DEFAULT 0;
                 CREATE INDEX content_deleted ON content (deleted_ms) WHERE deleted_ms > 0;
                 CREATE INDEX content_of_object ON content (object_key);";
    let tags = "CREATE TABLE content_tags (id TEXT NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (id, tag)); \
                CREATE INDEX content_tagged ON content_tags (tag);";
    if is_postgres {
        [
            format!(
                "CREATE TABLE content (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {TABLE}
                 CREATE INDEX content_words ON content USING GIN (to_tsvector('simple', words))"
            ),
            format!("{tags} INSERT INTO content_tags SELECT DISTINCT id, json_array_elements_text(tags::json) FROM content"),
            purge.to_owned(),
        ]
    } else {
        [
            format!(
                "CREATE TABLE content (seq INTEGER PRIMARY KEY, {TABLE}
                 CREATE VIRTUAL TABLE content_fts USING fts5(words);
                 CREATE TRIGGER content_added AFTER INSERT ON content BEGIN
                     INSERT INTO content_fts (rowid, words) VALUES (new.seq, new.words);
                 END;
                 CREATE TRIGGER content_changed AFTER UPDATE OF words ON content BEGIN
                     UPDATE content_fts SET words = new.words WHERE rowid = new.seq;
                 END"
            ),
            format!("{tags} INSERT OR IGNORE INTO content_tags SELECT content.id, value FROM content, json_each(content.tags)"),
            format!(
                "{purge} CREATE TRIGGER content_removed AFTER DELETE ON content BEGIN
                     DELETE FROM content_fts WHERE rowid = old.seq;
                 END"
            ),
        ]
    }
}

/// A statement and what goes into it.
#[derive(Debug, Default)]
pub(super) struct Query {
    text: String,
    args: Vec<Arg>,
}

/// A value of a statement.
#[derive(Debug)]
pub(super) enum Arg {
    Text(String),
    Int(i64),
}

impl From<&str> for Arg {
    fn from(text: &str) -> Arg {
        // Postgres has no NUL in its texts.
        Arg::Text(text.replace('\0', " "))
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Arg {
        Arg::Int(number)
    }
}

impl Query {
    pub(super) fn new(text: impl Into<String>) -> Query {
        Query { text: text.into(), args: Vec::new() }
    }

    pub(super) fn push(mut self, text: &str) -> Query {
        self.text.push_str(text);
        self
    }

    pub(super) fn arg(mut self, value: impl Into<Arg>) -> Query {
        self.args.push(value.into());
        self.text.push_str(&format!("${}", self.args.len()));
        self
    }

    fn args<'a>(mut self, values: impl IntoIterator<Item = &'a str>) -> Query {
        for (n, value) in values.into_iter().enumerate() {
            self = self.push(if n > 0 { ", " } else { "" }).arg(value);
        }
        self
    }

    /// Nothing that somebody else owns.
    fn of(self, who: &Who) -> Query {
        match who {
            Who::Anyone => self,
            Who::Nobody => self.push(" AND 1 = 0"),
            Who::Owner { owner, tenant } => {
                let query = self.push(" AND owner = ").arg(owner.as_str());
                match tenant {
                    Some(tenant) => query.push(" AND tenant = ").arg(tenant.as_str()),
                    None => query,
                }
            }
        }
    }
}

/// What contents are looked for.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) owner: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) statuses: Vec<Status>,
    pub(super) tags: Vec<String>,
    pub(super) words: Vec<String>,
    pub(super) created_after_ms: Option<i64>,
    pub(super) created_before_ms: Option<i64>,
    pub(super) parent: Option<String>,
    pub(super) derivation_type: Option<String>,
    pub(super) variants: Vec<String>,
    /// Derived ones as well.
    pub(super) all: bool,
    pub(super) limit: i64,
    pub(super) offset: i64,
}

/// The database.
#[derive(Debug)]
pub(super) enum Db {
    Sqlite { reads: Pool<Sqlite>, writes: Pool<Sqlite> },
    Postgres(Pool<Postgres>),
}

/// The same on either pool; `D` is its database.
macro_rules! on {
    ($db:expr, $which:ident, $pool:ident => $body:expr) => {
        match $db {
            Db::Sqlite { $which: $pool, .. } => {
                type D = Sqlite;
                $body
            }
            Db::Postgres($pool) => {
                type D = Postgres;
                $body
            }
        }
    };
}

macro_rules! query {
    ($query:expr) => {{
        let mut query = sqlx::query::<D>(AssertSqlSafe($query.text));
        for arg in $query.args {
            query = match arg {
                Arg::Text(text) => query.bind(text),
                Arg::Int(number) => query.bind(number),
            };
        }
        query
    }};
}

impl Db {
    /// `sqlite:PATH` or `postgres://…`.
    pub(super) async fn open(url: &str) -> Result<Db, String> {
        let db = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let pool = PgPoolOptions::new().max_connections(8).acquire_timeout(STATEMENT).connect(url);
            Db::Postgres(pool.await.map_err(|e| format!("the database of DATABASE_URL cannot be reached: {}", said(&e)))?)
        } else if let Some(path) = url.strip_prefix("sqlite:") {
            let path = std::path::PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
                std::fs::create_dir_all(directory).map_err(|e| format!("DATABASE_URL: {} cannot be made: {e}", directory.display()))?;
            }
            let options = SqliteConnectOptions::new()
                .filename(&path)
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(Duration::from_secs(10));
            let pool = || SqlitePoolOptions::new().acquire_timeout(STATEMENT);
            let cannot = |e: sqlx::Error| format!("the database {} cannot be opened: {}", path.display(), said(&e));
            let writes = pool().max_connections(1).connect_with(options.clone()).await.map_err(cannot)?;
            Db::Sqlite { reads: pool().max_connections(4).connect_lazy_with(options), writes }
        } else {
            return Err("DATABASE_URL is neither sqlite:PATH nor postgres://…".into());
        };
        db.migrate().await.map_err(|e| format!("the database cannot be brought up to date: {e}"))?;
        Ok(db)
    }

    async fn migrate(&self) -> Result<(), String> {
        let steps = steps(matches!(self, Db::Postgres(_)));
        let lock = match self {
            Db::Sqlite { .. } => "BEGIN IMMEDIATE",
            Db::Postgres(_) => "BEGIN; SELECT pg_advisory_xact_lock(6020112)",
        };
        on!(self, writes, pool => {
            let mut connection = pool.acquire().await.map_err(|e| said(&e))?;
            let all = async {
                sqlx::raw_sql(lock).execute(&mut *connection).await?;
                sqlx::raw_sql("CREATE TABLE IF NOT EXISTS content_version (version BIGINT NOT NULL)").execute(&mut *connection).await?;
                let version: Option<i64> =
                    sqlx::query_scalar::<D, i64>("SELECT version FROM content_version").fetch_optional(&mut *connection).await?;
                let done = usize::try_from(version.unwrap_or(0)).unwrap_or(0);
                if done > steps.len() {
                    return Ok(false);
                }
                for step in steps.iter().skip(done) {
                    sqlx::raw_sql(AssertSqlSafe(step.as_str())).execute(&mut *connection).await?;
                }
                let to = format!("DELETE FROM content_version; INSERT INTO content_version VALUES ({}); COMMIT", steps.len());
                sqlx::raw_sql(AssertSqlSafe(to)).execute(&mut *connection).await?;
                Ok::<bool, sqlx::Error>(true)
            };
            match all.await {
                Ok(true) => Ok(()),
                Ok(false) => Err("it is of a newer version than this program".into()),
                Err(e) => Err(said(&e)),
            }
        })
    }

    /// All of these or none; how many rows the first has changed.
    async fn change(&self, queries: Vec<Query>) -> Result<u64, Trouble> {
        self.changed(queries, false).await
    }

    /// The same, and none where the first changes nothing.
    async fn change_if_first(&self, queries: Vec<Query>) -> Result<u64, Trouble> {
        self.changed(queries, true).await
    }

    async fn changed(&self, queries: Vec<Query>, needs_first: bool) -> Result<u64, Trouble> {
        in_time(async {
            on!(self, writes, pool => {
                let mut transaction = pool.begin().await?;
                let mut first = None;
                for one in queries {
                    let done = query!(one).execute(&mut *transaction).await?;
                    if *first.get_or_insert(done.rows_affected()) == 0 && needs_first {
                        return Ok(0);
                    }
                }
                transaction.commit().await?;
                Ok(first.unwrap_or(0))
            })
        })
        .await
    }

    async fn contents(&self, one: Query) -> Result<Vec<Content>, Trouble> {
        in_time(async {
            on!(self, reads, pool => {
                let rows = query!(one).fetch_all(pool).await?;
                rows.iter().map(read).collect::<Result<Vec<_>, _>>()
            })
        })
        .await
    }

    async fn pairs(&self, one: Query) -> Result<Vec<(String, i64)>, Trouble> {
        in_time(async {
            on!(self, reads, pool => {
                let rows = query!(one).fetch_all(pool).await?;
                rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<Vec<_>, _>>()
            })
        })
        .await
    }

    /// One more. `words`: what it is found by.
    pub(super) async fn add(&self, content: &Content, words: &str) -> Result<(), Trouble> {
        let tags = serde_json::to_string(&content.tags).unwrap_or_default();
        let metadata = serde_json::to_string(&content.metadata).unwrap_or_default();
        let texts = [
            content.id.as_str(),
            &content.owner,
            &content.tenant,
            &content.name,
            &content.description,
            &content.document_type,
            content.status.name(),
            &content.derivation_type,
            &content.parent,
            &content.variant,
            &content.file_name,
        ];
        let insert = Query::new(format!("INSERT INTO content ({COLUMNS}, derive, words) VALUES (")).args(texts);
        let insert = insert.push(", ").arg(content.file_size).push(", ").args([
            content.checksum.as_str(),
            &tags,
            &metadata,
            &content.backend,
            &content.object_key,
            &content.failure,
        ]);
        let insert = insert.push(", ").arg(content.created_ms).push(", ").arg(content.updated_ms).push(", ").arg(content.deleted_ms);
        let insert = insert.push(", 0, ").arg(words).push(") ON CONFLICT DO NOTHING");
        let mut all = vec![insert];
        all.extend(tagged(&content.id, &content.tags));
        self.change(all).await.map(drop)
    }

    /// The content of that id that they may see.
    pub(super) async fn find(&self, who: &Who, id: &str) -> Result<Content, Trouble> {
        let query = Query::new(format!("SELECT {COLUMNS} FROM content WHERE deleted_ms = 0 AND id = ")).arg(id).of(who);
        self.contents(query).await?.pop().ok_or_else(|| Trouble::NotFound(id.to_owned()))
    }

    /// Those that fit, the newest first, and how many there are.
    pub(super) async fn list(&self, who: &Who, filter: &Filter) -> Result<(Vec<Content>, i64), Trouble> {
        let page = self.matching(Query::new(format!("SELECT {COLUMNS} FROM content WHERE deleted_ms = 0")), who, filter);
        let page = page.push(" ORDER BY created_ms DESC, seq DESC LIMIT ").arg(filter.limit).push(" OFFSET ").arg(filter.offset);
        let count = self.matching(Query::new("SELECT 'all', count(*) FROM content WHERE deleted_ms = 0"), who, filter);
        let (page, count) = (self.contents(page).await?, self.pairs(count).await?);
        Ok((page, count.first().map_or(0, |(_, count)| *count)))
    }

    fn matching(&self, query: Query, who: &Who, filter: &Filter) -> Query {
        let mut query = query.of(who);
        let texts = [
            ("owner", &filter.owner),
            ("tenant", &filter.tenant),
            ("parent", &filter.parent),
            ("derivation_type", &filter.derivation_type),
        ];
        for (column, value) in texts {
            if let Some(value) = value {
                query = query.push(&format!(" AND {column} = ")).arg(value.as_str());
            }
        }
        if !filter.all && filter.parent.is_none() {
            query = query.push(" AND parent = ''");
        }
        if !filter.statuses.is_empty() {
            query = query.push(" AND status IN (").args(filter.statuses.iter().map(|status| status.name())).push(")");
        }
        if !filter.variants.is_empty() {
            query = query.push(" AND variant IN (").args(filter.variants.iter().map(String::as_str)).push(")");
        }
        for tag in &filter.tags {
            query = query.push(" AND id IN (SELECT id FROM content_tags WHERE tag = ").arg(tag.as_str()).push(")");
        }
        if let Some(ms) = filter.created_after_ms {
            query = query.push(" AND created_ms > ").arg(ms);
        }
        if let Some(ms) = filter.created_before_ms {
            query = query.push(" AND created_ms < ").arg(ms);
        }
        if !filter.words.is_empty() {
            // Words have letters and digits only: nothing in them is syntax.
            query = match self {
                Db::Sqlite { .. } => {
                    let all: Vec<String> = filter.words.iter().map(|word| format!("\"{word}\"*")).collect();
                    let all = all.join(" ");
                    query.push(" AND seq IN (SELECT rowid FROM content_fts WHERE content_fts MATCH ").arg(all.as_str()).push(")")
                }
                Db::Postgres(_) => {
                    let all: Vec<String> = filter.words.iter().map(|word| format!("{word}:*")).collect();
                    let all = all.join(" & ");
                    query.push(" AND to_tsvector('simple', words) @@ to_tsquery('simple', ").arg(all.as_str()).push(")")
                }
            };
        }
        query
    }

    /// How many there are of each status.
    pub(super) async fn counts(&self, who: &Who) -> Result<Vec<(String, i64)>, Trouble> {
        let query = Query::new("SELECT status, count(*) FROM content WHERE deleted_ms = 0").of(who);
        self.pairs(query.push(" GROUP BY status ORDER BY status")).await
    }

    /// What a content is called, and is found by; false if it is not any more what it was `before`.
    pub(super) async fn describe(&self, content: &Content, words: &str, before: &Content) -> Result<bool, Trouble> {
        let texts = |content: &Content| {
            let written = (serde_json::to_string(&content.tags), serde_json::to_string(&content.metadata));
            (written.0.unwrap_or_default(), written.1.unwrap_or_default())
        };
        let ((tags, metadata), (old_tags, old_metadata)) = (texts(content), texts(before));
        let mut update = Query::new("UPDATE content SET updated_ms = ").arg(content.updated_ms);
        let columns = [
            ("name", content.name.as_str()),
            ("description", &content.description),
            ("tags", &tags),
            ("metadata", &metadata),
            ("words", words),
        ];
        for (column, value) in columns {
            update = update.push(&format!(", {column} = ")).arg(value);
        }
        let mut update = update.push(" WHERE deleted_ms = 0 AND id = ").arg(content.id.as_str());
        let was = [("name", before.name.as_str()), ("description", &before.description), ("tags", &old_tags), ("metadata", &old_metadata)];
        for (column, value) in was {
            update = update.push(&format!(" AND {column} = ")).arg(value);
        }
        let forget = Query::new("DELETE FROM content_tags WHERE id = ").arg(content.id.as_str());
        let mut all = vec![update, forget];
        all.extend(tagged(&content.id, &content.tags));
        Ok(self.change_if_first(all).await? > 0)
    }

    /// From one of these statuses to another; whether it was in one of them. `stored`: size, type and checksum of what
    /// is there now.
    pub(super) async fn turn(
        &self,
        id: &str,
        from: &[Status],
        to: Status,
        failure: &str,
        stored: Option<Stored<'_>>,
    ) -> Result<bool, Trouble> {
        let mut update = Query::new("UPDATE content SET status = ").arg(to.name()).push(", updated_ms = ").arg(now_ms());
        update = update.push(", failure = ").arg(failure);
        if let Some(stored) = stored {
            update = update.push(", file_size = ").arg(stored.size).push(", checksum = ").arg(stored.checksum);
            update = update.push(", document_type = ").arg(stored.document_type).push(", derive = ").arg(i64::from(stored.derives));
        }
        let update = update.push(" WHERE deleted_ms = 0 AND id = ").arg(id).push(" AND status IN (");
        let update = update.args(from.iter().map(|status| status.name())).push(")");
        Ok(self.change(vec![update]).await? > 0)
    }

    /// Takes a content and what was derived from it out of sight, unless it is being processed.
    pub(super) async fn delete(&self, id: &str, at_ms: i64) -> Result<bool, Trouble> {
        let one = Query::new("UPDATE content SET derive = 0, deleted_ms = ").arg(at_ms).push(" WHERE deleted_ms = 0 AND id = ").arg(id);
        let one = one.push(" AND status <> 'processing'");
        let derived = Query::new("UPDATE content SET deleted_ms = ").arg(at_ms).push(" WHERE deleted_ms = 0 AND parent = ").arg(id);
        let derived =
            derived.push(" AND EXISTS (SELECT 1 FROM content AS above WHERE above.deleted_ms > 0 AND above.id = ").arg(id).push(")");
        Ok(self.change(vec![one, derived]).await? > 0)
    }

    // --- in time ---------------------------------------------------------------------------------

    /// What was derived from a content that is deleted, by a program that did not come to its end.
    pub(super) async fn forget_orphans(&self, at_ms: i64) -> Result<u64, Trouble> {
        let query = Query::new("UPDATE content SET deleted_ms = ").arg(at_ms).push(
            " WHERE deleted_ms = 0 AND parent <> '' \
             AND NOT EXISTS (SELECT 1 FROM content AS above WHERE above.id = content.parent AND above.deleted_ms = 0)",
        );
        self.change(vec![query]).await
    }

    /// Archives contents that nobody has changed since then: how many.
    pub(super) async fn archive(&self, before_ms: i64, limit: i64) -> Result<u64, Trouble> {
        let query = Query::new("UPDATE content SET status = 'archived', updated_ms = ").arg(now_ms());
        let query = query.push(" WHERE deleted_ms = 0 AND status = 'uploaded' AND id IN (SELECT id FROM content WHERE ");
        let query = query.push("status = 'uploaded' AND parent = '' AND derive = 0 AND deleted_ms = 0 AND updated_ms < ").arg(before_ms);
        self.change(vec![query.push(" LIMIT ").arg(limit).push(")")]).await
    }

    /// What was deleted before that is to be removed, unless somebody else's bytes would go with it.
    pub(super) async fn condemn(&self, before_ms: i64, now_ms: i64, limit: i64) -> Result<u64, Trouble> {
        let query = Query::new("UPDATE content SET purge_ms = ").arg(now_ms);
        let query =
            query.push(" WHERE purge_ms = 0 AND id IN (SELECT id FROM content WHERE deleted_ms > 0 AND purge_ms = 0 AND deleted_ms < ");
        let query = query.arg(before_ms).push(
            " AND NOT EXISTS (SELECT 1 FROM content AS other WHERE other.object_key = content.object_key \
             AND other.backend = content.backend AND other.deleted_ms = 0) LIMIT ",
        );
        self.change(vec![query.arg(limit).push(")")]).await
    }

    /// What is to be removed by now.
    pub(super) async fn condemned(&self, now_ms: i64, limit: i64) -> Result<Vec<Content>, Trouble> {
        let query = Query::new(format!("SELECT {COLUMNS} FROM content WHERE deleted_ms > 0 AND purge_ms > 0 AND purge_ms <= "));
        self.contents(query.arg(now_ms).push(" ORDER BY purge_ms LIMIT ").arg(limit)).await
    }

    /// To be removed later.
    pub(super) async fn put_off(&self, id: &str, until_ms: i64) -> Result<(), Trouble> {
        let query = Query::new("UPDATE content SET purge_ms = ").arg(until_ms).push(" WHERE purge_ms > 0 AND id = ").arg(id);
        self.change(vec![query]).await.map(drop)
    }

    /// Its bytes are gone, and now it is.
    pub(super) async fn erase(&self, id: &str) -> Result<(), Trouble> {
        let row = Query::new("DELETE FROM content WHERE purge_ms > 0 AND deleted_ms > 0 AND id = ").arg(id);
        let tags = Query::new("DELETE FROM content_tags WHERE id = ").arg(id);
        self.change(vec![row, tags]).await.map(drop)
    }

    /// Contents that want pictures made of them.
    pub(super) async fn wanting(&self, limit: i64) -> Result<Vec<Content>, Trouble> {
        let query = Query::new(format!("SELECT {COLUMNS} FROM content WHERE derive = 1 AND deleted_ms = 0 ORDER BY seq LIMIT ")).arg(limit);
        self.contents(query).await
    }

    /// Marks one as being worked at, or as done; whether it was what it should have been.
    pub(super) async fn mark(&self, id: &str, from: i64, to: i64) -> Result<bool, Trouble> {
        let query = Query::new("UPDATE content SET derive = ").arg(to).push(" WHERE id = ").arg(id).push(" AND derive = ").arg(from);
        Ok(self.change(vec![query]).await? > 0)
    }

    /// Takes up what a program left that has ended. `all`: nobody else is at it.
    pub(super) async fn recover(&self, all: bool) -> Result<(), Trouble> {
        let before = if all { i64::MAX } else { now_ms() - STALE_MS };
        let failed = Query::new(
            "UPDATE content SET status = 'failed', failure = 'the server ended before it was stored' \
                                 WHERE parent = '' AND status IN ('created', 'uploading') AND updated_ms < ",
        )
        .arg(before);
        let again = Query::new("UPDATE content SET derive = 1 WHERE derive = 2 AND updated_ms < ").arg(before);
        self.change(vec![failed, again]).await.map(drop)
    }

    /// Whether it answers.
    pub(super) async fn is_there(&self) -> bool {
        self.pairs(Query::new("SELECT 'here', count(*) FROM content_version")).await.is_ok()
    }

    /// Whether another program may use the same one.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Db::Postgres(_))
    }
}

/// What was stored of a content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'s> {
    pub(super) size: i64,
    pub(super) checksum: &'s str,
    pub(super) document_type: &'s str,
    pub(super) derives: bool,
}

fn tagged<'a>(id: &'a str, tags: &'a [String]) -> impl Iterator<Item = Query> + 'a {
    tags.iter().map(move |tag| Query::new("INSERT INTO content_tags (id, tag) VALUES (").args([id, tag]).push(") ON CONFLICT DO NOTHING"))
}

fn read<'r, R: Row>(row: &'r R) -> Result<Content, sqlx::Error>
where
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let text = |n: usize| row.try_get::<String, _>(n);
    Ok(Content {
        id: text(0)?,
        owner: text(1)?,
        tenant: text(2)?,
        name: text(3)?,
        description: text(4)?,
        document_type: text(5)?,
        status: Status::read(&text(6)?).unwrap_or(Status::Failed),
        derivation_type: text(7)?,
        parent: text(8)?,
        variant: text(9)?,
        file_name: text(10)?,
        file_size: row.try_get(11)?,
        checksum: text(12)?,
        tags: serde_json::from_str(&text(13)?).unwrap_or_default(),
        metadata: serde_json::from_str(&text(14)?).unwrap_or_default(),
        backend: text(15)?,
        object_key: text(16)?,
        failure: text(17)?,
        created_ms: row.try_get(18)?,
        updated_ms: row.try_get(19)?,
        deleted_ms: row.try_get(20)?,
    })
}

async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(STATEMENT, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(e)) => Err(Trouble::Internal(format!("the database: {}", said(&e)))),
        Err(_) => Err(Trouble::Internal("the database did not answer in time".into())),
    }
}

/// What the database says, without the values of the statement.
fn said(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
