//! A server, running: a child process, or one in this process.
//!
//! [`Backend`] is what was planned, [`Peer`] one server that has been met and takes calls.
//! [`Replies`] is a call under way: pulled by whoever owns it, so that backpressure needs no
//! code, and withdrawn when dropped.

pub mod local;
mod mirrors;
pub mod parked;
pub mod process;
pub mod replies;
pub mod tasks;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::link::Key;
use landbridge_proto::call::{Call, Client, Notice, Server};
use landbridge_proto::fault::{Blame, Fault};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::{Filter, Listen};
use landbridge_proto::version::Era;

use crate::sessions::Live;
use local::Local;
use process::{Child, Process, Turn};
pub use replies::{Passage, Replies, Way};

/// Locks, also after a panic elsewhere: one request's bug must not take the rest down.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A planned server.
#[derive(Debug)]
pub enum Backend {
    /// Runs as child processes.
    Process(Arc<Process>),
    /// Runs in this process.
    Local(Arc<Local>),
}

impl Backend {
    /// What we call it.
    pub fn name(&self) -> &str {
        match self {
            Backend::Process(process) => process.name(),
            Backend::Local(local) => local.name(),
        }
    }

    /// A server for a handshake client: its own, or one it shares.
    pub async fn seat(&self, client: &Arc<Client>) -> Result<Peer, Fault> {
        match self {
            Backend::Process(process) => process.seat(client).await.map(Peer::Child),
            Backend::Local(local) => Ok(Peer::Local(local.clone())),
        }
    }

    /// The server that clients of these abilities share.
    pub async fn shared(&self, abilities: Abilities) -> Result<Peer, Fault> {
        match self {
            Backend::Process(process) => process.shared(abilities).await.map(Peer::Child),
            Backend::Local(local) => Ok(Peer::Local(local.clone())),
        }
    }

    /// The same, for a call that may become a question: a server that asks takes one of them a time.
    pub async fn shared_for(&self, call: &Call) -> Result<(Peer, Option<Turn>), Fault> {
        match self {
            Backend::Process(process) => {
                let (child, turn) = process.shared_for(call).await?;
                Ok((Peer::Child(child), turn))
            }
            Backend::Local(local) => Ok((Peer::Local(local.clone()), None)),
        }
    }

    /// The era it is known to speak in.
    pub fn era(&self) -> Option<Era> {
        match self {
            Backend::Process(process) => process.era(),
            Backend::Local(_) => Some(Era::Handshake),
        }
    }

    /// The running server that tags call `ordinal`.
    pub fn peer(&self, ordinal: u32) -> Option<Peer> {
        match self {
            Backend::Process(process) => process.child(ordinal).map(Peer::Child),
            Backend::Local(local) => (ordinal == 0).then(|| Peer::Local(local.clone())),
        }
    }
}

/// A server that has been met.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A child process.
    Child(Arc<Child>),
    /// In this process.
    Local(Arc<Local>),
}

impl Peer {
    /// What it said of itself.
    pub fn server(&self) -> &Arc<Server> {
        match self {
            Peer::Child(child) => child.server(),
            Peer::Local(local) => local.server(),
        }
    }

    /// Whether other clients use it too.
    pub fn is_shared(&self) -> bool {
        match self {
            Peer::Child(child) => child.is_shared(),
            Peer::Local(_) => true,
        }
    }

    /// Whether it takes calls.
    pub fn is_alive(&self) -> bool {
        match self {
            Peer::Child(child) => child.is_alive(),
            Peer::Local(_) => true,
        }
    }

    /// Which of a backend's servers it is, for [`Tag`].
    pub fn ordinal(&self) -> u32 {
        match self {
            Peer::Child(child) => child.ordinal(),
            Peer::Local(_) => 0,
        }
    }

    /// Who hears of its changes.
    pub fn hub(&self) -> &Hub {
        match self {
            Peer::Child(child) => &child.hub,
            Peer::Local(local) => &local.hub,
        }
    }

    /// It is not to be stopped for want of use for so long: it runs a task.
    pub fn keep_for(&self, time: Duration) {
        if let Peer::Child(child) = self {
            child.keep_for(time);
        }
    }

    /// A request of our own whose answer nobody waits for.
    pub fn tell(&self, method: &Method, params: &str) {
        if let Peer::Child(child) = self {
            child.link().tell(method, params, Instant::now());
        }
    }

    /// The client withdrew a call that somebody else waits for.
    pub fn abort(&self, number: u64) {
        match self {
            Peer::Child(child) => child.operate(|link| link.abort(Key::of_id(number), "cancelled by the client")),
            Peer::Local(local) => local.abort(number),
        }
    }

    /// The client answered a question.
    pub fn answer(&self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        match self {
            Peer::Child(child) => child.link().answer(ticket, answer),
            Peer::Local(local) => local.answer(ticket, answer),
        }
    }

