//! `landbridge connect`: clients that speak only stdio, of both eras, at servers of both.
//!
//! What becomes of it when somebody ends, or does not read, is in `connect_life`.

use landbridge_fixtures::{ODD_RESULT, ODD_RESULT_STATELESS, SERVER_NAME, WATCHED_URI};
use serde_json::{Value, json};

use crate::asks::{accept, everything, questions, retry};
use crate::children::text;
use crate::pipe::{Pipe, REVISIONS, fixture, initialize};

fn cancel(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
}

fn method(message: &Value) -> &str {
    message["method"].as_str().unwrap_or_else(|| panic!("{message}"))
}

// --- calls --------------------------------------------------------------------------------------

#[test]
fn connect_lists_and_calls_for_every_client_at_every_server() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        let listed = pipe.call("tools/list", json!({}));
        let tools = listed["result"]["tools"].as_array().unwrap();
        assert!(tools.iter().any(|tool| tool["name"] == "echo"), "{server}: {listed}");
        assert_eq!(listed["result"].get("resultType").is_some(), pipe.is_stateless(), "{server}: {listed}");
        for said in ["hi", "grüße, 世界 🌍", "a\u{2028}b\n\t\"\\"] {
            assert_eq!(text(&pipe.tool("echo", json!({"message": said}))), said, "{server}");
        }
        let long: String = ('a'..='z').cycle().take(1 << 20).collect();
        assert_eq!(text(&pipe.tool("echo", json!({"message": long}))), long, "{server}");
        let unknown = pipe.tool("no_such_tool", json!({}));
        assert!(unknown["error"]["message"].as_str().unwrap().contains("no_such_tool"), "{server}: {unknown}");
    }
}

#[test]
fn connect_says_who_the_server_is() {
    for server in ["legacy", "modern"] {
        let pipe = Pipe::to(server).speaking("2025-06-18", json!({}));
        assert_eq!(pipe.hello["result"]["serverInfo"]["name"], SERVER_NAME);
        let mut pipe = Pipe::to(server).speaking("2026-07-28", json!({}));
        let discovered = pipe.call("server/discover", json!({}));
        assert_eq!(discovered["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], SERVER_NAME, "{discovered}");
    }
}

#[test]
fn connect_passes_results_on_as_they_are() {
    for (server, revision, expected) in [("legacy", "2025-11-25", ODD_RESULT), ("modern", "2026-07-28", ODD_RESULT_STATELESS)] {
        let mut pipe = Pipe::to(server).speaking(revision, json!({}));
        pipe.send(&pipe.tool_request(7, "odd_result", json!({})));
        let line = pipe.next_line();
        assert!(line.contains(&expected[expected.len() - 60..]), "{line}");
        assert!(line.contains("123456789012345678901234567890") && line.contains("1e400"), "{line}");
    }
}

#[test]
fn connect_runs_calls_side_by_side() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        pipe.send(&pipe.tool_request(1_000, "slow", json!({"steps": 600, "delay_ms": 100})));
        for id in 0..50 {
            pipe.send(&pipe.tool_request(id, "echo", json!({"message": format!("{id}")})));
        }
        let mut answered: Vec<u64> = (0..50)
            .map(|_| {
                let answer = pipe.next();
                let id = answer["id"].as_u64().unwrap_or_else(|| panic!("{server}: {answer}"));
                assert_eq!(text(&answer), id.to_string(), "{server}");
                id
            })
            .collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..50).collect::<Vec<_>>(), "{server}");
    }
}

#[test]
fn connect_tells_of_progress_before_the_answer() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        let params = json!({"name": "slow", "arguments": {"steps": 3, "delay_ms": 5}, "_meta": {"progressToken": "p"}});
        pipe.send(&pipe.request(7, "tools/call", params));
        let said = pipe.up_to_answer(7);
        assert_eq!(said.len(), 4, "{server}: {said:?}");
        for (n, note) in said[..3].iter().enumerate() {
            assert_eq!((method(note), &note["params"]["progressToken"]), ("notifications/progress", &json!("p")), "{server}");
            assert_eq!(note["params"]["progress"].as_f64(), Some(n as f64 + 1.0), "{server}");
        }
    }
}

#[test]
fn connect_passes_the_servers_log_on_to_clients_that_want_it() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        let (tool, arguments) = match server {
            "demo" => ("log", json!({"level": "warning", "message": "look"})),
            _ => ("test_tool_with_logging", json!({})),
        };
        let mut params = json!({"name": tool, "arguments": arguments});
        if pipe.is_stateless() {
            params["_meta"] = json!({"io.modelcontextprotocol/logLevel": "debug"});
        } else {
            let set = pipe.call("logging/setLevel", json!({"level": "debug"}));
            assert_eq!(set["result"], json!({}), "{server}");
        }
        pipe.send(&pipe.request(7, "tools/call", params));
        let said = pipe.up_to_answer(7);
        assert!(said.len() > 1, "{server}: {said:?}");
        assert!(said[..said.len() - 1].iter().all(|note| method(note) == "notifications/message"), "{server}: {said:?}");
    }
}

