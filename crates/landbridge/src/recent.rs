//! What was found out a moment ago, so that it need not be found out again: bounded, and asked for once.
//!
//! Two halves: what is new or was used goes to the young one; when that is full it becomes the old one, and
//! what was in the old one is gone. So every step costs the same, and what is used stays. Odd: an entry is
//! there before its value is. Whoever comes first finds it out, the others wait for it; if the first gives
//! up, the next takes over.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex};

use tokio::sync::OnceCell;

use crate::backend::lock;

/// What it is known by: a hash, so that no secret is kept, and all are of one length.
pub type Key = [u8; 32];

/// A value, and how long it counts.
#[derive(Clone, Debug)]
pub struct Known<V> {
    /// The value.
    pub value: V,
    /// Until when it counts, in seconds since 1970.
    pub until_s: u64,
    /// What it counts for against the bound of bytes.
    pub n_bytes: usize,
}

/// Values by their keys.
pub struct Recent<V> {
    max_entries: usize,
    max_bytes: usize,
    halves: Mutex<Halves<V>>,
}

struct Halves<V> {
    young: HashMap<Key, Arc<OnceCell<Known<V>>>>,
    old: HashMap<Key, Arc<OnceCell<Known<V>>>>,
    /// Of the young half, once they are known.
    n_bytes: usize,
}

impl<V> fmt::Debug for Recent<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let halves = lock(&self.halves);
        write!(f, "Recent({} of {})", halves.young.len() + halves.old.len(), self.max_entries)
    }
}

impl<V: Clone> Recent<V> {
    /// At most `max_entries`, and `max_bytes` of what has been found out, half of either for those that were
    /// used last.
    pub fn new(max_entries: usize, max_bytes: usize) -> Recent<V> {
        let halves = Halves { young: HashMap::new(), old: HashMap::new(), n_bytes: 0 };
        Recent { max_entries: max_entries.max(2), max_bytes, halves: Mutex::new(halves) }
    }

    /// What is known already.
    pub fn get(&self, key: &Key, now_s: u64) -> Option<V> {
        let mut halves = lock(&self.halves);
        let cell = halves.young.get(key).or_else(|| halves.old.get(key))?.clone();
        let known = cell.get().filter(|known| now_s < known.until_s)?;
        if !halves.young.contains_key(key) {
            self.put(&mut halves, *key, cell.clone());
        }
        Some(known.value.clone())
    }

    /// Keeps what was found out elsewhere.
    pub fn keep(&self, key: Key, known: Known<V>) {
        self.put(&mut lock(&self.halves), key, Arc::new(OnceCell::new_with(Some(known))));
    }

