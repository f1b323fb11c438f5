//! The stdio child that every bridge in the bench is measured with.
//!
//! Odd: it uses no runtime and no buffered reader. It reads what the pipe holds, answers every
//! whole line of it and writes all the answers at once, so that its own cost stays small next
//! to that of the gateway in front of it. Its second tool, which asks, lives in `ask`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use crate::ask::Asker;
use crate::request::Request;

pub(crate) fn serve(modern: bool) -> io::Result<()> {
    // Plain files instead of std's handles: those lock, and look for line ends, on every write.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut held = vec![0; 256 * 1024];
    let mut filled = 0;
    let mut answers = Vec::with_capacity(256 * 1024);
    let mut asker = Asker::new(modern);
    loop {
        if filled == held.len() {
            held.resize(held.len() * 2, 0);
        }
        let read = input.read(&mut held[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let used = answer_lines(&held[..filled], &mut asker, &mut answers);
        held.copy_within(used..filled, 0);
        filled -= used;
        if !answers.is_empty() {
            output.write_all(&answers)?;
            answers.clear();
        }
    }
}

/// Answers each whole line and says how many bytes they took.
fn answer_lines(bytes: &[u8], asker: &mut Asker, out: &mut Vec<u8>) -> usize {
    let mut used = 0;
    while let Some(length) = bytes[used..].iter().position(|&byte| byte == b'\n') {
        let line = &bytes[used..used + length];
        used += length + 1;
        let before = out.len();
        match serde_json::from_slice::<Request<'_>>(line) {
            Ok(request) => asker.answer(&request, out),
            Err(_) if line.iter().all(u8::is_ascii_whitespace) => {}
            Err(_) => out.extend_from_slice(
                br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"the bridge sent a line that is no JSON-RPC request"}}"#,
            ),
        }
        if out.len() > before {
            out.push(b'\n');
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_answered_together_and_the_rest_is_left() {
        let mut out = Vec::new();
        let bytes =
            b"{\"id\":1,\"method\":\"ping\"}\n\n{\"method\":\"notifications/initialized\"}\n{\"id\":2,\"method\":\"ping\"}\n{\"id\":3";
        let used = answer_lines(bytes, &mut Asker::new(false), &mut out);
        assert_eq!(&bytes[used..], b"{\"id\":3");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}\n"
        );
    }
}
