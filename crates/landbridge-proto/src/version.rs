//! The published revisions of the protocol, and the one line that divides them.

use std::fmt;

/// A published revision, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// HTTP+SSE, the first.
    V2024_11_05,
    /// Streamable HTTP, batches, audio.
    V2025_03_26,
    /// No batches; structured output, resource links, elicitation.
    V2025_06_18,
    /// Polling streams, tasks, URL elicitation: the last with a handshake.
    V2025_11_25,
    /// No handshake, no session, no requests from the server.
    V2026_07_28,
}

/// Which side of the great divide a peer is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    /// `initialize` first (up to 2025-11-25).
    Handshake,
    /// Every request describes itself (2026-07-28).
    Stateless,
}

impl Revision {
    /// All of them, oldest first.
    pub const ALL: [Revision; 5] =
        [Revision::V2024_11_05, Revision::V2025_03_26, Revision::V2025_06_18, Revision::V2025_11_25, Revision::V2026_07_28];
    /// The newest that begins with `initialize`.
    pub const LAST_HANDSHAKE: Revision = Revision::V2025_11_25;
    /// The newest.
    pub const NEWEST: Revision = Revision::V2026_07_28;

    /// The date by which the revision is known on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Revision::V2024_11_05 => "2024-11-05",
            Revision::V2025_03_26 => "2025-03-26",
            Revision::V2025_06_18 => "2025-06-18",
            Revision::V2025_11_25 => "2025-11-25",
            Revision::V2026_07_28 => "2026-07-28",
        }
    }

    /// The revision of that date, if there is one.
    pub fn parse(date: &str) -> Option<Revision> {
        Revision::ALL.into_iter().find(|r| r.as_str() == date)
    }

    /// The era the revision belongs to.
    pub const fn era(self) -> Era {
        match self {
            Revision::V2026_07_28 => Era::Stateless,
            _ => Era::Handshake,
        }
    }

    /// What to answer an `initialize` that asks for `date`: the same where it has a handshake,
    /// otherwise the newest that has (basic/lifecycle). Some clients ask for a stateless
    /// revision here; they too get the newest they can have this way.
    pub fn answer_to_initialize(date: &str) -> Revision {
        Revision::parse(date).filter(|r| r.era() == Era::Handshake).unwrap_or(Revision::LAST_HANDSHAKE)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
