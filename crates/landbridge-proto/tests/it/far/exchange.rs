//! One call, from its POST to its answer.

use std::time::Instant;

use bytes::Bytes;
use landbridge_proto::back::link::{Key, Link};
use landbridge_proto::back::stateless;
use landbridge_proto::back::streamable::{Attempts, Next, Opened, Resumption, answer_in};
use landbridge_proto::call::Outcome;
use landbridge_proto::fault::Kind as FaultKind;
use landbridge_proto::message::{Message, Params};
use landbridge_proto::methods::Method;
use landbridge_proto::sse::Decoder;

use super::{Far, For, Out, Said, Session};

pub(super) struct Exchange {
    line: Bytes,
    attempts: Attempts,
    /// The one that its request named.
    pub(super) session: Session,
    stream: Decoder,
    resumption: Resumption,
    state: State,
    /// It was withdrawn, and is listened to until then.
    pub(super) haunts_until: Option<Instant>,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Its POST is under way.
    Posted,
    Streaming(u32),
    /// Its stream broke off, and is taken up again then.
    Broken(Instant),
    /// That is under way.
    Resuming,
    /// It was refused, as the session is gone.
    Refused,
    /// Another one is there.
    Renewed,
    /// The tools are looked at, by this request.
    Looking(Key),
}

impl Exchange {
    pub(super) fn is_stream(&self, number: u32) -> bool {
        self.state == State::Streaming(number)
    }
}

impl Far {
    /// Sends a call.
    pub(crate) fn send(&mut self, key: Key, line: Bytes) {
        self.send_as(key, Attempts::new(key, self.revision.era(), line.clone()), line);
    }

    pub(super) fn send_as(&mut self, key: Key, attempts: Attempts, line: Bytes) {
        let exchange = Exchange {
            attempts,
            line,
            session: self.session.clone(),
            stream: Decoder::new(self.limit),
            resumption: Resumption::new(self.revision.era()),
            state: State::Posted,
            haunts_until: None,
        };
        self.exchanges.insert(key.id(), exchange);
        self.post(key);
    }

    fn post(&mut self, key: Key) {
        let session = self.session.clone();
        let Some(exchange) = self.exchanges.get_mut(&key.id()) else { return };
        (exchange.state, exchange.session) = (State::Posted, session.clone());
        let line = exchange.line.clone();
        let headers = if self.has_session() { self.session_headers(&session) } else { self.stateless_headers(&line) };
        self.request(For::Call(key), Some(&line), headers);
    }

