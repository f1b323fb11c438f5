//! The rows of the marketplace that need no login, and its page.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::app::{App, fresh_dir};
use crate::skillport::{Shop, new_skill, said, shell};

#[test]
fn s1_1_streamable_http_is_served_in_full() {
    let app = App::start("skillport", &[], &[]);
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let opened = app.wire().post("/mcp", &[], &hello.to_string());
        let session = opened.header("mcp-session-id").unwrap_or_else(|| panic!("{revision}: {}", opened.text())).to_owned();
        assert_eq!(opened.messages()[0]["result"]["protocolVersion"], revision);
        let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", revision)];
        let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(app.wire().post("/mcp", &headers, &note.to_string()).status, 202);
        assert_eq!(app.events("/mcp", &headers).status, 200);
        let call = json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": {"name": "skillport_auth", "arguments": {}}});
        let called = app.wire().post("/mcp", &headers, &call.to_string());
        assert!(
            called.messages()[0]["result"]["content"][0]["text"].as_str().unwrap().contains("sk_api_"),
            "{revision}: {}",
            called.text()
        );
        assert!(app.wire().request("DELETE", "/mcp", &headers, None).status < 300);
        assert_eq!(app.wire().post("/mcp", &headers, &call.to_string()).status, 404, "{revision}: it is over");
        assert_eq!(app.wire().post("/mcp", &[("mcp-protocol-version", revision)], &call.to_string()).status, 400, "{revision}: no session");
    }
    let mut client = app.http("/mcp", &[]);
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    assert!(client.json("skillport_auth", json!({}))["token"].is_string());
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list")];
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let listed = app.wire().post("/mcp", &headers, &body.to_string());
    assert_eq!(listed.messages()[0]["result"]["tools"][0]["name"], "skillport_auth", "{}", listed.text());
}

#[test]
fn s1_2_http_sse_is_served_in_full() {
    let app = App::start("skillport", &[], &[]);
    let mut client = app.sse("/sse", &[]);
    assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    assert!(client.json("skillport_auth", json!({}))["token"].is_string());
    // On the wire: an endpoint first, messages that are taken and answered on the stream, and an end.
    let mut stream = app.events("/sse", &[]);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let endpoint = stream.event().unwrap();
    assert_eq!(endpoint.name, "endpoint");
    let ping = json!({"jsonrpc": "2.0", "id": 7, "method": "ping"}).to_string();
    let taken = app.wire().post(&endpoint.data, &[], &ping);
    assert_eq!((taken.status, taken.text().as_str()), (202, "Accepted"));
    let answer = stream.event().unwrap();
    assert_eq!(
        (answer.name.as_str(), serde_json::from_str::<Value>(&answer.data).unwrap()),
        ("message", json!({"jsonrpc": "2.0", "id": 7, "result": {}}))
    );
    assert_eq!(app.wire().post(&endpoint.data, &[], "{").status, 400);
    assert_eq!(app.wire().post("/sse/message", &[], &ping).status, 400, "which stream?");
    assert_eq!(app.wire().post("/sse/message?sessionId=11b56c40dc7a4ce991278998bcace54f", &[], &ping).status, 404, "one that never was");
    drop(stream);
    let is_over = |_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        app.wire().post(&endpoint.data, &[], &ping).status == 404
    };
    assert!((0..100).any(is_over), "one that has gone");
}

#[test]
fn s1_4_paths_lead_where_they_say_and_others_nowhere() {
    let app = App::start("skillport", &[], &[]);
    assert!(app.sse("/sse", &[]).tools().len() == 1 && app.http("/mcp", &[]).tools().len() == 1);
    for path in ["/ssex", "/sse/other", "/other", "/mcpx", "/api"] {
        assert_eq!(app.get(path).status, 404, "{path}");
        assert_eq!(app.post(path, &json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).status, 404, "{path}");
    }
}

#[test]
fn s1_5_messages_of_a_stream_go_to_sse_message() {
    let app = App::start("skillport", &[], &[]);
    let event = app.events("/sse", &[]).event().unwrap();
    assert!(event.name == "endpoint" && event.data.starts_with("/sse/message?sessionId="), "{event:?}");
}

