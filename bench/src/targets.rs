//! The processes a run can measure, and the command that starts each with its documented flags.
//!
//! Odd: supergateway has no option for the address it binds, so node is told beforehand, by a
//! small preloaded file beside the lock files, to listen on loopback. Nothing else is changed.

use std::path::{Path, PathBuf};

use crate::RunArguments;
use crate::fault::Fault;

pub(crate) struct Target {
    pub(crate) key: &'static str,
    /// `{port}` stands for the port to listen on.
    pub(crate) command: Vec<String>,
    /// The server behind it, where that is not started by itself; `{behind}` in the command is its port.
    pub(crate) behind: Option<Box<Target>>,
    pub(crate) mcp_path: &'static str,
    pub(crate) sse_path: &'static str,
    /// What its clients show to be let in.
    pub(crate) api_key: Option<&'static str>,
}

pub(crate) struct Targets {
    pub(crate) all: Vec<Target>,
    /// Why some are missing.
    pub(crate) notes: Vec<String>,
    pub(crate) landbridge: Option<PathBuf>,
    pub(crate) peers: Option<PathBuf>,
}

const API_KEY: &str = "a-key-of-the-bench-and-of-nobody-else";

impl Targets {
    pub(crate) fn find(arguments: &RunArguments) -> Result<Self, Fault> {
        let bench = std::env::current_exe()
            .map_err(|error| Fault::setup(format!("the bench cannot find its own binary ({error}); run it by its path")))?;
        let bench = text(&bench);
        let mut targets = Targets { all: Vec::new(), notes: Vec::new(), landbridge: None, peers: None };
        let at = "127.0.0.1:{port}";
        targets.add("bare-child", &[&bench, "echo"]);
        targets.add("floor-http", &[&bench, "floor-http", "--listen", at]);
        targets.add("embedded-tools", &[&bench, "embedded", "tools", "--listen", at]);
        targets.add("embedded-rmcp", &[&bench, "embedded", "rmcp", "--listen", at]);
        targets.add("rmcp-alone", &[&bench, "embedded", "rmcp-alone", "--listen", at]);
        targets.add("floor-stdio", &[&bench, "floor-stdio", "--listen", at, "--", &bench, "echo"]);
        let (old, new) = ([&bench[..], "floor-http", "--listen", at], [&bench[..], "floor-http", "--modern", "--listen", at]);
        targets.add_in_front("floor-proxy", &[&bench, "floor-proxy", "--listen", at, "--upstream", "127.0.0.1:{behind}"], &old);
        match arguments.landbridge.canonicalize() {
            Ok(path) => {
                let landbridge = text(&path);
                targets.add("landbridge-embedded", &[&landbridge, "serve", "--listen", at]);
                // The floor shares one child among all, so landbridge does as well.
                let shared = [&landbridge, "serve", "--listen", at, "--isolation", "none", "--", &bench, "echo"];
                targets.add("landbridge-stdio", &shared);
                targets.add("landbridge-modern", &[&shared[..], &["--modern"]].concat());
                // A handshake session that can be asked has a child of its own, as by default.
                targets.add("landbridge-session", &[&landbridge, "serve", "--listen", at, "--", &bench, "echo"]);
                let remote = [&landbridge, "serve", "--listen", at, "--server", "far=http://127.0.0.1:{behind}/mcp"];
                targets.add_in_front("landbridge-http", &remote, &old);
                targets.add_in_front("landbridge-http-modern", &remote, &new);
                let key = format!("LANDBRIDGE_API_KEY_1={API_KEY}:bench");
                let guarded = [&["env", &key], &remote[..], &["--auth", "keys"]].concat();
                for (target, server) in [("landbridge-key", &old[..]), ("landbridge-key-modern", &new)] {
                    targets.add_in_front(target, &guarded, server);
                    targets.all.iter_mut().filter(|added| added.key == target).for_each(|added| added.api_key = Some(API_KEY));
                }
                for (key, forgets) in
                    [("landbridge-sessions", "nothing"), ("landbridge-forgotten", "sessions"), ("landbridge-broken-off", "streams")]
                {
                    targets.add_in_front(key, &remote, &[&bench, "session-server", "--listen", at, "--forgets", forgets]);
                }
                let connect = [&landbridge, "connect", "http://127.0.0.1:{behind}/mcp"];
                targets.add_in_front("landbridge-connect", &connect, &old);
                targets.add_in_front("landbridge-connect-modern", &connect, &new);
                targets.landbridge = Some(path);
            }
            Err(error) => targets.notes.push(format!(
                "The landbridge binary {} was not measured ({error}); build it with cargo build --release.",
                arguments.landbridge.display()
            )),
        }
        if arguments.no_peers {
            targets.notes.push("Peers were left out by --no-peers.".into());
        } else {
            targets.add_peers(&arguments.peers, &bench);
        }
        Ok(targets)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Target> {
        self.all.iter().find(|target| target.key == key)
    }

    fn add(&mut self, key: &'static str, command: &[&str]) {
        let command = command.iter().map(|&part| part.to_owned()).collect();
        self.all.push(Target { key, command, behind: None, mcp_path: "/mcp", sse_path: "/sse", api_key: None });
    }

    /// In front of an HTTP server, which is not part of what is measured.
    fn add_in_front(&mut self, key: &'static str, command: &[&str], server: &[&str]) {
        self.add("server-http", server);
        let behind = self.all.pop().map(Box::new);
        self.add(key, command);
        if let Some(added) = self.all.last_mut() {
            added.behind = behind;
        }
    }

    fn add_peers(&mut self, directory: &Path, bench: &str) {
        let Ok(directory) = directory.canonicalize() else {
            self.notes.push("Peers are not installed; scripts/bench installs them.".into());
            return;
        };
        let inside = |path: &str| text(&directory.join(path));
        let python = inside("venv/bin/mcp-proxy");
        if Path::new(&python).exists() {
            self.add("mcp-proxy-py", &[&python, "--host", "127.0.0.1", "--port", "{port}", "--log-level", "WARNING", "--", bench, "echo"]);
        }
        let loopback = inside("loopback.cjs");
        let supergateway = inside("node_modules/supergateway/dist/index.js");
        // It hands the command to a shell.
        let quoted = format!("'{bench}' echo");
        if Path::new(&supergateway).exists() {
            let common = ["node", "--require", &loopback, &supergateway, "--stdio", &quoted, "--port", "{port}", "--logLevel", "none"];
            self.add("supergateway-http", &[&common[..], &["--outputTransport", "streamableHttp", "--stateful"]].concat());
            self.add("supergateway-sse", &[&common[..], &["--outputTransport", "sse"]].concat());
        }
        let npm = inside("node_modules/mcp-proxy/dist/bin/mcp-proxy.mjs");
        if Path::new(&npm).exists() {
            self.add("mcp-proxy-npm", &["node", &npm, "--host", "127.0.0.1", "--port", "{port}", "--", bench, "echo"]);
        }
        self.peers = Some(directory);
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
