//! A sprint whose numbers were counted by hand, and what holds of every sprint.

use proptest::prelude::*;

use super::*;
use crate::sprint::model::Change;

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
    let numbers = metrics(&sprint(), &ten_days(), h(1_000));
    assert_eq!((numbers.total_issues, numbers.completed_issues, numbers.in_progress_issues, numbers.todo_issues), (5, 3, 1, 1));
    assert_eq!((numbers.story_points, numbers.completed_story_points, numbers.completion_rate), (20.0, 7.0, 60.0));
    assert_eq!(numbers.average_story_points_per_issue, 5.0);
}

#[test]
fn a_burndown_is_what_happened() {
    let burndown = burndown(&sprint(), &ten_days(), h(1_000)).expect("a burndown");
    let left: Vec<f64> = burndown.days.iter().filter_map(|day| day.remaining).collect();
    // 5+8+3+3; A-1 done on the third day, A-3 there since; A-4 gone, A-5 bigger; A-3 done.
    assert_eq!(left, [19.0, 19.0, 19.0, 16.0, 16.0, 15.0, 13.0, 13.0, 13.0, 13.0, 13.0]);
    let ideal: Vec<f64> = burndown.days.iter().map(|day| day.ideal).collect();
    assert_eq!((ideal[0], ideal[5], ideal[10], burndown.unit), (19.0, 9.5, 0.0, "points"));
}

#[test]
fn a_sprint_that_runs_has_no_future() {
    let running = Sprint { state: "active".into(), complete: None, ..sprint() };
    let burndown = burndown(&running, &ten_days(), h(60)).expect("a burndown");
    let last = burndown.days.iter().rfind(|day| day.remaining.is_some()).expect("a day");
    assert_eq!((last.at, last.remaining), (h(60), Some(16.0)));
    assert_eq!(burndown.days.last().map(|day| day.at), Some(h(240)));
    let future = Sprint { state: "future".into(), start: None, ..sprint() };
    assert_eq!(super::burndown(&future, &ten_days(), h(0)), None);
}

#[test]
fn what_came_and_went_is_told() {
    let tier = tier1(&sprint(), &ten_days(), h(1_000));
    let keys = |all: &[Moved]| all.iter().map(|moved| moved.key.clone()).collect::<Vec<_>>();
    assert_eq!((keys(&tier.scope.added), keys(&tier.scope.removed)), (vec!["A-3".to_owned()], vec!["A-4".to_owned()]));
    assert_eq!((tier.scope.reestimated[0].from, tier.scope.reestimated[0].to, tier.scope.net_points), (3.0, 5.0, 1.0));
    assert_eq!((keys(&tier.spillover.issues), tier.spillover.points), (vec!["A-2".to_owned(), "A-5".to_owned()], 13.0));
    assert!(!tier.goal.achieved);
}

#[test]
fn cycle_time_ends_when_it_was_done_for_good() {
    let (issues, at) = (ten_days(), h(240));
    let stages = Stages::of(&issues);
    let days: Vec<Option<f64>> = issues.iter().map(|issue| cycle_time(issue, &stages, at)).collect();
    assert_eq!(days, [Some(2.0), None, Some(3.0), None, None, Some(4.0)]);
    let tier = tier2(&sprint(), &issues, h(1_000));
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
    let numbers = metrics(&sprint(), &[], h(1_000));
    assert_eq!((numbers.completion_rate, numbers.average_story_points_per_issue), (0.0, 0.0));
    assert!(!tier1(&sprint(), &[], h(1_000)).goal.achieved);
    assert_eq!(velocity(Vec::new()).average, 0.0);
    assert!(burndown(&sprint(), &[], h(1_000)).expect("days").days.iter().all(|day| day.remaining == Some(0.0)));
}

fn any_issue() -> impl Strategy<Value = Issue> {
    let change = (0i64..300, 0u8..3, 0usize..5);
    (proptest::collection::vec(change, 0..8), proptest::option::of(0u8..20)).prop_map(|(mut changes, points)| {
        changes.sort();
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
            created: Some(h(-1)),
            sprints,
            changes: out,
            ..Issue::default()
        }
    })
}

proptest! {
    #[test]
    fn whatever_happened_the_numbers_agree(issues in proptest::collection::vec(any_issue(), 0..12)) {
        let (sprint, now) = (sprint(), h(1_000));
        let numbers = metrics(&sprint, &issues, now);
        prop_assert_eq!(numbers.total_issues, numbers.completed_issues + numbers.in_progress_issues + numbers.todo_issues);
        prop_assert!(numbers.completed_story_points <= numbers.story_points + 1e-9);
        prop_assert!((0.0..=100.0).contains(&numbers.completion_rate));
        let burndown = burndown(&sprint, &issues, now).expect("days");
        prop_assert!(burndown.days.iter().all(|day| day.remaining <= day.scope && day.ideal >= 0.0));
        prop_assert!(burndown.days.windows(2).all(|pair| pair[0].at < pair[1].at && pair[0].ideal >= pair[1].ideal));
        let last = burndown.days.last().and_then(|day| day.remaining).expect("the end");
        if burndown.unit == "points" {
            prop_assert!((last - (numbers.story_points - numbers.completed_story_points)).abs() < 0.05);
        }
        // Whoever adds what came and takes away what went is where the end is.
        let scope = scope(&sprint, &issues, now);
        let grown = scope.added.len() as i64 - scope.removed.len() as i64;
        let there = |at| issues.iter().filter(|issue| issue.in_sprint_at(sprint.id, at)).count() as i64;
        prop_assert_eq!(there(h(240)) - there(h(0)), grown);
        let tier = tier1(&sprint, &issues, now);
        prop_assert_eq!(tier.spillover.issues.len(), numbers.total_issues - numbers.completed_issues);
        let pace = pace(&sprint, &issues, now);
        prop_assert_eq!(pace.completed, numbers.velocity);
    }

    #[test]
    fn times_are_in_order(days in proptest::collection::vec(0.0f64..1000.0, 1..50)) {
        let least = days.iter().copied().fold(f64::MAX, f64::min);
        let times = times(days);
        prop_assert!(times.median <= times.p90 + 1e-9 && times.average >= round(least) - 0.01);
    }
}
