//! Servers elsewhere that speak HTTP+SSE (2024-11-05).

use serde_json::{Value, json};

use crate::foreign::Foreign;
use crate::gateway::wait_until;

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}

fn answer(heard: &crate::foreign::Heard, events: &mut crate::foreign::Events) {
    let at = json!([{"type": "text", "text": heard.path}]);
    events.message(&json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": {"content": at}}));
}

#[test]
fn the_endpoint_may_be_named_in_every_way() {
    for (begin, path) in [
        ("event: endpoint\ndata: /messages?sessionId=1\n\n", "/messages?sessionId=1"),
        ("event: endpoint\r\ndata: messages\r\n\r\n", "/deep/messages"),
        ("event: endpoint\rdata:?messages=2\r\r", "/deep/sse?messages=2"),
        (": hello\n\nevent: hint\ndata: x\n\nevent: endpoint\ndata: /a/b/messages/?x=%20y\n\n", "/a/b/messages/?x=%20y"),
    ] {
        let far = Foreign::pipes(begin, answer);
        let gateway = far.gateway("/deep/sse");
        let session = gateway.session("2025-06-18");
        assert_eq!(session.hello["result"]["serverInfo"]["name"], "far");
        assert_eq!(text(&session.tool(2, "x", json!({}))), path, "{begin}");
        let answer = gateway.stateless(3, "tools/call", json!({"name": "x"})).json();
        assert_eq!(text(&answer), path, "{begin}");
    }
}

#[test]
fn an_endpoint_elsewhere_is_refused_and_nothing_is_said_to_it() {
    let other = Foreign::start(|_, reply| reply.empty(202));
    let begin = format!("event: endpoint\ndata: http://127.0.0.1:{}/messages\n\n", other.port);
    for begin in
        [begin.as_str(), "event: endpoint\ndata: //example.com/messages\n\n", "event: endpoint\ndata: ftp://127.0.0.1/messages\n\n"]
    {
        let far = Foreign::pipes(begin.to_owned().leak(), answer);
        let gateway = far.gateway("/sse");
        let said = gateway.stateless(2, "tools/list", json!({})).json();
        let message = said["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("endpoint"), "{message}");
    }
    assert!(other.heard().is_empty());
}

#[test]
fn a_stream_that_ends_ends_its_calls_and_the_next_one_opens_another() {
    let far = Foreign::pipes("event: endpoint\ndata: /messages\n\n", |heard, events| match heard.json()["params"]["name"].as_str() {
        Some("end") => events.end(),
        _ => answer(heard, events),
    });
    let gateway = far.gateway("/sse");
    let session = gateway.session("2025-06-18");
    let failed = session.tool(2, "end", json!({}));
    assert!(failed["error"]["message"].as_str().unwrap().contains("the server `far` broke off"), "{failed}");
    wait_until("another stream", || session.tool(3, "x", json!({}))["result"].is_object());
    assert_eq!(far.heard().iter().filter(|heard| heard.method == "GET").count(), 2);
}

#[test]
fn a_server_without_a_stream_is_named_as_such() {
    let far = Foreign::start(|heard, reply| match heard.method.as_str() {
        "POST" => reply.empty(404),
        _ => reply.whole(200, &[("content-type", "text/html")], "<html>welcome</html>"),
    });
    let gateway = far.gateway("/sse");
    let said = gateway.stateless(2, "tools/list", json!({})).json();
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.contains("the server `far`") && message.contains("HTTP 404") && message.contains("HTTP+SSE"), "{message}");
}

#[test]
fn what_it_speaks_is_found_out_again_when_that_is_old() {
    let far = Foreign::pipes("event: endpoint\ndata: /messages\n\n", answer);
    let file = crate::gateway::config_file(&format!("[limits]\nverdict_ms = 1\n[servers.far]\nurl = \"{}\"\n", far.url("/sse")));
    let gateway = crate::gateway::Gateway::start(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    for times in 1..=2 {
        let session = gateway.session("2025-06-18");
        assert_eq!(text(&session.tool(2, "x", json!({}))), "/messages");
        assert_eq!(far.count("server/discover"), times, "it may have learned another transport meanwhile");
    }
}
