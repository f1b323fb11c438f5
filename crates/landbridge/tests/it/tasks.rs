//! Calls that outlive their request, for clients that know of them, in every pairing of the two kinds.
//!
//! A [`Client`] asks in the words of its revision, so that most of what is tested here is written
//! once: a session of 2025-11-25 asks for a task and waits for its result with `tasks/result`; a
//! stateless client declares the extension and finds everything in `tasks/get`. A [`Tap`] shows
//! what a server got and said.

use std::cell::Cell;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::gateway::{Gateway, config_file, stateless_request, wait_until};
use crate::wire::{Response, Stream, Wire};

pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";
pub const RELATED: &str = "io.modelcontextprotocol/related-task";
pub const STATELESS: &str = "2026-07-28";
pub const SESSION: &str = "2025-11-25";

/// A client of a revision in front of a server.
pub struct Pairing {
    pub front: &'static str,
    pub args: &'static [&'static str],
    pub mode: &'static str,
}

/// Every way in which a client that knows of tasks meets a server that has some.
pub const PAIRINGS: [Pairing; 5] = [
    Pairing { front: SESSION, args: &[], mode: "legacy" },
    Pairing { front: SESSION, args: &["--isolation", "none"], mode: "legacy" },
    Pairing { front: SESSION, args: &[], mode: "modern" },
    Pairing { front: STATELESS, args: &[], mode: "legacy" },
    Pairing { front: STATELESS, args: &[], mode: "modern" },
];

/// Runs `test` in each of them, with a client that knows of tasks and can be asked.
pub fn in_every_pairing(mut test: impl FnMut(&Pairing, &Client<'_>)) {
    for pairing in &PAIRINGS {
        eprintln!("{} at {} {:?}", pairing.front, pairing.mode, pairing.args);
        let gateway = Gateway::fixture(pairing.args, &[pairing.mode]);
        test(pairing, &Client::knowing(&gateway, pairing.front));
    }
}

impl Pairing {
    /// Whether the server is the client's alone.
    pub fn is_own(&self) -> bool {
        self.mode == "legacy" && self.front != STATELESS && self.args.is_empty()
    }
}

/// A client of any revision since 2025-03-26, at one endpoint.
pub struct Client<'g> {
    pub gateway: &'g Gateway,
    path: String,
    revision: String,
    capabilities: Value,
    session: Option<String>,
    pub hello: Value,
    next: Cell<u64>,
}

impl<'g> Client<'g> {
    /// One that knows of tasks as far as its revision does, and shows its user forms.
    pub fn knowing(gateway: &'g Gateway, revision: &str) -> Client<'g> {
        Client::at(gateway, "/mcp", revision, abilities(revision))
    }

    /// One that shows its user forms and has never heard of tasks.
    pub fn unaware(gateway: &'g Gateway, revision: &str) -> Client<'g> {
        Client::at(gateway, "/mcp", revision, json!({"elicitation": {}}))
    }

    pub fn at(gateway: &'g Gateway, path: &str, revision: &str, capabilities: Value) -> Client<'g> {
        let (path, revision) = (path.to_owned(), revision.to_owned());
        let mut client = Client { gateway, path, revision, capabilities, session: None, hello: Value::Null, next: Cell::new(100) };
        if !client.is_stateless() {
            let params = json!({"protocolVersion": client.revision, "capabilities": client.capabilities,
                "clientInfo": {"name": "test", "version": "1"}});
            let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params});
            let response = gateway.wire().post(&client.path, &[], &hello.to_string());
            client.hello = response.messages().pop().expect("an answer")["result"].clone();
            assert_eq!(client.hello["protocolVersion"], client.revision, "{}", response.text());
            client.session = response.header("mcp-session-id").map(str::to_owned);
            client.tell("notifications/initialized", json!({}));
        }
        client
    }

    pub fn is_stateless(&self) -> bool {
        self.revision == STATELESS
    }

    /// A request: its id, its headers, its body.
    fn request(&self, method: &str, mut params: Value) -> (u64, Vec<(String, String)>, String) {
        let id = self.next.replace(self.next.get() + 1);
        if self.is_stateless() {
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
            let (headers, body) = stateless_request(id, method, params);
            return (id, headers, body);
        }
        (id, self.headers(), json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string())
    }

    /// The headers of a session.
    fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![("mcp-protocol-version".to_owned(), self.revision.clone())];
        headers.extend(self.session.iter().map(|id| ("mcp-session-id".to_owned(), id.clone())));
        headers
    }

