//! Reading server-sent events, in every form that is legal (WHATWG HTML, "Parsing an event stream").
//!
//! Bytes go in as they come, events come out. Lines may end in LF, CR or CRLF, even within one
//! stream; a CR at the end of what has arrived ends its line at once, and an LF that follows belongs to
//! it. An event whose data is one line, which is how MCP servers write them, is not copied.

use bytes::{Buf as _, Bytes, BytesMut};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `event`; `message` where nothing was said.
    pub name: Option<Bytes>,
    /// `data`, its lines joined by LF. Empty in an event that only carries an id.
    pub data: Bytes,
}

impl Event {
    /// Whether it carries a message: the type of event that MCP uses, and something in it.
    pub fn is_message(&self) -> bool {
        self.name.as_ref().is_none_or(|name| name.as_ref() == b"message") && !self.data.is_empty()
    }
}

/// What comes out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An event.
    Event(Event),
    /// An event beyond the limit was skipped: the first and last bytes of its data.
    TooLong {
        /// The first bytes.
        head: Bytes,
        /// The last bytes.
        tail: Bytes,
    },
}

/// How much of an overlong event is kept at either end.
const KEPT: usize = 512;
/// Longest id that is remembered: a server gets it back in a header.
const MAX_ID: usize = 1024;

/// Cuts a byte stream into events whose data is at most `limit` bytes.
#[derive(Debug)]
pub struct Decoder {
    buf: BytesMut,
    scanned: usize,
    limit: usize,
    /// Whether the first bytes, which may be a byte order mark, are still to come.
    fresh: bool,
    /// The last line ended in CR: an LF that follows is no line of its own.
    after_cr: bool,
    /// The line in `buf` is beyond the limit, and being skipped.
    skipping: bool,
    event: Building,
    last_id: Option<Box<str>>,
    retry_ms: Option<u64>,
}

/// The event that is being read.
#[derive(Debug, Default)]
struct Building {
    name: Option<Bytes>,
    data: Data,
    id: Option<Box<str>>,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(Vec<u8>),
    TooLong {
        head: Bytes,
        tail: Bytes,
    },
}

impl Decoder {
    /// A decoder for a stream that begins now.
    pub fn new(limit: usize) -> Decoder {
        Decoder {
            buf: BytesMut::new(),
            scanned: 0,
            limit,
            fresh: true,
            after_cr: false,
            skipping: false,
            event: Building::default(),
            last_id: None,
            retry_ms: None,
        }
    }

    /// More of the stream has arrived.
    pub fn feed(&mut self, bytes: &Bytes) {
        self.buf.extend_from_slice(bytes);
    }

