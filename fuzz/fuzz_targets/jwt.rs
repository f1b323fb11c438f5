//! Tokens, keys and answers of other servers: nothing that is taken of them says two things, is signed by what is
//! not allowed, or outlives its bounds.

#![no_main]

use landbridge_proto::oauth::freshness::{Keep, Said};
use landbridge_proto::oauth::introspection::Introspected;
use landbridge_proto::oauth::jwk::{Algorithm, pick, read_set, set};
use landbridge_proto::oauth::jwt::{Claims, Jws, MAX_LEEWAY_S, Rules, Typ, with_signature};
use libfuzzer_sys::fuzz_target;

const NOW_S: u64 = 1_000_000;

fuzz_target!(|text: &str| {
    let rules = Rules { issuer: "https://h".into(), algorithms: vec![Algorithm::Es256], typ: Typ::ACCESS, leeway_s: u64::MAX };
    let held = |claims: &Claims| {
        assert!(claims.issuer == rules.issuer && !claims.subject.is_empty());
        assert!(claims.expires_s + MAX_LEEWAY_S > NOW_S);
        assert!(claims.issued_s.is_none_or(|issued_s| issued_s <= NOW_S + MAX_LEEWAY_S));
        assert!(claims.scopes.iter().all(|scope| !scope.contains(' ')));
    };
    if let Ok(jws) = Jws::read(text) {
        assert_eq!(with_signature(jws.signed, &jws.signature), text);
        if rules.admit(&jws.header).is_ok() {
            assert_eq!(jws.header.algorithm, Algorithm::Es256);
        }
    }
    if let Ok(claims) = Claims::read(text)
        && rules.hold(&claims, NOW_S).is_ok()
    {
        held(&claims);
    }
    if let Ok(Introspected::Active(claims)) = Introspected::read(text, &rules, NOW_S) {
        held(&claims);
    }
    if let Ok(keys) = read_set(text) {
        assert_eq!(read_set(&set(&keys)).as_ref(), Ok(&keys));
        for algorithm in Algorithm::ALL {
            for kid in keys.iter().map(|key| key.kid.as_deref()).chain([None]) {
                if let Ok(key) = pick(&keys, kid, algorithm) {
                    assert!(key.checks(algorithm) && (kid.is_none() || key.kid.as_deref() == kid));
                }
            }
        }
    }
    let said = Said { cache_control: Some(text), expires: Some(text), date: Some(text), age: Some(text) };
    for said in [said, Said { cache_control: None, ..said }] {
        assert!((60..=600).contains(&Keep { least_s: 60, most_s: 600, silent_s: 0 }.seconds(said, NOW_S)));
    }
});
