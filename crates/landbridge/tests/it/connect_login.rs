//! `landbridge connect` at a server that wants a login: the login, what is kept of it, and what two copies do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use landbridge::backend::http::Http;
use landbridge::plan::{Access, By};
use landbridge::vault::{Barred, Pass, Tries};
use landbridge_proto::oauth::login::Own;
use serde_json::{Value, json};

use crate::children::text;
use crate::gateway::{Gateway, config_file, tool, wait_until};
use crate::guarded::{Guarded, fetch};
use crate::pipe::{Pipe, initialize};
use crate::wire::Wire;

/// A `LANDBRIDGE_HOME` of its own.
pub struct Home(PathBuf);

impl Home {
    pub fn new() -> Home {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Home(std::env::temp_dir().join(format!("landbridge-home-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))))
    }

    /// The file for the tokens of the only server.
    pub fn tokens(&self) -> PathBuf {
        let kept = std::fs::read_dir(self.0.join("tokens")).unwrap().map(|entry| entry.unwrap().path());
        let mut kept = kept.filter(|path| path.extension().is_some_and(|e| e == "json"));
        kept.next().expect("a file with tokens")
    }

    /// A copy of `connect` for that server, that opens no browser.
    fn connect(&self, url: &str, flags: &[&str]) -> Pipe {
        self.connect_with(url, flags, &[])
    }

    /// The same with environment variables.
    pub fn connect_with(&self, url: &str, flags: &[&str], env: &[(&str, &str)]) -> Pipe {
        let args: Vec<&str> = [url, "--no-browser"].iter().chain(flags).copied().collect();
        let ours = [("LANDBRIDGE_HOME", self.0.to_str().unwrap()), ("RUST_LOG", "landbridge=debug")];
        Pipe::start_with(&args, &[&ours, env].concat())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn hello(pipe: &mut Pipe) {
    pipe.send(&initialize(1, "2025-11-25", &json!({})));
}

/// The addresses that were printed to log in at.
pub fn printed(pipe: &Pipe) -> Vec<String> {
    let is_url = |line: &&str| line.starts_with("http://127.0.0.1:") && line.contains("/authorize?");
    pipe.log().lines().map(str::trim).filter(is_url).map(str::to_owned).collect()
}

/// The how-manieth address, when it is there.
fn address(pipe: &Pipe, nth: usize) -> String {
    wait_until("an address to log in at", || printed(pipe).len() >= nth);
    printed(pipe).swap_remove(nth - 1)
}

pub fn log_in(server: &Guarded, pipe: &Pipe, nth: usize) {
    let (status, page) = server.follow(&address(pipe, nth));
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("You are logged in") && !page.contains("<script"), "{page}");
}

/// The same, as far as the client has its hello.
pub fn begin(server: &Guarded, pipe: &mut Pipe) {
    hello(pipe);
    log_in(server, pipe, 1);
    let answer = pipe.next();
    assert!(answer["result"]["protocolVersion"].is_string(), "{answer}");
}

fn echo(pipe: &mut Pipe) {
    pipe.echoes();
}

#[test]
fn connect_logs_in_and_holds_the_handshake_until_it_has() {
    for path in ["/mcp", "/sse"] {
        let (server, home) = (Guarded::start(), Home::new());
        let mut pipe = home.connect(&server.url(path), &[]);
        hello(&mut pipe);
        let url = address(&pipe, 1);
        // Whatever else is asked meanwhile waits as well.
        pipe.send(&json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}));
        log_in(&server, &pipe, 1);
        let answers = [pipe.next(), pipe.next()];
        assert!(answers.iter().any(|a| a["id"] == 1 && a["result"]["serverInfo"]["name"] == "guarded"), "{answers:?}");
        echo(&mut pipe);
        let world = server.world.lock().unwrap();
        assert_eq!((world.logins.as_slice(), world.registrations, world.redeemed), (&["use".to_owned()][..], 1, 1));
        assert!(url.contains("code_challenge_method=S256") && world.abuses.is_empty());
        for secret in world.access.keys() {
            assert!(!pipe.log().contains(secret), "{}", pipe.log());
        }
    }
}

#[test]
fn connect_for_a_stateless_client_logs_in_too() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &[]).speaking("2026-07-28", json!({}));
    pipe.send(&pipe.tool_request(7, "echo", json!({"message": "hi"})));
    log_in(&server, &pipe, 1);
    assert_eq!(text(&pipe.next()), "hi");
}

