//! Where users connect their accounts at servers elsewhere: `/connect`, and what comes back there.
//!
//! ```text
//!   GET  /connect/NAME?ticket=…  is it this user? ──▶ a page: whose account here, at which server
//!   POST /connect/NAME           the ticket is taken ──▶ discovery, registration ──▶ to the server's own issuer
//!   GET  /connect/callback       a state of ours, once, in the same browser ──▶ a code ──▶ tokens, on the shelf
//!   GET  /connect                what the user who is signed in here has connected; to be disconnected
//! ```
//!
//! Whoever finishes such a login lends an account, and whoever's link it is gets to use it; so both must be the same
//! person (MCP elicitation, "Safe URL Handling", phishing). Where users sign in with us, that is checked. A user with
//! an API key, or of somebody else's authorization server, has no session in the browser: there the page says for
//! whom it is, and nothing happens before a button is pressed on it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use landbridge_proto::call::Principal;
use landbridge_proto::oauth::form::Form;
use landbridge_proto::oauth::login::{Login, Unusable};
use landbridge_proto::oauth::secret::{Hash, spell};

use crate::arrival::Reached;
use crate::authority::{self, after_post, redirect};
use crate::backend::each::{Each, User};
use crate::backend::{lock, made_once};
use crate::body::Body;
use crate::gateway::Gateway;
use crate::login::cookies::{self, Over};
use crate::login::pages::{self, Connect, Connection, Stranger, Whose};
use crate::login::{Blame, Trouble};
use crate::mcp::Arriving;
use crate::store::Store;
use crate::system::random;
use crate::vault::tickets::{TICKET_S, Tickets};
use crate::vault::{Barred, Shelf};

/// Logins that may be under way at once.
const MOST: usize = 1_000;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Largest body of a form, in bytes.
const MAX_BODY: usize = 8 * 1024;

/// What all connections have in common.
pub struct Connects {
    store: Arc<dyn Store>,
    shelf: OnceLock<Arc<Shelf>>,
    /// Hands out links.
    pub tickets: Arc<Tickets>,
    /// Logins under way, by the hash of their state.
    pending: Mutex<HashMap<Vec<u8>, Pending>>,
}

/// A login under way.
struct Pending {
    login: Login,
    principal: Principal,
    server: String,
    /// The hash of the cookie of the browser that began it.
    browser: Hash,
    since: Instant,
}

impl std::fmt::Debug for Connects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connects")
    }
}

impl Connects {
    /// With everything in that store, for links that begin with `base`.
    pub fn new(store: Arc<dyn Store>, base: String) -> Connects {
        let tickets = Arc::new(Tickets::new(store.clone(), base));
        Connects { store, shelf: OnceLock::new(), tickets, pending: Mutex::default() }
    }

    /// Where the tokens are. Its key is made when the first server needs it.
    pub fn shelf(&self) -> Result<Arc<Shelf>, String> {
        made_once(&self.shelf, || Shelf::open(self.store.clone())).cloned()
    }

    fn begin(&self, pending: Pending) -> Result<(), Page> {
        let mut all = lock(&self.pending);
        all.retain(|_, pending| pending.since.elapsed() < PATIENCE);
        // Who begins again is done with what they began before; and nobody takes the places of others.
        all.retain(|_, other| other.principal != pending.principal || other.server != pending.server);
        if all.len() >= MOST {
            return Err(trouble(Blame::Later, "too many logins are under way"));
        }
        all.insert(pending.login.state_hash().as_bytes().to_vec(), pending);
        Ok(())
    }

    /// The login with that state, which is nobody's from now on.
    fn take(&self, state: &str) -> Option<Pending> {
        lock(&self.pending).remove(&Hash::of(state).as_bytes()[..]).filter(|pending| pending.since.elapsed() < PATIENCE)
    }
}

/// The answer to a browser that is not shown what it came for.
type Page = Box<Response<Body>>;

/// One request.
struct Desk<'d> {
    gateway: &'d Arc<Gateway>,
    reached: &'d Reached,
    /// Where we are, without a slash at the end.
    base: String,
    headers: &'d HeaderMap,
}

