//! What servers ask their clients: every kind of client at every kind of server.
//!
//! [`Client`] answers questions over each of the three wires, so that a test says what is asked
//! and what comes of it, and not how. What is special about one wire is in `asks_live` (a client
//! that is asked while its call runs) and `parked` (one that is not).

use serde_json::{Value, json};

use crate::children::text;
use crate::gateway::{Gateway, Session, Sse, stateless_request, tool, up_to_answer};
use crate::wire::{Response, Stream};

/// What a client does about a question.
#[derive(Clone)]
pub(crate) enum Answer {
    Result(Value),
    /// There only is one where a question is a request of its own.
    Error(Value),
}

/// Somebody who can be asked.
pub(crate) enum Client<'g> {
    Streamable(Session<'g>),
    Sse(Sse<'g>),
    Stateless(&'g Gateway, Value),
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Talk {
    /// What was asked on the way: `method` and `params`, and under which id or key.
    pub asked: Vec<Value>,
    /// In so many rounds; only a stateless client can tell.
    pub rounds: usize,
    /// The status and the message of the last answer.
    pub status: u16,
    pub last: Value,
}

impl Talk {
    #[track_caller]
    pub fn text(&self) -> &str {
        text(&self.last)
    }

    #[track_caller]
    pub fn failure(&self) -> &str {
        assert_eq!(self.last["result"]["isError"], true, "{self:?}");
        self.text()
    }

    #[track_caller]
    pub fn success(&self) -> &str {
        assert!(self.last["result"].get("isError").is_none_or(|e| e == false), "{self:?}");
        self.text()
    }

    pub fn methods(&self) -> Vec<&str> {
        self.asked.iter().map(|a| a["method"].as_str().unwrap()).collect()
    }
}

impl<'g> Client<'g> {
    pub fn streamable(gateway: &'g Gateway, revision: &str, capabilities: Value) -> Client<'g> {
        Client::Streamable(gateway.session_with(revision, capabilities))
    }

    pub fn sse(gateway: &'g Gateway, revision: &str, capabilities: Value) -> Client<'g> {
        Client::Sse(sse_with(gateway, revision, capabilities))
    }

    pub fn stateless(gateway: &'g Gateway, capabilities: Value) -> Client<'g> {
        Client::Stateless(gateway, capabilities)
    }

    /// One of each wire, where the handshake era has what they declare since `since`.
    pub fn all(gateway: &'g Gateway, since: &str, capabilities: &Value) -> Vec<Client<'g>> {
        vec![
            Client::streamable(gateway, since, capabilities.clone()),
            Client::streamable(gateway, "2025-11-25", capabilities.clone()),
            Client::sse(gateway, since, capabilities.clone()),
            Client::stateless(gateway, capabilities.clone()),
        ]
    }

    pub fn is_stateless(&self) -> bool {
        matches!(self, Client::Stateless(..))
    }

    /// Calls a tool and answers each question as it comes.
    pub fn tool(&mut self, name: &str, arguments: Value, mut answer: impl FnMut(&Value) -> Answer) -> Talk {
        self.request(1, "tools/call", json!({"name": name, "arguments": arguments}), &mut answer)
    }

    /// The same where so many questions are to be there before the first is answered.
    pub fn tool_asking(&mut self, at_once: usize, name: &str, mut answer: impl FnMut(&Value) -> Answer) -> Talk {
        self.request(at_once, "tools/call", json!({"name": name, "arguments": {}}), &mut answer)
    }

    pub fn request(&mut self, at_once: usize, method: &str, params: Value, answer: &mut dyn FnMut(&Value) -> Answer) -> Talk {
        let call = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        match self {
            Client::Streamable(session) => {
                let mut stream = session.stream(&call);
                if stream.header("content-type").is_some_and(|t| t.contains("json")) {
                    return Talk { asked: Vec::new(), rounds: 0, status: stream.status, last: body(&mut stream) };
                }
                let status = stream.status;
                let post = |message: &Value| assert_eq!(session.send(message).status, 202);
                converse(status, at_once, || stream.message().expect("a message"), post, answer)
            }
            Client::Sse(sse) => {
                sse.post(&call);
                let (gateway, path) = (sse.gateway, sse.path.clone());
                let post = |message: &Value| assert_eq!(gateway.wire().post(&path, &[], &message.to_string()).status, 202);
                converse(200, at_once, || sse.next(), post, answer)
            }
            Client::Stateless(gateway, capabilities) => {
                let mut talk = Talk { asked: Vec::new(), rounds: 0, status: 0, last: Value::Null };
                let mut round = params.clone();
                for id in 7.. {
                    let said = post(gateway, "/mcp", id, method, round, capabilities);
                    (talk.status, talk.last) = (said.status, said.messages().pop().unwrap());
                    assert_eq!(talk.last["id"], id, "{talk:?}");
                    if talk.last["result"]["resultType"] != "input_required" {
                        break;
                    }
                    talk.rounds += 1;
                    let asked = questions(&talk.last);
                    round = retry(&params, &talk.last, |question| match answer(question) {
                        Answer::Result(result) => Some(result),
                        Answer::Error(_) => None,
                    });
                    talk.asked.extend(asked);
                }
                talk
            }
        }
    }
}

/// A conversation with somebody who is asked live.
fn converse(
    status: u16,
    at_once: usize,
    mut next: impl FnMut() -> Value,
    post: impl Fn(&Value),
    answer: &mut dyn FnMut(&Value) -> Answer,
) -> Talk {
    let (mut asked, mut open) = (Vec::new(), Vec::new());
    loop {
        let message = next();
        if message["id"] == 7 && message.get("method").is_none() {
            return Talk { asked, rounds: 0, status, last: message };
        }
        if message.get("id").is_none() {
            continue;
        }
        asked.push(message.clone());
        open.push(message);
        if open.len() < at_once {
            continue;
        }
        // Whoever is asked several things answers in an order of their own.
        for question in open.drain(..).rev() {
            post(&match answer(&question) {
                Answer::Result(result) => json!({"jsonrpc": "2.0", "id": question["id"], "result": result}),
                Answer::Error(error) => json!({"jsonrpc": "2.0", "id": question["id"], "error": error}),
            });
        }
    }
}

/// The one message of a body that is no stream.
fn body(stream: &mut Stream) -> Value {
    let bytes: Vec<u8> = std::iter::from_fn(|| stream.piece()).flatten().collect();
    serde_json::from_slice(&bytes).unwrap()
}

/// One request of a stateless client of these capabilities.
pub(crate) fn post(gateway: &Gateway, path: &str, id: u64, method: &str, mut params: Value, capabilities: &Value) -> Response {
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities.clone();
    let (headers, body) = stateless_request(id, method, params);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    gateway.wire().post(path, &headers, &body)
}

/// What an InputRequiredResult asks, with the keys.
pub(crate) fn questions(said: &Value) -> Vec<Value> {
    let asked = said["result"]["inputRequests"].as_object();
    let with_key = |(key, request): (&String, &Value)| {
        let mut question = request.clone();
        question["key"] = key.as_str().into();
        question
    };
    asked.into_iter().flatten().map(with_key).collect()
}

/// The same call with answers to what it was answered with.
pub(crate) fn retry(params: &Value, said: &Value, mut answer: impl FnMut(&Value) -> Option<Value>) -> Value {
    let mut params = params.clone();
    let answers: serde_json::Map<String, Value> =
        questions(said).iter().filter_map(|q| Some((q["key"].as_str().unwrap().to_owned(), answer(q)?))).collect();
    if !answers.is_empty() {
        params["inputResponses"] = answers.into();
    }
    if let Some(state) = said["result"].get("requestState") {
        params["requestState"] = state.clone();
    }
    params
}

/// An HTTP+SSE session of a client with capabilities.
pub(crate) fn sse_with<'g>(gateway: &'g Gateway, revision: &str, capabilities: Value) -> Sse<'g> {
    let mut stream = gateway.wire().open("GET", "/sse", &[("accept", "text/event-stream")], None);
    let path = stream.event().expect("the endpoint").data;
    let mut sse = Sse { gateway, stream, path };
    let hello = json!({"protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}});
    assert_eq!(sse.call(1, "initialize", hello)["result"]["protocolVersion"], revision);
    sse.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    sse
}

pub(crate) fn everything() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}})
}

pub(crate) fn accept(content: Value) -> Value {
    json!({"action": "accept", "content": content})
}

pub(crate) fn yes(content: Value) -> Answer {
    Answer::Result(accept(content))
}

fn modelled(said: &str) -> Answer {
    Answer::Result(json!({"role": "assistant", "content": {"type": "text", "text": said}, "model": "m", "stopReason": "endTurn"}))
}

fn rooted() -> Answer {
    Answer::Result(json!({"roots": [{"uri": "file:///a", "name": "a"}, {"uri": "file:///b"}]}))
}

/// Answers whatever the fixture asks.
fn obliging(question: &Value) -> Answer {
    match question["method"].as_str().unwrap() {
        "sampling/createMessage" => modelled("hello from the model"),
        "roots/list" => rooted(),
        _ => {
            let member = question["params"]["requestedSchema"]["required"][0].as_str().unwrap();
            yes(json!({member: format!("my {member}")}))
        }
    }
}

/// A limit under which a response has the status of its answer also on a machine that is slow to
/// start a server.
pub(crate) const PATIENT: &str = "commit_ms = 20000";

/// Servers of every temper, and what to call them in a failure.
fn servers() -> Vec<(&'static str, Gateway)> {
    vec![
        ("legacy", Gateway::fixture(&[], &["legacy"])),
        ("legacy, shared", Gateway::fixture(&["--isolation", "none"], &["legacy"])),
        ("modern", Gateway::fixture(&[], &["modern"])),
    ]
}

// --- one question -------------------------------------------------------------------------------

#[test]
fn every_client_is_asked_for_its_user_by_every_server() {
    let schema = json!({"type": "object", "properties": {
        "username": {"type": "string", "description": "User's response"},
        "email": {"type": "string", "description": "User's email address"}}, "required": ["username", "email"]});
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2025-06-18", &json!({"elicitation": {}})) {
            let talk = client.tool("test_elicitation", json!({"message": "Who?"}), |_| yes(json!({"username": "ada", "email": "a@b"})));
            assert_eq!(talk.methods(), ["elicitation/create"], "{server}");
            assert_eq!((&talk.asked[0]["params"]["message"], &talk.asked[0]["params"]["requestedSchema"]), (&json!("Who?"), &schema));
            assert!(talk.success().contains("action=accept") && talk.text().contains("ada"), "{server}: {talk:?}");
        }
    }
}

#[test]
fn every_client_is_asked_for_its_model_by_every_server() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2024-11-05", &json!({"sampling": {}})) {
            let talk = client.tool("test_sampling", json!({"prompt": "Say hi"}), |_| modelled("hi"));
            assert_eq!(talk.methods(), ["sampling/createMessage"], "{server}");
            let params = &talk.asked[0]["params"];
            assert_eq!((&params["messages"][0]["content"]["text"], &params["maxTokens"]), (&json!("Say hi"), &json!(100)), "{server}");
            assert_eq!(talk.success(), "LLM response: hi", "{server}");
        }
    }
}

