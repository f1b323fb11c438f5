//! Watches a task of the extension until it ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Members, Status, Task, end, get, open, own, sent, write, write_line};
use crate::call::Outcome;
use crate::fault::{Fault, Kind};
use crate::json;
use crate::methods::Method;

/// However often or rarely a server wishes to be asked.
const LEAST_INTERVAL: Duration = Duration::from_millis(50);
const MOST_INTERVAL: Duration = Duration::from_secs(60);
/// Where it wishes nothing.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// How many questions one task may ask, and how long the key of one may be.
const MAX_ASKED: usize = 1_000;
const MAX_KEY_BYTES: usize = 1_024;

/// Watches one task of the extension, for a client that knows of none. (A legacy task needs no
/// watching: its `tasks/result` blocks until there is one.)
///
/// ```text
///   get ─ working ─▶ wait ─▶ get … ─ ended ─▶ done
///     └─ input_required ─▶ ask (then tasks/update) ─▶ get …
/// ```
#[derive(Debug)]
pub struct Poll {
    server: String,
    id: String,
    every: Duration,
    /// Keys are unique over the life of a task, so what was asked once is not asked again.
    asked: BTreeSet<String>,
    deadline: Instant,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Send `tasks/get` then. What it answers from the deadline on ends the poll either way.
    WaitUntil(Instant),
    /// Ask the client, and send its answers as `tasks/update`. `tasks/get` goes on beside it, from
    /// [`Poll::next`] on.
    Ask(Vec<Question>),
    /// It ended, in the words of the server's era.
    Done(Outcome),
}

/// One entry of `inputRequests`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The key its answer goes by.
    pub key: String,
    /// What is asked.
    pub method: Method,
    /// The JSON text of its `params`, `{}` where there are none.
    pub params: Bytes,
}

impl Poll {
    /// A task of the extension, from the CreateTaskResult.
    pub fn new(server: &str, created: &[u8], deadline: Instant) -> Result<Poll, Fault> {
        let task = Task::read(server, created)?;
        let mut poll = Poll { server: server.into(), id: task.id, every: DEFAULT_INTERVAL, asked: BTreeSet::new(), deadline };
        poll.heed(task.poll_interval_ms);
        Ok(poll)
    }

    /// The id the server knows the task by.
    pub fn task_id(&self) -> &str {
        &self.id
    }

    /// When to send the next `tasks/get`.
    pub fn next(&self, now: Instant) -> Instant {
        (now + self.every).min(self.deadline)
    }

    /// Takes the result of `tasks/get`, or the params of a notice of this task.
    pub fn handle_get(&mut self, result: &[u8], now: Instant) -> Step {
        self.read(result, now).unwrap_or_else(|fault| Step::Done(Outcome::Fault(fault)))
    }

    fn read(&mut self, result: &[u8], now: Instant) -> Result<Step, Fault> {
        let members = open(&self.server, "a task", result)?;
        let task = Task::of(&self.server, &members)?;
        if task.id != self.id {
            return Err(sent(&self.server, "another task than the one it was asked for"));
        }
        self.heed(task.poll_interval_ms);
        match task.status {
            Status::Working => {}
            Status::InputRequired => {
                let questions = self.questions(&members)?;
                if !questions.is_empty() && now < self.deadline {
                    return Ok(Step::Ask(questions));
                }
            }
            _ => {
                let ended = end(&self.server, &members, task.status)?;
                return ended.map(|ended| Step::Done(complete(ended))).ok_or_else(|| sent(&self.server, "a task without an end"));
            }
        }
        if now >= self.deadline {
            return Err(Fault::gateway(Kind::Timeout)
                .tell(format!("the task that the server `{}` made of the call did not end in time", self.server)));
        }
        Ok(Step::WaitUntil(self.next(now)))
    }

    fn heed(&mut self, wish_ms: Option<u64>) {
        if let Some(wish) = wish_ms {
            self.every = Duration::from_millis(wish).clamp(LEAST_INTERVAL, MOST_INTERVAL);
        }
    }

    /// The questions that are new, which are remembered as asked.
    fn questions(&mut self, task: &Members<'_>) -> Result<Vec<Question>, Fault> {
        let requests =
            get(task, "inputRequests").ok_or_else(|| sent(&self.server, "a task that waits for input, without `inputRequests`"))?;
        let mut new = Vec::new();
        for (key, request) in open(&self.server, "`inputRequests`", requests.as_bytes())? {
            if self.asked.contains(&*key) {
                continue;
            }
            if self.asked.len() >= MAX_ASKED || key.len() > MAX_KEY_BYTES {
                return Err(sent(
                    &self.server,
                    &format!("more than {MAX_ASKED} requests for one task, or a key of more than {MAX_KEY_BYTES} bytes"),
                ));
            }
            let request = open(&self.server, "one of `inputRequests`", request.as_bytes())?;
            let method = get(&request, "method").and_then(|m| json::string(m.as_bytes()));
            let method = method.ok_or_else(|| sent(&self.server, "one of `inputRequests` without a `method`"))?;
            let params = get(&request, "params").unwrap_or("{}");
            if !params.starts_with('{') {
                return Err(sent(&self.server, "one of `inputRequests` whose `params` are no object"));
            }
            self.asked.insert(key.clone().into_owned());
            new.push(Question { key: key.into_owned(), method: Method::parse(&method), params: write_line(params) });
        }
        Ok(new)
    }
}

