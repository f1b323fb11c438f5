//! Random walks over everything that strangers can send, with whatever earlier answers held: no token of a user is
//! ever had for an application that this user has not let in.
//!
//! There are users who sign in, and applications; each step is a request that somebody could make who has seen
//! every answer so far, cookies of all browsers included but for one rule: nobody presses "allow" for Ada. Bob may
//! press it for his own. A failing walk prints its seed; `WALK_SEED` and `WALK_STEPS` run it again, or longer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http_body_util::Full;
use landbridge::store::Kind;
use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::authority_races::Quiet;
use crate::visitors::{PASSWORD, account, now_s, sheets, written};

const CONFIG: &str = r#"
    [auth]
    mode = "oauth"
    scopes = { read = "Read", write = "Write" }
    [servers.a]
    demo = true
    [servers.b]
    demo = true
"#;
const BASE: &str = "http://127.0.0.1:1";
const VERIFIER: &str = "a-verifier-that-everybody-of-the-walk-knows-0123456789";

/// Numbers that are the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.roll(all.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.roll(100) < percent
    }
}

/// What is known so far, by what it is: newest last, and the oldest is forgotten.
#[derive(Default)]
struct Loot(BTreeMap<&'static str, Vec<String>>);

impl Loot {
    fn add(&mut self, kind: &'static str, value: &str) {
        let all = self.0.entry(kind).or_default();
        if !value.is_empty() && !all.iter().any(|known| known == value) {
            all.push(value.to_owned());
        }
        if all.len() > 12 {
            all.remove(0);
        }
    }

    /// One of that kind; now and then one of another.
    fn any(&self, kind: &'static str, dice: &mut Dice) -> String {
        let kinds: Vec<&&str> = self.0.keys().collect();
        let kind = if dice.chance(8) { dice.one(&kinds) } else { kind };
        match self.0.get(kind).filter(|all| !all.is_empty()) {
            // Mostly the newest, as anything may be over.
            Some(all) if dice.chance(60) => all[all.len() - 1].clone(),
            Some(all) => dice.one(all).clone(),
            None => "x".into(),
        }
    }
}

struct Walk {
    gateway: Quiet,
    dice: Dice,
    loot: Loot,
    /// The cookie of each browser.
    jars: Vec<String>,
    /// Whom Bob has let in.
    agreed: BTreeSet<String>,
    trail: Vec<String>,
    /// What came of it: `"code"`, `"token"`, …
    seen: BTreeMap<&'static str, usize>,
}

const BROWSERS: usize = 4;

impl Walk {
    async fn new(seed: u64) -> Walk {
        let gateway = Quiet::open(CONFIG, "memory:").await;
        for name in ["ada", "bob"] {
            gateway.store().put(Kind::User, name, account(name)).await.unwrap();
        }
        let mut walk = Walk {
            gateway,
            dice: Dice(seed),
            loot: Loot::default(),
            jars: vec![String::new(); BROWSERS],
            agreed: BTreeSet::new(),
            trail: Vec::new(),
            seen: BTreeMap::new(),
        };
        for _ in 0..3 {
            let id = walk.gateway.register().await;
            walk.loot.add("client", &id);
        }
        walk
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// A request from one of the browsers, or from a program.
    async fn send(&mut self, method: &str, path: &str, browser: Option<usize>, media: &str, body: String) -> (u16, String, String) {
        let mut request = http::Request::builder().method(method).uri(path).header("host", "127.0.0.1:1");
        if !media.is_empty() {
            request = request.header("content-type", media);
        }
        if let Some(browser) = browser {
            // Now and then with a cookie that was planted there.
            let cookie = if self.dice.chance(10) { self.loot.any("cookie", &mut self.dice) } else { self.jars[browser].clone() };
            request = request.header("cookie", format!("landbridge={cookie}"));
        }
        self.trail.push(format!("{method} {path} {browser:?} {body}"));
        let response = self.gateway.send(request.body(Full::<Bytes>::from(body)).unwrap()).await;
        let word = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let (status, location, cookie) = (response.status().as_u16(), word("location"), word("set-cookie"));
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        if let Some(value) = cookie.strip_prefix("landbridge=").and_then(|rest| rest.split(';').next()) {
            self.loot.add("cookie", value);
            if let Some(browser) = browser {
                self.jars[browser] = value.into();
            }
        }
        self.harvest(&location, &text);
        (status, location, text)
    }

    /// Remembers whatever an answer held.
    fn harvest(&mut self, location: &str, text: &str) {
        if let Some((_, query)) = location.split_once('?')
            && let Ok(form) = Form::read(query)
        {
            for (name, kind) in [("code", "code"), ("request", "request"), ("state", "request")] {
                self.loot.add(kind, form.get(name).unwrap_or_default());
            }
            if form.get("code").is_some() {
                self.count("code");
            }
        }
        for sheet in sheets(text) {
            self.loot.add("csrf", sheet.field("csrf"));
            self.loot.add("request", sheet.field("request"));
            self.count(if sheet.action == "/consent" { "consent page" } else { "another page" });
        }
        if let Ok(said) = serde_json::from_str::<Value>(text) {
            for (name, kind) in [("access_token", "token"), ("refresh_token", "refresh"), ("client_id", "client")] {
                self.loot.add(kind, said[name].as_str().unwrap_or_default());
            }
            if said["access_token"].is_string() {
                self.count("token");
            }
        }
    }

    async fn step(&mut self) {
        let browser = self.dice.roll(BROWSERS);
        match self.dice.roll(16) {
            0..=3 => {
                let path = self.authorize();
                self.send("GET", &path, Some(browser), "", String::new()).await;
            }
            4..=6 => self.sign_in(browser).await,
            7 => {
                let path = format!("/consent?request={}", encode(&self.loot.any("request", &mut self.dice)));
                self.send("GET", &path, Some(browser), "", String::new()).await;
            }
            8..=10 => self.decide(browser).await,
            11 => {
                let body = self.form(&[("csrf", "csrf"), ("request", "request")]);
                self.send("POST", "/logout", Some(browser), FORM, body).await;
            }
            12 => {
                let (state, code) = (self.loot.any("request", &mut self.dice), self.loot.any("code", &mut self.dice));
                let path = format!("/callback?state={}&code={}", encode(&state), encode(&code));
                self.send("GET", &path, Some(browser), "", String::new()).await;
            }
            13 => {
                let body = self.form(&[("client_id", "client"), ("code", "code")])
                    + &format!("&grant_type=authorization_code&code_verifier={VERIFIER}");
                self.send("POST", "/token", None, FORM, body).await;
            }
            14 => {
                let body = self.form(&[("client_id", "client"), ("refresh_token", "refresh")]) + "&grant_type=refresh_token";
                self.send("POST", "/token", None, FORM, body).await;
            }
            _ if self.dice.chance(20) => {
                let path = if self.dice.chance(50) { "/revoke" } else { "/introspect" };
                let kind = if self.dice.chance(50) { "token" } else { "refresh" };
                let body = self.form(&[("client_id", "client"), ("token", kind)]);
                self.send("POST", path, None, FORM, body).await;
            }
            _ if self.dice.chance(10) => {
                let body = json!({"redirect_uris": [self.redirect()], "token_endpoint_auth_method": "none",
                    "client_name": "x", "grant_types": ["authorization_code", "refresh_token"]});
                self.send("POST", "/register", None, "application/json", body.to_string()).await;
            }
            _ => {
                // A form for another page, with another method, as another type.
                let path = *self.dice.one(&["/consent", "/login", "/logout", "/token", "/authorize", "/callback"]);
                let method = *self.dice.one(&["GET", "POST", "PUT"]);
                let media = *self.dice.one(&[FORM, "application/json", "text/plain"]);
                let body = self.form(&[("request", "request"), ("csrf", "csrf"), ("code", "code"), ("user", "client")]);
                let path = if method == "GET" { format!("{path}?{body}") } else { path.to_owned() };
                self.send(method, &path, Some(browser), media, if method == "GET" { String::new() } else { body }).await;
            }
        }
    }

    fn form(&mut self, fields: &[(&str, &'static str)]) -> String {
        let filled: Vec<(&str, String)> = fields.iter().map(|(name, kind)| (*name, self.loot.any(kind, &mut self.dice))).collect();
        let filled: Vec<(&str, &str)> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
        written(&filled)
    }

    fn redirect(&mut self) -> String {
        self.dice.one(&["http://127.0.0.1/done", "http://127.0.0.1:4711/done", "https://evil.example/done"]).to_string()
    }

    fn authorize(&mut self) -> String {
        let client = self.loot.any("client", &mut self.dice);
        let (redirect, state) = (self.redirect(), self.loot.any("request", &mut self.dice));
        let resource = format!("{BASE}{}", self.dice.one(&["", "/mcp", "/servers/a", "/servers/b/sse"]));
        let scope = *self.dice.one(&["", "read", "read write", "admin"]);
        let challenge = Hash::of(VERIFIER).to_string();
        let all = [
            ("response_type", "code"),
            ("client_id", &client),
            ("redirect_uri", &redirect),
            ("state", &state),
            ("resource", &resource),
            ("scope", scope),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            // What a page of ours would send, and nobody here reads.
            ("decision", "allow"),
            ("user", "ada"),
        ];
        format!("/authorize?{}", written(&all))
    }

    /// Somebody begins, and signs in: Ada as herself, or what a page makes her browser send.
    async fn sign_in(&mut self, browser: usize) {
        if self.dice.chance(40) {
            // In a window of its own.
            self.jars[browser].clear();
        }
        let path = self.authorize();
        let (_, _, page) = self.send("GET", &path, Some(browser), "", String::new()).await;
        let Some(sheet) = sheets(&page).into_iter().find(|sheet| sheet.action == "/login") else { return };
        let user = if self.dice.chance(50) { "ada" } else { "bob" };
        let csrf = if self.dice.chance(10) { self.loot.any("csrf", &mut self.dice) } else { sheet.field("csrf").into() };
        let request = if self.dice.chance(10) { self.loot.any("request", &mut self.dice) } else { sheet.field("request").into() };
        let body = written(&[("user", user), ("password", PASSWORD), ("csrf", &csrf), ("request", &request)]);
        let (status, location, _) = self.send("POST", "/login", Some(browser), FORM, body).await;
        if status == 303 {
            self.count("signed in");
            self.send("GET", &location, Some(browser), "", String::new()).await;
        }
    }

    /// Whoever is at a page of consent decides: Bob as he likes, Ada never with yes. Whose page it is says the page
    /// itself.
    async fn decide(&mut self, browser: usize) {
        let request = self.loot.any("request", &mut self.dice);
        let path = format!("/consent?request={}", encode(&request));
        let (_, _, page) = self.send("GET", &path, Some(browser), "", String::new()).await;
        let own = sheets(&page).into_iter().find(|sheet| sheet.action == "/consent");
        let is_bobs = page.contains("<strong><bdi>bob</bdi></strong>");
        let (csrf, request, decision) = match &own {
            Some(sheet) if is_bobs => {
                // What he agrees to is what the record of his request says.
                let yes = self.dice.chance(70);
                if yes && let Some(client) = self.client_of(sheet.field("request")).await {
                    self.agreed.insert(client);
                }
                (sheet.field("csrf").to_owned(), sheet.field("request").to_owned(), if yes { "allow" } else { "deny" })
            }
            Some(sheet) if self.dice.chance(50) => {
                (sheet.field("csrf").to_owned(), sheet.field("request").to_owned(), *self.dice.one(&["deny", "", "ALLOW", "allow "]))
            }
            // A form that a page makes Ada's browser send: everything but her own token for her own request.
            Some(sheet) => {
                let csrf = self.loot.any("csrf", &mut self.dice);
                let request =
                    if self.dice.chance(50) { sheet.field("request").to_owned() } else { self.loot.any("request", &mut self.dice) };
                if csrf == sheet.field("csrf") || self.is_pressed(&csrf, &request) {
                    return;
                }
                (csrf, request, "allow")
            }
            None => {
                let (csrf, request) = (self.loot.any("csrf", &mut self.dice), self.loot.any("request", &mut self.dice));
                if self.is_pressed(&csrf, &request) {
                    return;
                }
                (csrf, request, "allow")
            }
        };
        let body =
            written(&[("csrf", &csrf), ("request", &request), ("decision", decision), ("scope:read", "yes"), ("scope:write", "yes")]);
        // The browser as it is: with a planted cookie it would be another's.
        self.trail.push(format!("decision {decision:?} at {browser}, whose page is bob's: {is_bobs}"));
        let (status, ..) = self.send_as_is("POST", "/consent", browser, body).await;
        if status == 303 && decision == "allow" {
            self.count("decided");
        }
    }

    /// Whether a form is right for any browser that was ever seen: then it is a press on a button of somebody's, and
    /// it is not known whose.
    fn is_pressed(&self, csrf: &str, request: &str) -> bool {
        let cookies = self.loot.0.get("cookie").into_iter().flatten().chain(&self.jars);
        cookies.into_iter().any(|cookie| landbridge::login::cookies::is_form_token(csrf, cookie, request))
    }

    async fn send_as_is(&mut self, method: &str, path: &str, browser: usize, body: String) -> (u16, String, String) {
        let request = http::Request::builder().method(method).uri(path).header("host", "127.0.0.1:1").header("content-type", FORM);
        let request = request.header("cookie", format!("landbridge={}", self.jars[browser]));
        self.trail.push(format!("{method} {path} {browser} {body}"));
        let response = self.gateway.send(request.body(Full::<Bytes>::from(body)).unwrap()).await;
        let location = response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        self.harvest(&location, &text);
        (response.status().as_u16(), location, text)
    }

    /// The client of a request that was begun.
    async fn client_of(&self, request: &str) -> Option<String> {
        let key = format!("flow {}", Hash::of(request));
        let record = self.gateway.store().get(Kind::Login, &key, now_s()).await.unwrap()?;
        let flow: Value = serde_json::from_str(&record.value).unwrap();
        Form::read(flow["query"].as_str()?).ok()?.get("client_id").map(str::to_owned)
    }

    /// Nothing that lets anybody in is Ada's, and nothing of Bob's is for whom he has not let in.
    async fn check(&self, seed: u64) {
        for kind in [Kind::Grant, Kind::Access, Kind::Refresh, Kind::Code] {
            for (_, record) in self.gateway.store().list(kind, "", 1000, now_s()).await.unwrap() {
                let value: Value = serde_json::from_str(&record.value).unwrap();
                let inner = if value["grant"].is_object() { &value["grant"] } else { &value };
                let principal = inner["principal"].as_str().unwrap_or_default();
                let client = inner["client"].as_str().or(inner["client_id"].as_str()).unwrap_or_default();
                let fine = match principal {
                    "" => value["spent"].is_object(),
                    principal => principal.contains("#bob/") && self.agreed.contains(client),
                };
                let trail = self.trail[self.trail.len().saturating_sub(30)..].join("\n");
                assert!(fine, "seed {seed}: {kind:?} of {principal} for {client}, whom Bob let in: {:?}\n{value}\n{trail}", self.agreed);
            }
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_a_token_of_a_user_who_has_not_agreed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = number("WALK_SEED").map_or_else(|| (1..=12).collect(), |seed| vec![seed]);
    let n_steps = number("WALK_STEPS").unwrap_or(500);
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    // At once, as a token that is unknown takes its time.
    let mut walks = JoinSet::new();
    for seed in seeds {
        walks.spawn(async move {
            let mut walk = Walk::new(seed).await;
            for step in 0..n_steps {
                walk.step().await;
                if step % 10 == 9 {
                    walk.check(seed).await;
                }
            }
            walk.check(seed).await;
            walk.seen
        });
    }
    while let Some(done) = walks.join_next().await {
        for (what, count) in done.unwrap() {
            *seen.entry(what).or_default() += count;
        }
    }
    eprintln!("{seen:?}");
    // It has been to where the treasure lies, or it has proved nothing.
    for what in ["signed in", "consent page", "decided", "code", "token"] {
        assert!(seen.get(what).is_some_and(|count| *count >= 10), "{what}: {seen:?}");
    }
}
