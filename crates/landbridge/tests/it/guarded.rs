//! A server that lets nobody in without a token, and the authorization server that issues them, at one address.
//!
//! The server is a real one, embedded. The authorization server is faithful in what a client can do wrong: who
//! registers gets an id, a code counts once and for whoever has its verifier, a refresh token counts once. Its
//! user says yes at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use landbridge::embed::{Embed, Tools};
use landbridge_proto::oauth::form::{Form, with_params};
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::embed::Served;
use crate::wire::Wire;

/// What it knows, and what it has seen.
#[derive(Default)]
pub struct World {
    port: u16,
    clients: BTreeMap<String, Vec<String>>,
    codes: BTreeMap<String, (Form, bool)>,
    /// Tokens that let somebody in, and the scopes they hold.
    pub access: BTreeMap<String, String>,
    refresh: BTreeMap<String, String>,
    n: usize,
    /// Who logged in, with what was asked for.
    pub logins: Vec<String>,
    pub registrations: usize,
    pub refreshes: usize,
    /// Codes and refresh tokens that were redeemed again, or by somebody else.
    pub abuses: Vec<&'static str>,
    /// Requests to the token endpoint.
    pub redeemed: usize,
    /// How long tokens last, in seconds.
    pub lifetime_s: Option<u64>,
    /// How much longer its refresh tokens are than they need be, in bytes.
    pub long: usize,
    /// What it calls itself in its answers.
    pub iss: Option<String>,
    /// It answers this, in place of a code.
    pub error: Option<&'static str>,
    /// Clients that have no user: the id, and the header they show.
    pub machine: Option<(&'static str, String)>,
    /// The server does not take its tokens.
    pub refuses: bool,
    /// It issues nothing just now.
    pub down: bool,
    /// It has forgotten every client.
    pub forgetful: bool,
    /// What calls of tools said, and the token that each came with.
    pub calls: Vec<(String, String)>,
    /// Every header but `Authorization` that came with them.
    pub headers: Vec<String>,
    /// Tokens that were given back.
    pub revoked: Vec<String>,
}

impl World {
    /// Nobody who has registered is known any more.
    pub fn forget_clients(&mut self) {
        self.clients.clear();
    }

