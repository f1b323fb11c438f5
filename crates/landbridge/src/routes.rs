//! Every URL, on one page, and who may call it.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::forwarded::Said;
use landbridge_proto::headers::Guard;
use landbridge_proto::version::Era;

use landbridge_proto::oauth::audience::Resource;

use crate::arrival::{Arrival, Reached};
use crate::audit::{Line, Why};
use crate::auth::{At, Caller, Identity};
use crate::authority::{self, Endpoint};
use crate::backend::Backend;
use crate::body::{Beats, Body};
use crate::connects;
use crate::conversation::{Place, Visitor};
use crate::gateway::Gateway;
use crate::mcp::{Arriving, Exchange, MCP_METHODS, json, not_here, refuse, response, session_param};
use crate::pages::Access;
use crate::plan::Plan;
use crate::plan::auth::Needs;
use crate::profile::Transports;
use crate::visits::Door;

/// What a path means.
enum Route<'p> {
    /// A mount of a server: `/mcp`, `/servers/{name}/sse`, …
    Mount(Mount<'p>),
    /// `/.well-known/oauth-protected-resource/…`: of the mount at the path behind it.
    Resource(&'p str),
    /// `/.well-known/oauth-authorization-server`
    Issuer,
    /// `/.well-known/openid-configuration`
    OpenId,
    /// `/authorize`, `/token`, …
    Authority(Endpoint),
    /// `/connect` and what is below it: where users connect accounts of theirs.
    Connect(&'p str),
    /// `/healthz`: this process runs.
    Health,
    /// `/readyz`: its servers can be reached.
    Ready,
    /// `/metrics`: what it does.
    Metrics,
    /// Somebody else's, beside ours.
    Page(Access),
    /// `/`
    Root,
}

/// Where a server is.
struct Mount<'p> {
    /// `/servers/{name}`, or nothing.
    prefix: &'p str,
    /// What is behind it.
    path: &'p str,
    end: End,
    backend: Arc<Backend>,
}

/// The endpoints of a mount.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Mcp,
    Sse,
    Messages,
    /// Both transports at one path, of a [`Profile`](crate::profile::Profile).
    Both,
}

impl End {
    fn read(name: &str) -> Option<End> {
        match name {
            "mcp" => Some(End::Mcp),
            "sse" => Some(End::Sse),
            // As the SDKs, supergateway, mcp-proxy and agents of Cloudflare name it.
            "messages" | "message" | "sse/message" => Some(End::Messages),
            _ => None,
        }
    }

    /// Where it is below its prefix; messages are part of what opens their stream.
    fn path(self, path: &str) -> &str {
        match self {
            End::Mcp => "/mcp",
            End::Sse | End::Messages => "/sse",
            End::Both => path,
        }
    }

    /// Whether it is there, of these transports.
    fn is_of(self, transports: Transports) -> bool {
        match transports {
            Transports::Both => true,
            Transports::Sse => self != End::Mcp,
            Transports::Http => !matches!(self, End::Sse | End::Messages),
        }
    }
}

const RESOURCE: &str = "/.well-known/oauth-protected-resource";

fn route<'p>(gateway: &Gateway, method: &Method, uri: &'p Uri, headers: &HeaderMap) -> Result<Route<'p>, Fault> {
    let path = uri.path();
    if let Some(of) = path.strip_prefix(RESOURCE).filter(|of| of.is_empty() || of.starts_with('/')) {
        return Ok(Route::Resource(below(gateway, of)));
    }
    let path = below(gateway, path);
    let first = if path.is_empty() { "/" } else { path };
    // Its maker knows what it is beside. What is at the root is a page to whoever asks for one.
    if let Some(access) = gateway.pages.get().and_then(|pages| pages.find(first))
        && !(first == "/" && is_mount(gateway, method, headers))
    {
        return Ok(Route::Page(access));
    }
    match path {
        "/healthz" => return Ok(Route::Health),
        "/readyz" => return Ok(Route::Ready),
        "/metrics" => return Ok(Route::Metrics),
        "/.well-known/oauth-authorization-server" => return Ok(Route::Issuer),
        "/.well-known/openid-configuration" => return Ok(Route::OpenId),
        "/" | "" if !is_mount(gateway, method, headers) => return Ok(Route::Root),
        _ => {}
    }
    if let Some(rest) = path.strip_prefix("/connect").filter(|rest| rest.is_empty() || rest.starts_with('/'))
        && gateway.running().each().next().is_some()
    {
        return Ok(Route::Connect(rest));
    }
    match Endpoint::at(path) {
        Some(endpoint) if gateway.auth().plan.is_own() => Ok(Route::Authority(endpoint)),
        _ => mount(gateway, path, backend_of_session(gateway, uri, headers)).map(Route::Mount),
    }
}

