//! Lines of a pipe at any chunking, and events of a stream read back by a reader of another hand.

use landbridge_proto::lines::{Line, Lines};
use landbridge_proto::sse::{self, EventId};
use proptest::prelude::*;

use crate::events;

/// What a limit may cost on top of itself: the room to read to, doubled by growth, and what is
/// kept of a line that is skipped.
const SLACK: usize = 64 * 1024;

fn cut<'a>(limit: usize, chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Line>, usize) {
    let mut lines = Lines::new(limit);
    let (mut out, mut most) = (Vec::new(), 0);
    for chunk in chunks {
        lines.buffer().extend_from_slice(chunk);
        most = most.max(lines.buffer().capacity());
        out.extend(std::iter::from_fn(|| lines.next_line()));
    }
    (out, most)
}

/// Cut by the letter: split at line ends, one carriage return off, nothing but white space is none.
fn reference(limit: usize, text: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut pieces: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    pieces.pop();
    let pieces = pieces.into_iter().map(|p| p.strip_suffix(b"\r").unwrap_or(p));
    let lines = pieces.filter(|p| p.len() > limit || !p.iter().all(u8::is_ascii_whitespace));
    lines.map(|p| (p.len() <= limit).then(|| p.to_vec())).collect()
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => "[a-z{}\" ]{0,30}".prop_map(String::into_bytes),
        2 => Just(b"\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        1 => (550..700_usize).prop_map(|n| vec![b'x'; n]),
        1 => (2_000..9_000_usize).prop_map(|n| vec![b'y'; n]),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|p| p.concat())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_lines(text in text(), sizes in prop::collection::vec(1..900_usize, 1..8), limit in 600..1_200_usize) {
        let mut chunks = Vec::new();
        let mut rest = &text[..];
        for size in sizes.iter().cycle() {
            let (chunk, behind) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        let (lines, most) = cut(limit, chunks.into_iter());
        let expected = reference(limit, &text);
        let plain: Vec<Option<Vec<u8>>> = lines.iter().map(|l| match l {
            Line::Whole(line) => Some(line.to_vec()),
            Line::TooLong { .. } => None,
        }).collect();
        prop_assert_eq!(plain, expected);
        for line in &lines {
            if let Line::TooLong { head, tail } = line {
                prop_assert_eq!(head.len(), 512);
                prop_assert!(tail.len() <= 512 && text.windows(tail.len().max(1)).any(|w| w == tail));
            }
        }
        prop_assert!(most <= 2 * limit + SLACK, "{} bytes for lines of {}", most, limit);
    }

    /// The end of a line may be cut in two.
    #[test]
    fn a_line_at_the_limit_is_whole(limit in 512..600_usize, over in -2..=2_isize, at in 0..=2_usize) {
        let text = [vec![b'z'; limit.saturating_add_signed(over)], b"\r\n".to_vec()].concat();
        let (first, second) = text.split_at(text.len() - at);
        let (lines, _) = cut(limit, [first, second].into_iter());
        prop_assert_eq!(matches!(&lines[..], [Line::Whole(_)]), over <= 0, "{:?}", lines);
    }

    #[test]
    fn skipping_needs_no_memory(limit in 600..5_000_usize, chunks in prop::collection::vec(1..20_000_usize, 1..30)) {
        let long = vec![b'x'; 20_000];
        let (_, most) = cut(limit, chunks.iter().map(|n| &long[..*n]));
        prop_assert!(most <= 2 * (limit + 20_000) + SLACK);
    }

    /// Whatever is written as an event is read back, whole and as one.
    #[test]
    fn events_are_read_back(stream in any::<u32>(), seq in any::<u64>(), with_id in any::<bool>(), named in any::<bool>(), message in "[^\r\n]{1,60}") {
        let id = with_id.then_some(EventId { stream, seq });
        let frame = sse::event(id, named.then_some("message"), message.as_bytes());
        let read = events::read(&frame);
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(read[0].data.as_deref(), Some(message.as_str()));
        prop_assert_eq!(read[0].id.as_deref().and_then(EventId::parse), id);
        prop_assert_eq!(read[0].name.as_deref(), named.then_some("message"));
    }

    #[test]
    fn priming_is_an_id_and_no_message(stream in any::<u32>(), seq in any::<u64>(), retry in any::<u64>()) {
        let id = EventId { stream, seq };
        let read = events::read(&sse::priming(id, retry));
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(read[0].data.as_deref(), Some(""));
        prop_assert_eq!(read[0].retry, Some(retry));
        prop_assert_eq!(read[0].id.as_deref().and_then(EventId::parse), Some(id));
        prop_assert_eq!(events::read(sse::COMMENT), [events::Event { comments: 1, ..Default::default() }]);
    }

    /// An id is ours or none: signs, spaces and other numbers are not taken for one.
    #[test]
    fn foreign_event_ids_are_none(text in "[-+0-9a-f ]{0,24}") {
        if let Some(id) = EventId::parse(&text) {
            let (stream, seq) = text.split_once('-').unwrap();
            prop_assert_eq!((stream.parse(), seq.parse()), (Ok(id.stream), Ok(id.seq)));
            prop_assert!(text.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
        }
    }
}
