//! Rows S3 of the list: the tools, resources and prompts, against a Jira and a GitHub of our own.

use serde_json::{Value, json};

use crate::app::{App, Client, fresh_dir, run};
use crate::sprint_servers::{Flavour, Servers};

fn with(servers: &Servers, more: &[(&str, &str)]) -> App {
    App::start("sprint", &[], &merged(servers, more))
}

fn merged<'v>(servers: &Servers, more: &[(&'v str, &'v str)]) -> Vec<(&'v str, &'v str)> {
    let own: Vec<(String, String)> = servers.variables();
    let own = own.into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    // A test is short; what it leaks is little.
    let own = own.map(|(name, value)| (&*name.leak(), &*value.leak()));
    own.map(|(name, value): (&str, &str)| (name, value)).chain(more.iter().copied()).filter(|(_, value)| !value.is_empty()).collect()
}

fn both() -> [Servers; 2] {
    [Servers::start(Flavour::Cloud), Servers::start(Flavour::Server)]
}

fn failure(client: &mut Client, tool: &str, arguments: Value) -> String {
    let result = client.call(tool, arguments);
    assert_eq!(result["isError"], true, "{result}");
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

fn keys(issues: &Value) -> Vec<&str> {
    issues.as_array().unwrap().iter().map(|issue| issue["key"].as_str().unwrap()).collect()
}

#[test]
fn s3_12_the_tool_of_the_document_is_known_and_not_shown() {
    for servers in both() {
        let app = with(&servers, &[]);
        let mut client = app.sse("/sse", &[]);
        let report = client.text("get_sprint_report", json!({"boardId": 1, "sprintId": 106}));
        assert!(report.starts_with("# Sprint report: SHOP Sprint 6"), "{report}");
        assert!(!client.tools().contains(&"get_sprint_report".to_owned()));
    }
}

#[test]
fn s3_16_a_host_or_a_url_names_jira() {
    let why = |variables: &[(&str, &str)]| {
        let app = App::start("sprint", &[], variables);
        failure(&mut app.http("/mcp", &[]), "jira_get_sprint", json!({"sprint_id": 1}))
    };
    assert!(why(&[("JIRA_EMAIL", "a"), ("JIRA_API_TOKEN", "b")]).ends_with("Jira is not configured: set JIRA_HOST (or JIRA_BASE_URL)"));
    // A bare host is asked by HTTPS, which nobody speaks there.
    let given = [
        ("JIRA_HOST", "127.0.0.1:9"),
        ("JIRA_EMAIL", "a"),
        ("JIRA_API_TOKEN", "b"),
        ("SPRINT_RETRY_MS", "1"),
        ("SPRINT_ALLOW_PRIVATE", "true"),
    ];
    assert!(why(&given).contains("Jira: it cannot be reached"));
    let dir = fresh_dir("sprint");
    for (url, said) in [
        ("http://127.0.0.1:1", "SPRINT_ALLOW_PRIVATE"),
        ("http://169.254.169.254", "no address of a service"),
        ("ftp://x", "JIRA_BASE_URL"),
    ] {
        let (well, told) = run(&dir, "sprint", &[], &[("JIRA_BASE_URL", url), ("JIRA_EMAIL", "a"), ("JIRA_API_TOKEN", "b")]);
        assert!(!well && told.contains(said), "{told}");
    }
}

#[test]
fn s3_17_jira_knows_us_by_either_kind_of_token() {
    let servers = Servers::start(Flavour::Server);
    for (kind, email) in [("basic", "ada@example.com"), ("bearer", "")] {
        let app = with(&servers, &[("JIRA_AUTH_TYPE", kind), ("JIRA_EMAIL", email)]);
        let health = app.http("/mcp", &[]).json("health_check", json!({}));
        assert_eq!(health["services"]["jira"], json!({"status": "healthy", "user": "Ada"}), "{kind}");
    }
    let app = with(&servers, &[("JIRA_API_TOKEN", "wrong-secret")]);
    let why = failure(&mut app.http("/mcp", &[]), "jira_get_sprint", json!({"sprint_id": 106}));
    assert!(why.contains("401") && why.contains("JIRA_API_TOKEN") && !why.contains("wrong-secret"), "{why}");
}

#[test]
fn s3_18_the_environment_names_the_repository_that_is_meant() {
    let servers = Servers::start(Flavour::Cloud);
    let app = with(&servers, &[]);
    let mut client = app.http("/mcp", &[]);
    let commits = client.json("github_get_commits", json!({"per_page": 2}));
    assert_eq!((commits[0]["author"].as_str(), commits.as_array().map(Vec::len)), (Some("Ada"), Some(2)));
    assert!(failure(&mut client, "github_get_commits", json!({"repo": "other"})).contains("404"));
    let app = with(&servers, &[("GITHUB_REPO", ""), ("GITHUB_TOKEN", "")]);
    let mut client = app.http("/mcp", &[]);
    assert!(failure(&mut client, "github_get_commits", json!({})).contains("GITHUB_REPO"));
    assert!(failure(&mut client, "github_get_commits", json!({"repo": "shop"})).contains("set GITHUB_TOKEN"));
}

#[test]
fn s3_34_a_tool_that_fails_says_which_and_why() {
    let app = App::start("sprint", &[], &[]);
    let mut client = app.sse("/sse", &[]);
    let why = failure(&mut client, "jira_get_sprint", json!({"sprint_id": 1}));
    assert_eq!(
        why,
        "Error executing tool jira_get_sprint: Jira is not configured: set JIRA_HOST (or JIRA_BASE_URL), JIRA_EMAIL, JIRA_API_TOKEN"
    );
    assert!(failure(&mut client, "nothing", json!({})).starts_with("Error executing tool nothing: there is no such tool"));
    for (tool, arguments, said) in [
        ("jira_get_sprint", json!({}), "sprint_id is missing"),
        ("jira_get_sprint", json!({"sprint_id": "x"}), "sprint_id must be"),
        ("jira_get_sprints", json!({"board_id": 1, "state": "open"}), "state is"),
        ("jira_get_issue_details", json!({"issue_key": "abc"}), "issue_key is"),
        ("jira_search_issues", json!({"jql": "x".repeat(1001)}), "jql must have"),
        ("github_get_commits", json!({"owner": "../x", "repo": "y"}), "no name at GitHub"),
        ("github_get_commits", json!({"owner": "x", "repo": "y", "since": "2024-01-01", "until": "2026-01-01"}), "365"),
        ("github_find_commits_with_jira_references", json!({"owner": "x", "repo": "y", "issue_keys": []}), "issue_keys must be"),
        ("generate_sprint_report", json!({"sprint_id": 1, "format": "pdf"}), "format must be one of"),
        ("get_sprint_metrics", json!({"sprint_id": 1, "velocity_history_count": 11}), "from 1 to 10"),
    ] {
        assert!(failure(&mut client, tool, arguments).contains(said), "{tool}: {said}");
    }
}

#[test]
fn s3_42_too_many_calls_are_refused_for_now() {
    // A server that takes a connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let app = App::start("sprint", &[], &[("GITHUB_TOKEN", "t"), ("GITHUB_API_URL", &url), ("SPRINT_ALLOW_PRIVATE", "true")]);
    let mut stream = app.events("/sse", &[]);
    let endpoint: String = serde_json::from_str(&stream.event().unwrap().data).unwrap();
    let call = |n: u64| {
        let call = json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "github_get_commits", "arguments": {"owner": "a", "repo": "b"}}});
        app.post(&endpoint, &call)
    };
    let refused = (0..60).map(call).find(|response| response.status != 202).expect("a refusal");
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert!(refused.header("retry-after").is_some(), "{:?}", refused.headers);
}

