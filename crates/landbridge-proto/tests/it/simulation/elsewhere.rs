//! The servers over HTTP, and the network between.
//!
//! ```text
//!   Link ─▶ Far ─▶ requests, read in any order ─▶ jobs of the server
//!   Link ◀─ Far ◀─ frames, in order on each stream ◀┘
//! ```
//!
//! Streams break off, with what is on its way on them; sessions are forgotten, with or without the calls that
//! run in them; servers start again. A session numbers its questions and its events anew, so that what is
//! taken for another session's shows itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use landbridge_proto::back::link::Key;
use landbridge_proto::call::{Call, Client, Level, Server};
use landbridge_proto::fault::Fault;
use landbridge_proto::version::{Era, Revision};
use serde_json::Value;

use super::clients::Kind;
use super::gate::Pipe;
use super::note;
use super::world::{LINK, World};
use crate::far::{self, Far, Out, Request, Said};

/// Where the answer to a call goes.
#[derive(Clone, Debug)]
pub(super) struct On {
    request: u32,
    pub(super) session: u64,
    streams: bool,
    /// The connection is gone.
    broken: bool,
}

pub(super) struct Elsewhere {
    far: Far,
    unread: Vec<Request>,
    /// What is on its way to us.
    streams: BTreeMap<u32, VecDeque<Frame>>,
    /// The how-manieth session the server has with us, and whether it knows of it.
    session: u64,
    known: bool,
    level: Option<Level>,
    /// The stream that is no call's.
    get: Option<u32>,
    /// Questions, by the session and the id they have there.
    asked: BTreeMap<(u64, String), u32>,
    /// Requests of the link's own.
    own: BTreeSet<u64>,
    /// Calls that were read.
    read: BTreeSet<u64>,
    /// From which level on a call wants logs.
    levels: BTreeMap<u64, Level>,
    /// Its events have ids, and are kept: by session and id, those of each call.
    kept: Option<BTreeMap<(u64, u32), (u64, String)>>,
    next_event: u32,
    /// Nobody answers.
    dead: bool,
}

/// A piece of a response.
#[derive(Clone, Debug)]
enum Frame {
    Opens,
    Event { id: Option<u32>, line: String },
    Whole { status: u16, session: Option<String>, body: String },
    Breaks,
}

impl Elsewhere {
    pub(super) fn new(server: &Arc<Server>, keeps: bool) -> Elsewhere {
        let client = Client {
            revision: Revision::LAST_HANDSHAKE,
            principal: Default::default(),
            transport: landbridge_proto::call::Transport::Streamable,
            info: None,
            capabilities: "{}".into(),
        };
        let session = (server.era() == Era::Handshake).then(|| "s1".to_owned());
        Elsewhere {
            far: Far::new(server.revision, client, session, 100_000, LINK.hold),
            unread: Vec::new(),
            streams: BTreeMap::new(),
            session: 1,
            known: true,
            level: None,
            get: None,
            asked: BTreeMap::new(),
            own: BTreeSet::new(),
            read: BTreeSet::new(),
            levels: BTreeMap::new(),
            kept: keeps.then(BTreeMap::new),
            next_event: 0,
            dead: false,
        }
    }

    /// Whether the line is a request of the link's own, or withdraws one: there is no call behind it.
    fn is_our_own(&mut self, line: &str) -> bool {
        let value: Value = serde_json::from_str(line).expect("a message");
        if value["method"] == "logging/setLevel" {
            self.own.extend(value["id"].as_u64());
        }
        let about = value["params"]["requestId"].as_u64().or(value["id"].as_u64());
        value["method"].is_string() && about.is_some_and(|id| self.own.contains(&id))
    }

    fn push(&mut self, request: u32, frame: Frame) {
        self.streams.entry(request).or_default().push_back(frame);
    }

    fn whole(&mut self, request: u32, status: u16, body: &str) {
        self.push(request, Frame::Whole { status, session: None, body: body.into() });
    }

