//! What was written: a TOML file (or the `mcpServers` JSON of a client), and the command line,
//! which wins. `Config::check` is the only way from here to a [`Plan`].
//!
//! ```toml
//! listen = "127.0.0.1:8808"
//!
//! [servers.files]
//! command = "npx"
//! args = ["-y", "@modelcontextprotocol/server-filesystem", "/srv"]
//! ```

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::Deserialize;

use landbridge_proto::back::probe::Protocol;
use landbridge_proto::headers::Guard;
use landbridge_proto::version::Revision;

use crate::plan::{Isolation, Limits, Plan, Server, Target, Transport};

/// Where we listen unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8808";

/// A configuration file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `ADDR:PORT`
    pub listen: Option<String>,
    /// By which URL the world knows us.
    pub public_url: Option<String>,
    /// More host names to answer to.
    pub allow_hosts: Vec<String>,
    /// Web pages that may call.
    pub allow_origins: Vec<String>,
    /// Serve a public address without authorization.
    pub insecure_public: bool,
    /// The servers, by name.
    pub servers: BTreeMap<String, ServerConfig>,
    /// Every bound.
    pub limits: Limits,
}

/// One server, as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Where a remote server is.
    pub url: Option<String>,
    /// Headers for a remote server. `${NAME}` in a value is taken from our environment.
    pub headers: BTreeMap<String, String>,
    /// How a remote server is reached.
    pub transport: Option<Transport>,
    /// The program.
    pub command: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment. `${NAME}` in a value is taken from ours.
    pub env: BTreeMap<String, String>,
    /// Its environment as the command line gives it: taken as it is.
    #[serde(skip)]
    pub literal_env: BTreeMap<String, String>,
    /// Where it runs.
    pub cwd: Option<PathBuf>,
    /// `auto`, `legacy`, or a revision.
    pub protocol: Option<String>,
    /// Who shares its children.
    pub isolation: Option<Isolation>,
    /// The demonstration server.
    pub demo: bool,
    /// Leave it out.
    pub disabled: bool,
}

