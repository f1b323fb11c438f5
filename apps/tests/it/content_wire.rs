//! Rows S2: the wire, keys, and what is beside the protocol.

use std::time::Duration;

use serde_json::{Value, json};

use crate::app::{App, fresh_dir, run};
use crate::content::{ADA, KEYS, b64, start, start_in};

fn list(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})
}

fn n_tools(message: &Value) -> usize {
    message["result"]["tools"].as_array().unwrap_or_else(|| panic!("{message}")).len()
}

#[test]
fn s2_1_mode_sse_starts_a_server_at_8080() {
    let help = run(&fresh_dir("content-help"), "content", &["--help"], &[]).1;
    assert!(help.contains("--mode") && help.contains("[default: 8080]"), "{help}");
    for name in ["MCP_MODE", "MCP_HOST", "MCP_PORT", "MCP_BASE_URL", "MCP_API_KEY_1", "DATABASE_URL", "STORAGE_BACKEND", "S3_BUCKET"] {
        assert!(help.contains(name), "{name}");
    }
    let app = start(&[]);
    assert!(app.said().contains(&format!("content is at http://127.0.0.1:{}/sse", app.port)), "{}", app.said());
    assert_eq!(app.sse("/sse", &[]).tools().len(), 14);
}

#[test]
fn s2_2_a_flag_says_the_port() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The last flag of two would be refused: the harness gives one of its own.
    let dir = fresh_dir("content-port");
    let mut child = crate::app::command(&dir, "content", &[("MCP_PORT", "1")])
        .args(["--mode=sse", &format!("--port={free}")])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", free)).is_err() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(crate::wire::Wire::connect(free).request("GET", "/health", &[], None).text(), "OK");
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_3_a_file_of_variables_is_read_and_flags_count_for_more() {
    let dir = fresh_dir("content-env");
    std::fs::write(dir.join(".env"), "MCP_MODE=sse\nMCP_PORT=1\nMCP_ENABLE_PROMPTS=false\n").unwrap();
    let app = App::start_in(&dir, "content", &[], &[]);
    assert!(app.said().contains("/sse"), "the mode is that of the file, the port that of the flag");
    assert!(app.sse("/sse", &[]).ask("prompts/list", json!({}))["error"].is_object());
    drop(app);
    std::fs::write(dir.join("other.env"), "MCP_MODE=http\n").unwrap();
    let app = App::start_in(&dir, "content", &["--env", "other.env"], &[]);
    assert!(app.said().contains("/mcp"), "{}", app.said());
    drop(app);
    // A flag counts although it says what is the default.
    let app = App::start_in(&dir, "content", &["--mode", "sse", "--host", "127.0.0.1"], &[("MCP_MODE", "http"), ("MCP_HOST", "0.0.0.0")]);
    assert!(app.said().contains("127.0.0.1") && app.said().contains("/sse"));
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
    assert!(crate::app::run(&std::env::temp_dir(), "--version", &[], &[]).1.contains("landbridge-apps"));
}

#[test]
fn s2_4_host_and_base_url_are_what_the_settings_say() {
    let app = start(&[("MCP_BASE_URL", "https://mcp.example.com"), ("MCP_HOST", "localhost")]);
    let mut client = app.sse("/sse", &[]);
    let id = client.upload("n", "x");
    let url = client.json("download_content", json!({"content_id": id}))["download_url"].clone();
    assert!(url.as_str().unwrap().starts_with(&format!("https://mcp.example.com/contents/{id}/download?")), "{url}");
    let by_name = app.get_with("/health", &[("host", "mcp.example.com")]);
    assert_eq!(by_name.status, 200, "it answers to that name");
    let all = App::start("content", &["--mode", "sse", "--insecure-public"], &[("MCP_HOST", "0.0.0.0")]);
    assert!(all.said().contains("http://0.0.0.0:"));
}

