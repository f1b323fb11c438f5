//! Meeting a child process: which era does it speak?
//!
//! ```text
//!   auto:    Discovering ──DiscoverResult──▶ Met (stateless)
//!              │ -32022 naming 2026-07-28 ──▶ Met once it answers again
//!              │ any other error, or 3 s of silence ──▶ Initializing, on the same pipe
//!              │ the pipe ends ──▶ Respawn, then Initializing
//!            Initializing ──InitializeResult──▶ Met (handshake)
//!              │ a late DiscoverResult ──▶ Met (stateless)
//!              │ -32022 ──▶ Discovering once more (a slow server that locked its era)
//!              └ error, end, or 30 s in all ──▶ Failed
//! ```
//!
//! The era is a property of the server, so the verdict is kept by whoever starts the next child.
//! No code of ours keys on one particular error: servers answer an unknown method in every way
//! there is, dying included.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::back::stdio::{own_info, own_meta};
use crate::call::{Client, Server, object};
use crate::json;
use crate::message::{Kind, Message};
use crate::methods::Method;
use crate::version::{Era, Revision};

/// What is known, or demanded, before the meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Find out.
    Auto,
    /// It has a handshake.
    Legacy,
    /// It speaks this revision.
    Pinned(Revision),
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the answer to `server/discover` before `initialize` is tried.
    pub probe: Duration,
    /// For the whole meeting.
    pub handshake: Duration,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Write this to the child.
    Send(Bytes),
    /// The child ended on the probe: start another and call [`Probe::respawned`].
    Respawn,
    /// The meeting is over; the pipe now belongs to a link.
    Met(Box<Server>),
    /// It will not work out, for this reason.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Discovering { again: bool },
    Initializing { probed: bool },
    Over,
}

/// One meeting with one child (or two, if the first dies of the probe).
#[derive(Debug)]
pub struct Probe {
    name: String,
    protocol: Protocol,
    patience: Patience,
    state: State,
    began: Instant,
    asked: Instant,
    offer: Revision,
    client: Option<Client>,
    steps: Vec<Step>,
    /// A refused handshake has led back to the probe: once is enough.
    asked_again: bool,
}

impl Probe {
    /// Begins a meeting with the server called `name`. `client` is whom the server gets to know
    /// in a handshake: the client whose session this child is, or ourselves.
    pub fn new(name: &str, protocol: Protocol, client: Option<&Client>, patience: Patience, now: Instant) -> Probe {
        let offer = match protocol {
            Protocol::Pinned(revision) if revision.era() == Era::Handshake => revision,
            _ => client.map_or(Revision::LAST_HANDSHAKE, |c| c.revision.min(Revision::LAST_HANDSHAKE)),
        };
        let mut probe = Probe {
            name: name.into(),
            protocol,
            patience,
            state: State::Over,
            began: now,
            asked: now,
            offer,
            client: client.cloned(),
            steps: Vec::new(),
            asked_again: false,
        };
        match protocol {
            Protocol::Auto | Protocol::Pinned(Revision::V2026_07_28) => probe.discover(false, now),
            _ => probe.initialize(false, now),
        }
        probe
    }

    /// A fresh child is there, after [`Step::Respawn`].
    pub fn respawned(&mut self, now: Instant) {
        self.initialize(false, now);
    }

