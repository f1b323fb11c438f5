//! What has to survive a restart, and be the same for every process: records of text, by kind and key.
//!
//! Whoever writes a record decides what is in it, as JSON; nothing here reads it. There are five
//! verbs, over memory ([`memory:`](open)), SQLite and Postgres:
//!
//! ```text
//!   get    reads                        take   reads and removes, for one caller only
//!   put    writes, or writes anew       list   reads page by page
//!                                       sweep  removes what has expired
//! ```
//!
//! `take` is what makes codes and refresh tokens single-use: of all tasks in all processes that ask for
//! the same record, one gets it. A caller that stops waiting for its `take` may have taken the record
//! nevertheless; it is then had by nobody, never by two.
//!
//! The clock is the caller's. Seconds are those since 1970, as in tokens.

mod memory;
mod postgres;
mod sql;
mod sqlite;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use crate::home;

/// The most bytes of a key. Longer ones would not fit an index of Postgres.
pub const KEY_BYTES: usize = 2048;
/// The most bytes of a value.
pub const VALUE_BYTES: usize = 256 * 1024;
/// The most records in one page of [`Store::list`].
pub const PAGE_RECORDS: usize = 1000;

/// What a record is about. Each kind has keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An authorization code, by its hash.
    Code,
    /// An access token, by its hash.
    Access,
    /// A refresh token, by its hash.
    Refresh,
    /// What a user allowed a client.
    Grant,
    /// A client that registered.
    Client,
    /// An API key, by its hash.
    Key,
    /// A user.
    User,
    /// A login that has begun, and not ended.
    Login,
    /// A user's tokens at a backend.
    Vault,
    /// A document that was fetched from elsewhere, kept for a while.
    Document,
}

impl Kind {
    /// Every kind. New ones are added at the end.
    pub const ALL: [Kind; 10] = [
        Kind::Code,
        Kind::Access,
        Kind::Refresh,
        Kind::Grant,
        Kind::Client,
        Kind::Key,
        Kind::User,
        Kind::Login,
        Kind::Vault,
        Kind::Document,
    ];

    /// Its name in the database. Never changes.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Code => "code",
            Kind::Access => "access",
            Kind::Refresh => "refresh",
            Kind::Grant => "grant",
            Kind::Client => "client",
            Kind::Key => "key",
            Kind::User => "user",
            Kind::Login => "login",
            Kind::Vault => "vault",
            Kind::Document => "document",
        }
    }
}

/// One record, as it was put.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// At most [`VALUE_BYTES`] of text, without NUL; JSON.
    pub value: String,
    /// From this second on it is as good as gone. `None` stays until it is taken.
    pub expires_s: Option<u64>,
}

impl Record {
    /// Whether it has expired.
    pub fn is_over(&self, now_s: u64) -> bool {
        self.expires_s.is_some_and(|expires_s| expires_s <= now_s)
    }
}

impl fmt::Debug for Record {
    // Values hold secrets of others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("bytes", &self.value.len()).field("expires_s", &self.expires_s).finish_non_exhaustive()
    }
}

/// Why a store did not do what it was asked. For the log: a client is only told that we failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The memory that is set aside for this kind is used up.
    Full(Kind),
    /// The record cannot be kept, in any database. Whoever wrote it is at fault.
    Unfit(&'static str),
    /// The database failed or did not answer in time, in its own words. They never hold a password or a value.
    Database(String),
    /// What is kept cannot be used, or nothing can be made to be kept.
    Unusable(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Full(kind) => write!(
                f,
                "the store is full: memory holds no more records of kind `{}`; \
                 wait until some expire, or keep them in a database (`sqlite:PATH` or `postgres://…`)",
                kind.name()
            ),
            Trouble::Unfit(why) => write!(f, "a record cannot be kept: {why}"),
            Trouble::Unusable(why) => f.write_str(why),
            Trouble::Database(said) => write!(f, "the store's database failed: {said}"),
        }
    }
}

impl std::error::Error for Trouble {}

/// What a store will say.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send + 'a>>;

/// Records by kind and key. Every wait has a bound, after which it is [`Trouble::Database`].
pub trait Store: Send + Sync + fmt::Debug {
    /// Reads a record that has not expired.
    fn get<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>>;

    /// Writes a record, in place of the one with this key if there is one. A key has 1 to [`KEY_BYTES`]
    /// bytes without NUL.
    fn put<'a>(&'a self, kind: Kind, key: &'a str, record: Record) -> Pending<'a, ()>;

