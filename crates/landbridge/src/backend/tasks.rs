//! Tasks at servers that clients share: whose they are, and how each era asks about the other's.
//!
//! A task id of such a server is sealed for its client: it names the instance that runs the task, and
//! opens only for the principal it was made for. What a client asks about a task of the other era
//! takes several requests to the server, so each such question is a small conversation of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use landbridge_proto::bridge::ask;
use landbridge_proto::bridge::parked::{Question, Responses};
use landbridge_proto::bridge::{self, write_object};
use landbridge_proto::call::{Ask, Call, Client, Outcome, Principal, Reply};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::message::{Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::sealed::Purpose;
use landbridge_proto::tasks::{self, Inlined, Status, Task};
use landbridge_proto::version::Era;

use crate::backend::parked::Lot;
use crate::backend::replies::Replies;
use crate::backend::{Peer, lock};
use crate::system::random;

/// The ordinal, in an id, of a task that had ended when it began: a stateless server answered at once
/// what its client wanted as a task.
const ENDED: u32 = u32::MAX;
/// Bytes of such results that are kept (one always is).
const MOST_KEPT: usize = 64 * 1024 * 1024;
/// A task without a limit of its own keeps its instance from being stopped for so long.
const MOST: Duration = Duration::from_secs(60 * 60);
/// How long such a result is kept.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// How long a question of a task may take to arrive, once we are told that there is one.
const SOON: Duration = Duration::from_millis(500);

/// What is kept of tasks between the requests about them.
#[derive(Debug, Default)]
pub struct Kept {
    /// Tasks of handshake servers that ask: by sealed id.
    asking: Mutex<BTreeMap<String, Arc<Mutex<AskingTask>>>>,
    /// Results of calls that were answered at once.
    ended: Mutex<BTreeMap<u128, Ended>>,
}

/// A handshake server's task whose result is being waited for, because that is how it asks.
#[derive(Debug)]
struct AskingTask {
    replies: Replies,
    questions: Vec<Question>,
    outcome: Option<Outcome>,
    until: Instant,
}

#[derive(Debug)]
struct Ended {
    principal: Principal,
    result: Bytes,
    task: String,
    until: Instant,
}

/// Which task a client means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The id as the client has it.
    pub sealed: String,
    /// The instance that runs it.
    pub ordinal: u32,
    /// The id its server has for it.
    pub id: String,
}

/// Nobody knows the task, or nobody may.
pub fn unknown() -> Fault {
    Fault::client(Kind::Params).tell("Unknown task: it has ended and was forgotten, or never was")
}

impl Lot {
    /// The id by which `principal` knows a task of the server `name`.
    fn seal_task(&self, principal: &Principal, name: &str, ordinal: u32, id: &str) -> Option<String> {
        let plain = [&ordinal.to_le_bytes()[..], id.as_bytes()].concat();
        self.keys.seal(Purpose::Task, &[principal.as_bytes(), name.as_bytes()], &plain)
    }

    /// The task that a `tasks/…` request of a client means.
    pub fn named_task(&self, call: &Call, name: &str) -> Result<Named, Fault> {
        let sealed = tasks::asked_id(&call.message)?;
        let plain = self.keys.open(Purpose::Task, &[call.client.principal.as_bytes(), name.as_bytes()], &sealed).ok_or_else(unknown)?;
        let (ordinal, id) = plain.split_first_chunk().ok_or_else(unknown)?;
        let id = String::from_utf8(id.to_vec()).map_err(|_| unknown())?;
        Ok(Named { sealed, ordinal: u32::from_le_bytes(*ordinal), id })
    }

    /// Forgets what nobody came for. Called every second.
    pub fn housekeep_tasks(&self, now: Instant) {
        lock(&self.tasks.ended).retain(|_, ended| ended.until > now);
        // Their servers are told behind the lock.
        let over: Vec<_> = lock(&self.tasks.asking).extract_if(.., |_, task| lock(task).until <= now).collect();
        let error = Fault::client(Kind::Timeout).tell("the client did not answer in time").error();
        for (_, task) in over {
            let task = lock(&task);
            task.questions.iter().for_each(|q| task.replies.answer(q.ticket, Err(error.as_bytes())));
        }
    }
}

