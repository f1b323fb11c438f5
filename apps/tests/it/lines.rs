//! A program that speaks on standard streams, and whoever has started it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// It ends when this is dropped.
pub struct Lines {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    next: u64,
}

impl Lines {
    pub fn start(mut command: Command) -> Lines {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Lines { child, input, output: receiver, next: 0 }
    }

    /// The same, after the handshake. Its answer comes too.
    pub fn shaken(command: Command) -> (Lines, Value) {
        let mut lines = Lines::start(command);
        let client = json!({"name": "test", "version": "1"});
        let hello = lines.ask("initialize", json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}));
        lines.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        (lines, hello["result"].clone())
    }

    pub fn say(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("it listens");
        writeln!(input, "{message}").and_then(|()| input.flush()).expect("it listens");
    }

    /// The next line, if there is one in time.
    pub fn within(&self, time: Duration) -> Option<String> {
        self.output.recv_timeout(time).ok()
    }

    /// The answer to a request.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let line = self.within(Duration::from_secs(30)).expect("an answer");
            let message: Value = serde_json::from_str(&line).expect("JSON");
            if message["id"] == id {
                return message;
            }
        }
    }

    /// The text, or the error, of a call.
    pub fn call(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        let text = answer["result"]["content"][0]["text"].as_str().or(answer["error"]["message"].as_str());
        text.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Hangs up; whether it then ends.
    pub fn ends(mut self) -> bool {
        self.input = None;
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
