//! A server, running: as instances of it, or in this process.
//!
//! [`Backend`] is what was planned, [`Peer`] one server that has been met and takes calls.
//! [`Replies`] is a call under way: pulled by whoever owns it, so that backpressure needs no
//! code, and withdrawn when dropped.

pub mod each;
pub mod http;
mod hub;
pub mod local;
pub mod merged;
mod mirrors;
pub mod parked;
pub mod pool;
pub mod pools;
pub mod replies;
pub mod tasks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::link::Key;
use landbridge_proto::call::{Call, Client, Principal, Server};
use landbridge_proto::fault::{Blame, Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;
use landbridge_proto::version::Era;

use each::Each;
pub use hub::{Hub, Listener, Member};
use local::{Local, Service};
use merged::Merged;
pub use pool::Pipe;
use pool::{Chair, Instance, Pool, Turn};
use pools::Pools;
pub use replies::{Passage, Replies, Way};

use crate::eras::{End, Wire};
use crate::plan::{Rights, ToolFilter};

/// Locks, also after a panic elsewhere: one request's bug must not take the rest down.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is made when it is first needed, and may fail to be. Of several that make it at once, all get the first.
pub fn made_once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T, String>) -> Result<&T, String> {
    match cell.get() {
        Some(made) => Ok(made),
        None => {
            let made = make()?;
            Ok(cell.get_or_init(|| made))
        }
    }
}

/// A server in this process.
#[derive(Clone)]
pub enum Within {
    /// It answers calls.
    Service(Arc<dyn Service>),
    /// It reads and writes lines.
    Pipe(Pipe),
}

impl fmt::Debug for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Within::Service(_) => f.write_str("Service"),
            Within::Pipe(pipe) => pipe.fmt(f),
        }
    }
}

/// A planned server.
#[derive(Debug)]
pub enum Backend {
    /// Runs as instances that we start.
    Pools(Arc<Pools>),
    /// The same, for each user by themselves.
    Each(Arc<Each>),
    /// Runs in this process.
    Local(Arc<Local>),
    /// All the others, together.
    Merged(Arc<Merged>),
}

impl Backend {
    /// What we call it.
    pub fn name(&self) -> &str {
        match self {
            Backend::Pools(pools) => pools.base().name(),
            Backend::Each(each) => each.name(),
            Backend::Local(local) => local.name(),
            Backend::Merged(_) => Merged::NAME,
        }
    }

    /// Which of its tools are there for clients.
    fn tools(&self) -> &Arc<ToolFilter> {
        match self {
            Backend::Pools(pools) => &pools.base().tools,
            Backend::Each(each) => &each.tools,
            Backend::Local(local) => &local.tools,
            Backend::Merged(merged) => &merged.tools,
        }
    }

    /// Refuses a call of a tool that is not there for clients, in the words of a server that has none of
    /// that name; for a listing, what it is to be filtered by.
    pub fn filter(&self, call: &Call) -> Result<Option<Arc<ToolFilter>>, Fault> {
        let tools = self.tools();
        if tools.is_open() {
            return Ok(None);
        }
        if call.method == Method::ToolsCall {
            let name = call.message.string_at(call.params.name).unwrap_or_default();
            if !tools.admits(&name) {
                return Err(Fault::client(Kind::Params).tell(format!("Unknown tool: {name}")));
            }
        }
        Ok((call.method == Method::ToolsList).then(|| tools.clone()))
    }

    /// A server for a handshake client: its own, or one it shares.
    pub async fn seat(&self, client: &Arc<Client>) -> Result<Peer, Fault> {
        match self {
            Backend::Pools(pools) if pools.base().is_for_sessions() => pools.base().seat(client).await.map(Peer::Instance),
            Backend::Pools(pools) => pools.of(&client.principal)?.seat(client).await.map(Peer::Instance),
            Backend::Each(each) => each.seat(client).await,
            Backend::Merged(merged) => merged.handshake.seat(client).await.map(Peer::Instance),
            Backend::Local(local) => Ok(Peer::Local(local.clone())),
        }
    }

    /// The server that clients of `who` with these abilities share.
    pub async fn shared(&self, who: &Principal, abilities: Abilities) -> Result<Peer, Fault> {
        if let Backend::Each(each) = self {
            return each.shared(abilities, who).await;
        }
        match self.pool_of(who)? {
            Ok(pool) => pool.shared(abilities).await.map(Peer::Instance),
            Err(local) => Ok(local),
        }
    }

