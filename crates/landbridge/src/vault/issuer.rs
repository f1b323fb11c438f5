//! Who issues tokens for a server, and what is asked of them: a token, another in its place, and that they take one
//! back.
//!
//! Odd: whoever is asked was named by a stranger, and what a server of the Internet names is not looked for in our
//! own network.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::{debug, info};

use landbridge_proto::back::endpoint;
use landbridge_proto::oauth::address::is_public;
use landbridge_proto::oauth::challenge::Challenge;
use landbridge_proto::oauth::grant::{Denied, Grant, Granted, Request, granted};
use landbridge_proto::oauth::jwt::{assertion, to_sign, with_signature};
use landbridge_proto::oauth::login::{Method, Registered, WayIn, way_in};
use landbridge_proto::oauth::secret::{Secret, spell};
use landbridge_proto::oauth::seek::{Found, Seek, Step, may_fetch};
use landbridge_proto::oauth::url::Url;

use crate::backend::http::Http;
use crate::backend::{lock, made_once};
use crate::plan::By;
use crate::system::{now_s, random};
use crate::vault::file::{self, At, Kept, Tokens};
use crate::vault::{Barred, Busy, Got, Held, How, Pass, Wanted, fetch, sign};

/// Different things that are asked for in the life of one process.
const MOST_ASKED: usize = 64;

impl Pass {
    /// Finds who issues tokens for the server.
    pub(super) async fn seek(&self, challenge: Option<&Challenge>) -> Result<Found, String> {
        let users = !matches!(self.auth.by, By::Itself(_));
        let mut seek = Seek::new(&self.server, challenge, users).map_err(|why| format!("the server's URL {why}"))?;
        while let Some(step) = seek.poll_step() {
            match step {
                Step::Fetch(url) => {
                    let document =
                        fetch::document(self.http_for(&url).await?, &url).await.map_err(|why| format!("{url} cannot be read: {why}"))?;
                    seek.handle_fetched(document.as_deref());
                }
                Step::Found(found) => return Ok(*found),
                Step::Failed(why) => return Err(why),
            }
        }
        Err("nobody was found who issues its tokens".into())
    }

    /// The client for a URL. What a server of the Internet names is not looked for in our own network.
    pub(super) async fn http_for(&self, url: &str) -> Result<&Http, String> {
        if endpoint::same_origin(url, &self.server) || !self.is_public().await {
            return if !url.starts_with("https:") || self.server.starts_with("https:") {
                Ok(&self.http)
            } else {
                made_once(&self.https, || Http::new(true))
            };
        }
        made_once(&self.public, Http::public)
    }

    /// Whether the server itself is somewhere on the Internet.
    async fn is_public(&self) -> bool {
        let looked_up = self.on_internet.get_or_init(|| async {
            let Ok(url) = Url::read(&self.server) else { return false };
            let host = url.host().trim_matches(['[', ']']).to_owned();
            // Who has no addresses for us is reached by a proxy, if at all, and that is where the Internet is.
            tokio::net::lookup_host((host, url.port())).await.is_ok_and(|mut all| all.all(|address| is_public(address.ip())))
        });
        *looked_up.await
    }

    /// Gets the next token by what is kept; `None`: there is nothing to get it by.
    pub(super) async fn refresh(&self, kept: &mut Kept) -> Result<Option<Held>, String> {
        let Some(at) = kept.current() else { return Ok(None) };
        let (Some(client), Some(tokens)) = (at.client.as_ref().and_then(file::Client::read), at.tokens.clone()) else { return Ok(None) };
        let refresh = tokens.refresh.clone().map(Secret::new);
        let grant = match (&self.auth.by, &refresh) {
            (By::Itself(_), _) => Grant::Client(tokens.asked.as_deref()),
            (_, Some(token)) => Grant::Refresh(token),
            (_, None) => return Ok(None),
        };
        let issuer = kept.issuer.clone().unwrap_or_default();
        match self.redeem(grant, &issuer, &at.token_endpoint.clone(), &client, tokens.resource.as_deref()).await {
            Ok(granted) => {
                let asked = tokens.asked.clone();
                let tokens = Tokens::of(&granted, refresh.as_ref(), tokens.resource, asked, now_s());
                if let Some(at) = kept.current_mut() {
                    at.tokens = Some(tokens.clone());
                }
                self.keep(kept).await;
                debug!(server = self.shown, "the token was refreshed");
                Ok(Held::of(&tokens))
            }
            Err(Denied::Later(why)) => Err(format!("the authorization server {issuer} gives no new token now: {why}")),
            Err(denied) => {
                info!(server = self.shown, why = denied.why(), "the token cannot be refreshed");
                // Whatever else it says may not be its last word.
                if let (Denied::Grant(_) | Denied::Client(_), Some(at)) = (&denied, kept.current_mut()) {
                    at.tokens = None;
                    if let Denied::Client(_) = denied {
                        at.client = None;
                    }
                    self.keep(kept).await;
                }
                Ok(None)
            }
        }
    }

