//! What we run: the outcome of reading and checking what was written.

mod access;
pub mod auth;
mod rates;
mod tools;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use landbridge_proto::back::link;
use landbridge_proto::back::probe::{Patience, Protocol};
use landbridge_proto::bridge::parked;
use landbridge_proto::forwarded::Proxies;
use landbridge_proto::front::session;
use landbridge_proto::headers::Guard;

use crate::profile::Profile;

pub use access::{Access, Algorithm, Browsing, By, Key, TokenStore};
pub use rates::Rates;
pub use tools::{Rights, ToolFilter};

/// Everything a running gateway needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where we listen.
    pub listen: SocketAddr,
    /// By which URL the world knows us, without a path.
    pub public_url: Option<String>,
    /// Under which path all of it is, where a router has put it under one: `/tools`, or nothing.
    pub path: String,
    /// How we listen, if not in plain text.
    pub tls: Option<Tls>,
    /// The servers, by name.
    pub servers: BTreeMap<String, Server>,
    /// Which hosts and pages may call.
    pub guard: Guard,
    /// Who may call.
    pub auth: auth::Auth,
    /// What callers need for what, by server.
    pub rights: BTreeMap<String, Rights>,
    /// Whose word on who called, and by which URL, counts.
    pub proxies: Proxies,
    /// Pages at these origins get CORS headers.
    pub cors: bool,
    /// Every bound.
    pub limits: Limits,
    /// How often, and how much at once.
    pub rates: Rates,
    /// What is told of what happens.
    pub audit: Audit,
    /// What clients of HTTP+SSE are told, and how.
    pub profile: Profile,
    /// How clients come that have no session: over HTTP, unless our standard streams are all that is served.
    pub stateless_over: landbridge_proto::call::Transport,
}

/// What is told of what happens, for those who may have to answer for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Where lines are appended, besides the log.
    pub file: Option<PathBuf>,
    /// Whether calls and sessions are told of, which are many.
    pub calls: bool,
}

/// TLS at our own listener: whose certificate it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Somebody else sees to it.
    Files {
        /// The certificate and what leads from it to an authority, in PEM.
        cert: PathBuf,
        /// Its key, in PEM.
        key: PathBuf,
    },
    /// We get it ourselves, by ACME (RFC 8555).
    Acme(Acme),
}

/// Where certificates are had by ACME, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// The names in the certificate, lower case.
    pub domains: Vec<String>,
    /// Whom the authority can write to: `mailto:…`.
    pub contact: Option<String>,
    /// The URL of the authority's directory.
    pub directory: http::Uri,
    /// What is kept: the account, the certificate and their keys.
    pub cache: PathBuf,
    /// Who vouches for the directory, in PEM, if not the system's authorities.
    pub ca: Option<PathBuf>,
}

/// One server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// What it is.
    pub target: Target,
    /// What it speaks.
    pub protocol: Protocol,
    /// Who shares its children.
    pub isolation: Isolation,
    /// Which of its tools are there for clients.
    pub tools: ToolFilter,
}

/// What a server is.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The demonstration, in this process.
    Demo,
    /// In this process, by the same name: see [`embed`](crate::embed).
    Within,
    /// A child process that speaks over its standard streams.
    Command {
        /// The program and its arguments; never a shell.
        argv: Vec<String>,
        /// Its environment, besides the few that every child gets.
        env: BTreeMap<String, String>,
        /// Where it runs.
        cwd: Option<PathBuf>,
    },
    /// Somewhere else, reached over HTTP.
    Remote {
        /// Its endpoint: `http` or `https`, without a fragment.
        url: http::Uri,
        /// What is sent with every request. Values are marked sensitive.
        headers: http::HeaderMap,
        /// How it is reached.
        transport: Transport,
        /// How we are let in, where it wants a token that `headers` do not hold.
        auth: Option<Box<Access>>,
    },
}

impl Target {
    /// Whether each user has an account of their own there.
    pub fn is_for_each(&self) -> bool {
        matches!(self, Target::Remote { auth: Some(access), .. } if access.by == By::Visitor)
    }

    /// Whether it is reached by `https`.
    pub fn wants_tls(&self) -> bool {
        matches!(self, Target::Remote { url, .. } if url.scheme_str() == Some("https"))
    }
}

/// How a remote server is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// Find out.
    #[default]
    Auto,
    /// Streamable HTTP, of any revision.
    #[value(alias = "streamable-http", alias = "streamablehttp")]
    Http,
    /// HTTP+SSE (2024-11-05).
    Sse,
}

/// Who shares a child that has a handshake. A child of 2026-07-28 is always shared: it keeps
/// nothing of a client between requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Isolation {
    /// Nobody: each session has its own.
    #[default]
    Session,
    /// The sessions of one principal.
    Principal,
    /// Everybody.
    None,
}

