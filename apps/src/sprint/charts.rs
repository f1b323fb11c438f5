//! A burndown and a velocity as pictures: SVG that stands in a page by itself, and has no script.

use std::fmt::Write as _;

use super::metrics::{Burndown, Velocity};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 40.0;

/// The axis of values: from nothing to a round number.
struct Scale {
    top: f64,
    step: f64,
}

impl Scale {
    fn over(most: f64) -> Scale {
        let rough = (most / 5.0).max(f64::MIN_POSITIVE);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough * 0.999).unwrap_or(power);
        if most <= 0.0 { Scale { top: 1.0, step: 1.0 } } else { Scale { top: (most / step).ceil() * step, step } }
    }

    fn y(&self, value: f64) -> f64 {
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value / self.top)
    }

    fn grid(&self, out: &mut String, unit: &str) {
        let mut value = 0.0;
        while value <= self.top + self.step / 2.0 {
            let y = self.y(value);
            let _ = write!(out, r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}"/>"#, WIDTH - RIGHT);
            let _ = write!(out, r#"<text class="axis" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, LEFT - 8.0, y + 4.0, short(value));
            value += self.step;
        }
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        let _ = write!(out, r#"<text class="axis" transform="translate(14 {middle:.1}) rotate(-90)" text-anchor="middle">{unit}</text>"#);
    }
}

fn short(value: f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

fn begin(title: &str) -> String {
    format!(
        r#"<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}"><text class="title" x="{LEFT}" y="18">{title}</text>"#
    )
}

fn legend(out: &mut String, entries: &[(&str, &str)]) {
    for (n, (class, name)) in entries.iter().enumerate() {
        let x = WIDTH - RIGHT - 110.0 * (entries.len() - n) as f64;
        let _ = write!(out, r#"<line class="{class}" x1="{x:.1}" y1="14" x2="{:.1}" y2="14"/>"#, x + 22.0);
        let _ = write!(out, r#"<text class="axis" x="{:.1}" y="18">{name}</text>"#, x + 28.0);
    }
}

/// What is left, what ought to be, and all that there is.
pub(super) fn burndown(burndown: &Burndown) -> String {
    let days = &burndown.days;
    let mut out = begin("Burndown");
    let most = days.iter().flat_map(|day| [Some(day.ideal), day.scope, day.remaining]).flatten().fold(0.0, f64::max);
    let scale = Scale::over(most);
    scale.grid(&mut out, burndown.unit);
    let (Some(first), Some(last)) = (days.first(), days.last()) else { return out + "</svg>" };
    let length = last.at.duration_since(first.at).as_secs_f64().max(1.0);
    let x = |at: jiff::Timestamp| LEFT + (WIDTH - LEFT - RIGHT) * at.duration_since(first.at).as_secs_f64() / length;
    let line = |values: Vec<(f64, f64)>| values.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
    // As many days as can be read side by side; the last always.
    let every = days.len().div_ceil(8);
    for (n, day) in days.iter().enumerate() {
        let is_last = n + 1 == days.len();
        if is_last || (n % every == 0 && x(last.at) - x(day.at) > 46.0) {
            let anchor = if is_last { "end" } else { "middle" };
            let (at, label) = (x(day.at), day.at.strftime("%b %-d"));
            let _ =
                write!(out, r#"<text class="axis" x="{at:.1}" y="{:.1}" text-anchor="{anchor}">{label}</text>"#, HEIGHT - BOTTOM + 18.0);
        }
    }
    let ideal = line(days.iter().map(|day| (x(day.at), scale.y(day.ideal))).collect());
    let scope = line(days.iter().filter_map(|day| Some((x(day.at), scale.y(day.scope?)))).collect());
    let left: Vec<_> = days.iter().filter_map(|day| Some((x(day.at), scale.y(day.remaining?)))).collect();
    let _ = write!(out, r#"<polyline class="scope" points="{scope}"/><polyline class="ideal" points="{ideal}"/>"#);
    let _ = write!(out, r#"<polyline class="remaining" points="{}"/>"#, line(left));
    for day in days {
        if let Some(remaining) = day.remaining {
            let (at, said) = (day.at.strftime("%Y-%m-%d %H:%M"), short(remaining));
            let _ = write!(
                out,
                r#"<circle class="point" cx="{:.1}" cy="{:.1}" r="3.5"><title>{at}: {said}</title></circle>"#,
                x(day.at),
                scale.y(remaining)
            );
        }
    }
    legend(&mut out, &[("remaining", "Remaining"), ("ideal", "Ideal"), ("scope", "Scope")]);
    out + "</svg>"
}

/// What sprints promised and kept, side by side.
pub(super) fn velocity(velocity: &Velocity) -> String {
    let mut out = begin("Velocity");
    let sprints = &velocity.sprints;
    let most = sprints.iter().flat_map(|pace| [pace.committed, pace.completed]).fold(velocity.average, f64::max);
    let scale = Scale::over(most);
    scale.grid(&mut out, "points");
    let room = (WIDTH - LEFT - RIGHT) / sprints.len().max(1) as f64;
    let bar = (room * 0.3).min(60.0);
    let (floor, average) = (scale.y(0.0), scale.y(velocity.average));
    // On top of everything, or the average would cross them out.
    let mut labels = String::new();
    for (n, pace) in sprints.iter().enumerate() {
        let middle = LEFT + room * (n as f64 + 0.5);
        for (class, value, x) in [("committed", pace.committed, middle - bar - 2.0), ("completed", pace.completed, middle + 2.0)] {
            let y = scale.y(value);
            let _ = write!(
                out,
                r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{bar:.1}" height="{:.1}"><title>{}: {}</title></rect>"#,
                floor - y,
                escape(&pace.name),
                short(value)
            );
            // Above its bar; within, where the average would cross it out.
            let crossed = (y - 9.0 - average).abs() < 9.0 && floor - y > 20.0;
            let (place, line) = if crossed { ("inside", y + 16.0) } else { ("value", y - 4.0) };
            let middle = x + bar / 2.0;
            let _ = write!(
                labels,
                r#"<text class="axis {place} {class}" x="{middle:.1}" y="{line:.1}" text-anchor="middle">{}</text>"#,
                short(value)
            );
        }
        let letters = (room / 7.0) as usize;
        let name: String = if pace.name.chars().count() > letters {
            pace.name.chars().take(letters.saturating_sub(1)).chain(['…']).collect()
        } else {
            pace.name.clone()
        };
        let _ = write!(
            out,
            r#"<text class="axis" x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            HEIGHT - BOTTOM + 18.0,
            escape(&name)
        );
    }
    for class in ["halo", "average"] {
        let _ = write!(out, r#"<line class="{class}" x1="{LEFT}" y1="{average:.1}" x2="{:.1}" y2="{average:.1}"/>"#, WIDTH - RIGHT);
    }
    out.push_str(&labels);
    legend(&mut out, &[("committed", "Committed"), ("completed", "Completed"), ("average", "Average")]);
    out + "</svg>"
}

/// Letters that show nothing, and those that turn around what is behind them.
pub(super) fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// A text in a page.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no such letters.
            c if is_unseen(c) && !matches!(c, '\n' | '\t') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_above_all() {
        for (most, top) in [(0.0, 1.0), (7.0, 8.0), (34.0, 40.0), (41.0, 50.0), (99.0, 100.0), (0.4, 0.4), (1234.0, 1250.0)] {
            let scale = Scale::over(most);
            assert!((scale.top - top).abs() < 1e-9, "{most}: {}", scale.top);
            assert!(scale.y(most) >= TOP - 1e-9 && scale.y(0.0) <= HEIGHT - BOTTOM + 1e-9);
        }
    }
}
