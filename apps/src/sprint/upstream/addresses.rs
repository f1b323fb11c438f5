//! Where a service may be. What is configured is often copied from somewhere, and a server that asks whatever it is told to
//! asks its neighbours too: addresses are looked at when they are written, and whenever a name is looked up.

use std::net::{IpAddr, SocketAddr};

use reqwest::Url;

/// The base of a service, checked.
pub(in crate::sprint) fn base(name: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("{name} is {text:?}, which is no URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{name} is {text:?}; say https://HOST"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{name} must be a plain URL, without a user, a query or a fragment"));
    }
    Ok(url)
}

pub(super) fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Whether a service may be there. What clouds tell their machines (169.254.0.0/16) is nobody's Jira.
pub(super) fn allowed(address: IpAddr, private: bool) -> Result<(), String> {
    let address = address.to_canonical();
    let (never, inside) = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let never = v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast() || a == 0 || a >= 240;
            (never, v4.is_private() || v4.is_loopback() || (a == 100 && b & 0xc0 == 64))
        }
        IpAddr::V6(v6) => {
            let never = v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local();
            (never, v6.is_loopback() || v6.is_unique_local())
        }
    };
    match (never, inside) {
        (true, _) => Err(format!("{address} is no address of a service")),
        (_, true) if !private => Err(format!("{address} is on a private network; say SPRINT_ALLOW_PRIVATE=true if that is meant")),
        _ => Ok(()),
    }
}

/// Looks names up, and refuses addresses that are not allowed: at every connection, as names change.
pub(super) struct Names {
    pub(super) private: bool,
}

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let private = self.private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            for address in &found {
                allowed(address.ip(), private).map_err(|why| Box::new(Refused(why)))?;
            }
            Ok(Box::new(found.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

pub(super) fn refused(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(next) = cause {
        if let Some(Refused(why)) = next.downcast_ref() {
            return Some(why.clone());
        }
        cause = next.source();
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_machines_that_no_service_has_are_refused() {
        let ok = |text: &str, private| allowed(text.parse().unwrap(), private).is_ok();
        for never in ["169.254.169.254", "0.0.0.0", "::", "fe80::1", "224.0.0.1", "::ffff:169.254.169.254"] {
            assert!(!ok(never, true), "{never}");
        }
        for inside in ["127.0.0.1", "10.1.2.3", "192.168.0.9", "172.16.0.1", "100.64.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(!ok(inside, false) && ok(inside, true), "{inside}");
        }
        assert!(ok("104.192.136.1", false));
    }

    #[test]
    fn a_base_is_a_plain_url() {
        assert!(base("X", "https://jira.example.com/jira").is_ok());
        for bad in ["ftp://x", "https://u:p@x", "https://x?y=1", "x", "file:///etc/passwd"] {
            assert!(base("X", bad).unwrap_err().starts_with("X "), "{bad}");
        }
    }
}
