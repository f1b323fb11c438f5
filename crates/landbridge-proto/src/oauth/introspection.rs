//! What an authorization server says of a token that it is asked about (RFC 7662 §2.2).
//!
//! Odd: little of it must be said. Who is meant is taken from what there is, so that a client that acts for
//! itself has a subject too.

use super::document::Document;
use super::jwt::{Claims, Rules};
use crate::json;

/// Longest time that an answer without an end is believed, in seconds.
const SILENT_S: u64 = 60;

/// What is said of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Introspected {
    /// It is good, for now, and says this. Where its end is not said, it is a minute from now.
    Active(Box<Claims>),
    /// It is not, or not any more; why is nobody's business.
    Inactive,
}

impl Introspected {
    /// Reads an answer. `rules` are those of its issuer; what they do not hold for is not active. The error says
    /// what is wrong with the answer: then nothing is known of the token.
    pub fn read(text: &str, rules: &Rules, now_s: u64) -> Result<Introspected, String> {
        let document = Document::read(text)?;
        match document.raw("active") {
            Some("true") => {}
            Some("false") => return Ok(Introspected::Inactive),
            _ => return Err("`active` is neither true nor false".into()),
        }
        // What a token would have to say itself is known by whom was asked.
        let mut more = Vec::new();
        let mut add = |key: &str, value: String| more.push(format!("{}:{value}", json::quote(key)));
        if document.raw("iss").is_none() {
            add("iss", json::quote(&rules.issuer));
        }
        if document.raw("exp").is_none() {
            add("exp", (now_s + SILENT_S).to_string());
        }
        if document.raw("sub").is_none() {
            let who = ["username", "client_id"].iter().find_map(|key| document.string(key).ok()?);
            add("sub", json::quote(&who.ok_or("neither `sub` nor `username` nor `client_id` is there")?));
        }
        let claims = Claims::read(&with(text, &more)).map_err(|e| format!("the token {e}"))?;
        Ok(match rules.hold(&claims, now_s) {
            Ok(()) => Introspected::Active(Box::new(claims)),
            Err(_) => Introspected::Inactive,
        })
    }
}

/// An object with more members, none of which it has with a value.
fn with(text: &str, more: &[String]) -> String {
    let Ok(members) = json::members(text) else { return text.to_owned() };
    let had = members.into_iter().filter(|(_, value)| *value != "null").map(|(key, value)| format!("{}:{value}", json::quote(&key)));
    format!("{{{}}}", had.chain(more.iter().cloned()).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::super::jwt::Typ;
    use super::*;

    const NOW_S: u64 = 1_000_000;

    fn read(text: &str) -> Result<Introspected, String> {
        let rules = Rules { issuer: "https://as".into(), algorithms: vec![], typ: Typ::ACCESS, leeway_s: 10 };
        Introspected::read(text, &rules, NOW_S)
    }

    fn active(text: &str) -> Claims {
        match read(text) {
            Ok(Introspected::Active(claims)) => *claims,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn an_active_token_says_what_it_says() {
        let claims = active(
            r#"{"active":true,"iss":"https://as","sub":"ada","exp":1000060,"aud":["https://h"],"scope":"a b","client_id":"c","username":"Ada","nbf":null}"#,
        );
        assert_eq!((claims.subject.as_str(), claims.expires_s, claims.name.as_deref()), ("ada", 1_000_060, Some("Ada")));
        assert_eq!((claims.audiences, claims.scopes), (vec!["https://h".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn what_is_not_said_is_known_by_whom_was_asked() {
        let claims = active(r#"{"active":true,"client_id":"c","sub":null,"exp":null}"#);
        assert_eq!((claims.issuer.as_str(), claims.subject.as_str(), claims.expires_s), ("https://as", "c", NOW_S + 60));
        assert_eq!(active(r#"{"active":true,"client_id":"c","username":"u\"x"}"#).subject, "u\"x");
        assert_eq!(claims.audiences, Vec::<String>::new());
    }

    #[test]
    fn what_is_not_good_is_not_active() {
        for text in [
            r#"{"active":false}"#,
            r#"{"active":false,"sub":7,"exp":"x"}"#,
            r#"{"active":true,"sub":"a","exp":999990}"#,
            r#"{"active":true,"sub":"a","nbf":1000011}"#,
            r#"{"active":true,"sub":"a","iat":1000011}"#,
            r#"{"active":true,"sub":"a","iss":"https://other"}"#,
        ] {
            assert_eq!(read(text), Ok(Introspected::Inactive), "{text}");
        }
    }

    #[test]
    fn what_is_no_answer_says_nothing_of_the_token() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"active":"true"}"#,
            r#"{"active":1,"sub":"a"}"#,
            r#"{"active":null}"#,
            r#"{"active":false,"active":true,"sub":"a"}"#,
            r#"{"active":true}"#,
            r#"{"active":true,"sub":7}"#,
            r#"{"active":true,"sub":"a","exp":"soon"}"#,
            r#"{"error":"invalid_client"}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
