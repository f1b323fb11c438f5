//! Tasks: calls that outlive their request, in the two kinds the protocol has had.
//!
//! | what | *legacy*: core of 2025-11-25 | *extension*: `io.modelcontextprotocol/tasks` of 2026-07-28 |
//! |---|---|---|
//! | who decides | the client, by `params.task` | the server, if the client declared the extension |
//! | created | `{"task":{…}}` | `{"resultType":"task",…}` |
//! | members | `ttl`, `pollInterval` | `ttlMs`, `pollIntervalMs` |
//! | the end | `tasks/result`, which blocks | `result` or `error` within the task of `tasks/get` |
//! | a result with `isError` | `failed` | `completed` |
//! | questions | requests of the server, marked `related-task` | `inputRequests`, answered by `tasks/update` |
//!
//! Functions named by what comes out of them, over JSON text; only [`Poll`] remembers anything. Here is what a
//! task is in either kind, and requests about one; `offers` has what capabilities and tools say, `poll` watches.
//! Whoever routes tasks calls them; of the edges only `back` looks at the mark of a task.
//!
//! Odd: the marks of one hop (`serverInfo`, `subscriptionId`) and the codes of errors are left
//! alone here. They belong to [`crate::bridge`], which sees every result and error anyway.

mod offers;
mod poll;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::bridge::{may_spell, write_object};
use crate::call::{Outcome, object};
use crate::fault::{Fault, Kind};
use crate::json::{self, Span, Unreadable};
use crate::message::Message;
use crate::version::Era;

pub use offers::{
    TaskSupport, declares_tasks, extension_server_capability, extension_tools, legacy_server_capability, legacy_tools, serves_tasks,
    task_support, with_extension,
};
pub use poll::{Poll, Question, Step};

/// The name of the extension, among `extensions` of either side's capabilities.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";
/// Which task a message belongs to (legacy).
pub const META_RELATED: &str = "io.modelcontextprotocol/related-task";
/// Members of one meaning: the legacy name, the extension's name.
const RENAMED: [(&str, &str); 2] = [("ttl", "ttlMs"), ("pollInterval", "pollIntervalMs")];
/// What only the extension's tasks have.
const ONLY_EXTENSION: [&str; 4] = ["resultType", "result", "error", "inputRequests"];

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Being worked on.
    Working,
    /// Waits for the client.
    InputRequired,
    /// There is a result.
    Completed,
    /// There is none; in a legacy task also: the tool says that it failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl Status {
    const NAMES: [(Status, &str); 5] = [
        (Status::Working, "working"),
        (Status::InputRequired, "input_required"),
        (Status::Completed, "completed"),
        (Status::Failed, "failed"),
        (Status::Cancelled, "cancelled"),
    ];

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Status> {
        Status::NAMES.iter().find(|(_, n)| *n == name).map(|(s, _)| *s)
    }

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        Status::NAMES.iter().find(|(s, _)| *s == self).map_or("", |(_, n)| n)
    }

    /// Whether nothing comes after it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }
}

/// What a gateway reads of a task of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// `taskId`
    pub id: String,
    /// `status`
    pub status: Status,
    /// `pollInterval` or `pollIntervalMs`, as the server wishes it.
    pub poll_interval_ms: Option<u64>,
    /// `ttl` or `ttlMs`; `None`: without limit, or not said.
    pub ttl_ms: Option<u64>,
}

impl Task {
    /// Reads the result of a task's creation, of `tasks/get` or of a legacy `tasks/cancel`, or the
    /// params of a notice, of either kind, as `server` sent it.
    pub fn read(server: &str, task: &[u8]) -> Result<Task, Fault> {
        let members = open(server, "a task", task)?;
        match (get(&members, "taskId"), get(&members, "task")) {
            (None, Some(nested)) => Task::of(server, &open(server, "a task", nested.as_bytes())?),
            _ => Task::of(server, &members),
        }
    }

    fn of(server: &str, members: &Members<'_>) -> Result<Task, Fault> {
        let id = get(members, "taskId").ok_or_else(|| sent(server, "a task without a `taskId`"))?;
        let id = json::string(id.as_bytes()).ok_or_else(|| sent(server, "a task whose `taskId` is no string"))?;
        let status = get(members, "status").ok_or_else(|| sent(server, "a task without a `status`"))?;
        let status = json::string(status.as_bytes()).ok_or_else(|| sent(server, "a task whose `status` is no string"))?;
        let unknown = || sent(server, "a task with a status that no revision names").because(status.chars().take(64).collect::<String>());
        let status = Status::parse(&status).ok_or_else(unknown)?;
        let millis = |(legacy, extension): (&str, &str)| {
            let Some(raw) = get(members, extension).or_else(|| get(members, legacy)).filter(|raw| *raw != "null") else { return Ok(None) };
            // Whole milliseconds in any spelling; what is out of range ends at the range's end.
            let number: Result<u64, _> = raw.parse().or_else(|_| raw.parse().map(|n: f64| n as u64));
            number.map(Some).map_err(|_| sent(server, &format!("a task whose `{legacy}` is no number")))
        };
        let [ttl_ms, poll_interval_ms] = RENAMED.map(millis);
        Ok(Task { id: id.into_owned(), status, poll_interval_ms: poll_interval_ms?, ttl_ms: ttl_ms? })
    }
}

