//! A link against a model that knows only this: a call ends once, with the first thing that ends
//! it, and everything it is told is its own; a question ends once, and on a shared pipe it is only
//! put to a call that goes on and that nobody else can have asked it for; what a call asked is
//! refused when we end the call.
//!
//! Odd: the server puts the number of the call or question it means into all it says, so that a
//! reply in the wrong place shows itself.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use landbridge_proto::back::link::{Event, Key, Limits, Link, Queued, What};
use landbridge_proto::call::{Ask, Call, Client, Level, Outcome, Reply, Server};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::message::{Kind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::version::{Era, Revision};
use proptest::prelude::*;

const LIMITS: Limits =
    Limits { reply_bytes: 800, write_bytes: 100_000, calls: 6, call: Duration::from_secs(60), hold: Duration::from_secs(10) };

#[derive(Clone, Debug)]
enum Op {
    /// A call that may be asked something, or one that may not.
    Begin(bool),
    Progress(usize),
    Log,
    Answer(usize, bool),
    TooLong(usize),
    Cancel(usize),
    Abort(usize),
    Poll(usize, usize),
    Ask,
    Withdraw(usize),
    AnswerAsk(usize, bool),
    Noise(String),
    Wait(u64),
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => prop::bool::weighted(0.8).prop_map(Op::Begin),
        8 => (0..12_usize).prop_map(Op::Progress),
        2 => Just(Op::Log),
        8 => (0..12_usize, any::<bool>()).prop_map(|(c, ok)| Op::Answer(c, ok)),
        1 => (0..12_usize).prop_map(Op::TooLong),
        2 => (0..12_usize).prop_map(Op::Cancel),
        2 => (0..12_usize).prop_map(Op::Abort),
        10 => (0..12_usize, 1..8_usize).prop_map(|(c, n)| Op::Poll(c, n)),
        4 => Just(Op::Ask),
        1 => (0..8_usize).prop_map(Op::Withdraw),
        3 => (0..8_usize, any::<bool>()).prop_map(|(ask, ok)| Op::AnswerAsk(ask, ok)),
        1 => "[{}\":a-z0-9 ]{0,20}".prop_map(Op::Noise),
        1 => (1..40_u64).prop_map(Op::Wait),
        1 => prop::bool::weighted(0.1).prop_map(|close| if close { Op::Close } else { Op::Wait(1) }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Result,
    Error,
    TooLong,
    Cancelled,
    Timeout,
    Closed,
}

struct Open {
    key: Key,
    began: Instant,
    /// What ended it first.
    end: Option<End>,
    /// Its owner was told, or has gone.
    told: bool,
    may_ask: bool,
    /// It was we who ended it, and its server has not said anything to it since.
    cut: bool,
    /// Its owner is done with it, and its server may not be. Until then, from the first look at a clock.
    ghost: bool,
    fades: Option<Instant>,
    /// Its owner has gone, and is told nothing any more.
    gone: bool,
    /// How far it has come, as its owner knows.
    progress: u64,
}

impl Open {
    fn goes_on(&self) -> bool {
        self.end.is_none() && !self.told
    }

    /// Whether a question may be its own, for all that a link can know.
    fn is_candidate(&self) -> bool {
        self.may_ask && (self.goes_on() || (self.cut && (!self.told || self.ghost)))
    }

    /// The server has said its last word to it, or we have for it.
    fn end(&mut self, how: End) {
        if self.told {
            return;
        }
        self.cut |= self.end.is_none() && matches!(how, End::Cancelled | End::Timeout);
        self.end.get_or_insert(how);
    }
}

/// What ended a question.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    Refused,
    /// By the server.
    Withdrawn,
    /// With its call.
    Moot,
}

#[derive(Debug)]
struct Question {
    /// Calls that can have asked it: those under way, and those of which we cannot know.
    candidates: Vec<usize>,
    /// The call it goes along with where no call can have asked it, on a pipe of one's own.
    along: Option<usize>,
    /// Whom it was put to: a call, or whoever owns the pipe. The ticket is what its answer takes.
    given: Option<(Option<usize>, u64)>,
    /// Its client was told that no answer is wanted any more.
    told: bool,
    /// Its client answered, or refused to.
    answered: Option<bool>,
    fate: Option<Fate>,
    /// When it was first looked at a clock while it was held.
    held: Option<Instant>,
}

impl Question {
    /// The call it ends with, if there is one.
    fn owner(&self, shared: bool) -> Option<usize> {
        match (&self.candidates[..], shared) {
            ([one], false) => Some(*one),
            (_, false) => None,
            (_, true) => self.given.and_then(|(to, _)| to),
        }
    }
}

/// A question reaches a client.
fn give(asks: &mut [Question], calls: &[Open], shared: bool, to: Option<usize>, ask: &Ask) -> Result<(), TestCaseError> {
    let number: usize = ask.message.text(ask.message.id.unwrap()).trim_matches(['"', 'q']).parse().unwrap();
    let question = &mut asks[number];
    prop_assert_eq!((question.fate, question.given), (None, None), "question {}", number);
    question.given = Some((to, ask.ticket));
    if shared {
        prop_assert!(to.is_some_and(|to| question.candidates.contains(&to)), "question {} is put to {:?}", number, to);
        let other = question.candidates.iter().find(|c| Some(**c) != to && calls[**c].is_candidate());
        prop_assert_eq!(other, None, "question {} may be another's", number);
    } else {
        let expected = if question.candidates.is_empty() { question.along } else { question.owner(false) };
        prop_assert_eq!(to, expected, "question {}", number);
    }
    if let Some(owner) = question.owner(shared) {
        prop_assert!(!calls[owner].cut, "question {} is put to a call that we ended", number);
    }
    Ok(())
}

/// A client is told that it need not answer.
fn withdraw(asks: &mut [Question], ticket: u64) -> Result<(), TestCaseError> {
    // A question that nobody was asked may be withdrawn from nobody.
    if let Some(question) = asks.iter_mut().find(|q| q.given.is_some_and(|(_, t)| t == ticket)) {
        prop_assert!(!std::mem::replace(&mut question.told, true), "withdrawn twice");
        // Behind its answer it is no news: whoever gave that has forgotten the question.
        prop_assert!(question.fate.is_some(), "withdrawn, and open");
    }
    Ok(())
}

/// What the link has said: refusals, answers and withdrawals; then what is open is what should be.
fn hear(link: &mut Link, calls: &[Open], asks: &mut [Question], shared: bool, closed: bool) -> Result<(), TestCaseError> {
    for Queued { line, .. } in link.take_queued().into_iter().flatten() {
        prop_assert!(line.ends_with(b"\n"));
        let message = Message::read(line.slice(..line.len() - 1)).unwrap();
        let Kind::Response(Some(id), answer) = &message.kind else { continue };
        let number: usize = std::str::from_utf8(id.as_bytes()).unwrap().trim_matches(['"', 'q']).parse().unwrap();
        let question = &mut asks[number];
        prop_assert_eq!(question.fate, None, "question {} ends twice", number);
        let fate = if answer.is_ok() { Fate::Answered } else { Fate::Refused };
        let given_up = question.owner(shared).is_some_and(|owner| calls[owner].cut);
        match question.answered {
            Some(ok) => prop_assert_eq!(fate == Fate::Answered, ok),
            // We refuse only what no client has seen, or what nobody waits for.
            None => prop_assert!(fate == Fate::Refused && (question.given.is_none() || given_up), "question {}", number),
        }
        question.fate = Some(fate);
    }
    for (number, question) in asks.iter_mut().enumerate() {
        let owner = question.owner(shared);
        // A call that its server ends takes its questions with it; one that we end has them refused.
        let over = owner.is_some_and(|owner| !calls[owner].goes_on() && !calls[owner].cut);
        let left: Vec<usize> = question.candidates.iter().copied().filter(|c| calls[*c].is_candidate()).collect();
        let nobody = shared && question.given.is_none() && left.is_empty();
        if question.fate.is_none() && (closed || over || nobody) {
            question.fate = Some(Fate::Moot);
        }
        if question.fate.is_none() {
            prop_assert!(owner.is_none_or(|owner| !calls[owner].cut), "question {} stays open behind its call", number);
            let unasked = shared && question.given.is_none() && left.len() == 1;
            prop_assert!(!unasked || !calls[left[0]].cut, "question {} stays open, and nobody can be asked", number);
        }
        let Some((_, ticket)) = question.given else { continue };
        prop_assert_eq!(link.is_open(ticket), question.fate.is_none(), "question {}", number);
    }
    while let Some(event) = link.poll_event() {
        match event {
            Event::Ask(ask) => {
                prop_assert!(!shared, "nobody owns a shared pipe");
                give(asks, calls, shared, None, &ask)?;
            }
            Event::Withdrawn(ticket) => withdraw(asks, ticket)?,
            Event::Notice(_) | Event::Stray(_) => {}
        }
    }
    // Whoever was asked is told: at once, or before the end of its call.
    for (number, question) in asks.iter().enumerate().filter(|(_, q)| q.given.is_some() && q.answered.is_none() && q.fate.is_some()) {
        let later = question.owner(shared).is_some_and(|owner| !calls[owner].told);
        let gone = question.owner(shared).is_some_and(|owner| calls[owner].gone);
        prop_assert!(question.told || later || gone, "nobody is told that question {} is over", number);
    }
    Ok(())
}

fn run(shared: bool, can: bool, server: Revision, client: Revision, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let hello = r#"{"capabilities":{"logging":{}}}"#;
    let server = Arc::new(Server::read(server, hello.into(), "s").unwrap());
    let haunts = shared && can && server.era() == Era::Handshake;
    let can = if can { r#"{"roots":{}}"# } else { "{}" };
    let client = Arc::new(Client {
        revision: client,
        principal: Default::default(),
        transport: landbridge_proto::call::Transport::Streamable,
        info: None,
        capabilities: can.into(),
    });
    let mut link = Link::new(server, shared, LIMITS);
    let mut now = Instant::now();
    let mut calls: Vec<Open> = Vec::new();
    let mut asks: Vec<Question> = Vec::new();
    let mut closed = false;
    let mut progress = 0_u64;
    for op in ops {
        let id = |at: usize| calls.get(at).map_or(at as u64, |c| c.key.id());
        let end = |calls: &mut Vec<Open>, at: usize, how: End| {
            if let Some(call) = calls.get_mut(at) {
                call.end(how);
            }
        };
        // The owner of a call is done with it.
        let room = haunts && !closed && calls.iter().filter(|c| c.ghost).count() < LIMITS.calls;
        let leave = |call: &mut Open| {
            if !std::mem::replace(&mut call.told, true) {
                call.ghost = room && call.may_ask && call.cut;
            }
        };
        let looked = matches!(op, Op::Wait(_));
        match op {
            Op::Begin(may_ask) => {
                let number = calls.len();
                let method = if may_ask { "tools/call" } else { "tools/list" };
                let text =
                    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"_meta":{{"progressToken":"t{number}"}}}}}}"#);
                let message = Message::read(text.into()).unwrap();
                let Kind::Request(id, method) = message.kind.clone() else { unreachable!() };
                let params = Params::read(&message).unwrap();
                let call = Call { id, method, message, params, client: client.clone(), log_level: None };
                let occupied = calls.iter().filter(|c| !c.told).count();
                match link.begin(&call, now) {
                    Ok(key) => {
                        prop_assert!(!closed && occupied < LIMITS.calls);
                        prop_assert!(calls.iter().all(|c| c.key != key), "a number used twice");
                        calls.push(Open {
                            key,
                            began: now,
                            end: None,
                            told: false,
                            may_ask,
                            cut: false,
                            ghost: false,
                            fades: None,
                            gone: false,
                            progress: 0,
                        });
                    }
                    Err(_) => prop_assert!(closed || occupied >= LIMITS.calls),
                }
            }
            Op::Progress(at) => {
                let id = id(at);
                let pad = "x".repeat(100);
                progress += 1;
                let value = if at % 4 == 0 { progress / 2 } else { progress };
                link.handle_line(
                    format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":{value},"n":{id},"pad":"{pad}"}}}}"#)
                        .into(),
                );
            }
            Op::Log => link.handle_line(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":0}}"#.into()),
            Op::Answer(at, ok) => {
                let id = id(at);
                let body = if ok { format!(r#""result":{{"n":{id}}}"#) } else { format!(r#""error":{{"code":1,"message":"{id}"}}"#) };
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{id},{body}}}"#).into());
                if let Some(call) = calls.get_mut(at) {
                    (call.cut, call.ghost) = (false, false);
                }
                end(&mut calls, at, if ok { End::Result } else { End::Error });
            }
            Op::TooLong(at) => {
                let Some(call) = calls.get(at).filter(|c| !c.told) else { continue };
                if call.end.is_none() {
                    link.handle_too_long(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"#, call.key.id()).as_bytes(), b"x", 100);
                    end(&mut calls, at, End::TooLong);
                }
            }
            Op::Cancel(at) => {
                if let Some(call) = calls.get_mut(at) {
                    // Once too often does no harm.
                    link.cancel(call.key, "x");
                    call.cut |= call.goes_on();
                    call.gone = true;
                    leave(call);
                }
            }
            Op::Abort(at) => {
                link.abort(Key::of_id(id(at)), "x");
                end(&mut calls, at, End::Cancelled);
            }
            Op::Poll(at, times) => {
                if at >= calls.len() {
                    continue;
                }
                for _ in 0..times {
                    let call = &mut calls[at];
                    if call.told {
                        let reply = link.poll_reply(call.key, Waker::noop());
                        prop_assert!(
                            matches!(reply, Poll::Pending | Poll::Ready(Reply::Done(Outcome::Fault(_)))),
                            "a word behind the last: {:?}",
                            reply
                        );
                        continue;
                    }
                    match link.poll_reply(call.key, Waker::noop()) {
                        Poll::Pending => prop_assert_eq!(call.end, None, "it has ended, and its owner is not told"),
                        Poll::Ready(Reply::Done(outcome)) => {
                            let id = call.key.id();
                            let how = match outcome {
                                Outcome::Result(result) => {
                                    let own = format!(r#"{{"n":{id}}}"#);
                                    prop_assert_eq!(&result[..], own.as_bytes());
                                    End::Result
                                }
                                Outcome::Error(error) => {
                                    let own = format!("\"{id}\"");
                                    prop_assert!(String::from_utf8_lossy(&error).contains(&own));
                                    End::Error
                                }
                                Outcome::Fault(fault) => match fault.kind {
                                    FaultKind::Cancelled => End::Cancelled,
                                    FaultKind::Timeout => End::Timeout,
                                    _ if fault.told == "gone" => End::Closed,
                                    _ => End::TooLong,
                                },
                            };
                            prop_assert_eq!(Some(how), call.end);
                            leave(call);
                        }
                        Poll::Ready(Reply::Note(note)) => {
                            let text = String::from_utf8(note.message.to_vec()).unwrap();
                            if text.contains("progress") {
                                let (own, id) = (format!(r#""progressToken":"t{at}","#), format!(r#""n":{},"#, call.key.id()));
                                prop_assert!(text.contains(&own) && text.contains(&id), "{text} at {own}");
                                let value = text.split(r#""progress":"#).nth(1).and_then(|t| t.split(',').next()?.parse().ok()).unwrap();
                                prop_assert!(call.progress < value || (call.progress == 0 && value == 0), "it comes to {value} again");
                                call.progress = value;
                            }
                        }
                        Poll::Ready(Reply::Ask(ask)) => give(&mut asks, &calls, shared, Some(at), &ask)?,
                        Poll::Ready(Reply::Withdrawn(ticket)) => withdraw(&mut asks, ticket)?,
                    }
                }
            }
            Op::Ask if closed => {}
            Op::Ask => {
                let number = asks.len();
                let candidates = (0..calls.len()).filter(|at| calls[*at].is_candidate()).collect();
                let under_way: Vec<usize> = (0..calls.len()).filter(|at| calls[*at].goes_on()).collect();
                let along = if let ([one], false) = (&under_way[..], shared) { Some(*one) } else { None };
                asks.push(Question { candidates, along, given: None, told: false, answered: None, fate: None, held: None });
                link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":"q{number}","method":"roots/list"}}"#).into());
            }
            Op::Withdraw(at) => {
                let Some(question) = asks.get_mut(at) else { continue };
                link.handle_line(
                    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":"q{at}"}}}}"#).into(),
                );
                question.fate.get_or_insert(Fate::Withdrawn);
            }
            Op::AnswerAsk(at, ok) => {
                let Some(question) = asks.get_mut(at) else { continue };
                let Some((_, ticket)) = question.given else { continue };
                if question.fate.is_none() {
                    question.answered = Some(ok);
                }
                link.answer(ticket, if ok { Ok(b"{}") } else { Err(b"{}") });
            }
            Op::Noise(text) => link.handle_line(text.into()),
            Op::Wait(seconds) => {
                now += Duration::from_secs(seconds);
                link.handle_timeout(now);
                for ghost in calls.iter_mut().filter(|c| c.ghost) {
                    ghost.ghost = *ghost.fades.get_or_insert(now + LIMITS.hold) > now;
                }
                for at in 0..calls.len() {
                    if now >= calls[at].began + LIMITS.call {
                        end(&mut calls, at, End::Timeout);
                    }
                }
            }
            Op::Close => {
                link.handle_closed(Fault::backend("s", FaultKind::Backend).tell("gone"));
                closed = true;
                (0..calls.len()).for_each(|at| end(&mut calls, at, End::Closed));
            }
        }
        hear(&mut link, &calls, &mut asks, shared, closed)?;
        let is_held = |q: &&mut Question| {
            let left = q.candidates.iter().filter(|c| calls[**c].is_candidate()).count();
            shared && q.fate.is_none() && q.given.is_none() && left > 1
        };
        for question in asks.iter_mut().filter(is_held).filter(|_| looked) {
            prop_assert!(now < *question.held.get_or_insert(now) + LIMITS.hold, "it is held for too long");
        }
        let (askers, ghosts) = (calls.iter().filter(|c| c.is_candidate()).count(), calls.iter().filter(|c| c.ghost).count());
        let in_flight = calls.iter().filter(|c| !c.told).count();
        prop_assert_eq!((link.in_flight(), link.askers(), link.ghosts()), (in_flight, askers, ghosts));
    }
    // What nobody ended, time does.
    for _ in 0..2 {
        now += LIMITS.call;
        link.handle_timeout(now);
        for call in &mut calls {
            call.ghost &= call.fades.replace(now).is_none();
            call.end(End::Timeout);
        }
    }
    hear(&mut link, &calls, &mut asks, shared, closed)?;
    let unasked = |question: &Question| !shared && question.owner(false).is_none();
    prop_assert_eq!(asks.iter().find(|q| q.fate.is_none() && !unasked(q)).map(|q| format!("{q:?}")), None);
    for call in &calls {
        while let Poll::Ready(reply) = link.poll_reply(call.key, Waker::noop()) {
            if matches!(reply, Reply::Done(_)) {
                break;
            }
        }
    }
    for _ in 0..2 {
        now += LIMITS.call;
        link.handle_timeout(now);
    }
    prop_assert_eq!((link.in_flight(), link.askers(), link.ghosts()), (0, 0, 0), "somebody stays behind");
    Ok(())
}

proptest! {
    #[test]
    fn every_call_ends_once_with_its_own_words(
        shared in any::<bool>(),
        can in prop::bool::weighted(0.8),
        server in prop::sample::select(Revision::ALL.to_vec()),
        client in prop::sample::select(Revision::ALL.to_vec()),
        ops in prop::collection::vec(op(), 1..100),
    ) {
        run(shared, can, server, client, ops)?;
    }
}

/// What we owe a server that asks and never reads is bounded too.
#[test]
fn a_server_that_never_reads_costs_no_memory() {
    for shared in [true, false] {
        let server = Server::read(Revision::V2025_11_25, "{}".into(), "s").unwrap();
        let mut link = Link::new(Arc::new(server), shared, LIMITS);
        for id in 0..20_000 {
            link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#).into());
            link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":"q{id}","method":"roots/list"}}"#).into());
            while link.poll_event().is_some() {}
        }
        let owed: usize = link.take_queued().into_iter().flatten().map(|queued| queued.line.len()).sum();
        assert!(owed <= LIMITS.write_bytes + 1_000, "{owed} bytes wait to be read");
    }
}

// --- what once went wrong ----------------------------------------------------------------------

fn open_link(shared: bool) -> (Link, Instant) {
    let server = Server::read(Revision::V2025_06_18, "{}".into(), "s").unwrap();
    (Link::new(Arc::new(server), shared, LIMITS), Instant::now())
}

fn begin(link: &mut Link, method: &str, now: Instant) -> Key {
    let message = Message::read(format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#).into()).unwrap();
    let Kind::Request(id, method) = message.kind.clone() else { unreachable!() };
    let params = Params::read(&message).unwrap();
    let capabilities = r#"{"roots":{}}"#.into();
    let client = Client {
        revision: Revision::V2025_06_18,
        principal: Default::default(),
        transport: landbridge_proto::call::Transport::Streamable,
        info: None,
        capabilities,
    };
    link.begin(&Call { id, method, message, params, client: Arc::new(client), log_level: None }, now).unwrap()
}

const ROOTS: &str = r#"{"jsonrpc":"2.0","id":"q","method":"roots/list"}"#;

fn answer(link: &mut Link, key: Key) {
    link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, key.id()).into());
}

fn is_asked(link: &mut Link, key: Key) -> bool {
    matches!(link.poll_reply(key, Waker::noop()), Poll::Ready(Reply::Ask(_)))
}

/// Its own end proves that a call has not asked. That we ended it, or gave it up, proves nothing.
#[test]
fn a_question_of_a_call_that_we_ended_goes_to_nobody() {
    type End = fn(&mut Link, Key, Instant);
    let ends: [End; 3] = [
        |link, key, _| link.cancel(key, "x"),
        |link, key, _| link.abort(key, "x"),
        |link, _, began| link.handle_timeout(began + LIMITS.call),
    ];
    for end in ends {
        let (mut link, now) = open_link(true);
        let first = begin(&mut link, "tools/call", now);
        let later = now + Duration::from_secs(55);
        let second = begin(&mut link, "tools/call", later);
        link.handle_line(ROOTS.into());
        end(&mut link, first, now);
        assert!(!is_asked(&mut link, second));
    }
}

/// The server need not have read that its call was withdrawn when it asked.
#[test]
fn a_question_that_crosses_a_cancellation_goes_to_nobody() {
    let (mut link, now) = open_link(true);
    let first = begin(&mut link, "tools/call", now);
    let second = begin(&mut link, "tools/call", now);
    link.cancel(first, "x");
    link.handle_line(ROOTS.into());
    assert!(!is_asked(&mut link, second));
}

/// `roots/list` behind `initialized`, while the client lists tools: the usual beginning.
#[test]
fn a_question_outlives_a_call_that_asks_nothing() {
    let (mut link, now) = open_link(false);
    let list = begin(&mut link, "tools/list", now);
    link.handle_line(ROOTS.into());
    answer(&mut link, list);
    let reply = link.poll_reply(list, Waker::noop());
    let ticket = match (reply, link.poll_event()) {
        (Poll::Ready(Reply::Ask(ask)), _) | (_, Some(Event::Ask(ask))) => ask.ticket,
        other => panic!("nobody is asked: {other:?}"),
    };
    assert!(link.is_open(ticket), "and nobody tells the server");
}

/// The same, where the call is one of ours whose answer nobody waits for.
#[test]
fn a_question_is_not_lost_to_a_request_of_ours() {
    let (mut link, now) = open_link(false);
    link.tell(&Method::Unsubscribe, r#""uri":"x""#, now);
    link.handle_line(ROOTS.into());
    assert!(matches!(link.poll_event(), Some(Event::Ask(_))));
}

/// A session whose server dies forgets what it was asked; otherwise 256 deaths leave it mute.
#[test]
fn what_no_call_asked_is_withdrawn_when_the_pipe_ends() {
    let (mut link, _) = open_link(false);
    link.handle_line(ROOTS.into());
    let Some(Event::Ask(ask)) = link.poll_event() else { panic!("it is asked") };
    link.handle_closed(Fault::backend("s", FaultKind::Backend));
    assert!(matches!(link.poll_event(), Some(Event::Withdrawn(ticket)) if ticket == ask.ticket));
}

/// A bridge cancels what it has ended, to be on the safe side, whether it was over or not.
#[test]
fn to_cancel_a_call_once_more_forgets_nothing() {
    let (mut link, now) = open_link(true);
    let first = begin(&mut link, "tools/call", now);
    link.handle_timeout(now + LIMITS.call);
    let second = begin(&mut link, "tools/call", now + LIMITS.call);
    assert!(matches!(link.poll_reply(first, Waker::noop()), Poll::Ready(Reply::Done(_))));
    assert_eq!(link.ghosts(), 1);
    link.cancel(first, "not needed any more");
    assert_eq!(link.ghosts(), 1, "its server may still be at it");
    link.handle_line(ROOTS.into());
    assert!(!is_asked(&mut link, second));
}

/// Nor to one of which we wait for the answer: whoever sent it is nobody to be asked.
#[test]
fn a_question_does_not_go_along_with_a_request_of_ours() {
    let (mut link, now) = open_link(false);
    let ours = link.begin_own(&Method::ToolsList, "", now).unwrap();
    link.handle_line(ROOTS.into());
    assert!(!is_asked(&mut link, ours));
    assert!(matches!(link.poll_event(), Some(Event::Ask(_))));
}

/// A question of a task is answered whenever, and must not end with whatever call happens to run.
#[test]
fn a_question_of_a_task_outlives_the_call_under_way() {
    let (mut link, now) = open_link(false);
    let call = begin(&mut link, "tools/call", now);
    let related = r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}"#;
    link.handle_line(format!(r#"{{"jsonrpc":"2.0","id":"q","method":"roots/list","params":{related}}}"#).into());
    answer(&mut link, call);
    let Poll::Ready(Reply::Ask(ask)) = link.poll_reply(call, Waker::noop()) else { panic!("it goes where the client looks") };
    assert!(matches!(link.poll_reply(call, Waker::noop()), Poll::Ready(Reply::Done(_))));
    assert!(link.is_open(ask.ticket), "and nobody tells the server");
}

/// Where each call has a stream of its own, what comes beside them is no call's.
#[test]
fn what_comes_apart_belongs_to_no_call() {
    let (mut link, now) = open_link(false);
    let call = begin(&mut link, "tools/call", now);
    link.handle_line_apart(ROOTS.into());
    link.handle_line_apart(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}"#.into());
    assert!(matches!(link.poll_event(), Some(Event::Ask(_))));
    assert!(matches!(link.poll_event(), Some(Event::Notice(notice)) if notice.method == Method::Log));
    assert!(link.poll_reply(call, Waker::noop()).is_pending());
}

/// What is taken is sent one after the other, and meanwhile the session may be another: a call that waits there
/// relies on what that is told, and one that nobody waits for any more is not sent at all.
#[test]
fn a_call_that_was_taken_waits_for_what_another_session_is_told() {
    let server = Server::read(Revision::V2025_06_18, r#"{"capabilities":{"logging":{}}}"#.into(), "s").unwrap();
    let (mut link, now) = (Link::new(Arc::new(server), true, LIMITS), Instant::now());
    link.want_level(Some(Level::Error), now).unwrap();
    let calls = ["tools/call", "tools/list", "prompts/list"].map(|method| begin(&mut link, method, now));
    let taken: Vec<Queued> = link.take_queued().unwrap().into_iter().collect();
    assert!(matches!(taken[0].what, What::First(_)));
    link.settled();
    assert!(link.is_settled());
    assert_eq!(link.let_go(calls[0], taken[1].line.clone()), Some(taken[1].line.clone()));
    let another = begin(&mut link, "tools/list", now);
    link.handle_new_session(now);
    assert!(!link.is_settled());
    assert_eq!(link.let_go(calls[1], taken[2].line.clone()), None);
    link.cancel(calls[2], "x");
    assert_eq!(link.let_go(calls[2], taken[3].line.clone()), None);
    let queued: Vec<What> = link.take_queued().unwrap().into_iter().map(|queued| queued.what).collect();
    assert!(matches!(queued[0], What::First(_)), "{queued:?}");
    assert_eq!(queued[1..], [What::Call(another), What::Call(calls[1]), What::Cancel(calls[2])]);
}
