//! Facing the client.
//!
//! [`streamable`] and [`stateless`] sort what arrives on the one HTTP endpoint, [`stdio`] what arrives
//! on our own standard input; a handshake client's state between its exchanges is its [`session`],
//! whichever transport it uses.

pub mod session;
pub mod stateless;
pub mod stdio;
pub mod streamable;
