//! Our own file: what each key means, and what is said of keys that are none of ours.

use clap::ValueEnum;

use landbridge_proto::oauth::secret::Secret;

use crate::config::fault::Fault;
use crate::config::suggest::did_you_mean;
use crate::config::tree::{Entry, Node, Value};
use crate::config::{
    AccessConfig, AcmeConfig, AuditConfig, AuthConfig, ClientConfig, Config, LoginConfig, ServerConfig, TlsConfig, Written,
};
use crate::plan::{Limits, Rates};

/// Every key of the file.
pub const KEYS: [&str; 12] = [
    "listen",
    "public_url",
    "trusted_proxies",
    "allow_hosts",
    "allow_origins",
    "insecure_public",
    "tls",
    "auth",
    "servers",
    "limits",
    "rates",
    "audit",
];

/// Every key of `auth`.
pub const AUTH_KEYS: [&str; 22] = [
    "mode",
    "scopes",
    "store",
    "login",
    "registration",
    "client_documents",
    "document_hosts",
    "clients",
    "signed",
    "access_token_s",
    "refresh_token_s",
    "agreement_s",
    "issuer",
    "audience",
    "algorithms",
    "typ",
    "leeway_s",
    "jwks_url",
    "introspection_url",
    "client_id",
    "client_secret",
    "client_auth",
];

const LOGIN_KEYS: [&str; 11] = [
    "provider",
    "issuer",
    "discovery_url",
    "params",
    "client_id",
    "client_secret",
    "users",
    "organisations",
    "domains",
    "emails",
    "ask_again_s",
];
const CLIENT_KEYS: [&str; 4] = ["name", "secret", "redirect_uris", "scopes"];

/// Every key of `audit`.
pub const AUDIT_KEYS: [&str; 2] = ["file", "calls"];

/// Every key of `tls`.
pub const TLS_KEYS: [&str; 3] = ["cert", "key", "acme"];

/// Every key of `tls.acme`.
pub const ACME_KEYS: [&str; 5] = ["domains", "contact", "directory", "cache", "ca"];

/// Every key of one server.
pub const SERVER_KEYS: [&str; 14] = [
    "command",
    "args",
    "env",
    "cwd",
    "url",
    "headers",
    "transport",
    "auth",
    "protocol",
    "isolation",
    "scopes",
    "tools",
    "demo",
    "disabled",
];

/// Every key of a server's `auth`.
pub const ACCESS_KEYS: [&str; 8] =
    ["client_id", "client_secret", "private_key", "key_alg", "audience", "scope", "per_user", "client_metadata_url"];

/// Every key of a server's `tools`.
pub const TOOLS_KEYS: [&str; 3] = ["allow", "deny", "scopes"];

/// Reads a file of ours.
pub(super) fn read(tree: &Node, mut written: Written, faults: &mut Vec<Fault>) -> Config {
    written.keep_places(&mut Vec::new(), tree);
    let mut config = Config { written, ..Config::default() };
    let mut reader = Reader { faults };
    for entry in tree.entries() {
        match entry.key.as_str() {
            "listen" => config.listen = reader.text(entry),
            "public_url" => config.public_url = reader.text(entry),
            "trusted_proxies" => config.trusted_proxies = reader.texts(entry),
            "allow_hosts" => config.allow_hosts = reader.texts(entry),
            "allow_origins" => config.allow_origins = reader.texts(entry),
            "insecure_public" => config.insecure_public = reader.flag(entry),
            "tls" => config.tls = reader.tls(entry),
            "servers" => {
                for entry in reader.table(entry, "a table of servers, such as [servers.files]") {
                    config.servers.insert(entry.key.clone(), reader.server(entry));
                }
            }
            "auth" => config.auth = reader.auth(entry),
            "limits" => config.limits = reader.limits(entry),
            "rates" => config.rates = reader.rates(entry),
            "audit" => config.audit = reader.audit(entry),
            _ => reader.unknown(entry, "", &KEYS),
        }
    }
    config
}

/// Takes values of the types that keys want, and notes where they are of others.
struct Reader<'f> {
    faults: &'f mut Vec<Fault>,
}

