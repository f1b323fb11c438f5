//! The aims of the project and what the run measured of each.
//!
//! Odd: an aim that was not measured is neither met nor missed, and says so. A number that came
//! with errors meets no aim, however good it is. Nothing fails on a missed aim, because one
//! noisy run is no proof; the table is for a reader.

use crate::book::Book;
use crate::idle::Kind;
use crate::plan::{MANY, Mode, Work, key};
use crate::wear::{Wear, WearResult};

pub(crate) struct Aim {
    pub(crate) work: String,
    pub(crate) limit: String,
    pub(crate) measured: String,
    /// Nothing when it was not measured.
    pub(crate) met: Option<bool>,
}

impl Aim {
    fn spoilt_by(mut self, errors: u64) -> Self {
        if errors > 0 {
            self.measured = format!("{}, {errors} errors", self.measured);
            self.met = Some(false);
        }
        self
    }
}

const NOT_MEASURED: &str = "not measured";

pub(crate) fn aims(book: &Book) -> Vec<Aim> {
    let mut aims = Vec::new();
    // Clients that could be asked and are not cost no more than those that could not be.
    for (what, target, mode, work, floor, most_us, least_share) in [
        ("embedded echo over 2026-07-28", "landbridge-embedded", Mode::Stateless, Work::Plain, "floor-http", Some(14.0), 0.6),
        ("embedded echo over sessions", "landbridge-embedded", Mode::Streamable, Work::Plain, "floor-http", Some(14.0), 0.6),
        ("stdio child over Streamable HTTP", "landbridge-stdio", Mode::Streamable, Work::Plain, "floor-stdio", Some(16.0), 0.7),
        ("stdio child over 2026-07-28", "landbridge-stdio", Mode::Stateless, Work::Plain, "floor-stdio", Some(16.0), 0.7),
        ("stdio child over HTTP+SSE", "landbridge-stdio", Mode::Sse, Work::Plain, "floor-stdio", Some(18.0), 0.6),
        ("stdio child over Streamable HTTP", "landbridge-stdio", Mode::Streamable, Work::Declaring, "floor-stdio", Some(16.0), 0.7),
        ("stdio child over 2026-07-28", "landbridge-stdio", Mode::Stateless, Work::Declaring, "floor-stdio", Some(16.0), 0.7),
        ("stdio child over HTTP+SSE", "landbridge-stdio", Mode::Sse, Work::Declaring, "floor-stdio", Some(18.0), 0.6),
        ("HTTP server over sessions", "landbridge-http", Mode::Streamable, Work::Plain, "floor-proxy", Some(42.0), 0.8),
        ("HTTP server over 2026-07-28", "landbridge-http-modern", Mode::Stateless, Work::Plain, "floor-proxy", Some(42.0), 0.8),
        ("HTTP server of sessions over 2026-07-28", "landbridge-http", Mode::Stateless, Work::Plain, "floor-proxy", None, 0.65),
        ("HTTP server of 2026-07-28 over sessions", "landbridge-http-modern", Mode::Streamable, Work::Plain, "floor-proxy", None, 0.65),
    ] {
        let who = clients(work);
        let floor_mode = if mode == Mode::Sse { Mode::Streamable } else { mode };
        let row = book.middle(&key(target, mode, work, MANY));
        let floor = book.middle(&key(floor, floor_mode, Work::Plain, MANY));
        let errors = row.as_ref().map_or(0, |row| row.errors);
        let cost = row.as_ref().map(|row| row.gateway_us);
        if let Some(most_us) = most_us {
            aims.push(at_most(format!("{what}{who}, 16 in flight: CPU per call"), cost, most_us, "µs").spoilt_by(errors));
        }
        let share = row.zip(floor).map(|(row, floor)| row.per_second() / floor.per_second());
        aims.push(
            at_least(format!("{what}{who}, 16 in flight: share of {floor}", floor = target_floor(target)), share, least_share)
                .spoilt_by(errors),
        );
    }
    let row = book.middle(&key("landbridge-connect", Mode::Stdio, Work::Plain, MANY));
    let errors = row.as_ref().map_or(0, |row| row.errors);
    let cost = row.as_ref().map(|row| row.gateway_us);
    aims.push(at_most("connect, from stdio to an HTTP server, 16 in flight: CPU per call".into(), cost, 45.0, "µs").spoilt_by(errors));
    let per_second = row.map(|row| row.per_second());
    aims.push(
        at_least("connect, from stdio to an HTTP server, 16 in flight: calls per second".into(), per_second, 20_000.0).spoilt_by(errors),
    );
    let modes = [Mode::Streamable, Mode::Stateless, Mode::Sse];
    for (work, mode) in [Work::Plain, Work::Declaring].into_iter().flat_map(|work| modes.map(|mode| (work, mode))) {
        let who = clients(work);
        let floor_mode = if mode == Mode::Sse { Mode::Streamable } else { mode };
        let row = book.middle(&key("landbridge-stdio", mode, work, 1));
        let floor = book.middle(&key("floor-stdio", floor_mode, Work::Plain, 1));
        let errors = row.as_ref().map_or(0, |row| row.errors);
        let above = row.zip(floor).map(|(row, floor)| row.p50_us - floor.p50_us);
        aims.push(
            at_most(format!("one call alone, stdio child, {}{who}: median above the floor's", mode.name()), above, 25.0, "µs")
                .spoilt_by(errors),
        );
    }
    for kind in [Kind::Sse, Kind::Streamable] {
        let result = book.idle.iter().find(|result| result.target == "landbridge-stdio" && result.kind == kind);
        let all_open = result.filter(|result| result.opened == result.wanted);
        let sessions = result.map_or_else(|| "10000".to_owned(), |result| result.wanted.to_string());
        let errors = result.map_or(0, |result| result.errors);
        let kib = result.map(|result| result.kib_each);
        aims.push(at_most(format!("{sessions} idle sessions, {}: resident each", kind.name()), kib, 14.0, "KiB").spoilt_by(errors));
        let mut seconds =
            at_most(format!("{sessions} idle sessions, {}: all open", kind.name()), all_open.map(|result| result.seconds), 2.0, "s");
        if let (Some(result), None) = (result, all_open) {
            seconds.measured = format!("only {} opened", result.opened);
            seconds.met = Some(false);
        }
        aims.push(seconds.spoilt_by(errors));
    }
    for kind in [Kind::Session, Kind::Streamable] {
        let result = book.idle.iter().find(|result| result.target == "landbridge-sessions" && result.kind == kind);
        let opened = result.map(|result| result.opened as f64 / result.wanted as f64);
        let wanted = result.map_or(10_000, |result| result.wanted);
        let work = format!("{wanted} idle sessions in front of an HTTP server, {}: share that opened", kind.name());
        aims.push(at_least(work, opened, 1.0).spoilt_by(result.map_or(0, |result| result.errors)));
    }
    for wear in [Wear::Sessions, Wear::Streams, Wear::Clients] {
        let result = book.wear.iter().find(|result| result.wear == wear);
        let [early, late] = wear.marks();
        let (grown, allowed) = (result.map(WearResult::grown_mib), result.map_or(2.0, WearResult::allowed_mib));
        let work = format!("resident after {late} {}: above that after {early}", wear.name());
        aims.push(at_most(work, grown, allowed, "MiB").spoilt_by(result.map_or(0, |result| result.errors)));
    }
    for mode in [Mode::Streamable, Mode::Stateless] {
        let result = book.ballast.iter().find(|result| result.mode == mode && result.target == "landbridge-stdio");
        aims.push(
            at_least(
                format!("throughput with 5000 idle sessions, {}: share of that without", mode.name()),
                result.map(|result| result.share),
                0.95,
            )
            .spoilt_by(result.map_or(0, |result| result.errors)),
        );
    }
    let start = book.startup_of("landbridge-embedded", Mode::Stateless);
    aims.push(at_most("stripped binary".into(), book.stripped_mib, 15.0, "MiB"));
    aims.push(at_most("resident when idle".into(), start.map(|start| start.rss_mib), 10.0, "MiB"));
    aims.push(at_most("spawn to first call answered, embedded".into(), start.map(|start| start.milliseconds), 8.0, "ms"));
    let start = book.startup_of("landbridge-stdio", Mode::Streamable);
    aims.push(at_most("spawn to first call answered, stdio child".into(), start.map(|start| start.milliseconds), 8.0, "ms"));
    aims
}

