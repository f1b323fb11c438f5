//! Taking what was said, and comparing it with what was expected.

use super::elsewhere::{expect_request, request_text};
use crate::pair::Pair;
use crate::pair::front::{FrontKind, Got};
use crate::pair::gate::Heard;
use crate::pattern::{Bound, matches};

/// Takes what was said next, and compares. The error holds what it was, and what is wrong with it.
pub(super) fn expect(pair: &mut Pair, who: &str, expected: &str, bound: &mut Bound) -> Result<(), (Option<String>, String)> {
    if who == "back" {
        let Some(heard) = pair.gate.heard.pop_front() else { return Err((None, "it was not said".into())) };
        let compared = match &heard {
            Heard::Respawn if expected == "respawns" => Ok(()),
            Heard::Respawn => Err("it is started again".into()),
            Heard::Line(line) => matches(expected, line, bound),
            Heard::Request(request) => expect_request(expected, request, bound),
            Heard::Dropped(line) => matches(expected.trim_start_matches("drops "), line, bound),
        };
        return compared.map_err(|why| (Some(heard_text(&heard)), why));
    }
    let (front, _) = pair.front(who);
    let sse = matches!(front.kind, FrontKind::Sse(_));
    if expected != "priming" {
        while matches!(front.got.front(), Some(Got::Priming { .. })) {
            front.got.pop_front();
        }
    }
    let Some(got) = front.got.pop_front() else { return Err((None, "it was not said".into())) };
    let text = got_text(&got);
    let off = |why: &str| Err((Some(text.clone()), why.to_owned()));
    let (standalone, wanted) = expected.strip_prefix("get ").map_or((false, expected), |rest| (true, rest));
    let own_stream = matches!(&got, Got::Event { own: true, .. } | Got::End { own: true } | Got::Priming { own: true });
    if standalone && own_stream && !sse {
        return off("it came on the stream of a request");
    }
    let (form, wanted) = match wanted.split_once(' ') {
        Some((form @ ("json" | "event"), rest)) => (form, rest.trim()),
        _ => ("", wanted),
    };
    let (status, wanted) = match wanted.split_once(' ') {
        Some((status, rest)) if status.len() == 3 && status.parse::<u16>().is_ok() => (status.parse::<u16>().ok(), rest.trim()),
        _ => (None, wanted),
    };
    match (&got, form, wanted) {
        (Got::End { .. }, _, "end") | (Got::Priming { .. }, _, "priming") => Ok(()),
        (Got::Body { status: there, .. }, "json", _) if status.is_some_and(|s| s != *there) => off("another status"),
        // Where the transport has only events an answer is one, whatever its status was.
        (Got::Body { text, .. }, "" | "json", _) => matches(wanted, text, bound).or_else(|why| off(&why)),
        (Got::Event { .. }, "json", _) if !sse => off("it is an event"),
        (Got::Event { own: false, .. }, "event", _) if !standalone && !sse => off("it came on the stream that answers no request"),
        (Got::Event { text, .. }, _, _) => matches(wanted, text, bound).or_else(|why| off(&why)),
        _ => off("something else"),
    }
}

/// What was said and not expected; takes it away.
pub(super) fn unexpected(pair: &mut Pair) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = pair.gate.heard.drain(..).map(|h| ("back".to_owned(), heard_text(&h))).collect();
    for (name, front) in &mut pair.fronts {
        let rest = front.got.drain(..).filter(|g| !matches!(g, Got::Priming { .. }));
        all.extend(rest.map(|g| (name.clone(), got_text(&g))));
    }
    all
}

fn heard_text(heard: &Heard) -> String {
    match heard {
        Heard::Line(line) => line.clone(),
        Heard::Respawn => "respawns".into(),
        Heard::Request(request) => request_text(request),
        Heard::Dropped(line) => format!("drops {line}"),
    }
}

fn got_text(got: &Got) -> String {
    match got {
        Got::Body { status, text } => format!("json {status} {text}"),
        Got::Event { own: true, text } => format!("event {text}"),
        Got::Event { own: false, text } => format!("get event {text}"),
        Got::Priming { .. } => "priming".into(),
        Got::End { own: true } => "end".into(),
        Got::End { own: false } => "get end".into(),
    }
}