    /// The id to come back with: that of the last event that had one.
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }

    /// How long to wait before coming back, if the server said so.
    pub fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// The connection broke, and the stream goes on with another one: what had half arrived is gone, what
    /// is known of where it stood is kept.
    pub fn reconnected(&mut self) {
        let fresh = Decoder::new(self.limit);
        *self = Decoder { last_id: self.last_id.take(), retry_ms: self.retry_ms, ..fresh };
    }

    /// The next event that has wholly arrived.
    pub fn next_event(&mut self) -> Option<Decoded> {
        loop {
            let line = self.next_line()?;
            if line.is_empty() {
                if let Some(event) = self.dispatch() {
                    return Some(event);
                }
            } else {
                self.field(line);
            }
        }
    }

    fn next_line(&mut self) -> Option<Bytes> {
        if self.fresh {
            const BOM: &[u8] = b"\xEF\xBB\xBF";
            let n = self.buf.len().min(BOM.len());
            if self.buf[..n] == BOM[..n] {
                if n < BOM.len() {
                    return None;
                }
                self.buf.advance(n);
            }
            self.fresh = false;
        }
        if self.after_cr && !self.buf.is_empty() {
            self.after_cr = false;
            if self.buf[0] == b'\n' {
                self.buf.advance(1);
            }
        }
        let Some(end) = memchr::memchr2(b'\n', b'\r', &self.buf[self.scanned..]) else {
            self.scanned = self.buf.len();
            self.skip_if_too_long();
            return None;
        };
        let mut line = self.buf.split_to(self.scanned + end + 1);
        self.scanned = 0;
        self.after_cr = line.last() == Some(&b'\r');
        line.truncate(line.len() - 1);
        if std::mem::take(&mut self.skipping) {
            if let Data::TooLong { tail, .. } = &mut self.event.data {
                *tail = last(&line);
            }
            // The rest of a line that was skipped is no line.
            return self.next_line();
        }
        Some(line.freeze())
    }

    /// A line that cannot become part of any event is not kept.
    fn skip_if_too_long(&mut self) {
        const FIELD: usize = "data: ".len();
        if !self.skipping && self.buf.len() > self.limit + FIELD {
            self.skipping = true;
            if self.buf.starts_with(b"data:") {
                let value = value_of(&self.buf[b"data:".len()..]);
                self.event.data = Data::TooLong { head: first(value), tail: Bytes::new() };
            }
        }
        if self.skipping && self.buf.len() > KEPT {
            self.buf.advance(self.buf.len() - KEPT);
            self.scanned = KEPT;
            if self.buf.capacity() > 64 * 1024 {
                self.buf = BytesMut::from(&self.buf[..]);
            }
        }
    }

    fn field(&mut self, line: Bytes) {
        let (name, value) = match memchr::memchr(b':', &line) {
            Some(0) => return, // a comment
            Some(at) => (&line[..at], line.slice_ref(value_of(&line[at + 1..]))),
            None => (&line[..], Bytes::new()),
        };
        match name {
            b"data" => self.data(value),
            b"event" => self.event.name = (!value.is_empty()).then_some(value),
            b"id" => {
                // A NUL would not survive the way back; neither would what no header can carry.
                let id = std::str::from_utf8(&value).ok().filter(|id| id.len() <= MAX_ID && !id.contains('\0'));
                if let Some(id) = id {
                    self.event.id = Some(id.into());
                }
            }
            b"retry" => {
                let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
                let ms = std::str::from_utf8(&value).ok().filter(|_| digits).and_then(|ms| ms.parse().ok());
                self.retry_ms = ms.or(self.retry_ms);
            }
            _ => {}
        }
    }

    fn data(&mut self, value: Bytes) {
        let event = &mut self.event;
        event.data = match std::mem::take(&mut event.data) {
            Data::None if value.len() <= self.limit => Data::One(value),
            Data::None => Data::TooLong { head: first(&value), tail: last(&value) },
            Data::One(one) if one.len() + 1 + value.len() <= self.limit => {
                let mut many = Vec::with_capacity(one.len() + 1 + value.len());
                many.extend_from_slice(&one);
                many.push(b'\n');
                many.extend_from_slice(&value);
                Data::Many(many)
            }
            Data::One(one) => Data::TooLong { head: first(&one), tail: last(&value) },
            Data::Many(mut many) if many.len() + 1 + value.len() <= self.limit => {
                many.push(b'\n');
                many.extend_from_slice(&value);
                Data::Many(many)
            }
            Data::Many(many) => Data::TooLong { head: first(&many), tail: last(&value) },
            Data::TooLong { head, .. } => Data::TooLong { head, tail: last(&value) },
        };
    }

    /// The event is complete.
    fn dispatch(&mut self) -> Option<Decoded> {
        let Building { name, data, id } = std::mem::take(&mut self.event);
        if let Some(id) = id {
            // An empty id means that there is none to come back with.
            self.last_id = (!id.is_empty()).then_some(id);
        }
        Some(match data {
            Data::None => return None,
            Data::One(data) => Decoded::Event(Event { name, data }),
            Data::Many(data) => Decoded::Event(Event { name, data: data.into() }),
            Data::TooLong { head, tail } => Decoded::TooLong { head, tail },
        })
    }
}

/// A field's value: one space in front belongs to the colon.
fn value_of(rest: &[u8]) -> &[u8] {
    rest.strip_prefix(b" ").unwrap_or(rest)
}

fn first(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&data[..data.len().min(KEPT)])
}

