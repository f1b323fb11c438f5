//! Which clients there are: the operator's, those that registered, and those that a document describes.

use serde::{Deserialize, Serialize};

use landbridge_proto::oauth::client::{Auth, Client, from_document, is_document};
use landbridge_proto::oauth::redirect::Application;
use landbridge_proto::oauth::secret::Hash;

use super::Desk;
use crate::auth::tokens::{read, write};
use crate::store::{Kind, Record, Trouble};

/// How long a client is kept to which somebody has agreed, at least, in seconds: a year.
const USED_TTL_S: u64 = 365 * 24 * 3600;

impl Desk<'_> {
    /// The client of that id.
    pub(super) async fn known_client(&self, id: &str) -> Result<Option<Client>, Trouble> {
        if let Some(client) = self.own.clients.iter().find(|client| client.id == id) {
            return Ok(Some(client.clone()));
        }
        if is_document(id) {
            return Ok(self.client_of_document(id).await);
        }
        let Some(record) = self.auth.store.get(Kind::Client, id, self.now_s).await? else { return Ok(None) };
        read::<Written>("client", &record)?.client().map(Some)
    }

    /// The client that the document at `url` describes; why there is none is logged.
    async fn client_of_document(&self, url: &str) -> Option<Client> {
        let found = match self.auth.strangers.as_ref()?.documents.get(url, self.now_s).await {
            Ok(document) => from_document(url, &document.text, self.now_s).map_err(|refusal| refusal.told),
            Err(trouble) => Err(trouble.to_string()),
        };
        found.inspect_err(|why| tracing::info!(url, why, "a client's document is no good")).ok()
    }

    /// Keeps a client that has registered.
    pub(super) async fn keep_client(&self, client: &Client, expires_s: u64) -> Result<(), Trouble> {
        let record = Record { value: write(&Written::of(client))?, expires_s: Some(expires_s) };
        self.auth.store.put(Kind::Client, &client.id, record).await
    }

    /// A user has agreed to this client: it is kept for as long as that holds, and a year at least, for it may keep its
    /// name for longer.
    pub(super) async fn client_is_used(&self, client: &Client) -> Result<(), Trouble> {
        if is_document(&client.id) || client.of_operator {
            return Ok(());
        }
        self.keep_client(client, self.now_s.saturating_add(self.own.agreement_s.max(USED_TTL_S))).await
    }
}

/// A client as it stands in the store.
#[derive(Serialize, Deserialize)]
struct Written {
    id: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    redirect_uris: Vec<String>,
    native: bool,
    /// The hash of its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    refreshes: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    since_s: u64,
}

impl Written {
    fn of(client: &Client) -> Written {
        Written {
            id: client.id.clone(),
            name: client.name.clone(),
            home: client.home.clone(),
            redirect_uris: client.redirect_uris.clone(),
            native: client.application == Application::Native,
            secret: match &client.auth {
                Auth::Secret(hash) => Some(hash.to_string()),
                Auth::None | Auth::Key(_) => None,
            },
            refreshes: client.refreshes,
            scopes: client.scopes.clone(),
            since_s: client.known_since_s,
        }
    }

    fn client(self) -> Result<Client, Trouble> {
        let auth = match self.secret {
            None => Auth::None,
            Some(hash) => Auth::Secret(Hash::read(&hash).ok_or_else(|| Trouble::Unusable("a client in the store cannot be read".into()))?),
        };
        Ok(Client {
            id: self.id,
            name: self.name,
            home: self.home,
            redirect_uris: self.redirect_uris,
            application: if self.native { Application::Native } else { Application::Web },
            auth,
            refreshes: self.refreshes,
            scopes: self.scopes,
            known_since_s: self.since_s,
            of_operator: false,
        })
    }
}