    /// Passes a client's notification on, where the server is its own.
    pub fn notify(&self, message: &Bytes) {
        if let Peer::Child(child) = self
            && !child.is_shared()
        {
            let mut line = landbridge_proto::json::splice(message, &[]);
            line.push(b'\n');
            child.link().notify(line.into());
        }
    }

    /// One less wants updates of `uri`; after the last a handshake server is told. A stateless
    /// server's listen keeps what it covers until it is next replaced.
    pub fn count_out(&self, uri: &str) {
        self.hub().count_out(uri, || {
            if let Peer::Child(child) = self
                && child.server().era() == Era::Handshake
            {
                let params = format!("\"uri\":{}", landbridge_proto::json::quote(uri));
                child.link().tell(&Method::Unsubscribe, &params, Instant::now());
            }
        });
    }

    /// Makes sure that this server tells of what `filter` wants; gives back what it will tell of.
    pub async fn want(&self, filter: &Filter) -> Filter {
        let honoured = filter.honoured_by(self.server().can);
        match self {
            Peer::Child(child) => child.want(honoured).await,
            Peer::Local(_) => honoured,
        }
    }
}

/// Puts the name of the server into faults that were made where it is not known.
pub trait OfServer {
    /// The same fault, blamed on the server `name`.
    fn of(self, name: &str) -> Self;
}

impl OfServer for Fault {
    fn of(mut self, name: &str) -> Fault {
        if self.blame == Blame::Backend(String::new()) {
            self.blame = Blame::Backend(name.into());
            self.told = self.told.replacen("the server", &format!("the server `{name}`"), 1);
        }
        self
    }
}

/// Who hears of a server's changes, and what is remembered until one happens.
#[derive(Debug, Default)]
pub struct Hub {
    next: AtomicU64,
    listeners: Mutex<HashMap<u64, Listener>>,
    /// How many listeners want updates of a resource, where the server must be told once.
    uris: Mutex<HashMap<Arc<str>, usize>>,
    /// What its tools want mirrored in headers.
    mirrors: mirrors::Mirrors,
}

/// Somebody who hears of changes.
#[derive(Debug)]
pub enum Listener {
    /// A handshake session.
    Session(Weak<Live>),
    /// A `subscriptions/listen`.
    Listen(Weak<Mutex<Listen>>),
}

impl Hub {
    /// From now on `listener` hears of changes. The number is for [`Hub::leave`].
    pub fn join(&self, listener: Listener) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.listeners).insert(number, listener);
        number
    }

    /// Not any more.
    pub fn leave(&self, number: u64) {
        lock(&self.listeners).remove(&number);
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        lock(&self.listeners).is_empty()
    }

    /// Tells everybody. `own`: the server is one session's own.
    pub fn publish(&self, notice: &Notice, own: bool) {
        if notice.method == Method::ToolsChanged {
            self.mirrors.forget();
        }
        // Taken out first: the last owner of a session may be this very loop, and a session that
        // ends leaves the hub.
        let (mut sessions, mut listens) = (Vec::new(), Vec::new());
        for listener in lock(&self.listeners).values() {
            match listener {
                Listener::Session(live) => sessions.extend(live.upgrade()),
                Listener::Listen(listen) => listens.extend(listen.upgrade()),
            }
        }
        let now = Instant::now();
        for live in sessions {
            let mut session = lock(&live.state);
            if own {
                session.handle_own_notice(notice, now);
            } else {
                session.handle_shared_notice(notice, now);
            }
        }
        for listen in listens {
            lock(&listen).handle_notice(notice);
        }
    }

    /// The server is gone: streams of changes end without a result, so that their clients know
    /// that something may have been missed.
    pub fn break_off(&self) {
        let mut listens = Vec::new();
        for listener in lock(&self.listeners).values() {
            if let Listener::Listen(listen) = listener {
                listens.extend(listen.upgrade());
            }
        }
        for listen in listens {
            lock(&listen).break_off();
        }
    }

    /// The session whose own server this is.
    pub fn owner(&self) -> Option<Arc<Live>> {
        lock(&self.listeners).values().find_map(|l| match l {
            Listener::Session(live) => live.upgrade(),
            Listener::Listen(_) => None,
        })
    }

    /// One more wants updates of `uri`.
    pub fn count_in(&self, uri: &str) {
        *lock(&self.uris).entry(uri.into()).or_insert(0) += 1;
    }

    /// One less; `last` is done if it was the last, before anybody can want it again.
    fn count_out(&self, uri: &str, last: impl FnOnce()) {
        let mut uris = lock(&self.uris);
        let Some(count) = uris.get_mut(uri) else { return };
        *count -= 1;
        if *count == 0 {
            uris.remove(uri);
            last();
        }
    }

    /// Everything somebody wants updates of.
    pub fn wanted_uris(&self) -> std::collections::BTreeSet<Arc<str>> {
        lock(&self.uris).keys().cloned().collect()
    }
}
