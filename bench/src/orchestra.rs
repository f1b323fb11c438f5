//! Conducts a run: which rows, in which order, within which time, and what is left of it at the end.
//!
//! Odd: the rounds are interleaved, each going through all rows, so that a slow minute of the
//! machine hits every row once instead of one row three times. Being told to stop, or running
//! out of time, drops the measuring future, and with it every process it had started.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::ballast;
use crate::book::{Book, Measured};
use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::idle::{self, Kind};
use crate::load::{self, Load};
use crate::meter::Processes;
use crate::plan::{self, Mode, Row};
use crate::sample::Sample;
use crate::startup;
use crate::targets::{Target, Targets};
use crate::wear::{self, Wear};
use crate::{LoadArguments, RunArguments, machine, open_files, report, stdio_load};

/// How long and how often; the two ways to run.
struct Pace {
    rounds: usize,
    peer_rounds: usize,
    warm_up: Duration,
    /// Peers run on compilers that learn while they run, so they get longer to get going.
    peer_warm_up: Duration,
    window: Duration,
    idle: usize,
    /// Peers hold fewer: some start a process for each.
    peer_idle: usize,
    /// In front of an HTTP server each has a session there.
    remote_idle: usize,
    /// Whether there is time for two hundred thousand sessions.
    left_open: bool,
    pairs: usize,
    spawns: usize,
    deadline: Duration,
}

const QUICK: Pace = Pace {
    rounds: 3,
    peer_rounds: 1,
    warm_up: Duration::from_millis(250),
    peer_warm_up: Duration::from_millis(1000),
    window: Duration::from_millis(1000),
    idle: 10_000,
    peer_idle: 0,
    remote_idle: 1_000,
    left_open: false,
    pairs: 2,
    spawns: 9,
    deadline: Duration::from_secs(590),
};

const FULL: Pace = Pace {
    rounds: 3,
    peer_rounds: 3,
    warm_up: Duration::from_millis(1000),
    peer_warm_up: Duration::from_millis(3000),
    window: Duration::from_millis(4000),
    idle: 10_000,
    peer_idle: 500,
    remote_idle: 10_000,
    left_open: true,
    pairs: 3,
    spawns: 21,
    deadline: Duration::from_secs(1500),
};

/// No row takes longer than its window and this.
const ROW_SLACK: Duration = Duration::from_secs(45);

pub(crate) async fn run(arguments: &RunArguments) -> Result<(), Fault> {
    let pace = if arguments.quick { QUICK } else { FULL };
    let files = open_files::raise()?;
    let targets = Targets::find(arguments)?;
    let facts = machine::describe(&targets);
    let mut book = Book { notes: targets.notes.clone(), ..Book::default() };
    if files < 2 * pace.idle as u64 {
        book.notes.push(format!("The limit on open files is {files}; ten thousand idle sessions may not fit."));
    }
    let end = tokio::select! {
        () = measure(arguments, &pace, files, &targets, &mut book) => End::Whole,
        () = sleep(pace.deadline) => End::TooLate,
        () = told_to_stop() => End::Stopped,
    };
    match end {
        End::Whole => {}
        End::TooLate => book.notes.push(format!("The run was cut short at its deadline of {} s.", pace.deadline.as_secs())),
        End::Stopped => {
            return Err(Fault::setup("stopped by a signal; everything it had started was ended, no results were written"));
        }
    }
    print!("{}", report::summary(&book));
    if arguments.only.is_some() {
        eprintln!("A part of the rows is no result: {} was left as it is.", arguments.out.display());
        return Ok(());
    }
    let how = if arguments.quick { "scripts/bench --quick" } else { "scripts/bench" };
    std::fs::write(&arguments.out, report::file(&book, &facts, how)).map_err(|error| {
        Fault::setup(format!("cannot write {} ({error}); run from the root of the project or give --out", arguments.out.display()))
    })?;
    eprintln!("Wrote {}.", arguments.out.display());
    Ok(())
}

enum End {
    Whole,
    TooLate,
    Stopped,
}

async fn told_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hang_up.recv() => {} }
}

