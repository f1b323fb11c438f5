//! Pictures of pictures: thumbnails and a preview of what was uploaded, made after the upload has been answered.
//!
//! The database is the queue: a content that wants pictures is marked so, and stays marked until they are made. One
//! worker takes them one at a time, and decodes on the pool for blocking work, within bounds to size and memory.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use image::{DynamicImage, ImageFormat, ImageReader, Limits, imageops::FilterType};

use super::library::{Library, sha256};
use super::model::{Content, Status, Trouble, now_ms};

/// The longest sides of thumbnails.
pub(super) const SIZES: [u32; 6] = [128, 256, 480, 512, 720, 1024];
/// That of the preview.
const PREVIEW: u32 = 1600;
/// Nothing longer, wider or larger than this is decoded.
const MAX_SIDE: u32 = 16_384;
const MAX_PIXELS: u64 = 40_000_000;
const MAX_MEMORY: u64 = 256 * 1024 * 1024;
/// How often the worker looks although nobody has told it to.
const ROUND: Duration = Duration::from_secs(5);

/// The kind of picture that these bytes are, if we make others of it.
pub(super) fn kind(bytes: &[u8]) -> Option<ImageFormat> {
    let kind = image::guess_format(bytes).ok()?;
    matches!(kind, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Gif).then_some(kind)
}

