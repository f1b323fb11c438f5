//! A server elsewhere, made by hand: a test says what it answers, byte by byte where that matters.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::{Gateway, wait_until};

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Heard {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The message in it.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The method of the message in it, or of HTTP where there is none.
    pub fn what(&self) -> String {
        self.json()["method"].as_str().map_or_else(|| self.method.clone(), str::to_owned)
    }
}

/// What is answered to a request.
pub struct Reply<'c>(&'c mut TcpStream);

impl Reply<'_> {
    /// A whole response.
    pub fn whole(self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let _ = self.0.write_all(format!("{head}\r\n{body}").as_bytes());
    }

    pub fn empty(self, status: u16) {
        self.whole(status, &[], "");
    }

    pub fn json(self, status: u16, headers: &[(&str, &str)], body: &Value) {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.whole(status, &all, &body.to_string());
    }

    /// The result of a request.
    pub fn result(self, to: &Heard, result: Value) {
        self.json(200, &[], &json!({"jsonrpc": "2.0", "id": to.json()["id"], "result": result}));
    }

    pub fn error(self, status: u16, to: &Heard, code: i64, message: &str) {
        self.json(status, &[], &json!({"jsonrpc": "2.0", "id": to.json()["id"], "error": {"code": code, "message": message}}));
    }

    /// The text that a tool answers.
    pub fn text(self, to: &Heard, text: &str) {
        self.result(to, json!({"content": [{"type": "text", "text": text}]}));
    }

    /// A stream that ends when it is dropped.
    pub fn events(self) -> Events {
        self.events_as("text/event-stream")
    }

    pub fn events_as(self, media: &str) -> Events {
        let mut stream = self.0.try_clone().unwrap();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: {media}\r\nconnection: close\r\n\r\n");
        Events(stream)
    }
}

/// A stream of events.
pub struct Events(TcpStream);

impl Events {
    /// Bytes as they are.
    pub fn raw(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.0.write_all(bytes.as_ref()).is_ok()
    }

    pub fn message(&mut self, message: &Value) -> bool {
        self.raw(format!("data: {message}\n\n"))
    }

    /// It ends here.
    pub fn end(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// Waits until the other end is closed.
    pub fn await_end(&mut self) {
        let _ = self.0.read(&mut [0; 16]);
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.end();
    }
}

/// The server.
pub struct Foreign {
    pub port: u16,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Foreign {
    /// What it hears is answered by `answer`, each connection on a thread of its own.
    pub fn start(answer: impl Fn(&Heard, Reply<'_>) + Send + Sync + 'static) -> Foreign {
        Foreign::at(0, answer)
    }

    /// The same on that port.
    pub fn at(port: u16, answer: impl Fn(&Heard, Reply<'_>) + Send + Sync + 'static) -> Foreign {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let (all, answer) = (heard.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, answer) = (all.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut stream = stream;
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(request) = read(&mut reader) {
                        all.lock().unwrap().push(request.clone());
                        answer(&request, Reply(&mut stream));
                    }
                });
            }
        });
        Foreign { port, heard }
    }

    /// A server of sessions at that revision. What is no handshake and no stream is answered by `answer`.
    pub fn sessions(revision: &'static str, answer: impl Fn(&Heard, Reply<'_>) + Send + Sync + 'static) -> Foreign {
        let number = std::sync::atomic::AtomicU32::new(1);
        Foreign::start(move |heard, reply| match heard.what().as_str() {
            "initialize" => {
                let session = format!("session-{}", number.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
                let hello = json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": hello(revision)});
                reply.json(200, &[("mcp-session-id", &session)], &hello);
            }
            "server/discover" => reply.error(400, heard, -32601, "no such method"),
            "GET" => reply.empty(405),
            "DELETE" => reply.empty(204),
            what if what.starts_with("notifications/") => reply.empty(202),
            _ => answer(heard, reply),
        })
    }

    /// A stateless server. What is no discovery is answered by `answer`.
    pub fn stateless(answer: impl Fn(&Heard, Reply<'_>) + Send + Sync + 'static) -> Foreign {
        Foreign::start(move |heard, reply| match heard.what().as_str() {
            "server/discover" => reply.result(heard, discovered()),
            _ => answer(heard, reply),
        })
    }

    /// An HTTP+SSE server whose stream begins with these bytes. What is posted is answered by `answer`,
    /// which gets the stream, and 202.
    pub fn pipes(begin: &'static str, answer: impl Fn(&Heard, &mut Events) + Send + Sync + 'static) -> Foreign {
        let open: Mutex<Option<Events>> = Mutex::default();
        Foreign::start(move |heard, reply| match (heard.method.as_str(), heard.what().as_str()) {
            ("GET", _) => {
                let mut open = open.lock().unwrap();
                open.insert(reply.events()).raw(begin);
            }
            (_, "server/discover") | (_, "initialize") if !heard.path.contains("messages") => reply.empty(405),
            (_, what) => {
                let mut events = open.lock().unwrap();
                let events = events.as_mut().expect("the stream");
                reply.empty(202);
                match what {
                    "initialize" => {
                        events.message(&json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": hello("2024-11-05")}));
                    }
                    what if what.starts_with("notifications/") => {}
                    _ => answer(heard, events),
                }
            }
        })
    }

    /// Everything it heard so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// How often it heard that.
    pub fn count(&self, what: &str) -> usize {
        self.heard().iter().filter(|heard| heard.what() == what).count()
    }

    /// Waits until it has heard that, so often.
    pub fn wait_for(&self, what: &str, times: usize) -> Heard {
        wait_until(&format!("{times} times {what}"), || self.count(what) >= times);
        self.heard().into_iter().filter(|heard| heard.what() == what).nth(times - 1).unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// A gateway in front of it.
    pub fn gateway(&self, path: &str) -> Gateway {
        self.gateway_with(path, &[])
    }

    /// The same with more arguments.
    pub fn gateway_with(&self, path: &str, args: &[&str]) -> Gateway {
        let target = format!("far={}", self.url(path));
        let mut all = vec!["--server", target.as_str()];
        all.extend(args);
        Gateway::start(&all)
    }
}

/// What a server of that revision says of itself.
pub fn hello(revision: &str) -> Value {
    json!({
        "protocolVersion": revision,
        "capabilities": {"tools": {"listChanged": true}, "resources": {"subscribe": true}, "logging": {}},
        "serverInfo": {"name": "far", "version": "1"},
    })
}

pub fn discovered() -> Value {
    json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
        "serverInfo": {"name": "far", "version": "1"}, "ttlMs": 0, "cacheScope": "private"})
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Heard> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Heard { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() })
}
