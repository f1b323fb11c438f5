//! A `ServerHandler` of the official Rust SDK ([`rmcp`]) as a server that Landbridge serves: over HTTP+SSE,
//! Streamable HTTP and stdio, to clients of every revision, with elicitation, sampling and roots.
//!
//! ```no_run
//! use landbridge::embed::{Embed, Error};
//! use rmcp::{ServerHandler, handler::server::wrapper::Parameters, tool, tool_handler, tool_router};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Whom {
//!     name: String,
//! }
//!
//! struct Greeter;
//!
//! #[tool_router]
//! impl Greeter {
//!     #[tool(description = "Greets somebody")]
//!     async fn greet(&self, Parameters(Whom { name }): Parameters<Whom>) -> String {
//!         format!("Hello, {name}!")
//!     }
//! }
//!
//! #[tool_handler]
//! impl ServerHandler for Greeter {}
//!
//! # async fn serve() -> Result<(), Error> {
//! Embed::new("greeter", landbridge_rmcp::handler(|| Greeter)).listen("127.0.0.1:8808").run().await
//! # }
//! ```
//!
//! What it costs, beside a [`Service`](landbridge::embed::Service) of Landbridge's own, is what the SDK costs:
//! its types are read from JSON and written as JSON again, and a call crosses a few of its tasks.

mod lines;

use landbridge::embed::{Callers, Pipe, Principal, Protocol};
use rmcp::{ServerHandler, ServiceExt as _};

use lines::Lines;

/// Serves the handlers that `make` makes: one for each session of a client, and one for all stateless clients
/// of the same abilities.
///
/// A handler is spoken to in the handshake era, in which it may ask its client at any time, by its peer:
/// `peer.elicit(…)`, `peer.create_message(…)`, `peer.list_roots(…)`. Clients of 2026-07-28 are asked all the
/// same. A handler that returns `InputRequired` instead is one of 2026-07-28: say so by
/// [`.protocol(Protocol::Auto)`](Pipe::protocol), and clients of the handshake era are asked all the same.
pub fn handler<H: ServerHandler>(make: impl Fn() -> H + Send + Sync + 'static) -> Pipe {
    handler_for(move |_| make())
}

/// The same for handlers that want to know whose calls they answer. All calls of one handler are of one
/// principal: what [`Principal::person`] says, whatever transport they come by.
pub fn handler_for<H: ServerHandler>(make: impl Fn(Principal) -> H + Send + Sync + 'static) -> Pipe {
    handler_for_callers(move |callers| make(callers.principal))
}

/// The same for handlers that also want to know how their callers are connected: by standard streams, HTTP+SSE or
/// Streamable HTTP.
pub fn handler_for_callers<H: ServerHandler>(make: impl Fn(Callers) -> H + Send + Sync + 'static) -> Pipe {
    let serve = move |callers, input, output| {
        let handler = make(callers);
        async move {
            let running = handler.serve(Lines::new(input, output)).await.map_err(|e| e.to_string())?;
            running.waiting().await.map(drop).map_err(|e| e.to_string())
        }
    };
    Pipe::for_callers(serve).protocol(Protocol::Legacy)
}
