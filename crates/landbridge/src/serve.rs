//! Listening, connections, and the end in good order.

mod flow;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use http::header::UPGRADE;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep};
use tracing::{debug, info, warn};

use crate::arrival::Arrival;
use crate::audit::Audit;
use crate::body::{Beats, Body};
use crate::conversation::Place;
use crate::gateway::Gateway;
use crate::plan::Limits;
use crate::reload::Hangups;
use crate::routes;
use crate::tls::{Speaks, Tls};
use flow::{Flow, Flowing};

/// Requests that may be under way on one connection of HTTP/2.
const STREAMS: u32 = 256;
/// What waits to be sent on one of its streams, in bytes.
const SEND_BUFFER: usize = 64 * 1024;
/// The other end of such a connection is asked this often whether it is there, and has as long to answer.
const PING: Duration = Duration::from_secs(20);

/// Opens the listening socket.
pub fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(4096)
}

/// Serves until a signal says to stop, then ends in good order; a second one ends the process.
pub async fn run(gateway: Arc<Gateway>, listeners: Vec<TcpListener>, tls: Option<Arc<Tls>>) {
    // Before anybody is served: who was may tell us to stop.
    let mut signals = Signals::new();
    let stop = async move {
        signals.next().await;
        tokio::spawn(async move {
            signals.next().await;
            warn!("told twice; leaving at once");
            std::process::exit(130);
        });
    };
    run_until(gateway, listeners, tls, stop).await;
}

