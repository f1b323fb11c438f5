//! Lines that are no calls: notifications, and answers to what a server asked. Nobody waits for what
//! becomes of them. They are said one after the other, as some undo what others did.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;

use crate::backend::pool::remote::{Site, whole};

/// So many may wait to be said, and then whoever has more.
const QUEUED: usize = 64;
/// For one of them to be taken.
const PATIENCE: Duration = Duration::from_secs(30);

/// What says them, as long as it lasts.
pub(super) struct Words(mpsc::Sender<Word>);

/// One line.
pub(super) struct Word {
    pub(super) url: Uri,
    pub(super) line: Bytes,
    pub(super) headers: HeaderMap,
    /// It is not said before this is done, if that is soon.
    pub(super) after: Option<JoinHandle<()>>,
}

impl Words {
    pub(super) fn new(site: Arc<Site>) -> Words {
        let (say, mut said) = mpsc::channel(QUEUED);
        tokio::spawn(async move {
            while let Some(word) = said.recv().await {
                if tokio::time::timeout(PATIENCE, post(&site, word)).await.is_err() {
                    debug!(server = site.name, "it did not take a notification or an answer in time");
                }
            }
        });
        Words(say)
    }

    /// Says one.
    pub(super) async fn say(&self, word: Word) {
        let _ = self.0.send(word).await; // whoever says them ends with us
    }
}

async fn post(site: &Site, word: Word) {
    if let Some(after) = word.after {
        let _ = after.await;
    }
    match site.post(&word.url, &word.line, word.headers).await {
        Ok(response) if response.status().is_success() => {
            let _ = whole(response, 64 * 1024).await; // to its end, so that the connection can be used again
        }
        Ok(response) => debug!(server = site.name, status = response.status().as_u16(), "it refused a notification or an answer"),
        Err(trouble) => debug!(server = site.name, %trouble, "a notification or an answer did not reach it"),
    }
}
