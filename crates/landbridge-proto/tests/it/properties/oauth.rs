//! Authorization: nothing strangers write panics, passes for what it is not, or opens what it should not.

use landbridge_proto::oauth::audience::{Resource, opens};
use landbridge_proto::oauth::authorize::{self, Refused, Server};
use landbridge_proto::oauth::challenge::{Denied, bearer, read};
use landbridge_proto::oauth::client::{Client, from_document, is_document, register};
use landbridge_proto::oauth::discovery::{Guarded, Issuer, issuer_urls, resource_urls};
use landbridge_proto::oauth::form::{Form, with_params};
use landbridge_proto::oauth::metadata::{AuthorizationServer, Kind, ProtectedResource, asked_for};
use landbridge_proto::oauth::redirect::{self, Application};
use landbridge_proto::oauth::secret::{Hash, spell};
use landbridge_proto::oauth::url::Url;
use proptest::prelude::*;

/// URLs, nearly all of which are proper.
fn url() -> impl Strategy<Value = String> {
    let host = "(h|H|h\\.evil|evil\\.h|127\\.0\\.0\\.1|\\[::1\\]|localhost)";
    (prop::sample::select(vec!["https", "http", "HTTPS"]), host, "(:443|:80|:8443)?", path(), "(\\?[a-z=&]{0,4})?")
        .prop_map(|(scheme, host, port, path, query)| format!("{scheme}://{host}{port}{path}{query}"))
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof!["(/(api|mcp|api-v2|a)){0,3}/?", "(/[a-z.%0-9-]{0,4}){0,3}"]
}

