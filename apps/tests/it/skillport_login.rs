//! The marketplace behind a login, at an issuer on loopback that is as strict as Google.

use std::collections::BTreeMap;

use landbridge_fixtures::idp::{self, Algorithm, Idp, Kind};
use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::app::App;
use crate::skillport::skill_md;
use crate::wire::{Response, Wire};

const SECRET: &str = "a-secret-of-the-application";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0123456789";
const REDIRECT: &str = "https://claude.ai/api/mcp/auth_callback";
const ISSUED_FOR: &str = "google-secret";

/// An app, and the issuer that its users log in at.
struct House {
    app: App,
    idp: Idp,
}

fn person(id: u64, login: &str, domain: &str) -> idp::Person {
    idp::Person {
        id,
        login: login.into(),
        name: Some(login.to_uppercase()),
        email: Some(format!("{login}@{domain}")),
        email_verified: true,
        hd: Some(domain.into()),
        organisations: vec![],
    }
}

impl House {
    fn start(variables: &[(&str, &str)]) -> House {
        // The issuer has to know where we are, and we who it is; it starts second, at a port that was free just now.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let issuer = format!("http://127.0.0.1:{port}");
        let mut all = vec![
            ("GOOGLE_CLIENT_ID", "google-id"),
            ("GOOGLE_CLIENT_SECRET", ISSUED_FOR),
            ("GOOGLE_ALLOWED_DOMAINS", "example.com"),
            ("OIDC_ISSUER", issuer.as_str()),
            ("OAUTH_CLIENT_ID", "claude"),
            ("OAUTH_CLIENT_SECRET", SECRET),
        ];
        all.extend(variables);
        let app = App::start("skillport", &[], &all);
        let registered = idp::App {
            client_id: "google-id".into(),
            client_secret: ISSUED_FOR.into(),
            callback: format!("http://127.0.0.1:{}/callback", app.port),
        };
        let people = vec![person(1, "ada", "example.com"), person(2, "bob", "example.com"), person(3, "eve", "evil.example")];
        House { idp: Idp::start(Kind::Oidc, Algorithm::Es256, port, registered, people), app }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.app.port)
    }

    /// As far as to be sent back by the issuer.
    fn begin(&self, browser: &mut Browser, user: &str, resource: &str) -> String {
        let challenge = Hash::of(VERIFIER).to_string();
        let mut path = format!(
            "/authorize?response_type=code&client_id=claude&redirect_uri={}&state=s&code_challenge={challenge}&code_challenge_method=S256",
            encode(REDIRECT)
        );
        if !resource.is_empty() {
            path.push_str(&format!("&resource={}", encode(resource)));
        }
        let away = browser.get(&path);
        assert_eq!(away.status, 302, "{}", away.text());
        let back = self.idp.click(away.header("location").unwrap(), user, true);
        back.strip_prefix(&self.url("")).unwrap_or_else(|| panic!("{back}")).to_owned()
    }

    /// A token for that resource, by the whole way.
    fn token(&self, user: &str, resource: &str) -> String {
        let mut browser = Browser::new(self.app.port);
        let back = self.begin(&mut browser, user, resource);
        let consent = browser.follow(&back);
        let page = consent.text();
        let form = page.split("<form ").find(|form| form.contains("action=\"/consent\"")).unwrap_or_else(|| panic!("{page}"));
        let attribute =
            |tag: &str, name: &str| tag.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
        let form = form.split("</form>").next().unwrap();
        let tags = form.split("<input ").skip(1).filter_map(|tag| tag.split('>').next());
        let fields = tags.filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)));
        let body: String = fields.map(|(name, value)| format!("{name}={}&", encode(&value))).collect();
        let body = format!("{body}decision=allow");
        let done = browser.form("/consent", &body);
        let location = done.header("location").unwrap_or_else(|| panic!("{}", done.text())).to_owned();
        let form = Form::read(location.split_once('?').unwrap().1).unwrap();
        let mut body = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={VERIFIER}&client_id=claude&client_secret={SECRET}",
            encode(form.get("code").unwrap_or_else(|| panic!("{location}"))),
            encode(REDIRECT)
        );
        if !resource.is_empty() {
            body.push_str(&format!("&resource={}", encode(resource)));
        }
        let given = Browser::new(self.app.port).form("/token", &body);
        assert_eq!(given.status, 200, "{}", given.text());
        given.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// The status with which a token is answered at a path.
    fn status(&self, path: &str, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        match path {
            "/sse" => self.app.events(path, &[("authorization", &bearer)]).status,
            _ => self.app.wire().post(path, &[("authorization", &bearer)], &hello().to_string()).status,
        }
    }

    fn whoami(&self, path: &str, token: &str) -> Value {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let mut client = if path == "/sse" { self.app.sse(path, &headers) } else { self.app.http(path, &headers) };
        let api = client.json("skillport_auth", json!({}))["token"].as_str().unwrap().to_owned();
        self.app.get_with("/api/whoami", &[("authorization", &format!("Bearer {api}"))]).json()
    }
}