    /// Reads a record and removes it, in one step for all processes. One that has expired is removed,
    /// and not given.
    fn take<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>>;

    /// The records that have not expired, in the order of their keys' bytes, behind `after`; the first
    /// ones behind `""`. At most `limit`, and [`PAGE_RECORDS`]: a page with fewer is the last.
    fn list<'a>(&'a self, kind: Kind, after: &'a str, limit: usize, now_s: u64) -> Pending<'a, Vec<(String, Record)>>;

    /// Removes every record that has expired; how many.
    fn sweep(&self, now_s: u64) -> Pending<'_, u64>;
}

/// All records of a kind, page after page.
pub struct Pages<'s> {
    store: &'s dyn Store,
    kind: Kind,
    now_s: u64,
    /// Behind which key the next begins; `None`: there is none.
    after: Option<String>,
}

impl<'s> Pages<'s> {
    /// Those that have not expired at `now_s`.
    pub fn of(store: &'s dyn Store, kind: Kind, now_s: u64) -> Pages<'s> {
        Pages { store, kind, now_s, after: Some(String::new()) }
    }

    /// The next page; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Vec<(String, Record)>>, Trouble> {
        let Some(after) = self.after.take() else { return Ok(None) };
        let page = self.store.list(self.kind, &after, PAGE_RECORDS, self.now_s).await?;
        self.after = page.last().filter(|_| page.len() == PAGE_RECORDS).map(|(key, _)| key.clone());
        Ok(Some(page))
    }
}

/// Opens the store at this URL:
///
/// - `memory:` forgets everything when the process ends;
/// - `sqlite:PATH` is a file, made if need be, which several processes of one machine may share;
/// - `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's parameters.
///
/// Fails with a message for whoever configured it, without the password.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, String> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(memory()),
        Some(("sqlite", path)) => Ok(Arc::new(sqlite::open(path.strip_prefix("//").unwrap_or(path)).await?)),
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(postgres::open(url).await?)),
        // What it says instead may have a password in it.
        _ => Err("a store's URL is `memory:`, `sqlite:PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`".into()),
    }
}

/// A store that forgets everything when the process ends: `memory:`.
pub fn memory() -> Arc<dyn Store> {
    Arc::new(memory::Memory::default())
}

/// Where the store is if nothing else is said: `sqlite:` among [our data](home::data).
pub fn default_url() -> Result<String, String> {
    let home = home::data().ok_or("there is no place for the store: set LANDBRIDGE_HOME or HOME, or say where it is (`sqlite:PATH`)")?;
    let path = home.join("store.db");
    let path = path.to_str().ok_or("the path of the store is not UTF-8: set LANDBRIDGE_HOME, or say where it is (`sqlite:PATH`)")?;
    Ok(format!("sqlite:{path}"))
}

/// Whether there can be a record with this key.
fn is_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= KEY_BYTES && !key.contains('\0')
}

/// Whether this record can be kept by every database.
fn check(key: &str, record: &Record) -> Result<(), Trouble> {
    match () {
        _ if !is_key(key) => Err(Trouble::Unfit("its key is empty, longer than 2048 bytes, or has a NUL")),
        _ if record.value.len() > VALUE_BYTES => Err(Trouble::Unfit("its value is longer than 256 KiB")),
        _ if record.value.contains('\0') => Err(Trouble::Unfit("its value has a NUL")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let mut names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "memory finds its shelves by this");
        }
    }

    #[tokio::test]
    async fn pages_come_to_an_end() {
        let store = memory();
        for n in 0..=PAGE_RECORDS + 1 {
            if n == 0 || n >= PAGE_RECORDS {
                let (mut pages, mut keys) = (Pages::of(&*store, Kind::User, 0), Vec::new());
                while let Some(page) = pages.next().await.unwrap() {
                    keys.extend(page.into_iter().map(|(key, _)| key));
                }
                assert!(keys.len() == n && keys.is_sorted(), "{n}: {}", keys.len());
            }
            let record = Record { value: String::new(), expires_s: None };
            store.put(Kind::User, &format!("{n:04}"), record).await.unwrap();
        }
    }

    #[test]
    fn a_record_expires_with_its_second_and_shows_nothing() {
        let record = Record { value: "hunter2".into(), expires_s: Some(100) };
        assert!(!record.is_over(99) && record.is_over(100));
        assert!(!Record { expires_s: None, ..record.clone() }.is_over(u64::MAX));
        assert_eq!(format!("{record:?}"), "Record { bytes: 7, expires_s: Some(100), .. }");
    }
}
