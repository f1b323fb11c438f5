//! A Jira and a GitHub on loopback, with a project of seven sprints.
//!
//! They answer as the real ones do where it matters: Cloud searches by tokens, has no old search (410), shows a part
//! of a changelog and the newest change first; Server has offsets, and sprints as texts. Pages are short.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Cloud,
    Server,
}

pub struct Servers {
    pub port: u16,
    seen: Arc<Seen>,
}

struct Seen {
    flavour: Flavour,
    /// What the next requests get instead of an answer.
    failures: Mutex<VecDeque<Failure>>,
    asked: Mutex<Vec<String>>,
    issues: Vec<Issue>,
}

/// What a request gets instead of an answer.
#[derive(Clone, Debug)]
pub enum Failure {
    /// An answer of that status, with headers and a message.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// Nothing, for that long.
    Silence(Duration),
}

struct Issue {
    key: String,
    kind: &'static str,
    points: Option<f64>,
    created: Timestamp,
    sprints: Vec<u64>,
    status: &'static str,
    assignee: Option<&'static str>,
    flagged: bool,
    labels: Vec<&'static str>,
    /// When, which field, from, to.
    changes: Vec<(Timestamp, &'static str, String, String)>,
}

/// When a sprint began: every fortnight one, and number 107 a week ago.
pub fn start(sprint: u64) -> Timestamp {
    let first: Timestamp = "2026-01-05T09:00:00Z".parse().unwrap();
    match sprint {
        107 => Timestamp::now() - SignedDuration::from_hours(7 * 24),
        _ => first + SignedDuration::from_hours(14 * 24 * (sprint as i64 - 101)),
    }
}

fn sprint(id: u64) -> Value {
    let (start, end) = (start(id), start(id) + SignedDuration::from_hours(14 * 24));
    let mut out = json!({
        "id": id, "self": format!("https://jira/rest/agile/1.0/sprint/{id}"), "name": format!("SHOP Sprint {}", id - 100),
        "state": match id { 107 => "active", 108 => "future", _ => "closed" }, "originBoardId": 1, "goal": "Sell <more> & faster",
    });
    if id != 108 {
        out["startDate"] = stamp(start).into();
        out["endDate"] = stamp(end).into();
    }
    if id < 107 {
        out["completeDate"] = stamp(end).into();
    }
    out
}

/// As Jira writes it.
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
}

