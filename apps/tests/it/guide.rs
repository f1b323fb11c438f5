//! Rows S4 of the list: the wires of the guide, and its tools. What is in front of it is in `guide_bridges`, who may
//! call it in `guide_login`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, command, fresh_dir, run};
use crate::lines::Lines;
use crate::wire::{Response, Stream};

/// An id of a session that there is not.
const NOBODY: &str = "11b56c40dc7a4ce991278998bcace54f";

pub fn guide(variables: &[(&str, &str)]) -> App {
    App::start("guide", &[], variables)
}

pub fn hello(revision: &str) -> Value {
    let client = json!({"name": "example-client", "version": "1.0.0"});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": revision, "capabilities": {}, "clientInfo": client}})
}

fn list(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})
}

fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// A stream of HTTP+SSE, and where its messages go.
fn open(app: &App) -> (Stream, String) {
    let mut stream = app.events("/sse", &[]);
    let endpoint = stream.event().expect("an endpoint").data;
    (stream, endpoint)
}

fn sessions(app: &App) -> u64 {
    app.get("/health").json()["sessions"].as_u64().expect("a number")
}

pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The result of a call of 2026-07-28.
fn stateless(app: &App, tool: &str, arguments: &Value) -> Value {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    });
    let mut message = call(1, tool, arguments);
    message["params"]["_meta"] = meta;
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", tool)];
    app.wire().post("/mcp", &headers, &message.to_string()).messages().pop().expect("an answer")["result"].clone()
}

// --- the wire of HTTP+SSE -----------------------------------------------------------------------

#[test]
fn s4_1_old_and_new_transports_are_served_side_by_side() {
    let app = guide(&[]);
    let (mut old, mut new) = (app.sse("/sse", &[]), app.http("/mcp", &[]));
    for n in 0..3 {
        for client in [&mut old, &mut new] {
            assert_eq!(client.text("example-tool", json!({"message": n.to_string()})), format!("Echo: {n}"));
        }
        assert_eq!(stateless(&app, "example-tool", &json!({"message": "x"}))["content"][0]["text"], "Echo: x");
    }
}

#[test]
fn s4_2_the_stream_is_at_sse() {
    let stream = guide(&[]).events("/sse", &[]);
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
}

#[test]
fn s4_3_messages_go_to_messages() {
    let app = guide(&[]);
    let (mut stream, endpoint) = open(&app);
    assert!(endpoint.starts_with("/messages?"), "{endpoint}");
    assert_eq!(app.post(&endpoint, &hello("2024-11-05")).status, 202);
    assert_eq!(stream.message().expect("an answer")["id"], 1);
}

#[test]
fn s4_4_a_client_says_that_it_reads_events() {
    let app = guide(&[]);
    for accept in ["text/event-stream", "text/event-stream, application/json", "*/*"] {
        assert_eq!(app.wire().open("GET", "/sse", &[("Accept", accept)], None).status, 200, "{accept}");
    }
}

#[test]
fn s4_5_the_endpoint_has_an_id_of_32_digits() {
    let app = guide(&[]);
    let event = app.events("/sse", &[]).event().expect("an event");
    let id = event.data.strip_prefix("/messages?session_id=").expect("the path");
    assert_eq!(event.name, "endpoint");
    assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
}

#[test]
fn s4_6_a_handshake_without_capabilities_is_one() {
    let app = guide(&[]);
    let (mut stream, endpoint) = open(&app);
    let mut message = hello("2024-11-05");
    message["params"].as_object_mut().unwrap().remove("capabilities");
    assert_eq!(app.post(&endpoint, &message).status, 202);
    let answer = stream.message().expect("an answer");
    assert_eq!(answer["result"]["protocolVersion"], "2024-11-05", "{answer}");
    assert!(answer["result"]["capabilities"]["tools"].is_object(), "{answer}");
}

