//! Pages beside the protocol: how it goes, how it is found, and the operations over REST.
//!
//! ```text
//!   GET    /health, /.well-known/mcp.json                   for everybody
//!   GET    /api/contacts?query=&relationship_type=&state=   POST /api/contacts
//!   GET    /api/contacts/7                                  PATCH, DELETE ?confirm=true
//!   POST   /api/contacts/7/contacted                        PUT /api/contacts/7/state
//!   GET    /api/contacts/export?format=csv                  POST /api/contacts/import?format=csv
//!   GET    /api/contacts/duplicates                         POST /api/contacts/7/merge
//!   GET    /api/logs                                        POST /api/logs
//!   POST   /api/operations/NAME                             any of them, with its arguments as JSON
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode};
use landbridge::embed::{Inside, Pages};
use serde_json::{Map, Value, json};

use super::arguments::Trouble;
use super::catalog::{self, ALL};
use super::exchange;
use super::operations::Contacts;
use super::tools::Shown;

/// What is told of the server.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub(super) public_url: Option<String>,
    pub(super) origins: Vec<String>,
    pub(super) has_login: bool,
    pub(super) has_token: bool,
    pub(super) scheme: &'static str,
    pub(super) shown: Shown,
}

#[derive(Clone)]
struct Desk {
    contacts: Arc<Contacts>,
    about: Arc<About>,
    inside: Inside,
}

type Query_ = Query<HashMap<String, String>>;
type Answer = Result<Response, Response>;

pub(super) fn pages(contacts: Arc<Contacts>, about: About, inside: Inside) -> Pages {
    let router = Router::new()
        .route("/health", get(health))
        .route("/.well-known/mcp.json", get(discovery))
        .route("/api/contacts", get(search).post(add))
        .route("/api/contacts/export", get(export))
        .route("/api/contacts/import", post(import))
        .route("/api/contacts/duplicates", get(duplicates))
        .route("/api/contacts/{id}", get(tell).patch(update).delete(delete))
        .route("/api/contacts/{id}/contacted", post(contacted))
        .route("/api/contacts/{id}/state", put(state))
        .route("/api/contacts/{id}/merge", post(merge))
        .route("/api/logs", get(logs).post(log))
        .route("/api/operations", get(list))
        .route("/api/operations/{name}", post(any))
        .fallback(|method: Method| async move { told(StatusCode::NOT_FOUND, &format!("there is nothing to {method} here")) })
        .layer(DefaultBodyLimit::max(exchange::MOST_BYTES + 64 * 1024))
        .with_state(Desk { contacts, about: Arc::new(about), inside });
    Pages::new(router).open(["/health", "/.well-known/mcp.json"]).guarded(["/api/*"])
}

// --- about the server ----------------------------------------------------------------------------

async fn health(State(desk): State<Desk>) -> Response {
    // Whether the file answers, and nothing of what is in it.
    let is_well = match desk.contacts.store.read().await {
        Ok(mut connection) => sqlx::query("SELECT 1 FROM people LIMIT 1").fetch_optional(&mut *connection).await.is_ok(),
        Err(_) => false,
    };
    let (status, word) = if is_well { (StatusCode::OK, "healthy") } else { (StatusCode::SERVICE_UNAVAILABLE, "unhealthy") };
    let body = json!({
        "status": word,
        "name": "contacts",
        "version": env!("CARGO_PKG_VERSION"),
        "features": {"rest": true, "mcp_over_http": true, "oauth": desk.about.has_login},
        "mcp_endpoints": {"json_rpc": "/mcp", "sse": "/mcp/oauth"},
        "rest_endpoint": "/api/contacts",
        "sessions": desk.inside.session_count(),
    });
    (status, axum::Json(body)).into_response()
}

async fn discovery(State(desk): State<Desk>, headers: HeaderMap) -> Response {
    let about = &desk.about;
    // A name that is not ours has not got this far.
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let root = about.public_url.clone().unwrap_or_else(|| format!("{}://{host}", about.scheme));
    let mut ways = Vec::new();
    if about.has_login {
        ways.push(json!({
            "type": "oauth2",
            "authorization_server": format!("{root}/.well-known/oauth-authorization-server"),
            "protected_resource": format!("{root}/.well-known/oauth-protected-resource/mcp/oauth"),
            "scopes": ["mcp"],
        }));
    }
    if about.has_token {
        ways.push(json!({"type": "bearer"}));
    }
    let domains: Vec<&str> = about.origins.iter().map(|origin| origin.split("://").nth(1).unwrap_or(origin)).collect();
    let tools: Vec<&str> = about.shown.all().map(|operation| operation.name).collect();
    let body = json!({
        "name": "contacts",
        "version": env!("CARGO_PKG_VERSION"),
        "description": super::APP.about,
        "protocol_versions": ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"],
        "transports": [
            {"type": "json-rpc", "url": format!("{root}/mcp"), "methods": ["POST"]},
            {"type": "streamable-http", "url": format!("{root}/mcp"), "methods": ["POST", "GET", "DELETE"]},
            {"type": "sse", "url": format!("{root}/mcp/oauth"), "methods": ["GET", "POST"]},
        ],
        "mcp_endpoints": {"json_rpc": "/mcp", "sse": "/mcp/oauth"},
        "authentication": {"required": !ways.is_empty(), "methods": ways},
        "allowed_domains": domains,
        "capabilities": {"tools": {"count": tools.len(), "names": tools}},
    });
    let headers = [(header::CACHE_CONTROL, "public, max-age=300"), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (headers, axum::Json(body)).into_response()
}

// --- operations ----------------------------------------------------------------------------------

impl Desk {
    async fn run(&self, name: &str, arguments: Map<String, Value>) -> Result<Value, Response> {
        let operation = catalog::find(name).ok_or_else(|| {
            let all: Vec<&str> = ALL.iter().map(|operation| operation.name).collect();
            told(StatusCode::NOT_FOUND, &format!("there is no operation {name:?}; there is {}", all.join(", ")))
        })?;
        self.contacts.run(operation, arguments).await.map_err(|trouble| {
            let status = match trouble {
                Trouble::Bad(_) => StatusCode::BAD_REQUEST,
                Trouble::Missing(_) => StatusCode::NOT_FOUND,
                Trouble::Conflict(_) => StatusCode::CONFLICT,
                Trouble::Unconfigured(_) => StatusCode::NOT_IMPLEMENTED,
                Trouble::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            };
            told(status, &trouble.to_string())
        })
    }

    async fn json(&self, name: &str, arguments: Map<String, Value>) -> Answer {
        Ok(axum::Json(self.run(name, arguments).await?).into_response())
    }
}

fn told(status: StatusCode, why: &str) -> Response {
    (status, axum::Json(json!({"error": why}))).into_response()
}

/// A body of JSON; nothing is an object without fields.
fn object(body: &Bytes) -> Result<Map<String, Value>, Response> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|e| told(StatusCode::BAD_REQUEST, &format!("the body is no object of JSON: {e}")))
}