#[test]
fn connect_withdraws_a_call_without_an_answer() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        let params = json!({"name": "slow", "arguments": {"steps": 600, "delay_ms": 50}, "_meta": {"progressToken": 1}});
        pipe.send(&pipe.request(7, "tools/call", params));
        assert_eq!(method(&pipe.next()), "notifications/progress", "{server}");
        pipe.send(&cancel(7));
        pipe.send(&pipe.tool_request(8, "echo", json!({"message": "on"})));
        // What was under way may come, and the answer to the next call; nothing of the one withdrawn after that.
        let said = pipe.up_to_answer(8);
        assert!(said.iter().all(|m| m["id"] != 7), "{server}: {said:?}");
        pipe.send(&cancel(7));
        pipe.send(&cancel(99));
        pipe.echoes();
        pipe.close();
        let (rest, status) = pipe.rest();
        assert!(rest.is_empty() && status.success(), "{server}: {rest:?}");
    }
}

#[test]
fn connect_tells_the_server_that_a_call_is_withdrawn() {
    for mode in ["legacy", "modern"] {
        for revision in REVISIONS {
            let heard = Heard::new(mode);
            let mut pipe = Pipe::start(&[&heard.command]).speaking(revision, json!({}));
            let params = json!({"name": "slow", "arguments": {"steps": 600, "delay_ms": 50}, "_meta": {"progressToken": 1}});
            pipe.send(&pipe.request(7, "tools/call", params));
            assert_eq!(method(&pipe.next()), "notifications/progress");
            pipe.send(&cancel(7));
            crate::gateway::wait_until("the cancellation", || heard.text().contains("notifications/cancelled"));
        }
    }
}

/// A server, and a file of what it was sent.
struct Heard {
    command: String,
    file: std::path::PathBuf,
}

impl Heard {
    fn new(mode: &str) -> Heard {
        let file = crate::gateway::config_file("");
        let script = format!("tee -a {} | {} {mode}", file.display(), landbridge_fixtures::binary().display());
        Heard { command: format!("sh -c '{script}'"), file }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

// --- questions ----------------------------------------------------------------------------------

/// Calls a tool that asks, answers each question, and gives what was asked and the last answer.
fn ask(pipe: &mut Pipe, tool: &str, result: &Value) -> (Vec<String>, Value) {
    let mut asked = Vec::new();
    let params = json!({"name": tool, "arguments": {"message": "Who?", "prompt": "Say hi"}});
    if pipe.is_stateless() {
        let mut round = params.clone();
        loop {
            let last = pipe.call("tools/call", round);
            if last["result"]["resultType"] != "input_required" {
                return (asked, last);
            }
            asked.extend(questions(&last).iter().map(|question| method(question).to_owned()));
            round = retry(&params, &last, |_| Some(result.clone()));
        }
    }
    pipe.send(&pipe.request(7, "tools/call", params));
    loop {
        let message = pipe.next();
        if message.get("method").is_none() {
            return (asked, message);
        }
        if message.get("id").is_some() {
            asked.push(method(&message).to_owned());
            pipe.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
        }
    }
}

#[test]
fn connect_puts_the_servers_questions_to_its_client() {
    let user = accept(json!({"username": "ada", "email": "a@b", "answer": "ada"}));
    let model = json!({"role": "assistant", "content": {"type": "text", "text": "ada"}, "model": "m", "stopReason": "endTurn"});
    let roots = json!({"roots": [{"uri": "file:///ada"}]});
    for (server, mut pipe) in Pipe::all(&everything()) {
        let tools = match server {
            "demo" => ["ask_user", "ask_model", "list_roots"],
            _ => ["test_elicitation", "test_sampling", "test_input_required_result_list_roots"],
        };
        for (tool, method, answer) in
            [(tools[0], "elicitation/create", &user), (tools[1], "sampling/createMessage", &model), (tools[2], "roots/list", &roots)]
        {
            let (asked, last) = ask(&mut pipe, tool, answer);
            assert_eq!(asked, [method], "{server} {tool}: {last}");
            assert!(text(&last).contains("ada"), "{server} {tool}: {last}");
        }
    }
}

#[test]
fn connect_asks_nobody_who_cannot_be_asked() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        let tool = if server == "demo" { "ask_user" } else { "test_elicitation" };
        let (asked, last) = ask(&mut pipe, tool, &json!({}));
        assert!(asked.is_empty(), "{server}: {asked:?}");
        assert!(last.get("error").is_some() || last["result"]["isError"] == true, "{server}: {last}");
        pipe.echoes();
    }
}

