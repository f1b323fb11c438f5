//! The request that begins a login, and what is answered at its redirect (RFC 6749 §4.1, OAuth 2.1 §4.1).
//!
//! ```text
//!   query ─▶ Form ─▶ the caller loads the client ─▶ check ─┬─▶ Asked ─▶ login, consent ─▶ grant ─▶ code
//!                                                          ├─▶ Refused::Sent     to the client, by redirect
//!                                                          ├─▶ Refused::Offered  to the user, who may go back to the client
//!                                                          └─▶ Refused::Shown    to the user, on a page
//! ```
//!
//! Nothing is sent to an address before it is known to be this client's; until then the user is told. Anybody can become
//! a client, of any address, and write requests that are refused; so that nobody's link to us leads elsewhere by itself
//! (RFC 9700 §4.11.2), a browser goes only to clients of the operator's before its user has done something here, and to
//! this machine: there a program waits for the answer that has no other way to hear of it, and no page of a stranger lies.
//! Odd: `state` is the client's own and goes back as it came, but what came twice is nobody's.

use super::audience::Resource;
use super::client::Client;
use super::form::{Form, with_params};
use super::refusal::{Code as Error, Refusal};
use super::secret::{Hash, spell};
use super::url::Url;

/// How long a code waits to be redeemed, in seconds. Clients do so at once.
pub const CODE_TTL_S: u64 = 60;

/// What a request must agree with.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Our issuer, as it stands in our document.
    pub issuer: &'a str,
    /// What tokens can be for.
    pub mounts: &'a [Resource],
    /// What is granted here.
    pub scopes: &'a [String],
    /// What a client means that names no resource, as those of 2025-03-26 do; `None` refuses them.
    pub unnamed: Option<&'a Resource>,
}

/// A request that is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The user is told on a page of ours: who asks, or where the answer goes, is not certain.
    Shown(Refusal),
    /// The client is told: the URL to which the user's browser is sent.
    Sent(String),
    /// The user is told on a page of ours, and goes back if they want to: then the client is told, too.
    Offered {
        /// What is wrong.
        refusal: Refusal,
        /// Where the client waits.
        redirect_uri: String,
        /// The same with the answer.
        location: String,
    },
}

/// A request that a user can now be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who asks.
    pub client_id: String,
    /// Where the answer goes, with the port of this time.
    pub redirect_uri: String,
    /// What the client finds its request by.
    pub state: Option<String>,
    /// What whoever redeems the code must know the origin of (RFC 7636).
    pub challenge: Hash,
    /// What the token shall be for.
    pub resource: Resource,
    /// What it shall hold. A user may leave some out before it is granted.
    pub scopes: Vec<String>,
}

/// What a user has agreed to. Every code and token has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// By which all tokens of this agreement are found and withdrawn.
    pub id: String,
    /// To whom.
    pub client_id: String,
    /// Who agreed: issuer and subject, as the caller writes them.
    pub principal: String,
    /// For what.
    pub resource: Resource,
    /// How much.
    pub scopes: Vec<String>,
}

/// A code that waits to be redeemed, kept under its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// What it stands for.
    pub grant: Grant,
    /// Where it was sent.
    pub redirect_uri: String,
    /// What redeems it.
    pub challenge: Hash,
    /// Until when, in seconds since 1970.
    pub expires_s: u64,
}

/// What follows from a user's consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The key of the record.
    pub key: Hash,
    /// The record to write.
    pub code: Code,
    /// The URL to which the user's browser is sent.
    pub location: String,
}

/// The client that a request names; the caller looks it up. The refusal is for the user.
pub fn client_id(form: &Form) -> Result<&str, Refusal> {
    if form.is_twice("client_id") {
        return Err(Refusal::new(Error::InvalidRequest, "the request names two clients"));
    }
    form.get("client_id").ok_or_else(|| Refusal::new(Error::InvalidRequest, "the request names no client (client_id)"))
}

