//! The rows of a run: which target, in which mode, with how many calls in flight, beside which floor.
//!
//! Odd: a row names its floor by key, so that `--only` can bring the floor along. A share is
//! worth something only when both were measured in the same run.

use clap::ValueEnum;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// Streamable HTTP of 2025-11-25 with a session per client.
    Streamable,
    /// Streamable HTTP of 2026-07-28, without handshake or session.
    Stateless,
    /// HTTP+SSE of 2024-11-05.
    Sse,
    /// The child driven over its own pipes, with no gateway at all.
    Stdio,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Streamable => "streamable",
            Mode::Stateless => "stateless",
            Mode::Sse => "sse",
            Mode::Stdio => "stdio",
        }
    }
}

/// What the clients of a row say that they can, and what they call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Work {
    /// Calls of `echo` by clients that can be asked nothing.
    Plain,
    /// Calls of `echo` by clients that can be asked; nobody asks them.
    Declaring,
    /// Calls of `ask`: each is a question to the client, its answer, and the result.
    Asking,
}

impl Work {
    /// The capabilities that the clients declare, as JSON.
    pub(crate) fn capabilities(self) -> &'static str {
        if self == Work::Plain { "{}" } else { r#"{"elicitation":{},"sampling":{},"roots":{}}"# }
    }

    pub(crate) fn tool(self) -> &'static str {
        if self == Work::Asking { "ask" } else { "echo" }
    }

    /// How many calls of a floor do the same work: a round trip of a question goes to the
    /// gateway and to the server twice each, whatever the eras of the two.
    pub(crate) fn floor_calls(self) -> f64 {
        if self == Work::Asking { 2.0 } else { 1.0 }
    }

    /// What the key of a row has behind its mode.
    fn suffix(self) -> &'static str {
        match self {
            Work::Plain => "",
            Work::Declaring => "-declaring",
            Work::Asking => "-asking",
        }
    }
}

#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) target: &'static str,
    pub(crate) mode: Mode,
    pub(crate) work: Work,
    pub(crate) in_flight: usize,
    /// The key of the row this one is a share of.
    pub(crate) floor: Option<String>,
    pub(crate) peer: bool,
}

impl Row {
    pub(crate) fn key(&self) -> String {
        key(self.target, self.mode, self.work, self.in_flight)
    }
}

pub(crate) fn key(target: &str, mode: Mode, work: Work, in_flight: usize) -> String {
    format!("{target}/{}{}/{in_flight}", mode.name(), work.suffix())
}

pub(crate) const MANY: usize = 16;
/// Clients of the rows that ask. A handshake server may need a process for each of them.
const ASKED: usize = 8;

pub(crate) const EMBEDDED: &str = "in-process echo, 16 in flight";
pub(crate) const CHILD: &str = "stdio child, 16 in flight";
pub(crate) const ALONE: &str = "stdio child, one call alone";
pub(crate) const REMOTE: &str = "HTTP server, 16 in flight";
pub(crate) const REMOTE_ALONE: &str = "HTTP server, one call alone";
pub(crate) const QUESTIONS: &str = "stdio child, a question to the client in each call, 8 in flight";
pub(crate) const QUESTION_ALONE: &str = "stdio child, a question to the client in each call, one alone";

