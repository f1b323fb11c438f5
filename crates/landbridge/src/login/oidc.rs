//! Login at an OpenID Connect issuer, Google among them.
//!
//! ```text
//!   issuer ──▶ its document (kept for an hour) ──▶ begin … callback ──▶ code ──▶ id token ──▶ checked ──▶ (userinfo)
//! ```
//!
//! Everything that an id token claims is checked, and that its issuer has signed it (OpenID Connect Core §3.1.3.7). Odd: Google writes its issuer in two ways, and some issuers write `email_verified` as a string.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use landbridge_proto::oauth::admission::{Admission, Identity};
use landbridge_proto::oauth::credentials::basic;
use landbridge_proto::oauth::form::{Form, with_params};
use landbridge_proto::oauth::jwt::Jws;
use landbridge_proto::oauth::secret::Secret;
use landbridge_proto::oauth::url::Url;

use crate::backend::http::Http;
use crate::backend::made_once;
use crate::fetch::{Fetcher, Reach};
use crate::jwt::{self, keys::Keys};
use crate::login::exchange::Exchange;
use crate::login::{Begin, Blame, Finish, Held, Now, Trouble, Upstream, code};

/// How long an issuer's document is believed.
const DOCUMENT_TTL: Duration = Duration::from_secs(60 * 60);
/// How far clocks may be apart, in seconds.
const LEEWAY_S: u64 = 60;
/// Longest subject (OpenID Connect Core §2).
const MAX_SUBJECT: usize = 255;
/// What a login says by itself.
const OURS: [&str; 9] =
    ["client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge", "code_challenge_method"];
/// Google's issuer.
pub const GOOGLE: &str = "https://accounts.google.com";

/// What was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name in URLs: letters, digits, `-`.
    pub key: String,
    /// Its name on a button.
    pub label: String,
    /// The issuer, to the letter as it writes itself.
    pub issuer: String,
    /// Where its document is, if not where Discovery §4 has it.
    pub discovery_url: Option<String>,
    /// What else it is asked with, in the URL that users are sent to.
    pub params: BTreeMap<String, String>,
    /// Of the client that was registered there.
    pub client_id: String,
    /// Its secret, if it has one; PKCE is used either way.
    pub client_secret: Option<Secret>,
    /// Who is let in.
    pub admission: Admission,
}

impl Settings {
    /// Google: people of any Google account, or of hosted domains.
    pub fn google(client_id: impl Into<String>, client_secret: Secret, admission: Admission) -> Settings {
        Settings {
            key: "google".into(),
            label: "Google".into(),
            issuer: GOOGLE.into(),
            discovery_url: None,
            params: BTreeMap::new(),
            client_id: client_id.into(),
            client_secret: Some(client_secret),
            admission,
        }
    }

    /// What is wrong with it. Each fits after the name of its section.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = self.admission.complaints();
        if self.client_id.is_empty() {
            complaints.push("needs the `client_id` that this server was registered with".into());
        }
        match Url::read(&self.issuer) {
            Ok(url) if !url.is_secure() => complaints.push(format!("has the issuer {:?}, which is not https", self.issuer)),
            Ok(url) if url.query().is_some() => complaints.push(format!("has the issuer {:?}, which has a query", self.issuer)),
            Ok(_) => {}
            Err(e) => complaints.push(format!("has the issuer {:?}, which {e}", self.issuer)),
        }
        if let Some(url) = &self.discovery_url
            && !Url::read(url).is_ok_and(|url| url.is_secure())
        {
            complaints.push(format!("has the discovery_url {url:?}, which is no https URL"));
        }
        if let Some(ours) = self.params.keys().find(|name| OURS.contains(&name.as_str())) {
            complaints.push(format!("has {ours:?} among its `params`, which says itself what it has to be"));
        }
        if !self.admission.organisations.is_empty() {
            complaints.push("names `organisations`, which only GitHub has: name `users`, `domains` or `emails`".into());
        }
        complaints
    }

    /// Whether this is how the issuer writes itself in tokens.
    fn is_issuer(&self, iss: &str) -> bool {
        // developers.google.com/identity/openid-connect: "always https://accounts.google.com or accounts.google.com".
        iss == self.issuer || (self.issuer == GOOGLE && iss == "accounts.google.com")
    }
}