#[test]
fn every_client_is_asked_for_its_roots_by_every_server() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2024-11-05", &json!({"roots": {"listChanged": true}})) {
            let talk = client.tool("test_input_required_result_list_roots", json!({}), |_| rooted());
            assert_eq!((talk.methods(), talk.success()), (vec!["roots/list"], "Roots: file:///a file:///b"), "{server}");
        }
    }
}

#[test]
fn every_client_is_asked_by_the_demo() {
    let gateway = Gateway::start(&[]);
    for mut client in Client::all(&gateway, "2025-06-18", &everything()) {
        for (name, arguments, method, shown) in [
            ("ask_user", json!({"question": "Who?"}), "elicitation/create", "my answer"),
            ("ask_model", json!({"prompt": "?"}), "sampling/createMessage", "hello from the model"),
            ("list_roots", json!({}), "roots/list", "file:///b"),
        ] {
            let talk = client.tool(name, arguments, obliging);
            assert_eq!(talk.methods(), [method]);
            assert!(talk.success().starts_with("the client answered: ") && talk.text().contains(shown), "{talk:?}");
        }
    }
}

#[test]
fn a_prompt_asks_as_a_tool_does() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2025-06-18", &json!({"elicitation": {}})) {
            let talk = client.request(1, "prompts/get", json!({"name": "test_input_required_result_prompt"}), &mut obliging);
            assert_eq!(talk.methods(), ["elicitation/create"], "{server}");
            let said = &talk.last["result"]["messages"][0]["content"]["text"];
            assert_eq!(said, "Prompt with context: my context", "{server}: {talk:?}");
        }
    }
}