    /// A request, and the whole response.
    pub fn post(&self, method: &str, params: Value) -> Response {
        let (_, headers, body) = self.request(method, params);
        self.gateway.wire().post(&self.path, &borrowed(&headers), &body)
    }

    /// A request, and the message that answers it.
    pub fn ask(&self, method: &str, params: Value) -> Value {
        let response = self.post(method, params);
        let mut said = response.messages();
        said.pop().unwrap_or_else(|| panic!("no answer: {}\n{}", response.status, self.gateway.log()))
    }

    /// The same where the answer must be a result.
    #[track_caller]
    pub fn result(&self, method: &str, params: Value) -> Value {
        let mut said = self.ask(method, params);
        assert!(said.get("result").is_some(), "{method}: {said}\n{}", self.gateway.log());
        said["result"].take()
    }

    /// The same where it must be an error; gives its code.
    #[track_caller]
    pub fn refused(&self, method: &str, params: Value) -> i64 {
        let said = self.ask(method, params);
        said["error"]["code"].as_i64().unwrap_or_else(|| panic!("{method}: {said}"))
    }

    /// A request whose answer is read as a stream, and its id.
    pub fn open(&self, method: &str, params: Value) -> (u64, Stream) {
        let (id, headers, body) = self.request(method, params);
        (id, self.gateway.wire().open("POST", &self.path, &borrowed(&headers), Some(&body)))
    }

    /// A request that is on its way; its answer has to be fetched.
    pub fn begin_asking(&self, method: &str, params: Value) -> Wire {
        let (_, headers, body) = self.request(method, params);
        let mut wire = self.gateway.wire();
        wire.send("POST", &self.path, &borrowed(&headers), Some(&body));
        wire
    }

    /// The session's standalone stream.
    pub fn listen(&self) -> Stream {
        let mut headers = self.headers();
        headers.push(("accept".into(), "text/event-stream".into()));
        self.gateway.wire().open("GET", &self.path, &borrowed(&headers), None)
    }

