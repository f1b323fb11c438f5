//! Documents that strangers have named, kept as long as their headers say: each is fetched once for all who ask for
//! it, and so is one that cannot be fetched.

use std::sync::Arc;

use landbridge_proto::oauth::secret::Hash;

use super::{Bounds, Fetched, Fetcher, Trouble};
use crate::recent::{Known, Recent};

/// How long it is remembered that there is none, in seconds.
const NONE_S: u64 = 15;

/// Documents, by their URLs.
#[derive(Debug)]
pub struct Documents {
    fetcher: Fetcher,
    bounds: Bounds,
    recent: Recent<Result<Arc<Fetched>, Trouble>>,
}

impl Documents {
    /// At most `max_entries`, and `max_bytes` of text.
    pub fn new(fetcher: Fetcher, bounds: Bounds, max_entries: usize, max_bytes: usize) -> Documents {
        Documents { fetcher, bounds, recent: Recent::new(max_entries, max_bytes) }
    }

    /// The document at `url`, now or from before.
    pub async fn get(&self, url: &str, now_s: u64) -> Result<Arc<Fetched>, Trouble> {
        let find = || async {
            let fetched = self.fetcher.get(url, &self.bounds, now_s).await;
            if fetched == Err(Trouble::Busy) {
                // Not kept: it says nothing of the document.
                return Err(Trouble::Busy);
            }
            let (keep_s, n_bytes) = fetched.as_ref().map_or((NONE_S, 0), |fetched| (fetched.keep_s, fetched.text.len()));
            Ok(Known { value: fetched.map(Arc::new), until_s: now_s + keep_s, n_bytes: n_bytes + url.len() })
        };
        self.recent.find(*Hash::of(url).as_bytes(), now_s, find).await?
    }
}
