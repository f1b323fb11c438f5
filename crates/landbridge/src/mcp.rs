//! One HTTP exchange at an MCP endpoint, in any revision.
//!
//! The front edges decide what a request is and whether it is well formed; here it is collected,
//! handed over, and answered: as plain JSON when the first reply is the last one, as a stream
//! otherwise. The head waits for the first reply, so that an error has its status, but not for
//! longer than `commit_ms`.

mod http_sse;
mod respond;

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};

use landbridge_proto::bridge;
use landbridge_proto::call::{Call, Client, Outcome, Reply};
use landbridge_proto::fault::{Fault, Kind, status_of_error};
use landbridge_proto::front::session::Transport;
use landbridge_proto::front::stateless;
use landbridge_proto::front::streamable::{self, Field, Head, Incoming, Refusal, answer, classify};
use landbridge_proto::headers::Accept;
use landbridge_proto::message::{Id, Kind as MessageKind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::sse::{self, EventId};
use landbridge_proto::subscribe::Filter;
use landbridge_proto::version::{Era, Revision};

use crate::audit::{Calling, Opened, Why};
use crate::auth::{At, Caller};
use crate::backend::{Backend, Replies, lock};
use crate::body::{
    Beat, Beats, Beginning, Body, CallBody, LateBody, ListenBody, Listened, Opening, SessionBody, SessionCall, StatelessCall,
    StatelessListen,
};
use crate::eras::Wire;
use crate::gateway::{Gateway, MirroredHeaders};
pub use crate::mcp::http_sse::session_param;
pub use crate::mcp::respond::{MCP_METHODS, json, not_here, refuse, refuse_method, response};
use crate::mcp::respond::{accepted, answered, stream, tell_why};
use crate::plan::{Limits, Rights};
use crate::profile::Transports;
use crate::rates::Held;
use crate::sessions::{self, Live, handle_silent};

/// The body of a request, from hyper or from whoever has put us behind a router of theirs.
pub trait Arriving: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin + Send + 'static {}

impl<B: http_body::Body<Data = Bytes, Error: std::fmt::Display> + Unpin + Send + 'static> Arriving for B {}

/// What an exchange needs besides its request.
#[derive(Clone)]
pub struct Exchange {
    /// Everything that runs.
    pub gateway: Arc<Gateway>,
    /// Which server it is for.
    pub backend: Arc<Backend>,
    /// The timer of all streams.
    pub beats: Arc<Beats>,
    /// Who sends it.
    pub caller: Caller,
    /// From where, if that is known.
    pub from: Option<IpAddr>,
    /// How they reached us, where that matters.
    pub at: Option<Arc<At>>,
}

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The headers we act on.
fn head(headers: &HeaderMap) -> Head<'_> {
    let mut accept = headers.get_all(header::ACCEPT).iter();
    let accept = match (accept.next(), accept.next()) {
        (Some(one), None) => one.to_str().ok(),
        // Clients that send it on several lines list both types on them.
        _ => None,
    };
    Head {
        revision: field(headers, &PROTOCOL_VERSION),
        session: field(headers, &SESSION_ID),
        method: field(headers, &METHOD),
        name: field(headers, &NAME),
        accept,
        content_type: headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()),
    }
}

fn field<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Field<'h> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (None, _) => Field::Absent,
        (Some(one), None) => one.to_str().map_or(Field::Bad, |v| Field::One(v.trim_matches([' ', '\t']))),
        _ => Field::Bad,
    }
}

impl Exchange {
    // --- POST ------------------------------------------------------------------------------

    /// A message for the endpoint.
    pub fn post<B: Arriving>(self, request: Request<B>) -> impl Future<Output = Response<Body>> + Send {
        let (parts, body) = request.into_parts();
        let headers = parts.headers;
        async move {
            match self.answer_post(&headers, body).await {
                Ok(response) => response,
                Err((era, refusal)) => self.refuse(era, &refusal),
            }
        }
    }

