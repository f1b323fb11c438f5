//! What a POST of a client comes to: sorted, checked, refused, or made an exchange.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use landbridge_proto::call::{Client, Outcome, Principal};
use landbridge_proto::fault::{Fault, Kind as FaultKind};
use landbridge_proto::front::session::{Session, Transport};
use landbridge_proto::front::stateless;
use landbridge_proto::front::streamable::{Field, Head, Incoming, Refusal, answer, check_version, classify, introduce};
use landbridge_proto::headers::{Accept, encode_mirror};
use landbridge_proto::message::{Kind, Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;
use landbridge_proto::version::{Era, Revision};

use super::{Exchange, Front, FrontKind, Got, Listening, limits};
use crate::pair::Bell;
use crate::pair::call::{ASKING, Running, request};
use crate::pair::gate::Gate;

impl Front {
    /// Sends a body; `headers` go before those that belong to it, `-` takes one away. `as` is none:
    /// it names the principal.
    pub(crate) fn post(&mut self, gate: &mut Gate, headers: &[(String, String)], body: &str) {
        let message = Message::read(Bytes::copy_from_slice(body.as_bytes())).ok();
        let params = message.as_ref().and_then(|m| Params::read(m).ok()).unwrap_or_default();
        let method = message.as_ref().and_then(request).map(|(_, method)| method);
        let mut all: BTreeMap<&str, String> = BTreeMap::new();
        all.insert("content-type", "application/json".into());
        all.insert("accept", "application/json, text/event-stream".into());
        match self.kind {
            FrontKind::Stateless => {
                all.insert("mcp-protocol-version", "2026-07-28".into());
                all.insert("mcp-method", method.as_ref().map_or("", Method::as_str).to_owned());
                let name = if method == Some(Method::ResourcesRead) { params.uri } else { params.name };
                if let Some(name) = message.as_ref().and_then(|m| m.string_at(name)) {
                    all.insert("mcp-name", encode_mirror(&name).into_owned());
                }
            }
            FrontKind::Streamable(revision) if self.session.is_some() => {
                all.insert("mcp-session-id", "s".into());
                if revision >= Revision::V2025_06_18 {
                    all.insert("mcp-protocol-version", revision.as_str().into());
                }
            }
            _ => {}
        }
        for (name, value) in headers {
            all.insert(name, value.clone());
        }
        let field = |name: &str| match all.get(name).map(String::as_str) {
            None | Some("-") => Field::Absent,
            Some("twice") => Field::Bad,
            Some(value) => Field::One(value),
        };
        let head = Head {
            revision: field("mcp-protocol-version"),
            session: field("mcp-session-id"),
            method: field("mcp-method"),
            name: field("mcp-name"),
            accept: field("accept").value(),
            content_type: field("content-type").value(),
        };
        let body = Bytes::copy_from_slice(body.as_bytes());
        let who = all.get("as").map(String::as_str);
        let refused =
            if let FrontKind::Sse(_) = self.kind { self.take_message(gate, &head, body) } else { self.take(gate, &head, who, body) };
        if let Err((era, refusal)) = refused {
            let text = refusal.fault.message(refusal.id.as_ref());
            self.got.push_back(Got::Body { status: refusal.fault.status(era), text });
        }
    }

    fn take(&mut self, gate: &mut Gate, head: &Head<'_>, who: Option<&str>, body: Bytes) -> Result<(), (Era, Refusal)> {
        let accept = Accept::read(head.accept);
        match classify(head, body).map_err(|r| (Era::Stateless, r))? {
            Incoming::Stateless(message, params) => {
                let mut call = stateless::read(Principal::default(), Transport::Streamable, Some(head), message, params)
                    .map_err(|r| (Era::Stateless, r))?;
                if let Some(who) = who {
                    let (info, capabilities) = (call.client.info.clone(), call.client.capabilities.clone());
                    call.client = Arc::new(Client {
                        revision: Revision::NEWEST,
                        principal: Principal::named(who),
                        transport: landbridge_proto::call::Transport::Streamable,
                        info,
                        capabilities,
                    });
                }
                if call.method == Method::Listen {
                    let id = Some(call.id.clone());
                    let refuse = |fault| (Era::Stateless, Refusal { fault, id });
                    let filter = Filter::read(&call.message).map_err(|why| refuse(Fault::client(FaultKind::Params).tell(why)))?;
                    let promise = gate.want(&filter);
                    let wanted = Some((call.message, filter, promise));
                    self.listens.push(Listening { wanted, queue: None, bell: Bell::new() });
                    return Ok(());
                }
                let call = Running::stateless(call, !accept.events);
                self.exchange(gate, vec![call], accept, false);
                Ok(())
            }
            Incoming::StatelessNotification => Ok(()),
            Incoming::Initialize(message) => {
                let refuse = |fault: Fault| (Era::Handshake, Refusal { fault, id: request(&message).map(|(id, _)| id) });
                let client = Arc::new(introduce(Principal::default(), Transport::Streamable, &message).map_err(refuse)?);
                let (id, _) = request(&message).expect("a request");
                self.session = Some(Session::new(client.clone(), Transport::Streamable, limits(), gate.now));
                self.exchange(gate, vec![Running::hello(id, client, message)], accept, false);
                Ok(())
            }
            Incoming::Session(message) => {
                let id = request(&message).map(|(id, _)| id);
                self.check(head).map_err(|fault| (Era::Handshake, Refusal { fault, id }))?;
                let Some(running) = self.running(gate, message, !accept.events) else { return Ok(()) };
                self.exchange(gate, vec![running], accept, false);
                Ok(())
            }
            Incoming::Batch(messages) => {
                let early = |fault: Fault| (Era::Handshake, Refusal::from(fault));
                self.check(head).map_err(early)?;
                self.check_batch().map_err(early)?;
                let calls: Vec<Running> = messages.into_iter().filter_map(|m| self.running(gate, m, !accept.events)).collect();
                if !calls.is_empty() {
                    self.exchange(gate, calls, accept, true);
                }
                Ok(())
            }
        }
    }

    /// A message over HTTP+SSE: accepted at once, answered on the stream.
    fn take_message(&mut self, gate: &mut Gate, head: &Head<'_>, body: Bytes) -> Result<(), (Era, Refusal)> {
        let plain = Head { session: Field::One("s"), accept: None, revision: Field::Absent, ..*head };
        let messages = match classify(&plain, body).map_err(|r| (Era::Handshake, r))? {
            Incoming::Initialize(message) => {
                let refuse = |fault: Fault| (Era::Handshake, Refusal { fault, id: request(&message).map(|(id, _)| id) });
                let client = Arc::new(introduce(Principal::default(), Transport::Streamable, &message).map_err(refuse)?);
                let (id, _) = request(&message).expect("a request");
                self.session.as_mut().expect("open").set_client(client.clone());
                self.loose.push((Running::hello(id, client, message), None, Bell::new()));
                return Ok(());
            }
            Incoming::Session(message) => vec![message],
            Incoming::Batch(messages) => {
                self.check_batch().map_err(|fault| (Era::Handshake, Refusal::from(fault)))?;
                messages
            }
            Incoming::Stateless(message, _) => {
                if let Some((id, method)) = request(&message) {
                    let told = format!("Method not found: {}: 2026-07-28 is not served over HTTP+SSE", method.as_str());
                    let fault = Fault::client(FaultKind::UnknownMethod).tell(told);
                    let answer = answer(&id, &Outcome::Fault(fault));
                    self.session.as_mut().expect("open").append(0, &answer, false, gate.now);
                }
                return Ok(());
            }
            Incoming::StatelessNotification => return Ok(()),
        };
        for message in messages {
            if let Some(running) = self.running(gate, message, false) {
                self.loose.push((running, None, Bell::new()));
            }
        }
        Ok(())
    }

    fn check(&self, head: &Head<'_>) -> Result<(), Fault> {
        let dead = || Fault::client(FaultKind::DeadSession).tell("Session not found");
        let live = match (head.session, &self.session) {
            (Field::Absent, _) => return Err(Fault::client(FaultKind::NoSession).tell("Mcp-Session-Id is missing")),
            (Field::One("s"), Some(session)) if !session.is_closed() => session,
            _ => return Err(dead()),
        };
        check_version(head, live.client().revision)
    }

    fn check_batch(&self) -> Result<(), Fault> {
        let revision = self.session.as_ref().map(|s| s.client().revision);
        if revision == Some(Revision::V2025_03_26) { Ok(()) } else { Err(Fault::client(FaultKind::Invalid).tell("no batches")) }
    }

    /// A request to run; anything else is dealt with at once.
    fn running(&mut self, gate: &mut Gate, message: Message, mute: bool) -> Option<Running> {
        let session = self.session.as_mut()?;
        match message.kind.clone() {
            Kind::Request(id, method) => return Some(Running::of_session(id, method, session.client().clone(), message, mute)),
            Kind::Response(Some(id), result) => {
                let tag = session.answered(&id)?;
                let answer = match &result {
                    Ok(at) => Ok(at.of_bytes(&message.bytes)),
                    Err(at) => Err(at.of_bytes(&message.bytes)),
                };
                match tag.link {
                    ASKING => self.change(|r| r.waiting_for(tag.number).map(|c| c.handle_answer(tag.number, answer)).is_some()),
                    _ => gate.link()?.answer(tag.number, answer),
                }
            }
            Kind::Notification(Method::Cancelled) => {
                let [id] = message.params_fields(&["requestId"]).unwrap_or_default();
                let tag = session.withdraw_call(id?.of_bytes(&message.bytes))?;
                self.abort(gate, tag);
            }
            Kind::Notification(Method::Initialized | Method::Progress) => {}
            Kind::Notification(_) => gate.notify(&message.bytes),
            Kind::Response(None, _) => {}
        }
        None
    }

    fn exchange(&mut self, gate: &Gate, calls: Vec<Running>, accept: Accept, batch: bool) {
        let (answers, bell) = (Vec::new(), Bell::new());
        self.exchanges.push(Exchange { calls, answers, batch, since: gate.now, accept, open: None, bell, answered: false });
    }
}
