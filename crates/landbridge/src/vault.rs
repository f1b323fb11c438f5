//! What lets us in at servers elsewhere: tokens, how they are kept, and how more are got.
//!
//! ```text
//!   bearer ──▶ there is one, and it lasts ──▶ it
//!     └ it ends soon ──▶ refreshed
//!   refused ─401─▶ somebody else has got another ──▶ that
//!     │              └ refreshed ──▶ a login ──▶ the request is sent again
//!     └─403─▶ a login that asks for more ──▶ the same
//! ```
//!
//! Of all who need one at the same time one gets it: in this process behind `working`, and among the copies of
//! this program behind the lock of the file. Whoever comes second finds what the first has got. What is got is
//! got by a task of its own, for a refresh token counts once: it must be written down even if nobody waits for
//! it any more. What to ask whom for, and what to believe, is decided in
//! [`oauth`](landbridge_proto::oauth).

mod browser;
mod callback;
mod fetch;
mod file;
mod shelf;
mod sign;
pub mod tickets;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, HeaderMap, HeaderValue, USER_AGENT, WWW_AUTHENTICATE};
use http::{StatusCode, Uri};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use landbridge_proto::back::endpoint;
use landbridge_proto::oauth::address::is_public;
use landbridge_proto::oauth::challenge::{Challenge, bearer};
use landbridge_proto::oauth::discovery::Issuer;
use landbridge_proto::oauth::grant::{Denied, Grant, Granted, Request, granted};
use landbridge_proto::oauth::jwt::{assertion, to_sign, with_signature};
use landbridge_proto::oauth::login::{Login, Method, Registered, Unusable, WayIn, registered, registration, scopes, way_in};
use landbridge_proto::oauth::secret::{Secret, spell};
use landbridge_proto::oauth::seek::{Found, Seek, Step, may_fetch};
use landbridge_proto::oauth::url::Url;

use crate::backend::http::{AGENT, Http};
use crate::backend::{lock, made_once};
use crate::plan::{Access, Browsing, By};
use crate::system::{now_s, random};
use callback::Callback;
use file::{At, Held as Lock, Kept, Store, Tokens};
pub use shelf::{KEY_VARIABLE, Shelf};
pub use sign::check_key;

/// A token is replaced so long before it ends, or after three quarters of its life.
const SOON_S: u64 = 30;
/// Where it could not be, that is tried again after so long.
const LATER_S: u64 = 5;
/// For a server to say what it wants.
const PROVOKED: Duration = Duration::from_secs(10);
/// Beyond the time that a user has, for whoever waits for another copy of us.
const LONGER: Duration = Duration::from_secs(60);
/// How often one request may be sent again with another token, and with a token that holds more.
const RENEWED: u8 = 3;
const STEPPED: u8 = 2;
/// Different things that are asked for in the life of one process.
const MOST_ASKED: usize = 64;
/// Where a server refuses what a login has just come to, nobody is asked for another so long.
const FUTILE: Duration = Duration::from_secs(5 * 60);

/// Why there is no token.
#[derive(Clone, Debug)]
pub enum Barred {
    /// It did not work out; why, in words for the user.
    Failed(String),
    /// The user has to log in, elsewhere: see [`Pass::begin`].
    Login(Box<Wanted>),
}

/// A login that is needed.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where, and for what.
    pub found: Found,
    /// What the token is to hold.
    pub scope: Option<String>,
    /// There is none that lets anybody in; else there is one that holds less.
    pub anew: bool,
}

impl From<String> for Barred {
    fn from(why: String) -> Barred {
        Barred::Failed(why)
    }
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Barred::Failed(why) => f.write_str(why),
            Barred::Login(wanted) => write!(f, "you have to log in at {}", wanted.found.issuer.issuer),
        }
    }
}

/// What one request has tried.
#[derive(Debug, Default)]
pub struct Tries {
    renewed: u8,
    stepped: u8,
    /// A refresh was for this one, or a login; another would come to nothing else.
    refreshed: bool,
    logged_in: bool,
}

