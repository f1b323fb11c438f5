//! What a sprint's issues say of it. Nothing here asks anybody, and time is given.
//!
//! A sprint is judged as of its end: an issue that was done a week later was not done. What an issue was at a time
//! is read from its changelog, so that a burndown shows what happened and not a straight line.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::model::{Field, Issue, Sprint, Stage, Stages};

/// The goal counts as achieved from here on, in percent.
const ACHIEVED: f64 = 80.0;
/// What changes less has no trend.
const TREND: f64 = 0.10;

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

/// Those that count for a sprint: in it when it is judged.
pub(super) fn members<'i>(sprint: &Sprint, issues: &'i [Issue], now: Timestamp) -> Vec<&'i Issue> {
    let at = sprint.judged_at(now);
    issues.iter().filter(|issue| issue.in_sprint_at(sprint.id, at)).collect()
}

pub(super) fn metrics(sprint: &Sprint, issues: &[Issue], now: Timestamp) -> Metrics {
    let (at, stages) = (sprint.judged_at(now), Stages::of(issues));
    let members = members(sprint, issues, now);
    let in_stage = |stage| members.iter().filter(|issue| stages.stage(issue.status_at(at)) == stage).count();
    let points = |done_only: bool| {
        let counted = members.iter().filter(|issue| !done_only || stages.is_done(issue, at));
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
pub(super) fn burndown(sprint: &Sprint, issues: &[Issue], now: Timestamp) -> Option<Burndown> {
    let (start, judged) = (sprint.start?, sprint.judged_at(now));
    let planned = sprint.end.unwrap_or(judged).max(start);
    let end = planned.max(if sprint.state == "closed" { judged } else { planned });
    let stages = Stages::of(issues);
    let unit = if issues.iter().any(|issue| issue.story_points.is_some_and(|points| points > 0.0)) { "points" } else { "issues" };
    let weigh = |issue: &Issue, at| if unit == "points" { issue.points_at(at).unwrap_or(0.0) } else { 1.0 };
    let sum = |at: Timestamp, open_only: bool| {
        let counted = issues.iter().filter(|issue| issue.in_sprint_at(sprint.id, at) && !(open_only && stages.is_done(issue, at)));
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

pub(super) fn pace(sprint: &Sprint, issues: &[Issue], now: Timestamp) -> Pace {
    let (at, stages) = (sprint.judged_at(now), Stages::of(issues));
    let start = sprint.start.unwrap_or(at);
    let committed = issues.iter().filter(|issue| issue.in_sprint_at(sprint.id, start)).filter_map(|issue| issue.points_at(start)).sum();
    let done = issues.iter().filter(|issue| issue.in_sprint_at(sprint.id, at) && stages.is_done(issue, at));
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

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Tier1 {
    pub(super) goal: Goal,
    #[serde(rename = "scopeChanges")]
    pub(super) scope: Scope,
    pub(super) spillover: Spillover,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Goal {
    pub(super) goal: String,
    pub(super) achieved: bool,
    pub(super) completion_rate: f64,
}

/// What came and went after the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Scope {
    pub(super) added: Vec<Moved>,
    pub(super) removed: Vec<Moved>,
    pub(super) reestimated: Vec<Reestimated>,
    pub(super) points_added: f64,
    pub(super) points_removed: f64,
    /// What the scope at the end differs by from that at the start.
    pub(super) net_points: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Moved {
    pub(super) key: String,
    pub(super) summary: String,
    pub(super) points: Option<f64>,
    pub(super) at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Reestimated {
    pub(super) key: String,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Spillover {
    pub(super) issues: Vec<Moved>,
    pub(super) points: f64,
    pub(super) percentage: f64,
}

pub(super) fn scope(sprint: &Sprint, issues: &[Issue], now: Timestamp) -> Scope {
    let Some(start) = sprint.start else { return Scope::default() };
    let end = sprint.judged_at(now);
    let during = |at: Timestamp| at > start && at <= end;
    let mut out = Scope::default();
    for issue in issues {
        let moved = |at| Moved { key: issue.key.clone(), summary: issue.summary.clone(), points: issue.points_at(at), at };
        // What is created right in a sprint has no change that says so.
        if let Some(created) = issue.created.filter(|created| during(*created))
            && issue.in_sprint_at(sprint.id, created)
        {
            out.added.push(moved(created));
        }
        for (at, came) in issue.moves(sprint.id).filter(|(at, _)| during(*at)) {
            if came { &mut out.added } else { &mut out.removed }.push(moved(at));
        }
        for change in issue.changes.iter().filter(|change| change.field == Field::Points && during(change.at)) {
            let points = |text: &str| text.trim().parse().ok().filter(|points: &f64| points.is_finite()).unwrap_or(0.0);
            let (from, to) = (points(&change.from), points(&change.to));
            if from != to && issue.in_sprint_at(sprint.id, change.at) {
                out.reestimated.push(Reestimated { key: issue.key.clone(), from, to, at: change.at });
            }
        }
    }
    out.added.sort_by_key(|moved| moved.at);
    out.removed.sort_by_key(|moved| moved.at);
    out.reestimated.sort_by_key(|change| change.at);
    let sum = |all: &[Moved]| round(all.iter().filter_map(|moved| moved.points).sum());
    let all = |at| -> f64 {
        let inside = issues.iter().filter(|issue| issue.in_sprint_at(sprint.id, at));
        inside.filter_map(|issue| issue.points_at(at)).sum()
    };
    (out.points_added, out.points_removed) = (sum(&out.added), sum(&out.removed));
    out.net_points = round(all(end) - all(start));
    out
}

pub(super) fn tier1(sprint: &Sprint, issues: &[Issue], now: Timestamp) -> Tier1 {
    let (at, stages) = (sprint.judged_at(now), Stages::of(issues));
    let numbers = metrics(sprint, issues, now);
    let members = members(sprint, issues, now);
    let left = members.iter().filter(|issue| !stages.is_done(issue, at));
    let left: Vec<Moved> = left.map(|i| Moved { key: i.key.clone(), summary: i.summary.clone(), points: i.points_at(at), at }).collect();
    let points = round(left.iter().filter_map(|issue| issue.points).sum());
    let percentage = percent(left.len() as f64, members.len() as f64);
    let achieved = !members.is_empty() && numbers.completion_rate >= ACHIEVED;
    Tier1 {
        goal: Goal { goal: sprint.goal.clone(), achieved, completion_rate: numbers.completion_rate },
        scope: scope(sprint, issues, now),
        spillover: Spillover { issues: left, points, percentage },
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tier2 {
    pub(super) blockers: Vec<Blocker>,
    pub(super) bugs: Bugs,
    pub(super) cycle_time: Times,
    pub(super) lead_time: Times,
    pub(super) capacity: Vec<Load>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Blocker {
    pub(super) key: String,
    pub(super) summary: String,
    pub(super) status: String,
    pub(super) assignee: Option<String>,
    pub(super) reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Bugs {
    pub(super) total: usize,
    /// During the sprint.
    pub(super) created: usize,
    pub(super) resolved: usize,
    pub(super) open: usize,
    pub(super) percentage: f64,
}

/// In days.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Times {
    pub(super) issues: usize,
    pub(super) average: f64,
    pub(super) median: f64,
    pub(super) p90: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Load {
    pub(super) assignee: String,
    pub(super) issues: usize,
    pub(super) completed_issues: usize,
    pub(super) points: f64,
    pub(super) completed_points: f64,
}

/// From its first progress until it was done for good, in days.
pub(super) fn cycle_time(issue: &Issue, stages: &Stages, at: Timestamp) -> Option<f64> {
    let begun = issue.changes.iter().filter(|change| change.field == Field::Status && change.at <= at);
    let begun = begun.map(|change| (change.at, stages.stage(&change.to))).find(|(_, stage)| *stage == Stage::InProgress)?.0;
    Some(days(begun, done_at(issue, stages, at)?))
}

/// From its creation until it was done for good, in days.
pub(super) fn lead_time(issue: &Issue, stages: &Stages, at: Timestamp) -> Option<f64> {
    Some(days(issue.created?, done_at(issue, stages, at)?))
}

/// Since when it is done, as seen from a time.
pub(super) fn done_at(issue: &Issue, stages: &Stages, at: Timestamp) -> Option<Timestamp> {
    if !stages.is_done(issue, at) {
        return None;
    }
    let moves = issue.changes.iter().rev().filter(|change| change.field == Field::Status && change.at <= at);
    let mut since = None;
    for change in moves {
        if stages.stage(&change.to) != Stage::Done {
            break;
        }
        since = Some(change.at);
        if stages.stage(&change.from) != Stage::Done {
            break;
        }
    }
    since.or(issue.resolved.filter(|resolved| *resolved <= at))
}

/// How long it was in each status until then, in days.
pub(super) fn time_in_status(issue: &Issue, until: Timestamp) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    let Some(mut since) = issue.created else { return out };
    let changes = issue.changes.iter().filter(|change| change.field == Field::Status && change.at <= until);
    for change in changes {
        *out.entry(change.from.clone()).or_insert(0.0) += days(since, change.at);
        since = change.at;
    }
    *out.entry(issue.status_at(until).to_owned()).or_insert(0.0) += days(since, until.max(since));
    out.values_mut().for_each(|days| *days = round(*days));
    out
}

fn days(from: Timestamp, to: Timestamp) -> f64 {
    (to.duration_since(from).as_secs_f64() / 86_400.0).max(0.0)
}

/// The 90th of a hundred is the smallest that 90 of them do not exceed.
pub(super) fn times(mut days: Vec<f64>) -> Times {
    if days.is_empty() {
        return Times::default();
    }
    days.sort_by(f64::total_cmp);
    let middle = days.len() / 2;
    let median = if days.len() % 2 == 1 { days[middle] } else { (days[middle - 1] + days[middle]) / 2.0 };
    let p90 = days[(days.len() * 9).div_ceil(10) - 1];
    Times { issues: days.len(), average: round(average(&days)), median: round(median), p90: round(p90) }
}

pub(super) fn tier2(sprint: &Sprint, issues: &[Issue], now: Timestamp) -> Tier2 {
    let (at, stages) = (sprint.judged_at(now), Stages::of(issues));
    let members = members(sprint, issues, now);
    let done = |issue: &&&Issue| stages.is_done(issue, at);
    let blocked = |issue: &&&Issue| (issue.flagged || issue.status_at(at).eq_ignore_ascii_case("blocked")) && !stages.is_done(issue, at);
    let blockers = members.iter().filter(blocked).map(|issue| Blocker {
        key: issue.key.clone(),
        summary: issue.summary.clone(),
        status: issue.status_at(at).to_owned(),
        assignee: issue.assignee.clone(),
        reason: issue.blocker_reason.clone(),
    });
    let bugs: Vec<_> = members.iter().filter(|issue| issue.issue_type.eq_ignore_ascii_case("bug")).collect();
    let resolved = bugs.iter().copied().filter(done).count();
    let born = |issue: &&&&Issue| sprint.start.zip(issue.created).is_some_and(|(start, created)| created >= start && created <= at);
    let mut capacity: BTreeMap<&str, Load> = BTreeMap::new();
    for issue in &members {
        let name = issue.assignee.as_deref().unwrap_or("Unassigned");
        let load = capacity.entry(name).or_insert_with(|| Load {
            assignee: name.to_owned(),
            issues: 0,
            completed_issues: 0,
            points: 0.0,
            completed_points: 0.0,
        });
        let points = issue.points_at(at).unwrap_or(0.0);
        load.issues += 1;
        load.points += points;
        if stages.is_done(issue, at) {
            load.completed_issues += 1;
            load.completed_points += points;
        }
    }
    Tier2 {
        blockers: blockers.collect(),
        bugs: Bugs {
            total: bugs.len(),
            created: bugs.iter().filter(born).count(),
            resolved,
            open: bugs.len() - resolved,
            percentage: percent(bugs.len() as f64, members.len() as f64),
        },
        cycle_time: times(members.iter().filter_map(|issue| cycle_time(issue, &stages, at)).collect()),
        lead_time: times(members.iter().filter_map(|issue| lead_time(issue, &stages, at)).collect()),
        capacity: capacity.into_values().collect(),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tier3 {
    pub(super) epics: Vec<Epic>,
    pub(super) technical_debt: Debt,
    pub(super) risks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Epic {
    pub(super) key: String,
    pub(super) name: Option<String>,
    pub(super) issues: usize,
    pub(super) completed_issues: usize,
    pub(super) points: f64,
    pub(super) completion_rate: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Debt {
    pub(super) issues: Vec<String>,
    pub(super) points: f64,
    pub(super) percentage: f64,
}

pub(super) fn tier3(sprint: &Sprint, issues: &[Issue], now: Timestamp) -> Tier3 {
    let (at, stages) = (sprint.judged_at(now), Stages::of(issues));
    let members = members(sprint, issues, now);
    let mut epics: BTreeMap<&str, Epic> = BTreeMap::new();
    for issue in &members {
        let Some(key) = issue.epic_link.as_deref() else { continue };
        let epic = epics.entry(key).or_insert_with(|| Epic {
            key: key.to_owned(),
            name: None,
            issues: 0,
            completed_issues: 0,
            points: 0.0,
            completion_rate: 0.0,
        });
        epic.name = epic.name.take().or_else(|| issue.epic_name.clone());
        epic.issues += 1;
        epic.completed_issues += usize::from(stages.is_done(issue, at));
        epic.points += issue.points_at(at).unwrap_or(0.0);
        epic.completion_rate = percent(epic.completed_issues as f64, epic.issues as f64);
    }
    const DEBT: [&str; 5] = ["tech-debt", "techdebt", "technical-debt", "refactoring", "refactor"];
    let is_debt = |issue: &&&Issue| issue.labels.iter().any(|label| DEBT.contains(&label.to_lowercase().as_str()));
    let debt: Vec<_> = members.iter().filter(is_debt).collect();
    let technical_debt = Debt {
        issues: debt.iter().map(|issue| issue.key.clone()).collect(),
        points: round(debt.iter().filter_map(|issue| issue.points_at(at)).sum()),
        percentage: percent(debt.len() as f64, members.len() as f64),
    };
    let mut risks = Vec::new();
    let mut risk = |count: usize, what: &str| {
        if count > 0 {
            risks.push(format!("{count} {} {what}", if count == 1 { "issue" } else { "issues" }));
        }
    };
    let open = || members.iter().filter(|issue| !stages.is_done(issue, at));
    risk(open().filter(|issue| issue.flagged).count(), "flagged and not done");
    risk(open().filter(|issue| issue.points_at(at).is_none()).count(), "not done and not estimated");
    risk(open().filter(|issue| issue.assignee.is_none()).count(), "not done and with nobody");
    let urgent = |issue: &&&Issue| matches!(issue.priority.as_deref(), Some("Highest" | "Blocker" | "Critical"));
    risk(open().filter(|issue| urgent(issue)).count(), "of the highest priority not done");
    let scope = scope(sprint, issues, now);
    risk(scope.added.len(), "added after the start");
    Tier3 { epics: epics.into_values().collect(), technical_debt, risks }
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
