//! Authorization requests: whatever the query, only the client's own redirect is answered, and what can be
//! granted is for a mount of ours and needs a verifier.

#![no_main]

use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::authorize::{Refused, Server, check};
use landbridge_proto::oauth::client::register;
use landbridge_proto::oauth::form::Form;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    let registration = r#"{"redirect_uris":["http://localhost/cb","app.example:/cb"],"token_endpoint_auth_method":"none"}"#;
    let (client, _) = register(registration, "c".into(), [8; 32], 0).expect("a client");
    let mounts = [Resource::read("https://h/mcp").expect("a resource")];
    let server = Server { issuer: "https://h", mounts: &mounts, scopes: &["a".to_owned()], unnamed: None };
    // Half of the work is done for the fuzzer.
    for before in ["", "client_id=c&redirect_uri=http://localhost:5/cb&response_type=code&code_challenge_method=S256&resource=https://h&"] {
        let Ok(form) = Form::read(&format!("{before}{query}")) else { continue };
        match check(&form, &client, &server) {
            Err(Refused::Shown(_)) => {}
            Err(Refused::Sent(location) | Refused::Offered { location, .. }) => {
                let (to, answer) = location.split_once('?').expect("parameters");
                assert!(client.redirects_to(to), "{location}");
                assert!(answer.starts_with("error=") && answer.ends_with("&iss=https%3A%2F%2Fh"), "{location}");
            }
            Ok(asked) => {
                assert!(client.redirects_to(&asked.redirect_uri) && form.twice().is_none());
                assert!(asked.resource.opens(&mounts[0]) && asked.scopes == ["a"]);
                assert_eq!(asked.state.as_deref(), form.get("state"));
            }
        }
    }
});