    /// No refresh token counts any more.
    pub fn forget_refresh(&mut self) {
        self.refresh.clear();
    }
}

type Shared = Arc<Mutex<World>>;

/// Both, until this is dropped.
pub struct Guarded {
    pub port: u16,
    pub world: Shared,
    _served: Served,
}

impl Guarded {
    pub fn start() -> Guarded {
        let world = Shared::default();
        let state = world.clone();
        let served = Served::by_axum(move || {
            let tools = Tools::new("guarded", "1")
                .tool("echo", "says it", json!({"type": "object"}), async |args: Value, _| {
                    Ok(args["message"].as_str().unwrap_or_default().to_owned())
                })
                .tool("admin", "needs more", json!({"type": "object"}), async |_: Value, _| Ok("done"));
            let mounted = Embed::new("guarded", tools).mount().unwrap();
            let server = Router::new().fallback_service(mounted).layer(from_fn_with_state(state.clone(), guard));
            Router::new()
                .route("/.well-known/oauth-protected-resource", get(resource))
                .route("/.well-known/oauth-authorization-server", get(metadata))
                .route("/register", post(register))
                .route("/authorize", get(authorize))
                .route("/token", post(token))
                .route("/revoke", post(revoke))
                .with_state(state)
                .fallback_service(server)
        });
        let port = served.gateway.port;
        let mut known = world.lock().unwrap();
        (known.port, known.lifetime_s) = (port, Some(3600));
        drop(known);
        Guarded { port, world, _served: served }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Every token that lets somebody in now does not any more.
    pub fn revoke(&self) {
        self.world.lock().unwrap().access.clear();
    }

    /// What a browser does: goes to the address, and where that leads; what the last page says.
    pub fn follow(&self, url: &str) -> (u16, String) {
        let sent = self.authorize(url);
        fetch(&sent)
    }

    /// Where the authorization server sends the user.
    pub fn authorize(&self, url: &str) -> String {
        let path = url.strip_prefix(&self.url("")).unwrap_or_else(|| panic!("{url} is elsewhere"));
        let response = Wire::connect(self.port).request("GET", path, &[], None);
        assert_eq!(response.status, 302, "{}", response.text());
        response.header("location").unwrap().to_owned()
    }
}

/// The status and the page at an address on this machine.
pub fn fetch(url: &str) -> (u16, String) {
    let rest = url.strip_prefix("http://127.0.0.1:").unwrap_or_else(|| panic!("{url} is elsewhere"));
    let (port, path) = rest.split_once('/').unwrap();
    let response = Wire::connect(port.parse().unwrap()).request("GET", &format!("/{path}"), &[], None);
    (response.status, response.text())
}

/// Lets in whoever has a token, and lets the tool `admin` be called by whoever has the scope of that name.
async fn guard(State(world): State<Shared>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let sent = head.headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let (holds, meta) = {
        let world = world.lock().unwrap();
        let meta = format!("http://127.0.0.1:{}/.well-known/oauth-protected-resource", world.port);
        (sent.and_then(|token| world.access.get(token).cloned()).filter(|_| !world.refuses), meta)
    };
    let Some(holds) = holds else {
        let error = if sent.is_some() { ", error=\"invalid_token\"" } else { "" };
        return answer(401, &[("www-authenticate", &format!("Bearer resource_metadata=\"{meta}\", scope=\"use\"{error}"))], "");
    };
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    if said["params"]["name"] == "admin" && !holds.split(' ').any(|scope| scope == "admin") {
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"admin\", resource_metadata=\"{meta}\"");
        return answer(403, &[("www-authenticate", &challenge)], "");
    }
    if said["method"] == "tools/call" {
        let mut world = world.lock().unwrap();
        let message = said["params"]["arguments"]["message"].as_str().unwrap_or_default().to_owned();
        world.calls.push((message, sent.unwrap_or_default().to_owned()));
        let others = head.headers.iter().filter(|(name, _)| *name != "authorization");
        let others: Vec<String> = others.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default())).collect();
        world.headers.extend(others);
    }
    next.run(Request::from_parts(head, Body::from(body))).await
}

async fn resource(State(world): State<Shared>) -> Response {
    let origin = format!("http://127.0.0.1:{}", world.lock().unwrap().port);
    json_of(200, &json!({"resource": origin, "authorization_servers": [origin], "scopes_supported": ["use", "admin"]}))
}

async fn metadata(State(world): State<Shared>) -> Response {
    let origin = format!("http://127.0.0.1:{}", world.lock().unwrap().port);
    json_of(
        200,
        &json!({
            "issuer": origin, "authorization_endpoint": format!("{origin}/authorize"), "token_endpoint": format!("{origin}/token"),
            "registration_endpoint": format!("{origin}/register"), "revocation_endpoint": format!("{origin}/revoke"), "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic"],
            "authorization_response_iss_parameter_supported": true,
        }),
    )
}

async fn register(State(world): State<Shared>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["application_type"], "native");
    let uris = body["redirect_uris"].as_array().unwrap().iter().map(|uri| uri.as_str().unwrap().to_owned()).collect();
    let mut world = world.lock().unwrap();
    world.registrations += 1;
    let id = format!("client-{}", world.registrations);
    world.clients.insert(id.clone(), uris);
    json_of(201, &json!({"client_id": id, "token_endpoint_auth_method": "none", "redirect_uris": body["redirect_uris"]}))
}

