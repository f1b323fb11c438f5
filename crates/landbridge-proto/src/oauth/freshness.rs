//! How long a document may be kept, by the headers it came with (RFC 9111).
//!
//! Odd: what forbids to be kept is kept for the least time all the same. That time is ours: without it whoever can
//! make us fetch would make us fetch with every request.

/// Bounds to how long something is kept, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At least so long, whatever the headers say.
    pub least_s: u64,
    /// At most so long.
    pub most_s: u64,
    /// So long where they say nothing.
    pub silent_s: u64,
}

/// The headers that say it, as they came; several of one name are joined with a comma (RFC 9110 §5.3).
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'h> {
    /// `Cache-Control`
    pub cache_control: Option<&'h str>,
    /// `Expires`
    pub expires: Option<&'h str>,
    /// `Date`: the sender's clock, by which `Expires` is read.
    pub date: Option<&'h str>,
    /// `Age`: how long it has been in caches already.
    pub age: Option<&'h str>,
}

impl Keep {
    /// How long to keep what came with these headers, in seconds.
    pub fn seconds(&self, said: Said<'_>, now_s: u64) -> u64 {
        // `Ord::clamp` panics where the bounds are the wrong way round.
        said.lifetime_s(now_s).unwrap_or(self.silent_s).min(self.most_s).max(self.least_s)
    }
}

impl Said<'_> {
    /// How long it is fresh from now on (RFC 9111 §4.2.1), where anything is said of it.
    fn lifetime_s(&self, now_s: u64) -> Option<u64> {
        let age_s = self.age.and_then(delta_seconds).unwrap_or_default();
        let mut max_age = None;
        for directive in self.cache_control.unwrap_or_default().split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim();
            // `no-cache` allows to keep what is asked about each time; we do not ask about things.
            if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
                return Some(0);
            }
            if name.eq_ignore_ascii_case("max-age") {
                // Said twice the shorter counts, and what is no number is stale (RFC 9111 §4.2.1).
                let said = delta_seconds(value.trim().trim_matches('"')).unwrap_or_default();
                max_age = Some(max_age.map_or(said, |earlier: u64| earlier.min(said)));
            }
        }
        if let Some(max_age) = max_age {
            return Some(max_age.saturating_sub(age_s));
        }
        // What is no date is in the past (RFC 9111 §5.3): `0` and `-1` are common.
        let expires_s = date(self.expires?).unwrap_or_default();
        let from_s = self.date.and_then(date).unwrap_or(now_s);
        Some(expires_s.saturating_sub(from_s).saturating_sub(age_s))
    }
}

/// A number of seconds; one that is too large is very large (RFC 9111 §1.2.2).
fn delta_seconds(text: &str) -> Option<u64> {
    let text = text.trim();
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970 of a date in the one form that is still written: `Sun, 06 Nov 1994 08:49:37 GMT`
/// (RFC 9110 §5.6.7).
fn date(text: &str) -> Option<u64> {
    let (_, rest) = text.trim().split_once(", ")?;
    let mut parts = rest.split(' ');
    let mut part = || parts.next();
    let (day, month, year, time, zone) = (part()?, part()?, part()?, part()?, part()?);
    if zone != "GMT" || part().is_some() {
        return None;
    }
    let number =
        |text: &str, digits: usize| (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u64>().ok())?;
    let (day, year) = (number(day, 2)?, number(year, 4)?);
    let month = MONTHS.iter().position(|m| *m == month)? as u64;
    let mut clock = time.split(':');
    let mut unit = |below: u64| number(clock.next()?, 2).filter(|n| *n < below);
    let (hours, minutes, seconds) = (unit(24)?, unit(60)?, unit(61)?);
    if clock.next().is_some() || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    // Years are counted from March, so that the odd day is their last.
    let (y, m) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    // Days from the first of March of year 0 to the first of January 1970.
    Some((days - 719_468) * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { least_s: 60, most_s: 86_400, silent_s: 300 };
    const NOW_S: u64 = 784_111_777;

    fn kept(cache_control: Option<&str>, expires: Option<&str>, date: Option<&str>, age: Option<&str>) -> u64 {
        KEEP.seconds(Said { cache_control, expires, date, age }, NOW_S)
    }

    #[test]
    fn dates_are_read() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("Fri, 31 Dec 2100 00:00:00 GMT", Some(4_133_894_400)),
            ("0", None),
            ("-1", None),
            ("", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 06 Nov 1994 24:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1969 08:49:37 GMT", None),
            ("Sun, 06 Nov 0000 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT x", None),
        ] {
            assert_eq!(date(text), expected, "{text}");
        }
    }

    #[test]
    fn cache_control_says_how_long() {
        for (said, expected) in [
            ("max-age=600", 600),
            ("public, max-age=600, must-revalidate", 600),
            ("MAX-AGE=600", 600),
            ("max-age=\"600\"", 600),
            ("max-age=600, max-age=120", 120),
            ("max-age=5", 60),
            ("max-age=0", 60),
            ("max-age=31536000", 86_400),
            ("max-age=99999999999999999999999", 86_400),
            ("max-age=-1", 60),
            ("max-age", 60),
            ("max-age=x", 60),
            ("no-store", 60),
            ("no-store, max-age=600", 60),
            ("max-age=600, No-Store", 60),
            ("no-cache", 60),
            ("private", 300),
            ("s-maxage=900", 300),
            ("", 300),
        ] {
            assert_eq!(kept(Some(said), None, None, None), expected, "{said}");
        }
        assert_eq!(kept(Some("max-age=600"), None, None, Some("200")), 400);
        assert_eq!(kept(Some("max-age=600"), None, None, Some("x")), 600);
        assert_eq!(kept(Some("max-age=600"), Some("0"), None, None), 600);
    }

    #[test]
    fn expires_is_read_by_the_clock_of_whoever_wrote_it() {
        let late = Some("Sun, 06 Nov 1994 09:49:37 GMT");
        assert_eq!(kept(None, late, None, None), 3600);
        assert_eq!(kept(None, late, Some("Sun, 06 Nov 1994 09:39:37 GMT"), None), 600);
        assert_eq!(kept(None, late, Some("Sun, 06 Nov 1994 10:49:37 GMT"), None), 60);
        assert_eq!(kept(None, Some("0"), None, None), 60);
        assert_eq!(kept(None, None, None, None), 300);
    }

    #[test]
    fn bounds_the_wrong_way_round_are_bounds() {
        assert_eq!(Keep { least_s: 60, most_s: 1, silent_s: 0 }.seconds(Said::default(), 0), 60);
    }
}
