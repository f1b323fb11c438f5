//! The vocabulary between the edges: five words.
//!
//! ```text
//!   client ──▶ front ──Call──▶ back ──▶ server
//!   client ◀── front ◀─Reply── back ◀── server      Note*, then one Done; an Ask in between
//!   client ──▶ front ─Answer─▶ back ──▶ server      to an Ask
//!   client ◀── front ◀─Notice─ back ◀── server      belongs to no call
//! ```
//!
//! Each edge translates between its own wire and these words, so that edges are written once
//! per wire and never once per pair of wires.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use crate::fault::Fault;
use crate::json;
use crate::message::{Id, Message, Params};
use crate::methods::Method;
use crate::version::{Era, Revision};

/// Who calls, as far as the wire says. Shared by all calls of a session.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it speaks.
    pub revision: Revision,
    /// Who it is for us.
    pub principal: Principal,
    /// How it is connected.
    pub transport: Transport,
    /// The JSON text of its `clientInfo`, if it gave one.
    pub info: Option<Bytes>,
    /// The JSON text of its capabilities.
    pub capabilities: Bytes,
}

/// How a client is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One stream for everything, and its end is the end (2024-11-05).
    Sse,
    /// A pipe: one stream, as lines. There is no other for a reader that was too slow, so it loses the
    /// oldest of what waits and goes on.
    Stdio,
    /// A POST's answer rides on it; the rest on the GET stream.
    Streamable,
    /// None: it is a client in this process, which reads lines as from a pipe.
    Local,
}

/// Whose call it is, as authorization found. What one principal left with us, another never gets.
///
/// Two are the same if their names are, whatever else is known of them.
#[derive(Clone, Debug, Default)]
pub struct Principal(Option<Arc<Identified>>);

#[derive(Debug)]
struct Identified {
    name: Box<str>,
    person: Person,
}

/// What is known of a principal, for a server that wants to know whose call it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Who says so: the URL of an issuer; `local` for an account of ours, `key` for an API key.
    pub issuer: String,
    /// Their name to the issuer, which never changes; the owner of a key.
    pub subject: String,
    /// By which name they log in there, if that is another.
    pub login: Option<String>,
    /// What people call them.
    pub name: Option<String>,
    /// Their address, if the issuer has verified it.
    pub email: Option<String>,
    /// A part of a larger whole that they belong to.
    pub tenant: Option<String>,
}

impl Principal {
    /// Somebody who was identified by this name.
    pub fn named(name: &str) -> Principal {
        Principal::of(name, Person::default())
    }

    /// The same, and what else is known of them.
    pub fn of(name: &str, person: Person) -> Principal {
        Principal(Some(Arc::new(Identified { name: name.into(), person })))
    }

    /// What is known of them; `None` if nobody was identified.
    pub fn person(&self) -> Option<&Person> {
        self.0.as_ref().map(|identified| &identified.person)
    }

    /// Tells principals apart; empty for all who were not identified, who are one.
    pub fn as_bytes(&self) -> &[u8] {
        self.name().unwrap_or_default().as_bytes()
    }

    fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|identified| &*identified.name)
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Principal) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialOrd for Principal {
    fn partial_cmp(&self, other: &Principal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Principal {
    fn cmp(&self, other: &Principal) -> Ordering {
        self.name().cmp(&other.name())
    }
}

/// A request, self-contained as in 2026-07-28: what a server of any era needs to know of the
/// caller travels with it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The id its client gave it.
    pub id: Id,
    /// What is called.
    pub method: Method,
    /// The request as it was written.
    pub message: Message,
    /// Where the parts of its `params` lie.
    pub params: Params,
    /// Who calls.
    pub client: Arc<Client>,
    /// From which level on the client wants logs of this call; `None`: none.
    pub log_level: Option<Level>,
}

/// What a call is answered with.
#[derive(Debug)]
pub enum Reply {
    /// A notification on the call's own stream.
    Note(Note),
    /// The server needs something of the client before it can go on.
    Ask(Ask),
    /// It does not need that answer any more: the ticket of its question.
    Withdrawn(u64),
    /// The last word.
    Done(Outcome),
}

/// A notification: progress, a log line, or one nobody knows yet.
#[derive(Clone, Debug)]
pub struct Note {
    /// What it tells.
    pub method: Method,
    /// The notification as the client gets it: its progress token is the client's own.
    pub message: Bytes,
}

/// How a call ends.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The JSON text of `result`.
    Result(Bytes),
    /// The JSON text of the `error` object a server sent.
    Error(Bytes),
    /// It failed on the way.
    Fault(Fault),
}

/// A request of the server: elicitation, sampling, roots.
#[derive(Debug)]
pub struct Ask {
    /// By which its answer finds the server again.
    pub ticket: u64,
    /// What is asked.
    pub method: Method,
    /// The request as the server wrote it.
    pub message: Message,
}

/// Something changed, or was logged, that belongs to no call.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What.
    pub method: Method,
    /// The resource, of `notifications/resources/updated`.
    pub uri: Option<Arc<str>>,
    /// The level, of `notifications/message`.
    pub level: Option<Level>,
    /// The notification as the server wrote it, on one line.
    pub message: Bytes,
}

