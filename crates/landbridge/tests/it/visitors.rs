//! Who comes to a gateway that lets in only whom it knows: people with browsers, their applications, strangers.
//!
//! The gateway is in this process, so that a test may look into its store, and make records older than they are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use landbridge::auth::Auth;
use landbridge::auth::keys::{self, Key};
use landbridge::config::Config;
use landbridge::gateway::Gateway;
use landbridge::login::local::Account;
use landbridge::plan::Plan;
use landbridge::serve;
use landbridge::store::{Kind, Record, Store};
use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::gateway::stateless_request;
use crate::wire::{Response, Wire};

/// Everybody's.
pub const PASSWORD: &str = "correct horse battery";

/// Seconds since 1970.
pub fn now_s() -> u64 {
    landbridge::system::now_s()
}

/// Runs what does not wait: memory answers at once.
pub fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A plan with authorization, whose store is memory unless it says otherwise.
pub fn plan(config: &str) -> Plan {
    let mut plan = Config::parse("f", config.into()).unwrap().check().unwrap();
    plan.auth.store.get_or_insert("memory:".into());
    plan
}

/// An account, made once: a password takes its time.
pub fn account(name: &str) -> Record {
    static MADE: OnceLock<Mutex<BTreeMap<String, Record>>> = OnceLock::new();
    let mut made = MADE.get_or_init(Mutex::default).lock().unwrap();
    let make = || Record { value: Account::new(name, PASSWORD, [7; 16], now_s()).unwrap().to_json(), expires_s: None };
    made.entry(name.into()).or_insert_with(make).clone()
}

/// A gateway in this process, until it is dropped.
pub struct House {
    pub port: u16,
    pub gateway: Arc<Gateway>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl House {
    /// Opens, with accounts for Ada and Bob.
    pub fn open(config: &str) -> House {
        House::planned(plan(config))
    }

    pub fn planned(plan: Plan) -> House {
        let (told, port) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
                let auth = Auth::open(plan.auth.clone()).await.unwrap();
                for name in ["ada", "bob"] {
                    auth.store.put(Kind::User, name, account(name)).await.unwrap();
                }
                let listener = serve::listen("127.0.0.1:0".parse().unwrap()).unwrap();
                let port = listener.local_addr().unwrap().port();
                let gateway = Gateway::guarded(plan, auth).unwrap();
                told.send((port, gateway.clone())).unwrap();
                serve::run_until(gateway, vec![listener], None, async { drop(stopped.await) }).await;
            });
        });
        let (port, gateway) = port.recv().expect("it listens");
        House { port, gateway, stop: Some(stop), thread: Some(thread) }
    }

    pub fn store(&self) -> &dyn Store {
        &*self.gateway.auth().store
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn wire(&self) -> Wire {
        Wire::connect(self.port)
    }

    pub fn get(&self, path: &str) -> Response {
        self.wire().request("GET", path, &[], None)
    }

    /// A form, from a program.
    pub fn form(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.form_with(path, &[], fields)
    }

    pub fn form_with(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Response {
        let headers = [&[("content-type", "application/x-www-form-urlencoded")], headers].concat();
        self.wire().request("POST", path, &headers, Some(&written(fields)))
    }

    /// How many records there are of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        soon(self.store().list(kind, "", 1000, now_s())).unwrap().len()
    }

    /// Changes every record of a kind, as JSON, and when it ends.
    pub fn rewrite(&self, kind: Kind, change: impl Fn(&mut Value, &mut Option<u64>)) {
        soon(async {
            for (key, mut record) in self.store().list(kind, "", 1000, now_s()).await.unwrap() {
                let mut value: Value = serde_json::from_str(&record.value).unwrap();
                change(&mut value, &mut record.expires_s);
                self.store().put(kind, &key, Record { value: value.to_string(), ..record }).await.unwrap();
            }
        });
    }

    /// A key, with what it is limited to.
    pub fn key(&self, owner: &str, scopes: Option<&[&str]>, servers: Option<&[&str]>, expires_s: Option<u64>) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let own = |all: Option<&[&str]>| all.map(|all| all.iter().map(|word| (*word).to_owned()).collect());
        let key =
            Key { id: String::new(), owner: owner.into(), tenant: None, scopes: own(scopes), servers: own(servers), since_s: now_s() };
        let mut random = [[9; 32], [8; 32]];
        for bytes in &mut random {
            bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        }
        // The id is made of the first six bytes.
        random[0].rotate_left(2);
        soon(keys::add(self.store(), key, expires_s, random)).unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            thread.join().unwrap();
        }
    }
}

