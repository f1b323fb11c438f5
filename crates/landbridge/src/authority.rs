//! Our own authorization server: the endpoints, in front of the decisions of `landbridge_proto::oauth`.
//!
//! ```text
//!   GET /authorize ─▶ signed in? ─no─▶ sign-in page, or the provider ─▶ /callback ─┐
//!                          └─yes───────────────────────────────▶ consent page ◀────┘
//!   POST /consent ─▶ a code, at the client ─▶ POST /token ─▶ tokens
//! ```
//!
//! Here records are loaded and saved and pages are chosen; what follows from what is decided there. Odd: a flow
//! keeps the request as it was written and checks it again at its end, so that nothing is granted that was not
//! asked for, whatever became of the client meanwhile.

mod browser;
mod consent;
mod known;
mod register;
mod standing;
mod token;

pub(crate) use browser::LOCAL;
pub(crate) use browser::{after_post, redirect};
pub use standing::Questions;
pub use token::Turns;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use landbridge_proto::fault::Fault;
use landbridge_proto::oauth::admission::Identity;
use landbridge_proto::oauth::form::Form;
use landbridge_proto::oauth::metadata::AuthorizationServer;
use landbridge_proto::oauth::refusal::{Code, Refusal};

use crate::arrival::Reached;
use crate::audit::{Line, Why};
use crate::auth::Auth;
use crate::body::Body;
use crate::connects::NOWHERE;
use crate::gateway::Gateway;
use crate::login::{Blame, Trouble as LoginTrouble, pages};
use crate::mcp::{Arriving, json, not_here, response};
use crate::plan::auth::{Mode, Own};
use crate::store::Trouble;
use crate::system;

/// Largest body of a request, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Where a user is sent (RFC 6749 §3.1).
    Authorize,
    /// Where a local account signs in.
    Login,
    /// Where a user signs out.
    Logout,
    /// Where a provider sends the user back to.
    Callback,
    /// Where a user agrees, or not.
    Consent,
    /// Where codes become tokens (RFC 6749 §3.2).
    Token,
    /// Where clients register (RFC 7591).
    Register,
    /// Where tokens are given back (RFC 7009).
    Revoke,
    /// Where a token is explained (RFC 7662).
    Introspect,
    /// The keys of our signatures (RFC 7517).
    Keys,
}

impl Endpoint {
    /// The endpoint at a path.
    pub fn at(path: &str) -> Option<Endpoint> {
        Some(match path {
            "/authorize" => Endpoint::Authorize,
            "/login" => Endpoint::Login,
            "/logout" => Endpoint::Logout,
            "/callback" => Endpoint::Callback,
            "/consent" => Endpoint::Consent,
            "/token" => Endpoint::Token,
            "/register" => Endpoint::Register,
            "/revoke" => Endpoint::Revoke,
            "/introspect" => Endpoint::Introspect,
            "/jwks" => Endpoint::Keys,
            _ => return None,
        })
    }

    /// Whether programs of any page may call it: there are no cookies in it.
    pub fn is_for_programs(self) -> bool {
        matches!(self, Endpoint::Token | Endpoint::Register | Endpoint::Revoke | Endpoint::Introspect | Endpoint::Keys)
    }
}

/// One request at our authorization server.
struct Desk<'d> {
    gateway: &'d Arc<Gateway>,
    auth: &'d Arc<Auth>,
    own: &'d Own,
    /// How the client reached us.
    reached: Reached,
    /// And where we are there, without a slash at the end.
    base: String,
    issuer: String,
    now_s: u64,
}

/// What our authorization server tells of itself, to a client that reached us at `base`.
pub fn document(auth: &Auth, base: &str) -> Option<AuthorizationServer> {
    let Mode::Own(own) = &auth.plan.mode else { return None };
    Some(AuthorizationServer {
        issuer: auth.plan.issuer(base),
        scopes: auth.plan.scopes.iter().map(|scope| scope.name.clone()).collect(),
        registration: own.registration,
        client_documents: own.client_documents,
        signing: if own.signed { vec!["ES256".into()] } else { Vec::new() },
    })
}