// --- changes ------------------------------------------------------------------------------------

#[test]
fn connect_tells_of_changes() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        let (uri, touch, change) = match server {
            "demo" => ("demo://counter", "touch", "toggle"),
            _ => (WATCHED_URI, "touch_watched", "test_trigger_tool_change"),
        };
        if pipe.is_stateless() {
            let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": [uri]});
            pipe.send(&pipe.request(7, "subscriptions/listen", json!({"notifications": wanted})));
            assert_eq!(method(&pipe.next()), "notifications/subscriptions/acknowledged", "{server}");
        } else {
            assert_eq!(pipe.call("resources/subscribe", json!({"uri": uri}))["result"], json!({}), "{server}");
        }
        for (tool, told) in [(touch, "notifications/resources/updated"), (change, "notifications/tools/list_changed")] {
            pipe.send(&pipe.tool_request(8, tool, json!({})));
            let mut said = [pipe.next(), pipe.next()];
            said.sort_by_key(|message| message.get("id").is_some());
            assert_eq!(method(&said[0]), told, "{server}");
            let tag = &said[0]["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
            assert_eq!(tag == 7, pipe.is_stateless(), "{server}: {said:?}");
            assert_eq!(said[1]["id"], 8, "{server}");
        }
        // A listen is withdrawn as a call is; what it ends with when we end, ends well.
        if pipe.is_stateless() {
            pipe.send(&cancel(7));
            pipe.tool(touch, json!({}));
            pipe.send(&pipe.request(9, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}})));
            assert_eq!(method(&pipe.next()), "notifications/subscriptions/acknowledged", "{server}");
        }
        pipe.close();
        let (rest, status) = pipe.rest();
        assert!(status.success());
        let ended: Vec<u64> = rest.iter().filter_map(|message| message["id"].as_u64()).collect();
        assert_eq!(ended, if pipe.is_stateless() { vec![9] } else { vec![] }, "{server}: {rest:?}");
    }
}

// --- two eras on one pipe, and none -------------------------------------------------------------

#[test]
fn connect_serves_a_host_that_asks_in_the_new_way_and_then_shakes_hands() {
    for server in ["demo", "legacy", "modern"] {
        let mut pipe = Pipe::to(server).speaking("2026-07-28", json!({}));
        assert!(pipe.call("server/discover", json!({}))["result"]["supportedVersions"].is_array());
        let mut pipe = pipe.speaking("2025-06-18", json!({}));
        pipe.echoes();
        // And both at once.
        let mut pipe = pipe.speaking("2026-07-28", json!({}));
        pipe.echoes();
        pipe.send(&json!({"jsonrpc": "2.0", "id": 5, "method": "ping"}));
        assert_eq!(pipe.next()["id"], 5);
    }
}

#[test]
fn connect_begins_anew_with_a_client_that_shakes_hands_again() {
    for server in ["demo", "legacy", "modern"] {
        let pipe = Pipe::to(server).speaking("2025-06-18", json!({}));
        let mut pipe = pipe.speaking("2025-11-25", json!({}));
        pipe.echoes();
        if server == "legacy" {
            crate::gateway::wait_until("the first server's end", || servers_of(&pipe) == 1);
        }
    }
}

/// How many servers run below it; each has a guard.
fn servers_of(pipe: &Pipe) -> usize {
    crate::gateway::descendants(pipe.pid()).len() / 2
}

#[test]
fn connect_answers_what_no_message_is_and_goes_on() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        for (line, code) in [
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\"", -32_700),
            ("hello", -32_700),
            ("\u{fffd}\u{0}", -32_700),
            ("[]", -32_600),
            ("[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", -32_600),
            ("17", -32_600),
            ("{}", -32_600),
            ("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", -32_600),
        ] {
            pipe.write(format!("{line}\n").as_bytes());
            let answer = pipe.next();
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(code)), "{server} {line}: {answer}");
        }
        pipe.write(b"\xff\xfe\n");
        assert_eq!(pipe.next()["error"]["code"], -32_700, "{server}");
        // Nobody answers answers, and nobody notifications.
        pipe.write(b"\n\r\n{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{}}\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/nonsense\"}\n");
        let unknown = pipe.call("no/such", json!({}));
        assert_eq!(unknown["error"]["code"], -32_601, "{server}: {unknown}");
        pipe.echoes();
    }
}

