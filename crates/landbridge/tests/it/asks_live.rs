//! Clients that are asked while their call runs: what comes back with a broken stream, what a
//! withdrawal takes back, who has to wait for whom and for how long. And the letters of questions
//! and answers, on every way.

use serde_json::{Value, json};

use crate::asks::{Answer, Client, accept, everything, post, sse_with, yes};
use crate::children::{pid, text};
use crate::gateway::{Gateway, Session, signal, tool, up_to_answer, wait_until};
use crate::parked::Overheard;
use crate::wire::Stream;

const REVISION: &str = "2025-11-25";

fn answer(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn cancel(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
}

fn named() -> Value {
    accept(json!({"name": "ada", "answer": "ada", "username": "ada", "email": "a@b"}))
}

/// Every server that asks, and the tool by which it asks the user.
fn servers() -> Vec<(&'static str, Gateway, &'static str)> {
    vec![
        ("legacy", Gateway::fixture(&[], &["legacy"]), "test_input_required_result_elicitation"),
        ("legacy, shared", Gateway::fixture(&["--isolation", "none"], &["legacy"]), "test_input_required_result_elicitation"),
        ("modern", Gateway::fixture(&[], &["modern"]), "test_input_required_result_elicitation"),
        ("demo", Gateway::start(&[]), "ask_user"),
    ]
}

/// Calls that tool; its stream, and the question.
fn asked(session: &Session<'_>, name: &str) -> (Stream, Value) {
    let mut stream = session.stream(&tool(7, name, json!({})));
    let question = stream.message().unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    (stream, question)
}

fn echo(session: &Session<'_>) {
    assert_eq!(text(&session.tool(77, "echo", json!({"message": "still there"}))), "still there");
}

// --- answers ------------------------------------------------------------------------------------

#[test]
fn only_the_first_answer_to_a_question_counts() {
    for (server, gateway, name) in servers() {
        let session = gateway.session_with(REVISION, everything());
        let (mut stream, question) = asked(&session, name);
        for stranger in [json!(99), json!("1"), json!(-1), json!("nobody"), json!(0)] {
            assert_eq!(session.send(&answer(&stranger, accept(json!({"name": "eve", "answer": "eve"})))).status, 202, "{server}");
        }
        for name in ["ada", "eve"] {
            assert_eq!(session.send(&answer(&question["id"], accept(json!({"name": name, "answer": name})))).status, 202, "{server}");
        }
        let last = up_to_answer(&mut stream, 7).pop().unwrap();
        assert!(text(&last).contains("ada") && !text(&last).contains("eve"), "{server}: {last}");
        assert_eq!(session.send(&answer(&question["id"], named())).status, 202, "{server}");
        echo(&session);
    }
}

#[test]
fn nobody_answers_the_question_of_another_session() {
    for (server, gateway, name) in servers() {
        let sessions = [0, 1].map(|_| gateway.session_with(REVISION, everything()));
        let (mut stream, question) = asked(&sessions[0], name);
        for id in 0..20 {
            let eve = accept(json!({"name": "eve", "answer": "eve"}));
            assert_eq!(sessions[1].send(&answer(&json!(id), eve)).status, 202, "{server}");
        }
        assert_eq!(sessions[0].send(&answer(&question["id"], named())).status, 202);
        let last = up_to_answer(&mut stream, 7).pop().unwrap();
        assert!(text(&last).contains("ada"), "{server}: {last}");
    }
}

#[test]
fn a_client_that_does_not_answer_fails_its_call() {
    let heard = Overheard::new("ask_timeout_ms = 400", &[], "modern");
    let session = heard.gateway.session_with(REVISION, everything());
    let (mut stream, question) = asked(&session, "test_input_required_result_elicitation");
    let last = up_to_answer(&mut stream, 7).pop().unwrap();
    assert_eq!(last["result"]["isError"], true, "{last}");
    assert!(text(&last).contains("did not answer") && text(&last).contains("0.4 s"), "{last}");
    assert_eq!(session.send(&answer(&question["id"], named())).status, 202, "and now it is too late");
    assert_eq!(heard.calls("test_input_required_result_elicitation"), 1);

    let mut sse = sse_with(&heard.gateway, "2025-06-18", everything());
    sse.post(&tool(7, "test_input_required_result_elicitation", json!({})));
    let last = up_to_answer(&mut sse.stream, 7).pop().unwrap();
    assert!(text(&last).contains("did not answer"), "{last}");
    // What is no tool has no result to say it in.
    let prompt = json!({"name": "test_input_required_result_prompt"});
    let mut stream = session.stream(&json!({"jsonrpc": "2.0", "id": 8, "method": "prompts/get", "params": prompt}));
    let last = up_to_answer(&mut stream, 8).pop().unwrap();
    assert!(last["error"]["message"].as_str().unwrap().contains("did not answer"), "{last}");
}

#[test]
fn a_server_that_asks_forever_is_stopped() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    for mut client in [Client::streamable(&gateway, REVISION, everything()), Client::sse(&gateway, "2025-06-18", everything())] {
        let talk = client.tool("ask_forever", json!({}), |_| yes(json!({"ok": true})));
        assert_eq!(talk.asked.len(), 8);
        assert!(talk.failure().contains("8 rounds"), "{talk:?}");
    }
}

