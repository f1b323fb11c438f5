//! The routes beside the protocol: REST for whoever has a token of the tool `skillport_auth`, downloads by one-time
//! tokens, the scripts that use those, and what tells a stranger that we are reached.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use landbridge::embed::{Inside, Pages};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::access::User;
use super::diagnostics;
use super::market::{Publish, Save};
use super::semver::Step;
use super::shop::{Installed, Shop, whoami};
use super::tar;
use super::tickets::For;
use super::wrong::Wrong;
use crate::app::Mode;

/// The most bytes of a request.
const MAX_BODY: usize = 24 * 1024 * 1024;

const INSTALL: &str = include_str!("install.sh");
const EDIT: &str = include_str!("edit.sh");

/// What the pages are of.
#[derive(Clone)]
pub(super) struct Rest {
    pub(super) shop: Arc<Shop>,
    pub(super) mode: Mode,
    /// Callers are asked who they are.
    pub(super) has_login: bool,
    pub(super) inside: Option<Inside>,
}

/// All of them. Those of REST ask for a token themselves.
pub(super) fn pages(rest: Rest) -> Pages {
    let router = Router::new()
        .route("/", get(root))
        .route("/diagnostics", get(diagnose))
        .route("/install.sh", get(|State(rest): State<Rest>| async move { script(&rest, INSTALL) }))
        .route("/edit.sh", get(|State(rest): State<Rest>| async move { script(&rest, EDIT) }))
        .route("/api/skills", get(skills))
        .route("/api/skills/{name}", get(details).post(save).delete(delete))
        .route("/api/skills/{name}/install", get(install))
        .route("/api/skills/{name}/edit", get(edit))
        .route("/api/skills/{name}/bump", post(bump))
        .route("/api/skills/{name}/publish", post(publish))
        .route("/api/check-updates", post(updates))
        .route("/api/whoami", get(|Who(user): Who| async move { good(whoami(&user)) }))
        .route("/api/debug/plugins", get(|State(rest): State<Rest>, Who(user): Who| async move { rest.shop.paths(&user).await.map(good) }))
        .route("/api/install/{token}", get(|rest, path, method, headers| download(For::Install, rest, path, method, headers)))
        .route("/api/edit/{token}", get(|rest, path, method, headers| download(For::Edit, rest, path, method, headers)))
        .fallback(|| async { Wrong::unknown("there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Wrong { status: http::StatusCode::METHOD_NOT_ALLOWED, ..Wrong::bad("this path does not take that method") }
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(rest);
    Pages::new(router).open(["/", "/diagnostics", "/install.sh", "/edit.sh", "/api/*"])
}

/// Who has shown a token.
struct Who(User);

impl FromRequestParts<Rest> for Who {
    type Rejection = Wrong;

    async fn from_request_parts(parts: &mut Parts, rest: &Rest) -> Result<Who, Wrong> {
        let missing =
            || Wrong::unauthorized("a token is needed: call the tool skillport_auth, and send what it gives as Authorization: Bearer");
        let mut shown = parts.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(one), None) = (shown.next(), shown.next()) else { return Err(missing()) };
        let (scheme, token) = one.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(missing());
        }
        rest.shop.tickets.user(token.trim()).await.map(Who)
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status, &self.json());
        if self.status == http::StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == http::StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

fn good(body: Value) -> Response {
    json_response(http::StatusCode::OK, &body)
}

fn json_response(status: http::StatusCode, body: &Value) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, body.to_string()).into_response()
}

fn script(rest: &Rest, text: &str) -> Result<Response, Wrong> {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")];
    Ok((headers, text.replace("@BASE@", rest.shop.base()?)).into_response())
}

async fn root(State(rest): State<Rest>) -> Response {
    let endpoint = if rest.mode == Mode::Http { "/mcp" } else { "/sse" };
    good(json!({
        "name": "skillport",
        "version": super::VERSION,
        "mcp": {"endpoint": endpoint, "version": "2025-06-18"},
    }))
}