#[test]
fn s4_7_a_stream_has_the_headers_that_proxies_and_clients_look_for() {
    let app = guide(&[]);
    let stream = app.events("/sse", &[]);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    assert!(stream.header("cache-control").unwrap().split(", ").any(|word| word == "no-cache"));
    assert_eq!(stream.header("connection"), Some("keep-alive"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    // Whoever wants to hang up is not told otherwise, and a page is no stream.
    assert_ne!(app.events("/sse", &[("Connection", "close")]).header("connection"), Some("keep-alive"));
    assert_eq!(app.get("/health").header("connection"), None);
}

#[test]
fn s4_8_one_endpoint_answers_in_json_or_by_a_stream() {
    let app = guide(&[("GUIDE_OPERATION", "slow:1500")]);
    let session = app.post("/mcp", &hello("2025-06-18"));
    let id = session.header("mcp-session-id").expect("a session").to_owned();
    assert_eq!(session.header("content-type"), Some("application/json"));
    let post = |tool, accept| {
        let arguments = json!({"message": "x", "input": "x"});
        app.wire().post("/mcp", &[("Mcp-Session-Id", &id), ("accept", accept)], &call(2, tool, &arguments).to_string())
    };
    let quick = post("example-tool", "application/json, text/event-stream");
    assert!(!quick.is_stream(), "{}", quick.text());
    let slow = post("robust-tool", "application/json, text/event-stream");
    assert!(slow.is_stream());
    assert_eq!(slow.messages().last().unwrap()["result"]["content"][0]["text"], "Result: x");
}

#[test]
fn s4_9_a_stream_is_pinged_with_the_time() {
    let app = guide(&[("GUIDE_PING_MS", "1000")]);
    let (mut stream, _) = open(&app);
    for _ in 0..2 {
        let ping = stream.event().expect("a ping");
        let time = ping.data.strip_prefix("ping - ").expect("a ping");
        assert_eq!((ping.name.as_str(), time.len(), &time[10..11], &time[23..]), ("ping", 24, "T", "Z"), "{ping:?}");
    }
    assert_eq!(guide(&[]).get("/health").json()["ping_ms"], 30_000);
}

#[test]
fn s4_10_pings_of_a_client_are_answered() {
    let app = guide(&[]);
    for mut client in [app.sse("/sse", &[]), app.http("/mcp", &[])] {
        assert_eq!(client.ask("ping", json!({}))["result"], json!({}));
    }
    let (mut stdio, _) = Lines::shaken(stdio(&[]));
    assert_eq!(stdio.ask("ping", json!({}))["result"], json!({}));
}

#[test]
fn s4_11_nothing_is_pinged_on_standard_streams() {
    let (stdio, _) = Lines::shaken(stdio(&[("GUIDE_PING_MS", "1000")]));
    assert_eq!(stdio.within(Duration::from_millis(2_500)), None);
    // Elsewhere it is, without anybody having asked for it.
    assert!(guide(&[]).get("/health").json()["ping_ms"].as_u64().unwrap() > 0);
}

#[test]
fn s4_12_messages_are_events_with_a_name_and_a_number() {
    let app = guide(&[]);
    let (mut stream, endpoint) = open(&app);
    let mut before = 0;
    for n in 1..4 {
        app.post(&endpoint, &list(n));
        let frame = String::from_utf8(stream.piece().expect("an event")).unwrap();
        let lines: Vec<&str> = frame.split('\n').collect();
        assert_eq!((lines.len(), lines[0], lines[3], lines[4]), (5, "event: message", "", ""), "{frame}");
        let number: u64 = lines[1].strip_prefix("id: ").and_then(|id| id.parse().ok()).expect("a number");
        let message: Value = serde_json::from_str(lines[2].strip_prefix("data: ").expect("data")).unwrap();
        assert_eq!(message["id"], n);
        assert!(number > before);
        before = number;
    }
}

#[test]
fn s4_12_who_was_cut_off_goes_on_after_the_last_event() {
    let app = guide(&[("GUIDE_OPERATION", "slow:3000")]);
    let response = app.post("/mcp", &hello("2025-11-25"));
    let session = response.header("mcp-session-id").expect("a session").to_owned();
    let headers = [("Mcp-Session-Id", session.as_str())];
    let mut stream = app.wire().open("POST", "/mcp", &headers, Some(&call(2, "robust-tool", &json!({"input": "x"})).to_string()));
    let last = stream.event().expect("an event before the answer").id.expect("an id");
    drop(stream);
    let mut again = app.events("/mcp", &[("Mcp-Session-Id", &session), ("Last-Event-ID", &last)]);
    assert_eq!(again.status, 200);
    assert_eq!(again.message().expect("the answer")["result"]["content"][0]["text"], "Result: x");
}

#[test]
fn s4_13_there_are_three_kinds_of_events() {
    let app = guide(&[("GUIDE_PING_MS", "1000")]);
    let (mut stream, endpoint) = open(&app);
    app.post(&endpoint, &list(1));
    let names: BTreeSet<String> = (0..3).map(|_| stream.event().expect("an event").name).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["message", "ping"]);
    assert_eq!(app.events("/sse", &[]).event().unwrap().name, "endpoint");
}

#[test]
fn s4_14_a_handshake_and_a_call_look_as_they_should() {
    let app = guide(&[]);
    let (mut stream, endpoint) = open(&app);
    app.post(&endpoint, &hello("2024-11-05"));
    let answer = stream.message().unwrap();
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(1)));
    app.post(&endpoint, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    app.post(&endpoint, &call(3, "example-tool", &json!({"message": "value"})));
    let answer = stream.message().unwrap();
    assert_eq!(answer["id"], 3);
    assert_eq!(answer["result"]["content"], json!([{"type": "text", "text": "Echo: value"}]));
}

// --- sessions -----------------------------------------------------------------------------------

#[test]
fn s4_19_a_session_has_an_id_an_owner_a_last_use_and_a_queue() {
    let tokens = ("GUIDE_TOKENS", "token-of-ada-0001:ada,token-of-bob-0002:bob");
    let app = App::start("guide", &["--mode", "http"], &[tokens, ("GUIDE_OPERATION", "slow:60000")]);
    let (ada, bob) = (("Authorization", "Bearer token-of-ada-0001"), ("Authorization", "Bearer token-of-bob-0002"));
    let mut stream = app.events("/sse", &[ada]);
    let endpoint = stream.event().unwrap().data;
    let id = endpoint.strip_prefix("/messages?sessionId=").expect("the path").to_owned();
    assert!(id.len() == 36 && &id[14..15] == "4", "a UUID: {id}");
    // What is kept of it, told to its owner alone.
    let records = |who| app.get_with("/sessions", &[who]).json()["sessions"].as_array().unwrap().clone();
    let time = |record: &Value, what: &str| record[what].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let [before] = &records(ada)[..] else { panic!("one session") };
    assert_eq!((&before["id"], &before["transport"]), (&json!(id), &json!("SSE")));
    assert!(before["userId"].as_str().unwrap().ends_with("ada"), "{before}");
    assert!(time(before, "createdAt") <= time(before, "lastActivity"), "{before}");
    assert_eq!((&before["permissions"], &before["queue"]), (&Value::Null, &json!({"calls": 0, "events": 0})));
    assert_eq!((records(bob), app.get("/sessions").status), (vec![], 401));
    // It was used, and something waits in it.
    std::thread::sleep(Duration::from_millis(50));
    app.wire().post(&endpoint, &[ada], &call(99, "robust-tool", &json!({"input": "x"})).to_string());
    wait_until("a call in its queue", || records(ada)[0]["queue"]["calls"] == 1);
    let after = &records(ada)[0];
    assert!(time(after, "lastActivity") > time(before, "lastActivity"), "{before} {after}");
    assert!((time(after, "createdAt") - time(before, "createdAt")).abs().compare(jiff::Span::new().milliseconds(5)).unwrap().is_le());
    // Nobody else's.
    let strange = app.wire().post(&endpoint, &[bob], &list(1).to_string());
    assert_eq!((strange.status, strange.text().as_str()), (400, "No transport found for sessionId"));
    // What is sent in a row is answered, each once.
    for n in 0..20 {
        assert_eq!(app.wire().post(&endpoint, &[ada], &call(n, "example-tool", &json!({"message": "x"})).to_string()).status, 202);
    }
    let answered: BTreeSet<u64> = (0..20).map(|_| stream.message().expect("an answer")["id"].as_u64().unwrap()).collect();
    assert_eq!(answered.len(), 20);
    // In earnest, and where others can reach it, nobody is shown any.
    assert_eq!(guide(&[("NODE_ENV", "production")]).get("/sessions").status, 404);
    let public = App::start("guide", &["--host", "0.0.0.0"], &[tokens]);
    assert_eq!(public.wire().request("GET", "/sessions", &[("host", "localhost"), ada], None).status / 100, 4);
}