#[test]
fn a_server_that_only_wants_its_state_back_gets_it() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    for mut client in Client::all(&gateway, "2024-11-05", &json!({})) {
        for rounds in [0, 1, 3] {
            let talk = client.tool("state_only", json!({"rounds": rounds}), |q| panic!("asked {q}"));
            assert_eq!(talk.success(), format!("after {rounds} rounds"));
            assert_eq!(talk.rounds, if client.is_stateless() { rounds } else { 0 });
        }
    }
    let talk = Client::streamable(&gateway, REVISION, json!({})).tool("state_only", json!({"rounds": 50}), |q| panic!("asked {q}"));
    assert!(talk.failure().contains("8 rounds"), "{talk:?}");
}

// --- withdrawals --------------------------------------------------------------------------------

/// Whether one of these tells that the question is taken back.
fn takes_back(said: &[Value], question: &Value) -> bool {
    said.iter().any(|m| m["method"] == "notifications/cancelled" && m["params"]["requestId"] == question["id"])
}

fn rest(stream: &mut Stream) -> Vec<Value> {
    std::iter::from_fn(|| stream.message()).collect()
}

/// What a GET stream carries up to a change that is caused now.
fn up_to_change(session: &Session<'_>, get: &mut Stream) -> Vec<Value> {
    session.tool(78, "test_trigger_tool_change", json!({}));
    let is_other = |m: &Value| m["method"] != "notifications/tools/list_changed";
    std::iter::from_fn(|| get.message()).take_while(is_other).collect()
}

#[test]
fn a_call_that_is_cancelled_while_it_asks_is_over() {
    const ASKS: &str = "test_input_required_result_elicitation";
    for (mode, isolation) in [("legacy", "session"), ("legacy", "none"), ("modern", "session")] {
        let heard = Overheard::new("", &["--isolation", isolation], mode);
        let sessions = [0, 1].map(|_| heard.gateway.session_with(REVISION, everything()));
        for (n, session) in sessions.iter().enumerate() {
            let (mut stream, question) = asked(session, ASKS);
            assert_eq!(session.send(&cancel(7)).status, 202);
            let last = rest(&mut stream).pop().unwrap();
            assert!(last["id"] == 7 && last["error"]["message"].as_str().unwrap().contains("cancelled"), "{mode}, {isolation}: {last}");
            if mode == "legacy" {
                heard.wait_for_cancel(ASKS, n + 1);
            }
            assert_eq!(session.send(&answer(&question["id"], named())).status, 202);
            echo(session);
        }
        assert_eq!(heard.calls(ASKS), 2, "{mode}: no retry");
        assert_eq!(heard.count(|l| l["params"].get("inputResponses").is_some()), 0);
    }
}

#[test]
fn a_cancelled_call_at_the_demo_is_over() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session_with(REVISION, everything());
    let (mut stream, question) = asked(&session, "ask_user");
    assert_eq!(session.send(&cancel(7)).status, 202);
    let last = rest(&mut stream).pop().unwrap();
    assert!(last["error"]["message"].as_str().unwrap().contains("cancelled"), "{last}");
    assert_eq!(session.send(&answer(&question["id"], named())).status, 202);
    echo(&session);
}

