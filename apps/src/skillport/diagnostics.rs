//! For somebody whose client says that it is connected, and nothing happens: what has come here, and what has not.
//!
//! A client knocks at our doors in an order: it learns where to log in, its user logs in, it gets a token, it calls. Where
//! that ends is told in a sentence, on a page that everybody may see and, where something has come since, in the log.

use std::time::Duration;

use http::header::HeaderMap;
use landbridge::embed::{Inside, Visits};
use serde_json::{Value, json};

/// The page, for whoever sends these headers: whether we are reached at all, and as whom.
pub(super) fn page(inside: Option<&Inside>, has_login: bool, headers: &HeaderMap) -> Value {
    let said =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(|value| value.chars().take(200).collect::<String>());
    tracing::info!(agent = said("user-agent"), "diagnostics were asked for");
    let visits = inside.map_or_else(Vec::new, Inside::visits);
    let now_s = landbridge::system::now_s();
    let doors = visits.iter().map(|Visits { door, came, refused, last_s }| {
        json!({"door": door, "came": came, "refused": refused, "seconds_ago": last_s.map(|last_s| now_s.saturating_sub(last_s))})
    });
    json!({
        "reached": true,
        "host": said("host"),
        "forwarded": {"proto": said("x-forwarded-proto"), "host": said("x-forwarded-host")},
        "sessions": inside.map_or(0, Inside::session_count),
        "doors": doors.collect::<Vec<_>>(),
        "findings": findings(&visits, has_login),
        "counters": "/metrics",
    })
}

/// Tells the log, once in a while, what has come since.
pub(super) async fn report(inside: Inside, has_login: bool, every: Duration) {
    let mut before = inside.visits();
    loop {
        tokio::time::sleep(every).await;
        let now = inside.visits();
        if now.is_empty() {
            return;
        }
        if now != before {
            let counts: Vec<String> =
                now.iter().map(|visits| format!("{} {} ({} refused)", visits.door, visits.came, visits.refused)).collect();
            tracing::info!(findings = findings(&now, has_login).join("; "), "requests so far: {}", counts.join(", "));
        }
        before = now;
    }
}

/// What an operator should know, in sentences.
fn findings(visits: &[Visits], has_login: bool) -> Vec<&'static str> {
    let find = |door: &str| visits.iter().find(|visits| visits.door == door);
    let came = |door: &str| find(door).map_or(0, |visits| visits.came);
    let good = |door: &str| find(door).map_or(0, |visits| visits.came.saturating_sub(visits.refused));
    let calls = ["sse", "sse_messages", "http"];
    if visits.iter().all(|visits| visits.came == 0) {
        return vec![
            "no client has come here yet: if one says that it is connected, it is connected to something else, or a proxy keeps it",
        ];
    }
    let mut all = Vec::new();
    if has_login && calls.iter().all(|door| good(door) == 0) {
        all.push(match (came("authorize"), good("callback"), good("token")) {
            (0, ..) => "no login has begun: clients have come, and never sent their user to /authorize here",
            (_, 0, 0) => "logins have begun, and nobody has come back from where users log in",
            (_, _, 0) => "users have logged in, and no client has fetched its token",
            _ => "clients have tokens, and no request with one has come",
        });
    }
    match (good("sse"), good("http")) {
        (0, 0) => all.push("no transport has been used yet"),
        (_, 0) => all.push("nobody uses Streamable HTTP: no POST to /mcp was answered"),
        (0, _) => all.push("nobody uses HTTP+SSE: no stream at /sse was opened"),
        _ => {}
    }
    if good("sse") > 0 && good("sse_messages") == 0 {
        all.push("streams were opened at /sse, and no message has come for them: a proxy may hold the stream back");
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_clients_stop_is_told() {
        let visits = |all: &[(&'static str, u64, u64)]| {
            let doors = ["discovery", "register", "authorize", "callback", "token", "sse", "sse_messages", "http"];
            let of = |door: &'static str| {
                let (came, refused) = all.iter().find(|(name, ..)| *name == door).map_or((0, 0), |(_, came, refused)| (*came, *refused));
                Visits { door, came, refused, last_s: None }
            };
            doors.map(of)
        };
        for (all, has_login, told) in [
            (&[][..], true, &["no client has come"][..]),
            (&[("sse", 9, 9), ("discovery", 3, 0)], true, &["no login has begun", "no transport"]),
            (&[("sse", 9, 9), ("authorize", 1, 0)], true, &["nobody has come back", "no transport"]),
            (&[("authorize", 1, 0), ("callback", 1, 0)], true, &["no client has fetched", "no transport"]),
            (&[("authorize", 1, 0), ("callback", 1, 0), ("token", 1, 0)], true, &["no request with one", "no transport"]),
            (&[("http", 1, 0)], false, &["nobody uses HTTP+SSE"]),
            (&[("sse", 1, 0)], false, &["nobody uses Streamable HTTP", "a proxy may hold"]),
            (&[("sse", 1, 0), ("sse_messages", 2, 0), ("http", 1, 0)], true, &[]),
        ] {
            let found = findings(&visits(all), has_login);
            assert_eq!(found.len(), told.len(), "{all:?}: {found:?}");
            assert!(found.iter().zip(told).all(|(found, told)| found.contains(told)), "{all:?}: {found:?}");
        }
    }
}