impl Notice {
    /// A notice of our own.
    pub fn new(method: Method, uri: Option<&str>) -> Notice {
        let params = uri.map_or(String::new(), |u| format!(",\"params\":{{\"uri\":{}}}", json::quote(u)));
        let message = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"{params}}}", method.as_str());
        Notice { method, uri: uri.map(Arc::from), level: None, message: message.into() }
    }

    /// Reads a notification of a server as a notice.
    pub fn read(method: Method, message: &Message) -> Notice {
        let [uri, level] = message.params_fields(&["uri", "level"]).unwrap_or_default();
        Notice {
            uri: message.string_at(uri).map(|u| Arc::from(&*u)),
            level: message.string_at(level).and_then(|l| Level::parse(&l)),
            message: json::on_one_line(&message.bytes),
            method,
        }
    }
}

/// What a server said of itself when it was met.
#[derive(Debug)]
pub struct Server {
    /// What we call it.
    pub name: Box<str>,
    /// What it speaks.
    pub revision: Revision,
    /// The JSON text of its InitializeResult or DiscoverResult, as it was.
    pub hello: Bytes,
    /// The JSON text of its `serverInfo`; made up where it gave none.
    pub info: Bytes,
    /// The JSON text of its capabilities.
    pub capabilities: Bytes,
    /// The JSON text (a string) of its instructions.
    pub instructions: Option<Bytes>,
    /// The capabilities we act on.
    pub can: Can,
}

/// The server capabilities a gateway acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Can {
    /// `tools.listChanged`
    pub tools_changed: bool,
    /// `prompts.listChanged`
    pub prompts_changed: bool,
    /// `resources.listChanged`
    pub resources_changed: bool,
    /// `resources.subscribe`
    pub subscribe: bool,
    /// `logging`
    pub logging: bool,
    /// `tools`
    pub tools: bool,
    /// Calls of tools as tasks, in the kind of its era.
    pub tasks: bool,
}

impl Server {
    /// The era the server speaks in.
    pub fn era(&self) -> Era {
        self.revision.era()
    }

    /// Reads an InitializeResult or DiscoverResult. `name` is what we call the server, for
    /// those that do not say (`serverInfo` is optional in 2026-07-28).
    pub fn read(revision: Revision, hello: Bytes, name: &str) -> Result<Server, String> {
        let message = object(hello.clone())?;
        let [capabilities, info, instructions, meta] =
            message.params_fields(&["capabilities", "serverInfo", "instructions", "_meta"]).map_err(|e| e.to_string())?;
        let of_meta = match meta {
            Some(meta) => message.fields_at(meta, &[crate::message::META_SERVER_INFO]).unwrap_or_default()[0],
            None => None,
        };
        let capabilities = capabilities.map_or(Bytes::from_static(b"{}"), |c| message.slice(c));
        let made_up = || Bytes::from(format!("{{\"name\":{},\"version\":\"0\"}}", json::quote(name)));
        Ok(Server {
            name: name.into(),
            revision,
            info: info.or(of_meta).map_or_else(made_up, |i| message.slice(i)),
            instructions: instructions.map(|i| message.slice(i)),
            can: Can { tasks: crate::tasks::serves_tasks(&capabilities, revision.era()), ..Can::read(&capabilities) },
            capabilities,
            hello,
        })
    }
}

/// An object on its own, as if it were a message's `params`.
pub(crate) fn object(bytes: Bytes) -> Result<Message, String> {
    let text = std::str::from_utf8(&bytes).map_err(|e| e.to_string())?;
    json::fields(text, &[], &mut []).map_err(|e| e.to_string())?;
    let whole = json::Span::whole(&bytes);
    Ok(Message { kind: crate::message::Kind::Notification(Method::Other("".into())), id: None, params: Some(whole), bytes })
}

impl Can {
    fn read(capabilities: &Bytes) -> Can {
        let Ok(message) = object(capabilities.clone()) else { return Can::default() };
        let [tools, prompts, resources, logging] = message.params_fields(&["tools", "prompts", "resources", "logging"]).unwrap_or_default();
        let flag = |of: Option<json::Span>, key: &str| {
            of.and_then(|at| message.fields_at(at, &[key]).ok()?[0]).is_some_and(|v| v.of_bytes(&message.bytes) == b"true")
        };
        Can {
            tools_changed: flag(tools, "listChanged"),
            prompts_changed: flag(prompts, "listChanged"),
            resources_changed: flag(resources, "listChanged"),
            subscribe: flag(resources, "subscribe"),
            logging: logging.is_some(),
            tools: tools.is_some(),
            tasks: false,
        }
    }
}

/// A log level, least urgent first (RFC 5424).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `notice`
    Notice,
    /// `warning`
    Warning,
    /// `error`
    Error,
    /// `critical`
    Critical,
    /// `alert`
    Alert,
    /// `emergency`
    Emergency,
}

impl Level {
    const NAMES: [(Level, &str); 8] = [
        (Level::Debug, "debug"),
        (Level::Info, "info"),
        (Level::Notice, "notice"),
        (Level::Warning, "warning"),
        (Level::Error, "error"),
        (Level::Critical, "critical"),
        (Level::Alert, "alert"),
        (Level::Emergency, "emergency"),
    ];

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Level> {
        Level::NAMES.iter().find(|(_, n)| *n == name).map(|(l, _)| *l)
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        Level::NAMES.iter().find(|(l, _)| *l == self).map_or("", |(_, n)| n)
    }
}
