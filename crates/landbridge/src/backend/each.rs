//! A server elsewhere at which each user of ours has an account of their own.
//!
//! ```text
//!   a call of P ──▶ P has a token? ──yes──▶ P's own pool: its instances carry that token and no other
//!                        └no──▶ P's stand-in: one tool, and whoever calls anything is asked to log in
//!   P logs in ──▶ the stand-in leaves, and tells its clients that everything has changed
//! ```
//!
//! What one user has at the server no other can come near: there is no instance, no session and no hub that
//! two of them share. A server that takes a token no more is found out by the call that it refuses: that call
//! is begun anew, and finds the stand-in.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Uri;
use serde_json::{Value, json};
use tokio::sync::watch;

use landbridge_proto::abilities::Abilities;
use landbridge_proto::back::stdio::own_info;
use landbridge_proto::bridge::ask::InputRequest;
use landbridge_proto::call::{Call, Client, Principal};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::methods::Method;
use landbridge_proto::oauth::secret::spell;
use landbridge_proto::version::Era;

use crate::backend::http::Http;
use crate::backend::local::{Answer, Changes, Ctx, Local, Service};
use crate::backend::pool::{Places, Pool, Turn};
use crate::backend::{Peer, lock};
use crate::plan::{Access, Limits, Server as ServerPlan, Target, ToolFilter};
use crate::system::random;
use crate::vault::tickets::Tickets;
use crate::vault::{Barred, Pass, Shelf};

/// The tool of the stand-in. It is there also for who is connected, as a client may have listed it before.
pub const CONNECT: &str = "landbridge_connect";
/// How often it is looked whether a user has come in at another copy of us.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Such a server.
pub struct Each {
    name: String,
    plan: ServerPlan,
    url: Uri,
    access: Access,
    limits: Limits,
    places: Arc<Places>,
    http: Http,
    shelf: Arc<Shelf>,
    tickets: Arc<Tickets>,
    pub(super) tools: Arc<ToolFilter>,
    users: Mutex<HashMap<Principal, Arc<User>>>,
    stopped: AtomicBool,
    itself: Weak<Each>,
}

/// A user there.
pub struct User {
    principal: Principal,
    pass: Arc<Pass>,
    pool: Arc<Pool>,
    absent: Mutex<Option<Arc<Local>>>,
    /// Counts how often they came in, or left.
    moved: watch::Sender<u64>,
    used: Mutex<Instant>,
}

impl fmt::Debug for Each {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Each").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl Each {
    /// The server `name` as planned; `None` where not each user has an account of their own.
    pub fn new(
        name: &str,
        plan: &ServerPlan,
        limits: Limits,
        places: Arc<Places>,
        http: &Http,
        shelf: Arc<Shelf>,
        tickets: Arc<Tickets>,
    ) -> Option<Arc<Each>> {
        let Target::Remote { url, auth: Some(access), .. } = &plan.target else { return None };
        Some(Arc::new_cyclic(|itself| Each {
            name: name.into(),
            plan: plan.clone(),
            url: url.clone(),
            access: (**access).clone(),
            limits,
            places,
            http: http.clone(),
            shelf,
            tickets,
            tools: Arc::new(plan.tools.clone().and_always(CONNECT)),
            users: Mutex::default(),
            stopped: AtomicBool::new(false),
            itself: itself.clone(),
        }))
    }

    /// What we call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, without its query, which may hold a secret.
    pub fn shown(&self) -> String {
        self.url.to_string().split('?').next().unwrap_or_default().to_owned()
    }