fn project() -> Vec<Issue> {
    let mut all = Vec::new();
    let mut add = |sprint: u64, key: u64, points: Option<f64>, changes: &[(i64, &'static str, &str, &str)]| {
        let at = |hours: i64| start(sprint) + SignedDuration::from_hours(hours);
        let changes: Vec<_> =
            changes.iter().map(|(hours, field, from, to)| (at(*hours), *field, (*from).to_owned(), (*to).to_owned())).collect();
        let last = changes.iter().rev().find(|(_, field, ..)| *field == "status").map(|(.., to)| to.as_str());
        let status = match last {
            Some("Done") => "Done",
            Some("In Progress") => "In Progress",
            _ => "To Do",
        };
        let last = changes.iter().rev().find(|(_, field, ..)| *field == "Sprint").map(|(.., to)| to.clone());
        let sprints = last.unwrap_or_else(|| sprint.to_string()).split(", ").filter_map(|id| id.parse().ok()).collect();
        all.push(Issue {
            key: format!("SHOP-{key}"),
            kind: if key % 5 == 2 { "Bug" } else { "Story" },
            points,
            created: at(-48),
            sprints,
            status,
            assignee: [Some("Ada"), Some("Bob"), None][key as usize % 3],
            flagged: false,
            labels: if key.is_multiple_of(4) { vec!["tech-debt"] } else { vec![] },
            changes,
        });
    };
    // Five sprints that promised more and kept ten.
    for sprint in 101..106u64 {
        let key = (sprint - 100) * 10;
        add(sprint, key + 1, Some(5.0), &[(26, "status", "To Do", "In Progress"), (74, "status", "In Progress", "Done")]);
        add(sprint, key + 2, Some(5.0), &[(50, "status", "To Do", "In Progress"), (170, "status", "In Progress", "Done")]);
        add(sprint, key + 3, Some((sprint - 100) as f64), &[]);
    }
    // One that was emptied: everything went on to the next.
    add(100, 1, Some(4.0), &[(48, "Sprint", "100", "101"), (400, "Sprint", "101", "")]);
    // One that is counted by hand: day N and two hours.
    let d = |day: i64| day * 24 + 2;
    add(106, 101, Some(5.0), &[(d(1), "status", "To Do", "In Progress"), (d(3), "status", "In Progress", "Done")]);
    add(106, 102, Some(3.0), &[(d(2), "status", "To Do", "In Progress"), (d(5), "status", "In Progress", "Done")]);
    add(
        106,
        103,
        Some(8.0),
        &[(d(2), "status", "To Do", "In Progress"), (d(14), "Sprint", "106", "106, 107"), (d(16), "status", "In Progress", "Done")],
    );
    add(
        106,
        104,
        Some(2.0),
        &[(d(4), "Sprint", "", "106"), (d(6), "status", "To Do", "In Progress"), (d(8), "status", "In Progress", "Done")],
    );
    add(106, 105, Some(3.0), &[(d(6), "Sprint", "106", "")]);
    add(
        106,
        106,
        Some(5.0),
        &[(d(7), "Story Points", "3", "5"), (d(9), "status", "To Do", "In Progress"), (d(12), "status", "In Progress", "Done")],
    );
    add(106, 107, Some(1.0), &[]);
    add(
        106,
        108,
        None,
        &[
            (d(9), "status", "To Do", "In Progress"),
            (d(10), "status", "In Progress", "Done"),
            (d(11), "status", "Done", "To Do"),
            (d(13), "status", "To Do", "Done"),
        ],
    );
    // The one that runs.
    add(107, 201, Some(3.0), &[(26, "status", "To Do", "In Progress"), (50, "status", "In Progress", "Done")]);
    add(107, 202, Some(5.0), &[(98, "status", "To Do", "In Progress")]);
    let born = all.iter_mut().find(|issue| issue.key == "SHOP-107").unwrap();
    (born.created, born.flagged) = (start(106) + SignedDuration::from_hours(d(9)), true);
    born.changes.push((start(106) + SignedDuration::from_hours(d(10)), "Flagged", String::new(), "Impediment".into()));
    all
}

impl Servers {
    pub fn start(flavour: Flavour) -> Servers {
        let seen = Arc::new(Seen { flavour, failures: Mutex::default(), asked: Mutex::default(), issues: project() });
        let (tell, told) = std::sync::mpsc::channel();
        let router = Router::new().fallback(answer).with_state(seen.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                tell.send(listener.local_addr().unwrap().port()).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        Servers { port: told.recv().unwrap(), seen }
    }

    /// The next answers are failures.
    pub fn fail(&self, statuses: &[u16]) {
        let retry = |status: u16| if status == 429 { vec![("retry-after", "0".to_owned())] } else { vec![] };
        self.fail_as(statuses.iter().map(|status| Failure::Status(*status, retry(*status), "out of order")));
    }

    /// The same, in other ways.
    pub fn fail_as(&self, failures: impl IntoIterator<Item = Failure>) {
        self.seen.failures.lock().unwrap().extend(failures);
    }

    /// What was asked so far, and forgets it.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.asked.lock().unwrap())
    }

    /// The environment of an application that asks them.
    pub fn variables(&self) -> Vec<(String, String)> {
        let url = format!("http://127.0.0.1:{}", self.port);
        let deployment = if self.seen.flavour == Flavour::Cloud { "cloud" } else { "server" };
        let all = [
            ("JIRA_BASE_URL", url.as_str()),
            ("JIRA_EMAIL", "ada@example.com"),
            ("JIRA_API_TOKEN", "jira-secret"),
            ("JIRA_DEPLOYMENT", deployment),
            ("GITHUB_TOKEN", "github-secret"),
            ("GITHUB_OWNER", "acme"),
            ("GITHUB_REPO", "shop"),
            ("GITHUB_API_URL", &format!("{url}/github")),
            ("SPRINT_ALLOW_PRIVATE", "true"),
            ("SPRINT_RETRY_MS", "20"),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }
}

async fn answer(State(seen): State<Arc<Seen>>, headers: HeaderMap, request: Request) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_else(|_| Bytes::new());
    seen.asked.lock().unwrap().push(format!("{method} {uri}"));
    let failure = seen.failures.lock().unwrap().pop_front();
    match failure {
        Some(Failure::Status(status, headers, said)) => {
            // Jira says it one way, GitHub the other.
            let mut response = axum::Json(json!({"errorMessages": [said], "message": said})).into_response();
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            return response;
        }
        Some(Failure::Silence(time)) => tokio::time::sleep(time).await,
        None => {}
    }
    let query = pairs(uri.query().unwrap_or_default());
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = uri.path();
    let answer = if let Some(path) = path.strip_prefix("/github") {
        if authorization == "Bearer github-secret" { github(path, &query) } else { Err((401, json!({"message": "Bad credentials"}))) }
    } else {
        // ada@example.com:jira-secret, or a token of Server's.
        let known = ["Basic YWRhQGV4YW1wbGUuY29tOmppcmEtc2VjcmV0", "Bearer jira-secret"].contains(&authorization);
        let body = serde_json::from_slice(&body).unwrap_or_default();
        if known {
            jira(&seen, method.as_str(), path, &query, &body)
        } else {
            Err((401, json!({"message": "Client must be authenticated"})))
        }
    };
    match answer {
        Ok(value) => axum::Json(value).into_response(),
        Err((status, value)) => (StatusCode::from_u16(status).unwrap(), axum::Json(value)).into_response(),
    }
}

fn pairs(query: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let (mut out, mut rest) = (Vec::new(), text.replace('+', " ").into_bytes().into_iter());
        while let Some(byte) = rest.next() {
            let hex = |b: u8| (b as char).to_digit(16).unwrap() as u8;
            out.push(if byte == b'%' { hex(rest.next().unwrap()) * 16 + hex(rest.next().unwrap()) } else { byte });
        }
        String::from_utf8(out).unwrap()
    };
    query.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value))).collect()
}

