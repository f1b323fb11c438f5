//! Servers elsewhere that turn out to be others: what they refuse for its revision was not read, and is called
//! again in the words they speak now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use crate::asks::accept;
use crate::foreign::{Foreign, Heard, Reply, discovered, hello};
use crate::gateway::{Gateway, stateless_request, tool, wait_until};
use crate::pipe::Pipe;

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {answer}"))
}

fn refuse(heard: &Heard, reply: Reply<'_>, data: Value) {
    let error = json!({"code": -32022, "message": "no", "data": data});
    reply.json(400, &[], &json!({"jsonrpc": "2.0", "id": heard.json()["id"], "error": error}));
}

/// A server that is stateless until it is told to be an old one, and what tells it. Calls are answered by
/// `answer`, which is told what it is.
fn changing(answer: impl Fn(bool, &Heard, Reply<'_>) + Send + Sync + 'static) -> (Foreign, Arc<AtomicBool>) {
    let changed = Arc::new(AtomicBool::new(false));
    let is_old = changed.clone();
    let far = Foreign::start(move |heard, reply| {
        let old = is_old.load(Ordering::Relaxed);
        match heard.what().as_str() {
            "server/discover" if !old => reply.result(heard, discovered()),
            "initialize" if old => {
                let hello = json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": hello("2025-11-25")});
                reply.json(200, &[("mcp-session-id", "s")], &hello);
            }
            "GET" => reply.empty(405),
            "DELETE" => reply.empty(204),
            what if what.starts_with("notifications/") => reply.empty(202),
            _ if old && heard.header("mcp-protocol-version") == Some("2026-07-28") => {
                refuse(heard, reply, json!({"supported": ["2025-11-25"], "requested": "2026-07-28"}));
            }
            "tools/list" => reply.result(heard, json!({"tools": []})),
            _ => answer(old, heard, reply),
        }
    });
    (far, changed)
}

/// A client that calls the same tool again and again.
type Caller<'g> = Box<dyn FnMut() -> Value + 'g>;

fn as_what(old: bool, heard: &Heard, reply: Reply<'_>) {
    reply.text(heard, if old { "old" } else { "new" });
}

#[test]
fn a_call_that_is_refused_for_its_revision_goes_to_what_the_server_is_now() {
    let clients: [fn(&Gateway) -> Caller<'_>; 3] = [
        |gateway| Box::new(|| gateway.stateless(2, "tools/call", json!({"name": "x"})).messages().pop().unwrap()),
        |gateway| {
            let session = gateway.session("2025-06-18");
            Box::new(move || session.tool(2, "x", json!({})))
        },
        |gateway| {
            let mut sse = gateway.sse("2024-11-05");
            Box::new(move || sse.call(2, "tools/call", json!({"name": "x"})))
        },
    ];
    for client in clients {
        let (far, changed) = changing(as_what);
        let gateway = far.gateway("/mcp");
        let mut call = client(&gateway);
        assert_eq!(text(&call()), "new");
        changed.store(true, Ordering::Relaxed);
        for _ in 0..2 {
            assert_eq!(text(&call()), "old");
        }
        // Once as it was, once refused, once again, and then as a matter of course.
        assert_eq!((far.count("tools/call"), far.count("initialize")), (4, 1), "{}", gateway.log());
    }
}

#[test]
fn it_is_so_behind_one_endpoint_and_for_a_client_on_a_pipe() {
    let (far, changed) = changing(as_what);
    let other = format!("other={}", far.url("/other"));
    let gateway = far.gateway_with("/mcp", &["--server", &other]);
    let mut pipe = Pipe::start(&[&far.url("/mcp")]).speaking("2026-07-28", json!({}));
    let session = gateway.session("2025-11-25");
    let mut call = || {
        let stateless = gateway.stateless(2, "tools/call", json!({"name": "far__x"})).messages().pop().unwrap();
        [stateless, session.tool(2, "other__x", json!({})), pipe.tool("x", json!({}))].map(|answer| text(&answer).to_owned())
    };
    assert_eq!(call(), ["new"; 3]);
    changed.store(true, Ordering::Relaxed);
    assert_eq!(call(), ["old"; 3]);
    assert_eq!(call(), ["old"; 3]);
}

#[test]
fn each_call_that_is_refused_goes_on_and_one_that_was_read_runs_on() {
    let (say, go_on): (Sender<()>, Receiver<()>) = channel();
    let go_on = std::sync::Mutex::new(go_on);
    let (far, changed) = changing(move |old, heard, reply| match heard.json()["params"]["name"].as_str() {
        Some("slow") => {
            go_on.lock().unwrap().recv().unwrap();
            reply.text(heard, "at last");
        }
        _ => as_what(old, heard, reply),
    });
    let gateway = far.gateway("/mcp");
    std::thread::scope(|scope| {
        let call = |name: &'static str| gateway.stateless(2, "tools/call", json!({"name": name})).messages().pop().unwrap();
        let slow = scope.spawn(move || call("slow"));
        far.wait_for("tools/call", 1);
        changed.store(true, Ordering::Relaxed);
        let many: Vec<_> = (0..8).map(|_| scope.spawn(move || call("x"))).collect();
        for one in many {
            assert_eq!(text(&one.join().unwrap()), "old");
        }
        say.send(()).unwrap();
        assert_eq!(text(&slow.join().unwrap()), "at last");
    });
    assert_eq!(far.count("initialize"), 1, "it was met again once");
}

#[test]
fn what_it_is_now_may_ask_a_client_that_waits_for_its_call() {
    let (answers, answered) = channel();
    let (answers, answered) = (std::sync::Mutex::new(answers), std::sync::Mutex::new(answered));
    let (far, changed) = changing(move |old, heard, reply| match heard.what().as_str() {
        _ if !old => as_what(old, heard, reply),
        "tools/call" => {
            let mut events = reply.events();
            let params = json!({"message": "?", "requestedSchema": {"type": "object", "properties": {}}});
            events.message(&json!({"jsonrpc": "2.0", "id": 77, "method": "elicitation/create", "params": params}));
            let said: Value = answered.lock().unwrap().recv().unwrap();
            let said = said["result"]["content"]["said"].clone();
            events.message(&json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": {"content": [{"type": "text", "text": said}]}}));
        }
        _ => {
            answers.lock().unwrap().send(heard.json()).unwrap();
            reply.empty(202);
        }
    });
    let gateway = far.gateway("/mcp");
    let can = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}});
    let call = |more: Value| {
        let mut params = json!({"name": "x", "_meta": can});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        gateway.stateless(2, "tools/call", params).messages().pop().unwrap()
    };
    assert_eq!(text(&call(json!({}))), "new");
    changed.store(true, Ordering::Relaxed);
    let asked = call(json!({}));
    assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
    let (key, _) = asked["result"]["inputRequests"].as_object().unwrap().iter().next().unwrap();
    let retry = call(json!({"inputResponses": {key: accept(json!({"said": "yes"}))}, "requestState": asked["result"]["requestState"]}));
    assert_eq!(text(&retry), "yes");
}