    async fn answer_post<B: Arriving>(&self, headers: &HeaderMap, body: B) -> Result<Response<Body>, (Era, Refusal)> {
        let head = head(headers);
        let early = |fault: Fault| (Era::Handshake, Refusal::from(fault));
        let limits = &self.gateway.plan.limits;
        let body = collect(limits, headers, body, limits.message_bytes).await.map_err(early)?;
        let incoming = classify(&head, body).map_err(|refusal| (Era::Stateless, refusal))?;
        match incoming {
            Incoming::Stateless(message, params) => {
                if let Some(refused) = self.forbids(&message) {
                    return Ok(refused);
                }
                let who = self.caller.principal();
                let call = stateless::read(who, Transport::Streamable, Some(&head), message, params).map(Box::new);
                let call = call.map_err(|refusal| (Era::Stateless, refusal))?;
                let id = call.id.clone();
                let response = self.stateless(call, Accept::read(head.accept), headers).await;
                response.map_err(|fault| (Era::Stateless, Refusal { fault, id: Some(id) }))
            }
            Incoming::StatelessNotification => Ok(accepted()),
            Incoming::Initialize(message) => self.initialize(message, Accept::read(head.accept)).await.map_err(|r| (Era::Handshake, r)),
            Incoming::Session(message) if self.gateway.plan.profile.lenient && head.session == Field::Absent => {
                let response = self.sessionless(message, &head, headers).await;
                response.map_err(|refusal| (Era::Handshake, refusal))
            }
            Incoming::Session(message) => {
                let id = request_id(&message);
                let live = self.session(&head).map_err(|fault| (Era::Handshake, Refusal { fault, id: id.clone() }))?;
                if let Some(refused) = self.forbids(&message) {
                    return Ok(refused);
                }
                let response = self.session_message(live, message, Accept::read(head.accept)).await;
                response.map_err(|fault| (Era::Handshake, Refusal { fault, id }))
            }
            Incoming::Batch(messages) => {
                let live = self.session(&head).map_err(early)?;
                let revision = lock(&live.state).client().revision;
                if revision != Revision::V2025_03_26 {
                    return Err(early(Fault::client(Kind::Invalid).tell(format!("{revision} has no batches; send one message a time"))));
                }
                if let Some(refused) = messages.iter().find_map(|message| self.forbids(message)) {
                    return Ok(refused);
                }
                self.batch(live, messages, Accept::read(head.accept)).await.map_err(early)
            }
        }
    }

    fn refuse(&self, era: Era, refusal: &Refusal) -> Response<Body> {
        self.of_caller(refuse(era, refusal))
    }

    /// An answer, of which the audit will know whose it is.
    fn of_caller(&self, mut response: Response<Body>) -> Response<Body> {
        if let Some(why) = response.extensions_mut().get_mut::<Why>() {
            why.who = self.caller.identity().cloned();
        }
        response
    }

    /// The session the head names, checked to be one of this endpoint.
    fn session(&self, head: &Head<'_>) -> Result<Arc<Live>, Fault> {
        let id = match head.session {
            Field::One(id) => id,
            Field::Absent => {
                return Err(Fault::client(Kind::NoSession)
                    .tell("Mcp-Session-Id is missing; begin with `initialize`, and send the id it answers with"));
            }
            Field::Bad => return Err(Fault::client(Kind::NoSession).tell("Mcp-Session-Id appears more than once, or is no text")),
        };
        let live = self.gateway.sessions.find(id).filter(|l| self.is_of(l)).ok_or_else(sessions::dead)?;
        let (revision, transport) = {
            let mut state = lock(&live.state);
            state.touch(Instant::now());
            (state.client().revision, state.transport())
        };
        // The name of an HTTP+SSE session opens nothing here: its messages have an address of
        // their own.
        if transport != Transport::Streamable {
            return Err(sessions::dead());
        }
        streamable::check_version(head, revision)?;
        Ok(live)
    }

    /// Whether a session is one of this endpoint and of this caller. Its server may be retired.
    fn is_of(&self, live: &Live) -> bool {
        live.backend.name() == self.backend.name() && live.who == self.caller.principal()
    }

