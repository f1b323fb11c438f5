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
//! this program behind the lock of the file, also where the tokens are in a keyring. Whoever comes second finds
//! what the first has got. What is got is got by a task of its own, for a refresh token counts once: it must be
//! written down even if nobody waits for it any more. What to ask whom for, and what to believe, is decided in
//! [`oauth`](landbridge_proto::oauth).

mod browser;
mod callback;
mod fetch;
mod file;
mod issuer;
mod keyring;
mod login;
mod shelf;
mod sign;
pub mod tickets;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{StatusCode, Uri};
use tokio::sync::watch;
use tracing::{debug, warn};

use landbridge_proto::oauth::challenge::{Challenge, bearer};
use landbridge_proto::oauth::login::scopes;
use landbridge_proto::oauth::seek::Found;

use crate::backend::http::Http;
use crate::backend::lock;
use crate::plan::{Access, By, TokenStore};
use crate::system::now_s;
use file::{Disk, Held as Lock, Kept, Store, Tokens};
pub use keyring::keyring_address;
pub use shelf::{KEY_VARIABLE, Shelf};
pub(crate) use shelf::{Place, forget};
pub use sign::check_key;

/// A token is replaced so long before it ends, or after three quarters of its life.
const SOON_S: u64 = 30;
/// Where it could not be, that is tried again after so long.
const LATER_S: u64 = 5;
/// Beyond the time that a user has, for whoever waits for another copy of us.
const LONGER: Duration = Duration::from_secs(60);
/// How often one request may be sent again with another token, and with a token that holds more.
const RENEWED: u8 = 3;
const STEPPED: u8 = 2;
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
        let on_disk = |wanted| Store::Disk(Disk::new(home.map(|home| home.join("tokens")), &server, user, wanted));
        let store = match &auth.by {
            By::User(browsing) => on_disk(browsing.tokens),
            By::Visitor => on_disk(TokenStore::File),
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
        let mut kept = {
            // A keyring may wait for its user.
            let _busy = Busy::begin(&self.busy);
            self.store.read().await?
        };
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
