//! One item in the keyring of the system, where there is one that answers.
//!
//! A keyring can be slow, locked, or not there at all: each of its answers has a second, somebody who has to type a
//! password half a minute, and one that has failed is left alone for a while. What is done instead is
//! [`file`](super::file)'s to decide.

#[cfg(target_os = "linux")]
mod bus;
#[cfg(target_os = "linux")]
mod service;

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::backend::lock;

/// A keyring that has failed is not asked for so long.
const REST: Duration = Duration::from_secs(5 * 60);

/// By what an item is found. None of it is a secret: it can be read while the keyring is locked.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))] // nobody looks for it there
pub(super) struct Item {
    /// What people see.
    pub(super) label: String,
    pub(super) host: String,
    /// The server and the user, as their hash.
    pub(super) hash: String,
    /// Whose: tokens of another home are others.
    pub(super) home: String,
}

impl Item {
    #[cfg(target_os = "linux")]
    fn attributes(&self) -> [(&str, &str); 4] {
        [("application", "landbridge"), ("host", &self.host), ("tokens", &self.hash), ("home", &self.home)]
    }
}

/// The item, and where it is.
pub(super) struct Keyring {
    address: String,
    item: Item,
    /// When it failed last.
    failed: Mutex<Option<Instant>>,
    /// Somebody was asked to unlock it, and did not; they are not asked again.
    refused: AtomicBool,
}

/// Where the keyring of this system is asked; `None`: there is none that we know.
pub fn keyring_address() -> Option<String> {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|address| !address.is_empty());
    address.filter(|_| cfg!(target_os = "linux"))
}

impl Keyring {
    pub(super) fn new(address: String, item: Item) -> Keyring {
        Keyring { address, item, failed: Mutex::default(), refused: AtomicBool::new(false) }
    }

    /// What is kept; `None`: nothing. The error says why nobody knows.
    pub(super) async fn read(&self) -> Result<Option<String>, String> {
        self.rested()?;
        self.came(service::read(&self.address, &self.item, &self.refused).await)
    }

    /// Keeps this, in place of what was kept.
    pub(super) async fn write(&self, text: &str) -> Result<(), String> {
        self.rested()?;
        self.came(service::write(&self.address, &self.item, &self.refused, text).await)
    }

    fn rested(&self) -> Result<(), String> {
        match *lock(&self.failed) {
            Some(at) if at.elapsed() < REST => Err("it could not be used a moment ago".into()),
            _ => Ok(()),
        }
    }

    fn came<T>(&self, answer: Result<T, String>) -> Result<T, String> {
        *lock(&self.failed) = answer.is_err().then(Instant::now);
        answer
    }
}

/// No other system's keyring is known.
#[cfg(not(target_os = "linux"))]
mod service {
    use super::{AtomicBool, Item};

    pub(super) async fn read(_address: &str, _item: &Item, _refused: &AtomicBool) -> Result<Option<String>, String> {
        Err("there is none that is known".into())
    }

    pub(super) async fn write(_address: &str, _item: &Item, _refused: &AtomicBool, _text: &str) -> Result<(), String> {
        Err("there is none that is known".into())
    }
}
