//! What servers are told at start, and `landbridge call` and `landbridge tools`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use landbridge_fixtures::{DYING_WORDS, STILLBORN_WORDS};
use serde_json::{Value, json};

use crate::children::{initialize, place, refusal, text};
use crate::gateway::{Gateway, is_running, signal};
use crate::wire::Wire;

// --- environment --------------------------------------------------------------------------------

const OURS: [(&str, &str); 7] = [
    ("HOME", "/"),
    ("USER", "somebody"),
    ("LANG", "C"),
    ("TMPDIR", "/tmp"),
    ("API_TOKEN", "secret"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
    ("LD_LIBRARY_PATH", "/nowhere"),
];

/// In front of a fixture server, with these arguments and a full environment.
fn start(args: &[&str], mode: &[&str]) -> Gateway {
    let binary = landbridge_fixtures::binary();
    let all: Vec<&str> = [args, &["--", binary.to_str().unwrap()], mode].concat();
    Gateway::start_with(&all, &OURS)
}

#[test]
fn a_server_sees_only_the_plainest_of_our_environment() {
    for mode in ["legacy", "modern"] {
        let gateway = start(&[], &[mode]);
        let seen = place(&gateway.session("2025-11-25").tool(2, "where_am_i", json!({})));
        assert_eq!(seen["env"], json!(["HOME", "LANG", "PATH", "TMPDIR", "USER"]));
    }
}

#[test]
fn a_server_sees_the_variables_it_is_given_by_name_or_by_value() {
    let gateway = start(&["--env", "API_TOKEN", "--env", "MODE=a=b", "--env", "EMPTY="], &["legacy"]);
    let seen = place(&gateway.session("2025-11-25").tool(2, "where_am_i", json!({})));
    assert_eq!(seen["env"], json!(["API_TOKEN", "EMPTY", "HOME", "LANG", "MODE", "PATH", "TMPDIR", "USER"]));
}

#[test]
fn a_variables_value_is_passed_on_as_it_is() {
    let script = "printf '%s|%s|%s' \"$GIVEN\" \"$HANDED\" \"$HOME\" >&2; exit 1";
    let value = "a=${b} $c ${HOME}";
    let given = format!("GIVEN={value}");
    let gateway =
        Gateway::start_with(&["--env", &given, "--env", "HANDED", "--", "sh", "-c", &format!("{script}; echo >&2")], &[("HANDED", "${")]);
    let why = refusal(&gateway);
    assert!(why.contains("a=${b} $c ${HOME}|${|"), "{why}");
}

#[test]
fn an_update_of_the_program_does_not_disturb_the_one_that_runs() {
    let program = std::env::temp_dir().join(format!("landbridge-it-{}-program", std::process::id()));
    std::fs::copy(env!("CARGO_BIN_EXE_landbridge"), &program).unwrap();
    let server = landbridge_fixtures::binary();
    let mut serve = Command::new(&program);
    let serve = serve.args(["serve", "--listen", "127.0.0.1:0", "--", server.to_str().unwrap(), "legacy"]);
    let mut running = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines().map_while(Result::ok);
    let port = lines.find_map(|line| line.split("http://127.0.0.1:").nth(1)?.split('/').next()?.trim().parse().ok()).unwrap();
    std::fs::remove_file(&program).unwrap();
    let answer = Wire::connect(port).post("/mcp", &[], &initialize().to_string()).json();
    signal(running.id(), "TERM");
    assert!(running.wait().unwrap().success());
    assert_eq!(answer["result"]["serverInfo"]["name"], landbridge_fixtures::SERVER_NAME, "{answer}");
}

// --- call and tools -----------------------------------------------------------------------------

fn landbridge(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landbridge")).args(args).output().unwrap()
}

fn target(mode: &str) -> String {
    format!("'{}' {mode}", landbridge_fixtures::binary().display())
}

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = landbridge(args);
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn call_prints_what_the_tool_says_and_nothing_else() {
    for mode in ["legacy", "modern", "dies-on-probe", "garbage"] {
        let (code, out, err) = run(&["call", &target(mode), "echo", r#"{"message":"hällo"}"#]);
        assert_eq!((code, out.as_str()), (0, "hällo\n"), "{err}");
        let (code, out, err) = run(&["call", &target(mode), "slow", r#"{"steps":2,"delay_ms":20}"#]);
        assert_eq!((code, out.as_str()), (0, "done after 2 steps\n"), "{err}");
        assert!(err.contains("step 1 of 2") && err.contains("step 2 of 2"), "progress goes to standard error: {err}");
    }
}

#[test]
fn call_prints_other_content_as_json() {
    let (code, out, _) = run(&["call", &target("legacy"), "test_multiple_content_types"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((code, lines.len(), lines[0]), (0, 3, "Multiple content types test:"));
    let kinds: Vec<Value> = lines[1..].iter().map(|l| serde_json::from_str::<Value>(l).unwrap()["type"].clone()).collect();
    assert_eq!(kinds, ["image", "resource"]);
}

#[test]
fn call_tells_a_tool_that_failed_from_a_call_that_failed() {
    let (code, out, _) = run(&["call", &target("legacy"), "test_error_handling"]);
    assert_eq!((code, out.as_str()), (2, "This tool intentionally returns an error for testing\n"));
    let server = target("legacy");
    for (target, tool, arguments, says) in [
        (server.as_str(), "no_such_tool", "{}", "Unknown tool: no_such_tool"),
        (&server, "die", "{}", DYING_WORDS),
        (&server, "echo", "{message", "the arguments are no JSON"),
        (&server, "echo", "[1]", "the arguments must be a JSON object"),
        (&target("dies-at-once"), "echo", "{}", STILLBORN_WORDS),
        ("/nowhere/no-such-server", "echo", "{}", "cannot start /nowhere/no-such-server"),
        ("", "echo", "{}", "the command is empty"),
        ("'", "echo", "{}", "unbalanced quotes"),
    ] {
        let (code, out, err) = run(&["call", target, tool, arguments]);
        assert_eq!((code, out.as_str()), (1, ""), "{target} {tool} {arguments}: {err}");
        let last = err.lines().last().unwrap();
        assert!(last.starts_with("landbridge: ") && last.contains(says), "{err}");
    }
}

#[test]
fn call_without_a_target_explains_itself() {
    let (code, out, err) = run(&["call"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("<TARGET>") && err.contains("Usage: landbridge call"), "{err}");
}

#[test]
fn tools_lists_names_and_what_they_do() {
    for mode in ["legacy", "modern"] {
        let (code, out, err) = run(&["tools", &target(mode)]);
        assert_eq!(code, 0, "{err}");
        let echo = out.lines().find(|l| l.starts_with("echo ")).unwrap();
        assert!(echo.ends_with("  Returns its message"), "{out}");
        let (code, out, _) = run(&["tools", &target(mode), "--json"]);
        let tools: Vec<Value> = serde_json::from_str(&out).unwrap();
        let echo = tools.iter().find(|t| t["name"] == "echo").unwrap();
        assert_eq!((code, &echo["inputSchema"]["required"]), (0, &json!(["message"])));
    }
    let (code, out, err) = run(&["tools", &target("dies-at-once")]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains(STILLBORN_WORDS), "{err}");
}

#[test]
fn call_and_tools_leave_nobody_behind() {
    let pids = std::env::temp_dir().join(format!("landbridge-it-pids-{}-call", std::process::id()));
    let forks = format!("sh -c 'FIXTURE_PIDS={} exec {} forks'", pids.display(), landbridge_fixtures::binary().display());
    let dying = r#"{"code":9}"#;
    for args in [&["call", &forks, "echo", r#"{"message":"x"}"#][..], &["call", &forks, "die", dying], &["tools", &forks]] {
        landbridge(args);
    }
    let found = std::fs::read_to_string(&pids).unwrap();
    let _ = std::fs::remove_file(&pids);
    let found: Vec<u32> = found.lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(found.len(), 9);
    let left: Vec<u32> = found.into_iter().filter(|pid| is_running(*pid)).collect();
    left.iter().for_each(|pid| signal(*pid, "KILL"));
    assert_eq!(left, [0; 0], "still running");
}

#[test]
fn tools_of_a_server_that_is_asked_by_a_session_look_the_same() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    let listed = gateway.session("2025-11-25").call(2, "tools/list", json!({}));
    let (_, out, _) = run(&["tools", &target("legacy"), "--json"]);
    assert_eq!(listed["result"]["tools"], serde_json::from_str::<Value>(&out).unwrap());
    assert_eq!(text(&gateway.session("2025-11-25").tool(3, "add", json!({"a": 1, "b": 2}))), "3");
}
