//! What was in files, kept by what is in them: it never grows old, and goes when there is too much.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::skillport::source::{Leaf, MAX_FILE_BYTES, Source, Tree};
use crate::skillport::wrong::Wrong;

const MAX_BYTES: usize = 32 * 1024 * 1024;
/// What one costs besides its bytes.
const OVERHEAD: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Blobs(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    all: HashMap<String, (u64, Bytes)>,
    /// Ids by when they were last wanted.
    order: BTreeMap<u64, String>,
    next: u64,
    n_bytes: usize,
}

impl Blobs {
    /// What is in a file of a tree.
    pub(super) async fn read(&self, source: &Source, tree: &Tree, path: &str, leaf: &Leaf) -> Result<Bytes, Wrong> {
        if leaf.n_bytes > MAX_FILE_BYTES {
            return Err(Wrong::broken(format!("{path} is larger than {MAX_FILE_BYTES} bytes")));
        }
        if let Some(bytes) = self.kept().get(&leaf.id) {
            return Ok(bytes);
        }
        let bytes = source.read(tree, path, leaf).await?;
        self.kept().keep(&leaf.id, bytes.clone());
        Ok(bytes)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn get(&mut self, id: &str) -> Option<Bytes> {
        let (at, bytes) = self.all.get_mut(id)?;
        self.order.remove(at);
        self.next += 1;
        *at = self.next;
        self.order.insert(self.next, id.to_owned());
        Some(bytes.clone())
    }

    fn keep(&mut self, id: &str, bytes: Bytes) {
        if self.get(id).is_some() {
            return;
        }
        self.n_bytes += bytes.len() + OVERHEAD;
        self.next += 1;
        self.order.insert(self.next, id.to_owned());
        self.all.insert(id.to_owned(), (self.next, bytes));
        while self.n_bytes > MAX_BYTES {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.n_bytes -= self.all.remove(&oldest).map_or(0, |(_, bytes)| bytes.len() + OVERHEAD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_wanted_for_longest_goes_first() {
        let mut kept = Kept::default();
        let much = Bytes::from(vec![0; 10 * 1024 * 1024]);
        for id in ["a", "b", "c"] {
            kept.keep(id, much.clone());
        }
        assert!(kept.get("a").is_some());
        kept.keep("d", much);
        assert!(kept.get("a").is_some() && kept.get("b").is_none() && kept.get("c").is_some());
        assert_eq!((kept.all.len(), kept.order.len()), (3, 3));
        assert!(kept.n_bytes <= MAX_BYTES);
    }
}
