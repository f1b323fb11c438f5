//! What the tools do: they ask Jira and GitHub, count, and write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::arguments::{Arguments, range};
use super::github::{self, GitHub, Range, Repo};
use super::jira::{self, Jira};
use super::metrics;
use super::model::Stages;
use super::report::{Format, Report};
use super::store::Store;
use super::upstream::{Cache, Pace};
use crate::settings::Settings;

/// Why a tool failed.
#[derive(Debug)]
pub(super) enum Failure {
    NoTool,
    /// It was called wrongly.
    Arguments(String),
    /// Somebody we asked failed, or is not configured.
    Elsewhere(String),
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Arguments(why)
    }
}

impl From<super::upstream::Trouble> for Failure {
    fn from(trouble: super::upstream::Trouble) -> Failure {
        Failure::Elsewhere(trouble.told)
    }
}

impl Failure {
    pub(super) fn told(&self) -> &str {
        match self {
            Failure::NoTool => "there is no such tool; tools/list names those that there are",
            Failure::Arguments(why) | Failure::Elsewhere(why) => why,
        }
    }
}

/// Told how far a tool is: done, of all, doing what.
pub(super) type Progress<'p> = &'p (dyn Fn(u32, u32, &str) + Send + Sync);

pub(super) struct Desk {
    jira: Result<Jira, String>,
    github: Result<GitHub, String>,
    pub(super) owner: Option<String>,
    pub(super) repo: Option<String>,
    board: Option<u64>,
    cache: Arc<Cache>,
    pub(super) store: Store,
    mode: &'static str,
}

/// What a report is to have.
#[derive(Clone, Debug, Default)]
struct Wanted {
    board: Option<u64>,
    repo: Option<Repo>,
    range: Range,
    commits: bool,
    pulls: bool,
    contributors: bool,
    velocity: bool,
    burndown: bool,
    tiers: [bool; 3],
    forecast: bool,
    max_commits: usize,
    max_pulls: usize,
    history: usize,
}

impl Desk {
    pub(super) fn open(settings: &Settings, mode: &'static str) -> Result<Desk, String> {
        let number = |name: &str, usual: u64| settings.parse(name, "number of milliseconds").map(|given| given.unwrap_or(usual));
        let pace = Pace {
            timeout: Duration::from_millis(number("SPRINT_TIMEOUT_MS", 30_000)?.clamp(1, 600_000)),
            retry: Duration::from_millis(number("SPRINT_RETRY_MS", 1_000)?.min(30_000)),
            rest: Duration::from_millis(number("SPRINT_BREAKER_MS", 60_000)?.min(3_600_000)),
        };
        let cache = Arc::new(Cache::default());
        let dir = settings.get("SPRINT_DATA").unwrap_or("./data/sprint").to_owned();
        Ok(Desk {
            jira: Jira::open(settings, cache.clone(), pace)?,
            github: GitHub::open(settings, cache.clone(), pace)?,
            owner: settings.get("GITHUB_OWNER").map(str::to_owned),
            repo: settings.get("GITHUB_REPO").map(str::to_owned),
            board: settings.parse("JIRA_BOARD_ID", "number")?,
            cache,
            store: Store::open(&std::path::Path::new(&dir).join("reports"))?,
            mode,
        })
    }

    fn jira(&self) -> Result<&Jira, Failure> {
        self.jira.as_ref().map_err(|why| Failure::Elsewhere(why.clone()))
    }

    fn github(&self) -> Result<&GitHub, Failure> {
        self.github.as_ref().map_err(|why| Failure::Elsewhere(why.clone()))
    }

    fn repo_of(&self, arguments: Arguments<'_>, names: (&str, &str)) -> Result<Repo, String> {
        arguments.repo(names, (self.owner.as_deref(), self.repo.as_deref()))
    }

