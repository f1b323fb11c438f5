//! Who may do how much: so many requests a minute, so many sessions and calls at once.
//!
//! ```text
//!   a request ──▶ its address ──▶ (who is it?) ──▶ its client, its principal ──▶ ┬─▶ a session
//!   at the authorization server ──▶ its address, and what it wants there         └─▶ a call
//! ```
//!
//! What is not limited costs one look. What is costs a lock of its shard and a search in it, however many there are:
//! the tables are bounded. Callers who are not asked who they are have no limits as callers, for they would all be
//! one; their addresses have. A call and a session hold their place for as long as they are ([`Held`]).

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use landbridge_proto::bridge::parked::Full;
use landbridge_proto::call::Principal;
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::rates::Rate;

use crate::arrival::network;
use crate::auth::Identity;
use crate::backend::lock;
use crate::plan::Rates as Plan;

const SHARDS: usize = 16;
/// Most keys of a shard that are remembered.
const SHARD_KEYS: usize = 4 * 1024;
/// How soon it makes sense to try again where a place has to become free, in seconds.
const PLACE_S: u64 = 1;

/// Everything that is limited.
pub struct Rates {
    began: Instant,
    principals: Option<Gate<Principal>>,
    clients: Option<Gate<String>>,
    addresses: Option<Gate<IpAddr>>,
    logins: Option<Gate<IpAddr>>,
    token_failures: Option<Gate<IpAddr>>,
    registrations: Option<Gate<IpAddr>>,
    all_registrations: Option<Gate<()>>,
    sessions: Option<Arc<Places>>,
    calls: Option<Arc<Places>>,
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rates")
    }
}

