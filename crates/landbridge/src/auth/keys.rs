//! API keys: for clients that cannot log in, and for machines.
//!
//! ```text
//!   lbk_<12 letters, its id>_<43 letters>      ours, kept under its hash
//!   MCP_API_KEY_1=key:owner:tenant:expires     from the environment; all but key and owner may be left out
//! ```

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use landbridge_proto::call::{Person, Principal};
use landbridge_proto::oauth::secret::{Hash, spell};

use crate::auth::{Identity, Opens};
use crate::store::{Kind, Pages, Record, Store, Trouble};

/// What ours begin with, so that they are found where they have leaked to.
const MARK: &str = "lbk_";

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// By which it is listed and revoked.
    pub id: String,
    /// Whose it is. All keys of an owner are one principal.
    pub owner: String,
    /// A part of a larger whole that the owner belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What it may; `None`: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Which servers it is for; `None`: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servers: Option<Vec<String>>,
    /// Since when, in seconds since 1970.
    #[serde(default)]
    pub since_s: u64,
}

impl Key {
    fn identity(self, expires_s: Option<u64>) -> Identity {
        let (name, principal) = match &self.tenant {
            // With the length of the one, so that no two are written alike.
            Some(tenant) => (format!("{tenant}/{}", self.owner), format!("key-of {}:{tenant}/{}", tenant.len(), self.owner)),
            None => (self.owner.clone(), format!("key {}", self.owner)),
        };
        let person = Person { issuer: "key".into(), subject: self.owner, tenant: self.tenant, ..Person::default() };
        Identity {
            principal: Principal::of(&principal, person),
            name,
            via: format!("key {}", self.id),
            scopes: self.scopes,
            servers: self.servers,
            opens: Opens::Everything,
            expires_s,
            grant: Some(format!("key {}", self.id)),
        }
    }
}

/// Whether `text` looks like one of ours.
pub fn is_one(text: &str) -> bool {
    text.strip_prefix(MARK).and_then(|rest| rest.split_once('_')).is_some_and(|(id, secret)| id.len() == 12 && secret.len() == 43)
}

/// Whether `text` is a token where anything goes that looks like one: 32 digits of hexadecimal.
pub fn is_for_tests(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Who comes with such a one: nobody else, and nobody who has a name. It cannot be withdrawn.
pub fn for_tests(hash: &Hash) -> Identity {
    let owner = format!("test {hash}");
    let key = Key { id: "of tests".into(), owner, tenant: None, scopes: None, servers: None, since_s: 0 };
    Identity { grant: None, ..key.identity(None) }
}

/// Makes a key and keeps it: its text, which is told this once. `random` becomes id and secret.
pub async fn add(store: &dyn Store, mut key: Key, expires_s: Option<u64>, [for_id, for_secret]: [[u8; 32]; 2]) -> Result<String, Trouble> {
    key.id = for_id.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{MARK}{}_{}", key.id, spell(for_secret));
    let value = serde_json::to_string(&key).map_err(|e| Trouble::Unusable(e.to_string()))?;
    store.put(Kind::Key, &Hash::of(&text).to_string(), Record { value, expires_s }).await?;
    Ok(text)
}

/// Finds the key of that hash.
pub async fn find(store: &dyn Store, hash: &Hash, now_s: u64) -> Result<Option<Identity>, Trouble> {
    let Some(record) = store.get(Kind::Key, &hash.to_string(), now_s).await? else { return Ok(None) };
    let expires_s = record.expires_s;
    read(&record).map(|key| Some(key.identity(expires_s)))
}

/// Every key there is, with the hash it is kept under and its end.
pub async fn all(store: &dyn Store, now_s: u64) -> Result<Vec<(String, Key, Option<u64>)>, Trouble> {
    let (mut all, mut pages) = (Vec::new(), Pages::of(store, Kind::Key, now_s));
    while let Some(page) = pages.next().await? {
        for (hash, record) in page {
            all.push((hash, read(&record)?, record.expires_s));
        }
    }
    Ok(all)
}

/// Revokes the key of that id; whether there was one.
pub async fn revoke(store: &dyn Store, id: &str, now_s: u64) -> Result<bool, Trouble> {
    let mut gone = false;
    for (hash, key, _) in all(store, now_s).await? {
        if key.id == id {
            gone |= store.take(Kind::Key, &hash, now_s).await?.is_some();
        }
    }
    Ok(gone)
}

fn read(record: &Record) -> Result<Key, Trouble> {
    serde_json::from_str(&record.value).map_err(|e| Trouble::Unusable(format!("a key in the store cannot be read: {e}")))
}

/// A key of the environment, by the hash of its text.
#[derive(Clone, PartialEq, Eq)]
pub struct Given {
    hash: Hash,
    key: Key,
    expires_s: Option<u64>,
    is_short: bool,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Given({})", self.key.owner)
    }
}

