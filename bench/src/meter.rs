//! Reads what other processes use: CPU time, resident memory, and who their children are.
//!
//! Odd: CPU time comes from each process's own clock and not from /proc/PID/stat, whose ticks
//! of ten milliseconds are too coarse for a window of one second. The clock counts the same
//! user and system time, of threads that have ended as well.

use std::fs;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// The processes of a row besides the load generator.
#[derive(Clone, Copy)]
pub(crate) struct Processes {
    pub(crate) gateway: u32,
    /// The server behind it, where the gateway did not start it itself.
    pub(crate) behind: Option<u32>,
}

/// A gateway and its servers, as they were when the meter was made.
pub(crate) struct Meter {
    processes: Processes,
    servers: Vec<u32>,
}

#[derive(Clone, Copy)]
pub(crate) struct Reading {
    gateway: Duration,
    servers: Duration,
    generator: Duration,
    busy: f64,
    whole: f64,
}

/// What a row used between two readings.
pub(crate) struct Used {
    pub(crate) gateway: Duration,
    /// Nothing if processes below the gateway came or went meanwhile: their time is not known.
    pub(crate) servers: Option<Duration>,
    pub(crate) generator: Duration,
    /// Share of the machine that went to processes which have no part in the row.
    pub(crate) others: f64,
}

impl Meter {
    pub(crate) fn new(processes: Processes) -> Self {
        Meter { processes, servers: servers(processes) }
    }

    pub(crate) fn read(&self) -> Reading {
        let (busy, whole) = machine_time();
        Reading {
            gateway: cpu_time(self.processes.gateway),
            servers: self.servers.iter().map(|&pid| cpu_time(pid)).sum(),
            generator: cpu_time(std::process::id()),
            busy,
            whole,
        }
    }

    /// Reads again and sets that against `before`.
    pub(crate) fn used_since(&self, before: &Reading) -> Used {
        let after = self.read();
        let gateway = after.gateway.saturating_sub(before.gateway);
        let servers_used = after.servers.saturating_sub(before.servers);
        let generator = after.generator.saturating_sub(before.generator);
        let ours = (gateway + servers_used + generator).as_secs_f64();
        let busy = (after.busy - before.busy) / TICKS_PER_SECOND;
        let whole = (after.whole - before.whole) / TICKS_PER_SECOND;
        let same = servers(self.processes) == self.servers;
        Used {
            gateway,
            servers: same.then_some(servers_used),
            generator,
            // Ticks are coarse, so a quiet machine may come out a little below nothing. Children
            // whose time is not known would pass for strangers, so then nothing is said.
            others: if same { ((busy - ours) / whole).max(0.0) } else { f64::NAN },
        }
    }

    pub(crate) fn gateway_rss_kib(&self) -> f64 {
        rss_kib(self.processes.gateway)
    }

    pub(crate) fn servers_rss_kib(&self) -> f64 {
        self.servers.iter().map(|&pid| rss_kib(pid)).sum()
    }
}

/// The unit of /proc/stat; fixed at this value on every Linux with a current ABI.
const TICKS_PER_SECOND: f64 = 100.0;

/// Ticks that all cores together were busy or stolen from us, and ticks in all.
fn machine_time() -> (f64, f64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|text| text.parse().ok()).collect();
    let whole: f64 = ticks.iter().sum();
    (whole - ticks.iter().skip(3).take(2).sum::<f64>(), whole)
}

/// User and system time so far; none for a process that is gone.
fn cpu_time(pid: u32) -> Duration {
    clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))
        .and_then(clock_gettime)
        .map_or(Duration::ZERO, |time| Duration::new(time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs() as u32))
}

pub(crate) fn rss_kib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(f64::NAN)
}

/// All processes below the gateway, and the server behind it with those below that.
fn servers(Processes { gateway, behind }: Processes) -> Vec<u32> {
    let mut servers = descendants(gateway);
    servers.extend(behind.into_iter().flat_map(|behind| [vec![behind], descendants(behind)].concat()));
    servers.sort_unstable();
    servers
}

/// Every process below `root`, nearest first.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, parent(pid)?))
        })
        .collect();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == found[at]).map(|(pid, _)| *pid).collect::<Vec<_>>());
        at += 1;
    }
    found.split_off(1)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself hold spaces and parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let me = std::process::id();
        assert!(cpu_time(me) > Duration::ZERO);
        assert!(rss_kib(me) > 100.0);
        // Above the kernel's highest pid, and still within the bits a clock id has for one.
        assert_eq!(cpu_time(50_000_000), Duration::ZERO);
    }

    #[test]
    fn children_that_come_meanwhile_make_their_time_unknown() {
        let meter = Meter::new(Processes { gateway: std::process::id(), behind: None });
        let before = meter.read();
        let mut child = std::process::Command::new("sleep").arg("5").spawn().expect("sleep starts");
        let used = meter.used_since(&before);
        child.kill().expect("sleep can be killed");
        child.wait().expect("sleep can be waited for");
        assert_eq!(used.servers, None);
        assert!(used.others.is_nan());
    }

    #[test]
    fn a_server_behind_the_gateway_is_no_stranger() {
        let mut gateway = std::process::Command::new("sleep").arg("5").spawn().expect("sleep starts");
        let mut server = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh starts");
        let meter = Meter::new(Processes { gateway: gateway.id(), behind: Some(server.id()) });
        let before = meter.read();
        while cpu_time(server.id()) < Duration::from_millis(50) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let used = meter.used_since(&before);
        for child in [&mut gateway, &mut server] {
            child.kill().expect("it can be killed");
            child.wait().expect("it can be waited for");
        }
        let some = Duration::from_millis(20);
        assert!(used.servers > Some(some));
        // It may still be starting, and be as good as idle.
        assert!(used.gateway < some, "{:?}", used.gateway);
    }

    #[test]
    fn a_child_is_found_below_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("5").spawn().expect("sleep starts");
        assert!(descendants(std::process::id()).contains(&child.id()));
        child.kill().expect("sleep can be killed");
        child.wait().expect("sleep can be waited for");
    }
}
