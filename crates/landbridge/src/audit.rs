//! What happened that somebody may have to answer for: who came in, who was kept out, who let whom in, what was called.
//!
//! ```text
//!   Line ─┬─▶ the log, target `landbridge::audit`
//!         └─▶ queue ─▶ one thread ─▶ file, one JSON object a line
//! ```
//!
//! Lines hold names, never what was shown, sent or answered: no tokens, no arguments, no results. A call never waits
//! for the file: what does not fit into the queue is lost and counted. Calls and sessions are many, so they are
//! written only where somebody wants them ([`Audit::wants_calls`]). What strangers can cause without end (refusals)
//! is rationed.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use landbridge_proto::call::{Call, Client, Outcome};
use landbridge_proto::fault::Kind;
use landbridge_proto::json;
use landbridge_proto::methods::Method;
use landbridge_proto::rates::{Rate, Rates};

use crate::auth::{Caller, Identity};
use crate::backend::{Backend, lock};
use crate::observe::Ration;
use crate::plan::Audit as Plan;
use crate::sessions::SessionId;

/// Lines that wait for the file.
const QUEUE: usize = 8 * 1024;
/// Written at once, about, in bytes.
const BATCH: usize = 64 * 1024;
/// Longest text in a line, in characters.
const LONGEST: usize = 200;
/// Refusals a second that get a line of their own.
const REFUSALS_PER_S: u32 = 50;
/// How often the use of a key gets a line.
const KEY_USE: Rate = Rate { burst: 1, every: Duration::from_secs(60) };
/// For the file to take what is left, at the end.
const PATIENCE: Duration = Duration::from_secs(2);

/// One line. What is not known, or does not belong there, is left out.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Line<'l> {
    /// What happened: `login`, `consent`, `token`, `revocation`, `registration`, `refusal`, `key`, `session`, `call`,
    /// `audit`.
    pub event: &'static str,
    /// What came of it.
    pub outcome: &'static str,
    /// Who, as people call them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<&'l str>,
    /// Who, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<&'l str>,
    /// What they came with: the id of a client, `key ID`, or who knows them (`local`, `github`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'l str>,
    /// The program that they use, as it calls itself: `name/version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'l str>,
    /// At which server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<&'l str>,
    /// The beginning of a session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'l str>,
    /// The tool, as its server calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<&'l str>,
    /// The prompt, as its server calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<&'l str>,
    /// The URI of a resource that was read, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<&'l str>,
    /// For what a token is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<&'l str>,
    /// What it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<&'l str>,
    /// By which it can be withdrawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<&'l str>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'l str>,
    /// The HTTP status of a refusal, or the JSON-RPC code of an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
}

impl<'l> Line<'l> {
    /// That this happened, and came to that.
    pub fn new(event: &'static str, outcome: &'static str) -> Line<'l> {
        Line { event, outcome, ..Line::default() }
    }

    /// By them.
    pub fn of(self, identity: &'l Identity) -> Line<'l> {
        let principal = std::str::from_utf8(identity.principal.as_bytes()).ok();
        let via = Some(identity.via.as_str()).filter(|via| !via.is_empty());
        Line { who: Some(&identity.name), principal, via, ..self }
    }

    /// No text in it is longer than it may be: much of it was chosen by strangers.
    fn cut(self) -> Line<'l> {
        let cut = |text: Option<&'l str>| text.map(|text| text.char_indices().nth(LONGEST).map_or(text, |(end, _)| &text[..end]));
        Line {
            who: cut(self.who),
            principal: cut(self.principal),
            via: cut(self.via),
            client: cut(self.client),
            tool: cut(self.tool),
            prompt: cut(self.prompt),
            uri: cut(self.uri),
            resource: cut(self.resource),
            scopes: cut(self.scopes),
            reason: cut(self.reason),
            ..self
        }
    }
}

/// How loud a line is in the log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loud {
    Warn,
    Info,
    Debug,
}

