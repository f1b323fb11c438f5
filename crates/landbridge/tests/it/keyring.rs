//! `landbridge connect` and the system's keyring: a real one, GNOME's, on a bus of its own; and some that are of no use.
//!
//! What is in it is looked at by somebody else's program, `secret-tool`. Whoever runs the tests has a keyring too,
//! which nobody here gets to know of.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::children::text;
use crate::connect_login::{Home, begin, hello, log_in, printed};
use crate::gateway::{tool, wait_until};
use crate::guarded::Guarded;
use crate::pipe::Pipe;

const BUS: &str = "DBUS_SESSION_BUS_ADDRESS";
const SERVICE: &str = "/org/freedesktop/secrets";
const LOGIN: &str = "/org/freedesktop/secrets/collection/login";

/// A session with a keyring, until this is dropped.
struct Session {
    directory: PathBuf,
    address: String,
    bus: Child,
    keyring: Option<Child>,
}

impl Session {
    fn start() -> Session {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("landbridge-it-keyring-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
        let (socket, config) = (directory.join("bus"), directory.join("bus.conf"));
        let address = format!("unix:path={}", socket.display());
        // Without places of services nothing else is started, such as a window that asks for a password.
        let written = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><type>session</type>\
             <listen>{address}</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>"
        );
        std::fs::write(&config, written).unwrap();
        let bus = ended_with_us("dbus-daemon").args(["--nofork", "--config-file"]).arg(config).stderr(Stdio::null()).spawn().unwrap();
        wait_until("a bus", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        let mut session = Session { directory, address, bus, keyring: None };
        session.unlock();
        session
    }

    /// Starts the keyring anew, unlocked by its password; the first one decides which that is.
    fn unlock(&mut self) {
        self.end_keyring();
        let mut keyring = ended_with_us("gnome-keyring-daemon");
        keyring.args(["--foreground", "--components=secrets", "--unlock"]).env(BUS, &self.address).env("HOME", &self.directory);
        keyring.env("XDG_RUNTIME_DIR", &self.directory).env("XDG_DATA_HOME", self.directory.join("data"));
        let mut keyring = keyring.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        keyring.stdin.take().unwrap().write_all(b"sesame").unwrap();
        self.keyring = Some(keyring);
        wait_until("a keyring", || {
            self.ask("org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", &["string:org.freedesktop.secrets"]).contains("true")
        });
        wait_until("a keyring that is there", || self.ask_keyring("ReadAlias", "string:default").contains(LOGIN));
    }

    fn lock(&self) {
        self.ask_keyring("Lock", &format!("array:objpath:{LOGIN}"));
    }

    fn ask_keyring(&self, method: &str, argument: &str) -> String {
        self.ask("org.freedesktop.secrets", SERVICE, &format!("org.freedesktop.Secret.Service.{method}"), &[argument])
    }

    fn ask(&self, name: &str, path: &str, method: &str, arguments: &[&str]) -> String {
        let mut command = Command::new("dbus-send");
        command.args(["--session", "--print-reply", &format!("--dest={name}"), path, method]).args(arguments);
        String::from_utf8(command.env(BUS, &self.address).output().unwrap().stdout).unwrap()
    }

    /// What `secret-tool` says of our items.
    fn secret_tool(&self, args: &[&str]) -> String {
        let said = Command::new("secret-tool").args(args).args(["application", "landbridge"]).env(BUS, &self.address).output().unwrap();
        format!("{}{}", String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap())
    }

    /// What is kept in its only item.
    fn kept(&self) -> Value {
        let kept = self.secret_tool(&["lookup"]);
        serde_json::from_str(&kept).unwrap_or_else(|e| panic!("{e}: {kept}"))
    }

    fn n_items(&self) -> usize {
        self.secret_tool(&["search", "--all"]).matches("label = ").count()
    }

    fn connect(&self, home: &Home, server: &Guarded, flags: &[&str]) -> Pipe {
        home.connect_with(&server.url("/mcp"), flags, &[(BUS, &self.address)])
    }

    fn end_keyring(&mut self) {
        if let Some(keyring) = self.keyring.take() {
            end(keyring);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end_keyring();
        let _ = (self.bus.kill(), self.bus.wait());
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn end(mut child: Child) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM);
    let _ = child.wait();
}

fn ended_with_us(program: &str) -> Command {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|place| place.join(program).exists());
    assert!(
        found,
        "these tests need `{program}`: `apt-get install dbus gnome-keyring libsecret-tools`, or run scripts/test, which does so"
    );
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", program]);
    command
}

/// What the file says; it is for its user only, whatever is in it.
fn file(home: &Home) -> String {
    let path = home.tokens();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::read_to_string(path).unwrap()
}

fn holds_tokens(home: &Home) -> bool {
    let text = file(home);
    assert_eq!(text.contains("access-"), text.contains("refresh-"), "{text}");
    text.contains("access-")
}

/// A copy that needs no login.
fn goes_on(mut pipe: Pipe) -> Pipe {
    pipe = pipe.speaking("2025-11-25", json!({}));
    pipe.echoes();
    assert!(printed(&pipe).is_empty(), "{}", pipe.log());
    pipe
}

fn n_told(pipe: &Pipe) -> usize {
    pipe.log().matches("the system's keyring cannot be used").count()
}

#[test]
fn tokens_are_in_the_keyring_and_change_there() {
    let (session, server, home) = (Session::start(), Guarded::start(), Home::new());
    let mut pipe = session.connect(&home, &server, &[]);
    begin(&server, &mut pipe);
    assert!(!holds_tokens(&home));
    let issuer = server.url("");
    assert_eq!(session.kept()["issuers"][&issuer]["tokens"]["access"], "access-1");
    let shown = session.secret_tool(&["search"]);
    for said in ["label = Landbridge: 127.0.0.1\n", "attribute.host = 127.0.0.1\n", "attribute.application = landbridge\n"] {
        assert!(shown.contains(said), "{shown}");
    }
    drop(pipe);
    let mut pipe = goes_on(session.connect(&home, &server, &[]));
    server.revoke();
    pipe.echoes();
    let tokens = &session.kept()["issuers"][&issuer]["tokens"];
    assert_eq!((&tokens["access"], &tokens["refresh"]), (&json!("access-2"), &json!("refresh-2")));
    assert_eq!((session.n_items(), holds_tokens(&home), n_told(&pipe)), (1, false, 0));
    assert!(!pipe.log().contains("access-2") && !pipe.log().contains("refresh-"), "{}", pipe.log());
    // Another home's are others, and who removes the item is logged out.
    let other = Home::new();
    begin(&server, &mut session.connect(&other, &server, &[]));
    assert_eq!(session.n_items(), 2);
    session.secret_tool(&["clear"]);
    begin(&server, &mut session.connect(&home, &server, &[]));
    let world = server.world.lock().unwrap();
    assert_eq!((world.logins.len(), world.refreshes), (3, 1));
    assert!(world.abuses.is_empty());
}

#[test]
fn two_copies_log_in_once_and_refresh_once_by_the_keyring() {
    let (session, server, home) = (Session::start(), Guarded::start(), Home::new());
    let mut pipes = [session.connect(&home, &server, &[]), session.connect(&home, &server, &[])];
    pipes.iter_mut().for_each(hello);
    wait_until("an address to log in at", || pipes.iter().any(|pipe| !printed(pipe).is_empty()));
    let asked = pipes.iter().position(|pipe| !printed(pipe).is_empty()).unwrap();
    log_in(&server, &pipes[asked], 1);
    for pipe in &mut pipes {
        assert_eq!(pipe.next()["id"], 1);
    }
    for round in 1..=5 {
        server.revoke();
        for pipe in &mut pipes {
            pipe.send(&tool(100 + round, "echo", json!({"message": "on"})));
        }
        for pipe in &mut pipes {
            assert_eq!(text(&pipe.next()), "on");
        }
        let world = server.world.lock().unwrap();
        assert_eq!((world.refreshes as u64, world.logins.len(), world.abuses.len()), (round, 1, 0));
    }
    assert_eq!((session.n_items(), holds_tokens(&home)), (1, false));
}

#[test]
fn long_tokens_are_kept_whole() {
    let (session, server, home) = (Session::start(), Guarded::start(), Home::new());
    server.world.lock().unwrap().long = 16_000;
    begin(&server, &mut session.connect(&home, &server, &[]));
    let kept = session.kept();
    let refresh = kept["issuers"][&server.url("")]["tokens"]["refresh"].as_str().unwrap();
    assert_eq!(refresh, format!("refresh-1{}", "x".repeat(16_000)));
    server.revoke();
    goes_on(session.connect(&home, &server, &[]));
    let world = server.world.lock().unwrap();
    assert_eq!((world.logins.len(), world.refreshes, world.abuses.len()), (1, 1, 0));
    assert!(!holds_tokens(&home));
}

#[test]
fn what_is_in_a_file_counts_and_moves_when_it_is_written_again() {
    let (session, server, home) = (Session::start(), Guarded::start(), Home::new());
    begin(&server, &mut home.connect_with(&server.url("/mcp"), &[], &[]));
    assert!(holds_tokens(&home));
    let mut pipe = goes_on(session.connect(&home, &server, &[]));
    assert!(holds_tokens(&home) && session.n_items() == 0);
    server.revoke();
    pipe.echoes();
    assert!(!holds_tokens(&home) && session.n_items() == 1);
    goes_on(session.connect(&home, &server, &[]));
    assert_eq!(server.world.lock().unwrap().logins.len(), 1);
}

#[test]
fn a_locked_keyring_that_nobody_unlocks_costs_a_login_and_no_more() {
    let (mut session, server, home) = (Session::start(), Guarded::start(), Home::new());
    begin(&server, &mut session.connect(&home, &server, &[]));
    session.lock();
    // What cannot be read is not forgotten because nobody logs in, nor by a copy that reaches no keyring.
    for address in [&*session.address, ""] {
        let mut pipe = home.connect_with(&server.url("/mcp"), &["--login-timeout", "1"], &[(BUS, address)]);
        hello(&mut pipe);
        assert!(pipe.next()["error"]["message"].as_str().is_some_and(|told| told.contains("nobody finished the login")));
    }
    session.unlock();
    goes_on(session.connect(&home, &server, &[]));
    session.lock();
    let mut pipe = session.connect(&home, &server, &[]);
    begin(&server, &mut pipe);
    assert!(holds_tokens(&home), "{}", pipe.log());
    assert_eq!(n_told(&pipe), 1, "{}", pipe.log());
    // What is in the file is newer than what the keyring has.
    session.unlock();
    let mut pipe = goes_on(session.connect(&home, &server, &[]));
    server.revoke();
    pipe.echoes();
    assert!(!holds_tokens(&home) && session.n_items() == 1);
    let world = server.world.lock().unwrap();
    assert_eq!((world.logins.len(), world.abuses.len()), (2, 0));
}

#[test]
fn a_keyring_that_does_not_answer_is_done_without() {
    // One that accepts and says nothing, one that says what is no D-Bus, one that is not there.
    for said in [Some(""), Some("HTTP/1.1 400 Bad Request\r\n\r\n"), None] {
        let (server, home) = (Guarded::start(), Home::new());
        let socket = std::env::temp_dir().join(format!("landbridge-it-mute-{}-{}", std::process::id(), server.port));
        if let Some(said) = said {
            let listener = UnixListener::bind(&socket).unwrap();
            std::thread::spawn(move || {
                let mut all = Vec::new();
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.write_all(said.as_bytes()).unwrap();
                    all.push(stream);
                }
            });
        }
        let address = format!("unix:path={},guid=0", socket.display());
        let connect = |flags: &[&str]| home.connect_with(&server.url("/mcp"), flags, &[(BUS, &address)]);
        let mut pipe = connect(&[]);
        begin(&server, &mut pipe);
        assert!(holds_tokens(&home));
        server.revoke();
        pipe.echoes();
        assert_eq!(n_told(&pipe), 1, "{}", pipe.log());
        goes_on(connect(&[]));
        // Whoever wants a keyring or nothing has what they get until they end.
        server.revoke();
        let pipe = goes_on(connect(&["--token-store", "keyring"]));
        wait_until("a word of it", || pipe.log().contains("the next start will need a login"));
        assert!(!file(&home).contains("access-3"));
        assert_eq!(server.world.lock().unwrap().logins.len(), 1);
        let _ = std::fs::remove_file(socket);
    }
}

