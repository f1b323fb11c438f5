//! The well-known clients, as far as their makers or their users say what they do (November 2026), and
//! what this server means to each.
//!
//! What a client sends first, and what after that was refused, decides. Every one of those ways was
//! tried, so here nothing is sent: a client's way is looked up among what came of them.

use serde_json::{Value, json};

use landbridge_proto::version::{Era, Revision};

use crate::check::report::{Transport, Wire};
use crate::check::rules::{FALLBACK, Finding, Verdict};
use crate::check::seen::says;
use crate::check::walk::Walked;

/// One way to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `server/discover`, and 2026-07-28 from there.
    Discover,
    /// `initialize`, offering that revision.
    Initialize(Revision),
    /// A GET for HTTP+SSE, offering that revision on it.
    Sse(Revision),
}

/// A client: what it tries, one after the other, at a command and at a URL.
struct Client {
    name: &'static str,
    stdio: &'static [Way],
    http: &'static [Way],
    /// It calls from its maker's machines, so the URL must be a public one.
    from_afar: bool,
}

const R11: Revision = Revision::V2025_11_25;
const R06: Revision = Revision::V2025_06_18;
const OLD: Way = Way::Initialize(R11);
const SSE: Way = Way::Sse(R11);

const CLIENTS: &[Client] = &[
    Client { name: "Claude Code", stdio: &[OLD], http: &[Way::Discover, OLD, SSE], from_afar: false },
    Client { name: "Claude connectors", stdio: &[], http: &[OLD, SSE], from_afar: true },
    Client { name: "Claude Desktop, local", stdio: &[OLD], http: &[], from_afar: false },
    Client { name: "ChatGPT connectors", stdio: &[], http: &[Way::Initialize(R06)], from_afar: true },
    Client { name: "Codex", stdio: &[Way::Initialize(R06)], http: &[Way::Initialize(R06)], from_afar: false },
    Client { name: "VS Code", stdio: &[OLD], http: &[OLD, SSE], from_afar: false },
    Client { name: "GitHub Copilot", stdio: &[Way::Discover, OLD], http: &[Way::Discover, OLD, SSE], from_afar: false },
    Client { name: "Cursor", stdio: &[OLD], http: &[OLD, SSE], from_afar: false },
    Client { name: "Windsurf", stdio: &[OLD], http: &[OLD, SSE], from_afar: false },
    Client { name: "Zed", stdio: &[OLD], http: &[OLD], from_afar: false },
    Client { name: "Goose", stdio: &[Way::Discover, OLD], http: &[Way::Discover, OLD], from_afar: false },
    Client { name: "LibreChat", stdio: &[OLD], http: &[OLD, SSE], from_afar: false },
    Client { name: "Gemini CLI", stdio: &[OLD], http: &[OLD, SSE], from_afar: false },
    Client { name: "Cline", stdio: &[OLD], http: &[OLD, SSE], from_afar: false },
    Client { name: "JetBrains AI", stdio: &[OLD], http: &[OLD, SSE], from_afar: false },
    Client { name: "Continue", stdio: &[OLD], http: &[OLD, SSE], from_afar: false },
    Client { name: "Open WebUI", stdio: &[], http: &[OLD], from_afar: false },
    Client { name: "MCP Inspector", stdio: &[Way::Discover, OLD], http: &[Way::Discover, OLD, SSE], from_afar: false },
    Client { name: "SDKs that find out", stdio: &[Way::Discover, OLD], http: &[Way::Discover, OLD], from_afar: false },
];

/// What a server means to a client.
#[derive(Clone, Debug)]
pub struct Fate {
    /// The client.
    pub name: &'static str,
    /// Over which wire it works, if it does.
    pub over: Option<Wire>,
    /// The rule that breaks it.
    pub breaks: Option<&'static str>,
    /// What was seen of that.
    pub seen: String,
    /// What to do.
    pub mend: Option<&'static str>,
    /// Whether it works with Landbridge in between, and what it takes or lacks.
    pub through: (bool, &'static str),
}

impl Fate {
    pub(super) fn shown(&self) -> String {
        match &self.over {
            Some(wire) => format!("works: {}", wire.shown()),
            None => format!("no: {}", self.seen),
        }
    }

