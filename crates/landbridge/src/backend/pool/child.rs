//! Starting a child and meeting it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStderr;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info};

use landbridge_proto::back::probe::{Probe, Protocol, Step};
use landbridge_proto::call::{Client, Notice};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::lines::{Line, Lines};
use landbridge_proto::message::{Kind as MessageKind, Message};

use crate::backend::lock;
use crate::backend::pool::pipe::{self, End, Input, Output};
use crate::backend::pool::{Instance, Pool};
use crate::eras::Wire;
use crate::observe::Ration;
use crate::plan::Limits;

/// What every child gets of our environment. Anything more is named.
const INHERITED: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TMPDIR"];

/// How to start a server.
#[derive(Clone, Debug)]
pub(super) struct Command {
    argv: Vec<String>,
    env: BTreeMap<OsString, OsString>,
    cwd: Option<PathBuf>,
}

impl Command {
    /// The program with its arguments, its environment and where it runs.
    pub(super) fn new(argv: &[String], env: &BTreeMap<String, String>, cwd: Option<&Path>) -> Command {
        let inherited = INHERITED.iter().filter_map(|key| Some((OsString::from(key), std::env::var_os(key)?)));
        let own = env.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        Command { argv: argv.to_vec(), env: inherited.chain(own).collect(), cwd: cwd.map(Path::to_path_buf) }
    }
}

/// A process that was started and not met; or what runs in this one and is spoken to alike.
pub(super) struct Spawned {
    pub(super) control: Control,
    pub(super) stdin: Input,
    pub(super) stdout: Output,
    pub(super) last_words: Arc<Mutex<String>>,
    pub(super) stderr_done: tokio::sync::oneshot::Receiver<()>,
    pub(super) since: Instant,
}

impl Spawned {
    /// Whether the process is still there.
    pub(super) fn is_running(&self) -> bool {
        self.control.exited.borrow().is_none()
    }

    /// When it was started.
    pub(super) fn since(&self) -> Instant {
        self.since
    }
}

/// What ends a process. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Control {
    /// Something to send ends it; so does the drop.
    pub(super) stop: tokio::sync::mpsc::Sender<()>,
    /// How it ended, once it has.
    pub(super) exited: tokio::sync::watch::Receiver<Option<String>>,
}

/// Starts the process. It has a place among the children until it has ended.
pub(super) fn spawn(name: &str, command: &Command, place: OwnedSemaphorePermit, limits: &Limits) -> io::Result<Spawned> {
    let mut guarded = imp::command(command)?;
    guarded.command.env_clear().envs(&command.env);
    guarded.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A guard is not killed: it must live to end whoever the server started. The end of its
    // control pipe is what tells it.
    guarded.command.kill_on_drop(cfg!(not(target_os = "linux")));
    if let Some(cwd) = &command.cwd {
        guarded.command.current_dir(cwd);
    }
    let mut process = guarded.command.spawn()?;
    drop(guarded.passed);
    let missing = || io::Error::other("no pipe to the child");
    let stdin = process.stdin.take().ok_or_else(missing)?;
    let stdout = process.stdout.take().ok_or_else(missing)?;
    let stderr = process.stderr.take().ok_or_else(missing)?;
    // Arguments may hold secrets, so the log gets the program alone.
    info!(server = name, pid = process.id(), program = command.argv.first(), "started");

    let last_words = Arc::new(Mutex::new(String::new()));
    let (done, stderr_done) = tokio::sync::oneshot::channel();
    tokio::spawn(forward_stderr(name.to_owned(), stderr, last_words.clone(), limits.stderr_lines_per_s, done));

    let (stop, stopped) = tokio::sync::mpsc::channel(1);
    let (exit, exited) = tokio::sync::watch::channel(None);
    let grace = Duration::from_millis(limits.child_stop_ms);
    tokio::spawn(imp::supervise(name.to_owned(), process, guarded.control, stopped, exit, grace, place));
    let (stdin, stdout): (Input, Output) = (Box::new(stdin), Box::new(stdout));
    Ok(Spawned { control: Control { stop, exited }, stdin, stdout, last_words, stderr_done, since: Instant::now() })
}

