//! A user logs in at an issuer: one at this machine in their browser, while whoever needs the token waits; one elsewhere
//! by the link that they are given, whenever they follow it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{ACCEPT, HeaderMap, HeaderValue, USER_AGENT, WWW_AUTHENTICATE};
use http::{StatusCode, Uri};
use tracing::warn;

use landbridge_proto::oauth::challenge::{Challenge, bearer};
use landbridge_proto::oauth::discovery::Issuer;
use landbridge_proto::oauth::grant::{Denied, Grant};
use landbridge_proto::oauth::login::{Login, Registered, Unusable, WayIn, registered, registration, scopes, way_in};
use landbridge_proto::oauth::secret::Secret;
use landbridge_proto::oauth::seek::Found;

use crate::backend::http::AGENT;
use crate::backend::lock;
use crate::plan::Browsing;
use crate::system::{now_s, random};
use crate::vault::callback::Callback;
use crate::vault::file::{self, At, Kept, Tokens};
use crate::vault::issuer::no_token;
use crate::vault::{Barred, Got, Pass, Wanted, browser, fetch};

/// For a server to say what it wants.
const PROVOKED: Duration = Duration::from_secs(10);

impl Pass {
    /// Begins a login that ends at `redirect_uri`, registering us if need be; its user is to be sent to
    /// [`Login::url`].
    pub async fn begin(&self, wanted: &Wanted, redirect_uri: &str) -> Result<Login, Barred> {
        let kept = self.kept().await?;
        Ok(self.begin_by(&kept, wanted.clone(), redirect_uri.to_owned()).await?)
    }

    /// The same for whatever the server wants: what it has refused a request for, or what it says when asked.
    pub async fn begin_anew(&self, redirect_uri: &str) -> Result<Login, Barred> {
        let wanted = lock(&self.wanted).clone();
        let wanted = match wanted {
            Some(wanted) => wanted,
            None => {
                let challenge = self.provoke().await?;
                let found = self.seek(challenge.as_ref()).await?;
                let scope = scopes(self.auth.scope.as_deref(), challenge.as_ref(), &found.scopes, None, &found.issuer);
                Wanted { found, scope, anew: true }
            }
        };
        let mut kept = self.kept().await?;
        // An issuer that has forgotten a client tells its user, and not us: who begins again does so as another.
        if self.begun.swap(true, Ordering::Relaxed) {
            kept.forget_client(&wanted.found.issuer.issuer);
        }
        Ok(self.begin_by(&kept, wanted, redirect_uri.to_owned()).await?)
    }

    /// What the server says to a request without a token.
    async fn provoke(&self) -> Result<Option<Challenge>, String> {
        let url: Uri = self.server.parse().map_err(|e| format!("the server's URL is none: {e}"))?;
        let head = |headers: &mut HeaderMap| {
            headers.insert(USER_AGENT, AGENT);
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        };
        let asked = self.http.send(http::Method::GET, &url, head, bytes::Bytes::new());
        let late = |_| Err(format!("it did not answer within {} s", PROVOKED.as_secs()));
        let response = tokio::time::timeout(PROVOKED, async { asked.await.map_err(|trouble| trouble.why) }).await.unwrap_or_else(late);
        let response = response.map_err(|why| format!("the server cannot be reached: {why}"))?;
        let said = response.headers().get_all(WWW_AUTHENTICATE);
        Ok(bearer(said.iter().filter_map(|value| value.to_str().ok())).filter(|_| response.status() == StatusCode::UNAUTHORIZED))
    }

    /// Ends it, by the code that came ([`Login::handle_callback`]).
    pub async fn finish(&self, login: &Login, code: &Secret) -> Result<(), Barred> {
        let _one = self.working.lock().await;
        let _alone = self.lock().await?;
        self.finish_by(self.kept().await?, login, code).await?;
        *lock(&self.wanted) = None;
        self.to_be_asked.store(false, Ordering::Relaxed);
        self.begun.store(false, Ordering::Relaxed);
        *lock(&self.failed) = None;
        Ok(())
    }