/// Where all lines go.
#[derive(Debug)]
pub struct Audit {
    file: Option<Writing>,
    /// Calls and sessions are wanted.
    calls: bool,
    refusals: Mutex<Ration>,
    /// Keys whose use was told lately.
    keys: Mutex<Rates<String>>,
    began: Instant,
}

impl Audit {
    /// As planned, with the file opened.
    pub fn open(plan: &Plan) -> Result<Arc<Audit>, String> {
        let file = plan.file.as_deref().map(Writing::begin).transpose()?;
        Ok(Arc::new(Audit {
            file,
            calls: plan.calls,
            refusals: Mutex::new(Ration::new(REFUSALS_PER_S)),
            keys: Mutex::new(Rates::new(KEY_USE)),
            began: Instant::now(),
        }))
    }

    /// Something happened.
    pub fn tell(&self, line: Line<'_>) {
        self.write(line, Loud::Info, true);
    }

    /// Something happened that deserves waking someone.
    pub fn warn(&self, line: Line<'_>) {
        self.write(line, Loud::Warn, true);
    }

    /// Somebody was refused; of many in a second some are only counted.
    pub fn refused(&self, line: Line<'_>) {
        let passes = lock(&self.refusals).admit();
        self.settle(false);
        if passes {
            self.tell(line);
        }
    }

    /// Called every second: tells how many refusals had no line.
    pub fn housekeep(&self) {
        self.settle(false);
    }

    fn settle(&self, last: bool) {
        let count = lock(&self.refusals).settle(last);
        if count > 0 {
            self.tell(Line { count: Some(count), ..Line::new("refusal", "left_out") });
        }
    }

    /// Somebody came with a key; told once a minute for each.
    pub fn key_used(&self, who: &Identity, from: Option<IpAddr>) {
        if lock(&self.keys).take(who.via.as_str(), self.began.elapsed()).is_ok() {
            self.tell(Line { from, ..Line::new("key", "used").of(who) });
        }
    }

    /// Whether calls and sessions get lines: as planned, or because the log is to have them
    /// (`landbridge::audit=debug`).
    pub fn wants_calls(&self) -> bool {
        self.calls || tracing::enabled!(target: "landbridge::audit", tracing::Level::DEBUG)
    }

    /// What was called, or who opened what: for the file if there is one, else for the log.
    fn call(&self, line: Line<'_>) {
        let loud = if self.calls && self.file.is_none() { Loud::Info } else { Loud::Debug };
        self.write(line, loud, self.calls);
    }

    fn write(&self, line: Line<'_>, loud: Loud, filed: bool) {
        let line = line.cut();
        if let Some(file) = self.file.as_ref().filter(|_| filed) {
            file.write(&line);
        }
        macro_rules! log {
            ($level:expr) => {
                tracing::event!(
                    target: "landbridge::audit",
                    $level,
                    event = line.event,
                    outcome = line.outcome,
                    who = line.who,
                    principal = line.principal,
                    via = line.via,
                    client = line.client,
                    server = line.server,
                    session = line.session,
                    tool = line.tool,
                    prompt = line.prompt,
                    uri = line.uri,
                    resource = line.resource,
                    scopes = line.scopes,
                    grant = line.grant,
                    reason = line.reason,
                    code = line.code,
                    count = line.count,
                    duration_ms = line.duration_ms,
                    from = line.from.map(tracing::field::display),
                    "{} {}",
                    line.event,
                    line.outcome
                )
            };
        }
        match loud {
            Loud::Warn => log!(tracing::Level::WARN),
            Loud::Info => log!(tracing::Level::INFO),
            Loud::Debug => log!(tracing::Level::DEBUG),
        }
    }

    /// Whether there is a file.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// The file was moved away: from here on there is another of its name.
    pub fn reopen(&self) {
        if let Some(file) = &self.file {
            file.reopen.store(1, Ordering::Release);
            // Should the queue be full, the thread is awake anyway.
            let _ = file.queue.try_send(Job::Wake);
        }
    }

