//! Who is inside: streams that are open, by the credential that lets them be, and whether that still counts.
//!
//! ```text
//!   a stream opens ────▶ entered under the hash of what its request showed
//!   once a second ─────▶ has a credential expired?                            yes ─▶ its streams end
//!   every `recheck_ms` ▶ each is looked up again, by one task. Is it gone?     yes ─▶ its streams end
//! ```
//!
//! A credential is looked up once, however many streams it keeps open; what was withdrawn in this process is not left
//! to the next round. A store that does not answer says nothing of anybody: nobody is put out for that, and the next
//! round asks again. When a credential expires is known without it.
//!
//! Odd: of tokens that somebody else issues nothing is kept here that could be asked about again, so they count until
//! they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use landbridge_proto::oauth::secret::Hash;

use crate::auth::{Auth, Caller, Identity, keys, now_s, tokens};
use crate::backend::lock;
use crate::body::Beat;
use crate::store::Trouble;

/// What is open.
#[derive(Default)]
pub(super) struct Inside {
    stays: Mutex<HashMap<[u8; 32], Stay>>,
    /// Held by whoever looks: when the last round began.
    looked: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// A credential that keeps something open. There are no more of them than such streams, which `sessions` and
/// `listens` bound.
struct Stay {
    identity: Arc<Identity>,
    /// From this second on it does not count.
    ends_s: Option<u64>,
    /// To be looked up before the others.
    doubted: bool,
    streams: Vec<Weak<Beat>>,
}

impl Stay {
    /// Forgets what is not open any more, or is by now for another credential.
    fn prune(&mut self, hash: &Hash) {
        self.streams.retain(|stream| stream.upgrade().is_some_and(|stream| stream.is_let_by(hash)));
    }
}

impl Inside {
    fn enter(&self, hash: &Hash, identity: &Arc<Identity>, ends_s: Option<u64>, stream: &Arc<Beat>) {
        let mut stays = lock(&self.stays);
        let new = || Stay { identity: identity.clone(), ends_s, doubted: false, streams: Vec::new() };
        let stay = stays.entry(*hash.as_bytes()).or_insert_with(new);
        if stay.streams.len() == stay.streams.capacity() {
            stay.prune(hash);
        }
        stay.streams.push(Arc::downgrade(stream));
    }

    /// Something of this grant was withdrawn.
    pub(super) fn doubt(&self, grant: &str) {
        for stay in lock(&self.stays).values_mut() {
            stay.doubted |= stay.identity.grant.as_deref() == Some(grant);
        }
    }

    /// Those whose time is over.
    fn expired(&self, now_s: u64) -> Vec<Hash> {
        let stays = lock(&self.stays);
        let over = stays.iter().filter(|(_, stay)| stay.ends_s.is_some_and(|ends_s| ends_s <= now_s));
        over.map(|(hash, _)| Hash::from_bytes(*hash)).collect()
    }

    /// Those who are to be looked up, which is everybody in a `round`.
    fn questioned(&self, round: bool) -> Vec<(Hash, Arc<Identity>)> {
        let mut stays = lock(&self.stays);
        if round {
            stays.retain(|hash, stay| {
                stay.prune(&Hash::from_bytes(*hash));
                !stay.streams.is_empty()
            });
        }
        let questioned = stays.iter_mut().filter_map(|(hash, stay)| {
            let doubted = std::mem::take(&mut stay.doubted);
            (doubted || round).then(|| (Hash::from_bytes(*hash), stay.identity.clone()))
        });
        questioned.collect()
    }

    /// Ends what a credential keeps open: how much.
    fn put_out(&self, hash: &Hash) -> usize {
        // Bound to a name first: a stream that is woken may be dropped, and another opened.
        let stay = lock(&self.stays).remove(hash.as_bytes());
        let streams = stay.iter().flat_map(|stay| &stay.streams).filter_map(Weak::upgrade);
        streams.filter(|stream| stream.end(hash)).count()
    }
}

impl Auth {
    /// A stream of this caller's ends when what they showed does not count any more. Of several that were shown for one
    /// stream the last decides.
    pub fn watch(&self, caller: &Caller, stream: &Arc<Beat>) {
        let (Some(identity), Some(hash)) = (&caller.identity, &caller.hash) else { return };
        if !stream.let_by(hash) {
            return;
        }
        // As long as it lets somebody in anew, by the clock of whoever issued it.
        let leeway_s = self.foreign.as_ref().filter(|_| identity.grant.is_none()).map_or(0, |foreign| foreign.leeway_s());
        self.inside.enter(hash, identity, identity.expires_s.map(|at_s| at_s.saturating_add(leeway_s)), stream);
    }

    /// Once a second: ends the streams of those who have expired, and, `every` so often, of those who were withdrawn.
    pub fn keep_watch(self: &Arc<Self>, every: Duration, now: Instant) {
        for hash in self.inside.expired(now_s()) {
            let n_streams = self.inside.put_out(&hash);
            tracing::debug!(n_streams, "ended streams: the token or key that kept them open has expired");
        }
        // One look at a time: a slow store is not asked faster than it answers.
        let Ok(mut last) = self.inside.looked.clone().try_lock_owned() else { return };
        let round = last.is_none_or(|last| now.saturating_duration_since(last) >= every);
        if round {
            *last = Some(now);
        }
        let questioned = self.inside.questioned(round);
        if questioned.is_empty() {
            return;
        }
        let auth = self.clone();
        tokio::spawn(async move {
            auth.look_again(questioned).await;
            drop(last);
        });
    }

    async fn look_again(&self, questioned: Vec<(Hash, Arc<Identity>)>) {
        for (hash, identity) in questioned {
            match self.still_counts(&hash, &identity, now_s()).await {
                Ok(true) => {}
                Ok(false) => {
                    // Whoever comes back is to be told so at once.
                    self.seen.remove(&hash);
                    let n_streams = self.inside.put_out(&hash);
                    let Identity { name, via, .. } = &*identity;
                    tracing::info!(who = name, via, n_streams, "ended streams: what kept them open was withdrawn");
                }
                Err(trouble) => {
                    tracing::warn!(%trouble, "whether open streams may stay open cannot be found out; they do for now");
                    // One record that cannot be read is one; a database that fails does so for all.
                    if matches!(trouble, Trouble::Database(_)) {
                        return;
                    }
                }
            }
        }
    }

    async fn still_counts(&self, hash: &Hash, identity: &Identity, now_s: u64) -> Result<bool, Trouble> {
        if identity.grant.is_none() || self.keys.find(hash, now_s).is_some() {
            return Ok(true);
        }
        let found = match identity.has_key() {
            true => keys::find(&*self.store, hash, now_s).await?,
            false => tokens::find(&*self.store, hash, now_s, |person| self.lets_in(person)).await?,
        };
        Ok(found.is_some())
    }
}
