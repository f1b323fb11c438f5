//! A user, in a browser: from the request of an application to a user who is signed in.
//!
//! ```text
//!   flow     the request as it was written, and whose browser began it; ten minutes
//!   browser  who is signed in there, under the hash of its cookie; eight hours
//! ```
//!
//! A flow is named in URLs, the provider's `state` among them, and worth nothing without the cookie of the browser
//! that began it. What else a login needs (nonce, PKCE, the code) is made of both, so that nothing secret is kept. Odd:
//! the cookie changes when somebody signs in, and the flow goes along; those of other tabs begin again.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use landbridge_proto::oauth::admission::Identity;
use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::authorize::{self, Asked, Refused, Server};
use landbridge_proto::oauth::client::{Client, is_document};
use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::redirect::shown;
use landbridge_proto::oauth::refusal::{Code, Refusal};
use landbridge_proto::oauth::secret::{Hash, spell};

use super::{Desk, random};
use crate::audit::Line;
use crate::auth::tokens::{Person, read, write};
use crate::body::Body;
use crate::login::cookies::{self, Over};
use crate::login::local::{Account, proper_name};
use crate::login::pages::{self, Asking, Known, LocalForm, Offered, SignIn};
use crate::login::{Begin, Blame, Finish, Trouble};
use crate::mcp::response;
use crate::store::{self, Kind, Pages, Record, Store};

/// Longest request of an application that is kept, in bytes.
const MAX_QUERY: usize = 8 * 1024;
/// How long a login may take, in seconds.
const FLOW_TTL_S: u64 = 600;
/// How long somebody stays signed in, in seconds. An application is let in for much longer; this only spares
/// who adds another the password.
const BROWSER_TTL_S: u64 = 8 * 3600;

/// What the records of browsers begin with.
const BROWSER: &str = "browser ";

/// A request of an application that a user is being asked about.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Flow {
    /// As it was written.
    pub(super) query: String,
    /// The hash of the cookie of the browser that began it.
    pub(super) browser: String,
    /// Until when, in seconds since 1970.
    pub(super) expires_s: u64,
    /// What was decided, for those who press twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allowed: Option<bool>,
    /// The path that they came for, where there is no application that asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
}

/// Who is signed in in a browser.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SignedIn {
    #[serde(flatten)]
    person: Person,
    /// The edition of the account, of one of ours: with another password, or another account of that name, nobody
    /// is signed in any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edition: Option<String>,
}

/// A flow that its own browser has come back to.
pub(super) struct Here {
    pub(super) id: String,
    pub(super) flow: Flow,
    pub(super) cookie: String,
}

/// The answer to a browser that is not shown what it came for.
pub(super) type Page = Box<Response<Body>>;

