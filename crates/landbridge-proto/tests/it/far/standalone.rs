//! The stream of what belongs to no call: GET of a session, and the one of HTTP+SSE.

use std::time::Instant;

use landbridge_proto::back::link::Link;
use landbridge_proto::back::streamable::{Opened, wait};
use landbridge_proto::fault::Kind as FaultKind;
use landbridge_proto::sse::Decoder;

use super::{Far, For, Out, Said, Session};

pub(super) struct Standalone {
    stream: Decoder,
    state: State,
    was_open: bool,
    failures: u32,
    /// The session that it was opened in.
    session: Session,
    limit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    None,
    Opening,
    Open,
    /// It is opened again then.
    Waiting(Instant),
    /// The session is gone, and another is opened.
    Refused,
}

impl Standalone {
    pub(super) fn new(limit: usize) -> Standalone {
        let session = Session::default();
        Standalone { stream: Decoder::new(limit), state: State::None, was_open: false, failures: 0, session, limit }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// The stream of HTTP+SSE.
    pub(super) fn open(stream: Decoder, limit: usize) -> Standalone {
        Standalone { stream, state: State::Open, ..Standalone::new(limit) }
    }
}

impl Far {
    pub(super) fn open_standalone(&mut self, last_id: Option<String>) {
        self.standalone.session = self.session.clone();
        self.standalone.state = State::Opening;
        let mut headers = self.session_headers(&self.session);
        headers.extend(last_id.map(|id| ("last-event-id".to_owned(), id)));
        self.request(For::Standalone, None, headers);
    }

    pub(super) fn handle_standalone(&mut self, link: &mut Link, said: Said<'_>, now: Instant) {
        match said {
            Said::Bytes(bytes) => {
                for line in Far::events(&mut self.standalone.stream, bytes) {
                    match line {
                        Ok(line) => link.handle_line(line),
                        Err((head, tail)) => link.handle_too_long(&head, &tail, self.limit),
                    }
                }
            }
            Said::Breaks if self.pipe => {
                let fault = self.fault(FaultKind::Unreachable, "broke off: its stream ended");
                link.handle_closed(fault);
            }
            // It is the old session's, though it came late.
            Said::Stream if self.standalone.session.number != self.session.number => {
                self.under_way.retain(|_, what| *what != For::Standalone);
                self.begin_standalone_anew(now);
            }
            Said::Stream => {
                let resumed = self.standalone.stream.last_id().is_some();
                let standalone = &mut self.standalone;
                standalone.stream.reconnected();
                (standalone.state, standalone.failures) = (State::Open, 0);
                if std::mem::replace(&mut standalone.was_open, true) && !resumed {
                    self.out.push_back(Out::Missed);
                }
            }
            Said::Breaks => self.standalone_later(now),
            Said::Whole { status, .. } => match Opened::by(status, false) {
                Opened::Later => self.standalone_later(now),
                _ if self.standalone.was_open && status == 404 && self.standalone.session.id.is_some() => {
                    if self.standalone.session.number == self.session.number {
                        self.standalone.state = State::Refused;
                        self.renew();
                    } else {
                        self.begin_standalone_anew(now);
                    }
                }
                _ => self.standalone.state = State::None,
            },
        }
    }

    /// No other session could be had.
    pub(super) fn handle_not_renewed_standalone(&mut self, now: Instant) {
        if self.standalone.state == State::Refused {
            self.standalone_later(now);
        }
    }

    fn standalone_later(&mut self, now: Instant) {
        let standalone = &mut self.standalone;
        if standalone.state != State::Open {
            standalone.failures += 1;
        }
        standalone.state = State::Waiting(now + wait(standalone.stream.retry_ms(), standalone.failures.max(1)));
    }

    fn begin_standalone_anew(&mut self, now: Instant) {
        self.standalone.stream = Decoder::new(self.standalone.limit);
        self.standalone.state = State::Waiting(now + wait(None, 1));
    }

    /// There is another session: what was the old one's is over.
    pub(super) fn handle_renewed_standalone(&mut self, now: Instant) {
        match self.standalone.state {
            State::Refused => self.begin_standalone_anew(now),
            State::Open => {
                self.under_way.retain(|_, what| *what != For::Standalone);
                self.begin_standalone_anew(now);
            }
            State::Waiting(_) => self.standalone.stream = Decoder::new(self.standalone.limit),
            State::Opening | State::None => {}
        }
    }

    pub(super) fn handle_timeout_of_standalone(&mut self, now: Instant) {
        if matches!(self.standalone.state, State::Waiting(until) if until <= now) {
            let last_id = self.standalone.stream.last_id().map(str::to_owned);
            self.open_standalone(last_id);
        }
    }
}
