//! A link against a model that knows only this: a call ends once, with the first thing that ends
//! it, and everything it is told is its own.
//!
//! Odd: the server puts the number of the call it means into all it says, so that a reply in the
//! wrong place shows itself.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use landbridge_proto::back::link::{Key, Limits, Link};
use landbridge_proto::call::{Call, Client, Outcome, Reply, Server};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::message::{Kind, Message, Params};
use landbridge_proto::version::Revision;
use proptest::prelude::*;

const LIMITS: Limits =
    Limits { reply_bytes: 800, write_bytes: 100_000, calls: 6, call: Duration::from_secs(60), hold: Duration::from_secs(10) };

#[derive(Clone, Debug)]
enum Op {
    Begin,
    Progress(usize),
    Log,
    Answer(usize, bool),
    TooLong(usize),
    Cancel(usize),
    Abort(usize),
    Poll(usize, usize),
    Ask,
    Noise(String),
    Wait(u64),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => Just(Op::Begin),
        8 => (0..12_usize).prop_map(Op::Progress),
        2 => Just(Op::Log),
        8 => (0..12_usize, any::<bool>()).prop_map(|(c, ok)| Op::Answer(c, ok)),
        1 => (0..12_usize).prop_map(Op::TooLong),
        2 => (0..12_usize).prop_map(Op::Cancel),
        2 => (0..12_usize).prop_map(Op::Abort),
        10 => (0..12_usize, 1..8_usize).prop_map(|(c, n)| Op::Poll(c, n)),
        1 => Just(Op::Ask),
        1 => "[{}\":a-z0-9 ]{0,20}".prop_map(Op::Noise),
        1 => (1..40_u64).prop_map(Op::Wait),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Op::Close } else { Op::Wait(1) }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Result,
    Error,
    TooLong,
    Cancelled,
    Timeout,
    Closed,
}

struct Open {
    key: Key,
    began: Instant,
    /// What ended it first.
    end: Option<End>,
    /// Its owner was told, or has gone.
    told: bool,
}

