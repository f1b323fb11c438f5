//! Rust programs that serve themselves, with one tool that echoes: by Landbridge, and by the official SDK.
//!
//! Odd: the tool is written as its users write one, with typed arguments, and not as fast as it could be.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use clap::ValueEnum;
use landbridge::embed::{Embed, Error, Tools};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;

use crate::fault::Fault;
use crate::floor_http::listen_on;

/// What is served, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// A function, by Landbridge.
    Tools,
    /// A handler of the SDK, by Landbridge.
    Rmcp,
    /// The same handler, by the SDK's own HTTP server.
    RmcpAlone,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Said {
    message: String,
}

struct Echo;

#[tool_router]
impl Echo {
    #[tool(description = "Answers with the message it was given.")]
    async fn echo(&self, Parameters(Said { message }): Parameters<Said>) -> String {
        message
    }
}

#[tool_handler]
impl ServerHandler for Echo {}

pub(crate) async fn serve(kind: Kind, listen: SocketAddr) -> Result<(), Fault> {
    let refused = |error: Error| Fault::setup(format!("the embedded server did not start: {error}"));
    match kind {
        Kind::Tools => {
            let schema = schemars::schema_for!(Said);
            let tools =
                Tools::new("echo", "1")
                    .tool("echo", "Answers with the message it was given.", schema, |Said { message }, _| async move { Ok(message) });
            Embed::new("echo", tools).listen(listen.to_string()).run().await.map_err(refused)
        }
        Kind::Rmcp => Embed::new("echo", landbridge_rmcp::handler(|| Echo)).listen(listen.to_string()).run().await.map_err(refused),
        Kind::RmcpAlone => {
            let sessions = Arc::new(LocalSessionManager::default());
            let service = StreamableHttpService::new(|| Ok(Echo), sessions, StreamableHttpServerConfig::default());
            let router = axum::Router::new().nest_service("/mcp", service);
            // Or each answer would wait for the client to say that it has read the last one.
            let listener = listen_on(listen).await?.tap_io(|stream| drop(stream.set_nodelay(true)));
            let served = axum::serve(listener, router).await;
            served.map_err(|error| Fault::setup(format!("the SDK's server ended ({error})")))
        }
    }
}
