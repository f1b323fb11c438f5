//! Talking to a server over one of its wires, once it was found: requests, notifications, and what came.
//!
//! The three wires differ in what carries a message and in nothing else, so that whoever checks what they
//! have in common need not know which it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};
use serde_json::{Value, json};
use tokio::time::Instant;

use landbridge_proto::back::{endpoint, stateless};
use landbridge_proto::headers::MirroredParam;
use landbridge_proto::lines::Line;
use landbridge_proto::message::{Message, Params};
use landbridge_proto::sse::Decoded;
use landbridge_proto::version::{Era, Revision};

use crate::backend::pool::Bare;
use crate::check::http::{Events, Site};
use crate::check::rules::{self, Finding, Verdict};
use crate::check::seen::{Came, Missed, Seen, quote};
use crate::plan::Limits;

/// How long a stream may take to name its endpoint once its head is there.
const ENDPOINT: Duration = Duration::from_secs(3);
/// Messages and lines that are kept of what nobody asked for.
const KEPT: usize = 100;
/// Longest that is kept of a line that is no message.
const NOISE: usize = 200;

/// A conversation.
#[allow(clippy::large_enum_variant)] // There is one at a time.
pub(super) enum Talk {
    Http(HttpTalk),
    Sse(SseTalk),
    Stdio(StdioTalk),
}

impl Talk {
    /// Sends a request and waits for its answer.
    pub(super) async fn ask(&mut self, message: &Value) -> Came {
        match self {
            Talk::Http(talk) => talk.post(message, &[]).await,
            Talk::Sse(talk) => talk.ask(message).await,
            Talk::Stdio(talk) => talk.ask(message).await,
        }
    }

    /// Sends a notification.
    pub(super) async fn tell(&mut self, message: &Value) -> Came {
        match self {
            Talk::Http(talk) => talk.post(message, &[]).await,
            Talk::Sse(talk) => talk.post(message).await,
            Talk::Stdio(talk) => talk.write(&message.to_string()).await.map(|()| Seen::default()),
        }
    }

    /// What `initialize` settled.
    pub(super) fn settled(&mut self, came: &Came, revision: Option<Revision>) {
        if let Talk::Http(talk) = self {
            talk.session = came.as_ref().ok().and_then(|seen| seen.header("mcp-session-id")).map(str::to_owned);
            talk.revision = revision;
        }
    }

    /// Ends it: whether a process went by itself.
    pub(super) async fn end(self, patience: Duration) -> bool {
        match self {
            Talk::Http(talk) if talk.session.is_some() => {
                let headers = talk.headers();
                let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let _ = talk.site.send(Method::DELETE, &headers, Bytes::new(), &[]).await;
                true
            }
            Talk::Stdio(talk) => talk.bare.end(patience).await,
            _ => true,
        }
    }
}

/// A request.
pub(super) fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

/// A notification.
pub(super) fn notification(method: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": method})
}

/// `initialize`, as ourselves, able to nothing.
pub(super) fn initialize(id: impl Into<Value>, revision: &str) -> Value {
    let info = json!({"name": "landbridge-check", "version": env!("CARGO_PKG_VERSION")});
    request(id, "initialize", json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": info}))
}

/// `server/discover`, as ourselves.
pub(super) fn discover(id: impl Into<Value>) -> Value {
    described(request(id, "server/discover", json!({})), Revision::NEWEST.as_str())
}

/// The same request as 2026-07-28 has it, under that revision.
pub(super) fn described(mut request: Value, revision: &str) -> Value {
    request["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": revision,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "landbridge-check", "version": env!("CARGO_PKG_VERSION")},
    });
    request
}

/// The headers that repeat a request of 2026-07-28.
pub(super) fn mirrors(message: &Value, params: &[MirroredParam]) -> Vec<(String, String)> {
    let read = Message::read(message.to_string().into()).ok().and_then(|m| Some((Params::read(&m).ok()?, m)));
    let Some((read, message)) = read else { return Vec::new() };
    stateless::headers(&message, &read, params).into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

// --- Streamable HTTP -------------------------------------------------------------------------------

/// Streamable HTTP, of either era.
#[derive(Clone)]
pub(super) struct HttpTalk {
    pub(super) site: Site,
    pub(super) era: Era,
    /// What was agreed upon, once it was.
    pub(super) revision: Option<Revision>,
    pub(super) session: Option<String>,
}

impl HttpTalk {
    pub(super) fn new(site: &Site, era: Era) -> HttpTalk {
        HttpTalk { site: site.clone(), era, revision: None, session: None }
    }

    /// What every request says of its session.
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        if let Some(revision) = self.revision.filter(|r| *r >= Revision::V2025_06_18 && self.era == Era::Handshake) {
            headers.push(("mcp-protocol-version".into(), revision.to_string()));
        }
        headers.extend(self.session.clone().map(|session| ("mcp-session-id".into(), session)));
        headers
    }

    /// POSTs a message as it belongs; `extra` says otherwise.
    pub(super) async fn post(&self, message: &Value, extra: &[(&str, &str)]) -> Came {
        let mut headers = self.headers();
        if self.era == Era::Stateless {
            headers.extend(mirrors(message, &[]));
        }
        let own = headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let all: Vec<(&str, &str)> = own.chain(extra.iter().copied()).collect();
        self.site.post(message, &all).await
    }
}

