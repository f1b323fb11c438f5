//! Calls of stateless clients that wait at servers with a handshake: who may go on with one, how
//! often, how long, and what the server hears when nobody does.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::asks::{PATIENT, accept, everything, post, questions, retry};
use crate::children::text;
use crate::gateway::{Gateway, config_file, descendants, is_running, stateless_request, wait_until};
use crate::wire::Response;

/// A gateway in front of a fixture, and every line that any child of it was sent.
pub(crate) struct Overheard {
    pub gateway: Gateway,
    /// Goes behind the gateway: a spare that is just being started would write it anew.
    file: Scratch,
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Overheard {
    pub fn new(limits: &str, args: &[&str], mode: &str) -> Overheard {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("landbridge-it-heard-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let file = std::env::temp_dir().join(name);
        let script = format!("tee -a '{}' | '{}' {mode}", file.display(), landbridge_fixtures::binary().display());
        let args: Vec<&str> = args.iter().copied().chain(["--", "sh", "-c", &script]).collect();
        Overheard { gateway: Gateway::limited_with(limits, &args, &[]), file: Scratch(file) }
    }

    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file.0).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn count(&self, is_it: impl Fn(&Value) -> bool) -> usize {
        self.lines().iter().filter(|line| is_it(line)).count()
    }

    /// How often this tool was called.
    pub fn calls(&self, tool: &str) -> usize {
        self.count(|l| l["method"] == "tools/call" && l["params"]["name"] == tool)
    }

    /// Waits until the server was told so often that a call of that tool is not wanted any more.
    pub fn wait_for_cancel(&self, tool: &str, times: usize) {
        wait_until(&format!("notifications/cancelled for {tool}; its server heard {:#?}", self.lines()), || {
            let lines = self.lines();
            let ids: Vec<&Value> =
                lines.iter().filter(|l| l["method"] == "tools/call" && l["params"]["name"] == tool).map(|l| &l["id"]).collect();
            let cancelled = |l: &&Value| l["method"] == "notifications/cancelled" && ids.contains(&&l["params"]["requestId"]);
            lines.iter().filter(cancelled).count() >= times
        });
    }
}

fn capabilities() -> Value {
    json!({"elicitation": {}})
}

fn call(gateway: &Gateway, params: Value) -> Response {
    post(gateway, "/mcp", 5, "tools/call", params, &capabilities())
}

fn asking() -> Value {
    json!({"name": "test_elicitation", "arguments": {"message": "Who?"}})
}

/// Calls a tool that asks, and gives what it is answered.
#[track_caller]
fn park(gateway: &Gateway, params: Value) -> Value {
    let said = call(gateway, params);
    assert_eq!(said.status, 200, "{}", said.text());
    let said = said.messages().pop().unwrap();
    assert_eq!(said["result"]["resultType"], "input_required", "{said}");
    assert!(!questions(&said).is_empty() && said["result"]["requestState"].is_string(), "{said}");
    assert!(said["result"].get("ttlMs").is_none());
    said
}

fn ada(params: &Value, said: &Value) -> Value {
    retry(params, said, |_| Some(accept(json!({"username": "ada", "email": "a@b"}))))
}

#[track_caller]
fn assert_spent(said: &Response) {
    let told = said.json();
    assert_eq!((said.status, &told["error"]["code"]), (400, &json!(-32602)), "{told}");
    assert!(told["error"]["message"].as_str().unwrap().contains("send the call again"), "{told}");
}

#[track_caller]
fn assert_answered(said: &Response) {
    assert_eq!(said.status, 200, "{}", said.text());
    let said = said.messages().pop().unwrap();
    assert_eq!(said["result"]["resultType"], "complete", "{said}");
    assert!(text(&said).contains("ada"), "{said}");
}

// --- the state ----------------------------------------------------------------------------------

#[test]
fn a_state_that_was_changed_is_refused_and_the_call_still_waits() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let said = park(&gateway, asking());
    let good = ada(&asking(), &said);
    let state = good["requestState"].as_str().unwrap();
    let changed = |at: usize| {
        let old = state.as_bytes()[at];
        let new = if old == b'A' { 'B' } else { 'A' };
        format!("{}{new}{}", &state[..at], &state[at + 1..])
    };
    let shorter = state[..state.len() - 1].to_owned();
    for bad in [changed(0), changed(state.len() / 2), format!("{state}A"), shorter, String::new(), "state".into()] {
        let mut params = good.clone();
        params["requestState"] = bad.into();
        assert_spent(&call(&gateway, params));
    }
    for bad in [json!(5), json!({}), json!([state])] {
        let mut params = good.clone();
        params["requestState"] = bad;
        assert_eq!(call(&gateway, params).status, 400);
    }
    assert_answered(&call(&gateway, good));
}

