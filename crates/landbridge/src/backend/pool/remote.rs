//! A server elsewhere, reached over HTTP.
//!
//! ```text
//!   meet ──stateless───▶ exchanges: each call a POST of its own; to drop it withdraws the call
//!        ├─handshake──▶ exchanges: the same within a session, and a GET stream beside them
//!        └─HTTP+SSE───▶ channel: one stream down, POSTs up; as a child's pipes
//! ```
//!
//! Whatever carries them, the calls are those of a [`Link`](landbridge_proto::back::link::Link): who may
//! ask whom, how long, how many, is decided there.

mod channel;
mod exchange;
mod meet;
mod stream;
mod words;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::sync::OwnedSemaphorePermit;

use landbridge_proto::back::approach::Wire;
use landbridge_proto::call::Client;
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::version::Revision;

use crate::backend::http::{AGENT, Http, Trouble, write_headers};
use crate::backend::lock;
use crate::backend::pool::Pool;
use crate::plan::Transport;
use crate::vault::{Barred, Pass, Tries};
pub(super) use exchange::Carrier;
pub use exchange::Exchange;
use exchange::Silent;
pub(super) use meet::meet;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const REVISION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");

/// An instance that is to be: whose, for whom, and in which place.
pub(super) struct Arrival<'p> {
    pub(super) pool: &'p Arc<Pool>,
    /// That of a session.
    pub(super) place: OwnedSemaphorePermit,
    pub(super) client: &'p Client,
    pub(super) shared: bool,
    pub(super) ordinal: u32,
}

/// What becomes of a request that is refused for want of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// Another token is got, by a login if need be, and it is sent again.
    AskUser,
    /// It stays refused: nobody waits for it, and nobody is to be asked because of it.
    Stays,
}

/// Where a server is, and what every request to it carries.
#[derive(Debug)]
pub(super) struct Site {
    name: String,
    http: Http,
    url: Uri,
    headers: HeaderMap,
    wire: Wire,
    /// What lets us in, where it wants a token.
    pass: Option<Arc<Pass>>,
    /// What it turned out to speak.
    found: Mutex<Option<Wire>>,
    silent: Silent,
}

