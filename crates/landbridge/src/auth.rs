//! Who calls: from a bearer token or an API key to a [`Caller`], on every request.
//!
//! ```text
//!   X-API-Key, Authorization ──▶ seen lately? ──▶ a key? ──▶ a token of ours, or of others ──▶ Identity
//!   Identity and the mount ──▶ may it come in here? ──▶ Caller, or a challenge
//! ```
//!
//! Nobody who shows nothing costs more than an answer: no session, no child, no look into the store. What a
//! credential says is remembered for some seconds under its hash; the credential itself never is.

mod inside;
pub mod keys;
mod seen;
pub mod signer;
pub mod tokens;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use landbridge_proto::call::{self, Principal};
use landbridge_proto::json::quote;
use landbridge_proto::oauth::admission::decide;
use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::challenge::Denied;
use landbridge_proto::oauth::metadata::ProtectedResource;
use landbridge_proto::oauth::secret::Hash;

use crate::audit::Why;
use crate::authority::{LOCAL, Questions, Turns};
use crate::backend::http::Http;
use crate::body::Body;
use crate::fetch::documents::Documents;
use crate::fetch::{Bounds, Fetcher, Host, Reach};
use crate::foreign::{Foreign, Holder};
use crate::jwt;
use crate::jwt::assertion::Assertions;
use crate::jwt::keys::KeySets;
use crate::login::{GitHub, Oidc, Provider, local};
use crate::mcp::json;
use crate::plan::auth::{Auth as Plan, Login, Mode, Needs};
use crate::profile::Refusal;
use crate::store::{self, Kind, Store, Trouble};
use crate::system::{now_s, random};
use inside::Inside;
use keys::Keys;
use seen::Seen;
use signer::Signer;
use tokens::Person;

/// What is known of somebody who has shown who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whose calls these are: the issuer and the subject of a token, or the owner of a key. The same with
    /// every token and key of theirs.
    pub principal: Principal,
    /// What people call them.
    pub name: String,
    /// What they came with, for the log: `key 7f3a…`, or the id of a client.
    pub via: String,
    /// What it may; `None`: everything.
    pub scopes: Option<Vec<String>>,
    /// Which servers it is for; `None`: every one.
    pub servers: Option<Vec<String>>,
    /// Which URLs it opens.
    pub opens: Opens,
    /// Until when, in seconds since 1970.
    pub expires_s: Option<u64>,
    /// By which it can be withdrawn.
    pub grant: Option<String>,
}

impl Identity {
    /// Whether they came with an API key.
    pub fn has_key(&self) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.starts_with("key "))
    }

    /// The first of these scopes that it lacks.
    fn lacks<'s>(&self, needed: impl IntoIterator<Item = &'s str>) -> Option<&'s str> {
        let scopes = self.scopes.as_ref()?;
        needed.into_iter().find(|needed| !scopes.iter().any(|scope| scope == needed))
    }
}

/// Which URLs a credential opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opens {
    /// All of ours.
    Everything,
    /// This one and those below it.
    Below(Resource),
    /// Those that somebody else's server means by its audiences (RFC 7519 §4.1.3).
    What(Arc<Holder>),
}

/// Who sends a request. Cheap to clone.
#[derive(Clone, Default)]
pub struct Caller {
    identity: Option<Arc<Identity>>,
    /// Of what they showed.
    hash: Option<Hash>,
    fresh: bool,
}

impl Caller {
    /// Whose call it is.
    pub fn principal(&self) -> Principal {
        self.identity.as_ref().map(|identity| identity.principal.clone()).unwrap_or_default()
    }

    /// What is known of them; `None` where nobody is asked.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// Whether what they showed has not been seen for a while.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The first of these scopes that they lack.
    pub fn lacks<'s>(&self, needed: impl IntoIterator<Item = &'s str>) -> Option<&'s str> {
        self.identity.as_ref()?.lacks(needed)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.identity.as_ref().map_or("anybody", |identity| &identity.name))
    }
}

/// Where a request goes: a mount, as its client knows it.
#[derive(Clone, Debug, Default)]
pub struct At {
    /// How the client reached us: `https://mcp.example.com`, without a slash at the end.
    pub base: String,
    /// The path of the endpoint: `/servers/files/mcp`.
    pub path: String,
    /// What else it is called: messages have a path of their own, and belong to the stream that was opened at another.
    pub also: Vec<String>,
    /// What stands behind its path in this request, for tokens whose resource has such a thing in its name.
    pub query: Option<String>,
    /// What callers need for what is behind it.
    pub needs: Arc<Needs>,
}

