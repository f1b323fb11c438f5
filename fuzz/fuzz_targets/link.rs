//! A server that says anything at all: every call ends once, every question is put to one call and
//! ends once, nothing panics, nothing piles up.
//!
//! Odd: arbitrary bytes seldom are messages, so half of the operations build one around arbitrary
//! parts, with ids that are near to those in use. Where arbitrary bytes may have ended a call, it is
//! no longer asked who could have asked what.

#![no_main]

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::back::link::{Event, Key, Limits, Link, Queued};
use landbridge_proto::call::{Ask, Call, Client, Level, Principal, Reply, Server, Transport};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::message::{Kind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::version::{Era, Revision};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    Begin { log: Option<u8>, token: bool, may_ask: bool },
    Resume { call: u8, token: bool },
    BeginOwn { listen: bool },
    Line(&'a [u8]),
    Answer { call: u8, result: bool },
    Notify { call: u8, method: u8 },
    Ask { method: u8 },
    Ping,
    Withdraw { ask: u8 },
    AnswerAsk { ticket: u8 },
    TooLong { head: &'a [u8], tail: &'a [u8] },
    Cancel { call: u8 },
    Abort { call: u8 },
    Poll { call: u8 },
    Write,
    Wait { seconds: u8 },
    Close,
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    shared: bool,
    can: bool,
    /// Calls that are under way already.
    begun: u8,
    server: u8,
    client: u8,
    ops: Vec<Op<'a>>,
}

const LIMITS: Limits =
    Limits { reply_bytes: 2_000, write_bytes: 4_000, calls: 6, call: Duration::from_secs(60), hold: Duration::from_secs(10) };

struct Open {
    key: Key,
    listen: bool,
    may_ask: bool,
    began: Instant,
    /// Something ended it.
    over: bool,
    /// It was we who ended it, and its server has not answered it since.
    cut: bool,
    /// Its owner is done with it, and its server may not be. Until then, from the first look at a clock.
    ghost: bool,
    fades: Option<Instant>,
    /// What was said since it began was no arbitrary bytes, which may have ended it too.
    sure: bool,
    /// Its owner was told.
    done: bool,
}

impl Open {
    fn new(key: Key, listen: bool, may_ask: bool, now: Instant) -> Open {
        let (over, cut, ghost, done) = (false, false, false, false);
        Open { key, listen, may_ask, began: now, over, cut, ghost, fades: None, sure: true, done }
    }

    /// Whether a question may be its own, for all that a link can know.
    fn is_candidate(&self) -> bool {
        self.may_ask && (!self.over || (self.cut && (!self.done || self.ghost)))
    }

    /// We end it.
    fn cut(&mut self) {
        self.cut |= !self.over;
        self.over = true;
    }

    /// Its owner is done with it. `haunts`: it is remembered if it may still ask.
    fn leave(&mut self, haunts: bool) {
        if !std::mem::replace(&mut self.done, true) {
            self.ghost = haunts && self.may_ask && self.cut;
        }
        self.over = true;
    }
}

/// A question of the server.
struct Question {
    /// The calls that can have asked it.
    candidates: Vec<usize>,
    ticket: Option<u64>,
    /// The call it was put to.
    to: Option<usize>,
    /// Answers and refusals that the server was written.
    answers: usize,
    withdrawn: bool,
}

/// By this a question is told from what arbitrary bytes may ask.
const PREFIX: &str = "\"question-";

fn number(id: &[u8]) -> Option<usize> {
    std::str::from_utf8(id).ok()?.strip_prefix(PREFIX)?.trim_end_matches('"').parse().ok()
}

fn call(text: String, client: &Arc<Client>, log_level: Option<Level>) -> Call {
    let message = Message::read(text.into()).expect("a message");
    let Kind::Request(id, method) = message.kind.clone() else { unreachable!() };
    let params = Params::read(&message).expect("params");
    Call { id, method, message, params, client: client.clone(), log_level }
}

/// A question is put to a call, or (`None`) to whoever owns the pipe.
fn give(asks: &mut [Question], calls: &[Open], shared: bool, to: Option<usize>, ask: &Ask) {
    let id = ask.message.id.expect("an id");
    let Some(number) = number(ask.message.text(id).as_bytes()) else { return };
    let question = &mut asks[number];
    assert!(question.ticket.replace(ask.ticket).is_none(), "a question is put twice");
    assert!(question.answers == 0 && !question.withdrawn, "a question is put behind its end");
    assert!(!shared || to.is_some(), "nobody owns a shared pipe");
    if let (true, Some(to)) = (shared, to) {
        question.to = Some(to);
        assert!(question.candidates.contains(&to), "a question of another time");
        assert!(!(calls[to].cut && calls[to].sure), "a question for a call that we ended");
        let is_none = |call: &Open| !call.is_candidate() || !call.sure;
        assert!(question.candidates.iter().all(|c| *c == to || is_none(&calls[*c])), "a question that may be another's");
    }
}

/// A question is not wanted any more.
fn withdraw(link: &Link, asks: &mut [Question], ticket: u64) {
    assert!(!link.is_open(ticket));
    if let Some(question) = asks.iter_mut().find(|q| q.ticket == Some(ticket)) {
        assert!(!question.withdrawn, "withdrawn twice");
        question.withdrawn = true;
    }
}

fuzz_target!(|input: Input<'_>| {
    let revision = |n: u8| Revision::ALL[usize::from(n) % Revision::ALL.len()];
    let hello = Bytes::from_static(br#"{"capabilities":{"logging":{},"tools":{}}}"#);
    let server = Arc::new(Server::read(revision(input.server), hello, "s").expect("a hello"));
    let client = Arc::new(Client {
        revision: revision(input.client),
        principal: Principal::default(),
        transport: Transport::Streamable,
        info: None,
        capabilities: Bytes::from_static(if input.can { br#"{"roots":{},"elicitation":{}}"# } else { b"{}" }),
    });
    let handshake = server.era() == Era::Handshake;
    let mut link = Link::new(server, input.shared, LIMITS);
    let mut progress = 0_u64;
    let mut now = Instant::now();
    let mut calls: Vec<Open> = Vec::new();
    let mut asks: Vec<Question> = Vec::new();
    let first = (0..input.begun % 4).map(|_| Op::Begin { log: None, token: false, may_ask: true });
    for op in first.chain(input.ops) {
        let pick = |n: u8, of: usize| (of > 0).then(|| usize::from(n) % of.max(1));
        let haunts = input.shared && input.can && handshake && link.closed().is_none() && link.ghosts() < LIMITS.calls;
        let id_of = |n: u8| calls.get(usize::from(n) % calls.len().max(1)).map_or(u64::from(n), |c| c.key.id());
        match op {
            Op::Begin { log, token, may_ask } => {
                let meta = if token { r#","params":{"_meta":{"progressToken":"mine"}}"# } else { "" };
                let method = if may_ask { "tools/call" } else { "tools/list" };
                let log_level = log.map(|n| if n % 2 == 0 { Level::Info } else { Level::Debug });
                let call = call(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"{meta}}}"#), &client, log_level);
                if let Ok(key) = link.begin(&call, now) {
                    assert!(calls.iter().all(|c| c.done || c.key != key));
                    calls.push(Open::new(key, false, may_ask, now));
                }
            }
            Op::Resume { call: n, token } => {
                // Who comes back, comes back to what it was asked for.
                let Some(at) = pick(n, calls.len()).filter(|at| calls[*at].may_ask && !calls[*at].done) else { continue };
                let meta = if token { r#","params":{"_meta":{"progressToken":"other"}}"# } else { "" };
                link.resume(calls[at].key, &call(format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call"{meta}}}"#), &client, None), now);
            }
            Op::BeginOwn { listen } => {
                let method = if listen { Method::Listen } else { Method::ToolsList };
                if calls.iter().filter(|c| c.listen).count() < 4
                    && let Ok(key) = link.begin_own(&method, "", now)
                {
                    calls.push(Open::new(key, listen, false, now));
                }
            }
            Op::Line(line) => {
                link.handle_line(Bytes::copy_from_slice(line));
                calls.iter_mut().for_each(|c| c.sure = false);
            }
            Op::Answer { call, result } => {
                let word = if result { r#""result":{}"# } else { r#""error":{"code":1,"message":""}"# };
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{},{word}}}"#, id_of(call)).into());
                if let Some(at) = pick(call, calls.len()) {
                    (calls[at].over, calls[at].cut, calls[at].ghost) = (true, false, false);
                }
            }
            Op::Notify { call, method } => {
                let id = id_of(call);
                progress += u64::from(id % 3 != 0); // it need not grow
                let (method, params) = match method % 5 {
                    0 => ("notifications/progress", format!(r#"{{"progressToken":{id},"progress":{progress}}}"#)),
                    1 => ("notifications/message", r#"{"level":"info","data":1}"#.into()),
                    2 => ("notifications/cancelled", format!(r#"{{"requestId":{id}}}"#)),
                    3 => (
                        "notifications/subscriptions/acknowledged",
                        format!(r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}"#),
                    ),
                    _ => ("notifications/tools/list_changed", "{}".into()),
                };
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params}}}"#).into());
            }
            Op::Ask { method } => {
                let method = ["elicitation/create", "roots/list", "x", "sampling/createMessage"][usize::from(method) % 4];
                let candidates = (0..calls.len()).filter(|c| calls[*c].is_candidate() || !calls[*c].sure).collect();
                let id = format!("{PREFIX}{}\"", asks.len());
                asks.push(Question { candidates, ticket: None, to: None, answers: 0, withdrawn: false });
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#).into());
            }
            Op::Ping => link.handle_line(r#"{"jsonrpc":"2.0","id":5,"method":"ping"}"#.into()),
            Op::Withdraw { ask } => {
                let Some(at) = pick(ask, asks.len()) else { continue };
                let id = format!("{PREFIX}{at}\"");
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#).into());
                if let Some(ticket) = asks[at].ticket {
                    assert!(!link.is_open(ticket));
                }
            }
            Op::AnswerAsk { ticket } => link.answer(ticket.into(), Ok(b"{}")),
            Op::TooLong { head, tail } => {
                link.handle_too_long(head, tail, 100);
                calls.iter_mut().for_each(|c| c.sure = false);
            }
            Op::Cancel { call } => {
                link.cancel(Key::of_id(id_of(call)), "x");
                if let Some(at) = pick(call, calls.len()) {
                    calls[at].cut();
                    calls[at].leave(haunts);
                }
            }
            Op::Abort { call } => {
                link.abort(Key::of_id(id_of(call)), "x");
                if let Some(at) = pick(call, calls.len()) {
                    calls[at].cut();
                }
            }
            Op::Poll { call } => {
                let Some(at) = (!calls.is_empty()).then(|| usize::from(call) % calls.len()) else { continue };
                match link.poll_reply(calls[at].key, Waker::noop()) {
                    Poll::Ready(Reply::Done(_)) => calls[at].leave(haunts),
                    Poll::Ready(reply) => {
                        assert!(!calls[at].done, "a word behind the last");
                        match reply {
                            Reply::Ask(ask) => give(&mut asks, &calls, input.shared, Some(at), &ask),
                            Reply::Withdrawn(ticket) => withdraw(&link, &mut asks, ticket),
                            Reply::Note(_) | Reply::Done(_) => {}
                        }
                    }
                    Poll::Pending => {}
                }
            }
            Op::Write => write(&mut link, &mut asks),
            Op::Wait { seconds } => {
                now += Duration::from_secs(seconds.into());
                link.handle_timeout(now);
                for ghost in calls.iter_mut().filter(|c| c.ghost) {
                    ghost.ghost = *ghost.fades.get_or_insert(now + LIMITS.hold) > now;
                }
                calls.iter_mut().filter(|c| !c.listen && now >= c.began + LIMITS.call).for_each(Open::cut);
            }
            Op::Close => {
                link.handle_closed(Fault::backend("s", FaultKind::Backend));
                calls.iter_mut().for_each(|c| c.over = true);
            }
        }
        while let Some(event) = link.poll_event() {
            match event {
                Event::Stray(what) => assert!(what.len() < 2_000),
                Event::Ask(ask) => give(&mut asks, &calls, input.shared, None, &ask),
                Event::Withdrawn(ticket) => withdraw(&link, &mut asks, ticket),
                Event::Notice(_) => {}
            }
        }
        let ended = |q: &&Question| q.to.is_some_and(|to| calls[to].cut);
        assert!(asks.iter().filter(ended).all(|q| q.ticket.is_none_or(|t| !link.is_open(t))), "a call that we ended still asks");
        assert!(link.ghosts() <= LIMITS.calls);
        // One more: to raise the level takes a slot too.
        assert!(link.in_flight() <= LIMITS.calls + 1);
    }
    write(&mut link, &mut asks);
    // Whatever happened, the end of the pipe ends every call and every question.
    link.handle_closed(Fault::backend("s", FaultKind::Backend));
    for call in calls.iter().filter(|c| !c.done) {
        for step in 0.. {
            assert!(step < 10_000);
            match link.poll_reply(call.key, Waker::noop()) {
                Poll::Ready(Reply::Done(_)) => break,
                Poll::Ready(_) => {}
                Poll::Pending => panic!("a call outlives its pipe"),
            }
        }
    }
    for _ in 0..2 {
        now += LIMITS.hold;
        link.handle_timeout(now);
    }
    assert_eq!((link.in_flight(), link.askers(), link.ghosts()), (0, 0, 0));
    assert!(asks.iter().filter_map(|q| q.ticket).all(|ticket| !link.is_open(ticket)));
});

/// The server reads what it was written.
fn write(link: &mut Link, asks: &mut [Question]) {
    for Queued { line, .. } in link.take_queued().into_iter().flatten() {
        assert!(line.ends_with(b"\n") && line.iter().filter(|b| **b == b'\n').count() == 1);
        let Ok(message) = Message::read(line.slice(..line.len() - 1)) else { panic!("{}", String::from_utf8_lossy(&line)) };
        if let Kind::Response(Some(id), _) = &message.kind
            && let Some(number) = number(id.as_bytes())
        {
            asks[number].answers += 1;
            assert_eq!(asks[number].answers, 1, "a question is answered twice");
        }
    }
}
