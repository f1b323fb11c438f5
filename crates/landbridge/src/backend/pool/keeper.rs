//! Keeps what users want of a shared server true, whatever becomes of its instances.
//!
//! ```text
//!   nobody listens ──▶ wait
//!   somebody does  ──▶ an instance runs? ──yes──▶ tend: tell it what is wanted, again and again ──┐
//!         ▲                 └──no──▶ start one, after a while                                 │
//!         └──────────────────────────────◀── it is gone, or told us so much and no more ◀─────┘
//! ```
//!
//! Subscriptions and listens are held at one of the instances that clients share, the lead; the log
//! level is told to each, for calls run on all of them. Every instance's notices reach the hub: where
//! several tell of the same change their clients hear of it more than once, which costs a listing and
//! loses nothing. Whenever changes may have been missed, everybody is told once that there may have
//! been some.
//!
//! One task per server, and the only one that subscribes. It waits for something to happen or, after
//! a failure, for its time; each failure makes that longer.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use landbridge_proto::abilities::Abilities;
use landbridge_proto::call::{Outcome, Reply};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::message::Message;
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::{Change, Filter, Granted};
use landbridge_proto::version::Era;

use crate::backend::Hub;
use crate::backend::pool::{Held, Instance, Pool};

/// How long we wait for the answers to what we ask at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// So much is asked at once.
const BATCH: usize = 256;
/// A pipe that is full is looked at again after this.
const FULL: Duration = Duration::from_millis(250);
/// After so many failures, or so long, streams of changes are broken off; sessions stay.
const HOPELESS: u32 = 6;
const TOO_LONG: Duration = Duration::from_secs(30);

/// How often something failed of late, and when it may be tried again.
#[derive(Debug, Default)]
struct Retry {
    failures: u32,
    due: Option<Instant>,
}

impl Retry {
    /// What lasted as long as this was no failure.
    const STEADY: Duration = Duration::from_secs(60);
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(30);

    /// It failed, or ended after it had `lasted` so long.
    fn failed(&mut self, lasted: Duration, now: Instant) {
        if lasted >= Retry::STEADY {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let delay = Retry::FIRST * 2_u32.pow(self.failures.min(8) - 1);
        self.due = Some(now + delay.min(Retry::LONGEST));
    }
}

/// Waits until then; forever, if there is no such time.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

pub(super) struct Keeper {
    pool: Weak<Pool>,
    hub: Arc<Hub>,
    /// Which instance to start again.
    abilities: Abilities,
    /// Since when changes may have been missed that nobody was told of.
    missed: Option<Instant>,
    starts: Retry,
}

impl Keeper {
    /// Begins when there is the first instance to share, and ends with the server.
    pub(super) fn begin(pool: &Arc<Pool>) {
        let keeper = Keeper {
            pool: Arc::downgrade(pool),
            hub: pool.hub.clone(),
            abilities: Abilities::NONE,
            missed: None,
            starts: Retry::default(),
        };
        let mut stopped = pool.stopped.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = keeper.keep() => {}
            }
        });
    }

    async fn keep(mut self) {
        loop {
            let Some(pool) = self.pool.upgrade() else { return };
            let lead = pool.lead();
            drop(pool);
            match lead {
                Some((abilities, instance)) => {
                    self.abilities = abilities;
                    self.tend(instance).await;
                }
                None if self.hub.is_empty() => {
                    self.hub.forget_tools();
                    (self.missed, self.starts) = (None, Retry::default());
                    self.hub.changed().await;
                }
                None => self.bring_back().await,
            }
        }
    }

    /// Somebody listens, and no instance runs.
    async fn bring_back(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let overdue = self.missed.is_some_and(|since| since.elapsed() >= TOO_LONG);
        if self.starts.failures >= HOPELESS || (overdue && self.starts.failures > 1) {
            self.hub.break_off();
        }
        let due = self.starts.due.max(pool.not_before());
        if due.is_some_and(|due| due > Instant::now()) {
            drop(pool);
            tokio::select! {
                () = until(due) => {}
                // Somebody else may have started one; or nobody listens any more.
                () = self.hub.changed() => {}
            }
            return;
        }
        if pool.shared(self.abilities).await.is_err() {
            // Why was told where it failed.
            self.starts.failed(Duration::ZERO, Instant::now());
        }
    }

    /// Keeps an instance told of what is wanted, until it is gone.
    async fn tend(&mut self, instance: Arc<Instance>) {
        instance.lead();
        let began = Instant::now();
        let mut tended = Tended { granted: Granted::default(), listen: None, listens: Retry::default(), ended: false };
        let (era, can) = (instance.server().era(), instance.server().can);
        let mut sessions = instance.sessions();
        while instance.is_alive() {
            if sessions != instance.sessions() {
                sessions = instance.sessions();
                tended.granted = Granted::default();
                self.missed.get_or_insert_with(Instant::now);
            }
            if let Some(pool) = self.pool.upgrade() {
                pool.tell_level();
            }
            let (version, wanted) = self.hub.wanted();
            let wanted = wanted.honoured_by(can);
            let changes = tended.granted.changes(&wanted, era);
            if !changes.is_empty() {
                tended.tell(&instance, changes).await;
                continue; // something else may be wanted by now
            }
            // Whoever asks while a listen that ended is about to be opened again waits for that.
            if !tended.ended {
                let told = tended.granted.tells_of(&wanted, era);
                let listens = era == Era::Handshake || tended.listen.is_some() || wanted.is_empty();
                if listens && self.missed.take().is_some() {
                    for notice in told.notices() {
                        self.hub.publish(&notice, false);
                    }
                }
                self.hub.settle(version, told);
            }
            let due = tended.listens.due;
            tokio::select! {
                () = instance.gone() => break,
                () = self.hub.changed() => {}
                () = tended.end_of_listen() => {
                    if !instance.is_alive() {
                        break; // that is why
                    }
                    info!(server = instance.name(), "it ended our subscriptions/listen; asking again");
                    self.missed.get_or_insert_with(Instant::now);
                    tended.ended(wanted);
                }
                () = until(due) => {
                    tended.listens.due = None;
                    tended.granted.ask_again();
                }
            }
        }
        // What it was asked for is gone with it.
        if !self.hub.is_empty() {
            self.missed.get_or_insert_with(Instant::now);
            self.starts.failed(began.elapsed(), Instant::now());
        }
    }
}

