//! `landbridge check`, against servers that are right and servers that are wrong in one thing.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::foreign::{Foreign, Heard, Reply, hello};
use crate::gateway::{Gateway, is_running, signal};

/// Exit code, standard output, standard error.
fn check(args: &[&str]) -> (i32, String, String) {
    check_with(args, &[])
}

fn check_with(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landbridge"));
    let Output { status, stdout, stderr } = command.arg("check").args(args).envs(env.iter().copied()).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The report as JSON, and the exit code.
fn report(args: &[&str]) -> (i32, Value) {
    let (code, out, err) = check(&[args, &["--json"]].concat());
    (code, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

fn rows<'r>(report: &'r Value, id: &str) -> Vec<&'r Value> {
    report["rules"].as_array().unwrap().iter().filter(|row| row["id"] == id).collect()
}

/// The rules that fare so, by name.
fn all_that<'r>(report: &'r Value, verdict: &str) -> Vec<&'r str> {
    report["rules"].as_array().unwrap().iter().filter(|row| row["verdict"] == verdict).map(|row| row["id"].as_str().unwrap()).collect()
}

fn spoken(report: &Value) -> Vec<String> {
    let wires = report["wires"].as_array().unwrap().iter().filter(|wire| wire["spoken"] == true);
    let shown = wires
        .map(|w| format!("{} {} {}", w["transport"].as_str().unwrap(), w["revision"].as_str().unwrap(), w["url"].as_str().unwrap_or("")));
    let mut all: Vec<String> = shown.map(|wire| wire.trim().to_owned()).collect();
    all.sort();
    all
}

fn client<'r>(report: &'r Value, name: &str) -> &'r Value {
    report["clients"].as_array().unwrap().iter().find(|client| client["name"] == name).unwrap()
}

const HANDSHAKES: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn each(transport: &str, revisions: &[&str]) -> Vec<String> {
    revisions.iter().map(|revision| format!("{transport} {revision}")).collect()
}

// --- servers that are right -------------------------------------------------------------------------

#[test]
fn our_own_endpoint_breaks_nothing() {
    let gateway = Gateway::start(&[]);
    let url = format!("http://127.0.0.1:{}/mcp", gateway.port);
    let (code, report) = report(&[&url]);
    assert_eq!(
        (code, &report["verdict"], all_that(&report, "fail"), all_that(&report, "warn")),
        (0, &json!("ok"), vec![], vec![]),
        "{report:#}"
    );
    let desktop = client(&report, "Claude Desktop, local");
    assert!(desktop["works"] == false && desktop["mend"].as_str().unwrap().contains("landbridge connect"), "{desktop}");
    let mut all = each("http", &HANDSHAKES);
    all.extend(["http 2026-07-28".to_owned()]);
    all.extend(each("sse", &HANDSHAKES));
    all.push("sse 2024-11-05 /sse".into());
    all.sort();
    assert_eq!(spoken(&report), all);
    assert_eq!((&report["server"]["name"], &report["counts"]["tools"]), (&json!("landbridge-demo"), &json!(17)));
    for (id, n) in
        [("mcp-method", 2), ("removed-methods", 2), ("session-ended", 1), ("batch", 1), ("listen", 1), ("sse-closed", 1), ("origin", 3)]
    {
        assert_eq!(rows(&report, id).len(), n, "{id}");
    }
    assert_eq!(client(&report, "Claude Code")["over"]["revision"], "2026-07-28");
    assert_eq!(client(&report, "VS Code")["over"], json!({"transport": "http", "revision": "2025-11-25"}));
    let what: Vec<&Value> = report["timings"].as_array().unwrap().iter().map(|timing| &timing["what"]).collect();
    for asked in ["server/discover", "initialize", "ping", "tools/list"] {
        assert!(what.contains(&&json!(asked)), "{asked}");
    }
}

