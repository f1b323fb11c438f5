//! Contacts from and to other programs, as vCard and CSV; and who is there twice.

mod table;
mod vcard;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnection;

use super::arguments::{LONG, MANY, SHORT, Trouble};
use super::people::{Contact, RELATIONSHIPS, STATES, plain_label};
use super::store;

/// What can be read and written.
pub(super) const FORMATS: [&str; 2] = ["vcard", "csv"];
/// What becomes of who is there already.
pub(super) const DUPLICATES: [&str; 3] = ["skip", "update", "add"];
/// The most bytes of a file.
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;
/// The most contacts in one.
const MOST_CONTACTS: usize = 10_000;

/// What was read: contacts, and what is wrong with others.
#[derive(Debug, Default)]
pub(super) struct Read {
    contacts: Vec<Contact>,
    wrong: Vec<String>,
}

impl Read {
    fn take(&mut self, number: usize, mut contact: Contact) -> Result<(), Trouble> {
        if self.contacts.len() + self.wrong.len() >= MOST_CONTACTS {
            return Err(Trouble::Bad(format!("the file has more than {MOST_CONTACTS} contacts")));
        }
        if contact.name.is_empty() {
            contact.name = contact.company.clone().or_else(|| contact.email.clone()).unwrap_or_default();
        }
        let long = [&contact.email, &contact.phone, &contact.company, &contact.label, &contact.external_id];
        if contact.name.is_empty() {
            self.wrong.push(format!("number {number} has no name, company or email"));
        } else if std::iter::once(&contact.name).chain(long.into_iter().flatten()).any(|text| text.chars().count() > SHORT) {
            self.wrong.push(format!("number {number} has a field of more than {SHORT} characters"));
        } else if contact.notes.as_ref().is_some_and(|notes| notes.chars().count() > LONG) {
            self.wrong.push(format!("number {number} has notes of more than {LONG} characters"));
        } else {
            self.contacts.push(contact);
        }
        Ok(())
    }
}

/// Reads a file.
pub(super) fn read(format: &str, content: &str) -> Result<Read, Trouble> {
    let content = content.trim_start_matches('\u{feff}');
    let read = if format == "csv" { table::read(content)? } else { vcard::read(content)? };
    if read.contacts.is_empty() && read.wrong.is_empty() {
        return Err(Trouble::Bad(format!("there are no contacts in this file; is it {format}?")));
    }
    Ok(read)
}

/// Writes a file.
pub(super) fn write(format: &str, contacts: &[Contact]) -> Result<String, Trouble> {
    if format == "csv" { table::write(contacts) } else { Ok(contacts.iter().map(vcard::write).collect()) }
}

/// Adds what was read to what is there.
pub(super) async fn import(connection: &mut SqliteConnection, read: Read, on_duplicate: &str) -> Result<Value, Trouble> {
    store::check_room(connection, read.contacts.len()).await?;
    let mut known = Known::default();
    for contact in store::all(connection, None).await? {
        known.add(&contact);
    }
    let (mut added, mut updated, mut skipped, mut wrong) = (Vec::new(), Vec::new(), 0_usize, read.wrong);
    for mut contact in read.contacts {
        let plain = contact.label.as_deref().map(plain_label);
        let twin = known.find(&contact);
        if let (Some(id), true) = (twin, on_duplicate != "add") {
            if on_duplicate == "skip" {
                skipped += 1;
                continue;
            }
            let mut there = store::contact(connection, id).await?;
            if plain.is_some_and(|plain| known.labels.contains_key(&plain)) {
                contact.label = None;
            }
            if let Err(trouble) = absorb(&mut there, contact) {
                wrong.push(trouble.to_string());
                continue;
            }
            store::rewrite(connection, &there).await?;
            known.add(&there);
            updated.push(id);
            continue;
        }
        // What has to be somebody's alone is theirs who had it first.
        if let Some(label) = contact.label.take_if(|_| plain.is_some_and(|plain| known.labels.contains_key(&plain))) {
            wrong.push(format!("{} has no label, because {label} is somebody else's", contact.name));
        }
        if contact.external_id.as_ref().is_some_and(|id| known.external.contains_key(id)) {
            contact.external_id = None;
        }
        contact.id = store::write(connection, &contact).await?;
        known.add(&contact);
        added.push(contact.id);
    }
    wrong.truncate(100);
    Ok(json!({"added": added.len(), "updated": updated.len(), "skipped": skipped, "contact_ids": added, "problems": wrong}))
}

