//! `landbridge serve` in front of a server that lets each user in by a token of their own: who is asked, where, and
//! whose token goes with which call.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use landbridge_proto::oauth::form::encode;
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::gateway::{Gateway, stateless_request, wait_until};
use crate::guarded::{Guarded, fetch};
use crate::wire::{Response, Stream, Wire};

const ADA: &str = "key-of-ada-0123456789";
const BOB: &str = "key-of-bob-0123456789";
const ACCEPT: &str = r#"{"action":"accept"}"#;

/// A gateway in front of a guarded server, with a home that is gone afterwards.
struct World {
    home: PathBuf,
    server: Guarded,
    config: PathBuf,
}

impl World {
    fn new(mode: &str, more: &str) -> World {
        World::at("/mcp", mode, more)
    }

    fn at(path: &str, mode: &str, more: &str) -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let home = std::env::temp_dir().join(format!("landbridge-users-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&home).unwrap();
        let (server, config) = (Guarded::start(), home.join("c.toml"));
        let text = format!(
            "auth = {{ mode = \"{mode}\" }}\n[servers.notes]\nurl = \"{}\"\nauth = {{ per_user = true }}\n{more}",
            server.url(path)
        );
        std::fs::write(&config, text).unwrap();
        World { home, server, config }
    }

    /// Of both eras, and over each wire, as the server is spoken to.
    fn each() -> [World; 3] {
        let legacy = "protocol = \"legacy\"\n";
        [World::new("keys", ""), World::new("keys", legacy), World::at("/sse", "keys", "transport = \"sse\"\n")]
    }

    fn gateway(&self) -> Gateway {
        let env = [
            ("LANDBRIDGE_HOME", self.home.to_str().unwrap()),
            ("LANDBRIDGE_API_KEY_1", &format!("{ADA}:ada")),
            ("LANDBRIDGE_API_KEY_2", &format!("{BOB}:bob")),
        ];
        Gateway::here(&["--config", self.config.to_str().unwrap()], &env)
    }

    /// The tokens that went with calls that said this.
    fn tokens_of(&self, said: &str) -> Vec<String> {
        let world = self.server.world.lock().unwrap();
        world.calls.iter().filter(|(message, _)| message == said).map(|(_, token)| token.clone()).collect()
    }

    /// Ada connects, by whatever link she is given.
    fn connect(&self, gateway: &Gateway, key: &str) {
        let link = link_in(&modern(gateway, key, 1, json!({}), &json!({})));
        let page = Browser::new(gateway.port).connect(&self.server, &link);
        assert!(page.contains("is connected"), "{page}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// What a browser does, and what it keeps.
#[derive(Clone)]
struct Browser {
    port: u16,
    cookie: Option<String>,
}

impl Browser {
    fn new(port: u16) -> Browser {
        Browser { port, cookie: None }
    }

    fn get(&mut self, url: &str) -> Response {
        self.send("GET", url, None)
    }

    fn send(&mut self, method: &str, url: &str, form: Option<&str>) -> Response {
        let path = url.strip_prefix(&format!("http://127.0.0.1:{}", self.port)).unwrap_or(url);
        assert!(path.starts_with('/'), "{url} is elsewhere");
        let cookie = self.cookie.clone().unwrap_or_default();
        let mut headers = vec![("cookie", cookie.as_str())];
        headers.extend(form.map(|_| ("content-type", "application/x-www-form-urlencoded")));
        let response = Wire::connect(self.port).request(method, path, &headers, form);
        if let Some(set) = response.header("set-cookie") {
            self.cookie = set.split(';').next().map(str::to_owned);
        }
        response
    }

    /// Sends the first form of a page that has that word behind its beginning.
    fn press(&mut self, page: &str, of: &str, fields: &[(&str, &str)]) -> Response {
        let form = page.split("<form").find(|form| form.contains(of)).unwrap_or_else(|| panic!("no form with {of} in {page}"));
        let between = |from: &str| form.split(from).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
        let (action, token, request) = (between("action=\""), between("name=\"csrf\" value=\""), between("name=\"request\" value=\""));
        let mut body = format!("csrf={}&request={}", encode(&token), encode(&request));
        fields.iter().for_each(|(name, value)| body.push_str(&format!("&{name}={}", encode(value))));
        self.send("POST", &action, Some(&body))
    }

    /// Opens the link, agrees there, logs in at the server's issuer, and comes back; what the last page says.
    fn connect(&mut self, server: &Guarded, link: &str) -> String {
        let back = self.go_there(server, link);
        self.get(&back).text()
    }

    fn go_there(&mut self, server: &Guarded, link: &str) -> String {
        let page = self.get(link);
        assert_eq!(page.status, 200, "{}", page.text());
        let sent = self.press(&page.text(), "value=\"connect\"", &[("decision", "connect")]);
        assert_eq!(sent.status, 303, "{}", sent.text());
        server.authorize(sent.header("location").unwrap())
    }

    /// Signs in on the page that is shown; where that leads.
    fn sign_in(&mut self, page: &str, user: &str) -> String {
        let sent = self.press(page, "name=\"password\"", &[("user", user), ("password", &password(user))]);
        assert_eq!(sent.status, 303, "{}", sent.text());
        sent.header("location").unwrap().to_owned()
    }
}

fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// A call of `echo` by a stateless client.
fn modern(gateway: &Gateway, key: &str, id: u64, capabilities: Value, more: &Value) -> Value {
    modern_of(gateway, key, id, "tools/call", json!({"name": "echo", "arguments": {"message": format!("call-{id}")}}), capabilities, more)
}

fn modern_of(gateway: &Gateway, key: &str, id: u64, method: &str, mut params: Value, capabilities: Value, more: &Value) -> Value {
    params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": capabilities});
    for (name, value) in more.as_object().unwrap() {
        params[name] = value.clone();
    }
    let (headers, body) = stateless_request(id, method, params);
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.push(("x-api-key", key));
    gateway.wire().post("/mcp", &headers, &body).messages().pop().unwrap()
}

fn urls() -> Value {
    json!({"elicitation": {"url": {}}})
}

/// The link in an answer, wherever it stands.
fn link_in(answer: &Value) -> String {
    let text = answer.to_string();
    let at = text.find("http://127.0.0.1:").unwrap_or_else(|| panic!("no link in {answer}"));
    text[at..].split(['"', ' ', '\\']).next().unwrap().to_owned()
}

fn said(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// A handshake client with a key.
struct Session<'g> {
    gateway: &'g Gateway,
    key: &'g str,
    revision: &'g str,
    id: String,
}

impl<'g> Session<'g> {
    fn open(gateway: &'g Gateway, key: &'g str, revision: &'g str, capabilities: Value) -> Session<'g> {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": revision, "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}}});
        let response = gateway.wire().post("/mcp", &[("x-api-key", key)], &hello.to_string());
        assert_eq!(response.status, 200, "{}\n{}", response.text(), gateway.log());
        let id = response.header("mcp-session-id").unwrap().to_owned();
        let session = Session { gateway, key, revision, id };
        assert_eq!(session.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).status, 202);
        session
    }

