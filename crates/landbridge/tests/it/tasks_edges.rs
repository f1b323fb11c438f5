//! Tasks at the edges: too late, given up, of a client that knows of none, or asked about wrongly.

use serde_json::{Value, json};

use crate::gateway::{Gateway, up_to_answer, wait_until};
use crate::tasks::{Client, RELATED, SESSION, STATELESS, Tap, id_of, text_of};

fn called(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments})
}

/// Begins a task that asks once, waits for its result on a stream, says yes, and gives the question and the answer.
fn asked_while_waiting(client: &Client<'_>) -> (Value, Option<Value>, Value) {
    let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
    client.wait_for(id_of(&task), &["input_required"]);
    let (number, mut waiting) = client.open("tasks/result", json!({"taskId": task["taskId"]}));
    let first = waiting.message().unwrap();
    if first["method"] != "elicitation/create" {
        return (task, None, first);
    }
    client.answer(&first, json!({"action": "accept", "content": {"confirm": true}}));
    (task, Some(first), up_to_answer(&mut waiting, number).pop().unwrap())
}

#[test]
fn the_answer_of_a_session_reaches_the_task_of_a_stateless_server() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let (_, _, said) = asked_while_waiting(&Client::knowing(&gateway, SESSION));
    assert_eq!(text_of(&said["result"]), "deleted a.txt");
}

#[test]
fn a_wait_for_a_task_of_a_stateless_server_can_be_withdrawn() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let client = Client::knowing(&gateway, SESSION);
    let task = client.begin("slow_compute", json!({"seconds": 5}));
    let (id, mut waiting) = client.open("tasks/result", json!({"taskId": task["taskId"]}));
    client.tell("notifications/cancelled", json!({"requestId": id}));
    let rest: Vec<Value> = std::iter::from_fn(|| waiting.message()).collect();
    assert!(rest.iter().all(|m| m.get("result").is_none()), "{rest:?}");
    assert_ne!(client.get(id_of(&task))["status"], "cancelled");
}

#[test]
fn a_session_is_asked_for_the_task_of_a_server_it_shares() {
    let (gateway, tap) = Tap::gateway(&["--isolation", "none"], "legacy");
    let (task, asked, said) = asked_while_waiting(&Client::knowing(&gateway, SESSION));
    let asked = asked.unwrap_or_else(|| panic!("it was not asked: {said}"));
    assert_eq!(asked["params"]["_meta"][RELATED]["taskId"], task["taskId"], "{asked}");
    assert_eq!(text_of(&said["result"]), "deleted a.txt");
    assert!(!asked.to_string().contains(&tap.tasks()[0]));
}

#[test]
fn a_followed_task_that_takes_too_long_is_cancelled_at_a_stateless_server() {
    let (gateway, tap) = Tap::limited("call_timeout_ms = 1500", &[], "modern");
    Client::unaware(&gateway, SESSION).ask("tools/call", called("slow_compute", json!({"seconds": 60})));
    tap.wait_for_cancel(&gateway);
}

#[test]
fn a_followed_task_that_takes_too_long_is_cancelled_at_a_handshake_server() {
    let (gateway, tap) = Tap::limited("call_timeout_ms = 1500", &[], "legacy");
    Client::unaware(&gateway, STATELESS).ask("tools/call", called("failing_job", json!({"ms": 60_000})));
    tap.wait_for_cancel(&gateway);
}

/// A stateless client leaves the question of a task unanswered.
fn unanswered() -> (Gateway, Tap, String) {
    let (gateway, tap) = Tap::limited("ask_timeout_ms = 1000", &[], "legacy");
    let client = Client::knowing(&gateway, STATELESS);
    let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
    assert!(client.wait_for(id_of(&task), &["input_required"])["inputRequests"].is_object());
    let id = id_of(&task).to_owned();
    (gateway, tap, id)
}

#[test]
fn a_question_of_a_task_that_nobody_answers_is_refused_in_the_end() {
    let (_gateway, tap, _) = unanswered();
    let asked = tap.said().into_iter().find(|m| m["method"] == "elicitation/create").unwrap();
    wait_until("an answer to the server", || tap.got().iter().any(|m| m["id"] == asked["id"] && m.get("error").is_some()));
}

#[test]
fn a_question_of_a_task_is_there_for_a_client_that_comes_late() {
    let (gateway, _tap, id) = unanswered();
    std::thread::sleep(std::time::Duration::from_secs(4));
    let task = Client::knowing(&gateway, STATELESS).get(&id);
    assert!(task["inputRequests"].is_object() || task["status"] != "working", "{task}");
}