/// What lets one user in at one server.
pub struct Pass {
    /// The server's URL.
    server: String,
    /// The same without its query, which may hold a secret.
    shown: String,
    auth: Access,
    /// That of the server.
    http: Http,
    /// One for `https`, where the server's own is for less.
    https: OnceLock<Http>,
    /// The client for what a server of the Internet names.
    public: OnceLock<Http>,
    on_internet: tokio::sync::OnceCell<bool>,
    store: Store,
    state: Mutex<State>,
    /// Held by whoever gets a token.
    working: tokio::sync::Mutex<()>,
    /// The last time that nobody got one, for those who waited meanwhile.
    failed: Mutex<Option<(Instant, Barred)>>,
    /// What was asked for in this process.
    asked: Mutex<BTreeSet<String>>,
    /// When the server last refused what a login had come to.
    futile: Mutex<Option<Instant>>,
    /// A user is asked just now.
    busy: watch::Sender<bool>,
    /// What a user who is elsewhere has to log in for.
    wanted: Mutex<Option<Wanted>>,
    /// They have not been asked yet.
    to_be_asked: AtomicBool,
    /// A login of theirs has begun, and not ended.
    begun: AtomicBool,
}

#[derive(Default)]
struct State {
    /// What is kept has been looked at.
    known: bool,
    held: Option<Held>,
}

/// A token, ready to be sent.
#[derive(Clone)]
struct Held {
    value: HeaderValue,
    /// When it should be replaced, in seconds since 1970.
    until_s: u64,
}

impl Held {
    fn of(tokens: &Tokens) -> Option<Held> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", tokens.access)).ok()?;
        value.set_sensitive(true);
        let until_s = match tokens.until_s {
            0 => u64::MAX,
            until_s => until_s - SOON_S.min(until_s.saturating_sub(tokens.since_s) / 4),
        };
        Some(Held { value, until_s })
    }

    fn lasts(&self) -> bool {
        now_s() < self.until_s
    }
}

/// What a token is needed for.
enum Wish {
    /// The next request.
    Next,
    /// A request that was refused: what the refusal said, and whether a refresh may help.
    Again(Option<Challenge>, bool),
    /// The same, and it has to hold more.
    More(Challenge),
}

/// What came of a wish.
struct Got {
    value: Option<HeaderValue>,
    how: How,
}

/// How a token was got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// It was there.
    Found,
    Refreshed,
    LoggedIn,
}

impl Got {
    fn nothing() -> Got {
        Got { value: None, how: How::Found }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("server", &self.shown).finish_non_exhaustive()
    }
}

impl Pass {
    /// What lets `user` in at the server at `url`; the user is empty where there is only one. It is kept below
    /// `home`. `http` reaches the server.
    pub fn new(url: &Uri, user: &str, auth: &Access, http: &Http, home: Option<&Path>) -> Pass {
        let server = url.to_string();
        let store = match auth.by {
            By::User(_) | By::Visitor => Store::at(home.map(|home| home.join("tokens")), &server, user),
            // It costs nobody anything to ask again.
            By::Itself(_) => Store::Memory(Mutex::default()),
        };
        Pass {
            auth: auth.clone(),
            http: http.clone(),
            https: OnceLock::new(),
            public: OnceLock::new(),
            on_internet: tokio::sync::OnceCell::new(),
            store,
            shown: server.split('?').next().unwrap_or_default().to_owned(),
            server,
            state: Mutex::default(),
            working: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            asked: Mutex::default(),
            futile: Mutex::default(),
            busy: watch::channel(false).0,
            wanted: Mutex::default(),
            to_be_asked: AtomicBool::new(false),
            begun: AtomicBool::new(false),
        }
    }

    /// What lets one user of a gateway in at the server at `url`; it is kept on that shelf.
    pub fn of_user(url: &Uri, user: &str, auth: &Access, http: &Http, shelf: &Arc<Shelf>) -> Pass {
        let pass = Pass::new(url, user, auth, http, None);
        Pass { store: Store::Shelf(shelf.place(&pass.server, user)), ..pass }
    }

    /// Whether they are to be asked for a login that a request has found to be needed. True once for each.
    pub fn is_to_be_asked(&self) -> bool {
        self.to_be_asked.swap(false, Ordering::Relaxed)
    }

    /// Whether there is a token at hand.
    pub fn is_held(&self) -> bool {
        lock(&self.state).held.is_some()
    }

