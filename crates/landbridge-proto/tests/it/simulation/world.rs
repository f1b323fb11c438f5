//! Everything there is, and what may happen to it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use landbridge_proto::back::link;
use landbridge_proto::bridge::crossing::Patience;
use landbridge_proto::bridge::parked::{self, Parked};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::sealed::Keys;

use super::clients::{Client, Kind};
use super::gate::{Pipe, Run, Waiting};
use super::ledger::{Counts, Ledger};
use super::{Dice, note};

pub(super) const LINK: link::Limits =
    link::Limits { reply_bytes: 1_500, write_bytes: 20_000, calls: 8, call: Duration::from_secs(60), hold: Duration::from_secs(10) };
/// How long a client may take for a round of a stateless server's questions.
pub(super) const PATIENCE: Patience = Patience { answer: Duration::from_secs(90), task: Duration::from_secs(90) };
pub(super) const KEEP: Duration = Duration::from_secs(40);

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now: Instant,
    pub(super) clients: Vec<Client>,
    pub(super) pipes: Vec<Pipe>,
    pub(super) runs: BTreeMap<u32, Run>,
    pub(super) parked: Parked<Waiting>,
    pub(super) parked_limit: usize,
    pub(super) keys: Keys,
    pub(super) tickets: u64,
    pub(super) next_exchange: u32,
    pub(super) next_run: u32,
    pub(super) next_n: u32,
    pub(super) next_word: u32,
    pub(super) ledger: Ledger,
    /// The servers are elsewhere.
    pub(super) http: bool,
    /// Each session has a handshake server of its own.
    pub(super) own: bool,
    /// A server that asks takes one call a time, as in the product.
    pub(super) turns: bool,
    /// A server asks one question at a time.
    pub(super) polite: bool,
    pub(super) crowd: bool,
    /// How much of what happens are new calls, in percent.
    pace: usize,
    /// Calls that look once more, at the next turn.
    pub(super) later: Vec<u32>,
    /// Nothing new is begun.
    pub(super) calm: bool,
}

impl World {
    pub(super) fn new(seed: u64, http: bool) -> World {
        let mut dice = Dice(seed);
        let now = Instant::now();
        // A crowd of stateless clients around a server that asks.
        let crowd = dice.chance(30);
        let parked_limit = if crowd { 1 } else { 1 + dice.below(4) };
        let limits = parked::Limits { calls: parked_limit, of_each: None, keep: KEEP };
        let (own, turns, polite) = (dice.chance(30), dice.chance(40), dice.chance(60));
        let mut world = World {
            now,
            clients: Vec::new(),
            pipes: Vec::new(),
            runs: BTreeMap::new(),
            parked: Parked::new(limits, now),
            parked_limit,
            keys: Keys::new([7; 32]),
            tickets: 1,
            next_exchange: 1,
            next_run: 1,
            next_n: 1,
            next_word: 1,
            ledger: Ledger::default(),
            http,
            own,
            turns,
            polite,
            crowd,
            pace: 2 + dice.below(9),
            later: Vec::new(),
            calm: false,
            dice,
        };
        note(format!("seed {seed}: own {own}, turns {turns}, polite {polite}, room to park {parked_limit}"));
        for _ in 0..2 + world.dice.below(5) {
            world.new_client();
        }
        world
    }

    pub(super) fn run(mut self) -> Counts {
        // Over HTTP everything takes one step more.
        let steps = (200 + self.dice.below(500)) * (1 + usize::from(self.http));
        for _ in 0..steps {
            self.step();
            self.pump();
            self.check();
        }
        self.come_to_rest();
        self.ledger.settle();
        self.ledger.counts
    }

    fn step(&mut self) {
        let client = self.dice.below(self.clients.len());
        let pipe = self.dice.below(self.pipes.len());
        let there = !self.pipes.is_empty();
        if self.dice.chance(self.pace) {
            return self.new_call(client);
        }
        if self.http && there && self.dice.chance(2) {
            return self.something_breaks(pipe);
        }
        match self.dice.below(100) {
            0..18 if there => self.server_reads(pipe),
            18..44 if there => self.server_acts(pipe),
            44..62 if there => self.link_hears(pipe),
            62..72 => self.client_reads(client),
            72..86 => self.client_answers(client),
            86..88 => self.client_cancels(client),
            88..92 => self.client_comes_and_goes(client),
            92..96 => {
                let seconds = if self.dice.chance(10) { 30 + self.dice.below(60) } else { 1 + self.dice.below(5) };
                self.wait(seconds as u64);
            }
            96 if self.dice.chance(20) && there => self.server_dies(pipe),
            97 if self.dice.chance(25) => self.drain(),
            98 if self.dice.chance(20) => self.rotate(),
            99 => {
                let seconds = 1 + self.dice.below(25);
                note(format!("{seconds} s pass, and no timer knows"));
                self.now += Duration::from_secs(seconds as u64);
            }
            _ => {}
        }
    }

