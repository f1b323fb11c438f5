//! What the crate promises, as conversations (`tests/cases`) and as properties.
//!
//! One binary, so that it is linked once. `pair` stands in for the product between the edges:
//! it owns virtual time and both ends of the wire, and does what the product does with them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A failed expectation is the point.
#![allow(clippy::disallowed_methods)] // An origin for virtual time; nothing waits.

mod conversation;
mod events;
mod far;
mod pair;
mod pattern;
mod properties;
mod simulation;
