//! A library of contents: upload, find, describe and download, for the holders of API keys.
//!
//! ```text
//!   tools ──▶ library ──▶ db (SQLite, Postgres)
//!                 │   └──▶ blobs (memory, files, S3) ◀── pages: signed URLs
//!                 ├──▶ pictures: thumbnails and previews, made by a worker
//!                 └──▶ keeper: another one archives and removes, where an operator wants that
//! ```

mod blobs;
mod db;
mod keeper;
mod library;
mod links;
mod model;
mod pages;
mod pictures;
mod resources;
mod room;
mod tools;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use landbridge::embed::{AuthConfig, Given, Limits, Profile, Rates, Refusal};
use landbridge::fetch::{Fetcher, Host, Reach};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::app::{App, Mode, Ready, ServedBy, Start, Variable};
use crate::settings::Settings;
use crate::ws;

const fn variable(name: &'static str, default: &'static str, about: &'static str) -> Variable {
    Variable { name, default, about }
}

/// The application.
pub const APP: App = App {
    name: "content",
    about: "A library of contents with search, thumbnails and signed URLs",
    port: 8080,
    mode: Mode::Stdio,
    served_by: ServedBy { mode: "MCP_MODE", host: "MCP_HOST", port: "MCP_PORT" },
    variables: &[
        variable("MCP_BASE_URL", "", "By which URL the world knows it, for URLs of downloads; else where it listens"),
        variable("MCP_AUTH_ENABLED", "false", "Whether callers need an API key"),
        variable("MCP_API_KEY_1", "", "A key: KEY:OWNER_UUID[:TENANT_UUID[:EXPIRES]]; up to MCP_API_KEY_10"),
        variable("MCP_CORS_ORIGINS", "", "Origins whose pages may call, with commas: https://app.example.com; or *, any"),
        variable("MCP_ENABLE_RESOURCES", "true", "Whether there are resources"),
        variable("MCP_ENABLE_PROMPTS", "true", "Whether there are prompts"),
        variable("MCP_MAX_BATCH_SIZE", "100", "How much a batch may have"),
        variable("MCP_DEFAULT_PAGE_SIZE", "50", "How much a list has unless its caller says so"),
        variable("MCP_MAX_PAGE_SIZE", "1000", "How much it may have"),
        variable("MCP_REQUIRE_OWNER_ID", "true", "Whether list_content needs an owner"),
        variable("MCP_RATE_PER_MINUTE", "", "How many requests the keys of one owner may make in a minute; 0: any number"),
        variable("MCP_MAX_SESSIONS", "", "How many sessions they may have at once; 0: any number"),
        variable("MCP_MAX_UPLOAD_BYTES", "52428800", "How long a content may be"),
        variable("MCP_MAX_UPLOADING_BYTES", "536870912", "What all uploads under way may hold together; half of it is for URLs"),
        variable("MCP_KEEPALIVE_MS", "15000", "How often a stream that says nothing is kept alive, and a WebSocket asked whether it lives"),
        variable("MCP_MAX_WEBSOCKETS", "1000", "How many WebSockets there may be at once"),
        variable("MCP_WEBSOCKET_IDLE_MS", "3600000", "How long nobody may say anything on one"),
        variable("DATABASE_URL", "sqlite:data/content/content.db", "Where what is known of contents is: sqlite:PATH or postgres://…"),
        variable("STORAGE_BACKEND", "fs", "Where their bytes are: memory, fs or s3"),
        variable("STORAGE_PATH", "./data/storage", "In which directory, with fs"),
        variable("STORAGE_URL_PREFIX", "", "What URLs of downloads begin with, if not MCP_BASE_URL"),
        variable("S3_BUCKET", "", "The bucket, with s3"),
        variable("S3_REGION", "us-east-1", "Its region"),
        variable("S3_ENDPOINT", "", "The server's URL, if it is not Amazon's"),
        variable("S3_ACCESS_KEY_ID", "", "The key to it; also AWS_ACCESS_KEY_ID"),
        variable("S3_SECRET_ACCESS_KEY", "", "Its secret; also AWS_SECRET_ACCESS_KEY"),
        variable("CONTENT_URL_SECRET", "", "What URLs are signed with; else it is made and kept in data/content/url.key"),
        variable("CONTENT_ARCHIVE_AFTER_DAYS", "", "After how many days without a change a content is archived; else never"),
        variable("CONTENT_PURGE_AFTER_DAYS", "", "After how many days what was deleted is removed with its bytes; else never"),
        variable("CONTENT_FETCH_SECONDS", "30", "How long a URL may take that an upload is fetched from"),
        variable("CONTENT_FETCH_HOSTS", "", "HOST:PORT of private networks that uploads by URL may be fetched from, with commas"),
        variable("CONTENT_CAPITAL_KEYS", "false", "Whether batch_get_details writes Index, Details and Error with capitals"),
    ],
    start: |start| Box::pin(ready(start)),
};

