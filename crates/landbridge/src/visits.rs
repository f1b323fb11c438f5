//! Where requests go: counted by the door that they came to, so that an operator whose client says that it is connected,
//! and does nothing, sees what never came.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use crate::profile::Profile;
use crate::system::now_s;

/// Where a request can go, in the order in which a client comes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The documents below `/.well-known`.
    Discovery,
    /// Clients make themselves known.
    Register,
    /// Users are sent here by a client,
    Authorize,
    /// and here by who knows them.
    Callback,
    /// Clients get tokens.
    Token,
    /// Streams of HTTP+SSE are opened,
    Sse,
    /// and this is where their messages go.
    Messages,
    /// Streamable HTTP.
    Http,
}

impl Door {
    const ALL: [Door; 8] =
        [Door::Discovery, Door::Register, Door::Authorize, Door::Callback, Door::Token, Door::Sse, Door::Messages, Door::Http];

    /// Its name in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Door::Discovery => "discovery",
            Door::Register => "register",
            Door::Authorize => "authorize",
            Door::Callback => "callback",
            Door::Token => "token",
            Door::Sse => "sse",
            Door::Messages => "sse_messages",
            Door::Http => "http",
        }
    }

    /// The door at a path of ours.
    pub(crate) fn at(path: &str, profile: &Profile) -> Option<Door> {
        if path.starts_with("/.well-known/") {
            return Some(Door::Discovery);
        }
        match path {
            "/register" => return Some(Door::Register),
            "/authorize" => return Some(Door::Authorize),
            "/callback" => return Some(Door::Callback),
            "/token" => return Some(Door::Token),
            // What is there is mostly a page.
            _ if path != "/" && profile.has(path) => return Some(Door::Http),
            _ => {}
        }
        let of_server = path.strip_prefix("/servers/").and_then(|rest| rest.split_once('/')).map(|(_, endpoint)| endpoint);
        match of_server.unwrap_or(path.trim_start_matches('/')) {
            "mcp" => Some(Door::Http),
            "sse" => Some(Door::Sse),
            "messages" | "message" | "sse/message" => Some(Door::Messages),
            _ => None,
        }
    }
}

/// What has come to one door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visits {
    /// Its name.
    pub door: &'static str,
    /// How many requests.
    pub came: u64,
    /// How many of them were answered by an error.
    pub refused: u64,
    /// When the last one came, in seconds since 1970.
    pub last_s: Option<u64>,
}

#[derive(Debug, Default)]
struct Counter {
    came: AtomicU64,
    refused: AtomicU64,
    last_s: AtomicU64,
}

/// Requests, by where they went.
#[derive(Debug, Default)]
pub struct Counters([Counter; Door::ALL.len()]);

impl Counters {
    /// A request came to this door, and was answered like that.
    pub fn count(&self, door: Door, status: StatusCode) {
        let counter = &self.0[door as usize];
        if counter.came.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::info!(door = door.as_str(), status = status.as_u16(), "the first request came to this door");
        }
        counter.refused.fetch_add(u64::from(status.is_client_error() || status.is_server_error()), Ordering::Relaxed);
        counter.last_s.store(now_s(), Ordering::Relaxed);
    }

    /// All of them.
    pub fn all(&self) -> Vec<Visits> {
        let of = |door: Door| {
            let counter = &self.0[door as usize];
            let (came, refused) = (counter.came.load(Ordering::Relaxed), counter.refused.load(Ordering::Relaxed));
            Visits { door: door.as_str(), came, refused, last_s: (came > 0).then(|| counter.last_s.load(Ordering::Relaxed)) }
        };
        Door::ALL.map(of).into()
    }

    /// As counters of Prometheus. Those of nobody are there too: their absence is what is looked for.
    pub fn write(&self, out: &mut String) {
        out.push_str(
            "# HELP landbridge_requests_total Requests that came, by where they went, and whether they were answered by an error.\n",
        );
        out.push_str("# TYPE landbridge_requests_total counter\n");
        for Visits { door, came, refused, .. } in self.all() {
            let _ = writeln!(out, "landbridge_requests_total{{door=\"{door}\",refused=\"false\"}} {}", came.saturating_sub(refused));
            let _ = writeln!(out, "landbridge_requests_total{{door=\"{door}\",refused=\"true\"}} {refused}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_a_client_has_its_door() {
        let profile = Profile { paths: vec!["/mcp/oauth".into(), "/".into()], ..Profile::default() };
        for (path, door) in [
            ("/.well-known/oauth-protected-resource/mcp", Some("discovery")),
            ("/authorize", Some("authorize")),
            ("/mcp", Some("http")),
            ("/mcp/oauth", Some("http")),
            ("/servers/a/mcp", Some("http")),
            ("/sse", Some("sse")),
            ("/sse/message", Some("sse_messages")),
            ("/servers/a/messages", Some("sse_messages")),
            ("/", None),
            ("/api/mcp", None),
        ] {
            assert_eq!(Door::at(path, &profile).map(Door::as_str), door, "{path}");
        }
    }

    #[test]
    fn what_came_and_was_refused_is_counted() {
        let counters = Counters::default();
        counters.count(Door::Sse, StatusCode::UNAUTHORIZED);
        counters.count(Door::Sse, StatusCode::OK);
        let all = counters.all();
        let sse = all.iter().find(|visits| visits.door == "sse").unwrap();
        assert!((sse.came, sse.refused) == (2, 1) && sse.last_s.is_some());
        assert!(all.iter().filter(|visits| visits.door != "sse").all(|visits| visits.came == 0 && visits.last_s.is_none()));
        let mut text = String::new();
        counters.write(&mut text);
        assert!(text.contains("landbridge_requests_total{door=\"http\",refused=\"false\"} 0\n"), "{text}");
    }
}
