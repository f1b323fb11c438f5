//! Which URLs a token opens, and the canonical form in which they are named.
//!
//! A token is for a resource (RFC 8707 §2): a URL. It opens that URL and those below it, where
//! "below" ends at a slash: a token for `https://h/api` opens `https://h/api/x` and never
//! `https://h/api-v2`; one for `https://h` opens all of that origin. Odd: a prefix is allowed at
//! all because clients name either the origin or the endpoint and servers must take both.

use std::fmt;

use super::url::Url;

/// A resource in canonical form: scheme and host in lower case, no usual port, no fragment, no
/// slash at the end (RFC 8707 §2; MCP authorization, "Canonical Server URI").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource(Url);

impl Resource {
    /// Reads the `resource` of a request, the `aud` of a token, or the URL of a mount of ours. The
    /// error fits after "the resource ".
    pub fn read(text: &str) -> Result<Resource, &'static str> {
        Url::read(text).map(|url| Resource(url.trimmed()))
    }

    /// Whether a token for this resource may be used at `url`.
    pub fn opens(&self, url: &Resource) -> bool {
        let (granted, asked) = (&self.0, &url.0);
        if (granted.is_https(), granted.host(), granted.port()) != (asked.is_https(), asked.host(), asked.port()) {
            return false;
        }
        // A query is part of a resource's name only where the token has one.
        if granted.query().is_some() {
            return self == url;
        }
        asked.path().strip_prefix(granted.path()).is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }

    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether one of a token's audiences opens `mount`. An audience that is no URL, or no proper one,
/// opens nothing.
pub fn opens<'a>(audiences: impl IntoIterator<Item = &'a str>, mount: &Resource) -> bool {
    audiences.into_iter().any(|audience| Resource::read(audience).is_ok_and(|resource| resource.opens(mount)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The truth table: the audience of a token, the URL it is used at, whether it opens.
    const TABLE: &[(&str, &str, bool)] = &[
        // The same, and everything below.
        ("https://h/mcp", "https://h/mcp", true),
        ("https://h", "https://h", true),
        ("https://h", "https://h/mcp", true),
        ("https://h", "https://h/servers/a/mcp", true),
        ("https://h/api", "https://h/api/x", true),
        ("https://h/api", "https://h/api/x/y", true),
        // Never above, beside, or across a boundary.
        ("https://h/mcp", "https://h", false),
        ("https://h/mcp", "https://h/sse", false),
        ("https://h/api/x", "https://h/api", false),
        ("https://h/api", "https://h/api-v2", false),
        ("https://h/api", "https://h/apiv2", false),
        ("https://h/api", "https://h/api%20v2", false),
        ("https://h/api", "https://h/api.json", false),
        ("https://h/api", "https://h/ap", false),
        ("https://h/mcp", "https://h/x/mcp", false),
        // With and without a slash at the end.
        ("https://h/", "https://h", true),
        ("https://h/", "https://h/mcp", true),
        ("https://h", "https://h/", true),
        ("https://h/mcp/", "https://h/mcp", true),
        ("https://h/mcp", "https://h/mcp/", true),
        ("https://h/api/", "https://h/api-v2", false),
        ("https://h/api/", "https://h/api/x", true),
        // Scheme and host in any case; paths in theirs.
        ("HTTPS://H.Example", "https://h.example/mcp", true),
        ("https://h/MCP", "https://h/mcp", false),
        // Ports.
        ("https://h:443", "https://h/mcp", true),
        ("https://h", "https://h:443/mcp", true),
        ("http://h:80", "http://h/mcp", true),
        ("https://h:8443", "https://h:8443/mcp", true),
        ("https://h", "https://h:8443/mcp", false),
        ("https://h:8443", "https://h/mcp", false),
        ("https://h:80", "https://h/mcp", false),
        ("https://h:", "https://h/mcp", false),
        // Another scheme or host.
        ("http://h", "https://h/mcp", false),
        ("https://h", "http://h/mcp", false),
        ("https://h", "https://h.evil/mcp", false),
        ("https://h.evil", "https://h/mcp", false),
        ("https://h", "https://evil-h/mcp", false),
        ("https://evil.h", "https://h/mcp", false),
        ("https://h", "https://evil.h/mcp", false),
        ("https://h", "https://hevil/mcp", false),
        ("http://localhost:1", "http://127.0.0.1:1/mcp", false),
        ("http://[::1]:1", "http://[0::1]:1/mcp", true),
        // User names, fragments, dot segments, percent signs, backslashes.
        ("https://h", "https://h@evil/mcp", false),
        ("https://u@h", "https://h/mcp", false),
        ("https://h/mcp#x", "https://h/mcp", false),
        ("https://h/mcp#", "https://h/mcp", false),
        ("https://h/api", "https://h/api/../mcp", false),
        ("https://h/./mcp", "https://h/mcp", false),
        ("https://h/api", "https://h/api/%2e%2e/mcp", false),
        ("https://h/api", "https://h/api%2f..%2fmcp", false),
        ("https://h/%6dcp", "https://h/mcp", false),
        ("https://h", "https://h\\.evil/mcp", false),
        ("https://h//", "https://h/mcp", false),
        ("https://h", "https://h//evil/mcp", false),
        // A query of the audience is part of its name; one of the URL is not.
        ("https://h/mcp", "https://h/mcp?x=1", true),
        ("https://h/mcp?x=1", "https://h/mcp?x=1", true),
        ("https://h/mcp?x=1", "https://h/mcp", false),
        ("https://h/mcp?x=1", "https://h/mcp?x=1&y=2", false),
        ("https://h/mcp?x=1", "https://h/mcp/y?x=1", false),
        // No URL at all.
        ("", "https://h/mcp", false),
        ("h", "https://h/mcp", false),
        ("*", "https://h/mcp", false),
        ("landbridge", "https://h/mcp", false),
        ("https://", "https://h/mcp", false),
        ("https://*", "https://h/mcp", false),
        (" https://h", "https://h/mcp", false),
    ];

    #[test]
    fn the_truth_table_holds_row_by_row() {
        for (audience, url, expected) in TABLE {
            let opened = Resource::read(url).is_ok_and(|mount| opens([*audience], &mount));
            assert_eq!(opened, *expected, "a token for {audience:?} at {url:?}");
        }
    }

    #[test]
    fn one_of_several_audiences_is_enough() {
        let mount = Resource::read("https://h/mcp").unwrap();
        assert!(opens(["account", "https://h"], &mount));
        assert!(!opens(["account", "https://other"], &mount));
        assert!(!opens([], &mount));
    }

    #[test]
    fn the_canonical_form_has_no_slash_at_the_end() {
        for (written, canonical) in [
            ("https://H:443/", "https://h"),
            ("https://h/Mcp/", "https://h/Mcp"),
            ("http://h:8080/a?b", "http://h:8080/a?b"),
            ("https://h/?b", "https://h?b"),
        ] {
            assert_eq!(Resource::read(written).unwrap().to_string(), canonical);
        }
    }
}
