//! Describes where a run happened: the machine, and the version of everything that took part.
//!
//! Odd: versions of peers are read from what is installed, not from the lock files, so the
//! results tell what ran even if somebody changed the directory by hand. No path is printed.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::targets::Targets;

/// Pairs of a name and a value, for the head of the results.
pub(crate) fn describe(targets: &Targets) -> Vec<(String, String)> {
    let mut facts = vec![
        ("date".to_owned(), first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("cpu".to_owned(), format!("{}, {} cores", cpu_model(), std::thread::available_parallelism().map_or(0, usize::from))),
        ("memory".to_owned(), memory()),
        ("kernel".to_owned(), format!("Linux {}", read("/proc/sys/kernel/osrelease"))),
        ("load before".to_owned(), read("/proc/loadavg")),
        ("rustc".to_owned(), first_line("rustc", &["--version"])),
    ];
    if let Some(landbridge) = &targets.landbridge {
        facts.push(("landbridge".to_owned(), first_line(&landbridge.to_string_lossy(), &["--version"])));
        facts.push(("commit".to_owned(), first_line("git", &["rev-parse", "--short", "HEAD"])));
    }
    if let Some(peers) = &targets.peers {
        facts.push(("node".to_owned(), first_line("node", &["--version"])));
        let python = peers.join("venv/bin/python");
        facts.push(("python".to_owned(), first_line(&python.to_string_lossy(), &["--version"])));
        for package in ["supergateway", "mcp-proxy"] {
            facts.push((format!("{package} (npm)"), npm_version(peers, package)));
        }
        facts.push(("mcp-proxy (PyPI)".to_owned(), first_line(&peers.join("venv/bin/mcp-proxy").to_string_lossy(), &["--version"])));
    }
    facts
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn cpu_model() -> String {
    let info = read("/proc/cpuinfo");
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

fn memory() -> String {
    let info = read("/proc/meminfo");
    let kib = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{:.1} GiB", kib / 1024.0 / 1024.0))
}

fn npm_version(peers: &Path, package: &str) -> String {
    let manifest = peers.join("node_modules").join(package).join("package.json");
    fs::read(manifest)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .and_then(|value| value["version"].as_str().map(str::to_owned))
        .unwrap_or_else(|| "not installed".to_owned())
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}
