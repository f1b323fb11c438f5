//! Links by which one user connects their account at one server: `…/connect/NAME?ticket=…`.
//!
//! A ticket says whose link it is, to us only: it is random, kept under its hash, counts for one login and ten
//! minutes. It is no proof of who opens the link; that is asked there.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use landbridge_proto::call::Principal;
use landbridge_proto::oauth::form::encode;
use landbridge_proto::oauth::secret::{Hash, spell};

use crate::store::{Kind, Record, Store, Trouble};
use crate::system::{now_s, random};

/// How long a link can be opened, in seconds.
pub const TICKET_S: u64 = 600;

/// Whose link it is, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The user, as [`Principal`] names them.
    pub principal: String,
    /// The server, by its name here.
    pub server: String,
}

/// Hands out links.
#[derive(Debug)]
pub struct Tickets {
    store: Arc<dyn Store>,
    /// Where we are, without a slash at the end.
    base: RwLock<String>,
}

impl Tickets {
    /// Kept in that store, for links that begin with `base`.
    pub fn new(store: Arc<dyn Store>, base: String) -> Tickets {
        Tickets { store, base: RwLock::new(base) }
    }

    /// By this URL somebody has reached us who may.
    pub fn reached_at(&self, base: &str, path: &str) {
        let is = |known: &str| known.strip_suffix(path) == Some(base);
        if !is(&self.base.read().unwrap_or_else(PoisonError::into_inner)) {
            *self.base.write().unwrap_or_else(PoisonError::into_inner) = format!("{base}{path}");
        }
    }

    /// A link for this user.
    pub async fn link(&self, principal: &Principal, server: &str) -> Result<String, Trouble> {
        let text = spell(random().map_err(Trouble::Unusable)?);
        let ticket = Ticket { principal: String::from_utf8_lossy(principal.as_bytes()).into_owned(), server: server.to_owned() };
        let value = serde_json::to_string(&ticket).map_err(|e| Trouble::Unusable(e.to_string()))?;
        self.store.put(Kind::Login, &key(&text), Record { value, expires_s: Some(now_s() + TICKET_S) }).await?;
        let base = self.base.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(format!("{base}/connect/{}?ticket={text}", encode(server)))
    }

    /// Whose ticket that is, if it counts. `take`: it does not from now on.
    pub async fn read(&self, text: &str, take: bool) -> Result<Option<Ticket>, Trouble> {
        if Hash::read(text).is_none() {
            return Ok(None);
        }
        let key = key(text);
        let found = match take {
            true => self.store.take(Kind::Login, &key, now_s()).await?,
            false => self.store.get(Kind::Login, &key, now_s()).await?,
        };
        let read =
            |record: Record| serde_json::from_str(&record.value).map_err(|e| Trouble::Unusable(format!("a ticket cannot be read: {e}")));
        found.map(read).transpose()
    }
}

fn key(text: &str) -> String {
    format!("ticket {}", Hash::of(text))
}
