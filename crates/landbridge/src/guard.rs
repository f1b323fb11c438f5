//! `landbridge guard`: the small process between the gateway and a server it started.
//!
//! ```text
//!   gateway ──control pipe──▶ guard ──▶ server ──▶ whatever it starts
//! ```
//!
//! A parent-death signal alone does not do: it fires when the *thread* that spawned ends, and it
//! is not inherited. So the guard is a child subreaper in a session of its own: every descendant,
//! double-forked and `setsid` ones included, becomes its child sooner or later. When the control
//! pipe ends, because the gateway said so or because it is gone, by SIGKILL too, the guard kills
//! its descendants until none is left. The standard streams are inherited by the server, so no
//! byte of the protocol passes through here. No tokio, one thread.

use std::ffi::OsString;
use std::process::ExitCode;

/// On the control pipe: end the server politely.
pub const TERMINATE: u8 = b't';

/// Runs `guard --control FD --files N -- COMMAND ARGS…` to its end. `FD` is the read end of the control
/// pipe, `N` the soft limit on open files that the server gets.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let number = |word: &OsString| word.to_str()?.parse::<u64>().ok();
    let parsed = match args.as_slice() {
        [control, fd, files, limit, dashes, command, rest @ ..] if control == "--control" && files == "--files" && dashes == "--" => {
            number(fd).zip(number(limit)).map(|(fd, files)| (fd as i32, files, command, rest))
        }
        _ => None,
    };
    let Some((fd, files, command, rest)) = parsed else {
        eprintln!("landbridge guard is started by landbridge itself; usage: guard --control FD --files N -- COMMAND ARGS…");
        return ExitCode::from(2);
    };
    imp::guard(fd, files, command, rest)
}

#[cfg(target_os = "linux")]
mod imp {
    use std::ffi::OsString;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::{FromRawFd as _, OwnedFd};
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::{Command, ExitCode};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

    /// How often orphans are reaped while nothing else happens.
    const REAP: Duration = Duration::from_secs(2);

    pub(super) fn guard(control_fd: i32, files: u64, command: &OsString, args: &[OsString]) -> ExitCode {
        // SAFETY: the gateway passes this descriptor for us alone; nothing else here owns it.
        let control = unsafe { OwnedFd::from_raw_fd(control_fd) };
        if rustix::io::fcntl_getfd(&control).is_err() {
            eprintln!("landbridge guard: no control pipe at descriptor {control_fd}");
            std::process::exit(2);
        }
        let _ = rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::CLOEXEC);
        // We were started by a link named `exe`, and would be listed by that name.
        let _ = std::fs::write("/proc/self/comm", "landbridge");
        // A session of our own: a terminal's Ctrl-C is for the gateway, which then tells us.
        let _ = rustix::process::setsid();
        if let Err(e) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            eprintln!("landbridge guard: cannot become a subreaper: {e}");
            return ExitCode::FAILURE;
        }

        // The gateway raised its limit for its connections; programs that use `select` rely on a low
        // one.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let lower = rustix::process::Rlimit { current: Some(files.min(limit.maximum.unwrap_or(files))), maximum: limit.maximum };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, lower);

        let mut server = Command::new(command);
        server.args(args);
        // SAFETY: between fork and exec this makes one system call and touches no memory.
        unsafe {
            server.pre_exec(|| {
                // Should we ourselves be killed, the server at least goes with us.
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                Ok(())
            });
        }
        let mut server = match server.spawn() {
            Ok(server) => server,
            Err(e) => {
                eprintln!("cannot start {}: {e}", command.to_string_lossy());
                return ExitCode::from(127);
            }
        };
        // Only the gateway ends us: a signal meant for everybody must not leave the server's own
        // children without somebody to end them. After the spawn, so that the server inherits none.
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            // SAFETY: ignoring a signal installs no handler.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        // The pipes belong to the server now; holding them would hide that it closed them.
        release_standard_streams();

        let code = watch(&mut server, control);
        kill_descendants();
        ExitCode::from(code)
    }

    fn release_standard_streams() {
        let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }

    /// Waits until the server or the gateway is gone; the server's exit code.
    fn watch(server: &mut std::process::Child, control: OwnedFd) -> u8 {
        let pid = Pid::from_child(server);
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return 1 };
        let mut control = File::from(control);
        loop {
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&control, PollFlags::IN)];
            let timeout = Timespec { tv_sec: REAP.as_secs() as i64, tv_nsec: 0 };
            if poll(&mut fds, Some(&timeout)).is_err() {
                continue; // interrupted
            }
            let (exited, told) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if exited {
                return match server.wait() {
                    Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) as u8,
                    Err(_) => 1,
                };
            }
            if told {
                let mut word = [0];
                match control.read(&mut word) {
                    Ok(1) if word[0] == super::TERMINATE => {
                        for pid in descendants() {
                            let _ = rustix::process::kill_process(pid, Signal::TERM);
                        }
                    }
                    _ => {
                        let _ = server.kill();
                        let _ = server.wait();
                        return 137;
                    }
                }
            }
            reap_orphans(pid);
        }
    }

    /// Reaps those who became our children by their parents' death, but not the server itself,
    /// whose exit code is still wanted.
    fn reap_orphans(server: Pid) {
        for pid in children_of(std::process::id() as i32) {
            if pid != server {
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
    }

    /// Kills until nobody is left. A descendant that forks while we look is found on the next
    /// look, because its parent's death makes it our child.
    fn kill_descendants() {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            for pid in descendants() {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            loop {
                match rustix::process::wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return, // no children: nobody is left
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Everybody below us, by the process table.
    fn descendants() -> Vec<Pid> {
        let table = processes();
        let mut found = vec![std::process::id() as i32];
        let mut at = 0;
        while at < found.len() {
            let parent = found[at];
            found.extend(table.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        found[1..].iter().filter_map(|pid| Pid::from_raw(*pid)).collect()
    }

    fn children_of(parent: i32) -> Vec<Pid> {
        processes().into_iter().filter(|(_, p)| *p == parent).filter_map(|(pid, _)| Pid::from_raw(pid)).collect()
    }

    /// Pid and parent of every process.
    fn processes() -> Vec<(i32, i32)> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The command's name stands in parentheses and may hold anything.
            let (_, rest) = stat.rsplit_once(')')?;
            Some((pid, rest.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::ffi::OsString;
    use std::process::{Command, ExitCode};

    /// Elsewhere the gateway starts servers directly; this only runs the command.
    pub(super) fn guard(_control: i32, _files: u64, command: &OsString, args: &[OsString]) -> ExitCode {
        match Command::new(command).args(args).status() {
            Ok(status) => ExitCode::from(status.code().unwrap_or(1) as u8),
            Err(e) => {
                eprintln!("cannot start {}: {e}", command.to_string_lossy());
                ExitCode::from(127)
            }
        }
    }
}
