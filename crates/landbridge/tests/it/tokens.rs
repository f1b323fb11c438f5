//! Tokens of somebody else's authorization server: one on loopback that signs with real keys, changes them, and
//! misbehaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as sig;
use aws_lc_rs::signature::KeyPair as _;
use landbridge::fetch::{Fetcher, Reach};
use landbridge::foreign::{Check, Foreign, Settings};
use landbridge::introspect::{Credentials, Method};
use landbridge::jwt::assertion::Assertions;
use landbridge::jwt::keys::{KeySets, Keys};
use landbridge::jwt::own::Own;
use landbridge::jwt::{Refused, verify};
use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::client;
use landbridge_proto::oauth::jwk::Algorithm;
use landbridge_proto::oauth::jwt::{Access, MAX_ASSERTION_S, MAX_TOKEN, Rules, Typ, assertion};
use serde_json::{Value, json};

use crate::foreign as far;

const NOW_S: u64 = 1_000_000;

/// base64url without padding, which is all that is needed of it here.
fn b64(bytes: impl AsRef<[u8]>) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for three in bytes.as_ref().chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..=three.len() {
            text.push(LETTERS[(bits >> (18 - 6 * n)) as usize & 63] as char);
        }
    }
    text
}

/// A key of the server's, of any kind.
enum Secret {
    Rsa(sig::RsaKeyPair),
    P256(sig::EcdsaKeyPair),
    P384(sig::EcdsaKeyPair),
    Ed(sig::Ed25519KeyPair),
}

struct Pair {
    kid: String,
    secret: Secret,
}

impl Pair {
    fn rsa(kid: &str) -> Pair {
        Pair { kid: kid.into(), secret: Secret::Rsa(sig::RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap()) }
    }

    fn p256(kid: &str) -> Pair {
        let secret = Secret::P256(sig::EcdsaKeyPair::generate(&sig::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        Pair { kid: kid.into(), secret }
    }

    fn p384(kid: &str) -> Pair {
        let secret = Secret::P384(sig::EcdsaKeyPair::generate(&sig::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
        Pair { kid: kid.into(), secret }
    }

    fn ed(kid: &str) -> Pair {
        Pair { kid: kid.into(), secret: Secret::Ed(sig::Ed25519KeyPair::generate().unwrap()) }
    }

    /// The public half, as it is published.
    fn jwk(&self) -> Value {
        let point = |point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            (b64(x), b64(y))
        };
        match &self.secret {
            Secret::Rsa(pair) => {
                let modulus = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
                json!({"kty": "RSA", "kid": self.kid, "use": "sig", "e": "AQAB", "n": b64(modulus)})
            }
            Secret::P256(pair) => {
                let (x, y) = point(pair.public_key().as_ref());
                json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "x": x, "y": y})
            }
            Secret::P384(pair) => {
                let (x, y) = point(pair.public_key().as_ref());
                json!({"kty": "EC", "crv": "P-384", "kid": self.kid, "x": x, "y": y})
            }
            Secret::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "x": b64(pair.public_key().as_ref())}),
        }
    }

    /// Signs this header and these claims, whatever they say.
    fn sign(&self, header: &Value, claims: &str) -> String {
        let text = format!("{}.{}", b64(header.to_string()), b64(claims));
        let random = SystemRandom::new();
        let signature = match &self.secret {
            Secret::Rsa(pair) => {
                let encoding: &'static dyn sig::RsaEncoding = match header["alg"].as_str().unwrap() {
                    "RS384" => &sig::RSA_PKCS1_SHA384,
                    "RS512" => &sig::RSA_PKCS1_SHA512,
                    "PS256" => &sig::RSA_PSS_SHA256,
                    "PS384" => &sig::RSA_PSS_SHA384,
                    "PS512" => &sig::RSA_PSS_SHA512,
                    _ => &sig::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, text.as_bytes(), &mut signature).unwrap();
                signature
            }
            Secret::P256(pair) | Secret::P384(pair) => pair.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec(),
            Secret::Ed(pair) => pair.sign(text.as_bytes()).as_ref().to_vec(),
        };
        format!("{text}.{}", b64(signature))
    }

    fn token(&self, algorithm: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": algorithm, "kid": self.kid, "typ": "at+jwt"}), &claims.to_string())
    }
}