/// Serves until `stop` is done, then ends in good order; in plain text, if there is no `tls`.
pub async fn run_until(gateway: Arc<Gateway>, listeners: Vec<TcpListener>, tls: Option<Arc<Tls>>, stop: impl Future<Output = ()>) {
    let limits = gateway.plan.limits;
    let beats = Arc::new(Beats::new());
    let places = Arc::new(Semaphore::new(limits.connections));
    let clocks = clocks(&gateway, &beats);
    let keeping = tls.clone().map(|tls| tokio::spawn(tls.keep()).abort_handle());
    let accept = |listener| tokio::spawn(accept(gateway.clone(), beats.clone(), listener, tls.clone(), places.clone())).abort_handle();
    let accepting: Vec<AbortHandle> = listeners.into_iter().map(accept).collect();
    let reopening = gateway.audit.has_file().then(|| tokio::spawn(reopen(gateway.audit.clone())).abort_handle());
    let tasks = clocks.into_iter().chain(keeping).chain(reopening).chain(accepting.iter().cloned()).collect();
    let _ends = Ends { gateway: gateway.clone(), tasks };
    stop.await;
    info!("stopping: running calls have {} ms", limits.drain_ms);
    gateway.draining.send_replace(true);
    accepting.iter().for_each(AbortHandle::abort);
    let drained = async {
        while places.available_permits() < limits.connections {
            gateway.close_idle_streams();
            sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(Duration::from_millis(limits.drain_ms), drained).await.is_err() {
        info!("calls are still running; leaving them");
    }
    gateway.stop();
    // What the calls ended with is still to be written.
    let flushed = async {
        while places.available_permits() < limits.connections {
            gateway.close_idle_streams();
            sleep(Duration::from_millis(10)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(500), flushed).await;
    gateway.sessions.close_all();
    gateway.instances_gone().await;
    gateway.eras.log();
    gateway.audit.flush().await;
    info!("stopped");
}

/// Ends what serves when whoever serves is dropped, at whatever point.
struct Ends {
    gateway: Arc<Gateway>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.gateway.draining.send_replace(true);
        self.gateway.stop();
        self.gateway.sessions.close_all();
    }
}

/// What has to be done from time to time.
pub(crate) fn clocks(gateway: &Arc<Gateway>, beats: &Arc<Beats>) -> [AbortHandle; 2] {
    let ticking = tokio::spawn(tick(beats.clone(), gateway.plan.limits));
    [ticking.abort_handle(), tokio::spawn(housekeep(gateway.clone())).abort_handle()]
}

async fn accept(gateway: Arc<Gateway>, beats: Arc<Beats>, listener: TcpListener, tls: Option<Arc<Tls>>, places: Arc<Semaphore>) {
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of file descriptors, mostly: connections that end will free some.
                warn!(error = %e, "cannot accept");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (gateway, beats, tls) = (gateway.clone(), beats.clone(), tls.clone());
        let arrival = Arrival { peer: Some(peer.ip()), tls: tls.is_some() };
        tokio::spawn(async move {
            connection(gateway, beats, stream, arrival, tls, Arc::new(place)).await;
        });
    }
}

async fn connection(gateway: Arc<Gateway>, beats: Arc<Beats>, stream: TcpStream, arrival: Arrival, tls: Option<Arc<Tls>>, place: Place) {
    let stream = Patient::new(stream, Duration::from_millis(gateway.plan.limits.write_timeout_ms));
    match tls {
        None => {
            let told = pin!(told_to(gateway.draining.subscribe()));
            let connection = pin!(one_by_one(&gateway, beats, stream, arrival, place));
            drive(connection, |connection| connection.graceful_shutdown(), told).await;
        }
        // Boxed, so that a connection in plain text does not carry it.
        Some(tls) => Box::pin(secure(gateway, beats, stream, arrival, tls, place)).await,
    }
}

/// Shakes hands, and serves what was agreed on.
async fn secure(gateway: Arc<Gateway>, beats: Arc<Beats>, stream: Patient, arrival: Arrival, tls: Arc<Tls>, place: Place) {
    let patience = Duration::from_millis(gateway.plan.limits.header_timeout_ms);
    let accepted = tokio::time::timeout(patience, tls.accept(stream)).await;
    drop(tls);
    match accepted {
        Ok(Ok((stream, Speaks::Http1))) => {
            let told = pin!(told_to(gateway.draining.subscribe()));
            let connection = pin!(one_by_one(&gateway, beats, stream, arrival, place));
            drive(connection, |connection| connection.graceful_shutdown(), told).await;
        }
        Ok(Ok((stream, Speaks::Http2))) => side_by_side(gateway, beats, stream, arrival).await,
        Ok(Ok((_, Speaks::Nothing))) => {}
        Ok(Err(e)) => debug!(error = %e, "a handshake failed"),
        Err(_) => debug!("a handshake took too long"),
    }
}

/// A connection of HTTP/1.1, which a page beside ours may make another one of: that takes over its place.
fn one_by_one<S>(
    gateway: &Arc<Gateway>,
    beats: Arc<Beats>,
    stream: S,
    arrival: Arrival,
    place: Place,
) -> http1::UpgradeableConnection<TokioIo<S>, impl HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &gateway.plan.limits;
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_millis(limits.header_timeout_ms));
    builder.max_buf_size(limits.header_bytes).max_headers(100);
    let gateway = gateway.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(place.clone());
        }
        // Boxed, so that a connection that only waits does not carry the largest of all answers.
        let answer = Box::pin(routes::handle(gateway.clone(), beats.clone(), request, arrival));
        async move { Ok(answer.await) }
    });
    builder.serve_connection(TokioIo::new(stream), service).with_upgrades()
}

