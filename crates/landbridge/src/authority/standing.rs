//! Whether a user may still come in, of whom a provider knows: it is asked again, with the token of their login.
//!
//! ```text
//!   login ──▶ its token, sealed, in the vault
//!   a refresh, a consent ──▶ what was found out last; and where that is an hour old, a question begins beside it:
//!     another token, if need be, and kept ──▶ Provider::who ──▶ oauth::standing ──▶ kept, for the next refresh
//! ```
//!
//! Nobody waits for a provider, and one that does not answer puts nobody out: what was agreed to ends in any case
//! (`agreement_s`). Of all processes one asks about one user. A login since then counts for more than what was asked
//! before it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use landbridge_proto::oauth::secret::{Secret, spell};
use landbridge_proto::oauth::standing::{Next, Question, Said, Standing, Token, judge};

use super::{Desk, random};
use crate::audit::Line;
use crate::auth::Auth;
use crate::backend::lock;
use crate::gateway::Gateway;
use crate::login::{Blame, Held, Now, Provider, Trouble, Upstream};
use crate::plan::auth::Own;
use crate::store::{self, Store};
use crate::system::now_s;
use crate::vault::{self, Place};

/// The place of such tokens in the vault, where others have the URL of a server.
const PLACE: &str = "login";
/// Longest question, after another token was had, and how long one waits for that of another process.
const QUESTION: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a login waits for a question about its user.
const MOMENT: Duration = Duration::from_secs(2);
/// Attempts to keep another token: the old one is spent.
const ATTEMPTS: u32 = 3;
/// Questions at once; who comes then is asked about with their next refresh.
const MOST: usize = 8;

/// What is kept of a login.
#[derive(Clone, Serialize, Deserialize)]
struct Login {
    /// Which login it was: random.
    id: String,
    /// Our client at the provider.
    client: String,
    access: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_s: Option<u64>,
    lasts: bool,
    /// The provider is not asked before, in seconds since 1970.
    again_s: u64,
    /// It says what is asked of its users also when it is asked again.
    #[serde(default)]
    knows: bool,
    /// The refresh token has been shown, and what came of it is not known.
    #[serde(default)]
    renewing: bool,
    /// Why its user has to log in again, if they have to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

impl Login {
    fn held(&self) -> Held {
        Held {
            access_token: Secret::new(self.access.as_str()),
            refresh_token: self.refresh.as_deref().map(Secret::new),
            expires_s: self.expires_s,
            lasts: self.lasts,
        }
    }

    /// As far as it matters for what is asked.
    fn token(&self) -> Token {
        Token { expires_s: self.expires_s, lasts: self.lasts, renewable: self.refresh.is_some(), unsure: self.renewing }
    }

    fn hold(&mut self, held: &Held) {
        self.access = held.access_token.reveal().to_owned();
        self.refresh = held.refresh_token.as_ref().map(|token| token.reveal().to_owned());
        self.expires_s = held.expires_s;
        self.renewing = false;
    }
}

/// About whom a question is under way.
#[derive(Default)]
pub struct Questions(Mutex<HashSet<String>>);

impl Questions {
    fn begin(self: &Arc<Self>, principal: &str) -> Option<UnderWay> {
        let mut all = lock(&self.0);
        (all.len() < MOST && all.insert(principal.to_owned())).then(|| UnderWay { all: self.clone(), principal: principal.to_owned() })
    }
}

/// One of them.
struct UnderWay {
    all: Arc<Questions>,
    principal: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.all.0).remove(&self.principal);
    }
}

/// Forgets what was kept of somebody's login.
pub(super) async fn forget(store: &dyn Store, principal: &str) -> Result<(), store::Trouble> {
    vault::forget(store, PLACE, principal).await
}

