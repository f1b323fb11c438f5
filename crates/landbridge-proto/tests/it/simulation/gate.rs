//! What the product does between the edges: calls are pulled when their waker rings, steps of a
//! crossing are done, what waits is parked.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::link::{Event, Key, Link};
use landbridge_proto::bridge;
use landbridge_proto::bridge::crossing::{Crossing, Step, TICKETS, Tasks};
use landbridge_proto::bridge::parked::{Question, Responses, Retry, digest};
use landbridge_proto::bridge::rounds;
use landbridge_proto::call::{Call, Client, Outcome, Reply, Server};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::front::session::Tag;
use landbridge_proto::front::streamable::answer;
use landbridge_proto::message::Id;
use landbridge_proto::version::Era;

use super::clients::Kind;
use super::elsewhere::Elsewhere;
use super::ledger::{Asker, Fate, State, question_in};
use super::servers::Job;
use super::world::{LINK, PATIENCE, World};
use super::{ledger, note};
use crate::pair::Bell;

/// The name by which states are bound to their server.
const NAME: &str = "srv";
/// The link, in the tags of a session, of calls whose client we ask ourselves.
const ASKING: u32 = u32::MAX;

/// A link, and what is on its way at both ends.
pub(super) struct Pipe {
    pub(super) link: Link,
    /// The session whose own it is.
    pub(super) owner: Option<usize>,
    /// What the clients that share it can be asked.
    abilities: Abilities,
    pub(super) to_server: VecDeque<String>,
    pub(super) to_link: VecDeque<String>,
    pub(super) jobs: Vec<Job>,
    pub(super) over: Vec<u64>,
    pub(super) next_id: u32,
    /// What carries it over HTTP, and the server's side of that.
    pub(super) elsewhere: Option<Box<Elsewhere>>,
}

/// A call under way.
pub(super) struct Run {
    pub(super) exchange: u32,
    call: Call,
    server: Arc<Server>,
    source: Source,
    crossing: Option<Crossing>,
    number: u64,
    tag: Option<Tag>,
    bell: Arc<Bell>,
    due: Option<Instant>,
    /// The client reads no stream: it only gets the end.
    pub(super) mute: bool,
    /// Questions that it put to a session's client.
    asked: Vec<Tag>,
}

enum Source {
    Ready(Option<Outcome>),
    Link(usize, Key),
    /// Its server is being started again, for the next round.
    Starting(Box<Call>),
}

/// What waits.
pub(super) enum Waiting {
    Call(Box<Run>),
    Again,
}

/// What a client can be asked; `all`: whatever our servers ask.
fn asker(client: usize, call: &Call, mute: bool) -> Asker {
    let abilities = Abilities::of(&call.client);
    let all = abilities.include(Abilities::FORM.and(Abilities::SAMPLING).and(Abilities::ROOTS));
    Asker { client, any: abilities.any_question(), all: all && !mute }
}

/// Whether a client declared what this question needs.
pub(super) fn can(client: &Client, text: &str) -> bool {
    let abilities = Abilities::of(client);
    let needs = [("sampling/createMessage", Abilities::SAMPLING), ("roots/list", Abilities::ROOTS), ("\"mode\":\"url\"", Abilities::URL)];
    needs.iter().all(|(word, needed)| !text.contains(word) || abilities.include(*needed))
        && (text.contains("\"mode\":\"url\"") || !text.contains("elicitation/create") || abilities.include(Abilities::FORM))
}

impl Run {
    fn new_tag(&self) -> Option<Tag> {
        if self.crossing.as_ref().is_some_and(Crossing::is_asking) {
            return Some(Tag { link: ASKING, number: self.number });
        }
        match self.source {
            Source::Link(pipe, key) => Some(Tag { link: pipe as u32, number: key.id() }),
            Source::Ready(_) | Source::Starting(_) => None,
        }
    }
}

impl World {
    // --- pipes -----------------------------------------------------------------------------

