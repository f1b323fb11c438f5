//! The documents by which we find others, as a client: where to look, and what to believe.
//!
//! Places are tried in the order of the lists here; the first document that is there is read, and what is
//! wrong with it ends the search. Odd: an issuer is compared letter by letter, unlike every other URL
//! here (RFC 8414 §3.3).

use super::audience::Resource;
use super::document::Document;
use super::metadata::{OPENID, RESOURCE, SERVER, inserted};
use super::url::Url;

/// Where a client looks for the document of a resource whose server named none, in this order
/// (RFC 9728 §3.1; MCP authorization, 2025-11-25).
pub fn resource_urls(resource: &Resource) -> Vec<String> {
    once(vec![inserted(resource.url(), RESOURCE), format!("{}{RESOURCE}", resource.url().origin())])
}

/// Where a client looks for the document of an issuer, in this order (RFC 8414 §3.1 and §5; MCP
/// authorization, 2025-11-25). The error fits after "the issuer ".
pub fn issuer_urls(issuer: &str) -> Result<Vec<String>, &'static str> {
    let issuer = read_issuer(issuer)?;
    let behind = format!("{}{}{OPENID}", issuer.origin(), issuer.path().trim_end_matches('/'));
    Ok(once(vec![inserted(&issuer, SERVER), inserted(&issuer, OPENID), behind]))
}

/// Without a path two of the places are one.
fn once(mut urls: Vec<String>) -> Vec<String> {
    urls.dedup();
    urls
}

/// An issuer is a URL without query that secrets may be sent to (RFC 8414 §2).
fn read_issuer(issuer: &str) -> Result<Url, &'static str> {
    let url = Url::read(issuer)?;
    match url {
        url if !url.is_secure() => Err("is not https"),
        url if url.query().is_some() => Err("has a query"),
        url => Ok(url),
    }
}

/// What a server tells of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Its own name, as it is written there; what a client asks tokens for.
    pub resource: String,
    /// Who issues tokens for it, at least one.
    pub issuers: Vec<String>,
    /// What tokens can hold; what a client asks for that was told nothing else.
    pub scopes: Vec<String>,
}

impl Guarded {
    /// Reads the document that was found for `url`. It must be about that URL, or something that it
    /// lies below (RFC 9728 §3.3). The error says what is wrong with the document.
    pub fn read(text: &str, url: &Resource) -> Result<Guarded, String> {
        let document = Document::read(text)?;
        let resource = document.required("resource")?;
        let named = Resource::read(&resource).map_err(|e| format!("`resource` {e}"))?;
        if !named.opens(url) {
            return Err(format!("it is about {named}, and not about {url}"));
        }
        let issuers = document.strings("authorization_servers")?.unwrap_or_default();
        if issuers.is_empty() {
            return Err("`authorization_servers` is missing".into());
        }
        for issuer in &issuers {
            read_issuer(issuer).map_err(|e| format!("the issuer {issuer:?} {e}"))?;
        }
        let scopes = document.strings("scopes_supported")?.unwrap_or_default();
        Ok(Guarded { resource, issuers, scopes })
    }
}

/// What another authorization server tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuer {
    /// Its name. Whatever it gives us is kept under this name, and used nowhere else.
    pub issuer: String,
    /// Where a user logs in.
    pub authorization_endpoint: String,
    /// Where codes become tokens.
    pub token_endpoint: String,
    /// Where a client registers, if it can.
    pub registration_endpoint: Option<String>,
    /// Where tokens are given back.
    pub revocation_endpoint: Option<String>,
    /// The keys of its signatures.
    pub jwks_uri: Option<String>,
    /// What it grants, where it says so.
    pub scopes: Option<Vec<String>>,
    /// How clients show who they are; without a word of it `client_secret_basic` (RFC 8414 §2).
    pub auth_methods: Vec<String>,
    /// Whether a client may name itself by the URL of a document.
    pub client_documents: bool,
    /// Whether every answer of its names it (RFC 9207 §3).
    pub names_itself: bool,
}

impl Issuer {
    /// Reads the document that was found for `issuer`. The error says what is wrong with it.
    pub fn read(text: &str, issuer: &str) -> Result<Issuer, String> {
        Issuer::read_any(text, true)?.must_be(issuer)
    }