#[test]
fn s3_47_all_fifteen_tools_work_at_either_jira() {
    for servers in both() {
        let app = with(&servers, &[]);
        let mut client = app.sse("/sse", &[]);
        assert_eq!(client.tools().len(), 15);
        let sprints = client.json("jira_get_sprints", json!({"board_id": "1", "state": "closed,active"}));
        assert_eq!(sprints.as_array().map(Vec::len), Some(7), "pages of two");
        assert_eq!(client.json("jira_get_sprints", json!({"boardId": 1}))[0]["id"], 107);

        let issues = client.json("jira_get_sprint_issues", json!({"sprint_id": 106}));
        assert_eq!(keys(&issues), ["SHOP-101", "SHOP-102", "SHOP-103", "SHOP-104", "SHOP-106", "SHOP-107", "SHOP-108"]);
        assert_eq!((&issues[0]["storyPoints"], &issues[0]["epicName"]), (&json!(5.0), &json!("Christmas")));
        let few = client.json("jira_get_sprint_issues", json!({"sprint_id": 106, "fields": ["summary"], "max_results": 2}));
        assert_eq!((keys(&few).len(), few[0]["fields"].as_object().map(|all| all.len())), (2, Some(1)));
        assert_eq!(client.json("jira_get_sprint", json!({"sprint_id": 106}))["issues"].as_array().map(Vec::len), Some(7));
        assert!(client.json("jira_get_sprint", json!({"sprint_id": 106, "include_issues": false})).get("issues").is_none());

        // Cloud shows two changes at once.
        let issue = client.json("jira_get_issue_details", json!({"issue_key": "SHOP-108", "expand": ["changelog", "comments"]}));
        assert_eq!(issue["statusHistory"].as_array().map(Vec::len), Some(4));
        assert_eq!((&issue["cycleTime"], &issue["comments"][0]["body"]), (&json!(4.0), &json!("Details, for those who read them")));
        assert!(failure(&mut client, "jira_get_issue_details", json!({"issue_key": "SHOP-999"})).contains("404"));

        // Words that were taken for commands once.
        let found = client.json("jira_search_issues", json!({"jql": "project = SHOP AND text ~ \"update or delete\""}));
        assert_eq!(found["total"], 25, "pages of three");
        assert_eq!(client.json("jira_search_issues", json!({"jql": "project = SHOP", "max_results": 4}))["total"], 4);
        assert!(failure(&mut client, "jira_search_issues", json!({"jql": "bad"})).contains("Error in the JQL Query"));

        assert_eq!(client.json("github_get_pull_requests", json!({"state": "open"}))[0]["reviewers"], json!(["bob"]));
        let found = client.json("github_search_commits_by_message", json!({"query": "till repo:evil/other"}));
        assert_eq!(found, json!([]), "a qualifier is a word");
        assert_eq!(client.json("github_search_commits_by_message", json!({"query": "mend"})).as_array().map(Vec::len), Some(4));
        let merged =
            client.json("github_search_pull_requests_by_date", json!({"state": "merged", "since": "2026-03-01", "until": "2026-04-30"}));
        assert_eq!((merged.as_array().map(Vec::len), &merged[0]["state"]), (Some(1), &json!("merged")));
        let found = client.json("github_find_commits_with_jira_references", json!({"issue_keys": ["SHOP-101", "SHOP-103", "SHOP-1"]}));
        let count = |key: &str| found[key].as_array().map(Vec::len);
        assert_eq!((count("SHOP-101"), count("SHOP-103"), count("SHOP-1")), (Some(2), Some(1), Some(0)), "the second page too");

        let metrics = client.json("get_sprint_metrics", json!({"sprint_id": 106, "include_velocity": true, "include_burndown": true}));
        assert_eq!((&metrics["metrics"]["completionRate"], &metrics["metrics"]["completedStoryPoints"]), (&json!(71.4), &json!(15.0)));
        let left: Vec<f64> =
            metrics["metrics"]["burndown"]["days"].as_array().unwrap().iter().map(|day| day["remaining"].as_f64().unwrap()).collect();
        assert_eq!(left, [22.0, 22.0, 22.0, 22.0, 17.0, 19.0, 16.0, 13.0, 15.0, 13.0, 14.0, 14.0, 14.0, 9.0, 9.0]);
        let velocity = &metrics["metrics"]["velocityHistory"];
        let done: Vec<f64> = velocity["sprints"].as_array().unwrap().iter().map(|pace| pace["completed"].as_f64().unwrap()).collect();
        assert_eq!((done, &velocity["sprints"][2]["committed"]), (vec![10.0, 10.0, 15.0], &json!(22.0)));

        let all = client.json("generate_comprehensive_report", json!({"sprint_id": 106, "include_tier3": true, "forward_looking": true}));
        let report = &all["report"];
        assert_eq!((&all["success"], &report["tier1"]["scopeChanges"]["netPoints"]), (&json!(true), &json!(2.0)));
        assert_eq!(report["tier1"]["scopeChanges"]["removed"][0]["key"], "SHOP-105");
        assert_eq!(report["tier1"]["spillover"]["points"], 9.0);
        assert_eq!(report["tier2"]["blockers"][0]["reason"], "Impediment");
        assert_eq!((&report["forecast"]["trend"], &report["forecast"]["confidence"]), (&json!("increasing"), &json!("high")));
        assert_eq!(report["pullRequests"]["SHOP-101"][0]["number"], 1);
        assert_eq!(client.json("health_check", json!({}))["status"], "healthy");
        let stats = client.json("cache_stats", json!({"include_detailed_breakdown": true, "reset_stats": true}));
        assert!(stats["breakdown"]["Jira"]["hits"].as_u64().unwrap() > 0, "{stats}");
        assert_eq!(client.json("cache_stats", json!({}))["hits"], 0);
    }
}