#[test]
fn a_state_works_once() {
    for gateway in [Gateway::fixture(&[], &["legacy"]), Gateway::fixture(&["--isolation", "none"], &["legacy"])] {
        let good = ada(&asking(), &park(&gateway, asking()));
        assert_answered(&call(&gateway, good.clone()));
        assert_spent(&call(&gateway, good));
    }
}

#[test]
fn the_state_of_a_round_is_not_that_of_the_next() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let params = json!({"name": "test_input_required_result_multi_round"});
    let name = |said: &Value| retry(&params, said, |_| Some(accept(json!({"name": "ada", "color": "red"}))));
    let first = name(&park(&gateway, params.clone()));
    let second = park(&gateway, first.clone());
    assert_ne!(second["result"]["requestState"], first["requestState"]);
    assert_spent(&call(&gateway, first));
    assert_answered(&call(&gateway, name(&second)));
}

#[test]
fn a_state_is_good_for_its_own_call_only() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let good = ada(&asking(), &park(&gateway, asking()));
    for (key, value) in [
        ("name", json!("test_sampling")),
        ("name", json!("echo")),
        ("arguments", json!({"message": "Who else?"})),
        ("arguments", json!({"message": "Who?", "more": 1})),
        ("more", json!(1)),
    ] {
        let mut params = good.clone();
        params[key] = value;
        assert_spent(&call(&gateway, params));
    }
    let mut prompt = good.clone();
    prompt["name"] = json!("test_prompt");
    assert_spent(&post(&gateway, "/mcp", 5, "prompts/get", prompt, &capabilities()));
    assert_answered(&call(&gateway, good));
}

#[test]
fn a_retry_may_be_written_in_another_way() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let params = json!({"name": "test_elicitation", "arguments": {"message": "Who?", "a": 1, "b": {"c": [1, 2]}}});
    let said = park(&gateway, params.clone());
    let (headers, body) = stateless_request(6, "tools/call", {
        let mut good = ada(&params, &said);
        good["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": capabilities(), "progressToken": "new"});
        good
    });
    let written = r#""arguments":{"a":1,"b":{"c":[1,2]},"message":"Who?"}"#;
    assert!(body.contains(written), "{body}");
    let body = body.replace(written, "\"arguments\" : { \"message\":\"\\u0057ho?\", \"b\":{ \"c\":[ 1,2]} ,\"a\":1}");
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_answered(&gateway.wire().post("/mcp", &headers, &body));
}

#[test]
fn a_state_is_good_at_its_own_server_only() {
    let binary = landbridge_fixtures::binary();
    let command = format!("command = {:?}\nargs = [\"legacy\"]", binary.to_str().unwrap());
    let file = config_file(&format!("[servers.a]\n{command}\n[servers.b]\n{command}\n"));
    let gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    let at = |server: &str, params: Value| post(&gateway, &format!("/servers/{server}/mcp"), 5, "tools/call", params, &capabilities());
    let good = ada(&asking(), &at("a", asking()).json());
    assert_spent(&at("b", good.clone()));
    assert_answered(&at("a", good));
}

#[test]
fn a_state_expires() {
    let gateway = Gateway::limited("ask_timeout_ms = 400", &["legacy"]);
    let said = park(&gateway, asking());
    let mut empty = asking();
    empty["requestState"] = said["result"]["requestState"].clone();
    wait_until("the state to expire", || call(&gateway, empty.clone()).status == 400);
    assert_spent(&call(&gateway, ada(&asking(), &said)));
    assert_answered(&call(&gateway, ada(&asking(), &park(&gateway, asking()))));
}

#[test]
fn a_state_does_not_outlive_its_gateway() {
    let said = park(&Gateway::fixture(&[], &["legacy"]), asking());
    assert_spent(&call(&Gateway::limited(PATIENT, &["legacy"]), ada(&asking(), &said)));
}

