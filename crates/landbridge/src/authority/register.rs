//! `/register`: a stranger becomes a client (RFC 7591).

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Response, StatusCode};

use landbridge_proto::oauth::client;
use landbridge_proto::oauth::refusal::{Code, Refusal};

use super::{Desk, Stop, random};
use crate::audit::Line;
use crate::body::Body;
use crate::mcp;
use crate::store::Trouble;

/// A client that nobody has logged in with is forgotten after so long, in seconds: most of those that register
/// are never seen again.
const UNUSED_TTL_S: u64 = 24 * 3600;

impl Desk<'_> {
    pub(super) async fn register(&self, headers: &HeaderMap, body: &Bytes) -> Result<Response<Body>, Stop> {
        let invalid = |told: &str| Refusal::new(Code::InvalidClientMetadata, told);
        if !self.own.registration {
            return Err(invalid("clients cannot register here; ask the operator for a client id").into());
        }
        let media = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            return Err(invalid("the body must be of type application/json").into());
        }
        let text = std::str::from_utf8(body).map_err(|_| invalid("the body is no UTF-8"))?;
        let [for_id, for_secret] = random()?;
        let id = self.gateway.plan.profile.client_id(for_id);
        let (client, answer) = client::register(text, id, for_secret, self.now_s)?;
        // An id of few digits can be somebody's already, and would be theirs no more.
        if self.known_client(&client.id).await?.is_some() {
            return Err(Trouble::Unusable("the id of a new client is taken".into()).into());
        }
        self.keep_client(&client, self.now_s.saturating_add(UNUSED_TTL_S)).await?;
        self.gateway.audit.tell(Line { via: Some(&client.id), client: Some(&client.name), ..self.line("registration", "ok") });
        Ok(mcp::json(StatusCode::CREATED, answer))
    }
}
