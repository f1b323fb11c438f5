//! What we let in, and what we answer to whom we do not: over real sockets, on every wire.

use landbridge::auth::keys::Given;
use landbridge_proto::oauth::form::encode;
use serde_json::{Value, json};

use crate::gateway::{Gateway, stateless_request};
use crate::visitors::{App, Browser, House, Tokens, ask, bearer, now_s, plan, status};
use crate::wire::{Response, Wire};

const CONFIG: &str = r#"
    [auth]
    mode = "oauth"
    scopes = { read = "Read things", write = "Write things", x = "Use x" }
    [servers.a]
    demo = true
    tools.scopes = { add = ["write"], "ec*" = ["read"] }
    [servers.ab]
    demo = true
    [servers.x]
    demo = true
    scopes = ["x"]
"#;

fn house() -> House {
    House::open(CONFIG)
}

fn hello(revision: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
    .to_string()
}

fn challenge(house: &House, path: &str, scope: &str) -> String {
    let scope = if scope.is_empty() { String::new() } else { format!(", scope=\"{scope}\"") };
    format!("Bearer resource_metadata=\"{}{path}\"{scope}", house.url("/.well-known/oauth-protected-resource"))
}

#[track_caller]
fn refused(response: &Response, status: u16, challenge: &str) {
    assert_eq!((response.status, response.header("www-authenticate")), (status, Some(challenge)), "{}", response.text());
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(response.json()["error"]["message"].is_string(), "{}", response.text());
}

/// What there is at a URL, and what leads there.
struct Entry {
    method: &'static str,
    path: &'static str,
    body: bool,
    /// The path of the mount that it belongs to, and what its challenge names.
    mount: &'static str,
    scope: &'static str,
}

fn entries() -> Vec<Entry> {
    let all = [
        ("POST", "/mcp", true, "/mcp", "x"),
        ("GET", "/mcp", false, "/mcp", "x"),
        ("DELETE", "/mcp", false, "/mcp", "x"),
        ("PUT", "/mcp", true, "/mcp", "x"),
        ("GET", "/sse", false, "/sse", "x"),
        ("POST", "/sse", true, "/sse", "x"),
        ("POST", "/messages?sessionId=x", true, "/sse", "x"),
        ("POST", "/message", true, "/sse", "x"),
        ("POST", "/servers/a/mcp", true, "/servers/a/mcp", "read write"),
        ("GET", "/servers/a/sse", false, "/servers/a/sse", "read write"),
        ("POST", "/servers/a/messages?sessionId=x", true, "/servers/a/sse", "read write"),
        ("POST", "/servers/ab/mcp", true, "/servers/ab/mcp", "read write x"),
        ("POST", "/servers/ab/mcp/", true, "/servers/ab/mcp", "read write x"),
        ("DELETE", "/servers/x/mcp", false, "/servers/x/mcp", "x"),
        ("GET", "/metrics", false, "", "x"),
    ];
    all.map(|(method, path, body, mount, scope)| Entry { method, path, body, mount, scope }).into()
}

#[test]
fn who_shows_nothing_is_told_where_to_log_in_and_costs_nothing() {
    let house = house();
    for round in 0..20 {
        for entry in entries() {
            let body = entry.body.then(|| hello("2025-06-18"));
            let said = house.wire().request(entry.method, entry.path, &[], body.as_deref());
            // Without a word of an error: nothing was done wrong yet.
            refused(&said, 401, &challenge(&house, entry.mount, entry.scope));
        }
        refused(&ask(house.port, "/mcp", &[], "tools/list", json!({})), 401, &challenge(&house, "/mcp", "x"));
        assert_eq!(house.get("/servers/none/mcp").status, 404, "{round}");
    }
    assert!(house.gateway.metrics().contains("\nlandbridge_sessions 0\n"));
    // What is for everybody, and what it does not say.
    for (path, said) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let response = house.get(path);
        assert_eq!((response.status, response.text().as_str()), (200, said));
    }
    let root = house.get("/").text();
    assert!(root.contains("/mcp") && !root.contains("servers/") && !root.contains("ab:"), "{root}");
    assert!(!house.get("/servers/none/mcp").text().contains("ab"));
}