#[test]
fn our_own_stream_breaks_nothing() {
    let gateway = Gateway::start(&[]);
    let (code, report) = report(&[&format!("http://127.0.0.1:{}/sse", gateway.port)]);
    assert_eq!((code, all_that(&report, "fail"), all_that(&report, "warn")), (0, vec![], vec![]), "{report:#}");
    assert_eq!(spoken(&report), each("sse", &HANDSHAKES));
    assert_eq!(client(&report, "VS Code")["over"]["transport"], "sse");
    assert_eq!(client(&report, "Zed")["breaks"], "speaks");
    assert_eq!(client(&report, "Zed")["through_landbridge"]["works"], true);
}

fn fixture(mode: &str) -> String {
    format!("'{}' {mode}", landbridge_fixtures::binary().display())
}

#[test]
fn commands_of_both_eras_are_known_for_what_they_are() {
    // It agrees to 2025-03-26 and takes no batch, as many a server does.
    let (code, legacy) = report(&[&fixture("legacy")]);
    assert_eq!((code, all_that(&legacy, "fail"), all_that(&legacy, "warn")), (1, vec!["batch"], vec![]), "{legacy:#}");
    assert_eq!(spoken(&legacy), each("stdio", &HANDSHAKES));
    assert_eq!(client(&legacy, "Claude Desktop, local")["works"], true);
    assert_eq!(client(&legacy, "Open WebUI")["works"], false);
    let (code, modern) = report(&[&fixture("modern")]);
    assert_eq!((code, all_that(&modern, "fail"), all_that(&modern, "warn")), (0, vec![], vec![]), "{modern:#}");
    assert_eq!(spoken(&modern), ["stdio 2026-07-28"]);
    assert_eq!(client(&modern, "GitHub Copilot")["works"], true);
    let desktop = client(&modern, "Claude Desktop, local");
    assert_eq!((&desktop["works"], &desktop["through_landbridge"]["works"]), (&json!(false), &json!(true)));
    assert!(desktop["seen"].as_str().unwrap().contains("2026-07-28"), "{desktop}");
}

#[test]
fn a_command_that_writes_more_than_messages_is_told_so() {
    let (code, garbage) = report(&[&fixture("garbage")]);
    assert_eq!((code, all_that(&garbage, "fail")), (1, vec!["stdout", "batch"]), "{garbage:#}");
    let (code, dying) = report(&[&fixture("dies-on-probe")]);
    assert_eq!((code, all_that(&dying, "warn")), (1, vec!["fallback"]), "{dying:#}");
    // Whoever begins with `server/discover` gets no further; whoever does not, does.
    assert_eq!(client(&dying, "GitHub Copilot")["breaks"], "fallback");
    assert_eq!(client(&dying, "VS Code")["works"], true);
    // Silence is only slow.
    let (_, silent) = report(&[&fixture("silent-on-probe"), "--timeout", "5"]);
    assert_eq!((all_that(&silent, "warn"), &client(&silent, "GitHub Copilot")["works"]), (vec!["fallback"], &json!(true)));
}

#[test]
fn the_table_says_it_in_words() {
    let (code, out, err) = check(&[&fixture("modern")]);
    assert_eq!((code, err.as_str()), (0, ""));
    for words in ["yes  2026-07-28 over stdio", "Rules of 2026-07-28 over stdio", "unknown-method", "through Landbridge", "0 broken"] {
        assert!(out.contains(words), "{words}: {out}");
    }
}

