//! Clients: how one becomes known, by registering (RFC 7591) or by a document of its own (OAuth Client
//! ID Metadata Document).
//!
//! ```text
//!   POST /register ──▶ register ──▶ a record, and what the client is told of it
//!   client_id = https://… ──▶ (the caller fetches) ──▶ from_document ──▶ a record
//! ```
//!
//! Both say the same of a client and are checked the same. What only others need (logos, contacts,
//! policies) is not kept. Odd: a client that does not say whether it is native is taken for what its
//! redirects are, because most of the clients that run on a desktop do not.

use serde_json::json;

use super::challenge::is_scope;
use super::document::Document;
use super::redirect::{self, Application};
use super::refusal::{Code, Refusal};
use super::secret::{Hash, spell};
use super::url::Url;

/// Most redirect URIs of a client.
const MAX_REDIRECTS: usize = 32;
/// Longest name of a client, in characters: what fits a page.
const MAX_NAME: usize = 80;

/// How a client shows who it is at the token endpoint (RFC 7591 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// It cannot: anybody can be this client, and only PKCE and the redirect protect its users.
    None,
    /// By a secret, in the header or in the body.
    Secret(Hash),
    /// By signing with a key of its document (`private_key_jwt`): where the keys are, or what they are.
    Key(Keys),
}

/// The keys of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// `jwks_uri`
    At(String),
    /// `jwks`, as JSON text.
    These(String),
}

/// A client that is known. Also what is written down of one that an operator registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name to us.
    pub id: String,
    /// Its name to users. Anybody can write anything here.
    pub name: String,
    /// Its home, `https`.
    pub home: Option<String>,
    /// Where its codes may go, at least one.
    pub redirect_uris: Vec<String>,
    /// What it is.
    pub application: Application,
    /// How it shows who it is.
    pub auth: Auth,
    /// Whether it asks for refresh tokens.
    pub refreshes: bool,
    /// The most that it asks for, if it says so.
    pub scopes: Option<Vec<String>>,
    /// When it became known, in seconds since 1970.
    pub known_since_s: u64,
    /// Whether the operator has named it. Any other is known by its own word, or by a stranger's.
    pub of_operator: bool,
}

impl Client {
    /// Whether a code may go there.
    pub fn redirects_to(&self, uri: &str) -> bool {
        self.redirect_uris.iter().any(|registered| redirect::matches(registered, uri))
    }
}

/// Registers a client under this id (RFC 7591 §3): the record to write, and the body of the answer, whose status is
/// 201. The random bytes become its secret, if it wants one, which is told this once.
pub fn register(body: &str, id: String, for_secret: [u8; 32], now_s: u64) -> Result<(Client, String), Refusal> {
    let document = read(body)?;
    let said = field(document.string("token_endpoint_auth_method"))?;
    // RFC 7591 §2: without a word of it a client has a secret, and sends it in the header.
    let method = said.as_deref().unwrap_or("client_secret_basic");
    let secret = match method {
        "none" => None,
        "client_secret_basic" | "client_secret_post" => Some(spell(for_secret)),
        _ => {
            return Err(invalid(
                "asks for a token_endpoint_auth_method that is not served: use none, client_secret_post or client_secret_basic",
            ));
        }
    };
    let auth = secret.as_deref().map_or(Auth::None, |secret| Auth::Secret(Hash::of(secret)));
    let client = client(&document, id, auth, now_s)?;

    let mut grants = vec!["authorization_code"];
    grants.extend(client.refreshes.then_some("refresh_token"));
    let mut answer = json!({
        "client_id": client.id,
        "client_id_issued_at": now_s,
        "client_name": client.name,
        "redirect_uris": client.redirect_uris,
        "application_type": client.application.as_str(),
        "token_endpoint_auth_method": method,
        "grant_types": grants,
        "response_types": ["code"],
    });
    if let Some(secret) = secret {
        answer["client_secret"] = secret.into();
        answer["client_secret_expires_at"] = 0.into();
    }
    if let Some(home) = &client.home {
        answer["client_uri"] = home.as_str().into();
    }
    if let Some(scopes) = &client.scopes {
        answer["scope"] = scopes.join(" ").into();
    }
    Ok((client, answer.to_string()))
}

/// Whether a `client_id` is the URL of a document: `https`, with a path, and without a query (Client ID
/// Metadata Document §3). Whoever fetches it must still look where the host leads.
pub fn is_document(client_id: &str) -> bool {
    Url::read(client_id).is_ok_and(|url| url.is_https() && !matches!(url.path(), "" | "/") && url.query().is_none())
}