proptest! {
    #[test]
    fn a_url_is_read_as_it_is_written(text in prop_oneof![url(), any::<String>(), "https?://[a-z@:/?#%.\\[\\]0-9]{0,20}"]) {
        if let Ok(read) = Url::read(&text) {
            let written = read.to_string();
            prop_assert_eq!(Url::read(&written), Ok(read.clone()), "{} {}", text, written);
            prop_assert!(written.starts_with(&read.origin()));
        }
    }

    /// What opens lies below, by a comparison that knows nothing of how it is done.
    #[test]
    fn what_opens_lies_below(audience in url(), asked in url()) {
        let Ok(mount) = Resource::read(&asked) else { return Ok(()) };
        let opened = opens([audience.as_str()], &mount);
        let Ok(granted) = Resource::read(&audience) else {
            prop_assert!(!opened);
            return Ok(());
        };
        let segments = |resource: &Resource| -> Vec<String> {
            let url = resource.url();
            std::iter::once(url.origin()).chain(url.path().split('/').filter(|s| !s.is_empty()).map(str::to_owned)).collect()
        };
        let below = segments(&mount).starts_with(&segments(&granted));
        let expected = if granted.url().query().is_some() { granted == mount } else { below };
        prop_assert_eq!(opened, expected, "{} at {}", granted, mount);
        prop_assert!(granted.opens(&granted));
    }

    /// Nothing put before or behind a host is that host.
    #[test]
    fn evil_neighbours_are_not_opened(evil in "[a-z.@:\\\\#%0-9-]{1,8}", behind in any::<bool>()) {
        let host = if behind { format!("h.example{evil}") } else { format!("{evil}h.example") };
        if let Ok(mount) = Resource::read(&format!("https://{host}/mcp")) {
            prop_assert!(!opens(["https://h.example"], &mount) || host == "h.example:443", "{}", mount);
        }
    }

    /// What we write we read, and it is one challenge and one line whatever goes in.
    #[test]
    fn a_challenge_is_read_as_it_is_written(metadata in "[ -~]{0,20}", scopes in prop::collection::vec(any::<String>(), 0..4), told in any::<String>()) {
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        for denied in [Denied::Missing, Denied::Invalid(&told), Denied::Scope(&told), Denied::Malformed(&told)] {
            let written = denied.challenge(&metadata, &scopes);
            prop_assert!(written.bytes().all(|b| (0x20..0x7f).contains(&b)), "{}", written);
            prop_assert_eq!(read(&written).len(), 1);
            let challenge = bearer([written.as_str()]).unwrap();
            prop_assert_eq!(challenge.param("resource_metadata"), Some(metadata.as_str()));
            prop_assert_eq!(challenge.param("error").is_none(), denied == Denied::Missing);
            prop_assert!(challenge.scopes().all(|scope| scopes.contains(&scope)));
        }
    }

    #[test]
    fn no_challenge_panics(text in prop_oneof![any::<String>(), "([Bb]earer|a|=|,| |\"|\\\\|ü|b=c|d==){0,12}"]) {
        for challenge in read(&text) {
            prop_assert!(!challenge.scheme.is_empty());
        }
    }

    /// Whatever our mounts and our issuer are called, a client that looks in order finds them.
    #[test]
    fn what_is_published_is_found(url in url(), scopes in prop::collection::vec("[a-z:]{1,5}", 0..3)) {
        let Ok(resource) = Resource::read(&url) else { return Ok(()) };
        let issuer = format!("https://h{}", resource.url().path());
        let mount = ProtectedResource { resource: resource.clone(), authorization_servers: vec![issuer.clone()], scopes: scopes.clone(), name: None };
        prop_assert_eq!(&resource_urls(&resource)[0], &mount.url());
        let path = mount.url()[resource.url().origin().len()..].split('?').next().unwrap().to_owned();
        prop_assert_eq!(asked_for(&path), Some((Kind::Resource, resource.url().path())));
        let found = Guarded::read(&mount.document(), &resource).unwrap();
        prop_assert_eq!((found.issuers, &found.scopes), (vec![issuer.clone()], &scopes));
        let server = AuthorizationServer { issuer: issuer.clone(), scopes, registration: true, client_documents: true, signing: vec![] };
        for url in issuer_urls(&issuer).unwrap() {
            let (kind, of) = asked_for(&url["https://h".len()..]).unwrap();
            prop_assert_eq!(of, resource.url().path());
            let document = if kind == Kind::OpenId { server.openid_document() } else { server.document() };
            prop_assert!(Issuer::read(&document, &issuer).is_ok());
        }
    }

    #[test]
    fn a_form_is_read_as_it_is_written(params in prop::collection::btree_map(any::<String>(), "\\PC{1,8}|[&=+% ]{1,3}", 0..5)) {
        let pairs: Vec<(&str, &str)> = params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let url = with_params("https://h/cb", &pairs);
        prop_assert!(Url::read(&url).is_ok(), "{}", url);
        let form = Form::read(url.split_once('?').map_or("", |(_, query)| query)).unwrap();
        prop_assert_eq!(form.twice(), None);
        for (name, value) in pairs {
            prop_assert_eq!(form.get(name), Some(value));
        }
    }

    /// What matches is the same but for a port on this machine.
    #[test]
    fn redirects_match_exactly(registered in url(), asked in prop_oneof![url(), any::<String>()], port in 1..=65535_u16) {
        if redirect::matches(&registered, &asked) && registered != asked {
            let (one, other) = (Url::read(&registered).unwrap(), Url::read(&asked).unwrap());
            prop_assert!(one.is_loopback() && !one.is_https() && !other.is_https());
            prop_assert_eq!((one.host(), one.path(), one.query()), (other.host(), other.path(), other.query()));
        }
        for host in ["127.0.0.1", "[::1]", "localhost"] {
            let (registered, asked) = (format!("http://{host}/cb"), format!("http://{host}:{port}/cb"));
            prop_assert!(redirect::matches(&registered, &asked));
            prop_assert!(redirect::check(&asked, Application::Native).is_ok());
        }
        let _ = redirect::check(&asked, Application::Web);
        let _ = redirect::shown(&asked);
    }

    #[test]
    fn a_hash_is_of_one_secret(one in any::<[u8; 32]>(), other in any::<[u8; 32]>(), text in any::<String>()) {
        let hash = Hash::of(&spell(one));
        prop_assert!(hash.is_of_verifier(&spell(one)));
        prop_assert_eq!(hash.is_of(&spell(other)), one == other);
        prop_assert_eq!(Hash::read(&hash.to_string()), Some(hash));
        prop_assert!(!hash.is_of(&text));
        if let Some(read) = Hash::read(&text) {
            prop_assert_eq!(read.to_string(), text);
        }
    }

    /// Whoever becomes known can be sent home, and only there.
    #[test]
    fn a_client_that_is_known_can_be_redirected(uris in prop::collection::vec(prop_oneof![url(), "[a-z.]{1,8}:/{0,2}[a-z#/]{0,5}"], 0..4), name in any::<String>(), random in any::<u8>()) {
        let mut document = serde_json::json!({"redirect_uris": uris, "client_name": name, "client_id": "https://h/client"});
        if let Ok((client, answer)) = register(&document.to_string(), "client".into(), [random; 32], 0) {
            prop_assert!(!uris.is_empty() && uris.iter().all(|uri| client.redirects_to(uri)));
            prop_assert!(!client.redirects_to("https://evil/cb") && !client.name.chars().any(char::is_control));
            prop_assert!(answer.contains(&client.id));
        }
        document["token_endpoint_auth_method"] = "none".into();
        prop_assert!(!is_document("https://h") && is_document("https://h/client"));
        let known = from_document("https://h/client", &document.to_string(), 0);
        prop_assert_eq!(known.is_ok(), register(&document.to_string(), "client".into(), [random; 32], 0).is_ok());
        prop_assert!(from_document("https://h/Client", &document.to_string(), 0).is_err());
    }

    /// Whatever is asked, nobody but the client is answered, and every answer says who answers.
    #[test]
    fn only_the_client_is_answered(params in prop::collection::vec(param(), 0..10), usual in any::<bool>()) {
        let client = known_client();
        let mounts = [Resource::read("https://h/mcp").unwrap()];
        let scopes = ["read".to_owned()];
        let server = Server { issuer: "https://as", mounts: &mounts, scopes: &scopes, unnamed: mounts.first() };
        let mut pairs: Vec<(&str, &str)> = params.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if usual {
            pairs.extend([("response_type", "code"), ("client_id", &client.id), ("code_challenge_method", "S256"), ("redirect_uri", "http://localhost:7/cb")]);
        }
        let form = Form::read(with_params("", &pairs).get(1..).unwrap_or_default()).unwrap();
        let location = match authorize::check(&form, &client, &server) {
            Err(Refused::Shown(_)) => return Ok(()),
            Err(Refused::Sent(location)) => {
                prop_assert!(location.starts_with("http://localhost:"), "{}", location);
                location
            }
            Err(Refused::Offered { redirect_uri, location, .. }) => {
                prop_assert!(location.starts_with(&redirect_uri) && redirect_uri == "https://h/cb", "{}", location);
                location
            }
            Ok(asked) => {
                prop_assert_eq!(form.twice(), None);
                prop_assert!(mounts.iter().any(|mount| asked.resource.opens(mount)));
                prop_assert!(asked.scopes.iter().all(|scope| scopes.contains(scope)) && !asked.scopes.is_empty());
                prop_assert_eq!(asked.state.as_deref(), form.get("state"));
                asked.grant("ada".into(), server.issuer, [[1; 32], [2; 32]], 0).location
            }
        };
        let (to, answer) = location.split_once('?').unwrap();
        prop_assert!(client.redirects_to(to), "{}", location);
        let answer = Form::read(answer).unwrap();
        prop_assert_eq!(answer.get("iss"), Some("https://as"));
        prop_assert!(answer.get("code").is_some() != answer.get("error").is_some());
        if !form.is_twice("state") {
            prop_assert_eq!(answer.get("state"), form.get("state"));
        }
    }
}

fn known_client() -> Client {
    let registration = r#"{"redirect_uris":["http://localhost/cb","https://h/cb"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}"#;
    register(registration, "client".into(), [4; 32], 0).unwrap().0
}

/// A parameter of a request, often as it should be.
fn param() -> impl Strategy<Value = (&'static str, String)> {
    let names =
        vec!["state", "scope", "resource", "code_challenge", "redirect_uri", "client_id", "response_type", "response_mode", "request", "x"];
    let values = prop_oneof![
        any::<String>(),
        url(),
        prop::sample::select(vec![
            "code",
            "S256",
            "read",
            "https://h/mcp",
            "https://h",
            "http://localhost:1/cb",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        ])
        .prop_map(str::to_owned),
    ];
    (prop::sample::select(names), values)
}