impl At {
    /// Its public URL. The error fits after "the resource ".
    pub fn resource(&self) -> Result<Resource, &'static str> {
        Resource::read(&format!("{}{}", self.base, self.path))
    }

    fn resources(&self) -> impl Iterator<Item = Resource> {
        let paths = || std::iter::once(&self.path).chain(&self.also);
        let bare = paths().map(|path| format!("{}{path}", self.base));
        let whole = self.query.iter().flat_map(move |query| paths().map(move |path| format!("{}{path}?{query}", self.base)));
        bare.chain(whole).filter_map(|url| Resource::read(&url).ok())
    }
}

/// Why somebody is not let in.
enum Refused {
    Denied(Denied<'static>),
    Told(String),
    Scope(Arc<Identity>, String),
    Unavailable(String),
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Refused {
        Refused::Unavailable(trouble.to_string())
    }
}

/// Clients' documents that are remembered, and their bytes.
const MAX_DOCUMENTS: usize = 1_024;
const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024;

/// What clients tell of themselves on the web.
pub(crate) struct Strangers {
    pub(crate) documents: Documents,
    /// The keys that those name.
    pub(crate) key_sets: KeySets,
}

impl Strangers {
    fn new(private: &[Host]) -> Result<Strangers, String> {
        let fetcher = Fetcher::new(Reach::Public)?.or_private_at(private);
        let documents = Documents::new(fetcher.clone(), Bounds::DOCUMENT, MAX_DOCUMENTS, MAX_DOCUMENT_BYTES);
        Ok(Strangers { documents, key_sets: KeySets::new(fetcher, MAX_DOCUMENTS) })
    }
}

/// What lets people in.
pub struct Auth {
    /// What was planned.
    pub plan: Plan,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Who redeems what at the moment.
    pub(crate) turns: Turns,
    /// About whom their provider is asked just now.
    pub(crate) questions: Arc<Questions>,
    /// Where accounts of our own sign in.
    pub(crate) desk: Option<local::Desk>,
    /// Who knows our users, if we do not.
    pub(crate) provider: Option<Provider>,
    /// Who else issues tokens for us.
    foreign: Option<Foreign>,
    /// What signs tokens of ours, if they are signed.
    pub(crate) signer: Option<Signer>,
    /// What clients tell of themselves on the web, if that counts.
    pub(crate) strangers: Option<Strangers>,
    pub(crate) assertions: Assertions,
    http: Http,
    keys: Keys,
    seen: Seen,
    inside: Inside,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({:?})", self.plan.mode)
    }
}

impl Auth {
    /// As planned, with the store opened that is planned, if one is needed.
    pub async fn open(plan: Plan) -> Result<Arc<Auth>, String> {
        if plan.mode == Mode::None {
            return Auth::new(plan, store::memory()).map(Arc::new);
        }
        let url = match &plan.store {
            Some(url) => url.clone(),
            None => store::default_url()?,
        };
        let store = store::open(&url).await?;
        let signed = matches!(&plan.mode, Mode::Own(own) if own.signed);
        let mut auth = Auth::new(plan, store)?;
        if signed {
            auth.signer = Some(Signer::open(&*auth.store, now_s()).await?);
        }
        Ok(Arc::new(auth))
    }

    /// As planned, with what is kept in `store`.
    pub fn new(plan: Plan, store: Arc<dyn Store>) -> Result<Auth, String> {
        let (mut desk, mut provider, mut tls) = (None, None, false);
        if let Mode::Own(own) = &plan.mode {
            match &own.login {
                Login::Local => desk = Some(local::Desk::new(random()?)?),
                Login::GitHub(settings) => {
                    tls = settings.web.starts_with("https:");
                    provider = Some(Provider::GitHub(GitHub::new(settings.clone())));
                }
                Login::Oidc(settings) => {
                    tls = settings.issuer.starts_with("https:");
                    provider = Some(Provider::Oidc(Box::new(Oidc::new(settings.clone()))));
                }
            }
        }
        let foreign = match &plan.mode {
            Mode::Foreign(settings) => {
                // What an operator names may be anywhere that an operator can name.
                let foreign = Foreign::new((**settings).clone(), Fetcher::new(Reach::Anywhere)?);
                Some(foreign.map_err(|why| format!("auth: {why}"))?)
            }
            _ => None,
        };
        let strangers = match &plan.mode {
            Mode::Own(own) if own.client_documents => Some(Strangers::new(&own.document_hosts)?),
            _ => None,
        };
        Ok(Auth {
            keys: Keys::new(&plan.keys),
            http: Http::new(tls)?,
            strangers,
            assertions: Assertions::default(),
            seen: Seen::default(),
            inside: Inside::default(),
            turns: Turns::default(),
            questions: Arc::default(),
            signer: None,
            plan,
            store,
            desk,
            provider,
            foreign,
        })
    }

