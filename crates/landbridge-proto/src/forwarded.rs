//! What proxies in front of us say of a request: who sent it, to which host, and whether over TLS.
//!
//! Two notations: `Forwarded` (RFC 7239), and the older `X-Forwarded-For`, `-Proto` and `-Host`. Each hop adds
//! to the right, so what stands there is what our own proxy wrote, and what stands to its left is hearsay. The
//! client is the first hop from the right that is no trusted proxy; the host and the scheme are what the
//! outermost trusted proxy says that client asked for.
//!
//! Odd: both notations in one request are refused. A proxy writes one of them and passes the other on as it
//! came, so one of the two is the client's own invention, and nobody can tell which.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses, such as `10.0.0.0/8`, or one address (RFC 4632 §3.1, RFC 4291 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `ADDRESS` or `ADDRESS/BITS`. The error says what is wrong with it.
    pub fn read(text: &str) -> Result<Network, String> {
        let text = text.trim();
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let bad = || format!("{text:?} is no address and no range of addresses; write 127.0.0.1 or 10.0.0.0/8");
        let first: IpAddr = address.parse().map_err(|_| bad())?;
        let whole = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.parse().ok().filter(|n| *n <= whole && bits.bytes().all(|b| b.is_ascii_digit())).ok_or_else(bad)?,
            None => whole,
        };
        let network = Network { first, bits };
        if network.masked(first) != Some(number(first)) {
            let meant = network.masked(first).unwrap_or_default();
            let meant =
                if first.is_ipv4() { IpAddr::V4(Ipv4Addr::from_bits(meant as u32)) } else { IpAddr::V6(Ipv6Addr::from_bits(meant)) };
            return Err(format!("{text:?} has bits behind its first {bits}; for the whole range write {meant}/{bits}"));
        }
        Ok(network)
    }

    /// Whether an address is in it. An IPv4 address in the clothes of IPv6 is one of IPv4.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.masked(address.to_canonical()) == Some(number(self.first))
    }

    /// The bits of an address that count; `None` for one of the other family.
    fn masked(&self, address: IpAddr) -> Option<u128> {
        let whole: u8 = if self.first.is_ipv4() { 32 } else { 128 };
        let rest = u32::from(whole - self.bits);
        (address.is_ipv4() == self.first.is_ipv4())
            .then(|| number(address).checked_shr(rest).and_then(|n| n.checked_shl(rest)).unwrap_or(0))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The proxies whose word counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(pub Vec<Network>);

impl Proxies {
    /// Whether this one's does.
    pub fn trust(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.holds(peer))
    }
}

/// What a request's proxies say of it. Nothing is here that was not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said<'h> {
    /// Who sent it; `None` where a proxy does not know or does not tell.
    pub client: Option<IpAddr>,
    /// Whether it came over TLS.
    pub https: Option<bool>,
    /// Which host it was sent to: `name` or `name:port`.
    pub host: Option<&'h str>,
}

/// Reads what a trusted peer says. `values` gives the values of a header in their order, by its lower-case name.
/// The error says which header is wrong and how; it fits into an answer to whoever sent it.
pub fn read<'h, I: Iterator<Item = &'h [u8]>>(
    peer: IpAddr,
    proxies: &Proxies,
    values: impl Fn(&'static str) -> I,
) -> Result<Said<'h>, String> {
    let mut elsewhere = [FOR, PROTO, HOST].into_iter().filter(|name| values(name).next().is_some());
    if values(FORWARDED).next().is_none() {
        return Ok(Said {
            client: x_forwarded_for(peer, proxies, values(FOR))?,
            https: only(PROTO, values(PROTO))?.map(|scheme| scheme_of(PROTO, scheme)).transpose()?,
            host: only(HOST, values(HOST))?.map(|host| host_of(HOST, host)).transpose()?,
        });
    }
    if let Some(other) = elsewhere.next() {
        return Err(format!(
            "both `forwarded` and `{other}` are there, and one of them may be invented; the proxy has to remove the one that it does not write"
        ));
    }
    let mut said: Option<Said<'h>> = None;
    for value in values(FORWARDED) {
        elements(text(FORWARDED, value)?, |element| {
            let client = element.client;
            // A hop that is no trusted proxy: what stands left of it is what it says itself.
            let stranger = client.is_none_or(|client| !proxies.trust(client));
            if stranger || said.is_none() {
                said = Some(element);
            }
        })?;
    }
    Ok(said.unwrap_or(Said { client: Some(peer.to_canonical()), ..Said::default() }))
}

