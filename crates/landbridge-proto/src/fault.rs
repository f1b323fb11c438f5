//! What went wrong, who is to blame, and what each side is told.
//!
//! Blame and kind decide the HTTP status and the JSON-RPC code, here and nowhere else. A fault
//! has two voices: `tell` is what the client may read, `because` what only the log may read.

use std::fmt;

use crate::json;
use crate::message::Id;
use crate::version::{Era, Revision};

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body is no JSON.
    Syntax,
    /// JSON, but no message that may stand here.
    Invalid,
    /// A parameter is missing or wrong.
    Params,
    /// A `_meta` key that every request of 2026-07-28 must carry is missing or wrong.
    Envelope,
    /// Nobody knows this method.
    UnknownMethod,
    /// A header and the body disagree (2026-07-28, basic/transports).
    HeaderMismatch,
    /// The revision is not served.
    Revision,
    /// The client lacks a capability that the call needs.
    Capability,
    /// A session is needed and none was named.
    NoSession,
    /// The session is unknown or has ended.
    DeadSession,
    /// The client cannot read what we would send.
    NotAcceptable,
    /// The body is not of type JSON.
    MediaType,
    /// The HTTP method has no meaning here.
    HttpMethod,
    /// No such URL.
    NoSuchPath,
    /// Host or Origin is not allowed.
    Forbidden,
    /// A message is larger than the limit.
    TooLarge,
    /// The body did not arrive in time.
    TooSlow,
    /// A ceiling is reached; later may do.
    Busy,
    /// This client, its user or its address wants more than it may; later may do.
    TooMuch,
    /// The call took longer than it may.
    Timeout,
    /// The client itself withdrew the call.
    Cancelled,
    /// The server could not be started, died or broke the protocol.
    Backend,
    /// The server, or the way to it, does not answer; later may do.
    Unreachable,
    /// The server speaks another revision than it did, and so has not read the call.
    Changed,
    /// The answer cannot be given to this client.
    Untranslatable,
}

/// Who is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client.
    Client,
    /// The server of that name.
    Backend(String),
    /// We ourselves, or the machine.
    Gateway,
}

/// A failure, with what each side is told.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Who.
    pub blame: Blame,
    /// What.
    pub kind: Kind,
    /// What the client may read.
    pub told: String,
    /// What only the log may read.
    pub cause: Option<String>,
    /// The JSON text of `error.data`.
    pub data: Option<String>,
    /// In how many seconds it may be tried again, if that is known.
    pub retry_s: Option<u64>,
}

impl Fault {
    /// The client's fault.
    pub fn client(kind: Kind) -> Fault {
        Fault { blame: Blame::Client, kind, told: String::new(), cause: None, data: None, retry_s: None }
    }

    /// The fault of the server `name`.
    pub fn backend(name: &str, kind: Kind) -> Fault {
        Fault { blame: Blame::Backend(name.into()), ..Fault::client(kind) }
    }

    /// Our own fault, or a limit of ours.
    pub fn gateway(kind: Kind) -> Fault {
        Fault { blame: Blame::Gateway, ..Fault::client(kind) }
    }

    /// What the client may read.
    pub fn tell(mut self, told: impl Into<String>) -> Fault {
        self.told = told.into();
        self
    }

    /// What only the log may read.
    pub fn because(mut self, cause: impl fmt::Display) -> Fault {
        self.cause = Some(cause.to_string());
        self
    }

    /// What the client may read, as JSON for `error.data`.
    pub fn with_data(mut self, data: String) -> Fault {
        self.data = Some(data);
        self
    }

    /// In how many seconds the client may try again.
    pub fn retry_in(mut self, seconds: u64) -> Fault {
        self.retry_s = Some(seconds);
        self
    }

    /// A revision that nobody serves, with those that are (2026-07-28, basic/versioning).
    pub fn unsupported_revision(requested: &str) -> Fault {
        Fault::client(Kind::Revision)
            .tell(format!("protocol version {requested:?} is not served here; use {}", Revision::NEWEST))
            .with_data(format!("{{\"supported\":[\"{}\"],\"requested\":{}}}", Revision::NEWEST, json::quote(requested)))
    }

    /// The JSON-RPC code.
    pub fn code(&self) -> i32 {
        match self.kind {
            Kind::Syntax => -32700,
            Kind::Invalid => -32600,
            Kind::UnknownMethod => -32601,
            Kind::Params | Kind::Envelope => -32602,
            Kind::HeaderMismatch => -32020,
            Kind::Capability => -32021,
            Kind::Revision => -32022,
            Kind::DeadSession => -32001,
            Kind::NoSession
            | Kind::NotAcceptable
            | Kind::MediaType
            | Kind::HttpMethod
            | Kind::NoSuchPath
            | Kind::Forbidden
            | Kind::TooLarge
            | Kind::TooSlow
            | Kind::Cancelled
            | Kind::Busy
            | Kind::TooMuch => -32000,
            Kind::Timeout | Kind::Backend | Kind::Unreachable | Kind::Changed | Kind::Untranslatable => -32603,
        }
    }

    /// The HTTP status, for a client of that era.
    ///
    /// To a handshake client an error that *answers a request* is an answer like any other (200);
    /// 4xx is for faults of envelope, header or session. 2026-07-28 gives some answers a status
    /// of their own (basic/transports, "Error responses").
    pub fn status(&self, era: Era) -> u16 {
        match self.kind {
            Kind::Syntax | Kind::Invalid | Kind::Envelope | Kind::HeaderMismatch | Kind::Revision | Kind::NoSession => 400,
            Kind::Capability if era == Era::Stateless => 400,
            Kind::UnknownMethod if era == Era::Stateless => 404,
            Kind::Params if era == Era::Stateless => 400,
            Kind::DeadSession | Kind::NoSuchPath => 404,
            Kind::NotAcceptable => 406,
            Kind::MediaType => 415,
            Kind::HttpMethod => 405,
            Kind::Forbidden => 403,
            Kind::TooLarge => 413,
            Kind::TooSlow => 408,
            Kind::Busy => 503,
            Kind::TooMuch => 429,
            Kind::Capability
            | Kind::UnknownMethod
            | Kind::Params
            | Kind::Timeout
            | Kind::Cancelled
            | Kind::Backend
            | Kind::Unreachable
            | Kind::Changed
            | Kind::Untranslatable => 200,
        }
    }

    /// The text of the JSON-RPC `error` object.
    pub fn error(&self) -> String {
        let data = self.data.as_ref().map_or(String::new(), |d| format!(",\"data\":{d}"));
        format!("{{\"code\":{},\"message\":{}{data}}}", self.code(), json::quote(&self.told))
    }

    /// The whole JSON-RPC message that refuses the request `id`. Without an id it carries none,
    /// as the specification has it for faults of the envelope.
    pub fn message(&self, id: Option<&Id>) -> String {
        let id = id.map_or(String::new(), |id| format!("\"id\":{},", String::from_utf8_lossy(id.as_bytes())));
        format!("{{\"jsonrpc\":\"2.0\",{id}\"error\":{}}}", self.error())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told)?;
        match &self.cause {
            Some(cause) => write!(f, " ({cause})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// The HTTP status with which a stateless client gets an error object a server sent.
pub fn status_of_error(code: Option<i64>) -> u16 {
    match code {
        Some(-32601) => 404,
        Some(-32022..=-32020 | -32700 | -32602 | -32600) => 400,
        _ => 200,
    }
}
