//! Meeting a server elsewhere.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use hyper::body::Incoming;
use tracing::info;

use landbridge_proto::back::approach::{Approach, Posted, Step, Wire};
use landbridge_proto::back::probe::{INITIALIZED, Protocol};
use landbridge_proto::back::stateless;
use landbridge_proto::back::streamable::answer_in;
use landbridge_proto::call::{Client, Server};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json;
use landbridge_proto::message::{Kind as MessageKind, Message, Params};
use landbridge_proto::sse::Decoded;
use landbridge_proto::version::Era;

use crate::backend::lock;
use crate::backend::pool::Instance;
use crate::backend::pool::remote::exchange::{self, Session};
use crate::backend::pool::remote::stream::Stream;
use crate::backend::pool::remote::{Arrival, SESSION, Site, channel, is_events, session_headers, whole};

/// What a meeting comes to.
pub(super) enum Met {
    /// It speaks Streamable HTTP, with a handshake or without.
    Server(Box<Server>, Session),
    /// It may speak HTTP+SSE; what it refused the handshake with.
    Pipe(Option<String>),
}

/// Finds out what the server at `site` speaks, and makes an instance of it.
pub(in crate::backend::pool) async fn meet(arrival: Arrival<'_>, site: &Arc<Site>, protocol: Protocol) -> Result<Arc<Instance>, Fault> {
    let (pool, client) = (arrival.pool, arrival.client);
    // Where its era is not known, or not any more, nor is its transport.
    if protocol == Protocol::Auto {
        site.forget();
    }
    let patience = Duration::from_millis(pool.limits.handshake_ms);
    let late = || {
        let secs = patience.as_secs_f32();
        Err(site.unreachable("did not come up", format!("it did not answer within {secs} s")))
    };
    let work = async {
        let refused = match approach(site, protocol, site.wire(), client, pool.limits.message_bytes).await? {
            Met::Server(server, session) => {
                info!(server = site.name, revision = server.revision.as_str(), "met");
                *lock(&site.found) = Some(Wire::Streamable);
                return Ok(exchange::begin(arrival, site, *server, session));
            }
            Met::Pipe(refused) => refused,
        };
        let stream = channel::open(site, pool.limits.message_bytes).await.map_err(|fault| match refused {
            // What it said to a POST says more than that it has no stream either.
            Some(refused) if fault.kind == Kind::Backend => {
                let told = format!("the server `{}` did not come up: {refused}; nor does it speak HTTP+SSE", site.name);
                Fault::backend(&site.name, Kind::Backend).tell(told).because(&fault.told)
            }
            _ => fault,
        })?;
        let instance = channel::meet(arrival, site, stream, protocol).await?;
        info!(server = site.name, revision = instance.server().revision.as_str(), "met, over HTTP+SSE");
        *lock(&site.found) = Some(Wire::Sse);
        Ok(instance)
    };
    let met = tokio::select! {
        met = work => met,
        () = site.patience(patience) => late(),
    };
    if met.is_err() {
        site.forget();
    }
    met
}

/// The meeting as far as it goes by POST.
pub(super) async fn approach(site: &Site, protocol: Protocol, wire: Wire, client: &Client, limit: usize) -> Result<Met, Fault> {
    let mut approach = Approach::new(&site.name, protocol, wire, Some(client));
    let mut session = None;
    while let Some(step) = approach.poll_step() {
        match step {
            Step::Post(line, era) => {
                let headers = if era == Era::Stateless { discover_headers(&line) } else { HeaderMap::new() };
                let response = site.post(&site.url, &line, headers).await.map_err(|t| site.troubled("cannot be reached", &t))?;
                session = response.headers().get(SESSION).cloned();
                let status = response.status().as_u16();
                let answer = first_answer(response, limit).await.map_err(|why| site.unreachable("did not come up", why))?;
                approach.handle_posted(Posted { status, answer });
            }
            Step::Pipe => return Ok(Met::Pipe(approach.refused().map(str::to_owned))),
            Step::Failed(fault) => return Err(fault),
            Step::Met(server) => {
                if server.era() == Era::Stateless {
                    return Ok(Met::Server(server, Session::default()));
                }
                let headers = session_headers(server.revision, session.as_ref());
                let line = bytes::Bytes::from_static(INITIALIZED);
                let told = site.post(&site.url, &line, headers).await.map_err(|t| site.troubled("cannot be reached", &t))?;
                if !told.status().is_success() {
                    return Err(
                        site.misbehaves(format!("did not come up: it refuses notifications/initialized (HTTP {})", told.status().as_u16()))
                    );
                }
                // Read to its end, so that the connection can be used again.
                let _ = whole(told, 64 * 1024).await;
                return Ok(Met::Server(server, Session { id: session, number: 0 }));
            }
        }
    }
    Err(site.misbehaves("did not come up"))
}

fn discover_headers(line: &bytes::Bytes) -> HeaderMap {
    let read = Message::read(line.clone()).ok().and_then(|message| Some((Params::read(&message).ok()?, message)));
    let Some((params, message)) = read else { return HeaderMap::new() };
    header_map(stateless::headers(&message, &params, &[]))
}

/// Headers of ours, as HTTP has them.
pub(super) fn header_map(headers: Vec<(Cow<'static, str>, Cow<'static, str>)>) -> HeaderMap {
    let read = headers.into_iter().filter_map(|(name, value)| {
        let name = match name {
            Cow::Borrowed(name) => HeaderName::from_static(name),
            Cow::Owned(name) => name.parse().ok()?,
        };
        let value = match value {
            Cow::Borrowed(value) => HeaderValue::from_static(value),
            Cow::Owned(value) => HeaderValue::try_from(value).ok()?,
        };
        Some((name, value))
    });
    read.collect()
}

/// The first answer in a response, whatever its status; what comes before it on a stream is for nobody.
async fn first_answer(response: Response<Incoming>, limit: usize) -> Result<Option<Message>, String> {
    if !is_events(&response) {
        return Ok(answer_in(&whole(response, limit).await?));
    }
    let mut stream = Stream::new(limit);
    stream.connect(response);
    loop {
        while let Some(decoded) = stream.next_here() {
            match decoded {
                // An old server's stream, though it was a POST.
                Decoded::Event(event) if event.name.as_deref() == Some(b"endpoint") => return Ok(None),
                Decoded::Event(event) if event.is_message() => {
                    let message = Message::read(json::on_one_line(&event.data)).ok();
                    if let Some(message) = message.filter(|m| matches!(m.kind, MessageKind::Response(..))) {
                        tokio::spawn(stream.drain());
                        return Ok(Some(message));
                    }
                }
                Decoded::Event(_) => {}
                Decoded::TooLong { .. } => return Err(format!("its answer is larger than the limit of {limit} bytes for one message")),
            }
        }
        if stream.more().await.is_err() {
            return Ok(None);
        }
    }
}