#[test]
fn a_call_that_is_cancelled_takes_its_question_back() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let session = gateway.session_with(REVISION, everything());
        let mut get = session.get(None);
        let (mut stream, question) = asked(&session, "test_input_required_result_elicitation");
        assert_eq!(session.send(&cancel(7)).status, 202);
        let said = rest(&mut stream);
        assert!(takes_back(&said, &question) || takes_back(&up_to_change(&session, &mut get), &question), "{isolation}");
    }
}

#[test]
fn over_the_old_transport_a_cancelled_call_is_over() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let mut sse = sse_with(&gateway, "2025-06-18", everything());
        sse.post(&tool(7, "test_input_required_result_elicitation", json!({})));
        let question = sse.next();
        sse.post(&cancel(7));
        let mut said = Vec::new();
        while mode == "legacy" && !takes_back(&said, &question) {
            said.push(sse.next());
        }
        sse.post(&answer(&question["id"], named()));
        sse.post(&tool(8, "echo", json!({"message": "on"})));
        said.extend(up_to_answer(&mut sse.stream, 8));
        assert_eq!(text(said.last().unwrap()), "on", "{mode}");
        assert!(said.iter().all(|m| m["id"] != 7), "{mode}: {said:?}");
    }
}

#[test]
fn a_server_takes_its_question_back() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let session = gateway.session_with(REVISION, everything());
        let mut get = session.get(None);
        let mut stream = session.stream(&tool(7, "ask_and_withdraw", json!({"ms": 50})));
        let question = stream.message().unwrap();
        let said = rest(&mut stream);
        assert_eq!(text(said.last().unwrap()), "withdrawn", "{isolation}");
        assert_eq!(session.send(&answer(&question["id"], named())).status, 202);
        assert!(takes_back(&said, &question) || takes_back(&up_to_change(&session, &mut get), &question), "{isolation}: {said:?}");
    }
}

#[test]
fn a_session_that_ends_while_it_is_asked_ends_the_call() {
    for (mode, isolation) in [("legacy", "session"), ("legacy", "none"), ("modern", "session")] {
        let heard = Overheard::new("", &["--isolation", isolation], mode);
        let session = heard.gateway.session_with(REVISION, everything());
        let other = heard.gateway.session_with(REVISION, everything());
        let (mut stream, question) = asked(&session, "test_input_required_result_elicitation");
        assert_eq!(session.delete().status, 204);
        while stream.message().is_some() {}
        assert_eq!(session.send(&answer(&question["id"], named())).status, 404, "{mode}");
        if isolation == "none" {
            heard.wait_for_cancel("test_input_required_result_elicitation", 1);
        }
        let (mut stream, question) = asked(&other, "test_input_required_result_elicitation");
        other.send(&answer(&question["id"], named()));
        assert_eq!(text(up_to_answer(&mut stream, 7).last().unwrap()), "Hello, ada!", "{mode}");
        assert_eq!(heard.calls("test_input_required_result_elicitation"), if mode == "modern" { 3 } else { 2 });
    }
}

#[test]
fn over_the_old_transport_the_end_of_the_stream_ends_the_call() {
    const ASKS: &str = "test_input_required_result_elicitation";
    for (mode, isolation) in [("legacy", "none"), ("modern", "session")] {
        let heard = Overheard::new("", &["--isolation", isolation], mode);
        let mut sse = sse_with(&heard.gateway, "2025-06-18", everything());
        sse.post(&tool(7, ASKS, json!({})));
        let (question, path) = (sse.next(), sse.path.clone());
        drop(sse);
        let late = answer(&question["id"], named()).to_string();
        let ping = r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#;
        wait_until("the session to be gone", || heard.gateway.wire().post(&path, &[], ping).status == 404);
        assert_eq!(heard.gateway.wire().post(&path, &[], &late).status, 404);
        if mode == "legacy" {
            heard.wait_for_cancel(ASKS, 1);
        }
        let mut other = Client::sse(&heard.gateway, "2025-06-18", everything());
        assert_eq!(other.tool(ASKS, json!({}), |_| Answer::Result(named())).success(), "Hello, ada!", "{mode}");
        assert!(heard.calls(ASKS) <= 3, "{mode}: an answer that came too late sent the call again");
    }
}