fn of_query(query: HashMap<String, String>) -> Map<String, Value> {
    query.into_iter().map(|(name, value)| (name, value.into())).collect()
}

fn about(id: String, mut arguments: Map<String, Value>) -> Map<String, Value> {
    arguments.insert("contact_id".into(), id.into());
    arguments
}

async fn list() -> Response {
    let all: Vec<Value> = ALL
        .iter()
        .map(|operation| json!({"name": operation.name, "description": operation.about, "arguments": operation.schema()}))
        .collect();
    axum::Json(json!({"operations": all})).into_response()
}

async fn any(State(desk): State<Desk>, Path(name): Path<String>, body: Bytes) -> Answer {
    desk.json(&name, object(&body)?).await
}

async fn search(State(desk): State<Desk>, Query(query): Query_) -> Answer {
    let mut arguments = of_query(query);
    arguments.entry("query").or_insert_with(|| "*".into());
    desk.json("search_contacts", arguments).await
}

async fn add(State(desk): State<Desk>, body: Bytes) -> Answer {
    let made = desk.run("add_contact", object(&body)?).await?;
    let place = format!("/api/contacts/{}", made["id"]);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], axum::Json(made)).into_response())
}

async fn tell(State(desk): State<Desk>, Path(id): Path<String>, Query(query): Query_) -> Answer {
    desk.json("get_contact", about(id, of_query(query))).await
}

async fn update(State(desk): State<Desk>, Path(id): Path<String>, body: Bytes) -> Answer {
    desk.json("update_contact_info", about(id, object(&body)?)).await
}

async fn delete(State(desk): State<Desk>, Path(id): Path<String>, Query(query): Query_) -> Answer {
    desk.json("delete_contact", about(id, of_query(query))).await
}

async fn contacted(State(desk): State<Desk>, Path(id): Path<String>, body: Bytes) -> Answer {
    desk.json("mark_contacted", about(id, object(&body)?)).await
}

async fn state(State(desk): State<Desk>, Path(id): Path<String>, body: Bytes) -> Answer {
    desk.json("set_contact_state", about(id, object(&body)?)).await
}

async fn merge(State(desk): State<Desk>, Path(id): Path<String>, body: Bytes) -> Answer {
    desk.json("merge_contacts", about(id, object(&body)?)).await
}

async fn duplicates(State(desk): State<Desk>) -> Answer {
    desk.json("find_duplicates", Map::new()).await
}

async fn logs(State(desk): State<Desk>, Query(query): Query_) -> Answer {
    let name = if query.contains_key("query") { "search_logs" } else { "list_logs" };
    desk.json(name, of_query(query)).await
}

async fn log(State(desk): State<Desk>, body: Bytes) -> Answer {
    let made = desk.run("add_log", object(&body)?).await?;
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// The file itself.
async fn export(State(desk): State<Desk>, Query(query): Query_) -> Answer {
    let told = desk.run("export_contacts", of_query(query)).await?;
    let (media, file) = match told["format"].as_str() {
        Some("csv") => ("text/csv; charset=utf-8", "attachment; filename=\"contacts.csv\""),
        _ => ("text/vcard; charset=utf-8", "attachment; filename=\"contacts.vcf\""),
    };
    let content = told["content"].as_str().unwrap_or_default().to_owned();
    Ok(([(header::CONTENT_TYPE, media), (header::CONTENT_DISPOSITION, file)], content).into_response())
}

/// The body is the file.
async fn import(State(desk): State<Desk>, Query(query): Query_, headers: HeaderMap, body: Bytes) -> Answer {
    let mut arguments = of_query(query);
    let media = headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
    let format = if media.starts_with("text/csv") { Some("csv") } else { media.starts_with("text/vcard").then_some("vcard") };
    if let Some(format) = format {
        arguments.entry("format").or_insert_with(|| format.into());
    }
    let text = String::from_utf8(body.to_vec()).map_err(|_| told(StatusCode::BAD_REQUEST, "the file is no UTF-8"))?;
    arguments.insert("content".into(), text.into());
    desk.json("import_contacts", arguments).await
}