    /// Waits until all lines are in the file, or it takes too long.
    pub async fn flush(&self) {
        self.settle(true);
        let Some(file) = &self.file else { return };
        let (queue, (done, told)) = (file.queue.clone(), tokio::sync::oneshot::channel());
        let flushed = async {
            let sent = tokio::task::spawn_blocking(move || queue.send(Job::Flush(done)));
            // A thread that is gone has nothing left to write.
            let _ = sent.await;
            let _ = told.await;
        };
        if tokio::time::timeout(PATIENCE, flushed).await.is_err() {
            tracing::warn!("the audit file does not take what is left for it");
        }
    }
}

// --- the file -----------------------------------------------------------------------------------

enum Job {
    Line(String),
    /// All before this are to be written.
    Flush(tokio::sync::oneshot::Sender<()>),
    /// Something else is to be done.
    Wake,
}

/// A file that lines are appended to, by a thread of its own.
#[derive(Debug)]
struct Writing {
    queue: SyncSender<Job>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicU64>,
}

#[derive(Serialize)]
struct Dated<'l> {
    time: String,
    #[serde(flatten)]
    line: &'l Line<'l>,
}

fn dated(line: &Line<'_>) -> Option<String> {
    let time = jiff::Timestamp::now();
    let mut text = serde_json::to_string(&Dated { time: format!("{time:.3}"), line }).ok()?;
    text.push('\n');
    Some(text)
}

impl Writing {
    fn begin(path: &Path) -> Result<Writing, String> {
        let file = open(path).map_err(|e| format!("the audit file {} cannot be opened: {e}", path.display()))?;
        let (queue, jobs) = sync_channel(QUEUE);
        let (lost, reopen) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let scribe = Scribe { path: path.to_owned(), file: Some(file), jobs, lost: lost.clone(), reopen: reopen.clone(), told: None };
        let began = std::thread::Builder::new().name("audit".into()).spawn(move || scribe.run());
        began.map_err(|e| format!("no thread for the audit file: {e}"))?;
        Ok(Writing { queue, lost, reopen })
    }

    fn write(&self, line: &Line<'_>) {
        let sent = dated(line).is_some_and(|text| self.queue.try_send(Job::Line(text)).is_ok());
        if !sent {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    options.open(path)
}

/// The thread that writes.
struct Scribe {
    path: PathBuf,
    /// `None`: it could not be written, and is opened again.
    file: Option<File>,
    jobs: Receiver<Job>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicU64>,
    /// When it was last told that something is wrong.
    told: Option<Instant>,
}

impl Scribe {
    fn run(mut self) {
        while let Ok(first) = self.jobs.recv() {
            let (mut text, mut n_lines, mut flushed) = (String::new(), 0, Vec::new());
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Line(line) => {
                        text.push_str(&line);
                        n_lines += 1;
                    }
                    Job::Flush(done) => flushed.push(done),
                    Job::Wake => {}
                }
                next = if text.len() < BATCH { self.jobs.try_recv().ok() } else { None };
            }
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                text.extend(dated(&Line { count: Some(lost), ..Line::new("audit", "lost") }));
                self.complain(&format!("{lost} lines for the audit file were lost, for it does not take them fast enough"));
            }
            if self.reopen.swap(0, Ordering::Acquire) > 0 {
                self.file = None;
            }
            if let Err(e) = self.append(text.as_bytes()) {
                self.lost.fetch_add(lost + n_lines, Ordering::Relaxed);
                self.file = None;
                self.complain(&format!("the audit file {} cannot be written: {e}", self.path.display()));
            }
            for done in flushed {
                // Whoever waited has given up.
                let _ = done.send(());
            }
        }
    }

    fn append(&mut self, text: &[u8]) -> std::io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => open(&self.path)?,
        };
        file.write_all(text)?;
        self.file = Some(file);
        Ok(())
    }

    /// Once a minute.
    fn complain(&mut self, why: &str) {
        if self.told.is_none_or(|told| told.elapsed() >= Duration::from_secs(60)) {
            self.told = Some(Instant::now());
            tracing::warn!("{why}");
        }
    }
}

