//! Pages for those who look after it.

use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Json, Router};
use landbridge::embed::{Inside, Limits, Pages, Principal, Record};
use serde_json::{Value, json};

use crate::app::Mode;
use crate::guide::tools;

pub(super) fn pages(inside: Inside, mode: Mode, named: &'static str, limits: Limits, shows_sessions: bool) -> Pages {
    let all = inside.clone();
    let health = move || {
        let page = json!({
            "status": "ok",
            "server": {"name": named, "version": tools::VERSION},
            "mode": mode.name(),
            "endpoints": {"streamable_http": "/mcp", "sse": "/sse"},
            "sessions": inside.session_count(),
            "ping_ms": limits.keepalive_ms,
            "session_idle_ms": limits.session_idle_ms,
            "session_sweep_ms": limits.session_sweep_ms,
        });
        async move { Json(page) }
    };
    let sessions = move |who: Option<Extension<Principal>>| {
        // Everybody's own: with the id of another they could not do anything, but it is none of their business.
        let who = who.map(|Extension(who)| who).unwrap_or_default();
        let all = all.records().iter().filter(|record| record.principal == who).map(session).collect::<Vec<_>>();
        async move { Json(json!({"count": all.len(), "sessions": all})) }
    };
    let router = Router::new().route("/health", get(health)).route("/sessions", get(sessions));
    let guarded: &[&str] = if shows_sessions { &["/sessions"] } else { &[] };
    Pages::new(router).open(["/health"]).guarded(guarded.iter().copied())
}

fn session(record: &Record) -> Value {
    json!({
        "id": record.id,
        "userId": String::from_utf8_lossy(record.principal.as_bytes()),
        "transport": tools::called(record.transport),
        "createdAt": ago(record.age),
        "lastActivity": ago(record.idle),
        // None at all are all that there are.
        "permissions": record.scopes,
        "queue": {"calls": record.calls, "events": record.events},
    })
}

/// When that was.
fn ago(time: Duration) -> String {
    let then = jiff::SignedDuration::try_from(time).ok().and_then(|time| jiff::Timestamp::now().checked_sub(time).ok());
    then.map(|then| then.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()).unwrap_or_default()
}