    /// Passes on what a link has to say, at once.
    pub(super) fn flush(&mut self, pipe: usize) {
        self.hears_of_renewal(pipe);
        while let Some(event) = self.pipes[pipe].link.poll_event() {
            match event {
                Event::Ask(ask) => self.ask_owner(pipe, ask),
                Event::Withdrawn(ticket) => {
                    let tag = Tag { link: pipe as u32, number: ticket };
                    (0..self.clients.len()).for_each(|client| self.withdraw(client, tag, None));
                }
                Event::Notice(_) | Event::Stray(_) => {}
            }
        }
        if self.pipes[pipe].link.ghosts() >= LINK.calls {
            self.ledger.crowded(pipe);
        }
        if self.http {
            return self.carry(pipe);
        }
        let lines = self.pipes[pipe].link.take_queued().into_iter().flatten();
        let lines: Vec<String> = lines.map(|queued| String::from_utf8(queued.line.to_vec()).expect("text")).collect();
        lines.iter().for_each(|line| note(format!("pipe {pipe} ◀ {}", line.trim_end())));
        self.ledger.sent(pipe, &lines, self.now);
        self.pipes[pipe].to_server.extend(lines);
    }

    /// The link gets a line of its server.
    pub(super) fn link_hears(&mut self, pipe: usize) {
        for _ in 0..1 + self.dice.below(3) {
            if self.http {
                self.link_hears_a_frame(pipe);
            } else {
                let Some(line) = self.pipes[pipe].to_link.pop_front() else { return };
                note(format!("pipe {pipe} ▶ {line}"));
                self.ledger.heard(pipe, &line, None, self.now);
                self.pipes[pipe].link.handle_line(line.into());
            }
            self.flush(pipe);
            if self.dice.chance(50) {
                self.pump(); // or it is pulled when there is more
            }
        }
    }

    fn start(&mut self, era: Era, owner: Option<usize>, abilities: Abilities) -> usize {
        let server = self.hello(era);
        let link = Link::new(server, owner.is_none(), LINK);
        let (to_server, to_link) = (VecDeque::new(), VecDeque::new());
        let elsewhere = self.http.then(|| Box::new(Elsewhere::new(link.server(), self.dice.chance(60))));
        self.pipes.push(Pipe { link, owner, abilities, to_server, to_link, jobs: Vec::new(), over: Vec::new(), next_id: 1, elsewhere });
        let pipe = self.pipes.len() - 1;
        note(format!("pipe {pipe} is a new one to a server of the era {era:?}, of its own for {owner:?}"));
        self.ledger.pipe(pipe, owner.is_none());
        pipe
    }

    /// The pipe for a call; `None`: all are taken.
    fn pipe_for(&mut self, client: usize, call: &Call) -> Option<usize> {
        let era = self.clients[client].server;
        let own = self.own && era == Era::Handshake && matches!(self.clients[client].kind, Kind::Session(_));
        let owner = own.then_some(client);
        let abilities = if era == Era::Stateless { Abilities::NONE } else { Abilities::of(&call.client) };
        let is_it = |p: &Pipe| p.link.closed().is_none() && p.owner == owner && p.link.server().era() == era && p.abilities == abilities;
        let open: Vec<usize> = (0..self.pipes.len()).filter(|n| is_it(&self.pipes[*n])).collect();
        let any = open.first().copied();
        let may_ask = era == Era::Handshake && call.method.may_ask() && abilities.any_question();
        if !self.turns || own || !may_ask {
            return Some(any.unwrap_or_else(|| self.start(era, owner, abilities)));
        }
        let takes_turns = open.iter().any(|n| self.pipes[*n].link.has_asked());
        let is_free = |link: &Link| if takes_turns { link.askers() == 0 } else { link.ghosts() == 0 };
        let free = open.iter().copied().find(|n| is_free(&self.pipes[*n].link));
        let another = free.or_else(|| (open.len() < 3).then(|| self.start(era, owner, abilities)));
        if takes_turns { another } else { another.or(any) }
    }

    fn begin(&mut self, exchange: u32, call: &Call, mute: bool) -> Source {
        let client = self.ledger.exchanges[&exchange].client;
        let busy = || Fault::backend(NAME, FaultKind::Busy).tell("all its processes are busy");
        let begun = self.pipe_for(client, call).ok_or_else(busy).and_then(|pipe| {
            let key = self.begin_on(pipe, call)?;
            self.ledger.counts.haunted += usize::from(self.pipes[pipe].link.ghosts() > 0);
            self.ledger.begun(pipe, key.id(), call.method.may_ask(), asker(client, call, mute));
            self.flush(pipe);
            Ok(Source::Link(pipe, key))
        });
        begun.unwrap_or_else(|fault| Source::Ready(Some(Outcome::Fault(fault))))
    }

