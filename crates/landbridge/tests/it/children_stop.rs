//! A gateway that is told to stop: what still runs is finished, what only waits is closed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::children::{initialize, pid, text};
use crate::gateway::{Gateway, is_running, signal, wait_until};
use crate::wire::Stream;

const REVISION: &str = "2025-11-25";

fn slow(steps: u64) -> Value {
    json!({"name": "slow", "arguments": {"steps": steps, "delay_ms": 100}, "_meta": {"progressToken": "p"}})
}

fn call(id: u64, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

fn rest(stream: &mut Stream) -> Vec<Value> {
    std::iter::from_fn(|| stream.message()).collect()
}

#[test]
fn running_calls_are_finished_and_answered_on_every_transport() {
    for mode in ["legacy", "modern"] {
        let mut gateway = Gateway::limited("drain_ms = 20000", &[mode]);
        let session = gateway.session(REVISION);
        let mut streamed = session.stream(&call(2, &slow(8)));
        let mut sse = gateway.sse("2024-11-05");
        sse.post(&call(3, &slow(8)));
        let mut stateless = gateway.stateless_stream(4, "tools/call", slow(8));
        let mut plain = gateway.wire();
        let quiet = json!({"name": "slow", "arguments": {"steps": 1, "delay_ms": 700}});
        plain.send("POST", "/mcp", &session.headers(), Some(&call(5, &quiet).to_string()));
        assert!(streamed.message().is_some() && stateless.message().is_some());
        assert_eq!(sse.next()["params"]["progress"], 1);

        signal(gateway.pid(), "TERM");
        assert_eq!(text(rest(&mut streamed).last().unwrap()), "done after 8 steps");
        assert_eq!(text(rest(&mut sse.stream).last().unwrap()), "done after 8 steps");
        assert_eq!(text(rest(&mut stateless).last().unwrap()), "done after 8 steps");
        assert_eq!(text(&plain.response().json()), "done after 1 steps");
        assert!(gateway.wait().success(), "{}", gateway.log());
    }
}

#[test]
fn streams_that_wait_for_nothing_are_closed_while_a_call_still_runs() {
    let mut gateway = Gateway::limited("drain_ms = 20000", &["legacy"]);
    let (session, idler) = (gateway.session(REVISION), gateway.session(REVISION));
    let mut running = session.stream(&call(2, &slow(30)));
    running.message().unwrap();
    let mut get = idler.get(None);
    let mut sse = gateway.sse("2024-11-05");
    let mut listen = gateway.stateless_stream(3, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    listen.message().unwrap();

    signal(gateway.pid(), "TERM");
    assert!(get.is_over() && sse.stream.is_over());
    let farewell = rest(&mut listen);
    assert!(farewell.len() == 1 && farewell[0]["id"] == 3 && farewell[0].get("result").is_some(), "{farewell:?}");
    // All of that before the call had come to its end.
    let left = rest(&mut running);
    assert!(left.len() > 1, "the call outlasts the idle streams");
    assert_eq!(text(left.last().unwrap()), "done after 30 steps");
    assert!(gateway.wait().success());
}

#[test]
fn a_gateway_nobody_uses_stops_at_once() {
    let mut gateway = Gateway::limited("drain_ms = 60000\nchild_stop_ms = 60000", &["legacy"]);
    let session = gateway.session(REVISION);
    let server = pid(&session);
    let _idle_connection = gateway.wire();
    let began = Instant::now();
    assert!(gateway.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(!is_running(server));
}

#[test]
fn a_gateway_told_to_stop_while_it_warms_up_a_spare_stops_at_once() {
    // A spare is started a tenth of a second behind a session, and that takes some milliseconds.
    for delay in (70..110).step_by(2) {
        let mut gateway = Gateway::limited("child_stop_ms = 60000", &["legacy"]);
        gateway.session(REVISION);
        std::thread::sleep(Duration::from_millis(delay));
        assert!(gateway.terminate().success());
    }
}

#[test]
fn a_call_that_takes_too_long_is_left_and_its_client_told() {
    for mode in ["legacy", "modern"] {
        let mut gateway = Gateway::limited("drain_ms = 300\nchild_stop_ms = 900", &[mode]);
        let session = gateway.session(REVISION);
        let mut streamed = session.stream(&call(2, &slow(600)));
        let mut stateless = gateway.stateless_stream(4, "tools/call", slow(600));
        assert!(streamed.message().is_some() && stateless.message().is_some());
        signal(gateway.pid(), "TERM");
        for (stream, id) in [(&mut stateless, 4), (&mut streamed, 2)] {
            let last = rest(stream).pop();
            let last = last.unwrap_or_else(|| panic!("call {id} is not answered"));
            assert!(last["id"] == id && last["error"]["message"].is_string(), "{last}");
        }
        assert!(gateway.wait().success());
    }
}

#[test]
fn a_server_that_ignores_everything_is_killed_and_the_gateway_ends_well() {
    let mut gateway = Gateway::limited("child_stop_ms = 900", &["ignores-sigterm"]);
    let session = gateway.session(REVISION);
    let server = pid(&session);
    assert!(gateway.terminate().success());
    assert!(!is_running(server));
}

#[test]
fn a_server_that_was_still_being_met_leaves_nobody_behind() {
    let pids = std::env::temp_dir().join(format!("landbridge-it-pids-{}-met", std::process::id()));
    let script = format!("exec 2>/dev/null; sleep 600 & echo $! >> {0}; echo $$ >> {0}; wait; sleep 600", pids.display());
    let mut gateway = Gateway::limited_with("drain_ms = 300\nchild_stop_ms = 900", &["--", "sh", "-c", &script], &[]);
    let mut wire = gateway.wire();
    wire.send("POST", "/mcp", &[], Some(&initialize().to_string()));
    let found = || -> Vec<u32> { std::fs::read_to_string(&pids).unwrap_or_default().lines().map(|l| l.parse().unwrap()).collect() };
    wait_until("the server and its child", || found().len() == 2);
    let found = found();
    let _ = std::fs::remove_file(&pids);
    assert!(gateway.terminate().success());
    let left: Vec<u32> = found.into_iter().filter(|pid| is_running(*pid)).collect();
    left.iter().for_each(|pid| signal(*pid, "KILL"));
    assert_eq!(left, [0; 0], "still running");
}

#[test]
fn told_twice_the_gateway_leaves_at_once_and_leaves_nobody_behind() {
    let mut gateway = Gateway::limited("drain_ms = 60000", &["ignores-sigterm"]);
    let session = gateway.session(REVISION);
    let server = pid(&session);
    let mut running = session.stream(&call(2, &slow(600)));
    running.message().unwrap();
    signal(gateway.pid(), "TERM");
    gateway.wait_for_log("stopping: running calls have");
    wait_until("its end", || {
        signal(gateway.pid(), "TERM");
        !is_running(gateway.pid())
    });
    assert_eq!(gateway.wait().code(), Some(130));
    wait_until("the server's end", || !is_running(server));
}
