//! A marketplace of skills: a directory, or a repository at GitHub, over REST, behind one tool that hands out tokens.
//!
//! ```text
//!   /mcp, /sse ──▶ login ──▶ skillport_auth ──▶ sk_api_… ──▶ REST ──▶ sk_install_… ──▶ install.sh
//!                                                              └────▶ Market ──▶ Source: a directory, or GitHub
//! ```
//!
//! Without any setting it serves a sample on loopback, asks nobody who they are, and lets everybody edit.

mod access;
mod diagnostics;
mod github;
mod layout;
mod local;
mod market;
mod rest;
mod sample;
mod semver;
mod shop;
mod source;
mod tar;
mod tickets;
mod tools;
mod wrong;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use landbridge::embed::{AuthConfig, ClientConfig, LoginConfig, Profile, Transports};

use crate::app::{App, Mode, Ready, ServedBy, Start, Variable};
use crate::settings::Settings;

/// Of what clients are told: the tools, and the routes.
const VERSION: &str = "1.0.0";

/// The application.
pub const APP: App = App {
    name: "skillport",
    about: "A marketplace of skills, behind one login for both transports",
    port: 8788,
    mode: Mode::Sse,
    served_by: ServedBy { mode: "SKILLPORT_MODE", host: "HOST", port: "PORT" },
    variables: &[
        Variable { name: "CONNECTOR_URL", default: "", about: "The URL by which the world knows it; needed behind a proxy" },
        Variable { name: "SKILLPORT_DATA", default: "data/skillport", about: "The directory of what it keeps" },
        Variable { name: "MARKETPLACE_DIR", default: "SKILLPORT_DATA/marketplace", about: "A marketplace in a directory" },
        Variable { name: "MARKETPLACE_REPO", default: "", about: "A marketplace at GitHub instead: owner/name" },
        Variable { name: "MARKETPLACE_BRANCH", default: "main", about: "Its branch" },
        Variable { name: "GITHUB_SERVICE_TOKEN", default: "", about: "What reads it; needed if it is private" },
        Variable { name: "GITHUB_WRITE_TOKEN", default: "", about: "What changes it" },
        Variable { name: "GITHUB_API_URL", default: "https://api.github.com", about: "The API, of a GitHub of one's own" },
        Variable {
            name: "SKILLPORT_CACHE_S",
            default: "300",
            about: "How long a marketplace at GitHub is not looked at again, in seconds",
        },
        Variable { name: "SKILLPORT_TOOLS", default: "auth", about: "`full` shows a tool for everything that REST does" },
        Variable { name: "SKILLPORT_TRANSPORTS", default: "both", about: "`sse` or `http` switches the other transport off" },
        Variable { name: "GOOGLE_CLIENT_ID", default: "", about: "Users log in at Google, as this client" },
        Variable { name: "GOOGLE_CLIENT_SECRET", default: "", about: "Its secret" },
        Variable {
            name: "GOOGLE_ALLOWED_DOMAINS",
            default: "",
            about: "Of which hosted domains, with commas; without it everybody may come in",
        },
        Variable {
            name: "GOOGLE_DISCOVERY_URL",
            default: "https://accounts.google.com/.well-known/openid-configuration",
            about: "Where Google says how to log in",
        },
        Variable { name: "OIDC_ISSUER", default: "", about: "Another issuer than Google, with the same client id, secret and domains" },
        Variable { name: "SKILLPORT_LOGIN", default: "none", about: "`local`: users log in with accounts of our own" },
        Variable { name: "TOKEN_ISSUER", default: "", about: "Nobody logs in here: tokens of this issuer count, signed and for our URLs" },
        Variable { name: "OAUTH_CLIENT_ID", default: "", about: "A client that is known beforehand" },
        Variable { name: "OAUTH_CLIENT_SECRET", default: "", about: "Its secret, of at least 16 characters" },
        Variable {
            name: "OAUTH_REDIRECT_URIS",
            default: "https://claude.ai/api/mcp/auth_callback,https://claude.com/api/mcp/auth_callback",
            about: "Where its users are sent back to, with commas",
        },
        Variable {
            name: "SKILLPORT_REPORT_S",
            default: "300",
            about: "How often the log says what has come by which transport, in seconds",
        },
        Variable { name: "ALLOWED_ORIGINS", default: "", about: "Pages of these origins may call, with commas" },
    ],
    start: |start| Box::pin(ready(start)),
};

