//! `/consent`: the user agrees, or does not. Nothing is granted anywhere else.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Response, StatusCode};

use landbridge_proto::oauth::admission::Identity;
use landbridge_proto::oauth::audience::Resource;
use landbridge_proto::oauth::authorize::Asked;
use landbridge_proto::oauth::form::Form;
use landbridge_proto::oauth::redirect::shown;
use landbridge_proto::oauth::refusal::{Code, Refusal};
use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::oauth::token::{CodeRecord, Write};

use super::browser::{Flow, Here, Page, bytes_of, over, redirect};
use super::{Desk, random};
use crate::audit::Line;
use crate::auth::tokens::{self, Agreed};
use crate::body::Body;
use crate::login::cookies;
use crate::login::pages::{self, Consent, Scope};

/// How long a decision is remembered for who presses twice, in seconds.
const DECIDED_TTL_S: u64 = 10;

impl Desk<'_> {
    /// Shows what is asked for, and by whom.
    pub(super) async fn consent_page(&self, query: &str, headers: &HeaderMap) -> Response<Body> {
        self.show_consent(query, headers).await.unwrap_or_else(|page| *page)
    }

    async fn show_consent(&self, query: &str, headers: &HeaderMap) -> Result<Response<Body>, Page> {
        let form = Form::read(query).unwrap_or_default();
        let here = self.here(form.get("request").unwrap_or_default(), headers, false).await?;
        let (client, asked) = self.check(&here.flow.query).await?;
        let Some(account) = self.signed_in(&here.cookie).await? else {
            // Signed out in another tab.
            return Ok(redirect(&format!("{}?{}", self.path("/authorize"), here.flow.query)));
        };
        let host = shown(&client.id);
        let described: Vec<Scope<'_>> = asked
            .scopes
            .iter()
            .map(|name| {
                let about = self.auth.plan.scopes.iter().find(|scope| scope.name == *name).map(|scope| scope.about.as_str());
                Scope { name, description: about.filter(|about| !about.is_empty()) }
            })
            .collect();
        let servers = self.servers_below(&asked.resource);
        let page = Consent {
            asking: self.asking(&client, &host),
            redirect_uri: &asked.redirect_uri,
            resource: &asked.resource.to_string(),
            servers: &servers,
            scopes: &described,
            account: &account,
            provider: self.auth.provider.as_ref().map(|provider| provider.label()),
            action: &self.path("/consent"),
            sign_out: &self.path("/logout"),
            request: &here.id,
            token: &cookies::form_token(&here.cookie, &here.id),
        };
        Ok(pages::consent(&page).response(StatusCode::OK))
    }

    /// Which servers a token for this resource reaches.
    fn servers_below(&self, resource: &Resource) -> Vec<String> {
        let running = self.gateway.running();
        let below = |path: String| Resource::read(&format!("{}{path}", self.base)).is_ok_and(|mount| resource.opens(&mount));
        let habits = running.plan.profile.paths.iter().map(String::as_str);
        let whole = ["/mcp", "/sse"].into_iter().chain(habits).any(|path| below(path.to_owned()));
        let one = |name: &&str| ["mcp", "sse"].into_iter().any(|end| below(format!("/servers/{name}/{end}")));
        running.names().filter(|name| whole || one(name)).map(str::to_owned).collect()
    }

    /// The user has decided.
    pub(super) async fn consented(&self, headers: &HeaderMap, body: &Bytes) -> Response<Body> {
        self.decide(headers, body).await.unwrap_or_else(|page| *page)
    }

    async fn decide(&self, headers: &HeaderMap, body: &Bytes) -> Result<Response<Body>, Page> {
        // In turn, so that who comes second finds what was decided: who presses twice does so before the first is answered.
        let turn = self.auth.turns.of(&Hash::of(&String::from_utf8_lossy(body)));
        let _turn = turn.lock().await;
        let (form, here) = self.returned_form(headers, body).await?;
        let again = || Ok(redirect(&format!("{}?{}", self.path("/authorize"), here.flow.query)));
        let Some(account) = self.signed_in(&here.cookie).await? else { return again() };
        if self.stands(&account.principal()).await.is_err() {
            self.sign_out(&here.cookie).await?;
            return again();
        }
        let (client, mut asked) = self.check(&here.flow.query).await?;
        if let Some(allowed) = here.flow.allowed {
            return self.decided(&here, asked, allowed).await;
        }
        // Once: of two who send the same form one decides.
        let here = self.here(&here.id, headers, true).await?;
        let principal = account.principal();
        let told_of = |outcome| Line {
            who: Some(account.called()),
            principal: Some(&principal),
            via: Some(&client.id),
            client: Some(&client.name),
            ..self.line("consent", outcome)
        };
        let refuse = |told: &str| {
            self.gateway.audit.tell(Line { reason: Some(told), ..told_of("refused") });
            redirect(&asked.refuse(&Refusal::new(Code::AccessDenied, told), &self.issuer))
        };
        if form.get(pages::DECISION) != Some("allow") {
            self.remember(&here, false).await?;
            return Ok(refuse(DID_NOT_AGREE));
        }
        let left = pages::scopes_left(&form, &asked.scopes);
        if left.is_empty() && !asked.scopes.is_empty() {
            self.remember(&here, false).await?;
            return Ok(refuse("the user agreed to nothing of what was asked for"));
        }
        asked.scopes = left;
        let [for_id] = random().map_err(|trouble| self.out_of_order(&trouble))?;
        let granted = asked.grant(principal.clone(), &self.issuer, [bytes_of(&here, "code"), for_id], self.now_s);
        let grant = &granted.code.grant;
        let agreed = agreement(&account, &client.name, grant, self.now_s);
        let store = &*self.auth.store;
        let kept = async {
            tokens::agree(store, &grant.id, &agreed, self.own.agreement_s).await?;
            self.client_is_used(&client).await?;
            let code = vec![Write::Code(granted.key, CodeRecord::Fresh(granted.code.clone()))];
            tokens::carry_out(store, code, self.now_s, |_| {}).await
        };
        kept.await.map_err(|trouble| self.out_of_order(&trouble))?;
        self.remember(&here, true).await?;
        self.gateway.audit.tell(Line {
            grant: Some(&grant.id),
            scopes: Some(&agreed.scopes.join(" ")),
            resource: Some(&agreed.resource),
            ..told_of("agreed")
        });
        Ok(redirect(&granted.location))
    }

    /// What was decided is known for a moment.
    async fn remember(&self, here: &Here, allowed: bool) -> Result<(), Page> {
        let flow = Flow { allowed: Some(allowed), expires_s: self.now_s + DECIDED_TTL_S, ..here.flow.clone() };
        self.keep(&here.id, &flow).await
    }

    /// The form came again, as from somebody who presses twice on a slow line: the browser waits for this answer and has
    /// forgotten the first. It is the same, unless the application has got it after all.
    async fn decided(&self, here: &Here, asked: Asked, allowed: bool) -> Result<Response<Body>, Page> {
        if !allowed {
            return Ok(redirect(&asked.refuse(&Refusal::new(Code::AccessDenied, DID_NOT_AGREE), &self.issuer)));
        }
        // Only where it leads is looked at; nothing is granted again.
        let again = asked.grant(String::new(), &self.issuer, [bytes_of(here, "code"); 2], self.now_s);
        let record = tokens::code(&*self.auth.store, &again.key, self.now_s).await.map_err(|trouble| self.out_of_order(&trouble))?;
        match record {
            Some(CodeRecord::Fresh(_)) => Ok(redirect(&again.location)),
            _ => Err(over()),
        }
    }
}

const DID_NOT_AGREE: &str = "the user did not agree";

fn agreement(account: &Identity, client_name: &str, grant: &landbridge_proto::oauth::authorize::Grant, now_s: u64) -> Agreed {
    Agreed {
        principal: grant.principal.clone(),
        name: account.called().to_owned(),
        person: Some(account.into()),
        client_id: grant.client_id.clone(),
        client_name: client_name.to_owned(),
        scopes: grant.scopes.clone(),
        resource: grant.resource.to_string(),
        since_s: now_s,
    }
}
