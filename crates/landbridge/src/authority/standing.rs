//! Whether a user may still come in, of whom a provider knows: it is asked again, with the token of their login.
//!
//! ```text
//!   login ──▶ its token, sealed, in the vault
//!   a token of ours is refreshed, or somebody agrees ──not asked for an hour──▶ Provider::who ──▶ admission::standing
//! ```
//!
//! One question a user at a time, of all processes. A provider that does not answer puts nobody out; what was agreed
//! to ends in any case (`agreement_s`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use landbridge_proto::oauth::admission::{Standing, standing};
use landbridge_proto::oauth::secret::{Hash, Secret};

use super::Desk;
use crate::login::{Held, Upstream};
use crate::store::{Store, Trouble};
use crate::vault;

/// The place of such tokens in the vault, where others have the URL of a server.
const PLACE: &str = "login";
/// How long somebody waits for a question that is under way already.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is kept of a login.
#[derive(Serialize, Deserialize)]
struct Written {
    access: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_s: Option<u64>,
    /// The provider is not asked before, in seconds since 1970.
    again_s: u64,
}

impl Written {
    fn of(held: &Held, again_s: u64) -> Written {
        Written {
            access: held.access_token.reveal().to_owned(),
            refresh: held.refresh_token.as_ref().map(|token| token.reveal().to_owned()),
            expires_s: held.expires_s,
            again_s,
        }
    }

    fn held(self) -> Held {
        Held { access_token: Secret::new(self.access), refresh_token: self.refresh.map(Secret::new), expires_s: self.expires_s }
    }
}

/// Forgets what was kept of somebody's login.
pub(super) async fn forget(store: &dyn Store, principal: &str) -> Result<(), Trouble> {
    vault::forget(store, PLACE, principal).await
}

impl Desk<'_> {
    /// Somebody has logged in: what their provider gave us is kept, in place of what it gave before. Where it cannot be, they
    /// are asked about when they log in again, as ever.
    pub(super) async fn keep_login(&self, upstream: &Upstream) {
        let principal = upstream.identity.principal();
        let kept = async {
            let place = self.gateway.connects.shelf()?.place(PLACE, &principal);
            let _baton = place.lock(PATIENCE).await?;
            place.write_as(&Written::of(&upstream.held, self.now_s.saturating_add(self.own.ask_again_s)), self.own.agreement_s).await
        };
        if let Err(why) = kept.await {
            tracing::warn!(
                why,
                "a provider's token cannot be kept: whether its user may still come in is not asked before their next login"
            );
        }
    }

    /// Whether the user `principal`, whom a provider has vouched for, may go on. The error says why not.
    pub(super) async fn stands(&self, principal: &str) -> Result<(), &'static str> {
        let turn = self.auth.turns.of(&Hash::of(&format!("{PLACE} {principal}")));
        let Ok(_turn) = tokio::time::timeout(PATIENCE, turn.lock()).await else { return Ok(()) };
        self.ask(principal).await.unwrap_or_else(|why| {
            tracing::warn!(why, "a provider's token cannot be had: whether its user may still come in is not asked");
            Ok(())
        })
    }

    async fn ask(&self, principal: &str) -> Result<Result<(), &'static str>, String> {
        let Some(provider) = &self.auth.provider else { return Ok(Ok(())) };
        let subject = principal.strip_prefix(provider.issuer()).and_then(|rest| rest.strip_prefix('#'));
        let Some(subject) = subject else { return Ok(Ok(())) };
        let place = self.gateway.connects.shelf()?.place(PLACE, principal);
        let is_due = |written: &Written| written.again_s <= self.now_s;
        if place.read_as().await?.filter(is_due).is_none() {
            return Ok(Ok(()));
        }
        let _baton = place.lock(PATIENCE).await?;
        let Some(written) = place.read_as().await?.filter(is_due) else { return Ok(Ok(())) };
        let before = written.held();
        let mut held = before.clone();
        let said = provider.who(self.auth.http(), &mut held, subject, self.now_s).await;
        let (again_s, stands) = match standing(&said, principal, provider.admission(), self.own.ask_again_s, self.now_s) {
            Standing::Stays(again_s) => (again_s, Ok(())),
            Standing::Ends(why) => (self.now_s, Err(why)),
        };
        if stands.is_ok() || held != before {
            place.write_as(&Written::of(&held, again_s), self.own.agreement_s).await?;
        }
        Ok(stands)
    }
}
