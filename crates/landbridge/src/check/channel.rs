//! The rules of HTTP+SSE, on a stream that is open.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::json;

use crate::check::http::Site;
use crate::check::report::Wire;
use crate::check::rules::{self, Verdict};
use crate::check::seen::{Missed, Seen};
use crate::check::talk::{SseTalk, Talk, request};
use crate::check::{FOREIGN_HOST, FOREIGN_ORIGIN, Rows};

/// How often, and after how long, it is looked whether a session ended with its stream.
const LOOKS: u32 = 4;
const LOOK: Duration = Duration::from_millis(500);

/// Checks them, and closes the stream. `site` is where it was opened.
pub(super) async fn check(talk: SseTalk, site: &Site, wire: &Wire, rows: &mut Rows) {
    let endpoint = talk.site.clone();
    let mut talk = Talk::Sse(talk);
    let came = talk.ask(&request("check-unknown", "landbridge/no-such-method", json!({}))).await;
    rows.find(&rules::UNKNOWN_METHOD, wire, rules::unknown_method(&came));
    let came = endpoint.send(Method::POST, &[("content-type", "application/json")], "{\"jsonrpc\":\"2.0\",\"id\":1,", &[]).await;
    // No status is laid down for this transport, so nothing can be broken.
    let (verdict, seen) = rules::malformed(&came);
    rows.find(&rules::MALFORMED, wire, (verdict.min(Verdict::Warn), seen));
    let came = site.get(&[("origin", FOREIGN_ORIGIN)]).await;
    rows.find(&rules::ORIGIN, wire, rules::origin(&came, false, site.is_local()));
    let finding = match site.is_local() {
        true => rules::host(&site.get(&[("host", FOREIGN_HOST)]).await),
        false => (Verdict::NotApplicable, "it is not on this machine".into()),
    };
    rows.find(&rules::HOST, wire, finding);

    drop(talk);
    let ping = request("check-closed", "ping", json!({})).to_string();
    let mut came = Err(Missed::default());
    for _ in 0..LOOKS {
        // Whoever reads no request notices a closed connection a little later.
        tokio::time::sleep(LOOK).await;
        came = endpoint.send(Method::POST, &[("content-type", "application/json")], Bytes::from(ping.clone()), &[]).await;
        if !came.as_ref().is_ok_and(Seen::is_success) {
            break;
        }
    }
    rows.find(&rules::SSE_CLOSED, wire, rules::sse_closed(&came));
}