#[test]
fn s1_17_what_never_comes_by_a_transport_can_be_seen() {
    let app = App::start("skillport", &[], &[("SKILLPORT_REPORT_S", "1")]);
    let count = |wire: &str| {
        let text = app.get("/metrics").text();
        let own = format!("client_transport=\"{wire}\"");
        let lines = text.lines().filter(|line| line.starts_with("landbridge_calls_total{") && line.contains(&own));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum::<u64>()
    };
    let came = |door: &str| {
        let line = format!("landbridge_requests_total{{door=\"{door}\",refused=\"false\"}} ");
        let text = app.get("/metrics").text();
        text.lines().find_map(|text| text.strip_prefix(&line)?.parse::<u64>().ok()).unwrap_or_else(|| panic!("{text}"))
    };
    assert_eq!((came("sse"), came("sse_messages"), came("http")), (0, 0, 0), "what never came is there as nothing");
    let mut sse = app.sse("/sse", &[]);
    sse.tools();
    assert_eq!((came("sse"), came("sse_messages"), came("http")), (1, 3, 0));
    assert!(count("sse") > 0 && count("http") == 0, "nothing came to /mcp, and that can be seen");
    // In the log as well, without anybody who asks.
    let log = said(&app, "requests so far");
    let line = log.lines().find(|line| line.contains("requests so far")).unwrap();
    assert!(line.contains("http 0 (0 refused)") && line.contains("sse_messages 3 (0 refused)"), "{line}");
    assert!(line.contains("nobody uses Streamable HTTP"), "{line}");
    assert!(log.contains("door=\"sse\"") && !log.contains("door=\"http\""), "and the first request of each: {log}");
    app.http("/mcp", &[]).tools();
    assert_eq!((came("sse"), came("sse_messages"), came("http")), (1, 3, 3));
    assert!(count("http") > 0);
    said(&app, "http 3 (0 refused)");
}

#[test]
fn s1_24_a_page_and_the_log_prove_that_the_server_is_reached() {
    let app = App::start("skillport", &[], &[("SKILLPORT_REPORT_S", "1")]);
    let page = app.get_with("/diagnostics", &[("user-agent", "a-client-that-says-nothing"), ("x-forwarded-proto", "https")]).json();
    assert_eq!((&page["reached"], &page["host"]), (&json!(true), &json!(format!("127.0.0.1:{}", app.port))));
    assert_eq!((&page["forwarded"]["proto"], &page["sessions"]), (&json!("https"), &json!(0)));
    assert!(page["doors"].as_array().unwrap().iter().all(|door| door["came"] == 0 && door["seconds_ago"].is_null()), "{page}");
    assert!(page["findings"][0].as_str().unwrap().contains("no client has come here yet"), "{page}");
    let log = said(&app, "a-client-that-says-nothing");
    assert!(!log.contains("the first request"), "{log}");
    let mut client = app.http("/mcp", &[]);
    client.tools();
    let page = app.get("/diagnostics").json();
    assert_eq!(page["sessions"], 1);
    let http = page["doors"].as_array().unwrap().iter().find(|door| door["door"] == "http").unwrap();
    assert!(http["came"] == 3 && http["seconds_ago"].as_u64().unwrap() < 30, "{page}");
    assert!(page["findings"][0].as_str().unwrap().contains("nobody uses HTTP+SSE"), "{page}");
    said(&app, "the first request came to this door");
}

#[test]
fn s1_26_clients_of_the_old_transport_are_served() {
    let app = App::start("skillport", &[], &[]);
    let mut both = [app.sse("/sse", &[]), app.sse("/sse", &[])];
    for client in &mut both {
        assert!(client.json("skillport_auth", json!({}))["token"].is_string());
    }
}

#[test]
fn s1_28_which_transports_there_are_is_configured() {
    let sse = App::start("skillport", &[], &[("SKILLPORT_TRANSPORTS", "sse")]);
    assert_eq!(sse.sse("/sse", &[]).tools(), ["skillport_auth"]);
    assert_eq!((sse.post("/mcp", &json!({})).status, sse.get("/servers/skillport/mcp").status), (404, 404));
    let http = App::start("skillport", &["--mode", "http"], &[("SKILLPORT_TRANSPORTS", "http")]);
    assert_eq!(http.http("/mcp", &[]).tools(), ["skillport_auth"]);
    assert_eq!((http.get("/sse").status, http.post("/sse/message?sessionId=x", &json!({})).status), (404, 404));
    let both = App::start("skillport", &[], &[("SKILLPORT_TRANSPORTS", "both")]);
    assert!(both.sse("/sse", &[]).tools().len() == 1 && both.http("/mcp", &[]).tools().len() == 1);
}

#[test]
fn s1_31_the_old_transport_is_taken_away_by_a_setting() {
    let app = App::start("skillport", &["--mode", "http"], &[("SKILLPORT_TRANSPORTS", "http")]);
    for path in ["/sse", "/messages", "/message", "/sse/message", "/servers/skillport/sse"] {
        assert_eq!(app.get_with(path, &[("accept", "text/event-stream")]).status, 404, "{path}");
    }
    assert_eq!(app.get_with("/mcp", &[("accept", "text/event-stream")]).status, 405, "no stream without a session");
    assert_eq!(app.get("/").json()["mcp"]["endpoint"], "/mcp");
}

