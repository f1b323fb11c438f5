//! What clients want to hear of: filters, their union at a server, and the stream of one
//! `subscriptions/listen`.

mod wanted;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::bridge;
use crate::call::{Can, Notice};
use crate::json;
use crate::message::{Id, META_SUBSCRIPTION, Message};
use crate::methods::Method;
pub use wanted::{Change, Granted, Wanted, Wish};

/// Resources one client may subscribe to.
pub const MAX_URIS: usize = 1_000;
/// How long the name of one may be.
pub const MAX_URI_BYTES: usize = 8 * 1024;

/// The kinds of change somebody wants to hear of. Strict opt-in: nothing else is sent
/// (2026-07-28, subscriptions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `toolsListChanged`
    pub tools: bool,
    /// `promptsListChanged`
    pub prompts: bool,
    /// `resourcesListChanged`
    pub resources: bool,
    /// `resourceSubscriptions`
    pub uris: BTreeSet<Arc<str>>,
}

impl Filter {
    /// Reads the params of a `subscriptions/listen`; the error says what is wrong with them.
    pub fn read(message: &Message) -> Result<Filter, String> {
        let [wanted] = message.params_fields(&["notifications"]).map_err(|e| e.to_string())?;
        let Some(wanted) = wanted else { return Err("`notifications` is missing".into()) };
        let [tools, prompts, resources, uris] = message
            .fields_at(wanted, &["toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"])
            .map_err(|e| format!("`notifications`: {e}"))?;
        let flag = |at: Option<json::Span>| match at.map(|at| message.text(at)) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(format!("{other} is no boolean")),
        };
        let mut filter = Filter { tools: flag(tools)?, prompts: flag(prompts)?, resources: flag(resources)?, uris: BTreeSet::new() };
        if let Some(uris) = uris {
            let all = json::elements(message.text(uris), MAX_URIS).map_err(|e| format!("`resourceSubscriptions`: {e}"))?;
            let all = all.ok_or(format!("more than {MAX_URIS} resource subscriptions"))?;
            for uri in all {
                let uri = json::string(uri.as_bytes()).ok_or("a resource URI is no string")?;
                if uri.len() > MAX_URI_BYTES {
                    return Err(format!("a resource URI is longer than {MAX_URI_BYTES} bytes"));
                }
                filter.uris.insert(uri.as_ref().into());
            }
        }
        Ok(filter)
    }

    /// What of this a server can honour.
    pub fn honoured_by(&self, can: Can) -> Filter {
        Filter {
            tools: self.tools && can.tools_changed,
            prompts: self.prompts && can.prompts_changed,
            resources: self.resources && can.resources_changed,
            uris: if can.subscribe { self.uris.clone() } else { BTreeSet::new() },
        }
    }

    /// Both together.
    pub fn union(&mut self, other: &Filter) {
        self.tools |= other.tools;
        self.prompts |= other.prompts;
        self.resources |= other.resources;
        self.uris.extend(other.uris.iter().cloned());
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        !self.tools && !self.prompts && !self.resources && self.uris.is_empty()
    }

    /// Whether the notice is wanted. An update may name a part of the subscribed resource.
    pub fn wants(&self, notice: &Notice) -> bool {
        match notice.method {
            Method::ToolsChanged => self.tools,
            Method::PromptsChanged => self.prompts,
            Method::ResourcesChanged => self.resources,
            Method::ResourceUpdated => notice.uri.as_ref().is_some_and(|uri| wants_uri(&self.uris, uri)),
            _ => false,
        }
    }

    /// The filter as the JSON object of `notifications`.
    pub fn to_json(&self) -> String {
        let mut parts = Vec::new();
        for (on, name) in [(self.tools, "toolsListChanged"), (self.prompts, "promptsListChanged"), (self.resources, "resourcesListChanged")]
        {
            if on {
                parts.push(format!("\"{name}\":true"));
            }
        }
        if !self.uris.is_empty() {
            let uris: Vec<String> = self.uris.iter().map(|u| json::quote(u)).collect();
            parts.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        format!("{{{}}}", parts.join(","))
    }
}

/// Whether an update of `uri` is one of a resource in `uris`, or of a part of one.
pub fn wants_uri(uris: &BTreeSet<Arc<str>>, uri: &str) -> bool {
    uris.contains(uri)
        || uris.iter().any(|u| uri.strip_prefix(&**u).is_some_and(|rest| u.ends_with('/') || rest.starts_with(['/', '#', '?'])))
}

/// One open `subscriptions/listen` of a stateless client.
#[derive(Debug)]
pub struct Listen {
    id: Id,
    filter: Filter,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    limit: usize,
    state: State,
    waker: Option<Waker>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The last message is in the queue.
    Finished,
    /// It ends without a result, because something may have been missed: the client did not keep up, or
    /// whoever told of the changes is gone.
    BrokenOff,
}

