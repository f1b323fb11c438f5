//! Login at GitHub, or at a GitHub Enterprise Server.
//!
//! GitHub is no OpenID Connect issuer: a code becomes a token, and the token asks who its user is. Odd: the token
//! endpoint answers errors with HTTP 200, and every request needs a `User-Agent`. A login can be renamed and
//! then taken by another, so a user is their number.

use http::header::{ACCEPT, HeaderName, HeaderValue, LINK};
use serde::Deserialize;

use landbridge_proto::oauth::admission::{Admission, Identity};
use landbridge_proto::oauth::form::{Form, with_params};
use landbridge_proto::oauth::secret::Secret;

use crate::backend::http::Http;
use crate::login::exchange::{Answer, Exchange};
use crate::login::{Begin, Blame, Finish, Held, Now, Trouble, Upstream, code};

/// The revision of its API that the fields here are of.
const API_VERSION: HeaderValue = HeaderValue::from_static("2022-11-28");
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-github-api-version");
/// What is left out of an answer for want of a single sign-on.
const SSO: HeaderName = HeaderName::from_static("x-github-sso");
const API_JSON: HeaderValue = HeaderValue::from_static("application/vnd.github+json");
/// Organisations on a page, and most pages.
const PAGE: usize = 100;
const MAX_PAGES: usize = 10;

/// What was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Of the OAuth app (or GitHub App) that was registered there.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// Where users log in, without a slash at the end. Also the issuer in principals.
    pub web: String,
    /// Where the API is, without a slash at the end; for Enterprise `https://HOST/api/v3`.
    pub api: String,
    /// Who is let in.
    pub admission: Admission,
}

impl Settings {
    /// For github.com.
    pub fn new(client_id: impl Into<String>, client_secret: Secret, admission: Admission) -> Settings {
        Settings {
            client_id: client_id.into(),
            client_secret,
            web: "https://github.com".into(),
            api: "https://api.github.com".into(),
            admission,
        }
    }

    /// What is wrong with it. Each fits after the name of its section.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.admission.complaints();
        if self.client_id.is_empty() || self.client_secret.reveal().is_empty() {
            complaints.push("needs `client_id` and `client_secret` of an OAuth app, made at github.com/settings/developers".into());
        }
        if !self.admission.domains.is_empty() || !self.admission.emails.is_empty() {
            complaints.push("names `domains` or `emails`, which GitHub does not tell: name `users` or `organisations`".into());
        }
        complaints
    }

    /// Nothing for a list of users, membership for one of organisations.
    fn scope(&self) -> &'static str {
        if self.admission.organisations.is_empty() { "" } else { "read:org" }
    }
}

/// GitHub, as a provider.
#[derive(Debug)]
pub struct GitHub(Settings);

#[derive(Deserialize)]
struct Token {
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
    expires_in: Option<u64>,
    token_type: Option<String>,
    scope: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Organisation {
    login: String,
}

/// Why it is not told who somebody is.
enum Untold {
    /// We may not know where they belong; for good, if they have taken that back.
    Denied {
        for_good: bool,
    },
    Trouble(Trouble),
}

impl From<Trouble> for Untold {
    fn from(trouble: Trouble) -> Untold {
        Untold::Trouble(trouble)
    }
}

impl GitHub {
    /// With these settings.
    pub fn new(settings: Settings) -> GitHub {
        GitHub(settings)
    }

    /// What was configured.
    pub fn settings(&self) -> &Settings {
        &self.0
    }

    pub(super) fn label(&self) -> &'static str {
        if self.0.web == "https://github.com" { "GitHub" } else { "GitHub Enterprise" }
    }

    pub(super) fn begin(&self, begin: &Begin<'_>) -> String {
        let mut params = vec![
            ("client_id", self.0.client_id.as_str()),
            ("redirect_uri", begin.callback),
            ("response_type", "code"),
            ("state", begin.state),
            ("code_challenge", begin.challenge),
            ("code_challenge_method", "S256"),
        ];
        params.extend(Some(("scope", self.0.scope())).filter(|(_, scope)| !scope.is_empty()));
        params.extend(begin.choose.then_some(("prompt", "select_account")));
        with_params(&format!("{}/login/oauth/authorize", self.0.web), &params)
    }

