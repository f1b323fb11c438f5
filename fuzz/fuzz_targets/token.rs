//! Token requests: whatever the body, nobody without the code and its verifier, or the refresh token, is
//! given anything, and nobody more than was agreed to.

#![no_main]

use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::authorize::{Code, Grant};
use landbridge_proto::oauth::client::register;
use landbridge_proto::oauth::credentials::Credentials;
use landbridge_proto::oauth::form::Form;
use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::oauth::token::{CodeRecord, Lifetimes, Refresh, Wanted, redeem, refresh, wanted};
use libfuzzer_sys::fuzz_target;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fuzz_target!(|body: &str| {
    let registration = r#"{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}"#;
    let (client, _) = register(registration, "c".into(), [8; 32], 0).expect("a client");
    let lifetimes = Lifetimes { access_s: 60, refresh_s: 600 };
    let resource = Resource::read("https://h/api").expect("a resource");
    let grant =
        Grant { id: "g".into(), client_id: client.id.clone(), principal: "p".into(), resource, scopes: vec!["a".into(), "b".into()] };
    // Half of the work is done for the fuzzer.
    for before in ["", "grant_type=authorization_code&code=x&", "grant_type=refresh_token&refresh_token=x&"] {
        let Ok(form) = Form::read(&format!("{before}{body}")) else { continue };
        let _ = Credentials::read(Some(body), &form);
        let decision = match wanted(&form) {
            Err(_) => continue,
            Ok(Wanted::Code(_)) => {
                let code = Code {
                    grant: grant.clone(),
                    redirect_uri: "http://localhost:1/cb".into(),
                    challenge: Hash::of(VERIFIER),
                    expires_s: 10,
                };
                let decision = redeem(&form, &client, Some(CodeRecord::Fresh(code)), lifetimes, [[1; 32], [2; 32], [3; 32]], 5);
                assert!(decision.answer.is_err() || form.get("code_verifier") == Some(VERIFIER), "without the verifier");
                decision
            }
            Ok(Wanted::Refresh(_)) => {
                let record = Refresh { grant: grant.clone(), expires_s: 10, salt: [4; 32], used_s: None };
                refresh(&form, &client, Some(record), lifetimes, [1; 32], 5)
            }
        };
        match decision.answer {
            Ok(issued) => {
                assert!(grant.resource.opens(&issued.access.grant.resource));
                assert!(issued.access.grant.scopes.iter().all(|scope| grant.scopes.contains(scope)));
                assert_eq!((issued.access.grant.id.as_str(), issued.access.grant.principal.as_str()), ("g", "p"));
            }
            Err(refusal) => assert!(refusal.body().starts_with("{\"error\":\"")),
        }
    }
});
