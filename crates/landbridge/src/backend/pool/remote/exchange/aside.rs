//! The stream of a session that belongs to no call: a GET, opened again as often as it ends.

use std::sync::{Arc, Weak};

use tracing::debug;

use landbridge_proto::back::streamable::wait;
use landbridge_proto::json;
use landbridge_proto::sse::Decoded;

use super::Carrier;
use crate::backend::pool::Instance;
use crate::backend::pool::remote::is_events;
use crate::backend::pool::remote::stream::Stream;

/// What the server says that belongs to no call.
pub(super) async fn listen(instance: Weak<Instance>, carrier: Arc<Carrier>) {
    let mut stream = Stream::new(carrier.limit);
    let mut sessions = carrier.session.subscribe();
    let (mut failures, mut was_open, mut of) = (0, false, 0);
    loop {
        let session = sessions.borrow_and_update().clone();
        // Another session knows nothing of the events of the old one.
        if std::mem::replace(&mut of, session.number) != session.number {
            stream = Stream::new(carrier.limit);
        }
        let last_id = stream.last_id().map(str::to_owned);
        match carrier.open(&session, last_id.as_deref()).await {
            Ok(response) if response.status().is_success() && is_events(&response) => {
                stream.connect(response);
                failures = 0;
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
                if carrier.renew(&instance, session.number).await.is_err() {
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
        tokio::time::sleep(wait(stream.retry_ms(), failures.max(1))).await;
    }
}
