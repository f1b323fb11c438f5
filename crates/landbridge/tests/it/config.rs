//! Configuration files, as they are shipped and as they are written wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use landbridge::config::Config;
use serde_json::json;

use crate::gateway::{Gateway, config_file};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect()
}

/// Every `${NAME}` as if it were set: whose secrets they are is not the point here.
fn with_secrets(mut config: Config) -> Config {
    for server in config.servers.values_mut() {
        for value in server.env.values_mut().filter(|v| v.contains("${")) {
            *value = "secret".into();
        }
    }
    config
}

#[test]
fn every_example_loads() {
    let examples = examples();
    assert!(!examples.is_empty(), "there are examples");
    for path in examples {
        let config = Config::read(&path).unwrap_or_else(|why| panic!("{why}"));
        let plan = with_secrets(config).check().unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let auth = landbridge::auth::Auth::new(plan.auth.clone(), landbridge::store::memory()).unwrap();
        let gateway = landbridge::gateway::Gateway::guarded(plan, std::sync::Arc::new(auth));
        gateway.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

#[test]
fn every_key_is_documented_and_in_an_example() {
    use landbridge::config::{ACCESS_KEYS, ACME_KEYS, AUDIT_KEYS, AUTH_KEYS, KEYS, SERVER_KEYS, TLS_KEYS, TOOLS_KEYS};
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (docs, example) = (read("docs/configuration.md"), read("examples/every-key.toml"));
    let tools = TOOLS_KEYS.iter().map(|key| format!("tools.{key}"));
    let below: Vec<String> = tools.chain(ACCESS_KEYS.iter().map(|key| format!("auth.{key}"))).collect();
    let keys = KEYS.iter().chain(&SERVER_KEYS).chain(&TLS_KEYS).chain(&ACME_KEYS).chain(&AUTH_KEYS).chain(&AUDIT_KEYS).copied();
    let tables = ["servers", "limits", "rates", "audit", "tools", "tls", "acme", "auth", "login", "clients"];
    for key in keys.filter(|key| !tables.contains(key)).chain(below.iter().map(String::as_str)) {
        assert!(docs.contains(&format!("\n| `{key}` |")), "{key}");
        assert!(example.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = "))), "{key}");
    }
    let (limits, rates) =
        (serde_json::to_value(landbridge::plan::Limits::default()), serde_json::to_value(landbridge::plan::Rates::default()));
    let (limits, rates) = (limits.unwrap(), rates.unwrap());
    let of_example: toml::Table = example.parse().unwrap();
    assert_eq!(serde_json::to_value(&of_example["rates"]).unwrap(), rates, "examples/every-key.toml");
    for (name, value) in limits.as_object().unwrap().iter().chain(rates.as_object().unwrap()) {
        let row = docs.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_else(|| panic!("{name}"));
        assert!(row.ends_with(&format!("| {value} |")), "{row}");
    }
    assert!(
        ["[servers.NAME]", "[limits]", "[rates]", "[audit]", "[tls]", "[tls.acme]"]
            .iter()
            .all(|table| docs.contains(&format!("\n| `{table}` |")))
    );
}

/// What `landbridge serve` says of this file.
fn serve(text: &str) -> Output {
    let file = config_file(text);
    let done = Command::new(env!("CARGO_BIN_EXE_landbridge")).args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(&file).output();
    let _ = std::fs::remove_file(file);
    done.unwrap()
}

#[test]
fn a_fault_in_the_file_is_named_and_nothing_starts() {
    for (text, part) in [
        ("lisen = \"127.0.0.1:1\"", "lisen"),
        ("[servers.a]\ncommand = 5", ":2:11: `command` is a number"),
        ("[servers.\"a/b\"]\ncommand = \"x\"", "a/b"),
        ("[servers.a]\ncommand = \"x\"\nenv = {T = \"${SURELY_NOT_SET_ANYWHERE}\"}", "SURELY_NOT_SET_ANYWHERE"),
        ("[limits]\nsessions = 0", "limits.sessions"),
        ("[limits]\nno_such_limit = 1", "no_such_limit"),
        ("[limits]\nheader_bytes = 100", "limits.header_bytes"),
    ] {
        let said = serve(text);
        let why = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success() && said.stdout.is_empty(), "{text}");
        assert!(why.contains(part), "{text}: {why}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let said = Command::new(env!("CARGO_BIN_EXE_landbridge")).args(["serve", "--config", "/no/such/file.toml"]).output().unwrap();
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("/no/such/file.toml"));
}

#[test]
fn several_servers_have_a_path_each() {
    let fixture = landbridge_fixtures::binary();
    let file = config_file(&format!(
        "[servers.old]\ncommand = {fixture:?}\nargs = [\"legacy\"]\n[servers.new]\ncommand = {fixture:?}\nargs = [\"modern\"]\n\
         [servers.show]\ndemo = true\n[servers.off]\ncommand = \"x\"\ndisabled = true\n"
    ));
    let gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    std::fs::remove_file(file).unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
    .to_string();
    let mut sessions = Vec::new();
    for (name, server) in [("old", "mcp-fixture"), ("new", "mcp-fixture"), ("show", "landbridge-demo")] {
        let said = gateway.wire().post(&format!("/servers/{name}/mcp"), &[], &hello);
        assert_eq!(said.json()["result"]["serverInfo"]["name"], server, "{name}");
        sessions.push(said.header("mcp-session-id").unwrap().to_owned());
        let mut sse = gateway.wire().open("GET", &format!("/servers/{name}/sse"), &[("accept", "text/event-stream")], None);
        assert!(sse.event().unwrap().data.starts_with(&format!("/servers/{name}/messages?sessionId=")));
    }
    // A session is one server's, and a path without a name is nobody's.
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let at = |name: &str| gateway.wire().post(&format!("/servers/{name}/mcp"), &[("mcp-session-id", &sessions[0])], ping).status;
    assert_eq!((at("old"), at("new"), at("off")), (200, 404, 404));
    let all = gateway.wire().post("/mcp", &[], &hello);
    assert_eq!(all.json()["result"]["serverInfo"]["name"], "landbridge");
    let nobody = gateway.wire().post("/servers/none/mcp", &[], &hello);
    assert_eq!(nobody.status, 404);
    assert!(nobody.text().contains("there is new, old, show"), "{}", nobody.text());
}

#[test]
fn the_file_of_a_client_is_read_as_it_is() {
    let fixture = landbridge_fixtures::binary();
    let text = json!({"mcpServers": {"one": {"command": fixture, "args": ["legacy"], "env": {"KEY": "value"}}}});
    let file = config_file(&text.to_string());
    let json = file.with_extension("json");
    std::fs::rename(&file, &json).unwrap();
    let gateway = Gateway::start(&["--config", json.to_str().unwrap()]);
    std::fs::remove_file(json).unwrap();
    let said = gateway.session("2025-06-18").tool(2, "where_am_i", json!({}));
    assert!(said["result"]["content"][0]["text"].as_str().unwrap().contains("\"KEY\""), "{said}");
}

#[test]
fn a_clients_file_that_keeps_somebody_away_is_not_served() {
    let fixture = landbridge_fixtures::binary();
    let text = json!({"mcpServers": {"one": {"command": fixture, "options": {"authTokens": ["sesame"]}}}});
    let said = serve(&text.to_string());
    let why = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && why.contains("`options.authTokens` cannot be kept"), "{why}");
}
