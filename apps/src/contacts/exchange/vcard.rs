//! vCard: RFC 6350, and what phones write of 2.1 and 3.0.
//!
//! Odd: what vCard has no property for is in properties of ours, `X-CONTACTS-…`.

use super::{Contact, RELATIONSHIPS, Read, STATES, Trouble, clean, day, one_of, some};

pub(super) fn read(content: &str) -> Result<Read, Trouble> {
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
pub(super) fn write(contact: &Contact) -> String {
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