/// Whether a server of that era answered a call with a task.
pub fn begins_task(result: &[u8], era: Era) -> bool {
    /// Made once: it takes longer than the look.
    static TASK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("task"));
    // Few results are tasks, and some are long: the word, or an escape that may spell it, comes first.
    (TASK.find(result).is_some() || may_spell(result))
        && match era {
            Era::Stateless => dig(result, &["resultType"]).and_then(|it| json::string(it.as_bytes())).is_some_and(|it| it == "task"),
            Era::Handshake => dig(result, &["task", "taskId"]).is_some(),
        }
}

/// What a legacy task tells by other requests, and a task of the extension within itself.
#[derive(Clone, Copy, Debug)]
pub enum Inlined<'a> {
    /// Nothing so far: the task goes on.
    Nothing,
    /// The result that `tasks/result` gave.
    Result(&'a [u8]),
    /// The error that `tasks/result` gave.
    Error(&'a [u8]),
    /// The requests that wait for the client: an object of `{"method":…,"params":…}` by key.
    Requests(&'a [u8]),
}

/// The extension's CreateTaskResult for a legacy one.
pub fn extension_created(server: &str, created: &[u8]) -> Result<Bytes, Fault> {
    let outer = open(server, "the beginning of a task", created)?;
    let nested = get(&outer, "task").ok_or_else(|| sent(server, "no task where one was begun"))?;
    let mut task = open(server, "a task", nested.as_bytes())?;
    let status = Task::of(server, &task)?.status;
    // Beside the task's own members, those around it; `_meta` is that of the result.
    let meta_around = get(&outer, "_meta").is_some();
    task.retain(|(key, _)| *key != "_meta" || !meta_around);
    let taken: BTreeSet<String> = task.iter().map(|(key, _)| key.clone().into_owned()).collect();
    task.extend(outer.iter().filter(|(key, _)| *key != "task" && !taken.contains(&**key)).cloned());
    let head = ("resultType".to_owned(), b"\"task\"".to_vec());
    Ok(write([head].into_iter().chain(translated(&task, Era::Stateless, status))))
}

/// The legacy CreateTaskResult for one of the extension.
pub fn legacy_created(server: &str, created: &[u8]) -> Result<Bytes, Fault> {
    let members = open(server, "a task", created)?;
    let status = legacy_status(&members, Task::of(server, &members)?.status);
    let (meta, task): (Vec<_>, Vec<_>) = translated(&members, Era::Handshake, status).into_iter().partition(|(key, _)| key == "_meta");
    Ok(write([("task".to_owned(), write_object(task))].into_iter().chain(meta)))
}

/// The extension's result of `tasks/get` for a legacy one.
///
/// A task that has ended needs its result or error here. A result makes it `completed`, whether
/// or not the tool says that it failed; an error makes it `failed`; requests make it
/// `input_required`. Without requests a legacy `input_required` is still `working`: there is
/// nothing the client could do yet.
pub fn extension_task(server: &str, task: &[u8], inlined: Inlined<'_>) -> Result<Bytes, Fault> {
    let task = open(server, "a task", task)?;
    let head = ("resultType".to_owned(), b"\"complete\"".to_vec());
    Ok(write([head].into_iter().chain(detailed(server, &task, inlined)?)))
}

/// The legacy result of `tasks/get` for one of the extension.
pub fn legacy_task(server: &str, task: &[u8]) -> Result<Bytes, Fault> {
    let task = open(server, "a task", task)?;
    let status = legacy_status(&task, Task::of(server, &task)?.status);
    Ok(write(translated(&task, Era::Handshake, status)))
}

/// What a legacy `tasks/result` answers for a task of the extension that has ended.
pub fn legacy_result(server: &str, task: &[u8]) -> Result<Outcome, Fault> {
    let members = open(server, "a task", task)?;
    let task = Task::of(server, &members)?;
    match end(server, &members, task.status)? {
        None => Err(Fault::gateway(Kind::Untranslatable).tell("the task has no result yet")),
        Some(Outcome::Result(result)) => {
            let members = open(server, "a result", &result)?;
            let kind = get(&members, "resultType").map(|raw| json::string(raw.as_bytes()).unwrap_or_default());
            if kind.is_some_and(|kind| kind != "complete") {
                return Err(Fault::gateway(Kind::Untranslatable)
                    .tell("the task ended with a result of a type that this client's protocol version cannot carry"));
            }
            let plain = write_object(members.iter().filter(|(key, _)| *key != "resultType").map(own));
            Ok(Outcome::Result(related(server, &plain, &task.id)?))
        }
        Some(other) => Ok(other),
    }
}

/// The members of an extension's DetailedTask for a legacy task.
fn detailed(server: &str, task: &Members<'_>, inlined: Inlined<'_>) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let status = Task::of(server, task)?.status;
    let (status, more) = match (inlined, status) {
        // To the extension a cancelled task has neither, whatever the server kept of it.
        (_, Status::Cancelled) => (status, None),
        (Inlined::Result(result), _) => (Status::Completed, Some(("result", unrelated(server, result)?))),
        (Inlined::Error(error), _) => {
            open(server, "an error", error)?;
            (Status::Failed, Some(("error", Bytes::copy_from_slice(error))))
        }
        (Inlined::Nothing | Inlined::Requests(_), Status::Completed | Status::Failed) => {
            return Err(Fault::gateway(Kind::Untranslatable).tell("the task has ended, but its result was not fetched"));
        }
        (Inlined::Requests(requests), _) => {
            open(server, "requests", requests)?;
            (Status::InputRequired, Some(("inputRequests", Bytes::copy_from_slice(requests))))
        }
        (Inlined::Nothing, _) => (Status::Working, None),
    };
    let mut members = translated(task, Era::Stateless, status);
    members.extend(more.map(|(key, value)| (key.to_owned(), value.to_vec())));
    Ok(members)
}

/// The members of a task in the words of the other kind, without what only one of them has.
fn translated(task: &Members<'_>, to: Era, status: Status) -> Vec<(String, Vec<u8>)> {
    let names = match to {
        Era::Stateless => RENAMED,
        Era::Handshake => RENAMED.map(|(legacy, extension)| (extension, legacy)),
    };
    let each = |(key, value): &(Cow<'_, str>, &str)| {
        // A stray member that already has the new name gives way, or there would be two.
        let name = match names.iter().find(|(from, to)| key == from || key == to) {
            Some((from, to)) if key == from => *to,
            Some((from, _)) if get(task, from).is_some() => return None,
            _ if ONLY_EXTENSION.contains(&&**key) => return None,
            _ => key,
        };
        let value = match name {
            "status" => json::quote(status.as_str()).into_bytes(),
            // The extension does not know the mark, and the id in it may be another one.
            "_meta" if to == Era::Stateless => without_mark(value)?,
            _ => value.as_bytes().to_vec(),
        };
        Some((name.to_owned(), value))
    };
    task.iter().filter_map(each).collect()
}

/// The status a legacy client sees: a tool that says it failed makes the task fail.
fn legacy_status(task: &Members<'_>, status: Status) -> Status {
    let is_error = || get(task, "result").is_some_and(|r| dig(r.as_bytes(), &["isError"]) == Some("true"));
    if status == Status::Completed && is_error() { Status::Failed } else { status }
}

/// How a task of the extension ended, if it has. The result is as the server wrote it.
fn end(server: &str, task: &Members<'_>, status: Status) -> Result<Option<Outcome>, Fault> {
    let needed = |key: &str, name: &str| {
        let bad = || sent(server, &format!("a {name} task whose `{key}` is no object"));
        let value = get(task, key).ok_or_else(|| sent(server, &format!("a {name} task without its `{key}`")))?;
        json::members(value).map_err(|e| bad().because(e))?;
        Ok(write_line(value))
    };
    Ok(Some(match status {
        Status::Working | Status::InputRequired => return Ok(None),
        Status::Completed => Outcome::Result(needed("result", "completed")?),
        Status::Failed => Outcome::Error(needed("error", "failed")?),
        Status::Cancelled => {
            let why = get(task, "statusMessage").and_then(|m| json::string(m.as_bytes()));
            let why = why.map_or(String::new(), |why| format!(": {why}"));
            Outcome::Error(Fault::client(Kind::Cancelled).tell(format!("the task was cancelled{why}")).error().into())
        }
    }))
}

/// A result marked as that of the task `id`, as the result of a legacy `tasks/result` must be.
pub fn related(server: &str, result: &[u8], id: &str) -> Result<Bytes, Fault> {
    let members = open(server, "a result", result)?;
    let meta = open(server, "a `_meta`", get(&members, "_meta").unwrap_or("{}").as_bytes())?;
    let mark = (META_RELATED.to_owned(), format!("{{\"taskId\":{}}}", json::quote(id)).into_bytes());
    let meta = write_object(meta.iter().filter(|(key, _)| *key != META_RELATED).map(own).chain([mark]));
    let rest = members.iter().filter(|(key, _)| *key != "_meta").map(own);
    Ok(write(rest.chain([("_meta".to_owned(), meta)])))
}

/// A result without that mark, for a client that knows of no task.
pub fn unrelated(server: &str, result: &[u8]) -> Result<Bytes, Fault> {
    let members = open(server, "a result", result)?;
    Ok(write(members.iter().filter_map(|member| match &*member.0 {
        "_meta" => Some(("_meta".to_owned(), without_mark(member.1)?)),
        _ => Some(own(member)),
    })))
}

/// A `_meta` without the mark; `None` where it said nothing else.
fn without_mark(meta: &str) -> Option<Vec<u8>> {
    let Ok(members) = json::members(meta) else { return Some(meta.as_bytes().to_vec()) };
    if get(&members, META_RELATED).is_none() {
        return Some(meta.as_bytes().to_vec());
    }
    let rest = write_object(members.iter().filter(|(key, _)| *key != META_RELATED).map(own));
    (rest != b"{}").then_some(rest)
}

/// What a server sent, with `id` wherever it named its task: a task of either kind, a result or
/// params with the mark of a task, or a whole notice or request of the server that has them.
pub fn with_task_id(server: &str, bytes: &Bytes, id: &str) -> Result<Bytes, Fault> {
    /// Adds the ids in the object at `at`; gives the params, if it is a whole message.
    fn places(message: &Message, at: Span, found: &mut Vec<Span>) -> Result<Option<Span>, Unreadable> {
        let is_object = |at: &Span| at.of_bytes(&message.bytes).starts_with(b"{");
        let [id, task, meta, version, params] = message.fields_at(at, &["taskId", "task", "_meta", "jsonrpc", "params"])?;
        found.extend(id);
        if let Some(task) = task.filter(is_object) {
            found.extend(message.fields_at(task, &["taskId"])?[0]);
        }
        if let Some(meta) = meta.filter(is_object)
            && let Some(mark) = message.fields_at(meta, &[META_RELATED])?[0].filter(is_object)
        {
            found.extend(message.fields_at(mark, &["taskId"])?[0]);
        }
        Ok(version.and(params).filter(is_object))
    }
    let unreadable = |why: &dyn std::fmt::Display| sent(server, "a task that cannot be read").because(why);
    let message = object(bytes.clone()).map_err(|e| unreadable(&e))?;
    let mut found = Vec::new();
    if let Some(params) = places(&message, Span::whole(bytes), &mut found).map_err(|e| unreadable(&e))? {
        places(&message, params, &mut found).map_err(|e| unreadable(&e))?;
    }
    if found.is_empty() {
        return Err(sent(server, "a task without a `taskId`"));
    }
    if found.iter().any(|at| message.string_at(Some(*at)).is_none()) {
        return Err(sent(server, "a task whose `taskId` is no string"));
    }
    found.sort_by_key(|at| at.start());
    let id = json::quote(id);
    let edits: Vec<(Span, &[u8])> = found.into_iter().map(|at| (at, id.as_bytes())).collect();
    Ok(json::splice(bytes, &edits).into())
}

/// A call that asks a legacy server for a task, which it is to keep for `ttl_ms`.
pub fn augmented(message: &Message, ttl_ms: Option<u64>) -> Bytes {
    let task = ttl_ms.map_or("{}".to_owned(), |ttl| format!("{{\"ttl\":{ttl}}}"));
    let edit = match (message.params, message.params_fields(&["task"])) {
        (Some(_), Ok([Some(old)])) => (old, task),
        (Some(params), Ok(_)) => {
            let old = params.of_bytes(&message.bytes);
            let comma = if memchr::memchr(b'"', old).is_some() { "," } else { "" };
            (Span::inside(old).within(params), format!("\"task\":{task}{comma}"))
        }
        (None, _) => (Span::inside(&message.bytes), format!("\"params\":{{\"task\":{task}}},")),
        // Params with a key twice: refused before any call is made of them.
        (_, Err(_)) => return json::on_one_line(&message.bytes),
    };
    json::splice(&message.bytes, &[(edit.0, edit.1.as_bytes())]).into()
}

/// A call that asks for no task.
pub fn plain(message: &Message) -> Bytes {
    let (Some(params), Ok(members)) = (message.params, json::members(message.params_text())) else {
        return json::on_one_line(&message.bytes);
    };
    if get(&members, "task").is_none() {
        return json::on_one_line(&message.bytes);
    }
    let rest = write_object(members.iter().filter(|(key, _)| *key != "task").map(own));
    json::splice(&message.bytes, &[(params, &rest)]).into()
}

/// The `taskId` of a client's `tasks/…` request.
pub fn asked_id(message: &Message) -> Result<String, Fault> {
    let wrong = || Fault::client(Kind::Params).tell("`taskId` must be a string");
    let [id] = message.params_fields(&["taskId"]).map_err(|e| wrong().because(e))?;
    message.string_at(id).map(Cow::into_owned).ok_or_else(wrong)
}

/// A client's `tasks/…` request, about the task `id` instead.
pub fn with_asked_id(message: &Message, id: &str) -> Result<Bytes, Fault> {
    asked_id(message)?;
    let [at] = message.params_fields(&["taskId"]).unwrap_or_default();
    let id = json::quote(id);
    let edits: Vec<(Span, &[u8])> = at.map(|at| (at, id.as_bytes())).into_iter().collect();
    Ok(json::splice(&message.bytes, &edits).into())
}

/// What stands between the braces of `params` of `tasks/get`, `tasks/cancel` and `tasks/result`.
pub fn params_of(id: &str) -> String {
    format!("\"taskId\":{}", json::quote(id))
}

/// What stands between the braces of `params` of `tasks/update`; `responses` is the JSON text of
/// an object: results by the key they were asked with.
pub fn update_params(id: &str, responses: &str) -> String {
    format!("{},\"inputResponses\":{}", params_of(id), responses.replace(['\r', '\n'], " "))
}

type Members<'t> = Vec<(Cow<'t, str>, &'t str)>;

/// The members of an object that `server` sent.
fn open<'t>(server: &str, what: &str, bytes: &'t [u8]) -> Result<Members<'t>, Fault> {
    let unreadable = || sent(server, &format!("{what} that cannot be read"));
    let text = std::str::from_utf8(bytes).map_err(|e| unreadable().because(e))?;
    json::members(text).map_err(|e| unreadable().because(e))
}

