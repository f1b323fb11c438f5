//! Servers elsewhere, over Streamable HTTP with a session, as they misbehave.

use serde_json::{Value, json};

use crate::foreign::{Foreign, hello};
use crate::gateway::{Gateway, config_file, tool, up_to_answer, wait_until};

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}

/// Whether a request belongs to the session of that number.
fn is_of(heard: &crate::foreign::Heard, session: u32) -> bool {
    heard.header("mcp-session-id") == Some(&format!("session-{session}"))
}

#[test]
fn what_a_session_says_of_itself_goes_with_every_request() {
    let far = Foreign::sessions("2025-06-18", |heard, reply| reply.text(heard, "here"));
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-11-25");
    assert_eq!(session.hello["result"]["serverInfo"]["name"], "far");
    assert_eq!(text(&session.tool(2, "x", json!({}))), "here");
    assert_eq!(session.delete().status, 204);
    far.wait_for("DELETE", 1);
    for heard in far.heard() {
        let first = ["initialize", "server/discover"].contains(&heard.what().as_str());
        let expected = (!first).then_some("session-1");
        assert_eq!(heard.header("mcp-session-id"), expected, "{heard:?}");
        if heard.what() != "server/discover" {
            assert_eq!(heard.header("mcp-protocol-version"), (!first).then_some("2025-06-18"), "{heard:?}");
        }
        assert!(heard.header("user-agent").is_some_and(|agent| agent.starts_with("landbridge/")), "{heard:?}");
        if heard.method == "POST" {
            assert_eq!(heard.header("accept"), Some("application/json, text/event-stream"));
            assert_eq!(heard.header("content-type"), Some("application/json"));
        }
    }
    assert_eq!(
        far.heard().iter().map(|h| h.what()).filter(|w| w != "GET").collect::<Vec<_>>(),
        ["server/discover", "initialize", "notifications/initialized", "tools/call", "DELETE"]
    );
}

#[test]
fn a_session_that_was_forgotten_is_opened_anew_once_for_all_who_notice() {
    for (status, body) in [
        (404, ""),
        (404, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#),
        (404, r#"{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session not found"}}"#),
        (400, "Bad Request: No valid session ID provided"),
        (400, r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Mcp-Session-Id is unknown"},"id":null}"#),
    ] {
        let far = Foreign::sessions("2025-11-25", move |heard, reply| match is_of(heard, 1) && heard.what() == "tools/call" {
            true => reply.whole(status, &[("content-type", "application/json")], body),
            false => reply.text(heard, "after all"),
        });
        let gateway = far.gateway("/mcp");
        let session = gateway.session("2025-11-25");
        session.call(2, "logging/setLevel", json!({"level": "warning"}));
        session.call(3, "resources/subscribe", json!({"uri": "file:///a"}));
        std::thread::scope(|scope| {
            for id in 10..14 {
                let session = &session;
                scope.spawn(move || assert_eq!(text(&session.tool(id, "x", json!({}))), "after all", "{status} {body}"));
            }
        });
        far.wait_for("resources/subscribe", 2);
        far.wait_for("logging/setLevel", 2);
        assert_eq!(far.count("initialize"), 2, "{status} {body}");
        let again: Vec<_> = far.heard().into_iter().filter(|heard| is_of(heard, 2)).collect();
        let said = |what: &str| again.iter().find(|h| h.what() == what).unwrap_or_else(|| panic!("{what}")).json()["params"].clone();
        assert_eq!(said("logging/setLevel")["level"], "warning");
        assert_eq!(said("resources/subscribe")["uri"], "file:///a");
    }
}

#[test]
fn a_server_that_forgets_every_session_is_not_asked_forever() {
    let far = Foreign::sessions("2025-11-25", |_, reply| reply.empty(404));
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-11-25");
    let answer = session.tool(2, "x", json!({}));
    assert!(answer["error"]["message"].as_str().unwrap().contains("HTTP 404"), "{answer}");
    assert_eq!(far.count("tools/call"), 2);
}

#[test]
fn a_server_that_opens_no_other_session_is_not_waited_for_forever() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let far = Foreign::start(move |heard, reply| match heard.what().as_str() {
        "server/discover" => reply.empty(400),
        "initialize" if first.swap(false, std::sync::atomic::Ordering::Relaxed) => {
            let hello = json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": hello("2025-11-25")});
            reply.json(200, &[("mcp-session-id", "session-1")], &hello);
        }
        "initialize" => reply.events().await_end(),
        "tools/call" => reply.empty(404),
        "GET" => reply.empty(405),
        _ => reply.empty(202),
    });
    let file = config_file(&format!("[limits]\nhandshake_ms = 300\n[servers.far]\nurl = \"{}\"\n", far.url("/mcp")));
    let gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    let answer = gateway.session("2025-11-25").tool(2, "x", json!({}));
    assert!(answer["error"]["message"].as_str().unwrap().contains("opened no other within 0.3 s"), "{answer}");
}

#[test]
fn that_a_method_is_unknown_is_not_taken_for_a_lost_session() {
    let far = Foreign::sessions("2025-11-25", |heard, reply| reply.error(404, heard, -32601, "no such method"));
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-11-25");
    let answer = session.call(2, "resources/list", json!({}));
    assert_eq!(answer["error"], json!({"code": -32601, "message": "no such method"}));
    assert_eq!(far.count("initialize"), 1);
}

#[test]
fn a_calls_stream_that_breaks_off_is_taken_up_again() {
    let far = Foreign::start(|heard, reply| match heard.what().as_str() {
        "server/discover" => reply.empty(400),
        "initialize" => {
            let hello = json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": hello("2025-11-25")});
            reply.json(200, &[("mcp-session-id", "session-1")], &hello);
        }
        "tools/call" => {
            let mut events = reply.events();
            let token = &heard.json()["params"]["_meta"]["progressToken"];
            events.raw(format!("retry: 10\nid: {}-1\ndata:\n\n", heard.json()["id"]));
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}});
            events.raw(format!("id: {}-2\ndata: {progress}\n\n", heard.json()["id"]));
        }
        "GET" => match heard.header("last-event-id") {
            Some(last) => {
                let (id, at) = last.rsplit_once('-').unwrap();
                let (id, mut events) = (id.to_owned(), reply.events());
                match at {
                    // It breaks off a second time, having said nothing.
                    "2" => {
                        events.raw(format!("id: {id}-3\ndata:\n\n"));
                    }
                    at => {
                        assert_eq!(at, "3");
                        events.raw(format!(
                            "id: {id}-4\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\"done\"}}]}}}}\n\n"
                        ));
                    }
                }
            }
            None => reply.empty(405),
        },
        _ => reply.empty(202),
    });
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-11-25");
    let mut call = tool(2, "x", json!({}));
    call["params"]["_meta"] = json!({"progressToken": "p"});
    let said = up_to_answer(&mut session.stream(&call), 2);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0]["params"]["progressToken"], "p");
    assert_eq!(text(&said[1]), "done");
    assert_eq!(far.count("tools/call"), 1, "it was not sent again");
}

