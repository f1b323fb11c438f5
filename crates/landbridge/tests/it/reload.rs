//! A configuration that changes while it is served.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::asks::{accept, everything, post, retry, sse_with};
use crate::children::{pid, pid_of, place, text};
use crate::gateway::{Gateway, Session, config_file, is_running, signal, tool, up_to_answer, wait_until};
use crate::wire::Stream;

const REVISION: &str = "2025-11-25";
const ASKING: &str = "test_input_required_result_elicitation";
const TAKEN: &str = "the configuration has changed, and is served";
const REFUSED: &str = "the configuration has changed, and is refused";

/// A gateway, and the file it serves.
struct Served {
    gateway: Gateway,
    file: PathBuf,
}

impl Served {
    fn start(args: &[&str], text: &str) -> Served {
        let file = config_file(text);
        let gateway = Gateway::start(&[&["--config", file.to_str().unwrap()], args].concat());
        Served { gateway, file }
    }

    /// Writes the file anew, in place, and waits until that was taken over.
    fn change(&self, text: &str) {
        self.write(text, TAKEN);
    }

    /// The same until the log says this once more.
    fn write(&self, text: &str, until: &str) {
        let said = self.said(until);
        std::fs::write(&self.file, text).unwrap();
        wait_until(&format!("{until:?} in the log:\n{}", self.gateway.log()), || self.said(until) > said);
    }

    fn said(&self, text: &str) -> usize {
        self.gateway.log().matches(text).count()
    }

