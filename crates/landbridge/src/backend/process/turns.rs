//! Taking turns at a server that asks.
//!
//! A server of the handshake era does not say which call a question belongs to. So once one has
//! asked, each child that clients share gets one call a time that it could ask something for. The
//! others get another child, as long as there is room for one, and wait otherwise; hardly longer than a
//! question would be held. A call that waits for its client keeps its turn, and the others get another
//! child.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::call::Call;
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::version::Era;

use crate::backend::lock;
use crate::backend::process::{Child, Process, by_itself};

/// A quick call is over in less than it takes to start another child.
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

/// One call's turn at a child, until dropped.
#[derive(Debug)]
pub struct Turn {
    child: Arc<Child>,
    freed: Arc<Notify>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.child.taken.store(false, Ordering::Release);
        // All of them: they wait for children of different pools.
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
    /// What a child sets when its server has asked something.
    pub(super) fn asks(&self) -> Arc<AtomicBool> {
        self.asks.clone()
    }

    fn take(&self, child: &Arc<Child>) -> Option<Turn> {
        let free = child.is_alive() && child.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !free {
            return None;
        }
        if child.link().askers() > 0 {
            // Not a turn that is given back: nobody is told, or who waits would never sleep.
            child.taken.store(false, Ordering::Release);
            return None;
        }
        child.touch();
        Some(Turn { child: child.clone(), freed: self.freed.clone() })
    }
}

impl Process {
    /// The child for a call of a client that shares it, with its turn where turns are taken; `None`: one
    /// has to be waited for.
    pub fn shared_now(&self, call: &Call) -> Option<(Arc<Child>, Option<Turn>)> {
        let abilities = Abilities::of(&call.client);
        let child = self.running_for(abilities)?;
        if !abilities.any_question() || !call.method.may_ask() || child.server().era() == Era::Stateless {
            return Some((child, None));
        }
        if !self.turns.asks.load(Ordering::Relaxed) {
            return Some((self.unhaunted(child, abilities), None));
        }
        self.free_turn(abilities).map(|turn| (turn.child.clone(), Some(turn)))
    }

    /// The same, waiting if need be: for a child to be started, or for a turn.
    pub async fn shared_for(self: &Arc<Self>, call: &Call) -> Result<(Arc<Child>, Option<Turn>), Fault> {
        let abilities = Abilities::of(&call.client);
        self.shared(abilities).await?;
        if let Some(child) = self.shared_now(call) {
            return Ok(child);
        }
        let busy =
            |why: &str| Err(Fault::backend(&self.name, Kind::Busy).tell(format!("the server `{}` {why}; try again later", self.name)));
        let _waiting = Waiting(&self.turns.waiting);
        if self.turns.waiting.fetch_add(1, Ordering::Relaxed) >= self.limits.waiting_calls {
            return busy("has too many calls waiting for their turn");
        }
        // A moment longer than a call that was withdrawn haunts a child.
        let until = tokio::time::Instant::now() + Duration::from_millis(self.limits.ask_hold_ms) + Duration::from_secs(2);
        let mut patience = QUICK;
        let mut failed = None;
        while tokio::time::Instant::now() < until {
            let _ = tokio::time::timeout(patience, self.turns.freed.notified()).await;
            if let Some(turn) = self.free_turn(abilities) {
                return Ok((turn.child.clone(), Some(turn)));
            }
            // Whoever starts a child makes room for it.
            match tokio::time::timeout_at(until, self.another_turn(abilities)).await {
                Ok(Ok(turn)) => return Ok((turn.child.clone(), Some(turn))),
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

    /// Where a call that we ended may still ask, it cannot be told whose a question is: better a child
    /// without such a call, if one runs. None is started for that, as most servers never ask.
    fn unhaunted(&self, child: Arc<Child>, abilities: Abilities) -> Arc<Child> {
        let clear = |child: &Arc<Child>| child.is_alive() && child.link().ghosts() == 0;
        if clear(&child) {
            return child;
        }
        let pool = lock(&self.shared).get(&abilities).cloned().unwrap_or_default();
        pool.into_iter().find(clear).inspect(|child| child.touch()).unwrap_or(child)
    }

    fn free_turn(&self, abilities: Abilities) -> Option<Turn> {
        let pool = lock(&self.shared).get(&abilities).cloned().unwrap_or_default();
        pool.iter().find_map(|child| self.turns.take(child))
    }

    /// A turn at one more child.
    async fn another_turn(self: &Arc<Self>, abilities: Abilities) -> Result<Turn, Fault> {
        let process = self.clone();
        by_itself(async move {
            let _meeting = process.meeting.lock().await;
            // Somebody may have given one back, or started one, while we waited.
            if let Some(turn) = process.free_turn(abilities) {
                return Ok(turn);
            }
            let child = process.start(None, Some(abilities)).await?;
            process.admit(abilities, &child);
            let gone = || Fault::backend(&process.name, Kind::Backend).tell("it ended at once");
            process.turns.take(&child).ok_or_else(gone)
        })
        .await
    }
}
