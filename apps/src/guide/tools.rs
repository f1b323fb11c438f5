//! What the guide can do.

use std::sync::Arc;
use std::time::Duration;

use landbridge::embed::Transport;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, PaginatedRequestParams, Prompt, PromptArgument, PromptMessage, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, ResourceContents, ResourceTemplate, Role, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};

use crate::app::Mode;
use crate::guide::weather::Weather;

/// Of all three servers.
pub(super) const VERSION: &str = "1.0.0";

/// How long what is echoed or greeted may be.
const LONGEST: usize = 1024 * 1024;

/// What the tools depend on.
#[derive(Debug)]
pub(super) struct Settings {
    /// How it is served.
    pub(super) mode: Mode,
    /// What `robust-tool` does.
    pub(super) operation: Operation,
    /// How long that may take.
    pub(super) patience: Duration,
    /// Whether there is more than the usual.
    pub(super) demo: bool,
    /// Who knows how the weather is.
    pub(super) weather: Weather,
}

/// What `robust-tool` does with its input: something that can go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// It comes back.
    Echo,
    /// The same, later.
    Slow(Duration),
    /// It goes wrong, for that reason.
    Fail(String),
    /// It is refused, as an error of the protocol.
    Refuse(String),
}

/// How an operation ends that does not succeed.
enum Failure {
    /// An error that is one of the protocol already.
    Protocol(ErrorData),
    /// Any other.
    Other(String),
}

impl Settings {
    /// What the server calls itself.
    pub(super) fn name(&self) -> &'static str {
        match self.mode {
            Mode::Sse => "sse-server",
            Mode::Http => "backwards-compatible-server",
            Mode::Stdio => "stdio-server",
        }
    }
}

/// How a transport is called.
pub(super) fn called(transport: Transport) -> &'static str {
    match transport {
        Transport::Sse => "SSE",
        Transport::Streamable => "Streamable HTTP",
        Transport::Stdio => "STDIO",
        Transport::Local => "local",
    }
}

impl Operation {
    /// Reads `echo`, `slow:MILLISECONDS`, `fail:WORDS` or `refuse:WORDS`.
    pub(super) fn read(text: &str) -> Result<Operation, String> {
        let (kind, how) = text.split_once(':').unwrap_or((text, ""));
        match (kind, how.trim()) {
            ("echo", "") => Ok(Operation::Echo),
            ("slow", ms) if ms.parse::<u64>().is_ok() => Ok(Operation::Slow(Duration::from_millis(ms.parse().unwrap_or_default()))),
            ("fail", why) if !why.is_empty() => Ok(Operation::Fail(why.into())),
            ("refuse", why) if !why.is_empty() => Ok(Operation::Refuse(why.into())),
            _ => Err(format!("GUIDE_OPERATION is {text:?}; say echo, slow:MILLISECONDS, fail:WORDS or refuse:WORDS")),
        }
    }

    async fn perform(&self, input: &str) -> Result<String, Failure> {
        match self {
            Operation::Echo => Ok(input.into()),
            Operation::Slow(time) => {
                tokio::time::sleep(*time).await;
                Ok(input.into())
            }
            Operation::Fail(why) => Err(Failure::Other(why.clone())),
            Operation::Refuse(why) => Err(Failure::Protocol(ErrorData::invalid_params(why.clone(), None))),
        }
    }
}

/// The handler of clients who come the same way.
#[derive(Clone)]
pub(super) struct Guide {
    settings: Arc<Settings>,
    /// How they do; `None` where that differs.
    transport: Option<Transport>,
    tools: ToolRouter<Guide>,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Message {
    /// What comes back
    message: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Input {
    /// What the operation works on
    #[schemars(length(min = 1))]
    input: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Whom {
    /// Whom to greet
    name: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Where {
    /// A town, such as Oslo
    #[schemars(length(min = 1))]
    location_name: String,
}

impl Guide {
    pub(super) fn new(settings: Arc<Settings>, transport: Option<Transport>) -> Guide {
        let tools = if settings.demo { Guide::tool_router() + Guide::demo_router() } else { Guide::tool_router() };
        Guide { settings, transport, tools }
    }

    /// What a method of the demonstration answers where there is none.
    fn has_demo(&self) -> Result<(), ErrorData> {
        let why = "there is nothing of the kind; start the server with GUIDE_DEMO=true";
        self.settings.demo.then_some(()).ok_or_else(|| ErrorData::invalid_params(why, None))
    }
}

fn said(text: impl Into<String>) -> Result<CallToolResult, ErrorData> {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]))
}

/// A text of a bearable length.
fn bounded(text: String) -> Result<String, ErrorData> {
    match text.len() {
        0..=LONGEST => Ok(text),
        n => Err(ErrorData::invalid_params(format!("{n} bytes are too many; {LONGEST} are allowed"), None)),
    }
}

#[tool_router]
impl Guide {
    #[tool(
        name = "example-tool",
        title = "Example Tool",
        description = "Says what it was told",
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn example(&self, Parameters(Message { message }): Parameters<Message>) -> Result<CallToolResult, ErrorData> {
        said(format!("Echo: {}", bounded(message)?))
    }

