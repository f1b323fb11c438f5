//! Audiences: whatever opens a mount names its origin, and a path that ends at a boundary.

#![no_main]

use landbridge_proto::oauth::audience::{Resource, opens};
use landbridge_proto::oauth::url::Url;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(url) = Url::read(text) {
        assert_eq!(Url::read(&url.to_string()), Ok(url), "it stays what it is");
    }
    let mount = Resource::read("https://h.example/api/mcp").expect("a resource");
    if opens([text], &mount) {
        let lower = text.to_ascii_lowercase();
        let rest = lower.strip_prefix("https://h.example").expect("its origin");
        let path = rest.strip_prefix(":443").unwrap_or(rest);
        assert!(matches!(path.strip_suffix('/').unwrap_or(path), "" | "/api" | "/api/mcp"), "{text}");
    }
    // As the URL that is asked for: what a token for all of an origin opens is of that origin.
    if let Ok(asked) = Resource::read(text)
        && opens(["https://h.example"], &asked)
    {
        assert_eq!(asked.url().origin(), "https://h.example", "{text}");
    }
});
