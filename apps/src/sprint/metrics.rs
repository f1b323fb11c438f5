//! What a sprint's issues say of it. Nothing here asks anybody, and time is given.
//!
//! A sprint is judged as of its end: an issue that was done a week later was not done. What an issue was at a time
//! is read from its changelog, so that a burndown shows what happened and not a straight line.

mod tiers;
mod times;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::model::{Issue, Sprint, Stage, Stages};

pub(super) use tiers::{Load, Moved, Tier1, Tier2, Tier3, tier1, tier2, tier3};
pub(super) use times::{Times, cycle_time, lead_time, time_in_status};

/// What changes less has no trend.
const TREND: f64 = 0.10;

/// A sprint, all issues that were ever in it, and as of when it is judged.
#[derive(Clone, Debug)]
pub(super) struct Review {
    pub(super) sprint: Sprint,
    pub(super) issues: Vec<Issue>,
    pub(super) stages: Stages,
    pub(super) at: Timestamp,
}

impl Review {
    /// `stages`: what Jira says of its statuses. What the issues show counts for more.
    pub(super) fn of(sprint: Sprint, issues: Vec<Issue>, stages: &Stages, now: Timestamp) -> Review {
        let (at, stages) = (sprint.judged_at(now), stages.with(&issues));
        Review { sprint, issues, stages, at }
    }

    /// Those that count: in the sprint when it is judged.
    pub(super) fn members(&self) -> Vec<&Issue> {
        self.members_at(self.at).collect()
    }

    fn members_at(&self, at: Timestamp) -> impl Iterator<Item = &Issue> {
        self.issues.iter().filter(move |issue| issue.in_sprint_at(self.sprint.id, at))
    }

    pub(super) fn is_done(&self, issue: &Issue) -> bool {
        self.stages.is_done(issue, self.at)
    }
}

/// A sprint's numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metrics {
    pub(super) total_issues: usize,
    pub(super) completed_issues: usize,
    pub(super) in_progress_issues: usize,
    pub(super) todo_issues: usize,
    pub(super) completion_rate: f64,
    pub(super) story_points: f64,
    pub(super) completed_story_points: f64,
    pub(super) points_completion_rate: f64,
    pub(super) velocity: f64,
    pub(super) average_story_points_per_issue: f64,
    pub(super) issues_by_type: BTreeMap<String, usize>,
    pub(super) issues_by_priority: BTreeMap<String, usize>,
    pub(super) issues_by_assignee: BTreeMap<String, usize>,
}

pub(super) fn metrics(review: &Review) -> Metrics {
    let (at, members) = (review.at, review.members());
    let in_stage = |stage| members.iter().filter(|issue| review.stages.stage(issue.status_at(at)) == stage).count();
    let points = |done_only: bool| {
        let counted = members.iter().filter(|issue| !done_only || review.is_done(issue));
        round(counted.filter_map(|issue| issue.points_at(at)).sum())
    };
    let (total, completed) = (points(false), points(true));
    let estimated = members.iter().filter(|issue| issue.points_at(at).is_some()).count();
    let by = |name: fn(&Issue) -> Option<&String>, nobody: &str| {
        let mut counts = BTreeMap::new();
        for issue in &members {
            *counts.entry(name(issue).cloned().unwrap_or_else(|| nobody.to_owned())).or_insert(0) += 1;
        }
        counts
    };
    let done = in_stage(Stage::Done);
    Metrics {
        total_issues: members.len(),
        completed_issues: done,
        in_progress_issues: in_stage(Stage::InProgress),
        todo_issues: in_stage(Stage::Todo),
        completion_rate: percent(done as f64, members.len() as f64),
        story_points: total,
        completed_story_points: completed,
        points_completion_rate: percent(completed, total),
        velocity: completed,
        average_story_points_per_issue: if estimated == 0 { 0.0 } else { round(total / estimated as f64) },
        issues_by_type: by(|issue| Some(&issue.issue_type), "Unknown"),
        issues_by_priority: by(|issue| issue.priority.as_ref(), "None"),
        issues_by_assignee: by(|issue| issue.assignee.as_ref(), "Unassigned"),
    }
}

/// How much was left, day by day.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Burndown {
    /// `points`, or `issues` where nothing is estimated.
    pub(super) unit: &'static str,
    pub(super) days: Vec<Day>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Day {
    pub(super) at: Timestamp,
    /// A straight line from what was committed to nothing.
    pub(super) ideal: f64,
    /// All in the sprint, and what of it is not done; `None` in the future.
    pub(super) scope: Option<f64>,
    pub(super) remaining: Option<f64>,
}

