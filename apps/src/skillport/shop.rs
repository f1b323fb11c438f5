//! What tools and REST do alike: the marketplace and its tokens, with a line for the audit for whatever somebody does.

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::access::User;
use super::layout;
use super::market::{File, Market, Publish, Save};
use super::semver::{Step, Version};
use super::tickets::{For, LIFE_S, Ticket, Tickets};
use super::wrong::Wrong;

/// The most downloads at a time: each may be as large as a skill.
pub(super) const MAX_DOWNLOADS: usize = 8;
/// How long the next one waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// The most characters of a word in the audit.
const MAX_AUDITED: usize = 200;
/// The most skills that are asked about at once.
const MAX_INSTALLED: usize = 1_000;

#[derive(Debug)]
pub(super) struct Shop {
    pub(super) market: Market,
    pub(super) tickets: Tickets,
    /// By which URL we are reached. Nobody else's word for it counts: it stands in scripts.
    pub(super) base: OnceLock<String>,
    pub(super) downloads: Semaphore,
}

/// A skill that somebody has.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
pub(super) struct Installed {
    /// The skill
    name: String,
    /// The version of it that is there
    version: String,
}

/// What somebody did, for the audit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Did<'a> {
    pub(super) skill: Option<&'a str>,
    pub(super) group: Option<&'a str>,
    pub(super) surface: Option<&'a str>,
}

/// Writes a line; the log says when. It has a target of its own, so that it is there however little else is told.
pub(super) fn audit<T>(user: &User, action: &'static str, did: Did<'_>, outcome: &Result<T, Wrong>) {
    let outcome = outcome.as_ref().map_or_else(|wrong| wrong.error, |_| "ok");
    let (email, name) = (user.email.as_deref(), user.name.as_deref());
    // Names come from strangers.
    let [skill, plugin, surface] = [did.skill, did.group, did.surface]
        .map(|text| text.map(|text| text.char_indices().nth(MAX_AUDITED).map_or(text, |(end, _)| &text[..end])));
    tracing::info!(target: "audit", user = user.id, email, name, action, skill, plugin, surface, outcome, "audit");
}

impl Shop {
    /// The same of a skill, with the plugin that it is in.
    async fn audit(&self, user: &User, action: &'static str, skill: &str, done: &Result<Value, Wrong>) {
        let told = done.as_ref().ok();
        let group = told.and_then(|told| told["plugin"].as_str().or(told["skill_group"].as_str()).or(told["skill"]["plugin"].as_str()));
        let group = match group {
            Some(group) => Some(group.to_owned()),
            None => self.market.group_of(skill).await,
        };
        audit(user, action, Did { skill: Some(skill), group: group.as_deref(), ..Did::default() }, done);
    }

    pub(super) fn base(&self) -> Result<&str, Wrong> {
        let base = self.base.get().map(String::as_str);
        base.ok_or_else(|| Wrong::broken("nothing is served over HTTP here, so there is nothing to download from: start it with --mode sse or http, or set CONNECTOR_URL"))
    }

    pub(super) async fn auth(&self, user: &User, client: Option<(String, String)>) -> Result<Value, Wrong> {
        let done = async {
            let base = self.base()?;
            let token = self.tickets.issue(For::Api, user, "").await?;
            Ok(json!({
                "token": token,
                "base_url": base,
                "expires_in": LIFE_S,
                "client_info": client.map(|(name, version)| json!({"name": name, "version": version})),
                "instructions": format!(
                    "Send the token as `Authorization: Bearer` to {base}/api: GET /api/skills lists what there is, \
                     GET /api/skills/NAME shows one, GET /api/skills/NAME/install and /edit give a command to run. \
                     When it has expired, call this tool again."
                ),
            }))
        };
        let done = done.await;
        audit(user, "auth", Did::default(), &done);
        done
    }

