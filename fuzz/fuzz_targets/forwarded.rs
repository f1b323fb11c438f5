//! What proxies say: nothing panics, a client is never taken from what stands left of a stranger, and a host or a
//! scheme is only what somebody wrote.

#![no_main]

use std::net::IpAddr;

use landbridge_proto::forwarded::{Network, Proxies, read};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

fuzz_target!(|written: Vec<(u8, Vec<u8>)>| {
    let proxies = Proxies(vec![Network::read("10.0.0.0/8").expect("a range"), Network::read("fd00::/8").expect("a range")]);
    let peer: IpAddr = "10.0.0.1".parse().expect("an address");
    let headers: Vec<(&str, &[u8])> = written.iter().map(|(name, value)| (NAMES[usize::from(*name) % 4], value.as_slice())).collect();
    let said = |headers: &[(&str, &[u8])]| {
        let values = |name| headers.iter().filter(move |(n, _)| *n == name).map(|(_, value)| *value);
        read(peer, &proxies, values).map(|said| (said.client, said.https, said.host.map(str::to_owned)))
    };
    let found = said(&headers);
    if let Ok((_, _, Some(host))) = &found {
        assert!(headers.iter().any(|(_, value)| value.windows(host.len()).any(|w| w == host.as_bytes())));
    }
    // Whoever stands in front of the client can say what it likes.
    let proxied: Vec<(&str, &[u8])> = headers.iter().copied().chain([("x-forwarded-for", &b"203.0.113.7, 10.2.2.2"[..])]).collect();
    if let Ok((client, ..)) = said(&proxied) {
        assert_eq!(client, "203.0.113.7".parse().ok());
    }
    if let Some(network) = written.first().and_then(|(_, text)| std::str::from_utf8(text).ok()).and_then(|text| Network::read(text).ok()) {
        assert_eq!(Network::read(&network.to_string()), Ok(network));
        assert!(!network.holds(if network.to_string().contains(':') { peer } else { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1u16]) }));
    }
});
