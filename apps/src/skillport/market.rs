//! The marketplace: its skills, who may do what with them, and what becomes of its files when somebody does.
//!
//! What is read is a [`Shelf`], one tree of the source with everything in it understood. A change is thought out on a
//! fresh shelf, and again on the next one where somebody else was faster.

mod blobs;
mod change;
mod shelf;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Mutex;

use self::blobs::Blobs;
pub(super) use self::change::{Publish, Save};
pub(super) use self::shelf::{Shelf, Skill};
use super::access::User;
use super::layout;
use super::source::{Changes, MAX_FILE_BYTES, MAX_FILES, Source};
use super::wrong::Wrong;

/// The most files of a skill, and the most bytes of them all.
const MAX_SKILL_FILES: usize = 300;
const MAX_SKILL_BYTES: u64 = 16 * 1024 * 1024;
/// How long somebody waits for others who look.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// So often a change is thought out anew.
const CHANGES: usize = 4;

/// A file of a skill.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Where it is within the skill.
    pub(super) path: String,
    pub(super) content: Bytes,
    pub(super) is_program: bool,
}

#[derive(Debug)]
pub(super) struct Market {
    source: Source,
    /// How old a shelf may be that is only looked at.
    max_age: Duration,
    /// Nobody is asked who they are: everybody is an editor.
    is_open: bool,
    blobs: Blobs,
    /// The last shelf, and when it was. Held while it is made, so that it is made once.
    last: Mutex<Option<(Instant, Arc<Shelf>)>>,
    /// Held by whoever changes something, so that only other processes can be faster.
    turn: Mutex<()>,
}

