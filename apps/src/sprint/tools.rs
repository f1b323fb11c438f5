//! What clients see of the tools, resources and prompts.

use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult,
    Implementation, JsonObject, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, Prompt, PromptArgument, PromptMessage, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, Resource, ResourceContents, ResourceTemplate, Role, ServerCapabilities, ServerConfig, Tool,
    ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::desk::{Desk, Failure};

/// The handler of one session.
#[derive(Clone)]
pub(super) struct Sprints(pub(super) Arc<Desk>);

/// A property of a schema: its name, what it is, and whether it is needed.
type Property = (&'static str, Value, bool);

/// The tools, as `tools/list` shows them.
pub(super) fn tools(desk: &Desk) -> Vec<Tool> {
    let id = |about: &str| json!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]{1,20}$"}], "description": about});
    let text = |about: &str| json!({"type": "string", "description": about});
    let flag = |default: bool, about: &str| json!({"type": "boolean", "default": default, "description": about});
    let number = |least: u64, most: u64, default: u64, about: &str| json!({"type": "integer", "minimum": least, "maximum": most, "default": default, "description": about});
    let choice =
        |all: &[&str], default: &str, about: &str| json!({"type": "string", "enum": all, "default": default, "description": about});
    let list = |most: u64, about: &str| json!({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": most, "description": about});
    let sprint = || ("sprint_id", id("The sprint's number"), true);
    let fields = || ("fields", list(50, "Jira's names of the fields to return, and no others"), false);
    let most = || ("max_results", number(1, 1000, 100, "How many at most"), false);
    let range = || {
        let day = |about: &str| text(&format!("{about}: 2026-01-31 or 2026-01-31T12:00:00Z; a year at most"));
        [("since", day("From here on"), false), ("until", day("Until here"), false)]
    };
    let repo = || {
        let owner = ("owner", text("The owner of the repository"), desk.owner.is_none());
        [owner, ("repo", text("The repository's name"), desk.repo.is_none())]
    };
    let report_repo = || {
        let owner = ("github_owner", text("The owner of the repository; usually GITHUB_OWNER"), false);
        [owner, ("github_repo", text("The repository's name; usually GITHUB_REPO"), false)]
    };
    let pages = || [("per_page", number(1, 100, 30, "Per page"), false), ("page", number(1, 10_000, 1, "The page"), false)];
    let jira = |name, about, properties: Vec<Property>| tool(name, about, properties, true);
    let state = json!({"type": "string", "default": "active", "description": "active, closed or future, or several with commas"});
    vec![
        jira(
            "jira_get_sprints",
            "Lists the sprints of a board",
            vec![("board_id", id("The board's number"), true), ("state", state, false)],
        ),
        jira("jira_get_sprint_issues", "Lists the issues of a sprint", vec![sprint(), fields(), most()]),
        jira(
            "jira_get_sprint",
            "Shows a sprint, with its issues",
            vec![sprint(), ("include_issues", flag(true, "With its issues"), false)],
        ),
        jira(
            "jira_get_issue_details",
            "Shows an issue, and how it changed",
            vec![
                ("issue_key", json!({"type": "string", "pattern": "^[A-Z][A-Z0-9_]*-\\d+$", "description": "Its key, as ABC-12"}), true),
                ("expand", list(10, "What else: changelog, comments"), false),
            ],
        ),
        jira(
            "jira_search_issues",
            "Finds issues by a query in JQL",
            vec![("jql", json!({"type": "string", "maxLength": 1000, "description": "The query"}), true), fields(), most()],
        ),
        jira(
            "github_get_commits",
            "Lists commits of a repository",
            [&repo()[..], &range(), &[("author", text("A login or an e-mail address"), false)], &pages()].concat(),
        ),
        jira(
            "github_get_pull_requests",
            "Lists pull requests of a repository, the latest change first",
            [&repo()[..], &[("state", choice(&["open", "closed", "all"], "all", "Which"), false)], &range(), &pages()].concat(),
        ),
        jira(
            "github_search_commits_by_message",
            "Finds commits by words of their messages",
            [&repo()[..], &[("query", json!({"type": "string", "maxLength": 256, "description": "The words"}), true)], &range()].concat(),
        ),
        jira(
            "github_search_pull_requests_by_date",
            "Finds pull requests by the day they were opened",
            [&repo()[..], &range(), &[("state", choice(&["open", "closed", "merged", "all"], "all", "Which"), false)]].concat(),
        ),
        jira(
            "github_find_commits_with_jira_references",
            "Finds the commits that name issues",
            [
                &repo()[..],
                &[("issue_keys", list(100, "Keys, as ABC-12"), true)],
                &range(),
                &[("max_commits_per_issue", number(1, 50, 20, "How many for one issue at most"), false)],
            ]
            .concat(),
        ),
        tool(
            "generate_sprint_report",
            "Writes a report of a sprint: its numbers, and what else is asked for",
            [
                &[sprint()][..],
                &report_repo(),
                &[
                    ("format", choice(&["markdown", "html", "json", "csv"], "markdown", "How it is written; HTML has charts"), false),
                    ("include_commits", flag(false, "Commits that name its issues"), false),
                    ("include_prs", flag(false, "Pull requests that name its issues"), false),
                    ("include_velocity", flag(false, "What the last sprints of the board achieved"), false),
                    ("include_burndown", flag(false, "What was left, day by day"), false),
                    ("include_tier1", flag(false, "Goal, changes of scope, spillover"), false),
                    ("include_tier2", flag(false, "Blockers, bugs, cycle time, capacity"), false),
                    ("include_tier3", flag(false, "Epics, technical debt, risks"), false),
                    ("include_forward_looking", flag(false, "What the next sprint may hold"), false),
                    ("include_enhanced_github", flag(false, "Who committed how much"), false),
                ],
                &range(),
                &[
                    ("theme", choice(&["default", "dark", "corporate"], "default", "The colours of HTML"), false),
                    ("max_commits_per_issue", number(1, 50, 10, "How many for one issue at most"), false),
                    ("max_prs_per_issue", number(1, 50, 5, "How many for one issue at most"), false),
                ],
            ]
            .concat(),
            false,
        ),
        tool(
            "generate_comprehensive_report",
            "Gathers all that a report can have, as JSON",
            [
                &[sprint()][..],
                &report_repo(),
                &[
                    ("include_tier1", flag(true, "Goal, changes of scope, spillover"), false),
                    ("include_tier2", flag(true, "Blockers, bugs, cycle time, capacity"), false),
                    ("include_tier3", flag(false, "Epics, technical debt, risks"), false),
                    ("include_forward_looking", flag(false, "What the next sprint may hold"), false),
                    ("include_enhanced_github", flag(true, "Commits, pull requests, who committed how much"), false),
                    ("nocache", flag(false, "Asks anew what was asked before"), false),
                ],
            ]
            .concat(),
            false,
        ),
        jira(
            "get_sprint_metrics",
            "Counts what a sprint has and achieved",
            vec![
                sprint(),
                ("include_velocity", flag(false, "What the last sprints of the board achieved"), false),
                ("include_burndown", flag(false, "What was left, day by day"), false),
                ("velocity_history_count", number(1, 10, 3, "How many sprints velocity looks back"), false),
            ],
        ),
        jira(
            "health_check",
            "Says whether Jira and GitHub can be reached",
            vec![
                ("include_detailed_status", flag(false, "With the cache and what is configured"), false),
                ("check_external_dependencies", flag(true, "Asks them"), false),
            ],
        ),
        tool(
            "cache_stats",
            "Says how well answers are kept",
            vec![
                ("include_detailed_breakdown", flag(false, "By service"), false),
                ("reset_stats", flag(false, "Counts anew afterwards"), false),
            ],
            false,
        ),
    ]
}

fn tool(name: &'static str, about: &'static str, properties: Vec<Property>, reads_only: bool) -> Tool {
    let required: Vec<&str> = properties.iter().filter(|(.., needed)| *needed).map(|(name, ..)| *name).collect();
    let properties: JsonObject = properties.into_iter().map(|(name, schema, _)| (name.to_owned(), schema)).collect();
    let mut schema = JsonObject::new();
    schema.insert("type".into(), "object".into());
    schema.insert("properties".into(), properties.into());
    schema.insert("required".into(), json!(required));
    Tool::new(name, about, Arc::new(schema))
        .with_annotations(ToolAnnotations::new().read_only(reads_only).destructive(false).open_world(name != "cache_stats"))
}

/// What a tool returned, as a text.
pub(super) fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| format!("{value:#}"), str::to_owned)
}