// --- ids on their way to the client ---------------------------------------------------------------

/// What a call's outcome may need before its client gets it, because of tasks.
#[derive(Debug)]
pub struct Errand {
    /// Whose keys seal.
    pub lot: Arc<Lot>,
    /// What we call the server.
    pub name: String,
    /// Which of its instances it is.
    pub peer: Peer,
    /// The id the client asked about.
    pub asked: Option<String>,
    /// The client wants a task, whatever its server makes of the call.
    pub wanted: bool,
}

impl Errand {
    /// The outcome as the client gets it.
    pub fn finish(&self, client: &Client, method: &Method, outcome: Outcome) -> Outcome {
        let Outcome::Result(result) = outcome else { return outcome };
        let era = client.revision.era();
        let finished = match &self.asked {
            Some(id) if *method == Method::TaskResult => tasks::related(&self.name, &result, id),
            Some(id) if Task::read(&self.name, &result).is_ok() => tasks::with_task_id(&self.name, &result, id),
            Some(_) => Ok(result),
            None if tasks::begins_task(&result, era) => self.seal(client, &result),
            None if self.wanted => self.keep(client, result),
            None => Ok(result),
        };
        finished.map_or_else(Outcome::Fault, Outcome::Result)
    }

    /// A question of the server for a task, marked with the id that its client knows (2025-11-25,
    /// "Related task metadata").
    pub fn mark(&self, ask: Ask) -> Ask {
        let marked = || {
            let params = tasks::related(&self.name, ask.message.params_text().as_bytes(), self.asked.as_ref()?).ok()?;
            let bytes = json::splice(&ask.message.bytes, &[(ask.message.params?, &params)]);
            Message::read(bytes.into()).ok()
        };
        let message = marked();
        Ask { message: message.unwrap_or(ask.message), ..ask }
    }

    fn seal(&self, client: &Client, created: &Bytes) -> Result<Bytes, Fault> {
        let task = Task::read(&self.name, created)?;
        let id = self.lot.seal_task(&client.principal, &self.name, self.peer.ordinal(), &task.id).ok_or_else(unsealable)?;
        self.peer.keep_for(task.ttl_ms.map_or(MOST, Duration::from_millis).min(MOST));
        tasks::with_task_id(&self.name, created, &id)
    }

    /// A task that had ended when it began.
    fn keep(&self, client: &Client, result: Bytes) -> Result<Bytes, Fault> {
        let number = u128::from_le_bytes(random().map_err(|e| unsealable().because(e))?);
        let id = self.lot.seal_task(&client.principal, &self.name, ENDED, &format!("{number:032x}")).ok_or_else(unsealable)?;
        let failed = json::field(&result, "isError") == Some(b"true");
        let (status, at, ttl_ms) = (if failed { "failed" } else { "completed" }, timestamp(SystemTime::now()), KEPT.as_millis());
        let task = format!(
            "{{\"taskId\":{},\"status\":\"{status}\",\"createdAt\":\"{at}\",\"lastUpdatedAt\":\"{at}\",\"ttl\":{ttl_ms}}}",
            json::quote(&id)
        );
        let created = format!("{{\"task\":{task}}}");
        let mut all = lock(&self.lot.tasks.ended);
        // The oldest give way: their clients had the most time to come for them.
        let kept = |all: &BTreeMap<u128, Ended>| all.values().map(|ended| ended.result.len()).sum::<usize>();
        while all.len() >= self.lot.limit || (!all.is_empty() && kept(&all) + result.len() > MOST_KEPT) {
            let oldest = all.iter().min_by_key(|(_, ended)| ended.until).map(|(number, _)| *number);
            let Some(oldest) = oldest else { break };
            all.remove(&oldest);
        }
        all.insert(number, Ended { principal: client.principal.clone(), result, task, until: Instant::now() + KEPT });
        Ok(created.into())
    }
}

fn unsealable() -> Fault {
    Fault::gateway(Kind::Backend).tell("the task could not be given an id")
}

/// A moment as RFC 3339 has it, in UTC and whole seconds.
fn timestamp(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date: eras of 400 years, years that begin in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
}

// --- requests about a task that had ended when it began ---------------------------------------------

