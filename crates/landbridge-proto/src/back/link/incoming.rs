//! What the server says: whose answer, progress or log a line is, and what is nobody's.

use bytes::Bytes;

use super::{Event, Key, Link, What};
use crate::bridge;
use crate::call::{Note, Notice, Outcome, Reply};
use crate::fault::{Fault, Kind as FaultKind};
use crate::json;
use crate::message::{Id, Kind, META_SUBSCRIPTION, Message};
use crate::methods::Method;

/// Where a line of the server came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// The one there is for everything.
    All,
    /// That call's own.
    Of(Key),
    /// The same, in a session that the server has forgotten.
    OfLost(Key),
    /// One beside those of the calls: what is on it is no call's.
    Apart,
}

impl Link {
    /// A line of the server.
    pub fn handle_line(&mut self, line: Bytes) {
        self.handle(line, Stream::All);
    }

    /// A line of the server on the stream of that call.
    pub fn handle_line_of(&mut self, key: Key, line: Bytes) {
        self.handle(line, Stream::Of(key));
    }

    /// The same, where the line has been read.
    pub fn handle_message_of(&mut self, key: Key, message: Message) {
        self.handle_message(message, Stream::Of(key));
    }

    /// The same, where the server has forgotten the session that the call was sent in. What it asks there has
    /// nowhere to be answered: in the new session its number may be another question's.
    pub fn handle_line_of_lost(&mut self, key: Key, line: Bytes) {
        self.handle(line, Stream::OfLost(key));
    }

    /// A line of the server on a stream beside those of all calls.
    pub fn handle_line_apart(&mut self, line: Bytes) {
        self.handle(line, Stream::Apart);
    }

    fn handle(&mut self, line: Bytes, stream: Stream) {
        match Message::read(line.clone()) {
            Ok(message) => self.handle_message(message, stream),
            Err(bad) => self.stray(format!("{}: {}", bad.why, excerpt(&line))),
        }
    }

    fn handle_message(&mut self, message: Message, stream: Stream) {
        match message.kind.clone() {
            Kind::Response(id, answer) => self.handle_answer(id, answer, &message),
            Kind::Notification(Method::Log) if stream == Stream::Apart => {
                self.events.push_back(Event::Notice(Notice::read(Method::Log, &message)));
            }
            Kind::Notification(Method::Cancelled) | Kind::Request(..) if matches!(stream, Stream::OfLost(_)) => {
                self.stray("a question, or the end of one, in a session that is over".into());
            }
            Kind::Notification(method) => match stream {
                Stream::Of(key) | Stream::OfLost(key) if method == Method::Log => self.handle_log_of(key, Notice::read(method, &message)),
                _ => self.handle_notification(method, message),
            },
            // Where calls have streams of their own, what was on its way may come behind the end.
            Kind::Request(..) if self.closed.is_some() => {}
            // A server that does not read is owed no more than it may be written.
            Kind::Request(..) if self.out_bytes >= self.limits.write_bytes => self.stray("a request, though it does not read".into()),
            Kind::Request(id, Method::Ping) => {
                let line = [b"{\"jsonrpc\":\"2.0\",\"id\":", id.as_bytes(), b",\"result\":{}}\n"].concat();
                self.send(What::Answer(self.sessions), line.into());
            }
            Kind::Request(id, method) => self.handle_ask(id, method, message, stream),
        }
    }

    /// A line beyond the limit went by. The call it answers fails, if that can be told.
    pub fn handle_too_long(&mut self, head: &[u8], tail: &[u8], limit: usize) {
        let named: Vec<Key> = ids_in(head).into_iter().chain(ids_in(tail)).map(Key::of_id).collect();
        let live = named.iter().copied().find(|k| self.live(*k).is_some());
        // Where it names somebody, and nobody is there, it was for a call that is over.
        let key = live.or_else(|| named.is_empty().then(|| self.slots.only(|l| !l.listen && !l.done)).flatten());
        // A request or a notification answers nothing.
        let key = key.filter(|_| !has_method(head));
        match key {
            // It is an answer to a call that is over: all that counts is that there is one.
            Some(key) if self.live(key).is_some_and(|l| l.cut) => self.handle_end_of_cut(key),
            Some(key) => {
                let fault = Fault::backend("", FaultKind::Backend)
                    .tell(format!("the server's answer is larger than the limit of {limit} bytes for one message"));
                self.push(key, Reply::Done(Outcome::Fault(fault)));
            }
            None => self.stray(format!("a message beyond the limit of {limit} bytes, for no call that is under way")),
        }
    }

    /// The server has noticed that a call is over, or was faster: it will ask nothing more for it.
    pub(super) fn handle_end_of_cut(&mut self, key: Key) {
        let Some(live) = self.live(key) else { return };
        live.cut = false;
        if live.ghost {
            self.release(key);
        } else {
            self.settle_held(key);
        }
        self.stray("an answer to a call that is over".into());
    }

