//! Signatures of tokens, checked and made. What a token says is judged in `landbridge_proto::oauth::jwt`; here are
//! the [`keys`] it is signed with, which come from elsewhere and change, and our [`own`].
//!
//! The cryptography is `jsonwebtoken`'s, over aws-lc-rs. Nothing else of it is used: it reads JSON less strictly
//! than we do, and knows algorithms that we do not. Its provider is named each time, as the one of the process
//! is a program's that embeds us.

use std::fmt;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;

use landbridge_proto::oauth::jwk::{Algorithm, Jwk, Material};
use landbridge_proto::oauth::jwt::{Claims, Jws, Rules};

pub mod assertion;
pub mod keys;
pub mod own;

use keys::Keys;

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not good: 401. What is wrong with it fits after "the token ", and may be told to whoever brought it.
    Invalid(&'static str),
    /// Nobody can say now whether it is good: 503. Only for the log.
    Unavailable(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Invalid(why) => write!(f, "the token {why}"),
            Refused::Unavailable(why) => write!(f, "the authorization server cannot be asked: {why}"),
        }
    }
}

/// Checks a token: what it says, and then that its issuer has said so. Its audiences are left to the caller
/// (`landbridge_proto::oauth::audience::opens`).
pub async fn verify(token: &str, keys: &Keys, rules: &Rules, now_s: u64) -> Result<Claims, Refused> {
    let jws = Jws::read(token).map_err(Refused::Invalid)?;
    rules.admit(&jws.header).map_err(Refused::Invalid)?;
    let claims = jws.claims().map_err(Refused::Invalid)?;
    rules.hold(&claims, now_s).map_err(Refused::Invalid)?;
    signed(&jws, keys, now_s).await.map(|()| claims)
}

/// Checks that a token's issuer has signed it, whatever it says.
pub async fn signed_by(token: &str, keys: &Keys, now_s: u64) -> Result<(), Refused> {
    signed(&Jws::read(token).map_err(Refused::Invalid)?, keys, now_s).await
}

async fn signed(jws: &Jws<'_>, keys: &Keys, now_s: u64) -> Result<(), Refused> {
    let key = keys.find(&jws.header, now_s).await?;
    match is_signed(jws, &key) {
        true => Ok(()),
        false => Err(Refused::Invalid("has a signature that is not its issuer's")),
    }
}

/// Whether a token is signed with a key.
fn is_signed(jws: &Jws<'_>, key: &Jwk) -> bool {
    let decoding = match &key.material {
        Material::Rsa { n, e } => DecodingKey::from_rsa_raw_components(n, e),
        // A point as SEC 1 §2.3.3 spells it, not compressed.
        Material::P256(x, y) => DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()),
        Material::P384(x, y) => DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()),
        Material::Ed25519(x) => DecodingKey::from_ed_der(x),
    };
    // `Keys::find` has seen to it; a key for something else would be checked as what it is not.
    if !key.checks(jws.header.algorithm) {
        return false;
    }
    let verifier = (DEFAULT_PROVIDER.verifier_factory)(&named(jws.header.algorithm), &decoding);
    verifier.is_ok_and(|verifier| verifier.verify(jws.signed.as_bytes(), &jws.signature).is_ok())
}

fn named(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    }
}
