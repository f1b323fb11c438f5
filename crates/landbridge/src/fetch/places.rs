//! How many documents are fetched at once: of all, of one host, and from one address.
//!
//! Whoever can name a URL can make us wait for it. Where strangers can, nobody's slow server holds the places of all
//! others: a host has few, and an address hardly more, as it costs nothing to give one many names. Who comes to a
//! host that has none left waits a moment, holding nothing: a client's document and its keys are often at one host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Reach, Trouble};
use crate::arrival::network;
use crate::backend::lock;

/// Fetches at the same time, by reach.
const MAX_PUBLIC: usize = 16;
const MAX_ANYWHERE: usize = 64;
/// Of those that strangers have named: with one host, and with one address or IPv6 network.
const MAX_OF_HOST: usize = 2;
const MAX_OF_ADDRESS: usize = 4;
/// How long somebody waits for a place.
const PATIENCE: Duration = Duration::from_secs(1);

/// Places for fetches. Clones are the same places.
#[derive(Clone, Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// Where strangers name the hosts.
    shares: Option<Arc<Shares>>,
}

#[derive(Debug, Default)]
struct Shares {
    hosts: Share<String>,
    addresses: Share<IpAddr>,
}

/// A place, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Held {
    _held: [Option<OwnedSemaphorePermit>; 2],
}

impl Places {
    pub(super) fn of(reach: Reach) -> Places {
        let (most, shares) = match reach {
            Reach::Public | Reach::Web => (MAX_PUBLIC, Some(Arc::default())),
            Reach::Anywhere => (MAX_ANYWHERE, None),
        };
        Places { all: Arc::new(Semaphore::new(most)), shares }
    }

    /// A place for a request to that host.
    pub(super) async fn host(&self, host: &str) -> Result<Held, Trouble> {
        let Some(shares) = &self.shares else {
            let place = self.all.clone().try_acquire_owned().map_err(|_| Trouble::Busy)?;
            return Ok(Held { _held: [Some(place), None] });
        };
        let own = shares.hosts.of(host.to_owned(), MAX_OF_HOST);
        let both = async {
            // Its own first, as whoever waits for that must not hold one of all.
            let own = own.acquire_owned().await.map_err(|_| Trouble::Busy)?;
            let place = self.all.clone().acquire_owned().await.map_err(|_| Trouble::Busy)?;
            Ok(Held { _held: [Some(place), Some(own)] })
        };
        tokio::time::timeout(PATIENCE, both).await.map_err(|_| Trouble::Busy)?
    }

    /// And for a connection to that address; nobody waits for that.
    pub(super) fn address(&self, address: IpAddr) -> Result<Held, Trouble> {
        let Some(shares) = &self.shares else { return Ok(Held::default()) };
        let own = shares.addresses.of(network(address), MAX_OF_ADDRESS).try_acquire_owned();
        Ok(Held { _held: [Some(own.map_err(|_| Trouble::Busy)?), None] })
    }
}

/// So many places for each key. There are semaphores for those that are in use.
#[derive(Debug)]
struct Share<K>(Mutex<BTreeMap<K, Weak<Semaphore>>>);

impl<K> Default for Share<K> {
    fn default() -> Share<K> {
        Share(Mutex::default())
    }
}

impl<K: Ord> Share<K> {
    fn of(&self, key: K, most: usize) -> Arc<Semaphore> {
        let mut all = lock(&self.0);
        if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
            return found;
        }
        // As many as there are requests under way at most.
        all.retain(|_, places| places.strong_count() > 0);
        let places = Arc::new(Semaphore::new(most));
        all.insert(key, Arc::downgrade(&places));
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_has_the_places_of_others() {
        let places = Places::of(Reach::Public);
        let mut held = vec![places.host("slow.example").await.unwrap(), places.host("slow.example").await.unwrap()];
        // Many wait there, and hold nothing.
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let places = places.clone();
            waiting.spawn(async move { places.host("slow.example").await.map(drop) });
        }
        tokio::task::yield_now().await;
        for n in 0..14 {
            held.push(places.host(&format!("{}.example", n / 2)).await.unwrap());
        }
        assert_eq!(places.host("other.example").await.unwrap_err(), Trouble::Busy);
        let came = waiting.join_all().await;
        assert!(came.iter().all(|came| *came == Err(Trouble::Busy)));
        // Whoever waits gets the place that becomes free.
        let next = tokio::spawn({
            let places = places.clone();
            async move { places.host("slow.example").await.is_ok() }
        });
        tokio::task::yield_now().await;
        held.remove(0);
        assert!(next.await.unwrap());
        drop(held);
        drop(places.host("last.example").await.unwrap());
        let hosts = &places.shares.as_ref().unwrap().hosts;
        drop(hosts.of(String::new(), 1));
        assert_eq!(lock(&hosts.0).len(), 1, "those that nobody uses are forgotten");
    }

    #[tokio::test]
    async fn many_names_of_one_address_are_one() {
        let places = Places::of(Reach::Public);
        let at = |text: &str| places.address(text.parse().unwrap());
        let held: Vec<Held> = (1..=4).map(|n| at(&format!("2001:db8::{n}")).unwrap()).collect();
        assert_eq!(at("2001:db8::5").unwrap_err(), Trouble::Busy);
        assert!(at("2001:db8:0:1::5").is_ok() && at("93.184.216.34").is_ok());
        drop(held);
        assert!(at("2001:db8::5").is_ok());
        // What an operator names is not counted so.
        let anywhere = Places::of(Reach::Anywhere);
        let mut held = Vec::new();
        for _ in 0..MAX_ANYWHERE {
            held.push((anywhere.host("login.example").await.unwrap(), anywhere.address("10.0.0.1".parse().unwrap()).unwrap()));
        }
        assert_eq!(anywhere.host("login.example").await.unwrap_err(), Trouble::Busy);
    }
}
