//! The documents by which a client finds us: what is in them, and where they lie.
//!
//! ```text
//!   https://h/mcp ──▶ /.well-known/oauth-protected-resource/mcp ──▶ an issuer ──▶ its document ──▶ endpoints
//! ```
//!
//! RFC 9728 for each mount, and RFC 8414 and OpenID Connect Discovery for what issues tokens. Odd:
//! clients look before the path and behind it, so a path is read both ways. Those of other servers are
//! read in `discovery`.

use serde_json::{Value, json};

use super::audience::Resource;
use super::url::Url;

pub(super) const RESOURCE: &str = "/.well-known/oauth-protected-resource";
pub(super) const SERVER: &str = "/.well-known/oauth-authorization-server";
pub(super) const OPENID: &str = "/.well-known/openid-configuration";

/// What a mount of ours tells of itself (RFC 9728 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedResource {
    /// Its public URL.
    pub resource: Resource,
    /// Who issues tokens for it.
    pub authorization_servers: Vec<String>,
    /// What tokens for it can hold.
    pub scopes: Vec<String>,
    /// What to call it before a user.
    pub name: Option<String>,
}

impl ProtectedResource {
    /// Where the document lies: the well-known path before that of the mount (RFC 9728 §3.1).
    pub fn url(&self) -> String {
        inserted(self.resource.url(), RESOURCE)
    }

    /// The document.
    pub fn document(&self) -> String {
        let mut document = json!({
            "resource": self.resource.to_string(),
            "authorization_servers": self.authorization_servers,
            "bearer_methods_supported": ["header"],
        });
        put(&mut document, "scopes_supported", some(&self.scopes));
        put(&mut document, "resource_name", self.name.clone().map(Value::from));
        document.to_string()
    }
}

/// What our authorization server tells of itself (RFC 8414 §2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationServer {
    /// Its name: a URL without query and without a slash at the end. The endpoints lie below it.
    pub issuer: String,
    /// What it grants.
    pub scopes: Vec<String>,
    /// Whether strangers may register (RFC 7591).
    pub registration: bool,
    /// Whether a client may name itself by the URL of a document.
    pub client_documents: bool,
    /// With which algorithms tokens are signed; empty where they are opaque.
    pub signing: Vec<String>,
}

impl AuthorizationServer {
    /// The document of RFC 8414.
    pub fn document(&self) -> String {
        self.fields().to_string()
    }

    /// The document of OpenID Connect Discovery §3. Clients that know only this one find the same
    /// endpoints by it; that there are no ID tokens shows in the scopes.
    pub fn openid_document(&self) -> String {
        let mut document = self.fields();
        let signing = if self.signing.is_empty() { vec!["RS256".to_owned()] } else { self.signing.clone() };
        put(&mut document, "subject_types_supported", Some(json!(["public"])));
        put(&mut document, "id_token_signing_alg_values_supported", Some(json!(signing)));
        put(&mut document, "jwks_uri", Some(self.endpoint("jwks")));
        document.to_string()
    }

    fn endpoint(&self, name: &str) -> Value {
        format!("{}/{name}", self.issuer).into()
    }

