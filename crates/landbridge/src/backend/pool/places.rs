//! Places for child processes, of all servers together.

use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backend::lock;
use crate::backend::pool::Pool;

/// So many children may run at once. A child holds its place until its process has ended.
pub struct Places {
    ceiling: usize,
    free: Arc<Semaphore>,
    servers: Mutex<Vec<Weak<Pool>>>,
    /// Ends a session nobody seems to use, if it has a child of its own; whether there was one.
    evict: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Places {
    /// Room for `ceiling` children.
    pub fn new(ceiling: usize) -> Places {
        Places { ceiling, free: Arc::new(Semaphore::new(ceiling)), servers: Mutex::default(), evict: OnceLock::new() }
    }

    /// A server whose warm spare may have to give way.
    pub fn enlist(&self, server: &Arc<Pool>) {
        let mut servers = lock(&self.servers);
        servers.retain(|server| server.strong_count() > 0);
        servers.push(Arc::downgrade(server));
    }

    /// What makes room when there is no spare: most clients never say that they are done.
    pub fn make_room_by(&self, evict: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.evict.set(Box::new(evict));
    }

    /// Free places.
    pub fn left(&self) -> usize {
        self.free.available_permits()
    }

    /// Whether no child is left.
    pub fn all_free(&self) -> bool {
        self.left() == self.ceiling
    }

    /// A place. When there is none, a warm spare gives way, a shared instance that nobody uses, or a
    /// session nobody seems to use, which takes it at most `patience`.
    pub(super) async fn take(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Some(place);
        }
        if !self.make_room() {
            return None;
        }
        tokio::time::timeout(patience, self.free.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Ends somebody who is less needed than whoever asks; whether there was one.
    pub(super) fn make_room(&self) -> bool {
        let servers: Vec<Arc<Pool>> = lock(&self.servers).iter().filter_map(Weak::upgrade).collect();
        servers.iter().any(|server| server.give_up_spare())
            || servers.iter().any(|server| server.give_up_unused())
            || self.evict.get().is_some_and(|evict| evict())
    }
}
