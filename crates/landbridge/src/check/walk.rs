//! What every client does first, whatever it is for: open, say that it is ready, and list.

use serde_json::{Map, Value, json};

use landbridge_proto::version::{Era, Revision};

use crate::check::report::{Counts, Row, Timing, Transport, Wire};
use crate::check::rules::{self, Finding, Rule, Verdict};
use crate::check::seen::{Came, Seen, says};
use crate::check::talk::{Talk, described, discover, initialize, notification, request};

/// Pages of one listing.
const PAGES: usize = 100;

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Walked {
    pub(super) wire: Wire,
    /// What the opening came to.
    pub(super) opened: Came,
    /// The revision the server answered with.
    pub(super) answered: Option<String>,
    /// Where a client would give up.
    pub(super) broke: Option<(&'static Rule, String)>,
    /// `serverInfo`.
    pub(super) server: Value,
    pub(super) capabilities: Value,
    pub(super) counts: Counts,
    pub(super) tools: Vec<Value>,
    pub(super) rows: Vec<Row>,
    pub(super) timings: Vec<Timing>,
}

impl Walked {
    /// Nothing was said at all.
    pub(super) fn missed(wire: Wire, opened: Came) -> Walked {
        Walked {
            wire,
            opened,
            answered: None,
            broke: None,
            server: Value::Null,
            capabilities: Value::Null,
            counts: Counts::default(),
            tools: Vec::new(),
            rows: Vec::new(),
            timings: Vec::new(),
        }
    }

    /// Whether the server answered it as one that speaks this revision.
    pub(super) fn is_native(&self) -> bool {
        self.answered.as_deref() == Some(self.wire.revision.as_str())
    }

    /// Whether a client that offers this revision gets through.
    pub(super) fn works(&self) -> bool {
        self.answered.as_deref().and_then(Revision::parse).is_some() && self.broke.is_none()
    }

    /// In a few words.
    pub(super) fn says(&self) -> String {
        match (&self.broke, &self.answered) {
            (Some((rule, seen)), _) => format!("{}: {seen}", rule.id),
            (None, Some(answered)) if !self.is_native() => format!("it answers with {answered}"),
            (None, Some(_)) if self.wire == Wire::new(Transport::Http, Revision::V2024_11_05) => {
                "by agreement; its own transport is HTTP+SSE".into()
            }
            (None, Some(_)) => String::new(),
            (None, None) => {
                match self.opened.as_ref().ok().and_then(|seen| seen.messages.iter().find_map(|m| m["result"].get("supportedVersions"))) {
                    Some(versions) => format!("it serves {versions} and no other"),
                    None => says(&self.opened),
                }
            }
        }
    }

    fn find(&mut self, rule: &'static Rule, finding: Finding) {
        self.rows.push(Row::new(rule, self.wire.clone(), finding));
    }

    fn time(&mut self, what: &str, seen: &Seen) {
        let (wire, what) = (self.wire.clone(), what.into());
        self.timings.push(Timing { what, wire, first_byte: seen.first_byte, whole: seen.whole });
    }
}

/// Opens `talk` and walks through what is listed.
pub(super) async fn walk(talk: &mut Talk, wire: Wire) -> Walked {
    let stateless = wire.revision.era() == Era::Stateless;
    let id = json!("check-open");
    let opening = match stateless {
        true => discover(id.clone()),
        false => initialize(id.clone(), wire.revision.as_str()),
    };
    let came = talk.ask(&opening).await;
    let mut walked = Walked::missed(wire, came.clone());
    let Some(seen) = came.as_ref().ok().filter(|seen| seen.result(&id).is_some_and(Value::is_object)) else { return walked };
    let result = seen.result(&id).cloned().unwrap_or_default();
    if matches!(talk, Talk::Http(_)) {
        walked.find(&rules::CONTENT_TYPE, rules::content_type(seen));
    }
    walked.time(if stateless { "server/discover" } else { "initialize" }, seen);
    walked.capabilities = result["capabilities"].clone();
    if stateless {
        let served = result["supportedVersions"].as_array().is_some_and(|all| all.iter().any(|v| v == walked.wire.revision.as_str()));
        if !served {
            return walked;
        }
        walked.answered = Some(walked.wire.revision.to_string());
        walked.server = result["_meta"]["io.modelcontextprotocol/serverInfo"].clone();
        walked.find(&rules::DISCOVER, rules::discover(&came, &id));
        // Whatever hints it lacks, clients get on.
        if !result["capabilities"].is_object() {
            walked.broke = Some((&rules::DISCOVER, rules::discover(&came, &id).1));
            return walked;
        }
    } else {
        walked.answered = result["protocolVersion"].as_str().map(str::to_owned);
        walked.server = result["serverInfo"].clone();
        let finding = rules::initialize(&came, &id);
        // Clients give up on a revision that they do not know, and on a result they cannot read.
        if finding.0 != Verdict::Ok {
            walked.broke = Some((&rules::INITIALIZE, finding.1.clone()));
        }
        walked.find(&rules::INITIALIZE, finding);
        talk.settled(&came, walked.answered.as_deref().and_then(Revision::parse));
        if walked.broke.is_none() {
            ready(talk, &mut walked).await;
        }
    }
    if walked.broke.is_none() {
        lists(talk, &mut walked).await;
    }
    walked
}

async fn ready(talk: &mut Talk, walked: &mut Walked) {
    let told = talk.tell(&notification("notifications/initialized")).await;
    let taken = told.as_ref().is_ok_and(Seen::is_success);
    if matches!(talk, Talk::Http(_)) {
        walked.find(&rules::NOTIFICATION, rules::notification(&told, false));
    }
    if !taken {
        walked.broke = Some((&rules::NOTIFICATION, says(&told)));
        return;
    }
    let id = json!("check-ping");
    let came = talk.ask(&request(id.clone(), "ping", json!({}))).await;
    if let Ok(seen) = &came {
        walked.time("ping", seen);
    }
    walked.find(&rules::PING, rules::ping(&came, &id));
}

async fn lists(talk: &mut Talk, walked: &mut Walked) {
    let listings: [(&str, &str, &'static Rule); 3] = [
        ("tools", "tools/list", &rules::TOOLS),
        ("prompts", "prompts/list", &rules::PROMPTS),
        ("resources", "resources/list", &rules::RESOURCES),
    ];
    for (key, method, rule) in listings {
        if !walked.capabilities[key].is_object() {
            walked.find(rule, (Verdict::NotApplicable, format!("no {key} are declared")));
            continue;
        }
        let (id, came) = list(talk, walked, key, method).await;
        let finding = rules::listing(&came, &id, key);
        if let Some(result) = came.as_ref().ok().and_then(|seen| seen.result(&id)) {
            let items = result[key].as_array().cloned().unwrap_or_default();
            walked.counts.set(key, items.len());
            if key == "tools" {
                walked.tools = items;
            }
            if walked.wire.revision.era() == Era::Stateless {
                let (verdict, said) = rules::cache_hints(result);
                walked.find(&rules::CACHE_HINTS, (verdict, format!("{method}: {said}")));
            }
        }
        if finding.0 == Verdict::Fail && walked.broke.is_none() {
            walked.broke = Some((rule, finding.1.clone()));
        }
        walked.find(rule, finding);
    }
    if walked.capabilities["resources"].is_object() {
        let (id, came) = list(talk, walked, "resourceTemplates", "resources/templates/list").await;
        if let Some(items) = came.as_ref().ok().and_then(|seen| seen.result(&id)?["resourceTemplates"].as_array()) {
            walked.counts.set("resourceTemplates", items.len());
        }
    }
}

/// All pages of a listing as if they were one.
async fn list(talk: &mut Talk, walked: &mut Walked, key: &str, method: &str) -> (Value, Came) {
    let mut all: Vec<Value> = Vec::new();
    let mut first: Option<(Value, Seen)> = None;
    let mut params = Map::new();
    for page in 0..PAGES {
        let id = json!(format!("check-{method}-{page}"));
        let mut message = request(id.clone(), method, Value::Object(params.clone()));
        if walked.wire.revision.era() == Era::Stateless {
            message = described(message, walked.wire.revision.as_str());
        }
        let came = talk.ask(&message).await;
        let Some(result) = came.as_ref().ok().and_then(|seen| seen.result(&id)) else { return (id, came) };
        let Some(items) = result[key].as_array() else { return (id, came) };
        all.extend(items.iter().cloned());
        let next = result["nextCursor"].as_str().map(str::to_owned);
        if let Ok(seen) = &came
            && first.is_none()
        {
            if key == "tools" {
                walked.time(method, seen);
            }
            first = Some((id, seen.clone()));
        }
        match next {
            // A server that names the same page for ever is not followed for ever.
            Some(next) if params.get("cursor") != Some(&json!(next)) => params.insert("cursor".into(), json!(next)),
            _ => break,
        };
    }
    let Some((id, mut seen)) = first else { return (Value::Null, Ok(Seen::default())) };
    if let Some(answer) = seen.messages.iter_mut().find(|m| m.get("id") == Some(&id) && m.get("result").is_some()) {
        answer["result"][key] = Value::Array(all);
    }
    (id, Ok(seen))
}
