//! Resources and prompts.

use rmcp::ErrorData;
use rmcp::model::{
    GetPromptRequestParams, GetPromptResult, Prompt, PromptArgument, PromptMessage, ReadResourceResult, Resource, ResourceContents,
    ResourceTemplate, Role,
};
use serde_json::{Value, json};

use super::library::{Library, base64, uuid};
use super::model::{Status, Trouble, Who, now_ms, time};
use super::tools;

/// The longest content that is read as a resource, in bytes.
const MAX_READ: u64 = 8 * 1024 * 1024;

pub(super) fn list() -> Vec<Resource> {
    let resource = |uri: &str, name: &str, about: &str, media: &str| Resource::new(uri, name).with_description(about).with_mime_type(media);
    vec![
        resource("schema://content", "Content schema", "What a content looks like, as JSON Schema", "application/schema+json"),
        resource("schema://derived-content", "Derived content schema", "What a derived one looks like", "application/schema+json"),
        resource("stats://system", "Statistics", "How many contents there are, by their status", "application/json"),
        resource("backends://storage", "Storage backends", "Where the bytes of contents can be", "application/json"),
    ]
}

pub(super) fn templates() -> Vec<ResourceTemplate> {
    let template =
        |uri: &str, name: &str, about: &str, media: &str| ResourceTemplate::new(uri, name).with_description(about).with_mime_type(media);
    vec![
        template("content://{id}", "Content", "What a content is", "application/json"),
        template("content://{id}/details", "Content details", "The same, with URLs, size and tags", "application/json"),
        ResourceTemplate::new("content://{id}/data", "Content data").with_description("The bytes of a content"),
        template("derived://{parent}", "Derived contents", "What was derived from a content", "application/json"),
    ]
}

pub(super) async fn read(library: &Library, who: &Who, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let read = document(library, who, uri).await;
    read.map(|contents| ReadResourceResult::new(vec![contents])).map_err(|trouble| match trouble {
        Trouble::NotFound(_) => ErrorData::resource_not_found(trouble.to_string(), Some(json!({"uri": uri}))),
        Trouble::Internal(why) => {
            tracing::warn!(why, "a resource cannot be read");
            ErrorData::internal_error("internal error: see the server's log", None)
        }
        Trouble::Storage(_) | Trouble::Busy => ErrorData::internal_error(trouble.to_string(), None),
        other => ErrorData::invalid_params(other.to_string(), None),
    })
}

