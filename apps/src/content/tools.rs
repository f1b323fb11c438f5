//! The fourteen tools. Each answers with one text, which is JSON.

use std::collections::HashMap;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, ContentBlock, GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::db::Filter;
use super::library::{Change, Library, Shared, Upload, base64, gate, quoted, tags, uuid};
use super::links::Purpose;
use super::model::{Content, Status, Trouble, Who, time, words};
use super::resources;

/// The longest content that an answer can hold, in bytes.
const MAX_BASE64: u64 = 8 * 1024 * 1024;
/// How many variants can be asked for at once.
const MAX_VARIANTS: usize = 100;
/// How much of a batch is done at a time.
const AT_ONCE: usize = 8;
/// Thumbnails that are shown unless others are asked for.
const USUAL_SIZES: [u32; 4] = [256, 512, 720, 1024];

/// What is shown beside tools.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) resources: bool,
    pub(super) prompts: bool,
}

/// The handler, for one caller.
#[derive(Clone, Debug)]
pub(super) struct Handler {
    library: Shared,
    who: Who,
    shown: Shown,
}

#[derive(Deserialize, JsonSchema)]
struct UploadContent {
    /// Whose it is
    #[schemars(extend("format" = "uuid"))]
    owner_id: String,
    /// What it is called
    name: String,
    /// Base64, or an http or https URL that it is fetched from
    data: String,
    /// The tenant it belongs to
    #[schemars(extend("format" = "uuid"))]
    tenant_id: Option<String>,
    /// What it is about
    description: Option<String>,
    /// Its media type; application/octet-stream unless the URL says otherwise
    document_type: Option<String>,
    /// Where its bytes are kept: default, or the name of a storage
    storage_backend: Option<String>,
    /// The name of its file; its name unless said otherwise
    file_name: Option<String>,
    /// Tags
    tags: Option<Vec<String>>,
    /// Anything else that is known of it
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize, JsonSchema)]
struct ContentId {
    /// The content
    #[schemars(extend("format" = "uuid"))]
    content_id: String,
}