const FORWARDED: &str = "forwarded";
const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";

fn text<'h>(name: &str, value: &'h [u8]) -> Result<&'h str, String> {
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).ok_or_else(|| format!("`{name}` is no plain text"))
}

/// The one value of a header that may have one.
fn only<'h>(name: &str, mut values: impl Iterator<Item = &'h [u8]>) -> Result<Option<&'h str>, String> {
    let Some(value) = values.next() else { return Ok(None) };
    let value = text(name, value)?;
    if values.next().is_some() || value.contains(',') {
        return Err(format!("`{name}` has more than one value; the proxy has to set it, not to add to it"));
    }
    Ok(Some(value.trim()))
}

fn scheme_of(name: &str, scheme: &str) -> Result<bool, String> {
    match scheme {
        s if s.eq_ignore_ascii_case("https") => Ok(true),
        s if s.eq_ignore_ascii_case("http") => Ok(false),
        _ => Err(format!("`{name}` says {scheme:?}, and can say http or https")),
    }
}

/// A host as it stands in a URL. Whether it is one of ours is the guard's to say.
fn host_of<'h>(name: &str, host: &'h str) -> Result<&'h str, String> {
    let good = !host.is_empty() && host.len() <= 261 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    if good { Ok(host) } else { Err(format!("`{name}` says {host:?}, which is no host")) }
}

/// A hop: an address, perhaps with a port; `None` if it is not told. The error repeats it.
fn hop(name: &str, hop: &str) -> Result<Option<IpAddr>, String> {
    let address = match hop {
        // RFC 7239 §6.2 and §6.3: not known, or known under another name.
        _ if hop.eq_ignore_ascii_case("unknown") || (name == FORWARDED && is_obfuscated(hop)) => return Ok(None),
        _ => match hop.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
            Some((address, port)) => address.parse().ok().filter(|_| port.is_empty() || is_port(port)).map(IpAddr::V6),
            // RFC 7239 §6 wants brackets around an address with colons; the older header does not.
            None => hop.parse::<IpAddr>().ok().filter(|ip| name != FORWARDED || ip.is_ipv4()).or_else(|| {
                let (address, port) = hop.split_at(hop.find(':')?);
                address.parse().ok().filter(|_| is_port(port)).map(IpAddr::V4)
            }),
        },
    };
    address.map(|address| Some(address.to_canonical())).ok_or_else(|| format!("`{name}` says {hop:?}, which is no address"))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| is_obfuscated(port) || (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()))
}

fn is_obfuscated(name: &str) -> bool {
    name.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)))
}

// --- the older headers --------------------------------------------------------------------------

/// The rightmost hop that is no trusted proxy; the leftmost, if all are.
fn x_forwarded_for<'h>(peer: IpAddr, proxies: &Proxies, values: impl Iterator<Item = &'h [u8]>) -> Result<Option<IpAddr>, String> {
    let (mut found, mut first) = (Ok(Some(peer.to_canonical())), true);
    for value in values {
        for said in text(FOR, value)?.split(',') {
            let hop = hop(FOR, said.trim());
            let trusted = matches!(hop, Ok(Some(address)) if proxies.trust(address));
            // What stands left of a stranger is that stranger's, right or wrong.
            if first || !trusted {
                found = hop;
            }
            first = false;
        }
    }
    found
}

// --- RFC 7239 -----------------------------------------------------------------------------------

/// The elements of one `Forwarded` header, from the left (RFC 7239 §4).
fn elements<'h>(text: &'h str, mut take: impl FnMut(Said<'h>)) -> Result<(), String> {
    let bad = |why: &str| format!("`{FORWARDED}` {why}");
    let mut rest = text;
    loop {
        let (mut said, mut seen) = (Said::default(), [false; 4]);
        loop {
            rest = rest.trim_start_matches([' ', '\t']);
            // An empty element, or nothing behind a semicolon, says nothing.
            if !(rest.is_empty() || rest.starts_with([',', ';'])) {
                let (name, behind) = rest.split_once('=').ok_or_else(|| bad("has a parameter without a value"))?;
                if name.is_empty() || !name.bytes().all(is_token) {
                    return Err(bad("has a parameter whose name is none"));
                }
                let (value, plain, behind) = value(behind).ok_or_else(|| bad("has a value that is neither a word nor in quotes"))?;
                let known = ["for", "proto", "host", "by"].iter().position(|known| name.eq_ignore_ascii_case(known));
                if let Some(n) = known {
                    // RFC 7239 §4: each parameter once. With a backslash it would have two readings.
                    if std::mem::replace(&mut seen[n], true) || !plain {
                        return Err(bad(&format!("says `{}` twice, or with a backslash", name.to_ascii_lowercase())));
                    }
                }
                match known {
                    Some(0) => said.client = hop(FORWARDED, value)?,
                    Some(1) => said.https = Some(scheme_of(FORWARDED, value)?),
                    Some(2) => said.host = Some(host_of(FORWARDED, value)?),
                    _ => {}
                }
                rest = behind.trim_start_matches([' ', '\t']);
            }
            match rest.strip_prefix(';') {
                Some(behind) => rest = behind,
                None => break,
            }
        }
        // An empty element is none (RFC 9110 §5.6.1.2).
        if seen != [false; 4] {
            take(said);
        }
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if rest.is_empty() => return Ok(()),
            None => return Err(bad("goes on behind a value")),
        }
    }
}

