//! A server over HTTP, as the gate has it: the meeting by POST, what carries the link, and which response
//! or stream a line of the server belongs on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use landbridge_proto::back::approach::{self, Approach, Posted, Step};
use landbridge_proto::back::endpoint;
use landbridge_proto::back::link::Key;
use landbridge_proto::back::probe::{INITIALIZED, Patience, Probe, Protocol};
use landbridge_proto::back::stateless;
use landbridge_proto::back::streamable::answer_in;
use landbridge_proto::call::{Call, Client, Level, Outcome, Reply};
use landbridge_proto::fault::Fault;
use landbridge_proto::headers::mirrored_params;
use landbridge_proto::json;
use landbridge_proto::message::{Kind, META_SUBSCRIPTION, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::sse::{Decoded, Decoder};
use landbridge_proto::version::{Era, Revision};

use super::{FaultKind, Gate, Heard, State, Told, Wire};
use crate::far::{self, Far, Out, Request, Said};
use crate::pair::LIMITS;

/// Where the server is.
const URL: &str = "http://s/mcp";

/// What is known of a server while it is met.
#[derive(Default)]
pub(super) struct Meeting {
    client: Option<Client>,
    requests: u32,
    /// The POST that waits for its answer.
    post: Option<u32>,
    session: Option<String>,
    /// The stream of HTTP+SSE, and where to POST to.
    stream: Option<(Decoder, u32)>,
    endpoint: Option<String>,
}

/// How the server says something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'s> {
    /// In a stream, which begins with it if need be.
    Event {
        id: Option<&'s str>,
        retry: Option<&'s str>,
        name: Option<&'s str>,
        data: &'s str,
    },
    Whole {
        status: u16,
        session: Option<&'s str>,
        body: &'s str,
    },
    Opens,
    Breaks,
}

impl Gate {
    // --- the meeting -----------------------------------------------------------------------------

    pub(super) fn approach(&mut self, client: Client) -> State {
        let approach = Approach::new("s", self.protocol, approach::Wire::Any, Some(&client));
        self.meeting = Meeting { client: Some(client), ..Meeting::default() };
        State::Approaching(Box::new(approach))
    }

    fn request_of_meeting(&mut self, body: Option<&Bytes>, headers: Vec<(String, String)>) -> u32 {
        self.meeting.requests += 1;
        let number = self.meeting.requests;
        let body = body.map(|line| String::from_utf8(line.to_vec()).expect("UTF-8").trim_end().to_owned());
        self.heard.push_back(Heard::Request(Request { number, body, headers }));
        number
    }

    /// A line of the meeting, where it goes on over HTTP+SSE.
    pub(super) fn post_of_meeting(&mut self, line: &Bytes) {
        let url = self.meeting.endpoint.clone().expect("it was named");
        self.request_of_meeting(Some(line), vec![("url".to_owned(), url)]);
    }

    pub(super) fn step_elsewhere(&mut self) -> bool {
        let State::Approaching(approach) = &mut self.state else { return false };
        let Some(step) = approach.poll_step() else { return false };
        match step {
            Step::Post(line, era) => {
                let headers = if era == Era::Stateless { headers_of(&line) } else { Vec::new() };
                self.meeting.post = Some(self.request_of_meeting(Some(&line), headers));
            }
            Step::Pipe => {
                self.state = State::Piping;
                self.request_of_meeting(None, Vec::new());
            }
            Step::Met(server) => {
                if server.era() == Era::Handshake {
                    self.request_of_meeting(Some(&Bytes::from_static(INITIALIZED)), Vec::new());
                }
                self.met(*server);
            }
            Step::Failed(fault) => self.state = State::Failed(fault),
        }
        true
    }

