//! Rows S3 of the list: the wire.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, Client, command, fresh_dir, run};
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
    // A notification is a message too.
    assert_eq!(message(&app, &id, &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}})), 202);
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
    assert_eq!(with("text/plain"), 400);
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
    let (stream, id) = connect(&app);
    assert_eq!(message(&app, "11b56c40-dc7a-4ce9-9127-8998bcace54f", &list(1)), 404);
    assert_eq!(message(&app, "%27%20OR%201=1%20--", &list(1)), 404);
    assert_eq!(message(&app, &id, &json!([])), 400);
    drop(stream);
    until(|| (message(&app, &id, &list(1)) == 404).then_some(()));
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
    assert!(start(&[]).said().contains("http://127.0.0.1:"), "also without being told");
    let app = start(&[("MCP_SSE_HOST", "127.0.0.2")]);
    assert!(
        std::net::TcpStream::connect(("127.0.0.2", app.port)).is_ok() && std::net::TcpStream::connect(("127.0.0.1", app.port)).is_err()
    );
    // Where others can reach it, somebody has to say that this is meant.
    let (well, said) = run(&fresh_dir("sprint"), "sprint", &["--port", "0"], &[("MCP_SSE_HOST", "0.0.0.0")]);
    assert!(!well && said.contains("insecure-public"), "{said}");
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
    // What a page of that origin gets: of health, of a stream, and of a message on it.
    let allowed = |app: &App, origin: &str| {
        let cors =
            |header: &dyn Fn(&str) -> Option<String>| (header("access-control-allow-origin"), header("access-control-allow-credentials"));
        let page = app.get_with("/health", &[("Origin", origin)]);
        let stream = app.events("/sse", &[("Origin", origin)]);
        let (_own, id) = connect(app);
        let said = app.wire().post(&format!("/message?sessionId={id}"), &[("Origin", origin)], &list(1).to_string());
        let statuses = (page.status, stream.status, said.status);
        let all = [
            cors(&|name| page.header(name).map(str::to_owned)),
            cors(&|name| stream.header(name).map(str::to_owned)),
            cors(&|name| said.header(name).map(str::to_owned)),
        ];
        assert!(all.iter().all(|one| *one == all[0]), "{origin}: {all:?}");
        assert!(all[0].0.is_none() || page.header("vary") == Some("Origin"), "caches must not mix them up: {:?}", page.headers);
        (statuses, all[0].0.clone(), all[0].1.clone())
    };
    let yes = |origin: &str| ((200, 200, 202), Some(origin.to_owned()), Some("true".to_owned()));
    let no = ((403, 403, 403), None, None);
    let app = start(&[]);
    for port in [3000, 3001, 3002, 5173] {
        let origin = format!("http://localhost:{port}");
        assert_eq!(allowed(&app, &origin), yes(&origin));
    }
    let ours = "https://app.example.com";
    assert_eq!(allowed(&app, ours), no);
    // A page of this machine that nobody named may call, and not read.
    assert_eq!(allowed(&app, "http://localhost:9999"), ((200, 200, 202), None, None));

    let app = start(&[("NODE_ENV", "production"), ("ALLOWED_ORIGINS", "https://example.com, https://app.example.com")]);
    assert_eq!((allowed(&app, ours), allowed(&app, "https://example.com")), (yes(ours), yes("https://example.com")));
    for other in
        ["https://app.example.com.evil.com", "http://app.example.com", "https://app.example.com:444", "https://sub.example.com", "null"]
    {
        assert_eq!(allowed(&app, other), no, "{other}");
    }
    assert_eq!(allowed(&app, "http://localhost:5173").1, None, "developers are not there any more");
    let preflight =
        |origin| app.wire().request("OPTIONS", "/message", &[("Origin", origin), ("Access-Control-Request-Method", "POST")], None);
    assert_eq!(preflight(ours).header("access-control-allow-credentials"), Some("true"));
    assert!(preflight(ours).header("access-control-allow-headers").unwrap().contains("content-type"));
    assert_eq!(preflight("https://evil.example.com").header("access-control-allow-origin"), None);
    // Nobody is named: no page reads.
    let app = start(&[("NODE_ENV", "production")]);
    assert_eq!((allowed(&app, ours), allowed(&app, "http://localhost:3000").1), (no, None));
}