/// An issuer, as a provider.
#[derive(Debug)]
pub struct Oidc {
    settings: Settings,
    /// Held while it is fetched, so that it is fetched once.
    document: Mutex<Option<(Instant, Arc<Document>)>>,
    /// What it signs with, once that was needed.
    keys: OnceLock<Keys>,
}

/// What we need of an issuer's document (OpenID Connect Discovery §3).
#[derive(Debug, Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: Option<String>,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: Option<Secret>,
    refresh_token: Option<Secret>,
    id_token: Option<Secret>,
    expires_in: Option<u64>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

/// The audience of a token is one or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn list(&self) -> &[String] {
        match self {
            Audience::One(one) => std::slice::from_ref(one),
            Audience::Several(several) => several,
        }
    }
}

/// Some issuers write it as a string (Amazon Cognito, Apple).
#[derive(Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
}

impl Flag {
    fn is_set(&self) -> bool {
        match self {
            Flag::Bool(set) => *set,
            Flag::Text(text) => text == "true",
        }
    }
}

/// A moment in seconds since 1970, which may have a fraction (RFC 7519 §2, `NumericDate`).
#[derive(Clone, Copy, Deserialize)]
struct Moment(f64);

#[derive(Deserialize)]
struct IdToken {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: Moment,
    iat: Option<Moment>,
    nbf: Option<Moment>,
    nonce: Option<String>,
    #[serde(flatten)]
    person: Person,
}

/// What an id token or the userinfo endpoint tells of somebody (OpenID Connect Core §5.1).
#[derive(Deserialize)]
struct Person {
    name: Option<String>,
    email: Option<String>,
    email_verified: Option<Flag>,
    hd: Option<String>,
}

#[derive(Deserialize)]
struct Userinfo {
    sub: String,
    #[serde(flatten)]
    person: Person,
}

impl Oidc {
    /// With these settings.
    pub fn new(settings: Settings) -> Oidc {
        Oidc { settings, document: Mutex::default(), keys: OnceLock::new() }
    }