// --- several calls ------------------------------------------------------------------------------

#[test]
fn two_calls_of_one_session_may_ask_at_once() {
    for (server, gateway, name) in servers() {
        if server == "legacy, shared" {
            continue; // there it cannot be told which call asks, see `asks_shared`
        }
        let session = gateway.session_with(REVISION, everything());
        // Of a server with a handshake, it cannot be told here either: the question is the client's
        // all the same, and comes on the stream that belongs to no call.
        let mut get = session.get(None);
        let name = if server == "demo" { name } else { "ask_later" };
        let mut streams: Vec<Stream> = (7..9).map(|id| session.stream(&tool(id, name, json!({"ms": 3000})))).collect();
        let asked: Vec<Value> = (0..2)
            .map(|n| match server {
                "legacy" => get.message().unwrap(),
                _ => streams[n].message().unwrap(),
            })
            .collect();
        for question in &asked {
            assert_eq!(question["method"], "elicitation/create", "{server}");
            assert_eq!(session.send(&answer(&question["id"], named())).status, 202);
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let last = up_to_answer(stream, 7 + n as u64).pop().unwrap();
            assert!(text(&last).contains("ada"), "{server}: {last}");
        }
    }
}

#[test]
fn a_call_in_a_batch_may_ask() {
    for (server, gateway) in [("legacy", Gateway::fixture(&[], &["legacy"])), ("modern", Gateway::fixture(&[], &["modern"]))] {
        let session = gateway.session_with("2025-03-26", everything());
        let batch = json!([tool(7, "test_sampling", json!({"prompt": "?"})), {"jsonrpc": "2.0", "id": 8, "method": "ping"}]);
        let mut stream = session.stream(&batch);
        let (mut texts, mut pong) = (Vec::new(), false);
        while let Some(message) = stream.message() {
            match (message["method"].as_str(), message["id"].as_u64()) {
                (Some(_), Some(_)) => {
                    let said = json!({"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"});
                    // Answers may come in batches too.
                    assert_eq!(session.send(&json!([answer(&message["id"], said)])).status, 202, "{server}");
                }
                (None, Some(7)) => texts.push(text(&message).to_owned()),
                (None, Some(8)) => pong = true,
                _ => {}
            }
        }
        assert_eq!((texts, pong), (vec!["LLM response: hi".to_owned()], true), "{server}");
    }
}

// --- broken streams -----------------------------------------------------------------------------

#[test]
fn a_client_that_comes_back_is_asked_again_and_gets_the_result() {
    for (server, gateway, name) in servers() {
        let session = gateway.session_with(REVISION, everything());
        let mut stream = session.stream(&tool(7, name, json!({})));
        let primed = stream.event().unwrap();
        assert_eq!(primed.data, "", "{server}");
        let first: Value = serde_json::from_str(&stream.event().unwrap().data).unwrap();
        assert_eq!(first["method"], "elicitation/create", "{server}");
        drop(stream);
        let mut resumed = session.get(primed.id.as_deref());
        assert_eq!(resumed.status, 200, "{server}");
        assert_eq!(resumed.message().unwrap(), first, "{server}");
        assert_eq!(session.send(&answer(&first["id"], named())).status, 202);
        let last = up_to_answer(&mut resumed, 7).pop().unwrap();
        assert!(text(&last).contains("ada"), "{server}: {last}");
        assert!(resumed.is_over(), "{server}");
    }
}

#[test]
fn a_client_that_answers_before_it_comes_back_gets_the_result() {
    for (server, gateway, name) in servers() {
        let session = gateway.session_with(REVISION, everything());
        let mut stream = session.stream(&tool(7, name, json!({})));
        stream.event().unwrap();
        let event = stream.event().unwrap();
        drop(stream);
        let question: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(session.send(&answer(&question["id"], named())).status, 202);
        let mut resumed = session.get(event.id.as_deref());
        let last = up_to_answer(&mut resumed, 7).pop().unwrap();
        assert!(text(&last).contains("ada"), "{server}: {last}");
    }
}

