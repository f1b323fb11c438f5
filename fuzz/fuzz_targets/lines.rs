//! The line cutter: any chunking, the same lines, and never more memory than the limit explains.
//!
//! Odd: which bytes of an overlong line are kept may differ by a byte or two between chunkings,
//! so of those only the kind is compared.

#![no_main]

use arbitrary::Arbitrary;
use landbridge_proto::lines::{Line, Lines};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input {
    limit: u16,
    chunks: Vec<Vec<u8>>,
}

fn cut<'a>(limit: usize, chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
    let mut lines = Lines::new(limit);
    let mut out = Vec::new();
    for chunk in chunks {
        lines.buffer().extend_from_slice(chunk);
        while let Some(line) = lines.next_line() {
            out.push(match line {
                Line::Whole(line) => {
                    assert!(!line.is_empty() && line.len() <= limit && !line.contains(&b'\n'));
                    Some(line.to_vec())
                }
                Line::TooLong { head, tail } => {
                    assert!(head.len() <= 512 && tail.len() <= 512);
                    None
                }
            });
        }
        assert!(lines.buffer().len() <= limit.max(512));
    }
    out
}

fuzz_target!(|input: Input| {
    let limit = usize::from(input.limit % 2_048);
    let whole = input.chunks.concat();
    let pieces = cut(limit, input.chunks.iter().map(Vec::as_slice));
    assert_eq!(pieces, cut(limit, std::iter::once(&whole[..])));
    assert_eq!(pieces, cut(limit, whole.chunks(1)));
});