    /// The answer to a call of a tool for which its caller lacks a scope.
    fn forbids(&self, message: &Message) -> Option<Response<Body>> {
        let (at, identity) = (self.at.as_ref()?, self.caller.identity()?);
        if !matches!(message.kind, MessageKind::Request(_, Method::ToolsCall)) || identity.scopes.is_none() {
            return None;
        }
        let running = self.gateway.running();
        if !running.plan.rights.values().any(Rights::has_tools) {
            return None;
        }
        let params = Params::read(message).ok()?;
        let called = message.string_at(params.name)?;
        let needed = self.backend.needed_for(&running.plan.rights, &called);
        let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
        let lacked = self.caller.lacks(needed.iter().copied())?;
        let told = format!("calling {called} needs the scope {lacked}");
        Some(self.gateway.auth().lacks(identity, at, &needed, &told))
    }

    /// Opens a session and answers with what its server says of itself. The session has its name
    /// before the server is there, so that the head need not wait for a slow start.
    async fn initialize(&self, message: Message, accept: Accept) -> Result<Response<Body>, Refusal> {
        let Some(id) = request_id(&message) else { return Err(Fault::client(Kind::Invalid).tell("`initialize` is a request").into()) };
        let refuse = |fault: Fault| Refusal { fault, id: Some(id.clone()) };
        let held = self.place_for_session().map_err(refuse)?;
        let live = self.gateway.open(&self.backend, self.caller.principal(), &message, Transport::Streamable).map_err(refuse)?;
        self.settle(&live, held);
        let name = self.gateway.plan.profile.id(live.id);
        let gateway = self.gateway.clone();
        let mut seated = Box::pin(async move { gateway.seat(live).await });
        let mut response = match within(self.commit_at(accept), &mut seated).await {
            Some(result) => {
                let answer = answer(&id, &Outcome::Result(result.map_err(refuse)?));
                if accept.json { json(StatusCode::OK, answer) } else { stream(Body::full(sse::event(None, Some("message"), &answer))) }
            }
            None => {
                let late = async move { answer(&id, &seated.await.map_or_else(Outcome::Fault, Outcome::Result)) };
                stream(Body::Late(Box::new(LateBody::new(Box::pin(late), self.beats.join()))))
            }
        };
        if let Ok(value) = HeaderValue::from_str(&name) {
            response.headers_mut().insert(SESSION_ID, value);
        }
        Ok(response)
    }

    /// Until when the head may wait; for ever where the client cannot read a stream.
    fn commit_at(&self, accept: Accept) -> Option<tokio::time::Instant> {
        accept.events.then(|| tokio::time::Instant::now() + Duration::from_millis(self.gateway.plan.limits.commit_ms))
    }

    /// A message of the handshake era outside of any session. A request is answered by itself.
    async fn sessionless(&self, message: Message, head: &Head<'_>, headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
        let Some(id) = request_id(&message) else { return Ok(accepted()) };
        if let Some(refused) = self.forbids(&message) {
            return Ok(refused);
        }
        let refuse = |fault: Fault| Refusal { fault, id: Some(id.clone()) };
        let revision = streamable::revision(head).map_err(refuse)?;
        let (principal, capabilities) = (self.caller.principal(), Bytes::from_static(b"{}"));
        let client = Arc::new(Client { revision, principal, transport: Transport::Streamable, info: None, capabilities });
        let call = streamable::call(message, &client).map(Box::new).map_err(refuse)?;
        // Whoever has no session is not there to read a stream.
        let accept = Accept { json: true, events: false };
        self.stateless(call, accept, headers).await.map_err(refuse)
    }

    async fn session_message(&self, live: Arc<Live>, message: Message, accept: Accept) -> Result<Response<Body>, Fault> {
        let MessageKind::Request(id, _) = message.kind.clone() else {
            handle_silent(&live, message);
            return Ok(accepted());
        };
        let client = lock(&live.state).client().clone();
        let call = Box::new(streamable::call(message, &client)?);
        let commit = self.commit_at(accept);
        let mut begin = self.begin(&live, call);
        let call = match within(commit, &mut begin).await {
            Some(replies) => SessionCall::new(live.clone(), id, replies?, !accept.events),
            None => SessionCall::beginning(live.clone(), id, begin, !accept.events),
        };
        self.answer_session(live, vec![call], accept, commit, false).await
    }

