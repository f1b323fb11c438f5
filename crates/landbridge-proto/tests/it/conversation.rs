//! Runs the conversations in `tests/cases`: to add a test, add a file of text.
//!
//! ```text
//! # What it is about.
//! front streamable since 2025-06-18 · back handshake · shared        what it pins; all else is tried
//! client → {"id":1,"method":"tools/call","params":{"name":"slow"}}   the client sends
//! back   → {"id":$1,"method":"tools/call",…}                         what the server must get
//! back   ← {"id":$1,"result":{}}                                     the server says
//! client ← {"id":1,"result":{…}}                                     what the client must get
//! ```
//!
//! Before each line that does something, everything that was said must have been expected. `…` is
//! "and more", `$1` the same each time (sent as `$1!` it is spoilt), `` `…` `` exact bytes,
//! `[name: value]` a header (`as`: who calls), `⟨9⟩` nine letters, `3×` three times. An answer may be
//! expected as `json 400 {…}`, as `event {…}`, as `get event {…}` (it answers no request), or without a
//! word as either. A server that `ends` may be met again: `returns`, or `never returns`.
//! A server is reached over a `pipe`, over Streamable HTTP (`http`) or HTTP+SSE (`sse`), unless that is pinned.
//! What servers over HTTP say besides, and where, is in `elsewhere`. A line for which such a server has no
//! stream ends the case in that pairing, unless it is written for them alone.
//! `UPDATE=1` rewrites the expected side from the first pairing, and `CASE=part` runs only the
//! files whose name has that part: write what client and server say, and let the rest be filled in.

mod case;
mod elsewhere;
mod expect;
mod rewrite;
mod words;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::pair::front::FrontKind;
use crate::pair::gate::Wire;
use crate::pair::{Pair, Pairing};
use crate::pattern::{Bound, substitute};
use case::{Case, pairings, parse};
use expect::{expect, unexpected};
use rewrite::{introduce, render, rewrite};
use words::{describe, headers, long, message};

#[test]
fn conversations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "txt"));
    files.sort();
    let only = std::env::var("CASE").unwrap_or_default();
    let update = std::env::var_os("UPDATE").is_some();
    let (mut runs, mut cut, mut failed) = (0, 0, String::new());
    for file in files.iter().filter(|f| f.to_string_lossy().contains(&only)) {
        let name = file.file_stem().unwrap().to_string_lossy();
        let read = || {
            let text = std::fs::read_to_string(file).unwrap();
            let case = parse(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
            (text, case)
        };
        let (text, mut case) = read();
        let pairings = pairings(&case);
        assert!(!pairings.is_empty(), "{name} runs nowhere");
        if update {
            let new = talk(&case, &pairings[0], true).unwrap_or_else(|why| panic!("{name}: {why}"));
            let new = new.unwrap_or_else(|| panic!("{name}: the server has no stream for something it says"));
            rewrite(file, &text, &case, &new);
            case = read().1;
        }
        // A case that fails in one pairing mostly fails in all: the first three tell enough.
        let mut bad = 0;
        for pairing in &pairings {
            runs += 1;
            let talked = std::panic::catch_unwind(|| talk(&case, pairing, false));
            let talked = talked.unwrap_or_else(|panic| Err(panic.downcast_ref::<String>().cloned().unwrap_or("a panic".into())));
            cut += usize::from(matches!(talked, Ok(None)));
            if let Err(why) = talked {
                bad += 1;
                if bad <= 3 {
                    writeln!(failed, "{name}.txt, {why}\n    {pairing:?}").unwrap();
                }
            }
        }
        if bad > 0 {
            writeln!(failed, "{name}.txt failed in {bad} of {} pairings\n", pairings.len()).unwrap();
        }
    }
    println!("{} conversations, {runs} pairings, of which {cut} end where the server has no stream", files.len());
    assert!(failed.is_empty(), "\n{failed}");
}

