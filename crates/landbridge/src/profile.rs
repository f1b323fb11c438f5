//! What a server advertises over HTTP+SSE, where its clients were written against one server and know its
//! habits: where its stream is, what is said first, how events look, how it refuses.
//!
//! A profile is data. It changes what is said and nothing that is understood: every path and every spelling of a
//! session's id that is known in the field is taken from everybody, whatever the profile says.

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use serde_json::{Map, Value};

pub use landbridge_proto::front::session::Frames;
use landbridge_proto::json::quote;
use landbridge_proto::oauth::secret::spell;
use landbridge_proto::sse;

use crate::body::Body;
use crate::mcp::response;
use crate::sessions::SessionId;

/// The habits of one server. The default is what the specification of 2024-11-05 shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// More paths at which both transports are served: `GET` opens a stream of HTTP+SSE, `POST` takes the messages of
    /// either. They begin with a slash; `/` alone is the root.
    pub paths: Vec<String>,
    /// The URL for a client's messages. `{id}` is the session's.
    pub messages: String,
    /// Ids are written as a UUID is, with dashes.
    pub dashes: bool,
    /// What is said on a stream of HTTP+SSE before anything else.
    pub preamble: Vec<Opening>,
    /// How long whoever loses that stream is to wait before opening another: `retry`, in milliseconds. It is said with
    /// the first event; without it browsers wait for three to five seconds.
    pub retry_ms: Option<u32>,
    /// How messages look there.
    pub frames: Frames,
    /// What keeps that stream alive, once every [`Limits::keepalive_ms`](crate::plan::Limits::keepalive_ms).
    pub keepalive: Keepalive,
    /// The answer to a message that names no session, if it is not JSON-RPC.
    pub no_session: Option<Refusal>,
    /// The answer to a message for a session that is over, or never was.
    pub dead_session: Option<Refusal>,
    /// The answer to a message for a stream that is not said to be JSON. Otherwise that is 415.
    pub bad_media: Option<Refusal>,
    /// The answer to a request without a credential, where one is needed.
    pub no_key: Option<Refusal>,
    /// The answer to one that is unknown, or over.
    pub bad_key: Option<Refusal>,
    /// `MCP-Protocol-Version` has to name a revision that there is, over HTTP+SSE as well.
    pub checks_revision: bool,
    /// Requests of the handshake era are answered at `/mcp` without a session too, each by itself and as
    /// plain JSON. Nobody can be asked anything then.
    pub lenient: bool,
    /// What else the document of our authorization server says: a key, and its value as JSON, in which `{root}` is our URL.
    /// Of a list that it says anyhow, this leaves what is in both: not all that is served has to be told.
    pub issuer_says: Vec<(&'static str, &'static str)>,
    /// How the ids of clients look that register with it; as 43 letters and digits, where nothing is said.
    pub client_ids: Option<ClientIds>,
    /// Pages of origins that were named may call with what a browser knows of us: cookies, and passwords of HTTP.
    pub credentials: bool,
    /// Over HTTP+SSE, a request beyond the calls that a session may have is refused by a status, 429, and not by an
    /// answer on its stream.
    pub refuses_calls: bool,
    /// Who comes back from the provider of logins in another browser than the one that began is refused: 400. Otherwise that
    /// browser begins anew by itself, as it is mostly the same one, where another tab has signed in meanwhile.
    pub own_browser: bool,
    /// The status where the provider of logins does not say who somebody is, who came back from it with a code. `None`: 502 if
    /// it is its fault, 500 if it is ours, 400 if the code is too old.
    pub exchange_failed: Option<StatusCode>,
    /// Which transports there are. The paths of the other one are unknown to everybody.
    pub transports: Transports,
}

/// Which transports are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transports {
    /// All of them.
    #[default]
    Both,
    /// HTTP+SSE alone, for clients of 2024-11-05.
    Sse,
    /// Streamable HTTP alone, of every revision.
    Http,
}

/// Something that is said when a stream opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// `: TEXT`
    Comment(&'static str),
    /// `event: session`, `data: {"sessionId":"…"}`
    Session,
    /// `event: endpoint`, `data: URL`: what every client of 2024-11-05 waits for.
    Endpoint,
    /// The same, where clients parse it as JSON: a string that is the URL. They can ask for it by
    /// `?endpoint_format=json`.
    JsonEndpoint,
    /// A message: `notifications/initialized` with `{"sessionId":"…"}`.
    Initialized,
}