    /// Starts a call of a session, which may have to wait for its server.
    fn begin(&self, live: &Arc<Live>, call: Box<Call>) -> Beginning {
        let (gateway, live) = (self.gateway.clone(), live.clone());
        let held = gateway.rates.call(&call.client.principal);
        let calling = self.calling(&call);
        Box::pin(async move {
            let begun = match held {
                Ok(held) => gateway.call(&live, call).await.map(|replies| (replies, held)),
                Err(fault) => Err(fault),
            };
            accompanied(begun, calling)
        })
    }

    /// What is to be told of a call.
    fn calling(&self, call: &Call) -> Option<Calling> {
        Calling::new(&self.gateway.audit, &self.caller, &self.backend, call, self.from)
    }

    /// A place for a session among its principal's.
    fn place_for_session(&self) -> Result<Option<Held>, Fault> {
        self.gateway.place_for_session(&self.caller.principal())
    }

    /// A session begins.
    fn settle(&self, live: &Live, held: Option<Held>) {
        live.may(self.caller.identity().and_then(|identity| identity.scopes.clone()));
        let info = self.gateway.audit.wants_calls().then(|| lock(&live.state).client().info.clone()).flatten();
        live.keep(held, Opened::new(&self.gateway.audit, &self.caller, live.backend.name(), live.id, info.as_ref(), self.from));
    }

    async fn batch(&self, live: Arc<Live>, messages: Vec<Message>, accept: Accept) -> Result<Response<Body>, Fault> {
        let client = lock(&live.state).client().clone();
        let mut calls = Vec::new();
        for message in messages {
            let MessageKind::Request(id, _) = message.kind.clone() else {
                handle_silent(&live, message);
                continue;
            };
            // One refused call is that call's answer; the others go on.
            let begin: Beginning = match streamable::call(message, &client) {
                Ok(call) => self.begin(&live, Box::new(call)),
                Err(fault) => Box::pin(async move { Err(fault) }),
            };
            calls.push(SessionCall::beginning(live.clone(), id, begin, !accept.events));
        }
        if calls.is_empty() {
            return Ok(accepted());
        }
        let commit = self.commit_at(accept);
        self.answer_session(live, calls, accept, commit, true).await
    }