/// A token signed with a secret, which is no way to sign for us.
fn hmac(secret: &[u8], header: &Value, claims: &Value) -> String {
    let text = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let tag = aws_lc_rs::hmac::sign(&aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", b64(tag))
}

/// What the server answers, by its paths; a test changes it at will. A status of 0 cuts the connection short.
#[derive(Default)]
struct Said {
    keys: Vec<Value>,
    keys_status: u16,
    asked: Vec<Value>,
    ask_status: u16,
}

struct Server {
    server: far::Foreign,
    said: Arc<Mutex<Said>>,
}

impl Server {
    fn start(keys: &[&Pair]) -> Server {
        let said = Said { keys: keys.iter().map(|pair| pair.jwk()).collect(), keys_status: 200, asked: vec![], ask_status: 200 };
        let said = Arc::new(Mutex::new(said));
        let shared = said.clone();
        let server = far::Foreign::start(move |heard, reply| {
            let issuer = format!("http://{}", heard.header("host").unwrap());
            let mut said = shared.lock().unwrap();
            match heard.path.as_str() {
                "/.well-known/openid-configuration" => {
                    let document = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys"),
                        "introspection_endpoint": format!("{issuer}/ask")});
                    reply.json(200, &[], &document);
                }
                "/keys" if said.keys_status == 0 => drop(reply.events_as("text/plain")),
                "/keys" => reply.json(said.keys_status, &[("cache-control", "max-age=600")], &json!({"keys": said.keys})),
                "/ask" => {
                    let answer = if said.asked.len() > 1 { said.asked.remove(0) } else { said.asked[0].clone() };
                    reply.json(said.ask_status, &[], &answer);
                }
                _ => reply.empty(404),
            }
        });
        Server { server, said }
    }

    fn issuer(&self) -> String {
        self.server.url("")
    }

    /// How often a path was asked for.
    fn count(&self, path: &str) -> usize {
        self.server.heard().iter().filter(|heard| heard.path == path).count()
    }

    fn now_has(&self, keys: &[&Pair]) {
        self.said.lock().unwrap().keys = keys.iter().map(|pair| pair.jwk()).collect();
    }

    fn now_fails(&self, status: u16) {
        self.said.lock().unwrap().keys_status = status;
    }

    fn good(&self) -> Value {
        json!({"iss": self.issuer(), "sub": "ada", "aud": "https://h/mcp", "exp": NOW_S + 600, "iat": NOW_S,
            "client_id": "c", "scope": "a b", "jti": "1", "name": "Ada"})
    }

    fn foreign(&self, check: Check) -> Foreign {
        let settings = Settings {
            issuer: self.issuer(),
            check,
            audiences: vec!["api://landbridge".into()],
            algorithms: Algorithm::ALL.to_vec(),
            typ: None,
            leeway_s: 10,
        };
        Foreign::new(settings, fetcher()).unwrap()
    }

    fn asks(&self, answer: Value) {
        self.said.lock().unwrap().asked = vec![answer];
    }

    fn asked(&self, url: Option<String>, method: Method) -> Foreign {
        self.foreign(Check::Ask(
            url,
            Credentials { client_id: "us".into(), secret: landbridge_proto::oauth::secret::Secret::new("s/cret"), method },
        ))
    }
}

