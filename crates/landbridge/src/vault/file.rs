//! What was granted, and where that is kept. On disk it is one file for each server and user, which nobody else can read.
//!
//! ```text
//!   tokens/HOST-HASH.json   what is kept, replaced whole
//!   tokens/HOST-HASH.lock   held by the copy of us that gets a token
//! ```
//!
//! Everything is under the name of the issuer it is from: what we are at one, we are at no other. What is read
//! without the lock may be old, but never half.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use landbridge_proto::oauth::grant::Granted;
use landbridge_proto::oauth::login::{Method, Registered};
use landbridge_proto::oauth::secret::{Hash, Secret};
use landbridge_proto::oauth::url::Url;

use crate::backend::lock;
use crate::home::{make, private};
use crate::vault::shelf::{Baton, Place};

/// How often the lock is tried that another copy holds.
const AGAIN: Duration = Duration::from_millis(50);
/// Issuers of one server; servers change them rarely.
const MOST_ISSUERS: usize = 8;
/// Longest file that is read.
const MOST_BYTES: u64 = 1024 * 1024;

/// What is kept for one user at one server. It has no `Debug`, for it is made of secrets.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The server's URL, and the user; for people who look into the file.
    pub(super) server: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    /// Whose token counts.
    pub(super) issuer: Option<String>,
    pub(super) issuers: BTreeMap<String, At>,
}

/// What there is of one issuer.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct At {
    pub(super) token_endpoint: String,
    pub(super) client: Option<Client>,
    pub(super) tokens: Option<Tokens>,
}

/// Who we are there.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Client {
    pub(super) id: String,
    secret: Option<String>,
    method: String,
    pub(super) secret_until_s: u64,
    pub(super) redirect_uri: Option<String>,
}

/// What lets us in. Times are in seconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    pub(super) since_s: u64,
    /// 0: nobody has said.
    pub(super) until_s: u64,
    pub(super) resource: Option<String>,
    /// The scopes that were asked for.
    pub(super) asked: Option<String>,
    /// Those that were granted, where that is not the same.
    scope: Option<String>,
}

impl Kept {
    /// What there is of the issuer whose token counts.
    pub(super) fn current(&self) -> Option<&At> {
        self.at(self.issuer.as_ref()?)
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut At> {
        self.issuers.get_mut(self.issuer.as_ref()?)
    }

    pub(super) fn at(&self, issuer: &str) -> Option<&At> {
        self.issuers.get(issuer)
    }

    /// The token of this issuer counts from now on.
    pub(super) fn put(&mut self, issuer: &str, at: At) {
        if self.issuers.len() >= MOST_ISSUERS && !self.issuers.contains_key(issuer) {
            self.issuers.clear();
        }
        self.issuers.insert(issuer.into(), at);
        self.issuer = Some(issuer.into());
    }

    /// The issuer may not know us any more.
    pub(super) fn forget_client(&mut self, issuer: &str) {
        if let Some(at) = self.issuers.get_mut(issuer) {
            (at.client, at.tokens) = (None, None);
        }
    }
}

impl Client {
    pub(super) fn of(client: &Registered, redirect_uri: Option<String>) -> Client {
        Client {
            id: client.id.clone(),
            secret: client.secret.as_ref().map(|secret| secret.reveal().to_owned()),
            method: client.method.as_str().into(),
            secret_until_s: client.secret_until_s,
            redirect_uri,
        }
    }

    pub(super) fn read(&self) -> Option<Registered> {
        let (id, secret) = (self.id.clone(), self.secret.clone().map(Secret::new));
        Some(Registered { id, secret, method: Method::read(&self.method)?, secret_until_s: self.secret_until_s })
    }

