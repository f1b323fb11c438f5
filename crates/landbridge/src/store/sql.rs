//! Records in a table, the same for every database.
//!
//! ```sql
//! records (kind, key, value, expires_s)   -- primary key (kind, key)
//! store_version (version)                 -- one row: how many steps brought the tables here
//! ```
//!
//! What a database says in its own way is its [`Dialect`]. Every statement stands alone, so that nothing
//! is held while somebody waits, and no two can lock each other out; only the steps are a transaction.

use std::fmt;
use std::time::Duration;

use sqlx::{ColumnIndex, Database, Decode, Encode, Executor, FromRow, IntoArguments, Pool, Type};

use super::{Kind, PAGE_RECORDS, Pending, Record, Store, Trouble, check, is_key};

/// How long a statement may take, with waiting for its connection.
pub(super) const STATEMENT: Duration = Duration::from_secs(15);
/// How long the steps may take, with waiting for another process that takes them.
const STEPS: Duration = Duration::from_secs(60);
/// How many records one statement sweeps. Others get their turn in between.
const SWEPT: u64 = 500;

/// What a database says in its own way.
pub(super) struct Dialect<DB: Database> {
    pub(super) name: &'static str,
    /// Begins a transaction that no other process is in until it ends.
    pub(super) begin: &'static str,
    /// 1 if there is a table `store_version`, else 0.
    pub(super) is_begun: &'static str,
    /// What makes the tables what they are, in order. Each is taken once for each database, ever: a
    /// released one never changes, and new ones are added at the end.
    pub(super) steps: &'static [&'static str],
    /// Removes up to `$2` records that have expired at `$1`.
    pub(super) sweep: &'static str,
    pub(super) n_affected: fn(&DB::QueryResult) -> u64,
}

/// See the module. Where there is one writer at a time, `writes` has one connection, so that writers
/// queue here and not at the file.
pub(super) struct Sql<DB: Database> {
    pub(super) reads: Pool<DB>,
    pub(super) writes: Pool<DB>,
    pub(super) dialect: &'static Dialect<DB>,
}

const GET: &str = "SELECT value, expires_s FROM records WHERE kind = $1 AND key = $2";
const PUT: &str = "INSERT INTO records (kind, key, value, expires_s) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, expires_s = excluded.expires_s";
const TAKE: &str = "DELETE FROM records WHERE kind = $1 AND key = $2 RETURNING value, expires_s";
const LIST: &str = "SELECT key, value, expires_s FROM records \
                    WHERE kind = $1 AND key > $2 AND (expires_s IS NULL OR expires_s > $3) ORDER BY key LIMIT $4";

impl<DB> Store for Sql<DB>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    for<'q> &'q str: Encode<'q, DB> + Type<DB>,
    for<'q> String: Encode<'q, DB> + Decode<'q, DB> + Type<DB>,
    for<'q> i64: Encode<'q, DB> + Decode<'q, DB> + Type<DB>,
    for<'q> Option<i64>: Encode<'q, DB> + Decode<'q, DB> + Type<DB>,
    for<'r> (String, Option<i64>): FromRow<'r, DB::Row>,
    for<'r> (String, String, Option<i64>): FromRow<'r, DB::Row>,
    usize: ColumnIndex<DB::Row>,
{
    fn get<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
        Box::pin(async move {
            if !is_key(key) {
                return Ok(None);
            }
            let query = sqlx::query_as::<DB, (String, Option<i64>)>(GET).bind(kind.name()).bind(key);
            Ok(in_time(query.fetch_optional(&self.reads)).await?.map(record).filter(|record| !record.is_over(now_s)))
        })
    }

    fn put<'a>(&'a self, kind: Kind, key: &'a str, record: Record) -> Pending<'a, ()> {
        Box::pin(async move {
            check(key, &record)?;
            let query = sqlx::query::<DB>(PUT).bind(kind.name()).bind(key).bind(record.value).bind(record.expires_s.map(seconds));
            in_time(query.execute(&self.writes)).await.map(drop)
        })
    }

    fn take<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
        Box::pin(async move {
            if !is_key(key) {
                return Ok(None);
            }
            let query = sqlx::query_as::<DB, (String, Option<i64>)>(TAKE).bind(kind.name()).bind(key);
            // All rows, of which there is one at most: until the statement has come to its end, it may not
            // have happened.
            let mut rows = in_time(query.fetch_all(&self.writes)).await?;
            Ok(rows.pop().map(record).filter(|record| !record.is_over(now_s)))
        })
    }

    fn list<'a>(&'a self, kind: Kind, after: &'a str, limit: usize, now_s: u64) -> Pending<'a, Vec<(String, Record)>> {
        Box::pin(async move {
            // What is no key may stand between two, except for a NUL, which Postgres does not read.
            let after = after.split('\0').next().unwrap_or_default();
            let query = sqlx::query_as::<DB, (String, String, Option<i64>)>(LIST);
            let query = query.bind(kind.name()).bind(after).bind(seconds(now_s)).bind(limit.min(PAGE_RECORDS) as i64);
            let rows = in_time(query.fetch_all(&self.reads)).await?;
            Ok(rows.into_iter().map(|(key, value, expires_s)| (key, record((value, expires_s)))).collect())
        })
    }

    fn sweep(&self, now_s: u64) -> Pending<'_, u64> {
        Box::pin(async move {
            let mut n_swept = 0;
            loop {
                let query = sqlx::query::<DB>(self.dialect.sweep).bind(seconds(now_s)).bind(SWEPT as i64);
                let n_affected = (self.dialect.n_affected)(&in_time(query.execute(&self.writes)).await?);
                n_swept += n_affected;
                if n_affected < SWEPT {
                    return Ok(n_swept);
                }
            }
        })
    }
}

