//! A server, running: a child process, or one in this process.
//!
//! [`Backend`] is what was planned, [`Peer`] one server that has been met and takes calls.
//! [`Replies`] is a call under way: pulled by whoever owns it, so that backpressure needs no
//! code, and withdrawn when dropped.

mod hub;
pub mod local;
mod mirrors;
pub mod parked;
pub mod process;
pub mod replies;
pub mod tasks;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::link::Key;
use landbridge_proto::call::{Call, Client, Server};
use landbridge_proto::fault::{Blame, Fault};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;
use landbridge_proto::version::Era;

pub use hub::{Hub, Listener, Member};
use local::Local;
use process::{Chair, Child, Process, Turn};
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
        let (child, turn) = match self {
            Backend::Local(local) => return Ok((Peer::Local(local.clone()), None)),
            Backend::Process(process) => match process.shared_now(call) {
                Some(child) => child,
                // Boxed, as every call would carry its size.
                None => Box::pin(process.shared_for(call)).await?,
            },
        };
        Ok((Peer::Child(child), turn))
    }

    /// One that tells of changes to whoever shares it: any that runs, or one for these abilities.
    pub async fn any(&self, abilities: Abilities) -> Result<Peer, Fault> {
        match self {
            Backend::Process(process) => match process.lead() {
                Some((_, child)) => Ok(Peer::Child(child)),
                None => process.shared(abilities).await.map(Peer::Child),
            },
            Backend::Local(local) => Ok(Peer::Local(local.clone())),
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
    pub fn hub(&self) -> &Arc<Hub> {
        match self {
            Peer::Child(child) => child.hub(),
            Peer::Local(local) => &local.hub,
        }
    }

    /// It is not to be stopped for want of use for so long: it runs a task.
    pub fn keep_for(&self, time: Duration) {
        if let Peer::Child(child) = self {
            child.keep_for(time);
        }
    }

    /// A session takes its place at it.
    pub fn sit(&self) -> Option<Chair> {
        match self {
            Peer::Child(child) => Some(Chair::take(child)),
            Peer::Local(_) => None,
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

    /// What of `filter`, which a member of its hub wants, it tells of. Waits until it was asked.
    pub async fn tells_of(&self, filter: &Filter) -> Filter {
        let honoured = filter.honoured_by(self.server().can);
        // A handshake server tells of its lists unasked.
        let unasked = self.server().era() == Era::Handshake && honoured.uris.is_empty();
        match self {
            Peer::Child(child) if child.is_shared() && !unasked => child.hub().told(&honoured).await,
            _ => honoured,
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
