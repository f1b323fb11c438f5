//! Who hears of a server's changes, and what all of them want of it.
//!
//! Servers in this process and those that clients share have one hub for good: it outlives the
//! instances, so that whoever listens need not notice that one was started again. A session's own
//! instance has a hub of its own. Odd: the hub only counts what is wanted; that the server knows is the
//! business of `pool::keeper`, which says here how far it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use landbridge_proto::call::{Level, Notice};
use landbridge_proto::subscribe::{Filter, Listen, Wanted, Wish};

use crate::backend::lock;
use crate::sessions::Live;

/// How long somebody waits until the server was asked for what they want: others may be ahead.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who hears of a server's changes.
#[derive(Debug, Default)]
pub struct Hub {
    state: Mutex<State>,
    /// Something is wanted that was not, or not any more; somebody listens, or nobody does; there is
    /// another instance.
    changed: Notify,
    settled: watch::Sender<Settled>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    members: HashMap<u64, (Listener, Wish)>,
    wanted: Wanted,
    /// Counts the changes of the union.
    version: u64,
    /// Whether we want to hear of its tools ourselves.
    ours: bool,
}

/// What the server has been asked for.
#[derive(Debug, Default)]
struct Settled {
    version: u64,
    told: Filter,
}

/// Somebody who hears of changes.
#[derive(Debug)]
pub enum Listener {
    /// A handshake session.
    Session(Weak<Live>),
    /// A `subscriptions/listen`.
    Listen(Weak<Mutex<Listen>>),
}

/// Somebody's place among those who hear of changes, until dropped.
#[derive(Debug)]
pub struct Member {
    hub: Arc<Hub>,
    number: u64,
}

impl Member {
    /// Where.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// They want something else from now on.
    pub fn change(&self, change: impl FnOnce(&mut Listener, &mut Wish)) {
        let mut state = lock(&self.hub.state);
        let State { members, wanted, .. } = &mut *state;
        let Some((listener, wish)) = members.get_mut(&self.number) else { return };
        let before = wish.clone();
        change(listener, wish);
        let more = wanted.add(wish);
        let less = wanted.remove(&before);
        self.hub.count(&mut state, more || less);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = lock(&self.hub.state);
        let Some((_, wish)) = state.members.remove(&self.number) else { return };
        let less = state.wanted.remove(&wish);
        let last = state.members.is_empty();
        self.hub.count(&mut state, less || last);
    }
}

/// Tools, and nothing else.
fn tools() -> Wish {
    Wish { filter: Filter { tools: true, ..Filter::default() }, level: None }
}

impl Hub {
    /// From now on `listener` hears of changes, and wants this of the server.
    pub fn join(self: &Arc<Self>, listener: Listener, wish: Wish) -> Member {
        let mut state = lock(&self.state);
        let number = state.next;
        state.next += 1;
        let more = state.wanted.add(&wish);
        state.members.insert(number, (listener, wish));
        let first = state.members.len() == 1;
        self.count(&mut state, more || first);
        Member { hub: self.clone(), number }
    }

    /// With many users most changes change nothing: those wake nobody.
    fn count(&self, state: &mut State, news: bool) {
        if news {
            state.version += 1;
            self.changed.notify_one();
        }
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        lock(&self.state).members.is_empty()
    }

    /// We want to hear of its tools ourselves, as long as an instance runs: none is kept running for that.
    pub fn want_tools(&self) {
        let mut state = lock(&self.state);
        if !state.ours {
            state.ours = true;
            let more = state.wanted.add(&tools());
            self.count(&mut state, more);
        }
    }

    /// None runs any more.
    pub(super) fn forget_tools(&self) {
        let mut state = lock(&self.state);
        if state.ours {
            state.ours = false;
            let less = state.wanted.remove(&tools());
            self.count(&mut state, less);
        }
    }

    /// What is wanted now, and the how-manieth version of that it is.
    pub(super) fn wanted(&self) -> (u64, Filter) {
        let state = lock(&self.state);
        (state.version, state.wanted.filter())
    }

    /// The most verbose level that somebody wants now.
    pub fn level(&self) -> Option<Level> {
        lock(&self.state).wanted.level()
    }

    /// Waits until something is to be looked at; what happened before counts.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// There is something to look at.
    pub(super) fn look(&self) {
        self.changed.notify_one();
    }

    /// The server was asked for everything up to this version, and tells of so much of it.
    pub(super) fn settle(&self, version: u64, told: Filter) {
        self.settled.send_if_modified(|settled| {
            let news = settled.version != version || settled.told != told;
            *settled = Settled { version, told };
            news
        });
    }

    /// What of `filter`, which a member wants, the server tells of. Waits until it was asked.
    pub(super) async fn told(&self, filter: &Filter) -> Filter {
        let version = lock(&self.state).version;
        let mut settled = self.settled.subscribe();
        let asked = tokio::time::timeout(PATIENCE, settled.wait_for(|settled| settled.version >= version)).await;
        match asked {
            Ok(Ok(settled)) => filter.common_with(&settled.told),
            _ => Filter::default(),
        }
    }

    /// Tells everybody. `own`: the server is one session's own.
    pub fn publish(&self, notice: &Notice, own: bool) {
        // Taken out first: the last owner of a session may be this very loop, and a session that
        // ends leaves the hub.
        let (mut sessions, mut listens) = (Vec::new(), Vec::new());
        for (listener, _) in lock(&self.state).members.values() {
            match listener {
                Listener::Session(live) => sessions.extend(live.upgrade()),
                Listener::Listen(listen) => listens.extend(listen.upgrade()),
            }
        }
        let now = Instant::now();
        for live in sessions {
            let mut session = lock(&live.state);
            if own {
                session.handle_own_notice(notice, now);
            } else {
                session.handle_shared_notice(notice, now);
            }
        }
        for listen in listens {
            lock(&listen).handle_notice(notice);
        }
    }

    /// The server does not come back: streams of changes end without a result, so that their clients
    /// know that something may have been missed.
    pub(super) fn break_off(&self) {
        let mut listens = Vec::new();
        for (listener, _) in lock(&self.state).members.values() {
            if let Listener::Listen(listen) = listener {
                listens.extend(listen.upgrade());
            }
        }
        for listen in listens {
            lock(&listen).break_off();
        }
    }

    /// The session whose own server this is.
    pub fn owner(&self) -> Option<Arc<Live>> {
        lock(&self.state).members.values().find_map(|(listener, _)| match listener {
            Listener::Session(live) => live.upgrade(),
            Listener::Listen(_) => None,
        })
    }
}
