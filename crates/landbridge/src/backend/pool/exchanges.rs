//! Calls under way that are tasks of their own, by the ids that their link gave them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::task::AbortHandle;

use landbridge_proto::back::link::Key;

use crate::backend::lock;

/// The tasks. Each leaves when it has ended.
#[derive(Debug, Default)]
pub(super) struct Exchanges(Arc<Mutex<HashMap<u64, AbortHandle>>>);

impl Exchanges {
    /// Begins one.
    pub(super) fn begin(&self, key: Key, work: impl Future<Output = ()> + Send + 'static) {
        let under_way = self.0.clone();
        // Entered before it can have ended.
        let mut all = lock(&self.0);
        let task = tokio::spawn(async move {
            work.await;
            lock(&under_way).remove(&key.id());
        });
        all.insert(key.id(), task.abort_handle());
    }

    /// What ends one, which is the caller's from now on.
    pub(super) fn take(&self, key: Key) -> Option<AbortHandle> {
        lock(&self.0).remove(&key.id())
    }

    /// Ends all of them.
    pub(super) fn abort_all(&self) {
        lock(&self.0).drain().for_each(|(_, task)| task.abort());
    }
}