    /// A session's notification.
    pub fn tell(&self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// A session's answer to a question.
    pub fn answer(&self, asked: &Value, result: Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}));
    }

    pub fn send(&self, message: &Value) {
        let response = self.gateway.wire().post(&self.path, &borrowed(&self.headers()), &message.to_string());
        assert_eq!(response.status, 202, "{}", response.text());
    }

    /// The end of the session.
    pub fn leave(self) {
        assert_eq!(self.gateway.wire().request("DELETE", &self.path, &borrowed(&self.headers()), None).status, 204);
    }

    // --- tasks ------------------------------------------------------------------------------------

    /// The params of a call that wants to become a task.
    pub fn wanting(&self, tool: &str, arguments: Value) -> Value {
        let mut params = json!({"name": tool, "arguments": arguments});
        if !self.is_stateless() {
            params["task"] = json!({"ttl": 60_000});
        }
        params
    }

    /// A call that becomes a task; gives the task.
    #[track_caller]
    pub fn begin(&self, tool: &str, arguments: Value) -> Value {
        self.begun(self.result("tools/call", self.wanting(tool, arguments)))
    }

    /// The task in the result that begins one.
    #[track_caller]
    pub fn begun(&self, mut result: Value) -> Value {
        if self.is_stateless() {
            assert_eq!(result["resultType"], "task", "{result}");
            return result;
        }
        assert!(result["task"]["taskId"].is_string() && result.get("resultType").is_none(), "{result}");
        result["task"].take()
    }

    #[track_caller]
    pub fn get(&self, id: &str) -> Value {
        let task = self.result("tasks/get", json!({"taskId": id}));
        assert_eq!(task["taskId"], id, "{task}");
        assert_eq!(task["resultType"], if self.is_stateless() { json!("complete") } else { Value::Null }, "{task}");
        task
    }

    /// Asks about a task until it is in one of these states.
    #[track_caller]
    pub fn wait_for(&self, id: &str, states: &[&str]) -> Value {
        let mut task = self.get(id);
        wait_until(&format!("a task that is {states:?}; the log holds:\n{}", self.gateway.log()), || {
            let there = states.iter().any(|state| task["status"] == *state);
            if !there {
                std::thread::sleep(std::time::Duration::from_millis(20));
                task = self.get(id);
            }
            there
        });
        task
    }

    #[track_caller]
    pub fn ended(&self, id: &str) -> Value {
        self.wait_for(id, &["completed", "failed", "cancelled"])
    }

    /// What came of a task: an object with its `result` or its `error`.
    #[track_caller]
    pub fn outcome(&self, id: &str) -> Value {
        if self.is_stateless() {
            let task = self.ended(id);
            assert!(!task.to_string().contains(RELATED), "{task}");
            return if task.get("error").is_some() { json!({"error": task["error"]}) } else { json!({"result": task["result"]}) };
        }
        let said = self.ask("tasks/result", json!({"taskId": id}));
        if said.get("error").is_some() {
            return json!({"error": said["error"]});
        }
        assert_eq!(said["result"]["_meta"][RELATED], json!({"taskId": id}), "{said}");
        json!({"result": said["result"]})
    }
}

/// What a client of that revision says of itself, if it knows of tasks and shows forms.
pub fn abilities(revision: &str) -> Value {
    match revision {
        STATELESS => json!({"elicitation": {}, "extensions": {EXTENSION: {}}}),
        _ => json!({"elicitation": {}}),
    }
}

pub fn id_of(task: &Value) -> &str {
    task["taskId"].as_str().unwrap_or_else(|| panic!("no task: {task}"))
}

/// The text of a tool's result.
#[track_caller]
pub fn text_of(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}"))
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
}

/// What goes between a gateway and its server, as far as it was written down: that may be a moment later.
pub struct Tap(PathBuf);