    async fn begin_by(&self, kept: &Kept, wanted: Wanted, redirect_uri: String) -> Result<Login, String> {
        let Found { issuer, resource, .. } = wanted.found;
        let client = match way_in(&issuer, &self.auth.own)? {
            WayIn::Be(client) => client,
            WayIn::Register(endpoint) => {
                let known = kept.at(&issuer.issuer).and_then(|at| at.client.as_ref());
                match known.filter(|client| client.redirect_uri.as_ref() == Some(&redirect_uri)).and_then(file::Client::read) {
                    Some(client) => client,
                    None => self.register(&issuer, &endpoint, &redirect_uri).await?,
                }
            }
        };
        Ok(Login::new(issuer, client, redirect_uri, resource, wanted.scope, [random()?, random()?]))
    }

    async fn finish_by(&self, mut kept: Kept, login: &Login, code: &Secret) -> Result<Got, String> {
        let (issuer, endpoint) = (&login.issuer.issuer, &login.issuer.token_endpoint);
        let granted = self.redeem(Grant::Code(login, code), issuer, endpoint, &login.client, login.resource.as_deref()).await;
        let granted = match granted {
            Ok(granted) => granted,
            Err(denied) => {
                if let Denied::Client(_) = denied {
                    kept.forget_client(issuer);
                    self.keep(&kept).await;
                }
                return Err(no_token(issuer, &denied));
            }
        };
        let tokens = Tokens::of(&granted, None, login.resource.clone(), login.scope.clone(), now_s());
        let client = file::Client::of(&login.client, Some(login.redirect_uri.clone()));
        let at = At { token_endpoint: endpoint.clone(), client: Some(client), tokens: Some(tokens) };
        self.admit(&mut kept, issuer, at).await
    }

    /// Sends the user at this machine to the issuer, and waits for what comes back.
    pub(super) async fn log_in(&self, browsing: &Browsing, mut kept: Kept, wanted: Wanted) -> Result<Got, String> {
        let issuer = wanted.found.issuer.issuer.clone();
        // A client that has registered itself did so with a port.
        let rather = kept.at(&issuer).and_then(|at| at.client.as_ref()?.port());
        let callback = Callback::bind(browsing.port, rather).await?;
        let login = self.begin_by(&kept, wanted, callback.redirect_uri()).await?;
        let url = login.url();
        browser::tell(&self.shown, &url);
        if browsing.open {
            browser::open(&url);
        }
        let Ok(answer) = tokio::time::timeout(browsing.patience, callback.wait(&login)).await else {
            // An issuer that has forgotten a client tells its user, and not us.
            kept.forget_client(&issuer);
            self.keep(&kept).await;
            return Err(format!("nobody finished the login at {issuer} within {} s; try again", browsing.patience.as_secs()));
        };
        match answer {
            Ok(code) => self.finish_by(kept, &login, &code).await,
            Err(Unusable::Refused(why)) => Err(format!("the login at {issuer} did not succeed: {why}")),
            Err(Unusable::Forged | Unusable::NotOurs) => {
                warn!(server = self.shown, issuer, "an answer to the login was not from who was asked, and was not used");
                Err(format!("the answer to the login was not from {issuer}, and was not used"))
            }
        }
    }

    async fn register(&self, issuer: &Issuer, endpoint: &str, redirect_uri: &str) -> Result<Registered, String> {
        let failed = |why: String| {
            format!("we cannot register at {endpoint}: {why}; give a client (--client-id), or a token (--header 'Authorization: Bearer …')")
        };
        let body = registration(issuer, redirect_uri);
        let (status, text) = fetch::post(self.http_for(endpoint).await?, endpoint, fetch::JSON, None, &body).await.map_err(failed)?;
        if !(200..300).contains(&status) {
            let said = fetch::error_in(&text).map_or(String::new(), |said| format!(", {said}"));
            return Err(failed(format!("it answers with HTTP {status}{said}")));
        }
        registered(&text, issuer).map_err(|why| failed(format!("its answer cannot be used: {why}")))
    }
}
