//! Writes what was measured: one aligned table for the terminal, one file of Markdown for the tree.
//!
//! Odd: both are the same Markdown. The columns are padded, so the file reads well unrendered
//! and the terminal needs no format of its own.

use std::fmt::Write;

use crate::aims::aims;
use crate::book::Book;
use crate::plan::NOT_APPLICABLE;
use crate::sample::Sample;

/// All tables without the machine and the raw rows.
pub(crate) fn summary(book: &Book) -> String {
    let mut text = String::new();
    rows(book, &mut text);
    idle(book, &mut text);
    ballast(book, &mut text);
    startup(book, &mut text);
    wear(book, &mut text);
    let mut table = vec![cells(["aim", "limit", "measured", "met"])];
    for aim in aims(book) {
        let met = aim.met.map_or("-", |met| if met { "yes" } else { "NO" });
        table.push(vec![aim.work, aim.limit, aim.measured, met.into()]);
    }
    // A verdict from a crowded machine must not be quoted without that word.
    let crowded = crowded_windows(book).0 > 0;
    let title = if crowded { "Aims (CROWDED run, see the notes)" } else { "Aims" };
    section(title, &table, &mut text);
    notes(book, &mut text);
    text
}

/// The rows and the notes, for one load by hand.
pub(crate) fn rows_only(book: &Book) -> String {
    let mut text = String::new();
    rows(book, &mut text);
    notes(book, &mut text);
    text
}

/// The whole results file.
pub(crate) fn file(book: &Book, machine: &[(String, String)], how: &str) -> String {
    let mut text = String::from("# Results of the bench\n\n");
    let _ = writeln!(
        text,
        "Written by `{how}`; do not edit. The machine is shared and noisy: compare CPU per call, and shares within this run.\n"
    );
    let mut table = vec![cells(["what", "value"])];
    table.extend(machine.iter().map(|(name, value)| vec![name.clone(), value.clone()]));
    section("Machine and versions", &table, &mut text);
    text.push_str(READING);
    text.push_str(&summary(book));
    let mut table = vec![cells(["row", "mode", "why"])];
    table.extend(NOT_APPLICABLE.iter().map(|&(target, mode, why)| cells([target, mode, why])));
    section("Not measured", &table, &mut text);
    let mut table = vec![head("round")];
    for measured in &book.rows {
        for (round, sample) in measured.samples.iter().enumerate() {
            table.push(numbers(&measured.row.key(), (round + 1).to_string(), sample, None));
        }
    }
    section("Raw rows", &table, &mut text);
    text
}

const READING: &str = "\
Rows are named target/mode/calls in flight. `CPU` is user and system time of the gateway
process per correct call, `child` the same of all processes below it and of an HTTP server
behind it, `asking` of the load generator. `of floor` is calls per second as a share of the floor
in the same rounds, and `CPU x` how many times the floor's CPU. Numbers are medians of the rounds;
errors are sums. `others %` is how much of the machine went to processes outside the row. A `-`
under `child` means that children came or went during the window, so their time is not known.
A call counts only if its id and its text came back right. Every payload is 64 bytes.

In rows `-declaring` the clients say that they can be asked (elicitation, sampling, roots), and
nobody asks them. In rows `-asking` each call is a whole round trip of one question: the call,
the question at the client, its answer, the result. The client's era is the mode: over
`streamable` the question is a request on the stream of the call's own POST and the answer a
second POST, over `stateless` it is an `input_required` result and the answer a second call.
The server's era is the target: `landbridge-session` has handshake servers, one for each session,
`landbridge-modern` has one server of 2026-07-28. Either way a round trip is two exchanges with the
client and two with the server, so it is set beside two calls of the floor. In such a row one
call is one round trip. Where not one came back right, the notes say what came instead.

Idle sessions in front of an HTTP server are open if each has a session there too, with a stream.
What is left after thousands of lost sessions, streams or clients is resident memory, read twice.

";

fn rows(book: &Book, text: &mut String) {
    let mut groups: Vec<&str> = Vec::new();
    for measured in &book.rows {
        if !groups.contains(&measured.row.group) {
            groups.push(measured.row.group);
        }
    }
    for group in groups {
        let mut table = vec![head("of floor")];
        for measured in book.rows.iter().filter(|measured| measured.row.group == group) {
            let key = measured.row.key();
            let sample = Sample::middle(&measured.samples);
            let failure = match &sample {
                // Not one right answer: its numbers would be of nothing. The notes say what came instead.
                Some(sample) if sample.calls == 0 && sample.errors > 0 => Some("failed, see notes".into()),
                Some(_) => None,
                None => Some(measured.failure.clone().unwrap_or_else(|| "not reached".into())),
            };
            match (sample, failure) {
                (Some(sample), None) => {
                    let floor = book.floor_of(&measured.row).map(|floor| floor.times(measured.row.work.floor_calls()));
                    let share =
                        floor.as_ref().map_or_else(|| "-".into(), |floor| format!("{:.2}", sample.per_second() / floor.per_second()));
                    table.push(numbers(&key, share, &sample, floor.as_ref()));
                }
                (_, failure) => {
                    let mut line = vec![key, failure.unwrap_or_default()];
                    line.resize(table[0].len(), "-".into());
                    table.push(line);
                }
            }
        }
        section(group, &table, text);
    }
}

fn head(second: &str) -> Vec<String> {
    cells(["row", "req/s", second, "CPU µs", "CPU x", "child µs", "asking µs", "p50 µs", "p99 µs", "errors", "RSS MiB", "others %"])
}

