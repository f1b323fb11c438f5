//! Several servers as one: what is behind `/mcp` and `/sse` when there are more than one.
//!
//! Two pools, one for each era of clients, so that each is spoken to as it speaks and only the servers
//! themselves are translated for. What an instance of these does is in `pool/merged`.

use std::sync::{Arc, Weak};

use landbridge_proto::abilities::Abilities;
use landbridge_proto::call::{Client, Server};
use landbridge_proto::version::{Era, Revision};

use crate::backend::mirrors::Facts;
use crate::backend::pool::{Pool, Servers};
use crate::gateway::Gateway;
use crate::plan::{Limits, ToolFilter};

/// Several servers as one.
#[derive(Debug)]
pub struct Merged {
    servers: Arc<Servers>,
    /// For handshake clients: an instance for each session.
    pub(super) handshake: Arc<Pool>,
    /// For stateless clients: one for all.
    pub(super) stateless: Arc<Pool>,
    /// Each server has its own; here nothing is kept back.
    pub(super) tools: Arc<ToolFilter>,
}

impl Merged {
    /// What it is called. No server is called so, for its name would have no space.
    pub const NAME: &str = "all servers";

    /// These servers of that gateway.
    pub fn new(gateway: Weak<Gateway>, names: impl IntoIterator<Item = String>, limits: Limits) -> Merged {
        let servers = Arc::new(Servers::new(gateway, names));
        let pool = |era| Arc::new(Pool::merged(Merged::NAME, servers.clone(), era, limits));
        Merged { handshake: pool(Era::Handshake), stateless: pool(Era::Stateless), tools: Arc::default(), servers }
    }

    /// Both of its pools.
    pub(crate) fn pools(&self) -> [&Arc<Pool>; 2] {
        [&self.handshake, &self.stateless]
    }

    /// What it says of itself to stateless clients by now.
    pub fn introduction(&self) -> Option<Server> {
        Server::read(Revision::NEWEST, self.servers.hello(Revision::NEWEST), Merged::NAME).ok()
    }

    /// Whose tool that is, and how it is called there, as far as is known without asking.
    pub fn whose(&self, called: &str) -> Option<(String, String)> {
        self.servers.find(called).map(|(backend, tool)| (backend.name().to_owned(), tool))
    }

    /// What is special about a tool, as its own server has it. Nobody else is asked, and nobody for whom it
    /// is not known whose it is.
    pub async fn facts(&self, called: &str, client: &Client) -> Option<Facts> {
        let (backend, tool) = self.servers.find(called)?;
        backend.shared(Abilities::of(client), &client.principal).await.ok()?.facts(&tool).await
    }
}