async fn document(library: &Library, who: &Who, uri: &str) -> Result<ResourceContents, Trouble> {
    who.known()?;
    let text = |value: Value, media: &str| {
        Ok(ResourceContents::text(serde_json::to_string_pretty(&value).unwrap_or_default(), uri).with_mime_type(media))
    };
    let unknown = || Trouble::NotFound(uri.chars().take(200).collect());
    let (scheme, rest) = uri.split_once("://").ok_or_else(unknown)?;
    match (scheme, rest) {
        ("schema", "content") => text(schema(false), "application/schema+json"),
        ("schema", "derived-content") => text(schema(true), "application/schema+json"),
        ("stats", "system") => {
            let counts = library.db.counts(who).await?;
            let total: i64 = counts.iter().map(|(_, count)| count).sum();
            let by_status: serde_json::Map<String, Value> = counts.into_iter().map(|(status, count)| (status, json!(count))).collect();
            text(json!({"content_count": {"total": total, "by_status": by_status}, "timestamp": time(now_ms())}), "application/json")
        }
        ("backends", "storage") => {
            let names = library.blobs.names();
            text(json!({"default": names.first(), "backends": names}), "application/json")
        }
        ("derived", parent) => {
            let parent = uuid("uri", parent)?;
            let (items, _) = tools::derived(library, who, &parent, super::db::Filter { limit: 100, ..Default::default() }).await?;
            text(json!({"parent_id": parent, "items": items, "count": items.len()}), "application/json")
        }
        ("content", rest) => {
            let (id, part) = rest.split_once('/').unwrap_or((rest, ""));
            let content = library.db.find(who, &uuid("uri", id)?).await?;
            match part {
                "" => text(content.told(), "application/json"),
                "details" => text(tools::details(library, who, &content, false).await?, "application/json"),
                "data" => {
                    let bytes = library.read(&content, MAX_READ).await?;
                    Ok(ResourceContents::blob(base64(&bytes), uri).with_mime_type(content.document_type))
                }
                _ => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

fn schema(derived: bool) -> Value {
    let id = json!({"type": "string", "format": "uuid"});
    let time = json!({"type": "string", "format": "date-time"});
    let text = json!({"type": "string"});
    let status = json!({"type": "string", "enum": Status::ALL.map(Status::name)});
    if derived {
        return json!({
            "$schema": "http://json-schema.org/draft-07/schema#", "title": "Derived content", "type": "object",
            "properties": {
                "parent_id": id, "content_id": id, "derivation_type": text, "variant": text, "status": status, "download_url": text,
                "thumbnail_url": text, "preview_url": text, "document_type": text, "created_at": time, "updated_at": time,
            },
            "required": ["parent_id", "content_id", "derivation_type", "variant", "status"],
        });
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#", "title": "Content", "type": "object",
        "properties": {
            "id": id, "owner_id": id, "tenant_id": id, "name": text, "description": text, "status": status, "derivation_type": text,
            "parent_id": id, "failure": text, "created_at": time, "updated_at": time,
        },
        "required": ["id", "owner_id", "name", "status"],
    })
}

/// Its name, what it is for, and its argument with what that is.
type Offered = (&'static str, &'static str, Option<(&'static str, &'static str)>);

const PROMPTS: [Offered; 4] = [
    (
        "upload-workflow",
        "How to upload a content, and see that it has arrived",
        Some(("content_type", "What is uploaded: image, document, …")),
    ),
    ("search-workflow", "How to find contents", Some(("search_type", "By what: tags, metadata or status"))),
    ("derived-content-workflow", "How to get thumbnails, previews and whatever else is derived", None),
    ("status-monitoring", "How to follow what becomes of uploads", None),
];

pub(super) fn prompts() -> Vec<Prompt> {
    let argument = |(name, about): (&str, &str)| vec![PromptArgument::new(name).with_description(about).with_required(false)];
    PROMPTS.iter().map(|(name, about, of)| Prompt::new(*name, Some(*about), of.map(argument))).collect()
}

pub(super) fn prompt(request: &GetPromptRequestParams) -> Result<GetPromptResult, ErrorData> {
    let Some((name, about, takes)) = PROMPTS.iter().find(|(name, ..)| *name == request.name) else {
        let known: Vec<&str> = PROMPTS.iter().map(|(name, ..)| *name).collect();
        let name: String = request.name.chars().take(100).collect();
        return Err(ErrorData::invalid_params(format!("there is no prompt {name:?}; there are {}", known.join(", ")), None));
    };
    let argument = takes.and_then(|(argument, _)| request.arguments.as_ref()?.get(argument)?.as_str()).unwrap_or_default();
    let argument: String = argument.chars().take(200).collect();
    let text = match *name {
        "upload-workflow" => {
            let what = if argument.is_empty() { "a content" } else { &argument };
            format!(
                "Upload {what} to the library:\n\n\
                 1. Call upload_content with owner_id, name and data (base64, or an http or https URL), and with document_type and tags where you know them.\n\
                 2. Keep the id of the answer, and call get_content_status until ready is true.\n\
                 3. Call get_content_details for its URL, its size and its checksum, and tell me what you see.\n\n\
                 Several go faster by batch_upload; look at every result, as some may fail when others do not."
            )
        }
        "search-workflow" => {
            let how = match argument.as_str() {
                "tags" => "Pass tags: what is found has all of them.",
                "metadata" => "Pass a query: words of metadata are found as those of names and texts are.",
                "status" => "Pass status with the statuses you want, or call list_by_status for one of them.",
                _ => "Pass a query for words, tags that all have to fit, and status where only some are wanted.",
            };
            format!(
                "Find contents in the library with search_content.\n\n{how}\n\
                 created_after and created_before narrow it to a time. total says how many there are: go on with offset while there are more than limit.\n\
                 Then call batch_get_details with the ids that matter, and sum up what you have found."
            )
        }
        "derived-content-workflow" => "Show me what was derived from a content:\n\n\
             1. Call get_content_status of the content: has_thumbnails and has_previews say what is there already.\n\
             2. Call get_thumbnails with the sizes you want (128, 256, 480, 512, 720, 1024), or list_derived_content for everything.\n\
             3. What is processed has a download_url; what is processing will have one soon; what has failed says why."
            .to_owned(),
        _ => "See what becomes of uploads:\n\n\
             1. Call list_by_status with failed, then with uploading and processing.\n\
             2. Call get_content_details with include_upload_url for each that has failed: what is PUT to its upload URL is stored in its place.\n\
             3. Tell me what is stuck, since when, and what you would do."
            .to_owned(),
    };
    Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).with_description(*about))
}
