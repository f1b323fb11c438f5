//! A server's instances, apart for each principal.
//!
//! An instance of the handshake era remembers things between calls, and tells everybody of what has changed, so
//! those who share one must be one principal: each has a [`Pool`] of its own, made when it is first needed. There
//! is one for all where nobody is told apart: because nobody is asked who they are, because an operator wants it
//! (`isolation = "none"`), or because the server keeps nothing between calls (2026-07-28).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use landbridge_proto::call::Principal;
use landbridge_proto::fault::{Fault, Kind};

use crate::backend::lock;
use crate::backend::pool::Pool;

/// A server's pools.
#[derive(Debug)]
pub struct Pools {
    /// Whoever is not told apart.
    base: Arc<Pool>,
    apart: Mutex<HashMap<Principal, Arc<Pool>>>,
    /// Most principals at once.
    ceiling: usize,
}

impl Pools {
    /// Around the one for everybody.
    pub fn new(base: Pool, ceiling: usize) -> Pools {
        let base = Arc::new(base);
        base.enlist();
        Pools { base, apart: Mutex::default(), ceiling }
    }

    /// The one for everybody; also where each session has an instance of its own.
    pub fn base(&self) -> &Arc<Pool> {
        &self.base
    }

    /// The one of `who`.
    pub fn of(&self, who: &Principal) -> Result<Arc<Pool>, Fault> {
        if *who == Principal::default() || !self.base.tells_apart() {
            return Ok(self.base.clone());
        }
        let mut apart = lock(&self.apart);
        if let Some(pool) = apart.get(who) {
            return Ok(pool.clone());
        }
        if apart.len() >= self.ceiling {
            apart.retain(|_, pool| !is_unused(pool));
        }
        if apart.len() >= self.ceiling {
            return Err(Fault::gateway(Kind::Busy).tell(format!(
                "the server `{}` is in use by {} people already, the most allowed; try again later",
                self.base.name(),
                self.ceiling
            )));
        }
        let pool = Arc::new(self.base.apart(who.clone()));
        pool.enlist();
        apart.insert(who.clone(), pool.clone());
        Ok(pool)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<Pool>> {
        std::iter::once(&self.base).chain(lock(&self.apart).values()).cloned().collect()
    }

    /// Lets go of what nobody uses, and ends what took too long. Called every second.
    pub fn housekeep(&self, now: Instant) {
        self.all().iter().for_each(|pool| pool.housekeep(now));
        lock(&self.apart).retain(|_, pool| !is_unused(pool));
    }
}

/// Whether nobody holds a pool but the map, and nothing runs in it.
fn is_unused(pool: &Arc<Pool>) -> bool {
    Arc::strong_count(pool) == 1 && pool.is_empty()
}
