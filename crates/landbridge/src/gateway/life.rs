//! What goes on while nobody calls, and how it ends: the clock, what probes and measures are told, the stop.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::backend::{Backend, lock};
use crate::gateway::Gateway;

impl Gateway {
    /// Whether every server can be reached. What has not been tried is tried; the verdict is
    /// remembered for five seconds, so that a prober costs nothing.
    pub async fn readiness(&self) -> Result<(), String> {
        const REMEMBERED: Duration = Duration::from_secs(5);
        let mut known = self.readiness.lock().await;
        if let Some((at, verdict)) = &*known
            && at.elapsed() < REMEMBERED
        {
            return verdict.clone();
        }
        let mut verdict = Ok(());
        let backends: Vec<Arc<Backend>> = self.running().backends.values().cloned().collect();
        for backend in backends {
            if let Backend::Pools(pools) = &*backend
                && let Err(fault) = pools.base().is_ready().await
            {
                verdict = Err(fault.told);
                break;
            }
        }
        *known = Some((Instant::now(), verdict.clone()));
        verdict
    }

    /// Whether no call is under way.
    pub fn is_quiet(&self) -> bool {
        self.running().all().all(|backend| backend.is_quiet())
    }

    /// Once a second: ends what is idle or took too long.
    pub fn housekeep(&self, tick: usize) {
        let now = Instant::now();
        let [every, idle] = [self.plan.limits.session_sweep_ms, self.plan.limits.session_idle_ms].map(Duration::from_millis);
        self.sessions.trim(tick, now);
        self.sessions.sweep(tick, every, idle, now);
        self.lot.housekeep(now);
        self.audit.housekeep();
        for backend in self.running().all() {
            match &**backend {
                Backend::Pools(pools) => pools.housekeep(now),
                Backend::Each(each) => each.housekeep(now),
                Backend::Merged(merged) => merged.housekeep(now),
                Backend::Local(local) => local.housekeep(Duration::from_millis(self.plan.limits.call_timeout_ms), now),
            }
        }
        self.end_retired(now);
        self.auth.keep_watch(Duration::from_millis(self.plan.limits.recheck_ms), now);
        // What has expired is as good as gone; this only makes room.
        if self.auth.is_on() && tick % 600 == 599 {
            let auth = self.auth.clone();
            tokio::spawn(async move {
                if let Err(trouble) = auth.store.sweep(crate::system::now_s()).await {
                    tracing::warn!(%trouble, "what has expired cannot be removed");
                }
            });
        }
    }

    /// What there is to be measured, as Prometheus reads it (text format 0.0.4).
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        let limits = &self.plan.limits;
        for (name, help, value) in [
            ("landbridge_sessions", "Sessions of clients that are open.", self.sessions.len()),
            ("landbridge_children", "Child processes that run.", limits.children - self.children.left()),
            ("landbridge_remote_sessions", "Sessions with servers elsewhere.", limits.remote_sessions - self.elsewhere.left()),
            ("landbridge_parked_calls", "Calls that wait for their client to come back with answers.", self.lot.len()),
        ] {
            out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"));
        }
        self.eras.write(&mut out);
        self.visits.write(&mut out);
        out
    }

    /// Ends the streams that wait for nothing in particular.
    pub fn close_idle_streams(&self) {
        for listen in lock(&self.open_listens).iter().filter_map(Weak::upgrade) {
            lock(&listen).finish();
        }
        for live in self.sessions.all() {
            let idle = lock(&live.state).is_settled();
            if idle {
                self.sessions.close(live.id);
            }
        }
    }

    /// Waits until no child is left, and no session elsewhere; they were told to stop.
    pub async fn instances_gone(&self) {
        let gone = async {
            while !(self.children.all_free() && self.elsewhere.all_free() && self.seats_within.all_free()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // The ladder's last rung waits a second for the guard itself.
        let _ = tokio::time::timeout(Duration::from_millis(self.plan.limits.child_stop_ms + 1_500), gone).await;
    }

    /// Ends every server; the calls that are still under way end with that.
    pub fn stop(&self) {
        self.lot.close();
        for backend in self.running().all() {
            backend.stop();
        }
    }
}