    /// Whether people log in with accounts of ours, and there is none.
    pub async fn has_nobody(&self) -> bool {
        self.desk.is_some() && self.store.list(Kind::User, "", 1, now_s()).await.is_ok_and(|users| users.is_empty())
    }

    /// The client for providers.
    pub(crate) fn http(&self) -> &Http {
        &self.http
    }

    /// Whether anybody has to show who they are.
    pub fn is_on(&self) -> bool {
        self.plan.mode != Mode::None
    }

    /// Lets a request in, or answers it.
    pub async fn admit(&self, headers: &HeaderMap, query: Option<&str>, at: &At) -> Result<Caller, Box<Response<Body>>> {
        if !self.is_on() {
            return Ok(Caller::default());
        }
        self.identify(headers, query, at).await.map_err(|refused| Box::new(self.refuse(refused, at)))
    }

    async fn identify(&self, headers: &HeaderMap, query: Option<&str>, at: &At) -> Result<Caller, Refused> {
        if query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("access_token="))) {
            return Err(Refused::Denied(Denied::Malformed("a token in a URL ends up in logs; send it in the header Authorization")));
        }
        let shown = presented(headers).map_err(Refused::Denied)?;
        let (hash, now_s) = (Hash::of(&shown.text), now_s());
        let (identity, fresh) = match self.seen.get(&hash, now_s) {
            Some(identity) => (identity, false),
            None => {
                // Boxed, so that no other request carries it.
                let identity = Arc::new(Box::pin(self.look_up(&shown, &hash, now_s)).await?);
                self.seen.remember(&hash, &identity, now_s);
                (identity, true)
            }
        };
        self.may_use(&identity, at)?;
        Ok(Caller { identity: Some(identity), hash: Some(hash), fresh })
    }

    async fn look_up(&self, shown: &Shown<'_>, hash: &Hash, now_s: u64) -> Result<Identity, Refused> {
        if let Some(identity) = self.keys.find(hash, now_s) {
            return Ok(identity);
        }
        if self.plan.test_tokens && keys::is_for_tests(&shown.text) {
            return Ok(keys::for_tests(hash));
        }
        if keys::is_one(&shown.text) {
            let found = keys::find(&*self.store, hash, now_s).await?;
            return found.ok_or(Refused::Denied(Denied::Invalid("the API key is unknown, has expired or was revoked")));
        }
        let unknown = || Err(Refused::Denied(Denied::Invalid("the token is unknown, has expired or was revoked")));
        match &self.plan.mode {
            _ if shown.is_key => Err(Refused::Denied(Denied::Invalid("the API key is unknown, has expired or was revoked"))),
            Mode::None | Mode::Keys => Err(Refused::Denied(Denied::Invalid("this is no API key of ours"))),
            Mode::Own(_) => match tokens::is_one(&shown.text) {
                true => tokens::find(&*self.store, hash, now_s, |person| self.lets_in(person)).await?.map_or_else(unknown, Ok),
                false => unknown(),
            },
            Mode::Foreign(_) => self.ask_foreign(&shown.text, now_s).await,
        }
    }

    async fn ask_foreign(&self, token: &str, now_s: u64) -> Result<Identity, Refused> {
        let Some(foreign) = &self.foreign else { return Err(Refused::Denied(Denied::Invalid("nobody issues tokens for this server"))) };
        let holder = foreign.check(token, now_s).await.map_err(|refused| match refused {
            jwt::Refused::Invalid(why) => Refused::Told(format!("the token {why}")),
            jwt::Refused::Unavailable(why) => Refused::Unavailable(why),
        })?;
        let (issuer, subject, name) = (holder.issuer.clone(), holder.subject.clone(), holder.name.clone());
        Ok(Identity {
            principal: Principal::of(&format!("{issuer}#{subject}"), call::Person { issuer, subject, name, ..Default::default() }),
            name: holder.name.clone().unwrap_or_else(|| holder.subject.clone()),
            via: holder.client_id.clone().unwrap_or_default(),
            scopes: Some(holder.scopes.clone()),
            servers: None,
            expires_s: Some(holder.expires_s),
            opens: Opens::What(holder),
            grant: None,
        })
    }

    /// Whether somebody who has logged in once would be let in now, too.
    pub(crate) fn lets_in(&self, person: &Person) -> bool {
        match &self.provider {
            Some(provider) => person.issuer == provider.issuer() && decide(&person.clone().identity(), provider.admission()).is_ok(),
            None => self.desk.is_some() && person.issuer == LOCAL,
        }
    }

    fn may_use(&self, identity: &Arc<Identity>, at: &At) -> Result<(), Refused> {
        let opens = match &identity.opens {
            Opens::Everything => true,
            Opens::Below(resource) => at.resources().any(|asked| resource.opens(&asked)),
            Opens::What(holder) => self.foreign.as_ref().is_some_and(|foreign| at.resources().any(|asked| foreign.opens(holder, &asked))),
        };
        if !opens {
            return Err(Refused::Denied(Denied::Invalid("the token is for another server")));
        }
        if let Some(servers) = &identity.servers
            && let Some(server) = at.needs.servers.iter().find(|server| !servers.contains(server))
        {
            return Err(Refused::Scope(identity.clone(), format!("this key is not for the server {server}")));
        }
        match identity.lacks(at.needs.scopes.iter().map(String::as_str)) {
            Some(scope) => Err(Refused::Scope(identity.clone(), format!("the scope {scope} is missing"))),
            None => Ok(()),
        }
    }

    /// Forgets what it has seen of a grant that was withdrawn, or a token of which; what that keeps open is looked at
    /// again.
    pub fn forget_grant(&self, id: &str) {
        self.seen.forget(|identity| identity.grant.as_deref() == Some(id));
        self.inside.doubt(id);
    }

    // --- answers ---------------------------------------------------------------------------------

    fn refuse(&self, refused: Refused, at: &At) -> Response<Body> {
        let needed: Vec<&str> = at.needs.scopes.iter().map(String::as_str).collect();
        match &refused {
            Refused::Denied(denied) => self.challenge(denied, at, &needed, None),
            Refused::Told(told) => self.challenge(&Denied::Invalid(told), at, &needed, None),
            Refused::Scope(who, told) => self.challenge(&Denied::Scope(told), at, &needed, Some(who)),
            Refused::Unavailable(why) => {
                tracing::warn!(why, "who calls cannot be found out");
                let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "who you are cannot be checked at the moment; try again later");
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                response
            }
        }
    }

    /// The answer to somebody who lacks one of the scopes that an operation needs, besides those of the mount.
    pub fn lacks(&self, who: &Arc<Identity>, at: &At, needed: &[&str], told: &str) -> Response<Body> {
        // All that this operation needs, at once: a client that gets them one by one has its user agree again
        // and again.
        let all: Vec<&str> = at.needs.scopes.iter().map(String::as_str).chain(needed.iter().copied()).collect();
        self.challenge(&Denied::Scope(told), at, &all, Some(who))
    }

    fn challenge(&self, denied: &Denied<'_>, at: &At, scopes: &[&str], who: Option<&Arc<Identity>>) -> Response<Body> {
        let told = match denied {
            Denied::Missing if self.plan.has_issuer() => "authorization is required: log in, or send an API key",
            Denied::Missing => "API key required: send it as X-API-Key, or as Authorization: Bearer",
            Denied::Invalid(told) | Denied::Scope(told) | Denied::Malformed(told) => told,
        };
        let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let [no_key, bad_key] = &self.plan.words;
        let words = match denied {
            Denied::Missing => no_key.as_ref(),
            Denied::Invalid(_) => bad_key.as_ref(),
            Denied::Scope(_) | Denied::Malformed(_) => None,
        };
        let mut response = words.map_or_else(|| error(status, told), Refusal::response);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.extensions_mut().insert(Why { told: told.to_owned(), who: who.cloned() });
        let challenge = match self.resource_document(at) {
            Some(document) => {
                // What nobody asked for by name is asked for all at once.
                let offered: Vec<&str> = at.needs.offered.iter().map(String::as_str).collect();
                denied.challenge(&document.url(), if scopes.is_empty() { &offered } else { scopes })
            }
            None => "Bearer".into(),
        };
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// What a mount of ours tells of itself (RFC 9728); `None` where nobody issues tokens for it.
    pub fn resource_document(&self, at: &At) -> Option<ProtectedResource> {
        let issuer = match &self.plan.mode {
            Mode::None | Mode::Keys => return None,
            Mode::Own(_) | Mode::Foreign(_) => self.plan.issuer(&at.base),
        };
        Some(ProtectedResource {
            resource: at.resource().ok()?,
            authorization_servers: vec![issuer],
            scopes: at.needs.offered.clone(),
            name: None,
        })
    }
}