const RESOURCES: [(&str, &str, &str); 6] = [
    ("sprint://active", "Active sprints", "The sprints that run"),
    ("sprint://recent", "Recent sprints", "The five sprints of a board that were closed last"),
    ("reports://recent", "Recent reports", "The reports that were made last"),
    ("analytics://dashboard", "Dashboard", "What runs, what was reported, and how answers are kept"),
    ("config://server", "Configuration", "What is configured, without secrets"),
    ("health://status", "Health", "Whether Jira and GitHub can be reached"),
];

/// The prompts: their names, what they are for, their arguments (the first is needed), and what they say.
const PROMPTS: [(&str, &str, &[&str], &str); 5] = [
    (
        "generate-sprint-report",
        "Writes a report of a sprint",
        &["sprint_id", "format"],
        "Call generate_sprint_report for sprint {sprint_id} with format {format}, velocity, burndown and tiers 1 and 2. Then say in five sentences what stands out.",
    ),
    (
        "analyze-sprint-performance",
        "Says how a sprint went, and why",
        &["sprint_id"],
        "Call get_sprint_metrics for sprint {sprint_id} with velocity and burndown, and generate_comprehensive_report for it. Explain what the team promised and kept, when work stalled, how the scope changed, and what was blocked. End with three things to try next.",
    ),
    (
        "compare-sprints",
        "Compares sprints",
        &["sprint_ids"],
        "Call get_sprint_metrics for each of the sprints {sprint_ids}. Put completion rate, points, velocity and the mix of types side by side in a table, and say what changed from sprint to sprint and what may have caused it.",
    ),
    (
        "generate-release-notes",
        "Writes release notes of a sprint",
        &["sprint_id"],
        "Call jira_get_sprint_issues for sprint {sprint_id}. Write release notes of the issues that are done, grouped into new, improved and mended, for readers who do not know the tickets; put each key in brackets.",
    ),
    (
        "executive-summary",
        "Sums a sprint up for those who lead",
        &["sprint_id"],
        "Call generate_comprehensive_report for sprint {sprint_id} with forward_looking true. Sum it up on half a page: whether the goal was met, what it means for the plan, the risks, and what has to be decided.",
    ),
];

