//! When it is time to speak with somebody again.

use jiff::civil::Date;

use super::people::{Contact, RELATIONSHIPS};

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

    /// How long one may be silent.
    pub(super) fn days_for(&self, contact: &Contact) -> i64 {
        let at = RELATIONSHIPS.iter().position(|known| *known == contact.relationship_type);
        let usual = at.and_then(|at| self.0.get(at)).copied().unwrap_or(30);
        contact.custom_frequency_days.filter(|days| *days > 0).unwrap_or(usual)
    }

    /// How long somebody has been waiting: `Some(None)` if nobody has ever spoken with them, `None` if it is not time yet.
    pub(super) fn overdue(&self, contact: &Contact, today: Date) -> Option<Option<i64>> {
        if contact.archived || contact.contact_style != "periodic" {
            return None;
        }
        match contact.last_contact() {
            None => Some(None),
            Some(last) => {
                let silent = days_between(last, today);
                let over = silent - self.days_for(contact);
                (over > 0).then_some(Some(over))
            }
        }
    }

    /// The days by relationship.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, i64)> {
        RELATIONSHIPS.into_iter().zip(self.0)
    }
}

/// How many days later the second is.
pub(super) fn days_between(from: Date, to: Date) -> i64 {
    from.until(to).map_or(0, |span| span.get_days().into())
}

/// The day that it is, in UTC.
pub(super) fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(relationship: &str, last: Option<&str>) -> Contact {
        Contact {
            relationship_type: relationship.into(),
            contact_style: "periodic".into(),
            contacted_at: last.map(str::to_owned),
            ..Contact::default()
        }
    }

    #[test]
    fn days_are_those_of_the_relationship_unless_somebody_says_otherwise() {
        let rules = Rules::read("").unwrap();
        let today = "2026-06-30".parse().unwrap();
        assert_eq!(rules.overdue(&contact("close", None), today), Some(None));
        assert_eq!(rules.overdue(&contact("close", Some("2026-05-31")), today), None, "thirty days are not too many");
        assert_eq!(rules.overdue(&contact("close", Some("2026-05-30")), today), Some(Some(1)));
        assert_eq!(rules.overdue(&contact("network", Some("2026-05-01")), today), None);
        let own = Contact { custom_frequency_days: Some(7), ..contact("network", Some("2026-06-01")) };
        assert_eq!(rules.overdue(&own, today), Some(Some(22)));
        let bumped = Contact { last_bump_date: Some("2026-06-28".into()), ..own };
        assert_eq!(rules.overdue(&bumped, today), None, "a bump counts as well");
        for silent in [
            Contact { archived: true, ..contact("close", None) },
            Contact { contact_style: "ambient".into(), ..contact("close", None) },
            Contact { contact_style: "triggered".into(), ..contact("close", None) },
        ] {
            assert_eq!(rules.overdue(&silent, today), None);
        }
    }

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
