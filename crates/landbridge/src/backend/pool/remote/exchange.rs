//! What carries an instance over Streamable HTTP: a POST for each call, and for a session a GET stream.
//!
//! ```text
//!   queued ──▶ call ──▶ POST ──▶ one answer as JSON
//!          │                └──▶ a stream: its events are the call's
//!          │                       └ broken off, in a session ──▶ GET with Last-Event-ID, after `retry`
//!          ├─▶ cancel ──▶ stateless: the POST is dropped; session: said so
//!          └─▶ word ──▶ POST
//! ```
//!
//! A session that the server has forgotten (404) is opened anew, once for all who notice, and what was
//! refused for that reason is sent again: it was not delivered. One call is `call`, the GET stream `aside`.

mod aside;
mod call;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::AbortHandle;
use tracing::info;

use landbridge_proto::back::approach::Wire;
use landbridge_proto::back::link::{Key, Link, What};
use landbridge_proto::back::probe::Protocol;
use landbridge_proto::back::streamable::Attempts;
use landbridge_proto::call::{Client, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::version::{Era, Revision};

use crate::backend::http::Trouble;
use crate::backend::pool::Instance;
use crate::backend::pool::exchanges::Exchanges;
use crate::backend::pool::instance::queued;
use crate::backend::pool::remote::meet::{self, Met};
use crate::backend::pool::remote::words::{Word, Words};
use crate::backend::pool::remote::{Arrival, LAST_EVENT, Refused, Site, session_headers};
use crate::eras;
pub(super) use aside::Silent;
use aside::listen;
pub use call::Exchange;
use call::{Lost, Sent, Work};

/// For a server to end a session.
const GOODBYE: Duration = Duration::from_secs(5);

/// A session at the server, as the server names it.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    /// `Mcp-Session-Id`; a server need not give one.
    pub(super) id: Option<HeaderValue>,
    /// The how-manieth it is.
    pub(super) number: u64,
}

/// What carries the calls of one instance.
pub(in crate::backend::pool) struct Carrier {
    site: Arc<Site>,
    revision: Revision,
    /// Who we said we are.
    client: Client,
    limit: usize,
    /// A call that was withdrawn is listened to for so long.
    haunts: Duration,
    /// For another session to be there.
    patience: Duration,
    session: watch::Sender<Session>,
    renewing: tokio::sync::Mutex<()>,
    words: Words,
    /// Whether the stream of the session is there.
    aside: aside::Known,
    /// Calls under way.
    exchanges: Exchanges,
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("site", &self.site.name).finish_non_exhaustive()
    }
}

/// An instance of the server that was met.
pub(super) fn begin(arrival: Arrival<'_>, site: &Arc<Site>, server: Server, session: Session) -> Arc<Instance> {
    let Arrival { pool, place, client, shared, ordinal } = arrival;
    let carrier = Arc::new(Carrier {
        site: site.clone(),
        revision: server.revision,
        client: client.clone(),
        limit: pool.limits.message_bytes,
        haunts: Duration::from_millis(pool.limits.ask_hold_ms),
        patience: Duration::from_millis(pool.limits.handshake_ms),
        session: watch::channel(session).0,
        renewing: tokio::sync::Mutex::default(),
        words: Words::new(site.clone()),
        aside: aside::Known::default(),
        exchanges: Exchanges::default(),
    });
    // A server without a handshake keeps nothing for us.
    let place = (server.era() == Era::Handshake).then_some(place);
    let (stop, stopped) = mpsc::channel(1);
    let instance = Instance::begin(pool, eras::Wire::Http, server, shared, ordinal, stop, Vec::new());
    instance.carried_by(carrier.clone());
    tokio::spawn(carry(Arc::downgrade(&instance), carrier, stopped, place));
    instance
}

async fn carry(instance: Weak<Instance>, carrier: Arc<Carrier>, mut stopped: mpsc::Receiver<()>, place: Option<OwnedSemaphorePermit>) {
    let has_session = carrier.revision.era() == Era::Handshake;
    let listening = has_session.then(|| tokio::spawn(listen(instance.clone(), carrier.clone())));
    loop {
        tokio::select! {
            () = queued(&instance) => {}
            _ = stopped.recv() => break,
        }
        let Some(strong) = instance.upgrade() else { break };
        let Some(lines) = strong.link().take_queued() else { break };
        for line in lines {
            match line.what {
                What::Call(key) => {
                    let line = strong.link().let_go(key, line.line);
                    if let Some(line) = line {
                        carrier.begin_line(&strong, key, line).run_by_itself();
                    }
                }
                What::First(key) => {
                    let attempts = Attempts::first(key, carrier.revision.era(), line.line.clone());
                    carrier.begin_as(&strong, attempts, Sent { key, line: line.line, read: None }).run_by_itself();
                    strong.settled(key).await;
                }
                What::Cancel(key) if has_session => {
                    carrier.say(line.line).await;
                    carrier.let_haunt(key);
                }
                // To end its stream is to withdraw it (2026-07-28, basic/transports).
                What::Cancel(key) => {
                    carrier.exchanges.take(key).inspect(AbortHandle::abort);
                }
                What::Answer(of) => carrier.answer(of, line.line).await,
                What::Word => carrier.say(line.line).await,
            }
        }
        strong.operate(Link::settled);
    }
    carrier.exchanges.abort_all();
    if let Some(listening) = listening {
        listening.abort();
    }
    if has_session {
        carrier.say_goodbye().await;
    }
    drop(place);
}

