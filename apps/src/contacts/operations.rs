//! Everything that can be done with contacts, by name: the tools are these, and so is what REST does.
//!
//! Each one reads its arguments, makes one transaction at most, and answers JSON.

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::arguments::{Arguments, LONG, MANY, SHORT, Trouble};
use super::exchange;
use super::notes::Notes;
use super::people::{Contact, RELATIONSHIPS, STATES, STYLES};
use super::rules::{Rules, today};
use super::store::{self, Change, Only, Store, Which};

/// All there is to work with.
#[derive(Debug)]
pub(super) struct Contacts {
    pub(super) store: Store,
    pub(super) rules: Rules,
    pub(super) notes: Option<Notes>,
}

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

impl Contacts {
    /// Does it.
    pub(super) async fn run(&self, operation: &Operation, arguments: Map<String, Value>) -> Result<Value, Trouble> {
        let known: Vec<&str> = operation.arguments.iter().map(|(name, ..)| name.trim_end_matches('!')).collect();
        let given = Arguments::new(arguments, &known)?;
        match operation.name {
            "search_contacts" => self.search(&given).await,
            "add_contact" => self.add(&given).await,
            "get_contact" => self.tell(given.id("contact_id")?, given.limit(10)?).await,
            "mark_contacted" => self.mark(&[given.id("contact_id")?], &given).await.map(|mut marked| marked.swap_remove(0)),
            "update_contact_info" => self.update(&given).await,
            "set_contact_state" => {
                let state = given.word("state", &STATES)?;
                self.alter(given.id("contact_id")?, |contact| contact.state = state.map(str::to_owned)).await
            }
            "delete_contact" => self.delete(&given).await,
            "bulk_mark_contacted" => {
                let marked = self.mark(&given.ids("contact_ids")?, &given).await?;
                Ok(json!({"count": marked.len(), "contacts": marked.iter().map(|one| &one["contact"]).collect::<Vec<_>>()}))
            }
            "list_overdue_contacts" => {
                let relationship = given.word("relationship_type", &RELATIONSHIPS)?;
                self.listed(Which { relationship, only: Only::Overdue, ..Which::default() }, given.limit(MANY)?).await
            }
            "list_active_contacts" => self.listed(Which { only: Only::Open, ..Which::default() }, given.limit(MANY)?).await,
            "get_contact_stats" => self.stats().await,
            "report_by_group" => self.report(&given).await,
            "suggest_tasks" => self.suggest(given.limit(10)?).await,
            "change_contact_group" => {
                let to = needed_relationship(&given)?;
                self.alter(given.id("contact_id")?, |contact| contact.relationship_type = to.into()).await
            }
            "bulk_change_relationship" => self.regroup(&given).await,
            "analyze_relationships" => self.analyze().await,
            "add_log" => self.log(&given).await,
            "list_logs" => {
                let of = given.number("contact_id", i64::MAX)?;
                self.logs(of, given.number("days", 36_500)?, "", given.limit(20)?).await
            }
            "search_logs" => self.logs(None, None, &given.needed_text("query", SHORT)?, given.limit(20)?).await,
            "get_contact_logs" => self.logs(Some(given.id("contact_id")?), None, "", given.limit(20)?).await,
            "create_contact_note" | "update_contact_note" | "link_contact_note" | "get_contact_note_url" => {
                self.note(operation.name, &given).await
            }
            "import_contacts" => self.import(&given).await,
            "export_contacts" => self.export(&given).await,
            "find_duplicates" => {
                let mut connection = self.store.read().await?;
                Ok(exchange::duplicates(&store::all(&mut connection, None).await?))
            }
            "merge_contacts" => self.merge(&given).await,
            "archive_contact" => {
                let archived = given.flag("archived")?.unwrap_or(true);
                self.alter(given.id("contact_id")?, |contact| contact.archived = archived).await
            }
            "bump_contact" => self.bump(given.id("contact_id")?).await,
            other => Err(Trouble::Missing(format!("nothing is called {other:?}"))),
        }
    }

    // --- one of them -------------------------------------------------------------------------------

