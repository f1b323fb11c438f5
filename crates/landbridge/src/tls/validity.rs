//! From when until when a certificate is valid: the one thing we read in it ourselves (RFC 5280 §4.1).
//!
//! ```text
//!   Certificate { TBSCertificate { [0] version, serial, algorithm, issuer, Validity { notBefore, notAfter }, …
//! ```

use std::fmt;
use std::time::Duration;

/// Both ends, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) from: Duration,
    pub(super) until: Duration,
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

impl Validity {
    /// Reads a certificate in DER; `None` if it cannot be read so far.
    pub(super) fn read(certificate: &[u8]) -> Option<Validity> {
        let (SEQUENCE, certificate, _) = element(certificate)? else { return None };
        let (SEQUENCE, tbs, _) = element(certificate)? else { return None };
        let (tag, _, behind) = element(tbs)?;
        let mut rest = if tag == VERSION { behind } else { tbs };
        for wanted in [INTEGER, SEQUENCE, SEQUENCE] {
            let (tag, _, behind) = element(rest)?;
            rest = (tag == wanted).then_some(behind)?;
        }
        let (SEQUENCE, validity, _) = element(rest)? else { return None };
        let (from_tag, from, behind) = element(validity)?;
        let (until_tag, until, _) = element(behind)?;
        Some(Validity { from: time(from_tag, from)?, until: time(until_tag, until)? })
    }

    /// Where its end is, seen from `now`: `in 13 days`, `2 days ago`.
    pub(super) fn expiry(&self, now: Duration) -> impl fmt::Display {
        let days = |span: Duration| match span.as_secs() / 86_400 {
            0 => "less than a day".to_owned(),
            1 => "1 day".to_owned(),
            n => format!("{n} days"),
        };
        match self.until.checked_sub(now) {
            Some(left) => format!("in {}", days(left)),
            None => format!("{} ago", days(now.saturating_sub(self.until))),
        }
    }
}

/// The tag and the content of what stands first, and what follows it (X.690 §8.1, DER).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, short], rest) = der.split_first_chunk()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ` (RFC 5280 §4.1.2.5).
fn time(tag: u8, text: &[u8]) -> Option<Duration> {
    let text = text.strip_suffix(b"Z")?;
    let all = text.iter().all(u8::is_ascii_digit);
    let number = |at: usize, length: usize| text.get(at..at + length)?.iter().fold(0u64, |n, b| n * 10 + u64::from(b - b'0')).into();
    let number = |at, length| if all { number(at, length) } else { None };
    let (year, at): (u64, usize) = match (tag, text.len()) {
        (UTC_TIME, 12) => match number(0, 2)? {
            short @ 50.. => (1900 + short, 2),
            short => (2000 + short, 2),
        },
        (GENERALIZED_TIME, 14) => (number(0, 4)?, 4),
        _ => return None,
    };
    let (month, day) = (number(at, 2)?, number(at + 2, 2)?);
    let (hour, minute, second) = (number(at + 4, 2)?, number(at + 6, 2)?, number(at + 8, 2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(Duration::from_secs(days_to(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second))
}

/// Days from 1970 to a day of the Gregorian calendar; none before it. The year is taken to begin in March, so that
/// the day that not every year has is its last.
fn days_to(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let months = (month + 9) % 12;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (months * 153 + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted() {
        for (date, days) in
            [((1970, 1, 1), 0), ((1970, 3, 1), 59), ((2000, 2, 29), 11_016), ((2000, 3, 1), 11_017), ((2026, 11, 20), 20_777)]
        {
            assert_eq!(days_to(date.0, date.1, date.2), Some(days), "{date:?}");
        }
        assert_eq!(days_to(1969, 12, 31), None);
    }

    #[test]
    fn a_certificate_is_read_as_others_read_it() {
        for (from, until) in [((1999, 12, 31), (2049, 12, 31)), ((2024, 2, 29), (2050, 1, 1)), ((1975, 1, 1), (4096, 1, 1))] {
            let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
            params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
            let cert = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let (_, theirs) = x509_parser::parse_x509_certificate(cert.der()).unwrap();
            let theirs = (theirs.validity().not_before.timestamp() as u64, theirs.validity().not_after.timestamp() as u64);
            let ours = Validity::read(cert.der()).unwrap();
            assert_eq!((ours.from.as_secs(), ours.until.as_secs()), theirs);
            // Whatever is cut off, there is an answer.
            for end in 0..cert.der().len() {
                let _ = Validity::read(&cert.der()[..end]);
            }
        }
    }

    #[test]
    fn times_are_read_strictly() {
        for bad in ["20260101000000", "260101000000Z ", "2613010000Z", "261301000000Z", "26010100000aZ", "260132000000Z", "260101240000Z"] {
            assert_eq!(time(UTC_TIME, bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(time(UTC_TIME, b"700101000001Z"), Some(Duration::from_secs(1)));
    }

    #[test]
    fn its_end_is_told_in_days() {
        let validity = Validity { from: Duration::ZERO, until: Duration::from_secs(86_400 * 10) };
        let at = |days: u64| validity.expiry(Duration::from_secs(86_400 * days + 1)).to_string();
        assert_eq!(
            [at(0), at(8), at(9), at(10), at(12)],
            ["in 9 days", "in 1 day", "in less than a day", "less than a day ago", "2 days ago"]
        );
    }
}
