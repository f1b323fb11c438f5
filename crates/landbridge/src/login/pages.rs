//! The pages of a login: sign in, consent, and what is said when it is over or went wrong.
//!
//! They work without script, load nothing, and are laid out by one stylesheet that stands in them. What strangers
//! wrote goes through [`text::plain`](super::text) before it is escaped, and no address of a stranger becomes a link, but
//! the one where an application waits for its answer ([`offered`]).
//! Odd: the names of scopes stand in the names of the checkboxes, as a parameter may be there once only.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use landbridge_proto::oauth::admission::Identity;
use landbridge_proto::oauth::form::Form;
use landbridge_proto::oauth::redirect::shown;
use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::oauth::url::Url;

use crate::body::Body;
use crate::login::text::{MAX_NAME, plain};
use crate::login::{Blame, Trouble};

/// The whole of what pages look like.
const STYLE: &str = include_str!("../../templates/style.css");
/// By which the policy allows it, and no other.
static STYLE_HASH: LazyLock<String> = LazyLock::new(|| STANDARD.encode(Hash::of(STYLE).as_bytes()));

/// Longest description of a scope, and of what went wrong, in characters.
const MAX_SENTENCE: usize = 400;
/// Longest host or URL, in characters. A host is never cut: whose it is stands at its end.
const MAX_PLACE: usize = 2 * 1024;
/// Most names that are listed.
const MAX_LISTED: usize = 12;

/// The name of the field that holds the form's token (`cookies::form_token`).
pub const TOKEN: &str = "csrf";
/// The name of the field that holds the number of the request that a page is about.
pub const REQUEST: &str = "request";
/// The name of the buttons of the consent page, `allow` and `deny`.
pub const DECISION: &str = "decision";
/// Above what is wrong with a request.
const NOT_FOLLOWED: &str = "The application asks in a way that cannot be followed";
/// What stands before the name of a scope in the name of its checkbox.
const SCOPE: &str = "scope:";

/// A page, and where its forms may lead.
#[derive(Debug)]
pub struct Page {
    html: String,
    targets: Vec<String>,
}

impl Page {
    fn new(template: &impl Template, targets: &[&str]) -> Page {
        // Writing to a string cannot fail; what would be sent otherwise is at least no half of a page.
        let html = template.render().unwrap_or_default();
        Page { html, targets: targets.iter().map(|target| (*target).to_owned()).collect() }
    }

    /// The page as text.
    pub fn html(&self) -> &str {
        &self.html
    }

    /// As an answer, with everything that keeps others away from it.
    pub fn response(self, status: StatusCode) -> Response<Body> {
        let targets: Vec<&str> = self.targets.iter().map(String::as_str).collect();
        let mut response = Response::new(Body::full(self.html));
        *response.status_mut() = status;
        *response.headers_mut() = headers(&targets);
        response
    }
}

/// The headers of every page. Its forms lead to us, and from there by redirect to one of `targets`, the redirect
/// URIs of clients.
///
/// Chromium holds `form-action` against every redirect that follows a form, also against those that the client
/// makes in turn, which go to `https` places we cannot know. So a target allows `https:` as a whole, and this machine or the
/// scheme of an application if that is where it leads; without one, only we are allowed.
pub fn headers(targets: &[&str]) -> HeaderMap {
    let mut sources = vec!["'self'".to_owned()];
    for target in targets {
        sources.push("https:".into());
        match Url::read(target) {
            Ok(url) if url.is_https() => {}
            // A source cannot name an IPv6 address.
            Ok(url) if url.host() == "[::1]" => sources.push("http:".into()),
            Ok(url) if url.is_loopback() => sources.extend(["localhost", "127.0.0.1"].map(|host| format!("http://{host}:*"))),
            Ok(_) => {}
            Err(_) => sources.extend(scheme(target).map(|scheme| format!("{scheme}:"))),
        }
    }
    let mut seen: Vec<String> = Vec::new();
    for source in sources {
        if !seen.contains(&source) {
            seen.push(source);
        }
    }
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action {}; frame-ancestors 'none'; base-uri 'none'",
        *STYLE_HASH,
        seen.join(" ")
    );
    let mut headers = HeaderMap::new();
    headers
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'")));
    let fixed: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    headers.extend(fixed.map(|(name, value)| (name, HeaderValue::from_static(value))));
    headers
}

