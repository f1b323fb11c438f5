//! Sprints of Jira, and what was done for them at GitHub: numbers, reports and charts.
//!
//! ```text
//!   tools ──▶ desk ──▶ jira, github ──▶ upstream (tries, rates, breaker, cache)
//!               └────▶ metrics ──▶ report ──▶ store
//! ```
//!
//! Its clients were written against one server: they read `endpoint` as JSON, and learn their session's id by
//! `notifications/initialized`. Others read the same endpoint as a URL.

mod arguments;
mod charts;
mod desk;
mod github;
mod jira;
mod metrics;
mod model;
mod pages;
mod report;
mod store;
mod tools;
mod upstream;

use std::sync::Arc;

use landbridge::embed::{AuthConfig, Given, Limits, Opening, Profile, Rates, Refusal};

use crate::app::{App, Mode, Ready, ServedBy, Start, Variable};

const fn variable(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable { name, default, about }
}

/// The application.
pub const APP: App = App {
    name: "sprint",
    about: "Sprints of Jira and what was done for them at GitHub: numbers, reports and charts",
    port: 3002,
    mode: Mode::Sse,
    served_by: ServedBy { mode: "MCP_MODE", host: "MCP_SSE_HOST", port: "MCP_SSE_PORT" },
    variables: &[
        variable("MCP_HTTP_PORT", "", "Another port where it listens too; clients of Streamable HTTP may know one of their own"),
        variable("MCP_SERVER_PORT", "", "Another one, for programs that speak plain HTTP"),
        variable("JIRA_HOST", "", "Jira's host, as acme.atlassian.net"),
        variable("JIRA_BASE_URL", "", "Jira's URL, where it is more than a host"),
        variable("JIRA_EMAIL", "", "Who we are at Jira"),
        variable("JIRA_API_TOKEN", "", "The token for that"),
        variable("JIRA_AUTH_TYPE", "basic", "basic, or bearer: a personal access token of Server or Data Center"),
        variable("JIRA_DEPLOYMENT", "", "cloud or server, where the host does not tell"),
        variable("JIRA_BOARD_ID", "", "The board that resources show, and velocity where a sprint names none"),
        variable(
            "JIRA_STORY_POINTS_FIELDS",
            "customfield_10016,customfield_10004,customfield_10002",
            "Where story points are; the first that has some counts",
        ),
        variable("JIRA_SPRINT_FIELD", "customfield_10020", "Where an issue's sprints are"),
        variable("JIRA_REQUESTS_PER_MINUTE", "600", "How often Jira is asked"),
        variable("GITHUB_TOKEN", "", "Who we are at GitHub"),
        variable("GITHUB_OWNER", "", "The owner that is meant where a tool is told none"),
        variable("GITHUB_REPO", "", "The repository that is meant where a tool is told none"),
        variable("GITHUB_API_URL", "https://api.github.com", "GitHub's API; another for GitHub Enterprise"),
        variable("SPRINT_ALLOW_PRIVATE", "false", "Jira and GitHub may be on a private network"),
        variable("SPRINT_DATA", "./data/sprint", "Where reports are kept"),
        variable("SPRINT_RETRY_MS", "1000", "How long to wait before a second try; twice that before the third"),
        variable("SPRINT_TIMEOUT_MS", "30000", "How long Jira and GitHub have for an answer"),
        variable("SPRINT_SESSION_IDLE_MS", "1800000", "After how long a session ends that has no stream and is not used"),
        variable("SPRINT_REQUESTS_PER_MINUTE", "600", "How many requests an address may send; 0: as many as it likes"),
        variable("SPRINT_BREAKER_MS", "60000", "How long who failed five times is left alone"),
        variable("MCP_API_KEY_1", "", "KEY:OWNER of whoever may call, and so on to _999; without any, everybody may"),
        variable("NODE_ENV", "", "production: only ALLOWED_ORIGINS may call from pages, and /sessions is off"),
        variable("ALLOWED_ORIGINS", "", "Origins of pages that may call in production, with commas"),
        variable("ALLOWED_HOSTS", "", "More names that we are called by, with commas"),
        variable("TLS_CERT", "", "A file with our certificate in PEM; browsers open more streams over HTTP/2, which needs one"),
        variable("TLS_KEY", "", "A file with its key in PEM"),
        variable("LOG_LEVEL", "info", "error, warn, info, debug or trace"),
    ],
    start: |start| Box::pin(ready(start)),
};

