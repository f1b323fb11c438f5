//! Servers of every temper, each behind a gateway of its own: what a client gets from them.
//!
//! One fixture mode or odd tool a test. Who shares a child is in `children_shared`, how children
//! end in `children_end` and `children_stop`, what they are told at start in `children_cli`.

use std::time::{Duration, Instant};

use landbridge_fixtures::{DYING_WORDS, FLOOD_AT_START, LATE_FIRST, STILLBORN_CODE, STILLBORN_WORDS, WATCHED_URI};
use serde_json::{Value, json};

use crate::gateway::{Gateway, Session, is_running, signal, wait_until};
use crate::wire::Response;

const REVISION: &str = "2025-11-25";

/// The first text of a tool's result.
pub(crate) fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}

/// What the tool `where_am_i` told.
pub(crate) fn place(answer: &Value) -> Value {
    serde_json::from_str(text(answer)).unwrap()
}

/// The server's own pid.
pub(crate) fn pid_of(answer: &Value) -> u32 {
    place(answer)["pid"].as_u64().unwrap() as u32
}

/// The pid of a session's server.
pub(crate) fn pid(session: &Session<'_>) -> u32 {
    pid_of(&session.tool(900, "where_am_i", json!({})))
}

/// `initialize` with the id 41.
pub(crate) fn initialize() -> Value {
    json!({"jsonrpc": "2.0", "id": 41, "method": "initialize", "params": {
        "protocolVersion": REVISION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}})
}

/// What `initialize` is answered with, whatever that is.
pub(crate) fn hello(gateway: &Gateway) -> Response {
    gateway.wire().post("/mcp", &[], &initialize().to_string())
}

/// The same over HTTP+SSE.
pub(crate) fn hello_sse(gateway: &Gateway) -> Value {
    let mut sse = gateway.wire().open("GET", "/sse", &[("accept", "text/event-stream")], None);
    let path = sse.event().unwrap().data;
    assert_eq!(gateway.wire().post(&path, &[], &initialize().to_string()).status, 202);
    sse.message().unwrap()
}