    pub(super) async fn redeem(
        &self,
        grant: Grant<'_>,
        issuer: &str,
        endpoint: &str,
        client: &Registered,
        resource: Option<&str>,
    ) -> Result<Granted, Denied> {
        let mut signature = None;
        if let (Method::Key, By::Itself(Some(key))) = (client.method, &self.auth.by) {
            let audience = key.audience.as_deref().unwrap_or(issuer);
            let id = spell(random().map_err(Denied::Other)?);
            let signed = to_sign("JWT", key.algorithm.named(), None, &assertion(&client.id, audience, &id, now_s()));
            let by = sign::sign(key, signed.as_bytes()).map_err(Denied::Other)?;
            signature = Some(Secret::new(with_signature(&signed, &by)));
        }
        let request = Request::new(grant, client, resource, signature.as_ref());
        let http = self.http_for(endpoint).await.map_err(Denied::Other)?;
        let (status, text) = fetch::post(http, endpoint, fetch::FORM, request.authorization.as_ref(), request.body.reveal())
            .await
            .map_err(|why| Denied::Later(format!("{endpoint}: {why}")))?;
        granted(status, &text)
    }

    /// Gets a token that nobody has given us before.
    pub(super) async fn ask(&self, mut kept: Kept, found: Found, scope: Option<String>) -> Result<Got, Barred> {
        let for_that = scope.clone().unwrap_or_default();
        let got = match &self.auth.by {
            By::Visitor => {
                let anew = lock(&self.state).held.is_none();
                let wanted = Wanted { found, scope, anew };
                self.to_be_asked.store(true, Ordering::Relaxed);
                *lock(&self.wanted) = Some(wanted.clone());
                return Err(Barred::Login(Box::new(wanted)));
            }
            By::User(browsing) => {
                let _busy = Busy::begin(&self.busy);
                self.log_in(browsing, kept, Wanted { found, scope, anew: true }).await?
            }
            By::Itself(key) => {
                let WayIn::Be(mut client) = way_in(&found.issuer, &self.auth.own)? else {
                    return Err("client credentials need the id of a client (--client-id)".to_owned().into());
                };
                if key.is_some() {
                    client.method = Method::Key;
                }
                let (issuer, endpoint) = (&found.issuer.issuer, &found.issuer.token_endpoint);
                let granted = self.redeem(Grant::Client(scope.as_deref()), issuer, endpoint, &client, found.resource.as_deref()).await;
                let granted = granted.map_err(|denied| no_token(issuer, &denied))?;
                let tokens = Tokens::of(&granted, None, found.resource, scope, now_s());
                let client = file::Client::of(&client, None);
                let at = At { token_endpoint: endpoint.clone(), client: Some(client), tokens: Some(tokens) };
                self.admit(&mut kept, issuer, at).await?
            }
        };
        let mut asked = lock(&self.asked);
        if asked.len() < MOST_ASKED {
            asked.insert(for_that);
        }
        Ok(got)
    }

    /// We are let in, by this.
    pub(super) async fn admit(&self, kept: &mut Kept, issuer: &str, at: At) -> Result<Got, String> {
        let held = at.tokens.as_ref().and_then(Held::of).ok_or("the token fits no header")?;
        kept.put(issuer, at);
        self.keep(kept).await;
        info!(server = self.shown, issuer, "we are let in");
        Ok(self.hold(held, How::LoggedIn))
    }

    /// Lets nobody in by it any more: what was kept is gone, and given back to who issued it, if that can be done.
    pub async fn forget(self: &Arc<Self>) -> Result<(), Barred> {
        let pass = self.clone();
        let lost = |_| Err(Barred::Failed("forgetting a token failed".into()));
        let forgetting = tokio::spawn(async move {
            let _one = pass.working.lock().await;
            let _alone = pass.lock().await?;
            let mut kept = pass.kept().await?;
            let issuer = kept.issuer.clone().unwrap_or_default();
            let had = kept.current().and_then(|at| Some((at.client.as_ref()?.read()?, at.tokens.clone()?)));
            pass.forget_in(&mut kept).await;
            *lock(&pass.wanted) = None;
            if let Some((client, tokens)) = had
                && let Err(why) = pass.give_back(&issuer, &client, &tokens).await
            {
                info!(server = pass.shown, issuer, why, "a token was not given back, and lasts as long as it lasts");
            }
            Ok(())
        });
        forgetting.await.unwrap_or_else(lost)
    }

    pub(super) async fn forget_in(&self, kept: &mut Kept) {
        if let Some(at) = kept.current_mut()
            && at.tokens.take().is_some()
        {
            self.keep(kept).await;
        }
        self.hold_nothing();
    }

    /// Gives a token back (RFC 7009), and what was got by it.
    async fn give_back(&self, issuer: &str, client: &Registered, tokens: &Tokens) -> Result<(), String> {
        let found = self.seek(None).await?;
        let Some(endpoint) = found.issuer.revocation_endpoint.filter(|_| found.issuer.issuer == issuer) else {
            return Err("the authorization server has no place for that".into());
        };
        let server = Url::read(&self.server).map_err(str::to_owned)?;
        may_fetch(&endpoint, &server).map_err(|why| format!("its endpoint for that {why}"))?;
        let (token, hint) = match &tokens.refresh {
            Some(refresh) => (refresh, "refresh_token"),
            None => (&tokens.access, "access_token"),
        };
        let request = Request::revocation(&Secret::new(token.clone()), hint, client);
        let http = self.http_for(&endpoint).await?;
        let (status, _) = fetch::post(http, &endpoint, fetch::FORM, request.authorization.as_ref(), request.body.reveal()).await?;
        if status == 200 { Ok(()) } else { Err(format!("it answers with HTTP {status}")) }
    }
}

pub(super) fn no_token(issuer: &str, denied: &Denied) -> String {
    format!("the authorization server {issuer} gives no token: {}", denied.why())
}