    /// Whether a login is needed that has not been done in this process.
    pub fn is_wanting(&self) -> bool {
        lock(&self.wanted).as_ref().is_some()
    }

    /// Whether its user is elsewhere, and is told where to log in.
    pub fn is_of_visitor(&self) -> bool {
        matches!(self.auth.by, By::Visitor)
    }

    /// The `Authorization` of the next request; nothing, where the server has not asked for any.
    pub async fn bearer(self: &Arc<Self>) -> Result<Option<HeaderValue>, Barred> {
        let stale = {
            let state = lock(&self.state);
            match &state.held {
                Some(held) if held.lasts() => return Ok(Some(held.value.clone())),
                // A visitor may have come in at another copy of us.
                None if state.known && !self.is_of_visitor() => return Ok(None),
                held => held.as_ref().map(|held| held.value.clone()),
            }
        };
        self.by_itself(Wish::Next, stale).await.map(|got| got.value)
    }

    /// A request was answered with this status. What it can be sent again with, if that is of any use; `sent` is
    /// what it was sent with.
    pub async fn refused(
        self: &Arc<Self>,
        tries: &mut Tries,
        sent: Option<&HeaderValue>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Barred> {
        if status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN {
            return Ok(None);
        }
        let challenge = bearer(headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()));
        let wants_more = challenge.as_ref().is_some_and(|c| c.param("error") == Some("insufficient_scope"));
        if status == StatusCode::UNAUTHORIZED && tries.logged_in {
            *lock(&self.futile) = Some(Instant::now());
        }
        let wish = match challenge {
            Some(challenge) if wants_more => {
                tries.stepped += 1;
                Wish::More(challenge)
            }
            challenge if status == StatusCode::UNAUTHORIZED && !tries.logged_in => {
                tries.renewed += 1;
                Wish::Again(challenge, !tries.refreshed)
            }
            _ => return Ok(None),
        };
        if tries.renewed > RENEWED || tries.stepped > STEPPED {
            return Ok(None);
        }
        let got = self.by_itself(wish, sent.cloned()).await?;
        tries.refreshed |= got.how == How::Refreshed;
        tries.logged_in |= got.how == How::LoggedIn;
        Ok(got.value)
    }

    /// Whether a user is being asked.
    pub fn is_busy(&self) -> bool {
        *self.busy.borrow()
    }

    /// Waits until no user is asked.
    pub async fn idle(&self) {
        let _ = self.busy.subscribe().wait_for(|busy| !busy).await; // we hold what could close
    }

    async fn by_itself(self: &Arc<Self>, wish: Wish, stale: Option<HeaderValue>) -> Result<Got, Barred> {
        let pass = self.clone();
        let lost = |_| Err(Barred::Failed("getting a token failed".into()));
        tokio::spawn(async move { pass.get(wish, stale).await }).await.unwrap_or_else(lost)
    }

    async fn get(&self, wish: Wish, stale: Option<HeaderValue>) -> Result<Got, Barred> {
        let began = Instant::now();
        let _one = self.working.lock().await;
        if let Some(held) = &lock(&self.state).held
            && Some(&held.value) != stale.as_ref()
            && held.lasts()
        {
            return Ok(Got { value: Some(held.value.clone()), how: How::Found });
        }
        if let Some((at, barred)) = &*lock(&self.failed)
            && *at > began
        {
            return Err(barred.clone());
        }
        let got = self.get_alone(wish, stale).await;
        if let Err(barred) = &got {
            *lock(&self.failed) = Some((Instant::now(), barred.clone()));
        }
        got
    }

