//! The object walk against serde_json: what both read must be the same thing, in the same place.
//!
//! Odd: serde_json's own map lets the last of two equal keys win, so agreement is only asked for
//! where ours found no duplicates.

#![no_main]

use landbridge_proto::json::{self, Unreadable};
use landbridge_proto::message::Message;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let mut found = [None; 3];
    let read = json::fields(text, &["id", "method", "params"], &mut found);
    let theirs = serde_json::from_str::<Value>(text);
    match (&read, &theirs) {
        (Ok(()), Ok(Value::Object(map))) => {
            for (key, at) in ["id", "method", "params"].into_iter().zip(found) {
                let ours = at.map(|at| serde_json::from_slice::<Value>(at.of_bytes(text.as_bytes())).expect("a span is a value"));
                assert_eq!(ours.as_ref(), map.get(key));
            }
        }
        // It reads deeper and larger than a tree of values can be built for.
        (Ok(()), Err(_)) => {}
        (Ok(()), Ok(other)) => panic!("no object: {other}"),
        (Err(Unreadable::NotAnObject), Ok(value)) => assert!(!value.is_object()),
        (Err(Unreadable::Syntax(why)), Ok(value)) => assert!(!value.is_object(), "{why}"),
        (Err(_), _) => {}
    }
    // As a part of a message it is not validated again, and read alike.
    let whole = format!(r#"{{"jsonrpc":"2.0","method":"x","params":{text}}}"#);
    if let (Ok(()), Ok(message)) = (&read, Message::read(whole.into())) {
        let within = message.params_fields(&["id", "method", "params"]).expect("the same object");
        for (within, alone) in within.into_iter().zip(found) {
            assert_eq!(within.map(|at| message.text(at).as_bytes()), alone.map(|at| at.of_bytes(text.as_bytes())));
        }
    }
    if let (Ok(()), Some(at)) = (&read, found[0]) {
        let new = json::splice(text.as_bytes(), &[(at, b"\"new\"")]);
        assert!(!new.contains(&b'\n') && !new.contains(&b'\r'));
        let range = at.range();
        assert_eq!(new.len(), text.len() - range.len() + 5);
        let new = std::str::from_utf8(&new).expect("still text");
        let mut again = [None; 3];
        json::fields(new, &["id", "method", "params"], &mut again).expect("still an object");
        assert_eq!(again[0].map(|at| at.of_bytes(new.as_bytes()).to_vec()), Some(b"\"new\"".to_vec()));
    }
    if let Ok(members) = json::members(text) {
        let mut keys: Vec<_> = members.iter().map(|(k, _)| k.clone()).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), members.len());
    }
    let _ = json::elements(text, 10);
    if let Some(string) = json::string(text.as_bytes())
        && serde_json::from_str::<Value>(text).is_ok()
    {
        assert_eq!(serde_json::from_str::<String>(text).ok().as_deref(), Some(&*string));
    }
});
