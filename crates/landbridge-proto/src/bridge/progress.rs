//! Progress of one request, which must grow from note to note (basic/utilities/progress).

/// Lets only such progress pass as is more than what passed before it.
///
/// Values are compared as numbers and not kept as such: a note that may pass travels as it was
/// written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Increasing {
    last: Option<f64>,
}

impl Increasing {
    /// Whether a note may pass whose `progress` is this JSON text (`None`: it has none).
    ///
    /// What is no number cannot be compared, nor is it ours to refuse: it passes, and the next
    /// number is compared with the last.
    pub fn passes(&mut self, progress: Option<&str>) -> bool {
        let Some(now) = progress.and_then(|text| text.parse::<f64>().ok()) else { return true };
        let grows = self.last.is_none_or(|last| now > last);
        if grows {
            self.last = Some(now);
        }
        grows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_passes() {
        let mut progress = Increasing::default();
        let told = ["0", "0.0", "-1", "0.5", "5e-1", "1", "1", "0.9", "2E0", "1e400", "1e401", "3"];
        let passed: Vec<&str> = told.into_iter().filter(|p| progress.passes(Some(p))).collect();
        assert_eq!(passed, ["0", "0.5", "1", "2E0", "1e400"]);
    }

    #[test]
    fn it_may_begin_anywhere_and_what_is_no_number_passes() {
        let mut progress = Increasing::default();
        assert!(progress.passes(None));
        assert!(progress.passes(Some("-3")));
        for stranger in [None, Some("null"), Some("\"9\""), Some("{}")] {
            assert!(progress.passes(stranger));
        }
        assert!(!progress.passes(Some("-3.0")));
        assert!(progress.passes(Some("-2.999")));
    }
}