    /// What was configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) async fn begin(&self, http: &Http, begin: &Begin<'_>) -> Result<String, Trouble> {
        let document = self.document(http).await?;
        let mut params = vec![
            ("client_id", self.settings.client_id.as_str()),
            ("redirect_uri", begin.callback),
            ("response_type", "code"),
            ("scope", "openid email profile"),
            ("state", begin.state),
            ("nonce", begin.nonce),
            ("code_challenge", begin.challenge),
            ("code_challenge_method", "S256"),
        ];
        let prompts = [begin.choose.then_some("select_account"), self.settings.params.get("prompt").map(String::as_str)];
        let prompt = prompts.into_iter().flatten().collect::<Vec<_>>().join(" ");
        params.extend((!prompt.is_empty()).then_some(("prompt", prompt.as_str())));
        let more = self.settings.params.iter().filter(|(name, _)| *name != "prompt");
        params.extend(more.map(|(name, value)| (name.as_str(), value.as_str())));
        if self.settings.issuer == GOOGLE {
            // Only a hint to the page that chooses accounts; the claim is what counts.
            match self.settings.admission.domains.as_slice() {
                [] => {}
                [one] => params.push(("hd", one)),
                _ => params.push(("hd", "*")),
            }
        }
        Ok(with_params(&document.authorization_endpoint, &params))
    }

    pub(super) async fn finish(&self, http: &Http, form: &Form, finish: &Finish<'_>) -> Result<Upstream, Trouble> {
        let label = &self.settings.label;
        let code = code(form, label, &[&self.settings.issuer])?;
        let document = self.document(http).await?;
        let params =
            [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", finish.callback), ("code_verifier", finish.verifier)];
        let tokens = self.redeem(http, &document, &params).await?;
        let (Some(access_token), Some(id_token)) = (tokens.access_token, tokens.id_token) else {
            return Err(Trouble::new(Blame::Provider, format!("{label} gave us no id token")).because("the token endpoint left one out"));
        };
        let forged =
            |why: String| Trouble::new(Blame::Provider, format!("{label} vouched for you in a way that we cannot accept")).because(why);
        let (jws, claims) = read(id_token.reveal()).map_err(forged)?;
        self.check(&claims, finish).map_err(forged)?;
        let keys =
            self.keys(&document).map_err(|why| Trouble::new(Blame::Provider, format!("{label} cannot vouch for you")).because(why))?;
        jwt::signed(&jws, keys, finish.now_s).await.map_err(|refused| match refused {
            jwt::Refused::Invalid(why) => forged(format!("the id token {why}")),
            jwt::Refused::Unavailable(why) => Trouble::new(Blame::Provider, format!("{label} does not answer at the moment")).because(why),
        })?;

        let mut person = claims.person;
        // What decides whether somebody may come in.
        let lacks = self.lacks(&person);
        if (lacks || person.name.is_none())
            && let Some(url) = &document.userinfo_endpoint
        {
            let refused = || Trouble::new(Blame::Provider, format!("{label} does not take its own token")).because("HTTP 401 at userinfo");
            match self.userinfo(http, url, &access_token, &claims.sub).await.and_then(|more| more.ok_or_else(refused)) {
                Ok(more) => person = person.or(more),
                // Nobody is kept out for the want of a name.
                Err(trouble) if !lacks => tracing::debug!(provider = label, "no userinfo: {trouble}"),
                Err(trouble) => return Err(trouble),
            }
        }
        let scopes = tokens.scope.unwrap_or_default();
        Ok(Upstream {
            identity: self.identity(claims.sub, person),
            held: Held {
                access_token,
                refresh_token: tokens.refresh_token,
                expires_s: tokens.expires_in.map(|in_s| finish.now_s.saturating_add(in_s)),
                lasts: self.gives_what_lasts(&scopes),
            },
            scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        })
    }

    /// Who the user with this token is now: `subject`, or nobody of whom we could be told.
    pub(super) async fn who(&self, http: &Http, held: &Held, subject: &str) -> Result<Now, Trouble> {
        let document = self.document(http).await?;
        let unknowable = || Trouble::new(Blame::Provider, format!("{} tells nobody about its users", self.settings.label));
        let url = document.userinfo_endpoint.as_deref().ok_or_else(unknowable)?;
        let Some(person) = self.userinfo(http, url, &held.access_token, subject).await? else { return Ok(Now::Refused) };
        let lacks = self.lacks(&person);
        Ok(Now::Is { identity: Box::new(self.identity(subject.to_owned(), person)), lacks })
    }

    /// Another token, in place of one that is over.
    pub(super) async fn renew(&self, http: &Http, held: &mut Held, with: &[(&str, &str)], now_s: u64) -> Result<(), Trouble> {
        let label = &self.settings.label;
        let document = self.document(http).await?;
        let tokens = self.redeem(http, &document, with).await?;
        let none = || Trouble::new(Blame::Provider, format!("{label} gave us no token"));
        held.access_token = tokens.access_token.ok_or_else(none)?;
        held.expires_s = tokens.expires_in.map(|in_s| now_s.saturating_add(in_s));
        if let Some(another) = tokens.refresh_token {
            held.refresh_token = Some(another);
        }
        Ok(())
    }

    /// Whether what it gives outlives its user's visit there: Google's does, and others' by a scope (OpenID Connect Core §11).
    /// Elsewhere a refresh token may end when the user signs out, or goes home.
    fn gives_what_lasts(&self, scopes: &str) -> bool {
        self.settings.issuer == GOOGLE || scopes.split_whitespace().any(|scope| scope == "offline_access")
    }

    /// Whether something is missing that could let somebody in.
    fn lacks(&self, person: &Person) -> bool {
        let Admission { emails, domains, .. } = &self.settings.admission;
        (person.email.is_none() && !emails.is_empty()) || (person.hd.is_none() && !domains.is_empty())
    }

    fn identity(&self, subject: String, person: Person) -> Identity {
        Identity {
            issuer: self.settings.issuer.clone(),
            subject,
            login: None,
            name: person.name,
            email: person.email,
            email_verified: person.email_verified.is_some_and(|flag| flag.is_set()),
            hosted_domain: person.hd,
            organisations: Vec::new(),
        }
    }

    fn keys(&self, document: &Document) -> Result<&Keys, String> {
        made_once(&self.keys, || {
            let url = document.jwks_uri.as_deref().ok_or("its document names no jwks_uri")?;
            if !Url::read(url).is_ok_and(|url| url.is_secure()) {
                return Err(format!("jwks_uri {url:?} is not https"));
            }
            // An operator has named the issuer, and it may be in their own network.
            Ok(Keys::at(url.to_owned(), Fetcher::new(Reach::Anywhere)?))
        })
    }

    async fn document(&self, http: &Http) -> Result<Arc<Document>, Trouble> {
        let mut kept = self.document.lock().await;
        if let Some((since, document)) = &*kept
            && since.elapsed() < DOCUMENT_TTL
        {
            return Ok(document.clone());
        }
        let label = &self.settings.label;
        let usual = || format!("{}/.well-known/openid-configuration", self.settings.issuer.trim_end_matches('/'));
        let url = self.settings.discovery_url.clone().unwrap_or_else(usual);
        let answer = Exchange::get(http, label, &url).send().await?;
        if answer.status == StatusCode::NOT_FOUND {
            let told = format!("{label} is no OpenID Connect issuer: the configured `issuer` is wrong");
            return Err(Trouble::new(Blame::Operator, told).because(format!("HTTP 404 at {url}")));
        }
        let document: Document = answer.good()?.json()?;
        if document.issuer != self.settings.issuer {
            // Discovery §4.3; whoever answers for another could have the other's users log in at his own place.
            let told = format!("{label} calls itself otherwise: the configured `issuer` is wrong");
            return Err(Trouble::new(Blame::Operator, told).because(format!("it calls itself {:?}", document.issuer)));
        }
        if !Url::read(&document.authorization_endpoint).is_ok_and(|url| url.is_secure()) {
            let why = format!("authorization_endpoint {:?}", document.authorization_endpoint);
            return Err(Trouble::new(Blame::Provider, format!("{label} wants you to log in at a place that is not https")).because(why));
        }
        let document = Arc::new(document);
        *kept = Some((Instant::now(), document.clone()));
        Ok(document)
    }

    /// Tokens for a code, or for a refresh token.
    async fn redeem(&self, http: &Http, document: &Document, with: &[(&str, &str)]) -> Result<Tokens, Trouble> {
        let (id, label) = (self.settings.client_id.as_str(), &self.settings.label);
        let mut params = with.to_vec();
        // Without a word of it clients use the header (Discovery §3).
        let methods = document.token_endpoint_auth_methods_supported.as_deref();
        let in_header = methods.is_none_or(|all| all.iter().any(|method| method == "client_secret_basic"));
        let secret = self.settings.client_secret.as_ref().map(Secret::reveal);
        let exchange = match secret {
            Some(secret) if in_header => {
                Exchange::post(http, label, &document.token_endpoint, &params).authorized(basic(id, secret).reveal())?
            }
            _ => {
                params.push(("client_id", id));
                params.extend(secret.map(|secret| ("client_secret", secret)));
                Exchange::post(http, label, &document.token_endpoint, &params)
            }
        };
        let answer = exchange.send().await?;
        if !matches!(answer.status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return answer.good()?.json();
        }
        let Ok(refusal) = answer.json::<Refusal>() else { return Err(answer.odd("a refusal without `error`")) };
        let why = format!("{label} said {}: {}", refusal.error, refusal.error_description.as_deref().unwrap_or("no description"));
        Err(match refusal.error.as_str() {
            "invalid_grant" => Trouble::new(Blame::User, "the login took too long, or was finished once before"),
            "invalid_client" | "unauthorized_client" => Trouble::new(
                Blame::Operator,
                format!("{label} does not accept this server's `client_id` or `client_secret`: one is wrong, or was replaced"),
            ),
            "redirect_uri_mismatch" => {
                Trouble::new(Blame::Operator, format!("{label} has another callback URL for this server than the one that it uses"))
            }
            _ => Trouble::new(Blame::Provider, format!("{label} refused to finish the login")),
        }
        .because(why))
    }

    /// OpenID Connect Core §3.1.3.7, numbers 2 to 5, 9 to 11. The error is for the log.
    fn check(&self, claims: &IdToken, finish: &Finish<'_>) -> Result<(), String> {
        let id = &self.settings.client_id;
        let now_s = finish.now_s as f64;
        let leeway_s = LEEWAY_S as f64;
        if !self.settings.is_issuer(&claims.iss) {
            return Err(format!("the id token is of {:?}", claims.iss));
        }
        let audience = claims.aud.list();
        if !audience.contains(id) {
            return Err(format!("the id token is for {audience:?}, not for us"));
        }
        if claims.azp.as_ref().is_some_and(|azp| azp != id) {
            return Err(format!("the id token was asked for by {:?}", claims.azp));
        }
        if audience.len() > 1 && claims.azp.is_none() {
            return Err("the id token is for several, and does not say who asked for it".into());
        }
        if claims.nonce.as_deref() != Some(finish.nonce) {
            return Err("the id token is of another login (nonce)".into());
        }
        if claims.exp.0 + leeway_s <= now_s {
            return Err(format!("the id token has expired {} s ago: is a clock wrong?", now_s - claims.exp.0));
        }
        if [claims.iat, claims.nbf].into_iter().flatten().any(|moment| moment.0 - leeway_s > now_s) {
            return Err("the id token is of the future: is a clock wrong?".into());
        }
        if claims.sub.is_empty() || claims.sub.len() > MAX_SUBJECT {
            return Err("the id token has no proper subject".into());
        }
        Ok(())
    }

    /// What is told of `sub`; `None`: the token is not taken.
    async fn userinfo(&self, http: &Http, url: &str, token: &Secret, sub: &str) -> Result<Option<Person>, Trouble> {
        let exchange = Exchange::get(http, &self.settings.label, url).authorized(&format!("Bearer {}", token.reveal()))?;
        let answer = exchange.send().await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let answer = answer.good()?;
        let info: Userinfo = answer.json()?;
        // Core §5.3.2: else it may be of anybody.
        if info.sub == sub { Ok(Some(info.person)) } else { Err(answer.odd("userinfo is about somebody else")) }
    }
}