/// Answers a request at one of the endpoints; `None` where there is no authorization server of ours.
pub async fn handle<B: Arriving>(
    gateway: &Arc<Gateway>,
    reached: Reached,
    endpoint: Endpoint,
    request: Request<B>,
) -> Option<Response<Body>> {
    let desk = Desk::of(gateway, reached)?;
    let mut response = desk.answer(endpoint, request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache")); // RFC 6749 §5.1
    if endpoint.is_for_programs() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    Some(response)
}

/// Who is signed in in the browser that sends this; nobody, where nobody signs in here. The error is a page.
pub(crate) async fn whoever(gateway: &Arc<Gateway>, reached: &Reached, headers: &HeaderMap) -> Result<Option<Identity>, browser::Page> {
    match Desk::of(gateway, reached.clone()) {
        Some(desk) => desk.whoever(headers).await,
        None => Ok(None),
    }
}

/// Has somebody sign in, who comes back to the path `to` of ours.
pub(crate) async fn sign_in(gateway: &Arc<Gateway>, reached: &Reached, headers: &HeaderMap, to: &str) -> Response<Body> {
    match Desk::of(gateway, reached.clone()) {
        Some(desk) => desk.sign_in_for(headers, to).await.unwrap_or_else(|page| *page),
        None => not_here("GET"),
    }
}

/// What a form needs that signs out whoever is signed in, so that somebody else can come back to `to`.
pub(crate) async fn sign_out_form(
    gateway: &Arc<Gateway>,
    reached: &Reached,
    headers: &HeaderMap,
    to: &str,
) -> Result<SignOut, browser::Page> {
    let desk = Desk::of(gateway, reached.clone()).ok_or_else(|| Box::new(not_here("GET")))?;
    let here = desk.begin_for(headers, to).await?;
    let token = crate::login::cookies::form_token(&here.cookie, &here.id);
    Ok(SignOut { action: desk.path("/logout"), request: here.id, token })
}

/// The path and the fields of a form that signs out.
pub(crate) struct SignOut {
    pub(crate) action: String,
    pub(crate) request: String,
    pub(crate) token: String,
}

impl<'d> Desk<'d> {
    /// `None` where there is no authorization server of ours.
    fn of(gateway: &'d Arc<Gateway>, reached: Reached) -> Option<Desk<'d>> {
        let auth = gateway.auth();
        let Mode::Own(own) = &auth.plan.mode else { return None };
        let base = format!("{}{}", reached.base, gateway.plan.path);
        let issuer = auth.plan.issuer(&base);
        Some(Desk { gateway, auth, own, reached, base, issuer, now_s: system::now_s() })
    }

    /// From where the request is, if that is known.
    fn from(&self) -> IpAddr {
        self.reached.client.unwrap_or(NOWHERE)
    }

    async fn answer<B: Arriving>(&self, endpoint: Endpoint, request: Request<B>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let (method, headers) = (&parts.method, &parts.headers);
        if *method == Method::OPTIONS && endpoint.is_for_programs() {
            return preflight(headers);
        }
        let query = parts.uri.query().unwrap_or_default();
        if let Err(fault) = self.may_ask(endpoint, method) {
            return slow(endpoint, &fault);
        }
        match (endpoint, method) {
            (Endpoint::Authorize, &Method::GET) => return self.authorize(query, headers).await,
            (Endpoint::Callback, &Method::GET) => return self.callback(query, headers).await,
            (Endpoint::Consent, &Method::GET) => return self.consent_page(query, headers).await,
            (Endpoint::Keys, &Method::GET) => {
                let none = || r#"{"keys":[]}"#.to_owned();
                return json(StatusCode::OK, self.auth.signer.as_ref().map_or_else(none, |signer| signer.jwks()));
            }
            (Endpoint::Authorize | Endpoint::Callback | Endpoint::Keys, _) => return not_here("GET"),
            (_, &Method::POST) => {}
            (Endpoint::Consent, _) => return not_here("GET, POST"),
            _ => return not_here("POST"),
        }
        let body = match crate::mcp::collect(&self.gateway.plan.limits, headers, body, MAX_BODY).await {
            Ok(body) => body,
            Err(fault) => return crate::mcp::refuse(landbridge_proto::version::Era::Handshake, &fault.into()),
        };
        match endpoint {
            Endpoint::Register => {
                let answer = self.register(headers, &body).await;
                if matches!(answer, Err(Stop::Refused(_))) {
                    self.gateway.rates.registration_failed();
                }
                self.told("registration", answer)
            }
            Endpoint::Token => self.redeem(headers.clone(), body).await,
            Endpoint::Revoke => self.counted("revocation", self.revoke(headers, &body).await),
            Endpoint::Introspect => self.counted("introspection", self.introspect(headers, &body).await),
            Endpoint::Login => after_post(self.login(headers, &body).await),
            Endpoint::Logout => after_post(self.logout(headers, &body).await),
            _ => after_post(self.consented(headers, &body).await),
        }
    }

    /// Tokens for a code or a refresh token, to the end even if the client leaves: its secret is taken out of the
    /// store meanwhile, and would be lost.
    async fn redeem(&self, headers: HeaderMap, body: Bytes) -> Response<Body> {
        let (gateway, reached) = (self.gateway.clone(), self.reached.clone());
        let work = tokio::spawn(async move {
            let desk = Desk::of(&gateway, reached)?;
            let answer = desk.token(&headers, &body).await;
            Some(desk.counted("token", answer))
        });
        match work.await {
            Ok(Some(response)) => response,
            _ => unavailable(&Trouble::Unusable("the request was not worked on to its end".into())),
        }
    }

    /// What strangers can have us do, they may do so often.
    fn may_ask(&self, endpoint: Endpoint, method: &Method) -> Result<(), Fault> {
        let (rates, posts) = (&self.gateway.rates, *method == Method::POST);
        match endpoint {
            Endpoint::Authorize | Endpoint::Login | Endpoint::Callback => rates.login(self.reached.client),
            Endpoint::Register if posts => rates.registration(self.reached.client),
            Endpoint::Token | Endpoint::Revoke | Endpoint::Introspect if posts => rates.token(self.reached.client),
            _ => Ok(()),
        }
    }

    /// Something happened here.
    fn line<'l>(&self, event: &'static str, outcome: &'static str) -> Line<'l> {
        Line { from: self.reached.client, ..Line::new(event, outcome) }
    }

    /// The answer to a program that showed a secret: what it has counted for is given back, unless it is refused.
    fn counted(&self, event: &'static str, answer: Result<Response<Body>, Stop>) -> Response<Body> {
        if !matches!(answer, Err(Stop::Refused(_))) {
            self.gateway.rates.token_served(self.reached.client);
        }
        self.told(event, answer)
    }

    /// The answer to a program, or why there is none.
    fn told(&self, event: &'static str, answer: Result<Response<Body>, Stop>) -> Response<Body> {
        match answer {
            Ok(response) => response,
            Err(Stop::Refused(refusal)) => {
                let reason = format!("{}: {}", refusal.code.as_str(), refusal.told);
                self.gateway.audit.refused(Line { reason: Some(&reason), ..self.line(event, "refused") });
                refuse(&refusal)
            }
            Err(Stop::Trouble(trouble)) => unavailable(&trouble),
        }
    }
}

/// The answer to somebody who wants too much: a page to users, an error to programs.
fn slow(endpoint: Endpoint, fault: &Fault) -> Response<Body> {
    let mut response = if endpoint.is_for_programs() {
        refuse(&Refusal::new(Code::TemporarilyUnavailable, &fault.told))
    } else {
        pages::error(&LoginTrouble::new(Blame::Later, fault.told.clone()), None).response(StatusCode::TOO_MANY_REQUESTS)
    };
    if let Some(seconds) = fault.retry_s {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response.extensions_mut().insert(Why { told: fault.told.clone(), who: None });
    response
}

/// Why a request of a program is not answered as it would be.
enum Stop {
    /// It is refused.
    Refused(Refusal),
    /// We cannot.
    Trouble(Trouble),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<Trouble> for Stop {
    fn from(trouble: Trouble) -> Stop {
        Stop::Trouble(trouble)
    }
}

/// The answer to a POST that is refused (RFC 6749 §5.2).
fn refuse(refusal: &Refusal) -> Response<Body> {
    let mut response = json(StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST), refusal.body());
    if refusal.code == Code::InvalidClient {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"landbridge\""));
    }
    response
}

fn unavailable(trouble: &Trouble) -> Response<Body> {
    tracing::warn!(%trouble, "the authorization server cannot answer");
    let mut response = json(
        StatusCode::SERVICE_UNAVAILABLE,
        r#"{"error":"temporarily_unavailable","error_description":"the authorization server cannot reach its store; try again later"}"#,
    );
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// Reads the body of a POST; of another media type it is none (RFC 6749, appendix B).
fn form(headers: &HeaderMap, body: &Bytes) -> Result<Form, Refusal> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    let invalid = |told: &str| Refusal::new(Code::InvalidRequest, told);
    if !media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(invalid("the body must be of type application/x-www-form-urlencoded"));
    }
    let text = std::str::from_utf8(body).map_err(|_| invalid("the body is no UTF-8"))?;
    Form::read(text).map_err(|why| invalid(&format!("the body {why}")))
}