#[test]
fn sprint_reports_are_written_in_four_formats_and_kept() {
    let servers = Servers::start(Flavour::Cloud);
    let dir = fresh_dir("sprint");
    let app = App::start_in(&dir, "sprint", &[], &merged(&servers, &[]));
    let mut client = app.http("/mcp", &[]);
    let mut report = |format: &str, theme: &str| {
        let mut arguments = json!({"sprint_id": 106, "format": format, "theme": theme});
        for part in ["commits", "prs", "velocity", "burndown", "tier1", "tier2", "tier3", "forward_looking", "enhanced_github"] {
            arguments[format!("include_{part}")] = true.into();
        }
        client.text("generate_sprint_report", arguments)
    };
    let html = report("html", "dark");
    assert_eq!(html.matches("<svg ").count(), 2);
    assert!(html.contains("Sell &lt;more&gt; &amp; faster") && !html.contains("<b>") && !html.contains("<script"), "escaped");
    let markdown = report("markdown", "default");
    assert!(markdown.contains("| SHOP-101 | =Sell \\| SHOP-101 &lt;b> |") && markdown.contains("mend the till"), "{markdown}");
    let csv = report("csv", "default");
    assert_eq!(csv.lines().count(), 8);
    assert!(csv.contains("SHOP-101,'=Sell | SHOP-101 <b>,Story,Done,yes"), "{csv}");
    // It was not done when the sprint was over.
    assert!(csv.contains("SHOP-103,'=Sell | SHOP-103 <b>,Story,In Progress,no"), "{csv}");
    assert_eq!(serde_json::from_str::<Value>(&report("json", "default")).unwrap()["burndown"]["unit"], "points");
    if let Ok(path) = std::env::var("SPRINT_SHOW") {
        std::fs::write(path, &html).unwrap();
    }
    app.kill();

    let app = App::start_in(&dir, "sprint", &[], &[]);
    let listed = app.get("/api/reports").json();
    assert_eq!(listed["reports"].as_array().map(Vec::len), Some(4));
    let oldest = listed["reports"][3]["id"].as_str().unwrap();
    let page = app.get(&format!("/api/reports/{oldest}"));
    assert_eq!((page.text(), page.header("content-type")), (html, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().contains("sandbox"));
    assert_eq!(app.wire().request("DELETE", &format!("/api/reports/{oldest}"), &[], None).status, 204);
    assert_eq!((app.get(&format!("/api/reports/{oldest}")).status, app.get("/api/reports/..%2f..%2fx").status), (404, 404));
    drop(app);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn sprint_who_fails_is_asked_again_and_then_left_alone() {
    let servers = Servers::start(Flavour::Server);
    let app = with(&servers, &[("SPRINT_BREAKER_MS", "60000")]);
    let mut client = app.http("/mcp", &[]);
    let mut sprint = |id: u64| client.call("jira_get_sprint", json!({"sprint_id": id, "include_issues": false}));
    servers.fail(&[503, 429]);
    assert_eq!(sprint(101)["isError"], false);
    assert_eq!(servers.asked().len(), 3);
    assert_eq!(sprint(101)["isError"], false);
    assert_eq!(servers.asked().len(), 0, "it is known");
    servers.fail(&[404]);
    assert_eq!(sprint(102)["isError"], true);
    assert_eq!(servers.asked().len(), 1, "that is an answer");
    servers.fail(&[500; 6]);
    assert!(sprint(103)["content"][0]["text"].as_str().unwrap().contains("500: out of order"));
    assert_eq!(sprint(104)["isError"], true);
    let why = sprint(105);
    assert!(why["content"][0]["text"].as_str().unwrap().contains("5 times in a row"), "{why}");
    assert_eq!(servers.asked().len(), 5);
}

#[test]
fn sprint_a_search_that_is_gone_is_not_insisted_on() {
    let servers = Servers::start(Flavour::Cloud);
    // It is Cloud, and nobody has told us.
    let app = with(&servers, &[("JIRA_DEPLOYMENT", "server")]);
    let found = app.http("/mcp", &[]).json("jira_search_issues", json!({"jql": "project = SHOP", "max_results": 7}));
    assert_eq!(found["total"], 7);
    let asked = servers.asked();
    assert!(asked[0].ends_with("/rest/api/2/search") && asked[1].ends_with("/rest/api/3/search/jql"), "{asked:?}");
}

#[test]
fn sprint_resources_and_prompts_are_there() {
    let servers = Servers::start(Flavour::Cloud);
    let app = with(&servers, &[]);
    let mut client = app.sse("/sse", &[]);
    client.text("generate_sprint_report", json!({"sprint_id": 106}));
    let uris = client.ask("resources/list", json!({}));
    let uris: Vec<String> =
        uris["result"]["resources"].as_array().unwrap().iter().map(|one| one["uri"].as_str().unwrap().to_owned()).collect();
    assert_eq!(uris.len(), 6);
    let mut read = |uri: &str| client.ask("resources/read", json!({"uri": uri}));
    let mut json = |uri: &str| -> Value { serde_json::from_str(read(uri)["result"]["contents"][0]["text"].as_str().unwrap()).unwrap() };
    assert_eq!(json("sprint://active")["sprints"][0]["id"], 107);
    assert_eq!(json("sprint://recent")["sprints"][0]["id"], 106);
    assert_eq!(json("analytics://dashboard")["reports"], 1);
    assert_eq!(json("health://status")["status"], "healthy");
    assert!(!json("config://server").to_string().contains("secret"));
    let report = json("reports://recent")["reports"][0]["uri"].as_str().unwrap().to_owned();
    assert!(read(&report)["result"]["contents"][0]["text"].as_str().unwrap().starts_with("# Sprint report"));
    assert!(read("reports://nothing")["error"]["message"].as_str().unwrap().contains("no resource"));

    let prompts = client.ask("prompts/list", json!({}));
    assert_eq!(prompts["result"]["prompts"].as_array().map(Vec::len), Some(5));
    let mut prompt = |name: &str, arguments: Value| client.ask("prompts/get", json!({"name": name, "arguments": arguments}));
    let text = prompt("generate-sprint-report", json!({"sprint_id": "106"}));
    assert!(text["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("sprint 106 with format markdown"), "{text}");
    let text = prompt("compare-sprints", json!({"sprint_ids": "105,106"}));
    assert!(text["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("105, 106"), "{text}");
    assert!(prompt("executive-summary", json!({}))["error"]["message"].as_str().unwrap().contains("sprint_id is missing"));
    assert!(prompt("executive-summary", json!({"sprint_id": "1; rm"}))["error"].is_object());
}

#[test]
fn sprint_progress_is_told_while_a_report_is_made() {
    let servers = Servers::start(Flavour::Cloud);
    let app = with(&servers, &[]);
    let mut stream = app.events("/sse", &[]);
    let endpoint: String = serde_json::from_str(&stream.event().unwrap().data).unwrap();
    stream.message();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "generate_sprint_report",
        "arguments": {"sprint_id": 106}, "_meta": {"progressToken": "p"}}});
    assert_eq!(app.post(&endpoint, &call).status, 202);
    let first = stream.message().expect("progress");
    assert_eq!((&first["method"], &first["params"]["total"]), (&json!("notifications/progress"), &json!(4.0)), "{first}");
    while stream.message().expect("more")["id"] != 1 {}
}
