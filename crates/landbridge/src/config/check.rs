//! From what was written to what we run; whatever is wrong is told at once, with its place.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use landbridge_proto::back::probe::Protocol;
use landbridge_proto::call::Transport;
use landbridge_proto::forwarded::{Network, Proxies};
use landbridge_proto::headers::Guard;
use landbridge_proto::oauth::login::Own;
use landbridge_proto::oauth::secret::Secret;
use landbridge_proto::oauth::url::Url;
use landbridge_proto::version::Revision;

use crate::config::fault::{Fault, Faults};
use crate::config::suggest::did_you_mean;
use crate::config::{AccessConfig, AcmeConfig, Config, DEFAULT_DIRECTORY, DEFAULT_LISTEN, ServerConfig};
use crate::home;
use crate::plan::{Access, Acme, Algorithm, Audit, By, Isolation, Key, Limits, Plan, Server, Target, Tls, ToolFilter};
use crate::profile::Profile;
use crate::vault::check_key;

impl Config {
    /// From what was written to what we run; the error says what to mend.
    pub fn check(&self) -> Result<Plan, Faults> {
        let mut check = Check { config: self, faults: Vec::new() };
        let plan = check.plan();
        match plan {
            Some(plan) if check.faults.is_empty() => Ok(plan),
            _ => Err(self.faults(check.faults)),
        }
    }
}

/// What is checked, and what was found.
pub(super) struct Check<'c> {
    pub(super) config: &'c Config,
    faults: Vec<Fault>,
}

