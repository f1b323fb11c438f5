//! A server that says anything at all: every call ends once, nothing panics, nothing piles up.
//!
//! Odd: arbitrary bytes seldom are messages, so half of the operations build one around arbitrary
//! parts, with ids that are near to those in use.

#![no_main]

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::back::link::{Event, Key, Limits, Link};
use landbridge_proto::call::{Call, Client, Level, Reply, Server};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::message::{Kind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::version::Revision;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    Begin { log: Option<u8>, token: bool },
    BeginOwn { listen: bool },
    Line(&'a [u8]),
    Answer { call: u8, result: bool },
    Notify { call: u8, method: u8 },
    Ask { id: u8, method: u8 },
    Withdraw { id: u8 },
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
    server: u8,
    client: u8,
    ops: Vec<Op<'a>>,
}

const LIMITS: Limits = Limits { reply_bytes: 2_000, write_bytes: 4_000, calls: 6, call: Duration::from_secs(60) };

struct Open {
    key: Key,
    listen: bool,
    done: bool,
}

fuzz_target!(|input: Input<'_>| {
    let revision = |n: u8| Revision::ALL[usize::from(n) % Revision::ALL.len()];
    let hello = Bytes::from_static(br#"{"capabilities":{"logging":{},"tools":{}}}"#);
    let server = Arc::new(Server::read(revision(input.server), hello, "s").expect("a hello"));
    let client = Arc::new(Client { revision: revision(input.client), principal: Principal::default(), info: None, capabilities: Bytes::from_static(b"{}") });
    let mut link = Link::new(server, input.shared, LIMITS);
    let mut now = Instant::now();
    let mut calls: Vec<Open> = Vec::new();
    for op in input.ops {
        let id_of = |n: u8| calls.get(usize::from(n) % calls.len().max(1)).map_or(u64::from(n), |c| c.key.id());
        match op {
            Op::Begin { log, token } => {
                let meta = if token { r#","params":{"_meta":{"progressToken":"mine"}}"# } else { "" };
                let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call"{meta}}}"#);
                let message = Message::read(text.into()).expect("a message");
                let Kind::Request(id, method) = message.kind.clone() else { unreachable!() };
                let params = Params::read(&message).expect("params");
                let log_level = log.map(|n| if n % 2 == 0 { Level::Info } else { Level::Debug });
                let call = Call { id, method, message, params, client: client.clone(), log_level };
                if let Ok(key) = link.begin(&call, now) {
                    assert!(calls.iter().all(|c| c.done || c.key != key));
                    calls.push(Open { key, listen: false, done: false });
                }
            }
            Op::BeginOwn { listen } => {
                let method = if listen { Method::Listen } else { Method::ToolsList };
                if calls.iter().filter(|c| c.listen).count() < 4
                    && let Ok(key) = link.begin_own(&method, "", now)
                {
                    calls.push(Open { key, listen, done: false });
                }
            }
            Op::Line(line) => link.handle_line(Bytes::copy_from_slice(line)),
            Op::Answer { call, result } => {
                let word = if result { r#""result":{}"# } else { r#""error":{"code":1,"message":""}"# };
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{},{word}}}"#, id_of(call)).into());
            }
            Op::Notify { call, method } => {
                let id = id_of(call);
                let (method, params) = match method % 5 {
                    0 => ("notifications/progress", format!(r#"{{"progressToken":{id},"progress":1}}"#)),
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
            Op::Ask { id, method } => {
                let method = ["elicitation/create", "ping", "roots/list", "x"][usize::from(method) % 4];
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}"}}"#).into());
            }
            Op::Withdraw { id } => {
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#).into())
            }
            Op::AnswerAsk { ticket } => link.answer(ticket.into(), Ok(b"{}")),
            Op::TooLong { head, tail } => link.handle_too_long(head, tail, 100),
            Op::Cancel { call } => link.cancel(Key::of_id(id_of(call)), "x"),
            Op::Abort { call } => link.abort(Key::of_id(id_of(call)), "x"),
            Op::Poll { call } => {
                let Some(at) = (!calls.is_empty()).then(|| usize::from(call) % calls.len()) else { continue };
                match link.poll_reply(calls[at].key, Waker::noop()) {
                    Poll::Ready(Reply::Done(_)) => calls[at].done = true,
                    Poll::Ready(_) => assert!(!calls[at].done, "a word behind the last"),
                    Poll::Pending => assert!(!calls[at].done),
                }
            }
            Op::Write => {
                for line in link.take_queued().into_iter().flatten() {
                    assert!(line.ends_with(b"\n") && line.iter().filter(|b| **b == b'\n').count() == 1);
                    if Message::read(line.slice(..line.len() - 1)).is_err() {
                        panic!("{}", String::from_utf8_lossy(&line));
                    }
                }
            }
            Op::Wait { seconds } => {
                now += Duration::from_secs(seconds.into());
                link.handle_timeout(now);
            }
            Op::Close => link.handle_closed(Fault::backend("s", FaultKind::Backend)),
        }
        while let Some(event) = link.poll_event() {
            if let Event::Stray(what) = event {
                assert!(what.len() < 2_000);
            }
        }
        // One more: to raise the level takes a slot too.
        assert!(link.in_flight() <= LIMITS.calls + 1);
    }
    // Whatever happened, the end of the pipe ends every call.
    link.handle_closed(Fault::backend("s", FaultKind::Backend));
    for call in &calls {
        for step in 0.. {
            assert!(step < 10_000);
            match link.poll_reply(call.key, Waker::noop()) {
                Poll::Ready(Reply::Done(_)) => break,
                Poll::Ready(_) => {}
                Poll::Pending => panic!("a call outlives its pipe"),
            }
        }
    }
    assert_eq!(link.in_flight(), 0);
});
