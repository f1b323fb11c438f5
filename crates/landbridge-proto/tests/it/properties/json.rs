//! The object walk and the splice against serde_json's tree of values.

use std::collections::BTreeSet;

use landbridge_proto::json::{Span, Unreadable, elements, fields, members, quote, splice, string};
use landbridge_proto::message::Message;
use proptest::prelude::*;
use serde_json::Value;

const KEYS: [&str; 3] = ["id", "params", "é"];

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?",
        any::<String>().prop_map(|s| quote(&s)),
        Just(r#""\u0061\ud83d\ude00\n\"""#.to_owned()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let space = "[ \t\n\r]{0,2}";
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..4), space).prop_map(|(v, s)| format!("[{s}{}{s}]", v.join(&format!("{s},")))),
            (prop::collection::vec((key(), inner), 0..4), space).prop_map(|(m, s)| object(&m, s.as_str())),
        ]
    })
}

/// Few keys, so that they meet; some with an escape in them.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec![r#""id""#, r#""i\u0064""#, r#""params""#, r#""é""#, r#""\u00e9""#, r#""other""#, r#""""#]).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|s| quote(&s)),
    ]
}

fn object(members: &[(String, String)], space: &str) -> String {
    let members: Vec<String> = members.iter().map(|(k, v)| format!("{space}{k}{space}:{space}{v}{space}")).collect();
    format!("{{{}}}", members.join(","))
}

fn any_object() -> impl Strategy<Value = String> {
    (prop::collection::vec((key(), value()), 0..6), "[ \t\n\r]{0,2}").prop_map(|(m, s)| format!("{s}{}{s}", object(&m, &s)))
}

/// The decoded keys, as they are written: the tree forgets those that came twice.
fn keys_of(text: &str) -> Option<Vec<String>> {
    let raw: Vec<(String, String)> = {
        struct Pairs(Vec<(String, String)>);
        impl<'de> serde::Deserialize<'de> for Pairs {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Pairs, D::Error> {
                struct V;
                impl<'de> serde::de::Visitor<'de> for V {
                    type Value = Pairs;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                        let mut all = Vec::new();
                        while let Some((key, value)) = map.next_entry::<String, Box<serde_json::value::RawValue>>()? {
                            all.push((key, value.get().to_owned()));
                        }
                        Ok(Pairs(all))
                    }
                }
                d.deserialize_map(V)
            }
        }
        serde_json::from_str::<Pairs>(text).ok()?.0
    };
    Some(raw.into_iter().map(|(k, _)| k).collect())
}

fn find(text: &str) -> (Result<(), Unreadable>, [Option<Span>; 3]) {
    let mut found = [None; 3];
    (fields(text, &KEYS, &mut found), found)
}

proptest! {
    /// What has been validated as a part of something larger is read as it would be by itself.
    #[test]
    fn a_part_is_read_as_the_whole(params in any_object(), space in "[ \t\n\r]{0,2}") {
        let text = format!(r#"{{"jsonrpc":"2.0","params":{space}{params}{space},"method":"x"}}"#);
        let message = Message::read(text.into()).expect("a message");
        let mut alone = [None; 3];
        let whole = fields(&params, &KEYS, &mut alone);
        let within = message.params_fields(&KEYS);
        prop_assert_eq!(within.as_ref().err(), whole.as_ref().err());
        if let Ok(within) = within {
            for (within, alone) in within.into_iter().zip(alone) {
                prop_assert_eq!(within.map(|at| message.text(at)), alone.map(|at| &params[at.range()]));
            }
        }
    }

    /// Spans hold what the tree holds, and duplicates in any spelling are refused.
    #[test]
    fn fields_agree_with_the_tree(text in any_object()) {
        let (read, found) = find(&text);
        let keys = keys_of(&text).expect("an object was generated");
        let twice = keys.iter().collect::<BTreeSet<_>>().len() < keys.len();
        match read {
            Ok(()) => {
                prop_assert!(!twice, "a key came twice");
                if let Ok(tree) = serde_json::from_str::<Value>(&text) {
                    for (key, at) in KEYS.iter().zip(found) {
                        let ours = at.map(|at| serde_json::from_slice::<Value>(at.of_bytes(text.as_bytes())).unwrap());
                        prop_assert_eq!(ours.as_ref(), tree.get(key));
                    }
                }
                let listed: Vec<String> = members(&text).unwrap().into_iter().map(|(k, _)| k.into_owned()).collect();
                prop_assert_eq!(listed, keys);
            }
            Err(Unreadable::Duplicate(key)) => prop_assert!(keys.iter().filter(|k| **k == key).count() > 1),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    /// After a splice the new values are there, and all other bytes are what and where they were.
    #[test]
    fn a_splice_changes_its_places_only(text in any_object(), new in value()) {
        let (Ok(()), found) = find(&text) else { return Ok(()) };
        let mut edits: Vec<(Span, &[u8])> = found.iter().flatten().map(|at| (*at, new.as_bytes())).collect();
        edits.sort_by_key(|(at, _)| at.start());
        let spliced = splice(text.as_bytes(), &edits);
        let plain = |t: &str| t.replace(['\n', '\r'], " ");
        let mut expected = String::new();
        let mut at = 0;
        for (span, _) in &edits {
            expected += &text[at..span.range().start];
            expected += &new;
            at = span.range().end;
        }
        expected += &text[at..];
        let spliced = String::from_utf8(spliced).unwrap();
        prop_assert_eq!(&spliced, &plain(&expected));
        let (again, places) = find(&spliced);
        prop_assert_eq!(again, Ok(()));
        for (before, after) in found.iter().zip(places) {
            prop_assert_eq!(before.map(|_| plain(&new)), after.map(|at| spliced[at.range()].to_owned()));
        }
    }

    /// Whatever the text: both refuse it or both read it; and nothing panics.
    #[test]
    fn any_text_is_read_or_refused(text in "[{}\\[\\]:,\"a\\\\u01e+\\- .\n]{0,24}") {
        let (read, _) = find(&text);
        match serde_json::from_str::<Box<serde_json::value::RawValue>>(&text) {
            Ok(raw) if raw.get().starts_with('{') => prop_assert!(matches!(read, Ok(()) | Err(Unreadable::Duplicate(_)))),
            Ok(_) => prop_assert_eq!(read, Err(Unreadable::NotAnObject)),
            Err(_) => prop_assert!(read.is_err()),
        }
        let _ = elements(&text, 5);
        let _ = string(text.as_bytes());
    }

    #[test]
    fn strings_round_trip(text in any::<String>()) {
        let quoted = quote(&text);
        let read = string(quoted.as_bytes());
        prop_assert_eq!(read.as_deref(), Some(text.as_str()));
    }
}
