//! An HTTP server that keeps sessions, as the servers behind a gateway do, and that can forget them.
//!
//! ```text
//!   initialize ──▶ known ──GET──▶ known, with a stream
//!                    ├─ DELETE, or a call where it forgets sessions ──▶ unknown: 404, its stream ends
//!                    └─ a call where it forgets streams ──▶ known: its stream ends
//! ```
//!
//! Odd: `GET /seen` says what it has seen, for only the server can tell how often a gateway came back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::ValueEnum;
use http_body_util::{BodyExt, Either};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::call;
use crate::connection::Connection;
use crate::fault::Fault;
use crate::floor_http::{Reply, json, listen_on, plain};
use crate::http_client::refused;
use crate::request;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// What it forgets behind each call.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Forgets {
    Nothing,
    /// The stream of the call's session.
    Streams,
    /// The session itself, with its stream, and the connection that the call came on.
    Sessions,
}

/// What it has seen: how many there were so far, and how many there are.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) sessions_so_far: u64,
    pub(crate) streams_so_far: u64,
    pub(crate) sessions: u64,
    pub(crate) streams: u64,
}

struct Server {
    forgets: Forgets,
    /// What ends the stream of each session, if it has one.
    known: Mutex<HashMap<u64, Option<oneshot::Sender<()>>>>,
    sessions_so_far: AtomicU64,
    streams_so_far: AtomicU64,
    streams: AtomicU64,
}

type Answer = Response<Either<Reply, Stream>>;

pub(crate) async fn serve(listen: SocketAddr, forgets: Forgets) -> Result<(), Fault> {
    let listener = listen_on(listen).await?;
    let server = Arc::new(Server {
        forgets,
        known: Mutex::default(),
        sessions_so_far: AtomicU64::default(),
        streams_so_far: AtomicU64::default(),
        streams: AtomicU64::default(),
    });
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(server.handle(request).await) });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Asks the one that listens there what it has seen.
pub(crate) async fn seen(address: SocketAddr) -> Result<Seen, Fault> {
    let mut response = crate::response::Response::default();
    let request = call::get_stream(&address.to_string(), "/seen", &[]);
    Connection::open(address, None).await?.exchange(&request, &mut response).await?;
    serde_json::from_slice(&response.body).map_err(|_| refused("the question what it has seen", &response))
}

