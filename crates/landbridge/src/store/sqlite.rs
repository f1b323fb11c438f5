//! Records in a file, which the processes of one machine may share.
//!
//! WAL lets everybody read while one writes. Every write is on the disk before we say so
//! (`synchronous=FULL`): after a power failure a code that was used must not be good again.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteQueryResult, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite};

use crate::home;

use super::sql::{Dialect, STATEMENT, Sql, Unopened, migrate, words};

/// How long one statement waits for another process's.
const BUSY: Duration = Duration::from_secs(5);
/// How long processes that begin a file at once get in each other's way.
const BEGINNING: Duration = Duration::from_secs(20);
/// How many read at a time.
const READERS: u32 = 4;

static DIALECT: Dialect<Sqlite> = Dialect {
    name: "sqlite",
    begin: "BEGIN IMMEDIATE",
    is_begun: "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'store_version'",
    steps: &["CREATE TABLE records (
                  kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, expires_s BIGINT,
                  PRIMARY KEY (kind, key)
              );
              CREATE INDEX records_expiring ON records (expires_s) WHERE expires_s IS NOT NULL"],
    sweep: "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE expires_s <= $1 LIMIT $2)",
    n_affected: SqliteQueryResult::rows_affected,
};

/// Opens the file at this path, and makes it if there is none.
pub(super) async fn open(path: &str) -> Result<Sql<Sqlite>, String> {
    if path.is_empty() || path.starts_with(":memory:") || path.contains('\0') {
        return Err("`sqlite:` is followed by the path of a file; `memory:` alone needs none".into());
    }
    // From the root, so that no path is read as an option or a URL, and it stays the same.
    let path = std::path::absolute(path).map_err(|e| format!("the store's path {path} cannot be used: {e}"))?;
    make(&path)?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .disable_statement_logging();

    // Two that turn the same new file to WAL do not wait for each other, whatever the timeout.
    let until = Instant::now() + BEGINNING;
    loop {
        match begin(&options).await {
            Ok(()) => break,
            Err(Unopened::Failed(e)) if is_busy(&e) && Instant::now() < until => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(unopened) => return Err(tell(&path, unopened)),
        }
    }
    // Nothing is wrong while writers queue for the one connection, so that they may do so to the end.
    let pool = SqlitePoolOptions::new()
        .acquire_timeout(STATEMENT)
        .acquire_slow_threshold(STATEMENT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false);
    Ok(Sql {
        reads: pool.clone().max_connections(READERS).connect_lazy_with(options.clone()),
        writes: pool.max_connections(1).connect_lazy_with(options),
        dialect: &DIALECT,
    })
}

/// Meets the file once, so that what is wrong with it is said now.
async fn begin(options: &SqliteConnectOptions) -> Result<(), Unopened> {
    let mut connection = options.connect().await?;
    let migrated = migrate(&mut connection, &DIALECT).await;
    let closed = connection.close().await;
    migrated?;
    Ok(closed?)
}

/// The file, for its owner only, in a directory for its owner only. SQLite gives its other two files the mode of the
/// first. What is there already stays as it is.
fn make(path: &Path) -> Result<(), String> {
    let cannot = |path: &Path, e: std::io::Error| format!("the store cannot be made at {}: {e}", path.display());
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        home::make(directory).map_err(|e| cannot(directory, e))?;
    }
    match home::private().create_new(true).open(path) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(cannot(path, e)),
    }
}

fn tell(path: &Path, unopened: Unopened) -> String {
    let path = path.display();
    match unopened {
        Unopened::Refused(why) => format!("the store at {path} {why}"),
        Unopened::Failed(e) if is_busy(&e) => format!("the store at {path} is locked by another program; end that, and try again"),
        Unopened::Failed(e) if matches!(code(&e), Some(CORRUPT | NOT_A_DATABASE)) => {
            format!(
                "the store at {path} is damaged, or no SQLite database ({}); restore it from a backup, or move it away to begin anew",
                words(&e)
            )
        }
        Unopened::Failed(e) => format!("the store at {path} cannot be opened: {}", words(&e)),
    }
}

// https://sqlite.org/rescode.html
const BUSY_CODE: u32 = 5;
const LOCKED: u32 = 6;
const CORRUPT: u32 = 11;
const NOT_A_DATABASE: u32 = 26;

/// The primary result code.
fn code(error: &sqlx::Error) -> Option<u32> {
    error.as_database_error()?.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

fn is_busy(error: &sqlx::Error) -> bool {
    matches!(code(error), Some(BUSY_CODE | LOCKED))
}