impl Check<'_> {
    /// Something is wrong with what stands under these keys.
    pub(super) fn fault(&mut self, path: &[&str], said: impl Into<String>) {
        self.faults.push(Fault { at: self.config.written.place(path), said: said.into() });
    }

    /// What came of it, or a fault.
    pub(super) fn must<T>(&mut self, path: &[&str], read: Result<T, String>) -> Option<T> {
        read.map_err(|said| self.fault(path, said)).ok()
    }

    /// `None` only with a fault.
    fn plan(&mut self) -> Option<Plan> {
        let config = self.config;
        let listen = self.must(&["listen"], address(config.listen.as_deref().unwrap_or(DEFAULT_LISTEN)));
        let loopback = listen.is_none_or(|listen| listen.ip().is_loopback());
        if let Some(listen) = listen.filter(|_| !loopback && !config.insecure_public && config.auth.mode() == "none") {
            let said = format!(
                "listening on {listen} would let everybody who reaches this machine run the servers behind it, and nobody \
                 is asked who they are; listen on 127.0.0.1, ask (`--auth`, `[auth]` in a file), or say --insecure-public (`insecure_public` in \
                 a file or a program)"
            );
            self.fault(&["listen"], said);
        }
        if !loopback && config.auth.insecure_test_tokens {
            self.fault(&["auth"], "tokens that anybody can make up are for tests: listen on 127.0.0.1 with them");
        }
        let mut hosts: Vec<String> = config.allow_hosts.iter().map(|h| h.trim().to_ascii_lowercase()).collect();
        let mut proxies = Proxies::default();
        for (number, network) in config.trusted_proxies.iter().enumerate() {
            let network = Network::read(network).map_err(|e| format!("trusted proxy: {e}"));
            proxies.0.extend(self.must(&["trusted_proxies", &number.to_string()], network));
        }
        let mut origins = Vec::new();
        for (number, origin) in config.allow_origins.iter().enumerate() {
            origins.extend(self.must(&["allow_origins", &number.to_string()], check_origin(origin)));
        }
        let mut public_url = None;
        if let Some(url) = &config.public_url {
            let origin = check_origin(url.trim_end_matches('/')).map_err(|e| format!("public URL: {e}"));
            if let Some(origin) = self.must(&["public_url"], origin) {
                hosts.push(origin.split_once("://").map_or("", |(_, host)| host).to_owned());
                origins.push(origin.clone());
                public_url = Some(origin);
            }
        }
        let tls = self.tls();
        if let Some(Tls::Acme(acme)) = &tls {
            hosts.extend(acme.domains.iter().cloned());
            origins.extend(acme.domains.iter().map(|domain| format!("https://{domain}")));
        }
        if let Some(listen) = listen.filter(|_| !loopback && hosts.is_empty()) {
            // On a public bind the name we are called by is unknown; the address itself is not.
            hosts.push(if listen.is_ipv6() { format!("[{}]", listen.ip()) } else { listen.ip().to_string() });
        }
        let mut servers = BTreeMap::new();
        for (name, server) in config.servers.iter().filter(|(_, s)| !s.disabled) {
            if !is_good_name(name) {
                let said = format!("server name `{name}`: use up to 64 letters, digits, `.`, `_` and `-`, because it becomes part of URLs");
                self.fault(&["servers", name], said);
            }
            if let Some(server) = self.server(name, server) {
                servers.insert(name.clone(), server);
            }
        }
        if servers.is_empty() {
            let (protocol, isolation, tools) = (Protocol::Auto, Isolation::Session, ToolFilter::default());
            servers.insert("demo".into(), Server { target: Target::Demo, protocol, isolation, tools });
        }
        for (limit, said) in config.limits.check() {
            self.fault(&["limits", limit], format!("limits.{limit} {said}"));
        }
        self.rates();
        let audit = Audit { file: config.audit.file.clone(), calls: config.audit.calls.unwrap_or(config.audit.file.is_some()) };
        let cors = !config.allow_origins.is_empty();
        let guard = Guard { loopback, hosts, origins };
        let auth = self.auth();
        let rights = self.rights();
        Some(Plan {
            profile: Profile::default(),
            stateless_over: Transport::Streamable,
            listen: listen?,
            public_url,
            path: String::new(),
            tls,
            servers,
            guard,
            proxies,
            auth,
            rights,
            cors,
            limits: config.limits,
            rates: config.rates,
            audit,
        })
    }

    fn rates(&mut self) {
        let rates = &self.config.rates;
        for (name, per_minute, burst) in [
            ("principal", rates.principal_per_minute, rates.principal_burst),
            ("client", rates.client_per_minute, rates.client_burst),
            ("address", rates.address_per_minute, rates.address_burst),
        ] {
            if burst > 0 && per_minute == 0 {
                let said = format!("rates.{name}_burst means nothing without rates.{name}_per_minute");
                self.fault(&["rates", &format!("{name}_burst")], said);
            }
        }
        if self.config.auth.mode() == "none" && rates.knows_callers() {
            self.fault(&["rates"], "rates of principals and clients mean nothing where nobody is asked who they are: set auth.mode");
        }
    }

    /// `None` without a fault: in plain text.
    fn tls(&mut self) -> Option<Tls> {
        let tls = &self.config.tls;
        if tls.acme.is_some() && (tls.cert.is_some() || tls.key.is_some()) {
            self.fault(&["tls", "acme"], "tls: `acme` and `cert` exclude each other");
        }
        match (&tls.cert, &tls.key, &tls.acme) {
            (_, _, Some(acme)) => self.acme(acme).map(Tls::Acme),
            (Some(cert), Some(key), None) => Some(Tls::Files { cert: cert.clone(), key: key.clone() }),
            (None, None, None) => {
                if self.config.written.place(&["tls"]).is_some() {
                    self.fault(&["tls"], "tls: neither `cert` and `key`, nor `acme`");
                }
                None
            }
            (Some(_), None, None) => {
                self.fault(&["tls", "cert"], "tls: a certificate needs its key: say where with `key` (--tls-key)");
                None
            }
            (None, Some(_), None) => {
                self.fault(&["tls", "key"], "tls: a key needs its certificate: say where with `cert` (--tls-cert)");
                None
            }
        }
    }

    fn acme(&mut self, acme: &AcmeConfig) -> Option<Acme> {
        let of = |key: &'static str| ["tls", "acme", key];
        if acme.domains.is_empty() {
            self.fault(&["tls", "acme"], "tls.acme: no `domains` to have a certificate for");
        }
        let mut domains = Vec::new();
        for (number, domain) in acme.domains.iter().enumerate() {
            domains.extend(self.must(&["tls", "acme", "domains", &number.to_string()], domain_name(domain)));
        }
        if let Some(contact) = acme.contact.as_deref().filter(|contact| !contact.starts_with("mailto:")) {
            self.fault(&of("contact"), format!("tls.acme: the contact {contact:?} must begin with `mailto:`"));
        }
        let directory = self.must(&of("directory"), directory(acme.directory.as_deref().unwrap_or(DEFAULT_DIRECTORY)));
        let nowhere = || "tls.acme: there is no home to keep certificates in; say where with `cache`".to_owned();
        let cache = self.must(&of("cache"), acme.cache.clone().or_else(|| Some(home::state()?.join("acme"))).ok_or_else(nowhere));
        Some(Acme { domains, contact: acme.contact.clone(), directory: directory?, cache: cache?, ca: acme.ca.clone() })
    }

    fn server(&mut self, name: &str, server: &ServerConfig) -> Option<Server> {
        let said = |said: &str| format!("server `{name}`: {said}");
        let of = |key: &'static str| ["servers", name, key];
        let target = match (&server.command, &server.url) {
            (None, None) if server.demo => Some(Target::Demo),
            (None, None) => {
                self.fault(&["servers", name], said("neither a `command` nor a `url`"));
                None
            }
            (Some(_), Some(_)) => {
                self.fault(&of("url"), said("`command` and `url` exclude each other"));
                None
            }
            _ if server.demo => {
                self.fault(&of("demo"), said("`demo` excludes `command` and `url`"));
                None
            }
            (None, Some(url)) => {
                let alien = [("args", server.args.is_empty()), ("env", server.env.is_empty()), ("cwd", server.cwd.is_none())];
                for (key, _) in alien.iter().filter(|(_, empty)| !empty) {
                    self.fault(&of(key), said(&format!("`{key}` is for servers with a `command`")));
                }
                let url = self.must(&of("url"), remote_url(url).map_err(|e| said(&e)));
                let headers = self.headers(name, server);
                let auth = self.access(name, server, &headers);
                url.map(|url| Target::Remote { url, headers, transport: server.transport.unwrap_or_default(), auth })
            }
            (Some(command), None) => {
                let alien = [
                    ("headers", server.headers.is_empty()),
                    ("transport", server.transport.is_none()),
                    ("auth", server.auth.is_none() && server.login.is_none()),
                ];
                for (key, _) in alien.iter().filter(|(_, empty)| !empty) {
                    self.fault(&of(key), said("`headers`, `transport` and `auth` are for servers with a `url`"));
                }
                let mut env = BTreeMap::new();
                for (key, value) in &server.env {
                    let bad = key.is_empty() || key.contains(['=', '\0']);
                    let value = if bad { Err("is no name for a variable".into()) } else { expand(value) };
                    let value = self.must(&["servers", name, "env", key], value.map_err(|e| said(&format!("variable `{key}`: {e}"))));
                    env.extend(value.map(|value| (key.clone(), value)));
                }
                if command.trim().is_empty() {
                    self.fault(&of("command"), said("the command is empty"));
                }
                let argv = std::iter::once(command.clone()).chain(server.args.iter().cloned()).collect();
                Some(Target::Command { argv, env, cwd: server.cwd.clone() })
            }
        };
        let protocol = server.protocol.as_deref().map_or(Ok(Protocol::Auto), parse_protocol);
        let protocol = self.must(&of("protocol"), protocol.map_err(|e| said(&e)));
        let tools = ToolFilter::new(server.tools.allow.as_deref(), &server.tools.deny);
        let tools = self.must(&of("tools"), tools.map_err(|e| said(&format!("tools: {e}"))))?;
        Some(Server { target: target?, protocol: protocol?, isolation: server.isolation.unwrap_or_default(), tools })
    }

    /// How we are let in, unless a header of the user's does that.
    fn access(&mut self, name: &str, server: &ServerConfig, headers: &HeaderMap) -> Option<Box<Access>> {
        let said = |said: &str| format!("server `{name}`: auth: {said}");
        let of = |key: &'static str| ["servers", name, "auth", key];
        let written = server.auth.clone().unwrap_or_default();
        if server.auth.is_none() && server.login.is_none() {
            return None;
        }
        if headers.contains_key(http::header::AUTHORIZATION) {
            if server.login.is_none() {
                self.fault(&["servers", name, "auth"], said("a header `Authorization` is sent already; leave one of them out"));
            }
            return None;
        }
        let secret = written.client_secret.as_ref().map(|secret| expand(secret.reveal()).map(Secret::new));
        let secret = secret.and_then(|secret| self.must(&of("client_secret"), secret.map_err(|e| said(&format!("client_secret: {e}")))));
        if written.client_metadata_url.is_some() && !written.per_user {
            self.fault(&of("client_metadata_url"), said("`client_metadata_url` is for `per_user`"));
        }
        let key = written.private_key.as_ref().map(|path| {
            let pem = std::fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
            let algorithm = written.key_alg.unwrap_or(Algorithm::Es256);
            let key = Key { pem: Secret::new(pem), algorithm, audience: written.audience.clone() };
            check_key(&key).map(|()| key)
        });
        let key = key.and_then(|key| self.must(&of("private_key"), key.map_err(|e| said(&e))));
        if written.private_key.is_none() && (written.key_alg.is_some() || written.audience.is_some()) {
            self.fault(&of("key_alg"), said("`key_alg` and `audience` are for a `private_key`"));
        }
        if written.client_secret.is_some() && written.private_key.is_some() {
            self.fault(&of("private_key"), said("`client_secret` and `private_key` exclude each other"));
        }
        let by = match &server.login {
            Some(_) if written.private_key.is_some() => {
                self.fault(&of("private_key"), said("a private key is for a client that needs no user (--client-credentials)"));
                return None;
            }
            Some(login) => By::User(login.browsing.clone()),
            None if written.per_user => {
                self.per_user(name, &written);
                By::Visitor
            }
            None => {
                if written.client_id.is_none() || (written.client_secret.is_none() && written.private_key.is_none()) {
                    self.fault(
                        &["servers", name, "auth"],
                        said("a client that needs no user has a `client_id`, and a `client_secret` or a `private_key`"),
                    );
                }
                By::Itself(key)
            }
        };
        let document = server.login.as_ref().and_then(|login| login.document.clone());
        let document = document.or(written.client_metadata_url.filter(|_| written.per_user));
        if written.client_id.is_none() && written.client_secret.is_some() {
            self.fault(&of("client_secret"), said("a `client_secret` needs a `client_id`"));
        }
        if let Some(url) = document.as_ref().filter(|url| !Url::read(url).is_ok_and(|url| url.is_https() && url.path().len() > 1)) {
            self.fault(&["servers", name], said(&format!("the client's document is at an https URL with a path, and {url:?} is none")));
        }
        let own = Own { id: written.client_id, secret, document };
        Some(Box::new(Access { own, scope: written.scope, by }))
    }

    /// What has to be so where each user logs in by themselves.
    fn per_user(&mut self, name: &str, written: &AccessConfig) {
        let said = |said: &str| format!("server `{name}`: auth: {said}");
        let of = |key: &'static str| ["servers", name, "auth", key];
        if self.config.auth.mode() == "none" {
            let why = "`per_user` needs users: say how they show who they are (`[auth]` with a `mode`, or --auth)";
            self.fault(&of("per_user"), said(why));
        }
        if written.private_key.is_some() {
            self.fault(&of("private_key"), said("a private key is for a client that needs no user; leave out `per_user`, or it"));
        }
        let here = |listen: &str| address(listen).is_ok_and(|listen| listen.ip().is_loopback());
        let is_here = self.config.listen.as_deref().is_none_or(here);
        if self.config.public_url.is_none() && !is_here {
            let why = "`per_user` needs `public_url` (--public-url): by it users are sent here, and back from where they log in";
            self.fault(&of("per_user"), said(why));
        }
        // It is a path of ours.
        if name == "callback" {
            self.fault(&["servers", name], said("a server with `per_user` cannot be called `callback`; give it another name"));
        }
    }

    fn headers(&mut self, name: &str, server: &ServerConfig) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (key, value) in &server.headers {
            let read = header(key, value).map_err(|why| format!("server `{name}`: header `{key}`: {why}"));
            headers.extend(self.must(&["servers", name, "headers", key], read));
        }
        headers
    }
}

