//! JSON Web Keys (RFC 7517): the set of keys that somebody publishes, and which of them a signature is to be
//! checked with.
//!
//! Only keys for asymmetric signatures are taken; a set may hold others, which are left out, as RFC 7517 §5
//! wants it. Odd: a key that is published with its private half is left out too, because anybody can sign with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::document::Document;
use super::secret::Hash;
use crate::json;

/// Most keys of a set, those that are left out counted too.
pub const MAX_KEYS: usize = 64;
/// Longest name of a key, in bytes.
const MAX_KID: usize = 256;

/// How something is signed (RFC 7518 §3.1, RFC 8037). There is no `none` here, and nothing with a secret that
/// both sides know: what does not exist cannot be allowed by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Their names are all there is to say.
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 9] = {
        use Algorithm::*;
        [Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, Es384, EdDsa]
    };

    /// Reads its name. `Ed25519` is the newer one of `EdDSA` with that curve (RFC 9864 §2.2).
    pub fn read(name: &str) -> Option<Algorithm> {
        match name {
            "Ed25519" => Some(Algorithm::EdDsa),
            name => Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name),
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

/// A public key, in bytes: large numbers without leading zeros, coordinates at their full length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// Modulus (2048 to 8192 bits) and exponent.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// The point of P-256 whose coordinates are these.
    P256([u8; 32], [u8; 32]),
    /// The same of P-384.
    P384([u8; 48], [u8; 48]),
    /// Ed25519.
    Ed25519([u8; 32]),
}

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    /// Its name in its set.
    pub kid: Option<String>,
    /// The only algorithm it is for, where it says so.
    pub alg: Option<Algorithm>,
    /// The key.
    pub material: Material,
}

/// Why no key of a set is the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// None has the name; a newer set may have one.
    Unknown,
    /// There is one, but not for this algorithm, or it cannot be said which.
    Unfit(&'static str),
}

