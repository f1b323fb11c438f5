//! A stream of events, cut anywhere: what comes out is what a reader of the whole text sees.
//!
//! Odd: the second opinion reads as the standard is written, line by line, and is as slow as that.

#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use landbridge_proto::sse::{Decoded, Decoder};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    text: &'a str,
    cuts: Vec<u8>,
    small: bool,
}

/// Events with data as (type, data), the last id, and the time to wait.
type Read = (Vec<(String, String)>, Option<String>, Option<u64>);

fn by_the_book(text: &str) -> Read {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let (mut events, mut last, mut retry) = (Vec::new(), None, None);
    let (mut name, mut data, mut id): (String, String, Option<String>) = Default::default();
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop(); // not ended
    for line in lines {
        if line.is_empty() {
            if id.is_some() {
                last = id.clone();
            }
            if let Some(data) = data.strip_suffix('\n').filter(|data| !data.is_empty()) {
                events.push((if name.is_empty() { "message".into() } else { name.clone() }, data.to_owned()));
            }
            (name, data) = Default::default();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.into(),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => id = Some(value.into()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => retry = value.parse().ok().or(retry),
            _ => {}
        }
    }
    (events, last, retry)
}

fuzz_target!(|input: Input<'_>| {
    let limit = if input.small { 24 } else { 1 << 20 };
    let mut decoder = Decoder::new(limit);
    let (mut events, mut skipped) = (Vec::new(), false);
    let mut rest = input.text.as_bytes();
    let mut cuts = input.cuts.iter();
    while !rest.is_empty() {
        let at = cuts.next().map_or(rest.len(), |cut| usize::from(*cut).min(rest.len()).max(1));
        decoder.feed(&Bytes::copy_from_slice(&rest[..at]));
        rest = &rest[at..];
        while let Some(decoded) = decoder.next_event() {
            match decoded {
                Decoded::Event(event) => {
                    assert!(event.data.len() <= limit);
                    if !event.data.is_empty() {
                        let name = event.name.map_or("message".into(), |name| String::from_utf8_lossy(&name).into_owned());
                        events.push((name, String::from_utf8_lossy(&event.data).into_owned()));
                    }
                }
                Decoded::TooLong { head, tail } => {
                    skipped = true;
                    assert!(head.len() <= 512 && tail.len() <= 512);
                }
            }
        }
    }
    if skipped || input.small {
        return;
    }
    let (expected, last, retry) = by_the_book(input.text);
    assert_eq!(events, expected);
    // Longer ones are no header; an empty one is none.
    if last.as_ref().is_none_or(|last| !last.is_empty() && last.len() <= 1024) {
        assert_eq!(decoder.last_id(), last.as_deref());
    }
    if retry.is_none_or(|retry| retry < 1_000_000) {
        assert_eq!(decoder.retry_ms(), retry);
    }
});
