//! A server that runs as instances: starting, sharing, stopping.
//!
//! ```text
//!   seat ──▶ era known? ──stateless──▶ the shared instance
//!              │            └handshake──▶ by isolation: an instance of its own (the warm spare, if
//!              │                          there is one), or one that clients of its abilities share
//!              └ not yet ──▶ one instance is started and met; the others wait for its verdict
//! ```
//!
//! What users want of the instances they share is kept true by the `keeper`, which starts one again
//! while somebody listens.
//!
//! An instance that dies before its handshake is done delays the *next start*, never the answer:
//! whoever waits gets the error, with the instance's last words, at once.

mod bare;
mod child;
mod exchanges;
mod instance;
mod keeper;
mod merged;
mod pipe;
mod places;
mod remote;
mod turns;
mod within;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};

use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::probe::Protocol;
use landbridge_proto::call::{Client, Principal, Server, Transport};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::version::{Era, Revision};

use crate::backend::http::Http;
use crate::backend::{Hub, lock};
use crate::home;
use crate::plan::{Isolation, Limits, Server as ServerPlan, Target, ToolFilter};
use crate::vault::Pass;
pub(crate) use bare::Bare;
use child::Spawned;
use instance::Held;
pub use instance::{Chair, Instance};
use keeper::Keeper;
pub use merged::Servers;
pub use places::Places;
pub use remote::Exchange;
use remote::Site;
pub use turns::Turn;
pub use within::{Callers, Pipe};

/// A server that runs as instances.
pub struct Pool {
    name: String,
    /// Who shares them; nobody in particular if nobody is told apart.
    principal: Principal,
    /// Which of its tools are there for clients.
    pub(super) tools: Arc<ToolFilter>,
    origin: Origin,
    protocol: Protocol,
    isolation: Isolation,
    limits: Limits,
    /// Places for children, or for sessions elsewhere, of all servers together.
    places: Arc<Places>,
    verdict: Arc<Verdict>,
    /// What the instance that was met last said of itself.
    introduced: Arc<Mutex<Option<Arc<Server>>>>,
    /// Held while the first instance is met, or the shared one is started: one start for all.
    meeting: tokio::sync::Mutex<()>,
    /// Children that clients share, by what those can be asked: a handshake says that once for all.
    shared: Mutex<BTreeMap<Abilities, Vec<Arc<Instance>>>>,
    /// Who hears of the changes of all these.
    hub: Arc<Hub>,
    keeper: Once,
    turns: turns::Turns,
    spare: Mutex<Option<Spawned>>,
    backoff: Mutex<Backoff>,
    stopped: watch::Sender<bool>,
    /// Every instance there is, for the housekeeping and the end.
    instances: Mutex<Vec<std::sync::Weak<Instance>>>,
}

/// What instances are made of.
#[derive(Clone)]
enum Origin {
    /// Child processes.
    Command(child::Command),
    /// Sessions at a server elsewhere; one that keeps no sessions has one instance.
    Remote(Arc<Site>),
    /// Other servers of ours, together: one for each session, and one for stateless clients.
    Merged(Arc<Servers>),
    /// In this process, spoken to over a pipe.
    Within(Pipe),
}

/// What the server speaks, once one instance was met. An instance may find that it does not any more.
#[derive(Debug, Default)]
struct Verdict(Mutex<Option<(Era, Instant)>>);

impl Verdict {
    fn get(&self) -> Option<(Era, Instant)> {
        *lock(&self.0)
    }

    fn reach(&self, era: Era) {
        *lock(&self.0) = Some((era, Instant::now()));
    }

    fn forget(&self) {
        *lock(&self.0) = None;
    }
}

/// Instances are counted for all servers together: one that is changed is another server by the same
/// name, and what a client holds of the old one must not mean something else there.
static ORDINALS: AtomicU32 = AtomicU32::new(1);

