//! An HTTP service that we ask: Jira, GitHub.
//!
//! Asking has bounds in every direction: 30 seconds and three tries a request, a rate, eight requests at a time,
//! 32 MB an answer. Who failed five times in a row is left alone for a minute. What was answered is kept for a while.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const TIMEOUT: Duration = Duration::from_secs(30);
const TRIES: u32 = 3;
const AT_ONCE: usize = 8;
const ANSWER_BYTES: usize = 32 * 1024 * 1024;
const FAILURES: u32 = 5;
const ENTRIES: usize = 500;
const CACHED_BYTES: usize = 64 * 1024 * 1024;
/// Nobody waits longer than this for a turn, or because he was told to come back later.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why an answer could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What the service answered, if it did.
    pub(super) status: Option<u16>,
    /// What may be told.
    pub(super) told: String,
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> String {
        trouble.told
    }
}

/// How patient we are; tests are less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Before the second try; twice that before the third.
    pub(super) retry: Duration,
    /// How long who failed is left alone.
    pub(super) rest: Duration,
}

/// What is needed to reach a service.
pub(super) struct Reach {
    pub(super) name: &'static str,
    pub(super) base: Url,
    pub(super) headers: HeaderMap,
    /// The variables that say who we are there.
    pub(super) credentials: &'static str,
    /// Addresses of private networks are fine.
    pub(super) private: bool,
    pub(super) pace: Pace,
    /// Requests, and in which time.
    pub(super) rate: (u32, Duration),
}

/// A service.
pub(super) struct Upstream {
    name: &'static str,
    base: Url,
    client: reqwest::Client,
    credentials: &'static str,
    pace: Pace,
    bucket: Bucket,
    breaker: Mutex<Breaker>,
    turns: Semaphore,
    cache: Arc<Cache>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    ttl: Duration,
}

impl Ask {
    /// A page. The path's parts have been checked by whoever made it.
    pub(super) fn get(path: impl Into<String>) -> Ask {
        Ask { method: Method::GET, path: path.into(), query: Vec::new(), body: None, ttl: Duration::from_secs(300) }
    }

    /// A question too long for a URL. It changes nothing, so it may be repeated.
    pub(super) fn post(path: impl Into<String>, body: Value) -> Ask {
        Ask { method: Method::POST, body: Some(body), ..Ask::get(path) }
    }

    pub(super) fn query(mut self, name: &'static str, value: impl ToString) -> Ask {
        self.query.push((name, value.to_string()));
        self
    }

    /// How long the answer may be kept. Zero: it is not looked for either.
    pub(super) fn kept_for(mut self, ttl: Duration) -> Ask {
        self.ttl = ttl;
        self
    }

    fn key(&self, name: &str) -> String {
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        format!("{name} {} {} {:?} {body}", self.method, self.path, self.query)
    }
}

