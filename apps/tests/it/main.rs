//! The applications as people run them: the real program, real sockets, clients of every kind.
//!
//! A test is named after the row of `apps/rows.tsv` that it proves: `s4_17_…` is S4-17.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A failed expectation is the point.
#![allow(unreachable_pub)] // Nobody depends on a test.

#[allow(dead_code)] // Not every application needs every way to ask.
mod app;
mod contacts;
mod contacts_data;
mod contacts_file;
mod contacts_login;
mod content;
mod content_time;
mod content_tools;
mod content_wire;
mod content_ws;
mod docs;
mod every;
mod guide;
mod guide_bridges;
mod guide_login;
mod lines;
mod skillport;
mod skillport_audience;
mod skillport_github;
mod skillport_google;
mod skillport_house;
mod skillport_login;
mod skillport_rights;
mod skillport_rows;
mod sprint;
mod sprint_servers;
mod sprint_tools;
#[path = "../../../crates/landbridge/tests/it/wire.rs"]
#[allow(dead_code)]
mod wire;
