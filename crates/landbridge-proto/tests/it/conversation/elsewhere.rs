//! What a server over HTTP says and is sent, as a case writes it.
//!
//! ```text
//! back → POST [mcp-name: x; mcp-param-a: -] {…}    the headers it must have, and (`-`) not have
//! back → GET [last-event-id: 7]
//! back → drops {"method":"notifications/cancelled",…}   a connection is closed; elsewhere it would be told so
//! back ← {…}                                       on the stream where it belongs, or as JSON
//! back ← on $1 event [id: 7; retry: 50] {…}        on the stream of that call, which begins if it has not
//! back ← on get event {…}                          on the stream that is no call's
//! back ← on $1 json 400 {…}                        as the response; without `on` to the one request there is
//! back ← status 404                                the same without a body
//! back ← on get opens · back ← on $1 breaks        a stream begins; a connection ends
//! ```

use super::words::{headers, long, message};
use crate::far::Request;
use crate::pair::gate::Gate;
use crate::pair::gate::elsewhere::Form;
use crate::pattern::{Bound, matches};

/// Says it, if it is written as something only a server over HTTP says.
pub(super) fn say(gate: &mut Gate, said: &str) -> Result<bool, String> {
    let (target, said) = match said.strip_prefix("on ").and_then(|rest| rest.split_once(' ')) {
        Some((target, rest)) => (Some(target), rest.trim()),
        None => (None, said),
    };
    let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
    let (fields, body) = headers(rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim());
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let status = || rest.split(' ').next().and_then(|s| s.parse().ok()).ok_or(format!("{said} has no status"));
    let body = long(&message(body));
    let form = match word {
        "event" => Form::Event { id: field("id"), retry: field("retry"), name: field("event"), data: &body },
        "json" | "status" => Form::Whole { status: status()?, session: field("mcp-session-id"), body: &body },
        "opens" => Form::Opens,
        "breaks" => Form::Breaks,
        _ if target.is_none() => return Ok(false),
        _ => return Err(format!("{said} is nothing that a server says")),
    };
    gate.say_in(target, form);
    Ok(true)
}

/// The request as a case writes it; of its headers those that are asked for.
pub(super) fn request_text(request: &Request) -> String {
    match &request.body {
        Some(body) => body.clone(),
        None => "GET".into(),
    }
}

/// Whether the request is the one that was expected.
pub(super) fn expect_request(expected: &str, request: &Request, bound: &mut Bound) -> Result<(), String> {
    let (method, rest) = match expected.split_once(' ').unwrap_or((expected, "")) {
        (method @ ("POST" | "GET"), rest) => (method, rest.trim()),
        _ => ("POST", expected),
    };
    let (wanted, body) = headers(rest);
    for (name, value) in wanted {
        let there = request.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        if there != Some(value.as_str()).filter(|v| *v != "-") {
            return Err(format!("{name} is {there:?}"));
        }
    }
    match (&request.body, method) {
        (Some(there), "POST") => matches(body, there, bound),
        (None, "GET") => Ok(()),
        _ => Err("another method".into()),
    }
}
