//! Rows S0 of the list: the wire of the contacts.

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, Client, fresh_dir, run};
use crate::wire::Stream;

pub const TOKEN: &str = "a token with: colons, and spaces";
pub const OTHER: &str = "another-token-entirely";

pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn hello(version: &str) -> Value {
    request(1, "initialize", json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}))
}

fn open() -> App {
    App::start("contacts", &[], &[])
}

fn guarded() -> App {
    App::start("contacts", &[], &[("BEARER_TOKEN", TOKEN), ("MCP_AUTH_TOKEN", OTHER), ("CONTACTS_AUTH_STORE", "memory:")])
}

/// A stream, and where its messages go.
fn stream(app: &App, headers: &[(&str, &str)]) -> (Stream, String) {
    let mut stream = app.events("/mcp/oauth", headers);
    assert_eq!(stream.status, 200);
    let endpoint = loop {
        let event = stream.event().expect("an endpoint");
        if event.name == "endpoint" {
            break event.data;
        }
    };
    (stream, endpoint)
}

fn sessions(app: &App) -> u64 {
    app.get("/health").json()["sessions"].as_u64().unwrap()
}

/// Whether it becomes true in time.
fn soon(mut is_true: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if is_true() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn s0_1_each_stream_has_a_session_of_its_own_and_somebody_counts_them() {
    let app = open();
    let (mut one, to_one) = stream(&app, &[]);
    let (mut two, to_two) = stream(&app, &[]);
    assert_ne!(to_one, to_two);
    assert_eq!(sessions(&app), 2);
    assert_eq!(app.post(&to_two, &request(2, "ping", json!({}))).status, 202);
    assert_eq!(app.post(&to_one, &request(1, "ping", json!({}))).status, 202);
    assert_eq!((one.message().unwrap()["id"].clone(), two.message().unwrap()["id"].clone()), (json!(1), json!(2)));
}

#[test]
fn s0_2_a_get_opens_a_stream() {
    let app = open();
    let stream = app.events("/mcp/oauth", &[]);
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    // Nor does it need to say that it reads events.
    assert_eq!(app.wire().open("GET", "/mcp/oauth", &[("accept", "*/*")], None).header("content-type"), Some("text/event-stream"));
}

#[test]
fn s0_3_messages_go_to_the_same_path() {
    let app = open();
    let (mut stream, endpoint) = stream(&app, &[]);
    assert!(endpoint.starts_with("/mcp/oauth?sessionId="), "{endpoint}");
    assert_eq!(app.post(&endpoint, &hello("2024-11-05")).status, 202);
    assert_eq!(stream.message().unwrap()["result"]["serverInfo"]["name"], "contacts");
}

#[test]
fn s0_4_both_verbs_want_a_token() {
    let app = guarded();
    let (_stream, endpoint) = stream(&app, &[("Authorization", &bearer(TOKEN))]);
    assert_eq!(app.get("/mcp/oauth").status, 401);
    assert_eq!(app.post(&endpoint, &hello("2024-11-05")).status, 401);
    let with = app.wire().post(&endpoint, &[("Authorization", &bearer(TOKEN))], &hello("2024-11-05").to_string());
    assert_eq!(with.status, 202);
}

fn is_uuid_4(id: &str) -> bool {
    let parts: Vec<usize> = id.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12]
        && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
        && id.as_bytes()[14] == b'4'
        && matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b')
}

#[test]
fn s0_5_the_id_of_a_stream_is_good_for_messages() {
    let app = open();
    let mut stream = app.events("/mcp/oauth", &[]);
    let session: Value = serde_json::from_str(&stream.event().unwrap().data).unwrap();
    let id = session["sessionId"].as_str().unwrap();
    assert_eq!(stream.event().unwrap().data, format!("/mcp/oauth?sessionId={id}"));
    for path in [format!("/mcp/oauth?session_id={id}"), format!("/messages?sessionId={id}"), format!("/mcp/oauth?sessionId={id}")] {
        assert_eq!(app.post(&path, &request(5, "ping", json!({}))).status, 202, "{path}");
        assert_eq!(stream.message().unwrap()["id"], 5);
    }
    let by_header = app.wire().post("/mcp/oauth", &[("Mcp-Session-Id", id)], &request(6, "ping", json!({})).to_string());
    assert_eq!(by_header.status, 202);
}

