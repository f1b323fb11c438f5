//! Who leaves an organisation, or takes back what they gave us at their provider, is out: with the next token that they
//! refresh, and before they agree to anything else.

use landbridge::store::{self, open};
use landbridge_fixtures::idp::{Algorithm, App as Registered, Fault, Idp, Kind, Person};

use crate::authority_races::Scratch;
use crate::gateway::{Gateway, config_file};
use crate::people::said;
use crate::visitors::{App, Browser, Tokens, landed, sheet, soon, status};
use crate::wire::Response;

/// A gateway whose users log in at a GitHub.
struct House {
    idp: Idp,
    gateway: Gateway,
    home: Scratch,
}

impl House {
    /// `login`: more of `[auth.login]`.
    fn open(login: &str) -> House {
        let app = Registered { client_id: "us".into(), client_secret: "secret".into(), callback: String::new() };
        let ada = Person { id: 7, login: "ada".into(), organisations: vec!["acme".into()], ..Person::default() };
        let idp = Idp::start(Kind::GitHub, Algorithm::Es256, 0, app, vec![ada]);
        let text = format!(
            "[auth]\nmode = \"oauth\"\n[auth.login]\nprovider = \"github\"\nissuer = \"{}\"\nclient_id = \"us\"\n\
             client_secret = \"secret\"\norganisations = [\"acme\"]\n{login}\n[servers.demo]\ndemo = true\n",
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

    /// From the request of an application over GitHub to the page of consent, or to whatever else there is.
    fn sign_in(&self, browser: &mut Browser, app: &App) -> Response {
        let there = browser.get(&app.ask(&[])).header("location").expect("the way to GitHub").to_owned();
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

    fn asked(&self) -> usize {
        self.idp.seen().iter().filter(|seen| *seen == "GET /api/v3/user").count()
    }
}

#[track_caller]
fn is_out(response: &Response) {
    assert_eq!((response.status, response.json()["error"].as_str()), (400, Some("invalid_grant")), "{}", response.text());
}

#[test]
fn who_leaves_an_organisation_is_out_when_a_token_is_refreshed() {
    let house = House::open("ask_again_s = 0");
    let (app, mut browser) = (App::register(house.gateway.port, "here"), Browser::new(house.gateway.port));
    let consent = house.sign_in(&mut browser, &app);
    let first = House::agree(&mut browser, &app, &consent);
    let second = Tokens::of(&app.refresh(&first.refresh));
    assert!(house.asked() >= 3, "at the login, at the consent, and now");
    house.idp.people()[0].organisations.clear();
    // A GitHub that is out of order puts nobody out.
    house.idp.fault(Fault::Answer("/api/v3/user", 502, ""));
    let third = Tokens::of(&app.refresh(&second.refresh));
    house.idp.mend();
    is_out(&app.refresh(&third.refresh));
    assert_eq!(status(house.gateway.port, "/mcp", &third.access), 401, "what was agreed to is withdrawn");
    house.gateway.wait_for_log("the account is not among those who are let in any more");
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
}

#[test]
fn who_takes_back_what_they_gave_us_logs_in_again() {
    let house = House::open("ask_again_s = 0");
    let (app, mut browser) = (App::register(house.gateway.port, "here"), Browser::new(house.gateway.port));
    let consent = house.sign_in(&mut browser, &app);
    let tokens = House::agree(&mut browser, &app, &consent);
    house.idp.revoke();
    is_out(&app.refresh(&tokens.refresh));
    let consent = house.sign_in(&mut Browser::new(house.gateway.port), &app);
    assert!(consent.text().contains("/consent"), "{}", consent.text());
}

#[test]
fn a_provider_is_asked_once_an_hour_and_its_token_is_nobody_elses() {
    let house = House::open("");
    let (app, mut browser) = (App::register(house.gateway.port, "here"), Browser::new(house.gateway.port));
    let consent = house.sign_in(&mut browser, &app);
    let mut tokens = House::agree(&mut browser, &app, &consent);
    house.idp.people()[0].organisations.clear();
    for _ in 0..3 {
        tokens = Tokens::of(&app.refresh(&tokens.refresh));
    }
    assert_eq!(house.asked(), 1, "at the login");
    let kept = std::fs::read(house.home.path("store.db")).unwrap();
    let wal = std::fs::read(house.home.path("store.db-wal")).unwrap_or_default();
    for text in [kept, wal].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
        assert!(!text.contains("gho_"), "the store has it in the clear");
    }
    assert!(!house.gateway.log().contains("gho_"));
    // And it goes with what its user had agreed to.
    let store = format!("sqlite:{}", house.home.path("store.db"));
    let n_kept = || soon(async { open(&store).await.unwrap().list(store::Kind::Vault, "", 10, 0).await.unwrap().len() });
    assert_ne!(n_kept(), 0);
    said(&house.home, &["user", "shut-out", &format!("{}#7", house.idp.url()), "--store", &store], "");
    assert_eq!(n_kept(), 0);
    is_out(&app.refresh(&tokens.refresh));
}
