//! Header values: nothing panics, mirrors round-trip, and no foreign host or page passes.
//!
//! Odd: the property of the guard is stated the other way round: whatever passes must be one of
//! the few spellings of a name that was configured.

#![no_main]

use landbridge_proto::headers::{Accept, Guard, decode_mirror, encode_mirror, is_json, mirrored_params};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = Accept::read(Some(text));
    let _ = is_json(Some(text));
    let coded = encode_mirror(text);
    assert_eq!(decode_mirror(&coded).as_deref(), Some(text));
    assert!(coded.bytes().all(|b| (0x20..=0x7e).contains(&b) || b == b'\t'));
    let _ = decode_mirror(text);

    let guard = Guard { loopback: true, hosts: vec!["mcp.example.com".into()], origins: vec!["https://app.example.com".into()] };
    if guard.allows_host(text) {
        let name = text.trim().to_ascii_lowercase();
        let name = name.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(&*name, |(name, _)| name);
        assert!(known(name), "{text}");
    }
    if guard.allows_origin(text) {
        let origin = text.trim().to_ascii_lowercase();
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://")).expect("a page of the web");
        let host = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(name, _)| name);
        assert!(known(host) || host == "app.example.com", "{text}");
    }
    if let Ok(schema) = serde_json::from_str(text)
        && let Ok(params) = mirrored_params(&schema)
    {
        assert!(params.len() <= 64);
    }
});

fn known(name: &str) -> bool {
    let loopback = |n: &str| n.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    matches!(name, "localhost" | "[::1]" | "mcp.example.com" | "[:" | "[::1") || loopback(name)
}