/// Pages may call what is for programs.
fn preflight(headers: &HeaderMap) -> Response<Body> {
    let mut response = response(StatusCode::NO_CONTENT, Body::empty());
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(HeaderValue::from_static("authorization, content-type")));
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// 32 random bytes, so many times.
fn random<const N: usize>() -> Result<[[u8; 32]; N], Trouble> {
    let mut all = [[0; 32]; N];
    for bytes in &mut all {
        *bytes = system::random().map_err(Trouble::Unusable)?;
    }
    Ok(all)
}

/// Who an account of our own is, in records and sessions.
pub fn principal_of(account: &crate::login::local::Account) -> String {
    account.identity(LOCAL).principal()
}

/// Withdraws what a user has agreed to, signs them out of every browser, and forgets what their provider gave us; from how many
/// applications.
pub async fn shut_out(store: &dyn crate::store::Store, whose: &str, now_s: u64) -> Result<usize, Trouble> {
    use crate::auth::tokens::{Agreed, read};
    use crate::store::{Kind, Pages};
    standing::forget(store, whose).await?;
    browser::sign_out_everywhere(store, whose, now_s).await?;
    let (mut gone, mut pages) = (0, Pages::of(store, Kind::Grant, now_s));
    while let Some(page) = pages.next().await? {
        for (id, record) in page {
            if read::<Agreed>("grant", &record)?.principal == whose {
                gone += usize::from(store.take(Kind::Grant, &id, now_s).await?.is_some());
            }
        }
    }
    Ok(gone)
}