/// A name that an authority can look up, lower case. Not one with `*`, for that takes a challenge in DNS.
fn domain_name(written: &str) -> Result<String, String> {
    let name = written.trim().trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if name.len() <= 253 && name.split('.').all(is_label) && !is_address {
        return Ok(name);
    }
    let why = if name.starts_with("*.") { "; TLS-ALPN-01 proves single names only" } else { "" };
    Err(format!("tls.acme: {written:?} is no name of a host{why}"))
}

/// The directory of an authority, by its name or its URL.
fn directory(written: &str) -> Result<Uri, String> {
    let url = match written {
        "letsencrypt" => "https://acme-v02.api.letsencrypt.org/directory",
        "letsencrypt-staging" => "https://acme-staging-v02.api.letsencrypt.org/directory",
        url => url,
    };
    let read = remote_url(url).ok().filter(|url| url.scheme_str() == Some("https"));
    read.ok_or_else(|| format!("tls.acme: the directory {written:?} is none; write letsencrypt, letsencrypt-staging, or an https URL"))
}

/// Whether a server can be called that: it becomes part of URLs.
pub(crate) fn is_good_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "is no name for a header")?;
    if OURS.contains(&key.as_str()) || key.as_str().starts_with("mcp-") {
        return Err("is one that this gateway sets itself".into());
    }
    let value = HeaderValue::from_str(expand(value)?.trim());
    let mut value = value.map_err(|_| "its value holds a character that headers cannot carry")?;
    value.set_sensitive(true);
    Ok((key, value))
}

