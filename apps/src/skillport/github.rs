//! A marketplace in a repository at GitHub.
//!
//! ```text
//!   tree:    GET git/ref/heads/BRANCH ▶ GET git/trees/COMMIT?recursive=1      nothing, where the commit is known
//!   read:    GET contents/PATH?ref=COMMIT, raw
//!   commit:  POST git/blobs … ▶ POST git/trees ▶ POST git/commits ▶ PATCH git/refs/heads/BRANCH, never forced
//!            refused? ▶ GET compare/COMMIT...BRANCH: it may be there already
//! ```
//!
//! Every request is tried four times, with a pause of 200 ms that doubles, while GitHub does not answer or says 5xx. All
//! of them can be sent twice: objects are named by what is in them, and a branch that is where it should go stays there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::source::{Changes, Leaf, MAX_FILE_BYTES, MAX_FILES, Tree};
use super::wrong::Wrong;

/// The most bytes of an answer of the API.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(200);

const JSON: &str = "application/vnd.github+json";
/// The mode of a file that may be run.
const PROGRAM: &str = "100755";

const RAW: &str = "application/vnd.github.raw+json";

/// Which repository, and who we are there.
pub(super) struct Settings {
    pub(super) api: String,
    /// `owner/name`
    pub(super) repo: String,
    pub(super) branch: String,
    pub(super) read_token: Option<String>,
    pub(super) write_token: Option<String>,
}

pub(super) struct GitHub {
    settings: Settings,
    base: Url,
    client: Client,
    /// The last tree that was seen.
    seen: Mutex<Tree>,
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GitHub").field(&self.settings.repo).finish()
    }
}

#[derive(Deserialize)]
struct Reference {
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    sha: String,
}

#[derive(Deserialize)]
struct CommitOf {
    tree: Object,
}

/// How far a branch is from a commit.
#[derive(Deserialize)]
struct Compared {
    status: String,
}

#[derive(Deserialize)]
struct Listing {
    tree: Vec<Item>,
    truncated: bool,
}

#[derive(Deserialize)]
struct Item {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    mode: String,
    sha: String,
    #[serde(default)]
    size: u64,
}

