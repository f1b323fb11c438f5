//! Tasks of clients that know of none: the gateway follows each to its end, and they see a call.
//!
//! They are asked in the middle of it as in any other, and when they withdraw it, or nobody waits
//! for it any more, its server is told.

use serde_json::{Value, json};

use crate::foreign::{Foreign, hello};
use crate::gateway::{Gateway, tool, up_to_answer, wait_until};
use crate::pipe::Pipe;
use crate::tasks::{Client, RELATED, SESSION, STATELESS, Tap, text_of};

const OLD: &str = "2025-06-18";

/// Clients that know of no task, and servers that make one of a call.
const STRANGERS: [(&str, &[&str], &str); 6] = [
    (OLD, &[], "modern"),
    (SESSION, &[], "modern"),
    ("2025-03-26", &[], "modern"),
    (STATELESS, &[], "legacy"),
    (OLD, &[], "legacy"),
    (OLD, &["--isolation", "none"], "legacy"),
];

fn called(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments})
}

/// Nothing in it is about tasks.
#[track_caller]
fn is_plain(said: &Value) {
    let text = said.to_string();
    assert!(!["taskId", RELATED, r#""task""#].iter().any(|word| text.contains(word)), "{text}");
}

/// Calls a tool, answers what it asks, and gives its result and how often it asked.
fn answered(client: &Client<'_>, params: &Value) -> (Value, usize) {
    let answer = |asked: &Value| match asked["params"]["requestedSchema"]["required"][0].as_str() {
        Some("confirm") => json!({"action": "accept", "content": {"confirm": true}}),
        _ => json!({"action": "accept", "content": {"name": "ada"}}),
    };
    let mut n = 0;
    if client.is_stateless() {
        let mut params = params.clone();
        loop {
            let result = client.result("tools/call", params.clone());
            is_plain(&result);
            if result["resultType"] == "complete" {
                return (result, n);
            }
            assert_eq!(result["resultType"], "input_required", "{result}");
            let requests = result["inputRequests"].as_object().unwrap();
            n += requests.len();
            params["inputResponses"] =
                requests.iter().map(|(key, asked)| (key.clone(), answer(asked))).collect::<serde_json::Map<_, _>>().into();
            params["requestState"] = result["requestState"].clone();
        }
    }
    let (id, mut stream) = client.open("tools/call", params.clone());
    loop {
        let message = stream.message().unwrap_or_else(|| panic!("an answer:\n{}", client.gateway.log()));
        if message["id"] == id && message.get("method").is_none() {
            is_plain(&message);
            return (message["result"].clone(), n);
        }
        assert_eq!(message["method"], "elicitation/create", "{message}");
        is_plain(&message);
        n += 1;
        client.answer(&message, answer(&message));
    }
}

#[test]
fn who_knows_of_no_tasks_gets_the_result() {
    for (front, args, mode) in STRANGERS {
        eprintln!("{front} at {mode} {args:?}");
        let gateway = Gateway::fixture(args, &[mode]);
        let client = Client::unaware(&gateway, front);
        let computed = client.result("tools/call", called("slow_compute", json!({"seconds": 0.3, "label": "pi"})));
        assert_eq!(text_of(&computed), "computed pi for 0.3 s");
        is_plain(&computed);
        let error = &client.ask("tools/call", called("protocol_error_job", json!({"ms": 50})))["error"];
        assert_eq!(*error, json!({"code": -32603, "message": "the job broke", "data": {"job": "protocol_error_job"}}));
    }
}

#[test]
fn who_reads_no_events_gets_the_result_as_json() {
    for (revision, mode) in [(OLD, "modern"), (SESSION, "modern")] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let session = gateway.session(revision);
        let mut headers = session.headers();
        headers.push(("accept", "application/json"));
        let said = gateway.wire().post("/mcp", &headers, &tool(7, "slow_compute", json!({"seconds": 1.5})).to_string());
        assert_eq!(text_of(&said.json()["result"]), "computed something for 1.5 s");
    }
}

#[test]
fn who_knows_of_no_tasks_gets_the_result_of_a_tool_that_must_be_one() {
    for (front, args, mode) in STRANGERS.into_iter().filter(|(_, args, _)| args.is_empty()) {
        eprintln!("{front} at {mode}");
        let gateway = Gateway::fixture(args, &[mode]);
        let failed = Client::unaware(&gateway, front).result("tools/call", called("failing_job", json!({"ms": 50})));
        assert_eq!((&failed["isError"], text_of(&failed)), (&json!(true), "the job failed"));
        is_plain(&failed);
    }
}

/// As the TypeScript SDK's servers do.
#[test]
fn a_server_that_wants_tasks_of_older_revisions_too_gets_them() {
    let far = Foreign::start(|heard, reply| {
        let asked = heard.json();
        let task = |status: &str| {
            json!({"taskId": "t", "status": status, "createdAt": "2026-01-01T00:00:00Z",
            "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttl": 60_000, "pollInterval": 10})
        };
        match (heard.what().as_str(), asked["params"]["task"].is_object()) {
            ("server/discover", _) => reply.error(400, heard, -32601, "no such method"),
            ("initialize", _) => {
                let mut hello = hello(asked["params"]["protocolVersion"].as_str().unwrap());
                hello["capabilities"]["tasks"] = json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}});
                let hello = json!({"jsonrpc": "2.0", "id": asked["id"], "result": hello});
                reply.json(200, &[("mcp-session-id", "session-1")], &hello);
            }
            ("GET", _) => reply.empty(405),
            ("DELETE", _) => reply.empty(204),
            (what, _) if what.starts_with("notifications/") => reply.empty(202),
            ("tools/list", _) => {
                let tool = |name: &str, support: &str| json!({"name": name, "inputSchema": {"type": "object"}, "execution": {"taskSupport": support}});
                reply.result(heard, json!({"tools": [tool("must", "required"), tool("may", "optional")]}));
            }
            ("tools/call", false) if asked["params"]["name"] == "must" => reply.error(200, heard, -32601, "requires task augmentation"),
            ("tools/call", false) => reply.text(heard, "at once"),
            ("tools/call", true) => reply.result(heard, json!({"task": task("working")})),
            ("tasks/get", _) => reply.result(heard, task("completed")),
            ("tasks/result", _) => reply.text(heard, "in the end"),
            (what, _) => panic!("{what}"),
        }
    });
    let gateway = far.gateway("/mcp");
    for revision in ["2025-03-26", OLD] {
        let client = Client::unaware(&gateway, revision);
        let result = client.result("tools/call", called("must", json!({})));
        assert_eq!(text_of(&result), "in the end");
        is_plain(&result);
        assert_eq!(text_of(&client.result("tools/call", called("may", json!({})))), "at once");
    }
}