// --- calls and sessions ------------------------------------------------------------------------

/// Why a request was refused, as its response carries it to where it is told.
#[derive(Clone, Debug)]
pub struct Why {
    /// What the client was told.
    pub told: String,
    /// Who it was, if that is known.
    pub who: Option<Arc<Identity>>,
}

/// A call that is to be told of when it ends. Dropped before that, it was withdrawn.
pub struct Calling {
    audit: Arc<Audit>,
    caller: Caller,
    client: Arc<Client>,
    backend: Arc<Backend>,
    method: Method,
    named: String,
    from: Option<IpAddr>,
    began: Instant,
    over: bool,
}

impl Calling {
    /// What is to be told of this call; nothing of most methods, nor where nobody wants to know.
    pub fn new(audit: &Arc<Audit>, caller: &Caller, backend: &Arc<Backend>, call: &Call, from: Option<IpAddr>) -> Option<Calling> {
        if !audit.wants_calls() {
            return None;
        }
        let named = match call.method {
            Method::ToolsCall | Method::PromptsGet => call.params.name,
            Method::ResourcesRead => call.params.uri,
            _ => return None,
        };
        Some(Calling {
            audit: audit.clone(),
            caller: caller.clone(),
            client: call.client.clone(),
            backend: backend.clone(),
            method: call.method.clone(),
            named: call.message.string_at(named).unwrap_or_default().into_owned(),
            from,
            began: Instant::now(),
            over: false,
        })
    }

    /// It has ended.
    pub fn ended(mut self, outcome: &Outcome) {
        let (outcome, code) = came_to(outcome);
        self.tell(outcome, code);
    }

    fn tell(&mut self, outcome: &'static str, code: Option<i64>) {
        self.over = true;
        // Behind several servers as one, whose it was is known by now.
        let (server, named) = match &*self.backend {
            Backend::Merged(merged) => {
                let whose = if self.method == Method::ResourcesRead { merged.whose_uri(&self.named) } else { merged.whose(&self.named) };
                whose.map_or_else(|| (None, self.named.clone()), |(server, own)| (Some(server), own))
            }
            backend => (Some(backend.name().to_owned()), self.named.clone()),
        };
        let of = |method: Method| Some(named.as_str()).filter(|_| self.method == method);
        let client = self.client.info.as_ref().map(program);
        let line = Line {
            client: client.as_deref(),
            server: server.as_deref(),
            tool: of(Method::ToolsCall),
            prompt: of(Method::PromptsGet),
            uri: of(Method::ResourcesRead).map(without_query),
            code,
            duration_ms: Some(ms(self.began)),
            from: self.from,
            ..Line::new("call", outcome)
        };
        self.audit.call(match self.caller.identity() {
            Some(identity) => line.of(identity),
            None => line,
        });
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if !self.over {
            self.tell("cancelled", None);
        }
    }
}

/// A session that is told of when it begins and when it ends.
#[derive(Debug)]
pub struct Opened {
    audit: Arc<Audit>,
    caller: Caller,
    client: Option<String>,
    server: String,
    session: String,
    from: Option<IpAddr>,
    began: Instant,
}

impl Opened {
    /// Tells that it begins; nothing where nobody wants to know.
    pub fn new(
        audit: &Arc<Audit>,
        caller: &Caller,
        server: &str,
        session: SessionId,
        info: Option<&Bytes>,
        from: Option<IpAddr>,
    ) -> Option<Opened> {
        if !audit.wants_calls() {
            return None;
        }
        let (client, session) = (info.map(program), format!("{session:?}").trim_end_matches('…').to_owned());
        let opened =
            Opened { audit: audit.clone(), caller: caller.clone(), client, server: server.into(), session, from, began: Instant::now() };
        opened.tell("opened", None);
        Some(opened)
    }