fn hello() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
}

/// It keeps cookies.
struct Browser {
    port: u16,
    jar: BTreeMap<String, String>,
}

impl Browser {
    fn new(port: u16) -> Browser {
        Browser { port, jar: BTreeMap::new() }
    }

    fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[], None)
    }

    fn form(&mut self, path: &str, body: &str) -> Response {
        self.request("POST", path, &[("content-type", "application/x-www-form-urlencoded")], Some(body))
    }

    /// To where pages of ours lead.
    fn follow(&mut self, path: &str) -> Response {
        let response = self.get(path);
        match response.header("location") {
            Some(to) if to.starts_with('/') => {
                let to = to.to_owned();
                self.follow(&to)
            }
            _ => response,
        }
    }

    fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Response {
        let cookies = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let mut headers = headers.to_vec();
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let response = Wire::connect(self.port).request(method, path, &headers, body);
        for (_, set) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.jar.insert(name.into(), value.into());
        }
        response
    }
}

#[test]
fn s1_3_both_transports_have_the_same_tools_and_the_same_user() {
    let house = House::start(&[]);
    let token = house.token("ada", "");
    let who = house.whoami("/mcp", &token);
    assert_eq!(who, house.whoami("/sse", &token));
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(house.app.sse("/sse", &headers).tools(), house.app.http("/mcp", &headers).tools());
}

#[test]
fn s1_6_one_provider_guards_both_transports_and_nothing_else() {
    let house = House::start(&[]);
    assert_eq!((house.app.get("/sse").status, house.app.post("/mcp", &hello()).status), (401, 401));
    assert_eq!(house.app.post("/sse/message?sessionId=x", &hello()).status, 401);
    for path in ["/", "/install.sh", "/diagnostics", "/.well-known/oauth-authorization-server"] {
        assert_eq!(house.app.get(path).status, 200, "{path}");
    }
    assert_eq!(house.app.get("/nowhere").status, 404);
}

#[test]
fn s1_7_a_token_counts_for_urls_that_have_a_path() {
    let house = House::start(&[]);
    let token = house.token("ada", &house.url("/mcp"));
    assert_eq!(house.status("/mcp", &token), 200);
}

#[test]
fn s1_8_a_resource_is_named_by_scheme_host_and_path() {
    let house = House::start(&[]);
    for path in ["/mcp", "/sse"] {
        let document = house.app.get(&format!("/.well-known/oauth-protected-resource{path}")).json();
        assert_eq!(document["resource"], house.url(path));
    }
    let token = house.token("ada", &house.url("/sse"));
    assert_eq!((house.status("/sse", &token), house.status("/mcp", &token)), (200, 401));
}

#[test]
fn s1_9_a_token_for_the_base_opens_both_paths() {
    let house = House::start(&[]);
    let token = house.token("ada", &house.url(""));
    assert_eq!((house.status("/mcp", &token), house.status("/sse", &token)), (200, 200));
}

#[test]
fn s1_10_a_token_for_the_base_is_accepted_at_mcp() {
    let house = House::start(&[]);
    // As it is written with a slash at its end, too.
    for base in ["", "/"] {
        let token = house.token("ada", &house.url(base));
        assert_eq!(house.status("/mcp", &token), 200, "{base:?}");
    }
}