/// What the lead was told.
struct Tended {
    granted: Granted,
    /// The `subscriptions/listen` we hold at a stateless server, and since when.
    listen: Option<(Held, Instant)>,
    listens: Retry,
    /// The last one ended by itself, and was not opened again yet.
    ended: bool,
}

impl Tended {
    async fn tell(&mut self, instance: &Arc<Instance>, changes: Vec<Change>) {
        let mut asked = Vec::new();
        let mut full = false;
        for change in changes.into_iter().take(BATCH) {
            match change {
                Change::Listen(filter) => self.listen(instance, filter).await,
                Change::Unlisten => {
                    self.listen = None;
                    self.listens = Retry::default();
                    self.granted = Granted::default();
                    self.ended = false;
                }
                Change::Unsubscribe(uri) => {
                    instance.link().tell(&Method::Unsubscribe, &format!("\"uri\":{}", json::quote(&uri)), Instant::now());
                    self.granted.unsubscribed(&uri);
                }
                Change::Subscribe(uri) => match Held::begin(instance, &Method::Subscribe, &format!("\"uri\":{}", json::quote(&uri))) {
                    Ok(held) => asked.push((uri, held)),
                    Err(_) => full = true, // or closed, which shows at once
                },
            }
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        for (uri, mut held) in asked {
            let answer = tokio::time::timeout_at(until, held.reply()).await;
            self.granted.subscribed(uri, matches!(answer, Ok(Reply::Done(Outcome::Result(_)))));
        }
        if full {
            let _ = tokio::time::timeout(FULL, instance.gone()).await;
        }
    }

    async fn listen(&mut self, instance: &Arc<Instance>, filter: Filter) {
        match open_listen(instance, &filter).await {
            Ok((held, given)) => {
                // The old one, if there is one, ends now that this one is acknowledged.
                self.listen = Some((held, Instant::now()));
                self.listens.due = None;
                self.granted.listens(filter, given);
            }
            Err(_) if !instance.is_alive() => return,
            Err(fault) => {
                match self.listens.failures {
                    0 => warn!(server = instance.name(), %fault, "it cannot be listened to; asking again and again"),
                    _ => debug!(server = instance.name(), %fault, "it cannot be listened to"),
                }
                self.listens.failed(Duration::ZERO, Instant::now());
                self.granted.refused(filter);
            }
        }
        self.ended = false;
    }

    /// Waits until the server ends the listen.
    async fn end_of_listen(&mut self) {
        let Some((held, _)) = &mut self.listen else { return std::future::pending().await };
        while !matches!(held.reply().await, Reply::Done(_)) {}
    }

    /// It did.
    fn ended(&mut self, wanted: Filter) {
        let lasted = self.listen.take().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        self.listens.failed(lasted, Instant::now());
        self.granted = Granted::default();
        self.granted.refused(wanted);
        self.ended = true;
    }
}

/// A listen that was acknowledged, and with what.
async fn open_listen(instance: &Arc<Instance>, wanted: &Filter) -> Result<(Held, Filter), Fault> {
    let mut held = Held::begin(instance, &Method::Listen, &format!("\"notifications\":{}", wanted.to_json()))?;
    match tokio::time::timeout(PATIENCE, held.reply()).await {
        Ok(Reply::Note(note)) if note.method == Method::Acknowledged => {
            let given = Message::read(note.message).ok().and_then(|m| Filter::read(&m).ok());
            Ok((held, given.unwrap_or_default()))
        }
        Ok(Reply::Done(Outcome::Fault(fault))) => Err(fault),
        _ => Err(Fault::backend(instance.name(), Kind::Backend).tell("subscriptions/listen was not acknowledged")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_is_followed_by_a_longer_wait_until_something_lasts() {
        let (mut retry, now) = (Retry::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..10 {
            retry.failed(Duration::from_secs(1), now);
            waits.push((retry.due.unwrap() - now).as_millis());
        }
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        retry.failed(Retry::STEADY, now);
        assert_eq!(retry.due, Some(now + Retry::FIRST));
    }
}