#[test]
fn no_tool_is_called_but_the_one_that_was_named() {
    let far = Foreign::sessions("2025-11-25", right);
    let (_, quiet) = report(&[&far.url("/mcp")]);
    assert_eq!((far.count("tools/call"), &quiet["called"]), (0, &Value::Null));
    let (_, named) = report(&[&far.url("/mcp"), "--call", "add", r#"{"a":1}"#]);
    assert_eq!(far.count("tools/call"), 1);
    assert_eq!(far.wait_for("tools/call", 1).json()["params"]["arguments"], json!({"a": 1}));
    assert_eq!((&named["called"]["tool"], &named["called"]["answer"]["content"][0]["text"]), (&json!("add"), &json!("done")));
    let gateway = Gateway::start(&[]);
    let (code, stateless) = report(&[&format!("http://127.0.0.1:{}/mcp", gateway.port), "--call", "echo", r#"{"message":"hi"}"#]);
    assert_eq!((code, &stateless["called"]["answer"]["content"][0]["text"]), (0, &json!("hi")), "{stateless:#}");
}

// --- servers that are wrong --------------------------------------------------------------------------

/// What a good server answers to whatever is no handshake.
fn right(heard: &Heard, reply: Reply<'_>) {
    match heard.what().as_str() {
        "ping" => reply.result(heard, json!({})),
        "tools/list" => reply.result(heard, json!({"tools": [{"name": "add", "inputSchema": {"type": "object"}}]})),
        "resources/list" => reply.result(heard, json!({"resources": []})),
        "tools/call" => reply.text(heard, "done"),
        _ => reply.error(200, heard, -32601, "no such method"),
    }
}

/// A server of sessions that keeps every rule, but for what `wrong` answers instead: it gives the reply back
/// where it has nothing to say.
fn server(wrong: impl for<'r> Fn(&Heard, Reply<'r>) -> Option<Reply<'r>> + Send + Sync + 'static) -> Foreign {
    const NAME: &str = "5f0c6e0b9d1f4c0e8a56";
    let ended = std::sync::Mutex::new(std::collections::HashSet::<String>::new());
    let number = std::sync::atomic::AtomicU32::new(1);
    Foreign::start(move |heard, reply| {
        let Some(reply) = wrong(heard, reply) else { return };
        let header = |name| heard.header(name);
        let dead = |name: &str| !name.starts_with(NAME) || ended.lock().unwrap().contains(name);
        let initialize = heard.what() == "initialize";
        match (heard.method.as_str(), header("mcp-session-id")) {
            _ if header("origin").is_some() || header("host").is_some_and(|host| !host.starts_with("127.")) => reply.empty(403),
            ("POST", _) if header("content-type") != Some("application/json") => reply.empty(415),
            ("POST", _) if heard.json().is_null() => reply.error(400, heard, -32700, "no JSON"),
            ("POST", _) if initialize => {
                let name = format!("{NAME}-{}", number.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
                let offered = heard.json()["params"]["protocolVersion"].as_str().unwrap().to_owned();
                let result = json!({"jsonrpc": "2.0", "id": heard.json()["id"], "result": hello(&offered)});
                reply.json(200, &[("mcp-session-id", &name)], &result);
            }
            ("GET" | "POST" | "DELETE", None) => reply.error(400, heard, -32000, "no session"),
            (_, Some(name)) if dead(name) => reply.error(404, heard, -32001, "no such session"),
            ("POST" | "GET", _) if header("mcp-protocol-version").is_some_and(|v| !HANDSHAKES.contains(&v)) => reply.empty(400),
            ("DELETE", Some(name)) => {
                ended.lock().unwrap().insert(name.to_owned());
                reply.empty(200);
            }
            ("POST", _) if heard.json().is_array() && header("mcp-protocol-version").is_none() => {
                let all = heard.json().as_array().unwrap().iter().map(|m| json!({"jsonrpc": "2.0", "id": m["id"], "result": {}})).collect();
                reply.json(200, &[], &Value::Array(all));
            }
            ("POST", _) if heard.json().is_array() => reply.error(400, heard, -32600, "no batches"),
            ("POST", _) if heard.json().get("id").is_none() => reply.empty(202),
            ("POST", _) => right(heard, reply),
            _ => reply.empty(405),
        }
    })
}

#[test]
fn a_server_made_by_hand_that_keeps_every_rule_is_told_so() {
    let far = server(|_, reply| Some(reply));
    let (code, report) = report(&[&far.url("/mcp")]);
    assert_eq!((code, all_that(&report, "fail"), all_that(&report, "warn")), (0, vec![], vec![]), "{report:#}");
    // The sessions that were opened were ended.
    assert_eq!(far.count("DELETE"), far.count("initialize"));
}

/// Checks a server that is wrong in one thing: that rule is broken or doubtful, and no other.
#[track_caller]
fn finds(rule: &str, verdict: &str, wrong: impl for<'r> Fn(&Heard, Reply<'r>) -> Option<Reply<'r>> + Send + Sync + 'static) -> Value {
    let far = server(wrong);
    let (code, report) = report(&[&far.url("/mcp"), "--timeout", "5"]);
    let mut found = all_that(&report, "fail");
    found.extend(all_that(&report, "warn"));
    found.dedup();
    assert_eq!(found, [rule], "{report:#}");
    let row = rows(&report, rule).into_iter().find(|row| row["verdict"] == verdict).unwrap_or_else(|| panic!("{report:#}"));
    assert!(row["mend"].as_str().is_some_and(|mend| !mend.is_empty()) && !row["seen"].as_str().unwrap().is_empty(), "{row}");
    assert_eq!(code, i32::from(verdict == "fail"));
    report
}

#[test]
fn a_session_that_does_not_end_is_found() {
    finds("session-ended", "fail", |heard, reply| {
        if heard.method == "DELETE" {
            reply.empty(200);
            return None;
        }
        Some(reply)
    });
}

#[test]
fn a_session_nobody_knows_is_found_to_be_told_wrongly() {
    finds("session-unknown", "warn", |heard, reply| {
        if heard.header("mcp-session-id").is_some_and(|name| name.starts_with("0000")) {
            reply.error(400, heard, -32000, "no valid session");
            return None;
        }
        Some(reply)
    });
}

#[test]
fn a_notification_that_is_answered_is_found() {
    finds("notification", "fail", |heard, reply| {
        if heard.what() == "notifications/initialized" {
            reply.json(200, &[], &json!({}));
            return None;
        }
        Some(reply)
    });
}

#[test]
fn a_notification_that_is_refused_breaks_every_client_with_a_handshake() {
    let far = server(|heard, reply| {
        if heard.what() == "notifications/initialized" {
            reply.empty(500);
            return None;
        }
        Some(reply)
    });
    let (code, report) = report(&[&far.url("/mcp")]);
    assert_eq!(code, 1);
    let broken = client(&report, "VS Code");
    assert_eq!((&broken["breaks"], &broken["works"]), (&json!("notification"), &json!(false)));
    assert!(broken["mend"].as_str().unwrap().contains("202"), "{broken}");
}

#[test]
fn foreign_pages_and_names_that_are_served_are_found() {
    let serve = |heard: &Heard| heard.what() == "ping";
    finds("origin", "fail", move |heard, reply| {
        if heard.header("origin").is_some() && serve(heard) {
            reply.result(heard, json!({}));
            return None;
        }
        Some(reply)
    });
    finds("host", "warn", move |heard, reply| {
        if heard.header("host") == Some("landbridge-check.invalid") && serve(heard) {
            reply.result(heard, json!({}));
            return None;
        }
        Some(reply)
    });
}

#[test]
fn an_unknown_method_that_is_answered_is_found() {
    finds("unknown-method", "fail", |heard, reply| {
        if heard.what() == "landbridge/no-such-method" {
            reply.result(heard, json!({}));
            return None;
        }
        Some(reply)
    });
}

#[test]
fn a_body_that_is_taken_for_a_message_is_found() {
    finds("malformed-json", "fail", |heard, reply| {
        if heard.method == "POST" && heard.json().is_null() {
            reply.empty(202);
            return None;
        }
        Some(reply)
    });
}

#[test]
fn a_version_that_is_not_looked_at_is_found() {
    finds("version-header", "fail", |heard, reply| {
        if heard.header("mcp-protocol-version") == Some("1900-01-01") {
            reply.result(heard, json!({}));
            return None;
        }
        Some(reply)
    });
}

#[test]
fn a_get_that_is_a_page_is_found() {
    finds("get", "fail", |heard, reply| {
        if heard.method == "GET" && heard.header("mcp-session-id").is_some() {
            reply.whole(200, &[("content-type", "text/html")], "<html>hello</html>");
            return None;
        }
        Some(reply)
    });
}

#[test]
fn an_id_that_changes_its_type_is_found() {
    finds("ping", "fail", |heard, reply| {
        if heard.json()["id"] == "check-ping" {
            reply.json(200, &[], &json!({"jsonrpc": "2.0", "id": 0, "result": {}}));
            return None;
        }
        Some(reply)
    });
}

#[test]
fn a_batch_that_is_not_taken_is_found_where_there_are_batches() {
    finds("batch", "fail", |heard, reply| {
        if heard.json().is_array() {
            reply.error(400, heard, -32600, "no batches");
            return None;
        }
        Some(reply)
    });
}

#[test]
fn text_that_is_taken_for_json_is_found() {
    finds("media-type", "warn", |heard, reply| {
        if heard.header("content-type") == Some("text/plain") {
            reply.result(heard, json!({}));
            return None;
        }
        Some(reply)
    });
}

#[test]
fn a_tool_without_a_schema_breaks_the_list() {
    let far = server(|heard, reply| {
        if heard.what() == "tools/list" {
            reply.result(heard, json!({"tools": [{"name": "add"}]}));
            return None;
        }
        Some(reply)
    });
    let (code, report) = report(&[&far.url("/mcp")]);
    assert_eq!((code, &client(&report, "Cursor")["breaks"]), (1, &json!("tools/list")));
    assert!(rows(&report, "tools/list").iter().any(|row| row["seen"].as_str().unwrap().contains("`add`")), "{report:#}");
}

#[test]
fn what_a_new_client_cannot_fall_back_from_is_found() {
    let report = finds("fallback", "warn", |heard, reply| {
        if heard.what() == "server/discover" {
            reply.empty(500);
            return None;
        }
        Some(reply)
    });
    assert_eq!(client(&report, "Goose")["breaks"], "fallback");
    assert_eq!(client(&report, "Zed")["works"], true);
}

#[test]
fn a_stateless_server_that_looks_at_no_header_is_found() {
    let far = Foreign::start(|heard, reply| {
        let body = heard.json();
        let meta = &body["params"]["_meta"];
        match heard.what().as_str() {
            _ if heard.method != "POST" => reply.empty(405),
            _ if body.is_null() => reply.error(400, heard, -32700, "no JSON"),
            _ if body.is_array() => reply.error(400, heard, -32600, "no batches"),
            _ if body.get("id").is_none() => reply.empty(202),
            _ if !meta.is_object() => reply.error(400, heard, -32602, "no _meta"),
            "server/discover" => reply.result(
                heard,
                json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
                "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private",
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "far", "version": "1"}}}),
            ),
            "tools/list" => reply.result(heard, json!({"tools": []})),
            "tools/call" => reply.error(400, heard, -32602, "no such tool"),
            _ => reply.error(200, heard, -32601, "no such method"),
        }
    });
    let (code, report) = report(&[&far.url("/mcp")]);
    let mut broken = all_that(&report, "fail");
    broken.dedup();
    let wrong =
        ["cache-hints", "unknown-method", "removed-methods", "mcp-method", "mcp-name", "version-mismatch", "version-unsupported", "origin"];
    assert_eq!((code, broken), (1, wrong.to_vec()), "{report:#}");
    assert_eq!(spoken(&report), ["http 2026-07-28"]);
    assert_eq!(client(&report, "VS Code")["works"], false);
}