/// Checks a request of this client.
pub fn check(form: &Form, client: &Client, server: &Server<'_>) -> Result<Asked, Refused> {
    let show = |told: &str| Err(Refused::Shown(Refusal::new(Error::InvalidRequest, told)));
    match client_id(form) {
        Ok(id) if id == client.id => {}
        Ok(_) => return show("the request is of another client"),
        Err(refusal) => return Err(Refused::Shown(refusal)),
    }
    if form.is_twice("redirect_uri") {
        return show("the request names two places to return to");
    }
    let Some(redirect_uri) = form.get("redirect_uri") else { return show("the request does not say where to return to (redirect_uri)") };
    if !client.redirects_to(redirect_uri) {
        return show("the place to return to is not one that the client has registered (redirect_uri)");
    }

    // From here on it is certain who is told.
    let state = form.get("state").filter(|_| !form.is_twice("state"));
    let send = |error: Error, told: &str| Err(unasked(client, redirect_uri, state, server.issuer, Refusal::new(error, told)));
    match form.twice() {
        // RFC 8707 §2 allows several resources; one token for several servers is what we refuse.
        Some("resource") => return send(Error::InvalidTarget, "one token is for one resource"),
        Some(name) => return send(Error::InvalidRequest, &format!("the parameter {name} is there twice")),
        None => {}
    }
    if form.get("request").is_some() {
        return send(Error::RequestNotSupported, "signed requests are not served");
    }
    if form.get("request_uri").is_some() {
        return send(Error::RequestUriNotSupported, "pushed requests are not served");
    }
    match form.get("response_type") {
        Some("code") => {}
        Some(_) => return send(Error::UnsupportedResponseType, "response_type must be code"),
        None => return send(Error::InvalidRequest, "response_type is missing"),
    }
    if form.get("response_mode").is_some_and(|mode| mode != "query") {
        return send(Error::InvalidRequest, "response_mode must be query");
    }
    // Without a method it would be `plain` (RFC 7636 §4.3), which protects nobody.
    if form.get("code_challenge_method") != Some("S256") {
        return send(Error::InvalidRequest, "code_challenge_method must be S256");
    }
    let Some(challenge) = form.get("code_challenge").and_then(Hash::read) else {
        return send(Error::InvalidRequest, "code_challenge must be 43 characters of base64url");
    };
    let resource = match form.get("resource") {
        Some(text) => Resource::read(text),
        None => server.unnamed.cloned().ok_or("is missing"),
    };
    let resource = match resource {
        Ok(resource) if server.mounts.iter().any(|mount| resource.opens(mount)) => resource,
        Ok(_) => return send(Error::InvalidTarget, "the resource is not served here"),
        Err(e) => return send(Error::InvalidTarget, &format!("the resource {e}")),
    };
    let may = |scope: &str| {
        let allowed = |scopes: &[String]| scopes.iter().any(|s| s == scope);
        allowed(server.scopes) && client.scopes.as_deref().is_none_or(allowed)
    };
    let mut scopes: Vec<String> = match form.get("scope") {
        // What is unknown here is left out (RFC 6749 §3.3): clients ask for `openid` everywhere.
        Some(asked) => asked.split(' ').filter(|scope| may(scope)).map(str::to_owned).collect(),
        None => server.scopes.iter().filter(|scope| may(scope)).cloned().collect(),
    };
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.is_empty() && !server.scopes.is_empty() {
        return send(Error::InvalidScope, "none of these scopes is granted here");
    }
    Ok(Asked {
        client_id: client.id.clone(),
        redirect_uri: redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        challenge,
        resource,
        scopes,
    })
}

impl Asked {
    /// The user `principal` has agreed. The random bytes become the code and the grant's id.
    pub fn grant(self, principal: String, issuer: &str, [for_code, for_id]: [[u8; 32]; 2], now_s: u64) -> Granted {
        let code = spell(for_code);
        let mut params = vec![("code", code.as_str())];
        params.extend(self.state.as_deref().map(|state| ("state", state)));
        params.push(("iss", issuer));
        Granted {
            key: Hash::of(&code),
            location: with_params(&self.redirect_uri, &params),
            code: Code {
                grant: Grant { id: spell(for_id), client_id: self.client_id, principal, resource: self.resource, scopes: self.scopes },
                redirect_uri: self.redirect_uri,
                challenge: self.challenge,
                expires_s: now_s.saturating_add(CODE_TTL_S),
            },
        }
    }

    /// There is nothing to ask the user about, or somebody says that they did not agree: nobody has pressed a button here.
    pub fn refuse_unasked(&self, client: &Client, refusal: Refusal, issuer: &str) -> Refused {
        unasked(client, &self.redirect_uri, self.state.as_deref(), issuer, refusal)
    }

    /// The user has not agreed, on a page of ours: the URL to which the browser is sent.
    pub fn refuse(&self, refusal: &Refusal, issuer: &str) -> String {
        refused_at(&self.redirect_uri, self.state.as_deref(), issuer, refusal)
    }
}