#[test]
fn s1_11_nothing_is_asked_for_that_only_begins_alike() {
    let house = House::start(&[]);
    for resource in
        [house.url(".evil.example"), house.url("/mcp-v2"), house.url("/mc"), "https://example.com".into(), house.url("/mcp?x=1")]
    {
        let challenge = Hash::of(VERIFIER).to_string();
        let asked = house.app.get(&format!(
            "/authorize?response_type=code&client_id=claude&redirect_uri={}&state=s&code_challenge={challenge}&code_challenge_method=S256&resource={}",
            encode(REDIRECT),
            encode(&resource)
        ));
        let location = asked.header("location").unwrap_or_default();
        assert!(asked.status >= 400 || location.contains("error=invalid_target"), "{resource}: {} {location}", asked.status);
    }
    let token = house.token("ada", &house.url("/mcp"));
    let elsewhere = [("authorization", format!("Bearer {token}")), ("host", "127.0.0.1.evil.example".into())];
    let headers: Vec<(&str, &str)> = elsewhere.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(house.app.wire().post("/mcp", &headers, &hello().to_string()).status >= 400);
}

#[test]
fn s1_12_nothing_has_to_be_patched_for_tokens_to_count() {
    // As it comes: no setting says anything of audiences, and a second start changes nothing.
    for _ in 0..2 {
        let house = House::start(&[]);
        let token = house.token("ada", &house.url(""));
        assert_eq!((house.status("/mcp", &token), house.status("/sse", &token)), (200, 200));
    }
}

#[test]
fn s1_15_no_client_has_to_name_its_transport() {
    let house = House::start(&[]);
    let bearer = format!("Bearer {}", house.token("ada", ""));
    let headers = [("authorization", bearer.as_str())];
    // The URL is all that tells them apart; a new client that is given the old one is told at once.
    assert_eq!(house.app.sse("/sse", &headers).tools().len(), 1);
    assert_eq!(house.app.http("/mcp", &headers).tools().len(), 1);
    assert_eq!(house.app.wire().post("/sse", &headers, &hello().to_string()).status, 405);
}

#[test]
fn s1_16_clients_are_known_beforehand_or_register() {
    let house = House::start(&[]);
    assert_eq!(house.status("/mcp", &house.token("ada", "")), 200, "by the id and the secret of the operator");
    let wrong = "grant_type=authorization_code&code=x&client_id=claude&client_secret=wrong&redirect_uri=x&code_verifier=x";
    assert_eq!(Browser::new(house.app.port).form("/token", wrong).status, 401);
    let new = json!({"client_name": "new", "redirect_uris": ["https://new.example/cb"], "token_endpoint_auth_method": "none"});
    let registered = house.app.wire().post("/register", &[], &new.to_string());
    assert!(registered.status == 201 && registered.json()["client_id"].is_string(), "{}", registered.text());
}