#[test]
fn a_stream_that_does_not_begin_with_its_endpoint_is_found() {
    let far = Foreign::start(|heard, reply| match heard.method.as_str() {
        "GET" => {
            let mut events = reply.events();
            events.raw(
                "event: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\nevent: endpoint\ndata: /messages\n\n",
            );
            events.await_end();
        }
        _ => reply.empty(404),
    });
    let (code, report) = report(&[&far.url("/sse")]);
    assert_eq!((code, all_that(&report, "fail")), (1, vec!["sse-endpoint", "speaks"]), "{report:#}");
    let far = Foreign::start(|heard, reply| match heard.method.as_str() {
        "GET" => {
            let mut events = reply.events();
            events.raw("event: endpoint\ndata: http://elsewhere.invalid/messages\n\n");
            events.await_end();
        }
        _ => reply.empty(404),
    });
    let (_, report) = self::report(&[&far.url("/sse")]);
    assert_eq!(all_that(&report, "warn"), ["sse-origin"]);
}

#[test]
fn a_server_that_knows_discovery_and_not_its_revision_is_told_apart() {
    let far = server(|heard, reply| {
        if heard.what() == "server/discover" {
            reply.result(heard, json!({"supportedVersions": ["2025-11-25"], "capabilities": {}}));
            return None;
        }
        Some(reply)
    });
    let (code, report) = report(&[&far.url("/mcp")]);
    assert_eq!((code, spoken(&report)), (0, each("http", &HANDSHAKES)));
    let modern = report["wires"].as_array().unwrap().iter().find(|wire| wire["revision"] == "2026-07-28").unwrap();
    assert_eq!(modern["seen"], "it serves [\"2025-11-25\"] and no other");
}

