//! GitHub: commits, pull requests, and what can be searched for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::upstream::{self, Ask, Bucket, Cache, Pace, Reach, Trouble, Upstream};
use crate::settings::Settings;

pub(super) struct GitHub {
    upstream: Upstream,
    /// Searches have a share of their own.
    searches: Bucket,
}

/// A repository, checked.
#[derive(Clone, Debug)]
pub(super) struct Repo {
    pub(super) owner: String,
    pub(super) name: String,
}

/// Between two times, each as GitHub reads it.
#[derive(Clone, Debug, Default)]
pub(super) struct Range {
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
}

impl Range {
    /// As a search has it: `2026-01-01..2026-01-31`.
    fn search(&self, name: &str) -> String {
        match (&self.since, &self.until) {
            (None, None) => String::new(),
            (since, until) => {
                format!(" {name}:{}..{}", since.as_deref().unwrap_or("*"), until.as_deref().unwrap_or("*"))
            }
        }
    }

    fn has(&self, at: Option<&str>) -> bool {
        // Both are in UTC and of one form, so texts order as times do.
        let Some(at) = at else { return false };
        self.since.as_deref().is_none_or(|since| at >= since) && self.until.as_deref().is_none_or(|until| at <= until)
    }
}

impl GitHub {
    pub(super) fn open(settings: &Settings, cache: Arc<Cache>, pace: Pace) -> Result<Result<GitHub, String>, String> {
        let Some(token) = settings.get("GITHUB_TOKEN") else {
            return Ok(Err("GitHub is not configured: set GITHUB_TOKEN".into()));
        };
        let base = upstream::base("GITHUB_API_URL", settings.get("GITHUB_API_URL").unwrap_or("https://api.github.com"))?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, upstream::secret(&format!("Bearer {token}"))?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
        let private = settings.flag("SPRINT_ALLOW_PRIVATE", false)?;
        let rate = (5_000, Duration::from_secs(3_600));
        let reach = Reach { name: "GitHub", base, headers, credentials: "GITHUB_TOKEN", private, pace, rate };
        Ok(Ok(GitHub { upstream: Upstream::open(reach, cache)?, searches: Bucket::new(30, Duration::from_secs(60)) }))
    }

    pub(super) async fn user(&self) -> Result<Arc<Value>, Trouble> {
        self.upstream.ask(Ask::get("/user").kept_for(Duration::ZERO)).await
    }

    pub(super) async fn commits(
        &self,
        repo: &Repo,
        range: &Range,
        author: Option<&str>,
        per_page: u64,
        page: u64,
    ) -> Result<Vec<Value>, Trouble> {
        let mut ask = Ask::get(format!("/repos/{}/{}/commits", repo.owner, repo.name)).query("per_page", per_page).query("page", page);
        for (name, value) in [("since", range.since.as_deref()), ("until", range.until.as_deref()), ("author", author)] {
            if let Some(value) = value {
                ask = ask.query(name, value);
            }
        }
        let answer = self.upstream.ask(ask).await?;
        Ok(answer.as_array().into_iter().flatten().map(commit).collect())
    }

    /// All of a time, a thousand at most.
    pub(super) async fn all_commits(&self, repo: &Repo, range: &Range) -> Result<Vec<Value>, Trouble> {
        let mut out = Vec::new();
        for page in 1..=10 {
            let found = self.commits(repo, range, None, 100, page).await?;
            let last = found.len() < 100;
            out.extend(found);
            if last {
                break;
            }
        }
        Ok(out)
    }

    pub(super) async fn pulls(&self, repo: &Repo, state: &str, range: &Range, per_page: u64, page: u64) -> Result<Vec<Value>, Trouble> {
        let ask = Ask::get(format!("/repos/{}/{}/pulls", repo.owner, repo.name)).query("state", state).query("sort", "updated");
        let answer = self.upstream.ask(ask.query("direction", "desc").query("per_page", per_page).query("page", page)).await?;
        let all = answer.as_array().into_iter().flatten();
        Ok(all.filter(|pull| range.since.is_none() && range.until.is_none() || range.has(pull["updated_at"].as_str())).map(pull).collect())
    }