#[test]
fn who_knows_of_tasks_and_wants_none_is_told_by_its_own_era_what_must_be_one() {
    for args in [&[][..], &["--isolation", "none"]] {
        let gateway = Gateway::fixture(args, &["legacy"]);
        let client = Client::unaware(&gateway, SESSION);
        assert_eq!(client.refused("tools/call", called("failing_job", json!({"ms": 50}))), -32601);
        assert_eq!(
            text_of(&client.result("tools/call", called("slow_compute", json!({"seconds": 0.05})))),
            "computed something for 0.05 s"
        );
    }
    let gateway = Gateway::fixture(&[], &["modern"]);
    let client = Client::unaware(&gateway, STATELESS);
    let said = client.post("tools/call", called("failing_job", json!({"ms": 50})));
    assert_eq!((said.status, &said.json()["error"]["code"]), (400, &json!(-32021)));
    assert_eq!(text_of(&client.result("tools/call", called("slow_compute", json!({"seconds": 0.05})))), "computed something for 0.05 s");
}

#[test]
fn who_knows_of_no_tasks_is_asked_in_the_middle_of_one() {
    for (front, args, mode) in STRANGERS {
        eprintln!("{front} at {mode} {args:?}");
        if front == "2025-03-26" {
            continue; // nobody asks its user anything
        }
        let gateway = Gateway::fixture(args, &[mode]);
        let client = Client::unaware(&gateway, front);
        let (deleted, n) = answered(&client, &called("confirm_delete", json!({"filename": "a.txt"})));
        assert_eq!((text_of(&deleted), n), ("deleted a.txt", 1));
        let (both, n) = answered(&client, &called("multi_input", json!({})));
        assert_eq!((text_of(&both), n), (r#"action=accept, content={"name":"ada"}; action=accept, content={"confirm":true}"#, 2));
    }
}

#[test]
fn a_user_who_refuses_is_told_to_the_task() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    for revision in [OLD, SESSION] {
        let client = Client::unaware(&gateway, revision);
        let (id, mut stream) = client.open("tools/call", called("confirm_delete", json!({"filename": "a.txt"})));
        let asked = stream.message().unwrap();
        client.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -1, "message": "no user here"}}));
        let last = up_to_answer(&mut stream, id).pop().unwrap();
        assert_eq!(text_of(&last["result"]), "kept a.txt", "{last}");
    }
}

#[test]
fn who_knows_of_no_tasks_is_asked_before_one_begins() {
    for (front, args, mode) in STRANGERS {
        eprintln!("{front} at {mode} {args:?}");
        if front == "2025-03-26" || !args.is_empty() {
            continue;
        }
        let gateway = Gateway::fixture(args, &[mode]);
        let (named, n) = answered(&Client::unaware(&gateway, front), &called("test_tool_with_task", json!({})));
        assert_eq!((text_of(&named), n), ("Hello, ada!", 1));
    }
}