/// Whom a login is for.
struct Whom {
    principal: Principal,
    whose: Whose,
    /// The text of the ticket; none, where they came by themselves.
    ticket: String,
}

/// Answers a request at `/connect` and below; `rest` is what is behind that.
pub async fn handle<B: Arriving>(gateway: &Arc<Gateway>, reached: Reached, rest: &str, request: Request<B>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let desk = Desk { gateway, reached: &reached, base: format!("{}{}", reached.base, gateway.plan.path), headers: &parts.headers };
    let query = parts.uri.query().unwrap_or_default();
    let name = rest.trim_start_matches('/');
    let answered = match (name, &parts.method) {
        ("", &Method::GET) => desk.list().await,
        ("callback", &Method::GET) => desk.callback(query).await,
        ("" | "callback", _) => return crate::mcp::not_here("GET"),
        (_, &Method::GET) => desk.show(name, query).await,
        (_, &Method::POST) => match crate::mcp::collect(&gateway.plan.limits, &parts.headers, body, MAX_BODY).await {
            Ok(body) => desk.decide(name, &body).await.map(after_post).map_err(|page| Box::new(after_post(*page))),
            Err(fault) => return crate::mcp::refuse(landbridge_proto::version::Era::Handshake, &fault.into()),
        },
        _ => return crate::mcp::refuse_method("GET, POST", "only GET and POST have a meaning at this path".to_owned()),
    };
    let mut response = answered.unwrap_or_else(|page| *page);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Desk<'_> {
    /// Shows what is about to be connected, and for whom.
    async fn show(&self, name: &str, query: &str) -> Result<Response<Body>, Page> {
        let each = self.each(name)?;
        let form = Form::read(query).map_err(|why| trouble(Blame::User, &format!("the link {why}")))?;
        let ticket = form.get("ticket").filter(|_| !form.is_twice("ticket"));
        let whom = self.whom(name, ticket, false).await?;
        let cookie = self.cookie()?;
        let page = Connect {
            server: each.name(),
            place: &each.shown(),
            whose: &whom.whose,
            action: &self.path(name),
            request: &whom.ticket,
            token: &cookies::form_token(&cookie, &purpose(name, &whom.ticket)),
        };
        let mut response = pages::connect(&page).response(StatusCode::OK);
        self.set_cookie(&mut response, &cookie);
        Ok(response)
    }

    /// The user has pressed a button.
    async fn decide(&self, name: &str, body: &[u8]) -> Result<Response<Body>, Page> {
        let each = self.each(name)?;
        let text = std::str::from_utf8(body).map_err(|_| trouble(Blame::User, "the form is no UTF-8"))?;
        let form = Form::read(text).map_err(|why| trouble(Blame::User, &format!("the form {why}")))?;
        let ticket = form.get(pages::REQUEST).unwrap_or_default();
        let foreign = || trouble(Blame::User, "the form was not sent from a page of this server");
        let cookie = cookies::read(self.headers, self.over()).ok_or_else(foreign)?;
        if !form.get(pages::TOKEN).is_some_and(|token| cookies::is_form_token(token, cookie, &purpose(name, ticket))) {
            return Err(foreign());
        }
        // Once: of two who send the same form one goes on.
        let whom = self.whom(name, Some(ticket).filter(|ticket| !ticket.is_empty()), true).await?;
        let user = self.user(&each, &whom.principal)?;
        match form.get(pages::DECISION) {
            Some("connect") => {}
            Some("disconnect") => return self.disconnect(&each, &user, &whom).await,
            _ => return Ok(pages::done(&format!("your account at {name} was not connected")).response(StatusCode::OK)),
        }
        let login = user.pass().begin_anew(&self.callback_url()).await.map_err(|barred| barred_page(name, &barred))?;
        let url = login.url();
        let browser = Hash::of(cookie);
        let pending = Pending { login, principal: whom.principal, server: name.to_owned(), browser, since: Instant::now() };
        self.gateway.connects.begin(pending)?;
        Ok(redirect(&url))
    }

    /// The server's issuer sends the user back.
    async fn callback(&self, query: &str) -> Result<Response<Body>, Page> {
        let over = || trouble(Blame::User, "the login is over: it took too long, was used already, or began in another browser");
        let form = Form::read(query).map_err(|_| over())?;
        let state = form.get("state").filter(|_| !form.is_twice("state")).ok_or_else(over)?;
        let pending = self.gateway.connects.take(state).ok_or_else(over)?;
        let cookie = cookies::read(self.headers, self.over()).ok_or_else(over)?;
        if pending.browser != Hash::of(cookie) {
            return Err(over());
        }
        let Pending { login, principal, server, .. } = pending;
        let each = self.each(&server)?;
        let user = self.user(&each, &principal)?;
        let code = login.handle_callback(query).map_err(|unusable| match unusable {
            Unusable::Refused(why) => trouble(Blame::User, &format!("the login at {server} did not succeed: {why}")),
            Unusable::Forged | Unusable::NotOurs => {
                tracing::warn!(server, "an answer to a login was not from who was asked, and was not used");
                trouble(Blame::Provider, "the answer to the login was not from who was asked, and was not used")
            }
        })?;
        user.pass().finish(&login, &code).await.map_err(|barred| barred_page(&server, &barred))?;
        user.has_moved();
        tracing::info!(server, principal = shown(&principal), "a user has connected their account");
        Ok(pages::done(&format!("your account at {server} is connected; what you have asked for goes on in your application"))
            .response(StatusCode::OK))
    }

    /// What the user who is signed in here has connected.
    async fn list(&self) -> Result<Response<Body>, Page> {
        let whom = self.signed_in(&self.path("")).await?;
        let cookie = self.cookie()?;
        let mut connections = Vec::new();
        for backend in self.gateway.running().each() {
            let Some(each) = backend.each() else { continue };
            let user = self.user(each, &whom.principal)?;
            connections.push(Connection {
                server: each.name().to_owned(),
                place: each.shown(),
                action: self.path(each.name()),
                token: cookies::form_token(&cookie, &purpose(each.name(), "")),
                is_connected: user.is_connected().await.unwrap_or(false),
            });
        }
        let mut response = pages::connections(&whom.whose, &connections).response(StatusCode::OK);
        self.set_cookie(&mut response, &cookie);
        Ok(response)
    }

    async fn disconnect(&self, each: &Arc<Each>, user: &User, whom: &Whom) -> Result<Response<Body>, Page> {
        user.pass().forget().await.map_err(|barred| barred_page(each.name(), &barred))?;
        user.has_moved();
        tracing::info!(server = each.name(), principal = shown(&whom.principal), "a user has disconnected their account");
        Ok(redirect(&self.path("")))
    }

    // --- who -----------------------------------------------------------------------------------

    /// Whom the login is for, once it is clear that they are who is here.
    async fn whom(&self, name: &str, ticket: Option<&str>, take: bool) -> Result<Whom, Page> {
        let Some(text) = ticket else {
            return self.signed_in(&self.path(name)).await;
        };
        let over = || {
            let told = "the link is over: it was used already, or is older than ten minutes; call again in your application to get another";
            trouble(Blame::User, told)
        };
        let read = async |take| self.gateway.connects.tickets.read(text, take).await.map_err(|trouble| out_of_order(&trouble));
        let known = read(false).await?.filter(|ticket| ticket.server == name).ok_or_else(over)?;
        let own = self.gateway.auth().plan.is_own();
        let of_key = known
            .principal
            .strip_prefix("key ")
            .or_else(|| known.principal.strip_prefix("key-of ")?.split_once(':').map(|(_, owner)| owner));
        let whose = match of_key {
            Some(owner) => Whose::Key(owner.to_owned()),
            None if own => {
                let to = format!("{}?ticket={text}", self.path(name));
                let here = self.signed_in(&to).await?;
                if here.principal != Principal::named(&known.principal) {
                    let out = authority::sign_out_form(self.gateway, self.reached, self.headers, &to).await?;
                    tracing::info!(server = name, "a link to connect an account was opened by somebody else");
                    let stranger =
                        Stranger { server: name, whose: &here.whose, action: &out.action, request: &out.request, token: &out.token };
                    return Err(Box::new(pages::stranger(&stranger).response(StatusCode::FORBIDDEN)));
                }
                here.whose
            }
            None => {
                let (issuer, subject) = known.principal.split_once('#').unwrap_or(("", &known.principal));
                Whose::Foreign { subject: subject.to_owned(), issuer: issuer.to_owned() }
            }
        };
        if take && read(true).await?.is_none() {
            return Err(over());
        }
        Ok(Whom { principal: Principal::named(&known.principal), whose, ticket: text.to_owned() })
    }

    /// Who is signed in in this browser; else they sign in, and come back to `to`.
    async fn signed_in(&self, to: &str) -> Result<Whom, Page> {
        if !self.gateway.auth().plan.is_own() {
            let told = "nobody signs in here: open the link that your application shows when it needs your account";
            return Err(trouble(Blame::User, told));
        }
        match authority::whoever(self.gateway, self.reached, self.headers).await? {
            Some(identity) => Ok(Whom {
                principal: Principal::named(&identity.principal()),
                whose: Whose::SignedIn(identity.called().to_owned()),
                ticket: String::new(),
            }),
            None => Err(Box::new(authority::sign_in(self.gateway, self.reached, self.headers, to).await)),
        }
    }

    fn each(&self, name: &str) -> Result<Arc<Each>, Page> {
        let backend = self.gateway.running().named(name);
        let none = || Box::new(pages::refused("no server of that name asks users for accounts of theirs").response(StatusCode::NOT_FOUND));
        backend.as_ref().and_then(|backend| backend.each()).cloned().ok_or_else(none)
    }

    fn user(&self, each: &Arc<Each>, principal: &Principal) -> Result<Arc<User>, Page> {
        each.user(principal).map_err(|fault| trouble(Blame::Later, &fault.told))
    }

    // --- where ---------------------------------------------------------------------------------

    fn callback_url(&self) -> String {
        format!("{}/connect/callback", self.base)
    }

    fn path(&self, name: &str) -> String {
        let slash = if name.is_empty() { "" } else { "/" };
        format!("{}/connect{slash}{name}", self.gateway.plan.path)
    }

    fn over(&self) -> Over {
        if self.base.starts_with("https://") { Over::Tls } else { Over::Plain }
    }

    /// The cookie of this browser, or a new one.
    fn cookie(&self) -> Result<String, Page> {
        match cookies::read(self.headers, self.over()) {
            Some(cookie) => Ok(cookie.to_owned()),
            None => random().map(spell).map_err(|why| trouble(Blame::Later, &why)),
        }
    }

    fn set_cookie(&self, response: &mut Response<Body>, cookie: &str) {
        // One that is there stays as it is: somebody may be signed in by it, for longer.
        if cookies::read(self.headers, self.over()).is_none()
            && let Some(cookie) = cookies::set(self.over(), cookie, TICKET_S)
        {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
}

/// Where nobody knows from where somebody is.
pub(crate) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// What a form is for.
fn purpose(server: &str, ticket: &str) -> String {
    format!("connect {server} {ticket}")
}

fn shown(principal: &Principal) -> String {
    String::from_utf8_lossy(principal.as_bytes()).into_owned()
}

fn trouble(blame: Blame, told: &str) -> Page {
    let trouble = Trouble::new(blame, told);
    Box::new(pages::error(&trouble, None).response(trouble.blame.status()))
}

fn out_of_order(trouble: &crate::store::Trouble) -> Page {
    tracing::warn!(%trouble, "a link to connect an account cannot be looked up");
    self::trouble(Blame::Later, "this server cannot reach its store at the moment")
}

fn barred_page(server: &str, barred: &Barred) -> Page {
    tracing::warn!(server, why = %barred, "a user's account was not connected");
    trouble(Blame::Provider, &format!("your account at {server} cannot be connected now: {barred}"))
}
