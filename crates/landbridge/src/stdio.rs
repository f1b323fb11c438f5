//! A client on our own standard input and output: `landbridge connect`. Or on a connection that speaks as those do
//! ([`conversation`](crate::conversation)).
//!
//! ```text
//!   stdin ──▶ lines ──▶ `clients`: a session, stateless calls, both at once
//!                           │ pulled, while there is room
//!   stdout ◀── one write ◀─ out
//! ```
//!
//! One task reads, pulls and writes, so that a client which does not read stops what is pulled for it, and
//! one that goes on writing all the same is not read any more. Odd: here the end of the pipe, either end, is
//! the end of the process.

mod clients;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tracing::{debug, warn};

use landbridge_proto::lines::Lines;

use crate::backend::Backend;
use crate::conversation::Visitor;
use crate::gateway::Gateway;
use crate::serve::{Signals, housekeep};
use clients::Clients;

/// What was asked before standard input ended is answered if it takes no longer: scripts pipe a few
/// requests in and read what comes out. A host that closes our input waits twice as long before it does
/// more than that.
const LINGER: Duration = Duration::from_secs(1);
/// For the last words, when nobody may be reading any more.
const FLUSH: Duration = Duration::from_millis(500);

/// Serves the client at the other end of our standard streams, until it or a signal says that this is
/// enough; then ends in good order. The caller must end the process: the thread that reads standard
/// input cannot be told to.
pub async fn run(gateway: Arc<Gateway>) -> Result<(), String> {
    let backend = gateway.front().ok_or("no server")?;
    let housekeeping = tokio::spawn(housekeep(gateway.clone()));
    let mut signals = Signals::new();
    let mut pipe = Pipe::new(gateway.clone(), backend, tokio::io::stdin(), tokio::io::stdout(), None);
    let ended = tokio::select! {
        end = poll_fn(|cx| pipe.poll(cx)) => Some(end),
        () = signals.next() => None,
    };
    debug!(?ended, "leaving");
    if let Some(End::Input) = ended {
        tokio::select! {
            _ = tokio::time::timeout(LINGER, poll_fn(|cx| pipe.poll_answered(cx))) => {}
            () = signals.next() => {}
        }
    }
    tokio::spawn(async move {
        // Hosts that close our input send a signal after a while; that is what we are at already.
        if ended.is_some() {
            signals.next().await;
        }
        signals.next().await;
        warn!("told again; leaving at once");
        std::process::exit(130);
    });
    pipe.finish().await;
    housekeeping.abort();
    gateway.stop();
    gateway.instances_gone().await;
    Ok(())
}

/// Which end was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Input,
    Output,
}

/// Both ends of the pipe, and what is between them.
pub(crate) struct Pipe<R, W> {
    gateway: Arc<Gateway>,
    /// It is all there is: when it ends, so do we.
    alone: bool,
    clients: Clients,
    input: R,
    lines: Lines,
    /// Nothing more can be read.
    ended: bool,
    output: W,
    /// Lines to be written.
    out: BytesMut,
    /// Something was written and not flushed.
    dirty: bool,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pipe<R, W> {
    /// So much is written at once, more or less: beyond it nothing is pulled.
    const ENOUGH: usize = 64 * 1024;

    /// `visitor`: who it is, if not whoever has started us.
    pub(crate) fn new(gateway: Arc<Gateway>, backend: Arc<Backend>, input: R, output: W, visitor: Option<Visitor>) -> Pipe<R, W> {
        let lines = Lines::new(gateway.plan.limits.message_bytes);
        let alone = visitor.is_none();
        let clients = Clients::new(gateway.clone(), backend, visitor);
        Pipe { gateway, alone, clients, input, lines, ended: false, output, out: BytesMut::new(), dirty: false }
    }

    /// Goes on until one of the ends is closed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if self.poll_say(cx).is_err() {
                return Poll::Ready(End::Output);
            }
            if !ready!(self.poll_read(cx)) {
                return Poll::Ready(End::Input);
            }
        }
    }

    /// Goes on without reading until every call is answered.
    pub(crate) fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let closed = self.poll_say(cx).is_err();
        let answered = self.out.is_empty() && !self.dirty && self.clients.n_waiting() == 0;
        if closed || answered { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Says what there is to say, as long as it is taken.
    fn poll_say(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let more = self.clients.pull(&mut self.out, Self::ENOUGH, cx);
            if let Poll::Ready(Err(e)) = self.poll_write(cx) {
                return Err(e);
            }
            if !more || self.out.len() >= Self::ENOUGH {
                return Ok(());
            }
        }
    }

    /// Takes the lines that are there, or reads; false: there will be no more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut took = false;
        loop {
            // Who does not read is refused no more either; the write that goes on will wake us.
            while self.out.len() < self.gateway.plan.limits.queue_bytes {
                let Some(line) = self.lines.next_line() else { break };
                self.clients.handle_line(line, &mut self.out, cx);
                took = true;
            }
            if took {
                return Poll::Ready(true);
            }
            if self.out.len() >= self.gateway.plan.limits.queue_bytes {
                return Poll::Pending;
            }
            if self.ended {
                return Poll::Ready(false);
            }
            let read = pin!(self.input.read_buf(self.lines.buffer())).poll(cx);
            if let Ok(0) | Err(_) = ready!(read) {
                self.ended = true;
                // The last line of many a script has no end.
                self.lines.buffer().extend_from_slice(b"\n");
            }
        }
    }

    /// Writes what waits, all of it at once if it is taken.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = ready!(Pin::new(&mut self.output).poll_write(cx, &self.out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
            self.dirty = true;
        }
        if self.dirty {
            ready!(Pin::new(&mut self.output).poll_flush(cx))?;
            self.dirty = false;
            // One long message need not cost its memory for good.
            if self.out.capacity() > 16 * Self::ENOUGH {
                self.out = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The last words, and no more: what is under way is withdrawn.
    pub(crate) async fn finish(mut self) {
        let n_calls = self.clients.n_waiting();
        if self.alone {
            if n_calls > 0 {
                warn!(n_calls, "the client has left; its calls are withdrawn");
            }
            self.gateway.close_idle_streams();
        }
        poll_fn(|cx| {
            self.clients.pull(&mut self.out, self.gateway.plan.limits.queue_bytes, cx);
            Poll::Ready(())
        })
        .await;
        self.clients.leave();
        let _ = tokio::time::timeout(FLUSH, poll_fn(|cx| self.poll_write(cx))).await;
    }
}