#[test]
fn s4_20_a_session_that_nobody_uses_ends_and_one_in_use_does_not() {
    assert_eq!(guide(&[]).get("/health").json()["session_idle_ms"], 30 * 60_000);
    let app = guide(&[("GUIDE_SESSION_IDLE_MS", "2000"), ("GUIDE_SESSION_SWEEP_MS", "1000")]);
    let session = |app: &App| app.post("/mcp", &hello("2025-06-18")).header("mcp-session-id").expect("a session").to_owned();
    let (used, unused) = (session(&app), session(&app));
    let (mut stream, endpoint) = open(&app);
    let status = |id: &str| app.wire().post("/mcp", &[("Mcp-Session-Id", id)], &list(1).to_string()).status;
    let began = Instant::now();
    while sessions(&app) > 2 {
        assert_eq!(status(&used), 200);
        assert!(began.elapsed() < Duration::from_secs(8), "nobody has ended it");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(began.elapsed() > Duration::from_millis(1_900), "it ended too soon: {:?}", began.elapsed());
    assert_eq!((status(&unused), status(&used)), (404, 200));
    // A stream that is open is use. It has been pinged, maybe.
    app.post(&endpoint, &list(1));
    let answer = std::iter::repeat_with(|| stream.event().expect("an answer")).find(|event| event.name == "message");
    assert!(answer.unwrap().data.contains("\"id\":1"));
}

#[test]
fn s4_21_they_are_looked_for_as_often_as_is_said() {
    assert_eq!(guide(&[]).get("/health").json()["session_sweep_ms"], 5 * 60_000);
    // Idle at once, and looked for in ten seconds or in five minutes.
    let opened = |sweep: &str| {
        let app = guide(&[("GUIDE_SESSION_IDLE_MS", "10"), ("GUIDE_SESSION_SWEEP_MS", sweep)]);
        for _ in 0..40 {
            assert_eq!(app.post("/mcp", &hello("2025-06-18")).status, 200);
        }
        app
    };
    let (often, seldom) = (opened("4000"), opened("300000"));
    let began = Instant::now();
    while sessions(&often) > 0 {
        assert!(began.elapsed() < Duration::from_secs(10), "{} are left", sessions(&often));
        std::thread::sleep(Duration::from_millis(100));
    }
    // A part of them may have had its turn.
    assert!(sessions(&seldom) > 25, "{}", sessions(&seldom));
    let wrong = run(&often.dir, "guide", &["--port", "0"], &[("GUIDE_SESSION_SWEEP_MS", "often")]);
    assert!(!wrong.0 && wrong.1.contains("GUIDE_SESSION_SWEEP_MS"), "{}", wrong.1);
}

#[test]
fn s4_27_a_stream_that_closes_takes_its_session_with_it() {
    let app = guide(&[]);
    let streams: Vec<_> = (0..5).map(|_| open(&app)).collect();
    assert_eq!(sessions(&app), 5);
    let ids: BTreeSet<&String> = streams.iter().map(|(_, endpoint)| endpoint).collect();
    assert_eq!(ids.len(), 5);
    drop(streams);
    wait_until("the end of all sessions", || sessions(&app) == 0);
}

#[test]
fn s4_53_nothing_is_left_of_who_has_gone() {
    let app = guide(&[]);
    let (stream, endpoint) = open(&app);
    let response = app.post("/mcp", &hello("2025-06-18"));
    let id = response.header("mcp-session-id").unwrap();
    assert_eq!(sessions(&app), 2);
    drop(stream);
    assert_eq!(app.wire().request("DELETE", "/mcp", &[("Mcp-Session-Id", id)], None).status / 100, 2);
    wait_until("the end of both", || sessions(&app) == 0);
    assert_eq!(app.post(&endpoint, &list(1)).status, 400);
    assert_eq!(app.wire().post("/mcp", &[("Mcp-Session-Id", id)], &list(1).to_string()).status, 404);
}

// --- names, paths and refusals ------------------------------------------------------------------

#[test]
fn s4_28_it_is_called_sse_server() {
    let app = guide(&[]);
    let hello = app.post("/mcp", &hello("2025-06-18")).json();
    assert_eq!(hello["result"]["serverInfo"]["name"], "sse-server");
    assert_eq!(hello["result"]["serverInfo"]["version"], "1.0.0");
}

#[test]
fn s4_29_the_example_tool_echoes() {
    let app = guide(&[]);
    for mut client in [app.sse("/sse", &[]), app.http("/mcp", &[])] {
        assert_eq!(client.text("example-tool", json!({"message": "hi"})), "Echo: hi");
        let tools = client.ask("tools/list", json!({}))["result"]["tools"].clone();
        let tool = tools.as_array().unwrap().iter().find(|tool| tool["name"] == "example-tool").unwrap().clone();
        assert_eq!((&tool["title"], &tool["inputSchema"]["properties"]["message"]["type"]), (&json!("Example Tool"), &json!("string")));
        let wrong = client.call("example-tool", json!({"message": 7}));
        assert!(wrong["code"] == -32602 || wrong["isError"] == true, "{wrong}");
    }
}

#[test]
fn s4_30_a_session_is_known_by_either_spelling() {
    let app = guide(&[]);
    let (mut stream, endpoint) = open(&app);
    let id = endpoint.split('=').nth(1).unwrap();
    let dashed = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
    for (n, path) in [format!("/messages?sessionId={id}"), format!("/messages?session_id={dashed}")].iter().enumerate() {
        assert_eq!(app.post(path, &list(n as u64)).status, 202, "{path}");
        assert_eq!(stream.message().unwrap()["id"], n);
    }
}

#[test]
fn s4_31_who_has_no_session_is_told_so_in_a_sentence() {
    let app = guide(&[]);
    for path in ["/messages".to_owned(), format!("/messages?sessionId={NOBODY}"), "/messages?session_id=nonsense".into()] {
        let response = app.post(&path, &list(1));
        assert_eq!((response.status, response.text().as_str()), (400, "No transport found for sessionId"), "{path}");
    }
}

#[test]
fn s4_32_its_port_is_3000_unless_told_otherwise() {
    let (well, said) = run(&fresh_dir("help"), "guide", &["--help"], &[]);
    assert!(well && said.contains("[default: 3000]"), "{said}");
}

#[test]
fn s4_33_the_endpoint_that_is_compatible_opens_knows_and_ends_sessions() {
    let app = App::start("guide", &["--mode", "http"], &[]);
    let response = app.post("/mcp", &hello("2025-03-26"));
    assert_eq!(response.json()["result"]["serverInfo"], json!({"name": "backwards-compatible-server", "version": "1.0.0"}));
    let id = response.header("mcp-session-id").unwrap().to_owned();
    assert!(id.len() == 36 && id.matches('-').count() == 4 && &id[14..15] == "4", "a UUID: {id}");
    let with = |method: &str, id: &str, body: Option<&str>| app.wire().request(method, "/mcp", &[("Mcp-Session-Id", id)], body);
    assert_eq!(with("POST", &id, Some(&list(2).to_string())).messages()[0]["id"], 2);
    assert_eq!(app.events("/mcp", &[("Mcp-Session-Id", &id)]).status, 200);
    // An id that nobody has, and none at all.
    let dead = with("POST", NOBODY, Some(&list(3).to_string()));
    assert_eq!((dead.status, &dead.json()["jsonrpc"], dead.json()["error"].is_object()), (404, &json!("2.0"), true));
    let none = app.post("/mcp", &list(4));
    assert_eq!((none.status, &none.json()["jsonrpc"], none.json()["error"].is_object()), (400, &json!("2.0"), true));
    assert_eq!(with("DELETE", &id, None).status / 100, 2);
    assert_eq!(with("POST", &id, Some(&list(5).to_string())).status, 404);
    assert_eq!(sessions(&app), 0);
    // Names of ours only.
    assert_eq!(app.wire().request("POST", "/mcp", &[("host", "evil.example")], Some(&hello("2025-03-26").to_string())).status, 403);
    // And who has not moved yet finds what was there.
    assert_eq!(app.sse("/sse", &[]).text("example-tool", json!({"message": "hi"})), "Echo: hi");
}

#[test]
fn s4_44_a_slash_at_the_end_is_no_other_path() {
    let app = guide(&[]);
    let (mut stream, endpoint) = open(&app);
    assert_eq!(app.post(&endpoint.replace("/messages?", "/messages/?"), &list(1)).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 1);
    assert_eq!(app.events("/sse/", &[]).event().unwrap().name, "endpoint");
    let app = guide(&[("GUIDE_MESSAGES_PATH", "/messages/")]);
    let (mut stream, endpoint) = open(&app);
    assert!(endpoint.starts_with("/messages/?session_id="), "{endpoint}");
    assert_eq!(app.post(&endpoint, &list(1)).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 1);
}

// --- tools --------------------------------------------------------------------------------------

#[test]
fn s4_34_an_empty_input_is_an_error_of_the_protocol() {
    let app = guide(&[]);
    for mut client in [app.sse("/sse", &[]), app.http("/mcp", &[])] {
        let empty = client.call("robust-tool", json!({"input": ""}));
        assert_eq!((&empty["code"], &empty["message"]), (&json!(-32602), &json!("Input cannot be empty")));
        let blank = client.call("robust-tool", json!({"input": " \t\n"}));
        assert_eq!(blank["code"], -32602);
        assert!(blank["message"].as_str().unwrap().contains("cannot be empty"), "{blank}");
        let tools = client.ask("tools/list", json!({}))["result"]["tools"].clone();
        let tool = tools.as_array().unwrap().iter().find(|tool| tool["name"] == "robust-tool").unwrap().clone();
        assert_eq!(tool["inputSchema"]["properties"]["input"]["minLength"], 1, "{tool}");
    }
}

#[test]
fn s4_35_an_operation_has_its_time() {
    let app = guide(&[("GUIDE_OPERATION", "slow:60000"), ("GUIDE_OPERATION_TIMEOUT_MS", "300")]);
    for mut client in [app.sse("/sse", &[]), app.http("/mcp", &[])] {
        let began = Instant::now();
        let late = client.call("robust-tool", json!({"input": "x"}));
        assert!(late["message"].as_str().unwrap().contains("Operation timeout"), "{late}");
        assert!(began.elapsed() < Duration::from_secs(10));
        // Nothing else has suffered.
        assert_eq!(client.text("example-tool", json!({"message": "hi"})), "Echo: hi");
    }
    let (_, said) = run(&fresh_dir("help"), "guide", &["--help"], &[]);
    assert!(said.lines().any(|line| line.contains("GUIDE_OPERATION_TIMEOUT_MS") && line.contains("30000")), "{said}");
}

#[test]
fn s4_36_an_operation_that_succeeds_has_a_result() {
    let app = guide(&[("GUIDE_OPERATION", "slow:20")]);
    assert_eq!(app.sse("/sse", &[]).text("robust-tool", json!({"input": "grüße"})), "Result: grüße");
    assert_eq!(stateless(&app, "robust-tool", &json!({"input": "x"}))["content"][0]["text"], "Result: x");
}

#[test]
fn s4_37_errors_of_the_protocol_stay_and_others_become_internal() {
    let fails = guide(&[("GUIDE_OPERATION", "fail:the disk is full")]).sse("/sse", &[]).call("robust-tool", json!({"input": "x"}));
    assert_eq!((&fails["code"], &fails["message"]), (&json!(-32603), &json!("Tool execution failed: the disk is full")));
    let refuses = guide(&[("GUIDE_OPERATION", "refuse:not today")]).http("/mcp", &[]).call("robust-tool", json!({"input": "x"}));
    assert_eq!((&refuses["code"], &refuses["message"]), (&json!(-32602), &json!("not today")));
}

fn stdio(variables: &[(&str, &str)]) -> std::process::Command {
    let mut command = command(&std::env::temp_dir(), "guide", variables);
    command.args(["--mode", "stdio"]);
    command
}

#[test]
fn s4_39_on_standard_streams_everybody_has_a_process_and_over_http_all_share_one() {
    let (mut one, mut other) = (Lines::shaken(stdio(&[])).0, Lines::shaken(stdio(&[])).0);
    assert_ne!(one.pid(), other.pid());
    assert_eq!(
        (one.call("example-tool", json!({"message": "a"})), other.call("example-tool", json!({"message": "b"}))),
        ("Echo: a".into(), "Echo: b".into())
    );
    assert!(one.ends(), "it goes with its client");
    assert_eq!(other.call("example-tool", json!({"message": "b"})), "Echo: b");
    let app = guide(&[]);
    assert_ne!(app.pid(), other.pid());
    let mut clients: Vec<_> = (0..8).map(|n| if n % 2 == 0 { app.sse("/sse", &[]) } else { app.http("/mcp", &[]) }).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.text("example-tool", json!({"message": n.to_string()})), format!("Echo: {n}"));
    }
}