#[derive(Deserialize, JsonSchema)]
struct Details {
    /// The content
    #[schemars(extend("format" = "uuid"))]
    content_id: String,
    /// Whether a URL is wanted to which the bytes can be PUT, if they are still to come
    include_upload_url: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
struct ListContent {
    /// Whose contents
    #[schemars(extend("format" = "uuid"))]
    owner_id: Option<String>,
    /// Of which tenant
    #[schemars(extend("format" = "uuid"))]
    tenant_id: Option<String>,
    /// In which status
    status: Option<String>,
    /// Tags, all of which it has
    tags: Option<Vec<String>>,
    /// How many at most
    limit: Option<i64>,
    /// How many are left out before
    offset: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct DownloadContent {
    /// The content
    #[schemars(extend("format" = "uuid"))]
    content_id: String,
    /// url or base64
    format: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct UpdateContent {
    /// The content
    #[schemars(extend("format" = "uuid"))]
    content_id: String,
    /// What it is called from now on
    name: Option<String>,
    /// What it is about from now on
    description: Option<String>,
    /// All its tags from now on
    tags: Option<Vec<String>>,
    /// Metadata that change; one that is null goes
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize, JsonSchema)]
struct SearchContent {
    /// Words that its name, description, tags, metadata or text begin with
    query: Option<String>,
    /// Whose contents
    #[schemars(extend("format" = "uuid"))]
    owner_id: Option<String>,
    /// Of which tenant
    #[schemars(extend("format" = "uuid"))]
    tenant_id: Option<String>,
    /// Tags, all of which it has
    tags: Option<Vec<String>>,
    /// Statuses, one of which it has
    status: Option<Vec<String>>,
    /// Made after this (RFC 3339)
    created_after: Option<String>,
    /// Made before this (RFC 3339)
    created_before: Option<String>,
    /// How many at most
    limit: Option<i64>,
    /// How many are left out before
    offset: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct ListDerived {
    /// From which content
    #[schemars(extend("format" = "uuid"))]
    parent_id: String,
    /// thumbnail, preview, …
    derivation_type: Option<String>,
    /// One variant, as thumbnail_256
    variant: Option<String>,
    /// Several
    variants: Option<Vec<String>>,
    /// How many at most
    limit: Option<i64>,
    /// How many are left out before
    offset: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct GetThumbnails {
    /// Of which content
    #[schemars(extend("format" = "uuid"))]
    parent_id: String,
    /// Sizes in pixels, of 128, 256, 480, 512, 720 and 1024
    sizes: Option<Vec<u32>>,
}

#[derive(Deserialize, JsonSchema)]
struct ListByStatus {
    /// created, uploading, uploaded, processing, processed, failed or archived
    status: String,
    /// Whose contents
    #[schemars(extend("format" = "uuid"))]
    owner_id: Option<String>,
    /// How many at most
    limit: Option<i64>,
}

#[derive(Deserialize, JsonSchema)]
struct BatchUpload {
    /// Whose they are
    #[schemars(extend("format" = "uuid"))]
    owner_id: String,
    /// The tenant they belong to
    #[schemars(extend("format" = "uuid"))]
    tenant_id: Option<String>,
    /// What is uploaded
    items: Vec<Item>,
}

#[derive(Deserialize, JsonSchema)]
struct Item {
    /// What it is called
    name: String,
    /// Base64, or an http or https URL
    data: String,
    /// The name of its file
    file_name: Option<String>,
    /// What it is about
    description: Option<String>,
    /// Its media type
    document_type: Option<String>,
    /// Tags
    tags: Option<Vec<String>>,
    /// Anything else that is known of it
    metadata: Option<Map<String, Value>>,
    /// Where its bytes are kept
    storage_backend: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct BatchDetails {
    /// The contents
    content_ids: Vec<String>,
}

impl Handler {
    pub(super) fn new(library: Shared, who: Who, shown: Shown) -> Handler {
        Handler { library, who, shown }
    }

    fn page(&self, limit: Option<i64>, usual: i64, offset: Option<i64>) -> Result<(i64, i64), Trouble> {
        let most = self.library.bounds.max_page;
        let (limit, offset) = (limit.unwrap_or(usual.min(most)), offset.unwrap_or(0));
        if !(1..=most).contains(&limit) {
            return Err(Trouble::Invalid("limit", format!("it is {limit}, of 1 to {most}")));
        }
        if offset < 0 {
            return Err(Trouble::Invalid("offset", "it is less than 0".into()));
        }
        Ok((limit, offset))
    }

    /// The owner and the tenant that somebody asks for, if they may.
    fn of(&self, owner: Option<&str>, tenant: Option<&str>) -> Result<(Option<String>, Option<String>), Trouble> {
        let owner = owner.map(|owner| uuid("owner_id", owner)).transpose()?;
        let tenant = tenant.map(|tenant| uuid("tenant_id", tenant)).transpose()?;
        self.who.may(owner.as_deref(), tenant.as_deref())?;
        Ok((owner, tenant))
    }

    async fn find(&self, field: &'static str, id: &str) -> Result<Content, Trouble> {
        self.who.known()?;
        self.library.db.find(&self.who, &uuid(field, id)?).await
    }

    fn batch(&self, field: &'static str, len: usize) -> Result<(), Trouble> {
        let most = self.library.bounds.batch;
        match len {
            0 => Err(Trouble::Invalid(field, "the batch is empty".into())),
            len if len > most => Err(Trouble::Invalid(field, format!("the batch has {len}, of at most {most}"))),
            _ => Ok(()),
        }
    }

    async fn upload_one(&self, args: UploadContent) -> Result<Value, Trouble> {
        let upload = Upload {
            owner: args.owner_id,
            tenant: args.tenant_id,
            name: args.name,
            data: args.data,
            description: args.description,
            document_type: args.document_type,
            backend: args.storage_backend,
            file_name: args.file_name,
            tags: args.tags.unwrap_or_default(),
            metadata: args.metadata.unwrap_or_default(),
        };
        let content = self.library.upload(&self.who, upload).await?;
        let (url, _) = self.library.links.url(&content.id, Purpose::Download);
        Ok(json!({"id": content.id, "status": content.status.name(), "download_url": url, "created_at": time(content.created_ms)}))
    }

    async fn list_some(&self, args: ListContent) -> Result<Value, Trouble> {
        let (owner, tenant) = self.of(args.owner_id.as_deref(), args.tenant_id.as_deref())?;
        if owner.is_none() && self.library.bounds.needs_owner {
            return Err(Trouble::Invalid("owner_id", "it is missing".into()));
        }
        let (limit, offset) = self.page(args.limit, self.library.bounds.default_page, args.offset)?;
        let statuses = args.status.as_deref().map(|one| status(one).map(|one| vec![one])).transpose()?.unwrap_or_default();
        let tags = tags(args.tags.unwrap_or_default())?;
        let filter = Filter { owner, tenant, statuses, tags, limit, offset, ..Filter::default() };
        self.listed(&filter).await
    }

    async fn listed(&self, filter: &Filter) -> Result<Value, Trouble> {
        let (items, total) = self.library.db.list(&self.who, filter).await?;
        let items: Vec<Value> = items.iter().map(summary).collect();
        Ok(json!({"items": items, "total": total, "limit": filter.limit, "offset": filter.offset}))
    }

    async fn download_one(&self, args: DownloadContent) -> Result<Value, Trouble> {
        let content = self.find("content_id", &args.content_id).await?;
        gate(&content)?;
        let mut told = json!({"file_name": content.file_name, "mime_type": content.document_type, "size": content.file_size});
        match args.format.as_deref().unwrap_or("url") {
            "url" => told["download_url"] = json!(self.library.links.url(&content.id, Purpose::Download).0),
            "base64" if content.file_size.unsigned_abs() > MAX_BASE64 => {
                return Err(Trouble::Invalid("format", format!("the content is longer than {MAX_BASE64} bytes; use url")));
            }
            "base64" => told["data"] = json!(base64(&self.library.read(&content, MAX_BASE64).await?)),
            other => return Err(Trouble::Invalid("format", format!("{} is neither url nor base64", quoted(other)))),
        }
        Ok(told)
    }

    async fn search_some(&self, args: SearchContent) -> Result<Value, Trouble> {
        let (owner, tenant) = self.of(args.owner_id.as_deref(), args.tenant_id.as_deref())?;
        let (limit, offset) = self.page(args.limit, self.library.bounds.default_page, args.offset)?;
        let query = args.query.unwrap_or_default();
        let words = words(&query);
        if words.len() > 32 || query.len() > 1000 {
            return Err(Trouble::Invalid("query", "it is longer than 32 words, or 1000 bytes".into()));
        }
        if words.is_empty() && !query.trim().is_empty() {
            return Err(Trouble::Invalid("query", "it has no letter and no digit".into()));
        }
        let all = args.status.unwrap_or_default();
        let mut statuses = Vec::new();
        for one in &all {
            let one = status(one)?;
            if !statuses.contains(&one) {
                statuses.push(one);
            }
        }
        let filter = Filter {
            owner,
            tenant,
            statuses,
            tags: tags(args.tags.unwrap_or_default())?,
            words,
            created_after_ms: args.created_after.as_deref().map(|at| moment("created_after", at)).transpose()?,
            created_before_ms: args.created_before.as_deref().map(|at| moment("created_before", at)).transpose()?,
            limit,
            offset,
            ..Filter::default()
        };
        self.listed(&filter).await
    }

    async fn derived_of(&self, args: ListDerived) -> Result<Value, Trouble> {
        let parent = self.find("parent_id", &args.parent_id).await?;
        let (limit, offset) = self.page(args.limit, self.library.bounds.default_page, args.offset)?;
        let mut variants: Vec<String> =
            args.variants.unwrap_or_default().into_iter().chain(args.variant).map(|variant| variant.to_lowercase()).collect();
        variants.sort();
        variants.dedup();
        if variants.len() > MAX_VARIANTS {
            return Err(Trouble::Invalid("variants", format!("there are more than {MAX_VARIANTS}")));
        }
        let derivation_type = args.derivation_type.map(|kind| kind.to_lowercase());
        let filter = Filter { derivation_type, variants, limit, offset, ..Filter::default() };
        let (items, total) = derived(&self.library, &self.who, &parent.id, filter).await?;
        Ok(json!({"items": items, "count": items.len(), "total": total, "limit": limit, "offset": offset}))
    }

    async fn thumbnails_of(&self, args: GetThumbnails) -> Result<Value, Trouble> {
        let parent = self.find("parent_id", &args.parent_id).await?;
        let mut sizes = args.sizes.filter(|sizes| !sizes.is_empty()).unwrap_or(USUAL_SIZES.to_vec());
        sizes.sort_unstable();
        sizes.dedup();
        if let Some(strange) = sizes.iter().find(|size| !super::pictures::SIZES.contains(size)) {
            return Err(Trouble::Invalid("sizes", format!("{strange} is none of {:?}", super::pictures::SIZES)));
        }
        let filter = Filter { variants: sizes.iter().map(|size| format!("thumbnail_{size}")).collect(), limit: 100, ..Filter::default() };
        let (items, _) = derived(&self.library, &self.who, &parent.id, filter).await?;
        let mut thumbnails = Map::new();
        for item in items {
            let size = item["variant"].as_str().and_then(|variant| variant.strip_prefix("thumbnail_")).unwrap_or_default().to_owned();
            let mut one = Map::new();
            for key in ["content_id", "variant", "download_url", "thumbnail_url", "status", "failure", "document_type", "created_at"] {
                if let Some(value) = item.get(key) {
                    one.insert(key.into(), value.clone());
                }
            }
            thumbnails.insert(size, Value::Object(one));
        }
        Ok(json!({"parent_id": parent.id, "thumbnails": thumbnails}))
    }

    async fn status_of(&self, id: &str) -> Result<Value, Trouble> {
        let content = self.find("content_id", id).await?;
        let filter = Filter { parent: Some(content.id.clone()), statuses: vec![Status::Processed], limit: 100, ..Filter::default() };
        let (made, _) = self.library.db.list(&self.who, &filter).await?;
        let has = |kind: &str| made.iter().any(|one| one.derivation_type == kind);
        let mut told = json!({
            "id": content.id,
            "status": content.status.name(),
            "ready": matches!(content.status, Status::Uploaded | Status::Processed),
            "has_thumbnails": has("thumbnail"),
            "has_previews": has("preview"),
            "updated_at": time(content.updated_ms),
        });
        if !content.failure.is_empty() {
            told["failure"] = json!(content.failure);
        }
        Ok(told)
    }

    async fn in_status(&self, args: ListByStatus) -> Result<Value, Trouble> {
        let (owner, _) = self.of(args.owner_id.as_deref(), None)?;
        let (limit, offset) = self.page(args.limit, 100, None)?;
        let status = status(&args.status)?;
        let filter = Filter { owner, statuses: vec![status], all: true, limit, offset, ..Filter::default() };
        let (items, total) = self.library.db.list(&self.who, &filter).await?;
        let items: Vec<Value> = items.iter().map(summary).collect();
        Ok(json!({"status": status.name(), "items": items, "count": items.len(), "total": total}))
    }

    async fn upload_all(&self, args: BatchUpload) -> Result<Value, Trouble> {
        self.of(Some(&args.owner_id), args.tenant_id.as_deref())?;
        self.batch("items", args.items.len())?;
        let mut jobs = args.items.into_iter().enumerate();
        let start = |running: &mut JoinSet<(usize, Result<Value, Trouble>)>, (index, item): (usize, Item)| {
            let (handler, owner_id, tenant_id) = (self.clone(), args.owner_id.clone(), args.tenant_id.clone());
            running.spawn(async move {
                let one = UploadContent {
                    owner_id,
                    tenant_id,
                    name: item.name,
                    data: item.data,
                    description: item.description,
                    document_type: item.document_type,
                    storage_backend: item.storage_backend,
                    file_name: item.file_name,
                    tags: item.tags,
                    metadata: item.metadata,
                };
                (index, handler.upload_one(one).await)
            });
        };
        let mut running = JoinSet::new();
        jobs.by_ref().take(AT_ONCE).for_each(|job| start(&mut running, job));
        let mut results = Vec::new();
        while let Some(done) = running.join_next().await {
            let (index, done) = done.map_err(|e| Trouble::Internal(e.to_string()))?;
            results.push(match done {
                Ok(told) => json!({"index": index, "success": true, "content_id": told["id"], "status": told["status"]}),
                Err(trouble) => {
                    log(&trouble);
                    json!({"index": index, "success": false, "error": trouble.to_string()})
                }
            });
            if let Some(job) = jobs.next() {
                start(&mut running, job);
            }
        }
        results.sort_by_key(|result| result["index"].as_u64());
        Ok(counted(results, |result| result["success"] == true))
    }

    async fn details_of_all(&self, args: BatchDetails) -> Result<Value, Trouble> {
        self.who.known()?;
        self.batch("content_ids", args.content_ids.len())?;
        let [index_key, details_key, error_key] =
            if self.library.bounds.capitals { ["Index", "Details", "Error"] } else { ["index", "details", "error"] };
        let mut results = Vec::new();
        for (index, id) in args.content_ids.iter().enumerate() {
            let mut result = Map::new();
            result.insert(index_key.into(), json!(index));
            match self.find("content_ids", id).await {
                Ok(content) => result.insert(
                    details_key.into(),
                    json!({
                        "id": content.id,
                        "download_url": content.is_there().then(|| self.library.links.url(&content.id, Purpose::Download).0),
                        "file_name": content.file_name,
                        "file_size": content.file_size,
                        "mime_type": content.document_type,
                        "ready": is_ready(&content),
                        "created_at": time(content.created_ms),
                        "updated_at": time(content.updated_ms),
                    }),
                ),
                Err(trouble) => {
                    log(&trouble);
                    result.insert(error_key.into(), json!(trouble.to_string()))
                }
            };
            results.push(Value::Object(result));
        }
        Ok(counted(results, |result| result.get(details_key).is_some()))
    }
}

#[tool_router]
impl Handler {
    #[tool(
        name = "upload_content",
        description = "Stores a content: base64, or what is at an http or https URL",
        annotations(read_only_hint = false, destructive_hint = false)
    )]
    async fn upload_content(&self, Parameters(args): Parameters<UploadContent>) -> Result<CallToolResult, ErrorData> {
        answer(self.upload_one(args).await)
    }

    #[tool(name = "get_content", description = "What a content is", annotations(read_only_hint = true))]
    async fn get_content(&self, Parameters(args): Parameters<ContentId>) -> Result<CallToolResult, ErrorData> {
        answer(self.find("content_id", &args.content_id).await.map(|content| content.told()))
    }

    #[tool(
        name = "get_content_details",
        description = "All that is known of a content, with URLs of it and its thumbnails",
        annotations(read_only_hint = true)
    )]
    async fn get_content_details(&self, Parameters(args): Parameters<Details>) -> Result<CallToolResult, ErrorData> {
        let told = async {
            let content = self.find("content_id", &args.content_id).await?;
            details(&self.library, &self.who, &content, args.include_upload_url.unwrap_or(false)).await
        };
        answer(told.await)
    }

