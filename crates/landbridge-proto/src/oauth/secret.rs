//! Secrets, which are kept only as their SHA-256: tokens, codes, client secrets, and the verifiers of
//! PKCE (RFC 7636), whose challenge is nothing else. What has to be told again is a [`Secret`].
//!
//! All of ours are 32 random bytes, so a plain hash is enough: there is nothing to guess. Compared in
//! constant time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// A secret that is told to somebody once: 43 characters for 32 random bytes. As long and of the same
/// letters as a PKCE verifier has to be (RFC 7636 §4.1).
pub fn spell(random: [u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}

/// A secret that others told us and that has to be told again: a token, a verifier, a client's secret. It
/// shows itself only when it is asked to.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(text: D) -> Result<Secret, D::Error> {
        String::deserialize(text).map(Secret)
    }
}

/// What is kept of a secret.
#[derive(Clone, Copy)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of a secret.
    pub fn of(secret: &str) -> Hash {
        Hash(Sha256::digest(secret.as_bytes()).into())
    }

    /// Reads what `Display` writes; also the `code_challenge` of method S256 (RFC 7636 §4.2).
    pub fn read(text: &str) -> Option<Hash> {
        if text.len() != 43 {
            return None;
        }
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Hash)
    }

    /// Whether this is the hash of `secret`.
    pub fn is_of(&self, secret: &str) -> bool {
        *self == Hash::of(secret)
    }

    /// Whether this challenge is that of `verifier`, which must be one: 43 to 128 letters, digits and
    /// `-._~` (RFC 7636 §4.1 and §4.6).
    pub fn is_of_verifier(&self, verifier: &str) -> bool {
        let proper = (43..=128).contains(&verifier.len()) && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
        proper && self.is_of(verifier)
    }

    /// The hash that has these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Hash {
        Hash(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Hash {
    /// Every byte is looked at, so that the time says nothing of where they differ.
    fn eq(&self, other: &Hash) -> bool {
        let differ = self.0.iter().zip(&other.0).fold(0, |differ, (a, b)| differ | (a ^ b));
        std::hint::black_box(differ) == 0
    }
}

impl Eq for Hash {}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_rfc_7636_holds() {
        let challenge = Hash::read("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM").unwrap();
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert!(challenge.is_of_verifier(verifier));
        assert!(!challenge.is_of_verifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXj"));
        assert!(!challenge.is_of_verifier(""));
        assert_eq!(Hash::of(verifier).to_string(), challenge.to_string());
    }

    #[test]
    fn verifiers_have_their_letters_and_their_length() {
        for (verifier, proper) in [
            ("a".repeat(42), false),
            ("a".repeat(43), true),
            ("-._~aZ09".repeat(16), true),
            ("a".repeat(129), false),
            (format!("{}+", "a".repeat(43)), false),
            (format!("{}ü", "a".repeat(43)), false),
        ] {
            assert_eq!(Hash::of(&verifier).is_of_verifier(&verifier), proper, "{verifier}");
        }
        assert!(Hash::of(&spell([7; 32])).is_of_verifier(&spell([7; 32])));
    }

    #[test]
    fn a_secret_shows_itself_only_when_asked_to() {
        let secret = Secret::new("sesame");
        assert_eq!((format!("{:?}", Some(&secret)).as_str(), secret.reveal()), ("Some(…)", "sesame"));
        assert_eq!(serde_json::from_str::<Secret>(r#""sesame""#).unwrap(), secret);
    }

    #[test]
    fn a_challenge_has_one_spelling() {
        let text = Hash::of("x").to_string();
        assert!(Hash::read(&text).is_some());
        for bad in [
            String::new(),
            format!("{text}="),
            text[..42].into(),
            text.replace(|c: char| c.is_ascii_digit(), "+"),
            format!("{}Z", &text[..42]),
        ] {
            assert!(Hash::read(&bad).is_none(), "{bad}");
        }
    }
}