async fn ready(start: Start) -> Result<Ready, String> {
    let settings = &start.settings;
    let url = settings.get("DATABASE_URL").unwrap_or("sqlite:data/content/content.db");
    let hosts = settings.list("CONTENT_FETCH_HOSTS");
    let hosts = hosts.iter().map(|host| Host::read(host).map_err(|why| format!("CONTENT_FETCH_HOSTS: the host {host:?} {why}")));
    let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
    let bounds = bounds(settings)?;
    let uploading = number(settings, "MCP_MAX_UPLOADING_BYTES", 512 * 1024 * 1024)?;
    let uploading = usize::try_from(uploading).unwrap_or(usize::MAX);
    if uploading / 2 < bounds.upload_bytes {
        return Err(format!("MCP_MAX_UPLOADING_BYTES is {uploading}; it has to be twice MCP_MAX_UPLOAD_BYTES at least"));
    }
    let times =
        keeper::Times { archive: days(settings, "CONTENT_ARCHIVE_AFTER_DAYS")?, purge: days(settings, "CONTENT_PURGE_AFTER_DAYS")? };
    let library = Arc::new(library::Library {
        db: db::Db::open(url).await?,
        blobs: blobs::Blobs::open(settings)?,
        links: links::Links::open(settings.get("CONTENT_URL_SECRET"), Path::new("data/content/url.key"))?,
        bounds,
        room: room::Room::new(uploading),
        fetcher: Fetcher::new(Reach::Web)?.or_private_at(&hosts),
        wanted: Notify::new(),
    });
    let base = settings.first(["STORAGE_URL_PREFIX", "MCP_BASE_URL"]);
    if let Some(base) = base {
        library.links.at(base);
    }
    // It works until the process ends; what it leaves undone is taken up by the next.
    drop(tokio::spawn(pictures::work(library.clone())));
    drop(tokio::spawn(keeper::work(library.clone(), times)));

    let asks = settings.flag("MCP_AUTH_ENABLED", false)? && start.mode != Mode::Stdio;
    let shown =
        tools::Shown { resources: settings.flag("MCP_ENABLE_RESOURCES", true)?, prompts: settings.flag("MCP_ENABLE_PROMPTS", true)? };
    let (server, served) = (library.clone(), library.clone());
    let server =
        landbridge_rmcp::handler_for(move |principal| tools::Handler::new(server.clone(), model::Who::of(&principal, asks), shown));
    // A reply may have a content in it.
    let limits = Limits {
        queue_bytes: 16 * 1024 * 1024,
        message_bytes: 32 * 1024 * 1024,
        keepalive_ms: number(settings, "MCP_KEEPALIVE_MS", 15_000)?.unsigned_abs(),
        ..Limits::default()
    };
    if limits.keepalive_ms < 15 {
        return Err("MCP_KEEPALIVE_MS is less than 15".into());
    }
    let sockets = ws::Bounds {
        connections: usize::try_from(number(settings, "MCP_MAX_WEBSOCKETS", 1000)?).unwrap_or(usize::MAX).min(1_000_000),
        message_bytes: limits.message_bytes,
        keepalive: Duration::from_millis(limits.keepalive_ms),
        idle: Duration::from_millis(number(settings, "MCP_WEBSOCKET_IDLE_MS", 3_600_000)?.unsigned_abs()),
        write: Duration::from_millis(limits.write_timeout_ms),
    };
    Ok(Ready {
        profile: profile(),
        auth: if asks { auth(settings, start.is_local())? } else { AuthConfig::default() },
        limits,
        rates: rates(settings)?,
        origins: settings.list("MCP_CORS_ORIGINS"),
        public_url: settings.get("MCP_BASE_URL").map(str::to_owned),
        pages: Some(Box::new(move |inside| pages::pages(served, ws::Sockets::new(inside, sockets)))),
        bound: Some(Box::new(move |address| library.links.at(&format!("http://{}", reachable(address))))),
        ..Ready::new(server)
    })
}

