//! A listing of several servers: a page of each, gathered at once, as one.
//!
//! A server that fails, or is slow, is left out and hides nothing of the others. Where servers have more,
//! the cursor says which, and where each goes on; it is sealed, for it comes back from the client.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{debug, warn};

use landbridge_proto::abilities::Abilities;
use landbridge_proto::call::Outcome;
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json::{self, Span};
use landbridge_proto::merge::pages::{self, By, Page};
use landbridge_proto::message::Message;
use landbridge_proto::methods::Method;
use landbridge_proto::sealed::Purpose;
use landbridge_proto::version::Era;

use super::{Carrier, own_id, stateless_call};
use crate::backend::lock;

/// How long a server may take before it is left out.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for one that was left out for that reason the last time.
const SHORT: Duration = Duration::from_secs(1);
/// Who was looked through for a name is not for so long.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Pages that are looked through for a name.
const PAGES: usize = 100;

impl Carrier {
    /// One page, of all who have one.
    pub(super) async fn list(self: &Arc<Self>, method: &Method, message: &Message) -> Result<Outcome, Fault> {
        let [cursor] = message.params_fields(&["cursor"]).unwrap_or_default();
        let asked: Vec<(usize, Option<String>)> = match cursor.filter(|at| message.text(*at) != "null") {
            None => (0..self.seats.len()).map(|server| (server, None)).collect(),
            Some(at) => self.open_cursor(method, message, at)?,
        };
        let mut listing = tokio::task::JoinSet::new();
        for (server, cursor) in asked {
            let (carrier, method, request) = (self.clone(), method.clone(), message.clone());
            listing.spawn(async move {
                let late = &carrier.servers.known[server].late;
                let patience = if late.load(Ordering::Relaxed) { SHORT } else { PATIENCE };
                let page = tokio::time::timeout(patience, carrier.page(server, &method, &request, cursor.as_deref())).await;
                late.store(page.is_err(), Ordering::Relaxed);
                let name = carrier.servers.name(server);
                let too_late =
                    || Fault::backend(&name, Kind::Timeout).tell(format!("the server `{name}` takes too long to list what it has"));
                (server, page.unwrap_or_else(|_| Err(Outcome::Fault(too_late()))))
            });
        }
        let mut listed = Vec::new();
        while let Some(joined) = listing.join_next().await {
            listed.extend(joined.ok());
        }
        listed.sort_by_key(|(server, _)| *server);
        let (mut gathered, mut answered, mut failed) = (Vec::new(), false, None);
        for (server, page) in listed {
            let left_out = &self.servers.known[server].left_out;
            match page {
                Ok(page) => {
                    left_out.store(false, Ordering::Relaxed);
                    answered = true;
                    gathered.extend(page.map(|page| (server, page)));
                }
                Err(outcome) => {
                    let why = match &outcome {
                        Outcome::Fault(fault) => fault.told.clone(),
                        _ => "it answers with an error".into(),
                    };
                    let (name, method) = (self.servers.name(server), method.as_str());
                    match left_out.swap(true, Ordering::Relaxed) {
                        false => warn!(server = name, method, why, "left out of a listing"),
                        true => debug!(server = name, method, why, "left out of a listing again"),
                    }
                    if let Some(seat) = self.seats.get(server) {
                        seat.was_missed();
                    }
                    failed.get_or_insert(outcome);
                }
            }
        }
        // Where there is nobody to hide, the reason is better than nothing.
        if let Some(failed) = failed.clone().filter(|_| !answered) {
            return Ok(failed);
        }
        let names: Vec<String> = gathered.iter().map(|(server, _)| self.servers.name(*server)).collect();
        let goes_on = names.iter().zip(&gathered).filter_map(|(name, (_, page))| Some((&**name, page.next.as_deref()?)));
        let next = match pages::cursor(goes_on) {
            Some(next) => {
                let lot = self.servers.gateway()?.lot.clone();
                let sealed = lot.keys.seal(Purpose::Cursor, &[self.client.principal.as_bytes(), method.as_str().as_bytes()], &next);
                if sealed.is_none() {
                    warn!(method = method.as_str(), "the servers' cursors are too long; the listing ends here");
                }
                sealed
            }
            None => None,
        };
        // A listing in which somebody is missing is not to be kept.
        let missing = failed.map(|_| Page::default());
        let all: Vec<Page> = gathered.into_iter().map(|(_, page)| page).chain(missing).collect();
        Ok(Outcome::Result(pages::result(method, self.era(), &all, next.as_deref())))
    }