#[test]
fn credentials_are_read_one_way_and_no_other() {
    let house = house();
    let key = house.key("ada", None, None, None);
    let tokens = App::register(house.port, "app").log_in("ada");
    let mine = challenge(&house, "/servers/ab/mcp", "read write x");
    let with = |headers: &[(&str, &str)]| ask(house.port, "/servers/ab/mcp", headers, "tools/list", json!({}));
    let (token, key_bearer) = (bearer(&tokens.access), bearer(&key));
    for good in [
        vec![("authorization", token.as_str())],
        vec![("authorization", key_bearer.as_str())],
        vec![("authorization", key.as_str())],
        vec![("authorization", tokens.access.as_str())],
        vec![("x-api-key", key.as_str())],
        // A key counts for more.
        vec![("x-api-key", key.as_str()), ("authorization", "Bearer unknown")],
        vec![("authorization", "Basic eDp5"), ("x-api-key", key.as_str())],
    ] {
        assert_eq!(with(&good).status, 200, "{good:?}");
    }
    let lower = token.replace("Bearer ", "bEARER   ");
    assert_eq!(with(&[("authorization", &lower)]).status, 200);

    let invalid = |told: &str| format!("{mine}, error=\"invalid_token\", error_description=\"{told}\"");
    let unknown = invalid("the token is unknown, has expired or was revoked");
    let unknown_key = invalid("the API key is unknown, has expired or was revoked");
    let other = landbridge_proto::oauth::secret::spell([3; 32]);
    for wrong in [
        "Bearer x",
        "x",
        "Bearer a.b.c",
        &bearer(&other),
        &bearer(&tokens.refresh),
        &bearer(&tokens.access[1..]),
        &bearer(&format!("{}x", tokens.access)),
    ] {
        refused(&with(&[("authorization", wrong)]), 401, &unknown);
    }
    let damaged = format!("{}x", &key[..key.len() - 1]);
    for wrong in [damaged.as_str(), "x", "", "lbk_", &tokens.refresh, &other] {
        refused(&with(&[("x-api-key", wrong)]), 401, &unknown_key);
    }
    refused(&with(&[("authorization", &bearer(&damaged))]), 401, &unknown_key);
    // A wrong key is not mended by a good token.
    refused(&with(&[("x-api-key", "x"), ("authorization", &token)]), 401, &unknown_key);

    let malformed = |told: &str| format!("{mine}, error=\"invalid_request\", error_description=\"{told}\"");
    let form = malformed("Authorization must be of the form: Bearer TOKEN");
    for bad in ["Bearer", "bearer", "Bearer "] {
        refused(&with(&[("authorization", bad)]), 400, &form);
    }
    // A scheme that is not ours is no credential, and nothing is wrong with the request.
    for other in ["", "Basic eDp5", "Digest a=b", "Negotiate abc=", &format!("Token {key}")] {
        refused(&with(&[("authorization", other)]), 401, &mine);
    }
    let twice = malformed("Authorization appears more than once, or is no text");
    refused(&with(&[("authorization", &token), ("authorization", &token)]), 400, &twice);
    refused(&with(&[("authorization", "Bearer ü")]), 400, &twice);
    refused(&with(&[("x-api-key", &key), ("x-api-key", &key)]), 400, &malformed("X-API-Key appears more than once, or is no text"));
    for (path, headers) in [
        (format!("/servers/ab/mcp?access_token={}", tokens.access), vec![]),
        (format!("/servers/ab/mcp?a=b&access_token={}", tokens.access), vec![("authorization", token.as_str())]),
    ] {
        let told = malformed("a token in a URL ends up in logs; send it in the header Authorization");
        refused(&ask(house.port, &path, &headers, "tools/list", json!({})), 400, &told);
    }
    // Nor is one that hides there looked at.
    let hidden = format!("/servers/ab/mcp?access%5Ftoken={}", tokens.access);
    assert_eq!(ask(house.port, &hidden, &[], "tools/list", json!({})).status, 401);
    let in_body = json!({"access_token": tokens.access, "_meta": {"authorization": token}});
    assert_eq!(ask(house.port, "/servers/ab/mcp", &[], "tools/list", in_body).status, 401);
    assert_eq!(
        ask(house.port, "/servers/ab/mcp", &[("cookie", &format!("access_token={}", tokens.access))], "tools/list", json!({})).status,
        401
    );
}