impl Jwk {
    /// Reads a key; `None` if it is none of those that are taken.
    fn read(text: &str) -> Option<Jwk> {
        let document = Document::read(text).ok()?;
        let string = |key: &str| document.string(key).ok().flatten();
        let bytes = |key: &str| URL_SAFE_NO_PAD.decode(string(key)?).ok();
        if document.raw("d").is_some() || document.raw("k").is_some() {
            return None;
        }
        if document.raw("use").is_some() && string("use")? != "sig" {
            return None;
        }
        if document.raw("key_ops").is_some() && !document.strings("key_ops").ok()??.iter().any(|op| op == "verify") {
            return None;
        }
        let material = match (string("kty")?.as_str(), string("crv").as_deref()) {
            ("RSA", _) => {
                // Some write the zero that keeps a number positive elsewhere (RFC 7518 §6.3.1.1 forbids it).
                let trimmed = |mut number: Vec<u8>| number.split_off(number.iter().take_while(|b| **b == 0).count());
                let (n, e) = (trimmed(bytes("n")?), trimmed(bytes("e")?));
                // Bits, not bytes: a modulus of 2040 bits has nearly as many bytes as one of 2048.
                let bits = n.len() * 8 - n.first()?.leading_zeros() as usize;
                let odd = e.last()? % 2 == 1 && e.len() <= 4 && e != [1];
                ((2048..=8192).contains(&bits) && odd).then_some(Material::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => Material::P256(bytes("x")?.try_into().ok()?, bytes("y")?.try_into().ok()?),
            ("EC", Some("P-384")) => Material::P384(bytes("x")?.try_into().ok()?, bytes("y")?.try_into().ok()?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?.try_into().ok()?),
            _ => return None,
        };
        let alg = match document.raw("alg") {
            None => None,
            Some(_) => Some(Algorithm::read(&string("alg")?)?),
        };
        let kid = match document.raw("kid") {
            None => None,
            Some(_) => Some(string("kid")?).filter(|kid| kid.len() <= MAX_KID),
        };
        let key = Jwk { kid, alg, material };
        // A key that is of another kind than it says is of neither.
        key.alg.is_none_or(|alg| key.can(alg)).then_some(key)
    }

    /// Whether the kind of this key is that of an algorithm.
    fn can(&self, algorithm: Algorithm) -> bool {
        use Algorithm::*;
        match self.material {
            Material::Rsa { .. } => matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512),
            Material::P256(..) => algorithm == Es256,
            Material::P384(..) => algorithm == Es384,
            Material::Ed25519(_) => algorithm == EdDsa,
        }
    }

    /// Whether this key may check a signature by an algorithm.
    pub fn checks(&self, algorithm: Algorithm) -> bool {
        self.can(algorithm) && self.alg.is_none_or(|only| only == algorithm)
    }

    /// Its thumbprint (RFC 7638 §3): what we name our own keys.
    pub fn thumbprint(&self) -> String {
        // The members that a key must have, in the order of their names, and no spaces.
        Hash::of(&format!("{{{}}}", self.members())).to_string()
    }

    fn members(&self) -> String {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let curve = |crv: &str, x: &[u8], y: &[u8]| format!(r#""crv":"{crv}","kty":"EC","x":"{}","y":"{}""#, b64(x), b64(y));
        match &self.material {
            Material::Rsa { n, e } => format!(r#""e":"{}","kty":"RSA","n":"{}""#, b64(e), b64(n)),
            Material::P256(x, y) => curve("P-256", x, y),
            Material::P384(x, y) => curve("P-384", x, y),
            Material::Ed25519(x) => format!(r#""crv":"Ed25519","kty":"OKP","x":"{}""#, b64(x)),
        }
    }

    /// The key as it is published.
    pub fn document(&self) -> String {
        let mut document = format!(r#"{{{},"use":"sig""#, self.members());
        for (name, value) in [("alg", self.alg.map(Algorithm::as_str)), ("kid", self.kid.as_deref())] {
            if let Some(value) = value {
                document.push_str(&format!(",\"{name}\":{}", json::quote(value)));
            }
        }
        document.push('}');
        document
    }
}

/// Reads a set of keys (RFC 7517 §5). Those that are not taken are left out; a set in which none is left is no
/// error, as it may come to have one. The error fits after "its keys cannot be used: ".
pub fn read_set(text: &str) -> Result<Vec<Jwk>, String> {
    let document = Document::read(text)?;
    let keys = document.raw("keys").ok_or("`keys` is missing")?;
    let keys = json::elements(keys, MAX_KEYS).map_err(|_| "`keys` is no list")?;
    let keys = keys.ok_or_else(|| format!("there are more than {MAX_KEYS}"))?;
    Ok(keys.into_iter().filter_map(Jwk::read).collect())
}

/// A set of keys as it is published.
pub fn set<'k>(keys: impl IntoIterator<Item = &'k Jwk>) -> String {
    let keys: Vec<String> = keys.into_iter().map(Jwk::document).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// The key that a signature by `algorithm` is to be checked with, by the name it gives. Without a name there must be
/// only one that fits.
pub fn pick<'k>(keys: impl IntoIterator<Item = &'k Jwk>, kid: Option<&str>, algorithm: Algorithm) -> Result<&'k Jwk, NoKey> {
    let mut named = keys.into_iter().filter(|key| kid.is_none() || key.kid.as_deref() == kid).peekable();
    if named.peek().is_none() {
        return Err(NoKey::Unknown);
    }
    let mut fit = named.filter(|key| key.checks(algorithm));
    match (fit.next(), fit.next(), kid) {
        (Some(key), None, _) => Ok(key),
        (Some(_), Some(_), Some(_)) => Err(NoKey::Unfit("names a key that its issuer has twice")),
        (Some(_), Some(_), None) => Err(NoKey::Unfit("does not say which key it is signed with")),
        (None, _, Some(_)) => Err(NoKey::Unfit("is signed by another algorithm than its key is for")),
        // Without a name a key for this algorithm may yet come.
        (None, _, None) => Err(NoKey::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const N: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";

    fn rsa() -> Value {
        json!({"kty": "RSA", "n": N, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})
    }

    fn p256() -> Value {
        json!({"kty": "EC", "crv": "P-256", "kid": "p", "use": "sig",
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"})
    }

    fn ed() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    fn read(keys: Value) -> Vec<Jwk> {
        read_set(&json!({"keys": keys}).to_string()).unwrap()
    }

    #[test]
    fn the_vectors_of_the_rfcs_hold() {
        let keys = read(json!([rsa(), ed()]));
        assert_eq!(keys[0].thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"); // RFC 7638 §3.1
        assert_eq!(keys[1].thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"); // RFC 8037, appendix A.3
    }

    #[test]
    fn what_is_published_is_read_again() {
        let keys = read(json!([rsa(), p256(), ed()]));
        assert_eq!(keys.len(), 3);
        assert_eq!(read_set(&set(&keys)).unwrap(), keys);
    }

    #[test]
    fn keys_that_are_not_for_us_are_left_out() {
        let with = |base: Value, key: &str, value: Value| {
            let mut changed = base;
            changed[key] = value;
            changed
        };
        for bad in [
            with(rsa(), "use", json!("enc")),
            with(rsa(), "use", json!(1)),
            with(rsa(), "key_ops", json!(["encrypt"])),
            with(rsa(), "key_ops", json!([])),
            with(rsa(), "key_ops", json!("verify")),
            with(rsa(), "d", json!("AQ")),
            with(rsa(), "alg", json!("HS256")),
            with(rsa(), "alg", json!("none")),
            with(rsa(), "alg", json!("RSA-OAEP")),
            with(rsa(), "alg", json!("ES256")),
            with(rsa(), "alg", json!(1)),
            with(rsa(), "kid", json!(1)),
            with(rsa(), "e", json!("AQ")),
            with(rsa(), "e", json!("Ag")),
            with(rsa(), "e", json!("")),
            with(rsa(), "e", Value::Null),
            with(rsa(), "n", json!("AQAB")),
            with(rsa(), "n", json!(format!("{N}="))),
            with(rsa(), "n", json!(&N[..340])),
            with(rsa(), "kty", json!("oct")),
            with(p256(), "crv", json!("P-384")),
            with(p256(), "crv", json!("secp256k1")),
            with(p256(), "x", json!("AQ")),
            with(p256(), "y", Value::Null),
            with(p256(), "kty", json!("OKP")),
            with(ed(), "crv", json!("X25519")),
            with(ed(), "crv", Value::Null),
            json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75", "alg": "HS256", "kid": "s"}),
            json!({}),
            json!(1),
        ] {
            let keys = read(json!([bad, p256()]));
            assert_eq!(keys.len(), 1, "{bad}");
        }
        for good in [with(rsa(), "key_ops", json!(["verify"])), with(rsa(), "x5c", json!(["x"])), with(ed(), "alg", json!("Ed25519"))] {
            assert_eq!(read(json!([good])).len(), 1, "{good}");
        }
        let twice = set(&read(json!([ed()]))).replace("\"use\"", "\"kty\":\"OKP\",\"use\"");
        assert_eq!(read_set(&twice).unwrap(), []);
    }

    #[test]
    fn sets_have_their_bounds() {
        for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(read_set(bad).is_err(), "{bad}");
        }
        assert!(read_set(&json!({"keys": vec![ed(); MAX_KEYS + 1]}).to_string()).is_err());
        assert_eq!(read(json!([])), []);
    }

    #[test]
    fn a_key_is_picked_by_its_name_and_its_kind() {
        use Algorithm::*;
        let keys = read(json!([rsa(), p256(), ed(), {"kty": "RSA", "n": N, "e": "AQAB", "kid": "any"}]));
        let picked = |kid, algorithm| pick(&keys, kid, algorithm).map(|key| key.kid.as_deref());
        assert_eq!(picked(Some("2011-04-29"), Rs256), Ok(Some("2011-04-29")));
        assert_eq!(picked(Some("any"), Ps512), Ok(Some("any")));
        assert_eq!(picked(None, Es256), Ok(Some("p")));
        assert_eq!(picked(None, EdDsa), Ok(None));
        assert_eq!(picked(Some("x"), Rs256), Err(NoKey::Unknown));
        assert_eq!(picked(Some(""), EdDsa), Err(NoKey::Unknown));
        assert_eq!(picked(None, Es384), Err(NoKey::Unknown));
        for (kid, algorithm) in [("2011-04-29", Rs384), ("2011-04-29", Es256), ("p", Rs256), ("p", Es384), ("any", EdDsa)] {
            assert!(matches!(picked(Some(kid), algorithm), Err(NoKey::Unfit(_))), "{kid} {algorithm:?}");
        }
        assert!(matches!(picked(None, Rs256), Err(NoKey::Unfit(_))));
        let twice = read(json!([p256(), p256()]));
        assert!(matches!(pick(&twice, Some("p"), Es256), Err(NoKey::Unfit(_))));
        assert_eq!(pick(&[], None, Es256), Err(NoKey::Unknown));
    }

    #[test]
    fn nothing_without_a_key_of_two_halves_has_a_name_here() {
        for name in ["none", "None", "NONE", "HS256", "HS384", "HS512", "rs256", "ES512", "ES256K", "RSA1_5", ""] {
            assert_eq!(Algorithm::read(name), None, "{name}");
        }
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::read(algorithm.as_str()), Some(algorithm));
        }
    }
}
