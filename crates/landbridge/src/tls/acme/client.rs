//! A client of ACME (RFC 8555): every request but the first two is a POST that the account's key signed.
//!
//! One order at a time, one name after the other, within one limit of time for all of it.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{Method, Uri};
use http_body_util::{BodyExt as _, Limited};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout};

use super::super::Shown;
use super::Trouble;
use crate::backend::http::{AGENT, Http};
use crate::config::remote_url;
use crate::plan::Acme;

/// For one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// For all of an order: authorities may look at a challenge several times.
const ORDER: Duration = Duration::from_secs(5 * 60);
/// From one look at what takes time to the next, if the authority does not say; and at most.
const POLL: Duration = Duration::from_secs(1);
const LONGEST_POLL: Duration = Duration::from_secs(30);
/// The largest answer.
const MAX_ANSWER: usize = 256 * 1024;
/// How often a number that was refused is replaced (RFC 8555 §6.5).
const RENEWED: usize = 10;

/// An account at an authority.
pub(super) struct Client {
    http: Http,
    key: EcdsaKeyPair,
    /// The public half, as a JWK whose members are in order (RFC 7638 §3).
    jwk: String,
    /// The account's URL, once it is known.
    account: Option<String>,
    /// The number for the next request.
    nonce: Option<String>,
    new_nonce: Uri,
    new_order: Uri,
    until: Instant,
}

/// An answer that is no refusal.
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|e| format!("an answer is no JSON: {e}"))
    }
}