impl Listen {
    /// Opens the stream of the request `id` and acknowledges `honoured` as its first message.
    /// `limit` bounds the bytes that may wait for a slow reader.
    pub fn new(id: Id, honoured: Filter, limit: usize) -> Listen {
        let ack = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"_meta\":{{\"{META_SUBSCRIPTION}\":{}}},\"notifications\":{}}}}}",
            String::from_utf8_lossy(id.as_bytes()),
            honoured.to_json()
        );
        let queued_bytes = ack.len();
        Listen { id, filter: honoured, queue: [ack.into()].into(), queued_bytes, limit, state: State::Open, waker: None }
    }

    /// What it was promised.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Something changed.
    pub fn handle_notice(&mut self, notice: &Notice) {
        if self.state != State::Open || !self.filter.wants(notice) {
            return;
        }
        let message = bridge::tag(&notice.message, self.id.as_bytes());
        if self.queued_bytes + message.len() > self.limit && !self.queue.is_empty() {
            self.state = State::BrokenOff;
            self.queue = VecDeque::new();
        } else {
            self.queued_bytes += message.len();
            self.queue.push_back(message);
        }
        self.wake();
    }

    /// We end the stream in good order: the result says so.
    pub fn finish(&mut self) {
        if self.state != State::Open {
            return;
        }
        let id = String::from_utf8_lossy(self.id.as_bytes()).into_owned();
        let result = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"resultType\":\"complete\",\"_meta\":{{\"{META_SUBSCRIPTION}\":{id}}}}}}}"
        );
        self.queue.push_back(result.into());
        self.state = State::Finished;
        self.wake();
    }

    /// Whoever tells of the changes is gone; what was told already is still read.
    pub fn break_off(&mut self) {
        if self.state == State::Open {
            self.state = State::BrokenOff;
            self.wake();
        }
    }

    /// Whether it ends, or has ended, without a result.
    pub fn is_broken_off(&self) -> bool {
        self.state == State::BrokenOff
    }

    /// The next message; `None`: the stream is over.
    pub fn poll_message(&mut self, waker: &Waker) -> Poll<Option<Bytes>> {
        match self.queue.pop_front() {
            Some(message) => {
                self.queued_bytes = self.queued_bytes.saturating_sub(message.len());
                Poll::Ready(Some(message))
            }
            None if self.state != State::Open => Poll::Ready(None),
            None => {
                self.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(method: Method, uri: Option<&str>) -> Notice {
        let message = Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}", method.as_str()));
        Notice { method, uri: uri.map(Arc::from), level: None, message }
    }

    fn listen(limit: usize) -> Listen {
        let text = r#"{"jsonrpc":"2.0","id":"x","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["file:///p"]}}}"#;
        let message = Message::read(Bytes::from_static(text.as_bytes())).unwrap();
        let crate::message::Kind::Request(id, _) = message.kind.clone() else { panic!("a request") };
        let can = Can { tools_changed: true, subscribe: true, ..Can::default() };
        Listen::new(id, Filter::read(&message).unwrap().honoured_by(can), limit)
    }

    fn next(l: &mut Listen) -> Option<String> {
        match l.poll_message(Waker::noop()) {
            Poll::Ready(Some(e)) => Some(String::from_utf8(e.to_vec()).unwrap()),
            Poll::Ready(None) => Some("end".into()),
            Poll::Pending => None,
        }
    }

    #[test]
    fn acknowledges_first_and_sends_only_what_was_honoured() {
        let mut l = listen(10_000);
        l.handle_notice(&notice(Method::PromptsChanged, None));
        l.handle_notice(&notice(Method::ToolsChanged, None));
        l.handle_notice(&notice(Method::ResourceUpdated, Some("file:///p/a")));
        l.handle_notice(&notice(Method::ResourceUpdated, Some("file:///private")));
        let ack = next(&mut l).unwrap();
        assert!(ack.contains(r#""notifications":{"toolsListChanged":true,"resourceSubscriptions":["file:///p"]}"#), "{ack}");
        assert!(ack.contains(r#""io.modelcontextprotocol/subscriptionId":"x""#));
        assert!(next(&mut l).unwrap().contains("tools/list_changed"));
        assert!(next(&mut l).unwrap().contains("resources/updated"));
        assert_eq!(next(&mut l), None);
        l.finish();
        assert!(next(&mut l).unwrap().contains(r#""id":"x","result""#));
        assert_eq!(next(&mut l).unwrap(), "end");
    }

    #[test]
    fn a_slow_reader_loses_its_stream() {
        let mut l = listen(500);
        for _ in 0..10 {
            l.handle_notice(&notice(Method::ToolsChanged, None));
        }
        assert_eq!(next(&mut l).unwrap(), "end");
    }
}
