//! Five MCP servers, each a handler of the official SDK that Landbridge serves.
//!
//! ```text
//!   cli ──▶ settings ──▶ an App starts ──▶ Ready: a handler, its profile, its pages ──▶ Landbridge
//! ```
//!
//! Every one of them starts with no setting at all. What is not configured says so when it is used.

pub mod app;
pub mod cli;
pub mod contacts;
pub mod content;
pub mod guide;
pub mod settings;
pub mod skillport;
pub mod sprint;
pub mod ws;

/// All of them.
pub const APPS: [&app::App; 5] = [&contacts::APP, &skillport::APP, &content::APP, &sprint::APP, &guide::APP];
