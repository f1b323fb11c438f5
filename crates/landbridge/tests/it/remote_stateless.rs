//! Stateless servers elsewhere (2026-07-28): headers that repeat the body, and streams as servers write them.

use serde_json::{Value, json};

use crate::foreign::Foreign;

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}

/// A listing with one tool, whose parameter `region` is mirrored in the header of that name.
fn tools(header: &str) -> Value {
    json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": [{"name": "Grüße", "inputSchema": {"type": "object", "properties": {
        "region": {"type": "string", "x-mcp-header": header}}}}]})
}

#[test]
fn headers_repeat_what_is_in_the_body() {
    let far = Foreign::stateless(|heard, reply| match heard.what().as_str() {
        "tools/list" => reply.result(heard, tools("Region")),
        _ => reply.text(heard, "here"),
    });
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-06-18");
    let answer = session.tool(2, "Grüße", json!({"region": "são paulo"}));
    assert_eq!(text(&answer), "here");
    session.call(3, "resources/read", json!({"uri": "file:///a b"}));
    let call = far.wait_for("tools/call", 1);
    assert_eq!(call.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(call.header("mcp-method"), Some("tools/call"));
    assert_eq!(call.header("mcp-name"), Some("=?base64?R3LDvMOfZQ==?="));
    assert_eq!(call.header("mcp-param-region"), Some("=?base64?c8OjbyBwYXVsbw==?="));
    assert_eq!(call.header("mcp-session-id"), None);
    let read = far.wait_for("resources/read", 1);
    assert_eq!(read.header("mcp-name"), Some("file:///a b"));
}

#[test]
fn headers_that_a_server_does_not_agree_with_are_made_anew_once() {
    // Its tools have changed, and nobody was told.
    let listings = std::sync::atomic::AtomicU32::new(0);
    let far = Foreign::stateless(move |heard, reply| match heard.what().as_str() {
        "tools/list" if listings.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 => reply.result(heard, tools("Old")),
        "tools/list" => reply.result(heard, tools("New")),
        "tools/call" if heard.header("mcp-param-new").is_none() => reply.error(400, heard, -32020, "header mismatch"),
        "subscriptions/listen" => reply.empty(404),
        _ => reply.text(heard, "agreed"),
    });
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-06-18");
    assert_eq!(text(&session.tool(2, "Grüße", json!({"region": "x"}))), "agreed");
    assert_eq!((far.count("tools/list"), far.count("tools/call")), (2, 2));
}

#[test]
fn a_server_that_never_agrees_is_asked_twice() {
    let far = Foreign::stateless(|heard, reply| match heard.what().as_str() {
        "tools/list" => reply.result(heard, tools("Region")),
        _ => reply.error(400, heard, -32020, "header mismatch"),
    });
    let gateway = far.gateway("/mcp");
    let answer = gateway.session("2025-06-18").tool(2, "Grüße", json!({"region": "x"}));
    assert!(answer["error"]["message"].as_str().is_some_and(|m| m.contains("header mismatch")), "{answer}");
    assert_eq!(far.count("tools/call"), 2);
}

#[test]
fn a_client_that_leaves_withdraws_its_call_by_ending_it() {
    let (say, gone) = std::sync::mpsc::channel();
    let say = std::sync::Mutex::new(say);
    let far = Foreign::stateless(move |heard, reply| match heard.what().as_str() {
        "tools/list" => reply.result(heard, json!({"resultType": "complete", "tools": [], "ttlMs": 0, "cacheScope": "private"})),
        "tools/call" => {
            let mut events = reply.events();
            events.raw(": working\n\n");
            events.await_end();
            say.lock().unwrap().send(()).unwrap();
        }
        _ => reply.empty(404),
    });
    let gateway = far.gateway("/mcp");
    let stream = gateway.stateless_stream(2, "tools/call", json!({"name": "x"}));
    drop(stream);
    gone.recv_timeout(std::time::Duration::from_secs(20)).expect("the end of the call");
    assert_eq!(far.count("notifications/cancelled"), 0);
}

/// The same answer in every framing, piece by piece as it is written.
fn framings(id: &Value) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let content = r#"{"resultType":"complete","content":[{"type":"text","text":"grüße ☂"}]}"#;
    let whole = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{content}}}"#);
    let bytes = whole.as_bytes();
    let in_umlaut = whole.find('ü').unwrap() + 1;
    let (left, right) = whole.split_at(whole.find(r#""result""#).unwrap());
    vec![
        ("plain", vec![format!("data: {whole}\n\n").into_bytes()]),
        ("no space", vec![format!("data:{whole}\n\n").into_bytes()]),
        ("bom", vec![format!("\u{feff}data: {whole}\n\n").into_bytes()]),
        ("bare carriage returns", vec![format!(": hi\rdata: {whole}\r\r").into_bytes()]),
        ("crlf", vec![format!("event: message\r\ndata: {whole}\r\n\r\n").into_bytes()]),
        ("several lines", vec![format!("data: {left}\ndata: {right}\n\n").into_bytes()]),
        ("unknown fields", vec![format!("colour: red\nretry: soon\nid: a\0b\ndata: {whole}\nempty\n\n").into_bytes()]),
        ("other events", vec![format!("event: ping\ndata: {{}}\n\nevent: message\ndata: {whole}\n\n").into_bytes()]),
        ("split in a letter", vec![[b"data: ", &bytes[..in_umlaut]].concat(), [&bytes[in_umlaut..], b"\n\n"].concat()]),
        ("byte by byte", format!("data: {whole}\r\n\r\n").bytes().map(|byte| vec![byte]).collect()),
        ("an empty event first", vec![format!("id: 1\ndata:\n\ndata: {whole}\n\n").into_bytes()]),
    ]
}

#[test]
fn every_legal_framing_is_read() {
    for (n, (name, _)) in framings(&Value::Null).into_iter().enumerate() {
        for media in ["text/event-stream", "Text/Event-Stream; charset=UTF-8"] {
            let far = Foreign::stateless(move |heard, reply| {
                let mut events = reply.events_as(media);
                for piece in framings(&heard.json()["id"]).swap_remove(n).1 {
                    events.raw(piece);
                    std::thread::yield_now();
                }
                events.await_end();
            });
            let gateway = far.gateway("/mcp");
            let answer = gateway.stateless(2, "prompts/get", json!({"name": "x"})).json();
            assert_eq!(text(&answer), "grüße ☂", "{name}, {media}");
        }
    }
}

#[test]
fn an_answer_that_is_too_large_fails_its_call_and_no_other() {
    let far = Foreign::stateless(|heard, reply| {
        let name = heard.json()["params"]["name"].as_str().unwrap_or_default().to_owned();
        let size = if name.ends_with("large") { 3_000_000 } else { 900_000 };
        let result = json!({"resultType": "complete", "content": [{"type": "text", "text": "x".repeat(size)}]});
        match name.starts_with("events") {
            true => {
                reply.events().message(&json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": result}));
            }
            false => reply.result(heard, result),
        }
    });
    let file = crate::gateway::config_file(&format!("[limits]\nmessage_bytes = 1000000\n[servers.far]\nurl = \"{}\"\n", far.url("/mcp")));
    let gateway = crate::gateway::Gateway::start(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    for how in ["json", "events"] {
        let call = |size: &str| gateway.stateless(2, "prompts/get", json!({"name": format!("{how} {size}")})).json();
        let message = call("large")["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("larger than the limit") || message.contains("1000000"), "{how}: {message}");
        assert_eq!(text(&call("small")).len(), 900_000, "{how}");
    }
}

#[test]
fn a_tool_whose_headers_are_invalid_is_left_out_where_calls_would_carry_them() {
    let tool = |name: &str, header: &str| json!({"name": name, "inputSchema": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": header}}}});
    let listing = json!({"resultType": "complete", "ttlMs": 0, "cacheScope": "private",
        "tools": [tool("good", "Region"), tool("bad", "no colon: here"), tool("empty", "")]});
    let far = Foreign::stateless(move |heard, reply| reply.result(heard, listing.clone()));
    let gateway = far.gateway("/mcp");
    for listed in [gateway.session("2025-06-18").call(2, "tools/list", json!({})), gateway.stateless(2, "tools/list", json!({})).json()] {
        let names: Vec<&str> = listed["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["good"], "{listed}");
    }
    gateway.wait_for_log("left out of the listing");
}
