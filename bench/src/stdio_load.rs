//! Drives a stdio server over its own pipes: the reference row with no gateway at all, and a gateway that
//! is such a server.
//!
//! Odd: one pipe carries all the calls in flight, so here one client keeps many calls open and
//! numbers them in one row. Each answer that is read buys the next call, and all calls bought
//! by one read go out in one write.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::answer::{Verdict, judge};
use crate::call::{self, Calls};
use crate::fault::Fault;
use crate::http_client::SESSION_REVISION;
use crate::load::sample;
use crate::meter::{Meter, Processes};
use crate::plan::{Mode, Work};
use crate::sample::Sample;
use crate::tally::Tally;

struct Pipes {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    bytes: Vec<u8>,
}

/// Without an answer for so long, the child is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// `behind`: what is driven is no server itself, but in front of that one.
pub(crate) async fn run(
    command: &[String],
    behind: Option<u32>,
    in_flight: usize,
    warm_up: Duration,
    window: Duration,
) -> Result<Sample, Fault> {
    let mut pipes = Pipes::open(command)?;
    pipes.handshake().await?;
    let driven = pipes.child.id().ok_or_else(|| Fault::broken("the child ended during the handshake"))?;
    let meter = Meter::new(Processes { gateway: driven, behind });
    let mut tally = Tally::default();
    let mut calls = Calls::new(Mode::Stdio, Work::Plain, 0, 2, Vec::new());
    let mut waiting: HashMap<String, (Instant, String)> = HashMap::new();
    let from = Instant::now() + warm_up;
    let mut before = None;
    let mut due = in_flight;
    let mut out = Vec::new();
    loop {
        let now = Instant::now();
        if before.is_none() && now >= from {
            before = Some((now, meter.read()));
        }
        if before.as_ref().is_some_and(|(began, _)| now.duration_since(*began) >= window) || tally.gave_up() {
            break;
        }
        for _ in 0..due {
            calls.advance();
            calls.write_body(&mut out);
            out.push(b'\n');
            waiting.insert(calls.id().to_owned(), (now, calls.message().to_owned()));
        }
        pipes.write(&out).await?;
        out.clear();
        let lines = pipes.read_lines().await?;
        due = lines.len();
        let now = Instant::now();
        for line in lines {
            match settle(&line, &mut waiting) {
                Ok(sent) if before.is_some() => tally.record(now - sent),
                Ok(_) => {}
                Err(fault) => tally.fault(&fault),
            }
        }
    }
    let (began, before) = before.unwrap_or_else(|| (from, meter.read()));
    let (seconds, used) = (began.elapsed().as_secs_f64(), meter.used_since(&before));
    let rss_mib = meter.gateway_rss_kib() / 1024.0;
    let mut sample = sample(tally, seconds, &used, rss_mib);
    if behind.is_none() {
        // What was metered is the child.
        sample.child_us = std::mem::replace(&mut sample.gateway_us, f64::NAN);
    }
    Ok(sample)
}

/// Finds the call that `line` answers and checks its text.
fn settle(line: &[u8], waiting: &mut HashMap<String, (Instant, String)>) -> Result<Instant, Fault> {
    let value: serde_json::Value = serde_json::from_slice(line).map_err(|_| Fault::wrong("the child wrote a line that is not JSON"))?;
    let id = value["id"].to_string();
    let (sent, message) = waiting.remove(&id).ok_or_else(|| Fault::wrong(format!("the child answered id {id}, which is not open")))?;
    match judge(line, &id, Some(&message)) {
        Verdict::Right => Ok(sent),
        other => Err(Fault::wrong(format!("{other:?}"))),
    }
}

impl Pipes {
    fn open(command: &[String]) -> Result<Self, Fault> {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Fault::setup(format!("cannot start the child {} ({error}); check the command", command[0])))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok(Pipes { child, stdin, stdout, bytes: Vec::with_capacity(64 * 1024) }),
            _ => Err(Fault::setup("the child came without pipes; this is a bug of the bench")),
        }
    }

    async fn handshake(&mut self) -> Result<(), Fault> {
        self.write(format!("{}\n", call::initialize(SESSION_REVISION, Work::Plain)).as_bytes()).await?;
        match &self.read_lines().await?[..] {
            [line] if judge(line, "1", None) == Verdict::Right => {}
            _ => {
                return Err(Fault::wrong("the child did not answer initialize with one result"));
            }
        }
        self.write(format!("{}\n", call::INITIALIZED).as_bytes()).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stdin.write_all(bytes).await.map_err(|error| Fault::broken(format!("the child closed its input: {error}")))
    }

    /// At least one whole line, and all that came with it.
    async fn read_lines(&mut self) -> Result<Vec<Vec<u8>>, Fault> {
        loop {
            let mut lines: Vec<Vec<u8>> = self.bytes.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
            let rest = lines.pop().unwrap_or_default();
            if !lines.is_empty() {
                self.bytes.clear();
                self.bytes.extend_from_slice(&rest);
                return Ok(lines);
            }
            let read = timeout(PATIENCE, self.stdout.read_buf(&mut self.bytes)).await;
            match read {
                Ok(Ok(read)) if read > 0 => {}
                Ok(_) => return Err(Fault::broken("the child closed its output")),
                Err(_) => return Err(Fault::broken("the child did not answer for five seconds")),
            }
        }
    }
}
