//! What can be done with contents, by whom.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use landbridge::fetch::{self, Bounds as FetchBounds, Fetcher};
use serde_json::{Map, Value};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use uuid::Uuid;

use super::blobs::Blobs;
use super::db::{Db, Stored};
use super::links::{Links, hex};
use super::model::{Content, Status, Trouble, Who, now_ms};
use super::pictures;
use super::room::Room;

/// How much of a text is searched for its words.
const MAX_SEARCHED: usize = 64 * 1024;
/// How long something may be that describes a content.
const MAX_TEXT: usize = 8 * 1024;
const MAX_TAGS: usize = 64;
/// How often a change is tried that others come before.
const MAX_TRIES: u64 = 50;
/// A tag is a word or a few; it is looked up by an index, in which it has to fit.
const MAX_TAG: usize = 255;
const MAX_METADATA: usize = 64 * 1024;

const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Bounds that an operator sets.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) batch: usize,
    pub(super) default_page: i64,
    pub(super) max_page: i64,
    pub(super) needs_owner: bool,
    pub(super) upload_bytes: usize,
    /// For a URL that something is fetched from.
    pub(super) fetch: Duration,
    pub(super) capitals: bool,
}

/// The contents.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) db: Db,
    pub(super) blobs: Blobs,
    pub(super) links: Links,
    pub(super) bounds: Bounds,
    pub(super) room: Room,
    pub(super) fetcher: Fetcher,
    /// Tells the worker that there is something to do.
    pub(super) wanted: Notify,
}

/// Something new.
#[derive(Clone, Debug, Default)]
pub(super) struct Upload {
    pub(super) owner: String,
    pub(super) tenant: Option<String>,
    pub(super) name: String,
    pub(super) data: String,
    pub(super) description: Option<String>,
    pub(super) document_type: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) file_name: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) metadata: Map<String, Value>,
}

/// What changes of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) metadata: Option<Map<String, Value>>,
}

impl Library {
    /// Stores something new.
    pub(super) async fn upload(&self, who: &Who, upload: Upload) -> Result<Content, Trouble> {
        let owner = uuid("owner_id", &upload.owner)?;
        let tenant = upload.tenant.as_deref().map(|tenant| uuid("tenant_id", tenant)).transpose()?;
        who.may(Some(&owner), tenant.as_deref())?;
        let tenant = tenant.or_else(|| who.tenant().map(str::to_owned)).unwrap_or_default();
        let name = text("name", &upload.name)?;
        if name.is_empty() {
            return Err(Trouble::Invalid("name", "it is empty".into()));
        }
        let description = text("description", upload.description.as_deref().unwrap_or_default())?;
        let file_name = text("file_name", upload.file_name.as_deref().unwrap_or(&name))?;
        let tags = tags(upload.tags)?;
        metadata(&upload.metadata)?;
        let backend = self.blobs.named(upload.backend.as_deref())?;
        if let Some(media) = &upload.document_type
            && !is_media(media)
        {
            return Err(Trouble::Invalid("document_type", format!("{} is no media type; write text/plain", quoted(media))));
        }
        let (bytes, media, _room) = self.bytes(upload.data).await?;
        let document_type = upload.document_type.or(media).unwrap_or_else(|| "application/octet-stream".into());
        let (id, at_ms) = (Uuid::new_v4().to_string(), now_ms());
        let content = Content {
            object_key: format!("contents/{id}"),
            id,
            owner,
            tenant,
            name,
            description,
            document_type,
            status: Status::Uploading,
            derivation_type: String::new(),
            parent: String::new(),
            variant: String::new(),
            file_name,
            file_size: 0,
            checksum: String::new(),
            tags,
            metadata: upload.metadata,
            backend: backend.into(),
            failure: String::new(),
            created_ms: at_ms,
            updated_ms: at_ms,
            deleted_ms: 0,
        };
        self.db.add(&content, &content.words(&searched(&content.document_type, &bytes))).await?;
        self.store(content, bytes).await
    }

    /// Stores the bytes of a content that is there.
    async fn store(&self, mut content: Content, bytes: Bytes) -> Result<Content, Trouble> {
        let (size, checksum) = (i64::try_from(bytes.len()).unwrap_or(i64::MAX), sha256(&bytes));
        let derives = pictures::kind(&bytes).is_some();
        let from = [Status::Uploading];
        if let Err(trouble) = self.blobs.put(&content.backend, &content.object_key, bytes).await {
            self.db.turn(&content.id, &from, Status::Failed, &trouble.to_string(), None).await?;
            return Err(trouble);
        }
        let stored = Stored { size, checksum: &checksum, document_type: &content.document_type, derives };
        // Another program that has just begun may have given it up meanwhile.
        if !self.db.turn(&content.id, &[Status::Uploading, Status::Failed], Status::Uploaded, "", Some(stored)).await? {
            self.clear_away(&content).await?;
            return Err(Trouble::NotFound(content.id));
        }
        if derives {
            self.wanted.notify_one();
        }
        (content.status, content.file_size, content.checksum) = (Status::Uploaded, size, checksum);
        Ok(content)
    }

