//! Responses that take their time: when their head comes, what keeps them alive, how they break
//! and are taken up again; and the stream of changes, `subscriptions/listen`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gateway::{Gateway, slow, tool};
use crate::wire::Stream;

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const EVENTS: [(&str, &str); 1] = [("accept", "text/event-stream")];

fn listen(gateway: &Gateway, id: u64, wanted: Value) -> Stream {
    gateway.stateless_stream(id, "subscriptions/listen", json!({"notifications": wanted}))
}

#[track_caller]
fn assert_is_comment(stream: &mut Stream) {
    assert_eq!(stream.event_or_comment().expect("a comment").name, ":");
}

// --- heads and keepalive ------------------------------------------------------------------------

#[test]
fn a_stream_with_nothing_to_say_yet_opens_at_once() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session("2025-06-18");
    let began = Instant::now();
    let mut get = session.get(None);
    assert_is_comment(&mut get);
    let mut listen = listen(&gateway, 7, json!({"toolsListChanged": true}));
    assert_is_comment(&mut listen);
    assert_eq!(listen.message().unwrap()["method"], "notifications/subscriptions/acknowledged");
    let mut sse = gateway.wire().open("GET", "/sse", &EVENTS, None);
    assert_eq!(sse.event_or_comment().unwrap().name, "endpoint");
    assert!(began.elapsed() < Duration::from_secs(10), "long before the first keepalive");
}

#[test]
fn no_proxy_is_to_hold_a_stream_back() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session("2025-06-18");
    let streams = [
        session.get(None),
        session.stream(&slow(2, 1, 10)),
        listen(&gateway, 7, json!({"toolsListChanged": true})),
        gateway.wire().open("GET", "/sse", &EVENTS, None),
        gateway.stateless_stream(
            3,
            "tools/call",
            json!({"name": "slow", "arguments": {"steps": 1, "delay_ms": 10}, "_meta": {"progressToken": 1}}),
        ),
    ];
    for stream in streams {
        assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(stream.header("x-accel-buffering"), Some("no"));
        assert!(stream.header("cache-control").unwrap().contains("no-cache"));
        assert_eq!(stream.header("content-length"), None);
    }
}

#[test]
fn every_open_stream_is_kept_alive() {
    let gateway = Gateway::limited("keepalive_ms = 60\ncommit_ms = 20", &[]);
    let session = gateway.session("2025-11-25");
    let wait = json!({"name": "slow", "arguments": {"steps": 1, "delay_ms": 60_000}});
    let mut streams = [
        session.get(None),
        session.stream(&tool(2, "slow", wait["arguments"].clone())),
        listen(&gateway, 7, json!({"toolsListChanged": true})),
        gateway.wire().open("GET", "/sse", &EVENTS, None),
        gateway.stateless_stream(3, "tools/call", wait),
    ];
    for (at, stream) in streams.iter_mut().enumerate() {
        let mut beats = 0;
        while beats < 4 {
            beats += usize::from(stream.event_or_comment().unwrap_or_else(|| panic!("stream {at} ended")).name == ":");
        }
    }
}

// --- JSON or stream -----------------------------------------------------------------------------

#[test]
fn a_quick_answer_is_plain_json_and_a_slow_one_a_stream() {
    for mode in [&[][..], &["legacy"], &["modern"]] {
        let gateway = Gateway::limited("commit_ms = 100", mode);
        let session = gateway.session("2025-06-18");
        let quick = session.send(&tool(2, "echo", json!({"message": "hi"})));
        assert_eq!(quick.header("content-type"), Some("application/json"));
        assert_eq!(quick.header("content-length"), Some(quick.body.len().to_string().as_str()));
        let quick = gateway.stateless(3, "tools/call", json!({"name": "echo", "arguments": {"message": "hi"}}));
        assert_eq!(quick.header("content-type"), Some("application/json"));

        let wait = json!({"steps": 1, "delay_ms": 600});
        let late = json!({"name": "slow", "arguments": wait});
        for mut stream in [session.stream(&tool(4, "slow", wait)), gateway.stateless_stream(4, "tools/call", late)] {
            assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")), "{mode:?}");
            assert_is_comment(&mut stream);
            assert_eq!(stream.message().unwrap()["id"], 4);
            assert!(stream.is_over());
        }
    }
}