    async fn search(&self, given: &Arguments) -> Result<Value, Trouble> {
        if !given.has("query") {
            return Err(Trouble::Bad("`query` is missing".into()));
        }
        let query = given.text("query", SHORT)?.filter(|query| query != "*").unwrap_or_default();
        let (relationship, state) = (given.word("relationship_type", &RELATIONSHIPS)?, given.word("state", &STATES)?);
        self.listed(Which { text: &query, relationship, state, only: Only::Everybody }, given.limit(20)?).await
    }

    /// A list, and how long it would be without its limit.
    async fn listed(&self, which: Which<'_>, limit: usize) -> Result<Value, Trouble> {
        let mut connection = self.store.read().await?;
        let (total, shown) = store::list(&mut connection, which, limit).await?;
        let shown: Vec<Value> = shown.iter().map(Contact::line).collect();
        Ok(json!({"count": shown.len(), "total": total, "contacts": shown}))
    }

    async fn add(&self, given: &Arguments) -> Result<Value, Trouble> {
        let contact = Contact {
            name: given.needed_text("name", SHORT)?,
            email: given.text("email", SHORT)?,
            phone: given.text("phone", SHORT)?,
            company: given.text("company", SHORT)?,
            notes: given.text("notes", LONG)?,
            label: given.label()?,
            relationship_type: given.word("relationship_type", &RELATIONSHIPS)?.unwrap_or("network").into(),
            state: given.word("state", &STATES)?.map(str::to_owned),
            ..Contact::default()
        };
        let mut change = self.store.change().await?;
        let id = store::insert(&mut change, &contact).await?;
        self.done(change, id).await
    }

    async fn tell(&self, id: i64, limit: usize) -> Result<Value, Trouble> {
        let mut connection = self.store.read().await?;
        let contact = store::contact(&mut connection, id).await?;
        let interactions = store::interactions(&mut connection, id, limit).await?;
        let mut told = contact.whole();
        if let Some(fields) = told.as_object_mut() {
            fields.insert("interactions".into(), interactions.into());
        }
        Ok(told)
    }

    async fn mark(&self, ids: &[i64], given: &Arguments) -> Result<Vec<Value>, Trouble> {
        let kind = given.text("interaction_type", SHORT)?.unwrap_or_else(|| "other".into());
        let notes = given.text("notes", LONG)?;
        let date = given.day("date")?.unwrap_or_else(today);
        let day = date.to_string();
        let mut change = self.store.change().await?;
        let mut marked = Vec::new();
        for id in ids {
            let mut contact = store::contact(&mut change, *id).await?;
            let interaction = store::interact(&mut change, *id, &kind, &day, notes.as_deref()).await?;
            // What is told of an earlier day does not undo what is known of a later one.
            let known = contact.contacted_at.as_deref().and_then(|known| known.parse::<Date>().ok());
            if known.is_none_or(|known| known < date) {
                contact.contacted_at = Some(day.clone());
            }
            contact.state = None;
            store::rewrite(&mut change, &contact).await?;
            let contact = store::contact(&mut change, *id).await?;
            marked.push(json!({"interaction_id": interaction, "contact": contact.whole()}));
        }
        change.commit().await?;
        Ok(marked)
    }

    async fn update(&self, given: &Arguments) -> Result<Value, Trouble> {
        let id = given.id("contact_id")?;
        let mut change = self.store.change().await?;
        let mut contact = store::contact(&mut change, id).await?;
        if given.has("name") {
            contact.name = given.needed_text("name", SHORT)?;
        }
        let fields = [
            ("email", &mut contact.email, SHORT),
            ("phone", &mut contact.phone, SHORT),
            ("company", &mut contact.company, SHORT),
            ("notes", &mut contact.notes, LONG),
        ];
        for (name, field, most) in fields {
            if given.has(name) {
                *field = given.text(name, most)?;
            }
        }
        if given.has("label") {
            contact.label = given.label()?;
            store::check_label(&mut change, contact.label.as_deref(), Some(id)).await?;
        }
        for (name, field) in [("follow_up_date", &mut contact.follow_up_date), ("deadline_date", &mut contact.deadline_date)] {
            if given.has(name) {
                *field = given.day(name)?.map(|day| day.to_string());
            }
        }
        if let Some(style) = given.word("contact_style", &STYLES)? {
            contact.contact_style = style.into();
        }
        if let Some(days) = given.count("custom_frequency_days", 36_500)? {
            contact.custom_frequency_days = Some(days).filter(|days| *days > 0);
        }
        store::rewrite(&mut change, &contact).await?;
        self.done(change, id).await
    }

