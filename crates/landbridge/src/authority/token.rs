//! `/token`, `/revoke` and `/introspect`: for programs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap};
use http::{Response, StatusCode};
use serde_json::json;

use landbridge_proto::oauth::authorize::Grant;
use landbridge_proto::oauth::client::{Auth, Client};
use landbridge_proto::oauth::credentials::Credentials;
use landbridge_proto::oauth::form::Form;
use landbridge_proto::oauth::jwt::ASSERTION_TYPE;
use landbridge_proto::oauth::refusal::{Code, Refusal};
use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::oauth::token::{self, Decision, Refresh, Wanted, Write};

use super::{Desk, Stop, form, random};
use crate::audit::Line;
use crate::auth::tokens;
use crate::backend::lock;
use crate::body::Body;
use crate::jwt;
use crate::mcp;
use crate::store::Trouble;

/// After which pauses a record is looked for that somebody else may hold: another process, as within ours one comes
/// after the other. Two seconds and a half in all: a busy disk takes its time, and who finds nothing is logged out.
const LOOKS_MS: [u64; 9] = [5, 10, 20, 40, 80, 160, 320, 640, 1280];

impl Desk<'_> {
    /// Codes and refresh tokens become tokens.
    pub(super) async fn token(&self, headers: &HeaderMap, body: &Bytes) -> Result<Response<Body>, Stop> {
        let form = form(headers, body)?;
        let client = self.client_of(headers, &form).await?;
        let wanted = token::wanted(&form)?;
        let key = match &wanted {
            Wanted::Code(key) | Wanted::Refresh(key) => *key,
        };
        let turn = self.auth.turns.of(&key);
        let _turn = turn.lock().await;
        let store = &*self.auth.store;
        let (decision, outcome) = match wanted {
            Wanted::Code(key) => {
                let record = tokens::take_code(store, &key, self.now_s).await?;
                (token::redeem(&form, &client, record, self.own.lifetimes, random()?, self.now_s), "issued")
            }
            Wanted::Refresh(key) => {
                if self.auth.provider.is_some() {
                    self.still_stands(&client, tokens::refresh(store, &key, self.now_s).await?).await?;
                }
                // One that was used leads to its successor, and nothing of it changes any more: it is only read, so that many
                // who come at once do not wait for each other. One that was not is taken.
                let look = async || match tokens::refresh(store, &key, self.now_s).await? {
                    Some(used) if used.used_s.is_some() => Ok((Some(used), false)),
                    Some(_) => tokens::take_refresh(store, &key, self.now_s).await.map(|taken| (taken, true)),
                    None => Ok((None, false)),
                };
                let (mut record, mut is_taken) = look().await?;
                // Memory is ours alone.
                let is_shared = self.auth.plan.store.as_deref() != Some("memory:");
                for pause_ms in LOOKS_MS.into_iter().filter(|_| is_shared) {
                    if record.is_some() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    (record, is_taken) = look().await?;
                }
                let [for_access] = random()?;
                let mut decision = token::refresh(&form, &client, record.clone(), self.own.lifetimes, for_access, self.now_s);
                if !is_taken {
                    decision.writes.retain(|write| !matches!(write, Write::Refresh(written, _) if *written == key));
                }
                let answer = self.answer_token(&client, decision, "refreshed").await;
                let has_failed = matches!(answer, Err(Stop::Trouble(_)));
                if let Some(record) = record.filter(|_| has_failed && is_taken) {
                    // What was taken and cannot be worked on is there when its client comes again. Its successor is the
                    // same then, whether it was written already or not.
                    let back = tokens::carry_out(store, vec![Write::Refresh(key, record)], self.now_s, |_| {}).await;
                    if let Err(trouble) = back {
                        tracing::warn!(client = client.id, %trouble, "a refresh token is lost: its user has to log in again");
                    }
                }
                return answer;
            }
        };
        self.answer_token(&client, decision, outcome).await
    }

    /// Whether whoever a refresh token is for may still come in; if not, all of its agreement is withdrawn.
    async fn still_stands(&self, client: &Client, record: Option<Refresh>) -> Result<(), Stop> {
        // Who shows another's gets to know nothing, and asks nobody anything.
        let Some(grant) = record.map(|record| record.grant).filter(|grant| grant.client_id == client.id) else { return Ok(()) };
        let Err(why) = self.stands(&grant.principal).await else { return Ok(()) };
        let store = &*self.auth.store;
        if tokens::agreed(store, &grant.id, self.now_s).await?.is_some() {
            let withdraw = vec![Write::Withdraw(grant.id.clone())];
            tokens::carry_out(store, withdraw, self.now_s, |id| self.auth.forget_grant(id)).await?;
            let line = Line { reason: Some(&why), ..self.line_of(client, "token", "withdrawn") };
            self.gateway.audit.warn(Line { principal: Some(&grant.principal), grant: Some(&grant.id), ..line });
        }
        Err(token::over().into())
    }

    async fn answer_token(&self, client: &Client, decision: Decision, outcome: &'static str) -> Result<Response<Body>, Stop> {
        let store = &*self.auth.store;
        let withdrawn = |id: &str| {
            let reason = Some("a secret was shown twice; all tokens of its grant are withdrawn");
            let line = Line { grant: Some(id), reason, ..self.line_of(client, "token", "withdrawn") };
            self.gateway.audit.warn(line);
            self.auth.forget_grant(id);
        };
        let decision = match &decision.answer {
            Ok(issued) => {
                let agreed = tokens::agreed(store, &issued.access.grant.id, self.now_s).await?;
                decision.until(agreed.map_or(self.now_s, |agreed| agreed.ends_s(self.own.agreement_s)), self.now_s)
            }
            Err(_) => decision,
        };
        let (mut writes, mut answer) = (decision.writes, decision.answer);
        if let (Some(signer), Ok(issued)) = (&self.auth.signer, &mut answer) {
            let [id] = random()?;
            issued.access_token = signer.sign(&self.issuer, &issued.access, id, self.now_s)?;
            for write in &mut writes {
                if let Write::Access(key, _) = write {
                    *key = Hash::of(&issued.access_token);
                }
            }
        }
        tokens::carry_out(store, writes, self.now_s, withdrawn).await?;
        let issued = answer?;
        let grant = &issued.access.grant;
        // A grant that was withdrawn meanwhile grants nothing, whatever was written for it.
        let agreed = tokens::agreed(store, &grant.id, self.now_s).await?;
        // Nor one of somebody who is not let in any more.
        let agreed = agreed.filter(|agreed| agreed.person.as_ref().is_none_or(|person| self.auth.lets_in(person)));
        let agreed = agreed.ok_or_else(token::over)?;
        self.gateway.audit.tell(Line {
            who: Some(&agreed.name),
            principal: Some(&agreed.principal),
            grant: Some(&grant.id),
            scopes: Some(&grant.scopes.join(" ")),
            resource: Some(&grant.resource.to_string()),
            ..self.line_of(client, "token", outcome)
        });
        Ok(mcp::json(StatusCode::OK, issued.body()))
    }

    /// A token is given back. Of one that is unknown nobody is told.
    pub(super) async fn revoke(&self, headers: &HeaderMap, body: &Bytes) -> Result<Response<Body>, Stop> {
        let form = form(headers, body)?;
        let client = self.client_of(headers, &form).await?;
        let (store, now_s) = (&*self.auth.store, self.now_s);
        let Some(token) = form.get("token") else { return Err(Refusal::new(Code::InvalidRequest, "token is missing").into()) };
        let key = Hash::of(token);
        if let Some(access) = tokens::access(store, &key, now_s).await?.filter(|access| access.grant.client_id == client.id) {
            store.take(crate::store::Kind::Access, &key.to_string(), now_s).await?;
            self.auth.forget_grant(&access.grant.id);
            self.tell_revoked(&client, &access.grant, "access_token");
        }
        if let Some(refresh) = tokens::refresh(store, &key, now_s).await?.filter(|refresh| refresh.grant.client_id == client.id) {
            // RFC 7009 §2.1: with a refresh token goes everything of its grant.
            let withdraw = vec![Write::Withdraw(refresh.grant.id.clone())];
            tokens::carry_out(store, withdraw, now_s, |id| self.auth.forget_grant(id)).await?;
            self.tell_revoked(&client, &refresh.grant, "grant");
        }
        Ok(mcp::response(StatusCode::OK, Body::empty()))
    }

    fn tell_revoked(&self, client: &Client, grant: &Grant, what: &'static str) {
        let line = self.line_of(client, "revocation", what);
        self.gateway.audit.tell(Line { principal: Some(&grant.principal), grant: Some(&grant.id), ..line });
    }

    /// Something happened to what a client has.
    fn line_of<'l>(&self, client: &'l Client, event: &'static str, outcome: &'static str) -> Line<'l> {
        Line { via: Some(&client.id), client: Some(&client.name), ..self.line(event, outcome) }
    }

    /// What a token says: to the client it was issued to, and to those that an operator has given a secret.
    pub(super) async fn introspect(&self, headers: &HeaderMap, body: &Bytes) -> Result<Response<Body>, Stop> {
        let form = form(headers, body)?;
        let client = self.client_of(headers, &form).await?;
        if client.auth == Auth::None {
            return Err(Refusal::new(Code::InvalidClient, "only a client with a secret may ask").into());
        }
        let (store, now_s) = (&*self.auth.store, self.now_s);
        let Some(token) = form.get("token") else { return Err(Refusal::new(Code::InvalidRequest, "token is missing").into()) };
        let key = Hash::of(token);
        let mut answer = json!({"active": false});
        let found = match tokens::access(store, &key, now_s).await? {
            Some(access) => Some((access.grant, access.expires_s, "Bearer")),
            None => tokens::refresh(store, &key, now_s)
                .await?
                .filter(|refresh| refresh.used_s.is_none())
                .map(|refresh| (refresh.grant, refresh.expires_s, "refresh_token")),
        };
        if let Some((grant, expires_s, kind)) = found.filter(|(grant, ..)| client.of_operator || grant.client_id == client.id)
            && let Some(agreed) = tokens::agreed(store, &grant.id, now_s).await?
        {
            answer = json!({
                "active": true,
                "iss": self.issuer,
                "sub": grant.principal,
                "username": agreed.name,
                "client_id": grant.client_id,
                "scope": grant.scopes.join(" "),
                "aud": grant.resource.to_string(),
                "exp": expires_s,
                "token_type": kind,
            });
        }
        Ok(mcp::json(StatusCode::OK, answer.to_string()))
    }

    /// The client that a request is of, which has shown that it is.
    async fn client_of(&self, headers: &HeaderMap, form: &Form) -> Result<Client, Stop> {
        let authorization = match headers.get(header::AUTHORIZATION) {
            None => None,
            Some(value) => Some(value.to_str().map_err(|_| Refusal::new(Code::InvalidClient, "the Authorization header is no text"))?),
        };
        let unknown = || Refusal::new(Code::InvalidClient, "the client is unknown, or has not shown who it is");
        if let Some(assertion) = form.get("client_assertion") {
            return self.client_that_signed(assertion, form).await?.ok_or_else(|| unknown().into());
        }
        let credentials = Credentials::read(authorization, form)?;
        let client = self.known_client(&credentials.client_id).await?.ok_or_else(unknown)?;
        credentials.are_of(&client, false)?;
        Ok(client)
    }

    /// The client that has signed `assertion` (RFC 7523 §2.2), if it has.
    async fn client_that_signed(&self, assertion: &str, form: &Form) -> Result<Option<Client>, Stop> {
        let invalid = |told: &str| Refusal::new(Code::InvalidClient, told);
        if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
            return Err(invalid(&format!("client_assertion_type must be {ASSERTION_TYPE}")).into());
        }
        if form.get("client_secret").is_some() {
            return Err(Refusal::new(Code::InvalidRequest, "the request shows two secrets").into());
        }
        let Some(id) = form.get("client_id") else { return Err(invalid("the request names no client (client_id)").into()) };
        let Some(client) = self.known_client(id).await? else { return Ok(None) };
        let Auth::Key(keys) = &client.auth else { return Ok(None) };
        let Some(strangers) = &self.auth.strangers else { return Ok(None) };
        let keys = strangers.key_sets.of(keys).map_err(|why| invalid(&format!("the keys of the client cannot be read: {why}")))?;
        let ours = [self.issuer.as_str(), &format!("{}/token", self.base)];
        match self.auth.assertions.check(assertion, id, &keys, &ours, self.now_s).await {
            Ok(()) => {
                let credentials = Credentials { client_id: id.to_owned(), secret: None };
                credentials.are_of(&client, true)?;
                Ok(Some(client))
            }
            Err(jwt::Refused::Invalid(why)) => Err(invalid(&format!("what the client has signed {why}")).into()),
            Err(jwt::Refused::Unavailable(why)) => Err(Stop::Trouble(Trouble::Unusable(why))),
        }
    }
}

/// Who redeems a secret or decides a login, one after the other.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<[u8; 32], std::sync::Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    pub(super) fn of(&self, key: &Hash) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = lock(&self.0);
        if let Some(turn) = turns.get(key.as_bytes()).and_then(std::sync::Weak::upgrade) {
            return turn;
        }
        // As many as there are requests under way at most.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(*key.as_bytes(), Arc::downgrade(&turn));
        turn
    }
}