    /// The endpoint that the stream of HTTP+SSE names.
    fn named(&mut self, reference: &str) {
        let told = |why: String| {
            Fault::backend("s", FaultKind::Backend).tell(format!("the server `s` names an endpoint that cannot be used: {why}"))
        };
        match endpoint::resolve(URL, reference) {
            Ok(url) if endpoint::same_origin(URL, &url) => {
                self.meeting.endpoint = Some(url);
                let patience = Patience { probe: LIMITS.probe, handshake: LIMITS.handshake };
                let protocol = if self.protocol == Protocol::Auto { Protocol::Legacy } else { self.protocol };
                let client = self.meeting.client.clone();
                self.state = State::Meeting(Box::new(Probe::new("s", protocol, client.as_ref(), patience, self.now)));
                self.step();
            }
            Ok(url) => self.state = State::Failed(told(format!("{url} is not of the origin of {URL}"))),
            Err(why) => self.state = State::Failed(told(why)),
        }
    }

    /// The link is there.
    pub(super) fn carried_from_now_on(&mut self, revision: Revision) {
        let client = self.meeting.client.clone();
        self.far = match (self.wire, self.meeting.stream.take(), client) {
            (Wire::Pipe, ..) | (_, _, None) => None,
            (_, Some((stream, number)), Some(client)) => Some(Far::pipe(revision, client, stream, number, LIMITS.message)),
            (_, None, Some(client)) => Some(Far::new(revision, client, self.meeting.session.clone(), LIMITS.message, LIMITS.hold)),
        };
    }

    // --- what carries the link -------------------------------------------------------------------

    /// Sends a call.
    pub(crate) fn begin(&mut self, call: &Call) -> Result<Key, Fault> {
        let now = self.now;
        let State::Met(link) = &mut self.state else { unreachable!("it was met") };
        let Some(far) = self.far.as_mut().filter(|far| !far.is_pipe()) else { return link.begin(call, now) };
        let (key, line) = link.begin_at_once(call, now)?;
        if let Some(line) = line {
            far.send(key, line);
        }
        Ok(key)
    }

    /// What the link has for the server is sent; whether anything was.
    pub(super) fn carry(&mut self) -> bool {
        let (State::Met(link), Some(far)) = (&mut self.state, &mut self.far) else { return false };
        let mut moved = far.carry(link, &Waker::from(self.bell.clone()), self.now);
        far.taken.clear();
        if let Some((key, listing)) = far.looks_by()
            && let Poll::Ready(Reply::Done(outcome)) = link.poll_reply(listing, Waker::noop())
        {
            if let Outcome::Result(tools) = outcome {
                far.mirrored = mirrored(&tools);
            }
            far.looked(key);
            moved = true;
        }
        while let Some(out) = self.far.as_mut().and_then(|far| far.out.pop_front()) {
            moved = true;
            match out {
                Out::Request(request) => {
                    let (number, is_word) = (request.number, self.is_taken_at_once(&request));
                    self.heard.push_back(Heard::Request(request));
                    if is_word {
                        self.handle(number, Said::Whole { status: 202, session: None, body: "" });
                    }
                }
                Out::Dropped(line) => self.heard.push_back(Heard::Dropped(line)),
                Out::Renewed => {
                    self.forget_what_was_told();
                    self.told.push_back(Told::Renewed);
                }
                Out::Missed => self.missed = true,
            }
        }
        moved
    }

    /// Whether a case need not say what becomes of it: what is no request, and all over HTTP+SSE.
    fn is_taken_at_once(&self, request: &Request) -> bool {
        let Some(body) = &request.body else { return false };
        let is_request = Message::read(body.clone().into()).is_ok_and(|m| matches!(m.kind, Kind::Request(..)));
        !is_request || self.far.as_ref().is_some_and(Far::is_pipe)
    }

    fn handle(&mut self, number: u32, said: Said<'_>) {
        if let (State::Met(link), Some(far)) = (&mut self.state, &mut self.far) {
            far.handle(link, number, said, self.now);
        }
    }

    /// A session that has a server of its own says again what it had said to it.
    pub(crate) fn say_again(&mut self, level: Option<Level>, uris: &BTreeSet<Arc<str>>) {
        let now = self.now;
        let Some(link) = self.link() else { return };
        if let Some(level) = level {
            link.tell_first(&Method::SetLevel, &format!("\"level\":\"{}\"", level.as_str()), now);
        }
        for uri in uris {
            link.tell_first(&Method::Subscribe, &format!("\"uri\":{}", json::quote(uri)), now);
        }
    }