fn run(shared: bool, server: Revision, client: Revision, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let hello = r#"{"capabilities":{"logging":{}}}"#;
    let server = Arc::new(Server::read(server, hello.into(), "s").unwrap());
    let client = Arc::new(Client { revision: client, principal: Default::default(), info: None, capabilities: "{}".into() });
    let mut link = Link::new(server, shared, LIMITS);
    let mut now = Instant::now();
    let mut calls: Vec<Open> = Vec::new();
    let mut closed = false;
    for op in ops {
        let id = |at: usize| calls.get(at).map_or(at as u64, |c| c.key.id());
        let end = |calls: &mut Vec<Open>, at: usize, how: End| {
            if let Some(call) = calls.get_mut(at)
                && !call.told
            {
                call.end.get_or_insert(how);
            }
        };
        match op {
            Op::Begin => {
                let number = calls.len();
                let text =
                    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"_meta":{{"progressToken":"t{number}"}}}}}}"#);
                let message = Message::read(text.into()).unwrap();
                let Kind::Request(id, method) = message.kind.clone() else { unreachable!() };
                let params = Params::read(&message).unwrap();
                let call = Call { id, method, message, params, client: client.clone(), log_level: None };
                let occupied = calls.iter().filter(|c| !c.told).count();
                match link.begin(&call, now) {
                    Ok(key) => {
                        prop_assert!(!closed && occupied < LIMITS.calls);
                        prop_assert!(calls.iter().all(|c| c.key != key), "a number used twice");
                        calls.push(Open { key, began: now, end: None, told: false });
                    }
                    Err(_) => prop_assert!(closed || occupied >= LIMITS.calls),
                }
            }
            Op::Progress(at) => {
                let id = id(at);
                let pad = "x".repeat(100);
                link.handle_line(
                    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":{id},"pad":"{pad}"}}}}"#)
                        .into(),
                );
            }
            Op::Log => link.handle_line(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":0}}"#.into()),
            Op::Answer(at, ok) => {
                let id = id(at);
                let body = if ok { format!(r#""result":{{"n":{id}}}"#) } else { format!(r#""error":{{"code":1,"message":"{id}"}}"#) };
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{id},{body}}}"#).into());
                end(&mut calls, at, if ok { End::Result } else { End::Error });
            }
            Op::TooLong(at) => {
                let Some(call) = calls.get(at).filter(|c| !c.told) else { continue };
                if call.end.is_none() {
                    link.handle_too_long(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"#, call.key.id()).as_bytes(), b"x", 100);
                    end(&mut calls, at, End::TooLong);
                }
            }
            Op::Cancel(at) => {
                if let Some(call) = calls.get_mut(at) {
                    link.cancel(call.key, "x");
                    call.told = true;
                }
            }
            Op::Abort(at) => {
                link.abort(Key::of_id(id(at)), "x");
                end(&mut calls, at, End::Cancelled);
            }
            Op::Poll(at, times) => {
                let Some(call) = calls.get_mut(at) else { continue };
                for _ in 0..times {
                    if call.told {
                        let Poll::Ready(Reply::Done(Outcome::Fault(_))) = link.poll_reply(call.key, Waker::noop()) else {
                            return Err(TestCaseError::fail("a word behind the last"));
                        };
                        continue;
                    }
                    match link.poll_reply(call.key, Waker::noop()) {
                        Poll::Pending => prop_assert_eq!(call.end, None, "it has ended, and its owner is not told"),
                        Poll::Ready(Reply::Done(outcome)) => {
                            let id = call.key.id();
                            let how = match outcome {
                                Outcome::Result(result) => {
                                    let own = format!(r#"{{"n":{id}}}"#);
                                    prop_assert_eq!(&result[..], own.as_bytes());
                                    End::Result
                                }
                                Outcome::Error(error) => {
                                    let own = format!("\"{id}\"");
                                    prop_assert!(String::from_utf8_lossy(&error).contains(&own));
                                    End::Error
                                }
                                Outcome::Fault(fault) => match fault.kind {
                                    FaultKind::Cancelled => End::Cancelled,
                                    FaultKind::Timeout => End::Timeout,
                                    _ if fault.told == "gone" => End::Closed,
                                    _ => End::TooLong,
                                },
                            };
                            prop_assert_eq!(Some(how), call.end);
                            call.told = true;
                        }
                        Poll::Ready(Reply::Note(note)) => {
                            let text = String::from_utf8(note.message.to_vec()).unwrap();
                            if text.contains("progress") {
                                let own = format!(r#""progressToken":"t{at}","progress":{},"#, call.key.id());
                                prop_assert!(text.contains(&own), "{text} at {own}");
                            }
                        }
                        Poll::Ready(Reply::Ask(_) | Reply::Withdrawn(_)) => prop_assert!(!shared),
                    }
                }
            }
            Op::Ask => link.handle_line(r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#.into()),
            Op::Noise(text) => link.handle_line(text.into()),
            Op::Wait(seconds) => {
                now += Duration::from_secs(seconds);
                link.handle_timeout(now);
                for at in 0..calls.len() {
                    if now >= calls[at].began + LIMITS.call {
                        end(&mut calls, at, End::Timeout);
                    }
                }
            }
            Op::Close => {
                link.handle_closed(Fault::backend("s", FaultKind::Backend).tell("gone"));
                closed = true;
                (0..calls.len()).for_each(|at| end(&mut calls, at, End::Closed));
            }
        }
        while link.poll_event().is_some() {}
        prop_assert_eq!(link.in_flight(), calls.iter().filter(|c| !c.told).count());
    }
    // Every line we wrote is one message.
    for line in link.take_queued().into_iter().flatten() {
        prop_assert!(line.ends_with(b"\n"));
        prop_assert!(Message::read(line.slice(..line.len() - 1)).is_ok());
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_call_ends_once_with_its_own_words(
        shared in any::<bool>(),
        server in prop::sample::select(Revision::ALL.to_vec()),
        client in prop::sample::select(Revision::ALL.to_vec()),
        ops in prop::collection::vec(op(), 1..100),
    ) {
        run(shared, server, client, ops)?;
    }
}

/// What we owe a server that asks and never reads is bounded too.
#[test]
fn a_server_that_never_reads_costs_no_memory() {
    for shared in [true, false] {
        let server = Server::read(Revision::V2025_11_25, "{}".into(), "s").unwrap();
        let mut link = Link::new(Arc::new(server), shared, LIMITS);
        for id in 0..20_000 {
            link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#).into());
            link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":"q{id}","method":"roots/list"}}"#).into());
            while link.poll_event().is_some() {}
        }
        let owed: usize = link.take_queued().into_iter().flatten().map(|line| line.len()).sum();
        assert!(owed <= LIMITS.write_bytes + 1_000, "{owed} bytes wait to be read");
    }
}