    /// Calls a tool. What it returns is a text, or becomes one.
    pub(super) async fn call(&self, tool: &str, arguments: &Map<String, Value>, progress: Progress<'_>) -> Result<Value, Failure> {
        let a = Arguments(arguments);
        match tool {
            "jira_get_sprints" => {
                let board = a.id("board_id")?;
                let states = a.list("state", 3)?.unwrap_or_else(|| vec!["active".into()]);
                if let Some(bad) = states.iter().find(|state| !matches!(state.as_str(), "active" | "closed" | "future")) {
                    return Err(Failure::Arguments(format!("state is {bad:?}; say active, closed or future, or several with commas")));
                }
                Ok(json!(self.jira()?.sprints(board, &states.join(",")).await?))
            }
            "jira_get_sprint_issues" => {
                let (id, most) = (a.id("sprint_id")?, a.number("max_results", 1, 1000, 100)? as usize);
                let fields = fields(a)?;
                let jira = self.jira()?;
                let sprint = jira.sprint(id).await?;
                let found = jira.sprint_issues(&sprint, fields.as_ref().map(|all| all.join(",")).as_deref(), most).await?;
                Ok(shown(jira, &found, fields.as_deref()))
            }
            "jira_get_sprint" => {
                let (id, with) = (a.id("sprint_id")?, a.flag("include_issues", true)?);
                let jira = self.jira()?;
                let sprint = jira.sprint(id).await?;
                let mut out = json!(sprint);
                if with {
                    let found = jira.sprint_issues(&sprint, None, 1000).await?;
                    out["issues"] = shown(jira, &found, None);
                }
                Ok(out)
            }
            "jira_get_issue_details" => {
                let key = a.needed("issue_key", 80)?;
                if !jira::is_key(key) {
                    return Err(Failure::Arguments(format!("issue_key is {key:?}; keys look like ABC-12")));
                }
                let expand = a.list("expand", 10)?.unwrap_or_default();
                words(&expand, "expand")?;
                Ok(self.jira()?.details(key, &expand).await?)
            }
            "jira_search_issues" => {
                let (jql, most) = (a.needed("jql", 1000)?, a.number("max_results", 1, 1000, 100)? as usize);
                let fields = fields(a)?;
                let jira = self.jira()?;
                let found = jira.search(jql, fields.as_deref(), most).await?;
                Ok(json!({"total": found.len(), "issues": shown(jira, &found, fields.as_deref())}))
            }
            "github_get_commits" => {
                let (repo, range, author) = (self.repo_of(a, ("owner", "repo"))?, a.range()?, a.text("author", 100)?);
                let (per_page, page) = (a.number("per_page", 1, 100, 30)?, a.number("page", 1, 10_000, 1)?);
                Ok(self.github()?.commits(&repo, &range, author, per_page, page).await?.into())
            }
            "github_get_pull_requests" => {
                let (repo, range) = (self.repo_of(a, ("owner", "repo"))?, a.range()?);
                let state = a.one_of("state", &["open", "closed", "all"], "all")?;
                let (per_page, page) = (a.number("per_page", 1, 100, 30)?, a.number("page", 1, 10_000, 1)?);
                Ok(self.github()?.pulls(&repo, state, &range, per_page, page).await?.into())
            }
            "github_search_commits_by_message" => {
                let (repo, range, query) = (self.repo_of(a, ("owner", "repo"))?, a.range()?, a.needed("query", 256)?);
                if !query.contains(|c: char| c.is_alphanumeric()) {
                    return Err(Failure::Arguments(format!("query is {query:?}, which has no word to look for")));
                }
                Ok(self.github()?.search_commits(&repo, query, &range).await?.into())
            }
            "github_search_pull_requests_by_date" => {
                let (repo, range) = (self.repo_of(a, ("owner", "repo"))?, a.range()?);
                let state = a.one_of("state", &["open", "closed", "merged", "all"], "all")?;
                Ok(self.github()?.search_pulls(&repo, state, &range).await?.into())
            }
            "github_find_commits_with_jira_references" => {
                let (repo, range) = (self.repo_of(a, ("owner", "repo"))?, a.range()?);
                let keys = a.list("issue_keys", 100)?.ok_or_else(|| "issue_keys is missing".to_owned())?;
                if let Some(bad) = keys.iter().find(|key| !jira::is_key(key)) {
                    return Err(Failure::Arguments(format!("issue_keys has {bad:?}; keys look like ABC-12")));
                }
                let most = a.number("max_commits_per_issue", 1, 50, 20)? as usize;
                let commits = self.github()?.all_commits(&repo, &range).await?;
                Ok(json!(github::by_key(&keys, &commits, most)))
            }
            "generate_sprint_report" | "get_sprint_report" => self.generate(a, progress).await,
            "generate_comprehensive_report" => self.comprehensive(a, progress).await,
            "get_sprint_metrics" => self.sprint_metrics(a).await,
            "health_check" => {
                let (detailed, ask) = (a.flag("include_detailed_status", false)?, a.flag("check_external_dependencies", true)?);
                Ok(self.health(detailed, ask).await)
            }
            "cache_stats" => {
                let (detailed, reset) = (a.flag("include_detailed_breakdown", false)?, a.flag("reset_stats", false)?);
                Ok(self.cache.stats(detailed, reset))
            }
            _ => Err(Failure::NoTool),
        }
    }

