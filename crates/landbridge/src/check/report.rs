//! What was found, as a table for people and as JSON for programs.
//!
//! The JSON is described in `docs/check.md` and does not change its shape; members may be added.

use std::time::Duration;

use serde_json::{Value, json};

use landbridge_proto::version::Revision;

use crate::check::clients::Fate;
use crate::check::rules::{Finding, Rule, Verdict};

/// The shape of the JSON.
const SHAPE: u32 = 1;

/// What is shorter than this is no secret, and taken out it would leave holes everywhere.
const SECRET: usize = 4;

/// What carries messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A process and its pipes.
    Stdio,
    /// Streamable HTTP, of either era.
    Http,
    /// HTTP+SSE.
    Sse,
}

impl Transport {
    fn as_str(self) -> &'static str {
        match self {
            Transport::Stdio => "stdio",
            Transport::Http => "http",
            Transport::Sse => "sse",
        }
    }

    fn shown(self) -> &'static str {
        match self {
            Transport::Stdio => "stdio",
            Transport::Http => "Streamable HTTP",
            Transport::Sse => "HTTP+SSE",
        }
    }
}

/// A revision over a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The transport.
    pub transport: Transport,
    /// The revision.
    pub revision: Revision,
    /// Where, if not at the address that was given.
    pub beside: Option<String>,
}

impl Wire {
    /// At the address that was given.
    pub fn new(transport: Transport, revision: Revision) -> Wire {
        Wire { transport, revision, beside: None }
    }

    /// In words.
    pub fn shown(&self) -> String {
        let beside = self.beside.as_ref().map_or(String::new(), |at| format!(" at {at}"));
        format!("{} over {}{beside}", self.revision, self.transport.shown())
    }

    pub(super) fn json(&self) -> Value {
        let mut wire = json!({"transport": self.transport.as_str(), "revision": self.revision.as_str()});
        if let Some(beside) = &self.beside {
            wire["url"] = json!(beside);
        }
        wire
    }
}

/// Whether a wire is spoken.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// Which.
    pub wire: Wire,
    /// Whether it is.
    pub spoken: bool,
    /// The revision the server named when it was offered this one.
    pub answered: Option<String>,
    /// What was seen instead, or besides.
    pub seen: String,
}

/// How a rule fares on a wire.
#[derive(Clone, Debug)]
pub struct Row {
    /// The rule.
    pub rule: &'static Rule,
    /// The wire; `None`: the server as a whole.
    pub wire: Option<Wire>,
    /// How it fares.
    pub verdict: Verdict,
    /// What that is based on.
    pub seen: String,
}

impl Row {
    /// On a wire.
    pub fn new(rule: &'static Rule, wire: Wire, (verdict, seen): Finding) -> Row {
        // Nobody fails by what is only recommended.
        let verdict = if verdict == Verdict::Fail && !rule.must { Verdict::Warn } else { verdict };
        Row { rule, wire: Some(wire), verdict, seen }
    }
}

/// How long something took.
#[derive(Clone, Debug)]
pub struct Timing {
    /// What was asked.
    pub what: String,
    /// Over which wire.
    pub wire: Wire,
    /// Until the head of the response, or the line, was there.
    pub first_byte: Duration,
    /// Until the answer was.
    pub whole: Duration,
}

/// How many there are, where they are declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(Vec<(String, usize)>);

impl Counts {
    /// There are so many.
    pub fn set(&mut self, key: &str, n: usize) {
        self.0.push((key.into(), n));
    }
}

/// The tool that was called.
#[derive(Clone, Debug)]
pub struct Called {
    /// Its name.
    pub tool: String,
    /// What came back.
    pub answer: Value,
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was checked, as it was given.
    pub target: String,
    /// Why there is nothing to report, if there is not.
    pub unreachable: Option<String>,
    /// Why something is missing in it.
    pub cut: Option<String>,
    /// What the server says of itself.
    pub server: Value,
    /// What it declares.
    pub capabilities: Value,
    /// How much of it there is.
    pub counts: Counts,
    /// What it speaks.
    pub spoken: Vec<Spoken>,
    /// How long it takes.
    pub timings: Vec<Timing>,
    /// Which rules it keeps.
    pub rows: Vec<Row>,
    /// What the well-known clients make of it.
    pub clients: Vec<Fate>,
    /// What became of `--call`.
    pub called: Option<Called>,
}

impl Report {
    /// How many rules fare so.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    /// What the program ends with.
    pub fn exit_code(&self) -> u8 {
        match (&self.unreachable, self.count(Verdict::Fail)) {
            (Some(_), _) => 2,
            (None, 0) if self.cut.is_none() => 0,
            _ => 1,
        }
    }