    /// Changes one contact.
    async fn alter(&self, id: i64, how: impl FnOnce(&mut Contact)) -> Result<Value, Trouble> {
        let mut change = self.store.change().await?;
        let mut contact = store::contact(&mut change, id).await?;
        how(&mut contact);
        store::rewrite(&mut change, &contact).await?;
        self.done(change, id).await
    }

    /// The change is made; how the contact is now.
    async fn done(&self, mut change: Change, id: i64) -> Result<Value, Trouble> {
        let contact = store::contact(&mut change, id).await?;
        change.commit().await?;
        Ok(contact.whole())
    }

    async fn delete(&self, given: &Arguments) -> Result<Value, Trouble> {
        let id = given.id("contact_id")?;
        confirmed(given)?;
        let mut change = self.store.change().await?;
        let contact = store::contact(&mut change, id).await?;
        store::delete(&mut change, id).await?;
        change.commit().await?;
        Ok(json!({"deleted": id, "name": contact.name}))
    }

    async fn bump(&self, id: i64) -> Result<Value, Trouble> {
        let mut change = self.store.change().await?;
        let mut contact = store::contact(&mut change, id).await?;
        let day = today().to_string();
        store::interact(&mut change, id, "bump", &day, None).await?;
        contact.last_bump_date = Some(day);
        contact.bump_count = contact.bump_count.saturating_add(1);
        store::rewrite(&mut change, &contact).await?;
        self.done(change, id).await
    }

    // --- many of them ------------------------------------------------------------------------------

    async fn regroup(&self, given: &Arguments) -> Result<Value, Trouble> {
        let (ids, to) = (given.ids("contact_ids")?, needed_relationship(given)?);
        let mut change = self.store.change().await?;
        for id in &ids {
            let mut contact = store::contact(&mut change, *id).await?;
            contact.relationship_type = to.into();
            store::rewrite(&mut change, &contact).await?;
        }
        change.commit().await?;
        Ok(json!({"count": ids.len(), "contact_ids": ids, "relationship_type": to}))
    }

    async fn stats(&self) -> Result<Value, Trouble> {
        const COUNTS: [(&str, &str); 7] = [
            ("total", "count(*)"),
            ("archived", "sum(archived)"),
            ("active", "sum(is_open AND NOT archived)"),
            ("overdue", "sum(overdue)"),
            ("never_contacted", "sum(contacted_at IS NULL)"),
            ("contacted_last_7_days", "sum(silent_days <= 7)"),
            ("contacted_last_30_days", "sum(silent_days <= 30)"),
        ];
        let mut connection = self.store.read().await?;
        let mut told = store::counts(&mut connection, &COUNTS, "true", None).await?;
        for (name, column, words) in [("by_relationship", "relationship_type", &RELATIONSHIPS[..]), ("by_state", "state", &STATES)] {
            told.insert(name.into(), store::counts_by(&mut connection, column, words).await?.into());
        }
        let days: Map<String, Value> = self.rules.all().map(|(word, days)| (word.to_owned(), days.into())).collect();
        told.insert("overdue_after_days".into(), days.into());
        Ok(told.into())
    }

    async fn report(&self, given: &Arguments) -> Result<Value, Trouble> {
        const COUNTS: [(&str, &str); 4] = [
            ("total", "count(*)"),
            ("overdue", "sum(overdue)"),
            ("active", "sum(is_open)"),
            ("never_contacted", "sum(contacted_at IS NULL)"),
        ];
        let group = needed_relationship(given)?;
        let mut connection = self.store.read().await?;
        let mut told = store::counts(&mut connection, &COUNTS, "NOT archived", Some(group)).await?;
        let which = Which { relationship: Some(group), only: Only::Around, ..Which::default() };
        let (_, shown) = store::list(&mut connection, which, MANY).await?;
        told.insert("relationship_type".into(), group.into());
        told.insert("contacts".into(), shown.iter().map(Contact::line).collect::<Vec<_>>().into());
        Ok(told.into())
    }

