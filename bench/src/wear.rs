//! What is left in a gateway after its server forgot it, or its clients left it, thousands of times.
//!
//! Odd: memory is read twice, after the first of them and after all. What comes before the first reading is
//! no growth: buffers, the 20,000 sessions that a gateway keeps, and the allocator's waste, which takes a
//! while to find its size.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::http_client::HttpClient;
use crate::idle::{self, Kind};
use crate::meter::rss_kib;
use crate::plan::{MANY, Mode, Work};
use crate::session_server::{Seen, seen};
use crate::tally::Tally;
use crate::targets::Target;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Wear {
    /// The server forgets the session of every call.
    Sessions,
    /// The server ends the stream of every call's session.
    Streams,
    /// Clients open sessions and never come back.
    Clients,
}

impl Wear {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Wear::Sessions => "sessions that the server forgot",
            Wear::Streams => "streams that the server broke off",
            Wear::Clients => "sessions that clients left open",
        }
    }

    /// After how many memory is read.
    pub(crate) fn marks(self) -> [u64; 2] {
        if self == Wear::Clients { [100_000, 200_000] } else { [1_000, 10_000] }
    }

    /// How many there were, as the server counts them.
    fn count(self, seen: &Seen) -> u64 {
        if self == Wear::Sessions { seen.sessions_so_far } else { seen.streams_so_far }
    }
}

pub(crate) struct WearResult {
    pub(crate) target: &'static str,
    pub(crate) wear: Wear,
    pub(crate) counts: [u64; 2],
    pub(crate) rss_mib: [f64; 2],
    pub(crate) seconds: f64,
    pub(crate) errors: u64,
    pub(crate) example: Option<String>,
}

impl WearResult {
    pub(crate) fn grown_mib(&self) -> f64 {
        self.rss_mib[1] - self.rss_mib[0]
    }

    /// What may pass for nothing: an allocator gives no page back at once.
    pub(crate) fn allowed_mib(&self) -> f64 {
        (self.rss_mib[0] * 0.05).max(2.0)
    }
}

pub(crate) async fn measure(target: &Target, wear: Wear) -> Result<WearResult, Fault> {
    let gateway = Gateway::start(target).await?;
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut result =
        WearResult { target: target.key, wear, counts: [0; 2], rss_mib: [f64::NAN; 2], seconds: 0.0, errors: 0, example: None };
    let mut clients = Vec::new();
    for at in 0..2 {
        let mark = wear.marks()[at];
        match gateway.behind_address() {
            Some(server) => {
                while clients.len() < MANY {
                    let client = HttpClient::open(gateway.address, target.mcp_path, Mode::Streamable, Work::Plain, clients.len(), None);
                    clients.push(client.await?);
                }
                result.counts[at] = call_until(&mut clients, server, wear, mark, &mut tally).await?;
            }
            None => {
                result.counts[at] = result.counts[0];
                while result.counts[at] < mark && tally.errors == 0 {
                    let held = idle::hold(gateway.address, target, Kind::Session, AT_ONCE.min((mark - result.counts[at]) as usize)).await;
                    result.counts[at] += held.opened as u64;
                    tally.add(held.tally);
                }
            }
        }
        sleep(Duration::from_millis(500)).await;
        result.rss_mib[at] = rss_kib(gateway.pid) / 1024.0;
    }
    gateway.stop().await;
    Ok(WearResult { seconds: began.elapsed().as_secs_f64(), errors: tally.errors, example: tally.example, ..result })
}

/// Opened in one go, within the time that an opener has.
const AT_ONCE: usize = 25_000;

/// Lets all clients call until the server has counted up to `mark`; answers how far it came.
async fn call_until(clients: &mut Vec<HttpClient>, server: SocketAddr, wear: Wear, mark: u64, tally: &mut Tally) -> Result<u64, Fault> {
    let enough = Arc::new(AtomicBool::new(false));
    let mut calling = JoinSet::new();
    for mut client in clients.drain(..) {
        let enough = enough.clone();
        calling.spawn(async move {
            let mut tally = Tally::default();
            while !enough.load(Ordering::Relaxed) && tally.errors == 0 {
                let _ = client.call().await.inspect_err(|fault| tally.fault(fault));
            }
            (client, tally)
        });
    }
    let mut counted = 0;
    // Each client that still calls holds one of these too.
    while counted < mark && Arc::strong_count(&enough) > 1 {
        sleep(Duration::from_millis(5)).await;
        counted = wear.count(&seen(server).await?);
    }
    enough.store(true, Ordering::Relaxed);
    while let Some(ended) = calling.join_next().await {
        let (client, called) =
            ended.map_err(|error| Fault::setup(format!("a client of the bench broke ({error}); this is a bug of the bench")))?;
        clients.push(client);
        tally.add(called);
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mebibytes_or_a_twentieth_pass_for_nothing() {
        let result = |early, late| WearResult {
            target: "gateway",
            wear: Wear::Clients,
            counts: [1, 2],
            rss_mib: [early, late],
            seconds: 1.0,
            errors: 0,
            example: None,
        };
        assert_eq!((result(10.0, 13.0).grown_mib(), result(10.0, 13.0).allowed_mib()), (3.0, 2.0));
        assert_eq!(result(100.0, 100.0).allowed_mib(), 5.0);
    }
}