    fn fields(&self) -> Value {
        let mut document = json!({
            "issuer": self.issuer,
            "authorization_endpoint": self.endpoint("authorize"),
            "token_endpoint": self.endpoint("token"),
            "revocation_endpoint": self.endpoint("revoke"),
            "introspection_endpoint": self.endpoint("introspect"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["none", "client_secret_post", "client_secret_basic", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256", "ES384", "RS256", "PS256", "EdDSA"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "client_id_metadata_document_supported": self.client_documents,
        });
        put(&mut document, "scopes_supported", some(&self.scopes));
        put(&mut document, "registration_endpoint", self.registration.then(|| self.endpoint("register")));
        put(&mut document, "jwks_uri", (!self.signing.is_empty()).then(|| self.endpoint("jwks")));
        document
    }
}

fn some(list: &[String]) -> Option<Value> {
    (!list.is_empty()).then(|| list.into())
}

fn put(document: &mut Value, key: &str, value: Option<Value>) {
    if let (Some(fields), Some(value)) = (document.as_object_mut(), value) {
        fields.insert(key.to_owned(), value);
    }
}

/// The kinds of documents that lie at well-known places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 9728.
    Resource,
    /// RFC 8414.
    Server,
    /// OpenID Connect Discovery.
    OpenId,
}

/// Which document the path of a request asks for, and of what: the path of a mount or of an issuer,
/// empty for the root. OpenID Connect puts its well-known part behind the path, RFC 8414 before it.
pub fn asked_for(path: &str) -> Option<(Kind, &str)> {
    for (kind, place) in [(Kind::Resource, RESOURCE), (Kind::Server, SERVER), (Kind::OpenId, OPENID)] {
        if let Some(of) = path.strip_prefix(place) {
            return (of.is_empty() || of.starts_with('/')).then(|| (kind, of.trim_end_matches('/')));
        }
    }
    path.strip_suffix(OPENID).filter(|of| of.starts_with('/')).map(|of| (Kind::OpenId, of))
}

/// A well-known place, put before the path of a URL (RFC 8414 §3.1).
pub(super) fn inserted(url: &Url, place: &str) -> String {
    let query = url.query().map_or(String::new(), |query| format!("?{query}"));
    format!("{}{place}{}{query}", url.origin(), url.path().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(url: &str) -> Resource {
        Resource::read(url).unwrap()
    }

    #[test]
    fn a_mount_tells_where_it_is_guarded() {
        let mut mount = ProtectedResource {
            resource: resource("https://h/servers/a/mcp/"),
            authorization_servers: vec!["https://h".into()],
            scopes: vec!["mcp".into()],
            name: Some("files".into()),
        };
        assert_eq!(mount.url(), "https://h/.well-known/oauth-protected-resource/servers/a/mcp");
        let document: Value = serde_json::from_str(&mount.document()).unwrap();
        assert_eq!(
            document,
            json!({"resource": "https://h/servers/a/mcp", "authorization_servers": ["https://h"], "scopes_supported": ["mcp"],
                "bearer_methods_supported": ["header"], "resource_name": "files"})
        );
        mount.resource = resource("https://h/");
        assert_eq!(mount.url(), "https://h/.well-known/oauth-protected-resource");
    }

    #[test]
    fn paths_ask_for_documents() {
        for (path, expected) in [
            ("/.well-known/oauth-protected-resource", Some((Kind::Resource, ""))),
            ("/.well-known/oauth-protected-resource/", Some((Kind::Resource, ""))),
            ("/.well-known/oauth-protected-resource/servers/a/mcp", Some((Kind::Resource, "/servers/a/mcp"))),
            ("/.well-known/oauth-protected-resources", None),
            ("/.well-known/oauth-authorization-server/auth/", Some((Kind::Server, "/auth"))),
            ("/.well-known/openid-configuration", Some((Kind::OpenId, ""))),
            ("/.well-known/openid-configuration/auth", Some((Kind::OpenId, "/auth"))),
            ("/auth/.well-known/openid-configuration", Some((Kind::OpenId, "/auth"))),
            ("auth/.well-known/openid-configuration", None),
            ("/auth/.well-known/oauth-authorization-server", None),
            ("/mcp", None),
        ] {
            assert_eq!(asked_for(path), expected, "{path}");
        }
    }

    #[test]
    fn what_openid_connect_requires_is_there() {
        let server = AuthorizationServer {
            issuer: "https://h".into(),
            scopes: vec!["mcp".into()],
            registration: false,
            client_documents: false,
            signing: vec!["ES256".into()],
        };
        let openid: Value = serde_json::from_str(&server.openid_document()).unwrap();
        for key in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "response_types_supported", "subject_types_supported"]
        {
            assert!(openid.get(key).is_some(), "{key}");
        }
        assert_eq!(openid["id_token_signing_alg_values_supported"], json!(["ES256"]));
    }
}
