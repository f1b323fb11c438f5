//! What can be done with skills, and what becomes of files then.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::skillport::access::User;
use crate::skillport::layout::{self, MARKETPLACE};
use crate::skillport::semver::{Step, Version};
use crate::skillport::source::{Changes, MAX_FILE_BYTES};
use crate::skillport::wrong::Wrong;

use super::{MAX_SKILL_BYTES, MAX_SKILL_FILES, Market, Shelf, Skill};

/// The most bytes of a description.
const MAX_TEXT: usize = 4_000;
/// The most tags, keywords and such, and the most bytes of one.
const MAX_WORDS: usize = 100;
const MAX_WORD: usize = 200;

/// What is saved of a skill.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
pub(crate) struct Save {
    /// The plugin that it belongs to; by default the one that it is in, or one of its own name
    #[serde(default, alias = "skillGroup")]
    skill_group: Option<String>,
    /// What changes; what is not named stays
    files: Vec<File>,
    /// What the change is for
    #[serde(default, rename = "commitMessage", alias = "commit_message")]
    commit_message: Option<String>,
    /// What a plugin is, needed where it is new
    #[serde(default)]
    plugin_metadata: Option<Metadata>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
struct File {
    /// Where it is within the skill: SKILL.md, scripts/run.sh
    path: String,
    /// What is in it; without anything it is deleted
    #[serde(default)]
    content: String,
    /// `base64` where the content is no text
    #[serde(default)]
    encoding: Option<String>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
struct Metadata {
    /// What the plugin is for
    #[serde(default)]
    description: String,
    #[serde(default)]
    keywords: Vec<String>,
    /// Who made it
    #[serde(default)]
    author: Option<String>,
    #[serde(default)]
    license: Option<String>,
}

/// What is published.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
pub(crate) struct Publish {
    /// What the marketplace says of it
    #[serde(default)]
    description: String,
    #[serde(default)]
    category: Option<String>,
    /// At least one names a surface: surface:CC, surface:CD, surface:CAI, surface:CDAI or surface:CALL
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    keywords: Option<Vec<String>>,
}

impl Market {
    pub(crate) async fn save(&self, user: &User, name: &str, save: &Save) -> Result<Value, Wrong> {
        if !layout::is_name(name) {
            return Err(Wrong::bad("a name has up to 64 of the characters a-z, 0-9 and -"));
        }
        let files = read_files(save)?;
        self.change(|shelf| saved(shelf, user, name, save, &files)).await
    }

    pub(crate) async fn delete(&self, user: &User, name: &str, confirm: bool) -> Result<Value, Wrong> {
        self.editable(user, name).await?;
        if !confirm {
            return Err(Wrong::bad(format!("deleting {name} cannot be undone: say confirm=true")));
        }
        self.change(|shelf| deleted(shelf, &*writable(shelf, user, name)?)).await
    }

    pub(crate) async fn bump(&self, user: &User, name: &str, step: Step) -> Result<Value, Wrong> {
        self.editable(user, name).await?;
        self.change(|shelf| bumped(shelf, &*writable(shelf, user, name)?, step)).await
    }