fn clients(work: Work) -> &'static str {
    if work == Work::Declaring { ", clients that can be asked" } else { "" }
}

fn target_floor(target: &str) -> &'static str {
    match target {
        "landbridge-embedded" => "bare hyper",
        "landbridge-http" | "landbridge-http-modern" => "bare proxy",
        _ => "bare stdio bridge",
    }
}

fn at_most(work: String, measured: Option<f64>, limit: f64, unit: &str) -> Aim {
    let measured = measured.filter(|value| value.is_finite());
    Aim {
        work,
        limit: format!("<= {} {unit}", (limit * 10.0).round() / 10.0),
        measured: measured.map_or_else(|| NOT_MEASURED.to_owned(), |value| format!("{value:.1} {unit}")),
        met: measured.map(|value| value <= limit),
    }
}

fn at_least(work: String, measured: Option<f64>, limit: f64) -> Aim {
    let measured = measured.filter(|value| value.is_finite());
    Aim {
        work,
        limit: format!(">= {limit}"),
        measured: measured.map_or_else(|| NOT_MEASURED.to_owned(), |value| format!("{value:.2}")),
        met: measured.map(|value| value >= limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_book_meets_and_misses_nothing() {
        assert!(aims(&Book::default()).iter().all(|aim| aim.met.is_none() && aim.measured == NOT_MEASURED));
    }

    #[test]
    fn limits_are_inclusive() {
        assert_eq!(at_most(String::new(), Some(8.0), 8.0, "ms").met, Some(true));
        assert_eq!(at_least(String::new(), Some(0.949), 0.95).met, Some(false));
        assert_eq!(at_least(String::new(), Some(0.99), 0.95).spoilt_by(1).met, Some(false));
    }
}