    async fn suggest(&self, limit: usize) -> Result<Value, Trouble> {
        let mut connection = self.store.read().await?;
        let (total, urgent) = store::list(&mut connection, Which { only: Only::Urgent, ..Which::default() }, limit).await?;
        let shown: Vec<Value> = urgent
            .iter()
            .map(|contact| {
                let known = |text: &Option<String>| text.clone().unwrap_or_default();
                let why = match contact.urgency {
                    Some(0) => format!("the deadline is {}", known(&contact.deadline_date)),
                    Some(1) => format!("to be followed up since {}", known(&contact.follow_up_date)),
                    Some(2) => format!("the state is {}", known(&contact.state)),
                    _ => contact.overdue_days.map_or("never contacted".to_owned(), |days| format!("overdue for {days} days")),
                };
                let todo = match contact.state.as_deref() {
                    Some("invite") => "invite",
                    Some("write") => "write to",
                    Some("followup") => "follow up with",
                    Some("sked") => "find a time with",
                    Some("scheduled") => "meet",
                    Some("notes") => "write up notes about",
                    _ => "get in touch with",
                };
                json!({"task": format!("{todo} {}", contact.name), "why": why, "contact": contact.line()})
            })
            .collect();
        Ok(json!({"count": shown.len(), "total": total, "tasks": shown}))
    }

    async fn analyze(&self) -> Result<Value, Trouble> {
        const COUNTS: [(&str, &str); 4] =
            [("contacts", "count(*)"), ("overdue", "sum(overdue)"), ("met", "count(silent_days)"), ("silent", "sum(silent_days)")];
        let mut connection = self.store.read().await?;
        let query = "SELECT p.relationship_type, count(*), coalesce(sum(i.interaction_date >= date('now', '-90 days')), 0)
            FROM contact_interactions i JOIN people p ON p.id = i.contact_id GROUP BY 1";
        let interactions = sqlx::query_as::<_, (String, i64, i64)>(query).fetch_all(&mut *connection).await?;
        let mut groups = Vec::new();
        for word in RELATIONSHIPS {
            let counts = store::counts(&mut connection, &COUNTS, "NOT archived", Some(word)).await?;
            let [n, late, met, silent] = COUNTS.map(|(name, _)| counts.get(name).and_then(Value::as_i64).unwrap_or_default());
            let (ever, lately) = interactions.iter().find(|(of, ..)| of == word).map_or((0, 0), |(_, ever, lately)| (*ever, *lately));
            groups.push(json!({
                "relationship_type": word,
                "contacts": n,
                "overdue": late,
                "in_time_percent": (n > 0).then(|| 100 * (n - late) / n),
                "interactions": ever,
                "interactions_last_90_days": lately,
                "average_days_since_contact": (met > 0).then(|| silent / met),
            }));
        }
        let (_, forgotten) = store::list(&mut connection, Which { only: Only::Overdue, ..Which::default() }, 5).await?;
        let (total, _) = store::list(&mut connection, Which::default(), 0).await?;
        Ok(json!({"total": total, "groups": groups, "most_neglected": forgotten.iter().map(Contact::line).collect::<Vec<_>>()}))
    }

    // --- logs and notes ----------------------------------------------------------------------------

    async fn log(&self, given: &Arguments) -> Result<Value, Trouble> {
        let content = given.needed_text("content", LONG)?;
        let mut change = self.store.change().await?;
        let (id, linked, unknown) = store::log(&mut change, &content).await?;
        change.commit().await?;
        Ok(json!({"id": id, "content": content, "contact_ids": linked, "unknown_labels": unknown}))
    }

    async fn logs(&self, of: Option<i64>, days: Option<i64>, text: &str, limit: usize) -> Result<Value, Trouble> {
        let mut connection = self.store.read().await?;
        if let Some(id) = of {
            store::contact(&mut connection, id).await?;
        }
        let logs = store::logs(&mut connection, of, days, text, limit).await?;
        Ok(json!({"count": logs.len(), "logs": logs}))
    }

