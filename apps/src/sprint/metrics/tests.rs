//! A sprint whose numbers were counted by hand, and what holds of every sprint.

use proptest::prelude::*;

use super::tiers::scope;
use super::times::times;
use super::*;
use crate::sprint::model::{Change, Field, time};

const ID: u64 = 7;

/// So many hours after the start.
fn h(hours: i64) -> Timestamp {
    Timestamp::from_second(1_767_603_600 + hours * 3_600).expect("a time")
}

fn sprint() -> Sprint {
    let (start, end) = (Some(h(0)), Some(h(240)));
    Sprint { id: ID, name: "Ten days".into(), state: "closed".into(), start, end, complete: end, goal: "All".into(), board: Some(1) }
}

fn issue(key: &str, points: Option<f64>, changes: &[(i64, Field, &str, &str)]) -> Issue {
    let changes: Vec<Change> = changes
        .iter()
        .map(|(at, field, from, to)| Change { at: h(*at), by: None, field: *field, from: (*from).into(), to: (*to).into() })
        .collect();
    let last = |field| changes.iter().rev().find(|change| change.field == field).map(|change| change.to.clone());
    let status = last(Field::Status).unwrap_or_else(|| "To Do".into());
    let sprints = last(Field::Sprint).unwrap_or_else(|| ID.to_string());
    let sprints = sprints.split(',').filter_map(|id| id.trim().parse().ok()).collect();
    let (key, created) = (key.to_owned(), Some(h(-100)));
    Issue { key, status, story_points: points, created, sprints, changes, issue_type: "Story".into(), ..Issue::default() }
}

/// As seen a month later.
fn of(sprint: Sprint, issues: Vec<Issue>) -> Review {
    Review::of(sprint, issues, &Stages::default(), h(1_000))
}

fn ten_days() -> Vec<Issue> {
    use Field::{Points, Sprint, Status};
    vec![
        issue("A-1", Some(5.0), &[(10, Status, "To Do", "In Progress"), (58, Status, "In Progress", "Done")]),
        // Done, but when the sprint was over.
        issue("A-2", Some(8.0), &[(20, Status, "To Do", "In Progress"), (300, Status, "In Progress", "Done")]),
        // Came later.
        issue("A-3", Some(2.0), &[(50, Sprint, "", "7"), (60, Status, "To Do", "In Progress"), (132, Status, "In Progress", "Closed")]),
        // Was taken out.
        issue("A-4", Some(3.0), &[(100, Sprint, "7", "7, 8"), (101, Sprint, "7, 8", "8")]),
        // Was estimated anew.
        issue("A-5", Some(5.0), &[(110, Points, "3", "5")]),
        // Done, reopened, done.
        issue(
            "A-6",
            None,
            &[
                (30, Status, "Open", "Testing"),
                (40, Status, "Testing", "Resolved"),
                (70, Status, "Resolved", "Open"),
                (126, Status, "Open", "Done"),
            ],
        ),
    ]
}

#[test]
fn a_sprint_is_judged_as_of_its_end() {
    let numbers = metrics(&of(sprint(), ten_days()));
    assert_eq!((numbers.total_issues, numbers.completed_issues, numbers.in_progress_issues, numbers.todo_issues), (5, 3, 1, 1));
    assert_eq!((numbers.story_points, numbers.completed_story_points, numbers.completion_rate), (20.0, 7.0, 60.0));
    assert_eq!(numbers.average_story_points_per_issue, 5.0);
}

#[test]
fn a_burndown_is_what_happened() {
    let burndown = burndown(&of(sprint(), ten_days())).expect("a burndown");
    let left: Vec<f64> = burndown.days.iter().filter_map(|day| day.remaining).collect();
    // 5+8+3+3; A-1 done on the third day, A-3 there since; A-4 gone, A-5 bigger; A-3 done.
    assert_eq!(left, [19.0, 19.0, 19.0, 16.0, 16.0, 15.0, 13.0, 13.0, 13.0, 13.0, 13.0]);
    let ideal: Vec<f64> = burndown.days.iter().map(|day| day.ideal).collect();
    assert_eq!((ideal[0], ideal[5], ideal[10], burndown.unit), (19.0, 9.5, 0.0, "points"));
}