    #[tool(name = "list_content", description = "The contents of an owner, the newest first", annotations(read_only_hint = true))]
    async fn list_content(&self, Parameters(args): Parameters<ListContent>) -> Result<CallToolResult, ErrorData> {
        answer(self.list_some(args).await)
    }

    #[tool(
        name = "download_content",
        description = "A URL of a content that is good for an hour, or its bytes as base64",
        annotations(read_only_hint = true)
    )]
    async fn download_content(&self, Parameters(args): Parameters<DownloadContent>) -> Result<CallToolResult, ErrorData> {
        answer(self.download_one(args).await)
    }

    #[tool(
        name = "update_content",
        description = "Changes name, description, tags or metadata of a content",
        annotations(read_only_hint = false, idempotent_hint = true)
    )]
    async fn update_content(&self, Parameters(args): Parameters<UpdateContent>) -> Result<CallToolResult, ErrorData> {
        let told = async {
            let content = self.find("content_id", &args.content_id).await?;
            let change = Change { name: args.name, description: args.description, tags: args.tags, metadata: args.metadata };
            let content = self.library.update(&self.who, &content.id, change).await?;
            Ok(json!({"success": true, "updated_at": time(content.updated_ms)}))
        };
        answer(told.await)
    }

    #[tool(
        name = "delete_content",
        description = "Takes a content out of sight, with what was derived from it",
        annotations(read_only_hint = false, destructive_hint = true)
    )]
    async fn delete_content(&self, Parameters(args): Parameters<ContentId>) -> Result<CallToolResult, ErrorData> {
        let told = async {
            let content = self.find("content_id", &args.content_id).await?;
            let at_ms = self.library.delete(&self.who, &content.id).await?;
            Ok(json!({"success": true, "deleted_at": time(at_ms)}))
        };
        answer(told.await)
    }

    #[tool(name = "search_content", description = "Contents by words, tags, status and time", annotations(read_only_hint = true))]
    async fn search_content(&self, Parameters(args): Parameters<SearchContent>) -> Result<CallToolResult, ErrorData> {
        answer(self.search_some(args).await)
    }

    #[tool(name = "list_derived_content", description = "What was derived from a content", annotations(read_only_hint = true))]
    async fn list_derived_content(&self, Parameters(args): Parameters<ListDerived>) -> Result<CallToolResult, ErrorData> {
        answer(self.derived_of(args).await)
    }

    #[tool(name = "get_thumbnails", description = "The thumbnails of a picture, by their size", annotations(read_only_hint = true))]
    async fn get_thumbnails(&self, Parameters(args): Parameters<GetThumbnails>) -> Result<CallToolResult, ErrorData> {
        answer(self.thumbnails_of(args).await)
    }

    #[tool(name = "get_content_status", description = "How far a content has come", annotations(read_only_hint = true))]
    async fn get_content_status(&self, Parameters(args): Parameters<ContentId>) -> Result<CallToolResult, ErrorData> {
        answer(self.status_of(&args.content_id).await)
    }

    #[tool(name = "list_by_status", description = "Contents in one status, derived ones as well", annotations(read_only_hint = true))]
    async fn list_by_status(&self, Parameters(args): Parameters<ListByStatus>) -> Result<CallToolResult, ErrorData> {
        answer(self.in_status(args).await)
    }

    #[tool(
        name = "batch_upload",
        description = "Stores several contents at once; some may fail when others do not",
        annotations(read_only_hint = false, destructive_hint = false)
    )]
    async fn batch_upload(&self, Parameters(args): Parameters<BatchUpload>) -> Result<CallToolResult, ErrorData> {
        answer(self.upload_all(args).await)
    }

    #[tool(name = "batch_get_details", description = "Details of several contents at once", annotations(read_only_hint = true))]
    async fn batch_get_details(&self, Parameters(args): Parameters<BatchDetails>) -> Result<CallToolResult, ErrorData> {
        answer(self.details_of_all(args).await)
    }
}

