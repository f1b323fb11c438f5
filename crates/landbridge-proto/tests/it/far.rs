//! What carries a link over HTTP, without sockets: the product's exchanges and channels in virtual time.
//!
//! ```text
//!   Link ──queued──▶ carry ──▶ requests ──▶ the server, which is the test
//!   Link ◀──lines─── handle ◀── what it says to each request
//! ```
//!
//! Odd: nothing here answers itself. Who plays the server takes each [`Request`] and says what becomes of
//! it, whenever it likes, by its number.

mod exchange;
mod standalone;

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use landbridge_proto::back::approach::{Approach, Posted, Step, Wire};
use landbridge_proto::back::link::{Key, Link, Queued, What};
use landbridge_proto::back::probe::{INITIALIZED, Protocol};
use landbridge_proto::back::streamable::{Attempts, answer_in};
use landbridge_proto::call::Client;
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::headers::MirroredParam;
use landbridge_proto::json;
use landbridge_proto::sse::{Decoded, Decoder};
use landbridge_proto::version::{Era, Revision};

use exchange::Exchange;
use standalone::Standalone;

/// A request to the server.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) number: u32,
    /// A GET has no body.
    pub(crate) body: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

/// Something for whoever plays the server, or owns the link.
#[derive(Debug)]
pub(crate) enum Out {
    Request(Request),
    /// The connection of a request that was under way is closed: the line that would say so elsewhere.
    Dropped(String),
    /// The server has another session with us.
    Renewed,
    /// Nobody heard for a while what it tells.
    Missed,
}

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Said<'s> {
    /// A response without a stream.
    Whole { status: u16, session: Option<&'s str>, body: &'s str },
    /// A stream of events begins.
    Stream,
    /// More of it.
    Bytes(&'s [u8]),
    /// The connection breaks, whatever has come of it before.
    Breaks,
}

/// One of our sessions at the server.
#[derive(Clone, Debug, Default)]
struct Session {
    id: Option<String>,
    number: u64,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Call(Key),
    /// A notification, or an answer.
    Word,
    Standalone,
    Renewal,
    /// `notifications/initialized` in a session that is new.
    Introduction,
}

pub(crate) struct Far {
    name: &'static str,
    /// HTTP+SSE: one stream for all.
    pipe: bool,
    revision: Revision,
    client: Client,
    limit: usize,
    haunts: Duration,
    session: Session,
    under_way: BTreeMap<u32, For>,
    next: u32,
    exchanges: BTreeMap<u64, Exchange>,
    standalone: Standalone,
    /// Lines that wait for the first of them to be answered, and those that are not even taken: who looks on is
    /// to know of them at once.
    waiting: VecDeque<Queued>,
    later: VecDeque<Queued>,
    first: Option<(Key, Instant)>,
    /// The answer to one of them was waited for in vain.
    pub(crate) hasty: bool,
    /// The lines that were taken from the link, as they were.
    pub(crate) taken: Vec<String>,
    renewing: Option<(Approach, Option<Session>)>,
    /// What is known of its tools.
    pub(crate) mirrored: BTreeMap<String, Vec<MirroredParam>>,
    pub(crate) out: VecDeque<Out>,
}

impl Far {
    /// Carries the link to a server that was met, in the session of that name.
    pub(crate) fn new(revision: Revision, client: Client, session: Option<String>, limit: usize, haunts: Duration) -> Far {
        let mut far = Far {
            name: "s",
            pipe: false,
            revision,
            client,
            limit,
            haunts,
            session: Session { id: session, number: 0 },
            under_way: BTreeMap::new(),
            next: 1_000,
            exchanges: BTreeMap::new(),
            standalone: Standalone::new(limit),
            waiting: VecDeque::new(),
            later: VecDeque::new(),
            first: None,
            hasty: false,
            taken: Vec::new(),
            renewing: None,
            mirrored: BTreeMap::new(),
            out: VecDeque::new(),
        };
        if far.has_session() {
            far.open_standalone(None);
        }
        far
    }

    /// Carries it over HTTP+SSE: the request of that number is the stream.
    pub(crate) fn pipe(revision: Revision, client: Client, stream: Decoder, number: u32, limit: usize) -> Far {
        let mut far = Far::new(Revision::NEWEST, client, None, limit, Duration::ZERO);
        (far.pipe, far.revision) = (true, revision);
        far.standalone = Standalone::open(stream, limit);
        far.under_way.insert(number, For::Standalone);
        far
    }

    /// Whether it is one stream for all.
    pub(crate) fn is_pipe(&self) -> bool {
        self.pipe
    }

    fn has_session(&self) -> bool {
        self.revision.era() == Era::Handshake
    }

    fn fault(&self, kind: FaultKind, what: &str) -> Fault {
        Fault::backend(self.name, kind).tell(format!("the server `{}` {what}", self.name))
    }

    /// The request that carries this call now.
    pub(crate) fn request_of(&self, id: u64) -> Option<u32> {
        self.under_way.iter().find(|(_, what)| **what == For::Call(Key::of_id(id))).map(|(number, _)| *number)
    }