#[test]
fn s2_5_keys_are_read_with_owner_tenant_and_end() {
    let mut variables = KEYS.to_vec();
    variables.extend([
        ("MCP_API_KEY_5", "a-key-that-has-ended-already:550e8400-e29b-41d4-a716-446655440000::2020-01-01T00:00:00Z"),
        ("MCP_API_KEY_6", "a-key-that-ends-some-day-far:550e8400-e29b-41d4-a716-446655440000::2099-01-01T00:00:00Z"),
        ("MCP_API_KEY_7", "a-key-without-an-owner-at-all"),
        ("MCP_API_KEY_8", "a-key-of-nobody-in-particular:ada"),
        ("MCP_API_KEY_10", "the-tenth-key-is-the-last-one:550e8400-e29b-41d4-a716-446655440000"),
        ("MCP_API_KEY_11", "the-eleventh-is-not-looked-at:550e8400-e29b-41d4-a716-446655440000"),
    ]);
    let app = start(&variables);
    for (key, status) in [
        ("your-key", 200),
        ("a-key-that-ends-some-day-far", 200),
        ("the-tenth-key-is-the-last-one", 200),
        ("a-key-that-has-ended-already", 401),
        ("a-key-without-an-owner-at-all", 401),
        ("a-key-of-nobody-in-particular", 401),
        ("the-eleventh-is-not-looked-at", 401),
    ] {
        assert_eq!(app.events("/sse", &[("X-API-Key", key)]).status, status, "{key}");
    }
    let said = app.said();
    assert!(said.contains("MCP_API_KEY_7") && said.contains("MCP_API_KEY_8") && said.contains("MCP_API_KEY_1:"), "{said}");
    assert!(!said.contains("your-key") && !said.contains("nobody-in-particular"), "no secret is told: {said}");
    let dir = fresh_dir("content-keys");
    let (well, said) = run(&dir, "content", &["--mode", "sse", "--port", "0"], &[("MCP_AUTH_ENABLED", "true")]);
    assert!(!well && said.contains("set MCP_API_KEY_1"), "{said}");
    // A key that could be guessed is for this machine only.
    let (well, said) = run(&dir, "content", &["--mode", "sse", "--port", "0", "--host", "0.0.0.0"], &KEYS[..2]);
    assert!(!well && said.contains("could be guessed by others"), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_8_the_example_of_settings_can_be_used() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/content.env.example");
    let dir = fresh_dir("content-example");
    std::fs::copy(example, dir.join(".env")).unwrap();
    let app = App::start_in(&dir, "content", &[], &[]);
    assert_eq!(app.events("/sse", &[]).status, 401);
    assert_eq!(app.sse("/sse", &[("X-API-Key", "your-key")]).tools().len(), 14);
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_9_a_client_opens_with_a_get() {
    let stream = start(&[]).events("/sse", &[]);
    assert_eq!((stream.status, stream.header("content-type").map(|media| media.starts_with("text/event-stream"))), (200, Some(true)));
}

#[test]
fn s2_10_the_first_event_is_the_endpoint() {
    let app = start(&[]);
    let event = app.events("/sse", &[]).event().unwrap();
    assert_eq!(event.name, "endpoint");
    assert!(event.data.strip_prefix("/sse?sessionid=").is_some_and(|id| id.len() >= 32), "{}", event.data);
}

#[test]
fn s2_11_a_post_to_the_endpoint_delivers_a_message() {
    let app = start(&[]);
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().unwrap().data;
    assert_eq!(app.post(&endpoint, &list(1)).status, 202);
    assert_eq!(n_tools(&stream.message().unwrap()), 14);
}

#[test]
fn s2_12_the_answer_is_on_the_stream_and_not_in_the_post() {
    let app = start(&[]);
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().unwrap().data;
    let posted = app.post(&endpoint, &list(5));
    assert!(posted.status == 202 && !posted.text().contains("tools"));
    let event = stream.event().unwrap();
    assert_eq!(event.name, "message");
    let message: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!((&message["jsonrpc"], &message["id"]), (&json!("2.0"), &json!(5)));
}

/// The document's example: a stream by curl, and a POST by curl, as they are written there but for the port.
#[test]
fn s2_13_the_documents_curl_flow_works_word_for_word() {
    let app = start(&[]);
    let at = format!("localhost:{}", app.port);
    let script = r#"
        curl -N http://localhost:8080/sse > stream 2> /dev/null &
        stream=$!
        for i in $(seq 100); do grep -q sessionid= stream && break; sleep 0.05; done
        ABC123XYZ=$(sed -n 's/^data: .*sessionid=//p' stream | head -n 1 | tr -d '\r')
        curl -X POST http://localhost:8080/sse?sessionid=$ABC123XYZ \
          -H "Content-Type: application/json" \
          -d '{
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/list"
          }' 2> /dev/null
        echo
        for i in $(seq 100); do grep -q batch_upload stream && break; sleep 0.05; done
        kill $stream
        cat stream"#
        .replace("localhost:8080", &at);
    let out = std::process::Command::new("bash").arg("-c").arg(script).current_dir(&app.dir).output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.starts_with("event: endpoint") || said.contains("\nevent: endpoint\ndata: /sse?sessionid="), "{said}");
    let message = said.lines().skip_while(|line| *line != "event: message").nth(1).and_then(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(n_tools(&serde_json::from_str(message).unwrap()), 14);
}

/// The document's other commands, as they are written there but for the port and the end: curl would wait for ever.
#[test]
fn s2_13_the_documents_other_commands_work_word_for_word() {
    let app = start(&KEYS);
    let at = format!("localhost:{}", app.port);
    let commands = [
        r#"curl -N -H "X-API-Key: your-key" \
     -H "MCP-Protocol-Version: 2025-06-18" \
     http://localhost:8080/sse"#,
        r#"curl -N -H "Authorization: Bearer your-key" \
     -H "MCP-Protocol-Version: 2025-06-18" \
     http://localhost:8080/sse"#,
    ];
    let open = start(&[]);
    let open_at = format!("localhost:{}", open.port);
    let without_a_key = [
        r#"curl -N http://localhost:8080/sse"#,
        r#"curl -N -H "MCP-Protocol-Version: 2025-06-18" http://localhost:8080/sse"#,
        r#"curl -N -H "MCP-Protocol-Version: 2025-06-18" \
     -H "Mcp-Session-Id: abc123def456" \
     http://localhost:8080/sse"#,
    ];
    let all = commands.map(|command| (&at, command)).into_iter().chain(without_a_key.map(|command| (&open_at, command)));
    for (at, command) in all {
        let script = format!("{} 2> /dev/null & sleep 1; kill $!", command.replace("localhost:8080", at));
        let out = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(said.contains("event: endpoint\ndata: /sse?sessionid="), "{command}: {said}");
    }
}

#[test]
fn s2_14_the_header_of_2025_06_18_is_taken() {
    let app = start(&[]);
    let version = [("MCP-Protocol-Version", "2025-06-18")];
    let mut stream = app.events("/sse", &version);
    let endpoint = stream.event().unwrap().data;
    assert_eq!(app.wire().post(&endpoint, &version, &list(1).to_string()).status, 202);
    assert_eq!(n_tools(&stream.message().unwrap()), 14);
    assert_eq!(app.http("/mcp", &[]).tools().len(), 14);
}

#[test]
fn s2_15_without_the_header_nothing_is_missing() {
    let app = start(&[]);
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().unwrap().data;
    assert_eq!(app.post(&endpoint, &list(1)).status, 202);
    // As for 2025-03-26, which has batches and no such header.
    let lone = app.wire().post("/mcp", &[("Accept", "application/json, text/event-stream")], &list(2).to_string());
    assert_eq!(n_tools(&lone.messages()[0]), 14);
    let accept = [("Accept", "application/json, text/event-stream")];
    let opened = app.wire().post("/mcp", &accept, &hello("2025-03-26").to_string());
    assert_eq!(opened.messages()[0]["result"]["protocolVersion"], "2025-03-26");
    let session = opened.header("mcp-session-id").unwrap();
    let batch = json!([list(3), list(4)]).to_string();
    let answer = app.wire().post("/mcp", &[accept[0], ("Mcp-Session-Id", session)], &batch);
    let answers = match answer.messages().pop().unwrap() {
        Value::Array(all) => all,
        last => [answer.messages(), vec![last]].concat(),
    };
    let mut ids: Vec<u64> = answers.iter().map(|answer| (answer["id"].as_u64().unwrap(), n_tools(answer)).0).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((answer.status, ids), (200, vec![3, 4]));
}

fn hello(revision: &str) -> Value {
    let info = json!({"name": "t", "version": "1"});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": revision, "capabilities": {}, "clientInfo": info}})
}

#[test]
fn s2_16_four_revisions_are_supported() {
    let app = start(&[]);
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut stream = app.events("/sse", &[("MCP-Protocol-Version", revision)]);
        let endpoint = stream.event().unwrap().data;
        assert_eq!(app.wire().post(&endpoint, &[("MCP-Protocol-Version", revision)], &hello(revision).to_string()).status, 202);
        assert_eq!(stream.message().unwrap()["result"]["protocolVersion"], revision, "over HTTP+SSE");
        let headers = [("Accept", "application/json, text/event-stream"), ("MCP-Protocol-Version", revision)];
        let said = app.wire().post("/mcp", &headers, &hello(revision).to_string()).messages()[0].clone();
        assert_eq!(said["result"]["protocolVersion"], revision, "over Streamable HTTP");
    }
}