impl Config {
    /// Reads a file: TOML, or a client's JSON if its name ends in `.json`.
    pub fn read(path: &Path) -> Result<Config, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        let json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
        let read = if json { Config::from_client_json(&text) } else { toml::from_str(&text).map_err(|e| e.to_string()) };
        read.map_err(|e| format!("{}: {}", path.display(), e.trim_end()))
    }

    /// Reads the servers of a client's configuration: `mcpServers` as in Claude Desktop and
    /// Cursor, `servers` as in VS Code, `context_servers` as in Zed.
    pub fn from_client_json(text: &str) -> Result<Config, String> {
        let json: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let servers = ["mcpServers", "servers", "context_servers"].iter().find_map(|k| json.get(k)?.as_object());
        let servers = servers.ok_or("no `mcpServers`, `servers` or `context_servers` in it")?;
        let mut config = Config::default();
        for (name, written) in servers {
            let text = |keys: &[&str]| keys.iter().find_map(|k| written.get(k)?.as_str().map(str::to_owned));
            let command = text(&["command", "cmd"]);
            let url = text(&["url", "serverUrl", "uri", "httpUrl"]);
            if command.is_none() && url.is_none() {
                return Err(format!("server `{name}`: neither a `command` nor a `url`"));
            }
            let headers = written.get("headers").and_then(|h| h.as_object()).cloned().unwrap_or_default();
            let args = written.get("args").and_then(|a| a.as_array()).cloned().unwrap_or_default();
            let env = ["env", "envs"].iter().find_map(|k| written.get(k)?.as_object()).cloned().unwrap_or_default();
            let disabled = written.get("disabled").and_then(|d| d.as_bool()).unwrap_or(false)
                || written.get("enabled").and_then(|d| d.as_bool()) == Some(false);
            let server = ServerConfig {
                url: url.filter(|_| command.is_none()),
                headers: headers.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
                transport: (written.get("type").and_then(|t| t.as_str()) == Some("sse")).then_some(Transport::Sse),
                command,
                args: args.iter().filter_map(|a| a.as_str().map(str::to_owned)).collect(),
                env: env.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
                cwd: text(&["cwd"]).map(PathBuf::from),
                disabled,
                ..ServerConfig::default()
            };
            config.servers.insert(name.clone(), server);
        }
        Ok(config)
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

    fn set_server(&mut self, name: &str, server: ServerConfig) -> Result<(), String> {
        match self.servers.insert(name.into(), server) {
            Some(_) => Err(format!("two servers are called `{name}`; every server needs a name of its own")),
            None => Ok(()),
        }
    }

    /// From what was written to what we run; the error says what to mend.
    pub fn check(&self) -> Result<Plan, String> {
        let written = self.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
        let listen = address(written)?;
        let loopback = listen.ip().is_loopback();
        if !loopback && !self.insecure_public {
            return Err(format!(
                "listening on {listen} would let everybody who reaches this machine run the servers behind it, and there is no \
                 authorization yet; listen on 127.0.0.1, put a proxy with authorization in front, or say --insecure-public"
            ));
        }
        let mut hosts: Vec<String> = self.allow_hosts.iter().map(|h| h.trim().to_ascii_lowercase()).collect();
        let mut origins = Vec::new();
        for origin in &self.allow_origins {
            origins.push(check_origin(origin)?);
        }
        let public_url = match &self.public_url {
            Some(url) => {
                let origin = check_origin(url.trim_end_matches('/')).map_err(|e| format!("public URL: {e}"))?;
                hosts.push(origin.split_once("://").map_or("", |(_, host)| host).to_owned());
                origins.push(origin.clone());
                Some(origin)
            }
            None => None,
        };
        if !loopback && hosts.is_empty() {
            // On a public bind the name we are called by is unknown; the address itself is not.
            hosts.push(if listen.is_ipv6() { format!("[{}]", listen.ip()) } else { listen.ip().to_string() });
        }
        let mut servers = BTreeMap::new();
        for (name, server) in self.servers.iter().filter(|(_, s)| !s.disabled) {
            let good = !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if !good {
                return Err(format!(
                    "server name `{name}`: use up to 64 letters, digits, `.`, `_` and `-`, because it becomes part of URLs"
                ));
            }
            servers.insert(name.clone(), server.check().map_err(|e| format!("server `{name}`: {e}"))?);
        }
        if servers.is_empty() {
            let demo = Server { target: Target::Demo, protocol: Protocol::Auto, isolation: Isolation::Session };
            servers.insert("demo".into(), demo);
        }
        self.limits.check()?;
        let cors = !self.allow_origins.is_empty();
        Ok(Plan { listen, public_url, servers, guard: Guard { loopback, hosts, origins }, cors, limits: self.limits })
    }
}

impl ServerConfig {
    fn check(&self) -> Result<Server, String> {
        let target = match (&self.command, &self.url) {
            (None, None) if self.demo => Target::Demo,
            (None, None) => return Err("neither a `command` nor a `url`".into()),
            (Some(_), Some(_)) => return Err("`command` and `url` exclude each other".into()),
            _ if self.demo => return Err("`demo` excludes `command` and `url`".into()),
            (None, Some(url)) => {
                let (url, headers) = (remote_url(url)?, self.remote_headers()?);
                Target::Remote { url, headers, transport: self.transport.unwrap_or_default() }
            }
            (Some(_), None) if !self.headers.is_empty() || self.transport.is_some() => {
                return Err("`headers` and `transport` are for servers with a `url`".into());
            }
            (Some(command), None) => {
                let mut env = BTreeMap::new();
                for (key, value) in &self.env {
                    env.insert(key.clone(), expand(value)?);
                }
                env.extend(self.literal_env.clone());
                let argv = std::iter::once(command.clone()).chain(self.args.iter().cloned()).collect();
                Target::Command { argv, env, cwd: self.cwd.clone() }
            }
        };
        let protocol = self.protocol.as_deref().map_or(Ok(Protocol::Auto), parse_protocol)?;
        Ok(Server { target, protocol, isolation: self.isolation.unwrap_or_default() })
    }
}

impl ServerConfig {
    fn remote_headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let bad = |why: &str| format!("header `{name}`: {why}");
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("is no name for a header"))?;
            if OURS.contains(&key.as_str()) || key.as_str().starts_with("mcp-") {
                return Err(bad("is one that this gateway sets itself"));
            }
            let mut value = HeaderValue::from_str(expand(value).map_err(|e| bad(&e))?.trim())
                .map_err(|_| bad("its value holds a character that headers cannot carry"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(headers)
    }
}