    /// The same for whoever has no user: where nobody logs in, there need be no place to do so, and no PKCE
    /// (RFC 8414 §2; MCP client credentials, SEP-1046).
    pub fn read_without_users(text: &str, issuer: &str) -> Result<Issuer, String> {
        Issuer::read_any(text, false)?.must_be(issuer)
    }

    fn must_be(self, issuer: &str) -> Result<Issuer, String> {
        if self.issuer != issuer {
            // Whoever can make us read his document for that of another gets the other's codes.
            return Err(format!("it is about the issuer {:?}, and not about {issuer:?}", self.issuer));
        }
        Ok(self)
    }

    /// Reads the document at the root of a server of 2025-03-26, which names no issuer: any of the
    /// same origin will do.
    pub fn read_at_origin(text: &str, server: &Url) -> Result<Issuer, String> {
        let read = Issuer::read_any(text, true)?;
        let origin = read_issuer(&read.issuer).map_err(|e| format!("`issuer` {e}"))?.origin();
        if origin != server.origin() {
            return Err(format!("it is about the issuer {:?}, and not about {}", read.issuer, server.origin()));
        }
        Ok(read)
    }

    /// The places that 2025-03-26 falls back to where there is no document at all ("Fallbacks for
    /// Servers without Metadata Discovery").
    pub fn at_usual_places(server: &Url) -> Issuer {
        let issuer = server.origin();
        let place = |name: &str| format!("{issuer}/{name}");
        Issuer {
            authorization_endpoint: place("authorize"),
            token_endpoint: place("token"),
            registration_endpoint: Some(place("register")),
            auth_methods: vec!["none".into()],
            issuer,
            ..Issuer::default()
        }
    }

    fn read_any(text: &str, users: bool) -> Result<Issuer, String> {
        let document = Document::read(text)?;
        let methods = document.strings("code_challenge_methods_supported")?;
        // MCP authorization, 2025-11-25: without this a client cannot know that its code is protected.
        if users && !methods.is_some_and(|methods| methods.iter().any(|m| m == "S256")) {
            return Err("`code_challenge_methods_supported` does not hold S256".into());
        }
        let optional = |key: &str| -> Result<Option<String>, String> { document.string(key)?.map(|url| endpoint(key, url)).transpose() };
        let required = |key: &str| endpoint(key, document.required(key)?);
        Ok(Issuer {
            issuer: document.required("issuer")?,
            authorization_endpoint: match users {
                true => required("authorization_endpoint")?,
                false => optional("authorization_endpoint")?.unwrap_or_default(),
            },
            token_endpoint: required("token_endpoint")?,
            registration_endpoint: optional("registration_endpoint")?,
            revocation_endpoint: optional("revocation_endpoint")?,
            jwks_uri: optional("jwks_uri")?,
            scopes: document.strings("scopes_supported")?,
            auth_methods: document
                .strings("token_endpoint_auth_methods_supported")?
                .unwrap_or_else(|| vec!["client_secret_basic".to_owned()]),
            client_documents: document.flag("client_id_metadata_document_supported")?,
            names_itself: document.flag("authorization_response_iss_parameter_supported")?,
        })
    }

    /// Whether a response at our redirect URI came from this server, by the `iss` in it (RFC 9207 §2.4):
    /// letter by letter, and missing only where the server never promised it. Where this is `false`
    /// nothing of the response may be used or shown, its error neither.
    pub fn has_answered(&self, iss: Option<&str>) -> bool {
        match iss {
            Some(iss) => iss == self.issuer,
            None => !self.names_itself,
        }
    }
}

/// What must be known of an authorization server by whoever only takes its tokens: less than what a client must
/// know, and many servers say no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// The keys of its signatures.
    pub jwks_uri: Option<String>,
    /// Where it is asked about tokens.
    pub introspection_endpoint: Option<String>,
}