    /// Nobody else in this process is at it, nor, behind the lock, is another copy of us.
    async fn get_alone(&self, wish: Wish, stale: Option<HeaderValue>) -> Result<Got, Barred> {
        let adopt = |tokens: Option<&Tokens>| {
            let held = tokens.and_then(Held::of).filter(|held| Some(&held.value) != stale.as_ref() && held.lasts())?;
            Some(self.hold(held, How::Found))
        };
        // Without the lock what is read may be old, which the server will say.
        let kept = self.kept().await?;
        let tokens = kept.current().and_then(|at| at.tokens.as_ref());
        if let Some(got) = adopt(tokens) {
            return Ok(got);
        }
        if let Wish::Next = wish
            && tokens.is_none()
        {
            return Ok(self.hold_nothing());
        }
        let _alone = self.lock().await?;
        let mut kept = self.kept().await?;
        let tokens = kept.current().and_then(|at| at.tokens.clone());
        if let Some(got) = adopt(tokens.as_ref()) {
            debug!(server = self.shown, "another has got a token meanwhile");
            return Ok(got);
        }
        let asked = |kept: &Kept, issuer: &str| kept.at(issuer)?.tokens.as_ref().map(|t| t.asked.clone().unwrap_or_default());
        let wanted = self.auth.scope.as_deref();
        match wish {
            Wish::Next => match self.refresh(&mut kept).await {
                Ok(Some(held)) => Ok(self.hold(held, How::Refreshed)),
                // It is asked without, and says what it wants.
                Ok(None) => Ok(self.hold_nothing()),
                // What there is may still do, and is asked for again a little later.
                Err(why) => {
                    let value = stale.ok_or(why)?;
                    Ok(self.hold(Held { value, until_s: now_s() + LATER_S }, How::Found))
                }
            },
            Wish::Again(challenge, may_refresh) => {
                let found = self.seek(challenge.as_ref()).await?;
                let before = asked(&kept, &found.issuer.issuer);
                let same = kept.issuer.as_ref() == Some(&found.issuer.issuer) && tokens.is_some_and(|t| t.resource == found.resource);
                if same
                    && may_refresh
                    && let Some(held) = self.refresh(&mut kept).await?
                {
                    return Ok(self.hold(held, How::Refreshed));
                }
                if lock(&self.futile).is_some_and(|at| at.elapsed() < FUTILE) {
                    return Ok(Got::nothing());
                }
                let scope = scopes(wanted, challenge.as_ref(), &found.scopes, before.as_deref(), &found.issuer);
                if self.is_of_visitor() {
                    self.forget_in(&mut kept).await;
                }
                self.ask(kept, found, scope).await
            }
            Wish::More(challenge) => {
                let found = self.seek(Some(&challenge)).await?;
                let before = asked(&kept, &found.issuer.issuer).unwrap_or_default();
                let scope = scopes(wanted, Some(&challenge), &found.scopes, Some(&before), &found.issuer);
                // Whoever was asked for all this has said how much of it there is.
                if lock(&self.asked).contains(scope.as_deref().unwrap_or_default()) {
                    return Ok(Got::nothing());
                }
                self.ask(kept, found, scope).await
            }
        }
    }

    /// Keeps other copies of us away.
    async fn lock(&self) -> Result<Lock, String> {
        let patience = match &self.auth.by {
            By::User(browsing) => browsing.patience + LONGER,
            By::Visitor | By::Itself(_) => LONGER,
        };
        // The other may be waiting for its user.
        let _busy = Busy::begin(&self.busy);
        self.store.lock(patience).await
    }

    /// What is kept, as far as it counts.
    async fn kept(&self) -> Result<Kept, String> {
        let mut kept = self.store.read().await?;
        self.check(&mut kept);
        Ok(kept)
    }

    /// What was got as another client than we are now does not count.
    fn check(&self, kept: &mut Kept) {
        let own = self.auth.own.id.as_ref();
        for at in kept.issuers.values_mut() {
            if own.is_some() && at.client.as_ref().map(|client| &client.id) != own {
                (at.client, at.tokens) = (None, None);
            }
            if at.client.as_ref().is_some_and(|c| c.secret_until_s != 0 && c.secret_until_s <= now_s()) {
                (at.client, at.tokens) = (None, None);
            }
        }
    }

    /// Writes down what was got. Where that fails it counts all the same, until we end.
    async fn keep(&self, kept: &Kept) {
        if let Err(why) = self.store.write(kept).await {
            warn!(server = self.shown, why, "the next start will need a login");
        }
    }

    fn hold(&self, held: Held, how: How) -> Got {
        let value = Some(held.value.clone());
        // They came in elsewhere, perhaps.
        if lock(&self.wanted).take_if(|wanted| wanted.anew).is_some() {
            self.to_be_asked.store(false, Ordering::Relaxed);
        }
        *lock(&self.state) = State { known: true, held: Some(held) };
        Got { value, how }
    }

