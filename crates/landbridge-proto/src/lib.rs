//! The Model Context Protocol on the wire, in every revision, without IO.
//!
//! ```text
//!            front                                  back
//!  client ─▶ streamable ─┐                      ┌─ probe, then link ─▶ child process
//!  client ─▶ session     ├─▶ Call ─▶ bridge ─▶ ─┤
//!  client ─▶ stateless  ─┘ ◀ Reply ◀            └─ (in this process: no wire at all)
//! ```
//!
//! Each edge translates between its own wire and the five words of [`call`], so edges are
//! written once per wire. A function where nothing is remembered, a struct where something is:
//! those have `handle_*` (something arrived) and `poll_*` (something to do), and take the time
//! as an argument. The caller owns sockets, clocks and randomness; tests own time.
//!
//! Modules in reading order.

pub mod abilities;
pub mod back;
pub mod bridge;
pub mod call;
pub mod fault;
pub mod forwarded;
pub mod front;
pub mod headers;
pub mod json;
pub mod lines;
pub mod merge;
pub mod message;
pub mod methods;
pub mod oauth;
pub mod rates;
pub mod sealed;
pub mod sse;
pub mod subscribe;
pub mod tasks;
pub mod version;