#[test]
fn a_client_that_left_is_asked_in_the_next_round_too() {
    for (server, gateway) in [("legacy", Gateway::fixture(&[], &["legacy"])), ("modern", Gateway::fixture(&[], &["modern"]))] {
        let session = gateway.session_with(REVISION, everything());
        let mut stream = session.stream(&tool(7, "test_input_required_result_multi_round", json!({})));
        stream.event().unwrap();
        let event = stream.event().unwrap();
        drop(stream);
        let question: Value = serde_json::from_str(&event.data).unwrap();
        assert_eq!(session.send(&answer(&question["id"], named())).status, 202);
        let mut resumed = session.get(event.id.as_deref());
        let second = resumed.message().unwrap();
        assert!(second["params"]["message"].as_str().unwrap().starts_with("Step 2"), "{server}: {second}");
        assert_eq!(session.send(&answer(&second["id"], accept(json!({"color": "red"})))).status, 202);
        let last = up_to_answer(&mut resumed, 7).pop().unwrap();
        assert!(text(&last).contains("ada") && text(&last).contains("red"), "{server}: {last}");
    }
}

#[test]
fn a_client_that_left_before_it_had_a_stream_is_not_asked() {
    for isolation in ["session", "none"] {
        let heard = Overheard::new("", &["--isolation", isolation], "legacy");
        let session = heard.gateway.session_with("2025-06-18", everything());
        let mut wire = heard.gateway.wire();
        wire.send("POST", "/mcp", &session.headers(), Some(&tool(7, "ask_later", json!({"ms": 300})).to_string()));
        wait_until("the call", || heard.calls("ask_later") == 1);
        drop(wire);
        wait_until("a refusal", || heard.count(|l| l["error"]["message"].as_str().is_some_and(|m| m.contains("cannot be asked"))) == 1);
        assert_eq!(heard.count(|l| l["method"] == "notifications/cancelled"), 0, "it runs on");
        echo(&session);
    }
}

#[test]
fn a_stateless_server_may_be_started_again_while_a_client_is_asked() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let session = gateway.session_with(REVISION, everything());
    let server = pid(&session);
    let (mut stream, question) = asked(&session, "test_input_required_result_request_state");
    signal(server, "KILL");
    wait_until("another server", || session.tool(9, "where_am_i", json!({}))["result"].is_object() && pid(&session) != server);
    assert_eq!(session.send(&answer(&question["id"], accept(json!({"ok": true})))).status, 202);
    let last = up_to_answer(&mut stream, 7).pop().unwrap();
    assert!(text(&last).starts_with("state-ok, action=accept"), "{last}");
    assert_ne!(pid(&session), server);
}

#[test]
fn a_server_that_dies_while_it_waits_for_an_answer_ends_the_call() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let session = gateway.session_with(REVISION, everything());
        let server = pid(&session);
        let (mut stream, question) = asked(&session, "test_input_required_result_elicitation");
        signal(server, "KILL");
        let last = up_to_answer(&mut stream, 7).pop().unwrap();
        assert!(last["error"]["message"].as_str().unwrap().contains("ended"), "{last}");
        assert_eq!(session.send(&answer(&question["id"], named())).status, 202);
        let mut client = Client::Streamable(session);
        let talk = client.tool("test_input_required_result_elicitation", json!({}), |_| Answer::Result(named()));
        assert_eq!(talk.success(), "Hello, ada!");
    }
}

// --- clients that read no stream ----------------------------------------------------------------

/// What a client that accepts only JSON is answered.
fn json_only(gateway: &Gateway, name: &str) -> Value {
    let session = gateway.session_with(REVISION, everything());
    let mut headers = session.headers();
    headers.push(("accept", "application/json"));
    let arguments = json!({"message": "?", "prompt": "?"});
    let said = gateway.wire().post("/mcp", &headers, &tool(7, name, arguments).to_string());
    assert_eq!((said.status, said.is_stream()), (200, false), "{}", said.text());
    said.json()
}