impl Person {
    /// What is missing here comes from `more`; an address together with whether it is verified.
    fn or(self, more: Person) -> Person {
        let (email, email_verified) = match self.email {
            Some(email) => (Some(email), self.email_verified),
            None => (more.email, more.email_verified),
        };
        Person { name: self.name.or(more.name), email, email_verified, hd: self.hd.or(more.hd) }
    }
}

/// An id token, taken apart, and its claims. The error is for the log.
fn read(token: &str) -> Result<(Jws<'_>, IdToken), String> {
    let jws = Jws::read(token).map_err(|why| format!("the id token {why}"))?;
    let claims = serde_json::from_str(jws.payload()).map_err(|e| format!("the id token's claims cannot be read: {e}"))?;
    Ok((jws, claims))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use landbridge_proto::oauth::jwt::MAX_TOKEN;
    use serde_json::{Value, json};

    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn oidc(issuer: &str) -> Oidc {
        Oidc::new(Settings { issuer: issuer.into(), ..Settings::google("us", Secret::new("s"), Admission::default()) })
    }

    fn token(header: &Value, claims: &Value, signature: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{signature}", part(header), part(claims))
    }

    #[test]
    fn the_table_of_id_tokens() {
        let good = json!({ "iss": "https://i", "sub": "1", "aud": "us", "exp": NOW_S + 300, "iat": NOW_S, "nonce": "n" });
        let finish = Finish { callback: "", nonce: "n", verifier: "", now_s: NOW_S };
        for (changes, expected) in [
            (json!({}), ""),
            (json!({ "aud": ["us"] }), ""),
            (json!({ "aud": ["them", "us"], "azp": "us" }), ""),
            (json!({ "azp": "us" }), ""),
            (json!({ "exp": NOW_S - 30 }), ""),
            (json!({ "exp": NOW_S as f64 + 0.5 }), ""),
            (json!({ "iat": NOW_S + 30 }), ""),
            (json!({ "iat": null }), ""),
            (json!({ "unknown": { "x": [1] } }), ""),
            (json!({ "iss": "https://j" }), "is of"),
            (json!({ "iss": "https://i/" }), "is of"),
            (json!({ "iss": "i" }), "is of"),
            (json!({ "aud": "them" }), "not for us"),
            (json!({ "aud": [] }), "not for us"),
            (json!({ "aud": "us " }), "not for us"),
            (json!({ "aud": ["us", "them"] }), "several"),
            (json!({ "azp": "them" }), "asked for by"),
            (json!({ "nonce": "m" }), "another login"),
            (json!({ "nonce": null }), "another login"),
            (json!({ "exp": NOW_S - 61 }), "expired"),
            (json!({ "exp": 0 }), "expired"),
            (json!({ "exp": -1e300 }), "expired"),
            (json!({ "iat": NOW_S + 61 }), "future"),
            (json!({ "nbf": NOW_S + 61 }), "future"),
            (json!({ "sub": "" }), "no proper subject"),
            (json!({ "sub": "x".repeat(256) }), "no proper subject"),
            (json!({ "exp": null }), "cannot be read"),
            (json!({ "exp": "soon" }), "cannot be read"),
            (json!({ "sub": 1 }), "cannot be read"),
        ] {
            let mut claims = good.clone();
            for (name, value) in changes.as_object().unwrap() {
                claims[name] = value.clone();
            }
            let came =
                read(&token(&json!({ "alg": "ES256" }), &claims, "c2ln")).and_then(|(_, claims)| oidc("https://i").check(&claims, &finish));
            match (came, expected) {
                (Ok(()), "") => {}
                (Err(why), expected) if !expected.is_empty() => assert!(why.contains(expected), "{changes}: {why}"),
                (came, _) => panic!("{changes}: {came:?}"),
            }
        }
    }

    #[test]
    fn google_has_two_spellings_and_nobody_else_has() {
        assert!(oidc(GOOGLE).settings.is_issuer("accounts.google.com") && oidc(GOOGLE).settings.is_issuer(GOOGLE));
        assert!(!oidc("https://i").settings.is_issuer("i") && !oidc("https://i").settings.is_issuer("accounts.google.com"));
    }

    #[tokio::test]
    async fn google_is_told_which_accounts_are_meant() {
        let http = Http::new(false).unwrap();
        for (domains, hint) in [(&[][..], None), (&["example.com"], Some("example.com")), (&["a.example", "b.example"], Some("*"))] {
            let mut google = oidc(GOOGLE);
            google.settings.admission.domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
            let document = r#"{"issuer":"https://accounts.google.com","authorization_endpoint":"https://accounts.google.com/o/oauth2/v2/auth",
                "token_endpoint":"https://oauth2.googleapis.com/token"}"#;
            *google.document.lock().await = Some((Instant::now(), Arc::new(serde_json::from_str(document).unwrap())));
            let begin = Begin { callback: "https://us/callback", state: "s&", nonce: "n", challenge: "c", choose: true };
            google.settings.params = [("prompt", "consent"), ("access_type", "offline")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
            let url = google.begin(&http, &begin).await.unwrap();
            let form = Form::read(url.strip_prefix("https://accounts.google.com/o/oauth2/v2/auth?").unwrap()).unwrap();
            assert_eq!((form.get("hd"), form.get("prompt"), form.get("state")), (hint, Some("select_account consent"), Some("s&")));
            assert_eq!(form.get("access_type"), Some("offline"));
            assert_eq!((form.get("scope"), form.get("code_challenge_method")), (Some("openid email profile"), Some("S256")));
        }
    }

    #[tokio::test]
    async fn what_is_not_signed_is_refused() {
        let claims = json!({ "iss": "https://i", "sub": "1", "aud": "us", "exp": NOW_S, "nonce": "n" });
        let keys = Keys::of("{\"keys\":[]}").unwrap();
        let signed = async |token: &str| match Jws::read(token) {
            Ok(jws) => jwt::signed(&jws, &keys, NOW_S).await,
            Err(why) => Err(jwt::Refused::Invalid(why)),
        };
        for (header, signature) in [
            (json!({ "alg": "none" }), "c2ln"),
            (json!({ "alg": "NONE" }), ""),
            (json!({ "alg": "RS256" }), ""),
            (json!({ "alg": "HS256" }), "c2ln"),
            (json!({}), "c2ln"),
        ] {
            let refused = signed(&token(&header, &claims, signature)).await;
            assert!(matches!(refused, Err(jwt::Refused::Invalid(_))), "{header} {signature:?}: {refused:?}");
        }
        let good = token(&json!({ "alg": "RS256" }), &claims, "c2ln");
        for bad in [String::new(), "a.b".into(), format!("{good}.x"), format!("{good}="), "x".repeat(MAX_TOKEN + 1)] {
            assert!(read(&bad).is_err() || signed(&bad).await.is_err(), "{bad}");
        }
        // A claim that is there twice has two readings.
        let twice = format!("{{\"iss\":\"https://i\",\"sub\":\"1\",\"sub\":\"2\",\"aud\":\"us\",\"exp\":{NOW_S},\"nonce\":\"n\"}}");
        let bad = format!("{}.{}.c2ln", good.split('.').next().unwrap(), URL_SAFE_NO_PAD.encode(twice));
        assert!(read(&bad).is_err());
    }

    #[test]
    fn an_address_from_elsewhere_is_as_verified_as_it_says() {
        let person = |email: Option<&str>, verified: Option<bool>| Person {
            name: None,
            email: email.map(str::to_owned),
            email_verified: verified.map(Flag::Bool),
            hd: None,
        };
        let verified = |person: Person| person.email_verified.is_some_and(|flag| flag.is_set());
        assert!(!verified(person(Some("a@b"), None).or(person(Some("c@d"), Some(true)))));
        assert!(verified(person(None, None).or(person(Some("c@d"), Some(true)))));
        assert!(Flag::Text("true".into()).is_set() && !Flag::Text("yes".into()).is_set());
    }

    #[test]
    fn settings_that_cannot_work_are_told() {
        let ada = Admission { users: vec!["ada".into()], ..Admission::default() };
        let settings = |issuer: &str, admission: &Admission| Settings {
            issuer: issuer.into(),
            ..Settings::google("us", Secret::new("s"), admission.clone())
        };
        assert_eq!(settings(GOOGLE, &ada).complaints(), [""; 0]);
        let params = |name: &str| [(name.to_owned(), "x".to_owned())].into();
        let elsewhere = |url: &str| Settings { discovery_url: Some(url.into()), ..settings(GOOGLE, &ada) };
        assert_eq!(Settings { params: params("access_type"), ..elsewhere("https://h/d") }.complaints(), [""; 0]);
        assert_eq!(Settings { params: params("state"), ..elsewhere("http://h/d") }.complaints().len(), 2);
        for (issuer, admission) in [
            ("http://idp.example", ada.clone()),
            ("https://idp.example?x", ada.clone()),
            ("idp.example", ada),
            (GOOGLE, Admission::default()),
            (GOOGLE, Admission { organisations: vec!["x".into()], ..Admission::default() }),
        ] {
            assert_eq!(settings(issuer, &admission).complaints().len(), 1, "{issuer} {admission:?}");
        }
    }
}
