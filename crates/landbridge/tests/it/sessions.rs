//! Streamable HTTP of the handshake era.

use serde_json::{Value, json};

use crate::gateway::{Gateway, Session, slow, tool, up_to_answer};
use crate::wire::{Response, Stream};

const HANDSHAKES: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[track_caller]
fn assert_refused(response: &Response, status: u16, code: i64, id: Value) {
    let said = response.json();
    assert_eq!((response.status, &said["error"]["code"], &said["id"]), (status, &json!(code), &id), "{said}");
}

// --- Streamable HTTP: the session ---------------------------------------------------------------

#[test]
fn every_revision_over_every_transport_calls_a_tool() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        for revision in HANDSHAKES {
            let session = gateway.session(revision);
            let said = session.tool(2, "echo", json!({"message": "hällo"}));
            assert_eq!(said["result"]["content"][0]["text"], "hällo", "{mode} {revision}");
            assert!(said["result"].get("resultType").is_none());
            let mut sse = gateway.sse(revision);
            let said = sse.call(2, "tools/call", json!({"name": "echo", "arguments": {"message": "hällo"}}));
            assert_eq!(said["result"]["content"][0]["text"], "hällo", "{mode} {revision} over sse");
        }
        let said = gateway.stateless(9, "tools/call", json!({"name": "echo", "arguments": {"message": "hällo"}}));
        assert_eq!((said.status, said.is_stream()), (200, false));
        assert_eq!(said.json()["result"]["resultType"], "complete");
        assert_eq!(said.json()["result"]["content"][0]["text"], "hällo");
    }
}

#[test]
fn an_unknown_revision_gets_the_newest_with_a_handshake() {
    let gateway = Gateway::start(&[]);
    for (asked, given) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        ("1.0", "2025-11-25"),
    ] {
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
        let said = gateway.wire().post("/mcp", &[], &hello.to_string());
        assert_eq!((said.status, &said.json()["result"]["protocolVersion"]), (200, &json!(given)), "{asked}");
        let id = said.header("mcp-session-id").unwrap();
        assert!(id.len() >= 32 && id.bytes().all(|b| b.is_ascii_graphic()), "{id}");
    }
}

#[test]
fn a_session_that_is_missing_or_dead_is_refused_with_the_id() {
    let gateway = Gateway::start(&[]);
    let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}).to_string();
    assert_refused(&gateway.wire().post("/mcp", &[], &ping), 400, -32000, json!("p"));
    let strangers = ["0123456789abcdef0123456789abcdef", "nobody", "0123456789ABCDEF0123456789ABCDEF"];
    for stranger in strangers {
        assert_refused(&gateway.wire().post("/mcp", &[("mcp-session-id", stranger)], &ping), 404, -32001, json!("p"));
        for method in ["GET", "DELETE"] {
            let headers = [("mcp-session-id", stranger), ("accept", "text/event-stream")];
            assert_refused(&gateway.wire().request(method, "/mcp", &headers, None), 404, -32001, Value::Null);
        }
    }
    let session = gateway.session("2025-06-18");
    let mut open = session.get(None);
    assert!((200..300).contains(&session.delete().status));
    assert!(open.is_over(), "the end of a session ends its streams");
    assert_refused(&session.send(&json!({"jsonrpc": "2.0", "id": 5, "method": "ping"})), 404, -32001, json!(5));
    assert_refused(&session.delete(), 404, -32001, Value::Null);
    assert_eq!(gateway.wire().request("DELETE", "/mcp", &[], None).status, 400);
}