    fn headers(&self) -> [(&str, &str); 3] {
        [("x-api-key", self.key), ("mcp-session-id", &self.id), ("mcp-protocol-version", self.revision)]
    }

    fn post(&self, message: &Value) -> Response {
        self.gateway.wire().post("/mcp", &self.headers(), &message.to_string())
    }

    fn call(&self, id: u64, method: &str, params: Value) -> Value {
        self.post(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).messages().pop().unwrap()
    }

    fn echo(&self, id: u64) -> Value {
        self.call(id, "tools/call", echo(id))
    }

    fn open_stream(&self, message: &Value) -> Stream {
        self.gateway.wire().open("POST", "/mcp", &self.headers(), Some(&message.to_string()))
    }
}

fn echo(id: u64) -> Value {
    json!({"name": "echo", "arguments": {"message": format!("call-{id}")}})
}

/// The next message of that method on a stream.
fn next_of(stream: &mut Stream, method: &str) -> Value {
    loop {
        let message = stream.message().unwrap_or_else(|| panic!("the stream ended without {method}"));
        if message["method"] == method {
            return message;
        }
    }
}

#[test]
fn each_user_is_asked_and_calls_go_with_their_own_token() {
    for world in World::each() {
        let gateway = world.gateway();
        for (key, id) in [(ADA, 1), (BOB, 2)] {
            let asked = modern(&gateway, key, id, urls(), &json!({}));
            assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
            let question = &asked["result"]["inputRequests"]["connect"];
            assert_eq!((&question["method"], &question["params"]["mode"]), (&json!("elicitation/create"), &json!("url")));
            assert!(question["params"]["url"].as_str().unwrap().contains("/connect/notes?ticket="), "{asked}");
            assert!(world.tokens_of(&format!("call-{id}")).is_empty(), "it did not go out");
            let page = Browser::new(gateway.port).connect(&world.server, &link_in(&asked));
            assert!(page.contains("is connected"), "{page}");
            let state = &asked["result"]["requestState"];
            let answered = json!({"inputResponses": {"connect": {"action": "accept"}}, "requestState": state});
            assert_eq!(said(&modern(&gateway, key, id, urls(), &answered)), format!("call-{id}"));
        }
        // A second call of either is not asked, and nothing has been mixed up.
        for (key, id) in [(ADA, 3), (BOB, 4), (ADA, 5)] {
            assert_eq!(said(&modern(&gateway, key, id, json!({}), &json!({}))), format!("call-{id}"));
        }
        let [ada, bob] = [world.tokens_of("call-1"), world.tokens_of("call-2")];
        assert!(ada.len() == 1 && bob.len() == 1 && ada != bob, "{ada:?} {bob:?}");
        assert_eq!((world.tokens_of("call-3"), world.tokens_of("call-4"), world.tokens_of("call-5")), (ada.clone(), bob, ada));
        let seen = world.server.world.lock().unwrap();
        assert_eq!((seen.logins.as_slice(), seen.redeemed, seen.abuses.len()), (&["use".to_owned(), "use".to_owned()][..], 2, 0));
        // Nothing of what clients send us reaches the server.
        assert!(!seen.headers.iter().any(|header| header.contains("key-of-") || header.starts_with("x-api-key")), "{:?}", seen.headers);
    }
}

