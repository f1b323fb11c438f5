//! `landbridge connect`: what it takes, and what that comes to.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use landbridge::config::{self, AccessConfig, Config, Faults, ServerConfig, command_line, is_url, remote_url};
use landbridge::gateway::Gateway;
use landbridge::plan::{Algorithm, Browsing, TokenStore, Transport};
use landbridge::stdio;
use landbridge::vault::keyring_address;
use landbridge_proto::oauth::secret::Secret;

use crate::cli::{self, give_env, name_of};

pub(super) const EXAMPLES: &str = "\
Examples:
  A remote server; if it wants a login, a browser opens:
      landbridge connect https://mcp.example.com/mcp
  One that wants a token, taken from the environment:
      landbridge connect https://mcp.example.com/mcp --header 'Authorization: Bearer ${TOKEN}'
  A local server of another revision than the client's:
      landbridge connect 'npx -y @modelcontextprotocol/server-everything'

In a client's configuration (`mcpServers` of Claude Desktop, Cursor and others):
  {\"mcpServers\": {
    \"remote\": {\"command\": \"landbridge\", \"args\": [\"connect\", \"https://mcp.example.com/mcp\"]},
    \"local\": {\"command\": \"landbridge\",
      \"args\": [\"connect\", \"--\", \"npx\", \"-y\", \"@modelcontextprotocol/server-everything\"]}}}

Standard output carries nothing but the protocol; the log goes to standard error. It ends when its
standard input does, and on SIGTERM.";

#[derive(Args)]
pub(super) struct Connect {
    /// The server: a URL, or a command line such as 'npx -y @modelcontextprotocol/server-everything'; without
    /// one, a demonstration server
    target: Option<String>,

    /// Send this with every request to a URL; ${NAME} in it is taken from our environment (repeat for more)
    #[arg(long = "header", value_name = "NAME: VALUE", help_heading = "Server")]
    headers: Vec<String>,

    /// How a URL is reached [default: auto]
    #[arg(long, value_enum, help_heading = "Server")]
    transport: Option<Transport>,

    /// What the server speaks: auto (find out), legacy (there is a handshake), or one revision, such as
    /// 2025-06-18 [default: auto]
    #[arg(long, value_name = "PROTOCOL", help_heading = "Server")]
    protocol: Option<String>,

    /// Give a command an environment variable: NAME passes ours on, NAME=VALUE sets it
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Server")]
    env: Vec<String>,

    #[command(flatten)]
    login: Login,

    /// The server's command and its arguments, behind `--`
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "target")]
    command: Vec<String>,
}

/// How we are let in at a URL that wants a token.
#[derive(Args)]
#[command(next_help_heading = "Login")]
struct Login {
    /// What the authorization server calls us, if we are registered there
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// The secret of that client; LANDBRIDGE_CLIENT_SECRET in the environment does the same, and is in no list of
    /// processes
    #[arg(long, value_name = "SECRET")]
    client_secret: Option<String>,

    /// The https URL of a document that describes us as a client
    #[arg(long, value_name = "URL", conflicts_with = "client_id")]
    client_metadata_url: Option<String>,

    /// What to ask for, in place of what the server says
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,

    /// Open no browser; the address to log in at is printed all the same
    #[arg(long)]
    no_browser: bool,

    /// The port on 127.0.0.1 where the login ends, if the client is registered with one
    #[arg(long, value_name = "PORT")]
    callback_port: Option<u16>,

    /// Where tokens are kept
    #[arg(long, value_enum, value_name = "WHERE", default_value = "auto")]
    token_store: TokenStore,

    /// How long a login may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    login_timeout: u64,

    /// Ask no user: the client stands for itself, by its secret or its key
    #[arg(long, requires = "client_id")]
    client_credentials: bool,

    /// The client's private key (PKCS #8, PEM), in place of a secret
    #[arg(long, value_name = "FILE", requires = "client_credentials")]
    private_key: Option<PathBuf>,

    /// What is signed with it [default: ES256]
    #[arg(long, value_enum, value_name = "ALG", requires = "private_key")]
    key_alg: Option<Algorithm>,

    /// For whom what is signed is [default: the issuer]
    #[arg(long, value_name = "AUDIENCE", requires = "private_key")]
    audience: Option<String>,
}

