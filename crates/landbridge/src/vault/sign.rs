//! Signatures in place of a client's secret (`private_key_jwt`, RFC 7523).

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

use crate::plan::{Algorithm, Key};

/// Whether something can be signed with that key. The error says what is wrong with it, and nothing of it.
pub fn check_key(key: &Key) -> Result<(), String> {
    sign(key, b"").map(drop)
}

/// The signature of a text.
pub(super) fn sign(key: &Key, text: &[u8]) -> Result<Vec<u8>, String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.pem.reveal().as_bytes())
        .map_err(|_| "the private key is none in PKCS #8 (`-----BEGIN PRIVATE KEY-----`)".to_owned())?;
    let der = der.secret_pkcs8_der();
    let alien = || format!("the private key is none for {}", key.algorithm.named().as_str());
    let random = SystemRandom::new();
    let unsigned = |_| "nothing can be signed with the private key".to_owned();
    let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(|_| alien())?;
        pair.sign(&random, text).map(|signature| signature.as_ref().to_vec()).map_err(unsigned)
    };
    match key.algorithm {
        Algorithm::Es256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| alien())?;
            Ok(pair.sign(text).as_ref().to_vec())
        }
        Algorithm::Rs256 => {
            let pair = RsaKeyPair::from_pkcs8(der).map_err(|_| alien())?;
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &random, text, &mut signature).map_err(unsigned)?;
            Ok(signature)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm};
    use landbridge_proto::oauth::secret::Secret;

    fn key(pair: &rcgen::KeyPair, algorithm: Algorithm) -> Key {
        Key { pem: Secret::new(pair.serialize_pem()), algorithm, audience: None }
    }

    #[test]
    fn what_is_signed_can_be_verified() {
        for (made, algorithm, verified) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::Es256, &ECDSA_P256_SHA256_FIXED as &'static dyn VerificationAlgorithm),
            (&rcgen::PKCS_ED25519, Algorithm::EdDsa, &ED25519),
            (&rcgen::PKCS_RSA_SHA256, Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
        ] {
            let pair = rcgen::KeyPair::generate_for(made).unwrap();
            let signature = sign(&key(&pair, algorithm), b"text").unwrap();
            let public = UnparsedPublicKey::new(verified, rcgen::PublicKeyData::der_bytes(&pair));
            assert!(public.verify(b"text", &signature).is_ok(), "{algorithm:?}");
            assert!(public.verify(b"other", &signature).is_err());
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused_without_a_word_of_it() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert_eq!(check_key(&key(&pair, Algorithm::Es256)).unwrap_err(), "the private key is none for ES256");
        let none = Key { pem: Secret::new("sesame"), algorithm: Algorithm::Es256, audience: None };
        assert!(check_key(&none).unwrap_err().contains("PKCS #8"));
    }
}