    /// What that user has there.
    pub fn user(&self, principal: &Principal) -> Result<Arc<User>, Fault> {
        if principal.as_bytes().is_empty() {
            let told = format!("the server `{}` is for users who are known, and nobody has said who calls", self.name);
            return Err(Fault::gateway(Kind::Forbidden).tell(told));
        }
        let mut users = lock(&self.users);
        if let Some(user) = users.get(principal) {
            *lock(&user.used) = Instant::now();
            return Ok(user.clone());
        }
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Fault::gateway(Kind::Busy).tell("the gateway is being stopped; try again later"));
        }
        if users.len() >= self.limits.sessions {
            return Err(Fault::gateway(Kind::Busy).tell(format!("too many users of the server `{}` are here; try again later", self.name)));
        }
        let who = String::from_utf8_lossy(principal.as_bytes());
        let pass = Arc::new(Pass::of_user(&self.url, &who, &self.access, &self.http, &self.shelf));
        let pool = Pool::new_with(&self.name, &self.plan, self.limits, self.places.clone(), &self.http, None, Some(pass.clone()));
        let pool = Arc::new(pool.ok_or_else(|| Fault::gateway(Kind::Backend).tell("such a server has no instances"))?);
        self.places.enlist(&pool);
        let user = Arc::new(User {
            principal: principal.clone(),
            pass,
            pool,
            absent: Mutex::default(),
            moved: watch::channel(0).0,
            used: Mutex::new(Instant::now()),
        });
        users.insert(principal.clone(), user.clone());
        Ok(user)
    }

    /// A link by which that user connects their account.
    pub async fn link(&self, principal: &Principal) -> Result<String, Fault> {
        let failed = |trouble| Fault::gateway(Kind::Busy).tell("a link to log in at cannot be made now; try again later").because(trouble);
        self.tickets.link(principal, &self.name).await.map_err(failed)
    }

    /// What the user is asked.
    pub fn question(&self, link: &str) -> InputRequest {
        let params = json!({"mode": "url", "url": link, "message": self.request()});
        let request = json!({"method": Method::Elicitation.as_str(), "params": params});
        InputRequest { key: "connect".into(), request: request.to_string().into() }
    }

    fn request(&self) -> String {
        format!("Connect your account at {}, so that this gateway can act for you there", self.name)
    }

    fn told(&self, link: &str) -> String {
        format!(
            "open {link} to let this gateway act for you at {}, then call again; the link is for you alone, and for ten minutes",
            self.name
        )
    }

    // --- servers for calls -------------------------------------------------------------------------

    /// A server for a handshake client.
    pub async fn seat(&self, client: &Arc<Client>) -> Result<Peer, Fault> {
        let user = self.user(&client.principal)?;
        if !user.is_in().await? {
            return self.absent(&user).map(Peer::Local);
        }
        match user.pool.seat(client).await {
            Err(fault) if fault.kind == Kind::Changed => self.absent(&user).map(Peer::Local),
            seated => seated.map(Peer::Instance),
        }
    }

    /// The one for a stateless client.
    pub async fn shared(&self, abilities: Abilities, principal: &Principal) -> Result<Peer, Fault> {
        let user = self.user(principal)?;
        if !user.is_in().await? {
            return self.absent(&user).map(Peer::Local);
        }
        match user.pool.shared(abilities).await {
            Err(fault) if fault.kind == Kind::Changed => self.absent(&user).map(Peer::Local),
            shared => shared.map(Peer::Instance),
        }
    }

    /// The one for this call.
    pub async fn shared_for(&self, call: &Call) -> Result<(Peer, Option<Turn>), Fault> {
        let user = self.user(&call.client.principal)?;
        if is_connect(call) || !user.is_in().await? {
            return Ok((Peer::Local(self.absent(&user)?), None));
        }
        let shared = match user.pool.shared_now(call) {
            Some(shared) => Ok(shared),
            None => user.pool.shared_for(call).await,
        };
        match shared {
            Err(fault) if fault.kind == Kind::Changed => Ok((Peer::Local(self.absent(&user)?), None)),
            shared => shared.map(|(instance, turn)| (Peer::Instance(instance), turn)),
        }
    }

    /// One that tells of changes.
    pub async fn any(&self, abilities: Abilities, principal: &Principal) -> Result<Peer, Fault> {
        let user = self.user(principal)?;
        match user.pool.lead() {
            Some((_, instance)) => Ok(Peer::Instance(instance)),
            None => self.shared(abilities, principal).await,
        }
    }

    /// What stands there for a user who is not connected.
    pub fn absent(&self, user: &Arc<User>) -> Result<Arc<Local>, Fault> {
        let mut absent = lock(&user.absent);
        if let Some(local) = absent.as_ref().filter(|local| local.is_alive()) {
            return Ok(local.clone());
        }
        let patience = Duration::from_millis(self.limits.ask_timeout_ms);
        let service = Arc::new(Absent { each: self.itself.clone(), user: Arc::downgrade(user), name: self.name.clone(), patience });
        let local = Local::new(&self.name, service, &ToolFilter::default());
        let local = local.map_err(|why| Fault::gateway(Kind::Backend).tell(why))?;
        Ok(absent.insert(local).clone())
    }

    /// The era that it is known to speak in.
    pub fn era(&self) -> Option<Era> {
        self.pools().iter().find_map(|pool| pool.era())
    }

    // --- life --------------------------------------------------------------------------------------

    /// Every pool there is now.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        lock(&self.users).values().map(|user| user.pool.clone()).collect()
    }

    fn stand_ins(&self) -> Vec<Arc<Local>> {
        lock(&self.users).values().filter_map(|user| lock(&user.absent).clone()).collect()
    }

    /// Whether no call is under way.
    pub fn is_quiet(&self) -> bool {
        self.pools().iter().all(|pool| pool.is_quiet()) && self.stand_ins().iter().all(|local| local.is_quiet())
    }

    /// Ends its streams of changes.
    pub fn break_off(&self) {
        self.pools().iter().for_each(|pool| pool.hub().break_off());
        self.stand_ins().iter().for_each(|local| local.hub.break_off());
    }

    /// Nobody needs another instance of it.
    pub fn start_nothing(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.pools().iter().for_each(|pool| pool.start_nothing());
    }

    /// Ends it, and the calls that are still under way.
    pub fn stop(&self) {
        self.start_nothing();
        self.pools().iter().for_each(|pool| pool.stop());
        self.stand_ins().iter().for_each(|local| local.stop());
    }

    /// Lets go of what nobody uses. Called every second.
    pub fn housekeep(&self, now: Instant) {
        self.pools().iter().for_each(|pool| pool.housekeep(now));
        let longest = Duration::from_millis(self.limits.call_timeout_ms);
        self.stand_ins().iter().for_each(|local| local.housekeep(longest, now));
        let idle = Duration::from_millis(self.limits.child_idle_ms);
        // Whoever is about to use one holds it.
        lock(&self.users).retain(|_, user| {
            let in_use =
                Arc::strong_count(user) > 1 || now.saturating_duration_since(*lock(&user.used)) <= idle || user.pool.has_instances();
            let sat_at = lock(&user.absent).as_ref().is_some_and(|local| Arc::strong_count(local) > 1);
            in_use || sat_at
        });
    }
}

