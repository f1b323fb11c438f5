//! `landbridge check`: what does this server speak, which rules does it keep, and who can use it?
//!
//! ```text
//!   URL ──────┬─ Streamable HTTP: 2026-07-28, and each revision with a handshake ─┐
//!             ├─ HTTP+SSE, there and at the /sse beside /mcp ─────────────────────┼─▶ walks ─▶ clients
//!   command ──┴─ stdio: each revision, each in a process of its own ──────────────┘     └────▶ rules
//! ```
//!
//! A walk is what every client does first: open, be ready, list. Then the rules are tried on the newest
//! wire of each kind that is spoken. No tool is called that was not named. Every wait has an end, and so
//! has the whole.

mod channel;
pub mod clients;
mod http;
pub mod report;
pub mod rules;
pub mod seen;
mod session;
mod stateless;
mod stdio;
mod talk;
mod walk;

use std::time::Duration;

use ::http::Uri;
use serde_json::{Value, json};

use landbridge_proto::headers::{MirroredParam, mirrored_params};
use landbridge_proto::version::{Era, Revision};

use crate::backend::http::Http;
use crate::check::http::Site;
use crate::check::report::{Called, Spoken, Timing};
use crate::check::rules::{Finding, Rule, Verdict};
use crate::check::talk::{HttpTalk, Opened, Program, SseTalk, Talk, described, mirrors, request};
use crate::check::walk::{Walked, walk};
use crate::plan::Target;
pub use report::{Report, Row, Transport, Wire};

/// How many probes' time the whole may take.
const WHOLE: u32 = 20;

/// The revisions that begin with a handshake, newest first.
const HANDSHAKES: [Revision; 4] = [Revision::V2025_11_25, Revision::V2025_06_18, Revision::V2025_03_26, Revision::V2024_11_05];
/// A page that nobody has allowed, and a name that nobody has.
const FOREIGN_ORIGIN: &str = "https://landbridge-check.invalid";
const FOREIGN_HOST: &str = "landbridge-check.invalid";
/// Where the MCP Inspector runs: the one page many servers allow.
const INSPECTOR: &str = "http://localhost:6274";

/// What to do besides.
#[derive(Clone, Debug)]
pub struct Options {
    /// For each probe.
    pub timeout: Duration,
    /// The one tool to call, and its arguments.
    pub call: Option<(String, Value)>,
}

/// Checks a server. `shown` is what it is called in the report.
pub async fn check(target: &Target, shown: &str, options: Options) -> Result<Report, String> {
    let whole = options.timeout * WHOLE;
    let mut found = Found { call: options.call, ..Found::default() };
    let (mut url, mut secrets) = (None, Vec::new());
    let work = match target {
        Target::Demo | Target::Within => return Err("there is nothing to check; name a URL or a command line".into()),
        Target::Command { argv, env, cwd } => {
            let program = Program { argv: argv.clone(), env: env.clone(), cwd: cwd.clone() };
            tokio::time::timeout(whole, stdio::check(&program, options.timeout, &mut found)).await
        }
        Target::Remote { url: at, headers, .. } => {
            let site = Site { http: Http::new(target.wants_tls())?, url: at.clone(), headers: headers.clone(), patience: options.timeout };
            url = Some(at);
            secrets = headers.values().filter_map(|value| value.to_str().ok()).flat_map(words_of).collect();
            tokio::time::timeout(whole, remote(&site, &mut found)).await
        }
    };
    let mut report = found.report(shown, url);
    if work.is_err() {
        report.cut = Some(format!("it took longer than {} s, {WHOLE} times --timeout", whole.as_secs_f32()));
    }
    report.redact(&secrets);
    Ok(report)
}

/// A secret, and the part of it behind `Bearer` or the like.
fn words_of(secret: &str) -> Vec<String> {
    let last = secret.rsplit(' ').next().filter(|word| word.len() >= 4 && *word != secret);
    [Some(secret), last].into_iter().flatten().map(str::to_owned).collect()
}

/// Rows, as they are found.
#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn find(&mut self, rule: &'static Rule, wire: &Wire, finding: Finding) {
        self.0.push(Row::new(rule, wire.clone(), finding));
    }
}

/// What was found so far.
#[derive(Default)]
struct Found {
    call: Option<(String, Value)>,
    walks: Vec<Walked>,
    rows: Rows,
    timings: Vec<Timing>,
    /// What the server says of itself, by the best walk.
    best: Option<Walked>,
    called: Option<Called>,
    /// How a server of the handshake era takes `server/discover`, where that may be in the way.
    fallback: Option<Finding>,
}

impl Found {
    /// This walk is one whose wire is checked: all its rows and timings count.
    fn main(&mut self, walked: &mut Walked) {
        self.rows.0.append(&mut walked.rows);
        self.timings.append(&mut walked.timings);
        if self.best.is_none() {
            self.best = Some(walked.clone());
        }
    }

