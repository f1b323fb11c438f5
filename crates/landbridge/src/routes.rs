//! Every URL, on one page, and who may call it.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};

use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::headers::Guard;
use landbridge_proto::version::Era;

use crate::arrival::Arrival;
use crate::backend::Backend;
use crate::body::{Beats, Body};
use crate::gateway::Gateway;
use crate::mcp::{Arriving, Exchange, MCP_METHODS, json, refuse, refuse_method, response, session_param};
use crate::plan::Plan;

/// What a path means.
enum Route<'p> {
    /// `/mcp`, `/servers/{name}/mcp`
    Mcp(&'p str, Arc<Backend>),
    /// `/sse`, `/servers/{name}/sse`
    Sse(&'p str, Arc<Backend>),
    /// `/messages`, `/servers/{name}/messages`
    Messages(Arc<Backend>),
    /// `/healthz`: this process runs.
    Health,
    /// `/readyz`: its servers can be reached.
    Ready,
    /// `/metrics`: what it does.
    Metrics,
    /// `/`
    Root,
}

fn route<'p>(gateway: &Gateway, uri: &'p Uri, headers: &HeaderMap) -> Result<Route<'p>, Fault> {
    let path = uri.path();
    // A router may have taken away the path that it has put us under, or not.
    let path = path.strip_prefix(&*gateway.plan.path).filter(|rest| rest.is_empty() || rest.starts_with('/')).unwrap_or(path);
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let nowhere = || {
        let mcp = if gateway.front().is_some() { "/mcp, /sse and " } else { "" };
        Fault::client(Kind::NoSuchPath).tell(format!("nothing is served at this path; MCP is at {mcp}/servers/NAME/mcp"))
    };
    match path {
        "/healthz" => return Ok(Route::Health),
        "/readyz" => return Ok(Route::Ready),
        "/metrics" => return Ok(Route::Metrics),
        "/" | "" => return Ok(Route::Root),
        _ => {}
    }
    let (prefix, backend, endpoint) = match path.strip_prefix("/servers/") {
        Some(rest) => {
            let (name, endpoint) = rest.split_once('/').ok_or_else(nowhere)?;
            let backend = gateway.backend(name).ok_or_else(|| {
                let running = gateway.running();
                let names: Vec<&str> = running.names().collect();
                Fault::client(Kind::NoSuchPath).tell(format!("no server is called `{name}`; there is {}", names.join(", ")))
            })?;
            (&path[..path.len() - endpoint.len() - 1], backend, endpoint)
        }
        None => {
            let endpoint = path.trim_start_matches('/');
            if !matches!(endpoint, "mcp" | "sse" | "messages" | "message") {
                return Err(nowhere());
            }
            // A session that was opened here stays, whoever else is served by now.
            let backend = backend_of_session(gateway, uri, headers).or_else(|| gateway.front()).ok_or_else(nowhere)?;
            ("", backend, endpoint)
        }
    };
    match endpoint {
        "mcp" => Ok(Route::Mcp(prefix, backend)),
        "sse" => Ok(Route::Sse(prefix, backend)),
        "messages" | "message" => Ok(Route::Messages(backend)),
        _ => Err(nowhere()),
    }
}

/// The server of the session that a request names.
fn backend_of_session(gateway: &Gateway, uri: &Uri, headers: &HeaderMap) -> Option<Arc<Backend>> {
    let id = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).or_else(|| session_param(uri.query()))?;
    gateway.sessions.find(id).map(|live| live.backend.clone())
}

