//! `landbridge connect`: what it takes, and what that comes to.

use std::process::ExitCode;

use clap::Args;

use landbridge::config::{Config, Faults, ServerConfig, command_line, is_url, remote_url};
use landbridge::gateway::Gateway;
use landbridge::plan::Transport;
use landbridge::stdio;

use crate::cli::{config, give_env, name_of};

pub(super) const EXAMPLES: &str = "\
Examples:
  A remote server that wants a token, taken from the environment:
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

    /// The server's command and its arguments, behind `--`
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "target")]
    command: Vec<String>,
}

/// Serves the client at our standard streams.
pub(super) async fn run(options: Connect) -> Result<ExitCode, String> {
    let plan = options.config().and_then(|config| config.check()).map_err(config::told)?;
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