#[test]
fn s2_17_another_revision_is_refused() {
    let app = start(&[]);
    for revision in ["2023-01-01", "latest", "2025-06-19"] {
        let refused = app.get_with("/sse", &[("MCP-Protocol-Version", revision), ("Accept", "text/event-stream")]);
        assert_eq!(refused.status, 400, "{revision}");
        assert!(refused.text().to_lowercase().contains("version"), "{}", refused.text());
        let mut stream = app.events("/sse", &[]);
        let endpoint = stream.event().unwrap().data;
        for path in [endpoint.as_str(), "/mcp"] {
            let refused = app.wire().post(path, &[("MCP-Protocol-Version", revision)], &list(1).to_string());
            assert_eq!(refused.status, 400, "{revision} {path}");
        }
    }
}

#[test]
fn s2_18_a_client_may_name_a_session_when_it_opens() {
    let app = start(&[]);
    let mut stream = app.events("/sse", &[("MCP-Protocol-Version", "2025-06-18"), ("Mcp-Session-Id", "abc123def456")]);
    assert_eq!(stream.status, 200);
    let endpoint = stream.event().unwrap().data;
    assert_eq!(app.post(&endpoint, &list(1)).status, 202);
    assert_eq!(n_tools(&stream.message().unwrap()), 14);
    // Again, while that one is open, as who comes back may do: another session by the same name.
    let mut again = app.events("/sse", &[("Mcp-Session-Id", "abc123def456")]);
    let other = again.event().unwrap().data;
    assert_ne!(other, endpoint);
    assert_eq!(app.post(&other, &list(2)).status, 202);
    assert_eq!((again.message().unwrap()["id"].clone(), app.post(&endpoint, &list(3)).status), (json!(2), 202));
    assert_eq!(stream.message().unwrap()["id"], 3);
    assert_eq!(app.post("/sse?sessionid=abc123def456", &list(4)).status, 404, "it names nothing");
}