    fn answer(&mut self, source: &Source, ticket: u64, answer: Result<&[u8], &[u8]>) {
        if let Source::Link(pipe, _) = source {
            self.pipes[*pipe].link.answer(ticket, answer);
            self.flush(*pipe);
        }
    }

    fn is_open(&self, source: &Source, ticket: u64) -> bool {
        matches!(source, Source::Link(pipe, _) if self.pipes[*pipe].link.is_open(ticket))
    }

    /// Nobody waits for this call any more.
    fn drop_run(&mut self, run: Run) {
        if let Source::Link(pipe, key) = run.source {
            self.pipes[pipe].link.cancel(key, "the client went away");
            self.flush(pipe);
        }
    }

    // --- calls -----------------------------------------------------------------------------

    /// A call of a client arrives. It has an exchange already.
    pub(super) fn arrive(&mut self, exchange: u32, call: Call, mute: bool) {
        let client = self.ledger.exchanges[&exchange].client;
        let era = self.clients[client].server;
        let mut call = call;
        let resumes = call.client.revision.era() == Era::Stateless && era == Era::Handshake;
        if resumes && call.params.request_state.is_some() && call.method.may_ask() {
            match self.retry(exchange, call) {
                Some(anew) => call = anew,
                None => return,
            }
        }
        let source = self.begin(exchange, &call, mute);
        let server = match &source {
            Source::Link(pipe, _) => self.pipes[*pipe].link.server().clone(),
            _ => self.hello(era),
        };
        let crossing = Crossing::is_needed(&call, &server).then(|| Crossing::new(call.clone(), server.clone(), PATIENCE, Tasks::Follow));
        self.tickets += 1;
        let mut run = Run {
            exchange,
            call,
            server,
            source,
            crossing,
            number: self.tickets,
            tag: None,
            bell: Bell::new(),
            due: None,
            mute,
            asked: Vec::new(),
        };
        run.tag = run.new_tag();
        if let (Kind::Session(seat), Some(tag)) = (&mut self.clients[client].kind, run.tag) {
            seat.session.begin_call(Id::number(exchange.into()), tag);
        }
        self.next_run += 1;
        self.runs.insert(self.next_run, run);
    }

    /// Everything that can move does.
    pub(super) fn pump(&mut self) {
        for id in std::mem::take(&mut self.later) {
            if let Some(run) = self.runs.get(&id) {
                run.bell.ring();
            }
        }
        for round in 0.. {
            assert!(round < 1_000, "it never comes to rest");
            let rung: Vec<u32> = self.runs.iter().filter(|(_, run)| run.bell.rang()).map(|(id, _)| *id).collect();
            if rung.is_empty() {
                return;
            }
            for id in rung {
                if let Some(run) = self.runs.remove(&id)
                    && let Some(run) = self.pull(id, run)
                {
                    self.runs.insert(id, run);
                }
            }
        }
    }