/// Answers a `tasks/…` request about such a task; `None`: the task is another one.
pub fn of_ended(lot: &Lot, call: &Call, named: &Named) -> Option<Outcome> {
    if named.ordinal != ENDED {
        return None;
    }
    let number = u128::from_str_radix(&named.id, 16).unwrap_or_default();
    let all = lock(&lot.tasks.ended);
    let Some(ended) = all.get(&number).filter(|e| e.principal == call.client.principal) else {
        return Some(Outcome::Fault(unknown()));
    };
    Some(match call.method {
        Method::TaskResult => tasks::related("", &ended.result, &named.sealed).map_or_else(Outcome::Fault, Outcome::Result),
        Method::TaskGet => Outcome::Result(ended.task.clone().into()),
        _ => Outcome::Fault(Fault::client(Kind::Params).tell("Cannot cancel task: it has ended already")),
    })
}

// --- a stateless client, a task of a handshake server -----------------------------------------------

/// Answers a `tasks/…` request of the extension about a task of a 2025-11-25 server.
pub async fn of_handshake_server(lot: Arc<Lot>, peer: Peer, call: Call, named: Named) -> Outcome {
    let answered = match call.method {
        Method::TaskGet => get(&lot, &peer, &call, &named).await,
        Method::TaskUpdate => update(&lot, &peer, &call, &named).await,
        _ => {
            let cancelled = cancel(&peer, &named).await;
            // Only now: a refused answer would have made the task fail.
            forget(&lot, &named);
            cancelled
        }
    };
    match answered {
        // Complete for its era, as every result.
        Ok(outcome) => bridge::outcome(&call.client, peer.server(), &call.method, outcome),
        Err(fault) => Outcome::Fault(fault),
    }
}

async fn get(lot: &Arc<Lot>, peer: &Peer, call: &Call, named: &Named) -> Result<Outcome, Fault> {
    let name = &peer.server().name;
    let got = match peer.request(Method::TaskGet, &tasks::params_of(&named.id)).await {
        Outcome::Result(got) => got,
        other => return Ok(other),
    };
    let questions;
    let ended;
    let inlined = match Task::read(name, &got)?.status {
        Status::InputRequired => {
            questions = questions_of(lot, peer, call, named).await?;
            if questions.is_empty() { Inlined::Nothing } else { Inlined::Requests(&questions) }
        }
        Status::Completed | Status::Failed => {
            ended = bridge::outcome(&call.client, peer.server(), &Method::ToolsCall, result_of(lot, peer, named).await);
            match &ended {
                Outcome::Result(result) => Inlined::Result(result),
                Outcome::Error(error) => Inlined::Error(error),
                Outcome::Fault(fault) => return Err(fault.clone()),
            }
        }
        Status::Cancelled => {
            forget(lot, named);
            Inlined::Nothing
        }
        Status::Working => Inlined::Nothing,
    };
    let task = tasks::extension_task(name, &got, inlined)?;
    Ok(Outcome::Result(tasks::with_task_id(name, &task, &named.sealed)?))
}

/// What the task asks and nobody has answered, as the JSON text of `inputRequests`; empty: nothing
/// came so far. It asks on the stream of `tasks/result`, so that is opened.
async fn questions_of(lot: &Arc<Lot>, peer: &Peer, call: &Call, named: &Named) -> Result<Vec<u8>, Fault> {
    let task = listened_to(lot, peer, call, named).await?;
    let task = lock(&task);
    let open = task.questions.iter().map(|q| (q.asked.key.clone(), q.asked.request.to_vec()));
    Ok(if task.questions.is_empty() { Vec::new() } else { write_object(open) })
}

