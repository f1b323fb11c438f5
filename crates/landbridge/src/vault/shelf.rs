//! Tokens of many users, in the gateway's store: sealed, for a token cannot be kept as its hash.
//!
//! ```text
//!   HASH        one user's tokens at one server, sealed for both
//!   baton HASH  there while nobody gets a token; whoever does has taken it
//! ```
//!
//! The key is kept apart from the store, in a file or the environment, so that a copy of the database opens
//! nothing. Odd: what goes around among the copies of us is the baton, and not the tokens. One that dies with
//! it costs the next a wait, and no user their login.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::sealed::{Keys, Purpose};

use super::file::Kept;
use crate::home::{self, make, private};
use crate::store::{Kind, Record, Store, Trouble};
use crate::system::{now_s, random};

/// The variable that holds the key, in place of the file.
pub const KEY_VARIABLE: &str = "LANDBRIDGE_VAULT_KEY";
/// The file, below our home.
const KEY_FILE: &str = "vault.key";
/// How long tokens are kept that nobody has used, in seconds: a year. Then their user is asked again.
const KEPT_S: u64 = 365 * 24 * 3600;
/// How often the baton is asked for that another has.
const AGAIN: Duration = Duration::from_millis(100);

/// Where the tokens of all users are.
pub struct Shelf {
    store: Arc<dyn Store>,
    keys: Keys,
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shelf")
    }
}

impl Shelf {
    /// In that store, under the key of the environment, or of the file below our home, which is made if need be.
    pub fn open(store: Arc<dyn Store>) -> Result<Arc<Shelf>, String> {
        let given = std::env::var(KEY_VARIABLE).ok().filter(|given| !given.is_empty());
        let key = match given {
            Some(given) => {
                read_key(&given).ok_or_else(|| format!("{KEY_VARIABLE} is no key: 32 bytes in base64url, which are 43 letters"))?
            }
            None => {
                let home =
                    home::data().ok_or_else(|| format!("there is no place for {KEY_FILE}: set LANDBRIDGE_HOME, or {KEY_VARIABLE}"))?;
                key_in(&home)?
            }
        };
        Ok(Shelf::with_key(store, key))
    }

    /// The same, under this key.
    pub fn with_key(store: Arc<dyn Store>, key: [u8; 32]) -> Arc<Shelf> {
        Arc::new(Shelf { store, keys: Keys::new(key) })
    }

    /// The place of one user's tokens at the server at that URL.
    pub(crate) fn place(self: &Arc<Self>, server: &str, user: &str) -> Place {
        let key = key_of(server, user);
        Place { shelf: self.clone(), key, server: server.into(), user: user.into() }
    }
}

/// Where the tokens of one user at one server are in the store.
fn key_of(server: &str, user: &str) -> String {
    Hash::of(&format!("{} {server}\n{user}", server.len())).to_string()
}

/// Forgets the tokens of one user at one server; no key is needed for that.
pub(crate) async fn forget(store: &dyn Store, server: &str, user: &str) -> Result<(), Trouble> {
    let key = key_of(server, user);
    store.take(Kind::Vault, &key, now_s()).await?;
    store.take(Kind::Vault, &baton_of(&key), now_s()).await.map(drop)
}

/// Where the baton is of those.
fn baton_of(key: &str) -> String {
    format!("baton {key}")
}

/// The key below that home.
fn key_in(home: &Path) -> Result<[u8; 32], String> {
    let path = home.join(KEY_FILE);
    let failed = |e: io::Error| format!("the key of the vault, {}: {e}", path.display());
    let read = || match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    };
    let text = match read()? {
        Some(text) => text,
        None => {
            make_key(home, &path).map_err(failed)?;
            read()?.unwrap_or_default()
        }
    };
    read_key(text.trim())
        .ok_or_else(|| format!("{} holds no key; put the old one back, or remove it, and every user has to connect again", path.display()))
}

