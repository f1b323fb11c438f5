use http::header::{HeaderMap, HeaderName};
use serde_json::json;

use super::*;

/// A response over HTTP.
fn http(status: u16, headers: &[(&str, &str)], messages: Vec<Value>) -> Came {
    let headers: HeaderMap = headers.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap())).collect();
    Ok(Seen { status: Some(status), headers, has_body: !messages.is_empty(), messages, ..Seen::default() })
}

/// A line.
fn line(message: Value) -> Came {
    Ok(Seen { messages: vec![message], ..Seen::default() })
}

fn missed() -> Came {
    Err(Missed { ended: false, why: "it did not answer within 10 s".into() })
}

fn result(result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": "a", "result": result})
}

fn error(code: i64) -> Value {
    json!({"jsonrpc": "2.0", "id": "a", "error": {"code": code, "message": "no"}})
}

fn id() -> Value {
    json!("a")
}

/// The verdicts of a judge on these.
fn verdicts<const N: usize>(judge: impl Fn(&Came) -> Finding, came: [Came; N]) -> [Verdict; N] {
    came.map(|came| judge(&came).0)
}

use Verdict::{Fail, NotApplicable, Ok as Kept, Warn};

#[test]
fn the_result_of_a_handshake_is_complete_and_of_its_era() {
    let hello =
        |version: &str| result(json!({"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}));
    let judge = |came: &Came| initialize(came, &id());
    let came = [hello("2025-06-18"), hello("2024-10-07"), hello("2026-07-28"), result(json!({})), error(-32602)].map(line);
    assert_eq!(verdicts(judge, came), [Kept, Warn, Fail, Fail, Fail]);
    let (_, seen) = initialize(&line(result(json!({"protocolVersion": "2025-06-18", "capabilities": {}}))), &id());
    assert_eq!(seen, "missing or wrong: serverInfo.name, serverInfo.version");
    // An answer to something else is none.
    assert_eq!(initialize(&line(hello("2025-06-18")), &json!("b")).0, Fail);
}

#[test]
fn a_discovery_has_all_its_members() {
    let whole = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0, "cacheScope": "private",
        "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}}});
    assert_eq!(discover(&line(result(whole.clone())), &id()), (Kept, "2026-07-28".into()));
    for (key, value) in
        [("resultType", json!(null)), ("supportedVersions", json!("2026-07-28")), ("ttlMs", json!(-1)), ("cacheScope", json!("mine"))]
    {
        let mut lacking = whole.clone();
        lacking[key] = value;
        assert_eq!(discover(&line(result(lacking)), &id()), (Fail, format!("missing or wrong: {key}")));
    }
    let mut nameless = whole;
    nameless["_meta"] = json!(null);
    assert_eq!(discover(&line(result(nameless)), &id()).0, Warn);
}

#[test]
fn a_notification_is_taken_with_202_and_nothing_else() {
    let came =
        || [http(202, &[], vec![]), http(202, &[], vec![error(1)]), http(200, &[], vec![]), http(400, &[], vec![error(-32600)]), missed()];
    assert_eq!(verdicts(|came| notification(came, false), came()), [Kept, Fail, Fail, Fail, Fail]);
    assert_eq!(verdicts(|came| notification(came, true), came()), [Kept, Fail, Fail, Kept, Fail]);
}

#[test]
fn an_answer_has_the_id_of_its_request() {
    let other = json!({"jsonrpc": "2.0", "id": 0, "result": {}});
    assert_eq!(ping(&line(result(json!({}))), &id()).0, Kept);
    assert_eq!(ping(&line(other), &id()), (Fail, "the id was \"a\" and is 0 in the answer".into()));
    assert_eq!(verdicts(|came| ping(came, &id()), [line(error(-32601)), missed()]), [Fail, Fail]);
}

#[test]
fn tools_have_names_and_schemas() {
    let judge = |tools: Value| listing(&line(result(json!({"tools": tools}))), &id(), "tools");
    let good = json!({"name": "a", "inputSchema": {"type": "object"}});
    assert_eq!(judge(json!([good])), (Kept, "1".into()));
    assert_eq!(judge(json!([{"inputSchema": {"type": "object"}}])).0, Fail);
    assert_eq!(judge(json!([{"name": "a", "inputSchema": {}}])), (Fail, "the inputSchema of `a` is not of type object".into()));
    assert_eq!(judge(json!([good, good])), (Warn, "two tools are called `a`".into()));
    assert_eq!(judge(json!({})).0, Fail);
    assert_eq!(listing(&line(result(json!({"prompts": []}))), &id(), "prompts").0, Kept);
}

#[test]
fn unknown_methods_are_refused_by_their_code() {
    let came = [
        http(200, &[], vec![error(-32601)]),
        http(404, &[], vec![error(-32601)]),
        http(200, &[], vec![error(-32603)]),
        line(error(-32601)),
    ];
    assert_eq!(verdicts(unknown_method, came), [Kept, Warn, Warn, Kept]);
    assert_eq!(verdicts(unknown_method, [http(200, &[], vec![result(json!({}))]), http(500, &[], vec![]), missed()]), [Fail, Fail, Fail]);
    let modern = |came: &Came| refused_with(came, 404, -32601);
    let came = [http(404, &[], vec![error(-32601)]), http(200, &[], vec![error(-32601)]), http(404, &[], vec![]), line(error(-32601))];
    assert_eq!(verdicts(modern, came), [Kept, Fail, Fail, Kept]);
}

#[test]
fn bodies_that_are_no_message_are_refused() {
    let came = || [http(400, &[], vec![error(-32700)]), http(200, &[], vec![error(-32700)]), http(500, &[], vec![]), missed()];
    assert_eq!(verdicts(malformed, came()), [Kept, Fail, Warn, Fail]);
    assert_eq!(verdicts(media_type, came()), [Kept, Warn, Warn, Warn]);
    let both = || http(200, &[], vec![result(json!({})), json!({"id": "b", "result": {}})]);
    let one = || http(200, &[], vec![result(json!({}))]);
    assert_eq!(verdicts(|came| batch_taken(came, &[id(), json!("b")]), [both(), one(), missed()]), [Kept, Fail, Fail]);
    assert_eq!(
        verdicts(batch_refused, [both(), http(400, &[], vec![error(-32600)]), http(200, &[], vec![error(-32600)])]),
        [Warn, Kept, Kept]
    );
}

#[test]
fn a_refused_revision_comes_with_those_that_are_served() {
    let named = json!({"id": "a", "error": {"code": -32022, "message": "no", "data": {"supported": ["2026-07-28"]}}});
    let came = [http(400, &[], vec![named.clone()]), http(200, &[], vec![named.clone()]), http(400, &[], vec![error(-32022)]), line(named)];
    assert_eq!(verdicts(version_unsupported, came), [Kept, Fail, Fail, Kept]);
}

#[test]
fn what_an_old_server_says_to_a_new_question_may_lead_on_or_not() {
    let came = [http(400, &[], vec![error(-32000)]), http(404, &[], vec![]), http(200, &[], vec![error(-32601)]), line(error(-32601))];
    assert_eq!(verdicts(fallback, came), [Kept; 4]);
    let came = [http(401, &[], vec![]), http(500, &[], vec![]), http(429, &[], vec![]), http(400, &[], vec![error(-32020)]), missed()];
    assert_eq!(verdicts(fallback, came), [Warn; 5]);
}

#[test]
fn sessions_have_names_and_an_end() {
    let names = [None, Some(&b"1"[..]), Some(b"3d3bf471-ca20-4673-a1ed-e45b5c24a416"), Some(b"a b"), Some(b"")];
    assert_eq!(names.map(|name| session_id(name).0), [NotApplicable, Warn, Kept, Fail, Fail]);
    let came = || [http(404, &[], vec![]), http(400, &[], vec![]), http(200, &[], vec![]), missed()];
    assert_eq!(verdicts(|came| session_gone(came, false), came()), [Kept, Warn, Warn, Warn]);
    assert_eq!(verdicts(|came| session_gone(came, true), came()), [Kept, Fail, Fail, Fail]);
    assert_eq!(verdicts(session_missing, came()), [Warn, Kept, Kept, Warn]);
    assert_eq!(verdicts(version_header, came()), [Fail, Kept, Fail, Fail]);
    assert_eq!(verdicts(session_delete, [http(204, &[], vec![]), http(405, &[], vec![]), http(404, &[], vec![])]), [Kept, Kept, Warn]);
}

#[test]
fn a_get_is_a_stream_or_refused() {
    let events = [("content-type", "text/event-stream; charset=utf-8")];
    let came = || {
        [http(200, &events, vec![]), http(405, &[], vec![]), http(200, &[("content-type", "text/html")], vec![]), http(404, &[], vec![])]
    };
    assert_eq!(verdicts(get, came()), [Kept, Kept, Fail, Fail]);
    assert_eq!(verdicts(stateless_get, came()), [Warn, Kept, Warn, Warn]);
    assert_eq!(get(&missed()).0, Warn);
    assert_eq!(verdicts(accept, [http(200, &events, vec![]), http(406, &[], vec![]), http(200, &[], vec![])]), [Warn, Kept, Kept]);
}

#[test]
fn a_foreign_page_is_refused_as_the_revision_says() {
    let came = || [http(403, &[], vec![]), http(400, &[], vec![]), http(200, &[], vec![]), missed()];
    assert_eq!(verdicts(|came| origin(came, true, true), came()), [Kept, Fail, Fail, Warn]);
    assert_eq!(verdicts(|came| origin(came, false, true), came()), [Kept, Kept, Fail, Warn]);
    // Elsewhere it may be meant.
    assert_eq!(verdicts(|came| origin(came, true, false), came()), [Kept, Fail, Warn, Warn]);
    assert_eq!(verdicts(host, came()), [Kept, Kept, Warn, Warn]);
}

#[test]
fn who_lacks_the_token_is_told_so() {
    let came =
        [http(401, &[("www-authenticate", "Bearer")], vec![]), http(401, &[], vec![]), http(403, &[], vec![]), http(200, &[], vec![])];
    assert_eq!(verdicts(authorization, came), [Kept, Warn, Warn, Warn]);
}

#[test]
fn a_page_that_may_call_needs_all_the_headers() {
    let wanted = ["content-type", "mcp-session-id"];
    let open = [("access-control-allow-origin", "*"), ("access-control-allow-headers", "Content-Type, Mcp-Session-Id")];
    let narrow = [("access-control-allow-origin", "*"), ("access-control-allow-headers", "Content-Type")];
    let exposed = http(200, &[("access-control-expose-headers", "Mcp-Session-Id")], vec![]);
    let silent = http(200, &[], vec![]);
    assert_eq!(cors(&http(204, &[], vec![]), &silent, &wanted, true).0, NotApplicable);
    assert_eq!(
        cors(&http(204, &narrow, vec![]), &exposed, &wanted, true),
        (Warn, "pages may call, and may not send mcp-session-id".into())
    );
    assert_eq!(cors(&http(204, &open, vec![]), &silent, &wanted, true).0, Warn);
    assert_eq!(cors(&http(204, &open, vec![]), &silent, &wanted, false).0, Kept);
    assert_eq!(cors(&http(204, &open, vec![]), &exposed, &wanted, true).0, Kept);
}

#[test]
fn a_listen_begins_with_its_acknowledgement() {
    let acknowledged = |id: Value| json!({"method": "notifications/subscriptions/acknowledged", "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": id}}});
    assert_eq!(listen(Ok(&acknowledged(id())), &id()).0, Kept);
    assert_eq!(listen(Ok(&acknowledged(json!(1))), &id()).0, Fail);
    assert_eq!(listen(Ok(&json!({"method": "notifications/tools/list_changed"})), &id()).0, Fail);
    assert_eq!(listen(Err("the stream ended"), &id()), (Fail, "the stream ended".into()));
    assert_eq!(no_requests(&[json!({"id": 1, "method": "roots/list"})]).0, Fail);
    assert_eq!(no_requests(&[json!({"method": "notifications/message"}), result(json!({}))]).0, Kept);
}

#[test]
fn pipes_hold_messages_only() {
    assert_eq!(stdout(&[]).0, Kept);
    assert_eq!(stdout(&["ready".into(), "x".into()]), (Fail, "2 other lines, such as \"ready\"".into()));
    let came = [line(result(json!({}))), line(error(-32700)), missed()];
    assert_eq!(verdicts(|came| stdio_malformed(came, &id()), came), [Kept, Warn, Warn]);
    assert_eq!(content_type(&Seen::default()).0, Fail);
}

#[test]
fn the_documentation_explains_every_rule_by_its_name() {
    let documented = include_str!("../../../../../docs/check.md");
    for rule in RULES {
        assert!(documented.contains(&format!("| `{}` |", rule.id)), "docs/check.md does not explain `{}`", rule.id);
        assert_eq!(RULES.iter().filter(|other| other.id == rule.id).count(), 1, "{}", rule.id);
    }
}