fn fetcher() -> Fetcher {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Fetcher::with_tls(Reach::Anywhere, tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn is_unavailable<T>(got: &Result<T, Refused>) -> bool {
    matches!(got, Err(Refused::Unavailable(_)))
}

#[tokio::test]
async fn every_algorithm_that_is_allowed_is_known() {
    let pairs = [Pair::rsa("r"), Pair::p256("p"), Pair::p384("q"), Pair::ed("e")];
    let server = Server::start(&pairs.each_ref());
    let foreign = server.foreign(Check::Discovered);
    for (n, algorithm) in
        [(0, "RS256"), (0, "RS384"), (0, "RS512"), (0, "PS256"), (0, "PS384"), (0, "PS512"), (1, "ES256"), (2, "ES384"), (3, "EdDSA")]
    {
        let holder = foreign.check(&pairs[n].token(algorithm, &server.good()), NOW_S).await.expect(algorithm);
        assert_eq!((holder.issuer.as_str(), holder.subject.as_str()), (server.issuer().as_str(), "ada"));
        assert_eq!((holder.name.as_deref(), holder.client_id.as_deref()), (Some("Ada"), Some("c")));
        assert_eq!((holder.scopes.as_slice(), holder.expires_s), (&["a".to_owned(), "b".to_owned()][..], NOW_S + 600));
    }
    let anew = pairs[3].token("Ed25519", &server.good());
    assert!(foreign.check(&anew, NOW_S).await.is_ok());
    assert_eq!(server.count("/keys"), 1);
}

#[tokio::test]
async fn a_bad_token_of_every_class_is_refused_and_a_good_one_is_not() {
    let (pair, other, stranger) = (Pair::rsa("r"), Pair::p256("p"), Pair::rsa("r"));
    let server = Server::start(&[&pair, &other]);
    let foreign = server.foreign(Check::Discovered);
    let with = |key: &str, value: Value| {
        let mut claims = server.good();
        claims[key] = value;
        claims
    };
    let good = pair.token("RS256", &server.good());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let typed = |typ: &str| pair.sign(&json!({"alg": "RS256", "kid": "r", "typ": typ}), &server.good().to_string());
    let modulus = pair.jwk()["n"].as_str().unwrap().to_owned();
    let hs256 = json!({"alg": "HS256", "kid": "r", "typ": "at+jwt"});
    let jwk = pair.jwk().to_string();
    let not_signed = "has a signature that is not its issuer's";
    let not_allowed = "is signed by an algorithm that is not allowed";
    let unfit = "is signed by another algorithm than its key is for";
    let twice = server.good().to_string().replacen('{', r#"{"sub":"eve","#, 1);
    let rows: Vec<(&str, String, &'static str)> = vec![
        ("wrong issuer", pair.token("RS256", &with("iss", json!("https://evil"))), "was issued by somebody else"),
        ("expired", pair.token("RS256", &with("exp", json!(NOW_S - 10))), "has expired"),
        ("not yet valid", pair.token("RS256", &with("nbf", json!(NOW_S + 11))), "is not valid yet"),
        ("issued in the future", pair.token("RS256", &with("iat", json!(NOW_S + 11))), "was issued in the future"),
        ("no exp", pair.token("RS256", &with("exp", Value::Null)), "does not say when it ends"),
        ("no sub", pair.token("RS256", &with("sub", Value::Null)), "does not say whom it is about"),
        ("no iss", pair.token("RS256", &with("iss", Value::Null)), "does not say who issued it"),
        ("a key twice", pair.sign(&json!({"alg": "RS256", "kid": "r"}), &twice), "holds no JSON object with each key once"),
        ("none", format!("{}.{payload}.", b64(r#"{"alg":"none","kid":"r"}"#)), not_allowed),
        ("none with a signature", format!("{}.{payload}.{signature}", b64(r#"{"alg":"none","kid":"r"}"#)), not_allowed),
        ("the public key as a secret", hmac(modulus.as_bytes(), &hs256, &server.good()), not_allowed),
        ("the public JWK as a secret", hmac(jwk.as_bytes(), &hs256, &server.good()), not_allowed),
        (
            "unknown kid",
            stranger.sign(&json!({"alg": "RS256", "kid": "x"}), &server.good().to_string()),
            "is signed with a key that its issuer does not have",
        ),
        ("another key of that name", stranger.token("RS256", &server.good()), not_signed),
        (
            "a key that it brings",
            stranger.sign(&json!({"alg": "RS256", "kid": "r", "jwk": stranger.jwk()}), &server.good().to_string()),
            not_signed,
        ),
        ("an RSA key for ES256", pair.sign(&json!({"alg": "ES256", "kid": "r"}), &server.good().to_string()), unfit),
        ("an EC key for RS256", other.sign(&json!({"alg": "RS256", "kid": "p"}), &server.good().to_string()), unfit),
        ("another key than the name says", other.sign(&json!({"alg": "RS256", "kid": "r"}), &server.good().to_string()), not_signed),
        ("PSS that says PKCS#1", format!("{signed}.{}", pair.token("PS256", &server.good()).rsplit('.').next().unwrap()), not_signed),
        ("tampered payload", format!("{header}.{}.{signature}", b64(with("sub", json!("eve")).to_string())), not_signed),
        ("tampered header", format!("{}.{payload}.{signature}", b64(r#"{"alg":"RS256","kid":"r"}"#)), not_signed),
        ("no signature", format!("{signed}."), not_signed),
        ("half a signature", good[..good.len() - 42].to_owned(), not_signed),
        ("no base64", format!("{signed}.!"), "is no signed JWT"),
        ("two parts", signed.to_owned(), "is no signed JWT"),
        ("five parts", format!("{good}.x.y"), "is no signed JWT"),
        ("garbage", "garbage".into(), "is no signed JWT"),
        ("nothing", String::new(), "is no signed JWT"),
        ("oversized", pair.token("RS256", &with("x", json!("x".repeat(MAX_TOKEN)))), "is too long"),
        (
            "crit",
            pair.sign(&json!({"alg": "RS256", "kid": "r", "crit": ["exp"]}), &server.good().to_string()),
            "asks for an extension of JWS",
        ),
        ("for something else", typed("dpop+jwt"), "is for something else, by its `typ`"),
    ];
    assert!(foreign.check(&good, NOW_S).await.is_ok());
    for (what, token, expected) in rows {
        assert_eq!(foreign.check(&token, NOW_S).await.unwrap_err(), Refused::Invalid(expected), "{what}");
        // Not the second time either.
        assert!(foreign.check(&token, NOW_S).await.is_err(), "{what}");
    }
    // Whom it is for is asked apart.
    for (audience, mount, opens) in [
        (json!("https://h/mcp"), "https://h/mcp", true),
        (json!("https://h/mcp"), "https://h/sse", false),
        (json!(["account", "api://landbridge"]), "https://h/sse", true),
        (json!("api://other"), "https://h/mcp", false),
        (json!("https://h.evil"), "https://h/mcp", false),
        (Value::Null, "https://h/mcp", false),
    ] {
        let holder = foreign.check(&pair.token("RS256", &with("aud", audience.clone())), NOW_S).await.unwrap();
        assert_eq!(foreign.opens(&holder, &Resource::read(mount).unwrap()), opens, "{audience} at {mount}");
    }
    assert!(foreign.check(&good, NOW_S).await.is_ok());
}

#[tokio::test]
async fn settings_are_strict_where_they_say_so() {
    let (pair, other) = (Pair::p256("p"), Pair::ed("e"));
    let server = Server::start(&[&pair, &other]);
    let settings = Settings {
        issuer: server.issuer(),
        check: Check::KeysAt(server.server.url("/keys")),
        audiences: vec![],
        algorithms: vec![Algorithm::Es256],
        typ: Some("at+jwt".into()),
        leeway_s: 0,
    };
    let foreign = Foreign::new(settings.clone(), fetcher()).unwrap();
    let header = |typ: &str| json!({"alg": "ES256", "kid": "p", "typ": typ});
    let claims = server.good().to_string();
    assert!(foreign.check(&pair.sign(&header("at+jwt"), &claims), NOW_S).await.is_ok());
    assert!(foreign.check(&pair.sign(&header("JWT"), &claims), NOW_S).await.is_err());
    assert!(foreign.check(&other.token("EdDSA", &server.good()), NOW_S).await.is_err());
    assert_eq!(foreign.check(&pair.token("ES256", &server.good()), NOW_S + 600).await.unwrap_err(), Refused::Invalid("has expired"));
    for (bad, told) in [
        (Settings { issuer: String::new(), ..settings.clone() }, "`issuer` is missing"),
        (Settings { algorithms: vec![], ..settings.clone() }, "`algorithms` allows none"),
        (Settings { leeway_s: 61, ..settings.clone() }, "`leeway_s` is more than 60"),
        (Settings { check: Check::KeysAt("http://h/keys".into()), ..settings.clone() }, "`jwks_url` is not https"),
        (Settings { check: Check::KeysOf("{}".into()), ..settings.clone() }, "`jwks`: `keys` is missing"),
        (Settings { check: Check::Discovered, issuer: "landbridge".into(), ..settings.clone() }, "`issuer` is not absolute"),
    ] {
        assert_eq!(Foreign::new(bad, fetcher()).unwrap_err(), told);
    }
    // An issuer need not be a URL where its keys are given.
    let keys = json!({"keys": [pair.jwk()]}).to_string();
    let named = Foreign::new(Settings { issuer: "joe".into(), check: Check::KeysOf(keys), ..settings }, fetcher()).unwrap();
    let mut claims = server.good();
    claims["iss"] = "joe".into();
    assert_eq!(named.check(&pair.token("ES256", &claims), NOW_S).await.unwrap().issuer, "joe");
}

#[tokio::test]
async fn a_token_that_was_seen_costs_nothing_until_it_expires() {
    let pair = Pair::p256("p");
    let server = Server::start(&[&pair]);
    let foreign = server.foreign(Check::Discovered);
    let mut claims = server.good();
    claims["exp"] = (NOW_S + 100).into();
    let token = pair.token("ES256", &claims);
    let first = foreign.check(&token, NOW_S).await.unwrap();
    let again = foreign.check(&token, NOW_S + 99).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    // Within the leeway it is looked at anew, and behind it refused.
    let late = foreign.check(&token, NOW_S + 100).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &late));
    assert_eq!(foreign.check(&token, NOW_S + 110).await.unwrap_err(), Refused::Invalid("has expired"));
    // The same payload under another signature is another token.
    let forged = format!("{}.{}", token.rsplit_once('.').unwrap().0, b64([1; 64]));
    assert!(foreign.check(&forged, NOW_S).await.is_err());
}

#[tokio::test]
async fn keys_change_and_are_fetched_again_but_not_for_everybody_who_asks() {
    let (old, new, stranger) = (Pair::p256("old"), Pair::p256("new"), Pair::p256("stranger"));
    let server = Server::start(&[&old]);
    let foreign = server.foreign(Check::Discovered);
    let claims = |n: u64| {
        let mut claims = server.good();
        (claims["jti"], claims["exp"]) = (n.to_string().into(), (NOW_S + 1_000_000).into());
        claims
    };
    assert!(foreign.check(&old.token("ES256", &claims(0)), NOW_S).await.is_ok());
    assert_eq!(server.count("/keys"), 1);
    // Names that are not known are asked for every 30 s.
    for n in 0..50 {
        assert!(foreign.check(&stranger.token("ES256", &claims(n)), NOW_S + 29).await.is_err());
    }
    assert_eq!(server.count("/keys"), 1);
    server.now_has(&[&new, &old]);
    let foreign = Arc::new(foreign);
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let (foreign, token) = (foreign.clone(), new.token("ES256", &claims(n)));
            tokio::spawn(async move { foreign.check(&token, NOW_S + 30).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(server.count("/keys"), 2);
    assert!(foreign.check(&old.token("ES256", &claims(1)), NOW_S + 31).await.is_ok());
    // When they are not fresh any more they are fetched, and one that was withdrawn is gone.
    server.now_has(&[&new]);
    assert!(foreign.check(&old.token("ES256", &claims(2)), NOW_S + 30 + 599).await.is_ok());
    assert!(foreign.check(&old.token("ES256", &claims(3)), NOW_S + 30 + 600).await.is_err());
    assert_eq!(server.count("/keys"), 3);
}

#[tokio::test]
async fn old_keys_are_good_for_a_day_while_new_ones_cannot_be_had() {
    let (pair, stranger) = (Pair::p256("p"), Pair::p256("x"));
    let server = Server::start(&[&pair]);
    let foreign = server.foreign(Check::Discovered);
    let token = |pair: &Pair, n: u64| {
        let mut claims = server.good();
        (claims["jti"], claims["exp"]) = (n.to_string().into(), (NOW_S + 1_000_000).into());
        pair.token("ES256", &claims)
    };
    assert!(foreign.check(&token(&pair, 0), NOW_S).await.is_ok());
    for (n, status) in [500, 404, 0].into_iter().enumerate() {
        server.now_fails(status);
        let (now_s, before) = (NOW_S + 1_000 + 100 * n as u64, server.count("/keys"));
        assert!(foreign.check(&token(&pair, 1), now_s).await.is_ok(), "{status}");
        // Whether a name is unknown or new cannot be said.
        assert!(is_unavailable(&foreign.check(&token(&stranger, 2), now_s).await), "{status}");
        assert_eq!(server.count("/keys"), before + 1);
    }
    server.now_fails(500);
    assert!(foreign.check(&token(&pair, 3), NOW_S + 86_399).await.is_ok());
    assert!(is_unavailable(&foreign.check(&token(&pair, 4), NOW_S + 86_400).await));
    // What is wrong with a token by itself is said all the same.
    assert!(matches!(foreign.check("garbage", NOW_S + 86_400).await, Err(Refused::Invalid(_))));
    server.now_fails(200);
    assert!(foreign.check(&token(&pair, 5), NOW_S + 86_500).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_not_there_is_not_the_clients_fault() {
    let pair = Pair::p256("p");
    let server = Server::start(&[&pair]);
    server.now_fails(500);
    let foreign = server.foreign(Check::Discovered);
    let token = pair.token("ES256", &server.good());
    assert!(is_unavailable(&foreign.check(&token, NOW_S).await));
    server.now_fails(200);
    assert!(is_unavailable(&foreign.check(&token, NOW_S + 1).await));
    assert!(foreign.check(&token, NOW_S + 2).await.is_ok());
    // A document about somebody else is none.
    let liar = far::Foreign::start(|_, reply| reply.json(200, &[], &json!({"issuer": "https://as", "jwks_uri": "https://as/keys"})));
    let keys = Keys::of_issuer(liar.url(""), fetcher());
    let rules = Rules { issuer: server.issuer(), algorithms: Algorithm::ALL.to_vec(), typ: Typ::ACCESS, leeway_s: 0 };
    let got = verify(&token, &keys, &rules, NOW_S).await;
    assert!(matches!(&got, Err(Refused::Unavailable(why)) if why.contains("it is about the issuer \"https://as\"")), "{got:?}");
}

#[tokio::test]
async fn a_server_is_asked_about_a_token_once_for_a_while() {
    let server = Server::start(&[]);
    for (method, url) in [(Method::Basic, None), (Method::Post, Some(server.server.url("/ask")))] {
        let before = server.count("/ask");
        let foreign = Arc::new(server.asked(url, method));
        server.asks(json!({"active": true, "sub": "ada", "scope": "a b", "client_id": "c", "aud": "https://h", "exp": NOW_S + 600}));
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let foreign = foreign.clone();
                tokio::spawn(async move { foreign.check("opaque token", NOW_S).await.unwrap() })
            })
            .collect();
        for task in tasks {
            let holder = task.await.unwrap();
            assert_eq!((holder.subject.as_str(), holder.issuer.as_str()), ("ada", server.issuer().as_str()));
            assert!(foreign.opens(&holder, &Resource::read("https://h/mcp").unwrap()));
        }
        assert_eq!(server.count("/ask"), before + 1);
        let heard = server.server.heard().into_iter().rfind(|heard| heard.path == "/ask").unwrap();
        assert!(heard.body.starts_with("token=opaque%20token&token_type_hint=access_token"), "{}", heard.body);
        match method {
            // us:s%2Fcret
            Method::Basic => assert_eq!(heard.header("authorization"), Some("Basic dXM6cyUyRmNyZXQ=")),
            Method::Post => {
                assert!(heard.header("authorization").is_none() && heard.body.ends_with("&client_id=us&client_secret=s%2Fcret"));
            }
        }
        // A token that was revoked lives on for a minute, and not longer; that it is not good is asked again after five seconds.
        server.asks(json!({"active": false}));
        assert!(foreign.check("opaque token", NOW_S + 59).await.is_ok());
        for (after_s, n_asked) in [(60, 2), (64, 2), (65, 3)] {
            assert_eq!(foreign.check("opaque token", NOW_S + after_s).await.unwrap_err(), Refused::Invalid("is not active"));
            assert_eq!(server.count("/ask"), before + n_asked);
        }
    }
}

#[tokio::test]
async fn an_answer_is_never_believed_longer_than_the_token_is_good_for() {
    let server = Server::start(&[]);
    let foreign = server.asked(Some(server.server.url("/ask")), Method::Basic);
    server.asks(json!({"active": true, "sub": "ada", "exp": NOW_S + 20}));
    assert!(foreign.check("t", NOW_S).await.is_ok());
    assert!(foreign.check("t", NOW_S + 19).await.is_ok());
    assert_eq!(server.count("/ask"), 1);
    assert!(foreign.check("t", NOW_S + 20).await.is_ok()); // within the leeway, asked anew
    assert_eq!(server.count("/ask"), 2);
    assert!(foreign.check("t", NOW_S + 30).await.is_err());
    assert!(foreign.check(&"t".repeat(MAX_TOKEN + 1), NOW_S).await.is_err());
    assert_eq!(server.count("/ask"), 3);
}

#[tokio::test]
async fn a_server_that_does_not_answer_has_not_said_no() {
    let server = Server::start(&[]);
    let foreign = server.asked(Some(server.server.url("/ask")), Method::Basic);
    server.asks(json!({"error": "invalid_client"}));
    for (n, status) in [401, 500, 403, 404, 503].into_iter().enumerate() {
        server.said.lock().unwrap().ask_status = status;
        let got = foreign.check("t", NOW_S + 2 * n as u64).await;
        assert!(is_unavailable(&got), "{status}: {got:?}");
        assert!(!format!("{got:?}").contains("cret"));
    }
    server.said.lock().unwrap().ask_status = 200;
    assert!(is_unavailable(&foreign.check("t", NOW_S + 100).await));
    server.asks(json!({"active": true, "sub": "ada"}));
    // That nobody answers is remembered for a second.
    assert!(is_unavailable(&foreign.check("t", NOW_S + 100).await));
    assert!(foreign.check("t", NOW_S + 101).await.is_ok());
    let gone = server.asked(Some("http://127.0.0.1:1/ask".into()), Method::Basic);
    assert!(is_unavailable(&gone.check("t", NOW_S).await));
    assert!(!format!("{gone:?}").contains("cret"));
}

#[tokio::test]
async fn our_own_tokens_pass_and_keep_passing_when_the_key_is_replaced() {
    let (first, second) = (Own::generate().unwrap(), Own::generate().unwrap());
    let own = Own::new(&first, &[]).unwrap();
    let scopes = ["a".to_owned()];
    let access = Access {
        issuer: "https://h",
        subject: "ada",
        audience: "https://h/mcp",
        client_id: "c",
        scopes: &scopes,
        id: "1",
        issued_s: NOW_S,
        expires_s: NOW_S + 600,
    };
    let token = own.sign("at+jwt", &access.claims()).unwrap();
    let rules = Rules { issuer: "https://h".into(), algorithms: vec![Algorithm::Es256], typ: Typ::Exactly("at+jwt".into()), leeway_s: 0 };
    let claims = verify(&token, &own.keys().unwrap(), &rules, NOW_S).await.unwrap();
    assert_eq!((claims.subject.as_str(), claims.scopes.as_slice()), ("ada", &scopes[..]));
    // The same key, read again, has the same name.
    assert_eq!(Own::new(&first, &[]).unwrap().kid(), own.kid());
    let next = Own::new(&second, std::slice::from_ref(&first)).unwrap();
    assert_ne!(next.kid(), own.kid());
    assert!(verify(&token, &next.keys().unwrap(), &rules, NOW_S).await.is_ok());
    let jwks: Value = serde_json::from_str(&next.jwks()).unwrap();
    assert_eq!((jwks["keys"][0]["kid"].as_str(), jwks["keys"][1]["kid"].as_str()), (Some(next.kid()), Some(own.kid())));
    assert!(jwks["keys"].as_array().unwrap().iter().all(|key| key.get("d").is_none() && key["use"] == "sig" && key["alg"] == "ES256"));
    let without = Own::new(&second, &[]).unwrap();
    assert!(verify(&token, &without.keys().unwrap(), &rules, NOW_S).await.is_err());
    assert!(Own::new(b"x", &[]).is_err() && Own::new(&first, &[b"x".to_vec()]).is_err());
    assert_eq!(format!("{next:?}"), format!("Own({}, and 1 before it)", next.kid()));
}

#[tokio::test]
async fn a_client_shows_who_it_is_once_with_each_signature() {
    let own = Own::new(&Own::generate().unwrap(), &[]).unwrap();
    let jwks = own.jwks();
    let published = far::Foreign::start(move |_, reply| reply.whole(200, &[], &jwks));
    let sets = KeySets::new(fetcher(), 8);
    let keys = sets.of(&client::Keys::At(published.url("/keys"))).unwrap();
    let assertions = Assertions::default();
    let ours = ["https://h", "https://h/token"];
    let signed = |typ: &str, id: &str, audience: &str| own.sign(typ, &assertion("c", audience, id, NOW_S)).unwrap();
    let first = signed("JWT", "1", "https://h");
    assert_eq!(assertions.check(&first, "c", &keys, &ours, NOW_S).await, Ok(()));
    assert_eq!(assertions.check(&first, "c", &keys, &ours, NOW_S + 1).await, Err(Refused::Invalid("was shown before")));
    assert_eq!(assertions.check(&signed("client-authentication+jwt", "2", "https://h/token"), "c", &keys, &ours, NOW_S).await, Ok(()));
    for (what, bad, client) in [
        ("another client", signed("JWT", "3", "https://h"), "d"),
        ("another audience", signed("JWT", "4", "https://other"), "c"),
        ("an access token", signed("at+jwt", "5", "https://h"), "c"),
        ("expired", own.sign("JWT", &assertion("c", "https://h", "6", NOW_S - MAX_ASSERTION_S - 31)).unwrap(), "c"),
        ("no jti", signed("JWT", "", "https://h"), "c"),
        (
            "somebody else's key",
            Own::new(&Own::generate().unwrap(), &[]).unwrap().sign("JWT", &assertion("c", "https://h", "7", NOW_S)).unwrap(),
            "c",
        ),
    ] {
        assert!(matches!(assertions.check(&bad, client, &keys, &ours, NOW_S).await, Err(Refused::Invalid(_))), "{what}");
    }
    // What was refused has used nothing up.
    assert_eq!(assertions.check(&signed("JWT", "7", "https://h"), "c", &keys, &ours, NOW_S).await, Ok(()));
    let shown = Arc::new(AtomicUsize::new(0));
    let (assertions, race) = (Arc::new(assertions), signed("JWT", "8", "https://h"));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (assertions, keys, race, shown) = (assertions.clone(), keys.clone(), race.clone(), shown.clone());
            tokio::spawn(async move {
                if assertions.check(&race, "c", &keys, &["https://h"], NOW_S).await.is_ok() {
                    shown.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(shown.load(Ordering::Relaxed), 1);
    // The keys are the same as long as their place is, and were fetched once.
    assert!(Arc::ptr_eq(&sets.of(&client::Keys::At(published.url("/keys"))).unwrap(), &keys));
    assert_eq!(published.heard().len(), 1);
    let inline = sets.of(&client::Keys::These(own.jwks())).unwrap();
    assert_eq!(assertions.check(&signed("JWT", "9", "https://h"), "c", &inline, &ours, NOW_S).await, Ok(()));
    assert!(sets.of(&client::Keys::These("{}".into())).is_err());
}
