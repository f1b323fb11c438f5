//! Accounts of our own: a name and a password.
//!
//! A password is kept as argon2id, which takes 19 MiB and some hundredths of a second on purpose. So it is computed
//! on threads that may block, few at a time ([`Desk`]), and for unknown names as well: how long an
//! answer takes does not say whether there is such an account. Records are text; who stores them is the caller.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use landbridge_proto::oauth::admission::Identity;
use landbridge_proto::oauth::secret::Hash;
use landbridge_proto::oauth::tries::{ACCOUNT, ADDRESS, Tries};

use crate::arrival::network;
use crate::backend::lock;
use crate::login::{Blame, Trouble};

/// Shortest password, in characters (NIST SP 800-63B §5.1.1.2), and longest, in bytes.
pub const MIN_PASSWORD: usize = 8;
/// See [`MIN_PASSWORD`].
pub const MAX_PASSWORD: usize = 1024;
/// Longest name.
pub const MAX_NAME: usize = 64;
/// Longest record that is read.
const MAX_RECORD: usize = 4 * 1024;
/// Passwords that are computed at once, 19 MiB each, and that may wait for it.
const AT_ONCE: usize = 2;
const WAITING: usize = 64;
/// For one's turn to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// What generated passwords are made of: nothing that looks like something else.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// An account, as it is kept under its name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What its user logs in with. Together with when it was made, this is who they are.
    pub name: String,
    /// The password, as a PHC string (`$argon2id$…`).
    password: String,
    /// When it was made, in seconds since 1970.
    pub since_s: u64,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("name", &self.name).field("since_s", &self.since_s).finish_non_exhaustive()
    }
}

impl Account {
    /// A new account, or one with a new password. Takes its time; `salt` is random. The error is for whoever makes it.
    pub fn new(name: &str, password: &str, salt: [u8; 16], now_s: u64) -> Result<Account, String> {
        let name = proper_name(name)?;
        proper_password(password, &name)?;
        Ok(Account { name, password: hash(password, salt)?, since_s: now_s })
    }

    /// Reads what `to_json` writes. The error fits after "the account ".
    pub fn read(text: &str) -> Result<Account, String> {
        if text.len() > MAX_RECORD {
            return Err("is too long".into());
        }
        serde_json::from_str(text).map_err(|e| format!("cannot be read: {e}"))
    }

    /// As JSON text.
    pub fn to_json(&self) -> String {
        let quote = landbridge_proto::json::quote;
        format!("{{\"name\":{},\"password\":{},\"since_s\":{}}}", quote(&self.name), quote(&self.password), self.since_s)
    }

    /// What is another with every password, and for every account of the name; says nothing of either.
    pub fn edition(&self) -> String {
        Hash::of(&self.to_json()).to_string()
    }

    /// Whether this is its password. Takes its time: not on a thread of the runtime.
    pub fn verify(&self, password: &str) -> bool {
        is_of(password, &self.password)
    }

    /// Its user, where `issuer` is ours.
    pub fn identity(&self, issuer: &str) -> Identity {
        // Another account of the same name is somebody else, and finds nothing of the one before.
        let subject = format!("{}/{}", self.name, self.since_s);
        Identity { issuer: issuer.into(), subject, login: Some(self.name.clone()), ..Identity::default() }
    }
}

/// A name as it is kept: telephones begin it with a capital and end it with a space. The error fits after "a user ".
pub fn proper_name(name: &str) -> Result<String, &'static str> {
    let name = name.trim().to_ascii_lowercase();
    if name.is_empty() || name.len() > MAX_NAME {
        return Err("name has 1 to 64 characters");
    }
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)) {
        return Err("name has the letters a to z, digits, `.`, `_` and `-`");
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("name begins with a letter or a digit");
    }
    Ok(name)
}

/// Whether a password may be one. The error is for whoever chose it.
pub fn proper_password(password: &str, name: &str) -> Result<(), &'static str> {
    if password.chars().count() < MIN_PASSWORD {
        return Err("a password has at least 8 characters");
    }
    if password.len() > MAX_PASSWORD {
        return Err("a password has at most 1024 bytes");
    }
    if password.eq_ignore_ascii_case(name) {
        return Err("a password is not the user's name");
    }
    Ok(())
}

/// A password that is good, of 20 random bytes: a hundred bits, easy to read out.
pub fn generate(random: [u8; 20]) -> String {
    let letters: Vec<u8> = random.iter().map(|byte| LETTERS[usize::from(byte % 32)]).collect();
    let groups: Vec<String> = letters.chunks(5).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    groups.join("-")
}