    async fn generate(&self, a: Arguments<'_>, progress: Progress<'_>) -> Result<Value, Failure> {
        let sprint = a.id("sprint_id")?;
        let name = a.one_of("format", &Format::ALL.map(|(name, _)| name), "markdown")?;
        let format = Format::ALL.iter().find(|(known, _)| *known == name).map_or(Format::Markdown, |(_, format)| *format);
        let theme = a.one_of("theme", &["default", "dark", "corporate"], "default")?;
        let mut wanted = Wanted {
            board: a.maybe_id("board_id")?,
            range: a.range()?,
            commits: a.flag("include_commits", false)?,
            pulls: a.flag("include_prs", false)?,
            contributors: a.flag("include_enhanced_github", false)?,
            velocity: a.flag("include_velocity", false)?,
            burndown: a.flag("include_burndown", false)?,
            tiers: [a.flag("include_tier1", false)?, a.flag("include_tier2", false)?, a.flag("include_tier3", false)?],
            forecast: a.flag("include_forward_looking", false)?,
            max_commits: a.number("max_commits_per_issue", 1, 50, 10)? as usize,
            max_pulls: a.number("max_prs_per_issue", 1, 50, 5)? as usize,
            history: 5,
            repo: None,
        };
        if wanted.commits || wanted.pulls || wanted.contributors {
            wanted.repo = Some(self.repo_of(a, ("github_owner", "github_repo"))?);
            self.github()?;
        }
        let report = self.report(sprint, &wanted, progress).await?;
        let text = report.write(format, theme).map_err(Failure::Elsewhere)?;
        self.store.save(sprint, name, &text).map_err(Failure::Elsewhere)?;
        Ok(text.into())
    }

    async fn comprehensive(&self, a: Arguments<'_>, progress: Progress<'_>) -> Result<Value, Failure> {
        let begun = Instant::now();
        let sprint = a.id("sprint_id")?;
        let enhanced = a.flag("include_enhanced_github", a.flag("enhanced_github", true)?)?;
        let tier = |n: u8, default| a.flag(&format!("include_tier{n}"), a.flag(&format!("tier{n}"), default)?);
        let mut wanted = Wanted {
            board: a.maybe_id("board_id")?,
            velocity: true,
            burndown: true,
            tiers: [tier(1, true)?, tier(2, true)?, tier(3, false)?],
            forecast: a.flag("include_forward_looking", a.flag("forward_looking", false)?)?,
            max_commits: 10,
            max_pulls: 5,
            history: 5,
            ..Wanted::default()
        };
        if a.flag("nocache", false)? {
            self.cache.clear();
        }
        let mut told = "not asked for".to_owned();
        if enhanced {
            let repo = self.repo_of(a, ("github_owner", "github_repo"));
            match (&self.github, repo) {
                (Ok(_), Ok(repo)) => {
                    told = format!("{}/{}", repo.owner, repo.name);
                    (wanted.commits, wanted.pulls, wanted.contributors, wanted.repo) = (true, true, true, Some(repo));
                }
                // Whoever names a repository wants it.
                (Ok(_), Err(why)) if a.has("github_owner") || a.has("github_repo") => return Err(Failure::Arguments(why)),
                (Err(why), _) => told = format!("left out: {why}"),
                (_, Err(why)) => told = format!("left out: {why}"),
            }
        }
        let report = self.report(sprint, &wanted, progress).await?;
        let written = report.write(Format::Json, "default").map_err(Failure::Elsewhere)?;
        let id = self.store.save(sprint, "json", &written).map_err(Failure::Elsewhere)?;
        let took = begun.elapsed().as_millis() as u64;
        let metadata = json!({"reportId": id, "generatedAt": report.generated_at, "github": told, "durationMs": took});
        Ok(json!({"success": true, "sprint_id": sprint, "report": report, "metadata": metadata}))
    }

