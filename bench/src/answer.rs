//! Judges one JSON-RPC answer against the call it should belong to.
//!
//! Odd: ids are compared as the bytes they were sent as, so an answer with the id "1" to a call
//! with the id 1 is wrong here, as it would be for a strict client.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fault::excerpt;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<CallResult<'a>>,
}

#[derive(Deserialize)]
struct CallResult<'a> {
    #[serde(borrow, default)]
    content: Vec<Content<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Right,
    /// A notification or a request of the server's own.
    NoAnswer,
    /// An answer to something this client did not ask.
    Stray(String),
    Wrong(String),
}

/// `message` is the text to be echoed, or nothing when any result will do.
pub(crate) fn judge(body: &[u8], id: &str, message: Option<&str>) -> Verdict {
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(body) else {
        return Verdict::Wrong(format!("id {id}: not a JSON-RPC answer: {}", excerpt(body)));
    };
    if answer.method.is_some() {
        return Verdict::NoAnswer;
    }
    if answer.id.map(RawValue::get) != Some(id) {
        return Verdict::Stray(format!("waited for id {id}, got {}", excerpt(body)));
    }
    let Some(result) = answer.result else {
        return Verdict::Wrong(format!("id {id}: an error instead of a result: {}", excerpt(body)));
    };
    match (message, &result.content[..]) {
        (None, _) => Verdict::Right,
        (Some(message), [content]) if content.text == message => Verdict::Right,
        (Some(message), _) => Verdict::Wrong(format!("id {id}: sent \"{message}\", got {}", excerpt(body))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_id_and_the_same_text_are_right() {
        let body = br#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"a\u0062"}],"isError":false}}"#;
        assert_eq!(judge(body, "7", Some("ab")), Verdict::Right);
        assert!(matches!(judge(body, "7", Some("ax")), Verdict::Wrong(_)));
        assert!(matches!(judge(body, "8", Some("ab")), Verdict::Stray(_)));
        let quoted = br#"{"jsonrpc":"2.0","id":"7","result":{"content":[{"type":"text","text":"ab"}]}}"#;
        assert!(matches!(judge(quoted, "7", Some("ab")), Verdict::Stray(_)));
    }

    #[test]
    fn errors_are_wrong_and_notifications_are_nothing() {
        let error = br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}"#;
        assert!(matches!(judge(error, "1", None), Verdict::Wrong(_)));
        let note = br#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
        assert_eq!(judge(note, "1", None), Verdict::NoAnswer);
        assert!(matches!(judge(b"<html>", "1", None), Verdict::Wrong(_)));
    }
}