    pub(super) async fn search_commits(&self, repo: &Repo, words: &str, range: &Range) -> Result<Vec<Value>, Trouble> {
        // Quoted, a word cannot be a qualifier that widens the search to other repositories.
        let words = words.split_whitespace().map(|word| word.replace(['"', '\\'], "")).filter(|word| !word.is_empty());
        let words = words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" ");
        let q = format!("{words} repo:{}/{}{}", repo.owner, repo.name, range.search("committer-date"));
        Ok(self.search("commits", &q).await?.iter().map(commit).collect())
    }

    pub(super) async fn search_pulls(&self, repo: &Repo, state: &str, range: &Range) -> Result<Vec<Value>, Trouble> {
        let state = if state == "all" { String::new() } else { format!(" is:{state}") };
        let q = format!("repo:{}/{} is:pr{state}{}", repo.owner, repo.name, range.search("created"));
        Ok(self.search("issues", &q).await?.iter().map(pull).collect())
    }

    /// A search gives a thousand at most.
    async fn search(&self, what: &str, q: &str) -> Result<Vec<Value>, Trouble> {
        let mut out = Vec::new();
        for page in 1..=10u64 {
            let ask = Ask::get(format!("/search/{what}")).query("q", q).query("per_page", 100).query("page", page);
            let answer = self.upstream.ask_within(ask, Some(&self.searches)).await?;
            let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            out.extend_from_slice(items);
            if items.len() < 100 || answer["total_count"].as_u64().is_some_and(|total| out.len() as u64 >= total.min(1000)) {
                break;
            }
        }
        Ok(out)
    }
}

/// A commit, flat: its author is a name.
fn commit(value: &Value) -> Value {
    let inner = &value["commit"];
    let author = inner["author"]["name"].as_str().or(value["author"]["login"].as_str()).unwrap_or("unknown");
    json!({
        "sha": value["sha"],
        "message": inner["message"],
        "author": author,
        "email": inner["author"]["email"],
        "login": value["author"]["login"],
        "date": inner["committer"]["date"].as_str().or(inner["author"]["date"].as_str()),
        "url": value["html_url"],
    })
}

/// A pull request, of a list or of a search: the latter has no reviewers, and says elsewhere when it was merged.
fn pull(value: &Value) -> Value {
    let merged = value["merged_at"].as_str().or(value["pull_request"]["merged_at"].as_str());
    let logins = value["requested_reviewers"].as_array().into_iter().flatten().filter_map(|who| who["login"].as_str());
    let state = if merged.is_some() { "merged" } else { value["state"].as_str().unwrap_or("unknown") };
    json!({
        "number": value["number"],
        "title": value["title"],
        "state": state,
        "author": value["user"]["login"].as_str().unwrap_or("unknown"),
        "created": value["created_at"],
        "updated": value["updated_at"],
        "closed": value["closed_at"],
        "merged": merged,
        "branch": value["head"]["ref"],
        "draft": value["draft"].as_bool().unwrap_or(false),
        "reviewers": logins.collect::<Vec<_>>(),
        "labels": value["labels"].as_array().into_iter().flatten().filter_map(|label| label["name"].as_str()).collect::<Vec<_>>(),
        "url": value["html_url"],
    })
}

/// The keys that a text names, each once and whole: `AB-1` is not in `AB-12`.
pub(super) fn keys_in(text: &str) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
        // A branch may go on after the key: AB-1-fix-it.
        let mut parts = word.split('-');
        let (Some(project), Some(number)) = (parts.next(), parts.next()) else { continue };
        let key = &word[..project.len() + 1 + number.len()];
        if super::jira::is_key(key) && !found.contains(&key) {
            found.push(key);
        }
    }
    found
}

/// Which of these commits or pull requests name which key; at most so many each.
pub(super) fn by_key<'v>(keys: &[String], all: &'v [Value], most: usize) -> BTreeMap<String, Vec<&'v Value>> {
    let mut out: BTreeMap<String, Vec<&Value>> = keys.iter().map(|key| (key.clone(), Vec::new())).collect();
    for one in all {
        let text = [&one["message"], &one["title"], &one["branch"]].map(|text| text.as_str().unwrap_or_default()).join("\n");
        for key in keys_in(&text) {
            if let Some(found) = out.get_mut(key).filter(|found| found.len() < most) {
                found.push(one);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_whole() {
        assert_eq!(
            keys_in("AB-12: fix (see AB-1, X_Y2-7). ab-3 AB-x UTF-8 feature/AB-9-go AB-12"),
            ["AB-12", "AB-1", "X_Y2-7", "UTF-8", "AB-9"]
        );
        assert!(keys_in("nothing - here --").is_empty());
    }

    #[test]
    fn a_pull_request_of_a_search_has_what_one_of_a_list_has() {
        let found = json!({"number": 3, "title": "t", "state": "closed", "user": {"login": "ada"}, "pull_request": {"merged_at": "2026-01-01T00:00:00Z"}});
        let pull = pull(&found);
        assert_eq!((&pull["state"], &pull["merged"], &pull["reviewers"]), (&json!("merged"), &json!("2026-01-01T00:00:00Z"), &json!([])));
    }

    #[test]
    fn an_author_is_a_name() {
        assert_eq!(commit(&json!({"commit": {"author": {"name": "Ada"}}}))["author"], "Ada");
        assert_eq!(commit(&json!({}))["author"], "unknown");
    }
}
