//! The near side of a pair: one client of any kind, its HTTP exchanges and what it got of them.
//!
//! Odd: an exchange is what the product keeps in a response body. It pulls its calls when it is
//! woken and when its client reads; a client that `stalls` does not.

mod post;
mod pull;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use landbridge_proto::back::link::Key;
use landbridge_proto::call::{Client, Level};
use landbridge_proto::front::session::{self, Reader, Session, Tag, Transport};
use landbridge_proto::headers::Accept;
use landbridge_proto::message::Message;
use landbridge_proto::sse::EventId;
use landbridge_proto::subscribe::{Filter, Listen};
use landbridge_proto::version::Revision;

use super::call::{ASKING, Running};
use super::gate::{Gate, Promise};
use super::{Bell, LIMITS};

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrontKind {
    Streamable(Revision),
    Sse(Revision),
    Stateless,
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A response that is no stream.
    Body { status: u16, text: String },
    /// An event; `own` if it came on the stream of a POST.
    Event { own: bool, text: String },
    /// An event without a message.
    Priming { own: bool },
    /// A stream ended that had not carried its answer, or that answers nothing.
    End { own: bool },
}

/// A POST that is not over.
struct Exchange {
    calls: Vec<Running>,
    answers: Vec<Vec<u8>>,
    batch: bool,
    since: Instant,
    accept: Accept,
    /// Where it is read, once it is a stream.
    open: Option<Open>,
    bell: Arc<Bell>,
    answered: bool,
}

enum Open {
    Session(Reader),
    Stateless,
}

/// A `subscriptions/listen`, or the wish for one.
struct Listening {
    wanted: Option<(Message, Filter, Promise)>,
    queue: Option<Listen>,
    bell: Arc<Bell>,
}

pub(crate) struct Front {
    pub(crate) kind: FrontKind,
    pub(crate) got: VecDeque<Got>,
    /// Does not read its streams.
    pub(crate) stalled: bool,
    session: Option<Session>,
    standalone: Option<(Reader, Arc<Bell>)>,
    exchanges: Vec<Exchange>,
    /// Calls whose exchange is gone, with the stream they ride on, and all over HTTP+SSE.
    loose: Vec<(Running, Option<u32>, Arc<Bell>)>,
    listens: Vec<Listening>,
    last_seen: BTreeMap<u32, String>,
    last_dropped: u32,
}

impl Front {
    pub(crate) fn new(kind: FrontKind, now: Instant) -> Front {
        let mut front = Front {
            kind,
            got: VecDeque::new(),
            stalled: false,
            session: None,
            standalone: None,
            exchanges: Vec::new(),
            loose: Vec::new(),
            listens: Vec::new(),
            last_seen: BTreeMap::new(),
            last_dropped: 0,
        };
        if let FrontKind::Sse(_) = kind {
            let client = Arc::new(Client {
                revision: Revision::V2024_11_05,
                principal: Default::default(),
                transport: landbridge_proto::call::Transport::Streamable,
                info: None,
                capabilities: Bytes::from_static(b"{}"),
            });
            front.session = Some(Session::new(client, Transport::Sse, limits(), now));
            front.open_standalone();
        }
        front
    }

    pub(crate) fn revision(&self) -> Revision {
        match self.kind {
            FrontKind::Streamable(revision) | FrontKind::Sse(revision) => revision,
            FrontKind::Stateless => Revision::NEWEST,
        }
    }

    // --- what the client does -------------------------------------------------------------------

    /// GET: a stream for what answers no request.
    pub(crate) fn open_standalone(&mut self) {
        if let Some(session) = &mut self.session {
            self.standalone = Some((session.open_standalone(), Bell::new()));
        }
    }

    /// Closes the connections of its POSTs.
    pub(crate) fn drop_exchanges(&mut self, gate: &mut Gate) {
        for mut exchange in std::mem::take(&mut self.exchanges) {
            match exchange.open {
                Some(Open::Session(reader)) => {
                    self.last_dropped = reader.stream();
                    let calls = exchange.calls.drain(..);
                    self.loose.extend(calls.map(|c| (c, Some(reader.stream()), Bell::new())));
                    self.session.as_mut().expect("open").close_reader(reader, gate.now);
                }
                // Without a stream to come back to, a question would be one that nobody gets.
                None if self.session.is_some() => {
                    exchange.calls.iter_mut().for_each(|c| c.mute = true);
                    self.loose.extend(exchange.calls.drain(..).map(|c| (c, None, Bell::new())));
                }
                _ => exchange.calls.iter().for_each(|c| c.withdraw(gate)),
            }
        }
        for listening in std::mem::take(&mut self.listens) {
            if let Some(queue) = &listening.queue {
                gate.keep(queue.filter(), &Filter::default());
            }
        }
        if let FrontKind::Sse(_) = self.kind {
            self.end(gate);
        }
    }

    /// Closes the connection of its GET.
    pub(crate) fn drop_standalone(&mut self, now: Instant) {
        if let (Some(session), Some((reader, _))) = (&mut self.session, self.standalone.take()) {
            session.close_reader(reader, now);
        }
    }