#[tool_handler]
impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let mut abilities = ServerCapabilities::builder().enable_tools().build();
        if self.shown.resources {
            abilities.resources = Some(Default::default());
        }
        if self.shown.prompts {
            abilities.prompts = Some(Default::default());
        }
        ServerConfig::new(abilities).with_server_info(Implementation::new("simple-content-mcp", env!("CARGO_PKG_VERSION")))
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        shown(self.shown.resources, "resources")?;
        Ok(ListResourcesResult::with_all_items(resources::list()))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        shown(self.shown.resources, "resources")?;
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        shown(self.shown.resources, "resources")?;
        resources::read(&self.library, &self.who, &request.uri).await.map(Into::into)
    }

    async fn list_prompts(&self, _: Option<PaginatedRequestParams>, _: RequestContext<RoleServer>) -> Result<ListPromptsResult, ErrorData> {
        shown(self.shown.prompts, "prompts")?;
        Ok(ListPromptsResult::with_all_items(resources::prompts()))
    }

    async fn get_prompt(&self, request: GetPromptRequestParams, _: RequestContext<RoleServer>) -> Result<GetPromptResponse, ErrorData> {
        shown(self.shown.prompts, "prompts")?;
        resources::prompt(&request).map(Into::into)
    }
}

fn shown(is_shown: bool, what: &str) -> Result<(), ErrorData> {
    let off = || ErrorData::new(rmcp::model::ErrorCode::METHOD_NOT_FOUND, format!("{what} are switched off"), None);
    if is_shown { Ok(()) } else { Err(off()) }
}

