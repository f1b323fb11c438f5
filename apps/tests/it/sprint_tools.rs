//! Rows S3 of the list: the tools, resources and prompts, against a Jira and a GitHub of our own.

use serde_json::{Value, json};

use crate::app::{App, Client, fresh_dir, run};
use crate::sprint_servers::{Failure, Flavour, Servers, start};

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
        ("github_search_commits_by_message", json!({"owner": "x", "repo": "y", "query": "\"\" --"}), "no word to look for"),
        ("jira_get_sprint", json!({"sprint_id": 1.5}), "sprint_id must be"),
        ("jira_get_sprint", json!({"sprint_id": "99999999999999999999"}), "sprint_id must be"),
        ("jira_get_sprint_issues", json!({"sprint_id": 1, "fields": ["a&b"]}), "fields has"),
        ("jira_get_issue_details", json!({"issue_key": "ABC-1/../../x"}), "issue_key is"),
        ("github_get_commits", json!({"owner": "x", "repo": ".."}), "no name at GitHub"),
        ("github_get_commits", json!({"owner": "x", "repo": "y", "per_page": 1e300}), "per_page must be"),
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
        assert_eq!(found["total"], 26, "pages of three");
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
    assert!(csv.contains("SHOP-101,'=Sell | SHOP-101 <b>,Story,Done,yes"), "{csv}");
    // It was not done when the sprint was over.
    assert!(csv.contains("SHOP-103,'=Sell | SHOP-103 <b>,Story,In Progress,no"), "{csv}");
    let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 7);
    let formulas = |cell: &&str| cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    assert_eq!(rows.iter().flatten().filter(formulas).count(), 0, "{csv}");
    assert!(rows[3][1].starts_with("'@SUM(A1)\n| not | a | row |"), "{csv}");
    // What others write stays what it is: text, in its own cell.
    assert!(
        html.contains(
            "<td class=\"long\">&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt; &quot;&#39;&amp;amp;</td>"
        ),
        "{html}"
    );
    assert!(!html.contains("<img") && !html.contains('\u{0}') && !html.contains('\u{7}') && html.contains("漢字"));
    assert!(![&html, &markdown].iter().any(|text| text.contains('\u{202e}')), "what would turn the rest of the line around");
    assert!(
        markdown.contains("| SHOP-102 | &lt;script>alert(1)&lt;/script>&lt;img src=x onerror=alert(2)> \"'&amp;amp; | Bug |"),
        "{markdown}"
    );
    let row = markdown.lines().find(|line| line.starts_with("| SHOP-104 |")).unwrap();
    assert!(
        row.starts_with(
            r"| SHOP-104 | @SUM(A1) \| not \| a \| row \|  \# nor a heading \[x\](javascript:alert(3)) \`code\` \*\*bold\*\* | Story |"
        ),
        "{row}"
    );
    assert!(markdown.lines().all(|line| !line.starts_with("# nor") && !line.starts_with("| not |")), "{markdown}");
    assert_eq!(serde_json::from_str::<Value>(&report("json", "default")).unwrap()["burndown"]["unit"], "points");
    // For those who want to look at it.
    if let Ok(path) = std::env::var("SPRINT_SHOW") {
        for theme in ["default", "dark", "corporate"] {
            std::fs::write(format!("{path}/{theme}.html"), report("html", theme)).unwrap();
        }
    }
    app.kill();

    let app = App::start_in(&dir, "sprint", &[], &[]);
    let listed = app.get("/api/reports").json();
    assert!(listed["reports"].as_array().unwrap().len() >= 4);
    let oldest = listed["reports"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap();
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

/// The text of the failure of a call that asks Jira, and how often it asked.
fn fails(servers: &Servers, client: &mut Client, sprint: u64) -> (String, usize) {
    servers.asked();
    let why = failure(client, "jira_get_sprint", json!({"sprint_id": sprint, "include_issues": false}));
    (why, servers.asked().len())
}

#[test]
fn sprint_who_was_left_alone_is_tried_once() {
    let servers = Servers::start(Flavour::Server);
    let app = with(&servers, &[("SPRINT_BREAKER_MS", "1000"), ("SPRINT_RETRY_MS", "1")]);
    let mut client = app.http("/mcp", &[]);
    servers.fail(&[500; 6]);
    assert_eq!(fails(&servers, &mut client, 101).1, 3);
    assert_eq!(fails(&servers, &mut client, 101).1, 2);
    assert_eq!(fails(&servers, &mut client, 101).1, 0);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let (why, asked) = fails(&servers, &mut client, 101);
    assert!(asked == 1 && why.contains("5 times in a row"), "{asked}: {why}");
    assert_eq!(fails(&servers, &mut client, 101).1, 0);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    for sprint in [101, 102] {
        assert_eq!(client.json("jira_get_sprint", json!({"sprint_id": sprint, "include_issues": false}))["id"], sprint);
    }
}

#[test]
fn sprint_who_is_silent_breaks_off_or_sends_us_elsewhere_is_told_of() {
    let silence = || Failure::Silence(std::time::Duration::from_millis(900));
    let servers = Servers::start(Flavour::Server);
    let app = with(&servers, &[("SPRINT_TIMEOUT_MS", "300"), ("SPRINT_RETRY_MS", "1")]);
    let mut client = app.http("/mcp", &[]);
    servers.fail_as([silence(), silence(), silence()]);
    let (why, asked) = fails(&servers, &mut client, 101);
    assert!(asked == 3 && why.ends_with("Jira: it did not answer in time"), "{asked}: {why}");
    // Once is no failure.
    servers.fail_as([silence()]);
    assert_eq!(client.json("jira_get_sprint", json!({"sprint_id": 101, "include_issues": false}))["id"], 101);
    let elsewhere = |location: &str| Failure::Status(302, vec![("location", location.to_owned())], "");
    servers.fail_as([elsewhere(&format!("http://127.0.0.1:{}/rest/agile/1.0/sprint/103", servers.port))]);
    let (why, asked) = fails(&servers, &mut client, 103);
    assert!(asked == 1 && why.contains("sends us elsewhere"), "{asked}: {why}");
    servers.fail_as([Failure::Status(410, vec![], "This API is gone")]);
    assert!(fails(&servers, &mut client, 104).0.contains("Jira: it answered 410: This API is gone"));

    // Half an answer, each time.
    let half = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", half.local_addr().unwrap());
    let answers = std::thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = half.accept().unwrap();
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]).unwrap();
            std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"id\":").unwrap();
        }
    });
    let app = with(&servers, &[("JIRA_BASE_URL", &url), ("SPRINT_RETRY_MS", "1")]);
    let why = failure(&mut app.http("/mcp", &[]), "jira_get_sprint", json!({"sprint_id": 101}));
    assert!(why.ends_with("Jira: its answer broke off"), "{why}");
    answers.join().unwrap();
}

