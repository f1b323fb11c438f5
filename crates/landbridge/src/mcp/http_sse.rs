//! HTTP+SSE (2024-11-05): one stream, and a second URL for the client's messages.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};

use landbridge_proto::call::{Client, Outcome};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::front::session::Transport;
use landbridge_proto::front::streamable::{self, Field, Head, Incoming, Refusal, answer, classify};
use landbridge_proto::message::{Kind as MessageKind, Message};
use landbridge_proto::version::{Era, Revision};

use crate::backend::lock;
use crate::body::{Beginning, Body, SessionBody, SessionCall};
use crate::mcp::respond::{response, stream};
use crate::mcp::{Arriving, Exchange, collect, head, request_id};
use crate::profile::Refusal as Refused;
use crate::sessions::{self, Live, SessionId, handle_silent};

impl Exchange {
    /// The one stream of an HTTP+SSE client. Its first event names the URL for its messages, below `prefix`.
    pub fn open_sse<B>(self, request: &Request<B>, prefix: &str) -> Response<Body> {
        let profile = &self.gateway.plan.profile;
        let client = Client {
            revision: Revision::V2024_11_05,
            principal: self.caller.principal(),
            transport: Transport::Sse,
            info: None,
            capabilities: Bytes::from_static(b"{}"),
        };
        let spoken = if profile.checks_revision { streamable::revision(&head(request.headers())).map(drop) } else { Ok(()) };
        let opened = spoken.and_then(|()| self.place_for_session()).and_then(|held| {
            let live = self.gateway.sessions.open(self.gateway.current(&self.backend)?, Arc::new(client), Transport::Sse)?;
            self.settle(&live, held);
            if let Some(at) = &self.at {
                let _ = live.opened_at.set(at.path.clone());
            }
            Ok(live)
        });
        let live = match opened {
            Ok(live) => live,
            Err(fault) => return self.refuse(Era::Handshake, &fault.into()),
        };
        let reader = {
            let mut state = lock(&live.state);
            state.set_frames(profile.frames);
            state.open_standalone()
        };
        let json = request.uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "endpoint_format=json"));
        let first = profile.preamble(live.id, prefix, json);
        if let Some(named) = head(request.headers()).session.value() {
            self.tell_named(&live, named);
        }
        let beat = self.while_let_in(true);
        live.is_read_by(&beat);
        let body = SessionBody::new(self.gateway.clone(), live, reader, Vec::new(), first, beat);
        stream(Body::Session(Box::new(body)))
    }

    /// A client may bring an id, which names nothing: its session has one of ours, whoever else's that id is. It is told,
    /// so that whoever knows the client by it can follow it through the log; of one that opens a session, not all.
    fn tell_named(&self, live: &Live, named: &str) {
        let known = self.gateway.sessions.find(named).is_some();
        let shown: String = named.chars().take(if known { 8 } else { 64 }).collect();
        tracing::info!(session = ?live.id, who = ?self.caller, "a client calls its session {shown:?}");
    }

    /// A message of an HTTP+SSE client: accepted at once, answered on its stream.
    pub async fn message<B: Arriving>(self, request: Request<B>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        match self.take_message(&parts, body).await {
            Ok(Some(refused)) => refused,
            Ok(None) => {
                let mut response = response(StatusCode::ACCEPTED, Body::full("Accepted"));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                response
            }
            Err(refusal) => {
                let profile = &self.gateway.plan.profile;
                let own = match refusal.fault.kind {
                    Kind::NoSession => &profile.no_session,
                    Kind::DeadSession => &profile.dead_session,
                    Kind::MediaType => &profile.bad_media,
                    _ => &None,
                };
                own.as_ref().map_or_else(|| self.refuse(Era::Handshake, &refusal), Refused::response)
            }
        }
    }

    /// Whether a POST is a message for a stream of HTTP+SSE: it names the stream's session.
    pub fn is_message<B>(&self, request: &Request<B>) -> bool {
        session_param(request.uri().query()).is_some() || self.names(request.headers(), Transport::Sse)
    }

    /// Whether the session in the head is one of Streamable HTTP.
    pub fn is_streamable(&self, headers: &HeaderMap) -> bool {
        self.names(headers, Transport::Streamable)
    }

    fn names(&self, headers: &HeaderMap, transport: Transport) -> bool {
        let Some(id) = head(headers).session.value() else { return false };
        self.gateway.sessions.find(id).is_some_and(|live| self.is_of(&live) && lock(&live.state).transport() == transport)
    }

    /// Takes a message in, or has an answer to it at once.
    async fn take_message<B: Arriving>(&self, parts: &http::request::Parts, body: B) -> Result<Option<Response<Body>>, Refusal> {
        let head = head(&parts.headers);
        if self.gateway.plan.profile.checks_revision {
            streamable::revision(&head)?;
        }
        let id = session_of(parts.uri.query(), &head)?;
        let live = self.gateway.sessions.find(id).filter(|l| self.is_of(l)).ok_or_else(sessions::dead)?;
        let (revision, transport) = {
            let mut state = lock(&live.state);
            state.touch(Instant::now());
            (state.client().revision, state.transport())
        };
        if transport != Transport::Sse {
            return Err(sessions::dead().into());
        }
        // The stream is the session: whoever goes on with it by a new token keeps it.
        if let Some(stream) = live.stream() {
            self.gateway.auth().watch(&self.caller, &stream, true);
        }
        let limits = &self.gateway.plan.limits;
        let body = collect(limits, &parts.headers, body, limits.message_bytes).await?;
        // Whatever its headers say: on this transport a message belongs to the session.
        let plain = Head { session: Field::One(id), accept: None, ..head };
        match classify(&Head { revision: Field::Absent, ..plain }, body)? {
            Incoming::Initialize(message) => self.initialize_sse(live, message),
            Incoming::Session(message) => match self.forbids(&message) {
                Some(refused) => return Ok(Some(refused)),
                None if self.is_full(&live, &message) => {
                    let told = format!("{} calls of this session are under way already; wait for one of them", limits.calls_per_session);
                    return Err(Fault::client(Kind::TooMuch).tell(told).retry_in(1).into());
                }
                None => self.sse_message(live, message),
            },
            Incoming::Batch(messages) if revision == Revision::V2025_03_26 => {
                if let Some(refused) = messages.iter().find_map(|message| self.forbids(message)) {
                    return Ok(Some(refused));
                }
                for message in messages {
                    self.sse_message(live.clone(), message);
                }
            }
            Incoming::Batch(_) => {
                return Err(Fault::client(Kind::Invalid).tell(format!("{revision} has no batches; send one message a time")).into());
            }
            Incoming::Stateless(message, _) => {
                // Clients probe here too. There is no such method on this transport, and an
                // answer that says so keeps them on the handshake.
                if let MessageKind::Request(id, method) = &message.kind {
                    let fault = Fault::client(Kind::UnknownMethod)
                        .tell(format!("Method not found: {}: 2026-07-28 is not served over HTTP+SSE", method.as_str()));
                    lock(&live.state).append(0, &answer(id, &Outcome::Fault(fault)), false, Instant::now());
                }
            }
            Incoming::StatelessNotification => {}
        }
        Ok(None)
    }

    /// Whether a request comes too early, and is to be told so by its status.
    fn is_full(&self, live: &Live, message: &Message) -> bool {
        let plan = &self.gateway.plan;
        let is_request = matches!(message.kind, MessageKind::Request(..));
        is_request && plan.profile.refuses_calls && lock(&live.state).n_calls() >= plan.limits.calls_per_session
    }

    fn initialize_sse(&self, live: Arc<Live>, message: Message) {
        let exchange = self.clone();
        tokio::spawn(async move {
            let Some(id) = request_id(&message) else { return };
            let outcome = exchange.gateway.introduce_sse(&live, &message).await.map_or_else(Outcome::Fault, Outcome::Result);
            lock(&live.state).append(0, &answer(&id, &outcome), false, Instant::now());
        });
    }

    fn sse_message(&self, live: Arc<Live>, message: Message) {
        let MessageKind::Request(id, _) = message.kind.clone() else { return handle_silent(&live, message) };
        let client = lock(&live.state).client().clone();
        let begun: Beginning = match streamable::call(message, &client) {
            Ok(call) => self.begin(&live, Box::new(call)),
            Err(fault) => Box::pin(async move { Err(fault) }),
        };
        let begin = Box::pin(async move {
            match begun.await {
                Ok(replies) => live.hand_over(SessionCall::new(live.clone(), id, replies, false)),
                Err(fault) if fault.kind == Kind::Cancelled => {} // nobody waits for an answer
                Err(fault) => lock(&live.state).append(0, &answer(&id, &Outcome::Fault(fault)), false, Instant::now()),
            }
        });
        crate::task::begin(begin);
    }
}