#[test]
fn connect_refuses_a_line_beyond_the_limit_and_goes_on() {
    for (server, mut pipe) in Pipe::all(&json!({})) {
        let filling = "x".repeat((16 << 20) + 1);
        pipe.send(&pipe.tool_request(7, "echo", json!({"message": filling})));
        let answer = pipe.next();
        assert_eq!(answer["id"], 7, "{server}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("16777216"), "{server}: {answer}");
        pipe.echoes();
    }
}

#[test]
fn connect_refuses_a_revision_nobody_published_and_names_those_it_speaks() {
    let mut pipe = Pipe::to("legacy").speaking("2026-07-28", json!({}));
    let mut request = pipe.request(7, "tools/list", json!({}));
    request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
    pipe.send(&request);
    let refused = pipe.next();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(7), &json!(-32_022)), "{refused}");
    assert!(refused["error"]["data"]["supported"].as_array().unwrap().contains(&json!("2026-07-28")), "{refused}");
    // A handshake is a negotiation instead.
    pipe.send(&initialize(8, "2099-01-01", &json!({})));
    assert_eq!(pipe.next()["result"]["protocolVersion"], "2025-11-25");
}

#[test]
fn connect_tells_who_began_with_neither_how_to_begin() {
    let mut pipe = Pipe::to("legacy");
    pipe.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
    let refused = pipe.next();
    assert_eq!(refused["id"], 1);
    assert!(refused["error"]["message"].as_str().unwrap().contains("initialize"), "{refused}");
    pipe.send(&json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}));
    assert_eq!(pipe.next()["result"], json!({}));
}

#[test]
fn connect_takes_batches_of_the_one_revision_that_has_them() {
    for server in ["demo", "legacy", "modern"] {
        let mut pipe = Pipe::to(server).speaking("2025-03-26", json!({}));
        let calls = [pipe.tool_request(7, "echo", json!({"message": "a"})), pipe.tool_request(8, "echo", json!({"message": "b"}))];
        pipe.send(&Value::from(calls.to_vec()));
        let mut answers = [pipe.next(), pipe.next()];
        answers.sort_by_key(|answer| answer["id"].as_u64());
        assert_eq!(answers.each_ref().map(text), ["a", "b"], "{server}");
    }
}

// --- the command line ---------------------------------------------------------------------------

#[test]
fn connect_gives_its_server_the_variables_it_is_told_to() {
    let server = fixture("legacy");
    let args = [server.as_str(), "--env", "API_TOKEN", "--env", "MODE=x"];
    let mut pipe = Pipe::start_with(&args, &[("API_TOKEN", "secret"), ("OTHER", "secret")]).speaking("2025-11-25", json!({}));
    let seen = crate::children::place(&pipe.tool("where_am_i", json!({})))["env"].clone();
    let seen: Vec<&str> = seen.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(seen.contains(&"API_TOKEN") && seen.contains(&"MODE") && !seen.contains(&"OTHER"), "{seen:?}");
}

#[test]
fn connect_takes_the_servers_protocol_as_given() {
    let mut pipe =
        Pipe::start(&[&fixture("dies-on-probe"), "--protocol", "legacy", "--log-level", "debug"]).speaking("2026-07-28", json!({}));
    pipe.echoes();
    assert_eq!(pipe.log().matches("program=").count(), 1, "{}", pipe.log());
}

#[test]
fn connect_takes_a_command_word_by_word() {
    let server = landbridge_fixtures::binary();
    let mut pipe = Pipe::start(&["--", server.to_str().unwrap(), "legacy"]).speaking("2025-11-25", json!({}));
    pipe.echoes();
}

#[test]
fn connect_says_on_standard_error_what_is_wrong_with_its_arguments() {
    let url = "https://example.com/mcp";
    for (args, says) in [
        (&[url, "--header", "Authorization"][..], "write 'NAME: VALUE'"),
        (&[url, "--header", "X: ${LANDBRIDGE_NO_SUCH_VARIABLE}"], "LANDBRIDGE_NO_SUCH_VARIABLE"),
        (&[url, "--header", "Mcp-Session-Id: 1"], "sets itself"),
        (&[url, "--env", "A=b"], "--header"),
        (&["cat", "--header", "A: b"], "URL"),
        (&["cat", "--transport", "sse"], "URL"),
        (&["--env", "A=b"], "command"),
        (&["cat", "--protocol", "2020-01-01"], "unknown"),
        (&["'cat"], "unbalanced"),
        (&["https://user:word@example.com/"], "password"),
    ] {
        let mut pipe = Pipe::start(args);
        let (said, status) = pipe.rest();
        assert_eq!((said, status.code()), (vec![], Some(1)), "{args:?}");
        pipe.wait_for_log(says);
    }
}
