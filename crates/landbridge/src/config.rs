//! What was written: a TOML file (or the file of a client, in its own dialect), and the command
//! line, which wins. `Config::check` is the only way from here to a [`Plan`](crate::plan::Plan).
//!
//! ```toml
//! listen = "127.0.0.1:8808"
//!
//! [servers.files]
//! command = "npx"
//! args = ["-y", "@modelcontextprotocol/server-filesystem", "/srv"]
//! ```
//!
//! ```text
//!   text ──tree──▶ Node ──file────▶ Config ──check──▶ Plan
//!                    └────client──▶ Config ──show───▶ text
//! ```
//!
//! Every part collects what is wrong instead of stopping at it, and knows where it was written, so
//! that all of it is told at once: see [`Faults`].

mod auth;
mod check;
mod client;
mod fault;
mod file;
mod flags;
mod show;
mod suggest;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landbridge_proto::oauth::secret::Secret;

pub(crate) use check::is_good_name;
pub use check::{command_line, is_url, parse_protocol, remote_url};
pub use fault::Faults;
use fault::{Fault, Source, Span};
pub use file::{ACCESS_KEYS, ACME_KEYS, AUDIT_KEYS, AUTH_KEYS, KEYS, SERVER_KEYS, TLS_KEYS, TOOLS_KEYS};
pub use show::Shown;
use tree::{Node, Value};

use crate::auth::keys::Given;
use crate::plan::{Algorithm, Browsing, Isolation, Limits, Rates, Transport};

/// Where we listen unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8808";

/// Whose certificates by ACME are, unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "letsencrypt";

/// A configuration, as written.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `ADDR:PORT`
    pub listen: Option<String>,
    /// By which URL the world knows us.
    pub public_url: Option<String>,
    /// Proxies whose word on who called, and by which URL, counts: addresses, or ranges of them.
    pub trusted_proxies: Vec<String>,
    /// More host names to answer to.
    pub allow_hosts: Vec<String>,
    /// Web pages that may call.
    pub allow_origins: Vec<String>,
    /// Serve a public address without authorization.
    pub insecure_public: bool,
    /// TLS at our own listener.
    pub tls: TlsConfig,
    /// The servers, by name.
    pub servers: BTreeMap<String, ServerConfig>,
    /// Who may call.
    pub auth: AuthConfig,
    /// Every bound.
    pub limits: Limits,
    /// How often, and how much at once.
    pub rates: Rates,
    /// What is told of what happens.
    pub audit: AuditConfig,
    /// Where all this was written, if that was in a file.
    written: Written,
}

/// Where a configuration was written.
#[derive(Clone, Debug, Default)]
struct Written {
    source: Option<Arc<Source>>,
    /// By the keys that lead there.
    places: BTreeMap<Vec<String>, Span>,
    /// The values of headers and variables.
    secrets: Vec<Span>,
    notes: Vec<Note>,
}

/// What a client's file says and we cannot.
#[derive(Clone, Debug)]
struct Note {
    fault: Fault,
    /// To do without it would let somebody in, or serve something else: it is not served like that.
    refuses: bool,
}

/// TLS, as written: a certificate in files, or one by ACME.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsConfig {
    /// The certificate and what leads from it to an authority, in PEM.
    pub cert: Option<PathBuf>,
    /// Its key, in PEM.
    pub key: Option<PathBuf>,
    /// How we get one ourselves.
    pub acme: Option<AcmeConfig>,
}

/// A certificate by ACME, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AcmeConfig {
    /// The names in the certificate.
    pub domains: Vec<String>,
    /// Whom the authority can write to.
    pub contact: Option<String>,
    /// `letsencrypt`, `letsencrypt-staging`, or the URL of a directory.
    pub directory: Option<String>,
    /// Where the account, the certificate and their keys are kept.
    pub cache: Option<PathBuf>,
    /// Who vouches for the directory, in PEM.
    pub ca: Option<PathBuf>,
}

/// What is told of what happens, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditConfig {
    /// Where lines are appended, besides the log.
    pub file: Option<PathBuf>,
    /// Whether calls and sessions are told of; unless said otherwise, where there is a file.
    pub calls: Option<bool>,
}