#[test]
fn a_call_whose_stream_breaks_off_for_good_is_not_sent_again() {
    for with_id in [true, false] {
        let far = Foreign::sessions("2025-11-25", move |_, reply| {
            reply.events().raw(if with_id { "retry: 1\nid: 1\ndata:\n\n" } else { ": there\n\n" });
        });
        let gateway = far.gateway("/mcp");
        let session = gateway.session("2025-11-25");
        let answer = session.tool(2, "x", json!({}));
        assert!(answer["error"]["message"].as_str().unwrap().contains("the server `far` broke off"), "{answer}");
        assert_eq!(far.count("tools/call"), 1);
        assert!(gateway.wire().post("/mcp", &session.headers(), r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#).status == 200);
    }
}

#[test]
fn a_servers_own_stream_is_opened_again_and_says_what_it_missed() {
    let far = Foreign::start(|heard, reply| match heard.what().as_str() {
        "server/discover" => reply.empty(400),
        "initialize" => {
            let hello = json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": hello("2025-11-25")});
            reply.json(200, &[("mcp-session-id", "session-1")], &hello);
        }
        "GET" => {
            let mut events = reply.events();
            let last: u32 = heard.header("last-event-id").unwrap_or("0").parse().unwrap();
            events.raw(format!("retry: 5\nid: {}\n", last + 1));
            events.message(
                &json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": format!("file:///{last}")}}),
            );
        }
        _ => reply.empty(202),
    });
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-11-25");
    let mut get = session.get(None);
    // What it said before the client listened may be over.
    let mut next = || get.message().unwrap()["params"]["uri"].as_str().unwrap()["file:///".len()..].parse::<u32>().unwrap();
    let first = next();
    for n in 1..5 {
        assert_eq!(next(), first + n);
    }
}

#[test]
fn a_call_that_is_withdrawn_is_withdrawn_there() {
    let far = Foreign::sessions("2025-11-25", |_, reply| {
        let mut events = reply.events();
        events.raw(": working\n\n");
        events.await_end();
    });
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-11-25");
    let mut stream = session.stream(&tool(7, "x", json!({})));
    let id = far.wait_for("tools/call", 1).json()["id"].clone();
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    assert_eq!(far.wait_for("notifications/cancelled", 1).json()["params"]["requestId"], id);
    while stream.message().is_some() {}
}

#[test]
fn who_is_at_fault_is_told() {
    for (status, headers, body, told) in [
        (401, &[("www-authenticate", "Bearer")][..], "", "wants authorization"),
        (403, &[], "no", "refuses"),
        (500, &[], "<html>oops</html>", "HTTP 500"),
        (302, &[("location", "http://127.0.0.1:9/mcp")], "", "redirects"),
        (307, &[("location", "http://127.0.0.1:9/mcp")], "", "not at the same origin"),
        (200, &[("content-type", "text/html")], "<html>welcome</html>", "initialize"),
    ] {
        let far = Foreign::start(move |_, reply| reply.whole(status, headers, body));
        let gateway = far.gateway("/mcp");
        let answer = gateway.stateless(2, "tools/list", json!({})).json();
        let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        assert!(message.contains("the server `far`") && message.contains(told), "{status}: {message}");
    }
}

#[test]
fn a_server_that_is_not_there_is_looked_for_again() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = Gateway::start(&["--server", &format!("far=http://127.0.0.1:{port}/mcp")]);
    let answer = gateway.stateless(2, "tools/list", json!({})).json();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("the server `far` cannot be reached") && message.to_lowercase().contains("refused"), "{message}");
    let _far = Foreign::at(port, |heard, reply| match heard.what().as_str() {
        "server/discover" => reply.result(heard, crate::foreign::discovered()),
        _ => reply.text(heard, "there"),
    });
    wait_until("it to be found", || gateway.stateless(3, "prompts/get", json!({"name": "x"})).status == 200);
}