/// A connection of HTTP/2.
async fn side_by_side<S>(gateway: Arc<Gateway>, beats: Arc<Beats>, stream: S, arrival: Arrival)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (limits, draining) = (gateway.plan.limits, gateway.draining.subscribe());
    let flow = Flow::new();
    let requests = flow.clone();
    let service = service_fn(move |request| {
        let under_way = requests.begin();
        let answer = Box::pin(routes::handle(gateway.clone(), beats.clone(), request, arrival));
        async move { Ok::<_, Infallible>(answer.await.map(|body| Flowing::new(body, under_way))) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let connection = pin!(connection);
    let unused = pin!(async {
        tokio::select! {
            () = told_to(draining) => {}
            () = flow.idle(Duration::from_millis(limits.header_timeout_ms)) => {}
        }
    });
    tokio::select! {
        () = drive(connection, |connection| connection.graceful_shutdown(), unused) => {}
        () = flow.stuck(Duration::from_millis(limits.write_timeout_ms)) => debug!("closing a connection: the peer makes no room"),
    }
}

/// Returns when we are told to stop.
pub(crate) async fn told_to(mut draining: watch::Receiver<bool>) {
    // Not `wait_for`, which is larger, and waits with every connection.
    while !*draining.borrow_and_update() && draining.changed().await.is_ok() {}
}

/// Serves a connection until it ends, by itself or, when `enough` is done, in good order. Both are pinned by the
/// caller, for what is moved in here would be carried twice.
fn drive<C, E>(mut connection: Pin<&mut C>, shut_down: impl Fn(Pin<&mut C>), mut enough: Pin<&mut E>) -> impl Future<Output = ()>
where
    C: Future<Output = hyper::Result<()>>,
    E: Future<Output = ()>,
{
    let mut told = false;
    poll_fn(move |cx| {
        if !told && enough.as_mut().poll(cx).is_ready() {
            told = true;
            shut_down(connection.as_mut());
        }
        connection.as_mut().poll(cx).map(|ended| {
            if let Err(e) = ended {
                debug!(error = %e, "a connection broke");
            }
        })
    })
}

/// Opens the audit file again on SIGHUP: it may have been moved away.
async fn reopen(audit: Arc<Audit>) {
    let mut hangups = Hangups::new();
    loop {
        hangups.next().await;
        audit.reopen();
    }
}

async fn tick(beats: Arc<Beats>, limits: Limits) {
    let part = Duration::from_millis(limits.keepalive_ms) / Beats::SLOTS as u32;
    // Not at once: a stream that has just been opened has had its first comment.
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + part, part);
    for tick in 0.. {
        every.tick().await;
        beats.tick(tick);
    }
}

/// Once a second, for as long as it is polled.
pub(crate) async fn housekeep(gateway: Arc<Gateway>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    for tick in 0.. {
        every.tick().await;
        gateway.housekeep(tick);
    }
}

/// SIGTERM and Ctrl-C. Listening from the beginning, so that none is missed in between.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: Option<tokio::signal::unix::Signal>,
    #[cfg(unix)]
    interrupt: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    #[cfg(unix)]
    pub(crate) fn new() -> Signals {
        use tokio::signal::unix::{SignalKind, signal};
        Signals { terminate: signal(SignalKind::terminate()).ok(), interrupt: signal(SignalKind::interrupt()).ok() }
    }

    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        let either = poll_fn(|cx| {
            let told = [&mut self.terminate, &mut self.interrupt].into_iter().flatten().any(|s| s.poll_recv(cx).is_ready());
            if told { Poll::Ready(()) } else { Poll::Pending }
        });
        either.await;
    }

    #[cfg(not(unix))]
    pub(crate) fn new() -> Signals {
        Signals {}
    }

    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// As many open files as the system lets us have: the soft limit is a default for programs that
/// use `select`, and every connection is a file.
pub fn raise_file_limit() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        soft_file_limit();
        if limit.current != limit.maximum {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        }
    }
}

/// The soft limit on open files that we were started with, for the servers we start.
pub fn soft_file_limit() -> u64 {
    static FOUND: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    #[cfg(unix)]
    let found = || rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1024);
    #[cfg(not(unix))]
    let found = || 1024;
    *FOUND.get_or_init(found)
}

/// A connection whose peer must read: one that takes nothing for too long is closed, and with it
/// everything that waited for it.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    blocked: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, patience: Duration) -> Patient {
        Patient { stream, patience, blocked: None }
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let patience = self.patience;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(patience)));
        match blocked.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.check(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.check(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_idle_connection_is_small() {
        let plan = crate::config::Config::default().check().unwrap();
        let gateway = Gateway::new(plan).unwrap();
        let beats = Arc::new(Beats::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let place = Arc::new(Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap());
        let future = connection(gateway, beats, stream, Arrival::default(), None, place);
        let size = std::mem::size_of_val(&future);
        assert!(size < 1024, "{size} bytes wait with every idle stream");
    }
}