#[test]
fn of_two_retries_at_once_one_gets_the_result() {
    for gateway in [Gateway::fixture(&[], &["legacy"]), Gateway::start(&[])] {
        let demo = gateway.stateless(1, "tools/list", json!({})).text().contains("ask_user");
        let params = if demo { json!({"name": "ask_user", "arguments": {}}) } else { asking() };
        for _ in 0..5 {
            let said = park(&gateway, params.clone());
            let good = retry(&params, &said, |_| Some(accept(json!({"username": "ada", "answer": "ada"}))));
            let mut all: Vec<Response> = std::thread::scope(|scope| {
                let both: Vec<_> = (0..2).map(|_| scope.spawn(|| call(&gateway, good.clone()))).collect();
                both.into_iter().map(|one| one.join().unwrap()).collect()
            });
            all.sort_by_key(|said| said.status);
            assert_answered(&all[0]);
            assert_spent(&all[1]);
        }
    }
}

// --- the answers --------------------------------------------------------------------------------

#[test]
fn what_is_missing_is_asked_for_again() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let params = json!({"name": "ask_twice_at_once"});
    let first = park(&gateway, params.clone());
    let keys: Vec<Value> = questions(&first).iter().map(|q| q["key"].clone()).collect();
    assert_eq!(keys, ["first", "second"]);
    let none = retry(&params, &first, |_| None);
    let mut null = none.clone();
    null["inputResponses"] = Value::Null;
    let mut wrong = retry(&params, &first, |_| Some(accept(json!({"value": "ada"}))));
    wrong["inputResponses"]["second"] = json!("ada");
    let mut other = none.clone();
    other["inputResponses"] = json!({"third": accept(json!({"value": "ada"}))});
    let some = retry(&params, &first, |q| (q["key"] == "first").then(|| accept(json!({"value": "ada"}))));
    for round in [none, null, wrong, other, some] {
        let again = park(&gateway, round);
        assert_eq!(questions(&again), questions(&first));
    }
    let mut array = retry(&params, &first, |_| None);
    array["inputResponses"] = json!([1]);
    let refused = call(&gateway, array);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!(-32602)));
    // Unknown keys do no harm.
    let mut good = retry(&params, &first, |q| Some(accept(json!({"value": format!("ada, {}", q["key"])}))));
    good["inputResponses"]["third"] = json!(1);
    let said = call(&gateway, good);
    assert_answered(&said);
    assert!(said.text().contains("first") && said.text().contains("second"));
}

#[test]
fn answers_may_come_with_the_call_itself() {
    let heard = Overheard::new("", &[], "legacy");
    let mut params = json!({"name": "test_input_required_result_elicitation"});
    params["inputResponses"] = json!({"user_name": accept(json!({"name": "ada"})), "other": {}});
    assert_answered(&call(&heard.gateway, params));
    let mut params = json!({"name": "ask_twice_at_once"});
    params["inputResponses"] = json!({"first": accept(json!({"value": "ada"}))});
    let said = park(&heard.gateway, params.clone());
    let asked: Vec<Value> = questions(&said).iter().map(|q| q["key"].clone()).collect();
    assert_eq!(asked, ["second"]);
    params.as_object_mut().unwrap().remove("inputResponses");
    assert_answered(&call(&heard.gateway, retry(&params, &said, |_| Some(accept(json!({"value": "bob"}))))));
}

#[test]
fn a_question_that_is_taken_back_needs_no_answer() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let params = |ms: u64| json!({"name": "ask_and_withdraw", "arguments": {"ms": ms}});
    let withdrawn = |said: Response| {
        let said = said.messages().pop().unwrap();
        let over = said["result"]["resultType"] == "complete";
        assert!(!over || text(&said) == "withdrawn", "{said}");
        over
    };
    let (said, longer) = (park(&gateway, params(200)), park(&gateway, params(2000)));
    let empty = retry(&params(2000), &longer, |_| None);
    wait_until("the call to end", || withdrawn(call(&gateway, empty.clone())));
    // The other one ended long before, and nobody wants its answer.
    let late = retry(&params(200), &said, |_| Some(accept(json!({"name": "ada"}))));
    assert!(withdrawn(call(&gateway, late)));
}