/// Fields as a form has them.
pub fn written(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

// --- browsers -----------------------------------------------------------------------------------

/// A browser: it keeps cookies, and shows forms.
#[derive(Clone)]
pub struct Browser {
    port: u16,
    pub jar: BTreeMap<String, String>,
}

/// A form of a page.
#[derive(Clone, Debug)]
pub struct Sheet {
    pub action: String,
    pub fields: Vec<(String, String)>,
}

impl Browser {
    pub fn new(port: u16) -> Browser {
        Browser { port, jar: BTreeMap::new() }
    }

    /// One page, or where it leads.
    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, &[], None)
    }

    pub fn send(&mut self, sheet: &Sheet) -> Response {
        let fields: Vec<(&str, &str)> = sheet.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.request("POST", &sheet.action, &[("content-type", "application/x-www-form-urlencoded")], Some(&written(&fields)))
    }

    fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Response {
        let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = headers.to_vec();
        if !cookies.is_empty() {
            headers.push(("cookie", &cookies));
        }
        let response = Wire::connect(self.port).request(method, path, &headers, body);
        for (_, set) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            self.jar.insert(name.into(), value.into());
        }
        assert_eq!(response.header("cache-control"), Some("no-store"), "{path}");
        response
    }

    /// From the request of an application to the page of consent.
    pub fn sign_in(&mut self, path: &str, user: &str, password: &str) -> Response {
        let page = self.get(path);
        let page = match page.status {
            200 => self.send(&sheet(&page, "/login").with("user", user).with("password", password)),
            _ => page,
        };
        if !matches!(page.status, 302 | 303) {
            return page;
        }
        let to = page.header("location").unwrap().to_owned();
        self.get(&to)
    }

    /// The whole way: the parameters at the redirect.
    pub fn agree(&mut self, app: &App, user: &str) -> Form {
        let consent = self.sign_in(&app.ask(&[]), user, PASSWORD);
        landed(&self.send(&sheet(&consent, "/consent").with("decision", "allow")), &app.redirect)
    }
}

impl Sheet {
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Sheet {
        self.fields.retain(|(n, _)| n != name);
        self.fields.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Sheet {
        self.fields.retain(|(n, _)| n != name);
        self
    }

    pub fn field(&self, name: &str) -> &str {
        &self.fields.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no field {name}")).1
    }
}

/// The form of a page that is sent to this path, with what is filled in.
#[track_caller]
pub fn sheet(page: &Response, action: &str) -> Sheet {
    assert_eq!(page.status, 200, "{}", page.text());
    sheets(&page.text()).into_iter().find(|sheet| sheet.action == action).unwrap_or_else(|| panic!("no form for {action}: {}", page.text()))
}

/// The forms of a page. Ours are written by few templates, so that little has to be understood.
pub fn sheets(html: &str) -> Vec<Sheet> {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?;
        Some(value.replace("&#38;", "&").replace("&amp;", "&").replace("&#34;", "\"").replace("&#60;", "<").replace("&#62;", ">"))
    };
    let forms = html.split("<form ").skip(1).map(|form| form.split("</form>").next().unwrap());
    let read = forms.map(|form| Sheet {
        action: attribute(&format!(" {form}"), "action").unwrap(),
        fields: form
            .split("<input ")
            .skip(1)
            .map(|tag| format!(" {}", tag.split('>').next().unwrap()))
            .filter_map(|tag| Some((attribute(&tag, "name")?, attribute(&tag, "value").unwrap_or_default())))
            .collect(),
    });
    read.collect()
}

/// The parameters with which a browser is sent to an application.
#[track_caller]
pub fn landed(response: &Response, redirect: &str) -> Form {
    assert!(matches!(response.status, 302 | 303), "{}: {}", response.status, response.text());
    let location = response.header("location").unwrap();
    let query = location.strip_prefix(redirect).unwrap_or_else(|| panic!("{location} is elsewhere")).trim_start_matches(['?', '&']);
    Form::read(query).unwrap()
}

// --- applications -------------------------------------------------------------------------------

/// An application that has registered.
#[derive(Clone, Debug)]
pub struct App {
    pub port: u16,
    pub id: String,
    pub secret: Option<String>,
    pub redirect: String,
    pub verifier: String,
}

/// What a token endpoint gave out.
#[derive(Clone, Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: String,
    pub scope: String,
}