#[test]
fn a_sprint_that_runs_has_no_future() {
    let running = Sprint { state: "active".into(), complete: None, ..sprint() };
    let burndown = burndown(&Review::of(running, ten_days(), &Stages::default(), h(60))).expect("a burndown");
    let last = burndown.days.iter().rfind(|day| day.remaining.is_some()).expect("a day");
    assert_eq!((last.at, last.remaining), (h(60), Some(16.0)));
    assert_eq!(burndown.days.last().map(|day| day.at), Some(h(240)));
    let future = Sprint { state: "future".into(), start: None, ..sprint() };
    assert_eq!(super::burndown(&Review::of(future, ten_days(), &Stages::default(), h(0))), None);
}

#[test]
fn what_came_and_went_is_told() {
    let tier = tier1(&of(sprint(), ten_days()));
    assert_eq!((keys(&tier.scope.added), keys(&tier.scope.removed)), (vec!["A-3"], vec!["A-4"]));
    assert_eq!((tier.scope.reestimated[0].from, tier.scope.reestimated[0].to, tier.scope.net_points), (3.0, 5.0, 1.0));
    assert_eq!((keys(&tier.spillover.issues), tier.spillover.points), (vec!["A-2", "A-5"], 13.0));
    assert!(!tier.goal.achieved);
}

#[test]
fn cycle_time_ends_when_it_was_done_for_good() {
    let (issues, at) = (ten_days(), h(240));
    let stages = Stages::default().with(&issues);
    let days: Vec<Option<f64>> = issues.iter().map(|issue| cycle_time(issue, &stages, at)).collect();
    assert_eq!(days, [Some(2.0), None, Some(3.0), None, None, Some(4.0)]);
    let tier = tier2(&of(sprint(), issues));
    assert_eq!(tier.cycle_time, Times { issues: 3, average: 3.0, median: 3.0, p90: 4.0 });
    assert_eq!(times((1..=10).map(f64::from).collect()), Times { issues: 10, average: 5.5, median: 5.5, p90: 9.0 });
}

#[test]
fn velocity_has_a_trend_and_a_forecast_some_confidence() {
    let of = |all: &[f64]| {
        let pace =
            |n: (usize, &f64)| Pace { sprint_id: n.0 as u64, name: String::new(), complete_date: None, committed: 0.0, completed: *n.1 };
        velocity(all.iter().enumerate().map(pace).collect())
    };
    assert_eq!(of(&[10.0, 10.0, 12.0, 12.0]).trend, "increasing");
    assert_eq!(of(&[10.0, 10.5]).trend, "stable");
    assert_eq!(of(&[12.0, 99.0, 10.0]).trend, "decreasing");
    let forecast = |all: &[f64]| forecast(&of(all), 4.0);
    assert_eq!((forecast(&[10.0; 5]).confidence, forecast(&[10.0; 3]).confidence, forecast(&[]).confidence), ("high", "medium", "low"));
    assert_eq!(
        (forecast(&[10.0, 20.0]).velocity, forecast(&[10.0, 20.0]).new_work_points, forecast(&[1.0]).new_work_points),
        (16.5, 12.5, 0.0)
    );
}

#[test]
fn nothing_is_divided_by_nothing() {
    let numbers = metrics(&of(sprint(), Vec::new()));
    assert_eq!((numbers.completion_rate, numbers.average_story_points_per_issue), (0.0, 0.0));
    assert!(!tier1(&of(sprint(), Vec::new())).goal.achieved);
    assert_eq!(velocity(Vec::new()).average, 0.0);
    assert!(burndown(&of(sprint(), Vec::new())).expect("days").days.iter().all(|day| day.remaining == Some(0.0)));
}

