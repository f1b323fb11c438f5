//! Somebody else's authorization server, whose tokens we take: by the signature on them, or by asking.
//!
//! ```text
//!   token ──▶ seen a moment ago? ──▶ Holder
//!                │ no
//!                ├─▶ jwt::verify, by the keys of the issuer ──▶ Holder, kept until it expires
//!                └─▶ introspection, which keeps its own answers ──▶ Holder
//! ```
//!
//! A token that was seen costs one hash. Nothing that is refused is kept: it would push out what is good.

use std::sync::{Arc, Mutex};

use landbridge_proto::oauth::audience::{Resource, opens};
use landbridge_proto::oauth::jwk::Algorithm;
use landbridge_proto::oauth::jwt::{Claims, MAX_TOKEN, Rules, Typ};
use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::oauth::url::Url;

use crate::backend::lock;
use crate::fetch::Fetcher;
use crate::introspect::{Credentials, Introspection};
use crate::jwt::keys::{Discovery, Keys};
use crate::jwt::{Refused, verify};
use crate::recent::{Known, Recent};

/// Tokens that are remembered, and their bytes.
const MAX_ENTRIES: usize = 16_384;
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How long a token is remembered at most, in seconds: for so long a key may be withdrawn unnoticed.
const MAX_KEPT_S: u64 = 300;
/// How long it is believed where tokens are asked about, in seconds.
const PLACE_S: u64 = 3_600;

/// How tokens are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// By keys that the issuer's document names.
    Discovered,
    /// By the keys at this URL.
    KeysAt(String),
    /// By these keys, a JSON Web Key Set.
    KeysOf(String),
    /// By asking at this URL, or where the issuer's document says.
    Ask(Option<String>, Credentials),
}

/// What an operator says of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name, letter by letter as it stands in its tokens.
    pub issuer: String,
    /// How its tokens are checked.
    pub check: Check,
    /// Names by which it means us, besides the URLs of our mounts: `api://landbridge`. A token for one of them opens
    /// every mount.
    pub audiences: Vec<String>,
    /// How its tokens may be signed.
    pub algorithms: Vec<Algorithm>,
    /// What their `typ` must be, if it is to be looked at strictly: `at+jwt`.
    pub typ: Option<String>,
    /// How far its clock and ours may differ, in seconds; at most 60.
    pub leeway_s: u64,
}

/// Who holds a token, and what it lets them do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who says so. Together with `subject` this is the principal.
    pub issuer: String,
    /// Who it is, by the issuer's name for them.
    pub subject: String,
    /// What to call them before people.
    pub name: Option<String>,
    /// The client that acts for them.
    pub client_id: Option<String>,
    /// What is granted.
    pub scopes: Vec<String>,
    /// What the token is for.
    pub audiences: Vec<String>,
    /// Until when this is so, in seconds since 1970.
    pub expires_s: u64,
}

impl From<&Claims> for Holder {
    fn from(claims: &Claims) -> Holder {
        let Claims { issuer, subject, name, client_id, scopes, audiences, expires_s, .. } = claims.clone();
        Holder { issuer, subject, name, client_id, scopes, audiences, expires_s }
    }
}

/// Somebody else's authorization server.
#[derive(Debug)]
pub struct Foreign {
    rules: Rules,
    audiences: Vec<String>,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Keys { keys: Keys, recent: Recent<Arc<Holder>> },
    Ask { introspection: Introspection, place: Place },
}

/// Where tokens are asked about.
#[derive(Debug)]
enum Place {
    Given(String),
    /// Where the issuer says, and what it said, until when that is believed.
    Discovered(Discovery, Mutex<Option<(String, u64)>>),
}