#[test]
fn s1_33_the_root_says_what_this_is() {
    let app = App::start("skillport", &[], &[]);
    let root = app.get("/").json();
    assert_eq!((&root["name"], &root["mcp"]), (&json!("skillport"), &json!({"endpoint": "/sse", "version": "2025-06-18"})));
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let server = app.post("/mcp", &hello).messages()[0]["result"]["serverInfo"].clone();
    assert_eq!((&server["name"], &server["version"]), (&root["name"], &root["version"]));
}

#[test]
fn s1_39_every_action_leaves_a_whole_line() {
    let shop = Shop::of(App::start("skillport", &[], &[("SKILLPORT_TOOLS", "full")]));
    let mut client = shop.app.http("/mcp", &[]);
    shop.get("/api/skills?surface=CC");
    shop.fails("GET", "/api/skills?surface=XX", None, 400, "XX");
    shop.get("/api/skills/plain-letters");
    shop.post("/api/skills/tidy", &new_skill("tidy", "home"));
    shop.post("/api/skills/tidy/publish", &json!({"description": "x", "tags": ["surface:CC"]}));
    shop.post("/api/skills/tidy/bump", &json!({"type": "minor"}));
    for kind in ["install", "edit"] {
        let given = shop.get(&format!("/api/skills/tidy/{kind}"));
        let token = given[format!("{kind}_token")].as_str().unwrap().to_owned();
        assert_eq!(shop.app.get(&format!("/api/{kind}/{token}")).status, 200);
        assert!(!shop.app.said().contains(&token));
    }
    shop.post("/api/check-updates", &json!({"installed": []}));
    shop.get("/api/whoami");
    shop.get("/api/debug/plugins");
    client.json("skillport_auth", json!({"operation": "bootstrap"}));
    client.json("fetch_skill", json!({"name": "tidy"}));
    client.json("fetch_skill_for_editing", json!({"name": "tidy"}));
    client.json("list_plugins", json!({}));
    client.json("get_plugin", json!({"name": "home"}));
    shop.ask("DELETE", "/api/skills/tidy?confirm=true", None);
    shop.fails("GET", "/api/skills/nothing/install", None, 404, "no skill");
    // A name cannot write a line of its own.
    shop.fails("GET", "/api/skills/x%0A2026-01-01%20audit%20forged", None, 400, "a-z");
    let said = said(&shop.app, "forged");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(" INFO audit user=")).collect();
    let has = |parts: &[&str]| {
        let found = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(found, "{parts:?}: {said}");
    };
    for (action, skill, plugin) in [
        ("details", "plain-letters", "writing"),
        ("save", "tidy", "home"),
        ("publish", "tidy", "home"),
        ("bump", "tidy", "home"),
        ("install", "tidy", "home"),
        ("edit", "tidy", "home"),
        ("download", "tidy", "home"),
        ("download to edit", "tidy", "home"),
        ("fetch", "tidy", "home"),
        ("fetch to edit", "tidy", "home"),
        ("delete", "tidy", "home"),
        ("bootstrap", "skillport", "skillport"),
    ] {
        has(&[&format!("action=\"{action}\""), &format!("skill=\"{skill}\""), &format!("plugin=\"{plugin}\""), "outcome=\"ok\""]);
    }
    for action in ["auth", "list", "check updates", "whoami", "debug plugins", "list plugins"] {
        has(&[&format!("action=\"{action}\""), "outcome=\"ok\""]);
    }
    has(&["action=\"list\"", "surface=\"CC\"", "outcome=\"ok\""]);
    has(&["action=\"list\"", "surface=\"XX\"", "outcome=\"invalid_request\""]);
    has(&["action=\"plugin\"", "plugin=\"home\""]);
    has(&["action=\"install\"", "skill=\"nothing\"", "outcome=\"not_found\""]);
    for line in &lines {
        let time = line.split(' ').next().unwrap();
        assert!(time.len() >= 20 && time.starts_with("20") && time.ends_with('Z'), "with the time: {line}");
        assert!(line.contains("user=\"local:local\"") && line.contains("name=\"local user\""), "with who: {line}");
    }
    assert!(!said.contains(&shop.token), "{said}");
    // Also where little else is said.
    let quiet = Shop::start(&[("LOG_LEVEL", "warn,audit=info")]);
    quiet.get("/api/skills");
    self::said(&quiet.app, "action=\"list\"");
}

