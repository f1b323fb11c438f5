//! What passes through passes byte for byte: nothing here looks at parsed JSON where the bytes
//! are the point.

use landbridge_fixtures::{ODD_RESULT, ODD_RESULT_STATELESS};
use serde_json::{Value, json};

use crate::gateway::{Gateway, meta};
use crate::wire::Response;

/// Arguments that a parser and a serializer would not give back as they were.
const ODD_ARGUMENTS: &str = concat!(
    r#"{ "zeta":1.0,"big":123456789012345678901234567890,"huge":1e400,"alpha":[ ],"zero":-0.0 ,"exp":1E+2,"#,
    r#""\u00e9":"\u0041\/\ud83d\ude00 é \u2028","nested":{"b":{},"a":null},"text":"line\nbreak \"quoted\" </script>"}"#
);

/// The raw text of the one message in a response.
fn raw(response: &Response) -> String {
    assert_eq!(response.status, 200, "{}", response.text());
    if !response.is_stream() {
        return response.text();
    }
    let events: Vec<_> = crate::wire::events(&response.text()).into_iter().filter(|e| !e.data.is_empty()).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    events[0].data.clone()
}

/// Calls a tool as a client of every kind; what each read, as it came.
fn everybody(gateway: &Gateway, tool: &str, arguments: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let call = |meta: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{{meta}"name":"{tool}","arguments":{arguments}}}}}"#)
    };
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let session = gateway.session(revision);
        for accept in ["application/json, text/event-stream", "text/event-stream"] {
            let mut headers = session.headers();
            headers.push(("accept", accept));
            let said = gateway.wire().post("/mcp", &headers, &call(""));
            all.push((format!("{revision}, {accept}"), raw(&said)));
        }
        let mut sse = gateway.sse(revision);
        assert_eq!(gateway.wire().post(&sse.path, &[], &call("")).status, 202);
        all.push((format!("{revision} over sse"), sse.stream.event().unwrap().data));
    }
    let stateless = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", tool)];
    for accept in ["application/json, text/event-stream", "text/event-stream"] {
        let mut headers = stateless.to_vec();
        headers.push(("accept", accept));
        let said = gateway.wire().post("/mcp", &headers, &call(&format!("\"_meta\":{},", meta())));
        all.push((format!("2026-07-28, {accept}"), raw(&said)));
    }
    all
}

fn is_stateless(kind: &str) -> bool {
    kind.starts_with("2026")
}

