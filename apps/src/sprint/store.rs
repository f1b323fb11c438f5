//! Reports that were made, as files: `MILLISECONDS-SPRINT-ID.FORMAT`. The newest 200 are kept.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

const KEPT: usize = 200;

#[derive(Debug)]
pub(super) struct Store(PathBuf);

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Store, String> {
        std::fs::create_dir_all(dir).map_err(|e| format!("SPRINT_DATA: {} cannot be made: {e}", dir.display()))?;
        Ok(Store(dir.to_owned()))
    }

    /// Keeps a report, whole or not at all. Returns its id.
    pub(super) fn save(&self, sprint: u64, format: &str, text: &str) -> Result<String, String> {
        let id = uuid::Uuid::new_v4().to_string();
        let name = format!("{:013}-{sprint}-{id}.{format}", jiff::Timestamp::now().as_millisecond());
        let (temporary, path) = (self.0.join(format!(".{name}")), self.0.join(&name));
        let write = || {
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            std::fs::File::open(&self.0)?.sync_all()
        };
        write().map_err(|e| format!("the report cannot be kept: {e}"))?;
        for old in self.names().into_iter().skip(KEPT) {
            // Another call may have been faster.
            let _ = std::fs::remove_file(self.0.join(old));
        }
        Ok(id)
    }

    /// Their names, the newest first.
    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            all.filter_map(|file| file.file_name().into_string().ok()).filter(|name| !name.starts_with('.')).collect();
        names.sort_by(|a, b| b.cmp(a));
        names
    }

    pub(super) fn list(&self) -> Vec<Value> {
        self.names().iter().filter_map(|name| shown(name)).collect()
    }

    fn find(&self, id: &str) -> Option<String> {
        let id = uuid::Uuid::parse_str(id).ok()?.to_string();
        self.names().into_iter().find(|name| name.contains(&id))
    }

    /// A report and its format.
    pub(super) fn read(&self, id: &str) -> Option<(String, String)> {
        let name = self.find(id)?;
        let format = name.rsplit('.').next()?.to_owned();
        Some((std::fs::read_to_string(self.0.join(name)).ok()?, format))
    }

    pub(super) fn delete(&self, id: &str) -> bool {
        self.find(id).is_some_and(|name| std::fs::remove_file(self.0.join(name)).is_ok())
    }
}

fn shown(name: &str) -> Option<Value> {
    let (stem, format) = name.rsplit_once('.')?;
    let mut parts = stem.splitn(3, '-');
    let (at, sprint, id) = (parts.next()?.parse().ok()?, parts.next()?.parse::<u64>().ok()?, parts.next()?);
    let at = jiff::Timestamp::from_millisecond(at).ok()?;
    Some(json!({"id": id, "sprintId": sprint, "format": format, "generatedAt": at, "uri": format!("reports://{id}")}))
}