    fn hold_nothing(&self) -> Got {
        *lock(&self.state) = State { known: true, held: None };
        Got::nothing()
    }

    // --- whom ---------------------------------------------------------------------------------

    /// Finds who issues tokens for the server.
    async fn seek(&self, challenge: Option<&Challenge>) -> Result<Found, String> {
        let users = !matches!(self.auth.by, By::Itself(_));
        let mut seek = Seek::new(&self.server, challenge, users).map_err(|why| format!("the server's URL {why}"))?;
        while let Some(step) = seek.poll_step() {
            match step {
                Step::Fetch(url) => {
                    let document =
                        fetch::document(self.http_for(&url).await?, &url).await.map_err(|why| format!("{url} cannot be read: {why}"))?;
                    seek.handle_fetched(document.as_deref());
                }
                Step::Found(found) => return Ok(*found),
                Step::Failed(why) => return Err(why),
            }
        }
        Err("nobody was found who issues its tokens".into())
    }

    /// The client for a URL. What a server of the Internet names is not looked for in our own network.
    async fn http_for(&self, url: &str) -> Result<&Http, String> {
        if endpoint::same_origin(url, &self.server) || !self.is_public().await {
            return if !url.starts_with("https:") || self.server.starts_with("https:") {
                Ok(&self.http)
            } else {
                made_once(&self.https, || Http::new(true))
            };
        }
        made_once(&self.public, Http::public)
    }

    /// Whether the server itself is somewhere on the Internet.
    async fn is_public(&self) -> bool {
        let looked_up = self.on_internet.get_or_init(|| async {
            let Ok(url) = Url::read(&self.server) else { return false };
            let host = url.host().trim_matches(['[', ']']).to_owned();
            // Who has no addresses for us is reached by a proxy, if at all, and that is where the Internet is.
            tokio::net::lookup_host((host, url.port())).await.is_ok_and(|mut all| all.all(|address| is_public(address.ip())))
        });
        *looked_up.await
    }

    // --- tokens -------------------------------------------------------------------------------

    /// Gets the next token by what is kept; `None`: there is nothing to get it by.
    async fn refresh(&self, kept: &mut Kept) -> Result<Option<Held>, String> {
        let Some(at) = kept.current() else { return Ok(None) };
        let (Some(client), Some(tokens)) = (at.client.as_ref().and_then(file::Client::read), at.tokens.clone()) else { return Ok(None) };
        let refresh = tokens.refresh.clone().map(Secret::new);
        let grant = match (&self.auth.by, &refresh) {
            (By::Itself(_), _) => Grant::Client(tokens.asked.as_deref()),
            (_, Some(token)) => Grant::Refresh(token),
            (_, None) => return Ok(None),
        };
        let issuer = kept.issuer.clone().unwrap_or_default();
        match self.redeem(grant, &issuer, &at.token_endpoint.clone(), &client, tokens.resource.as_deref()).await {
            Ok(granted) => {
                let asked = tokens.asked.clone();
                let tokens = Tokens::of(&granted, refresh.as_ref(), tokens.resource, asked, now_s());
                if let Some(at) = kept.current_mut() {
                    at.tokens = Some(tokens.clone());
                }
                self.keep(kept).await;
                debug!(server = self.shown, "the token was refreshed");
                Ok(Held::of(&tokens))
            }
            Err(Denied::Later(why)) => Err(format!("the authorization server {issuer} gives no new token now: {why}")),
            Err(denied) => {
                info!(server = self.shown, why = denied.why(), "the token cannot be refreshed");
                // Whatever else it says may not be its last word.
                if let (Denied::Grant(_) | Denied::Client(_), Some(at)) = (&denied, kept.current_mut()) {
                    at.tokens = None;
                    if let Denied::Client(_) = denied {
                        at.client = None;
                    }
                    self.keep(kept).await;
                }
                Ok(None)
            }
        }
    }

