//! One message a line: the framing of stdio.

use bytes::{Buf, Bytes, BytesMut};

/// What comes out of a pipe.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// One line without its end; never empty.
    Whole(Bytes),
    /// A line beyond the limit was skipped: its first and last bytes, in which the id of the
    /// request it answers may be found.
    TooLong {
        /// The first bytes.
        head: Bytes,
        /// The last bytes.
        tail: Bytes,
    },
}

/// How much of an overlong line is kept at either end.
const KEPT: usize = 512;

/// Cuts a byte stream into lines of at most `limit` bytes, copying nothing.
#[derive(Debug)]
pub struct Lines {
    buf: BytesMut,
    scanned: usize,
    limit: usize,
    /// The first bytes of a line that is being skipped.
    skipping: Option<Bytes>,
}

impl Lines {
    /// Lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Lines {
        Lines { buf: BytesMut::new(), scanned: 0, limit, skipping: None }
    }

    /// Where to read to. Grows to hold what is needed and no more.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.buf.reserve(8 * 1024);
        &mut self.buf
    }

    /// The next line that has wholly arrived.
    pub fn next_line(&mut self) -> Option<Line> {
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.buf[self.scanned..]) else {
                self.scanned = self.buf.len();
                self.skip_if_too_long();
                return None;
            };
            let mut line = self.buf.split_to(self.scanned + end + 1);
            self.scanned = 0;
            line.truncate(line.len() - 1);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            if let Some(head) = self.skipping.take() {
                return Some(Line::TooLong { head, tail: last(&line) });
            }
            if line.len() > self.limit {
                return Some(Line::TooLong { head: first(&line), tail: last(&line) });
            }
            if !line.iter().all(u8::is_ascii_whitespace) {
                return Some(Line::Whole(line.freeze()));
            }
        }
    }

    fn skip_if_too_long(&mut self) {
        // The last byte may be half of a line end.
        let half = usize::from(self.buf.last() == Some(&b'\r'));
        if self.skipping.is_none() && self.buf.len() > self.limit + half {
            self.skipping = Some(first(&self.buf));
        }
        if self.skipping.is_some() && self.buf.len() > KEPT {
            self.buf.advance(self.buf.len() - KEPT);
            self.scanned = KEPT;
            if self.buf.capacity() > 64 * 1024 {
                self.buf = BytesMut::from(&self.buf[..]);
            }
        }
    }
}

fn first(line: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&line[..line.len().min(KEPT)])
}

fn last(line: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&line[line.len().saturating_sub(KEPT)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(limit: usize, chunks: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::new(limit);
        let mut out = Vec::new();
        for chunk in chunks {
            lines.buffer().extend_from_slice(chunk);
            while let Some(line) = lines.next_line() {
                out.push(line);
            }
        }
        out
    }

    #[test]
    fn cuts_at_any_chunk_border() {
        let whole = b"{\"a\":1}\r\n\n  \n{\"b\":2}\n{\"unfinished\"";
        let expected = vec![Line::Whole(Bytes::from_static(b"{\"a\":1}")), Line::Whole(Bytes::from_static(b"{\"b\":2}"))];
        for at in 0..whole.len() {
            assert_eq!(cut(100, &[&whole[..at], &whole[at..]]), expected);
        }
    }

    #[test]
    fn skips_an_overlong_line_and_goes_on() {
        let long = vec![b'x'; 10_000];
        for chunk in [7, 100, 9_000, 20_000] {
            let text = [&long[..], b"tail\nnext\n"].concat();
            let chunks: Vec<&[u8]> = text.chunks(chunk).collect();
            let out = cut(1_000, &chunks);
            assert_eq!(out.len(), 2);
            assert!(matches!(&out[0], Line::TooLong { head, tail } if head.len() == KEPT && tail.ends_with(b"xtail")));
            assert_eq!(out[1], Line::Whole(Bytes::from_static(b"next")));
        }
    }

    #[test]
    fn skipping_needs_no_memory() {
        let mut lines = Lines::new(1_000);
        for _ in 0..10_000 {
            lines.buffer().extend_from_slice(&[b'x'; 1_000]);
            assert_eq!(lines.next_line(), None);
            assert!(lines.buf.len() <= 1_000 && lines.buf.capacity() <= 64 * 1024);
        }
    }
}
