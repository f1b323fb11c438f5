//! Calls that wait for a client that cannot be asked live.
//!
//! ```text
//!   running ──asks──▶ parked ──retry with every answer──▶ running ──▶ … ──▶ its result
//!                      │  ▲ └──retry without──┘
//!                      └──▶ forgotten: its time is over
//! ```
//!
//! A handshake server asks in the middle of a call; a stateless client is answered
//! `input_required` and sends its call again with the answers. In between the call waits here, and
//! `requestState` names it under a seal that only its principal, with the same call to the same
//! server, can use. A retry takes the call out, so of two the first one wins, and each state works
//! once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::bridge::ask::InputRequest;
use crate::bridge::write_object;
use crate::call::{Call, Principal, Server};
use crate::fault::{Fault, Kind};
use crate::json;
use crate::message::META_SERVER_INFO;
use crate::sealed::{Keys, Purpose};

/// What may be parked.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Calls.
    pub calls: usize,
    /// Of these, one principal's, if that is limited.
    pub of_each: Option<usize>,
    /// How long one waits for its client.
    pub keep: Duration,
}

/// A question that a parked call waits for.
#[derive(Clone, Debug)]
pub struct Question {
    /// By which its answer finds the server again.
    pub ticket: u64,
    /// As the client got it.
    pub asked: InputRequest,
}

/// The calls that wait. `C` is a call under way, whatever that is to whoever runs it.
#[derive(Debug)]
pub struct Parked<C> {
    entries: BTreeMap<u128, Entry<C>>,
    limits: Limits,
    began: Instant,
}

#[derive(Debug)]
struct Entry<C> {
    whose: Principal,
    held: C,
    questions: Vec<Question>,
    server: Arc<Server>,
    until: Instant,
}

/// A principal has as many calls that wait as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// So many.
    pub most: usize,
    /// How long the oldest of them still waits.
    pub wait: Duration,
}

/// What a retry comes to.
#[derive(Debug)]
pub enum Retry<C> {
    /// Everything is answered: the call goes on. The answers by ticket.
    Resumed(C, Vec<(u64, Bytes)>),
    /// An answer is missing: this InputRequiredResult asks for it again.
    AskAgain(Bytes),
}

