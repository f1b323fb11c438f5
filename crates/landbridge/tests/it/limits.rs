//! Every bound that can be seen from outside: what happens at it, and that nothing else does.

use std::io::Read as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gateway::{Gateway, Session, meta, slow, tool, wait_until};
use crate::wire::{Response, Stream, Wire};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn hello(gateway: &Gateway) -> Response {
    let hello = json!({"jsonrpc": "2.0", "id": "h", "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    gateway.wire().post("/mcp", &[], &hello.to_string())
}

fn listen(gateway: &Gateway, id: u64) -> Stream {
    gateway.stateless_stream(id, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}))
}

#[track_caller]
fn assert_busy(said: &Response, id: Value) {
    assert_eq!((said.status, &said.json()["id"]), (503, &id), "{}", said.text());
    assert_eq!(said.json()["error"]["code"], -32000);
    assert!(said.header("retry-after").is_some(), "it says when to try again");
}

#[track_caller]
fn assert_works(session: &Session<'_>) {
    assert_eq!(session.tool(90, "echo", json!({"message": "on"}))["result"]["content"][0]["text"], "on");
}

/// Whether the other end closed the connection; what it said before is read.
fn is_closed(wire: &Wire) -> bool {
    let mut rest = Vec::new();
    wire.socket().read_to_end(&mut rest).is_ok()
}

// --- requests -----------------------------------------------------------------------------------

#[test]
fn a_head_may_be_so_large() {
    let gateway = Gateway::limited("header_bytes = 8192", &[]);
    let with = |bytes: usize| gateway.wire().post("/mcp", &[("x-filler", &"x".repeat(bytes))], PING).status;
    assert_eq!(with(7_000), 400, "refused for its missing session, not for its size");
    assert_eq!(with(9_000), 431);
}

#[test]
fn a_head_must_arrive_in_time() {
    let gateway = Gateway::limited("header_timeout_ms = 300", &[]);
    let mut wire = gateway.wire();
    let began = Instant::now();
    wire.write(b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow");
    assert!(is_closed(&wire));
    assert!(began.elapsed() >= Duration::from_millis(250) && began.elapsed() < Duration::from_secs(20));
    // A stream that is open is not waited for.
    let session = gateway.session("2025-06-18");
    let mut stream = session.stream(&slow(2, 6, 150));
    assert_eq!(std::iter::from_fn(|| stream.message()).count(), 7);
}

#[test]
fn a_body_must_arrive_in_time() {
    let gateway = Gateway::limited("body_timeout_ms = 300", &[]);
    let sse = gateway.sse("2024-11-05");
    for path in ["/mcp", &sse.path] {
        let mut wire = gateway.wire();
        wire.send("POST", path, &[("content-type", "application/json"), ("content-length", "100")], None);
        wire.write(b"{\"jsonrpc\":");
        assert_eq!(wire.response().status, 408, "{path}");
    }
}

#[test]
fn a_message_may_be_so_large() {
    let gateway = Gateway::limited("message_bytes = 20000", &[]);
    let session = gateway.session("2025-06-18");
    let mut sse = gateway.sse("2024-11-05");
    let padded = |bytes: usize| PING.to_owned() + &" ".repeat(bytes - PING.len());
    // A message of HTTP+SSE names its session by its URL, and no other besides.
    let headers = |path: &str| if path == "/mcp" { session.headers() } else { Vec::new() };
    let chunked = |path: &str, bytes: usize| {
        let mut wire = gateway.wire();
        let mut headers = headers(path);
        headers.extend([("content-type", "application/json"), ("transfer-encoding", "chunked")]);
        wire.send("POST", path, &headers, None);
        for piece in padded(bytes).as_bytes().chunks(3_000) {
            wire.write(format!("{:x}\r\n", piece.len()).as_bytes());
            wire.write(piece);
            wire.write(b"\r\n");
        }
        wire.write(b"0\r\n\r\n");
        wire.response().status
    };
    let whole = |path: &str, bytes: usize| gateway.wire().post(path, &headers(path), &padded(bytes)).status;
    assert_eq!([whole("/mcp", 20_000), whole("/mcp", 20_001), whole("/mcp", 200_000)], [200, 413, 413]);
    assert_eq!([chunked("/mcp", 20_000), chunked("/mcp", 20_001), chunked("/mcp", 100_000)], [200, 413, 413]);
    assert_eq!([whole(&sse.path, 20_000), whole(&sse.path, 20_001), chunked(&sse.path, 20_001)], [202, 413, 413]);
    assert_eq!(sse.next()["id"], 1);
    assert_works(&session);
}

#[test]
fn a_message_of_the_server_may_be_so_large() {
    for (bytes, fits) in [("20000", true), ("20001", false), ("1000000", false)] {
        let gateway = Gateway::limited("message_bytes = 20000", &["long-line", bytes]);
        let session = gateway.session("2025-06-18");
        let said = [session.tool(2, "long", json!({})), gateway.stateless(2, "tools/call", json!({"name": "long"})).json()];
        for said in said {
            assert_eq!(said.get("result").is_some(), fits, "{bytes}");
            assert!(
                fits || said["error"]["code"] == -32603 && said["error"]["message"].as_str().unwrap().contains("20000 bytes"),
                "{said}"
            );
        }
        assert_works(&session);
    }
}

// --- how many -----------------------------------------------------------------------------------

#[test]
fn beyond_so_many_connections_the_next_waits() {
    let gateway = Gateway::limited("connections = 2", &[]);
    let first = gateway.wire().open("GET", "/sse", &[("accept", "text/event-stream")], None);
    let _second = gateway.wire().open("GET", "/sse", &[("accept", "text/event-stream")], None);
    let mut third = gateway.wire();
    third.send("GET", "/healthz", &[], None);
    third.socket().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.socket().peek(&mut [0]).is_err(), "nothing yet");
    drop(first);
    third.socket().set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(third.response().status, 200);
}