#[test]
fn s0_6_plain_json_rpc_is_answered_as_json() {
    let app = open();
    for (method, params) in
        [("tools/list", json!({})), ("ping", json!({})), ("tools/call", json!({"name": "search_contacts", "arguments": {"query": "*"}}))]
    {
        let response = app.wire().post("/mcp", &[("accept", "application/json")], &request(1, method, params).to_string());
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")), "{method}");
        assert!(response.json()["result"].is_object(), "{}", response.text());
    }
    let response = app.wire().post("/mcp", &[("accept", "application/json")], &hello("2024-11-05").to_string());
    assert_eq!(response.json()["result"]["protocolVersion"], "2024-11-05");
}

#[test]
fn s0_7_both_endpoints_at_once_and_nobody_hears_the_other() {
    let app = open();
    std::thread::scope(|scope| {
        for n in 0..3 {
            let (app, name) = (&app, format!("Streamer {n}"));
            scope.spawn(move || {
                let mut client = app.sse("/mcp/oauth", &[]);
                for _ in 0..10 {
                    assert_eq!(client.json("add_contact", json!({"name": name}))["name"], name);
                }
            });
            let name = format!("Poster {n}");
            scope.spawn(move || {
                for id in 0..10 {
                    let call = request(id, "tools/call", json!({"name": "add_contact", "arguments": {"name": name}}));
                    let said = app.post("/mcp", &call).json();
                    assert_eq!((said["id"].as_u64(), &said["result"]["structuredContent"]["name"]), (Some(id), &json!(name)));
                }
            });
        }
    });
    assert_eq!(app.http("/mcp", &[]).json("search_contacts", json!({"query": "er"}))["total"], 60);
}

#[test]
fn s0_8_health_names_both_endpoints() {
    let health = open().get("/health").json();
    assert_eq!(health["mcp_endpoints"], json!({"json_rpc": "/mcp", "sse": "/mcp/oauth"}));
    assert_eq!(
        (&health["status"], &health["features"]["rest"], &health["features"]["mcp_over_http"]),
        (&json!("healthy"), &json!(true), &json!(true))
    );
}

#[test]
fn s0_9_a_stream_is_200_and_events() {
    let app = open();
    let stream = app.events("/mcp/oauth", &[]);
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
}