// --- several ------------------------------------------------------------------------------------

#[test]
fn what_a_server_asks_at_once_is_open_at_once() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2025-06-18", &everything()) {
            let talk = client.tool_asking(3, "test_input_required_result_multiple_inputs", obliging);
            let mut methods = talk.methods();
            methods.sort_unstable();
            assert_eq!(methods, ["elicitation/create", "roots/list", "sampling/createMessage"], "{server}");
            let name = json!({"name": "my name"});
            assert_eq!(talk.success(), format!("action=accept, content={name}; hello from the model; file:///a file:///b"), "{server}");
            assert_eq!(talk.rounds, usize::from(client.is_stateless()), "{server}");

            let talk = client.tool_asking(2, "ask_twice_at_once", |question| {
                let first = question["params"]["message"] == "What comes first?";
                yes(json!({"value": if first { "the egg" } else { "the hen" }}))
            });
            let (egg, hen) = (json!({"value": "the egg"}), json!({"value": "the hen"}));
            assert_eq!(talk.success(), format!("action=accept, content={egg}; action=accept, content={hen}"), "{server}");
            assert_eq!(talk.rounds, usize::from(client.is_stateless()), "{server}");
        }
    }
}

#[test]
fn a_server_may_ask_again_when_it_was_answered() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2025-06-18", &json!({"elicitation": {}})) {
            let talk = client.tool("test_input_required_result_multi_round", json!({}), obliging);
            let asked: Vec<&Value> = talk.asked.iter().map(|a| &a["params"]["message"]).collect();
            assert_eq!(asked, ["Step 1: What is your name?", "Step 2: What is your favorite color?"], "{server}");
            assert!(talk.success().contains("my name") && talk.text().contains("my color"), "{server}: {talk:?}");
            assert_eq!(talk.rounds, if client.is_stateless() { 2 } else { 0 }, "{server}");
        }
    }
}

