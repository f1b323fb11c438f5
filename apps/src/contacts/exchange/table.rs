//! CSV: RFC 4180, with the column names of Google and Outlook as well as ours.
//!
//! Odd: a cell that a spreadsheet would take for a formula begins with an apostrophe, which is taken away again when it is
//! read.

use super::{Contact, RELATIONSHIPS, Read, STATES, Trouble, day, one_of, some};

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

pub(super) fn read(content: &str) -> Result<Read, Trouble> {
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

pub(super) fn write(contacts: &[Contact]) -> Result<String, Trouble> {
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