/// What each request of ours says of itself.
const OURS: [&str; 9] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "accept-encoding", "last-event-id", "upgrade"];

impl Limits {
    fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("message_bytes", self.message_bytes),
            ("queue_bytes", self.queue_bytes),
            ("sessions", self.sessions),
            ("children", self.children),
            ("remote_sessions", self.remote_sessions),
            ("connections", self.connections),
            ("streams_per_session", self.streams_per_session),
            ("calls_per_session", self.calls_per_session),
            ("calls_per_child", self.calls_per_child),
            ("keepalive_ms", self.keepalive_ms as usize),
        ] {
            if value == 0 {
                return Err(format!("limits.{name} must not be 0"));
            }
        }
        if self.header_bytes < 8 * 1024 {
            return Err("limits.header_bytes must be 8192 or more".into());
        }
        if self.calls_per_child > 1_000_000 {
            return Err("limits.calls_per_child must be 1000000 or less".into());
        }
        if self.message_bytes > 1 << 30 {
            return Err("limits.message_bytes must be 1073741824 (1 GiB) or less".into());
        }
        Ok(())
    }
}

/// `auto`, `legacy`, or a published revision.
pub fn parse_protocol(written: &str) -> Result<Protocol, String> {
    match written {
        "auto" => Ok(Protocol::Auto),
        "legacy" => Ok(Protocol::Legacy),
        date => Revision::parse(date).map(Protocol::Pinned).ok_or_else(|| {
            let known: Vec<&str> = Revision::ALL.iter().map(|r| r.as_str()).collect();
            format!("protocol `{date}` is unknown; use auto, legacy, or one of {}", known.join(", "))
        }),
    }
}

/// Whether a target is a remote server's address and not a command line.
pub fn is_url(target: &str) -> bool {
    let lower = target.trim_start().get(..8).unwrap_or(target).to_ascii_lowercase();
    lower.starts_with("http://") || lower.starts_with("https://")
}

/// The address of a remote server.
pub fn remote_url(written: &str) -> Result<Uri, String> {
    let bad = |why: &str| format!("`{written}` {why}; write https://HOST/PATH");
    let plain = written.trim().split('#').next().unwrap_or_default();
    let url: Uri = plain.parse().map_err(|e| bad(&format!("is no URL ({e})")))?;
    if !is_url(written) || url.host().is_none_or(str::is_empty) {
        return Err(bad("is no http or https URL"));
    }
    if url.authority().is_some_and(|a| a.as_str().contains('@')) {
        return Err("a user name or password in a URL ends up in logs; use `headers` with ${NAME} instead".into());
    }
    Ok(url)
}

/// A command line, split into words as a shell would, without being one.
pub fn command_line(target: &str) -> Result<Vec<String>, String> {
    match shlex::split(target) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err("the command is empty".into()),
        None => Err(format!("unbalanced quotes in {target:?}")),
    }
}

/// An address to listen on: `ADDR:PORT`, `:PORT` or `PORT`.
fn address(written: &str) -> Result<SocketAddr, String> {
    let full = match written.strip_prefix(':') {
        Some(port) => format!("127.0.0.1:{port}"),
        None if written.bytes().all(|b| b.is_ascii_digit()) => format!("127.0.0.1:{written}"),
        None => written.to_owned(),
    };
    let resolved =
        full.to_socket_addrs().map_err(|e| format!("cannot listen on {written:?}: {e}; write ADDR:PORT, such as {DEFAULT_LISTEN}"))?;
    resolved.into_iter().next().ok_or_else(|| format!("cannot listen on {written:?}: it has no address"))
}

/// `scheme://host[:port]`, nothing behind it.
fn check_origin(written: &str) -> Result<String, String> {
    let lower = written.trim().to_ascii_lowercase();
    if lower == "*" {
        return Ok(lower);
    }
    let good = lower
        .strip_prefix("http://")
        .or_else(|| lower.strip_prefix("https://"))
        .is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']));
    good.then_some(lower)
        .ok_or_else(|| format!("{written:?} is no origin; write scheme://host[:port] without a path, such as https://app.example.com"))
}

