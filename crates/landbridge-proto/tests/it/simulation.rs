//! A world of clients and servers around the bridge, moved at random from a seed.
//!
//! ```text
//!   clients ──▶ Session ─┐                     ┌─ Link ──▶ a server with a handshake
//!   (both eras)          ├─▶ runs, Crossing ──▶┤           (asks in the middle of a call)
//!   clients ──▶ Parked ──┘      under Keys     └─ Link ──▶ a stateless server
//!                                                          (answers `input_required`)
//! ```
//!
//! `world` moves things, `gate` does what the product does with the edges, `clients` and `servers`
//! are both ends. The [`ledger`] is the reference: it sees only what passes each border, and knows
//! of every call and every question one word of state. Each call ends once; each question is
//! answered, refused or withdrawn once, under its own id and with its client's letters; each state
//! works once and for its own; nothing of one principal reaches another; nothing stays behind.
//!
//! Over HTTP ([`elsewhere`]) there is more that may go wrong, and more that must not: a call that may have been
//! read is never sent again, nobody's answer reaches another session's question, and what a call relies on has
//! been said to the session that reads it.
//!
//! ```text
//! cargo test simulation                    the seeds of every run, and those that once failed
//! SIM_SEED=17 cargo test simulation        one of them, with everything that happens
//! SIM_SEEDS=5000 cargo test simulation     as many random ones
//! ```

mod clients;
mod elsewhere;
mod gate;
mod ledger;
mod servers;
mod world;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use ledger::Counts;
use world::World;

/// Seeds of every test run.
const SEEDS: u64 = 300;
/// Seeds that once failed, each with the reason.
const ONCE_FAILED: &str = include_str!("../simulation-seeds.txt");

/// Numbers that follow from a seed (splitmix64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'t, T>(&mut self, of: &'t [T]) -> Option<&'t T> {
        (!of.is_empty()).then(|| &of[self.below(of.len())])
    }
}

thread_local! {
    static STEPS: RefCell<VecDeque<String>> = const { RefCell::new(VecDeque::new()) };
}

/// Notes a step, to be shown should this seed fail.
pub(crate) fn note(step: String) {
    STEPS.with_borrow_mut(|steps| {
        if steps.len() == 60 {
            steps.pop_front();
        }
        steps.push_back(step);
    });
}

fn run(seed: u64, http: bool) -> Counts {
    STEPS.with_borrow_mut(VecDeque::clear);
    match catch_unwind(AssertUnwindSafe(|| World::new(seed, http).run())) {
        Ok(counts) => counts,
        Err(panic) => {
            STEPS.with_borrow(|steps| steps.iter().for_each(|step| eprintln!("  {step}")));
            eprintln!("the simulation {} fails with SIM_SEED={seed}", if http { "over HTTP" } else { "on pipes" });
            resume_unwind(panic);
        }
    }
}

fn sum(all: impl Iterator<Item = Counts>) -> Counts {
    all.fold(Counts::default(), Counts::and)
}

/// Seeds of that wire.
fn once_failed(http: bool) -> impl Iterator<Item = u64> {
    ONCE_FAILED.lines().filter_map(move |line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let seed = words.next()?.parse().expect("a seed");
        (words.next() == Some("http")).eq(&http).then_some(seed)
    })
}

fn simulate(http: bool) {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    if let Some(seed) = number("SIM_SEED") {
        let counts = run(seed, http);
        STEPS.with_borrow(|steps| steps.iter().for_each(|step| eprintln!("  {step}")));
        return eprintln!("{counts:#?}");
    }
    if let Some(n) = number("SIM_SEEDS") {
        let first = RandomState::new().hash_one(n) >> 32;
        return eprintln!("{n} seeds: {:#?}", sum((first..first + n).map(|seed| run(seed, http))));
    }
    let counts = sum(once_failed(http).chain(0..SEEDS).map(|seed| run(seed, http)));
    // A world where nothing happens proves nothing.
    let least = if http { 3 } else { 20 };
    for (what, n) in counts.all(http) {
        assert!(n >= least, "{what}: only {n} times in all seeds: {counts:#?}");
    }
}

#[test]
fn every_call_and_every_question_ends_once() {
    simulate(false);
}

#[test]
fn so_they_do_over_http() {
    simulate(true);
}