#[test]
fn the_state_a_server_gives_comes_back_to_it() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2025-06-18", &json!({"elicitation": {}})) {
            let talk = client.tool("test_input_required_result_request_state", json!({}), |_| yes(json!({"ok": true})));
            assert!(talk.success().starts_with("state-ok, action=accept"), "{server}: {talk:?}");
        }
    }
}

#[test]
fn progress_goes_on_behind_a_question() {
    for (server, gateway) in servers() {
        let session = gateway.session_with("2025-11-25", json!({"elicitation": {}}));
        let mut call = tool(7, "test_streaming_elicitation", json!({}));
        call["params"]["_meta"] = json!({"progressToken": "t"});
        let mut stream = session.stream(&call);
        let mut seen = Vec::new();
        loop {
            let message = stream.message().unwrap();
            match message["method"].as_str() {
                Some("notifications/progress") => seen.push(message["params"]["progress"].clone()),
                Some("elicitation/create") => {
                    let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": accept(json!({"name": "ada"}))});
                    assert_eq!(session.send(&answer).status, 202);
                }
                Some(_) => {}
                None => break,
            }
        }
        assert_eq!(seen.first(), Some(&json!(1)), "{server}");
        assert_eq!(seen.last(), Some(&json!(2)), "{server}");

        let capabilities = json!({"elicitation": {}});
        let params = |token: &str| json!({"name": "test_streaming_elicitation", "_meta": {"progressToken": token}});
        let said = post(&gateway, "/mcp", 1, "tools/call", params("one"), &capabilities).messages();
        assert_eq!((&said[0]["params"]["progressToken"], &said[0]["params"]["progress"]), (&json!("one"), &json!(1)), "{server}: {said:?}");
        let again = retry(&params("two"), said.last().unwrap(), |_| Some(accept(json!({"name": "ada"}))));
        let said = post(&gateway, "/mcp", 2, "tools/call", again, &capabilities).messages();
        let progress: Vec<_> = said.iter().filter(|m| m["method"] == "notifications/progress").collect();
        assert!(progress.iter().all(|p| p["params"]["progressToken"] == "two"), "{server}: {said:?}");
        assert_eq!(progress.last().unwrap()["params"]["progress"], 2, "{server}");
        assert!(text(said.last().unwrap()).contains("ada"), "{server}: {said:?}");
    }
}