impl Upstream {
    pub(super) fn open(reach: Reach, cache: Arc<Cache>) -> Result<Upstream, String> {
        if let Some(address) = literal(&reach.base) {
            allowed(address, reach.private).map_err(|why| format!("{}: {why}", reach.name))?;
        }
        let client = reqwest::Client::builder()
            .user_agent(concat!("landbridge-apps/", env!("CARGO_PKG_VERSION")))
            .default_headers(reach.headers)
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(10))
            // Credentials go to nobody else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .dns_resolver(Arc::new(Names { private: reach.private }))
            .build()
            .map_err(|e| format!("no client for {}: {e}", reach.name))?;
        Ok(Upstream {
            name: reach.name,
            base: reach.base,
            client,
            credentials: reach.credentials,
            pace: reach.pace,
            bucket: Bucket::new(reach.rate.0, reach.rate.1),
            breaker: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
            cache,
        })
    }

    /// An answer, perhaps one that we had before.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Arc<Value>, Trouble> {
        let key = ask.key(self.name);
        if !ask.ttl.is_zero()
            && let Some(known) = self.cache.get(self.name, &key)
        {
            return Ok(known);
        }
        let (value, bytes) = self.fetch(&ask).await?;
        let value = Arc::new(value);
        if !ask.ttl.is_zero() {
            self.cache.put(self.name, key, value.clone(), bytes, ask.ttl);
        }
        Ok(value)
    }

    async fn fetch(&self, ask: &Ask) -> Result<(Value, usize), Trouble> {
        let _turn = tokio::time::timeout(PATIENCE, self.turns.acquire())
            .await
            .map_err(|_| self.trouble(None, "too many requests are under way; try again later"))?
            .map_err(|_| self.trouble(None, "it is shutting down"))?;
        let mut tried = 0;
        loop {
            lock(&self.breaker).admit(Instant::now()).map_err(|left| {
                let told = format!("it failed {FAILURES} times in a row; it is asked again in {} s", left.as_secs() + 1);
                self.trouble(None, &told)
            })?;
            self.bucket.turn().await.map_err(|()| self.trouble(None, "our share of requests is used up for now; try again later"))?;
            tried += 1;
            let (trouble, wait) = match self.try_once(ask).await {
                Ok(answer) => {
                    lock(&self.breaker).worked();
                    return Ok(answer);
                }
                Err(Failed::Final(trouble)) => {
                    // It works; what we asked for does not.
                    lock(&self.breaker).worked();
                    return Err(trouble);
                }
                Err(Failed::Passing(trouble, wait)) => (trouble, wait),
            };
            if trouble.status != Some(429) {
                lock(&self.breaker).failed(Instant::now(), self.pace.rest);
            }
            let wait = wait.unwrap_or(self.pace.retry * 2u32.pow(tried - 1));
            if tried == TRIES || wait > PATIENCE {
                tracing::warn!(service = self.name, tried, "{}", trouble.told);
                return Err(trouble);
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_once(&self, ask: &Ask) -> Result<(Value, usize), Failed> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), ask.path));
        let mut request = self.client.request(ask.method.clone(), url).query(&ask.query);
        if let Some(body) = &ask.body {
            request = request.json(body);
        }
        let passing = |why: &str| Failed::Passing(self.trouble(None, why), None);
        let mut response = request.send().await.map_err(|e| {
            // The error's own words can hold the URL.
            let why = if e.is_timeout() {
                "it did not answer in time".to_owned()
            } else if let Some(why) = refused(&e) {
                return Failed::Final(self.trouble(None, &why));
            } else {
                "it cannot be reached".to_owned()
            };
            passing(&why)
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|_| passing("its answer broke off"))? {
            if body.len() + piece.len() > ANSWER_BYTES {
                return Err(Failed::Final(self.trouble(Some(status), "its answer is longer than 32 MB; ask for less")));
            }
            body.extend_from_slice(&piece);
        }
        if status.is_success() {
            let bytes = body.len();
            let value = serde_json::from_slice(&body).map_err(|_| Failed::Final(self.trouble(Some(status), "its answer is no JSON")))?;
            return Ok((value, bytes));
        }
        let said = said(&body);
        let wait = retry_after(&headers, jiff::Timestamp::now());
        let exhausted = headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0");
        Err(match status.as_u16() {
            429 => Failed::Passing(self.trouble(Some(status), &later("it asks for fewer requests", wait)), wait),
            403 if exhausted || wait.is_some() => {
                let wait = wait.unwrap_or(PATIENCE * 2);
                Failed::Passing(
                    Trouble { status: Some(429), ..self.trouble(None, &later("its rate limit is reached", Some(wait))) },
                    Some(wait),
                )
            }
            500.. => Failed::Passing(self.trouble(Some(status), &format!("it answered {}{said}", status.as_u16())), wait),
            401 => Failed::Final(self.trouble(Some(status), &format!("it does not know us (401); check {}", self.credentials))),
            403 => Failed::Final(self.trouble(Some(status), &format!("we may not (403){said}"))),
            404 => Failed::Final(self.trouble(Some(status), &format!("there is no such thing (404){said}"))),
            300..=399 => Failed::Final(self.trouble(Some(status), "it sends us elsewhere, and we do not follow; check its base URL")),
            other => Failed::Final(self.trouble(Some(status), &format!("it answered {other}{said}"))),
        })
    }

    fn trouble(&self, status: impl Into<Option<StatusCode>>, why: &str) -> Trouble {
        Trouble { status: status.into().map(|status| status.as_u16()), told: format!("{}: {why}", self.name) }
    }
}

