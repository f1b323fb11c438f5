//! Times a gateway from its spawn to the first call it answers, and weighs it at rest.
//!
//! Odd: it polls the port with short blocking sleeps, because the runtime's timers tick in
//! milliseconds and the time sought is a few of them. Nothing else runs meanwhile.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::load::{Client, Load};
use crate::meter::rss_kib;
use crate::plan::{Mode, Work};
use crate::tally::median;
use crate::targets::Target;

pub(crate) struct StartupResult {
    pub(crate) target: &'static str,
    pub(crate) mode: Mode,
    pub(crate) spawns: usize,
    /// Median time from spawn to the first answer, in milliseconds.
    pub(crate) milliseconds: f64,
    /// Resident memory some time after that one call.
    pub(crate) rss_mib: f64,
}

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(target: &Target, mode: Mode, spawns: usize) -> Result<StartupResult, Fault> {
    let mut times = Vec::new();
    let mut rss_mib = f64::NAN;
    for spawn in 1..=spawns {
        let began = Instant::now();
        let gateway = Gateway::spawn(target)?;
        let load = Load {
            mode,
            work: Work::Plain,
            address: gateway.address,
            mcp_path: target.mcp_path,
            sse_path: target.sse_path,
            key: target.api_key,
            in_flight: 1,
            warm_up: Duration::ZERO,
            window: Duration::ZERO,
        };
        while std::net::TcpStream::connect(gateway.address).is_err() {
            if began.elapsed() > PATIENCE {
                return Err(Fault::setup(format!("{} did not listen within 20 s; start it by hand to see why", target.key)));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        timeout(PATIENCE, async { Client::open(&load, 0).await?.call().await })
            .await
            .map_err(|_| Fault::broken(format!("{} listened and answered no call within 20 s", target.key)))??;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        if spawn == spawns {
            sleep(Duration::from_millis(300)).await;
            rss_mib = rss_kib(gateway.pid) / 1024.0;
        }
        gateway.stop().await;
    }
    Ok(StartupResult { target: target.key, mode, spawns, milliseconds: median(times), rss_mib })
}

/// The size of a binary without its symbols, in MiB.
pub(crate) fn stripped_mib(binary: &Path) -> Result<f64, Fault> {
    let copy = std::env::temp_dir().join(format!("landbridge-bench-{}.stripped", std::process::id()));
    let stripped = Command::new("strip").arg("-o").arg(&copy).arg(binary).stderr(Stdio::null()).status();
    let measured = if stripped.is_ok_and(|status| status.success()) { copy.as_path() } else { binary };
    let size = std::fs::metadata(measured).map(|metadata| metadata.len() as f64 / 1024.0 / 1024.0);
    let _ = std::fs::remove_file(&copy);
    size.map_err(|error| Fault::setup(format!("cannot weigh {} ({error}); build it first", binary.display())))
}