// --- refusals -----------------------------------------------------------------------------------

#[test]
fn a_user_who_declines_is_told_to_every_server() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2025-06-18", &json!({"elicitation": {}})) {
            for action in ["decline", "cancel"] {
                let talk = client.tool("test_elicitation", json!({"message": "?"}), |_| Answer::Result(json!({"action": action})));
                assert_eq!(talk.success(), format!("User response: action={action}"), "{server}");
            }
        }
    }
}

#[test]
fn a_client_that_cannot_show_a_question_has_a_user_who_cancelled() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let error = || Answer::Error(json!({"code": -32603, "message": "the window is gone"}));
    for mut client in Client::all(&gateway, "2025-06-18", &everything()).into_iter().filter(|c| !c.is_stateless()) {
        let talk = client.tool("test_elicitation", json!({"message": "?"}), |_| error());
        assert_eq!(talk.success(), "User response: action=cancel");
    }
}

#[test]
fn a_client_whose_model_fails_fails_the_call() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2025-06-18", &everything()).into_iter().filter(|c| !c.is_stateless()) {
            for name in ["test_sampling", "test_input_required_result_list_roots"] {
                let error = Answer::Error(json!({"code": -1, "message": "out of tokens"}));
                let talk = client.tool(name, json!({"prompt": "?"}), |_| error.clone());
                assert!(talk.failure().contains("out of tokens"), "{server}: {talk:?}");
            }
        }
    }
}

#[test]
fn one_failed_answer_of_several_is_enough() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let session = gateway.session_with("2025-11-25", everything());
    let mut stream = session.stream(&tool(7, "test_input_required_result_multiple_inputs", json!({})));
    let asked: Vec<Value> = (0..3).map(|_| stream.message().unwrap()).collect();
    let model = asked.iter().find(|a| a["method"] == "sampling/createMessage").unwrap();
    session.send(&json!({"jsonrpc": "2.0", "id": model["id"], "error": {"code": -1, "message": "out of tokens"}}));
    let last = up_to_answer(&mut stream, 7).pop().unwrap();
    assert!(last["result"]["isError"] == true && text(&last).contains("out of tokens"), "{last}");
    // What the others are answered now is of no use, and does no harm.
    for question in &asked {
        assert_eq!(session.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": accept(json!({}))})).status, 202);
    }
    let mut client = Client::Streamable(session);
    assert!(client.tool_asking(3, "test_input_required_result_multiple_inputs", obliging).success().contains("my name"));
}

// --- what was not declared ----------------------------------------------------------------------

const KINDS: [(&str, &str); 3] = [("sampling", "sampling/createMessage"), ("elicitation", "elicitation/create"), ("roots", "roots/list")];