    /// The port that its redirect URI has on this machine.
    pub(super) fn port(&self) -> Option<u16> {
        Url::read(self.redirect_uri.as_ref()?).ok().map(|url| url.port())
    }
}

impl Tokens {
    /// What was granted now. `before`: the refresh token that it was got by.
    pub(super) fn of(granted: &Granted, before: Option<&Secret>, resource: Option<String>, asked: Option<String>, now_s: u64) -> Tokens {
        let refresh = granted.refresh.as_ref().or(before);
        Tokens {
            access: granted.access.reveal().into(),
            refresh: refresh.map(|token| token.reveal().to_owned()),
            since_s: now_s,
            until_s: granted.lifetime_s.map_or(0, |lifetime_s| now_s.saturating_add(lifetime_s)),
            resource,
            asked,
            scope: granted.scope.clone(),
        }
    }
}

/// What keeps others away, as long as it is there.
pub(super) enum Held {
    /// Nobody else is there.
    Alone,
    /// Other copies of us, on this machine.
    File { _lock: File },
    /// The same, wherever the store is reached from.
    Shelf { _baton: Baton },
}

/// Where it is kept.
pub(super) enum Store {
    /// In the gateway's store, sealed.
    Shelf(Place),
    /// Nowhere else.
    Memory(Mutex<Kept>),
    /// On disk; without a home there is no path.
    File { path: Option<PathBuf>, server: String, user: String },
}

impl Store {
    /// Below this directory.
    pub(super) fn at(directory: Option<PathBuf>, server: &str, user: &str) -> Store {
        let host = server.split("://").last().unwrap_or_default();
        let host: String = host.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).take(64).collect();
        let hash = Hash::of(&format!("{server}\n{user}"));
        let name: String = hash.as_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = directory.map(|directory| directory.join(format!("{host}-{name}.json")));
        Store::File { path, server: server.into(), user: user.into() }
    }

    /// Keeps other copies of us away, as long as what it gives is there.
    pub(super) async fn lock(&self, patience: Duration) -> Result<Held, String> {
        let path = match self {
            Store::Memory(_) => return Ok(Held::Alone),
            Store::Shelf(place) => return place.lock(patience).await.map(|baton| Held::Shelf { _baton: baton }),
            Store::File { path, .. } => path,
        };
        let path = path.as_ref().ok_or("there is no place for tokens; set LANDBRIDGE_HOME to a directory")?.with_extension("lock");
        let failed = |e: io::Error| format!("{} cannot be locked: {e}", path.display());
        if let Some(directory) = path.parent() {
            make(directory).map_err(|e| format!("{} cannot be made: {e}", directory.display()))?;
        }
        let file = private().create(true).truncate(false).open(&path).map_err(failed)?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Held::File { _lock: file }),
                Err(fs::TryLockError::WouldBlock) if since.elapsed() < patience => tokio::time::sleep(AGAIN).await,
                Err(fs::TryLockError::WouldBlock) => return Err("another copy of this program is at the login, and does not finish".into()),
                Err(fs::TryLockError::Error(e)) => return Err(failed(e)),
            }
        }
    }

    /// What is kept; what cannot be understood counts as nothing. The error says why nobody knows.
    pub(super) async fn read(&self) -> Result<Kept, String> {
        match self {
            Store::Shelf(place) => place.read().await,
            _ => Ok(self.read_here()),
        }
    }

    fn read_here(&self) -> Kept {
        let (path, server, user) = match self {
            Store::Memory(kept) => return lock(kept).clone(),
            Store::Shelf(place) => return place.nothing(),
            Store::File { path, server, user } => (path, server, user),
        };
        let nothing = || Kept { server: server.clone(), user: user.clone(), ..Kept::default() };
        let Some(path) = path else { return nothing() };
        let text = match read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return nothing(),
            Err(e) => {
                warn!(path = %path.display(), error = %e, "the tokens cannot be read; you may have to log in again");
                return nothing();
            }
        };
        match serde_json::from_str::<Kept>(&text) {
            // Names of files are shortened; nothing goes to another server for that.
            Ok(kept) if kept.server == *server && kept.user == *user => kept,
            Ok(_) => nothing(),
            Err(e) => {
                warn!(path = %path.display(), line = e.line(), "this file holds no tokens that can be read; you may have to log in again");
                nothing()
            }
        }
    }

    /// Keeps this, and nothing of what was kept.
    pub(super) async fn write(&self, kept: &Kept) -> Result<(), String> {
        let path = match self {
            Store::Memory(known) => {
                *lock(known) = kept.clone();
                return Ok(());
            }
            Store::Shelf(place) => return place.write(kept).await,
            Store::File { path, .. } => path.clone().ok_or("there is no place for tokens")?,
        };
        let text = serde_json::to_vec_pretty(kept).map_err(|e| e.to_string())?;
        let written = tokio::task::spawn_blocking(move || {
            replace(&path, &text).map_err(|e| format!("tokens cannot be kept in {}: {e}", path.display()))
        });
        written.await.unwrap_or_else(|e| Err(e.to_string()))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(File::open(path)?, MOST_BYTES), &mut text)?;
    Ok(text)
}