#[test]
fn s1_18_who_polls_gets_a_challenge_and_no_session() {
    let house = House::start(&[]);
    for _ in 0..20 {
        let polled = house.app.get_with("/sse", &[("accept", "text/event-stream")]);
        assert!(polled.status == 401 && polled.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
    }
    assert_eq!(house.app.get("/diagnostics").json()["sessions"], 0);
}

#[test]
fn s1_19_the_first_request_after_the_login_works() {
    let house = House::start(&[]);
    for (user, path) in [("ada", "/mcp"), ("bob", "/sse")] {
        let token = house.token(user, &house.url(path));
        assert_eq!(house.status(path, &token), 200, "{path}");
    }
}

#[test]
fn s1_20_every_client_is_served_at_its_path() {
    let house = House::start(&[]);
    for (user, path) in [("ada", "/mcp"), ("bob", "/sse"), ("ada", "/sse")] {
        let who = house.whoami(path, &house.token(user, &house.url(path)));
        assert_eq!(who["email"], format!("{user}@example.com"), "{path}");
    }
}

#[test]
fn s1_25_a_login_that_never_begins_leaves_a_trace_of_who_asked() {
    let house = House::start(&[]);
    assert_eq!(house.app.get("/sse").status, 401);
    assert_eq!(house.app.get("/diagnostics").json()["reached"], true);
    assert!(!house.idp.seen().iter().any(|seen| seen.contains("authorize")), "nobody has come as far as the issuer");
}

#[test]
fn s1_27_a_token_counts_on_both_paths() {
    let house = House::start(&[]);
    let token = house.token("ada", "");
    for path in ["/mcp", "/sse", "/mcp", "/sse"] {
        assert_eq!(house.status(path, &token), 200, "{path}");
    }
}

#[test]
fn s1_32_the_documents_of_discovery_are_there_for_everybody() {
    let house = House::start(&[]);
    for (path, resource) in [("", ""), ("/mcp", "/mcp"), ("/sse", "/sse")] {
        let response = house.app.get(&format!("/.well-known/oauth-protected-resource{path}"));
        assert_eq!(response.status, 200);
        let document = response.json();
        assert_eq!(document["resource"].as_str().unwrap().trim_end_matches('/'), house.url(resource));
        assert_eq!(document["authorization_servers"], json!([house.url("")]));
        assert_eq!((&document["scopes_supported"], &document["bearer_methods_supported"]), (&json!(["mcp:read"]), &json!(["header"])));
    }
    let issuer = house.app.get("/.well-known/oauth-authorization-server").json();
    assert_eq!((&issuer["issuer"], &issuer["token_endpoint"]), (&json!(house.url("")), &json!(house.url("/token"))));
}

#[test]
fn s1_34_pages_may_read_the_challenge() {
    let house = House::start(&[("ALLOWED_ORIGINS", "https://claude.ai")]);
    let refused = house.app.wire().post("/mcp", &[("origin", "https://claude.ai")], &hello().to_string());
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("https://claude.ai")));
    assert!(refused.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
}

#[test]
fn s1_35_who_shows_nothing_gets_a_bare_challenge() {
    let house = House::start(&[]);
    let challenge = |headers: &[(&str, &str)]| {
        let refused = house.app.wire().post("/mcp", headers, &hello().to_string());
        assert_eq!(refused.status, 401);
        refused.header("www-authenticate").unwrap().to_owned()
    };
    let bare = challenge(&[]);
    let document = house.url("/.well-known/oauth-protected-resource/mcp");
    assert!(
        bare.starts_with("Bearer ") && bare.contains(&format!("resource_metadata=\"{document}\"")) && !bare.contains("error"),
        "{bare}"
    );
    assert!(challenge(&[("authorization", "Bearer wrong")]).contains("error=\"invalid_token\""));
}

#[test]
fn s1_36_a_login_is_bound_to_its_browser_and_its_time() {
    let house = House::start(&[]);
    let mut browser = Browser::new(house.app.port);
    let back = house.begin(&mut browser, "ada", "");
    let away = browser.get(&format!(
        "/authorize?response_type=code&client_id=claude&redirect_uri={}&state=s&code_challenge={}&code_challenge_method=S256",
        encode(REDIRECT),
        Hash::of(VERIFIER)
    ));
    let to = away.header("location").unwrap();
    for part in ["scope=openid", "email", "profile", "state=", "code_challenge="] {
        assert!(to.contains(part), "{to}");
    }
    let fresh = Wire::connect(house.app.port).request(
        "GET",
        &format!(
            "/authorize?response_type=code&client_id=claude&redirect_uri={}&state=s&code_challenge={}&code_challenge_method=S256",
            encode(REDIRECT),
            Hash::of(VERIFIER)
        ),
        &[],
        None,
    );
    let cookie = fresh.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    for path in ["/callback?code=x&state=wrong", "/callback?code=x", "/callback"] {
        assert_eq!(browser.get(path).status, 400, "{path}");
    }
    let other = Browser::new(house.app.port).get(&back);
    assert!(
        other.header("location").is_none_or(|to| !to.contains("code=") && !to.contains("/consent")),
        "another browser gets nothing by it"
    );
    // Ten minutes are over.
    let late = house.begin(&mut browser, "ada", "");
    let store = format!("sqlite:{}", house.app.dir.join("data/skillport/auth.db").display());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = landbridge::store::open(&store).await.unwrap();
        assert!(store.sweep(landbridge::system::now_s() + 601).await.unwrap() > 0);
    });
    assert_eq!(browser.get(&late).status, 400);
    let failing = house.begin(&mut browser, "ada", "");
    house.idp.fault(idp::Fault::Answer("/token", 500, "{}"));
    assert!(browser.get(&failing).status >= 500, "the issuer does not do its part");
}