/// The message of the error that `initialize` is answered with.
pub(crate) fn refusal(gateway: &Gateway) -> String {
    let answer = hello(gateway).json();
    assert_eq!(answer["id"], 41, "{answer}");
    assert_eq!(answer["error"]["code"], -32603, "{answer}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

fn error(answer: &Value) -> &str {
    answer["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

fn echo(session: &Session<'_>) {
    assert_eq!(text(&session.tool(77, "echo", json!({"message": "still there"}))), "still there");
}

fn serves(gateway: &Gateway) {
    echo(&gateway.session(REVISION));
    let said = gateway.stateless(9, "tools/call", json!({"name": "echo", "arguments": {"message": "me too"}}));
    assert_eq!(text(&said.messages().pop().unwrap()), "me too");
}

// --- meeting ------------------------------------------------------------------------------------

#[test]
fn servers_of_both_eras_serve() {
    serves(&Gateway::fixture(&[], &["legacy"]));
    serves(&Gateway::fixture(&[], &["modern"]));
}

#[test]
fn a_server_that_dies_of_the_probe_is_started_again_and_never_probed_twice() {
    let gateway = Gateway::fixture(&[], &["dies-on-probe"]);
    serves(&gateway);
    serves(&gateway);
    assert_eq!(gateway.log().matches("expected initialize, got server/discover").count(), 1, "{}", gateway.log());
}

#[test]
fn a_server_that_dies_of_the_probe_needs_only_one_place() {
    let gateway = Gateway::limited("children = 1", &["dies-on-probe"]);
    echo(&gateway.session(REVISION));
}

#[test]
fn a_server_that_ignores_the_probe_is_met_all_the_same() {
    serves(&Gateway::limited("probe_ms = 200", &["silent-on-probe"]));
}

#[test]
fn a_server_that_is_slow_to_start_is_waited_for() {
    serves(&Gateway::limited("probe_ms = 200", &["slow-start", "1000"]));
}

#[test]
fn a_slow_start_goes_on_when_the_client_that_caused_it_gives_up() {
    let gateway = Gateway::fixture(&["--isolation", "none", "--protocol", "legacy"], &["slow-start", "1500"]);
    let mut impatient = gateway.wire();
    impatient.send("POST", "/mcp", &[], Some(&initialize().to_string()));
    gateway.wait_for_log("started");
    drop(impatient);
    echo(&gateway.session(REVISION));
    assert_eq!(gateway.log().matches(" INFO started ").count(), 1, "{}", gateway.log());
}

#[test]
fn what_a_server_says_in_one_breath_with_its_handshake_is_heard() {
    let hello = r#"{"jsonrpc":"2.0","id":"landbridge-initialize","result":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
    let script = format!("read l; printf '%s\\n%s\\n' '{hello}' '{ping}'; while read l; do echo \"heard $l\" >&2; done");
    let gateway = Gateway::start(&["--protocol", "legacy", "--", "sh", "-c", &script]);
    let _session = gateway.session(REVISION);
    gateway.wait_for_log(r#"heard {"jsonrpc":"2.0","id":9,"result":{}}"#);
}

#[test]
fn a_server_that_never_answers_is_given_up_and_the_error_names_the_time() {
    let began = Instant::now();
    let gateway = Gateway::limited("probe_ms = 200\nhandshake_ms = 400", &["silent"]);
    let why = refusal(&gateway);
    assert!(why.contains("mcp-fixture") && why.contains("did not answer within 0.4 s"), "{why}");
    let said = gateway.stateless(9, "tools/list", json!({})).json();
    assert_eq!(said["id"], 9);
    assert!(error(&said).contains("did not answer within 0.4 s"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn a_server_that_dies_at_once_is_quoted_with_its_exit_code() {
    let gateway = Gateway::fixture(&[], &["dies-at-once"]);
    let why = refusal(&gateway);
    assert!(why.contains(STILLBORN_WORDS) && why.contains(&format!("exit code {STILLBORN_CODE}")), "{why}");
}

#[test]
fn while_a_start_is_delayed_the_answer_is_not() {
    let gateway = Gateway::fixture(&[], &["dies-at-once"]);
    // Each failure doubles the delay, so that sooner or later we come within one.
    let mut why = String::new();
    wait_until("an answer that names the delay", || {
        why = refusal(&gateway);
        why.contains("the next attempt is possible in")
    });
    assert!(why.contains(STILLBORN_WORDS), "{why}");
    let answer = hello_sse(&gateway);
    assert!(answer["id"] == 41 && error(&answer).contains(STILLBORN_WORDS), "{answer}");
}

#[test]
fn everybody_who_waits_for_a_server_that_dies_is_told() {
    let gateway = Gateway::fixture(&[], &["dies-at-once"]);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| refusal(&gateway))).collect();
        for client in clients {
            let why = client.join().unwrap();
            assert!(why.contains(STILLBORN_WORDS), "{why}");
        }
    });
}

#[test]
fn last_words_without_a_line_end_are_heard() {
    let gateway = Gateway::start(&["--", "sh", "-c", "printf 'no licence found' >&2; exit 4"]);
    let why = refusal(&gateway);
    assert!(why.contains("no licence found") && why.contains("exit code 4"), "{why}");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let gateway = Gateway::start(&["--", "/nowhere/no-such-server"]);
    let why = refusal(&gateway);
    assert!(why.contains("cannot start /nowhere/no-such-server"), "{why}");
}

// --- manners ------------------------------------------------------------------------------------

#[test]
fn garbage_on_stdout_is_skipped_and_logged() {
    let gateway = Gateway::fixture(&[], &["garbage"]);
    serves(&gateway);
    serves(&gateway);
    gateway.wait_for_log("Server listening on nothing in particular");
}

#[test]
fn garbage_around_an_answer_does_not_hide_it() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session(REVISION);
    assert_eq!(text(&session.tool(2, "noise", json!({}))), "never mind the noise");
    echo(&session);
}

#[test]
fn a_second_answer_reaches_nobody() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&["--isolation", "none"], &[mode]);
        let session = gateway.session(REVISION);
        for id in 2..6 {
            assert_eq!(text(&session.tool(id, "late", json!({}))), LATE_FIRST);
            echo(&session);
        }
        gateway.wait_for_log("an answer nobody asked for");
    }
}

#[test]
fn a_server_that_pings_is_answered() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session(REVISION);
    assert_eq!(text(&session.tool(2, "ask_ping", json!({}))), "the client answered {}");
}

#[test]
fn an_answer_beyond_the_limit_is_an_error_for_that_call_alone() {
    let gateway = Gateway::limited_with("message_bytes = 100000", &["--isolation", "none"], &["long-line", "2000000"]);
    let (session, other) = (gateway.session(REVISION), gateway.session(REVISION));
    let before = pid(&session);
    let mut running = other.stream(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "slow", "arguments": {"steps": 10, "delay_ms": 100}, "_meta": {"progressToken": 2}}}));
    assert_eq!(running.message().unwrap()["params"]["progress"], 1);
    let answer = session.tool(2, "long", json!({}));
    assert!(error(&answer).contains("larger than the limit of 100000 bytes"), "{answer}");
    let last = std::iter::from_fn(|| running.message()).last().unwrap();
    assert_eq!(text(&last), "done after 10 steps");
    assert_eq!(pid(&session), before, "the child goes on serving");
}