impl Site {
    /// The server `name` at that address.
    pub(super) fn new(name: &str, http: Http, url: &Uri, headers: &HeaderMap, transport: Transport, pass: Option<Arc<Pass>>) -> Site {
        let wire = match transport {
            Transport::Auto => Wire::Any,
            Transport::Http => Wire::Streamable,
            Transport::Sse => Wire::Sse,
        };
        let mut headers = headers.clone();
        headers.entry(http::header::USER_AGENT).or_insert(AGENT);
        // HTTP/2 has no such header, and is only spoken over TLS. Otherwise it would be made for each request.
        if url.scheme_str() == Some("http")
            && let Some(host) = url.host()
            && let Ok(host) = HeaderValue::try_from(url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")))
        {
            headers.entry(http::header::HOST).or_insert(host);
        }
        Site { name: name.into(), http, url: url.clone(), headers, wire, pass, found: Mutex::default(), silent: Silent::default() }
    }

    /// What it is known to speak, or may.
    fn wire(&self) -> Wire {
        lock(&self.found).unwrap_or(self.wire)
    }

    /// Nothing is known any more.
    fn forget(&self) {
        *lock(&self.found) = None;
    }

    /// POSTs a line.
    async fn post(&self, url: &Uri, line: &Bytes, extra: HeaderMap) -> Result<Response<Incoming>, Trouble> {
        let body = line.slice(..line.len() - usize::from(line.ends_with(b"\n")));
        self.send(Method::POST, url, [(CONTENT_TYPE, JSON), (ACCEPT, BOTH)], &extra, body, Refused::AskUser).await
    }

    /// Opens a stream of events.
    async fn open(&self, extra: HeaderMap, refused: Refused) -> Result<Response<Incoming>, Trouble> {
        self.send(Method::GET, &self.url, [(ACCEPT, EVENTS), (CACHE_CONTROL, NO_CACHE)], &extra, Bytes::new(), refused).await
    }

    /// Ends a session.
    async fn end(&self, extra: HeaderMap) -> Result<Response<Incoming>, Trouble> {
        self.send(Method::DELETE, &self.url, [], &extra, Bytes::new(), Refused::Stays).await
    }

    /// Sends a request with the headers that all have, those of its kind, and its own.
    async fn send<const N: usize>(
        &self,
        method: Method,
        url: &Uri,
        of_kind: [(HeaderName, HeaderValue); N],
        own: &HeaderMap,
        body: Bytes,
        refused: Refused,
    ) -> Result<Response<Incoming>, Trouble> {
        let head = |headers: &mut HeaderMap| {
            write_headers(headers, &self.headers);
            for (name, value) in &of_kind {
                headers.insert(name, value.clone());
            }
            write_headers(headers, own);
        };
        match &self.pass {
            None => self.http.send(method, url, head, body).await,
            // Boxed, as every request would carry its size.
            Some(pass) => Box::pin(self.send_with(pass, method, url, head, body, refused)).await,
        }
    }

    /// The same with a token, and again with another if that one is refused: who refuses it has not read the rest.
    async fn send_with(
        &self,
        pass: &Arc<Pass>,
        method: Method,
        url: &Uri,
        head: impl Fn(&mut HeaderMap),
        body: Bytes,
        refused: Refused,
    ) -> Result<Response<Incoming>, Trouble> {
        let login = |barred: &Barred| matches!(barred, Barred::Login(_));
        let barred = |barred: Barred| Trouble { delivered: false, barred: true, login: login(&barred), why: barred.to_string() };
        let mut tries = Tries::default();
        let mut token = pass.bearer().await.map_err(barred)?;
        if token.is_none() && pass.is_of_visitor() {
            return Err(Trouble { delivered: false, barred: true, login: true, why: "its user is not connected".into() });
        }
        loop {
            let head = |headers: &mut HeaderMap| {
                head(headers);
                headers.extend(token.clone().map(|token| (AUTHORIZATION, token)));
            };
            let response = self.http.send(method.clone(), url, head, body.clone()).await?;
            if refused == Refused::Stays {
                return Ok(response);
            }
            match pass.refused(&mut tries, token.as_ref(), response.status(), response.headers()).await.map_err(barred)? {
                Some(other) => token = Some(other),
                None => return Ok(response),
            }
        }
    }

    /// Passes when the server has had so much time. The time that a user takes to log in is not the server's.
    async fn patience(&self, time: Duration) {
        loop {
            tokio::time::sleep(time).await;
            match &self.pass {
                Some(pass) if pass.is_busy() => pass.idle().await,
                _ => return,
            }
        }
    }

    /// A request got no response.
    fn troubled(&self, what: &str, trouble: &Trouble) -> Fault {
        match trouble.barred {
            // It has not been read, and is begun anew where the user can be asked.
            true if trouble.login => {
                let told = format!("the server `{}` wants its user to log in; call again to be told where", self.name);
                Fault::backend(&self.name, Kind::Changed).tell(told).because(trouble)
            }
            true => self.misbehaves(format!("wants a login: {trouble}")),
            false => self.unreachable(what, trouble),
        }
    }

    /// It could not be reached, or broke off.
    fn unreachable(&self, what: &str, why: impl std::fmt::Display) -> Fault {
        Fault::backend(&self.name, Kind::Unreachable).tell(format!("the server `{}` {what}: {why}", self.name))
    }

    /// What it answers is no MCP.
    fn misbehaves(&self, how: impl std::fmt::Display) -> Fault {
        Fault::backend(&self.name, Kind::Backend).tell(format!("the server `{}` {how}", self.name))
    }
}

/// The headers of a session.
fn session_headers(revision: Revision, session: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Older servers know no such header, and some refuse what they do not know.
    if revision >= Revision::V2025_06_18 {
        headers.insert(REVISION, HeaderValue::from_static(revision.as_str()));
    }
    if let Some(session) = session {
        headers.insert(SESSION, session.clone());
    }
    headers
}

/// Whether a response is a stream of events, however that is spelt.
fn is_events(response: &Response<Incoming>) -> bool {
    let media = response.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or_default();
    media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// The whole body of a response; `Err`: it broke off, or is larger than that.
async fn whole(response: Response<Incoming>, limit: usize) -> Result<Bytes, String> {
    let mut body = response.into_body();
    let too_large = || format!("its answer is larger than the limit of {limit} bytes for one message");
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut more = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|e| format!("its answer broke off: {e}"))?.into_data() else { continue };
        let so_far = first.as_ref().map_or(0, Bytes::len).max(more.len());
        if so_far + data.len() > limit {
            return Err(too_large());
        }
        // Most answers come in one piece, which is not copied.
        match first.take() {
            None if more.is_empty() => first = Some(data),
            None => more.extend_from_slice(&data),
            Some(first) => {
                more.extend_from_slice(&first);
                more.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| more.freeze()))
}

/// What a response without an answer means.
fn refusal(status: u16) -> String {
    match status {
        401 => "wants authorization (HTTP 401); give it a token in `headers`".into(),
        403 => "refuses this (HTTP 403)".into(),
        429 => "has had too many requests (HTTP 429); try again later".into(),
        200..=299 => format!("accepted the call without answering it (HTTP {status})"),
        _ => format!("answers with HTTP {status} and no MCP message"),
    }
}
