//! A server to try clients and wires at: it echoes, it greets, and it fails in every way that a tool can.

mod tools;

use landbridge::embed::{Frames, Keepalive, Limits, Opening, Profile, Refusal};

use crate::app::{App, Mode, Ready, ServedBy, Start, Variable};

/// The application.
pub const APP: App = App {
    name: "guide",
    about: "A server to try clients and transports at",
    port: 3000,
    mode: Mode::Sse,
    served_by: ServedBy { mode: "MCP_MODE", host: "HOST", port: "PORT" },
    variables: &[Variable {
        name: "GUIDE_OPERATION_TIMEOUT_MS",
        default: "30000",
        about: "How long robust-tool may take, in milliseconds",
    }],
    start: |start| Box::pin(ready(start)),
};

async fn ready(start: Start) -> Result<Ready, String> {
    let patience_ms = start.settings.parse("GUIDE_OPERATION_TIMEOUT_MS", "number of milliseconds")?.unwrap_or(30_000);
    let settings = tools::Settings { mode: start.mode, patience: std::time::Duration::from_millis(patience_ms) };
    let server = landbridge_rmcp::handler(move || tools::Guide::new(settings));
    Ok(Ready {
        profile: profile(),
        limits: Limits { keepalive_ms: 30_000, session_idle_ms: 30 * 60_000, ..Limits::default() },
        ..Ready::new(server)
    })
}

/// What the guide shows of HTTP+SSE.
fn profile() -> Profile {
    const NOBODY: Refusal =
        Refusal { status: http::StatusCode::BAD_REQUEST, media: "text/plain", body: "No transport found for sessionId" };
    Profile {
        messages: "/messages?session_id={id}".into(),
        preamble: vec![Opening::Endpoint],
        frames: Frames::Numbered,
        keepalive: Keepalive::Ping,
        no_session: Some(NOBODY),
        dead_session: Some(NOBODY),
        lenient: false,
        ..Profile::default()
    }
}