/// What OWASP recommends at least: 19 MiB, twice.
fn argon2id() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn hash(password: &str, salt: [u8; 16]) -> Result<String, String> {
    let hash = argon2id().hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|e| format!("the password cannot be hashed: {e}"))
}

fn is_of(password: &str, hash: &str) -> bool {
    password.len() <= MAX_PASSWORD && argon2id().verify_password(password.as_bytes(), hash).is_ok()
}

/// Where names and passwords are looked at: a few at a time, and nobody too often.
#[derive(Debug)]
pub struct Desk {
    /// Of nobody, so that unknown names take as long.
    nobody: String,
    queue: Semaphore,
    turns: std::sync::Arc<Semaphore>,
    by_account: Mutex<Tries>,
    by_address: Mutex<Tries>,
}

impl Desk {
    /// Opens. Computes one password of nobody's, from random bytes.
    pub fn new(random: [u8; 32]) -> Result<Desk, String> {
        let [salt, password] = [&random[..16], &random[16..]].map(|half| <[u8; 16]>::try_from(half).unwrap_or_default());
        let password: String = password.iter().map(|b| format!("{b:02x}")).collect();
        Ok(Desk {
            nobody: hash(&password, salt)?,
            queue: Semaphore::new(AT_ONCE + WAITING),
            turns: std::sync::Arc::new(Semaphore::new(AT_ONCE)),
            by_account: Mutex::new(Tries::new(ACCOUNT)),
            by_address: Mutex::new(Tries::new(ADDRESS)),
        })
    }

