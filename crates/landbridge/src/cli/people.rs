//! `landbridge user` and `landbridge key`: who may come in, kept in the store.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use landbridge::auth::keys;
use landbridge::authority;
use landbridge::config::Config;
use landbridge::login::local::{self, Account};
use landbridge::store::{self, Kind, Pages, Record, Store};
use landbridge::system::{now_s, random};

use super::print;

pub(crate) const USER_AFTER: &str = "\
Accounts are for `landbridge serve --auth local`. A password is made up and printed once, unless one is
given on standard input. Changes count at once, also for gateways that run; only applications of an account
that was removed may go on for a quarter of a minute.";

pub(crate) const KEY_AFTER: &str = "\
A key is sent as `X-API-Key: KEY` or `Authorization: Bearer KEY`. It is printed once; only its hash is kept.
Keys work with every way of authorization but `none`. Changes count within a quarter of a minute, also
for gateways that run.";

/// Accounts.
#[derive(Subcommand)]
pub(crate) enum User {
    /// Make an account, or give it another password
    Add {
        /// How it logs in: letters in lower case, digits, `.`, `_` and `-`
        name: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        place: Place,
    },
    /// List the accounts
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Remove an account; applications it has let in are shut out
    Remove {
        /// Whose
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Shut out every application that somebody has let in, wherever they log in
    ShutOut {
        /// Who, as the log names them: https://github.com#583231
        principal: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Keys.
#[derive(Subcommand)]
pub(crate) enum Key {
    /// Make a key and print it
    Add {
        /// Whose it is: all keys of an owner are one principal
        #[arg(long)]
        owner: String,
        /// What it may (repeat for more) [default: everything]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Which servers it is for (repeat for more) [default: every one]
        #[arg(long = "server", value_name = "NAME")]
        servers: Vec<String>,
        /// Until when: a day (2027-01-31), a time (2027-01-31T12:00:00Z), or a while (90d, 12h)
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// List the keys, without what they are
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Revoke a key
    Revoke {
        /// Its id, as `list` shows it
        id: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Which store.
#[derive(Args)]
pub(crate) struct Place {
    /// The store: sqlite:PATH or postgres://… [default: what --config says, else the usual place]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Use the store of this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Place {
    async fn open(&self) -> Result<Arc<dyn Store>, String> {
        let written = match &self.config {
            Some(path) => Config::read(path).map_err(|faults| faults.to_string())?.auth.store,
            None => None,
        };
        let url = match self.store.clone().or(written) {
            Some(url) => url,
            None => store::default_url()?,
        };
        if url == "memory:" {
            return Err("the store is `memory:`, which only the gateway itself has; use sqlite:PATH".into());
        }
        store::open(&url).await
    }
}

/// `landbridge user`
pub(crate) async fn user(verb: User) -> Result<ExitCode, String> {
    let failed = |trouble: store::Trouble| trouble.to_string();
    match verb {
        User::Add { name, password_stdin, place } => {
            let store = place.open().await?;
            let name = local::proper_name(&name)?;
            let password = match password_stdin {
                true => from_stdin()?,
                false => local::generate(random()?),
            };
            let mut account = Account::new(&name, &password, random()?, now_s())?;
            let there = store.get(Kind::User, &name, now_s()).await.map_err(failed)?;
            let there = there.and_then(|record| Account::read(&record.value).ok());
            if let Some(there) = &there {
                account.since_s = there.since_s; // still the same person
            }
            let there = there.is_some();
            store.put(Kind::User, &name, Record { value: account.to_json(), expires_s: None }).await.map_err(failed)?;
            let made = if there { "has another password" } else { "can log in" };
            match password_stdin {
                true => print(&format!("{name} {made}.")),
                false => print(&format!("{name} {made}. The password, shown this once:\n\n    {password}\n")),
            }
        }
        User::List { place } => {
            let store = place.open().await?;
            let mut pages = Pages::of(&*store, Kind::User, now_s());
            while let Some(page) = pages.next().await.map_err(failed)? {
                for (name, record) in page {
                    let since = Account::read(&record.value).map_or_else(|why| why, |account| keys::date(account.since_s));
                    print(&format!("{name:<24}  since {since}"));
                }
            }
        }
        User::Remove { name, place } => {
            let store = place.open().await?;
            let name = local::proper_name(&name)?;
            let Some(record) = store.take(Kind::User, &name, now_s()).await.map_err(failed)? else {
                return Err(format!("nobody is called {name}; `landbridge user list` shows who there is"));
            };
            let account = Account::read(&record.value).map_err(|why| format!("the account {why}"))?;
            let gone = authority::shut_out(&*store, &authority::principal_of(&account), now_s()).await.map_err(failed)?;
            print(&format!("{name} cannot log in any more; {gone} applications are shut out."));
        }
        User::ShutOut { principal, place } => {
            let store = place.open().await?;
            let gone = authority::shut_out(&*store, &principal, now_s()).await.map_err(failed)?;
            print(&format!("{gone} applications are shut out."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `landbridge key`
pub(crate) async fn key(verb: Key) -> Result<ExitCode, String> {
    let failed = |trouble: store::Trouble| trouble.to_string();
    let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
    match verb {
        Key::Add { owner, scopes, servers, expires, place } => {
            if owner.trim().is_empty() || owner.len() > 200 || owner.contains(char::is_control) {
                return Err("an owner has 1 to 200 characters".into());
            }
            let expires_s = expires.map(|when| keys::until(&when, now_s())).transpose()?;
            let store = place.open().await?;
            let key = keys::Key { id: String::new(), owner, tenant: None, scopes: some(scopes), servers: some(servers), since_s: now_s() };
            print(&keys::add(&*store, key, expires_s, [random()?, random()?]).await.map_err(failed)?);
        }
        Key::List { place } => {
            let store = place.open().await?;
            for (_, key, expires_s) in keys::all(&*store, now_s()).await.map_err(failed)? {
                let list = |list: &Option<Vec<String>>| list.as_ref().map_or("all".into(), |list| list.join(","));
                let until = expires_s.map_or("never".into(), keys::date);
                print(&format!(
                    "{}  owner {}  scopes {}  servers {}  since {}  expires {until}",
                    key.id,
                    key.owner,
                    list(&key.scopes),
                    list(&key.servers),
                    keys::date(key.since_s)
                ));
            }
        }
        Key::Revoke { id, place } => {
            let store = place.open().await?;
            if !keys::revoke(&*store, &id, now_s()).await.map_err(failed)? {
                return Err(format!("no key has the id {id}; `landbridge key list` shows those there are"));
            }
            print(&format!("The key {id} is revoked."));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn from_stdin() -> Result<String, String> {
    let mut password = String::new();
    std::io::stdin().take(4096).read_to_string(&mut password).map_err(|e| format!("no password on standard input: {e}"))?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}
