//! Jira: Cloud, which is asked by version 3 and pages by tokens, and Server or Data Center, by version 2.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};

use super::model::{Change, Field, Issue, Sprint, Stages, time};
use super::upstream::{self, Ask, Cache, Pace, Reach, Trouble, Upstream};
use crate::settings::Settings;

const PAGE: usize = 100;
/// Pages of anything: no answer is longer than a thousand, and no board has more sprints than that.
const PAGES: usize = 50;
const CREDENTIALS: &str = "JIRA_EMAIL and JIRA_API_TOKEN";

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Cloud,
    Server,
}

pub(super) struct Jira {
    upstream: Upstream,
    flavour: Flavour,
    points: Vec<String>,
    sprints: String,
}

impl Jira {
    /// The one that is configured; or the sentence that says what is missing.
    pub(super) fn open(settings: &Settings, cache: Arc<Cache>, pace: Pace) -> Result<Result<Jira, String>, String> {
        let bearer = match settings.get("JIRA_AUTH_TYPE").unwrap_or("basic") {
            "basic" => false,
            "bearer" => true,
            other => return Err(format!("JIRA_AUTH_TYPE is {other:?}; say basic or bearer")),
        };
        let host = settings.get("JIRA_HOST").map(|host| if host.contains("://") { host.to_owned() } else { format!("https://{host}") });
        let (url, email, token) =
            (settings.get("JIRA_BASE_URL").map(str::to_owned).or(host), settings.get("JIRA_EMAIL"), settings.get("JIRA_API_TOKEN"));
        let missing = [
            (url.is_none(), "JIRA_HOST (or JIRA_BASE_URL)"),
            (!bearer && email.is_none(), "JIRA_EMAIL"),
            (token.is_none(), "JIRA_API_TOKEN"),
        ];
        let missing: Vec<_> = missing.into_iter().filter(|(missing, _)| *missing).map(|(_, name)| name).collect();
        let (Some(url), Some(token), true) = (url, token, missing.is_empty()) else {
            return Ok(Err(format!("Jira is not configured: set {}", missing.join(", "))));
        };
        let base = upstream::base("JIRA_BASE_URL", &url)?;
        let atlassian = base.host_str().is_some_and(|host| host.ends_with(".atlassian.net") || host.ends_with(".jira.com"));
        let flavour = match settings.get("JIRA_DEPLOYMENT") {
            Some("cloud") => Flavour::Cloud,
            Some("server") => Flavour::Server,
            Some(other) => return Err(format!("JIRA_DEPLOYMENT is {other:?}; say cloud or server")),
            None if atlassian => Flavour::Cloud,
            None => Flavour::Server,
        };
        let authorization = match (bearer, email) {
            (false, Some(email)) => {
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{email}:{token}")))
            }
            _ => format!("Bearer {token}"),
        };
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, upstream::secret(&authorization)?);
        let private = settings.flag("SPRINT_ALLOW_PRIVATE", false)?;
        let rate = (settings.parse("JIRA_REQUESTS_PER_MINUTE", "number")?.unwrap_or(600), minutes(1));
        let reach = Reach { name: "Jira", base, headers, credentials: CREDENTIALS, private, pace, rate };
        let mut points = settings.list("JIRA_STORY_POINTS_FIELDS");
        if points.is_empty() {
            points = ["customfield_10016", "customfield_10004", "customfield_10002"].map(str::to_owned).to_vec();
        }
        let sprints = settings.get("JIRA_SPRINT_FIELD").unwrap_or("customfield_10020").to_owned();
        Ok(Ok(Jira { upstream: Upstream::open(reach, cache)?, flavour, points, sprints }))
    }

    fn api(&self) -> &'static str {
        match self.flavour {
            Flavour::Cloud => "/rest/api/3",
            Flavour::Server => "/rest/api/2",
        }
    }

    /// Who we are there.
    pub(super) async fn myself(&self) -> Result<Arc<Value>, Trouble> {
        self.upstream.ask(Ask::get(format!("{}/myself", self.api())).kept_for(Duration::ZERO)).await
    }

    /// All of a board's sprints in these states, the oldest first.
    pub(super) async fn sprints(&self, board: u64, states: &str) -> Result<Vec<Sprint>, Trouble> {
        let ttl = if states == "closed" { minutes(15) } else { minutes(2) };
        let ask = |start: usize| {
            let ask = Ask::get(format!("/rest/agile/1.0/board/{board}/sprint")).query("state", states);
            ask.query("startAt", start).query("maxResults", 50).kept_for(ttl)
        };
        let found = self.pages(ask, "values", PAGES * 50).await?;
        Ok(found.iter().map(sprint).collect())
    }

    /// Boards that have sprints.
    pub(super) async fn boards(&self, most: usize) -> Result<Vec<u64>, Trouble> {
        let ask = |start: usize| {
            let ask = Ask::get("/rest/agile/1.0/board").query("type", "scrum").query("startAt", start);
            ask.query("maxResults", 50).kept_for(minutes(15))
        };
        Ok(self.pages(ask, "values", most).await?.iter().filter_map(|board| board["id"].as_u64()).take(most).collect())
    }

    pub(super) async fn sprint(&self, id: u64) -> Result<Sprint, Trouble> {
        let answer = self.upstream.ask(Ask::get(format!("/rest/agile/1.0/sprint/{id}")).kept_for(minutes(2))).await?;
        Ok(sprint(&answer))
    }

    /// What is in a sprint, as Jira has it. `fields`: no others.
    pub(super) async fn sprint_issues(&self, sprint: &Sprint, fields: Option<&str>, most: usize) -> Result<Vec<Value>, Trouble> {
        let fields = fields.map(str::to_owned).unwrap_or_else(|| self.fields().join(","));
        let ttl = match sprint.state.as_str() {
            "closed" => minutes(30 * 24 * 60),
            "future" => minutes(15),
            _ => minutes(2),
        };
        let ask = |start: usize| {
            let ask = Ask::get(format!("/rest/agile/1.0/sprint/{}/issue", sprint.id)).query("startAt", start);
            ask.query("maxResults", PAGE.min(most)).query("fields", &fields).query("expand", "changelog").kept_for(ttl)
        };
        let mut issues = self.pages(ask, "issues", most).await?;
        for issue in &mut issues {
            self.complete_changelog(issue).await?;
        }
        Ok(issues)
    }

    /// What it takes its statuses for: also those where no issue is any more. Who is not told goes by the issues.
    pub(super) async fn stages(&self) -> Stages {
        match self.upstream.ask(Ask::get(format!("{}/status", self.api())).kept_for(minutes(60))).await {
            Ok(all) => {
                let all = all.as_array().into_iter().flatten();
                Stages::of(all.filter_map(|one| Some((one["name"].as_str()?, one["statusCategory"]["key"].as_str()?))))
            }
            Err(trouble) => {
                tracing::debug!("what statuses stand for is not known: {}", trouble.told);
                Stages::default()
            }
        }
    }

    /// All that was ever in a sprint while it ran, with its history.
    pub(super) async fn history(&self, sprint: &Sprint) -> Result<Vec<Issue>, Trouble> {
        let found = self.sprint_issues(sprint, None, 1000).await?;
        let mut issues: Vec<Issue> = found.iter().map(|issue| self.issue(issue)).collect();
        for issue in &mut issues {
            if !issue.sprints.contains(&sprint.id) {
                issue.sprints.push(sprint.id);
            }
        }
        issues.extend(self.removed(sprint, &issues).await?);
        Ok(issues)
    }

    /// What was taken out of it after it had begun. Jira lists only what is in it, so we look at what its projects
    /// have changed since.
    async fn removed(&self, sprint: &Sprint, issues: &[Issue]) -> Result<Vec<Issue>, Trouble> {
        let Some(start) = sprint.start else { return Ok(Vec::new()) };
        let of_issues = issues.iter().filter_map(|issue| issue.key.rsplit_once('-')).map(|(project, _)| project.to_owned());
        let mut projects: BTreeSet<String> = of_issues.collect();
        if let (true, Some(board)) = (projects.is_empty(), sprint.board) {
            projects = self.board_projects(board).await?;
        }
        if projects.is_empty() {
            return Ok(Vec::new());
        }
        // A day earlier: the time is read in the zone of whoever asks.
        let since = start.checked_sub(SignedDuration::from_hours(24)).unwrap_or(start).strftime("%Y-%m-%d %H:%M");
        let projects = projects.iter().map(|project| format!("\"{project}\"")).collect::<Vec<_>>().join(", ");
        let jql = format!("project in ({projects}) AND (sprint is EMPTY OR sprint not in ({})) AND updated >= \"{since}\"", sprint.id);
        let mut found = self.search_raw(&jql, None, 500, true).await?;
        let mut out = Vec::new();
        for issue in &mut found {
            self.complete_changelog(issue).await?;
            let issue = self.issue(issue);
            if issue.moves(sprint.id).next().is_some() && !issues.iter().any(|other| other.key == issue.key) {
                out.push(issue);
            }
        }
        Ok(out)
    }

    /// The projects whose issues a board shows.
    async fn board_projects(&self, board: u64) -> Result<BTreeSet<String>, Trouble> {
        let ask = |start: usize| {
            let ask = Ask::get(format!("/rest/agile/1.0/board/{board}/project")).query("startAt", start);
            ask.query("maxResults", 50).kept_for(minutes(15))
        };
        let found = self.pages(ask, "values", PAGE).await?;
        let is_key = |key: &&str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        Ok(found.iter().filter_map(|project| project["key"].as_str().filter(is_key)).map(str::to_owned).collect())
    }

    /// Issues of a query.
    pub(super) async fn search(&self, jql: &str, fields: Option<&[String]>, most: usize) -> Result<Vec<Value>, Trouble> {
        self.search_raw(jql, fields, most, false).await
    }

    async fn search_raw(&self, jql: &str, fields: Option<&[String]>, most: usize, changes: bool) -> Result<Vec<Value>, Trouble> {
        // The new search gives ids alone to whoever names no field.
        let fields: Vec<String> = fields.map_or_else(|| self.fields(), <[String]>::to_vec);
        if self.flavour == Flavour::Server {
            match self.search_by_offset(jql, &fields, most, changes).await {
                // It is Cloud under a name of its own.
                Err(trouble) if trouble.status == Some(410) => {}
                other => return other,
            }
        }
        let (mut out, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let mut body = json!({"jql": jql, "fields": fields, "maxResults": PAGE.min(most - out.len())});
            if changes {
                body["expand"] = "changelog".into();
            }
            if let Some(token) = &token {
                body["nextPageToken"] = token.as_str().into();
            }
            let answer = self.upstream.ask(Ask::post("/rest/api/3/search/jql", body).kept_for(minutes(2))).await?;
            out.extend(answer["issues"].as_array().into_iter().flatten().cloned());
            token = answer["nextPageToken"].as_str().map(str::to_owned);
            if token.is_none() || answer["isLast"] == true || out.len() >= most {
                break;
            }
        }
        out.truncate(most);
        Ok(out)
    }

    async fn search_by_offset(&self, jql: &str, fields: &[String], most: usize, changes: bool) -> Result<Vec<Value>, Trouble> {
        let ask = |start: usize| {
            let mut body = json!({"jql": jql, "fields": fields, "maxResults": PAGE.min(most), "startAt": start});
            if changes {
                body["expand"] = json!(["changelog"]);
            }
            Ask::post("/rest/api/2/search", body).kept_for(minutes(2))
        };
        self.pages(ask, "issues", most).await
    }

    /// One issue with all that was asked for.
    pub(super) async fn details(&self, key: &str, expand: &[String]) -> Result<Value, Trouble> {
        let comments = expand.iter().any(|part| part == "comments" || part == "comment");
        let others: Vec<&str> = expand.iter().map(String::as_str).filter(|part| !matches!(*part, "comments" | "comment")).collect();
        let mut ask = Ask::get(format!("{}/issue/{key}", self.api())).kept_for(minutes(2));
        if !others.is_empty() {
            ask = ask.query("expand", others.join(","));
        }
        let mut answer = (*self.upstream.ask(ask).await?).clone();
        self.complete_changelog(&mut answer).await?;
        let issue = self.issue(&answer);
        let mut out = serde_json::to_value(&issue).unwrap_or_default();
        out["description"] = text(&answer["fields"]["description"]).into();
        if others.contains(&"changelog") {
            out["statusHistory"] = history(&issue, Field::Status);
            out["sprintHistory"] = history(&issue, Field::Sprint);
            let now = Timestamp::now();
            let stages = self.stages().await.with([&issue]);
            out["timeInStatus"] = json!(super::metrics::time_in_status(&issue, now));
            out["cycleTime"] = json!(super::metrics::cycle_time(&issue, &stages, now).map(super::metrics::round));
            out["leadTime"] = json!(super::metrics::lead_time(&issue, &stages, now).map(super::metrics::round));
        }
        if comments {
            let all = answer["fields"]["comment"]["comments"].as_array().into_iter().flatten();
            let all = all.map(|one| json!({"author": person(&one["author"]), "created": one["created"], "body": text(&one["body"])}));
            out["comments"] = all.collect();
        }
        Ok(out)
    }

    /// Cloud shows a hundred changes with an issue, and the others by pages.
    async fn complete_changelog(&self, issue: &mut Value) -> Result<(), Trouble> {
        let log = &issue["changelog"];
        let (total, shown) = (log["total"].as_u64().unwrap_or(0), log["histories"].as_array().map_or(0, Vec::len));
        if total as usize <= shown {
            return Ok(());
        }
        let Some(key) = issue["key"].as_str().filter(|key| is_key(key)) else { return Ok(()) };
        let path = format!("{}/issue/{key}/changelog", self.api());
        let ask = |start: usize| Ask::get(path.clone()).query("startAt", start).query("maxResults", PAGE).kept_for(minutes(2));
        let all = self.pages(ask, "values", 5_000).await?;
        issue["changelog"]["histories"] = all.into();
        Ok(())
    }

    /// Pages that are counted: `startAt`, and `total` or `isLast`.
    async fn pages(&self, ask: impl Fn(usize) -> Ask, name: &str, most: usize) -> Result<Vec<Value>, Trouble> {
        let mut out = Vec::new();
        for _ in 0..PAGES {
            let answer = self.upstream.ask(ask(out.len())).await?;
            let page = answer[name].as_array().map(Vec::as_slice).unwrap_or_default();
            out.extend_from_slice(page);
            let all = answer["total"].as_u64().is_some_and(|total| out.len() as u64 >= total);
            if page.is_empty() || all || answer["isLast"] == true || out.len() >= most {
                break;
            }
        }
        out.truncate(most);
        Ok(out)
    }

    fn fields(&self) -> Vec<String> {
        const USUAL: [&str; 18] = [
            "summary",
            "status",
            "assignee",
            "priority",
            "issuetype",
            "created",
            "updated",
            "resolutiondate",
            "labels",
            "components",
            "fixVersions",
            "flagged",
            "epic",
            "parent",
            "sprint",
            "closedSprints",
            "resolution",
            "project",
        ];
        let own = self.points.iter().cloned().chain([self.sprints.clone()]);
        USUAL.iter().map(|field| (*field).to_owned()).chain(own).collect()
    }

    /// An issue of Jira's as one of ours.
    pub(super) fn issue(&self, value: &Value) -> Issue {
        let fields = &value["fields"];
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let names = |value: &Value| value.as_array().into_iter().flatten().filter_map(|one| word(&one["name"])).collect();
        let at = |name: &str| fields[name].as_str().and_then(time);
        let flag =
            fields["flagged"].as_bool().unwrap_or(false) || fields["customfield_10021"].as_array().is_some_and(|all| !all.is_empty());
        let parent = &fields["parent"];
        let is_epic = parent["fields"]["issuetype"]["name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("epic"));
        let points = |field: &String| fields[field.as_str()].as_f64().filter(|points| points.is_finite());
        let mut issue = Issue {
            id: value["id"].as_str().unwrap_or_default().to_owned(),
            key: value["key"].as_str().unwrap_or_default().to_owned(),
            summary: fields["summary"].as_str().unwrap_or_default().to_owned(),
            status: fields["status"]["name"].as_str().unwrap_or("Unknown").to_owned(),
            status_category: fields["status"]["statusCategory"]["key"].as_str().unwrap_or_default().to_owned(),
            assignee: person(&fields["assignee"]),
            story_points: self.points.iter().find_map(points),
            priority: word(&fields["priority"]["name"]),
            issue_type: fields["issuetype"]["name"].as_str().unwrap_or("Unknown").to_owned(),
            created: at("created"),
            updated: at("updated"),
            resolved: at("resolutiondate"),
            labels: fields["labels"].as_array().into_iter().flatten().filter_map(word).collect(),
            components: names(&fields["components"]),
            fix_versions: names(&fields["fixVersions"]),
            flagged: flag,
            epic_link: word(&fields["epic"]["key"]).or_else(|| word(&parent["key"]).filter(|_| is_epic)),
            epic_name: word(&fields["epic"]["name"]).or_else(|| word(&parent["fields"]["summary"]).filter(|_| is_epic)),
            blocker_reason: None,
            sprints: Vec::new(),
            changes: Vec::new(),
        };
        let own = [&fields["sprint"], &fields["closedSprints"], &fields[self.sprints.as_str()]];
        let all: BTreeSet<u64> = own.into_iter().flat_map(sprint_ids).collect();
        issue.sprints = all.into_iter().collect();
        issue.changes = self.changes(value);
        let flagged = issue.changes.iter().rev().find(|change| change.field == Field::Flagged);
        issue.blocker_reason = flagged.filter(|_| issue.flagged).map(|change| change.to.clone());
        issue
    }

    fn changes(&self, value: &Value) -> Vec<Change> {
        let mut out = Vec::new();
        for history in value["changelog"]["histories"].as_array().into_iter().flatten() {
            let Some(at) = history["created"].as_str().and_then(time) else { continue };
            // What happened at one moment has happened in the order of its numbers.
            let number: u64 = history["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or(0);
            for item in history["items"].as_array().into_iter().flatten() {
                let named =
                    |names: &[&str]| item["field"].as_str().is_some_and(|field| names.iter().any(|name| field.eq_ignore_ascii_case(name)));
                let of_points = item["fieldId"].as_str().is_some_and(|id| self.points.iter().any(|field| field == id));
                let (field, ids) = match () {
                    () if named(&["status"]) => (Field::Status, false),
                    () if named(&["sprint"]) => (Field::Sprint, true),
                    () if of_points || named(&["story points", "story point estimate"]) => (Field::Points, false),
                    () if named(&["flagged"]) => (Field::Flagged, false),
                    () => continue,
                };
                let word =
                    |ids: &str, names: &str| if ids == "from" || ids == "to" { item[ids].as_str().or(item[names].as_str()) } else { None };
                let (from, to) = match ids {
                    true => (word("from", "fromString"), word("to", "toString")),
                    false => (item["fromString"].as_str(), item["toString"].as_str()),
                };
                let (from, to) = (from.unwrap_or_default().to_owned(), to.unwrap_or_default().to_owned());
                out.push((number, Change { at, by: person(&history["author"]), field, from, to }));
            }
        }
        // Cloud tells the newest first.
        out.sort_by_key(|(number, change)| (change.at, *number));
        out.into_iter().map(|(_, change)| change).collect()
    }
}

fn history(issue: &Issue, field: Field) -> Value {
    issue.changes.iter().filter(|change| change.field == field).map(|change| json!(change)).collect()
}

fn sprint(value: &Value) -> Sprint {
    let at = |name: &str| value[name].as_str().and_then(time);
    Sprint {
        id: value["id"].as_u64().unwrap_or_default(),
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        state: value["state"].as_str().unwrap_or_default().to_lowercase(),
        start: at("startDate"),
        end: at("endDate"),
        complete: at("completeDate"),
        goal: value["goal"].as_str().unwrap_or_default().to_owned(),
        board: value["originBoardId"].as_u64(),
    }
}

/// The sprints of a field: one, or several, as objects or as Server writes them: `…Sprint@1f[id=12,rapidViewId=…]`.
fn sprint_ids(value: &Value) -> Vec<u64> {
    match value {
        Value::Array(all) => all.iter().flat_map(sprint_ids).collect(),
        Value::Object(one) => one.get("id").and_then(Value::as_u64).into_iter().collect(),
        Value::String(text) => {
            let id = text.split(['[', ',']).find_map(|part| part.strip_prefix("id="));
            id.and_then(|id| id.trim_end_matches(']').parse().ok()).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

fn person(value: &Value) -> Option<String> {
    value["displayName"].as_str().or(value["name"].as_str()).map(str::to_owned)
}

/// A text: plain, as Server has it, or a document of Atlassian's format.
fn text(value: &Value) -> Option<String> {
    fn walk(node: &Value, depth: usize, out: &mut String) {
        if depth > 64 {
            return;
        }
        if let Some(text) = node["text"].as_str() {
            out.push_str(text);
        }
        if node["type"] == "hardBreak" {
            out.push('\n');
        }
        for child in node["content"].as_array().into_iter().flatten() {
            walk(child, depth + 1, out);
        }
        if matches!(node["type"].as_str(), Some("paragraph" | "heading" | "listItem" | "codeBlock")) && !out.ends_with('\n') {
            out.push('\n');
        }
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Object(_) => {
            let mut out = String::new();
            walk(value, 0, &mut out);
            Some(out.trim_end().to_owned())
        }
        _ => None,
    }
}

/// Whether it is the key of an issue: `ABC-12`.
pub(super) fn is_key(text: &str) -> bool {
    let Some((project, number)) = text.split_once('-') else { return false };
    let letter = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    let good = project.len() <= 50 && project.starts_with(|c: char| c.is_ascii_uppercase()) && project.bytes().all(letter);
    good && (1..=20).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}