#[test]
fn s1_37_other_domains_stay_out() {
    let house = House::start(&[]);
    let mut browser = Browser::new(house.app.port);
    let back = house.begin(&mut browser, "eve", "");
    assert_eq!(browser.follow(&back).status, 403);
    let open = House::start(&[("GOOGLE_ALLOWED_DOMAINS", "")]);
    assert_eq!(open.status("/mcp", &open.token("eve", "")), 200, "where no domain is named everybody may come in");
}

#[test]
fn s1_38_tools_know_the_user_on_both_transports() {
    let house = House::start(&[]);
    let known = json!({"id": "oidc:1", "email": "ada@example.com", "name": "ADA", "provider": "oidc"});
    let (ada, bob) = (house.token("ada", ""), house.token("bob", ""));
    for path in ["/mcp", "/sse"] {
        assert_eq!(house.whoami(path, &ada), known, "{path}");
        assert_eq!(house.whoami(path, &bob)["id"], "oidc:2", "{path}");
    }
}

#[test]
fn rules_of_access_are_kept() {
    let house = House::start(&[]);
    let api = |user: &str| {
        let bearer = format!("Bearer {}", house.token(user, ""));
        let mut client = house.app.http("/mcp", &[("authorization", &bearer)]);
        format!("Bearer {}", client.json("skillport_auth", json!({}))["token"].as_str().unwrap())
    };
    let (ada, bob) = (api("ada"), api("bob"));
    let ask = |who: &str, method: &str, path: &str, body: Option<&Value>| {
        house.app.wire().request(method, path, &[("authorization", who)], body.map(Value::to_string).as_deref())
    };
    let letters = "/api/skills/plain-letters";
    let change = json!({"files": [{"path": "SKILL.md", "content": skill_md("plain-letters")}]});
    // Without rules everybody reads and nobody writes.
    assert_eq!((ask(&ada, "GET", letters, None).status, ask(&ada, "POST", letters, Some(&change)).status), (200, 403));
    let rules = json!({"version": 1, "editors": [{"id": "oidc:1", "label": "Ada"}], "skills": {"skillport": {"read": "editors"}}});
    let file = house.app.dir.join("data/skillport/marketplace/.skillport/access.json");
    std::fs::write(&file, rules.to_string()).unwrap();
    assert_eq!((ask(&ada, "POST", letters, Some(&change)).status, ask(&bob, "POST", letters, Some(&change)).status), (200, 403));
    assert_eq!(ask(&bob, "GET", "/api/skills/skillport", None).status, 403);
    assert_eq!(ask(&bob, "GET", "/api/skills", None).json()["count"], 1);
    assert!(!ask(&bob, "GET", "/api/debug/plugins", None).text().contains("skillport/skills"));
    assert_eq!(ask(&bob, "GET", "/api/skills/plain-letters/edit", None).status, 403);
    // A token for a download is worth what its user may by now.
    let given = ask(&ada, "GET", "/api/skills/plain-letters/edit", None).json();
    std::fs::write(&file, "{").unwrap();
    assert_eq!(house.app.get(&format!("/api/edit/{}", given["edit_token"].as_str().unwrap())).status, 500, "broken rules let nobody in");
    std::fs::write(&file, rules.to_string().replace("oidc:1", "oidc:2")).unwrap();
    assert_eq!(house.app.get(&format!("/api/edit/{}", given["edit_token"].as_str().unwrap())).status, 403);
    assert_eq!(ask(&ada, "POST", "/api/skills/new", Some(&change)).status, 403);
}

