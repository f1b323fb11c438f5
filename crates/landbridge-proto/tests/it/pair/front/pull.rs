//! What a client's open exchanges do when they are woken: pull their calls, and read their streams.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};

use landbridge_proto::call::{Outcome, Reply};
use landbridge_proto::fault::status_of_error;
use landbridge_proto::front::session::Transport;
use landbridge_proto::front::streamable::answer;
use landbridge_proto::sse;
use landbridge_proto::subscribe::{Filter, Listen};
use landbridge_proto::version::Era;

use super::{Exchange, Front, Got, Open};
use crate::events;
use crate::pair::call::{Running, request, unaskable};
use crate::pair::gate::Gate;
use crate::pair::{Bell, LIMITS};

impl Front {
    /// Does everything that is due; whether anything was.
    pub(crate) fn pump(&mut self, gate: &mut Gate) -> bool {
        let mut moved = self.pump_loose(gate);
        let mut at = 0;
        while at < self.exchanges.len() {
            let mut exchange = self.exchanges.remove(at);
            let waiting = exchange.calls.iter().any(Running::is_waiting);
            let rang = exchange.bell.rang();
            moved |= rang;
            let over = (rang || waiting) && self.pump_exchange(gate, &mut exchange, &mut moved);
            if !over {
                self.exchanges.insert(at, exchange);
                at += 1;
            }
        }
        moved |= self.pump_standalone();
        moved | self.pump_listens(gate)
    }

    fn pump_loose(&mut self, gate: &mut Gate) -> bool {
        let mut moved = false;
        let mut at = 0;
        while at < self.loose.len() {
            let (running, stream, bell) = &mut self.loose[at];
            let session = self.session.as_mut().expect("a session's call");
            if !bell.rang() && !running.is_waiting() {
                at += 1;
                continue;
            }
            let mut over = false;
            while let Poll::Ready((message, last)) = running.poll_message(gate, session, &Waker::from(bell.clone())) {
                moved = true;
                match (session.transport(), *stream) {
                    _ if message.is_empty() => {}
                    // Straight to the reader, where one reads and nothing waits.
                    (Transport::Sse | Transport::Stdio | Transport::Local, _) => {
                        let reader = self.standalone.as_ref().filter(|_| !self.stalled).map(|(reader, _)| *reader);
                        match reader.and_then(|reader| session.pass(reader, &message)) {
                            Some(frame) => self.got.extend(read_frame(&frame, false, &mut self.last_seen)),
                            None => session.append(0, &message, false, gate.now),
                        }
                    }
                    (Transport::Streamable, Some(stream)) => session.append(stream, &message, last, gate.now),
                    // It left before it had a stream to come back to.
                    (Transport::Streamable, None) => {}
                }
                if last {
                    over = true;
                    break;
                }
            }
            if over {
                self.loose.remove(at);
            } else {
                at += 1;
            }
        }
        moved
    }

    fn pump_exchange(&mut self, gate: &mut Gate, exchange: &mut Exchange, moved: &mut bool) -> bool {
        let waker = Waker::from(exchange.bell.clone());
        if self.stalled && exchange.open.is_some() {
            return false;
        }
        match (&exchange.open, &mut self.session) {
            (Some(Open::Session(reader)), Some(session)) => loop {
                match session.poll_event(*reader, &waker) {
                    Poll::Ready(Some(frame)) => {
                        *moved = true;
                        let got = read_frame(&frame, true, &mut self.last_seen);
                        exchange.answered |= got.iter().any(is_answer);
                        self.got.extend(got);
                    }
                    Poll::Ready(None) => {
                        if !exchange.answered {
                            self.got.push_back(Got::End { own: true });
                        }
                        session.close_reader(*reader, gate.now);
                        let stream = reader.stream();
                        self.loose.extend(exchange.calls.drain(..).map(|c| (c, Some(stream), Bell::new())));
                        *moved = true;
                        return true;
                    }
                    Poll::Pending => {
                        let mut pulled = false;
                        let mut at = 0;
                        while at < exchange.calls.len() {
                            match exchange.calls[at].poll_message(gate, session, &waker) {
                                Poll::Pending => at += 1,
                                Poll::Ready((message, last)) => {
                                    pulled = true;
                                    if last {
                                        exchange.calls.swap_remove(at);
                                    }
                                    session.append(reader.stream(), &message, last, gate.now);
                                }
                            }
                        }
                        if !pulled {
                            return false;
                        }
                    }
                }
            },
            (None, Some(_)) => self.pump_closed(gate, exchange, &waker),
            (_, None) => self.pump_stateless(gate, exchange, &waker, moved),
            (Some(Open::Stateless), Some(_)) => unreachable!("a session's exchange"),
        }
    }