#[test]
fn a_live_client_is_not_asked_what_it_did_not_declare() {
    for (server, gateway) in servers() {
        for (what, method) in KINDS {
            let mut others = everything();
            others.as_object_mut().unwrap().remove(what);
            for capabilities in [json!({}), others] {
                for mut client in Client::all(&gateway, "2025-06-18", &capabilities).into_iter().filter(|c| !c.is_stateless()) {
                    let talk = client.tool("ask_undeclared", json!({"what": what}), |q| panic!("asked {q}"));
                    assert!(!talk.failure().is_empty(), "{server}");
                    if server == "modern" {
                        assert!(talk.text().contains(method) && talk.text().contains(what), "{talk:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_stateless_client_is_told_what_it_did_not_declare() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::limited_with(PATIENT, &["--isolation", isolation], &["legacy"]);
        for (what, _) in KINDS {
            let required = if what == "elicitation" { json!({"elicitation": {"form": {}}}) } else { json!({what: {}}) };
            let mut others = everything();
            others.as_object_mut().unwrap().remove(what);
            for capabilities in [json!({}), others, json!({"elicitation": {"url": {}}})] {
                let mut client = Client::stateless(&gateway, capabilities);
                let talk = client.tool("ask_undeclared", json!({"what": what}), |q| panic!("asked {q}"));
                let error = &talk.last["error"];
                assert_eq!((talk.status, &error["code"]), (400, &json!(-32021)), "{talk:?}");
                assert_eq!(error["data"], json!({"requiredCapabilities": required}));
            }
        }
    }
}

#[test]
fn a_stateless_server_tells_its_own_kind_what_it_needs() {
    let gateway = Gateway::limited(PATIENT, &["modern"]);
    for (name, required) in [
        ("test_sampling", json!({"sampling": {}})),
        ("test_elicitation", json!({"elicitation": {"form": {}}})),
        ("test_input_required_result_list_roots", json!({"roots": {}})),
        ("ask_url", json!({"elicitation": {"url": {}}})),
    ] {
        let arguments = json!({"prompt": "?", "message": "?"});
        let talk = Client::stateless(&gateway, json!({})).tool(name, arguments.clone(), |q| panic!("asked {q}"));
        assert_eq!((talk.status, &talk.last["error"]["code"]), (400, &json!(-32021)), "{talk:?}");
        assert_eq!(talk.last["error"]["data"], json!({"requiredCapabilities": required}));
        let word = required.as_object().unwrap().keys().next().unwrap();
        let talk = Client::streamable(&gateway, "2025-11-25", json!({})).tool(name, arguments, |q| panic!("asked {q}"));
        assert!(talk.failure().contains(word), "{talk:?}");
    }
}

#[test]
fn the_demo_does_not_ask_what_was_not_declared() {
    let gateway = Gateway::start(&[]);
    for (name, required) in
        [("ask_user", json!({"elicitation": {"form": {}}})), ("ask_model", json!({"sampling": {}})), ("list_roots", json!({"roots": {}}))]
    {
        let none = json!({"experimental": {}});
        for mut client in Client::all(&gateway, "2025-06-18", &none) {
            let talk = client.tool(name, json!({}), |q| panic!("asked {q}"));
            if client.is_stateless() {
                assert_eq!((talk.status, &talk.last["error"]["code"]), (400, &json!(-32021)), "{talk:?}");
                assert_eq!(talk.last["error"]["data"], json!({"requiredCapabilities": required}));
            } else {
                assert!(talk.failure().contains("could not be asked"), "{talk:?}");
            }
        }
    }
}

#[test]
fn a_server_that_looks_at_what_was_declared_asks_only_that() {
    for (server, gateway) in servers() {
        for (capabilities, count) in
            [(json!({}), 0), (json!({"roots": {}}), 1), (json!({"sampling": {}, "elicitation": {}}), 2), (everything(), 3)]
        {
            for mut client in Client::all(&gateway, "2025-06-18", &capabilities) {
                let talk = client.tool("test_input_required_result_capabilities", json!({}), obliging);
                assert_eq!(talk.asked.len(), count, "{server}: {talk:?}");
                assert_eq!(talk.success(), format!("{count} of 3 questions could be asked and were answered"), "{server}");
            }
        }
    }
}

#[test]
fn a_shared_server_is_told_exactly_what_its_clients_can() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        for (declared, told) in [
            (json!({}), json!({})),
            (json!({"elicitation": {}}), json!({"elicitation": {"form": {}}})),
            (json!({"elicitation": {"url": {}}, "roots": {"listChanged": true}}), json!({"elicitation": {"url": {}}, "roots": {}})),
            (json!({"sampling": {"tools": {}}, "tasks": {"list": {}}}), json!({"sampling": {"tools": {}}})),
            (json!({"sampling": {}, "experimental": {"x": {}}}), json!({"sampling": {}})),
        ] {
            let mut clients = vec![Client::stateless(&gateway, declared.clone())];
            if isolation == "none" {
                clients.push(Client::streamable(&gateway, "2025-11-25", declared.clone()));
                clients.push(Client::sse(&gateway, "2025-11-25", declared.clone()));
            }
            for mut client in clients {
                let talk = client.tool("echo_meta", json!({}), |q| panic!("asked {q}"));
                let seen: Value = serde_json::from_str(talk.success()).unwrap();
                assert_eq!(seen["clientCapabilities"], told, "{isolation}: {declared}");
            }
        }
    }
}

#[test]
fn a_stateless_server_sees_what_a_session_declared() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let declared = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}, "experimental": {"x": {"y": 1}}});
    for mut client in [Client::streamable(&gateway, "2025-11-25", declared.clone()), Client::sse(&gateway, "2025-11-25", declared.clone())]
    {
        let talk = client.tool("echo_meta", json!({}), |q| panic!("asked {q}"));
        let seen: Value = serde_json::from_str(talk.success()).unwrap();
        // Tasks are followed by the gateway, so it declares them for its clients.
        let mut told = declared.clone();
        told["extensions"] = json!({"io.modelcontextprotocol/tasks": {}});
        assert_eq!(seen["clientCapabilities"], told);
        assert_eq!(seen["_meta"]["io.modelcontextprotocol/clientCapabilities"], told);
    }
}

