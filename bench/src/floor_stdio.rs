//! The second floor: the least that bridges HTTP to one stdio child without mixing up callers.
//!
//! Odd: one child serves everybody, ids are rewritten to places in a slab and back, and all lines that
//! are waiting go to the child in one write. There are no sessions, no streams, no timeouts and
//! no checks. A real gateway must do more, and its share of this floor says what the more costs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, oneshot};

use crate::fault::Fault;
use crate::floor_http::{Reply, json, listen_on, plain};

#[derive(Default)]
struct Bridge {
    waiting: Mutex<Waiting>,
    /// Lines that no write has taken yet.
    lines: Mutex<Vec<u8>>,
    lines_came: Notify,
}

/// A slab: the rewritten id is the place of the caller who waits for its answer.
#[derive(Default)]
struct Waiting {
    places: Vec<Option<Caller>>,
    free: Vec<usize>,
}

struct Caller {
    /// The id to give back.
    id: Box<str>,
    answer: oneshot::Sender<Bytes>,
}

impl Waiting {
    fn add(&mut self, caller: Caller) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(caller);
        place
    }

    fn take(&mut self, place: usize) -> Option<Caller> {
        let caller = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(caller)
    }
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: &'a RawValue,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<usize>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

pub(crate) async fn serve(listen: SocketAddr, command: &[String]) -> Result<(), Fault> {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Fault::setup(format!("cannot start the child {} ({error}); check the command", command[0])))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Fault::setup("the child came without pipes; this is a bug of the bench"));
    };
    let bridge = Arc::new(Bridge::default());
    tokio::spawn(write_lines(bridge.clone(), stdin));
    let listener = listen_on(listen).await?;
    let reader = tokio::spawn(read_lines(bridge.clone(), stdout));
    let accept = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            let bridge = bridge.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let bridge = bridge.clone();
                    async move { Ok::<_, Infallible>(handle(&bridge, request).await) }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    };
    tokio::select! {
        _ = reader => Err(Fault::setup("the child of the stdio floor closed its output; run the child by hand to see why")),
        () = accept => Ok(()),
    }
}

async fn handle(bridge: &Bridge, request: hyper::Request<Incoming>) -> Response<Reply> {
    if request.method() == Method::GET {
        return plain(StatusCode::OK, Bytes::new());
    }
    let Ok(body) = request.into_body().collect().await else {
        return plain(StatusCode::BAD_REQUEST, Bytes::new());
    };
    let body = body.to_bytes();
    let Ok(call) = serde_json::from_slice::<Call<'_>>(&body) else {
        return plain(StatusCode::BAD_REQUEST, Bytes::new());
    };
    let Some(id) = call.id else {
        return plain(StatusCode::ACCEPTED, Bytes::new());
    };
    let (answer, answered) = oneshot::channel();
    let number = held(&bridge.waiting).add(Caller { id: id.get().into(), answer });
    bridge.queue(number, &call);
    match answered.await {
        Ok(answer) => json(answer),
        Err(_) => plain(StatusCode::BAD_GATEWAY, Bytes::new()),
    }
}

impl Bridge {
    fn queue(&self, number: usize, call: &Call<'_>) {
        let mut lines = held(&self.lines);
        let was_empty = lines.is_empty();
        lines.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
        lines.extend_from_slice(number.to_string().as_bytes());
        lines.extend_from_slice(br#","method":"#);
        lines.extend_from_slice(call.method.get().as_bytes());
        if let Some(params) = call.params {
            lines.extend_from_slice(br#","params":"#);
            lines.extend_from_slice(params.get().as_bytes());
        }
        lines.extend_from_slice(b"}\n");
        drop(lines);
        // A line that joins others needs no wake: the writer has yet to take those.
        if was_empty {
            self.lines_came.notify_one();
        }
    }

    fn deliver(&self, line: &[u8]) {
        let Ok(answer) = serde_json::from_slice::<Answer<'_>>(line) else {
            return;
        };
        let Some(caller) = answer.id.and_then(|place| held(&self.waiting).take(place)) else {
            return;
        };
        let (name, value) = match (answer.result, answer.error) {
            (Some(result), _) => ("result", result.get()),
            (None, Some(error)) => ("error", error.get()),
            (None, None) => return,
        };
        let mut body = Vec::with_capacity(line.len() + 32);
        for part in [r#"{"jsonrpc":"2.0","id":"#, &caller.id, ",\"", name, "\":", value, "}"] {
            body.extend_from_slice(part.as_bytes());
        }
        let _ = caller.answer.send(body.into());
    }
}

async fn write_lines(bridge: Arc<Bridge>, mut stdin: ChildStdin) {
    let mut batch = Vec::new();
    loop {
        bridge.lines_came.notified().await;
        std::mem::swap(&mut batch, &mut *held(&bridge.lines));
        if stdin.write_all(&batch).await.is_err() {
            return;
        }
        batch.clear();
    }
}

async fn read_lines(bridge: Arc<Bridge>, mut stdout: ChildStdout) {
    let mut bytes = Vec::with_capacity(64 * 1024);
    while matches!(stdout.read_buf(&mut bytes).await, Ok(read) if read > 0) {
        let mut used = 0;
        while let Some(length) = bytes[used..].iter().position(|&byte| byte == b'\n') {
            bridge.deliver(&bytes[used..used + length]);
            used += length + 1;
        }
        bytes.drain(..used);
    }
}

/// No holder of these locks can panic half-way through a change, so poison means nothing here.
fn held<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