impl<C> Parked<C> {
    /// Nothing waits yet.
    pub fn new(limits: Limits, now: Instant) -> Parked<C> {
        Parked { entries: BTreeMap::new(), limits, began: now }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes room for another call of somebody's: the oldest of theirs that may go is given back, where there are as many
    /// as they may have. Who is not asked who they are is everybody, and has no limit.
    pub fn make_room(&mut self, whose: &Principal, may_go: impl Fn(&C) -> bool, now: Instant) -> Result<Option<C>, Full> {
        let Some(most) = self.limits.of_each.filter(|_| !whose.as_bytes().is_empty()) else { return Ok(None) };
        let theirs = || self.entries.iter().filter(|(_, entry)| entry.whose == *whose && now < entry.until);
        if theirs().count() < most {
            return Ok(None);
        }
        match theirs().filter(|(_, entry)| may_go(&entry.held)).min_by_key(|(_, entry)| entry.until).map(|(id, _)| *id) {
            Some(oldest) => Ok(self.entries.remove(&oldest).map(|entry| entry.held)),
            None => Err(Full { most, wait: theirs().map(|(_, entry)| entry.until - now).min().unwrap_or_default() }),
        }
    }

    /// Parks `held` under `id`, which must be random, and gives the InputRequiredResult for its
    /// client: the answer to `call`, whose [`digest`] is given. Where there is no room `held` is given
    /// back.
    pub fn park(
        &mut self,
        keys: &Keys,
        id: u128,
        held: C,
        (call, digest, server, name): (&Call, Digest, &Arc<Server>, &str),
        questions: Vec<Question>,
        now: Instant,
    ) -> Result<Bytes, (Box<C>, Fault)> {
        if self.entries.len() >= self.limits.calls {
            let told = format!("{} calls wait for answers of their clients already; try again later", self.limits.calls);
            return Err((Box::new(held), Fault::gateway(Kind::Busy).tell(told)));
        }
        let until = now + self.limits.keep;
        let plain = State { id, until_ms: self.ms(until), digest }.write();
        let Some(state) = keys.seal(Purpose::RequestState, &[call.client.principal.as_bytes(), name.as_bytes()], &plain) else {
            return Err((Box::new(held), Fault::gateway(Kind::Backend).tell("the call could not be put aside")));
        };
        let result = input_required(server, questions.iter().map(|q| &q.asked), &state);
        self.entries.insert(id, Entry { whose: call.client.principal.clone(), held, questions, server: server.clone(), until });
        Ok(result)
    }

    /// A call comes with a `requestState`. `is_open` tells whether the server still waits for the
    /// answer with that ticket: it may have withdrawn its question.
    pub fn retry(
        &mut self,
        keys: &Keys,
        (call, digest, responses, name): (&Call, Digest, &Responses, &str),
        is_open: impl Fn(&C, u64) -> bool,
        now: Instant,
    ) -> Result<Retry<C>, Fault> {
        let state = State::open(keys, call, name).ok_or_else(unusable)?;
        let sealed = call.message.string_at(call.params.request_state).unwrap_or_default();
        if state.until_ms <= self.ms(now) || state.digest != digest {
            return Err(unusable());
        }
        let entry = self.entries.get(&state.id).ok_or_else(unusable)?;
        let open: Vec<&Question> = entry.questions.iter().filter(|q| is_open(&entry.held, q.ticket)).collect();
        let missing = open.iter().any(|q| responses.get(&q.asked.key).is_none());
        if missing {
            // Answers count for one round, so all are asked for again.
            return Ok(Retry::AskAgain(input_required(&entry.server, open.iter().map(|q| &q.asked), &sealed)));
        }
        let answers = open.iter().filter_map(|q| Some((q.ticket, responses.get(&q.asked.key)?))).collect();
        let entry = self.entries.remove(&state.id).ok_or_else(unusable)?;
        Ok(Retry::Resumed(entry.held, answers))
    }

    /// The calls whose clients did not come back in time, with the questions they left open.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<(C, Vec<u64>)> {
        let over: Vec<u128> = self.entries.iter().filter(|(_, e)| e.until <= now).map(|(id, _)| *id).collect();
        let taken = over.iter().filter_map(|id| self.entries.remove(id));
        taken.map(|e| (e.held, e.questions.iter().map(|q| q.ticket).collect())).collect()
    }

    /// Takes out every call, because we stop.
    pub fn drain(&mut self) -> Vec<C> {
        std::mem::take(&mut self.entries).into_values().map(|e| e.held).collect()
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_millis() as u64
    }
}

/// What `requestState` says, under its seal.
#[derive(Debug, PartialEq, Eq)]
struct State {
    id: u128,
    until_ms: u64,
    digest: Digest,
}

/// Whether a call's `requestState` is one of ours, for its client and that server.
pub fn is_ours(keys: &Keys, call: &Call, name: &str) -> bool {
    State::open(keys, call, name).is_some()
}

/// One sentence for every state that is of no use: whose it is, or was, is nobody else's business.
pub fn unusable() -> Fault {
    Fault::client(Kind::Params).tell("requestState is invalid, used or expired, or belongs to another call; send the call again without it")
}

impl State {
    fn open(keys: &Keys, call: &Call, name: &str) -> Option<State> {
        let sealed = call.message.string_at(call.params.request_state)?;
        let bound: [&[u8]; 2] = [call.client.principal.as_bytes(), name.as_bytes()];
        State::read(&keys.open(Purpose::RequestState, &bound, &sealed)?)
    }

    fn write(&self) -> Vec<u8> {
        [&self.id.to_le_bytes()[..], &self.until_ms.to_le_bytes(), &self.digest].concat()
    }

    fn read(plain: &[u8]) -> Option<State> {
        let (id, rest) = plain.split_first_chunk()?;
        let (until_ms, digest) = rest.split_first_chunk()?;
        Some(State { id: u128::from_le_bytes(*id), until_ms: u64::from_le_bytes(*until_ms), digest: digest.try_into().ok()? })
    }
}