/// What a tool answers.
fn answer(told: Result<Value, Trouble>) -> Result<CallToolResult, ErrorData> {
    Ok(match told {
        Ok(told) => {
            let text = serde_json::to_string_pretty(&told).map_err(|e| ErrorData::internal_error(e.to_string(), None))?;
            CallToolResult::success(vec![ContentBlock::text(text)])
        }
        Err(trouble) => {
            log(&trouble);
            CallToolResult::error(vec![ContentBlock::text(trouble.to_string())])
        }
    })
}

fn log(trouble: &Trouble) {
    if let Trouble::Internal(why) = trouble {
        tracing::warn!(why, "a tool has failed");
    }
}

fn counted(results: Vec<Value>, is_good: impl Fn(&Value) -> bool) -> Value {
    let good = results.iter().filter(|result| is_good(result)).count();
    json!({"total": results.len(), "successful": good, "failed": results.len() - good, "results": results})
}

fn status(name: &str) -> Result<Status, Trouble> {
    let known = || Status::ALL.map(Status::name).join(", ");
    Status::read(name).ok_or_else(|| Trouble::Invalid("status", format!("{} is none of {}", quoted(name), known())))
}

fn moment(field: &'static str, text: &str) -> Result<i64, Trouble> {
    let read = text.parse::<jiff::Timestamp>().map(|time| time.as_millisecond());
    read.map_err(|_| Trouble::Invalid(field, format!("{} is no time; write 2026-11-20T12:00:00Z", quoted(text))))
}