/// Nothing for a sprint that has not begun.
pub(super) fn burndown(review: &Review) -> Option<Burndown> {
    let (sprint, judged) = (&review.sprint, review.at);
    let start = sprint.start?;
    let planned = sprint.end.unwrap_or(judged).max(start);
    let end = planned.max(if sprint.state == "closed" { judged } else { planned });
    let unit = if review.issues.iter().any(|issue| issue.story_points.is_some_and(|points| points > 0.0)) { "points" } else { "issues" };
    let weigh = |issue: &Issue, at| if unit == "points" { issue.points_at(at).unwrap_or(0.0) } else { 1.0 };
    let sum = |at: Timestamp, open_only: bool| {
        let counted = review.members_at(at).filter(|issue| !(open_only && review.stages.is_done(issue, at)));
        round(counted.map(|issue| weigh(issue, at)).sum())
    };
    let committed = sum(start, true);
    let length = planned.duration_since(start).as_secs_f64();
    let mut times = Vec::new();
    let mut at = start;
    // A sprint of more than a year is a mistake in its dates.
    while at < end && times.len() < 400 {
        times.push(at);
        at = at.checked_add(SignedDuration::from_hours(24)).ok()?;
    }
    times.push(end);
    // Today is a point of its own.
    if judged > start && judged < end && !times.contains(&judged) {
        times.push(judged);
        times.sort();
    }
    let days = times.into_iter().map(|at| {
        let gone = if length > 0.0 { (at.duration_since(start).as_secs_f64() / length).clamp(0.0, 1.0) } else { 1.0 };
        let past = at <= judged;
        Day { at, ideal: round(committed * (1.0 - gone)), scope: past.then(|| sum(at, false)), remaining: past.then(|| sum(at, true)) }
    });
    Some(Burndown { unit, days: days.collect() })
}

/// What one closed sprint promised and kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pace {
    pub(super) sprint_id: u64,
    pub(super) name: String,
    pub(super) complete_date: Option<Timestamp>,
    pub(super) committed: f64,
    pub(super) completed: f64,
}

pub(super) fn pace(review: &Review) -> Pace {
    let (sprint, at) = (&review.sprint, review.at);
    let start = sprint.start.unwrap_or(at);
    let committed = review.members_at(start).filter_map(|issue| issue.points_at(start)).sum();
    let done = review.members_at(at).filter(|issue| review.is_done(issue));
    let completed = done.filter_map(|issue| issue.points_at(at)).sum();
    let (sprint_id, name) = (sprint.id, sprint.name.clone());
    Pace { sprint_id, name, complete_date: sprint.complete.or(sprint.end), committed: round(committed), completed: round(completed) }
}

/// How fast a board is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Velocity {
    /// The oldest first.
    pub(super) sprints: Vec<Pace>,
    pub(super) average: f64,
    /// `increasing`, `decreasing` or `stable`.
    pub(super) trend: &'static str,
}

pub(super) fn velocity(sprints: Vec<Pace>) -> Velocity {
    let done: Vec<f64> = sprints.iter().map(|pace| pace.completed).collect();
    Velocity { average: round(average(&done)), trend: trend(&done), sprints }
}

/// The later half against the earlier one.
fn trend(values: &[f64]) -> &'static str {
    if values.len() < 2 {
        return "stable";
    }
    let (before, after) = (average(&values[..values.len() / 2]), average(&values[values.len().div_ceil(2)..]));
    match after - before {
        change if change > before.abs() * TREND => "increasing",
        change if change < -before.abs() * TREND => "decreasing",
        _ => "stable",
    }
}

/// What the next sprint may hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Forecast {
    pub(super) velocity: f64,
    pub(super) trend: &'static str,
    /// `high`, `medium` or `low`.
    pub(super) confidence: &'static str,
    pub(super) carry_over_points: f64,
    /// What is left for new work.
    pub(super) new_work_points: f64,
}

pub(super) fn forecast(velocity: &Velocity, carry_over: f64) -> Forecast {
    let factor = match velocity.trend {
        "increasing" => 1.1,
        "decreasing" => 0.9,
        _ => 1.0,
    };
    let expected = round(velocity.average * factor);
    let confidence = match velocity.sprints.len() {
        5.. => "high",
        3.. => "medium",
        _ => "low",
    };
    let new_work_points = round((expected - carry_over).max(0.0));
    Forecast { velocity: expected, trend: velocity.trend, confidence, carry_over_points: carry_over, new_work_points }
}

fn average(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { (part / whole * 1000.0).round() / 10.0 }
}

/// To two places.
pub(super) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
