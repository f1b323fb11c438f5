//! Signed tokens (RFC 7515, RFC 7519): taken apart, and judged by what they say.
//!
//! ```text
//!   text ──▶ Jws ──▶ rules admit its header ──▶ Claims ──▶ rules hold ──▶ (the caller checks the signature)
//! ```
//!
//! For access tokens of others (RFC 9068, and the many that are nearly so), for id tokens, and for what clients sign
//! to show who they are (RFC 7523). Nothing is true before the signature is checked; it comes last because what
//! has expired need not be computed with. Errors fit after "the token ".

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::challenge::is_scope;
use super::document::Document;
use super::jwk::Algorithm;

/// Longest token that is looked at, in bytes. Those of the well-known servers have 0.5 to 4 KiB.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Most that two clocks may differ by, in seconds.
pub const MAX_LEEWAY_S: u64 = 60;
/// What a client calls a signature in place of a secret; there is no other kind (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Longest time that a client's assertion may be good for, in seconds.
pub const MAX_ASSERTION_S: u64 = 300;
/// Most audiences and scopes of a token that are kept, and the length of a name, in characters.
const MAX_AUDIENCES: usize = 64;
const MAX_SCOPES: usize = 256;
const MAX_NAME: usize = 80;
/// Longest name of an issuer, a subject or a token, in bytes.
const MAX_ID: usize = 2 * 1024;

/// A signed token, taken apart. Nothing of it is true yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Jws<'t> {
    /// What it is signed by.
    pub header: Header,
    /// What is signed: the first two parts, as they came.
    pub signed: &'t str,
    /// The signature.
    pub signature: Vec<u8>,
    payload: String,
}

impl std::fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Jws({:?})", self.header)
    }
}

/// How a token is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The name of the key.
    pub kid: Option<String>,
    /// What it is a token for.
    pub typ: Option<String>,
}

impl<'t> Jws<'t> {
    /// Takes a token apart.
    pub fn read(token: &'t str) -> Result<Jws<'t>, &'static str> {
        if token.len() > MAX_TOKEN {
            return Err("is too long");
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err("is no signed JWT");
        };
        let signed = &token[..token.len() - signature.len() - 1];
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "is no signed JWT");
        let text = |part: &str| String::from_utf8(bytes(part)?).map_err(|_| "is no signed JWT");
        let (header, payload, signature) = (text(header)?, text(payload)?, bytes(signature)?);
        Ok(Jws { header: Header::read(&header)?, signed, signature, payload })
    }

    /// What it says, as text, for whom the claims of an access token are not the ones that count.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// What it says.
    pub fn claims(&self) -> Result<Claims, &'static str> {
        Claims::read(&self.payload)
    }
}

impl Header {
    /// Reads it. Keys that it brings itself (`jwk`, `jku`, `x5u`, `x5c`) are nobody's.
    fn read(text: &str) -> Result<Header, &'static str> {
        let document = Document::read(text).map_err(|_| "has a header that is no JSON object with each key once")?;
        // What must be understood is not (RFC 7515 §4.1.11); `null` is no list of names either.
        if document.has("crit") {
            return Err("asks for an extension of JWS");
        }
        let string = |key: &str| document.string(key).map_err(|_| "has a header of which a field is no string");
        let alg = string("alg")?.ok_or("does not say how it is signed")?;
        let algorithm = Algorithm::read(&alg).ok_or("is signed by an algorithm that is not allowed")?;
        Ok(Header { algorithm, kid: string("kid")?, typ: string("typ")? })
    }
}

/// What a token is for, by the `typ` of its header: so that one that was issued for something else is not taken
/// (RFC 8725 §3.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typ {
    /// This one and no other, as `at+jwt` (RFC 9068 §2.1).
    Exactly(String),
    /// This one, or any that does not say so clearly: none, or one that does not end in `+jwt`. Most servers
    /// write `JWT`.
    Usual(&'static str),
}

