//! What carries an instance that is several servers: their own backends, in this process.
//!
//! ```text
//!   queued ──▶ call ──▶ whose? ──renamed──▶ a call of the gateway's own, at that server
//!          │                                   └ what comes of it ──renamed──▶ the same call's
//!          ├─▶ a listing, a stream of changes ──▶ of every server, made into one
//!          └─▶ word ──▶ the server that asked; or, a notification, all of them
//! ```
//!
//! It speaks the era of its client, and calls the servers in the same: whatever has to be translated between
//! the eras is translated once, behind us, as for a client of that server alone. For a handshake client it
//! has a session with each server, opened when it is first needed ([`seats`]); for stateless ones it keeps
//! nothing. A call is a task of its own, as over HTTP: so a question and a log line stay with their call, and
//! a server that hangs holds up nobody.

mod listen;
mod listing;
mod seats;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::debug;

use landbridge_proto::back::link::{Key, What};
use landbridge_proto::back::stdio::own_info;
use landbridge_proto::call::{Call, Client, Level, Outcome, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::stateless;
use landbridge_proto::json;
use landbridge_proto::merge::hello;
use landbridge_proto::merge::letters::{self, About, Front};
use landbridge_proto::merge::names::{Directory, Found};
use landbridge_proto::message::{Id, Kind as MessageKind, META_SERVER_INFO, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::tasks;
use landbridge_proto::version::{Era, Revision};

use crate::backend::pool::exchanges::Exchanges;
use crate::backend::pool::instance::queued;
use crate::backend::pool::{Instance, Pool};
use crate::backend::{Backend, lock};
use crate::body::{SessionCall, StatelessCall};
use crate::eras::Wire;
use crate::gateway::Gateway;
use crate::sessions::handle_silent;
use seats::Seat;

/// The servers that are one in front.
pub struct Servers {
    /// Weak: the gateway owns us.
    gateway: Weak<Gateway>,
    /// How they and their things are called.
    directory: Mutex<Directory>,
    /// What is known of each, for all clients.
    known: Vec<Known>,
}

/// What is known of a server.
#[derive(Default)]
struct Known {
    /// It was left out of the last listing.
    left_out: AtomicBool,
    /// Because it took too long.
    late: AtomicBool,
    /// When it was last looked through for a name.
    looked_through: Mutex<Option<Instant>>,
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Servers {
    /// Those of that gateway.
    pub fn new(gateway: Weak<Gateway>, names: impl IntoIterator<Item = String>) -> Servers {
        let directory = Directory::new(names);
        let known = (0..directory.len()).map(|_| Known::default()).collect();
        Servers { gateway, directory: Mutex::new(directory), known }
    }

    fn gateway(&self) -> Result<Arc<Gateway>, Fault> {
        self.gateway.upgrade().ok_or_else(|| Fault::gateway(Kind::Busy).tell("the gateway is being stopped"))
    }

    fn name(&self, server: usize) -> String {
        lock(&self.directory).name(server).to_owned()
    }

    fn backend(&self, server: usize) -> Result<Arc<Backend>, Fault> {
        let name = self.name(server);
        let gone = || Fault::client(Kind::NoSuchPath).tell(format!("the server `{name}` is not served any more"));
        self.gateway()?.backend(&name).ok_or_else(gone)
    }

    /// Whose tool that is, as far as is known without asking.
    pub fn find(&self, called: &str) -> Option<(Arc<Backend>, String)> {
        let found = lock(&self.directory).find(called);
        match found {
            Found::At(server, name) => Some((self.backend(server).ok()?, name)),
            Found::Perhaps(_) | Found::Nowhere => None,
        }
    }

    /// Whose resource that is, and how it is called there.
    pub fn find_uri(&self, uri: &str) -> Option<(String, String)> {
        let directory = lock(&self.directory);
        directory.find_uri(uri).map(|(server, own)| (directory.name(server).to_owned(), own))
    }

    /// What they say of themselves together, in the words of that revision. No server is asked: it may not even
    /// be there, and who only says hello is to start nobody. What is known of one is from when it was met.
    pub fn hello(&self, revision: Revision) -> Bytes {
        let tasks = match revision {
            Revision::V2025_11_25 => r#","tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}"#.to_owned(),
            Revision::V2026_07_28 => format!(",\"extensions\":{{\"{}\":{{}}}}", tasks::EXTENSION),
            _ => String::new(),
        };
        let capabilities = format!(
            r#"{{"tools":{{"listChanged":true}},"prompts":{{"listChanged":true}},"resources":{{"subscribe":true,"listChanged":true}},"completions":{{}},"logging":{{}}{tasks}}}"#
        );
        let names: Vec<String> = lock(&self.directory).names().map(str::to_owned).collect();
        let known = |server| self.backend(server).ok()?.instructions();
        let told = hello::instructions(names.iter().enumerate().map(|(server, name)| (name.as_str(), known(server))));
        let (told, info) = (json::quote(&told), own_info());
        match revision.era() {
            Era::Handshake => format!(
                "{{\"protocolVersion\":\"{revision}\",\"capabilities\":{capabilities},\"serverInfo\":{info},\"instructions\":{told}}}"
            ),
            Era::Stateless => format!(
                "{{\"resultType\":\"complete\",\"supportedVersions\":[\"{revision}\"],\"capabilities\":{capabilities},\"instructions\":{told},\"ttlMs\":0,\"cacheScope\":\"private\",\"_meta\":{{\"{META_SERVER_INFO}\":{info}}}}}"
            ),
        }
        .into()
    }
}

/// Meets them, which takes no more than to say who they are.
pub(super) fn meet(pool: &Arc<Pool>, servers: &Arc<Servers>, client: &Client, shared: bool, ordinal: u32) -> Result<Arc<Instance>, Fault> {
    let revision = match pool.era() {
        Some(Era::Stateless) => Revision::NEWEST,
        // What an older client lacks is made a text in front of us, where a link in it is already renamed.
        _ => client.revision.clamp(Revision::V2025_06_18, Revision::LAST_HANDSHAKE),
    };
    let server = Server::read(revision, servers.hello(revision), pool.name()).map_err(|why| Fault::gateway(Kind::Backend).tell(why))?;
    // One that is shared is for clients without a session.
    let transport = if shared { servers.gateway()?.plan.stateless_over } else { client.transport };
    let (stop, stopped) = mpsc::channel(1);
    let instance = Instance::begin(pool, Wire::Local, server, shared, ordinal, stop, Vec::new());
    let carrier = Arc::new(Carrier {
        servers: servers.clone(),
        instance: Arc::downgrade(&instance),
        client: Client { transport, ..client.clone() },
        revision,
        seats: servers.known.iter().map(|_| Seat::default()).collect(),
        level: Mutex::default(),
        exchanges: Exchanges::default(),
        over: OnceLock::new(),
    });
    tokio::spawn(carry(carrier, stopped));
    Ok(instance)
}

/// What carries the calls of one instance.
struct Carrier {
    servers: Arc<Servers>,
    instance: Weak<Instance>,
    /// Whose session it is, in the handshake era.
    client: Client,
    revision: Revision,
    /// A session with each server, in the handshake era.
    seats: Vec<Seat>,
    /// The level that its client has set.
    level: Mutex<Option<Level>>,
    /// Calls under way.
    exchanges: Exchanges,
    /// Set when it has ended.
    over: OnceLock<()>,
}

async fn carry(carrier: Arc<Carrier>, mut stopped: mpsc::Receiver<()>) {
    loop {
        let instance = &carrier.instance;
        tokio::select! {
            () = queued(instance) => {}
            _ = stopped.recv() => break,
        }
        let Some(strong) = instance.upgrade() else { break };
        let Some(lines) = strong.link().take_queued() else { break };
        for line in lines {
            match line.what {
                What::Call(key) => carrier.begin(key, line.line),
                What::First(key) => {
                    carrier.begin(key, line.line);
                    strong.settled(key).await;
                }
                What::Cancel(key) => {
                    carrier.exchanges.take(key).inspect(AbortHandle::abort);
                }
                What::Answer(_) | What::Word => carrier.handle_word(line.line),
            }
        }
        strong.link().settled();
    }
    let _ = carrier.over.set(());
    carrier.exchanges.abort_all();
    carrier.leave();
}

/// A call at one of the servers. Dropped, it is withdrawn.
enum Talk {
    Session(Option<SessionCall>),
    Stateless(StatelessCall),
}

impl Talk {
    /// What it says next; `None` behind the answer.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self {
            Talk::Session(Some(call)) => call.poll_message(cx).map(|said| said.map(|(message, _)| message.into())),
            Talk::Session(None) => Poll::Ready(None),
            Talk::Stateless(call) => call.poll_message(cx),
        }
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            let said = std::future::poll_fn(|cx| self.poll(cx)).await?;
            match Message::read(said) {
                Ok(message) => return Some(message),
                // The answer to a call that was withdrawn is empty.
                Err(bad) => debug!(bad.why, "no message"),
            }
        }
    }

    /// How it ends; what it says before is not wanted.
    async fn outcome(mut self) -> Outcome {
        while let Some(message) = self.next().await {
            match message.kind {
                MessageKind::Response(_, Ok(at)) => return Outcome::Result(message.slice(at)),
                MessageKind::Response(_, Err(at)) => return Outcome::Error(message.slice(at)),
                _ => {}
            }
        }
        Outcome::Fault(Fault::client(Kind::Cancelled).tell("the call was withdrawn"))
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        if let Talk::Session(call) = self
            && let Some(call) = call.take()
        {
            // Of a handshake client a call runs on when it is merely dropped.
            call.withdraw();
        }
    }
}

