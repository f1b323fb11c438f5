//! The clients of both eras, and all that may go wrong on their side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use landbridge_proto::call::{Call, Client as Who, Principal};
use landbridge_proto::front::session::{Limits, Reader, Session, Transport};
use landbridge_proto::message::{Kind as MessageKind, Message, Params};
use landbridge_proto::sse::EventId;
use landbridge_proto::version::{Era, Revision};
use serde_json::Value;

use super::gate::can;
use super::ledger::{Exchange, PRINCIPALS, mark, question_in};
use super::note;
use super::world::World;
use crate::events;

const SESSION: Limits = Limits { event_bytes: 4_000, keep: Duration::from_secs(200), streams: 5 };

pub(super) struct Client {
    pub(super) who: usize,
    wire: Arc<Who>,
    /// The era of the server it uses.
    pub(super) server: Era,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Session(Box<Seat>),
    /// What it was asked, and may send again.
    Stateless(Vec<Held>),
}

/// A client with a session.
pub(super) struct Seat {
    pub(super) session: Session,
    streams: Vec<Stream>,
    /// The stream of each exchange that has one.
    rides: BTreeMap<u32, u32>,
    /// Questions on its screen: the ids, and which they are.
    asked: Vec<(u64, u32)>,
    /// Those it need not answer any more.
    late: Vec<(u64, u32)>,
    gone: bool,
}

/// A stream as its client has it.
struct Stream {
    id: u32,
    reader: Option<Reader>,
    last: Option<EventId>,
    /// It missed something for good.
    lost: bool,
}

/// An InputRequiredResult, at its client.
#[derive(Clone)]
pub(super) struct Held {
    n: u32,
    method: String,
    state: Option<String>,
    questions: Vec<(String, u32)>,
}

impl Seat {
    /// A session is within its bounds.
    pub(super) fn check(&self) {
        let shown = format!("{:?}", self.session);
        let digits: String = shown.split("ring_bytes: ").nth(1).expect("it is shown").chars().take_while(char::is_ascii_digit).collect();
        assert!(digits.parse::<usize>().expect("a number") <= SESSION.event_bytes);
        assert!(self.gone || self.session.calls().count() <= self.rides.len() + 50);
    }
}

impl World {
    pub(super) fn new_client(&mut self) {
        let who = self.dice.below(PRINCIPALS.len());
        let server = if self.crowd || self.dice.chance(70) { Era::Handshake } else { Era::Stateless };
        let all = [Revision::V2024_11_05, Revision::V2025_03_26, Revision::V2025_06_18, Revision::V2025_11_25, Revision::V2025_11_25];
        let stateless = self.dice.chance(if self.crowd { 80 } else { 45 });
        let revision = if stateless { Revision::NEWEST } else { all[self.dice.below(all.len())] };
        let can = match self.dice.below(10) {
            0 => "{}",
            1 => r#"{"elicitation":{}}"#,
            _ => r#"{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}"#,
        };
        let wire = Arc::new(Who {
            revision,
            principal: Principal::named(PRINCIPALS[who]),
            transport: landbridge_proto::call::Transport::Streamable,
            info: None,
            capabilities: can.into(),
        });
        let kind = if stateless {
            Kind::Stateless(Vec::new())
        } else {
            let transport = if revision == Revision::V2024_11_05 { Transport::Sse } else { Transport::Streamable };
            let mut session = Session::new(wire.clone(), transport, SESSION, self.now);
            let reader = (transport == Transport::Sse || self.dice.chance(60)).then(|| session.open_standalone());
            let streams = vec![Stream { id: 0, reader, last: None, lost: false }];
            Kind::Session(Box::new(Seat { session, streams, rides: BTreeMap::new(), asked: Vec::new(), late: Vec::new(), gone: false }))
        };
        note(format!("client {}: {} with {revision}, {can}, at a server of {server:?}", self.clients.len(), PRINCIPALS[who]));
        self.clients.push(Client { who, wire, server, kind });
    }

    pub(super) fn is_sse(&self, client: usize) -> bool {
        matches!(&self.clients[client].kind, Kind::Session(seat) if seat.session.transport() == Transport::Sse)
    }