    /// Whether somebody is who they say. `account` is what is kept under `proper_name(name)`, if anything is, and
    /// `from` the address of the client. Wrong names and wrong passwords get the same answer, in the same time.
    pub async fn sign_in(
        &self,
        account: Option<Account>,
        name: &str,
        password: &str,
        from: IpAddr,
        now_s: u64,
    ) -> Result<Account, Trouble> {
        let later = |told: String| Err(Trouble::new(Blame::Later, told));
        let wrong = || Trouble::new(Blame::User, "the name or the password is wrong");
        let Ok(name) = proper_name(name) else { return Err(wrong()) };
        let (address, now) = (network(from).to_string(), Duration::from_secs(now_s));
        let Ok(_place) = self.queue.try_acquire() else {
            return later("too many people are signing in at the moment: try again in a minute".into());
        };
        // Before it counts: of many who sign in to one account at once only those count whose turn it is.
        let Ok(Ok(turn)) = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned()).await else {
            return later("too many people are signing in at the moment: try again in a minute".into());
        };
        let wait_for = |wait: Duration| later(format!("that was wrong too often: try again in {} s", wait.as_secs_f64().ceil()));
        // Embedded, we may not know who it is; then everybody would be one.
        let known = !from.is_unspecified();
        if let Err(wait) = if known { lock(&self.by_address).take(address.as_str(), now) } else { Ok(()) } {
            return wait_for(wait);
        }
        if let Err(wait) = lock(&self.by_account).take(name.as_str(), now) {
            lock(&self.by_address).give_back(address.as_str());
            return wait_for(wait);
        }
        let give_back = || {
            lock(&self.by_account).give_back(name.as_str());
            lock(&self.by_address).give_back(address.as_str());
        };
        let account = account.filter(|account| account.name == name);
        let hash = account.as_ref().map_or_else(|| self.nobody.clone(), |account| account.password.clone());
        let password = password.to_owned();
        let verified = tokio::task::spawn_blocking(move || {
            let verified = is_of(&password, &hash);
            drop(turn);
            verified
        });
        match (verified.await, account) {
            (Ok(true), Some(account)) => {
                give_back();
                Ok(account)
            }
            (Ok(_), _) => Err(wrong()),
            (Err(e), _) => {
                give_back();
                Err(Trouble::new(Blame::Operator, "the password could not be looked at").because(e.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn ada() -> Account {
        Account::new("ada", "correct horse", [7; 16], 100).unwrap()
    }

    #[test]
    fn another_account_of_the_same_name_is_somebody_else() {
        let account = |since_s| Account::new("ada", "correct horse", [7; 16], since_s).unwrap().identity("here");
        assert_eq!(account(1).principal(), account(1).principal());
        assert_ne!(account(1).principal(), account(2).principal());
        assert_eq!(account(1).called(), "ada");
    }

    #[test]
    fn an_account_is_kept_as_text() {
        let account = ada();
        let text = account.to_json();
        assert!(text.contains("$argon2id$v=19$m=19456,t=2,p=1$") && !text.contains("horse"), "{text}");
        assert_eq!(Account::read(&text).unwrap(), account);
        assert!(account.verify("correct horse") && !account.verify("correct horsf") && !account.verify(""));
        assert!(!format!("{account:?}").contains("argon2"));
        assert_eq!(account.identity("https://us").principal(), format!("https://us#ada/{}", account.since_s));
        for bad in ["", "{}", r#"{"name":"ada","password":"x"}"#, &format!("{text}{}", " ".repeat(MAX_RECORD))] {
            assert!(Account::read(bad).is_err(), "{bad}");
        }
        // What is no hash is nobody's password.
        for odd in ["", "correct horse", "$argon2id$v=19$m=19456,t=2,p=1$", "$2b$12$abc"] {
            assert!(!Account { password: odd.into(), ..account.clone() }.verify("correct horse"), "{odd}");
        }
    }

    #[test]
    fn names_and_passwords_have_few_rules() {
        for (name, kept) in [
            ("ada", Some("ada")),
            (" Ada ", Some("ada")),
            ("a.b_c-9", Some("a.b_c-9")),
            ("", None),
            ("ada lovelace", None),
            ("ädä", None),
            (".ada", None),
            ("-", None),
            ("a/b", None),
            ("a\0", None),
            (&"a".repeat(64), Some(&"a".repeat(64))),
            (&"a".repeat(65), None),
        ] {
            assert_eq!(proper_name(name).ok().as_deref(), kept, "{name}");
        }
        for (password, proper) in [
            ("correct horse", true),
            ("12345678", true),
            ("1234567", false),
            ("ääääääää", true),
            ("ääää", false),
            ("adaadaad", false),
            ("        ", true),
            (&"x".repeat(1024), true),
            (&"x".repeat(1025), false),
        ] {
            assert_eq!(proper_password(password, "adaadaad").is_ok(), proper, "{password}");
        }
    }

    #[test]
    fn generated_passwords_are_good() {
        let password = generate(std::array::from_fn(|n| n as u8 * 13));
        assert_eq!(password.len(), 23, "{password}");
        assert!(proper_password(&password, "ada").is_ok());
        assert_eq!(generate([255; 20]), "99999-99999-99999-99999");
        assert_eq!(LETTERS.iter().collect::<std::collections::BTreeSet<_>>().len(), 32);
    }

    #[tokio::test]
    async fn who_is_wrong_too_often_waits() {
        let desk = Desk::new([3; 32]).unwrap();
        assert_eq!(desk.sign_in(Some(ada()), " Ada", "correct horse", HERE, 0).await, Ok(ada()));
        let wrong = desk.sign_in(Some(ada()), "ada", "wrong", HERE, 0).await.unwrap_err();
        assert_eq!(desk.sign_in(None, "nobody", "correct horse", HERE, 0).await.unwrap_err(), wrong);
        assert_eq!(desk.sign_in(Some(ada()), "bob", "correct horse", HERE, 0).await.unwrap_err(), wrong, "the record is another's");
        assert_eq!(desk.sign_in(None, "no body", "x", HERE, 0).await.unwrap_err(), wrong);
        let long = "x".repeat(MAX_PASSWORD + 1);
        assert_eq!(desk.sign_in(Some(ada()), "ada", &long, HERE, 0).await.unwrap_err(), wrong);
        for _ in 0..6 {
            assert_eq!(desk.sign_in(None, "nobody", "x", HERE, 0).await.unwrap_err(), wrong);
        }
        let barred = desk.sign_in(Some(ada()), "ada", "correct horse", HERE, 0).await.unwrap_err();
        assert_eq!((barred.blame, barred.told.contains("30 s")), (Blame::Later, true), "{barred}");
        // Elsewhere and later it goes on.
        assert!(desk.sign_in(Some(ada()), "ada", "correct horse", "10.1.1.1".parse().unwrap(), 0).await.is_ok());
        assert!(desk.sign_in(Some(ada()), "ada", "correct horse", HERE, 30).await.is_ok());
    }

    #[tokio::test]
    async fn many_at_once_all_get_their_turn() {
        let desk = std::sync::Arc::new(Desk::new([3; 32]).unwrap());
        let account = ada();
        // More from one address than may be wrong there.
        let all: Vec<_> = (0..ADDRESS.burst + 5)
            .map(|_| {
                let (desk, account) = (desk.clone(), account.clone());
                tokio::spawn(async move { desk.sign_in(Some(account), "ada", "correct horse", HERE, 0).await })
            })
            .collect();
        for one in all {
            assert!(one.await.unwrap().is_ok());
        }
    }
}
