//! A stream of changes of several servers, for those who are told of them without a session.
//!
//! Each server has one of its own; one acknowledgement says what of them all. One that ends, or could not be
//! opened, is tried again, after waits that grow; when it is back, whatever may have been missed is told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::debug;

use landbridge_proto::back::link::Key;
use landbridge_proto::bridge;
use landbridge_proto::call::Outcome;
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::message::{Id, Kind as MessageKind, META_SUBSCRIPTION, Message};
use landbridge_proto::methods::Method;
use landbridge_proto::subscribe::Filter;

use super::{Carrier, stateless_call};
use crate::backend::lock;
use crate::body::{Listened, StatelessListen};

/// How long the acknowledgement waits for theirs.
const PATIENCE: Duration = Duration::from_secs(8);
/// Changes that wait to be told.
const WAITING: usize = 256;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What is heard of a server.
enum Heard {
    /// It tells of this, as it is called in front; or it was tried in vain.
    Opened(Filter),
    /// Something changed.
    Change(Bytes),
}

impl Carrier {
    pub(super) async fn listen(self: &Arc<Self>, key: Key, id: &Id, message: &Message) -> Result<Outcome, Fault> {
        let wanted = Filter::read(message).map_err(|why| Fault::client(Kind::Params).tell(why))?;
        let (tell, mut told) = mpsc::channel(WAITING);
        let mut listening = tokio::task::JoinSet::new();
        let mut waiting = 0;
        for server in 0..self.seats.len() {
            let mut part = Filter { uris: Default::default(), ..wanted.clone() };
            {
                let directory = lock(&self.servers.directory);
                let uris = wanted.uris.iter().filter_map(|uri| directory.find_uri(uri));
                part.uris = uris.filter(|(of, _)| *of == server).map(|(_, own)| Arc::from(own)).collect();
            }
            if !part.is_empty() {
                listening.spawn(self.clone().listen_to(server, part, id.clone(), message.clone(), tell.clone()));
                waiting += 1;
            }
        }
        drop(tell);
        // A server that is not there yet may tell of its lists when it is.
        let mut granted = Filter { uris: Default::default(), ..wanted };
        let (mut early, until) = (Vec::new(), tokio::time::Instant::now() + PATIENCE);
        while waiting > 0 {
            match tokio::time::timeout_at(until, told.recv()).await {
                Ok(Some(Heard::Opened(filter))) => {
                    granted.union(&filter);
                    waiting -= 1;
                }
                Ok(Some(Heard::Change(line))) => early.push(line),
                _ => break,
            }
        }
        let ack = format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"{}\",\"params\":{{\"_meta\":{{\"{META_SUBSCRIPTION}\":{}}},\"notifications\":{}}}}}",
            Method::Acknowledged.as_str(),
            String::from_utf8_lossy(id.as_bytes()),
            granted.to_json()
        );
        self.operate(|link| {
            link.handle_line_of(key, ack.into());
            early.into_iter().for_each(|line| link.handle_line_of(key, line));
        });
        while let Some(heard) = told.recv().await {
            match heard {
                Heard::Change(line) => self.operate(|link| link.handle_line_of(key, line)),
                // It is there again, or at last.
                Heard::Opened(filter) => {
                    for notice in filter.notices() {
                        self.operate(|link| link.handle_line_of(key, bridge::tag(&notice.message, id.as_bytes())));
                    }
                }
            }
        }
        Ok(Outcome::Result(Bytes::from_static(b"{\"resultType\":\"complete\"}")))
    }

    async fn listen_to(self: Arc<Self>, server: usize, wanted: Filter, id: Id, message: Message, tell: mpsc::Sender<Heard>) {
        let (mut wait, mut tried) = (FIRST_WAIT, false);
        loop {
            match self.open_listen(server, &wanted, &id, &message).await {
                Ok(mut listen) => {
                    while let Some(said) = std::future::poll_fn(|cx| listen.poll_message(cx)).await {
                        let Ok(message) = Message::read(said) else { continue };
                        let heard = match &message.kind {
                            MessageKind::Notification(Method::Acknowledged) => {
                                (wait, tried) = (FIRST_WAIT, true);
                                Heard::Opened(self.in_front(server, Filter::read(&message).unwrap_or_default()))
                            }
                            MessageKind::Notification(_) => Heard::Change(self.fronted(server, &message, None)),
                            _ => break,
                        };
                        if tell.send(heard).await.is_err() {
                            return;
                        }
                    }
                }
                Err(fault) => debug!(server = self.servers.name(server), %fault, "it cannot be listened to"),
            }
            if !std::mem::replace(&mut tried, true) && tell.send(Heard::Opened(Filter::default())).await.is_err() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn open_listen(&self, server: usize, wanted: &Filter, id: &Id, message: &Message) -> Result<StatelessListen, Fault> {
        let client = stateless_call(&self.client, message.clone())?.client;
        let (gateway, backend) = (self.servers.gateway()?, self.servers.backend(server)?);
        let listening = gateway.listen(&backend, &client, id.clone(), wanted.clone()).await?;
        Ok(StatelessListen::new(Listened::Open(listening), id.clone()))
    }

    fn in_front(&self, server: usize, filter: Filter) -> Filter {
        let directory = lock(&self.servers.directory);
        Filter { uris: filter.uris.iter().map(|uri| directory.uri(server, uri).into()).collect(), ..filter }
    }
}
