//! When it is time to speak with somebody again: after how many days. What follows from that for each contact says the
//! view in `people`.

use jiff::civil::Date;

use super::people::RELATIONSHIPS;

/// After how many days, by relationship. A contact's own number of days counts for more.
#[derive(Clone, Debug)]
pub(super) struct Rules([i64; RELATIONSHIPS.len()]);

/// Longer than anybody means.
const MAX_DAYS: i64 = 36_500;

impl Rules {
    /// `close=14,network=120` changes what is usual; `tui` is what contacts-tui counts by.
    pub(super) fn read(text: &str) -> Result<Rules, String> {
        let tui = text.split(',').any(|part| part.trim() == "tui");
        let usual = |relationship: &str| match relationship {
            "close" | "family" => 30,
            "network" => 90,
            _ if tui => 60,
            "providers" | "recruiters" => 90,
            _ => 30,
        };
        let mut days = RELATIONSHIPS.map(usual);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "tui") {
            let wrong = || {
                let all = RELATIONSHIPS.join(", ");
                format!("CONTACTS_OVERDUE_DAYS holds {part:?}; write RELATIONSHIP=DAYS, of {all}, with 1 to {MAX_DAYS} days")
            };
            let (name, number) = part.split_once('=').ok_or_else(wrong)?;
            let at = RELATIONSHIPS.iter().position(|known| *known == name.trim()).ok_or_else(wrong)?;
            let number = number.trim().parse().ok().filter(|days| (1..=MAX_DAYS).contains(days)).ok_or_else(wrong)?;
            if let Some(days) = days.get_mut(at) {
                *days = number;
            }
        }
        Ok(Rules(days))
    }

    /// After how many days, as SQL says it of a row with a relationship.
    pub(super) fn sql(&self) -> String {
        let cases: String = self.all().map(|(relationship, days)| format!(" WHEN '{relationship}' THEN {days}")).collect();
        format!("CASE coalesce(relationship_type, 'network'){cases} ELSE 30 END")
    }

    /// The days by relationship.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, i64)> {
        RELATIONSHIPS.into_iter().zip(self.0)
    }
}

/// The day that it is, in UTC.
pub(super) fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_days_can_be_told_and_nonsense_is_refused() {
        let days = |text: &str| Rules::read(text).map(|rules| rules.all().collect::<std::collections::BTreeMap<_, _>>());
        let usual = days("").unwrap();
        assert_eq!((usual["work"], usual["social"], usual["recruiters"]), (30, 30, 90));
        let tui = days("tui, close=14").unwrap();
        assert_eq!((tui["work"], tui["social"], tui["recruiters"], tui["close"], tui["network"]), (60, 60, 60, 14, 90));
        for wrong in ["close", "friends=3", "close=0", "close=-1", "close=x", "close=99999"] {
            assert!(days(wrong).unwrap_err().contains("CONTACTS_OVERDUE_DAYS"), "{wrong}");
        }
    }
}