#[test]
fn a_call_that_is_withdrawn_while_the_server_is_met_again_is_not_made() {
    let (say, go_on): (Sender<()>, Receiver<()>) = channel();
    let go_on = std::sync::Mutex::new(go_on);
    let old = Arc::new(AtomicBool::new(false));
    let is_old = old.clone();
    let far = Foreign::start(move |heard, reply| match heard.what().as_str() {
        "server/discover" if !is_old.load(Ordering::Relaxed) => reply.result(heard, discovered()),
        "initialize" => {
            go_on.lock().unwrap().recv().unwrap();
            reply.result(heard, hello("2025-11-25"));
        }
        "GET" => reply.empty(405),
        what if what.starts_with("notifications/") => reply.empty(202),
        "tools/call" if heard.header("mcp-protocol-version") != Some("2026-07-28") => reply.text(heard, "made"),
        _ => refuse(heard, reply, json!({"supported": ["2025-11-25"]})),
    });
    let gateway = far.gateway("/mcp");
    let session = gateway.session("2025-06-18");
    old.store(true, Ordering::Relaxed);
    let mut stream = session.stream(&tool(2, "x", json!({})));
    far.wait_for("initialize", 1);
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}));
    say.send(()).unwrap();
    let answer = stream.message().unwrap();
    assert!(answer["error"]["message"].as_str().unwrap().contains("cancelled"), "{answer}");
    say.send(()).unwrap_or_default();
    assert_eq!(text(&session.tool(3, "y", json!({}))), "made");
    let names: Vec<Value> = far.heard().iter().filter(|h| h.what() == "tools/call").map(|h| h.json()["params"]["name"].clone()).collect();
    assert_eq!(names, ["x", "y"], "x was refused, and not made again");
}

#[test]
fn a_server_that_refuses_what_it_says_it_speaks_is_told_so() {
    let far = Foreign::stateless(|heard, reply| refuse(heard, reply, json!({"supported": ["2026-07-28", "2025-11-25"]})));
    let gateway = far.gateway("/mcp");
    let answer = gateway.stateless(2, "tools/call", json!({"name": "x"})).json();
    let told = "the server `far` refuses 2026-07-28, and says that it speaks that";
    assert_eq!(answer["error"]["message"], told);
    assert_eq!((far.count("tools/call"), far.count("server/discover")), (1, 1));
}

#[test]
fn a_server_that_never_says_what_it_speaks_is_called_twice() {
    let far = Foreign::stateless(|heard, reply| refuse(heard, reply, json!({})));
    let gateway = far.gateway("/mcp");
    for client in [
        |g: &Gateway| g.stateless(2, "prompts/get", json!({"name": "x"})).json(),
        |g: &Gateway| g.session("2025-06-18").call(2, "prompts/get", json!({"name": "x"})),
    ] {
        let before = far.count("prompts/get");
        let answer = client(&gateway);
        assert!(answer["error"]["message"].as_str().unwrap().contains("does not speak 2026-07-28 any more"), "{answer}");
        assert_eq!(far.count("prompts/get") - before, 2);
    }
}

#[test]
fn a_server_that_is_pinned_to_what_it_spoke_is_not_met_in_other_words() {
    let (far, changed) = changing(as_what);
    let gateway = far.gateway_with("/mcp", &["--protocol", "2026-07-28"]);
    let (headers, body) = stateless_request(2, "tools/call", json!({"name": "x"}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let call = || gateway.wire().post("/mcp", &headers, &body).json();
    assert_eq!(text(&call()), "new");
    changed.store(true, Ordering::Relaxed);
    let answer = call();
    assert!(answer["error"]["message"].as_str().unwrap().contains("pinned to 2026-07-28"), "{answer}");
    assert_eq!(far.count("initialize"), 0);
    changed.store(false, Ordering::Relaxed);
    wait_until("it to be what it was", || call()["result"]["content"][0]["text"] == "new");
}