/// The scheme of an address of an application's own; `None` for what a browser would run or open itself.
fn scheme(uri: &str) -> Option<String> {
    landbridge_proto::oauth::redirect::check(uri, landbridge_proto::oauth::redirect::Application::Native).ok()?;
    uri.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase())
}

/// How we know the application that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<'a> {
    /// By a document at its own URL: this host is certain, its name is not.
    Document(&'a str),
    /// It registered itself: nothing is certain but where it gets its answer.
    ByItself,
    /// The operator registered it.
    ByOperator,
}

/// The application that asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// What it calls itself.
    pub name: &'a str,
    /// How we know it.
    pub known: Known<'a>,
}

impl Asking<'_> {
    fn name(&self) -> String {
        let name = plain(self.name, MAX_NAME);
        if name.is_empty() { "An application without a name".into() } else { name }
    }

    fn host(&self) -> Option<String> {
        match self.known {
            Known::Document(host) => Some(plain(host, MAX_PLACE)),
            _ => None,
        }
    }
}

/// The page to sign in at.
#[derive(Clone, Copy, Debug)]
pub struct SignIn<'a> {
    /// Who asks; nobody if the user came by themselves.
    pub asking: Option<Asking<'a>>,
    /// The form for accounts of our own.
    pub local: Option<LocalForm<'a>>,
    /// Who else knows our users: the label and the path of ours that begins it (a GET).
    pub providers: &'a [(&'a str, &'a str)],
    /// Where the forms may lead beyond us: the client's redirect URI, if consent may be given already.
    pub targets: &'a [&'a str],
}

/// The form for accounts of our own. Fields: `user`, `password`, [`TOKEN`], [`REQUEST`].
#[derive(Clone, Copy, Debug)]
pub struct LocalForm<'a> {
    /// The path it is sent to.
    pub action: &'a str,
    /// The request it belongs to, or nothing.
    pub request: &'a str,
    /// Its token.
    pub token: &'a str,
    /// The name that was typed before.
    pub user: &'a str,
    /// What was wrong with it.
    pub trouble: Option<&'a str>,
}

/// A scope, for the consent page.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it means, as a sentence: from the configuration.
    pub description: Option<&'a str>,
}

/// The page on which a user agrees, or does not. Fields: [`DECISION`], [`TOKEN`], [`REQUEST`], and what
/// [`scopes_left`] reads.
#[derive(Clone, Copy, Debug)]
pub struct Consent<'a> {
    /// Who asks.
    pub asking: Asking<'a>,
    /// Where the answer goes.
    pub redirect_uri: &'a str,
    /// What it will reach: the URL.
    pub resource: &'a str,
    /// And the servers there, by name.
    pub servers: &'a [String],
    /// What it wants.
    pub scopes: &'a [Scope<'a>],
    /// Who is signed in.
    pub account: &'a Identity,
    /// And where: the label of a provider, if not at us.
    pub provider: Option<&'a str>,
    /// The path the decision is sent to.
    pub action: &'a str,
    /// The path that signs out (a POST of [`TOKEN`] and [`REQUEST`]), after which the user signs in again.
    pub sign_out: &'a str,
    /// The request it belongs to.
    pub request: &'a str,
    /// The token of both forms.
    pub token: &'a str,
}

/// The page that says why a request is not followed, and leads back to who asked.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// Who asked.
    pub asking: Asking<'a>,
    /// What is wrong with it; `None`: the user said no elsewhere.
    pub told: Option<&'a str>,
    /// Where it waits for the answer.
    pub redirect_uri: &'a str,
    /// The same with the answer in it.
    pub location: &'a str,
}

