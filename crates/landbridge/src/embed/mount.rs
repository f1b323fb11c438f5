//! The gateway as a service for somebody else's router and listener.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::task::AbortHandle;
use tower_service::Service;

use crate::arrival::Arrival;
use crate::body::{Beats, Body};
use crate::gateway::Gateway;
use crate::{routes, serve};

/// Answers HTTP requests, as a [`tower_service::Service`]: `/mcp`, `/sse`, `/messages`,
/// `/servers/NAME/…`, `/healthz`, `/readyz`, `/metrics`.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), landbridge::embed::Error> {
/// use axum::{Router, routing::get};
/// use landbridge::embed::{Embed, Tools};
///
/// let mcp = Embed::new("greeter", Tools::new("greeter", "1.0.0")).path("/tools").mount()?;
/// let router: Router = Router::new().route("/", get("a page of ours")).nest_service("/tools", mcp);
/// # Ok(())
/// # }
/// ```
///
/// What a listener has to see to is then its owner's: TLS, who may connect, how many, how long a head may
/// take, and that a peer which reads nothing is closed.
#[derive(Clone)]
pub struct Mounted(Arc<Running>);

struct Running {
    gateway: Arc<Gateway>,
    beats: Arc<Beats>,
    clocks: [AbortHandle; 2],
}

impl fmt::Debug for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mounted").finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clocks.iter().for_each(AbortHandle::abort);
        self.gateway.stop();
        self.gateway.sessions.close_all();
    }
}

impl Mounted {
    pub(super) fn new(gateway: Arc<Gateway>) -> Mounted {
        let beats = Arc::new(Beats::new());
        let clocks = serve::clocks(&gateway, &beats);
        Mounted(Arc::new(Running { gateway, beats, clocks }))
    }

    /// Ends in good order: takes nothing new, ends the streams that only wait, and returns when every session has
    /// had its answers and no call is left, or after [`Limits::drain_ms`](crate::plan::Limits). What is under way
    /// then ends. For the moment when a listener is told to shut down: it waits for streams that this ends.
    pub async fn close(&self) {
        let gateway = &self.0.gateway;
        gateway.draining.send_replace(true);
        let drained = async {
            loop {
                gateway.close_idle_streams();
                if gateway.sessions.is_empty() && gateway.is_quiet() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(gateway.plan.limits.drain_ms), drained).await;
        gateway.stop();
        gateway.sessions.close_all();
        gateway.instances_gone().await;
    }
}

impl<B> Service<Request<B>> for Mounted
where
    B: http_body::Body<Data = Bytes, Error: fmt::Display + Send> + Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let running = self.0.clone();
        // Whose connection it is, only its listener knows.
        let arrival = Arrival::default();
        Box::pin(async move { Ok(routes::handle(running.gateway.clone(), running.beats.clone(), request, arrival).await) })
    }
}
