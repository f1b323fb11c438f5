//! Records in this process, which end with it. For trying things out, and for tests.
//!
//! Strangers can make us write (a client registers itself, a login begins), so that each kind has a
//! bound of its own: logins that fill theirs leave the tokens alone. Whoever finds one full has what has expired
//! removed, so that nobody is refused because of what is good for nothing. The time is the latest that a caller told.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// The latest second that somebody has come with.
    now_s: AtomicU64,
}

/// The records of a kind.
#[derive(Default)]
struct Shelf {
    records: BTreeMap<String, Record>,
    /// Of their keys and values.
    bytes: usize,
    /// Nothing in here expires before that second.
    quiet_until_s: u64,
}

impl Shelf {
    /// Whether there is room for it. At most once a second the whole shelf is looked through for that.
    fn put(&mut self, key: &str, record: Record, now_s: u64) -> bool {
        if self.fits(key, &record) {
            return self.keep(key, record);
        }
        if now_s < self.quiet_until_s {
            return false;
        }
        self.sweep(now_s);
        self.fits(key, &record) && self.keep(key, record)
    }

    fn fits(&self, key: &str, record: &Record) -> bool {
        let old = self.records.get(key).map(|old| key.len() + old.value.len());
        let bytes = self.bytes - old.unwrap_or(0) + key.len() + record.value.len();
        bytes <= BYTES && (old.is_some() || self.records.len() < RECORDS)
    }

    fn keep(&mut self, key: &str, record: Record) -> bool {
        self.take(key);
        self.bytes += key.len() + record.value.len();
        self.quiet_until_s = self.quiet_until_s.min(record.expires_s.unwrap_or(u64::MAX));
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
        self.quiet_until_s = u64::MAX;
        self.records.retain(|key, record| {
            let over = record.is_over(now_s);
            match over {
                true => self.bytes -= key.len() + record.value.len(),
                false => self.quiet_until_s = self.quiet_until_s.min(record.expires_s.unwrap_or(u64::MAX)),
            }
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

    /// The same for somebody who says what time it is.
    fn shelves_at(&self, now_s: u64) -> MutexGuard<'_, [Shelf; Kind::ALL.len()]> {
        self.now_s.fetch_max(now_s, Ordering::Relaxed);
        self.shelves()
    }
}

impl Store for Memory {
    fn get<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
        Box::pin(async move { Ok(self.shelves_at(now_s)[kind as usize].records.get(key).filter(|record| !record.is_over(now_s)).cloned()) })
    }

    fn put<'a>(&'a self, kind: Kind, key: &'a str, record: Record) -> Pending<'a, ()> {
        Box::pin(async move {
            check(key, &record)?;
            let now_s = self.now_s.load(Ordering::Relaxed);
            if self.shelves()[kind as usize].put(key, record, now_s) { Ok(()) } else { Err(Trouble::Full(kind)) }
        })
    }

    fn take<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
        Box::pin(async move { Ok(self.shelves_at(now_s)[kind as usize].take(key).filter(|record| !record.is_over(now_s))) })
    }

    fn list<'a>(&'a self, kind: Kind, after: &'a str, limit: usize, now_s: u64) -> Pending<'a, Vec<(String, Record)>> {
        Box::pin(async move {
            let shelves = self.shelves_at(now_s);
            let behind = shelves[kind as usize].records.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
            let alive = behind.filter(|(_, record)| !record.is_over(now_s));
            Ok(alive.take(limit.min(PAGE_RECORDS)).map(|(key, record)| (key.clone(), record.clone())).collect())
        })
    }

    fn sweep(&self, now_s: u64) -> Pending<'_, u64> {
        Box::pin(async move { Ok(self.shelves_at(now_s).iter_mut().map(|shelf| shelf.sweep(now_s) as u64).sum()) })
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
            memory.put(Kind::Login, &format!("{at:06}"), record("{}", Some(at as u64 + 1))).await.unwrap();
        }
        let full = memory.put(Kind::Login, "one more", record("{}", None)).await.unwrap_err();
        assert_eq!(full, Trouble::Full(Kind::Login));
        assert!(full.to_string().contains("`login`") && full.to_string().contains("sqlite:PATH"), "{full}");
        memory.put(Kind::Login, "000007", record("again", None)).await.unwrap();
        memory.put(Kind::Code, "one more", record("{}", None)).await.unwrap();

        memory.take(Kind::Login, "000009", 0).await.unwrap().unwrap();
        memory.put(Kind::Login, "one more", record("{}", None)).await.unwrap();
        assert_eq!(memory.put(Kind::Login, "two more", record("{}", None)).await, Err(Trouble::Full(Kind::Login)));
        assert_eq!(memory.sweep(100).await.unwrap(), 98);
        memory.put(Kind::Login, "two more", record("{}", None)).await.unwrap();
    }

    #[tokio::test]
    async fn what_has_expired_takes_nobodys_place() {
        let memory = Memory::default();
        let put = async |key: String, expires_s| memory.put(Kind::Login, &key, record("{}", expires_s)).await;
        // Whoever floods it at 100, with what lives until 110: it is full until then, and not longer.
        memory.get(Kind::User, "ada", 100).await.unwrap();
        put("stays".into(), None).await.unwrap();
        for at in 1..RECORDS {
            put(format!("{at:06}"), Some(110)).await.unwrap();
        }
        for now_s in [100, 109, 90] {
            memory.get(Kind::Code, "x", now_s).await.unwrap();
            assert_eq!(put("one more".into(), Some(200)).await, Err(Trouble::Full(Kind::Login)), "{now_s}");
        }
        // Nobody has swept; any verb tells the time.
        memory.take(Kind::Code, "x", 110).await.unwrap();
        put("one more".into(), Some(200)).await.unwrap();
        {
            let shelves = memory.shelves();
            let shelf = &shelves[Kind::Login as usize];
            assert_eq!((shelf.records.len(), shelf.bytes), (2, "stays".len() + "one more".len() + 4));
            assert_eq!(shelf.quiet_until_s, 200);
        }
        // A flood that never ends finds the bound each time, and no second sweep within its second.
        for at in 0..RECORDS * 2 {
            let kept = put(format!("{at:06}"), Some(150)).await;
            assert_eq!(kept.is_ok(), at < RECORDS - 2, "{at}");
        }
        assert_eq!(memory.shelves()[Kind::Login as usize].records.len(), RECORDS);
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