    fn tell(&self, outcome: &'static str, duration_ms: Option<u64>) {
        let line = Line {
            client: self.client.as_deref(),
            server: Some(&self.server),
            session: Some(&self.session),
            duration_ms,
            from: self.from,
            ..Line::new("session", outcome)
        };
        self.audit.call(match self.caller.identity() {
            Some(identity) => line.of(identity),
            None => line,
        });
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.tell("closed", Some(ms(self.began)));
    }
}

fn ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What a call came to, and the code of an error.
fn came_to(outcome: &Outcome) -> (&'static str, Option<i64>) {
    match outcome {
        Outcome::Result(result) => {
            let mut found = [None; 3];
            // One that cannot be read is its client's to refuse.
            let _ = std::str::from_utf8(result).map(|text| json::fields(text, &["isError", "resultType", "task"], &mut found));
            let [is_error, kind, task] = found.map(|at| at.map(|at| at.of_bytes(result)));
            let came = match (is_error, kind) {
                (Some(b"true"), _) => "tool_error",
                (_, Some(b"\"input_required\"")) => "input_required",
                (_, Some(b"\"task\"")) => "task",
                _ if task.is_some() => "task",
                _ => "ok",
            };
            (came, None)
        }
        Outcome::Error(error) => ("error", landbridge_proto::bridge::code_of(error)),
        Outcome::Fault(fault) => match fault.kind {
            Kind::Cancelled => ("cancelled", None),
            Kind::Timeout => ("timeout", None),
            _ => ("error", Some(fault.code().into())),
        },
    }
}

/// A program as it calls itself: `name/version`.
pub fn program(info: &Bytes) -> String {
    let text = |key: &str| json::field(info, key).and_then(json::string).unwrap_or_default().into_owned();
    let (name, version) = (text("name"), text("version"));
    if version.is_empty() { name } else { format!("{name}/{version}") }
}