#[test]
fn a_token_opens_what_it_is_for_and_what_is_below() {
    let house = house();
    let app = App::register(house.port, "app");
    let all = ["/mcp", "/sse", "/servers/a/mcp", "/servers/a/sse", "/servers/ab/mcp", "/servers/ab/sse", "/servers/x/mcp"];
    let open = |path: &str, token: &str| {
        let with = bearer(token);
        match path.ends_with("sse") {
            true => house.wire().open("GET", path, &[("authorization", &with)], None).status,
            false => ask(house.port, path, &[("authorization", &with)], "tools/list", json!({})).status,
        }
    };
    for (resource, opened) in [
        ("", &all[..]),
        ("/", &all[..]),
        ("/mcp", &["/mcp"]),
        ("/mcp/", &["/mcp"]),
        ("/sse", &["/sse"]),
        ("/servers", &all[2..]),
        ("/servers/a", &all[2..4]),
        ("/servers/a/", &all[2..4]),
        ("/servers/a/mcp", &all[2..3]),
        ("/servers/ab/sse", &all[5..6]),
    ] {
        let token = app.log_in_for("ada", &[("resource", &house.url(resource))]).access;
        for path in all {
            let expected = if opened.contains(&path) { 200 } else { 401 };
            assert_eq!(open(path, &token), expected, "a token for {resource:?} at {path}");
        }
        let slash = if opened.contains(&"/mcp") { 200 } else { 401 };
        assert_eq!(status(house.port, "/mcp/", &token), slash);
        // All that there is, for who may use all.
        let metrics = house.wire().request("GET", "/metrics", &[("authorization", &bearer(&token))], None).status;
        assert_eq!(metrics, if matches!(resource, "" | "/") { 200 } else { 401 }, "{resource:?}");
        // By another of our names, it is another resource.
        let elsewhere = [("authorization", bearer(&token)), ("host", format!("localhost:{}", house.port))];
        let elsewhere: Vec<(&str, &str)> = elsewhere.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let said = ask(house.port, "/mcp", &elsewhere, "tools/list", json!({}));
        assert_eq!(said.status, 401);
        assert!(said.header("www-authenticate").unwrap().contains("the token is for another server"));
    }
    for wrong in ["/servers/a/", "/servers/", "/x", "/mcpx", "/servers/a/mcp/x"] {
        let asked = Browser::new(house.port).get(&app.ask(&[("resource", &house.url(wrong))]));
        let refused = asked.status == 302;
        assert_eq!(refused, !matches!(wrong, "/servers/a/" | "/servers/"), "{wrong}");
    }
}

