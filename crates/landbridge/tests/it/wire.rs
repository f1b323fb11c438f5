//! A client that writes HTTP by hand and shows what came back, byte for byte.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Longer than anything here takes; shorter than a test runner's patience.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub struct Wire {
    reader: BufReader<TcpStream>,
    port: u16,
}

/// A whole response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// A response that is still coming.
pub struct Stream {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
    chunked: bool,
    /// Bytes of the current chunk not read yet.
    left: usize,
    ended: bool,
    line: Vec<u8>,
}

/// One server-sent event. Comments are events named `:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub name: String,
    pub data: String,
    pub retry: Option<u64>,
}

impl Wire {
    pub fn connect(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { reader: BufReader::new(stream), port }
    }

    /// Bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.reader.get_mut().write_all(bytes);
    }

    /// The socket itself.
    pub fn socket(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// A POST of JSON that accepts JSON and events. Given headers win over these.
    pub fn post(self, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        self.request("POST", path, headers, Some(body))
    }

    pub fn request(mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Response {
        self.send(method, path, headers, body);
        self.response()
    }

    /// A request whose answer is read piece by piece.
    pub fn open(mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Stream {
        self.send(method, path, headers, body);
        self.stream()
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let mut defaults = vec![("host", format!("127.0.0.1:{}", self.port))];
        if let Some(body) = body {
            defaults.push(("content-type", "application/json".into()));
            defaults.push(("accept", "application/json, text/event-stream".into()));
            defaults.push(("content-length", body.len().to_string()));
        }
        for (name, value) in &defaults {
            if !headers.iter().any(|(n, _)| n == name) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.push_str(body.unwrap_or(""));
        self.write(head.as_bytes());
    }

    /// The whole next response.
    pub fn response(self) -> Response {
        let mut stream = self.stream();
        let mut body = Vec::new();
        while let Some(piece) = stream.piece() {
            body.extend(piece);
        }
        Response { status: stream.status, headers: stream.headers, body }
    }

    fn stream(mut self) -> Stream {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a status line");
        let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line).expect("a header");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let chunked = find("transfer-encoding") == Some("chunked");
        let left = find("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let ended = !chunked && left == 0;
        Stream { status, headers, reader: self.reader, chunked, left, ended, line: Vec::new() }
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// Whether the body is an event stream.
    pub fn is_stream(&self) -> bool {
        self.header("content-type").is_some_and(|t| t.starts_with("text/event-stream"))
    }

    /// The messages in the body, JSON or events.
    pub fn messages(&self) -> Vec<Value> {
        if !self.is_stream() {
            return vec![self.json()];
        }
        events(&self.text()).into_iter().filter(|e| !e.data.is_empty()).map(|e| serde_json::from_str(&e.data).unwrap()).collect()
    }
}

impl Stream {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The next event that is no comment; `None` at the end.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            let event = self.event_or_comment()?;
            if event.name != ":" {
                return Some(event);
            }
        }
    }

    /// The next message; priming events and pings are skipped. `None` at the end.
    pub fn message(&mut self) -> Option<Value> {
        loop {
            let event = self.event()?;
            if !event.data.is_empty() && event.name != "ping" {
                return Some(serde_json::from_str(&event.data).unwrap());
            }
        }
    }

    /// The next event or comment; `None` at the end.
    pub fn event_or_comment(&mut self) -> Option<Event> {
        loop {
            if let Some(at) = self.line.windows(2).position(|w| w == b"\n\n") {
                let text = String::from_utf8(self.line.drain(..at + 2).collect()).unwrap();
                return events(&text).pop();
            }
            let piece = self.piece()?;
            self.line.extend(piece);
        }
    }

    /// Whether the stream ends here, without another event.
    pub fn is_over(&mut self) -> bool {
        self.message().is_none()
    }

    /// Some more bytes of the body; `None` at its end, or when the connection broke.
    pub fn piece(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        if self.chunked && self.left == 0 {
            let mut size = String::new();
            self.reader.read_line(&mut size).ok()?;
            self.left = usize::from_str_radix(size.trim(), 16).ok()?;
            if self.left == 0 {
                self.ended = true;
                let _ = self.reader.read_line(&mut size);
                return None;
            }
        }
        let mut piece = vec![0; self.left.min(64 * 1024)];
        let n = self.reader.read(&mut piece).expect("more of the body, in time");
        if n == 0 {
            self.ended = true;
            return None;
        }
        piece.truncate(n);
        self.left -= n;
        if self.left == 0 {
            if self.chunked {
                let _ = self.reader.read_line(&mut String::new());
            } else {
                self.ended = true;
            }
        }
        Some(piece)
    }
}

/// The events of a text, comments included.
pub fn events(text: &str) -> Vec<Event> {
    let mut all = Vec::new();
    for block in text.split("\n\n").filter(|b| !b.is_empty()) {
        let mut event = Event { name: "message".into(), ..Event::default() };
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => event.id = Some(value.into()),
                "event" => event.name = value.into(),
                "data" => event.data.push_str(value),
                "retry" => event.retry = value.parse().ok(),
                _ => event.name = ":".into(),
            }
        }
        all.push(event);
    }
    all
}
