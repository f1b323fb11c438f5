//! What of a server's tools a call needs to know: which parameters its stateless clients mirror in
//! headers, and which of the tools run as tasks.
//!
//! A gateway that reads the body must check that the headers repeat it (2026-07-28, "x-mcp-header"),
//! and only the tool's schema says which. So the tools are listed once, before the first call,
//! and again after they changed.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use landbridge_proto::headers::{MirroredParam, mirrored_params};
use landbridge_proto::json;
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;
use landbridge_proto::tasks::{TaskSupport, task_support};
use landbridge_proto::version::Era;

use crate::backend::{Peer, lock};

/// Pages of a listing that are read.
const PAGES: usize = 100;
/// How long the listing may take; after that the headers of that call go unchecked.
const PATIENCE: Duration = Duration::from_secs(10);

type Known = Arc<HashMap<String, Facts>>;

/// What of a tool's listing a call needs to know.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Parameters that are mirrored in headers.
    pub mirrored: Arc<[MirroredParam]>,
    /// Whether it runs as a task (2025-11-25).
    pub tasks: TaskSupport,
}

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    known: Mutex<Option<Known>>,
    /// Counts the changes, so that a listing from before one is not kept.
    version: AtomicU64,
    /// One listing for all who wait for it.
    listing: tokio::sync::Mutex<()>,
}

impl Mirrors {
    /// The tools changed.
    pub(super) fn forget(&self) {
        let mut known = lock(&self.known);
        self.version.fetch_add(1, Ordering::AcqRel);
        *known = None;
    }

    fn known(&self) -> Option<Known> {
        lock(&self.known).clone()
    }
}

type Looking = Pin<Box<dyn Future<Output = Option<Facts>> + Send>>;

impl Peer {
    fn mirrors(&self) -> &Mirrors {
        match self {
            Peer::Instance(instance) => &instance.mirrors,
            Peer::Local(local) => &local.mirrors,
        }
    }

    /// What is special about a tool. `None` where nothing is, or the server does not list.
    pub async fn facts(&self, tool: &str) -> Option<Facts> {
        let mirrors = self.mirrors();
        if let Some(known) = mirrors.known() {
            return known.get(tool).cloned();
        }
        // By itself: others wait for it, also when whoever began it does not read.
        let (peer, tool) = (self.clone(), tool.to_owned());
        let looking: Looking = Box::pin(async move { peer.look_up(&tool).await });
        tokio::spawn(looking).await.ok().flatten()
    }

    async fn look_up(&self, tool: &str) -> Option<Facts> {
        let mirrors = self.mirrors();
        let _listing = mirrors.listing.lock().await;
        if let Some(known) = mirrors.known() {
            return known.get(tool).cloned();
        }
        if self.server().era() == Era::Stateless {
            // Only who listens is told that the tools changed.
            self.hub().want_tools();
            self.tells_of(&Filter { tools: true, ..Filter::default() }).await;
        }
        let before = mirrors.version.load(Ordering::Acquire);
        let Ok(Some(listed)) = tokio::time::timeout(PATIENCE, self.list_facts()).await else {
            tracing::warn!("the server does not list its tools; the headers of this call are not checked");
            return None;
        };
        let listed = Arc::new(listed);
        let mut known = lock(&mirrors.known);
        if before == mirrors.version.load(Ordering::Acquire) {
            *known = Some(listed.clone());
        }
        listed.get(tool).cloned()
    }

    /// `None`: it could not be listed.
    async fn list_facts(&self) -> Option<HashMap<String, Facts>> {
        let mut found = HashMap::new();
        let mut params = String::new();
        if !self.server().can.tools {
            return Some(found);
        }
        for _ in 0..PAGES {
            let result = self.ask_own(Method::ToolsList, &params).await.ok()?;
            let page: serde_json::Value = serde_json::from_slice(&result).ok()?;
            for tool in page.get("tools").and_then(|t| t.as_array()).into_iter().flatten() {
                let (Some(name), Some(schema)) = (tool.get("name").and_then(|n| n.as_str()), tool.get("inputSchema")) else { continue };
                let mirrored = mirrored_params(schema).unwrap_or_else(|why| {
                    tracing::warn!(tool = name, why, "a tool's header annotation is invalid; its headers are not checked");
                    Vec::new()
                });
                let tasks = if self.server().can.tasks { task_support(tool.to_string().as_bytes()) } else { TaskSupport::Forbidden };
                if !mirrored.is_empty() || tasks != TaskSupport::Forbidden {
                    found.insert(name.to_owned(), Facts { mirrored: mirrored.into(), tasks });
                }
            }
            match page.get("nextCursor").and_then(|c| c.as_str()) {
                Some(cursor) => params = format!("\"cursor\":{}", json::quote(cursor)),
                None => break,
            }
        }
        Some(found)
    }
}
