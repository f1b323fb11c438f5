//! What can go wrong in a run, sorted by what the caller should do about it.
//!
//! Odd: most faults are not failures of the bench. A wrong answer is a result, to be counted
//! and shown; only `Setup` stops anything.

use std::fmt;

#[derive(Debug)]
pub(crate) enum Fault {
    /// The run itself cannot go on as asked.
    Setup(String),
    /// The connection or its framing is unusable: open a new one.
    Broken(String),
    /// An answer came and is not the right one: count it and go on.
    Wrong(String),
}

impl Fault {
    pub(crate) fn setup(text: impl Into<String>) -> Self {
        Fault::Setup(text.into())
    }

    pub(crate) fn broken(text: impl Into<String>) -> Self {
        Fault::Broken(text.into())
    }

    pub(crate) fn wrong(text: impl Into<String>) -> Self {
        Fault::Wrong(text.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Setup(text) => f.write_str(text),
            Fault::Broken(text) => write!(f, "broken connection: {text}"),
            Fault::Wrong(text) => write!(f, "wrong answer: {text}"),
        }
    }
}

/// Keeps an example of a wrong answer short enough for a table.
pub(crate) fn excerpt(bytes: &[u8]) -> String {
    excerpt_of(bytes, 160)
}

/// The same for a note, which has more room.
pub(crate) fn excerpt_of(bytes: &[u8], n_chars: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(n_chars).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
