//! What can be done with contacts: the names of operations, their arguments, and what they do to the contacts. The tools
//! are these, and so is what REST does.

use serde_json::{Map, Value, json};

use super::arguments::MANY;
use super::exchange;
use super::people::{RELATIONSHIPS, STATES, STYLES};

/// When a tool is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    Basic,
    Full,
    Extra,
}

/// What a tool does to the contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    /// Each call adds something.
    Adds,
    /// The second of two equal calls changes nothing.
    Sets,
    /// What is gone is gone.
    Destroys,
}

/// Something that can be done.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) group: Group,
    pub(super) effect: Effect,
    pub(super) about: &'static str,
    /// Its arguments: the name, what it is, and a sentence. A name that ends in `!` is needed.
    pub(super) arguments: &'static [(&'static str, Kind, &'static str)],
}

/// What an argument is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Id,
    Ids,
    Number,
    /// A number that may be 0.
    Count,
    Day,
    Flag,
    Words(&'static [&'static str]),
}

const ID: (&str, Kind, &str) = ("contact_id!", Kind::Id, "Whose; search_contacts finds it");
const IDS: (&str, Kind, &str) = ("contact_ids!", Kind::Ids, "Whose, up to 500");
const LIMIT: (&str, Kind, &str) = ("limit", Kind::Number, "The most lines, up to 500");
const RELATIONSHIP: Kind = Kind::Words(&RELATIONSHIPS);
const STATE: Kind = Kind::Words(&STATES);
const HOW: (&str, Kind, &str) =
    ("interaction_type", Kind::Text, "How, as email, call, meeting, in-person, text; `other` if nothing is said");
const ONLY: (&str, Kind, &str) = ("relationship_type", RELATIONSHIP, "Only these");

macro_rules! operation {
    ($name:literal, $group:ident, $effect:ident, $about:literal, [$($argument:expr),* $(,)?]) => {
        Operation { name: $name, group: Group::$group, effect: Effect::$effect, about: $about, arguments: &[$($argument),*] }
    };
}