    pub(super) fn through_shown(&self) -> String {
        let how = if self.through.0 { "works" } else { "no" };
        if self.through.1.is_empty() { how.into() } else { format!("{how}, {}", self.through.1) }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "works": self.over.is_some(),
            "over": self.over.as_ref().map(Wire::json),
            "breaks": self.breaks,
            "seen": self.seen,
            "mend": self.mend,
            "through_landbridge": {"works": self.through.0, "note": self.through.1},
        })
    }
}

const SERVE: &str = "put Landbridge in front: `landbridge serve --server NAME=TARGET`, and give clients the URL it prints";
const CONNECT: &str = "clients that start commands: let them start `landbridge connect TARGET`";
const PUBLIC: &str = "clients that call from their maker's machines need a public https address";
/// There must be a wire that both speak.
const SPEAKS: &str = "speaks";

/// What the server means to each client. `remote`: it is at a URL; `local`: on this machine.
pub(super) fn fates(remote: bool, local: bool, walks: &[Walked], fallback: Option<&Finding>) -> Vec<Fate> {
    CLIENTS.iter().map(|client| fate(client, remote, local, walks, fallback)).collect()
}

fn fate(client: &Client, remote: bool, local: bool, walks: &[Walked], fallback: Option<&Finding>) -> Fate {
    let ways = if remote { client.http } else { client.stdio };
    let working: Vec<&Walked> = walks.iter().filter(|walked| walked.wire.beside.is_none() && walked.works()).collect();
    // We speak everything, so one wire that works is enough.
    let through = match working.is_empty() {
        true => (false, "nothing that is spoken here works"),
        false if client.http.is_empty() => (true, "with `landbridge connect TARGET` as its command"),
        false if client.from_afar => (true, "at a public https address"),
        false => (true, ""),
    };
    let mend = if client.http.is_empty() { CONNECT } else { SERVE };
    let no = |breaks, seen: String, mend| Fate { name: client.name, over: None, breaks: Some(breaks), seen, mend, through };
    if ways.is_empty() {
        let seen = if remote { "it starts commands, and knows no URLs" } else { "it knows servers by their URL" };
        return no(SPEAKS, seen.into(), Some(mend));
    }
    for way in ways {
        let Some(walked) = tried(*way, remote, walks) else { continue };
        if walked.works() && client.from_afar && local {
            return no(SPEAKS, "it calls from its maker's machines, and this address is on yours".into(), Some(PUBLIC));
        }
        if walked.works() {
            return Fate { over: Some(wire_of(walked)), breaks: None, ..no(SPEAKS, String::new(), None) };
        }
        // What breaks a way in its middle ends it; a beginning that was refused leads to the next.
        if let Some((rule, seen)) = &walked.broke {
            return no(rule.id, format!("{} ({seen})", rule.id), Some(rule.mend));
        }
        if *way == Way::Discover && matches!(fallback, Some((Verdict::Warn, _))) {
            return no(FALLBACK.id, format!("{} ({})", FALLBACK.id, says(&walked.opened)), Some(FALLBACK.mend));
        }
    }
    let knows = |walked: &&Walked| match walked.wire.transport {
        Transport::Sse => ways.iter().any(|way| matches!(way, Way::Sse(_))),
        _ => walked.wire.revision.era() == Era::Handshake || ways.contains(&Way::Discover),
    };
    let mut strange: Vec<&str> = working
        .iter()
        .filter(|walked| !knows(walked))
        .map(|walked| if walked.wire.transport == Transport::Sse { "HTTP+SSE" } else { "2026-07-28" })
        .collect();
    strange.dedup();
    match strange.as_slice() {
        [] => no(SPEAKS, "nothing it begins with is answered".into(), (!working.is_empty()).then_some(mend)),
        some => no(SPEAKS, format!("it does not speak {}, and that is all there is", some.join(" or ")), Some(mend)),
    }
}

