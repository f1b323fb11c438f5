//! Rows S3 of the list: the wire.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, command, fresh_dir, run};
use crate::wire::{Stream, Wire};

fn start(variables: &[(&str, &str)]) -> App {
    App::start("sprint", &[], variables)
}

/// A client of the document: it reads `endpoint` as JSON, and takes its id from the notification alone.
fn connect(app: &App) -> (Stream, String) {
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().expect("an endpoint");
    assert_eq!(endpoint.name, "endpoint");
    serde_json::from_str::<Value>(&endpoint.data).expect("JSON");
    let event = stream.event().expect("a message");
    assert_eq!(event.name, "message");
    let message: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(message["method"], "notifications/initialized");
    let id = message["params"]["sessionId"].as_str().expect("an id").to_owned();
    (stream, id)
}

fn message(app: &App, id: &str, body: &Value) -> u16 {
    app.post(&format!("/message?sessionId={id}"), body).status
}

fn list(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": {}})
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it took too long");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn s3_1_a_stream_stays_open_and_yields_an_id() {
    let app = start(&[]);
    let (mut stream, id) = connect(&app);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(message(&app, &id, &list(1)), 202);
    assert_eq!(stream.message().expect("an answer")["id"], 1);
}

#[test]
fn s3_2_messages_are_posted_for_a_session() {
    let app = start(&[]);
    let (_stream, id) = connect(&app);
    let response = app.post(&format!("/message?sessionId={id}"), &list(1));
    assert_eq!((response.status, response.text().as_str()), (202, "Accepted"));
}

#[test]
fn s3_3_answers_are_on_the_stream() {
    let app = start(&[]);
    let (mut stream, id) = connect(&app);
    message(&app, &id, &list(7));
    assert_eq!(stream.message().expect("an answer")["result"]["tools"].as_array().map(Vec::len), Some(15));
}

#[test]
fn s3_4_any_number_of_messages_follows() {
    let app = start(&[]);
    let (mut stream, id) = connect(&app);
    for n in 1..=50 {
        assert_eq!(message(&app, &id, &list(n)), 202);
        assert_eq!(stream.message().expect("an answer")["id"], n);
    }
}

#[test]
fn s3_5_all_endpoints_are_there() {
    let app = start(&[]);
    assert_eq!((app.get("/health").status, app.get("/sessions").status, app.events("/sse", &[]).status), (200, 200, 200));
    assert_eq!(app.post("/message", &list(1)).status, 400);
}

#[test]
fn s3_6_the_endpoint_is_json_and_a_url_too() {
    let app = start(&[]);
    let mut stream = app.events("/sse", &[]);
    let data = stream.event().expect("an endpoint").data;
    let path: String = serde_json::from_str(&data).expect("a string in JSON");
    assert!(path.starts_with("/message?sessionId="));
    // A client of the SDK makes a URL of what is there, quotes and all.
    let url = reqwest::Url::parse(&format!("http://127.0.0.1:{}/sse", app.port)).unwrap().join(&data).unwrap();
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    assert!(path.contains("%22"), "{path}");
    assert_eq!(app.post(&path, &list(3)).status, 202);
    stream.message();
    assert_eq!(stream.message().expect("an answer")["id"], 3);
}

#[test]
fn s3_7_the_id_comes_by_a_notification() {
    let app = start(&[]);
    let (_stream, id) = connect(&app);
    assert_eq!(message(&app, &id, &list(1)), 202);
}

#[test]
fn s3_8_the_id_is_there_within_half_a_second() {
    let app = start(&[]);
    let begun = Instant::now();
    let _open = connect(&app);
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn s3_9_json_is_taken_with_a_success() {
    let app = start(&[]);
    let (_stream, id) = connect(&app);
    let path = format!("/message?sessionId={id}");
    let with = |media: &str| app.wire().post(&path, &[("content-type", media)], &list(1).to_string()).status;
    assert_eq!((with("application/json"), with("application/json; charset=utf-8")), (202, 202));
    assert!(with("text/plain") >= 400);
}

#[test]
fn s3_10_events_of_messages_have_that_name() {
    let app = start(&[]);
    let (mut stream, id) = connect(&app);
    message(&app, &id, &list(1));
    assert_eq!(stream.event().expect("an answer").name, "message");
}

#[test]
fn s3_11_failures_have_a_status_of_their_own() {
    let app = start(&[]);
    assert!(message(&app, "11b56c40-dc7a-4ce9-9127-8998bcace54f", &list(1)) >= 400);
}

#[test]
fn s3_13_tools_are_listed_before_initialize() {
    let app = start(&[]);
    let (mut stream, id) = connect(&app);
    message(&app, &id, &list(1));
    let answer = stream.message().expect("an answer");
    let names: Vec<&str> = answer["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"generate_sprint_report") && !names.contains(&"get_sprint_report"), "{names:?}");
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "cache_stats", "arguments": {}}});
    message(&app, &id, &call);
    assert_eq!(stream.message().expect("an answer")["result"]["isError"], false);
}

