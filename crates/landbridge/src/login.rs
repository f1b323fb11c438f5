//! How a user shows who they are, and the pages they see while doing so.
//!
//! ```text
//!   Provider::begin ──▶ URL ──▶ (browser, provider) ──▶ callback ──▶ Provider::finish ──▶ Upstream
//!   Provider::who (with the token of that login, later) ─────────────────────────────▶ Now
//!   Desk::sign_in (a name and a password) ───────────────────────────────────────────▶ Identity
//! ```
//!
//! The caller keeps what a login needs between the two (`state`, `nonce`, verifier), once and for a few minutes,
//! bound to the browser's cookie. Who may come in is decided by `landbridge_proto::oauth::admission`, and [`Provider::finish`]
//! has asked it. Odd: a provider's own words reach the log, and the user only in part: what they may read is ours,
//! and says who can mend it.

pub mod cookies;
mod exchange;
pub mod github;
pub mod local;
pub mod oidc;
pub mod pages;
mod text;

use std::fmt;

use landbridge_proto::oauth::admission::{Admission, Identity};
use landbridge_proto::oauth::form::Form;
use landbridge_proto::oauth::secret::Secret;

use crate::backend::http::Http;

pub use github::GitHub;
pub use local::{Account, Desk};
pub use oidc::Oidc;

/// Longest state, code or name that a callback brings.
const MAX_PARAM: usize = 4 * 1024;

/// Somebody else who knows our users.
#[derive(Debug)]
pub enum Provider {
    /// github.com, or a GitHub Enterprise Server.
    GitHub(GitHub),
    /// Google, or any other OpenID Connect issuer.
    Oidc(Box<Oidc>),
}

/// What a login begins with. All of it is remembered until its end.
#[derive(Clone, Copy, Debug)]
pub struct Begin<'a> {
    /// Where the provider sends the browser back to, as it is registered there.
    pub callback: &'a str,
    /// By which the caller finds the login again: random, used once.
    pub state: &'a str,
    /// What an id token of this login holds: random.
    pub nonce: &'a str,
    /// The challenge of PKCE, method S256.
    pub challenge: &'a str,
    /// Whether the user wants to choose another account than the one they are signed in with there.
    pub choose: bool,
}

/// What a login is finished with. `state` was compared by finding these.
#[derive(Clone, Copy, Debug)]
pub struct Finish<'a> {
    /// As it began.
    pub callback: &'a str,
    /// As it began.
    pub nonce: &'a str,
    /// Whose challenge it began with.
    pub verifier: &'a str,
    /// Seconds since 1970.
    pub now_s: u64,
}

/// Who somebody is, and what their provider gave us to ask about them again.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Who they are; they may come in.
    pub identity: Identity,
    /// For the vault.
    pub held: Held,
    /// What the token may do there, in the provider's words.
    pub scopes: Vec<String>,
}

/// A token of a provider's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What is shown.
    pub access_token: Secret,
    /// By which another is had.
    pub refresh_token: Option<Secret>,
    /// When the access token ends, in seconds since 1970, if that was said.
    pub expires_s: Option<u64>,
    /// It is meant to outlive the user's visit at the provider: that it is not taken any more says something of the user.
    pub lasts: bool,
}

/// Who a provider says that a user is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Now {
    /// This one; `lacks`: something is missing that could let them in, and that it perhaps never says in this way.
    Is { identity: Box<Identity>, lacks: bool },
    /// It does not take the token.
    Refused,
}

/// Who can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The user said no, or came too late: they can begin again.
    User,
    /// The user is not on the list: the operator can let them in.
    Admission,
    /// Our configuration: the operator.
    Operator,
    /// The provider did not answer, or not as it should.
    Provider,
    /// We are busy: later.
    Later,
}

impl Blame {
    /// The HTTP status of the page that tells it.
    pub fn status(self) -> http::StatusCode {
        match self {
            Blame::User => http::StatusCode::BAD_REQUEST,
            Blame::Admission => http::StatusCode::FORBIDDEN,
            Blame::Operator => http::StatusCode::INTERNAL_SERVER_ERROR,
            Blame::Provider => http::StatusCode::BAD_GATEWAY,
            Blame::Later => http::StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

/// Why a login did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Who can mend it.
    pub blame: Blame,
    /// What the user may read.
    pub told: String,
    /// What only the log may read.
    pub why: Option<String>,
}

impl Trouble {
    /// Trouble that this is all of.
    pub fn new(blame: Blame, told: impl Into<String>) -> Trouble {
        Trouble { blame, told: told.into(), why: None }
    }

    /// With a reason for the log.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Trouble {
        Trouble { why: Some(why.into()), ..self }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{}: {}", self.told, text::plain(why, 300)),
            None => f.write_str(&self.told),
        }
    }
}

impl Provider {
    /// Its name in URLs and in the configuration; unique among the providers of one server.
    pub fn key(&self) -> &str {
        match self {
            Provider::GitHub(_) => "github",
            Provider::Oidc(oidc) => &oidc.settings().key,
        }
    }

