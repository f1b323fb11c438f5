//! The command line: `landbridge-apps APP [--mode sse|http|stdio] [--port N] [--host H] [--env FILE]`.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use landbridge::embed::Embed;
use landbridge::observe;

use crate::APPS;
use crate::app::{App, Mode, Start};
use crate::settings::Settings;

/// A variable of every application.
const TRUSTED_PROXIES: &str = "TRUSTED_PROXIES";
/// How wide the help is.
const COLUMNS: usize = 100;

/// Does what was asked for.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(said) => said.exit(),
    };
    let Some((name, matches)) = matches.subcommand() else { return Err("name an application".into()) };
    let app = APPS.iter().find(|app| app.name == name).ok_or("there is no such application")?;
    let settings = Settings::read(matches.get_one::<PathBuf>("env").map(PathBuf::as_path))?;
    let start = start(app, matches, settings)?;
    let level = start.settings.get("LOG_LEVEL").unwrap_or(match start.mode {
        // Hosts show what their servers log, so it says only what somebody should look at, and who did what.
        Mode::Stdio => "warn,audit=info",
        // The SDK says whatever its clients do.
        Mode::Sse | Mode::Http => "info,rmcp=warn",
    });
    observe::start(level, observe::Format::Text)?;
    serve(app, matches, start).await
}

/// The command line of all of them.
pub fn command() -> Command {
    let apps = APPS.iter().map(|app| {
        Command::new(app.name).about(app.about).after_help(variables(app)).args([
            Arg::new("mode")
                .long("mode")
                .value_parser(PossibleValuesParser::new(Mode::ALL.map(|(name, _)| name)))
                .help(format!("How it is served [default: {}]", app.mode.name())),
            Arg::new("port").long("port").value_parser(value_parser!(u16)).help(format!("Where it listens [default: {}]", app.port)),
            Arg::new("host").long("host").help("The address it listens at [default: 127.0.0.1]"),
            Arg::new("env")
                .long("env")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("A file of variables [default: .env, if there is one]"),
            Arg::new("insecure-public")
                .long("insecure-public")
                .action(ArgAction::SetTrue)
                .help("Listens where others can reach it, although everybody who does may call"),
        ])
    });
    Command::new("landbridge-apps")
        .about("MCP servers on Landbridge")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(apps)
}

/// What an application can be told by its environment, as a table.
fn variables(app: &App) -> String {
    let served = [(app.served_by.mode, "--mode"), (app.served_by.host, "--host"), (app.served_by.port, "--port")];
    let served = served.into_iter().filter(|(name, _)| !name.is_empty()).map(|(name, flag)| (name, String::new(), format!("as {flag}")));
    let proxies = "Proxies in front whose word counts on who calls and by which URL (X-Forwarded-*): addresses or ranges, with commas";
    let every = [(TRUSTED_PROXIES, String::new(), proxies.to_owned())];
    let own = app.variables.iter().map(|variable| (variable.name, variable.default.to_owned(), variable.about.to_owned()));
    let rows: Vec<_> = served.chain(own).chain(every).collect();
    let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let mut out = String::from("Environment:\n");
    for (name, default, about) in rows {
        let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        let mut line = format!("  {name:width$} ");
        for word in format!("{about}{default}").split(' ') {
            // A default that is longer than a line has one of its own.
            if line.len() + word.len() >= COLUMNS && line.len() > width + 4 {
                out.push_str(&line);
                out.push('\n');
                line = " ".repeat(width + 3);
            }
            line.push(' ');
            line.push_str(word);
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// How an application is to be served: a flag counts for more than its variable.
fn start(app: &App, matches: &ArgMatches, settings: Settings) -> Result<Start, String> {
    let mode = match matches.get_one::<String>("mode").map(String::as_str).or_else(|| settings.get(app.served_by.mode)) {
        Some(name) => Mode::read(name).ok_or_else(|| format!("{} is {name:?}; say sse, http or stdio", app.served_by.mode))?,
        None => app.mode,
    };
    let port = match matches.get_one::<u16>("port") {
        Some(port) => *port,
        None => settings.parse(app.served_by.port, "port")?.unwrap_or(app.port),
    };
    let host = matches.get_one::<String>("host").map(String::as_str).or_else(|| settings.get(app.served_by.host)).unwrap_or("127.0.0.1");
    let address = (mode != Mode::Stdio).then(|| resolve(host, port)).transpose()?;
    if address.is_none() {
        let named = |flag: &&str| matches.value_source(flag) == Some(clap::parser::ValueSource::CommandLine);
        if let Some(flag) = ["port", "host", "insecure-public"].iter().find(|flag| named(flag)) {
            return Err(format!(
                "--{flag} is for a server that listens, and this one is on standard streams; say --mode sse or --mode http"
            ));
        }
    }
    Ok(Start { settings, mode, address })
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok((address, port).into());
    }
    let mut found = (host, port).to_socket_addrs().map_err(|e| format!("the host {host:?} is not known: {e}"))?;
    found.next().ok_or_else(|| format!("the host {host:?} has no address"))
}

async fn serve(app: &App, matches: &ArgMatches, start: Start) -> Result<(), String> {
    let (mode, address, proxies) = (start.mode, start.address, start.settings.list(TRUSTED_PROXIES));
    let ready = (app.start)(start).await?;
    let is_open = ready.auth.mode.as_deref().is_none_or(|mode| mode == "none");
    let mut embed = Embed::new(app.name, ready.server).profile(ready.profile).auth(ready.auth).limits(ready.limits).rates(ready.rates);
    if let Some(file) = ready.audit {
        embed = embed.audit(file);
    }
    let Some(address) = address else {
        if std::io::stdin().is_terminal() {
            eprintln!("{} reads its client's messages here, a line each; to listen, say --mode sse or --mode http", app.name);
        }
        let never = embed.stdio().await.map_err(|e| e.to_string())?;
        match never {}
    };
    if matches.get_flag("insecure-public") {
        embed = embed.insecure_public();
    } else if is_open && !address.ip().is_loopback() {
        return Err(format!(
            "at {address} everybody who reaches this machine could call: say who may (`landbridge-apps {} --help` has the variables), listen \
             at 127.0.0.1, or say --insecure-public",
            app.name
        ));
    }
    if let Some(pages) = ready.pages {
        embed = embed.beside(pages);
    }
    if let Some(url) = ready.public_url {
        embed = embed.public_url(url);
    }
    let scheme = if ready.tls.is_some() { "https" } else { "http" };
    if let Some((cert, key)) = ready.tls {
        embed = embed.tls(cert, key);
    }
    embed = proxies.into_iter().fold(embed, Embed::trust_proxy);
    embed = ready.origins.into_iter().fold(embed, Embed::allow_origin);
    embed = ready.hosts.into_iter().fold(embed, Embed::allow_host);
    // One that is the first one's as well is open already.
    let more = ready.more_ports.into_iter().filter(|port| *port == 0 || *port != address.port());
    embed = more.fold(embed, Embed::listen_too);
    let bound = embed
        .listen(address.to_string())
        .bind()
        .await
        .map_err(|e| format!("{e}{}", if e.is_taken() { "; choose another port with --port" } else { "" }))?;
    if let Some(told) = ready.bound {
        told(bound.address());
    }
    let path = if mode == Mode::Sse { "/sse" } else { "/mcp" };
    // Whoever has started us waits for this line.
    eprintln!("{} is at {scheme}://{}{path}", app.name, bound.address());
    for address in &bound.addresses()[1..] {
        eprintln!("{} is also at {scheme}://{address}", app.name);
    }
    bound.run().await;
    Ok(())
}
