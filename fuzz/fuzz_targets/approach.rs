//! A server elsewhere that answers a meeting with anything: it comes to one end, after few requests.

#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::back::approach::{Approach, Posted, Step, Wire};
use landbridge_proto::back::probe::Protocol;
use landbridge_proto::message::Message;
use landbridge_proto::version::{Era, Revision};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Answer<'a> {
    status: u16,
    what: u8,
    text: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    protocol: u8,
    wire: u8,
    answers: Vec<Answer<'a>>,
}

const ANSWERS: [&str; 8] = [
    r#""result":{"supportedVersions":["2026-07-28"],"capabilities":{}}"#,
    r#""result":{"supportedVersions":["2025-11-25"],"capabilities":{}}"#,
    r#""result":{"protocolVersion":"2025-06-18","capabilities":{}}"#,
    r#""result":{"protocolVersion":"1","capabilities":{}}"#,
    r#""error":{"code":-32022,"message":"","data":{"supported":["2026-07-28"]}}"#,
    r#""error":{"code":-32022,"message":"","data":{"supported":["2099-01-01"]}}"#,
    r#""error":{"code":-32020,"message":""}"#,
    r#""error":{"code":-32601,"message":""}"#,
];

fuzz_target!(|input: Input<'_>| {
    let protocol = match input.protocol % 4 {
        0 | 1 => Protocol::Auto,
        2 => Protocol::Legacy,
        _ => Protocol::Pinned(Revision::ALL[usize::from(input.protocol / 4) % Revision::ALL.len()]),
    };
    let wire = [Wire::Any, Wire::Streamable, Wire::Sse][usize::from(input.wire) % 3];
    let mut approach = Approach::new("s", protocol, wire, None);
    let (mut posts, mut ends) = (0, 0);
    let mut answers = input.answers.iter();
    while let Some(step) = approach.poll_step() {
        match step {
            Step::Post(line, era) => {
                posts += 1;
                assert!(posts <= 5, "it asks and asks");
                assert_ne!(wire, Wire::Sse);
                let sent = Message::read(line).expect("a message");
                let Some(answer) = answers.next() else { return };
                let text = match answer.what {
                    what @ 0..=199 => {
                        let id = if era == Era::Stateless { "landbridge-discover" } else { "landbridge-initialize" };
                        format!(r#"{{"jsonrpc":"2.0","id":"{id}",{}}}"#, ANSWERS[usize::from(what) % ANSWERS.len()]).into_bytes()
                    }
                    _ => answer.text.to_vec(),
                };
                drop(sent);
                let status = if answer.what % 2 == 0 { 200 } else { answer.status };
                approach.handle_posted(Posted { status, answer: Message::read(Bytes::from(text)).ok() });
            }
            Step::Pipe => {
                assert_ne!(wire, Wire::Streamable);
                ends += 1;
            }
            Step::Met(server) => {
                assert!(protocol != Protocol::Legacy || server.era() == Era::Handshake);
                ends += 1;
            }
            Step::Failed(fault) => {
                assert!(fault.told.contains("`s`"), "{fault:?}");
                ends += 1;
            }
        }
    }
    assert_eq!(ends, 1, "one end");
});