/// What came of that way.
fn tried(way: Way, remote: bool, walks: &[Walked]) -> Option<&Walked> {
    let (transport, revision) = match way {
        Way::Discover => (if remote { Transport::Http } else { Transport::Stdio }, Revision::NEWEST),
        Way::Initialize(revision) => (if remote { Transport::Http } else { Transport::Stdio }, revision),
        Way::Sse(revision) => (Transport::Sse, revision),
    };
    walks.iter().find(|walked| walked.wire == Wire::new(transport, revision))
}

/// The wire it comes to, with the revision the server chose.
fn wire_of(walked: &Walked) -> Wire {
    let revision = walked.answered.as_deref().and_then(Revision::parse).unwrap_or(walked.wire.revision);
    Wire::new(walked.wire.transport, revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::rules;
    use crate::check::seen::Missed;

    fn spoken(transport: Transport, revision: Revision) -> Walked {
        let mut walked = silent(transport, revision);
        walked.answered = Some(revision.to_string());
        walked
    }

    fn silent(transport: Transport, revision: Revision) -> Walked {
        Walked::missed(Wire::new(transport, revision), Err(Missed::default()))
    }

    fn of(name: &str, local: bool, walks: &[Walked], fallback: Option<&Finding>) -> Fate {
        fates(true, local, walks, fallback).into_iter().find(|fate| fate.name == name).unwrap()
    }

    #[test]
    fn a_client_takes_the_first_of_its_ways_that_is_answered() {
        let walks = [silent(Transport::Http, Revision::NEWEST), spoken(Transport::Http, R11), spoken(Transport::Sse, R11)];
        for name in ["Claude Code", "VS Code", "Zed"] {
            assert_eq!(of(name, false, &walks, None).over, Some(Wire::new(Transport::Http, R11)), "{name}");
        }
        let mut older = spoken(Transport::Http, R11);
        older.answered = Some("2025-03-26".into());
        assert_eq!(of("Zed", false, &[older], None).over, Some(Wire::new(Transport::Http, Revision::V2025_03_26)));
    }

    #[test]
    fn what_a_client_does_not_speak_is_named_and_landbridge_does() {
        let modern = [spoken(Transport::Http, Revision::NEWEST), silent(Transport::Http, R11)];
        let fate = of("VS Code", false, &modern, None);
        assert_eq!(fate.seen, "it does not speak 2026-07-28, and that is all there is");
        assert!(fate.through.0 && fate.mend == Some(SERVE));
        let sse = [silent(Transport::Http, R11), spoken(Transport::Sse, R11)];
        assert_eq!(of("Zed", false, &sse, None).seen, "it does not speak HTTP+SSE, and that is all there is");
        assert_eq!(of("VS Code", false, &sse, None).over, Some(Wire::new(Transport::Sse, R11)));
        assert!(!of("Zed", false, &[silent(Transport::Http, R11)], None).through.0);
    }

    #[test]
    fn a_rule_that_is_broken_in_the_middle_breaks_its_clients() {
        let mut broken = spoken(Transport::Http, R11);
        broken.broke = Some((&rules::NOTIFICATION, "HTTP 500".into()));
        let fate = of("VS Code", false, &[broken, spoken(Transport::Sse, R11)], None);
        assert_eq!((fate.breaks, fate.mend), (Some("notification"), Some(rules::NOTIFICATION.mend)));
        let walks = [silent(Transport::Http, Revision::NEWEST), spoken(Transport::Http, R11)];
        let stuck = (Verdict::Warn, "HTTP 500".into());
        assert_eq!(of("Claude Code", false, &walks, Some(&stuck)).breaks, Some("fallback"));
        assert!(of("VS Code", false, &walks, Some(&stuck)).over.is_some());
    }

    #[test]
    fn who_calls_from_afar_cannot_reach_this_machine() {
        let walks = [spoken(Transport::Http, R11), spoken(Transport::Http, R06)];
        assert!(of("ChatGPT connectors", false, &walks, None).over.is_some());
        assert_eq!(of("ChatGPT connectors", true, &walks, None).mend, Some(PUBLIC));
    }
}
