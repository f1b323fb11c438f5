//! Records in this process, which end with it. For trying things out, and for tests.
//!
//! Strangers can make us write (a client registers itself, a login begins), so that each kind has a
//! bound of its own: logins that fill theirs leave the tokens alone.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Kind, PAGE_RECORDS, Pending, Record, Store, Trouble, check};

/// The most records of a kind.
const RECORDS: usize = 50_000;
/// The most bytes of a kind, keys and values.
const BYTES: usize = 64 * 1024 * 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Memory {
    /// By the number of the kind.
    shelves: Mutex<[Shelf; Kind::ALL.len()]>,
}

/// The records of a kind.
#[derive(Default)]
struct Shelf {
    records: BTreeMap<String, Record>,
    /// Of their keys and values.
    bytes: usize,
}

impl Shelf {
    fn put(&mut self, key: &str, record: Record) -> bool {
        let old = self.records.get(key).map(|old| key.len() + old.value.len());
        let bytes = self.bytes - old.unwrap_or(0) + key.len() + record.value.len();
        if bytes > BYTES || (old.is_none() && self.records.len() >= RECORDS) {
            return false;
        }
        self.bytes = bytes;
        self.records.insert(key.to_owned(), record);
        true
    }

    fn take(&mut self, key: &str) -> Option<Record> {
        let (key, record) = self.records.remove_entry(key)?;
        self.bytes -= key.len() + record.value.len();
        Some(record)
    }

    fn sweep(&mut self, now_s: u64) -> usize {
        let before = self.records.len();
        self.records.retain(|key, record| {
            let over = record.is_over(now_s);
            self.bytes -= if over { key.len() + record.value.len() } else { 0 };
            !over
        });
        before - self.records.len()
    }
}

impl Memory {
    fn shelves(&self) -> MutexGuard<'_, [Shelf; Kind::ALL.len()]> {
        // Nothing in here can panic half-way through a change.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn get<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
        Box::pin(async move { Ok(self.shelves()[kind as usize].records.get(key).filter(|record| !record.is_over(now_s)).cloned()) })
    }

    fn put<'a>(&'a self, kind: Kind, key: &'a str, record: Record) -> Pending<'a, ()> {
        Box::pin(async move {
            check(key, &record)?;
            if self.shelves()[kind as usize].put(key, record) { Ok(()) } else { Err(Trouble::Full(kind)) }
        })
    }

    fn take<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
        Box::pin(async move { Ok(self.shelves()[kind as usize].take(key).filter(|record| !record.is_over(now_s))) })
    }

    fn list<'a>(&'a self, kind: Kind, after: &'a str, limit: usize, now_s: u64) -> Pending<'a, Vec<(String, Record)>> {
        Box::pin(async move {
            let shelves = self.shelves();
            let behind = shelves[kind as usize].records.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
            let alive = behind.filter(|(_, record)| !record.is_over(now_s));
            Ok(alive.take(limit.min(PAGE_RECORDS)).map(|(key, record)| (key.clone(), record.clone())).collect())
        })
    }

    fn sweep(&self, now_s: u64) -> Pending<'_, u64> {
        Box::pin(async move { Ok(self.shelves().iter_mut().map(|shelf| shelf.sweep(now_s) as u64).sum()) })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_records: usize = self.shelves().iter().map(|shelf| shelf.records.len()).sum();
        f.debug_struct("Memory").field("n_records", &n_records).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::VALUE_BYTES;
    use super::*;

    fn record(value: impl Into<String>, expires_s: Option<u64>) -> Record {
        Record { value: value.into(), expires_s }
    }

    #[tokio::test]
    async fn a_full_kind_says_so_and_leaves_the_others_alone() {
        let memory = Memory::default();
        for at in 0..RECORDS {
            memory.put(Kind::Login, &format!("{at:06}"), record("{}", Some(at as u64))).await.unwrap();
        }
        let full = memory.put(Kind::Login, "one more", record("{}", None)).await.unwrap_err();
        assert_eq!(full, Trouble::Full(Kind::Login));
        assert!(full.to_string().contains("`login`") && full.to_string().contains("sqlite:PATH"), "{full}");
        memory.put(Kind::Login, "000007", record("again", None)).await.unwrap();
        memory.put(Kind::Code, "one more", record("{}", None)).await.unwrap();

        memory.take(Kind::Login, "000009", 0).await.unwrap().unwrap();
        memory.put(Kind::Login, "one more", record("{}", None)).await.unwrap();
        assert_eq!(memory.put(Kind::Login, "two more", record("{}", None)).await, Err(Trouble::Full(Kind::Login)));
        assert_eq!(memory.sweep(99).await.unwrap(), 98);
        memory.put(Kind::Login, "two more", record("{}", None)).await.unwrap();
    }

    #[tokio::test]
    async fn bytes_are_counted_in_and_out() {
        let memory = Memory::default();
        let long = "x".repeat(VALUE_BYTES - 3);
        for at in 0..BYTES / VALUE_BYTES {
            for _ in 0..2 {
                memory.put(Kind::Document, &format!("{at:03}"), record(&long, Some(1))).await.unwrap();
            }
        }
        assert_eq!(memory.shelves()[Kind::Document as usize].bytes, BYTES);
        assert_eq!(memory.put(Kind::Document, "more", record(&long, None)).await, Err(Trouble::Full(Kind::Document)));
        memory.take(Kind::Document, "000", 0).await.unwrap().unwrap();
        memory.sweep(1).await.unwrap();
        assert_eq!(memory.shelves()[Kind::Document as usize].bytes, 0);
    }
}
