//! `landbridge config`: looks at configurations, and runs nothing.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use landbridge::config::{Config, Faults, Shown};
use landbridge::gateway::Gateway;

use crate::cli::{Serve, print};

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Say whether a file can be served, and everything that is wrong with it
    Check {
        /// The file: TOML, or the file of a client; `-` is standard input
        file: PathBuf,
    },
    /// Print a configuration as TOML, with every default
    Show(Box<Show>),
    /// Print the servers of a client's file as our TOML
    #[command(after_help = IMPORTED)]
    Import {
        /// The file of Claude, Cursor, Windsurf, VS Code, Zed, Codex, Goose, Gemini, LibreChat, mcpo or
        /// TBXark's proxy; `-` is standard input
        file: PathBuf,
    },
}

const IMPORTED: &str = "\
What cannot be said in TOML is told on standard error. Secrets are printed as they stand there.";

#[derive(Args)]
pub(super) struct Show {
    /// The file; `-` is standard input
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,

    /// Leave out what has its default
    #[arg(long)]
    short: bool,

    /// Print values of `env` and `headers` as they are; otherwise only references such as ${NAME} are printed
    #[arg(long)]
    secrets: bool,

    #[command(flatten)]
    serve: Serve,
}

pub(super) fn run(verb: Verb) -> Result<ExitCode, String> {
    match verb {
        Verb::Check { file } => check(&file),
        Verb::Show(show) => {
            let Show { file, short, secrets, serve } = *show;
            let config = file.map_or_else(|| Ok(Config::default()), |file| read(&file))?;
            let config = if serve.config.is_some() { serve.config() } else { serve.add_to(config) }.map_err(told)?;
            tell_notes(&config);
            print(config.to_toml(Shown { defaults: !short, secrets }).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Verb::Import { file } => {
            let config = read(&file)?;
            tell_notes(&config);
            print(config.to_toml(Shown { defaults: false, secrets: true }).trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(file: &Path) -> Result<ExitCode, String> {
    let config = read(file)?;
    tell_notes(&config);
    let plan = config.to_be_served().and_then(|config| config.check()).map_err(told)?;
    let names: Vec<String> = plan.servers.keys().cloned().collect();
    // Nothing is started before somebody calls.
    Gateway::new(plan)?;
    let name = if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    print(&format!("{name} is good; it serves {}", names.join(", ")));
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Config, String> {
    if file != Path::new("-") {
        return Config::read(file).map_err(told);
    }
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|e| format!("cannot read standard input: {e}"))?;
    Config::parse_bytes("standard input", bytes).map_err(told)
}

fn tell_notes(config: &Config) {
    for note in config.notes() {
        eprintln!("{note}");
    }
}

/// All faults behind a line that says so; a single one that has no place is that line.
pub(super) fn told(faults: Faults) -> String {
    match (faults.to_string(), faults.brief().count()) {
        (one, 1) if !one.contains('\n') => one,
        (one, 1) => format!("the configuration has a fault\n{one}"),
        (all, n) => format!("the configuration has {n} faults\n{all}"),
    }
}
