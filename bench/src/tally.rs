//! What one client, or all clients of a row together, counted: latencies, errors, an example.
//!
//! Odd: every latency is kept and sorted at the end. A window holds a few hundred thousand at
//! most, which is cheaper than a histogram and exact.

use std::time::Duration;

use crate::fault::Fault;

/// After so many faults a client gives up, so that a refusing server is not hammered.
const GIVES_UP_AFTER: u64 = 200;

#[derive(Default)]
pub(crate) struct Tally {
    latencies_ns: Vec<u32>,
    pub(crate) errors: u64,
    pub(crate) example: Option<String>,
}

impl Tally {
    pub(crate) fn record(&mut self, latency: Duration) {
        self.latencies_ns.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    pub(crate) fn fault(&mut self, fault: &Fault) {
        self.faults(1, Some(fault.to_string()));
    }

    pub(crate) fn faults(&mut self, count: u64, example: Option<String>) {
        self.errors += count;
        if self.example.is_none() {
            self.example = example;
        }
    }

    pub(crate) fn gave_up(&self) -> bool {
        self.errors >= GIVES_UP_AFTER
    }

    pub(crate) fn calls(&self) -> u64 {
        self.latencies_ns.len() as u64
    }

    pub(crate) fn add(&mut self, other: Tally) {
        self.latencies_ns.extend(other.latencies_ns);
        self.faults(other.errors, other.example);
    }

    /// The latencies in microseconds below which each of `shares` of the calls stayed.
    pub(crate) fn percentiles_us<const N: usize>(&mut self, shares: [f64; N]) -> [f64; N] {
        self.latencies_ns.sort_unstable();
        shares.map(|share| percentile(&self.latencies_ns, share).map_or(f64::NAN, |ns| f64::from(ns) / 1000.0))
    }
}

/// The nearest-rank percentile of sorted values.
fn percentile(sorted: &[u32], share: f64) -> Option<u32> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The middle of the values, which shrugs off one noisy round of three.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&sorted, 0.5), Some(50));
        assert_eq!(percentile(&sorted, 0.99), Some(99));
        assert_eq!(percentile(&sorted, 1.0), Some(100));
        assert_eq!(percentile(&sorted, 0.0), Some(1));
        assert_eq!(percentile(&[7], 0.99), Some(7));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_tally_sorts_before_it_ranks() {
        let mut tally = Tally::default();
        for us in [30, 10, 20] {
            tally.record(Duration::from_micros(us));
        }
        assert_eq!(tally.percentiles_us([0.5, 0.99]), [20.0, 30.0]);
        assert!(Tally::default().percentiles_us([0.5])[0].is_nan());
    }

    #[test]
    fn the_median_leaves_out_what_was_not_measured() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([f64::NAN, 5.0]), 5.0);
        assert!(median([]).is_nan());
    }
}