/// A number of more than 0.
fn number(settings: &Settings, name: &str, usual: i64) -> Result<i64, String> {
    match settings.parse::<i64>(name, "number")?.unwrap_or(usual) {
        number if number > 0 => Ok(number),
        number => Err(format!("{name} is {number}; it has to be more than 0")),
    }
}

/// A number of days, and parts of one.
fn days(settings: &Settings, name: &str) -> Result<Option<Duration>, String> {
    let Some(days) = settings.parse::<f64>(name, "number")? else { return Ok(None) };
    let after = Duration::try_from_secs_f64(days * 86_400.0).ok().filter(|after| *after >= Duration::from_millis(1));
    after.map(Some).ok_or_else(|| format!("{name} is {days}; it has to be more than 0"))
}

fn bounds(settings: &Settings) -> Result<library::Bounds, String> {
    let number = |name, usual| number(settings, name, usual);
    let max_page = number("MCP_MAX_PAGE_SIZE", 1000)?;
    Ok(library::Bounds {
        batch: usize::try_from(number("MCP_MAX_BATCH_SIZE", 100)?).unwrap_or(usize::MAX),
        default_page: number("MCP_DEFAULT_PAGE_SIZE", 50)?.min(max_page),
        max_page,
        needs_owner: settings.flag("MCP_REQUIRE_OWNER_ID", true)?,
        upload_bytes: usize::try_from(number("MCP_MAX_UPLOAD_BYTES", 50 * 1024 * 1024)?).unwrap_or(usize::MAX),
        fetch: Duration::from_secs(number("CONTENT_FETCH_SECONDS", 30)?.unsigned_abs()),
        capitals: settings.flag("CONTENT_CAPITAL_KEYS", false)?,
    })
}

fn rates(settings: &Settings) -> Result<Rates, String> {
    let usual = Rates::default();
    let number = |name, usual| Ok::<u32, String>(settings.parse(name, "number")?.unwrap_or(usual));
    Ok(Rates {
        principal_per_minute: number("MCP_RATE_PER_MINUTE", usual.principal_per_minute)?,
        principal_sessions: number("MCP_MAX_SESSIONS", usual.principal_sessions)?,
        ..usual
    })
}

/// The keys of the settings. One that cannot be used is told of, and left out.
fn auth(settings: &Settings, is_local: bool) -> Result<AuthConfig, String> {
    let mut keys = Vec::new();
    for number in 1..=10 {
        let name = format!("MCP_API_KEY_{number}");
        let Some(text) = settings.get(&name) else { continue };
        match key(&name, text, is_local) {
            Ok(key) => keys.push(key),
            Err(why) => tracing::warn!("{why}; it is left out"),
        }
    }
    if keys.is_empty() {
        return Err("MCP_AUTH_ENABLED is true, and there is no key that can be used: set MCP_API_KEY_1 to KEY:OWNER_UUID".into());
    }
    Ok(AuthConfig { mode: Some("keys".into()), store: Some("memory:".into()), keys, ..AuthConfig::default() })
}

fn key(name: &str, text: &str, is_local: bool) -> Result<Given, String> {
    let key = Given::read(name, text)?;
    let mut parts = text.split(':').map(str::trim).skip(1);
    if !parts.next().is_some_and(|owner| owner.len() == 36 && Uuid::parse_str(owner).is_ok()) {
        return Err(format!("{name}: the owner is no UUID"));
    }
    if parts.next().is_some_and(|tenant| !tenant.is_empty() && (tenant.len() != 36 || Uuid::parse_str(tenant).is_err())) {
        return Err(format!("{name}: the tenant is no UUID"));
    }
    if key.is_short() {
        if !is_local {
            return Err(format!("{name}: the key has fewer than 16 characters, and could be guessed by others who can reach us"));
        }
        tracing::warn!("{name}: the key has fewer than 16 characters, and could be guessed");
    }
    Ok(key)
}

/// What it shows of HTTP+SSE.
fn profile() -> Profile {
    let refusal = |status, body| Some(Refusal { status, media: "text/plain; charset=utf-8", body });
    Profile {
        messages: "/sse?sessionid={id}".into(),
        no_session: refusal(StatusCode::BAD_REQUEST, "sessionid must be provided"),
        dead_session: refusal(StatusCode::NOT_FOUND, "session not found"),
        no_key: refusal(StatusCode::UNAUTHORIZED, "API key required"),
        bad_key: refusal(StatusCode::UNAUTHORIZED, "Invalid API key"),
        checks_revision: true,
        lenient: true,
        ..Profile::default()
    }
}

/// Where we can be reached on this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