/// Whom an account is connected for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Somebody who is signed in here, by what they are called.
    SignedIn(String),
    /// The owner of API keys.
    Key(String),
    /// A user of somebody else's authorization server.
    Foreign {
        /// What it calls them.
        subject: String,
        /// Who it is.
        issuer: String,
    },
}

impl Whose {
    fn plain(&self) -> Whose {
        match self {
            Whose::SignedIn(name) => Whose::SignedIn(plain(name, MAX_NAME)),
            Whose::Key(owner) => Whose::Key(plain(owner, MAX_NAME)),
            Whose::Foreign { subject, issuer } => Whose::Foreign { subject: plain(subject, MAX_NAME), issuer: plain(issuer, MAX_PLACE) },
        }
    }

    /// Whether it is known that they are who sees the page.
    fn is_certain(&self) -> bool {
        matches!(self, Whose::SignedIn(_))
    }

    fn name(&self) -> &str {
        match self {
            Whose::SignedIn(name) | Whose::Key(name) | Whose::Foreign { subject: name, .. } => name,
        }
    }
}

/// The page on which a user connects their account at a server elsewhere. Fields: [`DECISION`] (`connect`, or
/// anything else), [`TOKEN`], [`REQUEST`].
#[derive(Clone, Copy, Debug)]
pub struct Connect<'a> {
    /// What we call the server.
    pub server: &'a str,
    /// Where it is.
    pub place: &'a str,
    /// Whom it is for.
    pub whose: &'a Whose,
    /// The path the decision is sent to.
    pub action: &'a str,
    /// The ticket it belongs to.
    pub request: &'a str,
    /// The token of the form.
    pub token: &'a str,
}

/// The page for whoever opens a link of somebody else.
#[derive(Clone, Copy, Debug)]
pub struct Stranger<'a> {
    /// What we call the server.
    pub server: &'a str,
    /// Who is signed in.
    pub whose: &'a Whose,
    /// The path that signs out (a POST of [`TOKEN`] and [`REQUEST`]).
    pub action: &'a str,
    /// The request it belongs to.
    pub request: &'a str,
    /// The token of the form.
    pub token: &'a str,
}

/// One server, for the page of a user's connections. Fields: as of [`Connect`], or `disconnect`.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What we call the server.
    pub server: String,
    /// Where it is.
    pub place: String,
    /// The path the decision is sent to.
    pub action: String,
    /// The token of the form.
    pub token: String,
    /// Whether there is a token for it.
    pub is_connected: bool,
}

#[derive(Template)]
#[template(path = "connect.html")]
struct ConnectTemplate {
    server: String,
    place: String,
    whose: Whose,
    action: String,
    request: String,
    token: String,
}

#[derive(Template)]
#[template(path = "stranger.html")]
struct StrangerTemplate {
    server: String,
    account: String,
    action: String,
    request: String,
    token: String,
}

#[derive(Template)]
#[template(path = "connections.html")]
struct ConnectionsTemplate {
    account: String,
    connections: Vec<Connection>,
}

#[derive(Template)]
#[template(path = "signin.html")]
struct SignInTemplate {
    asking: Option<(String, Option<String>)>,
    local: Option<LocalTemplate>,
    providers: Vec<(String, String)>,
}

struct LocalTemplate {
    action: String,
    request: String,
    token: String,
    user: String,
    trouble: Option<String>,
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentTemplate {
    name: String,
    host: Option<String>,
    by_operator: bool,
    back: Back,
    resource: String,
    servers: Vec<String>,
    n_more_servers: usize,
    scopes: Vec<(String, Option<String>)>,
    account: String,
    person: Option<String>,
    provider: Option<String>,
    action: String,
    sign_out: String,
    request: String,
    token: String,
}

/// Where an answer goes, in words.
enum Back {
    Host(String),
    Here(String),
    App(String),
}

impl Back {
    fn of(uri: &str) -> Back {
        let back = plain(&shown(uri), MAX_PLACE);
        match Url::read(uri) {
            Ok(url) if url.is_loopback() => Back::Here(format!("{back}:{}", url.port())),
            Ok(_) => Back::Host(back),
            Err(_) => Back::App(back),
        }
    }

