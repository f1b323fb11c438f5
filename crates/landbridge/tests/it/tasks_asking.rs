//! Tasks that ask: where the question comes out, and that its answer gets back.
//!
//! A stateless client finds questions in `tasks/get` and answers by `tasks/update`. A session is
//! asked on a stream: of `tasks/result`, which blocks meanwhile, or, by a server of its own that
//! does not wait for that, on the standalone one.

use serde_json::{Value, json};

use crate::gateway::{Gateway, up_to_answer, wait_until};
use crate::tasks::{Client, EXTENSION, RELATED, SESSION, STATELESS, Tap, id_of, in_every_pairing, text_of};

/// What a user says to each of the questions.
fn accepted(asked: &Value) -> Value {
    let content = match asked["params"]["requestedSchema"]["required"][0].as_str() {
        Some("confirm") => json!({"confirm": true}),
        Some("name") => json!({"name": "ada"}),
        _ => panic!("not a question of these tools: {asked}"),
    };
    assert_eq!(asked["method"], "elicitation/create");
    json!({"action": "accept", "content": content})
}

/// Waits for questions, and gives them.
#[track_caller]
fn requests_of(client: &Client<'_>, id: &str) -> Value {
    let task = client.wait_for(id, &["input_required"]);
    assert!(task["inputRequests"].as_object().is_some_and(|all| !all.is_empty()), "{task}");
    task["inputRequests"].clone()
}

#[track_caller]
fn update(client: &Client<'_>, id: &str, responses: Value) {
    let said = client.result("tasks/update", json!({"taskId": id, "inputResponses": responses}));
    assert_eq!(said["resultType"], "complete", "{said}");
}

// --- stateless clients ----------------------------------------------------------------------------

#[test]
fn a_stateless_client_finds_the_question_in_the_task_and_answers_by_an_update() {
    for mode in ["legacy", "modern"] {
        let (gateway, tap) = Tap::gateway(&[], mode);
        let client = Client::knowing(&gateway, STATELESS);
        for (answer, text) in [
            (json!({"action": "accept", "content": {"confirm": true}}), "deleted a.txt"),
            (json!({"action": "accept", "content": {"confirm": false}}), "kept a.txt"),
            (json!({"action": "decline"}), "kept a.txt"),
            (json!({"action": "cancel"}), "kept a.txt"),
        ] {
            let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
            let id = id_of(&task);
            let requests = requests_of(&client, id);
            assert_eq!(requests["confirm"]["method"], "elicitation/create", "{mode}: {requests}");
            assert_eq!(requests["confirm"]["params"]["message"], "Delete a.txt?", "{mode}: {requests}");
            assert_eq!(requests["confirm"]["params"].get("_meta"), None, "what belongs to the other hop stays there");
            assert_eq!(requests_of(&client, id), requests, "{mode}: it can be read again");
            update(&client, id, json!({"confirm": answer}));
            assert_eq!(text_of(&client.outcome(id)["result"]), text, "{mode}");
        }
        tap.wait_for_tasks(&gateway, 4);
    }
}

#[test]
fn several_questions_are_answered_one_after_the_other_or_at_once() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let client = Client::knowing(&gateway, STATELESS);
        let all = json!({"user_name": {"action": "accept", "content": {"name": "ada"}}, "confirm": {"action": "decline"}});
        let expected = r#"action=accept, content={"name":"ada"}; action=decline"#;
        let both = |id: &str| {
            let task = client.get(id);
            task["inputRequests"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>()).filter(|keys| keys.len() == 2)
        };

        let task = client.begin("multi_input", json!({}));
        let id = id_of(&task);
        requests_of(&client, id);
        wait_until("both questions", || both(id).is_some());
        update(&client, id, all.clone());
        assert_eq!(text_of(&client.outcome(id)["result"]), expected, "{mode}");

        let task = client.begin("multi_input", json!({}));
        let id = id_of(&task);
        requests_of(&client, id);
        wait_until("both questions", || both(id).is_some());
        // An answer to nothing is no error, and changes nothing.
        update(&client, id, json!({"nobody": {"action": "accept"}}));
        update(&client, id, json!({"confirm": all["confirm"]}));
        let left = requests_of(&client, id);
        assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["user_name"], "{mode}");
        // What was answered cannot be answered otherwise.
        update(&client, id, json!({"confirm": {"action": "accept", "content": {"confirm": true}}}));
        update(&client, id, json!({"user_name": all["user_name"]}));
        assert_eq!(text_of(&client.outcome(id)["result"]), expected, "{mode}");
        update(&client, id, all.clone());
    }
}