#[test]
fn sprint_who_asks_for_fewer_requests_gets_none() {
    let retry = |seconds: u64| vec![("retry-after", seconds.to_string())];
    let soon = (jiff::Timestamp::now().as_second() + 40).to_string();
    let used_up = vec![("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", soon)];
    let secondary = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    for (failure, seconds) in [
        (Failure::Status(429, retry(120), ""), 120),
        (Failure::Status(403, used_up, "API rate limit exceeded"), 40),
        (Failure::Status(403, retry(60), secondary), 60),
        // GitHub asks for a minute where it names no time.
        (Failure::Status(403, vec![], secondary), 60),
    ] {
        let servers = Servers::start(Flavour::Cloud);
        let app = with(&servers, &[]);
        let mut client = app.http("/mcp", &[]);
        servers.fail_as([failure]);
        let why = crate::sprint_tools::failure(&mut client, "github_get_commits", json!({}));
        let told: u64 = why.rsplit_once("try again in ").unwrap().1.trim_end_matches(" s").parse().unwrap();
        assert!(told.abs_diff(seconds) <= 2, "{why}");
        assert_eq!(servers.asked().len(), 1, "{why}");
        let why = crate::sprint_tools::failure(&mut client, "github_get_pull_requests", json!({}));
        assert!(why.contains("GitHub: it asked for fewer requests; it is asked again in"), "{why}");
        assert_eq!(servers.asked().len(), 0);
        // Jira has nothing to do with it.
        assert_eq!(client.json("jira_get_sprint", json!({"sprint_id": 101, "include_issues": false}))["id"], 101);
    }
    // A short wait is waited for; what is forbidden is no limit.
    let servers = Servers::start(Flavour::Cloud);
    let app = with(&servers, &[]);
    let mut client = app.http("/mcp", &[]);
    let begun = std::time::Instant::now();
    servers.fail_as([Failure::Status(429, retry(1), "")]);
    client.text("github_get_commits", json!({}));
    assert!(begun.elapsed().as_millis() >= 1_000 && servers.asked().len() == 2);
    servers.fail_as([Failure::Status(403, vec![], "Resource not accessible by personal access token")]);
    let why = failure(&mut client, "github_get_pull_requests", json!({}));
    assert!(why.contains("we may not (403): Resource not accessible") && servers.asked().len() == 1, "{why}");
    client.text("github_get_pull_requests", json!({}));
}

