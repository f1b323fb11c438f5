//! The rules of 2026-07-28 over HTTP: each request describes itself, twice.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use landbridge_proto::sse::Decoded;
use landbridge_proto::version::Revision;

use crate::check::http::{BOTH, Events};
use crate::check::report::Wire;
use crate::check::rules::{self, Verdict};
use crate::check::seen::Seen;
use crate::check::session::{cors, host, raw};
use crate::check::talk::{HttpTalk, described, discover, mirrors, notification, request};
use crate::check::{FOREIGN_ORIGIN, Rows};

/// For the acknowledgement of a listen.
const LISTEN: Duration = Duration::from_secs(5);

/// Checks them. `dual`: the server speaks the handshake era too, so that GET and DELETE have a meaning.
pub(super) async fn check(talk: &HttpTalk, wire: &Wire, capabilities: &Value, dual: bool, rows: &mut Rows) {
    let now = Revision::NEWEST.as_str();

    let came = talk.post(&described(request("check-unknown", "landbridge/no-such-method", json!({})), now), &[]).await;
    rows.find(&rules::UNKNOWN_METHOD, wire, rules::refused_with(&came, 404, -32601));
    let info = json!({"name": "landbridge-check", "version": env!("CARGO_PKG_VERSION")});
    let hello = json!({"protocolVersion": now, "capabilities": {}, "clientInfo": info});
    for (method, params) in [("initialize", hello), ("ping", json!({}))] {
        let came = talk.post(&described(request(format!("check-{method}"), method, params), now), &[]).await;
        let (verdict, seen) = rules::refused_with(&came, 404, -32601);
        rows.find(&rules::REMOVED, wire, (verdict, format!("{method}: {seen}")));
    }
    let came = raw(talk, "{\"jsonrpc\":\"2.0\",\"id\":1,", &[("mcp-protocol-version", now), ("mcp-method", "server/discover")]).await;
    rows.find(&rules::MALFORMED, wire, rules::malformed(&came));
    let (one, two) = (discover("check-batch-1"), discover("check-batch-2"));
    let came = talk.site.post(&json!([one, two]), &[("mcp-protocol-version", now), ("mcp-method", "server/discover")]).await;
    rows.find(&rules::BATCH_REFUSED, wire, rules::batch_refused(&came));

    let bare = request("check-meta", "server/discover", json!({}));
    let came = talk.post(&bare, &[("mcp-protocol-version", now)]).await;
    rows.find(&rules::META, wire, rules::refused_with(&came, 400, -32602));
    for (said, header) in [("missing", ""), ("another", "tools/list")] {
        let came = talk.post(&discover("check-method"), &[("mcp-method", header)]).await;
        let (verdict, seen) = rules::refused_with(&came, 400, -32020);
        rows.find(&rules::METHOD_HEADER, wire, (verdict, format!("{said}: {seen}")));
    }
    if capabilities["tools"].is_object() {
        // Nothing is called: no tool has that name, whichever of the two is believed.
        let call = request("check-name", "tools/call", json!({"name": "landbridge-no-such-tool", "arguments": {}}));
        let came = talk.post(&described(call, now), &[("mcp-name", "landbridge-another-tool")]).await;
        rows.find(&rules::NAME_HEADER, wire, rules::refused_with(&came, 400, -32020));
    } else {
        rows.find(&rules::NAME_HEADER, wire, (Verdict::NotApplicable, "no tools are declared".into()));
    }
    let came = talk
        .post(&described(request("check-mismatch", "server/discover", json!({})), "1900-01-01"), &[("mcp-protocol-version", now)])
        .await;
    rows.find(&rules::VERSION_MISMATCH, wire, rules::refused_with(&came, 400, -32020));
    let came = talk.post(&described(request("check-version", "server/discover", json!({})), "1900-01-01"), &[]).await;
    rows.find(&rules::VERSION_UNSUPPORTED, wire, rules::version_unsupported(&came));

    let came = talk
        .post(&notification("notifications/cancelled"), &[("mcp-protocol-version", now), ("mcp-method", "notifications/cancelled")])
        .await;
    rows.find(&rules::NOTIFICATION, wire, rules::notification(&came, true));
    if let Ok(seen) = talk.post(&discover("check-session"), &[("mcp-session-id", "landbridge-no-such-session")]).await {
        let ignored = seen.result(&json!("check-session")).is_some();
        let finding = if ignored { rules::no_session(&seen) } else { (Verdict::Warn, format!("one is not ignored: {}", seen.says())) };
        rows.find(&rules::NO_SESSION, wire, finding);
    }
    let got = match dual {
        true => (Verdict::NotApplicable, "it has a meaning in the handshake era".into()),
        false => rules::stateless_get(&talk.site.get(&[("mcp-protocol-version", now)]).await),
    };
    rows.find(&rules::STATELESS_GET, wire, got);
    let came = talk.post(&discover("check-accept"), &[("accept", "application/json")]).await;
    rows.find(&rules::ACCEPT, wire, rules::accept(&came));
    let came = talk.post(&discover("check-media"), &[("content-type", "text/plain")]).await;
    rows.find(&rules::MEDIA_TYPE, wire, rules::media_type(&came));
    let came = talk.post(&discover("check-origin"), &[("origin", FOREIGN_ORIGIN)]).await;
    rows.find(&rules::ORIGIN, wire, rules::origin(&came, true, talk.site.is_local()));
    host(talk, &discover("check-host"), wire, rows).await;
    cors(talk, &discover("check-page"), &["content-type", "mcp-protocol-version", "mcp-method", "mcp-name"], wire, rows).await;
    listen(talk, wire, capabilities, rows).await;
}

