//! A personal address book that remembers when you last spoke with whom, and says whom to speak with next.
//!
//! ```text
//!   tools ──┐
//!           ├──▶ operations ──▶ store: one SQLite file, the one that contacts-tui opens
//!   REST ───┘                 └▶ notes: markdown, where Basic Memory is used
//! ```
//!
//! It is one person's: a token, or a login at GitHub that is for one user, opens all of it.

mod arguments;
mod catalog;
mod exchange;
mod notes;
mod operations;
mod people;
mod rules;
mod schema;
mod store;
mod tools;
mod web;

use std::path::PathBuf;
use std::sync::Arc;

use landbridge::embed::{AuthConfig, ClientIds, Frames, Given, Limits, LoginConfig, Opening, Profile};

use crate::app::{App, Mode, Ready, ServedBy, Start, Variable};
use crate::settings::Settings;
use operations::Contacts;
use rules::Rules;
use store::Store;

/// The application.
pub const APP: App = App {
    name: "contacts",
    about: "An address book that says whom to speak with next",
    port: 8787,
    mode: Mode::Sse,
    served_by: ServedBy { mode: "MCP_MODE", host: "HOST", port: "PORT" },
    variables: &[
        Variable { name: "CONTACTS_DB_PATH", default: "data/contacts/contacts.db", about: "The SQLite file, which contacts-tui opens too" },
        Variable { name: "CONTACTS_TOOLS", default: "basic", about: "basic: 4 tools; full: all 24" },
        Variable { name: "CONTACTS_EXTRAS", default: "false", about: "Tools for import, export, duplicates, archive and bumps as well" },
        Variable {
            name: "CONTACTS_OVERDUE_DAYS",
            default: "",
            about: "After how many days somebody is overdue, as close=14,network=120; or tui, for the days of contacts-tui",
        },
        Variable { name: "BEARER_TOKEN", default: "", about: "A token that may do everything; MCP_AUTH_TOKEN says the same" },
        Variable { name: "GITHUB_CLIENT_ID", default: "", about: "The OAuth app at GitHub by which its owner logs in" },
        Variable { name: "GITHUB_CLIENT_SECRET", default: "", about: "Its secret" },
        Variable { name: "AUTHORIZED_GITHUB_USER", default: "", about: "The one GitHub user who may log in" },
        Variable { name: "GITHUB_URL", default: "https://github.com", about: "A GitHub of one's own" },
        Variable {
            name: "CONTACTS_AUTH_STORE",
            default: "",
            about: "Where clients and tokens are kept: memory:, sqlite:FILE or postgres://…; by default beside the contacts",
        },
        Variable {
            name: "CONTACTS_INSECURE_TEST_TOKENS",
            default: "false",
            about: "Takes any 32 digits of hexadecimal for a token: to test clients, on this machine and without a store",
        },
        Variable { name: "TLS_CERT", default: "", about: "A certificate in PEM, to listen over TLS, where HTTP/2 is spoken as well" },
        Variable { name: "TLS_KEY", default: "", about: "Its key" },
        Variable { name: "PUBLIC_URL", default: "", about: "The URL by which clients reach it, when a proxy stands in front" },
        Variable {
            name: "ALLOWED_ORIGINS",
            default: "",
            about: "Origins whose pages may call, with commas; https://claude.ai where callers are asked who they are",
        },
        Variable { name: "KEEPALIVE_MS", default: "15000", about: "How often a silent stream is kept alive, in milliseconds" },
        Variable { name: "BASIC_MEMORY_ENABLED", default: "false", about: "Whether contacts have notes in Basic Memory" },
        Variable { name: "BASIC_MEMORY_DIR", default: "data/contacts/basic-memory", about: "Where those notes are" },
        Variable { name: "LOG_LEVEL", default: "info", about: "How much is told on standard error" },
    ],
    start: |start| Box::pin(ready(start)),
};

