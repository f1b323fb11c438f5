//! One client of the handshake era, between its exchanges.
//!
//! ```text
//!   append ──▶ ring of events ──cursor of a stream──▶ its reader (an open HTTP response)
//! ```
//!
//! The ring is queue and resumption log at once. A stream is a sequence of events with one place
//! in it, not a connection: its reader may go and another come back with `Last-Event-ID`
//! (2025-11-25). Stream 0 is the one that answers no request: the GET stream, or all there is
//! over HTTP+SSE. Every message goes on exactly one stream.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bridge;
pub use crate::call::Transport;
use crate::call::{Ask, Client, Level, Notice};
use crate::json;
use crate::message::Id;
use crate::methods::Method;
use crate::sse::{self, EventId};
use crate::subscribe::{MAX_URI_BYTES, MAX_URIS, wants_uri};
use crate::version::Revision;

/// What a session may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of events, waiting or kept for a client that comes back (one always fits).
    pub event_bytes: usize,
    /// How long events are kept for a client that comes back.
    pub keep: Duration,
    /// Streams with something left to read.
    pub streams: usize,
}

/// Questions to the client that may be open at once.
const MAX_ASKS: usize = 256;

/// A call or a question of a session, for whoever runs it: which link, and which of its calls
/// or tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Which link of the session (a server may be started again).
    pub link: u32,
    /// The call's number on it, or the ticket of the ask.
    pub number: u64,
}

/// What a client changes at a server of its own, which is asked and decides. It is remembered for the
/// next one, should this one die.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `logging/setLevel`
    Level(Level),
    /// `resources/subscribe`
    Subscribe(Arc<str>),
    /// `resources/unsubscribe`
    Unsubscribe(Arc<str>),
}

/// A reader of a stream. Another reader of the same stream ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    stream: u32,
    turn: u32,
}

impl Reader {
    /// The stream it reads.
    pub fn stream(self) -> u32 {
        self.stream
    }
}

/// The state of one client.
#[derive(Debug)]
pub struct Session {
    client: Arc<Client>,
    transport: Transport,
    frames: Frames,
    limits: Limits,
    ring: VecDeque<Event>,
    ring_bytes: usize,
    streams: Vec<Stream>,
    next_seq: u64,
    next_stream: u32,
    calls: Vec<UnderWay>,
    /// Calls that were let in and wait for their server.
    beginning: Vec<Beginning>,
    asks: Vec<(u64, Tag)>,
    next_ask: u64,
    level: Option<Level>,
    own_level: Option<Level>,
    subscriptions: BTreeSet<Arc<str>>,
    /// What calls under way change of these, should the server accept them.
    changes: Vec<(Tag, Change)>,
    last_used: Instant,
    /// Events that nobody will read, since it was last asked.
    n_lost: usize,
    closed: bool,
}

impl Transport {
    /// Whether all messages of a session go one way, so that nothing that was read is kept.
    pub fn is_one_stream(self) -> bool {
        self != Transport::Streamable
    }

    /// One message as it goes out.
    fn frame(self, frames: Frames, id: EventId, message: &[u8]) -> Bytes {
        match self {
            Transport::Sse => frames.frame(id.seq, message),
            Transport::Streamable => sse::event(Some(id), Some("message"), message),
            Transport::Stdio | Transport::Local => json::line(message),
        }
    }
}

/// How messages look on the one stream of HTTP+SSE. To a parser of events all of them are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frames {
    /// `event: message`, `data: …`
    #[default]
    Named,
    /// `data: …`: an event without a name is a message.
    Bare,
    /// `event: message`, `id: 7`, `data: …`
    Numbered,
}

impl Frames {
    fn frame(self, seq: u64, message: &[u8]) -> Bytes {
        match self {
            Frames::Named => sse::event(None, Some("message"), message),
            Frames::Bare => sse::event(None, None, message),
            Frames::Numbered => sse::numbered(seq, message),
        }
    }
}

/// A call that waits for its server.
#[derive(Debug)]
struct Beginning {
    id: Id,
    withdrawn: bool,
}