type Answer = Result<Value, (u16, Value)>;

fn no(status: u16, why: &str) -> Answer {
    Err((status, json!({"errorMessages": [why], "errors": {}})))
}

/// A page of offsets, at most `cap` long.
fn page(all: Vec<Value>, name: &str, start: usize, wanted: usize, cap: usize) -> Value {
    let (total, size) = (all.len(), wanted.min(cap));
    let part: Vec<Value> = all.into_iter().skip(start).take(size).collect();
    let last = start + part.len() >= total;
    if name == "issues" {
        json!({"startAt": start, "maxResults": size, "total": total, "issues": part})
    } else {
        json!({"startAt": start, "maxResults": size, "isLast": last, name: part})
    }
}

fn jira(seen: &Seen, method: &str, path: &str, query: &HashMap<String, String>, body: &Value) -> Answer {
    let number = |name: &str, usual: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (from, wanted) = (number("startAt", 0), number("maxResults", 50));
    let cloud = seen.flavour == Flavour::Cloud;
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, &parts[..]) {
        ("GET", ["rest", "api", version, "myself"]) if (*version == "3") == cloud => Ok(json!({"displayName": "Ada"})),
        ("GET", ["rest", "api", version, "status"]) if (*version == "3") == cloud => Ok(
            json!([{"name": "In Progress", "statusCategory": {"key": "indeterminate"}}, {"name": "Done", "statusCategory": {"key": "done"}}]),
        ),
        ("GET", ["rest", "agile", "1.0", "board"]) => {
            Ok(page(vec![json!({"id": 1, "name": "SHOP", "type": "scrum"})], "values", from, wanted, 50))
        }
        ("GET", ["rest", "agile", "1.0", "board", "1", "sprint"]) => {
            let states = query.get("state").cloned().unwrap_or_else(|| "active,closed,future".into());
            let all = (101..=108).map(sprint).filter(|one| states.split(',').any(|state| one["state"] == state));
            Ok(page(all.collect(), "values", from, wanted, 2))
        }
        ("GET", ["rest", "agile", "1.0", "board", "1", "project"]) => {
            Ok(page(vec![json!({"id": "1", "key": "SHOP"})], "values", from, wanted, 50))
        }
        ("GET", ["rest", "agile", "1.0", "board", ..]) => no(404, "Board does not exist or you do not have permission to see it."),
        ("GET", ["rest", "agile", "1.0", "sprint", id, rest @ ..]) => {
            let id: u64 = id.parse().unwrap_or(0);
            if !(100..=108).contains(&id) {
                return no(404, "Sprint does not exist");
            }
            if rest.is_empty() {
                return Ok(sprint(id));
            }
            let expand = query.get("expand").is_some_and(|text| text.contains("changelog"));
            let all = seen.issues.iter().filter(|issue| issue.sprints.contains(&id)).map(|issue| show(seen, issue, expand, None));
            Ok(page(all.collect(), "issues", from, wanted, 5))
        }
        ("GET", ["rest", "api", version, "issue", key, rest @ ..]) if (*version == "3") == cloud => {
            let Some(issue) = seen.issues.iter().find(|issue| issue.key == *key) else {
                return no(404, "Issue does not exist or you do not have permission to see it.");
            };
            if rest == ["changelog"] && cloud {
                return Ok(page(histories(issue), "values", from, wanted, 2));
            }
            Ok(show(seen, issue, query.get("expand").is_some_and(|text| text.contains("changelog")), None))
        }
        ("POST", ["rest", "api", _, "search"]) if cloud => {
            no(410, "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API.")
        }
        ("POST", ["rest", "api", "2", "search"]) => {
            let all = find(seen, body, false)?;
            let at = |name: &str, usual: u64| body[name].as_u64().unwrap_or(usual) as usize;
            Ok(page(all, "issues", at("startAt", 0), at("maxResults", 50), 3))
        }
        ("POST", ["rest", "api", "3", "search", "jql"]) if cloud => {
            let all = find(seen, body, true)?;
            let from: usize = match body["nextPageToken"].as_str() {
                Some(token) => {
                    token.strip_prefix("after-").and_then(|n| n.parse().ok()).ok_or((400, json!({"errorMessages": ["bad token"]})))?
                }
                None => 0,
            };
            let size = (body["maxResults"].as_u64().unwrap_or(50) as usize).min(3);
            let part: Vec<Value> = all.iter().skip(from).take(size).cloned().collect();
            let end = from + part.len();
            let mut out = json!({"issues": part, "isLast": end >= all.len()});
            if end < all.len() {
                out["nextPageToken"] = format!("after-{end}").into();
            }
            Ok(out)
        }
        _ => no(404, "null for uri"),
    }
}