impl Typ {
    /// An access token, as most servers write it.
    pub const ACCESS: Typ = Typ::Usual("at+jwt");
    /// A client that shows who it is.
    pub const ASSERTION: Typ = Typ::Usual("client-authentication+jwt");

    /// Names of types are those of media types (RFC 7515 §4.1.9): in any case, `application/` left out at will.
    fn is(&self, typ: Option<&str>) -> bool {
        let short = |typ: &str| {
            let typ = typ.to_ascii_lowercase();
            typ.strip_prefix("application/").map_or(typ.clone(), str::to_owned)
        };
        match (self, typ.map(short)) {
            (Typ::Exactly(only), Some(typ)) => typ == short(only),
            (Typ::Exactly(_), None) => false,
            (Typ::Usual(usual), Some(typ)) => typ == *usual || !typ.ends_with("+jwt"),
            (Typ::Usual(_), None) => true,
        }
    }
}

/// What is asked of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Who must have issued it, letter by letter.
    pub issuer: String,
    /// How it may be signed.
    pub algorithms: Vec<Algorithm>,
    /// What it must be for.
    pub typ: Typ,
    /// How far our clock and the issuer's may differ, in seconds; more than [`MAX_LEEWAY_S`] is that.
    pub leeway_s: u64,
}

impl Rules {
    /// Whether a token of this header may be looked at.
    pub fn admit(&self, header: &Header) -> Result<(), &'static str> {
        if !self.algorithms.contains(&header.algorithm) {
            return Err("is signed by an algorithm that is not allowed");
        }
        if !self.typ.is(header.typ.as_deref()) {
            return Err("is for something else, by its `typ`");
        }
        Ok(())
    }

    /// Whether what a token says is good now. Its audiences are for the caller.
    pub fn hold(&self, claims: &Claims, now_s: u64) -> Result<(), &'static str> {
        if claims.issuer != self.issuer {
            return Err("was issued by somebody else");
        }
        let leeway_s = self.leeway_s.min(MAX_LEEWAY_S);
        if now_s >= claims.expires_s.saturating_add(leeway_s) {
            return Err("has expired");
        }
        let latest_s = now_s.saturating_add(leeway_s);
        if claims.not_before_s.is_some_and(|from_s| from_s > latest_s) {
            return Err("is not valid yet");
        }
        if claims.issued_s.is_some_and(|issued_s| issued_s > latest_s) {
            return Err("was issued in the future");
        }
        Ok(())
    }
}

/// What a token says (RFC 7519 §4.1, RFC 9068 §2.2).
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who issued it.
    pub issuer: String,
    /// Whom it is about; a name of the issuer's.
    pub subject: String,
    /// What it is for.
    pub audiences: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub expires_s: u64,
    /// When it begins.
    pub not_before_s: Option<u64>,
    /// When it was issued.
    pub issued_s: Option<u64>,
    /// Its own name (`jti`).
    pub id: Option<String>,
    /// The client it was issued to: `client_id`, or else `azp`.
    pub client_id: Option<String>,
    /// What it grants: `scope` and `scp`, as text or as a list.
    pub scopes: Vec<String>,
    /// What to call the subject before people. Never a key to anything.
    pub name: Option<String>,
    text: String,
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Claims { issuer, subject, expires_s, .. } = self;
        f.debug_struct("Claims").field("issuer", issuer).field("subject", subject).field("expires_s", expires_s).finish_non_exhaustive()
    }
}

