//! Throughput of a gateway that also holds thousands of idle sessions, beside that without them.
//!
//! Odd: both are measured in turn on the same process, without, with, without and so on, and
//! each "with" is set against the mean of its two neighbours. So a machine that grows slower or
//! faster over the minute does not pass for an effect of the sessions.

use std::time::Duration;

use tokio::time::sleep;

use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::idle::{self, Kind};
use crate::load::{self, Load};
use crate::plan::{MANY, Mode, Work};
use crate::sample::Sample;
use crate::tally::median;
use crate::targets::Target;

pub(crate) struct BallastResult {
    pub(crate) target: &'static str,
    pub(crate) mode: Mode,
    pub(crate) sessions: usize,
    pub(crate) without: Sample,
    pub(crate) with: Sample,
    /// Median over the pairs of calls per second with, as a share of without.
    pub(crate) share: f64,
    pub(crate) errors: u64,
    pub(crate) example: Option<String>,
}

pub(crate) async fn measure(target: &Target, mode: Mode, sessions: usize, pairs: usize, window: Duration) -> Result<BallastResult, Fault> {
    let gateway = Gateway::start(target).await?;
    let load = Load {
        mode,
        work: Work::Plain,
        address: gateway.address,
        mcp_path: target.mcp_path,
        sse_path: target.sse_path,
        key: target.api_key,
        in_flight: MANY,
        warm_up: window / 4,
        window,
    };
    let mut without = vec![load::run(&load, gateway.processes()).await];
    let mut with = Vec::new();
    let mut errors = 0;
    let mut example = None;
    for _ in 0..pairs {
        // Sessions of HTTP+SSE, because those end with their stream and leave the next pair clean.
        let held = idle::hold(gateway.address, target, Kind::Sse, sessions).await;
        with.push(load::run(&load, gateway.processes()).await);
        errors += held.tally.errors + (sessions - held.opened) as u64 + held.lost();
        example = example.or_else(|| held.tally.example.clone());
        drop(held.sockets);
        sleep(Duration::from_millis(500)).await;
        without.push(load::run(&load, gateway.processes()).await);
    }
    gateway.stop().await;
    let share = median(
        with.iter()
            .zip(without.windows(2))
            .map(|(with, around)| with.per_second() / f64::midpoint(around[0].per_second(), around[1].per_second())),
    );
    let (Some(without), Some(with)) = (Sample::middle(&without), Sample::middle(&with)) else {
        return Err(Fault::setup("no pair of windows was asked for; this is a bug of the bench"));
    };
    errors += without.errors + with.errors;
    example = example.or(with.example.clone()).or(without.example.clone());
    Ok(BallastResult { target: target.key, mode, sessions, without, with, share, errors, example })
}