    // --- calls -----------------------------------------------------------------------------

    pub(super) fn new_call(&mut self, client: usize) {
        let method = match self.dice.below(10) {
            0 | 1 => "tools/list",
            2 => "prompts/get",
            3 => "resources/read",
            _ => "tools/call",
        };
        self.next_n += 1;
        let n = self.next_n;
        let exchange = self.next_exchange;
        let mute = self.dice.chance(5) && !self.is_sse(client);
        let now = self.now;
        if let Kind::Session(seat) = &mut self.clients[client].kind {
            if seat.gone {
                return;
            }
            if seat.session.transport() == Transport::Sse {
                seat.rides.insert(exchange, 0);
            } else if !mute {
                let Some(reader) = seat.session.open_stream(1, now) else { return };
                let priming = seat.session.priming(reader, 500);
                let last = priming.and_then(|frame| events::read(&frame).remove(0).id).and_then(|id| EventId::parse(&id));
                seat.streams.push(Stream { id: reader.stream(), reader: Some(reader), last, lost: false });
                seat.rides.insert(exchange, reader.stream());
            }
        }
        let params = self.params(client, n, method);
        self.send(client, n, method, &params, mute);
    }

    /// The inside of a call's params, without what a retry adds.
    fn params(&mut self, client: usize, n: u32, method: &str) -> String {
        let own = mark(Some(self.clients[client].who));
        let name = if method == "resources/read" { r#""uri":"x://y""# } else { r#""name":"t""# };
        let x = if self.dice.chance(50) { format!(r#"{{"n":{n},"m":"{own}"}}"#) } else { format!(r#"{{ "m": "{own}", "n":{n} }}"#) };
        if self.dice.chance(50) { format!(r#"{name},"x":{x}"#) } else { format!(r#""x":{x},{name}"#) }
    }

    fn send(&mut self, client: usize, n: u32, method: &str, params: &str, mute: bool) {
        let exchange = self.next_exchange;
        self.next_exchange += 1;
        let token = if self.dice.chance(50) { format!(r#","_meta":{{"progressToken":"p{exchange}"}}"#) } else { String::new() };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{exchange},"method":"{method}","params":{{{params}{token}}}}}"#);
        note(format!("client {client} ▶ {text}"));
        let message = Message::read(text.into()).expect("a message");
        let MessageKind::Request(id, method) = message.kind.clone() else { unreachable!() };
        let params = Params::read(&message).expect("params");
        let log_level = self.log_level(client);
        let call = Call { id, method, message, params, client: self.clients[client].wire.clone(), log_level };
        self.ledger.exchanges.insert(exchange, Exchange { client, n, ended: false, read: false, gone: false, progress: None });
        self.arrive(exchange, call, mute);
    }

    /// A message goes to the client of an exchange.
    pub(super) fn deliver(&mut self, exchange: u32, message: &[u8], last: bool) {
        if last {
            self.ledger.ended(exchange);
        }
        let client = self.ledger.exchanges[&exchange].client;
        let text = String::from_utf8(message.to_vec()).expect("text");
        self.ledger.only_for(self.clients[client].who, &text);
        let now = self.now;
        if let Kind::Session(seat) = &mut self.clients[client].kind
            && let Some(stream) = seat.rides.get(&exchange)
        {
            return seat.session.append(*stream, message, last, now);
        }
        self.gets(client, &text);
    }

    /// A client reads a message.
    fn gets(&mut self, client: usize, text: &str) {
        note(format!("client {client} ◀ {text}"));
        let who = self.clients[client].who;
        self.ledger.only_for(who, text);
        let message: Value = serde_json::from_str(text).expect("JSON");
        match (message.get("method").and_then(Value::as_str), message.get("id")) {
            (Some("notifications/cancelled"), _) => {
                let id = message["params"]["requestId"].as_u64().expect("an id");
                let Kind::Session(seat) = &mut self.clients[client].kind else { panic!("a stateless client is told of {text}") };
                if let Some(at) = seat.asked.iter().position(|(i, _)| *i == id) {
                    let (id, n) = seat.asked.remove(at);
                    seat.late.push((id, n));
                    assert!(!self.ledger.is_open(n), "client {client} is told that question {n} is over, and it is not");
                }
            }
            (Some(_), Some(id)) => {
                let n = question_in(text).expect("a question");
                assert!(can(&self.clients[client].wire, text), "client {client} did not declare that it can be asked {text}");
                let Kind::Session(seat) = &mut self.clients[client].kind else { panic!("a stateless client is asked {text}") };
                seat.asked.push((id.as_u64().expect("an id of ours"), n));
                self.ledger.shown(n, client, true, text);
            }
            (Some("notifications/progress"), None) => {
                let token = message["params"]["progressToken"].as_str().and_then(|t| t.strip_prefix('p'));
                let exchange = token.and_then(|t| t.parse().ok()).expect("a token of the client");
                self.ledger.progress(exchange, client, message["params"]["progress"].as_u64().expect("a number"));
            }
            (Some("notifications/message"), None) => {}
            (Some(other), None) => panic!("nobody said {other}"),
            (None, id) => {
                let exchange = id.and_then(Value::as_u64).expect("an id of the client") as u32;
                assert_eq!(self.ledger.exchanges[&exchange].client, client);
                self.ledger.read(exchange);
                let n = self.ledger.exchanges[&exchange].n;
                if let Some(said) = text.split_once("\"r").and_then(|(_, t)| t.split_once(" m-")).and_then(|(n, _)| n.parse::<u32>().ok()) {
                    assert_eq!(said, n, "the result of another call");
                }
                if message["result"]["resultType"] == "input_required" {
                    self.is_asked(client, n, &message["result"], text);
                }
            }
        }
    }

    fn is_asked(&mut self, client: usize, n: u32, result: &Value, text: &str) {
        let state = result.get("requestState").and_then(Value::as_str).map(str::to_owned);
        let requests = result["inputRequests"].as_object().expect("questions");
        let questions: Vec<(String, u32)> =
            requests.iter().map(|(key, q)| (key.clone(), question_in(&q.to_string()).expect("a question"))).collect();
        questions.iter().for_each(|(_, n)| self.ledger.shown(*n, client, false, text));
        let known = state.as_ref().and_then(|s| self.ledger.states.get(s)).map(|s| s.method.clone());
        let method = known.unwrap_or_else(|| "tools/call".into());
        let Kind::Stateless(held) = &mut self.clients[client].kind else { panic!("a session is answered {result}") };
        held.push(Held { n, method, state, questions });
    }

    pub(super) fn client_cancels(&mut self, client: usize) {
        let open = self.ledger.exchanges.iter().filter(|(_, e)| e.client == client && !e.ended && !e.gone).map(|(n, _)| *n);
        let open: Vec<u32> = open.collect();
        let Some(&exchange) = self.dice.pick(&open) else { return };
        note(format!("client {client} withdraws {exchange}"));
        self.ledger.counts.cancelled += 1;
        match &mut self.clients[client].kind {
            Kind::Stateless(_) => self.leave(exchange),
            Kind::Session(seat) => {
                if let Some(tag) = seat.session.withdraw_call(exchange.to_string().as_bytes()) {
                    self.abort(tag);
                }
            }
        }
    }

    // --- streams -----------------------------------------------------------------------------

    pub(super) fn client_reads(&mut self, client: usize) {
        let mut got = Vec::new();
        let Kind::Session(seat) = &mut self.clients[client].kind else { return };
        for stream in &mut seat.streams {
            let Some(reader) = stream.reader else { continue };
            loop {
                match seat.session.poll_event(reader, Waker::noop()) {
                    Poll::Pending => break,
                    Poll::Ready(None) => {
                        stream.reader = None;
                        stream.lost = true; // unless it has read all
                        break;
                    }
                    Poll::Ready(Some(frame)) => {
                        for event in events::read(&frame) {
                            if let Some(id) = event.id.as_deref().and_then(EventId::parse) {
                                assert_eq!(id.stream, stream.id, "an event of another stream");
                                assert!(stream.last.is_none_or(|last| last.seq < id.seq), "an event twice");
                                stream.last = Some(id);
                            }
                            got.extend(event.data.filter(|data| !data.is_empty()));
                        }
                    }
                }
            }
        }
        let lost = seat.streams.iter().filter(|s| s.id != 0 && s.lost).count();
        got.iter().for_each(|text| self.gets(client, text));
        if lost > 0 {
            self.forget_streams(client);
        }
    }

    /// Streams that are over, or gone for good, take with them what was not read.
    fn forget_streams(&mut self, client: usize) {
        let Kind::Session(seat) = &mut self.clients[client].kind else { return };
        let lost: Vec<u32> = seat.streams.iter().filter(|s| s.id != 0 && s.lost).map(|s| s.id).collect();
        seat.streams.retain(|s| s.id == 0 || !s.lost);
        for (exchange, _) in seat.rides.iter().filter(|(_, stream)| lost.contains(stream)) {
            let e = self.ledger.exchanges.get_mut(exchange).expect("an exchange");
            if !e.read && !e.gone {
                e.gone = true;
                self.ledger.counts.streams_lost += 1;
            }
        }
    }

    pub(super) fn client_comes_and_goes(&mut self, client: usize) {
        let (now, roll) = (self.now, self.dice.below(100));
        let Kind::Session(seat) = &mut self.clients[client].kind else { return };
        if seat.gone {
            return;
        }
        let sse = seat.session.transport() == Transport::Sse;
        if roll < 6 || (sse && roll < 15) {
            return self.client_ends(client);
        }
        if sse {
            return;
        }
        let at = self.dice.below(seat.streams.len());
        let stream = &mut seat.streams[at];
        match (stream.reader.take(), stream.last) {
            (Some(reader), _) => {
                note(format!("client {client} loses its stream {}", stream.id));
                seat.session.close_reader(reader, now);
                return;
            }
            (None, Some(last)) => match seat.session.resume(last) {
                Some(reader) => {
                    note(format!("client {client} is back on its stream {} behind {}", stream.id, last.seq));
                    self.ledger.counts.streams_resumed += 1;
                    stream.reader = Some(reader);
                }
                None => {
                    stream.lost = true;
                    stream.last = None;
                }
            },
            (None, None) if stream.id == 0 => stream.reader = Some(seat.session.open_standalone()),
            (None, None) => stream.lost = true,
        }
        self.forget_streams(client);
    }

    /// A session ends, and with it its calls and its own server.
    pub(super) fn client_ends(&mut self, client: usize) {
        let Kind::Session(seat) = &mut self.clients[client].kind else { return };
        if std::mem::replace(&mut seat.gone, true) {
            return;
        }
        note(format!("the session of client {client} ends"));
        if self.calm {
            assert_eq!(seat.session.calls().count(), 0, "calls of client {client}");
            let reading = |exchange: &u32| {
                let stream = seat.rides.get(exchange).and_then(|stream| seat.streams.iter().find(|s| s.id == *stream));
                stream.is_some_and(|s| s.reader.is_some())
            };
            for (n, e) in self.ledger.exchanges.iter().filter(|(_, e)| e.client == client && !e.gone) {
                assert!(e.read || !reading(n), "client {client} waits for the answer to {n}");
            }
            let own = self.pipes.iter().any(|p| p.owner == Some(client) && p.link.closed().is_none());
            let shown = format!("{:?}", seat.session);
            assert!(own || shown.contains("asks: []"), "questions of client {client} stay open: {shown}");
        }
        seat.session.close();
        let calls: Vec<_> = seat.session.calls().collect();
        calls.into_iter().for_each(|tag| self.abort(tag));
        self.ledger.exchanges.values_mut().filter(|e| e.client == client && !e.read).for_each(|e| e.gone = true);
        for pipe in 0..self.pipes.len() {
            if self.pipes[pipe].owner == Some(client) {
                self.close(pipe);
            }
        }
    }

    // --- answers -----------------------------------------------------------------------------

    pub(super) fn client_answers(&mut self, client: usize) {
        match &self.clients[client].kind {
            Kind::Session(_) => self.session_answers(client),
            Kind::Stateless(_) => self.client_retries(client),
        }
    }

    /// The words of an answer to question `n`, never the same twice.
    fn words(&mut self, client: usize, n: u32, action: &str) -> String {
        self.next_word += 1;
        let (own, word) = (mark(Some(self.clients[client].who)), self.next_word);
        format!(r##"{{"action":"{action}","content":{{"q":"#{n}#","m":"{own}", "w":{word}.50}}}}"##)
    }

    fn session_answers(&mut self, client: usize) {
        let roll = if self.calm { 0 } else { self.dice.below(100) };
        let Kind::Session(seat) = &mut self.clients[client].kind else { return };
        if seat.gone {
            return;
        }
        if let Some(&(id, n)) = self.dice.pick(&seat.late).filter(|_| roll > 80) {
            let words = self.words(client, n, "accept");
            note(format!("client {client} answers question {n} too late"));
            self.ledger.counts.late_answers += 1;
            assert!(!self.answered(client, id, n, Ok(&words)), "a question that was withdrawn is answered");
            return;
        }
        if seat.asked.is_empty() {
            return;
        }
        let at = self.dice.below(seat.asked.len());
        let (id, n) = seat.asked.remove(at);
        let words = self.words(client, n, "accept");
        match roll {
            0..70 => {
                self.answered(client, id, n, Ok(&words));
            }
            70..80 => {
                let error = format!(r#"{{"code":-1,"message":"no {words}"}}"#).replace(&words, "thanks");
                self.answered(client, id, n, Err(&error));
            }
            80..90 => {
                note(format!("client {client} answers question {n} twice"));
                self.answered(client, id, n, Ok(&words));
                let other = self.words(client, n, "decline");
                assert!(!self.answered(client, id, n, Ok(&other)), "question {n} is answered twice");
            }
            _ => note(format!("client {client} never answers question {n}")),
        }
    }

    fn client_retries(&mut self, client: usize) {
        let roll = if self.calm { 0 } else { self.dice.below(100) };
        let Kind::Stateless(held) = &mut self.clients[client].kind else { return };
        if held.is_empty() {
            return;
        }
        let at = self.dice.below(held.len());
        let keep = !self.calm && self.dice.chance(40);
        let mut it = if keep { held[at].clone() } else { held.remove(at) };
        let mut from = client;
        let mut action = "accept";
        let mut times = 1;
        let mut drop_one = false;
        match roll {
            0..60 => {}
            60..70 => times = 2,
            70..80 => drop_one = !it.questions.is_empty(),
            80..84 => it.state = it.state.map(|s| format!("{s}A")),
            84..88 => {
                it.state = it.state.map(|s| {
                    let at = self.dice.below(s.len());
                    let other = if s.as_bytes()[at] == b'A' { "B" } else { "A" };
                    s.chars().enumerate().map(|(n, c)| if n == at { other.into() } else { c.to_string() }).collect()
                });
            }
            88..93 => from = self.dice.below(self.clients.len()),
            93..95 => it.n += 1,
            95..97 => it.method = "prompts/get".into(),
            _ => action = "decline",
        }
        if self.clients[from].server != self.clients[client].server || matches!(self.clients[from].kind, Kind::Session(_)) {
            from = client;
        }
        if self.clients[client].server == Era::Stateless && (roll >= 80 || from != client) {
            return; // that server would have to see to it itself
        }
        for _ in 0..times {
            let mut answers: Vec<String> = Vec::new();
            for (key, n) in &it.questions {
                answers.push(format!("\"{key}\":{}", self.words(from, *n, action)));
            }
            if drop_one {
                answers.pop();
            }
            if self.dice.chance(30) {
                answers.reverse();
            }
            let mut params = self.params(client, it.n, &it.method);
            let state = it.state.as_ref().map_or(String::new(), |s| format!(r#","requestState":"{s}""#));
            params += &format!(r#","inputResponses":{{{}}}{state}"#, answers.join(","));
            note(format!("client {from} sends call {} again", it.n));
            self.send(from, it.n, &it.method, &params, false);
        }
    }
}
