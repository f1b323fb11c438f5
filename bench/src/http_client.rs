//! A client of Streamable HTTP, with a session or in the stateless revision, one call at a time.
//!
//! Odd: a server which gives no session id is taken as it is, since the bare floors give none.
//! An answer may come as JSON or as an event stream, and each call sees which of them it got.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::answer::{Verdict, judge};
use crate::call::{self, Calls};
use crate::connection::Connection;
use crate::events::next_event;
use crate::fault::{Fault, excerpt};
use crate::plan::{Mode, Work};
use crate::response::Response;

/// The newest revision with a handshake.
pub(crate) const SESSION_REVISION: &str = "2025-11-25";
const STATELESS_REVISION: &str = "2026-07-28";

pub(crate) struct HttpClient {
    connection: Connection,
    response: Response,
    request: Vec<u8>,
    calls: Calls,
}

impl HttpClient {
    pub(crate) async fn open(
        address: SocketAddr,
        path: &str,
        mode: Mode,
        work: Work,
        client: usize,
        key: Option<&str>,
    ) -> Result<Self, Fault> {
        let mut connection = Connection::open(address, None).await?;
        let mut response = Response::default();
        let host = address.to_string();
        if mode == Mode::Stateless {
            let calls = Calls::new(mode, work, client, 1, call::post_head(&host, path, &with_key(stateless_headers(work), key)));
            return Ok(HttpClient { connection, response, request: Vec::new(), calls });
        }
        let session = handshake(&mut connection, &mut response, &host, path, work, key).await?;
        let head = call::post_head(&host, path, &with_key(session_headers(session.as_deref()), key));
        // The handshake used the id 1.
        let calls = Calls::new(mode, work, client, 2, head);
        Ok(HttpClient { connection, response, request: Vec::new(), calls })
    }

    /// One call from its first byte out to its answer in.
    pub(crate) async fn call(&mut self) -> Result<Duration, Fault> {
        self.calls.advance();
        self.request.clear();
        self.calls.write_request(&mut self.request);
        let sent = Instant::now();
        self.response.reset();
        self.connection.send(&self.request).await?;
        let mut elapsed = None;
        let mut verdict = None;
        let mut read = 0;
        while !self.response.is_done() {
            self.connection.advance(&mut self.response).await?;
            if !self.response.event_stream || verdict.is_some() {
                continue;
            }
            while let Some((event, used)) = next_event(&self.response.body[read..]) {
                read += used;
                if event.data.is_empty() {
                    continue;
                }
                match judge(&event.data, self.calls.id(), Some(self.calls.message())) {
                    Verdict::NoAnswer => {}
                    answer => {
                        elapsed = Some(sent.elapsed());
                        verdict = Some(answer);
                    }
                }
            }
        }
        let elapsed = elapsed.unwrap_or_else(|| sent.elapsed());
        if self.response.status != 200 {
            return Err(refused("a call", &self.response));
        }
        let verdict = match verdict {
            Some(verdict) => verdict,
            None if self.response.event_stream => {
                return Err(Fault::wrong("the event stream ended without the answer"));
            }
            None => judge(&self.response.body, self.calls.id(), Some(self.calls.message())),
        };
        match verdict {
            Verdict::Right => Ok(elapsed),
            Verdict::NoAnswer => Err(Fault::wrong("a request of the server's own where the answer should be")),
            Verdict::Stray(text) | Verdict::Wrong(text) => Err(Fault::Wrong(text)),
        }
    }
}

/// Opens a session and answers its id, if the server keeps sessions.
pub(crate) async fn handshake(
    connection: &mut Connection,
    response: &mut Response,
    host: &str,
    path: &str,
    work: Work,
    key: Option<&str>,
) -> Result<Option<String>, Fault> {
    let head = call::post_head(host, path, &with_key([], key));
    connection.exchange(&call::post(&head, &call::initialize(SESSION_REVISION, work)), response).await?;
    if response.status != 200 {
        return Err(refused("initialize", response));
    }
    let session = response.session.take();
    judge_handshake(response)?;
    let head = call::post_head(host, path, &with_key(session_headers(session.as_deref()), key));
    connection.exchange(&call::post(&head, call::INITIALIZED), response).await?;
    if !matches!(response.status, 200 | 202 | 204) {
        return Err(refused("notifications/initialized", response));
    }
    Ok(session)
}

pub(crate) fn session_headers(session: Option<&str>) -> Vec<(&str, &str)> {
    let mut headers = vec![("MCP-Protocol-Version", SESSION_REVISION)];
    headers.extend(session.map(|session| ("Mcp-Session-Id", session)));
    headers
}

/// The headers of a call, of which one names the tool.
pub(crate) fn stateless_headers(work: Work) -> [(&'static str, &'static str); 3] {
    [("MCP-Protocol-Version", STATELESS_REVISION), ("Mcp-Method", "tools/call"), ("Mcp-Name", work.tool())]
}

fn with_key<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>, key: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    headers.into_iter().chain(key.map(|key| ("X-API-Key", key))).collect()
}

fn judge_handshake(response: &Response) -> Result<(), Fault> {
    let mut body = &response.body[..];
    if !response.event_stream {
        return expect_right(judge(body, "1", None));
    }
    while let Some((event, used)) = next_event(body) {
        body = &body[used..];
        if !event.data.is_empty() {
            return expect_right(judge(&event.data, "1", None));
        }
    }
    Err(Fault::wrong("the event stream of initialize ended without an answer"))
}

fn expect_right(verdict: Verdict) -> Result<(), Fault> {
    match verdict {
        Verdict::Right => Ok(()),
        other => Err(Fault::wrong(format!("initialize was answered by {other:?}"))),
    }
}

pub(crate) fn refused(what: &str, response: &Response) -> Fault {
    Fault::wrong(format!("the server answered {what} with status {}: {}", response.status, excerpt(&response.body)))
}