    pub(crate) async fn publish(&self, user: &User, name: &str, publish: &Publish) -> Result<Value, Wrong> {
        self.skill(user, name, true).await?;
        check(publish)?;
        self.change(|shelf| published(shelf, user, name, publish)).await
    }
}

/// A skill that somebody may change, by what the shelf says of now.
fn writable(shelf: &Shelf, user: &User, name: &str) -> Result<std::sync::Arc<Skill>, Wrong> {
    let skill = shelf.find(name).ok_or_else(|| Wrong::unknown(format!("there is no skill {name}")))?;
    if !shelf.is_editable(user, name) {
        return Err(Wrong::forbidden(format!("you may not change the skill {name}")));
    }
    Ok(skill)
}

type Thought = Result<(Changes, String, Value), Wrong>;

/// The files as bytes; `None` is deleted.
fn read_files(save: &Save) -> Result<Vec<(&str, Option<Bytes>)>, Wrong> {
    if save.files.is_empty() || save.files.len() > MAX_SKILL_FILES {
        return Err(Wrong::bad(format!("`files` has to name between 1 and {MAX_SKILL_FILES} files")));
    }
    let mut all: Vec<(&str, Option<Bytes>)> = Vec::new();
    for File { path, content, encoding } in &save.files {
        layout::check_path(path).map_err(|why| Wrong::bad(format!("the path {path:?} {why}")))?;
        if all.iter().any(|(known, _)| known.eq_ignore_ascii_case(path)) {
            return Err(Wrong::bad(format!("{path} is named twice, or differs from another only in the size of letters")));
        }
        let bytes = match encoding.as_deref() {
            None | Some("utf-8" | "utf8" | "text") => Bytes::copy_from_slice(content.as_bytes()),
            Some("base64") => STANDARD.decode(content).map_err(|e| Wrong::bad(format!("{path} is no base64: {e}")))?.into(),
            Some(other) => return Err(Wrong::bad(format!("{path} has the encoding {other:?}, and can have utf-8 or base64"))),
        };
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(Wrong::bad(format!("{path} is larger than {MAX_FILE_BYTES} bytes")));
        }
        all.push((path, (!bytes.is_empty()).then_some(bytes)));
    }
    Ok(all)
}

fn saved(shelf: &Shelf, user: &User, name: &str, save: &Save, files: &[(&str, Option<Bytes>)]) -> Thought {
    let known = shelf.find(name);
    let allowed = match &known {
        Some(_) => shelf.is_editable(user, name),
        None => shelf.is_editor(user),
    };
    if !allowed {
        let what = if known.is_some() { "change this skill" } else { "add skills" };
        return Err(Wrong::forbidden(format!("you may not {what}: ask an editor of the marketplace")));
    }
    if known.is_none() && shelf.is_full() {
        return Err(Wrong::bad("the marketplace has as many skills as it can have"));
    }
    let group = match (&known, save.skill_group.as_deref()) {
        (Some(skill), None) => skill.group.as_str(),
        (Some(skill), Some(group)) if skill.group == group => group,
        (Some(skill), Some(_)) => return Err(Wrong::bad(format!("{name} is in the group {}, and cannot be in another", skill.group))),
        (None, group) => group.unwrap_or(name),
    };
    if !layout::is_name(group) {
        return Err(Wrong::bad("a group's name has up to 64 of the characters a-z, 0-9 and -"));
    }
    let prefix = known.as_ref().map_or_else(|| format!("{}{name}/", layout::skills_of(group)), |skill| skill.prefix());
    if known.is_none() && shelf.tree.below(&prefix).next().is_some() {
        return Err(Wrong::bad(format!("there are files below {prefix} already, of no skill")));
    }
    let md = files.iter().find(|(path, _)| *path == "SKILL.md");
    match md {
        Some((_, Some(text))) => {
            let front = std::str::from_utf8(text).ok().and_then(layout::front);
            let Some(front) = front else {
                return Err(Wrong::bad("SKILL.md has to begin with front matter: name and description between lines of ---"));
            };
            if front.name.as_deref() != Some(name) {
                return Err(Wrong::bad(format!("the front matter of SKILL.md has to say `name: {name}`")));
            }
            match &front.description {
                None => return Err(Wrong::bad("the front matter of SKILL.md needs a `description`")),
                Some(text) if text.len() > MAX_TEXT => {
                    return Err(Wrong::bad(format!("the `description` of SKILL.md has at most {MAX_TEXT} bytes")));
                }
                Some(_) => {}
            }
        }
        Some((_, None)) => return Err(Wrong::bad("SKILL.md cannot be deleted; delete the skill instead")),
        None if known.is_none() => return Err(Wrong::bad("a new skill needs a SKILL.md")),
        None => {}
    }
    if let Some((path, _)) = files.iter().find(|(path, _)| *path != "SKILL.md" && path.eq_ignore_ascii_case("SKILL.md")) {
        return Err(Wrong::bad(format!("{path} differs from SKILL.md only in the size of letters")));
    }
    let is_new_group = !shelf.has_group(group);
    let mut changes = Changes::new();
    if is_new_group {
        let metadata = save.plugin_metadata.as_ref().filter(|metadata| !metadata.description.trim().is_empty());
        let Some(metadata) = metadata else {
            return Err(Wrong::bad(format!("the group {group} is new: say what it is for in plugin_metadata.description")));
        };
        let words = metadata.keywords.iter().chain(&metadata.author).chain(&metadata.license);
        check_words(&metadata.description, words)?;
        let author = metadata.author.clone().or_else(|| user.name.clone()).unwrap_or_else(|| user.id.clone());
        let mut manifest = json!({
            "name": group, "version": "1.0.0", "description": metadata.description.trim(),
            "author": {"name": author}, "keywords": metadata.keywords,
        });
        if let Some(license) = &metadata.license {
            manifest["license"] = json!(license);
        }
        changes.insert(layout::manifest(group), Some(written(&manifest)));
    }
    let mut told = Vec::new();
    let (mut n_created, mut n_updated, mut n_deleted) = (0, 0, 0);
    for (path, content) in files {
        let full = format!("{prefix}{path}");
        let there = shelf.tree.files.contains_key(&full);
        let action = match (content, there) {
            (None, false) => return Err(Wrong::bad(format!("{path} cannot be deleted: there is no such file"))),
            (None, true) => {
                n_deleted += 1;
                "deleted"
            }
            (Some(_), true) => {
                n_updated += 1;
                "updated"
            }
            (Some(_), false) => {
                n_created += 1;
                "created"
            }
        };
        told.push(json!({"path": path, "action": action, "created": action == "created", "deleted": action == "deleted"}));
        changes.insert(full, content.clone());
    }
    bounded(shelf, &prefix, &changes)?;
    let message = save.commit_message.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let verb = if known.is_some() { "Change" } else { "Add" };
    let message = message.map_or_else(|| format!("{verb} {name}"), |text| text.chars().take(2_000).collect());
    let summary = format!("{n_created} created, {n_updated} updated, {n_deleted} deleted");
    Ok((
        changes,
        signed(&message, user),
        json!({
            "success": true, "skill": name, "skill_group": group, "isNewSkill": known.is_none(), "isNewGroup": is_new_group,
            "files": told, "summary": summary,
        }),
    ))
}

/// A skill has bounds after a change, too.
fn bounded(shelf: &Shelf, prefix: &str, changes: &Changes) -> Result<(), Wrong> {
    let kept = shelf.tree.below(prefix).filter(|(path, _)| !changes.contains_key(*path)).map(|(_, leaf)| leaf.n_bytes);
    let put = changes.iter().filter(|(path, _)| path.starts_with(prefix)).filter_map(|(_, content)| content.as_ref());
    let all: Vec<u64> = kept.chain(put.map(|content| content.len() as u64)).collect();
    if all.len() > MAX_SKILL_FILES || all.iter().sum::<u64>() > MAX_SKILL_BYTES {
        return Err(Wrong::bad(format!("a skill has at most {MAX_SKILL_FILES} files of {MAX_SKILL_BYTES} bytes together")));
    }
    Ok(())
}

fn deleted(shelf: &Shelf, skill: &Skill) -> Thought {
    let prefix = skill.prefix();
    // Those too that are left out of the list.
    let is_last =
        shelf.tree.below(&layout::skills_of(&skill.group)).all(|(path, _)| path.starts_with(&prefix) || layout::place(path).is_none());
    let prefix = if is_last { format!("plugins/{}/", skill.group) } else { skill.prefix() };
    let mut changes: Changes = shelf.tree.below(&prefix).map(|(path, _)| (path.to_owned(), None)).collect();
    let files: Vec<String> = changes.keys().cloned().collect();
    if is_last && skill.is_published {
        let mut market = shelf.market.clone();
        if let Some(all) = market.get_mut("plugins").and_then(Value::as_array_mut) {
            all.retain(|entry| layout::text(entry, "name") != Some(&skill.group));
        }
        changes.insert(MARKETPLACE.into(), Some(written(&market)));
    }
    let told = json!({"success": true, "skill": skill.name, "skill_group": skill.group, "pluginDeleted": is_last, "deletedFiles": files});
    Ok((changes, format!("Delete {}", skill.name), told))
}

fn bumped(shelf: &Shelf, skill: &Skill, step: Step) -> Thought {
    if !skill.is_published {
        return Err(Wrong::bad(format!("{} is not published; publish it first", skill.name)));
    }
    let Some(old) = Version::read(&skill.version) else { return Err(Wrong::broken(format!("{} has no version", skill.name))) };
    let new = old.next(step).ok_or_else(|| Wrong::bad(format!("no version can come after {}", skill.version)))?.to_string();
    let mut manifest = shelf.manifests.get(&skill.group).cloned().unwrap_or_else(|| json!({"name": skill.group}));
    manifest["version"] = json!(new);
    let mut market = shelf.market.clone();
    if let Some(entry) = entry_mut(&mut market, &skill.group) {
        entry["version"] = json!(new);
    }
    let files = [(layout::manifest(&skill.group), Some(written(&manifest))), (MARKETPLACE.to_owned(), Some(written(&market)))];
    let told = json!({"success": true, "skill": skill.name, "plugin": skill.group, "oldVersion": skill.version, "newVersion": new});
    Ok((files.into(), format!("Bump {} to {new}", skill.group), told))
}

fn check(publish: &Publish) -> Result<(), Wrong> {
    if publish.description.trim().is_empty() {
        return Err(Wrong::bad("a `description` is needed: it is what the marketplace says"));
    }
    if let Some(tags) = &publish.tags {
        let surfaces = layout::surface_tags(tags);
        layout::surfaces(&surfaces.join(",")).map_err(Wrong::bad)?;
        if surfaces.is_empty() {
            return Err(Wrong::bad(
                "one of the `tags` has to name a surface: surface:CC, surface:CD, surface:CAI, surface:CDAI or surface:CALL",
            ));
        }
    }
    check_words(&publish.description, publish.tags.iter().chain(&publish.keywords).flatten().chain(&publish.category))
}

/// What stands in lists that everybody reads has bounds.
fn check_words<'w>(description: &str, words: impl Iterator<Item = &'w String> + Clone) -> Result<(), Wrong> {
    if description.len() > MAX_TEXT || words.clone().count() > MAX_WORDS || words.into_iter().any(|word| word.len() > MAX_WORD) {
        return Err(Wrong::bad(format!(
            "a description has at most {MAX_TEXT} bytes, and beside it there are at most {MAX_WORDS} words of {MAX_WORD} bytes"
        )));
    }
    Ok(())
}