    fn open_cursor(&self, method: &Method, message: &Message, at: Span) -> Result<Vec<(usize, Option<String>)>, Fault> {
        let invalid = || Fault::client(Kind::Params).tell("Invalid cursor");
        let sealed = message.string_at(Some(at)).ok_or_else(invalid)?;
        let opened = self.servers.gateway()?.lot.keys.open(
            Purpose::Cursor,
            &[self.client.principal.as_bytes(), method.as_str().as_bytes()],
            &sealed,
        );
        let parts = pages::parts_of(&opened.ok_or_else(invalid)?).ok_or_else(invalid)?;
        let directory = lock(&self.servers.directory);
        // Who is not there any more has no more to list.
        Ok(parts.into_iter().filter_map(|(name, next)| Some((directory.position(&name)?, Some(next)))).collect())
    }

    /// A page of one server's; `None`: it has no such list.
    async fn page(
        self: &Arc<Self>,
        server: usize,
        method: &Method,
        request: &Message,
        cursor: Option<&str>,
    ) -> Result<Option<Page>, Outcome> {
        if !self.offers(server, pages::capability(method), request).await.map_err(Outcome::Fault)? {
            return Ok(None);
        }
        let [at] = request.params_fields(&["cursor"]).unwrap_or_default();
        let request = match (at, cursor) {
            (Some(at), Some(cursor)) => json::splice(&request.bytes, &[(at, json::quote(cursor).as_bytes())]).into(),
            _ => request.bytes.clone(),
        };
        let talk = self.talk(server, request).await.map_err(Outcome::Fault)?;
        let result = match talk.outcome().await {
            Outcome::Result(result) => result,
            failed => return Err(failed),
        };
        let name = self.servers.name(server);
        let no_listing =
            || Fault::backend(&name, Kind::Backend).tell(format!("the server `{name}` answers {} with no list", method.as_str()));
        self.read_page(server, method, &result).map(Some).ok_or_else(|| Outcome::Fault(no_listing()))
    }

    fn read_page(&self, server: usize, method: &Method, result: &Bytes) -> Option<Page> {
        let mut directory = lock(&self.servers.directory);
        Page::read(method, result, |by, own| match by {
            By::Name => directory.learn(server, own),
            By::Uri => Some(directory.uri(server, own)),
        })
    }

    /// Whether a server has what is to be listed: some never answer what they did not offer.
    async fn offers(self: &Arc<Self>, server: usize, capability: &str, request: &Message) -> Result<bool, Fault> {
        let peer = match self.era() {
            Era::Handshake => self.live(server).await?.peer().await?,
            Era::Stateless => {
                let client = stateless_call(&self.client, request.clone())?.client;
                let gateway = self.servers.gateway()?;
                gateway.current(&self.servers.backend(server)?)?.shared(&client.principal, Abilities::of(&client)).await?
            }
        };
        Ok(json::field(&peer.server().capabilities, capability).is_some())
    }

    /// Looks through what a server lists, so that its names are known. `request` says who wants to know.
    pub(super) async fn learn(self: &Arc<Self>, server: usize, method: &Method, request: &Message) {
        let looked_through = &self.servers.known[server].looked_through;
        if lock(looked_through).is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        let work = async {
            let [meta] = request.params_fields(&["_meta"]).unwrap_or_default();
            let meta = meta.filter(|_| self.era() == Era::Stateless).map(|at| format!("\"_meta\":{}", request.text(at)));
            let mut cursor = None;
            for _ in 0..PAGES {
                let next = cursor.map(|next: String| format!("\"cursor\":{}", json::quote(&next)));
                let params: Vec<String> = meta.iter().cloned().chain(next).collect();
                let line = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"{}\",\"params\":{{{}}}}}",
                    String::from_utf8_lossy(own_id("names").as_bytes()),
                    method.as_str(),
                    params.join(",")
                );
                let Ok(talk) = self.talk(server, line.into()).await else { return };
                let Outcome::Result(result) = talk.outcome().await else { return };
                cursor = self.read_page(server, method, &result).and_then(|page| page.next);
                if cursor.is_none() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, work).await; // who does not say has none
        *lock(looked_through) = Some(Instant::now());
    }
}
