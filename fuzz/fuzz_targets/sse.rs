//! Event ids: whatever parses is written back, and nothing else names an event.
//!
//! Odd: the number may be spelled with leading zeros by a client, so the way back is compared by
//! value.

#![no_main]

use landbridge_proto::sse::{self, EventId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(id) = EventId::parse(text) {
        assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        let event = sse::event(Some(id), Some("message"), b"{}");
        assert_eq!(event.iter().filter(|b| **b == b'\n').count(), 4);
    }
    let line: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    let event = sse::event(None, None, line.as_bytes());
    assert_eq!(&event[..], format!("data: {line}\n\n").as_bytes());
});
