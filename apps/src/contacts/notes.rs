//! Notes about contacts, in markdown, where Basic Memory finds them: the facts in front, and what somebody wrote behind.

use std::path::PathBuf;

use super::arguments::Trouble;
use super::people::Contact;

/// A directory of Basic Memory.
#[derive(Debug)]
pub(super) struct Notes(PathBuf);

impl Notes {
    pub(super) fn at(dir: PathBuf) -> Notes {
        Notes(dir)
    }

    /// Writes the note of somebody who has none; its URL.
    pub(super) fn create(&self, contact: &Contact, content: Option<String>) -> Result<String, Trouble> {
        let (path, url) = self.place(contact);
        if contact.basic_memory_url.is_some() || path.exists() {
            return Err(Trouble::Conflict(format!("contact {} has a note already; update_contact_note writes it anew", contact.id)));
        }
        self.write(contact, &content.unwrap_or_default())?;
        Ok(url)
    }

    /// Writes it anew. What was written behind the facts stays, unless there is something new.
    pub(super) fn update(&self, contact: &Contact, content: Option<String>) -> Result<String, Trouble> {
        let (path, url) = self.place(contact);
        if contact.basic_memory_url.as_ref().is_some_and(|linked| *linked != url) {
            return Err(Trouble::Conflict(format!("the note about contact {} is another's, and not ours to write", contact.id)));
        }
        let before = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Trouble::Missing(format!("contact {} has no note yet; create_contact_note writes one", contact.id)));
            }
            Err(e) => return Err(e.into()),
        };
        let behind = before.split_once("\n---\n").map_or("", |(_, behind)| behind);
        // The title is written anew.
        let behind = behind.trim_start().split_once("\n\n").map_or("", |(_, behind)| behind);
        self.write(contact, content.as_deref().unwrap_or(behind))?;
        Ok(url)
    }

    /// A URL of a note.
    pub(super) fn check(url: String) -> Result<String, Trouble> {
        let path = url.strip_prefix("memory://").unwrap_or_default();
        if path.is_empty() || path.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Trouble::Bad(format!("`url` is {url:?}; write it as memory://people/ada")));
        }
        Ok(url)
    }

    /// The file of a note, and its URL. Both have the id in them, so that a new name moves nothing.
    fn place(&self, contact: &Contact) -> (PathBuf, String) {
        (self.0.join("contacts").join(format!("contact-{}.md", contact.id)), format!("memory://contacts/contact-{}", contact.id))
    }

    fn write(&self, contact: &Contact, content: &str) -> Result<(), Trouble> {
        let (path, _) = self.place(contact);
        // A text of JSON is one of YAML.
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = format!("---\ntitle: {}\ntype: contact\n", quote(&contact.name));
        text.push_str(&format!("permalink: contacts/contact-{id}\ncontact_id: {id}\n", id = contact.id));
        let facts = [
            ("relationship", Some(&contact.relationship_type)),
            ("company", contact.company.as_ref()),
            ("last_contact", contact.contacted_at.as_ref()),
            ("state", contact.state.as_ref()),
            ("label", contact.label.as_ref()),
            ("email", contact.email.as_ref()),
            ("phone", contact.phone.as_ref()),
        ];
        for (name, value) in facts {
            if let Some(value) = value {
                text.push_str(&format!("{name}: {}\n", quote(value)));
            }
        }
        text.push_str(&format!("---\n\n# {}\n\n{}\n", contact.name.replace(['\n', '\r'], " "), content.trim_end()));
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        // Whoever reads meanwhile reads the one or the other.
        let beside = path.with_extension("md.new");
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, &path)?;
        Ok(())
    }
}
