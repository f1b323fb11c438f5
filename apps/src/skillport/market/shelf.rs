//! One tree of the marketplace, understood.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::skillport::access::{Access, User};
use crate::skillport::layout::{self, ACCESS, MARKETPLACE};
use crate::skillport::semver::Version;
use crate::skillport::source::{Source, Tree};
use crate::skillport::wrong::Wrong;

use super::blobs::Blobs;

/// The most skills, and plugins.
const MAX_SKILLS: usize = 2_000;

#[derive(Debug)]
pub(crate) struct Shelf {
    pub(super) tree: Tree,
    pub(super) access: Access,
    /// `marketplace.json`
    pub(super) market: Value,
    /// `plugin.json` of each group that has one.
    pub(super) manifests: BTreeMap<String, Value>,
    /// In the order of their names.
    skills: Vec<Arc<Skill>>,
}

#[derive(Debug)]
pub(crate) struct Skill {
    pub(crate) name: String,
    /// The plugin that it belongs to.
    pub(crate) group: String,
    /// Where it is there.
    dir: String,
    pub(crate) description: String,
    pub(crate) version: String,
    author: Value,
    category: Option<String>,
    pub(crate) tags: Vec<String>,
    keywords: Vec<String>,
    pub(crate) is_published: bool,
}

impl Skill {
    /// The path that its files are below.
    pub(crate) fn prefix(&self) -> String {
        format!("{}{}/", layout::skills_of(&self.group), self.dir)
    }

    pub(crate) fn json(&self, is_editable: bool) -> Value {
        json!({
            "name": self.name,
            "plugin": self.group,
            "description": self.description,
            "version": self.version,
            "author": self.author,
            "category": self.category,
            "tags": self.tags,
            "keywords": self.keywords,
            "surface_tags": layout::surface_tags(&self.tags),
            "published": self.is_published,
            "editable": is_editable,
        })
    }
}