#[test]
fn who_cannot_be_asked_is_not_and_the_call_ends() {
    for (front, args, mode) in STRANGERS {
        eprintln!("{front} at {mode} {args:?}");
        let gateway = Gateway::fixture(args, &[mode]);
        let client = Client::at(&gateway, "/mcp", front, json!({}));
        let said = client.ask("tools/call", called("confirm_delete", json!({"filename": "a.txt"})));
        let failed = said.get("error").is_some() || said["result"]["isError"] == true;
        assert!(failed && !said.to_string().contains("deleted"), "{said}");
        is_plain(&said);
    }
}

// --- nobody waits any more ------------------------------------------------------------------------

#[test]
fn a_session_that_withdraws_its_call_cancels_the_task() {
    for (front, name) in [(OLD, "slow_compute"), (SESSION, "slow_compute"), (OLD, "confirm_delete"), (SESSION, "confirm_delete")] {
        eprintln!("{front} {name}");
        let (gateway, tap) = Tap::gateway(&[], "modern");
        let client = Client::unaware(&gateway, front);
        let (id, mut stream) = client.open("tools/call", called(name, json!({"seconds": 60, "filename": "a.txt"})));
        if name == "confirm_delete" {
            assert_eq!(stream.message().unwrap()["method"], "elicitation/create");
        }
        tap.wait_for_tasks(&gateway, 1);
        client.tell("notifications/cancelled", json!({"requestId": id, "reason": "enough"}));
        tap.wait_for_cancel(&gateway);
        let rest: Vec<Value> = std::iter::from_fn(|| stream.message()).collect();
        assert!(rest.iter().all(|m| m.get("result").is_none()), "{rest:?}");
        assert_eq!(text_of(&client.result("tools/call", called("greet", json!({"name": "ada"})))), "Hello, ada!");
    }
}

#[test]
fn a_stateless_client_that_goes_away_cancels_the_task() {
    let (gateway, tap) = Tap::gateway(&[], "legacy");
    let client = Client::unaware(&gateway, STATELESS);
    // The head comes when the call takes its time.
    let (_, stream) = client.open("tools/call", called("failing_job", json!({"ms": 60_000})));
    tap.wait_for_tasks(&gateway, 1);
    drop(stream);
    tap.wait_for_cancel(&gateway);
    let cancelled = |m: &Value| m["method"] == "notifications/tasks/status" && m["params"]["status"] == "cancelled";
    wait_until("the end of the task", || tap.said().iter().any(cancelled));
}

#[test]
fn a_session_that_ends_cancels_the_tasks_of_its_calls() {
    for tool in ["slow_compute", "confirm_delete"] {
        let (gateway, tap) = Tap::gateway(&[], "modern");
        let client = Client::unaware(&gateway, SESSION);
        let (_, mut stream) = client.open("tools/call", called(tool, json!({"seconds": 60, "filename": "a.txt"})));
        if tool == "confirm_delete" {
            assert_eq!(stream.message().unwrap()["method"], "elicitation/create");
        }
        tap.wait_for_tasks(&gateway, 1);
        client.leave();
        tap.wait_for_cancel(&gateway);
    }
}

#[test]
fn where_a_task_is_not_needed_there_is_none_to_cancel() {
    let (gateway, tap) = Tap::gateway(&[], "legacy");
    let client = Client::unaware(&gateway, STATELESS);
    let (_, stream) = client.open("tools/call", called("slow_compute", json!({"seconds": 60})));
    drop(stream);
    wait_until("the end of the call", || tap.got().iter().any(|m| m["method"] == "notifications/cancelled"));
    assert_eq!(tap.tasks(), Vec::<String>::new());
}

#[test]
fn a_task_whose_client_does_not_answer_is_cancelled() {
    let (gateway, tap) = Tap::limited("ask_timeout_ms = 500", &[], "modern");
    let client = Client::unaware(&gateway, SESSION);
    let (id, mut stream) = client.open("tools/call", called("confirm_delete", json!({"filename": "a.txt"})));
    assert_eq!(stream.message().unwrap()["method"], "elicitation/create");
    let said: Vec<Value> = std::iter::from_fn(|| stream.message()).collect();
    let last = said.last().unwrap();
    assert!(last["id"] == id && (last["result"]["isError"] == true || last.get("error").is_some()), "{last}");
    tap.wait_for_cancel(&gateway);
}