#[test]
fn no_process_of_a_server_is_left() {
    let pids = std::env::temp_dir().join(format!("landbridge-it-pids-{}-check", std::process::id()));
    let forks = format!("sh -c 'FIXTURE_PIDS={} exec {} forks'", pids.display(), landbridge_fixtures::binary().display());
    check(&[&forks]);
    let found = std::fs::read_to_string(&pids).unwrap();
    let _ = std::fs::remove_file(&pids);
    let found: Vec<u32> = found.lines().map(|l| l.parse().unwrap()).collect();
    // Five starts, three processes each.
    assert_eq!(found.len(), 15);
    let left: Vec<u32> = found.into_iter().filter(|pid| is_running(*pid)).collect();
    left.iter().for_each(|pid| signal(*pid, "KILL"));
    assert_eq!(left, [0; 0], "still running");
}

// --- nobody ------------------------------------------------------------------------------------------

#[test]
fn who_is_not_there_or_never_answers_cannot_be_checked() {
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, report) = report(&[&format!("http://{nowhere}/mcp")]);
    assert_eq!((code, &report["verdict"]), (2, &json!("unreachable")), "{report:#}");
    assert!(report["why"].as_str().unwrap().contains("refused"), "{report}");
    let hanging = Foreign::start(|_, _| std::thread::sleep(Duration::from_secs(60)));
    let (code, out, _) = check(&[&hanging.url("/mcp"), "--timeout", "0.5"]);
    assert_eq!(code, 2);
    assert!(out.contains("did not answer within 0.5 s"), "{out}");
    for mode in ["silent", "dies-at-once"] {
        let (code, report) = self::report(&[&fixture(mode), "--timeout", "0.5"]);
        assert_eq!((code, &report["verdict"]), (2, &json!("unreachable")), "{mode}: {report:#}");
    }
}

