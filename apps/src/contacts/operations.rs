//! Does what the catalog names. Each operation reads its arguments, makes one transaction at most, and answers JSON.

use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::arguments::{Arguments, LONG, MANY, SHORT, Trouble};
use super::catalog::Operation;
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
