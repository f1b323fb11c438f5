//! An HTTP service that we ask: Jira, GitHub.
//!
//! Asking has bounds in every direction: 30 seconds and three tries a request, a rate, eight requests at a time,
//! 32 MB an answer. Who failed five times in a row is left alone for a minute, and who asks to be left alone for as long as
//! it says. What was answered is kept for a while.

mod addresses;
mod cache;
mod patience;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tokio::sync::Semaphore;

pub(super) use addresses::base;
use addresses::{Names, allowed, literal, refused};
pub(super) use cache::Cache;
use patience::Breaker;
pub(super) use patience::Bucket;

const TRIES: u32 = 3;
const AT_ONCE: usize = 8;
const ANSWER_BYTES: usize = 32 * 1024 * 1024;
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
    /// What a request has for its answer.
    pub(super) timeout: Duration,
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
            .timeout(reach.pace.timeout)
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
            breaker: Mutex::new(Breaker::new(reach.pace)),
            turns: Semaphore::new(AT_ONCE),
            cache,
        })
    }

    /// An answer, perhaps one that we had before.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Arc<Value>, Trouble> {
        self.ask_within(ask, None).await
    }

    /// The same, of which there may be only so many. What we had before counts for none.
    pub(super) async fn ask_within(&self, ask: Ask, share: Option<&Bucket>) -> Result<Arc<Value>, Trouble> {
        let key = ask.key(self.name);
        if !ask.ttl.is_zero()
            && let Some(known) = self.cache.get(self.name, &key)
        {
            return Ok(known);
        }
        if let Some(share) = share {
            share.turn().await.map_err(|()| self.trouble(None, "our share of such requests is used up for now; try again in a minute"))?;
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
            lock(&self.breaker).admit(Instant::now()).map_err(|why| self.trouble(None, &why))?;
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
            let said = trouble.status == Some(429);
            if !said {
                lock(&self.breaker).failed(Instant::now());
            }
            let wait = wait.unwrap_or(self.pace.retry * 2u32.pow(tried - 1));
            if said && wait > PATIENCE {
                lock(&self.breaker).told_to_wait(Instant::now(), wait);
            }
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
        // GitHub has limits that are in no header but that of the answer; then a minute is what it asks for.
        let exhausted = headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0") || said.contains("rate limit");
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

/// What is behind a lock is whole between any two lines, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