async fn ready(start: Start) -> Result<Ready, String> {
    let settings = &start.settings;
    let data = PathBuf::from(settings.get("SKILLPORT_DATA").unwrap_or("data/skillport"));
    std::fs::create_dir_all(&data).map_err(|e| format!("SKILLPORT_DATA: {} cannot be made: {e}", data.display()))?;
    let auth = auth(settings, &data)?;
    // Who has started us is as local as can be. Others who are not asked who they are do as the rules of access say.
    let is_open = start.mode == Mode::Stdio || (auth == AuthConfig::default() && start.is_local());
    let (source, max_age_s) = match settings.get("MARKETPLACE_REPO") {
        Some(repo) => {
            let settings = github::Settings {
                api: settings.get("GITHUB_API_URL").unwrap_or("https://api.github.com").to_owned(),
                repo: repo.to_owned(),
                branch: settings.get("MARKETPLACE_BRANCH").unwrap_or("main").to_owned(),
                read_token: settings.get("GITHUB_SERVICE_TOKEN").map(str::to_owned),
                write_token: settings.get("GITHUB_WRITE_TOKEN").map(str::to_owned),
            };
            let max_age_s = start.settings.parse("SKILLPORT_CACHE_S", "number of seconds")?.unwrap_or(300);
            (source::Source::GitHub(Box::new(github::GitHub::new(settings)?)), max_age_s)
        }
        None => {
            let named = settings.get("MARKETPLACE_DIR").map(PathBuf::from);
            let dir = named.clone().unwrap_or_else(|| data.join("marketplace"));
            if named.is_none() {
                sample::write(&dir).await?;
            }
            // A look at a directory costs little, and whoever edits files there wants to see it.
            (source::Source::Local(local::Local::open(&dir)?), 0)
        }
    };
    let is_full = match settings.get("SKILLPORT_TOOLS") {
        None | Some("auth") => false,
        Some("full") => true,
        Some(other) => return Err(format!("SKILLPORT_TOOLS is {other:?}; say auth or full")),
    };
    let report_s: u64 = settings.parse("SKILLPORT_REPORT_S", "number of seconds")?.unwrap_or(300);
    let report_every = Duration::from_secs(report_s.max(1));
    let has_login = auth != AuthConfig::default();
    let base = OnceLock::new();
    if let Some(url) = settings.get("CONNECTOR_URL") {
        let _ = base.set(base_url(url)?);
    }
    let shop = Arc::new(shop::Shop {
        market: market::Market::new(source, Duration::from_secs(max_age_s), is_open),
        tickets: tickets::Tickets::open(&data.join("tickets.db")).await?,
        base,
        downloads: tokio::sync::Semaphore::new(shop::MAX_DOWNLOADS),
    });
    let (mode, for_tools, for_pages, bound) = (start.mode, shop.clone(), shop.clone(), shop);
    let server = landbridge_rmcp::handler_for(move |who| tools::Tools::new(for_tools.clone(), access::User::of(&who), is_full));
    Ok(Ready {
        profile: profile(settings)?,
        auth,
        pages: Some(Box::new(move |inside| {
            tokio::spawn(diagnostics::report(inside.clone(), has_login, report_every));
            rest::pages(rest::Rest { shop: for_pages, mode, has_login, inside: Some(inside) })
        })),
        origins: settings.list("ALLOWED_ORIGINS"),
        public_url: settings.get("CONNECTOR_URL").map(base_url).transpose()?,
        bound: Some(Box::new(move |address| {
            let ip = if address.ip().is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { address.ip() };
            let _ = bound.base.set(format!("http://{}", std::net::SocketAddr::new(ip, address.port())));
        })),
        ..Ready::new(server)
    })
}

