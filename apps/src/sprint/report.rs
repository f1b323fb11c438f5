//! A report of a sprint: what is in it, and how it looks in four formats.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::charts::{self, escape};
use super::metrics::{Burndown, Forecast, Load, Metrics, Moved, Tier1, Tier2, Tier3, Times, Velocity};
use super::model::{Issue, Sprint, Stages};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Markdown,
    Html,
    Json,
    Csv,
}

impl Format {
    pub(super) const ALL: [(&str, Format); 4] =
        [("markdown", Format::Markdown), ("html", Format::Html), ("json", Format::Json), ("csv", Format::Csv)];

    pub(super) fn media(self) -> &'static str {
        match self {
            Format::Markdown => "text/markdown",
            Format::Html => "text/html",
            Format::Json => "application/json",
            Format::Csv => "text/csv",
        }
    }
}

/// What was found out.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) sprint: Sprint,
    pub(super) generated_at: Timestamp,
    pub(super) metrics: Metrics,
    pub(super) issues: Vec<Issue>,
    #[serde(skip)]
    pub(super) stages: Stages,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) velocity: Option<Velocity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) burndown: Option<Burndown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier1: Option<Tier1>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier2: Option<Tier2>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tier3: Option<Tier3>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forecast: Option<Forecast>,
    /// By the key of the issue that they name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) commits: Option<BTreeMap<String, Vec<Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pull_requests: Option<BTreeMap<String, Vec<Value>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contributors: Option<BTreeMap<String, usize>>,
}

impl Report {
    pub(super) fn write(&self, format: Format, theme: &str) -> Result<String, String> {
        match format {
            Format::Markdown => Ok(self.markdown()),
            Format::Html => Ok(self.html(theme)),
            Format::Json => serde_json::to_string_pretty(self).map_err(|e| e.to_string()),
            Format::Csv => self.csv(),
        }
    }

