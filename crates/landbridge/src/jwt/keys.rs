//! The keys of somebody else: fetched, kept for as long as their headers say, and fetched again when a token names
//! one that is not there.
//!
//! ```text
//!   a token's kid ──▶ here and fresh? ──▶ the key
//!                       │ no
//!                       ▼
//!                fetch, one at a time, not more often than every 30 s ──▶ the key, or none of that name
//! ```
//!
//! While they cannot be fetched the old ones are good for another day. An unknown name is the issuer's only way
//! to say that its keys have changed, and anybody's way to make us fetch; hence the pause.

use std::sync::{Arc, Mutex};

use landbridge_proto::oauth::client;
use landbridge_proto::oauth::discovery::{Checks, issuer_urls};
use landbridge_proto::oauth::freshness::Keep;
use landbridge_proto::oauth::jwk::{Jwk, NoKey, pick, read_set};
use landbridge_proto::oauth::jwt::Header;
use landbridge_proto::oauth::secret::Hash;

use super::Refused;
use crate::backend::lock;
use crate::fetch::documents::Documents;
use crate::fetch::{Bounds, Fetcher, Trouble};
use crate::recent::{Known, Recent};

/// Keys that are here are not fetched again sooner, in seconds.
const PAUSE_S: u64 = 30;
/// Where none are here, they are.
const EMPTY_PAUSE_S: u64 = 2;
/// How long old keys are good while they cannot be fetched, in seconds.
const MAX_STALE_S: u64 = 86_400;

/// A set of keys.
#[derive(Debug)]
pub struct Keys {
    source: Source,
    state: Mutex<State>,
    /// Held while they are fetched.
    fetching: tokio::sync::Mutex<()>,
}

/// Where keys are from.
#[derive(Debug)]
enum Source {
    Text,
    Url { url: String, fetcher: Fetcher },
    Issuer { discovery: Discovery, fetcher: Fetcher },
}

#[derive(Debug, Default)]
struct State {
    keys: Arc<Vec<Jwk>>,
    /// When they were fetched, and until when they are fresh; none were ever while this is missing.
    fetched: Option<(u64, u64)>,
    /// When it was last tried, and how that failed.
    tried_s: Option<u64>,
    failure: Option<String>,
}

/// What is here says of a header.
enum Look {
    Found(Jwk),
    Invalid(&'static str),
    /// No such key, or none that may still be used.
    Missing,
}

impl Keys {
    /// The keys in a text: a JSON Web Key Set.
    pub fn of(text: &str) -> Result<Keys, String> {
        let keys = Arc::new(read_set(text)?);
        Ok(Keys::new(Source::Text, State { keys, fetched: Some((0, u64::MAX)), ..State::default() }))
    }

    /// Those at a URL.
    pub fn at(url: String, fetcher: Fetcher) -> Keys {
        Keys::new(Source::Url { url, fetcher }, State::default())
    }

    /// Those of an issuer, wherever its document says they are (RFC 8414, OpenID Connect Discovery).
    pub fn of_issuer(issuer: String, fetcher: Fetcher) -> Keys {
        Keys::new(Source::Issuer { discovery: Discovery::new(issuer, fetcher.clone()), fetcher }, State::default())
    }

    fn new(source: Source, state: State) -> Keys {
        Keys { source, state: Mutex::new(state), fetching: tokio::sync::Mutex::new(()) }
    }

    /// The key that a token of this header is signed with.
    pub async fn find(&self, header: &Header, now_s: u64) -> Result<Jwk, Refused> {
        let fetching = match self.look(header, now_s) {
            (Look::Found(key), false) => return Ok(key),
            (Look::Invalid(why), _) => return Err(Refused::Invalid(why)),
            // They are not fresh. One of those who come now fetches, the others go on with what is here.
            (Look::Found(key), true) => match self.fetching.try_lock() {
                Ok(fetching) => fetching,
                Err(_) => return Ok(key),
            },
            (Look::Missing, _) => self.fetching.lock().await,
        };
        // Somebody else may have fetched meanwhile.
        if self.look(header, now_s).1 {
            self.refresh(now_s).await;
        }
        drop(fetching);
        match self.look(header, now_s).0 {
            Look::Found(key) => Ok(key),
            Look::Invalid(why) => Err(Refused::Invalid(why)),
            // What could not be asked for cannot be denied.
            Look::Missing => Err(match &lock(&self.state).failure {
                Some(why) => Refused::Unavailable(why.clone()),
                None => Refused::Invalid("is signed with a key that its issuer does not have"),
            }),
        }
    }