/// One server, as written.
#[derive(Clone, Debug, Default)]
pub struct ServerConfig {
    /// Where a remote server is.
    pub url: Option<String>,
    /// Headers for a remote server. `${NAME}` in a value is taken from our environment.
    pub headers: BTreeMap<String, String>,
    /// How a remote server is reached.
    pub transport: Option<Transport>,
    /// How we are let in at a remote server.
    pub auth: Option<AccessConfig>,
    /// A user at this machine may be asked to let us in; in no file.
    pub login: Option<Login>,
    /// The program.
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment. `${NAME}` in a value is taken from ours, and `$${` stands for `${`.
    pub env: BTreeMap<String, String>,
    /// Where it runs.
    pub cwd: Option<PathBuf>,
    /// `auto`, `legacy`, or a revision.
    pub protocol: Option<String>,
    /// Who shares its children.
    pub isolation: Option<Isolation>,
    /// The scopes that its callers need.
    pub scopes: Vec<String>,
    /// Which of its tools are there for clients.
    pub tools: ToolsConfig,
    /// The demonstration server.
    pub demo: bool,
    /// Leave it out.
    pub disabled: bool,
}

/// How we are let in at a remote server, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccessConfig {
    /// What the authorization server calls us.
    pub client_id: Option<String>,
    /// The client's secret. `${NAME}` in it is taken from our environment.
    pub client_secret: Option<Secret>,
    /// A file with the client's private key, in place of a secret.
    pub private_key: Option<PathBuf>,
    /// What is signed with it.
    pub key_alg: Option<Algorithm>,
    /// For whom what is signed is.
    pub audience: Option<String>,
    /// What is asked for.
    pub scope: Option<String>,
    /// Each user of ours logs in there by themselves.
    pub per_user: bool,
    /// The URL of a document that describes us, where each user logs in.
    pub client_metadata_url: Option<String>,
}

/// How a user at this machine lets us in at a remote server.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// The URL of a document that describes us.
    pub document: Option<String>,
    /// How they are asked.
    pub browsing: Browsing,
}

/// Who may call, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuthConfig {
    /// `none`, `keys`, `oauth`, `jwt`, `introspection`.
    pub mode: Option<String>,
    /// What tokens can hold, each with a sentence for users.
    pub scopes: BTreeMap<String, String>,
    /// Audiences that mean all of us, besides our URLs.
    pub audience: Vec<String>,
    /// Where tokens, clients, keys and users are kept.
    pub store: Option<String>,
    /// Whether strangers may register as clients.
    pub registration: Option<bool>,
    /// Whether a client may name itself by the URL of a document.
    pub client_documents: Option<bool>,
    /// Hosts of such documents that may be at private addresses.
    pub document_hosts: Vec<String>,
    /// Who issues tokens, if not we.
    pub issuer: Option<String>,
    /// How its tokens may be signed.
    pub algorithms: Vec<String>,
    /// What the `typ` of its tokens must be.
    pub typ: Option<String>,
    /// How far its clock and ours may differ, in seconds.
    pub leeway_s: Option<u64>,
    /// Where its keys are, if its document is not to be asked.
    pub jwks_url: Option<String>,
    /// Where it is asked about tokens, if its document is not to be asked.
    pub introspection_url: Option<String>,
    /// Our id there.
    pub client_id: Option<String>,
    /// Our secret there. `${NAME}` is taken from our environment.
    pub client_secret: Option<String>,
    /// How that is shown: `basic` or `post`.
    pub client_auth: Option<String>,
    /// Whether access tokens of ours are signed.
    pub signed: bool,
    /// How long access tokens live, in seconds.
    pub access_token_s: Option<u64>,
    /// How long refresh tokens live that nobody uses, in seconds.
    pub refresh_token_s: Option<u64>,
    /// How long what a user agreed to holds, in seconds.
    pub agreement_s: Option<u64>,
    /// How users log in.
    pub login: LoginConfig,
    /// Clients that are known beforehand, by their ids.
    pub clients: BTreeMap<String, ClientConfig>,
    /// API keys instead of those of the environment; only a program that embeds us has such.
    pub keys: Vec<Given>,
    /// Whether 32 digits of hexadecimal are a token, whoever has made them up: for tests of clients on this machine, and
    /// only for a program that embeds us. Each is somebody else.
    pub insecure_test_tokens: bool,
}