#[test]
fn an_update_that_is_none_is_refused_and_the_question_stays() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let client = Client::knowing(&gateway, STATELESS);
        let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
        let id = id_of(&task);
        requests_of(&client, id);
        for responses in [json!([]), json!("yes"), json!(7)] {
            assert_eq!(client.refused("tasks/update", json!({"taskId": id, "inputResponses": responses})), -32602, "{mode} {responses}");
        }
        update(&client, id, json!({"confirm": {"action": "accept", "content": {"confirm": true}}}));
        assert_eq!(text_of(&client.outcome(id)["result"]), "deleted a.txt", "{mode}");
    }
}

#[test]
fn two_tasks_that_ask_are_answered_each_for_itself() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let client = Client::knowing(&gateway, STATELESS);
        let tasks = ["a", "b", "c"].map(|name| client.begin("confirm_delete", json!({"filename": name})));
        for (name, task) in ["a", "b", "c"].into_iter().zip(&tasks).rev() {
            let requests = requests_of(&client, id_of(task));
            assert_eq!(requests["confirm"]["params"]["message"], format!("Delete {name}?"), "{mode}");
        }
        for (n, task) in tasks.iter().enumerate() {
            update(&client, id_of(task), json!({"confirm": {"action": "accept", "content": {"confirm": n != 1}}}));
        }
        for (expected, task) in ["deleted a", "kept b", "deleted c"].into_iter().zip(&tasks) {
            assert_eq!(text_of(&client.outcome(id_of(task))["result"]), expected, "{mode}");
        }
    }
}

#[test]
fn a_task_that_was_answered_makes_room_for_another_that_asks() {
    let (gateway, _tap) = Tap::limited("parked_calls = 2", &[], "legacy");
    let client = Client::knowing(&gateway, STATELESS);
    for _ in 0..4 {
        let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
        requests_of(&client, id_of(&task));
        update(&client, id_of(&task), json!({"confirm": {"action": "decline"}}));
        assert_eq!(text_of(&client.outcome(id_of(&task))["result"]), "kept a.txt");
    }
}

// --- sessions ---------------------------------------------------------------------------------------

#[test]
fn a_sessions_own_server_asks_for_its_task() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let client = Client::knowing(&gateway, SESSION);
    let mut questions = client.listen();
    for (tool, n, text) in [
        ("confirm_delete", 1, "deleted a.txt"),
        ("multi_input", 2, r#"action=accept, content={"name":"ada"}; action=accept, content={"confirm":true}"#),
    ] {
        let task = client.begin(tool, json!({"filename": "a.txt"}));
        let id = id_of(&task);
        let mut asked = Vec::new();
        let mut states = Vec::new();
        while asked.len() < n {
            let message = questions.message().expect("a question");
            match message["method"].as_str() {
                Some("notifications/tasks/status") => states.push(message["params"].clone()),
                _ => asked.push(message),
            }
        }
        assert_eq!((id_of(&states[states.len() - 1]), &states[states.len() - 1]["status"]), (id, &json!("input_required")));
        assert_eq!(client.get(id)["status"], "input_required");
        for asked in &asked {
            assert_eq!(asked["params"]["_meta"][RELATED]["taskId"], *id, "{asked}");
            client.answer(asked, accepted(asked));
        }
        assert_eq!(text_of(&client.outcome(id)["result"]), text);
        while states.last().is_none_or(|s| s["status"] != "completed") {
            states.extend(questions.message().map(|m| m["params"].clone()));
        }
    }
}

