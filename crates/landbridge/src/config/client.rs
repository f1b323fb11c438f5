//! The files of clients, read as they are: every dialect is our own content in other words.
//!
//! | whose | where the servers are |
//! |---|---|
//! | Claude Code and Desktop, Cursor, Windsurf, Gemini, mcpo, LibreChat | `mcpServers` |
//! | TBXark's proxy | the same, beside `mcpProxy` |
//! | VS Code | `servers`, or `mcp.servers` in its settings |
//! | Zed | `context_servers` |
//! | Codex | `mcp_servers`, in TOML |
//! | Goose | `extensions`, in YAML |
//!
//! Their keys hardly collide, so that one table of them serves all. What a file says and we cannot
//! is noted, with the server's name; what would let somebody in who is kept out there is refused when
//! the file is served as it is.

use std::collections::BTreeMap;

use clap::ValueEnum as _;

use crate::config::check::is_good_name;
use crate::config::fault::{Fault, Span};
use crate::config::suggest::did_you_mean;
use crate::config::tree::{Entry, Node, Notation, Value};
use crate::config::{Config, Note, ServerConfig, Written};
use crate::plan::Transport;

/// What is said of a file in which nobody keeps servers.
pub(super) const NO_SERVERS: &str = "there is none of `mcpServers`, `servers`, `context_servers`, `mcp_servers` and `extensions` in it, \
                                     where clients keep their servers; a configuration of Landbridge itself is TOML";

/// Where the servers of a client's file are.
pub(super) struct Dialect<'t> {
    servers: &'t Entry,
    /// An empty list of tools means all of them there.
    goose: bool,
}

/// Whether a file is a client's, and where in it the servers are.
pub(super) fn servers_of(tree: &Node, notation: Notation) -> Option<Dialect<'_>> {
    let entry = |node: &'_ Node, key: &str| node.entries().iter().position(|entry| entry.key == key);
    let at = |key: &str| entry(tree, key).map(|n| &tree.entries()[n]);
    // `servers` in TOML are ours.
    let keys = ["mcpServers", "mcp_servers", "context_servers", "servers", "extensions"];
    let own = |key: &&&str| notation != Notation::Toml || !matches!(**key, "servers" | "extensions");
    if let Some(servers) = keys.iter().filter(own).find_map(|key| at(key)) {
        return Some(Dialect { servers, goose: servers.key == "extensions" });
    }
    let settings = at("mcp").filter(|_| notation == Notation::Json)?;
    let servers = entry(&settings.node, "servers").map(|n| &settings.node.entries()[n])?;
    Some(Dialect { servers, goose: false })
}

/// Reads a client's file.
pub(super) fn read(tree: &Node, dialect: &Dialect<'_>, written: Written, faults: &mut Vec<Fault>) -> Config {
    let mut config = Config { written, ..Config::default() };
    let Value::Table(servers) = &dialect.servers.node.value else {
        let said = format!("`{}` is {}, and must be a table of servers by their names", dialect.servers.key, dialect.servers.node.kind());
        faults.push(Fault::at(&dialect.servers.node.at, said));
        return config;
    };
    if let Some(proxy) = tree.get("mcpProxy") {
        read_proxy(proxy, &mut config);
    }
    let inputs = tree.get("inputs").map(|inputs| match &inputs.value {
        Value::List(all) => all.iter().filter_map(|i| Some((i.get("id")?.text()?, i.get("description")?.text()?))).collect(),
        _ => BTreeMap::new(),
    });
    let inputs = inputs.unwrap_or_default();
    for entry in servers {
        let name = own_name(&entry.key, &config);
        let mut reading = Reading {
            name: &entry.key,
            goose: dialect.goose,
            inputs: &inputs,
            server: ServerConfig::default(),
            kind: None,
            left_out: Vec::new(),
            notes: &mut config.written.notes,
            faults,
        };
        if name != entry.key {
            reading.note(&entry.key_at, format!("is called `{name}` here, because names become parts of URLs"), false);
        }
        let Some(server) = reading.server(entry) else { continue };
        config.servers.insert(name.clone(), server);
        let place = |part: &[&str]| [&["servers", &name], part].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        config.written.places.insert(place(&[]), entry.key_at.clone());
        for (ours, theirs) in [("url", &["url", "serverUrl", "uri", "httpUrl"][..]), ("command", &["command", "cmd"])] {
            let at = theirs.iter().find_map(|key| entry.node.get(key));
            config.written.places.extend(at.map(|node| (place(&[ours]), node.at.clone())));
        }
        for (ours, theirs) in [("env", &["env", "envs"][..]), ("headers", &["headers", "http_headers"])] {
            for value in theirs.iter().filter_map(|key| entry.node.get(key)).flat_map(Node::entries) {
                config.written.places.insert(place(&[ours, &value.key]), value.node.at.clone());
            }
        }
    }
    if config.servers.values().all(|server| server.disabled) {
        let fault = Fault::at(&dialect.servers.key_at, "no server is left that could be served");
        config.written.notes.push(Note { fault, refuses: true });
    }
    config
}

