//! TLS at our own listener: whose certificate we show, and how it is kept up to date.
//!
//! ```text
//!   files  ──read, compared──▶ Shown ◀──asked by── rustls, with each handshake
//!   `acme` ──had, renewed────▶   │
//!          ──challenges───────▶  │ for a connection that speaks `acme-tls/1` only (RFC 8737)
//! ```
//!
//! A certificate that changes is shown from the next handshake on; connections that are there stay. One that is
//! no good is refused with a line in the log, and the one that was there stays. Odd: a certificate and its key
//! are two files, which nobody replaces at once, so for half a second they may not match.

mod acme;
mod validity;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::plan;
use crate::reload::{Hangups, LOOK, Watched};
use validity::Validity;

/// What waits in a connection to be encrypted or sent, in bytes; twice this at most.
const BUFFERED: usize = 32 * 1024;
/// A certificate and all that leads from it to an authority, in bytes.
const MAX_PEM: u64 = 256 * 1024;
/// So long before a certificate expires it is said, once a day.
const WARNED: Duration = Duration::from_secs(14 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// The protocol of a challenge (RFC 8737 §6.2). Nothing is said in it.
const CHALLENGE: &[u8] = b"acme-tls/1";
/// HTTP/2 (RFC 9113 §3.2).
const H2: &[u8] = b"h2";

/// What a connection over TLS speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, also where nothing was agreed on.
    Http1,
    /// HTTP/2.
    Http2,
    /// Nothing: its handshake was all that was wanted.
    Nothing,
}

/// TLS, ready to be spoken.
pub struct Tls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
    from: plan::Tls,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("from", &self.from).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads what there is: certificate files, which have to be good, or what was had by ACME before. The error
    /// says what to mend.
    pub fn open(from: &plan::Tls) -> Result<Arc<Tls>, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let found = match from {
            plan::Tls::Files { cert, key } => Some(read(cert, key, &provider)?),
            plan::Tls::Acme(acme) => acme::cached(acme, &provider)?,
        };
        if let Some(found) = &found {
            found.warn();
        }
        let shown = Arc::new(Shown { provider: provider.clone(), certificate: RwLock::new(found), challenges: Mutex::default() });
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let mut config = config.with_no_client_auth().with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![H2.into(), b"http/1.1".into()];
        if let plan::Tls::Acme(_) = from {
            config.alpn_protocols.push(CHALLENGE.into());
        }
        // Sessions are taken up again by tickets, which are kept by whoever has one.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(|e| format!("no keys for tickets of TLS: {e}"))?;
        Ok(Arc::new(Tls { config: Arc::new(config), shown, from: from.clone() }))
    }

    /// Shakes hands. How long that may take is the caller's to say.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<(TlsStream<S>, Speaks)> {
        let acceptor = TlsAcceptor::from(self.config.clone());
        let stream = acceptor.accept_with(stream, |connection| connection.set_buffer_limit(Some(BUFFERED))).await?;
        let speaks = match stream.get_ref().1.alpn_protocol() {
            Some(H2) => Speaks::Http2,
            Some(CHALLENGE) => Speaks::Nothing,
            _ => Speaks::Http1,
        };
        Ok((stream, speaks))
    }

    /// Keeps the certificate up to date, for as long as it is polled.
    pub async fn keep(self: Arc<Self>) {
        match &self.from {
            plan::Tls::Files { cert, key } => self.watch(cert.clone(), key.clone()).await,
            plan::Tls::Acme(acme) => acme::keep(acme, &self.shown).await,
        }
    }

    async fn watch(&self, cert: PathBuf, key: PathBuf) {
        let mut hangups = Hangups::new();
        let mut looks = tokio::time::interval(LOOK);
        let mut said = tokio::time::interval(Duration::from_secs(DAY));
        said.tick().await;
        let mut files = [Watched::new(cert.clone()), Watched::new(key.clone())];
        loop {
            tokio::select! {
                // Both are looked at, whichever has changed.
                _ = looks.tick() => if files.each_mut().map(Watched::has_changed) == [false; 2] { continue },
                () = hangups.next() => {}
                _ = said.tick() => {
                    self.shown.warn();
                    continue;
                }
            }
            let (cert, key, provider) = (cert.clone(), key.clone(), self.shown.provider.clone());
            match tokio::task::spawn_blocking(move || read(&cert, &key, &provider)).await {
                Ok(Ok(found)) => self.shown.show(found),
                Ok(Err(why)) => warn!("{why}; the certificate that was shown before still is"),
                // Only if we are being stopped.
                Err(_) => return,
            }
        }
    }
}

/// What is shown to whoever shakes hands.
#[derive(Debug)]
struct Shown {
    provider: Arc<CryptoProvider>,
    /// None until ACME has brought one.
    certificate: RwLock<Option<Certificate>>,
    /// Answers to challenges, by the names they are for.
    challenges: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
struct Certificate {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl Shown {
    /// Shows another certificate from now on.
    fn show(&self, found: Certificate) {
        let mut shown = self.certificate.write().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_some_and(|shown| shown.key.cert == found.key.cert) {
            return;
        }
        info!("another certificate is shown; it expires {}", found.validity.expiry(now()));
        found.warn();
        *shown = Some(found);
    }