    /// The status of `initialize` at a path, and the session it opens.
    fn initialize(&self, path: &str) -> (u16, Option<String>) {
        let said = self.gateway.wire().post(path, &[], &crate::children::initialize().to_string());
        (said.status, said.header("mcp-session-id").map(str::to_owned))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// `[servers.NAME]` with a fixture of that mode, and a variable of that name in its environment.
fn server(name: &str, mode: &str, variable: &str) -> String {
    let fixture = landbridge_fixtures::binary();
    format!("[servers.{name}]\ncommand = {fixture:?}\nargs = [\"{mode}\"]\nenv = {{ {variable} = \"1\" }}\n")
}

fn variables(session: &Session<'_>) -> Vec<String> {
    let seen = place(&session.tool(901, "where_am_i", json!({})));
    let all: Vec<String> = serde_json::from_value(seen["env"].clone()).unwrap();
    all.into_iter().filter(|name| name.starts_with("SET_")).collect()
}

fn gone(pid: u32) {
    wait_until(&format!("the end of {pid}"), || !is_running(pid));
}

/// A call that asks its client; its stream, and the answer to the question.
fn asked(session: &Session<'_>) -> (Stream, Value) {
    let mut stream = session.stream(&tool(7, ASKING, json!({})));
    let question = stream.message().unwrap();
    assert_eq!(question["method"], "elicitation/create", "{question}");
    (stream, json!({"jsonrpc": "2.0", "id": question["id"], "result": accept(json!({"name": "ada"}))}))
}

#[test]
fn servers_come_and_go_and_the_others_stay() {
    let one = server("one", "legacy", "SET_ONE");
    let served = Served::start(&[], &one);
    let session = served.gateway.session(REVISION);
    let child = pid(&session);
    served.change(&format!("{one}{}", server("two", "legacy", "SET_TWO")));
    let (status, other) = served.initialize("/servers/two/mcp");
    assert_eq!(status, 200);
    let other = other.unwrap();
    // Behind `/mcp` are both now, but the session that was opened there goes on.
    let (status, both) = served.initialize("/mcp");
    assert_eq!(status, 200);
    assert_eq!((pid(&session), served.initialize("/servers/one/mcp").0), (child, 200));
    served.change(&one);
    assert_eq!((served.initialize("/servers/two/mcp").0, served.initialize("/mcp").0), (404, 200));
    let ping = || {
        let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
        served.gateway.wire().post("/servers/two/mcp", &[("mcp-session-id", &other)], &ping).status
    };
    assert_eq!((ping(), pid(&session)), (404, child));
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let gone = served.gateway.wire().post("/mcp", &[("mcp-session-id", &both.unwrap())], &ping);
    assert_eq!(gone.status, 404);
    served.gateway.wait_for_log("its calls have ended");
    assert_eq!((served.said("its calls have ended"), pid(&session)), (1, child));
}

#[test]
fn a_call_under_way_ends_on_the_server_it_began_on() {
    for mode in ["legacy", "modern"] {
        let served = Served::start(&[], &server("one", mode, "SET_OLD"));
        let session = served.gateway.session_with(REVISION, everything());
        let child = pid(&session);
        let (mut stream, answer) = asked(&session);
        served.change(&server("one", mode, "SET_NEW"));
        // New calls are for the new server, so the client is sent to begin a new session.
        assert_eq!(session.send(&tool(8, "echo", json!({"message": "x"}))).status, 404);
        assert_eq!(variables(&served.gateway.session(REVISION)), ["SET_NEW"]);
        assert!(is_running(child), "{mode}");
        assert_eq!(session.send(&answer).status, 202);
        let last = up_to_answer(&mut stream, 7).pop().unwrap();
        assert!(text(&last).contains("ada"), "{mode}: {last}");
        gone(child);
        assert_eq!(session.send(&answer).status, 404, "and with its last call the session has ended");
    }
}

#[test]
fn over_the_old_transport_a_call_under_way_ends_on_the_server_it_began_on_too() {
    let served = Served::start(&[], &server("one", "legacy", "SET_OLD"));
    let mut sse = sse_with(&served.gateway, "2025-06-18", everything());
    let child = pid_of(&sse.call(2, "tools/call", json!({"name": "where_am_i", "arguments": {}})));
    sse.post(&tool(7, ASKING, json!({})));
    let question = sse.next();
    served.change(&server("one", "legacy", "SET_NEW"));
    let refused = sse.call(8, "tools/call", json!({"name": "echo", "arguments": {"message": "x"}}));
    assert!(refused["error"]["message"].as_str().unwrap().starts_with("Session not found"), "{refused}");
    sse.post(&json!({"jsonrpc": "2.0", "id": question["id"], "result": accept(json!({"name": "ada"}))}));
    assert!(text(&up_to_answer(&mut sse.stream, 7).pop().unwrap()).contains("ada"));
    gone(child);
    assert!(sse.stream.is_over());
}

#[test]
fn a_call_under_way_ends_on_a_server_that_was_removed() {
    let two = server("two", "legacy", "SET_TWO");
    let served = Served::start(&[], &server("one", "legacy", "SET_ONE"));
    let session = served.gateway.session_with(REVISION, everything());
    let child = pid(&session);
    let (mut stream, answer) = asked(&session);
    // Another one is behind `/mcp` now.
    served.change(&two);
    assert_eq!(served.initialize("/servers/one/mcp").0, 404);
    assert_eq!(variables(&served.gateway.session(REVISION)), ["SET_TWO"]);
    assert_eq!(session.send(&answer).status, 202);
    assert!(text(&up_to_answer(&mut stream, 7).pop().unwrap()).contains("ada"));
    gone(child);
}

#[test]
fn a_stateless_client_may_answer_after_the_change() {
    let params = json!({"name": ASKING, "arguments": {}});
    let call = |served: &Served, params: Value| {
        let said = post(&served.gateway, "/servers/one/mcp", 5, "tools/call", params, &everything());
        (said.status, said.messages().pop().unwrap())
    };
    let two = server("two", "legacy", "SET_TWO");
    for after in [format!("{}{two}", server("one", "legacy", "SET_NEW")), two] {
        let served = Served::start(&[], &server("one", "legacy", "SET_OLD"));
        let (status, said) = call(&served, params.clone());
        assert_eq!((status, &said["result"]["resultType"]), (200, &json!("input_required")), "{said}");
        let left = pid(&served.gateway.session(REVISION));
        served.change(&after);
        let (status, said) = call(&served, retry(&params, &said, |_| Some(accept(json!({"name": "ada"})))));
        assert!(status == 200 && text(&said).contains("ada"), "{said}");
        gone(left);
        served.gateway.wait_for_log("its calls have ended");
        let (status, said) = call(&served, json!({"name": "echo", "arguments": {"message": "new"}}));
        assert_eq!(status, if after.contains("servers.one") { 200 } else { 404 }, "{said}");
    }
}

#[test]
fn a_server_that_only_we_listen_to_is_not_kept() {
    let served = Served::start(&[], &server("one", "modern", "SET_OLD"));
    // Headers of a tool call are checked against its schema, so we listen for changes of that ourselves.
    let said = served.gateway.stateless(2, "tools/call", json!({"name": "where_am_i", "arguments": {}}));
    let child = pid_of(&said.messages().pop().unwrap());
    served.change(&server("one", "modern", "SET_NEW"));
    gone(child);
}

#[test]
fn streams_end_with_the_server_they_belong_to() {
    let (kept, shown) = (server("kept", "legacy", "SET_KEPT"), server("one", "legacy", "SET_OLD"));
    let served = Served::start(&[], &shown);
    let session = served.gateway.session(REVISION);
    let mut get = session.get(None);
    let mut sse = sse_with(&served.gateway, "2025-06-18", json!({}));
    let wanted = json!({"notifications": {"toolsListChanged": true}});
    let mut listen = served.gateway.stateless_stream(2, "subscriptions/listen", wanted);
    assert_eq!(listen.message().unwrap()["method"], "notifications/subscriptions/acknowledged");
    served.change(&format!("{kept}{shown}"));
    let other = sse.call(9, "tools/call", json!({"name": "echo", "arguments": {"message": "still there"}}));
    assert_eq!(text(&other), "still there");
    served.change(&kept);
    assert!(listen.is_over() && get.is_over() && sse.stream.is_over());
}

#[test]
fn a_bad_file_is_refused_and_told_and_the_old_plan_stays() {
    let good = server("one", "legacy", "SET_ONE");
    let served = Served::start(&[], &good);
    let session = served.gateway.session(REVISION);
    let child = pid(&session);
    served.write("lisen = \"x\"\n[servers.two]\ncommand = 5\n", REFUSED);
    let name = served.file.display();
    for said in [format!("{name}:1:1: there is no key `lisen`"), format!("{name}:3:11: `command` is a number")] {
        assert!(served.gateway.log().contains(&said), "{said}: {}", served.gateway.log());
    }
    served.write(&format!("{good}[limits]\nsessions = 7\n"), REFUSED);
    assert!(served.gateway.log().contains("`limits.sessions` has changed from 20000 to 7, which takes a restart"));
    assert_eq!((pid(&session), served.initialize("/servers/two/mcp").0), (child, 404));
    // Told to look at it, it says so again.
    let refused = served.said(REFUSED);
    signal(served.gateway.pid(), "HUP");
    wait_until("another refusal", || served.said(REFUSED) > refused);
    served.change(&format!("{good}{}", server("two", "modern", "SET_TWO")));
    assert_eq!((pid(&session), served.initialize("/servers/two/mcp").0), (child, 200));
}

#[test]
fn what_the_command_line_says_stays_on_top() {
    let fixture = landbridge_fixtures::binary();
    let given = format!("given='{}' legacy", fixture.display());
    let served = Served::start(&["--server", &given, "--env", "SET_GIVEN=1"], "");
    let child = pid(&served.gateway.session(REVISION));
    served.change(&server("one", "legacy", "SET_ONE"));
    assert!(is_running(child));
    let (status, id) = served.initialize("/servers/one/mcp");
    assert_eq!(status, 200);
    let call = tool(2, "where_am_i", json!({})).to_string();
    let id = id.unwrap();
    let said = served.gateway.wire().post("/servers/one/mcp", &[("mcp-session-id", &id), ("mcp-protocol-version", REVISION)], &call);
    let seen = place(&said.messages().pop().unwrap());
    let seen = seen["env"].as_array().unwrap().iter().filter(|name| name.as_str().unwrap().starts_with("SET_")).count();
    assert_eq!(seen, 2);
}

#[test]
fn who_may_call_changes_at_once() {
    let served = Served::start(&[], "[servers.show]\ndemo = true\n");
    let ask = || served.gateway.wire().request("GET", "/", &[("host", "gateway.example")], None).status;
    assert_eq!(ask(), 403);
    served.change("allow_hosts = [\"gateway.example\"]\n[servers.show]\ndemo = true\n");
    assert_eq!(ask(), 200);
    served.change("[servers.show]\ndemo = true\n");
    assert_eq!(ask(), 403);
}

#[test]
fn the_file_of_a_client_is_watched_too() {
    let fixture = landbridge_fixtures::binary();
    let text = |names: &[&str]| {
        let all: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"command": fixture, "args": ["legacy"]}))).collect();
        json!({"mcpServers": all}).to_string()
    };
    let served = Served::start(&[], &text(&["one"]));
    let session = served.gateway.session(REVISION);
    let child = pid(&session);
    // As editors do it: another file takes its place.
    let next = served.file.with_extension("next");
    std::fs::write(&next, text(&["one", "two"])).unwrap();
    std::fs::rename(&next, &served.file).unwrap();
    served.gateway.wait_for_log(TAKEN);
    assert_eq!((pid(&session), served.initialize("/servers/two/mcp").0), (child, 200));
}
