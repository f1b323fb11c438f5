//! A session against the simplest model of it: a list of numbers for each stream.
//!
//! The promise: a reader gets every event of its stream, in order, once, from where it came in,
//! until it is told that its stream is over. Odd: the bytes it holds are read from its `Debug`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use landbridge_proto::call::{Ask, Client};
use landbridge_proto::front::session::{Limits, Reader, Session, Tag, Transport};
use landbridge_proto::message::{Id, Kind, Message};
use landbridge_proto::sse::EventId;
use landbridge_proto::version::Revision;
use proptest::prelude::*;

use crate::events;

const LIMITS: Limits = Limits { event_bytes: 600, keep: Duration::from_secs(60), streams: 4 };

#[derive(Clone, Debug)]
enum Op {
    OpenStandalone,
    OpenStream,
    /// Behind the event that is so many before the last one of the stream.
    Resume {
        stream: u32,
        back: u64,
    },
    Append {
        stream: u32,
        last: bool,
        pad: usize,
    },
    Read {
        reader: usize,
        times: usize,
    },
    Leave {
        reader: usize,
    },
    BeginCall(u64),
    EndCall(u64),
    Ask(u64),
    Answer(usize),
    Withdraw(u64),
    Wait(u64),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => Just(Op::OpenStandalone),
        4 => Just(Op::OpenStream),
        4 => (0..5_u32, 0..4_u64).prop_map(|(stream, back)| Op::Resume { stream, back }),
        12 => (0..5_u32, prop::bool::weighted(0.2), 0..120_usize).prop_map(|(stream, last, pad)| Op::Append { stream, last, pad }),
        10 => (0..6_usize, 1..6_usize).prop_map(|(reader, times)| Op::Read { reader, times }),
        3 => (0..6_usize).prop_map(|reader| Op::Leave { reader }),
        2 => (0..3_u64).prop_map(Op::BeginCall),
        2 => (0..3_u64).prop_map(Op::EndCall),
        2 => (0..3_u64).prop_map(Op::Ask),
        2 => (0..4_usize).prop_map(Op::Answer),
        1 => (0..3_u64).prop_map(Op::Withdraw),
        1 => (1..50_u64).prop_map(Op::Wait),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Op::Close } else { Op::Wait(1) }),
    ]
}

struct Turn {
    reader: Reader,
    /// Behind which event of its stream it goes on; `None`: with what nobody was given yet.
    behind: Option<u64>,
    over: bool,
}

fn session(transport: Transport) -> (Session, Instant) {
    let client = Client {
        revision: Revision::V2025_06_18,
        principal: Default::default(),
        transport: landbridge_proto::call::Transport::Streamable,
        info: None,
        capabilities: r#"{"roots":{}}"#.into(),
    };
    let now = Instant::now();
    (Session::new(Arc::new(client), transport, LIMITS, now), now)
}