    /// Takes these words out, wherever a server may have repeated them.
    pub fn redact(&mut self, secrets: &[String]) {
        let clean = |text: &mut String| {
            for secret in secrets.iter().filter(|secret| secret.len() >= SECRET) {
                *text = text.replace(secret.as_str(), "…");
            }
        };
        self.spoken.iter_mut().for_each(|spoken| {
            clean(&mut spoken.seen);
            spoken.answered.iter_mut().for_each(clean);
        });
        self.rows.iter_mut().for_each(|row| clean(&mut row.seen));
        self.clients.iter_mut().for_each(|fate| clean(&mut fate.seen));
        self.unreachable.iter_mut().for_each(clean);
        let values = [&mut self.server, &mut self.capabilities].into_iter().chain(self.called.iter_mut().map(|called| &mut called.answer));
        values.for_each(|value| each_text(value, &clean));
    }

    // --- JSON ---------------------------------------------------------------------------------

    /// As JSON.
    pub fn json(&self) -> Value {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let verdict = match (&self.unreachable, self.count(Verdict::Fail)) {
            (Some(_), _) => "unreachable",
            (None, 0) if self.cut.is_none() => "ok",
            (None, 0) => "incomplete",
            _ => "fails",
        };
        let counts: serde_json::Map<String, Value> = self.counts.0.iter().map(|(key, n)| (key.clone(), json!(n))).collect();
        json!({
            "check": SHAPE,
            "target": self.target,
            "verdict": verdict,
            "why": self.unreachable.as_ref().or(self.cut.as_ref()),
            "server": self.server,
            "capabilities": self.capabilities,
            "counts": counts,
            "wires": self.spoken.iter().map(|spoken| {
                let mut wire = spoken.wire.json();
                wire["spoken"] = json!(spoken.spoken);
                wire["answered"] = json!(spoken.answered);
                wire["seen"] = json!(spoken.seen);
                wire
            }).collect::<Vec<_>>(),
            "timings": self.timings.iter().map(|timing| json!({
                "what": timing.what,
                "wire": timing.wire.json(),
                "first_byte_ms": ms(timing.first_byte),
                "answer_ms": ms(timing.whole),
            })).collect::<Vec<_>>(),
            "rules": self.rows.iter().map(|row| json!({
                "id": row.rule.id,
                "wire": row.wire.as_ref().map(Wire::json),
                "strength": if row.rule.must { "must" } else { "should" },
                "verdict": row.verdict.as_str(),
                "what": row.rule.what,
                "seen": row.seen,
                "mend": is_wrong(row.verdict).then_some(row.rule.mend),
            })).collect::<Vec<_>>(),
            "clients": self.clients.iter().map(Fate::json).collect::<Vec<_>>(),
            "called": self.called.as_ref().map(|called| json!({"tool": called.tool, "answer": called.answer})),
        })
    }

    // --- the table ----------------------------------------------------------------------------

    /// For people.
    pub fn table(&self) -> String {
        let mut out = Vec::new();
        out.push(self.target.clone());
        if let Some(why) = &self.unreachable {
            out.push(format!("\nCannot be checked: {why}"));
            return out.join("\n");
        }
        out.push(format!("  {}", self.introduction()));
        out.push("\nSpeaks".into());
        out.extend(columns(self.spoken.iter().map(|spoken| {
            let yes = if spoken.spoken { "yes" } else { "no" };
            vec![yes.into(), spoken.wire.shown(), spoken.seen.clone()]
        })));
        if !self.timings.is_empty() {
            out.push("\nTakes                                  first byte     answer".into());
            let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
            let line = |t: &Timing| format!("  {:15} {:19} {:>12} {:>10}", t.what, t.wire.short(), ms(t.first_byte), ms(t.whole));
            out.extend(self.timings.iter().map(line));
        }
        let mut wires: Vec<&Option<Wire>> = Vec::new();
        for row in &self.rows {
            if !wires.contains(&&row.wire) {
                wires.push(&row.wire);
            }
        }
        for wire in wires {
            let of = wire.as_ref().map_or(String::new(), |wire| format!(" of {}", wire.shown()));
            out.push(format!("\nRules{of}"));
            let rows = self.rows.iter().filter(|row| row.wire == *wire);
            out.extend(columns(rows.map(|row| {
                let verdict = if row.verdict == Verdict::NotApplicable { "-" } else { row.verdict.as_str() };
                vec![verdict.into(), row.rule.id.into(), row.seen.clone()]
            })));
        }
        if self.rows.iter().any(|row| is_wrong(row.verdict)) {
            out.push("\nTo mend".into());
            let mut told: Vec<&str> = Vec::new();
            for row in self.rows.iter().filter(|row| is_wrong(row.verdict)) {
                if !told.contains(&row.rule.id) {
                    told.push(row.rule.id);
                    out.push(format!("  {}: {}", row.rule.id, row.rule.what));
                    out.push(format!("      {}", row.rule.mend));
                }
            }
        }
        if let Some(called) = &self.called {
            out.push(format!("\n{} answered {}", called.tool, called.answer));
        }
        if !self.clients.is_empty() {
            out.push("\nClients".into());
            let head = ["", "directly", "through Landbridge"].map(str::to_owned).to_vec();
            let rows = self.clients.iter().map(|fate| vec![fate.name.into(), fate.shown(), fate.through_shown()]);
            out.extend(columns(std::iter::once(head).chain(rows)));
            let mut told: Vec<&str> = Vec::new();
            for mend in self.clients.iter().filter_map(|fate| fate.mend) {
                if !told.contains(&mend) {
                    told.push(mend);
                }
            }
            out.extend(told.iter().map(|mend| format!("  → {mend}")));
        }
        if let Some(why) = &self.cut {
            out.push(format!("\nThis is not all: {why}"));
        }
        let (fails, warnings) = (self.count(Verdict::Fail), self.count(Verdict::Warn));
        out.push(format!("\n{} kept, {warnings} to think about, {fails} broken", self.count(Verdict::Ok)));
        out.join("\n")
    }