/// What stands in scripts and commands, and may have nothing in it that a shell would read.
fn base_url(url: &str) -> Result<String, String> {
    let plain = url.bytes().all(|b| b.is_ascii_alphanumeric() || b":/.-_~[]".contains(&b));
    if !(url.starts_with("https://") || url.starts_with("http://")) || !plain {
        return Err(format!("CONNECTOR_URL is {url:?}; write it as https://mcp.example.com"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Who may call.
fn auth(settings: &Settings, data: &std::path::Path) -> Result<AuthConfig, String> {
    let id = settings.get("GOOGLE_CLIENT_ID");
    let scopes = [("mcp:read".to_owned(), "Use the marketplace of skills in your name".to_owned())].into();
    if let Some(issuer) = settings.get("TOKEN_ISSUER") {
        let others = ["GOOGLE_CLIENT_ID", "GOOGLE_ALLOWED_DOMAINS", "OIDC_ISSUER", "SKILLPORT_LOGIN", "OAUTH_CLIENT_ID"];
        return match settings.first(others) {
            Some(_) => Err(format!("with TOKEN_ISSUER nobody logs in here, so that none of {} can be set", others.join(", "))),
            None => Ok(AuthConfig { mode: Some("jwt".into()), issuer: Some(issuer.to_owned()), scopes, ..AuthConfig::default() }),
        };
    }
    let is_local = match settings.get("SKILLPORT_LOGIN") {
        None | Some("none") => false,
        Some("local") => true,
        Some(other) => return Err(format!("SKILLPORT_LOGIN is {other:?}; say local or none, and for Google set GOOGLE_CLIENT_ID")),
    };
    let login = match (id, is_local) {
        (None, false) => {
            let known = ["GOOGLE_CLIENT_SECRET", "GOOGLE_ALLOWED_DOMAINS", "OIDC_ISSUER", "OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"];
            return match settings.first(known) {
                // Somebody wants to be careful, and would be the opposite.
                Some(_) => Err(format!("one of {} is set, and neither GOOGLE_CLIENT_ID nor SKILLPORT_LOGIN=local is", known.join(", "))),
                None => Ok(AuthConfig::default()),
            };
        }
        (Some(_), true) => return Err("users can log in by GOOGLE_CLIENT_ID or by SKILLPORT_LOGIN=local, and not by both".into()),
        (None, true) => LoginConfig::default(),
        (Some(id), false) => {
            let secret = settings.get("GOOGLE_CLIENT_SECRET").ok_or("GOOGLE_CLIENT_ID is set, and GOOGLE_CLIENT_SECRET is not")?;
            let domains = settings.list("GOOGLE_ALLOWED_DOMAINS");
            // As people write them; Google writes them in lower case.
            let domains: Vec<_> = domains.iter().map(|domain| domain.trim_start_matches('@').to_ascii_lowercase()).collect();
            let issuer = settings.get("OIDC_ISSUER").map(str::to_owned);
            let is_google = issuer.is_none();
            // As its clients have always asked there.
            let params = [("access_type", "offline"), ("prompt", "consent")].map(|(name, value)| (name.to_owned(), value.to_owned()));
            LoginConfig {
                provider: Some(if is_google { "google" } else { "oidc" }.into()),
                issuer,
                discovery_url: settings.get("GOOGLE_DISCOVERY_URL").filter(|_| is_google).map(str::to_owned),
                params: if is_google { params.into() } else { Default::default() },
                client_id: Some(id.to_owned()),
                client_secret: Some(secret.to_owned()),
                users: if domains.is_empty() { vec!["*".into()] } else { Vec::new() },
                domains,
                ..LoginConfig::default()
            }
        }
    };
    let mut clients = std::collections::BTreeMap::new();
    if let Some(id) = settings.get("OAUTH_CLIENT_ID") {
        let mut redirect_uris = settings.list("OAUTH_REDIRECT_URIS");
        if redirect_uris.is_empty() {
            redirect_uris = ["claude.ai", "claude.com"].map(|host| format!("https://{host}/api/mcp/auth_callback")).into();
        }
        let secret = settings.get("OAUTH_CLIENT_SECRET").map(str::to_owned);
        clients.insert(id.to_owned(), ClientConfig { name: Some(id.to_owned()), secret, redirect_uris, ..ClientConfig::default() });
    }
    let store = data.join("auth.db");
    let store = store.to_str().ok_or("SKILLPORT_DATA is no text")?;
    Ok(AuthConfig { mode: Some("oauth".into()), scopes, store: Some(format!("sqlite:{store}")), login, clients, ..AuthConfig::default() })
}

/// What clients are told of HTTP+SSE, and which transports there are.
fn profile(settings: &Settings) -> Result<Profile, String> {
    let transports = match settings.get("SKILLPORT_TRANSPORTS") {
        None | Some("both") => Transports::Both,
        Some("sse") => Transports::Sse,
        Some("http") => Transports::Http,
        Some(other) => return Err(format!("SKILLPORT_TRANSPORTS is {other:?}; say both, sse or http")),
    };
    Ok(Profile {
        messages: "/sse/message?sessionId={id}".into(),
        transports,
        own_browser: true,
        exchange_failed: Some(http::StatusCode::INTERNAL_SERVER_ERROR),
        ..Profile::default()
    })
}