impl Shelf {
    pub(super) async fn read(source: &Source, blobs: &Blobs, tree: Tree, is_open: bool) -> Result<Shelf, Wrong> {
        let object = async |path: &str| -> Result<Option<Value>, Wrong> {
            let Some(leaf) = tree.files.get(path) else { return Ok(None) };
            let bytes = blobs.read(source, &tree, path, leaf).await?;
            match serde_json::from_slice(&bytes) {
                Ok(value @ Value::Object(_)) => Ok(Some(value)),
                Ok(_) => Err(Wrong::broken(format!("{path} is no object"))),
                Err(e) => Err(Wrong::broken(format!("{path} is no JSON: {e}"))),
            }
        };
        let mut access = match tree.files.get(ACCESS) {
            None => Access::default(),
            // Whoever may do what cannot be told, so nobody may.
            Some(leaf) => {
                Access::read(&blobs.read(source, &tree, ACCESS, leaf).await?).map_err(|why| Wrong::broken(format!("{ACCESS} {why}")))?
            }
        };
        access.is_open = is_open;
        let market = object(MARKETPLACE).await?.unwrap_or_else(|| json!({}));
        let places: Vec<(&str, &str)> = tree.files.keys().filter_map(|path| layout::place(path)).collect();
        if places.len() > MAX_SKILLS {
            return Err(Wrong::broken(format!("there are more than {MAX_SKILLS} skills")));
        }
        let mut manifests = BTreeMap::new();
        for (group, _) in &places {
            // One broken plugin is left out; the others are not its fault.
            match object(&layout::manifest(group)).await {
                Ok(Some(manifest)) => drop(manifests.insert((*group).to_owned(), manifest)),
                Ok(None) => {}
                Err(wrong) if wrong.status == http::StatusCode::INTERNAL_SERVER_ERROR => {
                    tracing::warn!(group, why = wrong.message, "a plugin cannot be read")
                }
                Err(wrong) => return Err(wrong),
            }
        }
        let mut skills: Vec<Arc<Skill>> = Vec::new();
        let mut names = BTreeSet::new();
        // What is published comes first, in its order: it has its name before others.
        let listed = listed(&market);
        let rank = |group: &str| listed.iter().position(|name| name == group).unwrap_or(usize::MAX);
        let mut places = places;
        places.sort_by_key(|(group, _)| rank(group));
        for (group, dir) in places {
            let path = format!("{}{dir}/SKILL.md", layout::skills_of(group));
            let Some(leaf) = tree.files.get(&path) else { continue };
            let text = blobs.read(source, &tree, &path, leaf).await?;
            let front = layout::front(&String::from_utf8_lossy(&text)).unwrap_or_default();
            let name = front.name.unwrap_or_else(|| dir.to_owned());
            if !layout::is_name(&name) || !names.insert(name.clone()) {
                tracing::warn!(group, dir, "a skill is left out: its name cannot be one, or is another's");
                continue;
            }
            let entry = entry(&market, group);
            let manifest = manifests.get(group);
            let both = [manifest, entry];
            let find = |key: &str| both.iter().flatten().find_map(|value| layout::text(value, key)).map(str::to_owned);
            let of_entry = |key: &str| entry.or(manifest).map(|value| layout::texts(value, key)).unwrap_or_default();
            skills.push(Arc::new(Skill {
                name,
                group: group.to_owned(),
                dir: dir.to_owned(),
                description: front.description.or_else(|| find("description")).unwrap_or_default(),
                version: find("version").filter(|version| Version::read(version).is_some()).unwrap_or_else(|| "1.0.0".into()),
                author: both.iter().flatten().find_map(|value| value.get("author")).cloned().unwrap_or(Value::Null),
                category: find("category"),
                tags: of_entry("tags"),
                keywords: of_entry("keywords"),
                is_published: entry.is_some(),
            }));
        }
        skills.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Shelf { tree, access, market, manifests, skills })
    }

    /// Those that somebody may see.
    pub(crate) fn seen_by<'s>(&'s self, user: &'s User) -> impl Iterator<Item = &'s Arc<Skill>> {
        self.skills.iter().filter(|skill| self.access.may_read(user, &skill.name))
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Skill>> {
        self.skills.iter().find(|skill| skill.name == name).cloned()
    }

    pub(crate) fn is_editable(&self, user: &User, skill: &str) -> bool {
        self.access.may_write(user, skill)
    }

    pub(crate) fn is_editor(&self, user: &User) -> bool {
        self.access.is_editor(user)
    }

    /// Whether there can be no other skill.
    pub(super) fn is_full(&self) -> bool {
        self.skills.len() >= MAX_SKILLS
    }

    /// Whether there is anything in a group.
    pub(super) fn has_group(&self, group: &str) -> bool {
        self.tree.below(&format!("plugins/{group}/")).next().is_some()
    }

    /// What lies in `plugins`, path by path, of what this user may see.
    pub(crate) fn paths<'s>(&'s self, user: &'s User) -> impl Iterator<Item = (&'s str, u64)> {
        let hidden: Vec<String> =
            self.skills.iter().filter(|skill| !self.access.may_read(user, &skill.name)).map(|skill| skill.prefix()).collect();
        let all = self.tree.below("plugins/").filter(move |(path, _)| !hidden.iter().any(|prefix| path.starts_with(prefix)));
        all.map(|(path, leaf)| (path, leaf.n_bytes))
    }

    /// What is published of a plugin.
    pub(crate) fn entry(&self, group: &str) -> Option<&Value> {
        entry(&self.market, group)
    }

    pub(crate) fn manifest(&self, group: &str) -> Option<&Value> {
        self.manifests.get(group)
    }
}

fn entries(market: &Value) -> impl Iterator<Item = &Value> {
    market.get("plugins").and_then(Value::as_array).into_iter().flatten()
}

fn listed(market: &Value) -> Vec<String> {
    entries(market).filter_map(|entry| layout::text(entry, "name")).map(str::to_owned).collect()
}

fn entry<'m>(market: &'m Value, group: &str) -> Option<&'m Value> {
    entries(market).find(|entry| layout::text(entry, "name") == Some(group))
}
