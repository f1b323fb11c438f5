//! The stream of a session that belongs to no call, at servers that drop what nobody listens to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::foreign::{Events, Foreign, Heard, hello};

fn session_of(heard: &Heard) -> String {
    heard.header("mcp-session-id").unwrap_or_default().into()
}

/// A server that takes its time over the stream of a session, and tells each call whether that was there before it.
/// `forgets`: whether it has forgotten the session of a call.
fn attentive(slow_ms: u64, forgets: impl Fn(&str) -> bool + Send + Sync + 'static) -> Foreign {
    let open: Arc<Mutex<Vec<(String, Events)>>> = Arc::default();
    let number = std::sync::atomic::AtomicU32::new(1);
    Foreign::start(move |heard, reply| match heard.what().as_str() {
        "server/discover" => reply.empty(400),
        "initialize" => {
            let session = format!("session-{}", number.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
            let hello = json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": hello("2025-11-25")});
            reply.json(200, &[("mcp-session-id", &session)], &hello);
        }
        "GET" => {
            std::thread::sleep(Duration::from_millis(slow_ms));
            open.lock().unwrap().push((session_of(heard), reply.events()));
        }
        "tools/call" if forgets(&session_of(heard)) => reply.empty(404),
        "tools/call" => {
            let listens = open.lock().unwrap().iter().any(|(session, _)| *session == session_of(heard));
            reply.text(heard, if listens { "you listen" } else { "nobody listens" });
        }
        "DELETE" => reply.empty(204),
        _ => reply.empty(202),
    })
}

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}

#[test]
fn a_sessions_first_call_is_sent_when_its_stream_is_there() {
    let far = attentive(200, |_| false);
    let gateway = far.gateway("/mcp");
    for _ in 0..3 {
        assert_eq!(text(&gateway.session("2025-11-25").tool(2, "x", json!({}))), "you listen");
    }
}

#[test]
fn so_it_is_in_the_session_that_comes_after_one_that_was_forgotten() {
    let far = attentive(200, |session| session == "session-1");
    let gateway = far.gateway("/mcp");
    assert_eq!(text(&gateway.session("2025-11-25").tool(2, "x", json!({}))), "you listen");
    assert_eq!(far.count("initialize"), 2);
}

/// Some servers begin the response to a GET with the first event.
#[test]
fn a_stream_that_does_not_begin_holds_no_call_up_for_long() {
    // Not before the test is over.
    let far = attentive(60_000, |_| false);
    let gateway = far.gateway("/mcp");
    for _ in 0..2 {
        assert_eq!(text(&gateway.session("2025-11-25").tool(2, "x", json!({}))), "nobody listens");
    }
}

#[test]
fn a_call_that_is_withdrawn_while_its_stream_is_waited_for_is_not_made() {
    let far = attentive(800, |_| false);
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-11-25");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| session.tool(2, "x", json!({})));
        std::thread::sleep(Duration::from_millis(200));
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}));
        let answer = call.join().unwrap();
        // Where the machine was slow it came after its withdrawal, and was made.
        if answer.get("error").is_some() {
            far.wait_for("notifications/cancelled", 1);
            std::thread::sleep(Duration::from_millis(1_000));
            let heard: Vec<String> = far.heard().iter().map(Heard::what).collect();
            let withdrawn = heard.iter().position(|what| what == "notifications/cancelled").unwrap();
            assert!(!heard[withdrawn..].contains(&"tools/call".to_owned()), "{heard:?}");
        }
    });
}