/// The issues of a query: as much of the language as is used.
fn find(seen: &Seen, body: &Value, cloud: bool) -> Result<Vec<Value>, (u16, Value)> {
    let jql = body["jql"].as_str().unwrap_or_default();
    let mut found: Vec<&Issue> = seen.issues.iter().collect();
    for part in jql.split(" AND ").map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(names) = part.strip_prefix("project in (") {
            found.retain(|_| names.contains("SHOP"));
        } else if part == "project = SHOP" || part.starts_with("text ~") {
        } else if let Some(id) = part.strip_prefix("(sprint is EMPTY OR sprint not in (") {
            let id: u64 = id.trim_end_matches(')').parse().unwrap();
            found.retain(|issue| !issue.sprints.contains(&id));
        } else if let Some(at) = part.strip_prefix("updated >= ") {
            let at: Timestamp = format!("{}:00Z", at.trim_matches('"').replace(' ', "T")).parse().unwrap();
            found.retain(|issue| updated(issue) >= at);
        } else {
            return Err((400, json!({"errorMessages": [format!("Error in the JQL Query: {part}")]})));
        }
    }
    let expand = body["expand"].as_str() == Some("changelog") || body["expand"][0] == "changelog";
    let fields: Option<Vec<&str>> = body["fields"].as_array().map(|all| all.iter().filter_map(Value::as_str).collect());
    // Who asks for no field gets none there.
    let fields = if cloud { Some(fields.unwrap_or_default()) } else { fields };
    Ok(found.into_iter().map(|issue| show(seen, issue, expand, fields.as_deref())).collect())
}

