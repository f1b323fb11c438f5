//! Logins at Google: who is let in, and what is answered where one fails.

use landbridge_fixtures::idp::Fault;
use landbridge_proto::oauth::form::Form;
use serde_json::json;

use crate::skillport::said;
use crate::skillport_house::{Browser, House, asking};

#[test]
fn s1_36_users_are_sent_to_google() {
    for (domains, hint) in [("example.com", Some("example.com")), ("example.com, example.org", Some("*")), ("", None)] {
        let house = House::start(&[("GOOGLE_ALLOWED_DOMAINS", domains)]);
        let away = house.browser().get(&asking(""));
        let to = away.header("location").unwrap().strip_prefix(house.idp.url()).unwrap().to_owned();
        let form = Form::read(to.strip_prefix("/o/oauth2/v2/auth?").unwrap_or_else(|| panic!("{to}"))).unwrap();
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", "google-id"),
            ("redirect_uri", house.url("/callback").as_str()),
            ("scope", "openid email profile"),
            ("access_type", "offline"),
            ("prompt", "consent"),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(form.get(name), Some(value), "{name}: {to}");
        }
        assert_eq!(form.get("hd"), hint);
        assert!(["state", "nonce", "code_challenge"].iter().all(|name| form.get(name).is_some_and(|value| value.len() == 43)), "{to}");
    }
}

#[test]
fn s1_36_the_cookie_of_a_login_is_kept_from_scripts_and_strangers() {
    for (public, name, is_secure) in [("", "landbridge=", false), ("https://mcp.example.com", "__Host-landbridge=", true)] {
        let house = House::start(&[("CONNECTOR_URL", public)].into_iter().filter(|_| is_secure).collect::<Vec<_>>());
        let begun = house.browser().get(&asking(""));
        let cookies: Vec<&str> = begun.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
        let [cookie] = cookies[..] else { panic!("{cookies:?}") };
        let parts: Vec<&str> = cookie.split("; ").collect();
        assert!(parts[0].starts_with(name) && parts.contains(&"HttpOnly") && parts.contains(&"SameSite=Lax"), "{cookie}");
        assert!(parts.contains(&"Path=/") && !cookie.contains("Domain"), "{cookie}");
        // Plain HTTP is for this machine only.
        assert_eq!(parts.contains(&"Secure"), is_secure, "{cookie}");
        assert_eq!(house.received("ada"), 200);
    }
}

#[test]
fn s1_36_a_login_that_comes_back_otherwise_is_refused() {
    let house = House::start(&[]);
    let mut browser = house.browser();
    let back = house.begin(&mut browser, "ada", "");
    let form = Form::read(back.split_once('?').unwrap().1).unwrap();
    let (state, code) = (form.get("state").unwrap(), form.get("code").unwrap());
    let other = house.begin(&mut house.browser(), "bob", "");
    let others = Form::read(other.split_once('?').unwrap().1).unwrap();
    let wrong = "A".repeat(43);
    for (what, path) in [
        ("another state", format!("/callback?code={code}&state={wrong}")),
        ("no proper state", format!("/callback?code={code}&state=x")),
        ("an empty state", format!("/callback?code={code}&state=")),
        ("no state", format!("/callback?code={code}")),
        ("two states", format!("/callback?code={code}&state={state}&state={state}")),
        ("nothing", "/callback".into()),
        ("no UTF-8", format!("/callback?code=%ff&state={state}")),
        ("the state of another browser", format!("/callback?code={code}&state={}", others.get("state").unwrap())),
    ] {
        let response = browser.get(&path);
        assert_eq!((response.status, response.header("location")), (400, None), "{what}");
    }
    // Another browser with what is right, with a cookie of its own and without one.
    for mut browser in [house.browser(), {
        let mut other = house.browser();
        other.get(&asking(""));
        other
    }] {
        assert_eq!(browser.get(&back).status, 400);
    }
    assert!(!house.idp.seen().iter().any(|seen| seen == "POST /token"), "no code was looked at");
    // After all that it still works, once.
    assert_eq!(browser.get(&back).status, 302);
    assert_eq!(browser.get(&back).status, 400);
    for missing in ["", "&code="] {
        let mut browser = house.browser();
        let back = house.begin(&mut browser, "ada", "");
        let form = Form::read(back.split_once('?').unwrap().1).unwrap();
        let response = browser.get(&format!("/callback?state={}{missing}", form.get("state").unwrap()));
        assert_eq!(response.status, 400, "without a code: {missing:?}");
    }
}

/// What has expired in so many seconds is gone.
fn sweep(house: &House, in_s: u64) {
    let store = format!("sqlite:{}", house.app.dir.join("data/skillport/auth.db").display());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = landbridge::store::open(&store).await.unwrap();
        store.sweep(landbridge::system::now_s() + in_s).await.unwrap();
    });
}

#[test]
fn s1_36_a_login_has_ten_minutes() {
    let house = House::start(&[]);
    for (after_s, status) in [(595, 302), (600, 400)] {
        let mut browser = house.browser();
        let back = house.begin(&mut browser, "ada", "");
        sweep(&house, after_s);
        assert_eq!(browser.get(&back).status, status, "after {after_s} s");
    }
}