/// Whether a request for the root means the server that may be there, and not the page.
fn is_mount(gateway: &Gateway, method: &Method, headers: &HeaderMap) -> bool {
    gateway.plan.profile.has("/") && (method != Method::GET || wants_events(headers))
}

/// Whether it says by name that it reads events.
fn wants_events(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains("text/event-stream"))
}

/// The path below ours, without a slash at its end: a router may have taken away the path that it has put us
/// under, or not. A client that takes an endpoint written as JSON for a URL puts quotes around its path.
fn below<'p>(gateway: &Gateway, path: &'p str) -> &'p str {
    let path = path.strip_prefix("/%22").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let path = path.strip_prefix(&*gateway.plan.path).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path);
    if path.len() > 1 { path.trim_end_matches('/') } else { path }
}

/// The mount at a path, where a session stays with its server.
fn mount<'p>(gateway: &Gateway, path: &'p str, of_session: Option<Arc<Backend>>) -> Result<Mount<'p>, Fault> {
    let nowhere = || {
        let (root, named) = match gateway.plan.profile.transports {
            Transports::Both => ("/mcp, /sse", "mcp"),
            Transports::Sse => ("/sse", "sse"),
            Transports::Http => ("/mcp", "mcp"),
        };
        let root = if gateway.front().is_some() { format!("{root} and ") } else { String::new() };
        Fault::client(Kind::NoSuchPath).tell(format!("nothing is served at this path; MCP is at {root}/servers/NAME/{named}"))
    };
    let known = |end: Option<End>| end.filter(|end| end.is_of(gateway.plan.profile.transports)).ok_or_else(nowhere);
    let Some(rest) = path.strip_prefix("/servers/") else {
        let both = gateway.plan.profile.has(path).then_some(End::Both);
        let end = known(both.or_else(|| End::read(path.trim_start_matches('/'))))?;
        // A session that was opened here stays, whoever else is served by now.
        let backend = of_session.or_else(|| gateway.front()).ok_or_else(nowhere)?;
        return Ok(Mount { prefix: "", path: if path == "/" { "" } else { path }, end, backend });
    };
    let (name, endpoint) = rest.split_once('/').ok_or_else(nowhere)?;
    let backend = gateway.backend(name).ok_or_else(|| {
        // Who may not come in does not learn what there is.
        let running = gateway.running();
        let names: Vec<&str> = if gateway.auth().is_on() { Vec::new() } else { running.names().collect() };
        let there_is = if names.is_empty() { String::new() } else { format!("; there is {}", names.join(", ")) };
        Fault::client(Kind::NoSuchPath).tell(format!("no server is called `{name}`{there_is}"))
    })?;
    let end = known(End::read(endpoint))?;
    let (prefix, path) = path.split_at(path.len() - endpoint.len() - 1);
    Ok(Mount { prefix, path, end, backend })
}

/// The server of the session that a request names.
fn backend_of_session(gateway: &Gateway, uri: &Uri, headers: &HeaderMap) -> Option<Arc<Backend>> {
    let id = session_param(uri.query()).or_else(|| headers.get("mcp-session-id").and_then(|id| id.to_str().ok()))?;
    gateway.sessions.find(id).map(|live| live.backend.clone())
}

impl Mount<'_> {
    /// The mount as its client knows it.
    fn at(&self, gateway: &Gateway, reached: Reached, uri: &Uri) -> At {
        let under = |path: &str| format!("{}{}{path}", gateway.plan.path, self.prefix);
        let mut also = Vec::new();
        if self.end == End::Messages {
            also.push(under(self.path));
            let live = session_param(uri.query()).and_then(|id| gateway.sessions.find(id));
            also.extend(live.and_then(|live| live.opened_at.get().cloned()));
        }
        let (path, query) = (under(self.end.path(self.path)), uri.query().map(str::to_owned));
        At { base: reached.base, path, also, query, needs: gateway.running().needs(&self.backend) }
    }
}