// --- HTTP+SSE --------------------------------------------------------------------------------------

/// HTTP+SSE: what was POSTed is answered on the stream.
pub(super) struct SseTalk {
    /// Where messages go.
    pub(super) site: Site,
    events: Events,
}

/// What became of a GET for a stream of HTTP+SSE.
pub(super) struct Opened {
    pub(super) talk: Option<SseTalk>,
    /// What was seen where it came to nothing, or where it is.
    pub(super) said: String,
    /// What there is to say of the rules, if it is a stream at all.
    pub(super) findings: Vec<(&'static rules::Rule, Finding)>,
}

impl SseTalk {
    /// Opens a stream, and waits for it to name its endpoint.
    pub(super) async fn open(site: &Site) -> Opened {
        let none = |said: String, findings| Opened { talk: None, said, findings };
        let response = match site.head(Method::GET, &[("accept", "text/event-stream")], Bytes::new()).await {
            Ok(response) => response,
            Err(missed) => return none(format!("GET: {}", missed.why), Vec::new()),
        };
        let head = Seen { status: Some(response.status().as_u16()), headers: response.headers().clone(), ..Seen::default() };
        if !head.is_success() || !head.is_stream() {
            let media = if head.is_success() { format!(", {}", quote(&head.media())) } else { String::new() };
            return none(format!("GET: HTTP {}{media}", response.status().as_u16()), Vec::new());
        }
        let mut events = Events::new(response);
        let first = match tokio::time::timeout(ENDPOINT.min(site.patience), events.next()).await {
            Ok(Ok(Some(Decoded::Event(event)))) => Ok(event),
            Ok(Ok(Some(Decoded::TooLong { .. }))) => Err("its first event is too large".to_owned()),
            Ok(Ok(None)) => Err("its stream ended without an event".to_owned()),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("its stream named no endpoint".to_owned()),
        };
        let named = match first {
            Ok(event) if event.name.as_deref() == Some(b"endpoint") => String::from_utf8_lossy(&event.data).into_owned(),
            other => {
                let why = other.map_or_else(|why| why, |_| "its first event is not `endpoint`".into());
                return none(format!("GET: {why}"), vec![(&rules::ENDPOINT, (Verdict::Fail, why))]);
            }
        };
        let base = site.url.to_string();
        let resolved = endpoint::resolve(&base, &named).ok().and_then(|url| Some((url.parse::<Uri>().ok()?, url)));
        let Some((uri, url)) = resolved else {
            let why = format!("the endpoint {} is no URL", quote(&named));
            return none(why.clone(), vec![(&rules::ENDPOINT, (Verdict::Fail, why))]);
        };
        let mut findings = vec![(&rules::ENDPOINT, (Verdict::Ok, "the first event".to_owned()))];
        if !endpoint::same_origin(&base, &url) {
            let why = format!("the endpoint is at another origin: {url}");
            findings.push((&rules::ENDPOINT_ORIGIN, (Verdict::Warn, why.clone())));
            return none(why, findings);
        }
        findings.push((&rules::ENDPOINT_ORIGIN, (Verdict::Ok, uri.path().to_owned())));
        Opened { talk: Some(SseTalk { site: site.at(uri), events }), said: String::new(), findings }
    }

    /// POSTs a message, whose answer is on the stream.
    pub(super) async fn post(&self, message: &Value) -> Came {
        // The answer does not come here, so none is waited for.
        self.site.send(Method::POST, &[("content-type", "application/json")], message.to_string(), &[]).await
    }

