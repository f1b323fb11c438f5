//! Whose a task is: what its id tells, and to whom.

use serde_json::{Value, json};

use crate::gateway::{Gateway, config_file};
use crate::tasks::{Client, EXTENSION, PAIRINGS, SESSION, STATELESS, Tap, abilities, id_of, in_every_pairing, text_of};

/// The methods by which this client asks about tasks.
fn methods(client: &Client<'_>) -> [&'static str; 3] {
    if client.is_stateless() { ["tasks/get", "tasks/update", "tasks/cancel"] } else { ["tasks/get", "tasks/result", "tasks/cancel"] }
}

#[track_caller]
fn is_unknown(client: &Client<'_>, id: &Value) {
    for method in methods(client) {
        let said = client.post(method, json!({"taskId": id, "inputResponses": {}}));
        let status = if client.is_stateless() { 400 } else { 200 };
        assert_eq!((said.status, &said.json()["error"]["code"]), (status, &json!(-32602)), "{method} of {id}: {}", said.text());
    }
}

#[test]
fn a_task_nobody_knows_is_refused() {
    in_every_pairing(|_, client| {
        let made_up = ["nobody", "", "0123456789abcdef0123456789abcdef", "a.b.c", "\u{1f980}", &"x".repeat(5_000)];
        made_up.iter().for_each(|id| is_unknown(client, &json!(id)));
        // Before and after there is one to be found.
        client.begin("slow_compute", json!({"seconds": 60}));
        made_up.iter().for_each(|id| is_unknown(client, &json!(id)));
        for no_string in [json!(null), json!(7), json!({}), json!(["a"])] {
            is_unknown(client, &no_string);
        }
        for method in methods(client) {
            assert_eq!(client.refused(method, json!({"inputResponses": {}})), -32602, "{method} of none");
        }
    });
}

#[test]
fn an_id_that_was_changed_opens_nothing() {
    in_every_pairing(|_, client| {
        let task = client.begin("slow_compute", json!({"seconds": 60}));
        let id = id_of(&task);
        for at in [0, 1, id.len() / 2, id.len() - 2] {
            let other = if id.as_bytes()[at] == b'a' { "b" } else { "a" };
            is_unknown(client, &json!([&id[..at], other, &id[at + 1..]].concat()));
        }
        for changed in
            [&id[1..], &id[..id.len() - 1], &format!("{id}a"), &format!(" {id}"), &format!("{id}\n"), &id.repeat(2), &id.to_uppercase()]
        {
            is_unknown(client, &json!(changed));
        }
        assert_eq!(client.get(id)["status"], "working", "nobody got at it");
    });
}

#[test]
fn the_id_of_a_shared_server_is_never_told() {
    for pairing in &PAIRINGS {
        if pairing.is_own() || pairing.front == STATELESS && pairing.mode == "modern" {
            continue; // the next test
        }
        eprintln!("{} at {} {:?}", pairing.front, pairing.mode, pairing.args);
        keeps_the_id_to_itself(pairing.front, pairing.args, pairing.mode);
    }
}

#[test]
fn the_id_of_a_stateless_server_is_not_told_to_stateless_clients_either() {
    keeps_the_id_to_itself(STATELESS, &[], "modern");
}

#[track_caller]
fn keeps_the_id_to_itself(front: &str, args: &[&str], mode: &str) {
    let (gateway, tap) = Tap::gateway(args, mode);
    let client = Client::knowing(&gateway, front);
    let created = client.post("tools/call", client.wanting("slow_compute", json!({"seconds": 0.3})));
    let task = client.begun(created.messages().pop().unwrap()["result"].clone());
    let about = json!({"taskId": task["taskId"]});
    let mut said = vec![created.text()];
    client.ended(id_of(&task));
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        said.push(client.post(method, about.clone()).text());
    }
    let own = &tap.wait_for_tasks(&gateway, 1)[0];
    assert!(own.len() == 32 && own.bytes().all(|b| b.is_ascii_hexdigit()), "{own}");
    for said in &said {
        assert!(!said.contains(own), "{said}");
    }
    is_unknown(&client, &json!(own));
    // Under that id the server is asked.
    let asked: Vec<Value> = tap.got().iter().map(|m| m["params"]["taskId"].clone()).filter(|id| !id.is_null()).collect();
    assert!(!asked.is_empty() && asked.iter().all(|id| id == own), "{asked:?}");
}

