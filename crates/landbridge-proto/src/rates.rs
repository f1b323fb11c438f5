//! How often something may be done: by an account, by an address, by whoever else has a key.
//!
//! Each key has one number, the time at which all it has done will be forgiven (a leaky bucket, as the generic cell
//! rate algorithm has it). What turns out to have been right can be given back, so that many at once count as many
//! before any of them is known to be right. Time is a distance from a beginning that the caller chooses. Odd: when
//! there are too many keys, those that are forgiven soonest are forgotten, so that nobody gets rid of what they
//! have done by coming under many names.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most keys that are remembered unless said otherwise; each is some hundred bytes at most.
pub const MAX_KEYS: usize = 8 * 1024;

/// How often, and how soon again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub burst: u32,
    /// How long until one more.
    pub every: Duration,
}

impl Rate {
    /// So many a minute, and so many of them at once. Of none at once or none a minute it makes one.
    pub fn per_minute(number: u32, burst: u32) -> Rate {
        Rate { burst: burst.max(1), every: Duration::from_secs(60) / number.max(1) }
    }
}

/// What was done lately, by key.
#[derive(Debug)]
pub struct Rates<K> {
    rate: Rate,
    most: usize,
    /// When all that a key has done is forgiven.
    forgiven: BTreeMap<K, Duration>,
}

impl<K: Ord> Rates<K> {
    /// Nothing yet.
    pub fn new(rate: Rate) -> Rates<K> {
        Rates::with_room(rate, MAX_KEYS)
    }

    /// The same for so many keys, and one at least.
    pub fn with_room(rate: Rate, most: usize) -> Rates<K> {
        Rates { rate, most: most.max(1), forgiven: BTreeMap::new() }
    }

    /// Whether `key` may do it once more. The error is how long to wait for that.
    pub fn check<Q: Ord + ?Sized>(&self, key: &Q, now: Duration) -> Result<(), Duration>
    where
        K: Borrow<Q>,
    {
        self.next(self.forgiven.get(key).copied(), now).map(drop)
    }

    /// The same, and it does. Refused, it counts for nothing.
    pub fn take<Q: Ord + ToOwned<Owned = K> + ?Sized>(&mut self, key: &Q, now: Duration) -> Result<(), Duration>
    where
        K: Borrow<Q>,
    {
        if let Some(forgiven) = self.forgiven.get(key).copied() {
            let next = self.next(Some(forgiven), now)?;
            if let Some(forgiven) = self.forgiven.get_mut(key) {
                *forgiven = next;
            }
            return Ok(());
        }
        let next = self.next(None, now)?;
        self.make_room(now);
        self.forgiven.insert(key.to_owned(), next);
        Ok(())
    }