    /// Removes what was stored for a content that was deleted meanwhile: it may have been removed already.
    pub(super) async fn clear_away(&self, content: &Content) -> Result<(), Trouble> {
        match self.db.find(&Who::Anyone, &content.id).await {
            Err(Trouble::NotFound(_)) => self.blobs.remove(&content.backend, &content.object_key).await,
            found => found.map(drop),
        }
    }

    /// Stores the bytes of one whose upload has failed, or is still to come.
    pub(super) async fn upload_again(&self, id: &str, bytes: Bytes, media: Option<String>) -> Result<Content, Trouble> {
        let mut content = self.db.find(&Who::Anyone, id).await?;
        if !self.db.turn(id, &[Status::Created, Status::Failed], Status::Uploading, "", None).await? {
            return Err(Trouble::Status(format!(
                "content {id} is {}: only what is created or failed can be uploaded",
                content.status.name()
            )));
        }
        if let Some(media) = media.filter(|media| is_media(media)) {
            content.document_type = media;
        }
        self.store(content, bytes).await
    }

    /// What was given as base64, or is at a URL, with its type if somebody says so, and the room that it takes.
    async fn bytes(&self, data: String) -> Result<(Bytes, Option<String>, OwnedSemaphorePermit), Trouble> {
        let bad = |why: String| Trouble::Invalid("data", why);
        let max = self.bounds.upload_bytes;
        if data.is_empty() {
            return Err(bad("it is empty; give base64, or an http or https URL".into()));
        }
        if data.starts_with("http://") || data.starts_with("https://") {
            let bounds = FetchBounds { max_bytes: max, time: self.bounds.fetch, n_redirects: 3, ..FetchBounds::DOCUMENT };
            let room = self.room.fetched.take(max).await?;
            let mut tries = 0;
            loop {
                match self.fetcher.content(&data, &bounds).await {
                    Ok(content) => return Ok((content.bytes, content.media.filter(|media| is_media(media)), room)),
                    Err(fetch::Trouble::Busy) if tries < 10 => {
                        tries += 1;
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    // What was found behind a name that is not to be reached is nobody's to know.
                    Err(fetch::Trouble::Forbidden(why)) => return Err(bad(format!("the URL cannot be fetched: {why}"))),
                    Err(fetch::Trouble::Status(status)) => return Err(bad(format!("the URL cannot be fetched: HTTP {status}"))),
                    Err(fetch::Trouble::Unusable(why)) => return Err(bad(format!("the URL cannot be fetched: {why}"))),
                    Err(fetch::Trouble::Silent(why)) => {
                        tracing::info!(why, "a URL was not fetched");
                        return Err(bad("the URL cannot be fetched: its server did not answer".into()));
                    }
                    Err(fetch::Trouble::Busy) => return Err(bad("too many URLs are being fetched; try again later".into())),
                }
            }
        }
        if data.len() / 4 > max / 3 + 1 {
            return Err(bad(format!("it is longer than {max} bytes")));
        }
        let room = self.room.given.take(data.len()).await?;
        let bytes = BASE64.decode(data.trim()).map_err(|e| bad(format!("it is neither base64 nor an http or https URL: {e}")))?;
        if bytes.len() > max {
            return Err(bad(format!("it is longer than {max} bytes")));
        }
        Ok((bytes.into(), None, room))
    }

    /// All bytes of a content, for an answer.
    pub(super) async fn read(&self, content: &Content, max_bytes: u64) -> Result<Bytes, Trouble> {
        gate(content)?;
        self.blobs.get(&content.backend, &content.object_key, max_bytes).await
    }

    /// Changes what is said of a content. What is not mentioned stays as it is, also where others change it at once.
    pub(super) async fn update(&self, who: &Who, id: &str, change: Change) -> Result<Content, Trouble> {
        for tries in 0..MAX_TRIES {
            if let Some(content) = self.update_once(who, id, change.clone()).await? {
                return Ok(content);
            }
            tokio::time::sleep(Duration::from_millis(tries)).await;
        }
        Err(Trouble::Status(format!("content {id} is changed by others all the time; try again later")))
    }

    /// `None`: somebody else has changed it meanwhile.
    async fn update_once(&self, who: &Who, id: &str, change: Change) -> Result<Option<Content>, Trouble> {
        let before = self.db.find(who, id).await?;
        let mut content = before.clone();
        if let Some(name) = change.name {
            content.name = text("name", &name)?;
            if content.name.is_empty() {
                return Err(Trouble::Invalid("name", "it is empty".into()));
            }
        }
        if let Some(description) = change.description {
            content.description = text("description", &description)?;
        }
        if let Some(all) = change.tags {
            content.tags = tags(all)?;
        }
        if let Some(more) = change.metadata {
            // A key that is null goes; keys that are not named stay.
            for (key, value) in more {
                if value.is_null() {
                    content.metadata.remove(&key);
                } else {
                    content.metadata.insert(key, value);
                }
            }
            metadata(&content.metadata)?;
        }
        content.updated_ms = now_ms();
        let is_text = content.is_there() && is_text(&content.document_type);
        let bytes = if is_text { self.read(&content, self.bounds.upload_bytes as u64).await.unwrap_or_default() } else { Bytes::new() };
        let words = content.words(&searched(&content.document_type, &bytes));
        Ok(self.db.describe(&content, &words, &before).await?.then_some(content))
    }

    /// Takes a content out of sight, with what was derived from it.
    pub(super) async fn delete(&self, who: &Who, id: &str) -> Result<i64, Trouble> {
        self.db.find(who, id).await?;
        let at_ms = now_ms();
        match self.db.delete(id, at_ms).await? {
            true => Ok(at_ms),
            // Unless somebody else was faster.
            false => match self.db.find(who, id).await {
                Ok(_) => Err(Trouble::Status(format!("content {id} is being processed; try again when it is done"))),
                Err(trouble) => Err(trouble),
            },
        }
    }
}

/// Refuses what has no bytes yet.
pub(super) fn gate(content: &Content) -> Result<(), Trouble> {
    if content.is_there() {
        return Ok(());
    }
    let status = content.status.name();
    Err(Trouble::Status(format!("content {} is {status}: only what is uploaded, processed or archived can be downloaded", content.id)))
}

/// What somebody has written, as an error shows it: the beginning.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(64).collect::<String>())
}