    async fn sprint_metrics(&self, a: Arguments<'_>) -> Result<Value, Failure> {
        let begun = Instant::now();
        let wanted = Wanted {
            board: a.maybe_id("board_id")?,
            velocity: a.flag("include_velocity", false)?,
            burndown: a.flag("include_burndown", false)?,
            history: a.number("velocity_history_count", 1, 10, 3)? as usize,
            ..Wanted::default()
        };
        let report = self.report(a.id("sprint_id")?, &wanted, &|_, _, _| ()).await?;
        let mut numbers = json!(report.metrics);
        if let Some(velocity) = report.velocity {
            numbers["velocityHistory"] = json!(velocity);
        }
        if let Some(burndown) = report.burndown {
            numbers["burndown"] = json!(burndown);
        }
        let performance = json!({"durationMs": begun.elapsed().as_millis() as u64, "issues": report.issues.len()});
        Ok(json!({"sprint": report.sprint, "metrics": numbers, "generatedAt": report.generated_at, "performance": performance}))
    }

    async fn report(&self, id: u64, wanted: &Wanted, progress: Progress<'_>) -> Result<Report, Failure> {
        let jira = self.jira()?;
        progress(0, 4, "reading the sprint");
        let sprint = jira.sprint(id).await?;
        progress(1, 4, "reading its issues and how they changed");
        let all = jira.history(&sprint).await?;
        let (stages, now) = (jira.stages().await, Timestamp::now());
        let review = metrics::Review::of(sprint, all, &stages, now);
        progress(2, 4, "counting");
        let needs_velocity = wanted.velocity || wanted.forecast;
        let velocity = if needs_velocity { Some(self.velocity(&review, wanted, &stages, now).await?) } else { None };
        let tier1 = metrics::tier1(&review);
        let forecast = velocity.as_ref().filter(|_| wanted.forecast).map(|v| metrics::forecast(v, tier1.spillover.points));
        let mut report = Report {
            metrics: metrics::metrics(&review),
            velocity: velocity.filter(|_| wanted.velocity),
            burndown: if wanted.burndown { metrics::burndown(&review) } else { None },
            tier2: wanted.tiers[1].then(|| metrics::tier2(&review)),
            tier3: wanted.tiers[2].then(|| metrics::tier3(&review)),
            tier1: wanted.tiers[0].then_some(tier1),
            forecast,
            commits: None,
            pull_requests: None,
            contributors: None,
            generated_at: now,
            issues: review.members().into_iter().cloned().collect(),
            stages: review.stages,
            sprint: review.sprint,
        };
        if let Some(repo) = &wanted.repo {
            progress(3, 4, "reading commits and pull requests");
            self.code(&mut report, repo, wanted).await?;
        }
        progress(4, 4, "writing");
        Ok(report)
    }

    /// What was done in a repository meanwhile.
    async fn code(&self, report: &mut Report, repo: &Repo, wanted: &Wanted) -> Result<(), Failure> {
        let github = self.github()?;
        let given = wanted.range.since.is_some() || wanted.range.until.is_some();
        let sprint = &report.sprint;
        let usual = range(sprint.start, sprint.start.map(|_| sprint.judged_at(report.generated_at)));
        let range = if given { &wanted.range } else { &usual };
        let keys: Vec<String> = report.issues.iter().map(|issue| issue.key.clone()).collect();
        let collect = |all: &[Value], most| -> BTreeMap<String, Vec<Value>> {
            let found = github::by_key(&keys, all, most).into_iter().filter(|(_, all)| !all.is_empty());
            found.map(|(key, all)| (key, all.into_iter().cloned().collect())).collect()
        };
        if wanted.commits || wanted.contributors {
            let commits = github.all_commits(repo, range).await?;
            if wanted.contributors {
                let mut counts = BTreeMap::new();
                for commit in &commits {
                    *counts.entry(commit["author"].as_str().unwrap_or("unknown").to_owned()).or_insert(0) += 1;
                }
                report.contributors = Some(counts);
            }
            report.commits = wanted.commits.then(|| collect(&commits, wanted.max_commits));
        }
        if wanted.pulls {
            let pulls = github.search_pulls(repo, "all", range).await?;
            report.pull_requests = Some(collect(&pulls, wanted.max_pulls));
        }
        Ok(())
    }

    /// The last sprints that were closed when this one was, itself included.
    async fn velocity(
        &self,
        review: &metrics::Review,
        wanted: &Wanted,
        stages: &Stages,
        now: Timestamp,
    ) -> Result<metrics::Velocity, Failure> {
        let Some(board) = wanted.board.or(review.sprint.board).or(self.board) else { return Ok(metrics::velocity(Vec::new())) };
        let jira = self.jira()?;
        let mut closed = jira.sprints(board, "closed").await?;
        closed.retain(|other| other.complete.or(other.end).is_some_and(|at| at <= review.at));
        closed.sort_by_key(|other| other.complete.or(other.end));
        let skipped = closed.len().saturating_sub(wanted.history);
        let mut paces = Vec::new();
        for other in closed.into_iter().skip(skipped) {
            let all = jira.history(&other).await?;
            paces.push(metrics::pace(&metrics::Review::of(other, all, stages, now)));
        }
        Ok(metrics::velocity(paces))
    }

