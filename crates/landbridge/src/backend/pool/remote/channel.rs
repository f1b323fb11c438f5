//! HTTP+SSE (2024-11-05): one stream down, a POST for each message up, and an instance on both as on a
//! child's pipes.
//!
//! The stream's first event names the address for the POSTs. It may be relative, but not of another
//! origin: whatever we say there carries our headers.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tracing::info;

use landbridge_proto::back::endpoint;
use landbridge_proto::back::link::{Key, What};
use landbridge_proto::back::probe::{Probe, Protocol, Step};
use landbridge_proto::back::streamable::answer_in;
use landbridge_proto::call::{Notice, Outcome};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::message::Kind as MessageKind;
use landbridge_proto::sse::Decoded;

use crate::backend::pool::Instance;
use crate::backend::pool::instance::queued;
use crate::backend::pool::remote::stream::Stream;
use crate::backend::pool::remote::words::{Word, Words};
use crate::backend::pool::remote::{Arrival, Refused, Site, is_events, refusal, whole};
use crate::eras::Wire;

/// For a stream to be open. What comes on it has the time of the handshake.
const OPENING: Duration = Duration::from_secs(10);
/// What a server may say before the handshake is done.
const MAX_EARLY: usize = 16;

/// Shakes hands on an open stream, and makes an instance of it. The caller limits the time.
pub(super) async fn meet(arrival: Arrival<'_>, site: &Arc<Site>, mut stream: Stream, protocol: Protocol) -> Result<Arc<Instance>, Fault> {
    let Arrival { pool, place, client, shared, ordinal } = arrival;
    let limit = pool.limits.message_bytes;
    let endpoint = await_endpoint(site, &mut stream).await?;
    // No later revision is spoken over it.
    let protocol = if protocol == Protocol::Auto { Protocol::Legacy } else { protocol };
    let mut probe = Probe::new(&site.name, protocol, Some(client), pool.limits.patience(), Instant::now());
    let mut early = Vec::new();
    loop {
        while let Some(step) = probe.poll_step() {
            match step {
                Step::Send(line) => {
                    let sent = site.post(&endpoint, &line, HeaderMap::new()).await;
                    let response = sent.map_err(|trouble| site.troubled("cannot be reached at its endpoint", &trouble))?;
                    let status = response.status();
                    if !status.is_success() {
                        return Err(site.misbehaves(refusal(status.as_u16())));
                    }
                    let _ = whole(response, limit).await; // to its end, so that the connection can be used again
                }
                Step::Met(server) => {
                    let (stop, stopped) = mpsc::channel(1);
                    let instance = Instance::begin(pool, Wire::Sse, *server, shared, ordinal, stop, early);
                    let writing = tokio::spawn(write(Arc::downgrade(&instance), site.clone(), endpoint, limit));
                    tokio::spawn(read(Arc::downgrade(&instance), site.clone(), stream, limit, stopped, writing, place));
                    return Ok(instance);
                }
                Step::Respawn => return Err(site.unreachable("did not come up", "its stream ended")),
                Step::Failed(why) => return Err(site.misbehaves(format!("did not come up: {why}"))),
            }
        }
        match stream.next_here() {
            Some(Decoded::Event(event)) if event.is_message() => {
                let said = probe.handle_line(json::on_one_line(&event.data), Instant::now());
                if let Some(message) = said
                    && let MessageKind::Notification(method) = message.kind.clone()
                    && early.len() < MAX_EARLY
                {
                    early.push(Notice::read(method, &message));
                }
            }
            Some(_) => {}
            None => stream.more().await.map_err(|why| site.unreachable("did not come up", why))?,
        }
    }
}

/// Opens the stream.
pub(super) async fn open(site: &Site, limit: usize) -> Result<Stream, Fault> {
    let opened = tokio::select! {
        opened = site.open(HeaderMap::new(), Refused::AskUser) => opened,
        () = site.patience(OPENING) => {
            return Err(site.unreachable("did not come up", format!("it opened no stream within {} s", OPENING.as_secs())));
        }
    };
    let response = opened.map_err(|trouble| site.troubled("cannot be reached", &trouble))?;
    let status = response.status().as_u16();
    match status {
        _ if response.status().is_success() && is_events(&response) => {
            let mut stream = Stream::new(limit);
            stream.connect(response);
            Ok(stream)
        }
        200..=299 => Err(site.misbehaves("does not answer a GET with a stream of events")),
        500.. => Err(site.unreachable("did not come up", format!("it answers with HTTP {status}"))),
        _ => Err(site.misbehaves(refusal(status))),
    }
}