impl Claims {
    /// Reads them. Whoever issued the token and whom it is about must be said, and when it ends.
    pub fn read(text: &str) -> Result<Claims, &'static str> {
        let document = Document::read(text).map_err(|_| "holds no JSON object with each key once")?;
        let id = |key: &str, bad: &'static str| match document.string(key) {
            Ok(said) if said.as_ref().is_none_or(|id| id.len() <= MAX_ID) => Ok(said.filter(|id| !id.is_empty())),
            _ => Err(bad),
        };
        let issuer = id("iss", "has an `iss` that is no name")?.ok_or("does not say who issued it")?;
        let subject = id("sub", "has a `sub` that is no name")?.ok_or("does not say whom it is about")?;
        let time = |key: &str, bad| document.raw(key).map(|raw| numeric_date(raw).ok_or(bad)).transpose();
        let audiences = strings(&document, "aud").ok_or("has an `aud` that is no list of names")?;
        if audiences.len() > MAX_AUDIENCES {
            return Err("is for too many");
        }
        Ok(Claims {
            issuer,
            subject,
            audiences,
            expires_s: time("exp", "has an `exp` that is no time")?.ok_or("does not say when it ends")?,
            not_before_s: time("nbf", "has an `nbf` that is no time")?,
            issued_s: time("iat", "has an `iat` that is no time")?,
            id: id("jti", "has a `jti` that is no name")?,
            client_id: match id("client_id", "has a `client_id` that is no name")? {
                Some(id) => Some(id),
                None => id("azp", "has an `azp` that is no name")?,
            },
            scopes: scopes(&document).ok_or("has scopes that are neither text nor a list")?,
            name: name(&document),
            text: text.to_owned(),
        })
    }

    /// Another claim that is a string, as the `nonce` of an id token.
    pub fn string(&self, key: &str) -> Option<String> {
        Document::read(&self.text).ok()?.string(key).ok()?
    }

    /// Whether this is what a client signed to show us who it is (RFC 7523 §3): issuer and subject are the client,
    /// and all its audiences are names of ours, so that whoever else it was for cannot use it here. `rules` must
    /// hold besides, with the client as the issuer. What is left to the caller is that `id` is new.
    pub fn assert<'c>(&'c self, client_id: &str, ours: &[&str], now_s: u64) -> Result<&'c str, &'static str> {
        if self.issuer != client_id || self.subject != client_id {
            return Err("is about another client");
        }
        if self.audiences.is_empty() || !self.audiences.iter().all(|audience| ours.contains(&audience.as_str())) {
            return Err("is for somebody else");
        }
        if self.expires_s > now_s.saturating_add(MAX_ASSERTION_S + MAX_LEEWAY_S) {
            return Err("ends too late: more than five minutes from now");
        }
        self.id.as_deref().ok_or("has no `jti`")
    }
}

/// A time in seconds since 1970; fractions are allowed (RFC 7519 §2), and cut off.
fn numeric_date(raw: &str) -> Option<u64> {
    // 2^53: beyond it not every number is one.
    const MOST: f64 = 9_007_199_254_740_992.0;
    let time: f64 = raw.parse().ok()?;
    (raw.starts_with(|c: char| c.is_ascii_digit()) && (0.0..=MOST).contains(&time)).then_some(time as u64)
}

/// A string, or a list of strings; nothing is an empty list.
fn strings(document: &Document<'_>, key: &str) -> Option<Vec<String>> {
    match document.raw(key) {
        None => Some(Vec::new()),
        Some(raw) if raw.starts_with('[') => document.strings(key).ok()?,
        Some(_) => Some(vec![document.string(key).ok()??]),
    }
}

/// What is granted. A scope that no request could ask for is left out.
pub(super) fn scopes(document: &Document<'_>) -> Option<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for said in ["scope", "scp"] {
        for text in strings(document, said)? {
            for scope in text.split(' ').filter(|scope| is_scope(scope)) {
                if all.len() < MAX_SCOPES && !all.iter().any(|s| s == scope) {
                    all.push(scope.to_owned());
                }
            }
        }
    }
    Some(all)
}

/// What to call somebody: on one line, and of a length that fits.
pub(super) fn name(document: &Document<'_>) -> Option<String> {
    let said = ["name", "preferred_username", "username"].iter().find_map(|key| document.string(key).ok()?)?;
    let name: String = said.chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// What an access token of ours says (RFC 9068 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access<'a> {
    /// Us.
    pub issuer: &'a str,
    /// The user, or the client that is its own user.
    pub subject: &'a str,
    /// The resource.
    pub audience: &'a str,
    /// The client.
    pub client_id: &'a str,
    /// What it grants.
    pub scopes: &'a [String],
    /// Its own name, random.
    pub id: &'a str,
    /// From when to when, in seconds since 1970.
    pub issued_s: u64,
    /// The end.
    pub expires_s: u64,
}