fn last(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&data[data.len().saturating_sub(KEPT)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]], limit: usize) -> (Vec<(String, String)>, Decoder) {
        let mut decoder = Decoder::new(limit);
        let mut out = Vec::new();
        for chunk in chunks {
            decoder.feed(&Bytes::copy_from_slice(chunk));
            while let Some(decoded) = decoder.next_event() {
                let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                out.push(match decoded {
                    Decoded::Event(e) => (e.name.map_or("message".into(), |n| text(&n)), text(&e.data)),
                    Decoded::TooLong { head, tail } => ("!".into(), format!("{}…{}", text(&head), text(&tail))),
                });
            }
        }
        (out, decoder)
    }

    fn data(chunks: &[&[u8]]) -> Vec<String> {
        decode(chunks, 1000).0.into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn every_kind_of_line_end_ends_a_line() {
        for stream in ["data: a\n\ndata: b\n\n", "data: a\r\rdata: b\r\r", "data: a\r\n\r\ndata: b\r\n\r\n", "data: a\r\n\ndata: b\n\r\n"] {
            assert_eq!(data(&[stream.as_bytes()]), ["a", "b"], "{stream:?}");
            let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
            assert_eq!(data(&bytes), ["a", "b"], "{stream:?} byte by byte");
        }
    }

    #[test]
    fn a_bare_cr_ends_an_event_before_anything_follows() {
        assert_eq!(data(&[b"data: a\r\r"]), ["a"]);
        assert_eq!(data(&[b"data: a\r", b"\n", b"\r", b"\n", b"data: b\n\n"]), ["a", "b"]);
    }

    #[test]
    fn a_mark_of_byte_order_is_no_part_of_the_first_line() {
        assert_eq!(data(&[b"\xEF\xBB\xBFdata: a\n\n"]), ["a"]);
        assert_eq!(data(&[b"\xEF", b"\xBB", b"\xBFdata: a\n\n"]), ["a"]);
        // A second one is, and makes the field unknown.
        assert!(data(&[b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\n"]).is_empty());
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        let (events, decoder) = decode(
            &[b": comment\nevent: add\ndata:YHOO\ndata: +2\ndata\nfoo: bar\nid: 7\nretry: 20\nretry: 2x\n\ndata: \n\nevent: lost\n\n"],
            1000,
        );
        assert_eq!(events, [("add".into(), "YHOO\n+2\n".into()), ("message".into(), String::new())]);
        assert_eq!((decoder.last_id(), decoder.retry_ms()), (Some("7"), Some(20)));
    }

    #[test]
    fn an_id_counts_from_the_end_of_its_event_on() {
        let (_, decoder) = decode(&[b"id: 1\ndata: a\n\nid: 2\ndata: b\n"], 1000);
        assert_eq!(decoder.last_id(), Some("1"));
        let (_, decoder) = decode(&[b"id: 1\n\nid: a\0b\n\n"], 1000);
        assert_eq!(decoder.last_id(), Some("1"));
        let (_, decoder) = decode(&[b"id: 1\n\nid\n\n"], 1000);
        assert_eq!(decoder.last_id(), None);
    }

    #[test]
    fn split_characters_come_together() {
        let text = "data: grün 世界 🦀\n\n".as_bytes();
        for at in 0..text.len() {
            assert_eq!(data(&[&text[..at], &text[at..]]), ["grün 世界 🦀"]);
        }
    }

    #[test]
    fn what_is_beyond_the_limit_is_skipped_and_the_next_event_is_read() {
        let long = [b"data: ".as_slice(), &b"x".repeat(2_000_000), b"END\n\ndata: b\n\n"].concat();
        let chunks: Vec<&[u8]> = long.chunks(1000).collect();
        let (events, decoder) = decode(&chunks, 1000);
        assert_eq!(events.len(), 2);
        assert!(events[0].0 == "!" && events[0].1.starts_with("xxx") && events[0].1.ends_with("END"));
        assert_eq!(events[1].1, "b");
        assert!(decoder.buf.capacity() < 100_000);
        // Many lines that are short, and a comment without end.
        let (events, _) = decode(&[&b"data: 0123456789\n".repeat(100), b"\n:", &b"c".repeat(5000), b"\ndata: b\n\n"], 1000);
        assert_eq!((events.len(), events[1].1.as_str()), (2, "b"));
        assert_eq!(decode(&[b"data: 12345\n\n"], 5).0[0].1, "12345");
        assert_eq!(decode(&[b"data:12345\n\n"], 4).0[0].0, "!");
    }
}