#[test]
fn a_sessions_own_server_names_its_tasks_itself() {
    let (gateway, tap) = Tap::gateway(&[], "legacy");
    let client = Client::knowing(&gateway, SESSION);
    let task = client.begin("slow_compute", json!({"seconds": 60}));
    assert_eq!(tap.wait_for_tasks(&gateway, 1), [id_of(&task)]);
    let stranger = Client::knowing(&gateway, SESSION);
    is_unknown(&stranger, &task["taskId"]);
    is_unknown(&Client::knowing(&gateway, STATELESS), &task["taskId"]);
    assert_eq!(client.get(id_of(&task))["status"], "working");
}

#[test]
fn a_task_of_one_server_is_nothing_to_another() {
    let binary = landbridge_fixtures::binary();
    let binary = binary.to_str().unwrap();
    let server = |name: &str, mode: &str| format!("[servers.{name}]\ncommand = {binary:?}\nargs = [{mode:?}]\nisolation = \"none\"\n");
    let file =
        config_file(&[server("old", "legacy"), server("old2", "legacy"), server("new", "modern"), server("new2", "modern")].concat());
    let gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    for revision in [SESSION, STATELESS] {
        let at = |name: &str| Client::at(&gateway, &format!("/servers/{name}/mcp"), revision, abilities(revision));
        let clients = ["old", "old2", "new", "new2"].map(at);
        let secret = |n: usize| format!("secret {n}");
        let tasks: Vec<Value> =
            clients.iter().enumerate().map(|(n, c)| c.begin("slow_compute", json!({"seconds": 0.2, "label": secret(n)}))).collect();
        for (n, client) in clients.iter().enumerate() {
            for (_, task) in tasks.iter().enumerate().filter(|(other, _)| *other != n) {
                is_unknown(client, &task["taskId"]);
                for method in methods(client) {
                    let said = client.post(method, json!({"taskId": task["taskId"], "inputResponses": {}})).text();
                    assert!(!said.contains("secret"), "{revision} {method}: {said}");
                }
            }
        }
        for (n, client) in clients.iter().enumerate() {
            let outcome = client.outcome(id_of(&tasks[n]));
            assert!(text_of(&outcome["result"]).contains(&secret(n)), "{outcome}");
        }
    }
}

#[test]
fn a_task_of_a_shared_server_is_its_owners_in_every_revision() {
    for (args, mode) in [(&["--isolation", "none"][..], "legacy"), (&[], "modern")] {
        let gateway = Gateway::fixture(args, &[mode]);
        let clients = [SESSION, SESSION, STATELESS].map(|revision| Client::knowing(&gateway, revision));
        for owner in &clients {
            let task = owner.begin("slow_compute", json!({"seconds": 60}));
            for client in &clients {
                assert_eq!(client.get(id_of(&task))["status"], "working", "{mode}");
            }
        }
    }
}

#[test]
fn an_id_that_means_something_else_is_no_task() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let client = Client::knowing(&gateway, STATELESS);
    let asked = client.result("tools/call", json!({"name": "test_tool_with_task", "arguments": {}}));
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    is_unknown(&client, &asked["requestState"]);
    let task = client.begin("slow_compute", json!({"seconds": 60}));
    let retry = json!({"name": "test_tool_with_task", "arguments": {}, "requestState": task["taskId"], "inputResponses": {}});
    assert_eq!(client.refused("tools/call", retry), -32602);
}

#[test]
fn a_header_that_names_another_task_is_refused() {
    for mode in ["legacy", "modern"] {
        let gateway = Gateway::fixture(&[], &[mode]);
        let client = Client::knowing(&gateway, STATELESS);
        let task = client.begin("slow_compute", json!({"seconds": 60}));
        let params = json!({"taskId": task["taskId"], "_meta": {
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {EXTENSION: {}}}}});
        for (name, status) in [(id_of(&task), 200), ("another", 400)] {
            let (headers, body) = crate::gateway::stateless_request(5, "tasks/get", params.clone());
            let mut headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            headers.push(("mcp-name", name));
            let said = gateway.wire().post("/mcp", &headers, &body);
            let code = if status == 200 { Value::Null } else { json!(-32020) };
            assert_eq!((said.status, &said.json()["error"]["code"]), (status, &code), "{mode} {name}");
        }
    }
}

#[test]
fn a_task_goes_with_the_server_that_ran_it() {
    for pairing in PAIRINGS.iter().filter(|p| !p.is_own()) {
        let gateway = Gateway::fixture(pairing.args, &[pairing.mode]);
        let client = Client::knowing(&gateway, pairing.front);
        let task = client.begin("slow_compute", json!({"seconds": 60}));
        client.post("tools/call", json!({"name": "die", "arguments": {}}));
        is_unknown(&client, &task["taskId"]);
        let next = client.begin("slow_compute", json!({"seconds": 60}));
        is_unknown(&client, &task["taskId"]);
        assert_eq!(client.get(id_of(&next))["status"], "working");
    }
}
