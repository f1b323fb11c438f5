//! What an application is told by the environment: the process's own, and files of variables.
//!
//! What the process was given counts for more than a file. An empty value is none.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The environment. Values are secrets until somebody knows better, so it has no `Debug` of its own.
#[derive(Clone, Default)]
pub struct Settings(BTreeMap<String, String>);

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Settings {
    /// The process's environment over that of `file`: the one that was named, or `.env` if there is one here.
    pub fn read(file: Option<&Path>) -> Result<Settings, String> {
        let path = file.unwrap_or(Path::new(".env"));
        let (mut all, mut before) = (BTreeMap::new(), String::new());
        match dotenvy::from_path_iter(path) {
            Ok(lines) => {
                for line in lines {
                    let (name, value) = line.map_err(|e| unreadable(path, &before, &e))?;
                    before = format!(" behind {name}");
                    all.insert(name, value);
                }
            }
            Err(e) if file.is_none() && e.not_found() => {}
            Err(e) => return Err(format!("{} cannot be read: {e}", path.display())),
        }
        all.extend(std::env::vars());
        Ok(Settings(all))
    }

    /// These alone.
    pub fn of<'v>(all: impl IntoIterator<Item = (&'v str, &'v str)>) -> Settings {
        Settings(all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A text.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The first of these names that has a value.
    pub fn first<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<&str> {
        names.into_iter().find_map(|name| self.get(name))
    }

    /// A number, or whatever can be read.
    pub fn parse<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, String> {
        let read = |value: &str| value.parse().map_err(|_| format!("{name} is {value:?}, which is no {what}"));
        self.get(name).map(read).transpose()
    }

    /// `true` or `false`, also as `1`, `0`, `yes`, `no`, `on`, `off`.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true" | "1" | "yes" | "on") => Ok(true),
            Some("false" | "0" | "no" | "off") => Ok(false),
            Some(other) => Err(format!("{name} is {other:?}; say true or false")),
        }
    }

    /// The parts of a list with commas.
    pub fn list(&self, name: &str) -> Vec<String> {
        let parts = self.get(name).unwrap_or_default().split(',').map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// All whose names begin with that.
    pub fn beginning_with<'s>(&'s self, prefix: &'s str) -> impl Iterator<Item = (&'s str, &'s str)> {
        let all = self.0.iter().filter(move |(name, _)| name.starts_with(prefix));
        all.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether it runs in earnest, as programs of Node are told.
    pub fn is_production(&self) -> bool {
        self.get("NODE_ENV") == Some("production")
    }
}

/// What is wrong with a line, without its value, which may be a secret.
fn unreadable(path: &Path, behind: &str, error: &dotenvy::Error) -> String {
    let why = match error {
        dotenvy::Error::Io(e) if e.kind() == std::io::ErrorKind::IsADirectory => {
            return format!("{} is a directory; name a file of variables", path.display());
        }
        dotenvy::Error::LineParse(..) => "is not NAME=VALUE; quote values that have spaces".to_owned(),
        other => format!("cannot be read: {other}"),
    };
    format!("{}: the first line{behind} {why}", path.display())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_bad_ones_named() {
        let settings = Settings::of([("A", " 7 "), ("B", "yes"), ("C", ""), ("D", "x, y,,"), ("NODE_ENV", "production")]);
        assert_eq!(settings.parse::<u16>("A", "port"), Ok(Some(7)));
        assert_eq!((settings.flag("B", false), settings.flag("C", true)), (Ok(true), Ok(true)));
        assert_eq!(settings.list("D"), ["x", "y"]);
        assert_eq!(settings.flag("A", true), Err("A is \"7\"; say true or false".into()));
        assert_eq!(settings.parse::<u16>("B", "port"), Err("B is \"yes\", which is no port".into()));
        assert!(settings.is_production());
        assert_eq!(format!("{settings:?}"), r#"{"A", "B", "C", "D", "NODE_ENV"}"#);
    }

    #[test]
    fn a_broken_line_is_named_without_its_value() {
        let file = std::env::temp_dir().join(format!("landbridge-apps-{}.env", std::process::id()));
        std::fs::write(&file, "GOOD=1\nTOKEN=sec ret\n").unwrap();
        let why = Settings::read(Some(&file)).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert!(why.contains("the first line behind GOOD is not NAME=VALUE") && !why.contains("ret"), "{why}");
        assert!(Settings::read(Some(Path::new("/nowhere/at-all.env"))).unwrap_err().contains("/nowhere/at-all.env"));
    }
}