impl Tokens {
    #[track_caller]
    pub fn of(response: &Response) -> Tokens {
        assert_eq!(response.status, 200, "{}", response.text());
        let body = response.json();
        assert_eq!(body["token_type"], "Bearer");
        let word = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        Tokens { access: word("access_token"), refresh: word("refresh_token"), scope: word("scope") }
    }
}

impl App {
    pub fn register(port: u16, name: &str) -> App {
        App::registered(
            port,
            &json!({"client_name": name, "redirect_uris": ["http://127.0.0.1/done"],
            "token_endpoint_auth_method": "none", "grant_types": ["authorization_code", "refresh_token"]}),
        )
    }

    #[track_caller]
    pub fn registered(port: u16, body: &Value) -> App {
        let response = Wire::connect(port).request("POST", "/register", &[], Some(&body.to_string()));
        assert_eq!(response.status, 201, "{}", response.text());
        let said = response.json();
        let word = |key: &str| said[key].as_str().map(str::to_owned);
        let redirect = said["redirect_uris"][0].as_str().unwrap().replace("127.0.0.1/", "127.0.0.1:4711/");
        let id = word("client_id").unwrap();
        App { port, verifier: format!("verifier-of-{id}-which-is-long-enough-to-be-one"), id, secret: word("client_secret"), redirect }
    }

    /// The path that asks for its user's consent, with these parameters in place of the usual ones; an empty one is
    /// left out.
    pub fn ask(&self, other: &[(&str, &str)]) -> String {
        let challenge = Hash::of(&self.verifier).to_string();
        let usual = [
            ("response_type", "code"),
            ("client_id", &self.id),
            ("redirect_uri", &self.redirect),
            ("state", "s & t"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let kept = usual.iter().filter(|(name, _)| !other.iter().any(|(n, _)| n == name));
        let all: Vec<(&str, &str)> = kept.chain(other).copied().filter(|(_, value)| !value.is_empty()).collect();
        format!("/authorize?{}", written(&all))
    }

    pub fn redeem(&self, code: &str) -> Response {
        self.redeem_with(code, &[])
    }

    pub fn redeem_with(&self, code: &str, other: &[(&str, &str)]) -> Response {
        let usual =
            [("grant_type", "authorization_code"), ("code", code), ("redirect_uri", &self.redirect), ("code_verifier", &self.verifier)];
        self.token(&usual, other)
    }

    pub fn refresh(&self, token: &str) -> Response {
        self.refresh_with(token, &[])
    }

    pub fn refresh_with(&self, token: &str, other: &[(&str, &str)]) -> Response {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)], other)
    }

    fn token(&self, usual: &[(&str, &str)], other: &[(&str, &str)]) -> Response {
        self.post("/token", usual, other)
    }

    /// A form, with who sends it.
    pub fn post(&self, path: &str, usual: &[(&str, &str)], other: &[(&str, &str)]) -> Response {
        let mut usual = usual.to_vec();
        usual.push(("client_id", &self.id));
        usual.extend(self.secret.as_deref().map(|secret| ("client_secret", secret)));
        let kept = usual.iter().filter(|(name, _)| !other.iter().any(|(n, _)| n == name));
        let all: Vec<(&str, &str)> = kept.chain(other).copied().filter(|(_, value)| !value.is_empty()).collect();
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let response = Wire::connect(self.port).request("POST", path, &headers, Some(&written(&all)));
        assert_eq!(response.header("cache-control"), Some("no-store"), "{path}");
        response
    }

    /// Tokens for this user, by the whole way.
    pub fn log_in(&self, user: &str) -> Tokens {
        self.log_in_for(user, &[])
    }

    /// The same for a part of it: `resource`, `scope`.
    pub fn log_in_for(&self, user: &str, other: &[(&str, &str)]) -> Tokens {
        let mut browser = Browser::new(self.port);
        let consent = browser.sign_in(&self.ask(other), user, PASSWORD);
        let done = landed(&browser.send(&sheet(&consent, "/consent").with("decision", "allow")), &self.redirect);
        Tokens::of(&self.redeem(done.get("code").expect("a code")))
    }
}

// --- callers ------------------------------------------------------------------------------------

/// A request of 2026-07-28 at that path, with these headers too.
pub fn ask(port: u16, path: &str, more: &[(&str, &str)], method: &str, params: Value) -> Response {
    let (headers, body) = stateless_request(7, method, params);
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    headers.extend(more);
    Wire::connect(port).post(path, &headers, &body)
}

/// A bearer's header.
pub fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The status with which a token is answered there.
pub fn status(port: u16, path: &str, token: &str) -> u16 {
    ask(port, path, &[("authorization", &bearer(token))], "tools/list", json!({})).status
}