/// The result within a task as the result of the call it was made of, which has a type.
fn complete(ended: Outcome) -> Outcome {
    let Outcome::Result(result) = &ended else { return ended };
    match std::str::from_utf8(result).ok().and_then(|text| json::members(text).ok()) {
        Some(members) if get(&members, "resultType").is_none() => {
            let head = ("resultType".to_owned(), b"\"complete\"".to_vec());
            Outcome::Result(write([head].into_iter().chain(members.iter().map(own))))
        }
        _ => ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: impl AsRef<[u8]>) -> String {
        String::from_utf8(bytes.as_ref().to_vec()).unwrap()
    }

    /// A task of the extension, with more members.
    fn extension(status: &str, more: &str) -> Vec<u8> {
        format!(r#"{{"resultType":"complete","taskId":"t","status":"{status}","ttlMs":1.0{more}}}"#).into_bytes()
    }

    #[allow(clippy::disallowed_methods)] // An origin for virtual time; nothing waits.
    fn now() -> Instant {
        Instant::now()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_task_of_the_extension_is_driven_to_its_end() {
        let start = now();
        let created = br#"{"resultType":"task","taskId":"t","status":"working","ttlMs":null}"#;
        let mut poll = Poll::new("s", created, start + ms(90_000)).unwrap();
        let mut get = |status: &str, more: &str, at: u64| poll.handle_get(&extension(status, more), start + ms(at));
        let waits = |step, until: u64| assert!(matches!(step, Step::WaitUntil(at) if at == start + ms(until)), "{step:?}");
        waits(get("working", "", 0), 1_000);
        waits(get("working", r#","pollIntervalMs":1"#, 1_000), 1_050);
        waits(get("working", r#","pollIntervalMs":1e9"#, 2_000), 62_000);
        waits(get("working", "", 62_000), 90_000);
        let two =
            r#","pollIntervalMs":100,"inputRequests":{"a":{"method":"roots/list"},"b":{"method":"elicitation/create","params":{"x":1.0}}}"#;
        let Step::Ask(asked) = get("input_required", two, 63_000) else { panic!("nothing asked") };
        assert_eq!(asked[0], Question { key: "a".into(), method: Method::Roots, params: Bytes::from_static(b"{}") });
        assert_eq!(asked[1], Question { key: "b".into(), method: Method::Elicitation, params: Bytes::from_static(br#"{"x":1.0}"#) });
        waits(get("input_required", two, 64_000), 64_100);
        let three = r#","inputRequests":{"a":{"method":"roots/list"},"c":{"method":"x/y"}}"#;
        assert!(matches!(get("input_required", three, 65_000), Step::Ask(asked) if asked.len() == 1 && asked[0].key == "c"));
        assert!(matches!(get("working", "", 90_000), Step::Done(Outcome::Fault(f)) if f.kind == Kind::Timeout));
        let Step::Done(Outcome::Result(result)) = get("completed", r#","result":{"content":[1.0]}"#, 91_000) else { panic!("no end") };
        assert_eq!(text(result), r#"{"resultType":"complete","content":[1.0]}"#);
        assert!(matches!(get("failed", r#","error":{"code":1}"#, 0), Step::Done(Outcome::Error(e)) if e == r#"{"code":1}"#));
        assert!(matches!(get("cancelled", "", 0), Step::Done(Outcome::Error(_))));
        assert_eq!((poll.task_id(), poll.next(start)), ("t", start + ms(100)));
    }

    #[test]
    fn a_task_that_misbehaves_ends_in_a_fault() {
        let start = now();
        let created = br#"{"resultType":"task","taskId":"t","status":"working"}"#;
        let many: Vec<String> = (0..=MAX_ASKED).map(|i| format!(r#""{i}":{{"method":"m"}}"#)).collect();
        for (status, more) in [
            ("input_required", String::new()),
            ("input_required", r#","inputRequests":[]"#.into()),
            ("input_required", r#","inputRequests":{"a":1}"#.into()),
            ("input_required", r#","inputRequests":{"a":{}}"#.into()),
            ("input_required", r#","inputRequests":{"a":{"method":"m","params":[]}}"#.into()),
            ("input_required", format!(r#","inputRequests":{{"{}":{{"method":"m"}}}}"#, "k".repeat(MAX_KEY_BYTES + 1))),
            ("input_required", format!(r#","inputRequests":{{{}}}"#, many.join(","))),
            ("completed", String::new()),
            ("failed", String::new()),
            ("asleep", String::new()),
        ] {
            let mut poll = Poll::new("s", created, start + ms(9_000)).unwrap();
            let step = poll.handle_get(&extension(status, &more), start);
            assert!(matches!(step, Step::Done(Outcome::Fault(ref f)) if f.kind == Kind::Backend), "{status}: {step:?}");
        }
        assert!(Poll::new("s", br#"{"status":"working"}"#, start).is_err() && Poll::new("s", b"", start).is_err());
        let mut poll = Poll::new("s", created, start + ms(9_000)).unwrap();
        let other = br#"{"taskId":"u","status":"working"}"#;
        assert!(matches!(poll.handle_get(other, start), Step::Done(Outcome::Fault(f)) if f.told.contains("another task")));
    }
}