impl Carrier {
    /// A call was withdrawn. The server may still be at it, and ask; but not for ever.
    fn let_haunt(&self, key: Key) {
        let Some(exchange) = self.exchanges.take(key) else { return };
        let haunts = self.haunts;
        tokio::spawn(async move {
            tokio::time::sleep(haunts).await;
            exchange.abort();
        });
    }

    fn has_session(&self) -> bool {
        self.revision.era() == Era::Handshake
    }

    fn session(&self) -> Session {
        self.session.borrow().clone()
    }

    fn headers(&self, session: &Session) -> HeaderMap {
        if self.has_session() { session_headers(self.revision, session.id.as_ref()) } else { HeaderMap::new() }
    }

    async fn say(&self, line: Bytes) {
        self.say_in(&self.session(), line).await;
    }

    /// Says an answer, if the session that it is for is the one there is. Another may have asked something else
    /// by that number.
    async fn answer(&self, of: u64, line: Bytes) {
        let session = self.session();
        if session.number == of {
            self.say_in(&session, line).await;
        }
    }

    async fn say_in(&self, session: &Session, line: Bytes) {
        let (url, headers) = (self.site.url.clone(), self.headers(session));
        self.words.say(Word { url, line, headers, after: None }).await;
    }

    async fn open(&self, session: &Session, last_id: Option<&str>) -> Result<Response<Incoming>, Trouble> {
        let mut headers = self.headers(session);
        if let Some(id) = last_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert(LAST_EVENT, id);
        }
        self.site.open(headers, Refused::Stays).await
    }

    /// [`Carrier::renew`] as a task: others wait for it, also when whoever began it does not read.
    async fn renew_by_itself(self: &Arc<Self>, instance: &Weak<Instance>, number: u64) -> Result<(), Lost> {
        let (carrier, instance) = (self.clone(), instance.clone());
        let renewing: Work<Result<(), Lost>> = Box::pin(async move { carrier.renew(&instance, number).await });
        tokio::spawn(renewing).await.unwrap_or(Err(Lost::Nobody))
    }

    /// Opens the session anew that the server has forgotten, unless somebody else has done so.
    async fn renew(&self, instance: &Weak<Instance>, number: u64) -> Result<(), Lost> {
        let _renewing = self.renewing.lock().await;
        if self.session().number != number {
            return Ok(());
        }
        info!(server = self.site.name, "it has forgotten our session; opening another");
        let protocol = Protocol::Pinned(self.revision);
        let meeting = meet::approach(&self.site, protocol, Wire::Streamable, &self.client, self.limit);
        let met = tokio::select! {
            met = meeting => met,
            () = self.site.patience(self.patience) => {
                let why = format!("and opened no other within {} s", self.patience.as_secs_f32());
                Err(self.site.unreachable("has forgotten this session", why))
            }
        };
        let Some(strong) = instance.upgrade() else { return Err(Lost::Nobody) };
        match met {
            Ok(Met::Server(server, session)) if server.revision == self.revision => {
                self.session.send_replace(Session { id: session.id, number: number + 1 });
                strong.renewed();
                Ok(())
            }
            Err(fault) if fault.kind == Kind::Unreachable => Err(Lost::To(fault)),
            Err(fault) if fault.kind == Kind::Changed => {
                strong.retire();
                Err(Lost::To(fault))
            }
            met => {
                let why = match met {
                    Err(fault) => fault.told,
                    Ok(_) => "it speaks another protocol version than before".into(),
                };
                let told = format!("the server `{}` has forgotten this session: {why}", self.site.name);
                let fault = Fault::backend(&self.site.name, Kind::Backend).tell(told);
                strong.forget_verdict();
                strong.end(fault.clone());
                Err(Lost::To(fault))
            }
        }
    }

    async fn say_goodbye(&self) {
        let session = self.session();
        if session.id.is_none() {
            return;
        }
        let _ = tokio::time::timeout(GOODBYE, self.site.end(self.headers(&session))).await; // a server may refuse, or be gone
    }
}