/// The ids of clients that register: a word, and random digits of hexadecimal. They are names, no secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientIds {
    /// What they begin with.
    pub prefix: &'static str,
    /// How many digits follow: 16 to 64, or nobody could be told from anybody.
    pub digits: usize,
}

/// What keeps a stream alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keepalive {
    /// A comment, which no client gets to see.
    #[default]
    Comment,
    /// `event: ping`, `data: ping - 2026-07-28T12:00:00.000Z`
    Ping,
}

/// An answer in a server's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The type of its body.
    pub media: &'static str,
    /// The body.
    pub body: &'static str,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            paths: Vec::new(),
            messages: "/messages?sessionId={id}".into(),
            dashes: false,
            preamble: vec![Opening::Endpoint],
            retry_ms: None,
            frames: Frames::Named,
            keepalive: Keepalive::Comment,
            no_session: None,
            dead_session: None,
            bad_media: None,
            no_key: None,
            bad_key: None,
            checks_revision: false,
            lenient: false,
            issuer_says: Vec::new(),
            client_ids: None,
            transports: Transports::Both,
            credentials: false,
            refuses_calls: false,
            own_browser: false,
            exchange_failed: None,
        }
    }
}

impl Profile {
    /// A session's id as this server writes it.
    pub fn id(&self, id: SessionId) -> String {
        if self.dashes { id.dashed() } else { id.to_string() }
    }

    /// The id of a client that registers, of these random bytes.
    pub(crate) fn client_id(&self, random: [u8; 32]) -> String {
        let Some(ClientIds { prefix, digits }) = self.client_ids else { return spell(random) };
        let hex = random.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(digit.into(), 16));
        prefix.chars().chain(hex.take(digits.clamp(16, 64))).collect()
    }

    /// Whether both transports are at this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths.iter().any(|ours| ours == path)
    }

    /// The document of our authorization server at `root`, with what else is said there. What it says itself counts for
    /// more; of its lists a part may be told.
    pub(crate) fn complete(&self, document: String, root: &str) -> String {
        if self.issuer_says.is_empty() {
            return document;
        }
        let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(&document) else { return document };
        for (key, value) in &self.issuer_says {
            let Ok(value) = serde_json::from_str::<Value>(&value.replace("{root}", root)) else { continue };
            match (fields.get_mut(*key), value) {
                (None, value) => drop(fields.insert((*key).into(), value)),
                (Some(Value::Array(all)), Value::Array(part)) => {
                    let both: Vec<Value> = part.into_iter().filter(|one| all.contains(one)).collect();
                    if !both.is_empty() {
                        *all = both;
                    }
                }
                (Some(_), _) => {}
            }
        }
        Value::Object(fields).to_string()
    }

    /// What a stream begins with. `prefix`: the path that the server is below. `json`: this client wants its endpoint
    /// as JSON.
    pub(crate) fn preamble(&self, id: SessionId, prefix: &str, json: bool) -> Bytes {
        let id = self.id(id);
        let url = format!("{prefix}{}", self.messages.replace("{id}", &id));
        let session = format!("{{\"sessionId\":{}}}", quote(&id));
        // Not in an event of its own: some clients take one without data for a message.
        let mut retry = self.retry_ms.map(|ms| format!("retry: {ms}\n"));
        let mut event = |name: &str, data: &str| format!("event: {name}\n{}data: {data}\n\n", retry.take().unwrap_or_default());
        let mut out = String::new();
        for opening in &self.preamble {
            out.push_str(&match opening {
                Opening::Comment(text) => format!(": {text}\n\n"),
                Opening::Session => event("session", &session),
                Opening::Endpoint if !json => event("endpoint", &url),
                Opening::Endpoint | Opening::JsonEndpoint => event("endpoint", &quote(&url)),
                Opening::Initialized => {
                    event("message", &format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\",\"params\":{session}}}"))
                }
            });
        }
        out.into()
    }
}

