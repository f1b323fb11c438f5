//! Versions as semver.org writes them: which is newer, and which comes next.

use std::cmp::Ordering;
use std::fmt;

/// The most characters of a version.
const MAX_LEN: usize = 200;

/// A version. What is built (`+…`) does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    major: u64,
    minor: u64,
    patch: u64,
    before: Vec<Part>,
}

/// A part of what stands before a release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    // Numbers are older than words (§11.4.3). They have no bound, so that they stay text: a longer one is larger.
    Number(usize, String),
    Word(String),
}

/// What a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Step {
    /// Something that worked does not any more.
    Major,
    /// Something new.
    Minor,
    /// Something mended.
    Patch,
}

impl Version {
    pub(super) fn read(text: &str) -> Option<Version> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
            plain.then(|| digits.parse().ok()).flatten()
        };
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        if text.len() > MAX_LEN || build.is_some_and(|build| !build.split('.').all(word)) {
            return None;
        }
        let (core, before) = text.split_once('-').map_or((text, None), |(core, before)| (core, Some(before)));
        let mut numbers = core.split('.');
        let (major, minor, patch) = (number(numbers.next()?)?, number(numbers.next()?)?, number(numbers.next()?)?);
        let part = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            _ if !word(text) => None,
            true if text.starts_with('0') && text != "0" => None,
            true => Some(Part::Number(text.len(), text.to_owned())),
            false => Some(Part::Word(text.to_owned())),
        };
        let before = before.map_or(Some(Vec::new()), |before| before.split('.').map(part).collect())?;
        numbers.next().is_none().then_some(Version { major, minor, patch, before })
    }

    /// The next one after such a change, if there is a number for it.
    pub(super) fn next(&self, step: Step) -> Option<Version> {
        // A version that comes before a release leads to that release (as npm has it).
        let is_before = !self.before.is_empty();
        let (major, minor, patch) = match step {
            Step::Major if is_before && self.minor == 0 && self.patch == 0 => (self.major, 0, 0),
            Step::Major => (self.major.checked_add(1)?, 0, 0),
            Step::Minor if is_before && self.patch == 0 => (self.major, self.minor, 0),
            Step::Minor => (self.major, self.minor.checked_add(1)?, 0),
            Step::Patch if is_before => (self.major, self.minor, self.patch),
            Step::Patch => (self.major, self.minor, self.patch.checked_add(1)?),
        };
        Some(Version { major, minor, patch, before: Vec::new() })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let core = |version: &Version| (version.major, version.minor, version.patch);
        core(self).cmp(&core(other)).then_with(|| match (self.before.is_empty(), other.before.is_empty()) {
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            _ => self.before.cmp(&other.before),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        for (number, part) in self.before.iter().enumerate() {
            f.write_str(if number == 0 { "-" } else { "." })?;
            match part {
                Part::Number(_, text) | Part::Word(text) => f.write_str(text)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_in_the_order_of_semver() {
        let order = [
            "0.9.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-beta.99999999999999999999",
            "1.0.0-beta.100000000000000000000",
            "1.0.0-beta.x",
            "1.0.0",
            "1.0.1",
            "1.10.0",
            "2.0.0",
        ];
        for pair in order.windows(2) {
            assert!(Version::read(pair[0]).unwrap() < Version::read(pair[1]).unwrap(), "{pair:?}");
        }
        assert_eq!(Version::read("v1.2.3+build.7-x"), Version::read("1.2.3"));
        assert_eq!(Version::read("1.0.0-beta.9+x").unwrap().to_string(), "1.0.0-beta.9");
        assert!(Version::read("18446744073709551615.0.0") > Version::read("9.0.0"));
        for bad in [
            "1.2.3+",
            "1.2.3+a b",
            "1.2.3+a..b",
            "1.2.3-01",
            "1.2.3-ä",
            &format!("1.2.3-{}", "9".repeat(200)),
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "01.2.3",
            "1.2.x",
            "1.2.3-",
            "1.2.3-a..b",
            "99999999999999999999.0.0",
            "-1.0.0",
        ] {
            assert_eq!(Version::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_change_has_its_step() {
        for (from, step, to) in [
            ("1.2.3", Step::Major, "2.0.0"),
            ("1.2.3", Step::Minor, "1.3.0"),
            ("1.2.3", Step::Patch, "1.2.4"),
            ("2.0.0-rc.1", Step::Major, "2.0.0"),
            ("1.2.0-rc.1", Step::Minor, "1.2.0"),
            ("1.2.3-rc.1", Step::Patch, "1.2.3"),
            ("1.2.3-rc.1+b", Step::Minor, "1.3.0"),
            ("18446744073709551615.1.0", Step::Minor, "18446744073709551615.2.0"),
        ] {
            assert_eq!(Version::read(from).unwrap().next(step).unwrap().to_string(), to);
        }
        assert_eq!(Version::read("18446744073709551615.0.0").unwrap().next(Step::Major), None);
    }
}