#[test]
fn servers_and_tools_want_their_scopes_on_every_wire() {
    let house = house();
    let app = App::register(house.port, "app");
    let read = app.log_in_for("ada", &[("scope", "read")]).access;
    let all = app.log_in("ada").access;
    let (with, with_all) = (bearer(&read), bearer(&all));
    let call = |path: &str, with: &str, tool: &str| {
        let params = json!({"name": tool, "arguments": {"message": "x", "a": 1, "b": 2}});
        ask(house.port, path, &[("authorization", with)], "tools/call", params)
    };
    let lacks = |path: &str, scope: &str, told: &str| {
        format!("{}, error=\"insufficient_scope\", error_description=\"{told}\"", challenge(&house, path, scope))
    };
    // A server.
    refused(&call("/servers/x/mcp", &with, "echo"), 403, &lacks("/servers/x/mcp", "x", "the scope x is missing"));
    refused(&call("/mcp", &with, "a__echo"), 403, &lacks("/mcp", "x", "the scope x is missing"));
    let sse = house.wire().request("GET", "/servers/x/sse", &[("authorization", &with)], None);
    refused(&sse, 403, &lacks("/servers/x/sse", "x", "the scope x is missing"));
    assert_eq!(call("/servers/x/mcp", &with_all, "echo").status, 200);
    // A tool.
    let needs = lacks("/servers/a/mcp", "write", "calling add needs the scope write");
    assert_eq!(call("/servers/a/mcp", &with, "echo").status, 200);
    refused(&call("/servers/a/mcp", &with, "add"), 403, &needs);
    assert_eq!(call("/servers/a/mcp", &with_all, "add").status, 200);
    assert_eq!(call("/servers/ab/mcp", &with, "add").status, 200, "there it needs nothing");

    // At all of them together, by the names they have there.
    let x = bearer(&app.log_in_for("ada", &[("scope", "x")]).access);
    refused(&call("/mcp", &x, "a__add"), 403, &lacks("/mcp", "x write", "calling a__add needs the scope write"));
    refused(&call("/mcp", &x, "a__echo"), 403, &lacks("/mcp", "x read", "calling a__echo needs the scope read"));
    assert_eq!((call("/mcp", &x, "ab__add").status, call("/mcp", &with_all, "a__add").status), (200, 200));

    // In a session, alone and among others.
    let open = |revision: &str, with: &str| {
        let opened = house.wire().post("/servers/a/mcp", &[("authorization", with)], &hello(revision));
        assert_eq!(opened.status, 200, "{}", opened.text());
        opened.header("mcp-session-id").unwrap().to_owned()
    };
    let post = |session: &str, revision: &str, with: &str, body: &str| {
        let mut headers = vec![("authorization", with), ("mcp-session-id", session)];
        if revision > "2025-03-26" {
            headers.push(("mcp-protocol-version", revision));
        }
        house.wire().post("/servers/a/mcp", &headers, body)
    };
    let add =
        |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "add", "arguments": {"a": 1, "b": 2}}});
    let echo =
        |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "x"}}});
    for revision in ["2025-03-26", "2025-06-18", "2025-11-25"] {
        let session = open(revision, &with);
        refused(&post(&session, revision, &with, &add(2).to_string()), 403, &needs);
        assert_eq!(post(&session, revision, &with, &echo(3).to_string()).status, 200);
        // The next one may: it is the same session.
        assert_eq!(post(&session, revision, &with_all, &add(4).to_string()).status, 200);
        if revision == "2025-03-26" {
            for batch in [json!([add(5)]), json!([echo(5), add(6)]), json!([echo(5), echo(6), add(7), echo(8)])] {
                refused(&post(&session, revision, &with, &batch.to_string()), 403, &needs);
            }
            assert_eq!(post(&session, revision, &with, &json!([echo(5), echo(6)]).to_string()).status, 200);
        }
        // What two readers might read as two different names is read by neither.
        let sly = [
            r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"echo","name":"add","arguments":{"a":1,"b":2}}}"#,
            r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"add","name":"echo","arguments":{"a":1,"b":2}}}"#,
            r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"echo"},"params":{"name":"add","arguments":{"a":1,"b":2}}}"#,
            r#"{"jsonrpc":"2.0","id":9,"method":"ping","method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}}}"#,
            r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"echo","n\u0061me":"add","arguments":{"a":1,"b":2}}}"#,
        ];
        for body in sly {
            let said = post(&session, revision, &with, body);
            assert!(said.status == 403 || said.json()["error"].is_object(), "{body}: {}", said.text());
            assert!(!said.text().contains("\"3\"") && !said.text().contains("\"result\""), "{body}: {}", said.text());
        }
        for body in [
            r#"{"jsonrpc":"2.0","id":9,"method":"tools\u002fcall","params":{"name":"a\u0064d","arguments":{"a":1,"b":2}}}"#,
            r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"n\u0061me":"add","arguments":{"a":1,"b":2}}}"#,
        ] {
            refused(&post(&session, revision, &with, body), 403, &needs);
        }
    }
    // By the pipe of an older client: its POST is refused, and its stream says nothing.
    let mut stream = house.wire().open("GET", "/servers/a/sse", &[("authorization", &with)], None);
    let endpoint = stream.event().unwrap().data;
    let message = |with: &str, body: &str| house.wire().post(&endpoint, &[("authorization", with)], body);
    assert_eq!(message(&with, &hello("2024-11-05")).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 1);
    let sse_needs = needs.replace("/servers/a/mcp", "/servers/a/sse");
    refused(&message(&with, &add(2).to_string()), 403, &sse_needs);
    let batch = message(&with, &json!([echo(3), add(4)]).to_string());
    assert!(matches!(batch.status, 400 | 403), "{}", batch.text());
    assert_eq!(message(&with, &echo(5).to_string()).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 5);
    // And each of them shows who sends it.
    assert_eq!(house.wire().post(&endpoint, &[], &echo(6).to_string()).status, 401);
}

