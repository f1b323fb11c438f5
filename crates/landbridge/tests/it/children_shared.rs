//! Who has a child of its own, who shares one, and when a child is let go.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::children::{hello, hello_sse, initialize, pid, pid_of, text};
use crate::gateway::{Gateway, Session, config_file, descendants, is_running, wait_until};

const REVISION: &str = "2025-11-25";

/// The fixture servers that run behind a gateway.
fn servers(gateway: &Gateway) -> Vec<u32> {
    let is_server = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("mcp-fixture"));
    descendants(gateway.pid()).into_iter().filter(is_server).collect()
}

/// The pid of the server that clients without a session get.
fn stateless_pid(gateway: &Gateway) -> u32 {
    let response = gateway.stateless(5, "tools/call", json!({"name": "where_am_i", "arguments": {}}));
    assert_eq!(response.status, 200, "{}", response.text());
    pid_of(&response.json())
}

fn gone(pid: u32) {
    wait_until(&format!("the end of {pid}"), || !is_running(pid));
}

// --- a child of one's own -----------------------------------------------------------------------

#[test]
fn each_session_has_a_server_of_its_own_and_the_next_one_finds_it_warm() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let first = gateway.session(REVISION);
    wait_until("a warm spare", || servers(&gateway).len() == 2);
    let warm = servers(&gateway);
    let second = gateway.session(REVISION);
    let (one, two) = (pid(&first), pid(&second));
    assert!(one != two && warm.contains(&one) && warm.contains(&two), "{one} {two} {warm:?}");
    assert_eq!((pid(&first), pid(&second)), (one, two), "and keeps it");
}

#[test]
fn a_deleted_session_takes_its_server_with_it() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let (session, other) = (gateway.session(REVISION), gateway.session(REVISION));
    let (ends, stays) = (pid(&session), pid(&other));
    assert_eq!(session.delete().status, 204);
    gone(ends);
    assert_eq!(pid(&other), stays);
    assert_eq!(session.send(&json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"})).status, 404);
}

#[test]
fn a_session_deleted_in_the_middle_of_a_call_takes_its_server_with_it() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session(REVISION);
    let ends = pid(&session);
    let mut running = session.stream(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "slow", "arguments": {"steps": 600, "delay_ms": 100}, "_meta": {"progressToken": 2}}}));
    running.message().unwrap();
    assert_eq!(session.delete().status, 204);
    gone(ends);
    while running.message().is_some() {}
}

#[test]
fn over_sse_the_end_of_the_stream_is_the_end_of_the_server() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let mut sse = gateway.sse("2024-11-05");
    let ends = pid_of(&sse.call(2, "tools/call", json!({"name": "where_am_i", "arguments": {}})));
    drop(sse);
    gone(ends);
}

#[test]
fn a_session_nobody_uses_ends_and_its_server_with_it() {
    let gateway = Gateway::limited("session_idle_ms = 200", &["legacy"]);
    let session = gateway.session(REVISION);
    let ends = pid(&session);
    // Not every session is looked at every second.
    let until = Instant::now() + Duration::from_secs(40);
    while is_running(ends) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!is_running(ends));
    assert_eq!(session.send(&json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"})).status, 404);
}

// --- a shared child -----------------------------------------------------------------------------

#[test]
fn sessions_that_share_a_server_have_one() {
    for isolation in ["none", "principal"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let (first, second) = (gateway.session(REVISION), gateway.session("2025-03-26"));
        assert_eq!(pid(&first), pid(&second));
        assert_eq!(first.delete().status, 204);
        assert_eq!(pid(&second), stateless_pid(&gateway));
        assert_eq!(servers(&gateway).len(), 1);
    }
}

#[test]
fn a_stateless_server_is_shared_by_everybody() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let (first, second) = (gateway.session(REVISION), gateway.session("2025-03-26"));
    let mut sse = gateway.sse("2024-11-05");
    let shared = pid(&first);
    assert_eq!(pid(&second), shared);
    assert_eq!(pid_of(&sse.call(2, "tools/call", json!({"name": "where_am_i", "arguments": {}}))), shared);
    assert_eq!(stateless_pid(&gateway), shared);
    assert_eq!(first.delete().status, 204);
    assert_eq!((stateless_pid(&gateway), servers(&gateway)), (shared, vec![shared]));
}

