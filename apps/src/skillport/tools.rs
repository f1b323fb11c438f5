//! The tools: one by default, which hands out tokens for REST; all that can be done, where it is told to show them.

use std::sync::Arc;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::ToolCallContext;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::User;
use super::market::{Publish, Save};
use super::semver::Step;
use super::shop::{Did, Installed, Shop, audit, whoami};
use super::tickets::For;
use super::wrong::Wrong;

/// The one that is always shown.
const AUTH: &str = "skillport_auth";

/// The handler, for one user.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    shop: Arc<Shop>,
    user: User,
    router: ToolRouter<Tools>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Operation {
    /// A token for REST
    #[default]
    Auth,
    /// How to install the skill that knows the rest
    Bootstrap,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Auth {
    /// What is wanted
    #[serde(default)]
    operation: Operation,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct List {
    /// Only skills for these surfaces, with commas: CC, CD, CAI, CDAI, CALL
    #[serde(default)]
    surface: Option<String>,
    /// Look anew, whatever was seen a moment ago
    #[serde(default)]
    refresh: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Named {
    /// The skill
    name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Check {
    /// What there is
    installed: Vec<Installed>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SaveSkill {
    /// The skill
    skill: String,
    #[serde(flatten)]
    save: Save,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct DeleteSkill {
    /// The skill
    skill: String,
    /// Has to be true: it cannot be undone
    #[serde(default)]
    confirm: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct BumpVersion {
    /// The skill
    skill: String,
    /// What the change is
    #[serde(rename = "type")]
    step: Step,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct PublishSkill {
    /// The skill
    skill: String,
    #[serde(flatten)]
    publish: Publish,
}

type Answer = Result<CallToolResult, ErrorData>;

fn answer(done: Result<Value, Wrong>) -> Answer {
    Ok(match done {
        Ok(told) => CallToolResult::success(vec![ContentBlock::text(format!("{told:#}"))]),
        Err(wrong) => CallToolResult::error(vec![ContentBlock::text(wrong.json().to_string())]),
    })
}

impl Tools {
    /// `is_full`: with all that can be done.
    pub(super) fn new(shop: Arc<Shop>, user: User, is_full: bool) -> Tools {
        let mut router = Tools::tool_router();
        if !is_full {
            let others: Vec<_> = router.list_all().into_iter().map(|tool| tool.name).filter(|name| name != AUTH).collect();
            others.iter().for_each(|name| router.remove_route(name));
        }
        Tools { shop, user, router }
    }
}

#[tool_router]
impl Tools {
    #[tool(
        description = "Gives a token for the REST routes of the marketplace (operation `auth`), or the command that installs the skill \
                          which knows how to use them (operation `bootstrap`)",
        annotations(read_only_hint = false, destructive_hint = false, idempotent_hint = false)
    )]
    async fn skillport_auth(&self, Parameters(Auth { operation }): Parameters<Auth>, context: RequestContext<RoleServer>) -> Answer {
        answer(match operation {
            Operation::Auth => self.shop.auth(&self.user, context.client_info().map(|client| (client.name, client.version))).await,
            Operation::Bootstrap => self.shop.bootstrap(&self.user).await,
        })
    }

    #[tool(description = "Lists the skills that you may see", annotations(read_only_hint = true))]
    async fn list_skills(&self, Parameters(List { surface, refresh }): Parameters<List>) -> Answer {
        answer(self.shop.skills(&self.user, surface.as_deref(), refresh).await)
    }

    #[tool(description = "Gives a one-time command that installs a skill", annotations(read_only_hint = false, destructive_hint = false))]
    async fn install_skill(&self, Parameters(Named { name }): Parameters<Named>) -> Answer {
        answer(self.shop.ticket(&self.user, &name, For::Install).await)
    }

    #[tool(description = "Shows a skill: what it is, its SKILL.md, and the names of its files", annotations(read_only_hint = true))]
    async fn fetch_skill_details(&self, Parameters(Named { name }): Parameters<Named>) -> Answer {
        answer(self.shop.details(&self.user, &name).await)
    }

    #[tool(description = "Gives all files of a skill that you may change", annotations(read_only_hint = true))]
    async fn fetch_skill_for_editing(&self, Parameters(Named { name }): Parameters<Named>) -> Answer {
        answer(self.shop.whole(&self.user, &name, true).await)
    }

    #[tool(description = "Gives all files of a skill", annotations(read_only_hint = true))]
    async fn fetch_skill(&self, Parameters(Named { name }): Parameters<Named>) -> Answer {
        answer(self.shop.whole(&self.user, &name, false).await)
    }

    #[tool(description = "Says which of these skills there is a newer version of", annotations(read_only_hint = true))]
    async fn check_updates(&self, Parameters(Check { installed }): Parameters<Check>) -> Answer {
        answer(self.shop.updates(&self.user, &installed).await)
    }

    #[tool(description = "Says who you are here", annotations(read_only_hint = true))]
    async fn whoami(&self) -> Answer {
        answer(Ok(whoami(&self.user)))
    }

    #[tool(
        description = "Adds a skill, or changes files of one, all at once. A file without content is deleted",
        annotations(destructive_hint = true, idempotent_hint = true)
    )]
    async fn save_skill(&self, Parameters(SaveSkill { skill, save }): Parameters<SaveSkill>) -> Answer {
        answer(self.shop.save(&self.user, &skill, &save).await)
    }

    #[tool(description = "Deletes a skill, and its plugin if that was its last", annotations(destructive_hint = true))]
    async fn delete_skill(&self, Parameters(DeleteSkill { skill, confirm }): Parameters<DeleteSkill>) -> Answer {
        answer(self.shop.delete(&self.user, &skill, confirm).await)
    }

    #[tool(description = "Raises the version of a published skill", annotations(destructive_hint = false, idempotent_hint = false))]
    async fn bump_version(&self, Parameters(BumpVersion { skill, step }): Parameters<BumpVersion>) -> Answer {
        answer(self.shop.bump(&self.user, &skill, step).await)
    }

    #[tool(
        description = "Shows a skill in the marketplace, or changes what it says there",
        annotations(destructive_hint = false, idempotent_hint = true)
    )]
    async fn publish_skill(&self, Parameters(PublishSkill { skill, publish }): Parameters<PublishSkill>) -> Answer {
        answer(self.shop.publish(&self.user, &skill, &publish).await)
    }

    #[tool(description = "Lists the plugins that have skills which you may see", annotations(read_only_hint = true))]
    async fn list_plugins(&self) -> Answer {
        let done = self.plugins(None).await;
        audit(&self.user, "list plugins", Did::default(), &done);
        answer(done)
    }

    #[tool(description = "Shows a plugin and its skills", annotations(read_only_hint = true))]
    async fn get_plugin(&self, Parameters(Named { name }): Parameters<Named>) -> Answer {
        let found = self.plugins(Some(&name)).await.and_then(|all| match all["plugins"].get(0) {
            Some(plugin) => Ok(plugin.clone()),
            None => Err(Wrong::unknown(format!("there is no plugin {name}"))),
        });
        audit(&self.user, "plugin", Did { group: Some(&name), ..Did::default() }, &found);
        answer(found)
    }
}

impl Tools {
    async fn plugins(&self, only: Option<&str>) -> Result<Value, Wrong> {
        let shelf = self.shop.market.shelf(false).await?;
        let mut groups: Vec<&str> = shelf.seen_by(&self.user).map(|skill| skill.group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        let all = groups.into_iter().filter(|group| only.is_none_or(|only| only == *group)).map(|group| {
            let skills: Vec<&str> = shelf.seen_by(&self.user).filter(|skill| skill.group == group).map(|skill| skill.name.as_str()).collect();
            json!({"name": group, "published": shelf.entry(group).is_some(), "marketplace": shelf.entry(group), "plugin": shelf.manifest(group), "skills": skills})
        });
        let all: Vec<Value> = all.collect();
        Ok(json!({"count": all.len(), "plugins": all}))
    }
}

#[tool_handler(router = self.router)]
impl ServerHandler for Tools {
    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let done = self.router.call(ToolCallContext::new(self, request, context)).await?;
        // What the SDK says of arguments that it cannot read is said as everything else here.
        let said = match &done {
            CallToolResponse::Complete(result) if result.is_error == Some(true) => result.content.first().and_then(|part| part.as_text()),
            _ => None,
        };
        match said.and_then(|said| said.text.strip_prefix("failed to deserialize parameters: ")) {
            Some(why) => answer(Err(Wrong::bad(format!("the arguments are not as they should be: {why}")))).map(Into::into),
            None => Ok(done),
        }
    }

    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info.server_info = Implementation::new("skillport", super::VERSION);
        info.instructions = Some(
            "A marketplace of skills. Call skillport_auth for a token, and use the REST routes at the base_url that comes with it; \
             its operation `bootstrap` gives a command that installs a skill which knows them."
                .into(),
        );
        info
    }
}
