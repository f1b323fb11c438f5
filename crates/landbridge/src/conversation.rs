//! A client at the other end of a connection that is somebody else's: a WebSocket, for instance, that a page beside ours
//! has opened. It speaks a message a line, as over stdio, and has shown who it is in the request that opened it.
//!
//! ```text
//!   request ──▶ admitted ──Visitor──▶ the page ──▶ Inside::begin ──▶ Conversation ──▶ run(input, output)
//! ```
//!
//! What bounds a session over HTTP bounds this one: places, rates, sizes, and the credential that let it in.

use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;

use landbridge_proto::call::{Call, Principal};
use landbridge_proto::fault::{Fault, Kind};

use crate::audit::Calling;
use crate::auth::Caller;
use crate::backend::{Backend, Replies};
use crate::body::Beat;
use crate::gateway::Gateway;
use crate::mcp::accompanied;
use crate::plan::Rights;
use crate::rates::Held;
use crate::serve::told_to;
use crate::stdio::Pipe;

/// Whoever sent the request for a guarded page: an extension of that request. As long as one is kept, so is the place that
/// its connection has among all connections.
#[derive(Clone)]
pub struct Visitor {
    caller: Caller,
    from: Option<IpAddr>,
    _place: Option<Place>,
}

/// The place of a connection, as long as somebody uses it.
pub(crate) type Place = Arc<OwnedSemaphorePermit>;

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Visitor").field(&self.caller).finish()
    }
}

impl Visitor {
    pub(crate) fn new(caller: Caller, from: Option<IpAddr>, place: Option<Place>) -> Visitor {
        Visitor { caller, from, _place: place }
    }

    /// Whose requests they are.
    pub fn principal(&self) -> Principal {
        self.caller.principal()
    }

    /// One more request of theirs.
    pub(crate) fn ask(&self, gateway: &Gateway) -> Result<(), Fault> {
        gateway.rates.request(self.from)?;
        self.caller.identity().map_or(Ok(()), |identity| gateway.rates.caller(identity))
    }

    /// A place for a call of theirs, and what is told of it.
    pub(crate) fn calls(&self, gateway: &Gateway, backend: &Arc<Backend>, call: &Call) -> Result<Accompanying, Fault> {
        let held = gateway.rates.call(&call.client.principal)?;
        Ok(Accompanying(held, Calling::new(&gateway.audit, &self.caller, backend, call, self.from)))
    }
}

/// What ends with a call.
pub(crate) struct Accompanying(Option<Held>, Option<Calling>);

impl Accompanying {
    pub(crate) fn begun(self, begun: Result<Replies, Fault>) -> Result<Replies, Fault> {
        accompanied(begun.map(|replies| (replies, self.0)), self.1)
    }
}

/// A client that may speak.
pub struct Conversation {
    gateway: Arc<Gateway>,
    backend: Arc<Backend>,
    visitor: Visitor,
    _held: Option<Held>,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Conversation").field(&self.visitor).finish()
    }
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// One of its ends was closed.
    Closed,
    /// We are being stopped; what was under way has been answered.
    Stopping,
    /// What let the client in counts no more.
    Expired,
}

impl Conversation {
    pub(crate) fn begin(gateway: &Arc<Gateway>, visitor: &Visitor) -> Result<Conversation, Fault> {
        let Some(backend) = gateway.front() else { return Err(Fault::client(Kind::NoSuchPath).tell("nothing is served here")) };
        // Which tool needs which scope is looked up where requests of HTTP are.
        if visitor.caller.identity().is_some_and(|who| who.scopes.is_some())
            && gateway.running().plan.rights.values().any(Rights::has_tools)
        {
            return Err(Fault::client(Kind::Forbidden).tell("tools here have scopes of their own; use /mcp"));
        }
        let held = gateway.place_for_session(&visitor.principal())?;
        Ok(Conversation { gateway: gateway.clone(), backend, visitor: visitor.clone(), _held: held })
    }

    /// Serves it: reads a message a line, and writes what there is to say, until one end closes, we are told to stop, or
    /// what let the client in counts no more. Whoever does not read is not read any more either.
    pub async fn run(self, input: impl AsyncRead + Unpin + Send, output: impl AsyncWrite + Unpin + Send) -> Left {
        let beat = Arc::<Beat>::default();
        self.gateway.auth().watch(&self.visitor.caller, &beat, false);
        let mut pipe = Pipe::new(self.gateway.clone(), self.backend.clone(), input, output, Some(self.visitor.clone()));
        let over = poll_fn(|cx| {
            loop {
                // Asked again after its waker is there: it may have ended in between.
                match beat.poll(cx) {
                    _ if beat.is_over() => return Poll::Ready(()),
                    Poll::Ready(_) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        let left = tokio::select! {
            _ = poll_fn(|cx| pipe.poll(cx)) => Left::Closed,
            () = told_to(self.gateway.draining.subscribe()) => Left::Stopping,
            () = over => Left::Expired,
        };
        if left != Left::Closed {
            // What was let in is answered.
            let patience = Duration::from_millis(self.gateway.plan.limits.drain_ms);
            let _ = tokio::time::timeout(patience, poll_fn(|cx| pipe.poll_answered(cx))).await;
        }
        tracing::debug!(?left, who = ?self.visitor, "a conversation has ended");
        pipe.finish().await;
        left
    }
}
