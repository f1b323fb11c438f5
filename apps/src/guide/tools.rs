//! The guide's tools.

use std::time::Duration;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, ServerInfo};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};

use crate::app::Mode;

/// What the tools depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How it is served.
    pub(super) mode: Mode,
    /// How long an operation may take.
    pub(super) patience: Duration,
}

/// The handler.
#[derive(Clone, Debug)]
pub(super) struct Guide {
    settings: Settings,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Message {
    /// What comes back
    message: String,
}

impl Guide {
    pub(super) fn new(settings: Settings) -> Guide {
        Guide { settings }
    }
}

#[tool_router]
impl Guide {
    #[tool(name = "example-tool", title = "Example Tool", description = "Says what it was told")]
    async fn example(&self, Parameters(Message { message }): Parameters<Message>) -> Result<CallToolResult, ErrorData> {
        let _ = self.settings;
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("Echo: {message}"))]))
    }
}

#[tool_handler]
impl ServerHandler for Guide {
    fn get_info(&self) -> ServerInfo {
        ServerInfo::default()
    }
}
