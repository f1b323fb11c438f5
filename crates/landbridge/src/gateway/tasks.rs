//! Calls that become tasks, and requests that are about one: for which clients, at which servers. How a task crosses
//! between the eras is said in [`backend::tasks`](crate::backend::tasks).

use std::sync::Arc;

use landbridge_proto::bridge::crossing::Tasks;
use landbridge_proto::call::{Call, Client};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::methods::Method;
use landbridge_proto::tasks::{TaskSupport, augmented, declares_tasks, plain, with_extension};
use landbridge_proto::version::{Era, Revision};

use crate::backend::tasks::{self, Errand};
use crate::backend::{Backend, Passage, Peer, Replies};
use crate::gateway::{Gateway, is_too_old_for};

/// A call as its server gets it, what becomes of a task that it makes of it, and what its outcome needs
/// because of that.
pub(super) type Tasked = (Box<Call>, Tasks, Option<Box<Errand>>);

impl Gateway {
    /// What tasks mean for a session's call: whether it may become one, and who gets that.
    pub(super) fn with_tasks_of_session(
        &self,
        backend: &Arc<Backend>,
        peer: &Peer,
        mut call: Box<Call>,
        support: TaskSupport,
    ) -> Result<Tasked, Fault> {
        let too_old = is_too_old_for(&call, peer);
        if call.method != Method::ToolsCall || !peer.server().can.tasks || !(peer.is_shared() || too_old) {
            return Ok((call, Tasks::Follow, None));
        }
        if peer.server().era() == Era::Handshake {
            if !too_old {
                return Ok((call, Tasks::Follow, Some(self.errand(backend, peer, None, false))));
            }
            // A server that clients share speaks 2025-11-25 with all of them. And some that speak an older
            // revision with a session of their own, as the TypeScript SDK does, want tasks all the same.
            let bytes = match support {
                TaskSupport::Required => augmented(&call.message, None),
                _ if call.params.task.is_some() => plain(&call.message),
                _ => return Ok((call, Tasks::Follow, None)),
            };
            return Ok((tasks::boxed(&call, bytes)?, Tasks::FollowAnyway, None));
        }
        // To a stateless server a task is its own idea, of which it tells only who declares them.
        let wanted = call.params.task.is_some() && call.client.revision == Revision::V2025_11_25;
        if call.params.task.is_some() {
            call = tasks::boxed(&call, plain(&call.message))?;
        }
        call.client = Arc::new(Client {
            revision: call.client.revision,
            principal: call.client.principal.clone(),
            transport: call.client.transport,
            info: call.client.info.clone(),
            capabilities: with_extension(&call.client.capabilities),
        });
        let tasks = if wanted { Tasks::HandOver } else { Tasks::Follow };
        Ok((call, tasks, Some(self.errand(backend, peer, None, wanted))))
    }

    /// The same for a stateless client's call.
    pub(super) fn with_tasks(&self, backend: &Arc<Backend>, peer: &Peer, call: Box<Call>, support: TaskSupport) -> Result<Tasked, Fault> {
        if call.method != Method::ToolsCall || !peer.server().can.tasks {
            return Ok((call, Tasks::Follow, None));
        }
        let errand = Some(self.errand(backend, peer, None, false));
        if peer.server().era() == Era::Stateless {
            return Ok((call, Tasks::Follow, errand));
        }
        let tasks = match (support, declares_tasks(&call.client.capabilities)) {
            (TaskSupport::Optional | TaskSupport::Required, true) => Tasks::HandOver,
            (TaskSupport::Required, false) => Tasks::Follow,
            // The word means nothing to this client's revision.
            (TaskSupport::Optional, false) | (TaskSupport::Forbidden, _) if call.params.task.is_some() => {
                let bytes = plain(&call.message);
                return Ok((tasks::boxed(&call, bytes)?, Tasks::Follow, errand));
            }
            (TaskSupport::Optional, false) | (TaskSupport::Forbidden, _) => return Ok((call, Tasks::Follow, errand)),
        };
        let bytes = augmented(&call.message, None);
        Ok((tasks::boxed(&call, bytes)?, tasks, errand))
    }

    fn errand(&self, backend: &Arc<Backend>, peer: &Peer, asked: Option<String>, wanted: bool) -> Box<Errand> {
        Box::new(Errand { lot: self.lot.clone(), name: backend.name().to_owned(), peer: peer.clone(), asked, wanted })
    }

    /// A client asks about a task of a server that clients share: `peer`, or another of its instances.
    pub(super) fn task_request(&self, backend: &Arc<Backend>, peer: &Peer, call: Call) -> Result<Replies, Fault> {
        if !tasks::are_known(&call.client, peer) {
            return Err(Fault::client(Kind::UnknownMethod).tell(format!("Method not found: {}", call.method.as_str())));
        }
        let client_era = call.client.revision.era();
        if client_era == Era::Stateless && !declares_tasks(&call.client.capabilities) {
            return Err(tasks::undeclared());
        }
        let named = self.lot.named_task(&call, backend.name())?;
        if let Some(outcome) = tasks::of_ended(&self.lot, &call, &named) {
            return Ok(Replies::ready(&call, outcome));
        }
        let server_era = peer.server().era();
        let peer = match (backend.peer(named.ordinal), server_era) {
            (Some(peer), _) => peer,
            // A stateless server may know the task in its next instance, too.
            (None, Era::Stateless) => peer.clone(),
            (None, Era::Handshake) => return Err(tasks::unknown()),
        };
        match (client_era, server_era) {
            (Era::Stateless, Era::Handshake) => {
                let (lot, asked) = (self.lot.clone(), call.clone());
                Ok(Replies::later(&call, tasks::of_handshake_server(lot, peer, asked, named)))
            }
            (Era::Handshake, Era::Stateless) if call.method == Method::TaskResult => {
                let errand = self.errand(backend, &peer, Some(named.sealed), false);
                peer.follow(call, self.way(backend), &named.id, errand)
            }
            (Era::Handshake, Era::Stateless) => {
                let asked = call.clone();
                Ok(Replies::later(&call, tasks::of_stateless_server(peer, asked, named)))
            }
            _ => {
                let errand = Some(self.errand(backend, &peer, Some(named.sealed.clone()), false));
                let call = tasks::under_its_own_id(&call, &named)?;
                peer.begin(Box::new(call), Passage { errand, ..Passage::default() })
            }
        }
    }
}