#[test]
fn what_http_says_wrong_is_refused_by_its_status() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session("2025-06-18");
    let ping = json!({"jsonrpc": "2.0", "id": 4, "method": "ping"}).to_string();
    let with = |name, value| gateway.wire().post("/mcp", &[("mcp-session-id", session.id.as_str()), (name, value)], &ping);
    assert_eq!(with("accept", "text/html").status, 406);
    assert_eq!(with("content-type", "text/plain").status, 415);
    for version in ["2026-07-28", "2024-11-06", "latest", ""] {
        let said = with("mcp-protocol-version", version);
        assert_eq!((said.status, &said.json()["id"]), (400, &json!(4)), "{version:?}");
    }
    assert_eq!(with("mcp-protocol-version", "2025-06-18").status, 200);
    for method in ["PUT", "PATCH"] {
        assert_eq!(gateway.wire().request(method, "/mcp", &session.headers(), None).status, 405, "{method}");
    }
    let no_events = gateway.wire().request("GET", "/mcp", &[("mcp-session-id", session.id.as_str()), ("accept", "application/json")], None);
    assert_eq!(no_events.status, 405);
    assert_refused(&gateway.wire().post("/mcp", &session.headers(), "{\"jsonrpc\":"), 400, -32700, Value::Null);
    assert_refused(&gateway.wire().post("/mcp", &session.headers(), r#"{"jsonrpc":"1.0","id":3,"method":"ping"}"#), 400, -32600, json!(3));
}

#[test]
fn a_refused_http_method_says_which_are_allowed() {
    let gateway = Gateway::start(&[]);
    for (method, path, allowed) in
        [("PUT", "/mcp", vec!["POST", "GET", "DELETE"]), ("POST", "/sse", vec!["GET"]), ("GET", "/messages", vec!["POST"])]
    {
        let said = gateway.wire().request(method, path, &[], (method == "POST").then_some("{}"));
        assert_eq!(said.status, 405, "{method} {path}");
        let mut named: Vec<&str> = said.header("allow").unwrap_or("").split(',').map(str::trim).collect();
        let mut allowed = allowed;
        named.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(named, allowed, "{method} {path}");
    }
}

#[test]
fn an_error_that_answers_a_request_is_an_answer() {
    for gateway in [Gateway::start(&[]), Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&[], &["modern"])] {
        let session = gateway.session("2025-11-25");
        assert_eq!(session.call(2, "tools/call", json!({"name": "nobody"}))["error"]["code"], -32602);
        assert_eq!(session.call(3, "no/such", json!({}))["error"]["code"], -32601);
        assert_eq!(session.call(4, "server/discover", json!({}))["error"]["code"], -32601);
        let missing = &session.call(5, "resources/read", json!({"uri": "no://where"}))["error"];
        assert!([-32602, -32002].contains(&missing["code"].as_i64().unwrap()), "{missing}");
        assert_eq!(missing["data"]["uri"], "no://where");
    }
}

#[test]
fn pings_completions_and_levels_are_answered() {
    for (gateway, reference) in [
        (Gateway::start(&[]), json!({"type": "ref/prompt", "name": "greet"})),
        (Gateway::fixture(&[], &["legacy"]), json!({"type": "ref/prompt", "name": "test_prompt_with_arguments"})),
        (Gateway::fixture(&[], &["modern"]), json!({"type": "ref/prompt", "name": "test_prompt_with_arguments"})),
    ] {
        let session = gateway.session("2025-11-25");
        assert_eq!(session.call(2, "ping", json!({}))["result"], json!({}));
        let argument =
            if reference["name"] == "greet" { json!({"name": "style", "value": "f"}) } else { json!({"name": "arg1", "value": "par"}) };
        let values =
            session.call(3, "completion/complete", json!({"ref": reference, "argument": argument}))["result"]["completion"]["values"]
                .clone();
        assert!(values.as_array().unwrap().len() >= 2, "{values}");
        assert_eq!(session.call(4, "logging/setLevel", json!({"level": "loud"}))["error"]["code"], -32602);
        assert_eq!(session.call(5, "logging/setLevel", json!({"level": "warning"}))["result"], json!({}));
    }
}

#[test]
fn a_session_hears_logs_from_the_level_it_set() {
    for (gateway, loud) in [
        (Gateway::start(&[]), "log"),
        (Gateway::fixture(&[], &["legacy"]), "test_logging_tool"),
        (Gateway::fixture(&[], &["modern"]), "test_logging_tool"),
    ] {
        let session = gateway.session("2025-06-18");
        for (level, heard) in [("error", 0), ("info", 1)] {
            session.call(2, "logging/setLevel", json!({"level": level}));
            let said = session.send(&tool(3, loud, json!({}))).messages();
            let logs: Vec<&Value> = said.iter().filter(|m| m["method"] == "notifications/message").collect();
            assert_eq!(logs.len(), heard, "{level}: {said:?}");
            assert!(logs.iter().all(|l| l["params"]["level"] == "info"));
        }
    }
}

#[test]
fn the_same_id_in_two_sessions_means_two_calls() {
    for gateway in [Gateway::start(&[]), Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&[], &["modern"])] {
        let sessions = [gateway.session("2025-06-18"), gateway.session("2025-06-18")];
        let mut streams: Vec<Stream> = (0..2).map(|n| sessions[n].stream(&slow(7, 2 + n as u64, 30))).collect();
        for (n, stream) in streams.iter_mut().enumerate() {
            let said = up_to_answer(stream, 7);
            assert_eq!(said.len(), 2 + n + 1, "{said:?}");
            assert!(said[..said.len() - 1].iter().all(|m| m["params"]["progressToken"] == 7 && m["params"]["total"] == 2 + n));
            assert!(stream.is_over());
        }
    }
}

// --- Streamable HTTP: changes, cancellation -----------------------------------------------------

/// A session's GET stream hears of lists, and of the resource it subscribed to as long as it did.
/// A gateway whose keepalive never comes within a test: what is not told at once is not told.
fn unhurried(mode: &[&str]) -> Gateway {
    Gateway::limited("keepalive_ms = 3600000", mode)
}