#[test]
fn s2_19_the_name_is_in_the_log_beside_the_session() {
    let app = start(&KEYS);
    let key = ("X-API-Key", "your-key");
    let mut stream = app.events("/sse", &[key, ("Mcp-Session-Id", "abc123def456")]);
    let endpoint = stream.event().unwrap().data;
    let id = endpoint.rsplit('=').next().unwrap();
    // What would break a line of the log, or fill it, does not; nor can a session be taken over by what is told of it.
    let _long = app.events("/sse", &[key, ("Mcp-Session-Id", &"l".repeat(3000))]);
    let _odd = app.events("/sse", &[key, ("Mcp-Session-Id", "a\"b\\c")]);
    let _other = app.events("/sse", &[key, ("Mcp-Session-Id", id)]);
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while app.said().matches("a client calls its session").count() < 4 {
        assert!(std::time::Instant::now() < end, "{}", app.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = app.said();
    let line = said.lines().find(|line| line.contains("abc123def456")).unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains(&id[..8]) && line.contains("INFO"), "with the session that it is: {line}");
    assert!(!said.contains(id), "which nobody can take over by it");
    assert!(!said.contains(&"l".repeat(65)) && said.contains(r#"\"a\\\"b"#) || said.contains(r#"a\"b"#), "{said}");
}

#[test]
fn s2_19_nobody_goes_on_with_anothers_session_at_mcp() {
    let app = start(&KEYS);
    let accept = ("Accept", "application/json, text/event-stream");
    let (ada, bob, acme) = (("X-API-Key", "your-key"), ("X-API-Key", "the-key-of-bob-himself"), ("X-API-Key", "the-key-of-ada-at-acme"));
    let opened = app.wire().post("/mcp", &[accept, ada], &hello("2025-06-18").to_string());
    let session = ("Mcp-Session-Id", opened.header("mcp-session-id").unwrap());
    let body = list(2).to_string();
    for key in [bob, acme] {
        for (verb, path) in [("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp")] {
            let refused = app.wire().open(verb, path, &[accept, key, session], (verb == "POST").then_some(body.as_str()));
            assert_eq!(refused.status, 404, "{key:?} {verb}");
        }
        // Where a stream is opened, it is one of their own.
        let mut own = app.events("/sse", &[key, session]);
        let endpoint = own.event().unwrap().data;
        assert!(!endpoint.contains(session.1));
        assert_eq!(app.wire().post(&format!("/sse?sessionid={}", session.1), &[key], &body).status, 404);
    }
    assert_eq!(n_tools(&app.wire().post("/mcp", &[accept, ada, session], &body).messages()[0]), 14, "and hers goes on");
}

#[test]
fn s2_19_a_name_does_not_take_over_anothers_session() {
    let app = start(&KEYS);
    let mut adas = app.events("/sse", &[("X-API-Key", "your-key")]);
    let endpoint = adas.event().unwrap().data;
    let id = endpoint.rsplit('=').next().unwrap().to_owned();
    let bob = [("X-API-Key", "the-key-of-bob-himself"), ("Mcp-Session-Id", id.as_str())];
    let mut bobs = app.events("/sse", &bob);
    let other = bobs.event().unwrap().data;
    assert_ne!(other, endpoint, "he gets one of his own");
    let taken = app.wire().post(&endpoint, &bob[..1], &list(1).to_string());
    assert_eq!((taken.status, taken.text().as_str()), (404, "session not found"));
    assert_eq!(app.wire().post(&endpoint, &[("X-API-Key", "your-key")], &list(2).to_string()).status, 202);
    assert_eq!(adas.message().unwrap()["id"], 2, "and hers goes on");
}

#[test]
fn s2_20_ids_are_random() {
    let app = start(&[]);
    let mut ids: Vec<String> = (0..50).map(|_| app.events("/sse", &[]).event().unwrap().data).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
    let differ = |n: usize| ids.iter().map(|id| id.as_bytes()[id.len() - 1 - n]).collect::<std::collections::BTreeSet<_>>().len();
    assert!((0..8).all(|n| differ(n) > 4), "{ids:?}");
}

#[test]
fn s2_21_accept_is_honoured() {
    let app = start(&[]);
    for accept in ["text/event-stream", "*/*", "text/event-stream, application/json"] {
        let stream = app.wire().open("GET", "/sse", &[("Accept", accept)], None);
        assert_eq!(stream.status, 200, "{accept}");
    }
}

#[test]
fn s2_22_a_browsers_event_source_needs_no_header() {
    let app = start(&[]);
    let origin = format!("http://localhost:{}", app.port);
    let mut stream =
        app.wire().open("GET", "/sse", &[("Accept", "text/event-stream"), ("Origin", &origin), ("Cache-Control", "no-cache")], None);
    let endpoint = stream.event().unwrap();
    assert_eq!((stream.status, endpoint.name.as_str()), (200, "endpoint"));
    assert_eq!(app.post(&endpoint.data, &list(1)).status, 202);
    assert_eq!(stream.event().unwrap().name, "message");
}

#[test]
fn s2_23_the_endpoint_can_be_appended_to_an_origin() {
    let app = start(&[]);
    let endpoint = app.events("/sse", &[]).event().unwrap().data;
    assert!(endpoint.starts_with('/') && !endpoint.starts_with("//"), "{endpoint}");
}

#[test]
fn s2_24_requests_are_of_json_rpc() {
    let app = start(&[]);
    let endpoint = {
        let mut stream = app.events("/sse", &[]);
        let endpoint = stream.event().unwrap().data;
        for bad in ["{", "[]", "7", "{\"id\":1,\"method\":\"tools/list\"}", "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"tools/list\"}"] {
            let refused = app.wire().post(&endpoint, &[], bad);
            assert_eq!(refused.status, 400, "{bad}");
        }
        endpoint
    };
    assert!(!endpoint.is_empty());
    let mut client = app.sse("/sse", &[]);
    assert_eq!(client.ask("no/such", json!({}))["error"]["code"], -32601);
    let unknown = client.ask("tools/call", json!({"name": "no_such_tool", "arguments": {}}));
    assert!(unknown["error"].is_object() || unknown["result"]["isError"] == true, "{unknown}");
}

#[test]
fn s2_26_a_key_is_taken_as_x_api_key() {
    let app = start(&KEYS);
    assert_eq!(app.sse("/sse", &[("X-API-Key", "your-key"), ("MCP-Protocol-Version", "2025-06-18")]).tools().len(), 14);
    assert_eq!(app.http("/mcp", &[("X-API-Key", "your-key")]).tools().len(), 14);
}

#[test]
fn s2_27_and_as_a_bearer_token() {
    let app = start(&KEYS);
    for value in ["Bearer your-key", "bearer your-key", "your-key"] {
        assert_eq!(app.sse("/sse", &[("Authorization", value)]).tools().len(), 14, "{value}");
    }
    // X-API-Key counts for more.
    let both = [("X-API-Key", "your-key"), ("Authorization", "Bearer nonsense")];
    assert_eq!(app.events("/sse", &both).status, 200);
    let both = [("X-API-Key", "nonsense"), ("Authorization", "Bearer your-key")];
    assert_eq!(app.events("/sse", &both).status, 401);
}

#[test]
fn s2_28_refusals_say_what_is_wrong() {
    let app = start(&KEYS);
    for path in ["/sse", "/mcp", "/sse?sessionid=x"] {
        let missing = app.wire().post(path, &[], &list(1).to_string());
        assert_eq!((missing.status, missing.text().as_str()), (401, "API key required"), "{path}");
        let wrong = app.wire().post(path, &[("X-API-Key", "your-kez")], &list(1).to_string());
        assert_eq!((wrong.status, wrong.text().as_str()), (401, "Invalid API key"), "{path}");
        assert!(wrong.header("www-authenticate").is_some());
    }
    assert_eq!((app.get("/sse").status, app.get("/sse").text().as_str()), (401, "API key required"));
}

#[test]
fn s2_29_a_key_is_needed_for_every_request() {
    let app = start(&KEYS);
    let key = [("X-API-Key", "your-key")];
    let mut stream = app.events("/sse", &key);
    let endpoint = stream.event().unwrap().data;
    assert_eq!(app.post(&endpoint, &list(1)).status, 401);
    assert_eq!(app.wire().post(&endpoint, &[("X-API-Key", "wrong")], &list(1).to_string()).status, 401);
    assert_eq!(app.wire().post(&endpoint, &key, &list(2).to_string()).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 2);
}

#[test]
fn s2_29_a_key_that_ends_lets_nobody_go_on() {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let text = format!("a-key-that-ends-very-soon:{ADA}::{end}");
    let app = start(&[("MCP_AUTH_ENABLED", "true"), ("MCP_API_KEY_1", &text)]);
    let key = [("X-API-Key", "a-key-that-ends-very-soon")];
    let mut stream = app.events("/sse", &key);
    let endpoint = stream.event().unwrap().data;
    assert_eq!(app.wire().post(&endpoint, &key, &list(1).to_string()).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 1);
    while jiff::Timestamp::now() <= end {
        std::thread::sleep(Duration::from_millis(100));
    }
    let refused = app.wire().post(&endpoint, &key, &list(2).to_string());
    assert_eq!((refused.status, refused.text().as_str()), (401, "Invalid API key"));
    assert!(stream.is_over(), "what it has opened ends as well");
}

#[test]
fn s2_32_get_and_no_other_verb_opens() {
    let app = start(&[]);
    assert_eq!(app.events("/sse", &[]).status, 200);
    for verb in ["PUT", "DELETE", "PATCH"] {
        assert_eq!(app.wire().request(verb, "/sse", &[], None).status, 405, "{verb}");
    }
}

#[test]
fn s2_33_a_post_that_fits_no_session_is_refused_in_words() {
    let app = start(&[]);
    let missing = app.post("/sse", &list(1));
    assert_eq!((missing.status, missing.text().as_str()), (400, "sessionid must be provided"));
    let unknown = app.post("/sse?sessionid=11b56c40dc7a4ce991278998bcace54f", &list(1));
    assert_eq!((unknown.status, unknown.text().as_str()), (404, "session not found"));
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().unwrap().data;
    assert_eq!(app.wire().post(&endpoint, &[], "no JSON").status, 400);
}

#[test]
fn s2_34_health_is_a_word() {
    let app = start(&KEYS);
    assert_eq!((app.get("/health").status, app.get("/health").text().as_str()), (200, "OK"));
}

#[test]
fn s2_35_ready_is_another() {
    let app = start(&KEYS);
    assert_eq!((app.get("/ready").status, app.get("/ready").text().as_str()), (200, "READY"));
}

#[test]
fn s2_41_pages_of_others_are_refused() {
    let app = start(&[]);
    for origin in ["http://localhost.evil.com", "http://127.0.0.1.evil.com", "https://evil.example", "null", "http://localhost@evil.com"] {
        for (verb, path) in [("GET", "/sse"), ("POST", "/mcp"), ("GET", "/health")] {
            let body = list(1).to_string();
            let refused = app.wire().request(verb, path, &[("Origin", origin)], (verb == "POST").then_some(body.as_str()));
            assert_eq!(refused.status, 403, "{origin} {path}");
            assert!(refused.text().to_lowercase().contains("origin"), "{}", refused.text());
        }
    }
    for origin in ["http://localhost", "http://localhost:3000", "http://127.0.0.1:8080"] {
        assert_eq!(app.events("/sse", &[("Origin", origin)]).status, 200, "{origin}");
    }
    assert_eq!(app.events("/sse", &[]).status, 200, "programs send none");
}

#[test]
fn s2_42_it_listens_on_loopback_unless_told_otherwise() {
    let app = start(&[]);
    assert!(app.said().contains("http://127.0.0.1:"));
    let dir = fresh_dir("content-public");
    let (well, said) = run(&dir, "content", &["--mode", "sse", "--port", "0", "--host", "0.0.0.0"], &[]);
    assert!(!well, "everybody could call: {said}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_43_no_page_elsewhere_may_read_unless_that_is_said() {
    let app = start(&[]);
    let answered = app.get_with("/health", &[("Origin", "http://localhost:3000")]);
    assert_eq!((answered.status, answered.header("access-control-allow-origin")), (200, None));
}

#[test]
fn s2_44_where_it_is_said_pages_may() {
    let app = start(&[("MCP_CORS_ORIGINS", "https://app.example.com")]);
    let preflight = [
        ("Origin", "https://app.example.com"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type,x-api-key,authorization"),
    ];
    let answer = app.wire().request("OPTIONS", "/sse", &preflight, None);
    assert!(answer.status < 300, "{}", answer.status);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example.com"));
    let methods = answer.header("access-control-allow-methods").unwrap();
    let headers = answer.header("access-control-allow-headers").unwrap().to_lowercase();
    assert!(["GET", "POST"].iter().all(|one| methods.contains(one)), "{methods}");
    assert!(["content-type", "x-api-key", "authorization"].iter().all(|one| headers.contains(one)), "{headers}");
    assert_eq!(app.wire().request("OPTIONS", "/sse", &[("Origin", "https://evil.example"), preflight[1]], None).status, 403);
    let said = app.get_with("/health", &[("Origin", "https://app.example.com")]);
    assert_eq!(said.header("access-control-allow-credentials"), None);
    assert!(said.header("vary").unwrap().to_lowercase().contains("origin"), "it is not the same for all");
}

#[test]
fn s2_44_every_page_may_where_that_is_said() {
    let mut variables = KEYS.to_vec();
    variables.push(("MCP_CORS_ORIGINS", "*"));
    let app = start(&variables);
    for origin in ["https://app.example.com", "http://localhost:3000", "null"] {
        for path in ["/sse", "/mcp", "/contents/x/upload"] {
            let asked = [
                ("Origin", origin),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", "content-type,x-api-key,authorization"),
            ];
            let answer = app.wire().request("OPTIONS", path, &asked, None);
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, Some("*")), "{origin} {path}");
            assert_eq!(answer.header("access-control-allow-credentials"), None, "never both");
            let methods: Vec<&str> = answer.header("access-control-allow-methods").unwrap().split(", ").collect();
            let mut expected = vec!["GET", "POST", "DELETE", "OPTIONS"];
            if path.starts_with("/contents") {
                expected.insert(2, "PUT");
            }
            assert_eq!(methods, expected, "{path}");
            let headers = answer.header("access-control-allow-headers").unwrap().to_lowercase();
            let headers: Vec<&str> = headers.split(", ").collect();
            assert!(["content-type", "x-api-key", "authorization"].iter().all(|one| headers.contains(one)), "{headers:?}");
        }
        // On what is answered, on what is refused, and on streams.
        let key = ("X-API-Key", "your-key");
        let good = app.wire().post("/mcp", &[("Origin", origin), key], &list(1).to_string());
        let refused = app.wire().post("/mcp", &[("Origin", origin)], &list(1).to_string());
        let stream = app.events("/sse", &[("Origin", origin), key]);
        assert_eq!((good.status, refused.status, stream.status), (200, 401, 200));
        for said in [good.header("access-control-allow-origin"), refused.header("access-control-allow-origin")] {
            assert_eq!(said, Some("*"));
        }
        assert_eq!(stream.header("access-control-allow-origin"), Some("*"));
        assert_eq!(good.header("access-control-allow-credentials"), None);
    }
    assert_eq!(app.get("/health").header("access-control-allow-origin"), None, "programs need none");
}

#[test]
fn s2_45_proxies_are_told_not_to_buffer() {
    let app = start(&[]);
    // What nginx sends on behalf of a client.
    let stream =
        app.wire().open("GET", "/sse", &[("Accept", "text/event-stream"), ("Connection", ""), ("X-Forwarded-For", "10.0.0.9")], None);
    assert_eq!((stream.status, stream.header("x-accel-buffering")), (200, Some("no")));
    assert!(stream.header("cache-control").unwrap().contains("no-cache") || stream.header("cache-control").unwrap().contains("no-store"));
}

#[test]
fn s2_46_a_client_has_one_stream_and_two_have_two() {
    let app = start(&[]);
    let (mut one, mut two) = (app.sse("/sse", &[]), app.sse("/sse", &[]));
    for _ in 0..20 {
        assert_eq!((one.tools().len(), two.tools().len()), (14, 14));
    }
}

#[test]
fn s2_47_a_stream_stays_open_while_nothing_happens() {
    let app = start(&[("MCP_KEEPALIVE_MS", "20")]);
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().unwrap().data;
    let mut client = app.sse("/sse", &[]);
    let opened = app.wire().post("/mcp", &[("Accept", "application/json, text/event-stream")], &hello("2025-06-18").to_string());
    let session = ("Mcp-Session-Id", opened.header("mcp-session-id").unwrap());
    let mut newer = app.events("/mcp", &[session]);
    // As many as in two hours, unless somebody says how often: every 15 s.
    for _ in 0..480 {
        for stream in [&mut stream, &mut newer] {
            // A stream of Streamable HTTP begins with an event that says how to come back.
            let event = stream.event_or_comment().unwrap();
            assert!(event.name == ":" || event.data.is_empty(), "{event:?}");
        }
    }
    assert_eq!(app.post(&endpoint, &list(1)).status, 202);
    assert_eq!(n_tools(&stream.message().unwrap()), 14, "then it carries a call");
    assert_eq!(client.tools().len(), 14, "also where nobody has read for as long");
    let answer = app.wire().post("/mcp", &[session], &list(2).to_string());
    assert_eq!(n_tools(&answer.messages()[0]), 14);
    assert_eq!(newer.event_or_comment().unwrap().name, ":", "and that one is still open");
}

#[test]
fn s2_48_an_instance_that_does_not_know_a_session_says_so() {
    let (one, two) = (start(&[]), start(&[]));
    let endpoint = one.events("/sse", &[]).event().unwrap().data;
    let lost = two.post(&endpoint, &list(1));
    assert_eq!((lost.status, lost.text().as_str()), (404, "session not found"), "so that the client begins anew");
    // And who has no session needs no sticky one.
    for app in [&one, &two] {
        assert_eq!(n_tools(&app.post("/mcp", &list(1)).json()), 14);
    }
}

#[test]
fn s2_49_a_client_may_have_so_many_sessions() {
    let mut variables = KEYS.to_vec();
    variables.push(("MCP_MAX_SESSIONS", "3"));
    let app = start(&variables);
    let key = [("X-API-Key", "your-key")];
    let mut open: Vec<_> = (0..3).map(|_| app.events("/sse", &key)).collect();
    assert!(open.iter_mut().all(|stream| stream.event().is_some()));
    let refused = app.events("/sse", &key);
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(app.events("/sse", &[("X-API-Key", "the-key-of-bob-himself")]).status, 200, "others may");
}

#[test]
fn s2_51_who_was_cut_off_comes_back() {
    let app = start(&[]);
    for _ in 0..5 {
        let mut client = app.sse("/sse", &[]);
        assert_eq!(client.tools().len(), 14);
        drop(client);
    }
    assert_eq!(app.sse("/sse", &[]).tools().len(), 14);
}

#[test]
fn s2_51_an_answer_that_was_cut_off_can_be_had() {
    let slow = crate::content::web(|_| {
        std::thread::sleep(Duration::from_millis(2500));
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow".to_vec()
    });
    let host = format!("127.0.0.1:{slow}");
    let app = start(&[("CONTENT_FETCH_HOSTS", &host)]);
    let accept = ("Accept", "application/json, text/event-stream");
    let opened = app.wire().post("/mcp", &[accept], &hello("2025-11-25").to_string());
    let session = ("Mcp-Session-Id", opened.header("mcp-session-id").unwrap());
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "upload_content", "arguments": {"owner_id": ADA, "name": "n", "data": format!("http://{host}/")}}});
    let mut stream = app.wire().open("POST", "/mcp", &[session], Some(&call.to_string()));
    let id = stream.event().unwrap().id.expect("what to come back with");
    drop(stream);
    let mut again = app.events("/mcp", &[session, ("Last-Event-ID", &id)]);
    let answer = again.message().unwrap();
    assert_eq!(answer["id"], 7);
    assert!(answer["result"]["content"][0]["text"].as_str().unwrap().contains("uploaded"), "{answer}");
}