    /// The report as headings, sentences and tables; markdown and HTML write the same.
    fn blocks(&self) -> Vec<Block> {
        let (sprint, numbers) = (&self.sprint, &self.metrics);
        let day = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| at.strftime("%Y-%m-%d").to_string());
        let at = sprint.judged_at(self.generated_at);
        let mut out = vec![Block::Title(format!("Sprint report: {}", sprint.name))];
        let mut facts = vec![("State", sprint.state.clone()), ("From", day(sprint.start)), ("To", day(sprint.end))];
        if sprint.complete.is_some() {
            facts.push(("Completed", day(sprint.complete)));
        }
        if !sprint.goal.is_empty() {
            facts.push(("Goal", sprint.goal.clone()));
        }
        out.push(Block::facts(facts));
        out.push(Block::Heading("Summary"));
        out.push(Block::facts(vec![
            ("Issues", numbers.total_issues.to_string()),
            ("Completed", format!("{} ({} %)", numbers.completed_issues, numbers.completion_rate)),
            ("In progress", numbers.in_progress_issues.to_string()),
            ("To do", numbers.todo_issues.to_string()),
            (
                "Story points",
                format!("{} of {} ({} %)", numbers.completed_story_points, numbers.story_points, numbers.points_completion_rate),
            ),
            ("Points per estimated issue", numbers.average_story_points_per_issue.to_string()),
        ]));
        for (name, counts) in [
            ("By type", &numbers.issues_by_type),
            ("By priority", &numbers.issues_by_priority),
            ("By assignee", &numbers.issues_by_assignee),
        ] {
            let rows = counts.iter().map(|(name, count)| vec![name.clone(), count.to_string()]);
            out.push(Block::Table(vec![name, "Issues"], rows.collect()));
        }
        if let Some(burndown) = &self.burndown {
            out.push(Block::Heading("Burndown"));
            out.push(Block::Chart(charts::burndown(burndown)));
            let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| value.to_string());
            let rows = burndown.days.iter().map(|day| {
                vec![day.at.strftime("%Y-%m-%d %H:%M").to_string(), show(day.remaining), day.ideal.to_string(), show(day.scope)]
            });
            out.push(Block::Table(vec!["When (UTC)", "Remaining", "Ideal", "Scope"], rows.collect()));
        }
        if let Some(velocity) = &self.velocity {
            out.push(Block::Heading("Velocity"));
            if velocity.sprints.is_empty() {
                out.push(Block::Text("No sprint of this board was closed before.".into()));
            } else {
                out.push(Block::Chart(charts::velocity(velocity)));
                out.push(Block::Text(format!("On average {} points a sprint, {}.", velocity.average, velocity.trend)));
                let rows = velocity
                    .sprints
                    .iter()
                    .map(|p| vec![p.name.clone(), day(p.complete_date), p.committed.to_string(), p.completed.to_string()]);
                out.push(Block::Table(vec!["Sprint", "Completed on", "Committed", "Completed"], rows.collect()));
            }
        }
        if let Some(tier) = &self.tier1 {
            self.tier1(tier, &mut out);
        }
        if let Some(tier) = &self.tier2 {
            tier2(tier, &mut out);
        }
        if let Some(tier) = &self.tier3 {
            tier3(tier, &mut out);
        }
        if let Some(forecast) = &self.forecast {
            out.push(Block::Heading("Next sprint"));
            out.push(Block::facts(vec![
                ("Expected velocity", format!("{} points", forecast.velocity)),
                ("Trend", forecast.trend.into()),
                ("Confidence", forecast.confidence.into()),
                ("Carried over", format!("{} points", forecast.carry_over_points)),
                ("Left for new work", format!("{} points", forecast.new_work_points)),
            ]));
        }
        out.push(Block::Heading("Issues"));
        let rows = self.issues.iter().map(|issue| {
            vec![
                issue.key.clone(),
                issue.summary.clone(),
                issue.issue_type.clone(),
                issue.status_at(at).to_owned(),
                issue.assignee.clone().unwrap_or_else(|| "Unassigned".into()),
                issue.points_at(at).map_or(String::new(), |points| points.to_string()),
            ]
        });
        out.push(Block::Table(vec!["Key", "Summary", "Type", "Status", "Assignee", "Points"], rows.collect()));
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(commits) = &self.commits {
            out.push(Block::Heading("Commits"));
            let rows = commits.iter().flat_map(|(key, all)| {
                all.iter().map(move |c| {
                    let sha = word(&c["sha"]).chars().take(8).collect();
                    let message = word(&c["message"]).lines().next().unwrap_or_default().to_owned();
                    vec![key.clone(), sha, message, word(&c["author"]), word(&c["date"])]
                })
            });
            out.push(Block::Table(vec!["Issue", "Commit", "Message", "Author", "When"], rows.collect()));
        }
        if let Some(pulls) = &self.pull_requests {
            out.push(Block::Heading("Pull requests"));
            let rows = pulls.iter().flat_map(|(key, all)| {
                all.iter()
                    .map(move |p| vec![key.clone(), format!("#{}", p["number"]), word(&p["title"]), word(&p["state"]), word(&p["author"])])
            });
            out.push(Block::Table(vec!["Issue", "Number", "Title", "State", "Author"], rows.collect()));
        }
        if let Some(contributors) = &self.contributors {
            out.push(Block::Heading("Contributors"));
            let rows = contributors.iter().map(|(name, count)| vec![name.clone(), count.to_string()]);
            out.push(Block::Table(vec!["Author", "Commits"], rows.collect()));
        }
        out
    }

    fn tier1(&self, tier: &Tier1, out: &mut Vec<Block>) {
        out.push(Block::Heading("Goal and scope"));
        let verdict = if tier.goal.achieved { "achieved" } else { "missed" };
        out.push(Block::facts(vec![
            ("Goal", format!("{verdict} ({} % of the issues done)", tier.goal.completion_rate)),
            ("Added after the start", format!("{} issues, {} points", tier.scope.added.len(), tier.scope.points_added)),
            ("Removed after the start", format!("{} issues, {} points", tier.scope.removed.len(), tier.scope.points_removed)),
            ("Estimated anew", tier.scope.reestimated.len().to_string()),
            ("Net change of scope", format!("{} points", tier.scope.net_points)),
            (
                "Spillover",
                format!("{} issues, {} points ({} %)", tier.spillover.issues.len(), tier.spillover.points, tier.spillover.percentage),
            ),
        ]));
        let rows = |all: &[Moved], what: &str| -> Vec<Vec<String>> {
            let row = |m: &Moved| {
                let points = m.points.map_or(String::new(), |points| points.to_string());
                vec![what.to_owned(), m.key.clone(), m.summary.clone(), points, m.at.strftime("%Y-%m-%d").to_string()]
            };
            all.iter().map(row).collect()
        };
        let mut moved = rows(&tier.scope.added, "added");
        moved.extend(rows(&tier.scope.removed, "removed"));
        moved.extend(rows(&tier.spillover.issues, "not done"));
        out.push(Block::Table(vec!["What", "Key", "Summary", "Points", "When"], moved));
    }

    fn markdown(&self) -> String {
        let cell = |text: &str| -> String {
            let mut out = String::new();
            for c in text.chars() {
                match c {
                    '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' => {
                        out.push('\\');
                        out.push(c);
                    }
                    '<' => out.push_str("&lt;"),
                    '&' => out.push_str("&amp;"),
                    c if charts::is_unseen(c) => out.push(' '),
                    c => out.push(c),
                }
            }
            out
        };
        let mut out = String::new();
        for block in self.blocks() {
            let _ = match block {
                Block::Title(text) => writeln!(out, "# {}\n", cell(&text)),
                Block::Heading(text) => writeln!(out, "## {text}\n"),
                Block::Text(text) => writeln!(out, "{}\n", cell(&text)),
                Block::Facts(facts) => {
                    facts.iter().for_each(|(name, value)| out.push_str(&format!("- **{name}:** {}\n", cell(value))));
                    writeln!(out)
                }
                Block::Table(_, rows) if rows.is_empty() => writeln!(out, "None.\n"),
                Block::Table(names, rows) => {
                    out.push_str(&format!("| {} |\n|{}\n", names.join(" | "), "---|".repeat(names.len())));
                    for row in rows {
                        let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
                        out.push_str(&format!("| {} |\n", cells.join(" | ")));
                    }
                    writeln!(out)
                }
                // The table below says the same.
                Block::Chart(_) => Ok(()),
            };
        }
        let _ = writeln!(out, "Generated {}", self.generated_at.strftime("%Y-%m-%d %H:%M UTC"));
        out
    }

    fn html(&self, theme: &str) -> String {
        let (back, text, soft, line, accent, second, promised) = match theme {
            "dark" => ("#14181f", "#e6e9ee", "#a3adbb", "#343c49", "#5ab0ff", "#5fd08a", "#8791a1"),
            "corporate" => ("#ffffff", "#1b2a41", "#51617a", "#ccd6e4", "#0b3d91", "#5b7aa9", "#8793a8"),
            _ => ("#ffffff", "#1d2127", "#5a6472", "#dde1e7", "#1f6feb", "#1a7f37", "#8a94a3"),
        };
        // A number on a bar has to be read there.
        let on_promised = if theme == "dark" { back } else { text };
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<style>\n\
             body {{ background: {back}; color: {text}; font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}\n\
             h1, h2 {{ line-height: 1.2; }} h2 {{ margin-top: 2rem; border-bottom: 1px solid {line}; padding-bottom: .3rem; }}\n\
             table {{ border-collapse: collapse; width: 100%; margin: 1rem 0; }} th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid {line}; vertical-align: top; }}\n\
             .wide {{ overflow-x: auto; }} .long {{ overflow-wrap: anywhere; min-width: 12rem; }} .tight {{ white-space: nowrap; }}\n\
             th {{ color: {soft}; }} dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }} dt {{ color: {soft}; }} dd {{ margin: 0; }}\n\
             footer {{ color: {soft}; margin-top: 2rem; }}\n\
             .chart {{ width: 100%; height: auto; }} .chart .title {{ fill: {text}; font-size: 15px; font-weight: 600; }} .chart .axis {{ fill: {soft}; font-size: 12px; }} .chart .value {{ stroke: {back}; stroke-width: 4px; paint-order: stroke; }}\n\
             .chart .grid {{ stroke: {line}; }} .chart line, .chart polyline {{ fill: none; stroke-width: 2; }} .chart .grid {{ stroke-width: 1; }}\n\
             .chart .remaining {{ stroke: {accent}; }} .chart .point {{ fill: {accent}; }} .chart .ideal {{ stroke: {soft}; stroke-dasharray: 5 4; }}\n\
             .chart .scope {{ stroke: {second}; }} .chart .average {{ stroke: {text}; stroke-dasharray: 2 4; }} .chart .halo {{ stroke: {back}; }} .chart line.halo {{ stroke-width: 5; }} .chart .inside {{ fill: {back}; stroke: none; }} .chart .inside.committed {{ fill: {on_promised}; }}\n\
             .chart rect.committed {{ fill: {promised}; }} .chart rect.completed {{ fill: {accent}; }}\n\
             .chart line.committed {{ stroke: {promised}; stroke-width: 8; }} .chart line.completed {{ stroke: {accent}; stroke-width: 8; }}\n\
             </style></head><body class=\"{theme}\">\n",
            title = escape(&format!("Sprint report: {}", self.sprint.name)),
        );
        for block in self.blocks() {
            let _ = match block {
                Block::Title(text) => writeln!(out, "<h1>{}</h1>", escape(&text)),
                Block::Heading(text) => writeln!(out, "<h2>{text}</h2>"),
                Block::Text(text) => writeln!(out, "<p>{}</p>", escape(&text)),
                Block::Facts(facts) => {
                    let facts: String = facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>", escape(value))).collect();
                    writeln!(out, "<dl>{facts}</dl>")
                }
                Block::Table(_, rows) if rows.is_empty() => writeln!(out, "<p>None.</p>"),
                Block::Table(names, rows) => {
                    let head: String = names.iter().map(|name| format!("<th>{name}</th>")).collect();
                    out.push_str(&format!("<div class=\"wide\"><table><thead><tr>{head}</tr></thead><tbody>\n"));
                    for row in rows {
                        let cell = |(text, name): (&String, &&str)| match *name {
                            "Summary" | "Message" | "Title" | "Reason" | "Risk" => format!("<td class=\"long\">{}</td>", escape(text)),
                            "Key" | "Issue" | "When" => format!("<td class=\"tight\">{}</td>", escape(text)),
                            _ => format!("<td>{}</td>", escape(text)),
                        };
                        let cells: String = row.iter().zip(&names).map(cell).collect();
                        out.push_str(&format!("<tr>{cells}</tr>\n"));
                    }
                    writeln!(out, "</tbody></table></div>")
                }
                Block::Chart(svg) => writeln!(out, "{svg}"),
            };
        }
        let _ = writeln!(out, "<footer>Generated {}</footer>\n</body></html>", self.generated_at.strftime("%Y-%m-%d %H:%M UTC"));
        out
    }

    /// A line an issue.
    fn csv(&self) -> Result<String, String> {
        let at = self.sprint.judged_at(self.generated_at);
        let mut out = csv::Writer::from_writer(Vec::new());
        let head = [
            "Key",
            "Summary",
            "Type",
            "Status",
            "Done",
            "Assignee",
            "Priority",
            "Story points",
            "Created",
            "Updated",
            "Resolved",
            "Labels",
            "Epic",
            "Flagged",
            "Cycle time (days)",
            "Lead time (days)",
        ];
        out.write_record(head).map_err(|e| e.to_string())?;
        let time = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.to_string());
        let days = |days: Option<f64>| days.map_or(String::new(), |days| super::metrics::round(days).to_string());
        for issue in &self.issues {
            let row = [
                issue.key.clone(),
                issue.summary.clone(),
                issue.issue_type.clone(),
                issue.status_at(at).to_owned(),
                if self.stages.is_done(issue, at) { "yes" } else { "no" }.to_owned(),
                issue.assignee.clone().unwrap_or_default(),
                issue.priority.clone().unwrap_or_default(),
                issue.points_at(at).map_or(String::new(), |points| points.to_string()),
                time(issue.created),
                time(issue.updated),
                time(issue.resolved),
                issue.labels.join(" "),
                issue.epic_name.clone().or_else(|| issue.epic_link.clone()).unwrap_or_default(),
                if issue.flagged { "yes" } else { "no" }.to_owned(),
                days(super::metrics::cycle_time(issue, &self.stages, at)),
                days(super::metrics::lead_time(issue, &self.stages, at)),
            ];
            out.write_record(row.iter().map(|cell| tame(cell))).map_err(|e| e.to_string())?;
        }
        let bytes = out.into_inner().map_err(|e| e.to_string())?;
        String::from_utf8(bytes).map_err(|e| e.to_string())
    }
}