impl Issue {
    /// What people write, and what others would like to have run.
    fn summary(&self) -> String {
        match self.key.as_str() {
            "SHOP-102" => "<script>alert(1)</script><img src=x onerror=alert(2)> \"'&amp;".into(),
            "SHOP-104" => "@SUM(A1)\n| not | a | row |\r\n# nor a heading [x](javascript:alert(3)) `code` **bold**".into(),
            "SHOP-106" => "Ünïcode ✓ 漢字 \u{202e}sdrawkcab\u{0}\u{7}".into(),
            key => format!("=Sell | {key} <b>"),
        }
    }
}

fn updated(issue: &Issue) -> Timestamp {
    issue.changes.iter().map(|(at, ..)| *at).max().unwrap_or(issue.created)
}

/// The newest first.
fn histories(issue: &Issue) -> Vec<Value> {
    let one = |(n, (at, field, from, to)): (usize, &(Timestamp, &str, String, String))| {
        let mut item = json!({"field": field, "fieldtype": "jira", "from": null, "fromString": from, "to": null, "toString": to});
        if *field == "Sprint" {
            (item["from"], item["to"]) = (from.as_str().into(), to.as_str().into());
            (item["fromString"], item["toString"]) = ("SHOP Sprint".into(), "SHOP Sprint".into());
        }
        json!({"id": n.to_string(), "author": {"displayName": "Ada"}, "created": stamp(*at), "items": [item]})
    };
    let mut all: Vec<Value> = issue.changes.iter().enumerate().map(one).collect();
    all.reverse();
    all
}

fn show(seen: &Seen, issue: &Issue, expand: bool, fields: Option<&[&str]>) -> Value {
    let cloud = seen.flavour == Flavour::Cloud;
    let category = match issue.status {
        "Done" => "done",
        "In Progress" => "indeterminate",
        _ => "new",
    };
    let sprints: Vec<Value> = issue
        .sprints
        .iter()
        .map(|id| match cloud {
            true => sprint(*id),
            false => format!("com.atlassian.greenhopper.service.sprint.Sprint@1f[id={id},rapidViewId=1,state=CLOSED,name=S,goal=]").into(),
        })
        .collect();
    let text = "Details, for those who read them";
    let document = json!({"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": [{"type": "text", "text": text}]}]});
    let description = if cloud { document } else { text.into() };
    let mut all = json!({
        "summary": issue.summary(), "status": {"name": issue.status, "statusCategory": {"key": category}},
        "assignee": issue.assignee.map(|name| json!({"displayName": name})), "priority": {"name": "High"}, "issuetype": {"name": issue.kind},
        "created": stamp(issue.created), "updated": stamp(updated(issue)), "labels": issue.labels, "components": [{"name": "till"}],
        "fixVersions": [{"name": "1.0"}], "flagged": issue.flagged, "customfield_10016": issue.points, "customfield_10020": sprints,
        "epic": {"key": "SHOP-900", "name": "Christmas"}, "description": description,
        "comment": {"comments": [{"author": {"displayName": "Bob"}, "created": stamp(issue.created), "body": description}]},
    });
    if let (Some(fields), Some(all)) = (fields, all.as_object_mut()) {
        all.retain(|name, _| fields.contains(&name.as_str()));
    }
    let mut out = json!({"id": issue.key[5..], "key": issue.key, "fields": all});
    if expand {
        let all = histories(issue);
        let total = all.len();
        let shown: Vec<Value> = all.into_iter().take(if cloud { 2 } else { 5_000 }).collect();
        out["changelog"] = json!({"startAt": 0, "maxResults": shown.len(), "total": total, "histories": shown});
    }
    out
}