    /// The instances that stateless clients of `who` share; or the server itself, in this process.
    fn pool_of(&self, who: &Principal) -> Result<Result<Arc<Pool>, Peer>, Fault> {
        Ok(match self {
            Backend::Pools(pools) => Ok(pools.of(who)?),
            Backend::Merged(merged) => Ok(merged.stateless.of(who)?),
            Backend::Local(local) => Err(Peer::Local(local.clone())),
            Backend::Each(each) => Ok(each.user(who)?.pool().clone()),
        })
    }

    /// The same, for a call that may become a question: a server that asks takes one of them a time.
    pub async fn shared_for(&self, call: &Call) -> Result<(Peer, Option<Turn>), Fault> {
        // Boxed, as every call would carry its size.
        if let Backend::Each(each) = self {
            return Box::pin(each.shared_for(call)).await;
        }
        let pool = match self.pool_of(&call.client.principal)? {
            Ok(pool) => pool,
            Err(local) => return Ok((local, None)),
        };
        let (instance, turn) = match pool.shared_now(call) {
            Some(instance) => instance,
            // Boxed, as every call would carry its size.
            None => Box::pin(pool.shared_for(call)).await?,
        };
        Ok((Peer::Instance(instance), turn))
    }

    /// One that tells of changes to whoever of `who` shares it: any that runs, or one for these abilities.
    pub async fn any(&self, who: &Principal, abilities: Abilities) -> Result<Peer, Fault> {
        if let Backend::Each(each) = self {
            return each.any(abilities, who).await;
        }
        let pool = match self.pool_of(who)? {
            Ok(pool) => pool,
            Err(local) => return Ok(local),
        };
        match pool.lead() {
            Some((_, instance)) => Ok(Peer::Instance(instance)),
            None => pool.shared(abilities).await.map(Peer::Instance),
        }
    }

    /// What it told its clients to know of it when it was last met; `None`: nothing, or it is not there.
    pub fn instructions(&self) -> Option<String> {
        let said = match self {
            Backend::Pools(pools) => pools.base().instructions(),
            Backend::Local(local) => local.server().instructions.clone(),
            // What it told one user is not for another.
            Backend::Each(_) | Backend::Merged(_) => None,
        };
        json::string(&said?).map(|said| said.into_owned())
    }

    /// The scopes that a call of this tool needs, of what is planned for each server.
    pub fn needed_for(&self, rights: &BTreeMap<String, Rights>, tool: &str) -> Vec<String> {
        let (name, own) = match self {
            Backend::Merged(merged) => match merged.whose(tool) {
                Some((name, own)) => (name, own),
                // It may turn out to be anybody's.
                None => return rights.values().flat_map(|rights| rights.of_tool(None)).map(str::to_owned).collect(),
            },
            _ => (self.name().to_owned(), tool.to_owned()),
        };
        rights.get(&name).map(|rights| rights.of_tool(Some(&own)).map(str::to_owned).collect()).unwrap_or_default()
    }

    /// It, where each user has one by themselves.
    pub fn each(&self) -> Option<&Arc<Each>> {
        match self {
            Backend::Each(each) => Some(each),
            _ => None,
        }
    }

    /// The era it is known to speak in, to stateless clients.
    pub fn era(&self) -> Option<Era> {
        match self {
            Backend::Merged(_) => Some(Era::Stateless),
            Backend::Pools(pools) => pools.base().era(),
            Backend::Each(each) => each.era(),
            Backend::Local(_) => Some(Era::Handshake),
        }
    }

    /// The running server that tags call `ordinal`.
    pub fn peer(&self, ordinal: u32) -> Option<Peer> {
        match self {
            Backend::Pools(_) | Backend::Merged(_) | Backend::Each(_) => {
                self.pools().iter().find_map(|pool| pool.instance(ordinal)).map(Peer::Instance)
            }
            Backend::Local(local) => (ordinal == 0).then(|| Peer::Local(local.clone())),
        }
    }

    /// All its instances, as pools.
    fn pools(&self) -> Vec<Arc<Pool>> {
        match self {
            Backend::Pools(pools) => pools.all(),
            Backend::Merged(merged) => merged.pools(),
            Backend::Each(each) => each.pools(),
            Backend::Local(_) => Vec::new(),
        }
    }

    /// Whether no call is under way on it.
    pub fn is_quiet(&self) -> bool {
        match self {
            Backend::Each(each) => each.is_quiet(),
            Backend::Local(local) => local.is_quiet(),
            _ => self.pools().iter().all(|pool| pool.is_quiet()),
        }
    }

    /// Ends its streams of changes; who wants to hear more may open another.
    pub fn break_off(&self) {
        match self {
            Backend::Each(each) => each.break_off(),
            Backend::Local(local) => local.hub.break_off(),
            _ => self.pools().iter().for_each(|pool| pool.hub().break_off()),
        }
    }