    fn handle_answer(&mut self, id: Option<Id>, answer: Result<json::Span, json::Span>, message: &Message) {
        let key = id.as_ref().and_then(Id::as_number).map(Key::of_id);
        let is_cut = key.is_some_and(|key| self.live(key).is_some_and(|l| l.cut));
        let is_awaited = key.is_some_and(|key| self.live(key).is_some_and(|l| !l.done));
        if let Ok(result) = answer
            && key.is_some()
            && (is_cut || !is_awaited)
        {
            self.end_task_of(result.of_bytes(&message.bytes));
        }
        if let Some(key) = key.filter(|_| is_cut) {
            return self.handle_end_of_cut(key);
        }
        let Some(key) = key.filter(|_| is_awaited) else {
            // To the meeting's own requests a late answer is no news. What is in it is not for our
            // log: it may be the result of a call that was withdrawn.
            if !id.as_ref().is_some_and(|id| id.as_bytes().starts_with(b"\"landbridge-")) {
                self.stray("an answer nobody asked for".into());
            }
            return;
        };
        let outcome = match answer {
            Ok(result) => Outcome::Result(message.slice(result)),
            Err(error) => Outcome::Error(message.slice(error)),
        };
        self.push(key, Reply::Done(outcome));
    }

    fn handle_notification(&mut self, method: Method, message: Message) {
        match method {
            Method::Progress => {
                let [token, progress] = message.params_fields(&["progressToken", "progress"]).unwrap_or_default();
                let key = token.and_then(|t| message.text(t).parse().ok()).map(Key::of_id);
                let Some((key, at)) = key.zip(token) else { return self.stray("progress without a token of ours".into()) };
                // After the call has ended nobody wants its progress.
                let Some(live) = self.live(key) else { return };
                let Some(client_token) = live.token.clone() else { return };
                // Clients may take a value that does not grow for an error of ours.
                if !live.progress.passes(progress.map(|at| message.text(at))) {
                    return;
                }
                let text = json::splice(&message.bytes, &[(at, &client_token)]);
                self.push(key, Reply::Note(Note { method, message: text.into() }));
            }
            Method::Cancelled => {
                let [id] = message.params_fields(&["requestId"]).unwrap_or_default();
                let Some(raw) = id.map(|at| message.text(at)) else { return };
                // Either the server withdraws a question, or it ends a listen of ours (stdio).
                let ticket = self.asks.iter().find(|(_, (id, _))| id.as_bytes() == raw.as_bytes()).map(|(t, _)| *t);
                if let Some((ticket, (_, of))) = ticket.and_then(|ticket| self.asks.remove_entry(&ticket)) {
                    self.handle_withdrawn(ticket, of);
                } else if let Some(key) = raw.parse().ok().map(Key::of_id)
                    && self.live(key).is_some_and(|l| l.listen)
                {
                    self.push(key, Reply::Done(Outcome::Result(Bytes::from_static(b"{}"))));
                }
            }
            Method::Acknowledged => {
                if let Some(key) = subscription(&message).map(Key::of_id)
                    && self.live(key).is_some_and(|l| l.listen)
                {
                    self.push(key, Reply::Note(Note { method, message: message.bytes }));
                }
            }
            Method::Log => {
                let notice = Notice::read(method, &message);
                match self.logger(notice.level) {
                    Some(key) => self.push(key, Reply::Note(Note { method: Method::Log, message: notice.message })),
                    None => self.events.push_back(Event::Notice(notice)),
                }
            }
            method => {
                let mut notice = Notice::read(method, &message);
                if subscription(&message).is_some() {
                    notice.message = bridge::untag(&notice.message);
                }
                self.events.push_back(Event::Notice(notice));
            }
        }
    }

    fn stray(&mut self, what: String) {
        self.events.push_back(Event::Stray(what));
    }
}

/// The number of the listen a notification belongs to.
fn subscription(message: &Message) -> Option<u64> {
    let [meta] = message.params_fields(&["_meta"]).ok()?;
    let [id] = message.fields_at(meta?, &[META_SUBSCRIPTION]).ok()?;
    message.text(id?).parse().ok()
}

/// The numbers behind each `"id":` in a piece of a message: one may be its own.
fn ids_in(piece: &[u8]) -> Vec<u64> {
    let numbers = memchr::memmem::find_iter(piece, b"\"id\":").map(|at| {
        let digits = piece[at + 5..].iter().copied().skip_while(|b| *b == b' ').take_while(u8::is_ascii_digit);
        digits.fold(0_u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')))
    });
    numbers.collect()
}

/// Whether the message that begins like this is a request or a notification: its method comes
/// before its body.
fn has_method(head: &[u8]) -> bool {
    let at = |word: &[u8]| memchr::memmem::find(head, word).unwrap_or(usize::MAX);
    let body = at(b"\"result\"").min(at(b"\"error\"")).min(at(b"\"params\""));
    at(b"\"method\"") < body
}

fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
