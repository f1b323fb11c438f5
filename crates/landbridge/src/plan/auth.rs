//! Who may call, as planned.

use std::collections::BTreeMap;

use landbridge_proto::oauth::client::Client;
use landbridge_proto::oauth::token::Lifetimes;

use crate::auth::keys::Given;
use crate::fetch::Host;
use crate::foreign;
use crate::login::{github, oidc};
use crate::plan::Rights;
use crate::profile::Refusal;

/// Who may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Auth {
    /// How people show who they are.
    pub mode: Mode,
    /// What tokens can hold.
    pub scopes: Vec<Scope>,
    /// API keys of the environment.
    pub keys: Vec<Given>,
    /// Whether 32 digits of hexadecimal are a token, whoever has made them up.
    pub test_tokens: bool,
    /// Where everything is kept; `None`: at the usual place.
    pub store: Option<String>,
    /// A server's own words for callers without a credential, and for those with a bad one.
    pub words: [Option<Refusal>; 2],
}

impl Auth {
    /// Whether somebody issues tokens for us.
    pub fn has_issuer(&self) -> bool {
        matches!(self.mode, Mode::Own(_) | Mode::Foreign(_))
    }

    /// Whether we do.
    pub fn is_own(&self) -> bool {
        matches!(self.mode, Mode::Own(_))
    }

    /// Everything that a token can hold.
    pub fn every_scope(&self, rights: &BTreeMap<String, Rights>) -> Vec<String> {
        let named = self.scopes.iter().map(|scope| scope.name.as_str());
        let mut all: Vec<String> = named.chain(rights.values().flat_map(Rights::all)).map(str::to_owned).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What callers of these servers need.
    pub fn needs(&self, rights: &BTreeMap<String, Rights>, servers: Vec<String>) -> Needs {
        let of = |scopes: fn(&Rights) -> Vec<&str>| {
            let mut all: Vec<String> = servers.iter().filter_map(|name| rights.get(name)).flat_map(scopes).map(str::to_owned).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let (scopes, mut offered) = (of(|rights| rights.scopes.iter().map(String::as_str).collect()), of(|rights| rights.all().collect()));
        if offered.is_empty() {
            offered = self.scopes.iter().map(|scope| scope.name.clone()).collect();
        }
        Needs { servers, scopes, offered }
    }

    /// Who issues tokens for us, to a client that reached us at `base`.
    pub fn issuer(&self, base: &str) -> String {
        match &self.mode {
            Mode::Foreign(settings) => settings.issuer.clone(),
            _ => base.to_owned(),
        }
    }
}

/// What callers need for what is behind a mount.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// The server behind it; where there are several, all of them.
    pub servers: Vec<String>,
    /// What is needed to use it.
    pub scopes: Vec<String>,
    /// What a token for it can hold.
    pub offered: Vec<String>,
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
    Own(Box<Own>),
    /// By tokens of somebody else's, too.
    Foreign(Box<foreign::Settings>),
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
    pub clients: Vec<Client>,
    /// Whether strangers may register (RFC 7591).
    pub registration: bool,
    /// Whether a client may name itself by the URL of a document.
    pub client_documents: bool,
    /// Where such documents may be besides the public Internet.
    pub document_hosts: Vec<Host>,
    /// Whether access tokens are signed (RFC 9068), so that others can read them; else they say nothing.
    pub signed: bool,
    /// How long tokens live.
    pub lifetimes: Lifetimes,
    /// How long what a user agreed to holds, in seconds. Then they show anew who they are.
    pub agreement_s: u64,
    /// How often at most a provider is asked again whether its user may still come in, in seconds.
    pub ask_again_s: u64,
    /// How users show who they are.
    pub login: Login,
}

/// How users show who they are.
#[derive(Clone, Debug, PartialEq)]
pub enum Login {
    /// By accounts of our own: `landbridge user add`.
    Local,
    /// At GitHub.
    GitHub(github::Settings),
    /// At an OpenID Connect issuer.
    Oidc(oidc::Settings),
}