// --- pages to visit -----------------------------------------------------------------------------

const PAGE: &str = "https://example.com/connect?x=1";

#[test]
fn a_user_is_sent_to_a_page_by_every_server() {
    for (server, gateway) in servers() {
        for mut client in Client::all(&gateway, "2025-11-25", &everything()) {
            let talk = client.tool("ask_url", json!({}), |_| Answer::Result(json!({"action": "accept"})));
            let params = &talk.asked[0]["params"];
            assert_eq!((&params["mode"], &params["url"]), (&json!("url"), &json!(PAGE)), "{server}");
            // Only with a handshake has the visit a name.
            let named = params.get("elicitationId").is_some_and(|id| id.as_str().is_some_and(|id| !id.is_empty()));
            assert_eq!(named, !client.is_stateless(), "{server}: {params}");
            assert_eq!(talk.success(), "action=accept", "{server}");
            let talk = client.tool("ask_url", json!({}), |_| Answer::Result(json!({"action": "decline"})));
            assert_eq!(talk.success(), "action=decline", "{server}");
        }
    }
}

#[test]
fn two_visits_have_two_names() {
    let gateway = Gateway::fixture(&[], &["modern"]);
    let mut client = Client::streamable(&gateway, "2025-11-25", everything());
    let mut visit =
        || client.tool("ask_url", json!({}), |_| Answer::Result(json!({"action": "accept"}))).asked[0]["params"]["elicitationId"].clone();
    assert_ne!(visit(), visit());
}

#[test]
fn a_client_of_an_older_revision_is_sent_nowhere() {
    for (server, gateway) in servers() {
        for mut client in [
            Client::streamable(&gateway, "2025-06-18", everything()),
            Client::sse(&gateway, "2025-06-18", everything()),
            Client::streamable(&gateway, "2025-11-25", json!({"elicitation": {}})),
        ] {
            let talk = client.tool("ask_url", json!({}), |q| panic!("asked {q}"));
            assert!(!talk.failure().is_empty(), "{server}");
        }
    }
}