fn hears_of_changes(gateway: &Gateway, change: &str, touch: &str, uri: &str) {
    let session = gateway.session("2025-11-25");
    let mut stream = session.get(None);
    // Something comes at once, so that no proxy holds the head back: here the priming event.
    assert_eq!(stream.event().unwrap().data, "");
    let next = |stream: &mut Stream| {
        let event = stream.event_or_comment().expect("a change");
        assert_ne!(event.name, ":", "nothing came until the keepalive did");
        let message: Value = serde_json::from_str(&event.data).unwrap();
        assert!(message["params"]["_meta"].get("io.modelcontextprotocol/subscriptionId").is_none(), "{message}");
        (message["method"].as_str().unwrap().to_owned(), message["params"]["uri"].clone())
    };
    let list = ("notifications/tools/list_changed".to_owned(), Value::Null);
    // A stateless server tells those who listen, and is asked to when the stream is there.
    session.call(2, "resources/subscribe", json!({"uri": "file:///other"}));
    session.tool(2, change, json!({}));
    assert_eq!(next(&mut stream), list);
    session.tool(3, touch, json!({}));
    assert_eq!(session.call(4, "resources/subscribe", json!({"uri": uri}))["result"], json!({}));
    session.tool(5, touch, json!({}));
    assert_eq!(next(&mut stream), ("notifications/resources/updated".to_owned(), json!(uri)));
    assert_eq!(session.call(6, "resources/unsubscribe", json!({"uri": uri}))["result"], json!({}));
    session.tool(7, touch, json!({}));
    session.tool(8, change, json!({}));
    assert_eq!(next(&mut stream), list);
}

#[test]
fn the_get_stream_tells_of_changes_at_the_demo() {
    hears_of_changes(&unhurried(&[]), "toggle", "touch", "demo://counter");
}

#[test]
fn the_get_stream_tells_of_changes_at_a_handshake_server() {
    hears_of_changes(&unhurried(&["legacy"]), "test_trigger_tool_change", "touch_watched", landbridge_fixtures::WATCHED_URI);
}

#[test]
fn the_get_stream_tells_of_changes_at_a_stateless_server() {
    hears_of_changes(&unhurried(&["modern"]), "test_trigger_tool_change", "touch_watched", landbridge_fixtures::WATCHED_URI);
}

#[test]
fn a_second_get_takes_the_stream_over() {
    let gateway = Gateway::start(&[]);
    let session = gateway.session("2025-06-18");
    let mut old = session.get(None);
    let mut new = session.get(None);
    assert!(old.is_over());
    session.tool(2, "toggle", json!({}));
    assert_eq!(new.message().unwrap()["method"], "notifications/tools/list_changed");
}

#[test]
fn a_cancelled_call_is_answered() {
    for gateway in [Gateway::start(&[]), Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&[], &["modern"])] {
        let session = gateway.session("2025-06-18");
        let mut stream = session.stream(&slow(7, 500, 20));
        assert!(stream.message().unwrap()["params"]["progress"].is_number());
        let withdrawn = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}});
        assert_eq!(session.send(&withdrawn).status, 202);
        let answer = up_to_answer(&mut stream, 7).pop().unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains("cancelled"), "{answer}");
        assert!(stream.is_over());
        assert_eq!(session.tool(8, "echo", json!({"message": "on"}))["result"]["content"][0]["text"], "on");
    }
}

// --- Streamable HTTP: batches -------------------------------------------------------------------

fn batch(session: &Session<'_>, messages: &[Value]) -> Response {
    session.send(&Value::from(messages.to_vec()))
}

#[test]
fn a_batch_is_answered_as_an_array() {
    for gateway in [Gateway::start(&[]), Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&[], &["modern"])] {
        let session = gateway.session("2025-03-26");
        let note = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
        let ping = json!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
        let said = batch(&session, &[tool(2, "echo", json!({"message": "a"})), note.clone(), ping, tool(3, "nobody", json!({}))]);
        assert_eq!((said.status, said.is_stream()), (200, false));
        let all = said.json();
        let of = |id: Value| all.as_array().unwrap().iter().find(|m| m["id"] == id).unwrap_or_else(|| panic!("{all}"));
        assert_eq!(all.as_array().unwrap().len(), 3);
        assert_eq!(of(json!(2))["result"]["content"][0]["text"], "a");
        assert_eq!(of(json!("p"))["result"], json!({}));
        assert_eq!(of(json!(3))["error"]["code"], -32602);
        assert_eq!(batch(&session, &[tool(4, "echo", json!({"message": "one"}))]).json().as_array().unwrap().len(), 1);
        let quiet = batch(&session, &[note.clone(), note]);
        assert_eq!((quiet.status, quiet.body.len()), (202, 0));
    }
}