impl Client {
    /// Reads the directory, and opens the account of that key or finds it again.
    pub(super) async fn open(http: Http, acme: &Acme, key: &rcgen::KeyPair) -> Result<Client, Trouble> {
        let until = Instant::now() + ORDER;
        let answer = fetch(&http, Method::GET, &acme.directory, None).await?;
        let directory = accept(answer)?.json()?;
        let signs = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der());
        let signs = signs.map_err(|e| format!("the account's key cannot be used: {e}"))?;
        // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
        let (x, y) = signs.public_key().as_ref().get(1..65).ok_or_else(|| "the account's key is of another kind".to_owned())?.split_at(32);
        let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, base64(x), base64(y));
        let (new_nonce, new_order) = (address(&directory["newNonce"])?, address(&directory["newOrder"])?);
        let mut client = Client { http, key: signs, jwk, account: None, nonce: None, new_nonce, new_order, until };
        let mut wanted = json!({"termsOfServiceAgreed": true});
        if let Some(contact) = &acme.contact {
            wanted["contact"] = json!([contact]);
        }
        let answer = client.post(&address(&directory["newAccount"])?, Some(&wanted)).await?;
        let account =
            answer.headers.get(LOCATION).and_then(|at| at.to_str().ok()).ok_or_else(|| "it gave the account no URL".to_owned())?;
        client.account = Some(account.to_owned());
        Ok(client)
    }

    /// A certificate for these names and that key, in PEM, with all that leads from it to an authority.
    pub(super) async fn order(&mut self, domains: &[String], key: &rcgen::KeyPair, shown: &Arc<Shown>) -> Result<String, Trouble> {
        let names: Vec<Value> = domains.iter().map(|domain| json!({"type": "dns", "value": domain})).collect();
        let answer = self.post(&self.new_order.clone(), Some(&json!({"identifiers": names}))).await?;
        let at = answer.headers.get(LOCATION).and_then(|at| at.to_str().ok()).map(Value::from).unwrap_or_default();
        let (at, order) = (address(&at)?, answer.json()?);
        for authorization in order["authorizations"].as_array().into_iter().flatten().take(domains.len()) {
            self.prove(&address(authorization)?, shown).await?;
        }
        let order = self.until(&at, |status| !matches!(status, "ready" | "valid")).await?;
        let request = request_for(domains, key).map_err(|e| format!("no request for a certificate can be made: {e}"))?;
        if order["status"] == "ready" {
            self.post(&address(&order["finalize"])?, Some(&json!({"csr": base64(&request)}))).await?;
        }
        let order = self.until(&at, |status| status != "valid").await?;
        let answer = self.post(&address(&order["certificate"])?, None).await?;
        String::from_utf8(answer.body.into()).map_err(|_| "the certificate is no PEM".to_owned().into())
    }

    /// Shows the authority that a name is ours.
    async fn prove(&mut self, at: &Uri, shown: &Arc<Shown>) -> Result<(), Trouble> {
        let authorization = self.post(at, None).await?.json()?;
        // It may remember that it was shown before.
        if authorization["status"] == "valid" {
            return Ok(());
        }
        let name = authorization["identifier"]["value"].as_str().unwrap_or_default().to_owned();
        let mut all = authorization["challenges"].as_array().into_iter().flatten();
        let challenge = all.find(|challenge| challenge["type"] == "tls-alpn-01");
        let challenge = challenge.ok_or_else(|| format!("it does not offer tls-alpn-01 for {name}, and we speak nothing else"))?;
        let token = challenge["token"].as_str().unwrap_or_default();
        let authorized = format!("{token}.{}", base64(digest(&SHA256, self.jwk.as_bytes()).as_ref()));
        let answer = answer_to(&name, digest(&SHA256, authorized.as_bytes()).as_ref(), shown)?;
        let _shown = Shows::new(shown, &name, answer);
        self.post(&address(&challenge["url"])?, Some(&json!({}))).await?;
        match self.until(at, |status| status != "valid").await {
            Ok(_) => Ok(()),
            Err(Trouble { why, after }) => Err(Trouble { why: format!("{name} was not proven to be ours: {why}"), after }),
        }
    }

    /// Looks at something until its status is another than `unfinished` ones.
    async fn until(&mut self, at: &Uri, unfinished: impl Fn(&str) -> bool) -> Result<Value, Trouble> {
        loop {
            let answer = self.post(at, None).await?;
            let found = answer.json()?;
            match found["status"].as_str().unwrap_or_default() {
                "invalid" | "deactivated" | "expired" | "revoked" => return Err(problem_in(&found).into()),
                status if !unfinished(status) => return Ok(found),
                _ => {}
            }
            if Instant::now() > self.until {
                return Err(format!("it was not done after {} s", ORDER.as_secs()).into());
            }
            sleep(retry_after(&answer.headers).unwrap_or(POLL).clamp(POLL, LONGEST_POLL)).await;
        }
    }

    /// A signed request; without a payload, one that only reads (RFC 8555 §6.3).
    async fn post(&mut self, url: &Uri, payload: Option<&Value>) -> Result<Answer, Trouble> {
        for _ in 0..RENEWED {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => {
                    let answer = fetch(&self.http, Method::HEAD, &self.new_nonce, None).await?;
                    nonce_of(&answer.1).ok_or_else(|| "it gives no numbers for requests".to_owned())?
                }
            };
            let body = self.signed(url, &nonce, payload)?;
            let answer = fetch(&self.http, Method::POST, url, Some(body)).await?;
            self.nonce = nonce_of(&answer.1);
            match accept(answer) {
                Err(refused) if refused.is_nonce => {}
                Err(refused) => return Err(refused.into()),
                Ok(answer) => return Ok(answer),
            }
        }
        Err("it refuses every number that it gives".to_owned().into())
    }

    /// RFC 8555 §6.2, RFC 7515 §7.2.2.
    fn signed(&self, url: &Uri, nonce: &str, payload: Option<&Value>) -> Result<Bytes, String> {
        let mut head = json!({"alg": "ES256", "nonce": nonce, "url": url.to_string()});
        match &self.account {
            Some(account) => head["kid"] = account.as_str().into(),
            None => head["jwk"] = serde_json::from_str(&self.jwk).unwrap_or_default(),
        }
        let (head, payload) = (base64(head.to_string().as_bytes()), base64(payload.map(Value::to_string).unwrap_or_default().as_bytes()));
        let signature = self.key.sign(&SystemRandom::new(), format!("{head}.{payload}").as_bytes());
        let signature = signature.map_err(|_| "a request cannot be signed".to_owned())?;
        Ok(json!({"protected": head, "payload": payload, "signature": base64(signature.as_ref())}).to_string().into())
    }
}

/// A challenge that is answered, for as long as this is there.
struct Shows<'s> {
    shown: &'s Shown,
    name: &'s str,
}