impl Tap {
    pub fn new() -> Tap {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("landbridge-tap-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let tap = Tap(std::env::temp_dir().join(name));
        std::fs::create_dir(&tap.0).unwrap();
        tap
    }

    /// `mcp-fixture MODE`, tapped, as arguments name it.
    pub fn command(&self, mode: &str) -> Vec<String> {
        let (binary, files) = (landbridge_fixtures::binary(), self.0.to_str().unwrap());
        let script = r#"tee -a "$3/in" | "$1" "$2" | tee -a "$3/out""#;
        ["--", "sh", "-c", script, "sh", binary.to_str().unwrap(), mode, files].map(str::to_owned).into()
    }

    /// A gateway in front of `mcp-fixture MODE`, tapped.
    pub fn gateway(args: &[&str], mode: &str) -> (Gateway, Tap) {
        let tap = Tap::new();
        let command = tap.command(mode);
        let all: Vec<&str> = args.iter().copied().chain(command.iter().map(String::as_str)).collect();
        (Gateway::start(&all), tap)
    }

    /// The same with these `[limits]`.
    pub fn limited(limits: &str, args: &[&str], mode: &str) -> (Gateway, Tap) {
        let file = config_file(&format!("[limits]\n{limits}\n"));
        let mut all = vec!["--config", file.to_str().unwrap()];
        all.extend(args);
        let tapped = Tap::gateway(&all, mode);
        let _ = std::fs::remove_file(file);
        tapped
    }

    /// The messages it got.
    pub fn got(&self) -> Vec<Value> {
        self.read("in")
    }

    /// The messages it sent.
    pub fn said(&self) -> Vec<Value> {
        self.read("out")
    }

    fn read(&self, which: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.0.join(which)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The server's own ids of the tasks it began.
    pub fn tasks(&self) -> Vec<String> {
        let result =
            |m: Value| [&m["result"]["task"]["taskId"], &m["result"]["taskId"]].into_iter().find_map(|id| id.as_str().map(str::to_owned));
        let mut all: Vec<String> = self.said().into_iter().filter_map(result).collect();
        all.dedup();
        all
    }

    /// Waits until it began so many, and gives them.
    #[track_caller]
    pub fn wait_for_tasks(&self, gateway: &Gateway, n: usize) -> Vec<String> {
        self.wait_for_tasks_of(&|| gateway.log(), n)
    }

    /// The same; `log` for when it does not come to that.
    #[track_caller]
    pub fn wait_for_tasks_of(&self, log: &dyn Fn() -> String, n: usize) -> Vec<String> {
        wait_until(&format!("{n} tasks; the log holds:\n{}", log()), || self.tasks().len() == n);
        self.tasks()
    }

    /// Waits until the server was told to cancel the only task it began.
    #[track_caller]
    pub fn wait_for_cancel(&self, gateway: &Gateway) {
        self.wait_for_cancel_of(&|| gateway.log());
    }

    /// The same; `log` for when it does not come to that.
    #[track_caller]
    pub fn wait_for_cancel_of(&self, log: &dyn Fn() -> String) {
        let mut seen = false;
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !seen && std::time::Instant::now() < until {
            let tasks = self.tasks();
            seen = self.got().iter().any(|m| m["method"] == "tasks/cancel" && tasks.iter().any(|id| m["params"]["taskId"] == **id));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(seen, "its task was not cancelled; the server got {:#?}\n{}", self.got(), log());
    }
}

impl Drop for Tap {
    /// The directory goes, so that a server that starts only now leaves nothing behind.
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// --- a task's life ------------------------------------------------------------------------------

#[test]
fn a_task_is_begun_and_watched_and_comes_to_its_result() {
    in_every_pairing(|_, client| {
        let task = client.begin("slow_compute", json!({"seconds": 0.5, "label": "pi"}));
        let id = id_of(&task);
        assert_eq!(task["status"], "working");
        let (ttl, interval, not) = match client.is_stateless() {
            true => ("ttlMs", "pollIntervalMs", ["ttl", "pollInterval"]),
            false => ("ttl", "pollInterval", ["ttlMs", "pollIntervalMs"]),
        };
        for task in [&task, &client.get(id)] {
            assert!(task[ttl].is_u64() && task[interval].is_u64() && not.iter().all(|key| task.get(key).is_none()), "{task}");
            assert!(["createdAt", "lastUpdatedAt"].iter().all(|key| task[key].as_str().is_some_and(|at| at.ends_with('Z'))), "{task}");
        }
        // A session waits for the result with the request for it, a stateless client by looking again.
        let outcome = client.outcome(id);
        assert_eq!(text_of(&outcome["result"]), "computed pi for 0.5 s", "{outcome}");
        assert_eq!(client.ended(id)["status"], "completed");
        assert_eq!(client.outcome(id), outcome, "and can be asked for again");
    });
}

#[test]
fn a_tool_that_fails_is_failed_to_the_one_kind_and_completed_to_the_other() {
    in_every_pairing(|_, client| {
        let task = client.begin("failing_job", json!({"ms": 50}));
        let ended = client.ended(id_of(&task));
        assert_eq!(ended["status"], if client.is_stateless() { "completed" } else { "failed" }, "{ended}");
        let outcome = client.outcome(id_of(&task));
        assert_eq!((&outcome["result"]["isError"], text_of(&outcome["result"])), (&json!(true), "the job failed"));
    });
}

#[test]
fn an_error_is_the_end_of_a_task_in_either_kind() {
    in_every_pairing(|_, client| {
        let task = client.begin("protocol_error_job", json!({"ms": 50}));
        let ended = client.ended(id_of(&task));
        assert_eq!((&ended["status"], ended.get("result")), (&json!("failed"), None));
        let expected = json!({"code": -32603, "message": "the job broke", "data": {"job": "protocol_error_job"}});
        assert_eq!(client.outcome(id_of(&task))["error"], expected);
    });
}

#[test]
fn a_running_task_is_cancelled() {
    in_every_pairing(|_, client| {
        let task = client.begin("slow_compute", json!({"seconds": 60}));
        let id = id_of(&task);
        let said = client.result("tasks/cancel", json!({"taskId": id}));
        match client.is_stateless() {
            true => assert!(said["resultType"] == "complete" && said.get("taskId").is_none() && said.get("status").is_none(), "{said}"),
            false => assert_eq!((&said["taskId"], &said["status"]), (&json!(id), &json!("cancelled"))),
        }
        let ended = client.ended(id);
        assert!(ended["status"] == "cancelled" && ended.get("result").is_none() && ended.get("error").is_none(), "{ended}");
        if !client.is_stateless() {
            client.refused("tasks/result", json!({"taskId": id}));
        }
    });
}

#[test]
fn a_task_that_has_ended_cannot_be_cancelled_which_only_one_kind_minds() {
    in_every_pairing(|_, client| {
        let ends = [
            ("slow_compute", json!({"seconds": 0.05}), false),
            ("slow_compute", json!({"seconds": 60}), true),
            ("failing_job", json!({"ms": 1}), false),
        ];
        for (tool, arguments, cancel) in ends {
            let task = client.begin(tool, arguments);
            let about = json!({"taskId": task["taskId"]});
            if cancel {
                client.result("tasks/cancel", about.clone());
            }
            let ended = client.ended(id_of(&task));
            match client.is_stateless() {
                true => assert_eq!(client.result("tasks/cancel", about)["resultType"], "complete"),
                false => assert_eq!(client.refused("tasks/cancel", about), -32602),
            }
            assert_eq!(client.get(id_of(&task)), ended, "and stays as it was");
        }
    });
}

#[test]
fn many_tasks_at_once_come_each_to_its_own_result() {
    in_every_pairing(|_, client| {
        let tasks: Vec<Value> =
            (0..8).map(|n| client.begin("slow_compute", json!({"seconds": 0.2, "label": format!("job {n}")}))).collect();
        for (n, task) in tasks.iter().enumerate().rev() {
            assert_eq!(text_of(&client.outcome(id_of(task))["result"]), format!("computed job {n} for 0.2 s"));
        }
    });
}

// --- who waits for it ---------------------------------------------------------------------------------

/// Servers whose tasks a session asks for and shares with others.
const SHARED: [(&[&str], &str); 2] = [(&[], "modern"), (&["--isolation", "none"], "legacy")];

#[test]
fn a_result_may_be_waited_for_more_than_once_at_a_time() {
    for pairing in PAIRINGS.iter().filter(|p| p.front == SESSION) {
        let gateway = Gateway::fixture(pairing.args, &[pairing.mode]);
        let client = Client::knowing(&gateway, SESSION);
        let task = client.begin("slow_compute", json!({"seconds": 0.5, "label": "pi"}));
        let waiting = [0, 1, 2].map(|_| client.begin_asking("tasks/result", json!({"taskId": task["taskId"]})));
        for said in waiting.map(|wire| wire.response().messages().pop().unwrap()) {
            assert_eq!(text_of(&said["result"]), "computed pi for 0.5 s");
            assert_eq!(said["result"]["_meta"][RELATED]["taskId"], task["taskId"]);
        }
    }
}

#[test]
fn a_task_outlives_the_session_that_wanted_it() {
    for (args, mode) in SHARED {
        let (gateway, tap) = Tap::gateway(args, mode);
        let (client, other) = (Client::knowing(&gateway, SESSION), Client::knowing(&gateway, SESSION));
        let task = client.begin("slow_compute", json!({"seconds": 3, "label": "pi"}));
        let (_, _waiting) = client.open("tasks/result", json!({"taskId": task["taskId"]}));
        client.leave();
        assert_eq!(other.ended(id_of(&task))["status"], "completed", "{mode}: {:#?}", tap.got());
        assert_eq!(text_of(&other.outcome(id_of(&task))["result"]), "computed pi for 3 s");
    }
}

#[test]
fn who_waits_longer_than_a_call_may_take_leaves_the_task_alone() {
    for (args, mode) in SHARED {
        let (gateway, tap) = Tap::limited("call_timeout_ms = 1000", args, mode);
        let client = Client::knowing(&gateway, SESSION);
        let task = client.begin("slow_compute", json!({"seconds": 60}));
        assert_eq!(client.refused("tasks/result", json!({"taskId": task["taskId"]})), -32603, "{mode}");
        assert_eq!(client.get(id_of(&task))["status"], "working", "{mode}: {:#?}", tap.got());
    }
}

#[test]
fn what_bounds_a_call_does_not_bound_a_task() {
    for pairing in PAIRINGS.iter().filter(|p| !p.is_own()) {
        eprintln!("{} at {} {:?}", pairing.front, pairing.mode, pairing.args);
        let (gateway, _tap) = Tap::limited("call_timeout_ms = 500", pairing.args, pairing.mode);
        let client = Client::knowing(&gateway, pairing.front);
        let task = client.begin("slow_compute", json!({"seconds": 2, "label": "pi"}));
        assert_eq!(client.ended(id_of(&task))["status"], "completed");
        assert_eq!(text_of(&client.outcome(id_of(&task))["result"]), "computed pi for 2 s");
    }
}

#[test]
fn a_session_that_withdraws_its_wait_leaves_the_task_alone() {
    // basic/utilities/tasks of 2025-11-25: a task is cancelled by `tasks/cancel`, not by a notice.
    withdraws_its_wait(&[], "legacy");
    withdraws_its_wait(&["--isolation", "none"], "legacy");
}

fn withdraws_its_wait(args: &[&str], mode: &str) {
    let gateway = Gateway::fixture(args, &[mode]);
    let client = Client::knowing(&gateway, SESSION);
    let task = client.begin("slow_compute", json!({"seconds": 60}));
    let (id, mut waiting) = client.open("tasks/result", json!({"taskId": task["taskId"]}));
    client.tell("notifications/cancelled", json!({"requestId": id}));
    let rest: Vec<Value> = std::iter::from_fn(|| waiting.message()).collect();
    assert!(rest.iter().all(|m| m.get("result").is_none()), "{rest:?}");
    assert_eq!(client.get(id_of(&task))["status"], "working");
}

// --- a task that was none -------------------------------------------------------------------------

#[test]
fn what_a_stateless_server_answers_at_once_is_a_task_that_has_ended() {
    let (gateway, tap) = Tap::gateway(&[], "modern");
    let client = Client::knowing(&gateway, SESSION);
    for (tool, arguments, status, text) in [
        ("slow_compute", json!({"seconds": 0, "label": "nothing"}), "completed", "computed nothing for 0 s"),
        ("greet", json!({"name": "ada"}), "completed", "Hello, ada!"),
        ("greet", json!({}), "failed", "greet needs a name"),
    ] {
        let task = client.begin(tool, arguments);
        let id = id_of(&task);
        assert_eq!(task["status"], status);
        assert_eq!(client.get(id), task);
        let result = &client.outcome(id)["result"];
        assert_eq!((text_of(result), result["isError"] == true, result.get("resultType")), (text, status == "failed", None), "{result}");
        assert_eq!(client.refused("tasks/cancel", json!({"taskId": id})), -32602);
        assert_eq!(text_of(&client.outcome(id)["result"]), text, "and can be asked for again");
    }
    assert!(tap.got().iter().all(|m| !m["method"].as_str().unwrap_or_default().starts_with("tasks/")), "the server has no such tasks");
    assert_eq!(client.refused("tools/call", client.wanting("nobody", json!({}))), -32602, "an error makes no task");
}
