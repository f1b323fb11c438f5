//! Who may call, as planned.

use crate::auth::keys::Given;

/// Who may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth {
    /// How people show who they are.
    pub mode: Mode,
    /// What tokens can hold.
    pub scopes: Vec<Scope>,
    /// Audiences that mean all of us, besides our URLs.
    pub audiences: Vec<String>,
    /// API keys of the environment.
    pub keys: Vec<Given>,
    /// Where everything is kept; `None`: at the usual place.
    pub store: Option<String>,
    /// Our issuer, where that is not the public URL.
    pub issuer: Option<String>,
}

impl Auth {
    /// Whether somebody issues tokens for us.
    pub fn has_issuer(&self) -> bool {
        matches!(self.mode, Mode::Own(_))
    }

    /// Whether we do.
    pub fn is_own(&self) -> bool {
        matches!(self.mode, Mode::Own(_))
    }

    /// Our issuer, to a client that reached us at `base`.
    pub fn issuer(&self, base: &str) -> String {
        self.issuer.clone().unwrap_or_else(|| base.to_owned())
    }
}

/// How people show who they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mode {
    /// Nobody is asked.
    #[default]
    None,
    /// By API keys, and nothing else.
    Keys,
    /// By tokens of our own authorization server, too.
    Own(Own),
}

/// What tokens can hold, and how a user reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// As it stands in tokens.
    pub name: String,
    /// A sentence for the consent page.
    pub about: String,
}

/// Our own authorization server.
#[derive(Clone, Debug, PartialEq)]
pub struct Own {
    /// Clients that are known beforehand.
    pub clients: Vec<landbridge_proto::oauth::client::Client>,
    /// Whether strangers may register (RFC 7591).
    pub registration: bool,
    /// Whether a client may name itself by the URL of a document.
    pub client_documents: bool,
    /// How long tokens live.
    pub lifetimes: landbridge_proto::oauth::token::Lifetimes,
}
