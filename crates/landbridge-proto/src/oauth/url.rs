//! An `http` or `https` URL, read so strictly that no two readers can disagree about it.
//!
//! What RFC 3986 allows and readers take differently is refused, not repaired: user names, dot
//! segments, needless percent signs, numbers that some take for an address. What merely has two
//! spellings (case of scheme and host, the usual port) gets one.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest URL that is read.
pub const MAX_URL: usize = 2 * 1024;

/// A URL without user name and fragment, in its one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    https: bool,
    host: String,
    port: u16,
    path: String,
    query: Option<String>,
}

impl Url {
    /// Reads an absolute URL. The error says what is wrong with it, and fits after "the URL ".
    pub fn read(text: &str) -> Result<Url, &'static str> {
        if text.len() > MAX_URL {
            return Err("is too long");
        }
        // A backslash is a slash to browsers; the others may not stand in a URL at all (RFC 3986 §2).
        if !text.bytes().all(|b| b.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&b)) {
            return Err("holds a character that no URL may have");
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Err("is not absolute") };
        let https = match scheme {
            s if s.eq_ignore_ascii_case("https") => true,
            s if s.eq_ignore_ascii_case("http") => false,
            _ => return Err("is neither http nor https"),
        };
        if rest.contains('#') {
            return Err("has a fragment");
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("has a user name");
        }
        // In brackets colons are part of the address.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            Some(port) => read_port(port)?,
            None => usual_port(https),
        };
        Ok(Url { https, host: read_host(host)?, port, path: read_path(path)?, query })
    }

    /// Whether the scheme is `https`.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host, lower case; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it is the usual one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path: empty, or beginning with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What stands behind `?`, as it was written.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Whether the host is this machine, as RFC 8252 §7.3 and §8.3 name it.
    pub fn is_loopback(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }

    /// Whether secrets may travel there: `https`, or this machine.
    pub fn is_secure(&self) -> bool {
        self.https || self.is_loopback()
    }

    /// `scheme://host`, with the port unless it is the usual one.
    pub fn origin(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        let port = if self.port == usual_port(self.https) { String::new() } else { format!(":{}", self.port) };
        format!("{scheme}://{}{port}", self.host)
    }

    /// The same URL, its path without a slash at the end.
    pub(super) fn trimmed(mut self) -> Url {
        let kept = self.path.trim_end_matches('/').len();
        self.path.truncate(kept);
        self
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)?;
        match &self.query {
            Some(query) => write!(f, "?{query}"),
            None => Ok(()),
        }
    }
}

fn usual_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

fn read_port(port: &str) -> Result<u16, &'static str> {
    if port.starts_with('0') || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err("has no proper port");
    }
    port.parse().map_err(|_| "has no proper port")
}

fn read_host(host: &str) -> Result<String, &'static str> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').and_then(|a| a.parse::<Ipv6Addr>().ok());
        return address.map(|a| format!("[{a}]")).ok_or("has no proper IPv6 address");
    }
    let host = host.to_ascii_lowercase();
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) || host.split('.').any(str::is_empty) {
        return Err("has no proper host");
    }
    // Browsers take `2130706433`, `0x7f.1` and `0177.0.0.1` for 127.0.0.1; others ask the DNS for them.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("has a host that is a number but no IPv4 address");
    }
    Ok(host)
}

/// The path with its percent signs in upper case.
fn read_path(path: &str) -> Result<String, &'static str> {
    let mut read = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let code = rest.get(at + 1..at + 3).and_then(byte_of).ok_or("has a percent sign without two digits")?;
        // What could stand there by itself, or would divide the path once it is decoded, has a
        // second meaning to somebody: `%2e%2e`, `%2F`, `%252F`, `%00`.
        if code.is_ascii() && !b" \"<>^`{|}".contains(&code) {
            return Err("has a needless percent sign in its path");
        }
        read.push_str(&rest[..at]);
        read.push_str(&format!("%{code:02X}"));
        rest = &rest[at + 3..];
    }
    read.push_str(rest);
    let n_segments = read.split('/').count();
    for (n, segment) in read.split('/').enumerate() {
        if matches!(segment, "." | "..") {
            return Err("has dot segments");
        }
        if segment.is_empty() && n != 0 && n + 1 != n_segments {
            return Err("has an empty segment in its path");
        }
    }
    Ok(read)
}

/// The byte that two hexadecimal digits stand for.
pub(super) fn byte_of(digits: &str) -> Option<u8> {
    // `from_str_radix` takes a sign.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_get_one_spelling() {
        for (written, read) in [
            ("https://Example.COM", "https://example.com"),
            ("HTTPS://h:443/Mcp", "https://h/Mcp"),
            ("http://h:80/", "http://h/"),
            ("http://h:443", "http://h:443"),
            ("https://h:8443/a/b/?x=%2e&y", "https://h:8443/a/b/?x=%2e&y"),
            ("https://h/%c3%bc", "https://h/%C3%BC"),
            ("https://h/a%20b", "https://h/a%20b"),
            ("http://[0:0::1]:80/x", "http://[::1]/x"),
            ("http://127.0.0.1:1", "http://127.0.0.1:1"),
            ("https://h?x", "https://h?x"),
        ] {
            assert_eq!(Url::read(written).unwrap().to_string(), read, "{written}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for bad in [
            "",
            "h",
            "/mcp",
            "//h/mcp",
            "ftp://h",
            "javascript://h/%0aalert(1)",
            "https://",
            "https:///mcp",
            "https:h",
            "https://u@h",
            "https://u:p@h",
            "https://h@evil",
            "https://h\\@evil",
            "https://h/\\evil",
            "https://h#x",
            "https://h/#",
            "https://h:",
            "https://h:0",
            "https://h:0443",
            "https://h:65536",
            "https://h:+443",
            "https://h:x",
            "https://h.",
            "https://.h",
            "https://a..b",
            "https://h%2eevil",
            "https://ü",
            "https://h /",
            "https://h/a b",
            "https://h/\u{e9}",
            "https://2130706433",
            "https://0x7f.1",
            "https://0177.0.0.1",
            "https://1.2.3",
            "https://[::1",
            "https://::1",
            "https://[::g]",
            "https://[::1]x",
            "https://h/./a",
            "https://h/a/..",
            "https://h/%2e%2e/a",
            "https://h/a%2fb",
            "https://h/a%5cb",
            "https://h/%61",
            "https://h/%252e",
            "https://h/%00",
            "https://h/%",
            "https://h/%4",
            "https://h/%+1",
            "https://h//a",
            "https://h/a//b",
            "https://h/a//",
        ] {
            assert!(Url::read(bad).is_err(), "{bad}");
        }
        assert!(Url::read(&format!("https://h/{}", "a".repeat(MAX_URL))).is_err());
    }
}