fn github(path: &str, query: &HashMap<String, String>) -> Answer {
    let number = |name: &str, usual: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (size, page) = (number("per_page", 30), number("page", 1));
    let part = |all: Vec<Value>| -> Vec<Value> { all.into_iter().skip((page - 1) * size).take(size).collect() };
    match path {
        "/user" => Ok(json!({"login": "ada"})),
        "/repos/acme/shop/commits" => {
            let within = |commit: &Value| {
                let at = commit["commit"]["committer"]["date"].as_str().unwrap();
                query.get("since").is_none_or(|since| at >= since.as_str()) && query.get("until").is_none_or(|until| at <= until.as_str())
            };
            Ok(part(commits().into_iter().filter(within).collect()).into())
        }
        "/repos/acme/shop/pulls" => {
            let all = pulls().into_iter().map(|(mut pull, merged)| {
                pull["merged_at"] = merged;
                pull["requested_reviewers"] = json!([{"login": "bob"}]);
                pull["head"] = json!({"ref": "fix"});
                pull
            });
            let state = query.get("state").cloned().unwrap_or_default();
            Ok(part(all.filter(|pull| state == "all" || pull["state"] == state.as_str()).collect()).into())
        }
        "/search/commits" | "/search/issues" => {
            let q = &query["q"];
            if !q.contains("repo:acme/shop") {
                return Err((422, json!({"message": "Validation Failed"})));
            }
            let all: Vec<Value> = if path.ends_with("commits") {
                let words: Vec<&str> = q.split(' ').filter(|word| word.starts_with('"')).map(|word| word.trim_matches('"')).collect();
                let fits = |commit: &Value| words.iter().all(|word| commit["commit"]["message"].as_str().unwrap().contains(word));
                commits().into_iter().filter(fits).collect()
            } else {
                let merged_only = q.contains("is:merged");
                let all = pulls().into_iter().filter(|(_, merged)| !merged_only || !merged.is_null());
                // No reviewers, and when it was merged is elsewhere.
                let all = all.map(|(mut pull, merged)| {
                    pull["pull_request"] = json!({"merged_at": merged});
                    pull
                });
                all.collect()
            };
            Ok(json!({"total_count": all.len(), "incomplete_results": false, "items": part(all)}))
        }
        _ => Err((404, json!({"message": "Not Found"}))),
    }
}

/// More than a page; every tenth names an issue of the sprint that is counted by hand.
fn commits() -> Vec<Value> {
    let keys: BTreeMap<usize, &str> = [(0, "SHOP-101"), (10, "SHOP-101"), (20, "SHOP-102"), (120, "SHOP-103")].into();
    let commit = |n: usize| {
        let at = start(106) + SignedDuration::from_hours(n as i64 * 2 + 1);
        let message = keys.get(&n).map_or(format!("Tidy {n}"), |key| format!("{key}: mend the till\n\nAt last."));
        let author = if n.is_multiple_of(2) { "Ada" } else { "Bob" };
        json!({
            "sha": format!("{n:040x}"), "html_url": format!("https://github.com/acme/shop/commit/{n}"), "author": {"login": author.to_lowercase()},
            "commit": {"message": message, "author": {"name": author, "email": "x@example.com"}, "committer": {"date": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}},
        })
    };
    (0..130).map(commit).collect()
}

fn pulls() -> Vec<(Value, Value)> {
    let at = |hours: i64| (start(106) + SignedDuration::from_hours(hours)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let pull = |n: u64, title: &str, state: &str| json!({"number": n, "title": title, "state": state, "user": {"login": "ada"}, "created_at": at(24), "updated_at": at(48), "labels": []});
    vec![(pull(1, "SHOP-101 The till", "closed"), at(48).into()), (pull(2, "Something", "open"), Value::Null)]
}