#[test]
fn s3_14_the_port_is_3002_or_what_is_said() {
    let dir = fresh_dir("sprint");
    let (_, help) = run(&dir, "sprint", &["--help"], &[]);
    assert!(help.contains("[default: 3002]") && help.contains("MCP_SSE_PORT"), "{help}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (_, said) = run(&dir, "sprint", &[], &[("MCP_SSE_PORT", &port)]);
    assert!(said.contains(&port), "{said}");
}

#[test]
fn s3_15_the_host_is_this_machine_or_what_is_said() {
    let app = start(&[("MCP_SSE_HOST", "localhost")]);
    assert!(app.said().contains("http://127.0.0.1:"));
    let (well, said) = run(&fresh_dir("sprint"), "sprint", &[], &[("MCP_SSE_HOST", "no such host")]);
    assert!(!well && said.contains("no such host"), "{said}");
}

#[test]
fn s3_19_it_starts_again_at_once_in_either_mode_of_node() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = fresh_dir("sprint");
    for node in ["development", "production", "development"] {
        let variables = [("NODE_ENV", node), ("MCP_SSE_PORT", &port.to_string())];
        let mut child = command(&dir, "sprint", &variables).stderr(std::process::Stdio::null()).spawn().unwrap();
        until(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        let mut stream = Wire::connect(port).open("GET", "/sse", &[], None);
        assert_eq!(stream.event().expect("an endpoint").name, "endpoint");
        // With the connection still there.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn s3_20_pages_of_named_origins_may_call() {
    let allowed = |app: &App, origin: &str| {
        let response = app.get_with("/health", &[("Origin", origin)]);
        let header = |name| response.header(name).map(str::to_owned);
        (response.status, header("access-control-allow-origin"), header("access-control-allow-credentials"))
    };
    let app = start(&[]);
    let yes = |origin: &str| (200, Some(origin.to_owned()), Some("true".to_owned()));
    for port in [3000, 3001, 3002, 5173] {
        let origin = format!("http://localhost:{port}");
        assert_eq!(allowed(&app, &origin), yes(&origin));
    }
    let origin = "https://app.example.com";
    assert_eq!(allowed(&app, origin).0, 403);
    let app = start(&[("NODE_ENV", "production"), ("ALLOWED_ORIGINS", "https://example.com, https://app.example.com")]);
    assert_eq!(allowed(&app, origin), yes(origin));
    assert_eq!(allowed(&app, "http://localhost:5173").1, None);
    let preflight = app.wire().request("OPTIONS", "/message", &[("Origin", origin), ("Access-Control-Request-Method", "POST")], None);
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));
}

#[test]
fn s3_21_a_port_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (well, said) = run(&fresh_dir("sprint"), "sprint", &[], &[("MCP_SSE_PORT", &port)]);
    assert!(!well && said.contains("cannot listen on") && said.contains(&port), "{said}");
}

