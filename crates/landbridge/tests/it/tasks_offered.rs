//! Tasks as they are offered: in which words, to whom, and what is not there for anybody.

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::tasks::{Client, EXTENSION, SESSION, STATELESS, Tap, id_of, text_of};

// --- what each side is told -----------------------------------------------------------------------

#[test]
fn tasks_of_a_stateless_server_are_offered_to_the_revision_that_has_them() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    for (revision, offered) in [("2025-03-26", false), ("2025-06-18", false), (SESSION, true)] {
        let client = Client::unaware(&gateway, revision);
        let capabilities = &client.hello["capabilities"];
        let expected = if offered { json!({"cancel": {}, "requests": {"tools": {"call": {}}}}) } else { Value::Null };
        assert_eq!(capabilities["tasks"], expected, "{revision}");
        assert!(!capabilities["extensions"].to_string().contains(EXTENSION), "{revision}: {capabilities}");
        let tools = client.result("tools/list", json!({}));
        let expected = if offered { json!("optional") } else { Value::Null };
        for tool in tools["tools"].as_array().unwrap() {
            assert_eq!(tool["execution"]["taskSupport"], expected, "{revision}: {tool}");
        }
    }
    let discovered = Client::unaware(&gateway, STATELESS).result("server/discover", json!({}));
    assert_eq!(discovered["capabilities"]["extensions"][EXTENSION], json!({}));
    assert_eq!(discovered["capabilities"].get("tasks"), None);
}

#[test]
fn tasks_of_a_server_with_a_handshake_are_offered_as_the_extension() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let discovered = Client::unaware(&gateway, STATELESS).result("server/discover", json!({}));
        assert_eq!(discovered["capabilities"]["extensions"][EXTENSION], json!({}));
        assert_eq!(discovered["capabilities"].get("tasks"), None);
    }
    // A session's own server speaks for itself.
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let client = Client::knowing(&gateway, SESSION);
    assert_eq!(client.hello["capabilities"]["tasks"], json!({"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}));
    assert_eq!(Client::unaware(&gateway, "2025-06-18").hello["capabilities"].get("tasks"), None);
}

#[test]
fn a_stateless_server_is_told_of_the_extension_and_never_of_a_task() {
    let (gateway, tap) = Tap::gateway(&[], "modern");
    let said = json!({"elicitation": {}, "tasks": {"list": {}, "requests": {"elicitation": {"create": {}}}}});
    for revision in ["2025-03-26", "2025-06-18", SESSION] {
        let client = Client::at(&gateway, "/mcp", revision, said.clone());
        let result = client.result("tools/call", json!({"name": "echo_meta", "arguments": {}}));
        let seen: Value = serde_json::from_str(text_of(&result)).unwrap();
        assert_eq!(seen["clientCapabilities"]["extensions"], json!({EXTENSION: {}}), "{revision}: {seen}");
        assert_eq!(seen["clientCapabilities"]["elicitation"], json!({}), "what else it declared stays");
        assert_eq!(seen["clientCapabilities"].get("tasks"), None, "{revision}: {seen}");
    }
    let client = Client::knowing(&gateway, SESSION);
    let task = client.begin("slow_compute", json!({"seconds": 0.05}));
    client.outcome(id_of(&task));
    let task = client.begin("greet", json!({"name": "ada"}));
    client.outcome(id_of(&task));
    // What a stateless client says of itself is its own affair.
    let unaware = Client::unaware(&gateway, STATELESS).result("tools/call", json!({"name": "echo_meta", "arguments": {}}));
    assert!(!text_of(&unaware).contains(EXTENSION), "{unaware}");
    for message in tap.got() {
        assert_eq!(message["params"].get("task"), None, "{message}");
    }
}

#[test]
fn a_word_of_another_revision_does_not_make_a_task() {
    for mode in ["legacy", "modern"] {
        let (gateway, tap) = Tap::gateway(&["--isolation", "none"], mode);
        let stray = |tool: &str| json!({"name": tool, "arguments": {"name": "ada", "seconds": 0.05}, "task": {"ttl": 1000}});
        for client in [Client::knowing(&gateway, STATELESS), Client::unaware(&gateway, STATELESS)] {
            assert_eq!(text_of(&client.result("tools/call", stray("greet"))), "Hello, ada!", "{mode}");
        }
        let unaware = Client::unaware(&gateway, STATELESS);
        assert!(text_of(&unaware.result("tools/call", stray("slow_compute"))).starts_with("computed"), "{mode}");
        if mode == "modern" {
            let old = Client::unaware(&gateway, "2025-06-18");
            assert_eq!(text_of(&old.result("tools/call", stray("greet"))), "Hello, ada!");
            assert!(text_of(&old.result("tools/call", stray("slow_compute"))).starts_with("computed"));
            continue; // there it is a task, which is followed
        }
        assert_eq!(tap.tasks(), Vec::<String>::new());
    }
}

#[test]
fn a_listen_promises_no_notices_of_tasks() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let client = Client::knowing(&gateway, STATELESS);
        let task = client.begin("slow_compute", json!({"seconds": 60}));
        let filter = json!({"taskIds": [task["taskId"]], "toolsListChanged": true});
        let (_, mut stream) = client.open("subscriptions/listen", json!({"notifications": filter}));
        let honoured = stream.message().unwrap();
        assert_eq!(honoured["params"]["notifications"], json!({"toolsListChanged": true}), "{mode}");
    }
}

