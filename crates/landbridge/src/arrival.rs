//! How a request reached us: over which connection, by which URL, and from whom.
//!
//! What a connection knows is an [`Arrival`]: two words that go with each of its requests. What follows from
//! it is found out when somebody asks, because most requests are answered without: a trusted proxy's word,
//! where there is one, and the plan's.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderMap;
use http::header::HOST;

use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::forwarded::{self, Said};

use crate::plan::Plan;

/// What the connection of a request knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival {
    /// Whose it is; unknown where somebody else listens for us.
    pub peer: Option<IpAddr>,
    /// Whether it is over TLS.
    pub tls: bool,
}

/// How a request reached us, proxies in between included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// By which URL: `scheme://host[:port]`, lower case, no slash at the end.
    pub base: String,
    /// From whom, if that is known.
    pub client: Option<IpAddr>,
    /// Whether over TLS, as the client sees it.
    pub secure: bool,
}

impl Arrival {
    /// What trusted proxies say of the request with these headers; nothing, if its peer is none. Allocates
    /// nothing. The fault is for headers that are no good.
    pub fn said<'h>(&self, plan: &Plan, headers: &'h HeaderMap) -> Result<Option<Said<'h>>, Fault> {
        let Some(peer) = self.peer.filter(|peer| plan.proxies.trust(*peer)) else { return Ok(None) };
        let values = |name| headers.get_all(name).iter().map(http::HeaderValue::as_bytes);
        let refused = |why| Fault::client(Kind::Invalid).tell(format!("a proxy in front of this gateway does not forward well: {why}"));
        forwarded::read(peer, &plan.proxies, values).map(Some).map_err(refused)
    }

    /// From whom the request with these headers is, if that is known. Allocates nothing.
    pub fn client(&self, plan: &Plan, headers: &HeaderMap) -> Result<Option<IpAddr>, Fault> {
        Ok(self.client_of(self.said(plan, headers)?))
    }

    /// The same, of what trusted proxies say.
    pub fn client_of(&self, said: Option<Said<'_>>) -> Option<IpAddr> {
        said.map_or_else(|| self.peer.map(|peer| peer.to_canonical()), |said| said.client)
    }

    /// All of it. The URL is the one of the plan, if it has one; else what a trusted proxy says; else what the
    /// connection and `Host` say. For requests that [`routes`](crate::routes) let in: their hosts are ours.
    pub fn reached(&self, plan: &Plan, headers: &HeaderMap) -> Result<Reached, Fault> {
        let said = self.said(plan, headers)?;
        let client = self.client_of(said);
        if let Some(base) = &plan.public_url {
            return Ok(Reached { base: base.clone(), client, secure: base.starts_with("https://") });
        }
        let said = said.unwrap_or_default();
        let secure = said.https.unwrap_or(self.tls);
        let host = said.host.or_else(|| headers.get(HOST)?.to_str().ok());
        let host = host.ok_or_else(|| Fault::client(Kind::Forbidden).tell("the Host header is missing"))?;
        let base = format!("{}://{}", if secure { "https" } else { "http" }, host.trim().to_ascii_lowercase());
        Ok(Reached { base, client, secure })
    }
}

/// Whom an address belongs to: of IPv6 everybody has a /64 to choose from.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_ipv6_a_network_counts() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
        assert_ne!(network("10.0.0.1"), network("10.0.0.2"));
    }

    fn reached(config: &str, arrival: Arrival, headers: &[(&'static str, &str)]) -> Result<(String, String, bool), String> {
        let plan = crate::config::Config::parse("f", config.into()).unwrap().check().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let reached = arrival.reached(&plan, &map).map_err(|fault| fault.told)?;
        assert_eq!(arrival.client(&plan, &map).unwrap(), reached.client);
        Ok((reached.base, reached.client.map(|ip| ip.to_string()).unwrap_or_default(), reached.secure))
    }

    #[test]
    fn a_request_reaches_us_by_the_first_word_that_counts() {
        let from = |peer: &str, tls| Arrival { peer: peer.parse().ok(), tls };
        let host = ("host", "LOCALHOST:1");
        let all = [host, ("x-forwarded-proto", "https"), ("x-forwarded-host", "H.example"), ("x-forwarded-for", "203.0.113.7")];
        let (trusting, known) = ("trusted_proxies = [\"127.0.0.1\"]", "public_url = \"https://p.example\"");
        let both = format!("{known}\n{trusting}");
        for (config, arrival, headers, base, client, secure) in [
            ("", from("127.0.0.1", false), &all[..1], "http://localhost:1", "127.0.0.1", false),
            ("", from("127.0.0.1", true), &all[..1], "https://localhost:1", "127.0.0.1", true),
            ("", from("", true), &all[..1], "https://localhost:1", "", true),
            ("", from("127.0.0.1", false), &all[..], "http://localhost:1", "127.0.0.1", false),
            ("", from("::ffff:10.0.0.1", false), &all[..], "http://localhost:1", "10.0.0.1", false),
            (trusting, from("127.0.0.2", false), &all[..], "http://localhost:1", "127.0.0.2", false),
            (trusting, from("127.0.0.1", false), &all[..], "https://h.example", "203.0.113.7", true),
            (trusting, from("::ffff:127.0.0.1", true), &all[..2], "https://localhost:1", "127.0.0.1", true),
            (trusting, from("127.0.0.1", true), &all[..1], "https://localhost:1", "127.0.0.1", true),
            (known, from("127.0.0.1", false), &all[..], "https://p.example", "127.0.0.1", true),
            (both.as_str(), from("127.0.0.1", false), &all[..], "https://p.example", "203.0.113.7", true),
        ] {
            let want = Ok((base.to_owned(), client.to_owned(), secure));
            assert_eq!(reached(config, arrival, headers), want, "{config} {arrival:?} {headers:?}");
        }
        let why = reached(trusting, from("127.0.0.1", false), &[host, ("x-forwarded-proto", "https,http")]).unwrap_err();
        assert!(why.contains("`x-forwarded-proto` has more than one value"), "{why}");
    }
}
