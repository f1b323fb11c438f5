//! How often somebody may be wrong about a password: per account, and per address.
//!
//! A try is taken before it is looked at and given back if it was right, so that many at once count as
//! many. Each key has one number, the time at which all its tries will be forgiven (a leaky bucket, as the
//! generic cell rate algorithm has it). Odd: an account forgives faster than an address, because whoever
//! guesses at an account also keeps its owner out.

use std::collections::BTreeMap;

/// Most keys that are remembered; each is some hundred bytes at most.
const MAX_KEYS: usize = 8 * 1024;

/// How often, and how soon again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tries that are allowed at once.
    pub burst: u64,
    /// Seconds until one more is.
    pub every_s: u64,
}

/// For an account: 30 at once, then 6 a minute. A password of eight random characters outlives that.
pub const ACCOUNT: Rate = Rate { burst: 30, every_s: 10 };
/// For an address: 10 at once, then 2 a minute.
pub const ADDRESS: Rate = Rate { burst: 10, every_s: 30 };

/// Tries, by key.
#[derive(Debug)]
pub struct Tries {
    rate: Rate,
    /// When all tries of a key are forgiven, in seconds.
    forgiven_s: BTreeMap<String, u64>,
}

impl Tries {
    /// None yet.
    pub fn new(rate: Rate) -> Tries {
        Tries { rate, forgiven_s: BTreeMap::new() }
    }

    /// Takes a try. The error is how many seconds to wait for the next.
    pub fn take(&mut self, key: &str, now_s: u64) -> Result<(), u64> {
        let known = self.forgiven_s.get(key).copied();
        let next = known.unwrap_or(now_s).max(now_s) + self.rate.every_s;
        let most = now_s + self.rate.burst * self.rate.every_s;
        if next > most {
            return Err(next - most);
        }
        if known.is_none() {
            self.make_room(now_s);
        }
        self.forgiven_s.insert(key.to_owned(), next);
        Ok(())
    }

    /// Gives one try back: it was right, or it was never looked at.
    pub fn give_back(&mut self, key: &str) {
        if let Some(forgiven_s) = self.forgiven_s.get_mut(key) {
            *forgiven_s = forgiven_s.saturating_sub(self.rate.every_s);
        }
    }

    /// When there are too many, those that are forgiven go; if there are none, who would be next.
    fn make_room(&mut self, now_s: u64) {
        if self.forgiven_s.len() < MAX_KEYS {
            return;
        }
        self.forgiven_s.retain(|_, forgiven_s| *forgiven_s > now_s);
        if self.forgiven_s.len() >= MAX_KEYS
            && let Some(first) = self.forgiven_s.iter().min_by_key(|(_, forgiven_s)| **forgiven_s).map(|(key, _)| key.clone())
        {
            self.forgiven_s.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, every_s: 10 };

    #[test]
    fn tries_are_counted_and_forgiven() {
        let mut tries = Tries::new(RATE);
        for _ in 0..3 {
            assert_eq!(tries.take("ada", 100), Ok(()));
        }
        assert_eq!(tries.take("ada", 100), Err(10));
        assert_eq!(tries.take("ada", 104), Err(6));
        assert_eq!(tries.take("bob", 104), Ok(()));
        assert_eq!(tries.take("ada", 110), Ok(()));
        assert_eq!(tries.take("ada", 110), Err(10));
        // Forgotten after a while, but no more than that.
        for _ in 0..3 {
            assert_eq!(tries.take("ada", 1_000), Ok(()));
        }
        assert_eq!(tries.take("ada", 1_000), Err(10));
    }

    #[test]
    fn a_right_one_costs_nothing_and_forgives_no_other() {
        let mut tries = Tries::new(RATE);
        for _ in 0..100 {
            assert_eq!(tries.take("ada", 5), Ok(()));
            tries.give_back("ada");
        }
        for _ in 0..3 {
            assert_eq!(tries.take("ada", 5), Ok(()));
        }
        tries.give_back("ada");
        assert_eq!(tries.take("ada", 5), Ok(()));
        assert_eq!(tries.take("ada", 5), Err(10));
        tries.give_back("nobody");
    }

    #[test]
    fn a_clock_that_goes_back_locks_nobody_out_for_longer_than_it_went() {
        let mut tries = Tries::new(RATE);
        assert_eq!(tries.take("ada", 1_000), Ok(()));
        assert_eq!(tries.take("ada", 900), Err(90));
        assert_eq!(tries.take("ada", 990), Ok(()));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut tries = Tries::new(RATE);
        for n in 0..MAX_KEYS as u64 + 200 {
            assert_eq!(tries.take(&format!("key {n}"), 100 + n / 4096), Ok(()));
            assert!(tries.forgiven_s.len() <= MAX_KEYS);
        }
        // Who is barred stays so: those with fewer tries go first.
        let mut tries = Tries::new(RATE);
        while tries.take("ada", 100).is_ok() {}
        for n in 0..MAX_KEYS + 10 {
            assert_eq!(tries.take(&format!("key {n}"), 100), Ok(()));
        }
        assert_eq!(tries.take("ada", 100), Err(10));
    }
}