/// A call that its server is at.
#[derive(Debug)]
struct UnderWay {
    id: Id,
    tag: Tag,
    withdrawn: bool,
}

#[derive(Debug)]
struct Event {
    id: EventId,
    frame: Bytes,
    at: Instant,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    /// The first event not yet read.
    cursor: u64,
    /// Which reader it has; counts up.
    turn: u32,
    open: bool,
    /// Its newest event so far.
    newest: u64,
    /// The newest of its events that is not kept any more.
    forgotten: u64,
    /// Calls whose answers are still to come on it.
    riding: usize,
    /// The last of them was answered.
    complete: bool,
    waker: Option<Waker>,
}

impl Stream {
    /// A stream whose next event is `cursor` or later, with so many answers to come.
    fn new(id: u32, cursor: u64, riding: usize) -> Stream {
        Stream { id, cursor, turn: 0, open: false, newest: 0, forgotten: 0, riding, complete: false, waker: None }
    }
}

impl Session {
    /// A client that has just been answered.
    pub fn new(client: Arc<Client>, transport: Transport, limits: Limits, now: Instant) -> Session {
        Session {
            client,
            transport,
            frames: Frames::default(),
            limits,
            ring: VecDeque::new(),
            ring_bytes: 0,
            streams: Vec::new(),
            next_seq: 1,
            next_stream: 1,
            calls: Vec::new(),
            beginning: Vec::new(),
            asks: Vec::new(),
            next_ask: 1,
            level: None,
            own_level: None,
            subscriptions: BTreeSet::new(),
            changes: Vec::new(),
            last_used: now,
            n_lost: 0,
            closed: false,
        }
    }

    /// Who it is.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// The client has said who it is (over HTTP+SSE that comes after the stream).
    pub fn set_client(&mut self, client: Arc<Client>) {
        self.client = client;
    }

    /// How messages look to a client of HTTP+SSE.
    pub fn set_frames(&mut self, frames: Frames) {
        self.frames = frames;
    }

    /// How it is connected.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Since when nothing has happened; `None` while a call runs or a stream is read.
    pub fn idle_since(&self) -> Option<Instant> {
        let busy = !self.calls.is_empty() || !self.beginning.is_empty() || self.streams.iter().any(|s| s.open);
        (!busy).then_some(self.last_used)
    }

    /// When the client last did something.
    pub fn last_used(&self) -> Instant {
        self.last_used
    }

    /// How many calls run or wait for their server, and how many events are kept for readers.
    pub fn queued(&self) -> (usize, usize) {
        (self.calls.len() + self.beginning.len(), self.ring.len())
    }

    /// Whether no call runs and nobody has anything left to read.
    pub fn is_settled(&self) -> bool {
        self.calls.is_empty() && self.beginning.is_empty() && !self.streams.iter().any(|s| s.open && s.newest >= s.cursor && s.newest > 0)
    }

    /// The client did something.
    pub fn touch(&mut self, now: Instant) {
        self.last_used = now;
    }

    // --- streams -------------------------------------------------------------------------

    /// A reader for what answers no request. A client that lost its stream may open the next
    /// before we noticed; the newest reader is the one that is there.
    pub fn open_standalone(&mut self) -> Reader {
        let at = match self.streams.iter().position(|s| s.id == 0) {
            Some(at) => at,
            None => {
                self.streams.reserve_exact(1);
                self.streams.push(Stream::new(0, 0, 0));
                self.streams.len() - 1
            }
        };
        self.take_over(at)
    }

    /// A stream of its own for the answers to one POST, which holds so many calls; `None`: there
    /// are too many streams.
    pub fn open_stream(&mut self, calls: usize, now: Instant) -> Option<Reader> {
        self.trim(now);
        if self.streams.len() >= self.limits.streams {
            // What was read to its end gives way first: it is only kept in case it was missed.
            let over = self.streams.iter().position(|s| s.id != 0 && s.complete && !s.open)?;
            self.streams.remove(over);
        }
        let id = self.next_stream;
        self.next_stream = self.next_stream.wrapping_add(1).max(1);
        self.streams.push(Stream::new(id, self.next_seq, calls));
        let at = self.streams.len() - 1;
        Some(self.take_over(at))
    }