impl Carrier {
    fn begin(self: &Arc<Self>, key: Key, line: Bytes) {
        let carrier = self.clone();
        self.exchanges.begin(key, async move {
            let outcome = carrier.call(key, line).await;
            if let Some(outcome) = outcome.unwrap_or_else(|fault| Some(Outcome::Fault(fault))) {
                carrier.operate(|link| link.handle_end_of(key, outcome));
            }
        });
    }

    fn operate(&self, work: impl FnOnce(&mut landbridge_proto::back::link::Link)) {
        if let Some(instance) = self.instance.upgrade() {
            instance.read_lines(work);
        }
    }

    fn era(&self) -> Era {
        self.revision.era()
    }

    /// One call, to its end; `None`: its answer has been given.
    async fn call(self: &Arc<Self>, key: Key, line: Bytes) -> Result<Option<Outcome>, Fault> {
        let message = Message::read(line).map_err(|bad| Fault::client(Kind::Invalid).tell(bad.why))?;
        let MessageKind::Request(id, method) = message.kind.clone() else { return Ok(None) };
        let (server, message) = match &method {
            Method::ToolsList | Method::PromptsList | Method::ResourcesList | Method::TemplatesList => {
                return self.list(&method, &message).await.map(Some);
            }
            Method::SetLevel => return self.set_level(&message).await.map(Some),
            Method::Listen => return self.listen(key, &id, &message).await.map(Some),
            _ => match letters::about(&method, &message)? {
                About::Name(at, called) => {
                    let (server, own) = self.find(&method, &called, &message).await?;
                    (server, letters::backed(&message, at, &own))
                }
                About::Uri(at, called) => {
                    let found = lock(&self.servers.directory).find_uri(&called);
                    let (server, own) = found.ok_or_else(|| unknown_resource(&called))?;
                    (server, letters::backed(&message, at, &own))
                }
                About::Task(at, called) => {
                    let found = called.split_once(':');
                    let found = found.and_then(|(name, own)| Some((lock(&self.servers.directory).position(name)?, own)));
                    let (server, own) = found.ok_or_else(crate::backend::tasks::unknown)?;
                    (server, letters::backed(&message, at, own))
                }
                // Nobody can say whose it would be.
                About::Nothing => return Err(Fault::client(Kind::UnknownMethod).tell(format!("Method not found: {}", method.as_str()))),
            },
        };
        let mut talk = self.talk(server, message).await?;
        while let Some(said) = talk.next().await {
            let line = self.fronted(server, &said, Some(&method));
            self.operate(|link| link.handle_line_of(key, line));
        }
        Ok(None)
    }

