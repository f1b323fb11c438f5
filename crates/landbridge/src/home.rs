//! Where this program keeps what is its own, by the environment, and out of others' sight.
//!
//! Relative paths in variables that others have named are ignored, as the XDG Base Directory Specification wants it.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// What has to last, as the store and the tokens of a user: `LANDBRIDGE_HOME`, or else where the system keeps the data
/// of a user's programs.
pub fn data() -> Option<PathBuf> {
    data_by(env)
}

/// What can be had again, as certificates: where systemd says, or else where the system keeps the state of a user's
/// programs.
pub fn state() -> Option<PathBuf> {
    state_by(env)
}

fn env(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn data_by(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(home) = env("LANDBRIDGE_HOME") {
        return Some(PathBuf::from(home));
    }
    if let Some(data) = absolute("XDG_DATA_HOME") {
        return Some(data.join("landbridge"));
    }
    if cfg!(windows) {
        return absolute("LOCALAPPDATA").map(|data| data.join("landbridge"));
    }
    let below = if cfg!(target_os = "macos") { "Library/Application Support/landbridge" } else { ".local/share/landbridge" };
    absolute("HOME").map(|home| home.join(below))
}

fn state_by(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: PathBuf| Some(path).filter(|path| path.is_absolute());
    let path = |name| absolute(env(name)?.into());
    // systemd separates several by colons.
    let systemd = env("STATE_DIRECTORY").and_then(|all| all.into_string().ok());
    if let Some(first) = systemd.and_then(|all| absolute(all.split(':').next()?.into())) {
        return Some(first);
    }
    let state = path("XDG_STATE_HOME").or_else(|| Some(path("HOME")?.join(".local/state")));
    Some(state?.join("landbridge"))
}

/// How a file is opened, to read and to write, that is for us alone if it is made by that.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a directory, and those above it, for us alone; one that is there stays as it is.
pub fn make(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(by: impl Fn(&dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf>, vars: &[(&str, &str)]) -> Option<String> {
        let env = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        by(&env).map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    #[cfg(not(any(windows, target_os = "macos")))]
    fn the_place_of_data_is_found_by_the_environment() {
        let place = |vars: &[(&str, &str)]| place(|env| data_by(env), vars);
        let home = ("HOME", "/home/ada");
        assert_eq!(place(&[home]).unwrap(), "/home/ada/.local/share/landbridge");
        assert_eq!(place(&[home, ("XDG_DATA_HOME", "/data")]).unwrap(), "/data/landbridge");
        assert_eq!(place(&[home, ("XDG_DATA_HOME", "data")]).unwrap(), "/home/ada/.local/share/landbridge");
        assert_eq!(place(&[home, ("XDG_DATA_HOME", "/data"), ("LANDBRIDGE_HOME", "/srv/lb")]).unwrap(), "/srv/lb");
        assert_eq!(place(&[("HOME", "here")]), None);
        assert_eq!(place(&[]), None);
    }

    #[test]
    #[cfg(unix)]
    fn the_place_of_state_is_found_by_the_environment() {
        let place = |vars: &[(&str, &str)]| place(|env| state_by(env), vars);
        let home = ("HOME", "/home/ada");
        assert_eq!(place(&[home]).unwrap(), "/home/ada/.local/state/landbridge");
        assert_eq!(place(&[home, ("XDG_STATE_HOME", "/state")]).unwrap(), "/state/landbridge");
        assert_eq!(place(&[home, ("STATE_DIRECTORY", "/var/lib/lb:/var/lib/other")]).unwrap(), "/var/lib/lb");
        assert_eq!(place(&[home, ("STATE_DIRECTORY", "lb")]).unwrap(), "/home/ada/.local/state/landbridge");
        assert_eq!(place(&[("HOME", "here")]), None);
    }
}