    /// A reader that goes on behind the event `last`; `None`: that stream, or what came next on it,
    /// is not kept any more.
    pub fn resume(&mut self, last: EventId) -> Option<Reader> {
        let at = self.streams.iter().position(|s| s.id == last.stream)?;
        if last.seq >= self.next_seq || self.streams[at].forgotten > last.seq {
            return None; // an id of the future, or one behind which something is missing
        }
        self.streams[at].cursor = last.seq + 1;
        Some(self.take_over(at))
    }

    /// The event that lets a client of 2025-11-25 come back before anything was said on the
    /// stream; earlier revisions would take it for a message.
    pub fn priming(&mut self, reader: Reader, retry_ms: u64) -> Option<Bytes> {
        let waiting = self.reading(reader).is_none_or(|s| s.newest > 0 && s.newest >= s.cursor);
        // What waits has an id of its own.
        if self.client.revision < Revision::V2025_11_25 || waiting {
            return None;
        }
        let id = EventId { stream: reader.stream, seq: self.take_seq() };
        if let Some(stream) = self.reading(reader) {
            stream.cursor = stream.cursor.max(id.seq);
        }
        Some(sse::priming(id, retry_ms))
    }

    /// The reader is gone. A stream that cannot be resumed goes with it.
    pub fn close_reader(&mut self, reader: Reader, now: Instant) {
        if let Some(stream) = self.reading(reader) {
            stream.open = false;
            stream.waker = None;
        }
        self.last_used = now;
        self.trim(now);
    }

    /// One message on a stream; `answers` if it is the last word of a call that rides on it.
    pub fn append(&mut self, stream: u32, message: &[u8], answers: bool, now: Instant) {
        let id = EventId { stream, seq: self.take_seq() };
        let Some(to) = self.streams.iter_mut().find(|s| s.id == stream) else {
            if stream != 0 {
                return;
            }
            // Nobody opened the standalone stream yet; what it would carry waits, within limits.
            self.streams.push(Stream::new(0, id.seq, 0));
            return self.push_event(id, message, now);
        };
        if answers && to.riding > 0 {
            to.riding -= 1;
            to.complete = to.riding == 0;
        }
        to.newest = id.seq;
        if let Some(waker) = to.waker.take() {
            waker.wake();
        }
        self.push_event(id, message, now);
    }

    /// A message straight to the reader: over HTTP+SSE nothing is kept, so where nothing waits
    /// there is no need of the ring. `None`: it must be appended.
    pub fn pass(&mut self, reader: Reader, message: &[u8]) -> Option<Bytes> {
        let direct = self.transport == Transport::Sse && self.ring.is_empty() && !self.closed;
        (direct && self.reading(reader)?.open).then(|| self.frames.frame(self.take_seq(), message))
    }

    /// The next event for a reader; `None`: its stream is over, for it.
    pub fn poll_event(&mut self, reader: Reader, waker: &Waker) -> Poll<Option<Bytes>> {
        if self.closed {
            return Poll::Ready(None);
        }
        let first = self.ring.front().map(|e| e.id.seq);
        let ring = &self.ring;
        let Some(stream) = self.streams.iter_mut().find(|s| s.id == reader.stream && s.turn == reader.turn && s.open) else {
            return Poll::Ready(None);
        };
        let from = ring.partition_point(|e| e.id.seq < stream.cursor);
        let next = ring.range(from..).find(|e| e.id.stream == reader.stream);
        match next {
            Some(event) => {
                stream.cursor = event.id.seq + 1;
                let frame = event.frame.clone();
                if self.transport.is_one_stream() {
                    self.drop_read(first);
                }
                Poll::Ready(Some(frame))
            }
            None if stream.complete => {
                // Kept until it ages: the client may have missed the end.
                stream.open = false;
                Poll::Ready(None)
            }
            None => {
                match &mut stream.waker {
                    Some(old) if old.will_wake(waker) => {}
                    slot => *slot = Some(waker.clone()),
                }
                Poll::Pending
            }
        }
    }