    /// Calls that have a request, with its number, and whether events come on it.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (u64, u32, bool)> {
        self.under_way.iter().filter_map(|(number, what)| match what {
            For::Call(key) => Some((key.id(), *number, self.exchanges.get(&key.id())?.is_stream(*number))),
            _ => None,
        })
    }

    /// Whether events come in answer to that request.
    pub(crate) fn is_stream(&self, number: u32) -> bool {
        match self.under_way.get(&number) {
            Some(For::Call(key)) => self.exchanges.get(&key.id()).is_some_and(|exchange| exchange.is_stream(number)),
            Some(For::Standalone) => self.standalone.is_open(),
            _ => false,
        }
    }

    /// The request for the stream that is no call's.
    pub(crate) fn standalone(&self) -> Option<u32> {
        self.under_way.iter().find(|(_, what)| **what == For::Standalone).map(|(number, _)| *number)
    }

    /// All that are under way.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> {
        self.under_way.keys().copied()
    }

    /// The call that the request carries.
    pub(crate) fn call_of(&self, number: u32) -> Option<u64> {
        match self.under_way.get(&number) {
            Some(For::Call(key)) => Some(key.id()),
            _ => None,
        }
    }

    /// Whether the session that a call was sent in is not the one there is now.
    pub(crate) fn is_lost(&self, id: u64) -> bool {
        self.exchanges.get(&id).is_some_and(|exchange| exchange.session.number != self.session.number)
    }

    /// Whether anybody waits for what becomes of that request.
    pub(crate) fn awaits(&self, number: u32) -> bool {
        self.under_way.contains_key(&number)
    }

    /// The request that opens another session.
    pub(crate) fn renewal(&self) -> Option<u32> {
        self.under_way.iter().find(|(_, what)| **what == For::Renewal).map(|(number, _)| *number)
    }

    // --- to the server ---------------------------------------------------------------------------

    fn request(&mut self, what: For, body: Option<&Bytes>, headers: Vec<(String, String)>) -> u32 {
        let number = self.next;
        self.next += 1;
        let text = |line: &Bytes| String::from_utf8(line.to_vec()).expect("lines are UTF-8").trim_end_matches('\n').to_owned();
        self.under_way.insert(number, what);
        self.out.push_back(Out::Request(Request { number, body: body.map(text), headers }));
        number
    }

    fn session_headers(&self, session: &Session) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if !self.pipe && self.has_session() {
            if self.revision >= Revision::V2025_06_18 {
                headers.push(("mcp-protocol-version".to_owned(), self.revision.to_string()));
            }
            headers.extend(session.id.clone().map(|id| ("mcp-session-id".to_owned(), id)));
        }
        headers
    }

    fn say(&mut self, line: &Bytes) {
        let headers = self.session_headers(&self.session);
        self.request(For::Word, Some(line), headers);
    }

    /// Takes what the link has for the server, as far as nothing has to be answered first; whether there
    /// was anything.
    pub(crate) fn carry(&mut self, link: &mut Link, waker: &Waker, now: Instant) -> bool {
        self.carry_queued(link, waker, now) | self.resend(link)
    }

    fn carry_queued(&mut self, link: &mut Link, waker: &Waker, now: Instant) -> bool {
        /// For what others rely on to be answered.
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut moved = false;
        loop {
            if link.poll_queued(waker).is_ready() {
                let lines = link.take_queued().into_iter().flatten();
                for queued in lines {
                    self.taken.push(String::from_utf8(queued.line.to_vec()).expect("lines are UTF-8"));
                    let is_call = |queued: &Queued| matches!(queued.what, What::Call(_));
                    let before = self.later.iter().position(is_call).filter(|_| matches!(queued.what, What::First(_)));
                    self.later.insert(before.unwrap_or(self.later.len()), queued);
                }
            }
            if let Some((key, since)) = self.first {
                let late = now >= since + PATIENCE;
                if link.is_under_way(key) && !late && link.closed().is_none() {
                    return moved;
                }
                self.hasty |= late && link.is_under_way(key);
                self.first = None;
                moved = true;
            }
            if self.waiting.is_empty() {
                self.waiting.append(&mut self.later);
            }
            let Some(queued) = self.waiting.pop_front() else {
                link.settled();
                return moved;
            };
            moved = true;
            match queued.what {
                What::Call(key) if !link.is_wanted(key) => {}
                // What is still to be taken, as the link has it.
                What::Call(_) if self.later.iter().any(|queued| matches!(queued.what, What::First(_))) => self.later.push_back(queued),
                What::Call(key) => self.send(key, queued.line),
                What::First(key) => {
                    self.send_as(key, Attempts::first(key, self.revision.era(), queued.line.clone()), queued.line);
                    self.first = Some((key, now));
                }
                What::Cancel(key) if self.pipe => {
                    self.exchanges.remove(&key.id());
                    self.say(&queued.line);
                }
                What::Cancel(key) if self.has_session() => {
                    self.say(&queued.line);
                    if let Some(exchange) = self.exchanges.get_mut(&key.id()) {
                        exchange.haunts_until = Some(now + self.haunts);
                    }
                }
                What::Cancel(key) => self.drop_call(key, &queued.line),
                What::Answer(session) if session != self.session.number => {}
                What::Answer(_) | What::Word => self.say(&queued.line),
            }
        }
    }

    // --- from the server -------------------------------------------------------------------------

    /// What the server does with a request. What it does with one that nobody waits for is lost.
    pub(crate) fn handle(&mut self, link: &mut Link, number: u32, said: Said<'_>, now: Instant) {
        let Some(what) = self.under_way.get(&number).copied() else { return };
        if matches!(said, Said::Whole { .. } | Said::Breaks) {
            self.under_way.remove(&number);
        }
        match what {
            For::Call(key) if self.pipe => self.handle_accepted(link, key, said),
            For::Call(key) => self.handle_call(link, key, number, said, now),
            For::Word => {}
            For::Standalone => self.handle_standalone(link, said, now),
            For::Renewal => self.handle_renewal(link, said, now),
            For::Introduction => self.handle_introduced(link, said, now),
        }
    }

    /// Time passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let ids: Vec<u64> = self.exchanges.keys().copied().collect();
        for id in ids {
            self.handle_timeout_of(Key::of_id(id), now);
        }
        self.handle_timeout_of_standalone(now);
    }

    /// A stream's events, as lines on one line each, or `Err` with the two ends of one that is too long.
    fn events(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Result<Bytes, (Bytes, Bytes)>> {
        decoder.feed(&Bytes::copy_from_slice(bytes));
        let decoded = std::iter::from_fn(|| decoder.next_event());
        let lines = decoded.filter_map(|decoded| match decoded {
            Decoded::Event(event) if event.is_message() => Some(Ok(json::on_one_line(&event.data))),
            Decoded::Event(_) => None,
            Decoded::TooLong { head, tail } => Some(Err((head, tail))),
        });
        lines.collect()
    }

    // --- another session ---------------------------------------------------------------------------

    /// Opens another session, unless somebody does already.
    fn renew(&mut self) {
        if self.renewing.is_some() {
            return;
        }
        let mut approach = Approach::new(self.name, Protocol::Pinned(self.revision), Wire::Streamable, Some(&self.client));
        if let Some(Step::Post(line, _)) = approach.poll_step() {
            self.request(For::Renewal, Some(&line), Vec::new());
        }
        self.renewing = Some((approach, None));
    }

    fn handle_renewal(&mut self, link: &mut Link, said: Said<'_>, now: Instant) {
        let Said::Whole { status, session, body } = said else {
            return self.not_renewed(link, self.fault(FaultKind::Unreachable, "cannot be reached"), now);
        };
        let Some((mut approach, _)) = self.renewing.take() else { return };
        approach.handle_posted(Posted { status, answer: answer_in(&Bytes::copy_from_slice(body.as_bytes())) });
        match approach.poll_step() {
            Some(Step::Met(server)) if server.revision == self.revision => {
                let session = Session { id: session.map(str::to_owned), number: self.session.number + 1 };
                let headers = self.session_headers(&session);
                self.request(For::Introduction, Some(&Bytes::from_static(INITIALIZED)), headers);
                self.renewing = Some((approach, Some(session)));
            }
            Some(Step::Post(line, _)) => {
                self.request(For::Renewal, Some(&line), Vec::new());
                self.renewing = Some((approach, None));
            }
            Some(Step::Failed(fault)) => self.not_renewed(link, fault, now),
            _ => self.not_renewed(link, self.fault(FaultKind::Backend, "speaks another protocol version than before"), now),
        }
    }

    fn handle_introduced(&mut self, link: &mut Link, said: Said<'_>, now: Instant) {
        let session = self.renewing.take().and_then(|(_, session)| session);
        match (said, session) {
            (Said::Whole { status: 200..=299, .. }, Some(session)) => {
                self.session = session;
                link.handle_new_session(now);
                self.out.push_back(Out::Renewed);
                self.handle_renewed_standalone(now);
                self.renewed_calls();
            }
            _ => self.not_renewed(link, self.fault(FaultKind::Backend, "did not come up"), now),
        }
    }

    fn not_renewed(&mut self, link: &mut Link, fault: Fault, now: Instant) {
        self.renewing = None;
        if fault.kind == FaultKind::Unreachable {
            self.handle_not_renewed_standalone(now);
            return self.end_refused_calls(link, &fault);
        }
        let told = format!("the server `{}` has forgotten this session: {}", self.name, fault.told);
        let fault = Fault::backend(self.name, FaultKind::Backend).tell(told);
        self.end_refused_calls(link, &fault);
        link.handle_closed(fault);
    }
}

/// A message as an event, its lines as they are.
pub(crate) fn event(id: Option<&str>, retry: Option<&str>, name: Option<&str>, data: &str) -> String {
    let mut frame = String::new();
    for (field, value) in [("id", id), ("retry", retry), ("event", name)] {
        frame.extend(value.map(|value| format!("{field}: {value}\n")));
    }
    data.split(['\n', '\r']).for_each(|line| frame += &format!("data: {line}\n"));
    frame + "\n"
}