async fn measure(arguments: &RunArguments, pace: &Pace, files: u64, targets: &Targets, book: &mut Book) {
    let only = arguments.only.as_deref();
    let rows = plan::select(plan::rows(), only).into_iter().filter(|row| targets.get(row.target).is_some());
    book.rows = rows.map(|row| Measured { row, samples: Vec::new(), failure: None }).collect();
    for round in 0..pace.rounds.max(pace.peer_rounds) {
        for measured in &mut book.rows {
            let rounds = if measured.row.peer { pace.peer_rounds } else { pace.rounds };
            if round >= rounds || measured.failure.is_some() {
                continue;
            }
            let Some(target) = targets.get(measured.row.target) else {
                continue;
            };
            eprintln!("round {} {}", round + 1, measured.row.key());
            match within(pace.peer_warm_up + pace.window + ROW_SLACK, row(target, &measured.row, pace)).await {
                Ok(sample) => measured.samples.push(sample),
                Err(fault) => measured.failure = Some(fault.to_string()),
            }
        }
    }
    let asked = |name: &str| only.is_none_or(|pattern| name.contains(pattern));
    let wanted = |name: &str, target: &str| asked(&format!("{name}/{target}")).then(|| targets.get(target)).flatten();
    // A gateway needs a file for the stream of each client, and one for that at the server.
    let two_files_each = pace.remote_idle.min(files.saturating_sub(500) as usize / 2);
    if two_files_each < pace.remote_idle && asked("idle/landbridge-sessions") {
        book.notes.push(format!("The limit on open files is {files}; with two for each session there is room for {two_files_each}."));
    }
    for (name, kind, sessions) in [
        ("floor-http", Kind::Bare, pace.idle),
        ("landbridge-stdio", Kind::Sse, pace.idle),
        ("landbridge-stdio", Kind::Streamable, pace.idle),
        ("landbridge-sessions", Kind::Session, pace.remote_idle),
        ("landbridge-sessions", Kind::Streamable, two_files_each),
        ("mcp-proxy-py", Kind::Sse, pace.peer_idle),
        ("supergateway-sse", Kind::Sse, pace.peer_idle),
        ("mcp-proxy-npm", Kind::Sse, pace.peer_idle),
    ] {
        let Some(target) = wanted("idle", name).filter(|_| sessions > 0) else {
            continue;
        };
        eprintln!("idle {name} {}", kind.name());
        match within(2 * ROW_SLACK, idle::measure(target, kind, sessions)).await {
            Ok(result) => book.idle.push(result),
            Err(fault) => book.notes.push(format!("idle {name} {}: {fault}", kind.name())),
        }
    }
    for mode in [Mode::Streamable, Mode::Stateless] {
        let Some(target) = wanted("ballast", "landbridge-stdio") else {
            continue;
        };
        eprintln!("ballast {}", mode.name());
        match within(4 * ROW_SLACK, ballast::measure(target, mode, pace.idle / 2, pace.pairs, pace.window)).await {
            Ok(result) => book.ballast.push(result),
            Err(fault) => book.notes.push(format!("ballast {}: {fault}", mode.name())),
        }
    }
    for (name, mode, spawns) in [
        ("floor-http", Mode::Stateless, pace.spawns),
        ("landbridge-embedded", Mode::Stateless, pace.spawns),
        ("floor-stdio", Mode::Streamable, pace.spawns),
        ("landbridge-stdio", Mode::Streamable, pace.spawns),
        ("mcp-proxy-py", Mode::Streamable, pace.peer_rounds),
        ("supergateway-http", Mode::Streamable, pace.peer_rounds),
        ("supergateway-sse", Mode::Sse, pace.peer_rounds),
        ("mcp-proxy-npm", Mode::Streamable, pace.peer_rounds),
    ] {
        let Some(target) = wanted("start", name) else {
            continue;
        };
        eprintln!("start {name}");
        match within(4 * ROW_SLACK, startup::measure(target, mode, spawns)).await {
            Ok(result) => book.startup.push(result),
            Err(fault) => book.notes.push(format!("start {name}: {fault}")),
        }
    }
    for (name, wear) in
        [("landbridge-forgotten", Wear::Sessions), ("landbridge-broken-off", Wear::Streams), ("landbridge-stdio", Wear::Clients)]
    {
        let Some(target) = wanted("wear", name).filter(|_| pace.left_open || wear != Wear::Clients) else {
            continue;
        };
        eprintln!("wear {name}");
        match within(4 * ROW_SLACK, wear::measure(target, wear)).await {
            Ok(result) => book.wear.push(result),
            Err(fault) => book.notes.push(format!("wear {name}: {fault}")),
        }
    }
    if let Some(landbridge) = targets.landbridge.as_deref().filter(|_| asked("size")) {
        match startup::stripped_mib(landbridge) {
            Ok(size) => book.stripped_mib = Some(size),
            Err(fault) => book.notes.push(fault.to_string()),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(Fault::broken(format!("it was not done within {} s", limit.as_secs()))))
}

async fn row(target: &Target, row: &Row, pace: &Pace) -> Result<Sample, Fault> {
    if row.mode == Mode::Stdio {
        let Some(behind) = &target.behind else {
            return stdio_load::run(&target.command, None, row.in_flight, pace.warm_up, pace.window).await;
        };
        let behind = Gateway::start(behind).await?;
        let port = behind.address.port().to_string();
        let command: Vec<String> = target.command.iter().map(|part| part.replace("{behind}", &port)).collect();
        let sample = stdio_load::run(&command, Some(behind.pid), row.in_flight, pace.warm_up, pace.window).await;
        behind.stop().await;
        return sample;
    }
    let gateway = Gateway::start(target).await?;
    let load = Load {
        mode: row.mode,
        work: row.work,
        address: gateway.address,
        mcp_path: target.mcp_path,
        sse_path: target.sse_path,
        key: target.api_key,
        in_flight: row.in_flight,
        warm_up: if row.peer { pace.peer_warm_up } else { pace.warm_up },
        window: pace.window,
    };
    let sample = load::run(&load, gateway.processes()).await;
    gateway.stop().await;
    Ok(sample)
}

/// Puts load on a server somebody else started, for a look at one thing.
pub(crate) async fn load_one(arguments: &LoadArguments) -> Result<(), Fault> {
    let window = Duration::try_from_secs_f64(arguments.seconds)
        .map_err(|error| Fault::setup(format!("--seconds {}: {error}; give a number above zero", arguments.seconds)))?;
    let load = Load {
        mode: arguments.mode,
        work: arguments.work,
        address: arguments.address,
        // The process ends with this load, so nothing is lost by keeping these two for ever.
        mcp_path: arguments.mcp_path.clone().leak(),
        sse_path: arguments.sse_path.clone().leak(),
        key: None,
        in_flight: arguments.in_flight,
        warm_up: window / 4,
        window,
    };
    let (mode, work, in_flight) = (arguments.mode, arguments.work, arguments.in_flight);
    let row = Row { group: "load", target: "server", mode, work, in_flight, floor: None, peer: false };
    let sample = load::run(&load, Processes { gateway: arguments.pid, behind: arguments.behind }).await;
    let rows = vec![Measured { row, samples: vec![sample], failure: None }];
    print!("{}", report::rows_only(&Book { rows, ..Book::default() }));
    Ok(())
}