/// A call with progress and one with a text, both recognisable by `steps` and `text`.
fn call_twice(id: u64, steps: u64, words: &str, send: impl Fn(Value) -> Vec<Value>) {
    let slow = json!({"name": "slow", "arguments": {"steps": steps, "delay_ms": 20}, "_meta": {"progressToken": id}});
    let mut said = send(slow);
    let last = said.pop().unwrap();
    assert_eq!((&last["id"], text(&last)), (&json!(id), format!("done after {steps} steps").as_str()));
    let told: Vec<_> = said.iter().map(|m| json!([m["params"]["progressToken"], m["params"]["progress"], m["params"]["total"]])).collect();
    assert_eq!(told, (1..=steps).map(|step| json!([id, step, steps])).collect::<Vec<_>>());
    let last = send(json!({"name": "echo", "arguments": {"message": words}})).pop().unwrap();
    assert_eq!((&last["id"], text(&last)), (&json!(id), words));
}

#[test]
fn equal_ids_and_progress_tokens_of_different_clients_never_mix() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&["--isolation", "none"], &[mode]);
        let (gateway, sessions) = (&gateway, [gateway.session(REVISION), gateway.session("2025-03-26")]);
        std::thread::scope(|scope| {
            for id in 1..=8 {
                for (who, session) in sessions.iter().enumerate() {
                    scope.spawn(move || {
                        call_twice(id, 3 + who as u64, &format!("{id} of session {who}"), |params| {
                            let response = session.send(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}));
                            response.messages()
                        });
                    });
                }
                scope.spawn(move || {
                    call_twice(id, 5, &format!("{id} of nobody"), |params| gateway.stateless(id, "tools/call", params).messages());
                });
            }
        });
    }
}

#[test]
fn a_shared_server_nobody_uses_is_stopped_and_started_for_the_next_call() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::limited_with("child_idle_ms = 200", &["--isolation", "none"], &[mode]);
        let before = stateless_pid(&gateway);
        gone(before);
        assert_ne!(stateless_pid(&gateway), before);
    }
}

#[test]
fn a_shared_server_in_use_is_not_stopped() {
    let gateway = Gateway::limited("child_idle_ms = 2000", &["modern"]);
    let before = stateless_pid(&gateway);
    let until = Instant::now() + Duration::from_secs(6);
    while Instant::now() < until {
        assert_eq!(stateless_pid(&gateway), before, "stopped between one call and the next");
    }
}

// --- ceilings -----------------------------------------------------------------------------------

#[test]
fn at_the_ceiling_of_children_a_client_is_told_to_come_back() {
    let gateway = Gateway::limited("children = 2", &["legacy"]);
    let sessions = [gateway.session(REVISION), gateway.session(REVISION)];
    for (response, id) in [(hello(&gateway), 41), (gateway.stateless(7, "tools/list", json!({})), 7)] {
        assert_eq!((response.status, response.json()["id"].clone()), (503, json!(id)), "{}", response.text());
        assert!(response.header("retry-after").is_some_and(|s| s.parse::<u32>().is_ok()), "{response:?}");
        let answer = response.json();
        assert!(answer["error"]["message"].as_str().unwrap().contains("2 server processes are running already"), "{answer}");
    }
    let answer = hello_sse(&gateway);
    assert!(answer["id"] == 41 && answer["error"]["code"] == -32000, "{answer}");
    assert!(sessions.iter().all(|s| is_running(pid(s))), "those who are in are served");
    assert_eq!(sessions[0].delete().status, 204);
    wait_until("a place", || hello(&gateway).status == 200);
}

#[test]
fn a_warm_spare_gives_way_to_whoever_needs_its_place() {
    let binary = landbridge_fixtures::binary();
    let command = format!("command = {:?}\nargs = [\"legacy\"]", binary.to_str().unwrap());
    let file = config_file(&format!("[limits]\nchildren = 3\n[servers.a]\n{command}\n[servers.b]\n{command}\n"));
    let gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    let hello = |server: &str| gateway.wire().post(&format!("/servers/{server}/mcp"), &[], &initialize().to_string());
    assert_eq!(hello("a").status, 200);
    wait_until("a warm spare", || servers(&gateway).len() == 2);
    for server in ["b", "b"] {
        let response = hello(server);
        assert_eq!(response.status, 200, "three clients, three places: {}", response.text());
    }
    assert_eq!(hello("a").status, 503);
}

#[test]
fn cancelling_an_id_cancels_only_ones_own_call() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let sessions: [Session<'_>; 2] = [gateway.session(REVISION), gateway.session(REVISION)];
    let slow = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "slow", "arguments": {"steps": 15, "delay_ms": 100}, "_meta": {"progressToken": 7}}});
    let [mut withdrawn, mut kept] = sessions.each_ref().map(|s| s.stream(&slow));
    assert!(withdrawn.message().is_some() && kept.message().is_some());
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
    assert_eq!(sessions[0].send(&cancel).status, 202);
    let last = std::iter::from_fn(|| withdrawn.message()).last();
    assert!(last.is_none_or(|m| m.get("result").is_none()));
    assert_eq!(text(&std::iter::from_fn(|| kept.message()).last().unwrap()), "done after 15 steps");
}
