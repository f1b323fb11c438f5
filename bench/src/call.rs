//! The bytes a client sends: prebuilt once, with only the id and the message put in per call.
//!
//! Odd: every message is different. It names the client and the call, so that an answer which
//! went to the wrong client, or to the wrong call of the right one, cannot pass as correct.

use std::fmt::Write;

use crate::plan::{Mode, Work};

/// Size of the echoed text in bytes.
pub(crate) const PAYLOAD: usize = 64;

/// The `_meta` that every request of 2026-07-28 carries.
fn meta(work: Work) -> String {
    let capabilities = work.capabilities();
    format!(
        r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities},"io.modelcontextprotocol/clientInfo":{{"name":"bench","version":"0"}}}},"#
    )
}

pub(crate) struct Calls {
    head: Vec<u8>,
    opening: &'static str,
    middle: String,
    message: String,
    id: String,
    number: u64,
    tag: usize,
    body: Vec<u8>,
}

impl Calls {
    /// `head` ends right behind `Content-Length: `; without one the calls are lines for a pipe.
    pub(crate) fn new(mode: Mode, work: Work, client: usize, first_id: u64, head: Vec<u8>) -> Self {
        let meta = if mode == Mode::Stateless { meta(work) } else { String::new() };
        let tool = work.tool();
        let middle = format!(r#","method":"tools/call","params":{{{meta}"name":"{tool}","arguments":{{"message":""#);
        // The tail of the text differs between clients as well, so a mix of two texts shows.
        let filler: String = (0..PAYLOAD).map(|at| char::from(b'a' + ((at * 7 + client) % 26) as u8)).collect();
        let mut message = format!("client {client:05} call ");
        let tag = message.len();
        message.push_str("00000000 ");
        message.push_str(&filler[..PAYLOAD - message.len()]);
        Calls {
            head,
            opening: r#"{"jsonrpc":"2.0","id":"#,
            middle,
            message,
            id: String::new(),
            number: first_id - 1,
            tag,
            body: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Moves on to the next id and message.
    pub(crate) fn advance(&mut self) {
        self.renumber();
        let digits = self.tag..self.tag + 8;
        self.message.replace_range(digits, &format!("{:08}", self.number % 100_000_000));
    }

    /// Moves on to the next id and stays with the message, as a retry does.
    pub(crate) fn renumber(&mut self) {
        self.number += 1;
        self.id.clear();
        let _ = write!(self.id, "{}", self.number);
    }

    /// Appends the current call as one HTTP request.
    pub(crate) fn write_request(&mut self, out: &mut Vec<u8>) {
        self.write_request_with("", out);
    }

    /// The same with more members behind the arguments, each led by a comma.
    pub(crate) fn write_request_with(&mut self, more: &str, out: &mut Vec<u8>) {
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        self.write_body_with(more, &mut body);
        out.extend_from_slice(&self.head);
        let mut length = [0; 20];
        out.extend_from_slice(decimal(body.len(), &mut length));
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(&body);
        self.body = body;
    }

    /// Appends the current call as bare JSON.
    pub(crate) fn write_body(&self, out: &mut Vec<u8>) {
        self.write_body_with("", out);
    }

    fn write_body_with(&self, more: &str, out: &mut Vec<u8>) {
        for part in [self.opening, &self.id, &self.middle, &self.message, r#""}"#, more, "}}"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
}

pub(crate) fn decimal(mut value: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

/// The two messages a client of a handshake revision opens with.
pub(crate) fn initialize(version: &str, work: Work) -> String {
    let capabilities = work.capabilities();
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{{"name":"bench","version":"0"}}}}}}"#
    )
}

pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A whole POST around `body`, with `head` as for [`Calls::new`].
pub(crate) fn post(head: &[u8], body: &str) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.extend_from_slice(format!("{}\r\n\r\n{body}", body.len()).as_bytes());
    bytes
}

/// The head of a POST up to and with `Content-Length: `.
pub(crate) fn post_head(host: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    );
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("Content-Length: ");
    head.into_bytes()
}

/// A whole GET of an event stream.
pub(crate) fn get_stream(host: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n");
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_whole_json_of_the_promised_size_and_differs() {
        for (mode, work) in [(Mode::Streamable, Work::Plain), (Mode::Stateless, Work::Plain), (Mode::Stateless, Work::Asking)] {
            let mut calls = Calls::new(mode, work, 15, 9, post_head("127.0.0.1:1", "/mcp", &[]));
            let mut seen = std::collections::HashSet::new();
            for id in 9..120 {
                calls.advance();
                let mut out = Vec::new();
                calls.write_request(&mut out);
                let text = String::from_utf8(out).expect("UTF-8");
                let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
                assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
                let value: serde_json::Value = serde_json::from_str(body).expect("JSON");
                assert_eq!(value["id"], id);
                let message = value["params"]["arguments"]["message"].as_str().expect("a message");
                assert_eq!((message, message.len()), (calls.message(), PAYLOAD));
                assert_eq!(value["params"].get("_meta").is_some(), mode == Mode::Stateless);
                assert!(seen.insert(message.to_owned()));
                assert_eq!(value["params"]["name"], work.tool());
            }
        }
    }

    #[test]
    fn a_retry_is_the_same_call_under_the_next_id() {
        let mut calls = Calls::new(Mode::Stateless, Work::Asking, 3, 1, post_head("127.0.0.1:1", "/mcp", &[]));
        let mut body_of = |retry: bool| {
            if retry {
                calls.renumber()
            } else {
                calls.advance()
            }
            let mut out = Vec::new();
            calls.write_request_with(if retry { r#","requestState":"s""# } else { "" }, &mut out);
            let text = String::from_utf8(out).expect("UTF-8");
            serde_json::from_str::<serde_json::Value>(text.split_once("\r\n\r\n").expect("a head and a body").1).expect("JSON")
        };
        let (call, mut retry) = (body_of(false), body_of(true));
        assert_eq!((&call["id"], &retry["id"]), (&1.into(), &2.into()));
        assert_eq!(retry["params"].as_object_mut().and_then(|params| params.remove("requestState")), Some("s".into()));
        assert_eq!(call["params"], retry["params"]);
        assert_eq!(call["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]["elicitation"], serde_json::json!({}));
    }
}