fn keys(all: &[Moved]) -> Vec<&str> {
    all.iter().map(|moved| moved.key.as_str()).collect()
}

#[test]
fn what_comes_goes_and_comes_back_is_told_each_time() {
    use Field::Sprint;
    let back = issue("B-1", Some(3.0), &[(24, Sprint, "7", ""), (48, Sprint, "", "7"), (72, Sprint, "7", "8"), (96, Sprint, "8", "7, 8")]);
    // Jira puts an issue into its sprint in the moment that it makes it, and sometimes says so.
    let mut born = issue("B-2", Some(5.0), &[(30, Sprint, "", "7")]);
    let mut silent = issue("B-3", None, &[]);
    (born.created, silent.created) = (Some(h(30)), Some(h(40)));
    // After the end nothing counts.
    let mut late = issue("B-4", Some(8.0), &[(250, Sprint, "", "7")]);
    late.created = Some(h(250));
    let review = of(sprint(), vec![back, born, silent, late]);
    let scope = scope(&review);
    assert_eq!((keys(&scope.added), keys(&scope.removed)), (vec!["B-2", "B-3", "B-1", "B-1"], vec!["B-1", "B-1"]));
    // 5 + 3 + 3 came, 3 + 3 went; it began with 3 and ended with 8.
    assert_eq!((scope.points_added, scope.points_removed, scope.net_points), (11.0, 6.0, 5.0));
    let numbers = metrics(&review);
    assert_eq!((numbers.total_issues, numbers.story_points, numbers.average_story_points_per_issue), (3, 8.0, 4.0));
}

#[test]
fn who_is_reopened_is_not_done() {
    use Field::Status;
    let during = issue("C-1", Some(1.0), &[(10, Status, "To Do", "Done"), (20, Status, "Done", "In Progress")]);
    let afterwards = issue("C-2", Some(2.0), &[(10, Status, "To Do", "Done"), (300, Status, "Done", "To Do")]);
    let review = of(sprint(), vec![during, afterwards]);
    let numbers = metrics(&review);
    assert_eq!((numbers.completed_issues, numbers.in_progress_issues, numbers.velocity), (1, 1, 2.0));
    assert_eq!(keys(&tier1(&review).spillover.issues), ["C-1"]);
    // Nobody worked on the other before it was done.
    assert_eq!(tier2(&review).cycle_time, Times::default());
    assert_eq!(tier2(&review).lead_time, Times { issues: 1, average: 4.58, median: 4.58, p90: 4.58 });
}

#[test]
fn a_sprint_without_dates_or_estimates_has_numbers_too() {
    let bare = Sprint { start: None, end: None, complete: None, ..sprint() };
    let mut all = ten_days();
    all.iter_mut().for_each(|issue| {
        issue.story_points = None;
        issue.changes.retain(|change| change.field != Field::Points);
    });
    let review = of(bare, all.clone());
    // Judged today: A-2 is done meanwhile.
    let numbers = metrics(&review);
    assert_eq!((numbers.total_issues, numbers.completed_issues, numbers.story_points, numbers.points_completion_rate), (5, 4, 0.0, 0.0));
    assert_eq!((burndown(&review), scope(&review)), (None, tiers::Scope::default()));
    assert_eq!((pace(&review).committed, tier2(&review).bugs.created), (0.0, 0));
    // With dates, and nothing estimated: issues burn down. A-6 done, then A-3 there, A-1 done and A-6 open again, A-4 gone,
    // done.
    let burndown = burndown(&of(sprint(), all)).expect("days");
    let left: Vec<f64> = burndown.days.iter().filter_map(|day| day.remaining).collect();
    assert_eq!((burndown.unit, left), ("issues", vec![5.0, 5.0, 4.0, 5.0, 5.0, 4.0, 2.0, 2.0, 2.0, 2.0, 2.0]));
}

