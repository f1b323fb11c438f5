//! The stream of a session that belongs to no call: a GET, opened again as often as it ends.
//!
//! What a server asks or tells without saying for which call goes there, and many a server drops it while nobody
//! listens. So a session's first call is sent when its stream is there, or does not come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::debug;

use landbridge_proto::back::streamable::wait;
use landbridge_proto::json;
use landbridge_proto::sse::Decoded;

use super::Carrier;
use crate::backend::pool::Instance;
use crate::backend::pool::remote::is_events;
use crate::backend::pool::remote::stream::Stream;

/// A session's first call waits so long for its stream. Some servers begin the response when there is something to say.
const HEAD: Duration = Duration::from_secs(1);

/// Whether the streams of a server's sessions begin only when there is something to say, so that nobody waits for them.
#[derive(Debug, Default)]
pub(in crate::backend::pool::remote) struct Silent(AtomicBool);

/// Up to which session it is known whether its stream is there.
#[derive(Debug, Default)]
pub(super) struct Known(watch::Sender<u64>);

impl Known {
    fn of(&self, session: u64) {
        self.0.send_modify(|sessions| *sessions = (*sessions).max(session.saturating_add(1)));
    }

    /// There is none in any session.
    fn of_all(&self) {
        self.of(u64::MAX);
    }

    /// Waits until it is known of that session, but not for ever; whether there was anything to wait for.
    pub(super) async fn wait_for(&self, session: u64, silent: &Silent) -> bool {
        if *self.0.borrow() > session || silent.0.load(Ordering::Relaxed) {
            return false;
        }
        // Boxed, as every call would carry its size.
        Box::pin(async {
            let mut known = self.0.subscribe();
            if tokio::time::timeout(HEAD, known.wait_for(|sessions| *sessions > session)).await.is_err() {
                silent.0.store(true, Ordering::Relaxed);
            }
        })
        .await;
        true
    }
}

/// What the server says that belongs to no call.
pub(super) async fn listen(instance: Weak<Instance>, carrier: Arc<Carrier>) {
    while_offered(&instance, &carrier).await;
    carrier.aside.of_all();
}

/// The same, until the server turns out to offer no such stream.
async fn while_offered(instance: &Weak<Instance>, carrier: &Arc<Carrier>) {
    let mut stream = Stream::new(carrier.limit);
    let mut sessions = carrier.session.subscribe();
    let (mut failures, mut was_open, mut of) = (0, false, 0);
    // A stream of a new session is opened at once, but not for a server that forgets each session there.
    let mut hurries = false;
    loop {
        let session = sessions.borrow_and_update().clone();
        // Another session knows nothing of the events of the old one.
        if std::mem::replace(&mut of, session.number) != session.number {
            stream = Stream::new(carrier.limit);
        }
        let last_id = stream.last_id().map(str::to_owned);
        let asked = Instant::now();
        let opened = tokio::select! {
            biased;
            _ = sessions.changed() => continue,
            opened = carrier.open(&session, last_id.as_deref()) => opened,
        };
        if opened.is_ok() && asked.elapsed() < HEAD {
            carrier.site.silent.0.store(false, Ordering::Relaxed);
        }
        carrier.aside.of(session.number);
        match opened {
            Ok(response) if response.status().is_success() && is_events(&response) => {
                stream.connect(response);
                failures = 0;
                hurries = true;
                if std::mem::replace(&mut was_open, true) && last_id.is_none() {
                    instance.upgrade().inspect(Instance::missed);
                }
                let ended = loop {
                    let Some(strong) = instance.upgrade() else { return };
                    while let Some(decoded) = stream.next_here() {
                        strong.read_lines(|link| match decoded {
                            Decoded::Event(event) if event.is_message() => link.handle_line(json::on_one_line(&event.data)),
                            Decoded::Event(_) => {}
                            Decoded::TooLong { head, tail } => link.handle_too_long(&head, &tail, carrier.limit),
                        });
                    }
                    drop(strong);
                    tokio::select! {
                        biased;
                        // The stream was the old session's.
                        _ = sessions.changed() => break "the session is another".into(),
                        more = stream.more() => if let Err(why) = more {
                            break why;
                        },
                    }
                };
                debug!(server = carrier.site.name, why = ended, "its stream of notifications ended; opening it again");
            }
            Ok(response) if response.status().is_server_error() => failures += 1,
            // It offers none. What the status would be is not agreed upon (400, 404, 405, 406).
            Ok(_) if !was_open => return,
            Ok(response) if response.status().as_u16() == 404 && session.id.is_some() => {
                if carrier.renew(instance, session.number).await.is_err() {
                    failures += 1;
                }
            }
            Ok(_) => return,
            Err(trouble) => {
                failures += 1;
                debug!(server = carrier.site.name, %trouble, "its stream of notifications cannot be opened");
            }
        }
        if instance.upgrade().is_none_or(|instance| !instance.is_alive()) {
            return;
        }
        sessions.mark_unchanged();
        if hurries && carrier.session().number != session.number {
            hurries = false;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(wait(stream.retry_ms(), failures.max(1))) => {}
            // Whose session was forgotten meanwhile has another, and waits.
            _ = sessions.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_waited_for_in_a_servers_first_session_if_it_keeps_silent() {
        let waited = async |known: &Known, session, silent: &Silent| {
            let began = tokio::time::Instant::now();
            known.wait_for(session, silent).await;
            began.elapsed()
        };
        let (known, silent) = (Known::default(), Silent::default());
        assert_eq!(waited(&known, 0, &silent).await, HEAD);
        assert_eq!(waited(&known, 0, &silent).await, Duration::ZERO);
        assert_eq!(waited(&Known::default(), 0, &silent).await, Duration::ZERO);

        let silent = Silent::default();
        let soon = async {
            tokio::time::sleep(HEAD / 4).await;
            known.of(0);
        };
        assert_eq!(tokio::join!(waited(&known, 0, &silent), soon).0, HEAD / 4);
        assert_eq!(waited(&known, 0, &silent).await, Duration::ZERO);
        known.of(4);
        known.of(2);
        assert_eq!(waited(&known, 4, &silent).await, Duration::ZERO);
        assert_eq!(waited(&known, 5, &silent).await, HEAD);
        known.of_all();
        assert_eq!(waited(&known, 6, &Silent::default()).await, Duration::ZERO);
    }
}
