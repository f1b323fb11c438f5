//! Server-sent events, as MCP uses them (WHATWG HTML, "Server-sent events").

mod decoder;

pub use decoder::{Decoded, Decoder, Event};

use bytes::Bytes;

/// A comment that keeps proxies from cutting an idle stream.
pub const COMMENT: &[u8] = b": keep-alive\n\n";

/// The place of an event in a session: which stream it was for, and the how-manieth of the
/// session it is. On the wire `<stream>-<seq>`, so that the id names its stream (2025-11-25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The stream.
    pub stream: u32,
    /// The event.
    pub seq: u64,
}

impl EventId {
    /// Reads an id of ours; anything else is none.
    pub fn parse(text: &str) -> Option<EventId> {
        let (stream, seq) = text.split_once('-')?;
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        (digits(stream) && digits(seq)).then_some(())?;
        Some(EventId { stream: stream.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl std::fmt::Display for EventId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.stream, self.seq)
    }
}

/// One message as an event. `message` must be on one line.
pub fn event(id: Option<EventId>, name: Option<&str>, message: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(message.len() + 64);
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(message);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// One message as an event with a number for an id. `message` must be on one line.
pub fn numbered(id: u64, message: &[u8]) -> Bytes {
    [format!("event: message\nid: {id}\ndata: ").as_bytes(), message, b"\n\n"].concat().into()
}

/// The event that gives a client an id to come back with, before there is anything to say
/// (2025-11-25, "Sending Messages to the Server"), with the time to wait before it does.
pub fn priming(id: EventId, retry_ms: u64) -> Bytes {
    Bytes::from(format!("id: {id}\nretry: {retry_ms}\ndata: \n\n"))
}