#[test]
fn what_fails_after_the_head_fails_on_the_stream() {
    let gateway = Gateway::limited("commit_ms = 50", &["modern"]);
    let mut stream = gateway.stateless_stream(4, "tools/call", json!({"name": "slow", "arguments": {"steps": 1, "delay_ms": 60_000}}));
    assert_eq!(stream.status, 200);
    gateway.stateless(5, "tools/call", json!({"name": "die"}));
    let said = stream.message().unwrap();
    assert_eq!((&said["id"], &said["error"]["code"]), (&json!(4), &json!(-32603)), "{said}");
    assert!(stream.is_over());
}

#[test]
fn a_client_gets_the_type_it_can_read() {
    let gateway = Gateway::limited("commit_ms = 50", &["legacy"]);
    let session = gateway.session("2025-06-18");
    let stateless = |accept: &str, tool: &str, arguments: Value| {
        let params = json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": 1}});
        let (headers, body) = crate::gateway::stateless_request(2, "tools/call", params);
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        headers.push(("accept", accept));
        gateway.wire().post("/mcp", &headers, &body)
    };
    let of_session = |accept: &str, call: &Value| {
        let mut headers = session.headers();
        headers.push(("accept", accept));
        gateway.wire().post("/mcp", &headers, &call.to_string())
    };
    for accept in ["application/json", "application/*"] {
        for said in [stateless(accept, "slow", json!({"steps": 2, "delay_ms": 100})), of_session(accept, &slow(2, 2, 100))] {
            assert_eq!((said.status, said.is_stream()), (200, false), "{accept}");
            assert_eq!(said.json()["result"]["content"][0]["text"], "done after 2 steps");
        }
    }
    for said in [
        stateless("text/event-stream", "echo", json!({"message": "hi"})),
        of_session("text/event-stream", &tool(2, "echo", json!({"message": "hi"}))),
    ] {
        assert_eq!((said.status, said.is_stream()), (200, true));
        assert_eq!(said.messages()[0]["result"]["content"][0]["text"], "hi");
    }
}

#[test]
fn the_more_specific_media_range_counts() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session("2025-06-18");
    for (accept, events) in
        [("text/event-stream;q=0, */*", false), ("*/*, application/json;q=0", true), ("application/json;q=0, */*;q=0.1", true)]
    {
        let mut headers = session.headers();
        headers.push(("accept", accept));
        let said = gateway.wire().post("/mcp", &headers, &slow(2, 1, 10).to_string());
        assert_eq!((said.status, said.is_stream()), (200, events), "{accept}");
    }
}

#[test]
fn a_stateless_client_that_leaves_takes_its_call_along() {
    for mode in ["legacy", "modern"] {
        // Before the head, and behind it.
        for commit in ["commit_ms = 60000", "commit_ms = 20"] {
            let gateway = Gateway::limited(commit, &[mode]);
            let (headers, body) =
                crate::gateway::stateless_request(2, "tools/call", json!({"name": "slow", "arguments": {"steps": 1, "delay_ms": 60_000}}));
            let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let mut wire = gateway.wire();
            wire.send("POST", "/mcp", &headers, Some(&body));
            // The server has the call once a later one has been answered.
            gateway.stateless(3, "tools/call", json!({"name": "echo", "arguments": {"message": "there"}}));
            drop(wire);
            gateway.wait_for_log("cancelled ");
        }
    }
}

// --- streams that break -------------------------------------------------------------------------

#[test]
fn a_stream_that_broke_is_resumed() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session("2025-11-25");
    let mut stream = session.stream(&slow(7, 4, 100));
    let priming = stream.event().unwrap();
    assert_eq!((priming.data.as_str(), priming.retry.is_some()), ("", true));
    let first = stream.event().unwrap();
    drop(stream);
    let mut again = session.get(first.id.as_deref());
    let rest: Vec<Value> = std::iter::from_fn(|| again.message()).collect();
    let steps: Vec<f64> = rest.iter().filter_map(|m| m["params"]["progress"].as_f64()).collect();
    assert_eq!((steps.as_slice(), &rest[3]["id"]), (&[2.0, 3.0, 4.0][..], &json!(7)), "{rest:?}");
}

#[test]
fn only_the_revision_that_knows_it_gets_a_priming_event() {
    let gateway = Gateway::start(&[]);
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let first = gateway.session(revision).stream(&slow(2, 1, 10)).event().unwrap();
        assert_eq!(first.data.is_empty(), revision == "2025-11-25", "{revision}: {first:?}");
        assert!(first.id.is_some());
    }
}