    /// A walk is over. Of one whose wire is not checked, only what is wrong counts.
    fn walked(&mut self, mut walked: Walked) {
        self.rows.0.extend(walked.rows.drain(..).filter(|row| row.verdict > Verdict::NotApplicable));
        self.walks.push(walked);
    }

    /// Calls the tool that was named, once.
    async fn call(&mut self, talk: &mut Talk, walked: &Walked) {
        let Some((tool, arguments)) = self.call.take() else { return };
        let id = json!("check-call");
        let mut message = request(id.clone(), "tools/call", json!({"name": tool, "arguments": arguments}));
        let stateless = walked.wire.revision.era() == Era::Stateless;
        if stateless {
            message = described(message, walked.wire.revision.as_str());
        }
        let came = match talk {
            Talk::Http(talk) if stateless => {
                let schema = walked.tools.iter().find(|t| t["name"] == tool).map(|t| t["inputSchema"].clone()).unwrap_or_default();
                let params: Vec<MirroredParam> = mirrored_params(&schema).unwrap_or_default();
                let own = mirrors(&message, &params);
                let own: Vec<(&str, &str)> = own.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                talk.site.post(&message, &own).await
            }
            talk => talk.ask(&message).await,
        };
        let answer = came.as_ref().ok().and_then(|seen| seen.answer(&id));
        let verdict = match answer {
            Some(answer) if answer["result"].is_object() && answer["result"]["isError"] != true => Verdict::Ok,
            _ => Verdict::Warn,
        };
        self.rows.find(&rules::CALL, &walked.wire, (verdict, seen::says(&came)));
        if let Ok(seen) = &came {
            let (what, wire) = ("tools/call".into(), walked.wire.clone());
            self.timings.push(Timing { what, wire, first_byte: seen.first_byte, whole: seen.whole });
        }
        let answer = answer.map(|answer| answer.get("result").or(answer.get("error")).cloned().unwrap_or_default());
        self.called = Some(Called { tool, answer: answer.unwrap_or_default() });
    }

    fn report(mut self, shown: &str, url: Option<&Uri>) -> Report {
        let local = url.is_none_or(http::is_local);
        self.walks.sort_by_key(|walked| (walked.wire.beside.is_some(), std::cmp::Reverse(walked.wire.revision)));
        let here = || self.walks.iter().filter(|walked| walked.wire.beside.is_none());
        let mut report = Report { target: shown.into(), ..Report::default() };
        let spoken = |walked: &Walked| walked.is_native() && walked.broke.is_none();
        report.spoken = self
            .walks
            .iter()
            .map(|w| Spoken { wire: w.wire.clone(), spoken: spoken(w), answered: w.answered.clone(), seen: w.says() })
            .collect();
        if let Some(best) = self.best {
            (report.server, report.capabilities, report.counts) = (best.server, best.capabilities, best.counts);
        }
        let silent = here().all(|walked| walked.opened.is_err());
        if silent {
            let first = here().find_map(|walked| walked.opened.as_ref().err());
            report.unreachable = Some(first.map_or("it did not answer".into(), |missed| missed.why.clone()));
        } else if here().filter_map(|walked| walked.opened.as_ref().ok()).any(|seen| seen.status == Some(401)) && !here().any(Walked::works)
        {
            report.unreachable =
                Some("it wants authorization (HTTP 401); give it a token with --header 'Authorization: Bearer ...'".into());
        } else if !here().any(|walked| walked.answered.is_some()) {
            let said = here().map(Walked::says).find(|said| !said.is_empty()).unwrap_or_default();
            self.rows.0.push(Row { rule: &rules::SPEAKS, wire: None, verdict: Verdict::Fail, seen: said });
        } else {
            report.rows.push(Row { rule: &rules::SPEAKS, wire: None, verdict: Verdict::Ok, seen: String::new() });
        }
        if report.unreachable.is_none() {
            report.clients = clients::fates(url.is_some(), local, &self.walks, self.fallback.as_ref());
        }
        report.rows.append(&mut self.rows.0);
        report.timings = self.timings;
        report.called = self.called;
        report
    }
}