    // --- what the server says --------------------------------------------------------------------

    /// Its part of the meeting. What is no stateless server's is refused as it would be elsewhere.
    pub(crate) fn hear_hello(&mut self, answer: &str) {
        match (&self.state, self.wire) {
            (_, Wire::Pipe) => self.hear(format!("{answer}\n").as_bytes()),
            (State::Approaching(_), Wire::Sse) => self.say_in(None, Form::Whole { status: 404, session: None, body: "" }),
            (State::Approaching(_), _) => self.say_in(None, Form::Whole { status: 200, session: Some("s1"), body: answer }),
            _ => self.say(answer),
        }
    }

    /// It answers a GET with a stream.
    pub(crate) fn hear_stream(&mut self, number: u32) {
        match self.state {
            State::Piping => {
                self.meeting.stream = Some((Decoder::new(LIMITS.message), number));
                self.say_in(Some("get"), Form::Event { id: None, retry: None, name: Some("endpoint"), data: "/messages" });
            }
            _ => self.handle(number, Said::Stream),
        }
    }

    pub(super) fn hear_end_of_stream(&mut self) {
        let stream = self.far.as_ref().filter(|far| far.is_pipe()).and_then(Far::standalone);
        match stream {
            Some(stream) => self.handle(stream, Said::Breaks),
            None => self.unsayable = true,
        }
    }

    /// It says a message, there where it belongs.
    pub(crate) fn say(&mut self, text: &str) {
        let event = Form::Event { id: None, retry: None, name: None, data: text };
        let plain = Form::Whole { status: 200, session: None, body: text };
        let Some(far) = &self.far else {
            let on_stream = self.meeting.stream.is_some();
            return if on_stream { self.say_in(Some("get"), event) } else { self.say_in(None, plain) };
        };
        let message = Message::read(Bytes::copy_from_slice(text.as_bytes())).ok();
        let kind = message.as_ref().map(|message| &message.kind);
        let number = |at: Option<json::Span>| at.and_then(|at| message.as_ref()?.text(at).parse::<u64>().ok());
        let field = |key: &str| message.as_ref().and_then(|m| number(m.params_fields(&[key]).ok()?[0]));
        let of_listen = || {
            let message = message.as_ref()?;
            let [meta] = message.params_fields(&["_meta"]).ok()?;
            number(message.fields_at(meta?, &[META_SUBSCRIPTION]).ok()?[0])
        };
        let call = |id: Option<u64>| id.and_then(|id| far.calls().find(|(call, ..)| *call == id));
        let has_get = far.standalone().is_some();
        match kind {
            _ if far.is_pipe() => self.say_in(Some("get"), event),
            Some(Kind::Response(..)) if text.contains("\"landbridge-") => self.say_in(None, plain),
            Some(Kind::Response(..)) => match call(number(message.as_ref().and_then(|m| m.id))) {
                // As JSON and as an event in turns, where nothing has been said yet and both come to the same.
                Some((id, request, streams)) => {
                    let form = if streams || request % 2 == 0 || text.len() > LIMITS.message { event } else { plain };
                    self.say_in(Some(&id.to_string()), form);
                }
                // Its connection is closed, or nobody asked.
                None if has_get => self.say_in(Some("get"), event),
                None => self.unsayable = true,
            },
            Some(Kind::Notification(Method::Progress)) if call(field("progressToken")).is_some() => {
                self.say_in(field("progressToken").map(|id| id.to_string()).as_deref(), event);
            }
            _ if has_get => self.say_in(Some("get"), event),
            _ => {
                let all: Vec<u64> = far.calls().map(|(id, ..)| id).collect();
                let only = if let [id] = all[..] { Some(id) } else { None };
                match of_listen().or(field("requestId")).filter(|id| all.contains(id)).or(only) {
                    Some(id) => self.say_in(Some(&id.to_string()), event),
                    None => self.unsayable = true,
                }
            }
        }
    }