#[test]
fn s3_21_a_port_in_use_is_told_and_another_can_be_set() {
    let (taken, other) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [taken, free] = [&taken, &other].map(|listener| listener.local_addr().unwrap().port().to_string());
    let dir = fresh_dir("sprint");
    let (well, said) = run(&dir, "sprint", &[], &[("MCP_SSE_PORT", &taken)]);
    assert!(!well && said.contains(&format!("cannot listen on 127.0.0.1:{taken}: another program does so already")), "{said}");
    for bad in ["70000", "-1", "http", "3002x"] {
        let (well, said) = run(&dir, "sprint", &[], &[("MCP_SSE_PORT", bad)]);
        assert!(!well && said.contains("MCP_SSE_PORT") && said.contains(bad), "{said}");
    }
    drop(other);
    let mut child = command(&dir, "sprint", &[("MCP_SSE_PORT", &free)]).stderr(std::process::Stdio::null()).spawn().unwrap();
    until(|| std::net::TcpStream::connect(("127.0.0.1", free.parse().unwrap())).ok());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn s3_22_health_is_told_in_json() {
    let app = start(&[]);
    let _open = connect(&app);
    let health = app.get("/health").json();
    assert_eq!((&health["status"], &health["mode"], &health["tools"]), (&json!("healthy"), &json!("sse"), &json!(15)));
    assert_eq!(health["activeSessions"], 1);
    assert_eq!(health.as_object().map(|all| all.len()), Some(5), "and nothing else: {health}");
    let _another = connect(&app);
    assert_eq!(app.get("/health").json()["activeSessions"], 2);
    let time = health["timestamp"].as_str().unwrap();
    let told: jiff::Timestamp = time.parse().unwrap();
    assert!(jiff::Timestamp::now().duration_since(told).as_secs().abs() < 60, "{time}");
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
    // Any part of the loopback is this machine; where there are keys, they are asked for here too.
    assert_eq!(start(&[("MCP_SSE_HOST", "localhost")]).get("/sessions").status, 200);
    let guarded = start(&[("MCP_API_KEY_1", "a-key-that-nobody-guesses:ada")]);
    assert_eq!(guarded.get("/sessions").status, 401);
    assert_eq!(guarded.get_with("/sessions", &[("X-API-Key", "a-key-that-nobody-guesses")]).json()["count"], 0);
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
    let (open, (_stays, id)) = (connect(&app), connect(&app));
    assert_eq!(app.get("/health").json()["activeSessions"], 2);
    drop(open);
    until(|| (app.get("/health").json()["activeSessions"] == 1).then_some(()));
    assert_eq!(app.get("/sessions").json(), json!({"count": 1, "sessions": [id]}));
}

#[test]
fn s3_27_a_message_without_an_id_is_refused() {
    let app = start(&[]);
    let (_stream, _id) = connect(&app);
    for path in ["/message", "/message?", "/message?sessionId=", "/message?session=1"] {
        assert_eq!(app.post(path, &list(1)).status, 400, "{path}");
    }
}

#[test]
fn s3_28_a_stream_begins_with_its_headers_and_its_endpoint() {
    let app = start(&[]);
    let stream = app.events("/sse", &[]);
    let header = |name| stream.header(name).unwrap_or_default();
    assert_eq!((stream.status, header("content-type"), header("connection")), (200, "text/event-stream", "keep-alive"));
    assert_eq!((header("cache-control"), header("x-accel-buffering")), ("no-cache, no-transform", "no"), "nobody in between keeps it");
    assert_eq!(app.get("/sessions").json()["count"], 1);
    connect(&app);
}

#[test]
fn s3_29_a_message_goes_to_the_session_it_names() {
    let app = start(&[]);
    let ((mut a, first), (mut b, second)) = (connect(&app), connect(&app));
    message(&app, &second, &list(9));
    assert_eq!(b.message().expect("an answer")["id"], 9);
    message(&app, &first, &list(10));
    assert_eq!(a.message().expect("its own answer, and no other before")["id"], 10);
    // Two ids in one request are of nobody.
    let both = app.wire().post(&format!("/message?sessionId={first}"), &[("Mcp-Session-Id", &second)], &list(11).to_string());
    assert_eq!(both.status, 400, "{}", both.text());
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
fn s3_33_a_connection_that_breaks_is_logged_and_leaves_no_session() {
    let app = start(&[("LOG_LEVEL", "debug")]);
    let mut wire = Wire::connect(app.port);
    wire.write(b"GET /sse HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    until(|| (app.get("/health").json()["activeSessions"] == 1).then_some(()));
    wire.socket().shutdown(std::net::Shutdown::Both).unwrap();
    until(|| (app.get("/health").json()["activeSessions"] == 0).then_some(()));
    // What it says is read by another thread.
    let lines = ["session opened", "a connection broke", "session closed"];
    until(|| lines.iter().all(|line| app.said().contains(line)).then_some(()));
}

#[test]
fn s3_35_what_is_no_message_is_refused() {
    let app = start(&[]);
    let (_stream, id) = connect(&app);
    let path = format!("/message?sessionId={id}");
    for body in ["{", "", "7", r#"{"jsonrpc":"1.0"}"#] {
        assert_eq!(app.wire().post(&path, &[], body).status, 400, "{body}");
    }
    for media in ["text/plain", "application/xml", "application/jsonx", ""] {
        let refused = app.wire().post(&path, &[("content-type", media)], &list(1).to_string());
        assert_eq!((refused.status, refused.header("content-type")), (400, Some("application/json")), "{media}");
        assert!(refused.json()["error"].is_string() && refused.json()["message"].is_string());
    }
    for body in [r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, r#"{"jsonrpc":"2.0","id":1,"method":7}"#, "[]", "null", "\"\u{7f}\""] {
        assert_eq!(app.wire().post(&path, &[], body).status, 400, "{body}");
    }
    // Nearly as much as is taken.
    let mut most = list(1);
    most["params"]["x"] = "x".repeat(4 * 1024 * 1024 - 200).into();
    assert_eq!(app.post(&path, &most).status, 202);
    let mut long = list(1);
    long["params"]["x"] = "x".repeat(4 * 1024 * 1024).into();
    assert_eq!(app.post(&path, &long).status, 413);
    assert_eq!(app.post(&path, &list(2)).text(), "Accepted");
}

#[test]
fn s3_36_only_our_own_names_and_origins_are_answered() {
    let app = start(&[
        ("ALLOWED_HOSTS", "sprint.example.com, other.example.com:8443"),
        ("NODE_ENV", "production"),
        ("ALLOWED_ORIGINS", "https://sprint.example.com"),
    ]);
    let port = app.port;
    let status = |name: &str| {
        let headers = [("host", name)];
        let (_stream, id) = connect(&app);
        let said = app.wire().post(&format!("/message?sessionId={id}"), &headers, &list(1).to_string()).status;
        (app.get_with("/health", &headers).status, app.events("/sse", &headers).status, said)
    };
    // Clients write the port behind the name, or leave it out; a proxy's is another.
    let ours = [
        "localhost",
        &format!("localhost:{port}"),
        "LocalHost:443",
        "127.0.0.1",
        &format!("127.0.0.1:{port}"),
        "[::1]",
        &format!("[::1]:{port}"),
    ];
    for name in ours.into_iter().chain(["sprint.example.com", "sprint.example.com:443", &format!("Sprint.Example.com:{port}")]) {
        assert_eq!(status(name), (200, 200, 202), "{name}");
    }
    assert_eq!(status("other.example.com:8443"), (200, 200, 202));
    for name in [
        "evil.example.com",
        "evil.example.com:3002",
        "localhost.evil.com",
        "sprint.example.com.evil.com",
        "127.0.0.1.nip.io",
        "localhost@evil.com",
        "",
    ] {
        assert_eq!(status(name), (403, 403, 403), "{name}");
    }
    for origin in ["https://evil.example.com", "https://sprint.example.com.evil.com", "null"] {
        assert_eq!(app.events("/sse", &[("Origin", origin)]).status, 403, "{origin}");
    }
    assert_eq!(app.events("/sse", &[("Origin", "https://sprint.example.com")]).status, 200);
}

#[test]
fn s3_37_keys_guard_streams_and_messages() {
    let app = start(&[("MCP_API_KEY_1", "a-key-that-nobody-guesses:ada"), ("MCP_API_KEY_2", "b-key-that-nobody-guesses:bob")]);
    assert_eq!((app.get("/sse").status, app.post("/message", &list(1)).status, app.get("/api/reports").status), (401, 401, 401));
    assert_eq!(app.get("/health").status, 200);
    let key = [("Authorization", "Bearer a-key-that-nobody-guesses")];
    assert_eq!(app.sse("/sse", &key).tools().len(), 15);
    assert_eq!(app.get_with("/sse", &[("X-API-Key", "a-key-that-nobody-guesse")]).status, 401);
    // Whoever knows an id still needs its owner's key.
    let mut stream = app.events("/sse", &key);
    let endpoint: String = serde_json::from_str(&stream.event().unwrap().data).unwrap();
    let say = |headers: &[(&str, &str)]| app.wire().post(&endpoint, headers, &list(1).to_string()).status;
    assert_eq!((say(&[]), say(&[("Authorization", "Bearer b-key-that-nobody-guesses")]), say(&key)), (401, 404, 202));
    assert!(!app.said().contains("nobody-guesses"));
}

#[test]
fn s3_38_clients_that_lost_their_stream_are_told_how_long_to_wait() {
    let app = start(&[]);
    let mut stream = app.events("/sse", &[]);
    let first = stream.event().expect("an event");
    // With an event that has data: some clients of Python take one without for a message, and stumble.
    assert_eq!((first.name.as_str(), first.retry), ("endpoint", Some(3_000)));
    assert_eq!(stream.event().expect("an event").retry, None);
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
    let app = start(&[("SPRINT_SESSION_IDLE_MS", "1500")]);
    let mut quiet = app.http("/mcp", &[]);
    assert_eq!(quiet.tools().len(), 15);
    let (mut stream, id) = connect(&app);
    let begun = Instant::now();
    assert_eq!(app.get("/sessions").json()["count"], 2);
    assert_eq!(app.get("/health").json()["activeSessions"], 2);
    // One that nobody uses ends, though its client never said so. They are looked for by turns, within 16 seconds.
    while app.get("/sessions").json()["count"] == 2 {
        assert!(begun.elapsed() < Duration::from_secs(25), "it took too long");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(app.get("/sessions").json(), json!({"count": 1, "sessions": [id]}), "who has a stream is there");
    assert_eq!(app.get("/health").json()["activeSessions"], 1);
    // And stays, when everybody has been looked at.
    std::thread::sleep(Duration::from_secs(18).saturating_sub(begun.elapsed()));
    message(&app, &id, &list(1));
    assert_eq!(stream.message().expect("an answer")["id"], 1);
    let (well, said) = run(&app.dir, "sprint", &[], &[("SPRINT_SESSION_IDLE_MS", "soon")]);
    assert!(!well && said.contains("SPRINT_SESSION_IDLE_MS"), "{said}");
}

#[test]
fn s3_42_an_address_that_posts_too_often_is_told_when_to_come_back() {
    let app = start(&[("SPRINT_REQUESTS_PER_MINUTE", "20")]);
    let (mut stream, id) = connect(&app);
    let path = format!("/message?sessionId={id}");
    let mut taken = 0..;
    let refused = taken.by_ref().take(40).map(|n| app.post(&path, &list(n))).find(|response| response.status != 202).expect("a refusal");
    assert_eq!(refused.status, 429, "{}", refused.text());
    let wait: u64 = refused.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    // What was taken is answered, and whoever waits is heard again.
    let taken = taken.start - 1;
    assert!((19..25).contains(&taken), "{taken}");
    let answered: std::collections::BTreeSet<u64> =
        (0..taken).map(|_| stream.message().expect("an answer")["id"].as_u64().unwrap()).collect();
    assert_eq!(answered.len() as u64, taken);
    std::thread::sleep(Duration::from_secs(wait));
    assert_eq!(message(&app, &id, &list(99)), 202);
    // Without a limit there is none.
    let app = start(&[("SPRINT_REQUESTS_PER_MINUTE", "0")]);
    let (_stream, id) = connect(&app);
    assert!((0..100).all(|_| message(&app, &id, &json!({"jsonrpc": "2.0", "method": "notifications/x"})) == 202));
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
fn s3_44_http_2_carries_more_streams_than_browsers_open_without_it() {
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
    // A dozen streams on one connection: a browser has six, over HTTP/1.1.
    let url = format!("https://127.0.0.1:{}", app.port);
    let mut curl = std::process::Command::new("curl");
    curl.args([
        "-s",
        "-N",
        "-Z",
        "--parallel-max",
        "12",
        "--http2",
        "--max-time",
        "4",
        "-w",
        "%{stderr}\\n@%{http_version} %{num_connects}\\n",
    ]);
    let streams = curl.arg("--cacert").arg(&cert).args(vec![format!("{url}/sse"); 12]).output().unwrap();
    let (seen, told) = (String::from_utf8(streams.stdout).unwrap(), String::from_utf8(streams.stderr).unwrap());
    assert_eq!(seen.matches("notifications/initialized").count(), 12, "{seen}");
    let connects: Vec<(&str, u32)> =
        told.lines().filter_map(|line| line.strip_prefix('@')?.split_once(' ')).filter_map(|(v, n)| Some((v, n.parse().ok()?))).collect();
    assert_eq!((connects.len(), connects.iter().map(|(_, n)| n).sum::<u32>()), (12, 1), "{told}");
    assert!(connects.iter().all(|(version, _)| *version == "2"), "{told}");
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
fn s3_46_each_way_may_have_a_port_of_its_own() {
    let app = start(&[("MCP_HTTP_PORT", "0"), ("MCP_SERVER_PORT", "0")]);
    let others = || -> Vec<u16> {
        let said = app.said();
        let ports = said.lines().filter_map(|line| line.strip_prefix("sprint is also at http://127.0.0.1:"));
        ports.map(|port| port.parse().unwrap()).collect()
    };
    let others = until(|| Some(others()).filter(|ports| ports.len() == 2));
    let tools = app.sse("/sse", &[]).tools();
    assert_eq!(tools.len(), 15);
    for port in others {
        assert_eq!(Client::over_http(port, "/mcp", &[]).tools(), tools);
        assert_eq!(Client::over_sse(port, "/sse", &[]).tools(), tools);
        let over_rest = Wire::connect(port).request("GET", "/api/tools", &[], None).json();
        let names: Vec<&str> = over_rest["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, tools);
        let stats = Wire::connect(port).post("/api/tools/cache_stats", &[], "{}");
        assert_eq!((stats.status, &stats.json()["maxEntries"]), (200, &json!(500)));
        // It is one server, whose sessions are seen from everywhere.
        let (_stream, id) = connect(&app);
        assert!(Wire::connect(port).request("GET", "/sessions", &[], None).text().contains(&id));
        assert_eq!(Wire::connect(port).request("GET", "/health", &[("host", "evil.example.com")], None).status, 403);
    }
    // One that is taken is told; one that is the first one's is that one.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (well, said) = run(&app.dir, "sprint", &["--port", "0"], &[("MCP_HTTP_PORT", &port)]);
    assert!(!well && said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
    drop(taken);
    let same = App::start("sprint", &["--port", &port], &[("MCP_HTTP_PORT", &port)]);
    assert!(same.get("/health").status == 200 && !same.said().contains("also at"), "{}", same.said());
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
    let (mut other, _) = connect(&app);
    std::process::Command::new("kill").args(["-TERM", &app.pid().to_string()]).status().unwrap();
    assert!(stream.is_over() && other.is_over());
    until(|| app.said().contains("stopped").then_some(()));
    assert!(std::net::TcpStream::connect(("127.0.0.1", app.port)).is_err());
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