/// Who is there, by what tells people apart.
#[derive(Default)]
struct Known {
    external: BTreeMap<String, i64>,
    emails: BTreeMap<String, i64>,
    phones: BTreeMap<(String, String), i64>,
    names: BTreeMap<(String, String), i64>,
    labels: BTreeMap<String, i64>,
}

impl Known {
    fn add(&mut self, contact: &Contact) {
        let id = contact.id;
        let name = folded(&contact.name);
        if let Some(external) = &contact.external_id {
            self.external.entry(external.clone()).or_insert(id);
        }
        if let Some(email) = &contact.email {
            self.emails.entry(email.to_lowercase()).or_insert(id);
        }
        if let Some(label) = &contact.label {
            self.labels.entry(plain_label(label)).or_insert(id);
        }
        if let Some(phone) = digits(contact) {
            self.phones.entry((name.clone(), phone)).or_insert(id);
        }
        self.names.entry((name, contact.company.as_deref().map(folded).unwrap_or_default())).or_insert(id);
    }

    /// Who it is: by the id that another program gave, the address, or the name with the number or the company.
    fn find(&self, contact: &Contact) -> Option<i64> {
        let name = folded(&contact.name);
        let external = contact.external_id.as_ref().and_then(|id| self.external.get(id));
        let email = || contact.email.as_ref().and_then(|email| self.emails.get(&email.to_lowercase()));
        let phone = || self.phones.get(&(name.clone(), digits(contact)?));
        let company = || contact.company.as_deref().map(folded).unwrap_or_default();
        external.or_else(email).or_else(phone).or_else(|| self.names.get(&(name.clone(), company()))).copied()
    }
}

/// What the one lacks comes from the other; what both say of themselves at length stays, one below the other, if there is
/// room for both.
pub(super) fn absorb(kept: &mut Contact, other: Contact) -> Result<(), Trouble> {
    let fill = |mine: &mut Option<String>, theirs: Option<String>| {
        if mine.as_ref().is_none_or(String::is_empty) {
            *mine = theirs;
        }
    };
    if let Some(notes) = other.notes.filter(|notes| kept.notes.as_ref().is_none_or(|mine| !mine.contains(notes.as_str()))) {
        let both = kept.notes.as_ref().map_or_else(|| notes.clone(), |mine| format!("{mine}\n\n{notes}"));
        if both.chars().count() > LONG {
            let told = format!("the notes about {} would have more than {LONG} characters; make them shorter first", kept.name);
            return Err(Trouble::Conflict(told));
        }
        kept.notes = Some(both);
    }
    fill(&mut kept.email, other.email);
    fill(&mut kept.phone, other.phone);
    fill(&mut kept.company, other.company);
    fill(&mut kept.label, other.label);
    fill(&mut kept.state, other.state);
    fill(&mut kept.follow_up_date, other.follow_up_date);
    fill(&mut kept.deadline_date, other.deadline_date);
    fill(&mut kept.basic_memory_url, other.basic_memory_url);
    kept.contacted_at = kept.contacted_at.take().max(other.contacted_at);
    kept.last_bump_date = kept.last_bump_date.take().max(other.last_bump_date);
    kept.bump_count = kept.bump_count.saturating_add(other.bump_count);
    kept.custom_frequency_days = kept.custom_frequency_days.or(other.custom_frequency_days);
    Ok(())
}

// --- who is there twice --------------------------------------------------------------------------

