//! Any MCP server, for any MCP client.
//!
//! A request finds its way through the modules in this order: [`serve`] accepts it, [`routes`]
//! knows the URL, [`mcp`] collects and answers it, [`gateway`] finds the server, [`backend`] runs
//! it. Where our client has started us itself, [`stdio`] is all of the first three. What the protocol
//! demands is decided in the crate `landbridge-proto`, without IO.
//!
//! To serve a Rust program of your own, begin at [`embed`].

pub mod arrival;
pub mod audit;
pub mod auth;
pub mod authority;
pub mod backend;
pub mod body;
pub mod check;
pub mod config;
pub mod connects;
pub mod conversation;
pub mod demo;
pub mod embed;
pub mod eras;
pub mod fetch;
pub mod foreign;
pub mod gateway;
pub mod guard;
pub mod home;
pub mod introspect;
pub mod jwt;
pub mod login;
pub mod mcp;
pub mod observe;
pub mod pages;
pub mod plan;
pub mod profile;
pub mod rates;
pub mod recent;
pub mod reload;
pub mod routes;
pub mod serve;
pub mod sessions;
pub mod stdio;
pub mod store;
pub mod system;
pub mod task;
pub mod tls;
pub mod vault;
pub mod visits;
pub mod welcome;
