//! A server that answers the meeting with anything: it comes to an end, and soon.
//!
//! Odd: no time passes unless the input says so, so that a conversation which never ends by itself
//! shows as a count of what we said.

#![no_main]

use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::back::probe::{Patience, Probe, Protocol, Step};
use landbridge_proto::version::Revision;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    Line(&'a [u8]),
    Answer { to_discover: bool, what: u8 },
    End,
    Wait { seconds: u8 },
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    protocol: u8,
    ops: Vec<Op<'a>>,
}

const ANSWERS: [&str; 8] = [
    r#""result":{"supportedVersions":["2026-07-28"],"capabilities":{}}"#,
    r#""result":{"supportedVersions":["2025-11-25"],"capabilities":{}}"#,
    r#""result":{"protocolVersion":"2025-06-18","capabilities":{}}"#,
    r#""result":{"protocolVersion":"1","capabilities":{}}"#,
    r#""result":5"#,
    r#""error":{"code":-32022,"message":"","data":{"supported":["2026-07-28"]}}"#,
    r#""error":{"code":-32022,"message":"","data":{"supported":["2099-01-01"]}}"#,
    r#""error":{"code":-32601,"message":""}"#,
];

fuzz_target!(|input: Input<'_>| {
    let protocol = match input.protocol % 4 {
        0 | 1 => Protocol::Auto,
        2 => Protocol::Legacy,
        _ => Protocol::Pinned(Revision::ALL[usize::from(input.protocol / 4) % Revision::ALL.len()]),
    };
    let mut now = Instant::now();
    let patience = Patience { probe: Duration::from_secs(3), handshake: Duration::from_secs(30) };
    let mut probe = Probe::new("s", protocol, None, patience, now);
    let mut verdicts = 0;
    for op in input.ops {
        match op {
            Op::Line(line) => drop(probe.handle_line(Bytes::copy_from_slice(line), now)),
            Op::Answer { to_discover, what } => {
                let id = if to_discover { "landbridge-discover" } else { "landbridge-initialize" };
                let line = format!(r#"{{"jsonrpc":"2.0","id":"{id}",{}}}"#, ANSWERS[usize::from(what) % ANSWERS.len()]);
                drop(probe.handle_line(line.into(), now));
            }
            Op::End => probe.handle_end(),
            Op::Wait { seconds } => {
                now += Duration::from_secs(seconds.into());
                probe.handle_timeout(now);
            }
        }
        while let Some(step) = probe.poll_step() {
            match step {
                Step::Send(line) => assert!(line.ends_with(b"\n")),
                Step::Respawn => probe.respawned(now),
                Step::Met(_) | Step::Failed(_) => verdicts += 1,
            }
        }
        assert!(verdicts <= 1, "one verdict");
    }
    // Whatever was said, the time for it runs out.
    probe.handle_timeout(now + Duration::from_secs(31));
    while let Some(step) = probe.poll_step() {
        verdicts += usize::from(matches!(step, Step::Met(_) | Step::Failed(_)));
    }
    assert_eq!(verdicts, 1);
});