    /// What a button calls it.
    pub fn label(&self) -> &str {
        match self {
            Provider::GitHub(github) => github.label(),
            Provider::Oidc(oidc) => &oidc.settings().label,
        }
    }

    /// Who vouches for its users.
    pub fn issuer(&self) -> &str {
        match self {
            Provider::GitHub(github) => &github.settings().web,
            Provider::Oidc(oidc) => &oidc.settings().issuer,
        }
    }

    /// Who is let in.
    pub fn admission(&self) -> &Admission {
        match self {
            Provider::GitHub(github) => &github.settings().admission,
            Provider::Oidc(oidc) => &oidc.settings().admission,
        }
    }

    /// What is wrong with how it is configured. Each fits after the name of its section.
    pub fn complaints(&self) -> Vec<String> {
        match self {
            Provider::GitHub(github) => github.settings().complaints(),
            Provider::Oidc(oidc) => oidc.settings().complaints(),
        }
    }

    /// The URL to send the browser to. An OpenID Connect issuer may have to be asked for its document first.
    pub async fn begin(&self, http: &Http, begin: &Begin<'_>) -> Result<String, Trouble> {
        match self {
            Provider::GitHub(github) => Ok(github.begin(begin)),
            Provider::Oidc(oidc) => oidc.begin(http, begin).await,
        }
    }

    /// Finishes a login with what the browser has brought back. Whoever is returned may come in.
    pub async fn finish(&self, http: &Http, form: &Form, finish: &Finish<'_>) -> Result<Upstream, Trouble> {
        let upstream = match self {
            Provider::GitHub(github) => github.finish(http, form, finish).await?,
            Provider::Oidc(oidc) => oidc.finish(http, form, finish).await?,
        };
        landbridge_proto::oauth::admission::decide(&upstream.identity, self.admission())
            .map_err(|told| Trouble::new(Blame::Admission, text::plain(&told, 300)).because(upstream.identity.principal()))?;
        Ok(upstream)
    }

    /// Gets another token by the refresh token, which is spent then. Of [`Blame::User`] is that this one is not taken.
    pub async fn renew(&self, http: &Http, held: &mut Held, now_s: u64) -> Result<(), Trouble> {
        let Some(refresh_token) = held.refresh_token.clone() else {
            return Err(Trouble::new(Blame::Provider, format!("{} gave us no token by which it could be asked for longer", self.label())));
        };
        let params = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.reveal())];
        match self {
            Provider::GitHub(github) => github.renew(http, held, &params, now_s).await,
            Provider::Oidc(oidc) => oidc.renew(http, held, &params, now_s).await,
        }
    }

    /// Who the user with this token is now, who was `subject` when they logged in. Of [`Blame::User`] is that they are
    /// suspended, or have taken back what the token could do.
    pub async fn who(&self, http: &Http, held: &Held, subject: &str) -> Result<Now, Trouble> {
        match self {
            Provider::GitHub(github) => github.who(http, held).await,
            Provider::Oidc(oidc) => oidc.who(http, held, subject).await,
        }
    }

    /// By which client of it users are asked about.
    pub fn client_id(&self) -> &str {
        match self {
            Provider::GitHub(github) => &github.settings().client_id,
            Provider::Oidc(oidc) => &oidc.settings().client_id,
        }
    }
}

/// The code in a callback, after everything that speaks against it. `issuers` are the names that the provider may
/// give itself.
fn code<'f>(form: &'f Form, provider: &str, issuers: &[&str]) -> Result<&'f str, Trouble> {
    if let Some(name) = form.twice() {
        return Err(Trouble::new(Blame::Provider, format!("{provider} answered with two of a parameter")).because(name));
    }
    // RFC 9207 §2.4: an answer of another server is not looked at, not even its error.
    if let Some(iss) = form.get("iss")
        && !issuers.contains(&iss)
    {
        return Err(Trouble::new(Blame::Provider, format!("the answer is not from {provider}")).because(format!("iss is {iss}")));
    }
    if let Some(error) = form.get("error") {
        let why = format!("{error}: {}", form.get("error_description").unwrap_or("no description"));
        return Err(match error {
            "access_denied" | "login_required" | "interaction_required" | "consent_required" | "account_selection_required" => {
                Trouble::new(Blame::User, format!("{provider} says that you did not agree"))
            }
            "temporarily_unavailable" | "server_error" => {
                Trouble::new(Blame::Provider, format!("{provider} cannot log anybody in at the moment"))
            }
            "redirect_uri_mismatch" | "application_suspended" | "unauthorized_client" | "invalid_scope" | "invalid_client" => {
                Trouble::new(Blame::Operator, format!("{provider} does not accept how this server is registered there"))
            }
            _ => Trouble::new(Blame::Provider, format!("{provider} refused the login")),
        }
        .because(why));
    }
    match form.get("code") {
        Some(code) if code.len() <= MAX_PARAM => Ok(code),
        _ => Err(Trouble::new(Blame::User, format!("you came back from {provider} without a code"))),
    }
}