async fn ready(start: Start) -> Result<Ready, String> {
    let settings = &start.settings;
    let database = PathBuf::from(settings.get("CONTACTS_DB_PATH").unwrap_or("data/contacts/contacts.db"));
    let shown = tools::Shown {
        full: match settings.get("CONTACTS_TOOLS") {
            None | Some("basic") => false,
            Some("full") => true,
            Some(other) => return Err(format!("CONTACTS_TOOLS is {other:?}; say basic or full")),
        },
        extras: settings.flag("CONTACTS_EXTRAS", false)?,
    };
    let tls = match (settings.get("TLS_CERT"), settings.get("TLS_KEY")) {
        (Some(cert), Some(key)) => Some((PathBuf::from(cert), PathBuf::from(key))),
        (None, None) => None,
        _ => return Err("TLS_CERT and TLS_KEY go together".into()),
    };
    let keepalive_ms = settings.parse("KEEPALIVE_MS", "number of milliseconds")?.unwrap_or(15_000);
    let rules = Rules::read(settings.get("CONTACTS_OVERDUE_DAYS").unwrap_or_default())?;
    let notes = settings.flag("BASIC_MEMORY_ENABLED", false)?.then(|| {
        let dir = settings.get("BASIC_MEMORY_DIR").unwrap_or("data/contacts/basic-memory");
        notes::Notes::at(PathBuf::from(dir))
    });
    let auth = if start.address.is_some() { auth(settings, &database, start.is_local())? } else { AuthConfig::default() };
    let is_guarded = auth.mode.is_some();
    let mut origins = settings.list("ALLOWED_ORIGINS");
    if origins.is_empty() && is_guarded {
        origins.push("https://claude.ai".into());
    }
    let public_url = settings.get("PUBLIC_URL").map(|url| url.trim_end_matches('/').to_owned());
    let contacts = Arc::new(Contacts { store: Store::open(&database, &rules).await?, rules, notes });
    let about = web::About {
        public_url: public_url.clone(),
        origins: origins.clone(),
        has_login: auth.mode.as_deref() == Some("oauth"),
        has_token: !auth.keys.is_empty() || auth.insecure_test_tokens,
        scheme: if tls.is_some() { "https" } else { "http" },
        shown,
    };
    let of_tools = contacts.clone();
    Ok(Ready {
        profile: profile(),
        pages: Some(Box::new(move |inside| web::pages(contacts, about, inside))),
        auth,
        limits: Limits { keepalive_ms, ..Limits::default() },
        origins,
        public_url,
        tls,
        ..Ready::new(landbridge_rmcp::handler(move || tools::Handler::new(of_tools.clone(), shown)))
    })
}

/// What clients of HTTP+SSE are shown: streams and messages at one path, and the session's id before its endpoint.
fn profile() -> Profile {
    Profile {
        paths: vec!["/".into(), "/mcp/oauth".into()],
        messages: "/mcp/oauth?sessionId={id}".into(),
        dashes: true,
        preamble: vec![Opening::Comment("SSE connection established"), Opening::Session, Opening::Endpoint],
        frames: Frames::Bare,
        lenient: true,
        client_ids: Some(ClientIds { prefix: "mcp_", digits: 16 }),
        // How clients show who they are that know this server; others are served as well. Refreshing is told, because
        // clients of the official SDK do not try what is not.
        issuer_says: vec![
            ("token_endpoint_auth_methods_supported", r#"["client_secret_post","none"]"#),
            ("mcp_transports_supported", r#"["sse"]"#),
            ("mcp_endpoint", r#""{root}/mcp/oauth""#),
            ("mcp_version", r#""2024-11-05""#),
        ],
        ..Profile::default()
    }
}

/// Who may call: whoever has the token, and the one user of GitHub. Where neither is configured, whoever is on this machine.
fn auth(settings: &Settings, database: &std::path::Path, is_local: bool) -> Result<AuthConfig, String> {
    let mut keys = Vec::new();
    for name in ["BEARER_TOKEN", "MCP_AUTH_TOKEN"] {
        if let Some(token) = settings.get(name) {
            let given = Given::of(name, token, name);
            if given.is_short() {
                return Err(format!("{name} has fewer than 16 characters, and could be guessed"));
            }
            keys.push(given);
        }
    }
    const LOGIN: [&str; 3] = ["GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET", "AUTHORIZED_GITHUB_USER"];
    let beside = database.with_file_name("auth.db");
    let insecure_test_tokens = settings.flag("CONTACTS_INSECURE_TEST_TOKENS", false)?;
    let store = settings.get("CONTACTS_AUTH_STORE").map(str::to_owned);
    if insecure_test_tokens {
        if !is_local || settings.is_production() || store.as_ref().is_some_and(|store| store != "memory:") {
            return Err("CONTACTS_INSECURE_TEST_TOKENS lets in whoever makes up a token: not in production, not where others can \
                 reach it, and not with a CONTACTS_AUTH_STORE that lasts"
                .into());
        }
        tracing::warn!("INSECURE: any 32 digits of hexadecimal are taken for a token (CONTACTS_INSECURE_TEST_TOKENS)");
    }
    let usual = if insecure_test_tokens { "memory:".to_owned() } else { format!("sqlite:{}", beside.display()) };
    let asked = AuthConfig { store: Some(store.unwrap_or(usual)), insecure_test_tokens, ..AuthConfig::default() };
    match LOGIN.map(|name| settings.get(name)) {
        [None, None, None] if keys.is_empty() && !insecure_test_tokens => Ok(AuthConfig::default()),
        [None, None, None] => Ok(AuthConfig { mode: Some("keys".into()), keys, ..asked }),
        [Some(id), Some(secret), Some(user)] => {
            if !user.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return Err("AUTHORIZED_GITHUB_USER is the login of one user: letters, digits and dashes".into());
            }
            let login = LoginConfig {
                provider: Some("github".into()),
                issuer: settings.get("GITHUB_URL").filter(|url| *url != "https://github.com").map(str::to_owned),
                client_id: Some(id.into()),
                client_secret: Some(secret.into()),
                users: vec![user.into()],
                ..LoginConfig::default()
            };
            Ok(AuthConfig { mode: Some("oauth".into()), keys, login, ..asked })
        }
        given => {
            let missing: Vec<&str> = LOGIN.into_iter().zip(given).filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
            Err(format!("logins at GitHub need {} too", missing.join(" and ")))
        }
    }
}