impl Sprints {
    /// Calls a tool, and tells the client how far it is.
    async fn call(&self, name: &str, arguments: &Map<String, Value>, context: &RequestContext<RoleServer>) -> Result<Value, Failure> {
        let (tell, mut told) = mpsc::channel::<(u32, u32, String)>(16);
        let progress = move |done, of, doing: &str| {
            // Who does not keep up is not told everything.
            let _ = tell.try_send((done, of, doing.to_owned()));
        };
        let token = context.meta.get_progress_token();
        let mut work = std::pin::pin!(self.0.call(name, arguments, &progress));
        loop {
            tokio::select! {
                biased;
                Some((done, of, doing)) = told.recv() => {
                    let Some(token) = token.clone() else { continue };
                    let mut note = ProgressNotificationParam::new(token, f64::from(done));
                    (note.total, note.message) = (Some(f64::from(of)), Some(doing));
                    // The answer still counts.
                    let _ = context.peer.notify_progress(note).await;
                }
                () = context.ct.cancelled() => return Err(Failure::Elsewhere("it was cancelled".into())),
                outcome = &mut work => return outcome,
            }
        }
    }

    async fn resource(&self, uri: &str) -> Option<(String, &'static str)> {
        let json = |value: Value| Some((format!("{value:#}"), "application/json"));
        let or_why = |answer: Result<Value, Failure>| answer.unwrap_or_else(|why| json!({"error": why.told()}));
        match uri {
            "sprint://active" => json(or_why(self.0.board_sprints("active").await)),
            "sprint://recent" => json(or_why(self.0.board_sprints("closed").await)),
            "reports://recent" => json(json!({"reports": self.0.store.list().into_iter().take(20).collect::<Value>()})),
            "analytics://dashboard" => json(self.0.dashboard().await),
            "config://server" => json(self.0.config()),
            "health://status" => json(self.0.health(false, true).await),
            other => {
                let (text, format) = self.0.store.read(other.strip_prefix("reports://")?)?;
                let media = super::report::Format::ALL.iter().find(|(name, _)| *name == format)?.1.media();
                Some((text, media))
            }
        }
    }
}

