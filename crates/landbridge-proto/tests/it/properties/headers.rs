//! Headers are what strangers write: nothing panics, mirrors agree exactly, and no evil name passes.

use landbridge_proto::headers::{Accept, Guard, MirroredParam, check_param, decode_mirror, encode_mirror};
use proptest::prelude::*;

fn guard() -> Guard {
    Guard {
        loopback: true,
        hosts: vec!["mcp.example.com".into(), "other.example.com:8443".into()],
        origins: vec!["https://app.example.com".into()],
    }
}

proptest! {
    #[test]
    fn mirrors_round_trip(value in any::<String>()) {
        let coded = encode_mirror(&value);
        prop_assert!(coded.bytes().all(|b| (0x20..=0x7e).contains(&b) || b == b'\t'));
        // White space around a header's value is not part of it.
        let sent = format!(" {coded}\t");
        let decoded = decode_mirror(&sent);
        prop_assert_eq!(decoded.as_deref(), Some(value.as_str()));
    }

    #[test]
    fn odd_mirrors_round_trip(value in "(=\\?base64\\?|[ \t]|[a-z]|\\?=|=){0,4}") {
        let coded = encode_mirror(&value);
        let decoded = decode_mirror(&coded);
        prop_assert_eq!(decoded.as_deref(), Some(value.as_str()));
    }

    #[test]
    fn no_header_panics(text in any::<String>(), tail in "(;|; |,)?(q|Q)?=?.{0,4}") {
        let text = format!("{text}{tail}");
        let _ = Accept::read(Some(&text));
        let _ = Accept::read(Some(&format!("a;{text}")));
        let _ = decode_mirror(&text);
        let _ = guard().allows_host(&text);
        let _ = guard().allows_origin(&text);
    }

    #[test]
    fn accept_is_what_it_lists(types in prop::collection::vec(prop::sample::select(vec![
        ("application/json", true, false), ("text/event-stream", false, true), ("*/*", true, true), ("text/html", false, false),
        ("Application/*", true, false), ("text/*", false, true), ("text/event-stream;q=0", false, false), ("application/json ; Q=0.0", false, false),
    ]), 1..5)) {
        let header: Vec<&str> = types.iter().map(|t| t.0).collect();
        // A refusal by name outweighs whatever else the list says.
        let refused = |name: &str| types.iter().any(|t| t.0.to_lowercase().replace(' ', "").starts_with(&format!("{name};q=0")));
        let json = types.iter().any(|t| t.1) && !refused("application/json");
        let expected = Accept { json, events: types.iter().any(|t| t.2) && !refused("text/event-stream") };
        prop_assert_eq!(Accept::read(Some(&header.join(", "))), expected);
    }

    /// Nothing put before or behind a served name is served.
    #[test]
    fn evil_neighbours_never_pass(
        name in prop::sample::select(vec!["localhost", "127.0.0.1", "[::1]", "mcp.example.com", "other.example.com:8443"]),
        evil in "[a-z.@:\\[\\]0-9/-]{1,8}", behind in any::<bool>(),
    ) {
        let host = if behind { format!("{name}{evil}") } else { format!("{evil}{name}") };
        let harmless = |host: &str| {
            let (bare, port) = host.rsplit_once(':').filter(|(_, p)| !p.is_empty() && p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit())).unwrap_or((host, ""));
            let local = bare == "localhost" || bare == "[::1]" || bare.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
            local || bare == "mcp.example.com" || (bare == "other.example.com" && port == "8443")
        };
        prop_assert!(!guard().allows_host(&host) || harmless(&host), "{}", host);
        for scheme in ["http", "https"] {
            let origin = format!("{scheme}://{host}");
            prop_assert!(!guard().allows_origin(&origin) || harmless(&host), "{}", origin);
        }
        let origin = format!("https://app.example.com{evil}");
        prop_assert!(!guard().allows_origin(&origin), "{}", origin);
    }

    /// Two different numbers never agree: one would be routed and the other run.
    #[test]
    fn mirrored_numbers_agree_exactly(body in any::<i64>(), off in -2..=2_i64) {
        let header = body.saturating_add(off);
        let param = MirroredParam { header: "n".into(), path: vec!["n".into()] };
        let agrees = check_param(&param, Some(&header.to_string()), &format!("{{\"n\":{body}}}")).is_ok();
        prop_assert_eq!(agrees, header == body, "the header says {}, the body {}", header, body);
    }

    #[test]
    fn mirrored_strings_agree_exactly(body in any::<String>(), header in any::<String>()) {
        let param = MirroredParam { header: "s".into(), path: vec!["a".into(), "s".into()] };
        let arguments = format!("{{\"a\":{{\"s\":{}}}}}", landbridge_proto::json::quote(&body));
        prop_assert!(check_param(&param, Some(&encode_mirror(&body)), &arguments).is_ok());
        prop_assert_eq!(check_param(&param, Some(&encode_mirror(&header)), &arguments).is_ok(), header == body);
        prop_assert!(check_param(&param, None, &arguments).is_err());
    }
}
