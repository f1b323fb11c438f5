//! What is known of every call, question and state, by who saw it pass which border.
//!
//! Odd: this knows no slots, tickets or rings. A question is a number that its letters carry
//! (`#17#`), a principal is a mark in everything that is said for it (`m-ada`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::Value;

/// Who calls. Questions that belong to nobody carry no mark.
pub(super) const PRINCIPALS: [&str; 3] = ["ada", "bob", "eve"];

/// The mark of a principal.
pub(super) fn mark(who: Option<usize>) -> String {
    who.map_or("m-nobody".into(), |who| format!("m-{}", PRINCIPALS[who]))
}

/// The question that a text is about.
pub(super) fn question_in(text: &str) -> Option<u32> {
    text.split('#').nth(1)?.parse().ok()
}

/// What has become of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Written, and not read by us.
    Sent,
    Open,
    Answered,
    Refused,
    /// The server took it back.
    Withdrawn,
    /// Its call, or its server, is over.
    Moot,
}

#[derive(Debug)]
pub(super) struct Question {
    pub(super) pipe: usize,
    /// Its id as it was written, or its key.
    id: String,
    /// The call it is asked for, where the server waits for the answer before it ends that call.
    of: Option<u64>,
    /// Calls under way that could have asked it.
    candidates: BTreeSet<u64>,
    pub(super) fate: Fate,
    /// The call it was put down to.
    given: Option<u64>,
    /// It belongs to no call for certain, so the end of one may end it.
    loose: bool,
    /// It was on its way when we ended its call, or was held by us.
    crossed: bool,
    was_held: bool,
    /// What a client sees of it, without what belongs to the hop.
    letters: String,
    /// The client that was shown it.
    shown: Option<usize>,
    /// The answer that was taken for it; `Err`: the client's error.
    pub(super) took: Option<Result<String, String>>,
}

/// A request of a client, and its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) client: usize,
    pub(super) n: u32,
    /// It was answered.
    pub(super) ended: bool,
    /// The answer was read.
    pub(super) read: bool,
    /// Its client left it, or withdrew it over HTTP+SSE: nobody waits for the answer.
    pub(super) gone: bool,
}

/// A call on a pipe.
#[derive(Debug)]
struct Live {
    askable: bool,
    /// Its client can be asked everything, and reads what it is asked.
    can: bool,
}

/// What a client holds for a call that waits.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) who: usize,
    pub(super) method: String,
    pub(super) n: u32,
    pub(super) questions: Vec<(String, u32)>,
    pub(super) until: Instant,
    /// It still has a call behind it.
    pub(super) parked: bool,
    /// How often the keys changed since.
    pub(super) rotations: usize,
    /// Nothing waits; the call is sent anew.
    pub(super) again: bool,
}

/// A stateless server's questions of one round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) questions: Vec<(String, u32)>,
    pub(super) state: Option<String>,
    pub(super) taken: bool,
}

