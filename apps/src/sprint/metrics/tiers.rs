//! What reports say of a sprint, in three tiers: goal and scope; blockers, bugs and flow; epics, debt and risks.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::times::{Times, cycle_time, lead_time, times};
use super::{Review, percent, round};
use crate::sprint::model::{Field, Issue};

/// The goal counts as achieved from here on, in percent.
const ACHIEVED: f64 = 80.0;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::sprint) struct Tier1 {
    pub(in crate::sprint) goal: Goal,
    #[serde(rename = "scopeChanges")]
    pub(in crate::sprint) scope: Scope,
    pub(in crate::sprint) spillover: Spillover,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sprint) struct Goal {
    pub(in crate::sprint) goal: String,
    pub(in crate::sprint) achieved: bool,
    pub(in crate::sprint) completion_rate: f64,
}

/// What came and went after the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sprint) struct Scope {
    pub(in crate::sprint) added: Vec<Moved>,
    pub(in crate::sprint) removed: Vec<Moved>,
    pub(in crate::sprint) reestimated: Vec<Reestimated>,
    pub(in crate::sprint) points_added: f64,
    pub(in crate::sprint) points_removed: f64,
    /// What the scope at the end differs by from that at the start.
    pub(in crate::sprint) net_points: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::sprint) struct Moved {
    pub(in crate::sprint) key: String,
    pub(in crate::sprint) summary: String,
    pub(in crate::sprint) points: Option<f64>,
    pub(in crate::sprint) at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::sprint) struct Reestimated {
    pub(in crate::sprint) key: String,
    pub(in crate::sprint) from: f64,
    pub(in crate::sprint) to: f64,
    pub(in crate::sprint) at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::sprint) struct Spillover {
    pub(in crate::sprint) issues: Vec<Moved>,
    pub(in crate::sprint) points: f64,
    pub(in crate::sprint) percentage: f64,
}