fn numbers(key: &str, second: String, sample: &Sample, floor: Option<&Sample>) -> Vec<String> {
    let ratio = floor.map_or(f64::NAN, |floor| sample.gateway_us / floor.gateway_us);
    vec![
        key.to_owned(),
        number(sample.per_second(), 0),
        second,
        number(sample.gateway_us, 1),
        number(ratio, 2),
        number(sample.child_us, 1),
        number(sample.generator_us, 1),
        number(sample.p50_us, 0),
        number(sample.p99_us, 0),
        sample.errors.to_string(),
        number(sample.rss_mib, 1),
        number(sample.others * 100.0, 0),
    ]
}

fn idle(book: &Book, text: &mut String) {
    let mut table = vec![cells(["target", "sessions", "opened", "all open s", "KiB each", "child KiB each", "errors"])];
    for result in &book.idle {
        table.push(vec![
            format!("{} {}", result.target, result.kind.name()),
            result.wanted.to_string(),
            result.opened.to_string(),
            number(result.seconds, 2),
            number(result.kib_each, 1),
            number(result.child_kib_each, 1),
            result.errors.to_string(),
        ]);
    }
    section("idle sessions", &table, text);
}

fn ballast(book: &Book, text: &mut String) {
    let mut table =
        vec![cells(["target", "idle sessions", "req/s without", "req/s with", "share", "CPU µs without", "CPU µs with", "errors"])];
    for result in &book.ballast {
        table.push(vec![
            format!("{}/{}", result.target, result.mode.name()),
            result.sessions.to_string(),
            number(result.without.per_second(), 0),
            number(result.with.per_second(), 0),
            number(result.share, 2),
            number(result.without.gateway_us, 1),
            number(result.with.gateway_us, 1),
            result.errors.to_string(),
        ]);
    }
    section("throughput beside idle sessions", &table, text);
}

fn startup(book: &Book, text: &mut String) {
    let mut table = vec![cells(["target", "first call by", "spawns", "spawn to answer ms", "RSS MiB"])];
    for result in &book.startup {
        table.push(vec![
            result.target.to_owned(),
            result.mode.name().to_owned(),
            result.spawns.to_string(),
            number(result.milliseconds, 1),
            number(result.rss_mib, 1),
        ]);
    }
    section("start and rest", &table, text);
}

fn wear(book: &Book, text: &mut String) {
    let mut table = vec![cells(["target", "after", "RSS MiB", "after", "RSS MiB", "grown MiB", "seconds", "errors"])];
    for result in &book.wear {
        table.push(vec![
            format!("{}, {}", result.target, result.wear.name()),
            result.counts[0].to_string(),
            number(result.rss_mib[0], 1),
            result.counts[1].to_string(),
            number(result.rss_mib[1], 1),
            number(result.grown_mib(), 1),
            number(result.seconds, 1),
            result.errors.to_string(),
        ]);
    }
    section("memory after thousands", &table, text);
}

/// Above this share of the machine for strangers, throughput says more about them than about us.
const CROWDED: f64 = 0.10;

/// How many windows had to share the machine with strangers, and of how many.
fn crowded_windows(book: &Book) -> (usize, usize) {
    let beside = book.ballast.iter().flat_map(|result| [&result.without, &result.with]);
    let windows: Vec<&Sample> = book.rows.iter().flat_map(|measured| &measured.samples).chain(beside).collect();
    (windows.iter().filter(|sample| sample.others > CROWDED).count(), windows.len())
}

fn notes(book: &Book, text: &mut String) {
    let mut lines = book.notes.clone();
    let (crowded, windows) = crowded_windows(book);
    if crowded > 0 {
        lines.push(format!(
            "CROWDED: in {crowded} of {} windows other processes used more than {:.0} % of the machine. \
             Do not trust throughput, shares or latencies of this run; repeat it when the machine is quiet.",
            windows,
            CROWDED * 100.0
        ));
    }
    for measured in &book.rows {
        if let Some(sample) = Sample::middle(&measured.samples).filter(|sample| sample.errors > 0) {
            lines.push(error_note(&measured.row.key(), sample.errors, sample.example.as_deref()));
        }
    }
    for result in book.idle.iter().filter(|result| result.errors > 0) {
        lines.push(error_note(&format!("{} idle {}", result.target, result.kind.name()), result.errors, result.example.as_deref()));
    }
    for result in book.ballast.iter().filter(|result| result.errors > 0) {
        lines.push(error_note(&format!("{} beside idle sessions", result.target), result.errors, result.example.as_deref()));
    }
    for result in book.wear.iter().filter(|result| result.errors > 0) {
        lines.push(error_note(&format!("{}, {}", result.target, result.wear.name()), result.errors, result.example.as_deref()));
    }
    if !lines.is_empty() {
        text.push_str("## Notes\n\n");
        for line in lines {
            let _ = writeln!(text, "- {}", line.replace('|', "\\|"));
        }
        text.push('\n');
    }
}

fn error_note(what: &str, errors: u64, example: Option<&str>) -> String {
    format!("{what}: {errors} errors, such as: {}", example.unwrap_or("none kept"))
}

fn number(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "-".into() }
}

fn cells<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// One padded table under its title; nothing at all if it has no rows.
fn section(title: &str, table: &[Vec<String>], text: &mut String) {
    let [names, lines @ ..] = table else { return };
    if lines.is_empty() {
        return;
    }
    let width = |column: usize| table.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let _ = writeln!(text, "## {title}\n");
    for (at, line) in table.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ = if column == 0 { write!(text, "| {cell:<width$} ") } else { write!(text, "| {cell:>width$} ") };
        }
        text.push_str("|\n");
        if at == 0 {
            for (column, &width) in widths.iter().enumerate() {
                let _ = if column == 0 { write!(text, "|:{:-<1$}", "", width + 1) } else { write!(text, "|{:-<1$}:", "", width + 1) };
            }
            text.push_str("|\n");
        }
    }
    text.push('\n');
}
