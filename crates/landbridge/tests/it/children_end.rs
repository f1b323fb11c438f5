//! How servers end: whatever they left running goes with them, and what a client withdraws ends.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::children::{pid, place, text};
use crate::gateway::{Gateway, Session, is_running, signal, wait_until};

const REVISION: &str = "2025-11-25";

/// Servers that have a child in their process group and an orphan in a session of its own.
struct Forks {
    gateway: Gateway,
    file: PathBuf,
}

impl Forks {
    fn start(name: &str) -> Forks {
        let file = std::env::temp_dir().join(format!("landbridge-it-pids-{}-{name}", std::process::id()));
        let env = format!("FIXTURE_PIDS={}", file.display());
        Forks { gateway: Gateway::limited_with("child_stop_ms = 1500\nkeepalive_ms = 3600000", &["--env", &env], &["forks"]), file }
    }

    /// Server, child, orphan; then those of the next server.
    fn pids(&self) -> Vec<u32> {
        std::fs::read_to_string(&self.file).unwrap_or_default().lines().map(|l| l.parse().unwrap()).collect()
    }

    /// Waits for the session's server and the warm spare: two families.
    fn families(&self) -> Vec<u32> {
        wait_until("two families", || self.pids().len() == 6);
        let pids = self.pids();
        assert!(pids.iter().all(|pid| is_running(*pid)), "{pids:?}");
        pids
    }
}

impl Drop for Forks {
    fn drop(&mut self) {
        self.pids().into_iter().for_each(|pid| signal(pid, "KILL"));
        let _ = std::fs::remove_file(&self.file);
    }
}

fn gone(pids: &[u32]) {
    wait_until(&format!("the end of {pids:?}"), || !pids.iter().any(|pid| is_running(*pid)));
}

#[test]
fn sigterm_leaves_no_descendant() {
    let mut forks = Forks::start("term");
    let session = forks.gateway.session(REVISION);
    pid(&session);
    let pids = forks.families();
    assert!(forks.gateway.terminate().success());
    assert!(!pids.iter().any(|pid| is_running(*pid)), "gone before the gateway itself");
}

#[test]
fn sigkill_leaves_no_descendant() {
    let mut forks = Forks::start("kill");
    let session = forks.gateway.session(REVISION);
    pid(&session);
    let pids = forks.families();
    forks.gateway.kill();
    gone(&pids);
}

#[test]
fn a_deleted_session_leaves_no_descendant() {
    let forks = Forks::start("delete");
    let session = forks.gateway.session(REVISION);
    let server = pid(&session);
    let pids = forks.families();
    let (own, spare) = pids.split_at(3);
    assert_eq!(own[0], server);
    assert_eq!(session.delete().status, 204);
    gone(own);
    assert!(spare.iter().all(|pid| is_running(*pid)), "the next session's server is spared");
}

#[test]
fn a_server_that_dies_leaves_no_descendant() {
    let forks = Forks::start("die");
    let session = forks.gateway.session(REVISION);
    let server = pid(&session);
    let pids = forks.families();
    assert!(session.tool(3, "die", json!({})).get("error").is_some());
    gone(&pids[..3]);
    assert_ne!(pid(&session), server);
}

#[test]
fn a_killed_guard_takes_its_server_with_it_and_nobody_waits_for_it() {
    let forks = Forks::start("guard");
    let session = forks.gateway.session(REVISION);
    let here = place(&session.tool(2, "where_am_i", json!({})));
    let (server, guard) = (here["pid"].as_u64().unwrap() as u32, here["parentPid"].as_u64().unwrap() as u32);
    forks.families();
    let mut running = session.stream(&slow(5));
    running.message().unwrap();
    signal(guard, "KILL");
    gone(&[server]);
    // Its relatives hold its output open, and still there is no doubt that it ended.
    let last = std::iter::from_fn(|| running.event_or_comment()).take_while(|e| e.name != ":").last();
    let last: Value = serde_json::from_str(&last.expect("an answer").data).unwrap();
    assert!(last["error"]["message"].as_str().is_some_and(|m| m.contains("ended")), "{last}");
    assert_ne!(pid(&session), server);
}

#[test]
fn a_server_that_is_slow_to_exit_is_given_its_time() {
    let gateway = Gateway::fixture(&[], &["slow-exit", "700"]);
    let session = gateway.session(REVISION);
    let server = pid(&session);
    assert_eq!(session.delete().status, 204);
    gone(&[server]);
    gateway.wait_for_log("how=\"exit code 0\"");
}