#[test]
fn s2_52_a_key_may_be_used_so_often() {
    let mut variables = KEYS.to_vec();
    variables.push(("MCP_RATE_PER_MINUTE", "5"));
    let app = start(&variables);
    let ask = |key: &str| app.wire().post("/mcp", &[("X-API-Key", key)], &list(1).to_string());
    let mut answers: Vec<u16> = (0..12).map(|_| ask("your-key").status).collect();
    assert_eq!(answers[0], 200);
    assert_eq!(answers.pop(), Some(429), "{answers:?}");
    assert!(ask("your-key").header("retry-after").is_some());
    assert_eq!(ask("the-key-of-bob-himself").status, 200, "others may");
}

#[test]
fn s2_53_clients_of_all_ages_are_served_at_once() {
    let app = start(&[]);
    let (mut old, mut newer) = (app.sse("/sse", &[]), app.http("/mcp", &[]));
    let id = old.upload("n", "for all");
    let got = newer.json("download_content", json!({"content_id": id, "format": "base64"}));
    assert_eq!(got["data"], b64("for all"));
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}, "io.modelcontextprotocol/clientCapabilities": {}});
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "get_content", "arguments": {"content_id": id}, "_meta": meta}});
    let headers = [
        ("MCP-Protocol-Version", "2026-07-28"),
        ("Mcp-Method", "tools/call"),
        ("Mcp-Name", "get_content"),
        ("Accept", "application/json, text/event-stream"),
    ];
    let answer = app.wire().post("/mcp", &headers, &call.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let message = answer.messages()[0].clone();
    assert!(message["result"]["content"][0]["text"].as_str().unwrap().contains(ADA), "{message}");
}

