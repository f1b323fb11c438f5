//! An application that runs, and clients of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::wire::{Response, Stream, Wire};

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_landbridge-apps");

/// An application in a directory of its own. It ends when this is dropped.
pub struct App {
    pub port: u16,
    pub dir: PathBuf,
    child: Child,
    said: Arc<Mutex<String>>,
    owns_dir: bool,
}

impl App {
    /// With these arguments, and these variables besides `PATH` and `HOME`.
    pub fn start(app: &str, arguments: &[&str], variables: &[(&str, &str)]) -> App {
        let dir = fresh_dir(app);
        let mut app = App::start_in(&dir, app, arguments, variables);
        app.owns_dir = true;
        app
    }

    /// The same in a directory that stays.
    pub fn start_in(dir: &Path, app: &str, arguments: &[&str], variables: &[(&str, &str)]) -> App {
        let mut command = command(dir, app, variables);
        if !arguments.contains(&"--port") {
            command.args(["--port", "0"]);
        }
        let mut child = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut before = String::new();
        let port = loop {
            let mut line = String::new();
            if stderr.read_line(&mut line).expect("text") == 0 {
                panic!("it ended before it listened: {before}");
            }
            before.push_str(&line);
            if let Some((_, rest)) = line.split_once(" is at http") {
                // `://ADDRESS:PORT/…`, or `s://…`
                let port = rest.split(':').nth(2).and_then(|rest| rest.split('/').next());
                break port.and_then(|port| port.trim().parse().ok()).expect("a port");
            }
        };
        let said = Arc::new(Mutex::new(before));
        let more = said.clone();
        std::thread::spawn(move || {
            let mut line = String::new();
            while matches!(stderr.read_line(&mut line), Ok(n) if n > 0) {
                more.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        App { port, dir: dir.to_owned(), child, said, owns_dir: false }
    }

    /// What it has said on standard error so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Ends it as a power cut does.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn wire(&self) -> Wire {
        Wire::connect(self.port)
    }

    pub fn get(&self, path: &str) -> Response {
        self.wire().request("GET", path, &[], None)
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.wire().request("GET", path, headers, None)
    }

    pub fn post(&self, path: &str, message: &Value) -> Response {
        self.wire().post(path, &[], &message.to_string())
    }

    /// A stream of events.
    pub fn events(&self, path: &str, headers: &[(&str, &str)]) -> Stream {
        let headers = [&[("Accept", "text/event-stream")], headers].concat();
        self.wire().open("GET", path, &headers, None)
    }

    /// A client of HTTP+SSE that has shaken hands.
    pub fn sse(&self, path: &str, headers: &[(&str, &str)]) -> Client {
        Client::over_sse(self.port, path, headers)
    }

    /// A client of Streamable HTTP that has shaken hands.
    pub fn http(&self, path: &str, headers: &[(&str, &str)]) -> Client {
        Client::over_http(self.port, path, headers)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.owns_dir {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The program in that directory, with a small environment.
pub fn command(dir: &Path, app: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(app).current_dir(dir).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOME", dir);
    command.envs(variables.iter().copied());
    command
}

/// What it says when it is run to its end, and whether that was well.
pub fn run(dir: &Path, app: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut child =
        command(dir, app, variables).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (child.wait().unwrap().success(), said)
}

/// An empty directory.
pub fn fresh_dir(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("landbridge-apps-{name}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// A client of a handshake revision.
pub struct Client {
    port: u16,
    headers: Vec<(String, String)>,
    way: Way,
    next: u64,
}

enum Way {
    Sse { endpoint: String, stream: Box<Stream> },
    Http { path: String },
}

impl Client {
    /// Of HTTP+SSE, having shaken hands.
    pub fn over_sse(port: u16, path: &str, headers: &[(&str, &str)]) -> Client {
        let all = [&[("Accept", "text/event-stream")], headers].concat();
        let mut stream = Wire::connect(port).open("GET", path, &all, None);
        assert_eq!(stream.status, 200);
        let endpoint = loop {
            let event = stream.event().expect("an endpoint");
            if event.name == "endpoint" {
                // Some say it in JSON.
                break serde_json::from_str(&event.data).unwrap_or(event.data);
            }
        };
        Client::new(port, headers, Way::Sse { endpoint, stream: Box::new(stream) }, "2024-11-05")
    }

    /// Of Streamable HTTP, having shaken hands.
    pub fn over_http(port: u16, path: &str, headers: &[(&str, &str)]) -> Client {
        Client::new(port, headers, Way::Http { path: path.to_owned() }, "2025-06-18")
    }

    fn new(port: u16, headers: &[(&str, &str)], way: Way, revision: &str) -> Client {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut client = Client { port, headers, way, next: 0 };
        client.shake_hands(revision);
        client
    }

    fn shake_hands(&mut self, revision: &str) {
        let client = json!({"name": "test", "version": "1"});
        let hello = self.ask("initialize", json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": client}));
        assert_eq!(hello["result"]["protocolVersion"], revision, "{hello}");
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    }

    /// The answer to a request.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let response = self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        match &mut self.way {
            Way::Sse { stream, .. } => loop {
                let message = stream.message().expect("an answer");
                if message["id"] == id {
                    return message;
                }
            },
            Way::Http { .. } => response.messages().into_iter().find(|message| message["id"] == id).expect("an answer"),
        }
    }

    /// Sends a message, which has to be taken.
    fn send(&mut self, message: &Value) -> Response {
        let path = match &self.way {
            Way::Sse { endpoint, .. } => endpoint.clone(),
            Way::Http { path } => path.clone(),
        };
        let mut headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.push(("Accept", "application/json, text/event-stream"));
        let response = Wire::connect(self.port).post(&path, &headers, &message.to_string());
        assert!(matches!(response.status, 200 | 202), "{}: {}", response.status, response.text());
        if let Some(session) = response.header("mcp-session-id").map(str::to_owned)
            && !self.headers.iter().any(|(name, _)| name == "Mcp-Session-Id")
        {
            self.headers.push(("Mcp-Session-Id".into(), session));
        }
        response
    }

    /// The result of a call of a tool, or its error.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        if answer.get("error").is_some() { answer["error"].clone() } else { answer["result"].clone() }
    }

    /// The text of a call that has to succeed.
    pub fn text(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_ne!(result["isError"], true, "{result}");
        result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}")).to_owned()
    }

    /// The same, read as JSON.
    pub fn json(&mut self, tool: &str, arguments: Value) -> Value {
        serde_json::from_str(&self.text(tool, arguments)).expect("JSON")
    }

    /// The names of the tools.
    pub fn tools(&mut self) -> Vec<String> {
        let tools = self.ask("tools/list", json!({}));
        let tools = tools["result"]["tools"].as_array().expect("tools").iter();
        tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }
}