    /// Takes what there is of a call; gives it back unless it is over.
    fn pull(&mut self, id: u32, mut run: Run) -> Option<Run> {
        for steps in 0.. {
            assert!(steps < 1_000, "a call never comes to rest");
            let step = run.crossing.as_mut().and_then(|c| c.poll_step(self.now));
            match step {
                Some(Step::Reply(reply)) => {
                    if let (Reply::Done(_), Source::Link(pipe, key)) = (&reply, &run.source) {
                        // The bridge may have ended what its server is still at.
                        self.pipes[*pipe].link.cancel(*key, "not needed any more");
                        self.flush(*pipe);
                    }
                    if self.reply(&mut run, reply) {
                        return None;
                    }
                }
                Some(step @ (Step::Own(..) | Step::Fetch(_) | Step::Tell(..))) => panic!("nobody makes tasks here: {step:?}"),
                Some(Step::Answer(ticket, Ok(answer))) => self.answer(&run.source, ticket, Ok(&answer)),
                Some(Step::Answer(ticket, Err(fault))) => self.answer(&run.source, ticket, Err(fault.error().as_bytes())),
                Some(Step::Call(call)) => {
                    self.ledger.counts.sent_again += 1;
                    run.source = match self.dice.chance(70) {
                        true => self.begin(run.exchange, &call, run.mute),
                        false => Source::Starting(call),
                    };
                    if matches!(run.source, Source::Starting(_)) {
                        self.ledger.counts.restarts += 1;
                        self.retag(&mut run);
                        self.later.push(id);
                        return Some(run);
                    }
                }
                Some(Step::Wait(due)) => {
                    assert!(due > self.now, "a wait for the past");
                    run.due = Some(due);
                    self.retag(&mut run);
                    return Some(run);
                }
                Some(Step::Park(questions)) => {
                    self.park(run, questions, false);
                    return None;
                }
                Some(Step::ParkUntilVisited(questions)) => {
                    self.ledger.counts.visits += 1;
                    self.park(run, questions, true);
                    return None;
                }
                None if matches!(run.source, Source::Starting(_)) => {
                    if run.crossing.as_ref().is_some_and(Crossing::is_withdrawn) {
                        let fault = Fault::client(FaultKind::Cancelled).tell("cancelled by the client");
                        self.reply(&mut run, Reply::Done(Outcome::Fault(fault)));
                        return None;
                    }
                    let Source::Starting(call) = std::mem::replace(&mut run.source, Source::Ready(None)) else { unreachable!() };
                    run.source = self.begin(run.exchange, &call, run.mute);
                }
                None => match self.poll_source(&mut run) {
                    Poll::Ready(reply) => match &mut run.crossing {
                        Some(crossing) => {
                            self.tickets += TICKETS;
                            crossing.handle_reply(reply, self.tickets, self.now);
                        }
                        None => {
                            if self.reply(&mut run, reply) {
                                return None;
                            }
                        }
                    },
                    Poll::Pending => {
                        let source = &run.source;
                        let open = |ticket: u64| self.is_open(source, ticket);
                        if run.crossing.as_mut().is_some_and(|c| c.handle_quiet(open)) {
                            match self.dice.chance(50) {
                                true => run.bell.ring(),
                                false => self.later.push(id),
                            }
                        }
                        self.retag(&mut run);
                        return Some(run);
                    }
                },
            }
        }
        None
    }

    fn poll_source(&mut self, run: &mut Run) -> Poll<Reply> {
        match &mut run.source {
            Source::Ready(outcome) => Poll::Ready(Reply::Done(outcome.take().expect("it ends once"))),
            Source::Link(pipe, key) => {
                let waker = Waker::from(run.bell.clone());
                let (pipe, key) = (*pipe, *key);
                let reply = self.pipes[pipe].link.poll_reply(key, &waker);
                self.flush(pipe);
                if let Poll::Ready(Reply::Ask(ask)) = &reply {
                    let n = question_in(ask.message.params_text()).expect("a question");
                    note(format!("question {n} is one of call {} on pipe {pipe}", key.id()));
                    self.ledger.given(pipe, n, key.id());
                }
                if let Poll::Ready(Reply::Done(outcome)) = reply {
                    self.ledger.counts.timed_out += usize::from(matches!(&outcome, Outcome::Fault(f) if f.kind == FaultKind::Timeout));
                    let outcome = match run.crossing {
                        Some(_) => outcome,
                        None => bridge::outcome(&run.call.client, &run.server, &run.call.method, outcome),
                    };
                    return Poll::Ready(Reply::Done(outcome));
                }
                reply
            }
            Source::Starting(_) => Poll::Pending,
        }
    }

    fn retag(&mut self, run: &mut Run) {
        let tag = run.new_tag();
        let client = self.ledger.exchanges[&run.exchange].client;
        if let (Kind::Session(seat), Some(old), Some(new)) = (&mut self.clients[client].kind, run.tag, tag)
            && old != new
            && seat.session.retag(old, new)
        {
            self.ledger.counts.withdrawn_as_before += 1;
            match &mut run.crossing {
                Some(crossing) if new.link == ASKING => {
                    crossing.handle_abort();
                    run.bell.ring();
                }
                _ => self.abort(new),
            }
        }
        run.tag = tag.or(run.tag);
    }