    pub(super) async fn bootstrap(&self, user: &User) -> Result<Value, Wrong> {
        const OWN: &str = "skillport";
        let did = Did { skill: Some(OWN), ..Did::default() };
        if let Err(wrong) = self.market.skill(user, OWN, false).await {
            audit(user, "bootstrap", did, &Err::<(), _>(wrong.clone()));
            return Ok(json!({
                "error": wrong.error,
                "message": format!("the skill `{OWN}` cannot be installed: {}", wrong.message),
                "instructions": [
                    format!("Ask an editor of the marketplace to add a skill named `{OWN}`."),
                    "Until then, call this tool with the operation `auth` and use the REST routes yourself.",
                ],
            }));
        }
        let given = self.ticket(user, OWN, For::Install).await;
        self.audit(user, "bootstrap", OWN, &given).await;
        let given = given?;
        Ok(json!({
            "message": "Run the command to install the skill that knows how to use this marketplace.",
            "steps": [
                "Run the command in a shell of the machine where skills are used.",
                "Start the client anew, so that it finds the skill.",
                "Ask for the skills of the marketplace.",
            ],
            "command": given["command"],
            "version": given["version"],
            "expires_in": LIFE_S,
        }))
    }

    pub(super) async fn skills(&self, user: &User, surface: Option<&str>, refresh: bool) -> Result<Value, Wrong> {
        let done = async {
            let wanted = surface.map(layout::surfaces).transpose().map_err(Wrong::bad)?.unwrap_or_default();
            Ok((wanted, self.market.shelf(refresh).await?))
        };
        let done = done.await;
        audit(user, "list", Did { surface, ..Did::default() }, &done);
        let (wanted, shelf) = done?;
        let all = shelf.seen_by(user).filter(|skill| wanted.is_empty() || layout::is_for(&layout::surface_tags(&skill.tags), &wanted));
        let all: Vec<Value> = all.map(|skill| skill.json(shelf.is_editable(user, &skill.name))).collect();
        let filter = if wanted.is_empty() { Value::Null } else { json!(wanted.join(",")) };
        Ok(json!({"count": all.len(), "surface_filter": filter, "skills": all}))
    }

    pub(super) async fn details(&self, user: &User, name: &str) -> Result<Value, Wrong> {
        let done = async {
            let (shelf, skill, (paths, md)) = self.market.shown(user, name).await?;
            let is_editable = shelf.is_editable(user, name);
            Ok(json!({"skill": skill.json(is_editable), "skill_md": md, "files": paths, "editable": is_editable}))
        };
        let done = done.await;
        self.audit(user, "details", name, &done).await;
        done
    }

    /// A one-time token for a skill, and the command that uses it.
    pub(super) async fn ticket(&self, user: &User, name: &str, purpose: For) -> Result<Value, Wrong> {
        let done = async {
            let base = self.base()?;
            let (_, skill) = match purpose {
                For::Edit => self.market.editable(user, name).await?,
                For::Install | For::Api => self.market.skill(user, name, false).await?,
            };
            let token = self.tickets.issue(purpose, user, name).await?;
            let (key, script) = if purpose == For::Edit { ("edit_token", "edit.sh") } else { ("install_token", "install.sh") };
            let command = format!("curl -fsSL '{base}/{script}' | sh -s -- {token}");
            let mut told = json!({"skill": name, "version": skill.version, "expires_in": LIFE_S, "command": command});
            told[key] = json!(token);
            if purpose == For::Edit {
                told["plugin"] = json!(skill.group);
            }
            Ok(told)
        };
        let done = done.await;
        let action = if purpose == For::Edit { "edit" } else { "install" };
        self.audit(user, action, name, &done).await;
        done
    }

    /// What a one-time token is for. It is used only once all of that is at hand.
    pub(super) async fn download(&self, purpose: For, token: &str) -> Result<Download, Wrong> {
        let ticket: Ticket = self.tickets.look(purpose, token).await?;
        let turn = tokio::time::timeout(MAX_WAIT, self.downloads.acquire()).await;
        let _turn = turn.map_err(|_| Wrong::busy("too many download at the same time; try again later"))?;
        let done = async {
            let (shelf, skill, files) = self.market.whole(&ticket.user, &ticket.skill, purpose == For::Edit).await?;
            self.tickets.redeem(&ticket).await?;
            let is_editable = shelf.is_editable(&ticket.user, &skill.name);
            Ok(Download { name: skill.name.clone(), version: skill.version.clone(), skill: skill.json(is_editable), files })
        };
        let done = done.await;
        let action = if purpose == For::Edit { "download to edit" } else { "download" };
        let group = self.market.group_of(&ticket.skill).await;
        audit(&ticket.user, action, Did { skill: Some(&ticket.skill), group: group.as_deref(), ..Did::default() }, &done);
        done
    }

