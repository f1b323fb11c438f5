//! Redirect URIs: which may be registered, and which of a request is one that is registered.
//!
//! A code goes where this says, so the comparison is exact (RFC 9700 §2.1). The one exception is the
//! port on this machine, which a native client learns only when it listens (RFC 8252 §7.3).

use super::url::{MAX_URL, Url};

/// What a client is (OpenID Connect Registration §2, `application_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    /// It runs on a server: redirects are `https`.
    Web,
    /// It runs at its user's: redirects may lead to this machine or to a scheme of its own.
    Native,
}

impl Application {
    /// As it stands in a registration.
    pub fn as_str(self) -> &'static str {
        match self {
            Application::Web => "web",
            Application::Native => "native",
        }
    }
}

/// What such a URI is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Https,
    Loopback,
    PrivateUse,
}

/// Schemes that mean something to browsers or systems and so are nobody's own. `javascript` and `data`
/// would run in our own page's place.
const TAKEN: [&str; 27] = [
    "about",
    "blob",
    "chrome",
    "content",
    "data",
    "dav",
    "dict",
    "feed",
    "file",
    "filesystem",
    "ftp",
    "ftps",
    "gopher",
    "http",
    "https",
    "intent",
    "jar",
    "javascript",
    "ldap",
    "mailto",
    "resource",
    "smb",
    "ssh",
    "vbscript",
    "view-source",
    "ws",
    "wss",
];

/// Whether a client may register this URI. The error fits after "the redirect URI ".
pub fn check(uri: &str, application: Application) -> Result<(), &'static str> {
    match (place(uri)?, application) {
        (Place::Https, _) | (_, Application::Native) => Ok(()),
        (Place::Loopback | Place::PrivateUse, Application::Web) => Err("is not https, and the client says that it is no native one"),
    }
}

/// What a client is that does not say so: native if any of its redirects is for those only.
pub fn application_of(uris: &[String]) -> Application {
    let web = uris.iter().all(|uri| place(uri).is_ok_and(|place| place == Place::Https));
    if web { Application::Web } else { Application::Native }
}

fn place(uri: &str) -> Result<Place, &'static str> {
    if uri.len() > MAX_URL {
        return Err("is too long");
    }
    let Some((scheme, rest)) = uri.split_once(':') else { return Err("is not absolute") };
    let scheme = scheme.to_ascii_lowercase();
    if matches!(scheme.as_str(), "http" | "https") {
        let url = Url::read(uri)?;
        return match url {
            url if url.is_https() => Ok(Place::Https),
            url if url.is_loopback() => Ok(Place::Loopback),
            _ => Err("is neither https nor of this machine"),
        };
    }
    let proper =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if !proper || TAKEN.contains(&scheme.as_str()) || scheme.starts_with("ms-") {
        return Err("has a scheme that is no client's own");
    }
    // RFC 8252 §7.1 wants a domain name turned round (`com.example.app`); well-known editors have a
    // plain word, and an authority behind it.
    if !scheme.contains('.') && !rest.starts_with("//") {
        return Err("has a scheme that is no client's own");
    }
    if rest.is_empty() || !rest.bytes().all(|b| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b)) {
        return Err("holds a character that no URL may have");
    }
    if rest.contains('#') {
        return Err("has a fragment");
    }
    Ok(Place::PrivateUse)
}

/// Whether the URI of a request is the one that is registered.
pub fn matches(registered: &str, asked: &str) -> bool {
    if registered == asked {
        return place(asked).is_ok();
    }
    let (Ok(registered), Ok(asked)) = (Url::read(registered), Url::read(asked)) else { return false };
    let same = (registered.host(), registered.path(), registered.query()) == (asked.host(), asked.path(), asked.query());
    same && !registered.is_https() && !asked.is_https() && asked.is_loopback()
}

