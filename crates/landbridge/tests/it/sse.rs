//! HTTP+SSE, the transport of 2024-11-05, which later revisions may be spoken over too.

use serde_json::json;

use crate::gateway::{Gateway, slow, up_to_answer, wait_until};

#[test]
fn the_old_transport_begins_with_its_endpoint() {
    let gateway = Gateway::start(&[]);
    for path in ["/sse", "/mcp"] {
        let mut stream = gateway.wire().open("GET", path, &[("accept", "text/event-stream")], None);
        let endpoint = stream.event().unwrap();
        assert_eq!((stream.status, endpoint.name.as_str()), (200, "endpoint"), "{path}");
        assert!(endpoint.data.starts_with("/messages?sessionId="), "{endpoint:?}");
        assert_eq!(stream.header("mcp-session-id"), None);
    }
    let sse = gateway.sse("2024-11-05");
    let said = gateway.wire().post(&sse.path, &[], r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    assert_eq!((said.status, said.text().as_str()), (202, "Accepted"));
}

#[test]
fn a_message_that_belongs_to_no_old_session_is_refused() {
    let gateway = Gateway::start(&[]);
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    let post = |path: &str, headers: &[(&str, &str)], body: &str| gateway.wire().post(path, headers, body).status;
    assert_eq!(post("/messages", &[], ping), 400);
    assert_eq!(post("/messages?sessionId=0123456789abcdef0123456789abcdef", &[], ping), 404);
    let streamable = gateway.session("2025-06-18");
    assert_eq!(post(&format!("/messages?sessionId={}", streamable.id), &[], ping), 404);
    let sse = gateway.sse("2024-11-05");
    let name = sse.path.split_once('=').unwrap().1;
    assert_eq!(post("/mcp", &[("mcp-session-id", name)], ping), 404);
    assert_eq!(post(&sse.path, &[], "{"), 400);
    assert_eq!(post(&sse.path, &[("content-type", "text/plain")], ping), 415);
    assert_eq!(post(&sse.path.replace("sessionId", "session_id"), &[], ping), 202);
}

#[test]
fn an_old_client_that_probes_is_told_to_shake_hands() {
    let gateway = Gateway::start(&[]);
    let mut sse = gateway.sse("2024-11-05");
    for params in [json!({}), json!({"_meta": crate::gateway::meta()})] {
        assert_eq!(sse.call(2, "server/discover", params)["error"]["code"], -32601);
    }
    assert_eq!(sse.call(3, "ping", json!({}))["result"], json!({}));
}

#[test]
fn over_the_old_transport_everything_comes_on_the_one_stream() {
    for gateway in [Gateway::start(&[]), Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&[], &["modern"])] {
        let mut sse = gateway.sse("2025-03-26");
        sse.post(&slow(2, 2, 10));
        let said = up_to_answer(&mut sse.stream, 2);
        assert_eq!(said.iter().filter(|m| m["params"]["progressToken"] == 2).count(), 2, "{said:?}");
        sse.post(&json!([{"jsonrpc": "2.0", "id": 3, "method": "ping"}, {"jsonrpc": "2.0", "id": 4, "method": "ping"}]));
        let mut ids: Vec<u64> = (0..2).map(|_| sse.next()["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [3, 4]);
        // Nobody waits for the answer to a call it withdrew.
        sse.post(&slow(5, 500, 20));
        assert!(sse.next()["params"]["progress"].is_number());
        sse.post(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}));
        sse.post(&json!({"jsonrpc": "2.0", "id": 6, "method": "ping"}));
        let rest = up_to_answer(&mut sse.stream, 6);
        assert!(rest.iter().all(|m| m["id"] != 5), "{rest:?}");
    }
}

#[test]
fn the_end_of_the_stream_is_the_end_of_the_old_session() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let sse = gateway.sse("2024-11-05");
    let path = sse.path.clone();
    drop(sse);
    wait_until("the session to be gone", || gateway.wire().post(&path, &[], r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#).status == 404);
}
