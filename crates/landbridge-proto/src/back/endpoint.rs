//! Addresses that a server names: the endpoint of HTTP+SSE (2024-11-05), and redirects.
//!
//! They are references, resolved against the address they came from (RFC 3986 §5); the
//! specification does not say that they must be absolute, and servers send every kind. Where they lead
//! to another origin they are refused: our headers may hold secrets.

/// The address that `reference` means where it was read at `base`, an `http` or `https` URL.
pub fn resolve(base: &str, reference: &str) -> Result<String, String> {
    let reference = reference.trim_matches(|c: char| c.is_ascii_whitespace());
    let reference = reference.split('#').next().unwrap_or_default();
    let bad = |why: &str| Err(format!("{reference:?} {why}"));
    if reference.is_empty() {
        return bad("is empty");
    }
    if !reference.bytes().all(|b| b.is_ascii_graphic()) {
        return bad("holds a character that no URL may have");
    }
    let Some((scheme, authority, path)) = parts(base) else { return Err(format!("{base:?} is no http or https URL")) };
    if let Some((scheme, authority, path)) = parts(reference) {
        return Ok(join(scheme, authority, path));
    }
    if let Some(rest) = reference.strip_prefix("//") {
        let whole = format!("{scheme}://{rest}");
        return match parts(&whole) {
            Some((scheme, authority, path)) => Ok(join(scheme, authority, path)),
            None => bad("names no host"),
        };
    }
    // Another scheme, and not a path with a colon in it.
    let first = reference.split(['/', '?']).next().unwrap_or_default();
    if first.split_once(':').is_some_and(|(scheme, _)| scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))) {
        return bad("is no http or https URL");
    }
    let (base_path, _) = split_query(path);
    Ok(match reference.as_bytes()[0] {
        b'/' => join(scheme, authority, reference),
        b'?' => join(scheme, authority, &format!("{base_path}{reference}")),
        _ => {
            let folder = base_path.rsplit_once('/').map_or("", |(folder, _)| folder);
            join(scheme, authority, &format!("{folder}/{reference}"))
        }
    })
}

/// Whether two URLs have the same scheme, host and port.
pub fn same_origin(one: &str, other: &str) -> bool {
    match (origin(one), origin(other)) {
        (Some(one), Some(other)) => one == other,
        _ => false,
    }
}

fn origin(url: &str) -> Option<(String, String, u16)> {
    let (scheme, authority, _) = parts(url)?;
    let scheme = scheme.to_ascii_lowercase();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    // In brackets colons are part of the address.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name.to_owned(), if port.is_empty() { usual } else { port.parse().ok()? }),
        _ => (host, usual),
    };
    Some((scheme, name, port))
}

/// Scheme, authority, and the rest, which begins with `/` or `?` or is empty.
fn parts(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let rest = rest.split('#').next().unwrap_or_default();
    (!authority.is_empty() && !rest.starts_with('\\')).then_some((scheme, authority, rest))
}

fn split_query(path: &str) -> (&str, &str) {
    path.split_at(path.find('?').unwrap_or(path.len()))
}

/// The URL, its path without `.` and `..` (RFC 3986 §5.2.4).
fn join(scheme: &str, authority: &str, path: &str) -> String {
    let (path, query) = split_query(path);
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (n, segment) in segments.iter().enumerate() {
        let last = n + 1 == segments.len();
        match *segment {
            "." | ".." => {
                if *segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("{}://{authority}/{}{query}", scheme.to_ascii_lowercase(), kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_of_every_kind_are_resolved() {
        let base = "https://h:8443/a/sse?x=1";
        for (reference, url) in [
            ("/messages?sessionId=1", "https://h:8443/messages?sessionId=1"),
            ("messages?s=1", "https://h:8443/a/messages?s=1"),
            ("?s=1", "https://h:8443/a/sse?s=1"),
            ("../m", "https://h:8443/m"),
            ("./m/", "https://h:8443/a/m/"),
            ("../../../m/..", "https://h:8443/"),
            ("//other/m", "https://other/m"),
            ("HTTP://h/x#y", "http://h/x"),
            ("https://h:8443", "https://h:8443/"),
            (" /m \r", "https://h:8443/m"),
            ("m?a=b:c", "https://h:8443/a/m?a=b:c"),
        ] {
            assert_eq!(resolve(base, reference).as_deref(), Ok(url), "{reference}");
        }
        assert_eq!(resolve("http://h", "m").as_deref(), Ok("http://h/m"));
        for bad in ["", "#x", "ftp://h/x", "javascript:alert(1)", "//", "/a b", "/ü"] {
            assert!(resolve(base, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (one, other) in [("https://h/a", "https://H:443/b"), ("http://h:80", "http://h/?x"), ("http://[::1]/", "http://[::1]:80/")] {
            assert!(same_origin(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("https://h/", "http://h/"),
            ("https://h/", "https://h.evil/"),
            ("https://h/", "https://h:444/"),
            ("https://h/", "https://h\\@evil/"),
            ("https://h/", "https://u@evil/"),
            ("https://h/", "https://evil/@h"),
            ("http://[::1]/", "http://[::2]/"),
        ] {
            assert!(!same_origin(one, other), "{one} {other}");
        }
    }
}
