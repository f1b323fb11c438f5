//! Tools that are kept from clients: `tools.allow` and `tools.deny`.

use serde_json::{Value, json};

use crate::gateway::{Gateway, config_file};

/// In front of one server that is written so, with this filter.
fn filtered(server: &str, filter: &str) -> Gateway {
    let file = config_file(&format!("[servers.one]\n{server}\n{filter}\n"));
    let gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    gateway
}

fn names(listing: &Value) -> Vec<&str> {
    listing["result"]["tools"].as_array().unwrap_or_else(|| panic!("{listing}")).iter().map(|t| t["name"].as_str().unwrap()).collect()
}

fn is_unknown(answer: &Value, tool: &str) {
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(answer["error"]["message"], format!("Unknown tool: {tool}"), "{answer}");
}

#[test]
fn what_is_kept_back_is_in_no_listing_and_cannot_be_called() {
    let fixture = landbridge_fixtures::binary();
    let child = |mode: &str| format!("command = {:?}\nargs = [{mode:?}]", fixture.to_str().unwrap());
    for server in ["demo = true".to_owned(), child("legacy"), child("modern")] {
        let gateway = filtered(&server, "tools.allow = [\"echo\", \"s*\", \"log\"]\ntools.deny = [\"log\"]");
        let mut sse = gateway.sse("2024-11-05");
        let session = gateway.session("2025-11-25");
        let list = |params: Value| gateway.stateless(3, "tools/list", params).json();
        for listing in [sse.call(2, "tools/list", json!({})), session.call(2, "tools/list", json!({})), list(json!({}))] {
            let names = names(&listing);
            assert!(names.contains(&"echo") && names.contains(&"slow"), "{server}: {names:?}");
            assert!(names.iter().all(|name| *name == "echo" || name.starts_with('s')), "{server}: {names:?}");
        }
        for tool in ["log", "Echo", "add"] {
            let params = json!({"name": tool, "arguments": {}});
            is_unknown(&sse.call(4, "tools/call", params.clone()), tool);
            is_unknown(&session.call(4, "tools/call", params.clone()), tool);
            is_unknown(&gateway.stateless(4, "tools/call", params).json(), tool);
        }
        let echo = json!({"name": "echo", "arguments": {"message": "hi", "text": "hi"}});
        for answer in [sse.call(5, "tools/call", echo.clone()), session.call(5, "tools/call", echo.clone())] {
            assert_eq!(answer["result"]["content"][0]["text"], "hi", "{server}");
        }
        assert_eq!(gateway.stateless(5, "tools/call", echo).json()["result"]["content"][0]["text"], "hi", "{server}");
    }
}

#[test]
fn a_tool_that_asks_for_a_task_is_kept_back_too() {
    let server = format!("command = {:?}\nargs = [\"legacy\"]", landbridge_fixtures::binary().to_str().unwrap());
    let gateway = filtered(&server, "tools.deny = [\"*\"]");
    let session = gateway.session("2025-11-25");
    let params = json!({"name": "echo", "arguments": {"message": "hi"}, "task": {"ttl": 1000}});
    is_unknown(&session.call(2, "tools/call", params), "echo");
    assert!(names(&session.call(3, "tools/list", json!({}))).is_empty());
}