    /// A reply goes to its client; whether it was the last.
    fn reply(&mut self, run: &mut Run, reply: Reply) -> bool {
        let (exchange, client) = (run.exchange, self.ledger.exchanges[&run.exchange].client);
        self.retag(run);
        match reply {
            Reply::Note(note) => {
                if !run.mute {
                    self.deliver(exchange, &note.message, false);
                }
            }
            Reply::Ask(ask) => {
                let Kind::Session(seat) = &mut self.clients[client].kind else { panic!("a stateless client is asked") };
                let tag = Tag { link: run.tag.map_or(0, |t| t.link), number: ask.ticket };
                let asked = if run.mute { None } else { seat.session.ask(&ask, tag) };
                match asked {
                    Some(message) => {
                        run.asked.push(tag);
                        self.deliver(exchange, &message, false);
                    }
                    None => {
                        let fault = Fault::gateway(FaultKind::Untranslatable).tell("the client cannot be asked now");
                        match run.crossing.as_mut().filter(|c| c.is_asking()) {
                            Some(crossing) => crossing.handle_unaskable(fault),
                            None => self.answer(&run.source, ask.ticket, Err(fault.error().as_bytes())),
                        }
                    }
                }
            }
            Reply::Withdrawn(ticket) => {
                if let Some(at) = run.asked.iter().position(|tag| tag.number == ticket) {
                    self.withdraw(client, run.asked.swap_remove(at), Some(exchange));
                }
            }
            Reply::Done(outcome) => {
                let now = self.now;
                let cancelled = matches!(&outcome, Outcome::Fault(f) if f.kind == FaultKind::Cancelled);
                let message = answer(&Id::number(exchange.into()), &outcome);
                if !(cancelled && self.is_sse(client)) {
                    self.deliver(exchange, &message, true);
                } else {
                    self.ledger.exchanges.get_mut(&exchange).expect("an exchange").gone = true;
                }
                if let (Kind::Session(seat), Some(tag)) = (&mut self.clients[client].kind, run.tag) {
                    seat.session.end_call(tag, now);
                }
                return true;
            }
        }
        false
    }

    /// A question that belongs to no call goes to the one client there is.
    fn ask_owner(&mut self, pipe: usize, ask: landbridge_proto::call::Ask) {
        let owner = self.pipes[pipe].owner.expect("on a shared pipe each question belongs to a call");
        self.ledger.counts.ownerless += 1;
        let tag = Tag { link: pipe as u32, number: ask.ticket };
        let Kind::Session(seat) = &mut self.clients[owner].kind else { unreachable!() };
        match seat.session.ask(&ask, tag) {
            Some(message) => seat.session.append(0, &message, false, self.now),
            None => {
                let error = Fault::gateway(FaultKind::Untranslatable).tell("the client cannot be asked now").error();
                self.pipes[pipe].link.answer(ask.ticket, Err(error.as_bytes()));
            }
        }
    }

    fn withdraw(&mut self, client: usize, tag: Tag, exchange: Option<u32>) {
        let now = self.now;
        let Kind::Session(seat) = &mut self.clients[client].kind else { return };
        let Some(message) = seat.session.withdraw(tag) else { return };
        match exchange {
            Some(exchange) => self.deliver(exchange, message.as_bytes(), false),
            None => seat.session.append(0, message.as_bytes(), false, now),
        }
    }

    // --- what a client does to its calls -------------------------------------------------------

    /// A session's client answers. True: it was taken for an answer.
    pub(super) fn answered(&mut self, client: usize, id: u64, n: u32, answer: Result<&str, &str>) -> bool {
        let Kind::Session(seat) = &mut self.clients[client].kind else { unreachable!() };
        let Some(tag) = seat.session.answered(&Id::number(id)) else { return false };
        let kept = answer.map(str::to_owned).map_err(str::to_owned);
        let bytes = answer.map(str::as_bytes).map_err(str::as_bytes);
        if tag.link == ASKING {
            self.ledger.took(n, kept);
            let is_it = |run: &Run| run.crossing.as_ref().is_some_and(|c| c.waits_for(tag.number));
            let run = self.runs.values_mut().find(|run| is_it(run)).expect("a question that nobody waits for");
            run.crossing.as_mut().expect("it has").handle_answer(tag.number, bytes);
            run.bell.ring();
            return true;
        }
        let pipe = tag.link as usize;
        if self.pipes[pipe].link.closed().is_none() {
            assert!(self.ledger.is_open(n), "question {n} is {:?}, and its client was not told", self.ledger.questions[&n].fate);
            self.ledger.took(n, kept);
            self.pipes[pipe].link.answer(tag.number, bytes);
            self.flush(pipe);
            let fate = self.ledger.questions[&n].fate;
            assert_eq!(fate, if answer.is_ok() { Fate::Answered } else { Fate::Refused }, "question {n}");
        }
        true
    }