/// What TBXark's proxy says of itself.
fn read_proxy(proxy: &Node, config: &mut Config) {
    for entry in proxy.entries() {
        let text = entry.node.text();
        match (entry.key.as_str(), text) {
            ("baseURL", Some(url)) => config.public_url = Some(url.trim_end_matches('/').to_owned()),
            ("addr", Some(addr)) => config.listen = Some(addr.to_owned()),
            ("name" | "version" | "type", _) => {}
            ("options", _) => {
                for option in entry.node.entries() {
                    let said = match option.key.as_str() {
                        "authTokens" => "`mcpProxy.options.authTokens` cannot be kept: there is no authorization yet",
                        "toolFilter" => "`mcpProxy.options.toolFilter` cannot be kept; write it for each server",
                        "panicIfInvalid" | "logEnabled" => continue,
                        _ => &format!("`mcpProxy.options.{}` is left out: there is no such setting here", option.key),
                    };
                    let refuses = matches!(option.key.as_str(), "authTokens" | "toolFilter");
                    config.written.notes.push(Note { fault: Fault::at(&option.key_at, said), refuses });
                }
            }
            (key, _) => {
                let fault = Fault::at(&entry.key_at, format!("`mcpProxy.{key}` is left out: there is no such setting here"));
                config.written.notes.push(Note { fault, refuses: false });
            }
        }
        if entry.key == "addr" && text.is_some_and(|addr| addr.starts_with(':')) {
            let fault = Fault::at(&entry.node.at, "`mcpProxy.addr` without a host is every address there, and 127.0.0.1 here");
            config.written.notes.push(Note { fault, refuses: false });
        }
    }
}

/// A name that can be part of a URL, and that no other server has.
fn own_name(written: &str, config: &Config) -> String {
    let mut name: String = written.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).take(60).collect();
    name = name.trim_matches('-').to_owned();
    if is_good_name(written) {
        name = written.to_owned();
    } else if name.is_empty() {
        name = "server".to_owned();
    }
    let taken = |name: &String| config.servers.contains_key(name);
    let others = (2..).map(|n| format!("{name}-{n}"));
    std::iter::once(name.clone()).chain(others).find(|name| !taken(name)).unwrap_or(name)
}

/// One server, being read.
struct Reading<'r> {
    name: &'r str,
    goose: bool,
    /// What VS Code asks its user for.
    inputs: &'r BTreeMap<&'r str, &'r str>,
    server: ServerConfig,
    /// The word for how it is reached.
    kind: Option<(String, Span)>,
    left_out: Vec<&'r str>,
    notes: &'r mut Vec<Note>,
    faults: &'r mut Vec<Fault>,
}

impl<'r> Reading<'r> {
    fn note(&mut self, at: &Span, said: impl AsRef<str>, refuses: bool) {
        let fault = Fault::at(at, format!("server `{}`: {}", self.name, said.as_ref()));
        self.notes.push(Note { fault, refuses });
    }