pub(in crate::sprint) fn scope(review: &Review) -> Scope {
    let (sprint, end) = (&review.sprint, review.at);
    let Some(start) = sprint.start else { return Scope::default() };
    let during = |at: Timestamp| at > start && at <= end;
    let mut out = Scope::default();
    for issue in &review.issues {
        let moved = |at| Moved { key: issue.key.clone(), summary: issue.summary.clone(), points: issue.points_at(at), at };
        // What is created right in a sprint has no change that says so.
        if let Some(created) = issue.created.filter(|created| during(*created))
            && issue.was_born_in(sprint.id)
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
    let all = |at| -> f64 { review.members_at(at).filter_map(|issue| issue.points_at(at)).sum() };
    (out.points_added, out.points_removed) = (sum(&out.added), sum(&out.removed));
    out.net_points = round(all(end) - all(start));
    out
}

pub(in crate::sprint) fn tier1(review: &Review) -> Tier1 {
    let (at, members) = (review.at, review.members());
    let left = members.iter().filter(|issue| !review.is_done(issue));
    let left: Vec<Moved> = left.map(|i| Moved { key: i.key.clone(), summary: i.summary.clone(), points: i.points_at(at), at }).collect();
    let points = round(left.iter().filter_map(|issue| issue.points).sum());
    let percentage = percent(left.len() as f64, members.len() as f64);
    let done = members.len() - left.len();
    // Not by the rate that is shown, which is rounded.
    let achieved = done > 0 && done as f64 * 100.0 >= members.len() as f64 * ACHIEVED;
    Tier1 {
        goal: Goal { goal: review.sprint.goal.clone(), achieved, completion_rate: percent(done as f64, members.len() as f64) },
        scope: scope(review),
        spillover: Spillover { issues: left, points, percentage },
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sprint) struct Tier2 {
    pub(in crate::sprint) blockers: Vec<Blocker>,
    pub(in crate::sprint) bugs: Bugs,
    pub(in crate::sprint) cycle_time: Times,
    pub(in crate::sprint) lead_time: Times,
    pub(in crate::sprint) capacity: Vec<Load>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::sprint) struct Blocker {
    pub(in crate::sprint) key: String,
    pub(in crate::sprint) summary: String,
    pub(in crate::sprint) status: String,
    pub(in crate::sprint) assignee: Option<String>,
    pub(in crate::sprint) reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::sprint) struct Bugs {
    pub(in crate::sprint) total: usize,
    /// During the sprint.
    pub(in crate::sprint) created: usize,
    pub(in crate::sprint) resolved: usize,
    pub(in crate::sprint) open: usize,
    pub(in crate::sprint) percentage: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sprint) struct Load {
    pub(in crate::sprint) assignee: String,
    pub(in crate::sprint) issues: usize,
    pub(in crate::sprint) completed_issues: usize,
    pub(in crate::sprint) points: f64,
    pub(in crate::sprint) completed_points: f64,
}

impl Load {
    fn rounded(self) -> Load {
        Load { points: round(self.points), completed_points: round(self.completed_points), ..self }
    }
}

pub(in crate::sprint) fn tier2(review: &Review) -> Tier2 {
    let (at, stages, members) = (review.at, &review.stages, review.members());
    let done = |issue: &&&Issue| review.is_done(issue);
    let blocked =
        |issue: &&&Issue| (issue.flag_at(at).is_some() || issue.status_at(at).eq_ignore_ascii_case("blocked")) && !review.is_done(issue);
    let blockers = members.iter().filter(blocked).map(|issue| Blocker {
        key: issue.key.clone(),
        summary: issue.summary.clone(),
        status: issue.status_at(at).to_owned(),
        assignee: issue.assignee.clone(),
        reason: issue.flag_at(at).filter(|reason| !reason.is_empty()).map(str::to_owned),
    });
    let bugs: Vec<_> = members.iter().filter(|issue| issue.issue_type.eq_ignore_ascii_case("bug")).collect();
    let resolved = bugs.iter().copied().filter(done).count();
    let born = |issue: &&&&Issue| review.sprint.start.zip(issue.created).is_some_and(|(start, created)| created >= start && created <= at);
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
        if review.is_done(issue) {
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
        cycle_time: times(members.iter().filter_map(|issue| cycle_time(issue, stages, at)).collect()),
        lead_time: times(members.iter().filter_map(|issue| lead_time(issue, stages, at)).collect()),
        capacity: capacity.into_values().map(Load::rounded).collect(),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sprint) struct Tier3 {
    pub(in crate::sprint) epics: Vec<Epic>,
    pub(in crate::sprint) technical_debt: Debt,
    pub(in crate::sprint) risks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::sprint) struct Epic {
    pub(in crate::sprint) key: String,
    pub(in crate::sprint) name: Option<String>,
    pub(in crate::sprint) issues: usize,
    pub(in crate::sprint) completed_issues: usize,
    pub(in crate::sprint) points: f64,
    pub(in crate::sprint) completion_rate: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in crate::sprint) struct Debt {
    pub(in crate::sprint) issues: Vec<String>,
    pub(in crate::sprint) points: f64,
    pub(in crate::sprint) percentage: f64,
}

pub(in crate::sprint) fn tier3(review: &Review) -> Tier3 {
    let (at, members) = (review.at, review.members());
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
        epic.completed_issues += usize::from(review.is_done(issue));
        epic.points = round(epic.points + issue.points_at(at).unwrap_or(0.0));
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
    let open = || members.iter().filter(|issue| !review.is_done(issue));
    risk(open().filter(|issue| issue.flag_at(at).is_some()).count(), "flagged and not done");
    risk(open().filter(|issue| issue.points_at(at).is_none()).count(), "not done and not estimated");
    risk(open().filter(|issue| issue.assignee.is_none()).count(), "not done and with nobody");
    let urgent = |issue: &&&Issue| matches!(issue.priority.as_deref(), Some("Highest" | "Blocker" | "Critical"));
    risk(open().filter(|issue| urgent(issue)).count(), "of the highest priority not done");
    risk(scope(review).added.len(), "added after the start");
    Tier3 { epics: epics.into_values().collect(), technical_debt, risks }
}
