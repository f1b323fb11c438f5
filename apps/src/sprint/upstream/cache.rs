//! What was answered lately: 500 answers and 64 MB at most, the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lock;

const ENTRIES: usize = 500;
const CACHED_BYTES: usize = 64 * 1024 * 1024;

/// What was answered lately.
#[derive(Default)]
pub(in crate::sprint) struct Cache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    entries: HashMap<String, Entry>,
    /// The oldest first.
    order: VecDeque<String>,
    bytes: usize,
    counts: HashMap<&'static str, Counts>,
}

struct Entry {
    service: &'static str,
    value: Arc<Value>,
    bytes: usize,
    until: Instant,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    hits: u64,
    misses: u64,
    evictions: u64,
}

impl Kept {
    fn drop_entry(&mut self, key: &str) -> Option<Entry> {
        let gone = self.entries.remove(key)?;
        self.bytes -= gone.bytes;
        Some(gone)
    }
}

impl Cache {
    pub(super) fn get(&self, service: &'static str, key: &str) -> Option<Arc<Value>> {
        let mut kept = lock(&self.0);
        let found = kept.entries.get(key).filter(|entry| entry.until > Instant::now()).map(|entry| entry.value.clone());
        let counts = kept.counts.entry(service).or_default();
        *(if found.is_some() { &mut counts.hits } else { &mut counts.misses }) += 1;
        found
    }

    pub(super) fn put(&self, service: &'static str, key: String, value: Arc<Value>, bytes: usize, ttl: Duration) {
        let mut kept = lock(&self.0);
        if bytes > CACHED_BYTES / 4 {
            return;
        }
        if kept.drop_entry(&key).is_some() {
            kept.order.retain(|other| *other != key);
        }
        while kept.entries.len() >= ENTRIES || kept.bytes + bytes > CACHED_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            if let Some(gone) = kept.drop_entry(&oldest) {
                kept.counts.entry(gone.service).or_default().evictions += 1;
            }
        }
        kept.bytes += bytes;
        kept.order.push_back(key.clone());
        kept.entries.insert(key, Entry { service, value, bytes, until: Instant::now() + ttl });
    }

    /// Forgets what was answered; the counts stay.
    pub(in crate::sprint) fn clear(&self) {
        let mut kept = lock(&self.0);
        kept.entries.clear();
        kept.order.clear();
        kept.bytes = 0;
    }

    /// How it goes, and by service if that is wanted.
    pub(in crate::sprint) fn stats(&self, detailed: bool, reset: bool) -> Value {
        let mut kept = lock(&self.0);
        let now = Instant::now();
        let sum = kept.counts.values().fold(Counts::default(), |sum, counts| Counts {
            hits: sum.hits + counts.hits,
            misses: sum.misses + counts.misses,
            evictions: sum.evictions + counts.evictions,
        });
        let show = |counts: Counts| {
            let all = counts.hits + counts.misses;
            let rate = if all == 0 { 0.0 } else { (counts.hits as f64 / all as f64 * 1000.0).round() / 10.0 };
            json!({"hits": counts.hits, "misses": counts.misses, "evictions": counts.evictions, "hitRate": rate})
        };
        let mut out = show(sum);
        out["entries"] = kept.entries.len().into();
        out["maxEntries"] = ENTRIES.into();
        out["bytes"] = kept.bytes.into();
        out["maxBytes"] = CACHED_BYTES.into();
        if detailed {
            let services = ["Jira", "GitHub"].map(|service| {
                let mut line = show(kept.counts.get(service).copied().unwrap_or_default());
                let own = || kept.entries.values().filter(|entry| entry.service == service);
                line["entries"] = own().count().into();
                line["expired"] = own().filter(|entry| entry.until <= now).count().into();
                line["bytes"] = own().map(|entry| entry.bytes).sum::<usize>().into();
                (service.to_owned(), line)
            });
            out["breakdown"] = Value::Object(services.into_iter().collect());
        }
        if reset {
            kept.counts.clear();
            out["reset"] = true.into();
        }
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_counts() {
        let cache = Cache::default();
        for n in 0..ENTRIES + 10 {
            cache.put("Jira", n.to_string(), Arc::new(json!(n)), 1, Duration::from_secs(60));
        }
        cache.put("GitHub", "old".into(), Arc::new(json!(1)), 1, Duration::ZERO);
        assert!(cache.get("Jira", "0").is_none() && cache.get("GitHub", "old").is_none());
        assert_eq!(cache.get("Jira", "500"), Some(Arc::new(json!(500))));
        let stats = cache.stats(true, true);
        assert_eq!(
            (&stats["entries"], &stats["hits"], &stats["misses"], &stats["evictions"]),
            (&json!(500), &json!(1), &json!(2), &json!(11))
        );
        assert_eq!(stats["breakdown"]["GitHub"]["expired"], 1);
        assert_eq!(cache.stats(false, false)["hits"], 0);
    }
}