#[test]
fn s1_36_google_that_does_not_do_its_part_is_no_fault_of_the_user() {
    let house = House::start(&[]);
    for (what, fault) in [
        ("it is out of order", Fault::Answer("/token", 503, "")),
        ("the code is refused", Fault::Answer("/token", 400, r#"{"error":"invalid_grant","error_description":"Bad Request"}"#)),
        ("we are refused", Fault::Answer("/token", 401, r#"{"error":"invalid_client"}"#)),
        ("it sends a page", Fault::Answer("/token", 200, "<html>")),
        ("there is no id token", Fault::Answer("/token", 200, r#"{"access_token":"x","token_type":"Bearer"}"#)),
        ("its id token is of others", Fault::Claim("iss", Some(json!("https://evil.example")))),
        ("its id token is for others", Fault::Claim("aud", Some(json!("others")))),
        ("its id token is of another login", Fault::Claim("nonce", Some(json!("another")))),
        ("its id token has expired", Fault::Claim("exp", Some(json!(1)))),
        ("its id token is signed by others", Fault::Unsigned(false)),
        ("its id token is not signed", Fault::Unsigned(true)),
    ] {
        house.idp.fault(fault);
        assert_eq!(house.received("ada"), 500, "{what}");
        house.idp.mend();
    }
    assert_eq!(house.received("ada"), 200);
    let said = said(&house.app, "outcome=\"failed\"");
    assert!(said.contains("event=\"login\"") && !said.contains("google-secret"), "{said}");
}

#[test]
fn s1_36_google_that_does_not_say_who_somebody_is_lets_nobody_in() {
    let house = House::start(&[]);
    // An id token with nothing in it: the rest is asked for.
    house.idp.fault(Fault::Slim);
    assert_eq!(house.received("ada"), 200);
    assert_eq!(house.received("eve"), 403);
    assert!(house.idp.seen().iter().any(|seen| seen == "GET /v1/userinfo"));
    for fault in [
        Fault::Answer("/v1/userinfo", 500, ""),
        Fault::Answer("/v1/userinfo", 401, "{}"),
        Fault::Answer("/v1/userinfo", 200, "["),
        Fault::Stranger,
    ] {
        house.idp.fault(Fault::Slim);
        house.idp.fault(fault);
        assert_eq!(house.received("ada"), 500);
        house.idp.mend();
    }
}

#[test]
fn s1_37_hosted_domains_decide_and_nothing_else_does() {
    let house = House::start(&[("GOOGLE_ALLOWED_DOMAINS", " Example.COM ,@other.example,")]);
    for (user, status, why) in [
        ("ada", 200, "her domain is on the list"),
        ("alias", 200, "and so is this one's, whatever the address"),
        ("eve", 403, "another domain"),
        ("sub", 403, "a domain below is another"),
        ("private", 403, "no domain"),
        ("lookalike", 403, "an address of the domain, at an account that is nobody's"),
    ] {
        // Google says `hd=example.com` to the browser too, and that does not count.
        assert_eq!(house.received(user), status, "{user}: {why}");
    }
    let mut browser = house.browser();
    let back = house.begin(&mut browser, "eve", "");
    let page = browser.follow(&back);
    assert!(page.header("content-type").is_some_and(|media| media.starts_with("text/html")) && !page.text().contains("/consent"));
    assert!(browser.get(&asking("")).header("location").is_some_and(|to| to.starts_with(house.idp.url())), "nobody is signed in by that");
    for (claim, status) in [(json!("example.com.evil.example"), 403), (json!("*"), 403), (json!(""), 403), (json!("other.example"), 200)] {
        house.idp.fault(Fault::Claim("hd", Some(claim.clone())));
        assert_eq!(house.received("ada"), status, "{claim}");
        house.idp.mend();
    }
}

#[test]
fn s1_37_without_a_list_everybody_may_come_in() {
    let house = House::start(&[("GOOGLE_ALLOWED_DOMAINS", "")]);
    for user in ["ada", "eve", "private", "lookalike"] {
        assert_eq!(house.status("/mcp", &house.token(user, "")), 200, "{user}");
    }
}

#[test]
fn google_writes_its_name_in_two_ways_and_its_users_are_the_same() {
    let house = House::start(&[]);
    let known = json!({"id": "google:1", "email": "ada@example.com", "name": "ADA", "provider": "google"});
    assert_eq!(house.whoami("/mcp", &house.token("ada", "")), known);
    house.idp.fault(Fault::Claim("iss", Some(json!("accounts.google.com"))));
    assert_eq!(house.whoami("/sse", &house.token("ada", "")), known);
}

#[test]
fn a_google_that_calls_itself_otherwise_is_none() {
    let house = House::start(&[]);
    house.idp.fault(Fault::Issuer("https://evil.example"));
    assert_eq!(Browser::new(house.app.port, &format!("127.0.0.1:{}", house.app.port)).get(&asking("")).status, 500);
}