#[test]
fn a_client_that_reads_no_stream_is_not_asked_and_its_call_fails() {
    for (server, gateway, user) in servers() {
        let others =
            if server == "demo" { ["ask_model", "list_roots"] } else { ["test_sampling", "test_input_required_result_list_roots"] };
        let names = if server == "modern" { vec![] } else { vec![user] };
        for name in names.into_iter().chain(others) {
            let said = json_only(&gateway, name);
            assert_eq!(said["result"]["isError"], true, "{server}: {said}");
            assert!(text(&said).contains("cannot be asked"), "{server}: {said}");
        }
    }
}

// --- letters ------------------------------------------------------------------------------------

/// No parser and serializer would give these back as they are.
const ODD_QUESTION: &str = concat!(
    r#"{ "message":"\u0041\/\ud83d\ude00 é \"q\"","requestedSchema":{"type":"object","properties":{"n":{"type":"number","default":1.0,"#,
    r#""maximum":1e400,"x":-0.0,"big":123456789012345678901234567890}}},"zz":[ ],"aa":{"b":null,"a":1E+2} }"#
);
const ODD_ANSWER: &str = r#"{ "action":"accept","content":{"n":1.0,"m":1e400,"s":"\u0041\/\ud83d\ude00 é","big":123456789012345678901234567890},"zz":[ ],"aa":-0.0 }"#;
const ODD_STATE: &str = r#""s\u0041\/\ud83d\ude00""#;

/// A server with a handshake that asks exactly that, and shows the line it was answered with.
fn legacy_script() -> String {
    let hello = r#"{"jsonrpc":"2.0","id":"landbridge-initialize","result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}"#;
    let question = format!(r#"{{"jsonrpc":"2.0","id":"q\/1","method":"elicitation/create","params":{ODD_QUESTION}}}"#);
    format!(
        r#"while IFS= read -r l; do
        id=$(printf '%s' "$l" | grep -o '"id":[0-9]*' | head -n 1 | cut -d: -f2)
        case "$l" in
        *'"initialize"'*) printf '%s\n' '{hello}';;
        *'"tools/list"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"tools":[]}}}}\n' "$id";;
        *'"tools/call"'*) printf '%s\n' '{question}'
            IFS= read -r a
            printf '{{"jsonrpc":"2.0","id":%s,"result":{{"content":[],"structuredContent":%s}}}}\n' "$id" "$a";;
        esac
        done"#
    )
}

/// The same of 2026-07-28; it shows the line of the second round.
fn modern_script() -> String {
    let hello = r#"{"jsonrpc":"2.0","id":"landbridge-discover","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}}"#;
    let asked =
        format!(r#"{{"k\/\u00e9":{{ "method":"elicitation/create","params":{ODD_QUESTION}}}}},"requestState":{ODD_STATE},"zz":1.0"#);
    format!(
        r#"while IFS= read -r l; do
        id=$(printf '%s' "$l" | grep -o '"id":[0-9]*' | head -n 1 | cut -d: -f2)
        case "$l" in
        *'"server/discover"'*) printf '%s\n' '{hello}';;
        *'"tools/list"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}}}}\n' "$id";;
        *'"inputResponses"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"complete","content":[],"structuredContent":%s}}}}\n' "$id" "$l";;
        *'"tools/call"'*) printf '{{"jsonrpc":"2.0","id":%s,"result":{{"resultType":"input_required","inputRequests":%s}}}}\n' "$id" '{asked}';;
        esac
        done"#
    )
}

fn scripted(args: &[&str], script: &str) -> Gateway {
    let args: Vec<&str> = args.iter().copied().chain(["--", "sh", "-c", script]).collect();
    Gateway::start(&args)
}

/// The text of the next message of a stream.
fn raw(stream: &mut Stream) -> String {
    loop {
        let event = stream.event().unwrap();
        if !event.data.is_empty() {
            return event.data;
        }
    }
}