/// Plays the case. Gives back the lines as they were said, where it may differ from what was
/// expected: an empty text for a line that was expected and did not come. `None`: the server could not say
/// something, and need not.
fn talk(case: &Case, pairing: &Pairing, update: bool) -> Result<Option<Vec<(usize, String)>>, String> {
    let mut pair = Pair::new(pairing, &case.server, &case.client);
    let mut bound = Bound::new();
    let mut said: Vec<(usize, String)> = Vec::new();
    for (at, line) in &case.lines {
        let wrong = |why: String| format!("line {}: {line}\n    {why}", at + 1);
        let expects = line.split_whitespace().next().zip(line.split_whitespace().nth(1));
        if let Some((who, arrow)) = expects
            && (arrow == if who == "back" { "→" } else { "←" } || line == "back respawns")
        {
            let (times, expected) = times(line.split_once(['→', '←']).map_or("respawns", |(_, e)| e.trim()));
            for _ in 0..times {
                match expect(&mut pair, who, expected, &mut bound) {
                    Ok(()) => said.push((*at, line.clone())),
                    Err((actual, _)) if update => said.push((*at, actual.map_or(String::new(), |a| render(who, &a, &bound)))),
                    Err((actual, why)) => return Err(wrong(format!("{why}\n    got {}", actual.unwrap_or("nothing".into())))),
                }
            }
            continue;
        }
        for (who, rest) in unexpected(&mut pair) {
            if !update {
                return Err(wrong(format!("before it, {who} got also {rest}")));
            }
            said.push((*at, introduce(&who, &rest, &mut bound)));
        }
        act(&mut pair, line, &case.client, &bound).map_err(wrong)?;
        pair.settle();
        if pair.gate.unsayable {
            let need_not = case.backs.iter().any(|(_, wire)| *wire == Wire::Pipe);
            return if need_not { Ok(None) } else { Err(wrong("there is no stream for it".into())) };
        }
        said.push((*at, line.clone()));
    }
    let end = case.lines.last().map_or(0, |(at, _)| at + 1);
    for (who, rest) in unexpected(&mut pair) {
        if !update {
            return Err(format!("at the end, {who} got also {rest}"));
        }
        said.push((end, introduce(&who, &rest, &mut bound)));
    }
    match pair.left_over() {
        left if left.is_empty() => Ok(Some(said)),
        left => Err(format!("long after the end there was still {}", left.join(", "))),
    }
}

fn times(text: &str) -> (usize, &str) {
    match text.split_once("× ") {
        Some((n, rest)) if n.parse::<usize>().is_ok() => (n.parse().unwrap_or(1), rest),
        _ => (1, text),
    }
}

/// Does what a line says.
fn act(pair: &mut Pair, line: &str, client: &str, bound: &Bound) -> Result<(), String> {
    let (who, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    match (who, rest) {
        ("wait", time) => {
            let (number, unit) = time.split_at(time.find(|c: char| !c.is_ascii_digit()).unwrap_or(time.len()));
            let number: u64 = number.parse().map_err(|_| format!("{time} is no time"))?;
            pair.wait(if unit == "ms" { Duration::from_millis(number) } else { Duration::from_secs(number) });
        }
        ("gateway", "finishes") => pair.fronts.values_mut().for_each(|f| f.finish_listens()),
        ("strays", count) => {
            let there = std::mem::take(&mut pair.gate.strays);
            if count != there.len().to_string() {
                return Err(format!("it was {there:?}"));
            }
        }
        ("back", "ends") => pair.gate.hear_end(),
        ("back", "returns") => pair.start_again(),
        ("back", "never returns") => pair.give_up(),
        ("back", said) => {
            let (times, said) = times(said.strip_prefix('←').ok_or("no such thing")?.trim());
            let lines: Result<Vec<String>, String> = said.split(" ⏎ ").map(|one| substitute(one, bound)).collect();
            let lines = lines?;
            for _ in 0..times {
                if pair.gate.wire == Wire::Pipe {
                    let lines = lines.iter().map(|one| long(&message(one)) + "\n");
                    pair.gate.hear(lines.collect::<String>().as_bytes());
                } else {
                    for one in &lines {
                        if !elsewhere::say(&mut pair.gate, one)? {
                            pair.gate.say(&long(&message(one)));
                        }
                    }
                }
                pair.settle();
            }
        }
        (name, doing) => {
            let now = pair.gate.now;
            let (front, gate) = pair.front(name);
            match doing.split_once(char::is_whitespace).unwrap_or((doing, "")) {
                ("→", body) => {
                    let (times, body) = times(body.trim());
                    let (headers, body) = headers(body);
                    let exact = body.starts_with('`');
                    let body = long(&message(&substitute(body, bound)?));
                    let body = if front.kind == FrontKind::Stateless && !exact { describe(&body, client) } else { body };
                    for _ in 0..times {
                        let (front, gate) = pair.front(name);
                        front.post(gate, &headers, &body);
                        pair.settle();
                    }
                }
                ("opens", _) => front.open_standalone(),
                ("drops", "get") => front.drop_standalone(now),
                ("drops", _) => front.drop_exchanges(gate),
                ("resumes", id) => front.resume(Some(id).filter(|i| !i.is_empty()), now),
                ("cancels", id) => front.cancel(gate, id),
                ("stalls", _) => front.stalled = true,
                ("reads", _) => front.read_on(),
                ("ends", _) => front.end(gate),
                _ => return Err("no such thing".into()),
            }
        }
    }
    Ok(())
}
