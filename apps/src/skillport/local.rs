//! A marketplace in a directory.
//!
//! ```text
//!   commit:  lock ▶ is it still the tree that was read? ▶ write all to .skillport/new-… ▶ sync
//!            ▶ rename that to .skillport/pending (from here on it counts) ▶ move each file to its place ▶ remove pending
//! ```
//!
//! Whoever looks at the directory after a crash finishes what is pending, before anything is read. Readers hold the lock
//! together, writers alone; other processes on this machine hold it as well. A file is read as it was in the tree that
//! was seen, or not at all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use landbridge_proto::oauth::secret::Hash;
use serde::{Deserialize, Serialize};

use super::source::{Changes, Leaf, MAX_FILE_BYTES, MAX_FILES, Tree};
use super::wrong::Wrong;

/// What is ours within the directory, besides the rules of access.
const OWN: &str = ".skillport";
const LOCK: &str = ".skillport/lock";
const PENDING: &str = ".skillport/pending";
const PLAN: &str = "plan.json";

/// How deep directories may lie in one another.
const MAX_DEPTH: usize = 24;

#[derive(Clone, Debug)]
pub(super) struct Local {
    root: PathBuf,
}

/// What is done with what was written beside.
#[derive(Serialize, Deserialize)]
struct Plan {
    /// Which of the numbered files goes where.
    put: BTreeMap<String, usize>,
    delete: Vec<String>,
}