/// Reads up to the event that names the endpoint.
async fn await_endpoint(site: &Site, stream: &mut Stream) -> Result<Uri, Fault> {
    loop {
        match stream.next_here() {
            Some(Decoded::Event(event)) if event.name.as_deref() == Some(b"endpoint") => {
                let named = String::from_utf8_lossy(&event.data);
                let base = site.url.to_string();
                let refuse = |why: String| site.misbehaves(format!("names an endpoint that cannot be used: {why}"));
                let resolved = endpoint::resolve(&base, &named).map_err(refuse)?;
                if !endpoint::same_origin(&base, &resolved) {
                    return Err(refuse(format!("{resolved} is not of the origin of {base}, and our headers are for no other")));
                }
                return resolved.parse().map_err(|_| refuse(format!("{named:?} is no URL")));
            }
            Some(_) => {}
            None => stream.more().await.map_err(|why| site.misbehaves(format!("named no endpoint on its stream: {why}")))?,
        }
    }
}

async fn write(instance: Weak<Instance>, site: Arc<Site>, endpoint: Uri, limit: usize) {
    let words = Words::new(site.clone());
    let mut posting: HashMap<u64, JoinHandle<()>> = HashMap::new();
    loop {
        queued(&instance).await;
        let Some(lines) = instance.upgrade().and_then(|instance| instance.link().take_queued()) else { return };
        for queued in lines {
            let line = queued.line;
            let word = |line, after| Word { url: endpoint.clone(), line, headers: HeaderMap::new(), after };
            match queued.what {
                What::Call(key) | What::First(key) => {
                    let call = call(instance.clone(), site.clone(), endpoint.clone(), key, line, limit);
                    posting.insert(key.id(), tokio::spawn(call));
                    if matches!(queued.what, What::First(_))
                        && let Some(instance) = instance.upgrade()
                    {
                        instance.settled(key).await;
                    }
                }
                // Not before the call it withdraws, which may be on its way on another connection.
                What::Cancel(key) => words.say(word(line, posting.remove(&key.id()))).await,
                What::Answer(_) | What::Word => words.say(word(line, None)).await,
            }
        }
        posting.retain(|_, posted| !posted.is_finished());
    }
}

/// Sends a call. Its answer comes on the stream; that it does not reach the server is told at once.
async fn call(instance: Weak<Instance>, site: Arc<Site>, endpoint: Uri, key: Key, line: Bytes, limit: usize) {
    let sent = site.post(&endpoint, &line, HeaderMap::new()).await;
    let outcome = match sent {
        Err(trouble) if trouble.delivered => return, // it may be answered all the same
        Err(trouble) => {
            let fault = site.troubled("cannot be reached at its endpoint", &trouble);
            if fault.kind == Kind::Changed
                && let Some(instance) = instance.upgrade()
            {
                instance.retire();
            }
            Outcome::Fault(fault)
        }
        Ok(response) => {
            let status = response.status();
            let answer = whole(response, limit).await.ok().and_then(|body| answer_in(&body));
            match answer.map(|answer| (answer.kind.clone(), answer)) {
                // Some answer there, and some there too.
                Some((MessageKind::Response(Some(id), _), answer)) if id.as_number() == Some(key.id()) => {
                    if let Some(instance) = instance.upgrade() {
                        instance.read_lines(|link| link.handle_line_of(key, answer.bytes));
                    }
                    return;
                }
                _ if status.is_success() => return,
                Some((MessageKind::Response(_, Err(at)), answer)) => Outcome::Error(answer.slice(at)),
                _ => Outcome::Fault(site.misbehaves(refusal(status.as_u16()))),
            }
        }
    };
    if let Some(instance) = instance.upgrade() {
        instance.operate(|link| link.handle_end_of(key, outcome));
    }
}

async fn read(
    instance: Weak<Instance>,
    site: Arc<Site>,
    mut stream: Stream,
    limit: usize,
    mut stopped: mpsc::Receiver<()>,
    writing: JoinHandle<()>,
    place: OwnedSemaphorePermit,
) {
    let ended = loop {
        let Some(strong) = instance.upgrade() else { break None };
        strong.read_lines(|link| {
            while let Some(decoded) = stream.next_here() {
                match decoded {
                    Decoded::Event(event) if event.is_message() => link.handle_line(json::on_one_line(&event.data)),
                    Decoded::Event(_) => {}
                    Decoded::TooLong { head, tail } => link.handle_too_long(&head, &tail, limit),
                }
            }
        });
        drop(strong);
        tokio::select! {
            more = stream.more() => if let Err(why) = more {
                break Some(why);
            },
            _ = stopped.recv() => break None,
        }
    };
    writing.abort();
    drop(stream);
    drop(place);
    if let (Some(why), Some(instance)) = (ended, instance.upgrade()) {
        info!(server = site.name, why, "its stream ended");
        instance.end(site.unreachable("broke off", why));
    }
}