#[cfg(unix)]
#[test]
fn connect_keeps_tokens_where_nobody_else_reads_them_and_needs_no_second_login() {
    use std::os::unix::fs::PermissionsExt as _;
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &[]);
    begin(&server, &mut pipe);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let file = home.tokens();
    assert_eq!((mode(&file), mode(file.parent().unwrap()), mode(&file.with_extension("lock"))), (0o600, 0o700, 0o600));
    assert!(std::fs::read_to_string(&file).unwrap().contains("access-1"));
    drop(pipe);
    let mut pipe = home.connect(&server.url("/mcp"), &[]).speaking("2025-11-25", json!({}));
    echo(&mut pipe);
    assert_eq!(server.world.lock().unwrap().logins.len(), 1);
    // Another server's are others.
    let other = Guarded::start();
    let mut pipe = home.connect(&other.url("/mcp"), &[]);
    begin(&other, &mut pipe);
    assert_eq!(server.world.lock().unwrap().logins.len(), 1);
}

#[cfg(unix)]
#[test]
fn connect_opens_the_browser_that_is_named_without_a_shell() {
    let (server, home) = (Guarded::start(), Home::new());
    std::fs::create_dir_all(&home.0).unwrap();
    let told = home.0.join("told");
    // `%s` stands for the address; what the shell of ours here is told is its first word and no more.
    let browser = format!("sh -c 'echo \"$0 $#\" > \"{}\"' %s", told.display());
    let args = [&server.url("/mcp")[..]];
    let mut pipe = Pipe::start_with(&args, &[("LANDBRIDGE_HOME", home.0.to_str().unwrap()), ("BROWSER", &browser)]);
    hello(&mut pipe);
    let url = address(&pipe, 1);
    wait_until("the browser to be told", || std::fs::read_to_string(&told).is_ok_and(|text| text.ends_with('\n')));
    assert_eq!(std::fs::read_to_string(&told).unwrap(), format!("{url} 0\n"));
    server.follow(&url);
    assert_eq!(pipe.next()["id"], 1);
}

#[test]
fn connect_refreshes_before_a_token_ends_and_when_it_is_refused() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &[]);
    begin(&server, &mut pipe);
    server.revoke();
    // Many notice, one refreshes.
    for id in 100..120 {
        pipe.send(&tool(id, "echo", json!({"message": "on"})));
    }
    for _ in 100..120 {
        assert_eq!(text(&pipe.next()), "on");
    }
    {
        let mut world = server.world.lock().unwrap();
        assert_eq!((world.refreshes, world.logins.len(), world.abuses.len()), (1, 1, 0));
        world.lifetime_s = Some(0);
    }
    server.revoke();
    echo(&mut pipe);
    // From now on each is over at once, so each request has another.
    let before = server.world.lock().unwrap().refreshes;
    echo(&mut pipe);
    let world = server.world.lock().unwrap();
    assert!(world.refreshes > before && world.logins.len() == 1 && world.abuses.is_empty());
}

#[test]
fn connect_asks_the_user_again_when_nothing_else_helps() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &[]);
    begin(&server, &mut pipe);
    server.revoke();
    server.world.lock().unwrap().forgetful = true;
    pipe.send(&tool(7, "echo", json!({"message": "hi"})));
    let url = address(&pipe, 2);
    server.world.lock().unwrap().forgetful = false;
    assert_eq!(server.follow(&url).0, 200);
    assert_eq!(text(&pipe.next()), "hi");
    let world = server.world.lock().unwrap();
    // Whoever does not know us is not asked as whom it does not know.
    assert_eq!((world.logins.len(), world.registrations), (2, 2));
}

#[test]
fn an_authorization_server_that_is_down_costs_no_login() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &[]);
    begin(&server, &mut pipe);
    server.world.lock().unwrap().down = true;
    server.revoke();
    pipe.send(&tool(7, "echo", json!({})));
    let answer = pipe.next();
    assert!(
        answer["error"]["message"].as_str().is_some_and(|said| said.contains("no new token now: it answers with HTTP 503")),
        "{answer}"
    );
    server.world.lock().unwrap().down = false;
    echo(&mut pipe);
    assert_eq!(server.world.lock().unwrap().logins.len(), 1);
}

#[test]
fn a_server_that_refuses_every_token_leads_to_one_login_and_not_to_another() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &[]);
    begin(&server, &mut pipe);
    server.world.lock().unwrap().refuses = true;
    pipe.send(&tool(7, "echo", json!({})));
    log_in(&server, &pipe, 2);
    let answer = pipe.next();
    assert!(answer["error"]["message"].as_str().is_some_and(|said| said.contains("HTTP 401")), "{answer}");
    for id in 8..11 {
        pipe.send(&tool(id, "echo", json!({})));
        assert!(pipe.next()["error"].is_object());
    }
    assert_eq!(server.world.lock().unwrap().logins.len(), 2);
    server.world.lock().unwrap().refuses = false;
    echo(&mut pipe);
}

