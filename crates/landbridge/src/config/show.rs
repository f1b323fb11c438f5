//! A configuration, written down again in our own words.

use clap::ValueEnum;

use crate::config::{AuditConfig, AuthConfig, Config, DEFAULT_DIRECTORY, DEFAULT_LISTEN, LoginConfig, ServerConfig, TlsConfig};
use crate::plan::{Limits, Rates};

/// How a configuration is written down.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// With everything that is not written because it is the default.
    pub defaults: bool,
    /// With values of `env` and `headers` that are no references to the environment.
    pub secrets: bool,
}

impl Config {
    /// As TOML that reads as the same configuration, but for what is masked.
    pub fn to_toml(&self, shown: Shown) -> String {
        let mut out = String::new();
        let listen = self.listen.as_deref().or(shown.defaults.then_some(DEFAULT_LISTEN));
        line(&mut out, "listen", listen.map(quote));
        line(&mut out, "public_url", self.public_url.as_deref().map(quote));
        line(&mut out, "trusted_proxies", list(&self.trusted_proxies, shown));
        line(&mut out, "allow_hosts", list(&self.allow_hosts, shown));
        line(&mut out, "allow_origins", list(&self.allow_origins, shown));
        line(&mut out, "insecure_public", flag(self.insecure_public, shown));
        self.tls.write(&mut out, shown);
        self.auth.write(&mut out, shown);
        // What `check` makes of nobody, so that what is shown is what runs.
        let demo = ServerConfig { demo: true, ..ServerConfig::default() };
        let nobody = shown.defaults && self.servers.values().all(|server| server.disabled);
        let demo = nobody.then_some(("demo", &demo)).filter(|(name, _)| !self.servers.contains_key(*name));
        for (name, server) in self.servers.iter().map(|(name, server)| (name.as_str(), server)).chain(demo) {
            out.push_str(&format!("\n[servers.{}]\n", key(name)));
            server.write(&mut out, shown);
        }
        write_numbers(&mut out, "limits", (self.limits, Limits::default()), shown);
        write_numbers(&mut out, "rates", (self.rates, Rates::default()), shown);
        self.audit.write(&mut out, shown);
        out.trim_start().to_owned()
    }
}

/// A table of numbers: these, and what they usually are.
fn write_numbers<T: serde::Serialize>(out: &mut String, table: &str, (mine, usual): (T, T), shown: Shown) {
    let all = |numbers| serde_json::to_value(numbers).unwrap_or_default();
    let (mine, usual) = (all(mine), all(usual));
    let mut lines = String::new();
    for (name, value) in mine.as_object().into_iter().flatten() {
        if shown.defaults || usual[name] != *value {
            line(&mut lines, name, Some(value.to_string()));
        }
    }
    if !lines.is_empty() {
        out.push_str(&format!("\n[{table}]\n{lines}"));
    }
}

impl AuditConfig {
    fn write(&self, out: &mut String, shown: Shown) {
        let calls = self.calls.or(shown.defaults.then_some(self.file.is_some()));
        if self.file.is_some() || calls.is_some() {
            out.push_str("\n[audit]\n");
            line(out, "file", self.file.as_ref().map(|path| quote(&path.to_string_lossy())));
            line(out, "calls", calls.map(|yes| yes.to_string()));
        }
    }
}

impl TlsConfig {
    fn write(&self, out: &mut String, shown: Shown) {
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| quote(&path.to_string_lossy()));
        if self.cert.is_some() || self.key.is_some() {
            out.push_str("\n[tls]\n");
            line(out, "cert", path(&self.cert));
            line(out, "key", path(&self.key));
        }
        if let Some(acme) = &self.acme {
            out.push_str("\n[tls.acme]\n");
            line(out, "domains", list(&acme.domains, shown));
            line(out, "contact", acme.contact.as_deref().map(quote));
            let directory = acme.directory.as_deref().or(shown.defaults.then_some(DEFAULT_DIRECTORY));
            line(out, "directory", directory.map(quote));
            line(out, "cache", path(&acme.cache));
            line(out, "ca", path(&acme.ca));
        }
    }
}