    /// A call at a server, whose session is opened if need be.
    async fn talk(self: &Arc<Self>, server: usize, request: Bytes) -> Result<Talk, Fault> {
        let gateway = self.servers.gateway()?;
        let message = Message::read(request).map_err(|bad| Fault::client(Kind::Invalid).tell(bad.why))?;
        if self.era() == Era::Stateless {
            let (call, backend) = (Box::new(stateless_call(&self.client, message)?), self.servers.backend(server)?);
            let id = call.id.clone();
            let begin = Box::pin(async move { gateway.call_stateless(&backend, call, Wire::Local, None).await });
            return Ok(Talk::Stateless(StatelessCall::beginning(begin, id)));
        }
        let MessageKind::Request(id, method) = message.kind.clone() else {
            return Err(Fault::client(Kind::Invalid).tell("a request is needed here"));
        };
        let live = self.live(server).await?;
        // Its client was told that there are tasks, but not where.
        let has_tasks = live.seated().is_some_and(|peer| peer.server().can.tasks);
        let message = match method {
            Method::ToolsCall if !has_tasks => Message::read(tasks::plain(&message)).unwrap_or(message),
            _ => message,
        };
        let asking = live.clone();
        let begin = Box::pin(async move { gateway.request(&asking, message).await });
        Ok(Talk::Session(Some(SessionCall::beginning(live, id, begin, false))))
    }