impl User {
    /// What carries their token.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What lets them in.
    pub fn pass(&self) -> &Arc<Pass> {
        &self.pass
    }

    /// Whether they are let in by what there is, as far as is known here, and need not be asked for more.
    async fn is_in(&self) -> Result<bool, Fault> {
        Ok(self.is_connected().await? && !self.pass.is_to_be_asked())
    }

    /// Whether there is a token.
    pub async fn is_connected(&self) -> Result<bool, Fault> {
        match self.pass.bearer().await {
            Ok(token) => Ok(token.is_some()),
            Err(Barred::Login(_)) => Ok(false),
            Err(Barred::Failed(why)) => Err(Fault::backend(self.pool.name(), Kind::Unreachable)
                .tell(format!("the server `{}` needs a token of yours, which cannot be had now: {why}", self.pool.name()))),
        }
    }

    /// Whether there is a token, and none that holds more was asked for.
    async fn has_come(&self) -> Result<bool, Fault> {
        Ok(self.is_connected().await? && !self.pass.is_wanting())
    }

    /// Waits until they have logged in; whether they did within that time.
    pub async fn come(&self, patience: Duration) -> bool {
        let mut moved = self.moved.subscribe();
        let coming = async {
            while !self.has_come().await.unwrap_or(false) {
                let _ = tokio::time::timeout(LOOK_AGAIN, moved.changed()).await; // then it is looked again
            }
        };
        tokio::time::timeout(patience, coming).await.is_ok()
    }

    /// They have logged in, or what let them in is gone: their clients find another server here than before.
    pub fn has_moved(&self) {
        self.pool.retire_all();
        self.pool.hub().break_off();
        self.dismiss();
        self.moved.send_modify(|n| *n += 1);
    }

    /// Nobody stands in for the server any more.
    fn dismiss(&self) {
        // Bound to a name first: it tells its clients.
        let absent = lock(&self.absent).take();
        if let Some(absent) = absent {
            absent.leave();
        }
    }
}

/// Whether a call is for the tool of the stand-in.
pub fn is_connect(call: &Call) -> bool {
    call.method == Method::ToolsCall && call.message.string_at(call.params.name).as_deref() == Some(CONNECT)
}