#[test]
fn s1_39_on_standard_streams_too() {
    let dir = fresh_dir("skillport-audit");
    let mut command = crate::app::command(&dir, "skillport", &[("SKILLPORT_TOOLS", "full")]);
    let log = dir.join("log");
    command.args(["--mode", "stdio"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "whoami", "arguments": {}}});
    let lines = format!("{hello}\n{}\n{call}\n", json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, lines.as_bytes()).unwrap();
    let found = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        std::fs::read_to_string(&log).unwrap().contains("action=\"whoami\"")
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(found, "{}", std::fs::read_to_string(&log).unwrap());
    std::fs::remove_dir_all(dir).unwrap();
}

const PAGE: &str = include_str!("../../../docs/skillport.md");

/// The blocks of the page in that language.
fn blocks(language: &str) -> Vec<&'static str> {
    PAGE.split(&format!("```{language}\n")).skip(1).filter_map(|block| block.split("```").next()).collect()
}

#[test]
fn the_commands_of_the_page_work() {
    let all = blocks("sh");
    let start: Vec<&str> = all[0].split_whitespace().collect();
    assert_eq!(start, ["landbridge-apps", "skillport", "--port", "8788"]);
    let app = App::start("skillport", &[], &[]);
    let commands = format!("set -e\n{}", all[1..].join("\n")).replace("8788", &app.port.to_string());
    let home = fresh_dir("skillport-page");
    let (good, said) = shell(&home, &commands, &[]);
    for part in [
        "plain-letters",
        "Installed plain-letters",
        "\"action\":\"created\"",
        "\"newVersion\":\"1.1.0\"",
        "Fetched hello",
        "\"hasUpdates\":true",
        "\"pluginDeleted\":true",
    ] {
        assert!(good && said.contains(part), "{part}: {said}");
    }
    std::fs::remove_dir_all(home).unwrap();
}

#[test]
fn s1_13_the_documented_entry_of_a_client_works() {
    let entry: Value = serde_json::from_str(blocks("json")[0]).unwrap();
    let entry = &entry["mcpServers"]["skillport"];
    assert_eq!(entry["type"], "http");
    let path = entry["url"].as_str().unwrap().strip_prefix("http://127.0.0.1:8788").unwrap();
    let app = App::start("skillport", &[], &[]);
    assert_eq!(app.http(path, &[]).tools(), ["skillport_auth"]);
}

#[test]
fn s1_14_the_documented_url_of_a_connector_works() {
    let path = PAGE.split("`https://YOUR.HOST").nth(1).and_then(|rest| rest.split('`').next()).unwrap();
    let app = App::start("skillport", &[], &[]);
    assert_eq!(app.sse(path, &[]).tools(), ["skillport_auth"]);
}

#[test]
fn s1_21_it_runs_on_standard_streams() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let dir = fresh_dir("skillport-stdio");
    let mut command = crate::app::command(&dir, "skillport", &[("CONNECTOR_URL", "https://mcp.example.com")]);
    let mut child = command.args(["--mode", "stdio"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut stdin = child.stdin.take().unwrap();
    let mut ask = |message: Value| {
        writeln!(stdin, "{message}").unwrap();
        stdin.flush().unwrap();
    };
    ask(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}));
    let mut next = || serde_json::from_str::<Value>(&answers.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["id"], 1);
    ask(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    ask(json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "skillport_auth", "arguments": {}}}));
    let told = next();
    let given: Value = serde_json::from_str(told["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(given["base_url"], "https://mcp.example.com");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s1_22_a_bridge_passes_messages_on() {
    let app = App::start("skillport", &[], &[]);
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().unwrap().data;
    // What a program on standard streams said, as it is.
    let lines = [
        r#"{"method":"initialize","params":{"clientInfo":{"version":"0","name":"bridge"},"capabilities":{},"protocolVersion":"2024-11-05"},"jsonrpc":"2.0","id":"one"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"id":0,"jsonrpc":"2.0","method":"tools/list"}"#,
    ];
    let pass_on = |line: &str| assert_eq!(app.wire().post(&endpoint, &[], line).status, 202);
    pass_on(lines[0]);
    assert_eq!(stream.message().unwrap()["id"], "one");
    pass_on(lines[1]);
    pass_on(lines[2]);
    assert_eq!(stream.message().unwrap()["result"]["tools"][0]["name"], "skillport_auth");
}

#[test]
fn s1_40_the_version_that_a_client_claims_changes_nothing() {
    let app = App::start("skillport", &[], &[]);
    let answers: Vec<Value> = ["2.0.9", "2.0.10", "99.0.0"]
        .map(|version| {
            let agent = format!("claude-code/{version}");
            let headers = [("user-agent", agent.as_str())];
            let (mut sse, mut http) = (app.sse("/sse", &headers), app.http("/mcp", &headers));
            json!([sse.ask("tools/list", json!({})), http.ask("tools/list", json!({}))])
        })
        .into();
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}