impl Server {
    async fn handle(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        if request.uri().path() == "/seen" {
            return serde_json::to_vec(&self.seen()).map_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR), whole);
        }
        let session = request.headers().get(SESSION).and_then(|id| id.to_str().ok()?.parse().ok());
        match (request.method(), session) {
            (&Method::POST, session) => self.post(request, session).await,
            (_, None) => status(StatusCode::BAD_REQUEST),
            (&Method::GET, Some(session)) => self.open_stream(session),
            (&Method::DELETE, Some(session)) => {
                self.known().remove(&session).map_or_else(|| status(StatusCode::NOT_FOUND), |_| status(StatusCode::OK))
            }
            _ => status(StatusCode::METHOD_NOT_ALLOWED),
        }
    }

    async fn post(&self, request: Request<Incoming>, session: Option<u64>) -> Answer {
        let Ok(body) = request.into_body().collect().await else {
            return status(StatusCode::BAD_REQUEST);
        };
        let body = body.to_bytes();
        let Ok(call) = serde_json::from_slice::<request::Request<'_>>(&body) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let mut answer = Vec::with_capacity(256);
        request::answer(&call, false, &mut answer);
        if call.method == "initialize" {
            let session = self.sessions_so_far.fetch_add(1, Ordering::Relaxed);
            self.known().insert(session, None);
            let mut answer = whole(answer);
            answer.headers_mut().insert(SESSION, HeaderValue::from(session));
            return answer;
        }
        match session {
            None => return status(StatusCode::BAD_REQUEST),
            Some(session) if !self.known().contains_key(&session) => return status(StatusCode::NOT_FOUND),
            Some(_) if answer.is_empty() => return status(StatusCode::ACCEPTED),
            Some(session) if call.method == "tools/call" => self.forget(session),
            Some(_) => {}
        }
        let mut answer = whole(answer);
        if self.forgets == Forgets::Sessions {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    fn forget(&self, session: u64) {
        let mut known = self.known();
        match self.forgets {
            Forgets::Nothing => {}
            Forgets::Streams => drop(known.get_mut(&session).and_then(Option::take)),
            Forgets::Sessions => drop(known.remove(&session)),
        }
    }

    /// A session has one stream: the next takes the place of the last.
    fn open_stream(self: &Arc<Self>, session: u64) -> Answer {
        let (end, ended) = oneshot::channel();
        match self.known().get_mut(&session) {
            Some(stream) => *stream = Some(end),
            None => return status(StatusCode::NOT_FOUND),
        }
        self.streams_so_far.fetch_add(1, Ordering::Relaxed);
        self.streams.fetch_add(1, Ordering::Relaxed);
        // Come back at once: a run waits for that.
        let greeting = Bytes::from_static(b"retry: 1\n: hello\n\n");
        let mut answer = Response::new(Either::Right(Stream { greeting: Some(greeting), ended, server: self.clone() }));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        answer
    }

    fn seen(&self) -> Seen {
        Seen {
            sessions_so_far: self.sessions_so_far.load(Ordering::Relaxed),
            streams_so_far: self.streams_so_far.load(Ordering::Relaxed),
            sessions: self.known().len() as u64,
            streams: self.streams.load(Ordering::Relaxed),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Option<oneshot::Sender<()>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn whole(body: Vec<u8>) -> Answer {
    json(body.into()).map(Either::Left)
}

fn status(status: StatusCode) -> Answer {
    plain(status, Bytes::new()).map(Either::Left)
}

/// A stream that greets, and stays open until its session is forgotten or the client leaves.
struct Stream {
    greeting: Option<Bytes>,
    ended: oneshot::Receiver<()>,
    server: Arc<Server>,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.greeting.take() {
            Some(greeting) => Poll::Ready(Some(Ok(Frame::data(greeting)))),
            None => Pin::new(&mut self.ended).poll(cx).map(|_| None),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.server.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_client::HttpClient;
    use crate::plan::{Mode, Work};

    /// What is seen after one call in a session that had a stream, and what becomes of a second call.
    async fn after_a_call(forgets: Forgets) -> (Seen, bool) {
        let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        tokio::spawn(serve(address, forgets));
        while Connection::open(address, None).await.is_err() {
            tokio::task::yield_now().await;
        }
        let mut client = HttpClient::open(address, "/mcp", Mode::Streamable, Work::Plain, 0, None).await.expect("a session");
        let mut stream = Connection::open(address, None).await.expect("a connection");
        let mut response = crate::response::Response::default();
        let get = call::get_stream("localhost", "/mcp", &[("Mcp-Session-Id", "0")]);
        stream.send(&get).await.expect("the server reads");
        while response.body.is_empty() {
            stream.advance(&mut response).await.expect("a greeting");
        }
        client.call().await.expect("the first call is answered");
        if forgets != Forgets::Nothing {
            while !response.is_done() {
                stream.advance(&mut response).await.expect("the stream ends properly");
            }
        }
        let seen = seen(address).await.expect("it says what it has seen");
        (seen, client.call().await.is_ok())
    }

    #[tokio::test]
    async fn it_forgets_what_it_was_told_to() {
        for (forgets, sessions, streams, again) in
            [(Forgets::Nothing, 1, 1, true), (Forgets::Streams, 1, 0, true), (Forgets::Sessions, 0, 0, false)]
        {
            let (seen, answered) = after_a_call(forgets).await;
            assert_eq!((seen.sessions_so_far, seen.streams_so_far), (1, 1));
            assert_eq!((seen.sessions, seen.streams, answered), (sessions, streams, again));
        }
    }
}
