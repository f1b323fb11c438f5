//! Meeting a server over HTTP: which era does it speak, and which transport?
//!
//! ```text
//!   auto:  Discovering ──DiscoverResult──▶ Met (stateless)
//!            │ -32022 naming 2026-07-28 ──▶ asked once more
//!            │ -32020, -32021, or nothing but revisions we do not know ──▶ Failed: it is modern, and we
//!            │                                                              are not understood
//!            │ any other answer ──▶ Initializing
//!          Initializing ──InitializeResult──▶ Met (handshake, Streamable HTTP)
//!            │ -32022 ──▶ Discovering once more
//!            │ 4xx without an answer we can read, or 2xx without one ──▶ Pipe: HTTP+SSE
//!            └ an error it means ──▶ Failed
//! ```
//!
//! Whoever it was that refused us (401, 403), failed (5xx) or did not answer says nothing of what the
//! server speaks (specification, basic/versioning). Over HTTP+SSE the meeting goes on as with a child:
//! see [`probe`](crate::back::probe).

use bytes::Bytes;

use crate::back::probe::{Protocol, discover_request, initialize_request, message_of, read_hello, versions};
use crate::bridge::code_of;
use crate::call::{Client, Server, object};
use crate::fault::{Fault, Kind};
use crate::message::{Kind as MessageKind, Message};
use crate::version::{Era, Revision};

/// Which of the HTTP transports may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Whichever it turns out to be.
    Any,
    /// Streamable HTTP, of any revision.
    Streamable,
    /// HTTP+SSE (2024-11-05).
    Sse,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// POST this, with the headers of that era, and say what came of it.
    Post(Bytes, Era),
    /// Open the stream of HTTP+SSE, and meet the server on it.
    Pipe,
    /// The meeting is over. A server with a handshake is to be told so (`notifications/initialized`).
    Met(Box<Server>),
    /// It will not work out.
    Failed(Fault),
}

/// What a POST came to.
#[derive(Debug)]
pub struct Posted {
    /// The HTTP status.
    pub status: u16,
    /// The first answer in the body, whatever the status; `None` where there is none.
    pub answer: Option<Message>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Discovering { again: bool },
    Initializing,
    Over,
}

/// The revisions we know among those that an error -32022 (UnsupportedProtocolVersion) names.
pub fn supported(error: Bytes) -> Vec<Revision> {
    let data = object(error).ok().and_then(|e| e.params_fields(&["data"]).ok()?[0].map(|d| e.slice(d)));
    data.map(|data| versions(&data, "supported")).unwrap_or_default()
}

/// One meeting.
#[derive(Debug)]
pub struct Approach {
    name: String,
    protocol: Protocol,
    wire: Wire,
    state: State,
    offer: Revision,
    client: Option<Client>,
    next: Option<Step>,
    /// A refused handshake has led back to `server/discover`: once is enough.
    asked_again: bool,
    /// What `initialize` was refused with, in case the other transport is no better.
    refused: Option<String>,
}

impl Approach {
    /// Begins a meeting with the server called `name`. `client` is whom it gets to know in a handshake.
    pub fn new(name: &str, protocol: Protocol, wire: Wire, client: Option<&Client>) -> Approach {
        let offer = match protocol {
            Protocol::Pinned(revision) if revision.era() == Era::Handshake => revision,
            _ => client.map_or(Revision::LAST_HANDSHAKE, |c| c.revision.min(Revision::LAST_HANDSHAKE)),
        };
        let mut approach = Approach {
            name: name.into(),
            protocol,
            wire,
            state: State::Over,
            offer,
            client: client.cloned(),
            next: None,
            asked_again: false,
            refused: None,
        };
        match (protocol, wire) {
            (Protocol::Pinned(Revision::V2026_07_28), Wire::Sse) => {
                approach.fail(Kind::Backend, "2026-07-28 is not spoken over HTTP+SSE");
            }
            (_, Wire::Sse) => approach.next = Some(Step::Pipe),
            (Protocol::Auto | Protocol::Pinned(Revision::V2026_07_28), _) => approach.discover(false),
            _ => approach.initialize(),
        }
        approach
    }