    /// An exchange of a session that has not been answered yet: JSON if every call comes to its
    /// end before any says something else, and soon; otherwise a stream.
    fn pump_closed(&mut self, gate: &mut Gate, exchange: &mut Exchange, waker: &Waker) -> bool {
        let session = self.session.as_mut().expect("a session's exchange");
        let mut other = None;
        let mut at = 0;
        while at < exchange.calls.len() {
            match exchange.calls[at].poll_message(gate, session, waker) {
                Poll::Pending => at += 1,
                Poll::Ready((message, true)) => {
                    exchange.answers.push(message);
                    exchange.calls.swap_remove(at);
                }
                Poll::Ready((message, false)) => {
                    other = Some(message);
                    break;
                }
            }
        }
        let late = exchange.accept.events && gate.now >= exchange.since + LIMITS.commit;
        if exchange.calls.is_empty() && other.is_none() && exchange.accept.json {
            let text = match (exchange.batch, &exchange.answers[..]) {
                (false, [one]) => one.clone(),
                (_, all) => [b"[", &all.join(&b","[..])[..], b"]"].concat(),
            };
            self.got.push_back(Got::Body { status: 200, text: String::from_utf8(text).expect("UTF-8") });
            return true;
        }
        if !exchange.calls.is_empty() && other.is_none() && !late {
            return false;
        }
        let Some(reader) = session.open_stream(exchange.calls.len() + exchange.answers.len(), gate.now) else {
            self.got.push_back(Got::Body { status: 503, text: "{\"jsonrpc\":\"2.0\",\"error\":{}}".into() });
            let left = exchange.calls.drain(..);
            self.loose.extend(left.map(|c| (c, None, Bell::new())));
            return true;
        };
        if let Some(frame) = session.priming(reader, 500) {
            self.got.extend(read_frame(&frame, true, &mut self.last_seen));
        }
        let said = exchange.answers.iter().map(|a| (a, true)).chain(other.iter().map(|o| (o, false)));
        for (message, answered) in said {
            session.append(reader.stream(), message, answered, gate.now);
        }
        exchange.open = Some(Open::Session(reader));
        exchange.bell.ring();
        false
    }

    fn pump_stateless(&mut self, gate: &mut Gate, exchange: &mut Exchange, waker: &Waker, moved: &mut bool) -> bool {
        loop {
            let call = &mut exchange.calls[0];
            match call.poll(gate, None, waker) {
                Poll::Ready(Reply::Ask(ask)) => gate.answer(ask.ticket, Err(unaskable())),
                Poll::Ready(Reply::Withdrawn(_)) => {}
                Poll::Ready(Reply::Note(_)) if call.mute => {}
                Poll::Ready(Reply::Note(note)) => {
                    exchange.open = Some(Open::Stateless);
                    let frame = sse::event(None, None, &note.message);
                    self.got.extend(read_frame(&frame, true, &mut self.last_seen));
                }
                Poll::Ready(Reply::Done(outcome)) => {
                    let status = match &outcome {
                        Outcome::Result(_) => 200,
                        Outcome::Error(error) => status_of_error(landbridge_proto::bridge::code_of(error)),
                        Outcome::Fault(fault) => fault.status(Era::Stateless),
                    };
                    let body = answer(&call.id, &outcome);
                    if exchange.open.is_none() && (exchange.accept.json || status != 200) {
                        self.got.push_back(Got::Body { status, text: String::from_utf8(body).expect("UTF-8") });
                    } else {
                        self.got.extend(read_frame(&sse::event(None, None, &body), true, &mut self.last_seen));
                    }
                    *moved = true;
                    return true;
                }
                Poll::Pending => {
                    if exchange.accept.events && gate.now >= exchange.since + LIMITS.commit {
                        exchange.open = Some(Open::Stateless);
                    }
                    return false;
                }
            }
            *moved = true;
        }
    }

    fn pump_standalone(&mut self) -> bool {
        let (Some(session), Some((reader, bell))) = (&mut self.session, &self.standalone) else { return false };
        let reader = *reader;
        if self.stalled || !bell.rang() {
            return false;
        }
        loop {
            match session.poll_event(reader, &Waker::from(bell.clone())) {
                Poll::Ready(Some(frame)) => self.got.extend(read_frame(&frame, false, &mut self.last_seen)),
                Poll::Ready(None) => {
                    self.got.push_back(Got::End { own: false });
                    self.standalone = None;
                    return true;
                }
                Poll::Pending => return true,
            }
        }
    }

    fn pump_listens(&mut self, gate: &mut Gate) -> bool {
        let mut moved = false;
        for listening in &mut self.listens {
            if let Some((message, wish, promise)) = &listening.wanted {
                let Some(honoured) = promise.borrow_mut().take() else { continue };
                let (id, _) = request(message).expect("a request");
                gate.keep(wish, &honoured);
                listening.queue = Some(Listen::new(id, honoured, LIMITS.event_bytes));
                listening.wanted = None;
            }
            if self.stalled || !listening.bell.rang() {
                continue;
            }
            moved = true;
            let waker = Waker::from(listening.bell.clone());
            while let Some(queue) = &mut listening.queue {
                match queue.poll_message(&waker) {
                    Poll::Ready(Some(message)) => {
                        let frame = sse::event(None, None, &message);
                        self.got.extend(read_frame(&frame, true, &mut self.last_seen));
                    }
                    Poll::Ready(None) => {
                        self.got.push_back(Got::End { own: true });
                        gate.keep(queue.filter(), &Filter::default());
                        listening.queue = None;
                    }
                    Poll::Pending => break,
                }
            }
        }
        moved
    }
}

fn is_answer(got: &Got) -> bool {
    matches!(got, Got::Event { text, .. } if !text.contains("\"method\""))
}

fn read_frame(frame: &[u8], own: bool, last_seen: &mut BTreeMap<u32, String>) -> Vec<Got> {
    assert!(!frame.contains(&b'\r'), "a carriage return ends a line of an event too");
    let mut got = Vec::new();
    for event in events::read(frame) {
        if let Some(id) = event.id {
            let stream = id.split('-').next().and_then(|s| s.parse().ok()).expect("an id that names its stream");
            last_seen.insert(stream, id);
        }
        match event.data {
            Some(data) if data.is_empty() => got.push(Got::Priming { own }),
            Some(text) => got.push(Got::Event { own, text }),
            None => {}
        }
    }
    got
}