/// What stands in for the server where a user is not connected.
struct Absent {
    each: Weak<Each>,
    user: Weak<User>,
    name: String,
    patience: Duration,
}

impl Service for Absent {
    fn hello(&self) -> Value {
        // What the server itself has is not known, and a client hears it once: so it may be anything.
        let changes = json!({"listChanged": true});
        json!({
            "capabilities": {
                "tools": changes, "prompts": changes, "resources": {"listChanged": true, "subscribe": true},
                "completions": {}, "logging": {},
            },
            "serverInfo": serde_json::from_str::<Value>(&own_info()).unwrap_or_default(),
            "instructions": format!("The user has to connect their account at {} first: call the tool {CONNECT}.", self.name),
        })
    }

    fn served(&self, _: Changes) {}

    fn call(self: Arc<Self>, call: Call, context: Ctx) -> Answer {
        let now = |value: Value| Answer::Now(Ok(value.to_string().into()));
        match call.method {
            Method::ToolsList => now(json!({"tools": [{
                "name": CONNECT,
                "title": format!("Connect to {}", self.name),
                "description": format!("Lets the user connect their account at {}. Until then it has no other tools.", self.name),
                "inputSchema": {"type": "object", "properties": {}},
                "annotations": {"readOnlyHint": false, "destructiveHint": false, "openWorldHint": true},
            }]})),
            Method::PromptsList => now(json!({"prompts": []})),
            Method::ResourcesList => now(json!({"resources": []})),
            Method::TemplatesList => now(json!({"resourceTemplates": []})),
            Method::Ping => now(json!({})),
            Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead => Answer::Later(Box::pin(self.ask(call, context))),
            _ => Answer::Now(Err(Fault::client(Kind::UnknownMethod).tell(format!(
                "Method not found: {}: the user has to connect their account at {} first",
                call.method.as_str(),
                self.name
            )))),
        }
    }
}

impl Absent {
    /// Has the user log in, and the call begun anew.
    async fn ask(self: Arc<Self>, call: Call, context: Ctx) -> Result<Bytes, Fault> {
        let gone = || Fault::gateway(Kind::Busy).tell("the gateway is being stopped; try again later");
        let (each, user) = (self.each.upgrade().ok_or_else(gone)?, self.user.upgrade().ok_or_else(gone)?);
        let connect = is_connect(&call);
        let connected = || {
            user.dismiss();
            match connect {
                true => Ok(text(&format!("Connected to {}. Its tools are there now.", self.name), false)),
                false => {
                    let told = format!("the user has connected their account at {}; call again", self.name);
                    Err(Fault::backend(&self.name, Kind::Changed).tell(told))
                }
            }
        };
        if user.has_come().await? {
            return connected();
        }
        let link = each.link(&user.principal).await?;
        let client = &call.client;
        let mut told = each.told(&link);
        if client.revision.era() == Era::Handshake && Abilities::of(client).include(Abilities::URL) {
            let id = spell(random().map_err(|why| Fault::gateway(Kind::Backend).tell(why))?);
            let params = json!({"mode": "url", "elicitationId": id, "url": link, "message": each.request()});
            let asked = async {
                match context.ask(Method::Elicitation, params).await {
                    Ok(answer) if answer["action"] == "accept" => user.come(self.patience).await.then_some(()).ok_or(None),
                    Ok(_) => Err(Some("you did not want to log in")),
                    // It cannot be asked now.
                    Err(_) => Err(None),
                }
            };
            let came = tokio::select! {
                biased;
                true = user.come(self.patience) => Ok(()),
                asked = asked => asked,
            };
            match came {
                Ok(()) => {
                    context.note("notifications/elicitation/complete", &json!({"elicitationId": id})).await;
                    return connected();
                }
                Err(why) => told = why.map_or(told.clone(), |why| format!("{why}; {told}")),
            }
        }
        // Whoever only needed more has all the rest.
        if user.is_connected().await? {
            user.dismiss();
        }
        match call.method {
            Method::ToolsCall => Ok(text(&told, true)),
            _ => Err(Fault::client(Kind::Untranslatable).tell(told)),
        }
    }
}

fn text(text: &str, is_error: bool) -> Bytes {
    json!({"content": [{"type": "text", "text": text}], "isError": is_error}).to_string().into()
}