#[test]
fn who_hangs_in_one_thing_is_checked_in_all_others() {
    let report = finds("get", "warn", |heard, reply| {
        if heard.method == "GET" && heard.header("mcp-session-id").is_some() {
            std::thread::sleep(Duration::from_secs(10));
            return None;
        }
        Some(reply)
    });
    assert_eq!(rows(&report, "session-ended")[0]["verdict"], "ok");
}

#[test]
fn who_answers_garbage_speaks_nothing() {
    for (media, body) in [("text/html", "<html>welcome</html>"), ("application/json", "{\"half\":"), ("text/event-stream", "data: x\n\n")] {
        let far = Foreign::start(move |_, reply| reply.whole(200, &[("content-type", media)], body));
        let (code, report) = report(&[&far.url("/mcp")]);
        assert_eq!(code, 1, "{report:#}");
        assert!(all_that(&report, "fail").contains(&"speaks"), "{report:#}");
        assert_eq!(client(&report, "Zed")["through_landbridge"]["works"], false);
    }
}

#[test]
fn the_whole_has_an_end_however_much_is_said() {
    // An answer that never comes, behind a stream that never falls silent.
    let far = server(|heard, reply| {
        if heard.what() != "ping" {
            return Some(reply);
        }
        let mut events = reply.events();
        while events.raw(": still here\n\n") {
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    });
    // That it ends is the point; how far it gets is a matter of who else runs.
    let (code, report) = report(&[&far.url("/mcp"), "--timeout", "0.2"]);
    assert!(code != 0 && report["verdict"] != "ok", "{report:#}");
}

#[test]
fn whoever_wants_authorization_is_told_from_who_has_it_and_the_token_is_not_told() {
    let far = server(|heard, reply| match heard.header("authorization") {
        Some("Bearer s3cret-token") => Some(reply),
        other => {
            reply.json(
                401,
                &[("www-authenticate", "Bearer")],
                &json!({"jsonrpc": "2.0", "error": {"code": -32000, "message": format!("not {other:?}")}}),
            );
            None
        }
    });
    let (code, none) = report(&[&far.url("/mcp")]);
    assert_eq!(code, 2);
    assert!(none["why"].as_str().unwrap().contains("--header"), "{none}");
    let wrong = check(&[&far.url("/mcp"), "--header", "Authorization: Bearer wr0ng-token"]);
    assert_eq!(wrong.0, 2);
    let (_, seen) = report(&[&far.url("/mcp"), "--header", "Authorization: Bearer s3cret-token"]);
    assert_eq!(rows(&seen, "authorization")[0]["verdict"], "ok");
    let given = ["--header", "Authorization: Bearer ${TOKEN}"];
    let right = check_with(&[&[far.url("/mcp").as_str()], &given[..]].concat(), &[("TOKEN", "s3cret-token")]);
    assert_eq!(right.0, 0, "{}", right.1);
    for (_, out, err) in [wrong, right] {
        assert!(!out.contains("-token") && !err.contains("-token"), "{out}{err}");
    }
}

#[test]
fn a_server_that_repeats_a_token_does_not_get_it_into_the_report() {
    let far = server(|heard, reply| {
        if heard.what() == "landbridge/no-such-method" {
            reply.error(200, heard, -32601, heard.header("authorization").unwrap_or_default());
            return None;
        }
        Some(reply)
    });
    for json in [&[][..], &["--json"]] {
        let (code, out, err) = check(&[&[far.url("/mcp").as_str(), "--header", "Authorization: Bearer s3cret-token"], json].concat());
        assert_eq!(code, 0, "{out}");
        assert!(!out.contains("s3cret") && !err.contains("s3cret"), "{out}{err}");
        assert!(out.contains("-32601"), "{out}");
    }
}

#[test]
fn what_is_written_wrongly_is_told() {
    for (args, words) in [
        (&[][..], "<TARGET>"),
        (&["http://127.0.0.1:1/mcp", "--timeout", "0"], "--timeout"),
        (&["http://127.0.0.1:1/mcp", "--header", "nonsense"], "NAME: VALUE"),
        (&["http://127.0.0.1:1/mcp", "--header", "Accept: x"], "sets itself"),
        (&["http://127.0.0.1:1/mcp", "--call", "echo", "[]"], "JSON object"),
        (&["http://user:pass@127.0.0.1/mcp"], "user name"),
        (&["unbalanced 'quote"], "quotes"),
        (&["true", "--header", "A: b"], "servers with a `url`"),
    ] {
        let (code, out, err) = check(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(words), "{args:?}: {err}");
    }
}
