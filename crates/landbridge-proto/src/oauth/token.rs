//! The token endpoint: a code becomes tokens, and a refresh token the next ones (RFC 6749 §4.1.3 and §6).
//!
//! ```text
//!   form ─▶ wanted ─▶ the caller takes the record of that key ─▶ redeem | refresh ─▶ writes, answer
//!
//!   code     fresh ─▶ spent                    spent and shown again: all of its grant is withdrawn
//!   refresh  live ──▶ used ─(60 s)─▶ spent     spent and shown again: all of its grant is withdrawn
//! ```
//!
//! To take a record is to read and remove it at once, so of many who come with the same secret one sees it
//! as it was; the others find nothing for a moment and look again. Whatever is to stay is written back.
//!
//! Odd: the successor of a refresh token is not random but a hash of it and of its record's salt. Within the
//! grace everybody who shows the old one is told the same new one: a client whose answer was lost, or two
//! copies of it that race, go on as one line that never forks. A record alone says nothing of the
//! successor, and neither does the old token alone.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::audience::Resource;
use super::authorize::{Code, Grant};
use super::client::Client;
use super::form::Form;
use super::refusal::{Code as Error, Refusal};
use super::secret::{Hash, spell};

/// How long a used refresh token still leads to its successor, in seconds.
pub const GRACE_S: u64 = 60;
/// How long it is remembered that a code was spent, in seconds.
const SPENT_TTL_S: u64 = 600;

/// How long tokens live, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Access tokens.
    pub access_s: u64,
    /// Refresh tokens that nobody uses.
    pub refresh_s: u64,
}

/// What is kept of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeRecord {
    /// Nobody has redeemed it.
    Fresh(Code),
    /// Somebody has.
    Spent {
        /// What it stood for.
        grant_id: String,
        /// Whose it was.
        client_id: String,
        /// Until when this is remembered.
        expires_s: u64,
    },
}

/// What is kept of an access token. Tokens are checked against this and against nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// What it may: the grant, where resource and scopes may be narrower.
    pub grant: Grant,
    /// Until when, in seconds since 1970.
    pub expires_s: u64,
}

/// What is kept of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// What it renews.
    pub grant: Grant,
    /// Until when, in seconds since 1970.
    pub expires_s: u64,
    /// What makes its successor, together with the token itself.
    pub salt: [u8; 32],
    /// When it was first used.
    pub used_s: Option<u64>,
}

/// The record that a request is about: its kind and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A code.
    Code(Hash),
    /// A refresh token.
    Refresh(Hash),
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Keep a code's record.
    Code(Hash, CodeRecord),
    /// Keep an access token's.
    Access(Hash, Access),
    /// Keep a refresh token's.
    Refresh(Hash, Refresh),
    /// Remove every record of the grant with this id, and keep none that is written for it later.
    Withdraw(String),
}

/// Tokens for a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token; a caller who signs puts his own here.
    pub access_token: String,
    /// What it may.
    pub access: Access,
    /// By which it is renewed.
    pub refresh_token: Option<String>,
    /// How long it lives.
    pub expires_in_s: u64,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued({:?})", self.access)
    }
}

impl Issued {
    /// The JSON body of the answer (RFC 6749 §5.1). It must not be stored by anybody on the way.
    pub fn body(&self) -> String {
        let mut body = json!({
            "access_token": self.access_token,
            "token_type": "Bearer",
            "expires_in": self.expires_in_s,
            "scope": self.access.grant.scopes.join(" "),
        });
        if let Some(token) = &self.refresh_token {
            body["refresh_token"] = token.as_str().into();
        }
        body.to_string()
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// First these are written,
    pub writes: Vec<Write>,
    /// then this is answered.
    pub answer: Result<Issued, Refusal>,
}

impl Decision {
    /// The same where what the user agreed to ends at that second: no token outlives it.
    pub fn until(mut self, ends_s: u64, now_s: u64) -> Decision {
        for write in &mut self.writes {
            if let Write::Access(_, access) = write {
                access.expires_s = access.expires_s.min(ends_s);
            }
        }
        match &mut self.answer {
            Ok(_) if ends_s <= now_s => self.answer = Err(over()),
            Ok(issued) => {
                issued.access.expires_s = issued.access.expires_s.min(ends_s);
                issued.expires_in_s = issued.access.expires_s.saturating_sub(now_s);
            }
            Err(_) => {}
        }
        self
    }

