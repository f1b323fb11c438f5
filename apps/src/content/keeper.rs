//! What becomes of contents in time, where an operator wants that: those that nobody changes are archived, and those that
//! were deleted are removed, with their bytes.
//!
//! ```text
//!   deleted ──(CONTENT_PURGE_AFTER_DAYS)──▶ condemned ──▶ its bytes go ──▶ its row goes
//! ```
//!
//! A row is condemned before its bytes go, and is the last of it to go: whoever ends in between leaves a row that the next
//! round takes up again. What is deleted never comes back, so two programs may do the same at once.

use std::sync::Arc;
use std::time::Duration;

use super::library::Library;
use super::model::{Trouble, now_ms};

/// How much is done at a time.
const AT_ONCE: i64 = 100;
/// What could not be removed is tried again after this.
const AGAIN_MS: i64 = 60_000;

/// After how long; `None`: never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) archive: Option<Duration>,
    pub(super) purge: Option<Duration>,
}

/// Works until the program ends.
pub(super) async fn work(library: Arc<Library>, times: Times) {
    if let Err(trouble) = library.db.forget_orphans(now_ms()).await {
        tracing::warn!(?trouble, "what was derived from deleted contents cannot be looked for");
    }
    let Some(soonest) = [times.archive, times.purge].into_iter().flatten().min() else { return };
    let mut rounds = tokio::time::interval((soonest / 10).clamp(Duration::from_secs(1), Duration::from_secs(60)));
    loop {
        rounds.tick().await;
        for (what, done) in [("archived", archive(&library, times).await), ("removed", purge(&library, times).await)] {
            match done {
                Ok(0) => {}
                Ok(count) => tracing::info!("{count} contents were {what}"),
                Err(trouble) => tracing::warn!(?trouble, "no contents were {what}"),
            }
        }
    }
}

/// The moment before which something has to have happened.
fn before_ms(after: Duration) -> i64 {
    now_ms().saturating_sub(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
}

async fn archive(library: &Library, times: Times) -> Result<u64, Trouble> {
    let (Some(after), mut count) = (times.archive, 0) else { return Ok(0) };
    loop {
        let now = library.db.archive(before_ms(after), AT_ONCE).await?;
        count += now;
        if now < AT_ONCE.unsigned_abs() {
            return Ok(count);
        }
    }
}

async fn purge(library: &Library, times: Times) -> Result<u64, Trouble> {
    let (Some(after), mut count) = (times.purge, 0) else { return Ok(0) };
    loop {
        library.db.condemn(before_ms(after), now_ms(), AT_ONCE).await?;
        let condemned = library.db.condemned(now_ms(), AT_ONCE).await?;
        if condemned.is_empty() {
            return Ok(count);
        }
        for content in condemned {
            match library.blobs.remove(&content.backend, &content.object_key).await {
                Ok(()) => {
                    library.db.erase(&content.id).await?;
                    count += 1;
                }
                // Another time: the others do not wait for a storage that is away.
                Err(trouble) => {
                    tracing::warn!(content = content.id, ?trouble, "its bytes cannot be removed");
                    library.db.put_off(&content.id, now_ms() + AGAIN_MS).await?;
                }
            }
        }
    }
}