#[test]
fn s4_42_on_standard_streams_it_greets_as_such() {
    let (mut stdio, hello) = Lines::shaken(stdio(&[]));
    assert_eq!(stdio.call("greet", json!({"name": "Ada"})), "Hello, Ada! Welcome to the STDIO server.");
    assert_eq!(hello["serverInfo"]["version"], "1.0.0");
}

#[test]
fn s4_42_on_standard_streams_it_says_nothing_beside() {
    let mut child = stdio(&[]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    writeln!(child.stdin.take().unwrap(), "{}\n{note}\n{}", hello("2025-06-18"), list(2)).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines: Vec<Value> =
        output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|message| message["id"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(2)]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "hosts show it to their users");
}

#[test]
fn s4_43_it_greets_by_the_transport_that_its_caller_uses() {
    for mode in ["sse", "http"] {
        let app = App::start("guide", &["--mode", mode], &[]);
        // Beside each other, and in turns.
        let (mut old, mut new) = (app.sse("/sse", &[]), app.http("/mcp", &[]));
        for _ in 0..2 {
            assert_eq!(old.text("greet", json!({"name": "Ada"})), "Hello, Ada! Welcome to the SSE server.", "{mode}");
            assert_eq!(new.text("greet", json!({"name": "Ada"})), "Hello, Ada! Welcome to the Streamable HTTP server.", "{mode}");
            let said = stateless(&app, "greet", &json!({"name": "Ada"}))["content"][0]["text"].clone();
            assert_eq!(said, "Hello, Ada! Welcome to the Streamable HTTP server.", "{mode}");
        }
    }
}

