//! Signatures of tokens, checked and made. What a token says is judged in `landbridge_proto::oauth::jwt`; here are
//! the [`keys`] it is signed with, which come from elsewhere and change, and our [`own`].
//!
//! The cryptography is aws-lc-rs, without a library for tokens in between: those read JSON less strictly than we do,
//! and know algorithms that we do not.

use std::fmt;

use aws_lc_rs::signature::{self as sig, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};

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
pub async fn signed(jws: &Jws<'_>, keys: &Keys, now_s: u64) -> Result<(), Refused> {
    let key = keys.find(&jws.header, now_s).await?;
    match is_signed(jws, &key) {
        true => Ok(()),
        false => Err(Refused::Invalid("has a signature that is not its issuer's")),
    }
}

/// Whether a token is signed with a key.
fn is_signed(jws: &Jws<'_>, key: &Jwk) -> bool {
    // `Keys::find` has seen to it; a key for something else would be checked as what it is not.
    if !key.checks(jws.header.algorithm) {
        return false;
    }
    let (text, signature) = (jws.signed.as_bytes(), jws.signature.as_slice());
    // A point as SEC 1 §2.3.3 spells it, not compressed.
    let point = |x: &[u8], y: &[u8]| [&[4], x, y].concat();
    let checked = match &key.material {
        Material::Rsa { n, e } => {
            let Some(parameters) = rsa(jws.header.algorithm) else { return false };
            RsaPublicKeyComponents { n, e }.verify(parameters, text, signature)
        }
        Material::P256(x, y) => UnparsedPublicKey::new(&sig::ECDSA_P256_SHA256_FIXED, point(x, y)).verify(text, signature),
        Material::P384(x, y) => UnparsedPublicKey::new(&sig::ECDSA_P384_SHA384_FIXED, point(x, y)).verify(text, signature),
        Material::Ed25519(x) => UnparsedPublicKey::new(&sig::ED25519, x).verify(text, signature),
    };
    checked.is_ok()
}

/// What an algorithm means for a key of RSA; `None` if it is none of RSA's.
fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &sig::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &sig::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &sig::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &sig::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &sig::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &sig::RSA_PSS_2048_8192_SHA512,
        Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
    })
}
