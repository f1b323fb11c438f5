//! The verbs: `serve`, `connect`, `call`, `check`, `tools`, `config`, `user`, `key`.

mod check;
mod config;
mod connect;
mod people;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use clap::{Args, Parser, Subcommand};

use landbridge::auth::Auth;
use landbridge::backend::{Backend, Passage, Peer};
use landbridge::config::{Config, Faults};
use landbridge::gateway::Gateway;
use landbridge::observe::{self, Format};
use landbridge::plan::Isolation;
use landbridge::tls::Tls;
use landbridge::{reload, serve, welcome};
use landbridge_proto::abilities::Abilities;
use landbridge_proto::call::{Call, Client, Level, Outcome, Principal, Reply};
use landbridge_proto::fault::Fault;
use landbridge_proto::json;
use landbridge_proto::message::{Kind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::version::Revision;

/// Any MCP server, for any MCP client.
///
/// Landbridge stands between AI clients and MCP tool servers and lets every client use every
/// server, whatever protocol revision and transport each of them speaks.
#[derive(Parser)]
#[command(name = "landbridge", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// What to log: error, warn, info, debug, trace, or a filter such as
    /// `info,landbridge::child=warn` [default: info; warn for `connect`, error for `check`]
    #[arg(long, global = true, help_heading = "Log", value_name = "LEVEL")]
    log_level: Option<String>,

    /// How log lines look
    #[arg(long, global = true, help_heading = "Log", value_enum, default_value_t)]
    log_format: Format,
}

const EXAMPLES: &str = "\
Examples:
  Serve the demonstration server at http://127.0.0.1:8808/mcp:
      landbridge serve
  Serve any stdio server, to every client:
      landbridge serve -- npx -y @modelcontextprotocol/server-everything
  Serve several, all at /mcp and each at /servers/NAME/mcp:
      landbridge serve --server files='npx -y @modelcontextprotocol/server-filesystem /srv' \\
                       --server time='uvx mcp-server-time'
  Serve one that is elsewhere and wants a token, taken from the environment:
      landbridge serve --server far=https://mcp.example.com/mcp \\
                       --header 'Authorization: Bearer ${TOKEN}'
  Give a client that speaks only stdio any server (this is the command it is to start):
      landbridge connect https://mcp.example.com/mcp
  Look at a server and call one of its tools:
      landbridge tools 'npx -y @modelcontextprotocol/server-everything'
      landbridge call 'npx -y @modelcontextprotocol/server-everything' echo '{\"message\":\"hi\"}'
  See what a server speaks, what it does wrong, and which clients can use it:
      landbridge check https://example.com/mcp

Without a command, `landbridge` does what `landbridge serve` does.";

const LIMITS: &str = "\
Every bound (sizes, times, sessions, children) has a default and can be changed under [limits] in
the configuration file; examples/limits.toml lists them all. A file's settings are overruled by
the flags given here.";