impl Checks {
    /// Reads the document that was found for `issuer`. The error says what is wrong with it.
    pub fn read(text: &str, issuer: &str) -> Result<Checks, String> {
        let document = Document::read(text)?;
        let named = document.required("issuer")?;
        if named != issuer {
            return Err(format!("it is about the issuer {named:?}, and not about {issuer:?}"));
        }
        let optional = |key: &str| -> Result<Option<String>, String> { document.string(key)?.map(|url| endpoint(key, url)).transpose() };
        Ok(Checks { jwks_uri: optional("jwks_uri")?, introspection_endpoint: optional("introspection_endpoint")? })
    }
}

fn endpoint(key: &str, url: String) -> Result<String, String> {
    match Url::read(&url) {
        Ok(read) if read.is_secure() => Ok(url),
        Ok(_) => Err(format!("`{key}` is not https")),
        Err(e) => Err(format!("`{key}` {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::metadata::AuthorizationServer;
    use super::*;
    use serde_json::{Value, json};

    fn resource(url: &str) -> Resource {
        Resource::read(url).unwrap()
    }

    fn ours() -> AuthorizationServer {
        AuthorizationServer {
            issuer: "https://h/auth".into(),
            scopes: vec!["mcp".into()],
            registration: true,
            client_documents: true,
            signing: vec![],
        }
    }

    #[test]
    fn what_we_write_we_read() {
        let read = Issuer::read(&ours().document(), "https://h/auth").unwrap();
        assert_eq!(read.authorization_endpoint, "https://h/auth/authorize");
        assert_eq!(read.token_endpoint, "https://h/auth/token");
        assert_eq!(read.registration_endpoint.as_deref(), Some("https://h/auth/register"));
        assert_eq!(read.auth_methods, ["none", "client_secret_post", "client_secret_basic", "private_key_jwt"]);
        assert!(read.client_documents && read.names_itself && read.jwks_uri.is_none());
        assert_eq!(Issuer::read(&ours().openid_document(), "https://h/auth").unwrap().jwks_uri.as_deref(), Some("https://h/auth/jwks"));
        let closed = AuthorizationServer { registration: false, client_documents: false, signing: vec!["ES256".into()], ..ours() };
        let read = Issuer::read(&closed.document(), "https://h/auth").unwrap();
        assert_eq!((read.registration_endpoint, read.client_documents), (None, false));
        assert_eq!(read.jwks_uri.as_deref(), Some("https://h/auth/jwks"));
    }

    #[test]
    fn clients_look_in_order() {
        assert_eq!(
            resource_urls(&resource("https://h/mcp?x=1")),
            ["https://h/.well-known/oauth-protected-resource/mcp?x=1", "https://h/.well-known/oauth-protected-resource"]
        );
        assert_eq!(resource_urls(&resource("https://h/")), ["https://h/.well-known/oauth-protected-resource"]);
        assert_eq!(
            issuer_urls("https://a/t1").unwrap(),
            [
                "https://a/.well-known/oauth-authorization-server/t1",
                "https://a/.well-known/openid-configuration/t1",
                "https://a/t1/.well-known/openid-configuration"
            ]
        );
        for root in ["https://a", "https://a/"] {
            let expected = ["https://a/.well-known/oauth-authorization-server", "https://a/.well-known/openid-configuration"];
            assert_eq!(issuer_urls(root).unwrap(), expected);
        }
        assert!(issuer_urls("http://127.0.0.1:9/t").is_ok());
        for bad in ["http://a", "https://a?x", "https://a#x", "a", ""] {
            assert!(issuer_urls(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_resource_is_the_one_that_was_asked_for() {
        let url = resource("https://h/mcp");
        let document =
            |resource: &str| format!(r#"{{"resource":{resource},"authorization_servers":["https://as/t"],"scopes_supported":["a"]}}"#);
        for good in ["https://h/mcp", "https://h/mcp/", "https://h", "https://H:443/"] {
            let read = Guarded::read(&document(&format!("\"{good}\"")), &url).unwrap();
            assert_eq!(
                (read.resource.as_str(), &read.issuers[..], &read.scopes[..]),
                (good, &["https://as/t".to_owned()][..], &["a".to_owned()][..])
            );
        }
        for bad in ["\"https://evil/mcp\"", "\"https://h/other\"", "\"https://h/mcp/x\"", "\"http://h/mcp\"", "\"h\"", "\"\"", "null", "1"]
        {
            assert!(Guarded::read(&document(bad), &url).is_err(), "{bad}");
        }
        for servers in ["[]", "null", "[1]", "\"https://as\"", "[\"http://as\"]", "[\"https://as?x\"]", "[\"https://as\",\"file:///x\"]"] {
            let document = format!(r#"{{"resource":"https://h/mcp","authorization_servers":{servers}}}"#);
            assert!(Guarded::read(&document, &url).is_err(), "{servers}");
        }
    }

    #[test]
    fn an_issuer_is_compared_letter_by_letter() {
        let document = ours().document();
        for other in ["https://h/auth/", "https://H/auth", "https://h:443/auth", "https://h", ""] {
            assert!(Issuer::read(&document, other).unwrap_err().contains("not about"), "{other}");
        }
        let server = Url::read("https://h/mcp").unwrap();
        assert!(Issuer::read_at_origin(&document, &server).is_ok());
        assert!(Issuer::read_at_origin(&document, &Url::read("https://h.evil/mcp").unwrap()).is_err());
        assert_eq!(Issuer::at_usual_places(&server).token_endpoint, "https://h/token");
    }

    #[test]
    fn an_issuer_without_pkce_or_endpoints_is_not_used() {
        let good: Value = serde_json::from_str(&ours().document()).unwrap();
        let with = |key: &str, value: Value| {
            let mut document = good.clone();
            document[key] = value;
            Issuer::read(&document.to_string(), "https://h/auth")
        };
        assert!(with("unknown", json!({"deep": [1]})).is_ok());
        let mut machine = good.clone();
        machine.as_object_mut().unwrap().retain(|key, _| key != "authorization_endpoint" && !key.starts_with("code_"));
        assert!(Issuer::read(&machine.to_string(), "https://h/auth").is_err());
        assert_eq!(Issuer::read_without_users(&machine.to_string(), "https://h/auth").unwrap().authorization_endpoint, "");
        assert!(Issuer::read_without_users(&machine.to_string(), "https://h").is_err());
        for (key, value) in [
            ("code_challenge_methods_supported", Value::Null),
            ("code_challenge_methods_supported", json!([])),
            ("code_challenge_methods_supported", json!(["plain"])),
            ("issuer", Value::Null),
            ("issuer", json!(1)),
            ("authorization_endpoint", Value::Null),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            ("authorization_endpoint", json!("http://h/auth/authorize")),
            ("token_endpoint", Value::Null),
            ("token_endpoint", json!("/token")),
            ("registration_endpoint", json!("http://169.254.169.254/")),
            ("client_id_metadata_document_supported", json!("true")),
        ] {
            assert!(with(key, value.clone()).is_err(), "{key}: {value}");
        }
    }

    #[test]
    fn whoever_takes_tokens_needs_less() {
        let read = |text: &str| Checks::read(text, "https://as");
        let checks = read(r#"{"issuer":"https://as","jwks_uri":"https://keys/x","response_types_supported":[]}"#).unwrap();
        assert_eq!(checks, Checks { jwks_uri: Some("https://keys/x".into()), introspection_endpoint: None });
        for bad in [
            r#"{"jwks_uri":"https://keys"}"#,
            r#"{"issuer":"https://as/","jwks_uri":"https://keys"}"#,
            r#"{"issuer":"https://as","jwks_uri":"http://keys"}"#,
            r#"{"issuer":"https://as","introspection_endpoint":"/x"}"#,
            r#"{"issuer":"https://as","issuer":"https://as"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_names_its_issuer() {
        let silent = Issuer { issuer: "https://a".into(), ..Issuer::default() };
        let named = Issuer { names_itself: true, ..silent.clone() };
        for (issuer, iss, expected) in [
            (&named, Some("https://a"), true),
            (&named, Some("https://a/"), false),
            (&named, None, false),
            (&silent, Some("https://a"), true),
            (&silent, Some("https://evil"), false),
            (&silent, None, true),
        ] {
            assert_eq!(issuer.has_answered(iss), expected, "{iss:?}");
        }
    }
}
