//! Who did what: one line for each event, with its fields and without a secret, in the log and in a file that is
//! opened anew when it was moved away.

use std::cell::RefCell;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::gateway::{Gateway, signal, slow, stateless_request, tool, wait_until};
use crate::wire::Response;

const PASSWORD: &str = "correct horse battery";
const VERIFIER: &str = "a-verifier-that-is-long-enough-for-everybody-to-take-it";
const KEY: &str = "sesame-of-ada-for-machines";
const REDIRECT: &str = "http://127.0.0.1:7777/cb";

/// A directory for a gateway's files.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let dir = std::env::temp_dir().join(format!("landbridge-audit-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&dir).unwrap();
        Place(dir)
    }

    pub fn store(&self) -> String {
        format!("sqlite:{}", self.0.join("store.db").display())
    }

    /// Where a configuration is written.
    pub fn config(&self, text: &str) -> String {
        let file = self.0.join("config.toml");
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    pub fn audit(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A gateway with an authorization server and the account `ada`, and what a browser and an application do there.
pub struct Web {
    pub gateway: Gateway,
    pub place: Place,
    /// What nobody may read in a log.
    secrets: RefCell<Vec<String>>,
}

/// What an application was given.
pub struct Tokens {
    client: String,
    pub access: String,
    refresh: String,
}

impl Web {
    /// With these keys of a configuration file; those of the top level first.
    pub fn start(config: &str) -> Web {
        let place = Place::new();
        let mut add = Command::new(env!("CARGO_BIN_EXE_landbridge"))
            .args(["user", "add", "ada", "--password-stdin", "--store", &place.store()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        add.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        assert!(add.wait().unwrap().success());
        let config = config.replace("AUDIT_FILE", place.audit().to_str().unwrap());
        let at = if config.starts_with('[') { 0 } else { config.find("\n[").map_or(config.len(), |at| at + 1) };
        let (top, tables) = config.split_at(at);
        let text = format!("{top}\n[auth]\nmode = \"oauth\"\nstore = {:?}\n{}\n", place.store(), tables);
        let gateway = Gateway::here(&["--config", &place.config(&text)], &[("MCP_API_KEY_1", &format!("{KEY}:ada"))]);
        let secrets = [PASSWORD, VERIFIER, KEY].map(str::to_owned).to_vec();
        Web { gateway, place, secrets: RefCell::new(secrets) }
    }

    fn keep(&self, secret: &str) -> String {
        self.secrets.borrow_mut().push(secret.to_owned());
        secret.to_owned()
    }

    fn form(&self, path: &str, cookie: Option<&str>, fields: &[(&str, &str)]) -> Response {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        headers.extend(cookie.map(|cookie| ("cookie", cookie)));
        self.gateway.wire().post(path, &headers, &body.join("&"))
    }

    pub fn register(&self) -> String {
        let body = json!({"redirect_uris": [REDIRECT], "client_name": "App", "token_endpoint_auth_method": "none",
            "grant_types": ["authorization_code", "refresh_token"]});
        let response = self.gateway.wire().post("/register", &[], &body.to_string());
        assert_eq!(response.status, 201, "{}", response.text());
        response.json()["client_id"].as_str().unwrap().to_owned()
    }

    /// The sign-in page that a browser is shown: its cookie, and its hidden fields.
    fn begin(&self, client: &str) -> Shown {
        let base = format!("http://127.0.0.1:{}", self.gateway.port);
        let path = format!(
            "/authorize?response_type=code&client_id={}&redirect_uri={}&code_challenge={}&code_challenge_method=S256&resource={}&state=s",
            encode(client),
            encode(REDIRECT),
            Hash::of(VERIFIER),
            encode(&format!("{base}/mcp"))
        );
        self.shown(self.gateway.wire().request("GET", &path, &[], None), None)
    }

    fn shown(&self, page: Response, cookie: Option<&str>) -> Shown {
        assert_eq!(page.status, 200, "{}", page.text());
        let text = page.text();
        let field = |name: &str| {
            let rest = text.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {text}"));
            rest.split('"').next().unwrap().to_owned()
        };
        let set = page.header("set-cookie").map(|set| set.split(';').next().unwrap().to_owned());
        let cookie = set.unwrap_or_else(|| cookie.unwrap().to_owned());
        self.keep(cookie.split_once('=').unwrap().1);
        Shown { cookie, csrf: self.keep(&field("csrf")), request: field("request") }
    }

    fn sign_in(&self, shown: &Shown, user: &str, password: &str) -> Response {
        let fields = [("csrf", shown.csrf.as_str()), ("request", &shown.request), ("user", user), ("password", password)];
        self.form("/login", Some(&shown.cookie), &fields)
    }

    /// The consent page, for somebody who has signed in.
    fn consent(&self, client: &str) -> Shown {
        let begun = self.begin(client);
        let sent = self.sign_in(&begun, "ada", PASSWORD);
        assert_eq!(sent.status, 303, "{}", sent.text());
        let cookie = sent.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let page = self.gateway.wire().request("GET", sent.header("location").unwrap(), &[("cookie", &cookie)], None);
        self.shown(page, Some(&cookie))
    }

    /// Where the browser is sent when the user has decided.
    fn decide(&self, shown: &Shown, decision: &str) -> Form {
        let fields = [("csrf", shown.csrf.as_str()), ("request", &shown.request), ("decision", decision), ("scope:mcp", "yes")];
        let sent = self.form("/consent", Some(&shown.cookie), &fields);
        let location = sent.header("location").unwrap_or_else(|| panic!("{}", sent.text())).to_owned();
        Form::read(location.split_once('?').unwrap().1).unwrap()
    }

    fn tokens(&self, client: &str, fields: &[(&str, &str)]) -> Response {
        let mut all = vec![("client_id", client)];
        all.extend(fields);
        self.form("/token", None, &all)
    }

    fn granted(&self, client: &str, response: &Response) -> Tokens {
        assert_eq!(response.status, 200, "{}", response.text());
        let said = response.json();
        let text = |key: &str| self.keep(said[key].as_str().unwrap());
        Tokens { client: client.to_owned(), access: text("access_token"), refresh: text("refresh_token") }
    }

    /// All of it, from registration to tokens.
    pub fn log_in(&self) -> Tokens {
        let client = self.register();
        let sent = self.decide(&self.consent(&client), "allow");
        let code = self.keep(sent.get("code").unwrap());
        let fields =
            [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)];
        self.granted(&client, &self.tokens(&client, &fields))
    }

    pub fn refresh(&self, tokens: &Tokens) -> Tokens {
        let fields = [("grant_type", "refresh_token"), ("refresh_token", tokens.refresh.as_str())];
        self.granted(&tokens.client, &self.tokens(&tokens.client, &fields))
    }

    /// The lines of the file, once the last is such a one.
    fn lines_up_to(&self, event: &str, outcome: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        wait_until(&format!("{event} {outcome} in the file"), || {
            lines = read(&self.place.audit());
            lines.iter().any(|line| line["event"] == event && line["outcome"] == outcome)
        });
        lines
    }

    /// No secret that was used is in the file, or in the log.
    fn is_silent(&self) {
        let all = std::fs::read_to_string(self.place.audit()).unwrap_or_default() + &self.gateway.log();
        let secrets = self.secrets.borrow();
        assert!(secrets.len() > 3);
        for secret in secrets.iter() {
            assert!(secret.len() > 8 && !all.contains(secret.as_str()), "{secret} in:\n{all}");
        }
    }
}

/// What a browser was shown.
struct Shown {
    cookie: String,
    csrf: String,
    request: String,
}

fn read(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// A line without what differs from run to run, in the order of its letters.
fn plain(line: &Value) -> String {
    let mut line = line.clone();
    let fields = line.as_object_mut().unwrap();
    assert!(fields.remove("time").unwrap().as_str().unwrap().ends_with('Z'));
    for (name, value) in fields.iter_mut() {
        match name.as_str() {
            "duration_ms" => assert!(value.is_u64()),
            "via" if ["local", "key MCP_API_KEY_1"].contains(&value.as_str().unwrap()) => continue,
            "principal" if value.as_str().unwrap().starts_with("landbridge:local#ada/") => {}
            "grant" | "via" | "session" | "resource" => assert!(value.is_string()),
            _ => continue,
        }
        *value = json!("*");
    }
    line.sort_all_objects();
    line.to_string()
}

const ADA: &str = r#""principal":"*""#;

#[test]
fn every_step_of_a_login_has_a_line_and_no_line_a_secret() {
    let web = Web::start("[audit]\nfile = \"AUDIT_FILE\"");
    let client = web.register();
    // Wrong, and the password in the place of the name.
    let begun = web.begin(&client);
    assert_eq!(web.sign_in(&begun, "ada", "not the password").status, 400);
    assert_eq!(web.sign_in(&begun, PASSWORD, "x").status, 400);
    assert_eq!(web.sign_in(&begun, "nobodyisso", "not the password").status, 400);
    assert!(web.decide(&web.consent(&client), "deny").get("error").is_some());
    let tokens = web.log_in();
    let again = web.refresh(&tokens);
    assert_eq!(web.form("/revoke", None, &[("client_id", &tokens.client), ("token", &again.access)]).status, 200);
    assert_eq!(web.form("/revoke", None, &[("client_id", &tokens.client), ("token", &again.refresh)]).status, 200);
    let fields = [("grant_type", "refresh_token"), ("refresh_token", again.refresh.as_str())];
    assert_eq!(web.tokens(&tokens.client, &fields).status, 400);
    let lines = web.lines_up_to("token", "refused");
    let from = r#""from":"127.0.0.1""#;
    let said: Vec<String> = lines.iter().map(plain).collect();
    let reason = said.last().unwrap().split(r#""reason":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(reason.starts_with("invalid_grant: "), "{reason}");
    let of = |event: &str, outcome: &str, rest: &str| {
        let mut all: Value = serde_json::from_str(&format!(r#"{{"event":"{event}","outcome":"{outcome}",{from}{rest}}}"#)).unwrap();
        all.sort_all_objects();
        all.to_string()
    };
    let wrong = r#","via":"local","reason":"the name or the password is wrong""#;
    let app = r#","via":"*","client":"App""#;
    let ada = format!(r#","who":"ada",{ADA}"#);
    let granted = format!(r#"{app}{ada},"grant":"*","scopes":"mcp","resource":"*""#);
    let expected = [
        of("registration", "ok", app),
        of("login", "failed", &format!(r#","who":"ada"{wrong}"#)),
        of("login", "failed", wrong),
        of("login", "failed", wrong),
        of("login", "ok", &format!(r#"{ada},"via":"local""#)),
        of("consent", "refused", &format!(r#"{ada}{app},"reason":"the user did not agree""#)),
        of("registration", "ok", app),
        of("login", "ok", &format!(r#"{ada},"via":"local""#)),
        of("consent", "agreed", &granted),
        of("token", "issued", &granted),
        of("token", "refreshed", &granted),
        of("revocation", "access_token", &format!(r#"{app},{ADA},"grant":"*""#)),
        of("revocation", "grant", &format!(r#"{app},{ADA},"grant":"*""#)),
        of("token", "refused", &format!(r#","reason":"{reason}""#)),
    ];
    assert_eq!(said, expected);
    // The log has them too.
    let log = web.gateway.log();
    for line in &expected {
        let line: Value = serde_json::from_str(line).unwrap();
        let told = format!("{} {} ", line["event"].as_str().unwrap(), line["outcome"].as_str().unwrap());
        assert!(log.contains(told.trim_end()), "{told} in:\n{log}");
    }
    web.is_silent();
}

#[test]
fn a_code_that_is_shown_twice_is_a_warning() {
    let web = Web::start("[audit]\nfile = \"AUDIT_FILE\"");
    let client = web.register();
    let sent = web.decide(&web.consent(&client), "allow");
    let code = web.keep(sent.get("code").unwrap());
    let fields = [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", REDIRECT), ("code_verifier", VERIFIER)];
    web.granted(&client, &web.tokens(&client, &fields));
    assert_eq!(web.tokens(&client, &fields).status, 400);
    let lines = web.lines_up_to("token", "withdrawn");
    let line = lines.iter().find(|line| line["outcome"] == "withdrawn").unwrap();
    let agreed = lines.iter().find(|line| line["outcome"] == "agreed").unwrap();
    assert_eq!((&line["grant"], &line["via"]), (&agreed["grant"], &json!(client)));
    assert!(web.gateway.log().lines().any(|line| line.contains("WARN") && line.contains("token withdrawn")), "{}", web.gateway.log());
    web.is_silent();
}

/// A stateless request with a credential.
fn send(web: &Web, path: &str, credential: (&str, &str), method: &str, params: Value) -> Response {
    let (headers, body) = stateless_request(1, method, params);
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    headers.push(credential);
    web.gateway.wire().post(path, &headers, &body)
}

fn servers() -> String {
    let binary = landbridge_fixtures::binary();
    format!("[servers.old]\ncommand = {binary:?}\nargs = [\"legacy\"]\n[servers.new]\ncommand = {binary:?}\nargs = [\"modern\"]\n")
}

#[test]
fn refusals_and_uses_of_keys_have_lines() {
    let web = Web::start(&format!("[audit]\nfile = \"AUDIT_FILE\"\n[rates]\nclient_per_minute = 4\n{}scopes = [\"admin\"]\n", servers()));
    let at = |path: &str, credential| send(&web, path, credential, "tools/list", json!({}));
    let tokens = web.log_in();
    let bearer = format!("Bearer {}", tokens.access);
    let stranger = format!("Bearer {}", web.keep("a-token-of-somebody-else-entirely-here-it-is"));
    assert_eq!(at("/servers/old/mcp", ("x-nothing", "x")).status, 401);
    assert_eq!(at("/servers/old/mcp", ("authorization", &stranger)).status, 401);
    assert_eq!(at("/mcp", ("authorization", &bearer)).status, 403);
    for _ in 0..4 {
        assert_eq!(at("/servers/old/mcp", ("x-api-key", KEY)).status, 200);
    }
    assert_eq!(at("/servers/old/mcp", ("x-api-key", KEY)).status, 429);
    let lines = web.lines_up_to("refusal", "too_many");
    let said: Vec<Value> = lines.iter().filter(|line| ["refusal", "key"].contains(&line["event"].as_str().unwrap())).cloned().collect();
    let told = |n: usize, fields: &[&str]| -> Vec<Value> { fields.iter().map(|field| said[n][field].clone()).collect() };
    assert_eq!(said.len(), 5, "{said:?}");
    assert_eq!(
        told(0, &["event", "outcome", "code", "who", "from"]),
        [json!("refusal"), json!("unauthorized"), json!(401), Value::Null, json!("127.0.0.1")]
    );
    assert!(said[1]["reason"].as_str().unwrap().starts_with("the token "), "{}", said[1]);
    assert_eq!(told(2, &["outcome", "code", "who", "via"]), [json!("forbidden"), json!(403), json!("ada"), json!(tokens.client)]);
    assert_eq!(
        told(3, &["event", "outcome", "who", "principal", "via"]),
        [json!("key"), json!("used"), json!("ada"), json!("key ada"), json!("key MCP_API_KEY_1")]
    );
    assert_eq!(told(4, &["outcome", "code", "who", "via"]), [json!("too_many"), json!(429), json!("ada"), json!("key MCP_API_KEY_1")]);
    web.is_silent();
}

#[test]
fn a_call_too_many_is_a_refusal_and_a_call_that_failed() {
    let web = Web::start(&format!("[audit]\nfile = \"AUDIT_FILE\"\n[rates]\nprincipal_calls = 1\n{}", servers()));
    let key = ("x-api-key", KEY);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "cli", "version": "2"}}});
    let opened = web.gateway.wire().post("/servers/old/mcp", &[key], &hello.to_string());
    let headers = [key, ("mcp-session-id", opened.header("mcp-session-id").unwrap())];
    let mut first = web.gateway.wire().open("POST", "/servers/old/mcp", &headers, Some(&slow(2, 100, 300).to_string()));
    assert!(first.event().is_some() && first.event().is_some());
    let arguments = json!({"message": "x"});
    assert_eq!(web.gateway.wire().post("/servers/old/mcp", &headers, &tool(3, "echo", arguments.clone()).to_string()).status, 429);
    let params = json!({"name": "echo", "arguments": arguments});
    assert_eq!(send(&web, "/servers/new/mcp", key, "tools/call", params).status, 429);
    let mut said = Vec::new();
    wait_until("four lines", || {
        let lines = read(&web.place.audit());
        let few = ["event", "outcome", "code", "who", "server"];
        let told = lines.iter().filter(|line| ["refusal", "call"].contains(&line["event"].as_str().unwrap()));
        said = told.map(|line| few.map(|field| line[field].clone())).collect();
        said.len() == 4
    });
    for (n, server) in ["old", "new"].into_iter().enumerate() {
        assert_eq!(said[2 * n], [json!("call"), json!("error"), json!(-32000), json!("ada"), json!(server)]);
        assert_eq!(said[2 * n + 1], [json!("refusal"), json!("too_many"), json!(429), json!("ada"), Value::Null]);
    }
}

#[test]
fn a_call_that_may_not_wait_is_a_refusal_too() {
    let web = Web::start(&format!("[audit]\nfile = \"AUDIT_FILE\"\n[rates]\nprincipal_calls = 1\n{}", servers()));
    for status in [200, 429] {
        let params = json!({"name": "test_elicitation", "arguments": {"message": "Who?"},
            "_meta": {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}});
        let response = send(&web, "/servers/old/mcp", ("x-api-key", KEY), "tools/call", params);
        assert_eq!((response.status, response.header("retry-after").is_some()), (status, status == 429), "{}", response.text());
    }
    let refusals = || read(&web.place.audit()).into_iter().filter(|line| line["event"] == "refusal").collect::<Vec<_>>();
    wait_until("a refusal", || !refusals().is_empty());
    let [line] = &refusals()[..] else { panic!("{:?}", refusals()) };
    assert_eq!(["outcome", "code", "who"].map(|field| &line[field]), [&json!("too_many"), &json!(429), &json!("ada")]);
}

#[test]
fn every_call_has_a_line_when_it_ends() {
    let web = Web::start(&format!("[audit]\nfile = \"AUDIT_FILE\"\n[limits]\ncall_timeout_ms = 1500\n{}", servers()));
    let secret = web.keep("an-argument-that-is-nobodys-business");
    let key = ("x-api-key", KEY);
    let call = |server: &str, name: &str, arguments: Value| {
        send(&web, &format!("/servers/{server}/mcp"), key, "tools/call", json!({"name": name, "arguments": arguments}))
    };
    for server in ["new", "old"] {
        assert_eq!(call(server, "echo", json!({"message": secret})).status, 200);
    }
    call("new", "test_error_handling", json!({}));
    call("new", "no_such_tool", json!({}));
    call("new", "slow", json!({"steps": 1, "delay_ms": 20_000}));
    send(&web, "/servers/new/mcp", key, "prompts/get", json!({"name": "test_simple_prompt"}));
    send(&web, "/servers/new/mcp", key, "resources/read", json!({"uri": "test://static-text?token=abc"}));
    send(&web, "/servers/new/mcp", key, "tools/list", json!({}));
    // A client that leaves.
    let (headers, body) = stateless_request(
        1,
        "tools/call",
        json!({"name": "slow", "arguments": {"steps": 9, "delay_ms": 500}, "_meta": {"progressToken": 1}}),
    );
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    headers.push(key);
    let mut left = web.gateway.wire().open("POST", "/servers/new/mcp", &headers, Some(&body));
    assert!(left.event().is_some());
    drop(left);
    let lines = web.lines_up_to("call", "cancelled");
    let said: Vec<String> = lines.iter().filter(|line| line["event"] == "call").map(plain).collect();
    let line = |outcome: &str, server: &str, rest: &str| {
        let text = format!(
            r#"{{"event":"call","outcome":"{outcome}","who":"ada","principal":"key ada","via":"key MCP_API_KEY_1","client":"test/1","server":"{server}","duration_ms":"*","from":"127.0.0.1",{rest}}}"#
        );
        let mut line: Value = serde_json::from_str(&text).unwrap();
        line.sort_all_objects();
        line.to_string()
    };
    let expected = [
        line("ok", "new", r#""tool":"echo""#),
        line("ok", "old", r#""tool":"echo""#),
        line("tool_error", "new", r#""tool":"test_error_handling""#),
        line("error", "new", r#""tool":"no_such_tool","code":-32602"#),
        line("timeout", "new", r#""tool":"slow""#),
        line("ok", "new", r#""prompt":"test_simple_prompt""#),
        line("error", "new", r#""uri":"test://static-text","code":-32602"#),
        line("cancelled", "new", r#""tool":"slow""#),
    ];
    assert_eq!(said, expected);
    web.is_silent();
    let text = std::fs::read_to_string(web.place.audit()).unwrap();
    assert!(!text.contains("token=abc"), "{text}");
}

#[test]
fn a_call_at_several_servers_has_one_line_and_says_whose_it_was() {
    let web = Web::start(&format!("[audit]\nfile = \"AUDIT_FILE\"\n{}", servers()));
    let key = ("x-api-key", KEY);
    for name in ["old__echo", "new__echo"] {
        let said = send(&web, "/mcp", key, "tools/call", json!({"name": name, "arguments": {"message": "x"}}));
        assert_eq!(said.status, 200, "{}", said.text());
    }
    send(&web, "/mcp", key, "resources/read", json!({"uri": "old+test://static-text"}));
    // Of a session.
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "cli", "version": "2"}}});
    let opened = web.gateway.wire().post("/mcp", &[key], &hello.to_string());
    let id = opened.header("mcp-session-id").unwrap().to_owned();
    let headers = [key, ("mcp-session-id", id.as_str())];
    assert_eq!(web.gateway.wire().post("/mcp", &headers, &tool(2, "old__echo", json!({"message": "x"})).to_string()).status, 200);
    // Its client leaves, and the call runs on to its end.
    let mut left =
        web.gateway.wire().open("POST", "/mcp", &headers, Some(&slow(3, 3, 100).to_string().replace("\"slow\"", "\"old__slow\"")));
    assert!(left.event().is_some() && left.event().is_some());
    drop(left);
    wait_until("the call to end", || read(&web.place.audit()).iter().any(|line| line["tool"] == "slow"));
    assert_eq!(web.gateway.wire().request("DELETE", "/mcp", &headers, None).status, 204);
    let lines = web.lines_up_to("session", "closed");
    let said: Vec<[&str; 5]> = lines
        .iter()
        .filter(|line| ["call", "session"].contains(&line["event"].as_str().unwrap()))
        .map(|line| ["outcome", "server", "tool", "uri", "client"].map(|field| line[field].as_str().unwrap_or("")))
        .collect();
    let all = "all servers";
    assert_eq!(
        said,
        [
            ["ok", "old", "echo", "", "test/1"],
            ["ok", "new", "echo", "", "test/1"],
            ["ok", "old", "", "test://static-text", "test/1"],
            ["opened", all, "", "", "cli/2"],
            ["ok", "old", "echo", "", "cli/2"],
            ["ok", "old", "slow", "", "cli/2"],
            ["closed", all, "", "", "cli/2"],
        ]
    );
    let sessions: Vec<&Value> = lines.iter().filter(|line| line["event"] == "session").map(|line| &line["session"]).collect();
    assert!(
        sessions.iter().all(|session| id.starts_with(session.as_str().unwrap()) && session.as_str().unwrap().len() == 8),
        "{sessions:?}"
    );
    assert!(!std::fs::read_to_string(web.place.audit()).unwrap().contains(&id));
}

#[test]
fn calls_can_be_left_out_of_the_file() {
    let web = Web::start(&format!("[audit]\nfile = \"AUDIT_FILE\"\ncalls = false\n{}", servers()));
    let said = send(&web, "/servers/new/mcp", ("x-api-key", KEY), "tools/call", json!({"name": "echo", "arguments": {"message": "x"}}));
    assert_eq!(said.status, 200);
    send(&web, "/servers/new/mcp", ("x-api-key", "nobody"), "tools/list", json!({}));
    let lines = web.lines_up_to("refusal", "unauthorized");
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["key", "refusal"]);
    // These gateways log everything.
    web.gateway.wait_for_log("call ok");
}

#[test]
fn the_file_is_opened_anew_on_sighup_and_is_whole_at_the_end() {
    let mut web = Web::start("[audit]\nfile = \"AUDIT_FILE\"");
    web.register();
    assert_eq!(web.lines_up_to("registration", "ok").len(), 1);
    let (file, moved) = (web.place.audit(), web.place.audit().with_extension("1"));
    std::fs::rename(&file, &moved).unwrap();
    web.register();
    wait_until("a line in the file that was moved", || read(&moved).len() == 2);
    signal(web.gateway.pid(), "HUP");
    wait_until("a file of that name", || file.exists());
    for _ in 0..20 {
        web.register();
    }
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o137, 0);
    assert!(web.gateway.terminate().success());
    assert_eq!((read(&file).len(), read(&moved).len()), (20, 2));
}

#[test]
fn a_file_that_cannot_be_opened_is_told_at_the_start() {
    let place = Place::new();
    let config = place.config("[audit]\nfile = \"/no/such/directory/audit.jsonl\"");
    let said =
        Command::new(env!("CARGO_BIN_EXE_landbridge")).args(["serve", "--listen", "127.0.0.1:0", "--config", &config]).output().unwrap();
    let why = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && why.contains("the audit file /no/such/directory/audit.jsonl cannot be opened"), "{why}");
}