/// Contacts that share something, in groups.
pub(super) fn duplicates(all: &[Contact]) -> Value {
    // The group of each: the place of one that stands for it.
    let mut groups: Vec<usize> = (0..all.len()).collect();
    let mut why: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut seen: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for (at, contact) in all.iter().enumerate() {
        let name = folded(&contact.name);
        let signs = [
            ("name", Some(name.as_str()).filter(|name| !name.is_empty()).map(str::to_owned)),
            ("email", contact.email.as_ref().map(|email| email.trim().to_lowercase())),
            ("phone", digits(contact)),
        ];
        for (kind, sign) in signs {
            let Some(sign) = sign else { continue };
            let first = *seen.entry((kind, sign.clone())).or_insert(at);
            if first != at {
                let (a, b) = (root(&mut groups, first), root(&mut groups, at));
                if let Some(group) = groups.get_mut(a.max(b)) {
                    *group = a.min(b);
                }
                why.entry(at).or_default().push(format!("{kind} {sign}"));
            }
        }
    }
    let mut found: BTreeMap<usize, (Vec<&Contact>, BTreeSet<String>)> = BTreeMap::new();
    for (at, contact) in all.iter().enumerate() {
        let group = found.entry(root(&mut groups, at)).or_default();
        group.0.push(contact);
        group.1.extend(why.remove(&at).unwrap_or_default());
    }
    found.retain(|_, (members, _)| members.len() > 1);
    let total = found.len();
    let shown = found.into_values().take(200).map(|(members, same)| {
        let line = |contact: &&Contact| {
            let Contact { id, name, email, phone, company, .. } = contact;
            json!({"id": id, "name": name, "email": email, "phone": phone, "company": company})
        };
        let contacts: Vec<Value> = members.iter().take(MANY).map(line).collect();
        json!({"size": members.len(), "contacts": contacts, "same": same.into_iter().take(MANY).collect::<Vec<_>>()})
    });
    let shown: Vec<Value> = shown.collect();
    json!({"count": shown.len(), "total": total, "groups": shown})
}

/// The one that stands for a group. The way there is shorter the next time.
fn root(groups: &mut [usize], mut at: usize) -> usize {
    while let Some(above) = groups.get(at).copied().filter(|above| *above != at) {
        let higher = groups.get(above).copied().unwrap_or(above);
        if let Some(group) = groups.get_mut(at) {
            *group = higher;
        }
        at = higher;
    }
    at
}

