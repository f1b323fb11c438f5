//! What was found out lately, so that a client that calls often costs a hash and a look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use landbridge_proto::oauth::secret::Hash;

use crate::auth::Identity;
use crate::backend::lock;

/// Most that is remembered.
const MOST: usize = 10_000;
/// For how long, in seconds: so late may another process learn of what was withdrawn in this one.
const KEPT_S: u64 = 15;

/// Identities by the hash of what showed them.
#[derive(Default)]
pub(super) struct Seen(Mutex<HashMap<[u8; 32], Known>>);

/// Who, and until when that counts.
type Known = (Arc<Identity>, u64);

impl Seen {
    pub(super) fn get(&self, hash: &Hash, now_s: u64) -> Option<Arc<Identity>> {
        let seen = lock(&self.0);
        let (identity, until_s) = seen.get(hash.as_bytes())?;
        (now_s < *until_s).then(|| identity.clone())
    }

    pub(super) fn remember(&self, hash: &Hash, identity: &Arc<Identity>, now_s: u64) {
        let until_s = identity.expires_s.unwrap_or(u64::MAX).min(now_s + KEPT_S);
        let mut seen = lock(&self.0);
        if seen.len() >= MOST {
            seen.retain(|_, (_, until_s)| now_s < *until_s);
        }
        if seen.len() < MOST {
            seen.insert(*hash.as_bytes(), (identity.clone(), until_s));
        }
    }

    /// Forgets this one.
    pub(super) fn remove(&self, hash: &Hash) {
        lock(&self.0).remove(hash.as_bytes());
    }

    pub(super) fn forget(&self, which: impl Fn(&Identity) -> bool) {
        lock(&self.0).retain(|_, (identity, _)| !which(identity));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::nobody;

    #[test]
    fn nothing_is_remembered_beyond_its_time_or_without_bound() {
        let seen = Seen::default();
        let who = |grant: &str, expires_s| Arc::new(Identity { grant: Some(grant.into()), expires_s, ..nobody() });
        let (a, b) = (Hash::of("a"), Hash::of("b"));
        seen.remember(&a, &who("x", None), 100);
        seen.remember(&b, &who("y", Some(103)), 100);
        assert!(seen.get(&a, 100 + KEPT_S - 1).is_some() && seen.get(&a, 100 + KEPT_S).is_none());
        assert!(seen.get(&b, 102).is_some() && seen.get(&b, 103).is_none());
        seen.forget(|identity| identity.grant.as_deref() == Some("x"));
        assert!(seen.get(&a, 100).is_none() && seen.get(&b, 100).is_some());
        for number in 0..MOST + 10 {
            seen.remember(&Hash::of(&number.to_string()), &who("z", None), 100);
        }
        assert_eq!(lock(&seen.0).len(), MOST);
        seen.remember(&a, &who("x", None), 100 + KEPT_S);
        assert_eq!(lock(&seen.0).len(), 1, "the old gave way");
    }
}