#[test]
fn s4_42_on_standard_streams_a_client_without_a_session_is_greeted_as_such_too() {
    let mut lines = Lines::start(stdio(&[]));
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let answer = lines.ask("tools/call", json!({"name": "greet", "arguments": {"name": "Ada"}, "_meta": meta}));
    assert_eq!(answer["result"]["content"][0]["text"], "Hello, Ada! Welcome to the STDIO server.", "{answer}");
}

// --- the list of what to check after a move -----------------------------------------------------

#[test]
fn s4_45_it_listens_where_it_was_told_to() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let flag = free().to_string();
    let app = App::start("guide", &["--port", &flag], &[("PORT", "1")]);
    assert_eq!(app.port.to_string(), flag, "a flag counts for more");
    assert_eq!(app.get("/health").status, 200);
    let taken = run(&app.dir, "guide", &["--port", &flag], &[]);
    assert!(!taken.0 && taken.1.contains(&flag), "{}", taken.1);
    let wrong = run(&app.dir, "guide", &[], &[("PORT", "many")]);
    assert!(!wrong.0 && wrong.1.contains("PORT"), "{}", wrong.1);
}

#[test]
fn s4_46_a_stream_is_opened_by_get() {
    let (_, endpoint) = open(&guide(&[]));
    assert!(!endpoint.is_empty());
}

#[test]
fn s4_47_messages_are_json_and_nothing_else() {
    let app = guide(&[]);
    let (mut stream, endpoint) = open(&app);
    assert_eq!(app.post(&endpoint, &list(1)).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 1);
    for bad in ["", "{", "[]", "7", "{\"jsonrpc\":\"1.0\"}"] {
        assert_eq!(app.wire().post(&endpoint, &[], bad).status, 400, "{bad:?}");
    }
}

#[test]
fn s4_48_tools_are_listed() {
    let app = guide(&[]);
    for mut client in [app.sse("/sse", &[]), app.http("/mcp", &[])] {
        assert_eq!(client.tools().into_iter().collect::<BTreeSet<_>>(), ["example-tool", "greet", "robust-tool"].map(str::to_owned).into());
    }
}

#[test]
fn s4_49_tools_are_called() {
    let app = guide(&[]);
    for mut client in [app.sse("/sse", &[]), app.http("/mcp", &[])] {
        assert_eq!(client.text("robust-tool", json!({"input": "x"})), "Result: x");
        let unknown = client.call("no-such-tool", json!({}));
        assert!(unknown["code"].is_number(), "{unknown}");
    }
    assert_eq!(stateless(&app, "robust-tool", &json!({"input": "x"}))["content"][0]["text"], "Result: x");
}

#[test]
fn s4_50_failures_have_the_status_that_says_so() {
    let app = guide(&[]);
    let status = |response: Response| response.status;
    assert_eq!(status(app.get("/nowhere")), 404);
    assert_eq!(status(app.get("/messages")), 405);
    assert_eq!(status(app.wire().request("PUT", "/mcp", &[], Some("{}"))), 405);
    assert_eq!(status(app.wire().post("/mcp", &[], "{")), 400);
    assert_eq!(status(app.get_with("/sse", &[("host", "evil.example")])), 403);
    assert_eq!(status(app.wire().post("/mcp", &[("content-length", "99999999")], "{}")), 413);
    assert_eq!(status(app.wire().post("/mcp", &[("MCP-Protocol-Version", "1999-01-01")], &list(1).to_string())), 400);
}

// --- pages of elsewhere -------------------------------------------------------------------------

/// The names in a header, in lower case.
fn names(response: &Response, header: &str) -> BTreeSet<String> {
    response.header(header).unwrap_or_default().split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect()
}

const ALLOW_ORIGIN: &str = "access-control-allow-origin";

#[test]
fn s4_26_pages_of_everywhere_may_call_where_that_is_wanted() {
    let app = guide(&[("CORS_ORIGIN", "*")]);
    for origin in ["https://anywhere.example", "http://localhost:5173", "null"] {
        let page = ("Origin", origin);
        let response = app.wire().post("/mcp", &[page], &hello("2025-06-18").to_string());
        assert_eq!(response.status, 200, "{origin}");
        let allowed = response.header(ALLOW_ORIGIN).unwrap();
        assert!(allowed == "*" || allowed == origin, "{origin}: {allowed}");
        assert!(names(&response, "access-control-expose-headers").contains("mcp-session-id"));
        assert_eq!(response.header("access-control-allow-credentials"), None);
        // What a page asks before it posts, to each path that it may.
        for (path, method) in [("/mcp", "POST"), ("/mcp", "DELETE"), ("/mcp", "GET"), ("/sse", "GET"), ("/messages?sessionId=x", "POST")] {
            let asks = [page, ("Access-Control-Request-Method", method), ("Access-Control-Request-Headers", "content-type,mcp-session-id")];
            let preflight = app.wire().request("OPTIONS", path, &asks, None);
            assert_eq!((preflight.status, preflight.text().as_str()), (204, ""), "{path}");
            let allowed = preflight.header(ALLOW_ORIGIN).unwrap();
            assert!(allowed == "*" || allowed == origin, "{path}: {allowed}");
            let headers = names(&preflight, "access-control-allow-headers");
            for wanted in ["content-type", "mcp-session-id", "mcp-protocol-version", "authorization", "last-event-id"] {
                assert!(headers.contains(wanted), "{path}: {headers:?}");
            }
            assert!(names(&preflight, "access-control-allow-methods").contains(&method.to_lowercase()), "{path} {method}");
            assert_eq!(preflight.header("access-control-allow-credentials"), None);
        }
    }
    // Without it there are none of these headers for anybody, and a page of elsewhere is refused.
    let closed = guide(&[]);
    let asks = [("Origin", "https://anywhere.example"), ("Access-Control-Request-Method", "POST")];
    let preflight = closed.wire().request("OPTIONS", "/mcp", &asks, None);
    assert_eq!((preflight.status, preflight.header(ALLOW_ORIGIN)), (403, None));
    assert_eq!(closed.get("/health").header(ALLOW_ORIGIN), None);
}