// --- whose it is --------------------------------------------------------------------------------

#[test]
fn what_is_one_users_does_not_exist_for_another() {
    let house = house();
    let (app, other) = (App::register(house.port, "app"), App::register(house.port, "other"));
    let (ada, bob) = (app.log_in("ada"), app.log_in("bob"));
    let key = house.key("ada", None, None, None);
    let (hers, his, keyed) = (bearer(&ada.access), bearer(&bob.access), bearer(&key));
    let session = |with: &str| {
        let opened = house.wire().post("/servers/ab/mcp", &[("authorization", with)], &hello("2025-11-25"));
        opened.header("mcp-session-id").unwrap().to_owned()
    };
    let post = |session: &str, with: &str, body: &Value| {
        let headers = [("authorization", with), ("mcp-session-id", session), ("mcp-protocol-version", "2025-11-25")];
        house.wire().post("/servers/ab/mcp", &headers, &body.to_string())
    };
    let session = session(&hers);
    let echo = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "hi"}}});
    assert_eq!(post(&session, &hers, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).status, 202);
    assert_eq!(post(&session, &hers, &echo).status, 200);
    let unknown = post("0123456789abcdef0123456789abcdef", &his, &echo);
    // Bob, and Ada's key, which is another principal, are told what is told of a session that there never was.
    for stranger in [&his, &keyed] {
        let said = post(&session, stranger, &echo);
        assert_eq!((said.status, said.text()), (404, unknown.text()));
        let headers = [("authorization", stranger.as_str()), ("mcp-session-id", &session), ("mcp-protocol-version", "2025-11-25")];
        for path in ["/servers/ab/mcp", "/mcp"] {
            for method in ["GET", "DELETE"] {
                let more = [&headers[..], &[("accept", "text/event-stream"), ("last-event-id", "0-1")]].concat();
                assert_eq!(house.wire().request(method, path, &more, None).status, 404, "{method} {path}");
            }
        }
        let named = format!("/servers/ab/messages?sessionId={session}");
        assert_eq!(house.wire().post(&named, &[("authorization", stranger)], &echo.to_string()).status, 404);
    }
    // It goes on with the next token, and with one that another application has for her.
    let next = Tokens::of(&app.refresh(&ada.refresh));
    for token in [&next.access, &other.log_in("ada").access] {
        assert_eq!(post(&session, &bearer(token), &echo).status, 200);
    }
    // A stream that broke is resumed by her alone.
    let slow = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "slow", "arguments": {"steps": 2, "delay_ms": 50},
        "_meta": {"progressToken": 7}}});
    let headers = [("authorization", hers.as_str()), ("mcp-session-id", &session), ("mcp-protocol-version", "2025-11-25")];
    let mut stream = house.wire().open("POST", "/servers/ab/mcp", &headers, Some(&slow.to_string()));
    let first = stream.event().unwrap().id.expect("an id");
    drop(stream);
    let resume = |with: &str| {
        let headers = [
            ("authorization", with),
            ("mcp-session-id", &session),
            ("mcp-protocol-version", "2025-11-25"),
            ("accept", "text/event-stream"),
            ("last-event-id", &first),
        ];
        house.wire().open("GET", "/servers/ab/mcp", &headers, None)
    };
    assert_eq!(resume(&his).status, 404);
    let with = bearer(&next.access);
    let mut resumed = resume(&with);
    loop {
        let message = resumed.message().expect("the answer");
        if message["id"] == 7 {
            break;
        }
    }
    // HTTP+SSE.
    let mut stream = house.wire().open("GET", "/servers/ab/sse", &[("authorization", &hers)], None);
    let endpoint = stream.event().unwrap().data;
    assert_eq!(house.wire().post(&endpoint, &[("authorization", &his)], &hello("2024-11-05")).status, 404);
    assert_eq!(house.wire().post(&endpoint, &[("authorization", &bearer(&next.access))], &hello("2024-11-05")).status, 202);
    assert_eq!(stream.message().unwrap()["id"], 1);

    // What a stateless client holds: the state of a call that asks.
    let call = |with: &str, method: &str, mut params: Value| {
        params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}});
        ask(house.port, "/servers/ab/mcp", &[("authorization", with)], method, params)
    };
    let params = json!({"name": "ask_user", "arguments": {"question": "Who?"}});
    let asked = call(&hers, "tools/call", params.clone()).messages().pop().unwrap();
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let answered = crate::asks::retry(&params, &asked, |_| Some(json!({"action": "decline"})));
    for stranger in [&his, &keyed] {
        let said = call(stranger, "tools/call", answered.clone());
        assert_eq!((said.status, &said.json()["error"]["code"]), (400, &json!(-32602)), "{}", said.text());
    }
    let said = call(&bearer(&next.access), "tools/call", answered).messages().pop().unwrap();
    assert_eq!(said["result"]["resultType"], "complete", "{said}");
}