/// Listens for what is declared to change, until that is acknowledged.
async fn listen(talk: &HttpTalk, wire: &Wire, capabilities: &Value, rows: &mut Rows) {
    let mut wanted = serde_json::Map::new();
    for (kind, wish) in [("tools", "toolsListChanged"), ("prompts", "promptsListChanged"), ("resources", "resourcesListChanged")] {
        if capabilities[kind]["listChanged"] == true {
            wanted.insert(wish.into(), json!(true));
        }
    }
    if wanted.is_empty() {
        return rows.find(&rules::LISTEN, wire, (Verdict::NotApplicable, "no changes are declared".into()));
    }
    let id = json!("check-listen");
    let message = described(request(id.clone(), "subscriptions/listen", json!({"notifications": wanted})), Revision::NEWEST.as_str());
    let own = mirrors(&message, &[]);
    let own = own.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let headers: Vec<(&str, &str)> = [("accept", BOTH), ("content-type", "application/json")].into_iter().chain(own).collect();
    let first = match talk.site.head(Method::POST, &headers, message.to_string().into()).await {
        Err(missed) => Err(missed.why),
        Ok(response) => {
            let seen = Seen { status: Some(response.status().as_u16()), headers: response.headers().clone(), ..Seen::default() };
            if seen.is_success() && seen.is_stream() {
                let mut events = Events::new(response);
                tokio::time::timeout(LISTEN.min(talk.site.patience), first_message(&mut events))
                    .await
                    .unwrap_or_else(|_| Err("nothing came".into()))
            } else {
                Err(format!("HTTP {}, and no stream", response.status().as_u16()))
            }
        }
    };
    rows.find(&rules::LISTEN, wire, rules::listen(first.as_ref().map_err(String::as_str), &id));
}

async fn first_message(events: &mut Events) -> Result<Value, String> {
    loop {
        match events.next().await? {
            Some(Decoded::Event(event)) if event.is_message() => return serde_json::from_slice(&event.data).map_err(|e| e.to_string()),
            Some(_) => {}
            None => return Err("the stream ended".into()),
        }
    }
}