/// Every bound, with its default. In a configuration file these are the keys of `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// For the head of a request to arrive.
    pub header_timeout_ms: u64,
    /// For the whole head of a request.
    pub header_bytes: usize,
    /// For the body of a request to arrive.
    pub body_timeout_ms: u64,
    /// For one message, in either direction.
    pub message_bytes: usize,
    /// Open connections.
    pub connections: usize,
    /// Handshake sessions. At the ceiling the longest idle gives way.
    pub sessions: usize,
    /// Without a call or a stream, a session ends after this.
    pub session_idle_ms: u64,
    /// Each session is looked at this often, whether it is one of those.
    pub session_sweep_ms: u64,
    /// A session that did nothing for so long may lose its server's place to somebody who needs it.
    pub session_abandoned_ms: u64,
    /// Streams one session may have.
    pub streams_per_session: usize,
    /// Calls one session may have under way.
    pub calls_per_session: usize,
    /// Open `subscriptions/listen` streams, of all clients together.
    pub listens: usize,
    /// What may wait for a slow reader, per session, call or listen.
    pub queue_bytes: usize,
    /// How long events are kept for a client that comes back.
    pub replay_ms: u64,
    /// A peer that reads nothing for this long is gone.
    pub write_timeout_ms: u64,
    /// Child processes, of all servers together.
    pub children: usize,
    /// Sessions with servers elsewhere, of all together.
    pub remote_sessions: usize,
    /// Calls under way on one child.
    pub calls_per_child: usize,
    /// For one call.
    pub call_timeout_ms: u64,
    /// For a client to answer what a server asks of it.
    pub ask_timeout_ms: u64,
    /// A question at a server that clients share waits this long until it is clear whose it is.
    pub ask_hold_ms: u64,
    /// Calls of stateless clients that wait for answers, at servers of the handshake era. As many tasks
    /// that wait for answers, and as many results of tasks, are kept.
    pub parked_calls: usize,
    /// Calls that wait for their turn at a server that asks.
    pub waiting_calls: usize,
    /// For the answer to `server/discover`, before `initialize` is tried.
    pub probe_ms: u64,
    /// For a server to start and shake hands.
    pub handshake_ms: u64,
    /// A shared child nobody uses is stopped after this.
    pub child_idle_ms: u64,
    /// The head of a POST's answer waits this long for the first reply.
    pub commit_ms: u64,
    /// A comment on every open stream, this often.
    pub keepalive_ms: u64,
    /// What keeps a stream open, a token or a key, is looked up again this often.
    pub recheck_ms: u64,
    /// How long a client that lost its stream should wait.
    pub retry_ms: u64,
    /// For running calls, when we are told to stop.
    pub drain_ms: u64,
    /// For children, when they are told to stop.
    pub child_stop_ms: u64,
    /// How long a verdict about a server's era is trusted, if it was the older one.
    pub verdict_ms: u64,
    /// Lines of a child's stderr per second that reach our log.
    pub stderr_lines_per_s: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_timeout_ms: 30_000,
            header_bytes: 64 * 1024,
            body_timeout_ms: 30_000,
            message_bytes: 16 * 1024 * 1024,
            connections: 50_000,
            sessions: 20_000,
            session_idle_ms: 60 * 60_000,
            session_sweep_ms: 16_000,
            session_abandoned_ms: 60_000,
            streams_per_session: 512,
            calls_per_session: 256,
            listens: 20_000,
            queue_bytes: 1024 * 1024,
            replay_ms: 5 * 60_000,
            write_timeout_ms: 30_000,
            children: 64,
            remote_sessions: 20_000,
            calls_per_child: 10_000,
            call_timeout_ms: 60 * 60_000,
            ask_timeout_ms: 10 * 60_000,
            ask_hold_ms: 30_000,
            parked_calls: 1_000,
            waiting_calls: 1_000,
            probe_ms: 3_000,
            handshake_ms: 30_000,
            child_idle_ms: 10 * 60_000,
            commit_ms: 1_000,
            keepalive_ms: 15_000,
            recheck_ms: 15_000,
            retry_ms: 1_000,
            drain_ms: 10_000,
            child_stop_ms: 5_000,
            verdict_ms: 60 * 60_000,
            stderr_lines_per_s: 50,
        }
    }
}

impl Limits {
    /// What a pipe to a server may hold.
    pub fn link(&self) -> link::Limits {
        link::Limits {
            reply_bytes: self.queue_bytes,
            write_bytes: self.message_bytes,
            calls: self.calls_per_child,
            call: Duration::from_millis(self.call_timeout_ms),
            hold: Duration::from_millis(self.ask_hold_ms),
        }
    }

    /// What may wait for clients that cannot be asked live.
    pub fn parked(&self, rates: &Rates) -> parked::Limits {
        let of_each = (rates.principal_calls > 0).then_some(rates.principal_calls as usize);
        parked::Limits { calls: self.parked_calls, of_each, keep: Duration::from_millis(self.ask_timeout_ms) }
    }

    /// What a session may hold.
    pub fn session(&self) -> session::Limits {
        session::Limits { event_bytes: self.queue_bytes, keep: Duration::from_millis(self.replay_ms), streams: self.streams_per_session }
    }

    /// How long to wait when a server is met.
    pub fn patience(&self) -> Patience {
        Patience { probe: Duration::from_millis(self.probe_ms), handshake: Duration::from_millis(self.handshake_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_names_every_limit_with_its_default() {
        let text = include_str!("../../../examples/limits.toml");
        let file: toml::Table = text.parse().unwrap();
        let named = serde_json::to_value(&file["limits"]).unwrap();
        assert_eq!(named, serde_json::to_value(Limits::default()).unwrap());
    }
}