/// What becomes of a request that is refused before its user has done anything.
fn unasked(client: &Client, redirect_uri: &str, state: Option<&str>, issuer: &str, refusal: Refusal) -> Refused {
    let location = refused_at(redirect_uri, state, issuer, &refusal);
    match client.of_operator || Url::read(redirect_uri).is_ok_and(|url| url.is_loopback()) {
        true => Refused::Sent(location),
        false => Refused::Offered { refusal, redirect_uri: redirect_uri.to_owned(), location },
    }
}

/// An error response, which names us like every other (RFC 9207 §2).
fn refused_at(redirect_uri: &str, state: Option<&str>, issuer: &str, refusal: &Refusal) -> String {
    let mut params = vec![("error", refusal.code.as_str()), ("error_description", refusal.told.as_str())];
    params.extend(state.map(|state| ("state", state)));
    params.push(("iss", issuer));
    with_params(redirect_uri, &params)
}

#[cfg(test)]
mod tests {
    use super::super::client::Auth;
    use super::super::redirect::Application;
    use super::*;

    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn client() -> Client {
        Client {
            id: "c".into(),
            name: "App".into(),
            home: None,
            redirect_uris: vec!["http://127.0.0.1/cb".into(), "https://h/cb?x=1".into()],
            application: Application::Native,
            auth: Auth::None,
            refreshes: true,
            scopes: None,
            known_since_s: 0,
            of_operator: false,
        }
    }

