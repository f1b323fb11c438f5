//! A skill as a tar (POSIX.1-1988, long names as GNU has them): what a shell can unpack without knowing JSON.

use super::market::File;

const BLOCK: usize = 512;

/// The files of a directory of this name.
pub(super) fn tar(dir: &str, files: &[File]) -> Vec<u8> {
    let mut out = Vec::new();
    for File { path, content, is_program } in files {
        let path = format!("{dir}/{path}");
        if path.len() >= 100 {
            let name = format!("{path}\0");
            entry(&mut out, "././@LongLink", b'L', false, name.as_bytes());
        }
        entry(&mut out, &path, b'0', *is_program, content);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

fn entry(out: &mut Vec<u8>, name: &str, kind: u8, is_program: bool, content: &[u8]) {
    let mut head = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(99)]);
    put(100, if is_program { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0");
    // The sum counts itself as spaces.
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}