    fn wrong(&mut self, at: &Span, said: impl AsRef<str>) {
        self.faults.push(Fault::at(at, format!("server `{}`: {}", self.name, said.as_ref())));
    }

    /// The server in our words, unless there is no way to have it here.
    fn server(mut self, entry: &'r Entry) -> Option<ServerConfig> {
        if !matches!(entry.node.value, Value::Table(_)) {
            self.wrong(&entry.node.at, format!("is {}, and must be a table with a `command` or a `url`", entry.node.kind()));
            return None;
        }
        for field in entry.node.entries().iter().filter(|field| !matches!(field.node.value, Value::Null)) {
            self.field(field);
        }
        self.transport(entry)?;
        if !self.left_out.is_empty() {
            let (names, are) = (self.left_out.join("`, `"), if self.left_out.len() == 1 { "is" } else { "are" });
            self.note(&entry.key_at, format!("`{names}` {are} left out: there is no such setting here"), false);
        }
        Some(self.server)
    }

    fn field(&mut self, field: &'r Entry) {
        let node = &field.node;
        match field.key.as_str() {
            // Zed had it all under `command` once.
            "command" if matches!(node.value, Value::Table(_)) => {
                for inner in node.entries() {
                    match inner.key.as_str() {
                        "path" => self.server.command = self.plain(inner),
                        "args" | "env" => self.field(inner),
                        other => self.left_out.push(other),
                    }
                }
            }
            "command" | "cmd" => self.server.command = self.plain(field),
            "args" => {
                let args = self.list(field);
                args.iter().for_each(|arg| self.not_expanded(field, arg));
                self.server.args = args;
            }
            "cwd" => self.server.cwd = self.plain(field).map(Into::into),
            "env" | "envs" => {
                let env = self.map(field);
                self.server.env.extend(env);
            }
            // Names only: their values are in the environment.
            "env_keys" | "env_vars" => {
                let names = self.list(field);
                self.server.env.extend(names.into_iter().map(|name| (name.clone(), format!("${{{name}}}"))));
            }
            "url" | "serverUrl" | "uri" | "httpUrl" => self.server.url = self.plain(field),
            "headers" | "http_headers" => {
                let headers = self.map(field);
                self.server.headers.extend(headers);
            }
            "env_http_headers" => {
                let headers = self.map(field);
                self.server.headers.extend(headers.into_iter().map(|(header, name)| (header, format!("${{{name}}}"))));
            }
            "bearer_token_env_var" => {
                let bearer = self.text(field).map(|name| ("Authorization".to_owned(), format!("Bearer ${{{name}}}")));
                self.server.headers.extend(bearer);
            }
            "type" | "transport" | "transportType" => self.kind = self.text(field).map(|kind| (kind, node.at.clone())),
            "disabled" => self.server.disabled |= self.flag(field).unwrap_or(false),
            "enabled" => self.server.disabled |= !self.flag(field).unwrap_or(true),
            "disabledTools" | "disabled_tools" | "excludeTools" => self.server.tools.deny = self.list(field),
            "tools" | "includeTools" | "enabled_tools" | "available_tools" => {
                let tools = self.list(field);
                let all = tools == ["*"] || (self.goose && tools.is_empty());
                self.server.tools.allow = Some(tools).filter(|_| !all);
            }
            "options" => self.options(field),
            "source" if matches!(node.text(), Some("custom" | "extension")) => {}
            // What a person reads there.
            "name" | "display_name" | "displayName" | "description" | "icon" | "bundled" | "gallery" => {}
            other => self.left_out.push(other),
        }
    }