#[test]
fn s1_29_every_way_that_works_works_with_a_login() {
    let house = House::start(&[]);
    for (client, path, resource) in [
        ("code", "/mcp", "/mcp"),
        ("web", "/sse", "/sse"),
        ("desktop", "/sse", ""),
        ("inspector", "/sse", "/sse"),
        ("audience", "/mcp", ""),
    ] {
        let bearer = format!("Bearer {}", house.token("ada", &house.url(resource)));
        let headers = [("authorization", bearer.as_str()), ("user-agent", client)];
        let mut client = if path == "/sse" { house.app.sse(path, &headers) } else { house.app.http(path, &headers) };
        assert!(client.json("skillport_auth", json!({}))["token"].is_string());
    }
}

#[test]
fn s1_30_a_strict_client_of_streamable_http_works() {
    let house = House::start(&[]);
    let bearer = format!("Bearer {}", house.token("ada", &house.url("/mcp")));
    let opened = house.app.wire().post("/mcp", &[("authorization", &bearer)], &hello().to_string());
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    let headers = [("authorization", bearer.as_str()), ("mcp-session-id", &session), ("mcp-protocol-version", "2025-06-18")];
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let taken = house.app.wire().post("/mcp", &headers, &initialized.to_string());
    assert_eq!((taken.status, taken.body.len()), (202, 0));
    let stream = house.app.events("/mcp", &headers);
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    let listed = house.app.wire().post("/mcp", &headers, &json!({"jsonrpc": "2.0", "id": "a", "method": "tools/list"}).to_string());
    assert_eq!(listed.messages()[0]["result"]["tools"][0]["name"], "skillport_auth");
    assert!(house.app.wire().request("DELETE", "/mcp", &headers, None).status < 300);
    assert_eq!(house.app.wire().post("/mcp", &headers, &json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}).to_string()).status, 404);
}

#[test]
fn s1_23_behind_a_terminator_of_tls_urls_are_those_of_the_outside() {
    let house = House::start(&[("CONNECTOR_URL", "https://mcp.example.com")]);
    let forwarded = [("host", "mcp.example.com"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "mcp.example.com")];
    let document = house.app.get_with("/.well-known/oauth-protected-resource/sse", &forwarded).json();
    assert_eq!(
        (&document["resource"], &document["authorization_servers"]),
        (&json!("https://mcp.example.com/sse"), &json!(["https://mcp.example.com"]))
    );
    let refused = house.app.get_with("/sse", &forwarded);
    assert!(refused.header("www-authenticate").unwrap().contains("https://mcp.example.com/.well-known/"), "{:?}", refused.headers);
    assert!(house.app.get_with("/install.sh", &forwarded).text().contains("BASE='https://mcp.example.com'"));
    // Whoever is no proxy that we know has no say in it.
    let lied = [("host", "mcp.example.com"), ("x-forwarded-host", "evil.example")];
    assert!(!house.app.get_with("/.well-known/oauth-protected-resource/mcp", &lied).text().contains("evil"));
}

#[test]
fn accounts_of_our_own_log_in() {
    use landbridge::store::{Kind as Record, Record as Kept};
    let app = App::start("skillport", &[], &[("SKILLPORT_LOGIN", "local"), ("OAUTH_CLIENT_ID", "claude")]);
    assert_eq!((app.get("/sse").status, app.post("/mcp", &hello()).status), (401, 401));
    let path = format!(
        "/authorize?response_type=code&client_id=claude&redirect_uri={}&state=s&code_challenge={}&code_challenge_method=S256",
        encode(REDIRECT),
        Hash::of(VERIFIER)
    );
    assert_eq!(Browser::new(app.port).get(&path).status, 503, "there is no account yet, and the page says how to make one");
    let account = landbridge::login::local::Account::new("ada", "correct horse battery", [7; 16], landbridge::system::now_s()).unwrap();
    let store = format!("sqlite:{}", app.dir.join("data/skillport/auth.db").display());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = landbridge::store::open(&store).await.unwrap();
        store.put(Record::User, "ada", Kept { value: account.to_json(), expires_s: None }).await.unwrap();
    });
    let page = Browser::new(app.port).get(&path);
    assert!(page.status == 200 && page.text().contains("action=\"/login\""), "{}", page.text());
}