/// Pages of these call while somebody develops.
const DEVELOPERS: [&str; 4] = ["http://localhost:3000", "http://localhost:3001", "http://localhost:3002", "http://localhost:5173"];

async fn ready(start: Start) -> Result<Ready, String> {
    let settings = &start.settings;
    let production = settings.is_production();
    let desk = Arc::new(desk::Desk::open(settings, start.mode.name())?);
    let (keys, faults) =
        Given::from_environment(settings.beginning_with("MCP_API_KEY_").map(|(name, value)| (name.to_owned(), value.to_owned())));
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault);
    }
    let auth = match keys.is_empty() {
        true => AuthConfig::default(),
        false => AuthConfig { mode: Some("keys".into()), store: Some("memory:".into()), keys, ..AuthConfig::default() },
    };
    let session_idle_ms = settings.parse("SPRINT_SESSION_IDLE_MS", "number of milliseconds")?.unwrap_or(30 * 60_000);
    let per_minute = settings.parse("SPRINT_REQUESTS_PER_MINUTE", "number")?.unwrap_or(600);
    let more_ports =
        ["MCP_HTTP_PORT", "MCP_SERVER_PORT"].map(|name| settings.parse(name, "port")).into_iter().collect::<Result<Vec<_>, _>>()?;
    let shows_sessions = start.is_local() && !production;
    let (behind, mode) = (desk.clone(), start.mode);
    Ok(Ready {
        profile: profile(),
        pages: Some(Box::new(move |inside| pages::pages(inside, behind, mode, shows_sessions))),
        auth,
        limits: Limits {
            message_bytes: 4 * 1024 * 1024,
            session_idle_ms,
            calls_per_session: 32,
            // Reports take a while, but nobody waits for an hour.
            call_timeout_ms: 10 * 60_000,
            ..Limits::default()
        },
        origins: if production { settings.list("ALLOWED_ORIGINS") } else { DEVELOPERS.map(str::to_owned).to_vec() },
        hosts: settings.list("ALLOWED_HOSTS"),
        tls: match (settings.get("TLS_CERT"), settings.get("TLS_KEY")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            _ => return Err("TLS_CERT and TLS_KEY belong together: set both, or neither".into()),
        },
        rates: Rates { address_per_minute: per_minute, address_burst: per_minute, ..Rates::default() },
        more_ports: more_ports.into_iter().flatten().collect(),
        ..Ready::new(landbridge_rmcp::handler(move || tools::Sprints(desk.clone())))
    })
}

/// What its clients know it by.
fn profile() -> Profile {
    let refusal = |status, body| Some(Refusal { status, media: "application/json", body });
    Profile {
        messages: "/message?sessionId={id}".into(),
        dashes: true,
        preamble: vec![Opening::JsonEndpoint, Opening::Initialized],
        // Soon enough for whoever watches, and late enough for a server that starts again.
        retry_ms: Some(3_000),
        no_session: refusal(http::StatusCode::BAD_REQUEST, r#"{"error":"Missing sessionId parameter"}"#),
        dead_session: refusal(
            http::StatusCode::NOT_FOUND,
            r#"{"error":"Session not found","message":"No session has this id; open a new one at /sse"}"#,
        ),
        bad_media: refusal(
            http::StatusCode::BAD_REQUEST,
            r#"{"error":"Bad request","message":"the body must be of type application/json"}"#,
        ),
        credentials: true,
        refuses_calls: true,
        ..Profile::default()
    }
}