    /// What is here, and whether it is due to be fetched for this.
    fn look(&self, header: &Header, now_s: u64) -> (Look, bool) {
        let state = lock(&self.state);
        let (fetched_s, fresh_until_s) = state.fetched.unwrap_or_default();
        let usable = state.fetched.is_some() && now_s < fresh_until_s.max(fetched_s.saturating_add(MAX_STALE_S));
        let pause_s = if usable { PAUSE_S } else { EMPTY_PAUSE_S };
        let may_try = !matches!(self.source, Source::Text) && state.tried_s.is_none_or(|tried_s| now_s >= tried_s.saturating_add(pause_s));
        if !usable {
            return (Look::Missing, may_try);
        }
        match pick(state.keys.iter(), header.kid.as_deref(), header.algorithm) {
            Ok(key) => (Look::Found(key.clone()), may_try && now_s >= fresh_until_s),
            Err(NoKey::Unfit(why)) => (Look::Invalid(why), false),
            Err(NoKey::Unknown) => (Look::Missing, may_try),
        }
    }

    /// Fetches them, and keeps those that are here where that fails. Whoever calls holds `fetching`.
    async fn refresh(&self, now_s: u64) {
        {
            // Before it is tried: who gives up has tried too.
            let mut state = lock(&self.state);
            state.tried_s = Some(now_s);
            state.failure = Some("its keys were not fetched to the end".into());
        }
        let fetched = self.fetch(now_s).await;
        let mut state = lock(&self.state);
        match fetched {
            Ok((keys, keep_s)) => {
                if *state.keys != keys {
                    tracing::info!(n_keys = keys.len(), source = %self.source.name(), "the keys of an authorization server have changed");
                    state.keys = Arc::new(keys);
                }
                state.fetched = Some((now_s, now_s.saturating_add(keep_s)));
                state.failure = None;
            }
            Err(why) => {
                tracing::warn!(source = %self.source.name(), "the keys of an authorization server cannot be fetched: {why}");
                state.failure = Some(format!("its keys cannot be fetched: {why}"));
            }
        }
    }

    async fn fetch(&self, now_s: u64) -> Result<(Vec<Jwk>, u64), String> {
        let (url, fetcher) = match &self.source {
            Source::Text => return Err("they are not elsewhere".into()),
            Source::Url { url, fetcher } => (url.clone(), fetcher),
            Source::Issuer { discovery, fetcher } => {
                (discovery.get(now_s).await?.jwks_uri.ok_or("its document names no jwks_uri")?, fetcher)
            }
        };
        let bounds = Bounds { n_redirects: 3, ..Bounds::DOCUMENT };
        let fetched = fetcher.get(&url, &bounds, now_s).await.map_err(|e| format!("{url}: {e}"))?;
        Ok((read_set(&fetched.text).map_err(|e| format!("{url}: {e}"))?, fetched.keep_s))
    }
}

/// Sets of keys that strangers have named, as clients do that sign to show who they are.
#[derive(Debug)]
pub struct KeySets {
    fetcher: Fetcher,
    recent: Recent<Arc<Keys>>,
}

impl KeySets {
    /// At most so many that are elsewhere, fetched by `fetcher`.
    pub fn new(fetcher: Fetcher, max_entries: usize) -> KeySets {
        KeySets { fetcher, recent: Recent::new(max_entries, usize::MAX) }
    }

    /// The keys of a client.
    pub fn of(&self, keys: &client::Keys) -> Result<Arc<Keys>, String> {
        let url = match keys {
            client::Keys::These(text) => return Keys::of(text).map(Arc::new),
            client::Keys::At(url) => url,
        };
        let key = *Hash::of(url).as_bytes();
        // They know themselves how long they are good.
        if let Some(keys) = self.recent.get(&key, 0) {
            return Ok(keys);
        }
        let keys = Arc::new(Keys::at(url.clone(), self.fetcher.clone()));
        self.recent.keep(key, Known { value: keys.clone(), until_s: u64::MAX, n_bytes: 0 });
        Ok(keys)
    }
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Source::Text => "text",
            Source::Url { url, .. } => url,
            Source::Issuer { discovery, .. } => &discovery.issuer,
        }
    }
}

/// What an issuer says of where it is asked (RFC 8414 §3, OpenID Connect Discovery §4).
#[derive(Debug)]
pub struct Discovery {
    issuer: String,
    documents: Documents,
}

impl Discovery {
    /// What `issuer` says.
    pub fn new(issuer: String, fetcher: Fetcher) -> Discovery {
        // Keys may move with the issuer's next document, so that it is not kept for a day.
        let keep = Keep { least_s: 60, most_s: 3_600, silent_s: 3_600 };
        let documents = Documents::new(fetcher, Bounds { keep, n_redirects: 3, ..Bounds::DOCUMENT }, 16, 1024 * 1024);
        Discovery { issuer, documents }
    }

    /// What it says now. The first document that is there counts.
    pub async fn get(&self, now_s: u64) -> Result<Checks, String> {
        let mut none = String::new();
        for url in issuer_urls(&self.issuer).map_err(|e| format!("the issuer {e}"))? {
            match self.documents.get(&url, now_s).await {
                Ok(fetched) => return Checks::read(&fetched.text, &self.issuer).map_err(|e| format!("{url}: {e}")),
                // Not there, or not allowed to be looked for: the next place.
                Err(trouble @ Trouble::Status(400..500)) => none = format!("{url}: {trouble}"),
                Err(trouble) => return Err(format!("{url}: {trouble}")),
            }
        }
        Err(none)
    }
}