#[test]
fn s4_52_a_page_reads_streams_and_refusals_too() {
    let app = guide(&[("CORS_ORIGIN", "https://app.example.com")]);
    let page = ("Origin", "https://app.example.com");
    let stream = app.events("/sse", &[page]);
    assert_eq!((stream.status, stream.header(ALLOW_ORIGIN)), (200, Some("https://app.example.com")));
    assert!(stream.header("vary").unwrap().contains("Origin"));
    let hello = app.wire().post("/mcp", &[page], &hello("2025-06-18").to_string());
    let id = hello.header("mcp-session-id").unwrap();
    // Whatever comes of it: the page may read why.
    for (status, response) in [
        (200, app.wire().post("/mcp", &[page, ("Mcp-Session-Id", id)], &list(1).to_string())),
        (400, app.wire().post("/messages?sessionId=x", &[page], "{}")),
        (400, app.wire().post("/mcp", &[page], "{")),
        (404, app.wire().post("/mcp", &[page, ("Mcp-Session-Id", NOBODY)], &list(1).to_string())),
        (404, app.wire().request("GET", "/nowhere", &[page], None)),
        (405, app.wire().request("PUT", "/mcp", &[page], Some("{}"))),
        (413, app.wire().post("/mcp", &[page, ("content-length", "99999999")], "{}")),
        (200, app.wire().request("GET", "/health", &[page], None)),
    ] {
        assert_eq!((response.status, response.header(ALLOW_ORIGIN)), (status, Some("https://app.example.com")), "{}", response.text());
        assert!(response.header("vary").unwrap().contains("Origin"), "{status}");
    }
    assert_eq!(app.get("/health").header(ALLOW_ORIGIN), None, "who is no page needs none");
}

#[test]
fn s4_60_origins_that_were_named_are_echoed_and_others_refused() {
    let app = guide(&[("CORS_ORIGIN", "https://trusted.example.com, https://also.example.com:8443")]);
    let hello = hello("2025-06-18").to_string();
    let ways = |origin| {
        let (page, wants) = (("Origin", origin), ("Access-Control-Request-Method", "POST"));
        let stream = app.events("/sse", &[page]);
        let preflight = app.wire().request("OPTIONS", "/mcp", &[page, wants], None);
        let called = app.wire().post("/mcp", &[page], &hello);
        let health = app.get_with("/health", &[page]);
        let of = |response: &Response| (response.status, response.header(ALLOW_ORIGIN).map(str::to_owned));
        [of(&called), of(&preflight), of(&health), (stream.status, stream.header(ALLOW_ORIGIN).map(str::to_owned))]
    };
    for origin in ["https://trusted.example.com", "https://also.example.com:8443"] {
        let echoed = Some(origin.to_owned());
        assert_eq!(ways(origin), [(200, echoed.clone()), (204, echoed.clone()), (200, echoed.clone()), (200, echoed)]);
    }
    for origin in [
        "https://evil.example",
        "https://trusted.example.com.evil.example",
        "https://eviltrusted.example.com",
        "https://sub.trusted.example.com",
        "http://trusted.example.com",
        "https://trusted.example.com:444",
        "https://also.example.com",
        "https://trusted.example.com@evil.example",
        "null",
        "",
        "*",
    ] {
        assert_eq!(ways(origin), [(403, None), (403, None), (403, None), (403, None)], "{origin}");
    }
    for wrong in ["trusted.example.com", "https://trusted.example.com/path", "ftp://trusted.example.com", "https://*.example.com"] {
        let (well, said) = run(&app.dir, "guide", &["--port", "0"], &[("CORS_ORIGIN", wrong)]);
        assert!(!well && said.contains("is no origin"), "{wrong}: {said}");
    }
}

// --- what is there for show ---------------------------------------------------------------------

/// A server of HTTP that answers everything with what fits its path.
fn weather_service(answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{BufRead as _, BufReader, Write as _};
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            while reader.read_line(&mut request).is_ok_and(|n| n > 2) {}
            let found = answers.iter().find(|(path, _)| request.starts_with(&format!("GET {path}")));
            let (status, body) = found.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", *body));
            let _ = write!(reader.get_mut(), "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        }
    });
    format!("http://{address}")
}