/// Deaths before the handshake, and what the last one said.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    until: Option<Instant>,
    last: Option<Fault>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Pool {
    /// The server `name` as planned; `None` for one that has no instances. `places` bounds those of all
    /// servers of its kind together; `http` reaches those that are elsewhere, `pipe` one that is in this
    /// process.
    pub fn new(name: &str, plan: &ServerPlan, limits: Limits, places: Arc<Places>, http: &Http, pipe: Option<&Pipe>) -> Option<Pool> {
        Pool::new_with(name, plan, limits, places, http, pipe, None)
    }

    /// The same; a server elsewhere lets us in by this pass, in place of one that is planned.
    pub fn new_with(
        name: &str,
        plan: &ServerPlan,
        limits: Limits,
        places: Arc<Places>,
        http: &Http,
        pipe: Option<&Pipe>,
        pass: Option<Arc<Pass>>,
    ) -> Option<Pool> {
        let origin = match &plan.target {
            Target::Demo => return None,
            Target::Within => Origin::Within(pipe?.clone()),
            Target::Command { argv, env, cwd } => Origin::Command(child::Command::new(argv, env, cwd.as_deref())),
            Target::Remote { url, headers, transport, auth } => {
                let planned = || auth.as_ref().map(|auth| Arc::new(Pass::new(url, "", auth, http, home::data().as_deref())));
                let pass = pass.or_else(planned);
                Origin::Remote(Arc::new(Site::new(name, http.clone(), url, headers, *transport, pass)))
            }
        };
        Some(Pool {
            tools: Arc::new(plan.tools.clone()),
            isolation: plan.isolation,
            ..Pool::of(name, origin, plan.protocol, limits, places)
        })
    }

    /// Several servers as one, for clients of that era; its instances take no places.
    pub fn merged(name: &str, servers: Arc<Servers>, era: Era, limits: Limits) -> Pool {
        let protocol = match era {
            Era::Handshake => Protocol::Legacy,
            Era::Stateless => Protocol::Pinned(Revision::NEWEST),
        };
        Pool::of(name, Origin::Merged(servers), protocol, limits, Arc::new(Places::new(0)))
    }

    fn of(name: &str, origin: Origin, protocol: Protocol, limits: Limits, places: Arc<Places>) -> Pool {
        Pool {
            name: name.into(),
            principal: Principal::default(),
            tools: Arc::default(),
            origin,
            protocol,
            isolation: Isolation::Session,
            limits,
            places,
            verdict: Arc::default(),
            introduced: Arc::default(),
            meeting: tokio::sync::Mutex::default(),
            shared: Mutex::default(),
            hub: Arc::default(),
            keeper: Once::new(),
            turns: turns::Turns::default(),
            spare: Mutex::default(),
            backoff: Mutex::default(),
            stopped: watch::channel(false).0,
            instances: Mutex::default(),
        }
    }

    /// The same server, for `who` alone. What it speaks is known to all.
    pub(super) fn apart(&self, who: Principal) -> Pool {
        Pool {
            principal: who,
            tools: self.tools.clone(),
            isolation: self.isolation,
            verdict: self.verdict.clone(),
            introduced: self.introduced.clone(),
            stopped: watch::channel(*self.stopped.borrow()).0,
            ..Pool::of(&self.name, self.origin.clone(), self.protocol, self.limits, self.places.clone())
        }
    }

    /// Whether principals may not share its instances.
    pub(super) fn tells_apart(&self) -> bool {
        // Several servers as one are called in the name of whom their instance is for.
        matches!(self.origin, Origin::Merged(_)) || self.isolation != Isolation::None && self.era() != Some(Era::Stateless)
    }

    /// Makes it one of those that give way when there is no place left.
    pub(super) fn enlist(self: &Arc<Self>) {
        self.places.enlist(self);
    }

    /// Whether nothing of it runs.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.instances).iter().all(|instance| instance.strong_count() == 0) && lock(&self.spare).is_none()
    }

    /// Whether a session has an instance of its own.
    pub(super) fn is_for_sessions(&self) -> bool {
        self.isolation == Isolation::Session
    }

    /// What we call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An instance for a handshake client: its own, or one it shares.
    pub async fn seat(self: &Arc<Self>, client: &Arc<Client>) -> Result<Arc<Instance>, Fault> {
        if self.isolation != Isolation::Session || self.era() == Some(Era::Stateless) {
            return self.shared(Abilities::of(client)).await;
        }
        let (pool, client) = (self.clone(), client.clone());
        by_itself(async move {
            // Until one instance was met, the others wait for its verdict.
            let mut meeting = None;
            if pool.era() != Some(Era::Handshake) {
                meeting = Some(pool.meeting.lock().await);
            }
            if pool.era() == Some(Era::Handshake) {
                drop(meeting.take());
            }
            if pool.era() == Some(Era::Stateless)
                && let Some(instance) = pool.running(Abilities::NONE)
            {
                return Ok(instance);
            }
            let instance = pool.start(Some(&client), None).await?;
            if instance.server().era() == Era::Stateless {
                instance.share();
                pool.admit(Abilities::NONE, &instance);
            } else {
                pool.warm_up();
            }
            Ok(instance)
        })
        .await
    }

    /// The instance that clients of these abilities share. To a stateless server each call says for
    /// itself what its client can, so all share one.
    pub async fn shared(self: &Arc<Self>, abilities: Abilities) -> Result<Arc<Instance>, Fault> {
        match self.running_for(abilities) {
            Some(instance) => Ok(instance),
            None => self.start_shared(abilities, move |pool| pool.running_for(abilities)).await,
        }
    }

    /// The same, if it runs.
    fn running_for(&self, abilities: Abilities) -> Option<Arc<Instance>> {
        self.running(abilities).or_else(|| match self.era() {
            Some(Era::Stateless) => self.running(Abilities::NONE),
            _ => None,
        })
    }

    /// The instance of that number, if it runs.
    pub fn instance(&self, ordinal: u32) -> Option<Arc<Instance>> {
        lock(&self.instances)
            .iter()
            .filter_map(std::sync::Weak::upgrade)
            .find(|c| c.ordinal() == ordinal && c.is_alive())
            .inspect(|c| c.touch())
    }

    /// Whether the server can be reached, starting it if that is not known.
    pub async fn is_ready(self: &Arc<Self>) -> Result<(), Fault> {
        if self.was_met() {
            return Ok(());
        }
        // Somebody else may have met it meanwhile, with an instance of a session's own.
        let known = |pool: &Pool| pool.was_met().then(|| pool.running(Abilities::NONE)).flatten();
        self.start_shared(Abilities::NONE, known).await.map(|_| ())
    }

    /// The instructions of the server, if it was met and came up when it was last started.
    pub fn instructions(&self) -> Option<Bytes> {
        lock(&self.introduced).as_ref()?.instructions.clone()
    }

    fn was_met(&self) -> bool {
        self.verdict.get().is_some() && lock(&self.backoff).last.is_none()
    }

    /// One start for all who wait for it. `known` is asked once more before.
    async fn start_shared(
        self: &Arc<Self>,
        abilities: Abilities,
        known: impl Fn(&Pool) -> Option<Arc<Instance>> + Send + 'static,
    ) -> Result<Arc<Instance>, Fault> {
        let pool = self.clone();
        by_itself(async move {
            let _meeting = pool.meeting.lock().await;
            if let Some(instance) = known(&pool) {
                return Ok(instance);
            }
            // Its era may have become known while we waited.
            let stateless = pool.era() == Some(Era::Stateless);
            if stateless && let Some(instance) = pool.running(Abilities::NONE) {
                return Ok(instance);
            }
            let instance = pool.start(None, Some(abilities)).await?;
            let abilities = if instance.server().era() == Era::Stateless { Abilities::NONE } else { abilities };
            pool.admit(abilities, &instance);
            Ok(instance)
        })
        .await
    }

    /// One more instance for clients to share.
    fn admit(self: &Arc<Self>, abilities: Abilities, instance: &Arc<Instance>) {
        lock(&self.shared).entry(abilities).or_default().push(instance.clone());
        self.tell_level();
        self.keeper.call_once(|| Keeper::begin(self));
        self.hub.look();
    }

    /// Tells every instance that clients share the level those want now.
    fn tell_level(&self) {
        let level = self.hub.level();
        for instance in lock(&self.shared).values().flatten() {
            let _ = instance.link().want_level(level, Instant::now()); // closed, or full: then the clock tells
        }
    }

    /// An instance that clients share.
    pub fn lead(&self) -> Option<(Abilities, Arc<Instance>)> {
        let shared = lock(&self.shared);
        shared.iter().find_map(|(abilities, group)| Some((*abilities, group.iter().find(|c| c.is_alive())?.clone())))
    }

    /// Ends the warm spare, if there is one, for somebody who needs its place.
    fn give_up_spare(&self) -> bool {
        lock(&self.spare).take().is_some()
    }

    /// Lets go of what nobody uses, and ends what took too long. Called every second.
    pub fn housekeep(&self, now: Instant) {
        let idle = Duration::from_millis(self.limits.child_idle_ms);
        let instances: Vec<Arc<Instance>> = {
            let mut all = lock(&self.instances);
            all.retain(|c| c.strong_count() > 0);
            all.iter().filter_map(std::sync::Weak::upgrade).collect()
        };
        for instance in instances {
            instance.operate(|link| link.handle_timeout(now));
            if instance.is_shared() && instance.idle_for(now) > idle {
                match self.origin {
                    Origin::Command(_) => tracing::info!(server = self.name, "stopping a child nobody uses"),
                    Origin::Remote(_) => tracing::info!(server = self.name, "closing a session nobody uses"),
                    Origin::Merged(_) | Origin::Within(_) => {}
                }
                instance.stop();
            }
        }
        lock(&self.shared).retain(|_, group| {
            group.retain(|instance| instance.is_alive());
            !group.is_empty()
        });
        let mut spare = lock(&self.spare);
        spare.take_if(|s| !s.is_running() || now.saturating_duration_since(s.since()) > idle);
    }

    /// Who hears of the changes of what clients share.
    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Whether an instance runs.
    pub fn has_instances(&self) -> bool {
        lock(&self.instances).iter().any(|instance| instance.strong_count() > 0)
    }

    /// Every instance takes no more calls, while those under way go on.
    pub fn retire_all(&self) {
        for instance in lock(&self.instances).iter().filter_map(std::sync::Weak::upgrade).collect::<Vec<_>>() {
            instance.retire();
        }
    }

    /// Whether no call is under way.
    pub fn is_quiet(&self) -> bool {
        lock(&self.instances).iter().filter_map(std::sync::Weak::upgrade).all(|instance| instance.link().in_flight() == 0)
    }

    /// No instance is started any more, for nobody; those that run, run on.
    pub fn start_nothing(&self) {
        self.stopped.send_replace(true);
        *lock(&self.spare) = None;
    }

    /// Tells every instance to end.
    pub fn stop(&self) {
        self.start_nothing();
        lock(&self.shared).clear();
        for instance in lock(&self.instances).iter().filter_map(std::sync::Weak::upgrade) {
            instance.stop();
        }
    }

    fn running(&self, abilities: Abilities) -> Option<Arc<Instance>> {
        let shared = lock(&self.shared);
        let instance = shared.get(&abilities)?.iter().find(|c| c.is_alive())?;
        instance.touch();
        Some(instance.clone())
    }

    /// Ends an instance that clients share and nobody uses, for somebody who needs its place.
    fn give_up_unused(&self) -> bool {
        let unused = {
            let shared = lock(&self.shared);
            shared.values().flatten().find(|c| c.is_alive() && c.is_unused()).cloned()
        };
        unused.inspect(|instance| instance.stop()).is_some()
    }

    /// The verdict, if there is one that still counts. A wrong "stateless" fails loudly; a wrong
    /// "handshake" would go unnoticed forever, so it expires.
    pub fn era(&self) -> Option<Era> {
        match self.protocol {
            Protocol::Legacy => return Some(Era::Handshake),
            Protocol::Pinned(revision) => return Some(revision.era()),
            Protocol::Auto => {}
        }
        let keep = Duration::from_millis(self.limits.verdict_ms);
        self.verdict.get().filter(|(era, at)| *era == Era::Stateless || at.elapsed() < keep).map(|(era, _)| era)
    }

    /// Starts an instance and meets it: `client`'s own, or one for all clients of these abilities.
    async fn start(self: &Arc<Self>, client: Option<&Arc<Client>>, shared: Option<Abilities>) -> Result<Arc<Instance>, Fault> {
        let stopping = || Fault::gateway(Kind::Busy).tell("the gateway is being stopped; try again later");
        let mut stopped = self.stopped.subscribe();
        if *self.stopped.borrow() {
            return Err(stopping());
        }
        self.check_backoff()?;
        let protocol = match (self.protocol, self.era()) {
            (Protocol::Auto, Some(Era::Handshake)) => Protocol::Legacy,
            (Protocol::Auto, Some(Era::Stateless)) => Protocol::Pinned(Revision::NEWEST),
            (protocol, _) => protocol,
        };
        let ordinal = ORDINALS.fetch_add(1, Ordering::Relaxed);
        let who = match (client, shared) {
            (Some(client), None) => client.clone(),
            (_, abilities) => Arc::new(us(self.principal.clone(), abilities.unwrap_or_default())),
        };
        let told = async {
            let _ = stopped.wait_for(|stopped| *stopped).await.is_ok();
        };
        let met = tokio::select! {
            met = self.meet(protocol, &who, shared.is_some(), ordinal) => met?,
            // The instance that is not met yet ends with the meeting.
            () = told => return Err(stopping()),
        };
        match met {
            Ok(instance) => {
                *lock(&self.backoff) = Backoff::default();
                self.verdict.reach(instance.server().era());
                *lock(&self.introduced) = Some(instance.server().clone());
                lock(&self.instances).push(Arc::downgrade(&instance));
                if *self.stopped.borrow() {
                    return Err(stopping()); // who told us to stop may not have seen it
                }
                Ok(instance)
            }
            // That its user has to log in says nothing of the server.
            Err(fault) if fault.kind == Kind::Changed => Err(fault),
            Err(fault) => {
                // A verdict that may be why it failed is not kept.
                self.verdict.forget();
                *lock(&self.introduced) = None;
                tracing::warn!(server = self.name, %fault, "the server did not come up");
                self.note_failure(&fault);
                Err(fault)
            }
        }
    }

    /// A new instance, met; the outer error is one of ours, of which the server knows nothing.
    async fn meet(
        self: &Arc<Self>,
        protocol: Protocol,
        who: &Client,
        shared: bool,
        ordinal: u32,
    ) -> Result<Result<Arc<Instance>, Fault>, Fault> {
        match &self.origin {
            Origin::Command(_) => {
                let spare = lock(&self.spare).take().filter(Spawned::is_running);
                let spawned = match spare {
                    Some(spare) => spare,
                    None => self.spawn(who).await?,
                };
                Ok(child::meet(self, spawned, protocol, who, shared, ordinal).await)
            }
            Origin::Within(_) => Ok(child::meet(self, self.spawn(who).await?, protocol, who, shared, ordinal).await),
            Origin::Remote(site) => {
                let place = self.place().await.ok_or_else(|| {
                    let most = self.limits.remote_sessions;
                    Fault::gateway(Kind::Busy)
                        .tell(format!("{most} sessions with servers elsewhere are open already, the most allowed; try again later"))
                })?;
                let arrival = remote::Arrival { pool: self, place, client: who, shared, ordinal };
                Ok(remote::meet(arrival, site, protocol).await)
            }
            Origin::Merged(servers) => Ok(merged::meet(self, servers, who, shared, ordinal)),
        }
    }

    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.take(Duration::from_millis(self.limits.child_stop_ms)).await
    }

    async fn spawn(&self, who: &Client) -> Result<Spawned, Fault> {
        let full = |what: String| Fault::gateway(Kind::Busy).tell(format!("{what}; try again later"));
        match &self.origin {
            Origin::Command(command) => {
                let most = self.limits.children;
                let what = || format!("{most} server processes are running already, the most this gateway may start");
                let place = self.place().await.ok_or_else(|| full(what()))?;
                child::spawn(&self.name, command, place, &self.limits).map_err(|e| {
                    Fault::backend(&self.name, Kind::Backend).tell(format!("the server `{}` could not be started", self.name)).because(e)
                })
            }
            Origin::Within(pipe) => {
                let what = || format!("there is no room for another session with the server `{}`", self.name);
                let place = self.place().await.ok_or_else(|| full(what()))?;
                Ok(within::spawn(&self.name, pipe, pipe.callers(who), place, &self.limits))
            }
            _ => Err(Fault::gateway(Kind::Backend).tell(format!("the server `{}` is not ours to start", self.name))),
        }
    }

    /// Whether it runs in this process, as lines over a pipe.
    fn is_within(&self) -> bool {
        matches!(self.origin, Origin::Within(_))
    }

    /// Starts the next session's instance ahead of time, so that a slow start is paid once. Not at
    /// once: the session that was just opened has its first call to make.
    fn warm_up(self: &Arc<Self>) {
        const LATER: Duration = Duration::from_millis(100);
        // Where there is room for one session only, nobody comes next.
        if !matches!(self.origin, Origin::Command(_)) || self.limits.sessions < 2 {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            let Some(pool) = pool.upgrade() else { return };
            // The last place is not for a spare: somebody may need it.
            if pool.places.left() < 2 || lock(&pool.spare).is_some() || *pool.stopped.borrow() {
                return;
            }
            match pool.spawn(&us(pool.principal.clone(), Abilities::default())).await {
                Ok(spare) => {
                    *lock(&pool.spare) = Some(spare);
                    // It takes a moment to start one; who told us to stop meanwhile saw no spare.
                    if *pool.stopped.borrow() {
                        *lock(&pool.spare) = None;
                    }
                }
                Err(fault) => tracing::debug!(server = pool.name, %fault, "no warm spare"),
            }
        });
    }

    fn check_backoff(&self) -> Result<(), Fault> {
        let backoff = lock(&self.backoff);
        match (backoff.until, &backoff.last) {
            (Some(until), Some(last)) if until > Instant::now() => {
                let secs = (until - Instant::now()).as_secs_f32();
                let told = format!("{}; the next attempt is possible in {secs:.1} s", last.told);
                Err(last.clone().tell(told))
            }
            _ => Ok(()),
        }
    }

    /// When the next start may be tried, if that is not now.
    fn not_before(&self) -> Option<Instant> {
        lock(&self.backoff).until
    }

    fn note_failure(&self, fault: &Fault) {
        let mut backoff = lock(&self.backoff);
        backoff.failures += 1;
        let delay = Duration::from_millis(250) * 2_u32.pow(backoff.failures.min(7));
        backoff.until = Some(Instant::now() + delay.min(Duration::from_secs(30)));
        backoff.last = Some(fault.clone());
    }
}

/// Ourselves, on behalf of clients of `who` with these abilities.
fn us(who: Principal, abilities: Abilities) -> Client {
    Client {
        revision: Revision::LAST_HANDSHAKE,
        principal: who,
        transport: Transport::Local,
        info: None,
        capabilities: abilities.to_json().into(),
    }
}

/// Runs to its end also when nobody waits for it any more: a client that gives up must not undo
/// a slow start that the next one needs.
async fn by_itself<T: Send + 'static>(work: impl Future<Output = Result<T, Fault>> + Send + 'static) -> Result<T, Fault> {
    let lost = |e| Fault::gateway(Kind::Backend).tell("starting the server failed").because(e);
    tokio::spawn(work).await.unwrap_or_else(|e| Err(lost(e)))
}
