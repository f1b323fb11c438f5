//! A case as it is written: what it pins, over which pairings it runs, and its lines.
//!
//! Odd: pins are only read before the first line that says something, since words like `back` and
//! `client` begin those lines too.

use std::collections::BTreeMap;

use landbridge_proto::back::probe::Protocol;
use landbridge_proto::version::{Era, Revision};

use crate::pair::front::FrontKind;
use crate::pair::gate::Wire;
use crate::pair::{Back, Pairing};

const SERVER: &str =
    r#"{"logging":{},"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true}}"#;
const CLIENT: &str = r#"{"elicitation":{},"sampling":{},"roots":{"listChanged":true}}"#;

/// What a file says before it begins to talk.
pub(super) struct Case {
    pub(super) fronts: BTreeMap<String, Vec<FrontKind>>,
    pub(super) backs: Vec<(Back, Wire)>,
    pub(super) owns: Vec<bool>,
    pub(super) server: String,
    pub(super) client: String,
    pub(super) lines: Vec<(usize, String)>,
}

pub(super) fn parse(text: &str) -> Result<Case, String> {
    let all_fronts: Vec<FrontKind> = fronts("").into_iter().collect();
    let mut case = Case {
        fronts: BTreeMap::from([("client".to_owned(), all_fronts)]),
        backs: backs(""),
        owns: vec![true, false],
        server: SERVER.into(),
        client: CLIENT.into(),
        lines: Vec::new(),
    };
    let mut named = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let first = line.split_whitespace().next().unwrap_or_default();
        let is_said = matches!(line, "back ends" | "back respawns" | "back returns" | "back never returns");
        let pins = matches!(first, "front" | "back" | "shared" | "own" | "clients" | "server") || line.starts_with("client capabilities");
        if !pins || line.contains('→') || line.contains('←') || is_said || !case.lines.is_empty() {
            case.lines.push((at, line.to_owned()));
            continue;
        }
        for pin in line.split('·').map(str::trim) {
            let (word, rest) = pin.split_once(' ').unwrap_or((pin, ""));
            match word {
                "shared" => case.owns = vec![false],
                "own" => case.owns = vec![true],
                "server" => case.server = rest.trim_start_matches("capabilities").trim().into(),
                "client" => case.client = rest.trim_start_matches("capabilities").trim().into(),
                "clients" => named.extend(rest.split_whitespace().map(|n| (n.to_owned(), fronts("")))),
                "front" => match rest.split_once(' ') {
                    Some((name, kind)) if name.len() == 1 => drop(named.insert(name.to_owned(), fronts(kind))),
                    _ => drop(case.fronts.insert("client".into(), fronts(rest))),
                },
                "back" => case.backs = backs(rest),
                _ => return Err(format!("line {}: {pin}", at + 1)),
            }
        }
    }
    if !named.is_empty() {
        case.fronts = named;
    }
    Ok(case)
}

/// Whether the revision is among those the words allow.
fn allows(words: &str, revision: Revision) -> bool {
    let mut words = words.split_whitespace();
    let mut allowed = true;
    while let Some(word) = words.next() {
        allowed &= match word {
            "since" => words.next().and_then(Revision::parse).is_some_and(|r| revision >= r),
            "until" => words.next().and_then(Revision::parse).is_some_and(|r| revision <= r),
            "handshake" => revision.era() == Era::Handshake,
            "stateless" => revision.era() == Era::Stateless,
            "streamable" | "sse" | "pipe" | "http" => true,
            date => Revision::parse(date).unwrap_or_else(|| panic!("{date} is no revision")) == revision,
        };
    }
    allowed
}

fn fronts(words: &str) -> Vec<FrontKind> {
    let (streamable, sse) = (words.contains("streamable"), words.contains("sse"));
    let mut all = Vec::new();
    for revision in Revision::ALL.into_iter().filter(|r| allows(words, *r)) {
        match revision.era() {
            Era::Stateless if !streamable && !sse => all.push(FrontKind::Stateless),
            Era::Stateless => {}
            Era::Handshake => {
                all.extend((streamable || !sse).then_some(FrontKind::Streamable(revision)));
                all.extend((sse || !streamable).then_some(FrontKind::Sse(revision)));
            }
        }
    }
    all
}

fn backs(words: &str) -> Vec<(Back, Wire)> {
    let named = [("pipe", Wire::Pipe), ("http", Wire::Http), ("sse", Wire::Sse)];
    let named: Vec<Wire> =
        named.into_iter().filter(|(name, _)| words.split_whitespace().any(|w| w == *name)).map(|(_, wire)| wire).collect();
    if let Some(protocol) = words.strip_prefix("unmet") {
        let protocol = match protocol.split_whitespace().find(|w| !["pipe", "http", "sse", "auto"].contains(w)) {
            None => Protocol::Auto,
            Some("legacy") => Protocol::Legacy,
            Some(date) => Protocol::Pinned(Revision::parse(date).expect("a revision")),
        };
        // A meeting is another one on each.
        return vec![(Back::Unmet(protocol), named.first().copied().unwrap_or(Wire::Pipe))];
    }
    // Each on what it is spoken over: all of them on a pipe, and HTTP+SSE is a pipe in two halves.
    let spoken = |revision: Revision| match revision {
        Revision::V2024_11_05 => [Wire::Pipe, Wire::Sse],
        _ => [Wire::Pipe, Wire::Http],
    };
    let allowed = Revision::ALL.into_iter().filter(|r| allows(words, *r));
    let all = allowed.flat_map(|revision| spoken(revision).map(|wire| (Back::Met(revision), wire)));
    all.filter(|(_, wire)| named.is_empty() || named.contains(wire)).collect()
}

pub(super) fn pairings(case: &Case) -> Vec<Pairing> {
    // Clients that are not pinned are of one kind.
    let most = case.fronts.values().map(Vec::len).max().unwrap_or(0);
    let mut all = Vec::new();
    for at in 0..most {
        let fronts: BTreeMap<String, FrontKind> = case.fronts.iter().map(|(name, kinds)| (name.clone(), kinds[at % kinds.len()])).collect();
        for (back, wire) in &case.backs {
            for own in &case.owns {
                let alone = fronts.len() == 1 && !fronts.values().any(|k| *k == FrontKind::Stateless);
                let stateless = *back == Back::Met(Revision::NEWEST);
                // What nobody can have: a server of one's own without a session, or one that two own.
                if *own && !alone || *own && stateless && case.owns.len() == 2 {
                    continue;
                }
                all.push(Pairing { fronts: fronts.clone(), back: *back, wire: *wire, own: *own });
            }
        }
    }
    all
}
