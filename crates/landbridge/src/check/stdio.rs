//! A command: its process is started anew for each revision, and spoken to over its pipes.

use std::time::Duration;

use serde_json::json;

use landbridge_proto::version::{Era, Revision};

use crate::check::report::{Transport, Wire};
use crate::check::rules::{self, Finding, Verdict};
use crate::check::seen::Came;
use crate::check::talk::{Program, StdioTalk, Talk, described, discover, request};
use crate::check::walk::{Walked, walk};
use crate::check::{Found, HANDSHAKES, Rows};
use crate::plan::Limits;

/// How much longer the first start may take: it may have to install what it runs.
const FIRST: u32 = 3;
/// How long a process may take to go once its input has ended.
const GO: Duration = Duration::from_secs(3);

/// Everything about a command.
pub(super) async fn check(program: &Program, patience: Duration, found: &mut Found) {
    let limits = Limits::default();
    let mut main = None;
    for (number, revision) in HANDSHAKES.into_iter().enumerate() {
        let wire = Wire::new(Transport::Stdio, revision);
        let patience = if number == 0 { patience * FIRST } else { patience };
        let (mut walked, talk) = begin(program, patience, &limits, wire.clone()).await;
        let first_missed = number == 0 && walked.opened.is_err();
        if let Some(mut talk) = talk {
            if let Talk::Stdio(talk) = &mut talk
                && walked.is_native()
                && revision == Revision::V2025_03_26
            {
                found.rows.find(&rules::BATCH_TAKEN, &wire, batch_taken(talk).await);
            }
            if main.is_none() && walked.works() && walked.is_native() {
                main = Some(wire.clone());
                found.main(&mut walked);
                found.call(&mut talk, &walked).await;
                handshake(talk, &wire, &mut found.rows).await;
            } else {
                talk.end(GO).await;
            }
        }
        found.walked(walked);
        // Who said nothing at all to the first has no more to say to the others.
        if first_missed {
            break;
        }
    }
    let wire = Wire::new(Transport::Stdio, Revision::NEWEST);
    let (mut walked, talk) = begin(program, patience, &limits, wire.clone()).await;
    if let Some(mut talk) = talk {
        if walked.works() {
            found.main(&mut walked);
            if main.is_none() {
                found.call(&mut talk, &walked).await;
            }
            stateless(talk, &wire, main.is_some(), &mut found.rows).await;
        } else {
            talk.end(GO).await;
        }
    }
    if let Some(main) = main.filter(|_| !walked.works()) {
        // Of silence clients grow tired, and go on; not all start a process again.
        found.fallback = walked.opened.as_ref().err().filter(|missed| missed.ended).map(|_| rules::fallback(&walked.opened));
        found.rows.find(&rules::FALLBACK, &main, rules::fallback(&walked.opened));
    }
    found.walked(walked);
}

async fn begin(program: &Program, patience: Duration, limits: &Limits, wire: Wire) -> (Walked, Option<Talk>) {
    match StdioTalk::start(program, patience, limits).await {
        Err(missed) => (Walked::missed(wire, Err(missed)), None),
        Ok(talk) => {
            let mut talk = Talk::Stdio(talk);
            let walked = walk(&mut talk, wire).await;
            (walked, Some(talk))
        }
    }
}

/// A batch, and a ping behind it that shows whether it was read.
async fn batch(talk: &mut StdioTalk) -> Came {
    let ping = |id: &str| request(id, "ping", json!({}));
    talk.poke(&json!([ping("check-batch-1"), ping("check-batch-2")]).to_string(), &ping("check-behind-batch")).await
}

async fn batch_taken(talk: &mut StdioTalk) -> Finding {
    let came = batch(talk).await;
    let (verdict, seen) = rules::batch_taken(&came, &[json!("check-batch-1"), json!("check-batch-2")]);
    let silent = came.as_ref().is_ok_and(|seen| seen.messages.len() == 1);
    (verdict, if silent { "it was passed over in silence".into() } else { seen })
}

/// The rules of the handshake era, and the end of the process.
async fn handshake(talk: Talk, wire: &Wire, rows: &mut Rows) {
    let Talk::Stdio(mut talk) = talk else { return };
    let came = talk.ask(&request("check-unknown", "landbridge/no-such-method", json!({}))).await;
    rows.find(&rules::UNKNOWN_METHOD, wire, rules::unknown_method(&came));
    if wire.revision > Revision::V2025_03_26 {
        let finding = match batch(&mut talk).await {
            Ok(seen) if seen.result(&json!("check-batch-1")).is_some() => (Verdict::Warn, "it was answered".into()),
            Ok(seen) if seen.error().is_some() => (Verdict::Ok, seen.says()),
            Ok(_) => (Verdict::Ok, "it was passed over in silence".into()),
            Err(missed) => (Verdict::Warn, missed.why),
        };
        rows.find(&rules::BATCH_REFUSED, wire, finding);
    }
    finish(talk, wire, rows).await;
}

/// What holds in both eras, and comes last because it may be the end.
async fn finish(mut talk: StdioTalk, wire: &Wire, rows: &mut Rows) {
    let mut last = request("check-behind-garbage", "ping", json!({}));
    if wire.revision.era() == Era::Stateless {
        last = discover("check-behind-garbage");
    }
    let came = talk.poke("{\"jsonrpc\":\"2.0\",\"id\":1,", &last).await;
    rows.find(&rules::STDIO_MALFORMED, wire, rules::stdio_malformed(&came, &last["id"]));
    rows.find(&rules::STDOUT, wire, rules::stdout(&talk.noise));
    let alone = Talk::Stdio(talk).end(GO).await;
    let said = format!("it was ended after {} s", GO.as_secs());
    rows.find(&rules::STDIN_END, wire, if alone { (Verdict::Ok, "it went by itself".into()) } else { (Verdict::Warn, said) });
}

/// The rules of 2026-07-28, which has no headers here.
async fn stateless(mut talk: Talk, wire: &Wire, dual: bool, rows: &mut Rows) {
    let now = Revision::NEWEST.as_str();
    let came = talk.ask(&described(request("check-unknown", "landbridge/no-such-method", json!({})), now)).await;
    rows.find(&rules::UNKNOWN_METHOD, wire, rules::refused_with(&came, 404, -32601));
    let came = talk.ask(&described(request("check-ping", "ping", json!({})), now)).await;
    let (verdict, seen) = rules::refused_with(&came, 404, -32601);
    rows.find(&rules::REMOVED, wire, (verdict, format!("ping: {seen}")));
    if dual {
        rows.find(&rules::META, wire, (Verdict::NotApplicable, "it may be a request of the handshake era".into()));
    } else {
        let came = talk.ask(&request("check-meta", "server/discover", json!({}))).await;
        rows.find(&rules::META, wire, rules::refused_with(&came, 400, -32602));
    }
    let came = talk.ask(&described(request("check-version", "server/discover", json!({})), "1900-01-01")).await;
    rows.find(&rules::VERSION_UNSUPPORTED, wire, rules::version_unsupported(&came));
    let Talk::Stdio(talk) = talk else { return };
    rows.find(&rules::NO_QUESTIONS, wire, rules::no_requests(&talk.heard));
    finish(talk, wire, rows).await;
}
