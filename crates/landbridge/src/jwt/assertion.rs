//! Clients that sign to show who they are (`private_key_jwt`, RFC 7523 §3): checked, and taken once.
//!
//! Odd: what has been taken is remembered until it would have expired, and no client may have more than its share
//! of that memory. It is this process's; several processes for one issuer would each take it once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use landbridge_proto::oauth::jwk::Algorithm;
use landbridge_proto::oauth::jwt::{MAX_LEEWAY_S, Rules, Typ};
use landbridge_proto::oauth::secret::Hash;

use super::keys::Keys;
use super::{Refused, verify};
use crate::backend::lock;

/// How far a client's clock may differ from ours, in seconds.
const LEEWAY_S: u64 = 30;
/// Assertions of a client that are remembered, and of all.
const MAX_OF_CLIENT: usize = 4_096;
const MAX: usize = 65_536;

/// What clients have shown us.
#[derive(Debug, Default)]
pub struct Assertions(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// When each may be forgotten, and whose it is.
    all: HashMap<[u8; 32], [u8; 32]>,
    /// The same, in the order in which they are forgotten.
    ends: BTreeSet<(u64, [u8; 32])>,
    of_client: HashMap<[u8; 32], usize>,
}

impl Assertions {
    /// Whether `assertion` shows that its bearer is `client_id`, whose keys these are. `ours` are the names that it may
    /// be for: our issuer and our token endpoint.
    pub async fn check(&self, assertion: &str, client_id: &str, keys: &Keys, ours: &[&str], now_s: u64) -> Result<(), Refused> {
        let rules = Rules { issuer: client_id.to_owned(), algorithms: Algorithm::ALL.to_vec(), typ: Typ::ASSERTION, leeway_s: LEEWAY_S };
        let claims = verify(assertion, keys, &rules, now_s).await?;
        let id = claims.assert(client_id, ours, now_s).map_err(Refused::Invalid)?;
        // With their lengths, so that no two pairs are one text.
        let hash = *Hash::of(&format!("{}:{client_id}{id}", client_id.len())).as_bytes();
        let until_s = claims.expires_s.saturating_add(MAX_LEEWAY_S);
        lock(&self.0).take(hash, *Hash::of(client_id).as_bytes(), until_s, now_s)
    }
}

impl Seen {
    fn take(&mut self, assertion: [u8; 32], client: [u8; 32], until_s: u64, now_s: u64) -> Result<(), Refused> {
        while let Some((ends_s, old)) = self.ends.pop_first() {
            if ends_s > now_s {
                self.ends.insert((ends_s, old));
                break;
            }
            if let Some(client) = self.all.remove(&old)
                && let Some(n) = self.of_client.get_mut(&client)
            {
                *n -= 1;
                if *n == 0 {
                    self.of_client.remove(&client);
                }
            }
        }
        if self.all.contains_key(&assertion) {
            return Err(Refused::Invalid("was shown before"));
        }
        if self.of_client.get(&client).is_some_and(|n| *n >= MAX_OF_CLIENT) {
            return Err(Refused::Invalid("is one of too many that this client has shown"));
        }
        if self.all.len() >= MAX {
            return Err(Refused::Unavailable("too many clients show who they are".into()));
        }
        self.all.insert(assertion, client);
        self.ends.insert((until_s, assertion));
        *self.of_client.entry(client).or_default() += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: usize) -> [u8; 32] {
        *Hash::of(&n.to_string()).as_bytes()
    }

    #[test]
    fn each_is_taken_once_until_it_has_ended() {
        let mut seen = Seen::default();
        assert_eq!(seen.take(hash(1), hash(0), 100, 1), Ok(()));
        assert_eq!(seen.take(hash(1), hash(0), 100, 99), Err(Refused::Invalid("was shown before")));
        assert_eq!(seen.take(hash(1), hash(0), 200, 100), Ok(()));
        assert_eq!((seen.all.len(), seen.ends.len(), seen.of_client[&hash(0)]), (1, 1, 1));
    }

    #[test]
    fn one_client_does_not_fill_the_memory_of_all() {
        let mut seen = Seen::default();
        for n in 0..MAX_OF_CLIENT {
            assert_eq!(seen.take(hash(n), hash(1), 100, 1), Ok(()));
        }
        assert!(matches!(seen.take(hash(MAX_OF_CLIENT), hash(1), 100, 1), Err(Refused::Invalid(_))));
        assert_eq!(seen.take(hash(MAX_OF_CLIENT), hash(2), 100, 1), Ok(()));
        assert_eq!(seen.take(hash(0), hash(1), 300, 100), Ok(()));
        assert_eq!((seen.all.len(), seen.of_client.len()), (1, 1));
    }
}
