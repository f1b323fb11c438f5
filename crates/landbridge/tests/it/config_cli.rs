//! `landbridge config`: check, show, import.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::gateway::config_file;

/// Exit code, standard output and standard error of `landbridge config ARGS`.
fn config(args: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_landbridge")).arg("config").args(args).env("LB_TEST_SET", "sesame").output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
}

/// The same for a file with this text, which is called FILE in what is printed.
fn of_file(verb: &[&str], text: &str) -> (i32, String, String) {
    let file = config_file(text);
    let path = file.to_str().unwrap();
    let (code, out, err) = config(&[verb, &[path]].concat());
    std::fs::remove_file(&file).unwrap();
    (code, out.replace(path, "FILE"), err.replace(path, "FILE"))
}

/// The same for standard input.
fn of_input(verb: &str, text: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landbridge"));
    command.args(["config", verb, "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    (done.status.code().unwrap(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
}

// --- check ------------------------------------------------------------------------------------

#[test]
fn a_good_file_is_said_to_be_good() {
    let text = "[servers.a]\ncommand = \"x\"\n[servers.b]\ncommand = \"y\"\n[servers.c]\ncommand = \"z\"\ndisabled = true\n";
    assert_eq!(of_file(&["check"], text), (0, "FILE is good; it serves a, b\n".into(), String::new()));
    assert_eq!(of_file(&["check"], "").1, "FILE is good; it serves demo\n");
    assert_eq!(of_input("check", text), (0, "standard input is good; it serves a, b\n".into(), String::new()));
}

#[test]
fn every_fault_of_a_file_is_shown_where_it_is() {
    let text =
        "lisen = \"127.0.0.1:1\"\n\n[servers.a]\ncomand = \"npx\"\nargs = \"-y\"\nenv = { TOKEN = 5 }\n\n[limits]\nsessions = \"many\"\n";
    let wanted = "\
landbridge: the configuration has 5 faults
FILE:1:1: there is no key `lisen`; did you mean `listen`?
  1 | lisen = \"127.0.0.1:1\"
    | ^^^^^
FILE:4:1: there is no key `servers.NAME.comand`; did you mean `command`?
  4 | comand = \"npx\"
    | ^^^^^^
FILE:5:8: `args` is a string, and must be a list of strings, such as [\"a\", \"b\"]
  5 | args = \"-y\"
    |        ^^^^
FILE:6:17: `TOKEN` is a number, and must be a string, in quotes
  6 | env = { TOKEN = · }
    |                 ^
FILE:9:12: `sessions` is a string, and must be a whole number, 0 or more
  9 | sessions = \"many\"
    |            ^^^^^^
";
    assert_eq!(of_file(&["check"], text), (1, String::new(), wanted.into()));
}

#[test]
fn what_can_be_read_and_not_be_run_is_shown_where_it_is_too() {
    let text = "listen = \"0.0.0.0:80\"\n[servers.a]\ncommand = \"x\"\nprotocol = \"2025-06-19\"\nenv = { A = \"${SURELY_NOT_SET_ANYWHERE}\", B = \"${LB_TEST_SET}\" }\n";
    let (code, out, err) = of_file(&["check"], text);
    assert_eq!((code, out.as_str()), (1, ""));
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 10, "{err}");
    assert!(lines[1].starts_with("FILE:1:10: listening on 0.0.0.0:80 would let everybody"), "{err}");
    assert!(
        lines[4].starts_with("FILE:4:12: server `a`: protocol `2025-06-19` is unknown") && lines[4].ends_with("did you mean `2025-06-18`?")
    );
    assert_eq!(lines[7], "FILE:5:13: server `a`: variable `A`: the environment variable SURELY_NOT_SET_ANYWHERE is not set");
    assert!(!err.contains("sesame"));
}

#[test]
fn a_fault_of_the_notation_is_shown_where_it_is() {
    for (text, head) in [
        ("listen = \n", "FILE:1:10: "),
        ("a = 1\na = 2\n", "FILE:2:1: duplicate key"),
        ("{\"mcpServers\": {\"a\": {\"command\" \"x\"}}}", "FILE:1:33: "),
        ("mcpServers:\n  a: [\n", "FILE:3:1: "),
        ("{\"servrs\": {}}", "landbridge: FILE: there is none of `mcpServers`"),
    ] {
        let (code, _, err) = of_file(&["check"], text);
        assert!(code == 1 && err.lines().any(|line| line.starts_with(head)), "{text}: {err}");
    }
    let (code, _, err) = config(&["check", "/no/such/file.toml"]);
    assert!(code == 1 && err.starts_with("landbridge: cannot read /no/such/file.toml: "), "{err}");
}

#[test]
fn what_a_clients_file_says_in_vain_is_noted() {
    let (code, out, err) = of_file(&["check"], r#"{"mcpServers": {"a": {"command": "x", "timeout": 60}}}"#);
    assert_eq!((code, out.as_str()), (0, "FILE is good; it serves a\n"));
    assert_eq!(err, "FILE:1:17: server `a`: `timeout` is left out: there is no such setting here\n");
}

#[test]
fn every_example_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|e| e == "toml") {
            let (code, _, err) = config(&["show", path.to_str().unwrap()]);
            assert_eq!(code, 0, "{err}");
        }
    }
}

// --- show -------------------------------------------------------------------------------------

