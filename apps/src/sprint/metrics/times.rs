//! How long things took: cycle time, lead time, time in each status. All in days.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{average, round};
use crate::sprint::model::{Field, Issue, Stage, Stages};

/// Of several issues.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(in crate::sprint) struct Times {
    pub(in crate::sprint) issues: usize,
    pub(in crate::sprint) average: f64,
    pub(in crate::sprint) median: f64,
    pub(in crate::sprint) p90: f64,
}

/// From its first progress until it was done for good, in days.
pub(in crate::sprint) fn cycle_time(issue: &Issue, stages: &Stages, at: Timestamp) -> Option<f64> {
    let begun = issue.changes.iter().filter(|change| change.field == Field::Status && change.at <= at);
    let begun = begun.map(|change| (change.at, stages.stage(&change.to))).find(|(_, stage)| *stage == Stage::InProgress)?.0;
    Some(days(begun, done_at(issue, stages, at)?))
}

/// From its creation until it was done for good, in days.
pub(in crate::sprint) fn lead_time(issue: &Issue, stages: &Stages, at: Timestamp) -> Option<f64> {
    Some(days(issue.created?, done_at(issue, stages, at)?))
}

/// Since when it is done, as seen from a time.
pub(in crate::sprint) fn done_at(issue: &Issue, stages: &Stages, at: Timestamp) -> Option<Timestamp> {
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
pub(in crate::sprint) fn time_in_status(issue: &Issue, until: Timestamp) -> BTreeMap<String, f64> {
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
pub(in crate::sprint) fn times(mut days: Vec<f64>) -> Times {
    if days.is_empty() {
        return Times::default();
    }
    days.sort_by(f64::total_cmp);
    let middle = days.len() / 2;
    let median = if days.len() % 2 == 1 { days[middle] } else { (days[middle - 1] + days[middle]) / 2.0 };
    let p90 = days[(days.len() * 9).div_ceil(10) - 1];
    Times { issues: days.len(), average: round(average(&days)), median: round(median), p90: round(p90) }
}
