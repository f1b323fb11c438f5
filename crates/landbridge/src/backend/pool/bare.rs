//! A server's process with nothing in between: each line as it comes, for who wants to see all of them.
//!
//! It runs under a guard as every server does, so nobody is left when it is dropped.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;

use landbridge_proto::lines::{Line, Lines};

use crate::backend::lock;
use crate::backend::pool::child::{self, Command, Spawned};
use crate::plan::Limits;

/// For the last words of a process that ended to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A process that was started and not met.
pub(crate) struct Bare {
    spawned: Spawned,
    lines: Lines,
    stop: Duration,
    /// Whether its last words were waited for.
    heard_out: bool,
}

impl Bare {
    /// Starts it.
    pub(crate) async fn start(
        name: &str,
        argv: &[String],
        env: &BTreeMap<String, String>,
        cwd: Option<&Path>,
        limits: &Limits,
    ) -> io::Result<Bare> {
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.map_err(io::Error::other)?;
        let spawned = child::spawn(name, &Command::new(argv, env, cwd), place, limits)?;
        let stop = Duration::from_millis(limits.child_stop_ms) + Duration::from_secs(2);
        Ok(Bare { spawned, lines: Lines::new(limits.message_bytes), stop, heard_out: false })
    }

    /// Writes bytes. Whoever does not read them makes this wait.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.spawned.stdin.write_all(bytes).await
    }

    /// The next line; `None`: it closed its output. Nothing is lost when this is dropped.
    pub(crate) async fn line(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.lines.next_line() {
                return Some(line);
            }
            match self.spawned.stdout.read_buf(self.lines.buffer()).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// How it ended and what it said last, if it did.
    pub(crate) async fn last_words(&mut self) -> String {
        // What has arrived once does not arrive again.
        if !std::mem::replace(&mut self.heard_out, true) {
            let _ = tokio::time::timeout(LAST_WORDS, &mut self.spawned.stderr_done).await;
        }
        let ended = tokio::time::timeout(LAST_WORDS, self.spawned.control.exited.wait_for(Option::is_some)).await;
        let how = match ended {
            Ok(Ok(how)) => how.clone().unwrap_or_default(),
            _ => String::new(),
        };
        let words = lock(&self.spawned.last_words).clone();
        match (how.is_empty(), words.is_empty()) {
            (_, true) => how,
            (true, false) => format!("it said: {words}"),
            (false, false) => format!("{how}; it said: {words}"),
        }
    }

    /// Closes its input, and ends it if that takes longer than `patience`: whether it went by itself. It
    /// is gone when this returns.
    pub(crate) async fn end(self, patience: Duration) -> bool {
        let Spawned { mut control, stdin, stdout, .. } = self.spawned;
        drop(stdin);
        let alone = tokio::time::timeout(patience, control.exited.wait_for(Option::is_some)).await.is_ok();
        drop(stdout);
        if !alone {
            let _ = control.stop.try_send(());
            let _ = tokio::time::timeout(self.stop, control.exited.wait_for(Option::is_some)).await;
        }
        alone
    }
}