async fn authorize(State(world): State<Shared>, uri: Uri) -> Response {
    let form = Form::read(uri.query().unwrap()).unwrap();
    let mut world = world.lock().unwrap();
    let (client, at) = (form.get("client_id").unwrap(), form.get("redirect_uri").unwrap().to_owned());
    // Exactly, as many do.
    if !world.clients.get(client).is_some_and(|uris| uris.contains(&at)) {
        return answer(400, &[], "unknown client");
    }
    let origin = format!("http://127.0.0.1:{}", world.port);
    assert_eq!((form.get("response_type"), form.get("code_challenge_method")), (Some("code"), Some("S256")));
    assert_eq!(form.get("resource"), Some(origin.as_str()));
    world.logins.push(form.get("scope").unwrap_or_default().to_owned());
    let state = form.get("state").unwrap().to_owned();
    let iss = world.iss.clone().unwrap_or(origin);
    let code = format!("code-{}", world.logins.len());
    let first = match world.error {
        Some(error) => [("error", error), ("error_description", "sesame")],
        None => [("code", code.as_str()), ("x", "")],
    };
    let to = with_params(&at, &[first[0], first[1], ("state", &state), ("iss", &iss)]);
    world.codes.insert(code, (form, false));
    answer(302, &[("location", &to)], "")
}

async fn token(State(world): State<Shared>, headers: HeaderMap, body: String) -> Response {
    let form = Form::read(&body).unwrap();
    let mut world = world.lock().unwrap();
    let refuse = |error: &str| json_of(400, &json!({"error": error}));
    world.redeemed += 1;
    let origin = format!("http://127.0.0.1:{}", world.port);
    assert_eq!(form.get("resource"), Some(origin.as_str()), "{body}");
    if world.down {
        return answer(503, &[], "");
    }
    if world.forgetful {
        return refuse("invalid_client");
    }
    let scope = match form.get("grant_type").unwrap() {
        "authorization_code" => {
            let Some((asked, redeemed)) = world.codes.get_mut(form.get("code").unwrap_or_default()) else { return refuse("invalid_grant") };
            let challenge = Hash::read(asked.get("code_challenge").unwrap()).unwrap();
            let same = |key: &str| asked.get(key) == form.get(key);
            let good = !*redeemed
                && same("client_id")
                && same("redirect_uri")
                && challenge.is_of_verifier(form.get("code_verifier").unwrap_or_default());
            *redeemed = true;
            let scope = asked.get("scope").unwrap_or_default().to_owned();
            if !good {
                world.abuses.push("a code");
                return refuse("invalid_grant");
            }
            scope
        }
        "refresh_token" => {
            world.refreshes += 1;
            match world.refresh.remove(form.get("refresh_token").unwrap_or_default()) {
                Some(scope) => scope,
                None => {
                    world.abuses.push("a refresh token");
                    return refuse("invalid_grant");
                }
            }
        }
        "client_credentials" => {
            let shown = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            if world.machine.as_ref().map(|(_, header)| header) != shown.as_ref() {
                return refuse("invalid_client");
            }
            form.get("scope").unwrap_or_default().to_owned()
        }
        other => panic!("{other}"),
    };
    world.n += 1;
    let (access, refresh) = (format!("access-{}", world.n), format!("refresh-{}{}", world.n, "x".repeat(world.long)));
    world.access.insert(access.clone(), scope.clone());
    let mut granted = json!({"access_token": access, "token_type": "Bearer", "scope": scope});
    if form.get("grant_type") != Some("client_credentials") {
        world.refresh.insert(refresh.clone(), scope);
        granted["refresh_token"] = refresh.into();
    }
    if let Some(lifetime_s) = world.lifetime_s {
        granted["expires_in"] = lifetime_s.into();
    }
    json_of(200, &granted)
}

async fn revoke(State(world): State<Shared>, body: String) -> Response {
    let form = Form::read(&body).unwrap();
    let (mut world, token) = (world.lock().unwrap(), form.get("token").unwrap().to_owned());
    world.refresh.remove(&token);
    world.revoked.push(token);
    answer(200, &[], "")
}

fn json_of(status: u16, body: &Value) -> Response {
    answer(status, &[("content-type", "application/json")], &body.to_string())
}

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}
