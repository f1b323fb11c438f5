//! Starts one gateway process, knows when it listens, and makes sure that it ends.
//!
//! Odd: dropping a gateway kills it and everything below it, each by its own pid. Peers start
//! shells and children that outlive a kill of their parent, so those are looked up first.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::fault::Fault;
use crate::meter::{self, Processes};
use crate::targets::Target;

pub(crate) struct Gateway {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) address: SocketAddr,
    /// What it printed; removed with the gateway.
    log: PathBuf,
    /// The server behind it, if it is a process of its own.
    behind: Option<Box<Gateway>>,
}

impl Gateway {
    /// Starts the process and does not wait for it.
    pub(crate) fn spawn(target: &Target) -> Result<Self, Fault> {
        let behind = target.behind.as_ref().map(|behind| Gateway::spawn(behind)).transpose()?.map(Box::new);
        let behind_port = behind.as_ref().map_or(0, |behind| behind.address.port()).to_string();
        let address = free_address()?;
        let port = address.port().to_string();
        let mut parts = target.command.iter().map(|part| part.replace("{port}", &port).replace("{behind}", &behind_port));
        let program = parts.next().ok_or_else(|| Fault::setup("a target without a command; this is a bug of the bench"))?;
        let log = std::env::temp_dir().join(format!("landbridge-bench-{}-{}.log", std::process::id(), target.key));
        let output =
            File::create(&log).map_err(|error| Fault::setup(format!("cannot write the log {} ({error}); check TMPDIR", log.display())))?;
        let errors = output.try_clone().map_err(|error| Fault::setup(format!("out of open files ({error}); raise ulimit -n")))?;
        let child = Command::new(&program)
            .args(parts)
            // Some gateways take the end of their own input as the order to quit.
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for the bench alone, which then ends the gateway in its own way.
            .process_group(0)
            .spawn()
            .map_err(|error| Fault::setup(format!("cannot start {} ({program}: {error}); is it installed?", target.key)))?;
        let pid = child.id().ok_or_else(|| Fault::setup(format!("{} ended at once; see its log", target.key)))?;
        Ok(Gateway { child, pid, address, log, behind })
    }

    /// Starts the process and waits until it accepts connections.
    pub(crate) async fn start(target: &Target) -> Result<Self, Fault> {
        let mut gateway = Gateway::spawn(target)?;
        if let Some(behind) = &mut gateway.behind {
            behind.listens(target.key).await?;
        }
        gateway.listens(target.key).await?;
        Ok(gateway)
    }

    /// Waits until it accepts connections.
    async fn listens(&mut self, key: &str) -> Result<(), Fault> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if TcpStream::connect(self.address).await.is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Fault::setup(format!("{key} ended before it listened ({status}); {}", self.last_words())));
            }
            if Instant::now() > until {
                return Err(Fault::setup(format!("{key} did not listen within 20 s; {}", self.last_words())));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        format!("its last line: {last}")
    }

    /// What takes part in a row at this gateway.
    pub(crate) fn processes(&self) -> Processes {
        Processes { gateway: self.pid, behind: self.behind.as_ref().map(|behind| behind.pid) }
    }

    /// Where the server behind it listens.
    pub(crate) fn behind_address(&self) -> Option<SocketAddr> {
        self.behind.as_ref().map(|behind| behind.address)
    }

    /// Asks the process to end, and insists if it has not after a second.
    pub(crate) async fn stop(mut self) {
        if let Some(behind) = self.behind.take() {
            Box::pin(behind.stop()).await;
        }
        // Noted first: once the parent is gone, nothing links its children to it.
        let below = meter::descendants(self.pid);
        if self.child.id().is_some() {
            let _ = kill(Pid::from_raw(self.pid.cast_signed()), Signal::SIGTERM);
        }
        let _ = timeout(Duration::from_secs(1), self.child.wait()).await;
        self.kill_all(&below);
        let _ = timeout(Duration::from_secs(1), self.child.wait()).await;
    }

    fn kill_all(&mut self, below: &[u32]) {
        let _ = self.child.start_kill();
        for &pid in below {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.id().is_some() {
            let below = meter::descendants(self.pid);
            self.kill_all(&below);
        }
        let _ = std::fs::remove_file(&self.log);
    }
}

/// A loopback port that was free a moment ago, which is as sure as one can be from outside.
fn free_address() -> Result<SocketAddr, Fault> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Fault::setup(format!("no free loopback port ({error}); too many connections are open")))
}