#[test]
fn a_goal_is_not_achieved_by_rounding() {
    let all = |done: usize, of: usize| {
        let one = |n| issue(&format!("D-{n}"), None, if n < done { &[(10, Field::Status, "To Do", "Done")] } else { &[] });
        tier1(&self::of(sprint(), (0..of).map(one).collect())).goal
    };
    assert_eq!((all(4, 5).achieved, all(4, 5).completion_rate), (true, 80.0));
    assert_eq!((all(799, 999).achieved, all(799, 999).completion_rate), (false, 80.0));
    assert!(!all(0, 3).achieved);
}

#[test]
fn statuses_are_what_jira_takes_them_for() {
    use Field::Status;
    // Nobody is in development any more, so no issue shows what that is.
    let mut one = issue("E-1", Some(3.0), &[(10, Status, "Ready", "In Development"), (58, Status, "In Development", "Released")]);
    one.status_category = "done".into();
    let of = |stages: &Stages| tier2(&Review::of(sprint(), vec![one.clone()], stages, h(1_000))).cycle_time.issues;
    let told = Stages::of([("IN DEVELOPMENT", "indeterminate"), ("Released", "new"), ("Strange", "undefined")]);
    assert_eq!((of(&Stages::default()), of(&told)), (0, 1), "the issue's own word on Released counts for more");
}

#[test]
fn a_flag_counts_as_of_the_end() {
    use Field::Flagged;
    let mut later = issue("F-1", None, &[(300, Flagged, "", "Impediment")]);
    let mut before = issue("F-2", None, &[(10, Flagged, "", "Impediment"), (20, Flagged, "Impediment", "")]);
    let gone = issue("F-3", None, &[(10, Flagged, "", "Impediment"), (300, Flagged, "Impediment", "")]);
    let mut silent = issue("F-4", None, &[]);
    (later.flagged, before.flagged, silent.flagged) = (true, false, true);
    let blockers = tier2(&of(sprint(), vec![later, before, gone, silent])).blockers;
    let told: Vec<_> = blockers.iter().map(|blocker| (blocker.key.as_str(), blocker.reason.as_deref())).collect();
    assert_eq!(told, [("F-3", Some("Impediment")), ("F-4", None)]);
}

#[test]
fn a_time_is_one_in_every_zone_and_days_are_24_hours() {
    let at = |text: &str| time(text).map(|at| at.to_string());
    let noon = Some("2026-03-29T12:00:00Z".to_owned());
    for text in
        ["12:00:00.000+0000", "14:00:00.000+0200", "07:00:00.000-0500", "17:30:00+0530", "14:00:00.000+02:00", "12:00:00Z", "12:00:00.0Z"]
    {
        assert_eq!(at(&format!("2026-03-29T{text}")), noon, "{text}");
    }
    for bad in ["", "2026-03-29", "2026-03-29T12:00:00", "2026-02-30T12:00:00.000+0000", "yesterday"] {
        assert_eq!(at(bad), None, "{bad}");
    }
    // Clocks went forward in the night to the 29th: two days by the calendar, 47 hours.
    let (start, end) = (time("2026-03-28T09:00:00.000+0100"), time("2026-03-30T09:00:00.000+0200"));
    let short = Sprint { start, end, complete: end, ..sprint() };
    let mut done = issue("G-1", Some(4.0), &[(0, Field::Status, "To Do", "Done")]);
    done.changes[0].at = time("2026-03-29T09:30:00.000+0200").expect("a time");
    let burndown = burndown(&of(short, vec![done])).expect("days");
    let days: Vec<_> = burndown.days.iter().map(|day| (day.at.to_string(), day.remaining, day.ideal)).collect();
    assert_eq!(
        days,
        [
            ("2026-03-28T08:00:00Z".to_owned(), Some(4.0), 4.0),
            // Done half an hour before; 24 of 47 hours are gone.
            ("2026-03-29T08:00:00Z".to_owned(), Some(0.0), 1.96),
            ("2026-03-30T07:00:00Z".to_owned(), Some(0.0), 0.0),
        ]
    );
}

