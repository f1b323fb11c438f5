//! Puts load on one running gateway for one window and measures both.
//!
//! Odd: the window is announced only when every client has finished its handshake, so slow
//! starts do not eat into it. CPU is read at its two edges and only calls that end between
//! them count. Errors count whenever they happen.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::asking_client::AskingClient;
use crate::fault::Fault;
use crate::http_client::HttpClient;
use crate::meter::{Meter, Processes, Used};
use crate::plan::{Mode, Work};
use crate::sample::Sample;
use crate::sse_client::SseClient;
use crate::tally::Tally;

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) mode: Mode,
    pub(crate) work: Work,
    pub(crate) address: SocketAddr,
    pub(crate) mcp_path: &'static str,
    pub(crate) sse_path: &'static str,
    /// The API key of the clients.
    pub(crate) key: Option<&'static str>,
    pub(crate) in_flight: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

#[derive(Clone, Copy)]
struct Window {
    from: std::time::Instant,
    to: std::time::Instant,
}

/// How long all handshakes together may take: a peer may start a process for each.
const OPENING: Duration = Duration::from_secs(20);
/// How long after the window an answer may still come before it counts as lost.
const GRACE: Duration = Duration::from_secs(2);

pub(crate) enum Client {
    Http(Box<HttpClient>),
    Sse(Box<SseClient>),
    Asking(Box<AskingClient>),
}

impl Client {
    pub(crate) async fn open(load: &Load, number: usize) -> Result<Self, Fault> {
        let Load { mode, work, address, mcp_path, sse_path, key, .. } = *load;
        match (mode, work) {
            (Mode::Streamable | Mode::Stateless, Work::Asking) => {
                AskingClient::open(address, mcp_path, mode, number).await.map(|client| Client::Asking(client.into()))
            }
            (Mode::Streamable | Mode::Stateless, _) => {
                HttpClient::open(address, mcp_path, mode, work, number, key).await.map(|client| Client::Http(client.into()))
            }
            (Mode::Sse, Work::Asking) => Err(Fault::setup("no client of the bench is asked over HTTP+SSE; choose another --mode")),
            (Mode::Sse, _) => SseClient::open(address, sse_path, work, number).await.map(|client| Client::Sse(client.into())),
            (Mode::Stdio, _) => Err(Fault::setup("stdio load needs no gateway; this is a bug of the bench")),
        }
    }

    pub(crate) async fn call(&mut self) -> Result<Duration, Fault> {
        match self {
            Client::Http(client) => client.call().await,
            Client::Sse(client) => client.call().await,
            Client::Asking(client) => client.call().await,
        }
    }

    fn strays(&mut self) -> (u64, Option<String>) {
        match self {
            Client::Http(_) | Client::Asking(_) => (0, None),
            Client::Sse(client) => client.strays(),
        }
    }
}

pub(crate) async fn run(load: &Load, processes: Processes) -> Sample {
    let (announce, announced) = watch::channel(None);
    let (ready, mut all_ready) = mpsc::channel(load.in_flight);
    let mut clients = JoinSet::new();
    for number in 0..load.in_flight {
        clients.spawn(run_client(*load, number, ready.clone(), announced.clone()));
    }
    drop(ready);
    for _ in 0..load.in_flight {
        all_ready.recv().await;
    }
    let from = std::time::Instant::now() + load.warm_up;
    let _ = announce.send(Some(Window { from, to: from + load.window }));
    sleep_until(from.into()).await;
    // Made after the warm-up, because a gateway may start its children only when first called.
    let meter = Meter::new(processes);
    let (began, before) = (Instant::now(), meter.read());
    sleep_until((from + load.window).into()).await;
    let (seconds, used) = (began.elapsed().as_secs_f64(), meter.used_since(&before));
    let rss_mib = meter.gateway_rss_kib() / 1024.0;
    let mut tally = Tally::default();
    while let Some(client) = clients.join_next().await {
        match client {
            Ok(counted) => tally.add(counted),
            Err(error) => tally.fault(&Fault::setup(format!("a client of the bench broke ({error}); this is a bug of the bench"))),
        }
    }
    sample(tally, seconds, &used, rss_mib)
}

pub(crate) fn sample(mut tally: Tally, seconds: f64, used: &Used, rss_mib: f64) -> Sample {
    let [p50_us, p99_us] = tally.percentiles_us([0.5, 0.99]);
    let each = |time: Duration| time.as_secs_f64() * 1e6 / tally.calls() as f64;
    Sample {
        calls: tally.calls(),
        seconds,
        gateway_us: each(used.gateway),
        child_us: used.servers.map_or(f64::NAN, each),
        generator_us: each(used.generator),
        p50_us,
        p99_us,
        errors: tally.errors,
        example: tally.example,
        rss_mib,
        others: used.others,
    }
}

async fn run_client(load: Load, number: usize, ready: mpsc::Sender<()>, mut announced: watch::Receiver<Option<Window>>) -> Tally {
    let mut tally = Tally::default();
    let mut client = match timeout(OPENING, Client::open(&load, number)).await {
        Ok(Ok(client)) => Some(client),
        Ok(Err(fault)) => {
            tally.fault(&fault);
            None
        }
        Err(_) => {
            tally.fault(&Fault::broken("the handshake took longer than 20 s"));
            None
        }
    };
    // Once a server has asked, its calls take turns; before, questions that cross are refused.
    if load.work == Work::Asking
        && number == 0
        && let Some(Err(fault)) = async { Some(client.as_mut()?.call().await) }.await
    {
        tally.fault(&fault);
    }
    let _ = ready.send(()).await;
    let Ok(window) = announced.wait_for(Option::is_some).await.map(|window| *window) else {
        return tally;
    };
    let Some(window) = window else { return tally };
    let in_time = timeout_at((window.to + GRACE).into(), call_until_the_end(&load, number, window, &mut client, &mut tally)).await;
    if in_time.is_err() {
        tally.fault(&Fault::broken("an answer had not come two seconds after the window"));
    }
    if let Some(client) = &mut client {
        let (count, example) = client.strays();
        tally.faults(count, example);
    }
    tally
}

async fn call_until_the_end(load: &Load, number: usize, window: Window, client: &mut Option<Client>, tally: &mut Tally) {
    while !tally.gave_up() && std::time::Instant::now() < window.to {
        let Some(open) = client else {
            match Client::open(load, number).await {
                Ok(opened) => *client = Some(opened),
                Err(fault) => {
                    tally.fault(&fault);
                    sleep(Duration::from_millis(20)).await;
                }
            }
            continue;
        };
        match open.call().await {
            Ok(elapsed) => {
                let now = std::time::Instant::now();
                if now >= window.from && now < window.to {
                    tally.record(elapsed);
                }
            }
            Err(fault) => {
                tally.fault(&fault);
                if !matches!(fault, Fault::Wrong(_)) {
                    let (count, example) = open.strays();
                    tally.faults(count, example);
                    *client = None;
                }
            }
        }
    }
}