/// What stands behind `?` or `#` may be anything.
fn without_query(uri: &str) -> &str {
    uri.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_is_known_and_no_more() {
        let line = Line { who: Some("ada"), from: Some(IpAddr::from([127, 0, 0, 1])), ..Line::new("login", "ok") };
        let text = dated(&line).unwrap();
        let (time, rest) = text.split_at(r#"{"time":"2026-11-20T22:00:00.000Z""#.len());
        assert!(time.starts_with("{\"time\":\"2") && time.ends_with("Z\""), "{text}");
        assert_eq!(rest, ",\"event\":\"login\",\"outcome\":\"ok\",\"who\":\"ada\",\"from\":\"127.0.0.1\"}\n");
        let long = "ä\n".repeat(LONGEST);
        let cut = Line { reason: Some(&long), ..Line::new("refusal", "x") }.cut();
        assert_eq!(cut.reason.unwrap().chars().count(), LONGEST);
        assert_eq!(dated(&cut).unwrap().lines().count(), 1);
    }

    #[test]
    fn outcomes_are_told_apart() {
        let fault = |kind| Outcome::Fault(landbridge_proto::fault::Fault::client(kind));
        for (outcome, told) in [
            (Outcome::Result(Bytes::from_static(br#"{"content":[]}"#)), ("ok", None)),
            (Outcome::Result(Bytes::from_static(br#"{"content":[],"isError":true}"#)), ("tool_error", None)),
            (Outcome::Result(Bytes::from_static(br#"{"isError":false,"resultType":"complete"}"#)), ("ok", None)),
            (Outcome::Result(Bytes::from_static(br#"{"resultType":"input_required"}"#)), ("input_required", None)),
            (Outcome::Result(Bytes::from_static(br#"{"resultType":"task"}"#)), ("task", None)),
            (Outcome::Result(Bytes::from_static(br#"{"task":{"taskId":"1"}}"#)), ("task", None)),
            (Outcome::Error(Bytes::from_static(br#"{"code":-32602,"message":"x"}"#)), ("error", Some(-32602))),
            (fault(Kind::Cancelled), ("cancelled", None)),
            (fault(Kind::Timeout), ("timeout", None)),
            (fault(Kind::Unreachable), ("error", Some(-32603))),
        ] {
            assert_eq!(came_to(&outcome), told, "{outcome:?}");
        }
    }

    #[test]
    fn programs_are_called_as_they_call_themselves() {
        let of = |text: &'static str| program(&Bytes::from_static(text.as_bytes()));
        assert_eq!(of(r#"{"version":"1.2","name":"a \"b\""}"#), "a \"b\"/1.2");
        assert_eq!((of(r#"{"name":"x"}"#), of("{}"), of("[]")), ("x".into(), String::new(), String::new()));
    }

    #[test]
    fn calls_are_told_of_where_somebody_wants_them() {
        // Nothing logs here.
        for calls in [false, true] {
            assert_eq!(Audit::open(&Plan { file: None, calls }).unwrap().wants_calls(), calls);
        }
    }

    #[test]
    fn of_many_refusals_some_are_counted() {
        let dir = Dir::new("refusals");
        let audit = Audit::open(&Plan { file: Some(dir.file()), calls: false }).unwrap();
        for _ in 0..REFUSALS_PER_S + 7 {
            audit.refused(Line::new("refusal", "unauthorized"));
        }
        audit.settle(true);
        drop(audit);
        let lines = dir.lines(REFUSALS_PER_S as usize + 1);
        assert_eq!(lines.last().unwrap()["count"], 7, "{lines:?}");
    }

    #[test]
    fn a_key_is_told_of_once_a_minute() {
        let dir = Dir::new("keys");
        let audit = Audit::open(&Plan { file: Some(dir.file()), calls: false }).unwrap();
        for via in ["key 1", "key 1", "key 2", "key 1"] {
            audit.key_used(&Identity { via: via.into(), name: "ada".into(), ..crate::auth::nobody() }, None);
        }
        drop(audit);
        let vias: Vec<_> = dir.lines(2).iter().map(|line| line["via"].as_str().unwrap().to_owned()).collect();
        assert_eq!(vias, ["key 1", "key 2"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_takes_nothing_holds_up_nobody_and_losses_are_counted() {
        let dir = Dir::new("stuck");
        assert!(std::process::Command::new("mkfifo").arg(dir.file()).status().unwrap().success());
        // Opened for both, so that neither end waits for the other.
        let reader = OpenOptions::new().read(true).write(true).open(dir.file()).unwrap();
        let audit = Audit::open(&Plan { file: Some(dir.file()), calls: false }).unwrap();
        const LINES: u64 = QUEUE as u64 * 3;
        for _ in 0..LINES {
            audit.tell(Line::new("login", "ok"));
        }
        drop(audit);
        let (mut read, mut told) = (0, 0);
        for line in std::io::BufRead::lines(std::io::BufReader::new(reader)) {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            match line["event"].as_str().unwrap() {
                "login" => read += 1,
                _ => told += line["count"].as_u64().unwrap(),
            }
            if read + told == LINES {
                break;
            }
        }
        assert!(read >= QUEUE as u64 && told > 0, "{read} {told}");
    }

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("landbridge-audit-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }

        fn file(&self) -> PathBuf {
            self.0.join("audit.jsonl")
        }

        /// So many lines, once they are there.
        fn lines(&self, n: usize) -> Vec<serde_json::Value> {
            loop {
                let text = std::fs::read_to_string(self.file()).unwrap();
                if text.lines().count() >= n && text.ends_with('\n') {
                    return text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