/// Puts a new key there, whole, unless another copy of us was faster.
fn make_key(home: &Path, path: &Path) -> io::Result<()> {
    make(home)?;
    let key = random::<32>().map_err(io::Error::other)?;
    let new = path.with_extension(format!("key.{}.new", std::process::id()));
    let _ = fs::remove_file(&new); // of a process of our number that was killed
    let mut out = private().create_new(true).open(&new)?;
    let written = out.write_all(URL_SAFE_NO_PAD.encode(key).as_bytes()).and_then(|()| out.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&new, path));
    let _ = fs::remove_file(&new); // it has its name by now, or is of no use
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

fn read_key(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?.try_into().ok()
}

/// Where one user's tokens at one server are.
pub(crate) struct Place {
    shelf: Arc<Shelf>,
    key: String,
    server: String,
    user: String,
}

/// A record, as it stands in the store.
#[derive(Serialize, Deserialize)]
struct Written {
    sealed: String,
}

impl Place {
    pub(super) fn nothing(&self) -> Kept {
        Kept { server: self.server.clone(), user: self.user.clone(), ..Kept::default() }
    }

    fn bound_to(&self) -> [&[u8]; 2] {
        [self.server.as_bytes(), self.user.as_bytes()]
    }

    pub(super) async fn read(&self) -> Result<Kept, String> {
        Ok(self.read_as().await?.unwrap_or_else(|| self.nothing()))
    }

    pub(super) async fn write(&self, kept: &Kept) -> Result<(), String> {
        self.write_as(kept, KEPT_S).await
    }

    /// What is kept there, in whatever form it was; `None`: nothing that could be opened.
    pub(crate) async fn read_as<T: DeserializeOwned>(&self) -> Result<Option<T>, String> {
        let found = self.shelf.store.get(Kind::Vault, &self.key, now_s()).await;
        let Some(record) = found.map_err(|trouble| trouble.to_string())? else { return Ok(None) };
        let open = || {
            let written: Written = serde_json::from_str(&record.value).ok()?;
            let plain = self.shelf.keys.open(Purpose::Vault, &self.bound_to(), &written.sealed)?;
            serde_json::from_slice(&plain).ok()
        };
        let opened = open();
        if opened.is_none() {
            warn!(server = self.server, "a user's tokens cannot be opened, as the key of the vault is another; they are asked for again");
        }
        Ok(opened)
    }

    /// Keeps something there, for so many seconds.
    pub(crate) async fn write_as(&self, kept: &impl Serialize, for_s: u64) -> Result<(), String> {
        let plain = serde_json::to_vec(kept).map_err(|e| e.to_string())?;
        let sealed = self.shelf.keys.seal(Purpose::Vault, &self.bound_to(), &plain).ok_or("the tokens are too long to be kept")?;
        let value = serde_json::to_string(&Written { sealed }).map_err(|e| e.to_string())?;
        let record = Record { value, expires_s: Some(now_s().saturating_add(for_s)) };
        self.shelf.store.put(Kind::Vault, &self.key, record).await.map_err(|trouble| trouble.to_string())
    }

