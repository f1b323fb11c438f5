//! Keys of our own (ES256), for access tokens that are JWTs (RFC 9068) and for showing others who we are
//! (`private_key_jwt`, RFC 7523).
//!
//! A key is kept as PKCS#8, secret, by the caller. When it is replaced the previous ones stay published for as long as
//! tokens are out that they have signed.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use landbridge_proto::oauth::jwk::{Algorithm, Jwk, Material, set};
use landbridge_proto::oauth::jwt::{to_sign, with_signature};

use super::keys::Keys;

/// Most previous keys that are published.
const MAX_PREVIOUS: usize = 8;

/// The key that we sign with, and those that we have signed with.
pub struct Own {
    secret: EcdsaKeyPair,
    public: Jwk,
    kid: String,
    previous: Vec<Jwk>,
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own({}, and {} before it)", self.kid, self.previous.len())
    }
}

impl Own {
    /// A new key, as PKCS#8: to be kept, and given to [`Own::new`].
    pub fn generate() -> Result<Vec<u8>, String> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).and_then(|key| key.to_pkcs8v1());
        key.map(|pkcs8| pkcs8.as_ref().to_vec()).map_err(|_| "no key could be made".into())
    }

    /// The key in `pkcs8`, and those that it has replaced, the latest first. The error fits after "the key ".
    pub fn new(pkcs8: &[u8], previous: &[Vec<u8>]) -> Result<Own, &'static str> {
        let secret = read(pkcs8)?;
        let public = public(&secret)?;
        let previous = previous.iter().take(MAX_PREVIOUS).map(|pkcs8| self::public(&read(pkcs8)?)).collect::<Result<_, _>>()?;
        let kid = public.thumbprint();
        Ok(Own { secret, public, kid, previous })
    }

    /// The name of the key that we sign with: its thumbprint (RFC 7638).
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Our keys as they are published: the one we sign with, then those before it.
    pub fn jwks(&self) -> String {
        set(std::iter::once(&self.public).chain(&self.previous))
    }

    /// The same for [`super::verify`].
    pub fn keys(&self) -> Result<Keys, String> {
        Keys::of(&self.jwks())
    }

    /// Signs claims, a JSON object, as a token of type `typ`: `at+jwt` with those of
    /// [`Access`](landbridge_proto::oauth::jwt::Access), `JWT` with an
    /// [`assertion`](landbridge_proto::oauth::jwt::assertion).
    pub fn sign(&self, typ: &str, claims: &str) -> Result<String, String> {
        let signed = to_sign(typ, Algorithm::Es256, Some(&self.kid), claims);
        let signature = self.secret.sign(&SystemRandom::new(), signed.as_bytes());
        signature.map(|signature| with_signature(&signed, signature.as_ref())).map_err(|e| format!("a token cannot be signed: {e}"))
    }
}

fn read(pkcs8: &[u8]) -> Result<EcdsaKeyPair, &'static str> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(|_| "is no P-256 key in PKCS#8")
}

/// The public half of a key, under its name.
fn public(key: &EcdsaKeyPair) -> Result<Jwk, &'static str> {
    let point = key.public_key().as_ref();
    let (x, y) = point.get(1..).and_then(|point| point.split_at_checked(32)).ok_or("has no public half")?;
    let (Ok(x), Ok(y)) = (x.try_into(), y.try_into()) else { return Err("has no public half") };
    let mut public = Jwk { kid: None, alg: Some(Algorithm::Es256), material: Material::P256(x, y) };
    public.kid = Some(public.thumbprint());
    Ok(public)
}
