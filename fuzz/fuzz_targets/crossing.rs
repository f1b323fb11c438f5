//! A call between the eras, whatever its server says and its client answers: each exchange ends
//! once, each question is answered once, each state works once.
//!
//! Odd: a server's words come out of a link, so they are JSON, and none comes behind its last.

#![no_main]

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::bridge::crossing::{Crossing, Patience, Step, TICKETS, Tasks};
use landbridge_proto::bridge::parked::{Limits, Parked, Question, Responses, Retry, digest, is_ours};
use landbridge_proto::call::{Ask, Call, Client, Outcome, Principal, Reply, Server};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::message::{Kind, Message, Params};
use landbridge_proto::sealed::Keys;
use landbridge_proto::version::Revision;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    Ask {
        method: u8,
        params: &'a str,
        named: bool,
    },
    Withdraw {
        ask: u8,
    },
    Note,
    Result(&'a str),
    InputRequired {
        questions: u8,
        methods: u8,
        state: Option<&'a str>,
        more: &'a str,
    },
    Error(&'a str),
    UrlsRequired {
        urls: u8,
        more: &'a str,
    },
    Fault {
        kind: u8,
    },
    /// Nothing more is said for now; this many of the open questions were answered elsewhere.
    Quiet {
        gone: u8,
    },
    Answer {
        ask: u8,
        ok: bool,
        body: &'a str,
    },
    Abort,
    /// Its client cannot be asked after all.
    Unaskable,
    Retry {
        state: u8,
        tamper: u8,
        drop_one: bool,
        body: &'a str,
    },
    Wait {
        seconds: u8,
    },
    Drain,
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    stateless: bool,
    capabilities: u8,
    method: u8,
    params: &'a str,
    upfront: Option<&'a str>,
    ops: Vec<Op<'a>>,
}

const PATIENCE: Patience = Patience { answer: Duration::from_secs(30), task: Duration::from_secs(30) };
const KEEP: Duration = Duration::from_secs(60);
const METHODS: [&str; 4] = ["elicitation/create", "sampling/createMessage", "roots/list", "x"];

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

/// The text if it is JSON, and otherwise something that is.
fn json_or<'t>(text: &'t str, other: &'t str) -> &'t str {
    if is_json(text) { text } else { other }
}

fn call(who: &str, method: &str, params: &str, client: &Client) -> Option<Call> {
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
    let message = Message::read(text.into()).ok()?;
    let Kind::Request(id, method) = message.kind.clone() else { return None };
    let params = Params::read(&message).ok()?;
    let client = Client {
        revision: client.revision,
        principal: Principal::named(who),
        transport: client.transport,
        info: None,
        capabilities: client.capabilities.clone(),
    };
    Some(Call { id, method, message, params, client: Arc::new(client), log_level: None })
}

/// What is parked: a crossing, or nothing.
type Held = Option<Box<Crossing>>;

struct World {
    now: Instant,
    keys: Keys,
    parked: Parked<Held>,
    next_park: u128,
    /// The crossing, unless it is parked or over.
    crossing: Option<Box<Crossing>>,
    server: Arc<Server>,
    /// Whether the server works on the call.
    called: bool,
    /// Tickets of a handshake server's questions that it waits for.
    open: BTreeSet<u64>,
    answered: BTreeSet<u64>,
    /// Tickets a handshake client was shown and did not answer.
    shown: Vec<u64>,
    withdrawn: BTreeSet<u64>,
    next_ticket: u64,
    /// Exchanges that have begun, and ends that they were given.
    begun: usize,
    ended: usize,
    states: Vec<(String, Vec<Question>, bool)>,
}

impl World {
    /// Does what there is to do.
    fn pump(&mut self) {
        for round in 0.. {
            assert!(round < 1_000, "it never comes to rest");
            let Some(crossing) = &mut self.crossing else { return };
            let Some(step) = crossing.poll_step(self.now) else { return };
            match step {
                Step::Reply(Reply::Done(_)) => {
                    self.ended += 1;
                    assert!(crossing.poll_step(self.now).is_none(), "a word behind the last");
                    assert!(!crossing.is_asking() && self.shown.is_empty(), "questions stay on the screen");
                    self.crossing = None;
                }
                Step::Reply(Reply::Ask(ask)) => {
                    assert!(crossing.waits_for(ask.ticket) && !self.shown.contains(&ask.ticket));
                    self.shown.push(ask.ticket);
                }
                Step::Reply(Reply::Withdrawn(ticket)) => {
                    assert!(self.withdrawn.insert(ticket), "withdrawn twice");
                    let at = self.shown.iter().position(|t| *t == ticket).expect("it was shown, and not answered");
                    self.shown.remove(at);
                }
                Step::Reply(Reply::Note(_)) => {}
                Step::Answer(ticket, answer) => {
                    assert!(self.answered.insert(ticket), "answered twice");
                    self.open.remove(&ticket);
                    if let Ok(answer) = answer {
                        assert!(is_json(std::str::from_utf8(&answer).expect("text")));
                    }
                }
                Step::Call(call) => {
                    assert!(!self.called, "called while it is called");
                    Message::read(call.message.bytes.clone()).expect("a message");
                    self.called = true;
                }
                Step::Own(..) | Step::Fetch(_) | Step::Tell(..) => panic!("this server makes no tasks"),
                Step::Wait(due) => {
                    assert!(due > self.now);
                    return;
                }
                Step::Park(questions) => {
                    assert!(self.called && questions.iter().all(|q| self.open.contains(&q.ticket)));
                    self.park(questions, false);
                }
                Step::ParkUntilVisited(questions) => {
                    assert!(!self.called);
                    self.park(questions, true);
                }
            }
        }
    }

    fn park(&mut self, questions: Vec<Question>, again: bool) {
        let keys: BTreeSet<&str> = questions.iter().map(|q| q.asked.key.as_str()).collect();
        assert_eq!(keys.len(), questions.len(), "two questions under one key");
        let crossing = self.crossing.take().expect("it parks");
        let call = crossing.call().clone();
        let held = (!again).then_some(crossing);
        self.next_park += 1;
        self.ended += 1;
        match self.parked.park(&self.keys, self.next_park, held, (&call, digest(&call), &self.server, "srv"), questions.clone(), self.now) {
            Ok(result) => {
                let text = std::str::from_utf8(&result).expect("text");
                assert!(is_json(text), "{text}");
                let (_, state) = text.rsplit_once("\"requestState\":\"").expect("a state");
                self.states.push((state.split('"').next().expect("its end").to_owned(), questions, true));
            }
            Err(_) => self.forget(),
        }
    }

    /// The call was withdrawn from its server.
    fn forget(&mut self) {
        self.called = false;
        self.open.clear();
    }

    fn handle(&mut self, reply: Reply) {
        let last = matches!(reply, Reply::Done(_));
        if let Some(crossing) = self.crossing.as_mut().filter(|_| self.called) {
            if last {
                self.called = false;
                self.open.clear();
            }
            self.next_ticket += TICKETS;
            crossing.handle_reply(reply, self.next_ticket, self.now);
        }
        self.pump();
    }
}

fuzz_target!(|input: Input<'_>| {
    let capabilities = [
        "{}",
        r#"{"elicitation":{}}"#,
        r#"{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}"#,
        r#"{"elicitation":{"url":{}},"roots":{}}"#,
    ][usize::from(input.capabilities) % 4];
    let (client, server) = match input.stateless {
        true => (Revision::V2026_07_28, Revision::V2025_11_25),
        false => (Revision::V2025_11_25, Revision::V2026_07_28),
    };
    let client = Client {
        revision: client,
        principal: Principal::default(),
        transport: landbridge_proto::call::Transport::Streamable,
        info: None,
        capabilities: capabilities.into(),
    };
    let server = Arc::new(Server::read(server, Bytes::from_static(br#"{"capabilities":{}}"#), "s").expect("a hello"));
    let method = ["tools/call", "prompts/get", "resources/read"][usize::from(input.method) % 3];
    let upfront = input.upfront.map_or(String::new(), |given| format!(r#","inputResponses":{given}"#));
    let params = format!(r#""x":{}"#, json_or(input.params, "1"));
    let Some(first) = call("ada", method, &format!("{params}{upfront}"), &client).or_else(|| call("ada", method, &params, &client)) else {
        return;
    };
    let now = Instant::now();
    assert!(Crossing::is_needed(&first, &server));
    let mut world = World {
        now,
        keys: Keys::new([3; 32]),
        parked: Parked::new(Limits { calls: 1, of_each: None, keep: KEEP }, now),
        next_park: 0,
        crossing: Some(Box::new(Crossing::new(first, server.clone(), PATIENCE, Tasks::Follow))),
        server,
        called: true,
        open: BTreeSet::new(),
        answered: BTreeSet::new(),
        shown: Vec::new(),
        withdrawn: BTreeSet::new(),
        next_ticket: 1,
        begun: 1,
        ended: 0,
        states: Vec::new(),
    };
    for op in input.ops {
        let result = |text: String| Reply::Done(Outcome::Result(text.into()));
        match op {
            Op::Ask { method, params, named } => {
                // Only handshake servers ask in the middle of a call.
                if !input.stateless || !world.called || world.crossing.is_none() {
                    continue;
                }
                let method = METHODS[usize::from(method) % METHODS.len()];
                let meta = if named { r#""_meta":{"landbridge/key":"who"},"# } else { "" };
                let text = format!(r#"{{"jsonrpc":"2.0","id":9,"method":"{method}","params":{{{meta}"p":{}}}}}"#, json_or(params, "1"));
                let Ok(message) = Message::read(text.into()) else { continue };
                let Kind::Request(_, method) = message.kind.clone() else { continue };
                world.next_ticket += 1;
                let ticket = world.next_ticket;
                world.open.insert(ticket);
                world.handle(Reply::Ask(Ask { ticket, method, message }));
            }
            Op::Withdraw { ask } if input.stateless => {
                let open: VecDeque<u64> = world.open.iter().copied().collect();
                let Some(ticket) = open.get(usize::from(ask) % open.len().max(1)).copied() else { continue };
                world.open.remove(&ticket);
                world.handle(Reply::Withdrawn(ticket));
            }
            Op::Withdraw { .. } | Op::Note => {}
            Op::Result(text) => world.handle(result(json_or(text, "{}").into())),
            Op::InputRequired { questions, methods, state, more } => {
                let one = |n: u8| {
                    let method = METHODS[usize::from(methods.rotate_left(n.into())) % 3];
                    format!(r#""k{n}":{{"method":"{method}","params":{{"n":{n}}}}}"#)
                };
                let questions: Vec<String> = (0..questions % 40).map(one).collect();
                let state = state.map_or(String::new(), |s| format!(r#","requestState":{s}"#));
                let more = if is_json(more) { format!(r#","more":{more}"#) } else { String::new() };
                let text = format!(r#"{{"resultType":"input_required","inputRequests":{{{}}}{state}{more}}}"#, questions.join(","));
                if is_json(&text) {
                    world.handle(result(text));
                }
            }
            Op::Error(text) => {
                let text = json_or(text, r#"{"code":1,"message":""}"#);
                world.handle(Reply::Done(Outcome::Error(Bytes::copy_from_slice(text.as_bytes()))));
            }
            Op::UrlsRequired { urls, more } => {
                let one = |n: u8| format!(r#"{{"mode":"url","elicitationId":"e{}","url":"https://{n}/"}}"#, n / 2);
                let urls: Vec<String> = (0..urls % 40).map(one).collect();
                let more = if is_json(more) { format!(",{more}") } else { String::new() };
                let text = format!(r#"{{"code":-32042,"message":"m","data":{{"elicitations":[{}{more}]}}}}"#, urls.join(","));
                if is_json(&text) {
                    world.handle(Reply::Done(Outcome::Error(text.into())));
                }
            }
            Op::Fault { kind } => {
                let kind = [FaultKind::Backend, FaultKind::Timeout, FaultKind::Cancelled, FaultKind::Busy][usize::from(kind) % 4];
                world.handle(Reply::Done(Outcome::Fault(Fault::backend("s", kind).tell("it failed"))));
            }
            Op::Quiet { gone } => {
                for _ in 0..gone % 4 {
                    world.open.pop_first();
                }
                for _ in 0..2 {
                    let open = world.open.clone();
                    if let Some(crossing) = &mut world.crossing {
                        crossing.handle_quiet(|ticket| open.contains(&ticket));
                    }
                    world.pump();
                }
            }
            Op::Answer { ask, ok, body } => {
                let body = json_or(body, "{}");
                let at = usize::from(ask) % world.shown.len().max(1);
                let Some(crossing) = &mut world.crossing else { continue };
                let ticket = world.shown.get(at).copied();
                let answer = if ok { Ok(body.as_bytes()) } else { Err(body.as_bytes()) };
                // To what was never asked, and twice.
                crossing.handle_answer(u64::MAX, answer);
                if let Some(ticket) = ticket {
                    assert!(crossing.waits_for(ticket));
                    crossing.handle_answer(ticket, answer);
                    // What the client has answered, it is not told about.
                    if crossing.is_asking() {
                        world.shown.remove(at);
                        crossing.handle_answer(ticket, answer);
                    }
                }
                world.pump();
            }
            Op::Unaskable => {
                if let Some(crossing) = &mut world.crossing {
                    crossing.handle_unaskable(Fault::gateway(FaultKind::Untranslatable).tell("it cannot be asked"));
                }
                world.pump();
            }
            Op::Abort => {
                if let Some(crossing) = &mut world.crossing {
                    let asks = crossing.is_asking();
                    crossing.handle_abort();
                    assert!(asks || crossing.is_withdrawn(), "nobody knows that it was withdrawn");
                }
                world.pump();
            }
            Op::Retry { state, tamper, drop_one, body } => {
                let at = usize::from(state) % world.states.len().max(1);
                let Some((state, questions, unused)) = world.states.get(at).cloned() else { continue };
                if world.crossing.is_some() {
                    continue; // another exchange is under way
                }
                let is_object = body.starts_with('{') && is_json(body);
                let body = if is_object { body } else { "{}" };
                let mut answers: Vec<String> =
                    questions.iter().map(|q| format!("{}:{body}", landbridge_proto::json::quote(&q.asked.key))).collect();
                let last_open = questions.last().is_some_and(|q| q.ticket == 0 || world.open.contains(&q.ticket));
                if drop_one {
                    answers.pop();
                }
                let (who, state, extra) = match tamper % 8 {
                    1 => ("bob", state, ""),
                    2 => ("ada", format!("{state}A"), ""),
                    3 => ("ada", state, r#","y":1"#),
                    _ => ("ada", state, ""),
                };
                let good = tamper % 8 == 0 || tamper % 8 > 3;
                let text = format!(r#"{params}{extra},"requestState":"{state}","inputResponses":{{{}}}"#, answers.join(","));
                let Some(again) = call(who, method, &text, &client) else { continue };
                world.begun += 1;
                let open = world.open.clone();
                let is_open = |held: &Held, ticket: u64| held.is_none() || open.contains(&ticket);
                assert_eq!(is_ours(&world.keys, &again, "srv"), tamper % 8 != 1 && tamper % 8 != 2);
                let given = Responses::read(&again).expect("an object");
                match world.parked.retry(&world.keys, (&again, digest(&again), &given, "srv"), is_open, world.now) {
                    Err(_) => world.ended += 1,
                    Ok(Retry::AskAgain(result)) => {
                        assert!(good && unused && drop_one && last_open);
                        assert!(is_json(std::str::from_utf8(&result).expect("text")));
                        world.ended += 1;
                    }
                    Ok(Retry::Resumed(held, answers)) => {
                        assert!(good && unused && !(drop_one && last_open), "a state that is not its client's, or used, or unanswered");
                        world.states[at].2 = false;
                        match held {
                            None => world.ended += 1,
                            Some(mut crossing) => {
                                for (ticket, _) in answers {
                                    assert!(world.answered.insert(ticket) && world.open.remove(&ticket), "answered twice");
                                }
                                crossing.handle_resumed(again);
                                world.crossing = Some(crossing);
                                world.pump();
                            }
                        }
                    }
                }
            }
            Op::Wait { seconds } => {
                world.now += Duration::from_secs(seconds.into());
                for (held, _) in world.parked.handle_timeout(world.now) {
                    if held.is_some() {
                        world.forget();
                    }
                }
                world.pump();
            }
            Op::Drain => {
                if world.parked.drain().iter().any(Option::is_some) {
                    world.forget();
                }
            }
        }
        assert!(world.parked.len() <= 1);
    }
    // Whatever happened: in the end the server answers, or the client's time runs out.
    world.handle(Reply::Done(Outcome::Result("{}".into())));
    world.now += KEEP;
    world.pump();
    world.handle(Reply::Done(Outcome::Result("{}".into())));
    world.parked.handle_timeout(world.now + KEEP);
    assert!(world.parked.is_empty() && world.crossing.is_none());
    assert_eq!(world.begun, world.ended, "every exchange ends once");
});
