//! The mark by which a notification of 2026-07-28 names its `subscriptions/listen`.

use bytes::Bytes;

use super::{own, write_object};
use crate::json::{self, Span};
use crate::message::META_SUBSCRIPTION;

/// A notification of a stateless server without the mark of its subscription.
pub fn untag(message: &Bytes) -> Bytes {
    let strip = || {
        let m = crate::message::Message::read(message.clone()).ok()?;
        let [meta] = m.params_fields(&["_meta"]).ok()?;
        let meta = meta?;
        let members = json::members(m.text(meta)).ok()?;
        let kept = write_object(members.into_iter().filter(|(k, _)| k != META_SUBSCRIPTION).map(own));
        Some(json::splice(message, &[(meta, &kept)]).into())
    };
    strip().unwrap_or_else(|| message.clone())
}

/// A notification marked as belonging to the `subscriptions/listen` with the id `listen`.
pub fn tag(message: &Bytes, listen: &[u8]) -> Bytes {
    let mark = [b"\"", META_SUBSCRIPTION.as_bytes(), b"\":", listen].concat();
    let plain = untag(message);
    let Ok(m) = crate::message::Message::read(plain.clone()) else { return plain };
    let spliced = match (m.params, m.params_fields(&["_meta"])) {
        (Some(_), Ok([Some(meta)])) => {
            let old = meta.of_bytes(&m.bytes);
            let comma: &[u8] = if memchr::memchr(b'"', old).is_some() { b"," } else { b"" };
            json::splice(&plain, &[(Span::inside(old).within(meta), &[&mark, comma].concat())])
        }
        (Some(params), _) => {
            let old = params.of_bytes(&m.bytes);
            let comma: &[u8] = if memchr::memchr(b'"', old).is_some() { b"," } else { b"" };
            let new = [b"\"_meta\":{", &mark[..], b"}", comma].concat();
            json::splice(&plain, &[(Span::inside(old).within(params), &new)])
        }
        (None, _) => {
            let new = [b"\"params\":{\"_meta\":{", &mark[..], b"}},"].concat();
            json::splice(&plain, &[(Span::inside(&plain), &new)])
        }
    };
    spliced.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_subscriptions_come_and_go() {
        let note = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
        let tagged = tag(&note, b"7");
        assert_eq!(
            &tagged[..],
            br#"{"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}},"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#
        );
        let again = tag(&tagged, b"\"x\"");
        assert!(memchr::memmem::find(&again, b"subscriptionId\":\"x\"}").is_some());
        assert!(memchr::memmem::find(&again, b":7").is_none());
    }
}
