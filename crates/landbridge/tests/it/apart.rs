//! Principals: who shares a server's process with whom, and never with anybody else.

use serde_json::json;

use crate::children::pid_of;
use crate::gateway::{Gateway, stateless_request};
use crate::wire::Response;

const ADA: &str = "ada-ada-ada-ada-ada";
const ADA_TOO: &str = "ada-too-ada-too-ada-too";
const BOB: &str = "bob-bob-bob-bob-bob";
const REVISION: &str = "2025-11-25";

/// A gateway that knows these three keys.
fn guarded(args: &[&str], mode: &[&str]) -> Gateway {
    let binary = landbridge_fixtures::binary();
    let mut all = vec!["--auth", "keys", "--store", "memory:"];
    all.extend(args);
    if !mode.is_empty() {
        all.extend(["--", binary.to_str().unwrap()]);
        all.extend(mode);
    }
    let key = |key: &str, owner: &str| format!("{key}:{owner}");
    let keys =
        [("LANDBRIDGE_API_KEY_1", key(ADA, "ada")), ("LANDBRIDGE_API_KEY_2", key(ADA_TOO, "ada")), ("MCP_API_KEY_3", key(BOB, "bob"))];
    let keys: Vec<(&str, &str)> = keys.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Gateway::here(&all, &keys)
}

fn stateless(gateway: &Gateway, key: &str, tool: &str) -> Response {
    let (headers, body) = stateless_request(5, "tools/call", json!({"name": tool, "arguments": {}}));
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    headers.push(("x-api-key", key));
    gateway.wire().post("/mcp", &headers, &body)
}

/// The process that a stateless client with this key gets.
fn pid(gateway: &Gateway, key: &str) -> u32 {
    let response = stateless(gateway, key, "where_am_i");
    assert_eq!(response.status, 200, "{}", response.text());
    pid_of(&response.json())
}

/// The process of a session of this key.
fn pid_of_session(gateway: &Gateway, key: &str) -> u32 {
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": REVISION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let response = gateway.wire().post("/mcp", &[("x-api-key", key)], &hello.to_string());
    assert_eq!(response.status, 200, "{}", response.text());
    let id = response.header("mcp-session-id").unwrap().to_owned();
    let headers = [("x-api-key", key), ("mcp-session-id", id.as_str()), ("mcp-protocol-version", REVISION)];
    gateway.wire().post("/mcp", &headers, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "where_am_i", "arguments": {}}});
    pid_of(&gateway.wire().post("/mcp", &headers, &call.to_string()).messages().pop().unwrap())
}

#[test]
fn stateless_clients_share_a_server_that_remembers_with_nobody_else() {
    let gateway = guarded(&[], &["legacy"]);
    let ada = pid(&gateway, ADA);
    assert_eq!(pid(&gateway, ADA), ada);
    assert_eq!(pid(&gateway, ADA_TOO), ada, "the same person, by another key");
    let bob = pid(&gateway, BOB);
    assert_ne!(bob, ada);
    assert_eq!((pid(&gateway, ADA_TOO), pid(&gateway, BOB)), (ada, bob));
}

#[test]
fn a_server_that_keeps_nothing_is_shared_by_all() {
    let gateway = guarded(&[], &["modern"]);
    // Who comes first finds out that it keeps nothing.
    pid(&gateway, ADA);
    assert_eq!(pid(&gateway, ADA), pid(&gateway, BOB));
}

#[test]
fn an_operator_may_let_all_share_one() {
    let gateway = guarded(&["--isolation", "none"], &["legacy"]);
    let ada = pid(&gateway, ADA);
    assert_eq!((pid(&gateway, BOB), pid_of_session(&gateway, ADA), pid_of_session(&gateway, BOB)), (ada, ada, ada));
}

#[test]
fn sessions_of_one_principal_may_share_one() {
    let gateway = guarded(&["--isolation", "principal"], &["legacy"]);
    let ada = pid_of_session(&gateway, ADA);
    assert_eq!(pid_of_session(&gateway, ADA_TOO), ada);
    assert_ne!(pid_of_session(&gateway, BOB), ada);
}

#[test]
fn several_servers_as_one_are_called_in_the_name_of_who_calls() {
    let binary = landbridge_fixtures::binary();
    let server = |name: &str| format!("{name}={} legacy", binary.to_str().unwrap());
    let gateway = guarded(&["--server", &server("a"), "--server", &server("b")], &[]);
    let pid = |key| {
        let response = stateless(&gateway, key, "a__where_am_i");
        assert_eq!(response.status, 200, "{}", response.text());
        pid_of(&response.json())
    };
    let (ada, bob) = (pid(ADA), pid(BOB));
    assert_ne!(ada, bob);
    assert_eq!((pid(ADA_TOO), pid(BOB)), (ada, bob));
}

#[test]
fn places_are_taken_back_from_who_does_not_use_them() {
    let file = crate::gateway::config_file("[limits]\nchildren = 1\n");
    let gateway = guarded(&["--config", file.to_str().unwrap()], &["legacy"]);
    let ada = pid(&gateway, ADA);
    // There is one place, and after a second nobody seems to use it.
    let wait = || std::thread::sleep(std::time::Duration::from_millis(1_200));
    wait();
    assert_ne!(pid(&gateway, BOB), ada);
    wait();
    assert_ne!(pid(&gateway, ADA), ada);
    let _ = std::fs::remove_file(file);
}