    pub(super) async fn health(&self, detailed: bool, ask: bool) -> Value {
        let check = |configured: Option<&String>, answer: Option<Result<Value, String>>| match (configured, answer) {
            (Some(why), _) => json!({"status": "not configured", "message": why}),
            (None, None) => json!({"status": "configured"}),
            (None, Some(Ok(who))) => json!({"status": "healthy", "user": who}),
            (None, Some(Err(why))) => json!({"status": "unhealthy", "message": why}),
        };
        let jira = async {
            let answer = self.jira.as_ref().ok().filter(|_| ask)?.myself().await;
            Some(answer.map(|who| who["displayName"].clone()).map_err(String::from))
        };
        let github = async {
            let answer = self.github.as_ref().ok().filter(|_| ask)?.user().await;
            Some(answer.map(|who| who["login"].clone()).map_err(String::from))
        };
        let (jira, github) = tokio::join!(jira, github);
        let services = json!({"jira": check(self.jira.as_ref().err(), jira), "github": check(self.github.as_ref().err(), github)});
        let bad = services.as_object().into_iter().flat_map(Map::values).filter(|one| one["status"] == "unhealthy").count();
        let missing = services.as_object().into_iter().flat_map(Map::values).filter(|one| one["status"] == "not configured").count();
        let status = match (bad, missing) {
            (0, 0) => "healthy",
            (2, _) => "unhealthy",
            _ => "degraded",
        };
        let summary = format!("{} of 2 services well, {bad} unhealthy, {missing} not configured", 2 - bad - missing);
        let mut out = json!({"status": status, "timestamp": now(), "services": services, "summary": summary});
        if detailed {
            out["cache"] = self.cache.stats(true, false);
            out["config"] = self.config();
        }
        out
    }

    /// What is configured, without what is secret.
    pub(super) fn config(&self) -> Value {
        json!({
            "mode": self.mode,
            "jira": self.jira.as_ref().map_or_else(|why| why.clone(), |_| "configured".into()),
            "github": self.github.as_ref().map_or_else(|why| why.clone(), |_| "configured".into()),
            "githubOwner": self.owner,
            "githubRepo": self.repo,
            "boardId": self.board,
        })
    }

    /// The sprints of the board that is configured, or of ten boards.
    pub(super) async fn board_sprints(&self, state: &str) -> Result<Value, Failure> {
        let jira = self.jira()?;
        let boards = match self.board {
            Some(board) => vec![board],
            None => jira.boards(10).await?,
        };
        let mut out = Vec::new();
        for board in boards {
            let mut sprints = jira.sprints(board, state).await?;
            sprints.sort_by_key(|sprint| std::cmp::Reverse(sprint.complete.or(sprint.end)));
            out.extend(sprints.into_iter().take(5));
        }
        Ok(json!({"sprints": out}))
    }

    pub(super) async fn dashboard(&self) -> Value {
        let or_why = |answer: Result<Value, Failure>| answer.unwrap_or_else(|why| json!({"error": why.told()}));
        let active = or_why(self.board_sprints("active").await);
        json!({"active": active, "reports": self.store.list().len(), "cache": self.cache.stats(false, false), "generatedAt": now()})
    }
}

/// The time as JavaScript writes it.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn fields(a: Arguments<'_>) -> Result<Option<Vec<String>>, String> {
    let fields = a.list("fields", 50)?;
    words(fields.as_deref().unwrap_or_default(), "fields")?;
    Ok(fields)
}

fn words(all: &[String], name: &str) -> Result<(), String> {
    let good = |text: &String| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'*'));
    all.iter().find(|text| !good(text)).map_or(Ok(()), |bad| Err(format!("{name} has {bad:?}, which is no name")))
}

/// Issues in our own shape; or those fields alone, which saves a model much reading.
fn shown(jira: &Jira, found: &[Value], fields: Option<&[String]>) -> Value {
    let show = |value: &Value| match fields {
        None => json!(jira.issue(value)),
        Some(fields) => {
            let own = fields.iter().filter_map(|name| Some((name.clone(), value["fields"].get(name)?.clone())));
            json!({"id": value["id"], "key": value["key"], "fields": own.collect::<Map<_, _>>()})
        }
    };
    found.iter().map(show).collect()
}
