//! Where in a message names of servers stand, and the same message with others.

use bytes::Bytes;

use crate::bridge::holds;
use crate::fault::{Fault, Kind as FaultKind};
use crate::json::{self, Span};
use crate::message::{Kind, Message};
use crate::methods::Method;
use crate::tasks;
use crate::version::Era;

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub enum About {
    /// A tool or prompt of that name, which stands there.
    Name(Span, String),
    /// A task.
    Task(Span, String),
    /// A resource, or a template.
    Uri(Span, String),
    /// Nothing that a server named.
    Nothing,
}

/// What a request is about.
pub fn about(method: &Method, message: &Message) -> Result<About, Fault> {
    let wrong = |told: String| Fault::client(FaultKind::Params).tell(told);
    let (outer, by_name) = match method {
        _ if method.is_of_task() => {
            let [at] = message.params_fields(&["taskId"]).map_err(|e| wrong(e.to_string()))?;
            let id = at.zip(message.string_at(at)).map(|(at, id)| About::Task(at, id.into_owned()));
            return id.ok_or_else(|| wrong("`taskId` must be a string".into()));
        }
        Method::ToolsCall | Method::PromptsGet => (message.params, true),
        Method::ResourcesRead | Method::Subscribe | Method::Unsubscribe => (message.params, false),
        Method::Complete => {
            let [reference] = message.params_fields(&["ref"]).map_err(|e| wrong(e.to_string()))?;
            let reference = reference.ok_or_else(|| wrong("`params.ref` is missing".into()))?;
            let [kind] = message.fields_at(reference, &["type"]).map_err(|e| wrong(format!("`params.ref`: {e}")))?;
            match message.string_at(kind).as_deref() {
                Some("ref/prompt") => (Some(reference), true),
                Some("ref/resource") => (Some(reference), false),
                _ => return Err(wrong("`params.ref.type` must be \"ref/prompt\" or \"ref/resource\"".into())),
            }
        }
        _ => return Ok(About::Nothing),
    };
    let key = if by_name { "name" } else { "uri" };
    let [at] = match outer {
        Some(outer) => message.fields_at(outer, &[key]).map_err(|e| wrong(e.to_string()))?,
        None => [None],
    };
    match (at, message.string_at(at)) {
        (Some(at), Some(text)) if by_name => Ok(About::Name(at, text.into_owned())),
        (Some(at), Some(text)) => Ok(About::Uri(at, text.into_owned())),
        _ => Err(wrong(format!("`{key}` must be a string"))),
    }
}

/// How things of a server are called in front.
pub trait Front {
    /// A resource.
    fn uri(&self, own: &str) -> String;
    /// A task.
    fn task(&self, own: &str) -> String;
    /// The id of a request of the server: JSON text both.
    fn request(&self, own: &str) -> String;
}

/// A message of a server of that era, as it is in front. `of` is what it belongs to, if that is a call.
pub fn fronted(message: &Message, era: Era, of: Option<&Method>, front: &impl Front) -> Bytes {
    let mut edits = Edits { message, front, all: Vec::new() };
    match (&message.kind, of) {
        (Kind::Response(_, Ok(result)), Some(method)) => edits.result(method, era, *result),
        (Kind::Request(_, method), _) => {
            if let Some(at) = message.id {
                edits.all.push((at, front.request(message.text(at))));
            }
            edits.related_task(message.params);
            if *method == Method::Sampling
                && let Some(params) = message.params
            {
                edits.messages(params);
            }
        }
        (Kind::Notification(Method::ResourceUpdated), _) => {
            let [at] = message.params_fields(&["uri"]).unwrap_or_default();
            edits.uri_at(at);
        }
        (Kind::Notification(Method::Cancelled), _) => {
            let [at] = message.params_fields(&["requestId"]).unwrap_or_default();
            if let Some(at) = at {
                edits.all.push((at, front.request(message.text(at))));
            }
        }
        (Kind::Notification(method), _) => {
            edits.related_task(message.params);
            if method.as_str() == TASK_STATUS {
                edits.task_in(message.params);
            }
        }
        _ => {}
    }
    edits.made()
}

/// How a task is (2025-11-25).
const TASK_STATUS: &str = "notifications/tasks/status";

struct Edits<'m, F> {
    message: &'m Message,
    front: &'m F,
    all: Vec<(Span, String)>,
}