    /// The number of an event of that call, in its session, if it is to have one.
    fn keep(&mut self, session: u64, call: u64, line: &str) -> Option<u32> {
        let kept = self.kept.as_mut()?;
        self.next_event += 1;
        kept.insert((session, self.next_event), (call, line.into()));
        Some(self.next_event)
    }
}

impl World {
    fn elsewhere(&mut self, pipe: usize) -> &mut Elsewhere {
        self.pipes[pipe].elsewhere.as_mut().expect("it is elsewhere")
    }

    // --- to the server -----------------------------------------------------------------------------

    /// From which level on a call wants logs.
    pub(super) fn log_level(&mut self, client: usize) -> Option<Level> {
        let may = self.http && matches!(self.clients[client].kind, Kind::Stateless(_));
        if !may || !self.dice.chance(50) {
            return None;
        }
        self.dice.pick(&[Level::Debug, Level::Info, Level::Warning]).copied()
    }

    /// Sends a call.
    pub(super) fn begin_on(&mut self, pipe: usize, call: &Call) -> Result<Key, Fault> {
        let p = &mut self.pipes[pipe];
        let Some(elsewhere) = &mut p.elsewhere else { return p.link.begin(call, self.now) };
        let (key, line) = p.link.begin_at_once(call, self.now)?;
        if p.link.server().era() == Era::Handshake {
            elsewhere.levels.extend(call.log_level.map(|level| (key.id(), level)));
        }
        if let Some(line) = line {
            elsewhere.far.send(key, line);
        }
        Ok(key)
    }

    /// A call goes on for another exchange: what that wants is told behind it.
    pub(super) fn relies_on_nothing(&mut self, pipe: usize, key: Key) {
        if let Some(elsewhere) = &mut self.pipes[pipe].elsewhere {
            elsewhere.levels.remove(&key.id());
        }
    }

    /// What the link has said is on its way.
    pub(super) fn carry(&mut self, pipe: usize) {
        let p = &mut self.pipes[pipe];
        let elsewhere = p.elsewhere.as_mut().expect("it is elsewhere");
        elsewhere.far.carry(&mut p.link, Waker::noop(), self.now);
        let mut lines = std::mem::take(&mut elsewhere.far.taken);
        lines.retain(|line| !elsewhere.is_our_own(line));
        while let Some(out) = elsewhere.far.out.pop_front() {
            match out {
                Out::Request(request) => {
                    note(format!("pipe {pipe} ◀ {} {} {:?}", request.number, request.body.as_deref().unwrap_or("GET"), request.headers));
                    if let (Some(id), Some(_)) = (elsewhere.far.call_of(request.number), &request.body) {
                        // What is withdrawn while it is on its way has been sent before.
                        let goes_on = elsewhere.own.contains(&id) || self.ledger.goes_on_now(pipe, id);
                        assert!(goes_on, "call {id} of pipe {pipe} is over, and sent");
                    }
                    elsewhere.unread.push(request);
                }
                Out::Dropped(line) => {
                    let value: Value = serde_json::from_str(&line).expect("a message");
                    let id = value["params"]["requestId"].as_u64();
                    p.jobs.retain(|job| Some(job.id) != id);
                    self.ledger.counts.dropped += 1;
                }
                Out::Renewed | Out::Missed => {}
            }
        }
        self.ledger.sent(pipe, &lines, self.now);
    }

    /// Before anything else that comes of it.
    pub(super) fn hears_of_renewal(&mut self, pipe: usize) {
        let Some(elsewhere) = &mut self.pipes[pipe].elsewhere else { return };
        let before = elsewhere.far.out.len();
        elsewhere.far.out.retain(|out| !matches!(out, Out::Renewed));
        if elsewhere.far.out.len() < before {
            note(format!("pipe {pipe} is in another session"));
            self.ledger.renewed(pipe);
        }
    }

