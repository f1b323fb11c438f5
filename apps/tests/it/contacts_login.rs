//! Rows S0 of the list: how its owner logs in, by way of a GitHub on loopback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landbridge_fixtures::idp::{Algorithm, App as Registered, Idp, Kind, Person};
use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::app::{App, fresh_dir};
use crate::contacts::{bearer, request};
use crate::wire::{Response, Wire};

const CALLBACK: &str = "https://claude.ai/api/mcp/auth_callback";
const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-of-those";

/// A server, and the GitHub where its owner is known.
struct House {
    app: App,
    github: Idp,
    variables: Vec<(&'static str, String)>,
    dir: Dir,
}

/// A directory that goes when nobody needs it.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn person(id: u64, login: &str) -> Person {
    Person { id, login: login.into(), ..Person::default() }
}

/// A port that nobody has.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl House {
    fn open() -> House {
        House::open_in(&fresh_dir("contacts"), &[])
    }

    fn open_in(dir: &Path, more: &[(&'static str, &str)]) -> House {
        let port = free_port();
        let callback = format!("http://127.0.0.1:{port}/callback");
        let registered = Registered { client_id: "Iv1.contacts".into(), client_secret: "0123456789abcdef".into(), callback };
        let people = vec![person(1, "Octocat"), person(2, "hubot")];
        let github = Idp::start(Kind::GitHub, Algorithm::Es256, 0, registered, people);
        let mut variables = vec![
            ("GITHUB_CLIENT_ID", "Iv1.contacts".to_owned()),
            ("GITHUB_CLIENT_SECRET", "0123456789abcdef".into()),
            ("AUTHORIZED_GITHUB_USER", "octocat".into()),
            ("GITHUB_URL", github.url().into()),
        ];
        variables.extend(more.iter().map(|(name, value)| (*name, value.replace("{port}", &port.to_string()))));
        House { app: start(dir, port, &variables), github, variables, dir: Dir(dir.to_owned()) }
    }

    /// The same server, after a power cut.
    fn again(self) -> House {
        let House { app, github, variables, dir } = self;
        let port = app.port;
        app.kill();
        House { app: start(&dir.0, port, &variables), github, variables, dir }
    }

    fn register(&self, body: &Value) -> Response {
        self.app.wire().request("POST", "/register", &[("content-type", "application/json")], Some(&body.to_string()))
    }

    /// A client as Claude.ai registers.
    fn client(&self) -> String {
        self.client_at(CALLBACK)
    }

    fn client_at(&self, callback: &str) -> String {
        let made = self.register(&json!({"client_name": "Claude", "redirect_uris": [callback], "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "scope": "mcp"}));
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["client_id"].as_str().unwrap().to_owned()
    }

    /// What that client asks its user's browser for.
    fn asks(&self, client: &str) -> String {
        let challenge = Hash::of(VERIFIER).to_string();
        let resource = format!("http://127.0.0.1:{}/mcp/oauth", self.app.port);
        let fields = [
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", CALLBACK),
            ("state", "st"),
            ("scope", "mcp"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("resource", &resource),
        ];
        format!("/authorize?{}", written(&fields))
    }

    /// The user agrees at GitHub; the page that they are shown then.
    fn signed_in(&self, browser: &mut Browser, client: &str, login: &str) -> Response {
        let to_github = browser.get(&self.asks(client));
        assert_eq!(to_github.status, 302, "{}", to_github.text());
        let back = self.github.click(to_github.header("location").unwrap(), login, true);
        let path = back.strip_prefix(&format!("http://127.0.0.1:{}", self.app.port)).unwrap_or_else(|| panic!("{back}")).to_owned();
        let page = browser.get(&path);
        assert!(matches!(page.status, 302 | 403), "{}", page.status);
        match page.header("location").map(str::to_owned) {
            Some(to) => browser.get(&to),
            None => page,
        }
    }

    /// The whole way, as far as the code.
    fn code(&self, client: &str) -> String {
        let mut browser = Browser { port: self.app.port, jar: BTreeMap::new() };
        let consent = self.signed_in(&mut browser, client, "Octocat");
        let fields = fields_of(&consent.text(), "/consent");
        let decided = browser.send("/consent", &fields, ("decision", "allow"));
        assert_eq!(decided.status, 303, "the form is not for the application");
        let location = decided.header("location").unwrap_or_else(|| panic!("{}", decided.text()));
        let form = Form::read(location.strip_prefix(CALLBACK).unwrap().trim_start_matches('?')).unwrap();
        assert_eq!(form.get("state"), Some("st"));
        form.get("code").expect("a code").to_owned()
    }

    fn redeem(&self, client: &str, code: &str, verifier: &str) -> Response {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", verifier),
        ];
        self.app.wire().request("POST", "/token", &[("content-type", "application/x-www-form-urlencoded")], Some(&written(&fields)))
    }

    fn refresh(&self, client: &str, refresh: &str) -> Response {
        let fields = [("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", refresh)];
        self.app.wire().request("POST", "/token", &[("content-type", "application/x-www-form-urlencoded")], Some(&written(&fields)))
    }

    fn token(&self) -> Value {
        let client = self.client();
        let response = self.redeem(&client, &self.code(&client), VERIFIER);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()
    }

    fn status(&self, token: &str) -> u16 {
        self.app.events("/mcp/oauth", &[("Authorization", &bearer(token))]).status
    }
}

fn start(dir: &Path, port: u16, variables: &[(&'static str, String)]) -> App {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    App::start_in(dir, "contacts", &["--port", &port.to_string()], &variables)
}

fn written(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

/// A browser that keeps cookies.
struct Browser {
    port: u16,
    jar: BTreeMap<String, String>,
}

impl Browser {
    fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, None)
    }

    fn send(&mut self, path: &str, fields: &[(String, String)], and: (&str, &str)) -> Response {
        let mut all: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        all.retain(|(name, _)| *name != and.0);
        all.push(and);
        self.request("POST", path, Some(&written(&all)))
    }

    fn request(&mut self, method: &str, path: &str, body: Option<&str>) -> Response {
        let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let headers = [("cookie", cookies.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let response = Wire::connect(self.port).request(method, path, &headers, body);
        for (_, set) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.jar.insert(name.into(), value.into());
        }
        response
    }
}

/// What is filled in in the form of a page that is sent there.
fn fields_of(page: &str, action: &str) -> Vec<(String, String)> {
    let form =
        page.split("<form ").find(|form| form.contains(&format!("action=\"{action}\""))).unwrap_or_else(|| panic!("no form: {page}"));
    let attribute = |tag: &str, name: &str| Some(tag.split(&format!("{name}=\"")).nth(1)?.split('"').next()?.to_owned());
    let inputs = form.split("</form>").next().unwrap().split("<input ").skip(1).map(|tag| tag.split('>').next().unwrap());
    inputs.filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default()))).collect()
}

#[test]
fn s0_19_tokens_last_where_they_are_kept_and_nothing_breaks_where_they_are_not() {
    let house = House::open();
    let token = house.token()["access_token"].as_str().unwrap().to_owned();
    let house = house.again();
    assert_eq!(house.status(&token), 200);

    let house = House::open_in(&fresh_dir("contacts"), &[("CONTACTS_AUTH_STORE", "memory:")]);
    let token = house.token()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(house.status(&token), 200);
    let house = house.again();
    assert_eq!(house.status(&token), 401, "forgotten, and the server works");
}

#[test]
fn s0_21_what_the_callback_and_the_token_endpoint_hand_out_is_kept_by_both() {
    let house = House::open();
    let client = house.client();
    let code = house.code(&client);
    // The server falls between the callback and the token endpoint, and again behind that.
    let house = house.again();
    let tokens = house.redeem(&client, &code, VERIFIER).json();
    let house = house.again();
    assert_eq!(house.status(tokens["access_token"].as_str().unwrap()), 200);
    let next = house.refresh(&client, tokens["refresh_token"].as_str().unwrap()).json();
    assert_eq!(house.status(next["access_token"].as_str().unwrap()), 200);
}

#[test]
fn s0_23_the_endpoints_of_logins_are_there_for_everybody() {
    let house = House::open();
    assert_eq!(house.app.get("/.well-known/oauth-authorization-server").status, 200);
    assert_eq!(house.app.get("/.well-known/oauth-protected-resource/mcp/oauth").status, 200);
    for path in ["/authorize", "/callback"] {
        assert_eq!(house.app.get(path).status, 400, "{path}");
    }
    for path in ["/token", "/register"] {
        let said = house.app.wire().post(path, &[], "{}");
        assert!(said.status == 400 && said.json()["error"].is_string(), "{path}: {}", said.text());
    }
}

#[test]
fn s0_24_one_user_of_github_gets_in_and_nobody_else() {
    let house = House::open();
    let client = house.client();
    let mut browser = Browser { port: house.app.port, jar: BTreeMap::new() };
    let to = browser.get(&house.asks(&client));
    assert_eq!((to.status, to.header("cache-control")), (302, Some("no-store")));
    assert!(to.header("location").unwrap().starts_with(&format!("{}/login/oauth/authorize?", house.github.url())));
    let refused = house.signed_in(&mut Browser { port: house.app.port, jar: BTreeMap::new() }, &client, "hubot");
    assert!(refused.status == 403 && refused.text().contains("hubot"), "{}: {}", refused.status, refused.text());
    assert!(refused.header("location").is_none() && !refused.text().contains("/consent"), "{}", refused.text());
    // Letters are not what users are told apart by.
    assert_eq!(house.redeem(&client, &house.code(&client), VERIFIER).status, 200);
}

#[test]
fn s0_25_github_is_asked_with_a_name_and_for_no_more_than_who_it_is() {
    let house = House::open();
    let mut browser = Browser { port: house.app.port, jar: BTreeMap::new() };
    let to = browser.get(&house.asks(&house.client()));
    let query = Form::read(to.header("location").unwrap().split_once('?').unwrap().1).unwrap();
    assert!(query.get("scope").is_none_or(str::is_empty));
    // This GitHub turns away whoever has no User-Agent.
    house.token();
    assert!(house.github.seen().iter().any(|seen| seen.ends_with("/user")), "{:?}", house.github.seen());
}

#[test]
fn s0_26_the_metadata_says_what_its_clients_look_for() {
    let house = House::open();
    let root = format!("http://127.0.0.1:{}", house.app.port);
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let said = house.app.get(path);
        assert_eq!((said.status, said.header("content-type")), (200, Some("application/json")));
        let document = said.json();
        for (key, value) in [
            ("issuer", json!(root)),
            ("authorization_endpoint", json!(format!("{root}/authorize"))),
            ("token_endpoint", json!(format!("{root}/token"))),
            ("registration_endpoint", json!(format!("{root}/register"))),
            ("token_endpoint_auth_methods_supported", json!(["client_secret_post", "none"])),
            ("response_types_supported", json!(["code"])),
            ("response_modes_supported", json!(["query"])),
            // Who is not told of the second does not refresh.
            ("grant_types_supported", json!(["authorization_code", "refresh_token"])),
            ("code_challenge_methods_supported", json!(["S256"])),
            ("scopes_supported", json!(["mcp"])),
            ("mcp_transports_supported", json!(["sse"])),
            ("mcp_endpoint", json!(format!("{root}/mcp/oauth"))),
            ("mcp_version", json!("2024-11-05")),
        ] {
            assert_eq!(document[key], value, "{path}: {key}");
        }
    }
    // Both of these methods are as good as told.
    let asked = json!({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "client_secret_post"});
    let made = house.register(&asked).json();
    let client = made["client_id"].as_str().unwrap();
    let redeem = |secret: &str| {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("client_secret", secret),
            ("code", &house.code(client)),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        house.app.wire().request("POST", "/token", &headers, Some(&written(&fields))).status
    };
    assert_eq!((redeem(made["client_secret"].as_str().unwrap()), redeem("another"), redeem("")), (200, 401, 401));
}

fn is_client_id(id: &str) -> bool {
    let digits = id.strip_prefix("mcp_").unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn s0_27_who_has_registered_is_known_for_good_and_nobody_by_the_looks_of_an_id() {
    let house = House::open();
    let (client, other) = (house.client(), house.client());
    assert!(is_client_id(&client) && is_client_id(&other) && client != other, "{client} {other}");
    let made_up = |house: &House| {
        for id in ["mcp_0123456789abcdef", "mcp_", &client[..19], &client.to_uppercase(), &format!("{client}0")] {
            let asked = house.app.get(&house.asks(id));
            assert!(asked.status == 400 && asked.header("location").is_none(), "{id}: {}", asked.status);
            let redeemed = house.redeem(id, "a-code", VERIFIER);
            assert_eq!((redeemed.status, &redeemed.json()["error"]), (401, &json!("invalid_client")), "{id}");
        }
    };
    made_up(&house);
    // Both after one power cut, and the one of whom somebody has agreed after another.
    let house = house.again();
    assert_eq!(house.redeem(&client, &house.code(&client), VERIFIER).status, 200);
    assert_eq!(house.app.get(&house.asks(&other)).status, 302);
    let house = house.again();
    assert_eq!(house.redeem(&client, &house.code(&client), VERIFIER).status, 200);
    made_up(&house);
}

#[test]
fn s0_28_claude_may_be_sent_back_to_all_its_places() {
    let house = House::open();
    let mut clients = Vec::new();
    for path in ["/api/mcp/auth_callback", "/oauth/callback", "/oauth/a/b", "/auth/callback", "/auth/x"] {
        let to = format!("https://claude.ai{path}");
        clients.push((house.client_at(&to), to));
    }
    // Each to its own, and to none of the others.
    for (client, own) in &clients {
        for (_, to) in &clients {
            let asked = house.app.get(&house.asks(client).replace(&encode(CALLBACK), &encode(to)));
            assert_eq!(asked.status, if to == own { 302 } else { 400 }, "{client} at {to}");
        }
    }
    for bad in ["http://claude.ai/api/mcp/auth_callback", "javascript:alert(1)", "data:text/html,x", "https://claude.ai/x#y", "/callback"] {
        assert_eq!(house.register(&json!({"redirect_uris": [bad]})).status, 400, "{bad}");
    }
    let client = house.client();
    for near in
        ["https://claude.ai/api/mcp/auth_callback/", "https://claude.ai.evil.example/api/mcp/auth_callback", "https://claude.ai/oauth/x"]
    {
        assert_eq!(house.app.get(&house.asks(&client).replace(&encode(CALLBACK), &encode(near))).status, 400, "{near}");
    }
}

#[test]
fn s0_29_a_token_is_good_as_it_was_handed_out() {
    // Also where tokens of 32 digits are taken for tests.
    for flag in ["false", "true"] {
        let house = House::open_in(&fresh_dir("contacts"), &[("CONTACTS_INSECURE_TEST_TOKENS", flag)]);
        let client = house.client();
        let mut tokens = house.redeem(&client, &house.code(&client), VERIFIER).json();
        let mut lengths = Vec::new();
        for _ in 0..3 {
            let token = tokens["access_token"].as_str().unwrap();
            lengths.push(token.len());
            assert_eq!(house.status(token), 200, "as it was issued, by the code or by refreshing");
            assert_eq!(house.status(&token[..token.len() - 1]), 401, "a part of it is none");
            assert_eq!(house.status(&token[..32]), 401);
            assert_eq!(house.status(&format!("{token}0")), 401, "nor is more");
            let refresh = tokens["refresh_token"].as_str().unwrap();
            assert_eq!(house.status(refresh), 401, "nor is what refreshes it");
            tokens = house.refresh(&client, refresh).json();
        }
        lengths.dedup();
        assert_eq!(lengths.len(), 1, "all are alike");
        let hex = "0123456789abcdef".repeat(4);
        assert_eq!((house.status(&hex), house.status(&hex[..32])), (401, if flag == "true" { 200 } else { 401 }));
    }
}

#[test]
fn s0_30_only_who_asked_can_redeem() {
    let house = House::open();
    let client = house.client();
    let right = house.code(&client);
    for wrong in ["somebody-elses-verifier-which-is-long-enough-too", "", &VERIFIER[1..], &Hash::of(VERIFIER).to_string()] {
        let refused = house.redeem(&client, &house.code(&client), wrong);
        assert_eq!(refused.status, 400, "{wrong:?}");
        assert!(matches!(refused.json()["error"].as_str(), Some("invalid_grant" | "invalid_request")), "{}", refused.text());
    }
    let asks = house.asks(&client);
    for without in [
        asks.replace("code_challenge=", "other="),
        asks.replace("code_challenge_method=S256", "code_challenge_method=plain"),
        asks.replace("code_challenge_method=S256", "other=x"),
    ] {
        // Whoever has sent them here is told on a page, which leads nowhere by itself.
        let page = house.app.get(&without);
        assert!(page.status == 400 && page.header("location").is_none(), "{}", page.status);
        assert!(page.text().contains("code_challenge") && page.text().contains("error=invalid_request"), "{}", page.text());
    }
    assert_eq!(house.redeem(&client, &right, VERIFIER).status, 200);
    let twice = house.redeem(&client, &right, VERIFIER);
    assert_eq!((twice.status, &twice.json()["error"]), (400, &json!("invalid_grant")), "a code is good once");
}

#[test]
fn s0_36_a_login_may_begin_at_one_process_and_end_at_another() {
    let house = House::open_in(&fresh_dir("contacts"), &[("PUBLIC_URL", "http://127.0.0.1:{port}")]);
    let here = house.app.port;
    let second = start(&house.dir.0, 0, &house.variables);
    let there = second.port;
    let at = |port: u16, path: &str, fields: &[(&str, &str)]| {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        Wire::connect(port).request("POST", path, &headers, Some(&written(fields)))
    };
    // Every step at the other one: registered here, asked there, back from GitHub here, agreed there, redeemed here.
    let client = house.client();
    let mut browser = Browser { port: there, jar: BTreeMap::new() };
    let to_github = browser.get(&house.asks(&client));
    let back = house.github.click(to_github.header("location").unwrap(), "Octocat", true);
    let path = back.strip_prefix(&format!("http://127.0.0.1:{here}")).unwrap_or_else(|| panic!("{back}"));
    browser.port = here;
    let to_consent = browser.get(path).header("location").unwrap().to_owned();
    browser.port = there;
    let consent = browser.get(&to_consent);
    browser.port = here;
    let decided = browser.send("/consent", &fields_of(&consent.text(), "/consent"), ("decision", "allow"));
    let code = Form::read(decided.header("location").unwrap().split_once('?').unwrap().1).unwrap().get("code").unwrap().to_owned();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", &client),
        ("code", &code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ];
    let tokens = at(there, "/token", &fields).json();
    let list = request(1, "tools/list", json!({})).to_string();
    let status = |port: u16, token: &Value| {
        Wire::connect(port).post("/mcp/oauth", &[("Authorization", &bearer(token.as_str().unwrap()))], &list).status
    };
    assert_eq!((status(here, &tokens["access_token"]), status(there, &tokens["access_token"])), (200, 200));
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let next = at(here, "/token", &[("grant_type", "refresh_token"), ("client_id", &client), ("refresh_token", refresh)]).json();
    assert_eq!((status(here, &next["access_token"]), status(there, &next["access_token"])), (200, 200));
    // The code was for one of them.
    assert_eq!(at(here, "/token", &fields).status, 400);
}

#[test]
fn s0_32_from_a_challenge_to_a_tool_by_way_of_github() {
    let house = House::open();
    let lost = house.app.get("/mcp/oauth");
    let challenge = lost.header("www-authenticate").unwrap();
    let metadata = challenge.split("resource_metadata=\"").nth(1).unwrap().split('"').next().unwrap();
    let path = metadata.strip_prefix(&format!("http://127.0.0.1:{}", house.app.port)).unwrap();
    let resource = house.app.get(path).json();
    assert_eq!(resource["resource"], format!("http://127.0.0.1:{}/mcp/oauth", house.app.port));
    let tokens = house.token();
    let with = bearer(tokens["access_token"].as_str().unwrap());
    let mut client = house.app.sse("/mcp/oauth", &[("Authorization", &with)]);
    assert_eq!(client.json("add_contact", json!({"name": "Ada"}))["name"], "Ada");
    let list = request(1, "tools/list", json!({})).to_string();
    assert_eq!(house.app.wire().post("/mcp/oauth", &[("Authorization", &with)], &list).status, 200);
    let said = house.app.said();
    assert!(
        !said.contains(tokens["access_token"].as_str().unwrap()) && !said.contains("gho_") && !said.contains("0123456789abcdef"),
        "{said}"
    );
}

#[test]
fn s0_32_a_token_and_a_login_are_good_beside_each_other() {
    let house = House::open_in(&fresh_dir("contacts"), &[("BEARER_TOKEN", "a-token-for-the-desktop")]);
    let login = bearer(house.token()["access_token"].as_str().unwrap());
    let key = bearer("a-token-for-the-desktop");
    let list = request(1, "tools/list", json!({})).to_string();
    // A token of a login is for the endpoint that it was asked for.
    assert_eq!(house.app.wire().post("/mcp/oauth", &[("Authorization", &login)], &list).status, 200);
    for path in ["/mcp", "/mcp/oauth"] {
        assert_eq!(house.app.wire().post(path, &[("Authorization", &key)], &list).status, 200, "{path}");
    }
    // What the one has opened is closed to the other.
    let mut stream = house.app.events("/mcp/oauth", &[("Authorization", &login)]);
    let id: Value = serde_json::from_str(&stream.event().unwrap().data).unwrap();
    let path = format!("/mcp/oauth?sessionId={}", id["sessionId"].as_str().unwrap());
    let ping = request(1, "ping", json!({})).to_string();
    assert_eq!(house.app.wire().post(&path, &[("Authorization", &key)], &ping).status, 404);
    assert_eq!(house.app.wire().post(&path, &[("Authorization", &login)], &ping).status, 202);
    let ways = house.app.get("/.well-known/mcp.json").json()["authentication"]["methods"].clone();
    assert_eq!((&ways[0]["type"], &ways[1]["type"]), (&json!("oauth2"), &json!("bearer")));
}

#[test]
fn s0_33_a_client_like_claude_connects() {
    let house = House::open();
    let with = bearer(house.token()["access_token"].as_str().unwrap());
    let headers = [("Authorization", with.as_str()), ("User-Agent", "Claude-User"), ("Origin", "https://claude.ai")];
    let mut stream = house.app.events("/mcp/oauth", &headers);
    assert_eq!(stream.header("access-control-allow-origin"), Some("https://claude.ai"));
    let session: Value = serde_json::from_str(&stream.event().unwrap().data).unwrap();
    let path = format!("/mcp/oauth?sessionId={}", session["sessionId"].as_str().unwrap());
    let hello = json!({"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "claude-ai", "version": "0.1.0"}});
    stream.event().unwrap();
    let mut say = |message: Value| {
        assert_eq!(house.app.wire().post(&path, &headers, &message.to_string()).status, 202);
        if message.get("id").is_some() { stream.message().unwrap() } else { Value::Null }
    };
    let opened = say(request(0, "initialize", hello));
    assert_eq!(opened["result"]["protocolVersion"], "2024-11-05");
    say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!(say(request(1, "tools/list", json!({})))["result"]["tools"].as_array().unwrap().len(), 4);
    let found = say(request(2, "tools/call", json!({"name": "search_contacts", "arguments": {"query": "*"}})));
    assert_eq!(found["result"]["isError"], false);
}