impl<F: Front> Edits<'_, F> {
    fn made(mut self) -> Bytes {
        if self.all.is_empty() {
            return self.message.bytes.clone();
        }
        self.all.sort_by_key(|(at, _)| at.start());
        let edits: Vec<(Span, &[u8])> = self.all.iter().map(|(at, new)| (*at, new.as_bytes())).collect();
        json::splice(&self.message.bytes, &edits).into()
    }

    fn result(&mut self, method: &Method, era: Era, result: Span) {
        let text = result.of_bytes(&self.message.bytes);
        if holds(text, "taskId") {
            self.related_task(Some(result));
            if method.is_of_task() {
                self.task_in(Some(result));
            } else if *method == Method::ToolsCall && tasks::begins_task(text, era) {
                let [nested] = self.message.fields_at(result, &["task"]).unwrap_or_default();
                self.task_in(nested.filter(|_| era == Era::Handshake).or(Some(result)));
            }
        }
        if !holds(text, "uri") {
            return;
        }
        match method {
            // A task's result is that of the tool (2025-11-25), or has it within.
            Method::TaskGet => {
                let [nested] = self.message.fields_at(result, &["result"]).unwrap_or_default();
                if let Some(nested) = nested {
                    self.contents(nested, "content");
                }
            }
            Method::ToolsCall | Method::TaskResult => self.contents(result, "content"),
            Method::PromptsGet => self.messages(result),
            Method::ResourcesRead => {
                for content in self.elements(result, "contents") {
                    self.uri_in(content);
                }
            }
            _ => {}
        }
    }

    fn messages(&mut self, outer: Span) {
        for message in self.elements(outer, "messages") {
            self.contents(message, "content");
        }
    }

    /// Contents, or the only one.
    fn contents(&mut self, outer: Span, key: &str) {
        for content in self.elements(outer, key) {
            let [kind, resource] = self.message.fields_at(content, &["type", "resource"]).unwrap_or_default();
            match (self.message.string_at(kind).as_deref(), resource) {
                (Some("resource_link"), _) => self.uri_in(content),
                (Some("resource"), Some(resource)) => self.uri_in(resource),
                // What a model's tool said (sampling, 2025-11-25).
                (Some("tool_result"), _) => self.contents(content, "content"),
                _ => {}
            }
        }
    }

    fn elements(&self, outer: Span, key: &str) -> Vec<Span> {
        let [at] = self.message.fields_at(outer, &[key]).unwrap_or_default();
        let Some(at) = at else { return Vec::new() };
        let text = self.message.text(at);
        if !text.starts_with('[') {
            return vec![at];
        }
        let all = json::elements(text, usize::MAX).ok().flatten().unwrap_or_default();
        all.into_iter().map(|element| Span::of(element, text).within(at)).collect()
    }

    fn uri_in(&mut self, object: Span) {
        let [at] = self.message.fields_at(object, &["uri"]).unwrap_or_default();
        self.uri_at(at);
    }

    fn uri_at(&mut self, at: Option<Span>) {
        if let (Some(at), Some(uri)) = (at, self.message.string_at(at)) {
            self.all.push((at, json::quote(&self.front.uri(&uri))));
        }
    }

    /// The task that an object is, or is about.
    fn task_in(&mut self, object: Option<Span>) {
        let [at] = object.and_then(|object| self.message.fields_at(object, &["taskId"]).ok()).unwrap_or_default();
        if let (Some(at), Some(task)) = (at, self.message.string_at(at)) {
            self.all.push((at, json::quote(&self.front.task(&task))));
        }
    }

    /// The mark of a task that params or a result belong to.
    fn related_task(&mut self, object: Option<Span>) {
        let Some(object) = object.filter(|object| holds(object.of_bytes(&self.message.bytes), "taskId")) else { return };
        let inner = |outer: Span, key: &str| self.message.fields_at(outer, &[key]).unwrap_or_default()[0];
        let mark = inner(object, "_meta").and_then(|meta| inner(meta, tasks::META_RELATED));
        self.task_in(mark);
    }
}

