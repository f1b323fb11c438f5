//! Requests to authorization servers: small, short, and to where they were sent.
//!
//! Whatever a stranger has named is fetched here and nowhere else. [`Http`] follows redirects within an origin
//! only.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use http_body_util::{BodyExt as _, Limited};

use landbridge_proto::oauth::document::MAX_DOCUMENT;
use landbridge_proto::oauth::secret::Secret;
use landbridge_proto::version::Revision;

use crate::backend::http::{AGENT, Http};

/// For an answer to be there, whole.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kinds of bodies.
pub(super) const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The JSON object at a URL; `None`: there is none. The error says why nobody knows.
pub(super) async fn document(http: &Http, url: &str) -> Result<Option<String>, String> {
    // Servers of 2025-03-26 may tell by it what to answer ("MCP-Protocol-Version" in its §2.3).
    let revision = HeaderValue::from_static(Revision::LAST_HANDSHAKE.as_str());
    let headers = [(ACCEPT, JSON), (HeaderName::from_static("mcp-protocol-version"), revision)];
    let (status, text) = request(http, Method::GET, url, &headers, Bytes::new()).await?;
    match status {
        500.. | 429 => Err(format!("it answers with HTTP {status}")),
        // Pages for people are at any address of some servers.
        200..=299 if text.trim_start().starts_with('{') => Ok(Some(text)),
        _ => Ok(None),
    }
}

/// POSTs a body; the status and the body of the answer.
pub(super) async fn post(
    http: &Http,
    url: &str,
    kind: HeaderValue,
    authorization: Option<&Secret>,
    body: &str,
) -> Result<(u16, String), String> {
    let mut headers = vec![(ACCEPT, JSON), (CONTENT_TYPE, kind)];
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::from_str(authorization.reveal()).map_err(|_| "the client's secret fits no header")?;
        value.set_sensitive(true);
        headers.push((AUTHORIZATION, value));
    }
    request(http, Method::POST, url, &headers, Bytes::copy_from_slice(body.as_bytes())).await
}

async fn request(
    http: &Http,
    method: Method,
    url: &str,
    headers: &[(HeaderName, HeaderValue)],
    body: Bytes,
) -> Result<(u16, String), String> {
    let url: Uri = url.parse().map_err(|e| format!("it is no URL ({e})"))?;
    let head = |all: &mut http::HeaderMap| {
        all.insert(USER_AGENT, AGENT);
        for (name, value) in headers {
            all.insert(name, value.clone());
        }
    };
    let work = async {
        let response = http.send(method, &url, head, body).await.map_err(|trouble| trouble.why)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        let body = body.map_err(|e| format!("its answer cannot be read, or is longer than {MAX_DOCUMENT} bytes: {e}"))?.to_bytes();
        String::from_utf8(body.into()).map(|text| (status, text)).map_err(|_| "its answer is no UTF-8".into())
    };
    let late = |_| Err(format!("it did not answer within {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(late)
}

/// What an error of OAuth says, shortened.
pub(super) fn error_in(text: &str) -> Option<String> {
    let read: serde_json::Value = serde_json::from_str(text).ok()?; // a page for people says nothing
    let said = read["error_description"].as_str().or(read["error"].as_str())?;
    Some(said.chars().filter(|c| !c.is_control()).take(200).collect())
}