impl Access<'_> {
    /// The claims, to be signed as `at+jwt`.
    pub fn claims(&self) -> String {
        json!({
            "iss": self.issuer, "sub": self.subject, "aud": self.audience, "client_id": self.client_id,
            "scope": self.scopes.join(" "), "jti": self.id, "iat": self.issued_s, "exp": self.expires_s,
        })
        .to_string()
    }
}

/// What a client signs to show an authorization server who it is (RFC 7523 §3, `private_key_jwt`), good for
/// [`MAX_ASSERTION_S`]. `audience` is the issuer, unless it wants to be called otherwise; `id` is random.
pub fn assertion(client_id: &str, audience: &str, id: &str, now_s: u64) -> String {
    let expires_s = now_s + MAX_ASSERTION_S;
    json!({"iss": client_id, "sub": client_id, "aud": audience, "jti": id, "iat": now_s, "exp": expires_s}).to_string()
}

/// The two parts that are signed, with a key that may have a name.
pub fn to_sign(typ: &str, algorithm: Algorithm, kid: Option<&str>, claims: &str) -> String {
    let mut header = json!({"typ": typ, "alg": algorithm.as_str()});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims))
}

/// The token that they are with their signature.
pub fn with_signature(signed: &str, signature: &[u8]) -> String {
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOW_S: u64 = 1_000_000;

    fn rules() -> Rules {
        Rules { issuer: "https://as".into(), algorithms: vec![Algorithm::Rs256, Algorithm::Es256], typ: Typ::ACCESS, leeway_s: 10 }
    }

    fn good() -> Value {
        json!({"iss": "https://as", "sub": "ada", "aud": "https://h/mcp", "exp": NOW_S + 60, "iat": NOW_S, "nbf": NOW_S,
            "client_id": "c", "scope": "a b", "jti": "1"})
    }

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    fn judged(header: &str, claims: &str, rules: &Rules) -> Result<Claims, &'static str> {
        let token = token(header, claims);
        let jws = Jws::read(&token)?;
        rules.admit(&jws.header)?;
        let claims = jws.claims()?;
        rules.hold(&claims, NOW_S)?;
        Ok(claims)
    }

    #[test]
    fn a_good_token_says_what_it_says() {
        let claims = judged(r#"{"alg":"RS256","kid":"k","typ":"at+jwt"}"#, &good().to_string(), &rules()).unwrap();
        assert_eq!((claims.issuer.as_str(), claims.subject.as_str(), claims.expires_s), ("https://as", "ada", NOW_S + 60));
        assert_eq!(claims.audiences, ["https://h/mcp"]);
        assert_eq!(claims.scopes, ["a", "b"]);
        assert_eq!((claims.client_id.as_deref(), claims.id.as_deref()), (Some("c"), Some("1")));
        assert!(!format!("{claims:?}").contains("jti"));
    }

    /// What is changed of the good claims, and what comes of it (`""` for nothing).
    #[test]
    fn bad_claims_are_refused_row_by_row() {
        let null = Value::Null;
        for (key, value, expected) in [
            ("x", json!({"a": [1, {"b": null}]}), ""),
            ("iss", json!("https://as/"), "was issued by somebody else"),
            ("iss", json!("https://AS"), "was issued by somebody else"),
            ("iss", json!("https://evil"), "was issued by somebody else"),
            ("iss", json!(["https://as"]), "has an `iss` that is no name"),
            ("iss", json!(""), "does not say who issued it"),
            ("iss", null.clone(), "does not say who issued it"),
            ("sub", null.clone(), "does not say whom it is about"),
            ("sub", json!(""), "does not say whom it is about"),
            ("sub", json!(7), "has a `sub` that is no name"),
            ("sub", json!("x".repeat(MAX_ID + 1)), "has a `sub` that is no name"),
            ("exp", null.clone(), "does not say when it ends"),
            ("exp", json!("1000060"), "has an `exp` that is no time"),
            ("exp", json!(-1), "has an `exp` that is no time"),
            ("exp", json!(1e300), "has an `exp` that is no time"),
            ("exp", json!([NOW_S + 60]), "has an `exp` that is no time"),
            ("exp", json!(0), "has expired"),
            ("exp", json!(NOW_S - 10), "has expired"),
            ("exp", json!(NOW_S - 9), ""),
            ("exp", json!(NOW_S as f64 + 0.5), ""),
            ("exp", json!(9_007_199_254_740_992_u64), ""),
            ("nbf", json!(NOW_S + 10), ""),
            ("nbf", json!(NOW_S + 11), "is not valid yet"),
            ("nbf", json!("x"), "has an `nbf` that is no time"),
            ("nbf", null.clone(), ""),
            ("iat", json!(NOW_S + 11), "was issued in the future"),
            ("iat", json!(true), "has an `iat` that is no time"),
            ("iat", null.clone(), ""),
            ("aud", json!(["https://h", "account"]), ""),
            ("aud", json!([]), ""),
            ("aud", null.clone(), ""),
            ("aud", json!(7), "has an `aud` that is no list of names"),
            ("aud", json!(["a", 7]), "has an `aud` that is no list of names"),
            ("aud", json!({"a": 1}), "has an `aud` that is no list of names"),
            ("aud", json!(vec!["a"; MAX_AUDIENCES + 1]), "is for too many"),
            ("scope", json!(7), "has scopes that are neither text nor a list"),
            ("scp", json!({}), "has scopes that are neither text nor a list"),
            ("client_id", json!(7), "has a `client_id` that is no name"),
            ("jti", json!(7), "has a `jti` that is no name"),
        ] {
            let mut claims = good();
            claims[key] = value.clone();
            let told = judged(r#"{"alg":"RS256"}"#, &claims.to_string(), &rules()).err().unwrap_or_default();
            assert_eq!(told, expected, "{key}: {value}");
        }
    }

    #[test]
    fn claims_with_two_readings_are_refused() {
        let good = good().to_string();
        for bad in [
            good.replacen('{', r#"{"sub":"eve","#, 1),
            good.replacen('{', r#"{"x":1,"x":1,"#, 1),
            good.replacen('{', r#"{"s\u0075b":"eve","#, 1),
            format!("{good} {good}"),
            format!("[{good}]"),
            String::new(),
            "null".into(),
        ] {
            assert_eq!(judged(r#"{"alg":"RS256"}"#, &bad, &rules()).unwrap_err(), "holds no JSON object with each key once", "{bad}");
        }
    }

    #[test]
    fn bad_headers_are_refused_row_by_row() {
        let not_allowed = "is signed by an algorithm that is not allowed";
        for (header, expected) in [
            (r#"{"alg":"RS256","typ":"JWT","kid":"a","x5t":"b"}"#, ""),
            (r#"{"alg":"ES256","typ":"AT+JWT"}"#, ""),
            (r#"{"alg":"ES256","typ":"application/at+jwt"}"#, ""),
            (r#"{"alg":"RS256","jwk":{"kty":"oct"},"jku":"https://evil"}"#, ""),
            (r#"{"alg":"none"}"#, not_allowed),
            (r#"{"alg":"None"}"#, not_allowed),
            (r#"{"alg":""}"#, not_allowed),
            (r#"{"alg":"HS256"}"#, not_allowed),
            (r#"{"alg":"HS512","kid":"k"}"#, not_allowed),
            (r#"{"alg":"PS256"}"#, not_allowed),
            (r#"{"alg":"EdDSA"}"#, not_allowed),
            (r#"{"alg":["RS256"]}"#, "has a header of which a field is no string"),
            (r#"{"alg":"RS256","kid":7}"#, "has a header of which a field is no string"),
            (r#"{"alg":"RS256","typ":7}"#, "has a header of which a field is no string"),
            (r#"{}"#, "does not say how it is signed"),
            (r#"{"alg":null}"#, "does not say how it is signed"),
            (r#"{"alg":"RS256","crit":["exp"],"exp":1}"#, "asks for an extension of JWS"),
            (r#"{"alg":"RS256","crit":[]}"#, "asks for an extension of JWS"),
            (r#"{"alg":"RS256","crit":null}"#, "asks for an extension of JWS"),
            (r#"{"alg":"RS256","\u0063rit":["b64"],"b64":false}"#, "asks for an extension of JWS"),
            (r#"{"alg":"RS256","alg":"none"}"#, "has a header that is no JSON object with each key once"),
            (r#"{"alg":"RS256","typ":"oauth-id-jag+jwt"}"#, "is for something else, by its `typ`"),
            (r#"{"alg":"RS256","typ":"dpop+jwt"}"#, "is for something else, by its `typ`"),
            (r#"{"alg":"RS256","typ":"client-authentication+jwt"}"#, "is for something else, by its `typ`"),
            ("[]", "has a header that is no JSON object with each key once"),
            ("x", "has a header that is no JSON object with each key once"),
        ] {
            let told = judged(header, &good().to_string(), &rules()).err().unwrap_or_default();
            assert_eq!(told, expected, "{header}");
        }
    }

    #[test]
    fn a_type_that_is_asked_for_must_be_there() {
        let strict = Rules { typ: Typ::Exactly("at+jwt".into()), ..rules() };
        for (header, passes) in [
            (r#"{"alg":"RS256","typ":"at+jwt"}"#, true),
            (r#"{"alg":"RS256","typ":"application/at+JWT"}"#, true),
            (r#"{"alg":"RS256","typ":"JWT"}"#, false),
            (r#"{"alg":"RS256"}"#, false),
        ] {
            assert_eq!(judged(header, &good().to_string(), &strict).is_ok(), passes, "{header}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = token(r#"{"alg":"RS256"}"#, &good().to_string());
        assert!(Jws::read(&good).is_ok());
        for bad in [
            String::new(),
            ".".into(),
            "..".into(),
            "a.b.c".into(),
            "garbage".into(),
            good.replacen('.', "", 1),
            format!("{good}.x.y"),
            format!(" {good}"),
            format!("{good}!"),
            format!("{good}=="),
            good.replacen('.', "=.", 1),
            good.replacen('.', "+.", 1),
            token("\u{0}", "{}"),
            format!("{}.{}.", URL_SAFE_NO_PAD.encode([0xff, 0xfe]), URL_SAFE_NO_PAD.encode("{}")),
            format!("{good}{}", "A".repeat(MAX_TOKEN)),
        ] {
            assert!(Jws::read(&bad).is_err(), "{bad:.80}");
        }
    }

    #[test]
    fn leeway_has_a_bound() {
        let rules = Rules { leeway_s: 100_000, ..rules() };
        let at = |exp: u64| {
            let mut claims = good();
            claims["exp"] = exp.into();
            judged(r#"{"alg":"RS256"}"#, &claims.to_string(), &rules).is_ok()
        };
        assert!(at(NOW_S - 59) && !at(NOW_S - 60));
    }

    #[test]
    fn scopes_and_names_are_taken_from_where_servers_put_them() {
        let read = |more: Value| {
            let mut claims = json!({"iss": "i", "sub": "s", "exp": 1});
            for (key, value) in more.as_object().unwrap() {
                claims[key] = value.clone();
            }
            Claims::read(&claims.to_string()).unwrap()
        };
        for (said, expected) in [
            (json!({"scope": "a b"}), vec!["a", "b"]),
            (json!({"scope": "  a  b "}), vec!["a", "b"]),
            (json!({"scp": "a b"}), vec!["a", "b"]),
            (json!({"scp": ["a", "b"]}), vec!["a", "b"]),
            (json!({"scope": ["a b", "b"]}), vec!["a", "b"]),
            (json!({"scope": "a", "scp": ["b", "a"]}), vec!["a", "b"]),
            (json!({"scope": "a \"b\" c\\ d\te ü"}), vec!["a"]),
            (json!({"scope": ""}), vec![]),
            (json!({}), vec![]),
        ] {
            assert_eq!(read(said.clone()).scopes, expected, "{said}");
        }
        assert_eq!(read(json!({"azp": "z"})).client_id.as_deref(), Some("z"));
        assert_eq!(read(json!({"azp": "z", "client_id": "c"})).client_id.as_deref(), Some("c"));
        assert_eq!(read(json!({"name": "Ada\n\u{7} L"})).name.as_deref(), Some("Ada L"));
        assert_eq!(read(json!({"preferred_username": "ada"})).name.as_deref(), Some("ada"));
        assert_eq!(read(json!({"name": " "})).name, None);
        assert_eq!(read(json!({"name": 7})).name, None);
        assert_eq!(read(json!({"nonce": "n"})).string("nonce").as_deref(), Some("n"));
    }

    #[test]
    fn assertions_are_judged_row_by_row() {
        let ours = ["https://h", "https://h/token"];
        for (key, value, expected) in [
            ("x", json!(1), ""),
            ("aud", json!("https://h/token"), ""),
            ("aud", json!(["https://h", "https://h/token"]), ""),
            ("aud", json!(["https://h", "https://other"]), "is for somebody else"),
            ("aud", json!("https://h/"), "is for somebody else"),
            ("aud", json!([]), "is for somebody else"),
            ("aud", Value::Null, "is for somebody else"),
            ("iss", json!("d"), "is about another client"),
            ("sub", json!("d"), "is about another client"),
            ("exp", json!(NOW_S + MAX_ASSERTION_S + MAX_LEEWAY_S), ""),
            ("exp", json!(NOW_S + MAX_ASSERTION_S + MAX_LEEWAY_S + 1), "ends too late: more than five minutes from now"),
            ("jti", Value::Null, "has no `jti`"),
            ("jti", json!(""), "has no `jti`"),
        ] {
            let mut claims: Value = serde_json::from_str(&assertion("c", "https://h", "1", NOW_S)).unwrap();
            claims[key] = value.clone();
            let claims = Claims::read(&claims.to_string()).unwrap();
            assert_eq!(claims.assert("c", &ours, NOW_S).err().unwrap_or_default(), expected, "{key}: {value}");
        }
    }

    #[test]
    fn an_assertion_of_ours_is_for_one_issuer_and_a_short_time() {
        let signed = to_sign("JWT", Algorithm::Es256, None, &assertion("me", "https://as", "1", 1_000));
        assert_eq!(with_signature(&signed, b"\xff"), format!("{signed}._w"));
        let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        assert_eq!(read(header), json!({"alg": "ES256", "typ": "JWT"}));
        let claims = read(claims);
        assert_eq!((&claims["iss"], &claims["sub"], &claims["aud"]), (&json!("me"), &json!("me"), &json!("https://as")));
        assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1_000), &json!(1_300)));
    }

    #[test]
    fn our_own_tokens_are_read_again() {
        let scopes = ["a".to_owned(), "b".to_owned()];
        let access = Access {
            issuer: "https://as",
            subject: "ada",
            audience: "https://h",
            client_id: "c",
            scopes: &scopes,
            id: "1",
            issued_s: NOW_S,
            expires_s: NOW_S + 600,
        };
        let signed = to_sign("at+jwt", Algorithm::Es256, Some("k"), &access.claims());
        let token = with_signature(&signed, b"sig");
        let jws = Jws::read(&token).unwrap();
        assert_eq!((jws.signed, jws.signature.as_slice()), (signed.as_str(), &b"sig"[..]));
        assert_eq!(jws.header, Header { algorithm: Algorithm::Es256, kid: Some("k".into()), typ: Some("at+jwt".into()) });
        let claims = jws.claims().unwrap();
        assert_eq!(Rules { typ: Typ::Exactly("at+jwt".into()), ..rules() }.hold(&claims, NOW_S), Ok(()));
        assert_eq!((claims.scopes.as_slice(), claims.id.as_deref()), (&scopes[..], Some("1")));
    }
}
