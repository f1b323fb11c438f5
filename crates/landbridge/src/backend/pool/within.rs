//! A server in this process that speaks lines over a pipe, as the servers of every SDK can.
//!
//! It is met, shared and ended as a child process is; it only has no process.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{DuplexStream, duplex};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tracing::debug;

use landbridge_proto::back::probe::Protocol;
use landbridge_proto::call::{Client, Principal, Transport};

use crate::backend::pool::child::{Control, Spawned};
use crate::backend::pool::pipe::{Input, Output};
use crate::plan::{Isolation, Limits};

/// What a pipe holds before whoever writes has to wait.
const CAPACITY: usize = 64 * 1024;

/// A server in this process that reads and writes one JSON-RPC message a line, as over stdio.
///
/// It is begun anew for every session of a client, so that it may keep what it knows of that client; one
/// more is shared by all stateless clients of the same abilities.
///
/// ```
/// # use landbridge::embed::Pipe;
/// # use tokio::io::{AsyncRead, AsyncWrite};
/// # async fn my_sdk(input: impl AsyncRead, output: impl AsyncWrite) -> Result<(), std::io::Error> { Ok(()) }
/// let server = Pipe::new(|input, output| async move { my_sdk(input, output).await });
/// ```
#[derive(Clone)]
pub struct Pipe {
    serve: Arc<dyn Fn(Callers, DuplexStream, DuplexStream) -> Serving + Send + Sync>,
    pub(crate) protocol: Protocol,
    pub(crate) isolation: Isolation,
    /// How clients come that have no session.
    stateless_over: Transport,
}

/// Whose calls a server answers. It holds for all of them as long as the server speaks the handshake era and its
/// [`isolation`](Pipe::isolation) is not taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// Who they are.
    pub principal: Principal,
    /// How they are connected. Clients of 2026-07-28, who have no session, come by
    /// [`Transport::Streamable`], or [`Transport::Stdio`] where that is what is served. `None`: several share this
    /// server, and may come by different ones.
    pub transport: Option<Transport>,
}

type Serving = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").field("protocol", &self.protocol).field("isolation", &self.isolation).finish_non_exhaustive()
    }
}

impl Pipe {
    /// `serve` reads requests from its first argument and writes to its second, until the first ends.
    pub fn new<F, E>(serve: impl Fn(DuplexStream, DuplexStream) -> F + Send + Sync + 'static) -> Pipe
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        Pipe::for_each(move |_, input, output| serve(input, output))
    }

    /// The same for a server that wants to know whose calls it answers: all of one are of one principal, as long as
    /// it speaks the handshake era and its [`isolation`](Pipe::isolation) is not taken away.
    pub fn for_each<F, E>(serve: impl Fn(Principal, DuplexStream, DuplexStream) -> F + Send + Sync + 'static) -> Pipe
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        Pipe::for_callers(move |callers, input, output| serve(callers.principal, input, output))
    }

    /// The same for one that also wants to know how they are connected.
    pub fn for_callers<F, E>(serve: impl Fn(Callers, DuplexStream, DuplexStream) -> F + Send + Sync + 'static) -> Pipe
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        let serve = move |callers, input, output| -> Serving {
            let serving = serve(callers, input, output);
            Box::pin(async move { serving.await.map_err(|e| e.to_string()) })
        };
        let (protocol, isolation, stateless_over) = (Protocol::Auto, Isolation::Session, Transport::Streamable);
        Pipe { serve: Arc::new(serve), protocol, isolation, stateless_over }
    }

    /// What it speaks, where that is not to be found out.
    pub fn protocol(self, protocol: Protocol) -> Pipe {
        Pipe { protocol, ..self }
    }

    /// Who shares one, where there is a handshake. By default nobody does.
    pub fn isolation(self, isolation: Isolation) -> Pipe {
        Pipe { isolation, ..self }
    }

    pub(crate) fn stateless_over(self, transport: Transport) -> Pipe {
        Pipe { stateless_over: transport, ..self }
    }

    /// Whose calls one answers that is begun for this client, or for us on behalf of all that have no session.
    pub(super) fn callers(&self, client: &Client) -> Callers {
        let transport = match (self.isolation, client.transport) {
            (Isolation::Principal | Isolation::None, _) => None,
            (Isolation::Session, Transport::Local) => Some(self.stateless_over),
            (Isolation::Session, transport) => Some(transport),
        };
        Callers { principal: client.principal.clone(), transport }
    }
}

/// Begins one. It has its place until it has ended.
pub(super) fn spawn(name: &str, pipe: &Pipe, callers: Callers, place: OwnedSemaphorePermit, limits: &Limits) -> Spawned {
    // Two, as half of one cannot be closed by itself.
    let ((stdin, input), (output, stdout)) = (duplex(CAPACITY), duplex(CAPACITY));
    let serving = tokio::spawn((pipe.serve)(callers, input, output));
    let (stop, stopped) = mpsc::channel(1);
    let (exit, exited) = watch::channel(None);
    let (done, stderr_done) = oneshot::channel();
    let _ = done.send(()); // it has no stderr of its own
    tokio::spawn(supervise(name.to_owned(), serving, stopped, exit, Duration::from_millis(limits.child_stop_ms), place));
    let (stdin, stdout): (Input, Output) = (Box::new(stdin), Box::new(stdout));
    Spawned { control: Control { stop, exited }, stdin, stdout, last_words: Arc::new(Mutex::default()), stderr_done, since: Instant::now() }
}

/// Waits for the end, and brings it about when told: its input is closed by then.
async fn supervise(
    name: String,
    mut serving: tokio::task::JoinHandle<Result<(), String>>,
    mut stopped: mpsc::Receiver<()>,
    exit: watch::Sender<Option<String>>,
    grace: Duration,
    place: OwnedSemaphorePermit,
) {
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        _ = stopped.recv() => tokio::time::timeout(grace, &mut serving).await.ok(),
    };
    let how = match ended {
        Some(Ok(Ok(()))) => "it returned".to_owned(),
        Some(Ok(Err(why))) => why,
        Some(Err(e)) if e.is_panic() => "it panicked".to_owned(),
        Some(Err(e)) => e.to_string(),
        None => {
            serving.abort();
            "it did not return when its input ended".to_owned()
        }
    };
    debug!(server = name, how, "ended");
    drop(place);
    let _ = exit.send(Some(how));
}
