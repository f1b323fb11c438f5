//! Call in, replies out: where a client's request finds its server.
//!
//! What a gateway answers itself is answered here: the handshake, pings, log levels and
//! subscriptions at servers that several clients share. Everything else goes on as it is.

mod change;
mod life;
mod tasks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::bridge::crossing::{Crossing, Patience, Tasks};
use landbridge_proto::bridge::{self, parked, rounds};
use landbridge_proto::call::{Call, Client, Level, Outcome, Principal};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::{Change, Tag, Transport};
use landbridge_proto::front::stateless;
use landbridge_proto::front::streamable::{self, Field, introduce};
use landbridge_proto::message::{Id, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::{Filter, Listen, MAX_URI_BYTES, MAX_URIS, Wish};
use landbridge_proto::tasks::TaskSupport;
use landbridge_proto::version::{Era, Revision};

use crate::audit::Audit;
use crate::auth::Auth;
use crate::backend::each::{Each, User, is_connect};
use crate::backend::http::Http;
use crate::backend::local::Local;
use crate::backend::parked::{Lot, Retried, Waiting};
use crate::backend::pool::{Places, Pool};
use crate::backend::pools::Pools;
use crate::backend::{Backend, Listener, Member, Passage, Peer, Replies, Way, Within, lock, made_once};
use crate::connects::Connects;
use crate::demo;
use crate::eras::{Eras, Wire};
pub use crate::gateway::change::{Changed, Lasting, Running};
use crate::pages::Pages;
use crate::plan::auth::Mode;
use crate::plan::{Plan, Server, Target};
use crate::rates::{Held, Rates};
use crate::sessions::{Live, Sessions, dead};
use crate::store;
use crate::visits::Counters;

/// Everything that runs.
pub struct Gateway {
    /// For servers of ours that call others of ours.
    itself: Weak<Gateway>,
    /// What was planned and stays.
    pub plan: Lasting,
    auth: Arc<Auth>,
    /// Who may do how much.
    pub rates: Rates,
    /// Where it is told what happens.
    pub audit: Arc<Audit>,
    /// What somebody else serves beside it.
    pub(crate) pages: OnceLock<Pages>,
    running: RwLock<Arc<Running>>,
    /// The live sessions.
    pub sessions: Arc<Sessions>,
    /// Where calls wait for clients that cannot be asked live.
    pub lot: Arc<Lot>,
    listens: Arc<AtomicUsize>,
    open_listens: Mutex<Vec<std::sync::Weak<Mutex<Listen>>>>,
    readiness: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
    http: Http,
    https: OnceLock<Http>,
    /// Places for children, and for sessions elsewhere.
    children: Arc<Places>,
    elsewhere: Arc<Places>,
    /// Servers in this process, and places for those of them that sessions have.
    within: BTreeMap<String, Within>,
    /// Where users of ours connect their accounts elsewhere.
    pub connects: Connects,
    seats_within: Arc<Places>,
    /// Who speaks what.
    pub eras: Eras,
    /// Requests, by where they went.
    pub visits: Counters,
    /// Set when we are told to stop.
    pub draining: tokio::sync::watch::Sender<bool>,
}

/// The `Mcp-Param-*` headers of a request: the part of the name behind that, and the value, if it
/// is one text.
pub type MirroredHeaders = Vec<(String, Option<String>)>;

/// A session whose client has not been answered yet; dropped as such, it closes.
struct Unheard {
    gateway: Arc<Gateway>,
    live: Option<Arc<Live>>,
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.gateway.sessions.close(live.id);
        }
    }
}

/// An open `subscriptions/listen`: its queue, and what ends with it.
#[derive(Debug)]
pub struct Listening {
    /// What waits for the client.
    pub queue: Arc<Mutex<Listen>>,
    /// Its client's place, where these are counted.
    pub held: Option<Held>,
    _member: Member,
    _place: Place,
}