impl Given {
    /// Reads `key:owner:tenant:expires`, of the variable `name`; the end is a time as RFC 3339 has it.
    pub fn read(name: &str, text: &str) -> Result<Given, String> {
        let mut parts = text.splitn(4, ':').map(str::trim);
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (key, owner, tenant, expires) = (next(), next(), next(), next());
        let key = key.ok_or(format!("{name}: the key is missing; write KEY:OWNER"))?;
        let owner = owner.ok_or(format!("{name}: the owner is missing; write KEY:OWNER"))?;
        let expires_s =
            expires.map(|text| time(text).ok_or(format!("{name}: the end is no time; write 2027-01-31T00:00:00Z"))).transpose()?;
        let (owner, tenant) = (owner.to_owned(), tenant.map(str::to_owned));
        let key_of = Key { id: name.to_owned(), owner, tenant, scopes: None, servers: None, since_s: 0 };
        Ok(Given { hash: Hash::of(key), key: key_of, expires_s, is_short: key.len() < 16 })
    }

    /// The same for a key that may hold any characters, of the variable `name`. It has no tenant, and no end.
    pub fn of(name: &str, key: &str, owner: &str) -> Given {
        let key_of = Key { id: name.to_owned(), owner: owner.to_owned(), tenant: None, scopes: None, servers: None, since_s: 0 };
        Given { hash: Hash::of(key), key: key_of, expires_s: None, is_short: key.len() < 16 }
    }

    /// Whether it has fewer than 16 characters, and could be guessed.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// Those of the environment, and what is wrong with others.
    pub fn from_environment(vars: impl IntoIterator<Item = (String, String)>) -> (Vec<Given>, Vec<String>) {
        let named = |name: &str| {
            let number = name.strip_prefix("LANDBRIDGE_API_KEY_").or_else(|| name.strip_prefix("MCP_API_KEY_"));
            number.is_some_and(|number| !number.is_empty() && number.len() < 4 && number.bytes().all(|b| b.is_ascii_digit()))
        };
        let (mut given, mut wrong) = (Vec::new(), Vec::new());
        for (name, text) in vars.into_iter().filter(|(name, _)| named(name)) {
            match Given::read(&name, &text) {
                Ok(key) if key.is_short => wrong.push(format!("{name}: the key has fewer than 16 characters, and could be guessed")),
                Ok(key) => given.push(key),
                Err(why) => wrong.push(why),
            }
        }
        (given, wrong)
    }
}

/// A time of RFC 3339, or a day, in seconds since 1970.
pub fn time(text: &str) -> Option<u64> {
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| day.timestamp());
    let time = if text.len() == "2027-01-31".len() { day()? } else { text.parse::<jiff::Timestamp>().ok()? };
    u64::try_from(time.as_second()).ok()
}

