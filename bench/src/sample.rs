//! One measured window of one row, and the median of several.
//!
//! Odd: errors are summed over the rounds where all else takes the median, since an error in
//! one round of three must not vanish.

use crate::tally::median;

#[derive(Clone, Default)]
pub(crate) struct Sample {
    pub(crate) calls: u64,
    pub(crate) seconds: f64,
    /// CPU of the gateway process per call, in microseconds.
    pub(crate) gateway_us: f64,
    /// CPU of the servers per call, below the gateway or behind it, in microseconds.
    pub(crate) child_us: f64,
    /// CPU of the load generator per call: what the machine spent on asking.
    pub(crate) generator_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) errors: u64,
    pub(crate) example: Option<String>,
    pub(crate) rss_mib: f64,
    /// Share of the machine that processes outside the row used meanwhile.
    pub(crate) others: f64,
}

impl Sample {
    pub(crate) fn per_second(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    /// What it would be if `calls` of these made one: for a row whose call is worth several.
    pub(crate) fn times(mut self, calls: f64) -> Sample {
        self.calls = (self.calls as f64 / calls).round() as u64;
        for each in [&mut self.gateway_us, &mut self.child_us, &mut self.generator_us] {
            *each *= calls;
        }
        self
    }

    pub(crate) fn middle(samples: &[Sample]) -> Option<Sample> {
        if samples.is_empty() {
            return None;
        }
        let of = |pick: fn(&Sample) -> f64| median(samples.iter().map(pick));
        let per_second = of(Sample::per_second);
        let seconds = of(|sample| sample.seconds);
        Some(Sample {
            calls: (per_second * seconds).round() as u64,
            seconds,
            gateway_us: of(|sample| sample.gateway_us),
            child_us: of(|sample| sample.child_us),
            generator_us: of(|sample| sample.generator_us),
            p50_us: of(|sample| sample.p50_us),
            p99_us: of(|sample| sample.p99_us),
            errors: samples.iter().map(|sample| sample.errors).sum(),
            example: samples.iter().find_map(|sample| sample.example.clone()),
            rss_mib: of(|sample| sample.rss_mib),
            others: of(|sample| sample.others),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_the_middle_and_errors_the_sum() {
        let sample = |calls, errors| Sample { calls, seconds: 1.0, errors, ..Sample::default() };
        let middle = Sample::middle(&[sample(10, 0), sample(30, 1), sample(20, 2)]).expect("three samples");
        assert_eq!((middle.calls, middle.errors), (20, 3));
        assert!(Sample::middle(&[]).is_none());
    }
}