/// Finds out what the process speaks, and makes an instance of it.
pub(super) async fn meet(
    pool: &Arc<Pool>,
    mut spawned: Spawned,
    protocol: Protocol,
    client: &Client,
    shared: bool,
    ordinal: u32,
) -> Result<Arc<Instance>, Fault> {
    let name = pool.name();
    let wire = if pool.is_within() { Wire::Local } else { Wire::Stdio };
    let mut probe = Probe::new(name, protocol, Some(client), pool.limits.patience(), Instant::now());
    let mut lines = Lines::new(pool.limits.message_bytes);
    let mut early = Vec::new();
    let mut ended = false;
    loop {
        while let Some(step) = probe.poll_step() {
            match step {
                Step::Send(line) => {
                    // A child that is gone shows at its output.
                    let _ = tokio::time::timeout_at(probe.timeout().into(), spawned.stdin.write_all(&line)).await;
                }
                Step::Respawn => {
                    debug!(server = name, "it ended on the probe; starting it again to shake hands");
                    // There may be no other place than the one it leaves.
                    let _ = spawned.control.stop.try_send(());
                    let left = spawned.control.exited.wait_for(Option::is_some);
                    let _ = tokio::time::timeout_at(probe.timeout().into(), left).await;
                    spawned = pool.spawn(client).await?;
                    lines = Lines::new(pool.limits.message_bytes);
                    ended = false;
                    probe.respawned(Instant::now());
                }
                Step::Met(server) => {
                    info!(server = name, revision = server.revision.as_str(), "met");
                    let Spawned { control, stdin, stdout, last_words, stderr_done, .. } = spawned;
                    let instance = Instance::begin(pool, wire, *server, shared, ordinal, control.stop, early);
                    let end = End { exited: control.exited, last_words, stderr_done };
                    pipe::carry(&instance, stdin, stdout, lines, pool.limits.message_bytes, end);
                    return Ok(instance);
                }
                Step::Failed(why) => return Err(failed(name, &mut spawned, ended, &why).await),
            }
        }
        // One line, then what follows from it: behind the last word of the meeting, the lines are the
        // link's, in this very read too.
        if let Some(line) = lines.next_line() {
            let Line::Whole(line) = line else { continue };
            if let Err(bad) = Message::read(line.clone()) {
                let said: String = String::from_utf8_lossy(&line).chars().filter(|c| !c.is_control()).take(120).collect();
                info!(server = name, what = format!("{}: {said}", bad.why), "skipped");
            } else if let Some(message) = probe.handle_line(line, Instant::now())
                && let MessageKind::Notification(method) = message.kind.clone()
                && early.len() < 16
            {
                early.push(Notice::read(method, &message));
            }
            continue;
        }
        let read = tokio::time::timeout_at(probe.timeout().into(), spawned.stdout.read_buf(lines.buffer())).await;
        // Also when there was something to read: a server that never falls silent has no more time
        // than one that never speaks.
        probe.handle_timeout(Instant::now());
        if let Ok(Ok(0) | Err(_)) = read {
            ended = true;
            probe.handle_end();
        }
    }
}

/// The fault of a meeting that came to nothing, with the child's last words.
async fn failed(name: &str, spawned: &mut Spawned, ended: bool, why: &str) -> Fault {
    let mut how = String::new();
    if ended {
        let _ = tokio::time::timeout(Duration::from_millis(500), &mut spawned.stderr_done).await;
        let waited = spawned.control.exited.wait_for(Option::is_some);
        if let Ok(Ok(exit)) = tokio::time::timeout(Duration::from_millis(500), waited).await {
            how = exit.clone().unwrap_or_default();
        }
    }
    let words = lock(&spawned.last_words).clone();
    let mut told = format!("the server `{name}` did not come up: {why}");
    if !how.is_empty() {
        told.push_str(&format!(" ({how})"));
    }
    if !words.is_empty() {
        told.push_str(&format!("; it said: {words}"));
    }
    Fault::backend(name, Kind::Backend).tell(told)
}

/// Longest piece of a line of stderr that reaches our log.
const STDERR_LINE: usize = 1_000;

/// Passes stderr on to our log, so many lines a second, and remembers the last one.
async fn forward_stderr(
    name: String,
    mut stderr: ChildStderr,
    last: Arc<Mutex<String>>,
    per_second: u32,
    done: tokio::sync::oneshot::Sender<()>,
) {
    let mut lines = Lines::new(STDERR_LINE);
    let mut ration = Ration::new(per_second);
    let tell = |lines: u64| {
        if lines > 0 {
            info!(server = name, lines, "dropped lines of its stderr: more than {per_second} a second");
        }
    };
    loop {
        let more = stderr.read_buf(lines.buffer());
        // What was dropped is told when the second is over, also if nothing follows.
        let read = match ration.due() {
            Some(due) => tokio::time::timeout_at(due.into(), more).await,
            None => Ok(more.await),
        };
        let ended = matches!(read, Ok(Ok(0) | Err(_)));
        if ended {
            // The last words of many a program have no end of line.
            lines.buffer().extend_from_slice(b"\n");
        }
        tell(ration.settle(false));
        while let Some(line) = lines.next_line() {
            let (text, cut) = match &line {
                Line::Whole(line) => (line, ""),
                Line::TooLong { head, .. } => (head, "…"),
            };
            let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control() || *c == '\t').collect();
            *lock(&last) = text.chars().take(300).collect();
            if ration.admit() {
                info!(target: "landbridge::child", server = name, "stderr: {text}{cut}");
            }
        }
        if ended {
            break;
        }
    }
    tell(ration.settle(true));
    let _ = done.send(());
}