impl GitHub {
    /// The error is a sentence.
    pub(super) fn new(settings: Settings) -> Result<GitHub, String> {
        let part = |part: &str| {
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let good = settings.repo.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name));
        if !good {
            return Err(format!("MARKETPLACE_REPO is {:?}; write it as owner/name", settings.repo));
        }
        let base = format!("{}/repos/{}/", settings.api.trim_end_matches('/'), settings.repo);
        let base = Url::parse(&base).map_err(|e| format!("GITHUB_API_URL is no URL: {e}"))?;
        // A token is shown to nobody else.
        let client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|e| format!("no client for GitHub can be made: {e}"))?;
        Ok(GitHub { settings, base, client, seen: Mutex::default() })
    }

    pub(super) fn repo(&self) -> &str {
        &self.settings.repo
    }

    pub(super) async fn tree(&self) -> Result<Tree, Wrong> {
        let commit = self.head(self.read_token()).await?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if seen.revision == commit {
            return Ok(seen);
        }
        let url = self.url(&["git", "trees", &commit], Some(("recursive", "1")))?;
        let listing: Listing = read(&self.get(url, JSON, self.read_token(), MAX_ANSWER_BYTES).await?)?;
        if listing.truncated || listing.tree.len() > MAX_FILES {
            return Err(Wrong::upstream(format!("the repository {} has too many files", self.settings.repo)));
        }
        let files = listing.tree.into_iter().filter(|item| item.kind == "blob");
        let files: BTreeMap<String, Leaf> =
            files.map(|item| (item.path, Leaf { id: item.sha, n_bytes: item.size, is_program: item.mode == PROGRAM })).collect();
        let tree = Tree { revision: commit, files };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&tree);
        Ok(tree)
    }

    pub(super) async fn read(&self, commit: &str, path: &str) -> Result<Bytes, Wrong> {
        let parts: Vec<&str> = std::iter::once("contents").chain(path.split('/')).collect();
        self.get(self.url(&parts, Some(("ref", commit)))?, RAW, self.read_token(), MAX_FILE_BYTES).await
    }

    pub(super) async fn commit(&self, base: &str, changes: Changes, message: &str) -> Result<(), Wrong> {
        let Some(token) = self.settings.write_token.as_deref() else {
            return Err(Wrong::forbidden("nothing can be changed here: GITHUB_WRITE_TOKEN is not set"));
        };
        let parent: CommitOf = read(&self.get(self.url(&["git", "commits", base], None)?, JSON, Some(token), MAX_ANSWER_BYTES).await?)?;
        let programs: BTreeSet<String> = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let files = seen.files.iter().filter(|_| seen.revision == base);
            files.filter(|(_, leaf)| leaf.is_program).map(|(path, _)| path.clone()).collect()
        };
        let mut entries = Vec::new();
        for (path, content) in changes {
            let sha = match content {
                Some(content) => {
                    let blob = json!({"content": STANDARD.encode(&content), "encoding": "base64"});
                    let made: Object = read(&self.send(Method::POST, &["git", "blobs"], &blob, token).await?)?;
                    Value::String(made.sha)
                }
                None => Value::Null,
            };
            // What could be run still can.
            let mode = if programs.contains(&path) { PROGRAM } else { "100644" };
            entries.push(json!({"path": path, "mode": mode, "type": "blob", "sha": sha}));
        }
        let tree = json!({"base_tree": parent.tree.sha, "tree": entries});
        let tree: Object = read(&self.send(Method::POST, &["git", "trees"], &tree, token).await?)?;
        let commit = json!({"message": message, "tree": tree.sha, "parents": [base]});
        let commit: Object = read(&self.send(Method::POST, &["git", "commits"], &commit, token).await?)?;
        let to = json!({"sha": commit.sha, "force": false});
        match self.send(Method::PATCH, &["git", "refs", "heads", &self.settings.branch], &to, token).await {
            // The answer to a first try may have been lost, and others may have gone on from there.
            Err(wrong) if wrong.is_conflict() && self.has(&commit.sha, token).await => Ok(()),
            done => done.map(drop),
        }
    }

    /// Whether a commit is in the branch by now, as far as that can be found out.
    async fn has(&self, commit: &str, token: &str) -> bool {
        let Ok(url) = self.url(&["compare", &format!("{commit}...{}", self.settings.branch)], None) else { return false };
        let answer = self.get(url, JSON, Some(token), MAX_ANSWER_BYTES).await;
        let status = answer.and_then(|bytes| read::<Compared>(&bytes)).map(|compared| compared.status);
        matches!(status.as_deref(), Ok("ahead" | "identical"))
    }

    fn read_token(&self) -> Option<&str> {
        self.settings.read_token.as_deref().or(self.settings.write_token.as_deref())
    }

    /// Where the branch is.
    async fn head(&self, token: Option<&str>) -> Result<String, Wrong> {
        let url = self.url(&["git", "ref", "heads", &self.settings.branch], None)?;
        let reference: Reference = read(&self.get(url, JSON, token, MAX_ANSWER_BYTES).await?)?;
        Ok(reference.object.sha)
    }

    fn url(&self, parts: &[&str], query: Option<(&str, &str)>) -> Result<Url, Wrong> {
        let mut url = self.base.clone();
        let path = url.path_segments_mut().map(|mut path| {
            path.pop_if_empty().extend(parts);
        });
        path.map_err(|()| Wrong::broken("GITHUB_API_URL has no path"))?;
        if let Some((name, value)) = query {
            url.query_pairs_mut().append_pair(name, value);
        }
        Ok(url)
    }

    async fn get(&self, url: Url, accept: &'static str, token: Option<&str>, most: u64) -> Result<Bytes, Wrong> {
        self.ask(Method::GET, url, accept, token, None, most).await
    }

    async fn send(&self, method: Method, parts: &[&str], body: &Value, token: &str) -> Result<Bytes, Wrong> {
        self.ask(method, self.url(parts, None)?, JSON, Some(token), Some(body), MAX_ANSWER_BYTES).await
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        accept: &'static str,
        token: Option<&str>,
        body: Option<&Value>,
        most: u64,
    ) -> Result<Bytes, Wrong> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(USER_AGENT, HeaderValue::from_static("landbridge-skillport"));
        headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
        if let Some(token) = token {
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Wrong::broken("the token for GitHub is no header"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut pause = PAUSE;
        let mut why = String::new();
        for attempt in 1..=TRIES {
            let request = self.client.request(method.clone(), url.clone()).headers(headers.clone());
            let request = if let Some(body) = body { request.json(body) } else { request };
            match answer(request, most).await {
                Ok((status, bytes)) if status.is_success() => return Ok(bytes),
                Ok((status, bytes)) if !status.is_server_error() => return Err(self.refused(status, &bytes, &url)),
                Ok((status, _)) => why = status.to_string(),
                Err(said) => why = said,
            }
            if attempt < TRIES {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
        tracing::warn!(path = url.path(), why, "GitHub does not answer");
        Err(Wrong::upstream("GitHub does not answer at the moment; try again later"))
    }

    fn refused(&self, status: StatusCode, body: &[u8], url: &Url) -> Wrong {
        let said =
            serde_json::from_slice::<Value>(body).ok().and_then(|body| body["message"].as_str().map(str::to_owned)).unwrap_or_default();
        tracing::warn!(path = url.path(), status = status.as_u16(), said, "GitHub refused a request");
        match status {
            // The branch has moved since.
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::CONFLICT if url.path().contains("/git/refs/") => {
                Wrong::conflict("the marketplace has changed at the same time; try again")
            }
            StatusCode::NOT_FOUND => {
                Wrong::upstream(format!("GitHub does not know {}, its branch, or our token for it", self.settings.repo))
            }
            StatusCode::UNAUTHORIZED => Wrong::upstream("GitHub does not take our token: see GITHUB_SERVICE_TOKEN and GITHUB_WRITE_TOKEN"),
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                Wrong::upstream("GitHub lets us do nothing more for now: our token may not, or asked too often")
            }
            _ => Wrong::upstream(format!("GitHub refused: {}", status.as_u16())),
        }
    }
}

/// A whole answer, if it is not too long.
async fn answer(request: reqwest::RequestBuilder, most: u64) -> Result<(StatusCode, Bytes), String> {
    let mut response = request.send().await.map_err(|e| e.without_url().to_string())?;
    let mut body = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|e| e.without_url().to_string())? {
        body.extend_from_slice(&piece);
        if body.len() as u64 > most {
            return Err(format!("an answer is longer than {most} bytes"));
        }
    }
    Ok((response.status(), body.freeze()))
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Wrong> {
    serde_json::from_slice(body).map_err(|e| {
        tracing::warn!(error = %e, "GitHub answered something else");
        Wrong::upstream("GitHub answered something else than it should")
    })
}