    async fn redeem(
        &self,
        grant: Grant<'_>,
        issuer: &str,
        endpoint: &str,
        client: &Registered,
        resource: Option<&str>,
    ) -> Result<Granted, Denied> {
        let mut signature = None;
        if let (Method::Key, By::Itself(Some(key))) = (client.method, &self.auth.by) {
            let audience = key.audience.as_deref().unwrap_or(issuer);
            let id = spell(random().map_err(Denied::Other)?);
            let signed = to_sign("JWT", key.algorithm.named(), None, &assertion(&client.id, audience, &id, now_s()));
            let by = sign::sign(key, signed.as_bytes()).map_err(Denied::Other)?;
            signature = Some(Secret::new(with_signature(&signed, &by)));
        }
        let request = Request::new(grant, client, resource, signature.as_ref());
        let http = self.http_for(endpoint).await.map_err(Denied::Other)?;
        let (status, text) = fetch::post(http, endpoint, fetch::FORM, request.authorization.as_ref(), request.body.reveal())
            .await
            .map_err(|why| Denied::Later(format!("{endpoint}: {why}")))?;
        granted(status, &text)
    }

    /// Gets a token that nobody has given us before.
    async fn ask(&self, mut kept: Kept, found: Found, scope: Option<String>) -> Result<Got, Barred> {
        let for_that = scope.clone().unwrap_or_default();
        let got = match &self.auth.by {
            By::Visitor => {
                let anew = lock(&self.state).held.is_none();
                let wanted = Wanted { found, scope, anew };
                self.to_be_asked.store(true, Ordering::Relaxed);
                *lock(&self.wanted) = Some(wanted.clone());
                return Err(Barred::Login(Box::new(wanted)));
            }
            By::User(browsing) => {
                let _busy = Busy::begin(&self.busy);
                self.log_in(browsing, kept, Wanted { found, scope, anew: true }).await?
            }
            By::Itself(key) => {
                let WayIn::Be(mut client) = way_in(&found.issuer, &self.auth.own)? else {
                    return Err("client credentials need the id of a client (--client-id)".to_owned().into());
                };
                if key.is_some() {
                    client.method = Method::Key;
                }
                let (issuer, endpoint) = (&found.issuer.issuer, &found.issuer.token_endpoint);
                let granted = self.redeem(Grant::Client(scope.as_deref()), issuer, endpoint, &client, found.resource.as_deref()).await;
                let granted = granted.map_err(|denied| no_token(issuer, &denied))?;
                let tokens = Tokens::of(&granted, None, found.resource, scope, now_s());
                let client = file::Client::of(&client, None);
                let at = At { token_endpoint: endpoint.clone(), client: Some(client), tokens: Some(tokens) };
                self.admit(&mut kept, issuer, at).await?
            }
        };
        let mut asked = lock(&self.asked);
        if asked.len() < MOST_ASKED {
            asked.insert(for_that);
        }
        Ok(got)
    }

    /// We are let in, by this.
    async fn admit(&self, kept: &mut Kept, issuer: &str, at: At) -> Result<Got, String> {
        let held = at.tokens.as_ref().and_then(Held::of).ok_or("the token fits no header")?;
        kept.put(issuer, at);
        self.keep(kept).await;
        info!(server = self.shown, issuer, "we are let in");
        Ok(self.hold(held, How::LoggedIn))
    }

    // --- a user -------------------------------------------------------------------------------

    /// Begins a login that ends at `redirect_uri`, registering us if need be; its user is to be sent to
    /// [`Login::url`].
    pub async fn begin(&self, wanted: &Wanted, redirect_uri: &str) -> Result<Login, Barred> {
        let kept = self.kept().await?;
        Ok(self.begin_by(&kept, wanted.clone(), redirect_uri.to_owned()).await?)
    }

    /// The same for whatever the server wants: what it has refused a request for, or what it says when asked.
    pub async fn begin_anew(&self, redirect_uri: &str) -> Result<Login, Barred> {
        let wanted = lock(&self.wanted).clone();
        let wanted = match wanted {
            Some(wanted) => wanted,
            None => {
                let challenge = self.provoke().await?;
                let found = self.seek(challenge.as_ref()).await?;
                let scope = scopes(self.auth.scope.as_deref(), challenge.as_ref(), &found.scopes, None, &found.issuer);
                Wanted { found, scope, anew: true }
            }
        };
        let mut kept = self.kept().await?;
        // An issuer that has forgotten a client tells its user, and not us: who begins again does so as another.
        if self.begun.swap(true, Ordering::Relaxed) {
            kept.forget_client(&wanted.found.issuer.issuer);
        }
        Ok(self.begin_by(&kept, wanted, redirect_uri.to_owned()).await?)
    }

