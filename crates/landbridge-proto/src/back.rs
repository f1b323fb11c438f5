//! Facing the server.
//!
//! A child process is met by [`probe`], a server elsewhere by [`approach`]: they find out what it speaks.
//! From then on it is a [`link`]: one pipe or session, many calls. [`stdio`] writes a call in the words of
//! the server's era, [`stateless`] what its headers repeat where it goes over HTTP, and [`streamable`] knows
//! what becomes of it there.

pub mod approach;
pub mod endpoint;
pub mod link;
pub mod probe;
pub mod stateless;
pub mod stdio;
pub mod streamable;