/// A word, or what stands in quotes; whether it is without backslashes; and what follows.
fn value(text: &str) -> Option<(&str, bool, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|b| !is_token(b)).unwrap_or(text.len());
        return (end > 0).then(|| (&text[..end], true, &text[end..]));
    };
    let (mut plain, mut escaped) = (true, false);
    for (at, b) in quoted.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => (plain, escaped) = (false, true),
            b'"' => return Some((&quoted[..at], plain, &quoted[at + 1..])),
            _ => {}
        }
    }
    None
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read from these headers, when `10.0.0.1` and all of `10.0.0.0/8` and `fd00::/8` are trusted.
    fn said<'h>(headers: &'h [(&'h str, &'h str)]) -> Result<Said<'h>, String> {
        let proxies = Proxies(vec![Network::read("10.0.0.0/8").unwrap(), Network::read("fd00::/8").unwrap()]);
        let values = |name| headers.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value.as_bytes());
        read("10.0.0.1".parse().unwrap(), &proxies, values)
    }

    #[test]
    fn the_client_is_the_rightmost_stranger() {
        let v6 = "2001:db8::1";
        for (header, client) in [
            (FOR, &[][..], "10.0.0.1"),
            (FOR, &["203.0.113.7"], "203.0.113.7"),
            (FOR, &["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            (FOR, &["6.6.6.6, 203.0.113.7 ,10.9.9.9"], "203.0.113.7"),
            (FOR, &["6.6.6.6", "203.0.113.7", "10.9.9.9, fd00::2"], "203.0.113.7"),
            (FOR, &["<script>, 203.0.113.7"], "203.0.113.7"),
            (FOR, &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            (FOR, &["203.0.113.7:4711"], "203.0.113.7"),
            (FOR, &[v6], v6),
            (FOR, &["[2001:db8::1]"], v6),
            (FOR, &["[2001:db8::1]:4711"], v6),
            (FOR, &["::ffff:203.0.113.7, ::ffff:10.0.0.9"], "203.0.113.7"),
            (FOR, &["203.0.113.7, unknown"], ""),
            (FORWARDED, &["for=203.0.113.7"], "203.0.113.7"),
            (FORWARDED, &["For=6.6.6.6;proto=http, for=203.0.113.7;by=10.0.0.2, for=10.0.0.2"], "203.0.113.7"),
            (FORWARDED, &["for=6.6.6.6", "for=203.0.113.7", "for=\"[fd00::2]:80\""], "203.0.113.7"),
            (FORWARDED, &["for=\"[2001:db8::1]\""], v6),
            (FORWARDED, &["for=\"[2001:db8::1]:_port\", "], v6),
            (FORWARDED, &["for=\"203.0.113.7:4711\""], "203.0.113.7"),
            (FORWARDED, &["for=203.0.113.7, for=_hidden"], ""),
            (FORWARDED, &["for=203.0.113.7, proto=https"], ""),
            (FORWARDED, &[" ,for=10.3.3.3, , for=10.2.2.2 ; ; ,"], "10.3.3.3"),
        ]
        .map(|(name, values, client)| (values.iter().map(|value| (name, *value)).collect::<Vec<_>>(), client))
        {
            let found = said(&header).unwrap_or_else(|why| panic!("{header:?}: {why}")).client;
            assert_eq!(found.map(|ip| ip.to_string()).unwrap_or_default(), client, "{header:?}");
        }
    }

    #[test]
    fn host_and_scheme_are_those_the_client_asked_for() {
        for (headers, https, host) in [
            (&[(PROTO, "https"), (HOST, "mcp.example.com:8443")][..], Some(true), Some("mcp.example.com:8443")),
            (&[(PROTO, " HTTP ")], Some(false), None),
            (&[(FOR, "1.2.3.4")], None, None),
            (&[(FORWARDED, "for=1.2.3.4;proto=https;host=\"mcp.example.com:8443\"")], Some(true), Some("mcp.example.com:8443")),
            (
                &[(FORWARDED, "for=6.6.6.6;host=evil;proto=http, for=1.2.3.4;host=a;proto=https, for=10.0.0.2;host=b;proto=http")],
                Some(true),
                Some("a"),
            ),
            (&[(FORWARDED, "for=10.3.3.3;host=a, for=10.2.2.2;host=b")], None, Some("a")),
            (&[(FORWARDED, "host=a;secret=\"x,\\\";y\";PROTO=https")], Some(true), Some("a")),
        ] {
            let said = said(headers).unwrap_or_else(|why| panic!("{headers:?}: {why}"));
            assert_eq!((said.https, said.host), (https, host), "{headers:?}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_and_named() {
        for (headers, part) in [
            (&[(PROTO, "https, http")][..], "`x-forwarded-proto` has more than one value"),
            (&[(PROTO, "https"), (PROTO, "https")], "`x-forwarded-proto` has more than one value"),
            (&[(PROTO, "wss")], "can say http or https"),
            (&[(PROTO, "")], "can say http or https"),
            (&[(HOST, "a,b")], "`x-forwarded-host` has more than one value"),
            (&[(HOST, "a"), (HOST, "a")], "`x-forwarded-host` has more than one value"),
            (&[(HOST, "")], "no host"),
            (&[(HOST, "a/b")], "no host"),
            (&[(HOST, "u@a")], "no host"),
            (&[(HOST, "ä")], "no plain text"),
            (&[(FOR, "203.0.113.7, localhost")], "`x-forwarded-for` says \"localhost\", which is no address"),
            (&[(FOR, "")], "no address"),
            (&[(FOR, "203.0.113.7,")], "no address"),
            (&[(FOR, "[203.0.113.7]")], "no address"),
            (&[(FOR, "203.0.113.7:")], "no address"),
            (&[(FOR, "203.0.113.007")], "no address"),
            (&[(FOR, "_hidden")], "no address"),
            (&[(FORWARDED, "for=2001:db8::1")], "says \"2001\", which is no address"),
            (&[(FORWARDED, "host=a:80")], "goes on behind a value"),
            (&[(FORWARDED, "for=\"2001:db8::1\"")], "no address"),
            (&[(FORWARDED, "for=1.2.3.4;for=1.2.3.4")], "`for` twice"),
            (&[(FORWARDED, "host=\"a\\b\"")], "backslash"),
            (&[(FORWARDED, "for")], "without a value"),
            (&[(FORWARDED, "for=")], "neither a word nor in quotes"),
            (&[(FORWARDED, "for=\"1.2.3.4")], "neither a word nor in quotes"),
            (&[(FORWARDED, "for =1.2.3.4")], "name is none"),
            (&[(FORWARDED, "for=1.2.3.4 host=a")], "goes on behind a value"),
            (&[(FORWARDED, "proto=ftp")], "can say http or https"),
            (&[(FORWARDED, "for=1.2.3.4"), (FOR, "1.2.3.4")], "both `forwarded` and `x-forwarded-for`"),
            (&[(FORWARDED, "for=1.2.3.4"), (HOST, "a")], "both `forwarded` and `x-forwarded-host`"),
        ] {
            let why = said(headers).expect_err(&format!("{headers:?}"));
            assert!(why.contains(part), "{headers:?}: {why}");
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (network, address, holds) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "::10.1.2.3", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "8.8.8.8", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("192.0.2.4/31", "192.0.2.5", true),
        ] {
            assert_eq!(Network::read(network).unwrap().holds(address.parse().unwrap()), holds, "{network} {address}");
        }
        for (bad, part) in [
            ("", "no address"),
            ("localhost", "no address"),
            ("10.0.0.0/33", "no address"),
            ("10.0.0.0/+8", "no address"),
            ("10.0.0.0/", "no address"),
            ("10.1.0.0/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
        ] {
            assert!(Network::read(bad).unwrap_err().contains(part), "{bad}");
        }
    }
}