/// A content in a list.
fn summary(content: &Content) -> Value {
    let mut told = content.told();
    told["tags"] = json!(content.tags);
    told["file_name"] = json!(content.file_name);
    told["document_type"] = json!(content.document_type);
    told
}

fn is_ready(content: &Content) -> bool {
    match content.parent.is_empty() {
        true => content.status == Status::Uploaded,
        false => content.status == Status::Processed,
    }
}

/// What was derived from a content, as clients are told, and how much there is.
pub(super) async fn derived(library: &Library, who: &Who, parent: &str, filter: Filter) -> Result<(Vec<Value>, i64), Trouble> {
    library.db.find(who, parent).await?;
    let (items, total) = library.db.list(who, &Filter { parent: Some(parent.to_owned()), ..filter }).await?;
    let told = |one: &Content| {
        let mut told = json!({
            "parent_id": one.parent,
            "content_id": one.id,
            "derivation_type": one.derivation_type,
            "variant": one.variant,
            "status": one.status.name(),
            "document_type": one.document_type,
            "created_at": time(one.created_ms),
            "updated_at": time(one.updated_ms),
        });
        if one.is_there() {
            let (url, _) = library.links.url(&one.id, Purpose::Download);
            let shown = if one.derivation_type == "preview" { "preview_url" } else { "thumbnail_url" };
            told[shown] = json!(url);
            told["download_url"] = json!(url);
        }
        if !one.failure.is_empty() {
            told["failure"] = json!(one.failure);
        }
        told
    };
    Ok((items.iter().map(told).collect(), total))
}