    /// What to do next; `None`: it is over, or the last step was not answered.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.next.take()
    }

    /// What `initialize` was refused with, where the meeting went on over HTTP+SSE.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// What the POST came to.
    pub fn handle_posted(&mut self, posted: Posted) {
        let Posted { status, answer } = posted;
        match status {
            401 => return self.fail(Kind::Backend, "it wants authorization (HTTP 401); give it a token in `headers`"),
            403 => return self.fail(Kind::Backend, "it refuses us (HTTP 403)"),
            408 | 425 | 429 | 500.. => return self.fail(Kind::Unreachable, &format!("it answers with HTTP {status}")),
            300..=399 => return self.fail(Kind::Backend, &format!("it redirects (HTTP {status}) to somewhere else; use that URL")),
            _ => {}
        }
        match (self.state, answer) {
            (State::Over, _) => {}
            (State::Discovering { again }, answer) => self.discovered(again, answer),
            (State::Initializing, Some(message)) => self.initialized(status, &message),
            (State::Initializing, None) => self.not_initialized(format!("HTTP {status} without a JSON-RPC answer"), status),
        }
    }

    fn discover(&mut self, again: bool) {
        self.state = State::Discovering { again };
        self.next = Some(Step::Post(discover_request(), Era::Stateless));
    }

    fn initialize(&mut self) {
        self.state = State::Initializing;
        self.next = Some(Step::Post(initialize_request(self.offer, self.client.as_ref()), Era::Handshake));
    }

    fn discovered(&mut self, again: bool, answer: Option<Message>) {
        let error = match answer.as_ref().map(|message| (message, &message.kind)) {
            Some((message, MessageKind::Response(_, Ok(at)))) => {
                let result = message.slice(*at);
                if !versions(&result, "supportedVersions").contains(&Revision::NEWEST) {
                    return self.legacy_or_fail("it does not serve 2026-07-28");
                }
                return match Server::read(Revision::NEWEST, result, &self.name) {
                    Ok(server) => self.finish(Step::Met(Box::new(server))),
                    Err(why) => self.fail(Kind::Backend, &format!("its answer to server/discover cannot be read: {why}")),
                };
            }
            Some((message, MessageKind::Response(_, Err(at)))) => message.slice(*at),
            _ => return self.legacy_or_fail("it does not answer server/discover"),
        };
        match code_of(&error) {
            Some(-32022) => {
                let supported = supported(error);
                if supported.contains(&Revision::NEWEST) && !again {
                    return self.discover(true);
                }
                // None that we know, and none of the handshake: it is newer than we are.
                if supported.iter().all(|r| r.era() == Era::Stateless) {
                    return self.fail(Kind::Backend, "it serves no protocol version that we know");
                }
                self.legacy_or_fail("it does not serve 2026-07-28");
            }
            // Only 2026-07-28 has these, so a handshake would not help.
            Some(-32020 | -32021) => {
                let said = message_of(error);
                self.fail(Kind::Backend, &format!("it refuses server/discover, though it speaks 2026-07-28: {said}"));
            }
            _ => self.legacy_or_fail("it refuses server/discover"),
        }
    }

    fn legacy_or_fail(&mut self, why: &str) {
        match self.protocol {
            _ if self.asked_again => self.fail(Kind::Backend, &format!("{why}, and refused a handshake")),
            Protocol::Pinned(_) => self.fail(Kind::Backend, &format!("{why}, though it is pinned to 2026-07-28")),
            _ => self.initialize(),
        }
    }

    fn initialized(&mut self, status: u16, message: &Message) {
        match &message.kind {
            MessageKind::Response(_, Ok(at)) => match read_hello(message.slice(*at), &self.name) {
                Ok(server) => self.finish(Step::Met(Box::new(server))),
                Err(why) => self.fail(Kind::Backend, &why),
            },
            MessageKind::Response(_, Err(at)) => {
                let error = message.slice(*at);
                if code_of(&error) == Some(-32022) && self.protocol == Protocol::Auto && !self.asked_again {
                    self.asked_again = true;
                    return self.discover(false);
                }
                self.not_initialized(message_of(error), status);
            }
            _ => self.not_initialized("no answer to it came".into(), status),
        }
    }

    /// A server of HTTP+SSE knows no POST at the address of its stream. What it says to one is anything
    /// from 400 to 405; some accept it, and answer with nothing.
    fn not_initialized(&mut self, why: String, status: u16) {
        let told = format!("it refused initialize: {why}");
        if self.wire == Wire::Any && status != 200 {
            self.refused = Some(told);
            return self.finish(Step::Pipe);
        }
        self.fail(Kind::Backend, &told);
    }

    fn fail(&mut self, kind: Kind, why: &str) {
        let told = format!("the server `{}` did not come up: {why}", self.name);
        self.finish(Step::Failed(Fault::backend(&self.name, kind).tell(told)));
    }

    fn finish(&mut self, step: Step) {
        self.state = State::Over;
        self.next = Some(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: &str = r#"{"jsonrpc":"2.0","id":"landbridge-discover","result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}"#;
    const OLD: &str = r#"{"jsonrpc":"2.0","id":"landbridge-discover","result":{"supportedVersions":["2025-11-25"],"capabilities":{}}}"#;
    const HELLO: &str = r#"{"jsonrpc":"2.0","id":"landbridge-initialize","result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;

    /// A meeting in which the server answers so; what we did, in order.
    fn meet(protocol: Protocol, wire: Wire, answers: &[(u16, &str)]) -> Vec<String> {
        let mut approach = Approach::new("s", protocol, wire, None);
        let mut answers = answers.iter();
        let mut done = Vec::new();
        while let Some(step) = approach.poll_step() {
            done.push(match step {
                Step::Post(body, era) => {
                    let sent = Message::read(body).unwrap();
                    let MessageKind::Request(_, method) = sent.kind else { panic!("a request") };
                    assert_eq!(era == Era::Stateless, method.as_str() == "server/discover");
                    if let Some((status, text)) = answers.next() {
                        let answer = Message::read(Bytes::copy_from_slice(text.as_bytes())).ok();
                        approach.handle_posted(Posted { status: *status, answer });
                    }
                    method.as_str().to_owned()
                }
                Step::Pipe => "pipe".into(),
                Step::Met(server) => format!("met {}", server.revision),
                Step::Failed(fault) => fault.told,
            });
        }
        assert!(answers.next().is_none(), "an answer is left: {done:?}");
        done
    }

    fn error(code: i32, data: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":"x","error":{{"code":{code},"message":"no","data":{data}}}}}"#)
    }

    #[test]
    fn a_stateless_server_is_known_at_once() {
        assert_eq!(meet(Protocol::Auto, Wire::Any, &[(200, FOUND)]), ["server/discover", "met 2026-07-28"]);
    }

    #[test]
    fn whatever_an_old_server_says_leads_to_a_handshake() {
        for (status, body) in [
            (200, error(-32601, "{}").as_str()),
            (400, ""),
            (400, error(-32000, "{}").as_str()),
            (404, ""),
            (405, ""),
            (406, ""),
            (415, "text"),
            (202, ""),
            (200, OLD),
            (200, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#),
            (400, error(-32022, r#"{"supported":["2025-11-25"]}"#).as_str()),
        ] {
            let done = meet(Protocol::Auto, Wire::Any, &[(status, body), (200, HELLO)]);
            assert_eq!(done, ["server/discover", "initialize", "met 2025-06-18"], "{status} {body}");
        }
    }

    #[test]
    fn a_modern_refusal_is_never_answered_with_a_handshake() {
        for (body, part) in [
            (error(-32020, "{}"), "speaks 2026-07-28"),
            (error(-32021, "{}"), "speaks 2026-07-28"),
            (error(-32022, r#"{"supported":["2099-01-01"]}"#), "no protocol version"),
        ] {
            let done = meet(Protocol::Auto, Wire::Any, &[(400, &body)]);
            assert!(done.len() == 2 && done[1].contains(part), "{done:?}");
        }
        let mutual = error(-32022, r#"{"supported":["2026-07-28"]}"#);
        assert_eq!(
            meet(Protocol::Auto, Wire::Any, &[(400, &mutual), (200, FOUND)]),
            ["server/discover", "server/discover", "met 2026-07-28"]
        );
    }

    #[test]
    fn who_refuses_or_fails_says_nothing_of_the_era() {
        for (status, part) in
            [(401, "authorization"), (403, "refuses"), (500, "HTTP 500"), (503, "HTTP 503"), (429, "429"), (302, "redirects")]
        {
            let done = meet(Protocol::Auto, Wire::Any, &[(status, "")]);
            assert!(done.len() == 2 && done[1].contains(part), "{status}: {done:?}");
        }
    }

    #[test]
    fn an_sse_server_is_found_by_what_it_says_to_a_post() {
        for status in [202, 400, 404, 405] {
            let done = meet(Protocol::Auto, Wire::Any, &[(status, ""), (status, "")]);
            assert_eq!(done, ["server/discover", "initialize", "pipe"], "{status}");
        }
        assert_eq!(meet(Protocol::Auto, Wire::Sse, &[]), ["pipe"]);
        let done = meet(Protocol::Auto, Wire::Streamable, &[(404, ""), (404, "")]);
        assert!(done[2].contains("refused initialize: HTTP 404"), "{done:?}");
    }

    #[test]
    fn a_pin_is_kept() {
        assert_eq!(meet(Protocol::Legacy, Wire::Any, &[(200, HELLO)]), ["initialize", "met 2025-06-18"]);
        let done = meet(Protocol::Pinned(Revision::V2026_07_28), Wire::Any, &[(404, "")]);
        assert!(done[1].contains("pinned to 2026-07-28"), "{done:?}");
        let done = meet(Protocol::Pinned(Revision::V2026_07_28), Wire::Sse, &[]);
        assert!(done[0].contains("not spoken over HTTP+SSE"), "{done:?}");
    }

    #[test]
    fn a_refused_handshake_is_told() {
        let done = meet(Protocol::Legacy, Wire::Any, &[(200, &error(-32000, "{}"))]);
        assert!(done[1].contains("refused initialize: no"), "{done:?}");
        let done = meet(Protocol::Auto, Wire::Any, &[(404, ""), (400, &error(-32022, "{}")), (200, FOUND)]);
        assert_eq!(done, ["server/discover", "initialize", "server/discover", "met 2026-07-28"]);
    }
}