/// How users log in, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoginConfig {
    /// `local`, `github`, `google`, `oidc`.
    pub provider: Option<String>,
    /// The issuer, of `oidc`; the address, of a GitHub of one's own.
    pub issuer: Option<String>,
    /// Where the issuer's document is, of `google` and `oidc`, if not where it should be.
    pub discovery_url: Option<String>,
    /// What else is asked of an issuer: parameters of the URL that users are sent to.
    pub params: BTreeMap<String, String>,
    /// Our id at the provider.
    pub client_id: Option<String>,
    /// Our secret there. `${NAME}` is taken from our environment.
    pub client_secret: Option<String>,
    /// Who may log in.
    pub users: Vec<String>,
    /// Whose members may log in, at GitHub.
    pub organisations: Vec<String>,
    /// Of which hosted domains, at Google and elsewhere.
    pub domains: Vec<String>,
    /// With which verified addresses, or `@example.com` for all of a domain.
    pub emails: Vec<String>,
    /// How often at most the provider is asked again whether they still may, in seconds.
    pub ask_again_s: Option<u64>,
}

/// A client that is known beforehand, as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientConfig {
    /// What users read.
    pub name: Option<String>,
    /// Its secret, if it can keep one. `${NAME}` is taken from our environment.
    pub secret: Option<String>,
    /// Where its codes may go.
    pub redirect_uris: Vec<String>,
    /// The most that it gets.
    pub scopes: Option<Vec<String>>,
}

/// Which tools of a server are there for clients: names, or patterns with `*`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolsConfig {
    /// These and no others, if written.
    pub allow: Option<Vec<String>>,
    /// Not these.
    pub deny: Vec<String>,
    /// The scopes that calls of these need.
    pub scopes: BTreeMap<String, Vec<String>>,
}

impl Config {
    /// Reads a file: ours, or a client's in its own dialect. [`Config::notes`] tells what had to be
    /// left out of it.
    pub fn read(path: &Path) -> Result<Config, Faults> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|e| Config::unread(&name, &e.to_string()))?;
        Config::parse_bytes(&name, bytes)
    }

    /// The same for what such a file holds.
    pub fn parse_bytes(name: &str, bytes: Vec<u8>) -> Result<Config, Faults> {
        match String::from_utf8(bytes) {
            Ok(text) => Config::parse(name, text),
            Err(e) => Err(Config::unread(name, &format!("it is no UTF-8 from byte {} on", e.utf8_error().valid_up_to()))),
        }
    }

    /// The same for what is known to be text.
    pub fn parse(name: &str, text: String) -> Result<Config, Faults> {
        let source = Arc::new(Source { name: name.into(), text });
        let (notation, tree) = tree::read(&source.text);
        let tree = tree.map_err(|list| Faults::new(Some(source.clone()), Vec::new(), list))?;
        let mut written = Written { source: Some(source.clone()), ..Written::default() };
        written.keep_secrets(&tree, false);
        let mut faults = Vec::new();
        let config = match client::servers_of(&tree, notation) {
            Some(dialect) => client::read(&tree, &dialect, written, &mut faults),
            None if notation == tree::Notation::Toml => file::read(&tree, written, &mut faults),
            None => {
                faults.push(Fault { at: None, said: client::NO_SERVERS.into() });
                Config { written, ..Config::default() }
            }
        };
        if faults.is_empty() { Ok(config) } else { Err(Faults::new(Some(source), config.written.secrets, faults)) }
    }

    fn unread(name: &str, why: &str) -> Faults {
        Faults::from(format!("cannot read {name}: {why}"))
    }

    /// Refuses what a client's file demands and we would not keep: left out, it would let somebody in
    /// or serve something else.
    pub fn to_be_served(self) -> Result<Config, Faults> {
        let refused: Vec<Fault> = self.written.notes.iter().filter(|n| n.refuses).map(|n| n.fault.clone()).collect();
        if refused.is_empty() { Ok(self) } else { Err(self.faults(refused)) }
    }

    /// What was left out of a client's file or taken otherwise, one line each.
    pub fn notes(&self) -> Vec<String> {
        let notes = self.written.notes.iter().map(|note| note.fault.clone()).collect();
        self.faults(notes).brief().collect()
    }

    /// What is wrong with what stands under these keys, though it could be run; `None`: nothing.
    pub fn refuse(&self, wrong: &[(Vec<&str>, String)]) -> Option<Faults> {
        let list: Vec<Fault> = wrong.iter().map(|(path, said)| Fault { at: self.written.place(path), said: said.clone() }).collect();
        (!list.is_empty()).then(|| self.faults(list))
    }

    fn faults(&self, list: Vec<Fault>) -> Faults {
        Faults::new(self.written.source.clone(), self.written.secrets.clone(), list)
    }

    /// What the file says under this key does not count any more: the command line says better.
    pub fn overrule(&mut self, key: &str) {
        self.written.places.retain(|path, _| path.last().is_none_or(|last| last != key));
    }

    /// Adds a server named on the command line: `NAME=TARGET`, the target a command line or a URL.
    pub fn add_server(&mut self, written: &str) -> Result<(), String> {
        let (name, target) = written.split_once('=').ok_or_else(|| {
            format!("--server {written}: write NAME=TARGET, such as --server files='npx -y @modelcontextprotocol/server-filesystem /srv'")
        })?;
        self.set_target(name, target).map_err(|e| format!("--server {name}: {e}"))
    }

    /// Adds a server by its URL or its command line.
    pub fn set_target(&mut self, name: &str, target: &str) -> Result<(), String> {
        if is_url(target) {
            return self.set_server(name, ServerConfig { url: Some(target.into()), ..ServerConfig::default() });
        }
        self.set_command(name, command_line(target)?)
    }

    /// Adds a server by its command.
    pub fn set_command(&mut self, name: &str, argv: Vec<String>) -> Result<(), String> {
        let mut argv = argv.into_iter();
        self.set_server(name, ServerConfig { command: argv.next(), args: argv.collect(), ..ServerConfig::default() })
    }

    /// What every server speaks.
    pub fn set_protocol(&mut self, protocol: &str) {
        self.overrule("protocol");
        self.servers.values_mut().for_each(|server| server.protocol = Some(protocol.into()));
    }

    /// Who shares the children of every server.
    pub fn set_isolation(&mut self, isolation: Isolation) {
        self.servers.values_mut().for_each(|server| server.isolation = Some(isolation));
    }

    /// A variable for every server that has an environment; its value is taken as it is.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.add_env(name, &value.replace("${", "$${"));
    }

    /// Passes a variable of ours on to every server that has an environment.
    pub fn pass_env(&mut self, name: &str) {
        self.add_env(name, &format!("${{{name}}}"));
    }

    fn add_env(&mut self, name: &str, value: &str) {
        for server in self.servers.values_mut().filter(|server| server.command.is_some()) {
            server.env.insert(name.into(), value.into());
        }
    }

    fn set_server(&mut self, name: &str, server: ServerConfig) -> Result<(), String> {
        match self.servers.insert(name.into(), server) {
            Some(_) => Err(format!("two servers are called `{name}`; every server needs a name of its own")),
            None => Ok(()),
        }
    }
}