    /// Gives one back: it was right, or it was never looked at.
    pub fn give_back<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(forgiven) = self.forgiven.get_mut(key) {
            *forgiven = forgiven.saturating_sub(self.rate.every);
        }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.forgiven.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.forgiven.is_empty()
    }

    /// When all would be forgiven with one more.
    fn next(&self, forgiven: Option<Duration>, now: Duration) -> Result<Duration, Duration> {
        let next = forgiven.unwrap_or(now).max(now).saturating_add(self.rate.every);
        let most = now.saturating_add(self.rate.every.saturating_mul(self.rate.burst));
        if next > most { Err(next - most) } else { Ok(next) }
    }

    /// When there are too many, those that are forgiven go, and if they are few, the next sixteenth too: a flood of
    /// new keys does not look at all of them each time.
    fn make_room(&mut self, now: Duration) {
        if self.forgiven.len() < self.most {
            return;
        }
        self.forgiven.retain(|_, forgiven| *forgiven > now);
        let fewer = self.most - self.most.div_ceil(16);
        if self.forgiven.len() <= fewer {
            return;
        }
        let mut times: Vec<Duration> = self.forgiven.values().copied().collect();
        let surplus = times.len() - fewer;
        let (_, last, _) = times.select_nth_unstable(surplus - 1);
        let (last, mut left) = (*last, surplus);
        // Of those that are forgiven at the same time, no more than have to.
        self.forgiven.retain(|_, forgiven| {
            let goes = *forgiven <= last && left > 0;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, every: Duration::from_secs(10) };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_done_is_counted_and_forgiven() {
        let mut rates = Rates::<String>::new(RATE);
        for _ in 0..3 {
            assert_eq!(rates.take("ada", s(100)), Ok(()));
        }
        assert_eq!(rates.take("ada", s(100)), Err(s(10)));
        assert_eq!(rates.check("ada", s(104)), Err(s(6)));
        assert_eq!(rates.take("ada", s(104)), Err(s(6)));
        assert_eq!(rates.take("bob", s(104)), Ok(()));
        assert_eq!(rates.check("ada", s(110)), Ok(()));
        assert_eq!(rates.take("ada", s(110)), Ok(()));
        assert_eq!(rates.take("ada", s(110)), Err(s(10)));
        // Forgotten after a while, but no more than that.
        for _ in 0..3 {
            assert_eq!(rates.take("ada", s(1_000)), Ok(()));
        }
        assert_eq!(rates.take("ada", s(1_000)), Err(s(10)));
    }

    #[test]
    fn so_many_pass_in_a_minute_and_the_burst_besides() {
        for (per_minute, burst) in [(60, 1), (60, 10), (7, 3), (100_000, 50)] {
            let mut rates = Rates::<u8>::new(Rate::per_minute(per_minute, burst));
            let passed = (0..600_000_u64).filter(|n| rates.take(&0, Duration::from_micros(n * 100)).is_ok()).count();
            let expected = (per_minute + burst - 1) as usize;
            assert!(passed.abs_diff(expected) <= 1, "{per_minute} {burst}: {passed}");
        }
    }

    #[test]
    fn who_waits_as_long_as_told_passes() {
        let mut rates = Rates::<u8>::new(Rate::per_minute(7, 2));
        let mut now = s(5);
        for _ in 0..100 {
            if let Err(wait) = rates.take(&0, now) {
                assert!(rates.check(&0, now + wait - Duration::from_nanos(1)).is_err());
                now += wait;
                assert_eq!(rates.take(&0, now), Ok(()));
            }
        }
    }

    #[test]
    fn a_right_one_costs_nothing_and_forgives_no_other() {
        let mut rates = Rates::<String>::new(RATE);
        for _ in 0..100 {
            assert_eq!(rates.take("ada", s(5)), Ok(()));
            rates.give_back("ada");
        }
        for _ in 0..3 {
            assert_eq!(rates.take("ada", s(5)), Ok(()));
        }
        rates.give_back("ada");
        assert_eq!(rates.take("ada", s(5)), Ok(()));
        assert_eq!(rates.take("ada", s(5)), Err(s(10)));
        rates.give_back("nobody");
    }

    #[test]
    fn a_clock_that_goes_back_locks_nobody_out_for_longer_than_it_went() {
        let mut rates = Rates::<String>::new(RATE);
        assert_eq!(rates.take("ada", s(1_000)), Ok(()));
        assert_eq!(rates.take("ada", s(900)), Err(s(90)));
        assert_eq!(rates.take("ada", s(990)), Ok(()));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        for most in [1, 2, 100, MAX_KEYS] {
            let mut rates = Rates::<u64>::with_room(RATE, most);
            for n in 0..most as u64 + 200 {
                assert_eq!(rates.take(&n, s(100 + n / 4096)), Ok(()));
                assert!(rates.len() <= most);
            }
        }
        // Who is barred stays so: those that have done less go first.
        let mut rates = Rates::<u64>::new(RATE);
        while rates.take(&u64::MAX, s(100)).is_ok() {}
        for n in 0..MAX_KEYS as u64 * 2 {
            assert_eq!(rates.take(&n, s(100)), Ok(()));
        }
        assert_eq!(rates.take(&u64::MAX, s(100)), Err(s(10)));
        assert!(rates.len() > MAX_KEYS * 3 / 4, "no more leave than have to: {}", rates.len());
    }
}