    pub(super) async fn finish(&self, http: &Http, form: &Form, finish: &Finish<'_>) -> Result<Upstream, Trouble> {
        let (settings, label) = (&self.0, self.label());
        let itself = format!("{}/login/oauth", settings.web);
        let code = code(form, label, &[&settings.web, &itself])?;
        let params = [("code", code), ("redirect_uri", finish.callback), ("code_verifier", finish.verifier)];
        let mut token = self.redeem(http, &params).await?;
        let scopes = token.scope.take().unwrap_or_default();
        let held = self.held(token, finish.now_s)?;
        let answer = self.ask(http, &held.access_token, "/user").await?;
        let (identity, _) = self.identity(answer, http, &held.access_token).await.map_err(|untold| self.trouble(untold))?;
        Ok(Upstream { identity, held, scopes: scopes.split([',', ' ']).filter(|s| !s.is_empty()).map(str::to_owned).collect() })
    }

    /// Who the user with this token is now.
    pub(super) async fn who(&self, http: &Http, held: &Held) -> Result<Now, Trouble> {
        let answer = self.ask(http, &held.access_token, "/user").await?;
        if answer.status == http::StatusCode::UNAUTHORIZED {
            return Ok(Now::Refused);
        }
        if is_for_good(&answer) {
            return Err(Trouble::new(Blame::User, format!("{} has suspended its user", self.label())));
        }
        let (identity, is_all) = self.identity(answer, http, &held.access_token).await.map_err(|untold| match untold {
            // A company's single sign-on, or a proxy's word, may be another tomorrow.
            Untold::Denied { for_good: false } => Trouble { blame: Blame::Provider, ..self.denied() },
            untold => self.trouble(untold),
        })?;
        if !is_all && landbridge_proto::oauth::admission::decide(&identity, &self.0.admission).is_err() {
            return Err(Trouble::new(Blame::Provider, format!("{} does not tell us all of its user's organisations", self.label())));
        }
        Ok(Now::Is { identity: Box::new(identity), lacks: false })
    }

    /// Another token, in place of one that is over (GitHub Apps, whose tokens are for eight hours).
    pub(super) async fn renew(&self, http: &Http, held: &mut Held, with: &[(&str, &str)], now_s: u64) -> Result<(), Trouble> {
        *held = self.held(self.redeem(http, with).await?, now_s)?;
        Ok(())
    }

    /// A token as it is kept.
    fn held(&self, token: Token, now_s: u64) -> Result<Held, Trouble> {
        let label = self.label();
        let Some(access_token) = token.access_token.filter(|token| !token.reveal().is_empty()) else {
            return Err(Trouble::new(Blame::Provider, format!("{label} gave us no token")));
        };
        if !token.token_type.as_deref().unwrap_or("bearer").eq_ignore_ascii_case("bearer") {
            return Err(Trouble::new(Blame::Provider, format!("{label} gave us a token of a kind that we do not know")));
        }
        Ok(Held {
            access_token,
            refresh_token: token.refresh_token.filter(|token| !token.reveal().is_empty()),
            expires_s: token.expires_in.map(|in_s| now_s.saturating_add(in_s)),
            lasts: true,
        })
    }

    /// Who the user is, by what `/user` has answered, and whether all is known that could let them in.
    async fn identity(&self, answer: Answer, http: &Http, access_token: &Secret) -> Result<(Identity, bool), Untold> {
        let settings = &self.0;
        let user: User = answer.good()?.json()?;
        let mut is_all = true;
        let mut identity = Identity {
            issuer: settings.web.clone(),
            subject: user.id.to_string(),
            login: Some(user.login),
            name: user.name,
            ..Identity::default()
        };
        // Who is let in by name need not tell us where they belong.
        let by_name = Admission { organisations: Vec::new(), ..settings.admission.clone() };
        if !settings.admission.organisations.is_empty() && landbridge_proto::oauth::admission::decide(&identity, &by_name).is_err() {
            (identity.organisations, is_all) = self.organisations(http, access_token).await?;
        }
        Ok((identity, is_all))
    }

