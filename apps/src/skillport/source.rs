//! Where a marketplace is kept: a directory of this machine, or a repository at GitHub in the same layout.
//!
//! Both show a tree of files at one moment, give what is in a file, and change several files at once or none. A change
//! names the tree that it was thought out on; where somebody else was faster it is a conflict, and nothing has changed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::github::GitHub;
use super::local::Local;
use super::wrong::Wrong;

/// The most files of a marketplace.
pub(super) const MAX_FILES: usize = 20_000;
/// The most bytes of one file.
pub(super) const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;

/// All files at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// Differs where anything does.
    pub(super) revision: String,
    /// By their paths.
    pub(super) files: BTreeMap<String, Leaf>,
}

/// A file in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Two with the same id hold the same.
    pub(super) id: String,
    pub(super) n_bytes: u64,
    /// It may be run.
    pub(super) is_program: bool,
}

impl Tree {
    /// The files below a path that ends in a slash.
    pub(super) fn below<'t>(&'t self, prefix: &'t str) -> impl Iterator<Item = (&'t str, &'t Leaf)> {
        let from = self.files.range(prefix.to_owned()..);
        from.take_while(move |(path, _)| path.starts_with(prefix)).map(|(path, leaf)| (path.as_str(), leaf))
    }
}

/// What becomes of files: what is in them from now on, or nothing.
pub(super) type Changes = BTreeMap<String, Option<Bytes>>;

#[derive(Debug)]
pub(super) enum Source {
    Local(Local),
    GitHub(Box<GitHub>),
}

impl Source {
    /// What to call it to users, who need not know where a directory is.
    pub(super) fn name(&self) -> String {
        match self {
            Source::Local(_) => "a directory".into(),
            Source::GitHub(github) => github.repo().to_owned(),
        }
    }

    pub(super) async fn tree(&self) -> Result<Tree, Wrong> {
        match self {
            Source::Local(local) => local.tree().await,
            Source::GitHub(github) => github.tree().await,
        }
    }

    /// What is in a file of that tree. A conflict, if that can be had no more.
    pub(super) async fn read(&self, tree: &Tree, path: &str, leaf: &Leaf) -> Result<Bytes, Wrong> {
        match self {
            Source::Local(local) => local.read(path, leaf).await,
            Source::GitHub(github) => github.read(&tree.revision, path).await,
        }
    }

    /// Changes all of these at once.
    pub(super) async fn commit(&self, base: &Tree, changes: Changes, message: &str) -> Result<(), Wrong> {
        match self {
            Source::Local(local) => local.commit(base.revision.clone(), changes).await,
            Source::GitHub(github) => github.commit(&base.revision, changes, message).await,
        }
    }
}
