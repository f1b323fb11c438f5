//! A configuration that changes while it is served.
//!
//! The file is looked at twice a second, and on SIGHUP at once. What is new is read, checked and taken
//! over as a whole, or refused with everything that is wrong with it; then the old plan stays. Odd: a
//! file that is being written is half a file, and half a configuration is often a good one, so a new
//! one counts only when it has not changed for one look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::config::{Config, Faults};
use crate::gateway::{Changed, Gateway};

/// From one look at the file to the next.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Keeps a gateway at what `read` makes of the file, for as long as it runs.
pub async fn watch(gateway: Arc<Gateway>, file: PathBuf, read: impl Fn() -> Result<Config, Faults>) {
    let mut hangups = Hangups::new();
    let mut looks = tokio::time::interval(LOOK);
    let mut file = Watched::new(file);
    loop {
        tokio::select! {
            _ = looks.tick() => if !file.has_changed() { continue },
            () = hangups.next() => {}
        }
        if *gateway.draining.borrow() {
            return;
        }
        // Reading waits for a disk, and looking up the name to listen on for a network.
        let taken = tokio::task::block_in_place(|| read().and_then(|config| Ok((take_over(&gateway, &config)?, config))));
        match taken {
            Ok((changed, _)) if changed == Changed::default() => {}
            Ok((changed, config)) => {
                for note in config.notes() {
                    warn!("{note}");
                }
                let Changed { added, changed, removed, .. } = changed;
                info!(?added, ?changed, ?removed, "the configuration has changed, and is served");
            }
            Err(faults) => {
                for fault in faults.brief() {
                    warn!("{fault}");
                }
                warn!("the configuration has changed, and is refused; what was served before still is");
            }
        }
    }
}

/// Takes a configuration over as a whole, or not at all.
fn take_over(gateway: &Gateway, config: &Config) -> Result<Changed, Faults> {
    let plan = config.check()?;
    let mut lasting = Vec::new();
    if plan.listen != gateway.plan.listen {
        let said = format!("`listen` has changed from {} to {}, which takes a restart", gateway.plan.listen, plan.listen);
        lasting.push((vec!["listen"], said));
    }
    if plan.auth != gateway.auth().plan {
        lasting.push((vec!["auth"], "`auth` has changed, which takes a restart".into()));
    }
    if plan.tls != gateway.plan.tls {
        lasting.push((
            vec!["tls"],
            "`tls` has changed, which takes a restart; files that it names are taken over when they change".to_owned(),
        ));
    }
    if plan.audit != gateway.plan.audit {
        lasting.push((vec!["audit"], "`audit` has changed, which takes a restart".into()));
    }
    let of = |limits, rates| (serde_json::to_value(limits).unwrap_or_default(), serde_json::to_value(rates).unwrap_or_default());
    let (was, is) = (of(gateway.plan.limits, gateway.plan.rates), of(plan.limits, plan.rates));
    for (table, old, new) in [("limits", &was.0, &is.0), ("rates", &was.1, &is.1)] {
        for (name, old) in old.as_object().into_iter().flatten().filter(|(name, old)| new[name] != **old) {
            let said = format!("`{table}.{name}` has changed from {old} to {}, which takes a restart", new[name]);
            lasting.push((vec![table, name], said));
        }
    }
    match config.refuse(&lasting) {
        Some(faults) => Err(faults),
        None => gateway.change(plan).map_err(Faults::from),
    }
}

/// A file, and what it looked like when it was last looked at.
pub(crate) struct Watched {
    file: PathBuf,
    seen: Option<Stamp>,
    settled: bool,
}

impl Watched {
    /// One that the first look finds to have changed, if it is there.
    pub(crate) fn new(file: PathBuf) -> Watched {
        // Nothing was seen yet, so that finds what may have changed since it was read to be served.
        Watched { file, seen: None, settled: true }
    }

    /// Whether it is another file than it was, and has been for one look.
    pub(crate) fn has_changed(&mut self) -> bool {
        let Some(now) = stamp(&self.file) else { return false };
        if self.seen.as_ref() != Some(&now) {
            (self.seen, self.settled) = (now.into(), false);
            return false;
        }
        !std::mem::replace(&mut self.settled, true)
    }
}

/// What is another when a file is. Of a file that is missing, being replaced perhaps: none yet.
type Stamp = (u64, u64, i64, i64, u64);

#[cfg(unix)]
fn stamp(file: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    // A pipe can be read once only. The time of the last change of its inode is what no tool can set.
    let found = std::fs::metadata(file).ok().filter(|found| found.is_file())?;
    Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec(), found.len()))
}