    /// Time passes.
    pub(super) fn wait(&mut self, seconds: u64) {
        note(format!("{seconds} s pass"));
        let until = self.now + Duration::from_secs(seconds);
        while self.now < until {
            self.now = until.min(self.now + Duration::from_secs(5));
            let now = self.now;
            for pipe in 0..self.pipes.len() {
                let moves = !self.calm && self.dice.chance(40);
                if moves || self.is_dead(pipe) {
                    self.server_reads(pipe);
                    self.link_hears(pipe);
                }
                self.pipes[pipe].link.handle_timeout(now);
                self.flush(pipe);
                self.handle_timeout_elsewhere(pipe);
            }
            self.handle_timeout();
            for client in &mut self.clients {
                if let Kind::Session(seat) = &mut client.kind {
                    seat.session.handle_timeout(now);
                }
            }
            self.pump();
        }
    }

    pub(super) fn server_dies(&mut self, pipe: usize) {
        if self.pipes[pipe].link.closed().is_some() {
            return;
        }
        note(format!("the server on pipe {pipe} dies"));
        match self.http {
            true => self.server_starts_again(pipe),
            false => self.close(pipe),
        }
    }

    /// The link is closed.
    pub(super) fn close(&mut self, pipe: usize) {
        let p = &mut self.pipes[pipe];
        p.link.handle_closed(Fault::backend("srv", FaultKind::Backend).tell("it died"));
        p.to_server.clear();
        p.to_link.clear();
        p.jobs.clear();
        self.ledger.closed(pipe);
        self.flush(pipe);
    }

    fn rotate(&mut self) {
        note("the keys change".into());
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.dice.next().to_le_bytes());
        self.keys.rotate(key);
        self.ledger.states.values_mut().for_each(|s| s.rotations += 1);
    }

    /// What holds at all times.
    fn check(&mut self) {
        let parked = self.ledger.states.values().filter(|s| s.parked).count();
        assert_eq!(self.parked.len(), parked, "calls that wait");
        assert!(parked <= self.parked_limit);
        for pipe in &self.pipes {
            // Levels are told besides: for the last call that there is room for, and to sessions that are new.
            let calls = LINK.calls + if self.http { 3 } else { 0 };
            assert!(pipe.link.in_flight() <= calls && pipe.link.ghosts() <= LINK.calls);
        }
        if self.dice.chance(90) {
            return; // the bounds of sessions take long to read
        }
        for client in &self.clients {
            let Kind::Session(seat) = &client.kind else { continue };
            seat.check();
        }
    }

    /// Nothing new begins; the servers answer, or die, or say nothing, and time runs out.
    fn come_to_rest(&mut self) {
        let how = self.dice.below(3);
        note(format!("--- to rest: {}", ["all is answered", "the servers die", "nothing is said"][how]));
        self.calm = true;
        match how {
            0 => {
                for _ in 0..60 {
                    for pipe in 0..self.pipes.len() {
                        for _ in 0..4 {
                            self.server_reads(pipe);
                            self.server_acts(pipe);
                            self.link_hears(pipe);
                            self.pump();
                        }
                    }
                    for client in 0..self.clients.len() {
                        self.client_reads(client);
                        self.client_answers(client);
                        self.pump();
                    }
                }
            }
            1 => (0..self.pipes.len()).for_each(|pipe| self.server_dies(pipe)),
            _ => {}
        }
        for _ in 0..20 {
            self.wait(60);
            (0..self.clients.len()).for_each(|client| self.client_reads(client));
            self.pump();
        }
        self.check();
        assert!(self.runs.is_empty(), "calls go on: {:?}", self.runs.keys());
        assert!(self.parked.is_empty(), "calls wait for ever");
        for client in 0..self.clients.len() {
            self.client_reads(client);
            self.client_ends(client);
        }
        for (n, pipe) in self.pipes.iter().enumerate() {
            let shown = format!("{:?}", pipe.link);
            assert_eq!((pipe.link.in_flight(), pipe.link.askers(), pipe.link.ghosts()), (0, 0, 0), "pipe {n}");
            assert!(shown.contains("asks: {}") && shown.contains("held: None"), "pipe {n}: {shown}");
        }
    }
}