#[test]
fn s4_54_the_samples_that_are_pointed_to_can_be_had() {
    let url = weather_service(&[
        ("/search?name=Oslo&", r#"{"results":[{"name":"Oslo","country":"Norway","latitude":59.91,"longitude":10.75}]}"#),
        ("/search", r#"{"generationtime_ms":0.5}"#),
        (
            "/forecast?latitude=59.91&longitude=10.75&",
            r#"{"current":{"time":"2026-07-28T12:00","temperature_2m":21.5,"relative_humidity_2m":40,"wind_speed_10m":9.4}}"#,
        ),
    ]);
    let (geocoding, forecast) = (format!("{url}/search"), format!("{url}/forecast"));
    let app = guide(&[
        ("GUIDE_DEMO", "true"),
        ("GUIDE_MESSAGES_PATH", "/weather"),
        ("GUIDE_GEOCODING_URL", &geocoding),
        ("GUIDE_WEATHER_URL", &forecast),
    ]);
    let (mut stream, endpoint) = open(&app);
    assert!(endpoint.starts_with("/weather?session_id="), "{endpoint}");
    assert_eq!(app.post(&endpoint, &list(1)).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 1);
    for mut client in [app.sse("/sse/", &[]), app.http("/mcp", &[])] {
        assert_eq!(client.tools().len(), 5);
        assert_eq!(client.text("echo_tool", json!({"message": "hi"})), "Tool echo: hi");
        let oslo = client.text("get_current_weather", json!({"location_name": "Oslo"}));
        assert_eq!(oslo, "Oslo, Norway at 2026-07-28T12:00 UTC: 21.5 °C, 40 % humidity, wind 9.4 km/h");
        let nowhere = client.call("get_current_weather", json!({"location_name": "Nowhere"}));
        assert_eq!(
            (&nowhere["isError"], &nowhere["content"][0]["text"]),
            (&json!(true), &json!("nobody knows a place called \"Nowhere\""))
        );
        let prompt = client.ask("prompts/get", json!({"name": "echo_prompt", "arguments": {"message": "hi"}}));
        assert_eq!(prompt["result"]["messages"][0]["content"]["text"], "Please process this message: hi");
        assert_eq!(client.ask("prompts/get", json!({"name": "echo_prompt"}))["error"]["code"], -32602);
        assert_eq!(client.ask("prompts/list", json!({}))["result"]["prompts"][0]["name"], "echo_prompt");
        let templates = client.ask("resources/templates/list", json!({}));
        assert_eq!(templates["result"]["resourceTemplates"][0]["uriTemplate"], "echo://{message}");
        let read = client.ask("resources/read", json!({"uri": "echo://good%20day"}));
        assert_eq!(read["result"]["contents"][0]["text"], "Resource echo: good day");
        assert!(client.ask("resources/read", json!({"uri": "file:///etc/passwd"}))["error"].is_object());
    }
    let gone = guide(&[("GUIDE_DEMO", "true"), ("GUIDE_GEOCODING_URL", "http://127.0.0.1:9/search")]);
    let gone = gone.http("/mcp", &[]).call("get_current_weather", json!({"location_name": "Oslo"}));
    assert!(gone["isError"] == true && gone["content"][0]["text"].as_str().unwrap().contains("did not answer"), "{gone}");
}

#[test]
fn s4_61_it_can_be_watched() {
    let app = guide(&[]);
    let health = app.get("/health").json();
    assert_eq!((&health["status"], &health["mode"], &health["sessions"]), (&json!("ok"), &json!("sse"), &json!(0)));
    assert_eq!((app.get("/healthz").status, app.get("/readyz").status), (200, 200));
    let (mut old, mut new) = (app.sse("/sse", &[]), app.http("/mcp", &[]));
    for _ in 0..3 {
        old.text("example-tool", json!({"message": "x"}));
    }
    new.text("example-tool", json!({"message": "x"}));
    stateless(&app, "example-tool", &json!({"message": "x"}));
    assert_eq!(app.get("/health").json()["sessions"], 2);
    let metrics = app.get("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{:?}", metrics.header("content-type"));
    let metrics = metrics.text();
    assert!(metrics.lines().any(|line| line == "landbridge_sessions 2"), "{metrics}");
    // Which transports are still in use.
    let calls = |wire: &str, revision: &str| {
        let lines = metrics.lines().filter(|line| !line.starts_with('#') && line.contains(wire) && line.contains(revision));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    assert_eq!((calls("\"sse\"", "2024-11-05"), calls("\"http\"", "2025-06-18"), calls("\"http\"", "2026-07-28")), (3, 1, 1), "{metrics}");
    // With tokens, what may be known is known to those who may call; that it lives, to everybody.
    let guarded = guide(&[("GUIDE_TOKENS", "a-token-of-some-length:ada")]);
    assert_eq!(guarded.get("/metrics").status, 401);
    assert_eq!(guarded.get_with("/metrics", &[("Authorization", "Bearer a-token-of-some-length")]).status, 200);
    assert_eq!((guarded.get("/health").status, guarded.get("/healthz").status), (200, 200));
}

#[test]
fn s4_61_who_did_what_is_written_down_and_not_what_was_said() {
    let app = guide(&[("GUIDE_AUDIT_FILE", "audit.jsonl"), ("GUIDE_TOKENS", "a-token-of-some-length:ada")]);
    let ada = ("Authorization", "Bearer a-token-of-some-length");
    app.sse("/sse", &[ada]).text("example-tool", json!({"message": "a word nobody has to know"}));
    app.post("/mcp", &list(1));
    let file = app.dir.join("audit.jsonl");
    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let called = || lines().into_iter().find(|line| line["tool"] == "example-tool");
    let refused = || lines().into_iter().find(|line| line["code"] == 401);
    wait_until("a line about the call and one about the refusal", || called().is_some() && refused().is_some());
    let called = called().unwrap();
    assert_eq!((&called["who"], &called["client"]), (&json!("ada"), &json!("test/1")), "{called}");
    let sessions = |outcome: &str| {
        let of = |line: &Value| line["event"] == "session" && line["outcome"] == outcome;
        lines().into_iter().filter(of).map(|line| (line["who"].clone(), line["session"].clone())).collect::<Vec<_>>()
    };
    wait_until("the end of the session", || !sessions("closed").is_empty());
    assert_eq!((sessions("opened"), sessions("opened")[0].0.as_str()), (sessions("closed"), Some("ada")));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("nobody has to know") && !text.contains("a-token-of-some-length"), "{text}");
    // Where it cannot be written, that is said before anybody is served.
    let (well, said) = run(&app.dir, "guide", &["--port", "0"], &[("GUIDE_AUDIT_FILE", "no/such/dir/audit.jsonl")]);
    assert!(!well && said.contains("no/such/dir/audit.jsonl"), "{said}");
}

#[test]
fn s4_61_a_session_stays_where_it_was_opened() {
    // Its id says which one that is, and nobody else knows it. Clients without a session may go anywhere.
    let (one, other) = (guide(&[]), guide(&[]));
    let (_stream, endpoint) = open(&one);
    assert_eq!(other.post(&endpoint, &list(1)).status, 400);
    let id = one.post("/mcp", &hello("2025-06-18")).header("mcp-session-id").unwrap().to_owned();
    assert_eq!(other.wire().post("/mcp", &[("Mcp-Session-Id", &id)], &list(1).to_string()).status, 404);
    for app in [&one, &other] {
        assert_eq!(stateless(app, "example-tool", &json!({"message": "x"}))["content"][0]["text"], "Echo: x");
    }
}

#[test]
fn s4_61_it_ends_in_good_order() {
    // What runs is finished first; who comes then is not let in.
    let app = guide(&[("GUIDE_OPERATION", "slow:2000")]);
    let (mut stream, endpoint) = open(&app);
    app.post(&endpoint, &hello("2024-11-05"));
    assert_eq!(stream.message().unwrap()["id"], 1);
    app.post(&endpoint, &call(2, "robust-tool", &json!({"input": "x"})));
    assert!(std::process::Command::new("kill").arg(app.pid().to_string()).status().unwrap().success());
    assert_eq!(stream.message().expect("the answer")["result"]["content"][0]["text"], "Result: x");
    wait_until("its end", || std::net::TcpStream::connect(("127.0.0.1", app.port)).is_err());
}

#[test]
fn s4_59_what_is_reached_from_elsewhere_is_guarded() {
    // Nobody listens to the world by mistake.
    let open = run(&fresh_dir("public"), "guide", &["--host", "0.0.0.0", "--port", "0"], &[]);
    assert!(!open.0, "{}", open.1);
    // TLS.
    let files = fresh_dir("tls");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(files.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(files.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (files.join("cert.pem").display().to_string(), files.join("key.pem").display().to_string());
    let app = guide(&[("TLS_CERT", &cert), ("TLS_KEY", &key)]);
    assert!(app.said().contains(" is at https://"), "{}", app.said());
    let curl =
        |url: String| std::process::Command::new("curl").args(["-sS", "--cacert", &cert, "-D", "-", "-m", "3", &url]).output().unwrap();
    let health = String::from_utf8(curl(format!("https://localhost:{}/health", app.port)).stdout).unwrap();
    assert!(health.contains("\"status\":\"ok\""), "{health}");
    // It is HTTP/2 there, which knows no `Connection`.
    let stream = String::from_utf8(curl(format!("https://localhost:{}/sse", app.port)).stdout).unwrap().to_lowercase();
    assert!(stream.starts_with("http/2 200") && stream.contains("event: endpoint") && !stream.contains("connection: "), "{stream}");
    let half = run(&files, "guide", &[], &[("TLS_CERT", &cert)]);
    assert!(!half.0 && half.1.contains("TLS_KEY"), "{}", half.1);
    // Who asks too much is told to wait.
    let app = guide(&[("GUIDE_REQUESTS_PER_MINUTE", "5")]);
    let statuses: Vec<u16> = (0..8).map(|_| app.post("/mcp", &list(1)).status).collect();
    assert!(statuses[..5].iter().all(|status| *status == 400) && statuses[7] == 429, "{statuses:?}");
}

#[test]
fn s4_24_the_page_tells_of_rebinding_origins_and_logins() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide.md")).unwrap();
    for word in ["rebinding", "CORS_ORIGIN", "GUIDE_TOKENS", "GUIDE_AUTH", "PKCE"] {
        assert!(page.contains(word), "{word}");
    }
    // A page that calls itself by a name of its own and leads here.
    let app = guide(&[]);
    let strange = app.wire().request("GET", "/sse", &[("host", "evil.example"), ("Origin", "http://evil.example")], None);
    assert_eq!(strange.status, 403);
}

#[test]
fn what_no_server_of_rust_can_read_is_answered() {
    let app = guide(&[]);
    let (mut stream, endpoint) = open(&app);
    app.post(&endpoint, &hello("2024-11-05"));
    assert_eq!(stream.message().unwrap()["id"], 1);
    let session = app.post("/mcp", &hello("2025-06-18")).header("mcp-session-id").expect("a session").to_owned();
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    for (n, name) in [r#""\ud800""#, r#""\udc00x""#, "1e999", deep.as_str()].into_iter().enumerate() {
        let body = |more: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{},"method":"tools/call","params":{{"name":"greet","arguments":{{"name":{name}}}{more}}}}}"#,
                n + 2
            )
        };
        let is_refused = |message: &Value| {
            assert!(message["error"]["code"].is_number() || message["result"]["isError"] == true, "{name}: {message}");
        };
        is_refused(&app.wire().post("/mcp", &[("Mcp-Session-Id", &session)], &body("")).messages()[0]);
        if app.wire().post(&endpoint, &[], &body("")).status == 202 {
            is_refused(&stream.message().unwrap());
        }
        let meta = r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/call"), ("Mcp-Name", "greet")];
        is_refused(&app.wire().post("/mcp", &headers, &body(meta)).messages()[0]);
    }
    // What can be read, and is not what the method wants: no unknown method, but wrong params.
    for (n, (method, params)) in [
        ("tools/call", json!({"name": "greet", "arguments": ["Ada"]})),
        ("tools/call", json!({"name": "greet", "arguments": "Ada"})),
        ("tools/call", json!({"arguments": {}})),
        ("resources/read", json!({"uri": 7})),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = json!({"jsonrpc": "2.0", "id": n + 20, "method": method, "params": params});
        let answered = app.wire().post("/mcp", &[("Mcp-Session-Id", &session)], &asked.to_string()).messages().remove(0);
        assert!(answered["id"] == n + 20 && answered["error"]["code"] == -32602, "{asked}: {answered}");
    }
    // And nothing else has suffered.
    app.post(&endpoint, &call(99, "greet", &json!({"name": "Ada"})));
    assert_eq!(stream.message().unwrap()["id"], 99);
}

