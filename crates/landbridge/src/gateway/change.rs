//! From one plan to the next, while calls run.
//!
//! ```text
//!   change ──▶ each server of the new plan: as it was? ──yes──▶ stays: its children, its sessions
//!                                             └──no──▶ begins anew
//!   who is left of the old one ──▶ retired ──▶ its calls have ended ──▶ stopped
//! ```
//!
//! A retired server takes no new calls. What belongs to its calls still finds it under its name, or
//! by its session: answers to its questions, retries, cancellations, streams that are taken up
//! again. Its sessions end when their calls have, so that their clients open others at the server
//! that is there now.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::{Duration, Instant};

use landbridge_proto::fault::{Fault, Kind};

use landbridge_proto::call::Transport;

use crate::backend::Backend;
use crate::backend::merged::Merged;
use crate::gateway::Gateway;
use crate::plan::auth::Needs;
use crate::plan::{Audit, Limits, Plan, Rates, Tls};
use crate::profile::Profile;

/// What was planned and stays, whatever becomes of the plan.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Where we listen.
    pub listen: SocketAddr,
    /// How we listen, if not in plain text.
    pub tls: Option<Tls>,
    /// Under which path we are.
    pub path: String,
    /// Every bound.
    pub limits: Limits,
    /// How often, and how much at once.
    pub rates: Rates,
    /// What is told of what happens.
    pub audit: Audit,
    /// What clients of HTTP+SSE are told, and how.
    pub profile: Profile,
    /// How clients come that have no session.
    pub stateless_over: Transport,
}

/// What is served now.
#[derive(Clone, Debug)]
pub struct Running {
    /// What was planned.
    pub plan: Plan,
    pub(super) backends: BTreeMap<String, Arc<Backend>>,
    /// All of them together, where there are several.
    merged: Option<Arc<Backend>>,
    retired: Vec<Retired>,
    /// What callers need: of each server, and of all of them together. Asked for with every request.
    needs: BTreeMap<String, Arc<Needs>>,
    all_needs: Arc<Needs>,
}

/// A server that was changed or removed, for as long as calls are under way on it.
#[derive(Clone, Debug)]
struct Retired {
    backend: Arc<Backend>,
    since: Instant,
}

/// What a change of the plan came to.
#[derive(Debug, Default, PartialEq)]
pub struct Changed {
    /// Servers that were not there before.
    pub added: Vec<String>,
    /// Servers that are others now.
    pub changed: Vec<String>,
    /// Servers that are not there any more.
    pub removed: Vec<String>,
    /// Who may call, or by which URL, is another matter now.
    pub callers: bool,
}

impl Changed {
    fn keeps_servers(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Running {
    /// The first plan.
    pub(super) fn new(plan: Plan, backends: BTreeMap<String, Arc<Backend>>) -> Running {
        Running::of(plan, backends, None, Vec::new())
    }

    fn of(plan: Plan, backends: BTreeMap<String, Arc<Backend>>, merged: Option<Arc<Backend>>, retired: Vec<Retired>) -> Running {
        let needs = |servers| Arc::new(plan.auth.needs(&plan.rights, servers));
        let all_needs = needs(backends.keys().cloned().collect());
        let needs = backends.keys().map(|name| (name.clone(), needs(vec![name.clone()]))).collect();
        Running { plan, backends, merged, retired, needs, all_needs }
    }

    /// What callers of a server need; one that is retired may be known to no plan any more.
    pub fn needs(&self, backend: &Backend) -> Arc<Needs> {
        let unknown = || Arc::new(self.plan.auth.needs(&self.plan.rights, vec![backend.name().to_owned()]));
        match backend {
            Backend::Merged(_) => self.all_needs.clone(),
            backend => self.needs.get(backend.name()).cloned().unwrap_or_else(unknown),
        }
    }

    /// What callers of all servers together need.
    pub fn all_needs(&self) -> &Needs {
        &self.all_needs
    }

    /// What is behind `/mcp`: the only server, or all of them together.
    pub fn front(&self) -> Option<&Arc<Backend>> {
        self.merged.as_ref().or_else(|| self.only_backend())
    }

    /// The only server there is.
    pub fn only_backend(&self) -> Option<&Arc<Backend>> {
        let mut all = self.backends.values();
        let first = all.next()?;
        all.next().is_none().then_some(first)
    }

    /// Those at which each user has an account of their own.
    pub fn each(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.values().filter(|backend| backend.each().is_some())
    }

    /// The server of that name.
    pub fn named(&self, name: &str) -> Option<Arc<Backend>> {
        self.backends.get(name).cloned()
    }

    /// The names of the servers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.backends.keys().map(String::as_str)
    }

    /// Every server that runs, the retired ones too.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Backend>> {
        self.backends.values().chain(&self.merged).chain(self.retired.iter().map(|retired| &retired.backend))
    }

    /// Who takes new calls under that name.
    fn current(&self, name: &str) -> Option<&Arc<Backend>> {
        self.backends.get(name).or(self.merged.as_ref().filter(|merged| merged.name() == name))
    }
}

impl Gateway {
    /// What is served now. Not to be held while somebody is waited for: it keeps what is retired.
    pub fn running(&self) -> Arc<Running> {
        self.now().clone()
    }

