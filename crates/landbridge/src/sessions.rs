//! The live sessions of handshake clients: who they are, and which server each has.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use landbridge_proto::call::{Ask, Client, Principal};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::{Limits, Session, Tag, Transport};
use landbridge_proto::message::{Id, Kind as MessageKind, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::{Filter, Wish};

use crate::audit::Opened;
use crate::backend::pool::Chair;
use crate::backend::replies::{ASKING, Asking};
use crate::backend::{Backend, Listener, Member, Peer, lock};
use crate::body::{Beat, SessionCall};
use crate::rates::Held;
use crate::system::random;

/// A session's name: a random UUID (RFC 9562 §5.4), which are 122 random bits. On the wire they are 32 hexadecimal
/// digits, with or without dashes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u128);

impl SessionId {
    fn random() -> Result<SessionId, Fault> {
        let bits = random().map_err(|e| Fault::gateway(Kind::Backend).tell("no randomness for a session id").because(e))?;
        Ok(SessionId::of(u128::from_le_bytes(bits)))
    }

    /// A UUID of version 4 out of random bits.
    fn of(bits: u128) -> SessionId {
        SessionId(bits & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62)
    }

    /// As UUIDs are written.
    pub fn dashed(self) -> String {
        let hex = self.to_string();
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// Reads an id of ours; anything else names no session.
    pub fn parse(text: &str) -> Option<SessionId> {
        if !matches!(text.len(), 32 | 36) {
            return None;
        }
        let mut id = 0;
        for (at, byte) in text.bytes().enumerate() {
            let is_dash = text.len() == 36 && matches!(at, 8 | 13 | 18 | 23);
            let digit = match byte {
                b'-' if is_dash => continue,
                b'0'..=b'9' if !is_dash => byte - b'0',
                b'a'..=b'f' if !is_dash => byte - b'a' + 10,
                _ => return None,
            };
            id = id << 4 | u128::from(digit);
        }
        Some(SessionId(id))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Enough of an id to follow a session through the log, and too little to take it over.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}…", (self.0 >> 96) as u32)
    }
}

/// One live session.
#[derive(Debug)]
pub struct Live {
    /// Its name.
    pub id: SessionId,
    /// Which server it is for.
    pub backend: Arc<Backend>,
    /// Whose it is. To anybody else it does not exist.
    pub who: Principal,
    /// The path where its stream was opened, where tokens are for paths (HTTP+SSE).
    pub opened_at: OnceLock<String>,
    /// When it began.
    pub since: Instant,
    /// What its owner may do, when it began; `None`: everything.
    scopes: OnceLock<Option<Vec<String>>>,
    /// What is between its exchanges. Held for moments, never across an await.
    pub state: Mutex<Session>,
    /// Calls that its one stream is to pull (HTTP+SSE).
    inbox: Mutex<Inbox>,
    /// That one stream.
    stream: OnceLock<Weak<Beat>>,
    seat: Mutex<Option<Seat>>,
    /// Calls that ask the client on behalf of a stateless server.
    asking: Mutex<Vec<Weak<Asking>>>,
    /// Held while its server is started again: one start for all its calls.
    seating: tokio::sync::Mutex<()>,
    /// What ends with it: its place among its principal's, and what is told of it.
    company: Mutex<(Option<Held>, Option<Opened>)>,
}

/// Where a POST of HTTP+SSE leaves its call for the stream that answers it.
#[derive(Debug, Default)]
struct Inbox {
    calls: Vec<SessionCall>,
    reader: Option<Waker>,
}

/// A session's place at a server.
#[derive(Debug)]
struct Seat {
    peer: Peer,
    /// Its place among those who hear of changes there.
    member: Member,
    _chair: Option<Chair>,
}

impl Live {
    /// The server, started (again) if need be.
    pub async fn peer(self: &Arc<Self>) -> Result<Peer, Fault> {
        match self.seated() {
            Some(peer) => Ok(peer),
            // Boxed, so that calls of a session that has one do not carry the start of a server.
            None => Box::pin(self.take_seat()).await,
        }
    }

    async fn take_seat(self: &Arc<Self>) -> Result<Peer, Fault> {
        let _seating = self.seating.lock().await;
        if let Some(peer) = self.seated() {
            return Ok(peer);
        }
        let client = {
            let state = lock(&self.state);
            if state.is_closed() {
                return Err(dead());
            }
            state.client().clone()
        };
        let peer = self.backend.seat(&client).await?;
        let old = lock(&self.seat).take();
        // A hub of instances that clients share outlives them: whoever has a place there keeps it.
        let (member, moved) = match old {
            Some(Seat { member, .. }) if Arc::ptr_eq(member.hub(), peer.hub()) => (member, false),
            old => (peer.hub().join(Listener::Session(Arc::downgrade(self)), Wish::default()), old.is_some()),
        };
        *lock(&self.seat) = Some(Seat { peer: peer.clone(), member, _chair: peer.sit() });
        self.wish();
        if let Peer::Instance(instance) = &peer {
            instance.joined();
        }
        if moved {
            self.settle_in(&peer);
        }
        if lock(&self.state).is_closed() {
            self.leave(); // it ended while its server came up
            return Err(dead());
        }
        Ok(peer)
    }

    /// What this client wants of its server has changed, or the server has. One that others use too is
    /// told of the difference; its own hears it from the client itself.
    pub fn wish(&self) {
        let seat = lock(&self.seat);
        let Some(seat) = seat.as_ref().filter(|seat| seat.peer.is_shared()) else { return };
        let (uris, level) = {
            let state = lock(&self.state);
            (state.subscriptions().clone(), state.level())
        };
        seat.member.change(|_, wish| *wish = Wish { filter: Filter { uris, ..Filter::every_list() }, level });
    }

    /// It had another server before: what it said there is said again, and what changed in between it
    /// cannot know.
    pub fn settle_in(&self, peer: &Peer) {
        let (uris, level) = {
            let state = lock(&self.state);
            (state.subscriptions().clone(), state.level().or(state.own_level()))
        };
        if let Peer::Instance(instance) = peer
            && !instance.is_shared()
        {
            instance.say_again(level, &uris);
        }
        self.may_have_missed(peer);
    }

    /// For a while nobody heard what its server tells.
    pub fn may_have_missed(&self, peer: &Peer) {
        let uris = lock(&self.state).subscriptions().clone();
        let may_have_changed = Filter { uris, ..Filter::every_list() }.honoured_by(peer.server().can);
        let (mut state, now) = (lock(&self.state), Instant::now());
        for notice in may_have_changed.notices() {
            state.handle_own_notice(&notice, now);
        }
    }

    /// The server, if it is there.
    pub fn seated(&self) -> Option<Peer> {
        lock(&self.seat).as_ref().map(|s| s.peer.clone()).filter(Peer::is_alive)
    }

    /// Waits until the server is gone, if it is the session's own; one that clients share is brought back
    /// for all of them.
    pub async fn deserted(&self) {
        match self.seated() {
            Some(peer) if peer.is_shared() => std::future::pending().await,
            Some(peer) => peer.gone().await,
            None => {}
        }
    }

    /// The running server that `tag` belongs to: the session's own, or one it shares.
    fn peer_of(&self, tag: Tag) -> Option<Peer> {
        let seated = self.seated().filter(|p| p.ordinal() == tag.link);
        seated.or_else(|| self.backend.peer(tag.link))
    }

    /// Its owner has these rights.
    pub fn may(&self, scopes: Option<Vec<String>>) {
        let _ = self.scopes.set(scopes);
    }

    /// What its owner may do; `None`: everything.
    pub fn scopes(&self) -> Option<&[String]> {
        self.scopes.get()?.as_deref()
    }

    /// What ends with it.
    pub fn keep(&self, held: Option<Held>, opened: Option<Opened>) {
        if held.is_some() || opened.is_some() {
            *lock(&self.company) = (held, opened);
        }
    }

    /// Its client withdrew a call; whether it was still under way.
    pub fn abort(&self, tag: Tag) -> bool {
        if tag.link == ASKING {
            let asking = self.find_asking(|asking| asking.number() == tag.number);
            return asking.inspect(|asking| asking.abort()).is_some();
        }
        self.peer_of(tag).inspect(|peer| peer.abort(tag.number)).is_some()
    }

    /// A call of the session asks its client.
    pub fn is_asked_by(&self, asking: &Arc<Asking>) {
        let mut all = lock(&self.asking);
        all.retain(|a| a.strong_count() > 0 && !Weak::ptr_eq(a, &Arc::downgrade(asking)));
        all.push(Arc::downgrade(asking));
    }

    fn find_asking(&self, is_it: impl Fn(&Asking) -> bool) -> Option<Arc<Asking>> {
        lock(&self.asking).iter().filter_map(Weak::upgrade).find(|asking| is_it(asking))
    }

    /// It is this stream (HTTP+SSE).
    pub fn is_read_by(&self, stream: &Arc<Beat>) {
        let _ = self.stream.set(Arc::downgrade(stream));
    }

    /// The one stream of HTTP+SSE, if it is open.
    pub fn stream(&self) -> Option<Arc<Beat>> {
        self.stream.get()?.upgrade()
    }

    /// Leaves a call to the session's stream. The stream is not woken for that: the call itself
    /// will wake it when there is something to read.
    pub fn hand_over(&self, mut call: SessionCall) {
        {
            let mut inbox = lock(&self.inbox);
            if let Some(reader) = &inbox.reader {
                match call.poll_message(&mut Context::from_waker(reader)) {
                    Poll::Pending => {}
                    Poll::Ready(None) => return,
                    Poll::Ready(Some((message, last))) => {
                        if !message.is_empty() {
                            lock(&self.state).append(0, &message, false, Instant::now());
                        }
                        if last {
                            return;
                        }
                    }
                }
            }
            inbox.calls.push(call);
        }
        // The session may have ended meanwhile; nobody would take the call then.
        if lock(&self.state).is_closed() {
            let left = std::mem::take(&mut lock(&self.inbox).calls);
            drop(left);
        }
    }

    /// Takes the calls that were left; the waker is for the next.
    pub fn take_over(&self, calls: &mut Vec<SessionCall>, waker: &Waker) {
        let mut inbox = lock(&self.inbox);
        calls.append(&mut inbox.calls);
        match &inbox.reader {
            Some(reader) if reader.will_wake(waker) => {}
            _ => inbox.reader = Some(waker.clone()),
        }
    }

    /// Whether it would be missed: a call runs, its server is being started, or there is something left
    /// to read.
    pub fn is_busy(&self) -> bool {
        !lock(&self.state).is_settled() || self.seating.try_lock().is_err()
    }

    fn leave(&self) {
        // Bound to a name first: the last place at a server takes locks of its own when given up.
        let seat = lock(&self.seat).take();
        drop(seat);
    }

    /// Puts a question that belongs to no call to the client. `None`: it cannot be asked.
    pub fn ask(&self, ask: &Ask, tag: Tag) -> Option<()> {
        let mut state = lock(&self.state);
        let message = state.ask(ask, tag)?;
        state.append(0, &message, false, Instant::now());
        Some(())
    }

    /// The server does not want that answer any more.
    pub fn withdraw(&self, tag: Tag) {
        let mut state = lock(&self.state);
        if let Some(message) = state.withdraw(tag) {
            state.append(0, message.as_bytes(), false, Instant::now());
        }
    }

    /// Ends it: its streams, its calls, and its server if that is its own.
    fn end(&self) {
        let calls: Vec<Tag> = {
            let mut state = lock(&self.state);
            state.close();
            state.calls().collect()
        };
        let left = std::mem::take(&mut lock(&self.inbox).calls);
        drop(left);
        for tag in calls {
            self.abort(tag);
        }
        self.leave();
        let company = std::mem::take(&mut *lock(&self.company));
        drop(company);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A session that is unknown or over.
pub fn dead() -> Fault {
    Fault::client(Kind::DeadSession).tell("Session not found: it has ended or never was; begin a new one with `initialize`")
}

const SHARDS: usize = 16;

/// The shards whose turn it is in this second, counted on and on, where there is a round in `every`.
fn due(tick: usize, every: Duration) -> std::ops::Range<usize> {
    let by = |tick: usize| (tick as u128 * 1_000 * SHARDS as u128 / every.as_millis().max(1)) as usize;
    let (begin, end) = (by(tick), by(tick + 1));
    begin..end.min(begin + SHARDS)
}

/// All of them.
pub struct Sessions {
    shards: [Mutex<HashMap<SessionId, Arc<Live>>>; SHARDS],
    ceiling: usize,
    count: std::sync::atomic::AtomicUsize,
    limits: Limits,
}

impl Sessions {
    /// Room for `ceiling` sessions.
    pub fn new(ceiling: usize, limits: Limits) -> Sessions {
        Sessions { shards: Default::default(), ceiling, count: Default::default(), limits }
    }

    /// A new session. At the ceiling the longest idle one gives way; if none is idle, the new
    /// one has to wait.
    pub fn open(&self, backend: Arc<Backend>, client: Arc<Client>, transport: Transport) -> Result<Arc<Live>, Fault> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.count.load(Relaxed) >= self.ceiling && !self.evict() {
            return Err(Fault::gateway(Kind::Busy).tell(format!("{} sessions are open, and none is idle; try again later", self.ceiling)));
        }
        let id = SessionId::random()?;
        let who = client.principal.clone();
        let since = Instant::now();
        let state = Session::new(client, transport, self.limits, since);
        let live = Arc::new(Live {
            id,
            backend,
            who,
            since,
            scopes: OnceLock::new(),
            state: Mutex::new(state),
            inbox: Mutex::default(),
            stream: OnceLock::new(),
            opened_at: OnceLock::new(),
            seat: Mutex::default(),
            asking: Mutex::default(),
            seating: tokio::sync::Mutex::default(),
            company: Mutex::default(),
        });
        lock(self.shard(id)).insert(id, live.clone());
        self.count.fetch_add(1, Relaxed);
        Ok(live)
    }

    /// The names of all.
    pub fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.shards.iter().flat_map(|shard| lock(shard).keys().copied().collect::<Vec<_>>())
    }

    /// The session of that name.
    pub fn find(&self, id: &str) -> Option<Arc<Live>> {
        let id = SessionId::parse(id)?;
        lock(self.shard(id)).get(&id).cloned()
    }

    /// Ends a session.
    pub fn close(&self, id: SessionId) {
        // Bound to a name first: ending it takes locks of its own.
        let removed = lock(self.shard(id)).remove(&id);
        if let Some(live) = removed {
            self.count.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            live.end();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets go of what was kept long enough. Called every second; looks at one shard a time.
    pub fn trim(&self, tick: usize, now: Instant) {
        lock(&self.shards[tick % SHARDS]).values().for_each(|live| lock(&live.state).handle_timeout(now));
    }

    /// Ends the sessions that were idle for longer than `limit`. Called every second; looks at some shards a time, so
    /// that it comes to each once in `every`.
    pub fn sweep(&self, tick: usize, every: Duration, limit: Duration, now: Instant) {
        let over = |live: &&Arc<Live>| lock(&live.state).idle_since().is_some_and(|since| now.saturating_duration_since(since) > limit);
        let idle: Vec<SessionId> = due(tick, every)
            .flat_map(|at| lock(&self.shards[at % SHARDS]).values().filter(over).map(|live| live.id).collect::<Vec<_>>())
            .collect();
        for id in idle {
            tracing::info!(session = ?id, "ended a session nobody used");
            self.close(id);
        }
    }

    /// Ends every session.
    pub fn close_all(&self) {
        for shard in &self.shards {
            let ids: Vec<SessionId> = lock(shard).keys().copied().collect();
            for id in ids {
                self.close(id);
            }
        }
    }

    /// Every session there is.
    pub fn all(&self) -> Vec<Arc<Live>> {
        self.shards.iter().flat_map(|s| lock(s).values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Ends the longest idle session that has such a server of its own, if it has been idle for
    /// `at_least`; whether there was one.
    pub fn evict_seated(&self, at_least: Duration, is_such: impl Fn(&Peer) -> bool) -> bool {
        let now = Instant::now();
        let abandoned = |live: &Arc<Live>| {
            let since = lock(&live.state).idle_since()?;
            let own = live.seated().is_some_and(|peer| !peer.is_shared() && is_such(&peer));
            (own && now.saturating_duration_since(since) >= at_least).then_some((since, live.id))
        };
        let Some((_, id)) = self.all().iter().filter_map(abandoned).min_by_key(|(since, _)| *since) else { return false };
        tracing::info!(session = ?id, "ended the longest idle session, for somebody who needs its server's place");
        self.close(id);
        true
    }

    /// Ends the longest idle session of somebody's, if it has been idle for `at_least`; whether there was one.
    pub fn evict_of(&self, who: &Principal, at_least: Duration) -> bool {
        let now = Instant::now();
        let abandoned = |live: &Arc<Live>| {
            let since = lock(&live.state).idle_since().filter(|_| live.who == *who)?;
            (now.saturating_duration_since(since) >= at_least).then_some((since, live.id))
        };
        let Some((_, id)) = self.all().iter().filter_map(abandoned).min_by_key(|(since, _)| *since) else { return false };
        tracing::info!(session = ?id, "ended the longest idle session of a user who has too many");
        self.close(id);
        true
    }

    /// Makes room: the longest idle sessions go, a hundredth of all at once, so that a flood of
    /// new ones does not search them all each time.
    fn evict(&self) -> bool {
        let mut idle: Vec<(Instant, SessionId)> = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            idle.extend(shard.values().filter_map(|live| Some((lock(&live.state).idle_since()?, live.id))));
        }
        if idle.is_empty() {
            return false;
        }
        idle.sort_unstable_by_key(|(since, _)| *since);
        idle.truncate((self.ceiling / 100).max(1));
        for (_, id) in idle {
            tracing::info!(session = ?id, "ended the longest idle session to make room");
            self.close(id);
        }
        true
    }

    fn shard(&self, id: SessionId) -> &Mutex<HashMap<SessionId, Arc<Live>>> {
        &self.shards[(id.0 as usize) % SHARDS]
    }
}

/// A notification or a response: nothing is answered.
pub fn handle_silent(live: &Arc<Live>, message: Message) {
    match message.kind.clone() {
        MessageKind::Response(Some(id), result) => {
            let answer = match result {
                Ok(at) => Ok(message.slice(at)),
                Err(at) => Err(message.slice(at)),
            };
            deliver_answer(live, &id, answer);
        }
        MessageKind::Notification(Method::Cancelled) => {
            let [id] = message.params_fields(&["requestId"]).unwrap_or_default();
            let Some(id) = id else { return };
            let tag = {
                let mut state = lock(&live.state);
                state.withdraw_beginning(id.of_bytes(&message.bytes));
                state.withdraw_call(id.of_bytes(&message.bytes))
            };
            if let Some(tag) = tag {
                live.abort(tag);
            }
        }
        // The server was told so when it was met.
        MessageKind::Notification(Method::Initialized) => {}
        // Progress of a question cannot be matched to it here, and roots are asked for anew.
        MessageKind::Notification(Method::Progress) => {}
        MessageKind::Notification(_) => {
            if let Some(peer) = live.seated() {
                peer.notify(&message.bytes);
            }
        }
        _ => {}
    }
}

/// The answer of a client to a question, back to the server that asked.
fn deliver_answer(live: &Live, id: &Id, answer: Result<Bytes, Bytes>) {
    let tag = lock(&live.state).answered(id);
    let Some(tag) = tag else {
        tracing::debug!(session = ?live.id, "an answer to no question of ours");
        return;
    };
    let answer = answer.as_ref().map(|b| &b[..]).map_err(|b| &b[..]);
    if tag.link == ASKING {
        if let Some(asking) = live.find_asking(|asking| asking.waits_for(tag.number)) {
            asking.answer(tag.number, answer);
        }
    } else if let Some(peer) = live.peer_of(tag) {
        peer.answer(tag.number, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Gateway;

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is_one() {
        let id = SessionId::of(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::parse(&id.dashed()), Some(id));
        let (plain, dashed) = (id.to_string(), id.dashed());
        let no_hex = plain.replacen('5', "g", 1);
        for bad in ["", &plain[1..], &format!("{plain}0"), &format!("+{}", &plain[1..]), &no_hex, &plain.to_uppercase(), &dashed[1..]] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
        for bad in [dashed.replace('-', "5"), dashed.replacen('-', "5", 1), format!("-{}", &dashed[1..]), "é".repeat(18), "é".repeat(16)]
        {
            assert_eq!(SessionId::parse(&bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn a_session_ends_when_nobody_has_used_it_for_long_and_in_one_round() {
        let gateway = Gateway::new(crate::config::Config::default().check().unwrap()).unwrap();
        let backend = gateway.front().unwrap();
        let client = || {
            let capabilities = Bytes::from_static(b"{}");
            let revision = landbridge_proto::version::Revision::V2025_06_18;
            Arc::new(Client { revision, principal: Principal::default(), transport: Transport::Streamable, info: None, capabilities })
        };
        let open = |transport| gateway.sessions.open(backend.clone(), client(), transport).unwrap();
        let all: Vec<_> = (0..50).map(|_| open(Transport::Streamable)).collect();
        let streaming = open(Transport::Sse);
        lock(&streaming.state).open_standalone();
        let (began, minute) = (Instant::now(), Duration::from_secs(60));
        let round = |now: Instant| (0..SHARDS).for_each(|tick| gateway.sessions.sweep(tick, Duration::from_secs(16), 30 * minute, now));
        round(began + 29 * minute);
        assert_eq!(gateway.sessions.len(), 51);
        lock(&all[0].state).touch(began + 29 * minute);
        round(began + 31 * minute);
        assert_eq!(gateway.sessions.len(), 2, "the one that was used, and the one whose stream is open");
        round(began + 60 * minute);
        assert!(gateway.sessions.find(&streaming.id.to_string()).is_some() && gateway.sessions.len() == 1);
    }

    #[tokio::test]
    async fn idle_sessions_are_looked_for_as_often_as_was_said_and_no_more() {
        let gateway = Gateway::new(crate::config::Config::default().check().unwrap()).unwrap();
        let (began, minute) = (Instant::now(), Duration::from_secs(60));
        let client = || {
            let (revision, transport) = (landbridge_proto::version::Revision::V2025_06_18, Transport::Streamable);
            Arc::new(Client { revision, principal: Principal::default(), transport, info: None, capabilities: Bytes::from_static(b"{}") })
        };
        for _ in 0..100 {
            gateway.sessions.open(gateway.front().unwrap(), client(), Transport::Streamable).unwrap();
        }
        // Two hours, a second at a time: idle for half an hour, swept every five minutes.
        let mut left = Vec::new();
        for tick in 0..2 * 60 * 60 {
            gateway.sessions.sweep(tick, 5 * minute, 30 * minute, began + Duration::from_secs(tick as u64));
            left.push(gateway.sessions.len());
        }
        assert!(left[..=30 * 60].iter().all(|n| *n == 100), "nobody goes before their time");
        assert!(left[30 * 60 + 1..35 * 60 - 60].iter().any(|n| (1..100).contains(n)), "they go one part after the other");
        assert_eq!(left[35 * 60 + 1], 0, "and all within the five minutes");
        // Every part once a round, whatever the round.
        for every in [1, 100, 1_000, 1_500, 16_000, 60_000, 5 * 60_000] {
            let ticks = (16 * every / 1_000).max(1);
            let all: Vec<usize> = (0..ticks).flat_map(|tick| due(tick, Duration::from_millis(every as u64))).collect();
            let rounds = if every < 1_000 { ticks } else { ticks * 1_000 / every };
            let counts = (0..SHARDS).map(|shard| all.iter().filter(|at| *at % SHARDS == shard).count());
            assert!(counts.clone().all(|n| n == rounds), "{every}: {:?}", counts.collect::<Vec<_>>());
        }
    }
}