/// Tells calls apart.
pub type Digest = [u8; 32];

/// What makes a retry the same call: its method, and its parameters without those of the retry.
/// A client may write them anew, so neither their order nor their layout counts.
pub fn digest(call: &Call) -> Digest {
    // `task` means nothing to a stateless client's revision; a gateway may have put it there.
    const OF_THE_EXCHANGE: [&str; 4] = ["_meta", "inputResponses", "requestState", "task"];
    let mut members = json::members(call.message.params_text()).unwrap_or_default();
    members.retain(|(key, _)| !OF_THE_EXCHANGE.contains(&&**key));
    members.sort();
    let mut hash = Sha256::new();
    hash.update(call.method.as_str());
    for (key, value) in members {
        let mut canonical = Vec::with_capacity(key.len() + value.len() + 8);
        canonical.extend_from_slice(json::quote(&key).as_bytes());
        write_canonical(value, &mut canonical, 0);
        hash.update((canonical.len() as u64).to_le_bytes());
        hash.update(&canonical);
    }
    hash.finalize().into()
}

/// The value with its members in order, without layout and with one spelling of each string. Numbers
/// keep theirs: no two of them are taken for one.
fn write_canonical(value: &str, out: &mut Vec<u8>, depth: u32) {
    /// What nests deeper is taken as it is written.
    const DEPTH: u32 = 64;
    let value = value.trim();
    let mut separator = b'{';
    match value.as_bytes().first() {
        Some(b'{') if depth < DEPTH => {
            let mut members = json::members(value).unwrap_or_default();
            members.sort();
            for (key, value) in members {
                out.push(std::mem::replace(&mut separator, b','));
                out.extend_from_slice(json::quote(&key).as_bytes());
                out.push(b':');
                write_canonical(value, out, depth + 1);
            }
            out.extend_from_slice(if separator == b'{' { b"{}" } else { b"}" });
        }
        Some(b'[') if depth < DEPTH => {
            separator = b'[';
            for value in json::elements(value, usize::MAX).ok().flatten().unwrap_or_default() {
                out.push(std::mem::replace(&mut separator, b','));
                write_canonical(value, out, depth + 1);
            }
            out.extend_from_slice(if separator == b'[' { b"[]" } else { b"]" });
        }
        Some(b'"') => out.extend_from_slice(json::quote(&json::string(value.as_bytes()).unwrap_or_default()).as_bytes()),
        _ => out.extend_from_slice(value.as_bytes()),
    }
}

/// An InputRequiredResult (2026-07-28, MRTR).
pub fn input_required<'a>(server: &Server, asked: impl Iterator<Item = &'a InputRequest>, state: &str) -> Bytes {
    let requests = write_object(asked.map(|a| (a.key.clone(), a.request.to_vec())));
    [
        b"{\"resultType\":\"input_required\",\"inputRequests\":",
        &requests[..],
        b",\"requestState\":",
        json::quote(state).as_bytes(),
        b",\"_meta\":{\"",
        META_SERVER_INFO.as_bytes(),
        b"\":",
        &server.info,
        b"}}",
    ]
    .concat()
    .into()
}

/// The `inputResponses` of a call.
#[derive(Debug, Default)]
pub struct Responses(Vec<(String, Bytes)>);

impl Responses {
    /// Reads them. `null` stands for none; anything else but an object is the client's fault.
    pub fn read(call: &Call) -> Result<Responses, Fault> {
        let Some(at) = call.params.input_responses else { return Ok(Responses::default()) };
        let text = call.message.text(at);
        if text == "null" {
            return Ok(Responses::default());
        }
        let bad = |e: json::Unreadable| Fault::client(Kind::Params).tell(format!("`params.inputResponses`: {e}"));
        let members = json::members(text).map_err(bad)?;
        Ok(Responses(members.into_iter().map(|(key, value)| (key.into_owned(), Bytes::copy_from_slice(value.as_bytes()))).collect()))
    }

