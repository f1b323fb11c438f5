//! One gateway between clients and a server, in virtual time, with the case at both ends.
//!
//! `front` and `gate` do what the product's exchanges, sessions and children do with the edges of
//! this crate; only sockets and processes are missing. Odd: everything runs until nothing moves
//! any more, and only what was woken is polled.

pub(crate) mod call;
pub(crate) mod front;
pub(crate) mod gate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::{Duration, Instant};

use bytes::Bytes;
use landbridge_proto::back::probe::Protocol;
use landbridge_proto::version::{Era, Revision};

use front::{Front, FrontKind};
use gate::{Gate, Heard, Told, Wire};

/// What a pair may hold: small, so that a case can reach every bound.
pub(crate) struct Limits {
    pub(crate) message: usize,
    pub(crate) reply_bytes: usize,
    pub(crate) write_bytes: usize,
    pub(crate) calls: usize,
    pub(crate) call: Duration,
    pub(crate) hold: Duration,
    pub(crate) patience: Duration,
    pub(crate) parked: usize,
    pub(crate) event_bytes: usize,
    pub(crate) keep: Duration,
    pub(crate) streams: usize,
    pub(crate) commit: Duration,
    pub(crate) probe: Duration,
    pub(crate) handshake: Duration,
}

pub(crate) const LIMITS: Limits = Limits {
    message: 4_000,
    reply_bytes: 2_000,
    write_bytes: 4_000,
    calls: 8,
    call: Duration::from_secs(60),
    hold: Duration::from_secs(10),
    patience: Duration::from_secs(30),
    parked: 3,
    event_bytes: 2_000,
    keep: Duration::from_secs(300),
    streams: 4,
    commit: Duration::from_secs(1),
    probe: Duration::from_secs(3),
    handshake: Duration::from_secs(30),
};

/// A waker that remembers. Rung at first: whoever is new looks around once.
#[derive(Debug)]
pub(crate) struct Bell(AtomicBool);

impl Bell {
    pub(crate) fn new() -> Arc<Bell> {
        Arc::new(Bell(AtomicBool::new(true)))
    }

