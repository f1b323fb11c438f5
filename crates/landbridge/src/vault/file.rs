//! What was granted, and where that is kept. On disk it is one file for each server and user, which nobody else can read.
//!
//! ```text
//!   tokens/HOST-HASH.json   what is kept, or that the system's keyring has it; replaced whole
//!   tokens/HOST-HASH.lock   held by the copy of us that gets a token
//! ```
//!
//! Everything is under the name of the issuer it is from: what we are at one, we are at no other. What is read
//! without the lock may be old, but never half.
//!
//! The file decides: a keyring is asked for tokens only where the file says so, and says so only when they are in
//! there. So whatever is in the file is the newest, also where a keyring has failed meanwhile. What moves where:
//!
//! ```text
//!             ┌──── written, and the keyring answers ────▶
//!   in the file                                            in the keyring
//!             ◀─ written, and it does not; or `file` is said ─┘
//! ```
//!
//! Odd: copies of us can differ in whether they reach a keyring, for many clients start servers with hardly any
//! variables. Once one that reaches none finds that the tokens are in there, it has what it gets *stay* in the
//! file, for all of them; else each would take the tokens away from the other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use landbridge_proto::oauth::grant::Granted;
use landbridge_proto::oauth::login::{Method, Registered};
use landbridge_proto::oauth::secret::{Hash, Secret};
use landbridge_proto::oauth::url::Url;

use crate::backend::lock;
use crate::home::{make, private};
use crate::plan::TokenStore;
use crate::vault::keyring::{Item, Keyring, keyring_address};
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
    /// Of a file only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept_in: Option<KeptIn>,
}

/// Where what a file is about is kept; if nothing is said, in the file, until it is written again.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeptIn {
    /// In the system's keyring.
    Keyring,
    /// In the file, and it stays there.
    File,
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
    /// On this machine.
    Disk(Disk),
}

impl Store {
    /// Keeps other copies of us away, as long as what it gives is there.
    pub(super) async fn lock(&self, patience: Duration) -> Result<Held, String> {
        let path = match self {
            Store::Memory(_) => return Ok(Held::Alone),
            Store::Shelf(place) => return place.lock(patience).await.map(|baton| Held::Shelf { _baton: baton }),
            Store::Disk(disk) => &disk.path,
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
            Store::Memory(kept) => Ok(lock(kept).clone()),
            Store::Shelf(place) => place.read().await,
            Store::Disk(disk) => Ok(disk.read().await),
        }
    }

    /// Keeps this, and nothing of what was kept.
    pub(super) async fn write(&self, kept: &Kept) -> Result<(), String> {
        match self {
            Store::Memory(known) => *lock(known) = kept.clone(),
            Store::Shelf(place) => place.write(kept).await?,
            Store::Disk(disk) => disk.write(kept).await?,
        }
        Ok(())
    }
}

/// What is kept on this machine: in a file, or in the keyring that the file names.
pub(super) struct Disk {
    /// Without a home there is none.
    path: Option<PathBuf>,
    server: String,
    user: String,
    wanted: TokenStore,
    keyring: Option<Keyring>,
    /// There are tokens in the keyring, which could not be read.
    unread: AtomicBool,
    has_told: AtomicBool,
}

impl Disk {
    /// Below this directory, and in the keyring of this session, if that is wanted and there is one.
    pub(super) fn new(directory: Option<PathBuf>, server: &str, user: &str, wanted: TokenStore) -> Disk {
        let address = keyring_address().filter(|_| wanted != TokenStore::File);
        Disk::with_keyring(directory, server, user, wanted, address)
    }

