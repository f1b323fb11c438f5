//! Finds one server-sent event at the start of a buffer.
//!
//! Odd: it does not strip a byte order mark nor read `id` and `retry`, which no row needs. A
//! block without data, such as a comment, comes back as an event with no data, to be passed over.

use std::borrow::Cow;

#[derive(Debug, PartialEq)]
pub(crate) struct Event<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) data: Cow<'a, [u8]>,
}

/// The first whole event and how many bytes it took, or nothing if its end has not come yet.
pub(crate) fn next_event(buffer: &[u8]) -> Option<(Event<'_>, usize)> {
    let mut event = Event { name: b"message", data: Cow::Borrowed(b"") };
    let mut has_data = false;
    let mut at = 0;
    loop {
        let length = buffer[at..].iter().position(|&byte| byte == b'\n')?;
        let line = &buffer[at..at + length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        at += length + 1;
        if line.is_empty() {
            return Some((event, at));
        }
        if let Some(value) = field(line, b"data") {
            if has_data {
                // Only the second line of data costs a copy; JSON comes on one.
                let data = event.data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            } else {
                event.data = Cow::Borrowed(value);
                has_data = true;
            }
        } else if let Some(value) = field(line, b"event") {
            event.name = value;
        }
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_found_only_when_whole() {
        let bytes = b"event: endpoint\r\ndata: /messages?x=1\r\n\r\ndata:{}\n\n";
        let (event, used) = next_event(bytes).expect("the first event is whole");
        assert_eq!((event.name, &*event.data), (&b"endpoint"[..], &b"/messages?x=1"[..]));
        for cut in 0..used {
            assert_eq!(next_event(&bytes[..cut]), None);
        }
        let (event, _) = next_event(&bytes[used..]).expect("so is the second");
        assert_eq!((event.name, &*event.data), (&b"message"[..], &b"{}"[..]));
    }

    #[test]
    fn comments_pass_by_and_lines_of_data_join() {
        let (event, used) = next_event(b": hello\n\ndata: a\ndata: b\n\n").expect("a comment block");
        assert!(event.data.is_empty());
        assert_eq!(used, 9);
        let (event, _) = next_event(b"data: a\ndata: b\n\n").expect("two lines of data");
        assert_eq!(&*event.data, b"a\nb");
    }
}