/// The client whose document was found at `url`, which is its id (Client ID Metadata Document §4).
/// Fetched without following a redirect to another URL, and kept only as long as its headers say.
pub fn from_document(url: &str, text: &str, now_s: u64) -> Result<Client, Refusal> {
    if !is_document(url) {
        return Err(invalid("has an id that is no https URL with a path"));
    }
    let document = read(text)?;
    if field(document.string("client_id"))?.as_deref() != Some(url) {
        return Err(invalid("has a document whose client_id is not the URL it lies at"));
    }
    // A secret that everybody can read is none.
    if document.raw("client_secret").is_some() || document.raw("client_secret_expires_at").is_some() {
        return Err(invalid("has a document with a client_secret in it"));
    }
    let auth = match field(document.string("token_endpoint_auth_method"))?.as_deref() {
        None | Some("none") => Auth::None,
        Some("private_key_jwt") => Auth::Key(keys(&document)?),
        Some(_) => return Err(invalid("asks for a token_endpoint_auth_method that a document cannot have: use none or private_key_jwt")),
    };
    if field(document.string("client_name"))?.is_none() {
        return Err(invalid("has a document without client_name"));
    }
    client(&document, url.to_owned(), auth, now_s)
}

fn keys(document: &Document<'_>) -> Result<Keys, Refusal> {
    match (field(document.string("jwks_uri"))?, document.raw("jwks")) {
        (Some(uri), None) if Url::read(&uri).is_ok_and(|url| url.is_https()) => Ok(Keys::At(uri)),
        (None, Some(jwks)) if jwks.starts_with('{') => Ok(Keys::These(jwks.to_owned())),
        _ => Err(invalid("needs either a jwks_uri that is https or a jwks")),
    }
}

/// What both ways to become known have in common.
fn client(document: &Document<'_>, id: String, auth: Auth, now_s: u64) -> Result<Client, Refusal> {
    let redirect_uris = field(document.strings("redirect_uris"))?.unwrap_or_default();
    if redirect_uris.is_empty() || redirect_uris.len() > MAX_REDIRECTS {
        return Err(Refusal::new(Code::InvalidRedirectUri, format!("the client needs 1 to {MAX_REDIRECTS} redirect_uris")));
    }
    let application = match field(document.string("application_type"))?.as_deref() {
        None => redirect::application_of(&redirect_uris),
        Some("web") => Application::Web,
        Some("native") => Application::Native,
        Some(_) => return Err(invalid("has an application_type other than web and native")),
    };
    for uri in &redirect_uris {
        redirect::check(uri, application).map_err(|e| Refusal::new(Code::InvalidRedirectUri, format!("the redirect URI {uri} {e}")))?;
    }
    let grants = field(document.strings("grant_types"))?;
    let grants_code = grants.as_ref().is_none_or(|grants| grants.iter().any(|g| g == "authorization_code"));
    let responses = field(document.strings("response_types"))?;
    let answers_code = responses.is_none_or(|types| types.iter().any(|t| t == "code"));
    if !grants_code || !answers_code {
        return Err(invalid("asks for no authorization code, and there is nothing else here"));
    }
    let scopes = match field(document.string("scope"))? {
        None => None,
        Some(scope) if scope.split(' ').all(|scope| scope.is_empty() || is_scope(scope)) => {
            Some(scope.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect())
        }
        Some(_) => return Err(invalid("has a scope that is none")),
    };
    let name = readable(&field(document.string("client_name"))?.unwrap_or_default());
    // What users can follow has to be a page; a client is not refused for it.
    let home = field(document.string("client_uri"))?.filter(|uri| Url::read(uri).is_ok_and(|url| url.is_https()));
    Ok(Client {
        name: if name.is_empty() { redirect_uris.first().map(|uri| redirect::shown(uri)).unwrap_or_default() } else { name },
        refreshes: grants.is_some_and(|grants| grants.iter().any(|g| g == "refresh_token")),
        id,
        home,
        redirect_uris,
        application,
        auth,
        scopes,
        known_since_s: now_s,
        of_operator: false,
    })
}

/// A name without what would let it look like something else on a page: line ends, characters that turn
/// the direction of writing, and length.
fn readable(name: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}');
    let shown: String =
        name.chars().filter(|c| !c.is_control() && !turns(*c) && !matches!(c, '\u{2028}' | '\u{2029}')).take(MAX_NAME).collect();
    shown.trim().to_owned()
}

fn read(text: &str) -> Result<Document<'_>, Refusal> {
    Document::read(text).map_err(|e| Refusal::new(Code::InvalidClientMetadata, format!("the document cannot be read: {e}")))
}

fn field<T>(read: Result<T, String>) -> Result<T, Refusal> {
    read.map_err(|e| Refusal::new(Code::InvalidClientMetadata, e))
}