/// All that is ours, as one.
fn everything(gateway: &Gateway, reached: Reached) -> At {
    let needs = Needs { offered: Vec::new(), ..gateway.running().all_needs().clone() };
    At { base: reached.base, path: gateway.plan.path.clone(), needs: Arc::new(needs), ..At::default() }
}

/// Every URL that a token can be for, to a client that reached us at `base`.
pub(crate) fn mounts(gateway: &Gateway, base: &str) -> Vec<Resource> {
    let running = gateway.running();
    let prefixes = std::iter::once(String::new()).chain(running.names().map(|name| format!("/servers/{name}")));
    let urls = prefixes.flat_map(|prefix| [format!("{prefix}/mcp"), format!("{prefix}/sse")]);
    // A server with habits is where its clients look for it, too.
    let urls = urls.chain(gateway.plan.profile.paths.iter().filter(|path| *path != "/").cloned());
    urls.filter_map(|path| Resource::read(&format!("{base}{}{path}", gateway.plan.path)).ok()).collect()
}

/// Answers one request, which came over that connection.
///
/// Each has such a future in a box of its own, which is made by copying it: what is rare is boxed apart, and what can be
/// known at once is found out before, so that it stays small.
pub fn handle<B: Arriving>(
    gateway: Arc<Gateway>,
    beats: Arc<Beats>,
    mut request: Request<B>,
    arrival: Arrival,
) -> impl Future<Output = Response<Body>> + Send {
    name_host(&mut request);
    let running = gateway.running();
    let (plan, headers) = (&running.plan, request.headers());
    let said = arrival.said(plan, headers);
    let from = said.as_ref().ok().and_then(|said| arrival.client_of(*said));
    let (host, page) = (check_host(plan, headers, said).map_err(Box::new), check_page(&plan.guard, headers).map_err(Box::new));
    let manners = Manners::of(&gateway, plan, &request, from);
    async move {
        let answered = dispatch(&gateway, beats, request, arrival, from, host, page).await;
        manners.add_to(answered.unwrap_or_else(|fault| refuse(Era::Handshake, &(*fault).into())), &gateway)
    }
}

/// What every answer has besides what it says, and what is told of it.
struct Manners {
    door: Option<Door>,
    from: Option<IpAddr>,
    /// Whether the connection is for more than this request.
    is_kept: bool,
    /// The page that may read it.
    cors: Option<HeaderValue>,
    credentials: bool,
    varies: bool,
}

impl Manners {
    fn of<B>(gateway: &Gateway, plan: &Plan, request: &Request<B>, from: Option<IpAddr>) -> Manners {
        let headers = request.headers();
        let everybody = plan.guard.origins.iter().any(|origin| origin == "*");
        let origin = headers.get(header::ORIGIN).filter(|origin| plan.cors && allows_cors(&plan.guard, origin));
        Manners {
            door: Door::at(below(gateway, request.uri().path()), &gateway.plan.profile),
            from,
            is_kept: request.version() == Version::HTTP_11 && !wants_to_close(headers),
            // Where the answer is the same for all of them, it says so, and can be kept for all of them.
            cors: origin.map(|origin| if everybody { HeaderValue::from_static("*") } else { origin.clone() }),
            // Never where everybody is let in by `*`: whose cookies those are, nobody has thought of.
            credentials: plan.profile.credentials && !everybody,
            varies: plan.cors && !everybody,
        }
    }