/// A spreadsheet takes a cell that begins like this for a formula.
fn tame(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) { format!("'{cell}") } else { cell.to_owned() }
}

enum Block {
    Title(String),
    Heading(&'static str),
    Text(String),
    Facts(Vec<(&'static str, String)>),
    Table(Vec<&'static str>, Vec<Vec<String>>),
    Chart(String),
}

impl Block {
    fn facts(facts: Vec<(&'static str, String)>) -> Block {
        Block::Facts(facts)
    }
}

fn tier2(tier: &Tier2, out: &mut Vec<Block>) {
    out.push(Block::Heading("Blockers"));
    let rows = tier.blockers.iter().map(|b| {
        vec![
            b.key.clone(),
            b.summary.clone(),
            b.status.clone(),
            b.assignee.clone().unwrap_or_default(),
            b.reason.clone().unwrap_or_default(),
        ]
    });
    out.push(Block::Table(vec!["Key", "Summary", "Status", "Assignee", "Reason"], rows.collect()));
    out.push(Block::Heading("Quality and flow"));
    let bugs = &tier.bugs;
    let times = |times: &Times| {
        if times.issues == 0 {
            return "no issue was done".to_owned();
        }
        format!("average {}, median {}, 90 % within {} ({} issues)", times.average, times.median, times.p90, times.issues)
    };
    out.push(Block::facts(vec![
        ("Bugs", format!("{} ({} %), {} new, {} resolved, {} open", bugs.total, bugs.percentage, bugs.created, bugs.resolved, bugs.open)),
        ("Cycle time in days", times(&tier.cycle_time)),
        ("Lead time in days", times(&tier.lead_time)),
    ]));
    out.push(Block::Heading("Capacity"));
    let rows = tier.capacity.iter().map(|load| {
        let Load { assignee, issues, completed_issues, points, completed_points } = load;
        vec![assignee.clone(), format!("{completed_issues} of {issues}"), format!("{completed_points} of {points}")]
    });
    out.push(Block::Table(vec!["Assignee", "Issues done", "Points done"], rows.collect()));
}

fn tier3(tier: &Tier3, out: &mut Vec<Block>) {
    out.push(Block::Heading("Epics"));
    let rows = tier.epics.iter().map(|epic| {
        let name = epic.name.clone().unwrap_or_else(|| epic.key.clone());
        vec![name, format!("{} of {}", epic.completed_issues, epic.issues), epic.points.to_string(), format!("{} %", epic.completion_rate)]
    });
    out.push(Block::Table(vec!["Epic", "Issues done", "Points", "Done"], rows.collect()));
    out.push(Block::Heading("Technical debt and risks"));
    let debt = &tier.technical_debt;
    out.push(Block::facts(vec![(
        "Technical debt",
        format!("{} issues, {} points ({} %)", debt.issues.len(), debt.points, debt.percentage),
    )]));
    out.push(Block::Table(vec!["Risk"], tier.risks.iter().map(|risk| vec![risk.clone()]).collect()));
}
