//! What came back from a server, whatever carried it, and the words to tell it in.

use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;

/// Longest piece of a server's own words in a report.
const QUOTED: usize = 160;

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The status, over HTTP.
    pub status: Option<u16>,
    /// The headers, over HTTP.
    pub headers: HeaderMap,
    /// The messages, in their order; those of an array one by one.
    pub messages: Vec<Value>,
    /// The beginning of a body that is no message.
    pub text: String,
    /// Whether there was any body at all.
    pub has_body: bool,
    /// Why there is no more, where more was to come.
    pub cut: Option<String>,
    /// Until the head was there, or the line that answers.
    pub first_byte: Duration,
    /// Until all was there.
    pub whole: Duration,
}

/// Nothing came back.
#[derive(Clone, Debug, Default)]
pub struct Missed {
    /// Whether its process is not there any more.
    pub ended: bool,
    /// What happened instead.
    pub why: String,
}

/// What came of something we sent.
pub type Came = Result<Seen, Missed>;

impl Seen {
    /// The media type, without its parameters.
    pub fn media(&self) -> String {
        let media = self.headers.get(http::header::CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or_default();
        media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Whether it is a stream of events.
    pub fn is_stream(&self) -> bool {
        self.media() == "text/event-stream"
    }

    /// A header's value, where there is one that is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether HTTP says that it went well; without HTTP it always does.
    pub fn is_success(&self) -> bool {
        self.status.is_none_or(|status| (200..300).contains(&status))
    }

    /// The answer to the request of that id.
    pub fn answer(&self, id: &Value) -> Option<&Value> {
        self.messages.iter().find(|m| m.get("method").is_none() && m.get("id") == Some(id))
    }

    /// Its result.
    pub fn result(&self, id: &Value) -> Option<&Value> {
        self.answer(id)?.get("result")
    }

    /// The first error in it, of whatever request.
    pub fn error(&self) -> Option<&Value> {
        self.messages.iter().find_map(|m| m.get("error"))
    }

    /// That error's code.
    pub fn code(&self) -> Option<i64> {
        self.error()?.get("code")?.as_i64()
    }

    /// In a few words.
    pub fn says(&self) -> String {
        let mut said = self.status.map(|status| format!("HTTP {status}")).into_iter().collect::<Vec<_>>();
        if let Some(error) = self.error() {
            let code = error.get("code").map_or("an error without a code".into(), Value::to_string);
            let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
            said.push(if message.is_empty() { code } else { format!("{code} {}", quote(message)) });
        } else if self.messages.iter().any(|m| m.get("result").is_some()) {
            said.push("a result".into());
        } else if self.is_stream() {
            said.push("a stream".into());
        } else if self.media() == "text/html" {
            said.push("a web page".into());
        } else if !self.text.is_empty() {
            said.push(quote(&self.text));
        } else if self.status.is_some() && !self.has_body {
            said.push("no body".into());
        }
        said.extend(self.cut.clone());
        if said.is_empty() { "nothing".into() } else { said.join(", ") }
    }
}

/// What came, in a few words.
pub fn says(came: &Came) -> String {
    match came {
        Ok(seen) => seen.says(),
        Err(missed) => missed.why.clone(),
    }
}

/// A server's own words, on one line and not too many.
pub fn quote(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("\"{}…\"", &line[..end]),
        None => format!("\"{line}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_came_is_told_in_a_few_words() {
        let error = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no\nsuch  method"}});
        let seen = Seen { status: Some(404), messages: vec![error], has_body: true, ..Seen::default() };
        assert_eq!(seen.says(), "HTTP 404, -32601 \"no such method\"");
        assert_eq!(Seen { status: Some(202), ..Seen::default() }.says(), "HTTP 202, no body");
        let page = Seen { status: Some(200), text: "<html>".repeat(100), has_body: true, ..Seen::default() };
        assert!(page.says().starts_with("HTTP 200, \"<html><html>") && page.says().ends_with("…\""));
        assert_eq!(Seen::default().says(), "nothing");
    }

    #[test]
    fn an_answer_has_the_id_as_it_was() {
        let messages = vec![json!({"id": "1", "method": "ping"}), json!({"id": 1, "result": {}})];
        let seen = Seen { messages, ..Seen::default() };
        assert!(seen.answer(&json!(1)).is_some() && seen.answer(&json!("1")).is_none());
    }
}