    /// What TBXark's proxy is told of one server.
    fn options(&mut self, field: &'r Entry) {
        for option in field.node.entries() {
            match option.key.as_str() {
                "toolFilter" => {
                    let list = option.node.entries().iter().find(|e| e.key == "list").map(|e| self.list(e)).unwrap_or_default();
                    match option.node.get("mode").and_then(Node::text) {
                        Some("allow") => self.server.tools.allow = Some(list),
                        Some("block") => self.server.tools.deny = list,
                        _ => self.wrong(&option.node.at, "the `mode` of a `toolFilter` is `allow` or `block`"),
                    }
                }
                "authTokens" => self.note(&option.key_at, "`options.authTokens` cannot be kept: there is no authorization yet", true),
                "panicIfInvalid" | "logEnabled" => {}
                other => self.note(&option.key_at, format!("`options.{other}` is left out: there is no such setting here"), false),
            }
        }
    }

    /// Whether it is a command or a URL, after all that was said. `None`: it cannot be had here.
    fn transport(&mut self, entry: &'r Entry) -> Option<()> {
        let (word, at) = self.kind.take().unwrap_or_else(|| (String::new(), entry.key_at.clone()));
        let plain = word.to_lowercase().replace('_', "-");
        let known = Transport::from_str(&plain, false).ok();
        match plain.as_str() {
            "" | "stdio" | "local" | "remote" => {}
            "ws" | "websocket" => {
                self.note(&at, format!("is left out: it speaks over {word}, which no revision of the protocol knows"), true);
                return None;
            }
            "builtin" | "platform" | "frontend" | "inline-python" | "sdk" => {
                self.note(&at, format!("is left out: a server of type `{word}` is a part of its client"), false);
                return None;
            }
            _ if known.is_some() => self.server.transport = known,
            _ => {
                let meant = did_you_mean(&plain, ["stdio", "http", "streamable-http", "sse"]);
                self.wrong(&at, format!("nobody knows the type `{word}`{meant}"));
                return None;
            }
        }
        match (&self.server.command, &self.server.url) {
            (Some(_), Some(_)) if self.server.transport.is_some() => {
                self.note(&entry.key_at, format!("`command` is left out: its type is `{word}`"), false);
                self.server.command = None;
            }
            (Some(_), Some(_)) => {
                self.note(&entry.key_at, "`url` is left out: there is a `command`, too", false);
                self.server.url = None;
            }
            (None, None) if entry.node.get("settings").is_some() || entry.node.get("source").is_some() => {
                self.note(&entry.key_at, "is left out: an extension of the editor brings its command", true);
                return None;
            }
            (None, None) => {
                // One that cannot be read has been told of.
                let keys = ["command", "cmd", "url", "serverUrl", "uri", "httpUrl"];
                if keys.iter().all(|key| entry.node.get(key).is_none()) {
                    self.wrong(&entry.key_at, "neither a `command` nor a `url`");
                }
                return None;
            }
            _ => {}
        }
        let server = &mut self.server;
        if server.command.is_some() {
            server.transport = None;
            if !std::mem::take(&mut server.headers).is_empty() {
                self.left_out.push("headers");
            }
        } else {
            let unused = [!server.args.is_empty(), !server.env.is_empty(), server.cwd.is_some()];
            (server.args, server.env, server.cwd) = Default::default();
            self.left_out.extend(["args", "env", "cwd"].into_iter().zip(unused).filter(|(_, used)| *used).map(|(key, _)| key));
        }
        Some(())
    }

    // --- values ------------------------------------------------------------------------------------

    fn text(&mut self, field: &Entry) -> Option<String> {
        let text = field.node.text().map(str::to_owned);
        if text.is_none() {
            self.wrong(&field.node.at, format!("`{}` is {}, and must be a string", field.key, field.node.kind()));
        }
        text
    }

    /// The same where nothing is expanded here.
    fn plain(&mut self, field: &Entry) -> Option<String> {
        let text = self.text(field)?;
        self.not_expanded(field, &text);
        Some(text)
    }

    fn flag(&mut self, field: &Entry) -> Option<bool> {
        match field.node.value {
            Value::Bool(yes) => Some(yes),
            _ => {
                self.wrong(&field.node.at, format!("`{}` is {}, and must be true or false", field.key, field.node.kind()));
                None
            }
        }
    }

