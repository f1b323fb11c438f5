//! Who may see a skill and who may change it: `.skillport/access.json` of the marketplace.
//!
//! Without the file everybody reads and nobody writes. What it leaves out counts as it does without it. A file that
//! cannot be read lets nobody do anything.

use std::collections::BTreeMap;

use landbridge::embed::{Person, Principal};
use serde::{Deserialize, Serialize};

/// Somebody who calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct User {
    /// `provider:subject`, by which rules name them.
    pub(super) id: String,
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
    pub(super) provider: String,
}

const GOOGLE: &str = "https://accounts.google.com";

impl User {
    /// Whose calls are answered; without one, nobody is asked who they are.
    pub(super) fn of(principal: &Principal) -> User {
        let Some(Person { issuer, subject, login, name, email, .. }) = principal.person() else { return User::local() };
        let provider = match issuer.as_str() {
            GOOGLE => "google",
            "" => "local",
            known @ ("local" | "key") => known,
            _ => "oidc",
        };
        User {
            id: format!("{provider}:{subject}"),
            email: email.clone(),
            name: name.clone().or_else(|| login.clone()),
            provider: provider.into(),
        }
    }

    /// Whoever is at this machine.
    pub(super) fn local() -> User {
        User { id: "local:local".into(), email: None, name: Some("local user".into()), provider: "local".into() }
    }
}

/// The rules.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Access {
    #[serde(default)]
    editors: Vec<Name>,
    #[serde(default)]
    skills: BTreeMap<String, Rule>,
    #[serde(default)]
    defaults: Rule,
    /// Everybody changes everything, whatever is written: nobody is asked who they are.
    #[serde(skip)]
    pub(super) is_open: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Rule {
    read: Option<Who>,
    write: Option<Who>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Who {
    /// `*` or `editors`.
    Word(String),
    These(Vec<Name>),
}

/// Somebody in a list: an id, or an id with a label for people.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Name {
    Id(String),
    Labelled { id: String },
}

impl Name {
    fn is(&self, user: &User) -> bool {
        let (Name::Id(id) | Name::Labelled { id }) = self;
        *id == user.id
    }
}

impl Access {
    /// The error fits after "`.skillport/access.json` ".
    pub(super) fn read(text: &[u8]) -> Result<Access, String> {
        let access: Access = serde_json::from_slice(text).map_err(|e| format!("cannot be read: {e}"))?;
        let rules = access.skills.values().chain([&access.defaults]);
        for who in rules.flat_map(|rule| [&rule.read, &rule.write]).flatten() {
            if let Who::Word(word) = who
                && !matches!(word.as_str(), "*" | "editors")
            {
                return Err(format!("names {word:?}, where only \"*\", \"editors\" or a list of ids can stand"));
            }
        }
        Ok(access)
    }

    pub(super) fn is_editor(&self, user: &User) -> bool {
        self.is_open || self.editors.iter().any(|editor| editor.is(user))
    }

    /// Who may change a skill may see it, too.
    pub(super) fn may_read(&self, user: &User, skill: &str) -> bool {
        let rule = self.skills.get(skill).and_then(|rule| rule.read.as_ref()).or(self.defaults.read.as_ref());
        rule.is_none_or(|rule| self.has(rule, user)) || self.may_write(user, skill)
    }

    pub(super) fn may_write(&self, user: &User, skill: &str) -> bool {
        let rule = self.skills.get(skill).and_then(|rule| rule.write.as_ref()).or(self.defaults.write.as_ref());
        self.is_open || rule.map_or_else(|| self.is_editor(user), |rule| self.has(rule, user))
    }

    fn has(&self, who: &Who, user: &User) -> bool {
        match who {
            Who::Word(word) if word == "*" => true,
            Who::Word(_) => self.is_editor(user),
            Who::These(all) => self.is_open || all.iter().any(|one| one.is(user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: &str) -> User {
        User { id: id.into(), email: None, name: None, provider: "google".into() }
    }

    #[test]
    fn what_is_not_said_is_that_all_read_and_editors_write() {
        let (ada, bob) = (user("google:1"), user("google:2"));
        let none = Access::default();
        assert!(none.may_read(&ada, "x") && !none.may_write(&ada, "x") && !none.is_editor(&ada));
        let access = Access::read(
            br#"{"version": 1, "editors": [{"id": "google:1", "label": "Ada"}], "skills": {
                "secret": {"read": "editors"}, "shared": {"write": ["google:2"]}, "few": {"read": ["google:2"], "write": ["google:2"]}}}"#,
        )
        .unwrap();
        assert!(access.may_write(&ada, "x") && !access.may_write(&bob, "x") && access.may_read(&bob, "x"));
        assert!(access.may_read(&ada, "secret") && !access.may_read(&bob, "secret"));
        assert!(!access.may_write(&ada, "shared") && access.may_write(&bob, "shared"));
        assert!(!access.may_read(&ada, "few") && access.may_read(&bob, "few"));
        let closed = Access::read(br#"{"defaults": {"read": "editors", "write": []}}"#).unwrap();
        assert!(!closed.may_read(&ada, "x") && !closed.may_write(&ada, "x"));
        assert!(Access::read(br#"{"defaults": {"read": "everyone"}}"#).unwrap_err().contains("everyone"));
        assert!(Access::read(b"[").is_err());
    }
}