    async fn ask(&mut self, message: &Value) -> Came {
        let began = Instant::now();
        let posted = self.post(message).await?;
        if !posted.is_success() {
            return Ok(posted);
        }
        let awaited = awaited(message);
        let mut seen = Seen { status: posted.status, headers: posted.headers, ..Seen::default() };
        let reading = async {
            while awaited.iter().any(|id| seen.answer(id).is_none()) {
                match self.events.next().await {
                    Ok(Some(Decoded::Event(event))) if event.is_message() => {
                        if let Ok(value) = serde_json::from_slice::<Value>(&event.data) {
                            keep(&mut seen.messages, value);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return Some("its stream ended".to_owned()),
                    Err(why) => return Some(why),
                }
            }
            None
        };
        let late = || Some(format!("no answer came on the stream within {} s", self.site.patience.as_secs_f32()));
        let cut = tokio::time::timeout_at(began + self.site.patience, reading).await.unwrap_or_else(|_| late());
        seen.cut = cut;
        seen.first_byte = began.elapsed();
        seen.whole = began.elapsed();
        Ok(seen)
    }
}

// --- stdio -----------------------------------------------------------------------------------------

/// A command, as it is started.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) argv: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: Option<PathBuf>,
}

/// A process and its pipes.
pub(super) struct StdioTalk {
    bare: Bare,
    pub(super) patience: Duration,
    /// Whatever it said.
    pub(super) heard: Vec<Value>,
    /// What of it was no message.
    pub(super) noise: Vec<String>,
}

impl StdioTalk {
    /// Starts the program.
    pub(super) async fn start(program: &Program, patience: Duration, limits: &Limits) -> Result<StdioTalk, Missed> {
        let name = program.argv.first().map_or("server", |word| word.rsplit('/').next().unwrap_or(word));
        let started = Bare::start(name, &program.argv, &program.env, program.cwd.as_deref(), limits).await;
        let bare = started.map_err(|e| Missed { ended: false, why: format!("it cannot be started: {e}") })?;
        Ok(StdioTalk { bare, patience, heard: Vec::new(), noise: Vec::new() })
    }

    /// Writes a line.
    pub(super) async fn write(&mut self, line: &str) -> Result<(), Missed> {
        match tokio::time::timeout(self.patience, self.bare.write(format!("{line}\n").as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.ended().await),
            Err(_) => Err(Missed { ended: false, why: format!("it read nothing for {} s", self.patience.as_secs_f32()) }),
        }
    }

    /// Writes a request and waits for its answer.
    pub(super) async fn ask(&mut self, message: &Value) -> Came {
        let began = Instant::now();
        // Who ended already may have said something first.
        let written = self.write(&message.to_string()).await;
        let until = began + self.patience;
        let mut seen = Seen::default();
        let awaited = awaited(message);
        while awaited.iter().any(|id| seen.answer(id).is_none()) {
            let Ok(line) = tokio::time::timeout_at(until, self.bare.line()).await else {
                let why = format!("it did not answer within {} s", self.patience.as_secs_f32());
                return Err(Missed { ended: false, why });
            };
            match line {
                Some(line) => seen.messages.extend(self.hear(line)),
                None => {
                    return Err(match written {
                        Err(missed) => missed,
                        Ok(()) => self.ended().await,
                    });
                }
            }
            // An error without an id may be for this.
            if seen.messages.iter().any(|m| m.get("error").is_some() && m.get("id").is_none_or(Value::is_null)) && awaited.len() == 1 {
                break;
            }
        }
        seen.first_byte = began.elapsed();
        seen.whole = seen.first_byte;
        Ok(seen)
    }

    /// Writes a line that may be anything and a ping behind it, and waits for the answer to that: all that
    /// came until then.
    pub(super) async fn poke(&mut self, line: &str, ping: &Value) -> Came {
        self.write(line).await?;
        self.write(&ping.to_string()).await?;
        let until = Instant::now() + self.patience;
        let mut seen = Seen::default();
        while seen.answer(&ping["id"]).is_none() {
            match tokio::time::timeout_at(until, self.bare.line()).await {
                Ok(Some(line)) => seen.messages.extend(self.hear(line)),
                Ok(None) => return Err(self.ended().await),
                Err(_) => return Err(Missed { ended: false, why: "it answered nothing any more".into() }),
            }
        }
        Ok(seen)
    }

    fn hear(&mut self, line: Line) -> Vec<Value> {
        let mut all = Vec::new();
        let text = match line {
            Line::Whole(line) => line,
            Line::TooLong { head, .. } => head,
        };
        match serde_json::from_slice::<Value>(&text) {
            Ok(value @ (Value::Array(_) | Value::Object(_))) => keep(&mut all, value),
            _ if self.noise.len() < KEPT => {
                let text = String::from_utf8_lossy(&text);
                self.noise.push(text.chars().take(NOISE).collect());
            }
            _ => {}
        }
        let room = KEPT.saturating_sub(self.heard.len());
        self.heard.extend(all.iter().take(room).cloned());
        all
    }

    async fn ended(&mut self) -> Missed {
        let words = self.bare.last_words().await;
        let words = if words.is_empty() { String::new() } else { format!(" ({words})") };
        Missed { ended: true, why: format!("it ended{words}") }
    }
}

fn awaited(message: &Value) -> Vec<Value> {
    let one = |m: &Value| m.get("id").cloned();
    message.as_array().map_or_else(|| one(message).into_iter().collect(), |all| all.iter().filter_map(one).collect())
}

fn keep(all: &mut Vec<Value>, value: Value) {
    match value {
        Value::Array(more) => all.extend(more),
        one => all.push(one),
    }
}