#[test]
fn a_session_hears_that_a_visit_is_required_as_its_revision_has_it() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let call = |revision: &str, user: &str| {
            let session = gateway.session_with(revision, everything());
            session.tool(7, "url_required", json!({"user": user}))["error"].clone()
        };
        let error = call("2025-11-25", "a");
        let elicitation = &error["data"]["elicitations"][0];
        assert_eq!((&error["code"], &elicitation["url"], &elicitation["mode"]), (&json!(-32042), &json!(PAGE), &json!("url")), "{error}");
        assert!(elicitation["elicitationId"].is_string());
        let error = call("2025-06-18", "b");
        assert_eq!((&error["code"], &error["data"]["error"]["code"]), (&json!(-32603), &json!(-32042)), "{error}");
    }
}

#[test]
fn a_session_that_visits_is_connected() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::fixture(&["--isolation", isolation], &["legacy"]);
        let mut client = Client::streamable(&gateway, "2025-11-25", everything());
        let talk = client.tool("url_required", json!({"user": "c"}), |q| panic!("asked {q}"));
        assert_eq!(talk.last["error"]["code"], -32042);
        assert_eq!(client.tool("url_required", json!({"user": "c"}), |q| panic!("asked {q}")).success(), "connected");
    }
    let gateway = Gateway::fixture(&[], &["modern"]);
    for mut client in Client::all(&gateway, "2025-11-25", &everything()) {
        let talk = client.tool("url_required", json!({"user": "d"}), |_| Answer::Result(json!({"action": "accept"})));
        assert_eq!((talk.asked[0]["params"]["url"].as_str(), talk.success()), (Some(PAGE), "connected"));
        let talk = client.tool("url_required", json!({"user": "d"}), |_| Answer::Result(json!({"action": "decline"})));
        assert!(talk.failure().contains("decline"), "{talk:?}");
    }
}

#[test]
fn a_stateless_client_is_asked_to_visit_where_an_old_server_only_refuses() {
    for isolation in ["session", "none"] {
        let gateway = Gateway::limited_with(PATIENT, &["--isolation", isolation], &["legacy"]);
        for (user, action) in [("e", "accept"), ("f", "decline"), ("g", "cancel")] {
            let mut client = Client::stateless(&gateway, json!({"elicitation": {"url": {}}}));
            let talk = client.tool("url_required", json!({"user": user}), |_| Answer::Result(json!({"action": action})));
            assert_eq!((talk.rounds, talk.methods()), (1, vec!["elicitation/create"]));
            let params = &talk.asked[0]["params"];
            assert_eq!((&params["mode"], &params["url"], params.get("elicitationId")), (&json!("url"), &json!(PAGE), None));
            if action == "accept" {
                assert_eq!(talk.success(), "connected");
            } else {
                assert!(talk.failure().contains("did not open the page"), "{talk:?}");
            }
        }
        // Without an answer it is asked again, and each state works once.
        let (params, can) = (json!({"name": "url_required", "arguments": {"user": "i"}}), everything());
        let first = post(&gateway, "/mcp", 1, "tools/call", params.clone(), &can).json();
        let again = post(&gateway, "/mcp", 2, "tools/call", retry(&params, &first, |_| None), &can).json();
        assert_eq!(questions(&again), questions(&first));
        let been_there = retry(&params, &first, |_| Some(json!({"action": "accept"})));
        assert_eq!(text(&post(&gateway, "/mcp", 3, "tools/call", been_there.clone(), &can).json()), "connected");
        assert_eq!(post(&gateway, "/mcp", 4, "tools/call", been_there, &can).status, 400);
        for capabilities in [json!({}), json!({"elicitation": {}})] {
            let talk = Client::stateless(&gateway, capabilities).tool("url_required", json!({"user": "h"}), |q| panic!("asked {q}"));
            assert_eq!((talk.status, &talk.last["error"]["code"]), (400, &json!(-32021)), "{talk:?}");
            assert_eq!(talk.last["error"]["data"], json!({"requiredCapabilities": {"elicitation": {"url": {}}}}));
        }
    }
}
