//! A login of ours at somebody else's: what is asked for, as which client, and what the answer at our redirect
//! URI is worth.
//!
//! ```text
//!   scopes, way_in ──▶ Login::url ──▶ (the user, in a browser) ──▶ Login::handle_callback ──▶ a code
//!              └─ registration ──▶ (POST) ──▶ registered
//! ```
//!
//! Whatever we are at an issuer, we are at no other: the caller keeps it under the issuer's name.

use serde_json::json;

use super::challenge::{Challenge, is_scope};
use super::discovery::Issuer;
use super::document::Document;
use super::form::{Form, with_params};
use super::secret::{Hash, Secret, spell};
use super::url::Url;

/// Most scopes that are asked for at once.
const MAX_SCOPES: usize = 128;
/// For a refresh token, where an issuer wants to be asked for it (OpenID Connect Core §11).
const OFFLINE: &str = "offline_access";

/// How we show who we are at a token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    None,
    /// A secret in the header.
    Basic,
    /// A secret in the body.
    Post,
    /// A signature (RFC 7523).
    Key,
}

impl Method {
    /// As registrations and metadata name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::None => "none",
            Method::Basic => "client_secret_basic",
            Method::Post => "client_secret_post",
            Method::Key => "private_key_jwt",
        }
    }

    /// The method of that name.
    pub fn read(name: &str) -> Option<Method> {
        [Method::None, Method::Basic, Method::Post, Method::Key].into_iter().find(|method| method.as_str() == name)
    }

    /// For a client with a secret, where nothing was agreed on.
    fn with_secret(issuer: &Issuer) -> Method {
        let takes = |method: Method| issuer.auth_methods.iter().any(|name| name == method.as_str());
        match takes(Method::Post) && !takes(Method::Basic) {
            true => Method::Post,
            // Whoever takes secrets takes them there (RFC 6749 §2.3.1).
            false => Method::Basic,
        }
    }
}

/// Who we are at one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Our name there.
    pub id: String,
    /// The secret, if there is one.
    pub secret: Option<Secret>,
    /// How we show who we are.
    pub method: Method,
    /// When the secret ends, in seconds since 1970; 0: never.
    pub secret_until_s: u64,
}

/// What the user has given us to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// A client that was registered by hand.
    pub id: Option<String>,
    /// Its secret.
    pub secret: Option<Secret>,
    /// The URL of a document that describes us.
    pub document: Option<String>,
}

/// How we become a client of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WayIn {
    /// As this one.
    Be(Registered),
    /// By registering at this endpoint.
    Register(String),
}

/// How we become a client of that issuer (MCP authorization, "Client Registration Approaches"): as the one that
/// was registered by hand, by a document of ours, or by registering. The error says what the user can do.
pub fn way_in(issuer: &Issuer, own: &Own) -> Result<WayIn, String> {
    if let Some(id) = &own.id {
        let method = if own.secret.is_some() { Method::with_secret(issuer) } else { Method::None };
        return Ok(WayIn::Be(Registered { id: id.clone(), secret: own.secret.clone(), method, secret_until_s: 0 }));
    }
    if let Some(url) = own.document.as_ref().filter(|_| issuer.client_documents) {
        return Ok(WayIn::Be(Registered { id: url.clone(), secret: None, method: Method::None, secret_until_s: 0 }));
    }
    match &issuer.registration_endpoint {
        Some(endpoint) => Ok(WayIn::Register(endpoint.clone())),
        None => Err(format!(
            "the authorization server {} lets no client register itself; register one there by hand and give its id (--client-id)",
            issuer.issuer
        )),
    }
}