    /// Nobody needs another instance of it. Calls go on.
    pub fn start_nothing(&self) {
        match self {
            Backend::Each(each) => each.start_nothing(),
            _ => self.pools().iter().for_each(|pool| pool.start_nothing()),
        }
    }

    /// Ends it, and the calls that are still under way.
    pub fn stop(&self) {
        match self {
            Backend::Each(each) => each.stop(),
            Backend::Local(local) => local.stop(),
            _ => self.pools().iter().for_each(|pool| pool.stop()),
        }
    }
}

/// A server that has been met.
#[derive(Clone, Debug)]
pub enum Peer {
    /// An instance of a server that we started.
    Instance(Arc<Instance>),
    /// In this process.
    Local(Arc<Local>),
}

impl Peer {
    /// What it said of itself.
    pub fn server(&self) -> &Arc<Server> {
        match self {
            Peer::Instance(instance) => instance.server(),
            Peer::Local(local) => local.server(),
        }
    }

    /// Whether other clients use it too.
    pub fn is_shared(&self) -> bool {
        match self {
            Peer::Instance(instance) => instance.is_shared(),
            Peer::Local(_) => true,
        }
    }

    /// What it speaks, and over what.
    pub fn end(&self) -> End {
        let wire = match self {
            Peer::Instance(instance) => instance.wire(),
            Peer::Local(_) => Wire::Local,
        };
        (wire, self.server().revision)
    }

    /// Whether it is elsewhere.
    pub fn is_remote(&self) -> bool {
        matches!(self.end().0, Wire::Http | Wire::Sse)
    }

    /// Whether it takes calls.
    pub fn is_alive(&self) -> bool {
        match self {
            Peer::Instance(instance) => instance.is_alive(),
            Peer::Local(local) => local.is_alive(),
        }
    }

    /// Waits until it takes no calls any more.
    pub async fn gone(&self) {
        match self {
            Peer::Instance(instance) => instance.gone().await,
            Peer::Local(local) => local.gone().await,
        }
    }

    /// Which of a backend's servers it is, for [`Tag`].
    pub fn ordinal(&self) -> u32 {
        match self {
            Peer::Instance(instance) => instance.ordinal(),
            Peer::Local(_) => 0,
        }
    }

    /// Who hears of its changes.
    pub fn hub(&self) -> &Arc<Hub> {
        match self {
            Peer::Instance(instance) => instance.hub(),
            Peer::Local(local) => &local.hub,
        }
    }

    /// It is not to be stopped for want of use for so long: it runs a task.
    pub fn keep_for(&self, time: Duration) {
        if let Peer::Instance(instance) = self {
            instance.keep_for(time);
        }
    }

    /// A session takes its place at it.
    pub fn sit(&self) -> Option<Chair> {
        match self {
            Peer::Instance(instance) => Some(Chair::take(instance)),
            Peer::Local(_) => None,
        }
    }

    /// A request of our own whose answer nobody waits for.
    pub fn tell(&self, method: &Method, params: &str) {
        if let Peer::Instance(instance) = self {
            instance.link().tell(method, params, Instant::now());
        }
    }

    /// The client withdrew a call that somebody else waits for.
    pub fn abort(&self, number: u64) {
        match self {
            Peer::Instance(instance) => instance.operate(|link| link.abort(Key::of_id(number), "cancelled by the client")),
            Peer::Local(local) => local.abort(number),
        }
    }

    /// The client answered a question.
    pub fn answer(&self, ticket: u64, answer: Result<&[u8], &[u8]>) {
        match self {
            Peer::Instance(instance) => instance.link().answer(ticket, answer),
            Peer::Local(local) => local.answer(ticket, answer),
        }
    }

    /// Passes a client's notification on, where the server is its own.
    pub fn notify(&self, message: &Bytes) {
        if let Peer::Instance(instance) = self
            && !instance.is_shared()
        {
            let mut line = landbridge_proto::json::splice(message, &[]);
            line.push(b'\n');
            instance.link().notify(line.into());
        }
    }

    /// What of `filter`, which a member of its hub wants, it tells of. Waits until it was asked.
    pub async fn tells_of(&self, filter: &Filter) -> Filter {
        let honoured = filter.honoured_by(self.server().can);
        // A handshake server tells of its lists unasked.
        let unasked = self.server().era() == Era::Handshake && honoured.uris.is_empty();
        match self {
            Peer::Instance(instance) if instance.is_shared() && !unasked => instance.hub().told(&honoured).await,
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