impl AuthConfig {
    fn write(&self, out: &mut String, shown: Shown) {
        if *self == AuthConfig::default() {
            return;
        }
        let bare = Shown { defaults: false, ..shown };
        let text = |text: &Option<String>| text.as_deref().map(quote);
        let secret = |text: &Option<String>| text.as_deref().map(|text| if shown.secrets { quote(text) } else { quote(&masked(text)) });
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        out.push_str("\n[auth]\n");
        line(out, "mode", text(&self.mode));
        if !self.scopes.is_empty() {
            let all: Vec<String> = self.scopes.iter().map(|(name, about)| format!("{} = {}", key(name), quote(about))).collect();
            line(out, "scopes", Some(format!("{{ {} }}", all.join(", "))));
        }
        let store = self.store.as_deref().map(|store| if shown.secrets { quote(store) } else { quote(&without_password(store)) });
        line(out, "store", store);
        line(out, "registration", self.registration.map(|yes| yes.to_string()));
        line(out, "client_documents", self.client_documents.map(|yes| yes.to_string()));
        line(out, "document_hosts", list(&self.document_hosts, bare));
        line(out, "signed", flag(self.signed, bare));
        line(out, "access_token_s", number(self.access_token_s));
        line(out, "refresh_token_s", number(self.refresh_token_s));
        line(out, "agreement_s", number(self.agreement_s));
        line(out, "issuer", text(&self.issuer));
        line(out, "audience", list(&self.audience, bare));
        line(out, "algorithms", list(&self.algorithms, bare));
        line(out, "typ", text(&self.typ));
        line(out, "leeway_s", number(self.leeway_s));
        line(out, "jwks_url", text(&self.jwks_url));
        line(out, "introspection_url", text(&self.introspection_url));
        line(out, "client_id", text(&self.client_id));
        line(out, "client_secret", secret(&self.client_secret));
        line(out, "client_auth", text(&self.client_auth));
        if self.login != LoginConfig::default() {
            let login = &self.login;
            out.push_str("\n[auth.login]\n");
            line(out, "provider", text(&login.provider));
            line(out, "issuer", text(&login.issuer));
            line(out, "discovery_url", text(&login.discovery_url));
            if !login.params.is_empty() {
                line(out, "params", map(&login.params, Shown { secrets: true, ..shown }));
            }
            line(out, "client_id", text(&login.client_id));
            line(out, "client_secret", secret(&login.client_secret));
            line(out, "users", list(&login.users, bare));
            line(out, "organisations", list(&login.organisations, bare));
            line(out, "domains", list(&login.domains, bare));
            line(out, "emails", list(&login.emails, bare));
            line(out, "ask_again_s", number(login.ask_again_s));
        }
        for (id, client) in &self.clients {
            out.push_str(&format!("\n[auth.clients.{}]\n", key(id)));
            line(out, "name", text(&client.name));
            line(out, "secret", secret(&client.secret));
            line(out, "redirect_uris", list(&client.redirect_uris, bare));
            line(out, "scopes", client.scopes.as_ref().map(|all| array(all)));
        }
    }
}

/// The URL of a store as it may be shown.
fn without_password(store: &str) -> String {
    match (store.split_once("://"), store.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => store.to_owned(),
    }
}

