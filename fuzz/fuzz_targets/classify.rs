//! Any body under any headers: sorted or refused, and what is accepted can go on to a server.
//!
//! Odd: the call is written as a line for a server of either era, since that is where a body that
//! was let through by mistake would do its harm.

#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::back::stdio::request;
use landbridge_proto::bridge;
use landbridge_proto::call::{Call, Client, Outcome, Principal, Server, Transport};
use landbridge_proto::front::stateless;
use landbridge_proto::front::streamable::{self, Field, Head, Incoming, answer, classify, introduce};
use landbridge_proto::message::{Kind, Message};
use landbridge_proto::version::{Era, Revision};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    headers: [u8; 4],
    accept: Option<&'a str>,
    name: &'a str,
    body: &'a [u8],
    result: &'a str,
}

fuzz_target!(|input: Input<'_>| {
    let field = |n: u8, values: [&'static str; 2]| match n % 4 {
        0 => Field::Absent,
        1 => Field::Bad,
        n => Field::One(values[usize::from(n) - 2]),
    };
    let head = Head {
        revision: field(input.headers[0], ["2026-07-28", "2025-06-18"]),
        session: field(input.headers[1], ["s", "t"]),
        method: field(input.headers[2], ["tools/call", "tools/list"]),
        name: if input.headers[3] % 2 == 0 { Field::Absent } else { Field::One(input.name) },
        accept: input.accept,
        content_type: Some("application/json"),
    };
    match classify(&head, Bytes::copy_from_slice(input.body)) {
        Ok(Incoming::Stateless(message, params)) => {
            if let Ok(call) = stateless::read(Principal::default(), Transport::Streamable, Some(&head), message, params) {
                go_on(&call, input.result);
            }
        }
        Ok(Incoming::Initialize(message)) => {
            let _ = introduce(Principal::default(), Transport::Streamable, &message);
        }
        Ok(Incoming::Session(message)) => session(message, input.result),
        Ok(Incoming::Batch(messages)) => messages.into_iter().for_each(|m| session(m, input.result)),
        Ok(Incoming::StatelessNotification) => {}
        Err(refusal) => {
            let text = refusal.fault.message(refusal.id.as_ref());
            serde_json::from_str::<&serde_json::value::RawValue>(&text).expect("a refusal is JSON");
            assert!(matches!(refusal.fault.status(Era::Stateless), 400..=415));
        }
    }
});

fn session(message: Message, result: &str) {
    let client = Arc::new(Client {
        revision: Revision::V2024_11_05,
        principal: Principal::default(),
        transport: Transport::Streamable,
        info: None,
        capabilities: Bytes::from_static(b"{}"),
    });
    if let Ok(call) = streamable::call(message, &client) {
        go_on(&call, result);
    }
}

fn go_on(call: &Call, result: &str) {
    for revision in [Revision::V2025_06_18, Revision::V2026_07_28] {
        let server = Server::read(revision, Bytes::from_static(b"{}"), "s").expect("a hello");
        let line = request(call, &server, 42);
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        let line = Message::read(line.slice(..line.len() - 1)).expect("what was let through is a message");
        let Kind::Request(id, method) = &line.kind else { panic!("a request") };
        assert_eq!((id.as_bytes(), method), (&b"42"[..], &call.method));
        let raw = serde_json::from_str::<&serde_json::value::RawValue>(result).ok();
        if let Some(raw) = raw {
            let given = Outcome::Result(Bytes::copy_from_slice(raw.get().as_bytes()));
            let outcome = bridge::outcome(&call.client, &server, &call.method, given);
            let message = answer(&call.id, &outcome);
            Message::read(message.into()).expect("an answer is a message");
        }
    }
}
