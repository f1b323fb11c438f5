//! An instance that has been met: a link, and who has to do with it.
//!
//! What carries its lines is another's business: [`pipe`](super::pipe) for a child process,
//! [`remote`](super::remote) for a server elsewhere.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, info};

use landbridge_proto::back::link::{Event, Key, Link};
use landbridge_proto::call::{Call, Level, Notice, Reply, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::Tag;
use landbridge_proto::json;
use landbridge_proto::methods::Method;

use crate::backend::mirrors::Mirrors;
use crate::backend::pool::remote::{Carrier, Exchange};
use crate::backend::pool::{Pool, Verdict};
use crate::backend::{Hub, Peer, lock};
use crate::eras::Wire;
use crate::observe::Ration;

/// An instance that takes calls.
#[derive(Debug)]
pub struct Instance {
    name: String,
    ordinal: u32,
    server: Arc<Server>,
    wire: Wire,
    verdict: Arc<Verdict>,
    shared: AtomicBool,
    /// Whether a call that it could ask for has its turn.
    pub(super) taken: AtomicBool,
    /// Whether its server asks, as all its instances know.
    asks: Arc<AtomicBool>,
    link: Mutex<Link>,
    /// Who hears of its changes, if clients share it; and if it is one session's own.
    hub: Arc<Hub>,
    own_hub: Arc<Hub>,
    /// Sessions that have their place here.
    seats: AtomicUsize,
    /// Whether subscriptions and listens are held at it.
    leads: AtomicBool,
    /// What its tools want mirrored in headers.
    pub(in crate::backend) mirrors: Mirrors,
    /// What an instance of one session says before its session has joined: some ask at once.
    early: Mutex<Option<Vec<Event>>>,
    /// What it says that is no message, for our log.
    strays: Mutex<Ration>,
    /// Told when something was done to the pipe.
    moved: Notify,
    /// Counts the sessions it has been: a server elsewhere may forget one.
    sessions: AtomicU64,
    /// What carries its calls, if each goes its own way.
    carrier: OnceLock<Arc<Carrier>>,
    /// Ends what carries it.
    stop: mpsc::Sender<()>,
    stopping: AtomicBool,
    /// It is to take no more calls, while those under way go on.
    retired: AtomicBool,
    gone: watch::Sender<bool>,
    began: Instant,
    /// When it was last used, in milliseconds since it began.
    used_ms: AtomicU64,
    /// Until when a task may run on it, on the same clock.
    kept_ms: AtomicU64,
}

impl Instance {
    /// One of `server`, which has just been met. `stop` ends what carries it, as does its drop; what the
    /// server said meanwhile is in `early`.
    pub(super) fn begin(
        pool: &Pool,
        wire: Wire,
        server: Server,
        shared: bool,
        ordinal: u32,
        stop: mpsc::Sender<()>,
        early: Vec<Notice>,
    ) -> Arc<Instance> {
        let server = Arc::new(server);
        let instance = Arc::new(Instance {
            name: pool.name().into(),
            ordinal,
            link: Mutex::new(Link::new(server.clone(), shared, pool.limits.link())),
            server,
            wire,
            verdict: pool.verdict.clone(),
            shared: AtomicBool::new(shared),
            taken: AtomicBool::new(false),
            asks: pool.turns.asks(),
            hub: pool.hub.clone(),
            own_hub: Arc::default(),
            seats: AtomicUsize::new(0),
            leads: AtomicBool::new(false),
            mirrors: Mirrors::default(),
            early: Mutex::new((!shared).then(Vec::new)),
            strays: Mutex::new(Ration::new(pool.limits.stderr_lines_per_s)),
            moved: Notify::new(),
            sessions: AtomicU64::new(0),
            carrier: OnceLock::new(),
            stop,
            stopping: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            gone: watch::channel(false).0,
            began: Instant::now(),
            used_ms: AtomicU64::new(0),
            kept_ms: AtomicU64::new(0),
        });
        for notice in early {
            instance.tell(Event::Notice(notice));
        }
        instance
    }

    /// Its server's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The how-manieth instance it is.
    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// What it said of itself.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// How it is reached.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// The server does not speak what it spoke.
    pub(super) fn forget_verdict(&self) {
        self.verdict.forget();
    }

    /// Whether several clients use it.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// It turned out to keep nothing of its clients, so all may use it.
    pub(super) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// Who hears of its changes.
    pub fn hub(&self) -> &Arc<Hub> {
        if self.is_shared() { &self.hub } else { &self.own_hub }
    }

    /// From now on subscriptions and listens are held at it.
    pub(super) fn lead(&self) {
        self.leads.store(true, Ordering::Relaxed);
    }

    /// Waits until it takes no calls any more.
    pub(in crate::backend) async fn gone(&self) {
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Whether it takes calls.
    pub fn is_alive(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed) && !self.retired.load(Ordering::Relaxed) && self.link().closed().is_none()
    }

    /// The pipe to it.
    pub fn link(&self) -> MutexGuard<'_, Link> {
        lock(&self.link)
    }

    /// Each call is sent by this, by itself.
    pub(super) fn carried_by(&self, carrier: Arc<Carrier>) {
        let _ = self.carrier.set(carrier); // once, by who made it
    }

    /// Sends a call. Where it has an exchange of its own, that is to be polled.
    pub fn begin_call(self: &Arc<Self>, call: &Call) -> Result<(Key, Option<Exchange>), Fault> {
        let Some(carrier) = self.carrier.get() else { return Ok((self.link().begin(call, Instant::now())?, None)) };
        let (key, line) = self.link().begin_at_once(call, Instant::now())?;
        Ok((key, line.map(|line| carrier.begin(self, key, call, line))))
    }

    /// Somebody is about to use it.
    pub(super) fn touch(&self) {
        self.used_ms.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Does something to the pipe, and tells whoever it concerns what came of it.
    pub fn operate<T>(&self, work: impl FnOnce(&mut Link) -> T) -> T {
        let (done, events) = {
            let mut link = self.link();
            let done = work(&mut link);
            (done, std::iter::from_fn(|| link.poll_event()).collect::<Vec<_>>())
        };
        // On a pipe nobody waits for that: what is written first is read first.
        if self.wire != Wire::Stdio {
            self.moved.notify_waiters();
        }
        for event in events {
            self.tell(event);
        }
        done
    }

    /// The session whose own it is has joined: what came before is for it.
    pub fn joined(&self) {
        let early = lock(&self.early).take();
        for event in early.into_iter().flatten() {
            self.tell(event);
        }
    }

    /// A task runs on it, for so long at most.
    pub(in crate::backend) fn keep_for(&self, time: Duration) {
        let until = (self.began.elapsed() + time).as_millis() as u64;
        self.kept_ms.fetch_max(until, Ordering::Relaxed);
    }

    /// How long nobody has used it.
    pub fn idle_for(&self, now: Instant) -> Duration {
        if self.began + Duration::from_millis(self.kept_ms.load(Ordering::Relaxed)) > now {
            return Duration::ZERO;
        }
        let listened_to = self.seats.load(Ordering::Relaxed) > 0 || (self.leads.load(Ordering::Relaxed) && !self.hub.is_empty());
        if self.link().in_flight() > 0 || listened_to {
            self.used_ms.store(now.saturating_duration_since(self.began).as_millis() as u64, Ordering::Relaxed);
            return Duration::ZERO;
        }
        let used = self.began + Duration::from_millis(self.used_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(used)
    }

    /// Whether nobody listens to it, and nobody has called it for a while.
    pub(super) fn is_unused(&self) -> bool {
        const A_WHILE: Duration = Duration::from_secs(1);
        self.idle_for(Instant::now()) > A_WHILE
    }

    /// Ends it: its input is closed, and what follows if it stays is up to the supervisor.
    pub fn stop(&self) {
        if self.stopping.swap(true, Ordering::Relaxed) {
            return;
        }
        let fault = Fault::backend(&self.name, Kind::Backend).tell(format!("the server `{}` is being stopped", self.name));
        self.operate(|link| link.handle_closed(fault));
        self.gone.send_replace(true);
        let _ = self.stop.try_send(());
    }

    /// A session whose own this is, and who had another before: what it had said there is said again.
    /// Nobody waits for the answers: whatever it reads from now on is read behind them.
    pub fn say_again(&self, level: Option<Level>, uris: &BTreeSet<Arc<str>>) {
        let (mut link, now) = (self.link(), Instant::now());
        if let Some(level) = level {
            link.tell_first(&Method::SetLevel, &format!("\"level\":\"{}\"", level.as_str()), now);
        }
        for uri in uris {
            link.tell_first(&Method::Subscribe, &format!("\"uri\":{}", json::quote(uri)), now);
        }
    }

    /// The server has another session with us than before, and knows nothing of the old one.
    pub(super) fn renewed(self: &Arc<Self>) {
        self.operate(|link| link.handle_new_session(Instant::now()));
        self.sessions.fetch_add(1, Ordering::Release);
        self.hub.look();
        if !self.is_shared()
            && let Some(live) = self.own_hub.owner()
        {
            live.settle_in(&Peer::Instance(self.clone()));
        }
    }

    /// How many sessions the server has had with us in its place.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Acquire)
    }

    /// For a while nobody heard what it tells: whoever listens is told once that there may have been
    /// changes.
    pub(super) fn missed(self: &Arc<Self>) {
        if !self.is_shared() {
            if let Some(live) = self.own_hub.owner() {
                live.may_have_missed(&Peer::Instance(self.clone()));
            }
            return;
        }
        for notice in self.hub.wanted().1.honoured_by(self.server.can).notices() {
            self.hub.publish(&notice, false);
        }
    }

    /// What carried it is gone: every call on it fails with this.
    pub(super) fn end(&self, fault: Fault) {
        self.operate(|link| link.handle_closed(fault));
        self.gone.send_replace(true);
        let _ = self.stop.try_send(());
    }

    /// The server does not speak any more what it spoke when this was met. It takes no more calls, those under
    /// way go on, and it ends when nobody has any. Whether that was news.
    pub(super) fn retire(&self) -> bool {
        let is_news = !self.retired.swap(true, Ordering::Relaxed);
        if is_news {
            // Only then: the next instance may have been met since.
            self.forget_verdict();
            self.gone.send_replace(true);
        }
        is_news
    }

    /// Whether it was told to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Lines that the server wrote, and what they mean to whom.
    pub(super) fn read_lines(&self, read: impl FnOnce(&mut Link)) {
        let mut asked = false;
        self.operate(|link| {
            read(link);
            asked = link.has_asked();
        });
        if asked {
            self.asks.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until that call is over.
    pub(super) async fn settled(&self, key: Key) {
        self.wait_until(|link| link.closed().is_some() || !link.is_under_way(key)).await;
    }

    /// Waits until what all that follows relies on is over.
    pub(super) async fn all_settled(&self) {
        self.wait_until(|link| link.is_settled()).await;
    }

    /// Waits until it is so, or the time for it is over.
    async fn wait_until(&self, is_so: impl Fn(&mut Link) -> bool) {
        const PATIENCE: Duration = Duration::from_secs(10);
        let so = async {
            loop {
                let moved = self.moved.notified();
                if is_so(&mut self.link()) {
                    return;
                }
                moved.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, so).await;
    }

    fn tell(&self, event: Event) {
        const MAX_EARLY: usize = 64;
        let own = !self.is_shared();
        if own
            && let Some(early) = &mut *lock(&self.early)
            && early.len() < MAX_EARLY
            && !matches!(event, Event::Stray(_))
        {
            early.push(event);
            return;
        }
        if let Event::Notice(notice) = &event
            && notice.method == Method::ToolsChanged
        {
            self.mirrors.forget();
        }
        match event {
            Event::Notice(notice) if own => self.own_hub.publish(&notice, true),
            Event::Notice(notice) if notice.method == Method::Log => {
                debug!(server = self.name, "a log line that belongs to no call");
            }
            Event::Notice(notice) => self.hub.publish(&notice, false),
            Event::Ask(ask) => {
                let tag = Tag { link: self.ordinal, number: ask.ticket };
                let passed = self.own_hub.owner().and_then(|live| live.ask(&ask, tag));
                if passed.is_none() {
                    let fault = Fault::gateway(Kind::Untranslatable).tell("the client cannot be asked now");
                    self.link().answer(ask.ticket, Err(fault.error().as_bytes()));
                }
            }
            Event::Withdrawn(ticket) => {
                if let Some(live) = self.own_hub.owner() {
                    live.withdraw(Tag { link: self.ordinal, number: ticket });
                }
            }
            Event::Stray(what) => {
                let mut strays = lock(&self.strays);
                let dropped = strays.settle(false);
                if dropped > 0 {
                    info!(server = self.name, lines = dropped, "skipped more that was no message, or no answer to us");
                }
                if strays.admit() {
                    info!(server = self.name, what, "skipped");
                }
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until an instance has something to be carried, or there is none any more.
pub(super) async fn queued(instance: &Weak<Instance>) {
    let queued = std::future::poll_fn(|cx| match instance.upgrade() {
        Some(instance) => instance.link().poll_queued(cx.waker()),
        None => Poll::Ready(()),
    });
    queued.await;
}

/// A session's place at an instance, until dropped.
#[derive(Debug)]
pub struct Chair(Arc<Instance>);

impl Chair {
    /// One more session has its place here.
    pub fn take(instance: &Arc<Instance>) -> Chair {
        instance.seats.fetch_add(1, Ordering::Relaxed);
        Chair(instance.clone())
    }
}

impl Drop for Chair {
    fn drop(&mut self) {
        self.0.seats.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request of our own, withdrawn if nobody waits for it any more.
pub(super) struct Held {
    instance: Arc<Instance>,
    key: Key,
    over: bool,
}

impl Held {
    /// Sends it. `params` is the inside of its params object.
    pub(super) fn begin(instance: &Arc<Instance>, method: &Method, params: &str) -> Result<Held, Fault> {
        let key = instance.link().begin_own(method, params, Instant::now())?;
        Ok(Held { instance: instance.clone(), key, over: false })
    }

    /// What comes next for it.
    pub(super) async fn reply(&mut self) -> Reply {
        let reply = std::future::poll_fn(|cx| self.instance.link().poll_reply(self.key, cx.waker())).await;
        self.over = matches!(reply, Reply::Done(_));
        reply
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.over {
            self.instance.operate(|link| link.cancel(self.key, "nobody waits for it any more"));
        }
    }
}