#[test]
fn a_flood_on_stderr_blocks_nobody_and_every_line_of_it_is_accounted_for() {
    // One child, so that no warm spare floods too.
    let gateway = Gateway::fixture(&["--isolation", "none"], &["floods-stderr"]);
    let session = gateway.session(REVISION);
    assert_eq!(text(&session.tool(2, "flood", json!({"lines": 500, "length": 3000}))), "wrote 500 lines of 3000");
    echo(&session);
    let mut accounted = 0;
    let until = Instant::now() + Duration::from_secs(10);
    while accounted != FLOOD_AT_START + 500 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
        let log = gateway.log();
        let passed = log.lines().filter(|l| l.contains(" INFO stderr: abcdefghijklmnopqrstuvwxyz")).count();
        let dropped = log.lines().filter(|l| l.contains("dropped lines of its stderr"));
        let dropped: usize =
            dropped.map(|l| l.split("lines=").nth(1).unwrap().split_whitespace().next().unwrap().parse::<usize>().unwrap()).sum();
        accounted = passed + dropped;
    }
    assert_eq!(accounted, FLOOD_AT_START + 500, "lines passed on and lines said to be dropped");
    assert!(gateway.log().lines().all(|l| l.len() < 1_500), "long lines are cut");
}

#[test]
fn a_long_line_on_stderr_is_cut_and_shows_it() {
    let script = "head -c 5000 /dev/zero | tr '\\0' x >&2; echo >&2; echo the end >&2; exit 1";
    let gateway = Gateway::start(&["--", "sh", "-c", script]);
    let why = refusal(&gateway);
    assert!(why.contains("the end"), "{why}");
    let log = gateway.log();
    let long = log.lines().find(|l| l.contains("xxxxxxxx")).unwrap();
    assert!(long.contains("x…") && long.len() < 1_500, "{long}");
}

// --- death --------------------------------------------------------------------------------------

#[test]
fn a_server_that_dies_in_a_call_is_quoted_and_the_next_call_finds_a_fresh_one() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let session = gateway.session("2025-06-18");
        let before = pid(&session);
        let answer = session.tool(2, "die", json!({"code": 7}));
        assert!(error(&answer).contains(DYING_WORDS) && error(&answer).contains("exit code 7"), "{answer}");
        let after = place(&session.tool(3, "where_am_i", json!({})));
        assert_ne!(after["pid"], before);
        // It was initialized like the first: in the session's own name, where it is its own.
        assert_eq!(after["clientName"] == "test", isolation == "session", "{after}");
        assert!(after["protocolVersion"].is_string() && !is_running(before));
    }
}

#[test]
fn everybody_who_waits_for_a_server_that_dies_in_a_call_is_told() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&["--isolation", "none"], &[mode]);
        let sessions: Vec<_> = (0..4).map(|_| gateway.session(REVISION)).collect();
        let slow = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
            "name": "slow", "arguments": {"steps": 600, "delay_ms": 100}, "_meta": {"progressToken": 2}}});
        let mut waiting: Vec<_> = sessions.iter().map(|s| s.stream(&slow)).collect();
        waiting.iter_mut().for_each(|w| assert_eq!(w.message().unwrap()["params"]["progress"], 1));
        let answer = gateway.stateless(3, "tools/call", json!({"name": "die", "arguments": {}})).json();
        assert!(error(&answer).contains(DYING_WORDS), "{answer}");
        for mut stream in waiting {
            let last = std::iter::from_fn(|| stream.message()).last().unwrap();
            assert_eq!(last["id"], 2);
            assert!(error(&last).contains(DYING_WORDS), "{last}");
        }
        sessions.iter().for_each(echo);
    }
}

#[test]
fn a_server_that_is_killed_between_calls_is_replaced() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session(REVISION);
    let before = pid(&session);
    signal(before, "KILL");
    gateway.wait_for_log("a child ended");
    // The log comes a moment before the verdict.
    wait_until("a fresh server", || {
        let answer = session.tool(3, "where_am_i", json!({}));
        answer.get("error").is_none() && pid_of(&answer) != before
    });
}

#[test]
fn after_a_restart_a_resource_can_be_subscribed_again() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let session = gateway.session(REVISION);
        let subscribe = |id| session.call(id, "resources/subscribe", json!({"uri": WATCHED_URI}));
        assert_eq!(subscribe(2)["result"], json!({}));
        assert_eq!(text(&session.tool(3, "touch_watched", json!({}))), "told 1");
        error(&session.tool(4, "die", json!({})));
        assert_eq!(subscribe(5)["result"], json!({}));
        assert_eq!(text(&session.tool(6, "touch_watched", json!({}))), "told 1", "isolation {isolation}");
    }
}

#[test]
fn a_listen_outlives_its_server_or_ends_with_it() {
    let gateway = Gateway::limited("keepalive_ms = 300", &["modern"]);
    let mut listen = gateway.stateless_stream(2, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    assert_eq!(listen.message().unwrap()["method"], "notifications/subscriptions/acknowledged");
    gateway.stateless(3, "tools/call", json!({"name": "die", "arguments": {}}));
    let changed = gateway.stateless(4, "tools/call", json!({"name": "test_trigger_tool_change", "arguments": {}}));
    assert_eq!(text(&changed.json()), "said so");
    // Either it is told of the fresh server's changes, or it ends, so that the client listens
    // again. What it must not do is stay open and say nothing.
    let comments = std::iter::from_fn(|| listen.event_or_comment()).take_while(|e| e.name == ":").take(20).count();
    assert!(comments < 20, "an open stream of comments and nothing else");
}
