//! A session with each server, for a handshake client of several.
//!
//! Opened when it is first needed, by a task of its own: a listing that does not wait any longer must not
//! undo a slow start. A server that was left out of a listing and comes up later is told of as a change of
//! its lists. A session that has ended is opened again, with its level and its subscriptions.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::debug;

use landbridge_proto::back::probe::initialize_request;
use landbridge_proto::call::{Client, Level, Notice, Outcome};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::{Reader, Transport};
use landbridge_proto::json;
use landbridge_proto::message::Message;
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;

use super::Carrier;
use crate::backend::lock;
use crate::sessions::Live;

/// For servers to hear what our client has said.
const PATIENCE: Duration = Duration::from_secs(10);

/// The place of a session with one server.
#[derive(Default)]
pub(super) struct Seat {
    live: Mutex<Option<Arc<Live>>>,
    /// Held while one is opened: one for all who wait for it.
    opening: tokio::sync::Mutex<()>,
    /// It was left out of a listing.
    missed: AtomicBool,
}

impl Seat {
    /// The session, if there is one.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        lock(&self.live).clone().filter(|live| !lock(&live.state).is_closed())
    }

    /// Its server was left out of a listing.
    pub(super) fn was_missed(&self) {
        self.missed.store(true, Ordering::Relaxed);
    }
}

impl Carrier {
    /// The session with a server, opened if need be.
    pub(super) async fn live(self: &Arc<Self>, server: usize) -> Result<Arc<Live>, Fault> {
        let nobody = || Fault::gateway(Kind::Backend).tell("no such server");
        let seat = self.seats.get(server).ok_or_else(nobody)?;
        if let Some(live) = seat.live() {
            return Ok(live);
        }
        let carrier = self.clone();
        let opening = tokio::spawn(async move {
            let Some(seat) = carrier.seats.get(server) else { return Err(nobody()) };
            let _opening = seat.opening.lock().await;
            match seat.live() {
                Some(live) => Ok(live),
                None => carrier.open(server, seat).await,
            }
        });
        let lost = |e| Fault::gateway(Kind::Backend).tell("opening a session failed").because(e);
        opening.await.unwrap_or_else(|e| Err(lost(e)))
    }

    async fn open(self: &Arc<Self>, server: usize, seat: &Seat) -> Result<Arc<Live>, Fault> {
        let gateway = self.servers.gateway()?;
        let backend = self.servers.backend(server)?;
        let hello = Message::read(initialize_request(self.revision, Some(&self.client)));
        let hello = hello.map_err(|bad| Fault::gateway(Kind::Invalid).tell(bad.why))?;
        let live = gateway.open(&backend, self.client.principal.clone(), &hello, Transport::Local)?;
        {
            // The session is one of ours; whose it is comes from elsewhere.
            let mut state = lock(&live.state);
            let client = Client { transport: self.client.transport, ..Client::clone(state.client()) };
            state.set_client(Arc::new(client));
        }
        drop(backend);
        let reader = lock(&live.state).open_standalone();
        gateway.seat(live.clone()).await?;
        let before = lock(&seat.live).replace(live.clone());
        if self.over.get().is_some() {
            // Nobody will end it.
            gateway.sessions.close(live.id);
            return Err(Fault::client(Kind::Cancelled).tell("the session has ended"));
        }
        tokio::spawn(hear(self.clone(), server, live.clone(), reader));
        if let Some(known) = self.servers.known.get(server) {
            known.late.store(false, Ordering::Relaxed);
        }
        let uris = before.map(|before| lock(&before.state).subscriptions().clone()).unwrap_or_default();
        let _ = tokio::time::timeout(PATIENCE, self.settle_in(&live, &uris)).await; // what it did not hear by then it does not know
        if seat.missed.swap(false, Ordering::Relaxed)
            && let Some(peer) = live.seated()
        {
            for notice in Filter::every_list().honoured_by(peer.server().can).notices() {
                self.tell(&notice);
            }
            // Not every server tells of its changes; that it is there is one.
            if !peer.server().can.tools_changed && peer.server().can.tools {
                self.tell(&Notice::new(Method::ToolsChanged, None));
            }
        }
        Ok(live)
    }

    fn tell(&self, notice: &Notice) {
        self.operate(|link| link.handle_line(notice.message.clone()));
    }

    /// What our client had said before is said to a server that did not hear it.
    async fn settle_in(self: &Arc<Self>, live: &Arc<Live>, uris: &BTreeSet<Arc<str>>) {
        let level = *lock(&self.level);
        if let Some(level) = level.filter(|_| logs(live)) {
            self.say(live, &Method::SetLevel, &level_params(level)).await;
        }
        for uri in uris {
            self.say(live, &Method::Subscribe, &format!("\"uri\":{}", json::quote(uri))).await;
        }
    }

    /// A request of our own at a session; whatever comes of it.
    async fn say(&self, live: &Arc<Live>, method: &Method, params: &str) {
        let id = super::own_id("settle");
        let request = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"{}\",\"params\":{{{params}}}}}",
            String::from_utf8_lossy(id.as_bytes()),
            method.as_str()
        );
        let (Ok(message), Ok(gateway)) = (Message::read(request.into()), self.servers.gateway()) else { return };
        let asking = live.clone();
        let begin = Box::pin(async move { gateway.request(&asking, message).await });
        let talk = super::Talk::Session(Some(crate::body::SessionCall::beginning(live.clone(), id, begin, false)));
        talk.outcome().await;
    }

    /// Every server hears of the level, those that come up later too.
    pub(super) async fn set_level(self: &Arc<Self>, message: &Message) -> Result<Outcome, Fault> {
        let [level] = message.params_fields(&["level"]).unwrap_or_default();
        let wrong = || Fault::client(Kind::Params).tell("`params.level` must be a log level, such as \"info\"");
        let level = message.string_at(level).as_deref().and_then(Level::parse).ok_or_else(wrong)?;
        *lock(&self.level) = Some(level);
        let mut telling = tokio::task::JoinSet::new();
        for live in self.seats.iter().filter_map(Seat::live).filter(logs) {
            let carrier = self.clone();
            telling.spawn(async move {
                let params = level_params(level);
                tokio::time::timeout(PATIENCE, carrier.say(&live, &Method::SetLevel, &params)).await.is_ok()
            });
        }
        while let Some(answered) = telling.join_next().await {
            if !answered.unwrap_or(false) {
                debug!("a server does not answer logging/setLevel");
            }
        }
        Ok(Outcome::Result(bytes::Bytes::from_static(b"{}")))
    }

    /// Ends every session.
    pub(super) fn leave(&self) {
        let Ok(gateway) = self.servers.gateway() else { return };
        for seat in &self.seats {
            let live = lock(&seat.live).take();
            if let Some(live) = live {
                gateway.sessions.close(live.id);
            }
        }
    }
}

fn logs(live: &Arc<Live>) -> bool {
    live.seated().is_some_and(|peer| peer.server().can.logging)
}

fn level_params(level: Level) -> String {
    format!("\"level\":\"{}\"", level.as_str())
}

/// What a server says that belongs to no call, until its session ends.
async fn hear(carrier: Arc<Carrier>, server: usize, live: Arc<Live>, reader: Reader) {
    loop {
        let said = std::future::poll_fn(|cx| lock(&live.state).poll_event(reader, cx.waker())).await;
        let Some(line) = said else { return };
        if let Ok(message) = Message::read(line) {
            let line = carrier.fronted(server, &message, None);
            carrier.operate(|link| link.handle_line_apart(line));
        }
    }
}
