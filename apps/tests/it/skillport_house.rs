//! The marketplace behind a login at a Google on loopback, and the browsers of its users.

use std::collections::BTreeMap;

use landbridge_fixtures::idp::{self, Algorithm, Idp, Kind};
use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::app::App;
use crate::wire::{Response, Wire};

const SECRET: &str = "a-secret-of-the-application";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0123456789";
const REDIRECT: &str = "https://claude.ai/api/mcp/auth_callback";
const ISSUED_FOR: &str = "google-secret";

/// An app, and the issuer that its users log in at.
pub struct House {
    pub app: App,
    pub idp: Idp,
    /// By which URL its users know it.
    base: String,
}

fn person(id: u64, login: &str, email: &str, hd: Option<&str>) -> idp::Person {
    idp::Person {
        id,
        login: login.into(),
        name: Some(login.to_uppercase()),
        email: Some(email.into()),
        email_verified: true,
        hd: hd.map(str::to_owned),
        organisations: vec![],
    }
}

/// Of two hosted domains, of another, of one below, and of none: of the last one's address the company knows nothing.
fn people() -> Vec<idp::Person> {
    vec![
        person(1, "ada", "ada@example.com", Some("example.com")),
        person(2, "bob", "bob@example.com", Some("example.com")),
        person(3, "eve", "eve@evil.example", Some("evil.example")),
        person(4, "sub", "sub@sub.example.com", Some("sub.example.com")),
        person(5, "private", "private@gmail.com", None),
        person(6, "lookalike", "lookalike@example.com", None),
        person(7, "alias", "alias@example.org", Some("example.com")),
    ]
}

impl House {
    /// At Google.
    pub fn start(variables: &[(&str, &str)]) -> House {
        House::at(Kind::Google, variables)
    }

    pub fn at(kind: Kind, variables: &[(&str, &str)]) -> House {
        let registered = idp::App { client_id: "google-id".into(), client_secret: ISSUED_FOR.into(), callback: String::new() };
        let algorithm = if kind == Kind::Google { Algorithm::Rs256 } else { Algorithm::Es256 };
        let idp = Idp::start(kind, algorithm, 0, registered, people());
        let issuer = idp.url().to_owned();
        let document = format!("{issuer}/.well-known/openid-configuration");
        let mut all = vec![
            ("GOOGLE_CLIENT_ID", "google-id"),
            ("GOOGLE_CLIENT_SECRET", ISSUED_FOR),
            ("GOOGLE_ALLOWED_DOMAINS", "example.com"),
            if kind == Kind::Google { ("GOOGLE_DISCOVERY_URL", document.as_str()) } else { ("OIDC_ISSUER", issuer.as_str()) },
            ("OAUTH_CLIENT_ID", "claude"),
            ("OAUTH_CLIENT_SECRET", SECRET),
        ];
        all.extend(variables);
        let app = App::start("skillport", &[], &all);
        let public = variables.iter().find(|(name, _)| *name == "CONNECTOR_URL").map(|(_, url)| (*url).to_owned());
        let base = public.unwrap_or_else(|| format!("http://127.0.0.1:{}", app.port));
        idp.call_back(&format!("{base}/callback"));
        House { app, idp, base }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn browser(&self) -> Browser {
        Browser::new(self.app.port, self.base.split("://").nth(1).unwrap())
    }

    /// As far as to be sent back by the issuer: the path with what it gave.
    pub fn begin(&self, browser: &mut Browser, user: &str, resource: &str) -> String {
        self.begin_as(&CLAUDE, browser, user, resource)
    }

    fn begin_as(&self, client: &Client<'_>, browser: &mut Browser, user: &str, resource: &str) -> String {
        let away = browser.get(&client.asking(resource));
        assert_eq!(away.status, 302, "{}", away.text());
        let back = self.idp.click(away.header("location").unwrap(), user, true);
        back.strip_prefix(&self.base).unwrap_or_else(|| panic!("{back}")).to_owned()
    }

    /// The status with which a user is received who comes back from the issuer.
    pub fn received(&self, user: &str) -> u16 {
        let mut browser = self.browser();
        let back = self.begin(&mut browser, user, "");
        browser.follow(&back).status
    }

    /// A token for that resource, by the whole way.
    pub fn token(&self, user: &str, resource: &str) -> String {
        self.token_as(&CLAUDE, user, resource)
    }

    /// The same for another client.
    pub fn token_as(&self, client: &Client<'_>, user: &str, resource: &str) -> String {
        let mut browser = self.browser();
        let back = self.begin_as(client, &mut browser, user, resource);
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
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={VERIFIER}&client_id={}",
            encode(form.get("code").unwrap_or_else(|| panic!("{location}"))),
            encode(client.redirect),
            encode(client.id)
        );
        if let Some(secret) = client.secret {
            body.push_str(&format!("&client_secret={}", encode(secret)));
        }
        if !resource.is_empty() {
            body.push_str(&format!("&resource={}", encode(resource)));
        }
        let given = self.browser().form("/token", &body);
        assert_eq!(given.status, 200, "{}", given.text());
        given.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// The status with which a token is answered at a path.
    pub fn status(&self, path: &str, token: &str) -> u16 {
        let bearer = format!("Bearer {token}");
        match path {
            "/sse" => self.app.events(path, &[("authorization", &bearer)]).status,
            _ => self.app.wire().post(path, &[("authorization", &bearer)], &hello().to_string()).status,
        }
    }

    pub fn whoami(&self, path: &str, token: &str) -> Value {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let mut client = if path == "/sse" { self.app.sse(path, &headers) } else { self.app.http(path, &headers) };
        let api = client.json("skillport_auth", json!({}))["token"].as_str().unwrap().to_owned();
        self.app.get_with("/api/whoami", &[("authorization", &format!("Bearer {api}"))]).json()
    }
}

/// A client, as it is known here.
pub struct Client<'a> {
    pub id: &'a str,
    pub secret: Option<&'a str>,
    pub redirect: &'a str,
}

/// The one that the operator has named.
const CLAUDE: Client<'static> = Client { id: "claude", secret: Some(SECRET), redirect: REDIRECT };

impl Client<'_> {
    /// Where it sends its user. `resource`: what it wants a token for, if it says so.
    fn asking(&self, resource: &str) -> String {
        let challenge = Hash::of(VERIFIER);
        let resource = if resource.is_empty() { String::new() } else { format!("&resource={}", encode(resource)) };
        format!(
            "/authorize?response_type=code&client_id={}&redirect_uri={}&state=s&code_challenge={challenge}&code_challenge_method=S256{resource}",
            encode(self.id),
            encode(self.redirect)
        )
    }
}

/// Where the client that the operator has named sends its user.
pub fn asking(resource: &str) -> String {
    CLAUDE.asking(resource)
}

pub fn hello() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
}

/// It keeps cookies.
pub struct Browser {
    port: u16,
    host: String,
    jar: BTreeMap<String, String>,
}

impl Browser {
    pub fn new(port: u16, host: &str) -> Browser {
        Browser { port, host: host.into(), jar: BTreeMap::new() }
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[], None)
    }

    pub fn form(&mut self, path: &str, body: &str) -> Response {
        self.request("POST", path, &[("content-type", "application/x-www-form-urlencoded")], Some(body))
    }

    /// To where pages of ours lead.
    pub fn follow(&mut self, path: &str) -> Response {
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
        let mut headers = [&[("host", self.host.as_str())], headers].concat();
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
