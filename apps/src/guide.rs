//! A server to try clients and transports at: it echoes, it greets, and it fails in every way that a tool can.
//!
//! Its three modes are three servers of one handler, as they are met on the way from one transport to the next: one
//! on standard streams, one on HTTP+SSE, and one on Streamable HTTP that old clients can still use.

mod pages;
mod tools;
mod weather;

use std::sync::Arc;
use std::time::Duration;

use landbridge::embed::{AuthConfig, Frames, Given, Keepalive, Limits, Opening, Profile, Rates, Refusal};

use crate::app::{App, Mode, Ready, ServedBy, Start, Variable};
use crate::settings::Settings;

/// The application.
pub const APP: App = App {
    name: "guide",
    about: "A server to try clients and transports at",
    port: 3000,
    mode: Mode::Sse,
    served_by: ServedBy { mode: "MCP_MODE", host: "HOST", port: "PORT" },
    variables: &[
        variable("CORS_ORIGIN", "", "Pages of these origins may call, and read what they are answered; * for all"),
        variable("PUBLIC_URL", "", "By which URL clients reach it, when a proxy stands in front"),
        variable("TLS_CERT", "", "A certificate to serve with, in PEM"),
        variable("TLS_KEY", "", "Its key"),
        variable("GUIDE_TOKENS", "", "Who may call, as TOKEN:NAME, with commas; TOKEN alone is of `guide`"),
        variable("GUIDE_AUTH", "none", "none, tokens (where there are any), or oauth: accounts of its own"),
        variable("GUIDE_STORE", "sqlite:data/guide/accounts.db", "Where accounts are, for oauth"),
        variable("GUIDE_REQUESTS_PER_MINUTE", "", "How many requests an address may send"),
        variable("NODE_ENV", "", "production: /sessions is off"),
        variable("GUIDE_AUDIT_FILE", "", "Where a line is written for every session, call and refusal"),
        variable("GUIDE_PING_MS", "30000", "How often a stream that is open says `ping`, in milliseconds"),
        variable("GUIDE_SESSION_IDLE_MS", "1800000", "After how long a session ends that nobody uses"),
        variable("GUIDE_SESSION_SWEEP_MS", "300000", "How often sessions are looked through for such"),
        variable("GUIDE_MESSAGES_PATH", "/messages", "Where clients of HTTP+SSE are told to send their messages"),
        variable("GUIDE_OPERATION", "echo", "What robust-tool does: echo, slow:MILLISECONDS, fail:WORDS, refuse:WORDS"),
        variable("GUIDE_OPERATION_TIMEOUT_MS", "30000", "How long that may take"),
        variable("GUIDE_DEMO", "false", "More tools, a prompt and a resource: echo_tool, get_current_weather, …"),
        variable("GUIDE_GEOCODING_URL", weather::GEOCODING, "Where get_current_weather looks places up"),
        variable("GUIDE_WEATHER_URL", weather::FORECAST, "Where it asks how the weather is there"),
    ],
    start: |start| Box::pin(ready(start)),
};

const fn variable(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable { name, default, about }
}

async fn ready(start: Start) -> Result<Ready, String> {
    let settings = &start.settings;
    let milliseconds = |name, default| Ok::<u64, String>(settings.parse(name, "number of milliseconds")?.unwrap_or(default));
    let server = tools::Settings {
        mode: start.mode,
        operation: settings.get("GUIDE_OPERATION").map_or(Ok(tools::Operation::Echo), tools::Operation::read)?,
        patience: Duration::from_millis(milliseconds("GUIDE_OPERATION_TIMEOUT_MS", 30_000)?),
        demo: settings.flag("GUIDE_DEMO", false)?,
        weather: weather::Weather::new(settings)?,
    };
    let limits = Limits {
        keepalive_ms: milliseconds("GUIDE_PING_MS", 30_000)?,
        session_idle_ms: milliseconds("GUIDE_SESSION_IDLE_MS", 30 * 60_000)?,
        session_sweep_ms: milliseconds("GUIDE_SESSION_SWEEP_MS", 5 * 60_000)?,
        ..Limits::default()
    };
    let rates = settings.parse("GUIDE_REQUESTS_PER_MINUTE", "number")?;
    let rates = rates.map_or_else(Rates::default, |n: u32| Rates { address_per_minute: n, address_burst: n, ..Rates::default() });
    let tls = match (settings.get("TLS_CERT"), settings.get("TLS_KEY")) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => return Err("TLS_CERT and TLS_KEY belong together; one of them is missing".into()),
    };
    let (mode, named) = (start.mode, server.name());
    let shows_sessions = start.is_local() && !settings.is_production();
    let server = Arc::new(server);
    Ok(Ready {
        profile: profile(start.mode, settings.get("GUIDE_MESSAGES_PATH").unwrap_or("/messages"))?,
        pages: Some(Box::new(move |inside| pages::pages(inside, mode, named, limits, shows_sessions))),
        auth: auth(settings)?,
        origins: settings.list("CORS_ORIGIN"),
        public_url: settings.get("PUBLIC_URL").map(str::to_owned),
        audit: settings.get("GUIDE_AUDIT_FILE").map(Into::into),
        rates,
        tls,
        limits,
        ..Ready::new(landbridge_rmcp::handler_for_callers(move |callers| tools::Guide::new(server.clone(), callers.transport)))
    })
}