#[test]
fn two_copies_log_in_once_and_refresh_once() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipes = [home.connect(&server.url("/mcp"), &[]), home.connect(&server.url("/mcp"), &[])];
    pipes.iter_mut().for_each(hello);
    wait_until("an address to log in at", || pipes.iter().any(|pipe| !printed(pipe).is_empty()));
    let asked = pipes.iter().position(|pipe| !printed(pipe).is_empty()).unwrap();
    log_in(&server, &pipes[asked], 1);
    for pipe in &mut pipes {
        assert_eq!(pipe.next()["id"], 1);
    }
    assert_eq!(pipes.iter().map(|pipe| printed(pipe).len()).sum::<usize>(), 1);
    for round in 1..=5 {
        server.revoke();
        for pipe in &mut pipes {
            pipe.send(&tool(100 + round, "echo", json!({"message": "on"})));
        }
        for pipe in &mut pipes {
            assert_eq!(text(&pipe.next()), "on");
        }
        let world = server.world.lock().unwrap();
        assert_eq!((world.refreshes as u64, world.logins.len(), world.registrations), (round, 1, 1));
        assert!(world.abuses.is_empty(), "{:?}", world.abuses);
    }
}

#[test]
fn connect_asks_for_more_when_a_call_needs_more_and_for_all_it_had() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &[]);
    begin(&server, &mut pipe);
    pipe.send(&tool(7, "admin", json!({})));
    log_in(&server, &pipe, 2);
    assert_eq!(text(&pipe.next()), "done");
    echo(&mut pipe);
    let world = server.world.lock().unwrap();
    assert_eq!(world.logins, ["use", "use admin"]);
    assert_eq!(world.registrations, 1);
}

#[test]
fn connect_asks_once_for_what_it_does_not_get() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &["--scope", "use"]);
    begin(&server, &mut pipe);
    pipe.send(&tool(7, "admin", json!({})));
    let url = address(&pipe, 2);
    server.follow(&url);
    // The user has agreed to less than that.
    server.world.lock().unwrap().access.values_mut().for_each(|scope| *scope = "use".into());
    pipe.next();
    server.world.lock().unwrap().access.values_mut().for_each(|scope| *scope = "use".into());
    for id in 8..11 {
        pipe.send(&tool(id, "admin", json!({})));
        let answer = pipe.next();
        assert!(answer["error"]["message"].as_str().is_some_and(|said| said.contains("403")), "{answer}");
    }
    assert_eq!(server.world.lock().unwrap().logins.len(), 2);
}

