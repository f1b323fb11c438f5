//! Which addresses are public: where a document may be fetched that a stranger has named.
//!
//! What is not known to be public is not: the tables list what the registries of special-purpose addresses
//! (RFC 6890, as IANA keeps them) keep off the Internet. Odd: an IPv6 address can carry an IPv4 address to which
//! a network translates it, so both are looked at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not public, as address and length of prefix.
const V4: &[([u8; 4], u32)] = &[
    ([0, 0, 0, 0], 8),       // this network
    ([10, 0, 0, 0], 8),      // private
    ([100, 64, 0, 0], 10),   // behind a carrier's NAT
    ([127, 0, 0, 0], 8),     // loopback
    ([169, 254, 0, 0], 16),  // link-local, where clouds tell their machines who they are
    ([172, 16, 0, 0], 12),   // private
    ([192, 0, 0, 0], 24),    // protocol assignments
    ([192, 0, 2, 0], 24),    // documentation
    ([192, 31, 196, 0], 24), // AS112
    ([192, 52, 193, 0], 24), // AMT
    ([192, 88, 99, 0], 24),  // 6to4 relays
    ([192, 168, 0, 0], 16),  // private
    ([192, 175, 48, 0], 24), // AS112
    ([198, 18, 0, 0], 15),   // benchmarks
    ([198, 51, 100, 0], 24), // documentation
    ([203, 0, 113, 0], 24),  // documentation
    ([224, 0, 0, 0], 4),     // multicast
    ([240, 0, 0, 0], 4),     // reserved, and broadcast
];

/// IPv6 networks within 2000::/3 that are not public. Nothing outside of it is, but for NAT64.
const V6: &[([u16; 3], u32)] = &[
    ([0x2001, 0, 0], 23),         // protocol assignments: Teredo, benchmarks, ORCHID
    ([0x2001, 0xdb8, 0], 32),     // documentation
    ([0x2620, 0x4f, 0x8000], 48), // AS112
    ([0x3fff, 0, 0], 20),         // documentation
];

/// Whether an address is one of the public Internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Whether an address is of this machine, or of a network of somebody's own (RFC 1918, RFC 6598, RFC 4193): where an
/// operator may have a document. Never link-local, where clouds tell their machines their secrets.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let shared = address.to_bits() >> 22 == u32::from_be_bytes([100, 64, 0, 0]) >> 22;
            address.is_loopback() || address.is_private() || shared
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !V4.iter().any(|&(network, length)| (bits ^ u32::from_be_bytes(network)) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    // NAT64 (RFC 6052 §2.1) is how a network without IPv4 reaches it; 64:ff9b:1::/48 is for local use (RFC 8215).
    if [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return v4(g, h);
    }
    // Mapped, compatible, loopback, unique local, link-local, site-local, multicast: none is within 2000::/3.
    if a >> 13 != 1 {
        return false;
    }
    // 6to4 carries the address of its router (RFC 3056 §2).
    if a == 0x2002 {
        return v4(b, c);
    }
    let bits = address.to_bits() >> 80;
    let within = |&([x, y, z], length): &([u16; 3], u32)| {
        let network = u128::from(x) << 32 | u128::from(y) << 16 | u128::from(z);
        (bits ^ network) >> (48 - length) == 0
    };
    !V6.iter().any(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first and the last address of what is not public, and the neighbours that are.
    const TABLE: &[(&str, bool)] = &[
        ("0.0.0.0", false),
        ("0.255.255.255", false),
        ("1.0.0.0", true),
        ("9.255.255.255", true),
        ("10.0.0.0", false),
        ("10.255.255.255", false),
        ("11.0.0.0", true),
        ("100.63.255.255", true),
        ("100.64.0.0", false),
        ("100.127.255.255", false),
        ("100.128.0.0", true),
        ("126.255.255.255", true),
        ("127.0.0.1", false),
        ("127.255.255.255", false),
        ("128.0.0.0", true),
        ("169.253.255.255", true),
        ("169.254.169.254", false),
        ("169.255.0.0", true),
        ("172.15.255.255", true),
        ("172.16.0.0", false),
        ("172.31.255.255", false),
        ("172.32.0.0", true),
        ("192.0.0.8", false),
        ("192.0.1.0", true),
        ("192.0.2.1", false),
        ("192.88.99.1", false),
        ("192.167.255.255", true),
        ("192.168.0.1", false),
        ("192.169.0.0", true),
        ("198.17.255.255", true),
        ("198.18.0.0", false),
        ("198.19.255.255", false),
        ("198.20.0.0", true),
        ("198.51.100.7", false),
        ("203.0.113.7", false),
        ("223.255.255.255", true),
        ("224.0.0.1", false),
        ("239.255.255.255", false),
        ("240.0.0.1", false),
        ("255.255.255.255", false),
        ("8.8.8.8", true),
        ("93.184.216.34", true),
        ("::", false),
        ("::1", false),
        ("::2", false),
        // Compatible, mapped and translated forms of IPv4 addresses: SIIT, NAT64, 6to4, Teredo.
        ("::127.0.0.1", false),
        ("::8.8.8.8", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:10.0.0.1", false),
        ("::ffff:8.8.8.8", false),
        ("::ffff:0:10.0.0.1", false),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b::a9fe:a9fe", false),
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b:1::8.8.8.8", false),
        ("64:ff9b::1:8.8.8.8", false),
        ("2002:7f00:1::", false),
        ("2002:0a00:1::1", false),
        ("2002:a9fe:a9fe::", false),
        ("2002:808:808::1", true),
        ("2001::1", false),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", false),
        ("2001:2::1", false),
        ("2001:1ff:ffff::1", false),
        ("2001:200::1", true),
        ("2001:db8::1", false),
        ("2001:db8:ffff::1", false),
        ("2001:db9::1", true),
        ("2620:4f:8000::1", false),
        ("2606:4700::1111", true),
        ("2a00:1450:4001::200e", true),
        ("3ffe::1", true),
        ("3fff::1", false),
        ("3fff:fff:ffff::1", false),
        ("3fff:1000::1", true),
        ("4000::1", false),
        ("100::1", false),
        ("5f00::1", false),
        ("fc00::1", false),
        ("fd12:3456::1", false),
        ("fe80::1", false),
        ("febf::1", false),
        ("fec0::1", false),
        ("ff02::1", false),
    ];

    #[test]
    fn the_table_holds_row_by_row() {
        for (address, expected) in TABLE {
            assert_eq!(is_public(address.parse().unwrap()), *expected, "{address}");
        }
    }

    #[test]
    fn what_is_private_is_not_public_and_belongs_to_somebody() {
        let private = [
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.1",
            "::1",
            "fc00::1",
            "fd12:3456::1",
        ];
        for address in private {
            assert!(is_private(address.parse().unwrap()) && !is_public(address.parse().unwrap()), "{address}");
        }
        for (address, _) in TABLE.iter().filter(|(address, _)| !private.contains(address)) {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }
}