/// Works until the program ends.
pub(super) async fn work(library: Arc<Library>) {
    let mut rounds = 0_u32;
    loop {
        // What another program has left, when that is long ago; at the beginning, what this one has.
        if rounds.is_multiple_of(60)
            && let Err(trouble) = library.db.recover(rounds == 0 && !library.db.is_shared()).await
        {
            tracing::warn!(?trouble, "what was left undone cannot be taken up");
        }
        rounds = rounds.wrapping_add(1);
        loop {
            let wanting = match library.db.wanting(8).await {
                Ok(wanting) if wanting.is_empty() => break,
                Ok(wanting) => wanting,
                Err(trouble) => {
                    tracing::warn!(?trouble, "no pictures can be made");
                    break;
                }
            };
            for content in wanting {
                if let Err(trouble) = pictures_of(&library, &content).await {
                    tracing::warn!(content = content.id, ?trouble, "no pictures were made");
                    // Not again before the next round.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
        let _ = tokio::time::timeout(ROUND, library.wanted.notified()).await;
    }
}

async fn pictures_of(library: &Library, content: &Content) -> Result<(), Trouble> {
    if !library.db.mark(&content.id, 1, 2).await? {
        return Ok(());
    }
    let variants = SIZES.map(|size| ("thumbnail", format!("thumbnail_{size}"), size));
    let variants: Vec<_> = variants.into_iter().chain([("preview", format!("preview_{PREVIEW}"), PREVIEW)]).collect();
    let mut all = Vec::new();
    for (kind, variant, size) in variants {
        all.push((begin(library, content, kind, &variant).await?, size));
    }
    let decoded = match library.blobs.get(&content.backend, &content.object_key, library.bounds.upload_bytes as u64).await {
        Ok(bytes) => blocking(move || decode(&bytes)).await,
        Err(trouble) => Err(trouble.to_string()),
    };
    match decoded {
        Ok(picture) => {
            let picture = Arc::new(picture);
            for (derived, size) in all {
                let picture = picture.clone();
                let made = blocking(move || shrink(&picture, size)).await;
                finish(library, &derived, made).await?;
            }
        }
        Err(why) => {
            for (derived, _) in all {
                finish(library, &derived, Err(why.clone())).await?;
            }
        }
    }
    library.db.mark(&content.id, 2, 0).await?;
    if matches!(library.db.find(&super::model::Who::Anyone, &content.id).await, Err(Trouble::NotFound(_))) {
        // It was deleted meanwhile: so are these.
        library.db.delete(&content.id, now_ms()).await?;
    }
    Ok(())
}

/// A picture that is being made: the one that was begun before, if there is one.
async fn begin(library: &Library, content: &Content, kind: &str, variant: &str) -> Result<Content, Trouble> {
    let id = uuid::Uuid::new_v4().to_string();
    let at_ms = now_ms();
    let derived = Content {
        object_key: format!("derived/{}/{variant}", content.id),
        id,
        name: format!("{} ({variant})", content.name),
        description: String::new(),
        document_type: String::new(),
        status: Status::Processing,
        derivation_type: kind.into(),
        parent: content.id.clone(),
        variant: variant.into(),
        tags: Vec::new(),
        metadata: serde_json::Map::new(),
        file_name: format!("{variant}-{}", content.file_name),
        file_size: 0,
        checksum: String::new(),
        failure: String::new(),
        created_ms: at_ms,
        updated_ms: at_ms,
        ..content.clone()
    };
    library.db.add(&derived, "").await?;
    let filter =
        super::db::Filter { parent: Some(content.id.clone()), variants: vec![variant.into()], limit: 1, ..super::db::Filter::default() };
    let (mut found, _) = library.db.list(&super::model::Who::Anyone, &filter).await?;
    let found = found.pop().ok_or_else(|| Trouble::NotFound(content.id.clone()))?;
    library.db.turn(&found.id, &[Status::Failed, Status::Processed], Status::Processing, "", None).await?;
    Ok(found)
}

async fn finish(library: &Library, derived: &Content, made: Result<(Bytes, &'static str), String>) -> Result<(), Trouble> {
    let stored = match made {
        Ok((bytes, media)) => library.blobs.put(&derived.backend, &derived.object_key, bytes.clone()).await.map(|()| (bytes, media)),
        Err(why) => Err(Trouble::Storage(why)),
    };
    let from = [Status::Processing];
    match stored {
        Ok((bytes, media)) => {
            let checksum = sha256(&bytes);
            let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            let stored = super::db::Stored { size, checksum: &checksum, document_type: media, derives: false };
            match library.db.turn(&derived.id, &from, Status::Processed, "", Some(stored)).await? {
                true => Ok(()),
                false => library.clear_away(derived).await,
            }
        }
        Err(trouble) => {
            let why = match trouble {
                Trouble::Storage(why) => why,
                other => other.to_string(),
            };
            library.db.turn(&derived.id, &from, Status::Failed, &why, None).await.map(drop)
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("the picture cannot be read".into()))
}

fn decode(bytes: &[u8]) -> Result<DynamicImage, String> {
    let kind = kind(bytes).ok_or("it is no picture that we know")?;
    let said = |e: image::ImageError| match e {
        image::ImageError::Limits(_) => format!("the picture is too large: at most {MAX_SIDE} pixels on a side"),
        _ => "the picture is damaged".to_owned(),
    };
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), kind).into_dimensions().map_err(said)?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("the picture is too large: {width} by {height} pixels, of at most {MAX_PIXELS} in all"));
    }
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height, limits.max_alloc) = (Some(MAX_SIDE), Some(MAX_SIDE), Some(MAX_MEMORY));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), kind);
    reader.limits(limits);
    reader.decode().map_err(said)
}

/// As large as `size` on its longer side, or as it is where that is less.
fn shrink(picture: &DynamicImage, size: u32) -> Result<(Bytes, &'static str), String> {
    let larger = picture.width().max(picture.height()) > size;
    let small = if larger { picture.resize(size, size, FilterType::Triangle) } else { picture.clone() };
    let mut out = Cursor::new(Vec::new());
    let (small, kind, media) = match small.color().has_alpha() {
        true => (DynamicImage::from(small.to_rgba8()), ImageFormat::Png, "image/png"),
        false => (DynamicImage::from(small.to_rgb8()), ImageFormat::Jpeg, "image/jpeg"),
    };
    small.write_to(&mut out, kind).map_err(|_| "the picture cannot be written")?;
    Ok((out.into_inner().into(), media))
}
