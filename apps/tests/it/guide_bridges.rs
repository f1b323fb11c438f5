//! Rows S4 of the list: programs in front of the guide, and clients that other people have written, by their habits.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::app::{App, PROGRAM, fresh_dir};
use crate::docs::landbridge;
use crate::guide::{guide, hello, wait_until};
use crate::lines::Lines;

/// The gateway with these arguments, in a directory of its own.
fn gateway(arguments: &[&str]) -> Command {
    let dir = fresh_dir("gateway");
    let mut command = Command::new(landbridge());
    command.args(arguments).current_dir(&dir).env_clear().env("PATH", std::env::var("PATH").unwrap_or_default()).env("HOME", &dir);
    command
}

/// What it prints, where it succeeds.
fn prints(arguments: &[&str]) -> String {
    let output = gateway(arguments).stderr(Stdio::piped()).output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// A gateway that serves what it starts.
pub struct Served {
    child: std::process::Child,
    pub port: u16,
}

impl Served {
    pub fn start(arguments: &[&str]) -> Served {
        // Known beforehand, for it is what its users would say.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = port.to_string();
        let all = [&["serve", "--listen", &listen], arguments].concat();
        let child = gateway(&all).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        wait_until("a gateway", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Served { child, port }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn url(app: &App, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", app.port)
}

fn connect(arguments: &[&str]) -> (Lines, Value) {
    Lines::shaken(gateway(&[&["connect"], arguments].concat()))
}

/// A client greets over standard streams, through what it was given, and is greeted in these words.
fn greets(lines: &mut Lines, transport: &str) {
    assert_eq!(lines.call("greet", json!({"name": "Ada"})), format!("Hello, Ada! Welcome to the {transport} server."));
}

#[test]
fn s4_10_pings_of_a_server_are_answered() {
    let dir = fresh_dir("pings");
    let (script, heard) = (dir.join("server.sh"), dir.join("heard"));
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "pings", "version": "1"}});
    let script_text = format!(
        "read -r line\nprintf '%s\\n' '{{\"jsonrpc\":\"2.0\",\"id\":'\"$(printf '%s' \"$line\" | sed 's/.*\"id\":\\([^,}}]*\\).*/\\1/')\"',\"result\":{hello}}}'\n\
         printf '%s\\n' '{{\"jsonrpc\":\"2.0\",\"id\":\"are you there\",\"method\":\"ping\"}}'\n\
         while read -r line; do printf '%s\\n' \"$line\" >> '{}'; done\n",
        heard.display()
    );
    std::fs::write(&script, script_text).unwrap();
    let served = Served::start(&["--protocol", "legacy", "--", "sh", &script.display().to_string()]);
    let wire = crate::wire::Wire::connect(served.port);
    let answer = wire.post("/mcp", &[], &self::hello("2025-06-18").to_string());
    assert_eq!(answer.messages()[0]["result"]["serverInfo"]["name"], "pings");
    let said = || std::fs::read_to_string(&heard).unwrap_or_default();
    wait_until("an answer to the ping", || said().contains("are you there"));
    let answer: Value = serde_json::from_str(said().lines().find(|line| line.contains("are you there")).unwrap()).unwrap();
    assert_eq!(answer["result"], json!({}));
}

#[test]
fn s4_22_clients_in_every_language_find_what_they_look_for() {
    let app = guide(&[]);
    // How the SDKs write what may be written in several ways.
    let habits: [&[(&str, &str)]; 6] = [
        &[("accept", "application/json, text/event-stream"), ("user-agent", "node")],
        &[("accept", "application/json, text/event-stream"), ("content-type", "application/json"), ("user-agent", "python-httpx/0.28")],
        &[("accept", "application/json, text/event-stream"), ("content-type", "application/json; charset=utf-8")],
        &[("accept", "text/event-stream, application/json"), ("content-type", "application/json"), ("cache-control", "no-cache")],
        &[
            ("accept", "application/json,text/event-stream"),
            ("content-type", "application/json;charset=UTF-8"),
            ("accept-charset", "UTF-8"),
        ],
        &[("accept", "application/json, text/event-stream"), ("accept-encoding", "gzip"), ("user-agent", "Go-http-client/1.1")],
    ];
    for headers in habits {
        let opened = app.wire().post("/mcp", headers, &hello("2025-06-18").to_string());
        assert_eq!(opened.status, 200, "{headers:?}: {}", opened.text());
        let id = opened.header("mcp-session-id").expect("a session").to_owned();
        let more = [headers, &[("mcp-session-id", id.as_str()), ("mcp-protocol-version", "2025-06-18")]].concat();
        let call = json!({"jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": {"name": "example-tool", "arguments": {"message": "x"}}});
        let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(app.wire().post("/mcp", &more, &note.to_string()).status, 202);
        let answer = app.wire().post("/mcp", &more, &call.to_string());
        assert_eq!(answer.messages()[0]["result"]["content"][0]["text"], "Echo: x", "{headers:?}");
        // The same over HTTP+SSE, where some of them send the revision too.
        let mut stream = app.events("/sse", headers);
        let endpoint = stream.event().unwrap().data;
        let answer =
            app.wire().post(&endpoint, &[headers, &[("mcp-protocol-version", "2024-11-05")]].concat(), &hello("2024-11-05").to_string());
        assert_eq!(answer.status, 202, "{headers:?}: {}", answer.text());
        assert_eq!(stream.message().unwrap()["id"], 1);
    }
}

#[test]
fn s4_23_an_inspector_gets_in_by_command_by_url_and_with_a_header() {
    let (mut stdio, _) = Lines::shaken({
        let mut command = crate::app::command(&fresh_dir("inspector"), "guide", &[]);
        command.args(["--mode", "stdio"]);
        command
    });
    greets(&mut stdio, "STDIO");
    assert_eq!(guide(&[]).sse("/sse", &[]).tools().len(), 3);
    let app = guide(&[("GUIDE_TOKENS", "a-token-of-some-length")]);
    assert_eq!(app.get("/sse").status, 401);
    let mut let_in = app.sse("/sse", &[("Authorization", "Bearer a-token-of-some-length")]);
    // What it asks for when its tabs are opened, there or not, is answered.
    for method in ["tools/list", "resources/list", "resources/templates/list", "prompts/list", "ping"] {
        let answer = let_in.ask(method, json!({}));
        assert!(
            answer["result"].is_object() || answer["error"]["code"] == -32601 || answer["error"]["code"] == -32602,
            "{method}: {answer}"
        );
    }
}

#[test]
fn s4_25_a_client_that_tries_the_new_transport_first_falls_back_to_the_old() {
    let app = guide(&[]);
    let first = app.post("/sse", &hello("2025-06-18"));
    assert!((400..500).contains(&first.status), "{}", first.status);
    assert_eq!(app.sse("/sse", &[]).text("example-tool", json!({"message": "hi"})), "Echo: hi");
    // And one that finds it goes on: its stream, its calls, its end.
    let opened = app.post("/mcp", &hello("2025-06-18"));
    let id = opened.header("mcp-session-id").unwrap().to_owned();
    let headers = [("mcp-session-id", id.as_str()), ("mcp-protocol-version", "2025-06-18")];
    let stream = app.events("/mcp", &headers);
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(app.wire().request("DELETE", "/mcp", &headers, None).status / 100, 2);
}

#[test]
fn s4_38_a_client_that_was_cut_off_comes_back_by_itself() {
    let dir = fresh_dir("restarts");
    let mut app = App::start_in(&dir, "guide", &[], &[]);
    let port = app.port.to_string();
    let (mut client, _) = connect(&[&url(&app, "/sse")]);
    greets(&mut client, "SSE");
    for _ in 0..2 {
        app.kill();
        std::thread::sleep(Duration::from_millis(500));
        app = App::start_in(&dir, "guide", &["--port", &port], &[]);
        assert_eq!(app.get("/health").json()["sessions"], 0);
        // Nobody has called: it is there again after two seconds, or four more.
        let began = Instant::now();
        wait_until("a new session", || app.get("/health").json()["sessions"] == 1);
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
        greets(&mut client, "SSE");
    }
    drop(app);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn s4_38_it_waits_twice_as_long_each_time() {
    let app = guide(&[]);
    let port = app.port;
    let (mut client, _) = connect(&[&url(&app, "/sse")]);
    greets(&mut client, "SSE");
    app.kill();
    let lost = Instant::now();
    // Somebody else is there now, who hangs up on whoever comes.
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let mut came: Vec<Duration> = Vec::new();
    listener.set_nonblocking(true).unwrap();
    while lost.elapsed() < Duration::from_secs(17) {
        match listener.accept() {
            // One attempt may be several connections.
            Ok(_) if came.last().is_none_or(|last| lost.elapsed() - *last > Duration::from_secs(1)) => came.push(lost.elapsed()),
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    let about: Vec<u64> = came.iter().map(|at| at.as_millis() as u64).collect();
    assert_eq!(came.len(), 3, "{about:?}");
    for (at, wanted) in about.iter().zip([2_000, 6_000, 14_000]) {
        assert!(at.abs_diff(wanted) < 1_500, "{about:?}");
    }
    // The server comes back, and is found at the next attempt or when somebody calls.
    drop(listener);
    let dir = fresh_dir("back");
    let app = App::start_in(&dir, "guide", &["--port", &port.to_string()], &[]);
    greets(&mut client, "SSE");
    assert_eq!(app.get("/health").json()["sessions"], 1);
}

#[test]
fn s4_38_a_stream_that_does_not_open_is_given_up_after_ten_seconds() {
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let began = Instant::now();
    let target = format!("http://127.0.0.1:{port}/sse");
    let mut child = gateway(&["connect", &target, "--transport", "sse"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{}", hello("2025-06-18")).unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.find(|line| line.contains("trying again in 2 s")).expect("it says that it tries again");
    assert!(said.contains("it opened no stream within 10 s"), "{said}");
    let took = began.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!((9..16).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn s4_40_bridges_lead_both_ways() {
    let app = guide(&[]);
    for (path, transport) in [("/sse", "SSE"), ("/mcp", "Streamable HTTP")] {
        greets(&mut connect(&[&url(&app, path)]).0, transport);
    }
    let served = Served::start(&["--", PROGRAM, "guide", "--mode", "stdio"]);
    for path in ["/sse", "/mcp", "/servers/landbridge-apps/mcp"] {
        let said = prints(&["call", &served.url(path), "greet", "{\"name\":\"Ada\"}"]);
        assert_eq!(said, "Hello, Ada! Welcome to the STDIO server.\n", "{path}");
    }
    // And across both at once.
    greets(&mut connect(&[&served.url("/sse")]).0, "STDIO");
}

#[test]
fn s4_55_one_client_takes_a_url_or_a_command() {
    let app = guide(&[]);
    let command = format!("{PROGRAM} guide --mode stdio");
    let targets = [(url(&app, "/sse"), "SSE"), (url(&app, "/mcp"), "Streamable HTTP"), (command, "STDIO")];
    for (target, transport) in &targets {
        let tools = prints(&["tools", target]);
        assert!(["example-tool", "greet", "robust-tool"].iter().all(|tool| tools.contains(tool)), "{target}: {tools}");
        let greeting = format!("Hello, Ada! Welcome to the {transport} server.\n");
        assert_eq!(prints(&["call", target, "greet", "{\"name\":\"Ada\"}"]), greeting);
        // The same as a bridge: its client shakes hands, and is shaken hands with.
        let (mut client, hello) = connect(&[target]);
        assert_eq!(hello["serverInfo"]["version"], "1.0.0", "{target}");
        greets(&mut client, transport);
    }
    // What begins like a URL is one, in whatever case; nothing is ever started for it.
    let loud = targets[0].0.replacen("http", "HTTP", 1);
    assert!(prints(&["tools", &loud]).contains("greet"));
    let nobody = gateway(&["tools", "http://127.0.0.1:9/sse"]).output().unwrap();
    assert!(!nobody.status.success() && String::from_utf8_lossy(&nobody.stderr).contains("cannot be reached"), "{nobody:?}");
}

#[test]
fn s4_56_a_desktop_client_starts_what_its_file_says() {
    let app = guide(&[]);
    let file = json!({"mcpServers": {"my-sse-server": {"command": landbridge(), "args": ["connect", url(&app, "/sse")]}}});
    // As a host does: the command and its arguments, as they are written there.
    let entry = &file["mcpServers"]["my-sse-server"];
    let mut command = Command::new(entry["command"].as_str().unwrap());
    command.args(entry["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()));
    greets(&mut Lines::shaken(command).0, "SSE");
    // The same file serves.
    let path = fresh_dir("desktop").join("claude_desktop_config.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let served = Served::start(&["--config", &path.display().to_string()]);
    assert!(prints(&["tools", &served.url("/mcp")]).contains("greet"));
}

#[test]
fn s4_57_a_server_on_standard_streams_is_put_on_the_network() {
    let served = Served::start(&["--", PROGRAM, "guide", "--mode", "stdio"]);
    let mut clients: Vec<Lines> = (0..2).map(|_| connect(&[&served.url("/sse")]).0).collect();
    for client in &mut clients {
        greets(client, "STDIO");
    }
}

#[test]
fn s4_58_a_server_on_the_network_is_put_on_standard_streams() {
    let app = guide(&[("GUIDE_TOKENS", "a-token-of-some-length")]);
    let (mut client, hello) = connect(&[&url(&app, "/sse"), "--header", "Authorization: Bearer a-token-of-some-length"]);
    assert_eq!(hello["serverInfo"]["name"], "sse-server");
    greets(&mut client, "SSE");
    assert!(client.ends());
    wait_until("the end of its session", || app.get("/health").json()["sessions"] == 0);
}

#[test]
fn the_way_from_one_transport_to_the_next_is_true() {
    let commands = crate::docs::page("migration.md").port(3000).port(8000).variable("PORT", "3000").run();
    assert!(commands > 10, "{commands}");
}