/// A task, of either kind, at servers of both eras.
#[test]
fn a_task_is_of_whoever_began_it() {
    for mode in ["legacy", "modern"] {
        let behind = Gateway::fixture(&[], &[mode]);
        let house = House::open(&format!("[auth]\nmode = \"oauth\"\n[servers.far]\nurl = \"http://127.0.0.1:{}/mcp\"\n", behind.port));
        let app = App::register(house.port, "app");
        let (ada, bob) = (app.log_in("ada"), app.log_in("bob"));
        let knowing = json!({"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}});
        let stateless = |token: &str, method: &str, mut params: Value| {
            params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": knowing});
            ask(house.port, "/mcp", &[("authorization", &bearer(token))], method, params).messages().pop().unwrap()
        };
        let begun = stateless(&ada.access, "tools/call", json!({"name": "slow_compute", "arguments": {"seconds": 0.5, "label": "pi"}}));
        assert_eq!(begun["result"]["resultType"], "task", "{mode}: {begun}");
        let task = begun["result"]["taskId"].as_str().unwrap();
        for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
            let said = stateless(&bob.access, method, json!({"taskId": task, "inputResponses": {}}));
            assert_eq!(said["error"]["code"], -32602, "{mode} {method}: {said}");
        }
        let next = Tokens::of(&app.refresh(&ada.refresh));
        assert_eq!(stateless(&next.access, "tasks/get", json!({"taskId": task}))["result"]["taskId"], task, "{mode}");

        let session = |token: &str| {
            let headers = [("authorization", bearer(token))];
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let opened = house.wire().post("/mcp", &headers, &hello("2025-11-25"));
            assert_eq!(opened.status, 200, "{}", opened.text());
            opened.header("mcp-session-id").unwrap().to_owned()
        };
        let say = |token: &str, session: &str, method: &str, params: Value| {
            let with = bearer(token);
            let headers = [("authorization", with.as_str()), ("mcp-session-id", session), ("mcp-protocol-version", "2025-11-25")];
            let body = json!({"jsonrpc": "2.0", "id": 5, "method": method, "params": params});
            house.wire().post("/mcp", &headers, &body.to_string()).messages().pop().unwrap()
        };
        let (hers, his) = (session(&ada.access), session(&bob.access));
        let wanting = json!({"name": "slow_compute", "arguments": {"seconds": 0.5, "label": "pi"}, "task": {"ttl": 60_000}});
        let begun = say(&ada.access, &hers, "tools/call", wanting);
        let task = begun["result"]["task"]["taskId"].as_str().unwrap_or_else(|| panic!("{mode}: {begun}")).to_owned();
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            let said = say(&bob.access, &his, method, json!({"taskId": task}));
            assert_eq!(said["error"]["code"], -32602, "{mode} {method}: {said}");
        }
        assert_eq!(say(&next.access, &hers, "tasks/get", json!({"taskId": task}))["result"]["taskId"], task.as_str(), "{mode}");
    }
}

// --- keys ---------------------------------------------------------------------------------------