// --- either ---------------------------------------------------------------------------------------

#[test]
fn a_task_that_waits_for_its_client_is_cancelled_too() {
    in_every_pairing(|_, client| {
        let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
        let id = id_of(&task);
        client.wait_for(id, &["input_required"]);
        client.result("tasks/cancel", json!({"taskId": id}));
        assert_eq!(client.ended(id)["status"], "cancelled");
        assert_eq!(client.get(id).get("inputRequests"), None);
    });
}

/// Calls a tool that asks the user's name before it becomes a task, and gives the last result.
fn named_first(client: &Client<'_>) -> Value {
    if !client.is_stateless() {
        let (number, mut stream) = client.open("tools/call", client.wanting("test_tool_with_task", json!({})));
        let asked = stream.message().unwrap();
        assert_eq!(
            asked["params"].get("_meta").map(|m| m.get(RELATED)),
            asked["params"].get("_meta").map(|_| None),
            "there is no task yet"
        );
        client.answer(&asked, accepted(&asked));
        return up_to_answer(&mut stream, number).pop().unwrap()["result"].clone();
    }
    let asked = client.result("tools/call", client.wanting("test_tool_with_task", json!({})));
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let mut retry = client.wanting("test_tool_with_task", json!({}));
    retry["inputResponses"] = json!({"user_name": accepted(&asked["inputRequests"]["user_name"])});
    if let Some(state) = asked.get("requestState") {
        retry["requestState"] = state.clone();
    }
    client.result("tools/call", retry)
}

#[test]
fn a_tool_asks_before_it_becomes_a_task() {
    in_every_pairing(|_, client| {
        let task = client.begun(named_first(client));
        assert_eq!(client.get(id_of(&task))["taskId"], task["taskId"]);
        assert_eq!(text_of(&client.outcome(id_of(&task))["result"]), "Hello, ada!");
    });
}

#[test]
fn who_withdraws_the_call_while_it_is_asked_first_gets_no_task() {
    for (args, mode) in [(&[][..], "legacy"), (&["--isolation", "none"], "legacy"), (&[], "modern")] {
        let (gateway, tap) = Tap::gateway(args, mode);
        let client = Client::knowing(&gateway, SESSION);
        let (id, mut stream) = client.open("tools/call", client.wanting("test_tool_with_task", json!({})));
        assert_eq!(stream.message().unwrap()["method"], "elicitation/create");
        client.tell("notifications/cancelled", json!({"requestId": id}));
        let rest: Vec<Value> = std::iter::from_fn(|| stream.message()).collect();
        assert!(rest.iter().all(|m| m.get("result").is_none()), "{mode}: {rest:?}");
        assert_eq!(tap.tasks(), Vec::<String>::new());
    }
}

#[test]
fn a_task_whose_client_cannot_be_asked_comes_to_an_end() {
    for (front, mode) in [(SESSION, "legacy"), (SESSION, "modern"), (STATELESS, "legacy"), (STATELESS, "modern")] {
        eprintln!("{front} at {mode}");
        let gateway = Gateway::fixture(&[], &[mode]);
        let said = if front == STATELESS { json!({"extensions": {EXTENSION: {}}}) } else { json!({}) };
        let client = Client::at(&gateway, "/mcp", front, said);
        let task = client.begin("confirm_delete", json!({"filename": "a.txt"}));
        let ended = client.ended(id_of(&task));
        // A tool that fails for want of an answer has still completed, to the extension.
        assert_ne!(ended["status"], "cancelled", "{ended}");
        let outcome = client.outcome(id_of(&task));
        let failed = outcome.get("error").is_some() || outcome["result"]["isError"] == true;
        assert!(failed && !outcome.to_string().contains("deleted"), "{outcome}");
    }
}