impl Keepalive {
    pub(crate) fn frame(self) -> Bytes {
        match self {
            Keepalive::Comment => Bytes::from_static(sse::COMMENT),
            Keepalive::Ping => Bytes::from(format!("event: ping\ndata: ping - {}\n\n", now())),
        }
    }
}

/// The time as JavaScript writes it, to the millisecond.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl Refusal {
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = response(self.status, Body::full(Bytes::from_static(self.body.as_bytes())));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.media));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preamble_says_what_is_asked_for_in_its_order() {
        let id = SessionId::parse("11b56c40dc7a4ce991278998bcace54f").expect("an id");
        let contacts = Profile {
            messages: "/mcp/oauth?sessionId={id}".into(),
            dashes: true,
            preamble: vec![Opening::Comment("SSE connection established"), Opening::Session, Opening::Endpoint],
            ..Profile::default()
        };
        let said = contacts.preamble(id, "", false);
        let expected = ": SSE connection established\n\n\
            event: session\ndata: {\"sessionId\":\"11b56c40-dc7a-4ce9-9127-8998bcace54f\"}\n\n\
            event: endpoint\ndata: /mcp/oauth?sessionId=11b56c40-dc7a-4ce9-9127-8998bcace54f\n\n";
        assert_eq!(said, expected.as_bytes());
        let patient = Profile { retry_ms: Some(3_000), ..contacts };
        assert_eq!(
            patient.preamble(id, "", false),
            expected.replace("session\n", "session\nretry: 3000\n").as_bytes(),
            "once, and with data"
        );
        let said = Profile::default().preamble(id, "/servers/a", false);
        assert_eq!(said, b"event: endpoint\ndata: /servers/a/messages?sessionId=11b56c40dc7a4ce991278998bcace54f\n\n"[..]);
        let said = Profile::default().preamble(id, "", true);
        assert_eq!(said, b"event: endpoint\ndata: \"/messages?sessionId=11b56c40dc7a4ce991278998bcace54f\"\n\n"[..]);
    }

    #[test]
    fn an_issuer_says_more_and_never_something_else() {
        let profile = Profile { issuer_says: vec![("at", r#"["{root}/mcp"]"#), ("issuer", "1"), ("bad", "{")], ..Profile::default() };
        let said: Value = serde_json::from_str(&profile.complete(r#"{"issuer":"x"}"#.into(), "https://h/p")).expect("JSON");
        assert_eq!(said, serde_json::json!({"issuer": "x", "at": ["https://h/p/mcp"]}));
    }

    #[test]
    fn an_issuer_tells_a_part_of_what_it_serves_and_nothing_that_it_does_not() {
        let issuer_says = vec![("methods", r#"["post", "magic", "none"]"#), ("grants", r#"["magic"]"#)];
        let profile = Profile { issuer_says, ..Profile::default() };
        let document = r#"{"methods":["none","basic","post"],"grants":["code"]}"#;
        let said: Value = serde_json::from_str(&profile.complete(document.into(), "https://h")).expect("JSON");
        assert_eq!(said, serde_json::json!({"methods": ["post", "none"], "grants": ["code"]}));
    }

    #[test]
    fn ids_of_clients_have_the_shape_that_was_chosen() {
        let mut random = [0xab; 32];
        random[0] = 0x05;
        assert_eq!(Profile::default().client_id(random), spell(random));
        let shaped = |digits| Profile { client_ids: Some(ClientIds { prefix: "mcp_", digits }), ..Profile::default() }.client_id(random);
        assert_eq!(shaped(16), "mcp_05ababababababab");
        assert_eq!((shaped(1).len(), shaped(99).len()), (20, 68), "never few enough to be guessed twice");
    }

    #[test]
    fn a_ping_has_the_time_to_the_millisecond() {
        let frame = String::from_utf8(Keepalive::Ping.frame().to_vec()).expect("UTF-8");
        let time = frame.strip_prefix("event: ping\ndata: ping - ").and_then(|rest| rest.strip_suffix("\n\n")).expect("a ping");
        assert_eq!((time.len(), &time[10..11], &time[19..20], &time[23..]), (24, "T", ".", "Z"));
        assert!(time.parse::<jiff::Timestamp>().is_ok());
    }
}