impl ServerConfig {
    fn write(&self, out: &mut String, shown: Shown) {
        if self.demo {
            line(out, "demo", Some("true".into()));
        }
        line(out, "command", self.command.as_deref().map(quote));
        if self.command.is_some() {
            line(out, "args", list(&self.args, shown));
            line(out, "env", map(&self.env, shown));
        } else {
            line(out, "url", self.url.as_deref().map(quote));
        }
        line(out, "cwd", self.cwd.as_ref().map(|cwd| quote(&cwd.to_string_lossy())));
        if self.url.is_some() {
            line(out, "headers", map(&self.headers, shown));
            line(out, "transport", choice(self.transport, shown));
            if let Some(auth) = &self.auth {
                let secret = auth.client_secret.as_ref().map(|secret| secret.reveal());
                line(out, "auth.client_id", auth.client_id.as_deref().map(quote));
                line(out, "auth.client_secret", secret.map(|secret| if shown.secrets { quote(secret) } else { quote(&masked(secret)) }));
                line(out, "auth.private_key", auth.private_key.as_ref().map(|path| quote(&path.to_string_lossy())));
                line(out, "auth.per_user", auth.per_user.then(|| "true".to_owned()));
                line(out, "auth.client_metadata_url", auth.client_metadata_url.as_deref().map(quote));
                line(out, "auth.key_alg", auth.key_alg.map(|algorithm| quote(algorithm.named().as_str())));
                line(out, "auth.audience", auth.audience.as_deref().map(quote));
                line(out, "auth.scope", auth.scope.as_deref().map(quote));
            }
        }
        if !self.demo {
            let protocol = self.protocol.as_deref().or(shown.defaults.then_some("auto"));
            line(out, "protocol", protocol.map(quote));
            line(out, "isolation", choice(self.isolation, shown));
        }
        line(out, "tools.allow", self.tools.allow.as_ref().map(|all| array(all)));
        line(out, "scopes", list(&self.scopes, Shown { defaults: false, ..shown }));
        if !self.tools.scopes.is_empty() {
            let all: Vec<String> = self.tools.scopes.iter().map(|(name, scopes)| format!("{} = {}", key(name), array(scopes))).collect();
            line(out, "tools.scopes", Some(format!("{{ {} }}", all.join(", "))));
        }
        line(out, "tools.deny", list(&self.tools.deny, Shown { defaults: false, ..shown }));
        line(out, "disabled", flag(self.disabled, shown));
    }
}

fn line(out: &mut String, key: &str, value: Option<String>) {
    if let Some(value) = value {
        out.push_str(&format!("{key} = {value}\n"));
    }
}

fn flag(value: bool, shown: Shown) -> Option<String> {
    (value || shown.defaults).then(|| value.to_string())
}

fn choice<T: ValueEnum + Default>(value: Option<T>, shown: Shown) -> Option<String> {
    let value = value.or_else(|| shown.defaults.then(T::default))?;
    Some(quote(value.to_possible_value()?.get_name()))
}

fn list(all: &[String], shown: Shown) -> Option<String> {
    (shown.defaults || !all.is_empty()).then(|| array(all))
}

fn array(all: &[String]) -> String {
    format!("[{}]", all.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", "))
}

/// Values that only say where a secret is are shown; the others may be secrets.
fn map(all: &std::collections::BTreeMap<String, String>, shown: Shown) -> Option<String> {
    if all.is_empty() {
        return shown.defaults.then(|| "{}".into());
    }
    let value = |value: &str| if shown.secrets { quote(value) } else { quote(&masked(value)) };
    let all: Vec<String> = all.iter().map(|(name, text)| format!("{} = {}", key(name), value(text))).collect();
    Some(format!("{{ {} }}", all.join(", ")))
}

/// The references in a value, and the word for a kind of authorization; `…` for all else.
fn masked(value: &str) -> String {
    let literal = |text: &str| match text.trim() {
        "" | "Bearer" | "Basic" | "Token" => text.to_owned(),
        _ => "…".into(),
    };
    let mut out = String::new();
    let (mut rest, mut from) = (value, 0);
    while let Some(at) = rest[from..].find("${").map(|at| from + at) {
        let escaped = rest[..at].ends_with('$');
        let Some((inside, behind)) = rest[at + 2..].split_once('}').filter(|_| !escaped) else {
            from = at + 2;
            continue;
        };
        let name = inside.split_once(":-").map_or(inside, |(name, _)| name);
        let otherwise = if name == inside { "" } else { ":-…" };
        out.push_str(&format!("{}${{{name}{otherwise}}}", literal(&rest[..at])));
        (rest, from) = (behind, 0);
    }
    out + &literal(rest)
}

fn key(name: &str) -> String {
    let bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if bare { name.to_owned() } else { quote(name) }
}