    /// The client withdraws a call of its session.
    pub(super) fn abort(&mut self, tag: Tag) {
        if tag.link == ASKING {
            if let Some(run) = self.runs.values_mut().find(|run| run.number == tag.number)
                && let Some(crossing) = &mut run.crossing
            {
                crossing.handle_abort();
                run.bell.ring();
            }
            return;
        }
        let pipe = tag.link as usize;
        self.pipes[pipe].link.abort(Key::of_id(tag.number), "cancelled by the client");
        self.flush(pipe);
    }

    /// A stateless client leaves an exchange.
    pub(super) fn leave(&mut self, exchange: u32) {
        let Some((&id, _)) = self.runs.iter().find(|(_, run)| run.exchange == exchange) else { return };
        let run = self.runs.remove(&id).expect("it is there");
        self.ledger.exchanges.get_mut(&exchange).expect("an exchange").gone = true;
        self.drop_run(run);
    }

    // --- what waits ----------------------------------------------------------------------------

    fn park(&mut self, run: Run, questions: Vec<Question>, again: bool) {
        let exchange = run.exchange;
        let crossing = run.crossing.as_ref().expect("only a crossing parks");
        let (call, server) = (crossing.call().clone(), crossing.server().clone());
        let id = u128::from(self.dice.next()) << 64 | u128::from(self.dice.next());
        let room = self.parked.len() < self.parked_limit;
        let waiting = if again { Waiting::Again } else { Waiting::Call(Box::new(run)) };
        let of: Vec<(String, u32)> = questions
            .iter()
            .map(|q| (q.asked.key.clone(), question_in(&String::from_utf8_lossy(&q.asked.request)).expect("a question")))
            .collect();
        for question in &questions {
            let text = String::from_utf8_lossy(&question.asked.request);
            assert!(can(&call.client, &text), "a client did not declare that it can be asked {text}");
        }
        let outcome = match self.parked.park(&self.keys, id, waiting, (&call, digest(&call), &server, NAME), questions, self.now) {
            Ok(result) => {
                assert!(room, "more wait than may");
                self.ledger.counts.parked += 1;
                let e = &self.ledger.exchanges[&exchange];
                let text = String::from_utf8_lossy(&result).into_owned();
                let message: serde_json::Value = serde_json::from_str(&text).expect("a result");
                let state = message["requestState"].as_str().expect("a state").to_owned();
                let known = State {
                    who: self.clients[e.client].who,
                    method: call.method.as_str().into(),
                    n: e.n,
                    questions: of,
                    until: self.now + super::world::KEEP,
                    parked: true,
                    rotations: 0,
                    again,
                };
                assert!(self.ledger.states.insert(state, known).is_none(), "one state for two calls");
                Outcome::Result(result)
            }
            Err((waiting, fault)) => {
                assert!(!room, "there was room");
                self.ledger.counts.full += 1;
                if let Waiting::Call(run) = *waiting {
                    self.drop_run(*run);
                }
                Outcome::Fault(fault)
            }
        };
        self.deliver(exchange, &answer(&Id::number(exchange.into()), &outcome), true);
    }