#[cfg(target_os = "linux")]
mod imp {
    use super::*;
    use std::fs::File;
    use std::io::Write as _;
    use std::os::fd::{AsRawFd as _, OwnedFd};

    pub(super) struct Guarded {
        pub(super) command: tokio::process::Command,
        /// The read end of the control pipe, which the guard inherits.
        pub(super) passed: OwnedFd,
        pub(super) control: File,
    }

    /// The command, under `landbridge guard`.
    pub(super) fn command(server: &Command) -> io::Result<Guarded> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let fd = read.as_raw_fd();
        let mut command = tokio::process::Command::new(guard_program());
        let files = crate::serve::soft_file_limit().to_string();
        command.arg0("landbridge").args(["guard", "--control", &fd.to_string(), "--files", &files, "--"]).args(&server.argv);
        // SAFETY: between fork and exec this makes one system call and touches no memory. The
        // descriptor is open: `passed` outlives the spawn.
        unsafe {
            command.pre_exec(move || {
                let fd = std::os::fd::BorrowedFd::borrow_raw(fd);
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
                Ok(())
            });
        }
        Ok(Guarded { command, passed: read, control: File::from(write) })
    }

    /// Our own binary; embedded elsewhere, the one named by `LANDBRIDGE_GUARD`. By the link, not
    /// by its path: an update may have put another file there, or none.
    fn guard_program() -> PathBuf {
        std::env::var_os("LANDBRIDGE_GUARD").map_or_else(|| "/proc/self/exe".into(), PathBuf::from)
    }

    /// Waits for the end, and brings it about when told: stdin is closed already by then, so
    /// first patience, then SIGTERM, then the guard kills whoever is left.
    pub(super) async fn supervise(
        name: String,
        mut process: tokio::process::Child,
        mut control: File,
        mut stopped: tokio::sync::mpsc::Receiver<()>,
        exit: tokio::sync::watch::Sender<Option<String>>,
        grace: Duration,
        place: OwnedSemaphorePermit,
    ) {
        let status = tokio::select! {
            status = process.wait() => status,
            _ = stopped.recv() => {
                let step = grace / 3;
                match tokio::time::timeout(step, process.wait()).await {
                    Ok(status) => status,
                    Err(_) => {
                        let _ = control.write_all(&[crate::guard::TERMINATE]);
                        match tokio::time::timeout(step, process.wait()).await {
                            Ok(status) => status,
                            Err(_) => {
                                drop(control);
                                let killed = tokio::time::timeout(step.max(Duration::from_secs(1)), process.wait()).await;
                                killed.unwrap_or_else(|_| Err(io::Error::other("the guard does not end")))
                            }
                        }
                    }
                }
            }
        };
        let how = describe(status);
        debug!(server = name, how, "ended");
        drop(place);
        let _ = exit.send(Some(how));
    }

    fn describe(status: io::Result<std::process::ExitStatus>) -> String {
        match status.map(|s| s.code()) {
            Ok(Some(code @ 129..=192)) => format!("ended by signal {}", code - 128),
            Ok(Some(code)) => format!("exit code {code}"),
            Ok(None) => "ended by a signal".into(),
            Err(e) => e.to_string(),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::*;

    pub(super) struct Guarded {
        pub(super) command: tokio::process::Command,
        pub(super) passed: (),
        pub(super) control: (),
    }

    /// Without a guard: there is no subreaper here. The child itself is killed on drop.
    pub(super) fn command(server: &Command) -> io::Result<Guarded> {
        let program = server.argv.first().ok_or_else(|| io::Error::other("no command"))?;
        let mut command = tokio::process::Command::new(program);
        command.args(&server.argv[1..]);
        Ok(Guarded { command, passed: (), control: () })
    }

    pub(super) async fn supervise(
        name: String,
        mut process: tokio::process::Child,
        _control: (),
        mut stopped: tokio::sync::mpsc::Receiver<()>,
        exit: tokio::sync::watch::Sender<Option<String>>,
        grace: Duration,
        place: OwnedSemaphorePermit,
    ) {
        let ended = tokio::select! {
            status = process.wait() => Some(status),
            _ = stopped.recv() => tokio::time::timeout(grace, process.wait()).await.ok(),
        };
        if ended.is_none() {
            let _ = process.kill().await;
        }
        debug!(server = name, "ended");
        drop(place);
        let _ = exit.send(Some("ended".into()));
    }
}
