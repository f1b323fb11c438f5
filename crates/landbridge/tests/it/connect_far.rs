//! `landbridge connect` in front of a server elsewhere that is not there yet, or goes away.
//!
//! That everything crosses is tried in `connect`, where servers are elsewhere too.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::foreign::{Foreign, Heard, Reply, discovered, hello};
use crate::pipe::{Pipe, initialize};

/// Where nobody listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/mcp")
}

/// A server of both eras.
fn answer(heard: &Heard, reply: Reply<'_>) {
    match heard.what().as_str() {
        "initialize" => reply.result(heard, hello("2025-06-18")),
        "server/discover" => reply.result(heard, discovered()),
        "GET" => reply.empty(405),
        what if what.starts_with("notifications/") => reply.empty(202),
        _ => reply.result(heard, json!({"resultType": "complete", "content": [{"type": "text", "text": "there"}]})),
    }
}

fn said(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}

#[test]
fn connect_sends_the_headers_it_is_given_with_every_request_and_logs_none() {
    let far = Foreign::start(answer);
    let args = [&url(far.port), "--header", "Authorization: Bearer ${TOKEN}", "--header", "X-Plain:a:b", "--log-level", "trace"];
    let mut pipe = Pipe::start_with(&args, &[("TOKEN", "s3cr3t")]).speaking("2025-06-18", json!({}));
    assert_eq!(said(&pipe.tool("x", json!({}))), "there");
    pipe.close();
    assert!(pipe.rest().1.success());
    let heard = far.heard();
    assert!(heard.len() > 1);
    for request in heard {
        assert_eq!(request.header("authorization"), Some("Bearer s3cr3t"), "{request:?}");
        assert_eq!(request.header("x-plain"), Some("a:b"), "{request:?}");
    }
    assert!(!pipe.log().contains("s3cr3t"), "{}", pipe.log());
}

#[test]
fn connect_waits_for_a_server_that_is_not_there_yet() {
    for revision in ["2025-06-18", "2026-07-28"] {
        let port = free_port();
        let mut pipe = Pipe::start(&[&url(port)]);
        if revision < "2026" {
            pipe.send(&initialize(1, revision, &json!({})));
        } else {
            pipe = pipe.speaking(revision, json!({}));
            for id in 1..4 {
                pipe.send(&pipe.tool_request(id, "x", json!({})));
            }
        }
        pipe.wait_for_log("trying again in 2 s");
        let far = Foreign::at(port, answer);
        if revision < "2026" {
            assert_eq!(pipe.next()["result"]["protocolVersion"], revision);
        } else {
            let mut ids = [(); 3].map(|()| pipe.next()).map(|answer| answer["id"].as_u64().unwrap());
            ids.sort_unstable();
            assert_eq!(ids, [1, 2, 3]);
            assert_eq!(far.count("server/discover"), 1, "one tries for all");
        }
        assert_eq!(pipe.log().matches("trying again").count(), 1, "{}", pipe.log());
    }
}

#[test]
fn connect_ends_at_once_also_while_it_tries_again() {
    for how in ["input", "TERM"] {
        let mut pipe = Pipe::start(&[&url(free_port())]);
        pipe.send(&initialize(1, "2025-06-18", &json!({})));
        pipe.wait_for_log("trying again in 2 s");
        match how {
            "input" => pipe.close(),
            _ => pipe.terminate(),
        }
        let (said, status) = pipe.rest();
        assert_eq!((said, status.code()), (vec![], Some(0)), "{how}");
    }
}

#[test]
fn connect_forgets_a_call_that_is_withdrawn_while_it_tries_again() {
    let port = free_port();
    let mut pipe = Pipe::start(&[&url(port)]).speaking("2026-07-28", json!({}));
    pipe.send(&pipe.tool_request(7, "x", json!({})));
    pipe.wait_for_log("trying again in 2 s");
    pipe.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    pipe.send(&pipe.tool_request(8, "x", json!({})));
    let far = Foreign::at(port, answer);
    assert_eq!(pipe.next()["id"], 8);
    assert_eq!(far.count("tools/call"), 1);
}

#[test]
fn connect_comes_back_to_a_server_whose_stream_has_ended_and_says_again_what_its_client_had_said() {
    let far = Foreign::pipes("event: endpoint\ndata: /messages\n\n", |heard, events| match heard.json()["params"]["name"].as_str() {
        Some("end") => events.end(),
        _ => {
            events.message(&json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": {}}));
        }
    });
    let mut pipe = Pipe::start(&[&far.url("/sse"), "--transport", "sse"]).speaking("2024-11-05", json!({"roots": {}}));
    assert_eq!(pipe.call("logging/setLevel", json!({"level": "error"}))["result"], json!({}));
    assert_eq!(pipe.call("resources/subscribe", json!({"uri": "a:b"}))["result"], json!({}));
    assert!(pipe.tool("end", json!({}))["error"].is_object());
    // Nobody calls.
    let missed = [pipe.next(), pipe.next()];
    assert!(missed.iter().any(|note| note["method"] == "notifications/tools/list_changed"), "{missed:?}");
    assert!(missed.iter().any(|note| note["params"]["uri"] == "a:b"), "{missed:?}");
    for (what, times) in [("initialize", 2), ("notifications/initialized", 2), ("logging/setLevel", 2), ("resources/subscribe", 2)] {
        far.wait_for(what, times);
    }
    let greetings: Vec<Value> =
        far.heard().iter().filter(|heard| heard.what() == "initialize").map(|heard| heard.json()["params"].clone()).collect();
    assert_eq!(greetings[0], greetings[1]);
    assert!(greetings[0]["capabilities"]["roots"].is_object(), "{greetings:?}");
}