    /// Answers with JSON if all calls come to their end before any says something else, and soon;
    /// otherwise with a stream.
    async fn answer_session(
        &self,
        live: Arc<Live>,
        mut calls: Vec<SessionCall>,
        accept: Accept,
        commit: Option<tokio::time::Instant>,
        batch: bool,
    ) -> Result<Response<Body>, Fault> {
        let mut answers: Vec<Vec<u8>> = Vec::new();
        let mut other = None;
        let wait = poll_fn(|cx| {
            let mut at = 0;
            while at < calls.len() {
                match calls[at].poll_message(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(None) => drop(calls.swap_remove(at)),
                    Poll::Ready(Some((message, true))) => {
                        answers.push(message);
                        drop(calls.swap_remove(at));
                    }
                    Poll::Ready(Some((message, false))) => {
                        other = Some(message);
                        return Poll::Ready(());
                    }
                }
            }
            if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = within(commit, wait).await;
        if calls.is_empty() && accept.json {
            let body = match (batch, answers.pop()) {
                (false, Some(answer)) => answer,
                (_, last) => {
                    answers.extend(last);
                    [b"[", &answers.join(&b","[..])[..], b"]"].concat()
                }
            };
            return Ok(json(StatusCode::OK, body));
        }
        let now = Instant::now();
        let opened = lock(&live.state).open_stream(calls.len() + answers.len(), now);
        let Some(reader) = opened else {
            calls.into_iter().for_each(SessionCall::withdraw);
            return Err(Fault::client(Kind::Busy).tell("this session has too many streams open; read them to their end or close them"));
        };
        let first = {
            let mut state = lock(&live.state);
            let first = state.priming(reader, self.gateway.plan.limits.retry_ms);
            for answer in &answers {
                state.append(reader.stream(), answer, true, now);
            }
            if let Some(other) = &other {
                state.append(reader.stream(), other, false, now);
            }
            first.unwrap_or(Bytes::from_static(sse::COMMENT))
        };
        let body = SessionBody::new(self.gateway.clone(), live, reader, calls, first, self.beats.join());
        Ok(stream(Body::Session(Box::new(body))))
    }

    async fn stateless(&self, call: Box<Call>, accept: Accept, headers: &HeaderMap) -> Result<Response<Body>, Fault> {
        let id = call.id.clone();
        if call.method == Method::Listen {
            if !accept.events {
                return Err(Fault::client(Kind::NotAcceptable).tell("`Accept` must allow text/event-stream"));
            }
            let filter = Filter::read(&call.message).map_err(|why| Fault::client(Kind::Params).tell(why))?;
            let held = self.place_for_session()?;
            let (gateway, backend, name, client) = (self.gateway.clone(), self.backend.clone(), id.clone(), call.client.clone());
            let mut opening: Opening = Box::pin(async move {
                let mut listening = gateway.listen(&backend, &client, name, filter).await?;
                listening.held = held;
                Ok(listening)
            });
            let stage = match within(self.commit_at(accept), &mut opening).await {
                Some(opened) => Listened::Open(opened?),
                None => Listened::Opening(opening),
            };
            return Ok(stream(Body::Listen(Box::new(ListenBody::new(StatelessListen::new(stage, id), self.while_let_in(false))))));
        }
        let params = mirrored_headers(headers);
        let (gateway, backend) = (self.gateway.clone(), self.backend.clone());
        let held = gateway.rates.call(&call.client.principal);
        let calling = self.calling(&call);
        let mut begin: Beginning = Box::pin(async move {
            let begun = match held {
                Ok(held) => gateway.call_stateless(&backend, call, Wire::Http, Some(&params)).await.map(|replies| (replies, held)),
                Err(fault) => Err(fault),
            };
            accompanied(begun, calling)
        });
        let commit = self.commit_at(accept);
        let Some(begun) = within(commit, &mut begin).await else {
            return Ok(stream(Body::Call(Box::new(CallBody::new(StatelessCall::beginning(begin, id), None, self.beats.join())))));
        };
        let mut replies = begun?;
        let first = poll_fn(|cx| {
            loop {
                match std::task::ready!(replies.poll_next(cx)) {
                    Reply::Ask(ask) => replies.refuse(ask.ticket),
                    Reply::Withdrawn(_) => {}
                    Reply::Note(_) if !accept.events => {}
                    reply => return Poll::Ready(reply),
                }
            }
        });
        let first = within(commit, first).await;
        let event = match first {
            Some(Reply::Done(outcome)) => {
                let status = match &outcome {
                    Outcome::Result(_) => 200,
                    Outcome::Error(error) => status_of_error(bridge::code_of(error)),
                    Outcome::Fault(fault) => fault.status(Era::Stateless),
                };
                let body = answer(&id, &outcome);
                if accept.json || status != 200 {
                    let response = answered(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), body);
                    return Ok(match &outcome {
                        Outcome::Fault(fault) => self.of_caller(tell_why(response, fault)),
                        _ => response,
                    });
                }
                return Ok(stream(Body::full(sse::event(None, None, &body))));
            }
            Some(Reply::Note(note)) => Some(sse::event(None, None, &note.message)),
            _ => None,
        };
        Ok(stream(Body::Call(Box::new(CallBody::new(StatelessCall::new(replies, id), event, self.beats.join())))))
    }

    /// The timer of a stream that has no end of its own: it ends when its caller is not let in any more. `is_session`:
    /// it is the session's only one (HTTP+SSE).
    fn while_let_in(&self, is_session: bool) -> Arc<Beat> {
        let beat = self.beats.join();
        self.gateway.auth().watch(&self.caller, &beat, is_session);
        beat
    }

    // --- GET and DELETE -----------------------------------------------------------------------

    /// A stream for what answers no request, or the rest of one that broke.
    pub fn get<B>(self, request: &Request<B>, prefix: &str) -> Response<Body> {
        let headers = request.headers();
        let head = head(headers);
        let refused = |fault: Fault| refuse(Era::Handshake, &fault.into());
        if !Accept::read(head.accept).events {
            return refuse_method(MCP_METHODS, "GET opens an event stream; `Accept` must allow text/event-stream");
        }
        if head.names_stateless() {
            return refuse_method("POST", "2026-07-28 has no GET; use `subscriptions/listen`");
        }
        if head.session == Field::Absent && self.gateway.plan.profile.transports == Transports::Http {
            return refuse_method("POST, DELETE", "GET is for sessions: `Mcp-Session-Id` is missing");
        }
        if head.session == Field::Absent {
            // Our sessions always have an id, so this client is of the time before them.
            return self.open_sse(request, prefix);
        }
        let live = match self.session(&head) {
            Ok(live) => live,
            Err(fault) => return refused(fault),
        };
        let last = headers.get("last-event-id").map(|v| v.to_str().ok().and_then(EventId::parse));
        let reader = {
            let mut state = lock(&live.state);
            match last {
                None => Some(state.open_standalone()),
                Some(last) => last.and_then(|last| state.resume(last)),
            }
        };
        let Some(reader) = reader else {
            return refused(
                Fault::client(Kind::Invalid).tell("Last-Event-ID names an event that is not kept any more; send the request again"),
            );
        };
        // A stream that is taken up again needs no other id than the one it was taken up with.
        let primed = if last.is_none() { lock(&live.state).priming(reader, self.gateway.plan.limits.retry_ms) } else { None };
        let first = primed.unwrap_or(Bytes::from_static(sse::COMMENT));
        // One that answers calls, taken up again, ends with them.
        let beat = if reader.stream() == 0 { self.while_let_in(false) } else { self.beats.join() };
        let body = SessionBody::new(self.gateway.clone(), live, reader, Vec::new(), first, beat);
        stream(Body::Session(Box::new(body)))
    }

    /// The end of a session.
    pub fn delete(self, headers: &HeaderMap) -> Response<Body> {
        let head = head(headers);
        if head.names_stateless() {
            return refuse_method("POST", "2026-07-28 has no sessions to end");
        }
        match self.session(&head) {
            Ok(live) => {
                self.gateway.sessions.close(live.id);
                response(StatusCode::NO_CONTENT, Body::empty())
            }
            Err(fault) => refuse(Era::Handshake, &fault.into()),
        }
    }
}

/// A call that has begun, and what ends with it.
pub(crate) fn accompanied(begun: Result<(Replies, Option<Held>), Fault>, calling: Option<Calling>) -> Result<Replies, Fault> {
    match begun {
        Ok((mut replies, held)) => {
            replies.keep(held, calling);
            Ok(replies)
        }
        Err(fault) => {
            if let Some(calling) = calling {
                calling.ended(&Outcome::Fault(fault.clone()));
            }
            Err(fault)
        }
    }
}

/// The body of a request, of at most `limit` bytes.
pub(crate) async fn collect<B: Arriving>(limits: &Limits, headers: &HeaderMap, body: B, limit: usize) -> Result<Bytes, Fault> {
    let patience = limits.body_timeout_ms;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let too_large = || Fault::client(Kind::TooLarge).tell(format!("the message is larger than the limit of {limit} bytes"));
    if declared.is_some_and(|n| n > limit as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(Duration::from_millis(patience), read_body(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(None)) => Err(too_large()),
        Ok(Err(Some(e))) => Err(Fault::client(Kind::Invalid).tell("the body broke off").because(e)),
        Err(_) => Err(Fault::client(Kind::TooSlow).tell(format!("the body did not arrive within {patience} ms"))),
    }
}

/// Waits for `work`, but not beyond `until`; what is left of it is still its owner's.
async fn within<T>(until: Option<tokio::time::Instant>, work: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, work).await.ok(),
        None => Some(work.await),
    }
}

/// The `Mcp-Param-*` headers, mostly none.
fn mirrored_headers(headers: &HeaderMap) -> MirroredHeaders {
    let mirrored = headers.keys().filter_map(|name| Some((name, name.as_str().strip_prefix("mcp-param-")?)));
    mirrored.map(|(name, param)| (param.to_owned(), field(headers, name).value().map(str::to_owned))).collect()
}

fn request_id(message: &Message) -> Option<Id> {
    match &message.kind {
        MessageKind::Request(id, _) => Some(id.clone()),
        _ => None,
    }
}

/// The whole body, without a copy where it came in one piece. `Err(None)`: beyond the limit.
async fn read_body<B: Arriving>(mut body: B, limit: usize) -> Result<Bytes, Option<B::Error>> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(Some)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(None);
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}