#[test]
fn the_longest_idle_session_gives_way_to_a_new_one() {
    let gateway = Gateway::limited("sessions = 3", &["legacy"]);
    let (old, used, reading) = (gateway.session("2025-06-18"), gateway.session("2025-06-18"), gateway.session("2025-06-18"));
    let _open = reading.get(None);
    old.call(2, "ping", json!({}));
    used.call(2, "ping", json!({}));
    assert_eq!(hello(&gateway).status, 200);
    let alive = |s: &Session<'_>| s.send(&json!({"jsonrpc": "2.0", "id": 3, "method": "ping"})).status;
    assert_eq!([alive(&old), alive(&used), alive(&reading)], [404, 200, 200]);
}

#[test]
fn where_no_session_is_idle_a_new_one_has_to_wait() {
    let gateway = Gateway::limited("sessions = 2", &[]);
    let (calling, reading) = (gateway.session("2025-06-18"), gateway.session("2025-06-18"));
    let mut stream = calling.stream(&slow(2, 60_000, 10));
    stream.message().unwrap();
    let open = reading.get(None);
    assert_busy(&hello(&gateway), json!("h"));
    assert_eq!(gateway.wire().request("GET", "/sse", &[("accept", "text/event-stream")], None).status, 503);
    assert_works(&calling);
    drop(open);
    wait_until("the reader to count as idle", || hello(&gateway).status == 200);
}

#[test]
fn an_idle_session_ends_after_a_while() {
    // Sessions are looked at one part after the other, so of many the first goes soon.
    let gateway = Gateway::limited("session_idle_ms = 100\nsession_sweep_ms = 2000", &[]);
    let reading = gateway.session("2025-06-18");
    let mut open = reading.get(None);
    let idle: Vec<Session<'_>> = (0..60).map(|_| gateway.session("2025-06-18")).collect();
    gateway.wait_for_log("ended a session nobody used");
    let gone = || idle.iter().any(|s| s.send(&json!({"jsonrpc": "2.0", "id": 3, "method": "ping"})).status == 404);
    assert!(gone());
    gateway.stateless(3, "tools/call", json!({"name": "toggle"}));
    assert_eq!(open.message().unwrap()["method"], "notifications/tools/list_changed", "a session that is read is not idle");
}

