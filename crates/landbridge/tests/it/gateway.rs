//! A running Landbridge, and how to talk to it in a few words.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire::{Response, Stream, Wire};

/// The newest revision's `_meta`, for a client that can nothing.
pub fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    })
}

/// A Landbridge process, ended by its pid when dropped; or one in this process.
pub struct Gateway {
    child: Option<Child>,
    pub port: u16,
    log: Arc<Mutex<String>>,
    /// What is behind it, where the servers are elsewhere.
    behind: Option<Box<Gateway>>,
}

/// How the servers of all these tests are reached, if not as children: by one of the wires over HTTP, with
/// another Landbridge in front of the children. For looking by hand: what depends on there being one only fails.
const ELSEWHERE: &str = "LANDBRIDGE_TEST_ELSEWHERE";

/// Whether the clients of all these tests reach Landbridge over TLS, by a tunnel. For looking by hand, too.
const OVER_TLS: &str = "LANDBRIDGE_TEST_TLS";

/// Moves the servers that these arguments name behind a Landbridge of their own: what is left of the
/// arguments, and it.
fn move_elsewhere(wire: &str, args: &[&str], env: &[(&str, &str)]) -> (Vec<String>, Gateway) {
    let (mut ours, mut theirs, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = args.iter().copied();
    while let Some(arg) = rest.next() {
        match arg {
            "--" => {
                theirs.push("--".to_owned());
                theirs.extend(rest.by_ref().map(str::to_owned));
            }
            "--server" | "--protocol" | "--env" => {
                let value = rest.next().expect("a value");
                if arg == "--server" {
                    names.push(value.split('=').next().unwrap().to_owned());
                }
                theirs.extend([arg.to_owned(), value.to_owned()]);
            }
            _ => ours.push(arg.to_owned()),
        }
    }
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    let behind = Gateway::here(&theirs, env);
    let at = format!("http://127.0.0.1:{}", behind.port);
    let path = if wire == "sse" { "sse" } else { "mcp" };
    if names.is_empty() {
        let name = if theirs.is_empty() { "demo" } else { "mcp-fixture" };
        ours.extend(["--server".into(), format!("{name}={at}/{path}")]);
    }
    for name in names {
        ours.extend(["--server".into(), format!("{name}={at}/servers/{name}/{path}")]);
    }
    let protocol = if wire == "sse" { "auto" } else { wire };
    ours.extend(["--protocol".into(), protocol.into()]);
    (ours, behind)
}

impl Gateway {
    /// Starts `landbridge serve` with these arguments on a port of its own.
    pub fn start(args: &[&str]) -> Gateway {
        Gateway::start_with(args, &[])
    }

    /// The same with environment variables.
    pub fn start_with(args: &[&str], env: &[(&str, &str)]) -> Gateway {
        if std::env::var_os(OVER_TLS).is_some() && !args.contains(&"--tls-cert") {
            static FILES: std::sync::OnceLock<crate::secure::Files> = std::sync::OnceLock::new();
            let files = FILES.get_or_init(crate::secure::Files::new);
            let (cert, key) = (files.cert(), files.key());
            let mut gateway = Gateway::here(&[&["--tls-cert", &cert, "--tls-key", &key], args].concat(), env);
            gateway.port = crate::secure::tunnel(gateway.port);
            return gateway;
        }
        let Ok(wire) = std::env::var(ELSEWHERE) else { return Gateway::here(args, env) };
        let (args, behind) = move_elsewhere(&wire, args, env);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut gateway = Gateway::here(&args, env);
        gateway.behind = Some(Box::new(behind));
        gateway
    }

    /// The same with its servers as its own children, wherever the others are.
    pub fn here(args: &[&str], env: &[(&str, &str)]) -> Gateway {
        let mut child = Command::new(env!("CARGO_BIN_EXE_landbridge"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "debug"])
            .args(args)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("landbridge starts");
        let log = collect(child.stderr.take().unwrap());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut port = None;
        let mut line = String::new();
        while port.is_none() && stdout.read_line(&mut line).unwrap_or(0) > 0 {
            port = line.split("://127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()?.trim().parse().ok());
            line.clear();
        }
        let Some(port) = port else {
            let _ = child.wait();
            std::thread::sleep(Duration::from_millis(100));
            panic!("landbridge printed no address; it said: {}", log.lock().unwrap());
        };
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Gateway { child: Some(child), port, log, behind: None }
    }

    /// Whatever serves at that port of this process.
    pub fn at(port: u16) -> Gateway {
        Gateway { child: None, port, log: Arc::default(), behind: None }
    }

    /// In front of `mcp-fixture MODE…`.
    pub fn fixture(args: &[&str], mode: &[&str]) -> Gateway {
        let binary = landbridge_fixtures::binary();
        let binary = binary.to_str().unwrap().to_owned();
        let mut all: Vec<&str> = args.to_vec();
        all.push("--");
        all.push(&binary);
        all.extend(mode);
        Gateway::start(&all)
    }

    /// A configuration file with these `[limits]`, in front of `mcp-fixture MODE…`.
    pub fn limited(limits: &str, mode: &[&str]) -> Gateway {
        Gateway::limited_with(limits, &[], mode)
    }

    /// The same with more arguments.
    pub fn limited_with(limits: &str, args: &[&str], mode: &[&str]) -> Gateway {
        let file = config_file(&format!("[limits]\n{limits}\n"));
        let mut all = vec!["--config", file.to_str().unwrap()];
        all.extend(args);
        let gateway = if mode.is_empty() { Gateway::start(&all) } else { Gateway::fixture(&all, mode) };
        let _ = std::fs::remove_file(file);
        gateway
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a process of its own").id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        let behind = self.behind.as_ref().map(|behind| behind.log()).unwrap_or_default();
        behind + &self.log.lock().unwrap()
    }

    /// Waits until the log holds `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log to hold {text:?}; it holds:\n{}", self.log()), || self.log().contains(text));
    }

    pub fn wire(&self) -> Wire {
        Wire::connect(self.port)
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.wait()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let child = self.child.as_mut().expect("a process of its own");
        let _ = child.kill();
        let _ = child.wait();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if let Some(status) = self.child.as_mut().expect("a process of its own").try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("landbridge does not end; it said:\n{}", self.log());
    }

    // --- a stateless client ---------------------------------------------------------------

    /// A request of 2026-07-28, with every header it needs.
    pub fn stateless(&self, id: u64, method: &str, params: Value) -> Response {
        let (headers, body) = stateless_request(id, method, params);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        self.wire().post("/mcp", &headers, &body)
    }

    /// The same, with the answer read as a stream.
    pub fn stateless_stream(&self, id: u64, method: &str, params: Value) -> Stream {
        let (headers, body) = stateless_request(id, method, params);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        self.wire().open("POST", "/mcp", &headers, Some(&body))
    }

    // --- a Streamable HTTP client -----------------------------------------------------------

    /// A session of that revision, initialized.
    pub fn session(&self, revision: &str) -> Session<'_> {
        self.session_with(revision, json!({}))
    }

    /// The same for a client with capabilities.
    pub fn session_with(&self, revision: &str, capabilities: Value) -> Session<'_> {
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}}});
        let response = self.wire().post("/mcp", &[], &hello.to_string());
        assert_eq!(response.status, 200, "{}\n{}", response.text(), self.log());
        // A server that is slow to start is answered for on a stream.
        let hello = response.messages().pop().expect("an answer");
        assert_eq!(hello["result"]["protocolVersion"], revision, "{hello}");
        let id = response.header("mcp-session-id").expect("a session id").to_owned();
        let session = Session { gateway: self, id, revision: revision.into(), hello };
        let done = session.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        assert_eq!(done.status, 202);
        session
    }

    /// An HTTP+SSE session, initialized at that revision.
    pub fn sse(&self, revision: &str) -> Sse<'_> {
        let mut stream = self.wire().open("GET", "/sse", &[("accept", "text/event-stream")], None);
        assert_eq!(stream.status, 200);
        let endpoint = stream.event().expect("the endpoint event");
        assert_eq!(endpoint.name, "endpoint");
        let mut sse = Sse { gateway: self, stream, path: endpoint.data };
        let hello = sse.call(
            1,
            "initialize",
            json!({
            "protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}),
        );
        assert_eq!(hello["result"]["protocolVersion"], revision, "{hello}");
        sse.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        sse
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // By SIGTERM, so that its children are ended in good order; then for good.
        signal(child.id(), "TERM");
        let until = Instant::now() + Duration::from_secs(12);
        while Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// One Streamable HTTP session.
pub struct Session<'g> {
    pub gateway: &'g Gateway,
    pub id: String,
    pub revision: String,
    pub hello: Value,
}

impl Session<'_> {
    /// The headers of its requests.
    pub fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![("mcp-session-id", self.id.as_str())];
        if self.revision.as_str() > "2025-03-26" {
            headers.push(("mcp-protocol-version", &self.revision));
        }
        headers
    }

    pub fn send(&self, message: &Value) -> Response {
        self.gateway.wire().post("/mcp", &self.headers(), &message.to_string())
    }

    /// A request; its response, read from JSON or from the end of its stream.
    pub fn call(&self, id: u64, method: &str, params: Value) -> Value {
        let response = self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        assert_eq!(response.status, 200, "{}", response.text());
        let last = response.messages().pop().expect("a message");
        assert_eq!(last["id"], id, "{last}");
        last
    }

    /// A tool's result.
    pub fn tool(&self, id: u64, name: &str, arguments: Value) -> Value {
        self.call(id, "tools/call", json!({"name": name, "arguments": arguments}))
    }

    /// A request whose answer is read as a stream.
    pub fn stream(&self, message: &Value) -> Stream {
        self.gateway.wire().open("POST", "/mcp", &self.headers(), Some(&message.to_string()))
    }

    /// The standalone stream; `last` resumes behind that event.
    pub fn get(&self, last: Option<&str>) -> Stream {
        let mut headers = self.headers();
        headers.push(("accept", "text/event-stream"));
        if let Some(last) = last {
            headers.push(("last-event-id", last));
        }
        self.gateway.wire().open("GET", "/mcp", &headers, None)
    }

    pub fn delete(&self) -> Response {
        self.gateway.wire().request("DELETE", "/mcp", &self.headers(), None)
    }
}