    async fn note(&self, what: &str, given: &Arguments) -> Result<Value, Trouble> {
        let notes = self.notes.as_ref().ok_or_else(|| {
            Trouble::Unconfigured("there are no notes here; the operator can have them with BASIC_MEMORY_ENABLED=true".into())
        })?;
        let id = given.id("contact_id")?;
        if what == "get_contact_note_url" {
            let contact = store::contact(&mut *self.store.read().await?, id).await?;
            let url = contact.basic_memory_url.ok_or_else(|| Trouble::Missing(format!("contact {id} has no note yet")))?;
            return Ok(json!({"contact_id": id, "url": url}));
        }
        let mut change = self.store.change().await?;
        let mut contact = store::contact(&mut change, id).await?;
        let url = match what {
            "create_contact_note" => notes.create(&contact, given.text("content", LONG)?)?,
            "update_contact_note" => notes.update(&contact, given.text("content", LONG)?)?,
            _ => Notes::check(given.needed_text("url", SHORT)?)?,
        };
        contact.basic_memory_url = Some(url.clone());
        store::rewrite(&mut change, &contact).await?;
        change.commit().await?;
        Ok(json!({"contact_id": id, "url": url}))
    }

    // --- from and to elsewhere ---------------------------------------------------------------------

    async fn import(&self, given: &Arguments) -> Result<Value, Trouble> {
        let format = given.word("format", &exchange::FORMATS)?.ok_or_else(|| Trouble::Bad("`format` is missing".into()))?;
        let content = given.file("content", exchange::MOST_BYTES)?;
        let on_duplicate = given.word("on_duplicate", &exchange::DUPLICATES)?.unwrap_or("skip");
        let is_rehearsal = given.flag("dry_run")?.unwrap_or(false);
        let read = exchange::read(format, content)?;
        let mut change = self.store.change().await?;
        let told = exchange::import(&mut change, read, on_duplicate).await?;
        if !is_rehearsal {
            change.commit().await?;
        }
        Ok(with(told, "dry_run", is_rehearsal.into()))
    }

    async fn export(&self, given: &Arguments) -> Result<Value, Trouble> {
        let format = given.word("format", &exchange::FORMATS)?.ok_or_else(|| Trouble::Bad("`format` is missing".into()))?;
        let only = given.word("relationship_type", &RELATIONSHIPS)?;
        let mut connection = self.store.read().await?;
        let all = store::all(&mut connection, only).await?;
        Ok(json!({"format": format, "count": all.len(), "content": exchange::write(format, &all)?}))
    }

    async fn merge(&self, given: &Arguments) -> Result<Value, Trouble> {
        let (id, others) = (given.id("contact_id")?, given.ids("contact_ids")?);
        confirmed(given)?;
        if others.contains(&id) {
            return Err(Trouble::Bad(format!("contact {id} cannot be merged with itself")));
        }
        let mut change = self.store.change().await?;
        let mut kept = store::contact(&mut change, id).await?;
        for other in &others {
            let gone = store::contact(&mut change, *other).await?;
            store::hand_over(&mut change, *other, id).await?;
            // First, so that its label is free.
            store::delete(&mut change, *other).await?;
            exchange::absorb(&mut kept, gone)?;
        }
        store::check_label(&mut change, kept.label.as_deref(), Some(id)).await?;
        store::rewrite(&mut change, &kept).await?;
        let told = self.done(change, id).await?;
        Ok(json!({"contact": told, "merged": others}))
    }
}

fn needed_relationship(given: &Arguments) -> Result<&'static str, Trouble> {
    given.word("relationship_type", &RELATIONSHIPS)?.ok_or_else(|| Trouble::Bad("`relationship_type` is missing".into()))
}

fn confirmed(given: &Arguments) -> Result<(), Trouble> {
    match given.flag("confirm")? {
        Some(true) => Ok(()),
        _ => Err(Trouble::Bad("this cannot be undone: say `confirm`: true".into())),
    }
}

/// An object with one field more.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.into(), value);
    }
    object
}