#[test]
fn a_task_that_was_cancelled_makes_room_for_another_that_asks() {
    let (gateway, _tap) = Tap::limited("parked_calls = 2", &[], "legacy");
    let client = Client::knowing(&gateway, STATELESS);
    for _ in 0..3 {
        let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
        assert!(client.wait_for(id_of(&task), &["input_required"])["inputRequests"].is_object());
        client.result("tasks/cancel", json!({"taskId": task["taskId"]}));
        assert_eq!(client.ended(id_of(&task))["status"], "cancelled");
    }
}

/// A session leaves a question unanswered, and should be told that the answer is not wanted any more.
fn is_taken_back(tool: &str) {
    let gateway = Gateway::limited("ask_timeout_ms = 500", &["modern"]);
    let client = Client::unaware(&gateway, SESSION);
    let (_, mut stream) = client.open("tools/call", called(tool, json!({"filename": "a.txt"})));
    let asked = stream.message().unwrap();
    let said: Vec<Value> = std::iter::from_fn(|| stream.message()).collect();
    assert!(said.iter().any(|m| m["method"] == "notifications/cancelled" && m["params"]["requestId"] == asked["id"]), "{said:?}");
}

#[test]
fn a_question_of_a_task_is_taken_back() {
    is_taken_back("confirm_delete");
}

#[test]
fn a_question_of_a_call_is_taken_back() {
    is_taken_back("test_input_required_result_elicitation");
}

#[test]
fn a_revision_without_tasks_gets_the_result_of_a_tool_that_must_be_one() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let said = Client::unaware(&gateway, "2025-06-18").result("tools/call", called("failing_job", json!({"ms": 50})));
    assert_eq!(text_of(&said), "the job failed");
}

#[test]
fn a_revision_without_tasks_gets_none() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let mut params = called("slow_compute", json!({"seconds": 0.05}));
    params["task"] = json!({});
    let said = Client::unaware(&gateway, "2025-06-18").result("tools/call", params);
    assert!(said.get("task").is_none(), "{said}");
}

#[test]
fn a_revision_without_tasks_is_offered_none() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let hello = &Client::unaware(&gateway, "2025-06-18").hello;
    assert_eq!(hello["capabilities"].get("tasks"), None, "{hello}");
}

#[test]
fn a_list_that_is_refused_is_not_offered() {
    let gateway = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    let hello = &Client::knowing(&gateway, SESSION).hello;
    assert_eq!(hello["capabilities"]["tasks"].get("list"), None, "{hello}");
}

#[test]
fn a_question_of_a_task_names_its_task() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let client = Client::knowing(&gateway, SESSION);
    let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
    let (_, mut waiting) = client.open("tasks/result", json!({"taskId": task["taskId"]}));
    let asked = waiting.message().unwrap();
    assert_eq!(asked["params"]["_meta"][RELATED]["taskId"], task["taskId"], "{asked}");
}

/// A stateless client comes back to a task after a while.
fn comes_back(mode: &str) {
    let (gateway, _tap) = Tap::limited("child_idle_ms = 500", &[], mode);
    let client = Client::knowing(&gateway, STATELESS);
    let task = client.begin("slow_compute", json!({"seconds": 6}));
    std::thread::sleep(std::time::Duration::from_secs(4));
    let said = client.ask("tasks/get", json!({"taskId": task["taskId"]}));
    assert!(said.get("result").is_some(), "{said}");
}

#[test]
fn a_handshake_server_that_runs_a_task_is_in_use() {
    comes_back("legacy");
}

#[test]
fn a_stateless_server_that_runs_a_task_is_in_use() {
    comes_back("modern");
}

#[test]
fn a_result_is_not_thrown_away_for_want_of_room() {
    let (gateway, _tap) = Tap::limited("parked_calls = 2", &[], "modern");
    let client = Client::knowing(&gateway, SESSION);
    for _ in 0..3 {
        client.begin("greet", json!({"name": "ada"}));
    }
}

fn malformed(params: Value) {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let client = Client::knowing(&gateway, STATELESS);
    let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
    client.wait_for(id_of(&task), &["input_required"]);
    let mut params = params;
    params["taskId"] = task["taskId"].clone();
    assert_eq!(client.refused("tasks/update", params), -32602);
}

#[test]
fn an_update_without_responses_is_refused() {
    malformed(json!({}));
}

#[test]
fn an_update_of_null_is_refused() {
    malformed(json!({"inputResponses": null}));
}

#[test]
fn a_response_that_is_no_object_is_refused() {
    malformed(json!({"inputResponses": {"confirm": "yes"}}));
}

#[test]
fn what_2026_07_28_removed_of_tools_is_not_listed() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    for tool in Client::knowing(&gateway, STATELESS).result("tools/list", json!({}))["tools"].as_array().unwrap() {
        assert_eq!(tool.get("execution"), None, "{tool}");
    }
}
