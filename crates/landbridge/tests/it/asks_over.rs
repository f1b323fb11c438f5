//! Questions that are over: withdrawn, too late, or of a call that somebody gave up. Nobody else gets
//! them, and whoever was asked is told.

use serde_json::{Value, json};

use crate::asks::{Answer, Client, accept, everything, post, questions, retry, sse_with};
use crate::children::text;
use crate::gateway::{Gateway, Session, stateless_request, tool, up_to_answer, wait_until};
use crate::parked::Overheard;
use crate::wire::{Stream, Wire};

const REVISION: &str = "2025-11-25";

fn takes_back(said: &[Value], question: &Value) -> bool {
    said.iter().any(|m| m["method"] == "notifications/cancelled" && m["params"]["requestId"] == question["id"])
}

fn rest(stream: &mut Stream) -> Vec<Value> {
    std::iter::from_fn(|| stream.message()).collect()
}

fn asked(session: &Session<'_>, name: &str) -> (Stream, Value) {
    let mut stream = session.stream(&tool(7, name, json!({})));
    let question = stream.message().unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    (stream, question)
}

fn send(gateway: &Gateway, note: &str, ms: u64) -> Wire {
    let params = json!({"name": "ask_later", "arguments": {"ms": ms, "note": note},
        "_meta": {"io.modelcontextprotocol/clientCapabilities": everything()}});
    let (headers, body) = stateless_request(1, "tools/call", params);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut wire = gateway.wire();
    wire.send("POST", "/mcp", &headers, Some(&body));
    wire
}

#[test]
fn a_question_of_a_client_that_left_reaches_nobody_else() {
    let heard = Overheard::new("ask_hold_ms = 2000", &["--isolation", "none"], "legacy");
    let mine = send(&heard.gateway, "mine", 2000);
    wait_until("the first call", || heard.calls("ask_later") == 1);
    let theirs = send(&heard.gateway, "theirs", 100);
    wait_until("the second call", || heard.calls("ask_later") == 2);
    std::thread::sleep(std::time::Duration::from_millis(600));
    drop(theirs);
    heard.wait_for_cancel("ask_later", 1);
    let said = mine.response().messages().pop().unwrap();
    for question in questions(&said) {
        assert_eq!(question["params"]["message"], "Who are you? (mine)", "a question of somebody who left");
    }
}

#[test]
fn a_question_of_a_session_that_cancelled_reaches_nobody_else() {
    let heard = Overheard::new("", &["--isolation", "none"], "legacy");
    let sessions = [0, 1].map(|_| heard.gateway.session_with(REVISION, everything()));
    let mut mine = sessions[0].stream(&tool(7, "slow", json!({"steps": 60, "delay_ms": 100})));
    wait_until("the first call", || heard.calls("slow") == 1);
    let _theirs = sessions[1].stream(&tool(7, "ask_later", json!({"ms": 0, "note": "theirs"})));
    wait_until("the second call", || heard.calls("ask_later") == 1);
    std::thread::sleep(std::time::Duration::from_millis(400));
    sessions[1].send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    let said = up_to_answer(&mut mine, 7);
    assert!(said.iter().all(|m| m["method"] != "elicitation/create"), "a question of somebody who withdrew: {said:?}");
    assert_eq!(text(said.last().unwrap()), "done after 60 steps");
}

#[test]
fn a_question_of_a_call_that_timed_out_reaches_nobody_else() {
    let gateway = Gateway::limited_with("call_timeout_ms = 2500", &["--isolation", "none"], &["legacy"]);
    let sessions = [0, 1].map(|_| gateway.session_with(REVISION, everything()));
    let _theirs = sessions[1].stream(&tool(7, "ask_later", json!({"ms": 1500, "note": "theirs"})));
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut mine = sessions[0].stream(&tool(7, "slow", json!({"steps": 20, "delay_ms": 200})));
    let said = up_to_answer(&mut mine, 7);
    assert!(said.iter().all(|m| m["method"] != "elicitation/create"), "a question of a call that timed out: {said:?}");
}

#[test]
fn a_question_that_comes_when_its_call_was_withdrawn_reaches_nobody_else() {
    let hello = r#"{"jsonrpc":"2.0","id":"landbridge-initialize","result":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let question = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"theirs"}}"#;
    // A server that was about to ask when its call was withdrawn.
    let script = format!(
        r#"while IFS= read -r l; do
        case "$l" in
        *'"initialize"'*) echo '{hello}';;
        *'"notifications/cancelled"'*) echo '{question}';;
        *) echo "heard $l" >&2;;
        esac
        done"#
    );
    let gateway =
        Gateway::limited_with("ask_hold_ms = 1000", &["--protocol", "legacy", "--isolation", "none", "--", "sh", "-c", &script], &[]);
    let sessions = [0, 1].map(|_| gateway.session_with(REVISION, everything()));
    let get = |name: &str| json!({"jsonrpc": "2.0", "id": 7, "method": "prompts/get", "params": {"name": name}});
    let mut mine = sessions[0].stream(&get("mine"));
    let _theirs = sessions[1].stream(&get("theirs"));
    gateway.wait_for_log(r#""name":"theirs""#);
    sessions[1].send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    // Either somebody is asked, or the server hears that nobody can be.
    let refused = || gateway.log().lines().any(|l| l.contains("heard") && l.contains(r#""id":1,"error""#));
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| mine.message());
        wait_until("an answer to the question", || refused() || asked.is_finished());
        sessions[0].delete();
        asked.join().unwrap()
    });
    assert_eq!(asked, None, "a question of somebody who withdrew");
}

