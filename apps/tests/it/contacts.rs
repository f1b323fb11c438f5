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
    const CALLS: u64 = 12;
    let app = open();
    // All of them use the same ids, at the same time, and each has a name of its own.
    let call = |id: u64, name: &str| {
        request(id, "tools/call", json!({"name": "add_contact", "arguments": {"name": name, "notes": format!("call {id}")}}))
    };
    let is_own = |said: &Value, id: u64, name: &str| {
        let told = &said["result"]["structuredContent"];
        assert_eq!((&said["id"], &told["name"], &told["notes"]), (&json!(id), &json!(name), &json!(format!("call {id}"))), "{said}");
    };
    std::thread::scope(|scope| {
        for (n, path) in ["/mcp/oauth", "/mcp/oauth", "/"].into_iter().enumerate() {
            let (app, name) = (&app, format!("Streamer {n}"));
            scope.spawn(move || {
                let mut stream = app.events(path, &[]);
                let endpoint = std::iter::from_fn(|| stream.event()).find(|event| event.name == "endpoint").unwrap().data;
                for id in 0..CALLS {
                    assert_eq!(app.post(&endpoint, &call(id, &name)).status, 202);
                    is_own(&stream.message().unwrap(), id, &name);
                }
                // Nor has anything else come: what is asked last is answered next.
                app.post(&endpoint, &request(CALLS, "ping", json!({})));
                assert_eq!(stream.message().unwrap(), json!({"jsonrpc": "2.0", "id": CALLS, "result": {}}));
            });
        }
        for (n, path) in ["/mcp", "/mcp", "/mcp/oauth"].into_iter().enumerate() {
            let (app, name) = (&app, format!("Poster {n}"));
            scope.spawn(move || {
                // One with a session, the others without.
                let opened = app.post(path, &hello("2025-06-18"));
                let session = opened.header("mcp-session-id").unwrap_or_default().to_owned();
                let headers = [("Mcp-Session-Id", session.as_str())];
                let headers = if n == 0 { &headers[..] } else { &[] };
                for id in 0..CALLS {
                    let said = app.wire().post(path, headers, &call(id, &name).to_string()).messages();
                    assert_eq!(said.len(), 1, "{said:?}");
                    is_own(&said[0], id, &name);
                }
            });
        }
    });
    let all = app.http("/mcp", &[]).json("search_contacts", json!({"query": "er ", "limit": 500}));
    assert_eq!(all["total"], 6 * CALLS);
    for n in 0..3 {
        for name in [format!("Streamer {n}"), format!("Poster {n}")] {
            assert_eq!(all["contacts"].as_array().unwrap().iter().filter(|one| one["name"] == name).count() as u64, CALLS, "{name}");
        }
    }
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
fn s0_20_such_tokens_are_taken_for_tests_by_who_says_so_out_loud() {
    const FLAG: (&str, &str) = ("CONTACTS_INSECURE_TEST_TOKENS", "true");
    let (one, other) = ("0123456789abcdef0123456789abcdef", "474e8ba3a01cff8b474e8ba3a01cff8b");
    let app = App::start("contacts", &[], &[FLAG]);
    assert!(app.said().contains("INSECURE"), "{}", app.said());
    let (mut stream, endpoint) = stream(&app, &[("Authorization", &bearer(one))]);
    let send = |token: &str| app.wire().post(&endpoint, &[("Authorization", &bearer(token))], &request(1, "ping", json!({})).to_string());
    assert_eq!((send(other).status, send(one).status), (404, 202), "each is somebody else");
    assert_eq!(stream.message().unwrap()["id"], 1);
    for no_token in ["", &one[1..], &format!("{one}0"), &format!("{one}{other}"), "0123456789abcdef0123456789abcdeg"] {
        assert!(matches!(app.get_with("/mcp/oauth", &[("Authorization", &bearer(no_token))]).status, 400 | 401), "{no_token}");
    }
    assert_eq!(app.get("/mcp/oauth").status, 401, "nor is nothing a token");
    assert!(!app.dir.join("data/contacts/auth.db").exists(), "there is no store");
    let dir = fresh_dir("contacts");
    for (arguments, more) in [
        (&["--host", "0.0.0.0"][..], ("BEARER_TOKEN", TOKEN)),
        (&[], ("NODE_ENV", "production")),
        (&[], ("CONTACTS_AUTH_STORE", "sqlite:auth.db")),
        (&[], ("CONTACTS_INSECURE_TEST_TOKENS", "maybe")),
    ] {
        let (is_good, told) = run(&dir, "contacts", &[&["--port", "0"], arguments].concat(), &[FLAG, more]);
        assert!(!is_good && told.contains("CONTACTS_INSECURE_TEST_TOKENS"), "{more:?}: {told}");
    }
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn s0_22_what_goes_wrong_is_told() {
    let app = guarded();
    let nobody = app.get("/mcp/oauth");
    assert_eq!(nobody.status, 401);
    assert!(nobody.header("www-authenticate").unwrap().starts_with("Bearer"));
    for wrong in ["Bearer x", "Bearer another-token-entirel", "Bearer another-token-entirely-", "Bearer lbk_x"] {
        for said in [app.get_with("/mcp/oauth", &[("Authorization", wrong)]), app.get_with("/api/contacts", &[("Authorization", wrong)])] {
            assert_eq!((said.status, said.header("cache-control")), (401, Some("no-store")), "{wrong}");
            assert!(said.header("www-authenticate").unwrap().starts_with("Bearer"));
            assert!(said.json()["error"]["message"].is_string(), "{}", said.text());
        }
    }
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
    assert_eq!(document["capabilities"]["tools"]["names"], json!(["search_contacts", "add_contact", "get_contact", "mark_contacted"]));
    let methods: Vec<&Value> = document["transports"].as_array().unwrap().iter().map(|transport| &transport["methods"]).collect();
    assert_eq!(methods, [&json!(["POST"]), &json!(["POST", "GET", "DELETE"]), &json!(["GET", "POST"])]);
    let public = App::start(
        "contacts",
        &[],
        &[("BEARER_TOKEN", TOKEN), ("PUBLIC_URL", "https://contacts.example.com/"), ("ALLOWED_ORIGINS", "https://a.example")],
    );
    let known = public.get("/.well-known/mcp.json").json();
    assert_eq!(
        (&known["transports"][2]["url"], &known["allowed_domains"]),
        (&json!("https://contacts.example.com/mcp/oauth"), &json!(["a.example"]))
    );
    assert_eq!(open().get("/.well-known/mcp.json").json()["authentication"], json!({"required": false, "methods": []}));
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
    let id = added["result"]["structuredContent"]["id"].clone();
    let marked = call("mark_contacted", json!({"contact_id": id, "notes": "tea"}));
    assert!(marked["result"]["structuredContent"]["interaction_id"].is_i64(), "{marked}");
    let told = call("get_contact", json!({"contact_id": id}));
    assert_eq!(told["result"]["structuredContent"]["interactions"][0]["notes"], "tea", "{told}");
    assert_eq!(call("get_contact", json!({"contact_id": 99}))["result"]["isError"], true);
    assert_eq!(call("get_contact", json!({"contact_id": "x"}))["error"]["code"], -32602);
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
    let apps = [App::start_in(&dir, "contacts", &[], &[]), App::start_in(&dir, "contacts", &[], &[])];
    let call = |n: u64, name: &str, arguments: Value| {
        let body = request(n, "tools/call", json!({"name": name, "arguments": arguments}));
        apps[n as usize % 2].post("/mcp", &body).json()["result"]["structuredContent"].clone()
    };
    // A client whose every request comes to the other one, handshake included.
    for (n, app) in apps.iter().enumerate() {
        assert_eq!(app.post("/mcp", &hello("2024-11-05")).messages()[0]["result"]["protocolVersion"], "2024-11-05");
        assert_eq!(app.post("/mcp", &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).status, 202, "{n}");
    }
    let id = call(0, "add_contact", json!({"name": "Ada", "state": "ping"}))["id"].clone();
    assert_eq!(call(1, "get_contact", json!({"contact_id": id}))["name"], "Ada");
    assert_eq!(call(2, "mark_contacted", json!({"contact_id": id, "notes": "tea"}))["contact"]["state"], json!(null));
    assert_eq!(call(3, "get_contact", json!({"contact_id": id}))["interactions"][0]["notes"], "tea");
    // So is one of 2026-07-28.
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    for app in &apps {
        let params = json!({"name": "search_contacts", "arguments": {"query": "ada"}, "_meta": meta});
        let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "search_contacts")];
        let said = app.wire().post("/mcp", &headers, &request(1, "tools/call", params).to_string()).messages().pop().unwrap();
        assert_eq!(said["result"]["structuredContent"]["total"], 1, "{said}");
    }
    for app in apps {
        app.kill();
    }
    let third = App::start_in(&dir, "contacts", &[], &[]);
    assert_eq!(third.http("/mcp", &[]).json("search_contacts", json!({"query": "ada"}))["total"], 1);
    drop(third);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn s0_36_a_session_is_where_it_was_opened_and_elsewhere_its_client_begins_anew() {
    let dir = fresh_dir("contacts");
    let variables = [("BEARER_TOKEN", TOKEN)];
    let [here, there] = [App::start_in(&dir, "contacts", &[], &variables), App::start_in(&dir, "contacts", &[], &variables)];
    let with = bearer(TOKEN);
    let post = |app: &App, path: &str, session: Option<&str>, message: &Value| {
        let mut headers = vec![("Authorization", with.as_str())];
        headers.extend(session.map(|id| ("Mcp-Session-Id", id)));
        app.wire().post(path, &headers, &message.to_string())
    };
    let list = request(2, "tools/list", json!({}));
    let opened = post(&here, "/mcp", None, &hello("2025-06-18"));
    let id = opened.header("mcp-session-id").unwrap();
    assert_eq!((post(&here, "/mcp", Some(id), &list).status, post(&there, "/mcp", Some(id), &list).status), (200, 404));
    // 404 is what tells a client to shake hands again, and then it is served there.
    let anew = post(&there, "/mcp", None, &hello("2025-06-18"));
    assert_eq!(post(&there, "/mcp", anew.header("mcp-session-id"), &list).status, 200);
    let (mut stream, endpoint) = stream(&here, &[("Authorization", &with)]);
    assert_eq!((post(&there, &endpoint, None, &list).status, post(&here, &endpoint, None, &list).status), (404, 202));
    assert_eq!(stream.message().unwrap()["id"], 2, "who was at the wrong one has disturbed nothing");
    // What a process took with it is gone as well, and nothing else.
    let port = here.port.to_string();
    here.kill();
    let again = App::start_in(&dir, "contacts", &["--port", &port], &variables);
    assert_eq!((post(&again, "/mcp", Some(id), &list).status, post(&again, &endpoint, None, &list).status), (404, 404));
    assert_eq!(post(&again, "/mcp", None, &list).status, 200);
    drop((again, there));
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
    for version in ["2024-11-05", "2025-06-18"] {
        let (mut stream, endpoint) = stream(&app, &[]);
        app.post(&endpoint, &hello(version));
        assert_eq!(stream.message().unwrap()["result"]["protocolVersion"], version);
    }
    // One that there is not is answered by one that there is.
    let said = app.post("/mcp", &hello("1999-12-31")).messages().pop().unwrap();
    assert!(said["result"]["protocolVersion"].as_str().is_some_and(|version| version.starts_with("202")), "{said}");
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
    let mut stream = app.events("/mcp", &[("Mcp-Session-Id", &id), ("MCP-Protocol-Version", "2025-06-18")]);
    assert!(stream.status == 200 && stream.piece().is_some() && begun.elapsed() < Duration::from_secs(5));
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