/// What a consent page shows of where the user will be sent: a host, or a scheme.
pub fn shown(uri: &str) -> String {
    match Url::read(uri) {
        Ok(url) => url.host().to_owned(),
        Err(_) => uri.split(':').next().unwrap_or_default().to_owned() + ":",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_home_or_nowhere() {
        for uri in ["https://claude.ai/api/mcp/auth_callback", "https://h:8443/cb?x=1", "https://h"] {
            assert!(check(uri, Application::Web).is_ok() && check(uri, Application::Native).is_ok(), "{uri}");
        }
        for uri in [
            "http://127.0.0.1/cb",
            "http://localhost:33418/",
            "http://[::1]:1/cb?x",
            "com.example.app:/oauth",
            "com.example.app://oauth/cb",
            "cursor://anysphere.cursor-retrieval/oauth/cb",
            "vscode://vscode.github-authentication/did-authenticate",
        ] {
            assert!(check(uri, Application::Native).is_ok(), "{uri}");
            assert!(check(uri, Application::Web).is_err(), "{uri}");
        }
        for uri in [
            "",
            "cb",
            "/cb",
            "//h/cb",
            "http://h/cb",
            "http://127.0.0.2/cb",
            "http://localhost.evil/cb",
            "http://localhost@evil/cb",
            "https://h/cb#x",
            "https://h/cb#",
            "https://u@h/cb",
            "https://h/a/../cb",
            "https://*.h/cb",
            "javascript:alert(1)",
            "JavaScript://h/%0aalert(1)",
            "data:text/html,x",
            "data://x",
            "file:///etc/passwd",
            "vbscript:x",
            "blob:https://h/x",
            "intent://x#Intent;end",
            "ms-msdt://x",
            "wss://h",
            "word:x",
            "com.example.app:",
            "com.example.app:/a b",
            "com.example.app:/a#b",
            "1com.x:/a",
            "com.x\n:/a",
            "urn:ietf:wg:oauth:2.0:oob",
        ] {
            assert!(check(uri, Application::Native).is_err(), "{uri}");
            assert!(!matches(uri, uri), "{uri}");
        }
    }

    #[test]
    fn only_the_port_on_this_machine_may_differ() {
        for (registered, asked) in [
            ("https://h/cb", "https://h/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb"),
            ("http://127.0.0.1:1/cb", "http://127.0.0.1:2/cb"),
            ("http://localhost:1/cb?a=b", "http://localhost:2/cb?a=b"),
            ("http://[::1]/cb", "http://[::1]:9/cb"),
            ("app.x:/cb", "app.x:/cb"),
        ] {
            assert!(matches(registered, asked), "{registered} {asked}");
        }
        for (registered, asked) in [
            ("https://h/cb", "https://h:444/cb"),
            ("https://h/cb", "https://h/cb/"),
            ("https://h/cb", "https://h/cb?x"),
            ("https://h/cb", "https://h/CB"),
            ("https://h/cb", "https://h/cb/../cb"),
            ("https://h/cb", "https://h.evil/cb"),
            ("https://h/cb", "http://h/cb"),
            ("http://h/cb", "http://h:1/cb"),
            ("http://127.0.0.1/cb", "http://localhost/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:1/other"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:1/cb?x"),
            ("http://127.0.0.1/cb", "https://127.0.0.1:1/cb"),
            ("https://127.0.0.1/cb", "https://127.0.0.1:1/cb"),
            ("http://localhost/cb", "http://localhost:1@evil/cb"),
            ("http://localhost/cb", "http://localhost:1/cb#x"),
            ("app.x:/cb", "APP.x:/cb"),
        ] {
            assert!(!matches(registered, asked), "{registered} {asked}");
        }
    }

    #[test]
    fn what_is_shown_is_where_it_leads() {
        assert_eq!(shown("https://Claude.ai/api"), "claude.ai");
        assert_eq!(shown("cursor://x/y"), "cursor:");
        let uris = |uris: &[&str]| uris.iter().map(|uri| (*uri).to_owned()).collect::<Vec<_>>();
        assert_eq!(application_of(&uris(&["https://h", "http://localhost"])), Application::Native);
        assert_eq!(application_of(&uris(&["https://h"])), Application::Web);
    }
}