#[test]
fn s0_9_over_tls_a_stream_is_one_of_http_2() {
    let dir = fresh_dir("contacts");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let variables = [("TLS_CERT", cert.to_str().unwrap()), ("TLS_KEY", key.to_str().unwrap())];
    let app = App::start_in(&dir, "contacts", &[], &variables);
    let curl = |path: &str, wait: &str| {
        let url = format!("https://localhost:{}{path}", app.port);
        let done = Command::new("curl")
            .args(["--silent", "--include", "--no-buffer", "--http2", "--resolve", &format!("localhost:{}:127.0.0.1", app.port)])
            .args(["--max-time", wait, "--header", "Accept: text/event-stream", "--cacert"])
            .arg(&cert)
            .arg(&url)
            .output()
            .unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let said = curl("/mcp/oauth", "2");
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{said:?}"));
    assert!(head.starts_with("HTTP/2 200") && head.contains("content-type: text/event-stream"), "{head}");
    assert!(body.starts_with(": SSE connection established\n\nevent: session\ndata: {\"sessionId\":\""), "{body}");
    assert!(curl("/.well-known/mcp.json", "10").contains(&format!("https://localhost:{}/mcp/oauth", app.port)));
    drop(app);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn s0_10_the_first_bytes_are_a_comment() {
    let first = String::from_utf8(open().events("/mcp/oauth", &[]).piece().unwrap()).unwrap();
    assert!(first.starts_with(": SSE connection established\n\n"), "{first}");
}

#[test]
fn s0_11_then_comes_the_session() {
    let event = open().events("/mcp/oauth", &[]).event().unwrap();
    assert_eq!(event.name, "session");
    let data: Value = serde_json::from_str(&event.data).unwrap();
    assert!(
        is_uuid_4(data["sessionId"].as_str().unwrap()) && event.data == format!("{{\"sessionId\":{}}}", data["sessionId"]),
        "{event:?}"
    );
}

#[test]
fn s0_12_messages_are_data_only() {
    let app = open();
    let (mut stream, endpoint) = stream(&app, &[]);
    app.post(&endpoint, &request(1, "ping", json!({})));
    let frame = String::from_utf8(stream.piece().unwrap()).unwrap();
    assert!(frame.starts_with("data: {") && frame.ends_with("}\n\n") && frame.lines().count() == 2, "{frame}");
}

#[test]
fn s0_13_silence_is_filled_with_comments() {
    let app = App::start("contacts", &[], &[("KEEPALIVE_MS", "1000")]);
    let (mut stream, _) = stream(&app, &[]);
    for _ in 0..2 {
        assert_eq!(stream.event_or_comment().unwrap().name, ":");
    }
}

#[test]
fn s0_14_a_stream_is_chunked_and_nothing_waits_in_a_buffer() {
    let app = open();
    let (mut stream, endpoint) = stream(&app, &[]);
    assert_eq!((stream.header("transfer-encoding"), stream.header("content-length")), (Some("chunked"), None));
    for n in 0..3 {
        app.post(&endpoint, &request(n, "ping", json!({})));
        // Each comes while the stream is open, and nothing else pushes it out.
        assert_eq!(stream.message().unwrap()["id"], n);
    }
}

#[test]
fn s0_15_sessions_have_uuids_on_every_transport() {
    let app = open();
    let opened = app.post("/mcp", &hello("2025-06-18"));
    assert!(is_uuid_4(opened.header("mcp-session-id").unwrap()));
    let (_stream, endpoint) = stream(&app, &[]);
    assert!(is_uuid_4(endpoint.rsplit('=').next().unwrap()));
}

#[test]
fn s0_16_a_session_is_for_the_token_that_opened_it() {
    let app = guarded();
    let (mut stream, endpoint) = stream(&app, &[("Authorization", &bearer(TOKEN))]);
    let send = |token: &str| app.wire().post(&endpoint, &[("Authorization", &bearer(token))], &request(1, "ping", json!({})).to_string());
    assert_eq!(send(OTHER).status, 404, "as if there were none");
    assert_eq!(send(TOKEN).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 1);
    let opened = app.wire().post("/mcp", &[("Authorization", &bearer(TOKEN))], &hello("2025-06-18").to_string());
    let id = opened.header("mcp-session-id").unwrap();
    let theirs =
        app.wire().post("/mcp", &[("Authorization", &bearer(OTHER)), ("Mcp-Session-Id", id)], &request(2, "ping", json!({})).to_string());
    assert_eq!(theirs.status, 404);
}

#[test]
fn s0_17_who_hangs_up_is_forgotten() {
    let app = App::start("contacts", &[], &[("KEEPALIVE_MS", "1000")]);
    let (stream, endpoint) = stream(&app, &[]);
    assert_eq!(sessions(&app), 1);
    drop(stream);
    assert!(soon(|| sessions(&app) == 0));
    assert_eq!(app.post(&endpoint, &request(1, "ping", json!({}))).status, 404);
}

#[test]
fn s0_18_one_judgement_for_every_door() {
    let app = guarded();
    let list = request(1, "tools/list", json!({})).to_string();
    let basic = "Basic YTpi".to_owned();
    for (what, header, status) in [
        ("nothing", None, 401),
        ("a wrong one", Some(bearer("a token with: colons, and space")), 401),
        ("another scheme", Some(basic), 401),
        ("the one", Some(bearer(TOKEN)), 200),
        ("the other", Some(bearer(OTHER)), 200),
    ] {
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("Authorization", value.as_str())).collect();
        let stream = app.events("/mcp/oauth", &headers).status;
        let mut all = vec![stream, app.wire().post("/mcp", &headers, &list).status, app.wire().post("/", &headers, &list).status];
        all.push(app.get_with("/api/contacts", &headers).status);
        all.push(app.events("/sse", &headers).status);
        assert!(all.iter().all(|came| *came == status), "{what}: {all:?}");
    }
    // What everybody may know.
    assert_eq!((app.get("/health").status, app.get("/.well-known/mcp.json").status), (200, 200));
}

#[test]
fn s0_20_no_token_is_good_because_of_its_looks() {
    let app = guarded();
    for token in ["0123456789abcdef0123456789abcdef", "474e8ba3a01cff8b474e8ba3a01cff8b", &"a".repeat(64)] {
        assert_eq!(app.get_with("/mcp/oauth", &[("Authorization", &bearer(token))]).status, 401, "{token}");
    }
    let said = app.said();
    assert!(!said.contains(TOKEN) && !said.contains(OTHER) && !said.contains("0123456789abcdef"), "{said}");
}

#[test]
fn s0_22_what_goes_wrong_is_told() {
    let app = guarded();
    let nobody = app.get("/mcp/oauth");
    assert_eq!(nobody.status, 401);
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Bearer"));
    let with = [("Authorization", "Bearer another-token-entirely")];
    let post = |path: &str, body: &str| app.wire().post(path, &with, body);
    assert_eq!(post("/mcp/oauth?sessionId=11b56c40-dc7a-4ce9-9127-8998bcace54f", &request(1, "ping", json!({})).to_string()).status, 404);
    assert_eq!(post("/mcp", "{").status, 400);
    assert_eq!(post("/mcp", &"x".repeat(20 * 1024 * 1024)).status, 413);
    let unknown = post("/mcp", &request(1, "tools/call", json!({"name": "nothing", "arguments": {}})).to_string());
    assert_eq!(unknown.json()["error"]["code"], -32602, "{}", unknown.text());
    assert_eq!(app.get_with("/nowhere", &with).status, 404);
}

#[test]
fn s0_31_the_server_can_be_discovered() {
    let app = guarded();
    let said = app.get("/.well-known/mcp.json");
    assert_eq!((said.status, said.header("content-type")), (200, Some("application/json")));
    let document = said.json();
    let root = format!("http://127.0.0.1:{}", app.port);
    assert_eq!(document["transports"][2]["url"], format!("{root}/mcp/oauth"));
    assert_eq!(document["transports"][0]["url"], format!("{root}/mcp"));
    assert_eq!(document["allowed_domains"], json!(["claude.ai"]));
    assert_eq!(document["capabilities"]["tools"]["count"], 4);
    assert_eq!(document["authentication"]["required"], true);
    // What is told of domains is so.
    let from = |origin: &str| app.get_with("/health", &[("Origin", origin)]).status;
    assert_eq!((from("https://claude.ai"), from("https://claude.ai.evil.example")), (200, 403));
}

/// The four tools, one after the other.
fn works(client: &mut Client) {
    assert_eq!(client.tools(), ["search_contacts", "add_contact", "get_contact", "mark_contacted"]);
    let ada = client.json(
        "add_contact",
        json!({"name": " Ada Ünal ", "email": "ada@example.com", "company": "Engines", "state": "ping", "label": null}),
    );
    let id = ada["id"].as_i64().unwrap();
    assert_eq!((&ada["name"], &ada["relationship_type"], &ada["overdue"]), (&json!("Ada Ünal"), &json!("network"), &json!(true)));
    assert!(ada["created_at"].is_string() && ada["updated_at"].is_string());
    let found = client.json("search_contacts", json!({"query": "ÜNAL", "state": "ping", "limit": 5}));
    assert!(found["contacts"].as_array().unwrap().iter().any(|one| one["id"] == id), "{found}");
    let marked = client.json("mark_contacted", json!({"contact_id": id, "interaction_type": "call", "notes": "tea", "date": "2026-01-31"}));
    assert!(marked["interaction_id"].is_i64());
    assert_eq!((&marked["contact"]["contacted_at"], &marked["contact"]["state"]), (&json!("2026-01-31"), &json!(null)));
    let told = client.json("get_contact", json!({"id": id.to_string()}));
    assert_eq!((&told["interactions"][0]["notes"], &told["interactions"][0]["interaction_type"]), (&json!("tea"), &json!("call")));
    assert_eq!(client.json("search_contacts", json!({"query": "nobody is called that"}))["count"], 0);

    // What goes wrong.
    for (tool, arguments) in [
        ("add_contact", json!({"name": "  "})),
        ("add_contact", json!({})),
        ("add_contact", json!({"name": "x", "relationship_type": "friend"})),
        ("add_contact", json!({"name": "x", "nmae": "y"})),
        ("add_contact", json!({"name": "x".repeat(501)})),
        ("add_contact", json!({"name": 7})),
        ("search_contacts", json!({})),
        ("search_contacts", json!({"query": "x", "limit": 0})),
        ("get_contact", json!({"contact_id": "x"})),
        ("mark_contacted", json!({"contact_id": id, "date": "31.1.2026"})),
    ] {
        assert_eq!(client.call(tool, arguments.clone())["code"], -32602, "{tool} {arguments}");
    }
    for tool in ["get_contact", "mark_contacted"] {
        let missing = client.call(tool, json!({"contact_id": 999_999}));
        assert!(missing["isError"] == true && missing["content"][0]["text"].as_str().unwrap().contains("not found"), "{missing}");
    }
}

#[test]
fn s0_34_the_four_tools_work_over_both_endpoints() {
    let app = open();
    works(&mut app.sse("/mcp/oauth", &[]));
    works(&mut app.http("/mcp", &[]));
    works(&mut app.sse("/sse", &[]));
    works(&mut app.sse("/", &[]));
}

#[test]
fn s0_34_and_for_stateless_clients() {
    let app = open();
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}, "io.modelcontextprotocol/clientCapabilities": {}});
    let call = |name: &str, arguments: Value| {
        let body = request(1, "tools/call", json!({"name": name, "arguments": arguments, "_meta": meta}));
        let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", name)];
        app.wire().post("/mcp", &headers, &body.to_string()).messages().pop().unwrap()
    };
    let added = call("add_contact", json!({"name": "Ada"}));
    assert_eq!(added["result"]["structuredContent"]["name"], "Ada", "{added}");
    assert_eq!(call("search_contacts", json!({"query": "ada"}))["result"]["structuredContent"]["total"], 1);
}

