//! Tokens that we hand out: `sk_api_…` for a quarter of an hour of REST, and `sk_install_…` and `sk_edit_…`, each for
//! one download.
//!
//! What is kept is their hashes, in SQLite. A one-time token is used by one statement, so that of all who show it at the
//! same time, in all processes, one gets what it is for. It is remembered for a while afterwards, to tell it from one
//! that never was.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landbridge::system::{now_s, random};
use landbridge_proto::oauth::secret::Hash;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};

use super::access::User;
use super::wrong::Wrong;

/// How long a token counts, in seconds.
pub(super) const LIFE_S: u64 = 900;
/// How long it is remembered after that.
const MEMORY_S: u64 = 24 * 3600;
/// The most tokens that are remembered.
const MAX_TOKENS: i64 = 200_000;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Api,
    Install,
    Edit,
}

impl For {
    fn name(self) -> &'static str {
        match self {
            For::Api => "api",
            For::Install => "install",
            For::Edit => "edit",
        }
    }

    fn prefix(self) -> String {
        format!("sk_{}_", self.name())
    }
}

/// What a one-time token is for.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) user: User,
    pub(super) skill: String,
    hash: Hash,
}

#[derive(Debug)]
pub(super) struct Tickets {
    pool: SqlitePool,
}

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS tickets (
    hash BLOB PRIMARY KEY, purpose TEXT NOT NULL, person TEXT NOT NULL, skill TEXT NOT NULL,
    expires_s INTEGER NOT NULL, used_s INTEGER) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS tickets_by_time ON tickets (expires_s);";

impl Tickets {
    /// Opens the file, which is made if need be. The error is a sentence.
    pub(super) async fn open(file: &Path) -> Result<Tickets, String> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(10));
        let told = |e: sqlx::Error| format!("{} cannot be used: {e}", file.display());
        let pool = pool.connect_with(options).await.map_err(told)?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await.map_err(told)?;
        Ok(Tickets { pool })
    }

    /// A new token. `skill`: what it is for, of those for one download.
    pub(super) async fn issue(&self, purpose: For, user: &User, skill: &str) -> Result<String, Wrong> {
        let random: [u8; 24] = random().map_err(|why| failed(&why))?;
        let token = format!("{}{}", purpose.prefix(), URL_SAFE_NO_PAD.encode(random));
        let person = serde_json::to_string(user).map_err(|e| failed(&e))?;
        let now_s = seconds(now_s());
        let sweep = sqlx::query("DELETE FROM tickets WHERE expires_s < ?").bind(now_s - seconds(MEMORY_S));
        sweep.execute(&self.pool).await.map_err(|e| failed(&e))?;
        let insert = "INSERT INTO tickets (hash, purpose, person, skill, expires_s)
            SELECT ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM tickets) < ?";
        let done = sqlx::query(insert)
            .bind(Hash::of(&token).as_bytes().as_slice())
            .bind(purpose.name())
            .bind(person)
            .bind(skill)
            .bind(now_s + seconds(LIFE_S))
            .bind(MAX_TOKENS);
        match done.execute(&self.pool).await.map_err(|e| failed(&e))?.rows_affected() {
            0 => Err(Wrong::busy("too many tokens have been handed out; try again later")),
            _ => Ok(token),
        }
    }

    /// Whose token that is.
    pub(super) async fn user(&self, token: &str) -> Result<User, Wrong> {
        let wrong = || Wrong::unauthorized("the token is unknown or has expired; get another by the tool skillport_auth");
        if !token.starts_with(&For::Api.prefix()) {
            return Err(wrong());
        }
        let find = "SELECT person FROM tickets WHERE hash = ? AND purpose = 'api' AND expires_s > ?";
        let find = sqlx::query(find).bind(Hash::of(token).as_bytes().to_vec()).bind(seconds(now_s()));
        let row = find.fetch_optional(&self.pool).await.map_err(|e| failed(&e))?.ok_or_else(wrong)?;
        serde_json::from_str(row.try_get("person").map_err(|e| failed(&e))?).map_err(|e| failed(&e))
    }

    /// What a token is for that has not been used yet. It stays unused.
    pub(super) async fn look(&self, purpose: For, token: &str) -> Result<Ticket, Wrong> {
        if !token.starts_with(&purpose.prefix()) {
            return Err(Wrong::bad(format!("such a token begins with {}", purpose.prefix())));
        }
        let hash = Hash::of(token);
        let find = "SELECT person, skill, expires_s, used_s FROM tickets WHERE hash = ? AND purpose = ?";
        let find = sqlx::query(find).bind(hash.as_bytes().to_vec()).bind(purpose.name());
        let row = find.fetch_optional(&self.pool).await.map_err(|e| failed(&e))?;
        let row = row.ok_or_else(|| Wrong::unknown("there is no such token"))?;
        let read = || -> Result<_, sqlx::Error> {
            let used_s: Option<i64> = row.try_get("used_s")?;
            let expires_s: i64 = row.try_get("expires_s")?;
            Ok((used_s.is_some(), expires_s <= seconds(now_s()), row.try_get::<String, _>("person")?, row.try_get("skill")?))
        };
        let (is_used, is_over, person, skill) = read().map_err(|e| failed(&e))?;
        if is_used {
            return Err(used());
        }
        if is_over {
            return Err(Wrong::gone("the token has expired; ask for another"));
        }
        Ok(Ticket { user: serde_json::from_str(&person).map_err(|e| failed(&e))?, skill, hash })
    }

    /// Uses a token, unless somebody else was faster.
    pub(super) async fn redeem(&self, ticket: &Ticket) -> Result<(), Wrong> {
        let now_s = seconds(now_s());
        let take = sqlx::query("UPDATE tickets SET used_s = ? WHERE hash = ? AND used_s IS NULL AND expires_s > ?")
            .bind(now_s)
            .bind(ticket.hash.as_bytes().to_vec())
            .bind(now_s);
        match take.execute(&self.pool).await.map_err(|e| failed(&e))?.rows_affected() {
            1 => Ok(()),
            _ => Err(used()),
        }
    }
}