    fn with_keyring(directory: Option<PathBuf>, server: &str, user: &str, wanted: TokenStore, address: Option<String>) -> Disk {
        let host = server.split("://").last().unwrap_or_default();
        let host: String = host.chars().take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).take(64).collect();
        let hash = Hash::of(&format!("{server}\n{user}"));
        let hash: String = hash.as_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = directory.as_ref().map(|directory| directory.join(format!("{host}-{hash}.json")));
        let home = directory.and_then(|directory| std::path::absolute(directory).ok());
        // Without a file there is nobody to say that it is in there.
        let keyring = address.zip(home).map(|(address, home)| {
            Keyring::new(address, Item { label: format!("Landbridge: {host}"), host, hash, home: home.to_string_lossy().into_owned() })
        });
        let (unread, has_told) = (AtomicBool::new(false), AtomicBool::new(false));
        Disk { path, server: server.into(), user: user.into(), wanted, keyring, unread, has_told }
    }

    fn nothing(&self) -> Kept {
        Kept { server: self.server.clone(), user: self.user.clone(), ..Kept::default() }
    }

    async fn read(&self) -> Kept {
        let kept = self.in_file();
        if kept.kept_in != Some(KeptIn::Keyring) {
            self.unread.store(false, Ordering::Relaxed);
            return kept;
        }
        let found = match (&self.keyring, self.wanted) {
            (Some(keyring), _) => keyring.read().await,
            (None, TokenStore::File) => Err("this copy is told to use a file".into()),
            (None, _) => Err("DBUS_SESSION_BUS_ADDRESS is not set for this copy, so none can be reached".into()),
        };
        self.unread.store(found.is_err(), Ordering::Relaxed);
        match found {
            Ok(Some(text)) => self.understood(&text, "the item in the keyring"),
            Ok(None) => self.nothing(), // somebody has removed it, to log out
            Err(why) => {
                self.tell(&why, "the tokens are in there, so you may have to log in again");
                self.nothing()
            }
        }
    }

    fn in_file(&self) -> Kept {
        let Some(path) = &self.path else { return self.nothing() };
        match read(path) {
            Ok(text) => self.understood(&text, &path.display().to_string()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.nothing(),
            Err(e) => {
                warn!(path = %path.display(), error = %e, "the tokens cannot be read; you may have to log in again");
                self.nothing()
            }
        }
    }

    fn understood(&self, text: &str, place: &str) -> Kept {
        match serde_json::from_str::<Kept>(text) {
            // Names are shortened; nothing goes to another server for that.
            Ok(kept) if kept.server == self.server && kept.user == self.user => kept,
            Ok(_) => self.nothing(),
            Err(e) => {
                warn!(place, line = e.line(), "no tokens can be read there; you may have to log in again");
                self.nothing()
            }
        }
    }

    async fn write(&self, kept: &Kept) -> Result<(), String> {
        let path = self.path.as_ref().ok_or("there is no place for tokens")?;
        // That a login has failed is no reason to forget what could not be read.
        if self.unread.load(Ordering::Relaxed) && kept.current().is_none_or(|at| at.tokens.is_none()) {
            return Ok(());
        }
        let before = self.in_file().kept_in;
        let stays = match (self.wanted, &self.keyring) {
            (TokenStore::File, _) => true,
            (TokenStore::Keyring, _) => false,
            (TokenStore::Auto, Some(_)) => before == Some(KeptIn::File),
            (TokenStore::Auto, None) => before.is_some(),
        };
        let in_file = Kept { kept_in: stays.then_some(KeptIn::File), ..kept.clone() };
        if stays {
            return put(path, &in_file).await;
        }
        let why = match &self.keyring {
            None => "none can be reached".to_owned(),
            Some(keyring) => {
                let text = serde_json::to_string(&Kept { kept_in: None, ..kept.clone() }).map_err(|e| e.to_string())?;
                match keyring.write(&text).await {
                    Ok(()) if before == Some(KeptIn::Keyring) => return Ok(()),
                    Ok(()) => return put(path, &Kept { kept_in: Some(KeptIn::Keyring), ..self.nothing() }).await,
                    Err(why) => why,
                }
            }
        };
        if self.wanted == TokenStore::Keyring {
            return Err(format!("the system's keyring cannot be used: {why}"));
        }
        if self.keyring.is_some() {
            self.tell(&why, &format!("the tokens are in {}", path.display()));
        }
        put(path, &in_file).await
    }

    /// Says why the keyring is not used, and what that leads to; once.
    fn tell(&self, why: &str, so: &str) {
        if !self.has_told.swap(true, Ordering::Relaxed) {
            warn!(why, "the system's keyring cannot be used; {so}");
        }
    }
}

/// Writes it into a file.
async fn put(path: &Path, kept: &Kept) -> Result<(), String> {
    let text = serde_json::to_vec_pretty(kept).map_err(|e| e.to_string())?;
    let path = path.to_owned();
    let written =
        tokio::task::spawn_blocking(move || replace(&path, &text).map_err(|e| format!("tokens cannot be kept in {}: {e}", path.display())));
    written.await.unwrap_or_else(|e| Err(e.to_string()))
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
            Store::Disk(Disk::with_keyring(Some(self.0.join("tokens")), server, user, TokenStore::Auto, None))
        }
    }

    impl Drop for Spot {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // it may not be there
        }
    }

    async fn kept(store: &Store, access: &str) -> Kept {
        let mut kept = store.read().await.unwrap();
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
        assert!(store.read().await.unwrap().current().is_none());
        store.write(&kept(&store, "token").await).await.unwrap();
        drop(held);
        let read = place.store("https://h:1/mcp", "").read().await.unwrap();
        let tokens = read.current().unwrap().tokens.as_ref().unwrap();
        assert_eq!((tokens.access.as_str(), tokens.refresh.as_deref(), tokens.until_s), ("token", Some("before"), 160));
        for (server, user) in [("https://h:1/mcp", "u"), ("https://h:1/mcp2", ""), ("https://h/mcp", "")] {
            assert!(place.store(server, user).read().await.unwrap().current().is_none(), "{server} {user}");
        }
        let Store::Disk(Disk { path: Some(path), .. }) = &store else { panic!("a file") };
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("h-"), "{path:?}");
        // A file that is not ours to use.
        fs::write(path, "{\"server\":").unwrap();
        assert!(store.read().await.unwrap().current().is_none());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = Spot::new("mode");
        let store = place.store("https://h/mcp", "");
        let _held = store.lock(Duration::ZERO).await.unwrap();
        store.write(&kept(&store, "one").await).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let Store::Disk(Disk { path: Some(path), .. }) = &store else { panic!("a file") };
        // One that was opened to others is replaced by one that is not.
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        store.write(&kept(&store, "two").await).await.unwrap();
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
