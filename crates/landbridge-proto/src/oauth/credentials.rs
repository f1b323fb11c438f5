//! Who a client is, at the token endpoint (RFC 6749 §2.3, OAuth 2.1 §2.4).
//!
//! A secret comes in the header or in the body, whichever the client was registered with; most clients do
//! not keep to it. A signature (`private_key_jwt`) is checked by the caller, who has the keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::client::{Auth, Client};
use super::form::{Form, decode, encode};
use super::refusal::{Code, Refusal};
use super::secret::Secret;

/// What a client says of who it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Its id; the caller looks it up.
    pub client_id: String,
    /// Its secret, if it has shown one.
    pub secret: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.client_id)
    }
}

impl Credentials {
    /// Reads the header `Authorization` and the body of a request. What is said in both must agree, and a
    /// secret may only be in one of them.
    pub fn read(authorization: Option<&str>, form: &Form) -> Result<Credentials, Refusal> {
        let invalid = |told: &str| Err(Refusal::new(Code::InvalidRequest, told));
        if form.is_twice("client_id") || form.is_twice("client_secret") {
            return invalid("the request names two clients");
        }
        let (id, secret) = (form.get("client_id"), form.get("client_secret"));
        let Some(authorization) = authorization else {
            let Some(id) = id else { return Err(Refusal::new(Code::InvalidClient, "the request names no client")) };
            return Ok(Credentials { client_id: id.to_owned(), secret: secret.map(str::to_owned) });
        };
        let Some(credentials) = read_basic(authorization) else {
            return Err(Refusal::new(Code::InvalidClient, "the Authorization header is not of the scheme Basic"));
        };
        if secret.is_some() {
            return invalid("the request shows two secrets");
        }
        if id.is_some_and(|id| id != credentials.client_id) {
            return invalid("the request names two clients");
        }
        Ok(credentials)
    }

    /// Whether this is that client. `signed` is whether the caller has checked a signature of the
    /// client's. The refusal is the same for a wrong secret and for none.
    pub fn are_of(&self, client: &Client, signed: bool) -> Result<(), Refusal> {
        let shown = match &client.auth {
            Auth::None => true,
            Auth::Secret(hash) => self.secret.as_deref().is_some_and(|secret| hash.is_of(secret)),
            Auth::Key(_) => signed,
        };
        let known = shown && self.client_id == client.id;
        known.then_some(()).ok_or_else(|| Refusal::new(Code::InvalidClient, "the client is unknown, or has not shown who it is"))
    }
}

/// The value of `Authorization` by which a client shows its secret: `Basic`, both halves encoded as in a form
/// (RFC 6749 §2.3.1).
pub fn basic(client_id: &str, secret: &str) -> Secret {
    Secret::new(format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(client_id), encode(secret)))))
}

/// What that says: `Basic`, of which both halves are encoded as in a form (RFC 6749 §2.3.1).
fn read_basic(header: &str) -> Option<Credentials> {
    let (scheme, rest) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    // Many clients do not encode; theirs are mostly the same either way.
    let half = |text: &str| decode(text).unwrap_or_else(|| text.to_owned());
    Some(Credentials { client_id: half(id), secret: Some(half(secret)).filter(|secret| !secret.is_empty()) })
}

#[cfg(test)]
mod tests {
    use super::super::client::register;
    use super::*;

    fn read(header: Option<&str>, body: &str) -> Result<(String, Option<String>), Code> {
        let credentials = Credentials::read(header, &Form::read(body).unwrap()).map_err(|e| e.code)?;
        Ok((credentials.client_id, credentials.secret))
    }

    #[test]
    fn a_secret_comes_in_one_place() {
        let both = |id: &str, secret: Option<&str>| Ok((id.to_owned(), secret.map(str::to_owned)));
        let header = format!("basic {}", STANDARD.encode("a%20b:s%3A+t"));
        assert_eq!(read(None, "client_id=c"), both("c", None));
        assert_eq!(read(None, "client_id=c&client_secret=s"), both("c", Some("s")));
        assert_eq!(read(Some(&header), ""), both("a b", Some("s: t")));
        assert_eq!(read(Some(&header), "client_id=a+b"), both("a b", Some("s: t")));
        assert_eq!(read(Some(&format!("Basic {}", STANDARD.encode("c:50%"))), ""), both("c", Some("50%")));
        assert_eq!(read(None, ""), Err(Code::InvalidClient));
        assert_eq!(read(Some(&header), "client_id=c"), Err(Code::InvalidRequest));
        assert_eq!(read(Some(&header), "client_secret=s"), Err(Code::InvalidRequest));
        assert_eq!(read(None, "client_id=c&client_id=c"), Err(Code::InvalidRequest));
        for bad in ["Bearer x", "Basic", "Basic !", "Basic eA==", ""] {
            assert_eq!(read(Some(bad), "client_id=c"), Err(Code::InvalidClient), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_in_the_header_is_read_again() {
        for (id, secret) in [("c", "s"), ("https://h:1/c", "a b+c%&ü:")] {
            assert_eq!(read(Some(basic(id, secret).reveal()), ""), Ok((id.to_owned(), Some(secret.to_owned()))));
        }
    }

    #[test]
    fn a_client_shows_what_it_was_registered_with() {
        let (client, answer) = register(r#"{"redirect_uris":["https://h/cb"]}"#, "c".into(), [2; 32], 0).unwrap();
        let secret = serde_json::from_str::<serde_json::Value>(&answer).unwrap()["client_secret"].as_str().unwrap().to_owned();
        let shown = |id: &str, secret: Option<&str>| Credentials { client_id: id.into(), secret: secret.map(Into::into) };
        assert!(shown(&client.id, Some(&secret)).are_of(&client, false).is_ok());
        assert!(shown(&client.id, Some("other")).are_of(&client, false).is_err());
        assert!(shown(&client.id, None).are_of(&client, true).is_err());
        assert!(shown("other", Some(&secret)).are_of(&client, false).is_err());
        let public = Client { auth: Auth::None, ..client };
        assert!(shown(&public.id, None).are_of(&public, false).is_ok());
    }
}