/// A place among so many.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Place> {
        let place = Place(taken.clone());
        (taken.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that was let into its session and has not begun.
struct Admitted {
    live: Arc<Live>,
    id: Option<Id>,
}

impl Admitted {
    /// It begins now; whether its client withdrew it while it waited.
    fn begins(&mut self) -> bool {
        self.id.take().is_some_and(|id| lock(&self.live.state).admitted(&id))
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.begins();
    }
}

impl Gateway {
    /// Sets up what was planned. Nothing is started before somebody needs it.
    pub fn new(plan: Plan) -> Result<Arc<Gateway>, String> {
        Gateway::with(plan, BTreeMap::new())
    }

    /// The same, for whom `auth` lets in.
    pub fn guarded(plan: Plan, auth: Arc<Auth>) -> Result<Arc<Gateway>, String> {
        Gateway::build(plan, auth, BTreeMap::new())
    }

    /// What lets people in.
    pub fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }

    /// The same, with the servers in this process that are planned.
    pub fn with(plan: Plan, within: BTreeMap<String, Within>) -> Result<Arc<Gateway>, String> {
        if plan.auth.mode != Mode::None {
            return Err("who may call has to be opened first: use `Auth::open` and `Gateway::guarded`".into());
        }
        let auth = Auth::new(plan.auth.clone(), store::memory())?;
        Gateway::build(plan, Arc::new(auth), within)
    }

    /// Sets up what was planned, with servers in this process, for whom `auth` lets in.
    pub fn build(plan: Plan, auth: Arc<Auth>, within: BTreeMap<String, Within>) -> Result<Arc<Gateway>, String> {
        let children = Arc::new(Places::new(plan.limits.children));
        let elsewhere = Arc::new(Places::new(plan.limits.remote_sessions));
        let sessions = Arc::new(Sessions::new(plan.limits.sessions, plan.limits.session()));
        let abandoned = Duration::from_millis(plan.limits.session_abandoned_ms);
        for (places, remote) in [(&children, false), (&elsewhere, true)] {
            let evicted = Arc::downgrade(&sessions);
            let evict = move |sessions: Arc<Sessions>| sessions.evict_seated(abandoned, |peer| peer.is_remote() == remote);
            places.make_room_by(move || evicted.upgrade().is_some_and(evict));
        }
        // As many as sessions can have: one each of every server, and those that are on their way out.
        let seats = plan.limits.sessions.saturating_mul(within.len() + 1).clamp(64, tokio::sync::Semaphore::MAX_PERMITS);
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let base = plan.public_url.clone().unwrap_or_else(|| format!("{scheme}://{}", plan.listen));
        let connects = Connects::new(auth.store.clone(), format!("{base}{}", plan.path));
        let (lot, http) = (Arc::new(Lot::new(plan.limits.parked(&plan.rates))?), Http::new(false)?);
        let audit = Audit::open(&plan.audit)?;
        let gateway = Arc::new_cyclic(|itself| Gateway {
            itself: itself.clone(),
            sessions,
            lot,
            auth,
            rates: Rates::new(&plan.rates),
            audit,
            plan: Lasting {
                listen: plan.listen,
                path: plan.path.clone(),
                tls: plan.tls.clone(),
                limits: plan.limits,
                rates: plan.rates,
                audit: plan.audit.clone(),
                profile: plan.profile.clone(),
                stateless_over: plan.stateless_over,
            },
            pages: OnceLock::new(),
            running: RwLock::new(Arc::new(Running::new(Plan { servers: BTreeMap::new(), ..plan.clone() }, BTreeMap::new()))),
            listens: Arc::default(),
            open_listens: Mutex::default(),
            readiness: tokio::sync::Mutex::default(),
            draining: tokio::sync::watch::channel(false).0,
            eras: Eras::default(),
            visits: Counters::default(),
            https: OnceLock::new(),
            connects,
            http,
            children,
            elsewhere,
            within,
            seats_within: Arc::new(Places::new(seats)),
        });
        gateway.change(plan)?;
        Ok(gateway)
    }

    /// Sets up one server.
    fn begin(&self, name: &str, server: &Server) -> Result<Arc<Backend>, String> {
        let local = |service| Ok(Arc::new(Backend::Local(Local::new(name, service, &server.tools)?)));
        let (places, pipe) = match (&server.target, self.within.get(name)) {
            (Target::Command { .. }, _) => (&self.children, None),
            (Target::Remote { .. }, _) => (&self.elsewhere, None),
            (Target::Demo, _) => return local(Arc::new(demo::Demo::default())),
            (Target::Within, Some(Within::Service(service))) => return local(service.clone()),
            (Target::Within, Some(Within::Pipe(pipe))) => (&self.seats_within, Some(pipe.clone().stateless_over(self.plan.stateless_over))),
            (Target::Within, None) => return Err(format!("no server in this process is called `{name}`")),
        };
        let http = if server.target.wants_tls() { self.https()? } else { &self.http };
        if server.target.is_for_each() {
            let (shelf, tickets) = (self.connects.shelf()?, self.connects.tickets.clone());
            let each = Each::new(name, server, self.plan.limits, places.clone(), http, shelf, tickets);
            return Ok(Arc::new(Backend::Each(each.ok_or("such a server is elsewhere")?)));
        }
        let pool =
            Pool::new(name, server, self.plan.limits, places.clone(), http, pipe.as_ref()).ok_or("such a server has no instances")?;
        Ok(Arc::new(Backend::Pools(Arc::new(Pools::new(pool, self.plan.limits.sessions)))))
    }

    /// The client for servers that are reached by `https`. It reads the system's authorities, so it is made
    /// when there is such a server.
    fn https(&self) -> Result<&Http, String> {
        made_once(&self.https, || Http::new(true))
    }

    // --- handshake clients -----------------------------------------------------------------

    /// Opens the session that an `initialize` of `who` asks for. What it is answered comes from
    /// [`Gateway::seat`].
    pub fn open(&self, backend: &Arc<Backend>, who: Principal, message: &Message, transport: Transport) -> Result<Arc<Live>, Fault> {
        self.sessions.open(self.current(backend)?, Arc::new(introduce(who, transport, message)?), transport)
    }

    /// A place for a session among its principal's. Who has too many loses the one that is idle for longest, if it
    /// looks abandoned: many clients leave without a word.
    pub fn place_for_session(&self, who: &Principal) -> Result<Option<Held>, Fault> {
        let abandoned_ms = self.plan.limits.session_abandoned_ms;
        let place = || self.rates.session(who, abandoned_ms.div_ceil(1000).max(1));
        match place() {
            Err(_) if self.sessions.evict_of(who, Duration::from_millis(abandoned_ms)) => place(),
            place => place,
        }
    }

    /// The answer to `initialize`, once the session's server is there. A session that comes to
    /// nothing is closed again: because its server does not come up, or because its client left
    /// before it heard of it.
    pub async fn seat(self: &Arc<Self>, live: Arc<Live>) -> Result<Bytes, Fault> {
        let mut unheard = Unheard { gateway: self.clone(), live: Some(live.clone()) };
        let peer = live.peer().await?;
        unheard.live = None;
        let revision = lock(&live.state).client().revision;
        Ok(bridge::initialize_result(peer.server(), revision, peer.is_shared()))
    }

    /// The same over HTTP+SSE, where the session is there before its client says who it is.
    pub async fn introduce_sse(&self, live: &Arc<Live>, message: &Message) -> Result<Bytes, Fault> {
        let who = lock(&live.state).client().principal.clone();
        let client = Arc::new(introduce(who, Transport::Sse, message)?);
        let revision = client.revision;
        lock(&live.state).set_client(client);
        let peer = live.peer().await?;
        Ok(bridge::initialize_result(peer.server(), revision, peer.is_shared()))
    }

    /// A request of a session, as it was written.
    pub async fn request(&self, live: &Arc<Live>, message: Message) -> Result<Replies, Fault> {
        let client = lock(&live.state).client().clone();
        self.call(live, Box::new(streamable::call(message, &client)?)).await
    }

    /// Starts a call of a session. Its tag is entered into the session; whoever pulls the
    /// replies takes it out again.
    pub async fn call(&self, live: &Arc<Live>, mut call: Box<Call>) -> Result<Replies, Fault> {
        if self.is_retired(&live.backend) {
            return Err(dead());
        }
        let tools = live.backend.filter(&call)?;
        // Counted before the first wait, so that a client cannot queue calls without end behind a
        // server that is slow to start.
        let (admitted, transport) = {
            let mut state = lock(&live.state);
            (state.admit(&call.id, self.plan.limits.calls_per_session), state.transport())
        };
        if !admitted {
            return Err(Fault::client(Kind::Busy).tell(format!(
                "{} calls of this session are under way already; wait for one of them",
                self.plan.limits.calls_per_session
            )));
        }
        let mut admitted = Admitted { live: live.clone(), id: Some(call.id.clone()) };
        let mut peer = live.peer().await?;
        if let Some(each) = live.backend.each().filter(|_| is_connect(&call)) {
            peer = Peer::Local(each.absent(&each.user(&call.client.principal)?)?);
        }
        self.eras.count((transport.into(), call.client.revision), peer.end());
        let again = (may_refuse_unread(&peer) || live.backend.each().is_some()).then(|| call.clone());
        let answer = |outcome: Result<Bytes, Fault>| Ok(Replies::ready(&call, outcome.map_or_else(Outcome::Fault, Outcome::Result)));
        match call.method {
            Method::Ping => return answer(Ok(Bytes::from_static(b"{}"))),
            Method::SetLevel if peer.is_shared() => return answer(set_level(live, &peer, &call)),
            Method::Unsubscribe | Method::Subscribe => {
                let subscribe = call.method == Method::Subscribe;
                if let Some(outcome) = Box::pin(self.change_subscription(live, &peer, &call, subscribe)).await {
                    return answer(outcome);
                }
            }
            _ => {}
        }
        if peer.server().era() == Era::Stateless {
            call.log_level = lock(&live.state).level();
        }
        if call.method.is_of_task() && peer.is_shared() {
            if admitted.begins() {
                return Err(Fault::client(Kind::Cancelled).tell("cancelled by the client"));
            }
            let id = call.id.clone();
            let replies = self.task_request(&live.backend, &peer, *call)?;
            return self.enter(live, id, replies, None);
        }
        if call.method == Method::TaskList && peer.is_shared() {
            return Err(Fault::client(Kind::UnknownMethod)
                .tell("Method not found: tasks/list: clients share this server, and it does not say whose a task is"));
        }
        // At a server that others use too, a call may have to take its turn.
        let takes_turns = matches!(peer, Peer::Instance(_)) && peer.is_shared() && peer.server().era() == Era::Handshake;
        let (peer, turn) = match takes_turns && call.method.may_ask() {
            true => live.backend.shared_for(&call).await?,
            false => (peer, None),
        };
        // Its own revision's tasks a client asks for by itself.
        let mut support = TaskSupport::Forbidden;
        if call.method == Method::ToolsCall && peer.server().can.tasks && is_too_old_for(&call, &peer) {
            let tool = call.message.string_at(call.params.name).unwrap_or_default();
            support = peer.facts(&tool).await.map_or(support, |facts| facts.tasks);
        }
        let (id, change) = (call.id.clone(), change_of(&call).filter(|_| !peer.is_shared()));
        if admitted.begins() {
            return Err(Fault::client(Kind::Cancelled).tell("cancelled by the client"));
        }
        let (call, tasks, errand) = self.with_tasks_of_session(&live.backend, &peer, call, support)?;
        let way = self.way_for(&live.backend, &peer, &call, tasks);
        let mut replies = peer.begin(call, Passage { way, turn, tasks, errand, tools })?;
        if let (Some(call), Some(tag)) = (again, replies.tag()) {
            replies = self.or_again_of(live, tag, call, replies);
        }
        self.enter(live, id, replies, change)
    }

    /// The same call, begun anew should its server refuse it unread.
    fn or_again_of(&self, live: &Arc<Live>, tag: Tag, call: Box<Call>, replies: Replies) -> Replies {
        let (gateway, live) = (self.itself.clone(), live.clone());
        replies.or_again(async move {
            // It is let in again, under its own id.
            lock(&live.state).end_call(tag, Instant::now());
            // Boxed, as every call would carry its size.
            Box::pin(gateway.upgrade().ok_or_else(dead)?.call(&live, call)).await
        })
    }

    /// Enters a call that has begun into its session, and what it would change there.
    fn enter(&self, live: &Arc<Live>, id: Id, replies: Replies, change: Option<Change>) -> Result<Replies, Fault> {
        if let Some(tag) = replies.tag() {
            if let Some(asking) = replies.asking() {
                live.is_asked_by(asking);
            }
            let mut state = lock(&live.state);
            if state.is_closed() {
                return Err(dead()); // it ended meanwhile, and nobody would end the call
            }
            state.begin_call(id, tag);
            if let Some(change) = change {
                state.expect(tag, change);
            }
        }
        Ok(replies)
    }

    /// Subscriptions at a server that others use too are counted: it is told of the first and
    /// of the last. `None`: the call goes on as it is.
    async fn change_subscription(&self, live: &Arc<Live>, peer: &Peer, call: &Call, subscribe: bool) -> Option<Result<Bytes, Fault>> {
        if !peer.is_shared() || !peer.server().can.subscribe {
            return None;
        }
        let done = Some(Ok(Bytes::from_static(b"{}")));
        let Some(uri) = call.message.string_at(call.params.uri).map(|u| u.into_owned()) else {
            return Some(Err(Fault::client(Kind::Params).tell("`params.uri` must be a string")));
        };
        if !subscribe {
            if lock(&live.state).unsubscribe(&uri) {
                live.wish();
            }
            return done;
        }
        if uri.len() > MAX_URI_BYTES {
            return Some(Err(Fault::client(Kind::Params).tell(format!("`params.uri` is longer than {MAX_URI_BYTES} bytes"))));
        }
        // Bound to a name first: a hub's lock is not taken under a session's.
        let subscribed = lock(&live.state).subscribe(&uri);
        match subscribed {
            None => {
                let told = format!("this session has {MAX_URIS} resource subscriptions already; unsubscribe from one first");
                return Some(Err(Fault::client(Kind::Busy).tell(told)));
            }
            Some(false) => return done,
            Some(true) => live.wish(),
        }
        let filter = Filter { uris: [uri.as_str().into()].into(), ..Filter::default() };
        if peer.tells_of(&filter).await.uris.contains(uri.as_str()) {
            return done;
        }
        if lock(&live.state).unsubscribe(&uri) {
            live.wish();
        }
        Some(Err(Fault::client(Kind::Params).tell(format!("the server does not offer updates of {uri:?}"))))
    }

    // --- stateless clients -----------------------------------------------------------------

    /// Starts a call of a stateless client that came over `wire`. `params` are its `Mcp-Param-*` headers,
    /// by the part behind that, lower case; `None` for one that is no text or was sent more than once.
    /// Without `params` it came where there are no headers.
    pub async fn call_stateless(
        &self,
        backend: &Arc<Backend>,
        mut call: Box<Call>,
        wire: Wire,
        params: Option<&MirroredHeaders>,
    ) -> Result<Replies, Fault> {
        // A stateless server has states of its own.
        let may_wait = backend.era() != Some(Era::Stateless) || backend.each().is_some();
        if comes_with_state(&call) && may_wait && self.lot.knows(&call, backend.name()) {
            match self.lot.retry((*call).clone(), backend.name())? {
                Retried::Call(replies) => return Ok(*replies),
                Retried::AskAgain(result) => return Ok(Replies::ready(&call, Outcome::Result(result))),
                Retried::Declined(outcome) => return Ok(Replies::ready(&call, outcome)),
                Retried::Again => {
                    *call = rounds::first_time(*call);
                    if let Some(each) = backend.each() {
                        let user = each.user(&call.client.principal)?;
                        return Ok(self.after_login(backend, user, call, wire, params));
                    }
                }
            }
        }
        self.begin_stateless(backend, call, wire, params).await
    }

    /// The user has gone to log in: the call begins when they have come back.
    fn after_login(
        &self,
        backend: &Arc<Backend>,
        user: Arc<User>,
        call: Box<Call>,
        wire: Wire,
        params: Option<&MirroredHeaders>,
    ) -> Replies {
        let patience = Duration::from_millis(self.plan.limits.ask_timeout_ms);
        let (gateway, backend, params) = (self.itself.clone(), backend.clone(), params.cloned());
        let waits = Fault::backend(backend.name(), Kind::Changed).tell("the user has not logged in yet; call again");
        Replies::ready(&call, Outcome::Fault(waits)).or_again(async move {
            user.come(patience).await;
            let gateway = gateway.upgrade().ok_or_else(dead)?;
            Box::pin(gateway.begin_stateless(&backend, call, wire, params.as_ref())).await
        })
    }

    /// Has a stateless client ask its user to log in, if it can.
    async fn ask_to_log_in(&self, backend: &Arc<Backend>, peer: &Peer, call: &Call) -> Result<Option<Replies>, Fault> {
        let Some(each) = backend.each().filter(|_| matches!(peer, Peer::Local(_)) && call.method.may_ask()) else { return Ok(None) };
        if !Abilities::of(&call.client).include(Abilities::URL) {
            return Ok(None);
        }
        let user = each.user(&call.client.principal)?;
        if is_connect(call) && user.is_connected().await? {
            return Ok(None);
        }
        let link = each.link(&call.client.principal).await?;
        let question = parked::Question { ticket: 0, asked: each.question(&link) };
        let waiting = Waiting::Login(peer.server().clone(), user);
        let result = self.lot.park(waiting, call, peer.server(), backend.name(), vec![question])?;
        Ok(Some(Replies::ready(call, Outcome::Result(result))))
    }

    /// The same for a call that is no retry of one that waits with us.
    async fn begin_stateless(
        &self,
        backend: &Arc<Backend>,
        call: Box<Call>,
        wire: Wire,
        params: Option<&MirroredHeaders>,
    ) -> Result<Replies, Fault> {
        let backend = &self.current(backend)?;
        let tools = backend.filter(&call)?;
        if call.method.is_of_task() {
            // About a task of a handshake server only the instance that runs it can be asked.
            let peer = match self.lot.named_task(&call, backend.name()).ok().and_then(|named| backend.peer(named.ordinal)) {
                Some(peer) => peer,
                None => Box::pin(backend.shared(&call.client.principal, Abilities::of(&call.client))).await?,
            };
            return self.task_request(backend, &peer, *call);
        }
        let (peer, turn) = backend.shared_for(&call).await?;
        self.eras.count((wire, call.client.revision), peer.end());
        if backend.each().is_some()
            && let Some(replies) = Box::pin(self.ask_to_log_in(backend, &peer, &call)).await?
        {
            return Ok(replies);
        }
        if comes_with_state(&call) && peer.server().era() == Era::Handshake {
            return Err(parked::unusable());
        }
        if call.method == Method::Discover {
            // Of several servers more may be known than when they were met.
            let result = match &**backend {
                Backend::Merged(merged) => merged.introduction().map(|server| bridge::discover_result(&server)),
                _ => None,
            };
            let result = Outcome::Result(result.unwrap_or_else(|| bridge::discover_result(peer.server())));
            return Ok(Replies::ready(&call, result));
        }
        let may_refuse = may_refuse_unread(&peer) || backend.each().is_some();
        let again = may_refuse.then(|| (call.clone(), params.cloned()));
        let mut support = TaskSupport::Forbidden;
        if call.method == Method::ToolsCall {
            let tool = call.message.string_at(call.params.name).unwrap_or_default();
            let facts = match &**backend {
                Backend::Merged(merged) => Box::pin(merged.facts(&tool, &call.client)).await,
                _ => peer.facts(&tool).await,
            };
            if let Some(facts) = facts {
                support = facts.tasks;
                if let Some(params) = params {
                    let header = |name: &str| match params.iter().find(|(n, _)| n == name) {
                        None => Field::Absent,
                        Some((_, Some(value))) => Field::One(value),
                        Some((_, None)) => Field::Bad,
                    };
                    stateless::check_params(&call, &facts.mirrored, header)?;
                }
            }
        }
        let (call, tasks, errand) = self.with_tasks(backend, &peer, call, support)?;
        let way = self.way_for(backend, &peer, &call, tasks);
        let replies = peer.begin(call, Passage { way, turn, tasks, errand, tools })?;
        Ok(match again {
            Some((call, params)) => self.or_again_stateless(backend, call, wire, params, replies),
            None => replies,
        })
    }

    /// The same call, begun anew should its server refuse it unread.
    fn or_again_stateless(
        &self,
        backend: &Arc<Backend>,
        call: Box<Call>,
        wire: Wire,
        params: Option<MirroredHeaders>,
        replies: Replies,
    ) -> Replies {
        let (gateway, backend) = (self.itself.clone(), backend.clone());
        replies.or_again(async move {
            let gateway = gateway.upgrade().ok_or_else(dead)?;
            Box::pin(gateway.begin_stateless(&backend, call, wire, params.as_ref())).await
        })
    }

    /// The way between the eras, for a call that has to go there.
    fn way_for(&self, backend: &Arc<Backend>, peer: &Peer, call: &Call, tasks: Tasks) -> Option<Way> {
        (Crossing::is_needed(call, peer.server()) || tasks == Tasks::FollowAnyway).then(|| self.way(backend))
    }

    fn way(&self, backend: &Arc<Backend>) -> Way {
        let limits = &self.plan.limits;
        let patience =
            Patience { answer: Duration::from_millis(limits.ask_timeout_ms), task: Duration::from_millis(limits.call_timeout_ms) };
        Way { backend: backend.clone(), lot: self.lot.clone(), patience }
    }

    /// Opens a stream of changes.
    pub async fn listen(&self, backend: &Arc<Backend>, client: &Client, id: Id, filter: Filter) -> Result<Listening, Fault> {
        let place = Place::take(&self.listens, self.plan.limits.listens)
            .ok_or_else(|| Fault::gateway(Kind::Busy).tell("too many streams of changes are open; try again later"))?;
        let peer = self.current(backend)?.any(&client.principal, Abilities::of(client)).await?;
        let wish = Wish { filter: filter.clone(), level: None };
        let member = peer.hub().join(Listener::Listen(std::sync::Weak::new()), wish);
        let honoured = peer.tells_of(&filter).await;
        let queue = Arc::new(Mutex::new(Listen::new(id, honoured.clone(), self.plan.limits.queue_bytes)));
        member.change(|listener, wish| {
            *listener = Listener::Listen(Arc::downgrade(&queue));
            wish.filter = honoured;
        });
        let mut open = lock(&self.open_listens);
        open.retain(|l| l.strong_count() > 0);
        open.push(Arc::downgrade(&queue));
        Ok(Listening { queue, held: None, _member: member, _place: place })
    }
}