/// What each request of ours says of itself.
const OURS: [&str; 9] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "accept-encoding", "last-event-id", "upgrade"];

impl Limits {
    /// What is wrong with them, by their names.
    fn check(&self) -> Vec<(&'static str, &'static str)> {
        let mut wrong = Vec::new();
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
                wrong.push((name, "must not be 0"));
            }
        }
        if self.header_bytes < 8 * 1024 {
            wrong.push(("header_bytes", "must be 8192 or more"));
        }
        if self.calls_per_child > 1_000_000 {
            wrong.push(("calls_per_child", "must be 1000000 or less"));
        }
        if self.message_bytes > 1 << 30 {
            wrong.push(("message_bytes", "must be 1073741824 (1 GiB) or less"));
        }
        wrong
    }
}

/// `auto`, `legacy`, or a published revision.
pub fn parse_protocol(written: &str) -> Result<Protocol, String> {
    match written {
        "auto" => Ok(Protocol::Auto),
        "legacy" => Ok(Protocol::Legacy),
        date => Revision::parse(date).map(Protocol::Pinned).ok_or_else(|| {
            let known: Vec<&str> = Revision::ALL.iter().map(|r| r.as_str()).collect();
            let meant = did_you_mean(date, known.iter().copied().chain(["auto", "legacy"]));
            format!("protocol `{date}` is unknown; use auto, legacy, or one of {}{meant}", known.join(", "))
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

/// `scheme://host[:port]`, nothing behind it, as browsers write it: they leave out the port that goes without saying.
fn check_origin(written: &str) -> Result<String, String> {
    let lower = written.trim().to_ascii_lowercase();
    if lower == "*" {
        return Ok(lower);
    }
    let is_host = |host: &str| match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/?#@*:[]".contains(c)),
    };
    let origin = [("http://", 80), ("https://", 443)].into_iter().find_map(|(scheme, usual)| {
        let rest = lower.strip_prefix(scheme)?;
        let (host, port) = match rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
            None => (rest, None),
        };
        let port = port.filter(|port| *port != usual).map(|port| format!(":{port}")).unwrap_or_default();
        is_host(host).then(|| format!("{scheme}{host}{port}"))
    });
    origin.ok_or_else(|| format!("{written:?} is no origin; write scheme://host[:port] without a path, such as https://app.example.com"))
}

/// `${NAME}` from our environment, `${NAME:-otherwise}` if it may be missing there, `$${` for `${`
/// itself. A name that is not set is an error, not an empty secret.
pub(super) fn expand(value: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        let (name, behind) = after.split_once('}').ok_or("there is `${` in its value, and no `}` behind it")?;
        let (name, otherwise) = name.split_once(":-").map_or((name, None), |(name, otherwise)| (name, Some(otherwise)));
        out.push_str(before);
        match (std::env::var(name), otherwise) {
            // As in a shell, `:-` stands in for what is empty, too.
            (Ok(found), Some(otherwise)) if found.is_empty() => out.push_str(otherwise),
            (Ok(found), _) => out.push_str(&found),
            (Err(_), Some(otherwise)) => out.push_str(otherwise),
            (Err(_), None) => return Err(format!("the environment variable {name} is not set")),
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Result<Plan, String> {
        Ok(Config::parse("f", text.into())?.check()?)
    }

    #[test]
    fn an_origin_is_what_a_browser_would_call_it() {
        for (written, origin) in [
            ("*", "*"),
            (" HTTPS://App.Example.com ", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://app.example.com:443", "http://app.example.com:443"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("http://[::1]", "http://[::1]"),
        ] {
            assert_eq!(check_origin(written).as_deref(), Ok(origin), "{written}");
        }
        let bad = [
            "",
            "null",
            "app.example.com",
            "ftp://h",
            "https://",
            "https://h/",
            "https://h:",
            "https://h:99999",
            "https://*.h",
            "https://a@h",
        ];
        for written in bad.into_iter().chain(["https://a b", "http://::1", "http://[::1", "https://h, https://i"]) {
            assert!(check_origin(written).is_err(), "{written}");
        }
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
            ("allow_origins=[\"https://*.example.com\"]", "is no origin"),
            ("allow_origins=[\"https://*.example.com\"]", "is no origin"),
            ("allow_origins=[\"https://example.com:99999\"]", "is no origin"),
            ("listen=\"nowhere\"", "write ADDR:PORT"),
            ("[tls]\ncert=\"c\"", "f:2:6: tls: a certificate needs its key"),
            ("[tls]\nkey=\"k\"", "f:2:5: tls: a key needs its certificate"),
            ("[tls]", "neither `cert` and `key`, nor `acme`"),
            ("[tls]\ncert=\"c\"\nkey=\"k\"\n[tls.acme]\ndomains=[\"a.b\"]", "exclude each other"),
            ("[tls.acme]", "no `domains`"),
            ("[tls.acme]\ndomains=[\"a.b\", \"*.b\"]", "f:2:17: tls.acme: \"*.b\" is no name of a host; TLS-ALPN-01"),
            ("[tls.acme]\ndomains=[\"127.0.0.1\"]", "no name of a host"),
            ("[tls.acme]\ndomains=[\"a.b:443\"]", "no name of a host"),
            ("[tls.acme]\ndomains=[\"a.b\"]\ndirectory=\"http://a.b\"", "f:3:11: tls.acme: the directory \"http://a.b\" is none"),
            ("[tls.acme]\ndomains=[\"a.b\"]\ncontact=\"a@b\"", "must begin with `mailto:`"),
            ("listen=\"0.0.0.0:443\"\n[tls]\ncert=\"c\"\nkey=\"k\"", "nobody is asked who they are"),
            ("trusted_proxies=[\"::1\", \"10.1.0.0/8\"]", "f:1:25: trusted proxy: \"10.1.0.0/8\" has bits behind its first 8"),
            ("[limits]\nsessions=0", "limits.sessions must not be 0"),
            ("[rates]\nprincipal_calls=1", "f:1:2: rates of principals and clients mean nothing where nobody is asked"),
            ("[rates]\naddress_burst=1", "f:2:15: rates.address_burst means nothing without rates.address_per_minute"),
            ("lisen=\"x\"", "there is no key `lisen`"),
            ("[servers.a]\nurl=\"https://h\"\nargs=[\"x\"]", "for servers with a `command`"),
        ] {
            let error = toml(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn names_of_a_certificate_are_ours() {
        let plan = toml("[tls.acme]\ndomains=[\"MCP.example.com\"]\ndirectory=\"letsencrypt-staging\"\ncache=\"x\"").unwrap();
        let Some(Tls::Acme(acme)) = &plan.tls else { panic!("a certificate by ACME") };
        assert_eq!(acme.domains, ["mcp.example.com"]);
        assert_eq!(acme.directory.host(), Some("acme-staging-v02.api.letsencrypt.org"));
        assert!(plan.guard.allows_host("mcp.example.com:8443") && plan.guard.allows_origin("https://mcp.example.com"));
    }

    #[test]
    fn faults_have_their_place_and_are_told_together() {
        let text = "listen = \"nowhere\"\nallow_origins = [\"https://a\", \"b\"]\n[servers.a]\ncommand = \"x\"\nurl = \"https://h\"\n\
                    [servers.b]\ncommand = \"x\"\nprotocol = \"legcy\"\nenv = {A = \"${SURELY_NOT_SET}\", B = \"b\"}\n[servers.\"c/d\"]\n\
                    url = \"ftp://h\"\n[limits]\nsessions = 0\n";
        let faults = Config::parse("f", text.into()).unwrap().check().unwrap_err();
        let places: Vec<String> = faults.brief().map(|said| said.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(places, ["f:1:10", "f:2:31", "f:5:7", "f:8:12", "f:9:12", "f:10:10", "f:11:7", "f:13:12"], "{faults}");
        assert!(faults.to_string().contains("did you mean `legacy`?"), "{faults}");
    }

    #[test]
    fn what_the_command_line_says_is_not_looked_for_in_the_file() {
        let mut config = Config::parse("f", "listen = \"127.0.0.1:1\"".into()).unwrap();
        config.listen = Some("nowhere".into());
        config.overrule("listen");
        assert!(config.check().unwrap_err().brief().next().unwrap().starts_with("f: cannot listen"));
    }

    #[test]
    fn variables_may_have_something_to_fall_back_on() {
        let text = "[servers.a]\ncommand=\"x\"\nenv={T=\"a-${SURELY_NOT_SET_ANYWHERE:-b}-c\", P=\"${PATH:-none}\", L=\"a$${b} $c $$${\"}";
        let plan = toml(text).unwrap();
        let Target::Command { env, .. } = &plan.servers["a"].target else { panic!("a command") };
        assert!(env["T"] == "a-b-c" && env["P"] == std::env::var("PATH").unwrap() && env["L"] == "a${b} $c $${");
    }

    #[test]
    fn headers_are_expanded_and_sensitive() {
        let text = "[servers.r]\nurl=\"https://h/sse\"\ntransport=\"sse\"\nheaders={X-A=\"b${PATH:+}\"}";
        assert!(toml(text).is_err());
        let plan = toml(&text.replace("${PATH:+}", "")).unwrap();
        let Target::Remote { url, headers, transport, .. } = &plan.servers["r"].target else { panic!("a URL") };
        assert_eq!((url.to_string().as_str(), *transport), ("https://h/sse", crate::plan::Transport::Sse));
        assert!(headers["x-a"] == "b" && !format!("{headers:?}").contains('b'));
    }

    #[test]
    fn tools_are_filtered_by_name() {
        let plan = toml("[servers.a]\ncommand=\"x\"\ntools.deny=[\"rm\"]").unwrap();
        assert!(!plan.servers["a"].tools.admits("rm") && plan.servers["a"].tools.admits("ls"));
        assert!(toml("[servers.a]\ncommand=\"x\"\ntools.allow=[\"\"]").unwrap_err().contains("names no tool"));
        assert!(toml("[servers.a]\ncommand=\"x\"\ntools={}").is_ok());
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
