//! Who may call: from what was written to what we run.

use landbridge_proto::oauth::admission::Admission;
use landbridge_proto::oauth::challenge::is_scope;
use landbridge_proto::oauth::client::{Auth as ClientAuth, Client};
use landbridge_proto::oauth::jwk::Algorithm;
use landbridge_proto::oauth::redirect;
use landbridge_proto::oauth::secret::{Hash, Secret};
use landbridge_proto::oauth::token::Lifetimes;

use crate::auth::keys::Given;
use crate::config::check::{Check, expand};
use crate::config::suggest::did_you_mean;
use crate::config::{AuthConfig, ClientConfig, LoginConfig};
use crate::fetch::{Fetcher, Host, Reach};
use crate::foreign::{self, Foreign};
use crate::introspect;
use crate::login::{github, oidc};
use crate::plan::Rights;
use crate::plan::auth::{Auth, Login, Mode, Own, Scope};

/// The ways in.
const MODES: [&str; 5] = ["none", "keys", "oauth", "jwt", "introspection"];
/// Who can know users.
const PROVIDERS: [&str; 4] = ["local", "github", "google", "oidc"];
/// What tokens hold where nothing is said of it.
const DEFAULT_SCOPE: (&str, &str) = ("mcp", "Use the servers here in your name");

/// How long tokens live where nothing is said of it, in seconds: a quarter of an hour, and thirty days.
const DAY_S: u64 = 24 * 3600;
const DEFAULT_LIFETIMES: Lifetimes = Lifetimes { access_s: 15 * 60, refresh_s: 30 * DAY_S };

/// How often a provider is asked again about its user where nothing is said of it, in seconds: an hour.
const DEFAULT_ASK_AGAIN_S: u64 = 3600;

impl AuthConfig {
    /// What is said, or follows from what is: who names a provider wants to be asked.
    pub(crate) fn mode(&self) -> &str {
        let login = self.login != LoginConfig::default() || !self.clients.is_empty();
        self.mode.as_deref().unwrap_or(if login { "oauth" } else { "none" })
    }
}