    /// It does so with the request of that call, with the GET, or with the one request that waits.
    pub(crate) fn say_in(&mut self, target: Option<&str>, form: Form<'_>) {
        let Some(far) = &self.far else { return self.say_in_meeting(form) };
        let only = || match far.calls().collect::<Vec<_>>()[..] {
            [(_, request, _)] => Some(request),
            _ => None,
        };
        let number = match target {
            Some("get") => far.standalone(),
            Some(id) => id.parse().ok().and_then(|id| far.request_of(id)),
            None => far.renewal().or_else(only),
        };
        let Some(number) = number else { return self.unsayable = true };
        let is_open = far.is_stream(number);
        match form {
            Form::Event { id, retry, name, data } => {
                if !is_open {
                    self.handle(number, Said::Stream);
                }
                self.handle(number, Said::Bytes(far::event(id, retry, name, data).as_bytes()));
            }
            Form::Whole { status, session, body } => self.handle(number, Said::Whole { status, session, body }),
            Form::Opens => self.handle(number, Said::Stream),
            Form::Breaks => self.handle(number, Said::Breaks),
        }
    }

    fn say_in_meeting(&mut self, form: Form<'_>) {
        match (&mut self.state, form) {
            (State::Approaching(approach), Form::Whole { status, session, body }) if self.meeting.post.take().is_some() => {
                self.meeting.session = session.map(str::to_owned);
                approach.handle_posted(Posted { status, answer: answer_in(&Bytes::copy_from_slice(body.as_bytes())) });
            }
            (State::Approaching(_) | State::Piping, Form::Breaks) => {
                let fault = Fault::backend("s", FaultKind::Unreachable).tell("the server `s` cannot be reached: the connection broke");
                self.state = State::Failed(fault);
            }
            (State::Piping, Form::Opens) => self.meeting.stream = Some((Decoder::new(LIMITS.message), self.meeting.requests)),
            (State::Piping, Form::Whole { status, .. }) => {
                let State::Piping = self.state else { return };
                let told = format!("the server `s` answers with HTTP {status} and no MCP message");
                self.state = State::Failed(Fault::backend("s", FaultKind::Backend).tell(told));
            }
            (State::Piping | State::Meeting(_), Form::Event { id, retry, name, data }) => {
                let number = self.meeting.requests;
                let (stream, _) = self.meeting.stream.get_or_insert_with(|| (Decoder::new(LIMITS.message), number));
                stream.feed(&far::event(id, retry, name, data).into());
                while let Some(decoded) = self.meeting.stream.as_mut().and_then(|(stream, _)| stream.next_event()) {
                    match (&mut self.state, decoded) {
                        (State::Piping, Decoded::Event(event)) if event.name.as_deref() == Some(b"endpoint") => {
                            self.named(&String::from_utf8_lossy(&event.data));
                        }
                        (State::Meeting(_), Decoded::Event(event)) if event.is_message() => {
                            self.hear(&[&json::on_one_line(&event.data)[..], b"\n"].concat());
                        }
                        _ => {}
                    }
                }
            }
            _ => self.unsayable = true,
        }
    }
}

fn headers_of(line: &Bytes) -> Vec<(String, String)> {
    let message = Message::read(line.clone()).expect("a request");
    let params = Params::read(&message).expect("params");
    stateless::headers(&message, &params, &[]).into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// The parameters that a listing of tools says are mirrored.
fn mirrored(tools: &Bytes) -> std::collections::BTreeMap<String, Vec<landbridge_proto::headers::MirroredParam>> {
    let listed: serde_json::Value = serde_json::from_slice(tools).expect("JSON");
    let tools = listed["tools"].as_array().into_iter().flatten();
    let named = tools.filter_map(|tool| Some((tool["name"].as_str()?.to_owned(), mirrored_params(&tool["inputSchema"]).ok()?)));
    named.collect()
}