    /// A call comes with a state. Gives a call that is to be sent anew.
    fn retry(&mut self, exchange: u32, call: Call) -> Option<Call> {
        let e = &self.ledger.exchanges[&exchange];
        let (who, n) = (self.clients[e.client].who, e.n);
        let text = call.message.string_at(call.params.request_state).map(|s| s.into_owned()).unwrap_or_default();
        let responses: serde_json::Value = call
            .params
            .input_responses
            .map_or(serde_json::Value::Null, |at| serde_json::from_str(call.message.text(at)).expect("an object"));
        let known = self.ledger.states.get(&text).filter(|s| {
            (s.who, s.n, s.method.as_str()) == (who, n, call.method.as_str()) && s.parked && s.until > self.now && s.rotations <= 1
        });
        let known = known.cloned();
        let open: Vec<(String, u32)> =
            known.iter().flat_map(|s| s.questions.iter().filter(|(_, n)| s.again || self.ledger.is_open(*n)).cloned()).collect();
        let missing = open.iter().any(|(key, _)| !responses[key].is_object());
        let pipes = &self.pipes;
        let is_open = |waiting: &Waiting, ticket: u64| match waiting {
            Waiting::Call(run) => matches!(run.source, Source::Link(pipe, _) if pipes[pipe].link.is_open(ticket)),
            Waiting::Again => true,
        };
        let given = Responses::read(&call).expect("an object");
        let retry = self.parked.retry(&self.keys, (&call, digest(&call), &given, NAME), is_open, self.now);
        let outcome = match (retry, known) {
            (Err(fault), None) => {
                assert_eq!(fault.kind, FaultKind::Params);
                self.ledger.counts.unusable += 1;
                Outcome::Fault(fault)
            }
            (Err(fault), Some(_)) => panic!("a good state is refused: {fault}"),
            (Ok(_), None) => panic!("exchange {exchange} uses a state that is not its own, or over: {text}"),
            (Ok(Retry::AskAgain(result)), Some(_)) => {
                assert!(missing, "nothing is missing");
                let asked: serde_json::Value = serde_json::from_slice(&result).expect("a result");
                let keys: BTreeSet<&String> = asked["inputRequests"].as_object().expect("requests").keys().collect();
                assert_eq!(keys, open.iter().map(|(key, _)| key).collect::<BTreeSet<_>>(), "what is open is asked for again");
                self.ledger.counts.asked_again += 1;
                Outcome::Result(result)
            }
            (Ok(Retry::Resumed(waiting, answers)), Some(_)) => {
                assert!(!missing, "answers are missing");
                assert_eq!(answers.len(), open.len());
                let state = self.ledger.states.get_mut(&text).expect("it is known");
                state.parked = false;
                self.ledger.counts.resumed += 1;
                match waiting {
                    Waiting::Call(run) => {
                        let mut run = *run;
                        let Source::Link(pipe, key) = run.source else { panic!("an ended call waited") };
                        self.pipes[pipe].link.resume(key, &call, self.now);
                        self.relies_on_nothing(pipe, key);
                        let client = self.ledger.exchanges[&exchange].client;
                        self.ledger.goes_on(pipe, key.id(), asker(client, &call, false));
                        self.flush(pipe);
                        for ((ticket, answer), (_, n)) in answers.iter().zip(&open) {
                            let text = String::from_utf8_lossy(answer).into_owned();
                            assert_eq!(ledger::question_in(&text), Some(*n), "the answer to another question");
                            self.ledger.took(*n, Ok(text));
                            self.answer(&run.source, *ticket, Ok(answer));
                            assert_eq!(self.ledger.questions[n].fate, Fate::Answered);
                        }
                        run.exchange = exchange;
                        run.call = call.clone();
                        run.bell.ring();
                        run.crossing.as_mut().expect("it crosses").handle_resumed(call);
                        self.next_run += 1;
                        self.runs.insert(self.next_run, run);
                        return None;
                    }
                    Waiting::Again if answers.iter().all(|(_, a)| a.starts_with(b"{\"action\":\"accept\"")) => {
                        return Some(rounds::first_time(call));
                    }
                    Waiting::Again => rounds::failed(&call.method, Fault::client(FaultKind::Untranslatable).tell("declined")),
                }
            }
        };
        self.deliver(exchange, &answer(&Id::number(exchange.into()), &outcome), true);
        None
    }

    /// Ends what waited too long, and wakes who waits for the time.
    pub(super) fn handle_timeout(&mut self) {
        let now = self.now;
        for (waiting, open) in self.parked.handle_timeout(now) {
            self.ledger.counts.expired += 1;
            let Waiting::Call(run) = waiting else { continue };
            let error = Fault::client(FaultKind::Timeout).tell("the client did not answer in time").error();
            for ticket in open {
                self.answer(&run.source, ticket, Err(error.as_bytes()));
            }
            self.drop_run(*run);
        }
        self.ledger.states.values_mut().filter(|s| s.until <= now).for_each(|s| s.parked = false);
        for run in self.runs.values_mut().filter(|run| run.due.is_some_and(|due| due <= now)) {
            run.due = None;
            run.bell.ring();
        }
    }

    pub(super) fn drain(&mut self) {
        note("what waits is dropped".into());
        for waiting in self.parked.drain() {
            self.ledger.counts.drained += 1;
            if let Waiting::Call(run) = waiting {
                self.drop_run(*run);
            }
        }
        self.ledger.states.values_mut().for_each(|s| s.parked = false);
    }
}