/// Whether a server may refuse a call for its revision, and so unread: one that keeps no sessions may be another
/// from one call to the next.
fn may_refuse_unread(peer: &Peer) -> bool {
    peer.is_remote() && peer.server().era() == Era::Stateless
}

/// Whether the client's revision knows of no tasks that the server may have (2025-11-25).
fn is_too_old_for(call: &Call, peer: &Peer) -> bool {
    call.client.revision < Revision::V2025_11_25 && peer.server().era() == Era::Handshake
}

/// Whether a call goes on with what it was answered before.
fn comes_with_state(call: &Call) -> bool {
    call.params.request_state.is_some() && call.method.may_ask()
}

/// What a call would change for its session, at a server of its own.
fn change_of(call: &Call) -> Option<Change> {
    let uri = || call.message.string_at(call.params.uri).map(|uri| Arc::from(&*uri));
    match call.method {
        Method::Subscribe => uri().map(Change::Subscribe),
        Method::Unsubscribe => uri().map(Change::Unsubscribe),
        Method::SetLevel => Level::parse(&call.message.string_at(call.params.level)?).map(Change::Level),
        _ => None,
    }
}

fn set_level(live: &Live, peer: &Peer, call: &Call) -> Result<Bytes, Fault> {
    if !peer.server().can.logging {
        return Err(Fault::client(Kind::UnknownMethod).tell("the server does not log"));
    }
    let level = call.message.string_at(call.params.level);
    let Some(level) = level.as_deref().and_then(Level::parse) else {
        return Err(Fault::client(Kind::Params).tell("`params.level` must be a log level, such as \"info\""));
    };
    lock(&live.state).set_level(level);
    live.wish();
    if let Peer::Instance(instance) = peer {
        let wanted = peer.hub().level();
        instance.link().want_level(wanted, Instant::now())?;
    }
    Ok(Bytes::from_static(b"{}"))
}