#[test]
fn what_is_said_on_the_command_line_wrongly_is_told() {
    let dir = fresh_dir("flags");
    let tells = |arguments: &[&str], words: &[&str]| {
        let (well, said) = run(&dir, "guide", arguments, &[]);
        assert!(!well && words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
    };
    tells(&["--mode", "stdio", "--port", "1"], &["--port", "--mode sse or --mode http"]);
    tells(&["--mode", "pigeon"], &["pigeon", "sse, http, stdio"]);
    tells(&["--host", "0.0.0.0", "--port", "0"], &["landbridge-apps guide --help", "--insecure-public"]);
    tells(&["--env", "missing.env"], &["missing.env cannot be read"]);
    tells(&["--env", "."], &["is a directory"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    tells(&["--port", &taken.local_addr().unwrap().port().to_string()], &["another program", "choose another port with --port"]);
    let (_, help) = run(&dir, "guide", &["--help"], &[]);
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
    // What data is to be in is in the way.
    std::fs::write(dir.join("data"), "x").unwrap();
    for (app, names) in
        [("content", "DATABASE_URL"), ("sprint", "SPRINT_DATA"), ("contacts", "CONTACTS_DB_PATH"), ("skillport", "SKILLPORT_DATA")]
    {
        let (well, said) = run(&dir, app, &["--mode", "http", "--port", "0"], &[]);
        assert!(!well && said.contains(names), "{app}: {said}");
    }
}

#[test]
fn what_is_set_wrongly_is_named() {
    let dir = fresh_dir("wrong");
    for (name, value) in [
        ("GUIDE_OPERATION", "jump"),
        ("GUIDE_OPERATION_TIMEOUT_MS", "soon"),
        ("GUIDE_DEMO", "maybe"),
        ("GUIDE_MESSAGES_PATH", "messages"),
        ("GUIDE_AUTH", "magic"),
        ("GUIDE_TOKENS", "a:b:c"),
        ("GUIDE_WEATHER_URL", "weather"),
        ("MCP_MODE", "pigeon"),
    ] {
        let (well, said) = run(&dir, "guide", &["--port", "0"], &[(name, value)]);
        assert!(!well && said.contains(name), "{name}: {said}");
    }
}

#[test]
fn the_page_of_the_guide_is_true() {
    let commands = crate::docs::page("guide.md").port(3000).variable("PORT", "3000").run();
    assert!(commands > 5, "{commands}");
}