impl Rates {
    /// As planned.
    pub fn new(plan: &Plan) -> Rates {
        Rates {
            began: Instant::now(),
            principals: Gate::new(plan.principal_per_minute, plan.principal_burst),
            clients: Gate::new(plan.client_per_minute, plan.client_burst),
            addresses: Gate::new(plan.address_per_minute, plan.address_burst),
            logins: Gate::new(plan.logins_per_minute, 0),
            token_failures: Gate::new(plan.token_failures_per_minute, 0),
            registrations: Gate::new(plan.registrations_per_minute, 0),
            all_registrations: Gate::new(plan.all_registrations_per_minute, 0),
            sessions: Places::new(plan.principal_sessions),
            calls: Places::new(plan.principal_calls),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    // --- requests ---------------------------------------------------------------------------------

    /// A request from that address, if it is known.
    pub fn request(&self, from: Option<IpAddr>) -> Result<(), Fault> {
        let (Some(addresses), Some(from)) = (&self.addresses, from) else { return Ok(()) };
        addresses.take(&network(from), self.now()).map_err(|wait| too_often("requests from this address", "address_per_minute", wait))
    }

    /// It is from somebody who has shown who they are.
    pub fn caller(&self, who: &Identity) -> Result<(), Fault> {
        if self.principals.is_none() && self.clients.is_none() {
            return Ok(());
        }
        let now = self.now();
        // Who comes with somebody else's token need not say as which client.
        let client = self.clients.as_ref().filter(|_| !who.via.is_empty());
        if let Some(clients) = client {
            clients.take(who.via.as_str(), now).map_err(|wait| too_often("requests of this client", "client_per_minute", wait))?;
        }
        if let Some(principals) = &self.principals
            && let Err(wait) = principals.take(&who.principal, now)
        {
            if let Some(clients) = client {
                clients.give_back(who.via.as_str());
            }
            return Err(too_often("requests of this user", "principal_per_minute", wait));
        }
        Ok(())
    }

    // --- at the authorization server ----------------------------------------------------------------

    /// Somebody wants to log in.
    pub fn login(&self, from: Option<IpAddr>) -> Result<(), Fault> {
        let (Some(logins), Some(from)) = (&self.logins, from) else { return Ok(()) };
        logins.take(&network(from), self.now()).map_err(|wait| too_often("logins from this address", "logins_per_minute", wait))
    }

    /// Somebody wants a token. Until it is known better this counts as one that failed, so that many at once are no way
    /// to try more.
    pub fn token(&self, from: Option<IpAddr>) -> Result<(), Fault> {
        let (Some(failures), Some(from)) = (&self.token_failures, from) else { return Ok(()) };
        let wait = failures.take(&network(from), self.now());
        wait.map_err(|wait| too_often("requests from this address that failed, or are under way", "token_failures_per_minute", wait))
    }

    /// And it was not their fault if they did not get one.
    pub fn token_served(&self, from: Option<IpAddr>) {
        if let (Some(failures), Some(from)) = (&self.token_failures, from) {
            failures.give_back(&network(from));
        }
    }

    /// Somebody wants to register.
    pub fn registration(&self, from: Option<IpAddr>) -> Result<(), Fault> {
        let (now, from) = (self.now(), from.map(network));
        if let (Some(registrations), Some(from)) = (&self.registrations, &from) {
            let wait = registrations.take(from, now);
            wait.map_err(|wait| too_often("registrations from this address", "registrations_per_minute", wait))?;
        }
        if let Some(all) = &self.all_registrations
            && let Err(wait) = all.take(&(), now)
        {
            if let (Some(registrations), Some(from)) = (&self.registrations, &from) {
                registrations.give_back(from);
            }
            return Err(too_often("registrations", "all_registrations_per_minute", wait));
        }
        Ok(())
    }

    /// And did not become a client.
    pub fn registration_failed(&self) {
        if let Some(all) = &self.all_registrations {
            all.give_back(&());
        }
    }

    // --- places -----------------------------------------------------------------------------------

    /// A place for a session of somebody's, or for a stream of changes; `None` where they are not counted.
    pub fn session(&self, whose: &Principal, retry_s: u64) -> Result<Option<Held>, Fault> {
        let full = |most| too_many(&format!("{most} sessions of this user are open; end one of them"), "principal_sessions", retry_s);
        place(&self.sessions, whose).map_err(full)
    }

    /// A place for a call.
    pub fn call(&self, whose: &Principal) -> Result<Option<Held>, Fault> {
        let full = |most| too_many(&format!("{most} calls of this user are under way; wait for one of them"), "principal_calls", PLACE_S);
        place(&self.calls, whose).map_err(full)
    }

    /// How many sessions and how many calls hold places.
    pub fn held(&self) -> (usize, usize) {
        let of = |places: &Option<Arc<Places>>| places.as_ref().map_or(0, |places| places.held());
        (of(&self.sessions), of(&self.calls))
    }
}

fn too_often(what: &str, limit: &str, wait: Duration) -> Fault {
    let retry_s = whole_s(wait);
    refused(format!("too many {what}; try again in {retry_s} s"), limit, retry_s)
}

/// A call of a user too many would wait for answers.
pub fn too_many_wait(Full { most, wait }: Full) -> Fault {
    let told = format!("{most} calls of this user wait for answers to what their servers have asked; answer one of them");
    too_many(&told, "principal_calls", whole_s(wait))
}

/// In seconds, rounded up: one at least.
fn whole_s(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn too_many(told: &str, limit: &str, retry_s: u64) -> Fault {
    refused(format!("{told}, or try again in {retry_s} s"), limit, retry_s)
}

fn refused(told: String, limit: &str, retry_s: u64) -> Fault {
    let data = format!("{{\"limit\":\"{limit}\",\"retryAfterSeconds\":{retry_s}}}");
    Fault::client(Kind::TooMuch).tell(told).with_data(data).retry_in(retry_s)
}

/// One rate, for many keys.
struct Gate<K> {
    shards: [Mutex<landbridge_proto::rates::Rates<K>>; SHARDS],
    hasher: RandomState,
}

impl<K: Ord> Gate<K> {
    /// `None`: nothing is limited. Where no burst is said, it is as many as in a minute.
    fn new(per_minute: u32, burst: u32) -> Option<Gate<K>> {
        let rate = Rate::per_minute(per_minute, if burst == 0 { per_minute } else { burst });
        let shard = |_| Mutex::new(landbridge_proto::rates::Rates::with_room(rate, SHARD_KEYS));
        (per_minute > 0).then(|| Gate { shards: std::array::from_fn(shard), hasher: RandomState::new() })
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> &Mutex<landbridge_proto::rates::Rates<K>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }

    fn take<Q: Hash + Ord + ToOwned<Owned = K> + ?Sized>(&self, key: &Q, now: Duration) -> Result<(), Duration>
    where
        K: Borrow<Q>,
    {
        lock(self.shard(key)).take(key, now)
    }

    fn give_back<Q: Hash + Ord + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        lock(self.shard(key)).give_back(key);
    }
}

/// So many places for each principal. There is a number for whoever holds one, and none for others.
struct Places {
    most: u32,
    taken: [Mutex<HashMap<Principal, u32>>; SHARDS],
    hasher: RandomState,
}

impl Places {
    /// `None`: nothing is limited.
    fn new(most: u32) -> Option<Arc<Places>> {
        (most > 0).then(|| Arc::new(Places { most, taken: Default::default(), hasher: RandomState::new() }))
    }

    fn shard(&self, whose: &Principal) -> &Mutex<HashMap<Principal, u32>> {
        &self.taken[self.hasher.hash_one(whose) as usize % SHARDS]
    }

    fn held(&self) -> usize {
        self.taken.iter().map(|shard| lock(shard).values().map(|n| *n as usize).sum::<usize>()).sum()
    }
}

/// The error is how many there may be.
fn place(places: &Option<Arc<Places>>, whose: &Principal) -> Result<Option<Held>, u32> {
    let Some(places) = places.as_ref().filter(|_| !whose.as_bytes().is_empty()) else { return Ok(None) };
    let mut taken = lock(places.shard(whose));
    match taken.get_mut(whose) {
        Some(n) if *n >= places.most => return Err(places.most),
        Some(n) => *n += 1,
        None => drop(taken.insert(whose.clone(), 1)),
    }
    drop(taken);
    Ok(Some(Held { places: places.clone(), whose: whose.clone() }))
}

/// A place of somebody's, for as long as it is kept.
pub struct Held {
    places: Arc<Places>,
    whose: Principal,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = lock(self.places.shard(&self.whose));
        if let Some(n) = taken.get_mut(&self.whose) {
            *n -= 1;
            if *n == 0 {
                taken.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn identity(whose: &str, via: &str) -> Identity {
        Identity { principal: Principal::named(whose), via: via.into(), ..crate::auth::nobody() }
    }

    #[test]
    fn what_is_not_limited_is_not_looked_at() {
        let rates = Rates::new(&Plan::default());
        for _ in 0..1_000 {
            assert!(rates.request(HERE).is_ok());
            assert!(rates.caller(&identity("ada", "app")).is_ok());
            assert!(rates.call(&Principal::named("ada")).unwrap().is_none());
            assert!(rates.session(&Principal::named("ada"), 1).unwrap().is_none());
        }
    }

    #[test]
    fn a_refusal_says_which_limit_and_when_to_come_again() {
        let plan = Plan { address_per_minute: 2, principal_per_minute: 2, client_per_minute: 3, ..Plan::default() };
        let rates = Rates::new(&plan);
        for _ in 0..2 {
            assert!(rates.request(HERE).is_ok() && rates.caller(&identity("ada", "app")).is_ok());
        }
        let refused = rates.request(HERE).unwrap_err();
        assert_eq!((refused.kind, refused.retry_s), (Kind::TooMuch, Some(30)));
        assert_eq!(refused.told, "too many requests from this address; try again in 30 s");
        assert_eq!(refused.data.unwrap(), r#"{"limit":"address_per_minute","retryAfterSeconds":30}"#);
        assert!(rates.request(None).is_ok(), "somebody else");
        // Who is refused for one reason does not use up another's.
        for _ in 0..3 {
            assert!(rates.caller(&identity("ada", "app")).unwrap_err().told.contains("of this user"));
        }
        assert!(rates.caller(&identity("bob", "app")).is_ok());
        assert!(rates.caller(&identity("bob", "app")).unwrap_err().told.contains("of this client"));
        assert!(rates.caller(&identity("bob", "other")).is_ok());
        assert!(rates.caller(&identity("eve", "")).is_ok(), "without a client");
    }

    #[test]
    fn places_are_given_back_and_forgotten() {
        let rates = Rates::new(&Plan { principal_calls: 2, ..Plan::default() });
        let (ada, bob) = (Principal::named("ada"), Principal::named("bob"));
        let held = [rates.call(&ada).unwrap(), rates.call(&ada).unwrap()];
        let full = rates.call(&ada).unwrap_err();
        assert_eq!((full.status(landbridge_proto::version::Era::Handshake), full.retry_s), (429, Some(1)));
        assert!(full.told.starts_with("2 calls of this user are under way"), "{full}");
        assert!(rates.call(&bob).unwrap().is_some());
        assert!((0..10).all(|_| rates.call(&Principal::default()).unwrap().is_none()), "nobody in particular");
        assert_eq!(rates.held(), (0, 2));
        drop(held);
        assert_eq!(rates.held(), (0, 0));
        let places = rates.calls.as_ref().unwrap();
        assert!(places.taken.iter().all(|shard| lock(shard).is_empty()));
        assert!(rates.call(&ada).unwrap().is_some());
    }

    #[test]
    fn many_at_once_try_no_more_than_one_after_the_other() {
        let rates = Rates::new(&Plan { token_failures_per_minute: 3, ..Plan::default() });
        for _ in 0..100 {
            assert!(rates.token(HERE).is_ok());
            rates.token_served(HERE);
        }
        assert!((0..3).all(|_| rates.token(HERE).is_ok()));
        assert!(rates.token(HERE).unwrap_err().told.contains("failed, or are under way"));
        rates.token_served(HERE);
        assert!(rates.token(HERE).is_ok() && rates.token(HERE).is_err());
    }

    #[test]
    fn tables_are_bounded() {
        let gate = Gate::<u64>::new(1, 1).unwrap();
        for n in 0..(SHARDS * SHARD_KEYS) as u64 * 2 {
            assert!(gate.take(&n, Duration::ZERO).is_ok());
        }
        assert!(gate.shards.iter().all(|shard| lock(shard).len() <= SHARD_KEYS));
    }
}