impl Foreign {
    /// A server as an operator describes it, asked by `fetcher`, which should have the reach that operators have. The
    /// error says which setting is wrong.
    pub fn new(settings: Settings, fetcher: Fetcher) -> Result<Foreign, String> {
        let Settings { issuer, check, audiences, algorithms, typ, leeway_s } = settings;
        if issuer.is_empty() {
            return Err("`issuer` is missing".into());
        }
        let signed = !matches!(check, Check::Ask(..));
        if signed && algorithms.is_empty() {
            return Err("`algorithms` allows none".into());
        }
        if leeway_s > landbridge_proto::oauth::jwt::MAX_LEEWAY_S {
            return Err("`leeway_s` is more than 60".into());
        }
        let url = |name: &str, url: &str| match Url::read(url) {
            Ok(read) if read.is_secure() => Ok(()),
            Ok(_) => Err(format!("`{name}` is not https")),
            Err(e) => Err(format!("`{name}` {e}")),
        };
        let recent = || Recent::new(MAX_ENTRIES, MAX_BYTES);
        let way = match check {
            Check::Discovered => {
                url("issuer", &issuer)?;
                Way::Keys { keys: Keys::of_issuer(issuer.clone(), fetcher), recent: recent() }
            }
            Check::KeysAt(at) => {
                url("jwks_url", &at)?;
                Way::Keys { keys: Keys::at(at, fetcher), recent: recent() }
            }
            Check::KeysOf(text) => Way::Keys { keys: Keys::of(&text).map_err(|e| format!("`jwks`: {e}"))?, recent: recent() },
            Check::Ask(at, credentials) => {
                match &at {
                    Some(at) => url("introspection_url", at)?,
                    None => url("issuer", &issuer)?,
                }
                let introspection = Introspection::new(credentials, fetcher.clone()).map_err(|e| format!("introspection {e}"))?;
                let place = match at {
                    Some(at) => Place::Given(at),
                    None => Place::Discovered(Discovery::new(issuer.clone(), fetcher), Mutex::default()),
                };
                Way::Ask { introspection, place }
            }
        };
        let typ = typ.map_or(Typ::ACCESS, Typ::Exactly);
        Ok(Foreign { rules: Rules { issuer, algorithms, typ, leeway_s }, audiences, way })
    }

    /// Who holds a token. Whether it is for what they ask for is [`Foreign::opens`].
    pub async fn check(&self, token: &str, now_s: u64) -> Result<Arc<Holder>, Refused> {
        if token.len() > MAX_TOKEN {
            return Err(Refused::Invalid("is too long"));
        }
        match &self.way {
            Way::Keys { keys, recent } => {
                let key = *Hash::of(token).as_bytes();
                if let Some(holder) = recent.get(&key, now_s) {
                    return Ok(holder);
                }
                let claims = verify(token, keys, &self.rules, now_s).await?;
                let holder = Arc::new(Holder::from(&claims));
                // Leeway is for those who come with it anew.
                let until_s = claims.expires_s.min(now_s + MAX_KEPT_S);
                recent.keep(key, Known { value: holder.clone(), until_s, n_bytes: 256 + token.len() });
                Ok(holder)
            }
            Way::Ask { introspection, place } => {
                let url = place.get(now_s).await?;
                let claims = introspection.check(token, &url, &self.rules, now_s).await?;
                Ok(Arc::new(Holder::from(&*claims)))
            }
        }
    }

    /// Whether a token of this holder's is for a mount of ours.
    pub fn opens(&self, holder: &Holder, mount: &Resource) -> bool {
        let means_us = holder.audiences.iter().any(|audience| self.audiences.contains(audience));
        means_us || opens(holder.audiences.iter().map(String::as_str), mount)
    }

    /// How far its clock and ours may differ, in seconds.
    pub fn leeway_s(&self) -> u64 {
        self.rules.leeway_s
    }

    /// The server's name: what the metadata of our mounts names as who issues tokens for them (RFC 9728 §2).
    pub fn issuer(&self) -> &str {
        &self.rules.issuer
    }
}

impl Place {
    async fn get(&self, now_s: u64) -> Result<String, Refused> {
        let (discovery, found) = match self {
            Place::Given(url) => return Ok(url.clone()),
            Place::Discovered(discovery, found) => (discovery, found),
        };
        let known = lock(found).clone().filter(|(_, until_s)| now_s < *until_s);
        if let Some((url, _)) = known {
            return Ok(url);
        }
        let checks = discovery.get(now_s).await.map_err(Refused::Unavailable)?;
        let url = checks.introspection_endpoint;
        let url = url.ok_or_else(|| Refused::Unavailable("its document names no introspection_endpoint".into()))?;
        *lock(found) = Some((url.clone(), now_s + PLACE_S));
        Ok(url)
    }
}