    /// Whether there is something for the question `key`.
    pub fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// The answer to the question `key`. Only an object can be one.
    pub fn get(&self, key: &str) -> Option<Bytes> {
        let (_, answer) = self.0.iter().find(|(k, _)| k == key)?;
        answer.starts_with(b"{").then(|| super::ask::answer(answer))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // An origin for virtual time; nothing waits.
mod tests {
    use super::*;
    use crate::call::Client;
    use crate::message::{Kind as MessageKind, Message, Params};
    use crate::version::Revision;

    fn server() -> Server {
        Server::read(Revision::V2025_11_25, Bytes::from_static(br#"{"serverInfo":{"name":"s","version":"1"},"capabilities":{}}"#), "s")
            .unwrap()
    }

    fn call(who: &str, params: &str) -> Call {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let message = Message::read(text.into()).unwrap();
        let params = Params::read(&message).unwrap();
        let MessageKind::Request(id, method) = message.kind.clone() else { unreachable!() };
        let client = Client {
            revision: Revision::NEWEST,
            principal: Principal::named(who),
            transport: crate::call::Transport::Streamable,
            info: None,
            capabilities: "{}".into(),
        };
        Call { id, method, message, params, client: Arc::new(client), log_level: None }
    }

    fn questions() -> Vec<Question> {
        let one = |ticket, key: &str| Question {
            ticket,
            asked: InputRequest { key: key.into(), request: r#"{"method":"roots/list","params":{}}"#.into() },
        };
        vec![one(1, "a"), one(2, "b")]
    }

    struct Lot {
        keys: Keys,
        parked: Parked<&'static str>,
        server: Arc<Server>,
        now: Instant,
    }

    impl Lot {
        fn new() -> Lot {
            let now = Instant::now();
            let limits = Limits { calls: 2, of_each: None, keep: Duration::from_secs(600) };
            Lot { keys: Keys::new([1; 32]), parked: Parked::new(limits, now), server: Arc::new(server()), now }
        }

        fn park(&mut self, id: u128, of: &Call) -> Option<String> {
            let result = self.parked.park(&self.keys, id, "call", (of, digest(of), &self.server, "srv"), questions(), self.now).ok()?;
            let text = String::from_utf8(result.to_vec()).unwrap();
            let state = text.split("\"requestState\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
            assert!(
                text.starts_with(r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list","params":{}},"b":"#),
                "{text}"
            );
            Some(state)
        }

        fn retry(&mut self, who: &str, params: &str) -> String {
            self.retry_at("srv", who, params, |_| true)
        }

        fn retry_at(&mut self, name: &str, who: &str, params: &str, open: impl Fn(u64) -> bool) -> String {
            let call = call(who, params);
            let responses = match Responses::read(&call) {
                Ok(responses) => responses,
                Err(fault) => return fault.code().to_string(),
            };
            match self.parked.retry(&self.keys, (&call, digest(&call), &responses, name), |_, t| open(t), self.now) {
                Ok(Retry::Resumed(_, answers)) => {
                    answers.iter().map(|(t, a)| format!("{t}={} ", String::from_utf8_lossy(a))).collect::<String>().trim_end().into()
                }
                Ok(Retry::AskAgain(_)) => "again".into(),
                Err(fault) => fault.code().to_string(),
            }
        }
    }

    const ANSWERS: &str = r#""inputResponses":{"b":{"n":1.0},"x":1,"a":{"_meta":{},"y":2}}"#;

    #[test]
    fn a_retry_with_every_answer_resumes_the_call_once() {
        let mut lot = Lot::new();
        let state = lot.park(7, &call("ada", r#"{"name":"t","arguments":{"b":1,"a":[]}}"#)).unwrap();
        let good = format!(r#"{{"requestState":"{state}",{ANSWERS},"arguments":{{ "a":[], "b":1}},"name":"t"}}"#);
        assert_eq!(lot.retry("ada", &good.replace("\"b\":{", "\"c\":{")), "again");
        assert_eq!(lot.retry("ada", &good.replace("{\"n\":1.0}", "5")), "again", "only an object is an answer");
        assert_eq!(lot.retry("ada", &good), r#"1={"y":2} 2={"n":1.0}"#);
        assert_eq!(lot.retry("ada", &good), "-32602", "each state works once");
        assert!(lot.parked.is_empty());
    }

    #[test]
    fn nobody_else_and_no_other_call_can_use_a_state() {
        let mut lot = Lot::new();
        let state = lot.park(7, &call("ada", r#"{"name":"t"}"#)).unwrap();
        let good = format!(r#"{{"name":"t","requestState":"{state}",{ANSWERS}}}"#);
        assert_eq!(lot.retry("bob", &good), "-32602");
        let numbered = |n: &str| digest(&call("", &format!(r#"{{"arguments":{{"b":[1e400,{{}}],"n":{n}}}}}"#)));
        assert_ne!(numbered("100000000000000000001"), numbered("100000000000000000002"));
        let anew = digest(&call("", r#"{"arguments" : {"n":7,"\u0062":[1e400, { }]}}"#));
        assert_eq!(numbered("7"), anew);
        assert_eq!(lot.retry("", &good), "-32602");
        assert_eq!(lot.retry("ada", &good.replace("\"t\"", "\"u\"")), "-32602");
        assert_eq!(lot.retry("ada", &good.replace("\"name\"", "\"arguments\":{},\"name\"")), "-32602");
        assert_eq!(lot.retry("ada", &good.replace(&state, &format!("{state}-TAMPERED"))), "-32602");
        assert_eq!(lot.retry("ada", &good.replace(&format!("\"{state}\""), "5")), "-32602");
        assert_eq!(lot.retry_at("other", "ada", &good, |_| true), "-32602");
        assert_eq!(lot.retry("ada", &good.replace("\"inputResponses\":{", "\"inputResponses\":[{").replace("}}}", "}}]}")), "-32602");
        lot.now += Duration::from_secs(600);
        assert_eq!(lot.retry("ada", &good), "-32602", "expired");
        let over = lot.parked.handle_timeout(lot.now);
        assert_eq!(over, [("call", vec![1, 2])]);
    }

    #[test]
    fn one_principal_has_so_many_and_what_may_go_makes_room() {
        let (began, keys, server) = (Instant::now(), Keys::new([1; 32]), Arc::new(server()));
        let at = |s: u64| began + Duration::from_secs(s);
        let mut parked = Parked::new(Limits { calls: 9, of_each: Some(2), keep: Duration::from_secs(600) }, began);
        let park = |parked: &mut Parked<&'static str>, id: u128, who: &str, held, now| {
            let of = call(who, r#"{"name":"t"}"#);
            let gone = parked.make_room(&of.client.principal, |held| *held == "page", now)?;
            parked.park(&keys, id, held, (&of, digest(&of), &server, "srv"), questions(), now).unwrap();
            Ok(gone)
        };
        for (id, held) in [(1, "call"), (2, "page")] {
            assert_eq!(park(&mut parked, id, "ada", held, at(id as u64)), Ok(None));
        }
        assert_eq!(park(&mut parked, 3, "ada", "call", at(3)), Ok(Some("page")));
        assert_eq!(park(&mut parked, 4, "ada", "call", at(4)), Err(Full { most: 2, wait: Duration::from_secs(597) }));
        for id in 5..8 {
            assert_eq!(park(&mut parked, id, "", "call", at(4)), Ok(None), "nobody in particular");
        }
        assert_eq!(park(&mut parked, 8, "bob", "call", at(4)), Ok(None));
        // What is over does not count, though nobody has tidied up yet.
        assert_eq!(park(&mut parked, 9, "ada", "call", at(601)), Ok(None));
    }

    #[test]
    fn withdrawn_questions_need_no_answer_and_room_is_bounded() {
        let mut lot = Lot::new();
        let of = call("", r#"{"name":"t"}"#);
        let state = lot.park(1, &of).unwrap();
        lot.park(2, &of).unwrap();
        assert_eq!(lot.park(3, &of), None);
        let only_b = format!(r#"{{"name":"t","requestState":"{state}","inputResponses":{{"b":{{}}}}}}"#);
        assert_eq!(lot.retry_at("srv", "", &only_b, |t| t == 2), "2={}");
        assert_eq!(lot.parked.len(), 1);
        assert_eq!(lot.parked.drain(), ["call"]);
    }
}
