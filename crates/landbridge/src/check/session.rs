//! The rules of Streamable HTTP with a handshake, on a session that is open.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use landbridge_proto::version::Revision;

use crate::check::http::BOTH;
use crate::check::report::Wire;
use crate::check::rules;
use crate::check::seen::Came;
use crate::check::talk::{HttpTalk, request};
use crate::check::{FOREIGN_HOST, FOREIGN_ORIGIN, INSPECTOR, Rows};

/// A session that nobody has.
const NOBODYS: &str = "00000000-0000-4000-8000-000000000000";

/// Checks them, and ends the session.
pub(super) async fn check(talk: HttpTalk, wire: &Wire, rows: &mut Rows) {
    let revision = wire.revision;
    let ping = |id: &str| request(id, "ping", json!({}));

    let came = talk.post(&request("check-unknown", "landbridge/no-such-method", json!({})), &[]).await;
    rows.find(&rules::UNKNOWN_METHOD, wire, rules::unknown_method(&came));
    let came = raw(&talk, "{\"jsonrpc\":\"2.0\",\"id\":1,", &[]).await;
    rows.find(&rules::MALFORMED, wire, rules::malformed(&came));
    if revision > Revision::V2025_03_26 {
        let came = talk.post(&json!([ping("check-batch-1"), ping("check-batch-2")]), &[]).await;
        rows.find(&rules::BATCH_REFUSED, wire, rules::batch_refused(&came));
    }
    if revision >= Revision::V2025_06_18 {
        let came = talk.post(&ping("check-version"), &[("mcp-protocol-version", "1900-01-01")]).await;
        rows.find(&rules::VERSION_HEADER, wire, rules::version_header(&came));
        let came = talk.post(&ping("check-no-version"), &[("mcp-protocol-version", "")]).await;
        rows.find(&rules::VERSION_ABSENT, wire, rules::version_absent(&came, &json!("check-no-version")));
    }
    let headers = talk.headers();
    let own: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let came = talk.site.get(&own).await;
    rows.find(&rules::GET, wire, rules::get(&came));
    let came = talk.post(&ping("check-accept"), &[("accept", "application/json")]).await;
    rows.find(&rules::ACCEPT, wire, rules::accept(&came));
    let came = talk.post(&ping("check-media"), &[("content-type", "text/plain")]).await;
    rows.find(&rules::MEDIA_TYPE, wire, rules::media_type(&came));
    let came = talk.post(&ping("check-origin"), &[("origin", FOREIGN_ORIGIN)]).await;
    rows.find(&rules::ORIGIN, wire, rules::origin(&came, revision >= Revision::V2025_11_25, talk.site.is_local()));
    host(&talk, &ping("check-host"), wire, rows).await;
    cors(&talk, &ping("check-page"), &["content-type", "mcp-protocol-version", "mcp-session-id"], wire, rows).await;
    sessions(&talk, wire, rows).await;
}

async fn sessions(talk: &HttpTalk, wire: &Wire, rows: &mut Rows) {
    let name = talk.session.as_deref();
    rows.find(&rules::SESSION_ID, wire, rules::session_id(name.map(str::as_bytes)));
    if name.is_none() {
        return;
    }
    let ask = async |id: &str, session: &str| talk.post(&request(id, "ping", json!({})), &[("mcp-session-id", session)]).await;
    rows.find(&rules::SESSION_MISSING, wire, rules::session_missing(&ask("check-no-session", "").await));
    rows.find(&rules::SESSION_UNKNOWN, wire, rules::session_gone(&ask("check-unknown-session", NOBODYS).await, false));
    let headers = talk.headers();
    let own: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let deleted = talk.site.send(Method::DELETE, &own, Bytes::new(), &[]).await;
    let ended = deleted.as_ref().is_ok_and(|seen| seen.is_success());
    rows.find(&rules::SESSION_DELETE, wire, rules::session_delete(&deleted));
    if ended {
        let came = ask("check-ended", name.unwrap_or_default()).await;
        rows.find(&rules::SESSION_ENDED, wire, rules::session_gone(&came, true));
    }
}

/// A request to a foreign name, where that is a way into this machine.
pub(super) async fn host(talk: &HttpTalk, message: &Value, wire: &Wire, rows: &mut Rows) {
    let finding = match talk.site.is_local() {
        true => rules::host(&talk.post(message, &[("host", FOREIGN_HOST)]).await),
        false => (rules::Verdict::NotApplicable, "it is not on this machine".into()),
    };
    rows.find(&rules::HOST, wire, finding);
}

/// What a page of a tool for developers is allowed.
pub(super) async fn cors(talk: &HttpTalk, message: &Value, wanted: &[&str], wire: &Wire, rows: &mut Rows) {
    let names = wanted.join(",");
    let asking = [("origin", INSPECTOR), ("access-control-request-method", "POST"), ("access-control-request-headers", names.as_str())];
    let preflight = talk.site.send(Method::OPTIONS, &asking, Bytes::new(), &[]).await;
    let response = talk.post(message, &[("origin", INSPECTOR)]).await;
    rows.find(&rules::CORS, wire, rules::cors(&preflight, &response, wanted, talk.session.is_some()));
}

/// A body that may be anything, on that session.
pub(super) async fn raw(talk: &HttpTalk, body: &str, extra: &[(&str, &str)]) -> Came {
    let headers = talk.headers();
    let own = headers.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let all: Vec<(&str, &str)> =
        [("accept", BOTH), ("content-type", "application/json")].into_iter().chain(own).chain(extra.iter().copied()).collect();
    talk.site.send(Method::POST, &all, body.to_owned(), &[]).await
}