#[cfg(not(unix))]
fn stamp(file: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(file).ok().filter(|found| found.is_file())?;
    let modified = found.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((0, 0, modified.as_secs() as i64, modified.subsec_nanos().into(), found.len()))
}

/// SIGHUP.
pub(crate) struct Hangups {
    #[cfg(unix)]
    signals: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    #[cfg(unix)]
    pub(crate) fn new() -> Hangups {
        Hangups { signals: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok() }
    }

    #[cfg(unix)]
    pub(crate) async fn next(&mut self) {
        let told = match &mut self.signals {
            Some(signals) => signals.recv().await,
            None => None,
        };
        if told.is_none() {
            std::future::pending().await
        }
    }

    #[cfg(not(unix))]
    pub(crate) fn new() -> Hangups {
        Hangups {}
    }

    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse("f", text.into()).unwrap()
    }

    const TWO: &str = "[servers.a]\ncommand = \"x\"\n[servers.b]\ncommand = \"y\"\n";

    fn gateway() -> Arc<Gateway> {
        Gateway::new(config(TWO).check().unwrap()).unwrap()
    }

    #[test]
    fn servers_that_did_not_change_stay() {
        let gateway = gateway();
        let (a, b) = (gateway.backend("a").unwrap(), gateway.backend("b").unwrap());
        assert_eq!(take_over(&gateway, &config(TWO)), Ok(Changed::default()));
        let next = config("[servers.a]\ncommand = \"x\"\n[servers.b]\ncommand = \"z\"\n[servers.c]\ncommand = \"z\"\n");
        let news = |added: &[&str], changed: &[&str], removed: &[&str]| {
            let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Changed { added: own(added), changed: own(changed), removed: own(removed), callers: false }
        };
        assert_eq!(take_over(&gateway, &next), Ok(news(&["c"], &["b"], &[])));
        assert!(Arc::ptr_eq(&gateway.backend("a").unwrap(), &a) && !Arc::ptr_eq(&gateway.backend("b").unwrap(), &b));
        assert!(Arc::ptr_eq(&gateway.current(&b).unwrap(), &gateway.backend("b").unwrap()));
        assert_eq!(take_over(&gateway, &config("[servers.a]\ncommand = \"x\"\n")), Ok(news(&[], &[], &["b", "c"])));
        // What belongs to its calls still finds it; new ones do not.
        assert!(gateway.backend("b").is_some() && gateway.current(&b).unwrap_err().told.contains("not served any more"));
        let may_call = Ok(Changed { callers: true, ..Changed::default() });
        assert_eq!(take_over(&gateway, &config("allow_hosts = [\"h\"]\n[servers.a]\ncommand = \"x\"\n")), may_call);
        assert_eq!(gateway.running().plan.guard.hosts, ["h"]);
    }

    #[test]
    fn what_takes_a_restart_is_refused_with_its_place_and_changes_nothing() {
        let gateway = gateway();
        let faults = take_over(
            &gateway,
            &config("listen = \"127.0.0.1:9\"\n[limits]\nsessions = 7\n[rates]\naddress_per_minute = 9\n[audit]\ncalls = true\n"),
        )
        .unwrap_err();
        let said: Vec<String> = faults.brief().collect();
        assert_eq!(
            said,
            [
                "f:1:10: `listen` has changed from 127.0.0.1:8808 to 127.0.0.1:9, which takes a restart",
                "f:3:12: `limits.sessions` has changed from 20000 to 7, which takes a restart",
                "f:5:22: `rates.address_per_minute` has changed from 0 to 9, which takes a restart",
                "f:6:2: `audit` has changed, which takes a restart",
            ]
        );
        assert_eq!(gateway.running().names().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_new_file_counts_when_it_has_not_changed_for_a_look() {
        let path = std::env::temp_dir().join(format!("landbridge-watched-{}", std::process::id()));
        let mut watched = Watched::new(path.clone());
        assert!(!watched.has_changed() && !watched.has_changed(), "there is none");
        std::fs::write(&path, "a").unwrap();
        assert!(!watched.has_changed(), "it may still be written");
        std::fs::write(&path, "ab").unwrap();
        assert!(!watched.has_changed(), "it was");
        assert!(watched.has_changed());
        assert!(!watched.has_changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!watched.has_changed() && !watched.has_changed(), "it is being replaced perhaps");
        std::fs::write(&path, "abc").unwrap();
        assert!(!watched.has_changed() && watched.has_changed());
        std::fs::remove_file(&path).unwrap();
    }
}