#[test]
fn points_that_no_binary_fraction_has_are_added_well() {
    let tenth = || issue("H-1", Some(0.1), &[]);
    let review = of(sprint(), vec![tenth(), tenth(), tenth()]);
    assert_eq!((metrics(&review).story_points, tier2(&review).capacity[0].points), (0.3, 0.3));
}

fn any_issue() -> impl Strategy<Value = Issue> {
    let change = (0i64..300, 0u8..3, 0usize..5);
    (proptest::collection::vec(change, 0..8), proptest::option::of(0u8..20), 0i64..20).prop_map(|(mut changes, points, age)| {
        changes.sort();
        // Long before, or at the moment of its first change.
        let created = if age < 10 { h(-1) } else { changes.first().map_or(h(age), |(at, ..)| h(*at)) };
        const STATUSES: [&str; 5] = ["To Do", "In Progress", "Testing", "Done", "Weird"];
        let (mut status, mut sprint, mut size) = ("To Do".to_owned(), "7".to_owned(), points.map_or(String::new(), |p| p.to_string()));
        let mut out = Vec::new();
        for (at, field, to) in changes {
            let (field, now, to) = match field {
                0 => (Field::Status, &mut status, STATUSES[to].to_owned()),
                1 => (Field::Sprint, &mut sprint, ["", "7", "8", "7, 8", "77"][to].to_owned()),
                _ => (Field::Points, &mut size, ["", "1", "2.5", "8", "13"][to].to_owned()),
            };
            out.push(Change { at: h(at), by: None, field, from: now.clone(), to: to.clone() });
            *now = to;
        }
        let sprints = sprint.split(',').filter_map(|id| id.trim().parse().ok()).collect();
        Issue {
            key: "A-1".into(),
            status,
            story_points: size.parse().ok(),
            created: Some(created),
            sprints,
            changes: out,
            ..Issue::default()
        }
    })
}

proptest! {
    #[test]
    fn whatever_happened_the_numbers_agree(issues in proptest::collection::vec(any_issue(), 0..12)) {
        let review = of(sprint(), issues);
        let numbers = metrics(&review);
        prop_assert_eq!(numbers.total_issues, numbers.completed_issues + numbers.in_progress_issues + numbers.todo_issues);
        prop_assert!(numbers.completed_story_points <= numbers.story_points + 1e-9);
        prop_assert!((0.0..=100.0).contains(&numbers.completion_rate));
        let burndown = burndown(&review).expect("days");
        prop_assert!(burndown.days.iter().all(|day| day.remaining <= day.scope && day.ideal >= 0.0));
        prop_assert!(burndown.days.windows(2).all(|pair| pair[0].at < pair[1].at && pair[0].ideal >= pair[1].ideal));
        let last = burndown.days.last().and_then(|day| day.remaining).expect("the end");
        if burndown.unit == "points" {
            prop_assert!((last - (numbers.story_points - numbers.completed_story_points)).abs() < 0.05);
        }
        // Whoever adds what came and takes away what went is where the end is.
        let scope = scope(&review);
        let grown = scope.added.len() as i64 - scope.removed.len() as i64;
        let there = |at| review.issues.iter().filter(|issue| issue.in_sprint_at(ID, at)).count() as i64;
        prop_assert_eq!(there(h(240)) - there(h(0)), grown);
        let tier = tier1(&review);
        prop_assert_eq!(tier.spillover.issues.len(), numbers.total_issues - numbers.completed_issues);
        let pace = pace(&review);
        prop_assert_eq!(pace.completed, numbers.velocity);
    }

    #[test]
    fn times_are_in_order(days in proptest::collection::vec(0.0f64..1000.0, 1..50)) {
        let least = days.iter().copied().fold(f64::MAX, f64::min);
        let times = times(days);
        prop_assert!(times.median <= times.p90 + 1e-9 && times.average >= round(least) - 0.01);
    }
}