#[test]
fn a_call_that_waits_for_its_turn_does_not_stop_the_gateway() {
    let gateway = Gateway::limited_with("children = 1\nask_hold_ms = 10000", &["--isolation", "none"], &["legacy"]);
    let params = json!({"name": "ask_later", "arguments": {"ms": 0, "note": "red"}});
    // Begins before it is known that the server asks, so without a turn.
    let said = post(&gateway, "/mcp", 1, "tools/call", params.clone(), &everything()).json();
    std::thread::scope(|scope| {
        let next = scope.spawn(|| post(&gateway, "/mcp", 3, "tools/call", params.clone(), &everything()));
        std::thread::sleep(std::time::Duration::from_millis(500));
        for _ in 0..20 {
            assert_eq!(gateway.wire().request("GET", "/healthz", &[], None).status, 200);
        }
        assert!(!next.is_finished(), "nobody was served while a call waited for its turn");
        let again = retry(&params, &said, |_| Some(accept(json!({"name": "red"}))));
        assert_eq!(post(&gateway, "/mcp", 2, "tools/call", again, &everything()).status, 200);
        let next = next.join().unwrap();
        assert_eq!(next.status, 200, "{}", next.text());
    });
}

#[test]
fn a_cancelled_call_takes_the_question_of_a_stateless_server_back() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let session = gateway.session_with(REVISION, everything());
    let (mut stream, question) = asked(&session, "test_input_required_result_elicitation");
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    let said = rest(&mut stream);
    assert!(takes_back(&said, &question), "{said:?}");
}

#[test]
fn over_the_old_transport_too() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let mut sse = sse_with(&gateway, "2025-06-18", everything());
    sse.post(&tool(7, "test_input_required_result_elicitation", json!({})));
    let question = sse.next();
    sse.post(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    sse.post(&tool(8, "echo", json!({"message": "on"})));
    let said = up_to_answer(&mut sse.stream, 8);
    assert!(takes_back(&said, &question), "{said:?}");
}

#[test]
fn one_failed_answer_of_several_takes_the_others_back() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let session = gateway.session_with(REVISION, everything());
    let mut stream = session.stream(&tool(7, "test_input_required_result_multiple_inputs", json!({})));
    let asked: Vec<Value> = (0..3).map(|_| stream.message().unwrap()).collect();
    let model = asked.iter().find(|a| a["method"] == "sampling/createMessage").unwrap();
    session.send(&json!({"jsonrpc": "2.0", "id": model["id"], "error": {"code": -1, "message": "out of tokens"}}));
    let said = rest(&mut stream);
    for other in asked.iter().filter(|a| a["id"] != model["id"]) {
        assert!(takes_back(&said, other), "{said:?}");
    }
}

#[test]
fn a_question_that_is_too_late_is_taken_back() {
    let gateway = Gateway::limited("ask_timeout_ms = 300", &["modern"]);
    let session = gateway.session_with(REVISION, everything());
    let (mut stream, question) = asked(&session, "test_input_required_result_elicitation");
    let said = rest(&mut stream);
    assert!(takes_back(&said, &question), "{said:?}");
}

#[test]
fn a_server_that_is_shared_takes_its_question_back() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let sessions: Vec<Session<'_>> = (0..8).map(|_| gateway.session_with(REVISION, everything())).collect();
    let mut gets: Vec<Stream> = sessions.iter().map(|s| s.get(None)).collect();
    for (n, session) in sessions.iter().enumerate() {
        let mut stream = session.stream(&tool(7, "ask_and_withdraw", json!({"ms": 50})));
        let question = stream.message().unwrap();
        let said = rest(&mut stream);
        // All hear of every change so far.
        session.tool(8, "test_trigger_tool_change", json!({}));
        let mut changes = 0;
        let heard: Vec<Value> = std::iter::from_fn(|| gets[n].message())
            .take_while(|m| {
                changes += usize::from(m["method"] == "notifications/tools/list_changed");
                changes <= n
            })
            .collect();
        assert!(takes_back(&said, &question) || takes_back(&heard, &question), "session {n}: {said:?} {heard:?}");
    }
}

#[test]
fn a_cancelled_call_at_the_demo_takes_its_question_back() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session_with(REVISION, everything());
    let mut get = session.get(None);
    let (mut stream, question) = asked(&session, "ask_user");
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    let said = rest(&mut stream);
    session.tool(8, "toggle", json!({}));
    let is_other = |m: &Value| m["method"] != "notifications/tools/list_changed";
    let heard: Vec<Value> = std::iter::from_fn(|| get.message()).take_while(is_other).collect();
    assert!(takes_back(&said, &question) || takes_back(&heard, &question), "{said:?} {heard:?}");
}

#[test]
fn the_user_of_a_client_that_reads_no_stream_has_not_cancelled() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let session = gateway.session_with(REVISION, everything());
    let mut headers = session.headers();
    headers.push(("accept", "application/json"));
    let said = gateway.wire().post("/mcp", &headers, &tool(7, "test_elicitation", json!({"message": "?"})).to_string()).json();
    assert_eq!(said["result"]["isError"], true, "nobody was asked, and yet: {said}");
    assert!(text(&said).contains("cannot be asked"), "{said}");
}

#[test]
fn a_stateless_server_does_not_see_what_its_era_does_not_have() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let declared = json!({"roots": {"listChanged": true}, "sampling": {}, "tasks": {"list": {}, "cancel": {}}});
    for mut client in [Client::streamable(&gateway, REVISION, declared.clone()), Client::sse(&gateway, REVISION, declared.clone())] {
        let talk = client.tool("echo_meta", json!({}), |_| Answer::Result(Value::Null));
        let seen: Value = serde_json::from_str(talk.success()).unwrap();
        assert_eq!(seen["clientCapabilities"], json!({"roots": {}, "sampling": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}));
    }
}