#[cfg(test)]
pub(crate) fn nobody() -> Identity {
    Identity {
        principal: Principal::default(),
        name: String::new(),
        via: String::new(),
        scopes: None,
        servers: None,
        opens: Opens::Everything,
        expires_s: None,
        grant: None,
    }
}

/// A refusal as a client of any revision can show it.
fn error(status: StatusCode, told: &str) -> Response<Body> {
    let mut response = json(status, format!("{{\"jsonrpc\":\"2.0\",\"error\":{{\"code\":-32000,\"message\":{}}}}}", quote(told)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a request shows.
struct Shown<'h> {
    text: Cow<'h, str>,
    /// It came as a key.
    is_key: bool,
}

/// The credential of a request. A key counts for more than a token; two of a kind are nobody's.
fn presented(headers: &HeaderMap) -> Result<Shown<'_>, Denied<'static>> {
    if headers.contains_key("x-api-key") {
        let text = one(headers, "x-api-key").ok_or(Denied::Malformed("X-API-Key appears more than once, or is no text"))?;
        return Ok(Shown { text: text.into(), is_key: true });
    }
    if !headers.contains_key(header::AUTHORIZATION) {
        return subprotocol(headers);
    }
    let text =
        one(headers, header::AUTHORIZATION.as_str()).ok_or(Denied::Malformed("Authorization appears more than once, or is no text"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Shown { text: token.trim().into(), is_key: false }),
        // Whoever tries another scheme has shown us nothing: they are told which we take (RFC 6750 §3.1).
        Some(_) => Err(Denied::Missing),
        None if text.eq_ignore_ascii_case("bearer") => Err(Denied::Malformed("Authorization must be of the form: Bearer TOKEN")),
        None if text.is_empty() => Err(Denied::Missing),
        // Some clients send a key as it is.
        None => Ok(Shown { text: text.into(), is_key: false }),
    }
}

/// What a page shows that opens a WebSocket: it can send no header but the list of subprotocols, so one of them is the
/// credential, `key.` and the text in base64url without padding.
fn subprotocol(headers: &HeaderMap) -> Result<Shown<'_>, Denied<'static>> {
    let is_websocket = headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter(|_| is_websocket);
    let all = lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    let mut keys = all.filter_map(|one| one.trim().strip_prefix("key."));
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(Denied::Missing) };
    let text = URL_SAFE_NO_PAD.decode(key).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match text.filter(|text| !text.is_empty()) {
        Some(text) => Ok(Shown { text: text.into(), is_key: false }),
        None => Err(Denied::Malformed("the subprotocol key. must go on with the key in base64url, without padding")),
    }
}

fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next()?.to_str().ok()?.trim();
    all.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use landbridge_proto::oauth::admission::Identity as Someone;

    fn auth(text: &str) -> Auth {
        Auth::new(Config::parse("f", text.into()).unwrap().check().unwrap().auth, store::memory()).unwrap()
    }

    #[tokio::test]
    async fn who_was_let_in_once_may_not_be_now() {
        let github = |users: &str| {
            auth(&format!("[auth.login]\nprovider = \"github\"\nclient_id = \"i\"\nclient_secret = \"a-secret\"\nusers = {users}\n"))
        };
        let someone = |issuer: &str, login: &str| {
            Person::from(&Someone { issuer: issuer.into(), subject: "7".into(), login: Some(login.into()), ..Someone::default() })
        };
        let (eve, elsewhere) = (someone("https://github.com", "eve"), someone("https://login.example.com", "eve"));
        assert!(github("[\"ada\", \"eve\"]").lets_in(&eve));
        assert!(!github("[\"ada\"]").lets_in(&eve), "she was taken from the list");
        assert!(!github("[\"*\"]").lets_in(&elsewhere), "she logged in where nobody logs in any more");
        let local = auth("auth.mode = \"oauth\"");
        assert!(local.lets_in(&someone(LOCAL, "eve")) && !local.lets_in(&eve));
        assert!(!auth("").lets_in(&someone(LOCAL, "eve")), "nobody logs in at all");
    }
}