    /// What the server says to a request without a token.
    async fn provoke(&self) -> Result<Option<Challenge>, String> {
        let url: Uri = self.server.parse().map_err(|e| format!("the server's URL is none: {e}"))?;
        let head = |headers: &mut HeaderMap| {
            headers.insert(USER_AGENT, AGENT);
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        };
        let asked = self.http.send(http::Method::GET, &url, head, bytes::Bytes::new());
        let late = |_| Err(format!("it did not answer within {} s", PROVOKED.as_secs()));
        let response = tokio::time::timeout(PROVOKED, async { asked.await.map_err(|trouble| trouble.why) }).await.unwrap_or_else(late);
        let response = response.map_err(|why| format!("the server cannot be reached: {why}"))?;
        let said = response.headers().get_all(WWW_AUTHENTICATE);
        Ok(bearer(said.iter().filter_map(|value| value.to_str().ok())).filter(|_| response.status() == StatusCode::UNAUTHORIZED))
    }

    /// Lets nobody in by it any more: what was kept is gone, and given back to who issued it, if that can be done.
    pub async fn forget(self: &Arc<Self>) -> Result<(), Barred> {
        let pass = self.clone();
        let lost = |_| Err(Barred::Failed("forgetting a token failed".into()));
        let forgetting = tokio::spawn(async move {
            let _one = pass.working.lock().await;
            let _alone = pass.lock().await?;
            let mut kept = pass.kept().await?;
            let issuer = kept.issuer.clone().unwrap_or_default();
            let had = kept.current().and_then(|at| Some((at.client.as_ref()?.read()?, at.tokens.clone()?)));
            pass.forget_in(&mut kept).await;
            *lock(&pass.wanted) = None;
            if let Some((client, tokens)) = had
                && let Err(why) = pass.give_back(&issuer, &client, &tokens).await
            {
                info!(server = pass.shown, issuer, why, "a token was not given back, and lasts as long as it lasts");
            }
            Ok(())
        });
        forgetting.await.unwrap_or_else(lost)
    }

    async fn forget_in(&self, kept: &mut Kept) {
        if let Some(at) = kept.current_mut()
            && at.tokens.take().is_some()
        {
            self.keep(kept).await;
        }
        self.hold_nothing();
    }

    /// Gives a token back (RFC 7009), and what was got by it.
    async fn give_back(&self, issuer: &str, client: &Registered, tokens: &Tokens) -> Result<(), String> {
        let found = self.seek(None).await?;
        let Some(endpoint) = found.issuer.revocation_endpoint.filter(|_| found.issuer.issuer == issuer) else {
            return Err("the authorization server has no place for that".into());
        };
        let server = Url::read(&self.server).map_err(str::to_owned)?;
        may_fetch(&endpoint, &server).map_err(|why| format!("its endpoint for that {why}"))?;
        let (token, hint) = match &tokens.refresh {
            Some(refresh) => (refresh, "refresh_token"),
            None => (&tokens.access, "access_token"),
        };
        let request = Request::revocation(&Secret::new(token.clone()), hint, client);
        let http = self.http_for(&endpoint).await?;
        let (status, _) = fetch::post(http, &endpoint, fetch::FORM, request.authorization.as_ref(), request.body.reveal()).await?;
        if status == 200 { Ok(()) } else { Err(format!("it answers with HTTP {status}")) }
    }

    /// Ends it, by the code that came ([`Login::handle_callback`]).
    pub async fn finish(&self, login: &Login, code: &Secret) -> Result<(), Barred> {
        let _one = self.working.lock().await;
        let _alone = self.lock().await?;
        self.finish_by(self.kept().await?, login, code).await?;
        *lock(&self.wanted) = None;
        self.to_be_asked.store(false, Ordering::Relaxed);
        self.begun.store(false, Ordering::Relaxed);
        *lock(&self.failed) = None;
        Ok(())
    }