#[test]
fn a_session_may_have_so_many_streams() {
    let gateway = Gateway::limited("streams_per_session = 2", &[]);
    let session = gateway.session("2025-11-25");
    let mut open: Vec<Stream> = (2..4).map(|id| session.stream(&slow(id, 60_000, 10))).collect();
    assert!(open.iter_mut().all(|s| s.message().is_some()));
    assert_busy(&session.send(&slow(4, 60_000, 10)), json!(4));
    assert_works(&session);
    assert_eq!(gateway.session("2025-11-25").stream(&slow(4, 1, 10)).status, 200, "each session counts for itself");
}

#[test]
fn a_call_that_was_refused_does_not_run() {
    let gateway = Gateway::limited("streams_per_session = 1", &["legacy"]);
    let session = gateway.session("2025-11-25");
    let mut open = session.stream(&slow(2, 60_000, 10));
    assert!(open.message().is_some());
    assert_busy(&session.send(&slow(3, 60_000, 10)), json!(3));
    gateway.wait_for_log("stderr: cancelled ");
}

#[test]
fn a_session_nobody_uses_gives_its_servers_place_to_who_needs_it() {
    let gateway = Gateway::limited("children = 1\nsession_abandoned_ms = 200", &["legacy"]);
    let abandoned = gateway.session("2025-06-18");
    assert_works(&abandoned);
    wait_until("its place", || hello(&gateway).status == 200);
    assert_eq!(abandoned.send(&tool(9, "echo", json!({"message": "x"}))).status, 404);
}

#[test]
fn streams_that_were_read_to_their_end_do_not_count() {
    let gateway = Gateway::limited("streams_per_session = 2", &["legacy"]);
    let session = gateway.session("2025-11-25");
    for id in 2..12 {
        let said = session.send(&slow(id, 1, 1));
        assert_eq!((said.status, said.is_stream()), (200, true), "call {id}: {}", said.text());
    }
}

#[test]
fn a_session_may_have_so_many_calls() {
    let gateway = Gateway::limited("calls_per_session = 2", &["modern"]);
    let session = gateway.session("2025-06-18");
    let mut running: Vec<Stream> = (2..4).map(|id| session.stream(&slow(id, 60_000, 10))).collect();
    assert!(running.iter_mut().all(|s| s.message().is_some()));
    assert_busy(&session.send(&tool(4, "echo", json!({"message": "x"}))), json!(4));
    assert_works(&gateway.session("2025-06-18"));
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}));
    while running[0].message().is_some() {}
    assert_works(&session);
}

#[test]
fn a_resource_to_subscribe_to_has_a_name_of_bounded_length() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session("2025-06-18");
    let said = session.call(2, "resources/subscribe", json!({"uri": format!("demo://{}", "x".repeat(9_000))}));
    assert_eq!(said["error"]["code"], -32602, "{said}");
    assert_eq!(session.call(3, "resources/subscribe", json!({"uri": "demo://counter"}))["result"], json!({}));
}

#[test]
fn so_many_listens_may_be_open() {
    let gateway = Gateway::limited("listens = 2", &[]);
    let mut open: Vec<Stream> = (2..4).map(|id| listen(&gateway, id)).collect();
    assert!(open.iter_mut().all(|s| s.message().is_some()));
    assert_busy(&gateway.stateless(4, "subscriptions/listen", json!({"notifications": {}})), json!(4));
    assert_eq!(gateway.stateless(5, "tools/list", json!({})).status, 200);
    open.pop();
    wait_until("its place to be free", || listen(&gateway, 6).status == 200);
}

// --- slow readers -------------------------------------------------------------------------------

#[test]
fn a_slow_reader_of_a_get_stream_loses_it_and_nothing_else() {
    const ASKS: u64 = 80;
    let gateway = Gateway::limited("queue_bytes = 300000\nstreams_per_session = 200", &["legacy"]);
    let (session, other) = (gateway.session_with("2025-06-18", json!({"elicitation": {}})), gateway.session("2025-06-18"));
    let mut unread = session.get(None);
    // While several calls run, nobody can tell whose the server's questions are: they go here.
    let mut running = session.stream(&slow(2, 60_000, 20));
    running.message().unwrap();
    let question = "?".repeat(100_000);
    let calls: Vec<Wire> = (0..ASKS)
        .map(|n| {
            let mut wire = gateway.wire();
            wire.send(
                "POST",
                "/mcp",
                &session.headers(),
                Some(&tool(100 + n, "test_elicitation", json!({"message": question})).to_string()),
            );
            wire
        })
        .collect();
    assert_works(&other);
    assert_works(&session);
    // What was sent is read; then the stream is over, though most of the questions did not come.
    let ids: Vec<u64> = std::iter::from_fn(|| unread.message()).map(|m| m["id"].as_u64().unwrap()).collect();
    assert!((ids.len() as u64) < ASKS && ids.is_sorted(), "{ids:?}");
    // The newest are kept for the next reader, and the calls go on.
    assert_eq!(session.get(None).message().unwrap()["method"], "elicitation/create");
    assert!(running.message().unwrap()["params"]["progress"].is_number());
    drop(calls);
}