/// The body of a registration (RFC 7591 §2; `application_type` as MCP 2026-07-28 demands it).
pub fn registration(issuer: &Issuer, redirect_uri: &str) -> String {
    let takes = |name: &str| issuer.auth_methods.iter().any(|method| method == name);
    // What runs at a user's keeps no secret; but where one has to be had, it is had.
    let method = match takes("none") || issuer.auth_methods.is_empty() {
        true => Method::None,
        false => Method::with_secret(issuer),
    };
    json!({
        "client_name": "Landbridge",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method.as_str(),
        // What is registered as native may not come back to a web server, nor one to this machine (OpenID Connect
        // Dynamic Client Registration §2).
        "application_type": if Url::read(redirect_uri).is_ok_and(|url| url.is_loopback()) { "native" } else { "web" },
    })
    .to_string()
}

/// Reads the answer to a registration (RFC 7591 §3.2.1). The error says what is wrong with it.
pub fn registered(text: &str, issuer: &Issuer) -> Result<Registered, String> {
    let document = Document::read(text)?;
    let id = document.required("client_id")?;
    let secret = document.string("client_secret")?.filter(|secret| !secret.is_empty()).map(Secret::new);
    let said = document.string("token_endpoint_auth_method")?;
    let method = match (said.as_deref().map(Method::read), &secret) {
        (Some(Some(Method::Key)) | Some(None), _) => return Err("`token_endpoint_auth_method` is none that was asked for".into()),
        (Some(Some(method)), Some(_)) => method,
        (None, Some(_)) => Method::with_secret(issuer),
        (Some(Some(Method::None)) | None, None) => Method::None,
        (Some(Some(_)), None) => return Err("`client_secret` is missing".into()),
    };
    let secret_until_s = document.number("client_secret_expires_at").ok().flatten().unwrap_or(0);
    Ok(Registered { id, secret, method, secret_until_s })
}

/// What a login asks for (MCP authorization, "Scope Selection Strategy"): what the user wants, else what the
/// challenge demands, else all that the server knows, else nothing in particular. What was asked for before
/// stays (`before`), and a refresh token is asked for where the issuer lists the scope for it.
pub fn scopes(
    wanted: Option<&str>,
    challenge: Option<&Challenge>,
    known: &[String],
    before: Option<&str>,
    issuer: &Issuer,
) -> Option<String> {
    let mut all: Vec<&str> = Vec::new();
    let mut add = |scope| {
        if is_scope(scope) && !all.contains(&scope) && all.len() < MAX_SCOPES {
            all.push(scope);
        }
    };
    before.unwrap_or_default().split(' ').for_each(&mut add);
    let demanded: Vec<&str> = challenge.map(|c| c.scopes().collect()).unwrap_or_default();
    match wanted {
        Some(wanted) => wanted.split(' ').for_each(&mut add),
        None if demanded.is_empty() && before.is_none() => known.iter().map(String::as_str).for_each(&mut add),
        None => {}
    }
    // A step up is for what is demanded, whatever the user wanted at first.
    if wanted.is_none() || before.is_some() {
        demanded.into_iter().for_each(&mut add);
    }
    let offers = issuer.scopes.as_ref().is_some_and(|scopes| scopes.iter().any(|scope| scope == OFFLINE));
    // Alone it would stand for less than nothing in particular.
    if offers && !all.is_empty() && !all.contains(&OFFLINE) {
        all.push(OFFLINE);
    }
    (!all.is_empty()).then(|| all.join(" "))
}

/// Whether these scopes are all among those.
pub fn covers(those: Option<&str>, these: Option<&str>) -> bool {
    let those: Vec<&str> = those.unwrap_or_default().split(' ').collect();
    these.unwrap_or_default().split(' ').all(|scope| scope.is_empty() || those.contains(&scope))
}

/// A login under way: what must be known again when its answer comes.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where.
    pub issuer: Issuer,
    /// As whom.
    pub client: Registered,
    /// Where the answer comes.
    pub redirect_uri: String,
    /// What the token is for.
    pub resource: Option<String>,
    /// What it is to hold.
    pub scope: Option<String>,
    state: Secret,
    verifier: Secret,
}

