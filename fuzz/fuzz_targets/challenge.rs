//! `WWW-Authenticate` of strangers: reading never panics and is bounded, and what is found reads the
//! same when it is written properly.

#![no_main]

use landbridge_proto::oauth::challenge::{Denied, bearer, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let all = read(text);
    assert!(all.len() <= 16);
    assert!(all.iter().map(|c| c.params.len()).sum::<usize>() <= text.len());
    for challenge in &all {
        assert!(!challenge.scheme.is_empty() && challenge.scheme.is_ascii());
    }
    let written = Denied::Invalid(text).challenge(text, &[text]);
    assert!(written.bytes().all(|b| (0x20..0x7f).contains(&b)));
    let challenge = bearer([written.as_str()]).expect("our own");
    assert_eq!(challenge.param("error"), Some("invalid_token"));
    assert!(challenge.scopes().all(|scope| scope == text));
});