    /// What is known already, or what `find` finds out, which runs once for all who ask meanwhile. What fails is not
    /// kept, and the next who waits tries again.
    pub async fn find<E, F>(&self, key: Key, now_s: u64, find: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<Known<V>, E>>,
    {
        let cell = {
            let mut halves = lock(&self.halves);
            let cell = halves.young.get(&key).or_else(|| halves.old.get(&key));
            let cell = match cell.filter(|cell| cell.get().is_none_or(|known| now_s < known.until_s)) {
                Some(cell) => cell.clone(),
                None => Arc::new(OnceCell::new()),
            };
            if !halves.young.get(&key).is_some_and(|young| Arc::ptr_eq(young, &cell)) {
                self.put(&mut halves, key, cell.clone());
            }
            cell
        };
        let mut found = false;
        let known = cell
            .get_or_try_init(|| {
                found = true;
                find()
            })
            .await;
        if found {
            self.settle(&key, &cell, known.is_ok());
        }
        known.map(|known| known.value.clone())
    }

    /// Something was found out, or not.
    fn settle(&self, key: &Key, cell: &Arc<OnceCell<Known<V>>>, is_known: bool) {
        let mut halves = lock(&self.halves);
        if !halves.young.get(key).is_some_and(|young| Arc::ptr_eq(young, cell)) {
            return;
        }
        if is_known {
            halves.n_bytes += cell.get().map_or(0, |known| known.n_bytes);
            self.turn(&mut halves);
        } else {
            halves.young.remove(key);
        }
    }

    fn put(&self, halves: &mut Halves<V>, key: Key, cell: Arc<OnceCell<Known<V>>>) {
        if !halves.young.contains_key(&key) && halves.young.len() >= self.max_entries / 2 {
            halves.old = std::mem::take(&mut halves.young);
            halves.n_bytes = 0;
        }
        let n_bytes = |cell: &Arc<OnceCell<Known<V>>>| cell.get().map_or(0, |known| known.n_bytes);
        halves.n_bytes += n_bytes(&cell);
        if let Some(before) = halves.young.insert(key, cell) {
            halves.n_bytes = halves.n_bytes.saturating_sub(n_bytes(&before));
        }
        self.turn(halves);
    }

    /// A young half that weighs too much becomes the old one.
    fn turn(&self, halves: &mut Halves<V>) {
        if halves.n_bytes > self.max_bytes / 2 {
            halves.old = std::mem::take(&mut halves.young);
            halves.n_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn key(n: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_le_bytes());
        key
    }

    fn known(value: usize, until_s: u64) -> Known<usize> {
        Known { value, until_s, n_bytes: 10 }
    }

    fn size(recent: &Recent<usize>) -> (usize, usize) {
        let halves = lock(&recent.halves);
        let all = halves.young.values().chain(halves.old.values());
        (halves.young.len() + halves.old.len(), all.filter_map(|cell| cell.get()).map(|known| known.n_bytes).sum())
    }

    #[test]
    fn what_has_ended_is_not_known() {
        let recent = Recent::new(8, 1000);
        recent.keep(key(1), known(1, 100));
        assert_eq!(recent.get(&key(1), 99), Some(1));
        assert_eq!(recent.get(&key(1), 100), None);
        assert_eq!(recent.get(&key(2), 99), None);
    }

    #[test]
    fn there_are_never_more_than_the_bounds_say_and_what_is_used_stays() {
        let recent = Recent::new(10, 1000);
        for n in 0..1000 {
            recent.keep(key(n), known(n, 100));
            assert_eq!(recent.get(&key(0), 1), Some(0), "{n}");
            assert!(size(&recent).0 <= 10);
        }
        let heavy = Recent::new(1000, 100);
        for n in 0..1000 {
            heavy.keep(key(n), known(n, 100));
            heavy.keep(key(n), known(n, 101));
            assert!(size(&heavy).1 <= 120, "{:?}", size(&heavy));
        }
    }

    #[tokio::test]
    async fn many_who_ask_at_once_find_out_once() {
        let (recent, n_found) = (Arc::new(Recent::new(8, 1000)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..20 {
            let (recent, n_found) = (recent.clone(), n_found.clone());
            tasks.push(tokio::spawn(async move {
                let find = || async {
                    tokio::task::yield_now().await;
                    Ok::<_, ()>(known(n_found.fetch_add(1, Ordering::Relaxed), 100))
                };
                recent.find(key(1), 1, find).await
            }));
        }
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(0));
        }
        assert_eq!(recent.find(key(1), 100, || async { Ok::<_, ()>(known(7, 200)) }).await, Ok(7));
        assert_eq!(recent.get(&key(1), 150), Some(7));
    }

    #[tokio::test]
    async fn what_fails_is_not_kept_and_who_gives_up_is_followed() {
        let recent = Arc::new(Recent::new(8, 1000));
        assert_eq!(recent.find(key(1), 1, || async { Err("no") }).await, Err("no"));
        assert_eq!(size(&recent).0, 0);
        let first = tokio::spawn({
            let recent = recent.clone();
            async move { recent.find(key(1), 1, std::future::pending::<Result<_, ()>>).await }
        });
        tokio::task::yield_now().await;
        let second = tokio::spawn({
            let recent = recent.clone();
            async move { recent.find(key(1), 1, || async { Ok::<_, ()>(known(2, 100)) }).await }
        });
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap(), Ok(2));
    }
}