    #[tool(
        name = "robust-tool",
        title = "Robust Tool",
        description = "Works on its input for a bounded time, and says what went wrong if something did",
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn robust(&self, Parameters(Input { input }): Parameters<Input>) -> Result<CallToolResult, ErrorData> {
        if input.is_empty() {
            return Err(ErrorData::invalid_params("Input cannot be empty", None));
        }
        if input.trim().is_empty() {
            return Err(ErrorData::invalid_params("Input parameter is required and cannot be empty", None));
        }
        let input = bounded(input)?;
        let Settings { operation, patience, .. } = &*self.settings;
        let done = tokio::time::timeout(*patience, operation.perform(&input)).await;
        match done.unwrap_or_else(|_| Err(Failure::Other("Operation timeout".into()))) {
            Ok(result) => said(format!("Result: {result}")),
            Err(Failure::Protocol(error)) => Err(error),
            Err(Failure::Other(why)) => Err(ErrorData::internal_error(format!("Tool execution failed: {why}"), None)),
        }
    }

    #[tool(
        name = "greet",
        title = "Greet",
        description = "Greets somebody by name",
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn greet(&self, Parameters(Whom { name }): Parameters<Whom>) -> Result<CallToolResult, ErrorData> {
        let server = self.transport.map_or_else(String::new, |transport| format!("{} ", called(transport)));
        said(format!("Hello, {}! Welcome to the {server}server.", bounded(name)?))
    }
}

#[tool_router(router = demo_router)]
impl Guide {
    #[tool(name = "echo_tool", description = "Says what it was told", annotations(read_only_hint = true, open_world_hint = false))]
    async fn echo_tool(&self, Parameters(Message { message }): Parameters<Message>) -> Result<CallToolResult, ErrorData> {
        said(format!("Tool echo: {}", bounded(message)?))
    }

    #[tool(
        name = "get_current_weather",
        description = "Says how the weather is somewhere, now",
        annotations(read_only_hint = true, open_world_hint = true)
    )]
    async fn weather(&self, Parameters(Where { location_name }): Parameters<Where>) -> Result<CallToolResult, ErrorData> {
        match self.settings.weather.at(location_name.trim()).await {
            Ok(weather) => said(weather),
            // The model can do something about it: ask for another place, or tell its user.
            Err(why) => Ok(CallToolResult::error(vec![ContentBlock::text(why)])),
        }
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Guide {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools();
        let capabilities = if self.settings.demo { capabilities.enable_prompts().enable_resources().build() } else { capabilities.build() };
        ServerConfig::new(capabilities).with_server_info(Implementation::new(self.settings.name(), VERSION))
    }

    async fn list_prompts(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListPromptsResult, ErrorData> {
        self.has_demo()?;
        let message = PromptArgument::new("message").with_description("What to say").with_required(true);
        Ok(ListPromptsResult::with_all_items(vec![Prompt::new(
            "echo_prompt",
            Some("Asks for a message to be dealt with"),
            Some(vec![message]),
        )]))
    }

    async fn get_prompt(&self, params: GetPromptRequestParams, _: RequestContext<RoleServer>) -> Result<GetPromptResponse, ErrorData> {
        self.has_demo()?;
        if params.name != "echo_prompt" {
            return Err(ErrorData::invalid_params(format!("there is no prompt {:?}; there is echo_prompt", params.name), None));
        }
        let message = params.arguments.as_ref().and_then(|all| all.get("message")).and_then(|message| message.as_str());
        let message = message.ok_or_else(|| ErrorData::invalid_params("echo_prompt needs a `message`, a text", None))?;
        let text = format!("Please process this message: {}", bounded(message.to_owned())?);
        Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).into())
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        self.has_demo()?;
        let echo = ResourceTemplate::new("echo://{message}", "echo_resource").with_description("Says what its URI says");
        Ok(ListResourceTemplatesResult::with_all_items(vec![echo.with_mime_type("text/plain")]))
    }

    async fn read_resource(
        &self,
        params: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.has_demo()?;
        let message = params.uri.strip_prefix("echo://").filter(|message| !message.is_empty());
        let Some(message) = message else {
            return Err(ErrorData::resource_not_found(format!("there is no resource {:?}; there is echo://MESSAGE", params.uri), None));
        };
        let contents = ResourceContents::text(format!("Resource echo: {}", unescaped(message)), params.uri.clone());
        Ok(ReadResourceResult::new(vec![contents.with_mime_type("text/plain")]).into())
    }
}

/// A part of a URI without its escapes; what is none is left as it is.
fn unescaped(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        let digits = more.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &more[2..];
            }
            None => {
                out.push(first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_read_or_complained_about() {
        assert_eq!(Operation::read("slow:20"), Ok(Operation::Slow(Duration::from_millis(20))));
        assert_eq!(Operation::read("fail: no: luck"), Ok(Operation::Fail("no: luck".into())));
        for bad in ["", "slow", "slow:-1", "fail:", "jump"] {
            assert!(Operation::read(bad).is_err_and(|why| why.contains("slow:MILLISECONDS")), "{bad}");
        }
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(unescaped("gr%C3%BC%C3%9Fe%20a%2"), "grüße a%2");
    }
}