#[test]
fn sprint_a_page_that_is_just_full_is_neither_the_last_nor_lost() {
    let servers = Servers::start(Flavour::Cloud);
    let app = with(&servers, &[]);
    let mut client = app.http("/mcp", &[]);
    // Changes: two are shown with the issue, and there are two; or four.
    let mut changes = |key: &str| {
        let issue = client.json("jira_get_issue_details", json!({"issue_key": key, "expand": ["changelog"]}));
        let more = servers.asked().iter().filter(|line| line.contains("/changelog?")).count();
        (issue["statusHistory"].as_array().map(Vec::len), more)
    };
    assert_eq!((changes("SHOP-101"), changes("SHOP-108")), ((Some(2), 0), (Some(4), 2)));
    // Jira gives five at once, of seven.
    let mut issues = |most: u64| {
        let found = client.json("jira_get_sprint_issues", json!({"sprint_id": 106, "max_results": most, "fields": ["summary"]}));
        let pages = servers.asked().iter().filter(|line| line.contains("/sprint/106/issue?")).count();
        (keys(&found).len(), pages)
    };
    assert_eq!((issues(4), issues(5), issues(6), issues(7), issues(1000)), ((4, 1), (5, 1), (6, 2), (7, 2), (7, 2)));
    // GitHub says nothing of how many there are: a hundred may be all, or not.
    let until = |n: i64| (start(106) + jiff::SignedDuration::from_hours(n * 2 - 1)).to_string();
    let mut commits = |n: i64, key: &str| {
        let found = client.json(
            "github_find_commits_with_jira_references",
            json!({"issue_keys": [key], "since": start(106).to_string(), "until": until(n)}),
        );
        let pages = servers.asked().iter().filter(|line| line.contains("/commits?")).count();
        (found[key].as_array().map(Vec::len), pages)
    };
    assert_eq!((commits(99, "SHOP-102"), commits(100, "SHOP-102")), ((Some(1), 1), (Some(1), 2)));
    assert_eq!((commits(120, "SHOP-103"), commits(121, "SHOP-103")), ((Some(0), 2), (Some(1), 2)));
}

#[test]
fn sprint_one_that_was_emptied_still_knows_what_it_had() {
    for servers in both() {
        let app = with(&servers, &[]);
        let all = app.http("/mcp", &[]).json("generate_comprehensive_report", json!({"sprint_id": 100}));
        let report = &all["report"];
        assert_eq!((&report["metrics"]["totalIssues"], &report["metrics"]["completionRate"]), (&json!(0), &json!(0.0)));
        let scope = &report["tier1"]["scopeChanges"];
        assert_eq!(
            (&scope["removed"][0]["key"], &scope["netPoints"], &report["tier1"]["goal"]["achieved"]),
            (&json!("SHOP-1"), &json!(-4.0), &json!(false))
        );
        let left: Vec<f64> = report["burndown"]["days"].as_array().unwrap().iter().map(|day| day["remaining"].as_f64().unwrap()).collect();
        assert_eq!(left[..4], [4.0, 4.0, 0.0, 0.0]);
    }
}

