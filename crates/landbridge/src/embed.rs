//! Serving Rust code as an MCP server: on every transport, to clients of every revision.
//!
//! ```no_run
//! use landbridge::embed::{Embed, Tools};
//! use serde_json::{Value, json};
//!
//! # async fn serve() -> Result<(), landbridge::embed::Error> {
//! let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
//! let tools = Tools::new("greeter", "1.0.0").tool("greet", "Greets somebody", schema, |who: Value, _| async move {
//!     Ok(format!("Hello, {}!", who["name"].as_str().unwrap_or("stranger")))
//! });
//! Embed::new("greeter", tools).listen("127.0.0.1:8808").run().await
//! # }
//! ```
//!
//! That answers at `http://127.0.0.1:8808/mcp` and `/sse`. What is served is one of two things:
//!
//! - a [`Service`], which gets [`Call`]s and answers them. [`Tools`] is one, made of functions. There is no
//!   session, no task and no channel between a call and its answer;
//! - a [`Pipe`], which reads and writes JSON-RPC, a message a line: the server of any SDK. The crate
//!   `landbridge-rmcp` makes one of a `ServerHandler` of the official SDK.
//!
//! Where it is served is one of three: [`Embed::run`] listens, [`Embed::mount`] is a service for a router
//! such as axum's, and [`Embed::stdio`] is for a client that starts the program itself.

mod mount;
mod tools;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;

pub use landbridge_proto::back::probe::Protocol;
pub use landbridge_proto::call::{Call, Client, Level, Person, Principal, Transport};
pub use landbridge_proto::fault::{Fault, Kind};
pub use landbridge_proto::methods::Method;

pub use crate::backend::local::{Answer, Changes, Ctx, Service};
pub use crate::backend::pool::{Callers, Pipe};
pub use crate::body::Body;
pub use crate::conversation::{Conversation, Left, Visitor};
pub use crate::pages::{Inside, Pages, Record};
pub use crate::plan::{Isolation, Limits, Rates};
pub use crate::profile::{ClientIds, Frames, Keepalive, Opening, Profile, Refusal, Transports};
pub use crate::visits::Visits;
pub use mount::Mounted;
pub use tools::{ToolError, ToolResult, Tools};

use crate::auth::Auth;
pub use crate::auth::keys::Given;
use crate::backend::Within;
pub use crate::config::{AuthConfig, ClientConfig, LoginConfig};
use crate::config::{Config, is_good_name};
use crate::gateway::Gateway;
use crate::plan::{self, Plan, Server, Target, ToolFilter};
use crate::tls::Tls;
use crate::{serve, stdio};

/// Why something cannot be served, and what to do about it.
pub struct Error {
    told: String,
    is_taken: bool,
}

impl From<String> for Error {
    fn from(told: String) -> Error {
        Error { told, is_taken: false }
    }
}

impl Error {
    /// Whether somebody else listens there already.
    pub fn is_taken(&self) -> bool {
        self.is_taken
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)
    }
}

/// As it is told, for a `main` that returns it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)
    }
}

impl std::error::Error for Error {}

/// One server or several, and how they are to be served.
///
/// Unless told otherwise it listens on loopback, answers only to names of this machine, and lets no page
/// read its answers.
pub struct Embed {
    config: Config,
    more_ports: Vec<u16>,
    path: String,
    profile: Profile,
    pages: Option<Beside>,
    within: BTreeMap<String, Within>,
}

type Beside = Box<dyn FnOnce(Inside) -> Pages + Send>;

/// How it is served, what is, and what is beside it.
type Planned = (Plan, BTreeMap<String, Within>, Option<Beside>);

impl fmt::Debug for Embed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embed").field("config", &self.config).field("within", &self.within).finish_non_exhaustive()
    }
}

/// Anything that can be served: a [`Service`], or a [`Pipe`].
pub trait Embeddable {
    /// As what runs.
    #[doc(hidden)]
    fn within(self) -> Within;
}

impl<S: Service> Embeddable for S {
    fn within(self) -> Within {
        Within::Service(Arc::new(self))
    }
}

impl Embeddable for Pipe {
    fn within(self) -> Within {
        Within::Pipe(self)
    }
}

impl Embed {
    /// Serves `server` at `/mcp` and `/sse`, and under its name at `/servers/NAME/mcp` and
    /// `/servers/NAME/sse`.
    pub fn new(name: &str, server: impl Embeddable) -> Embed {
        let (config, profile) = (Config::default(), Profile::default());
        Embed { config, more_ports: Vec::new(), path: String::new(), profile, pages: None, within: BTreeMap::new() }.and(name, server)
    }

