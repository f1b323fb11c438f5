//! What holds for every application: as a server on standard streams it is behind the gateway what it is by itself.

use serde_json::{Value, json};

use crate::app::{App, Client, PROGRAM};
use crate::guide_bridges::Served;
use crate::wire::Wire;

/// The tools that a client of 2026-07-28 is shown.
fn stateless(port: u16) -> Vec<String> {
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let headers = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list"), ("Accept", "application/json, text/event-stream")];
    let response = Wire::connect(port).post("/mcp", &headers, &list.to_string());
    let result: Value = response.messages().pop().expect("an answer");
    let tools = result["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools: {result}")).clone();
    tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

/// To every kind of client, over HTTP.
fn shown(port: u16) -> [Vec<String>; 3] {
    let mut all = [stateless(port), Client::over_http(port, "/mcp", &[]).tools(), Client::over_sse(port, "/sse", &[]).tools()];
    all.iter_mut().for_each(|tools| tools.sort());
    all
}

fn is_the_same_behind_the_gateway(app: &str) {
    let alone = App::start(app, &["--mode", "http"], &[]);
    let behind = Served::start(&["--", PROGRAM, app, "--mode", "stdio"]);
    let by_itself = shown(alone.port);
    assert!(!by_itself[0].is_empty());
    assert_eq!(by_itself[0], by_itself[1], "to a client with a session");
    assert_eq!(by_itself[0], by_itself[2], "over HTTP+SSE");
    assert_eq!(shown(behind.port), by_itself, "behind the gateway");
}

#[test]
fn the_contacts_are_the_same_behind_the_gateway() {
    is_the_same_behind_the_gateway("contacts");
}

#[test]
fn the_marketplace_is_the_same_behind_the_gateway() {
    is_the_same_behind_the_gateway("skillport");
}

#[test]
fn the_contents_are_the_same_behind_the_gateway() {
    is_the_same_behind_the_gateway("content");
}

#[test]
fn the_reports_are_the_same_behind_the_gateway() {
    is_the_same_behind_the_gateway("sprint");
}

#[test]
fn the_guide_is_the_same_behind_the_gateway() {
    is_the_same_behind_the_gateway("guide");
}

/// What every one of them makes of a request that a proxy has forwarded.
#[test]
fn proxies_that_are_trusted_are_believed_and_others_are_not() {
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    for name in ["contacts", "skillport", "content", "sprint", "guide"] {
        let (good, help) = crate::app::run(&std::env::temp_dir(), name, &["--help"], &[]);
        assert!(good && help.contains("TRUSTED_PROXIES"), "{name}: {help}");
        // Only whose word counts can say it badly, or name a host that is not ours.
        let odd = [("x-forwarded-proto", "https, http")];
        let evil = [("x-forwarded-host", "evil.example")];
        for (trusted, statuses) in [("", [200, 200]), ("10.0.0.0/8", [200, 200]), ("10.0.0.0/8, 127.0.0.1", [400, 403])] {
            let app = App::start(name, &["--mode", "http"], &[("TRUSTED_PROXIES", trusted)]);
            let ask = |headers: &[(&str, &str)]| app.wire().post("/mcp", headers, &hello.to_string()).status;
            assert_eq!([ask(&odd), ask(&evil)], statuses, "{name}, trusting {trusted:?}");
            assert_eq!(ask(&[("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")]), 200, "{name}");
        }
        let dir = crate::app::fresh_dir(name);
        let (good, said) = crate::app::run(&dir, name, &["--mode", "http", "--port", "0"], &[("TRUSTED_PROXIES", "10.0.0.1/8")]);
        assert!(!good && said.contains("10.0.0.1/8"), "{name}: {said}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