fn ring_bytes(session: &Session) -> usize {
    let shown = format!("{session:?}");
    let digits: String = shown.split("ring_bytes: ").nth(1).unwrap().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let (mut session, mut now) = session(Transport::Streamable);
    let mut seq = 0;
    let mut sent: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut turns: Vec<Turn> = Vec::new();
    // The last event any reader of stream 0 was given.
    let mut given = 0;
    let mut ended: Vec<u32> = Vec::new();
    // Questions that are open, with the id the client was asked under.
    let mut asked: Vec<(u64, u64)> = Vec::new();
    for op in ops {
        match op {
            Op::OpenStandalone => turns.push(Turn { reader: session.open_standalone(), behind: None, over: false }),
            Op::OpenStream => {
                if let Some(reader) = session.open_stream(1, now) {
                    prop_assert!(!sent.contains_key(&reader.stream()), "a number used twice");
                    sent.insert(reader.stream(), Vec::new());
                    turns.push(Turn { reader, behind: Some(seq), over: false });
                }
            }
            Op::Resume { stream, back } => {
                let last = sent.get(&stream).and_then(|s| s.iter().rev().nth(back as usize)).copied().unwrap_or(seq + 1);
                if let Some(reader) = session.resume(EventId { stream, seq: last }) {
                    prop_assert_eq!(reader.stream(), stream);
                    prop_assert!(last <= seq, "an event that never was");
                    turns.push(Turn { reader, behind: Some(last), over: false });
                    // The client says itself how far it came.
                    if stream == 0 {
                        given = last;
                    }
                }
            }
            Op::Append { stream, last, pad } => {
                // Nothing follows the last event of a stream; stream 0 has none.
                if ended.contains(&stream) || (stream > 0 && !sent.contains_key(&stream)) {
                    continue;
                }
                seq += 1;
                sent.entry(stream).or_default().push(seq);
                session.append(stream, format!("{seq}{}", " ".repeat(pad)).as_bytes(), last && stream > 0, now);
                if last && stream > 0 {
                    ended.push(stream);
                }
            }
            Op::Read { reader, times } => {
                let Some(turn) = turns.get_mut(reader) else { continue };
                let stream = turn.reader.stream();
                let all = sent.get(&stream).cloned().unwrap_or_default();
                for _ in 0..times {
                    let next = all.iter().copied().find(|s| turn.behind.is_none_or(|b| *s > b) && (turn.behind.is_some() || *s > given));
                    match session.poll_event(turn.reader, Waker::noop()) {
                        Poll::Ready(Some(frame)) => {
                            prop_assert!(!turn.over, "an event behind the end");
                            let event = events::read(&frame).remove(0);
                            let id = event.id.as_deref().and_then(EventId::parse).unwrap();
                            let number: u64 = event.data.unwrap().trim().parse().unwrap();
                            prop_assert_eq!((id.stream, id.seq), (stream, number));
                            match turn.behind {
                                Some(_) => prop_assert_eq!(Some(number), next, "one was left out"),
                                // What nobody read may have been too much to keep.
                                None => prop_assert!(number > given && all.contains(&number)),
                            }
                            turn.behind = Some(number);
                            if stream == 0 {
                                given = number;
                            }
                        }
                        Poll::Ready(None) => turn.over = true,
                        Poll::Pending => {
                            prop_assert!(!turn.over);
                            prop_assert!(turn.behind.is_none() || next.is_none(), "{:?} waits to be read", next);
                        }
                    }
                }
            }
            Op::Leave { reader } => {
                if reader < turns.len() {
                    session.close_reader(turns.remove(reader).reader, now);
                }
            }
            Op::BeginCall(number) => session.begin_call(Id::number(number), Tag { link: 0, number }),
            Op::EndCall(number) => session.end_call(Tag { link: 0, number }, now),
            Op::Ask(ticket) => {
                if asked.iter().any(|(t, _)| *t == ticket) {
                    continue;
                }
                let message = Message::read(r#"{"jsonrpc":"2.0","id":"theirs","method":"roots/list"}"#.into()).unwrap();
                let Kind::Request(_, method) = message.kind.clone() else { unreachable!() };
                let text = session.ask(&Ask { ticket, method, message }, Tag { link: 0, number: ticket }).unwrap();
                let Kind::Request(id, _) = Message::read(text).unwrap().kind else { unreachable!() };
                let id = id.as_number().unwrap();
                prop_assert!(asked.iter().all(|(_, i)| *i != id), "two questions under one id");
                asked.push((ticket, id));
            }
            Op::Answer(at) => {
                let (ticket, id) = asked.get(at).copied().map_or((None, 999), |(t, i)| (Some(t), i));
                prop_assert_eq!(session.answered(&Id::number(id)).map(|t| t.number), ticket);
                prop_assert_eq!(session.answered(&Id::number(id)), None, "answered once");
                asked.retain(|(_, i)| *i != id);
            }
            Op::Withdraw(ticket) => {
                let there = asked.iter().any(|(t, _)| *t == ticket);
                prop_assert_eq!(session.withdraw(Tag { link: 0, number: ticket }).is_some(), there);
                asked.retain(|(t, _)| *t != ticket);
            }
            Op::Wait(seconds) => now += Duration::from_secs(seconds),
            Op::Close => session.close(),
        }
        // One always fits, whatever its size.
        prop_assert!(ring_bytes(&session) <= LIMITS.event_bytes, "{} bytes", ring_bytes(&session));
        if session.is_closed() {
            turns.iter_mut().for_each(|t| t.over = true);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_event_once_and_in_order(ops in prop::collection::vec(op(), 1..80)) {
        run(ops)?;
    }

    /// A stream that was read to its end, or left, never stands in the way of another.
    #[test]
    fn room_comes_back(messages in prop::collection::vec(0..3_usize, 1..40), leave_early in any::<bool>()) {
        let (mut session, now) = session(Transport::Streamable);
        for count in messages {
            let reader = session.open_stream(1, now);
            prop_assert!(reader.is_some(), "no room, though nothing is left to read");
            let reader = reader.unwrap();
            for n in 0..=count {
                session.append(reader.stream(), b"x", n == count, now);
            }
            if !leave_early {
                while let Poll::Ready(Some(_)) = session.poll_event(reader, Waker::noop()) {}
            }
            session.close_reader(reader, now);
        }
    }

    /// Over HTTP+SSE nothing that was read is kept, and what is passed by the ring keeps its place.
    #[test]
    fn over_sse_all_arrives_and_nothing_stays(steps in prop::collection::vec((any::<bool>(), 0..3_usize), 1..12)) {
        let (mut session, now) = session(Transport::Sse);
        let reader = session.open_standalone();
        let (mut got, mut sent) = (Vec::new(), 0);
        for (pass, reads) in steps {
            let message = sent.to_string();
            sent += 1;
            match pass.then(|| session.pass(reader, message.as_bytes())).flatten() {
                Some(frame) => got.extend(events::read(&frame)),
                None => session.append(0, message.as_bytes(), false, now),
            }
            for _ in 0..reads {
                if let Poll::Ready(Some(frame)) = session.poll_event(reader, Waker::noop()) {
                    got.extend(events::read(&frame));
                }
            }
        }
        while let Poll::Ready(Some(frame)) = session.poll_event(reader, Waker::noop()) {
            got.extend(events::read(&frame));
        }
        let got: Vec<u64> = got.into_iter().map(|e| e.data.unwrap().parse().unwrap()).collect();
        prop_assert_eq!(got, (0..sent).collect::<Vec<u64>>());
        prop_assert_eq!(ring_bytes(&session), 0);
    }
}