/// Puts a file there in one step, or leaves what is there.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let _ = fs::remove_file(&new); // of a process of our number that was killed
        let mut file = private().create_new(true).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))?;
    // The name has to outlast a loss of power too, for the refresh token before it counts no more.
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is gone when the test is over.
    struct Spot(PathBuf);

    impl Spot {
        fn new(name: &str) -> Spot {
            let path = std::env::temp_dir().join(format!("landbridge-vault-{name}-{}", std::process::id()));
            Spot(path)
        }

        fn store(&self, server: &str, user: &str) -> Store {
            Store::at(Some(self.0.join("tokens")), server, user)
        }
    }

    impl Drop for Spot {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // it may not be there
        }
    }

    fn kept(store: &Store, access: &str) -> Kept {
        let mut kept = store.read_here();
        let granted = Granted { access: Secret::new(access), refresh: None, lifetime_s: Some(60), scope: None };
        let tokens = Tokens::of(&granted, Some(&Secret::new("before")), None, Some("a".into()), 100);
        kept.put("https://as", At { token_endpoint: "https://as/token".into(), client: None, tokens: Some(tokens) });
        kept
    }

    #[tokio::test]
    async fn what_is_kept_is_read_again_by_its_server_and_user_only() {
        let place = Spot::new("read");
        let store = place.store("https://h:1/mcp", "");
        let held = store.lock(Duration::ZERO).await.unwrap();
        assert!(store.read_here().current().is_none());
        store.write(&kept(&store, "token")).await.unwrap();
        drop(held);
        let read = place.store("https://h:1/mcp", "").read_here();
        let tokens = read.current().unwrap().tokens.as_ref().unwrap();
        assert_eq!((tokens.access.as_str(), tokens.refresh.as_deref(), tokens.until_s), ("token", Some("before"), 160));
        for (server, user) in [("https://h:1/mcp", "u"), ("https://h:1/mcp2", ""), ("https://h/mcp", "")] {
            assert!(place.store(server, user).read_here().current().is_none(), "{server} {user}");
        }
        let Store::File { path: Some(path), .. } = &store else { panic!("a file") };
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("h-"), "{path:?}");
        // A file that is not ours to use.
        fs::write(path, "{\"server\":").unwrap();
        assert!(store.read_here().current().is_none());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = Spot::new("mode");
        let store = place.store("https://h/mcp", "");
        let _held = store.lock(Duration::ZERO).await.unwrap();
        store.write(&kept(&store, "one")).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let Store::File { path: Some(path), .. } = &store else { panic!("a file") };
        // One that was opened to others is replaced by one that is not.
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        store.write(&kept(&store, "two")).await.unwrap();
        assert_eq!((mode(path), mode(&path.with_extension("lock")), mode(path.parent().unwrap())), (0o600, 0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn one_has_the_lock() {
        let place = Spot::new("lock");
        let (one, other) = (place.store("https://h/mcp", ""), place.store("https://h/mcp", ""));
        let held = one.lock(Duration::ZERO).await.unwrap();
        assert!(other.lock(Duration::from_millis(1)).await.map(drop).unwrap_err().contains("another copy"));
        let waiting = tokio::spawn(async move { other.lock(Duration::from_secs(30)).await.map(drop) });
        drop(held);
        waiting.await.unwrap().unwrap();
    }
}
