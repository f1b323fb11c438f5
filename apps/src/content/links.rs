//! URLs that whoever has them may use for a while: signed, for one content and one purpose.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use aws_lc_rs::hmac;

use super::model::now_ms;

/// How long a download may be begun, and an upload, in seconds.
pub(super) const DOWNLOAD_S: i64 = 3600;
const UPLOAD_S: i64 = 1800;

/// What a URL is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Download,
    Upload,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Purpose::Download => "download",
            Purpose::Upload => "upload",
        }
    }
}

/// Makes them, and knows them again.
pub(super) struct Links {
    key: hmac::Key,
    base: OnceLock<String>,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Links").field(&self.base.get()).finish()
    }
}

impl Links {
    /// With this secret, or one of a file of our own, so that URLs outlive us.
    pub(super) fn open(secret: Option<&str>, file: &Path) -> Result<Links, String> {
        let secret = match secret {
            Some(secret) if secret.len() < 16 => return Err("CONTENT_URL_SECRET has fewer than 16 characters, and could be guessed".into()),
            Some(secret) => secret.as_bytes().to_vec(),
            None => of_file(file).map_err(|e| format!("{} cannot be used: {e}", file.display()))?,
        };
        Ok(Links { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), base: OnceLock::new() })
    }

    /// Where it is served. The first to say so counts.
    pub(super) fn at(&self, base: &str) {
        let _ = self.base.set(base.trim_end_matches('/').to_owned());
    }

    /// A URL, and when it ends in seconds since 1970.
    pub(super) fn url(&self, id: &str, purpose: Purpose) -> (String, i64) {
        let expires_s = now_ms() / 1000 + if purpose == Purpose::Download { DOWNLOAD_S } else { UPLOAD_S };
        let Some(base) = self.base.get() else {
            // Over standard streams nobody listens; it can be read as a resource.
            return (format!("content://{id}/data"), expires_s);
        };
        let signature = hex(hmac::sign(&self.key, &message(id, purpose, expires_s)).as_ref());
        (format!("{base}/contents/{id}/{}?expires={expires_s}&signature={signature}", purpose.name()), expires_s)
    }

    /// Whether it is one of ours, and not over. The comparison takes as long for any signature.
    pub(super) fn knows(&self, id: &str, purpose: Purpose, expires_s: i64, signature: &str) -> bool {
        let Some(signature) = unhex(signature) else { return false };
        hmac::verify(&self.key, &message(id, purpose, expires_s), &signature).is_ok() && now_ms() / 1000 < expires_s
    }
}

fn message(id: &str, purpose: Purpose, expires_s: i64) -> Vec<u8> {
    format!("{}\n{id}\n{expires_s}", purpose.name()).into_bytes()
}

/// The secret in that file, which is made if there is none.
fn of_file(file: &Path) -> std::io::Result<Vec<u8>> {
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Ok(mut file) => {
            let mut secret = [0; 32];
            aws_lc_rs::rand::fill(&mut secret).map_err(|_| std::io::Error::other("the system has no randomness"))?;
            file.write_all(hex(&secret).as_bytes())?;
            file.sync_all()?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e),
    }
    let secret = std::fs::read(file)?;
    match secret.len() {
        64 => Ok(secret),
        _ => Err(std::io::Error::other("it is no secret of ours; delete it")),
    }
}

/// Bytes as digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..32).map(|n| u8::from_str_radix(text.get(2 * n..2 * n + 2)?, 16).ok()).collect()
}
