//! Certificates by ACME (RFC 8555), proven by TLS-ALPN-01 (RFC 8737) at the port we listen on anyway.
//!
//! ```text
//!   keep ──is it time?──▶ client: account ─▶ order ─▶ a challenge for each name ─▶ our key, signed ─▶ certificate
//!                                                        └─▶ `Shown` answers it              └─▶ cache, `Shown`
//! ```
//!
//! The cache holds the account's key and the certificate with its own, so that a restart asks for nothing. Odd: a
//! certificate for other names, or of another directory, is another file, and stays until somebody removes it.

mod client;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Certificate, Shown, now, read_file};
use crate::backend::http::Http;
use crate::home;
use crate::plan::Acme;
use client::Client;

/// After a failure the next try waits so long, then twice as long, and so on: authorities count failures by the hour.
const FIRST_WAIT: Duration = Duration::from_secs(60);
const LONGEST_WAIT: Duration = Duration::from_secs(6 * 60 * 60);
/// How often a certificate is looked at that need not be renewed yet. Clocks jump, machines sleep.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// What was had before, if it is still good for anything. Makes the cache, for its owner alone; the error says
/// why it cannot be one.
pub(super) fn cached(acme: &Acme, provider: &CryptoProvider) -> Result<Option<Certificate>, String> {
    let cache = Cache::of(acme);
    let cannot = |e: io::Error| format!("the cache {} for certificates cannot be used: {e}", acme.cache.display());
    make_private(&acme.cache).and_then(|()| make_private(&cache.directory)).map_err(cannot)?;
    if let Some(ca) = &acme.ca {
        authorities(ca)?;
    }
    let Some(text) = cache.read(&cache.certificate).map_err(cannot)? else { return Ok(None) };
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| "has no key in it".to_owned());
    match key.and_then(|key| Certificate::new(&text, key, provider)) {
        Ok(found) if now() < found.validity.until => Ok(Some(found)),
        Ok(_) => Ok(None),
        Err(why) => {
            warn!("the certificate {} {why}; another is asked for", cache.directory.join(&cache.certificate).display());
            Ok(None)
        }
    }
}

/// Gets a certificate when there is none, and another when two thirds of its time are over.
pub(super) async fn keep(acme: &Acme, shown: &Arc<Shown>) {
    let mut wait = FIRST_WAIT;
    loop {
        if let Some(left) = shown.certificate().and_then(|found| until_renewal(&found, now())) {
            sleep(left.min(LOOK)).await;
            continue;
        }
        info!(directory = %acme.directory, domains = ?acme.domains, "asking for a certificate");
        match obtain(acme, shown).await {
            Ok(found) => {
                shown.show(found);
                wait = FIRST_WAIT;
            }
            Err(Trouble { why, after }) => {
                let next = after.unwrap_or_default().max(wait);
                warn!("no certificate from {}: {why}; trying again in {} s", acme.directory, next.as_secs());
                shown.warn();
                sleep(next).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// How long it need not be renewed; `None`: it is time.
fn until_renewal(found: &Certificate, now: Duration) -> Option<Duration> {
    let (from, until) = (found.validity.from, found.validity.until);
    (until.saturating_sub(until.saturating_sub(from) / 3)).checked_sub(now).filter(|left| !left.is_zero())
}

/// Why there is no certificate, and for how long the authority does not want to be asked again.
#[derive(Debug)]
struct Trouble {
    why: String,
    after: Option<Duration>,
}

impl From<String> for Trouble {
    fn from(why: String) -> Trouble {
        Trouble { why, after: None }
    }
}

async fn obtain(acme: &Acme, shown: &Arc<Shown>) -> Result<Certificate, Trouble> {
    let http = match &acme.ca {
        Some(ca) => Http::trusting(authorities(ca)?)?,
        None => Http::new(true)?,
    };
    let cache = Cache::of(acme);
    let unread = |e: io::Error| format!("the cache {} cannot be used: {e}", cache.directory.display());
    let account = match cache.read(ACCOUNT).map_err(unread)? {
        Some(text) => String::from_utf8(text).ok().and_then(|text| rcgen::KeyPair::from_pem(&text).ok()),
        None => None,
    };
    let account = match account {
        Some(account) => account,
        None => {
            let account = rcgen::KeyPair::generate().map_err(|e| format!("no key can be made: {e}"))?;
            cache.write(ACCOUNT, &account.serialize_pem()).map_err(unread)?;
            account
        }
    };
    let mut client = Client::open(http, acme, &account).await?;
    let key = rcgen::KeyPair::generate().map_err(|e| format!("no key can be made: {e}"))?;
    let chain = client.order(&acme.domains, &key, shown).await?;
    let bad = |why| format!("the certificate that it gave {why}");
    let found = Certificate::new(chain.as_bytes(), PrivateKeyDer::Pkcs8(key.serialize_der().into()), &shown.provider).map_err(bad)?;
    cache.write(&cache.certificate, &format!("{}{chain}", key.serialize_pem())).map_err(unread)?;
    Ok(found)
}

/// The authorities in a file.
fn authorities(ca: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_file(ca).map_err(|e| format!("the authority {} cannot be read: {e}", ca.display()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| format!("the authority {} has no certificate in it", ca.display()))
}

// --- the cache ----------------------------------------------------------------------------------

/// The account's key.
const ACCOUNT: &str = "account.pem";

/// What is kept of one directory.
struct Cache {
    directory: PathBuf,
    /// The file of the certificate for these names, with its key.
    certificate: String,
}

impl Cache {
    fn of(acme: &Acme) -> Cache {
        let short = |text: &str| {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            hash.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect::<String>()
        };
        let directory = format!("{}-{}", acme.directory.host().unwrap_or_default(), short(&acme.directory.to_string()));
        let first = acme.domains.first().map_or("", String::as_str);
        Cache { directory: acme.cache.join(directory), certificate: format!("{first}-{}.pem", short(&acme.domains.join(","))) }
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match read_file(&self.directory.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Writes a whole file or none, for its owner alone.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        use std::io::Write as _;
        let (path, next) = (self.directory.join(name), self.directory.join(format!("{name}.next")));
        let mut file = home::private().create(true).truncate(true).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(next, path)
    }
}

/// Makes a directory that only its owner can look into.
fn make_private(directory: &Path) -> io::Result<()> {
    home::make(directory)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // There may have been one already.
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::validity::Validity;

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_time_are_over() {
        let key = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let mut found = Certificate::new(key.cert.pem().as_bytes(), private, &provider).unwrap();
        let day = |n: u64| Duration::from_secs(n * 86_400);
        found.validity = Validity { from: day(1000), until: day(1090) };
        assert_eq!(until_renewal(&found, day(1000)), Some(day(60)));
        assert_eq!(until_renewal(&found, day(1059)), Some(day(1)));
        assert_eq!([day(1060), day(1089), day(2000)].map(|now| until_renewal(&found, now)), [None; 3]);
    }
}