    /// The usual request, with some parameters changed; an empty value takes one away.
    fn query(changed: &[(&str, &str)]) -> String {
        let mut params = vec![
            ("response_type", "code"),
            ("client_id", "c"),
            ("redirect_uri", "http://127.0.0.1:9/cb"),
            ("state", "a b&=ü"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("resource", "https://h/mcp"),
            ("scope", "read write"),
        ];
        params.retain(|(name, _)| changed.iter().all(|(changed, _)| changed != name));
        params.extend(changed.iter().filter(|(_, value)| !value.is_empty()));
        with_params("", &params)[1..].to_owned()
    }

    fn checked(query: &str, client: &Client) -> Result<Asked, Refused> {
        let mounts = [Resource::read("https://h/mcp").unwrap(), Resource::read("https://h/sse").unwrap()];
        let scopes = ["read".to_owned(), "write".to_owned()];
        let server = Server { issuer: "https://h", mounts: &mounts, scopes: &scopes, unnamed: None };
        check(&Form::read(query).unwrap(), client, &server)
    }

    #[test]
    fn a_proper_request_can_be_granted() {
        let asked = checked(&query(&[]), &client()).unwrap();
        assert_eq!(
            (asked.resource.to_string().as_str(), &asked.scopes[..]),
            ("https://h/mcp", &["read".to_owned(), "write".to_owned()][..])
        );
        let granted = asked.clone().grant("ada".into(), "https://h", [[1; 32], [2; 32]], 100);
        let code = spell([1; 32]);
        assert_eq!(granted.location, format!("http://127.0.0.1:9/cb?code={code}&state=a%20b%26%3D%C3%BC&iss=https%3A%2F%2Fh"));
        assert!(granted.key.is_of(&code));
        assert_eq!((granted.code.grant.principal.as_str(), granted.code.expires_s), ("ada", 160));
        let denied = asked.refuse(&Refusal::new(Error::AccessDenied, "the user said no"), "https://h");
        assert!(
            denied.ends_with("?error=access_denied&error_description=the%20user%20said%20no&state=a%20b%26%3D%C3%BC&iss=https%3A%2F%2Fh")
        );
    }

    #[test]
    fn what_is_asked_is_narrowed_to_what_there_is() {
        let scopes = |changed: &[(&str, &str)], client: &Client| checked(&query(changed), client).unwrap().scopes.join(" ");
        assert_eq!(scopes(&[("scope", "")], &client()), "read write");
        assert_eq!(scopes(&[("scope", "openid write write")], &client()), "write");
        let limited = Client { scopes: Some(vec!["read".into()]), ..client() };
        assert_eq!(scopes(&[], &limited), "read");
        for resource in ["https://h", "https://H:443/", "https://h/sse/"] {
            assert!(checked(&query(&[("resource", resource)]), &client()).is_ok(), "{resource}");
        }
    }

    #[test]
    fn who_cannot_be_told_for_certain_is_not_told() {
        for changed in [
            &[("client_id", "")][..],
            &[("client_id", "d")],
            &[("client_id", "c"), ("client_id", "c")],
            &[("redirect_uri", "")],
            &[("redirect_uri", "https://evil/cb")],
            &[("redirect_uri", "https://h/cb")],
            &[("redirect_uri", "http://127.0.0.1:9/cb#x")],
            &[("redirect_uri", "http://127.0.0.1:9/cb"), ("redirect_uri", "https://evil/cb")],
        ] {
            assert!(matches!(checked(&query(changed), &client()), Err(Refused::Shown(_))), "{changed:?}");
        }
    }

    #[test]
    fn the_client_is_told_of_everything_else() {
        for (changed, error) in [
            (&[("response_type", "")][..], "invalid_request"),
            (&[("response_type", "token")], "unsupported_response_type"),
            (&[("response_mode", "fragment")], "invalid_request"),
            (&[("code_challenge", "")], "invalid_request"),
            (&[("code_challenge", "short")], "invalid_request"),
            (&[("code_challenge_method", "")], "invalid_request"),
            (&[("code_challenge_method", "plain")], "invalid_request"),
            (&[("resource", "")], "invalid_target"),
            (&[("resource", "https://h/other")], "invalid_target"),
            (&[("resource", "https://h/mcp/below")], "invalid_target"),
            (&[("resource", "https://h.evil")], "invalid_target"),
            (&[("resource", "https://h/mcp"), ("resource", "https://h/sse")], "invalid_target"),
            (&[("scope", "openid")], "invalid_scope"),
            (&[("scope", "read"), ("scope", "write")], "invalid_request"),
            (&[("request", "x")], "request_not_supported"),
            (&[("request_uri", "x")], "request_uri_not_supported"),
        ] {
            let Err(Refused::Sent(location)) = checked(&query(changed), &client()) else { panic!("{changed:?}") };
            assert!(location.starts_with(&format!("http://127.0.0.1:9/cb?error={error}&error_description=")), "{location}");
            assert!(location.ends_with("&state=a%20b%26%3D%C3%BC&iss=https%3A%2F%2Fh"), "{location}");
        }
        // A redirect with parameters keeps them; two states are none.
        let twice = query(&[("redirect_uri", "https://h/cb?x=1"), ("state", "a"), ("state", "b")]);
        let known = Client { of_operator: true, ..client() };
        let Err(Refused::Sent(location)) = checked(&twice, &known) else { panic!("two states") };
        assert!(location.starts_with("https://h/cb?x=1&error=invalid_request&") && !location.contains("state=a"), "{location}");
    }

    #[test]
    fn nobody_is_led_to_a_stranger_who_has_not_asked_for_it() {
        let with = |uri: &str, of_operator| Client { redirect_uris: vec![uri.into()], of_operator, ..client() };
        let refused = |uri: &str, of_operator| {
            let query = query(&[("redirect_uri", uri), ("scope", "none")]);
            checked(&query, &with(uri, of_operator)).unwrap_err()
        };
        for uri in ["https://evil.example/cb", "https://127.0.0.1.evil.example/cb", "com.example.app:/cb", "cursor://x/cb"] {
            let Refused::Offered { refusal, redirect_uri, location } = refused(uri, false) else { panic!("{uri}") };
            assert_eq!((refusal.code, redirect_uri.as_str()), (Error::InvalidScope, uri));
            assert!(location.starts_with(&format!("{uri}?error=invalid_scope&")), "{location}");
            assert_eq!(refused(uri, true), Refused::Sent(location), "who is known to the operator");
        }
        for uri in ["http://127.0.0.1/cb", "http://localhost:1/cb", "http://[::1]/cb", "https://localhost/cb"] {
            assert!(matches!(refused(uri, false), Refused::Sent(_)), "{uri}");
        }
        // Whoever decides elsewhere has not decided here.
        let uri = "https://evil.example/cb";
        let asked = checked(&query(&[("redirect_uri", uri)]), &with(uri, false)).unwrap();
        let no = || Refusal::new(Error::AccessDenied, "the user did not agree");
        let offered = asked.refuse_unasked(&with(uri, false), no(), "https://h");
        let location = asked.refuse(&no(), "https://h");
        assert_eq!(offered, Refused::Offered { refusal: no(), redirect_uri: uri.into(), location });
    }
}