#[test]
fn a_call_whose_task_takes_too_long_ends() {
    for (front, mode) in [(OLD, "modern"), (SESSION, "modern"), (STATELESS, "legacy")] {
        eprintln!("{front} at {mode}");
        let (gateway, _tap) = Tap::limited("call_timeout_ms = 1500", &[], mode);
        let said = Client::unaware(&gateway, front).ask("tools/call", endless(mode));
        assert_eq!(said["error"]["code"], -32603, "{said}");
    }
}

/// A call that such a server makes a task for a client that knows of none, and that takes its time.
fn endless(mode: &str) -> Value {
    match mode {
        "modern" => called("slow_compute", json!({"seconds": 60})),
        _ => called("failing_job", json!({"ms": 60_000})),
    }
}

#[test]
fn a_call_ends_with_the_server_of_its_task() {
    for (front, mode) in [(OLD, "modern"), (SESSION, "modern"), (STATELESS, "legacy")] {
        eprintln!("{front} at {mode}");
        let gateway = Gateway::fixture(&[], &[mode]);
        let client = Client::unaware(&gateway, front);
        let (id, mut stream) = client.open("tools/call", endless(mode));
        client.post("tools/call", called("die", json!({})));
        let last = up_to_answer(&mut stream, id).pop().unwrap();
        assert!(last.get("error").is_some() || last["result"]["isError"] == true, "{last}");
    }
}

// --- HTTP+SSE -------------------------------------------------------------------------------------

#[test]
fn over_sse_a_task_is_a_call_too() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let mut sse = gateway.sse("2024-11-05");
        let computed = sse.call(2, "tools/call", called("slow_compute", json!({"seconds": 0.3})));
        assert_eq!(text_of(&computed["result"]), "computed something for 0.3 s");
        let failed = sse.call(3, "tools/call", called("failing_job", json!({"ms": 50})));
        assert_eq!((&failed["result"]["isError"], text_of(&failed["result"])), (&json!(true), "the job failed"));
        is_plain(&failed);
    }
}

#[test]
fn over_sse_a_call_that_is_withdrawn_or_left_cancels_the_task() {
    for withdrawn in [true, false] {
        let (gateway, tap) = Tap::gateway(&[], "modern");
        let sse = gateway.sse("2024-11-05");
        sse.post(&tool(7, "slow_compute", json!({"seconds": 60})));
        tap.wait_for_tasks(&gateway, 1);
        match withdrawn {
            true => sse.post(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})),
            false => drop(sse),
        }
        tap.wait_for_cancel(&gateway);
    }
}

/// Bytes of a text that does not fit into what lies between us and a client that does not read.
const LONG: usize = 3_000_000;

fn is_long(message: &Value) -> bool {
    message["result"]["content"][0]["text"].as_str().is_some_and(|text| text.len() == LONG)
}

/// For what was written to arrive where it is not read: the less time that takes, the more these tests see.
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(200));
}

/// What a server makes of a call is noticed when its client reads on; until then the call is known by what it was.
#[test]
fn a_task_that_nobody_has_noticed_yet_is_cancelled_with_its_call() {
    for (revision, server) in [("2025-06-18", "modern"), ("2026-07-28", "legacy")] {
        eprintln!("{revision} at {server}");
        let tap = Tap::new();
        let command = tap.command(server);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut pipe = Pipe::start(&command).speaking(revision, json!({}));
        // Its client reads one line, and there is no room for the next: nothing more is taken from the server.
        for id in [50, 51] {
            pipe.send(&pipe.tool_request(id, "grow", json!({"bytes": LONG})));
        }
        wait_until("both have answered", || tap.said().iter().filter(|message| is_long(message)).count() == 2);
        pause();
        pipe.send(&pipe.tool_request(52, "failing_job", json!({"ms": 60_000})));
        tap.wait_for_tasks_of(&|| pipe.log(), 1);
        pause();
        pipe.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 52}}));
        pause();
        for _ in [50, 51] {
            assert_ne!(pipe.next()["id"], 52);
        }
        tap.wait_for_cancel_of(&|| pipe.log());
        pipe.echoes();
    }
}

#[test]
fn over_sse_a_task_that_nobody_has_noticed_yet_is_cancelled_with_its_session() {
    let (gateway, tap) = Tap::gateway(&[], "modern");
    let sse = gateway.sse("2024-11-05");
    // More than the sockets between them hold.
    for id in 2..7 {
        sse.post(&tool(id, "grow", json!({"bytes": LONG})));
    }
    wait_until("all have answered", || tap.said().iter().filter(|message| is_long(message)).count() == 5);
    pause();
    sse.post(&tool(7, "slow_compute", json!({"seconds": 60})));
    tap.wait_for_tasks(&gateway, 1);
    pause();
    drop(sse);
    tap.wait_for_cancel(&gateway);
}