#[test]
fn who_wants_a_file_has_one() {
    let (session, server, home) = (Session::start(), Guarded::start(), Home::new());
    begin(&server, &mut session.connect(&home, &server, &["--token-store", "file"]));
    let mut pipe = goes_on(session.connect(&home, &server, &[]));
    // It stays one, also by those that would do otherwise, until somebody says so.
    server.revoke();
    pipe.echoes();
    assert!(holds_tokens(&home) && session.n_items() == 0);
    server.revoke();
    goes_on(session.connect(&home, &server, &["--token-store", "keyring"]));
    assert!(!holds_tokens(&home) && session.n_items() == 1);
    let mut pipe = home.connect_with(&server.url("/mcp"), &["--token-store", "keyring"], &[]);
    assert!(!pipe.wait().success());
    assert!(pipe.log().contains("DBUS_SESSION_BUS_ADDRESS is not set"), "{}", pipe.log());
}

#[test]
fn copies_that_differ_in_what_they_reach_do_not_log_each_other_out() {
    let (session, server, home) = (Session::start(), Guarded::start(), Home::new());
    let mut with = session.connect(&home, &server, &[]);
    begin(&server, &mut with);
    let mut without = home.connect_with(&server.url("/mcp"), &[], &[]);
    begin(&server, &mut without);
    assert_eq!(n_told(&without), 1, "{}", without.log());
    for _ in 0..2 {
        for pipe in [&mut with, &mut without] {
            server.revoke();
            pipe.echoes();
        }
    }
    assert!(holds_tokens(&home));
    let world = server.world.lock().unwrap();
    assert_eq!((world.logins.len(), world.refreshes, world.abuses.len()), (2, 4, 0));
}