    /// A token for a code, or for a refresh token.
    async fn redeem(&self, http: &Http, with: &[(&str, &str)]) -> Result<Token, Trouble> {
        let label = self.label();
        let url = format!("{}/login/oauth/access_token", self.0.web);
        let ours = [("client_id", self.0.client_id.as_str()), ("client_secret", self.0.client_secret.reveal())];
        let params = [&ours, with].concat();
        let answer = Exchange::post(http, label, &url, &params).send().await?;
        if answer.status == http::StatusCode::NOT_FOUND {
            // An unknown client gets a page that says nothing.
            return Err(
                Trouble::new(Blame::Operator, format!("{label} does not know this server: its `client_id` is wrong")).because("HTTP 404")
            );
        }
        let token: Token = answer.good()?.json()?;
        let Some(error) = &token.error else { return Ok(token) };
        let why = format!("{label} said {error}: {}", token.error_description.as_deref().unwrap_or("no description"));
        Err(match error.as_str() {
            "bad_verification_code" => Trouble::new(Blame::User, "the login took too long, or was finished once before"),
            "bad_refresh_token" => Trouble::new(Blame::User, "the login is over"),
            "incorrect_client_credentials" => Trouble::new(
                Blame::Operator,
                format!("{label} does not accept this server's `client_secret`: it is wrong, or was replaced"),
            ),
            "redirect_uri_mismatch" => {
                Trouble::new(Blame::Operator, format!("{label} has another callback URL for this server than the one that it uses"))
            }
            "unverified_user_email" => Trouble::new(Blame::User, format!("{label} wants you to verify your e-mail address first")),
            _ => Trouble::new(Blame::Provider, format!("{label} refused to finish the login")),
        }
        .because(why))
    }

    /// One page of the API, as the user.
    async fn ask(&self, http: &Http, token: &Secret, path: &str) -> Result<Answer, Trouble> {
        let url = format!("{}{path}", self.0.api);
        let exchange = Exchange::get(http, self.label(), &url).authorized(&format!("Bearer {}", token.reveal()))?;
        exchange.header(ACCEPT, API_JSON).header(VERSION_HEADER, API_VERSION).send().await
    }

    fn trouble(&self, untold: Untold) -> Trouble {
        match untold {
            Untold::Denied { .. } => self.denied(),
            Untold::Trouble(trouble) => trouble,
        }
    }

    fn denied(&self) -> Trouble {
        let told = format!("{} does not tell us which organisations you belong to: allow it when it asks", self.label());
        Trouble::new(Blame::User, told).because("HTTP 403 at /user/orgs")
    }

    /// Where the user belongs, and whether that is all.
    async fn organisations(&self, http: &Http, token: &Secret) -> Result<(Vec<String>, bool), Untold> {
        let (mut all, mut is_all) = (Vec::new(), true);
        for page in 1..=MAX_PAGES {
            let answer = self.ask(http, token, &format!("/user/orgs?per_page={PAGE}&page={page}")).await?;
            if answer.status == http::StatusCode::FORBIDDEN && !has_had_enough(&answer) {
                // The user can take the scope away, and a company can demand its single sign-on first.
                return Err(Untold::Denied { for_good: is_for_good(&answer) });
            }
            let answer = answer.good()?;
            // Those that want their own single sign-on first are left out.
            is_all &= !answer.headers.get(SSO).and_then(|sso| sso.to_str().ok()).is_some_and(|sso| sso.starts_with("partial-results"));
            let found: Vec<Organisation> = answer.json()?;
            all.extend(found.into_iter().map(|organisation| organisation.login));
            // The page's number is ours; where its link leads is not followed.
            let more = answer.headers.get_all(LINK).iter().any(|link| link.to_str().is_ok_and(|l| l.contains("rel=\"next\"")));
            if !more {
                return Ok((all, is_all));
            }
        }
        tracing::warn!("a user of GitHub belongs to more than {} organisations; the others are not looked at", PAGE * MAX_PAGES);
        Ok((all, false))
    }
}

/// Whether a refusal is for having asked too much, which GitHub also says by 403.
fn has_had_enough(answer: &Answer) -> bool {
    let none_left = answer.headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0");
    none_left || answer.headers.contains_key(http::header::RETRY_AFTER)
}

/// Whether a 403 is of GitHub itself, for what the user has done or what was done to them, and not for the moment.
fn is_for_good(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    answer.status == http::StatusCode::FORBIDDEN
        && answer.json::<Said>().is_ok_and(|said| ["scope", "suspended"].iter().any(|word| said.message.contains(word)))
}