impl ServerHandler for Sprints {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build())
            .with_server_info(Implementation::new("jira-github-sprint-reporter-sse", "2.0.0"))
            .with_instructions("Reads sprints of Jira and what was done for them at GitHub, counts, and writes reports.")
    }

    async fn list_tools(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools(&self.0)))
    }

    async fn call_tool(&self, request: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let result = match self.call(&request.name, &arguments, &context).await {
            Ok(value) => CallToolResult::success(vec![ContentBlock::text(as_text(&value))]),
            Err(why) => {
                let text = format!("Error executing tool {}: {}", request.name, why.told());
                CallToolResult::error(vec![ContentBlock::text(text)])
            }
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let all = RESOURCES
            .iter()
            .map(|(uri, name, about)| Resource::new(*uri, *name).with_description(*about).with_mime_type("application/json"));
        Ok(ListResourcesResult::with_all_items(all.collect()))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let report = ResourceTemplate::new("reports://{id}", "A report").with_description("A report that was made, by its id");
        Ok(ListResourceTemplatesResult::with_all_items(vec![report]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let Some((text, media)) = self.resource(&request.uri).await else {
            let why = format!("there is no resource {:?}; resources/list names those that there are", request.uri);
            return Err(ErrorData::resource_not_found(why, None));
        };
        Ok(ReadResourceResult::new(vec![ResourceContents::text(text, request.uri).with_mime_type(media)]).into())
    }

    async fn list_prompts(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListPromptsResult, ErrorData> {
        let all = PROMPTS.iter().map(|(name, about, arguments, _)| {
            let arguments = arguments.iter().enumerate().map(|(n, name)| {
                let about = match *name {
                    "sprint_ids" => "Numbers of sprints, with commas",
                    "format" => "markdown, html, json or csv",
                    _ => "The sprint's number",
                };
                PromptArgument::new(*name).with_description(about).with_required(n == 0)
            });
            Prompt::new(*name, Some(*about), Some(arguments.collect()))
        });
        Ok(ListPromptsResult::with_all_items(all.collect()))
    }

    async fn get_prompt(&self, request: GetPromptRequestParams, _: RequestContext<RoleServer>) -> Result<GetPromptResponse, ErrorData> {
        let bad = |why: String| ErrorData::invalid_params(why, None);
        let Some((_, about, arguments, text)) = PROMPTS.iter().find(|(name, ..)| *name == request.name) else {
            return Err(bad(format!("there is no prompt {:?}; prompts/list names those that there are", request.name)));
        };
        let given = request.arguments.unwrap_or_default();
        let mut text = (*text).to_owned();
        for (n, name) in arguments.iter().enumerate() {
            let value = given.get(*name).map(|value| as_text(value).trim().to_owned()).filter(|value| !value.is_empty());
            let value = match (value, *name) {
                (None, _) if n == 0 => return Err(bad(format!("{name} is missing"))),
                (None, _) => "markdown".to_owned(),
                (Some(value), "format") if super::report::Format::ALL.iter().all(|(known, _)| *known != value) => {
                    return Err(bad(format!("format is {value:?}; say markdown, html, json or csv")));
                }
                (Some(value), "format") => value,
                (Some(value), _) => {
                    let ids: Vec<&str> = value.split(',').map(str::trim).collect();
                    let good = ids.iter().all(|id| (1..=20).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_digit()));
                    if !good || ids.len() > 20 || (*name == "sprint_id" && ids.len() != 1) {
                        return Err(bad(format!("{name} is {value:?}; sprints have numbers")));
                    }
                    ids.join(", ")
                }
            };
            text = text.replace(&format!("{{{name}}}"), &value);
        }
        Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).with_description(*about).into())
    }
}
