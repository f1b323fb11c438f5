//! Who leaves an organisation, or takes back what they gave us at their provider, is out: with the next token that they
//! refresh, and before they agree to anything else.

use landbridge::store::{self, open};
use landbridge_fixtures::idp::{Algorithm, App as Registered, Fault, Idp, Kind, Person};

use crate::authority_races::Scratch;
use crate::gateway::{Gateway, config_file, wait_until};
use crate::people::said;
use crate::visitors::{App, Browser, Tokens, landed, sheet, soon, status};
use crate::wire::Response;

/// A gateway whose users log in elsewhere.
struct House {
    idp: Idp,
    gateway: Gateway,
    home: Scratch,
}

impl House {
    /// At a GitHub, for members of `acme`. `login`: more of `[auth.login]`.
    fn open(login: &str) -> House {
        House::at(Kind::GitHub, &format!("provider = \"github\"\norganisations = [\"acme\"]\n{login}"))
    }

    fn at(kind: Kind, login: &str) -> House {
        let app = Registered { client_id: "us".into(), client_secret: "secret".into(), callback: String::new() };
        let ada = Person {
            id: 7,
            login: "ada".into(),
            email: Some("ada@acme.example".into()),
            email_verified: true,
            organisations: vec!["acme".into()],
            ..Person::default()
        };
        let idp = Idp::start(kind, Algorithm::Es256, 0, app, vec![ada]);
        let text = format!(
            "[auth]\nmode = \"oauth\"\n[auth.login]\nissuer = \"{}\"\nclient_id = \"us\"\n\
             client_secret = \"secret\"\n{login}\n[servers.demo]\ndemo = true\n",
            idp.url()
        );
        let (home, file) = (Scratch::new(), config_file(&text));
        let store = format!("sqlite:{}", home.path("store.db"));
        let args = ["--config", file.to_str().unwrap(), "--store", &store];
        let gateway = Gateway::here(&args, &[("LANDBRIDGE_HOME", &home.path("home"))]);
        let _ = std::fs::remove_file(file);
        idp.call_back(&format!("http://127.0.0.1:{}/callback", gateway.port));
        House { idp, gateway, home }
    }

    /// From the request of an application over the provider to the page of consent, or to whatever else there is.
    fn sign_in(&self, browser: &mut Browser, app: &App) -> Response {
        let there = browser.get(&app.ask(&[])).header("location").expect("the way to the provider").to_owned();
        let back = self.idp.click(&there, "ada", true);
        let back = back.strip_prefix(&format!("http://127.0.0.1:{}", self.gateway.port)).expect("a callback").to_owned();
        let answer = browser.get(&back);
        match answer.header("location") {
            Some(on) if answer.status == 302 => browser.get(on),
            _ => answer,
        }
    }

    fn agree(browser: &mut Browser, app: &App, consent: &Response) -> Tokens {
        let done = landed(&browser.send(&sheet(consent, "/consent").with("decision", "allow")), &app.redirect);
        Tokens::of(&app.redeem(done.get("code").expect("a code")))
    }

    /// An application, a browser with somebody who has let it in, and its tokens.
    fn log_in(&self) -> (App, Browser, Tokens) {
        let (app, mut browser) = (App::register(self.gateway.port, "here"), Browser::new(self.gateway.port));
        let consent = self.sign_in(&mut browser, &app);
        let tokens = House::agree(&mut browser, &app, &consent);
        (app, browser, tokens)
    }

    fn asked(&self) -> usize {
        self.count("GET /api/v3/user")
    }

    /// How often the provider heard that.
    fn count(&self, what: &str) -> usize {
        self.idp.seen().iter().filter(|seen| *seen == what).count()
    }
}

#[track_caller]
fn is_out(response: &Response) {
    assert_eq!((response.status, response.json()["error"].as_str()), (400, Some("invalid_grant")), "{}", response.text());
}

/// Refreshes until that does not go any more: GitHub is asked beside it.
#[track_caller]
fn until_out(app: &App, mut tokens: Tokens) -> Tokens {
    let mut answer = app.refresh(&tokens.refresh);
    wait_until("nothing to be refreshed", || {
        if answer.status == 200 {
            tokens = Tokens::of(&answer);
            answer = app.refresh(&tokens.refresh);
        }
        answer.status != 200
    });
    is_out(&answer);
    tokens
}

#[test]
fn who_leaves_an_organisation_is_out_when_a_token_is_refreshed() {
    let house = House::open("ask_again_s = 0");
    let (app, mut browser, first) = house.log_in();
    // A GitHub that is out of order puts nobody out.
    house.idp.fault(Fault::Answer("/api/v3/user", 502, ""));
    let n_before = house.asked();
    let mut tokens = Tokens::of(&app.refresh(&first.refresh));
    wait_until("three questions", || {
        tokens = Tokens::of(&app.refresh(&tokens.refresh));
        house.asked() >= n_before + 3
    });
    house.idp.people()[0].organisations.clear();
    house.idp.mend();
    let last = until_out(&app, tokens);
    is_out(&app.refresh(&last.refresh));
    assert_eq!(status(house.gateway.port, "/mcp", &last.access), 401, "what was agreed to is withdrawn");
    assert!(house.gateway.log().contains("the account is not among those who are let in any more"));
    // Nor is there another way in: neither for the browser that is still signed in, nor by a new login.
    let on = browser.get(&app.ask(&[])).header("location").expect("the page of consent").to_owned();
    let consent = browser.get(&on);
    let answer = browser.send(&sheet(&consent, "/consent").with("decision", "allow"));
    assert!(answer.header("location").unwrap().starts_with("/authorize?"), "{:?}", answer.header("location"));
    assert_eq!(house.sign_in(&mut browser, &app).status, 403);
    // Who comes back is back.
    house.idp.people()[0].organisations = vec!["acme".into()];
    let consent = house.sign_in(&mut browser, &app);
    let tokens = House::agree(&mut browser, &app, &consent);
    assert_eq!(status(house.gateway.port, "/mcp", &tokens.access), 200);
    Tokens::of(&app.refresh(&tokens.refresh));
}