#[test]
fn s3_22_health_is_told_in_json() {
    let app = start(&[]);
    let _open = connect(&app);
    let health = app.get("/health").json();
    assert_eq!((&health["status"], &health["mode"], &health["tools"]), (&json!("healthy"), &json!("sse"), &json!(15)));
    assert_eq!(health["activeSessions"], 1);
    let time = health["timestamp"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.' && time.parse::<jiff::Timestamp>().is_ok(), "{time}");
}

#[test]
fn s3_23_sessions_are_shown_to_this_machine_while_somebody_develops() {
    let app = start(&[]);
    let (_stream, id) = connect(&app);
    assert_eq!(app.get("/sessions").json(), json!({"count": 1, "sessions": [id]}));
    assert_eq!(start(&[("NODE_ENV", "production")]).get("/sessions").status, 404);
    let open = App::start("sprint", &["--host", "0.0.0.0", "--insecure-public"], &[("ALLOWED_HOSTS", "127.0.0.1")]);
    assert_eq!(open.get("/health").status, 200);
    assert_eq!(open.get("/sessions").status, 404);
}

#[test]
fn s3_24_each_connection_has_a_uuid() {
    let app = start(&[]);
    let ((_a, first), (_b, second)) = (connect(&app), connect(&app));
    assert_ne!(first, second);
    for id in [first, second] {
        let dashes: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
        assert_eq!((id.len(), dashes, &id[14..15]), (36, vec![8, 13, 18, 23], "4"));
    }
}

#[test]
fn s3_25_two_clients_have_servers_of_their_own() {
    let app = start(&[]);
    let ((mut a, first), (mut b, second)) = (connect(&app), connect(&app));
    message(&app, &first, &list(1));
    message(&app, &second, &list(1));
    assert_eq!((a.message().expect("one")["id"].clone(), b.message().expect("another")["id"].clone()), (json!(1), json!(1)));
    let (mut one, mut other) = (app.sse("/sse", &[]), app.http("/mcp", &[]));
    assert_eq!(one.tools(), other.tools());
}

#[test]
fn s3_26_a_session_ends_with_its_stream() {
    let app = start(&[]);
    let open = connect(&app);
    assert_eq!(app.get("/health").json()["activeSessions"], 1);
    drop(open);
    until(|| (app.get("/health").json()["activeSessions"] == 0).then_some(()));
}

#[test]
fn s3_27_a_message_without_an_id_is_refused() {
    let app = start(&[]);
    assert_eq!(app.post("/message", &list(1)).status, 400);
}

#[test]
fn s3_28_a_stream_begins_with_its_headers_and_its_endpoint() {
    let app = start(&[]);
    let stream = app.events("/sse", &[]);
    assert!(stream.header("content-type").unwrap().starts_with("text/event-stream"));
    assert!(stream.header("cache-control").unwrap().contains("no-"), "{:?}", stream.headers);
    connect(&app);
}

#[test]
fn s3_29_a_message_goes_to_the_session_it_names() {
    let app = start(&[]);
    let ((_a, _), (mut b, second)) = (connect(&app), connect(&app));
    message(&app, &second, &list(9));
    assert_eq!(b.message().expect("an answer")["id"], 9);
}

#[test]
fn s3_30_a_missing_id_is_a_bad_request_in_json() {
    let app = start(&[]);
    let response = app.post("/message", &list(1));
    assert_eq!((response.status, response.header("content-type")), (400, Some("application/json")));
    assert!(response.json()["error"].is_string());
}

#[test]
fn s3_31_an_unknown_id_is_not_found_in_json() {
    let app = start(&[]);
    let response = app.post("/message?sessionId=11b56c40-dc7a-4ce9-9127-8998bcace54f", &list(1));
    assert_eq!(response.status, 404);
    assert!(response.json()["error"].is_string() && response.json()["message"].is_string());
}

#[test]
fn s3_32_a_fault_of_ours_is_a_500_in_json() {
    let app = start(&[]);
    let response = app.post("/api/tools/jira_get_sprint", &json!({"sprint_id": 1}));
    assert_eq!(response.status, 500);
    assert!(response.json()["error"].is_string());
    assert!(response.json()["message"].as_str().unwrap().contains("JIRA_HOST"), "{}", response.text());
    assert_eq!(app.post("/api/tools/nothing", &json!({})).status, 404);
    assert_eq!(app.post("/api/tools/jira_get_sprint", &json!([])).status, 400);
}

#[test]
fn s3_33_a_connection_that_breaks_leaves_no_session() {
    let app = start(&[]);
    let mut wire = Wire::connect(app.port);
    wire.write(b"GET /sse HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    until(|| (app.get("/health").json()["activeSessions"] == 1).then_some(()));
    wire.socket().shutdown(std::net::Shutdown::Both).unwrap();
    until(|| (app.get("/health").json()["activeSessions"] == 0).then_some(()));
}

#[test]
fn s3_35_what_is_no_message_is_refused() {
    let app = start(&[]);
    let (_stream, id) = connect(&app);
    let path = format!("/message?sessionId={id}");
    for body in ["{", "", "7", r#"{"jsonrpc":"1.0"}"#] {
        assert_eq!(app.wire().post(&path, &[], body).status, 400, "{body}");
    }
    let status = app.wire().post(&path, &[("content-type", "text/plain")], "{}").status;
    assert!(matches!(status, 400 | 415), "{status}");
    let mut long = list(1);
    long["params"]["x"] = "x".repeat(4 * 1024 * 1024).into();
    assert_eq!(app.post(&path, &long).status, 413);
    assert_eq!(app.post(&path, &list(2)).text(), "Accepted");
}

#[test]
fn s3_36_only_our_own_names_and_origins_are_answered() {
    let app = start(&[("ALLOWED_HOSTS", "sprint.example.com")]);
    let host = |name: &str| app.get_with("/health", &[("host", name)]).status;
    let port = app.port;
    assert_eq!((host("localhost"), host(&format!("localhost:{port}")), host("127.0.0.1")), (200, 200, 200));
    assert_eq!((host("sprint.example.com"), host("evil.example.com")), (200, 403));
    assert_eq!(app.get_with("/sse", &[("Origin", "https://evil.example.com")]).status, 403);
}

#[test]
fn s3_37_keys_guard_streams_and_messages() {
    let app = start(&[("MCP_API_KEY_1", "a-key-that-nobody-guesses:ada")]);
    assert_eq!((app.get("/sse").status, app.post("/message", &list(1)).status, app.get("/api/reports").status), (401, 401, 401));
    assert_eq!(app.get("/health").status, 200);
    let key = [("Authorization", "Bearer a-key-that-nobody-guesses")];
    assert_eq!(app.sse("/sse", &key).tools().len(), 15);
    assert!(!app.said().contains("nobody-guesses"));
}

#[test]
fn s3_38_clients_that_lost_their_stream_are_told_how_long_to_wait() {
    let app = start(&[]);
    let mut stream = app.events("/sse", &[]);
    let mut retry = None;
    for _ in 0..2 {
        retry = retry.or(stream.event().expect("an event").retry);
    }
    // Who is told nothing waits for three seconds, as browsers do.
    assert!(retry.is_none_or(|ms| (500..=30_000).contains(&ms)), "{retry:?}");
    drop(stream);
    connect(&app);
}

#[test]
fn s3_39_an_idle_stream_is_kept_alive() {
    let app = start(&[]);
    let (mut stream, _id) = connect(&app);
    assert_eq!(stream.event_or_comment().expect("a heartbeat").name, ":");
}

#[test]
fn s3_40_no_message_ends_the_process() {
    let app = start(&[]);
    let (mut stream, id) = connect(&app);
    for (n, params) in [json!({"name": 7}), json!([]), json!({"name": "cache_stats", "arguments": 7}), json!(null)].into_iter().enumerate()
    {
        app.post(&format!("/message?sessionId={id}"), &json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": params}));
    }
    message(&app, &id, &list(99));
    until(|| (stream.message().expect("an answer")["id"] == 99).then_some(()));
    assert_eq!(app.get("/health").status, 200);
}

#[test]
fn s3_41_stale_sessions_are_swept() {
    // Who has no stream has no session; nothing is left to go stale.
    let app = start(&[]);
    let open: Vec<_> = (0..20).map(|_| connect(&app)).collect();
    assert_eq!(app.get("/sessions").json()["count"], 20);
    drop(open);
    until(|| (app.get("/sessions").json()["count"] == 0).then_some(()));
}

#[test]
fn s3_43_faults_are_logged_and_secrets_are_not() {
    let variables = [
        ("LOG_LEVEL", "debug"),
        ("GITHUB_TOKEN", "ghp-never-shown"),
        ("GITHUB_API_URL", "http://127.0.0.1:9"),
        ("SPRINT_RETRY_MS", "1"),
        ("SPRINT_ALLOW_PRIVATE", "true"),
    ];
    let app = start(&variables);
    let mut client = app.sse("/sse", &[]);
    assert_eq!(client.call("github_get_commits", json!({"owner": "a", "repo": "b"}))["isError"], true);
    until(|| app.said().contains("GitHub: it cannot be reached").then_some(()));
    assert!(!app.said().contains("ghp-never-shown"));
}

#[test]
fn s3_44_http_2_is_spoken_over_tls() {
    let dir = fresh_dir("sprint");
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let request = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1";
    let made =
        std::process::Command::new("openssl").args(request.split(' ')).arg("-keyout").arg(&key).arg("-out").arg(&cert).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let app = start(&[("TLS_CERT", cert.to_str().unwrap()), ("TLS_KEY", key.to_str().unwrap())]);
    let url = format!("https://127.0.0.1:{}/health", app.port);
    let got = std::process::Command::new("curl")
        .args(["-s", "--http2", "-w", " %{http_version}", "--cacert"])
        .arg(&cert)
        .arg(url)
        .output()
        .unwrap();
    let said = String::from_utf8(got.stdout).unwrap();
    assert!(said.contains("healthy") && said.ends_with(" 2"), "{said}");
    let (well, said) = run(&dir, "sprint", &[], &[("TLS_CERT", "cert.pem")]);
    assert!(!well && said.contains("TLS_KEY"), "{said}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn s3_45_frames_are_text() {
    let app = start(&[]);
    let (mut stream, id) = connect(&app);
    message(&app, &id, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "nö\u{0}\n", "arguments": {}}}));
    let data = stream.event().expect("an answer").data;
    assert!(!data.contains('\n') && serde_json::from_str::<Value>(&data).is_ok());
}

#[test]
fn s3_46_every_mode_has_the_same_tools() {
    let app = App::start("sprint", &["--mode", "http"], &[]);
    assert_eq!(app.get("/health").json()["mode"], "http");
    let tools = app.sse("/sse", &[]).tools();
    assert_eq!(app.http("/mcp", &[]).tools(), tools);
    let over_rest = app.get("/api/tools").json();
    let names: Vec<&str> = over_rest["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, tools);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"}});
    let ask = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list")];
    let stateless = app.wire().post("/mcp", &headers, &ask.to_string());
    assert_eq!(stateless.messages()[0]["result"]["tools"].as_array().map(Vec::len), Some(15), "{}", stateless.text());

    let dir = fresh_dir("sprint");
    let mut child = command(&dir, "sprint", &[])
        .args(["--mode", "stdio"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{hello}").unwrap();
    lines.next();
    writeln!(stdin, "{done}\n{}", list(2)).unwrap();
    let answer: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(answer["result"]["tools"].as_array().map(Vec::len), Some(15));
    drop(stdin);
    child.wait().unwrap();
}

#[test]
fn s3_48_the_id_of_the_stream_is_the_one_of_messages() {
    let app = start(&[]);
    let (_stream, id) = connect(&app);
    assert_eq!(app.get("/sessions").json()["sessions"][0], id.as_str());
    assert_eq!(message(&app, &id, &list(1)), 202);
}

#[test]
fn s3_49_a_page_that_goes_away_leaves_no_session() {
    let app = start(&[]);
    let (stream, id) = connect(&app);
    drop(stream);
    until(|| (message(&app, &id, &list(1)) == 404).then_some(()));
}

#[test]
fn s3_50_it_says_who_it_is_and_ends_well() {
    let app = start(&[]);
    let (mut stream, id) = connect(&app);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    message(&app, &id, &hello);
    let server = stream.message().expect("an answer")["result"]["serverInfo"].clone();
    assert_eq!((&server["name"], &server["version"]), (&json!("jira-github-sprint-reporter-sse"), &json!("2.0.0")));
    std::process::Command::new("kill").args(["-TERM", &app.pid().to_string()]).status().unwrap();
    assert!(stream.is_over());
}

/// Every command of the page, as it stands there but for the port.
#[test]
fn sprint_the_page_says_what_works() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sprint.md")).unwrap();
    let app = start(&[]);
    let (_, help) = run(&app.dir, "sprint", &["--help"], &[]);
    let mut tried = 0;
    for line in page.split("```sh\n").skip(1).flat_map(|block| block.split("```").next().unwrap().lines()) {
        tried += 1;
        if let Some(command) = line.strip_prefix("curl ") {
            let command = command.replace(":3002", &format!(":{}", app.port));
            let words: Vec<&str> = command.split(' ').map(|word| word.trim_matches('\'')).collect();
            let said = std::process::Command::new("curl").args(["-sf", "--max-time", "3"]).args(&words).output().unwrap();
            // A stream goes on until we leave.
            let well = if words[0] == "-N" { said.status.code() == Some(28) } else { said.status.success() };
            assert!(well && !said.stdout.is_empty(), "{line}: {said:?}");
        } else if let Some((name, _)) = line.split_once('=') {
            assert!(help.contains(name), "{line}");
        } else {
            assert_eq!(line, "landbridge-apps sprint");
        }
    }
    assert!(tried > 10, "{tried}");
    for part in
        page.split('`').skip(1).step_by(2).filter(|part| part.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && part.contains('_'))
    {
        assert!(help.contains(part.trim_end_matches("_999")) || part == "_", "{part}");
    }
}