#[test]
fn s0_35_the_smoke_test_passes() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contacts/test-sse.sh");
    for (app, token) in [(open(), ""), (guarded(), TOKEN)] {
        let url = format!("http://127.0.0.1:{}", app.port);
        let done = Command::new("bash").arg(script).arg(&url).env("TOKEN", token).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.matches("ok ").count() == 5, "{said}");
    }
    // It fails where there is something to fail for.
    let app = guarded();
    let done = Command::new("bash").arg(script).arg(format!("http://127.0.0.1:{}", app.port)).env_remove("TOKEN").output().unwrap();
    assert!(!done.status.success());
}

#[test]
fn s0_36_who_keeps_no_session_is_answered_by_any_process() {
    let dir = fresh_dir("contacts");
    let list = request(1, "tools/call", json!({"name": "search_contacts", "arguments": {"query": "*"}}));
    let app = App::start_in(&dir, "contacts", &[], &[]);
    app.post("/mcp", &request(1, "tools/call", json!({"name": "add_contact", "arguments": {"name": "Ada"}})));
    let second = App::start_in(&dir, "contacts", &[], &[]);
    for app in [&app, &second] {
        assert_eq!(app.post("/mcp", &list).json()["result"]["structuredContent"]["total"], 1);
    }
    app.kill();
    second.kill();
    let third = App::start_in(&dir, "contacts", &[], &[]);
    assert_eq!(third.post("/mcp", &list).json()["result"]["structuredContent"]["total"], 1);
    drop(third);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn s0_37_the_version_that_is_asked_for_is_the_answer() {
    let app = open();
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        for path in ["/mcp", "/"] {
            let said = app.post(path, &hello(version)).messages().pop().unwrap();
            assert_eq!(said["result"]["protocolVersion"], version, "{path}");
        }
    }
    let (mut stream, endpoint) = stream(&app, &[]);
    app.post(&endpoint, &hello("2024-11-05"));
    assert_eq!(stream.message().unwrap()["result"]["protocolVersion"], "2024-11-05");
}