    async fn begin_by(&self, kept: &Kept, wanted: Wanted, redirect_uri: String) -> Result<Login, String> {
        let Found { issuer, resource, .. } = wanted.found;
        let client = match way_in(&issuer, &self.auth.own)? {
            WayIn::Be(client) => client,
            WayIn::Register(endpoint) => {
                let known = kept.at(&issuer.issuer).and_then(|at| at.client.as_ref());
                match known.filter(|client| client.redirect_uri.as_ref() == Some(&redirect_uri)).and_then(file::Client::read) {
                    Some(client) => client,
                    None => self.register(&issuer, &endpoint, &redirect_uri).await?,
                }
            }
        };
        Ok(Login::new(issuer, client, redirect_uri, resource, wanted.scope, [random()?, random()?]))
    }

    async fn finish_by(&self, mut kept: Kept, login: &Login, code: &Secret) -> Result<Got, String> {
        let (issuer, endpoint) = (&login.issuer.issuer, &login.issuer.token_endpoint);
        let granted = self.redeem(Grant::Code(login, code), issuer, endpoint, &login.client, login.resource.as_deref()).await;
        let granted = match granted {
            Ok(granted) => granted,
            Err(denied) => {
                if let Denied::Client(_) = denied {
                    kept.forget_client(issuer);
                    self.keep(&kept).await;
                }
                return Err(no_token(issuer, &denied));
            }
        };
        let tokens = Tokens::of(&granted, None, login.resource.clone(), login.scope.clone(), now_s());
        let client = file::Client::of(&login.client, Some(login.redirect_uri.clone()));
        let at = At { token_endpoint: endpoint.clone(), client: Some(client), tokens: Some(tokens) };
        self.admit(&mut kept, issuer, at).await
    }

    /// Sends the user at this machine to the issuer, and waits for what comes back.
    async fn log_in(&self, browsing: &Browsing, mut kept: Kept, wanted: Wanted) -> Result<Got, String> {
        let issuer = wanted.found.issuer.issuer.clone();
        // A client that has registered itself did so with a port.
        let rather = kept.at(&issuer).and_then(|at| at.client.as_ref()?.port());
        let callback = Callback::bind(browsing.port, rather).await?;
        let login = self.begin_by(&kept, wanted, callback.redirect_uri()).await?;
        let url = login.url();
        browser::tell(&self.shown, &url);
        if browsing.open {
            browser::open(&url);
        }
        let Ok(answer) = tokio::time::timeout(browsing.patience, callback.wait(&login)).await else {
            // An issuer that has forgotten a client tells its user, and not us.
            kept.forget_client(&issuer);
            self.keep(&kept).await;
            return Err(format!("nobody finished the login at {issuer} within {} s; try again", browsing.patience.as_secs()));
        };
        match answer {
            Ok(code) => self.finish_by(kept, &login, &code).await,
            Err(Unusable::Refused(why)) => Err(format!("the login at {issuer} did not succeed: {why}")),
            Err(Unusable::Forged | Unusable::NotOurs) => {
                warn!(server = self.shown, issuer, "an answer to the login was not from who was asked, and was not used");
                Err(format!("the answer to the login was not from {issuer}, and was not used"))
            }
        }
    }

    async fn register(&self, issuer: &Issuer, endpoint: &str, redirect_uri: &str) -> Result<Registered, String> {
        let failed = |why: String| {
            format!("we cannot register at {endpoint}: {why}; give a client (--client-id), or a token (--header 'Authorization: Bearer …')")
        };
        let body = registration(issuer, redirect_uri);
        let (status, text) = fetch::post(self.http_for(endpoint).await?, endpoint, fetch::JSON, None, &body).await.map_err(failed)?;
        if !(200..300).contains(&status) {
            let said = fetch::error_in(&text).map_or(String::new(), |said| format!(", {said}"));
            return Err(failed(format!("it answers with HTTP {status}{said}")));
        }
        registered(&text, issuer).map_err(|why| failed(format!("its answer cannot be used: {why}")))
    }
}

fn no_token(issuer: &str, denied: &Denied) -> String {
    format!("the authorization server {issuer} gives no token: {}", denied.why())
}

/// A user is asked as long as this is there.
struct Busy(watch::Sender<bool>);

impl Busy {
    fn begin(busy: &watch::Sender<bool>) -> Busy {
        busy.send_replace(true);
        Busy(busy.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}
