//! What an application is: its name and settings, and how it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;

use landbridge::embed::{AuthConfig, Inside, Limits, Pages, Pipe, Profile, Rates};

use crate::settings::Settings;

/// An application.
#[derive(Debug)]
pub struct App {
    /// By which it is started.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// Where it listens unless told otherwise.
    pub port: u16,
    /// How it is served unless told otherwise.
    pub mode: Mode,
    /// The variables that say how it is served: mode, host, port. Empty names are none.
    pub served_by: ServedBy,
    /// What else it can be told by the environment.
    pub variables: &'static [Variable],
    /// Starts it.
    pub start: fn(Start) -> Starting,
}

/// An application that starts. The error is a sentence for whoever started it.
pub type Starting = Pin<Box<dyn Future<Output = Result<Ready, String>> + Send>>;

/// The variables that are said by flags too.
#[derive(Debug)]
pub struct ServedBy {
    /// `--mode`
    pub mode: &'static str,
    /// `--host`
    pub host: &'static str,
    /// `--port`
    pub port: &'static str,
}

/// A variable of the environment.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What counts without it; empty where that is nothing.
    pub default: &'static str,
    /// What it says.
    pub about: &'static str,
}

/// How an application is served. Over HTTP every transport is there; the mode says which is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// HTTP+SSE is what clients are told of.
    Sse,
    /// Streamable HTTP is.
    Http,
    /// The client has started us.
    Stdio,
}

impl Mode {
    /// All of them, by their names.
    pub const ALL: [(&str, Mode); 3] = [("sse", Mode::Sse), ("http", Mode::Http), ("stdio", Mode::Stdio)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Mode::ALL.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }

    /// The mode of that name.
    pub fn read(name: &str) -> Option<Mode> {
        Mode::ALL.iter().find(|(known, _)| *known == name).map(|(_, mode)| *mode)
    }
}

/// What an application starts with.
#[derive(Debug)]
pub struct Start {
    /// The environment.
    pub settings: Settings,
    /// How it is served.
    pub mode: Mode,
    /// Where it listens; `None` on standard streams. A port of 0 is not known yet.
    pub address: Option<SocketAddr>,
}

impl Start {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.address.is_none_or(|address| address.ip().is_loopback())
    }
}

/// What is served.
pub struct Ready {
    /// The handler.
    pub server: Pipe,
    /// What clients of HTTP+SSE are told.
    pub profile: Profile,
    /// Pages beside it.
    pub pages: Option<Box<dyn FnOnce(Inside) -> Pages + Send>>,
    /// Who may call.
    pub auth: AuthConfig,
    /// Bounds.
    pub limits: Limits,
    /// Pages of these origins may call, and read what they are answered.
    pub origins: Vec<String>,
    /// More names that it is called by.
    pub hosts: Vec<String>,
    /// By which URL the world knows it.
    pub public_url: Option<String>,
    /// A certificate and its key, to listen over TLS with.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where it is written down who did what.
    pub audit: Option<PathBuf>,
    /// How much one caller may ask for.
    pub rates: Rates,
    /// More ports of the same address, at which everything is served too.
    pub more_ports: Vec<u16>,
    /// Is told where it listens, before anybody is answered.
    pub bound: Option<Box<dyn FnOnce(SocketAddr) + Send>>,
}

impl Ready {
    /// A handler, for everybody who can reach it, on the usual wire.
    pub fn new(server: Pipe) -> Ready {
        Ready {
            server,
            profile: Profile::default(),
            pages: None,
            auth: AuthConfig::default(),
            limits: Limits::default(),
            origins: Vec::new(),
            hosts: Vec::new(),
            public_url: None,
            tls: None,
            audit: None,
            rates: Rates::default(),
            more_ports: Vec::new(),
            bound: None,
        }
    }
}