enum Failed {
    /// Trying again may help, after that time.
    Passing(Trouble, Option<Duration>),
    Final(Trouble),
}

/// What a service says of a failure, as short as we repeat it.
fn said(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let texts = value["errorMessages"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let fields = value["errors"].as_object().into_iter().flat_map(|all| all.values()).filter_map(Value::as_str);
    let text = texts.chain(fields).chain(value["message"].as_str()).collect::<Vec<_>>().join("; ");
    let text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

fn later(why: &str, wait: Option<Duration>) -> String {
    wait.map_or_else(|| why.to_owned(), |wait| format!("{why}; try again in {} s", wait.as_secs().max(1)))
}

/// In how many seconds, or when (RFC 9110 §10.2.3), or as GitHub says it.
fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(value) = text(RETRY_AFTER.as_str()) {
        if let Ok(seconds) = value.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
        return Some(Duration::from_secs(at.as_second().saturating_sub(now.as_second()).try_into().unwrap_or(0)));
    }
    if text("x-ratelimit-remaining") != Some("0") {
        return None;
    }
    let at: i64 = text("x-ratelimit-reset")?.parse().ok()?;
    Some(Duration::from_secs(at.saturating_sub(now.as_second()).try_into().unwrap_or(0)))
}

/// A value that is not shown when headers are.
pub(super) fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "a token has letters that no header can hold")?;
    value.set_sensitive(true);
    Ok(value)
}

/// The base of a service, checked.
pub(super) fn base(name: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("{name} is {text:?}, which is no URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{name} is {text:?}; say https://HOST"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{name} must be a plain URL, without a user, a query or a fragment"));
    }
    Ok(url)
}

fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Whether a service may be there. What clouds tell their machines (169.254.0.0/16) is nobody's Jira.
pub(super) fn allowed(address: IpAddr, private: bool) -> Result<(), String> {
    let address = address.to_canonical();
    let (never, inside) = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let never = v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast() || a == 0 || a >= 240;
            (never, v4.is_private() || v4.is_loopback() || (a == 100 && b & 0xc0 == 64))
        }
        IpAddr::V6(v6) => {
            let never = v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local();
            (never, v6.is_loopback() || v6.is_unique_local())
        }
    };
    match (never, inside) {
        (true, _) => Err(format!("{address} is no address of a service")),
        (_, true) if !private => Err(format!("{address} is on a private network; say SPRINT_ALLOW_PRIVATE=true if that is meant")),
        _ => Ok(()),
    }
}

/// Looks names up, and refuses addresses that are not allowed: at every connection, as names change.
struct Names {
    private: bool,
}

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let private = self.private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &found {
                allowed(address.ip(), private).map_err(|why| Box::new(Refused(why)))?;
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(next) = cause {
        if let Some(Refused(why)) = next.downcast_ref() {
            return Some(why.clone());
        }
        cause = next.source();
    }
    None
}

/// So many in a time, spread as they come.
pub(super) struct Bucket {
    size: f64,
    per_s: f64,
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub(super) fn new(size: u32, time: Duration) -> Bucket {
        let size = f64::from(size.max(1));
        Bucket { size, per_s: size / time.as_secs_f64(), level: Mutex::new((size, Instant::now())) }
    }

    /// Takes a turn, or says how long there is none.
    fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut level = lock(&self.level);
        let refilled = level.0 + now.saturating_duration_since(level.1).as_secs_f64() * self.per_s;
        *level = (refilled.min(self.size), now);
        if level.0 >= 1.0 {
            level.0 -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - level.0) / self.per_s))
    }

    /// Waits for a turn, but not for long.
    pub(super) async fn turn(&self) -> Result<(), ()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.take(Instant::now()) {
                Ok(()) => return Ok(()),
                Err(wait) if Instant::now() + wait > until => return Err(()),
                Err(wait) => tokio::time::sleep(wait + Duration::from_millis(1)).await,
            }
        }
    }
}