impl Local {
    /// Opens a directory, which is made if need be; finishes what was begun there.
    pub(super) fn open(root: &Path) -> Result<Local, String> {
        let local = Local { root: root.to_owned() };
        let told = |e: io::Error| format!("the marketplace {} cannot be opened: {e}", root.display());
        fs::create_dir_all(root.join(OWN)).map_err(told)?;
        let lock = local.lock().map_err(told)?;
        lock.lock().map_err(told)?;
        local.finish().map_err(told)?;
        let own = fs::read_dir(root.join(OWN)).map_err(told)?;
        for left in own.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("new-")) {
            // Of somebody who did not come as far as to make it count.
            fs::remove_dir_all(left.path()).map_err(told)?;
        }
        Ok(local)
    }

    pub(super) async fn tree(&self) -> Result<Tree, Wrong> {
        self.blocking(|local| {
            let _lock = local.lock_to_read()?;
            local.scan()
        })
        .await
    }

    /// What is in a file, unless it is another by now than it was in the tree.
    pub(super) async fn read(&self, path: &str, was: &Leaf) -> Result<Bytes, Wrong> {
        let (path, was) = (path.to_owned(), was.clone());
        let read = self.blocking(move |local| {
            let _lock = local.lock_to_read()?;
            let mut file = match File::open(local.root.join(&path)) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            if leaf(&file.metadata()?) != was {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            io::Read::by_ref(&mut file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > MAX_FILE_BYTES {
                return Err(io::Error::other(format!("{path} is larger than {MAX_FILE_BYTES} bytes")));
            }
            Ok(Some(bytes.into()))
        });
        read.await?.ok_or_else(changed)
    }

    pub(super) async fn commit(&self, base: String, changes: Changes) -> Result<(), Wrong> {
        let done = self.blocking(move |local| {
            let lock = local.lock()?;
            lock.lock()?;
            local.finish()?;
            if local.scan()?.revision != base {
                return Ok(false);
            }
            for path in changes.keys() {
                local.check(path)?;
            }
            local.stage(changes)?;
            local.finish()?;
            Ok(true)
        });
        if done.await? { Ok(()) } else { Err(changed()) }
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(Local) -> io::Result<T> + Send + 'static) -> Result<T, Wrong> {
        let local = self.clone();
        let told = |e: &dyn std::fmt::Display| {
            tracing::warn!(error = %e, "the directory of the marketplace failed");
            Wrong::broken("the directory of the marketplace cannot be used at the moment")
        };
        match tokio::task::spawn_blocking(move || work(local)).await {
            Ok(done) => done.map_err(|e| told(&e)),
            Err(e) => Err(told(&e)),
        }
    }

    fn lock(&self) -> io::Result<File> {
        File::options().create(true).truncate(false).write(true).open(self.root.join(LOCK))
    }

    /// With nothing pending that another process has left.
    fn lock_to_read(&self) -> io::Result<File> {
        loop {
            let lock = self.lock()?;
            lock.lock_shared()?;
            if !self.root.join(PENDING).exists() {
                return Ok(lock);
            }
            drop(lock);
            let lock = self.lock()?;
            lock.lock()?;
            self.finish()?;
        }
    }

    fn scan(&self) -> io::Result<Tree> {
        let mut files = BTreeMap::new();
        let mut todo = vec![(String::new(), 0)];
        while let Some((dir, depth)) = todo.pop() {
            for entry in fs::read_dir(self.root.join(&dir))? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                let kind = entry.file_type()?;
                // A link could lead anywhere.
                if kind.is_dir() && path != ".git" && !path.starts_with(&format!("{OWN}/")) && depth < MAX_DEPTH {
                    todo.push((path, depth + 1));
                } else if kind.is_file() && path != LOCK {
                    if files.len() == MAX_FILES {
                        return Err(io::Error::other(format!("there are more than {MAX_FILES} files")));
                    }
                    // Somebody else may have removed it by hand meanwhile.
                    match entry.metadata() {
                        Ok(metadata) => drop(files.insert(path, leaf(&metadata))),
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        let all: String = files.iter().map(|(path, leaf): (&String, &Leaf)| format!("{path}\0{}\0", leaf.id)).collect();
        Ok(Tree { revision: Hash::of(&all).to_string(), files })
    }

    /// Fails where a file cannot be put: behind a link, which could lead anywhere, or in place of a directory. What
    /// counts has to be done, so this is asked before.
    fn check(&self, path: &str) -> io::Result<()> {
        let file = self.root.join(path);
        for above in file.ancestors().take_while(|above| *above != self.root) {
            match fs::symlink_metadata(above) {
                Ok(found) if found.is_symlink() || (above != file) != found.is_dir() => {
                    return Err(io::Error::other(format!("{path} cannot be put beside what is there")));
                }
                Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what is to come beside what is, and makes it count.
    fn stage(&self, changes: Changes) -> io::Result<()> {
        let new = self.root.join(OWN).join(format!("new-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&new)?;
        let mut plan = Plan { put: BTreeMap::new(), delete: Vec::new() };
        for (number, (path, content)) in changes.into_iter().enumerate() {
            match content {
                Some(content) => {
                    let file = new.join(number.to_string());
                    write(&file, &content)?;
                    // What could be run still can.
                    if let Ok(was) = fs::metadata(self.root.join(&path)) {
                        fs::set_permissions(&file, was.permissions())?;
                    }
                    plan.put.insert(path, number);
                }
                None => plan.delete.push(path),
            }
        }
        write(&new.join(PLAN), &serde_json::to_vec(&plan)?)?;
        sync(&new)?;
        fs::rename(&new, self.root.join(PENDING))?;
        sync(&self.root.join(OWN))
    }

    /// Does what is pending, as often as need be.
    fn finish(&self) -> io::Result<()> {
        let pending = self.root.join(PENDING);
        let plan: Plan = match fs::read(pending.join(PLAN)) {
            Ok(plan) => serde_json::from_slice(&plan)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // All was done, and the rest of it not yet removed.
                return if pending.exists() { fs::remove_dir_all(&pending) } else { Ok(()) };
            }
            Err(e) => return Err(e),
        };
        for path in &plan.delete {
            let file = self.root.join(path);
            match fs::remove_file(&file) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => self.prune(&file),
            }
        }
        for (path, number) in &plan.put {
            let (from, to) = (pending.join(number.to_string()), self.root.join(path));
            if let Some(dir) = to.parent() {
                fs::create_dir_all(dir)?;
            }
            match fs::rename(&from, &to) {
                // It was moved before a crash.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
                Ok(()) => to.parent().map_or(Ok(()), sync)?,
            }
        }
        fs::remove_file(pending.join(PLAN))?;
        fs::remove_dir_all(&pending)
    }

    /// Removes directories that have nothing in them any more.
    fn prune(&self, file: &Path) {
        for dir in file.ancestors().skip(1).take_while(|dir| *dir != self.root) {
            if fs::remove_dir(dir).is_err() {
                return;
            }
        }
    }
}

fn changed() -> Wrong {
    Wrong::conflict("the marketplace has changed at the same time; try again")
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A file as the system knows it: what is written anew has another time, and mostly another number.
fn leaf(metadata: &fs::Metadata) -> Leaf {
    let at = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    #[cfg(unix)]
    let (number, mode) = (std::os::unix::fs::MetadataExt::ino(metadata), std::os::unix::fs::MetadataExt::mode(metadata));
    #[cfg(not(unix))]
    let (number, mode) = (0, 0);
    let id = format!("{number}-{}-{}-{mode}", at.as_nanos(), metadata.len());
    Leaf { id, n_bytes: metadata.len(), is_program: mode & 0o100 != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Dir {
            Dir(std::env::temp_dir().join(format!("skillport-local-{}", uuid::Uuid::new_v4())))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn changes(all: &[(&str, Option<&'static str>)]) -> Changes {
        all.iter().map(|(path, content)| ((*path).to_owned(), content.map(|text| Bytes::from_static(text.as_bytes())))).collect()
    }

    #[tokio::test]
    async fn several_files_change_at_once_or_not_at_all() {
        let dir = Dir::new();
        let local = Local::open(&dir.0).unwrap();
        let empty = local.tree().await.unwrap();
        local.commit(empty.revision.clone(), changes(&[("a/b.txt", Some("1")), ("c.txt", Some("2"))])).await.unwrap();
        let tree = local.tree().await.unwrap();
        assert_eq!(tree.files.keys().collect::<Vec<_>>(), ["a/b.txt", "c.txt"]);
        assert_eq!(local.read("a/b.txt", &tree.files["a/b.txt"]).await.unwrap(), "1");
        let late = local.commit(empty.revision, changes(&[("c.txt", Some("3"))])).await.unwrap_err();
        assert!(late.is_conflict());
        local.commit(tree.revision, changes(&[("a/b.txt", None)])).await.unwrap();
        assert_eq!(local.tree().await.unwrap().files.keys().collect::<Vec<_>>(), ["c.txt"]);
        assert!(!dir.0.join("a").exists());
    }

    #[tokio::test]
    async fn what_was_cut_off_is_finished_or_forgotten() {
        let dir = Dir::new();
        let local = Local::open(&dir.0).unwrap();
        // It counts, and one of two files was moved.
        local.stage(changes(&[("a.txt", Some("1")), ("b.txt", Some("2"))])).unwrap();
        fs::rename(dir.0.join(PENDING).join("0"), dir.0.join("a.txt")).unwrap();
        // It does not count.
        fs::create_dir(dir.0.join(OWN).join("new-x")).unwrap();
        fs::write(dir.0.join(OWN).join("new-x").join("0"), "3").unwrap();
        let local_again = Local::open(&dir.0).unwrap();
        let tree = local_again.tree().await.unwrap();
        for (path, content) in [("a.txt", "1"), ("b.txt", "2")] {
            assert_eq!(local_again.read(path, &tree.files[path]).await.unwrap(), content);
        }
        assert_eq!(fs::read_dir(dir.0.join(OWN)).unwrap().count(), 1, "the lock alone");
    }

    #[tokio::test]
    async fn what_another_process_left_half_done_is_finished_by_whoever_looks() {
        let dir = Dir::new();
        let (one, other) = (Local::open(&dir.0).unwrap(), Local::open(&dir.0).unwrap());
        one.stage(changes(&[("a.txt", Some("1")), ("b.txt", Some("2"))])).unwrap();
        fs::rename(dir.0.join(PENDING).join("0"), dir.0.join("a.txt")).unwrap();
        assert_eq!(other.tree().await.unwrap().files.keys().collect::<Vec<_>>(), ["a.txt", "b.txt"]);
    }

    #[tokio::test]
    async fn a_file_is_read_as_it_was_or_not_at_all() {
        let dir = Dir::new();
        let local = Local::open(&dir.0).unwrap();
        local.commit(local.tree().await.unwrap().revision, changes(&[("a.txt", Some("1")), ("b.txt", Some("1"))])).await.unwrap();
        let tree = local.tree().await.unwrap();
        local.commit(tree.revision.clone(), changes(&[("a.txt", Some("2")), ("b.txt", None)])).await.unwrap();
        for path in ["a.txt", "b.txt"] {
            assert!(local.read(path, &tree.files[path]).await.unwrap_err().is_conflict(), "{path}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn what_cannot_be_put_changes_nothing_else() {
        let dir = Dir::new();
        let local = Local::open(&dir.0).unwrap();
        let before = local.tree().await.unwrap();
        fs::create_dir(dir.0.join("z.txt")).unwrap();
        std::os::unix::fs::symlink("/tmp", dir.0.join("link")).unwrap();
        for last in ["z.txt", "link/x.txt", "link"] {
            let both = changes(&[("a.txt", Some("1"))]).into_iter().chain([(last.to_owned(), Some(Bytes::from_static(b"2")))]).collect();
            assert!(local.commit(before.revision.clone(), both).await.is_err(), "{last}");
            assert!(!dir.0.join("a.txt").exists() && local.tree().await.unwrap().files.is_empty(), "{last}");
        }
    }

    #[tokio::test]
    async fn a_link_is_no_way_out() {
        let dir = Dir::new();
        let local = Local::open(&dir.0).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc", dir.0.join("plugins")).unwrap();
        assert_eq!(local.tree().await.unwrap().files.len(), 0);
    }
}