/// Answers one request, which came over that connection.
pub async fn handle<B: Arriving>(gateway: Arc<Gateway>, beats: Arc<Beats>, mut request: Request<B>, arrival: Arrival) -> Response<Body> {
    name_host(&mut request);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let (cors, varies, caller) = {
        let plan = &gateway.running().plan;
        (origin.filter(|o| plan.cors && allows_cors(&plan.guard, o)), plan.cors, check_caller(plan, request.headers(), arrival))
    };
    let mut response = dispatch(gateway, beats, request, arrival, caller).await;
    if varies {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Origin"));
    }
    // On refusals too: a page that may call may also read why it failed.
    if let Some(origin) = cors {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate, Retry-After"));
    }
    response
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

async fn dispatch<B: Arriving>(
    gateway: Arc<Gateway>,
    beats: Arc<Beats>,
    request: Request<B>,
    arrival: Arrival,
    caller: Result<(), Fault>,
) -> Response<Body> {
    let refused = |fault: Fault| refuse(Era::Handshake, &fault.into());
    let route = match route(&gateway, request.uri(), request.headers()) {
        Ok(route) => route,
        Err(fault) => return refused(caller.err().unwrap_or(fault)),
    };
    // Probes of an orchestrator come by address. They learn whether, and only who may call learns
    // why not: the reason may quote what a server said.
    match &route {
        Route::Health => return text(StatusCode::OK, "ok\n"),
        Route::Ready => {
            return match gateway.readiness().await {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(why) if caller.is_ok() => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
                Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            };
        }
        _ => {}
    }
    if let Err(fault) = caller {
        return refused(fault);
    }
    if request.method() == Method::OPTIONS {
        return preflight(gateway.running().plan.cors, request.headers());
    }
    if *gateway.draining.borrow() {
        return refused(Fault::gateway(Kind::Busy).tell("the gateway is being stopped; try again later"));
    }
    let exchange = |backend: Arc<Backend>| Exchange { gateway: gateway.clone(), backend, beats: beats.clone() };
    let messages = |prefix: &str| format!("{}{prefix}/messages", gateway.plan.path);
    let not_here = |methods: &'static str| refuse_method(methods, format!("only {methods} has a meaning at this path"));
    match (route, request.method()) {
        (Route::Mcp(_, backend), &Method::POST) => exchange(backend).post(request).await,
        (Route::Mcp(prefix, backend), &Method::GET) => exchange(backend).get(request.headers(), &messages(prefix)),
        (Route::Mcp(_, backend), &Method::DELETE) => exchange(backend).delete(request.headers()),
        (Route::Mcp(..), _) => not_here(MCP_METHODS),
        (Route::Sse(prefix, backend), &Method::GET) => exchange(backend).open_sse(&messages(prefix)),
        // Newer clients try a POST first, and take this for the hint it is.
        (Route::Sse(..), _) => not_here("GET"),
        (Route::Messages(backend), &Method::POST) => exchange(backend).message(request).await,
        (Route::Messages(_), _) => not_here("POST"),
        (Route::Root, &Method::GET) => match arrival.reached(&gateway.running().plan, request.headers()) {
            Ok(reached) => text(StatusCode::OK, crate::welcome::root(&gateway, &reached)),
            Err(fault) => refused(fault),
        },
        (Route::Metrics, &Method::GET) => {
            let mut response = text(StatusCode::OK, gateway.metrics());
            let media = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, media);
            response
        }
        (Route::Root | Route::Metrics, _) => not_here("GET"),
        (Route::Health | Route::Ready, _) => text(StatusCode::OK, ""),
    }
}

/// Who may call: exact host names against DNS rebinding, exact origins against foreign pages.
///
/// What a trusted proxy says the client asked for has to be one of our names as well, not instead: a page on the
/// machine of a proxy can write every header but `Host`.
fn check_caller(plan: &Plan, headers: &HeaderMap, arrival: Arrival) -> Result<(), Fault> {
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
    if let Some(host) = arrival.said(plan, headers)?.and_then(|said| said.host)
        && !guard.allows_host(host)
    {
        return forbidden(format!(
            "the forwarded host {host:?} is not served here; the operator can allow it with --allow-host or --public-url"
        ));
    }
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("");
        if !guard.allows_origin(origin) {
            return forbidden(format!("pages from {origin:?} may not call; the operator can allow them with --allow-origin"));
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

fn preflight(cors: bool, headers: &HeaderMap) -> Response<Body> {
    let mut response = response(StatusCode::NO_CONTENT, Body::empty());
    if !cors {
        return response;
    }
    let asked = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).and_then(|v| v.to_str().ok()).unwrap_or("");
    let params = asked.split(',').map(|h| h.trim().to_ascii_lowercase()).filter(|h| h.starts_with("mcp-param-"));
    let allowed: Vec<String> = ALLOWED.iter().map(|h| (*h).to_owned()).chain(params).collect();
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
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
