//! The servers: they ask and answer at random, and keep to one rule.
//!
//! A server that asks in the middle of a call waits for the answer, or withdraws the question,
//! before it ends that call. What breaks the rule is asked in nobody's name.

use std::sync::Arc;

use landbridge_proto::call::Server;
use landbridge_proto::json;
use landbridge_proto::message::{Message, Params};
use landbridge_proto::version::{Era, Revision};
use serde_json::Value;

use super::clients::Kind;
use super::elsewhere::On;
use super::ledger::{PRINCIPALS, Round, mark};
use super::note;
use super::world::World;

/// A call, as its server sees it.
pub(super) struct Job {
    pub(super) id: u64,
    n: u32,
    who: usize,
    askable: bool,
    asks_left: usize,
    /// Questions that are open: their ids, and whether the call's end will not wait for them.
    open: Vec<(String, bool)>,
    wants_progress: bool,
    progress: u64,
    /// Where it is answered, over HTTP.
    pub(super) on: Option<On>,
}

impl World {
    pub(super) fn hello(&self, era: Era) -> Arc<Server> {
        let revision = if era == Era::Stateless { Revision::NEWEST } else { Revision::V2025_11_25 };
        let hello = match self.http {
            false => r#"{"serverInfo":{"name":"s","version":"1"},"capabilities":{"tools":{}}}"#,
            true => r#"{"serverInfo":{"name":"s","version":"1"},"capabilities":{"tools":{},"logging":{}}}"#,
        };
        Arc::new(Server::read(revision, hello.into(), "s").expect("a hello"))
    }

    pub(super) fn server_reads(&mut self, pipe: usize) {
        for _ in 0..1 + self.dice.below(3) {
            if self.http {
                self.server_reads_a_request(pipe);
                continue;
            }
            let Some(line) = self.pipes[pipe].to_server.pop_front() else { return };
            self.takes(pipe, &line, None);
        }
    }

    /// The server takes a message.
    pub(super) fn takes(&mut self, pipe: usize, line: &str, on: Option<On>) {
        let message = Message::read(line.trim_end().to_owned().into()).expect("a message");
        let value: Value = serde_json::from_str(line).expect("JSON");
        match value.get("method").and_then(Value::as_str) {
            None => {
                let id = value["id"].to_string();
                let of_session = |job: &&mut Job| job.on.as_ref().map(|on| on.session) == on.as_ref().map(|on| on.session);
                let jobs = self.pipes[pipe].jobs.iter_mut().filter(of_session);
                jobs.for_each(|job| job.open.retain(|(open, _)| *open != id));
            }
            Some("notifications/cancelled") => {
                let id = value["params"]["requestId"].as_u64().expect("an id");
                let Some(at) = self.pipes[pipe].jobs.iter().position(|job| job.id == id) else { return };
                let job = self.pipes[pipe].jobs.remove(at);
                if self.dice.chance(50) {
                    job.open.iter().for_each(|(id, _)| self.takes_back(pipe, None, id));
                }
            }
            Some(method) => {
                let x = &value["params"]["x"];
                let n = x["n"].as_u64().expect("a number") as u32;
                let who = (0..PRINCIPALS.len()).find(|who| x["m"] == mark(Some(*who))).expect("a mark");
                self.ledger.only_for(who, line);
                self.returns(n, &message);
                let asks_left = if self.dice.chance(60) { self.dice.below(4) } else { 0 };
                let askable = matches!(method, "tools/call" | "prompts/get" | "resources/read");
                let wants_progress = value["params"]["_meta"].get("progressToken").is_some();
                let id = value["id"].as_u64().expect("an id of ours");
                self.pipes[pipe].jobs.push(Job { id, n, who, askable, asks_left, open: Vec::new(), wants_progress, progress: 0, on });
            }
        }
    }

    /// A call of a handshake client comes back to a stateless server: with every answer, and the state
    /// as it was.
    fn returns(&mut self, n: u32, message: &Message) {
        let Some(round) = self.ledger.rounds.get_mut(&n) else { return };
        assert!(!std::mem::replace(&mut round.taken, true), "call {n} comes back twice");
        let params = Params::read(message).expect("params");
        let state = params.request_state.map(|at| message.text(at).to_owned());
        assert_eq!(state, round.state, "the state of call {n}");
        let answers = params.input_responses.map_or("{}", |at| message.text(at));
        let answers = json::members(answers).expect("an object");
        let keys: Vec<&str> = answers.iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, round.questions.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>());
        for ((_, answer), (_, n)) in answers.iter().zip(&round.questions) {
            match &self.ledger.questions[n].took {
                Some(Ok(took)) => assert_eq!(answer, took, "question {n}"),
                // A client that cannot be asked after all, or says an error, does not consent.
                _ => assert_eq!(*answer, r#"{"action":"cancel"}"#, "question {n}"),
            }
        }
    }