fn published(shelf: &Shelf, user: &User, name: &str, publish: &Publish) -> Thought {
    let skill = shelf.find(name).ok_or_else(|| Wrong::unknown(format!("there is no skill {name}")))?;
    if !shelf.is_editor(user) {
        return Err(Wrong::forbidden("only editors of the marketplace publish"));
    }
    let group = &skill.group;
    let mut changes = Changes::new();
    let manifest = shelf.manifests.get(group).cloned();
    let manifest = manifest.unwrap_or_else(|| {
        let manifest = json!({"name": group, "version": skill.version, "description": publish.description.trim()});
        changes.insert(layout::manifest(group), Some(written(&manifest)));
        manifest
    });
    let mut market = shelf.market.clone();
    if market.get("name").is_none() {
        market["name"] = json!("skillport");
        market["owner"] = json!({"name": user.name.as_deref().unwrap_or(&user.id)});
    }
    if !market["plugins"].is_array() {
        market["plugins"] = json!([]);
    }
    let is_new = entry_mut(&mut market, group).is_none();
    if is_new && let Some(all) = market["plugins"].as_array_mut() {
        all.push(json!({"name": group, "source": format!("./plugins/{group}")}));
    }
    if let Some(entry) = entry_mut(&mut market, group) {
        entry["description"] = json!(publish.description.trim());
        entry["version"] = manifest.get("version").cloned().unwrap_or_else(|| json!(skill.version));
        if let Some(author) = manifest.get("author") {
            entry["author"] = author.clone();
        }
        if let Some(category) = &publish.category {
            entry["category"] = json!(category);
        }
        if let Some(tags) = &publish.tags {
            entry["tags"] = json!(tags);
        }
        if let Some(keywords) = &publish.keywords {
            entry["keywords"] = json!(keywords);
        }
    }
    changes.insert(MARKETPLACE.into(), Some(written(&market)));
    let action = if is_new { "created" } else { "updated" };
    Ok((changes, signed(&format!("Publish {group}"), user), json!({"success": true, "skill": name, "plugin": group, "action": action})))
}

fn entry_mut<'m>(market: &'m mut Value, group: &str) -> Option<&'m mut Value> {
    let all = market.get_mut("plugins")?.as_array_mut()?;
    all.iter_mut().find(|entry| layout::text(entry, "name") == Some(group))
}

fn written(value: &Value) -> Bytes {
    format!("{value:#}\n").into()
}

/// With whom to ask.
fn signed(message: &str, user: &User) -> String {
    format!("{message}\n\nBy {}", user.id)
}