/// One HTTP+SSE session.
pub struct Sse<'g> {
    pub gateway: &'g Gateway,
    pub stream: Stream,
    pub path: String,
}

impl Sse<'_> {
    pub fn post(&self, message: &Value) {
        let response = self.gateway.wire().post(&self.path, &[], &message.to_string());
        assert_eq!(response.status, 202, "{}", response.text());
    }

    /// The next message on the stream.
    pub fn next(&mut self) -> Value {
        let event = self.stream.event().expect("an event");
        assert_eq!(event.name, "message");
        serde_json::from_str(&event.data).unwrap()
    }

    /// A request; its response, with whatever came before it skipped.
    pub fn call(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.post(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let message = self.next();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }
}

/// The headers and the body of a request of 2026-07-28.
pub fn stateless_request(id: u64, method: &str, mut params: Value) -> (Vec<(String, String)>, String) {
    let mut all = meta();
    if let Some(more) = params.get("_meta").and_then(Value::as_object) {
        for (key, value) in more {
            all[key] = value.clone();
        }
    }
    params["_meta"] = all;
    let mut headers = vec![("mcp-protocol-version".to_owned(), "2026-07-28".to_owned()), ("mcp-method".to_owned(), method.to_owned())];
    let name = match method {
        "tools/call" | "prompts/get" => params["name"].as_str(),
        "resources/read" => params["uri"].as_str(),
        _ => None,
    };
    headers.extend(name.map(|n| ("mcp-name".to_owned(), n.to_owned())));
    (headers, json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string())
}

