//! What users want of a server outlives the server: children that die, listens that end.

use std::time::{Duration, Instant};

use landbridge_fixtures::WATCHED_URI;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Session, config_file, is_running, wait_until};
use crate::wire::Stream;

const REVISION: &str = "2025-11-25";
const TOOLS: &str = "notifications/tools/list_changed";
const PROMPTS: &str = "notifications/prompts/list_changed";
const UPDATED: &str = "notifications/resources/updated";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Calls a tool as a client without a session; whatever comes of it.
fn quietly(gateway: &Gateway, tool: &str) {
    gateway.stateless(3, "tools/call", json!({"name": tool, "arguments": {}}));
}

/// The same, once the server answers again. `None`: it does not yet.
fn shared_pid(gateway: &Gateway) -> Option<u32> {
    let said = gateway.stateless(5, "tools/call", json!({"name": "where_am_i", "arguments": {}}));
    let text = said.messages().pop()?["result"]["content"][0]["text"].as_str()?.to_owned();
    serde_json::from_str::<Value>(&text).ok()?["pid"].as_u64().map(|pid| pid as u32)
}

fn method(stream: &mut Stream) -> String {
    let message = stream.message().expect("a message");
    message["method"].as_str().unwrap_or_else(|| panic!("{message}")).to_owned()
}

#[track_caller]
fn hears(stream: &mut Stream, expected: &[&str]) {
    let heard: Vec<String> = expected.iter().map(|_| method(stream)).collect();
    assert_eq!(heard, expected);
}

/// A session that listens to its server, and to a resource of it.
fn attentive(gateway: &Gateway) -> (Session<'_>, Stream) {
    let session = gateway.session(REVISION);
    let mut stream = session.get(None);
    stream.event().unwrap();
    assert_eq!(session.call(2, "resources/subscribe", json!({"uri": WATCHED_URI}))["result"], json!({}));
    session.tool(3, "touch_watched", json!({}));
    hears(&mut stream, &[UPDATED]);
    (session, stream)
}

// --- shared servers -----------------------------------------------------------------------------

#[test]
fn a_session_at_a_shared_server_hears_of_changes_again_without_a_call() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&["--isolation", "none"], &[mode]);
        let (_session, mut stream) = attentive(&gateway);
        for _ in 0..2 {
            quietly(&gateway, "die");
            // What may have changed meanwhile is told once, of each kind that the server has.
            hears(&mut stream, &[TOOLS, PROMPTS, UPDATED]);
            quietly(&gateway, "touch_watched");
            quietly(&gateway, "test_trigger_tool_change");
            hears(&mut stream, &[UPDATED, TOOLS]);
        }
    }
}

#[test]
fn a_listen_stays_open_while_its_server_is_started_again() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&["--isolation", "none"], &[mode]);
        let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": [WATCHED_URI]});
        let mut stream = gateway.stateless_stream(7, "subscriptions/listen", json!({"notifications": wanted}));
        hears(&mut stream, &[ACKNOWLEDGED]);
        quietly(&gateway, "die");
        hears(&mut stream, &[TOOLS, UPDATED]);
        quietly(&gateway, "touch_watched");
        quietly(&gateway, "test_trigger_tool_change");
        hears(&mut stream, &[UPDATED, TOOLS]);
    }
}

#[test]
fn a_listen_that_the_server_ends_is_opened_again() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let (_session, mut stream) = attentive(&gateway);
    for _ in 0..2 {
        quietly(&gateway, "end_listens");
        hears(&mut stream, &[TOOLS, PROMPTS, UPDATED]);
        quietly(&gateway, "touch_watched");
        hears(&mut stream, &[UPDATED]);
    }
}