/// Why what came at the redirect URI is no code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It does not belong to this login: nothing has come for it yet.
    NotOurs,
    /// It is not from the issuer that was asked. Nothing of it may be shown.
    Forged,
    /// The issuer, or the user there, refuses: in words for the user.
    Refused(String),
}

impl Login {
    /// Begins a login. The random bytes become its state and its verifier.
    pub fn new(
        issuer: Issuer,
        client: Registered,
        redirect_uri: String,
        resource: Option<String>,
        scope: Option<String>,
        [for_state, for_verifier]: [[u8; 32]; 2],
    ) -> Login {
        let (state, verifier) = (Secret::new(spell(for_state)), Secret::new(spell(for_verifier)));
        Login { issuer, client, redirect_uri, resource, scope, state, verifier }
    }

    /// Where the user is sent (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2).
    pub fn url(&self) -> String {
        let challenge = Hash::of(self.verifier.reveal()).to_string();
        let mut params = vec![
            ("response_type", "code"),
            ("client_id", &self.client.id),
            ("redirect_uri", &self.redirect_uri),
            ("state", self.state.reveal()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        params.extend(self.resource.as_deref().map(|resource| ("resource", resource)));
        if let Some(scope) = &self.scope {
            params.push(("scope", scope));
            // Without it no refresh token is given (OpenID Connect Core §11).
            if scope.split(' ').any(|scope| scope == OFFLINE) {
                params.push(("prompt", "consent"));
            }
        }
        with_params(&self.issuer.authorization_endpoint, &params)
    }

    /// The code in the query that came at the redirect URI. First it is looked at whether it is for this login,
    /// then whether it is from the issuer (RFC 9207 §2.4), and only then at what it says.
    pub fn handle_callback(&self, query: &str) -> Result<Secret, Unusable> {
        let form = Form::read(query).map_err(|_| Unusable::NotOurs)?;
        let same = |state: &str| Hash::of(state) == Hash::of(self.state.reveal());
        if form.is_twice("state") || !form.get("state").is_some_and(same) {
            return Err(Unusable::NotOurs);
        }
        if form.twice().is_some() || !self.issuer.has_answered(form.get("iss")) {
            return Err(Unusable::Forged);
        }
        match (form.get("error"), form.get("code")) {
            (Some(error), _) => Err(Unusable::Refused(told(error, form.get("error_description")))),
            (None, Some(code)) => Ok(Secret::new(code)),
            (None, None) => Err(Unusable::Refused("its answer holds no code".into())),
        }
    }

    /// By which its answer is found again, among those of other logins.
    pub fn state_hash(&self) -> Hash {
        Hash::of(self.state.reveal())
    }

    /// What proves that whoever redeems the code is who asked for it.
    pub fn verifier(&self) -> &Secret {
        &self.verifier
    }
}

/// An error in words for the user; strangers wrote it, so it is short and plain.
pub(super) fn told(error: &str, description: Option<&str>) -> String {
    let plain = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(200).collect() };
    match (error, description) {
        ("access_denied", None) => "access was denied".into(),
        (error, None) => plain(error),
        (error, Some(description)) => format!("{} ({})", plain(description), plain(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::challenge::bearer;
    use super::*;

    fn issuer() -> Issuer {
        Issuer {
            issuer: "https://as".into(),
            authorization_endpoint: "https://as/authorize".into(),
            token_endpoint: "https://as/token".into(),
            ..Issuer::default()
        }
    }

    fn taking(methods: &[&str]) -> Issuer {
        Issuer { auth_methods: methods.iter().map(|m| (*m).to_owned()).collect(), ..issuer() }
    }

    fn public(id: &str) -> Registered {
        Registered { id: id.into(), secret: None, method: Method::None, secret_until_s: 0 }
    }

    #[test]
    fn clients_are_registered_by_hand_by_document_by_themselves_or_not() {
        let full = Issuer { client_documents: true, registration_endpoint: Some("https://as/register".into()), ..issuer() };
        let own = Own { id: Some("me".into()), secret: None, document: Some("https://me/doc".into()) };
        let document = Own { id: None, ..own.clone() };
        let plain = Issuer { client_documents: false, ..full.clone() };
        assert_eq!(way_in(&full, &own), Ok(WayIn::Be(public("me"))));
        assert_eq!(way_in(&full, &document), Ok(WayIn::Be(public("https://me/doc"))));
        assert_eq!(way_in(&plain, &document), Ok(WayIn::Register("https://as/register".into())));
        assert_eq!(way_in(&full, &Own::default()), Ok(WayIn::Register("https://as/register".into())));
        let closed = Issuer { registration_endpoint: None, ..plain };
        assert!(way_in(&closed, &document).unwrap_err().contains("--client-id"));
        let secret = Own { secret: Some(Secret::new("s")), ..own };
        for (methods, method) in [
            (&["client_secret_basic", "client_secret_post"][..], Method::Basic),
            (&["client_secret_post", "none"], Method::Post),
            (&["none"], Method::Basic),
            (&[], Method::Basic),
        ] {
            let Ok(WayIn::Be(client)) = way_in(&taking(methods), &secret) else { panic!("{methods:?}") };
            assert_eq!((client.method, client.secret.is_some()), (method, true), "{methods:?}");
        }
    }

    #[test]
    fn a_registration_says_what_we_are_and_its_answer_what_we_became() {
        for (methods, asked) in
            [(&["none", "client_secret_basic"][..], "none"), (&["client_secret_post"], "client_secret_post"), (&[], "none")]
        {
            let body: serde_json::Value = serde_json::from_str(&registration(&taking(methods), "http://127.0.0.1:1/callback")).unwrap();
            assert_eq!(body["token_endpoint_auth_method"], asked);
            assert_eq!((&body["application_type"], &body["grant_types"][1]), (&json!("native"), &json!("refresh_token")));
            assert_eq!(body["redirect_uris"], json!(["http://127.0.0.1:1/callback"]));
        }
        let read = |text: &str| registered(text, &taking(&["client_secret_post"])).map(|c| (c.method, c.secret.is_some()));
        assert_eq!(read(r#"{"client_id":"c"}"#), Ok((Method::None, false)));
        assert_eq!(read(r#"{"client_id":"c","client_secret":"s"}"#), Ok((Method::Post, true)));
        assert_eq!(
            read(r#"{"client_id":"c","client_secret":"s","token_endpoint_auth_method":"client_secret_basic"}"#),
            Ok((Method::Basic, true))
        );
        assert_eq!(read(r#"{"client_id":"c","client_secret":"s","token_endpoint_auth_method":"none"}"#), Ok((Method::None, true)));
        for bad in [
            "{}",
            r#"{"client_id":""}"#,
            "[]",
            r#"{"client_id":"c","token_endpoint_auth_method":"client_secret_post"}"#,
            r#"{"client_id":"c","token_endpoint_auth_method":"tls_client_auth"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes_are_chosen_in_order() {
        let known = ["k1".to_owned(), "k2".to_owned()];
        let offline = Issuer { scopes: Some(vec!["k1".into(), "offline_access".into()]), ..issuer() };
        let challenge = bearer(["Bearer scope=\"c1 c2\""]);
        let bare = bearer(["Bearer error=\"x\""]);
        for (wanted, challenge, known, before, issuer, expected) in [
            (None, None, &[][..], None, issuer(), None),
            (None, None, &known[..], None, issuer(), Some("k1 k2")),
            (None, bare.as_ref(), &known, None, issuer(), Some("k1 k2")),
            (None, challenge.as_ref(), &known, None, issuer(), Some("c1 c2")),
            (Some("w"), challenge.as_ref(), &known, None, issuer(), Some("w")),
            // A step up.
            (None, challenge.as_ref(), &known, Some("c2 b"), issuer(), Some("c2 b c1")),
            (Some("w"), challenge.as_ref(), &known, Some("w"), issuer(), Some("w c1 c2")),
            (None, bare.as_ref(), &known, Some("b"), issuer(), Some("b")),
            // For a refresh token.
            (None, challenge.as_ref(), &known, None, offline.clone(), Some("c1 c2 offline_access")),
            (None, None, &known, Some("k1 offline_access"), offline.clone(), Some("k1 offline_access")),
            (None, None, &[], None, offline.clone(), None),
        ] {
            assert_eq!(scopes(wanted, challenge, known, before, &issuer).as_deref(), expected);
        }
        assert!(
            covers(Some("a b"), Some("b"))
                && !covers(Some("a b"), Some("b c"))
                && !covers(None, Some("a"))
                && covers(None, None)
                && covers(Some("a"), None)
        );
    }

    fn login(issuer: Issuer) -> Login {
        let at = "http://127.0.0.1:7/callback".to_owned();
        Login::new(issuer, public("c"), at, Some("https://h/mcp".into()), Some("a b".into()), [[1; 32], [2; 32]])
    }

    #[test]
    fn the_user_is_sent_with_all_that_protects_the_code() {
        let url = login(issuer()).url();
        let (at, query) = url.split_once('?').unwrap();
        let form = Form::read(query).unwrap();
        assert_eq!(at, "https://as/authorize");
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "c"),
            ("redirect_uri", "http://127.0.0.1:7/callback"),
            ("state", &spell([1; 32])),
            ("code_challenge", &Hash::of(&spell([2; 32])).to_string()),
            ("code_challenge_method", "S256"),
            ("resource", "https://h/mcp"),
            ("scope", "a b"),
        ] {
            assert_eq!(form.get(name), Some(value), "{name}");
        }
        assert_eq!(form.get("prompt"), None);
        assert!(!url.contains(login(issuer()).verifier().reveal()));
        assert!(!format!("{:?}", login(issuer())).contains(&spell([2; 32])));
    }

    #[test]
    fn an_answer_is_ours_then_the_issuers_and_then_read() {
        let promised = Issuer { names_itself: true, ..issuer() };
        let state = spell([1; 32]);
        for (issuer, query, expected) in [
            (issuer(), "code=x&state=STATE", Ok("x")),
            (issuer(), "code=x&state=STATE&iss=https%3A%2F%2Fas", Ok("x")),
            (promised.clone(), "code=x&state=STATE&iss=https://as", Ok("x")),
            // Another's, or nobody's.
            (issuer(), "code=x", Err(Unusable::NotOurs)),
            (issuer(), "code=x&state=y", Err(Unusable::NotOurs)),
            (issuer(), "code=x&state=STATE&state=STATE", Err(Unusable::NotOurs)),
            (issuer(), "error=boo&iss=https://evil", Err(Unusable::NotOurs)),
            (issuer(), "%", Err(Unusable::NotOurs)),
            // The table of RFC 9207, for errors too.
            (issuer(), "code=x&state=STATE&iss=https://evil", Err(Unusable::Forged)),
            (issuer(), "code=x&state=STATE&iss=https://as/", Err(Unusable::Forged)),
            (promised.clone(), "code=x&state=STATE", Err(Unusable::Forged)),
            (promised, "error=boo&state=STATE", Err(Unusable::Forged)),
            (issuer(), "code=x&code=y&state=STATE", Err(Unusable::Forged)),
            // What it says.
            (issuer(), "error=access_denied&state=STATE", Err(Unusable::Refused("access was denied".into()))),
            (issuer(), "error=e&error_description=no%0Away&state=STATE", Err(Unusable::Refused("noway (e)".into()))),
            (issuer(), "state=STATE", Err(Unusable::Refused("its answer holds no code".into()))),
        ] {
            let read = login(issuer).handle_callback(&query.replace("STATE", &state));
            assert_eq!(read, expected.map(Secret::new), "{query}");
        }
    }
}