impl Written {
    /// Remembers where everything below a node is.
    fn keep_places(&mut self, path: &mut Vec<String>, node: &Node) {
        let mut keep = |path: &mut Vec<String>, part: String, at: &Span, node: &Node| {
            path.push(part);
            self.places.insert(path.clone(), at.clone());
            self.keep_places(path, node);
            path.pop();
        };
        match &node.value {
            Value::Table(entries) => {
                for entry in entries {
                    // A table is everywhere; its name is at one place.
                    let at = if matches!(entry.node.value, Value::Table(_)) { &entry.key_at } else { &entry.node.at };
                    keep(path, entry.key.clone(), at, &entry.node);
                }
            }
            Value::List(all) => all.iter().enumerate().for_each(|(n, node)| keep(path, n.to_string(), &node.at, node)),
            _ => {}
        }
    }

    /// Remembers what is not to be shown when something beside it is.
    fn keep_secrets(&mut self, node: &Node, secret: bool) {
        const SECRET: [&str; 8] = ["env", "envs", "headers", "http_headers", "authTokens", "oauth", "secret", "client_secret"];
        match &node.value {
            Value::Table(entries) => {
                for entry in entries {
                    self.keep_secrets(&entry.node, secret || SECRET.contains(&entry.key.as_str()));
                }
            }
            Value::List(all) => all.iter().for_each(|node| self.keep_secrets(node, secret)),
            _ if secret => self.secrets.push(node.at.clone()),
            _ => {}
        }
    }

    /// Where this was written, or what it is part of.
    fn place(&self, path: &[&str]) -> Option<Span> {
        let mut path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        while !path.is_empty() {
            if let Some(at) = self.places.get(&path) {
                return Some(at.clone());
            }
            path.pop();
        }
        None
    }
}