#[test]
fn a_listen_is_broken_off_when_its_server_does_not_come_back() {
    let marker = config_file("");
    let binary = landbridge_fixtures::binary();
    // Each start leaves a line; the first one is a server.
    let script =
        format!("echo >> {marker}; test $(wc -l < {marker}) -eq 1 || exit 1; exec {} legacy", binary.display(), marker = marker.display());
    let gateway = Gateway::start(&["--isolation", "none", "--protocol", "legacy", "--", "sh", "-c", &script]);
    let mut stream = gateway.stateless_stream(7, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    hears(&mut stream, &[ACKNOWLEDGED]);
    let session = gateway.session(REVISION);
    let mut get = session.get(None);
    let began = Instant::now();
    quietly(&gateway, "die");
    assert!(stream.message().is_none(), "it ends without a result");
    assert!(began.elapsed() < Duration::from_secs(40));
    let starts = std::fs::read_to_string(&marker).unwrap().lines().count();
    assert!((3..=8).contains(&starts), "{starts} starts");
    // Sessions stay, and hear of it should it come back.
    std::fs::write(&marker, "").unwrap();
    get.event().unwrap();
    hears(&mut get, &[TOOLS, PROMPTS]);
    let _ = std::fs::remove_file(marker);
}

#[test]
fn a_server_that_dies_again_and_again_is_started_less_and_less() {
    let marker = config_file("");
    let (binary, marker_path) = (landbridge_fixtures::binary(), marker.display());
    let script = format!("echo >> {marker_path}; exec timeout 0.5 {} legacy", binary.display());
    let gateway = Gateway::start(&["--isolation", "none", "--protocol", "legacy", "--", "sh", "-c", &script]);
    let mut stream = gateway.stateless_stream(7, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    hears(&mut stream, &[ACKNOWLEDGED]);
    let began = Instant::now();
    // Once for each time that it was there again; then it is given up.
    let told = std::iter::from_fn(|| stream.message()).inspect(|m| assert_eq!(m["method"], TOOLS, "{m}")).count();
    assert!((2..=7).contains(&told), "{told} times");
    assert!(began.elapsed() > Duration::from_secs(5));
    let starts = std::fs::read_to_string(&marker).unwrap().lines().count();
    assert!(starts <= told + 2, "{starts} starts, {told} times");
    let _ = std::fs::remove_file(marker);
}

#[test]
fn another_child_takes_over_where_there_is_one() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let (first, mut one) = attentive(&gateway);
    // Clients that can be asked do not share with those that cannot.
    let second = gateway.session_with(REVISION, json!({"elicitation": {}}));
    let mut two = second.get(None);
    two.event().unwrap();
    assert_ne!(crate::children::pid(&first), crate::children::pid(&second));
    // The changes of each child are told to all.
    for session in [&first, &second] {
        session.tool(4, "test_trigger_tool_change", json!({}));
        hears(&mut one, &[TOOLS]);
        hears(&mut two, &[TOOLS]);
    }
    first.tool(5, "die", json!({}));
    hears(&mut one, &[TOOLS, PROMPTS, UPDATED]);
    hears(&mut two, &[TOOLS, PROMPTS]);
    second.tool(6, "touch_watched", json!({}));
    hears(&mut one, &[UPDATED]);
}

#[test]
fn nobody_is_started_again_for_whom_nobody_listens() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let mut stream = gateway.stateless_stream(7, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    hears(&mut stream, &[ACKNOWLEDGED]);
    drop(stream);
    let before = shared_pid(&gateway).unwrap();
    std::thread::sleep(Duration::from_millis(500)); // until the gateway has seen that it is gone
    quietly(&gateway, "die");
    wait_until("its end", || !is_running(before));
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(gateway.log().matches("program=").count(), 1, "{}", gateway.log());
}

#[test]
fn a_server_is_kept_as_long_as_somebody_listens() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::limited_with("child_idle_ms = 200", &["--isolation", "none"], &[mode]);
        let mut stream = gateway.stateless_stream(7, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        hears(&mut stream, &[ACKNOWLEDGED]);
        let before = shared_pid(&gateway).unwrap();
        std::thread::sleep(Duration::from_millis(2_500));
        assert!(is_running(before), "{mode}");
        drop(stream);
        wait_until("its end", || !is_running(before));
    }
}

// --- levels -------------------------------------------------------------------------------------

#[test]
fn a_shared_server_logs_what_those_who_are_there_want() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let [indifferent, quiet, curious] = [(); 3].map(|()| gateway.session(REVISION));
    let heard = || indifferent.send(&crate::gateway::tool(9, "test_logging_tool", json!({}))).messages().len() - 1;
    quiet.call(2, "logging/setLevel", json!({"level": "error"}));
    assert_eq!(heard(), 0);
    curious.call(2, "logging/setLevel", json!({"level": "debug"}));
    assert!(heard() > 0);
    assert_eq!(curious.delete().status, 204);
    wait_until("the level to fall", || heard() == 0);
    // And again after a restart.
    quietly(&gateway, "die");
    wait_until("the server", || shared_pid(&gateway).is_some());
    assert_eq!(heard(), 0);
}

// --- a server of one's own ----------------------------------------------------------------------

#[test]
fn a_session_gets_back_what_it_had_said_to_its_own_server() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let (session, mut stream) = attentive(&gateway);
    session.call(4, "logging/setLevel", json!({"level": "error"}));
    assert!(session.tool(5, "die", json!({}))["error"].is_object());
    // The next call starts it; what it is told it is told before that call.
    assert_eq!(session.send(&crate::gateway::tool(6, "test_logging_tool", json!({}))).messages().len(), 1);
    hears(&mut stream, &[TOOLS, PROMPTS, UPDATED]);
    session.tool(7, "touch_watched", json!({}));
    hears(&mut stream, &[UPDATED]);
    // What it gave up stays given up.
    session.call(8, "resources/unsubscribe", json!({"uri": WATCHED_URI}));
    assert!(session.tool(9, "die", json!({}))["error"].is_object());
    session.tool(10, "touch_watched", json!({}));
    session.tool(11, "test_trigger_tool_change", json!({}));
    hears(&mut stream, &[TOOLS, PROMPTS, TOOLS]);
}