/// Everything about a URL.
async fn remote(site: &Site, found: &mut Found) {
    let http = |revision| Wire::new(Transport::Http, revision);
    let mut modern = Talk::Http(HttpTalk::new(site, Era::Stateless));
    let mut discovered = walk(&mut modern, http(Revision::NEWEST)).await;
    if discovered.works() {
        found.main(&mut discovered);
        found.call(&mut modern, &discovered).await;
    }
    found.walked(discovered.clone());

    let mut main: Option<(HttpTalk, Wire)> = None;
    for (number, revision) in HANDSHAKES.into_iter().enumerate() {
        let mut talk = Talk::Http(HttpTalk::new(site, Era::Handshake));
        let mut walked = walk(&mut talk, http(revision)).await;
        let missed = walked.opened.is_err();
        if walked.is_native() && revision == Revision::V2025_03_26 {
            let ids = [json!("check-batch-1"), json!("check-batch-2")];
            let batch = json!([request(ids[0].clone(), "ping", json!({})), request(ids[1].clone(), "ping", json!({}))]);
            let came = talk.ask(&batch).await;
            found.rows.find(&rules::BATCH_TAKEN, &walked.wire, rules::batch_taken(&came, &ids));
        }
        if main.is_none() && walked.works() && walked.is_native() {
            found.main(&mut walked);
            found.call(&mut talk, &walked).await;
            if let Talk::Http(talk) = talk {
                main = Some((talk, http(revision)));
            }
        } else {
            talk.end(Duration::ZERO).await;
        }
        found.walked(walked);
        // Who said nothing at all to the first has no more to say to the others.
        if missed && number == 0 {
            break;
        }
    }
    let handshake = main.is_some();
    if let Talk::Http(talk) = &modern
        && discovered.works()
    {
        stateless::check(talk, &discovered.wire, &discovered.capabilities, handshake, &mut found.rows).await;
    }
    let speaks_http = handshake || discovered.works();
    if let Some((talk, wire)) = main {
        if !discovered.works() {
            let finding = rules::fallback(&discovered.opened);
            found.fallback = Some(finding.clone());
            found.rows.find(&rules::FALLBACK, &wire, finding);
        }
        session::check(talk, &wire, &mut found.rows).await;
    }
    let fallback = rules::fallback(&discovered.opened);
    streams(site, found, speaks_http, fallback).await;
    authorization(site, found).await;
    if let Some(sibling) = sibling(&site.url) {
        beside(&site.at(sibling), found).await;
    }
}

/// Whether the token that was given is looked at.
async fn authorization(site: &Site, found: &mut Found) {
    let mut bare = site.clone();
    if bare.headers.remove(::http::header::AUTHORIZATION).is_none() {
        return;
    }
    let Some(wire) = found.walks.iter().find(|walked| walked.works()).map(|walked| walked.wire.clone()) else { return };
    let came = match wire.transport {
        Transport::Sse => bare.get(&[]).await,
        // Whatever it speaks, it has to ask for the token first.
        _ => HttpTalk::new(&bare, Era::Stateless).post(&talk::discover("check-authorization"), &[]).await,
    };
    found.rows.find(&rules::AUTHORIZATION, &wire, rules::authorization(&came));
}

/// HTTP+SSE at that URL.
async fn streams(site: &Site, found: &mut Found, speaks_http: bool, fallback: Finding) {
    let mut checked = false;
    for revision in HANDSHAKES {
        let wire = Wire::new(Transport::Sse, revision);
        let Opened { talk, said, findings } = SseTalk::open(site).await;
        let Some(talk) = talk else {
            let missed = seen::Missed { ended: false, why: said };
            // A GET of Streamable HTTP opens a stream too, which has no endpoint.
            for (rule, finding) in findings.into_iter().filter(|_| !speaks_http) {
                found.rows.find(rule, &wire, finding);
            }
            let oldest = Wire::new(Transport::Sse, Revision::V2024_11_05);
            found.walked(Walked::missed(if checked { wire } else { oldest }, Err(missed)));
            return;
        };
        let mut talk = Talk::Sse(talk);
        let mut walked = walk(&mut talk, wire.clone()).await;
        if !checked && walked.works() && walked.is_native() {
            checked = true;
            for (rule, finding) in findings {
                found.rows.find(rule, &wire, finding);
            }
            found.main(&mut walked);
            found.call(&mut talk, &walked).await;
            if !speaks_http {
                found.fallback = Some(fallback.clone());
                found.rows.find(&rules::FALLBACK, &wire, fallback.clone());
            }
            if let Talk::Sse(talk) = talk {
                channel::check(talk, site, &wire, &mut found.rows).await;
            }
        }
        found.walked(walked);
    }
}

/// HTTP+SSE where older servers have it: said, and not checked.
async fn beside(site: &Site, found: &mut Found) {
    let wire = Wire { beside: Some(site.url.path().into()), ..Wire::new(Transport::Sse, Revision::V2024_11_05) };
    let Opened { talk, said, .. } = SseTalk::open(site).await;
    let walked = match talk {
        Some(talk) => {
            let mut walked = walk(&mut Talk::Sse(talk), wire).await;
            walked.rows.clear();
            walked
        }
        None => Walked::missed(wire, Err(seen::Missed { ended: false, why: said })),
    };
    found.walked(walked);
}

/// `/sse` beside `/mcp`.
fn sibling(url: &Uri) -> Option<Uri> {
    let path = url.path().trim_end_matches('/').strip_suffix("/mcp")?;
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(format!("{path}/sse").parse().ok()?);
    Uri::from_parts(parts).ok()
}