    fn introduction(&self) -> String {
        let name = self.server["name"].as_str().unwrap_or("a server without a name");
        let version = self.server["version"].as_str().unwrap_or_default();
        let mut said = vec![format!("{name} {version}").trim().to_owned()];
        let named = [("resourceTemplates", "resource templates")];
        said.extend(self.counts.0.iter().map(|(key, n)| {
            let key = named.iter().find(|(k, _)| k == key).map_or(key.as_str(), |(_, shown)| shown);
            format!("{n} {key}")
        }));
        let counted = ["tools", "prompts", "resources"];
        let more = self.capabilities.as_object().into_iter().flatten().map(|(key, _)| key.clone());
        said.extend(more.filter(|key| !counted.contains(&key.as_str())));
        said.join(", ")
    }
}

impl Wire {
    fn short(&self) -> String {
        format!("{} {}", self.revision, self.transport.as_str())
    }
}

fn each_text(value: &mut Value, change: &impl Fn(&mut String)) {
    match value {
        Value::String(text) => change(text),
        Value::Array(all) => all.iter_mut().for_each(|value| each_text(value, change)),
        Value::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(mut key, mut value)| {
                    change(&mut key);
                    each_text(&mut value, change);
                    (key, value)
                })
                .collect();
        }
        _ => {}
    }
}

fn is_wrong(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Warn | Verdict::Fail)
}

/// Lines in columns, the last of which is as wide as it is.
fn columns(rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.collect();
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|text| text.chars().count()).max().unwrap_or(0).min(70);
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::rules;

    #[test]
    fn what_a_server_repeats_of_a_secret_is_not_told() {
        let wire = Wire::new(Transport::Http, Revision::V2025_11_25);
        let mut report = Report { server: json!({"name": "tok-1234 [tok-1234]", "tok-1234": [1]}), ..Report::default() };
        report.rows.push(Row::new(&rules::GET, wire.clone(), (Verdict::Fail, "HTTP 400, \"bad tok-1234\"".into())));
        report.spoken.push(Spoken { wire, spoken: false, answered: Some("tok-1234".into()), seen: "tok-1234".into() });
        report.redact(&["tok-1234".into(), "4".into(), String::new()]);
        let all = format!("{}{}", report.json(), report.table());
        assert!(!all.contains("tok-1234") && all.contains("HTTP 400"), "{all}");
        assert_eq!(report.server, json!({"name": "… […]", "…": [1]}));
    }

    #[test]
    fn the_exit_code_is_the_verdict() {
        let wire = || Wire::new(Transport::Http, Revision::V2025_11_25);
        let with = |rule, verdict| Report { rows: vec![Row::new(rule, wire(), (verdict, String::new()))], ..Report::default() };
        assert_eq!(with(&rules::GET, Verdict::Warn).exit_code(), 0);
        assert_eq!(with(&rules::GET, Verdict::Fail).exit_code(), 1);
        // Nobody fails by what is only recommended.
        assert_eq!(with(&rules::HOST, Verdict::Fail).exit_code(), 0);
        assert_eq!(Report { unreachable: Some(String::new()), ..with(&rules::GET, Verdict::Fail) }.exit_code(), 2);
        assert_eq!(Report { cut: Some(String::new()), ..Report::default() }.exit_code(), 1);
    }
}