async fn diagnose(State(rest): State<Rest>, headers: HeaderMap) -> Response {
    good(diagnostics::page(rest.inside.as_ref(), rest.has_login, &headers))
}

fn body<T: DeserializeOwned>(bytes: Result<Bytes, BytesRejection>) -> Result<T, Wrong> {
    let bytes = bytes.map_err(|e| Wrong { status: e.status(), ..Wrong::bad(e.body_text()) })?;
    serde_json::from_slice(&bytes).map_err(|e| Wrong::bad(format!("the body is not as it should be: {e}")))
}

type Asked = Result<Query<BTreeMap<String, String>>, QueryRejection>;

fn query(asked: Asked) -> Result<BTreeMap<String, String>, Wrong> {
    asked.map(|Query(all)| all).map_err(|e| Wrong::bad(e.body_text()))
}

fn flag(all: &BTreeMap<String, String>, name: &str) -> Result<bool, Wrong> {
    match all.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Wrong::bad(format!("{name} can be true or false"))),
    }
}

async fn skills(State(rest): State<Rest>, Who(user): Who, asked: Asked) -> Result<Response, Wrong> {
    let all = query(asked)?;
    let surface = all.get("surface").filter(|surface| !surface.is_empty());
    rest.shop.skills(&user, surface.map(String::as_str), flag(&all, "refresh")?).await.map(good)
}

async fn details(State(rest): State<Rest>, Who(user): Who, Path(name): Path<String>) -> Result<Response, Wrong> {
    rest.shop.details(&user, &name).await.map(good)
}

async fn install(State(rest): State<Rest>, Who(user): Who, Path(name): Path<String>) -> Result<Response, Wrong> {
    rest.shop.ticket(&user, &name, For::Install).await.map(good)
}

async fn edit(State(rest): State<Rest>, Who(user): Who, Path(name): Path<String>) -> Result<Response, Wrong> {
    rest.shop.ticket(&user, &name, For::Edit).await.map(good)
}

async fn save(
    State(rest): State<Rest>,
    Who(user): Who,
    Path(name): Path<String>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let save: Save = body(bytes)?;
    rest.shop.save(&user, &name, &save).await.map(good)
}

async fn delete(State(rest): State<Rest>, Who(user): Who, Path(name): Path<String>, asked: Asked) -> Result<Response, Wrong> {
    let confirm = flag(&query(asked)?, "confirm")?;
    rest.shop.delete(&user, &name, confirm).await.map(good)
}

#[derive(Deserialize)]
struct Bump {
    #[serde(rename = "type")]
    step: Step,
}

async fn bump(
    State(rest): State<Rest>,
    Who(user): Who,
    Path(name): Path<String>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let Bump { step } = body(bytes)?;
    rest.shop.bump(&user, &name, step).await.map(good)
}

async fn publish(
    State(rest): State<Rest>,
    Who(user): Who,
    Path(name): Path<String>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Wrong> {
    let publish: Publish = body(bytes)?;
    rest.shop.publish(&user, &name, &publish).await.map(good)
}

#[derive(Deserialize)]
struct Have {
    installed: Vec<Installed>,
}

async fn updates(State(rest): State<Rest>, Who(user): Who, bytes: Result<Bytes, BytesRejection>) -> Result<Response, Wrong> {
    let Have { installed } = body(bytes)?;
    rest.shop.updates(&user, &installed).await.map(good)
}

async fn download(
    purpose: For,
    State(rest): State<Rest>,
    Path(token): Path<String>,
    method: http::Method,
    headers: HeaderMap,
) -> Result<Response, Wrong> {
    // Whoever only looks does not use it.
    if method == http::Method::HEAD {
        rest.shop.tickets.look(purpose, &token).await?;
        return Ok(http::StatusCode::OK.into_response());
    }
    let download = rest.shop.download(purpose, &token).await?;
    let wants_tar = headers.get(header::ACCEPT).is_some_and(|accept| accept == "application/x-tar");
    if !wants_tar {
        return Ok(good(download.json()));
    }
    let headers = [(header::CONTENT_TYPE, "application/x-tar"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, tar::tar(&download.name, &download.files)).into_response())
}