    fn add_to(self, mut response: Response<Body>, gateway: &Gateway) -> Response<Body> {
        if let Some(door) = self.door {
            gateway.visits.count(door, response.status());
        }
        if let Some(why) = response.extensions_mut().remove::<Why>() {
            let outcome = match response.status() {
                StatusCode::UNAUTHORIZED => "unauthorized",
                StatusCode::FORBIDDEN => "forbidden",
                _ => "too_many",
            };
            let code = Some(response.status().as_u16().into());
            let line = Line { reason: Some(&why.told), code, from: self.from, ..Line::new("refusal", outcome) };
            gateway.audit.refused(why.who.as_ref().map_or(line, |who| line.of(who)));
        }
        let headers = response.headers_mut();
        // Some clients of HTTP+SSE look for it. Later versions of HTTP forbid it (RFC 9113 §8.2.2).
        if self.is_kept && headers.get(header::CONTENT_TYPE).is_some_and(|media| media == "text/event-stream") {
            headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        // On refusals too: a page that may call may also read why it failed.
        if let Some(origin) = self.cors {
            if self.credentials {
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let exposed = HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate, Retry-After");
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
        }
        response
    }
}

/// Whether it says that its connection is for this one request.
fn wants_to_close(headers: &HeaderMap) -> bool {
    let said = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    said.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// Over HTTP/2 the host is a part of the URL, and counts for more than a header (RFC 9113 §8.3.1).
fn name_host<B>(request: &mut Request<B>) {
    let Some(host) = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok()) else { return };
    if request.version() == Version::HTTP_2 {
        request.headers_mut().insert(header::HOST, host);
    } else {
        request.headers_mut().entry(header::HOST).or_insert(host);
    }
}

/// Whether a request may come in, and if it may, what answers it.
async fn dispatch<B: Arriving>(
    gateway: &Arc<Gateway>,
    beats: Arc<Beats>,
    request: Request<B>,
    arrival: Arrival,
    from: Option<IpAddr>,
    host: Result<(), Box<Fault>>,
    page: Result<(), Box<Fault>>,
) -> Result<Response<Body>, Box<Fault>> {
    let may_call = host.clone().and(page);
    let route = match route(gateway, request.method(), request.uri(), request.headers()) {
        Ok(route) => route,
        Err(fault) => {
            gateway.rates.request(from)?;
            return Err(may_call.err().unwrap_or(fault.into()));
        }
    };
    let auth = gateway.auth();
    // Probes of an orchestrator come by address. They learn whether, and only who may call learns
    // why not: the reason may quote what a server said.
    match &route {
        Route::Health => return Ok(text(StatusCode::OK, "ok\n")),
        Route::Ready => {
            return Ok(match Box::pin(gateway.readiness()).await {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(why) if may_call.is_ok() && !auth.is_on() => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
                Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            });
        }
        _ => {}
    }
    gateway.rates.request(from)?;
    let reached = |headers: &HeaderMap| arrival.reached(&gateway.running().plan, headers);
    // What everybody may read, and pages of everybody too. What is for users has tokens of its own in its forms.
    match &route {
        Route::Resource(_) | Route::Issuer | Route::OpenId => {
            host?;
            return match *request.method() {
                Method::GET => Ok(discovery(gateway, &route, reached(request.headers())?)?),
                Method::OPTIONS => Ok(preflight(Some("GET, OPTIONS"), request.headers())),
                _ => Ok(not_here("GET")),
            };
        }
        Route::Authority(endpoint) => {
            host?;
            let (endpoint, reached) = (*endpoint, reached(request.headers())?);
            let nobody = || Fault::client(Kind::NoSuchPath).tell("nobody logs in here").into();
            return Box::pin(authority::handle(gateway, reached, endpoint, request)).await.ok_or_else(nobody);
        }
        _ => {}
    }
    if let Route::Connect(rest) = &route {
        host?;
        let (rest, reached) = ((*rest).to_owned(), reached(request.headers())?);
        gateway.rates.login(reached.client)?;
        return Ok(Box::pin(connects::handle(gateway, reached, &rest, request)).await);
    }
    may_call?;
    if request.method() == Method::OPTIONS {
        // What methods a page has, its maker knows.
        let methods = if matches!(route, Route::Page(_)) { "GET, POST, PUT, DELETE, OPTIONS" } else { "GET, POST, DELETE, OPTIONS" };
        return Ok(preflight(gateway.running().plan.cors.then_some(methods), request.headers()));
    }
    if *gateway.draining.borrow() {
        return Err(Fault::gateway(Kind::Busy).tell("the gateway is being stopped; try again later").into());
    }
    let at = match &route {
        Route::Mount(mount) if auth.is_on() => Some(mount.at(gateway, reached(request.headers())?, request.uri())),
        // What it does is told to whoever may use all of it.
        Route::Metrics | Route::Page(Access::Guarded) if auth.is_on() => Some(everything(gateway, reached(request.headers())?)),
        _ => None,
    };
    let caller = match &at {
        None => Caller::default(),
        Some(at) => match auth.admit(request.headers(), request.uri().query(), at).await {
            Ok(caller) => {
                gateway.connects.tickets.reached_at(&at.base, &gateway.plan.path);
                caller
            }
            Err(refused) => return Ok(*refused),
        },
    };
    if let Some(identity) = caller.identity() {
        if caller.is_fresh() && identity.has_key() {
            gateway.audit.key_used(identity, from);
        }
        if let Err(fault) = gateway.rates.caller(identity) {
            return Ok(refuse_caller(fault, identity));
        }
    }
    let mount = match route {
        Route::Mount(mount) => mount,
        Route::Page(access) => {
            let Some(pages) = gateway.pages.get() else { return Ok(not_here("GET")) };
            let mut request = request;
            request.extensions_mut().insert(caller.principal());
            if access == Access::Guarded {
                let place = request.extensions_mut().remove::<Place>();
                request.extensions_mut().insert(Visitor::new(caller, from, place));
            }
            return Ok(pages.answer(request).await);
        }
        Route::Metrics if request.method() == Method::GET => {
            let mut response = text(StatusCode::OK, gateway.metrics());
            let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, media);
            return Ok(response);
        }
        Route::Root if request.method() == Method::GET => {
            return Ok(text(StatusCode::OK, crate::welcome::root(gateway, &reached(request.headers())?)));
        }
        _ => return Ok(not_here("GET")),
    };
    let prefix = format!("{}{}", gateway.plan.path, mount.prefix);
    let transports = gateway.plan.profile.transports;
    let exchange = Exchange { gateway: gateway.clone(), backend: mount.backend, beats, caller, from, at: at.map(Arc::new) };
    Ok(match (mount.end, request.method()) {
        (End::Mcp, &Method::POST) if session_param(request.uri().query()).is_some() => exchange.message(request).await,
        (End::Both, &Method::POST) if exchange.is_message(&request) => exchange.message(request).await,
        (End::Mcp | End::Both, &Method::POST) => exchange.post(request).await,
        (End::Both, &Method::GET) if !exchange.is_streamable(request.headers()) && transports != Transports::Http => {
            exchange.open_sse(&request, &prefix)
        }
        (End::Mcp | End::Both, &Method::GET) => exchange.get(&request, &prefix),
        (End::Mcp | End::Both, &Method::DELETE) => exchange.delete(request.headers()),
        (End::Mcp | End::Both, _) => not_here(MCP_METHODS),
        (End::Sse, &Method::GET) => exchange.open_sse(&request, &prefix),
        (End::Sse, &Method::POST) if exchange.is_message(&request) || gateway.plan.profile.no_session.is_some() => {
            exchange.message(request).await
        }
        // Newer clients try a POST first, and take this for the hint it is.
        (End::Sse, _) => not_here("GET"),
        (End::Messages, &Method::POST) => exchange.message(request).await,
        (End::Messages, _) => not_here("POST"),
    })
}

/// The answer to somebody who wants too much.
fn refuse_caller(fault: Fault, identity: &Arc<Identity>) -> Response<Body> {
    let mut response = refuse(Era::Handshake, &fault.into());
    if let Some(why) = response.extensions_mut().get_mut::<Why>() {
        why.who = Some(identity.clone());
    }
    response
}

/// The documents by which clients find out how to get in.
fn discovery(gateway: &Gateway, route: &Route<'_>, reached: Reached) -> Result<Response<Body>, Fault> {
    let auth = gateway.auth();
    let root = format!("{}{}", reached.base, gateway.plan.path);
    let document = match route {
        Route::Resource("" | "/") => {
            let front = if gateway.plan.profile.transports == Transports::Sse { "/sse" } else { "/mcp" };
            let all = mount(gateway, front, None).map(|mount| mount.at(gateway, reached, &Uri::default()));
            let at = At { base: root, path: String::new(), ..all.unwrap_or_default() };
            auth.resource_document(&at).map(|document| document.document())
        }
        Route::Resource(path) => {
            auth.resource_document(&mount(gateway, path, None)?.at(gateway, reached, &Uri::default())).map(|document| document.document())
        }
        Route::Issuer => authority::document(auth, &root).map(|document| gateway.plan.profile.complete(document.document(), &root)),
        _ => authority::document(auth, &root).map(|document| gateway.plan.profile.complete(document.openid_document(), &root)),
    };
    let document = document.ok_or_else(|| {
        let told = match auth.is_on() {
            true => "API keys are handed out by the operator; there is nobody here to ask for a token",
            false => "nobody has to log in here",
        };
        Fault::client(Kind::NoSuchPath).tell(told)
    })?;
    let mut response = json(StatusCode::OK, document);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}

/// By which names we are called: exactly those of the plan, against DNS rebinding.
///
/// What a trusted proxy says the client asked for has to be one of our names as well, not instead: a page on the
/// machine of a proxy can write every header but `Host`.
fn check_host(plan: &Plan, headers: &HeaderMap, said: Result<Option<Said<'_>>, Fault>) -> Result<(), Fault> {
    let guard = &plan.guard;
    let forbidden = |told: String| Err(Fault::client(Kind::Forbidden).tell(told));
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next().and_then(|h| h.to_str().ok()), hosts.next()) {
        (Some(host), None) => host,
        _ => return forbidden("the Host header is missing, or appears more than once".into()),
    };
    if !guard.allows_host(host) {
        return forbidden(format!("the host {host:?} is not served here; the operator can allow it with --allow-host or --public-url"));
    }
    if let Some(host) = said?.and_then(|said| said.host)
        && !guard.allows_host(host)
    {
        return forbidden(format!(
            "the forwarded host {host:?} is not served here; the operator can allow it with --allow-host or --public-url"
        ));
    }
    Ok(())
}