    fn takes_back(&mut self, pipe: usize, of: Option<u64>, id: &str) {
        self.hears_all_beside(pipe);
        self.says(pipe, of, format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
    }

    /// The server says something, which is for that call.
    fn says(&mut self, pipe: usize, of: Option<u64>, line: String) {
        match self.http {
            true => self.says_elsewhere(pipe, of, &line),
            false => self.pipes[pipe].to_link.push_back(line),
        }
    }

    /// The method and the params of question `n`.
    fn question(&mut self, n: u32, who: Option<usize>) -> (&'static str, String) {
        let about = format!("#{n}# {}", mark(who));
        let (method, letters) = match self.dice.below(4) {
            0 => ("sampling/createMessage", format!(r#""maxTokens":1.0,"messages":[],"about":"{about}"}}"#)),
            1 => ("roots/list", format!(r#""about":"{about}"}}"#)),
            2 => ("elicitation/create", format!(r#""message":"{about}","requestedSchema":{{}}}}"#)),
            _ => ("elicitation/create", format!(r#""message":"{about}","requestedSchema":{{ "n":1.50e2}}}}"#)),
        };
        let named = if self.dice.chance(30) { r#""_meta":{"landbridge/key":"who"},"# } else { "" };
        let params = format!("{{{named}{letters}");
        self.ledger.letters(n, letters);
        (method, params)
    }

    fn asks(&mut self, pipe: usize, of: Option<u64>, who: Option<usize>) -> String {
        let p = &mut self.pipes[pipe];
        p.next_id += 1;
        let id = if self.dice.chance(50) { p.next_id.to_string() } else { format!("\"q{}\"", p.next_id) };
        let n = self.ledger.asks(pipe, id.clone(), of);
        self.is_asked_elsewhere(pipe, of, &id, n);
        let (method, params) = self.question(n, who);
        self.says(pipe, of, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#));
        id
    }

    pub(super) fn server_acts(&mut self, pipe: usize) {
        if self.pipes[pipe].link.closed().is_some() {
            return;
        }
        let jobs = self.pipes[pipe].jobs.len();
        let roll = self.dice.below(100);
        if roll < 3 && !self.calm {
            // On another stream it must not overtake what was asked for that call.
            if let Some(id) =
                self.dice.pick(&self.pipes[pipe].over.clone()).filter(|id| !self.http || !self.ledger.is_asked_for(pipe, **id))
            {
                self.says(pipe, None, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"late":"m-nobody"}}}}"#));
            }
            return;
        }
        if jobs == 0 {
            if roll < 6 && !self.calm && self.pipes[pipe].link.server().era() == Era::Handshake {
                self.asks(pipe, None, None);
            }
            return;
        }
        let at = self.dice.below(jobs);
        let (id, n, who, askable, asks_left, wants_progress) = {
            let job = &self.pipes[pipe].jobs[at];
            (job.id, job.n, job.who, job.askable, job.asks_left, job.wants_progress)
        };
        let own = mark(Some(who));
        if wants_progress && roll < 15 {
            // Some servers do not keep to it that progress grows.
            let job = &mut self.pipes[pipe].jobs[at];
            job.progress += (roll % 3) as u64;
            let progress = job.progress;
            return self.says(
                pipe,
                Some(id),
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":{progress},"message":"{own}"}}}}"#
                ),
            );
        }
        if self.http && self.dice.chance(5) {
            let line = format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"{own}"}}}}"#);
            return self.says(pipe, Some(id), line);
        }
        if self.pipes[pipe].link.server().era() == Era::Stateless {
            return self.stateless_server_answers(pipe, at);
        }
        if !askable && roll < 40 && !self.calm && self.pipes[pipe].owner.is_some() {
            self.asks(pipe, None, None); // `roots/list` behind `initialized`, or the like
            return;
        }
        if askable && asks_left > 0 && roll < 70 && !self.calm {
            if self.polite && self.pipes[pipe].jobs.iter().any(|job| !job.open.is_empty()) {
                return;
            }
            let many = if self.polite || self.dice.chance(60) { 1 } else { 1 + self.dice.below(asks_left) };
            self.pipes[pipe].jobs[at].asks_left -= many;
            for _ in 0..many {
                // Nobody's question need not be waited for.
                let abandoned = self.dice.chance(10);
                let asked = if abandoned { self.asks(pipe, None, None) } else { self.asks(pipe, Some(id), Some(who)) };
                self.pipes[pipe].jobs[at].open.push((asked, abandoned));
            }
            return;
        }
        let open: Vec<String> = self.pipes[pipe].jobs[at].open.iter().filter(|(_, a)| !a).map(|(id, _)| id.clone()).collect();
        if !open.is_empty() && self.dice.chance(80) {
            return; // it waits
        }
        for asked in &open {
            self.takes_back(pipe, Some(id), asked);
        }
        self.pipes[pipe].jobs[at].open.retain(|(_, abandoned)| *abandoned);
        if self.dice.chance(30) {
            return;
        }
        let body = match self.dice.below(10) {
            0 => format!(r#""error":{{"code":-5,"message":"r{n} {own}"}}"#),
            1 if askable && !self.calm => {
                let visit = self.ledger.asks(pipe, format!("visit {n}"), None);
                format!(
                    r##""error":{{"code":-32042,"message":"r{n} {own}","data":{{"elicitations":[{{"mode":"url","elicitationId":"e{visit}","url":"https://x/","message":"#{visit}# {own}"}}]}}}}"##
                )
            }
            _ => format!(r#""result":{{"content":[{{"type":"text","text":"r{n} {own}"}}]}}"#),
        };
        self.ends(pipe, at, body);
    }

    fn ends(&mut self, pipe: usize, at: usize, body: String) {
        let id = self.pipes[pipe].jobs[at].id;
        self.pipes[pipe].over.push(id);
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},{body}}}"#);
        match self.http {
            true => self.answers_elsewhere(pipe, id, &line),
            false => self.says(pipe, Some(id), line),
        }
        self.pipes[pipe].jobs.remove(at);
    }

    fn stateless_server_answers(&mut self, pipe: usize, at: usize) {
        let (n, who, askable) = {
            let job = &self.pipes[pipe].jobs[at];
            (job.n, job.who, job.askable)
        };
        let own = mark(Some(who));
        let roll = self.dice.below(100);
        if !askable || roll < 50 || self.calm {
            let body = match roll % 10 {
                0 => format!(r#""error":{{"code":-5,"message":"r{n} {own}"}}"#),
                _ => format!(r#""result":{{"resultType":"complete","content":[{{"type":"text","text":"r{n} {own}"}}]}}"#),
            };
            return self.ends(pipe, at, body);
        }
        let mut questions = Vec::new();
        let mut requests = Vec::new();
        for key in 0..self.dice.below(4) {
            let asked = self.ledger.asks(pipe, format!("key {n}"), None);
            let (method, params) = self.question(asked, Some(who));
            requests.push(format!(r#""k{key}":{{"method":"{method}","params":{params}}}"#));
            questions.push((format!("k{key}"), asked));
        }
        // A stateless client gets a string, as the revision has it; what we keep ourselves may be anything.
        let state = match self.is_session_of(n) {
            false => Some(format!(r#""s{n} {own}""#)),
            true if questions.is_empty() || self.dice.chance(50) => Some(format!(r#"{{"of":{n}, "x":1.0,"m":"{own}"}}"#)),
            true => None,
        };
        let mut body = format!(r#""result":{{"resultType":"input_required","inputRequests":{{{}}}"#, requests.join(","));
        if let Some(state) = &state {
            body += &format!(r#","requestState":{state}"#);
        }
        body += "}";
        if self.is_session_of(n) {
            note(format!("a round for call {n}"));
            self.ledger.counts.rounds += 1;
            let taken = self.ledger.rounds.insert(n, Round { questions, state, taken: false }).is_none_or(|r| r.taken);
            assert!(taken, "call {n} goes on, and its round does not");
        }
        self.ends(pipe, at, body);
    }

    fn is_session_of(&self, n: u32) -> bool {
        let e = self.ledger.exchanges.values().find(|e| e.n == n).expect("somebody called");
        matches!(self.clients[e.client].kind, Kind::Session(_))
    }
}