    /// Requests overtake each other; what are no calls does not.
    pub(super) fn server_reads_a_request(&mut self, pipe: usize) {
        let n = self.elsewhere(pipe).unread.len();
        if n == 0 {
            return;
        }
        let at = self.dice.below(n);
        let unread = &mut self.elsewhere(pipe).unread;
        let is_word = |request: &Request| {
            let body = request.body.as_deref().unwrap_or("GET");
            body != "GET" && !(body.contains("\"method\":") && body.contains("\"id\":"))
        };
        let at = if is_word(&unread[at]) { unread.iter().position(is_word).unwrap_or(at) } else { at };
        let request = unread.remove(at);
        self.reads(pipe, request);
    }

    fn reads(&mut self, pipe: usize, request: Request) {
        let number = request.number;
        let (roll, calm) = (self.dice.below(100), self.calm);
        let era = self.pipes[pipe].link.server().era();
        let header = |name: &str| request.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        let elsewhere = self.elsewhere(pipe);
        if elsewhere.dead {
            return elsewhere.push(number, Frame::Breaks);
        }
        let body = request.body.clone().unwrap_or_default();
        let value: Value = serde_json::from_str(&body).unwrap_or_default();
        let method = value["method"].as_str();
        if method == Some("initialize") {
            if roll < 5 && !calm {
                return self.elsewhere(pipe).whole(number, 503, "");
            }
            elsewhere.session += 1;
            if let Some(get) = elsewhere.get.take() {
                elsewhere.streams.insert(get, VecDeque::from([Frame::Breaks]));
            }
            (elsewhere.known, elsewhere.level) = (true, None);
            elsewhere.next_event = 0;
            let name = format!("s{}", elsewhere.session);
            let hello =
                r#"{"jsonrpc":"2.0","id":"landbridge-initialize","result":{"protocolVersion":"2025-11-25","capabilities":{"logging":{}}}}"#;
            elsewhere.push(number, Frame::Whole { status: 200, session: Some(name), body: hello.into() });
            self.pipes[pipe].next_id = 1;
            return;
        }
        let named = header("mcp-session-id");
        if era == Era::Handshake && !(elsewhere.known && named == Some(format!("s{}", elsewhere.session))) {
            note(format!("pipe {pipe}: the session of request {number} is forgotten"));
            return match roll < 70 {
                true => elsewhere.whole(number, 404, ""),
                false => elsewhere.whole(number, 400, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"no such session"}}"#),
            };
        }
        let session = elsewhere.session;
        match (&request.body, value.get("id").is_some(), method) {
            (None, ..) => match elsewhere.far.call_of(number) {
                Some(call) => self.takes_up(pipe, number, call, header("last-event-id")),
                None if roll < 80 => {
                    elsewhere.get = Some(number);
                    elsewhere.push(number, Frame::Opens);
                }
                None => elsewhere.whole(number, if roll < 95 { 503 } else { 405 }, ""),
            },
            (_, true, Some("logging/setLevel")) => {
                elsewhere.level = value["params"]["level"].as_str().and_then(Level::parse);
                elsewhere.whole(number, 200, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, value["id"]));
            }
            (_, true, Some(_)) => {
                let id = value["id"].as_u64().expect("an id of ours");
                let breaks = roll < 4 && !calm;
                if breaks && roll < 2 {
                    return elsewhere.push(number, Frame::Breaks);
                }
                assert!(elsewhere.read.insert(id), "call {id} of pipe {pipe} is read twice");
                let wants = elsewhere.levels.get(&id).copied().filter(|_| !elsewhere.far.hasty);
                let level = elsewhere.level;
                if let Some(wants) = wants.filter(|_| self.ledger.goes_on_now(pipe, id)) {
                    assert!(
                        level.is_some_and(|level| level <= wants),
                        "call {id} wants logs from {wants:?} on, and the session is at {level:?}"
                    );
                    self.ledger.counts.levels += 1;
                }
                if breaks {
                    return self.elsewhere(pipe).push(number, Frame::Breaks);
                }
                self.takes(pipe, &body, Some(On { request: number, session, streams: false, broken: false }));
            }
            (_, true, None) => {
                let of = elsewhere.asked.get(&(session, value["id"].to_string())).copied();
                elsewhere.whole(number, 202, "");
                self.ledger.reached(of.expect("an answer to a question of this session"), &body);
                self.takes(pipe, &body, Some(On { request: number, session, streams: false, broken: false }));
            }
            _ => {
                elsewhere.whole(number, 202, "");
                if method == Some("notifications/cancelled") {
                    self.takes(pipe, &body, None);
                }
            }
        }
    }

    /// A call's stream is asked for again.
    fn takes_up(&mut self, pipe: usize, number: u32, call: u64, last_id: Option<String>) {
        let p = &mut self.pipes[pipe];
        let elsewhere = p.elsewhere.as_mut().expect("it is elsewhere");
        let session = elsewhere.session;
        let last: Option<u32> = last_id.and_then(|id| id.parse().ok());
        // Which call it was, the server knows by the event alone.
        let known = |kept: &BTreeMap<(u64, u32), (u64, String)>| Some((kept.get(&(session, last?))?.0, kept.clone()));
        let Some((of, kept)) = elsewhere.kept.as_ref().and_then(known) else { return elsewhere.whole(number, 400, "") };
        assert_eq!(of, call, "the stream of another call is taken up");
        elsewhere.push(number, Frame::Opens);
        for ((_, id), (_, line)) in kept.into_iter().filter(|((s, id), (c, _))| (*s, *c) == (session, of) && Some(*id) > last) {
            elsewhere.push(number, Frame::Event { id: Some(id), line });
        }
        match p.jobs.iter_mut().find(|job| job.id == of).and_then(|job| job.on.as_mut()) {
            Some(on) => (on.request, on.broken, on.streams) = (number, false, true),
            None => elsewhere.push(number, Frame::Breaks),
        }
        self.ledger.counts.taken_up += 1;
    }

    // --- from the server ---------------------------------------------------------------------------

    /// A question is one of the session in which its call runs, or of the newest.
    pub(super) fn is_asked_elsewhere(&mut self, pipe: usize, of: Option<u64>, id: &str, n: u32) {
        let p = &mut self.pipes[pipe];
        let Some(elsewhere) = &mut p.elsewhere else { return };
        let on = p.jobs.iter().find(|job| Some(job.id) == of).and_then(|job| job.on.as_ref());
        let session = on.map_or(elsewhere.session, |on| on.session);
        elsewhere.asked.insert((session, id.to_owned()), n);
    }

    /// The server says something, mostly on the stream of the call that it is for.
    pub(super) fn says_elsewhere(&mut self, pipe: usize, of: Option<u64>, line: &str) {
        let beside = self.dice.chance(20);
        let p = &mut self.pipes[pipe];
        let elsewhere = p.elsewhere.as_mut().expect("it is elsewhere");
        let on = p.jobs.iter_mut().find(|job| Some(job.id) == of).and_then(|job| job.on.as_mut());
        let is_question = line.contains("\"method\":") && line.contains("\"id\":");
        match on {
            Some(on) if !(beside && is_question && elsewhere.get.is_some() && on.session == elsewhere.session) => {
                if !on.streams {
                    on.streams = true;
                    elsewhere.push(on.request, Frame::Opens);
                    let id = elsewhere.keep(on.session, of.expect("it has a job"), "");
                    elsewhere.push(on.request, Frame::Event { id, line: String::new() });
                }
                let id = elsewhere.keep(on.session, of.expect("it has a job"), line);
                if !on.broken {
                    elsewhere.push(on.request, Frame::Event { id, line: line.to_owned() });
                }
            }
            // What has no stream is never said.
            _ => {
                if let Some(get) = elsewhere.get {
                    elsewhere.push(get, Frame::Event { id: None, line: line.to_owned() });
                }
            }
        }
    }

    /// The server answers a call: as JSON, or on its stream, and there sometimes twice.
    pub(super) fn answers_elsewhere(&mut self, pipe: usize, id: u64, line: &str) {
        self.hears_all_beside(pipe);
        let (plain, twice) = (self.dice.chance(50), self.dice.chance(10));
        let on = self.pipes[pipe].jobs.iter().find(|job| job.id == id).and_then(|job| job.on.clone()).expect("it was read");
        if plain && !on.streams {
            self.ledger.counts.as_json += 1;
            return self.elsewhere(pipe).whole(on.request, 200, line);
        }
        for _ in 0..1 + usize::from(twice) {
            self.says_elsewhere(pipe, Some(id), line);
        }
        self.ledger.counts.twice += usize::from(twice);
        if !on.broken {
            self.elsewhere(pipe).push(on.request, Frame::Breaks);
        }
    }

    /// What a server asked beside the stream of a call is not overtaken by the end of that call here. Where it
    /// is, nobody can tell whose it was.
    pub(super) fn hears_all_beside(&mut self, pipe: usize) {
        let next = |p: &mut Pipe| {
            let elsewhere = p.elsewhere.as_mut()?;
            let get = elsewhere.get?;
            Some((get, elsewhere.streams.get_mut(&get)?.pop_front()?))
        };
        while let Some((get, frame)) = next(&mut self.pipes[pipe]) {
            self.arrives(pipe, get, frame);
        }
    }

    /// The next piece of any stream arrives.
    pub(super) fn link_hears_a_frame(&mut self, pipe: usize) {
        let elsewhere = self.elsewhere(pipe);
        elsewhere.streams.retain(|_, frames| !frames.is_empty());
        let open: Vec<u32> = elsewhere.streams.keys().copied().collect();
        let Some(&number) = self.dice.pick(&open) else { return };
        let frame = self.elsewhere(pipe).streams.get_mut(&number).and_then(VecDeque::pop_front);
        self.arrives(pipe, number, frame.expect("or it is not there"));
    }

    fn arrives(&mut self, pipe: usize, number: u32, frame: Frame) {
        let now = self.now;
        let p = &mut self.pipes[pipe];
        let elsewhere = p.elsewhere.as_mut().expect("it is elsewhere");
        if !elsewhere.far.awaits(number) || p.link.closed().is_some() {
            elsewhere.streams.remove(&number);
            return;
        }
        note(format!("pipe {pipe} ▶ {number} {frame:?}"));
        let goes_on = matches!(frame, Frame::Opens | Frame::Event { .. });
        let (call, was_open) = (elsewhere.far.call_of(number), p.link.closed().is_none());
        let handle = |elsewhere: &mut Elsewhere, p: &mut _, said: Said<'_>| elsewhere.far.handle(p, number, said, now);
        match frame {
            Frame::Opens => handle(elsewhere, &mut p.link, Said::Stream),
            Frame::Event { id, line } => {
                if call.is_some_and(|call| elsewhere.far.is_lost(call)) && line.contains("\"method\":") && !line.contains("/progress") {
                    self.ledger.heard_in_vain(&line);
                } else if !line.is_empty() {
                    self.ledger.heard(pipe, &line, call, now);
                }
                let id = id.map(|id| id.to_string());
                handle(elsewhere, &mut p.link, Said::Bytes(far::event(id.as_deref(), None, None, &line).as_bytes()));
            }
            Frame::Whole { status, session, body } => {
                if status == 200 && call.is_some() {
                    self.ledger.heard(pipe, &body, call, now);
                }
                handle(elsewhere, &mut p.link, Said::Whole { status, session: session.as_deref(), body: &body });
            }
            Frame::Breaks => handle(elsewhere, &mut p.link, Said::Breaks),
        }
        // No other session could be had.
        if was_open && p.link.closed().is_some() {
            p.jobs.clear();
            self.ledger.closed(pipe);
        }
        self.flush(pipe);
        self.notices_ends(pipe);
        // A call that was lost may ask, for all the link knows, until its client has read that.
        if !goes_on {
            self.pump();
        }
    }

    /// Calls may end without an answer.
    fn notices_ends(&mut self, pipe: usize) {
        for id in self.ledger.under_way(pipe) {
            if !self.pipes[pipe].link.is_under_way(Key::of_id(id)) {
                self.ledger.broke(pipe, id);
            }
        }
    }

    pub(super) fn handle_timeout_elsewhere(&mut self, pipe: usize) {
        let p = &mut self.pipes[pipe];
        let Some(elsewhere) = &mut p.elsewhere else { return };
        elsewhere.far.handle_timeout(self.now);
        self.flush(pipe);
        self.notices_ends(pipe);
    }

    /// Whether whoever asks the server anything is cut off.
    pub(super) fn is_dead(&self, pipe: usize) -> bool {
        self.pipes[pipe].elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.dead)
    }

    // --- what goes wrong ---------------------------------------------------------------------------

    pub(super) fn something_breaks(&mut self, pipe: usize) {
        let handshake = self.pipes[pipe].link.server().era() == Era::Handshake;
        match self.dice.below(100) {
            0..45 => {
                let open: Vec<u64> =
                    self.pipes[pipe].jobs.iter().filter(|job| job.on.as_ref().is_some_and(|on| !on.broken)).map(|job| job.id).collect();
                if let Some(&id) = self.dice.pick(&open) {
                    note(format!("pipe {pipe}: the connection of call {id} breaks"));
                    self.ledger.counts.broken_off += 1;
                    self.breaks(pipe, id);
                }
            }
            45..60 => {
                let elsewhere = self.elsewhere(pipe);
                if let Some(get) = elsewhere.get.take() {
                    note(format!("pipe {pipe}: its GET stream breaks"));
                    elsewhere.streams.insert(get, VecDeque::from([Frame::Breaks]));
                }
            }
            60..90 if handshake => {
                note(format!("pipe {pipe}: the server forgets its session"));
                self.ledger.counts.forgotten += 1;
                self.elsewhere(pipe).known = false;
                let ids: Vec<u64> = self.pipes[pipe].jobs.iter().map(|job| job.id).collect();
                for id in ids {
                    if self.dice.chance(30) {
                        self.breaks(pipe, id);
                    }
                }
            }
            90..95 => self.server_starts_again(pipe),
            _ => {}
        }
    }

    /// The connection of a call breaks, with what was on its way. A server that keeps no events does not go on.
    fn breaks(&mut self, pipe: usize, id: u64) {
        let p = &mut self.pipes[pipe];
        let elsewhere = p.elsewhere.as_mut().expect("it is elsewhere");
        let Some(on) = p.jobs.iter_mut().find(|job| job.id == id).and_then(|job| job.on.as_mut()) else { return };
        on.broken = true;
        elsewhere.streams.insert(on.request, VecDeque::from([Frame::Breaks]));
        if elsewhere.kept.is_none() {
            p.jobs.retain(|job| job.id != id);
        }
    }

    /// It knows nothing of what was.
    pub(super) fn server_starts_again(&mut self, pipe: usize) {
        note(format!("the server of pipe {pipe} starts again"));
        self.ledger.counts.deaths += 1;
        let (calm, p) = (self.calm, &mut self.pipes[pipe]);
        p.jobs.clear();
        let elsewhere = p.elsewhere.as_mut().expect("it is elsewhere");
        (elsewhere.known, elsewhere.get, elsewhere.dead) = (false, None, calm);
        elsewhere.kept.as_mut().into_iter().for_each(BTreeMap::clear);
        let unread: Vec<u32> = elsewhere.unread.drain(..).map(|request| request.number).collect();
        let open: Vec<u32> = elsewhere.streams.keys().copied().chain(unread).collect();
        // Some streams have nothing on their way.
        let quiet: Vec<u32> = elsewhere.far.all().collect();
        for number in open.into_iter().chain(quiet) {
            elsewhere.streams.insert(number, VecDeque::from([Frame::Breaks]));
        }
    }
}