#[test]
fn a_hundred_rounds_are_a_clients_own_affair() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let params = json!({"name": "ask_forever"});
    let mut said = call(&gateway, params.clone()).json();
    let mut rounds = 0;
    while said["result"]["resultType"] == "input_required" {
        rounds += 1;
        said = call(&gateway, retry(&params, &said, |_| Some(accept(json!({"ok": true}))))).json();
    }
    assert_eq!((rounds, text(&said)), (100, "asked 100 times"));
}

// --- clients that leave -------------------------------------------------------------------------

#[test]
fn a_client_that_was_answered_may_close_its_connection() {
    for accepted in ["application/json, text/event-stream", "application/json", "text/event-stream"] {
        let heard = Overheard::new("", &[], "legacy");
        let post = |id: u64, mut params: Value| {
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities();
            let (headers, body) = stateless_request(id, "tools/call", params);
            let mut headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            headers.extend([("accept", accepted), ("connection", "close")]);
            heard.gateway.wire().post("/mcp", &headers, &body)
        };
        let said = post(1, asking()).messages().pop().unwrap();
        assert_eq!(said["result"]["resultType"], "input_required", "{said}");
        // Somebody else's call behind it shows that no cancellation is on its way.
        assert_eq!(heard.gateway.stateless(2, "tools/call", json!({"name": "echo", "arguments": {"message": "x"}})).status, 200);
        assert_eq!(heard.count(|l| l["method"] == "notifications/cancelled"), 0);
        assert_answered(&post(3, ada(&asking(), &said)));
        assert_eq!((heard.count(|l| l["method"] == "notifications/cancelled"), heard.calls("test_elicitation")), (0, 1));
    }
}

#[test]
fn a_client_that_leaves_before_it_is_asked_withdraws_its_call() {
    for isolation in ["session", "none"] {
        let heard = Overheard::new("ask_hold_ms = 500", &["--isolation", isolation], "legacy");
        let (headers, body) = stateless_request(
            1,
            "tools/call",
            json!({"name": "ask_later", "arguments": {"ms": 60000},
                "_meta": {"io.modelcontextprotocol/clientCapabilities": capabilities()}}),
        );
        let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut wire = heard.gateway.wire();
        wire.send("POST", "/mcp", &headers, Some(&body));
        wait_until("the call to arrive", || heard.calls("ask_later") == 1);
        drop(wire);
        heard.wait_for_cancel("ask_later", 1);
        // For so long it might still ask, and it could not be told whose a question is.
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert_answered(&call(&heard.gateway, ada(&asking(), &park(&heard.gateway, asking()))));
    }
}

