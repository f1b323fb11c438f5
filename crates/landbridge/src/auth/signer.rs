//! What signs access tokens of ours, where an operator wants them signed (RFC 9068).
//!
//! Others may read such a token and check it by our keys. We ourselves know it by its hash, as any other: so it
//! ends when its grant is withdrawn, and not only with its time. Odd: the key is the one secret of ours that the
//! store holds as it is, for there is no signing with a hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use landbridge_proto::oauth::jwt::Access as Claims;
use landbridge_proto::oauth::secret::spell;
use landbridge_proto::oauth::token::Access;

use crate::jwt::own::Own;
use crate::store::{Kind, Record, Store, Trouble};

/// Where the key is kept.
const KEY: &str = "signing key";

/// Signs.
pub struct Signer(Own);

impl Signer {
    /// With the key that is kept, which is made if there is none. Of several processes that begin at once, all take
    /// the one that was written last.
    pub async fn open(store: &dyn Store, now_s: u64) -> Result<Signer, String> {
        let failed = |trouble: Trouble| trouble.to_string();
        if store.get(Kind::Vault, KEY, now_s).await.map_err(failed)?.is_none() {
            let record = Record { value: STANDARD.encode(Own::generate()?), expires_s: None };
            store.put(Kind::Vault, KEY, record).await.map_err(failed)?;
        }
        let record = store.get(Kind::Vault, KEY, now_s).await.map_err(failed)?;
        let damaged = "the signing key in the store cannot be read";
        let key = record.and_then(|record| STANDARD.decode(record.value).ok()).ok_or(damaged)?;
        Own::new(&key, &[]).map(Signer).map_err(str::to_owned)
    }

    /// The token that says what `access` does.
    pub fn sign(&self, issuer: &str, access: &Access, id: [u8; 32], now_s: u64) -> Result<String, Trouble> {
        let grant = &access.grant;
        let claims = Claims {
            issuer,
            subject: &grant.principal,
            audience: &grant.resource.to_string(),
            client_id: &grant.client_id,
            scopes: &grant.scopes,
            id: &spell(id),
            issued_s: now_s,
            expires_s: access.expires_s,
        };
        self.0.sign("at+jwt", &claims.claims()).map_err(Trouble::Unusable)
    }

    /// Our keys, for others.
    pub fn jwks(&self) -> String {
        self.0.jwks()
    }
}
