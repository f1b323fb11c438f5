//! Who is inside: streams that are open, by the credential that lets them be, and whether that still counts.
//!
//! ```text
//!   a stream opens ────▶ entered under the hash of what its request showed
//!   once a second ─────▶ has a credential expired?                            yes ─▶ its streams end
//!   every `recheck_ms` ▶ each is looked up again, by one task. Is it gone?     yes ─▶ its streams end
//! ```
//!
//! Over HTTP+SSE the stream is the session, and its client cannot come back to it. So there a token of ours that has
//! expired is as good as what its user has agreed to: as long as it could be refreshed, the stream may stay.
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

use crate::auth::tokens::Person;
use crate::auth::{Auth, Caller, Identity, keys, now_s, tokens};
use crate::backend::lock;
use crate::body::Beat;
use crate::store::Trouble;

/// What is open.
#[derive(Default)]
pub(super) struct Inside {
    stays: Mutex<HashMap<Key, Stay>>,
    /// Held by whoever looks: when the last round began.
    looked: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

/// The hash of a credential, and whether what it keeps open outlasts it.
type Key = ([u8; 32], bool);

/// A credential that keeps something open, or did at the last round. There are about as many as such streams at most,
/// which `sessions` and `listens` bound.
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
    fn enter(&self, hash: &Hash, lasts: bool, identity: &Arc<Identity>, ends_s: Option<u64>, stream: &Arc<Beat>) {
        let mut stays = lock(&self.stays);
        let new = || Stay { identity: identity.clone(), ends_s, doubted: false, streams: Vec::new() };
        let stay = stays.entry((*hash.as_bytes(), lasts)).or_insert_with(new);
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
    fn expired(&self, now_s: u64) -> Vec<Key> {
        let stays = lock(&self.stays);
        let over = stays.iter().filter(|(_, stay)| stay.ends_s.is_some_and(|ends_s| ends_s <= now_s));
        over.map(|(key, _)| *key).collect()
    }

    /// Those who are to be looked up, which is everybody in a `round`.
    fn questioned(&self, round: bool) -> Vec<(Key, Arc<Identity>)> {
        let mut stays = lock(&self.stays);
        if round {
            stays.retain(|(hash, _), stay| {
                stay.prune(&Hash::from_bytes(*hash));
                !stay.streams.is_empty()
            });
        }
        let questioned = stays.iter_mut().filter_map(|(key, stay)| {
            let doubted = std::mem::take(&mut stay.doubted);
            (doubted || round).then(|| (*key, stay.identity.clone()))
        });
        questioned.collect()
    }

    /// Ends what a credential keeps open: how much.
    fn put_out(&self, key: &Key) -> usize {
        // Bound to a name first: a stream that is woken may be dropped, and another opened.
        let stay = lock(&self.stays).remove(key);
        let hash = Hash::from_bytes(key.0);
        let streams = stay.iter().flat_map(|stay| &stay.streams).filter_map(Weak::upgrade);
        streams.filter(|stream| stream.end(&hash)).count()
    }
}

impl Auth {
    /// A stream of this caller's ends when what they showed does not count any more. Of several that were shown for one
    /// stream the last decides. `is_session`: the stream is a session (HTTP+SSE).
    pub(crate) fn watch(&self, caller: &Caller, stream: &Arc<Beat>, is_session: bool) {
        let (Some(identity), Some(hash)) = (&caller.identity, &caller.hash) else { return };
        if !stream.let_by(hash) {
            return;
        }
        if is_session && identity.grant.is_some() && !identity.has_key() {
            return self.inside.enter(hash, true, identity, None, stream);
        }
        // As long as it lets somebody in anew, by the clock of whoever issued it.
        let leeway_s = self.foreign.as_ref().filter(|_| identity.grant.is_none()).map_or(0, |foreign| foreign.leeway_s());
        self.inside.enter(hash, false, identity, identity.expires_s.map(|at_s| at_s.saturating_add(leeway_s)), stream);
    }