// --- methods that are not there ---------------------------------------------------------------------

#[test]
fn only_ones_own_server_lists_its_tasks() {
    let own = Gateway::fixture(&[], &["legacy"]);
    let client = Client::knowing(&own, SESSION);
    let task = client.begin("slow_compute", json!({"seconds": 0.05}));
    let listed = client.result("tasks/list", json!({}));
    assert_eq!(listed["tasks"][0]["taskId"], task["taskId"], "{listed}");
    assert_eq!(Client::knowing(&own, SESSION).result("tasks/list", json!({}))["tasks"], json!([]), "another's are another's");

    for (args, mode) in [(&["--isolation", "none"][..], "legacy"), (&[], "modern")] {
        let gateway = Gateway::fixture(args, &[mode]);
        let client = Client::knowing(&gateway, SESSION);
        client.begin("slow_compute", json!({"seconds": 0.05}));
        assert_eq!(client.refused("tasks/list", json!({})), -32601, "{mode}");
    }
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let client = Client::knowing(&gateway, STATELESS);
        for method in ["tasks/list", "tasks/result"] {
            let said = client.post(method, json!({"taskId": "any"}));
            assert_eq!((said.status, &said.json()["error"]["code"]), (404, &json!(-32601)), "{mode} {method}");
        }
    }
}

#[test]
fn who_did_not_declare_the_extension_may_not_ask_about_tasks() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let task = Client::knowing(&gateway, STATELESS).begin("slow_compute", json!({"seconds": 60}));
        let unaware = Client::unaware(&gateway, STATELESS);
        for id in [id_of(&task), "nobody"] {
            for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
                let said = unaware.post(method, json!({"taskId": id, "inputResponses": {}}));
                let error = &said.json()["error"];
                assert_eq!((said.status, &error["code"]), (400, &json!(-32021)), "{mode} {method}: {error}");
                assert_eq!(error["data"]["requiredCapabilities"]["extensions"][EXTENSION], json!({}), "{mode} {method}: {error}");
            }
        }
    }
}

#[test]
fn where_nobody_has_tasks_nobody_is_asked_about_them() {
    let demo = Gateway::start(&[]);
    let modern = Gateway::fixture(&[], &["modern"]);
    let own = Gateway::fixture(&[], &["legacy"]);
    let shared = Gateway::fixture(&["--isolation", "none"], &["legacy"]);
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        let about = json!({"taskId": "any"});
        assert_eq!(Client::knowing(&demo, SESSION).refused(method, about.clone()), -32601, "{method}");
        for gateway in [&demo, &modern, &own, &shared] {
            assert_eq!(Client::unaware(gateway, "2025-06-18").refused(method, about.clone()), -32601, "{method}");
        }
    }
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let said = Client::knowing(&demo, STATELESS).post(method, json!({"taskId": "any", "inputResponses": {}}));
        assert_eq!((said.status, &said.json()["error"]["code"]), (404, &json!(-32601)), "{method}");
    }
    // The extension's own method is none of a session's.
    for gateway in [&modern, &own, &shared] {
        let about = json!({"taskId": "any", "inputResponses": {}});
        assert_eq!(Client::knowing(gateway, SESSION).refused("tasks/update", about), -32601);
    }
}