impl Reader<'_> {
    fn server(&mut self, entry: &Entry) -> ServerConfig {
        let mut server = ServerConfig::default();
        for entry in self.table(entry, "a table with a `command` or a `url`") {
            match entry.key.as_str() {
                "command" => server.command = self.text(entry),
                "args" => server.args = self.texts(entry),
                "env" => server.env = self.map(entry),
                "cwd" => server.cwd = self.text(entry).map(Into::into),
                "url" => server.url = self.text(entry),
                "headers" => server.headers = self.map(entry),
                "transport" => server.transport = self.choice(entry),
                "auth" => server.auth = Some(self.access(entry)),
                "protocol" => server.protocol = self.text(entry),
                "isolation" => server.isolation = self.choice(entry),
                "scopes" => server.scopes = self.texts(entry),
                "tools" => {
                    for entry in self.table(entry, "a table with `allow`, `deny` or `scopes`") {
                        match entry.key.as_str() {
                            "allow" => server.tools.allow = Some(self.texts(entry)),
                            "deny" => server.tools.deny = self.texts(entry),
                            "scopes" => {
                                for entry in self.table(entry, "a table of lists, such as { \"write_*\" = [\"files:write\"] }") {
                                    server.tools.scopes.insert(entry.key.clone(), self.texts(entry));
                                }
                            }
                            _ => self.unknown(entry, "tools.", &TOOLS_KEYS),
                        }
                    }
                }
                "demo" => server.demo = self.flag(entry),
                "disabled" => server.disabled = self.flag(entry),
                _ => self.unknown(entry, "servers.NAME.", &SERVER_KEYS),
            }
        }
        server
    }

    fn access(&mut self, entry: &Entry) -> AccessConfig {
        let mut auth = AccessConfig::default();
        for entry in self.table(entry, "a table with a `client_id`") {
            match entry.key.as_str() {
                "client_id" => auth.client_id = self.text(entry),
                "client_secret" => auth.client_secret = self.text(entry).map(Secret::new),
                "private_key" => auth.private_key = self.text(entry).map(Into::into),
                "key_alg" => auth.key_alg = self.choice(entry),
                "audience" => auth.audience = self.text(entry),
                "scope" => auth.scope = self.text(entry),
                "per_user" => auth.per_user = self.flag(entry),
                "client_metadata_url" => auth.client_metadata_url = self.text(entry),
                _ => self.unknown(entry, "servers.NAME.auth.", &ACCESS_KEYS),
            }
        }
        auth
    }

    fn auth(&mut self, entry: &Entry) -> AuthConfig {
        let mut auth = AuthConfig::default();
        for entry in self.table(entry, "a table with a `mode`") {
            match entry.key.as_str() {
                "mode" => auth.mode = self.text(entry),
                // What is only named is told users by its name.
                "scopes" if matches!(entry.node.value, Value::List(_)) => {
                    auth.scopes = self.texts(entry).into_iter().map(|scope| (scope, String::new())).collect();
                }
                "scopes" => auth.scopes = self.map(entry),
                "audience" => auth.audience = self.texts(entry),
                "store" => auth.store = self.text(entry),
                "registration" => auth.registration = Some(self.flag(entry)),
                "client_documents" => auth.client_documents = Some(self.flag(entry)),
                "document_hosts" => auth.document_hosts = self.texts(entry),
                "signed" => auth.signed = self.flag(entry),
                "issuer" => auth.issuer = self.text(entry),
                "algorithms" => auth.algorithms = self.texts(entry),
                "typ" => auth.typ = self.text(entry),
                "leeway_s" => auth.leeway_s = self.number(entry),
                "jwks_url" => auth.jwks_url = self.text(entry),
                "introspection_url" => auth.introspection_url = self.text(entry),
                "client_id" => auth.client_id = self.text(entry),
                "client_secret" => auth.client_secret = self.text(entry),
                "client_auth" => auth.client_auth = self.text(entry),
                "access_token_s" => auth.access_token_s = self.number(entry),
                "refresh_token_s" => auth.refresh_token_s = self.number(entry),
                "agreement_s" => auth.agreement_s = self.number(entry),
                "login" => auth.login = self.login(entry),
                "clients" => {
                    for entry in self.table(entry, "a table of clients, such as [auth.clients.my-app]") {
                        auth.clients.insert(entry.key.clone(), self.client(entry));
                    }
                }
                _ => self.unknown(entry, "auth.", &AUTH_KEYS),
            }
        }
        auth
    }

    fn login(&mut self, entry: &Entry) -> LoginConfig {
        let mut login = LoginConfig::default();
        for entry in self.table(entry, "a table with a `provider`") {
            match entry.key.as_str() {
                "provider" => login.provider = self.text(entry),
                "issuer" => login.issuer = self.text(entry),
                "discovery_url" => login.discovery_url = self.text(entry),
                "params" => login.params = self.map(entry),
                "client_id" => login.client_id = self.text(entry),
                "client_secret" => login.client_secret = self.text(entry),
                "users" => login.users = self.texts(entry),
                "organisations" => login.organisations = self.texts(entry),
                "domains" => login.domains = self.texts(entry),
                "emails" => login.emails = self.texts(entry),
                "ask_again_s" => login.ask_again_s = self.number(entry),
                _ => self.unknown(entry, "auth.login.", &LOGIN_KEYS),
            }
        }
        login
    }

    fn client(&mut self, entry: &Entry) -> ClientConfig {
        let mut client = ClientConfig::default();
        for entry in self.table(entry, "a table with `redirect_uris`") {
            match entry.key.as_str() {
                "name" => client.name = self.text(entry),
                "secret" => client.secret = self.text(entry),
                "redirect_uris" => client.redirect_uris = self.texts(entry),
                "scopes" => client.scopes = Some(self.texts(entry)),
                _ => self.unknown(entry, "auth.clients.NAME.", &CLIENT_KEYS),
            }
        }
        client
    }

    fn tls(&mut self, entry: &Entry) -> TlsConfig {
        let mut tls = TlsConfig::default();
        for entry in self.table(entry, "a table with `cert` and `key`, or with `acme`") {
            match entry.key.as_str() {
                "cert" => tls.cert = self.text(entry).map(Into::into),
                "key" => tls.key = self.text(entry).map(Into::into),
                "acme" => {
                    let mut acme = AcmeConfig::default();
                    for entry in self.table(entry, "a table with `domains`") {
                        match entry.key.as_str() {
                            "domains" => acme.domains = self.texts(entry),
                            "contact" => acme.contact = self.text(entry),
                            "directory" => acme.directory = self.text(entry),
                            "cache" => acme.cache = self.text(entry).map(Into::into),
                            "ca" => acme.ca = self.text(entry).map(Into::into),
                            _ => self.unknown(entry, "tls.acme.", &ACME_KEYS),
                        }
                    }
                    tls.acme = Some(acme);
                }
                _ => self.unknown(entry, "tls.", &TLS_KEYS),
            }
        }
        tls
    }

    fn audit(&mut self, entry: &Entry) -> AuditConfig {
        let mut audit = AuditConfig::default();
        for entry in self.table(entry, "a table with a `file`") {
            match entry.key.as_str() {
                "file" => audit.file = self.text(entry).map(Into::into),
                "calls" => audit.calls = Some(self.flag(entry)),
                _ => self.unknown(entry, "audit.", &AUDIT_KEYS),
            }
        }
        audit
    }

    /// The keys of `[limits]` are those of [`Limits`], and nowhere else.
    fn limits(&mut self, entry: &Entry) -> Limits {
        self.numbers(entry, "limits.", |name| if name == "stderr_lines_per_s" { u64::from(u32::MAX) } else { i64::MAX as u64 })
    }

    /// And those of `[rates]` of [`Rates`].
    fn rates(&mut self, entry: &Entry) -> Rates {
        self.numbers(entry, "rates.", |_| u64::from(u32::MAX))
    }

    /// A table of numbers, each of which may be so large.
    fn numbers<T>(&mut self, entry: &Entry, prefix: &str, most: impl Fn(&str) -> u64) -> T
    where
        T: Default + serde::Serialize + serde::de::DeserializeOwned,
    {
        let Ok(serde_json::Value::Object(mut all)) = serde_json::to_value(T::default()) else { return T::default() };
        for entry in self.table(entry, "a table of numbers") {
            let Some(known) = all.get_mut(&entry.key) else {
                let names: Vec<&str> = all.keys().map(String::as_str).collect();
                self.unknown(entry, prefix, &names);
                continue;
            };
            let number = match &entry.node.value {
                Value::Number(written) => written.parse::<u64>().ok(),
                _ => None,
            };
            match number.filter(|number| *number <= most(&entry.key)) {
                Some(number) => *known = number.into(),
                None => self.expected(entry, "a whole number, 0 or more"),
            }
        }
        serde_json::from_value(all.into()).unwrap_or_default()
    }

    fn number(&mut self, entry: &Entry) -> Option<u64> {
        let number = match &entry.node.value {
            Value::Number(written) => written.parse().ok().filter(|number| *number <= i64::MAX as u64),
            _ => None,
        };
        if number.is_none() {
            self.expected(entry, "a whole number, 0 or more");
        }
        number
    }

    // --- types -------------------------------------------------------------------------------------

    fn text(&mut self, entry: &Entry) -> Option<String> {
        if let Value::Number(number) = &entry.node.value {
            self.expected(entry, &format!("a string: write \"{number}\""));
            return None;
        }
        let text = entry.node.text();
        if text.is_none() {
            self.expected(entry, "a string");
        }
        text.map(str::to_owned)
    }

    fn texts(&mut self, entry: &Entry) -> Vec<String> {
        let Value::List(all) = &entry.node.value else {
            self.expected(entry, "a list of strings, such as [\"a\", \"b\"]");
            return Vec::new();
        };
        let mut texts = Vec::new();
        for node in all {
            match node.text() {
                Some(text) => texts.push(text.to_owned()),
                None => {
                    let said = format!("`{}` is a list of strings, and this is {}", entry.key, node.kind());
                    self.faults.push(Fault::at(&node.at, said));
                }
            }
        }
        texts
    }

    fn map(&mut self, entry: &Entry) -> std::collections::BTreeMap<String, String> {
        let mut read = std::collections::BTreeMap::new();
        for entry in self.table(entry, "a table of strings, such as { NAME = \"value\" }") {
            match entry.node.text() {
                Some(text) => drop(read.insert(entry.key.clone(), text.to_owned())),
                // What is written there may be a secret, and is not repeated.
                None => self.expected(entry, "a string, in quotes"),
            }
        }
        read
    }

    fn table<'e>(&mut self, entry: &'e Entry, wanted: &str) -> &'e [Entry] {
        if !matches!(entry.node.value, Value::Table(_)) {
            self.expected(entry, wanted);
        }
        entry.node.entries()
    }

    fn flag(&mut self, entry: &Entry) -> bool {
        match entry.node.value {
            Value::Bool(yes) => yes,
            _ => {
                self.expected(entry, "true or false, without quotes");
                false
            }
        }
    }

    fn choice<T: ValueEnum>(&mut self, entry: &Entry) -> Option<T> {
        let text = self.text(entry)?;
        let read = T::from_str(&text.replace('_', "-"), true).ok();
        if read.is_none() {
            let all: Vec<String> = T::value_variants().iter().filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned())).collect();
            let meant = did_you_mean(&text, all.iter().map(String::as_str));
            let said = format!("`{}` is {text:?}, and can be {}{meant}", entry.key, all.join(", "));
            self.faults.push(Fault::at(&entry.node.at, said));
        }
        read
    }

    fn expected(&mut self, entry: &Entry, wanted: &str) {
        let said = format!("`{}` is {}, and must be {wanted}", entry.key, entry.node.kind());
        self.faults.push(Fault::at(&entry.node.at, said));
    }

    fn unknown(&mut self, entry: &Entry, prefix: &str, known: &[&str]) {
        let meant = did_you_mean(&entry.key, known.iter().copied());
        // A server's key at the top is a header that was forgotten.
        let elsewhere = match prefix {
            "" if meant.is_empty() && SERVER_KEYS.contains(&entry.key.as_str()) => "; it belongs under [servers.NAME]",
            "" if meant.is_empty() && KEYS.iter().any(|k| k.starts_with(&entry.key)) => "",
            "servers.NAME." if meant.is_empty() && KEYS.contains(&entry.key.as_str()) => "; it belongs at the top, before any [table]",
            _ if meant.is_empty() => "; docs/configuration.md lists what there is",
            _ => "",
        };
        self.faults.push(Fault::at(&entry.key_at, format!("there is no key `{prefix}{}`{meant}{elsewhere}", entry.key)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        Config::parse("f", text.into()).unwrap_err().brief().collect()
    }

    #[test]
    fn every_key_of_the_lists_is_read() {
        for (prefix, keys) in [
            ("", &KEYS[..]),
            ("[tls]\n", &TLS_KEYS),
            ("[audit]\n", &AUDIT_KEYS),
            ("[tls.acme]\n", &ACME_KEYS),
            ("[servers.a]\n", &SERVER_KEYS),
            ("[servers.a.tools]\n", &TOOLS_KEYS),
        ] {
            for key in keys {
                let said = faults(&format!("{prefix}{key} = 1979-05-27\n"));
                assert!(said.len() == 1 && said[0].contains(&format!("`{key}` is a date, and must be")), "{key}: {said:?}");
            }
        }
    }

    #[test]
    fn a_misspelt_key_is_told_what_it_may_mean() {
        for (text, said) in [
            ("lisen = \"x\"", "f:1:1: there is no key `lisen`; did you mean `listen`?"),
            ("\n[server.a]\ncommand = \"x\"", "f:2:2: there is no key `server`; did you mean `servers`?"),
            ("[servers.a]\n  comand = \"x\"", "f:2:3: there is no key `servers.NAME.comand`; did you mean `command`?"),
            ("[rates]\nprincipal_call = 1", "f:2:1: there is no key `rates.principal_call`; did you mean `principal_calls`?"),
            ("[limits]\nsesions = 1", "f:2:1: there is no key `limits.sesions`; did you mean `sessions`?"),
            ("[servers.a.tools]\nalow = []", "f:2:1: there is no key `tools.alow`; did you mean `allow`?"),
            ("command = \"x\"", "f:1:1: there is no key `command`; it belongs under [servers.NAME]"),
            ("[servers.a]\nlimits = {}", "f:2:1: there is no key `servers.NAME.limits`; it belongs at the top, before any [table]"),
            ("colour = 1", "f:1:1: there is no key `colour`; docs/configuration.md lists what there is"),
        ] {
            assert_eq!(faults(text), [said], "{text}");
        }
    }

    #[test]
    fn a_wrong_type_is_told_what_is_wanted() {
        for (text, said) in [
            ("listen = 8808", "f:1:10: `listen` is a number, and must be a string: write \"8808\""),
            ("[servers.a]\nargs = \"-y\"", "f:2:8: `args` is a string, and must be a list of strings, such as [\"a\", \"b\"]"),
            ("[servers.a]\nargs = [\"a\", 1]", "f:2:14: `args` is a list of strings, and this is a number"),
            ("[servers.a]\ndemo = \"yes\"", "f:2:8: `demo` is a string, and must be true or false, without quotes"),
            ("[servers.a]\nenv = {A = 1}", "f:2:12: `A` is a number, and must be a string, in quotes"),
            ("[servers]\na = \"npx\"", "f:2:5: `a` is a string, and must be a table with a `command` or a `url`"),
            ("[limits]\nsessions = -1", "f:2:12: `sessions` is a number, and must be a whole number, 0 or more"),
            ("[limits]\nsessions = 1.5", "f:2:12: `sessions` is a number, and must be a whole number, 0 or more"),
            (
                "[limits]\nstderr_lines_per_s = 4294967296",
                "f:2:22: `stderr_lines_per_s` is a number, and must be a whole number, 0 or more",
            ),
            (
                "[servers.a]\nisolation = \"sesion\"",
                "f:2:13: `isolation` is \"sesion\", and can be session, principal, none; did you mean `session`?",
            ),
            ("[servers.a]\ntransport = \"htp\"", "f:2:13: `transport` is \"htp\", and can be auto, http, sse; did you mean `http`?"),
        ] {
            assert_eq!(faults(text), [said], "{text}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let text = "lisen = \"x\"\n[servers.a]\ncommand = 5\nisolation = \"x\"\n[limits]\nno_such = 1\n";
        assert_eq!(faults(text).len(), 4, "{:?}", faults(text));
    }

    #[test]
    fn every_name_of_a_transport_is_understood() {
        use crate::plan::Transport;
        for name in ["http", "streamable-http", "streamable_http", "streamableHttp", "streamablehttp"] {
            let text = format!("[servers.a]\nurl = \"https://h\"\ntransport = \"{name}\"");
            assert_eq!(Config::parse("f", text).unwrap().servers["a"].transport, Some(Transport::Http), "{name}");
        }
    }

    #[test]
    fn limits_that_are_not_written_keep_their_defaults() {
        let limits = Config::parse("f", "[limits]\nsessions = 7\nstderr_lines_per_s = 8\n".into()).unwrap().limits;
        assert_eq!(limits, Limits { sessions: 7, stderr_lines_per_s: 8, ..Limits::default() });
    }
}
