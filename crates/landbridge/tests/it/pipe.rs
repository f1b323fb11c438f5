//! A client at the standard streams of `landbridge connect`, of either era.
//!
//! Whatever comes out is read as messages; anything else there is a failure. Nothing is read ahead, so
//! that a test can be a client that does not read.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gateway::{Gateway, meta, signal, wait_until};

/// As long as a loaded machine may need for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `landbridge connect`, and its client.
pub struct Pipe {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    log: Arc<Mutex<String>>,
    /// The revision that the client speaks; none until it has said so.
    revision: String,
    capabilities: Value,
    /// What the handshake was answered with.
    pub hello: Value,
    next_id: u64,
    /// The server, where it is elsewhere.
    far: Option<Gateway>,
}

impl Pipe {
    /// Starts `landbridge connect` with these arguments.
    pub fn start(args: &[&str]) -> Pipe {
        Pipe::start_with(args, &[])
    }

    /// The same with environment variables.
    pub fn start_with(args: &[&str], env: &[(&str, &str)]) -> Pipe {
        let mut child = Command::new(env!("CARGO_BIN_EXE_landbridge"))
            .arg("connect")
            .args(args)
            .env_remove("DBUS_SESSION_BUS_ADDRESS") // the keyring of whoever runs the tests
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("landbridge starts");
        let log = crate::gateway::collect(child.stderr.take().unwrap());
        let (sender, output) = sync_channel(0);
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if sender.send(line.expect("UTF-8")).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        let (revision, capabilities) = (String::new(), json!({}));
        Pipe { child, input, output, log, revision, capabilities, hello: Value::Null, next_id: 100, far: None }
    }

    /// In front of `mcp-fixture MODE`, of the demonstration server, or of the former elsewhere: `MODE over http`.
    pub fn to(server: &str) -> Pipe {
        match server.split_once(" over ") {
            None if server == "demo" => Pipe::start(&[]),
            None => Pipe::start(&[&fixture(server)]),
            Some((mode, wire)) => {
                let far = Gateway::here(&["--", landbridge_fixtures::binary().to_str().unwrap(), mode], &[]);
                let path = if wire == "sse" { "sse" } else { "mcp" };
                let mut pipe = Pipe::start(&[&format!("http://127.0.0.1:{}/{path}", far.port)]);
                pipe.far = Some(far);
                pipe
            }
        }
    }

    /// The client says which revision it speaks, with a handshake if that has one.
    pub fn speaking(mut self, revision: &str, capabilities: Value) -> Pipe {
        (self.revision, self.capabilities) = (revision.into(), capabilities);
        if !self.is_stateless() {
            self.send(&initialize(1, revision, &self.capabilities));
            self.hello = self.next();
            assert_eq!((&self.hello["id"], &self.hello["result"]["protocolVersion"]), (&json!(1), &json!(revision)), "{}", self.hello);
            self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        }
        self
    }

    /// Clients of both eras at every kind of server.
    pub fn all(capabilities: &Value) -> impl Iterator<Item = (&'static str, Pipe)> {
        let servers = ["demo", "legacy", "modern", "legacy over http", "legacy over sse", "modern over http"];
        let pairs = servers.into_iter().flat_map(|server| REVISIONS.map(|revision| (server, revision)));
        pairs.map(|(server, revision)| (server, Pipe::to(server).speaking(revision, capabilities.clone())))
    }

    pub fn is_stateless(&self) -> bool {
        self.revision.as_str() >= "2026"
    }

    // --- talking ------------------------------------------------------------------------------

    /// A request as this client writes it.
    pub fn request(&self, id: u64, method: &str, mut params: Value) -> Value {
        if self.is_stateless() {
            let mut all = meta();
            all["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
            for (key, value) in params.get("_meta").and_then(Value::as_object).into_iter().flatten() {
                all[key] = value.clone();
            }
            params["_meta"] = all;
        }
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    /// A tool call as this client writes it.
    pub fn tool_request(&self, id: u64, name: &str, arguments: Value) -> Value {
        self.request(id, "tools/call", json!({"name": name, "arguments": arguments}))
    }

    pub fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(bytes).expect("a reader");
    }

    fn poll_line(&mut self) -> Option<String> {
        match self.output.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing more is said; the log holds:\n{}", self.log()),
        }
    }

    /// The next line, as it is.
    pub fn next_line(&mut self) -> String {
        self.poll_line().expect("a line")
    }

    /// The next message; `None` behind the last.
    pub fn poll_next(&mut self) -> Option<Value> {
        let line = self.poll_line()?;
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        Some(message)
    }

    #[track_caller]
    pub fn next(&mut self) -> Value {
        self.poll_next().unwrap_or_else(|| panic!("it ended; the log holds:\n{}", self.log()))
    }

    /// The messages up to the answer to `id`, which is the last of them.
    pub fn up_to_answer(&mut self, id: u64) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let message = self.next();
            let done = message["id"] == id && message.get("method").is_none();
            all.push(message);
            if done {
                return all;
            }
        }
    }

    /// A request, and its answer, with whatever came before that skipped.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&self.request(id, method, params));
        self.up_to_answer(id).pop().unwrap()
    }

    /// A tool's result.
    pub fn tool(&mut self, name: &str, arguments: Value) -> Value {
        self.call("tools/call", json!({"name": name, "arguments": arguments}))
    }

    /// That it is still there.
    #[track_caller]
    pub fn echoes(&mut self) {
        let answer = self.tool("echo", json!({"message": "still there"}));
        assert_eq!(answer["result"]["content"][0]["text"], "still there", "{answer}");
    }

    // --- life ---------------------------------------------------------------------------------

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log to hold {text:?}; it holds:\n{}", self.log()), || self.log().contains(text));
    }

    /// Its input, for somebody else to write to.
    pub fn take_input(&mut self) -> ChildStdin {
        self.input.take().expect("an open input")
    }

    /// Closes its input.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Closes its output: nobody reads any more.
    pub fn close_output(&mut self) {
        let (_, nobody) = sync_channel(0);
        self.output = nobody;
    }

    pub fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// What it says until it ends, and how it ends.
    pub fn rest(&mut self) -> (Vec<Value>, ExitStatus) {
        let rest = std::iter::from_fn(|| self.poll_next()).collect();
        (rest, self.wait())
    }

    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("landbridge does not end; it said:\n{}", self.log());
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.close();
        self.close_output();
        let until = Instant::now() + Duration::from_secs(12);
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The revisions that clients speak here: both ends of the handshake era, and what has none.
pub const REVISIONS: [&str; 3] = ["2024-11-05", "2025-11-25", "2026-07-28"];

/// The command line of `mcp-fixture MODE…`.
pub fn fixture(mode: &str) -> String {
    format!("'{}' {mode}", landbridge_fixtures::binary().display())
}

/// The first request of a handshake client.
pub fn initialize(id: u64, revision: &str, capabilities: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "initialize", "params": {
        "protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}}})
}
