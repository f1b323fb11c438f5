//! What a client holds of ours, sealed: `requestState` and task ids. And what we keep where others may read it.
//!
//! ```text
//!   seal(purpose, bound to, plain) ──▶ base64url(version · AES-256-GCM-SIV(plain))
//! ```
//!
//! A sealed value opens only under a key of ours and only together with what it was bound to (a
//! principal, a server), so nothing a client sends back is trusted or guessable. Odd: sealing is
//! deterministic. The mode is safe without a fresh nonce (RFC 8452), so the same task id has the
//! same sealed form each time, and this crate needs no randomness.

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest sealed value that is looked at, of those that clients hold.
const MAX_SEALED: usize = 8 * 1024;
/// The same of what we keep ourselves.
const MAX_KEPT: usize = 192 * 1024;
/// The form of what is sealed, for a day when there is another.
const VERSION: u8 = 1;

/// What a sealed value is for. One of one purpose never passes for one of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `requestState` of a call that waits for its client's answers.
    RequestState,
    /// `taskId` of a task at a server that several clients use.
    Task,
    /// `nextCursor` of a listing of several servers.
    Cursor,
    /// A user's tokens at a server elsewhere, in our store.
    Vault,
}

impl Purpose {
    fn longest(self) -> usize {
        match self {
            Purpose::RequestState | Purpose::Task | Purpose::Cursor => MAX_SEALED,
            Purpose::Vault => MAX_KEPT,
        }
    }
}

/// The keys: one to seal with, and those before it that still open.
pub struct Keys {
    current: Aes256GcmSiv,
    previous: Option<Aes256GcmSiv>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// A first key of 32 random bytes.
    pub fn new(key: [u8; 32]) -> Keys {
        Keys { current: Aes256GcmSiv::new(&key.into()), previous: None }
    }

    /// Seals with a new key from now on. What the last one sealed still opens; what the one before
    /// that sealed does not.
    pub fn rotate(&mut self, key: [u8; 32]) {
        let old = std::mem::replace(&mut self.current, Aes256GcmSiv::new(&key.into()));
        self.previous = Some(old);
    }

    /// Seals `plain`. It opens again only with the same purpose and `bound_to`. `None` only for
    /// values beyond any limit of ours.
    pub fn seal(&self, purpose: Purpose, bound_to: &[&[u8]], plain: &[u8]) -> Option<String> {
        let aad = associated(purpose, bound_to);
        let sealed = self.current.encrypt(&Nonce::default(), Payload { msg: plain, aad: &aad }).ok()?;
        let whole = [&[VERSION][..], &sealed].concat();
        let text = URL_SAFE_NO_PAD.encode(whole);
        (text.len() <= purpose.longest()).then_some(text)
    }

    /// What was sealed; `None` if it was changed, made elsewhere, or is bound to something else.
    pub fn open(&self, purpose: Purpose, bound_to: &[&[u8]], sealed: &str) -> Option<Vec<u8>> {
        if sealed.len() > purpose.longest() {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (version, sealed) = whole.split_first()?;
        if *version != VERSION {
            return None;
        }
        let aad = associated(purpose, bound_to);
        let open = |key: &Aes256GcmSiv| key.decrypt(&Nonce::default(), Payload { msg: sealed, aad: &aad }).ok();
        open(&self.current).or_else(|| open(self.previous.as_ref()?))
    }
}

/// Every part behind its length, so that two lists of parts never read alike.
fn associated(purpose: Purpose, bound_to: &[&[u8]]) -> Vec<u8> {
    let mut aad = vec![VERSION, purpose as u8];
    for part in bound_to {
        aad.extend_from_slice(&(part.len() as u64).to_le_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: Purpose = Purpose::RequestState;

    #[test]
    fn opens_only_as_it_was_sealed() {
        let keys = Keys::new([7; 32]);
        let sealed = keys.seal(STATE, &[b"ada", b"srv"], b"secret").unwrap();
        assert_eq!(keys.open(STATE, &[b"ada", b"srv"], &sealed).unwrap(), b"secret");
        assert_eq!(keys.seal(STATE, &[b"ada", b"srv"], b"secret").unwrap(), sealed, "the same each time");
        for (purpose, bound) in [
            (STATE, &[&b"bob"[..], b"srv"][..]),
            (STATE, &[b"ada", b"other"]),
            (STATE, &[b"adas", b"rv"]),
            (STATE, &[b"ada"]),
            (STATE, &[b"srv", b"ada"]),
            (Purpose::Task, &[b"ada", b"srv"]),
        ] {
            assert_eq!(keys.open(purpose, bound, &sealed), None);
        }
        assert!(!sealed.contains("secret"));
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let keys = Keys::new([7; 32]);
        let sealed = keys.seal(STATE, &[], b"state").unwrap();
        for at in 0..sealed.len() {
            let mut other = sealed.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys.open(STATE, &[], std::str::from_utf8(&other).unwrap()), None, "at {at}");
        }
        for other in ["", "A", "AQ", "====", &sealed[1..], &format!("{sealed}-TAMPERED"), &"A".repeat(MAX_SEALED + 1)] {
            assert_eq!(keys.open(STATE, &[], other), None);
        }
        assert_eq!(keys.seal(STATE, &[], &[0; MAX_SEALED]), None);
    }

    #[test]
    fn keys_age() {
        let mut keys = Keys::new([1; 32]);
        let sealed = keys.seal(STATE, &[], b"x").unwrap();
        keys.rotate([2; 32]);
        assert_eq!(keys.open(STATE, &[], &sealed).unwrap(), b"x");
        assert_ne!(keys.seal(STATE, &[], b"x").unwrap(), sealed);
        keys.rotate([3; 32]);
        assert_eq!(keys.open(STATE, &[], &sealed), None);
    }
}
