//! The first floor: a bare hyper server that parses a request and echoes it.
//!
//! Odd: it has no sessions, no checks, no headers of MCP and no limits, on purpose. It is what
//! hyper, tokio and serde_json cost by themselves, so what a gateway costs above it is the
//! gateway's own. A GET opens a stream that never says more than hello, as the idle floor.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::fault::Fault;
use crate::request::{self, Request};

pub(crate) async fn serve(listen: SocketAddr, modern: bool) -> Result<(), Fault> {
    let listener = listen_on(listen).await?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(
                TokioIo::new(stream),
                service_fn(|request| async move { Ok::<_, Infallible>(handle(request, modern).await) }),
            );
            let _ = connection.await;
        });
    }
}

pub(crate) async fn listen_on(address: SocketAddr) -> Result<TcpListener, Fault> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Fault::setup(format!("cannot listen on {address} ({error}); give the floor a free loopback port")))
}

async fn handle(request: hyper::Request<Incoming>, modern: bool) -> Response<Reply> {
    if request.method() == Method::GET {
        return match request.uri().path() {
            "/sse" | "/mcp" => typed("text/event-stream", Reply::Idle(Some(Bytes::from_static(b": hello\n\n")))),
            _ => plain(StatusCode::OK, Bytes::new()),
        };
    }
    let Ok(body) = request.into_body().collect().await else {
        return plain(StatusCode::BAD_REQUEST, Bytes::new());
    };
    let body = body.to_bytes();
    let Ok(call) = serde_json::from_slice::<Request<'_>>(&body) else {
        return plain(StatusCode::BAD_REQUEST, Bytes::new());
    };
    let mut answer = Vec::with_capacity(256);
    request::answer(&call, modern, &mut answer);
    if answer.is_empty() { plain(StatusCode::ACCEPTED, Bytes::new()) } else { json(answer.into()) }
}

pub(crate) fn json(body: Bytes) -> Response<Reply> {
    typed("application/json", Reply::Whole(Some(body)))
}

pub(crate) fn plain(status: StatusCode, body: Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::Whole(Some(body)));
    *response.status_mut() = status;
    response
}

fn typed(kind: &'static str, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A body which is whole at once, or which greets and then stays open for ever.
pub(crate) enum Reply {
    Whole(Option<Bytes>),
    Idle(Option<Bytes>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Reply::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Reply::Idle(greeting) => match greeting.take() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                // Nothing will ever wake this; hyper still notices when the client goes away.
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Reply::Idle(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Reply::Idle(_) => SizeHint::default(),
        }
    }
}
