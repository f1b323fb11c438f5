//! Pages beside the protocol: health, contents by signed URLs, a client for browsers, and WebSocket.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{any, get, put};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use landbridge::embed::Pages;
use serde_json::json;

use super::library::{Shared, gate};
use super::links::Purpose;
use super::model::{Content, Trouble, Who};
use crate::ws::Sockets;

/// For a content to arrive that is PUT to its URL.
const BODY: Duration = Duration::from_secs(60);

/// What may be shown in place: nothing that a browser would run.
const SHOWN: [&str; 4] = ["image/png", "image/jpeg", "image/webp", "image/gif"];

const CLIENT: [(&str, &str, &str); 3] = [
    ("index.html", "text/html; charset=utf-8", include_str!("../../../examples/web-client/index.html")),
    ("client.js", "text/javascript; charset=utf-8", include_str!("../../../examples/web-client/client.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("../../../examples/web-client/style.css")),
];

pub(super) fn pages(library: Shared, sockets: Sockets) -> Pages {
    let router = Router::new()
        .route("/health", get(|| async { "OK" }))
        .route("/ready", get(ready))
        .route("/contents/{id}/download", get(download))
        .route("/contents/{id}/upload", put(upload))
        .route("/ws", any(move |request: Request| async move { sockets.open(request) }))
        .route("/client", get(|| async { Redirect::permanent("/client/") }))
        .route("/client/", get(|| async { client(Path("index.html".into())).await }))
        .route("/client/{file}", get(client))
        .with_state(library);
    Pages::new(router).guarded(["/ws"]).open(["/health", "/ready", "/contents/*", "/client", "/client/*"])
}

async fn ready(State(library): State<Shared>) -> Response {
    match library.db.is_there().await {
        true => "READY".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "NOT READY").into_response(),
    }
}

#[derive(serde::Deserialize)]
struct Signed {
    expires: i64,
    signature: String,
}

fn no(status: StatusCode, why: &str) -> Response {
    (status, [(CACHE_CONTROL, "no-store")], why.to_owned()).into_response()
}

fn told(trouble: &Trouble) -> Response {
    let status = match trouble {
        Trouble::NotFound(_) => StatusCode::NOT_FOUND,
        Trouble::Status(_) => StatusCode::CONFLICT,
        Trouble::Invalid(..) => StatusCode::BAD_REQUEST,
        Trouble::Busy => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_GATEWAY,
    };
    if let Trouble::Internal(why) = trouble {
        tracing::warn!(why, "a page has failed");
    }
    no(status, &trouble.to_string())
}

async fn download(State(library): State<Shared>, Path(id): Path<String>, Query(signed): Query<Signed>) -> Response {
    if !library.links.knows(&id, Purpose::Download, signed.expires, &signed.signature) {
        return no(StatusCode::FORBIDDEN, "the URL is not signed, or no longer good");
    }
    match open(&library, &id).await {
        Ok(response) => response,
        Err(trouble) => told(&trouble),
    }
}

async fn open(library: &Shared, id: &str) -> Result<Response, Trouble> {
    let content = library.db.find(&Who::Anyone, id).await?;
    gate(&content)?;
    let found = library.blobs.open_blob(&content.backend, &content.object_key).await?;
    let size = found.meta.size;
    let mut response = Response::new(Body::from_stream(found.into_stream()));
    describe(response.headers_mut(), &content, size);
    Ok(response)
}

fn describe(headers: &mut HeaderMap, content: &Content, size: u64) {
    let media = HeaderValue::from_str(&content.document_type);
    headers.insert(CONTENT_TYPE, media.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(CONTENT_LENGTH, size.into());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=300"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    let how = if SHOWN.contains(&content.document_type.as_str()) { "inline" } else { "attachment" };
    // Some clients take no longer headers.
    let file_name: String = content.file_name.chars().take(120).collect();
    let plain: String = file_name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_ ".contains(c) { c } else { '_' }).collect();
    let mut exact = String::new();
    for byte in file_name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => exact.push(char::from(byte)),
            _ => exact.push_str(&format!("%{byte:02X}")),
        }
    }
    if let Ok(value) = HeaderValue::from_str(&format!("{how}; filename=\"{plain}\"; filename*=UTF-8''{exact}")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
}

async fn upload(
    State(library): State<Shared>,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if !library.links.knows(&id, Purpose::Upload, signed.expires, &signed.signature) {
        return no(StatusCode::FORBIDDEN, "the URL is not signed, or no longer good");
    }
    // Nothing is read before there is room for it.
    let longest = library.bounds.upload_bytes;
    let says = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok()).unwrap_or(longest);
    if says > longest {
        return no(StatusCode::PAYLOAD_TOO_LARGE, &format!("the content is longer than {longest} bytes"));
    }
    let _room = match library.room.given.take(says).await {
        Ok(room) => room,
        Err(trouble) => return told(&trouble),
    };
    let body = match tokio::time::timeout(BODY, axum::body::to_bytes(body, longest)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return no(StatusCode::PAYLOAD_TOO_LARGE, &format!("the content is longer than {longest} bytes, or broke off")),
        Err(_) => return no(StatusCode::REQUEST_TIMEOUT, "the content did not arrive in time"),
    };
    let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).map(str::to_owned);
    match library.upload_again(&id, body, media).await {
        Ok(content) => axum::Json(json!({"id": content.id, "status": content.status.name()})).into_response(),
        Err(trouble) => told(&trouble),
    }
}

async fn client(Path(name): Path<String>) -> Response {
    let Some((_, media, text)) = CLIENT.iter().find(|(known, ..)| *known == name) else {
        return no(StatusCode::NOT_FOUND, "there is no such page");
    };
    let policy = "default-src 'self'; connect-src 'self' http: https: ws: wss:; img-src 'self' blob: http: https:; frame-ancestors 'none'";
    ([(CONTENT_TYPE, *media), (CONTENT_SECURITY_POLICY, policy)], *text).into_response()
}