macro_rules! counts {
    ($($name:ident),*) => {
        /// How much has happened.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Counts { $(pub(super) $name: usize),* }

        impl Counts {
            pub(crate) fn and(self, other: Counts) -> Counts {
                Counts { $($name: self.$name + other.$name),* }
            }

            pub(crate) fn all(&self) -> Vec<(&'static str, usize)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counts!(
    calls,
    ended,
    gone,
    asked,
    answered,
    refused,
    withdrawn,
    moot,
    held,
    parked,
    full,
    resumed,
    asked_again,
    unusable,
    expired,
    drained,
    rounds,
    sent_again,
    visits,
    deaths,
    cancelled,
    timed_out,
    streams_resumed,
    streams_lost,
    late_answers
);

/// What is known to go wrong, and looked away from until it is mended.
#[derive(Clone, Copy, Debug, Default)]
struct Fences {
    /// A question that crosses the cancellation of its call is put down to another call.
    crossed: bool,
    /// So is one that is held when its call is cancelled, or takes too long.
    held: bool,
    /// On a pipe of one's own, a question is put down to a call that asks nothing.
    own: bool,
}

impl Fences {
    fn excuse(&self, q: &Question) -> bool {
        (self.crossed && q.crossed) || (self.held && q.was_held)
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) questions: BTreeMap<u32, Question>,
    next_question: u32,
    pub(super) exchanges: BTreeMap<u32, Exchange>,
    live: BTreeMap<(usize, u64), Live>,
    shared: BTreeMap<usize, bool>,
    pub(super) states: BTreeMap<String, State>,
    pub(super) rounds: BTreeMap<u32, Round>,
    pub(super) counts: Counts,
    fences: Fences,
}

impl Ledger {
    /// `open`: the names of the fences that are taken down.
    pub(super) fn new(open: &str) -> Ledger {
        let stands = |name| !open.contains(name);
        let fences = Fences { crossed: stands("crossed"), held: stands("held"), own: stands("own") };
        Ledger { fences, ..Ledger::default() }
    }

    pub(super) fn pipe(&mut self, pipe: usize, shared: bool) {
        self.shared.insert(pipe, shared);
    }

    // --- calls -----------------------------------------------------------------------------

    pub(super) fn begun(&mut self, pipe: usize, key: u64, askable: bool, can: bool) {
        assert!(self.live.insert((pipe, key), Live { askable, can }).is_none(), "the id {key} is in use on pipe {pipe}");
    }

    /// A call goes on for another client of its principal's.
    pub(super) fn goes_on(&mut self, pipe: usize, key: u64, can: bool) {
        if let Some(live) = self.live.get_mut(&(pipe, key)) {
            live.can = can;
        }
    }

    pub(super) fn ended(&mut self, exchange: u32) {
        let e = self.exchanges.get_mut(&exchange).expect("an exchange");
        assert!(!e.ended, "exchange {exchange} is answered twice");
        e.ended = true;
        self.counts.ended += 1;
    }

    pub(super) fn read(&mut self, exchange: u32) {
        let e = self.exchanges.get_mut(&exchange).expect("an answer to a request");
        assert!(e.ended && !e.read, "exchange {exchange} is answered twice, or before its time");
        e.read = true;
    }

    fn over(&mut self, pipe: usize, key: u64, by_us: bool) {
        if self.live.remove(&(pipe, key)).is_none() {
            return;
        }
        let shared = self.shared[&pipe];
        let touched = |q: &Question| q.candidates.contains(&key) || q.given == Some(key);
        for q in self.questions.values_mut().filter(|q| q.pipe == pipe && q.fate == Fate::Open && touched(q)) {
            // A server that was told to drop a call may be told no more of its questions, or a refusal.
            let certain = q.given == Some(key) || (q.given.is_none() && shared && q.of == Some(key) && !by_us);
            if certain {
                q.fate = Fate::Moot;
                self.counts.moot += 1;
            } else if shared || q.given.is_some() {
                q.loose = true;
            }
            q.was_held |= by_us && q.given.is_none() && q.of == Some(key);
        }
    }

    // --- questions ---------------------------------------------------------------------------

    /// A server makes up a question.
    pub(super) fn asks(&mut self, pipe: usize, id: String, of: Option<u64>) -> u32 {
        self.next_question += 1;
        let question = Question {
            pipe,
            id,
            of,
            candidates: BTreeSet::new(),
            fate: Fate::Sent,
            given: None,
            loose: false,
            crossed: false,
            was_held: false,
            letters: String::new(),
            shown: None,
            took: None,
        };
        self.questions.insert(self.next_question, question);
        self.next_question
    }

    fn open(&mut self, pipe: usize, id: &str) -> Option<(u32, &mut Question)> {
        let newest = self.questions.iter_mut().rev().find(|(_, q)| q.pipe == pipe && q.id == id && q.fate != Fate::Sent);
        newest.map(|(n, q)| (*n, q))
    }

    /// A line of the server, just before the link gets it.
    pub(super) fn heard(&mut self, pipe: usize, line: &str) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        match (message.get("method").and_then(Value::as_str), message.get("id")) {
            (None, Some(id)) => self.over(pipe, id.as_u64().unwrap_or_default(), false),
            (Some("notifications/cancelled"), _) => {
                let id = message["params"]["requestId"].to_string();
                if let Some((_, q)) = self.open(pipe, &id).filter(|(_, q)| q.fate == Fate::Open) {
                    q.fate = Fate::Withdrawn;
                    self.counts.withdrawn += 1;
                }
            }
            (Some(_), Some(_)) => {
                let n = question_in(line).expect("a question");
                let candidates = self.live.iter().filter(|((p, _), l)| *p == pipe && l.askable).map(|((_, key), _)| *key).collect();
                let q = self.questions.get_mut(&n).expect("it was made up");
                assert_eq!(q.fate, Fate::Sent);
                (q.fate, q.candidates) = (Fate::Open, candidates);
                // It crossed the cancellation of its call.
                q.crossed = q.of.is_some_and(|of| !q.candidates.contains(&of));
                self.counts.held += usize::from(q.candidates.len() > 1);
                self.counts.asked += 1;
            }
            _ => {}
        }
    }

    /// A line for the server, as soon as the link has it.
    pub(super) fn sent(&mut self, pipe: usize, line: &str) {
        let message: Value = serde_json::from_str(line).expect("a message");
        match message.get("method").and_then(Value::as_str) {
            Some("notifications/cancelled") => {
                let id = message["params"]["requestId"].as_u64().expect("an id of ours");
                assert!(self.live.contains_key(&(pipe, id)), "call {id} of pipe {pipe} is cancelled, and over");
                self.over(pipe, id, true);
            }
            Some(_) => {}
            None => {
                let id = message["id"].to_string();
                let of = self.open(pipe, &id).and_then(|(_, q)| q.candidates.first().copied());
                let can = of.and_then(|of| self.live.get(&(pipe, of))).is_some_and(|l| l.can);
                let fences = self.fences;
                let (n, q) = self.open(pipe, &id).expect("an answer to a question");
                let excused = fences.excuse(q);
                assert!(q.fate == Fate::Open || excused, "question {n} is answered, and was {:?}", q.fate);
                let body = |word: &str| line.split_once(&format!("\"{word}\":")).map(|(_, b)| b.strip_suffix("}\n").expect("the end"));
                if message.get("result").is_some() {
                    let took = q.took.as_ref().and_then(|t| t.as_ref().ok());
                    assert_eq!(body("result"), took.map(String::as_str), "question {n}");
                    q.fate = Fate::Answered;
                    self.counts.answered += 1;
                } else {
                    let ours = message["error"]["code"].as_i64().is_some_and(|code| code <= -32000);
                    let plain = q.candidates.len() == 1 && can && q.took.is_none();
                    assert!(!plain || line.contains("did not answer in time"), "question {n} is refused without need: {line}");
                    match &q.took {
                        Some(Err(error)) => assert_eq!(body("error"), Some(error.as_str()), "question {n}"),
                        Some(Ok(_)) => panic!("question {n} was answered, and its server is told {line}"),
                        None => assert!(ours, "question {n} was not answered, and its server is told {line}"),
                    }
                    q.fate = Fate::Refused;
                    self.counts.refused += 1;
                }
            }
        }
    }

    /// The link puts a question down to a call.
    pub(super) fn given(&mut self, pipe: usize, n: u32, key: u64) {
        let shared = self.shared[&pipe];
        let q = self.questions.get_mut(&n).expect("it was made up");
        if self.fences.excuse(q) {
            q.given = Some(key);
            return;
        }
        assert_eq!((q.pipe, q.fate, q.given), (pipe, Fate::Open, None), "question {n} is given to call {key}");
        assert!(q.candidates.contains(&key) || (self.fences.own && !shared), "question {n} came when call {key} was not under way");
        if shared {
            assert!(q.of.is_none_or(|of| of == key), "question {n} of call {:?} is given to call {key}", q.of);
            let other = q.candidates.iter().find(|c| **c != key && self.live.contains_key(&(pipe, **c)));
            assert_eq!(other, None, "question {n} is given to call {key}, and may be another's");
        }
        q.given = Some(key);
    }

    pub(super) fn letters(&mut self, n: u32, letters: String) {
        self.questions.get_mut(&n).expect("it was made up").letters = letters;
    }

    /// A client sees a question: live only once, in an answer as often as it sends its call.
    pub(super) fn shown(&mut self, n: u32, client: usize, live: bool, text: &str) {
        let q = self.questions.get_mut(&n).expect("it was made up");
        assert!(text.contains(&q.letters), "question {n} has other letters: {text}");
        assert!(q.shown.is_none() || !live, "question {n} is shown twice");
        q.shown = Some(client);
    }

    /// The first answer of a client is on its way to the server.
    pub(super) fn took(&mut self, n: u32, answer: Result<String, String>) {
        let q = self.questions.get_mut(&n).expect("it was made up");
        assert!(q.took.is_none(), "question {n} is answered twice");
        q.took = Some(answer);
    }

    /// Whether an answer would still be wanted.
    pub(super) fn is_open(&self, n: u32) -> bool {
        self.questions[&n].fate == Fate::Open
    }

    pub(super) fn closed(&mut self, pipe: usize) {
        self.live.retain(|(p, _), _| *p != pipe);
        for q in self.questions.values_mut().filter(|q| q.pipe == pipe && q.fate == Fate::Open) {
            q.fate = Fate::Moot;
            self.counts.moot += 1;
        }
        self.counts.deaths += 1;
    }

    // --- borders -------------------------------------------------------------------------------

    /// Nothing of another principal's is in what a client gets.
    pub(super) fn only_for(&self, who: usize, text: &str) {
        let Some(other) = (0..PRINCIPALS.len()).find(|p| *p != who && text.contains(&mark(Some(*p)))) else { return };
        let mut about = text.split('#').filter_map(|n| self.questions.get(&n.parse().ok()?));
        let excused = about.any(|q| self.fences.excuse(q));
        assert!(excused, "{} gets what is {}'s: {text}", PRINCIPALS[who], PRINCIPALS[other]);
    }

    /// What stays behind when everything has ended.
    pub(super) fn settle(&mut self) {
        for (n, e) in &self.exchanges {
            assert!(e.ended || e.gone, "exchange {n} is never answered");
        }
        assert!(self.live.is_empty(), "calls go on: {:?}", self.live);
        for (n, q) in &self.questions {
            assert!(q.fate != Fate::Open || q.loose, "question {n} stays open: {q:?}");
        }
        self.counts.calls = self.exchanges.len();
        self.counts.gone = self.exchanges.values().filter(|e| e.gone).count();
    }
}
