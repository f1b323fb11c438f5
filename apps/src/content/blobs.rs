//! Where the bytes of contents are: in memory, in files, or at an S3 server.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ClientOptions, GetResult, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig};

use super::library::quoted;
use super::model::Trouble;
use crate::settings::Settings;

/// The stores, by their names, and the one that is used unless another is named.
pub(super) struct Blobs {
    stores: BTreeMap<&'static str, Arc<dyn ObjectStore>>,
    usual: &'static str,
    /// Why there is no S3.
    s3_wants: String,
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.stores.keys()).finish()
    }
}

impl Blobs {
    pub(super) fn open(settings: &Settings) -> Result<Blobs, String> {
        let usual = match settings.get("STORAGE_BACKEND").unwrap_or("fs") {
            "memory" => "memory",
            "fs" | "filesystem" => "fs",
            "s3" => "s3",
            other => return Err(format!("STORAGE_BACKEND is {other:?}; say memory, fs or s3")),
        };
        let mut stores: BTreeMap<&'static str, Arc<dyn ObjectStore>> = BTreeMap::new();
        stores.insert("memory", Arc::new(InMemory::new()));
        if usual == "fs" {
            let path = Path::new(settings.get("STORAGE_PATH").unwrap_or("./data/storage"));
            let cannot = |e: &dyn fmt::Display| format!("STORAGE_PATH {} cannot be used: {e}", path.display());
            std::fs::create_dir_all(path).map_err(|e| cannot(&e))?;
            let files = LocalFileSystem::new_with_prefix(path).map_err(|e| cannot(&e))?;
            stores.insert("fs", Arc::new(files.with_fsync(true).with_automatic_cleanup(true)));
        }
        let s3_wants = match s3(settings)? {
            Ok(s3) => {
                stores.insert("s3", s3);
                String::new()
            }
            Err(variable) => format!("the storage backend s3 is not configured: set {variable}"),
        };
        Ok(Blobs { stores, usual, s3_wants })
    }

    /// The full name of a store that a client has named.
    pub(super) fn named(&self, name: Option<&str>) -> Result<&'static str, Trouble> {
        let name = match name.unwrap_or("default") {
            "default" | "" => self.usual,
            "filesystem" => "fs",
            other => other,
        };
        if let Some((name, _)) = self.stores.get_key_value(name) {
            return Ok(name);
        }
        match name {
            "s3" => Err(Trouble::Storage(self.s3_wants.clone())),
            _ => {
                let known: Vec<&str> = self.stores.keys().copied().collect();
                Err(Trouble::Invalid("storage_backend", format!("{} is none of default, {}", quoted(name), known.join(", "))))
            }
        }
    }

    /// The names of all, with the usual one first.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let others = self.stores.keys().copied().filter(|name| *name != self.usual);
        std::iter::once(self.usual).chain(others).collect()
    }

    pub(super) async fn put(&self, store: &str, key: &str, bytes: Bytes) -> Result<(), Trouble> {
        let put = self.store(store)?.put(&Key::from(key), PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(|e| trouble(&e))
    }

    /// What is not there is as good as removed.
    pub(super) async fn remove(&self, store: &str, key: &str) -> Result<(), Trouble> {
        match self.store(store)?.delete(&Key::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(trouble(&e)),
        }
    }

    pub(super) async fn open_blob(&self, store: &str, key: &str) -> Result<GetResult, Trouble> {
        self.store(store)?.get(&Key::from(key)).await.map_err(|e| trouble(&e))
    }

    /// All of it, if it is not longer than that.
    pub(super) async fn get(&self, store: &str, key: &str, max_bytes: u64) -> Result<Bytes, Trouble> {
        let found = self.open_blob(store, key).await?;
        if found.meta.size > max_bytes {
            return Err(Trouble::Storage(format!("it has {} bytes, of at most {max_bytes}", found.meta.size)));
        }
        found.bytes().await.map_err(|e| trouble(&e))
    }

    fn store(&self, name: &str) -> Result<&Arc<dyn ObjectStore>, Trouble> {
        let missing =
            || Trouble::Storage(if name == "s3" { self.s3_wants.clone() } else { format!("there is no storage {name} any more") });
        self.stores.get(name).ok_or_else(missing)
    }
}

/// The S3 server of the settings, or the variable that is missing.
fn s3(settings: &Settings) -> Result<Result<Arc<dyn ObjectStore>, &'static str>, String> {
    let Some(bucket) = settings.get("S3_BUCKET") else { return Ok(Err("S3_BUCKET")) };
    let Some(key) = settings.first(["S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"]) else { return Ok(Err("S3_ACCESS_KEY_ID")) };
    let Some(secret) = settings.first(["S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"]) else { return Ok(Err("S3_SECRET_ACCESS_KEY")) };
    let endpoint = settings.get("S3_ENDPOINT");
    let options = ClientOptions::new()
        .with_timeout(std::time::Duration::from_secs(60))
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")));
    let retry = RetryConfig { max_retries: 3, retry_timeout: std::time::Duration::from_secs(30), ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_access_key_id(key)
        .with_secret_access_key(secret)
        .with_region(settings.first(["S3_REGION", "AWS_REGION"]).unwrap_or("us-east-1"))
        .with_client_options(options)
        .with_retry(retry);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let s3 = builder.build().map_err(|e| format!("S3_BUCKET and its like make no storage: {e}"))?;
    Ok(Ok(Arc::new(s3)))
}

fn trouble(error: &object_store::Error) -> Trouble {
    match error {
        object_store::Error::NotFound { .. } => Trouble::Storage("its bytes are not where they were stored".into()),
        other => {
            tracing::warn!(error = %other, "the storage has failed");
            Trouble::Storage("the storage does not answer as it should; try again later".into())
        }
    }
}