#[test]
fn s2_55_the_web_client_is_served_and_uses_nothing_from_elsewhere() {
    let app = start(&KEYS);
    let page = app.get("/client/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'self'"));
    for file in ["client.js", "style.css"] {
        assert!(page.text().contains(file), "{file}");
        let served = app.get(&format!("/client/{file}"));
        assert!(served.status == 200 && served.body.len() > 300, "{file}");
        assert!(!served.text().contains("http://") && !served.text().contains("https://"), "{file}");
    }
    assert_eq!(app.get("/client/../content.rs").status, 404);
}

#[test]
fn s2_56_json_rpc_by_plain_posts() {
    let app = start(&KEYS);
    let key = [("X-API-Key", "your-key")];
    let answer = app.wire().post("/mcp", &key, &list(1).to_string());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(n_tools(&answer.json()), 14);
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "upload_content", "arguments": {"owner_id": ADA, "name": "n", "data": "eA=="}}});
    assert!(app.wire().post("/mcp", &key, &call.to_string()).json()["result"]["content"][0]["text"].as_str().unwrap().contains("uploaded"));
}

#[test]
fn s2_58_the_document_shows_what_there_is() {
    let page = include_str!("../../../docs/content.md");
    let help = run(&std::env::temp_dir(), "content", &["--help"], &[]).1;
    for line in
        help.lines().skip_while(|line| *line != "Environment:").skip(1).filter(|line| line.starts_with("  ") && !line.starts_with("   "))
    {
        let name = line.split_whitespace().next().unwrap();
        // Long lines go on below.
        if name.bytes().any(|b| !(b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')) {
            continue;
        }
        assert!(page.contains(name), "{name} is not in docs/content.md");
    }
    let app = start(&[]);
    for tool in app.sse("/sse", &[]).tools() {
        assert!(page.contains(&format!("`{tool}`")), "{tool} is not in docs/content.md");
    }
    // Every command of the page, as it is written there but for the port.
    let dir = fresh_dir("content-document");
    let path = format!("{}:{}", std::path::Path::new(crate::app::PROGRAM).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut script = String::from("set -e\n");
    for block in page.split("```bash\n").skip(1) {
        script.push_str(block.split("```").next().unwrap());
    }
    let script = script.replace("8080", &free) + "\nkill $server\n";
    let out = std::process::Command::new("bash")
        .args(["-c", &script])
        .current_dir(&dir)
        .env_clear()
        .env("PATH", path)
        .env("MCP_PORT", &free)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("\"status\\\": \\\"uploaded") && said.contains("Hello, library") && said.contains("READY"), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s2_59_it_ends_in_good_order_when_told_to() {
    for signal in ["-TERM", "-INT"] {
        let dir = fresh_dir("content-signal");
        let mut child = crate::app::command(&dir, "content", &[])
            .args(["--mode", "sse", "--port", "0"])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        let at = lines.find_map(|line| line.unwrap().split_once(" is at http://").map(|(_, at)| at.to_owned())).unwrap();
        let port = at.split(':').nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
        let mut stream = crate::wire::Wire::connect(port).open("GET", "/sse", &[("Accept", "text/event-stream")], None);
        assert_eq!(stream.event().unwrap().name, "endpoint");
        std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        assert!(stream.is_over(), "its streams end");
        assert!(child.wait().unwrap().success(), "{signal}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn s2_60_messages_are_taken_at_mcp_too() {
    let app = start(&[]);
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().unwrap().data;
    let id = endpoint.rsplit('=').next().unwrap();
    assert_eq!(app.post(&format!("/mcp?sessionid={id}"), &list(1)).status, 202);
    assert_eq!(n_tools(&stream.message().unwrap()), 14);
}

#[test]
fn s2_54_the_gateway_serves_it_over_http_as_it_serves_any_program() {
    // The program is its own gateway: both modes have the same tools, by the same names.
    let dir = fresh_dir("content-modes");
    let app = start_in(&dir, &[]);
    assert_eq!(app.sse("/sse", &[]).tools(), app.http("/mcp", &[]).tools());
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
}