impl<'s> Shows<'s> {
    fn new(shown: &'s Shown, name: &'s str, answer: rustls::sign::CertifiedKey) -> Shows<'s> {
        shown.challenge(name, Some(Arc::new(answer)));
        Shows { shown, name }
    }
}

impl Drop for Shows<'_> {
    fn drop(&mut self) {
        self.shown.challenge(self.name, None);
    }
}

/// The certificate that answers a challenge (RFC 8737 §3).
fn answer_to(name: &str, authorized: &[u8], shown: &Shown) -> Result<rustls::sign::CertifiedKey, String> {
    let bad = |e: &dyn std::fmt::Display| format!("the challenge for {name:?} cannot be answered: {e}");
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).map_err(|e| bad(&e))?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(authorized)];
    let key = rcgen::KeyPair::generate().map_err(|e| bad(&e))?;
    let cert = params.self_signed(&key).map_err(|e| bad(&e))?;
    let private = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    rustls::sign::CertifiedKey::from_der(vec![cert.der().clone()], private, &shown.provider).map_err(|e| bad(&e))
}

/// What is to be signed (RFC 2986).
fn request_for(domains: &[String], key: &rcgen::KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = rcgen::CertificateParams::new(domains)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

type Fetched = (http::StatusCode, HeaderMap, Bytes);

async fn fetch(http: &Http, method: Method, url: &Uri, body: Option<Bytes>) -> Result<Fetched, String> {
    let is_post = body.is_some();
    let head = |headers: &mut HeaderMap| {
        headers.insert(USER_AGENT, AGENT);
        if is_post {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jose+json"));
        }
    };
    let answer = async {
        let response = http.send(method, url, head, body.unwrap_or_default()).await.map_err(|e| format!("{url}: {e}"))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|e| format!("{url}: its answer breaks off: {e}"))?;
        Ok((parts.status, parts.headers, body.to_bytes()))
    };
    timeout(ANSWER, answer).await.map_err(|_| format!("{url}: no answer within {} s", ANSWER.as_secs()))?
}

/// A refusal (RFC 8555 §6.7).
struct Refused {
    why: String,
    /// Its number was not one that the authority gave, or gave lately.
    is_nonce: bool,
    after: Option<Duration>,
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Trouble {
        Trouble { why: refused.why, after: refused.after }
    }
}

fn accept((status, headers, body): Fetched) -> Result<Answer, Refused> {
    if status.is_success() {
        return Ok(Answer { headers, body });
    }
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_nonce = problem["type"] == "urn:ietf:params:acme:error:badNonce";
    let after = retry_after(&headers);
    Err(Refused { why: format!("it refuses (HTTP {}): {}", status.as_u16(), words(&problem)), is_nonce, after })
}

/// What is said to be wrong with an order or an authorization.
fn problem_in(found: &Value) -> String {
    let challenges = found["challenges"].as_array().into_iter().flatten().map(|challenge| &challenge["error"]);
    let told = challenges.chain([&found["error"]]).find(|error| error.is_object());
    told.map_or_else(|| format!("it is {}", found["status"].as_str().unwrap_or("lost")), words)
}

/// A problem document (RFC 9457), in one line of the log.
fn words(problem: &Value) -> String {
    let (kind, detail) = (problem["type"].as_str().unwrap_or("no reason given"), problem["detail"].as_str().unwrap_or_default());
    let text = format!("{} {detail}", kind.trim_start_matches("urn:ietf:params:acme:error:"));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect::<String>().trim().to_owned()
}

fn nonce_of(headers: &HeaderMap) -> Option<String> {
    headers.get("replay-nonce")?.to_str().ok().map(str::to_owned)
}

/// In seconds; a date is not read, and our own patience counts instead.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(24 * 60 * 60)))
}

/// A URL that the authority names. Like its directory, over TLS (RFC 8555 §6.1).
fn address(named: &Value) -> Result<Uri, String> {
    let text = named.as_str().unwrap_or_default();
    remote_url(text).ok().filter(|url| url.scheme_str() == Some("https")).ok_or_else(|| format!("it names {text:?}, which is no https URL"))
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