impl Login {
    /// What was said of a login, if there was something.
    fn said(&self) -> Option<&'static str> {
        let said = [
            ("--client-id", self.client_id.is_some()),
            ("--client-secret", self.client_secret.is_some()),
            ("--client-metadata-url", self.client_metadata_url.is_some()),
            ("--scope", self.scope.is_some()),
            ("--callback-port", self.callback_port.is_some()),
            ("--token-store", self.token_store != TokenStore::Auto),
        ];
        said.iter().find(|(_, said)| *said).map(|(flag, _)| *flag)
    }

    fn add_to(&self, server: &mut ServerConfig) {
        let from_env = || std::env::var("LANDBRIDGE_CLIENT_SECRET").ok().filter(|secret| !secret.is_empty() && self.client_id.is_some());
        let secret = self.client_secret.clone().or_else(from_env).filter(|_| self.private_key.is_none() || self.client_secret.is_some());
        server.auth = Some(AccessConfig {
            client_id: self.client_id.clone(),
            // It is taken as it is.
            client_secret: secret.map(|secret| Secret::new(secret.replace("${", "$${"))),
            private_key: self.private_key.clone(),
            key_alg: self.key_alg,
            audience: self.audience.clone(),
            scope: self.scope.clone(),
            ..AccessConfig::default()
        });
        let patience = Duration::from_secs(self.login_timeout);
        let browsing = Browsing { open: !self.no_browser, port: self.callback_port, patience, tokens: self.token_store };
        server.login = (!self.client_credentials).then(|| config::Login { document: self.client_metadata_url.clone(), browsing });
    }
}

/// Serves the client at our standard streams.
pub(super) async fn run(options: Box<Connect>) -> Result<ExitCode, String> {
    let plan = options.config().and_then(|config| config.check()).map_err(cli::config::told)?;
    stdio::run(Gateway::new(plan)?).await?;
    Ok(ExitCode::SUCCESS)
}

impl Connect {
    fn config(&self) -> Result<Config, Faults> {
        let mut config = Config::default();
        let refuse = |said: &str| Err(said.to_owned().into());
        let target = self.target.as_deref();
        let command = match target.filter(|target| !is_url(target)) {
            Some(line) => command_line(line)?,
            None => self.command.clone(),
        };
        let server = match target.filter(|target| is_url(target)) {
            Some(url) => {
                if !self.env.is_empty() {
                    return refuse("--env is for a server that is a command; a URL takes --header");
                }
                let name = name_of(&[remote_url(url)?.host().unwrap_or_default().to_owned()]);
                config.set_target(&name, url)?;
                name
            }
            None if !self.headers.is_empty() || self.transport.is_some() => {
                return refuse("--header and --transport are for a server with a URL");
            }
            None if !command.is_empty() => {
                let name = name_of(&command);
                config.set_command(&name, command)?;
                name
            }
            None if !self.env.is_empty() => return refuse("--env is for a server that is a command, and there is none"),
            None => {
                config.servers.insert("demo".into(), ServerConfig { demo: true, ..ServerConfig::default() });
                "demo".into()
            }
        };
        for header in &self.headers {
            config.add_header(header)?;
        }
        if let Some(server) = config.servers.get_mut(&server) {
            server.transport = self.transport;
            if server.url.is_some() {
                self.login.add_to(server);
            } else if let Some(flag) = self.login.said() {
                return Err(format!("{flag} is for a server with a URL").into());
            }
        }
        if self.login.token_store == TokenStore::Keyring && keyring_address().is_none() {
            return refuse(match cfg!(target_os = "linux") {
                true => {
                    "--token-store keyring: no keyring can be reached, as DBUS_SESSION_BUS_ADDRESS is not set; pass it on, or say `file`"
                }
                false => "--token-store keyring: no keyring of this system is known; say `file`",
            });
        }
        if let Some(protocol) = &self.protocol {
            config.set_protocol(protocol);
        }
        give_env(&mut config, &self.env)?;
        // There is one client: who has one session needs no second server ready, and its server stays as
        // long as it does.
        config.limits.sessions = 1;
        config.limits.child_idle_ms = u64::MAX;
        Ok(config)
    }
}
