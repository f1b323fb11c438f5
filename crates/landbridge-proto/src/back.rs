//! Facing the server.
//!
//! A child process is met by [`probe`], which finds out what it speaks; from then on it is a
//! [`link`]: one pipe, many calls. [`stdio`] writes a call in the words of the server's era.

pub mod link;
pub mod probe;
pub mod stdio;