impl Market {
    pub(super) fn new(source: Source, max_age: Duration, is_open: bool) -> Market {
        Market { source, max_age, is_open, blobs: Blobs::default(), last: Mutex::default(), turn: Mutex::default() }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// All there is; what was seen a moment ago does, unless it has to be `fresh`.
    pub(super) async fn shelf(&self, fresh: bool) -> Result<Arc<Shelf>, Wrong> {
        // Whoever asks a source that does not answer has the others wait; not for long.
        let waited = tokio::time::timeout(MAX_WAIT, self.last.lock()).await;
        let mut last = waited.map_err(|_| Wrong::busy("what the marketplace is kept in does not answer; try again later"))?;
        if let Some((at, shelf)) = &*last
            && !fresh
            && at.elapsed() < self.max_age
        {
            return Ok(shelf.clone());
        }
        let mut tries = 0;
        let shelf = loop {
            let tree = self.source.tree().await?;
            if let Some((_, shelf)) = last.as_ref().filter(|(_, shelf)| shelf.tree.revision == tree.revision) {
                break shelf.clone();
            }
            tries += 1;
            match Shelf::read(&self.source, &self.blobs, tree, self.is_open).await {
                Ok(shelf) => break Arc::new(shelf),
                Err(wrong) if wrong.is_conflict() && tries < CHANGES => {}
                Err(wrong) => return Err(wrong),
            }
        };
        *last = Some((Instant::now(), shelf.clone()));
        Ok(shelf)
    }

    /// The plugin that a skill is in, as far as that is known by now.
    pub(super) async fn group_of(&self, skill: &str) -> Option<String> {
        let last = tokio::time::timeout(Duration::from_millis(50), self.last.lock()).await.ok()?;
        last.as_ref().and_then(|(_, shelf)| shelf.find(skill)).map(|skill| skill.group.clone())
    }

    /// A skill that this user may see.
    pub(super) async fn skill(&self, user: &User, name: &str, fresh: bool) -> Result<(Arc<Shelf>, Arc<Skill>), Wrong> {
        if !layout::is_name(name) {
            return Err(Wrong::bad("a name has up to 64 of the characters a-z, 0-9 and -"));
        }
        let shelf = self.shelf(fresh).await?;
        let skill = shelf.find(name).ok_or_else(|| Wrong::unknown(format!("there is no skill {name}")))?;
        if !shelf.access.may_read(user, name) {
            return Err(Wrong::forbidden(format!("you may not see the skill {name}")));
        }
        Ok((shelf.clone(), skill))
    }

    /// A skill that this user may change.
    pub(super) async fn editable(&self, user: &User, name: &str) -> Result<(Arc<Shelf>, Arc<Skill>), Wrong> {
        let (shelf, skill) = self.skill(user, name, true).await?;
        if !shelf.access.may_write(user, name) {
            return Err(Wrong::forbidden(format!("you may not change the skill {name}")));
        }
        Ok((shelf, skill))
    }

    /// A skill that this user may see, the paths within it, and its `SKILL.md`.
    pub(super) async fn shown(&self, user: &User, name: &str) -> Result<(Arc<Shelf>, Arc<Skill>, (Vec<String>, String)), Wrong> {
        let mut tries = 0;
        loop {
            let (shelf, skill) = self.skill(user, name, tries > 0).await?;
            tries += 1;
            match self.contents(&shelf, &skill).await {
                // It has changed since it was seen.
                Err(wrong) if wrong.is_conflict() && tries < CHANGES => {}
                found => return found.map(|found| (shelf, skill, found)),
            }
        }
    }

    /// A skill that this user may see, or change, and all of its files, as they were at one moment.
    pub(super) async fn whole(&self, user: &User, name: &str, to_edit: bool) -> Result<(Arc<Shelf>, Arc<Skill>, Vec<File>), Wrong> {
        let mut tries = 0;
        loop {
            let seen = if to_edit { self.editable(user, name).await } else { self.skill(user, name, tries > 0).await };
            let (shelf, skill) = seen?;
            tries += 1;
            match self.files(&shelf, &skill).await {
                // As above.
                Err(wrong) if wrong.is_conflict() && tries < CHANGES => {}
                found => return found.map(|found| (shelf, skill, found)),
            }
        }
    }

    async fn contents(&self, shelf: &Shelf, skill: &Skill) -> Result<(Vec<String>, String), Wrong> {
        let prefix = skill.prefix();
        let all = shelf.tree.files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let paths = all.filter_map(|(path, _)| path.get(prefix.len()..)).filter(|path| layout::check_path(path).is_ok());
        let paths = paths.take(MAX_SKILL_FILES).map(str::to_owned).collect();
        let md = format!("{prefix}SKILL.md");
        let leaf = shelf.tree.files.get(&md).ok_or_else(|| Wrong::unknown(format!("{} has no SKILL.md any more", skill.name)))?;
        let bytes = self.blobs.read(&self.source, &shelf.tree, &md, leaf).await?;
        Ok((paths, String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn files(&self, shelf: &Shelf, skill: &Skill) -> Result<Vec<File>, Wrong> {
        let prefix = skill.prefix();
        let all: Vec<_> = shelf.tree.below(&prefix).collect();
        let n_bytes: u64 = all.iter().map(|(_, leaf)| leaf.n_bytes).sum();
        if all.len() > MAX_SKILL_FILES || n_bytes > MAX_SKILL_BYTES {
            return Err(Wrong::broken(format!("the skill {} has too many or too large files", skill.name)));
        }
        let mut files = Vec::new();
        for (path, leaf) in all {
            let inner = path.strip_prefix(&prefix).unwrap_or(path);
            // What somebody has put there by hand goes nowhere else.
            if layout::check_path(inner).is_ok() {
                let content = self.blobs.read(&self.source, &shelf.tree, path, leaf).await?;
                files.push(File { path: inner.to_owned(), content, is_program: leaf.is_program });
            }
        }
        Ok(files)
    }

    /// Changes something: `think` says what becomes of files, in what words, and what the caller is told.
    pub(super) async fn change<T>(&self, think: impl Fn(&Shelf) -> Result<(Changes, String, T), Wrong>) -> Result<T, Wrong> {
        let turn = tokio::time::timeout(3 * MAX_WAIT, self.turn.lock()).await;
        let _turn = turn.map_err(|_| Wrong::busy("others change the marketplace; try again later"))?;
        let mut last = Wrong::conflict("the marketplace changes all the time; try again");
        for _ in 0..CHANGES {
            let shelf = self.shelf(true).await?;
            let (changes, message, told) = think(&shelf)?;
            fits(&shelf, &changes)?;
            match self.source.commit(&shelf.tree, changes, &message).await {
                Ok(()) => {
                    *self.last.lock().await = None;
                    return Ok(told);
                }
                Err(wrong) if wrong.is_conflict() => last = wrong,
                Err(wrong) => return Err(wrong),
            }
        }
        Err(last)
    }
}

/// What could not be read again afterwards is not written. No file may stand where another has its directory.
fn fits(shelf: &Shelf, changes: &Changes) -> Result<(), Wrong> {
    if let Some((path, _)) =
        changes.iter().find(|(_, content)| content.as_ref().is_some_and(|content| content.len() as u64 > MAX_FILE_BYTES))
    {
        return Err(Wrong::bad(format!("{path} would be larger than {MAX_FILE_BYTES} bytes")));
    }
    let kept = shelf.tree.files.keys().map(String::as_str).filter(|path| !matches!(changes.get(*path), Some(None)));
    let put = changes.iter().filter(|(_, content)| content.is_some()).map(|(path, _)| path.as_str());
    let all: BTreeSet<&str> = kept.chain(put.clone()).collect();
    if all.len() > MAX_FILES {
        return Err(Wrong::bad(format!("the marketplace has at most {MAX_FILES} files")));
    }
    for path in put {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]).find(|above| all.contains(above));
        let dir = format!("{path}/");
        let below = all.range(dir.as_str()..).next().filter(|next| next.starts_with(&dir));
        if let Some(other) = above.or(below.copied()) {
            return Err(Wrong::bad(format!("{path} and {other} cannot both be files")));
        }
    }
    Ok(())
}