/// A name without what people write differently.
fn folded(name: &str) -> String {
    name.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// The last nine digits of a number: what countries and networks put in front differs.
fn digits(contact: &Contact) -> Option<String> {
    let digits: Vec<char> = contact.phone.iter().flat_map(|phone| phone.chars()).filter(char::is_ascii_digit).collect();
    (digits.len() >= 7).then(|| digits.get(digits.len().saturating_sub(9)..).unwrap_or_default().iter().collect())
}

fn one_of(words: &[&str], text: &str) -> Option<String> {
    words.iter().find(|word| word.eq_ignore_ascii_case(text.trim())).map(|word| (*word).to_owned())
}

fn day(text: &str) -> Option<String> {
    text.trim().get(..10).and_then(|day| day.parse::<jiff::civil::Date>().ok()).map(|day| day.to_string())
}

fn some(text: &str) -> Option<String> {
    Some(clean(text)).filter(|text| !text.is_empty())
}

/// Without characters that no field holds.
fn clean(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> Contact {
        Contact {
            id: 7,
            name: "Ada, Countess; of \"Lovelace\" \\ Ünïcode".into(),
            email: Some("ada@example.com".into()),
            phone: Some("+44 20 7946 0958".into()),
            company: Some("Engines; Ltd".into()),
            notes: Some("first line\nsecond, with a very long text that has to be folded because it is longer than a line: äöüß".into()),
            label: Some("@ada".into()),
            relationship_type: "close".into(),
            state: Some("ping".into()),
            contacted_at: Some("2026-01-31".into()),
            ..Contact::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut formula = ada();
        formula.name = "=1+1".into();
        formula.phone = None;
        for format in FORMATS {
            let text = write(format, &[ada(), formula.clone()]).unwrap();
            assert!(format == "csv" || text.lines().all(|line| line.len() <= 75), "{text}");
            let read = read(format, &text).unwrap();
            assert!(read.wrong.is_empty());
            for (came, went) in read.contacts.iter().zip([ada(), formula.clone()]) {
                let fields = |c: &Contact| {
                    (c.name.clone(), c.email.clone(), c.phone.clone(), c.company.clone(), c.notes.clone(), c.label.clone(), c.state.clone())
                };
                assert_eq!(fields(came), fields(&went), "{format}: {text}");
                assert_eq!((&came.relationship_type, &came.contacted_at), (&went.relationship_type, &went.contacted_at));
            }
        }
        assert!(write("csv", &[formula]).unwrap().contains(",'=1+1,"));
    }

    #[test]
    fn cards_of_phones_are_read() {
        let text = "BEGIN:VCARD\r\nVERSION:2.1\r\nN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BCller;J=C3=\r\n=BCrgen;;Dr.;\r\n\
            TEL;CELL;PREF:0171 1234567\r\nEND:VCARD\r\n\
            begin:vcard\r\nversion:4.0\r\nitem1.EMAIL;TYPE=\"a:b\":mailto:x@example.com\r\nORG:A\\;B;Dept\r\nFN:X\r\n  Y\r\nend:vcard\r\n";
        let read = read("vcard", text).unwrap();
        let [one, two] = &read.contacts[..] else { panic!("{read:?}") };
        assert_eq!((one.name.as_str(), one.phone.as_deref()), ("Dr. Jürgen Müller", Some("0171 1234567")));
        assert_eq!((two.name.as_str(), two.email.as_deref(), two.company.as_deref()), ("X Y", Some("x@example.com"), Some("A;B")));
    }

    #[test]
    fn a_file_that_is_made_to_take_long_does_not() {
        let begun = std::time::Instant::now();
        let lines = "aaaa=\n".repeat(MOST_BYTES / 6 - 20);
        let read = read("vcard", &format!("BEGIN:VCARD\nFN:x\nNOTE;QUOTED-PRINTABLE:{lines}\nEND:VCARD\n")).unwrap();
        assert_eq!((read.contacts.len(), read.wrong.len()), (0, 1), "its notes are too long");
        // A chain, each of which is the same as the next in one way and the one before in another.
        let sign = |n: usize| Some(format!("{n}@x.org"));
        let mut all: Vec<Contact> = (0..20_000).map(|n| Contact { name: format!("n{n}"), email: sign(n), ..Contact::default() }).collect();
        all.extend((1..20_000).rev().map(|n| Contact { name: format!("n{n}"), email: sign(n - 1), ..Contact::default() }));
        assert_eq!(duplicates(&all)["total"], 1);
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[test]
    fn notes_of_both_stay_as_long_as_there_is_room() {
        let with = |notes: &str| Contact { name: "Ada".into(), notes: Some(notes.into()), ..Contact::default() };
        let mut kept = with("first");
        absorb(&mut kept, with("second")).unwrap();
        absorb(&mut kept, with("first")).unwrap();
        assert_eq!(kept.notes.as_deref(), Some("first\n\nsecond"));
        let told = absorb(&mut kept, with(&"x".repeat(LONG))).unwrap_err().to_string();
        assert!(told.contains("20000") && kept.notes.as_deref() == Some("first\n\nsecond"), "{told}");
    }

    #[test]
    fn tables_of_others_are_read() {
        let google = "Name,Given Name,E-mail 1 - Value,Phone 1 - Value,Organization Name,Notes\nAda,,a@x.org,1234567,,\"a\nb\"\n";
        let outlook = "First Name;Last Name;E-mail Address;Company\nAda;Lovelace;a@x.org;Engines\n;;;\n";
        let one = read("csv", google).unwrap();
        assert_eq!((one.contacts[0].email.as_deref(), one.contacts[0].notes.as_deref()), (Some("a@x.org"), Some("a\nb")));
        let two = read("csv", outlook).unwrap();
        assert_eq!((two.contacts[0].name.as_str(), two.wrong.len()), ("Ada Lovelace", 1));
        for nonsense in ["", "hello", "a,b\n1,2\n"] {
            assert!(read("csv", nonsense).is_err(), "{nonsense}");
            assert!(read("vcard", nonsense).is_err(), "{nonsense}");
        }
        assert!(read("vcard", "BEGIN:VCARD\nFN:x\n").is_err(), "a card without end");
    }

    #[test]
    fn the_same_people_are_found_once() {
        let contact = |id, name: &str, email: Option<&str>, phone: Option<&str>| Contact {
            id,
            name: name.into(),
            email: email.map(str::to_owned),
            phone: phone.map(str::to_owned),
            ..Contact::default()
        };
        let all = [
            contact(1, "Ada  Lovelace", Some("ada@x.org"), None),
            contact(2, "Countess", Some("ADA@x.org"), Some("+44 20 7946 0958")),
            contact(3, "A. L.", None, Some("020 7946 0958")),
            contact(4, "Bob", None, Some("123")),
            contact(5, "Carl", None, Some("123")),
        ];
        let found = duplicates(&all);
        assert_eq!(found["total"], 1, "{found}");
        let ids: Vec<_> = found["groups"][0]["contacts"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, [1, 2, 3]);
    }
}