/// Whether a service is asked at all.
#[derive(Default)]
struct Breaker {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// One may try when the rest is over; the others wait for how that goes.
    fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.until {
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                self.until = Some(now + TIMEOUT);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn worked(&mut self) {
        *self = Breaker::default();
    }

    fn failed(&mut self, now: Instant, rest: Duration) {
        self.failures += 1;
        if self.failures >= FAILURES {
            self.until = Some(now + rest);
        }
    }
}

/// What was answered lately.
#[derive(Default)]
pub(super) struct Cache(Mutex<Kept>);

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
    fn get(&self, service: &'static str, key: &str) -> Option<Arc<Value>> {
        let mut kept = lock(&self.0);
        let found = kept.entries.get(key).filter(|entry| entry.until > Instant::now()).map(|entry| entry.value.clone());
        let counts = kept.counts.entry(service).or_default();
        *(if found.is_some() { &mut counts.hits } else { &mut counts.misses }) += 1;
        found
    }

    fn put(&self, service: &'static str, key: String, value: Arc<Value>, bytes: usize, ttl: Duration) {
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
    pub(super) fn clear(&self) {
        let mut kept = lock(&self.0);
        kept.entries.clear();
        kept.order.clear();
        kept.bytes = 0;
    }

    /// How it goes, and by service if that is wanted.
    pub(super) fn stats(&self, detailed: bool, reset: bool) -> Value {
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

/// What is behind a lock is whole between any two lines, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_machines_that_no_service_has_are_refused() {
        let ok = |text: &str, private| allowed(text.parse().unwrap(), private).is_ok();
        for never in ["169.254.169.254", "0.0.0.0", "::", "fe80::1", "224.0.0.1", "::ffff:169.254.169.254"] {
            assert!(!ok(never, true), "{never}");
        }
        for inside in ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(!ok(inside, false) && ok(inside, true), "{inside}");
        }
        assert!(ok("104.192.136.1", false));
    }

    #[test]
    fn a_base_is_a_plain_url() {
        assert!(base("X", "https://jira.example.com/jira").is_ok());
        for bad in ["ftp://x", "https://u:p@x", "https://x?y=1", "x", "file:///etc/passwd"] {
            assert!(base("X", bad).unwrap_err().starts_with("X "), "{bad}");
        }
    }

    #[test]
    fn who_fails_five_times_is_left_alone_and_then_tried_once() {
        let (mut breaker, now, rest) = (Breaker::default(), Instant::now(), Duration::from_secs(60));
        for _ in 0..5 {
            assert!(breaker.admit(now).is_ok());
            breaker.failed(now, rest);
        }
        assert_eq!(breaker.admit(now + Duration::from_secs(1)), Err(Duration::from_secs(59)));
        let after = now + rest;
        assert!(breaker.admit(after).is_ok());
        assert!(breaker.admit(after).is_err(), "the others wait for how it goes");
        breaker.worked();
        assert!(breaker.admit(after).is_ok());
    }

    #[test]
    fn a_bucket_gives_so_many_and_then_as_time_goes() {
        let bucket = Bucket::new(60, Duration::from_secs(60));
        let now = Instant::now();
        assert_eq!((0..100).filter(|_| bucket.take(now).is_ok()).count(), 60);
        assert_eq!((0..100).filter(|_| bucket.take(now + Duration::from_millis(5_100)).is_ok()).count(), 5);
    }

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

    #[test]
    fn when_to_come_back_is_read_in_every_way_it_is_said() {
        let now: jiff::Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let headers = |all: &[(&'static str, &'static str)]| all.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect();
        let after = |all: &[(&'static str, &'static str)]| retry_after(&headers(all), now).map(|time| time.as_secs());
        assert_eq!(after(&[("retry-after", "7")]), Some(7));
        assert_eq!(after(&[("retry-after", "Fri, 02 Jan 2026 03:05:05 GMT")]), Some(60));
        assert_eq!(after(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1767323055")]), Some(10));
        assert_eq!(after(&[("x-ratelimit-remaining", "4"), ("x-ratelimit-reset", "1767323055")]), None);
    }
}