    /// What a person means by 8080 where a string belongs.
    fn scalar(node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) | Value::Number(text) => Some(text.clone()),
            Value::Bool(yes) => Some(yes.to_string()),
            _ => None,
        }
    }

    fn list(&mut self, field: &Entry) -> Vec<String> {
        let Value::List(all) = &field.node.value else {
            self.wrong(&field.node.at, format!("`{}` is {}, and must be a list of strings", field.key, field.node.kind()));
            return Vec::new();
        };
        let mut read = Vec::new();
        for node in all {
            match Reading::scalar(node) {
                Some(text) => read.push(text),
                None => self.wrong(&node.at, format!("`{}` is a list of strings, and this is {}", field.key, node.kind())),
            }
        }
        read
    }

    fn map(&mut self, field: &Entry) -> BTreeMap<String, String> {
        if !matches!(field.node.value, Value::Table(_)) {
            self.wrong(&field.node.at, format!("`{}` is {}, and must be a table of strings", field.key, field.node.kind()));
        }
        let mut read = BTreeMap::new();
        for entry in field.node.entries().iter().filter(|entry| !matches!(entry.node.value, Value::Null)) {
            match Reading::scalar(&entry.node) {
                Some(text) => {
                    let text = self.expandable(entry, &text);
                    read.insert(entry.key.clone(), text);
                }
                None => self.wrong(&entry.node.at, format!("`{}` is {}, and must be a string", entry.key, entry.node.kind())),
            }
        }
        read
    }

    /// A value of `env` or `headers` in our words: `${NAME}`, and nothing that only an editor knows.
    fn expandable(&mut self, entry: &Entry, value: &str) -> String {
        let variable = |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_') && name.len() > 1;
        if let Some(name) = value.strip_prefix('$')
            && variable(name)
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        {
            self.note(&entry.node.at, format!("`{}` is taken from the environment variable {name}", entry.key), false);
            return format!("${{{name}}}");
        }
        if value.contains("{{") {
            self.note(&entry.node.at, format!("`{}` holds a placeholder in double braces, which nobody fills in here", entry.key), false);
        }
        let mut out = String::new();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((inside, behind)) = after.split_once('}') else { break };
            out.push_str(before);
            rest = behind;
            match inside.split_once(':') {
                Some(("env", name)) => out.push_str(&format!("${{{name}}}")),
                Some(("input", id)) => {
                    let name: String = id.to_uppercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                    let about = self.inputs.get(id).map_or(String::new(), |about| format!(" ({about})"));
                    let said = format!("nobody is asked for `{id}`{about}: set the environment variable {name}");
                    self.note(&entry.node.at, said, false);
                    out.push_str(&format!("${{{name}}}"));
                }
                None if inside == "userHome" => out.push_str("${HOME}"),
                Some((_, otherwise)) if !otherwise.starts_with('-') => self.of_an_editor(entry, inside, &mut out),
                None if inside.starts_with("workspaceFolder") || inside == "pathSeparator" || inside == "/" => {
                    self.of_an_editor(entry, inside, &mut out);
                }
                _ => out.push_str(&format!("${{{inside}}}")),
            }
        }
        out.push_str(rest);
        out
    }

    fn of_an_editor(&mut self, entry: &Entry, inside: &str, out: &mut String) {
        let said = format!("`{}`: `${{{inside}}}` means something to an editor only; write what it stands for", entry.key);
        self.note(&entry.node.at, said, true);
        out.push_str(&format!("${{{inside}}}"));
    }

    /// What a client would fill in, and we pass on as it is.
    fn not_expanded(&mut self, field: &Entry, value: &str) {
        let Some((_, after)) = value.split_once("${") else { return };
        let Some((inside, _)) = after.split_once('}') else { return };
        let said =
            format!("`{}` holds `${{{inside}}}`, which is passed on as it is: only values of `env` and `headers` are expanded", field.key);
        self.note(&field.node.at, said, false);
    }
}

#[cfg(test)]
mod tests;