/// The task, with somebody who listens to what it asks; and what it has asked so far.
async fn listened_to(lot: &Arc<Lot>, peer: &Peer, call: &Call, named: &Named) -> Result<Arc<Mutex<AskingTask>>, Fault> {
    let task = {
        // One look, one listener: two requests at once must not open two.
        let mut all = lock(&lot.tasks.asking);
        // Who waited for it in vain hears nothing any more.
        all.retain(|id, task| *id != named.sealed || !matches!(lock(task).outcome, Some(Outcome::Fault(_))));
        match all.get(&named.sealed) {
            Some(task) => task.clone(),
            None if all.len() >= lot.limit => {
                return Err(Fault::gateway(Kind::Busy).tell("too many tasks wait for answers of their clients already; try again later"));
            }
            None => {
                let replies = peer.fetch(&named.id, &call.client)?;
                let until = Instant::now() + lot.keep;
                let task = Arc::new(Mutex::new(AskingTask { replies, questions: Vec::new(), outcome: None, until }));
                all.insert(named.sealed.clone(), task.clone());
                task
            }
        }
    };
    let soon = tokio::time::Instant::now() + SOON;
    // Several may look at once, and the server's words wake only one of them: each looks again.
    while !lock(&task).has_news() && tokio::time::Instant::now() < soon {
        let news = std::future::poll_fn(|cx| {
            let mut task = lock(&task);
            task.listen(cx);
            if task.has_news() { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout(SOON / 10, news).await;
    }
    lock(&task).until = Instant::now() + lot.keep;
    Ok(task)
}

impl AskingTask {
    fn has_news(&self) -> bool {
        !self.questions.is_empty() || self.outcome.is_some()
    }

    /// Takes in what the server said.
    fn listen(&mut self, cx: &mut Context<'_>) {
        while self.outcome.is_none() {
            match self.replies.poll_next(cx) {
                Poll::Ready(Reply::Ask(ask)) => {
                    // A key is good for one question over the task's life.
                    let taken = |key: &str| self.questions.iter().any(|q| q.asked.key == key);
                    let Some(mut asked) = ask::input_requests(std::slice::from_ref(&ask)).pop() else { continue };
                    if ask::named(&ask).is_none() || taken(&asked.key) {
                        asked.key = format!("{}-{}", asked.key, ask.ticket);
                    }
                    self.questions.push(Question { ticket: ask.ticket, asked });
                }
                Poll::Ready(Reply::Done(outcome)) => self.outcome = Some(outcome),
                Poll::Ready(_) => {}
                Poll::Pending => break,
            }
        }
        let replies = &self.replies;
        self.questions.retain(|q| replies.is_open(q.ticket));
    }
}

/// Nobody need listen to the task any more.
fn forget(lot: &Lot, named: &Named) {
    // Bound to a name first: what is dropped tells its server, behind the lock.
    let asking = lock(&lot.tasks.asking).remove(&named.sealed);
    drop(asking);
}

/// What came of a task that has ended.
async fn result_of(lot: &Arc<Lot>, peer: &Peer, named: &Named) -> Outcome {
    let asked = lock(&lot.tasks.asking).remove(&named.sealed);
    if let Some(task) = asked {
        let ended = std::future::poll_fn(|cx| {
            let mut task = lock(&task);
            task.listen(cx);
            task.outcome.clone().map_or(Poll::Pending, Poll::Ready)
        });
        if let Ok(outcome @ (Outcome::Result(_) | Outcome::Error(_))) = tokio::time::timeout(SOON, ended).await {
            return outcome;
        }
    }
    peer.request(Method::TaskResult, &tasks::params_of(&named.id)).await
}

async fn update(lot: &Arc<Lot>, peer: &Peer, call: &Call, named: &Named) -> Result<Outcome, Fault> {
    let wrong = |told: &str| Fault::client(Kind::Params).tell(told);
    if !call.params.input_responses.is_some_and(|at| call.message.text(at).starts_with('{')) {
        return Err(wrong("`params.inputResponses` must be an object"));
    }
    let responses = Responses::read(call)?;
    let got = peer.request(Method::TaskGet, &tasks::params_of(&named.id)).await;
    let Outcome::Result(got) = got else { return Ok(got) };
    // Somebody else may have listened before; what is asked comes to whoever does now.
    if Task::read(&peer.server().name, &got)?.status == Status::InputRequired {
        let task = listened_to(lot, peer, call, named).await?;
        let mut task = lock(&task);
        if let Some(question) = task.questions.iter().find(|q| responses.has(&q.asked.key) && responses.get(&q.asked.key).is_none()) {
            return Err(wrong(&format!("the response to `{}` must be an object", question.asked.key)));
        }
        let task = &mut *task;
        task.questions.retain(|question| match responses.get(&question.asked.key) {
            Some(answer) => {
                task.replies.answer(question.ticket, Ok(&answer));
                false
            }
            None => true,
        });
    }
    Ok(Outcome::Result(Bytes::from_static(b"{}")))
}

async fn cancel(peer: &Peer, named: &Named) -> Result<Outcome, Fault> {
    let params = tasks::params_of(&named.id);
    if let refused @ (Outcome::Error(_) | Outcome::Fault(_)) = peer.request(Method::TaskCancel, &params).await {
        // One that has ended cannot be cancelled, which to the extension is no error.
        let there = matches!(peer.request(Method::TaskGet, &params).await, Outcome::Result(_));
        return Ok(if there { Outcome::Result(Bytes::from_static(b"{}")) } else { refused });
    }
    Ok(Outcome::Result(Bytes::from_static(b"{}")))
}

// --- a 2025-11-25 client, a task of a stateless server ----------------------------------------------

/// Answers `tasks/get` and `tasks/cancel` of a 2025-11-25 client about a task of the extension.
/// (`tasks/result`, which blocks and may ask, is a crossing.)
pub async fn of_stateless_server(peer: Peer, call: Call, named: Named) -> Outcome {
    let name = &peer.server().name;
    let params = tasks::params_of(&named.id);
    let mut got = peer.request(Method::TaskGet, &params).await;
    if call.method == Method::TaskCancel
        && let Outcome::Result(task) = &got
    {
        match Task::read(name, task) {
            Ok(task) if task.status.is_terminal() => {
                return Outcome::Fault(Fault::client(Kind::Params).tell("Cannot cancel task: it has ended already"));
            }
            Ok(_) => {}
            Err(fault) => return Outcome::Fault(fault),
        }
        if let refused @ (Outcome::Error(_) | Outcome::Fault(_)) = peer.request(Method::TaskCancel, &params).await {
            return bridge::outcome(&call.client, peer.server(), &call.method, refused);
        }
        // The server takes it in when it can; its client is to see a task that is cancelled.
        for _ in 0..10 {
            got = peer.request(Method::TaskGet, &params).await;
            let ended = matches!(&got, Outcome::Result(task) if Task::read(name, task).is_ok_and(|t| t.status.is_terminal()));
            if ended {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    match got {
        Outcome::Result(task) => {
            let task = tasks::legacy_task(name, &task).and_then(|task| tasks::with_task_id(name, &task, &named.sealed));
            match task {
                Ok(task) => bridge::outcome(&call.client, peer.server(), &call.method, Outcome::Result(task)),
                Err(fault) => Outcome::Fault(fault),
            }
        }
        other => bridge::outcome(&call.client, peer.server(), &call.method, other),
    }
}

/// The fault of a stateless client that asks about tasks and did not declare the extension.
pub fn undeclared() -> Fault {
    let required = format!("{{\"extensions\":{{\"{}\":{{}}}}}}", tasks::EXTENSION);
    Fault::client(Kind::Capability)
        .tell("Missing required client capability: tasks are an extension that the client must declare")
        .with_data(format!("{{\"requiredCapabilities\":{required}}}"))
}

/// The call's own request about a task, under the id that its server has for it.
pub fn under_its_own_id(call: &Call, named: &Named) -> Result<Call, Fault> {
    let bytes = tasks::with_asked_id(&call.message, &named.id)?;
    rewritten(call, bytes)
}

/// The call with another message.
pub fn rewritten(call: &Call, bytes: Bytes) -> Result<Call, Fault> {
    let lost = || Fault::gateway(Kind::Backend).tell("the request could not be written anew");
    let message = Message::read(bytes).map_err(|bad| lost().because(bad.why))?;
    let params = Params::read(&message).map_err(|e| lost().because(e))?;
    Ok(Call { message, params, ..call.clone() })
}

/// The same, boxed.
pub fn boxed(call: &Call, bytes: Bytes) -> Result<Box<Call>, Fault> {
    rewritten(call, bytes).map(Box::new)
}

/// Whether requests about tasks mean something between this client and this server.
pub fn are_known(client: &Client, peer: &Peer) -> bool {
    let newest_handshake = client.revision == landbridge_proto::version::Revision::V2025_11_25;
    peer.server().can.tasks && (client.revision.era() == Era::Stateless || newest_handshake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_132_800, "2026-11-20T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}
