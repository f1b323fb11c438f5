//! How often a service is asked, and when it is left alone.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{PATIENCE, Pace, lock};

const FAILURES: u32 = 5;
/// Nobody is believed who wants to be left alone for longer.
const LONGEST: Duration = Duration::from_secs(3_600);

/// So many in a time, spread as they come.
pub(in crate::sprint) struct Bucket {
    size: f64,
    per_s: f64,
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    pub(in crate::sprint) fn new(size: u32, time: Duration) -> Bucket {
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
    pub(in crate::sprint) async fn turn(&self) -> Result<(), ()> {
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
pub(super) struct Breaker {
    pace: Pace,
    failures: u32,
    until: Option<Instant>,
    /// It has said itself that it is not to be asked before.
    not_before: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(pace: Pace) -> Breaker {
        Breaker { pace, failures: 0, until: None, not_before: None }
    }

    /// One may try when the rest is over; the others wait for how that goes.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), String> {
        let seconds = |until: Instant| (until - now).as_secs() + 1;
        if let Some(until) = self.not_before.filter(|until| now < *until) {
            return Err(format!("it asked for fewer requests; it is asked again in {} s", seconds(until)));
        }
        match self.until {
            Some(until) if now < until => Err(format!("it failed {FAILURES} times in a row; it is asked again in {} s", seconds(until))),
            Some(_) => {
                self.until = Some(now + self.pace.timeout);
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn worked(&mut self) {
        (self.failures, self.until) = (0, None);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= FAILURES {
            self.until = Some(now + self.pace.rest);
        }
    }

    pub(super) fn told_to_wait(&mut self, now: Instant, wait: Duration) {
        self.not_before = self.not_before.max(Some(now + wait.min(LONGEST)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant, Duration) {
        let rest = Duration::from_secs(60);
        (Breaker::new(Pace { timeout: Duration::from_secs(30), retry: Duration::from_secs(1), rest }), Instant::now(), rest)
    }

    #[test]
    fn who_fails_five_times_is_left_alone_and_then_tried_once() {
        let (mut breaker, now, rest) = breaker();
        for _ in 0..5 {
            assert!(breaker.admit(now).is_ok());
            breaker.failed(now);
        }
        let why = breaker.admit(now + Duration::from_millis(1_500)).unwrap_err();
        assert_eq!(why, "it failed 5 times in a row; it is asked again in 59 s");
        let after = now + rest;
        assert!(breaker.admit(after).is_ok());
        assert!(breaker.admit(after).is_err(), "the others wait for how it goes");
        breaker.failed(after);
        assert!(breaker.admit(after + rest - Duration::from_secs(1)).is_err(), "once is enough now");
        assert!(breaker.admit(after + rest).is_ok());
        // Nobody heard how that went: whoever asked has left.
        assert!(breaker.admit(after + rest + Duration::from_secs(29)).is_err());
        assert!(breaker.admit(after + rest + Duration::from_secs(30)).is_ok());
        breaker.worked();
        assert!(breaker.admit(after).is_ok() && breaker.admit(after).is_ok());
    }

    #[test]
    fn who_asks_to_be_left_alone_is() {
        let (mut breaker, now, _) = breaker();
        breaker.told_to_wait(now, Duration::from_secs(90));
        breaker.told_to_wait(now, Duration::from_secs(45));
        breaker.worked();
        let why = breaker.admit(now + Duration::from_millis(500)).unwrap_err();
        assert_eq!(why, "it asked for fewer requests; it is asked again in 90 s");
        assert!(breaker.admit(now + Duration::from_secs(90)).is_ok());
        breaker.told_to_wait(now, Duration::MAX);
        assert!(breaker.admit(now + LONGEST).is_ok());
    }

    #[test]
    fn a_bucket_gives_so_many_and_then_as_time_goes() {
        let bucket = Bucket::new(60, Duration::from_secs(60));
        let now = Instant::now();
        assert_eq!((0..100).filter(|_| bucket.take(now).is_ok()).count(), 60);
        assert_eq!((0..100).filter(|_| bucket.take(now + Duration::from_millis(5_100)).is_ok()).count(), 5);
    }
}