impl Desk<'_> {
    /// An application sends its user (RFC 6749 §4.1.1).
    pub(super) async fn authorize(&self, query: &str, headers: &HeaderMap) -> Response<Body> {
        self.begin(query, headers).await.unwrap_or_else(|page| *page)
    }

    async fn begin(&self, query: &str, headers: &HeaderMap) -> Result<Response<Body>, Page> {
        if query.len() > MAX_QUERY {
            let told = format!("the request is longer than {MAX_QUERY} bytes");
            return Err(Box::new(pages::refused(&told).response(StatusCode::URI_TOO_LONG)));
        }
        self.check(query).await?;
        let [for_id, for_cookie] = random().map_err(|trouble| self.out_of_order(&trouble))?;
        let known = cookies::read(headers, self.over()).map(str::to_owned);
        let signed_in = match &known {
            Some(cookie) => self.signed_in(cookie).await?,
            None => None,
        };
        let (id, cookie) = (spell(for_id), known.unwrap_or_else(|| spell(for_cookie)));
        let flow = Flow {
            query: query.to_owned(),
            browser: Hash::of(&cookie).to_string(),
            expires_s: self.now_s + FLOW_TTL_S,
            allowed: None,
            to: None,
        };
        self.keep(&id, &flow).await?;
        let here = Here { id, flow, cookie };
        let mut response = match signed_in {
            Some(_) => self.onward(&here),
            None => self.offer_sign_in(&here, false).await?,
        };
        self.set_cookie(&mut response, &here.cookie);
        Ok(response)
    }

    /// What the request of an application asks for, now.
    pub(super) async fn check(&self, query: &str) -> Result<(Client, Asked), Page> {
        let refused = |told: &str| Box::new(pages::refused(told).response(StatusCode::BAD_REQUEST));
        let form = Form::read(query).map_err(|why| refused(&format!("the request {why}")))?;
        let id = authorize::client_id(&form).map_err(|refusal| refused(&refusal.told))?;
        let client = self.known_client(id).await.map_err(|trouble| self.out_of_order(&trouble))?;
        let client = client.ok_or_else(|| match is_document(id) {
            // Not why: from that the names of our network could be learnt.
            true => refused(&format!("what the application says of itself at {} cannot be had, or does not fit it", shown(id))),
            false => Box::new(pages::unknown().response(StatusCode::BAD_REQUEST)),
        })?;
        let mounts = crate::routes::mounts(self.gateway, &self.reached.base);
        let scopes = self.auth.plan.every_scope(&self.gateway.running().plan.rights);
        let whole = Resource::read(&self.base).ok();
        let server = Server { issuer: &self.issuer, mounts: &mounts, scopes: &scopes, unnamed: whole.as_ref() };
        match authorize::check(&form, &client, &server) {
            Ok(asked) => Ok((client, asked)),
            Err(why) => Err(self.not_followed(&client, why)),
        }
    }

    /// The answer to a request of a client that is not followed.
    fn not_followed(&self, client: &Client, why: Refused) -> Page {
        Box::new(match why {
            Refused::Shown(refusal) => pages::refused(&refusal.told).response(StatusCode::BAD_REQUEST),
            Refused::Sent(location) => redirect(&location),
            Refused::Offered { refusal, redirect_uri, location } => {
                let host = shown(&client.id);
                let asking = self.asking(client, &host);
                let told = (refusal.code != Code::AccessDenied).then_some(refusal.told.as_str());
                let page = pages::offered(&Offered { asking, told, redirect_uri: &redirect_uri, location: &location });
                page.response(if told.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK })
            }
        })
    }

    /// Lets the user show who they are: by a page of ours, or at the provider.
    async fn offer_sign_in(&self, here: &Here, choose: bool) -> Result<Response<Body>, Page> {
        let Some(provider) = &self.auth.provider else { return self.sign_in_page(here, "", None).await };
        let (nonce, verifier) = (made_of(here, "nonce"), made_of(here, "verifier"));
        let callback = self.callback_url();
        let challenge = Hash::of(&verifier).to_string();
        let begin = Begin { callback: &callback, state: &here.id, nonce: &nonce, challenge: &challenge, choose };
        match provider.begin(self.auth.http(), &begin).await {
            Ok(url) => Ok(redirect(&url)),
            Err(trouble) => Err(trouble_page(&trouble)),
        }
    }

    async fn sign_in_page(&self, here: &Here, user: &str, trouble: Option<&Trouble>) -> Result<Response<Body>, Page> {
        let asks = match here.flow.to {
            Some(_) => None,
            None => Some(self.check(&here.flow.query).await?),
        };
        let anybody = self.auth.store.list(Kind::User, "", 1, self.now_s).await.map_err(|trouble| self.out_of_order(&trouble))?;
        if anybody.is_empty() {
            return Ok(pages::first_account().response(StatusCode::SERVICE_UNAVAILABLE));
        }
        let token = cookies::form_token(&here.cookie, &here.id);
        let host = asks.as_ref().map(|(client, _)| shown(&client.id)).unwrap_or_default();
        let targets: Vec<&str> = asks.iter().map(|(_, asked)| asked.redirect_uri.as_str()).collect();
        let told = trouble.map(|trouble| trouble.told.as_str());
        let local = LocalForm { action: &self.path("/login"), request: &here.id, token: &token, user, trouble: told };
        let asking = asks.as_ref().map(|(client, _)| self.asking(client, &host));
        let page = SignIn { asking, local: Some(local), providers: &[], targets: &targets };
        Ok(pages::sign_in(&page).response(trouble.map_or(StatusCode::OK, |trouble| trouble.blame.status())))
    }

    /// The client as pages show it; `host` is that of its document, if it has one.
    pub(super) fn asking<'c>(&self, client: &'c Client, host: &'c str) -> Asking<'c> {
        let known = match is_document(&client.id) {
            true => Known::Document(host),
            false if client.of_operator => Known::ByOperator,
            false => Known::ByItself,
        };
        Asking { name: &client.name, known }
    }

    /// Somebody says who they are, to us.
    pub(super) async fn login(&self, headers: &HeaderMap, body: &Bytes) -> Response<Body> {
        self.try_login(headers, body).await.unwrap_or_else(|page| *page)
    }

    async fn try_login(&self, headers: &HeaderMap, body: &Bytes) -> Result<Response<Body>, Page> {
        let (form, here) = self.returned_form(headers, body).await?;
        let Some(desk) = &self.auth.desk else {
            return Err(trouble_page(&Trouble::new(Blame::User, "accounts of this server are not used here")));
        };
        let (user, password) = (form.get("user").unwrap_or_default(), form.get("password").unwrap_or_default());
        let account = match proper_name(user) {
            Ok(name) => self.auth.store.get(Kind::User, &name, self.now_s).await.map_err(|trouble| self.out_of_order(&trouble))?,
            Err(_) => None,
        };
        let account = match account.map(|record| Account::read(&record.value)).transpose() {
            Ok(account) => account,
            Err(why) => return Err(self.out_of_order(&store::Trouble::Unusable(why))),
        };
        // Who is nobody here may have written a password in the wrong place.
        let known = account.as_ref().map(|account| account.name.clone());
        let from = self.from();
        match desk.sign_in(account, user, password, from, self.now_s).await {
            Ok(account) => self.has_signed_in(here, &account.identity(LOCAL), "local", Some(account.edition())).await,
            Err(trouble) => {
                self.tell_failed("local", known.as_deref(), &trouble.told);
                self.sign_in_page(&here, user, Some(&trouble)).await
            }
        }
    }

    /// The provider sends its user back.
    pub(super) async fn callback(&self, query: &str, headers: &HeaderMap) -> Response<Body> {
        self.try_callback(query, headers).await.unwrap_or_else(|page| *page)
    }

    async fn try_callback(&self, query: &str, headers: &HeaderMap) -> Result<Response<Body>, Page> {
        let unreadable = |why: &str| trouble_page(&Trouble::new(Blame::User, format!("what you came back with {why}")));
        let form = Form::read(query).map_err(unreadable)?;
        let Some(provider) = &self.auth.provider else {
            return Err(trouble_page(&Trouble::new(Blame::User, "nobody was asked who you are")));
        };
        // A state is used once: it is taken, and what goes on is another flow.
        let state = form.get("state").filter(|_| !form.is_twice("state")).unwrap_or_default();
        let own_browser = self.gateway.plan.profile.own_browser;
        let here = self.here(state, headers, true).await.map_err(|page| if own_browser && leads_on(&page) { over() } else { page })?;
        let (nonce, verifier) = (made_of(&here, "nonce"), made_of(&here, "verifier"));
        let callback = self.callback_url();
        let finish = Finish { callback: &callback, nonce: &nonce, verifier: &verifier, now_s: self.now_s };
        let upstream = match provider.finish(self.auth.http(), &form, &finish).await {
            Ok(upstream) => upstream,
            Err(trouble) => {
                self.tell_failed(provider.key(), None, &trouble.to_string());
                if trouble.blame == Blame::User && form.get("error").is_some() && here.flow.to.is_none() {
                    // Whoever says no there has said no to the application, which waits for it (RFC 6749 §4.1.2.1). Whether it
                    // was the user only the provider knows.
                    let (client, asked) = self.check(&here.flow.query).await?;
                    let refusal = Refusal::new(Code::AccessDenied, "the user did not agree");
                    return Err(self.not_followed(&client, asked.refuse_unasked(&client, refusal, &self.issuer)));
                }
                // Whoever came with a code has done their part.
                let failed = self.gateway.plan.profile.exchange_failed;
                let failed = failed.filter(|_| form.get("code").is_some() && trouble.blame != Blame::Admission);
                return Err(Box::new(pages::error(&trouble, None).response(failed.unwrap_or(trouble.blame.status()))));
            }
        };
        self.keep_login(provider, &upstream).await;
        let [for_id] = random().map_err(|trouble| self.out_of_order(&trouble))?;
        let here = Here { id: spell(for_id), ..here };
        self.has_signed_in(here, &upstream.identity, provider.key(), None).await
    }

    /// Somebody could not show who they are.
    fn tell_failed(&self, via: &str, who: Option<&str>, reason: &str) {
        self.gateway.audit.tell(Line { who, via: Some(via), reason: Some(reason), ..self.line("login", "failed") });
    }

    /// Somebody has shown who they are: the browser gets another cookie, and goes on to the consent page.
    async fn has_signed_in(&self, mut here: Here, identity: &Identity, via: &str, edition: Option<String>) -> Result<Response<Body>, Page> {
        let out_of_order = |trouble: store::Trouble| self.out_of_order(&trouble);
        let [for_cookie] = random().map_err(out_of_order)?;
        let cookie = spell(for_cookie);
        let value = write(&SignedIn { person: identity.into(), edition }).map_err(out_of_order)?;
        let record = Record { value, expires_s: Some(self.now_s + self.browser_ttl_s()) };
        self.auth.store.put(Kind::Login, &browser_key(&cookie), record).await.map_err(out_of_order)?;
        self.auth.store.take(Kind::Login, &browser_key(&here.cookie), self.now_s).await.map_err(out_of_order)?;
        here.flow.browser = Hash::of(&cookie).to_string();
        self.keep(&here.id, &here.flow).await?;
        let (who, principal) = (identity.called(), identity.principal());
        self.gateway.audit.tell(Line { who: Some(who), principal: Some(&principal), via: Some(via), ..self.line("login", "ok") });
        let mut response = self.onward(&here);
        self.set_cookie(&mut response, &cookie);
        Ok(response)
    }

    /// The user is somebody else: they sign in again.
    pub(super) async fn logout(&self, headers: &HeaderMap, body: &Bytes) -> Response<Body> {
        let signed_out = async {
            let (_, here) = self.returned_form(headers, body).await?;
            self.sign_out(&here.cookie).await?;
            self.offer_sign_in(&here, true).await
        };
        signed_out.await.unwrap_or_else(|page| *page)
    }

    /// A form of a page of ours, from the browser that we gave it to. What it is about may have been decided.
    pub(super) async fn returned_form(&self, headers: &HeaderMap, body: &Bytes) -> Result<(Form, Here), Page> {
        let form =
            super::form(headers, body).map_err(|refusal| Box::new(pages::refused(&refusal.told).response(StatusCode::BAD_REQUEST)))?;
        let here = self.find(form.get(pages::REQUEST).unwrap_or_default(), headers).await?;
        match form.get(pages::TOKEN).is_some_and(|token| cookies::is_form_token(token, &here.cookie, &here.id)) {
            true => Ok((form, here)),
            false => Err(trouble_page(&Trouble::new(Blame::User, "the form was not sent from a page of this server"))),
        }
    }

    /// The flow of that id, if this browser began it and nobody has decided. `take`: nobody finds it again.
    pub(super) async fn here(&self, id: &str, headers: &HeaderMap, take: bool) -> Result<Here, Page> {
        let mut here = self.find(id, headers).await?;
        if take {
            let taken =
                self.auth.store.take(Kind::Login, &flow_key(id), self.now_s).await.map_err(|trouble| self.out_of_order(&trouble))?;
            here.flow = read("login", &taken.ok_or_else(over)?).map_err(|trouble| self.out_of_order(&trouble))?;
        }
        if here.flow.allowed.is_some() { Err(over()) } else { Ok(here) }
    }

    /// The flow of that id, if this browser began it. Any other browser begins the same by itself, as if its user had been
    /// sent here just now.
    async fn find(&self, id: &str, headers: &HeaderMap) -> Result<Here, Page> {
        let cookie = cookies::read(headers, self.over()).ok_or_else(over)?;
        Hash::read(id).ok_or_else(over)?;
        let record = self.auth.store.get(Kind::Login, &flow_key(id), self.now_s).await.map_err(|trouble| self.out_of_order(&trouble))?;
        let flow: Flow = read("login", &record.ok_or_else(over)?).map_err(|trouble| self.out_of_order(&trouble))?;
        if !Hash::read(&flow.browser).is_some_and(|browser| browser.is_of(cookie)) {
            // Mostly it is the same browser: another tab has signed in meanwhile, or began at the same moment. Nothing that
            // came with the request counts, neither a password nor a code: those could be of somebody who began it elsewhere.
            let anew = flow.to.unwrap_or_else(|| format!("{}?{}", self.path("/authorize"), flow.query));
            return Err(Box::new(redirect(&anew)));
        }
        Ok(Here { id: id.to_owned(), flow, cookie: cookie.to_owned() })
    }

    pub(super) async fn keep(&self, id: &str, flow: &Flow) -> Result<(), Page> {
        let record = write(flow).map(|value| Record { value, expires_s: Some(flow.expires_s) });
        let kept = match record {
            Ok(record) => self.auth.store.put(Kind::Login, &flow_key(id), record).await,
            Err(trouble) => Err(trouble),
        };
        kept.map_err(|trouble| self.out_of_order(&trouble))
    }

    /// Who is signed in in the browser with this cookie.
    pub(super) async fn signed_in(&self, cookie: &str) -> Result<Option<Identity>, Page> {
        let found = self.auth.store.get(Kind::Login, &browser_key(cookie), self.now_s).await;
        let found = found.and_then(|record| record.map(|record| read::<SignedIn>("login", &record)).transpose());
        let Some(found) = found.map_err(|trouble| self.out_of_order(&trouble))? else { return Ok(None) };
        // Who is let in may have become somebody else, and so may how people log in.
        if !self.auth.lets_in(&found.person) {
            return Ok(None);
        }
        let (issuer, identity) = (found.person.issuer.clone(), found.person.identity());
        if issuer == LOCAL {
            // It may have been removed meanwhile, or be somebody else's by now.
            let name = identity.login.as_deref().unwrap_or_default();
            let there = self.auth.store.get(Kind::User, name, self.now_s).await.map_err(|trouble| self.out_of_order(&trouble))?;
            let edition = there.and_then(|record| Account::read(&record.value).ok()).map(|account| account.edition());
            return Ok((edition.is_some() && edition == found.edition).then_some(identity));
        }
        Ok(Some(identity))
    }

    /// Nobody is signed in in the browser with this cookie any more.
    pub(super) async fn sign_out(&self, cookie: &str) -> Result<(), Page> {
        let gone = self.auth.store.take(Kind::Login, &browser_key(cookie), self.now_s).await;
        gone.map(drop).map_err(|trouble| self.out_of_order(&trouble))
    }

    pub(super) fn out_of_order(&self, trouble: &store::Trouble) -> Page {
        tracing::warn!(%trouble, "the authorization server cannot answer");
        trouble_page(&Trouble::new(Blame::Later, "this server cannot reach its store at the moment"))
    }

    /// What they came for, now that they are signed in.
    fn onward(&self, here: &Here) -> Response<Body> {
        match &here.flow.to {
            Some(to) => redirect(to),
            None => redirect(&format!("{}?request={}", self.path("/consent"), encode(&here.id))),
        }
    }

    /// Who is signed in in the browser that sends this.
    pub(super) async fn whoever(&self, headers: &HeaderMap) -> Result<Option<Identity>, Page> {
        match cookies::read(headers, self.over()) {
            Some(cookie) => self.signed_in(cookie).await,
            None => Ok(None),
        }
    }

    /// Begins a flow that ends at that path of ours.
    pub(super) async fn begin_for(&self, headers: &HeaderMap, to: &str) -> Result<Here, Page> {
        let [for_id, for_cookie] = random().map_err(|trouble| self.out_of_order(&trouble))?;
        let cookie = cookies::read(headers, self.over()).map_or_else(|| spell(for_cookie), str::to_owned);
        let (id, browser) = (spell(for_id), Hash::of(&cookie).to_string());
        let flow = Flow { query: String::new(), browser, expires_s: self.now_s + FLOW_TTL_S, allowed: None, to: Some(to.to_owned()) };
        self.keep(&id, &flow).await?;
        Ok(Here { id, flow, cookie })
    }

    /// Somebody signs in, and comes back to that path of ours.
    pub(super) async fn sign_in_for(&self, headers: &HeaderMap, to: &str) -> Result<Response<Body>, Page> {
        let here = self.begin_for(headers, to).await?;
        let mut response = self.offer_sign_in(&here, false).await?;
        self.set_cookie(&mut response, &here.cookie);
        Ok(response)
    }

    fn callback_url(&self) -> String {
        format!("{}/callback", self.base)
    }

    /// The path of an endpoint of ours.
    pub(super) fn path(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.gateway.plan.path)
    }

    fn browser_ttl_s(&self) -> u64 {
        BROWSER_TTL_S.min(self.own.agreement_s)
    }

    fn over(&self) -> Over {
        if self.base.starts_with("https://") { Over::Tls } else { Over::Plain }
    }

    fn set_cookie(&self, response: &mut Response<Body>, cookie: &str) {
        if let Some(cookie) = cookies::set(self.over(), cookie, self.browser_ttl_s()) {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
    }
}