    /// Takes the baton. Where nothing is kept yet there is none, and nobody to wait for; one that does not come
    /// back in time went down with whoever had it.
    pub(crate) async fn lock(&self, patience: Duration) -> Result<Baton, String> {
        let (store, key) = (&self.shelf.store, baton_of(&self.key));
        let since = Instant::now();
        loop {
            let taken = store.take(Kind::Vault, &key, now_s()).await.map_err(|trouble| trouble.to_string())?;
            if taken.is_some() || since.elapsed() >= patience {
                break;
            }
            let kept = store.get(Kind::Vault, &self.key, now_s()).await.map_err(|trouble| trouble.to_string())?;
            if kept.is_none() {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        Ok(Baton { store: store.clone(), key })
    }
}

/// Held by whoever gets a token.
pub(crate) struct Baton {
    store: Arc<dyn Store>,
    key: String,
}

/// It is given back, also where the work was given up.
impl Drop for Baton {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (store, key) = (self.store.clone(), std::mem::take(&mut self.key));
        runtime.spawn(async move {
            let record = Record { value: "{}".into(), expires_s: Some(now_s() + KEPT_S) };
            if let Err(trouble) = store.put(Kind::Vault, &key, record).await {
                warn!(%trouble, "the next refresh of a user's token has to wait");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory;
    use crate::vault::file::{At, Tokens};
    use landbridge_proto::oauth::grant::Granted;
    use landbridge_proto::oauth::secret::Secret;

    fn with_token(mut kept: Kept, access: &str) -> Kept {
        let granted = Granted { access: Secret::new(access), refresh: None, lifetime_s: None, scope: None };
        let tokens = Tokens::of(&granted, None, None, None, 100);
        kept.put("https://as", At { token_endpoint: "https://as/t".into(), client: None, tokens: Some(tokens) });
        kept
    }

    fn access(kept: &Kept) -> Option<&str> {
        Some(&kept.current()?.tokens.as_ref()?.access)
    }

    #[tokio::test]
    async fn what_is_kept_opens_for_its_user_and_under_its_key_only() {
        let store = memory();
        let shelf = Shelf::with_key(store.clone(), [1; 32]);
        let ada = shelf.place("https://h/mcp", "ada");
        ada.write(&with_token(ada.nothing(), "sesame")).await.unwrap();
        assert_eq!(access(&ada.read().await.unwrap()), Some("sesame"));
        for (server, user) in [("https://h/mcp", "bob"), ("https://h/mcp2", "ada"), ("https://h/mcp\nada", "")] {
            assert_eq!(access(&shelf.place(server, user).read().await.unwrap()), None, "{server} {user}");
        }
        let other = Shelf::with_key(store.clone(), [2; 32]).place("https://h/mcp", "ada");
        assert_eq!(access(&other.read().await.unwrap()), None);
        // Put under another's name, it opens for nobody.
        let record = store.get(Kind::Vault, &ada.key, 0).await.unwrap().unwrap();
        assert!(!record.value.contains("sesame") && !record.value.contains("ada"));
        let bob = shelf.place("https://h/mcp", "bob");
        store.put(Kind::Vault, &bob.key, record).await.unwrap();
        assert_eq!(access(&bob.read().await.unwrap()), None);
    }

    #[tokio::test]
    async fn long_tokens_fit() {
        let place = Shelf::with_key(memory(), [1; 32]).place("https://h/mcp", "ada");
        let long = "x".repeat(16 * 1024);
        place.write(&with_token(place.nothing(), &long)).await.unwrap();
        assert_eq!(access(&place.read().await.unwrap()), Some(&*long));
    }

    #[tokio::test]
    async fn one_has_the_baton_and_one_that_was_lost_is_replaced() {
        let place = Arc::new(Shelf::with_key(memory(), [1; 32]).place("https://h/mcp", "ada"));
        drop(place.lock(Duration::from_secs(30)).await.unwrap());
        place.write(&with_token(place.nothing(), "one")).await.unwrap();
        let held = place.lock(Duration::from_secs(30)).await.unwrap();
        let second = place.clone();
        let waiting = tokio::spawn(async move { second.lock(Duration::from_secs(30)).await.map(drop) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap().unwrap();
        std::mem::forget(place.lock(Duration::from_secs(30)).await.unwrap());
        drop(place.lock(Duration::from_millis(1)).await.unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn the_key_is_made_once_for_us_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = std::env::temp_dir().join(format!("landbridge-shelf-{}", std::process::id()));
        let made = key_in(&home).unwrap();
        assert_eq!(made, key_in(&home).unwrap());
        assert_eq!(fs::metadata(home.join(KEY_FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
        fs::write(home.join(KEY_FILE), "nonsense").unwrap();
        assert!(key_in(&home).unwrap_err().contains("holds no key"));
        fs::remove_dir_all(home).unwrap();
    }
}
