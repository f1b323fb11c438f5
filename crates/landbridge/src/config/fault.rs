//! What is wrong with what was written, in the words of a compiler: file, line, column, and the line.
//!
//! ```text
//! gateway.toml:3:1: there is no key `lisen`; did you mean `listen`?
//!   3 | lisen = "127.0.0.1:8808"
//!     | ^^^^^
//! ```
//!
//! All faults of one file are told together.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A place in the text of a file, in bytes.
pub(crate) type Span = Range<usize>;

/// A file that was read.
#[derive(PartialEq)]
pub(crate) struct Source {
    /// What it is called.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) text: String,
}

impl fmt::Debug for Source {
    /// Its text may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Source {
    /// Line and column of a place, counted from 1, the column in characters.
    fn line_and_column(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..floor(&self.text, at)];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }

    /// The line a place is in, and where that line begins.
    fn line(&self, at: usize) -> (usize, &str) {
        let at = floor(&self.text, at);
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        (start, self.text[start..].lines().next().unwrap_or(""))
    }
}

/// The start of the character that `at` is in, so that no place of a parser can be a wrong one.
fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// Where, if it was written in the file.
    pub(crate) at: Option<Span>,
    /// What, and what to do about it.
    pub(crate) said: String,
}

impl Fault {
    /// Something is wrong at that place.
    pub(crate) fn at(at: &Span, said: impl Into<String>) -> Fault {
        Fault { at: Some(at.clone()), said: said.into() }
    }
}

/// Everything that is wrong; never nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    source: Option<Arc<Source>>,
    /// Values of headers and variables, which are shown to nobody.
    secrets: Vec<Span>,
    list: Vec<Fault>,
}

impl Faults {
    pub(crate) fn new(source: Option<Arc<Source>>, secrets: Vec<Span>, mut list: Vec<Fault>) -> Faults {
        // In the order of the file; what is not in it comes first.
        list.sort_by_key(|fault| fault.at.as_ref().map(|at| at.start));
        list.dedup();
        Faults { source, secrets, list }
    }

    /// Each on one line, without what is written there: for a log.
    pub fn brief(&self) -> impl Iterator<Item = String> {
        self.list.iter().map(|fault| self.head(fault))
    }

    fn head(&self, fault: &Fault) -> String {
        match (&self.source, &fault.at) {
            (Some(source), Some(at)) => {
                let (line, column) = source.line_and_column(at.start);
                format!("{}:{line}:{column}: {}", source.name, fault.said)
            }
            (Some(source), None) => format!("{}: {}", source.name, fault.said),
            (None, _) => fault.said.clone(),
        }
    }

    /// The line of a fault, with what is wrong in it underlined.
    fn excerpt(&self, fault: &Fault) -> Option<String> {
        let (source, at) = (self.source.as_ref()?, fault.at.as_ref()?);
        let (start, line) = source.line(at.start);
        let (number, _) = source.line_and_column(at.start);
        let end = start + line.len();
        let (mut shown, mut marks) = (String::new(), String::new());
        for (offset, char) in line.char_indices() {
            let place = start + offset;
            let wide = offset..offset + char.len_utf8();
            let secret = self.secrets.iter().any(|s| s.contains(&place));
            // Tabs would tear the marks from what they mark.
            shown.push(match (secret, char) {
                (true, _) => '·',
                (false, '\t') => ' ',
                (false, char) => char,
            });
            let marked = at.start < start + wide.end && place < at.end.clamp(at.start + 1, end.max(at.start + 1));
            marks.push(if marked { '^' } else { ' ' });
        }
        if at.start >= end {
            marks.push('^');
        }
        let (shown, marks) = clipped(&shown, &marks);
        let (shown, marks, wide) = (shown.trim_end(), marks.trim_end(), number.to_string().len());
        Some(format!("  {number} | {shown}\n  {:wide$} | {marks}", ""))
    }
}

/// Of a long line what is about the marks: there are files without a line break.
fn clipped(line: &str, marks: &str) -> (String, String) {
    const WIDE: usize = 120;
    const BEFORE: usize = 40;
    let length = line.chars().count();
    if length <= WIDE {
        return (line.to_owned(), marks.to_owned());
    }
    let first = marks.chars().take_while(|mark| *mark == ' ').count().saturating_sub(BEFORE).min(length - WIDE);
    let part = |text: &str, wide| text.chars().skip(first).take(wide).collect::<String>();
    let dots = |hidden: bool| if hidden { "…" } else { "" };
    let shown = format!("{}{}{}", dots(first > 0), part(line, WIDE), dots(first + WIDE < length));
    // A mark may stand behind the last character.
    (shown, format!("{}{}", if first > 0 { " " } else { "" }, part(marks, WIDE + 1)))
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.list.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.head(fault))?;
            if let Some(excerpt) = self.excerpt(fault) {
                write!(f, "\n{excerpt}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl From<String> for Faults {
    /// What is wrong and was written in no file.
    fn from(said: String) -> Faults {
        Faults::new(None, Vec::new(), vec![Fault { at: None, said }])
    }
}

impl From<Faults> for String {
    fn from(faults: Faults) -> String {
        faults.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, secrets: Vec<Span>, faults: &[(Span, &str)]) -> String {
        let source = Arc::new(Source { name: "f".into(), text: text.into() });
        Faults::new(Some(source), secrets, faults.iter().map(|(at, said)| Fault::at(at, *said)).collect()).to_string()
    }

    #[test]
    fn a_fault_shows_its_line_and_marks_its_place() {
        assert_eq!(told("a = 1\nbö = 2\n", vec![], &[(11..12, "wrong")]), "f:2:5: wrong\n  2 | bö = 2\n    |     ^");
        assert_eq!(told("ab", vec![], &[(0..2, "wrong")]), "f:1:1: wrong\n  1 | ab\n    | ^^");
    }

    #[test]
    fn a_place_beyond_everything_is_still_a_place() {
        assert_eq!(told("ab", vec![], &[(2..2, "more")]), "f:1:3: more\n  1 | ab\n    |   ^");
        assert!(told("ä", vec![], &[(1..900, "odd")]).starts_with("f:1:1: odd"));
        assert!(told("", vec![], &[(7..9, "odd")]).starts_with("f:1:1: odd"));
    }

    #[test]
    fn of_a_long_line_a_part_is_shown() {
        let text = format!("{}wrong{}", "a".repeat(500), "b".repeat(500));
        let said = told(&text, vec![], &[(500..505, "odd")]);
        let (shown, marks) = (format!("…{}wrong{}…", "a".repeat(40), "b".repeat(75)), format!("{}^^^^^", " ".repeat(41)));
        assert_eq!(said, format!("f:1:501: odd\n  1 | {shown}\n    | {marks}"));
        assert!(told(&text, vec![], &[(1005..1005, "end")]).ends_with(&format!("| {}^", " ".repeat(121))));
        assert!(told(&text, vec![], &[(0..1, "odd")]).ends_with("a…\n    | ^"));
    }

    #[test]
    fn faults_are_told_in_the_order_of_the_file_and_secrets_are_not() {
        let secret = 4..12;
        let said = told("k = \"secret\"\nx", vec![secret], &[(13..14, "two"), (0..1, "one")]);
        assert_eq!(said, "f:1:1: one\n  1 | k = ········\n    | ^\nf:2:1: two\n  2 | x\n    | ^");
    }
}