#[test]
fn who_takes_back_what_they_gave_us_logs_in_again() {
    let house = House::open("ask_again_s = 0");
    let (app, _, tokens) = house.log_in();
    house.idp.revoke();
    until_out(&app, tokens);
    let mut browser = Browser::new(house.gateway.port);
    let consent = house.sign_in(&mut browser, &app);
    Tokens::of(&app.refresh(&House::agree(&mut browser, &app, &consent).refresh));
}

/// A client that asks for a token gets it at once, whatever the provider is doing.
#[test]
fn nobody_waits_for_a_provider_that_does_not_answer() {
    let house = House::open("ask_again_s = 0");
    let (app, _, mut tokens) = house.log_in();
    house.idp.fault(Fault::Silent("/api/v3/user"));
    let n_before = house.asked();
    wait_until("a question without an answer", || {
        tokens = Tokens::of(&app.refresh(&tokens.refresh));
        house.asked() > n_before
    });
    for _ in 0..3 {
        tokens = Tokens::of(&app.refresh(&tokens.refresh));
    }
    assert!(house.asked() <= n_before + 2, "one question about a user at a time");
}

#[test]
fn a_provider_is_asked_once_an_hour_and_its_token_is_nobody_elses() {
    let house = House::open("");
    let (app, mut browser) = (App::register(house.gateway.port, "here"), Browser::new(house.gateway.port));
    let consent = house.sign_in(&mut browser, &app);
    let store = format!("sqlite:{}", house.home.path("store.db"));
    let kept = || {
        let all = soon(async { open(&store).await.unwrap().list(store::Kind::Vault, "", 10, 0).await.unwrap() });
        let (batons, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|(key, _)| key.starts_with("baton"));
        (batons.len(), kept.into_iter().map(|(_, record)| record.value).collect::<Vec<_>>())
    };
    let (_, before) = kept();
    let mut tokens = House::agree(&mut browser, &app, &consent);
    wait_until("what the question behind the login came to", || matches!(kept(), (1, now) if now != before));
    house.idp.people()[0].organisations.clear();
    for _ in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        tokens = Tokens::of(&app.refresh(&tokens.refresh));
    }
    assert_eq!(house.asked(), 2);
    let file = std::fs::read(house.home.path("store.db")).unwrap();
    let wal = std::fs::read(house.home.path("store.db-wal")).unwrap_or_default();
    for text in [file, wal].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
        assert!(!text.contains("gho_"), "the store has it in the clear");
    }
    assert!(!house.gateway.log().contains("gho_"));
    // And it goes with what its user had agreed to.
    assert_eq!(kept().1.len(), 1);
    said(&house.home, &["user", "shut-out", &format!("{}#7", house.idp.url()), "--store", &store], "");
    assert_eq!(kept(), (0, Vec::new()));
    is_out(&app.refresh(&tokens.refresh));
    let again = browser.get(&app.ask(&[]));
    assert!(again.header("location").unwrap().starts_with(house.idp.url()), "the browser is signed out, too");
}

const OIDC: &str = "provider = \"oidc\"\nemails = [\"@acme.example\"]\nask_again_s = 0";

#[test]
fn an_issuer_is_asked_by_another_token_when_the_old_one_is_over() {
    let house = House::at(Kind::Oidc, OIDC);
    let (app, _, mut tokens) = house.log_in();
    for n in 2..4 {
        wait_until("another token", || {
            // Also one that is given out just now.
            house.idp.expire_tokens();
            tokens = Tokens::of(&app.refresh(&tokens.refresh));
            house.count("POST /token") >= n
        });
    }
    house.idp.people()[0].email_verified = false;
    until_out(&app, tokens);
}

/// A refresh token of an issuer may end with the user's visit there; only one that is to last says more by that.
#[test]
fn an_issuer_that_cannot_be_asked_any_more_puts_nobody_out() {
    let house = House::at(Kind::Oidc, OIDC);
    let (app, _, mut tokens) = house.log_in();
    house.idp.revoke();
    wait_until("a refresh token that is not taken", || {
        tokens = Tokens::of(&app.refresh(&tokens.refresh));
        house.count("POST /token") >= 2
    });
    let n_before = house.count("POST /token");
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(50));
        tokens = Tokens::of(&app.refresh(&tokens.refresh));
    }
    assert_eq!(house.count("POST /token"), n_before, "and it is not asked before the next login");
}