/// The end that somebody means by a day, a time, or a while from now: `90d`, `12h`.
pub fn until(when: &str, now_s: u64) -> Result<u64, String> {
    let unit_s = match when.chars().last() {
        Some('d') => 24 * 3600,
        Some('h') => 3600,
        _ => 0,
    };
    let number = when.get(..when.len().saturating_sub(1)).and_then(|number| number.parse::<u64>().ok());
    let end_s = match number.filter(|_| unit_s > 0) {
        Some(number) => {
            number.checked_mul(unit_s).and_then(|while_s| now_s.checked_add(while_s)).filter(|end_s| i64::try_from(*end_s).is_ok())
        }
        None => time(when),
    };
    let end_s = end_s
        .ok_or_else(|| format!("{when:?} is no time; write a day (2027-01-31), a time (2027-01-31T12:00:00Z) or a while (90d, 12h)"))?;
    if end_s <= now_s { Err(format!("{when:?} is over already")) } else { Ok(end_s) }
}

/// A time as people read it (RFC 3339).
pub fn date(at_s: u64) -> String {
    let time = i64::try_from(at_s).ok().and_then(|at_s| jiff::Timestamp::from_second(at_s).ok());
    time.map_or_else(|| "never".into(), |time| time.to_string())
}

/// The keys of the environment, by their hashes.
pub(super) struct Keys(HashMap<[u8; 32], Given>);

impl Keys {
    pub(super) fn new(given: &[Given]) -> Keys {
        Keys(given.iter().map(|given| (*given.hash.as_bytes(), given.clone())).collect())
    }

    pub(super) fn find(&self, hash: &Hash, now_s: u64) -> Option<Identity> {
        let given = self.0.get(hash.as_bytes())?;
        given.expires_s.is_none_or(|expires_s| now_s < expires_s).then(|| given.key.clone().identity(given.expires_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, at_s) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-20T22:00:00Z", 1_795_212_000),
            ("2024-02-29", 1_709_164_800),
            ("2026-11-20T23:30:00.5+01:30", 1_795_212_000),
            ("2100-03-01", 4_107_542_400),
        ] {
            assert_eq!(time(text), Some(at_s), "{text}");
        }
        assert_eq!(date(1_795_212_000), "2026-11-20T22:00:00Z");
        assert_eq!(date(u64::MAX), "never");
        for bad in ["", "tomorrow", "2026-13-01", "2026-11-20T25:00:00Z", "2026-11-20T10:00", "1969-01-01"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_of_the_environment_have_an_owner() {
        let vars = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        let (given, wrong) = Given::from_environment(vars(&[
            ("MCP_API_KEY_1", "sesame-sesame-sesame:ada"),
            ("MCP_API_KEY_2", "sesame-sesame-sesame2:ada:acme:2001-01-01T00:00:00Z"),
            ("LANDBRIDGE_API_KEY_3", "sesame-sesame-sesame3:bob:"),
            ("MCP_API_KEY_4", "sesame-sesame-sesame4"),
            ("MCP_API_KEY_5", "short:ada"),
            ("MCP_API_KEY_6", "sesame-sesame-sesame6:ada::soon"),
            ("MCP_API_KEY_X", "x"),
            ("PATH", "x"),
        ]));
        assert_eq!((given.len(), wrong.len()), (3, 3), "{wrong:?}");
        assert!(wrong.iter().all(|why| !why.contains("sesame")), "{wrong:?}");
        let keys = Keys::new(&given);
        let ada = keys.find(&Hash::of("sesame-sesame-sesame"), 1_000_000_000).unwrap();
        assert_eq!((ada.principal, ada.name.as_str(), ada.scopes), (Principal::named("key ada"), "ada", None));
        assert!(keys.find(&Hash::of("sesame-sesame-sesame2"), 1_000_000_000).is_none(), "it has expired");
        assert!(keys.find(&Hash::of("other"), 1_000_000_000).is_none());
        assert!(!format!("{given:?}").contains("sesame"));
    }
}