/// All that is known of a content.
pub(super) async fn details(library: &Library, who: &Who, content: &Content, upload: bool) -> Result<Value, Trouble> {
    let filter = Filter { parent: Some(content.id.clone()), statuses: vec![Status::Processed], limit: 100, ..Filter::default() };
    let (made, _) = library.db.list(who, &filter).await?;
    let url = |id: &str| library.links.url(id, Purpose::Download).0;
    let mut by_kind: HashMap<&str, Map<String, Value>> = HashMap::new();
    for one in &made {
        let name = if one.derivation_type == "thumbnail" { one.variant.trim_start_matches("thumbnail_") } else { &one.variant };
        by_kind.entry(&one.derivation_type).or_default().insert(name.to_owned(), json!(url(&one.id)));
    }
    let mut of = |kind| by_kind.remove(kind).unwrap_or_default();
    let (thumbnails, previews, transcodes) = (of("thumbnail"), of("preview"), of("transcode"));
    let (download, expires_s) = library.links.url(&content.id, Purpose::Download);
    let mut told = json!({
        "id": content.id,
        "file_name": content.file_name,
        "file_size": content.file_size,
        "mime_type": content.document_type,
        "tags": content.tags,
        "metadata": content.metadata,
        "checksum": content.checksum,
        "ready": is_ready(content),
        "thumbnail": thumbnails.get("256"),
        "preview": previews.values().next(),
        "thumbnails": thumbnails,
        "previews": previews,
        "transcodes": transcodes,
        "expires_at": time(expires_s.saturating_mul(1000)),
        "created_at": time(content.created_ms),
        "updated_at": time(content.updated_ms),
    });
    if content.is_there() {
        told["download"] = json!(download);
    }
    if upload {
        if !matches!(content.status, Status::Created | Status::Failed) {
            told["upload_note"] = json!(format!("it is {}: there is nothing to upload", content.status.name()));
        } else {
            let (url, expires_s) = library.links.url(&content.id, Purpose::Upload);
            told["upload"] = json!(url);
            told["upload_expires_at"] = json!(time(expires_s.saturating_mul(1000)));
        }
    }
    Ok(told)
}