/// What is shown of HTTP+SSE. Ids are bare digits where that is what is served, and UUIDs where it is there for
/// clients that have not moved yet.
fn profile(mode: Mode, messages: &str) -> Result<Profile, String> {
    const NOBODY: Refusal =
        Refusal { status: http::StatusCode::BAD_REQUEST, media: "text/plain", body: "No transport found for sessionId" };
    let is_path = messages.starts_with('/') && messages.len() > 1 && !messages.contains(['?', '#', '{', ' ']);
    if !is_path {
        return Err(format!("GUIDE_MESSAGES_PATH is {messages:?}; say a path, such as /messages"));
    }
    let dashes = mode == Mode::Http;
    let id = if dashes { "sessionId" } else { "session_id" };
    let known = ["/messages", "/messages/", "/message", "/sse", "/sse/message", "/mcp"].contains(&messages);
    Ok(Profile {
        paths: if known { Vec::new() } else { vec![messages.trim_end_matches('/').into()] },
        messages: format!("{messages}?{id}={{id}}"),
        dashes,
        preamble: vec![Opening::Endpoint],
        frames: Frames::Numbered,
        keepalive: Keepalive::Ping,
        no_session: Some(NOBODY),
        dead_session: Some(NOBODY),
        ..Profile::default()
    })
}

/// Who may call.
fn auth(settings: &Settings) -> Result<AuthConfig, String> {
    let tokens = settings.list("GUIDE_TOKENS");
    let mode = settings.get("GUIDE_AUTH").unwrap_or(if tokens.is_empty() { "none" } else { "tokens" });
    let keys = tokens.iter().map(|token| match token.split_once(':') {
        // Read by its parts: what is wrong with one is told without it.
        Some((token, name)) if !name.contains(':') => Given::read("GUIDE_TOKENS", &format!("{token}:{name}")),
        Some(_) => Err("GUIDE_TOKENS: a token has no colon; write TOKEN:NAME, with commas between them".into()),
        None => Given::read("GUIDE_TOKENS", &format!("{token}:guide")),
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if keys.iter().any(Given::is_short) {
        tracing::warn!("a token in GUIDE_TOKENS has fewer than 16 characters, and could be guessed");
    }
    match mode {
        "none" if keys.is_empty() => Ok(AuthConfig::default()),
        "none" => Err("GUIDE_AUTH is none, and GUIDE_TOKENS says who may call; leave one of them out".into()),
        "tokens" if keys.is_empty() => Err("GUIDE_AUTH is tokens, and GUIDE_TOKENS is missing".into()),
        "tokens" => Ok(AuthConfig { mode: Some("keys".into()), store: Some("memory:".into()), keys, ..AuthConfig::default() }),
        "oauth" => {
            let store = settings.get("GUIDE_STORE").unwrap_or("sqlite:data/guide/accounts.db");
            if let Some(dir) = store.strip_prefix("sqlite:").and_then(|path| std::path::Path::new(path).parent()) {
                std::fs::create_dir_all(dir).map_err(|e| format!("GUIDE_STORE: {} cannot be made: {e}", dir.display()))?;
            }
            let (mode, store) = (Some("oauth".into()), Some(store.into()));
            // So that whoever wants to can read whom a token is for.
            Ok(AuthConfig { mode, store, keys, signed: true, ..AuthConfig::default() })
        }
        other => Err(format!("GUIDE_AUTH is {other:?}; say none, tokens or oauth")),
    }
}