fn invalid(why: &str) -> Refusal {
    Refusal::new(Code::InvalidClientMetadata, format!("the client {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const RANDOM: [u8; 32] = [8; 32];

    fn registered(body: Value) -> Result<(Client, Value), Code> {
        let (client, answer) = register(&body.to_string(), "client-7".into(), RANDOM, 5).map_err(|e| e.code)?;
        Ok((client, serde_json::from_str(&answer).unwrap()))
    }

    #[test]
    fn a_public_client_gets_no_secret() {
        let (client, answer) = registered(json!({"redirect_uris": ["http://localhost:1/cb"], "client_name": " Ed\u{202e}itor\n",
            "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"], "scope": "a b",
            "client_uri": "javascript:alert(1)", "logo_uri": "http://evil"}))
        .unwrap();
        assert_eq!((client.name.as_str(), client.home.as_deref(), &client.auth), ("Editor", None, &Auth::None));
        assert_eq!((client.application, client.refreshes, client.known_since_s), (Application::Native, true, 5));
        assert_eq!(
            answer,
            json!({"client_id": "client-7", "client_id_issued_at": 5, "client_name": "Editor", "redirect_uris": ["http://localhost:1/cb"],
                "application_type": "native", "token_endpoint_auth_method": "none", "scope": "a b",
                "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"]})
        );
        assert!(client.redirects_to("http://localhost:2/cb") && !client.redirects_to("http://localhost:2/"));
    }

    #[test]
    fn a_confidential_client_is_told_its_secret_once() {
        let (client, answer) = registered(json!({"redirect_uris": ["https://claude.ai/api/mcp/auth_callback"]})).unwrap();
        let Auth::Secret(hash) = &client.auth else { panic!("no secret") };
        assert!(hash.is_of(answer["client_secret"].as_str().unwrap()));
        assert_eq!(
            (&answer["client_secret_expires_at"], &answer["token_endpoint_auth_method"]),
            (&json!(0), &json!("client_secret_basic"))
        );
        assert_eq!((client.application, client.refreshes, client.name.as_str()), (Application::Web, false, "claude.ai"));
    }

    #[test]
    fn registrations_are_refused_with_a_reason() {
        let uris = json!(["https://h/cb"]);
        for (body, code) in [
            (json!({}), Code::InvalidRedirectUri),
            (json!({"redirect_uris": []}), Code::InvalidRedirectUri),
            (json!({"redirect_uris": ["javascript:alert(1)"]}), Code::InvalidRedirectUri),
            (json!({"redirect_uris": ["https://h/cb", "http://h/cb"]}), Code::InvalidRedirectUri),
            (json!({"redirect_uris": ["http://localhost/cb"], "application_type": "web"}), Code::InvalidRedirectUri),
            (json!({"redirect_uris": vec!["https://h/cb"; 33]}), Code::InvalidRedirectUri),
            (json!({"redirect_uris": "https://h/cb"}), Code::InvalidClientMetadata),
            (json!({"redirect_uris": uris, "application_type": "other"}), Code::InvalidClientMetadata),
            (json!({"redirect_uris": uris, "token_endpoint_auth_method": "private_key_jwt"}), Code::InvalidClientMetadata),
            (json!({"redirect_uris": uris, "grant_types": ["client_credentials"]}), Code::InvalidClientMetadata),
            (json!({"redirect_uris": uris, "response_types": ["token"]}), Code::InvalidClientMetadata),
            (json!({"redirect_uris": uris, "client_name": 1}), Code::InvalidClientMetadata),
            (json!({"redirect_uris": uris, "scope": "a\"b"}), Code::InvalidClientMetadata),
            (json!([]), Code::InvalidClientMetadata),
        ] {
            assert_eq!(registered(body.clone()).unwrap_err(), code, "{body}");
        }
        assert!(
            register(r#"{"redirect_uris":["https://h/cb"],"redirect_uris":["https://evil/cb"]}"#, "client-7".into(), RANDOM, 5).is_err()
        );
    }

    #[test]
    fn a_document_lies_at_its_own_id() {
        const URL: &str = "https://app.example/client.json";
        let good = json!({"client_id": URL, "client_name": "App", "redirect_uris": ["http://127.0.0.1/cb", "https://app.example/cb"]});
        let client = from_document(URL, &good.to_string(), 5).unwrap();
        assert_eq!((client.id.as_str(), &client.auth, client.application), (URL, &Auth::None, Application::Native));
        let with = |key: &str, value: Value| {
            let mut document = good.clone();
            document[key] = value;
            from_document(URL, &document.to_string(), 5)
        };
        for (key, value) in [
            ("client_id", json!("https://app.example/Client.json")),
            ("client_id", json!("https://app.example:443/client.json")),
            ("client_id", Value::Null),
            ("client_name", Value::Null),
            ("redirect_uris", Value::Null),
            ("redirect_uris", json!(["http://app.example/cb"])),
            ("client_secret", json!("x")),
            ("token_endpoint_auth_method", json!("client_secret_post")),
            ("token_endpoint_auth_method", json!("private_key_jwt")),
        ] {
            assert!(with(key, value.clone()).is_err(), "{key}: {value}");
        }
        let keyed = json!({"client_id": URL, "client_name": "App", "redirect_uris": ["https://app.example/cb"],
            "token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://app.example/keys"});
        let Auth::Key(Keys::At(uri)) = from_document(URL, &keyed.to_string(), 5).unwrap().auth else { panic!("no keys") };
        assert_eq!(uri, "https://app.example/keys");
        for bad in ["http://h/c", "https://h", "https://h/", "https://h/c?x", "https://h/c#x", "https://u@h/c", "https://h/../c", "abc"] {
            assert!(!is_document(bad) && from_document(bad, &good.to_string(), 5).is_err(), "{bad}");
        }
    }
}