impl Desk<'_> {
    /// Somebody has logged in: what their provider gave us is kept, in place of what it gave before. Where it cannot be, they
    /// are asked about when they log in again, as ever.
    pub(super) async fn keep_login(&self, provider: &Provider, upstream: &Upstream) {
        let principal = upstream.identity.principal();
        let kept = async {
            let place = self.gateway.connects.shelf()?.place(PLACE, &principal);
            let _baton = place.lock(MOMENT).await?;
            let before: Option<Login> = place.read_as().await?;
            let [id] = random().map_err(|trouble| trouble.to_string())?;
            let mut login = Login {
                id: spell(id),
                client: provider.client_id().to_owned(),
                access: String::new(),
                refresh: None,
                expires_s: None,
                lasts: upstream.held.lasts,
                again_s: self.now_s,
                knows: false,
                renewing: false,
                ended: None,
            };
            login.hold(&upstream.held);
            // Google gives one with the first login only.
            let before = before.filter(|b| b.client == login.client && b.lasts && login.lasts && b.ended.is_none() && !b.renewing);
            login.refresh = login.refresh.or(before.and_then(|before| before.refresh));
            place.write_as(&login, self.own.agreement_s).await
        };
        if let Err(why) = kept.await {
            tracing::warn!(
                why,
                "a provider's token cannot be kept: whether its user may still come in is not asked before their next login"
            );
        }
    }

    /// Whether the user `principal`, whom a provider has vouched for, may go on, by what was found out last. The error says
    /// why not. Where that is some time ago, the provider is asked meanwhile.
    pub(super) async fn stands(&self, principal: &str) -> Result<(), String> {
        let Some(provider) = &self.auth.provider else { return Ok(()) };
        let subject = principal.strip_prefix(provider.issuer()).and_then(|rest| rest.strip_prefix('#'));
        let Some(subject) = subject else { return Ok(()) };
        let kept = async {
            let place = self.gateway.connects.shelf()?.place(PLACE, principal);
            let login: Option<Login> = place.read_as().await?;
            Ok::<_, String>(login.map(|login| (place, login)))
        };
        let (place, login) = match kept.await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Ok(()),
            Err(why) => {
                tracing::warn!(why, "a provider's token cannot be had: whether its user may still come in is not asked");
                return Ok(());
            }
        };
        if let Some(why) = login.ended {
            return Err(why);
        }
        if is_due(&login, provider)
            && let Some(under_way) = self.auth.questions.begin(principal)
        {
            let inquiry = Inquiry {
                gateway: self.gateway.clone(),
                auth: self.auth.clone(),
                own: self.own.clone(),
                subject: subject.to_owned(),
                place,
                under_way,
            };
            tokio::spawn(async move {
                if let Err(why) = inquiry.run().await {
                    tracing::warn!(why, "what a provider says of a user cannot be kept");
                }
            });
        }
        Ok(())
    }
}

fn is_due(login: &Login, provider: &Provider) -> bool {
    login.again_s <= now_s() && login.ended.is_none() && login.client == provider.client_id()
}

/// A question under way.
struct Inquiry {
    gateway: Arc<Gateway>,
    auth: Arc<Auth>,
    own: Own,
    subject: String,
    place: Place,
    under_way: UnderWay,
}

impl Inquiry {
    async fn run(&self) -> Result<(), String> {
        let Some(provider) = &self.auth.provider else { return Ok(()) };
        let _baton = self.place.lock(PATIENCE).await?;
        let Some(mut login) = self.place.read_as::<Login>().await?.filter(|login| is_due(login, provider)) else { return Ok(()) };
        let said = self.ask(provider, &mut login).await?;
        let (principal, every_s) = (&self.under_way.principal, self.own.ask_again_s);
        match judge(&said, principal, provider.admission(), login.knows, every_s, now_s()) {
            Standing::Stays { again_s, knows } => (login.again_s, login.knows) = (again_s, knows),
            Standing::Ends(why) => {
                login.ended = Some(why.to_owned());
                self.gateway.audit.warn(Line { principal: Some(principal), reason: Some(why), ..Line::new("login", "ended") });
            }
        }
        let tried = login.access.clone();
        self.keep(&login, &tried).await
    }

    /// Who the user is now, by another token if need be, which is kept before anything else may go wrong.
    async fn ask(&self, provider: &Provider, login: &mut Login) -> Result<Said, String> {
        let http = self.auth.http();
        let (tried, mut held) = (login.access.clone(), login.held());
        let nothing = |trouble: &Trouble| {
            tracing::warn!(provider = provider.label(), %trouble, "cannot be asked whether a user of it may still come in");
            Said::Nothing
        };
        let mut question = Question::new(login.token(), login.knows);
        loop {
            match question.next(now_s()) {
                Next::Told(said) => return Ok(said),
                Next::Renew => {
                    login.renewing = true;
                    self.keep(login, &tried).await?;
                    match provider.renew(http, &mut held, now_s()).await {
                        Ok(()) => {}
                        Err(trouble) if trouble.blame == Blame::User => return Ok(question.handle_not_renewed()),
                        Err(trouble) => return Ok(nothing(&trouble)),
                    }
                    login.hold(&held);
                    self.keep_new(login, &tried).await?;
                    question.handle_renewed();
                }
                Next::Ask => match tokio::time::timeout(QUESTION, provider.who(http, &held, &self.subject)).await {
                    Ok(Ok(Now::Is { identity, lacks })) => return Ok(Said::Is { identity, lacks }),
                    Ok(Ok(Now::Refused)) => question.handle_refused(),
                    Ok(Err(trouble)) if trouble.blame == Blame::User => return Ok(Said::Gone),
                    Ok(Err(trouble)) => return Ok(nothing(&trouble)),
                    Err(_) => return Ok(Said::Nothing),
                },
            }
        }
    }

    /// Keeps what was found out with the token `tried`, unless its user has logged in again meanwhile or was shut out, or
    /// another process has another token.
    async fn keep(&self, login: &Login, tried: &str) -> Result<(), String> {
        match self.place.read_as::<Login>().await? {
            Some(kept) if kept.id == login.id && kept.access == tried => self.place.write_as(login, self.own.agreement_s).await,
            _ => Ok(()),
        }
    }

    /// The same with another token, for which `tried` was given up.
    async fn keep_new(&self, login: &Login, tried: &str) -> Result<(), String> {
        let mut kept = self.keep(login, tried).await;
        for _ in 1..ATTEMPTS {
            if kept.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            kept = self.keep(login, tried).await;
        }
        kept
    }
}