impl Check<'_> {
    /// Who may call.
    pub(super) fn auth(&mut self) -> Auth {
        let config = &self.config.auth;
        let mode = match config.mode() {
            "none" => Mode::None,
            "keys" => Mode::Keys,
            "oauth" => self.own(config).map(|own| Mode::Own(Box::new(own))).unwrap_or_default(),
            mode @ ("jwt" | "introspection") => {
                self.foreign(mode, config).map(|settings| Mode::Foreign(Box::new(settings))).unwrap_or_default()
            }
            other => {
                let said = format!("auth.mode is {other:?}, and can be {}{}", MODES.join(", "), did_you_mean(other, MODES));
                self.fault(&["auth", "mode"], said);
                Mode::None
            }
        };
        for name in config.scopes.keys().filter(|name| !is_scope(name)) {
            self.fault(&["auth", "scopes", name], format!("{name:?} is no scope: use visible letters without quotes, such as files:read"));
        }
        let mut scopes: Vec<Scope> = config.scopes.iter().map(|(name, about)| Scope { name: name.clone(), about: about.clone() }).collect();
        if scopes.is_empty() && matches!(mode, Mode::Own(_)) {
            scopes.push(Scope { name: DEFAULT_SCOPE.0.into(), about: DEFAULT_SCOPE.1.into() });
        }
        let mut keys = config.keys.clone();
        if mode != Mode::None && keys.is_empty() {
            let (given, wrong) = Given::from_environment(std::env::vars());
            wrong.iter().for_each(|why| tracing::warn!("{why}; it is left out"));
            keys = given;
        }
        Auth { mode, scopes, keys, test_tokens: config.insecure_test_tokens, store: config.store.clone(), words: [None, None] }
    }

    fn own(&mut self, config: &AuthConfig) -> Option<Own> {
        let login = self.login(&config.login);
        let clients = config.clients.iter().filter_map(|(id, client)| self.client(id, client)).collect();
        let mut document_hosts = Vec::new();
        for (number, text) in config.document_hosts.iter().enumerate() {
            let host = Host::read(text).map_err(|why| {
                format!("auth.document_hosts: the host {text:?} {why}; write it as in a URL, with its port unless that is 443")
            });
            document_hosts.extend(self.must(&["auth", "document_hosts", &number.to_string()], host));
        }
        let seconds = |given: Option<u64>, usual| given.unwrap_or(usual);
        let lifetimes = Lifetimes {
            access_s: seconds(config.access_token_s, DEFAULT_LIFETIMES.access_s),
            refresh_s: seconds(config.refresh_token_s, DEFAULT_LIFETIMES.refresh_s),
        };
        // What a provider says of its users may change, and not every provider can be asked again.
        let usual = if matches!(login, Some(Login::Local)) { 365 * DAY_S } else { 90 * DAY_S };
        let agreement_s = seconds(config.agreement_s, usual);
        let all = [("access_token_s", lifetimes.access_s), ("refresh_token_s", lifetimes.refresh_s), ("agreement_s", agreement_s)];
        for (key, value) in all {
            if value < 10 {
                self.fault(&["auth", key], format!("auth.{key} must be 10 or more"));
            }
        }
        Some(Own {
            login: login?,
            clients,
            registration: config.registration.unwrap_or(true),
            client_documents: config.client_documents.unwrap_or(true),
            document_hosts,
            signed: config.signed,
            lifetimes,
            agreement_s,
            ask_again_s: seconds(config.login.ask_again_s, DEFAULT_ASK_AGAIN_S),
        })
    }

    fn foreign(&mut self, mode: &str, config: &AuthConfig) -> Option<foreign::Settings> {
        let Some(issuer) = config.issuer.clone().filter(|issuer| !issuer.is_empty()) else {
            self.fault(&["auth", "mode"], format!("auth.mode {mode} needs `issuer`: who issues the tokens, as it writes itself in them"));
            return None;
        };
        let check = match mode {
            "jwt" => config.jwks_url.clone().map_or(foreign::Check::Discovered, foreign::Check::KeysAt),
            _ => {
                let secret = config.client_secret.as_deref().map(expand).transpose();
                let secret = self.must(&["auth", "client_secret"], secret.map_err(|why| format!("auth.client_secret: {why}")))?;
                let (Some(client_id), Some(secret)) = (config.client_id.clone(), secret.map(Secret::new)) else {
                    let said = "auth.mode introspection needs `client_id` and `client_secret`: who we are at the issuer";
                    self.fault(&["auth", "mode"], said);
                    return None;
                };
                let method = match config.client_auth.as_deref() {
                    None | Some("basic") => introspect::Method::Basic,
                    Some("post") => introspect::Method::Post,
                    Some(other) => {
                        self.fault(&["auth", "client_auth"], format!("auth.client_auth is {other:?}, and can be basic or post"));
                        return None;
                    }
                };
                foreign::Check::Ask(config.introspection_url.clone(), introspect::Credentials { client_id, secret, method })
            }
        };
        let mut algorithms = Vec::new();
        for (number, name) in config.algorithms.iter().enumerate() {
            let known = || Algorithm::ALL.map(Algorithm::as_str);
            let unknown = || format!("auth.algorithms: {name:?} is none of {}{}", known().join(", "), did_you_mean(name, known()));
            algorithms.extend(self.must(&["auth", "algorithms", &number.to_string()], Algorithm::read(name).ok_or_else(unknown)));
        }
        if config.algorithms.is_empty() {
            algorithms = Algorithm::ALL.to_vec();
        }
        let leeway_s = config.leeway_s.unwrap_or(30);
        let settings =
            foreign::Settings { issuer, check, audiences: config.audience.clone(), algorithms, typ: config.typ.clone(), leeway_s };
        // What it would not take is told with its place.
        match Fetcher::new(Reach::Anywhere).and_then(|fetcher| Foreign::new(settings.clone(), fetcher)) {
            Ok(_) => Some(settings),
            Err(why) => {
                self.fault(&["auth"], format!("auth: {why}"));
                None
            }
        }
    }

    fn login(&mut self, config: &LoginConfig) -> Option<Login> {
        let at = |key: &'static str| ["auth", "login", key];
        let admission = Admission {
            users: config.users.clone(),
            organisations: config.organisations.clone(),
            domains: config.domains.clone(),
            emails: config.emails.clone(),
        };
        let provider = config.provider.as_deref().unwrap_or("local");
        if provider == "local" {
            if config.client_id.is_some() || config.client_secret.is_some() || config.ask_again_s.is_some() || !admission.is_empty() {
                self.fault(&at("provider"), "auth.login.provider is missing: accounts of our own need nothing of what is written here");
            }
            return Some(Login::Local);
        }
        if provider == "github" && (config.discovery_url.is_some() || !config.params.is_empty()) {
            self.fault(&at("provider"), "auth.login.provider is github, which has no `discovery_url` and no `params`");
        }
        let secret = config.client_secret.as_deref().map(expand).transpose();
        let secret = self.must(&at("client_secret"), secret.map_err(|why| format!("auth.login.client_secret: {why}")))?;
        let id = config.client_id.clone().unwrap_or_default();
        let (login, complaints) = match provider {
            "github" => {
                let mut settings = github::Settings::new(id, Secret::new(secret.unwrap_or_default()), admission);
                if let Some(web) = &config.issuer {
                    settings.web = web.trim_end_matches('/').to_owned();
                    settings.api = format!("{}/api/v3", settings.web);
                }
                let complaints = settings.complaints();
                (Login::GitHub(settings), complaints)
            }
            "google" => {
                let (discovery_url, params) = (config.discovery_url.clone(), config.params.clone());
                let google = oidc::Settings::google(id, Secret::new(secret.unwrap_or_default()), admission);
                let settings = oidc::Settings { discovery_url, params, ..google };
                let complaints = settings.complaints();
                (Login::Oidc(settings), complaints)
            }
            "oidc" => {
                let issuer = config.issuer.clone().unwrap_or_default();
                let host = issuer.split("://").nth(1).unwrap_or(&issuer).split('/').next().unwrap_or_default();
                let settings = oidc::Settings {
                    key: "oidc".into(),
                    label: host.to_owned(),
                    issuer,
                    discovery_url: config.discovery_url.clone(),
                    params: config.params.clone(),
                    client_id: id,
                    client_secret: secret.map(Secret::new),
                    admission,
                };
                let complaints = settings.complaints();
                (Login::Oidc(settings), complaints)
            }
            other => {
                let said =
                    format!("auth.login.provider is {other:?}, and can be {}{}", PROVIDERS.join(", "), did_you_mean(other, PROVIDERS));
                self.fault(&at("provider"), said);
                return None;
            }
        };
        for complaint in complaints {
            self.fault(&["auth", "login"], format!("auth.login {complaint}"));
        }
        Some(login)
    }

    fn client(&mut self, id: &str, config: &ClientConfig) -> Option<Client> {
        let path = ["auth", "clients", id];
        let said = |why: &str| format!("the client `{id}` {why}");
        if config.redirect_uris.is_empty() {
            self.fault(&path, said("needs `redirect_uris`: where its users are sent back to"));
        }
        let application = redirect::application_of(&config.redirect_uris);
        for uri in &config.redirect_uris {
            if let Err(why) = redirect::check(uri, application) {
                self.fault(&["auth", "clients", id, "redirect_uris"], said(&format!("has the redirect URI {uri:?}, which {why}")));
            }
        }
        let secret = config.secret.as_deref().map(expand).transpose();
        let secret = self.must(&["auth", "clients", id, "secret"], secret.map_err(|why| said(&format!("has a secret that {why}"))))?;
        if secret.as_ref().is_some_and(|secret| secret.len() < 16) {
            self.fault(&["auth", "clients", id, "secret"], said("has a secret of fewer than 16 characters, which could be guessed"));
        }
        Some(Client {
            id: id.to_owned(),
            name: config.name.clone().unwrap_or_else(|| id.to_owned()),
            home: None,
            redirect_uris: config.redirect_uris.clone(),
            application,
            auth: secret.map_or(ClientAuth::None, |secret| ClientAuth::Secret(Hash::of(&secret))),
            refreshes: true,
            scopes: config.scopes.clone(),
            known_since_s: 0,
            of_operator: true,
        })
    }

    /// What callers need for what.
    pub(super) fn rights(&mut self) -> std::collections::BTreeMap<String, Rights> {
        let mut all = std::collections::BTreeMap::new();
        let config = self.config;
        for (name, server) in config.servers.iter().filter(|(_, server)| !server.disabled) {
            let every = server.scopes.iter().chain(server.tools.scopes.values().flatten());
            for scope in every.filter(|scope| !is_scope(scope)) {
                self.fault(
                    &["servers", name, "scopes"],
                    format!("server `{name}`: {scope:?} is no scope: use visible letters without quotes"),
                );
            }
            let rights = Rights::new(&server.scopes, &server.tools.scopes).map_err(|why| format!("server `{name}`: tools.scopes: {why}"));
            if let Some(rights) = self.must(&["servers", name, "tools", "scopes"], rights) {
                if self.config.auth.mode() == "none" && rights != Rights::default() {
                    self.fault(
                        &["servers", name, "scopes"],
                        format!("server `{name}`: `scopes` mean nothing where nobody is asked who they are: set auth.mode"),
                    );
                }
                all.insert(name.clone(), rights);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::plan::auth::Mode;

    #[test]
    fn what_a_provider_says_of_users_holds_for_less_long() {
        let plan =
            |keys: &str| Config::parse("f", format!("[auth]\nmode = \"oauth\"\n{keys}\n[servers.a]\ndemo = true\n")).unwrap().check();
        let holds_s = |keys: &str| match plan(keys).unwrap().auth.mode {
            Mode::Own(own) => own.agreement_s,
            other => panic!("{other:?}"),
        };
        let github = "[auth.login]\nprovider = \"github\"\nclient_id = \"i\"\nclient_secret = \"s\"\norganisations = [\"o\"]";
        assert_eq!((holds_s(""), holds_s(github)), (365 * 86_400, 90 * 86_400));
        assert_eq!(holds_s(&format!("agreement_s = 3600\n{github}")), 3600);
        let said = plan("agreement_s = 5").unwrap_err().to_string();
        assert!(said.contains("auth.agreement_s must be 10 or more"), "{said}");
    }

    #[test]
    fn hosts_of_documents_are_named_one_by_one() {
        let written = |hosts: &str| format!("[auth]\nmode = \"oauth\"\ndocument_hosts = {hosts}\n[servers.a]\ndemo = true\n");
        let plan = |hosts: &str| Config::parse("f", written(hosts)).unwrap().check();
        let good = plan(r#"["docs.corp.example", "[::1]:8443", "10.1.2.3:8443"]"#).unwrap();
        let Mode::Own(own) = good.auth.mode else { panic!("{:?}", good.auth.mode) };
        assert_eq!(own.document_hosts.len(), 3);
        for (host, why) in [
            ("*.corp.example", "has no proper host"),
            ("https://docs.corp.example", "has no proper port"),
            ("docs.corp.example/clients", "has more than a name and a port"),
            ("127.1", "is a number but no IPv4 address"),
        ] {
            let said = plan(&format!("[{host:?}]")).unwrap_err().to_string();
            assert!(said.contains("auth.document_hosts") && said.contains(why) && said.contains(host), "{host}: {said}");
        }
    }
}