#[test]
fn arguments_reach_the_server_as_they_were_written() {
    for mode in ["legacy", "modern"] {
        for (kind, said) in everybody(&Gateway::fixture(&[], &[mode]), "verbatim", ODD_ARGUMENTS) {
            let text = Value::from(ODD_ARGUMENTS).to_string();
            let (content, structured) = (format!(r#""text":{text}}}]"#), format!(r#""structuredContent":{ODD_ARGUMENTS}"#));
            assert!(said.contains(&content) && said.contains(&structured), "{mode}, {kind}: {said}");
        }
    }
}

#[test]
fn a_result_reaches_the_client_as_it_was_written() {
    let complete = ODD_RESULT.replacen('{', r#"{"resultType":"complete","#, 1).replacen(
        r#""_meta":{"#,
        r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"mcp-fixture","version":"1.0.0"},"#,
        1,
    );
    for (mode, to_stateless) in [("legacy", complete.as_str()), ("modern", ODD_RESULT_STATELESS)] {
        for (kind, said) in everybody(&Gateway::fixture(&[], &[mode]), "odd_result", "{}") {
            let result = if is_stateless(&kind) { to_stateless } else { ODD_RESULT };
            assert_eq!(said, format!(r#"{{"jsonrpc":"2.0","id":7,"result":{result}}}"#), "{mode}, {kind}");
        }
    }
}

#[test]
fn a_large_text_arrives_whole() {
    let text = landbridge_fixtures::growth(300_000);
    for mode in ["legacy", "modern"] {
        for (kind, said) in everybody(&Gateway::fixture(&[], &[mode]), "grow", r#"{"bytes":300000}"#) {
            assert!(said.contains(&format!("\"{text}\"")), "{mode}, {kind}: {} bytes", said.len());
        }
    }
}

#[test]
fn old_clients_get_text_for_what_they_cannot_show() {
    for mode in ["legacy", "modern"] {
        for (kind, said) in everybody(&Gateway::fixture(&[], &[mode]), "audio_and_link", "{}") {
            let said: Value = serde_json::from_str(&said).unwrap();
            let types: Vec<&str> = said["result"]["content"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
            let expected = match &kind[..10] {
                "2024-11-05" => ["text", "text"],
                "2025-03-26" => ["audio", "text"],
                _ => ["audio", "resource_link"],
            };
            assert_eq!(types, expected, "{mode}, {kind}");
            let link = &said["result"]["content"][1];
            assert!(link.to_string().contains(landbridge_fixtures::STATIC_TEXT_URI), "{link}");
        }
    }
}

// --- errors -------------------------------------------------------------------------------------

#[test]
fn an_error_keeps_its_data() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let (code, for_stateless) = if mode == "legacy" { (-32002, -32602) } else { (-32602, -32602) };
        let error = |code: i64| format!(r#""error":{{"code":{code},"message":"Resource not found","data":{{"uri":"no://where"}}}}}}"#);
        let session = gateway.session("2025-11-25");
        let read = json!({"jsonrpc": "2.0", "id": 7, "method": "resources/read", "params": {"uri": "no://where"}});
        assert_eq!(session.send(&read).text(), format!(r#"{{"jsonrpc":"2.0","id":7,{}"#, error(code)));
        let said = gateway.stateless(8, "resources/read", json!({"uri": "no://where"}));
        assert_eq!(said.text(), format!(r#"{{"jsonrpc":"2.0","id":8,{}"#, error(for_stateless)));
    }
}

#[test]
fn a_code_of_one_hop_does_not_travel_to_another_era() {
    let data = json!({"requiredCapabilities": {"sampling": {}}});
    let call = json!({"name": "test_missing_capability"});
    // To a stateless client it is the same whether its server says so or only asks.
    for mode in ["modern", "legacy"] {
        let said = Gateway::fixture(&[], &[mode]).stateless(7, "tools/call", call.clone());
        let error = &said.json()["error"];
        assert_eq!((said.status, &error["code"], &error["data"]), (400, &json!(-32021), &data), "{mode}");
    }
    // A session's revisions have no such code; the model may read of it in the result.
    let said = Gateway::fixture(&[], &["modern"]).session("2025-11-25").call(7, "tools/call", call);
    assert_eq!(said["result"]["isError"], true, "{said}");
    let told = said["result"]["content"][0]["text"].as_str().unwrap();
    assert!(told.contains("`sampling`") && !said.to_string().contains("-32021"), "{said}");
}

// --- envelopes ----------------------------------------------------------------------------------

#[test]
fn an_id_comes_back_as_it_was_written() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let session = gateway.session("2025-06-18");
        let mut sse = gateway.sse("2024-11-05");
        for id in ["0", "-1", "9007199254740993", "123456789012345678901234567890", r#""""#, r#""\u00e9\/\"\n""#, r#""1""#, r#""日本""#] {
            let call = format!(r#"{{"id":{id},"jsonrpc":"2.0","method":"tools/list"}}"#);
            let begin = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"#);
            let said = gateway.wire().post("/mcp", &session.headers(), &call);
            assert!(said.text().starts_with(&begin), "{mode} {id}: {}", said.text());
            gateway.wire().post(&sse.path, &[], &call);
            assert!(sse.stream.event().unwrap().data.starts_with(&begin), "{mode} {id}");
            let call = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list","params":{{"_meta":{}}}}}"#, meta());
            let said = gateway.wire().post("/mcp", &[("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")], &call);
            assert!(said.text().starts_with(&begin), "{mode} {id}: {}", said.text());
            let said = gateway.wire().post("/mcp", &[("mcp-protocol-version", "2026-07-28")], &call);
            assert!(said.text().contains(&format!(r#""id":{id},"error""#)), "a refusal too: {}", said.text());
        }
    }
}

#[test]
fn a_progress_token_comes_back_as_it_was_written() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let session = gateway.session("2025-06-18");
        for token in ["12345678901234567890123", r#""\u00e9\/""#, "-3"] {
            let params = format!(r#"{{"name":"slow","arguments":{{"steps":1}},"_meta":{{"progressToken":{token}}}}}"#);
            let call = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{params}}}"#);
            let said = gateway.wire().post("/mcp", &session.headers(), &call).text();
            assert!(said.contains(&format!(r#""progressToken":{token},"#)), "{mode}: {said}");
        }
    }
}

#[test]
fn line_breaks_between_tokens_do_no_harm() {
    let arguments = "{\r\n  \"a\" : [\n1,\r\n\t2 ]\n}";
    for mode in ["legacy", "modern"] {
        for (kind, said) in everybody(&Gateway::fixture(&[], &[mode]), "verbatim", arguments) {
            // They become spaces: on a pipe they would end the message.
            let passed = arguments.replace(['\r', '\n'], " ");
            assert!(said.contains(&format!(r#""structuredContent":{passed}"#)), "{mode}, {kind}: {said}");
        }
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let session = gateway.session("2025-06-18");
    let post = |body: &str| {
        let said = gateway.wire().post("/mcp", &session.headers(), body);
        (said.status, said.json()["error"]["code"].as_i64().unwrap(), said.json()["id"].clone())
    };
    for (body, code) in [
        (r#"{"jsonrpc":"2.0","id":3,"method":"ping","method":"tools/list"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":3,"method":"ping","m\u0065thod":"tools/list"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"echo","name":"die"}}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{"_meta":{"progressToken":1,"progressToken":2}}}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":3,"method":"ping"} {}"#, -32700),
        (r#"{"jsonrpc":"2.0","id":3,"method":"ping"}}"#, -32700),
    ] {
        assert_eq!(post(body), (400, code, json!(3)), "{body}");
    }
    let not_utf8 = b"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"\xff\"}";
    let mut wire = gateway.wire();
    wire.send("POST", "/mcp", &[("content-type", "application/json"), ("content-length", &not_utf8.len().to_string())], None);
    wire.write(not_utf8);
    assert_eq!(wire.response().status, 400);
}