#[test]
fn a_redirect_within_the_origin_is_followed() {
    let far = Foreign::sessions("2025-11-25", |heard, reply| match heard.path.as_str() {
        "/new/" => reply.text(heard, "moved"),
        _ => reply.whole(308, &[("location", "/new/")], ""),
    });
    let gateway = far.gateway("/old");
    let session = gateway.session("2025-11-25");
    assert_eq!(text(&session.tool(2, "x", json!({}))), "moved");
}

#[test]
fn a_servers_headers_come_from_the_file_and_stay_secret() {
    let far = Foreign::sessions("2025-11-25", |heard, reply| reply.text(heard, "here"));
    let file = config_file(&format!(
        "[servers.far]\nurl = \"{}\"\nheaders = {{ Authorization = \"Bearer ${{FAR_TOKEN}}\", X-Team = \"one\" }}\n",
        far.url("/mcp")
    ));
    let gateway = Gateway::start_with(&["--config", file.to_str().unwrap()], &[("FAR_TOKEN", "s3cret")]);
    let _ = std::fs::remove_file(file);
    let session = gateway.session("2025-11-25");
    session.tool(2, "x", json!({}));
    session.delete();
    far.wait_for("DELETE", 1);
    for heard in far.heard() {
        assert_eq!((heard.header("authorization"), heard.header("x-team")), (Some("Bearer s3cret"), Some("one")), "{heard:?}");
    }
    assert!(!gateway.log().contains("s3cret"));
}

#[test]
fn proxies_of_the_environment_are_used_and_told_who_we_are() {
    let proxy = Foreign::sessions("2025-11-25", |heard, reply| reply.text(heard, "by proxy"));
    let url = format!("http://user:pass@127.0.0.1:{}", proxy.port);
    let args = ["--server", "far=http://mcp.example.com/mcp"];
    let gateway = Gateway::start_with(&args, &[("HTTP_PROXY", &url), ("http_proxy", &url), ("NO_PROXY", ""), ("no_proxy", "")]);
    let session = gateway.session("2025-11-25");
    assert_eq!(text(&session.tool(2, "x", json!({}))), "by proxy");
    for heard in proxy.heard() {
        assert_eq!(heard.path, "http://mcp.example.com/mcp");
        assert_eq!(heard.header("host"), Some("mcp.example.com"));
        assert_eq!(heard.header("proxy-authorization"), Some("Basic dXNlcjpwYXNz"));
    }
    assert!(!gateway.log().contains("pass@"));
}

#[test]
fn headers_of_the_command_line_go_to_the_server_they_are_for_and_nowhere_else() {
    let start = || Foreign::sessions("2025-06-18", |heard, reply| reply.text(heard, "here"));
    let (one, two) = (start(), start());
    let (first, second) = (format!("one={}", one.url("/mcp")), format!("two={}", two.url("/mcp")));
    let args = ["--server", &first, "--server", &second, "--header", "one=Authorization: Bearer ${TOKEN}"];
    let more = ["--header", "two=X-Key: k3y", "--transport", "http"];
    let gateway = Gateway::start_with(&[&args[..], &more].concat(), &[("TOKEN", "s3cr3t")]);
    for name in ["one", "two"] {
        let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": format!("{name}__x")}});
        let session = gateway.session("2025-06-18");
        assert!(session.send(&call).text().contains("here"));
    }
    for heard in one.heard() {
        assert_eq!((heard.header("authorization"), heard.header("x-key")), (Some("Bearer s3cr3t"), None), "{heard:?}");
    }
    for heard in two.heard() {
        assert_eq!((heard.header("authorization"), heard.header("x-key")), (None, Some("k3y")), "{heard:?}");
    }
    assert!(one.count("tools/call") == 1 && two.count("tools/call") == 1);
    assert!(!gateway.log().contains("s3cr3t") && !gateway.log().contains("k3y"), "{}", gateway.log());
}