    /// A line arrived. Gives back a notification the meeting has no use for.
    pub fn handle_line(&mut self, line: Bytes, now: Instant) -> Option<Message> {
        let message = Message::read(line).ok()?;
        match &message.kind {
            Kind::Response(Some(id), answer) => match (id.as_bytes(), answer) {
                (b"\"landbridge-discover\"", Ok(at)) => self.discovered(message.slice(*at)),
                (b"\"landbridge-discover\"", Err(at)) => self.not_discovered(message.slice(*at), now),
                (b"\"landbridge-initialize\"", Ok(at)) => self.initialized(message.slice(*at)),
                (b"\"landbridge-initialize\"", Err(at)) => self.not_initialized(message.slice(*at), now),
                _ => {}
            },
            // Servers may ping before the handshake is done (basic/lifecycle).
            Kind::Request(id, Method::Ping) => {
                let id = String::from_utf8_lossy(id.as_bytes());
                self.steps.push(Step::Send(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}\n").into()));
            }
            Kind::Notification(_) => return Some(message),
            _ => {}
        }
        None
    }

    /// The child closed its output.
    pub fn handle_end(&mut self) {
        match self.state {
            State::Discovering { again: false } if self.protocol == Protocol::Auto => self.finish(Step::Respawn),
            // It may have read `initialize` behind the probe it died of.
            State::Initializing { probed: true } => self.finish(Step::Respawn),
            State::Over => {}
            _ => self.finish(Step::Failed("it ended before the handshake was done".into())),
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state == State::Over {
            return;
        }
        if now >= self.began + self.patience.handshake {
            let secs = self.patience.handshake.as_secs_f32();
            return self.finish(Step::Failed(format!("it did not answer within {secs} s")));
        }
        let silent = now >= self.asked + self.patience.probe;
        if silent && self.protocol == Protocol::Auto && matches!(self.state, State::Discovering { again: false }) {
            self.initialize(true, now);
        }
    }

    /// When [`Probe::handle_timeout`] wants to be called.
    pub fn timeout(&self) -> Instant {
        let end = self.began + self.patience.handshake;
        match self.state {
            State::Discovering { again: false } if self.protocol == Protocol::Auto => end.min(self.asked + self.patience.probe),
            _ => end,
        }
    }

    /// What to do next; `None`: wait.
    pub fn poll_step(&mut self) -> Option<Step> {
        (!self.steps.is_empty()).then(|| self.steps.remove(0))
    }

    fn discover(&mut self, again: bool, now: Instant) {
        self.state = State::Discovering { again };
        self.asked = now;
        self.steps.push(Step::Send(discover_request()));
    }

    fn initialize(&mut self, probed: bool, now: Instant) {
        self.state = State::Initializing { probed };
        self.asked = now;
        self.steps.push(Step::Send(initialize_request(self.offer, self.client.as_ref())));
    }

    fn discovered(&mut self, result: Bytes) {
        if self.state == State::Over {
            return;
        }
        if versions(&result, "supportedVersions").contains(&Revision::NEWEST) {
            return match Server::read(Revision::NEWEST, result, &self.name) {
                Ok(server) => self.finish(Step::Met(Box::new(server))),
                Err(why) => self.finish(Step::Failed(format!("its answer to server/discover cannot be read: {why}"))),
            };
        }
        // It knows the method and speaks only handshake revisions, or answers everything.
        if let State::Discovering { .. } = self.state {
            self.legacy_or_fail("it does not serve 2026-07-28", self.asked);
        }
    }

    fn not_discovered(&mut self, error: Bytes, now: Instant) {
        let State::Discovering { again } = self.state else { return };
        if crate::bridge::code_of(&error) == Some(-32022) {
            let supported = object(error).ok().and_then(|e| e.params_fields(&["data"]).ok()?[0].map(|d| e.slice(d)));
            let supported = supported.map(|d| versions(&d, "supported")).unwrap_or_default();
            if supported.contains(&Revision::NEWEST) && !again {
                return self.discover(true, now);
            }
            if !supported.is_empty() && supported.iter().all(|r| r.era() == Era::Stateless) {
                return self.finish(Step::Failed("it serves no protocol version that we know".into()));
            }
        }
        self.legacy_or_fail("it refuses server/discover", now);
    }

    fn legacy_or_fail(&mut self, why: &str, now: Instant) {
        match self.protocol {
            _ if self.asked_again => self.finish(Step::Failed(format!("{why}, and refused a handshake"))),
            Protocol::Pinned(_) => self.finish(Step::Failed(format!("{why}, though it is pinned to 2026-07-28"))),
            // Some refuse, and then end: another child is worth a try.
            _ => self.initialize(true, now),
        }
    }

    fn initialized(&mut self, result: Bytes) {
        if self.state == State::Over {
            return;
        }
        match read_hello(result, &self.name) {
            Ok(server) => {
                self.steps.push(Step::Send(Bytes::from_static(INITIALIZED)));
                self.finish(Step::Met(Box::new(server)));
            }
            Err(why) => self.finish(Step::Failed(why)),
        }
    }

    fn not_initialized(&mut self, error: Bytes, now: Instant) {
        let State::Initializing { .. } = self.state else { return };
        if crate::bridge::code_of(&error) == Some(-32022) && self.protocol == Protocol::Auto && !self.asked_again {
            self.asked_again = true;
            return self.discover(true, now);
        }
        self.finish(Step::Failed(format!("it refused initialize: {}", message_of(error))));
    }

    fn finish(&mut self, step: Step) {
        self.state = State::Over;
        self.steps.push(step);
    }
}

/// What tells a server that the handshake is done.
pub const INITIALIZED: &[u8] = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";

/// `server/discover`, as a line.
pub(super) fn discover_request() -> Bytes {
    let meta = own_meta();
    let line = "{\"jsonrpc\":\"2.0\",\"id\":\"landbridge-discover\",\"method\":\"server/discover\",\"params\":{\"_meta\":";
    format!("{line}{meta}}}}}\n").into()
}

/// `initialize`, as a line: `client`, or ourselves, offering that revision.
pub fn initialize_request(offer: Revision, client: Option<&Client>) -> Bytes {
    let info = client.and_then(|c| c.info.clone()).unwrap_or_else(|| own_info().into());
    let capabilities = client.map_or(Bytes::from_static(b"{}"), |c| c.capabilities.clone());
    let mut line = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":\"landbridge-initialize\",\"method\":\"initialize\",\"params\":{{\"protocolVersion\":\"{offer}\",\"capabilities\":"
    )
    .into_bytes();
    line.extend_from_slice(&capabilities);
    line.extend_from_slice(b",\"clientInfo\":");
    line.extend_from_slice(&info);
    line.extend_from_slice(b"}}");
    json::one_line(&mut line);
    line.push(b'\n');
    line.into()
}

/// The server that an InitializeResult describes.
pub(super) fn read_hello(result: Bytes, name: &str) -> Result<Server, String> {
    let version = object(result.clone()).ok().and_then(|r| {
        let [version] = r.params_fields(&["protocolVersion"]).ok()?;
        Some(r.string_at(version)?.into_owned())
    });
    let version = version.ok_or("its answer to initialize names no protocol version")?;
    let known = Revision::parse(&version).filter(|r| r.era() == Era::Handshake);
    let revision = known.ok_or_else(|| format!("it answers initialize with protocol version {version:?}"))?;
    Server::read(revision, result, name).map_err(|why| format!("its answer to initialize cannot be read: {why}"))
}

/// What an error object says.
pub(super) fn message_of(error: Bytes) -> String {
    let said = object(error).ok().and_then(|e| {
        let [message] = e.params_fields(&["message"]).ok()?;
        Some(e.string_at(message)?.into_owned())
    });
    said.unwrap_or_default()
}

/// The revisions we know among those listed under `key`.
pub(super) fn versions(result: &Bytes, key: &str) -> Vec<Revision> {
    let read = || {
        let message = object(result.clone()).ok()?;
        let [list] = message.params_fields(&[key]).ok()?;
        let items = json::elements(message.text(list?), 64).ok()??;
        Some(items.into_iter().filter_map(|i| Revision::parse(&json::string(i.as_bytes())?)).collect())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { probe: Duration::from_secs(3), handshake: Duration::from_secs(30) };
    const HELLO: &str = r#"{"jsonrpc":"2.0","id":"landbridge-initialize","result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}}"#;
    const FOUND: &str = r#"{"jsonrpc":"2.0","id":"landbridge-discover","result":{"supportedVersions":["2026-07-28"],"capabilities":{}}}"#;

    #[allow(clippy::disallowed_methods)] // An origin for virtual time; nothing waits.
    fn begin(protocol: Protocol) -> (Probe, Instant) {
        let now = Instant::now();
        (Probe::new("s", protocol, None, PATIENCE, now), now)
    }

    fn steps(probe: &mut Probe) -> Vec<String> {
        std::iter::from_fn(|| probe.poll_step())
            .map(|s| match s {
                Step::Send(line) => {
                    let m = Message::read(line).unwrap();
                    match m.kind {
                        Kind::Request(_, m) | Kind::Notification(m) => m.as_str().to_owned(),
                        Kind::Response(..) => "answer".into(),
                    }
                }
                Step::Respawn => "respawn".into(),
                Step::Met(s) => format!("met {}", s.revision),
                Step::Failed(why) => format!("failed: {why}"),
            })
            .collect()
    }

    fn line(probe: &mut Probe, now: Instant, text: &str) -> Vec<String> {
        probe.handle_line(Bytes::copy_from_slice(text.as_bytes()), now);
        steps(probe)
    }

    #[test]
    fn a_stateless_server_answers_at_once() {
        let (mut p, now) = begin(Protocol::Auto);
        assert_eq!(steps(&mut p), ["server/discover"]);
        assert_eq!(line(&mut p, now, FOUND), ["met 2026-07-28"]);
    }

    #[test]
    fn any_error_means_handshake() {
        for error in [r#"{"code":-32601,"message":""}"#, r#"{"code":-32602,"message":""}"#, r#"{"code":0,"message":""}"#] {
            let (mut p, now) = begin(Protocol::Auto);
            steps(&mut p);
            let text = format!(r#"{{"jsonrpc":"2.0","id":"landbridge-discover","error":{error}}}"#);
            assert_eq!(line(&mut p, now, &text), ["initialize"]);
            assert_eq!(line(&mut p, now, HELLO), ["notifications/initialized", "met 2025-06-18"]);
        }
    }

    #[test]
    fn silence_means_handshake_and_a_late_answer_still_counts() {
        let (mut p, now) = begin(Protocol::Auto);
        steps(&mut p);
        assert_eq!(p.timeout(), now + PATIENCE.probe);
        p.handle_timeout(now + PATIENCE.probe);
        assert_eq!(steps(&mut p), ["initialize"]);
        assert_eq!(line(&mut p, now, FOUND), ["met 2026-07-28"]);
        assert!(line(&mut p, now, HELLO).is_empty());
    }

    #[test]
    fn silence_for_good_fails() {
        let (mut p, now) = begin(Protocol::Auto);
        p.handle_timeout(now + PATIENCE.probe);
        assert_eq!(p.timeout(), now + PATIENCE.handshake);
        p.handle_timeout(now + PATIENCE.handshake);
        assert_eq!(steps(&mut p).last().unwrap(), "failed: it did not answer within 30 s");
    }

    #[test]
    fn a_server_that_dies_of_the_probe_is_started_again() {
        let (mut p, now) = begin(Protocol::Auto);
        steps(&mut p);
        p.handle_end();
        assert_eq!(steps(&mut p), ["respawn"]);
        p.respawned(now);
        assert_eq!(steps(&mut p), ["initialize"]);
        p.handle_end();
        assert_eq!(steps(&mut p), ["failed: it ended before the handshake was done"]);
    }

    #[test]
    fn a_slow_server_that_locked_its_era_is_probed_again() {
        let (mut p, now) = begin(Protocol::Auto);
        steps(&mut p);
        p.handle_timeout(now + PATIENCE.probe);
        steps(&mut p);
        let text =
            r#"{"jsonrpc":"2.0","id":"landbridge-initialize","error":{"code":-32022,"message":"","data":{"supported":["2026-07-28"]}}}"#;
        assert_eq!(line(&mut p, now, text), ["server/discover"]);
        assert_eq!(line(&mut p, now, FOUND), ["met 2026-07-28"]);
    }

    #[test]
    fn only_legacy_versions_mean_handshake_and_foreign_ones_an_error() {
        for (supported, step) in [("2025-11-25", "initialize"), ("2099-01-01", "initialize")] {
            let (mut p, now) = begin(Protocol::Auto);
            steps(&mut p);
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":"landbridge-discover","error":{{"code":-32022,"message":"","data":{{"supported":["{supported}"]}}}}}}"#
            );
            assert_eq!(line(&mut p, now, &text), [step]);
        }
    }

    #[test]
    fn a_pin_is_kept() {
        let (mut p, now) = begin(Protocol::Pinned(Revision::V2026_07_28));
        steps(&mut p);
        let text = r#"{"jsonrpc":"2.0","id":"landbridge-discover","error":{"code":-32601,"message":""}}"#;
        assert_eq!(line(&mut p, now, text), ["failed: it refuses server/discover, though it is pinned to 2026-07-28"]);
        let (mut p, _) = begin(Protocol::Legacy);
        assert_eq!(steps(&mut p), ["initialize"]);
    }

    #[test]
    fn pings_and_garbage_do_not_disturb_it() {
        let (mut p, now) = begin(Protocol::Legacy);
        steps(&mut p);
        assert!(line(&mut p, now, "Starting server on stdio…").is_empty());
        assert_eq!(line(&mut p, now, r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#), ["answer"]);
        assert_eq!(line(&mut p, now, HELLO), ["notifications/initialized", "met 2025-06-18"]);
    }
}