#[test]
fn what_is_shown_has_every_default_and_no_secret() {
    let text = "[servers.a]\ncommand = \"x\"\nenv = { A = \"sesame\", B = \"${LB_TEST_SET}\" }\n";
    let (code, full, _) = of_file(&["show"], text);
    assert_eq!(code, 0);
    for part in
        ["listen = \"127.0.0.1:8808\"\n", "isolation = \"session\"\n", "\n[limits]\n", "env = { A = \"…\", B = \"${LB_TEST_SET}\" }"]
    {
        assert!(full.contains(part), "{full}");
    }
    assert!(!full.contains("sesame"), "{full}");
    // What is shown is itself a good file.
    assert_eq!(of_file(&["check"], &full).0, 0);
    let (_, short, _) = of_file(&["show", "--short", "--secrets"], text);
    assert_eq!(short, text);
}

#[test]
fn a_command_line_can_be_shown_as_a_file() {
    let shown = config(&[
        "show",
        "--short",
        "--secrets",
        "--listen",
        "9000",
        "--allow-host",
        "h",
        "--server",
        "files=npx -y 'a b'",
        "--protocol",
        "legacy",
        "--isolation",
        "none",
        "--env",
        "LB_TEST_SET",
        "--env",
        "KEY=a${b}",
    ]);
    let wanted = "listen = \"9000\"\nallow_hosts = [\"h\"]\n\n[servers.files]\ncommand = \"npx\"\nargs = [\"-y\", \"a b\"]\n\
                  env = { KEY = \"a$${b}\", LB_TEST_SET = \"${LB_TEST_SET}\" }\nprotocol = \"legacy\"\nisolation = \"none\"\n";
    assert_eq!(shown, (0, wanted.into(), String::new()));
    let elsewhere = ["--header", "Authorization: Bearer ${LB_TEST_SET}", "--header", "far=X-A: sesame", "--transport", "sse"];
    let shown = config(&[&["show", "--short", "--server", "far=https://h/mcp", "--server", "a=x"][..], &elsewhere].concat());
    let wanted = "[servers.a]\ncommand = \"x\"\n\n[servers.far]\nurl = \"https://h/mcp\"\n\
                  headers = { Authorization = \"Bearer ${LB_TEST_SET}\", X-A = \"…\" }\ntransport = \"sse\"\n";
    assert_eq!(shown, (0, wanted.into(), String::new()));
    let (code, _, err) = config(&["show", "--header", "A: b"]);
    assert_eq!((code, err.as_str()), (1, "landbridge: --header A: there is no server with a URL\n"));
    // On top of a file, as `serve` takes it.
    let file = config_file("listen = \"nowhere\"\n[servers.a]\ncommand = \"x\"\n");
    for given in [&["--config"][..], &[]] {
        let (code, out, err) = config(&[&["show", "--short", "--listen", "9000"], given, &[file.to_str().unwrap()]].concat());
        assert_eq!((code, out.as_str()), (0, "listen = \"9000\"\n\n[servers.a]\ncommand = \"x\"\n"), "{err}");
    }
    std::fs::remove_file(file).unwrap();
}

// --- import -----------------------------------------------------------------------------------

#[test]
fn the_file_of_a_client_becomes_one_of_ours() {
    let cursor = r#"{"mcpServers": {"fs": {"command": "npx", "args": ["-y", "p"], "env": {"K": "${env:LB_TEST_SET}", "L": "v"}}}}"#;
    let goose = "extensions:\n  fs:\n    type: stdio\n    cmd: npx\n    args: [-y, p]\n    envs: {L: v}\n    env_keys: [K]\n";
    let codex = "[mcp_servers.fs]\ncommand = \"npx\"\nargs = [\"-y\", \"p\"]\nenv = { L = \"v\" }\nenv_vars = [\"K\"]\n";
    let code = "// mine\n{\"servers\": {\"fs\": {\"type\": \"stdio\", \"command\": \"npx\", \"args\": [\"-y\", \"p\"], \"env\": {\"K\": \"${input:k}\", \"L\": \"v\"}}}}";
    for (text, reference, notes) in [(cursor, "LB_TEST_SET", 0), (goose, "K", 0), (codex, "K", 0), (code, "K", 1)] {
        let (status, out, err) = of_file(&["import"], text);
        let wanted = format!("[servers.fs]\ncommand = \"npx\"\nargs = [\"-y\", \"p\"]\nenv = {{ K = \"${{{reference}}}\", L = \"v\" }}\n");
        assert_eq!((status, &out, err.lines().count()), (0, &wanted, notes), "{text}: {err}");
        assert_eq!(of_file(&["import"], &out).1, out);
        assert_eq!(of_input("import", text).1, out);
    }
}

#[test]
fn what_cannot_be_imported_is_told() {
    let text = r#"{"mcpProxy": {"options": {"authTokens": ["sesame"]}}, "mcpServers": {"a": {"command": "x"}, "w": {"type": "ws", "url": "ws://h"}}}"#;
    let (code, out, err) = of_file(&["import"], text);
    assert_eq!((code, out.as_str()), (0, "[servers.a]\ncommand = \"x\"\n"));
    assert!(err.lines().count() == 2 && err.contains("authTokens") && err.contains("server `w`: is left out"), "{err}");
    assert!(!err.contains("sesame"));
    // Left out, they would let somebody in or serve something else; so the file itself is not served.
    let (code, out, err) = of_file(&["check"], text);
    assert!(code == 1 && out.is_empty() && err.contains("2 faults"), "{err}");
    let (code, out, err) = of_file(&["import"], r#"{"mcpServers": {"a": {"comand": "x"}}}"#);
    assert!(code == 1 && out.is_empty() && err.contains("FILE:1:17: server `a`: neither a `command` nor a `url`"), "{err}");
}