    fn refuse(error: Error, told: &str, writes: Vec<Write>) -> Decision {
        Decision { writes, answer: Err(Refusal::new(error, told)) }
    }
}

/// What the user agreed to does not hold any more.
pub fn over() -> Refusal {
    Refusal::new(Error::InvalidGrant, "the user's agreement is over, or was withdrawn")
}

/// Which record a request is about. Nothing is taken for a request that is refused here.
pub fn wanted(form: &Form) -> Result<Wanted, Refusal> {
    if let Some(name) = form.twice() {
        return Err(Refusal::new(Error::InvalidRequest, format!("the parameter {name} is there twice")));
    }
    let secret = |name: &str| {
        let secret = form.get(name).ok_or_else(|| Refusal::new(Error::InvalidRequest, format!("{name} is missing")));
        secret.map(Hash::of)
    };
    match form.get("grant_type") {
        Some("authorization_code") => secret("code").map(Wanted::Code),
        Some("refresh_token") => secret("refresh_token").map(Wanted::Refresh),
        Some(_) => Err(Refusal::new(Error::UnsupportedGrantType, "grant_type must be authorization_code or refresh_token")),
        None => Err(Refusal::new(Error::InvalidRequest, "grant_type is missing")),
    }
}

/// Redeems a code. `record` is what was taken, if there was any; the client has shown who it is. The random
/// bytes become the access token, the refresh token and its salt.
pub fn redeem(
    form: &Form,
    client: &Client,
    record: Option<CodeRecord>,
    lifetimes: Lifetimes,
    [for_access, for_refresh, salt]: [[u8; 32]; 3],
    now_s: u64,
) -> Decision {
    let gone = |writes| Decision::refuse(Error::InvalidGrant, "the code is unknown, has expired or is not for this request", writes);
    let key = Hash::of(form.get("code").unwrap_or_default());
    let code = match record {
        None => return gone(vec![]),
        Some(CodeRecord::Spent { grant_id, client_id, expires_s }) => {
            // Two have had it, and one of them has tokens now (RFC 6749 §4.1.2).
            let withdraw = (client_id == client.id).then(|| Write::Withdraw(grant_id.clone()));
            let spent = Write::Code(key, CodeRecord::Spent { grant_id, client_id, expires_s });
            return gone(withdraw.into_iter().chain([spent]).collect());
        }
        Some(CodeRecord::Fresh(code)) => code,
    };
    // Whoever has the code and not the rest has stolen it, so it is not kept. In OAuth 2.1 the redirect
    // need not be repeated, because the verifier says more.
    let same_redirect = form.get("redirect_uri").is_none_or(|uri| uri == code.redirect_uri);
    let verified = form.get("code_verifier").is_some_and(|verifier| code.challenge.is_of_verifier(verifier));
    if code.grant.client_id != client.id || code.expires_s <= now_s || !same_redirect || !verified {
        return gone(vec![]);
    }
    // A mistake about what the token is for costs the client nothing but another try.
    let resource = match narrowed(form, &code.grant) {
        Ok(resource) => resource,
        Err(refusal) => return Decision { writes: vec![Write::Code(key, CodeRecord::Fresh(code))], answer: Err(refusal) },
    };
    let spent =
        CodeRecord::Spent { grant_id: code.grant.id.clone(), client_id: client.id.clone(), expires_s: now_s.saturating_add(SPENT_TTL_S) };
    let mut writes = Vec::new();
    let refresh_token = client.refreshes.then(|| spell(for_refresh));
    if let Some(token) = &refresh_token {
        let expires_s = now_s.saturating_add(lifetimes.refresh_s);
        writes.push(Write::Refresh(Hash::of(token), Refresh { grant: code.grant.clone(), expires_s, salt, used_s: None }));
    }
    let scopes = code.grant.scopes.clone();
    let mut decision = issue(Grant { resource, scopes, ..code.grant }, refresh_token, writes, lifetimes, for_access, now_s);
    // Last, so that whoever finds it spent withdraws what is there.
    decision.writes.push(Write::Code(key, spent));
    decision
}

/// Renews tokens. `record` is what was taken, if there was any; the client has shown who it is. The random
/// bytes become the access token.
pub fn refresh(form: &Form, client: &Client, record: Option<Refresh>, lifetimes: Lifetimes, for_access: [u8; 32], now_s: u64) -> Decision {
    let gone = |writes| Decision::refuse(Error::InvalidGrant, "the refresh token is unknown, has expired or was used before", writes);
    let token = form.get("refresh_token").unwrap_or_default();
    let key = Hash::of(token);
    let Some(old) = record.filter(|old| now_s < old.expires_s) else { return gone(vec![]) };
    if old.grant.client_id != client.id {
        return gone(vec![Write::Refresh(key, old)]);
    }
    if old.used_s.is_some_and(|used_s| now_s.saturating_sub(used_s) > GRACE_S) {
        // Its owner has had another for long: whoever shows this one is a thief, or the owner whose
        // next one a thief has used (RFC 9700 §4.14.2).
        return gone(vec![Write::Withdraw(old.grant.id)]);
    }
    let narrowed = narrowed(form, &old.grant).and_then(|resource| Ok((resource, narrowed_scopes(form, &old.grant)?)));
    let (resource, scopes) = match narrowed {
        Ok(narrowed) => narrowed,
        Err(refusal) => return Decision { writes: vec![Write::Refresh(key, old)], answer: Err(refusal) },
    };
    let successor = spell(derived(b"token", &old.salt, token));
    let mut writes = Vec::new();
    // Within the grace it is there already, and may have been used itself.
    if old.used_s.is_none() {
        let next = Refresh {
            grant: old.grant.clone(),
            expires_s: now_s.saturating_add(lifetimes.refresh_s),
            salt: derived(b"salt.", &old.salt, token),
            used_s: None,
        };
        writes.push(Write::Refresh(Hash::of(&successor), next));
    }
    let grant = Grant { resource, scopes, ..old.grant.clone() };
    // Last, so that whoever finds it used finds the successor.
    writes.push(Write::Refresh(key, Refresh { used_s: old.used_s.or(Some(now_s)), ..old }));
    issue(grant, Some(successor), writes, lifetimes, for_access, now_s)
}

fn issue(
    grant: Grant,
    refresh_token: Option<String>,
    mut writes: Vec<Write>,
    lifetimes: Lifetimes,
    for_access: [u8; 32],
    now_s: u64,
) -> Decision {
    let access_token = spell(for_access);
    let access = Access { grant, expires_s: now_s.saturating_add(lifetimes.access_s) };
    writes.push(Write::Access(Hash::of(&access_token), access.clone()));
    Decision { writes, answer: Ok(Issued { access_token, access, refresh_token, expires_in_s: lifetimes.access_s }) }
}

fn derived(what: &[u8; 5], salt: &[u8; 32], token: &str) -> [u8; 32] {
    Sha256::new().chain_update(what).chain_update(salt).chain_update(token).finalize().into()
}

/// What the token is for: all that was agreed to, or a part of it (RFC 8707 §2.2).
fn narrowed(form: &Form, grant: &Grant) -> Result<Resource, Refusal> {
    let Some(asked) = form.get("resource") else { return Ok(grant.resource.clone()) };
    match Resource::read(asked) {
        Ok(resource) if grant.resource.opens(&resource) => Ok(resource),
        Ok(_) => Err(Refusal::new(Error::InvalidTarget, format!("the user has agreed to {} only", grant.resource))),
        Err(e) => Err(Refusal::new(Error::InvalidTarget, format!("the resource {e}"))),
    }
}

/// What the token holds: all that was agreed to, or a part of it (RFC 6749 §6).
fn narrowed_scopes(form: &Form, grant: &Grant) -> Result<Vec<String>, Refusal> {
    let Some(asked) = form.get("scope") else { return Ok(grant.scopes.clone()) };
    let asked: Vec<String> = asked.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
    match asked.iter().find(|scope| !grant.scopes.contains(scope)) {
        None => Ok(asked),
        Some(_) => Err(Refusal::new(Error::InvalidScope, format!("the user has agreed to {} only", grant.scopes.join(" ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::client::register;
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes { access_s: 900, refresh_s: 10_000 };
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const RANDOM: [[u8; 32]; 3] = [[1; 32], [2; 32], [3; 32]];

    fn client() -> Client {
        let body = r#"{"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"none"}"#;
        Client { refreshes: true, ..register(body, "c".into(), [0; 32], 0).unwrap().0 }
    }

    fn grant() -> Grant {
        Grant {
            id: "g".into(),
            client_id: "c".into(),
            principal: "ada".into(),
            resource: Resource::read("https://h").unwrap(),
            scopes: vec!["read".into(), "write".into()],
        }
    }

    fn code() -> Code {
        Code { grant: grant(), redirect_uri: "http://localhost:1/cb".into(), challenge: Hash::of(VERIFIER), expires_s: 160 }
    }

    /// Redeems the code with a body, at a second.
    fn redeemed(body: &str, record: CodeRecord, now_s: u64) -> Decision {
        let form = Form::read(&format!("grant_type=authorization_code&code=x&{body}")).unwrap();
        assert_eq!(wanted(&form), Ok(Wanted::Code(Hash::of("x"))));
        redeem(&form, &client(), Some(record), LIFETIMES, RANDOM, now_s)
    }

    #[test]
    fn a_code_becomes_tokens_once() {
        let body = format!("redirect_uri=http://localhost:1/cb&code_verifier={VERIFIER}&resource=https://h/mcp");
        let decision = redeemed(&body, CodeRecord::Fresh(code()), 100);
        let issued = decision.answer.unwrap();
        assert_eq!((issued.access.grant.resource.to_string().as_str(), issued.access.expires_s), ("https://h/mcp", 1_000));
        let answer: serde_json::Value = serde_json::from_str(&issued.body()).unwrap();
        assert_eq!(
            answer,
            json!({"access_token": spell([1; 32]), "token_type": "Bearer", "expires_in": 900, "scope": "read write",
                "refresh_token": spell([2; 32])})
        );
        let [Write::Refresh(key, refresh), Write::Access(..), Write::Code(_, spent)] = &decision.writes[..] else {
            panic!("{:?}", decision.writes)
        };
        assert!(key.is_of(&spell([2; 32])));
        assert_eq!((refresh.grant.resource.to_string().as_str(), refresh.used_s), ("https://h", None));
        // The second time.
        let again = redeemed(&body, spent.clone(), 101);
        assert_eq!(again.answer.unwrap_err().code, Error::InvalidGrant);
        assert_eq!(again.writes, [Write::Withdraw("g".into()), Write::Code(Hash::of("x"), spent.clone())]);
        // A client that asks for no refresh token gets none.
        let form = Form::read(&format!("code=x&{body}")).unwrap();
        let plain = redeem(&form, &Client { refreshes: false, ..client() }, Some(CodeRecord::Fresh(code())), LIFETIMES, RANDOM, 100);
        assert!(plain.answer.unwrap().refresh_token.is_none() && plain.writes.len() == 2);
    }

    #[test]
    fn a_code_that_leaked_is_gone_and_a_mistake_costs_nothing() {
        let good = format!("code_verifier={VERIFIER}");
        assert!(redeemed(&good, CodeRecord::Fresh(code()), 159).answer.is_ok());
        for (body, now_s) in [
            (good.clone(), 160),
            (String::new(), 100),
            (format!("{good}x"), 100),
            (format!("{good}&redirect_uri=http://localhost:2/cb"), 100),
            (format!("{good}&redirect_uri=https://evil"), 100),
        ] {
            let decision = redeemed(&body, CodeRecord::Fresh(code()), now_s);
            assert_eq!(decision.answer.unwrap_err().code, Error::InvalidGrant, "{body}");
            assert_eq!(decision.writes, []);
        }
        let foreign = Code { grant: Grant { client_id: "d".into(), ..grant() }, ..code() };
        assert!(redeemed(&good, CodeRecord::Fresh(foreign), 100).answer.is_err());
        for resource in ["https://other", "nonsense"] {
            let decision = redeemed(&format!("{good}&resource={resource}"), CodeRecord::Fresh(code()), 100);
            assert_eq!(decision.answer.unwrap_err().code, Error::InvalidTarget);
            assert_eq!(decision.writes, [Write::Code(Hash::of("x"), CodeRecord::Fresh(code()))]);
        }
    }

    fn live() -> Refresh {
        Refresh { grant: grant(), expires_s: 10_000, salt: [9; 32], used_s: None }
    }

    fn refreshed(body: &str, record: Refresh, now_s: u64) -> Decision {
        let form = Form::read(&format!("grant_type=refresh_token&refresh_token=x&{body}")).unwrap();
        assert_eq!(wanted(&form), Ok(Wanted::Refresh(Hash::of("x"))));
        refresh(&form, &client(), Some(record), LIFETIMES, [5; 32], now_s)
    }

    #[test]
    fn whoever_comes_within_the_grace_is_told_the_same() {
        let first = refreshed("", live(), 100);
        let [Write::Refresh(next, _), Write::Refresh(key, used), Write::Access(..)] = &first.writes[..] else {
            panic!("{:?}", first.writes)
        };
        let token = first.answer.unwrap().refresh_token.unwrap();
        assert!(next.is_of(&token) && *key == Hash::of("x") && used.used_s == Some(100));
        let second = refreshed("", used.clone(), 160);
        assert_eq!(second.answer.unwrap().refresh_token.unwrap(), token);
        assert!(second.writes.iter().all(|write| !matches!(write, Write::Refresh(key, _) if key == next)), "it is there already");
        let late = refreshed("", used.clone(), 161);
        assert_eq!(late.answer.unwrap_err().code, Error::InvalidGrant);
        assert_eq!(late.writes, [Write::Withdraw("g".into())]);
    }

    #[test]
    fn no_token_outlives_what_was_agreed_to() {
        let lives = |ends_s: u64| {
            let decision = refreshed("", live(), 100).until(ends_s, 100);
            let kept = decision.writes.iter().find_map(|write| match write {
                Write::Access(_, access) => Some(access.expires_s),
                _ => None,
            });
            let issued = decision.answer.map(|issued| (issued.access.expires_s, issued.expires_in_s));
            (kept.unwrap(), issued.map_err(|refusal| refusal.code))
        };
        assert_eq!(lives(u64::MAX), (1_000, Ok((1_000, 900))));
        assert_eq!(lives(1_000), (1_000, Ok((1_000, 900))));
        assert_eq!(lives(101), (101, Ok((101, 1))));
        assert_eq!(lives(100), (100, Err(Error::InvalidGrant)));
        let refused = refreshed("scope=admin", live(), 100);
        assert_eq!(refused.clone().until(100, 100), refused, "what is refused stays as it is");
    }

    #[test]
    fn a_refresh_can_narrow_and_never_widen() {
        let narrow = refreshed("scope=read&resource=https://h/mcp", live(), 100);
        let [Write::Refresh(_, next), ..] = &narrow.writes[..] else { panic!("{:?}", narrow.writes) };
        assert_eq!(next.grant, grant(), "the next one renews all of it");
        let access = narrow.answer.unwrap().access.grant;
        assert_eq!((access.scopes.join(" "), access.resource.to_string()), ("read".into(), "https://h/mcp".into()));
        for (body, error) in
            [("scope=admin", Error::InvalidScope), ("scope=read+admin", Error::InvalidScope), ("resource=https://i", Error::InvalidTarget)]
        {
            let decision = refreshed(body, live(), 100);
            assert_eq!(decision.answer.unwrap_err().code, error);
            assert_eq!(decision.writes, [Write::Refresh(Hash::of("x"), live())], "nothing is lost");
        }
        assert!(refreshed("", live(), 10_000).answer.is_err(), "expired");
        let foreign = Refresh { grant: Grant { client_id: "d".into(), ..grant() }, ..live() };
        let decision = refreshed("", foreign.clone(), 100);
        assert!(decision.answer.is_err() && decision.writes == [Write::Refresh(Hash::of("x"), foreign)]);
    }

    #[test]
    fn requests_say_what_they_want() {
        for (body, error) in [
            ("", Error::InvalidRequest),
            ("grant_type=password", Error::UnsupportedGrantType),
            ("grant_type=authorization_code", Error::InvalidRequest),
            ("grant_type=refresh_token&code=x", Error::InvalidRequest),
            ("grant_type=authorization_code&code=x&code=x", Error::InvalidRequest),
        ] {
            assert_eq!(wanted(&Form::read(body).unwrap()).unwrap_err().code, error, "{body}");
        }
    }
}