#[test]
fn a_call_whose_client_left_runs_on_and_keeps_its_answer() {
    for mode in [&[][..], &["legacy"], &["modern"]] {
        let gateway = Gateway::limited("commit_ms = 50", mode);
        let session = gateway.session("2025-11-25");
        let mut stream = session.stream(&tool(7, "slow", json!({"steps": 1, "delay_ms": 400})));
        let priming = stream.event().unwrap();
        drop(stream);
        let mut again = session.get(priming.id.as_deref());
        assert_eq!(again.message().unwrap()["id"], 7, "{mode:?}");
        assert!(again.is_over());
        // Once more, long after: the answer is kept for a while.
        let mut again = session.get(priming.id.as_deref());
        assert_eq!(again.message().unwrap()["id"], 7);
    }
}

#[test]
fn an_event_nobody_sent_cannot_be_resumed_from() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session("2025-11-25");
    for unknown in ["9-1", "0-99", "1-0", "x", "-"] {
        let mut stream = session.get(Some(unknown));
        assert_eq!(stream.status, 400, "{unknown:?}");
        assert!(stream.event().is_none());
    }
}

// --- subscriptions ------------------------------------------------------------------------------

/// The next message of a listen, which must be marked as its.
fn next(stream: &mut Stream, id: u64) -> Value {
    let message = stream.message().expect("a message");
    assert_eq!(message["params"]["_meta"][SUBSCRIPTION], id, "{message}");
    message
}

/// A listen hears of what it asked for and of nothing else, marked as its own.
fn listens(gateway: &Gateway, change: &str, touch: &str, uri: &str) {
    let do_now = |tool: &str| drop(gateway.stateless(3, "tools/call", json!({"name": tool})));
    let mut lists = listen(gateway, 7, json!({"toolsListChanged": true}));
    let mut updates = listen(gateway, 8, json!({"resourceSubscriptions": [uri], "promptsListChanged": false}));
    let acknowledged = [next(&mut lists, 7), next(&mut updates, 8)];
    assert!(acknowledged.iter().all(|a| a["method"] == "notifications/subscriptions/acknowledged"));
    assert_eq!(acknowledged[0]["params"]["notifications"], json!({"toolsListChanged": true}));
    assert_eq!(acknowledged[1]["params"]["notifications"], json!({"resourceSubscriptions": [uri]}));
    for _ in 0..2 {
        do_now(touch);
        do_now(change);
        assert_eq!(next(&mut lists, 7)["method"], "notifications/tools/list_changed");
        let update = next(&mut updates, 8);
        assert_eq!((&update["method"], &update["params"]["uri"]), (&json!("notifications/resources/updated"), &json!(uri)));
    }
}

#[test]
fn a_listen_hears_of_the_demo() {
    listens(&Gateway::start(&[]), "toggle", "touch", "demo://counter");
}

#[test]
fn a_listen_hears_of_a_handshake_server() {
    listens(&Gateway::fixture(&[], &["legacy"]), "test_trigger_tool_change", "touch_watched", landbridge_fixtures::WATCHED_URI);
}

#[test]
fn a_listen_hears_of_a_stateless_server() {
    listens(&Gateway::fixture(&[], &["modern"]), "test_trigger_tool_change", "touch_watched", landbridge_fixtures::WATCHED_URI);
}

#[test]
fn a_listen_is_acknowledged_with_what_can_be_honoured() {
    // The fixtures' lists of resources are fixed; the stateless one knows what it has.
    for (mode, uris) in [("legacy", json!(["no://where", "test://watched-resource"])), ("modern", json!(["test://watched-resource"]))] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let uris_wanted = ["test://watched-resource", "no://where"];
        let wanted = json!({"resourcesListChanged": true, "toolsListChanged": true, "resourceSubscriptions": uris_wanted});
        let honoured = next(&mut listen(&gateway, 7, wanted), 7)["params"]["notifications"].clone();
        assert_eq!(honoured, json!({"toolsListChanged": true, "resourceSubscriptions": uris}), "{mode}");
    }
}

#[test]
fn a_listen_ends_with_its_result_when_the_gateway_does() {
    let mut gateway = Gateway::fixture(&[], &["modern"]);
    let mut stream = listen(&gateway, 7, json!({"toolsListChanged": true}));
    next(&mut stream, 7);
    assert!(gateway.terminate().success());
    let end = stream.message().expect("the result");
    assert_eq!(end, json!({"jsonrpc": "2.0", "id": 7, "result": {"resultType": "complete", "_meta": {SUBSCRIPTION: 7}}}));
    assert!(stream.is_over());
}