/// A session is asked, and answers, letter by letter; what its call comes to.
fn asked_to_the_letter(gateway: &Gateway) -> String {
    let session = gateway.session_with(REVISION, everything());
    let mut stream = session.stream(&tool(7, "t", json!({})));
    let question = raw(&mut stream);
    assert!(question.contains(&format!(r#""params":{ODD_QUESTION}"#)), "{question}");
    let id = serde_json::from_str::<Value>(&question.replace("1e400", "1").replace("123456789012345678901234567890", "1")).unwrap()["id"]
        .clone();
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{ODD_ANSWER}}}"#);
    assert_eq!(gateway.wire().post("/mcp", &session.headers(), &text).status, 202);
    raw(&mut stream)
}

#[test]
fn questions_and_answers_of_sessions_keep_their_letters() {
    for isolation in ["session", "none"] {
        let said = asked_to_the_letter(&scripted(&["--protocol", "legacy", "--isolation", isolation], &legacy_script()));
        assert!(said.contains(&format!(r#""structuredContent":{{"jsonrpc":"2.0","id":"q\/1","result":{ODD_ANSWER}}}"#)), "{said}");
    }
}

#[test]
fn questions_and_answers_between_a_session_and_a_stateless_server_keep_their_letters() {
    let said = asked_to_the_letter(&scripted(&["--protocol", "2026-07-28"], &modern_script()));
    assert!(said.contains(&format!(r#":{ODD_ANSWER}}},"requestState":{ODD_STATE}"#)), "{said}");
    let sent: Value = serde_json::from_str(&said.replace("1e400", "1")).unwrap();
    let sent = &sent["result"]["structuredContent"]["params"]["inputResponses"];
    assert!(sent["k/é"].is_object() && sent.as_object().unwrap().len() == 1, "{sent}");
}

/// A stateless client is asked, and answers, letter by letter; what its call comes to.
fn parked_to_the_letter(gateway: &Gateway) -> String {
    let first = post(gateway, "/mcp", 1, "tools/call", json!({"name": "t"}), &everything());
    assert_eq!(first.status, 200, "{}", first.text());
    let said = first.text();
    assert!(said.contains(&format!(r#""params":{ODD_QUESTION}"#)), "{said}");
    let between = |begin: &str, end: char| {
        let from = said.find(begin).unwrap() + begin.len();
        &said[from..from + said[from..].find(end).unwrap()]
    };
    let key = between(r#""inputRequests":{"#, ':');
    let state = between(r#""requestState":"#, ',');
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": everything(),
    });
    let retry = format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{{"name":"t","inputResponses":{{{key}:{ODD_ANSWER}}},"requestState":{state},"_meta":{meta}}}}}"#
    );
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "t")];
    let last = gateway.wire().post("/mcp", &headers, &retry);
    assert_eq!(last.status, 200, "{}", last.text());
    last.text()
}

#[test]
fn questions_and_answers_between_a_stateless_client_and_an_old_server_keep_their_letters() {
    for isolation in ["session", "none"] {
        let said = parked_to_the_letter(&scripted(&["--protocol", "legacy", "--isolation", isolation], &legacy_script()));
        assert!(said.contains(&format!(r#""structuredContent":{{"jsonrpc":"2.0","id":"q\/1","result":{ODD_ANSWER}}}"#)), "{said}");
    }
}

#[test]
fn questions_and_answers_of_the_stateless_era_keep_their_letters() {
    let said = parked_to_the_letter(&scripted(&["--protocol", "2026-07-28"], &modern_script()));
    assert!(said.contains(&format!(r#""inputResponses":{{"k\/\u00e9":{ODD_ANSWER}}},"requestState":{ODD_STATE}"#)), "{said}");
}

#[test]
fn nothing_of_the_hop_is_in_a_question_or_an_answer() {
    let heard = Overheard::new("", &[], "legacy");
    // A handshake server may name its question to us; that is not for the client.
    let mut client = Client::stateless(&heard.gateway, everything());
    let talk = client.tool("test_input_required_result_elicitation", json!({}), |q| {
        assert_eq!((&q["key"], q["params"].get("_meta")), (&json!("user_name"), None), "{q}");
        let mut answer = accept(json!({"name": "ada"}));
        answer["_meta"] = json!({"x": 1});
        Answer::Result(answer)
    });
    assert_eq!(talk.success(), "Hello, ada!");
    assert_eq!(heard.count(|l| l["result"]["action"] == "accept" && l["result"].get("_meta").is_none()), 1);
}