#[test]
fn s0_38_capabilities_are_objects_and_so_are_schemas() {
    let app = App::start("contacts", &[], &[("CONTACTS_TOOLS", "full"), ("CONTACTS_EXTRAS", "true")]);
    assert!(app.post("/mcp", &hello("2024-11-05")).messages()[0]["result"]["capabilities"]["tools"].is_object());
    let list = app.post("/mcp", &request(1, "tools/list", json!({}))).json();
    for tool in list["result"]["tools"].as_array().unwrap() {
        let schema = &tool["inputSchema"];
        assert!(schema["type"] == "object" && schema["properties"].is_object(), "{tool}");
        for needed in schema["required"].as_array().into_iter().flatten() {
            assert!(schema["properties"][needed.as_str().unwrap()].is_object(), "{tool}");
        }
    }
}

#[test]
fn s0_39_the_root_is_an_endpoint() {
    let app = open();
    let opened = app.post("/", &hello("2024-11-05"));
    assert_eq!(opened.status, 200);
    assert_eq!(app.post("/", &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).status, 202);
    let mut stream = app.events("/", &[]);
    let endpoint = loop {
        let event = stream.event().unwrap();
        if event.name == "endpoint" {
            break event.data;
        }
    };
    let id = endpoint.rsplit('=').next().unwrap();
    assert_eq!(app.post(&format!("/messages?sessionId={id}"), &request(3, "tools/list", json!({}))).status, 202);
    assert_eq!(stream.message().unwrap()["result"]["tools"].as_array().unwrap().len(), 4);
}

