//! What is known of every call, question and state, by who saw it pass which border.
//!
//! Odd: this knows no slots, tickets or rings. A question is a number that its letters carry
//! (`#17#`), a principal is a mark in everything that is said for it (`m-ada`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde_json::Value;

use super::world::LINK;

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
    /// Calls that could have asked it when it came: those under way, and those we ended a moment ago.
    candidates: BTreeSet<u64>,
    /// Calls that we ended so long before that they may be forgotten.
    faded: BTreeSet<u64>,
    pub(super) fate: Fate,
    /// The call it was put down to.
    given: Option<u64>,
    /// It went along with a call that it does not belong to.
    rode: bool,
    /// It may be over.
    loose: bool,
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
    /// How far it has come.
    pub(super) progress: Option<u64>,
}

/// A call on a pipe, until its server has answered it.
#[derive(Debug)]
struct Live {
    askable: bool,
    asker: Asker,
    /// When we ended it.
    cut: Option<Instant>,
    /// More calls were ended at once than are remembered.
    crowded: bool,
}

/// Whom a call's questions are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) client: usize,
    /// It can be asked something.
    pub(super) any: bool,
    /// It can be asked everything, and reads what it is asked.
    pub(super) all: bool,
}

impl Live {
    /// Whether a question that comes now may be its own, for all that a gateway can know.
    fn is_candidate(&self, shared: bool, now: Instant) -> bool {
        let remembered = |cut: Instant| shared && self.asker.any && !self.crowded && now < cut + LINK.hold;
        self.askable && self.cut.is_none_or(remembered)
    }
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
    ($($name:ident),*; over http: $($far:ident),*) => {
        /// How much has happened.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Counts { $(pub(super) $name: usize,)* $(pub(super) $far: usize),* }

        impl Counts {
            pub(crate) fn and(self, other: Counts) -> Counts {
                Counts {
                    $($name: self.$name + other.$name,)*
                    $($far: self.$far + other.$far),*
                }
            }

            /// All that can happen on that wire.
            pub(crate) fn all(&self, http: bool) -> Vec<(&'static str, usize)> {
                let mut all = vec![$((stringify!($name), self.$name)),*];
                if http {
                    all.extend([$((stringify!($far), self.$far)),*]);
                }
                all
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
    withdrawn_as_before,
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
    late_answers,
    crossed,
    too_late,
    given_up,
    rode,
    ownerless,
    progress,
    restarts,
    haunted;
    over http: forgotten, renewed, levels, on_its_stream, asked_in_vain, reached, broke, broken_off, taken_up, as_json, twice, dropped
);

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
}

impl Ledger {
    pub(super) fn pipe(&mut self, pipe: usize, shared: bool) {
        self.shared.insert(pipe, shared);
    }

    // --- calls -----------------------------------------------------------------------------

    pub(super) fn begun(&mut self, pipe: usize, key: u64, askable: bool, asker: Asker) {
        let live = Live { askable, asker, cut: None, crowded: false };
        assert!(self.live.insert((pipe, key), live).is_none(), "the id {key} is in use on pipe {pipe}");
    }

    /// A call goes on for another client of its principal's.
    pub(super) fn goes_on(&mut self, pipe: usize, key: u64, asker: Asker) {
        if let Some(live) = self.live.get_mut(&(pipe, key)) {
            live.asker = asker;
        }
    }

    /// So many calls were ended on a pipe that not all may be remembered.
    pub(super) fn crowded(&mut self, pipe: usize) {
        let cut = self.live.iter_mut().filter(|((p, _), l)| *p == pipe && l.cut.is_some());
        cut.for_each(|(_, live)| live.crowded = true);
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

    /// A client is told how far its call has come.
    pub(super) fn progress(&mut self, exchange: u32, client: usize, progress: u64) {
        let e = self.exchanges.get_mut(&exchange).expect("progress of a request");
        assert_eq!(e.client, client, "the progress of another client's call");
        assert!(
            !e.read && e.progress.is_none_or(|last| last < progress),
            "exchange {exchange} comes to {progress} behind {:?}",
            e.progress
        );
        e.progress = Some(progress);
        self.counts.progress += 1;
    }

    /// The server has answered a call: what it asked for it, it does not ask any more.
    fn over(&mut self, pipe: usize, key: u64) {
        let Some(was) = self.live.remove(&(pipe, key)) else { return };
        let shared = self.shared[&pipe];
        for q in self.questions.values_mut().filter(|q| q.pipe == pipe && q.fate == Fate::Open) {
            // What was put to no call yet ends with the last one that can have asked it.
            let nobodys = shared && q.given.is_none() && q.candidates.contains(&key);
            let last = nobodys && !q.candidates.iter().any(|c| self.live.contains_key(&(pipe, *c)));
            // Whether the link still remembers those it may forget, is its own business.
            q.loose |= last && !q.faded.is_empty();
            let last = last && q.faded.is_empty();
            let put =
                !shared && was.cut.is_none() && !q.rode && q.given.is_none() && q.candidates.len() == 1 && q.candidates.contains(&key);
            if q.given == Some(key) || last || put {
                q.fate = Fate::Moot;
                self.counts.moot += 1;
            }
        }
    }

    /// We end a call: from now on nobody is asked anything for it.
    fn cut(&mut self, pipe: usize, key: u64, now: Instant) {
        let live = self.live.get_mut(&(pipe, key)).expect("a call that is cancelled, and over");
        assert!(live.cut.replace(now).is_none(), "call {key} of pipe {pipe} is cancelled twice");
    }

    /// What holds of the questions on a pipe once it has been heard what there is to hear.
    fn check(&self, pipe: usize) {
        let shared = self.shared[&pipe];
        for (n, q) in self.questions.iter().filter(|(_, q)| q.pipe == pipe && q.fate == Fate::Open) {
            let goes_on = |key: &u64| self.live.get(&(pipe, *key)).is_some_and(|l| l.cut.is_none());
            if let Some(key) = q.given {
                assert!(goes_on(&key), "call {key} is over, and its question {n} is open: {q:?}");
            } else if shared && q.faded.is_empty() {
                let held = q.candidates.len() > 1;
                assert!(held || q.candidates.iter().any(goes_on), "question {n} is open, and nobody is left to be asked: {q:?}");
            }
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
            faded: BTreeSet::new(),
            fate: Fate::Sent,
            given: None,
            rode: false,
            loose: false,
            letters: String::new(),
            shown: None,
            took: None,
        };
        self.questions.insert(self.next_question, question);
        self.next_question
    }

    /// The question of that id: the one that is open, or the newest. Another session numbers anew.
    fn open(&mut self, pipe: usize, id: &str) -> Option<(u32, &mut Question)> {
        let of_id = self.questions.iter().rev().filter(|(_, q)| q.pipe == pipe && q.id == id && q.fate != Fate::Sent);
        let n = of_id.max_by_key(|(n, q)| (q.fate == Fate::Open, **n)).map(|(n, _)| *n)?;
        self.questions.get_mut(&n).map(|q| (n, q))
    }

    /// A line of the server, just before the link gets it; on the stream of that call, if it came on one.
    pub(super) fn heard(&mut self, pipe: usize, line: &str, on: Option<u64>, now: Instant) {
        let Ok(message) = serde_json::from_str::<Value>(line) else { return };
        match (message.get("method").and_then(Value::as_str), message.get("id")) {
            (None, Some(id)) => self.over(pipe, id.as_u64().unwrap_or_default()),
            (Some("notifications/cancelled"), _) => {
                let id = message["params"]["requestId"].to_string();
                if let Some((_, q)) = self.open(pipe, &id).filter(|(_, q)| q.fate == Fate::Open) {
                    q.fate = Fate::Withdrawn;
                    self.counts.withdrawn += 1;
                }
            }
            (Some(_), Some(_)) => {
                let n = question_in(line).expect("a question");
                let shared = self.shared[&pipe];
                let of_pipe = self.live.iter().filter(|((p, _), l)| *p == pipe && l.askable);
                let (mut candidates, mut faded): (Vec<_>, Vec<_>) = of_pipe.partition(|(_, l)| l.is_candidate(shared, now));
                if let Some(key) = on {
                    // It is that call's, for what else may be under way; only whether it may be asked for it is open.
                    let its_own = self.live.iter().filter(|((p, k), l)| (*p, *k) == (pipe, key) && (l.askable || !shared));
                    (candidates, faded) = (its_own.collect(), Vec::new());
                    self.counts.on_its_stream += 1;
                }
                let q = self.questions.get_mut(&n).expect("it was made up");
                assert_eq!(q.fate, Fate::Sent);
                q.fate = Fate::Open;
                q.candidates = candidates.iter().map(|((_, key), _)| *key).collect();
                q.faded = faded.iter().map(|((_, key), _)| *key).collect();
                self.counts.held += usize::from(q.candidates.len() > 1);
                self.counts.crossed += usize::from(candidates.iter().any(|((_, key), l)| q.of == Some(*key) && l.cut.is_some()));
                self.counts.too_late += usize::from(q.of.is_some_and(|of| q.faded.contains(&of)));
                self.counts.asked += 1;
            }
            _ => {}
        }
    }

    /// A line that came in a session that is over.
    pub(super) fn heard_in_vain(&mut self, line: &str) {
        let is_question = line.contains("\"method\":") && line.contains("\"id\":");
        if let Some(q) = question_in(line).filter(|_| is_question).and_then(|n| self.questions.get_mut(&n)) {
            q.fate = Fate::Moot;
            self.counts.asked_in_vain += 1;
        }
    }

    /// The server has another session with us: what it asked in the old one it has forgotten.
    pub(super) fn renewed(&mut self, pipe: usize) {
        for q in self.questions.values_mut().filter(|q| q.pipe == pipe && q.fate == Fate::Open) {
            q.fate = Fate::Moot;
            self.counts.moot += 1;
        }
        self.counts.renewed += 1;
    }

    /// Whether something that its server asked for that call is open.
    pub(super) fn is_asked_for(&self, pipe: usize, key: u64) -> bool {
        self.questions.values().any(|q| q.pipe == pipe && q.of == Some(key) && matches!(q.fate, Fate::Sent | Fate::Open))
    }

    /// The calls on a pipe that go on, as far as is known.
    pub(super) fn under_way(&self, pipe: usize) -> Vec<u64> {
        self.live.iter().filter(|((p, _), l)| *p == pipe && l.cut.is_none()).map(|((_, key), _)| *key).collect()
    }

    /// A call has ended without an answer of its server.
    pub(super) fn broke(&mut self, pipe: usize, key: u64) {
        self.counts.broke += 1;
        self.over(pipe, key);
    }

    /// Whether that call goes on.
    pub(super) fn goes_on_now(&self, pipe: usize, key: u64) -> bool {
        self.live.get(&(pipe, key)).is_some_and(|l| l.cut.is_none())
    }

    /// An answer reaches the question of that number at its server.
    pub(super) fn reached(&mut self, n: u32, line: &str) {
        let fate = self.questions[&n].fate;
        assert!(matches!(fate, Fate::Answered | Fate::Refused), "question {n} is {fate:?}, and its server is told {line}");
        assert!(question_in(line).is_none_or(|of| of == n), "question {n} is answered with what another was: {line}");
        self.counts.reached += 1;
    }

    /// Lines for the server, as soon as the link has them: all that one thing led to.
    pub(super) fn sent(&mut self, pipe: usize, lines: &[String], now: Instant) {
        let messages: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect("a message")).collect();
        let cancels = |message: &&Value| message["method"] == "notifications/cancelled";
        for message in messages.iter().filter(cancels) {
            self.cut(pipe, message["params"]["requestId"].as_u64().expect("an id of ours"), now);
        }
        for (line, message) in lines.iter().zip(&messages).filter(|(_, m)| m.get("method").is_none()) {
            self.answers(pipe, line, message);
        }
        self.check(pipe);
    }

    /// An answer to a question.
    fn answers(&mut self, pipe: usize, line: &str, message: &Value) {
        let id = message["id"].to_string();
        let only = self.open(pipe, &id).filter(|(_, q)| q.candidates.len() == 1 && q.faded.is_empty());
        let only = only.and_then(|(_, q)| q.candidates.first().copied()).and_then(|key| self.live.get(&(pipe, key)));
        let may_be_asked = only.is_some_and(|l| l.cut.is_none() && l.asker.all);
        let given_up = only.is_some_and(|l| l.cut.is_some());
        let (n, q) = self.open(pipe, &id).expect("an answer to a question");
        assert_eq!(q.fate, Fate::Open, "question {n} is answered: {line}");
        let body = |word: &str| line.split_once(&format!("\"{word}\":")).map(|(_, b)| b.strip_suffix("}\n").expect("the end"));
        if message.get("result").is_some() {
            let took = q.took.as_ref().and_then(|t| t.as_ref().ok());
            assert_eq!(body("result"), took.map(String::as_str), "question {n}");
            q.fate = Fate::Answered;
            self.counts.answered += 1;
            return;
        }
        let ours = message["error"]["code"].as_i64().is_some_and(|code| code <= -32000);
        let needless = may_be_asked && q.took.is_none() && !line.contains("did not answer in time");
        assert!(!needless, "question {n} is refused without need: {line}");
        match &q.took {
            Some(Err(error)) => assert_eq!(body("error"), Some(error.as_str()), "question {n}"),
            Some(Ok(_)) => panic!("question {n} was answered, and its server is told {line}"),
            None => assert!(ours, "question {n} was not answered, and its server is told {line}"),
        }
        q.fate = Fate::Refused;
        self.counts.refused += 1;
        self.counts.given_up += usize::from(given_up);
    }

    /// The link puts a question down to a call.
    pub(super) fn given(&mut self, pipe: usize, n: u32, key: u64) {
        let shared = self.shared[&pipe];
        let q = self.questions.get_mut(&n).expect("it was made up");
        assert_eq!((q.pipe, q.fate, q.given), (pipe, Fate::Open, None), "question {n} is given to call {key}");
        let goes_on = |key: &u64| self.live.get(&(pipe, *key)).is_some_and(|l| l.cut.is_none());
        let others = || q.candidates.iter().filter(|c| **c != key);
        if !q.candidates.contains(&key) {
            // It goes where its client looks, and does not end with that call.
            assert!(!shared, "question {n} came when call {key} was not under way");
            assert_eq!(others().next(), None, "question {n} is one of another call");
            q.rode = true;
            self.counts.rode += 1;
            return;
        }
        assert!(goes_on(&key), "question {n} is given to call {key}, which is over");
        if shared {
            // Of a call that we ended nobody knows whether it asked, until its server has answered it.
            let forgotten = |c: &u64| self.live.get(&(pipe, *c)).is_none_or(|l| l.crowded || !l.asker.any);
            assert!(
                q.of.is_none_or(|of| of == key || q.faded.contains(&of) || forgotten(&of)),
                "question {n} is given to call {key}: {q:?}"
            );
            let other = others().find(|c| !forgotten(c));
            assert_eq!(other, None, "question {n} is given to call {key}, and may be another's: {q:?}");
        } else {
            assert_eq!(others().next(), None, "question {n} is given to one of several calls");
        }
        q.given = Some(key);
    }

    /// The client of the call that a question was put down to.
    fn asker_of(&self, q: &Question) -> Option<usize> {
        Some(self.live.get(&(q.pipe, q.given?))?.asker.client)
    }

    pub(super) fn letters(&mut self, n: u32, letters: String) {
        self.questions.get_mut(&n).expect("it was made up").letters = letters;
    }

    /// A client sees a question: live only once, in an answer as often as it sends its call.
    pub(super) fn shown(&mut self, n: u32, client: usize, live: bool, text: &str) {
        if live && let Some(asker) = self.asker_of(&self.questions[&n]) {
            assert_eq!(asker, client, "question {n} is shown to another client than its call's");
        }
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
        // A call may be forgotten if its server still asks for it so long after its end.
        let mut about = text.split('#').filter_map(|n| self.questions.get(&n.parse().ok()?));
        let forgotten = about.any(|q| q.of.is_some_and(|of| q.faded.contains(&of)));
        assert!(forgotten, "{} gets what is {}'s: {text}", PRINCIPALS[who], PRINCIPALS[other]);
    }

    /// What stays behind when everything has ended.
    pub(super) fn settle(&mut self) {
        for (n, e) in &self.exchanges {
            assert!(e.ended || e.gone, "exchange {n} is never answered");
        }
        let live: Vec<_> = self.live.iter().filter(|(_, l)| l.cut.is_none()).collect();
        assert!(live.is_empty(), "calls go on: {live:?}");
        for (n, q) in self.questions.iter().filter(|(_, q)| q.fate == Fate::Open) {
            // A client need not answer what it is asked on its own pipe, and for no call.
            assert!(q.loose || (!self.shared[&q.pipe] && q.given.is_none()), "question {n} stays open: {q:?}");
        }
        self.counts.calls = self.exchanges.len();
        self.counts.gone = self.exchanges.values().filter(|e| e.gone).count();
    }
}