/// A file that is its caller's to remove.
pub fn config_file(text: &str) -> std::path::PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("landbridge-it-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// What a process writes to its log, as it comes.
pub fn collect(stderr: std::process::ChildStderr) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let sink = log.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = sink.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    log
}

/// Sends a signal to one process.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process runs; a zombie does not.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// Everybody below a process who runs.
pub fn descendants(pid: u32) -> Vec<u32> {
    let table: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter_map(|p: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{p}/stat")).ok()?;
            let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
            (rest.next()? != "Z").then_some(())?;
            Some((p, rest.next()?.parse().ok()?))
        })
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(table.iter().filter(|(_, p)| *p == parent).map(|(p, _)| *p));
        at += 1;
    }
    found.split_off(1)
}

/// Waits for something to come true, for as long as a loaded machine may need.
pub fn wait_until(what: &str, mut come_true: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !come_true() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A tool call as a message.
pub fn tool(id: u64, name: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}})
}

/// A call that takes its time and tells how far it is.
pub fn slow(id: u64, steps: u64, delay_ms: u64) -> Value {
    let mut call = tool(id, "slow", json!({"steps": steps, "delay_ms": delay_ms}));
    call["params"]["_meta"] = json!({"progressToken": id});
    call
}

/// The messages up to the answer to `id`, which is the last of them.
pub fn up_to_answer(stream: &mut Stream, id: u64) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let message = stream.message().expect("the answer");
        let done = message["id"] == id && message.get("method").is_none();
        all.push(message);
        if done {
            return all;
        }
    }
}