    /// Comes back for what it missed of the stream that was dropped last, or behind `id`.
    pub(crate) fn resume(&mut self, id: Option<&str>, now: Instant) {
        let last = id.or(self.last_seen.get(&self.last_dropped).map(String::as_str)).unwrap_or_default();
        let session = self.session.as_mut().expect("a session");
        match EventId::parse(last).and_then(|id| session.resume(id)) {
            Some(reader) => {
                let (open, bell) = (Some(Open::Session(reader)), Bell::new());
                let (calls, answers) = (Vec::new(), Vec::new());
                self.exchanges.push(Exchange {
                    calls,
                    answers,
                    batch: false,
                    since: now,
                    accept: Accept::ALL,
                    open,
                    bell,
                    answered: false,
                });
            }
            None => self.got.push_back(Got::Body { status: 400, text: "{\"jsonrpc\":\"2.0\",\"error\":{}}".into() }),
        }
    }

    /// DELETE, or the end of the stream that is the session.
    pub(crate) fn end(&mut self, gate: &mut Gate) {
        let Some(session) = &mut self.session else { return };
        session.close();
        if gate.is_shared() {
            let filter = Filter { uris: session.subscriptions().clone(), ..Filter::default() };
            gate.keep(&filter, &Filter::default());
            let _ = gate.change_level(session.level(), None);
        }
        for tag in session.calls().collect::<Vec<Tag>>() {
            self.abort(gate, tag);
        }
    }

    /// The client does not want the answer to the call of that tag any more.
    fn abort(&mut self, gate: &mut Gate, tag: Tag) {
        match tag.link {
            ASKING => self.change(|running| running.abort(tag)),
            _ => gate.link().into_iter().for_each(|link| link.abort(Key::of_id(tag.number), "cancelled by the client")),
        }
    }

    /// Does something to one of its calls, which is to look around then.
    fn change(&mut self, mut change: impl FnMut(&mut Running) -> bool) {
        let exchanged = self.exchanges.iter_mut().flat_map(|e| e.calls.iter_mut().map(|c| (c, &e.bell)));
        let loose = self.loose.iter_mut().map(|(c, _, bell)| (c, &*bell));
        if let Some(bell) = exchanged.chain(loose).find_map(|(running, bell)| change(running).then_some(bell)) {
            bell.ring();
        }
    }

    /// The client's own way to say that it does not want the answer to `id`.
    pub(crate) fn cancel(&mut self, gate: &mut Gate, id: &str) {
        match self.kind {
            FrontKind::Stateless => {
                let at = self.exchanges.iter().position(|e| e.calls.iter().any(|c| c.id.as_bytes() == id.as_bytes()));
                if let Some(exchange) = at.map(|at| self.exchanges.remove(at)) {
                    exchange.calls.iter().for_each(|c| c.withdraw(gate));
                }
            }
            _ => {
                let body = format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
                self.post(gate, &[], &body);
            }
        }
    }

    /// Time passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.handle_timeout(now);
        }
        self.ring();
    }

    pub(crate) fn has_calls(&self) -> bool {
        self.session.as_ref().is_some_and(|s| s.calls().next().is_some())
    }

    /// What its session has said to a server of its own that another one has to be told.
    pub(crate) fn said(&self) -> Option<(Option<Level>, BTreeSet<Arc<str>>)> {
        let session = self.session.as_ref()?;
        Some((session.level().or(session.own_level()), session.subscriptions().clone()))
    }

    fn ring(&self) {
        self.exchanges.iter().map(|e| &e.bell).chain(self.loose.iter().map(|(_, _, bell)| bell)).for_each(|bell| bell.ring());
    }

    // --- what the server has for it ----------------------------------------------------------------

    pub(crate) fn notice(&mut self, notice: &landbridge_proto::call::Notice, shared: bool, now: Instant) {
        if let Some(session) = &mut self.session {
            if shared {
                session.handle_shared_notice(notice, now);
            } else {
                session.handle_own_notice(notice, now);
            }
        }
        for listen in self.listens.iter_mut().filter_map(|l| l.queue.as_mut()) {
            listen.handle_notice(notice);
        }
    }

    /// Puts a question that belongs to no call; false if it cannot be asked.
    pub(crate) fn ask(&mut self, ask: &landbridge_proto::call::Ask, now: Instant) -> bool {
        let Some(session) = &mut self.session else { return false };
        let Some(message) = session.ask(ask, Tag { link: 0, number: ask.ticket }) else { return false };
        session.append(0, &message, false, now);
        true
    }

    pub(crate) fn withdraw(&mut self, ticket: u64, now: Instant) {
        let Some(session) = &mut self.session else { return };
        if let Some(message) = session.withdraw(Tag { link: 0, number: ticket }) {
            session.append(0, message.as_bytes(), false, now);
        }
    }

    /// The server is gone.
    pub(crate) fn break_off(&mut self) {
        self.listens.iter_mut().filter_map(|l| l.queue.as_mut()).for_each(Listen::break_off);
    }

    /// The gateway is about to go.
    pub(crate) fn finish_listens(&mut self) {
        self.listens.iter_mut().filter_map(|l| l.queue.as_mut()).for_each(Listen::finish);
    }

    /// It reads again.
    pub(crate) fn read_on(&mut self) {
        self.stalled = false;
        self.ring();
        self.listens.iter().for_each(|l| l.bell.ring());
        if let Some((_, bell)) = &self.standalone {
            bell.ring();
        }
    }
}

fn limits() -> session::Limits {
    session::Limits { event_bytes: LIMITS.event_bytes, keep: LIMITS.keep, streams: LIMITS.streams }
}