/// A UUID, in its one spelling.
pub(super) fn uuid(field: &'static str, text: &str) -> Result<String, Trouble> {
    let no = || Trouble::Invalid(field, format!("{} is no UUID", quoted(text)));
    if text.len() != 36 {
        return Err(no());
    }
    Uuid::parse_str(text).map(|uuid| uuid.to_string()).map_err(|_| no())
}

fn text(field: &'static str, text: &str) -> Result<String, Trouble> {
    if text.len() > MAX_TEXT {
        return Err(Trouble::Invalid(field, format!("it is longer than {MAX_TEXT} bytes")));
    }
    if text.contains('\0') {
        return Err(Trouble::Invalid(field, "it has a NUL in it".into()));
    }
    Ok(text.trim().to_owned())
}

/// Tags, each once.
pub(super) fn tags(all: Vec<String>) -> Result<Vec<String>, Trouble> {
    let mut tags: Vec<String> = Vec::new();
    for tag in all {
        let tag = text("tags", &tag)?;
        if tag.is_empty() {
            return Err(Trouble::Invalid("tags", "one is empty".into()));
        }
        if tag.len() > MAX_TAG {
            return Err(Trouble::Invalid("tags", format!("one is longer than {MAX_TAG} bytes")));
        }
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    if tags.len() > MAX_TAGS { Err(Trouble::Invalid("tags", format!("there are more than {MAX_TAGS}"))) } else { Ok(tags) }
}

fn metadata(metadata: &Map<String, Value>) -> Result<(), Trouble> {
    let written = serde_json::to_string(metadata).unwrap_or_default();
    if written.len() > MAX_METADATA {
        return Err(Trouble::Invalid("metadata", format!("it is longer than {MAX_METADATA} bytes")));
    }
    if written.contains("\\u0000") { Err(Trouble::Invalid("metadata", "it has a NUL in it".into())) } else { Ok(()) }
}

/// Whether it can stand in a header as the type of a body.
pub(super) fn is_media(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_token = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    let whole = text.len() < 256 && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    whole && essence.split_once('/').is_some_and(|(kind, rest)| is_token(kind) && is_token(rest))
}

fn is_text(media: &str) -> bool {
    media.starts_with("text/") || media.starts_with("application/json")
}

/// The text of a content in which words are found.
fn searched(media: &str, bytes: &Bytes) -> String {
    let head = bytes.slice(..bytes.len().min(MAX_SEARCHED));
    if is_text(media) { String::from_utf8_lossy(&head).into_owned() } else { String::new() }
}

/// The checksum of bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// As the answer to a tool has them.
pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Shared by all sessions.
pub(super) type Shared = Arc<Library>;