/// The fault of a server that sent `what`.
fn sent(server: &str, what: &str) -> Fault {
    Fault::backend(server, Kind::Backend).tell(format!("the server `{server}` sent {what}"))
}

fn get<'t>(members: &Members<'t>, key: &str) -> Option<&'t str> {
    members.iter().find(|(k, _)| k == key).map(|(_, value)| *value)
}

/// The value at the end of `path`, if everything before it is an object.
fn dig<'t>(text: &'t [u8], path: &[&str]) -> Option<&'t str> {
    path.iter().try_fold(std::str::from_utf8(text).ok()?, |text, key| {
        let mut found = [None];
        json::fields(text, &[key], &mut found).ok()?;
        text.get(found[0]?.range())
    })
}

fn own((key, value): &(Cow<'_, str>, &str)) -> (String, Vec<u8>) {
    (key.clone().into_owned(), value.as_bytes().to_vec())
}

fn write(members: impl IntoIterator<Item = (String, Vec<u8>)>) -> Bytes {
    let mut out = write_object(members);
    json::one_line(&mut out);
    out.into()
}

fn write_line(value: &str) -> Bytes {
    let mut out = value.as_bytes().to_vec();
    json::one_line(&mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CREATED: &[u8] = br#"{"task":{"taskId":"t\u002d1","status":"working","createdAt":"2025-11-25T10:30:00Z","ttl":6e4,"pollInterval":5000,"x":1.50},"_meta":{"k":[1.0],"io.modelcontextprotocol/related-task":{"taskId":"t-1"}}}"#;
    const FLAT: &[u8] = br#"{"taskId":"t","status":"working","ttl":null,"pollInterval":7,"x":12345678901234567890}"#;

    fn text(bytes: impl AsRef<[u8]>) -> String {
        String::from_utf8(bytes.as_ref().to_vec()).unwrap()
    }

    fn legacy(status: &str) -> Vec<u8> {
        format!(r#"{{"taskId":"t","status":"{status}","ttl":1.0}}"#).into_bytes()
    }

    /// A task of the extension, with more members.
    fn extension(status: &str, more: &str) -> Vec<u8> {
        format!(r#"{{"resultType":"complete","taskId":"t","status":"{status}","ttlMs":1.0{more}}}"#).into_bytes()
    }

    fn message(text: &str) -> Message {
        Message::read(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_task_is_read_in_every_kind() {
        let flat = extension("input_required", r#","pollIntervalMs":1e400"#);
        let a = Task::read("s", CREATED).unwrap();
        assert_eq!(a, Task { id: "t-1".into(), status: Status::Working, poll_interval_ms: Some(5000), ttl_ms: Some(60_000) });
        let b = Task::read("s", FLAT).unwrap();
        assert_eq!(b, Task { id: "t".into(), status: Status::Working, poll_interval_ms: Some(7), ttl_ms: None });
        let c = Task::read("s", &flat).unwrap();
        assert_eq!(c, Task { id: "t".into(), status: Status::InputRequired, poll_interval_ms: Some(u64::MAX), ttl_ms: Some(1) });
    }

    #[test]
    fn bad_tasks_are_the_servers_fault() {
        for (bad, told) in [
            (r#"{"status":"working"}"#, "a task without a `taskId`"),
            (r#"{"task":{"status":"working"}}"#, "a task without a `taskId`"),
            (r#"{"task":7}"#, "a task that cannot be read"),
            (r#"{"taskId":7,"status":"working"}"#, "a task whose `taskId` is no string"),
            (r#"{"taskId":"t"}"#, "a task without a `status`"),
            (r#"{"taskId":"t","status":null}"#, "a task whose `status` is no string"),
            (r#"{"taskId":"t","status":"asleep"}"#, "a task with a status that no revision names"),
            (r#"{"taskId":"t","status":"working","ttl":"1"}"#, "a task whose `ttl` is no number"),
            (r#"{"taskId":"t","status":"working","pollIntervalMs":true}"#, "a task whose `pollInterval` is no number"),
            (r#"{"taskId":"t","taskId":"u","status":"working"}"#, "a task that cannot be read"),
            ("[]", "a task that cannot be read"),
            ("", "a task that cannot be read"),
        ] {
            let fault = Task::read("demo", bad.as_bytes()).unwrap_err();
            assert_eq!(fault.told, format!("the server `demo` sent {told}"), "{bad}");
            assert_eq!((fault.kind, fault.blame), (Kind::Backend, crate::fault::Blame::Backend("demo".into())));
            let bytes = bad.as_bytes();
            assert!(extension_created("s", bytes).is_err() && legacy_created("s", bytes).is_err(), "{bad}");
            assert!(extension_task("s", bytes, Inlined::Nothing).is_err() && legacy_task("s", bytes).is_err(), "{bad}");
            assert!(legacy_result("s", bytes).is_err(), "{bad}");
        }
        assert!(Task::read("s", b"\xff").is_err());
        assert!(with_task_id("s", &Bytes::from_static(b"\xff"), "x").is_err());
    }

    #[test]
    fn the_beginning_crosses_both_ways() {
        let up = extension_created("s", CREATED).unwrap();
        assert_eq!(
            text(&up),
            r#"{"resultType":"task","taskId":"t\u002d1","status":"working","createdAt":"2025-11-25T10:30:00Z","ttlMs":6e4,"pollIntervalMs":5000,"x":1.50,"_meta":{"k":[1.0]}}"#
        );
        assert_eq!(
            text(legacy_created("s", &up).unwrap()),
            r#"{"task":{"taskId":"t\u002d1","status":"working","createdAt":"2025-11-25T10:30:00Z","ttl":6e4,"pollInterval":5000,"x":1.50},"_meta":{"k":[1.0]}}"#
        );
        assert!(begins_task(CREATED, Era::Handshake) && !begins_task(CREATED, Era::Stateless));
        assert!(begins_task(&up, Era::Stateless) && !begins_task(&up, Era::Handshake));
        assert!(begins_task(br#"{"resultType":"\u0074as\u006b"}"#, Era::Stateless));
        assert!(!begins_task(br#"{"resultType":"complete","content":["task"]}"#, Era::Stateless));
        // Members that stand twice once everything is flat, or once it is renamed.
        let odd = br#"{"status":"x","_meta":{"a":1},"y":2,"resultType":"z","task":{"taskId":"t","status":"working","_meta":{"b":1},"ttlMs":1,"ttl":2}}"#;
        let flat = extension_created("s", odd).unwrap();
        assert_eq!(text(flat), r#"{"resultType":"task","taskId":"t","status":"working","ttlMs":2,"_meta":{"a":1},"y":2}"#);
    }

    #[test]
    fn a_legacy_task_tells_all_at_once() {
        let go = |status: &str, inlined| extension_task("s", &legacy(status), inlined).map(text);
        let head = |status: &str| format!(r#"{{"resultType":"complete","taskId":"t","status":"{status}","ttlMs":1.0"#);
        let failed_tool: &[u8] =
            b"{\"content\":[ 1.0\n],\"isError\":true,\"_meta\":{\"io.modelcontextprotocol/related-task\":{\"taskId\":\"t\"}}}";
        let inside = r#","result":{"content":[ 1.0 ],"isError":true}}"#;
        assert_eq!(go("working", Inlined::Nothing).unwrap(), head("working") + "}");
        assert_eq!(go("input_required", Inlined::Nothing).unwrap(), head("working") + "}");
        assert_eq!(go("failed", Inlined::Result(failed_tool)).unwrap(), head("completed") + inside);
        assert_eq!(go("completed", Inlined::Result(failed_tool)).unwrap(), head("completed") + inside);
        assert_eq!(go("failed", Inlined::Error(br#"{"code":1.0}"#)).unwrap(), head("failed") + r#","error":{"code":1.0}}"#);
        assert_eq!(go("cancelled", Inlined::Error(br#"{"code":1}"#)).unwrap(), head("cancelled") + "}");
        let asks: &[u8] = br#"{"k":{"method":"roots/list"}}"#;
        let inside = r#","inputRequests":{"k":{"method":"roots/list"}}}"#;
        assert_eq!(go("input_required", Inlined::Requests(asks)).unwrap(), head("input_required") + inside);
        assert_eq!(go("working", Inlined::Requests(asks)).unwrap(), head("input_required") + inside);
        for (status, inlined) in [("completed", Inlined::Nothing), ("failed", Inlined::Nothing), ("completed", Inlined::Requests(asks))] {
            assert_eq!(go(status, inlined).unwrap_err().kind, Kind::Untranslatable);
        }
        for inlined in [Inlined::Result(b"1"), Inlined::Error(b"\"x\""), Inlined::Requests(b"[]")] {
            assert_eq!(go("working", inlined).unwrap_err().kind, Kind::Backend);
        }
    }

    #[test]
    fn a_task_of_the_extension_keeps_its_end_for_later() {
        let go = |status: &str, more: &str| text(legacy_task("s", &extension(status, more)).unwrap());
        let flat = |status: &str| text(legacy(status));
        assert_eq!(go("input_required", r#","inputRequests":{}"#), flat("input_required"));
        assert_eq!(go("completed", r#","result":{"isError":false}"#), flat("completed"));
        assert_eq!(go("completed", r#","result":{"isError": true }"#), flat("failed"));
        assert_eq!(go("failed", r#","error":{}"#), flat("failed"));
    }

    #[test]
    fn tasks_result_is_answered_from_the_task() {
        let go = |status: &str, more: &str| legacy_result("s", &extension(status, more));
        let result = r#","result":{"resultType":"\u0063omplete","content":[1.0],"_meta":{"k":1}}"#;
        let Outcome::Result(said) = go("completed", result).unwrap() else { panic!("no result") };
        assert_eq!(text(said), r#"{"content":[1.0],"_meta":{"k":1,"io.modelcontextprotocol/related-task":{"taskId":"t"}}}"#);
        let Outcome::Error(said) = go("failed", r#","error":{"code":-32603.0}"#).unwrap() else { panic!("no error") };
        assert_eq!(text(said), r#"{"code":-32603.0}"#);
        let Outcome::Error(said) = go("cancelled", r#","statusMessage":"by \"me\"""#).unwrap() else { panic!("no error") };
        assert_eq!(text(said), r#"{"code":-32000,"message":"the task was cancelled: by \"me\""}"#);
        for (status, more, kind) in [
            ("working", "", Kind::Untranslatable),
            ("completed", r#","result":{"resultType":"input_required"}"#, Kind::Untranslatable),
            ("completed", "", Kind::Backend),
            ("completed", r#","result":null"#, Kind::Backend),
            ("completed", r#","result":{"_meta":1}"#, Kind::Backend),
            ("failed", "", Kind::Backend),
            ("failed", r#","error":"no""#, Kind::Backend),
        ] {
            assert_eq!(go(status, more).unwrap_err().kind, kind, "{status} {more}");
        }
    }

    #[test]
    fn results_get_and_lose_the_mark() {
        let marked = related("s", br#"{"_meta":{"io.modelcontextprotocol/related-task":5},"a":1.0}"#, "\"x").unwrap();
        assert_eq!(text(&marked), r#"{"a":1.0,"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"\"x"}}}"#);
        assert_eq!(text(unrelated("s", &marked).unwrap()), r#"{"a":1.0}"#);
        assert_eq!(text(unrelated("s", br#"{"_meta":{},"a":1}"#).unwrap()), r#"{"_meta":{},"a":1}"#);
    }

    #[test]
    fn an_id_is_replaced_wherever_it_stands() {
        let seal =
            |text: &'static [u8]| with_task_id("s", &Bytes::from_static(text), "n\"").map(|b| String::from_utf8(b.to_vec()).unwrap());
        assert_eq!(
            text(with_task_id("s", &Bytes::from_static(CREATED), "new").unwrap()),
            text(CREATED).replace(r#""t\u002d1""#, r#""new""#).replace(r#""t-1""#, r#""new""#)
        );
        assert_eq!(seal(br#"{ "taskId" :"t","task":"t"}"#).unwrap(), r#"{ "taskId" :"n\"","task":"t"}"#);
        assert_eq!(
            seal(br#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t","result":{"taskId":"t"}}}"#).unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"n\"","result":{"taskId":"t"}}}"#
        );
        assert_eq!(
            seal(br#"{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t"}}}"#).unwrap(),
            r#"{"content":[],"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"n\""}}}"#
        );
        let deep = format!("{}{{}}{}", r#"{"jsonrpc":0,"task":{},"params":"#.repeat(100_000), "}".repeat(100_000));
        assert!(with_task_id("s", &Bytes::from(deep), "x").is_err());
        for bad in [&b"{}"[..], br#"{"taskId":1}"#, br#"{"task":{}}"#, br#"{"taskId":"a","taskId":"b"}"#, b"[]", b"{"] {
            assert_eq!(seal(bad).unwrap_err().kind, Kind::Backend);
        }
    }

    #[test]
    fn calls_ask_for_tasks_and_cease_to() {
        let call = |params: &str| message(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call"{params}}}"#));
        let named = call(r#","params":{"name":"a", "x":1.0}"#);
        let asking = augmented(&named, Some(9));
        assert_eq!(text(&asking), r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"task":{"ttl":9},"name":"a", "x":1.0}}"#);
        let asking = Message::read(asking).unwrap();
        assert_eq!(
            text(augmented(&asking, None)),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"task":{},"name":"a", "x":1.0}}"#
        );
        assert_eq!(text(plain(&asking)), r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","x":1.0}}"#);
        assert_eq!(plain(&named), named.bytes);
        assert_eq!(text(augmented(&call(""), None)), r#"{"params":{"task":{}},"jsonrpc":"2.0","id":1,"method":"tools/call"}"#);
        assert_eq!(
            text(augmented(&call(r#","params":{ }"#), None)),
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"task":{} }}"#
        );
    }

    #[test]
    fn requests_about_tasks() {
        let get = message(r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"a","_meta":{"x":1.0}}}"#);
        assert_eq!(asked_id(&get).unwrap(), "a");
        assert_eq!(
            text(with_asked_id(&get, "b").unwrap()),
            r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"b","_meta":{"x":1.0}}}"#
        );
        for bad in ["", r#","params":{}"#, r#","params":{"taskId":1}"#] {
            let bad = message(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tasks/get"{bad}}}"#));
            assert_eq!(asked_id(&bad).unwrap_err().code(), -32602);
            assert!(with_asked_id(&bad, "b").is_err());
        }
        assert_eq!(params_of("a\"b"), r#""taskId":"a\"b""#);
        assert_eq!(update_params("t", "{\"k\":\n{}}"), r#""taskId":"t","inputResponses":{"k": {}}"#);
    }

    /// A legacy task: what it must have and some of the rest, in any order and layout.
    fn some_task() -> impl Strategy<Value = String> {
        let rest = vec![
            r#""ttl":null"#,
            r#""pollInterval":1.50"#,
            r#""x/\"y{":{"ttl":1e400}"#,
            r#""statusMessage":"\u00e9""#,
            r#""_meta":{"k":[1.0]}"#,
        ];
        (
            prop::sample::subsequence(rest, 0..=5),
            prop::sample::select(vec!["working", "completed", "failed", "cancelled"]),
            "[ \t\r\n]{0,2}",
        )
            .prop_map(|(rest, status, space)| {
                let status = format!(r#""status" :"{status}""#);
                let all = [&[r#""taskId": "t\/1""#, &status], &rest[..]].concat();
                (all.iter().map(|m| format!("{space}{m}{space}")).collect::<Vec<_>>(), space)
            })
            .prop_flat_map(|(members, space)| (Just(members).prop_shuffle(), Just(space)))
            .prop_map(|(members, space)| format!("{{{space}{}}}", members.join(",")))
    }

    fn same(one: &[u8], other: &[u8]) -> bool {
        // Order and layout may differ; the letters of a member may not.
        let letters = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let mut all: Vec<(String, String)> =
                json::members(&text).unwrap().into_iter().map(|(k, v)| (k.into_owned(), v.to_owned())).collect();
            all.sort();
            all
        };
        letters(one) == letters(other)
    }

    proptest! {
        #[test]
        fn what_crosses_twice_is_the_same(task in some_task(), result in prop::bool::ANY) {
            let created = format!(r#"{{"task":{task}}}"#);
            let up = extension_created("s", created.as_bytes()).unwrap();
            let members = open("s", "a task", &up).unwrap();
            prop_assert!(get(&members, "ttl").is_none() && get(&members, "pollInterval").is_none());
            prop_assert_eq!(get(&members, "resultType"), Some("\"task\""));
            let down = legacy_created("s", &up).unwrap();
            let view = Task::read("s", &up).unwrap();
            prop_assert_eq!(&Task::read("s", &down).unwrap(), &view);
            prop_assert_eq!(&Task::read("s", created.as_bytes()).unwrap(), &view);

            let failed = view.status == Status::Failed;
            let inlined = match (view.status.is_terminal(), result) {
                (false, _) => Inlined::Nothing,
                (true, true) if failed => Inlined::Result(br#"{"isError":true}"#),
                (true, false) if failed => Inlined::Error(br#"{"code":1}"#),
                (true, _) => Inlined::Result(br#"{"content":[]}"#),
            };
            let up = extension_task("s", task.as_bytes(), inlined).unwrap();
            let down = legacy_task("s", &up).unwrap();
            prop_assert!(same(&down, task.as_bytes()), "{} is not {}", text(&down), task);

            let task = Bytes::from(task);
            let sealed = with_task_id("s", &task, "sealed").unwrap();
            prop_assert_eq!(Task::read("s", &sealed).unwrap().id, "sealed");
            let back = with_task_id("s", &sealed, "t/1").unwrap();
            prop_assert_eq!(Task::read("s", &back).unwrap(), view);
        }

        #[test]
        fn no_text_is_too_odd(text in r#"[{}\[\]",:a-c0-9 \\]{0,24}"#, status in prop::sample::select(vec!["working", "completed", "failed"])) {
            let task = format!(r#"{{"taskId":"t","status":"{status}","ttl":{text}}}"#);
            for bytes in [text.as_bytes(), task.as_bytes()] {
                let _ = (Task::read("s", bytes), extension_created("s", bytes), legacy_created("s", bytes), legacy_task("s", bytes));
                let _ = (legacy_result("s", bytes), extension_task("s", bytes, Inlined::Error(bytes)), declares_tasks(bytes));
                let _ = (legacy_tools(&Bytes::copy_from_slice(bytes)), with_task_id("s", &Bytes::copy_from_slice(bytes), "x"), task_support(bytes));
                let _ = (related("s", bytes, "x"), unrelated("s", bytes), with_extension(bytes), begins_task(bytes, Era::Stateless));
            }
        }
    }
}