    /// Whose tool or prompt that is, and how it is called there. Who may have it is asked for what it has.
    async fn find(self: &Arc<Self>, method: &Method, called: &str, request: &Message) -> Result<(usize, String), Fault> {
        let find = || lock(&self.servers.directory).find(called);
        let tool = *method == Method::ToolsCall;
        let mut found = find();
        if let Found::Perhaps(servers) = found {
            let listing = if tool { Method::ToolsList } else { Method::PromptsList };
            for server in servers {
                self.learn(server, &listing, request).await;
            }
            found = find();
        }
        match found {
            Found::At(server, own) => Ok((server, own)),
            Found::Perhaps(_) | Found::Nowhere => {
                let what = if tool { "tool" } else { "prompt" };
                Err(Fault::client(Kind::Params).tell(format!("Unknown {what}: {called}")))
            }
        }
    }

    /// A message of a server, as our client gets it.
    fn fronted(&self, server: usize, message: &Message, of: Option<&Method>) -> Bytes {
        letters::fronted(message, self.era(), of, &Fronted { servers: &self.servers, server })
    }

    /// What is no call: the answer to a question, or news.
    fn handle_word(&self, line: Bytes) {
        let Ok(message) = Message::read(line) else { return };
        match &message.kind {
            MessageKind::Response(..) => {
                let id = message.string_at(message.id).map(|id| id.into_owned()).unwrap_or_default();
                let Some((server, id)) = id.split_once(':') else { return };
                let (Ok(server), Some(at)) = (server.parse::<usize>(), message.id) else { return };
                let answer = json::splice(&message.bytes, &[(at, id.as_bytes())]);
                if let (Some(live), Ok(answer)) = (self.seats.get(server).and_then(Seat::live), Message::read(answer.into())) {
                    handle_silent(&live, answer);
                }
            }
            MessageKind::Notification(_) => {
                for live in self.seats.iter().filter_map(Seat::live) {
                    handle_silent(&live, message.clone());
                }
            }
            MessageKind::Request(..) => {}
        }
    }
}

/// How things of a server are called in front of us.
struct Fronted<'s> {
    servers: &'s Servers,
    server: usize,
}

impl Front for Fronted<'_> {
    fn uri(&self, own: &str) -> String {
        lock(&self.servers.directory).uri(self.server, own)
    }

    fn task(&self, own: &str) -> String {
        format!("{}:{own}", self.servers.name(self.server))
    }

    fn request(&self, own: &str) -> String {
        json::quote(&format!("{}:{own}", self.server))
    }
}

/// A stateless request of `who` as a call.
fn stateless_call(who: &Client, message: Message) -> Result<Call, Fault> {
    let params = Params::read(&message).map_err(|e| Fault::client(Kind::Invalid).tell(format!("`params`: {e}")))?;
    stateless::read(who.principal.clone(), who.transport, None, message, params).map_err(|refusal| refusal.fault)
}

fn unknown_resource(uri: &str) -> Fault {
    let data = format!("{{\"uri\":{}}}", json::quote(uri));
    Fault::client(Kind::Params).tell(format!("Resource not found: {uri}")).with_data(data)
}

/// The id of a request of our own.
fn own_id(what: &str) -> Id {
    let request = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"landbridge-{what}\",\"method\":\"\"}}");
    match Message::read(request.into()).map(|message| message.kind) {
        Ok(MessageKind::Request(id, _)) => id,
        _ => Id::number(0),
    }
}
