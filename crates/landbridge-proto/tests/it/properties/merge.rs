//! Names of several servers: whatever they are, clients take them, and each finds back.

use landbridge_proto::merge::names::{Directory, Found, MAX_NAME};
use landbridge_proto::merge::pages;
use proptest::prelude::*;

/// Names that servers may have, and names that look like what stands between them.
fn server() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z0-9._-]{1,64}", "[ab._-]{1,5}", "[aA]_{0,3}[bB]?"]
}

fn thing() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z_]{0,80}", "[ab_]{0,6}", "\\PC{0,80}", "[ab_]{0,3}_[0-9a-f]{12}", any::<String>()]
}

proptest! {
    #[test]
    fn every_name_finds_back(servers in prop::collection::btree_set(server(), 1..6), things in prop::collection::btree_set(thing(), 1..12)) {
        let mut all = Directory::new(servers.iter().cloned());
        let mut called = std::collections::BTreeMap::new();
        for server in 0..servers.len() {
            for thing in &things {
                let Some(name) = all.learn(server, thing) else {
                    prop_assert!(thing.len() > 1_000);
                    continue;
                };
                prop_assert!(name.len() <= MAX_NAME && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{}", name);
                prop_assert_eq!(called.insert(name.clone(), (server, thing.clone())), None, "{} twice", name);
            }
        }
        let mut others = Directory::new(servers.iter().cloned());
        for (name, (server, thing)) in called {
            prop_assert_eq!(all.find(&name), Found::At(server, thing.clone()));
            match others.find(&name) {
                Found::At(at, found) => prop_assert_eq!((at, &found), (server, &thing)),
                Found::Perhaps(servers) => prop_assert!(servers.contains(&server)),
                Found::Nowhere => prop_assert!(false, "{} of {} is nobody's", thing, server),
            }
            prop_assert_eq!(others.learn(server, &thing), Some(name));
        }
    }

    #[test]
    fn every_uri_finds_back(servers in prop::collection::btree_set(server(), 1..6), uri in prop_oneof![any::<String>(), "ui://[a-z/+.]{0,9}", "[a-z]{1,5}[+.]{0,2}[a-z]{0,5}:[a-z/{}]{0,9}"]) {
        let all = Directory::new(servers.iter().cloned());
        for server in 0..servers.len() {
            let called = all.uri(server, &uri);
            prop_assert_eq!(all.find_uri(&called), Some((server, uri.clone())));
            let scheme = all.uri(server, "");
            prop_assert!(scheme.starts_with(|c: char| c.is_ascii_lowercase()), "{}", scheme);
            let other = format!("{}{uri}", scheme.to_ascii_uppercase());
            prop_assert_eq!(all.find_uri(&other), Some((server, uri.clone())));
        }
        let _ = all.find_uri(&uri);
        let _ = all.find(&uri);
    }

    #[test]
    fn every_cursor_is_read_as_it_was_written(parts in prop::collection::btree_map(server(), any::<String>(), 1..6)) {
        let written = pages::cursor(parts.iter().map(|(server, next)| (server.as_str(), next.as_str()))).unwrap();
        let read: std::collections::BTreeMap<String, String> = pages::parts_of(&written).unwrap().into_iter().collect();
        prop_assert_eq!(read, parts);
    }
}