    /// Once a second: ends the streams of those who have expired, and, `every` so often, of those who were withdrawn.
    pub(crate) fn keep_watch(self: &Arc<Self>, every: Duration, now: Instant) {
        for key in self.inside.expired(now_s()) {
            let n_streams = self.inside.put_out(&key);
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

    async fn look_again(&self, questioned: Vec<(Key, Arc<Identity>)>) {
        for (key, identity) in questioned {
            match self.still_counts(&key, &identity, now_s()).await {
                Ok(true) => {}
                Ok(false) => {
                    // Whoever comes back is to be told so at once.
                    self.seen.remove(&Hash::from_bytes(key.0));
                    let n_streams = self.inside.put_out(&key);
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

    async fn still_counts(&self, (hash, lasts): &Key, identity: &Identity, now_s: u64) -> Result<bool, Trouble> {
        let hash = &Hash::from_bytes(*hash);
        let Some(grant) = identity.grant.as_ref().filter(|_| self.keys.find(hash, now_s).is_none()) else { return Ok(true) };
        let lets_in = |person: &Person| self.lets_in(person);
        Ok(match identity.has_key() {
            true => keys::find(&*self.store, hash, now_s).await?.is_some(),
            // One that was revoked before its time is not as good as what it came from.
            false if *lasts && identity.expires_s.is_some_and(|at_s| at_s <= now_s) => {
                let agreed = tokens::agreed(&*self.store, grant, now_s).await?;
                agreed.is_some_and(|agreed| agreed.person.as_ref().is_none_or(lets_in))
            }
            false => tokens::find(&*self.store, hash, now_s, lets_in).await?.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::auth::keys::Key;
    use crate::body::Beats;
    use crate::config::Config;
    use crate::store::{Kind, Pending, Record, Store, memory};

    /// A store that can be silent, and counts what it was asked.
    #[derive(Debug)]
    struct Silent {
        inner: Arc<dyn Store>,
        silent: AtomicBool,
        n_asked: AtomicUsize,
    }

    impl Store for Silent {
        fn get<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
            self.n_asked.fetch_add(1, Ordering::Relaxed);
            match self.silent.load(Ordering::Relaxed) {
                true => Box::pin(async { Err(Trouble::Database("it did not answer".into())) }),
                false => self.inner.get(kind, key, now_s),
            }
        }

        fn put<'a>(&'a self, kind: Kind, key: &'a str, record: Record) -> Pending<'a, ()> {
            self.inner.put(kind, key, record)
        }

        fn take<'a>(&'a self, kind: Kind, key: &'a str, now_s: u64) -> Pending<'a, Option<Record>> {
            self.inner.take(kind, key, now_s)
        }

        fn list<'a>(&'a self, kind: Kind, after: &'a str, limit: usize, now_s: u64) -> Pending<'a, Vec<(String, Record)>> {
            self.inner.list(kind, after, limit, now_s)
        }

        fn sweep(&self, now_s: u64) -> Pending<'_, u64> {
            self.inner.sweep(now_s)
        }
    }

    const EVERY: Duration = Duration::from_secs(15);

    /// A second that is so long after the first one.
    async fn watch_at(auth: &Arc<Auth>, first: Instant, after: Duration) {
        auth.keep_watch(EVERY, first + after);
        // The task that looks has ended when somebody else could.
        drop(auth.inside.looked.lock().await);
    }

    #[tokio::test]
    async fn a_credential_is_looked_up_once_a_round_and_a_silent_store_puts_nobody_out() {
        let plan = Config::parse("f", "auth.mode = \"keys\"".into()).unwrap().check().unwrap().auth;
        let store = Arc::new(Silent { inner: memory(), silent: AtomicBool::new(false), n_asked: AtomicUsize::new(0) });
        let auth = Arc::new(Auth::new(plan, store.clone()).unwrap());
        let mut callers = Vec::new();
        for (number, expires_s) in [(1, None), (2, None), (3, Some(now_s() + 3600))] {
            let key = Key { id: String::new(), owner: "ada".into(), tenant: None, scopes: None, servers: None, since_s: 0 };
            let text = keys::add(&*store, key, expires_s, [[number; 32]; 2]).await.unwrap();
            let hash = Hash::of(&text);
            let identity = keys::find(&*store, &hash, now_s()).await.unwrap().map(Arc::new);
            callers.push(Caller { identity, hash: Some(hash), fresh: true });
        }
        let (beats, first) = (Beats::new(), Instant::now());
        let open = |caller: &Caller| {
            let stream = beats.join();
            auth.watch(caller, &stream, false);
            stream
        };
        let streams: Vec<Arc<Beat>> = callers.iter().flat_map(|caller| [open(caller), open(caller)]).collect();
        let over = || streams.iter().map(|stream| stream.is_over()).collect::<Vec<_>>();
        let asked = || store.n_asked.swap(0, Ordering::Relaxed);
        asked();
        watch_at(&auth, first, Duration::ZERO).await;
        watch_at(&auth, first, EVERY - Duration::from_secs(1)).await;
        assert_eq!((asked(), over()), (3, vec![false; 6]), "each once");

        let id = |caller: &Caller| caller.identity.as_ref().unwrap().via.strip_prefix("key ").unwrap().to_owned();
        assert!(keys::revoke(&*store, &id(&callers[0]), now_s()).await.unwrap());
        store.silent.store(true, Ordering::Relaxed);
        watch_at(&auth, first, EVERY).await;
        assert_eq!((asked(), over()), (1, vec![false; 6]), "one question is enough to know that it is silent");
        // What was withdrawn here is not left to the next round, where it can be found out.
        store.silent.store(false, Ordering::Relaxed);
        auth.forget_grant(callers[0].identity.as_ref().unwrap().grant.as_deref().unwrap());
        watch_at(&auth, first, EVERY).await;
        assert_eq!((asked(), over()), (1, vec![true, true, false, false, false, false]));

        // Time goes on, whatever the store says; and a stream whose client has shown another key since goes on by that.
        store.silent.store(true, Ordering::Relaxed);
        auth.watch(&callers[1], &streams[4], false);
        assert_eq!(auth.inside.expired(now_s() + 3600).len(), 1);
        assert_eq!(auth.inside.put_out(&(*callers[2].hash.as_ref().unwrap().as_bytes(), false)), 1);
        assert_eq!(over(), [true, true, false, false, false, true]);
        store.silent.store(false, Ordering::Relaxed);
        // What is not open any more is forgotten.
        drop(streams);
        watch_at(&auth, first, EVERY * 2).await;
        assert_eq!((asked(), lock(&auth.inside.stays).len()), (0, 0));
    }
}