    /// All of a skill, as JSON.
    pub(super) async fn whole(&self, user: &User, name: &str, to_edit: bool) -> Result<Value, Wrong> {
        let done = async {
            let (shelf, skill, files) = self.market.whole(user, name, to_edit).await?;
            let is_editable = shelf.is_editable(user, name);
            Ok(Download { name: skill.name.clone(), version: skill.version.clone(), skill: skill.json(is_editable), files }.json())
        };
        let done = done.await;
        self.audit(user, if to_edit { "fetch to edit" } else { "fetch" }, name, &done).await;
        done
    }

    pub(super) async fn save(&self, user: &User, name: &str, save: &Save) -> Result<Value, Wrong> {
        let done = self.market.save(user, name, save).await;
        self.audit(user, "save", name, &done).await;
        done
    }

    pub(super) async fn delete(&self, user: &User, name: &str, confirm: bool) -> Result<Value, Wrong> {
        let done = self.market.delete(user, name, confirm).await;
        self.audit(user, "delete", name, &done).await;
        done
    }

    pub(super) async fn bump(&self, user: &User, name: &str, step: Step) -> Result<Value, Wrong> {
        let done = self.market.bump(user, name, step).await;
        self.audit(user, "bump", name, &done).await;
        done
    }

    pub(super) async fn publish(&self, user: &User, name: &str, publish: &Publish) -> Result<Value, Wrong> {
        let done = self.market.publish(user, name, publish).await;
        self.audit(user, "publish", name, &done).await;
        done
    }

    pub(super) async fn updates(&self, user: &User, installed: &[Installed]) -> Result<Value, Wrong> {
        let done = self.newer(user, installed).await;
        audit(user, "check updates", Did::default(), &done);
        done
    }

    async fn newer(&self, user: &User, installed: &[Installed]) -> Result<Value, Wrong> {
        if installed.len() > MAX_INSTALLED {
            return Err(Wrong::bad(format!("at most {MAX_INSTALLED} skills can be asked about at once")));
        }
        let shelf = self.market.shelf(false).await?;
        let mut updates = Vec::new();
        for Installed { name, version } in installed {
            let Some(old) = Version::read(version) else {
                return Err(Wrong::bad(format!("{name} has the version {version:?}, which is none: write it as 1.2.3")));
            };
            let Some(skill) = shelf.seen_by(user).find(|skill| skill.name == *name) else { continue };
            if Version::read(&skill.version).is_some_and(|new| new > old) {
                updates.push(json!({"name": name, "installedVersion": version, "availableVersion": skill.version}));
            }
        }
        Ok(json!({"hasUpdates": !updates.is_empty(), "updates": updates}))
    }

    pub(super) async fn paths(&self, user: &User) -> Result<Value, Wrong> {
        let done = self.market.shelf(true).await;
        audit(user, "debug plugins", Did::default(), &done);
        let shelf = done?;
        let all: Vec<Value> = shelf.paths(user).map(|(path, n_bytes)| json!({"path": path, "type": "file", "size": n_bytes})).collect();
        Ok(json!({"source": self.market.source().name(), "path": "plugins", "count": all.len(), "entries": all}))
    }
}

pub(super) fn whoami(user: &User) -> Value {
    audit(user, "whoami", Did::default(), &Ok(()));
    json!({"id": user.id, "email": user.email, "name": user.name, "provider": user.provider})
}

/// All of a skill.
pub(super) struct Download {
    pub(super) name: String,
    version: String,
    skill: Value,
    pub(super) files: Vec<File>,
}

impl Download {
    pub(super) fn json(&self) -> Value {
        let files = self.files.iter().map(|File { path, content, is_program }| {
            let mut file = match std::str::from_utf8(content) {
                Ok(text) => json!({"path": path, "content": text}),
                Err(_) => json!({"path": path, "content": STANDARD.encode(content), "encoding": "base64"}),
            };
            if *is_program {
                file["executable"] = json!(true);
            }
            file
        });
        let files: Vec<Value> = files.collect();
        json!({"skill_name": self.name, "skill_version": self.version, "skill": self.skill, "files": files})
    }
}