/// All of them.
pub(super) static ALL: [Operation; 30] = [
    operation!(
        "search_contacts",
        Basic,
        Reads,
        "Finds contacts by a part of their name, email, company, notes or label",
        [("query!", Kind::Text, "What to look for; * finds everybody"), ONLY, ("state", STATE, "Only those in this state"), LIMIT,]
    ),
    operation!(
        "add_contact",
        Basic,
        Adds,
        "Adds somebody to the contacts",
        [
            ("name!", Kind::Text, "What they are called"),
            ("email", Kind::Text, "Their address"),
            ("phone", Kind::Text, "Their number"),
            ("company", Kind::Text, "Where they work"),
            ("notes", Kind::Text, "What else is known of them"),
            ("label", Kind::Text, "A short name for logs, as @ada, which nobody else has"),
            ("relationship_type", RELATIONSHIP, "How they are related to the user; network if nothing is said"),
            ("state", STATE, "What is to be done about them"),
        ]
    ),
    operation!(
        "get_contact",
        Basic,
        Reads,
        "Tells all that is known of a contact, with the latest interactions first",
        [ID, ("limit", Kind::Number, "The most interactions; 10 if nothing is said"),]
    ),
    operation!(
        "mark_contacted",
        Basic,
        Adds,
        "Notes that the user was in touch with somebody, and clears what was to be done about them",
        [ID, HOW, ("notes", Kind::Text, "What it was about"), ("date", Kind::Day, "When, as 2026-01-31; today if nothing is said"),]
    ),
    operation!(
        "update_contact_info",
        Full,
        Sets,
        "Changes what is known of a contact; an empty text clears a field",
        [
            ID,
            ("name", Kind::Text, "What they are called"),
            ("email", Kind::Text, "Their address"),
            ("phone", Kind::Text, "Their number"),
            ("company", Kind::Text, "Where they work"),
            ("notes", Kind::Text, "What else is known of them"),
            ("label", Kind::Text, "A short name for logs"),
            ("follow_up_date", Kind::Day, "When to come back to them"),
            ("deadline_date", Kind::Day, "Until when"),
            (
                "contact_style",
                Kind::Words(&STYLES),
                "Whether they want to hear of the user at regular times (periodic), by and by, or on occasion"
            ),
            ("custom_frequency_days", Kind::Count, "After how many days they are overdue; 0 for as many as others of their relationship"),
        ]
    ),
    operation!(
        "set_contact_state",
        Full,
        Sets,
        "Says what is to be done about a contact; without a state, nothing",
        [ID, ("state", STATE, "What is to be done, or was"),]
    ),
    operation!(
        "delete_contact",
        Full,
        Destroys,
        "Removes a contact for good, with all interactions",
        [ID, ("confirm!", Kind::Flag, "Must be true"),]
    ),
    operation!(
        "bulk_mark_contacted",
        Full,
        Adds,
        "Notes that the user was in touch with several contacts; all of them, or none if one is not found",
        [IDS, HOW, ("notes", Kind::Text, "What it was about"), ("date", Kind::Day, "When; today if nothing is said"),]
    ),
    operation!(
        "list_overdue_contacts",
        Full,
        Reads,
        "Lists whom the user has not been in touch with for too long, the longest first",
        [ONLY, LIMIT]
    ),
    operation!("list_active_contacts", Full, Reads, "Lists contacts about whom something is to be done", [LIMIT]),
    operation!("get_contact_stats", Full, Reads, "Counts contacts by relationship and state, and who is overdue", []),
    operation!(
        "report_by_group",
        Full,
        Reads,
        "Tells how it stands with all contacts of a relationship",
        [("relationship_type!", RELATIONSHIP, "Which"),]
    ),
    operation!("suggest_tasks", Full, Reads, "Suggests what to do next: deadlines, follow-ups, what was planned, who is overdue", [LIMIT]),
    operation!(
        "change_contact_group",
        Full,
        Sets,
        "Changes how a contact is related to the user",
        [ID, ("relationship_type!", RELATIONSHIP, "To what"),]
    ),
    operation!(
        "bulk_change_relationship",
        Full,
        Sets,
        "The same for several contacts; all of them, or none if one is not found",
        [IDS, ("relationship_type!", RELATIONSHIP, "To what"),]
    ),
    operation!(
        "analyze_relationships",
        Full,
        Reads,
        "Tells by relationship how often and how lately the user was in touch, and who was forgotten",
        []
    ),
    operation!(
        "add_log",
        Full,
        Adds,
        "Writes down what happened; @labels in it link it to contacts",
        [("content!", Kind::Text, "What happened"),]
    ),
    operation!(
        "list_logs",
        Full,
        Reads,
        "Lists what was written down, the latest first",
        [("contact_id", Kind::Id, "Only about this contact"), ("days", Kind::Number, "Only of the last days"), LIMIT,]
    ),
    operation!(
        "search_logs",
        Full,
        Reads,
        "Finds what was written down by a part of it",
        [("query!", Kind::Text, "What to look for"), LIMIT]
    ),
    operation!("get_contact_logs", Full, Reads, "Lists what was written down about a contact", [ID, LIMIT]),
    operation!(
        "create_contact_note",
        Full,
        Adds,
        "Writes a note about a contact for Basic Memory",
        [ID, ("content", Kind::Text, "What it says below the facts"),]
    ),
    operation!(
        "update_contact_note",
        Full,
        Sets,
        "Writes the note about a contact anew; without content, its facts only",
        [ID, ("content", Kind::Text, "What it says below the facts from now on"),]
    ),
    operation!(
        "link_contact_note",
        Full,
        Sets,
        "Says which note of Basic Memory is about a contact",
        [ID, ("url!", Kind::Text, "As memory://people/ada"),]
    ),
    operation!("get_contact_note_url", Full, Reads, "Tells which note is about a contact", [ID]),
    operation!(
        "import_contacts",
        Extra,
        Adds,
        "Adds the contacts of a vCard or CSV file; who is there already is left as they are",
        [
            ("format!", Kind::Words(&exchange::FORMATS), "Of what kind it is"),
            ("content!", Kind::Text, "The file itself"),
            (
                "on_duplicate",
                Kind::Words(&exchange::DUPLICATES),
                "What becomes of who is there already: skip, update what is empty, or add again"
            ),
            ("dry_run", Kind::Flag, "Tells what would be done, and does nothing"),
        ]
    ),
    operation!(
        "export_contacts",
        Extra,
        Reads,
        "Writes all contacts as vCard or CSV",
        [("format!", Kind::Words(&exchange::FORMATS), "Of what kind"), ONLY,]
    ),
    operation!("find_duplicates", Extra, Reads, "Finds contacts that share an email, a phone number or a name", []),
    operation!(
        "merge_contacts",
        Extra,
        Destroys,
        "Makes one contact of several: what the first lacks comes from the others, which are removed",
        [("contact_id!", Kind::Id, "Who stays"), ("contact_ids!", Kind::Ids, "Who is the same"), ("confirm!", Kind::Flag, "Must be true"),]
    ),
    operation!(
        "archive_contact",
        Extra,
        Sets,
        "Puts a contact away, or takes it out again: who is archived is never overdue",
        [ID, ("archived", Kind::Flag, "false takes it out again"),]
    ),
    operation!("bump_contact", Extra, Adds, "Puts a contact off without being in touch: counts as today for who is overdue", [ID]),
];

/// The operation of that name.
pub(super) fn find(name: &str) -> Option<&'static Operation> {
    ALL.iter().find(|operation| operation.name == name)
}

impl Operation {
    /// The schema of its arguments.
    pub(super) fn schema(&self) -> Map<String, Value> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (name, kind, about) in self.arguments {
            let mut schema = match kind {
                Kind::Text => json!({"type": "string"}),
                Kind::Id | Kind::Number => json!({"type": "integer", "minimum": 1}),
                Kind::Count => json!({"type": "integer", "minimum": 0}),
                Kind::Ids => json!({"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": MANY}),
                Kind::Day => json!({"type": "string", "format": "date"}),
                Kind::Flag => json!({"type": "boolean"}),
                Kind::Words(words) => json!({"type": "string", "enum": words}),
            };
            if let Some(fields) = schema.as_object_mut() {
                fields.insert("description".into(), (*about).into());
            }
            let plain = name.trim_end_matches('!');
            if plain != *name {
                required.push(Value::from(plain));
            }
            properties.insert(plain.into(), schema);
        }
        let mut schema = Map::new();
        schema.insert("type".into(), "object".into());
        schema.insert("properties".into(), properties.into());
        if !required.is_empty() {
            schema.insert("required".into(), required.into());
        }
        schema
    }
}
