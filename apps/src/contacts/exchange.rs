//! Contacts from and to other programs: vCard (RFC 6350, and what phones write of 2.1 and 3.0) and CSV (RFC 4180, with the
//! column names of Google and Outlook as well as ours). And who is there twice.
//!
//! Odd: what vCard has no property for is in properties of ours, `X-CONTACTS-…`; in CSV, a cell that a spreadsheet would
//! take for a formula begins with an apostrophe, which is taken away again when it is read.

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
    let read = if format == "csv" { read_csv(content)? } else { read_vcards(content)? };
    if read.contacts.is_empty() && read.wrong.is_empty() {
        return Err(Trouble::Bad(format!("there are no contacts in this file; is it {format}?")));
    }
    Ok(read)
}

/// Writes a file.
pub(super) fn write(format: &str, contacts: &[Contact]) -> Result<String, Trouble> {
    if format == "csv" { write_csv(contacts) } else { Ok(contacts.iter().map(vcard).collect()) }
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

// --- vCard ---------------------------------------------------------------------------------------

fn read_vcards(content: &str) -> Result<Read, Trouble> {
    let mut read = Read::default();
    let (mut card, mut number): (Option<Contact>, usize) = (None, 0);
    for line in unfolded(content) {
        let Some((head, value)) = split_property(&line) else { continue };
        let mut parts = head.split(';');
        let name = parts.next().unwrap_or_default();
        // `item1.EMAIL` is one of a group.
        let name = name.rsplit('.').next().unwrap_or_default().to_ascii_uppercase();
        let is_quoted_printable = parts.any(|part| part.to_ascii_uppercase().ends_with("QUOTED-PRINTABLE"));
        let value = if is_quoted_printable { unquoted_printable(value) } else { value.to_owned() };
        match (name.as_str(), &mut card) {
            ("BEGIN", None) if value.trim().eq_ignore_ascii_case("VCARD") => {
                number += 1;
                card = Some(Contact { source: Some("vcard".into()), relationship_type: "network".into(), ..Contact::default() });
            }
            ("END", Some(_)) => {
                if let Some(done) = card.take() {
                    read.take(number, done)?;
                }
            }
            (name, Some(card)) => property(card, name, &value),
            _ => {}
        }
    }
    if card.is_some() {
        return Err(Trouble::Bad(format!("the file ends within contact number {number}")));
    }
    Ok(read)
}

fn property(card: &mut Contact, name: &str, value: &str) {
    let first = |field: &mut Option<String>, value: &str| {
        if field.is_none() {
            *field = some(&unescaped(value));
        }
    };
    match name {
        "FN" => card.name = clean(&unescaped(value)).replace('\n', " "),
        "N" if card.name.is_empty() => {
            let parts = split_unescaped(value, ';');
            let order = [3, 1, 2, 0, 4];
            let words: Vec<String> = order.iter().filter_map(|at| some(&unescaped(parts.get(*at)?))).collect();
            card.name = words.join(" ");
        }
        "EMAIL" => first(&mut card.email, value.trim_start_matches("mailto:")),
        "TEL" => first(&mut card.phone, value.trim_start_matches("tel:")),
        "ORG" => first(&mut card.company, split_unescaped(value, ';').first().copied().unwrap_or_default()),
        "NOTE" => first(&mut card.notes, value),
        "UID" => first(&mut card.external_id, value),
        "NICKNAME" if card.label.is_none() && value.starts_with('@') => first(&mut card.label, value),
        "X-CONTACTS-LABEL" => card.label = some(&unescaped(value)),
        "X-CONTACTS-RELATIONSHIP" => card.relationship_type = one_of(&RELATIONSHIPS, value).unwrap_or_else(|| "network".into()),
        "X-CONTACTS-STATE" => card.state = one_of(&STATES, value),
        "X-CONTACTS-CONTACTED" => card.contacted_at = day(value),
        _ => {}
    }
}

/// Lines without the breaks that were put into them (RFC 6350 §3.2), also as quoted-printable does it.
fn unfolded(content: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut is_quoted_printable = false;
    for line in content.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => last.push_str(line.get(1..).unwrap_or_default()),
            Some(last) if is_quoted_printable && last.ends_with('=') => {
                last.pop();
                last.push_str(line);
            }
            _ => {
                // Looked for once, and not in all that is put behind it.
                is_quoted_printable = line.to_ascii_uppercase().contains("QUOTED-PRINTABLE");
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

/// Before and behind the first colon that is not within quotes.
fn split_property(line: &str) -> Option<(&str, &str)> {
    let mut is_quoted = false;
    let at = line.char_indices().find(|(_, c)| {
        is_quoted ^= *c == '"';
        *c == ':' && !is_quoted
    });
    let (at, _) = at?;
    Some((line.get(..at)?, line.get(at + 1..)?))
}

fn split_unescaped(value: &str, by: char) -> Vec<&str> {
    let (mut parts, mut begin, mut is_escaped) = (Vec::new(), 0, false);
    for (at, c) in value.char_indices() {
        if c == by && !is_escaped {
            parts.push(value.get(begin..at).unwrap_or_default());
            begin = at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    parts.push(value.get(begin..).unwrap_or_default());
    parts
}

fn unescaped(value: &str) -> String {
    let (mut out, mut chars) = (String::new(), value.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n' | 'N') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

fn unquoted_printable(value: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((byte, more)) = rest.split_first() {
        let hex = more.get(..2).filter(|_| *byte == b'=').and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(hex.unwrap_or(*byte));
        rest = if hex.is_some() { more.get(2..).unwrap_or_default() } else { more };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// One card, of version 3.0, which everybody reads.
fn vcard(contact: &Contact) -> String {
    let mut out = String::from("BEGIN:VCARD\r\nVERSION:3.0\r\n");
    let fields = [
        // An id of ours would be somebody else's elsewhere.
        ("UID", contact.external_id.as_ref()),
        ("FN", Some(&contact.name)),
        ("EMAIL", contact.email.as_ref()),
        ("TEL", contact.phone.as_ref()),
        ("ORG", contact.company.as_ref()),
        ("NOTE", contact.notes.as_ref()),
        ("X-CONTACTS-LABEL", contact.label.as_ref()),
        ("X-CONTACTS-RELATIONSHIP", Some(&contact.relationship_type)),
        ("X-CONTACTS-STATE", contact.state.as_ref()),
        ("X-CONTACTS-CONTACTED", contact.contacted_at.as_ref()),
    ];
    for (name, value) in fields {
        let Some(value) = value else { continue };
        push_folded(&mut out, &format!("{name}:{}", escaped(value)));
        if name == "FN" {
            // Version 3.0 wants both. Which part of a name is which, nobody has told.
            push_folded(&mut out, &format!("N:;{};;;", escaped(value)));
        }
    }
    out.push_str("END:VCARD\r\n");
    out
}

fn escaped(value: &str) -> String {
    let value = value.replace("\r\n", "\n").replace('\r', "\n");
    value.replace('\\', "\\\\").replace(',', "\\,").replace(';', "\\;").replace('\n', "\\n")
}

/// In lines of at most 75 bytes.
fn push_folded(out: &mut String, line: &str) {
    let mut width = 0;
    for c in line.chars() {
        if width + c.len_utf8() > 75 {
            out.push_str("\r\n ");
            width = 1;
        }
        out.push(c);
        width += c.len_utf8();
    }
    out.push_str("\r\n");
}

// --- CSV -----------------------------------------------------------------------------------------

/// The columns that we write.
const COLUMNS: [&str; 14] = [
    "id",
    "external_id",
    "name",
    "email",
    "phone",
    "company",
    "label",
    "relationship_type",
    "state",
    "contacted_at",
    "follow_up_date",
    "deadline_date",
    "archived",
    "notes",
];

/// What a column is called elsewhere.
fn column(title: &str) -> Option<&'static str> {
    let title = title.trim().to_lowercase().replace(['_', '-'], " ");
    Some(match title.split_whitespace().collect::<Vec<_>>().join(" ").as_str() {
        "external id" | "uid" => "external_id",
        "name" | "full name" | "display name" | "file as" => "name",
        "first name" | "given name" => "first",
        "middle name" | "additional name" => "middle",
        "last name" | "family name" | "surname" => "last",
        "email" | "e mail" | "email address" | "e mail address" | "e mail 1 value" | "email 1 value" | "primary email" => "email",
        "phone" | "phone number" | "telephone" | "mobile" | "mobile phone" | "phone 1 value" | "primary phone" | "home phone"
        | "business phone" => "phone",
        "company" | "organization" | "organisation" | "organization name" | "organization 1 name" => "company",
        "label" => "label",
        "relationship type" | "relationship" => "relationship_type",
        "state" => "state",
        "contacted at" | "last contact" | "last contacted" => "contacted_at",
        "follow up date" => "follow_up_date",
        "deadline date" => "deadline_date",
        "notes" | "note" => "notes",
        _ => return None,
    })
}

fn read_csv(content: &str) -> Result<Read, Trouble> {
    // Where a comma is a decimal point, programs write semicolons.
    let head = content.lines().next().unwrap_or_default();
    let delimiter = if head.contains(';') && !head.contains(',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(content.as_bytes());
    let bad = |e: csv::Error| Trouble::Bad(format!("this is no CSV: {e}"));
    let columns: Vec<Option<&str>> = reader.headers().map_err(bad)?.iter().map(column).collect();
    if !columns.iter().flatten().any(|known| matches!(*known, "name" | "first" | "last" | "email" | "company")) {
        return Err(Trouble::Bad("the first line names no column of names; call one `name`, or `first name` and `last name`".into()));
    }
    let mut read = Read::default();
    for (number, record) in reader.records().enumerate() {
        let record = record.map_err(bad)?;
        let mut contact = Contact { source: Some("csv".into()), relationship_type: "network".into(), ..Contact::default() };
        let (mut first, mut middle, mut last) = (None, None, None);
        for (known, cell) in columns.iter().zip(record.iter()) {
            let (Some(known), Some(cell)) = (known, some(plain_cell(cell))) else { continue };
            let field = match *known {
                "name" => {
                    contact.name = cell;
                    continue;
                }
                "relationship_type" => {
                    contact.relationship_type = one_of(&RELATIONSHIPS, &cell).unwrap_or_else(|| "network".into());
                    continue;
                }
                "state" => {
                    contact.state = one_of(&STATES, &cell);
                    continue;
                }
                "contacted_at" => {
                    contact.contacted_at = day(&cell);
                    continue;
                }
                "follow_up_date" => {
                    contact.follow_up_date = day(&cell);
                    continue;
                }
                "deadline_date" => {
                    contact.deadline_date = day(&cell);
                    continue;
                }
                "first" => &mut first,
                "middle" => &mut middle,
                "last" => &mut last,
                "email" => &mut contact.email,
                "phone" => &mut contact.phone,
                "company" => &mut contact.company,
                "label" => &mut contact.label,
                "notes" => &mut contact.notes,
                _ => &mut contact.external_id,
            };
            // Of several addresses the first counts.
            field.get_or_insert(cell);
        }
        if contact.name.is_empty() {
            contact.name = [first, middle, last].into_iter().flatten().collect::<Vec<_>>().join(" ");
        }
        read.take(number + 1, contact)?;
    }
    Ok(read)
}

fn write_csv(contacts: &[Contact]) -> Result<String, Trouble> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let failed = |e: &dyn std::fmt::Display| {
        tracing::error!(error = %e, "contacts cannot be written as CSV");
        Trouble::Failed
    };
    writer.write_record(COLUMNS).map_err(|e| failed(&e))?;
    for contact in contacts {
        let id = contact.id.to_string();
        let cell = |field: &Option<String>| safe_cell(field.as_deref().unwrap_or_default());
        let cells = [
            id,
            cell(&contact.external_id),
            safe_cell(&contact.name),
            cell(&contact.email),
            cell(&contact.phone),
            cell(&contact.company),
            cell(&contact.label),
            contact.relationship_type.clone(),
            cell(&contact.state),
            cell(&contact.contacted_at),
            cell(&contact.follow_up_date),
            cell(&contact.deadline_date),
            contact.archived.to_string(),
            cell(&contact.notes),
        ];
        writer.write_record(cells).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}

/// A cell that no spreadsheet takes for a formula; numbers of telephones are none. One that looks as if it had been made
/// safe already gets one apostrophe more, so that all of them come back as they were.
fn safe_cell(text: &str) -> String {
    let is_number = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | ' ' | '(' | ')' | '-' | '/' | '.'));
    if is_formula(text) && !is_number { format!("'{text}") } else { text.to_owned() }
}

fn plain_cell(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|rest| is_formula(rest)).unwrap_or(cell)
}

fn is_formula(text: &str) -> bool {
    text.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r'])
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
