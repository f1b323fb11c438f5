//! Addresses that a server names: what they resolve to is one we can call, and of that origin or not.

#![no_main]

use landbridge_proto::back::endpoint::{resolve, same_origin};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|reference: &str| {
    for base in ["http://a.example:8080/deep/sse?x=1", "https://[::1]/sse", "http://a.example"] {
        let Ok(resolved) = resolve(base, reference) else { continue };
        assert!(resolved.starts_with("http://") || resolved.starts_with("https://"), "{resolved}");
        assert!(resolved.bytes().all(|b| b.is_ascii_graphic()) && !resolved.contains('#'), "{resolved}");
        assert_eq!(resolve(base, &resolved).as_deref(), Ok(resolved.as_str()), "it stays what it is");
        // Without a scheme or a host of its own it cannot leave.
        let trimmed = reference.trim();
        let names_a_host = trimmed.starts_with("//") || trimmed.contains("://");
        assert!(names_a_host || same_origin(base, &resolved), "{base} {reference:?} {resolved}");
    }
});
