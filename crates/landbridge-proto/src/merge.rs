//! Several servers as one: how what they name is named in front.
//!
//! ```text
//!   files: read_file      ──▶ files__read_file            tools and prompts
//!   files: file:///notes  ──▶ files+file:///notes         resources and their templates
//! ```
//!
//! [`names`] says how, [`letters`] where in a message names stand, [`pages`] makes one listing of several, and
//! [`hello`] one introduction. Whatever is no name of theirs stays as it is.

pub mod hello;
pub mod letters;
pub mod names;
pub mod pages;