/// `${NAME}` from our environment; a name that is not set is an error, not an empty secret.
fn expand(value: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}').ok_or_else(|| format!("`${{` without `}}` in {value:?}"))?;
        out.push_str(before);
        out.push_str(&std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?);
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Result<Plan, String> {
        toml::from_str::<Config>(text).map_err(|e| e.to_string())?.check()
    }

    #[test]
    fn nothing_written_is_the_demo_on_loopback() {
        let plan = toml("").unwrap();
        assert_eq!(plan.listen.to_string(), DEFAULT_LISTEN);
        assert_eq!(plan.servers["demo"].target, Target::Demo);
        assert!(plan.guard.loopback && !plan.cors);
    }

    #[test]
    fn a_public_bind_must_be_meant() {
        assert!(toml("listen = \"0.0.0.0:80\"").unwrap_err().contains("--insecure-public"));
        assert!(toml("listen = \"0.0.0.0:80\"\ninsecure_public = true").is_ok());
    }

    #[test]
    fn faults_say_what_to_mend() {
        for (text, part) in [
            ("[servers.a]", "neither a `command` nor a `url`"),
            ("[servers.a]\nurl=\"https://h\"\ncommand=\"x\"", "exclude each other"),
            ("[servers.a]\nurl=\"https://h\"\nheaders={Host=\"x\"}", "sets itself"),
            ("[servers.a]\nurl=\"https://h\"\nheaders={A=\"${SURELY_NOT_SET_ANYWHERE}\"}", "is not set"),
            ("[servers.a]\ncommand=\"x\"\nheaders={A=\"b\"}", "for servers with a `url`"),
            ("[servers.\"a/b\"]\ncommand=\"x\"", "becomes part of URLs"),
            ("[servers.a]\ncommand=\"x\"\nprotocol=\"2025\"", "use auto, legacy, or one of 2024-11-05"),
            ("[servers.a]\ncommand=\"x\"\nenv={T=\"${SURELY_NOT_SET_ANYWHERE}\"}", "SURELY_NOT_SET_ANYWHERE is not set"),
            ("allow_origins=[\"app.example.com\"]", "is no origin"),
            ("listen=\"nowhere\"", "write ADDR:PORT"),
            ("[limits]\nsessions=0", "limits.sessions must not be 0"),
            ("lisen=\"x\"", "unknown field `lisen`"),
        ] {
            let error = toml(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn client_files_are_read_as_they_are() {
        let text = r#"{"mcpServers":{"fs":{"command":"npx","args":["-y","p"],"env":{"K":"V"}},"off":{"command":"x","disabled":true}}}"#;
        let plan = Config::from_client_json(text).unwrap().check().unwrap();
        assert_eq!(plan.servers.len(), 1);
        let Target::Command { argv, env, .. } = &plan.servers["fs"].target else { panic!("a command") };
        assert_eq!((argv.len(), env["K"].as_str()), (3, "V"));
        let remote = r#"{"servers":{"r":{"type":"sse","url":"https://h/sse","headers":{"X-A":"b"}}}}"#;
        let plan = Config::from_client_json(remote).unwrap().check().unwrap();
        let Target::Remote { url, headers, transport } = &plan.servers["r"].target else { panic!("a URL") };
        assert_eq!((url.to_string().as_str(), *transport), ("https://h/sse", Transport::Sse));
        assert!(headers["x-a"] == "b" && !format!("{headers:?}").contains('b'));
    }

    #[test]
    fn a_command_line_is_split_without_a_shell() {
        assert_eq!(command_line("npx -y 'a b' $HOME;ls").unwrap(), ["npx", "-y", "a b", "$HOME;ls"]);
        assert!(command_line("'").is_err());
    }

    #[test]
    fn a_url_is_one_that_can_be_called() {
        assert!(is_url("HTTPS://x") && is_url("http://x") && !is_url("httpx http://y") && !is_url("äöüäöü"));
        assert_eq!(remote_url("http://h:1/a?b=c#d").unwrap(), "http://h:1/a?b=c");
        for (bad, part) in [("https://", "is no"), ("https:///x", "is no"), ("https://u:p@h/", "use `headers`"), ("ftp://h", "is no http")]
        {
            assert!(remote_url(bad).unwrap_err().contains(part), "{bad}");
        }
    }
}