#[test]
fn a_slow_reader_of_a_listen_loses_it_and_nothing_else() {
    let gateway = Gateway::limited("queue_bytes = 100000", &[]);
    // Each notice carries the id of its listen, so a long one fills the pipes soon.
    let id = "i".repeat(20_000);
    let params = json!({"_meta": meta(), "notifications": {"toolsListChanged": true}});
    let request = json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": params}).to_string();
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
    let mut unread = gateway.wire().open("POST", "/mcp", &headers, Some(&request));
    let mut other = listen(&gateway, 7);
    const CHANGES: usize = 500;
    for _ in 0..CHANGES {
        assert_eq!(gateway.stateless(3, "tools/call", json!({"name": "toggle"})).status, 200);
    }
    let arrived: Vec<Value> = std::iter::from_fn(|| unread.message()).collect();
    assert!(arrived.len() < CHANGES && arrived.iter().all(|m| m.get("result").is_none()), "{}", arrived.len());
    assert!((0..=CHANGES).all(|_| other.message().is_some()), "the other one heard of everything");
}

#[test]
fn a_peer_that_reads_nothing_is_gone_after_a_while() {
    let gateway = Gateway::limited("write_timeout_ms = 500\nqueue_bytes = 100000000", &[]);
    let (unread, mut other) = (gateway.sse("2025-03-26"), gateway.sse("2025-03-26"));
    let call = tool(2, "echo", json!({"message": "x".repeat(200_000)}));
    for _ in 0..60 {
        unread.post(&call);
    }
    wait_until("the session to end with its connection", || gateway.wire().post(&unread.path, &[], PING).status == 404);
    assert_eq!(other.call(3, "ping", json!({}))["result"], json!({}), "one that reads all it is sent is not gone");
}

// --- how long -----------------------------------------------------------------------------------

#[test]
fn events_are_kept_so_long() {
    let gateway = Gateway::limited("replay_ms = 500", &["legacy"]);
    let session = gateway.session("2025-11-25");
    let mut stream = session.stream(&slow(2, 1, 1));
    let priming = stream.event().unwrap().id;
    assert!(std::iter::from_fn(|| stream.message()).count() == 2);
    let mut again = session.get(priming.as_deref());
    assert!(std::iter::from_fn(|| again.message()).count() == 2);
    wait_until("the events to be forgotten", || {
        session.send(&slow(3, 1, 1));
        session.get(priming.as_deref()).status == 400
    });
}

fn a_call_times_out(mode: &[&str]) {
    let gateway = Gateway::limited("call_timeout_ms = 1000", mode);
    let session = gateway.session("2025-06-18");
    let wait = json!({"steps": 1, "delay_ms": 10_000});
    // As JSON or at the end of a stream: the limit is about as long as the head of an answer waits.
    let answers =
        [session.send(&tool(2, "slow", wait.clone())), gateway.stateless(2, "tools/call", json!({"name": "slow", "arguments": wait}))];
    for answer in answers {
        let said = answer.messages().pop().unwrap();
        assert_eq!((&said["id"], &said["error"]["code"]), (&json!(2), &json!(-32603)), "{said}");
        assert!(said["error"]["message"].as_str().unwrap().contains("1 s"), "{said}");
    }
    assert_works(&session);
}

#[test]
fn a_call_to_a_child_may_take_so_long() {
    a_call_times_out(&["legacy"]);
    a_call_times_out(&["modern"]);
}

#[test]
fn a_call_to_the_demo_may_take_so_long() {
    a_call_times_out(&[]);
}