    fn certificate(&self) -> Option<Certificate> {
        self.certificate.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn warn(&self) {
        if let Some(certificate) = self.certificate() {
            certificate.warn();
        }
    }

    /// Answers a challenge for that name, or does not any more.
    fn challenge(&self, name: &str, answer: Option<Arc<CertifiedKey>>) {
        let mut challenges = self.challenges.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some(answer) => drop(challenges.insert(name.into(), answer)),
            None => drop(challenges.remove(name)),
        }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // RFC 8737 §3: that protocol and no other is offered, and the name is told.
        let is_challenge = hello.alpn().is_some_and(|mut all| all.next() == Some(CHALLENGE) && all.next().is_none());
        if is_challenge {
            let name = hello.server_name()?.to_ascii_lowercase();
            return self.challenges.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        }
        Some(self.certificate.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.key.clone())
    }
}

impl Certificate {
    /// A certificate, what leads from it to an authority, and its key, all in PEM. The error fits after the name
    /// of where it was read.
    fn new(chain: &[u8], key: PrivateKeyDer<'static>, provider: &CryptoProvider) -> Result<Certificate, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|e| format!("is no certificate in PEM: {e}"))?;
        let first = chain.first().ok_or("has no certificate in it; it must be in PEM, beginning with -----BEGIN CERTIFICATE-----")?;
        let validity = Validity::read(first).ok_or("has a certificate that does not say how long it is valid")?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => "does not belong to the key".to_owned(),
            e => format!("cannot be used: {e}"),
        })?;
        Ok(Certificate { key: Arc::new(key), validity })
    }

    /// Says when it will not do any more.
    fn warn(&self) {
        let (now, until) = (now(), self.validity.until);
        if now >= until {
            warn!("the certificate expired {}; clients refuse it", self.validity.expiry(now));
        } else if until - now < WARNED {
            warn!("the certificate expires {}; replace it, or see why that does not happen", self.validity.expiry(now));
        } else if now < self.validity.from {
            warn!("the certificate is not valid yet; is the clock of this machine right?");
        }
    }
}

/// Since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A certificate and its key, from their files.
fn read(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<Certificate, String> {
    let of = |what: &str, path: &Path, why: String| format!("the {what} {} {why}", path.display());
    let chain = read_file(cert).map_err(|e| of("certificate", cert, format!("cannot be read: {e}")))?;
    let text = read_file(key).map_err(|e| of("key", key, format!("cannot be read: {e}")))?;
    let private = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| of("key", key, "has no private key in it; it must be in PEM and without a password".into()))?;
    let found = Certificate::new(&chain, private, provider).map_err(|why| of("certificate", cert, format!("{why} ({})", key.display())));
    if found.is_ok() && is_readable_by_others(key) {
        warn!("the key {} can be read by everybody on this machine; chmod o= it", key.display());
    }
    found
}

/// A file of a size that such files have.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_PEM + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_PEM {
        return Err(io::Error::other("it is too large to be one"));
    }
    Ok(bytes)
}

#[cfg(unix)]
fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o007 != 0)
}

#[cfg(not(unix))]
fn is_readable_by_others(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        cert: PathBuf,
        key: PathBuf,
    }

    impl Pair {
        /// Files with these texts.
        fn of(name: &str, cert: &str, key: &str) -> Pair {
            let path = |kind: &str| std::env::temp_dir().join(format!("landbridge-tls-{}-{name}-{kind}.pem", std::process::id()));
            let pair = Pair { cert: path("cert"), key: path("key") };
            std::fs::write(&pair.cert, cert).unwrap();
            std::fs::write(&pair.key, key).unwrap();
            pair
        }

        fn open(&self) -> Result<Arc<Tls>, String> {
            Tls::open(&plan::Tls::Files { cert: self.cert.clone(), key: self.key.clone() })
        }
    }

    impl Drop for Pair {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.cert);
            let _ = std::fs::remove_file(&self.key);
        }
    }

    #[test]
    fn files_that_are_no_good_are_told_apart() {
        let [one, two] = [1, 2].map(|_| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
        let (cert, key, other) = (one.cert.pem(), one.signing_key.serialize_pem(), two.signing_key.serialize_pem());
        let good = Pair::of("good", &cert, &key);
        let tls = good.open().unwrap();
        assert!(!format!("{tls:?}").contains("PRIVATE") && tls.shown.certificate().is_some());
        for (name, cert, key, part) in [
            ("empty", "", key.as_str(), "has no certificate in it"),
            ("swapped", &key, &cert, "has no private key in it"),
            ("no-key", &cert, "", "has no private key in it"),
            ("other", &cert, &other, "does not belong to the key"),
            ("broken", "-----BEGIN CERTIFICATE-----\nAAAA\n", &key, "is no certificate in PEM"),
            ("no-der", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &key, "does not say how long"),
        ] {
            let pair = Pair::of(name, cert, key);
            let why = pair.open().unwrap_err();
            assert!(why.contains(part) && why.contains("landbridge-tls-") && !why.contains("BEGIN PRIVATE"), "{name}: {why}");
        }
        let missing = Pair::of("missing", &cert, &key);
        std::fs::remove_file(&missing.cert).unwrap();
        let why = missing.open().unwrap_err();
        assert!(why.starts_with("the certificate ") && why.contains("cannot be read: No such file"), "{why}");
    }
}