/// Whatever somebody calls them with, tools answer in words, and nobody is asked for anything strange.
#[test]
fn sprint_hostile_arguments_are_refused_in_words() {
    let servers = Servers::start(Flavour::Cloud);
    let app = with(&servers, &[("SPRINT_REQUESTS_PER_MINUTE", "0"), ("JIRA_REQUESTS_PER_MINUTE", "100000")]);
    let mut client = app.http("/mcp", &[]);
    let tools = client.ask("tools/list", json!({}))["result"]["tools"].clone();
    let good = |name: &str| match name {
        "board_id" => json!(1),
        "sprint_id" => json!(106),
        "issue_key" => json!("SHOP-101"),
        "issue_keys" => json!(["SHOP-101"]),
        "jql" => json!("project = SHOP"),
        "query" => json!("mend"),
        other => panic!("{other} is needed?"),
    };
    let hostile = [
        json!(-1),
        json!(0),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!(" "),
        json!("../../etc/passwd"),
        json!("%2e%2e%2f?x=1#y"),
        json!("'; DROP TABLE x; --"),
        json!("a\u{0}b\r\nX-Evil: 1"),
        json!("＿９Ａ\u{202e}"),
        json!("x".repeat(20_000)),
        json!([]),
        json!([[]]),
        json!(vec!["x"; 2_000]),
        json!({"$gt": ""}),
        json!(true),
    ];
    let mut refused = 0;
    for tool in tools.as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        let needed = tool["inputSchema"]["required"].as_array().unwrap();
        let usual: serde_json::Map<String, Value> =
            needed.iter().map(|name| (name.as_str().unwrap().to_owned(), good(name.as_str().unwrap()))).collect();
        assert_eq!(client.call(name, Value::Object(usual.clone()))["isError"], false, "{name}");
        for property in tool["inputSchema"]["properties"].as_object().unwrap().keys() {
            for value in &hostile {
                let mut arguments = usual.clone();
                arguments.insert(property.clone(), value.clone());
                let result = client.call(name, Value::Object(arguments));
                let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{name} {property} {value}: {result}"));
                if result["isError"] == true {
                    refused += 1;
                    assert!(text.starts_with(&format!("Error executing tool {name}: ")) && text.len() < 21_000, "{text}");
                }
            }
        }
    }
    assert!(refused > 900, "{refused}");
    let strange = |line: &String| {
        let path = line.split('?').next().unwrap_or_default();
        path.contains("..") || path.contains('%') || path.contains("passwd")
    };
    let strange: Vec<String> = servers.asked().into_iter().filter(strange).collect();
    assert_eq!(strange, [""; 0]);
    assert_eq!(app.get("/health").json()["status"], "healthy");
}

#[test]
fn sprint_twelve_at_once_get_a_report_each() {
    let servers = Servers::start(Flavour::Cloud);
    let app = with(&servers, &[]);
    let port = app.port;
    let ids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let ask = || {
            let mut client = Client::over_http(port, "/mcp", &[]);
            let all = client.json("generate_comprehensive_report", json!({"sprint_id": 106, "tier3": true}));
            assert_eq!(all["report"]["metrics"]["completedStoryPoints"], 15.0);
            all["metadata"]["reportId"].as_str().unwrap().to_owned()
        };
        let all: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 12);
    let listed = app.get("/api/reports").json();
    assert!(listed["reports"].as_array().unwrap().iter().all(|report| ids.contains(report["id"].as_str().unwrap())), "{listed}");
    assert_eq!(listed["reports"].as_array().map(Vec::len), Some(12));
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