/// Signs somebody out of every browser.
pub(super) async fn sign_out_everywhere(store: &dyn Store, whose: &str, now_s: u64) -> Result<(), store::Trouble> {
    let mut pages = Pages::of(store, Kind::Login, now_s);
    while let Some(page) = pages.next().await? {
        for (key, record) in page.into_iter().filter(|(key, _)| key.starts_with(BROWSER)) {
            if read::<SignedIn>("login", &record)?.person.identity().principal() == whose {
                store.take(Kind::Login, &key, now_s).await?;
            }
        }
    }
    Ok(())
}

/// The issuer of accounts of our own: the same whatever we are called.
pub(crate) const LOCAL: &str = "landbridge:local";

/// A secret of one login, which the browser and the flow know together.
fn made_of(here: &Here, what: &str) -> String {
    spell(bytes_of(here, what))
}

/// The same, as the bytes that it is.
pub(super) fn bytes_of(here: &Here, what: &str) -> [u8; 32] {
    *Hash::of(&format!("{what} {} {}", here.cookie, here.id)).as_bytes()
}

/// There is nothing to come back to.
pub(super) fn over() -> Page {
    let told = "the login is over: it took too long, was used already, or your browser keeps no cookies of this server";
    trouble_page(&Trouble::new(Blame::User, told))
}

fn flow_key(id: &str) -> String {
    format!("flow {}", Hash::of(id))
}

fn browser_key(cookie: &str) -> String {
    format!("{BROWSER}{}", Hash::of(cookie))
}

/// Whether it is no answer, but leads to one.
fn leads_on(page: &Page) -> bool {
    page.headers().contains_key(header::LOCATION)
}

fn trouble_page(trouble: &Trouble) -> Page {
    Box::new(pages::error(trouble, None).response(trouble.blame.status()))
}

/// Sends the browser elsewhere, that has sent a GET; who answers a POST says so by [`after_post`].
pub(crate) fn redirect(to: &str) -> Response<Body> {
    let mut response = response(StatusCode::FOUND, Body::empty());
    match HeaderValue::from_str(to) {
        Ok(location) => drop(response.headers_mut().insert(header::LOCATION, location)),
        Err(_) => *response.status_mut() = StatusCode::BAD_GATEWAY,
    }
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The same, where the browser has sent a form, which is not for whom it is sent to (RFC 9110 §15.4.4).
pub(crate) fn after_post(mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::FOUND {
        *response.status_mut() = StatusCode::SEE_OTHER;
    }
    response
}