#[test]
fn a_key_is_for_its_servers_its_scopes_and_its_time() {
    let house = house();
    let at = |path: &str, key: &str| ask(house.port, path, &[("x-api-key", key)], "tools/list", json!({}));
    let (all, a) = (house.key("ada", None, None, None), house.key("ada", None, Some(&["a"]), None));
    let (read, x) = (house.key("ada", Some(&["read"]), None, None), house.key("ada", Some(&["x"]), None, None));
    for (key, opened) in [
        (&all, &["/mcp", "/servers/a/mcp", "/servers/ab/mcp", "/servers/x/mcp"][..]),
        (&a, &["/servers/a/mcp"]),
        (&read, &["/servers/a/mcp", "/servers/ab/mcp"]),
        (&x, &["/mcp", "/servers/a/mcp", "/servers/ab/mcp", "/servers/x/mcp"]),
    ] {
        for path in ["/mcp", "/servers/a/mcp", "/servers/ab/mcp", "/servers/x/mcp"] {
            assert_eq!(at(path, key).status, if opened.contains(&path) { 200 } else { 403 }, "{path}");
        }
    }
    let told = at("/servers/ab/mcp", &a);
    let lacks = "error=\"insufficient_scope\", error_description=\"this key is not for the server ab\"";
    assert!(told.header("www-authenticate").unwrap().ends_with(lacks), "{told:?}");
    // What it does is told to whoever may use all of it.
    let metrics = |key: &str| house.wire().request("GET", "/metrics", &[("x-api-key", key)], None).status;
    assert_eq!([metrics(&all), metrics(&x), metrics(&a), metrics(&read)], [200, 200, 403, 403]);
    // A tool, by a key.
    let add = |key: &str| {
        let params = json!({"name": "add", "arguments": {"a": 1, "b": 2}});
        ask(house.port, "/servers/a/mcp", &[("x-api-key", key)], "tools/call", params).status
    };
    assert_eq!([add(&all), add(&a), add(&read)], [200, 200, 403]);
    let over = house.key("ada", None, None, Some(now_s()));
    assert_eq!(at("/mcp", &over).status, 401);
    let soon = house.key("ada", None, None, Some(now_s() + 2));
    assert_eq!(at("/mcp", &soon).status, 200);
    crate::gateway::wait_until("a key to end", || at("/mcp", &soon).status == 401);
    // Its sessions are its owner's: any key of theirs goes on with them.
    let opened = house.wire().post("/servers/a/mcp", &[("x-api-key", &all)], &hello("2025-06-18"));
    let session = opened.header("mcp-session-id").unwrap();
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}).to_string();
    let bob = house.key("bob", None, None, None);
    for (key, expected) in [(&a, 200), (&bob, 404)] {
        let headers = [("x-api-key", key.as_str()), ("mcp-session-id", session), ("mcp-protocol-version", "2025-06-18")];
        assert_eq!(house.wire().post("/servers/a/mcp", &headers, &ping).status, expected);
    }
}

#[test]
fn keys_of_the_environment_and_nothing_else_where_nobody_logs_in() {
    let mut plan = plan("[auth]\nmode = \"keys\"\n[servers.a]\ndemo = true\n");
    for (name, text) in
        [("MCP_API_KEY_1", "sesame-sesame-sesame:ada"), ("MCP_API_KEY_2", "sesame-sesame-other:bob:acme:2001-01-01T00:00:00Z")]
    {
        plan.auth.keys.push(Given::read(name, text).unwrap());
    }
    let house = House::planned(plan);
    let at = |headers: &[(&str, &str)]| ask(house.port, "/mcp", headers, "tools/list", json!({}));
    assert_eq!(at(&[("x-api-key", "sesame-sesame-sesame")]).status, 200);
    assert_eq!(at(&[("authorization", "Bearer sesame-sesame-sesame")]).status, 200);
    let missing = at(&[]);
    refused(&missing, 401, "Bearer");
    assert!(missing.json()["error"]["message"].as_str().unwrap().starts_with("API key required"));
    for wrong in ["sesame-sesame-other", "sesame-sesame-sesam", "sesame-sesame-sesame:ada"] {
        assert_eq!(at(&[("x-api-key", wrong)]).status, 401, "{wrong}");
    }
    // Nobody issues tokens here.
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-authorization-server",
        "/authorize",
        "/token",
        "/register",
        "/jwks",
    ] {
        assert_eq!(house.get(path).status, 404, "{path}");
    }
}