#[derive(Subcommand)]
enum Verb {
    /// Serve one or more MCP servers over HTTP, to clients of every revision
    #[command(after_help = LIMITS)]
    Serve(Box<Serve>),
    /// Be the stdio server of a client, in front of one server of any kind
    #[command(after_help = connect::EXAMPLES)]
    Connect(Box<connect::Connect>),
    /// Call one tool of a server and print its result
    Call {
        /// The server: a URL, or a command line such as 'npx -y @modelcontextprotocol/server-everything'
        target: String,
        /// The tool's name
        tool: String,
        /// The arguments, a JSON object
        #[arg(default_value = "{}")]
        arguments: String,
    },
    /// Say what a server speaks, which rules it keeps, and which clients can use it
    #[command(after_help = check::AFTER)]
    Check(Box<check::Check>),
    /// Check a configuration, show it, or make one of a client's file
    #[command(subcommand)]
    Config(config::Verb),
    /// Who may log in: accounts of this gateway
    #[command(subcommand, after_help = people::USER_AFTER)]
    User(people::User),
    /// API keys, for clients that cannot log in
    #[command(subcommand, after_help = people::KEY_AFTER)]
    Key(people::Key),
    /// List the tools of a server
    Tools {
        /// The server: a URL, or a command line
        target: String,
        /// Print the listing as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Default)]
struct Serve {
    /// Where to listen: ADDR:PORT, or just a port [default: 127.0.0.1:8808]
    #[arg(long, value_name = "ADDR", help_heading = "Network")]
    listen: Option<String>,

    /// The URL by which clients reach this gateway, when a proxy stands in front
    #[arg(long, value_name = "URL", help_heading = "Network")]
    public_url: Option<String>,

    /// Serve over TLS with this certificate, in PEM, and what leads from it to an authority
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    tls_cert: Option<PathBuf>,

    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    tls_key: Option<PathBuf>,

    /// Serve over TLS with a certificate for this name, which Let's Encrypt is asked for: port 443 of the name
    /// has to lead here (repeat for more names)
    #[arg(long, value_name = "NAME", help_heading = "TLS")]
    acme_domain: Vec<String>,

    /// Believe what this proxy says of who called and by which URL, in `Forwarded` or `X-Forwarded-*`: its
    /// address, or a range such as 10.0.0.0/8 (repeat for more)
    #[arg(long, value_name = "ADDR", help_heading = "Network")]
    trusted_proxy: Vec<String>,

    /// Answer to this host name too (exact; repeat for more)
    #[arg(long, value_name = "HOST", help_heading = "Network")]
    allow_host: Vec<String>,

    /// Let web pages from this origin call (exact, such as https://app.example.com; repeat for more)
    #[arg(long, value_name = "ORIGIN", help_heading = "Network")]
    allow_origin: Vec<String>,

    /// Listen on a public address although there is no authorization
    #[arg(long, help_heading = "Network")]
    insecure_public: bool,

    /// Who may call [default: none]: local (accounts of this gateway), github, google, oidc=ISSUER, keys (API keys
    /// only) or none; docs/authorization.md tells each step by step
    #[arg(long, value_name = "MODE", help_heading = "Authorization")]
    auth: Option<String>,

    /// The id of this gateway at GitHub, Google or the issuer
    #[arg(long, value_name = "ID", help_heading = "Authorization")]
    auth_client_id: Option<String>,

    /// Let this user in, as GitHub calls them; * for everybody who has an account there (repeat for more)
    #[arg(long, value_name = "NAME", help_heading = "Authorization")]
    allow_user: Vec<String>,

    /// Let members of this GitHub organisation in (repeat for more)
    #[arg(long, value_name = "NAME", help_heading = "Authorization")]
    allow_org: Vec<String>,

    /// Let accounts of this hosted domain in (Google; repeat for more)
    #[arg(long, value_name = "DOMAIN", help_heading = "Authorization")]
    allow_domain: Vec<String>,

    /// Let whoever has this verified address in; @example.com for all of a domain (repeat for more)
    #[arg(long, value_name = "ADDRESS", help_heading = "Authorization")]
    allow_email: Vec<String>,

    /// Where users, keys, clients and tokens are kept: sqlite:PATH, postgres://… or memory:
    #[arg(long, value_name = "URL", help_heading = "Authorization")]
    store: Option<String>,

    /// A server to serve at /servers/NAME: TARGET is a URL or a command line (repeat for more)
    #[arg(long = "server", value_name = "NAME=TARGET", help_heading = "Servers")]
    servers: Vec<String>,

    /// What the servers speak: auto (find out), legacy (there is a handshake), or one revision,
    /// such as 2025-06-18 [default: auto]
    #[arg(long, value_name = "PROTOCOL", help_heading = "Servers")]
    protocol: Option<String>,

    /// Send this with every request to the server with a URL; where there are several, to the one that
    /// stands in front: 'NAME=HEADER: VALUE'. ${VARIABLE} in it is taken from our environment (repeat
    /// for more)
    #[arg(long = "header", value_name = "[NAME=]HEADER: VALUE", help_heading = "Servers")]
    headers: Vec<String>,

    /// How servers with a URL are reached: auto (find out), http or sse; NAME=TRANSPORT is for one of them
    /// (repeat for more) [default: auto]
    #[arg(long = "transport", value_name = "[NAME=]TRANSPORT", help_heading = "Servers")]
    transports: Vec<String>,

    /// Who shares a server process that has a handshake [default: session]. Until there is
    /// authorization, all are one principal
    #[arg(long, value_enum, help_heading = "Servers")]
    isolation: Option<Isolation>,

    /// Give the servers an environment variable: NAME passes ours on, NAME=VALUE sets it
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Servers")]
    env: Vec<String>,

    /// Read this configuration: TOML, or a client's file with `mcpServers` and the like
    #[arg(long, value_name = "FILE", help_heading = "Servers")]
    config: Option<PathBuf>,

    /// The server's command and its arguments, behind `--`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs what the command line says.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    let is_pipe = matches!(cli.verb, Some(Verb::Connect(_)));
    let level = match cli.verb {
        // Hosts show what their servers log, so `connect` says only what somebody should look at.
        Some(Verb::Connect(_)) => "warn",
        // Who reads a report does not want to read in it what each process says.
        Some(Verb::Check(_)) => "error",
        _ => "info",
    };
    if let Err(e) = observe::start(cli.log_level.as_deref().unwrap_or(level), cli.log_format) {
        return fail(&e);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(&format!("cannot start: {e}")),
    };
    let done = match cli.verb {
        None => runtime.block_on(serve(Serve::default())),
        Some(Verb::Serve(options)) => runtime.block_on(serve(*options)),
        Some(Verb::Check(options)) => Ok(runtime.block_on(check::run(*options))),
        Some(Verb::Connect(options)) => runtime.block_on(connect::run(options)),
        Some(Verb::Config(verb)) => config::run(verb),
        Some(Verb::User(verb)) => runtime.block_on(people::user(verb)),
        Some(Verb::Key(verb)) => runtime.block_on(people::key(verb)),
        Some(Verb::Tools { target, json }) => runtime.block_on(with_server(&target, async |peer| tools(peer, json).await)),
        Some(Verb::Call { target, tool, arguments }) => {
            runtime.block_on(with_server(&target, async |peer| call(peer, &tool, &arguments).await))
        }
    };
    if is_pipe {
        // A thread of it may be reading standard input, or writing to somebody who does not read.
        runtime.shutdown_background();
    }
    match done {
        Ok(code) => code,
        Err(e) => fail(&e),
    }
}

/// A line for whoever reads standard output; nobody has to.
fn print(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn fail(why: &str) -> ExitCode {
    eprintln!("landbridge: {why}");
    ExitCode::FAILURE
}

async fn serve(options: Serve) -> Result<ExitCode, String> {
    let config = options.config().map_err(config::told)?;
    for note in config.notes() {
        tracing::warn!("{note}");
    }
    let plan = config.check().map_err(config::told)?;
    serve::raise_file_limit();
    let listener = serve::listen(plan.listen).map_err(|e| {
        format!(
            "cannot listen on {}: {e}{}",
            plan.listen,
            if e.kind() == std::io::ErrorKind::AddrInUse { "; choose another with --listen" } else { "" }
        )
    })?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let tls = plan.tls.as_ref().map(Tls::open).transpose()?;
    let auth = Auth::open(plan.auth.clone()).await?;
    let is_empty = auth.has_nobody().await;
    let gateway = Gateway::guarded(plan, auth)?;
    print(&welcome::page(&gateway, address));
    if is_empty {
        // The store may hold a password, so what is shown is where it was written.
        let place = match (&options.store, &options.config) {
            (Some(_), _) => " --store URL".to_owned(),
            (None, Some(file)) => format!(" --config {}", file.display()),
            (None, None) => String::new(),
        };
        print(&format!("Nobody has an account yet. Make one, in another terminal:\n\n    landbridge user add NAME{place}\n"));
    }
    if let Some(file) = options.config.clone() {
        tokio::spawn(reload::watch(gateway.clone(), file, move || options.config()));
    }
    serve::run(gateway, vec![listener], tls).await;
    Ok(ExitCode::SUCCESS)
}

impl Serve {
    /// The file, and what the command line adds to it or says better.
    fn config(&self) -> Result<Config, Faults> {
        let config = match &self.config {
            Some(path) => Config::read(path)?.to_be_served()?,
            None => Config::default(),
        };
        self.add_to(config)
    }

    fn add_to(&self, mut config: Config) -> Result<Config, Faults> {
        if let Some(listen) = &self.listen {
            config.listen = Some(listen.clone());
            config.overrule("listen");
        }
        if let Some(url) = &self.public_url {
            config.public_url = Some(url.clone());
            config.overrule("public_url");
        }
        if let Some(cert) = &self.tls_cert {
            config.tls.cert = Some(cert.clone());
            config.overrule("cert");
        }
        if let Some(key) = &self.tls_key {
            config.tls.key = Some(key.clone());
            config.overrule("key");
        }
        if !self.acme_domain.is_empty() {
            config.tls.acme.get_or_insert_default().domains.extend(self.acme_domain.iter().cloned());
        }
        config.trusted_proxies.extend(self.trusted_proxy.iter().cloned());
        config.allow_hosts.extend(self.allow_host.iter().cloned());
        config.allow_origins.extend(self.allow_origin.iter().cloned());
        config.insecure_public |= self.insecure_public;
        self.add_auth(&mut config)?;
        for server in &self.servers {
            config.add_server(server)?;
        }
        if !self.command.is_empty() {
            config.set_command(&name_of(&self.command), self.command.clone())?;
        }
        if let Some(protocol) = &self.protocol {
            config.set_protocol(protocol);
        }
        if let Some(isolation) = self.isolation {
            config.set_isolation(isolation);
        }
        for header in &self.headers {
            config.add_header(header)?;
        }
        // What is said of one counts for more than what is said of all.
        let (one, all): (Vec<&String>, Vec<&String>) = self.transports.iter().partition(|written| written.contains('='));
        for transport in all.into_iter().chain(one) {
            config.set_transport(transport)?;
        }
        give_env(&mut config, &self.env)?;
        Ok(config)
    }
}

impl Serve {
    /// What the command line says of who may call.
    fn add_auth(&self, config: &mut Config) -> Result<(), Faults> {
        let auth = &mut config.auth;
        if let Some(mode) = &self.auth {
            let (mode, provider, issuer) = match mode.split_once('=') {
                Some(("oidc", issuer)) => ("oauth", Some("oidc"), Some(issuer)),
                None if matches!(mode.as_str(), "local" | "github" | "google") => ("oauth", Some(mode.as_str()), None),
                _ if mode == "oidc" => {
                    return Err("--auth oidc=ISSUER names the issuer, such as https://login.example.com".to_owned().into());
                }
                _ => (mode.as_str(), None, None),
            };
            auth.mode = Some(mode.into());
            auth.login.provider = provider.map(str::to_owned).or(auth.login.provider.take());
            auth.login.issuer = issuer.map(str::to_owned).or(auth.login.issuer.take());
        }
        if let Some(id) = &self.auth_client_id {
            auth.login.client_id = Some(id.clone());
        }
        if auth.login.client_id.is_some() && auth.login.client_secret.is_none() && std::env::var(CLIENT_SECRET).is_ok() {
            auth.login.client_secret = Some(format!("${{{CLIENT_SECRET}}}"));
        }
        auth.login.users.extend(self.allow_user.iter().cloned());
        auth.login.organisations.extend(self.allow_org.iter().cloned());
        auth.login.domains.extend(self.allow_domain.iter().cloned());
        auth.login.emails.extend(self.allow_email.iter().cloned());
        if let Some(store) = &self.store {
            auth.store = Some(store.clone());
        }
        Ok(())
    }
}

/// Our secret at a provider, where no file says it: it does not belong on a command line, which everybody on a
/// machine can read.
const CLIENT_SECRET: &str = "LANDBRIDGE_AUTH_CLIENT_SECRET";

/// Gives the servers the variables of `--env`.
fn give_env(config: &mut Config, env: &[String]) -> Result<(), String> {
    for given in env {
        match given.split_once('=') {
            Some((name, value)) => config.set_env(name, value),
            None if std::env::var(given).is_ok() => config.pass_env(given),
            None => return Err(format!("--env {given}: that variable is not set; write {given}=VALUE to set it")),
        }
    }
    Ok(())
}

/// A name for a server that was only given as a command: the last word that looks like one.
fn name_of(command: &[String]) -> String {
    let runners = ["npx", "uvx", "bunx", "node", "python", "python3", "deno", "docker", "run"];
    let word = command.iter().find(|w| !w.starts_with('-') && !runners.contains(&w.rsplit('/').next().unwrap_or(w)));
    let word = word.or(command.first()).map_or("server", String::as_str);
    let base = word.trim_end_matches('/').rsplit('/').next().unwrap_or(word);
    let base = base.split('@').find(|p| !p.is_empty()).unwrap_or(base);
    let name: String = base.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(64).collect();
    if name.is_empty() { "server".into() } else { name }
}

// --- call and tools ---------------------------------------------------------------------------

async fn with_server(target: &str, run: impl AsyncFnOnce(Peer) -> Result<ExitCode, String>) -> Result<ExitCode, String> {
    let mut config = Config::default();
    config.set_target("server", target)?;
    let gateway = Gateway::new(config.check().map_err(config::told)?)?;
    let backend: Arc<Backend> = gateway.only_backend().ok_or("no server")?;
    let peer = backend.shared(&Principal::default(), Abilities::NONE).await.map_err(|f| f.told)?;
    let done = tokio::select! {
        done = run(peer) => done,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    gateway.stop();
    gateway.instances_gone().await;
    done
}

async fn tools(peer: Peer, as_json: bool) -> Result<ExitCode, String> {
    let mut all = Vec::new();
    let mut params = String::new();
    loop {
        let page = ask(&peer, "tools/list", &params).await?;
        let page: serde_json::Value = serde_json::from_slice(&page).map_err(|e| format!("the listing cannot be read: {e}"))?;
        all.extend(page["tools"].as_array().cloned().unwrap_or_default());
        match page["nextCursor"].as_str() {
            Some(cursor) => params = format!("\"cursor\":{}", json::quote(cursor)),
            None => break,
        }
    }
    if as_json {
        print(&serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?);
        return Ok(ExitCode::SUCCESS);
    }
    let width = all.iter().filter_map(|t| t["name"].as_str()).map(str::len).max().unwrap_or(0).min(40);
    for tool in &all {
        let about = tool["description"].as_str().unwrap_or("").lines().next().unwrap_or("");
        print(format!("{:width$}  {about}", tool["name"].as_str().unwrap_or("?")).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

async fn call(peer: Peer, tool: &str, arguments: &str) -> Result<ExitCode, String> {
    match serde_json::from_str::<serde_json::Value>(arguments) {
        Ok(serde_json::Value::Object(_)) => {}
        Ok(_) => return Err("the arguments must be a JSON object, such as '{\"message\":\"hi\"}'".into()),
        Err(e) => return Err(format!("the arguments are no JSON: {e}")),
    }
    let result =
        ask(&peer, "tools/call", &format!("\"name\":{},\"arguments\":{arguments},\"_meta\":{{\"progressToken\":0}}", json::quote(tool)))
            .await?;
    let read: serde_json::Value = serde_json::from_slice(&result).map_err(|e| format!("the result cannot be read: {e}"))?;
    for content in read["content"].as_array().into_iter().flatten() {
        match content["text"].as_str() {
            Some(text) if content["type"] == "text" => print(text),
            _ => print(&content.to_string()),
        }
    }
    Ok(if read["isError"] == true { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// One request on our own account; what the server says meanwhile goes to standard error.
async fn ask(peer: &Peer, method: &str, params: &str) -> Result<Bytes, String> {
    let text = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{{{params}}}}}");
    let message = Message::read(text.into()).map_err(|e| e.why)?;
    let Kind::Request(id, method) = message.kind.clone() else { return Err("not a request".into()) };
    let params = Params::read(&message).map_err(|e| e.to_string())?;
    let client = Client {
        revision: Revision::LAST_HANDSHAKE,
        principal: Principal::default(),
        transport: landbridge_proto::call::Transport::Local,
        info: Some(landbridge_proto::back::stdio::own_info().into()),
        capabilities: Bytes::from_static(b"{}"),
    };
    let call = Call { id, method, message, params, client: Arc::new(client), log_level: Some(Level::Info) };
    let mut replies = peer.begin(Box::new(call), Passage::default()).map_err(|f: Fault| f.told)?;
    loop {
        match std::future::poll_fn(|cx| replies.poll_next(cx)).await {
            Reply::Note(note) if note.method == Method::Progress || note.method == Method::Log => {
                let read: serde_json::Value = serde_json::from_slice(&note.message).unwrap_or_default();
                eprintln!("{}", read["params"]);
            }
            Reply::Note(_) | Reply::Withdrawn(_) => {}
            Reply::Ask(ask) => replies.refuse(ask.ticket),
            Reply::Done(Outcome::Result(result)) => return Ok(result),
            Reply::Done(Outcome::Error(error)) => return Err(format!("the server refused: {}", String::from_utf8_lossy(&error))),
            Reply::Done(Outcome::Fault(fault)) => return Err(fault.told),
        }
    }
}