    pub(crate) fn ring(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn rang(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}

/// One combination of what a case leaves open.
#[derive(Clone, Debug)]
pub(crate) struct Pairing {
    pub(crate) fronts: BTreeMap<String, FrontKind>,
    pub(crate) back: Back,
    pub(crate) wire: Wire,
    pub(crate) own: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Back {
    /// It was met already, and speaks this.
    Met(Revision),
    /// The case plays the meeting.
    Unmet(Protocol),
}

pub(crate) struct Pair {
    pub(crate) gate: Gate,
    pub(crate) fronts: BTreeMap<String, Front>,
    /// What the server answers when it is met: to `server/discover` and to `initialize`.
    hello: [String; 2],
}

impl Pair {
    /// Sets up the pair; where the server is met already, both handshakes are done.
    pub(crate) fn new(pairing: &Pairing, server: &str, client: &str) -> Pair {
        let now = Instant::now();
        let protocol = match pairing.back {
            Back::Unmet(protocol) => protocol,
            Back::Met(_) => Protocol::Auto,
        };
        let fronts = pairing.fronts.iter().map(|(name, kind)| (name.clone(), Front::new(*kind, now))).collect();
        let mut pair = Pair { gate: Gate::new(protocol, pairing.wire, pairing.own, now), fronts, hello: Default::default() };
        if let Back::Met(revision) = pairing.back {
            pair.meet(revision, server, client);
        }
        pair
    }

    fn meet(&mut self, revision: Revision, server: &str, client: &str) {
        let info = r#"{"name":"srv","version":"1"}"#;
        let (discover, initialize) = match revision.era() {
            Era::Stateless => (
                format!(
                    r#""result":{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{server},"ttlMs":0,"cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{info}}}}}"#
                ),
                String::new(),
            ),
            Era::Handshake => (
                r#""error":{"code":-32601,"message":"Method not found"}"#.to_owned(),
                format!(r#""result":{{"protocolVersion":"{revision}","capabilities":{server},"serverInfo":{info}}}"#),
            ),
        };
        self.hello = [discover, initialize];
        let names: Vec<String> = self.fronts.keys().cloned().collect();
        for name in &names {
            let front = self.fronts.get_mut(name).expect("it is there");
            let asked = front.revision();
            if front.kind == FrontKind::Stateless {
                let stranger = landbridge_proto::call::Client {
                    revision: asked,
                    principal: Default::default(),
                    transport: landbridge_proto::call::Transport::Streamable,
                    info: None,
                    capabilities: Bytes::copy_from_slice(client.as_bytes()),
                };
                let _ = self.gate.seat(&stranger);
            } else {
                let body = format!(
                    r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{asked}","capabilities":{client},"clientInfo":{{"name":"cli","version":"1"}}}}}}"#
                );
                front.post(&mut self.gate, &[], &body);
            }
            self.answer_meeting();
            let front = self.fronts.get_mut(name).expect("it is there");
            if front.kind != FrontKind::Stateless {
                assert_eq!(front.got.len(), 1, "one answer to initialize: {:?}", front.got);
                front.post(&mut self.gate, &[], r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            }
            front.got.clear();
            self.settle();
        }
    }

    /// Plays the meeting, up to the first line that is none of it.
    fn answer_meeting(&mut self) {
        self.settle();
        while let Some(heard) = self.gate.heard.pop_front() {
            let line = match &heard {
                Heard::Line(line) => line,
                Heard::Request(request) => match &request.body {
                    Some(line) => line,
                    None => {
                        self.gate.hear_stream(request.number);
                        self.settle();
                        continue;
                    }
                },
                _ => return self.gate.heard.push_front(heard),
            };
            let answer = match line {
                line if line.contains("server/discover") => Some(("discover", &self.hello[0])),
                line if line.contains("\"initialize\"") => Some(("initialize", &self.hello[1])),
                line if line.contains("notifications/initialized") => None,
                _ => return self.gate.heard.push_front(heard),
            };
            if let Some((name, answer)) = answer {
                let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"landbridge-{name}\",{answer}}}");
                self.gate.hear_hello(&answer);
            }
            self.settle();
        }
    }

    /// The server is started again, and the same as before.
    pub(crate) fn start_again(&mut self) {
        self.gate.start_again();
        self.answer_meeting();
    }

    pub(crate) fn front(&mut self, name: &str) -> (&mut Front, &mut Gate) {
        let front = self.fronts.get_mut(name).unwrap_or_else(|| panic!("no client is called {name}"));
        (front, &mut self.gate)
    }

    /// The server does not come back: whoever listened to its changes has to ask again.
    pub(crate) fn give_up(&mut self) {
        self.fronts.values_mut().for_each(Front::break_off);
    }

    /// Time passes, a second at a time, as for the product's timers.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.gate.now + time;
        while self.gate.now < until {
            self.tick(until.min(self.gate.now + Duration::from_secs(1)));
        }
    }

    fn tick(&mut self, now: Instant) {
        self.gate.now = now;
        self.gate.handle_timeout();
        self.fronts.values_mut().for_each(|f| f.handle_timeout(now));
        self.settle();
    }

    /// What is still kept when all time is over and everybody has read everything.
    pub(crate) fn left_over(&mut self) -> Vec<&'static str> {
        self.fronts.values_mut().for_each(Front::read_on);
        for _ in 0..3 {
            self.tick(self.gate.now + LIMITS.call.max(LIMITS.patience));
        }
        let calls = self.gate.link().is_some_and(|link| link.in_flight() > 0);
        let known = self.fronts.values().any(Front::has_calls);
        let kept = [(calls, "a call on the pipe"), (known, "a call of a session"), (self.gate.has_parked(), "a parked call")];
        kept.into_iter().filter_map(|(there, what)| there.then_some(what)).collect()
    }

    /// Everything that can happen happens.
    pub(crate) fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "it never comes to rest");
            let mut moved = self.gate.pump();
            while let Some(told) = self.gate.told.pop_front() {
                moved = true;
                self.tell(told);
            }
            for front in self.fronts.values_mut() {
                moved |= front.pump(&mut self.gate);
            }
            if !moved {
                return;
            }
        }
    }

    fn tell(&mut self, told: Told) {
        let (now, shared) = (self.gate.now, self.gate.is_shared());
        match told {
            Told::Notice(notice) => self.fronts.values_mut().for_each(|f| f.notice(&notice, shared, now)),
            Told::Ask(ask) => {
                let asked = self.fronts.values_mut().any(|f| f.ask(&ask, now));
                if !asked {
                    self.gate.answer(ask.ticket, Err(call::unaskable()));
                }
            }
            Told::Withdrawn(ticket) => self.fronts.values_mut().for_each(|f| f.withdraw(ticket, now)),
            Told::Renewed if shared => {}
            Told::Renewed => {
                let said: Vec<_> = self.fronts.values().filter_map(Front::said).collect();
                said.into_iter().for_each(|(level, uris)| self.gate.say_again(level, &uris));
            }
        }
    }
}
