//! An instance that has been met: a link with somebody at each end of it.
//!
//! One task reads the instance's output and never waits for an exchange; one writes what calls have
//! queued, all of it in one write. Neither knows what a call is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use landbridge_proto::back::link::{Event, Key, Link};
use landbridge_proto::call::{Level, Notice, Reply, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::Tag;
use landbridge_proto::json;
use landbridge_proto::lines::{Line, Lines};
use landbridge_proto::methods::Method;

use crate::backend::mirrors::Mirrors;
use crate::backend::pool::Pool;
use crate::backend::pool::child::{Control, Spawned};
use crate::backend::{Hub, lock};
use crate::observe::Ration;

/// An instance that takes calls.
#[derive(Debug)]
pub struct Instance {
    name: String,
    ordinal: u32,
    server: Arc<Server>,
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
    control: Control,
    stopping: AtomicBool,
    gone: watch::Sender<bool>,
    began: Instant,
    /// When it was last used, in milliseconds since it began.
    used_ms: AtomicU64,
    /// Until when a task may run on it, on the same clock.
    kept_ms: AtomicU64,
}

impl Instance {
    #[allow(clippy::too_many_arguments)] // Called once; a struct for it would be the same list.
    pub(super) fn begin(
        pool: &Arc<Pool>,
        spawned: Spawned,
        lines: Lines,
        server: Server,
        shared: bool,
        ordinal: u32,
        early: Vec<Notice>,
    ) -> Arc<Instance> {
        let server = Arc::new(server);
        let Spawned { control, stdin, stdout, last_words, stderr_done, .. } = spawned;
        let instance = Arc::new(Instance {
            name: pool.name().into(),
            ordinal,
            link: Mutex::new(Link::new(server.clone(), shared, pool.limits.link())),
            server,
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
            control,
            stopping: AtomicBool::new(false),
            gone: watch::channel(false).0,
            began: Instant::now(),
            used_ms: AtomicU64::new(0),
            kept_ms: AtomicU64::new(0),
        });
        tokio::spawn(write(Arc::downgrade(&instance), stdin));
        let end = End { last_words, stderr_done };
        tokio::spawn(read(Arc::downgrade(&instance), stdout, lines, pool.limits.message_bytes, end));
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
    pub(super) async fn gone(&self) {
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Whether it takes calls.
    pub fn is_alive(&self) -> bool {
        !self.stopping.load(Ordering::Relaxed) && self.link().closed().is_none()
    }

    /// The pipe to it.
    pub fn link(&self) -> MutexGuard<'_, Link> {
        lock(&self.link)
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
        let _ = self.control.stop.try_send(());
    }

    /// A session whose own this is, and who had another before: what it had said there is said again.
    /// Nobody waits for the answers: whatever it reads from now on is read behind them.
    pub fn say_again(&self, level: Option<Level>, uris: &BTreeSet<Arc<str>>) {
        let (mut link, now) = (self.link(), Instant::now());
        if let Some(level) = level {
            link.tell(&Method::SetLevel, &format!("\"level\":\"{}\"", level.as_str()), now);
        }
        for uri in uris {
            link.tell(&Method::Subscribe, &format!("\"uri\":{}", json::quote(uri)), now);
        }
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

/// What is known of an instance's end.
struct End {
    last_words: Arc<Mutex<String>>,
    stderr_done: tokio::sync::oneshot::Receiver<()>,
}

async fn write(instance: Weak<Instance>, mut stdin: ChildStdin) {
    let mut batch = Vec::new();
    loop {
        let queued = std::future::poll_fn(|cx| match instance.upgrade() {
            Some(instance) => instance.link().poll_queued(cx.waker()),
            None => std::task::Poll::Ready(()),
        });
        queued.await;
        // Whoever else is ready now may add a line: one write for all of them, and one wake-up of
        // the server. A call that is alone has nobody to wait for.
        if instance.upgrade().is_some_and(|instance| instance.link().in_flight() > 1) {
            tokio::task::yield_now().await;
        }
        // Gone, or closed: the end of this task closes the instance's input.
        let Some(lines) = instance.upgrade().and_then(|instance| instance.link().take_queued()) else { return };
        batch.clear();
        for line in &lines {
            batch.extend_from_slice(line);
        }
        if stdin.write_all(&batch).await.is_err() {
            return; // its output tells the rest
        }
        if batch.capacity() > 256 * 1024 {
            batch = Vec::new();
        }
    }
}

async fn read(instance: Weak<Instance>, mut stdout: ChildStdout, mut lines: Lines, limit: usize, end: End) {
    const LAST: Duration = Duration::from_millis(300);
    let Some(mut exited) = instance.upgrade().map(|c| c.control.exited.clone()) else { return };
    let mut gone = false;
    loop {
        {
            let Some(instance) = instance.upgrade() else { return };
            let mut events = Vec::new();
            {
                let mut link = instance.link();
                while let Some(line) = lines.next_line() {
                    match line {
                        Line::Whole(line) => link.handle_line(line),
                        Line::TooLong { head, tail } => link.handle_too_long(&head, &tail, limit),
                    }
                }
                events.extend(std::iter::from_fn(|| link.poll_event()));
                if link.has_asked() {
                    instance.asks.store(true, Ordering::Relaxed);
                }
            }
            for event in events {
                instance.tell(event);
            }
        }
        let more = stdout.read_buf(lines.buffer());
        let read = match gone {
            true => tokio::time::timeout(LAST, more).await.unwrap_or(Ok(0)),
            false => tokio::select! {
                biased;
                read = more => read,
                // Somebody it left behind may hold its output open.
                _ = exited.wait_for(Option::is_some) => {
                    gone = true;
                    continue;
                }
            },
        };
        if !matches!(read, Ok(1..)) {
            break;
        }
    }
    // What it said last may still be on its way through the other pipe.
    let _ = tokio::time::timeout(LAST, end.stderr_done).await;
    let Some(instance) = instance.upgrade() else { return };
    let how = match tokio::time::timeout(LAST, exited.wait_for(Option::is_some)).await {
        Ok(Ok(how)) => how.clone().unwrap_or_default(),
        _ => "it closed its output".into(),
    };
    let words = lock(&end.last_words).clone();
    let said = if words.is_empty() { String::new() } else { format!("; it said: {words}") };
    let told = format!("the server `{}` ended ({how}){said}", instance.name);
    if !instance.stopping.load(Ordering::Relaxed) {
        warn!(server = instance.name, how, "a child ended");
    }
    instance.operate(|link| link.handle_closed(Fault::backend(&instance.name, Kind::Backend).tell(told)));
    instance.gone.send_replace(true);
    let _ = instance.control.stop.try_send(());
}
