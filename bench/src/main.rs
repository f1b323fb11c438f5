//! The command line of the bench: the run itself, and the processes it starts from its own binary.
//!
//! Odd: one binary plays every part. `run` starts `floor-http`, `floor-stdio` and `echo` as
//! children of itself, so that a run needs nothing installed but the gateways it compares.
//! `echo` is dispatched before any runtime exists, because the child's cost is part of every row.

mod aims;
mod answer;
mod ask;
mod asking_client;
mod ballast;
mod book;
mod call;
mod connection;
mod echo;
mod embedded;
mod events;
mod fault;
mod floor_http;
mod floor_proxy;
mod floor_stdio;
mod gateway;
mod http_client;
mod idle;
mod load;
mod machine;
mod meter;
mod open_files;
mod orchestra;
mod plan;
mod report;
mod request;
mod response;
mod sample;
mod session_server;
mod sse_client;
mod startup;
mod stdio_load;
mod tally;
mod targets;
mod wear;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::fault::Fault;

#[derive(Parser)]
#[command(name = "landbridge-bench", about = "Measures Landbridge beside its floors and its peers.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure everything, print one table and write the results file.
    Run(RunArguments),
    /// Put load on one server that is already running.
    Load(LoadArguments),
    /// Be a very fast MCP server over stdio, with a tool that echoes and one that asks its client.
    Echo {
        /// Speak 2026-07-28 instead of the handshake revisions.
        #[arg(long)]
        modern: bool,
    },
    /// Be the first floor: a bare hyper server that parses and echoes.
    FloorHttp {
        #[arg(long)]
        listen: SocketAddr,
        /// Speak 2026-07-28 instead of the handshake revisions.
        #[arg(long)]
        modern: bool,
    },
    /// Be the third floor: a bare reverse proxy in front of an HTTP server.
    FloorProxy {
        #[arg(long)]
        listen: SocketAddr,
        /// Where that server listens.
        #[arg(long)]
        upstream: SocketAddr,
    },
    /// Be a Rust program that serves itself.
    Embedded {
        #[arg(value_enum)]
        kind: embedded::Kind,
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Be an HTTP server with sessions.
    SessionServer {
        #[arg(long)]
        listen: SocketAddr,
        /// What it forgets behind each call.
        #[arg(long, value_enum, default_value = "nothing")]
        forgets: session_server::Forgets,
    },
    /// Be the second floor: a bare bridge to one stdio child.
    FloorStdio {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(clap::Args)]
pub(crate) struct RunArguments {
    /// Short windows; peers once instead of three times.
    #[arg(long)]
    quick: bool,
    /// Only rows whose key contains this text (their floors come along).
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Leave the npm and PyPI gateways out.
    #[arg(long)]
    no_peers: bool,
    /// The landbridge binary; its rows are left out when the file is missing.
    #[arg(long, default_value = "target/release/landbridge")]
    landbridge: PathBuf,
    /// Where the peers are installed.
    #[arg(long, default_value = "bench/.peers")]
    peers: PathBuf,
    /// The file to write the results to.
    #[arg(long, default_value = "bench/RESULTS.md")]
    out: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct LoadArguments {
    #[arg(long, value_enum)]
    mode: plan::Mode,
    /// What the clients declare and call.
    #[arg(long, value_enum, default_value = "plain")]
    work: plan::Work,
    /// Loopback address of the server.
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value = "/mcp")]
    mcp_path: String,
    #[arg(long, default_value = "/sse")]
    sse_path: String,
    /// Process whose CPU and memory are measured.
    #[arg(long)]
    pid: u32,
    /// Process of the server behind it, where it did not start that itself.
    #[arg(long, value_name = "PID")]
    behind: Option<u32>,
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Echo { modern } => echo::serve(modern)
            .map_err(|error| Fault::setup(format!("the echo child lost its pipes ({error}); its parent closed them early"))),
        Command::FloorHttp { listen, modern } => all_cores().and_then(|runtime| runtime.block_on(floor_http::serve(listen, modern))),
        Command::FloorProxy { listen, upstream } => all_cores().and_then(|runtime| runtime.block_on(floor_proxy::serve(listen, upstream))),
        Command::FloorStdio { listen, command } => all_cores().and_then(|runtime| runtime.block_on(floor_stdio::serve(listen, &command))),
        Command::Embedded { kind, listen } => all_cores().and_then(|runtime| runtime.block_on(embedded::serve(kind, listen))),
        Command::SessionServer { listen, forgets } => {
            all_cores().and_then(|runtime| runtime.block_on(session_server::serve(listen, forgets)))
        }
        Command::Run(arguments) => one_thread().and_then(|runtime| runtime.block_on(orchestra::run(&arguments))),
        Command::Load(arguments) => one_thread().and_then(|runtime| runtime.block_on(orchestra::load_one(&arguments))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("landbridge-bench: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn all_cores() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(no_runtime)
}

/// The generator keeps to one thread: it shares the machine with what it measures.
fn one_thread() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)
}

fn no_runtime(error: std::io::Error) -> Fault {
    Fault::setup(format!("the system refused an async runtime ({error}); check the limits on threads and open files"))
}
