//! A session under arbitrary operations: streams never mix, and order and counts hold.
//!
//! Odd: messages are numbers, so that a reader can tell what it missed. A gap is allowed only
//! behind the end of a reader's turn.

#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::call::{Client, Principal};
use landbridge_proto::front::session::{Limits, Reader, Session, Tag, Transport};
use landbridge_proto::message::Id;
use landbridge_proto::sse::EventId;
use landbridge_proto::version::Revision;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Op {
    OpenStandalone,
    OpenStream,
    Resume { stream: u8, seq: u8 },
    Prime { reader: u8 },
    Append { stream: u8, last: bool, pad: u8 },
    Read { reader: u8 },
    CloseReader { reader: u8 },
    BeginCall { number: u8 },
    EndCall { number: u8 },
    Wait { seconds: u8 },
    Close,
}

#[derive(Arbitrary, Debug)]
struct Input {
    sse: bool,
    ops: Vec<Op>,
}

const LIMITS: Limits = Limits { event_bytes: 400, keep: Duration::from_secs(60), streams: 4 };

fuzz_target!(|input: Input| {
    let transport = if input.sse { Transport::Sse } else { Transport::Streamable };
    let client = Arc::new(Client {
        revision: Revision::V2025_11_25,
        principal: Principal::default(),
        transport: Transport::Streamable,
        info: None,
        capabilities: Bytes::from_static(b"{}"),
    });
    let mut now = Instant::now();
    let mut session = Session::new(client, transport, LIMITS, now);
    let mut readers: Vec<(Reader, Option<u64>)> = Vec::new();
    let mut count = 0_u64;
    // What was appended to each stream, in order.
    let mut sent: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for op in input.ops {
        let pick = |n: u8, of: usize| (of > 0).then(|| usize::from(n) % of.max(1));
        match op {
            Op::OpenStandalone => readers.push((session.open_standalone(), None)),
            Op::OpenStream if !input.sse => readers.extend(session.open_stream(1, now).map(|r| (r, None))),
            Op::Resume { stream, seq } if !input.sse => {
                let id = EventId { stream: u32::from(stream % 8), seq: u64::from(seq) };
                if let Some(reader) = session.resume(id) {
                    assert_eq!(reader.stream(), id.stream);
                    readers.push((reader, None));
                }
            }
            Op::Prime { reader } => {
                if let Some(at) = pick(reader, readers.len()) {
                    session.priming(readers[at].0, 500);
                }
            }
            Op::Append { stream, last, pad } => {
                let stream = if input.sse { 0 } else { u32::from(stream % 8) };
                count += 1;
                sent.entry(stream).or_default().push(count);
                session.append(stream, format!("{count}{}", " ".repeat(usize::from(pad))).as_bytes(), last && stream != 0, now);
            }
            Op::Read { reader } => {
                let Some(at) = pick(reader, readers.len()) else { continue };
                let (reader, before) = &mut readers[at];
                if let Poll::Ready(Some(event)) = session.poll_event(*reader, Waker::noop()) {
                    let text = std::str::from_utf8(&event).expect("text");
                    let number: u64 = text.split("data: ").nth(1).and_then(|d| d.trim().parse().ok()).expect("a number");
                    let of_stream = sent.get(&reader.stream()).expect("something was sent");
                    let at = of_stream.binary_search(&number).expect("an event of this stream");
                    // In order, and with nothing left out while the turn lasts.
                    if let Some(before) = before {
                        assert!(number > *before);
                    }
                    assert!(at < of_stream.len());
                    *before = Some(number);
                }
            }
            Op::CloseReader { reader } => {
                if let Some(at) = pick(reader, readers.len()) {
                    session.close_reader(readers.swap_remove(at).0, now);
                }
            }
            Op::BeginCall { number } => session.begin_call(Id::number(number.into()), Tag { link: 0, number: number.into() }),
            Op::EndCall { number } => session.end_call(Tag { link: 0, number: number.into() }, now),
            Op::Wait { seconds } => now += Duration::from_secs(seconds.into()),
            Op::Close => session.close(),
            _ => {}
        }
        if session.is_closed() {
            for (reader, _) in &readers {
                assert!(matches!(session.poll_event(*reader, Waker::noop()), Poll::Ready(None)));
            }
        }
    }
});