fn used() -> Wrong {
    Wrong::gone("the token has been used; ask for another")
}

fn failed(why: &dyn std::fmt::Display) -> Wrong {
    tracing::warn!(error = %why, "tokens cannot be looked up");
    Wrong::busy("tokens cannot be looked up at the moment; try again later")
}

/// As SQLite counts.
fn seconds(s: u64) -> i64 {
    i64::try_from(s).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn a_one_time_token_is_had_by_one() {
        let file = std::env::temp_dir().join(format!("skillport-tickets-{}.db", uuid::Uuid::new_v4()));
        // Two processes, as it were.
        let both = [Arc::new(Tickets::open(&file).await.unwrap()), Arc::new(Tickets::open(&file).await.unwrap())];
        let token = both[0].issue(For::Install, &User::local(), "hello").await.unwrap();
        let mut all = tokio::task::JoinSet::new();
        for number in 0..32 {
            let (tickets, token) = (both[number % 2].clone(), token.clone());
            all.spawn(async move {
                let ticket = tickets.look(For::Install, &token).await?;
                tickets.redeem(&ticket).await
            });
        }
        let had = all.join_all().await;
        assert_eq!(had.iter().filter(|had| had.is_ok()).count(), 1);
        assert!(had.iter().flat_map(|had| had.as_ref().err()).all(|wrong| wrong.status == http::StatusCode::GONE), "{had:?}");

        let api = both[0].issue(For::Api, &User::local(), "").await.unwrap();
        assert_eq!(both[1].user(&api).await.unwrap(), User::local());
        assert!(both[1].user(&token).await.is_err() && both[0].look(For::Edit, &api).await.is_err());
        sqlx::query("UPDATE tickets SET expires_s = 1").execute(&both[0].pool).await.unwrap();
        assert!(both[1].user(&api).await.is_err());
        let kept = std::fs::read(&file).unwrap();
        assert!(!kept.windows(20).any(|bytes| token.as_bytes().starts_with(bytes)), "no token is kept");
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
    }
}