/// The same request about what its server calls so.
pub fn backed(message: &Message, at: Span, own: &str) -> Bytes {
    json::splice(&message.bytes, &[(at, json::quote(own).as_bytes())]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::read(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    struct S;

    impl Front for S {
        fn uri(&self, own: &str) -> String {
            format!("s+{own}")
        }
        fn task(&self, own: &str) -> String {
            format!("s:{own}")
        }
        fn request(&self, own: &str) -> String {
            json::quote(&format!("0:{own}"))
        }
    }

    fn front(text: &str, of: Option<Method>) -> String {
        front_of(Era::Handshake, text, of)
    }

    fn front_of(era: Era, text: &str, of: Option<Method>) -> String {
        String::from_utf8(fronted(&message(text), era, of.as_ref(), &S).to_vec()).unwrap()
    }

    fn result(method: Method, result: &str) -> String {
        let whole = front(&format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#), Some(method));
        whole.strip_prefix(r#"{"jsonrpc":"2.0","id":1,"result":"#).unwrap().strip_suffix('}').unwrap().to_owned()
    }

    #[test]
    fn what_a_request_is_about_is_found_and_replaced() {
        let about = |method: Method, params: &str| {
            let message = message(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}","params":{params}}}"#, method.as_str()));
            match about(&method, &message) {
                Ok(About::Name(at, text) | About::Uri(at, text) | About::Task(at, text)) => {
                    let made = backed(&message, at, "NEW");
                    let made = String::from_utf8(made.to_vec()).unwrap();
                    (text, made.split_once("\"params\":").unwrap().1.trim_end_matches('}').to_owned())
                }
                Ok(About::Nothing) => ("nothing".into(), String::new()),
                Err(fault) => (fault.told, String::new()),
            }
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            about(Method::ToolsCall, r#"{"arguments":{"name":"x","n":1.0},"name":"\u0061"}"#),
            pair("a", r#"{"arguments":{"name":"x","n":1.0},"name":"NEW""#)
        );
        assert_eq!(about(Method::ResourcesRead, r#"{"uri":"a:b"}"#), pair("a:b", r#"{"uri":"NEW""#));
        assert_eq!(about(Method::Complete, r#"{"ref":{"type":"ref/prompt","name":"p"}}"#).0, "p");
        assert_eq!(about(Method::Complete, r#"{"ref":{"type":"ref/resource","uri":"u"}}"#).0, "u");
        assert!(about(Method::Complete, r#"{"ref":{"type":"ref/tool","name":"p"}}"#).0.contains("ref.type"));
        assert!(about(Method::Complete, "{}").0.contains("missing"));
        assert!(about(Method::PromptsGet, r#"{"name":5}"#).0.contains("must be a string"));
        assert_eq!(about(Method::ToolsList, "{}").0, "nothing");
        assert_eq!(about(Method::TaskGet, r#"{"taskId":"t"}"#), pair("t", r#"{"taskId":"NEW""#));
        assert!(about(Method::TaskCancel, "{}").0.contains("taskId"));
    }

    #[test]
    fn in_results_only_resources_are_renamed() {
        let tool = r#"{"content":[{"type":"text","text":"uri"},{"type":"resource_link","uri":"a:b","name":"n"},{"resource":{"uri":"\u0061:c","text":"t"},"type":"resource"}],"structuredContent":{"uri":"a:b","n":1.0}}"#;
        assert_eq!(
            result(Method::ToolsCall, tool),
            r#"{"content":[{"type":"text","text":"uri"},{"type":"resource_link","uri":"s+a:b","name":"n"},{"resource":{"uri":"s+a:c","text":"t"},"type":"resource"}],"structuredContent":{"uri":"a:b","n":1.0}}"#
        );
        let prompt = r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"a:b"}}},{"role":"user","content":{"type":"text","text":""}}]}"#;
        assert_eq!(result(Method::PromptsGet, prompt), prompt.replace("a:b", "s+a:b"));
        let read = r#"{"contents":[{"uri":"a:b","text":"a:b"},{"uri":"a:b/c","blob":""}]}"#;
        assert_eq!(result(Method::ResourcesRead, read), r#"{"contents":[{"uri":"s+a:b","text":"a:b"},{"uri":"s+a:b/c","blob":""}]}"#);
        for odd in [r#"{"content":5,"uri":1}"#, r#"{"contents":[{"uri":5}]}"#, "5", r#"{"messages":{}, "uri":""}"#] {
            for method in [Method::ToolsCall, Method::PromptsGet, Method::ResourcesRead, Method::ToolsList] {
                assert_eq!(result(method, odd), odd);
            }
        }
    }

    #[test]
    fn tasks_say_whose_they_are() {
        let related =
            r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}},"content":[{"type":"resource_link","uri":"a:b"}]}"#;
        assert_eq!(result(Method::TaskResult, related), related.replace("\"t\"", "\"s:t\"").replace("a:b", "s+a:b"));
        assert_eq!(
            result(Method::ToolsCall, r#"{"task":{"taskId":"t","status":"working"}}"#),
            r#"{"task":{"taskId":"s:t","status":"working"}}"#
        );
        assert_eq!(result(Method::TaskGet, r#"{"taskId":"t","status":"working"}"#), r#"{"taskId":"s:t","status":"working"}"#);
        let own = r#"{"content":[],"taskId":"t"}"#;
        assert_eq!(result(Method::ToolsCall, own), own, "what a tool calls so is its own");
        let created = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"t","status":"working"}}"#;
        assert_eq!(front_of(Era::Stateless, created, Some(Method::ToolsCall)), created.replace("\"t\"", "\"s:t\""));
        let status = r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t","status":"working"}}"#;
        assert_eq!(front(status, None), status.replace("\"t\"", "\"s:t\""));
        let ask = r#"{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}}"#;
        assert_eq!(front(ask, None), ask.replace("\"t\"", "\"s:t\"").replace("\"id\":1", "\"id\":\"0:1\""));
    }

    #[test]
    fn what_a_server_asks_and_tells_says_whose_it_is() {
        let ask = r#"{"jsonrpc":"2.0","id":"x","method":"sampling/createMessage","params":{"messages":[{"content":[{"type":"resource_link","uri":"a:b"}]}]}}"#;
        assert_eq!(front(ask, Some(Method::ToolsCall)), ask.replace("\"x\"", r#""0:\"x\"""#).replace("a:b", "s+a:b"));
        let updated = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b"}}"#;
        assert_eq!(front(updated, None), updated.replace("a:b", "s+a:b"));
        let cancelled = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
        assert_eq!(front(cancelled, None), cancelled.replace('7', "\"0:7\""));
        let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"uri":"a:b"}}"#;
        assert_eq!(front(log, None), log);
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"","data":{"uri":"a:b"}}}"#;
        assert_eq!(front(error, Some(Method::ResourcesRead)), error);
    }
}
