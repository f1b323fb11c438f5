//! What Jira knows: sprints, issues, and how issues changed.

use jiff::Timestamp;
use serde::Serialize;

/// A sprint.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sprint {
    pub(super) id: u64,
    pub(super) name: String,
    /// `active`, `closed` or `future`.
    pub(super) state: String,
    #[serde(rename = "startDate")]
    pub(super) start: Option<Timestamp>,
    #[serde(rename = "endDate")]
    pub(super) end: Option<Timestamp>,
    #[serde(rename = "completeDate")]
    pub(super) complete: Option<Timestamp>,
    pub(super) goal: String,
    #[serde(rename = "boardId")]
    pub(super) board: Option<u64>,
}

impl Sprint {
    /// As of when it is judged: its end if it is closed, else now.
    pub(super) fn judged_at(&self, now: Timestamp) -> Timestamp {
        if self.state == "closed" { self.complete.or(self.end).unwrap_or(now) } else { now }
    }
}

/// An issue, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Issue {
    pub(super) id: String,
    pub(super) key: String,
    pub(super) summary: String,
    pub(super) status: String,
    /// What Jira takes the status for: `new`, `indeterminate`, `done`.
    pub(super) status_category: String,
    pub(super) assignee: Option<String>,
    pub(super) story_points: Option<f64>,
    pub(super) priority: Option<String>,
    pub(super) issue_type: String,
    pub(super) created: Option<Timestamp>,
    pub(super) updated: Option<Timestamp>,
    pub(super) resolved: Option<Timestamp>,
    pub(super) labels: Vec<String>,
    pub(super) components: Vec<String>,
    pub(super) fix_versions: Vec<String>,
    pub(super) flagged: bool,
    pub(super) epic_link: Option<String>,
    pub(super) epic_name: Option<String>,
    pub(super) blocker_reason: Option<String>,
    /// In which sprints it is or was at their end.
    pub(super) sprints: Vec<u64>,
    /// The oldest first.
    #[serde(skip)]
    pub(super) changes: Vec<Change>,
}

/// One field of an issue, changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Change {
    pub(super) at: Timestamp,
    pub(super) by: Option<String>,
    pub(super) field: Field,
    pub(super) from: String,
    pub(super) to: String,
}

/// The fields whose changes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Field {
    Status,
    Sprint,
    Points,
    Flagged,
}

impl Issue {
    /// What a field was at a time: what it is, with all that came later undone.
    fn at<'i>(&'i self, field: Field, now: &'i str, at: Timestamp) -> &'i str {
        let later = self.changes.iter().find(|change| change.field == field && change.at > at);
        later.map_or(now, |change| &change.from)
    }

    /// Whether it was there yet.
    fn existed(&self, at: Timestamp) -> bool {
        self.created.is_none_or(|created| created <= at)
    }

    pub(super) fn status_at(&self, at: Timestamp) -> &str {
        self.at(Field::Status, &self.status, at)
    }

    pub(super) fn points_at(&self, at: Timestamp) -> Option<f64> {
        let later = self.changes.iter().find(|change| change.field == Field::Points && change.at > at);
        later.map_or(self.story_points, |change| change.from.trim().parse().ok().filter(|points: &f64| points.is_finite()))
    }

    pub(super) fn in_sprint_at(&self, sprint: u64, at: Timestamp) -> bool {
        if !self.existed(at) {
            return false;
        }
        let later = self.changes.iter().find(|change| change.field == Field::Sprint && change.at > at);
        later.map_or_else(|| self.sprints.contains(&sprint), |change| has(&change.from, sprint))
    }

    /// Whether it was created right in a sprint: then no change says that it came.
    pub(super) fn was_born_in(&self, sprint: u64) -> bool {
        let first = self.changes.iter().find(|change| change.field == Field::Sprint);
        first.map_or_else(|| self.sprints.contains(&sprint), |change| has(&change.from, sprint))
    }

    /// Why it was flagged at a time, if it was; empty where nobody said.
    pub(super) fn flag_at(&self, at: Timestamp) -> Option<&str> {
        let (before, later): (Vec<&Change>, _) =
            self.changes.iter().filter(|change| change.field == Field::Flagged).partition(|change| change.at <= at);
        match (later.first(), before.last()) {
            (Some(next), _) => Some(next.from.as_str()).filter(|reason| !reason.is_empty()),
            (None, Some(last)) if self.flagged => Some(&last.to),
            (None, None) if self.flagged => Some(""),
            _ => None,
        }
    }

    /// When it came into a sprint and left it.
    pub(super) fn moves(&self, sprint: u64) -> impl Iterator<Item = (Timestamp, bool)> {
        let changes = self.changes.iter().filter(|change| change.field == Field::Sprint);
        changes.filter_map(move |change| match (has(&change.from, sprint), has(&change.to, sprint)) {
            (false, true) => Some((change.at, true)),
            (true, false) => Some((change.at, false)),
            _ => None,
        })
    }
}

/// Whether a list of ids, as changelogs have it, names a sprint.
fn has(ids: &str, sprint: u64) -> bool {
    ids.split(',').any(|id| id.trim().parse() == Ok(sprint))
}

/// Where statuses stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Stage {
    Todo,
    InProgress,
    Done,
}

/// Which status is which stage: by name where the name is usual, else as Jira takes those that we have seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Stages(std::collections::BTreeMap<String, Stage>);

impl Stages {
    /// Of statuses, and what Jira takes them for: `new`, `indeterminate`, `done`.
    pub(super) fn of<'s>(known: impl IntoIterator<Item = (&'s str, &'s str)>) -> Stages {
        let known = known.into_iter().filter_map(|(status, category)| {
            let stage = match category {
                "done" => Stage::Done,
                "indeterminate" => Stage::InProgress,
                "new" => Stage::Todo,
                _ => return None,
            };
            Some((status.to_lowercase(), stage))
        });
        Stages(known.collect())
    }

    /// The same, and what these issues show, which are of the projects that matter.
    pub(super) fn with<'i>(&self, issues: impl IntoIterator<Item = &'i Issue>) -> Stages {
        let shown = Stages::of(issues.into_iter().map(|issue| (issue.status.as_str(), issue.status_category.as_str())));
        Stages(self.0.iter().map(|(status, stage)| (status.clone(), *stage)).chain(shown.0).collect())
    }

    pub(super) fn stage(&self, status: &str) -> Stage {
        let status = status.to_lowercase();
        match status.as_str() {
            "done" | "closed" | "resolved" => Stage::Done,
            "in progress" | "in review" | "code review" | "testing" => Stage::InProgress,
            "to do" | "open" | "new" | "backlog" => Stage::Todo,
            other => self.0.get(other).copied().unwrap_or(Stage::Todo),
        }
    }

    pub(super) fn is_done(&self, issue: &Issue, at: Timestamp) -> bool {
        self.stage(issue.status_at(at)) == Stage::Done
    }
}

/// A time as Jira writes it: `2026-03-02T09:00:00.000+0000`.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let strange = || Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text).ok();
    text.parse().ok().or_else(strange)
}