    /// One more. Where there are several, `/mcp` and `/sse` show all of them as one, and the names of their
    /// tools begin with `NAME__`.
    pub fn and(mut self, name: &str, server: impl Embeddable) -> Embed {
        self.within.insert(name.into(), server.within());
        self
    }

    /// Where to listen: `ADDR:PORT`, or just a port. By default `127.0.0.1:8808`.
    pub fn listen(mut self, address: impl Into<String>) -> Embed {
        self.config.listen = Some(address.into());
        self
    }

    /// Listens at another port of the same address too. What is served there is the same, sessions and all.
    pub fn listen_too(mut self, port: u16) -> Embed {
        self.more_ports.push(port);
        self
    }

    /// Listens on an address that others can reach, although everybody who does may call.
    pub fn insecure_public(mut self) -> Embed {
        self.config.insecure_public = true;
        self
    }

    /// Asks callers who they are: see `[auth]` in docs/configuration.md. Who lets them in at a router is
    /// [`Embed::mount_guarded`].
    pub fn auth(mut self, auth: AuthConfig) -> Embed {
        self.config.auth = auth;
        self
    }

    /// Listens over TLS with the certificate and the key in these files, in PEM. When they change, so does what is
    /// shown. Only for [`Embed::run`] and [`Embed::bind`].
    pub fn tls(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Embed {
        (self.config.tls.cert, self.config.tls.key) = (Some(cert.into()), Some(key.into()));
        self
    }

    /// The URL by which clients reach it, when a proxy stands in front: `https://mcp.example.com`.
    pub fn public_url(mut self, url: impl Into<String>) -> Embed {
        self.config.public_url = Some(url.into());
        self
    }

    /// Believes this proxy in front of us, an address or a range such as `10.0.0.0/8`, on who called and by which URL
    /// (`Forwarded`, or `X-Forwarded-For`, `-Proto` and `-Host`). From anybody else those mean nothing.
    pub fn trust_proxy(mut self, network: impl Into<String>) -> Embed {
        self.config.trusted_proxies.push(network.into());
        self
    }

    /// Answers to this host name too, exactly.
    pub fn allow_host(mut self, host: impl Into<String>) -> Embed {
        self.config.allow_hosts.push(host.into());
        self
    }

    /// Lets pages of this origin call, exactly: `https://app.example.com`.
    pub fn allow_origin(mut self, origin: impl Into<String>) -> Embed {
        self.config.allow_origins.push(origin.into());
        self
    }

    /// Every bound: sizes, times, sessions.
    pub fn limits(mut self, limits: Limits) -> Embed {
        self.config.limits = limits;
        self
    }

    /// How much one caller may ask for.
    pub fn rates(mut self, rates: Rates) -> Embed {
        self.config.rates = rates;
        self
    }

    /// Appends a line to this file for every session, call and refusal, besides the log.
    pub fn audit(mut self, file: impl Into<PathBuf>) -> Embed {
        self.config.audit.file = Some(file.into());
        self
    }

    /// What clients of HTTP+SSE are told, and how: for those that know the habits of one server.
    pub fn profile(mut self, profile: Profile) -> Embed {
        self.profile = profile;
        self
    }

    /// Serves pages of your own beside it, at the paths that they name. `pages` is called once, with what they may
    /// want to know of what is served.
    pub fn beside(mut self, pages: impl FnOnce(Inside) -> Pages + Send + 'static) -> Embed {
        self.pages = Some(Box::new(pages));
        self
    }

    /// Under which path a router has it, as `/tools`. Then its endpoint is `/tools/mcp`, whether the router
    /// strips that path or not. Only for [`Embed::mount`].
    pub fn path(mut self, path: impl Into<String>) -> Embed {
        self.path = path.into();
        self
    }

    /// Listens, and serves until SIGTERM or Ctrl-C; then ends in good order.
    pub async fn run(self) -> Result<(), Error> {
        let bound = self.bind().await?;
        tracing::info!(address = %bound.address(), "serving MCP at /mcp and /sse");
        bound.run().await;
        Ok(())
    }

    /// Listens, without serving yet: for those who chose port 0, or want to end it themselves.
    pub async fn bind(self) -> Result<Bound, Error> {
        let more_ports = self.more_ports.clone();
        let gateway = self.guarded().await?;
        serve::raise_file_limit();
        let at = gateway.plan.listen;
        let tls = gateway.plan.tls.as_ref().map(Tls::open).transpose().map_err(Error::from)?;
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for port in [at.port()].into_iter().chain(more_ports) {
            let at = SocketAddr::new(at.ip(), port);
            let listening = serve::listen(at).and_then(|listener| Ok((listener.local_addr()?, listener)));
            let (address, listener) = listening.map_err(|e| {
                let is_taken = e.kind() == std::io::ErrorKind::AddrInUse;
                let why = if is_taken { "another program does so already".to_owned() } else { e.to_string() };
                Error { told: format!("cannot listen on {at}: {why}"), is_taken }
            })?;
            addresses.push(address);
            listeners.push(listener);
        }
        Ok(Bound { gateway, listeners, addresses, tls })
    }

    /// Serves the client at the other end of our standard streams; nothing else may be written to standard
    /// output. When the client leaves or a signal comes, the process ends: nobody can tell the thread
    /// that reads standard input to.
    pub async fn stdio(self) -> Result<Infallible, Error> {
        let (plan, within, _) = self.plan()?;
        // Who holds our standard streams has started us.
        let plan = Plan { auth: plan::auth::Auth::default(), stateless_over: Transport::Stdio, ..plan };
        stdio::run(Gateway::with(plan, within).map_err(Error::from)?).await.map_err(Error::from)?;
        std::process::exit(0)
    }

    /// As a service for a router. It has to be made within a tokio runtime, and ends when the last clone of
    /// it is dropped.
    pub fn mount(self) -> Result<Mounted, Error> {
        let (plan, within, pages) = self.plan()?;
        if plan.auth != plan::auth::Auth::default() {
            return Err(Error::from("who may call has to be looked up in a store: use `mount_guarded`".to_owned()));
        }
        let gateway = Gateway::with(plan, within).map_err(Error::from)?;
        Inside::open(&gateway, pages);
        Ok(Mounted::new(gateway))
    }

    /// The same, where callers are asked who they are.
    pub async fn mount_guarded(self) -> Result<Mounted, Error> {
        Ok(Mounted::new(self.guarded().await?))
    }

    async fn guarded(self) -> Result<Arc<Gateway>, Error> {
        let (plan, within, pages) = self.plan()?;
        let auth = Auth::open(plan.auth.clone()).await.map_err(Error::from)?;
        let gateway = Gateway::build(plan, auth, within).map_err(Error::from)?;
        Inside::open(&gateway, pages);
        Ok(gateway)
    }

    fn plan(self) -> Result<Planned, Error> {
        let mut plan = self.config.check().map_err(|faults| Error::from(faults.to_string()))?;
        let path = self.path.trim_end_matches('/');
        if !(path.is_empty() || path.starts_with('/')) {
            return Err(Error::from(format!("the path {path:?} must begin with a slash")));
        }
        // One of ours, taken away or not, would be another of ours.
        const OURS: [&str; 20] = [
            ".well-known",
            "mcp",
            "sse",
            "message",
            "messages",
            "servers",
            "healthz",
            "readyz",
            "metrics",
            "authorize",
            "login",
            "logout",
            "callback",
            "consent",
            "token",
            "register",
            "revoke",
            "introspect",
            "jwks",
            "connect",
        ];
        if let Some(ours) = path.split('/').nth(1).filter(|first| OURS.contains(first)) {
            return Err(Error::from(format!("the path {path:?} cannot begin with /{ours}, which is a path of its own below it")));
        }
        plan.path = path.into();
        if plan.auth.mode != plan::auth::Mode::None {
            plan.auth.words = [self.profile.no_key.clone(), self.profile.bad_key.clone()];
        }
        plan.profile = self.profile;
        plan.servers.clear();
        for (name, server) in &self.within {
            if !is_good_name(name) {
                return Err(Error::from(format!("server name `{name}`: use up to 64 letters, digits, `.`, `_` and `-`, for URLs")));
            }
            let (protocol, isolation) = match server {
                Within::Pipe(pipe) => (pipe.protocol, pipe.isolation),
                Within::Service(_) => (Protocol::Auto, Isolation::default()),
            };
            plan.servers.insert(name.clone(), Server { target: Target::Within, protocol, isolation, tools: ToolFilter::default() });
        }
        Ok((plan, self.within, self.pages))
    }
}

/// What listens and is not served yet. Clients that connect wait.
pub struct Bound {
    gateway: Arc<Gateway>,
    listeners: Vec<TcpListener>,
    /// Of each of them; the first is the one that is told.
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<Tls>>,
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Bound {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// The same, and where else: [`Embed::listen_too`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until SIGTERM or Ctrl-C; then ends in good order. A second signal ends the process.
    pub async fn run(self) {
        serve::run(self.gateway, self.listeners, self.tls).await;
    }

    /// Serves until `stop` is done; then ends in good order: running calls have as long as
    /// [`Limits::drain_ms`] says.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        serve::run_until(self.gateway, self.listeners, self.tls, stop).await;
    }
}