/// Which pages may call: exactly those of the plan.
fn check_page(guard: &Guard, headers: &HeaderMap) -> Result<(), Fault> {
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("");
        if !guard.allows_origin(origin) {
            let told = format!("pages from {origin:?} may not call; the operator can allow them with --allow-origin");
            return Err(Fault::client(Kind::Forbidden).tell(told));
        }
    }
    Ok(())
}

/// Only origins that were named get CORS headers; pages on loopback may call, but not read.
fn allows_cors(guard: &Guard, origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or("").to_ascii_lowercase();
    guard.origins.iter().any(|o| *o == origin || o == "*")
}

/// Headers a page may send, besides `Mcp-*`.
const ALLOWED: [&str; 10] = [
    "accept",
    "authorization",
    "content-type",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "x-api-key",
    "traceparent",
];

/// The answer to a browser that asks first. `methods`: if it may call at all.
fn preflight(methods: Option<&'static str>, headers: &HeaderMap) -> Response<Body> {
    let mut response = response(StatusCode::NO_CONTENT, Body::empty());
    let Some(methods) = methods else { return response };
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|v| v.to_str().ok()).unwrap_or("");
    let params = asked.split(',').map(|h| h.trim().to_ascii_lowercase()).filter(|h| h.starts_with("mcp-param-"));
    let allowed: Vec<String> = ALLOWED.iter().map(|h| (*h).to_owned()).chain(params).collect();
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    if let Ok(value) = HeaderValue::from_str(&allowed.join(", ")) {
        out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, value);
    }
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    let mut response = json(status, body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_small_for_it_is_copied() {
        let gateway = Gateway::new(crate::config::Config::default().check().unwrap()).unwrap();
        let request = Request::new(http_body_util::Full::new(bytes::Bytes::new()));
        let answering = handle(gateway, Arc::new(Beats::new()), request, Arrival::default());
        // What is larger is copied by another routine of the C library, which is slow to begin.
        assert!(size_of_val(&answering) <= 4096, "{} bytes", size_of_val(&answering));
        assert_eq!(answering.await.status(), StatusCode::FORBIDDEN, "without a host");
    }
}
