//! Responses, and what every one of a kind has in common.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::streamable::Refusal;
use landbridge_proto::version::Era;

use crate::audit::Why;
use crate::body::Body;

/// A response with a body.
pub fn response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// A JSON body.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = response(status, Body::full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn accepted() -> Response<Body> {
    response(StatusCode::ACCEPTED, Body::empty())
}

/// An event stream, with what keeps proxies from holding it back.
pub(super) fn stream(body: Body) -> Response<Body> {
    let mut response = response(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A refusal, as the client's era wants it.
pub fn refuse(era: Era, refusal: &Refusal) -> Response<Body> {
    let fault = &refusal.fault;
    if let Some(cause) = &fault.cause {
        tracing::info!(fault = fault.told, cause, "refused");
    } else {
        tracing::debug!(fault = fault.told, "refused");
    }
    let status = StatusCode::from_u16(fault.status(era)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    tell_why(answered(status, fault.message(refusal.id.as_ref())), fault)
}

/// The answer with a fault, with what it says besides: when to come again, and to the audit why.
pub(super) fn tell_why(mut response: Response<Body>, fault: &Fault) -> Response<Body> {
    if let Some(seconds) = fault.retry_s {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        response.extensions_mut().insert(Why { told: fault.told.clone(), who: None });
    }
    response
}

/// A JSON-RPC answer with a status of its own; 503 says when to try again.
pub(super) fn answered(status: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    let mut response = json(status, message);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// The refusal of an HTTP method, with those that are allowed (RFC 9110 §15.5.6).
pub fn refuse_method(allowed: &'static str, told: impl Into<String>) -> Response<Body> {
    let mut response = refuse(Era::Handshake, &Fault::client(Kind::HttpMethod).tell(told).into());
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// The same, in words that fit any path.
pub fn not_here(methods: &'static str) -> Response<Body> {
    refuse_method(methods, format!("only {methods} has a meaning at this path"))
}

/// The methods of `/mcp`.
pub const MCP_METHODS: &str = "POST, GET, DELETE";