/// All rows in the order of the table.
pub(crate) fn rows() -> Vec<Row> {
    use Mode::{Sse, Stateless, Stdio, Streamable};
    use Work::{Asking, Declaring, Plain};
    let row = |group, target, (mode, work), in_flight, floor: Option<(&str, Mode)>, peer| Row {
        group,
        target,
        mode,
        work,
        in_flight,
        floor: floor.map(|(target, mode)| key(target, mode, Plain, in_flight)),
        peer,
    };
    let mut rows = Vec::new();
    for (target, mode, floor) in [
        ("floor-http", Stateless, None),
        ("landbridge-embedded", Stateless, Some(("floor-http", Stateless))),
        ("embedded-tools", Stateless, Some(("floor-http", Stateless))),
        ("embedded-rmcp", Stateless, Some(("floor-http", Stateless))),
        ("rmcp-alone", Stateless, Some(("floor-http", Stateless))),
        ("floor-http", Streamable, None),
        ("landbridge-embedded", Streamable, Some(("floor-http", Streamable))),
        ("embedded-tools", Streamable, Some(("floor-http", Streamable))),
        ("embedded-rmcp", Streamable, Some(("floor-http", Streamable))),
        ("rmcp-alone", Streamable, Some(("floor-http", Streamable))),
        ("landbridge-embedded", Sse, Some(("floor-http", Streamable))),
        ("embedded-tools", Sse, Some(("floor-http", Streamable))),
        ("embedded-rmcp", Sse, Some(("floor-http", Streamable))),
    ] {
        rows.push(row(EMBEDDED, target, (mode, Plain), MANY, floor, false));
    }
    for (group, in_flight) in [(CHILD, MANY), (ALONE, 1)] {
        for (target, mode, work, floor) in [
            ("bare-child", Stdio, Plain, None),
            ("floor-stdio", Streamable, Plain, None),
            ("landbridge-stdio", Streamable, Plain, Some(("floor-stdio", Streamable))),
            ("landbridge-stdio", Streamable, Declaring, Some(("floor-stdio", Streamable))),
            ("landbridge-stdio", Sse, Plain, Some(("floor-stdio", Streamable))),
            ("landbridge-stdio", Sse, Declaring, Some(("floor-stdio", Streamable))),
            ("floor-stdio", Stateless, Plain, None),
            ("landbridge-stdio", Stateless, Plain, Some(("floor-stdio", Stateless))),
            ("landbridge-stdio", Stateless, Declaring, Some(("floor-stdio", Stateless))),
            ("landbridge-modern", Stateless, Plain, Some(("floor-stdio", Stateless))),
        ] {
            rows.push(row(group, target, (mode, work), in_flight, floor, false));
        }
        for (target, mode) in [
            ("mcp-proxy-py", Streamable),
            ("mcp-proxy-py", Sse),
            ("supergateway-http", Streamable),
            ("supergateway-http", Stateless),
            ("supergateway-sse", Sse),
            ("mcp-proxy-npm", Streamable),
            ("mcp-proxy-npm", Stateless),
            ("mcp-proxy-npm", Sse),
        ] {
            let floor = if mode == Stateless { Stateless } else { Streamable };
            rows.push(row(group, target, (mode, Plain), in_flight, Some(("floor-stdio", floor)), true));
        }
    }
    for (group, in_flight) in [(REMOTE, MANY), (REMOTE_ALONE, 1)] {
        for (target, mode, floor) in [
            ("floor-proxy", Streamable, None),
            ("landbridge-http", Streamable, Some(("floor-proxy", Streamable))),
            ("landbridge-http-modern", Streamable, Some(("floor-proxy", Streamable))),
            ("landbridge-key", Streamable, Some(("floor-proxy", Streamable))),
            ("floor-proxy", Stateless, None),
            ("landbridge-http-modern", Stateless, Some(("floor-proxy", Stateless))),
            ("landbridge-http", Stateless, Some(("floor-proxy", Stateless))),
            ("landbridge-key-modern", Stateless, Some(("floor-proxy", Stateless))),
            ("landbridge-connect", Stdio, None),
            ("landbridge-connect-modern", Stdio, None),
        ] {
            rows.push(row(group, target, (mode, Plain), in_flight, floor, false));
        }
    }
    // The eras of the client (the mode) and of the server (the target), two by two. With one in
    // flight the floors are those of one call alone.
    for (group, in_flight) in [(QUESTIONS, ASKED), (QUESTION_ALONE, 1)] {
        for mode in [Streamable, Stateless] {
            if in_flight == ASKED {
                rows.push(row(group, "floor-stdio", (mode, Plain), in_flight, None, false));
            }
            for target in ["landbridge-session", "landbridge-modern"] {
                rows.push(row(group, target, (mode, Asking), in_flight, Some(("floor-stdio", mode)), false));
            }
        }
    }
    rows
}

/// The rows whose key contains `pattern`, and the floors those are shares of.
pub(crate) fn select(rows: Vec<Row>, pattern: Option<&str>) -> Vec<Row> {
    let Some(pattern) = pattern else { return rows };
    let wanted: Vec<String> =
        rows.iter().filter(|row| row.key().contains(pattern)).flat_map(|row| [Some(row.key()), row.floor.clone()]).flatten().collect();
    rows.into_iter().filter(|row| wanted.contains(&row.key())).collect()
}

/// What a peer was not measured in, and why; each was tried by hand with the pinned version.
pub(crate) const NOT_APPLICABLE: [(&str, &str, &str); 4] = [
    ("mcp-proxy-py", "stateless", "n/a: it refuses 2026-07-28 as an unsupported version, with and without --stateless"),
    ("supergateway-sse", "streamable, stateless", "n/a: it serves one transport per process"),
    ("supergateway-http", "stateless, child CPU", "it starts a child for every request, too short-lived to be metered"),
    ("all peers", "idle streamable", "n/a: idle sessions of peers are measured over SSE only"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_floor_is_a_row_and_keys_are_unique() {
        let keys: Vec<String> = rows().iter().map(Row::key).collect();
        for row in rows() {
            assert_eq!(keys.iter().filter(|key| **key == row.key()).count(), 1, "{}", row.key());
            if let Some(floor) = row.floor {
                assert!(keys.contains(&floor), "{floor}");
            }
        }
    }

    #[test]
    fn a_selection_brings_its_floors() {
        let keys: Vec<String> = select(rows(), Some("landbridge-stdio/sse/16")).iter().map(Row::key).collect();
        assert_eq!(keys, ["floor-stdio/streamable/16", "landbridge-stdio/sse/16"]);
        let keys: Vec<String> = select(rows(), Some("modern/stateless-asking")).iter().map(Row::key).collect();
        let asking = ["landbridge-modern/stateless-asking/8", "landbridge-modern/stateless-asking/1"];
        assert_eq!(keys, ["floor-stdio/stateless/1", "floor-stdio/stateless/8", asking[0], asking[1]]);
    }
}