    /// How many events were lost to a pipe's reader, who was too slow for them, since this was last asked.
    pub fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.n_lost)
    }

    /// Time passed: what is too old is forgotten.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.trim(now);
    }

    /// Ends every stream; nothing can be read or appended any more.
    pub fn close(&mut self) {
        self.closed = true;
        self.ring = VecDeque::new();
        self.ring_bytes = 0;
        for stream in &mut self.streams {
            if let Some(waker) = stream.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether [`Session::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    // --- calls and questions ---------------------------------------------------------------

    /// Lets a call in that may have to wait for its server: it counts until [`Session::admitted`].
    /// False: `limit` calls are under way or waiting.
    pub fn admit(&mut self, id: &Id, limit: usize) -> bool {
        let room = self.n_calls() < limit;
        if room {
            self.beginning.push(Beginning { id: id.clone(), withdrawn: false });
        }
        room
    }

    /// How many calls are under way or waiting.
    pub fn n_calls(&self) -> usize {
        self.calls.len() + self.beginning.len()
    }

    /// A call that was let in begins now, or will not; whether its client withdrew it meanwhile.
    pub fn admitted(&mut self, id: &Id) -> bool {
        let at = self.beginning.iter().position(|b| b.id == *id);
        at.is_some_and(|at| self.beginning.swap_remove(at).withdrawn)
    }

    /// The client withdraws a call that waits for its server.
    pub fn withdraw_beginning(&mut self, id: &[u8]) {
        for call in self.beginning.iter_mut().filter(|b| b.id.as_bytes() == id) {
            call.withdrawn = true;
        }
    }

    /// A call of the client is under way.
    pub fn begin_call(&mut self, id: Id, tag: Tag) {
        self.calls.push(UnderWay { id, tag, withdrawn: false });
    }

    /// It has ended.
    pub fn end_call(&mut self, tag: Tag, now: Instant) {
        self.calls.retain(|call| call.tag != tag);
        self.changes.retain(|(t, _)| *t != tag);
        self.last_used = now;
    }

    /// A call goes on as another one of its server's, or as questions to its client, or as a task. Whether nobody
    /// wants it any more: whoever withdrew it could only withdraw what it was before.
    #[must_use]
    pub fn retag(&mut self, old: Tag, new: Tag) -> bool {
        if let Some((tag, _)) = self.changes.iter_mut().find(|(tag, _)| *tag == old) {
            *tag = new;
        }
        let call = self.calls.iter_mut().find(|call| call.tag == old);
        let withdrawn = call.is_some_and(|call| {
            call.tag = new;
            call.withdrawn
        });
        withdrawn || self.closed
    }

    /// The call of that id, if it is under way: the newest, should a client use one id twice.
    pub fn call(&self, id: &[u8]) -> Option<Tag> {
        self.calls.iter().rev().find(|call| call.id.as_bytes() == id).map(|call| call.tag)
    }

    /// The client withdraws that call: what is to be ended.
    pub fn withdraw_call(&mut self, id: &[u8]) -> Option<Tag> {
        let call = self.calls.iter_mut().rev().find(|call| call.id.as_bytes() == id)?;
        call.withdrawn = true;
        Some(call.tag)
    }

    /// Calls under way.
    pub fn calls(&self) -> impl Iterator<Item = Tag> + '_ {
        self.calls.iter().map(|call| call.tag)
    }

    /// A question to the client, under an id of this session's. `None`: it did not declare that it
    /// can answer, or too many are open.
    pub fn ask(&mut self, ask: &Ask, tag: Tag) -> Option<Bytes> {
        if self.asks.len() >= MAX_ASKS || self.client.lacks(ask).is_some() {
            return None;
        }
        let older = bridge::ask::for_revision(ask, self.client.revision).ok()?;
        let message = older.as_ref().unwrap_or(&ask.message);
        let id = self.next_ask;
        self.next_ask += 1;
        self.asks.push((id, tag));
        let at = message.id?;
        Some(json::splice(&message.bytes, &[(at, id.to_string().as_bytes())]).into())
    }

    /// The question the client answers with the id `id`.
    pub fn answered(&mut self, id: &Id) -> Option<Tag> {
        let number = id.as_number()?;
        let at = self.asks.iter().position(|(n, _)| *n == number)?;
        Some(self.asks.swap_remove(at).1)
    }

    /// A question is withdrawn: the cancellation for the client, if it was asked.
    pub fn withdraw(&mut self, tag: Tag) -> Option<String> {
        let at = self.asks.iter().position(|(_, t)| *t == tag)?;
        let (id, _) = self.asks.swap_remove(at);
        Some(format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{id}}}}}"))
    }

    // --- what it wants to hear of -----------------------------------------------------------

    /// The level it set, where it is us who filter.
    pub fn level(&self) -> Option<Level> {
        self.level
    }

    /// It set its level.
    pub fn set_level(&mut self, level: Level) {
        self.level = Some(level);
    }

    /// The level it set at a server of its own, where that filters.
    pub fn own_level(&self) -> Option<Level> {
        self.own_level
    }

    /// The call changes something, should the server accept it.
    pub fn expect(&mut self, tag: Tag, change: Change) {
        self.changes.push((tag, change));
    }

    /// The server did.
    pub fn accepted(&mut self, tag: Tag) {
        let Some(at) = self.changes.iter().position(|(t, _)| *t == tag) else { return };
        match self.changes.swap_remove(at).1 {
            Change::Level(level) => self.own_level = Some(level),
            // Beyond what may be kept there is nothing to do: the server has accepted it.
            Change::Subscribe(uri) => drop(self.subscribe(&uri)),
            Change::Unsubscribe(uri) => drop(self.unsubscribe(&uri)),
        }
    }

    /// Wants updates of a resource; whether it did not before. `None`: it has too many, or the
    /// name is too long to be kept.
    pub fn subscribe(&mut self, uri: &str) -> Option<bool> {
        if self.subscriptions.contains(uri) {
            return Some(false);
        }
        (self.subscriptions.len() < MAX_URIS && uri.len() <= MAX_URI_BYTES).then(|| self.subscriptions.insert(uri.into()))
    }

    /// Wants them no more; whether it did before.
    pub fn unsubscribe(&mut self, uri: &str) -> bool {
        self.subscriptions.remove(uri)
    }

    /// The resources it wants updates of.
    pub fn subscriptions(&self) -> &BTreeSet<Arc<str>> {
        &self.subscriptions
    }

    /// Something changed at a server that others use too: only what this client asked for.
    pub fn handle_shared_notice(&mut self, notice: &Notice, now: Instant) {
        let wanted = match notice.method {
            Method::ResourceUpdated => notice.uri.as_ref().is_some_and(|u| wants_uri(&self.subscriptions, u)),
            Method::ToolsChanged | Method::PromptsChanged | Method::ResourcesChanged => true,
            // Whose log it is cannot be told, nor whom something nobody knows is for.
            _ => false,
        };
        if wanted {
            self.append(0, &notice.message, false, now);
        }
    }

    /// Something happened at this client's own server.
    pub fn handle_own_notice(&mut self, notice: &Notice, now: Instant) {
        self.append(0, &notice.message, false, now);
    }

    // --- the ring ----------------------------------------------------------------------------

    fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    fn take_over(&mut self, at: usize) -> Reader {
        let stream = &mut self.streams[at];
        stream.turn += 1;
        stream.open = true;
        if let Some(waker) = stream.waker.take() {
            waker.wake(); // the reader before finds that its turn is over
        }
        Reader { stream: stream.id, turn: stream.turn }
    }

    fn reading(&mut self, reader: Reader) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|s| s.id == reader.stream && s.turn == reader.turn)
    }

    fn push_event(&mut self, id: EventId, message: &[u8], now: Instant) {
        if self.closed {
            return;
        }
        let frame = self.transport.frame(self.frames, id, message);
        self.ring_bytes += frame.len();
        self.ring.push_back(Event { id, frame, at: now });
        self.trim(now);
    }

    /// Forgets what is too old or too much, and ends the streams whose readers were too slow
    /// for it: they lose their stream and nothing else.
    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.ring.front() {
            // What waits in a pipe was never read, however old it is.
            let pipe = matches!(self.transport, Transport::Stdio | Transport::Local);
            let aged = !pipe && now.saturating_duration_since(oldest.at) > self.limits.keep;
            let over = self.ring_bytes > self.limits.event_bytes && self.ring.len() > 1;
            if !aged && !over {
                break;
            }
            let id = oldest.id;
            self.ring_bytes -= oldest.frame.len();
            self.ring.pop_front();
            if pipe {
                self.n_lost += 1;
                continue;
            }
            let Some(stream) = self.streams.iter_mut().find(|s| s.id == id.stream) else { continue };
            stream.forgotten = id.seq;
            if stream.open && stream.cursor <= id.seq {
                stream.open = false;
                if let Some(waker) = stream.waker.take() {
                    waker.wake();
                }
            }
        }
        // A stream is remembered while it is read, while it may still get events, or while it
        // has some left.
        let oldest = self.ring.front().map_or(u64::MAX, |e| e.id.seq);
        self.streams.retain(|s| s.id == 0 || s.open || s.riding > 0 || s.newest >= oldest);
    }

    fn drop_read(&mut self, first: Option<u64>) {
        let Some(cursor) = self.streams.first().map(|s| s.cursor) else { return };
        if first.is_some_and(|f| f < cursor) {
            while self.ring.front().is_some_and(|e| e.id.seq < cursor) {
                if let Some(event) = self.ring.pop_front() {
                    self.ring_bytes -= event.frame.len();
                }
            }
        }
        // Sessions are many and mostly idle: an empty ring keeps no memory.
        if self.ring.is_empty() {
            self.ring = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Principal;

    const LIMITS: Limits = Limits { event_bytes: 1_000, keep: Duration::from_secs(60), streams: 4 };

    #[allow(clippy::disallowed_methods)] // An origin for virtual time; nothing waits.
    fn session(revision: Revision, transport: Transport) -> (Session, Instant) {
        let client =
            Arc::new(Client { revision, principal: Principal::default(), transport, info: None, capabilities: Bytes::from_static(b"{}") });
        let now = Instant::now();
        (Session::new(client, transport, LIMITS, now), now)
    }

    fn read(s: &mut Session, r: Reader) -> String {
        match s.poll_event(r, Waker::noop()) {
            Poll::Ready(Some(e)) => String::from_utf8(e.to_vec()).unwrap(),
            Poll::Ready(None) => "end".into(),
            Poll::Pending => "wait".into(),
        }
    }

    #[test]
    fn each_stream_has_its_own_events_and_place() {
        let (mut s, now) = session(Revision::V2025_11_25, Transport::Streamable);
        let get = s.open_standalone();
        let post = s.open_stream(1, now).unwrap();
        assert_eq!(s.priming(post, 500).unwrap(), "id: 1-1\nretry: 500\ndata: \n\n");
        s.append(1, b"a", false, now);
        s.append(0, b"n", false, now);
        s.append(1, b"b", true, now);
        assert_eq!(read(&mut s, get), "id: 0-3\nevent: message\ndata: n\n\n");
        assert_eq!(read(&mut s, get), "wait");
        assert_eq!(read(&mut s, post), "id: 1-2\nevent: message\ndata: a\n\n");
        assert_eq!(read(&mut s, post), "id: 1-4\nevent: message\ndata: b\n\n");
        assert_eq!(read(&mut s, post), "end");
    }

    #[test]
    fn a_client_that_comes_back_gets_what_it_missed_of_that_stream_only() {
        let (mut s, now) = session(Revision::V2025_11_25, Transport::Streamable);
        let post = s.open_stream(1, now).unwrap();
        s.begin_call(Id::number(1), Tag { link: 0, number: 1 });
        s.append(1, b"a", false, now);
        read(&mut s, post);
        s.close_reader(post, now);
        s.append(1, b"b", false, now);
        s.append(0, b"n", false, now);
        s.append(1, b"c", true, now);
        let again = s.resume(EventId { stream: 1, seq: 1 }).unwrap();
        assert!(read(&mut s, again).contains("data: b"));
        assert!(read(&mut s, again).contains("data: c"));
        assert_eq!(read(&mut s, again), "end");
        // Nothing was left out: the same once more.
        let again = s.resume(EventId { stream: 1, seq: 2 }).unwrap();
        assert!(read(&mut s, again).contains("data: c"));
        assert_eq!(s.resume(EventId { stream: 9, seq: 1 }), None);
        assert_eq!(s.resume(EventId { stream: 1, seq: 99 }), None);
    }

    #[test]
    fn the_newest_reader_wins() {
        let (mut s, now) = session(Revision::V2025_06_18, Transport::Streamable);
        s.append(0, b"early", false, now);
        let old = s.open_standalone();
        let new = s.open_standalone();
        assert_eq!(read(&mut s, old), "end");
        s.close_reader(old, now);
        assert!(read(&mut s, new).contains("early"));
        assert_eq!(read(&mut s, new), "wait");
    }

    #[test]
    fn a_slow_reader_loses_its_stream_and_nothing_else() {
        let (mut s, now) = session(Revision::V2025_06_18, Transport::Streamable);
        let get = s.open_standalone();
        let post = s.open_stream(1, now).unwrap();
        for _ in 0..40 {
            s.append(0, &[b'x'; 60], false, now);
        }
        assert_eq!(read(&mut s, get), "end");
        assert!(s.ring_bytes <= LIMITS.event_bytes);
        s.append(1, b"still here", true, now);
        assert!(read(&mut s, post).contains("still here"));
        let again = s.open_standalone();
        assert!(read(&mut s, again).contains("xxx"), "what is left is not lost");
    }

    #[test]
    fn one_message_always_fits_and_old_ones_age() {
        let (mut s, now) = session(Revision::V2025_06_18, Transport::Streamable);
        let get = s.open_standalone();
        s.append(0, &[b'x'; 5_000], false, now);
        assert!(read(&mut s, get).len() > 5_000);
        s.append(0, b"y", false, now);
        let later = now + LIMITS.keep * 2;
        s.append(0, b"z", false, later);
        assert_eq!(s.ring.len(), 1);
    }

    #[test]
    fn over_sse_nothing_read_is_kept() {
        let (mut s, now) = session(Revision::V2024_11_05, Transport::Sse);
        let r = s.open_standalone();
        s.append(0, b"a", false, now);
        s.append(0, b"b", false, now);
        assert_eq!(read(&mut s, r), "event: message\ndata: a\n\n");
        assert_eq!(s.ring.len(), 1);
        assert_eq!(read(&mut s, r), "event: message\ndata: b\n\n");
        assert_eq!((s.ring.len(), s.ring_bytes), (0, 0));
        s.close();
        assert_eq!(read(&mut s, r), "end");
    }

    #[test]
    fn over_a_pipe_messages_are_lines_and_the_oldest_are_lost() {
        let (mut s, now) = session(Revision::V2025_11_25, Transport::Stdio);
        let r = s.open_standalone();
        s.append(0, b"{\n\"a\":1}", false, now);
        assert_eq!(read(&mut s, r), "{ \"a\":1}\n");
        assert_eq!((read(&mut s, r), s.ring.len(), s.take_lost()), ("wait".into(), 0, 0));
        for i in 0..40 {
            s.append(0, format!("{i:059}").as_bytes(), false, now);
        }
        s.handle_timeout(now + LIMITS.keep * 2);
        assert_eq!((s.ring.len(), s.ring_bytes <= LIMITS.event_bytes), (16, true));
        assert_eq!(read(&mut s, r), format!("{:059}\n", 24));
        assert_eq!((s.take_lost(), s.take_lost(), s.idle_since()), (24, 0, None));
    }

    #[test]
    fn streams_are_bounded_and_forgotten() {
        let (mut s, now) = session(Revision::V2025_06_18, Transport::Streamable);
        let open: Vec<Reader> = (0..4).map(|_| s.open_stream(0, now).unwrap()).collect();
        assert_eq!(s.open_stream(0, now), None);
        for r in open {
            s.close_reader(r, now);
        }
        assert!(s.streams.is_empty());
        assert!(s.open_stream(0, now).is_some());
    }

    #[test]
    fn a_busy_client_is_not_refused_for_what_it_has_read() {
        let (mut s, now) = session(Revision::V2025_06_18, Transport::Streamable);
        for _ in 0..100 {
            let r = s.open_stream(1, now).unwrap();
            s.append(r.stream(), b"x", true, now);
            read(&mut s, r);
            assert_eq!(read(&mut s, r), "end");
            s.close_reader(r, now);
        }
        assert!(s.streams.len() <= LIMITS.streams);
        s.handle_timeout(now + LIMITS.keep * 2);
        assert!(s.streams.is_empty() && s.ring.is_empty());
    }

    #[test]
    fn what_a_server_accepted_is_remembered_for_the_next_one() {
        let (mut s, now) = session(Revision::V2025_06_18, Transport::Streamable);
        let tag = |number| Tag { link: 1, number };
        let changes =
            [Change::Subscribe("a".into()), Change::Subscribe("b".into()), Change::Level(Level::Error), Change::Unsubscribe("a".into())];
        for (number, change) in (0..).zip(changes) {
            s.begin_call(Id::number(number), tag(number));
            s.expect(tag(number), change);
        }
        s.accepted(tag(0));
        s.end_call(tag(0), now);
        s.end_call(tag(1), now); // refused
        s.accepted(tag(1));
        s.accepted(tag(2));
        assert_eq!((s.subscriptions().len(), s.own_level(), s.level()), (1, Some(Level::Error), None));
        s.accepted(tag(3));
        assert!(s.subscriptions().is_empty());
    }

    #[test]
    fn a_call_that_goes_on_as_another_is_withdrawn_as_that_too() {
        let (mut s, _) = session(Revision::V2025_06_18, Transport::Streamable);
        let tag = |number| Tag { link: 1, number };
        s.begin_call(Id::number(1), tag(1));
        s.begin_call(Id::number(1), tag(2));
        assert!(!s.retag(tag(1), tag(3)) && !s.retag(tag(2), tag(4)) && !s.retag(tag(9), tag(10)));
        assert_eq!((s.withdraw_call(b"1"), s.withdraw_call(b"2")), (Some(tag(4)), None));
        assert_eq!((s.retag(tag(3), tag(5)), s.retag(tag(4), tag(6))), (false, true));
        assert_eq!(s.call(b"1"), Some(tag(6)));
        s.close();
        assert!(s.retag(tag(5), tag(7)), "with the session all its calls are");
    }

    #[test]
    fn idleness_knows_calls_and_readers() {
        let (mut s, now) = session(Revision::V2025_06_18, Transport::Streamable);
        assert_eq!(s.idle_since(), Some(now));
        let tag = Tag { link: 0, number: 5 };
        s.begin_call(Id::number(1), tag);
        assert_eq!(s.idle_since(), None);
        assert_eq!(s.call(b"1"), Some(tag));
        let later = now + Duration::from_secs(5);
        s.end_call(tag, later);
        assert_eq!(s.idle_since(), Some(later));
        let r = s.open_standalone();
        assert_eq!(s.idle_since(), None);
        s.close_reader(r, later);
        assert_eq!(s.idle_since(), Some(later));
    }
}
