//! Documents of other servers: whatever is used of them is about whom we asked, and leads to no place
//! that secrets must not be sent to.

#![no_main]

use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::discovery::{Guarded, Issuer, issuer_urls};
use landbridge_proto::oauth::metadata::asked_for;
use landbridge_proto::oauth::url::Url;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let url = Resource::read("https://h/mcp").expect("a resource");
    if let Ok(found) = Guarded::read(text, &url) {
        assert!(Resource::read(&found.resource).is_ok_and(|resource| resource.opens(&url)));
        assert!(!found.issuers.is_empty() && found.issuers.iter().all(|issuer| issuer_urls(issuer).is_ok()));
    }
    if let Ok(found) = Issuer::read(text, "https://h") {
        assert_eq!(found.issuer, "https://h");
        let endpoints = [Some(&found.authorization_endpoint), Some(&found.token_endpoint), found.registration_endpoint.as_ref()];
        for endpoint in endpoints.into_iter().flatten() {
            assert!(Url::read(endpoint).is_ok_and(|url| url.is_secure()));
        }
    }
    if let Some((_, of)) = asked_for(text) {
        assert!((of.is_empty() || of.starts_with('/')) && text.contains(of));
    }
    if let Ok(urls) = issuer_urls(text) {
        let origin = Url::read(text).expect("a URL").origin();
        assert!(urls.iter().all(|url| Url::read(url).is_ok_and(|url| url.origin() == origin)));
    }
});
