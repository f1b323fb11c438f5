//! Several servers as one: how what they name is named in front.
//!
//! ```text
//!   files: read_file      ──▶ files__read_file            tools and prompts
//!   files: file:///notes  ──▶ files+file:///notes         resources and their templates
//! ```
//!
//! [`names`] says how, [`letters`] where in a message names stand, and [`pages`] makes one listing of
//! several. Whatever is no name of theirs stays as it is.

pub mod letters;
pub mod names;
pub mod pages;