#[test]
fn a_client_that_leaves_while_its_retry_runs_withdraws_its_call() {
    let hello = r#"{"jsonrpc":"2.0","id":"landbridge-initialize","result":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let question = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"?"}}"#;
    // Asks once, and says nothing more.
    let script = format!(
        r#"while IFS= read -r l; do
        case "$l" in
        *'"initialize"'*) echo '{hello}';;
        *'"prompts/get"'*) echo '{question}';;
        *) echo "heard $l" >&2;;
        esac
        done"#
    );
    let gateway = Gateway::start(&["--protocol", "legacy", "--", "sh", "-c", &script]);
    let params = json!({"name": "p"});
    let said = post(&gateway, "/mcp", 1, "prompts/get", params.clone(), &capabilities()).messages().pop().unwrap();
    let mut again = retry(&params, &said, |_| Some(json!({"action": "decline"})));
    again["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": capabilities()});
    let (headers, body) = stateless_request(2, "prompts/get", again);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut wire = gateway.wire();
    wire.send("POST", "/mcp", &headers, Some(&body));
    gateway.wait_for_log(r#"heard {"jsonrpc":"2.0","id":1,"result":{"action":"decline"}}"#);
    assert!(!gateway.log().contains("notifications/cancelled"));
    drop(wire);
    gateway.wait_for_log(r#"heard {"jsonrpc":"2.0","method":"notifications/cancelled""#);
}

#[test]
fn a_client_that_never_returns_is_given_up() {
    for isolation in ["session", "none"] {
        let heard = Overheard::new("ask_timeout_ms = 300", &["--isolation", isolation], "legacy");
        park(&heard.gateway, asking());
        heard.wait_for_cancel("test_elicitation", 1);
        let lines = heard.lines();
        let told = |l: &Value| l["id"].is_number() && l["error"]["message"].as_str().is_some_and(|m| m.contains("did not answer in time"));
        let (error, cancel) = (lines.iter().position(told), lines.iter().position(|l| l["method"] == "notifications/cancelled").unwrap());
        assert!(error.is_some_and(|error| error < cancel), "{lines:#?}");
        assert_answered(&call(&heard.gateway, ada(&asking(), &park(&heard.gateway, asking()))));
    }
}

#[test]
fn so_many_calls_may_wait_and_no_more() {
    let heard = Overheard::new(&format!("parked_calls = 1\n{PATIENT}"), &[], "legacy");
    let said = park(&heard.gateway, asking());
    for times in 1..=3 {
        let busy = call(&heard.gateway, json!({"name": "test_input_required_result_elicitation"}));
        let told = busy.json();
        assert_eq!((busy.status, &told["error"]["code"]), (503, &json!(-32000)), "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains("try again later"), "{told}");
        heard.wait_for_cancel("test_input_required_result_elicitation", times);
    }
    assert_answered(&call(&heard.gateway, ada(&asking(), &said)));
    assert_answered(&call(&heard.gateway, ada(&asking(), &park(&heard.gateway, asking()))));
}

#[test]
fn calls_that_wait_for_nobody_free_their_places() {
    for mode in [&["legacy"][..], &[]] {
        let gateway = Gateway::limited("parked_calls = 1\nask_timeout_ms = 200", mode);
        let params = if mode.is_empty() { json!({"name": "ask_user"}) } else { asking() };
        park(&gateway, params.clone());
        wait_until("a place", || call(&gateway, params.clone()).status == 200);
    }
}

#[test]
fn a_server_that_dies_ends_the_calls_that_wait_at_it() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let said = park(&gateway, asking());
    let is_server = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("mcp-fixture"));
    let servers: Vec<u32> = descendants(gateway.pid()).into_iter().filter(is_server).collect();
    servers.iter().for_each(|pid| crate::gateway::signal(*pid, "KILL"));
    wait_until("the end of the server", || servers.iter().all(|pid| !is_running(*pid)));
    gateway.wait_for_log("a child ended");
    let last = call(&gateway, ada(&asking(), &said));
    assert!(last.messages().pop().unwrap()["error"]["message"].as_str().unwrap().contains("ended"), "{}", last.text());
    assert_answered(&call(&gateway, ada(&asking(), &park(&gateway, asking()))));
}

#[test]
fn a_gateway_that_is_stopped_while_calls_wait_ends_well() {
    for args in [&[][..], &["--isolation", "none"], &["demo"]] {
        let mut gateway = match args {
            ["demo"] => Gateway::start(&[]),
            args => Gateway::fixture(args, &["legacy"]),
        };
        let params = if args == ["demo"] { json!({"name": "ask_user"}) } else { asking() };
        for _ in 0..3 {
            park(&gateway, params.clone());
        }
        let below = descendants(gateway.pid());
        assert!(gateway.terminate().success(), "{}", gateway.log());
        wait_until("the end of every process", || below.iter().all(|pid| !is_running(*pid)));
    }
}

#[test]
fn a_gateway_that_is_stopped_while_sessions_are_asked_ends_well() {
    for mode in ["legacy", "modern", "demo"] {
        let mut gateway = match mode {
            "demo" => Gateway::limited("drain_ms = 300", &[]),
            mode => Gateway::limited("drain_ms = 300", &[mode]),
        };
        let name = if mode == "demo" { "ask_user" } else { "test_elicitation" };
        let session = gateway.session_with("2025-11-25", everything());
        let mut stream = session.stream(&crate::gateway::tool(7, name, json!({"message": "?"})));
        assert_eq!(stream.message().unwrap()["method"], "elicitation/create");
        let below = descendants(gateway.pid());
        let pid = gateway.pid();
        crate::gateway::signal(pid, "TERM");
        while stream.message().is_some() {}
        assert!(gateway.wait().success(), "{mode}: {}", gateway.log());
        wait_until("the end of every process", || below.iter().all(|pid| !is_running(*pid)));
    }
}
