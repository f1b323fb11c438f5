//! `landbridge check`: looks at a server and says what it found.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use landbridge::check::{self, Options};
use landbridge::config::Config;

use crate::cli::{config, print};

/// The longest that one probe may take.
const MAX_TIMEOUT: f64 = 3_600.0;

#[derive(Args)]
pub(super) struct Check {
    /// The server: a URL, or a command line such as 'npx -y @modelcontextprotocol/server-everything'
    target: String,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    /// Send this header with every request (repeat for more); ${NAME} in it is taken from the environment
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// How many seconds each probe may take; the whole may take twenty times as long
    #[arg(long, value_name = "SECS", default_value = "10")]
    timeout: f64,

    /// Call this tool once, with these arguments (a JSON object). No other tool is called
    #[arg(long, num_args = 1..=2, value_names = ["NAME", "ARGUMENTS"])]
    call: Vec<String>,
}

pub(super) const AFTER: &str = "\
Exit code: 0 if no rule is broken, 1 if one is, 2 if the server cannot be reached or this was called
wrongly. Only what the specification demands (MUST) can be broken; the rest are warnings.
docs/check.md explains each rule and the JSON.";

/// What cannot be checked ends with this.
const UNUSABLE: u8 = 2;

pub(super) async fn run(options: Check) -> ExitCode {
    let json = options.json;
    let work = async {
        tokio::select! {
            report = checked(options) => report,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        }
    };
    match work.await {
        Ok(report) => {
            let text = if json { serde_json::to_string_pretty(&report.json()).unwrap_or_default() } else { report.table() };
            print(&text);
            ExitCode::from(report.exit_code())
        }
        Err(why) => {
            eprintln!("landbridge: {why}");
            ExitCode::from(UNUSABLE)
        }
    }
}

async fn checked(options: Check) -> Result<check::Report, String> {
    if !(options.timeout > 0.0 && options.timeout <= MAX_TIMEOUT) {
        return Err(format!("--timeout {}: write a number of seconds up to {MAX_TIMEOUT}", options.timeout));
    }
    let mut written = Config::default();
    written.set_target("server", &options.target)?;
    for header in &options.headers {
        let (name, value) = header.split_once(':').ok_or("--header: write 'NAME: VALUE'")?;
        for server in written.servers.values_mut() {
            server.headers.insert(name.trim().into(), value.trim().into());
        }
    }
    let plan = written.check().map_err(config::told)?;
    let server = plan.servers.get("server").ok_or("no server")?;
    let call = match options.call.as_slice() {
        [] => None,
        [name] => Some((name.clone(), json!({}))),
        [name, arguments, ..] => match serde_json::from_str(arguments) {
            Ok(object @ Value::Object(_)) => Some((name.clone(), object)),
            _ => return Err("--call NAME ARGUMENTS: the arguments must be a JSON object, such as '{\"message\":\"hi\"}'".into()),
        },
    };
    let bounds = Options { timeout: Duration::from_secs_f64(options.timeout), call };
    check::check(&server.target, &options.target, bounds).await
}
