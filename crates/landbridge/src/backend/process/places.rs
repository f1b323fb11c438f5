//! Places for child processes, of all servers together.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::backend::lock;
use crate::backend::process::Process;

/// So many children may run at once. A child holds its place until its process has ended.
#[derive(Debug)]
pub struct Places {
    ceiling: usize,
    free: Arc<Semaphore>,
    servers: Mutex<Vec<Weak<Process>>>,
}

impl Places {
    /// Room for `ceiling` children.
    pub fn new(ceiling: usize) -> Places {
        Places { ceiling, free: Arc::new(Semaphore::new(ceiling)), servers: Mutex::default() }
    }

    /// A server whose warm spare may have to give way.
    pub fn enlist(&self, server: &Arc<Process>) {
        lock(&self.servers).push(Arc::downgrade(server));
    }

    /// Free places.
    pub fn left(&self) -> usize {
        self.free.available_permits()
    }

    /// Whether no child is left.
    pub fn all_free(&self) -> bool {
        self.left() == self.ceiling
    }

    /// A place. When there is none, a warm spare gives way, which takes it at most `patience`.
    pub(super) async fn take(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Some(place);
        }
        let servers: Vec<Arc<Process>> = lock(&self.servers).iter().filter_map(Weak::upgrade).collect();
        if !servers.iter().any(|server| server.give_up_spare()) {
            return None;
        }
        tokio::time::timeout(patience, self.free.clone().acquire_owned()).await.ok()?.ok()
    }
}