#[test]
fn s0_40_a_stream_speaks_at_once() {
    let app = open();
    for path in ["/mcp/oauth", "/", "/sse"] {
        let begun = Instant::now();
        let mut stream = app.events(path, &[]);
        assert!(stream.piece().is_some() && begun.elapsed() < Duration::from_secs(5), "{path}");
    }
    // Also that of a session of Streamable HTTP, which has nothing to say yet.
    let opened = app.post("/mcp", &hello("2025-06-18"));
    let id = opened.header("mcp-session-id").unwrap().to_owned();
    let begun = Instant::now();
    let stream = app.events("/mcp", &[("Mcp-Session-Id", &id), ("MCP-Protocol-Version", "2025-06-18")]);
    assert!(stream.status == 200 && begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_is_configured_by_half_or_wrongly_is_refused_at_the_start() {
    let dir = fresh_dir("contacts");
    for (variables, said) in [
        (&[("CONTACTS_TOOLS", "most")][..], "CONTACTS_TOOLS"),
        (&[("CONTACTS_OVERDUE_DAYS", "close=x")], "CONTACTS_OVERDUE_DAYS"),
        (&[("BEARER_TOKEN", "short")], "BEARER_TOKEN"),
        (&[("GITHUB_CLIENT_ID", "x")], "GITHUB_CLIENT_SECRET and AUTHORIZED_GITHUB_USER"),
        (&[("GITHUB_CLIENT_ID", "x"), ("GITHUB_CLIENT_SECRET", "y"), ("AUTHORIZED_GITHUB_USER", "*")], "AUTHORIZED_GITHUB_USER"),
        (&[("CONTACTS_DB_PATH", "/dev/null/x.db")], "/dev/null/x.db"),
    ] {
        let (is_good, told) = run(&dir, "contacts", &["--port", "0"], variables);
        assert!(!is_good && told.contains(said), "{variables:?}: {told}");
    }
    // Whoever can be reached by others asks who they are.
    let (is_good, told) = run(&dir, "contacts", &["--host", "0.0.0.0", "--port", "0"], &[]);
    assert!(!is_good, "{told}");
    let (is_good, help) = run(&dir, "contacts", &["--help"], &[]);
    for name in ["CONTACTS_TOOLS", "BEARER_TOKEN", "AUTHORIZED_GITHUB_USER", "CONTACTS_DB_PATH"] {
        assert!(is_good && help.contains(name), "{help}");
    }
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn a_client_may_start_it_and_speak_by_standard_streams() {
    let dir = fresh_dir("contacts");
    let mut child = crate::app::command(&dir, "contacts", &[])
        .args(["--mode", "stdio"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    for message in [hello("2025-06-18"), initialized, request(2, "tools/list", json!({}))] {
        writeln!(stdin, "{message}").unwrap();
    }
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let tools = lines.find_map(|line| Some(line.unwrap()).filter(|line| line.contains("\"tools\":["))).unwrap();
    assert!(tools.contains("mark_contacted"));
    drop(stdin);
    child.wait().unwrap();
    let _ = std::fs::remove_dir_all(&dir);
}
