//! What a server logs: from which level on, and whose a line is.
//!
//! A handshake server that clients share has one level for all of them: the most verbose that is wanted, and what
//! a client did not want is filtered for it. A stateless server logs for requests that carry a level.

use std::time::Instant;

use super::{Event, Key, Link, Live, What};
use crate::call::{Call, Level, Note, Notice, Reply};
use crate::fault::Fault;
use crate::methods::Method;
use crate::version::Era;

/// Which log lines a call is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logs {
    /// The session decides.
    All,
    /// The request asked for them.
    From(Level),
    /// It did not.
    Never,
}

impl Logs {
    pub(super) fn take(self, level: Option<Level>) -> bool {
        match self {
            Logs::All => true,
            Logs::From(least) => level.is_none_or(|l| l >= least),
            Logs::Never => false,
        }
    }
}

impl Link {
    /// A stateless server logs only for requests that carry a level, whoever sent them.
    pub(super) fn logs_for(&self, call: &Call) -> Logs {
        let asked_for = [call.client.revision.era(), self.server.era()].contains(&Era::Stateless);
        match (asked_for, call.log_level) {
            (false, _) => Logs::All,
            (true, Some(level)) => Logs::From(level),
            (true, None) => Logs::Never,
        }
    }

    /// The most verbose level that sessions want of a shared handshake server, which has one for all;
    /// what a client did not want is filtered for it. Asking again sends what could not be sent.
    pub fn want_level(&mut self, level: Option<Level>, now: Instant) -> Result<(), Fault> {
        self.wanted_level = level;
        self.settle_level(now)
    }

    /// The level that sessions and the calls under way want now.
    pub(super) fn level_now(&self) -> Option<Level> {
        let calls = self.slots.iter().filter_map(|(_, live)| match live.logs {
            Logs::From(level) => Some(level),
            Logs::All | Logs::Never => None,
        });
        calls.chain(self.wanted_level).min()
    }

    /// Tells the server the level that is wanted, if it is not the one it was told. Where nobody wants
    /// one any more there is no way back to what the server did unasked; this is what most do.
    pub(super) fn settle_level(&mut self, now: Instant) -> Result<(), Fault> {
        const UNASKED: Level = Level::Info;
        if !self.has_a_level() {
            return Ok(());
        }
        let wanted = self.level_now().or(self.level.map(|_| UNASKED));
        match wanted {
            Some(level) if wanted != self.level => {
                self.admit()?;
                self.tell_level(level, now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the server has a level, and we are who sets it.
    pub(super) fn has_a_level(&self) -> bool {
        self.shared && self.server.can.logging && self.server.era() == Era::Handshake
    }

    pub(super) fn tell_level(&mut self, level: Level, now: Instant) {
        let key = self.begin_own_as(What::First, &Method::SetLevel, &format!("\"level\":\"{}\"", level.as_str()), now);
        self.level = Some(level);
        self.forget(key);
    }

    /// A log line on the stream of that call: nobody else's, also if its client did not ask for it.
    pub(super) fn handle_log_of(&mut self, key: Key, notice: Notice) {
        match self.live(key).map(|live| (live.own, live.logs)) {
            Some((true, _)) | None => self.events.push_back(Event::Notice(notice)),
            Some((false, logs)) if logs.take(notice.level) => {
                self.push(key, Reply::Note(Note { method: Method::Log, message: notice.message }));
            }
            Some((false, _)) => {}
        }
    }

    /// The one call a log line can belong to.
    pub(super) fn logger(&self, level: Option<Level>) -> Option<Key> {
        let opted_in = self.server.era() == Era::Stateless;
        let is_one = |l: &Live| !l.listen && !l.done && !l.forgotten && (!opted_in || l.logs != Logs::Never);
        let key = self.slots.only(is_one)?;
        self.slots.iter().any(|(of, live)| of == key && live.logs.take(level)).then_some(key)
    }
}