// --- documents ----------------------------------------------------------------------------------

#[test]
fn every_mount_says_who_issues_tokens_for_it() {
    let house = house();
    const AT: &str = "/.well-known/oauth-protected-resource";
    for (path, resource, scopes) in [
        ("", "", json!(["read", "write", "x"])),
        ("/mcp", "/mcp", json!(["read", "write", "x"])),
        ("/sse", "/sse", json!(["read", "write", "x"])),
        ("/messages", "/sse", json!(["read", "write", "x"])),
        ("/servers/a/mcp", "/servers/a/mcp", json!(["read", "write"])),
        ("/servers/a/mcp/", "/servers/a/mcp", json!(["read", "write"])),
        ("/servers/ab/sse", "/servers/ab/sse", json!(["read", "write", "x"])),
        ("/servers/x/mcp", "/servers/x/mcp", json!(["x"])),
    ] {
        let said = house.wire().request("GET", &format!("{AT}{path}"), &[("origin", "https://page.example")], None);
        assert_eq!((said.status, said.header("access-control-allow-origin")), (200, Some("*")), "{path}");
        let document = said.json();
        assert_eq!((&document["resource"], &document["scopes_supported"]), (&json!(house.url(resource)), &scopes), "{path}");
        assert_eq!(document["authorization_servers"], json!([house.url("")]));
        assert_eq!(document["bearer_methods_supported"], json!(["header"]));
    }
    for path in ["/x", "/servers/none/mcp", "/servers/a", "/servers/a/x", "/metrics", "/mcp/x", "x"] {
        assert_eq!(house.get(&format!("{AT}{path}")).status, 404, "{path}");
    }
    for path in [AT, "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let asked =
            house.wire().request("OPTIONS", path, &[("origin", "https://page.example"), ("access-control-request-method", "GET")], None);
        assert_eq!(asked.status, 204);
        assert_eq!(house.wire().request("POST", path, &[], Some("")).status, 405);
        assert_eq!(house.wire().request("GET", path, &[("host", "evil.example")], None).status, 403);
    }
    assert_eq!(house.get("/.well-known/openid-configuration").json()["issuer"], house.url(""));
}

/// Pages that an operator has named can read what they are told, a challenge too.
#[test]
fn a_page_that_may_call_sees_the_challenge() {
    let house = House::open(&format!("allow_origins = [\"https://page.example\"]\n{CONFIG}"));
    let page = [("origin", "https://page.example")];
    let said = ask(house.port, "/mcp", &page, "tools/list", json!({}));
    assert_eq!((said.status, said.header("access-control-allow-origin")), (401, Some("https://page.example")));
    assert!(said.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
    let asked = house.wire().request("OPTIONS", "/mcp", &[page[0], ("access-control-request-headers", "authorization,x-api-key")], None);
    assert_eq!(asked.status, 204, "a preflight shows nobody's credentials");
    let allowed = asked.header("access-control-allow-headers").unwrap();
    assert!(allowed.contains("authorization") && allowed.contains("x-api-key"));
    let evil = ask(house.port, "/mcp", &[("origin", "https://evil.example")], "tools/list", json!({}));
    assert_eq!((evil.status, evil.header("access-control-allow-origin")), (403, None));
}

/// Requests that follow each other on one connection are each of whoever sends them.
#[test]
fn a_connection_is_nobodys() {
    let house = house();
    let key = house.key("ada", None, None, None);
    let (headers, body) = stateless_request(7, "tools/list", json!({}));
    let mut wire = Wire::connect(house.port);
    let mut all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    all.push(("x-api-key", &key));
    wire.send("POST", "/servers/ab/mcp", &all, Some(&body));
    all.pop();
    all.push(("connection", "close"));
    wire.send("POST", "/servers/ab/mcp", &all, Some(&body));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut wire.socket(), &mut text).unwrap();
    assert!(text.contains("HTTP/1.1 200") && text.contains("HTTP/1.1 401"), "{text}");
    assert!(!encode(&text).contains(&key));
}
