//! Pages beside the protocol: health, sessions, the tools for those who speak no MCP, and the reports that were made.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::{StatusCode, header};
use landbridge::embed::{Inside, Pages};
use serde_json::{Map, Value, json};

use super::desk::{self, Desk, Failure};
use super::report::Format;
use super::tools;
use crate::app::Mode;

pub(super) fn pages(inside: Inside, desk: Arc<Desk>, mode: Mode, shows_sessions: bool) -> Pages {
    let count = tools::tools(&desk).len();
    let health = inside.clone();
    let mut router = Router::new()
        .route(
            "/health",
            get(move || async move {
                let sessions = health.session_count();
                json_page(
                    StatusCode::OK,
                    &json!({"status": "healthy", "mode": mode.name(), "timestamp": desk::now(), "tools": count, "activeSessions": sessions}),
                )
            }),
        )
        .route("/api/tools", get({
            let desk = desk.clone();
            || async move { json_page(StatusCode::OK, &json!({"tools": tools::tools(&desk)})) }
        }))
        .route("/api/tools/{name}", post({
            let desk = desk.clone();
            |Path(name): Path<String>, body: bytes::Bytes| async move { call(&desk, &name, &body).await }
        }))
        .route("/api/reports", get({
            let desk = desk.clone();
            || async move { json_page(StatusCode::OK, &json!({"reports": desk.store.list()})) }
        }))
        .route("/api/reports/{id}", get({
            let desk = desk.clone();
            |Path(id): Path<String>| async move { report(&desk, &id) }
        }).delete(|Path(id): Path<String>| async move {
            if desk.store.delete(&id) { StatusCode::NO_CONTENT.into_response() } else { no_report() }
        }));
    if shows_sessions {
        let sessions = move || async move {
            let sessions = inside.sessions();
            json_page(StatusCode::OK, &json!({"count": sessions.len(), "sessions": sessions}))
        };
        router = router.route("/sessions", get(sessions));
    }
    // Where there are keys, the ids of sessions are for those who have one.
    let guarded = ["/api/*", "/sessions"].into_iter().take(if shows_sessions { 2 } else { 1 });
    Pages::new(router).open(["/health"]).guarded(guarded)
}

/// A tool for those who speak plain HTTP.
async fn call(desk: &Desk, name: &str, body: &[u8]) -> Response {
    let body = if body.is_empty() { b"{}" } else { body };
    let Ok(arguments) = serde_json::from_slice::<Map<String, Value>>(body) else {
        return failed(StatusCode::BAD_REQUEST, "Bad request", "the body must be an object of arguments in JSON");
    };
    match desk.call(name, &arguments, &|_, _, _| ()).await {
        Ok(Value::String(text)) => text.into_response(),
        Ok(value) => json_page(StatusCode::OK, &value),
        Err(why @ Failure::NoTool) => failed(StatusCode::NOT_FOUND, "Not found", why.told()),
        Err(Failure::Arguments(why)) => failed(StatusCode::BAD_REQUEST, "Bad request", &why),
        Err(Failure::Elsewhere(why)) => failed(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error", &why),
    }
}

fn report(desk: &Desk, id: &str) -> Response {
    let Some((text, format)) = desk.store.read(id) else { return no_report() };
    let media = Format::ALL.iter().find(|(name, _)| *name == format).map_or("text/plain", |(_, format)| format.media());
    let headers = [
        (header::CONTENT_TYPE, format!("{media}; charset=utf-8")),
        // Titles are written by many; nothing of a report may run.
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; sandbox".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    (headers, text).into_response()
}

fn no_report() -> Response {
    failed(StatusCode::NOT_FOUND, "Not found", "there is no such report; /api/reports lists those that there are")
}

fn failed(status: StatusCode, error: &str, message: &str) -> Response {
    json_page(status, &json!({"error": error, "message": message}))
}

fn json_page(status: StatusCode, value: &Value) -> Response {
    (status, axum::Json(value)).into_response()
}
