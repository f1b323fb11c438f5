//! Clients that introduce themselves: whoever becomes known has a redirect that leads home, and a
//! document speaks only for the URL it lies at.

#![no_main]

use landbridge_proto::oauth::client::{Auth, from_document, register};
use landbridge_proto::oauth::redirect::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok((client, answer)) = register(text, "id".into(), [7; 32], 0) {
        assert!(!client.redirect_uris.is_empty());
        assert!(client.redirect_uris.iter().all(|uri| check(uri, client.application).is_ok() && client.redirects_to(uri)));
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["client_id"], client.id);
        assert_eq!(answer["client_secret"].is_string(), client.auth != Auth::None);
        assert!(!client.name.chars().any(char::is_control));
    }
    const URL: &str = "https://h/c";
    if let Ok(client) = from_document(URL, text, 0) {
        assert_eq!(client.id, URL);
        assert!(text.contains("client_id") || text.contains('\\'));
        assert!(!matches!(client.auth, Auth::Secret(_)), "everybody can read it");
    }
});
