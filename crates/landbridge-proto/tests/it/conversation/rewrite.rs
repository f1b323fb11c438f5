//! `UPDATE=1`: the file as the conversation went.

use std::fmt::Write as _;
use std::path::Path;

use landbridge_proto::message::{Kind, Message};

use super::case::Case;
use crate::pattern::{Bound, generalise};

pub(super) fn render(who: &str, actual: &str, bound: &Bound) -> String {
    let arrow = if who == "back" { "→" } else { "←" };
    if actual == "respawns" { "back respawns".into() } else { format!("{who:<6} {arrow} {}", generalise(actual, bound)) }
}

/// A line nobody expected; the number of a request in it gets the next free placeholder, and so
/// does a state.
pub(super) fn introduce(who: &str, actual: &str, bound: &mut Bound) -> String {
    let message = Message::read(actual.to_owned().into());
    if who == "back"
        && let Ok(Kind::Request(id, _)) = message.map(|m| m.kind)
        && let Some(number) = id.as_number()
        && !bound.values().any(|v| *v == number.to_string())
    {
        let free = (1..).map(|n: u32| n.to_string()).find(|n| !bound.contains_key(n)).unwrap();
        bound.insert(free, number.to_string());
    }
    if who != "back"
        && let Some((_, behind)) = actual.split_once("\"requestState\":")
        && let Some(state) = behind.get(..behind.find([',', '}']).unwrap_or(0)).filter(|s| !bound.values().any(|v| v == s))
    {
        let free = (1..).map(|n: u32| format!("state{n}")).find(|n| !bound.contains_key(n)).unwrap();
        bound.insert(free, state.to_owned());
    }
    render(who, actual, bound)
}

/// The file with what was said in the place of what was expected; comments and pins stay.
pub(super) fn rewrite(file: &Path, text: &str, case: &Case, said: &[(usize, String)]) {
    let spoken: Vec<usize> = case.lines.iter().map(|(at, _)| *at).collect();
    let mut out = String::new();
    for (at, line) in text.lines().chain(std::iter::once("")).enumerate() {
        let mut before = None;
        for (_, new) in said.iter().filter(|(there, _)| *there == at) {
            if !new.is_empty() && before != Some(new) {
                writeln!(out, "{}", if new.trim() == line.trim() { line } else { new }).unwrap();
            }
            before = Some(new);
        }
        if !spoken.contains(&at) && at < text.lines().count() {
            writeln!(out, "{line}").unwrap();
        }
    }
    if out != text {
        std::fs::write(file, out).unwrap();
    }
}