impl<DB: Database> fmt::Debug for Sql<DB> {
    // A pool shows how it connects, with the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql").field("database", &self.dialect.name).finish_non_exhaustive()
    }
}

/// Why a database was not opened.
pub(super) enum Unopened {
    /// In its own words.
    Failed(sqlx::Error),
    /// In ours, to follow "the store at PLACE".
    Refused(String),
}

impl From<sqlx::Error> for Unopened {
    fn from(error: sqlx::Error) -> Unopened {
        Unopened::Failed(error)
    }
}

/// Brings the tables to where this version wants them, while every other process waits.
pub(super) async fn migrate<DB>(connection: &mut DB::Connection, dialect: &Dialect<DB>) -> Result<(), Unopened>
where
    DB: Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    DB::Arguments: IntoArguments<DB>,
    for<'q> i64: Encode<'q, DB> + Decode<'q, DB> + Type<DB>,
    for<'r> (i64,): FromRow<'r, DB::Row>,
{
    let steps = async {
        sqlx::raw_sql(dialect.begin).execute(&mut *connection).await?;
        let (is_begun,) = sqlx::query_as::<DB, (i64,)>(dialect.is_begun).fetch_one(&mut *connection).await?;
        if is_begun == 0 {
            sqlx::raw_sql("CREATE TABLE store_version (version BIGINT NOT NULL); INSERT INTO store_version VALUES (0)")
                .execute(&mut *connection)
                .await?;
        }
        let (version,) = sqlx::query_as::<DB, (i64,)>("SELECT version FROM store_version").fetch_one(&mut *connection).await?;
        let n_steps = dialect.steps.len();
        let Some(missing) = usize::try_from(version).ok().and_then(|version| dialect.steps.get(version..)) else {
            return Err(Unopened::Refused(format!(
                "was made by a newer Landbridge: its version is {version}, and this one knows {n_steps}; \
                 run the newer one, or give this one a store of its own"
            )));
        };
        for step in missing {
            sqlx::raw_sql(*step).execute(&mut *connection).await?;
        }
        if !missing.is_empty() {
            sqlx::query::<DB>("UPDATE store_version SET version = $1").bind(n_steps as i64).execute(&mut *connection).await?;
        }
        sqlx::raw_sql("COMMIT").execute(&mut *connection).await?;
        Ok(())
    };
    match tokio::time::timeout(STEPS, steps).await {
        Ok(done) => done,
        Err(_) => Err(Unopened::Refused(format!("did not answer within {} s", STEPS.as_secs()))),
    }
}

/// What the database says to this, if it says it in time.
async fn in_time<T>(statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Trouble> {
    match tokio::time::timeout(STATEMENT, statement).await {
        Ok(Ok(said)) => Ok(said),
        Ok(Err(error)) => Err(Trouble::Database(words(&error))),
        Err(_) => Err(Trouble::Database(format!("it did not answer within {} s", STATEMENT.as_secs()))),
    }
}

/// What a database's error says. Its details are left out: Postgres repeats values there.
pub(super) fn words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(said) => said.message().to_owned(),
        sqlx::Error::Io(e) => e.to_string(),
        sqlx::Error::PoolTimedOut => "no connection could be had in time; it is down, or has too much to do".to_owned(),
        other => other.to_string(),
    }
}

/// Seconds as databases count, which cannot count as far.
fn seconds(s: u64) -> i64 {
    i64::try_from(s).unwrap_or(i64::MAX)
}

fn record((value, expires_s): (String, Option<i64>)) -> Record {
    Record { value, expires_s: expires_s.map(|s| u64::try_from(s).unwrap_or(0)) }
}
