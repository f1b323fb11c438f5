//! Accounts and keys as a stranger makes them, at the binary: what a restart keeps, what the log does not hold, and
//! what a server behind us never gets to see.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;

use crate::authority_races::Scratch;
use crate::foreign::Foreign;
use crate::gateway::{Gateway, config_file, wait_until};
use crate::visitors::{App, Browser, Tokens, ask, bearer, landed, sheet, status};
use crate::wire::Wire;

/// `landbridge …`, with this on its standard input and its home in a directory of its own.
fn landbridge(home: &Scratch, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_landbridge"))
        .args(args)
        .env("LANDBRIDGE_HOME", home.path("home"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What it prints, if all went well.
#[track_caller]
pub fn said(home: &Scratch, args: &[&str], input: &str) -> String {
    let output = landbridge(home, args, input);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it says if not.
#[track_caller]
fn failed(home: &Scratch, args: &[&str], input: &str) -> String {
    let output = landbridge(home, args, input);
    assert!(!output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(output.stdout.is_empty(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn accounts_are_made_listed_and_removed() {
    let home = Scratch::new();
    assert_eq!(said(&home, &["user", "list"], ""), "");
    let made = said(&home, &["user", "add", "Ada"], "");
    assert!(made.starts_with("ada can log in."), "{made}");
    let password = made.lines().find_map(|line| line.strip_prefix("    ")).unwrap();
    assert_eq!((password.len(), password.matches('-').count()), (23, 3), "{password}");
    let again = said(&home, &["user", "add", "ada", "--password-stdin"], "correct horse battery\n");
    assert_eq!(again.trim(), "ada has another password.");
    said(&home, &["user", "add", "bob.2", "--password-stdin"], "correct horse battery");
    let list = said(&home, &["user", "list"], "");
    let names: Vec<&str> = list.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["ada", "bob.2"]);
    for (name, password) in [
        ("", "correct horse"),
        ("a b", "correct horse"),
        ("ü", "correct horse"),
        ("-a", "correct horse"),
        ("eve", "short"),
        ("eveeveeve", "eveeveeve"),
        ("eve", ""),
    ] {
        failed(&home, &["user", "add", "--password-stdin", "--", name], password);
    }
    let removed = said(&home, &["user", "remove", "ADA"], "");
    assert!(removed.starts_with("ada cannot log in any more; 0 applications"), "{removed}");
    assert!(failed(&home, &["user", "remove", "ada"], "").contains("nobody is called ada"));
    assert_eq!(said(&home, &["user", "list"], "").lines().count(), 1);
    assert!(failed(&home, &["user", "list", "--store", "memory:"], "").contains("memory:"));
    let secret = failed(&home, &["user", "list", "--store", "mysql://u:hunter2@h/d"], "");
    assert!(!secret.contains("hunter2"), "{secret}");
    // Only its owner reads the store.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |name: &str| std::fs::metadata(home.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("home"), mode("home/store.db")), (0o700, 0o600));
    }
    // Neither the password nor anything that it could be guessed from faster than it is meant to be.
    let kept = std::fs::read(home.path("home/store.db")).unwrap();
    assert!(!String::from_utf8_lossy(&kept).contains("correct horse"));
}

#[test]
fn keys_are_made_shown_once_and_revoked() {
    let home = Scratch::new();
    let key = said(&home, &["key", "add", "--owner", "ada", "--scope", "read", "--server", "a", "--expires", "90d"], "");
    let key = key.trim();
    assert!(key.starts_with("lbk_") && key.len() == 4 + 12 + 1 + 43, "{key}");
    let list = said(&home, &["key", "list"], "");
    let id = &key[4..16];
    assert!(list.starts_with(&format!("{id}  owner ada  scopes read  servers a  since ")), "{list}");
    assert!(!list.contains(&key[17..]) && list.contains("expires 20"), "{list}");
    let other = said(&home, &["key", "add", "--owner", "bob"], "");
    assert!(said(&home, &["key", "list"], "").contains("owner bob  scopes all  servers all"));
    for args in
        [&["--expires", "yesterday"][..], &["--expires", "2001-01-01"], &["--expires", "0d"], &["--owner", " "], &["--owner", "a\nb"]]
    {
        let mut all = vec!["key", "add"];
        if args[0] != "--owner" {
            all.extend(["--owner", "eve"]);
        }
        all.extend(args);
        failed(&home, &all, "");
    }
    assert!(failed(&home, &["key", "add"], "").contains("--owner"));
    assert_eq!(said(&home, &["key", "revoke", id], "").trim(), format!("The key {id} is revoked."));
    assert!(failed(&home, &["key", "revoke", id], "").contains(id));
    assert!(failed(&home, &["key", "revoke", other.trim()], "").contains("no key has the id"));
    assert_eq!(said(&home, &["key", "list"], "").lines().count(), 1);
    let kept = std::fs::read(home.path("home/store.db")).unwrap();
    assert!(!String::from_utf8_lossy(&kept).contains(&other.trim()[17..]));
}

// --- a gateway that ends and begins again -------------------------------------------------------

const PASSWORD: &str = "correct horse battery";

fn serve(config: &str, store: &str) -> Gateway {
    let file = config_file(config);
    let gateway = Gateway::here(&["--config", file.to_str().unwrap(), "--store", store], &[]);
    let _ = std::fs::remove_file(file);
    gateway
}

/// A gateway at a port that is the same every time, as its URL is part of its tokens.
struct Settled {
    port: u16,
    child: Child,
}

impl Settled {
    fn start(port: u16, config: &str, store: &str) -> Settled {
        let file = config_file(config);
        let listen = format!("127.0.0.1:{port}");
        let child = Command::new(env!("CARGO_BIN_EXE_landbridge"))
            .args(["serve", "--listen", &listen, "--store", store, "--config", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("a gateway to listen", || TcpStream::connect(&listen).is_ok());
        let _ = std::fs::remove_file(file);
        Settled { port, child }
    }

    fn wire(&self) -> Wire {
        Wire::connect(self.port)
    }
}

impl Drop for Settled {
    /// As a crash ends it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free just now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_restart_keeps_logins_and_no_sessions() {
    let home = Scratch::new();
    let store = home.url();
    said(&home, &["user", "add", "ada", "--password-stdin", "--store", &store], PASSWORD);
    let port = free_port();
    for signed in ["", "signed = true\n"] {
        let config = format!("[auth]\nmode = \"oauth\"\n{signed}[servers.a]\ndemo = true\n");
        let before = Settled::start(port, &config, &store);
        let app = App::register(before.port, "app");
        let mut browser = Browser::new(before.port);
        let done = browser.agree(&app, "ada");
        let tokens = Tokens::of(&app.redeem(done.get("code").unwrap()));
        assert_eq!(tokens.access.matches('.').count(), if signed.is_empty() { 0 } else { 2 });
        let code = browser.agree(&app, "ada");
        let keys = before.wire().request("GET", "/jwks", &[], None).text();
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let with = bearer(&tokens.access);
        let opened = before.wire().post("/mcp", &[("authorization", &with)], &hello.to_string());
        let session = opened.header("mcp-session-id").unwrap().to_owned();
        drop(before);

        let after = Settled::start(port, &config, &store);
        assert_eq!(status(after.port, "/mcp", &tokens.access), 200);
        assert_eq!(after.wire().request("GET", "/jwks", &[], None).text(), keys);
        let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}).to_string();
        let lost = after.wire().post("/mcp", &[("authorization", &with), ("mcp-session-id", &session)], &ping);
        assert_eq!(lost.status, 404, "its client begins another");
        let next = Tokens::of(&app.refresh(&tokens.refresh));
        assert_eq!(status(after.port, "/mcp", &next.access), 200);
        // A code that was waiting is good, and one that was used is not good again.
        Tokens::of(&app.redeem(code.get("code").unwrap()));
        assert_eq!(app.redeem(done.get("code").unwrap()).status, 400);
        assert_eq!(status(after.port, "/mcp", &next.access), 401);
        // Who was signed in still is.
        let mut again = Browser::new(after.port);
        again.jar = browser.jar;
        let page = again.get(&app.ask(&[]));
        assert_eq!(page.status, 302, "{}", page.text());
    }
}

#[test]
fn what_is_removed_or_revoked_elsewhere_ends_here() {
    let home = Scratch::new();
    let store = home.url();
    for name in ["ada", "bob"] {
        said(&home, &["user", "add", name, "--password-stdin", "--store", &store], PASSWORD);
    }
    let key = said(&home, &["key", "add", "--owner", "ci", "--store", &store], "").trim().to_owned();
    let gateway = serve("[auth]\nmode = \"oauth\"\n[servers.a]\ndemo = true\n", &store);
    let app = App::register(gateway.port, "app");
    let (ada, bob) = (app.log_in("ada"), app.log_in("bob"));
    let keyed = || ask(gateway.port, "/mcp", &[("x-api-key", &key)], "tools/list", json!({})).status;
    assert_eq!((status(gateway.port, "/mcp", &ada.access), keyed()), (200, 200));
    let removed = said(&home, &["user", "remove", "ada", "--store", &store], "");
    assert!(removed.contains("; 1 applications are shut out"), "{removed}");
    said(&home, &["key", "revoke", &key[4..16], "--store", &store], "");
    // What was seen a moment ago counts for a quarter of a minute at most.
    wait_until("the key and the tokens to end", || status(gateway.port, "/mcp", &ada.access) == 401 && keyed() == 401);
    assert_eq!(app.refresh(&ada.refresh).status, 400);
    assert_eq!(status(gateway.port, "/mcp", &bob.access), 200);
    let refused = Browser::new(gateway.port).sign_in(&app.ask(&[]), "ada", PASSWORD);
    assert_eq!(refused.status, 400);
}

// --- what nobody gets to see --------------------------------------------------------------------

#[test]
fn no_secret_is_logged_or_passed_on() {
    let home = Scratch::new();
    let store = home.url();
    said(&home, &["user", "add", "ada", "--password-stdin", "--store", &store], PASSWORD);
    let key = said(&home, &["key", "add", "--owner", "ci", "--store", &store], "").trim().to_owned();
    let stateless = Foreign::stateless(|heard, reply| reply.text(heard, &format!("{:?}", heard.headers)));
    let sessions = Foreign::sessions("2025-06-18", |heard, reply| reply.text(heard, &format!("{:?}", heard.headers)));
    let config = format!(
        "[auth]\nmode = \"oauth\"\n[servers.new]\nurl = \"{}\"\n[servers.old]\nurl = \"{}\"\n",
        stateless.url("/mcp"),
        sessions.url("/mcp")
    );
    let gateway = serve(&config, &store);
    let confidential = json!({"redirect_uris": ["http://127.0.0.1/done"], "grant_types": ["authorization_code", "refresh_token"]});
    let app = App::registered(gateway.port, &confidential);
    let mut secrets = vec![PASSWORD.to_owned(), "wrong password".into(), key.clone(), key[17..].to_owned(), app.verifier.clone()];
    secrets.extend(app.secret.clone());
    let mut browser = Browser::new(gateway.port);
    let page = browser.get(&app.ask(&[("state", "a-state-of-the-clients")]));
    secrets.push("a-state-of-the-clients".into());
    secrets.push(browser.jar["landbridge"].clone());
    let form = sheet(&page, "/login");
    browser.send(&form.clone().with("user", "ada").with("password", "wrong password"));
    let signed_in = browser.send(&form.clone().with("user", "ada").with("password", PASSWORD));
    let consent = browser.get(signed_in.header("location").unwrap());
    secrets.push(browser.jar["landbridge"].clone());
    let form = sheet(&consent, "/consent");
    secrets.extend([form.field("csrf").to_owned(), form.field("request").to_owned()]);
    let done = landed(&browser.send(&form.with("decision", "allow")), &app.redirect);
    let code = done.get("code").unwrap().to_owned();
    let tokens = Tokens::of(&app.redeem(&code));
    let next = Tokens::of(&app.refresh(&tokens.refresh));
    for path in ["/servers/new/mcp", "/servers/old/mcp"] {
        let params = || json!({"name": "headers", "arguments": {}});
        let more = [
            ("authorization", bearer(&next.access)),
            ("cookie", format!("landbridge={}", browser.jar["landbridge"])),
            ("x-api-key", key.clone()),
        ];
        let both: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for headers in [&both[..1], &both[..2], &both[2..], &both[..]] {
            let answer = ask(gateway.port, path, headers, "tools/call", params());
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let wrong = bearer(&format!("{}x", next.access));
        assert_eq!(ask(gateway.port, path, &[("authorization", &wrong)], "tools/call", params()).status, 401);
        let hidden = format!("{path}?access_token={}", next.access);
        assert_eq!(ask(gateway.port, &hidden, &[], "tools/call", params()).status, 400);
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let opened = gateway.wire().post(path, &both[..1], &hello.to_string());
        assert_eq!(opened.status, 200);
    }
    app.post("/introspect", &[("token", &next.access)], &[]);
    assert_eq!(app.redeem(&code).status, 400);
    app.post("/revoke", &[("token", &next.refresh)], &[]);
    assert_eq!(gateway.wire().request("GET", &format!("/nowhere?code={code}"), &[], None).status, 404);
    secrets.extend([code, tokens.access, tokens.refresh, next.access, next.refresh]);

    gateway.wait_for_log("consent agreed");
    let log = gateway.log();
    let heard: Vec<String> = [stateless.heard(), sessions.heard()].concat().iter().map(|heard| format!("{heard:?}")).collect();
    assert!(heard.len() > 8 && log.contains("login ok") && log.contains("shown twice"), "{log}");
    for secret in &secrets {
        assert!(secret.len() > 10, "{secret}");
        assert!(!log.contains(secret.as_str()), "{secret} is in the log:\n{log}");
        assert!(heard.iter().all(|heard| !heard.contains(secret.as_str())), "{secret} was passed on");
    }
    for heard in [stateless.heard(), sessions.heard()].concat() {
        for name in ["authorization", "cookie", "x-api-key"] {
            assert_eq!(heard.header(name), None, "{heard:?}");
        }
    }
    // Nor is any of it in the store.
    let mut kept = std::fs::read(home.path("store.db")).unwrap();
    kept.extend(std::fs::read(home.path("store.db-wal")).unwrap_or_default());
    let kept = String::from_utf8_lossy(&kept);
    for secret in secrets.iter().filter(|secret| *secret != "a-state-of-the-clients") {
        assert!(!kept.contains(secret.as_str()), "{secret} is in the store");
    }
}