    fn now(&self) -> RwLockReadGuard<'_, Arc<Running>> {
        self.running.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of that name; one that is retired, if there is no other.
    pub fn backend(&self, name: &str) -> Option<Arc<Backend>> {
        let running = self.now();
        let retired = || running.retired.iter().rev().map(|retired| &retired.backend).find(|backend| backend.name() == name);
        running.backends.get(name).or_else(retired).cloned()
    }

    /// What is behind `/mcp`: the only server, or all of them together.
    pub fn front(&self) -> Option<Arc<Backend>> {
        self.now().front().cloned()
    }

    /// The only server there is.
    pub fn only_backend(&self) -> Option<Arc<Backend>> {
        self.now().only_backend().cloned()
    }

    /// The server that takes new calls under this one's name: mostly itself.
    pub fn current(&self, backend: &Arc<Backend>) -> Result<Arc<Backend>, Fault> {
        let name = backend.name();
        let gone = || Fault::client(Kind::NoSuchPath).tell(format!("the server `{name}` is not served any more"));
        self.now().current(name).cloned().ok_or_else(gone)
    }

    /// Whether a server takes no new calls.
    pub(super) fn is_retired(&self, backend: &Arc<Backend>) -> bool {
        !self.now().current(backend.name()).is_some_and(|current| Arc::ptr_eq(current, backend))
    }

    /// Serves another plan from now on. Where we listen and the limits are those of the first one.
    pub fn change(&self, plan: Plan) -> Result<Changed, String> {
        let mut now = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let (old, mut changed) = (now.clone(), Changed::default());
        let mut backends = BTreeMap::new();
        for (name, server) in &plan.servers {
            let backend = match (old.backends.get(name), old.plan.servers.get(name)) {
                (Some(backend), Some(as_it_was)) if as_it_was == server => backend.clone(),
                (before, _) => {
                    let news = if before.is_some() { &mut changed.changed } else { &mut changed.added };
                    news.push(name.clone());
                    self.begin(name, server)?
                }
            };
            backends.insert(name.clone(), backend);
        }
        let callers = |plan: &Plan| (plan.public_url.clone(), plan.guard.clone(), plan.proxies.clone(), plan.cors);
        changed.callers = callers(&plan) != callers(&old.plan);
        changed.removed = old.backends.keys().filter(|name| !backends.contains_key(*name)).cloned().collect();
        if changed == Changed::default() {
            return Ok(changed);
        }
        let (mut retired, since) = (old.retired.clone(), Instant::now());
        let left = changed.changed.iter().chain(&changed.removed).filter_map(|name| old.backends.get(name));
        retired.extend(left.map(|backend| Retired { backend: backend.clone(), since }));
        // Its clients begin anew, and see what has changed.
        let mut merged = old.merged.clone();
        if !changed.keeps_servers() {
            retired.extend(merged.take().map(|backend| Retired { backend, since }));
            let several = backends.len() > 1;
            merged = several.then(|| {
                let all = Merged::new(self.itself.clone(), backends.keys().cloned(), self.plan.limits);
                Arc::new(Backend::Merged(Arc::new(all)))
            });
        }
        *now = Arc::new(Running::of(plan, backends, merged, retired));
        drop((now, old));
        if let Ok(mut known) = self.readiness.try_lock() {
            *known = None;
        }
        Ok(changed)
    }

    /// Ends what is retired and not needed any more. Called every second.
    pub(super) fn end_retired(&self, now: Instant) {
        let running = self.running();
        if running.retired.is_empty() {
            return;
        }
        let longest = Duration::from_millis(self.plan.limits.call_timeout_ms);
        let over = |retired: &&Retired| self.is_over(&retired.backend) || now.saturating_duration_since(retired.since) > longest;
        let over: Vec<Arc<Backend>> = running.retired.iter().filter(over).map(|retired| retired.backend.clone()).collect();
        drop(running);
        if over.is_empty() {
            return;
        }
        let mut running = self.running.write().unwrap_or_else(PoisonError::into_inner);
        let retired = running.retired.iter().filter(|retired| !over.iter().any(|over| Arc::ptr_eq(over, &retired.backend)));
        *running = Arc::new(Running { retired: retired.cloned().collect(), ..(**running).clone() });
        drop(running);
        for backend in over {
            if !matches!(*backend, Backend::Merged(_)) {
                tracing::info!(server = backend.name(), "stopping what was changed or removed; its calls have ended");
            }
            for live in self.sessions.all().iter().filter(|live| Arc::ptr_eq(&live.backend, &backend)) {
                self.sessions.close(live.id);
            }
            backend.stop();
        }
    }

    /// Whether nothing is under way on a retired server. Ends what only waits.
    fn is_over(&self, backend: &Arc<Backend>) -> bool {
        backend.break_off();
        let mut busy = false;
        for live in self.sessions.all().iter().filter(|live| Arc::ptr_eq(&live.backend, backend)) {
            match live.is_busy() {
                true => busy = true,
                false => self.sessions.close(live.id),
            }
        }
        // Whoever is about to begin a call, or takes one from one era to the other, holds it too.
        if busy || Arc::strong_count(backend) > 1 {
            return false;
        }
        backend.start_nothing();
        backend.is_quiet()
    }
}