#[test]
fn a_batch_with_progress_is_answered_as_a_stream() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session("2025-03-26");
    let said = batch(&session, &[slow(2, 2, 10), slow(3, 3, 10)]);
    assert!(said.is_stream());
    let messages = said.messages();
    for (id, steps) in [(2, 2), (3, 3)] {
        assert_eq!(messages.iter().filter(|m| m["params"]["progressToken"] == id).count(), steps);
        assert_eq!(messages.iter().filter(|m| m["id"] == id && m["result"].is_object()).count(), 1, "{messages:?}");
    }
}

#[test]
fn batches_are_refused_where_they_have_no_place() {
    let gateway = Gateway::start(&[]);
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    for revision in HANDSHAKES.into_iter().filter(|r| *r != "2025-03-26") {
        assert_refused(&batch(&gateway.session(revision), std::slice::from_ref(&ping)), 400, -32600, Value::Null);
    }
    let session = gateway.session("2025-03-26");
    assert_refused(&batch(&session, &[]), 400, -32600, Value::Null);
    assert_refused(
        &batch(&session, &[ping.clone(), json!({"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {}})]),
        400,
        -32600,
        Value::Null,
    );
    assert_refused(&batch(&session, &[ping, json!([])]), 400, -32600, Value::Null);
}

// --- Streamable HTTP: questions -----------------------------------------------------------------

fn answer(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

#[test]
fn a_tool_asks_the_user_in_the_middle_of_its_call() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session_with("2025-06-18", json!({"elicitation": {}}));
    let mut stream = session.stream(&tool(7, "test_elicitation", json!({"message": "Who?"})));
    let asked = stream.message().unwrap();
    assert_eq!((&asked["method"], &asked["params"]["message"]), (&json!("elicitation/create"), &json!("Who?")));
    let content = json!({"action": "accept", "content": {"username": "ada", "email": "a@b"}});
    assert_eq!(session.send(&answer(&asked["id"], content)).status, 202);
    let said = up_to_answer(&mut stream, 7).pop().unwrap();
    let text = said["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("action=accept") && text.contains("ada"), "{text}");
    assert!(stream.is_over());
}

#[test]
fn a_user_who_refuses_is_told_to_the_tool() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session_with("2025-11-25", json!({"elicitation": {}}));
    let mut stream = session.stream(&tool(7, "test_elicitation", json!({"message": "Who?"})));
    let asked = stream.message().unwrap();
    let error = json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -1, "message": "no user here"}});
    assert_eq!(session.send(&error).status, 202);
    let said = up_to_answer(&mut stream, 7).pop().unwrap();
    assert_eq!(said["result"]["isError"], true);
    assert!(said["result"]["content"][0]["text"].as_str().unwrap().contains("no user here"), "{said}");
}

#[test]
fn two_sessions_are_asked_under_ids_of_their_own() {
    let gateway = Gateway::start(&[]);
    let sessions = [0, 1].map(|_| gateway.session_with("2025-11-25", json!({"elicitation": {}})));
    let mut streams: Vec<Stream> =
        sessions.iter().zip(["a", "b"]).map(|(s, q)| s.stream(&tool(7, "ask_user", json!({"question": q})))).collect();
    let asked: Vec<Value> = streams.iter_mut().map(|s| s.message().unwrap()).collect();
    assert_eq!(asked[0]["id"], asked[1]["id"], "each session counts for itself, whatever the server's ids are");
    // An answer to no question, and a second answer to one, are taken and change nothing.
    assert_eq!(sessions[0].send(&answer(&json!(99), json!({}))).status, 202);
    for at in [1, 0] {
        assert_eq!(asked[at]["params"]["message"], ["a", "b"][at]);
        for reply in ["first", "second"] {
            let content = json!({"action": "accept", "content": {"answer": format!("{reply} to {at}")}});
            assert_eq!(sessions[at].send(&answer(&asked[at]["id"], content)).status, 202);
        }
        let said = up_to_answer(&mut streams[at], 7).pop().unwrap();
        assert!(said["result"]["content"][0]["text"].as_str().unwrap().contains(&format!("first to {at}")), "{said}");
    }
}

#[test]
fn a_client_without_the_capability_is_not_asked() {
    for (gateway, asking, arguments) in
        [(Gateway::start(&[]), "ask_user", json!({})), (Gateway::fixture(&[], &["legacy"]), "test_elicitation", json!({"message": "?"}))]
    {
        let session = gateway.session("2025-11-25");
        let mut headers = session.headers();
        headers.push(("accept", "text/event-stream"));
        let call = tool(7, asking, arguments).to_string();
        let first = gateway.wire().open("POST", "/mcp", &headers, Some(&call)).message().unwrap();
        assert_eq!((&first["id"], &first["result"]["isError"]), (&json!(7), &json!(true)), "{first}");
    }
}