#[test]
fn a_call_that_was_accepted_goes_on_when_the_login_is_done() {
    for world in World::each() {
        let gateway = world.gateway();
        let asked = modern(&gateway, ADA, 1, urls(), &json!({}));
        let (link, state) = (link_in(&asked), asked["result"]["requestState"].clone());
        let answered = json!({"inputResponses": {"connect": serde_json::from_str::<Value>(ACCEPT).unwrap()}, "requestState": state});
        let answer = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| modern(&gateway, ADA, 1, urls(), &answered));
            Browser::new(gateway.port).connect(&world.server, &link);
            waiting.join().unwrap()
        });
        assert_eq!(said(&answer), "call-1");
        assert_eq!(world.tokens_of("call-1").len(), 1);
        // One who declines is told so, and nothing goes out.
        let asked = modern(&gateway, BOB, 2, urls(), &json!({}));
        let no = json!({"inputResponses": {"connect": {"action": "decline"}}, "requestState": asked["result"]["requestState"]});
        let answer = modern(&gateway, BOB, 2, urls(), &no);
        assert!(answer["result"]["isError"] == true && world.tokens_of("call-2").is_empty(), "{answer}");
    }
}

#[test]
fn a_session_is_asked_live_and_sees_the_tools_afterwards() {
    for world in World::each() {
        let gateway = world.gateway();
        let session = Session::open(&gateway, ADA, "2025-11-25", urls());
        let names = |list: &Value| -> Vec<String> {
            list["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&session.call(1, "tools/list", json!({}))), ["landbridge_connect"]);
        let mut news = gateway.wire().open("GET", "/mcp", &[&session.headers()[..], &[("accept", "text/event-stream")]].concat(), None);
        let mut stream = session.open_stream(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": echo(2)}));
        let asked = next_of(&mut stream, "elicitation/create");
        let id = asked["params"]["elicitationId"].clone();
        assert!(asked["params"]["mode"] == "url" && id.is_string(), "{asked}");
        let accepted = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept"}});
        assert_eq!(session.post(&accepted).status, 202);
        Browser::new(gateway.port).connect(&world.server, &link_in(&asked));
        let complete = next_of(&mut stream, "notifications/elicitation/complete");
        assert_eq!(complete["params"]["elicitationId"], id);
        let answer = loop {
            let message = stream.message().expect("an answer");
            if message["id"] == 2 && message.get("result").is_some() {
                break message;
            }
        };
        assert_eq!(said(&answer), "call-2");
        next_of(&mut news, "notifications/tools/list_changed");
        assert_eq!(names(&session.call(3, "tools/list", json!({}))), ["echo", "admin"]);
        // The tool that a client may have listed before is still there to be called.
        assert!(said(&session.call(4, "tools/call", json!({"name": "landbridge_connect"}))).contains("Connected to notes"));
        // Another user's session is at nobody's account.
        let other = Session::open(&gateway, BOB, "2025-11-25", json!({}));
        assert_eq!(names(&other.call(1, "tools/list", json!({}))), ["landbridge_connect"]);
    }
}

#[test]
fn behind_one_endpoint_with_others_it_is_asked_for_by_its_own_tools() {
    let world = World::new("keys", "[servers.demo]\ndemo = true\n");
    let gateway = world.gateway();
    let session = Session::open(&gateway, ADA, "2025-11-25", json!({}));
    let list = session.call(1, "tools/list", json!({})).to_string();
    assert!(list.contains("notes__landbridge_connect") && list.contains("demo__"), "{list}");
    let told = session.call(2, "tools/call", json!({"name": "notes__landbridge_connect", "arguments": {}}));
    Browser::new(gateway.port).connect(&world.server, &link_in(&told));
    let list = session.call(3, "tools/list", json!({})).to_string();
    assert!(list.contains("notes__echo") && !list.contains("landbridge_connect"), "{list}");
    let echo = json!({"name": "notes__echo", "arguments": {"message": "call-4"}});
    assert_eq!(said(&session.call(4, "tools/call", echo)), "call-4");
}

#[test]
fn an_authorization_server_that_is_down_is_no_reason_to_ask_the_user() {
    for world in World::each() {
        let gateway = world.gateway();
        world.connect(&gateway, ADA);
        assert_eq!(said(&modern(&gateway, ADA, 2, urls(), &json!({}))), "call-2");
        world.server.revoke();
        world.server.world.lock().unwrap().down = true;
        let answer = modern(&gateway, ADA, 3, urls(), &json!({}));
        assert!(answer["error"]["message"].as_str().is_some_and(|said| said.contains("HTTP 503")), "{answer}");
        world.server.world.lock().unwrap().down = false;
        assert_eq!(said(&modern(&gateway, ADA, 4, urls(), &json!({}))), "call-4");
        assert_eq!(world.server.world.lock().unwrap().logins.len(), 1);
    }
}

#[test]
fn a_login_that_is_done_before_the_answer_needs_none() {
    let world = World::new("keys", "");
    let gateway = world.gateway();
    let session = Session::open(&gateway, ADA, "2025-11-25", urls());
    let mut stream = session.open_stream(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": echo(2)}));
    let asked = next_of(&mut stream, "elicitation/create");
    Browser::new(gateway.port).connect(&world.server, &link_in(&asked));
    let answer = loop {
        let message = stream.message().expect("an answer");
        if message["id"] == 2 && message.get("result").is_some() {
            break message;
        }
    };
    assert_eq!(said(&answer), "call-2");
}

#[test]
fn who_cannot_be_asked_is_told_the_link() {
    for world in World::each() {
        let gateway = world.gateway();
        for (revision, capabilities) in
            [("2025-03-26", json!({})), ("2025-06-18", urls()), ("2025-11-25", json!({"elicitation": {"form": {}}}))]
        {
            let session = Session::open(&gateway, ADA, revision, capabilities);
            let answer = session.echo(5);
            assert!(answer["result"]["isError"] == true, "{answer}");
            assert!(said(&answer).contains("/connect/notes?ticket=") && said(&answer).contains("then call again"), "{answer}");
            let error = session.call(6, "resources/read", json!({"uri": "file:///x"}));
            assert!(error["error"]["message"].as_str().is_some_and(|said| said.contains("/connect/notes?ticket=")), "{error}");
        }
        let answer = modern(&gateway, ADA, 1, json!({}), &json!({}));
        assert!(answer["result"]["isError"] == true && said(&answer).contains("/connect/notes?ticket="), "{answer}");
        let session = Session::open(&gateway, ADA, "2025-03-26", json!({}));
        Browser::new(gateway.port).connect(&world.server, &link_in(&session.echo(7)));
        assert_eq!(said(&session.echo(8)), "call-8");
    }
}

#[test]
fn a_link_counts_once_in_the_browser_that_opened_it() {
    let world = World::new("keys", "");
    let gateway = world.gateway();
    let link = link_in(&modern(&gateway, ADA, 1, json!({}), &json!({})));
    // To look at it uses nothing up.
    let mut browser = Browser::new(gateway.port);
    let page = browser.get(&link);
    assert!(page.text().contains("<bdi>ada</bdi>") && page.text().contains("Go on only if this is you"), "{}", page.text());
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    // A form from elsewhere does nothing.
    let mut foreign = Browser::new(gateway.port);
    foreign.get(&link);
    assert_eq!(foreign.press(&page.text(), "value=\"connect\"", &[("decision", "connect")]).status, 400);
    let back = browser.go_there(&world.server, &link);
    // The ticket is used up.
    assert_eq!(browser.press(&page.text(), "value=\"connect\"", &[("decision", "connect")]).status, 400);
    assert_eq!(browser.get(&link).status, 400);
    // What comes back is for the browser that began, once, and with the state that it began with.
    let forged = back.replace("state=", "state=x");
    assert_eq!(browser.get(&forged).status, 400);
    assert_eq!(fetch(&forged).0, 400);
    let page = browser.get(&back);
    assert!(page.status == 200 && page.text().contains("is connected"), "{}", page.text());
    assert_eq!(browser.get(&back).status, 400);
    assert_eq!(world.server.world.lock().unwrap().redeemed, 1);
    let link = link_in(&modern(&gateway, BOB, 2, json!({}), &json!({})));
    let mut browser = Browser::new(gateway.port);
    let back = browser.go_there(&world.server, &link);
    assert_eq!(Browser::new(gateway.port).get(&back).status, 400);
    assert_eq!(world.server.world.lock().unwrap().redeemed, 1);
    // Of another server, of nobody, or without a ticket it is none.
    for path in ["/connect/other?ticket=x", "/connect/notes?ticket=x", "/connect/notes", "/connect", "/connect/callback"] {
        assert!((400..=404).contains(&Browser::new(gateway.port).get(path).status), "{path}");
    }
    // An answer of another issuer is not used.
    world.server.world.lock().unwrap().iss = Some("https://evil.example.com".into());
    let link = link_in(&modern(&gateway, BOB, 3, json!({}), &json!({})));
    let page = Browser::new(gateway.port).connect(&world.server, &link);
    assert!(!page.contains("is connected") && world.server.world.lock().unwrap().redeemed == 1, "{page}");
}

#[test]
fn tokens_are_refreshed_once_and_survive_a_restart_unreadable() {
    for world in World::each() {
        {
            let gateway = world.gateway();
            world.connect(&gateway, ADA);
            world.connect(&gateway, BOB);
            world.server.revoke();
            // Many notice, one refreshes, for each of the two.
            std::thread::scope(|scope| {
                for id in 100..110 {
                    let (gateway, key) = (&gateway, if id % 2 == 0 { ADA } else { BOB });
                    scope.spawn(move || assert_eq!(said(&modern(gateway, key, id, json!({}), &json!({}))), format!("call-{id}")));
                }
            });
            let seen = world.server.world.lock().unwrap();
            assert_eq!((seen.refreshes, seen.abuses.len(), seen.logins.len()), (2, 0, 2));
            assert!(!gateway.log().contains("ticket="), "{}", gateway.log());
            for secret in seen.access.keys() {
                assert!(!gateway.log().contains(secret), "{}", gateway.log());
            }
        }
        let gateway = world.gateway();
        assert_eq!(said(&modern(&gateway, ADA, 7, json!({}), &json!({}))), "call-7");
        world.server.revoke();
        assert_eq!(said(&modern(&gateway, BOB, 8, json!({}), &json!({}))), "call-8");
        drop(gateway);
        let seen = world.server.world.lock().unwrap();
        assert_eq!((seen.refreshes, seen.abuses.len(), seen.logins.len()), (3, 0, 2));
        let mut n_files = 0;
        for entry in std::fs::read_dir(&world.home).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            for secret in ["access-", "refresh-", "client-"] {
                assert!(memchr::memmem::find(&bytes, secret.as_bytes()).is_none(), "{secret} in {}", path.display());
            }
            n_files += usize::from(path.file_name().unwrap().to_str().unwrap().starts_with("store.db"));
        }
        assert!(n_files > 0, "the store is there");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(world.home.join("vault.key")).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}

#[test]
fn a_token_that_was_withdrawn_is_asked_for_again_once() {
    for world in World::each() {
        let gateway = world.gateway();
        world.connect(&gateway, ADA);
        world.connect(&gateway, BOB);
        let session = Session::open(&gateway, ADA, "2025-11-25", json!({}));
        assert_eq!(said(&session.echo(10)), "call-10");
        world.server.revoke();
        world.server.world.lock().unwrap().forget_refresh();
        let asked = modern(&gateway, ADA, 11, urls(), &json!({}));
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        let told = session.echo(12);
        assert!(told["result"]["isError"] == true && said(&told).contains("/connect/notes?ticket="), "{told}");
        assert!(world.tokens_of("call-11").is_empty() && world.tokens_of("call-12").is_empty());
        Browser::new(gateway.port).connect(&world.server, &link_in(&asked));
        assert_eq!(said(&session.echo(13)), "call-13");
        let again = json!({"inputResponses": {"connect": {"action": "accept"}}, "requestState": asked["result"]["requestState"]});
        assert_eq!(said(&modern(&gateway, ADA, 11, urls(), &again)), "call-11");
        assert_eq!(world.server.world.lock().unwrap().logins.len(), 3);
    }
}

#[test]
fn an_issuer_that_has_forgotten_us_is_registered_with_again() {
    let world = World::new("keys", "");
    let gateway = world.gateway();
    world.connect(&gateway, ADA);
    world.server.revoke();
    world.server.world.lock().unwrap().forget_refresh();
    world.server.world.lock().unwrap().forget_clients();
    let link = link_in(&modern(&gateway, ADA, 2, json!({}), &json!({})));
    // It tells its user, who is sent nowhere, and tries again.
    let mut browser = Browser::new(gateway.port);
    let page = browser.get(&link).text();
    let sent = browser.press(&page, "value=\"connect\"", &[("decision", "connect")]);
    assert_eq!(fetch(sent.header("location").unwrap()).0, 400);
    world.connect(&gateway, ADA);
    assert_eq!(said(&modern(&gateway, ADA, 3, json!({}), &json!({}))), "call-3");
    assert_eq!(world.server.world.lock().unwrap().registrations, 2);
}

#[test]
fn more_is_asked_for_by_the_call_that_needs_it_and_by_no_other() {
    for world in World::each() {
        let gateway = world.gateway();
        world.connect(&gateway, ADA);
        let session = Session::open(&gateway, ADA, "2025-11-25", json!({}));
        let told = session.call(2, "tools/call", json!({"name": "admin", "arguments": {}}));
        assert!(told["result"]["isError"] == true && said(&told).contains("/connect/notes?ticket="), "{told}");
        // What needs no more goes on meanwhile.
        assert_eq!(said(&session.echo(3)), "call-3");
        assert_eq!(said(&modern(&gateway, ADA, 4, urls(), &json!({}))), "call-4");
        Browser::new(gateway.port).connect(&world.server, &link_in(&told));
        assert_eq!(said(&session.call(5, "tools/call", json!({"name": "admin", "arguments": {}}))), "done");
        assert_eq!(world.server.world.lock().unwrap().logins, ["use", "use admin"]);
    }
}

#[test]
fn users_must_be_known_and_come_back_to_a_public_address() {
    for (auth, name, more, said) in [
        ("", "x", "", "`per_user` needs users"),
        ("auth.mode = \"keys\"\nlisten = \"0.0.0.0:0\"\n", "x", "", "`per_user` needs `public_url`"),
        ("auth.mode = \"keys\"\n", "callback", "", "cannot be called `callback`"),
        ("auth.mode = \"keys\"\n", "x", ", client_metadata_url = \"http://x/y\"", "an https URL with a path"),
    ] {
        let text = format!("{auth}[servers.{name}]\nurl = \"https://h.example/mcp\"\nauth = {{ per_user = true{more} }}\n");
        let faults = landbridge::config::Config::parse("f", text).unwrap().check().unwrap_err().to_string();
        assert!(faults.contains(said), "{faults}");
    }
}

// --- users who sign in with us ----------------------------------------------------------------------

fn add_user(world: &World, name: &str) {
    use std::io::Write as _;
    let mut child = Command::new(env!("CARGO_BIN_EXE_landbridge"))
        .args(["user", "add", name, "--password-stdin"])
        .env("LANDBRIDGE_HOME", &world.home)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(password(name).as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A token of ours for that user, got as an application gets it.
fn token(gateway: &Gateway, browser: &mut Browser, user: &str) -> String {
    let back = "http://127.0.0.1:1/back";
    let registration = json!({"redirect_uris": [back], "client_name": "test", "token_endpoint_auth_method": "none"});
    let client = gateway.wire().post("/register", &[], &registration.to_string()).json()["client_id"].as_str().unwrap().to_owned();
    let verifier = "v".repeat(43);
    let resource = format!("http://127.0.0.1:{}/mcp", gateway.port);
    let url = format!(
        "/authorize?response_type=code&client_id={}&redirect_uri={}&code_challenge={}&code_challenge_method=S256&resource={}&state=s",
        encode(&client),
        encode(back),
        Hash::of(&verifier),
        encode(&resource)
    );
    let page = browser.get(&url).text();
    let consent = browser.sign_in(&page, user);
    let page = browser.get(&consent).text();
    let agreed = browser.press(&page, "value=\"allow\"", &[("decision", "allow"), ("scope:mcp", "yes")]);
    let location = agreed.header("location").unwrap_or_else(|| panic!("{}", agreed.text())).to_owned();
    let code = location.split("code=").nth(1).and_then(|rest| rest.split('&').next()).unwrap();
    let body = format!(
        "grant_type=authorization_code&code={code}&redirect_uri={}&client_id={}&code_verifier={verifier}&resource={}",
        encode(back),
        encode(&client),
        encode(&resource)
    );
    let answer = gateway.wire().request("POST", "/token", &[("content-type", "application/x-www-form-urlencoded")], Some(&body)).json();
    answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn a_link_of_somebody_else_binds_nobodys_account() {
    let world = World::new("oauth", "");
    add_user(&world, "ada");
    add_user(&world, "bob");
    let gateway = world.gateway();
    let (mut ada, mut bob) = (Browser::new(gateway.port), Browser::new(gateway.port));
    let of_ada = token(&gateway, &mut ada, "ada");
    let call = |token: &str| {
        let (headers, body) = stateless_request(1, "tools/call", echo(1));
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let bearer = format!("Bearer {token}");
        headers.push(("authorization", &bearer));
        gateway.wire().post("/mcp", &headers, &body).messages().pop().unwrap()
    };
    let link = link_in(&call(&of_ada));
    // Bob is sent the link: he signs in, and is told that it is not his.
    let page = bob.get(&link);
    assert!(page.status == 200 && page.text().contains("name=\"password\""), "{}", page.text());
    let to = bob.sign_in(&page.text(), "bob");
    let refused = bob.get(&to);
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("for somebody else") && refused.text().contains("<bdi>bob</bdi>"), "{}", refused.text());
    assert!(!refused.text().contains("value=\"connect\""));
    assert!(world.server.world.lock().unwrap().logins.is_empty());
    // He can become somebody else, for whom it is.
    let page = bob.press(&refused.text(), "/logout", &[]);
    let to = bob.sign_in(&page.text(), "ada");
    assert_eq!(bob.get(&to).status, 200);
    // Ada is signed in already.
    let page = ada.connect(&world.server, &link);
    assert!(page.contains("is connected"), "{page}");
    assert_eq!(said(&call(&of_ada)), "call-1");
    let seen = world.server.world.lock().unwrap().calls.clone();
    assert!(seen.iter().all(|(_, token)| *token != of_ada), "a client's token stays with us");
    // What she has connected she can disconnect, and connect again without a link.
    let list = ada.get("/connect").text();
    assert!(list.contains("Disconnect <bdi>notes</bdi>"), "{list}");
    let gone = ada.press(&list, "value=\"disconnect\"", &[("decision", "disconnect")]);
    assert_eq!((gone.status, gone.header("location")), (303, Some("/connect")));
    wait_until("the token to be given back", || world.server.world.lock().unwrap().revoked == ["refresh-1"]);
    let list = ada.get("/connect").text();
    assert!(list.contains("Connect <bdi>notes</bdi>") && !list.contains("disconnect\""), "{list}");
    assert!(said(&call(&of_ada)).contains("/connect/notes?ticket="));
    assert!(ada.connect(&world.server, "/connect/notes").contains("is connected"));
    assert_eq!(said(&call(&of_ada)), "call-1");
    // Bob's are his.
    let mut bob = Browser::new(gateway.port);
    let page = bob.get("/connect").text();
    let to = bob.sign_in(&page, "bob");
    let list = bob.get(&to).text();
    assert!(list.contains("<bdi>bob</bdi>") && list.contains("Connect <bdi>notes</bdi>"), "{list}");
}