    fn stateless_headers(&self, line: &Bytes) -> Vec<(String, String)> {
        let message = Message::read(line.clone()).expect("a request");
        let params = Params::read(&message).expect("params");
        let tool = message.string_at(params.name);
        let mirrored = tool.and_then(|tool| self.mirrored.get(&*tool)).map(Vec::as_slice).unwrap_or_default();
        let headers = stateless::headers(&message, &params, mirrored);
        headers.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    /// Calls that were refused in a session that is gone, and may go now; whether there are any.
    pub(super) fn resend(&mut self, link: &mut Link) -> bool {
        self.exchanges.retain(|id, exchange| exchange.state != State::Renewed || link.is_wanted(Key::of_id(*id)));
        let ready = |(id, exchange): (&u64, &Exchange)| (exchange.state == State::Renewed && link.is_settled()).then_some(*id);
        let ids: Vec<u64> = self.exchanges.iter().filter_map(ready).collect();
        ids.iter().for_each(|id| self.post(Key::of_id(*id)));
        !ids.is_empty()
    }

    pub(super) fn renewed_calls(&mut self) {
        for exchange in self.exchanges.values_mut().filter(|exchange| exchange.state == State::Refused) {
            exchange.state = State::Renewed;
        }
    }

    pub(super) fn end_refused_calls(&mut self, link: &mut Link, fault: &landbridge_proto::fault::Fault) {
        let refused = |(id, exchange): (&u64, &Exchange)| (exchange.state == State::Refused).then_some(*id);
        let ids: Vec<u64> = self.exchanges.iter().filter_map(refused).collect();
        ids.into_iter().for_each(|id| self.end(link, Key::of_id(id), Outcome::Fault(fault.clone())));
    }

    /// The exchange of a call is over: unless the answer was there, the call ends with this.
    fn end(&mut self, link: &mut Link, key: Key, outcome: Outcome) {
        self.exchanges.remove(&key.id());
        self.under_way.retain(|_, what| *what != For::Call(key));
        link.handle_end_of(key, outcome);
    }

    /// The call's answer cannot be had any more, though the server may be at it.
    fn lose(&mut self, link: &mut Link, key: Key, why: &str) {
        self.exchanges.remove(&key.id());
        self.under_way.retain(|_, what| *what != For::Call(key));
        link.handle_lost(key, self.fault(FaultKind::Unreachable, &format!("broke off before it answered: {why}")));
    }

    fn end_with(&mut self, link: &mut Link, key: Key, kind: FaultKind, what: &str) {
        let fault = self.fault(kind, what);
        self.end(link, key, Outcome::Fault(fault));
    }

    /// A stateless server learns from the end of its connection that a call is not wanted any more.
    pub(super) fn drop_call(&mut self, key: Key, line: &Bytes) {
        let Some(number) = self.request_of(key.id()) else { return };
        self.exchanges.remove(&key.id());
        self.under_way.remove(&number);
        let line = String::from_utf8(line.to_vec()).expect("lines are UTF-8");
        self.out.push_back(Out::Dropped(line.trim_end().to_owned()));
    }

    pub(super) fn handle_call(&mut self, link: &mut Link, key: Key, number: u32, said: Said<'_>, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&key.id()) else { return };
        match (said, &exchange.state) {
            (Said::Whole { status, .. }, State::Resuming) => match Opened::by(status, false) {
                Opened::Later => self.broke(link, key, now),
                _ => {
                    self.lose(link, key, &format!("its stream ended, and it cannot be taken up again (HTTP {status})"));
                }
            },
            (Said::Whole { body, .. }, _) if body.len() > self.limit => {
                let limit = self.limit;
                let told = format!("cannot be understood: its answer is larger than the limit of {limit} bytes for one message");
                self.end_with(link, key, FaultKind::Backend, &told);
            }
            (Said::Whole { status, body, .. }, _) => self.answered(link, key, status, body, now),
            (Said::Stream, _) => {
                exchange.state = State::Streaming(number);
                exchange.stream.reconnected();
            }
            (Said::Bytes(bytes), _) => {
                for line in Far::events(&mut exchange.stream, bytes) {
                    exchange.resumption.handle_event();
                    match line {
                        Ok(line) if exchange.session.number == self.session.number => link.handle_line_of(key, line),
                        Ok(line) => link.handle_line_of_lost(key, line),
                        Err((head, tail)) => link.handle_too_long(&head, &tail, self.limit),
                    }
                }
                if !link.is_under_way(key) {
                    self.end_with(link, key, FaultKind::Backend, "did not answer the call");
                }
            }
            (Said::Breaks, State::Posted) => {
                self.lose(link, key, "the connection broke");
            }
            (Said::Breaks, _) => self.broke(link, key, now),
        }
    }

    fn answered(&mut self, link: &mut Link, key: Key, status: u16, body: &str, now: Instant) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let exchange = self.exchanges.get_mut(&key.id()).expect("it was found");
        match exchange.attempts.handle_response(status, exchange.session.id.is_some(), &body) {
            Next::Renew | Next::LookAgain if !link.is_wanted(key) => drop(self.exchanges.remove(&key.id())),
            Next::Renew if exchange.session.number != self.session.number => exchange.state = State::Renewed,
            Next::Renew => {
                exchange.state = State::Refused;
                self.renew();
            }
            Next::LookAgain => match link.begin_own(&Method::ToolsList, "", now) {
                Ok(listing) => exchange.state = State::Looking(listing),
                Err(_) => self.post(key),
            },
            // Whoever began it begins it anew; what else is under way may be answered yet.
            Next::MeetAgain(_) => self.end_with(link, key, FaultKind::Changed, "does not speak 2026-07-28 any more; send the call again"),
            Next::Answered(answer) => {
                link.handle_message_of(key, answer);
                self.end_with(link, key, FaultKind::Backend, "did not answer the call");
            }
            Next::Ended(outcome) => self.end(link, key, outcome),
            Next::Unanswered => {
                self.end_with(link, key, FaultKind::Backend, &format!("answers with HTTP {status} and no MCP message"));
            }
        }
    }

    /// The call that looks at the tools by that request, if one does.
    pub(crate) fn looks_by(&self) -> Option<(Key, Key)> {
        self.exchanges.iter().find_map(|(id, exchange)| match exchange.state {
            State::Looking(listing) => Some((Key::of_id(*id), listing)),
            _ => None,
        })
    }

    /// The tools have been looked at.
    pub(crate) fn looked(&mut self, key: Key) {
        self.post(key);
    }

    fn broke(&mut self, link: &mut Link, key: Key, now: Instant) {
        let exchange = self.exchanges.get_mut(&key.id()).expect("it was found");
        let (last_id, retry_ms) = (exchange.stream.last_id().map(str::to_owned), exchange.stream.retry_ms());
        match exchange.resumption.handle_broken(last_id.as_deref(), retry_ms) {
            Some(wait) => exchange.state = State::Broken(now + wait),
            None => self.lose(link, key, "its stream ended"),
        }
    }

    pub(super) fn handle_timeout_of(&mut self, key: Key, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&key.id()) else { return };
        if exchange.haunts_until.is_some_and(|until| until <= now) {
            self.exchanges.remove(&key.id());
            self.under_way.retain(|_, what| *what != For::Call(key));
            return;
        }
        let State::Broken(until) = exchange.state else { return };
        if until > now {
            return;
        }
        exchange.state = State::Resuming;
        let last_id = exchange.stream.last_id().expect("or it would be lost").to_owned();
        let session = exchange.session.clone();
        let mut headers = self.session_headers(&session);
        headers.push(("last-event-id".to_owned(), last_id));
        self.request(For::Call(key), None, headers);
    }

    /// What a POST over HTTP+SSE comes to: its answer is on the stream, unless it is in the response.
    pub(super) fn handle_accepted(&mut self, link: &mut Link, key: Key, said: Said<'_>) {
        match said {
            Said::Whole { body, .. } if answer_in(&Bytes::copy_from_slice(body.as_bytes())).is_some() => {
                link.handle_line_of(key, Bytes::copy_from_slice(body.as_bytes()));
            }
            Said::Whole { status: 200..=299, .. } | Said::Stream | Said::Bytes(_) | Said::Breaks => {}
            Said::Whole { status, .. } => {
                self.end_with(link, key, FaultKind::Backend, &format!("answers with HTTP {status} and no MCP message"));
            }
        }
        self.exchanges.remove(&key.id());
    }
}
