//! What clients hold: it opens as it was sealed and in no other way, and nothing else opens at all.

#![no_main]

use arbitrary::Arbitrary;
use landbridge_proto::sealed::{Keys, Purpose};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    keys: [[u8; 32]; 3],
    task: bool,
    bound_to: Vec<&'a [u8]>,
    plain: &'a [u8],
    others: Vec<&'a [u8]>,
    /// A change to one character of the sealed form.
    at: u16,
    to: u8,
    /// What a client may make up.
    text: &'a str,
}

fuzz_target!(|input: Input<'_>| {
    let [first, second, third] = input.keys;
    let mut keys = Keys::new(first);
    let (purpose, other) = match input.task {
        true => (Purpose::Task, Purpose::RequestState),
        false => (Purpose::RequestState, Purpose::Task),
    };
    assert_eq!(keys.open(purpose, &input.bound_to, input.text), None, "a forgery");
    let Some(sealed) = keys.seal(purpose, &input.bound_to, input.plain) else {
        return assert!(input.plain.len() > 4_000, "a small value is not sealed");
    };
    let open = |keys: &Keys, sealed: &str| keys.open(purpose, &input.bound_to, sealed);
    assert_eq!(open(&keys, &sealed).as_deref(), Some(input.plain));
    assert_eq!(keys.open(other, &input.bound_to, &sealed), None, "for something else");
    if input.others != input.bound_to {
        assert_eq!(keys.open(purpose, &input.others, &sealed), None, "bound to something else");
    }
    // Neither changed nor shortened nor with more behind it.
    let mut changed = sealed.clone().into_bytes();
    let at = usize::from(input.at) % changed.len();
    changed[at] = input.to & 0x7f;
    let changed = String::from_utf8(changed).expect("ASCII");
    if changed != sealed {
        assert_eq!(open(&keys, &changed), None, "a forgery");
    }
    assert_eq!(open(&keys, &sealed[..at]), None, "a part of it");
    if !input.text.is_empty() {
        assert_eq!(open(&keys, &format!("{sealed}{}", input.text)), None, "with more behind it");
    }
    // A key serves for two turns.
    keys.rotate(second);
    assert_eq!(open(&keys, &sealed).as_deref(), Some(input.plain));
    keys.rotate(third);
    if first != second && first != third {
        assert_eq!(open(&keys, &sealed), None, "a key that is gone");
    }
});
