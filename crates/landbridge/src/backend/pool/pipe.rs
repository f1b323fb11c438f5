//! What carries an instance that is a child process, or speaks as one: its standard streams.
//!
//! One task reads the child's output and never waits for an exchange; one writes what calls have
//! queued, all of it in one write. Neither knows what a call is.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tracing::{debug, warn};

use landbridge_proto::back::link::What;
use landbridge_proto::call::Outcome;
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::lines::{Line, Lines};

use crate::backend::lock;
use crate::backend::pool::Instance;
use crate::backend::pool::instance::queued;
use crate::eras::Wire;

/// Where a server reads.
pub(super) type Input = Box<dyn AsyncWrite + Send + Unpin>;
/// Where it writes.
pub(super) type Output = Box<dyn AsyncRead + Send + Unpin>;

/// What is known of a child's end.
pub(super) struct End {
    /// How, once it has.
    pub(super) exited: watch::Receiver<Option<String>>,
    /// What it said last.
    pub(super) last_words: Arc<Mutex<String>>,
    /// Done when nothing more will be said.
    pub(super) stderr_done: tokio::sync::oneshot::Receiver<()>,
}

/// Carries an instance over these pipes, as long as both last. What has been read already is in `lines`.
pub(super) fn carry(instance: &Arc<Instance>, stdin: Input, stdout: Output, lines: Lines, limit: usize, end: End) {
    tokio::spawn(write(Arc::downgrade(instance), stdin));
    tokio::spawn(read(Arc::downgrade(instance), stdout, lines, limit, end));
}

async fn write(instance: Weak<Instance>, mut stdin: Input) {
    let mut batch = Vec::new();
    loop {
        queued(&instance).await;
        // Whoever else is ready now may add a line: one write for all of them, and one wake-up of
        // the server. A call that is alone has nobody to wait for.
        if instance.upgrade().is_some_and(|instance| instance.link().in_flight() > 1) {
            tokio::task::yield_now().await;
        }
        // Gone, or closed: the end of this task closes the instance's input.
        let Some(lines) = instance.upgrade().and_then(|instance| instance.link().take_queued()) else { return };
        batch.clear();
        for queued in &lines {
            match instance.upgrade().and_then(|instance| unreadable(&instance, &queued.line).map(|fault| (instance, fault))) {
                None => batch.extend_from_slice(&queued.line),
                Some((instance, fault)) => {
                    debug!(server = instance.name(), %fault, "not passed on");
                    if let What::Call(key) | What::First(key) = queued.what {
                        instance.operate(|link| link.handle_end_of(key, Outcome::Fault(fault)));
                    }
                }
            }
        }
        if stdin.write_all(&batch).await.is_err() {
            return; // its output tells the rest
        }
        if batch.capacity() > 256 * 1024 {
            batch = Vec::new();
        }
    }
}

/// Why a server in this process could not read a line. Those of Rust read by serde, which is stricter than JSON is: it takes
/// no half of a surrogate pair, no number that is too large and nothing that is nested too deep. They leave out what
/// they cannot read, and whoever has asked would wait for ever.
fn unreadable(instance: &Instance, line: &[u8]) -> Option<Fault> {
    if instance.wire() != Wire::Local {
        return None;
    }
    let why = serde_json::from_slice::<serde_json::Value>(line).err()?;
    Some(Fault::client(Kind::Params).tell(format!("the request cannot be read: {why}")))
}

async fn read(instance: Weak<Instance>, mut stdout: Output, mut lines: Lines, limit: usize, end: End) {
    const LAST: Duration = Duration::from_millis(300);
    let End { mut exited, last_words, stderr_done } = end;
    let mut gone = false;
    loop {
        {
            let Some(instance) = instance.upgrade() else { return };
            instance.read_lines(|link| {
                while let Some(line) = lines.next_line() {
                    match line {
                        Line::Whole(line) => link.handle_line(line),
                        Line::TooLong { head, tail } => link.handle_too_long(&head, &tail, limit),
                    }
                }
            });
        }
        let more = stdout.read_buf(lines.buffer());
        let read = match gone {
            true => tokio::time::timeout(LAST, more).await.unwrap_or(Ok(0)),
            false => tokio::select! {
                biased;
                read = more => read,
                // Somebody it left behind may hold its output open.
                _ = exited.wait_for(Option::is_some) => {
                    gone = true;
                    continue;
                }
            },
        };
        if !matches!(read, Ok(1..)) {
            break;
        }
    }
    // What it said last may still be on its way through the other pipe.
    let _ = tokio::time::timeout(LAST, stderr_done).await;
    let Some(instance) = instance.upgrade() else { return };
    let how = match tokio::time::timeout(LAST, exited.wait_for(Option::is_some)).await {
        Ok(Ok(how)) => how.clone().unwrap_or_default(),
        _ => "it closed its output".into(),
    };
    let words = lock(&last_words).clone();
    let said = if words.is_empty() { String::new() } else { format!("; it said: {words}") };
    let told = format!("the server `{}` ended ({how}){said}", instance.name());
    // Who reads the log may count on it: whoever calls from now on gets another.
    instance.end(Fault::backend(instance.name(), Kind::Backend).tell(told));
    if !instance.is_stopping() {
        warn!(server = instance.name(), how, "a child ended");
    }
}
