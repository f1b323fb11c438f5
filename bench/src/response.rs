//! An incremental reader of one HTTP/1.1 response, free of any socket.
//!
//! Odd: it knows the few headers the bench needs and skips all others. It is fed whatever bytes
//! have arrived, in pieces of any size, and says how many of them it took.

use crate::fault::{Fault, excerpt};

#[derive(Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) event_stream: bool,
    pub(crate) session: Option<String>,
    /// The body so far, with any chunk framing taken off.
    pub(crate) body: Vec<u8>,
    stage: Stage,
    until_close: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Stage {
    #[default]
    Head,
    Fixed(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailer,
    UntilClose,
    Done,
}

/// More than any honest head or chunk line; beyond it the peer is not speaking HTTP.
const LONGEST_HEAD: usize = 64 * 1024;

impl Response {
    /// Makes ready for the next response and keeps the buffer.
    pub(crate) fn reset(&mut self) {
        self.body.clear();
        self.status = 0;
        self.event_stream = false;
        self.session = None;
        self.stage = Stage::Head;
        self.until_close = false;
    }

    pub(crate) fn has_head(&self) -> bool {
        self.stage != Stage::Head
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Tells the reader that the peer closed; true if that was a proper end.
    pub(crate) fn closed(&mut self) -> bool {
        if self.stage == Stage::UntilClose {
            self.stage = Stage::Done;
        }
        self.is_done()
    }

    /// Takes what it can of `input` and answers how much that was.
    pub(crate) fn advance(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.stage {
                Stage::Done => return Ok(used),
                Stage::Head => {
                    let Some(end) = find(rest, b"\r\n\r\n") else {
                        return if rest.len() > LONGEST_HEAD { Err(not_http(rest)) } else { Ok(used) };
                    };
                    self.read_head(&rest[..end])?;
                    used += end + 4;
                }
                Stage::Fixed(left) => {
                    let taken = self.take(rest, left);
                    used += taken;
                    self.stage = if taken == left { Stage::Done } else { Stage::Fixed(left - taken) };
                    if taken < left {
                        return Ok(used);
                    }
                }
                Stage::ChunkSize => {
                    let Some(end) = find(rest, b"\r\n") else {
                        return if rest.len() > LONGEST_HEAD { Err(not_http(rest)) } else { Ok(used) };
                    };
                    let size = chunk_size(&rest[..end]).ok_or_else(|| not_http(rest))?;
                    used += end + 2;
                    self.stage = if size == 0 { Stage::Trailer } else { Stage::Chunk(size) };
                }
                Stage::Chunk(left) => {
                    let taken = self.take(rest, left);
                    used += taken;
                    self.stage = if taken == left { Stage::ChunkEnd } else { Stage::Chunk(left - taken) };
                    if taken < left {
                        return Ok(used);
                    }
                }
                Stage::ChunkEnd => {
                    if rest.len() < 2 {
                        return Ok(used);
                    }
                    if &rest[..2] != b"\r\n" {
                        return Err(not_http(rest));
                    }
                    used += 2;
                    self.stage = Stage::ChunkSize;
                }
                Stage::Trailer => {
                    let Some(end) = find(rest, b"\r\n") else {
                        return Ok(used);
                    };
                    used += end + 2;
                    if end == 0 {
                        self.stage = Stage::Done;
                    }
                }
                Stage::UntilClose => {
                    self.body.extend_from_slice(rest);
                    return Ok(input.len());
                }
            }
        }
    }

    fn take(&mut self, rest: &[u8], wanted: usize) -> usize {
        let taken = wanted.min(rest.len());
        self.body.extend_from_slice(&rest[..taken]);
        taken
    }

    fn read_head(&mut self, head: &[u8]) -> Result<(), Fault> {
        let text = std::str::from_utf8(head).map_err(|_| not_http(head))?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        self.status = status.ok_or_else(|| not_http(head))?;
        self.stage = Stage::UntilClose;
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                self.stage = Stage::Fixed(value.parse().map_err(|_| not_http(head))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
                self.stage = Stage::ChunkSize;
            } else if name.eq_ignore_ascii_case("content-type") {
                self.event_stream = value.len() >= 17 && value.as_bytes()[..17].eq_ignore_ascii_case(b"text/event-stream");
            } else if name.eq_ignore_ascii_case("mcp-session-id") {
                self.session = Some(value.to_owned());
            }
        }
        // These two never have a body, whatever their head says.
        if matches!(self.status, 204 | 304) {
            self.stage = Stage::Done;
        }
        Ok(())
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The size before any chunk extension.
fn chunk_size(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    usize::from_str_radix(text.split(';').next()?.trim(), 16).ok()
}

fn not_http(bytes: &[u8]) -> Fault {
    Fault::broken(format!("the server sent what is not HTTP/1.1: {}", excerpt(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `size`, the way a slow socket would.
    fn read_in_pieces(bytes: &[u8], size: usize) -> (Response, usize) {
        let mut response = Response::default();
        let (mut used, mut seen) = (0, 0);
        while used < bytes.len() && !response.is_done() {
            seen = (seen + size).min(bytes.len());
            used += response.advance(&bytes[used..seen]).expect("the bytes are HTTP");
        }
        (response, used)
    }

    const JSON: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMCP-Session-Id: abc\r\ncontent-length: 7\r\n\r\n{\"a\":1}HTTP/1.1 202";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n9;x=y\r\ndata: {}\n\r\n1\r\n\n\r\n0\r\n\r\n";

    #[test]
    fn json_in_pieces_of_any_size() {
        for size in 1..JSON.len() {
            let (response, used) = read_in_pieces(JSON, size);
            assert_eq!((response.status, response.event_stream), (200, false));
            assert_eq!(response.session.as_deref(), Some("abc"));
            assert_eq!(response.body, b"{\"a\":1}");
            assert_eq!(&JSON[used..], b"HTTP/1.1 202", "the next response is left alone");
        }
    }

    #[test]
    fn chunked_events_in_pieces_of_any_size() {
        for size in 1..=CHUNKED.len() {
            let (response, used) = read_in_pieces(CHUNKED, size);
            assert!(response.event_stream && response.is_done());
            assert_eq!(response.body, b"data: {}\n\n");
            assert_eq!(used, CHUNKED.len());
        }
    }

    #[test]
    fn an_empty_body_is_done_with_its_head() {
        let (response, _) = read_in_pieces(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 1000);
        assert!(response.is_done() && response.body.is_empty());
        let (response, _) = read_in_pieces(b"HTTP/1.1 204 No Content\r\n\r\n", 1000);
        assert!(response.is_done());
    }

    #[test]
    fn a_body_without_framing_ends_with_the_connection() {
        let (mut response, _) = read_in_pieces(b"HTTP/1.1 200 OK\r\n\r\nabc", 1000);
        assert!(!response.is_done() && response.closed());
        assert_eq!(response.body, b"abc");
        let (mut response, _) = read_in_pieces(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", 1000);
        assert!(!response.closed(), "a fixed length cut short is no proper end");
    }

    #[test]
    fn other_protocols_are_named_as_such() {
        assert!(Response::default().advance(b"SSH-2.0-x\r\n\r\n").is_err());
    }
}