#[test]
fn a_forged_answer_is_not_for_us_and_one_of_another_issuer_ends_the_login() {
    let (server, home) = (Guarded::start(), Home::new());
    let mut pipe = home.connect(&server.url("/mcp"), &[]);
    hello(&mut pipe);
    let url = address(&pipe, 1);
    server.world.lock().unwrap().iss = Some("https://evil.example.com".into());
    server.world.lock().unwrap().error = Some("sesame");
    let good = server.authorize(&url);
    let callback = good.split('?').next().unwrap();
    let origin = callback.strip_suffix("/callback").unwrap();
    for (forged, status) in [
        (format!("{callback}?code=x"), 400),
        (format!("{callback}?code=x&state=y&iss={}", server.url("")), 400),
        (format!("{callback}?error=access_denied&state="), 400),
        (callback.to_owned(), 404),
        (format!("{origin}/"), 404),
        (format!("{origin}/callback/x?code=x"), 404),
        (format!("{origin}/favicon.ico"), 404),
    ] {
        let (answered, page) = fetch(&forged);
        assert_eq!(answered, status, "{forged}");
        assert!(!page.contains("logged in"), "{page}");
    }
    let port = callback.split(':').nth(2).unwrap().split('/').next().unwrap().parse().unwrap();
    // Somebody who never says what they want takes nobody's place.
    let idle: Vec<Wire> = (0..8).map(|_| Wire::connect(port)).collect();
    let (status, page) = fetch(&good);
    assert_eq!(status, 400);
    assert!(!page.contains("sesame"), "{page}");
    let answer = pipe.next();
    let said = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(said.contains("was not from") && !said.contains("sesame") && !said.contains("evil"), "{said}");
    assert_eq!(server.world.lock().unwrap().redeemed, 0);
    drop(idle);
    // It listens no more.
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_login_that_is_refused_or_left_ends_with_a_word_to_the_client() {
    for (error, said) in [(Some("access_denied"), "did not succeed: sesame (access_denied)"), (None, "nobody finished the login")] {
        let (server, home) = (Guarded::start(), Home::new());
        server.world.lock().unwrap().error = error;
        let mut pipe = home.connect(&server.url("/mcp"), &["--login-timeout", if error.is_some() { "60" } else { "1" }]);
        hello(&mut pipe);
        let url = address(&pipe, 1);
        if error.is_some() {
            server.follow(&url);
        }
        let answer = pipe.next();
        assert!(answer["error"]["message"].as_str().is_some_and(|told| told.contains(said) && told.contains("wants a login")), "{answer}");
        assert_eq!(server.world.lock().unwrap().redeemed, 0);
    }
}

#[test]
fn a_header_of_the_users_own_is_all_that_is_sent() {
    let (server, home) = (Guarded::start(), Home::new());
    server.world.lock().unwrap().access.insert("mine".into(), "use".into());
    let url = server.url("/mcp");
    let mut pipe = home.connect(&url, &["--header", "Authorization: Bearer mine"]).speaking("2025-11-25", json!({}));
    echo(&mut pipe);
    let mut pipe = home.connect(&url, &["--header", "Authorization: Bearer other"]);
    hello(&mut pipe);
    let answer = pipe.next();
    assert!(answer["error"]["message"].as_str().is_some_and(|said| said.contains("HTTP 401")), "{answer}");
    assert!(server.world.lock().unwrap().logins.is_empty() && !home.0.exists());
}

#[test]
fn serve_gets_tokens_of_its_own_as_a_client_without_a_user() {
    let server = Guarded::start();
    // `me:s%20t` (RFC 6749 §2.3.1)
    server.world.lock().unwrap().machine = Some(("me", "Basic bWU6cyUyMHQ=".into()));
    let text_of = |secret: &str| {
        let url = server.url("/mcp");
        format!("[servers.far]\nurl = \"{url}\"\nauth = {{ client_id = \"me\", client_secret = \"{secret}\", scope = \"use\" }}\n")
    };
    let file = config_file(&text_of("${MACHINE_SECRET}"));
    let gateway = Gateway::here(&["--config", file.to_str().unwrap()], &[("MACHINE_SECRET", "s t")]);
    let session = gateway.session("2025-11-25");
    for round in 1..=3 {
        assert_eq!(text(&session.tool(round, "echo", json!({"message": "hi"}))), "hi");
        server.revoke();
    }
    assert_eq!(server.world.lock().unwrap().redeemed, 3);
    std::fs::remove_file(file).unwrap();
    let file = config_file(&text_of("wrong"));
    let gateway = Gateway::here(&["--config", file.to_str().unwrap()], &[]);
    let (headers, body) = crate::gateway::stateless_request(1, "tools/list", json!({}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer: Value = gateway.wire().post("/mcp", &headers, &body).json();
    assert!(answer["error"]["message"].as_str().is_some_and(|said| said.contains("gives no token: invalid_client")), "{answer}");
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn a_visitor_is_told_where_to_log_in_and_let_in_afterwards() {
    let (server, home) = (Guarded::start(), Home::new());
    let auth = Access { own: Own::default(), scope: None, by: By::Visitor };
    let url: http::Uri = server.url("/mcp").parse().unwrap();
    let http = Http::new(false).unwrap();
    let pass = |user: &str| Arc::new(Pass::new(&url, user, &auth, &http, Some(&home.0)));
    let (alice, bob) = (pass("alice"), pass("bob"));
    assert!(alice.bearer().await.unwrap().is_none());
    let refused = async |pass: &Arc<Pass>| {
        let challenge = format!("Bearer resource_metadata=\"{}\", scope=\"use\"", server.url("/.well-known/oauth-protected-resource"));
        let headers = http::HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap())]);
        pass.refused(&mut Tries::default(), None, http::StatusCode::UNAUTHORIZED, &headers).await
    };
    let Err(Barred::Login(wanted)) = refused(&alice).await else { panic!("a login is needed") };
    let login = alice.begin(&wanted, "http://127.0.0.1:1/back").await.unwrap();
    let url = login.url();
    let back = server.authorize(&url);
    let code = login.handle_callback(back.split_once('?').unwrap().1).unwrap();
    alice.finish(&login, &code).await.unwrap();
    assert_eq!(alice.bearer().await.unwrap().unwrap(), "Bearer access-1");
    assert_eq!(pass("alice").bearer().await.unwrap().unwrap(), "Bearer access-1");
    // What is one user's is nobody else's.
    assert!(bob.bearer().await.unwrap().is_none() && matches!(refused(&bob).await, Err(Barred::Login(_))));
    assert!(alice.finish(&login, &code).await.is_err());
    assert!(!format!("{alice:?} {wanted:?} {login:?}").contains("access-1"));
}
