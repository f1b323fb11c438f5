//! Asks an authorization server about a token of its own (RFC 7662): for tokens in which nothing can be read.
//!
//! That it is not good and that nobody answers are two things: the first is the client's to mend, the second is
//! not, and a client that was told 401 would throw its tokens away. Each token is asked about once for all who
//! bring it, and the answer is believed for a minute at most: for so long a revoked token may live.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use landbridge_proto::oauth::credentials::basic;
use landbridge_proto::oauth::form::encode;
use landbridge_proto::oauth::introspection::Introspected;
use landbridge_proto::oauth::jwt::{Claims, MAX_TOKEN, Rules};
use landbridge_proto::oauth::secret::{Hash, Secret};

use crate::fetch::{Bounds, Fetcher};
use crate::jwt::Refused;
use crate::recent::{Known, Recent};

/// How long an answer is believed, in seconds: that it is good, that it is not, and that nobody answers.
const ACTIVE_S: u64 = 60;
const INACTIVE_S: u64 = 5;
const SILENT_S: u64 = 1;
/// Answers that are kept, and their bytes.
const MAX_ENTRIES: usize = 8_192;
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// For an answer.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(5), ..Bounds::DOCUMENT };

/// How we show who we are (RFC 7662 §2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// `client_secret_basic`
    #[default]
    Basic,
    /// `client_secret_post`
    Post,
}

/// Us, as the authorization server knows us.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Our id there.
    pub client_id: String,
    /// Our secret there.
    pub secret: Secret,
    /// How it is shown.
    pub method: Method,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, {:?})", self.client_id, self.method)
    }
}

/// Asks about tokens.
#[derive(Debug)]
pub struct Introspection {
    credentials: Credentials,
    authorization: Option<HeaderValue>,
    fetcher: Fetcher,
    recent: Recent<Result<Arc<Claims>, Refused>>,
}

impl Introspection {
    /// Asks with these credentials. The error fits after "introspection ".
    pub fn new(credentials: Credentials, fetcher: Fetcher) -> Result<Introspection, &'static str> {
        let authorization = match credentials.method {
            Method::Post => None,
            Method::Basic => {
                let basic = basic(&credentials.client_id, credentials.secret.reveal());
                let mut basic = HeaderValue::from_str(basic.reveal()).map_err(|_| "has a secret that no header can carry")?;
                basic.set_sensitive(true);
                Some(basic)
            }
        };
        let recent = Recent::new(MAX_ENTRIES, MAX_BYTES);
        Ok(Introspection { credentials, authorization, fetcher, recent })
    }

    /// What is known of a token at `url`, by an issuer whose tokens must hold to `rules`.
    pub async fn check(&self, token: &str, url: &str, rules: &Rules, now_s: u64) -> Result<Arc<Claims>, Refused> {
        if token.len() > MAX_TOKEN {
            return Err(Refused::Invalid("is too long"));
        }
        let find = || async {
            let value = self.ask(token, url, rules, now_s).await;
            let (keep_s, n_bytes) = match &value {
                // Never longer than the token itself is good for.
                Ok(claims) => (ACTIVE_S.min(claims.expires_s.saturating_sub(now_s)), 1024 + token.len()),
                Err(Refused::Invalid(_)) => (INACTIVE_S, 64),
                Err(Refused::Unavailable(_)) => (SILENT_S, 256),
            };
            Ok::<_, Refused>(Known { value, until_s: now_s + keep_s, n_bytes })
        };
        let claims = self.recent.find(*Hash::of(token).as_bytes(), now_s, find).await??;
        // Whoever waited may have waited too long.
        rules.hold(&claims, now_s).map_err(Refused::Invalid)?;
        Ok(claims)
    }

    async fn ask(&self, token: &str, url: &str, rules: &Rules, now_s: u64) -> Result<Arc<Claims>, Refused> {
        let mut form = format!("token={}&token_type_hint=access_token", encode(token));
        if self.authorization.is_none() {
            let Credentials { client_id, secret, .. } = &self.credentials;
            form.push_str(&format!("&client_id={}&client_secret={}", encode(client_id), encode(secret.reveal())));
        }
        let unavailable = |why: String| Refused::Unavailable(format!("{url}: {why}"));
        let fetched = self.fetcher.post(url, self.authorization.as_ref(), form, &BOUNDS, now_s).await;
        let fetched = fetched.map_err(|trouble| unavailable(trouble.to_string()))?;
        match Introspected::read(&fetched.text, rules, now_s).map_err(unavailable)? {
            Introspected::Active(claims) => Ok(Arc::from(claims)),
            Introspected::Inactive => Err(Refused::Invalid("is not active")),
        }
    }
}