    fn is_far(&self) -> bool {
        matches!(self, Back::Host(_))
    }

    fn is_here(&self) -> bool {
        matches!(self, Back::Here(_))
    }
}

#[derive(Template)]
#[template(path = "offered.html")]
struct OfferedTemplate {
    title: &'static str,
    name: String,
    host: Option<String>,
    by_operator: bool,
    back: Back,
    told: Option<String>,
    location: String,
}

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticeTemplate {
    title: String,
    is_error: bool,
    what: String,
    command: Option<String>,
    next: String,
    reference: Option<String>,
}

/// Shows the page to sign in at.
pub fn sign_in(page: &SignIn<'_>) -> Page {
    let providers = page.providers.iter().filter(|(_, path)| is_ours(path));
    let template = SignInTemplate {
        asking: page.asking.map(|asking| (asking.name(), asking.host())),
        local: page.local.map(|local| LocalTemplate {
            action: ours(local.action),
            request: local.request.to_owned(),
            token: local.token.to_owned(),
            user: plain(local.user, MAX_NAME),
            trouble: local.trouble.map(sentence),
        }),
        providers: providers.map(|(label, path)| (plain(label, MAX_NAME), (*path).to_owned())).collect(),
    };
    Page::new(&template, page.targets)
}

/// Shows the page on which a user agrees.
pub fn consent(page: &Consent<'_>) -> Page {
    let account = plain(page.account.called(), MAX_NAME);
    let person = page.account.name.as_deref().map(|name| plain(name, MAX_NAME));
    let template = ConsentTemplate {
        name: page.asking.name(),
        host: page.asking.host(),
        by_operator: page.asking.known == Known::ByOperator,
        back: Back::of(page.redirect_uri),
        resource: plain(page.resource.split_once("://").map_or(page.resource, |(_, rest)| rest), MAX_PLACE),
        servers: page.servers.iter().take(MAX_LISTED).map(|server| plain(server, MAX_NAME)).collect(),
        n_more_servers: page.servers.len().saturating_sub(MAX_LISTED),
        scopes: page.scopes.iter().map(|s| (s.name.to_owned(), s.description.map(|d| plain(d, MAX_SENTENCE)))).collect(),
        person: person.filter(|name| !name.is_empty() && *name != account),
        account,
        provider: page.provider.map(|label| plain(label, MAX_NAME)),
        action: ours(page.action),
        sign_out: ours(page.sign_out),
        request: page.request.to_owned(),
        token: page.token.to_owned(),
    };
    Page::new(&template, &[page.redirect_uri])
}

/// Shows why a request is not followed, and leads back to who asked.
pub fn offered(page: &Offered<'_>) -> Page {
    let template = OfferedTemplate {
        title: if page.told.is_some() { NOT_FOLLOWED } else { "Nothing was allowed" },
        name: page.asking.name(),
        host: page.asking.host(),
        by_operator: page.asking.known == Known::ByOperator,
        back: Back::of(page.redirect_uri),
        told: page.told.map(sentence),
        location: page.location.to_owned(),
    };
    Page::new(&template, &[])
}

/// Shows the page on which a user connects an account. Its form leads on to the server's issuer, which is not known yet.
pub fn connect(page: &Connect<'_>) -> Page {
    let template = ConnectTemplate {
        server: plain(page.server, MAX_NAME),
        place: plain(page.place, MAX_PLACE),
        whose: page.whose.plain(),
        action: ours(page.action),
        request: page.request.to_owned(),
        token: page.token.to_owned(),
    };
    Page::new(&template, &[page.place])
}

/// Shows that a link is somebody else's.
pub fn stranger(page: &Stranger<'_>) -> Page {
    let template = StrangerTemplate {
        server: plain(page.server, MAX_NAME),
        account: page.whose.plain().name().to_owned(),
        action: ours(page.action),
        request: page.request.to_owned(),
        token: page.token.to_owned(),
    };
    // A provider may be asked who they are.
    Page::new(&template, &["https://provider"])
}

/// Shows what a user has connected.
pub fn connections(whose: &Whose, connections: &[Connection]) -> Page {
    let shown = connections.iter().map(|connection| Connection {
        server: plain(&connection.server, MAX_NAME),
        place: plain(&connection.place, MAX_PLACE),
        action: ours(&connection.action),
        ..connection.clone()
    });
    let template = ConnectionsTemplate { account: whose.plain().name().to_owned(), connections: shown.collect() };
    let targets: Vec<&str> = connections.iter().map(|connection| connection.place.as_str()).collect();
    Page::new(&template, &targets)
}

/// The scopes that a user has left checked, of those that were asked for.
pub fn scopes_left(form: &Form, asked: &[String]) -> Vec<String> {
    asked.iter().filter(|scope| form.get(&format!("{SCOPE}{scope}")).is_some()).cloned().collect()
}

/// Shows what went wrong, and who can mend it. `reference` is by which it is found in the log.
pub fn error(trouble: &Trouble, reference: Option<&str>) -> Page {
    let (title, next) = match trouble.blame {
        Blame::User => ("This did not work", "Go back to the application and begin again."),
        Blame::Admission => {
            ("You are not on the list", "Whoever runs this server can let you in. With another account, begin again in the application.")
        }
        Blame::Operator => ("This server is not set up properly", "Whoever runs this server can mend this. You have done nothing wrong."),
        Blame::Provider => ("Somebody else is in trouble", "This is neither your fault nor this server's. Try again in a while."),
        Blame::Later => ("Not so fast", "Wait a little, then go back and try again."),
    };
    notice(title, true, &trouble.told, next, reference)
}

/// Shows why a request of an application is not followed, where the application cannot be told.
pub fn refused(told: &str) -> Page {
    let next = "Whoever makes that application can mend this. You have done nothing wrong.";
    notice(NOT_FOLLOWED, true, told, next, None)
}

/// Shows what to do where an application is not known, or not any more.
pub fn unknown() -> Page {
    let what = "it has never registered at this server, or has been forgotten";
    let next = "Remove this server in the application and add it again: then it registers anew.";
    notice("The application is not known here", true, what, next, None)
}

/// Shows that all is well and nothing is left to do.
pub fn done(what: &str) -> Page {
    notice("Done", false, what, "You can close this window.", None)
}

/// Shows what to do where nobody can sign in yet.
pub fn first_account() -> Page {
    let template = NoticeTemplate {
        title: "Nobody can sign in yet".into(),
        is_error: false,
        what: "This server has no accounts. Whoever runs it makes the first one with this command:".into(),
        command: Some("landbridge user add NAME".into()),
        next: "Then load this page again.".into(),
        reference: None,
    };
    Page::new(&template, &[])
}

fn notice(title: &str, is_error: bool, what: &str, next: &str, reference: Option<&str>) -> Page {
    let template = NoticeTemplate {
        title: title.into(),
        is_error,
        what: sentence(what),
        command: None,
        next: next.into(),
        reference: reference.map(|reference| plain(reference, MAX_NAME)),
    };
    Page::new(&template, &[])
}

/// What fits after "failed: ", as a sentence of its own. The marks around names of settings are for logs.
fn sentence(text: &str) -> String {
    let text = plain(text, MAX_SENTENCE).replace('`', "");
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return text };
    let end = if text.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), chars.as_str())
}

/// Whether a path is one of ours: not of another host, and nothing that runs.
fn is_ours(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\") && !path.contains(|c: char| c.is_control())
}

fn ours(path: &str) -> String {
    if is_ours(path) { path.to_owned() } else { "/".into() }
}

#[cfg(test)]
mod tests;
