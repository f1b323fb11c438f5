//! The tools: operations, as clients of MCP see them.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use super::arguments::Trouble;
use super::catalog::{ALL, Effect, Group, Operation};
use super::operations::Contacts;

/// Which tools there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) full: bool,
    pub(super) extras: bool,
}

impl Shown {
    fn has(self, operation: &Operation) -> bool {
        match operation.group {
            Group::Basic => true,
            Group::Full => self.full,
            Group::Extra => self.extras,
        }
    }

    pub(super) fn all(self) -> impl Iterator<Item = &'static Operation> {
        ALL.iter().filter(move |operation| self.has(operation))
    }
}

/// The handler.
#[derive(Clone, Debug)]
pub(super) struct Handler {
    contacts: Arc<Contacts>,
    shown: Shown,
}

impl Handler {
    pub(super) fn new(contacts: Arc<Contacts>, shown: Shown) -> Handler {
        Handler { contacts, shown }
    }
}

fn tool(operation: &Operation) -> Tool {
    let words = operation.name.replace('_', " ");
    let title = words.get(..1).unwrap_or_default().to_uppercase() + words.get(1..).unwrap_or_default();
    let mut annotations = ToolAnnotations::new();
    annotations.title = Some(title.clone());
    annotations.read_only_hint = Some(operation.effect == Effect::Reads);
    annotations.destructive_hint = Some(operation.effect == Effect::Destroys);
    annotations.idempotent_hint = Some(matches!(operation.effect, Effect::Reads | Effect::Sets));
    annotations.open_world_hint = Some(false);
    let mut tool = Tool::new(operation.name, operation.about, Arc::new(operation.schema()));
    tool.title = Some(title);
    tool.annotations = Some(annotations);
    tool
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info.server_info = Implementation::new("contacts", env!("CARGO_PKG_VERSION"));
        info.instructions = Some("The user's address book. Ids come from search_contacts; days are written 2026-01-31.".into());
        info
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.shown.all().map(tool).collect()))
    }

    async fn call_tool(&self, request: CallToolRequestParams, _: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let Some(operation) = self.shown.all().find(|operation| operation.name == request.name) else {
            let hidden = ALL.iter().find(|operation| operation.name == request.name).map(|operation| operation.group);
            let hint = match hidden {
                Some(Group::Full) => "; the operator can show it with CONTACTS_TOOLS=full",
                Some(Group::Extra) => "; the operator can show it with CONTACTS_EXTRAS=true",
                _ => "",
            };
            return Err(ErrorData::invalid_params(format!("there is no tool {:?}{hint}", request.name), None));
        };
        let result = match self.contacts.run(operation, request.arguments.unwrap_or_default()).await {
            Ok(told) => {
                let text = serde_json::to_string_pretty(&told).unwrap_or_default();
                let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                result.structured_content = Some(told);
                result
            }
            Err(Trouble::Bad(told)) => return Err(ErrorData::invalid_params(told, None)),
            Err(trouble) => CallToolResult::error(vec![ContentBlock::text(trouble.to_string())]),
        };
        Ok(result.into())
    }
}