/// The session that a message is for: by its URL, or by a header.
fn session_of<'r>(query: Option<&'r str>, head: &Head<'r>) -> Result<&'r str, Fault> {
    let two = || Fault::client(Kind::Invalid).tell("the message names two sessions; send it to the URL of the `endpoint` event, as it is");
    let mut named = session_params(query);
    let id = named.next().or_else(|| head.session.value()).ok_or_else(|| {
        Fault::client(Kind::NoSession).tell("the query parameter `sessionId` is missing; use the URL of the `endpoint` event")
    })?;
    if named.chain(head.session.value()).any(|other| SessionId::parse(other) != SessionId::parse(id)) {
        return Err(two());
    }
    Ok(id)
}

/// `sessionId`, or as other SDKs spell it.
pub fn session_param(query: Option<&str>) -> Option<&str> {
    session_params(query).next()
}

fn session_params(query: Option<&str>) -> impl Iterator<Item = &str> {
    query.into_iter().flat_map(|query| query.split('&')).filter_map(|pair| {
        let (name, id) = pair.split_once('=')?;
        // A client that takes an endpoint written as JSON for a URL has a quote at its end.
        matches!(name, "sessionId" | "session_id" | "sessionid").then(|| id.strip_suffix("%22").unwrap_or(id)).filter(|id| !id.is_empty())
    })
}
