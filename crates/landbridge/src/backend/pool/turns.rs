//! Taking turns at a server that asks.
//!
//! A server of the handshake era does not say which call a question belongs to. So once one has
//! asked, each instance that clients share gets one call a time that it could ask something for. The
//! others get another instance, as long as there is room for one, and wait otherwise; hardly longer than a
//! question would be held. A call that waits for its client keeps its turn, and the others get another
//! instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::call::Call;
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::version::Era;

use crate::backend::lock;
use crate::backend::pool::{Instance, Pool, by_itself};

/// A quick call is over in less than it takes to start another instance.
const QUICK: Duration = Duration::from_millis(50);
/// Calls that began before the server first asked have no turn to give back.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Who waits for a turn, and whether turns are taken at all.
#[derive(Debug, Default)]
pub(super) struct Turns {
    asks: Arc<AtomicBool>,
    waiting: AtomicUsize,
    freed: Arc<Notify>,
}

/// One call's turn at an instance, until dropped.
#[derive(Debug)]
pub struct Turn {
    instance: Arc<Instance>,
    freed: Arc<Notify>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.instance.taken.store(false, Ordering::Release);
        // All of them: they wait for instances of different pools.
        self.freed.notify_waiters();
    }
}

/// A place in the queue.
struct Waiting<'w>(&'w AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    /// What an instance sets when its server has asked something.
    pub(super) fn asks(&self) -> Arc<AtomicBool> {
        self.asks.clone()
    }

    fn take(&self, instance: &Arc<Instance>) -> Option<Turn> {
        let free = instance.is_alive() && instance.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !free {
            return None;
        }
        if instance.link().askers() > 0 {
            // Not a turn that is given back: nobody is told, or who waits would never sleep.
            instance.taken.store(false, Ordering::Release);
            return None;
        }
        instance.touch();
        Some(Turn { instance: instance.clone(), freed: self.freed.clone() })
    }
}

impl Pool {
    /// The instance for a call of a client that shares it, with its turn where turns are taken; `None`: one
    /// has to be waited for.
    pub fn shared_now(&self, call: &Call) -> Option<(Arc<Instance>, Option<Turn>)> {
        let abilities = Abilities::of(&call.client);
        let instance = self.running_for(abilities)?;
        if !abilities.any_question() || !call.method.may_ask() || instance.server().era() == Era::Stateless {
            return Some((instance, None));
        }
        if !self.turns.asks.load(Ordering::Relaxed) {
            return Some((self.unhaunted(instance, abilities), None));
        }
        self.free_turn(abilities).map(|turn| (turn.instance.clone(), Some(turn)))
    }

    /// The same, waiting if need be: for an instance to be started, or for a turn.
    pub async fn shared_for(self: &Arc<Self>, call: &Call) -> Result<(Arc<Instance>, Option<Turn>), Fault> {
        let abilities = Abilities::of(&call.client);
        self.shared(abilities).await?;
        if let Some(instance) = self.shared_now(call) {
            return Ok(instance);
        }
        let busy =
            |why: &str| Err(Fault::backend(&self.name, Kind::Busy).tell(format!("the server `{}` {why}; try again later", self.name)));
        let _waiting = Waiting(&self.turns.waiting);
        if self.turns.waiting.fetch_add(1, Ordering::Relaxed) >= self.limits.waiting_calls {
            return busy("has too many calls waiting for their turn");
        }
        // A moment longer than a call that was withdrawn haunts an instance.
        let until = tokio::time::Instant::now() + Duration::from_millis(self.limits.ask_hold_ms) + Duration::from_secs(2);
        let mut patience = QUICK;
        let mut failed = None;
        while tokio::time::Instant::now() < until {
            let _ = tokio::time::timeout(patience, self.turns.freed.notified()).await;
            if let Some(turn) = self.free_turn(abilities) {
                return Ok((turn.instance.clone(), Some(turn)));
            }
            // Whoever starts an instance makes room for it.
            match tokio::time::timeout_at(until, self.another_turn(abilities)).await {
                Ok(Ok(turn)) => return Ok((turn.instance.clone(), Some(turn))),
                Ok(Err(fault)) => failed = Some(fault),
                Err(_) => {}
            }
            patience = LOOK_AGAIN;
        }
        // That all places are taken is no news to tell: they are taken by calls like this one.
        if let Some(fault) = failed.filter(|fault| fault.kind != Kind::Busy) {
            return Err(fault);
        }
        busy("takes one call a time that it could ask for, and all its processes are busy")
    }

    /// Where a call that we ended may still ask, it cannot be told whose a question is: better an instance
    /// without such a call, if one runs. None is started for that, as most servers never ask.
    fn unhaunted(&self, instance: Arc<Instance>, abilities: Abilities) -> Arc<Instance> {
        let clear = |instance: &Arc<Instance>| instance.is_alive() && instance.link().ghosts() == 0;
        if clear(&instance) {
            return instance;
        }
        let group = lock(&self.shared).get(&abilities).cloned().unwrap_or_default();
        group.into_iter().find(clear).inspect(|instance| instance.touch()).unwrap_or(instance)
    }

    fn free_turn(&self, abilities: Abilities) -> Option<Turn> {
        let group = lock(&self.shared).get(&abilities).cloned().unwrap_or_default();
        group.iter().find_map(|instance| self.turns.take(instance))
    }

    /// A turn at one more instance.
    async fn another_turn(self: &Arc<Self>, abilities: Abilities) -> Result<Turn, Fault> {
        let pool = self.clone();
        by_itself(async move {
            let _meeting = pool.meeting.lock().await;
            // Somebody may have given one back, or started one, while we waited.
            if let Some(turn) = pool.free_turn(abilities) {
                return Ok(turn);
            }
            let instance = pool.start(None, Some(abilities)).await?;
            pool.admit(abilities, &instance);
            let gone = || Fault::backend(&pool.name, Kind::Backend).tell("it ended at once");
            pool.turns.take(&instance).ok_or_else(gone)
        })
        .await
    }
}