/// A string of JSON is one of TOML too, but for one character.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Shown = Shown { defaults: false, secrets: true };
    const FULL: Shown = Shown { defaults: true, secrets: true };

    #[test]
    fn what_is_shown_reads_as_the_same() {
        let text = r#"
            listen = "127.0.0.1:1"
            trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]
            allow_hosts = ["a", "b"]
            [tls]
            cert = "c.pem"
            key = "k.pem"
            [tls.acme]
            domains = ["a.example"]
            contact = "mailto:a@b"
            cache = "/var/x"
            ca = "ca.pem"
            [auth]
            mode = "oauth"
            scopes = { "a:b" = "Do b", c = "" }
            store = "postgres://u:p@h/d"
            signed = true
            registration = false
            access_token_s = 60
            audience = ["x"]
            [auth.login]
            provider = "github"
            client_id = "i"
            client_secret = "${S}"
            discovery_url = "https://h/d"
            params = { prompt = "consent" }
            users = ["ada"]
            ask_again_s = 60
            [auth.clients.app]
            redirect_uris = ["https://h/cb"]
            secret = "${T}"
            [servers."a b"]
            scopes = ["a:b"]
            command = "x\"\\\n\u007F ä"
            args = ["-y", ""]
            env = { A = "1", "b c" = "${D:-e}" }
            cwd = "/srv"
            protocol = "legacy"
            isolation = "none"
            tools = { allow = [], deny = ["rm", "*x"], scopes = { "w*" = ["c"] } }
            [servers.r]
            url = "https://h/"
            headers = { X-A = "b" }
            transport = "sse"
            auth = { client_id = "c", client_secret = "${S}", private_key = "k.pem", key_alg = "ES384", audience = "a", scope = "b c" }
            disabled = true
            [servers.show]
            demo = true
            [limits]
            sessions = 7
            [rates]
            principal_calls = 3
            [audit]
            file = "/x"
            calls = false
        "#;
        let config = Config::parse("f", text.into()).unwrap();
        let bare = config.to_toml(BARE);
        for shown in [BARE, FULL] {
            let again = Config::parse("f", config.to_toml(shown)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(again.to_toml(FULL), config.to_toml(FULL));
        }
        assert_eq!(Config::parse("f", bare.clone()).unwrap().to_toml(BARE), bare);
        assert!(bare.ends_with("\n[rates]\nprincipal_calls = 3\n\n[audit]\nfile = \"/x\"\ncalls = false\n"), "{bare}");
        assert!(bare.contains("tools.allow = []") && bare.contains("[limits]\nsessions = 7\n") && !bare.contains("keepalive"), "{bare}");
    }

    #[test]
    fn literal_secrets_are_masked() {
        let text = "[servers.a]\ncommand = \"x\"\nenv = { A = \"sesame\", B = \"${B}\" }\n[servers.b]\nurl = \"https://h\"\nheaders = { C = \"sesame\" }\nauth.client_secret = \"sesame\"";
        let shown = Config::parse("f", text.into()).unwrap().to_toml(Shown { defaults: false, secrets: false });
        assert!(shown.contains("env = { A = \"…\", B = \"${B}\" }") && shown.contains("headers = { C = \"…\" }"), "{shown}");
        assert!(!shown.contains("sesame"));
        for (value, shown) in [
            ("", ""),
            ("Bearer ${T}", "Bearer ${T}"),
            ("Bearer sesame", "…"),
            ("sesame${A}b${B:-sesame}", "…${A}…${B:-…}"),
            ("$${sesame}", "…"),
            ("${sesame", "…"),
            ("sesame$${${A}", "…${A}"),
        ] {
            assert_eq!(masked(value), shown, "{value}");
        }
    }

    #[test]
    fn nothing_written_is_everything_shown() {
        let shown = Config::default().to_toml(FULL);
        assert!(shown.starts_with("listen = \"127.0.0.1:8808\"\n") && shown.contains("[servers.demo]\ndemo = true\n"), "{shown}");
        assert_eq!(Config::default().to_toml(BARE), "");
        let again = Config::parse("f", shown).unwrap().check().unwrap();
        assert_eq!(again.servers, Config::default().check().unwrap().servers);
    }
}
