//! The product as people run it: the real binary, real children, real sockets.
//!
//! One test binary, so that it is linked once. `gateway` starts a Landbridge and ends it by its
//! pid; `wire` is a client that shows every byte. Only `embed` and `embed_pipe` serve from within, and
//! `login` has no URL of its own yet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A failed expectation is the point.
#![allow(unreachable_pub)] // Nobody depends on a test.

mod foreign;
mod gateway;
mod guarded;
mod pipe;
mod postgres;
mod secure;
mod visitors;
mod wire;

mod apart;
mod asks;
mod asks_live;
mod asks_over;
mod asks_shared;
mod audit;
mod authority;
mod authority_races;
mod authority_walk;
mod check;
mod children;
mod children_cli;
mod children_end;
mod children_shared;
mod children_stop;
mod config;
mod config_cli;
mod connect;
mod connect_far;
mod connect_life;
mod connect_login;
mod documents;
mod embed;
mod embed_pipe;
mod fetching;
mod fidelity;
mod forwarded;
mod guards;
mod habits;
mod healing;
mod inside;
#[cfg(target_os = "linux")]
mod keyring;
mod limits;
mod login;
mod login_pages;
mod merged;
mod metrics;
mod parked;
mod people;
mod rates;
mod reload;
mod remote;
mod remote_aside;
mod remote_changed;
mod remote_pipes;
mod remote_stateless;
mod remote_tls;
mod resource;
mod sessions;
mod sse;
mod standing;
mod stateless;
mod store;
mod streams;
mod tasks;
mod tasks_asking;
mod tasks_edges;
mod tasks_followed;
mod tasks_ids;
mod tasks_offered;
mod tls;
mod tls_acme;
mod tokens;
mod tools;
mod user_vault;
