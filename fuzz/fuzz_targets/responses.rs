//! A server elsewhere that answers the POST of a call with anything: the call is sent again a few times at most,
//! and ends with an answer that is its own, or with none.

#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::back::link::Key;
use landbridge_proto::back::streamable::{Attempts, Next, Resumption};
use landbridge_proto::message::Kind;
use landbridge_proto::version::Era;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Response<'a> {
    status: u16,
    what: u8,
    id: u8,
    text: &'a [u8],
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    stateless: bool,
    named: bool,
    tool: bool,
    responses: Vec<Response<'a>>,
    breaks: Vec<(bool, Option<u64>)>,
}

const BODIES: [&str; 6] = [
    r#""result":{}"#,
    r#""error":{"code":-32020,"message":""}"#,
    r#""error":{"code":-32022,"message":"","data":{"supported":["2025-11-25",7]}}"#,
    r#""error":{"code":-32000,"message":"no such session"}"#,
    r#""error":{"code":-32601,"message":""}"#,
    r#""error":null,"result":1"#,
];

fuzz_target!(|input: Input<'_>| {
    let era = if input.stateless { Era::Stateless } else { Era::Handshake };
    let method = if input.tool { "tools/call" } else { "tools/list" };
    let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}"}}"#);
    let mut attempts = Attempts::new(Key::of_id(7), era, line.into());
    let (mut renewed, mut looked) = (0, 0);
    for response in &input.responses {
        let body: Bytes = match BODIES.get(usize::from(response.what % 8)) {
            Some(known) => format!(r#"{{"jsonrpc":"2.0","id":{},{known}}}"#, response.id % 16).into(),
            None => Bytes::copy_from_slice(response.text),
        };
        match attempts.handle_response(response.status % 600, input.named, &body) {
            Next::Renew => renewed += 1,
            Next::LookAgain => looked += 1,
            Next::Answered(answer) => match answer.kind {
                Kind::Response(Some(id), _) => assert_eq!(id.as_number(), Some(7)),
                other => panic!("no answer: {other:?}"),
            },
            Next::Ended(_) | Next::MeetAgain(_) | Next::Unanswered => {}
        }
    }
    assert!(renewed <= 1 && looked <= 1);
    assert!(renewed == 0 || input.named);
    assert!(looked == 0 || (input.stateless && input.tool));
    let mut stream = Resumption::new(era);
    let mut in_a_row = 0;
    for (event, retry_ms) in input.breaks {
        if event {
            stream.handle_event();
            in_a_row = 0;
        }
        let wait = stream.handle_broken(Some("e"), retry_ms);
        in_a_row += 1;
        assert!(wait.is_none_or(|wait| wait.as_secs() <= 60 && in_a_row <= 5 && !input.stateless));
    }
});