#[test]
fn a_server_that_takes_too_long_to_exit_is_told_and_one_that_does_not_listen_is_killed() {
    for (mode, how) in [(&["slow-exit", "600000"][..], "signal 15"), (&["ignores-sigterm"], "signal 9")] {
        let gateway = Gateway::limited("child_stop_ms = 900", mode);
        let session = gateway.session(REVISION);
        let server = pid(&session);
        assert_eq!(session.delete().status, 204);
        gone(&[server]);
        gateway.wait_for_log(&format!("how=\"ended by {how}\""));
    }
}

// --- cancellation -------------------------------------------------------------------------------

fn slow(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {
        "name": "slow", "arguments": {"steps": 600, "delay_ms": 100}, "_meta": {"progressToken": id}}})
}

fn cancel(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id, "reason": "enough"}})
}

/// Waits until the server itself says that it gave up a call.
fn given_up(gateway: &Gateway) {
    let said = |l: &str| l.contains(" INFO stderr: cancelled ");
    wait_until("the server to give up the call", || gateway.log().lines().any(said));
}

#[test]
fn a_cancelled_call_of_a_session_ends_at_the_server() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let session = gateway.session(REVISION);
        let mut stream = session.stream(&slow(5));
        assert_eq!(stream.message().unwrap()["params"]["progress"], 1);
        assert_eq!(session.send(&cancel(5)).status, 202);
        given_up(&gateway);
        while let Some(message) = stream.message() {
            assert!(message.get("result").is_none(), "{message}");
        }
    }
}

#[test]
fn a_cancelled_call_over_sse_ends_at_the_server_and_is_not_answered() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let mut sse = gateway.sse("2024-11-05");
    sse.post(&slow(5));
    assert_eq!(sse.next()["params"]["progress"], 1);
    sse.post(&cancel(5));
    given_up(&gateway);
    sse.post(&json!({"jsonrpc": "2.0", "id": 6, "method": "ping"}));
    let answers = std::iter::from_fn(|| Some(sse.next())).filter(|m| m.get("id").is_some());
    assert_eq!(answers.take(1).next().unwrap()["id"], 6);
}

#[test]
fn a_stateless_client_that_leaves_withdraws_its_call() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let mut stream = gateway.stateless_stream(5, "tools/call", slow(5)["params"].clone());
        assert_eq!(stream.message().unwrap()["params"]["progress"], 1);
        drop(stream);
        given_up(&gateway);
    }
}

#[test]
fn a_stateless_client_that_leaves_before_the_first_word_withdraws_its_call() {
    let gateway = Gateway::limited("commit_ms = 60000", &["modern"]);
    gateway.stateless(1, "tools/list", json!({}));
    let params = json!({"name": "slow", "arguments": {"steps": 1, "delay_ms": 60000}});
    let (headers, body) = crate::gateway::stateless_request(5, "tools/call", params);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut wire = gateway.wire();
    wire.send("POST", "/mcp", &headers, Some(&body));
    // Another call is answered behind it, so it has reached the server.
    gateway.stateless(6, "tools/call", json!({"name": "echo", "arguments": {"message": "x"}}));
    drop(wire);
    given_up(&gateway);
}

#[test]
fn a_session_client_that_leaves_finds_its_answer_when_it_comes_back() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session: Session<'_> = gateway.session(REVISION);
    let mut call = slow(5);
    call["params"]["arguments"]["steps"] = json!(8);
    let mut stream = session.stream(&call);
    let last = stream.event().unwrap().id;
    assert!(stream.message().is_some());
    drop(stream);
    let mut again = session.get(last.as_deref());
    assert_eq!(text(&std::iter::from_fn(|| again.message()).last().unwrap()), "done after 8 steps");
    assert!(!gateway.log().lines().any(|l| l.contains(" INFO stderr: cancelled ")));
}

#[test]
fn a_call_that_is_cancelled_while_its_server_starts_never_runs() {
    let gateway = Gateway::fixture(&["--isolation", "none", "--protocol", "legacy"], &["slow-start", "700"]);
    let mut sse = gateway.wire().open("GET", "/sse", &[("accept", "text/event-stream")], None);
    let path = sse.event().unwrap().data;
    let post = |message: Value| assert_eq!(gateway.wire().post(&path, &[], &message.to_string()).status, 202);
    let call = json!({"name": "die", "arguments": {}});
    post(json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call}));
    post(json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    post(json!({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "alive"}}}));
    assert_eq!(text(&sse.message().unwrap()), "alive");
}

#[test]
fn a_signal_for_everybody_does_not_end_the_guard_before_its_server() {
    let forks = Forks::start("guard-term");
    let session = forks.gateway.session(REVISION);
    let server = pid(&session);
    let pids = forks.families();
    for process in crate::gateway::descendants(forks.gateway.pid()).into_iter().filter(|p| !pids.contains(p)) {
        signal(process, "TERM");
    }
    assert_eq!(pid(&session), server, "it still serves");
    assert_eq!(session.delete().status, 204);
    gone(&pids[..3]);
}
