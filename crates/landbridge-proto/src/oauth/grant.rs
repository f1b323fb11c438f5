//! How we get tokens from others: by a code, a refresh token, or as a client that has no user.
//!
//! Odd: a `resource` goes with each of them, refreshing too (MCP authorization, "Resource Parameter
//! Implementation"), and a scope with none but the last: a refresh without one asks for what was granted
//! (RFC 6749 §6).

use super::credentials::basic;
use super::document::Document;
use super::form::encode;
use super::jwt::ASSERTION_TYPE;
use super::login::{Login, Method, Registered, told};
use super::secret::Secret;

/// Longest token that is taken; longer ones fit no header.
const MAX_TOKEN: usize = 16 * 1024;

/// What a token is given for.
#[derive(Clone, Copy, Debug)]
pub enum Grant<'g> {
    /// A code, of this login.
    Code(&'g Login, &'g Secret),
    /// A refresh token.
    Refresh(&'g Secret),
    /// Who we are, and the scopes that are wanted.
    Client(Option<&'g str>),
}

/// A request to a token endpoint.
#[derive(Clone, Debug)]
pub struct Request {
    /// The body, `application/x-www-form-urlencoded`.
    pub body: Secret,
    /// The value of `Authorization`, if there is one.
    pub authorization: Option<Secret>,
}

impl Request {
    /// The request for a token for `resource`, as that client. `signature`: an
    /// [`assertion`](super::jwt::assertion), signed, where its method is [`Method::Key`].
    pub fn new(grant: Grant<'_>, client: &Registered, resource: Option<&str>, signature: Option<&Secret>) -> Request {
        let mut params: Vec<(&str, &str)> = match grant {
            Grant::Code(login, code) => vec![
                ("grant_type", "authorization_code"),
                ("code", code.reveal()),
                ("redirect_uri", &login.redirect_uri),
                ("code_verifier", login.verifier().reveal()),
            ],
            Grant::Refresh(token) => vec![("grant_type", "refresh_token"), ("refresh_token", token.reveal())],
            Grant::Client(scope) => {
                let mut params = vec![("grant_type", "client_credentials")];
                params.extend(scope.map(|scope| ("scope", scope)));
                params
            }
        };
        params.extend(resource.map(|resource| ("resource", resource)));
        Request::by(params, client, signature)
    }

    /// The request that gives a token back (RFC 7009 §2.1). `hint`: which kind it is.
    pub fn revocation(token: &Secret, hint: &str, client: &Registered) -> Request {
        Request::by(vec![("token", token.reveal()), ("token_type_hint", hint)], client, None)
    }

    /// These parameters, from that client.
    fn by<'p>(mut params: Vec<(&'p str, &'p str)>, client: &'p Registered, signature: Option<&'p Secret>) -> Request {
        let secret = client.secret.as_ref().map_or("", Secret::reveal);
        let mut authorization = None;
        match client.method {
            Method::None => params.push(("client_id", &client.id)),
            Method::Post => params.extend([("client_id", client.id.as_str()), ("client_secret", secret)]),
            Method::Basic => authorization = Some(basic(&client.id, secret)),
            Method::Key => {
                params.push(("client_id", &client.id));
                params.extend(signature.map(|signed| ("client_assertion", signed.reveal())));
                params.push(("client_assertion_type", ASSERTION_TYPE));
            }
        }
        let body: Vec<String> = params.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        Request { body: Secret::new(body.join("&")), authorization }
    }
}

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// What opens the server.
    pub access: Secret,
    /// What gets the next; where none came, one that was used stays.
    pub refresh: Option<Secret>,
    /// How long it opens, in seconds, where that is said.
    pub lifetime_s: Option<u64>,
    /// What it holds, where that is not what was asked for.
    pub scope: Option<String>,
}

/// Why nothing was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The code or the refresh token does not count (any more).
    Grant(String),
    /// The issuer does not know us (any more).
    Client(String),
    /// It cannot just now; the same request may do later.
    Later(String),
    /// Anything else, in words for the user.
    Other(String),
}

impl Denied {
    /// Why, in words for the user.
    pub fn why(&self) -> &str {
        match self {
            Denied::Grant(why) | Denied::Client(why) | Denied::Later(why) | Denied::Other(why) => why,
        }
    }
}

/// Reads the answer of a token endpoint (RFC 6749 §5).
pub fn granted(status: u16, text: &str) -> Result<Granted, Denied> {
    if status >= 500 || status == 429 {
        return Err(Denied::Later(format!("it answers with HTTP {status}")));
    }
    let other = |why: String| Denied::Other(format!("its answer (HTTP {status}) cannot be used: {why}"));
    let document = Document::read(text).map_err(other)?;
    // Some send errors with status 200.
    if let Some(error) = document.string("error").map_err(other)? {
        let why = told(&error, document.string("error_description").ok().flatten().as_deref());
        return Err(match error.as_str() {
            "invalid_grant" => Denied::Grant(why),
            "invalid_client" | "unauthorized_client" => Denied::Client(why),
            "temporarily_unavailable" | "slow_down" => Denied::Later(why),
            _ => Denied::Other(why),
        });
    }
    if !(200..300).contains(&status) {
        return Err(Denied::Other(format!("it answers with HTTP {status}")));
    }
    let kind = document.string("token_type").map_err(other)?;
    if kind.as_ref().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(other("the token is of another type than Bearer".into()));
    }
    let access = document.required("access_token").map_err(other)?;
    if access.len() > MAX_TOKEN || !access.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(other("the token fits no header".into()));
    }
    let refresh = document.string("refresh_token").map_err(other)?.filter(|token| !token.is_empty() && token.len() <= MAX_TOKEN);
    let lifetime_s = document.number("expires_in").ok().flatten(); // without it a refusal tells
    let scope = document.string("scope").ok().flatten();
    Ok(Granted { access: Secret::new(access), refresh: refresh.map(Secret::new), lifetime_s, scope })
}

#[cfg(test)]
mod tests {
    use super::super::discovery::Issuer;
    use super::super::form::Form;
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    fn client(method: Method) -> Registered {
        Registered { id: "a b".into(), secret: Some(Secret::new("s:%")), method, secret_until_s: 0 }
    }

    #[test]
    fn a_request_shows_who_we_are_in_one_place() {
        let token = Secret::new("r&t");
        for (method, header, id, secret, kind) in [
            (Method::None, None, Some("a b"), None, None),
            (Method::Post, None, Some("a b"), Some("s:%"), None),
            (Method::Basic, Some(format!("Basic {}", STANDARD.encode("a%20b:s%3A%25"))), None, None, None),
            (Method::Key, None, Some("a b"), None, Some(ASSERTION_TYPE)),
        ] {
            let signature = Secret::new("h.c.s");
            let request = Request::new(Grant::Refresh(&token), &client(method), Some("https://h/mcp"), Some(&signature));
            let form = Form::read(request.body.reveal()).unwrap();
            assert_eq!(request.authorization.as_ref().map(|a| a.reveal().to_owned()), header);
            assert_eq!((form.get("client_id"), form.get("client_secret"), form.get("client_assertion_type")), (id, secret, kind));
            assert_eq!(form.get("client_assertion"), kind.map(|_| "h.c.s"));
            assert_eq!((form.get("grant_type"), form.get("refresh_token")), (Some("refresh_token"), Some("r&t")));
            assert_eq!((form.get("resource"), form.get("scope")), (Some("https://h/mcp"), None));
            assert!(!format!("{request:?}").contains("r%26t"));
        }
    }

    #[test]
    fn a_code_goes_with_its_verifier_and_its_place() {
        let at = "http://127.0.0.1:7/callback".to_owned();
        let login = Login::new(Issuer::default(), client(Method::None), at.clone(), None, None, [[1; 32], [2; 32]]);
        let code = Secret::new("c+d");
        let request = Request::new(Grant::Code(&login, &code), &login.client, None, None);
        let form = Form::read(request.body.reveal()).unwrap();
        assert_eq!(
            (form.get("grant_type"), form.get("code"), form.get("redirect_uri")),
            (Some("authorization_code"), Some("c+d"), Some(at.as_str()))
        );
        assert_eq!((form.get("code_verifier"), form.get("resource")), (Some(login.verifier().reveal()), None));
        let request = Request::new(Grant::Client(Some("x y")), &login.client, None, None);
        let form = Form::read(request.body.reveal()).unwrap();
        assert_eq!((form.get("grant_type"), form.get("scope")), (Some("client_credentials"), Some("x y")));
    }

    #[test]
    fn answers_are_tokens_or_say_why_not() {
        let good =
            granted(200, r#"{"access_token":"a.b","token_type":"bearer","expires_in":3600,"refresh_token":"r","scope":"x"}"#).unwrap();
        assert_eq!((good.access.reveal(), good.lifetime_s, good.scope.as_deref()), ("a.b", Some(3600), Some("x")));
        assert_eq!(good.refresh, Some(Secret::new("r")));
        assert!(!format!("{good:?}").contains("a.b"));
        let bare = granted(200, r#"{"access_token":"a","expires_in":"60","refresh_token":""}"#).unwrap();
        assert_eq!((bare.lifetime_s, bare.refresh), (Some(60), None));
        for (status, text, expected) in [
            (400, r#"{"error":"invalid_grant"}"#, Denied::Grant("invalid_grant".into())),
            (401, r#"{"error":"invalid_client","error_description":"who?"}"#, Denied::Client("who? (invalid_client)".into())),
            (200, r#"{"error":"invalid_grant"}"#, Denied::Grant("invalid_grant".into())),
            (400, r#"{"error":"invalid_target"}"#, Denied::Other("invalid_target".into())),
            (503, "<html>", Denied::Later("it answers with HTTP 503".into())),
            (429, "", Denied::Later("it answers with HTTP 429".into())),
            (404, "{}", Denied::Other("it answers with HTTP 404".into())),
        ] {
            assert_eq!(granted(status, text).unwrap_err(), expected, "{text}");
        }
        for bad in ["{}", "[]", r#"{"access_token":"a","token_type":"DPoP"}"#, r#"{"access_token":"a\nb"}"#, r#"{"access_token":"ü"}"#] {
            assert!(matches!(granted(200, bad), Err(Denied::Other(_))), "{bad}");
        }
    }
}
