//! Our authorization server as browsers and applications meet it, over real sockets.

use landbridge::plan::auth::Mode;
use landbridge::store::{Kind, Record};
use landbridge_proto::oauth::form::{Form, encode};
use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};

use crate::gateway::wait_until;
use crate::visitors::{App, Browser, House, PASSWORD, Tokens, account, ask, bearer, landed, now_s, sheet, sheets, soon, status, written};
use crate::wire::Response;

const CONFIG: &str = r#"
    [auth]
    mode = "oauth"
    scopes = { read = "Read things", write = "Write things" }
    [auth.clients.known]
    name = "Known <b>"
    redirect_uris = ["https://known.example/done?a=1"]
    secret = "a secret: of + the %C3%BC operator"
    scopes = ["read"]
    [servers.a]
    demo = true
    [servers.ab]
    demo = true
"#;

fn house() -> House {
    House::open(CONFIG)
}

#[track_caller]
fn refused(response: &Response, status: u16, error: &str) {
    let told = response.json();
    assert_eq!((response.status, told["error"].as_str()), (status, Some(error)), "{told}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert!(told["error_description"].as_str().is_some_and(|told| !told.is_empty()), "{told}");
}

/// A page that tells why not; or, in a browser that has begun something else meanwhile, that the same begins anew.
fn nowhere(response: &Response) {
    match response.status {
        302 | 303 => {
            let to = response.header("location").unwrap();
            assert!(to.starts_with("/authorize?") && !to.contains("code=") && !to.contains("request="), "{to}");
        }
        _ => told(response, 400),
    }
}

/// A page of ours that nothing leads away from.
#[track_caller]
fn told(response: &Response, status: u16) {
    assert_eq!(response.status, status, "{}", response.text());
    assert!(response.header("location").is_none() && response.header("content-type").unwrap().starts_with("text/html"));
    assert!(sheets(&response.text()).is_empty(), "{}", response.text());
}

/// A URL of ours as pages show it.
fn place(house: &House, path: &str) -> String {
    format!("127.0.0.1:{}{path}", house.port)
}

// --- the whole way ------------------------------------------------------------------------------

#[test]
fn a_stranger_becomes_a_client_and_its_user_lets_it_in() {
    let house = house();
    let port = house.port;
    // As a client finds its way that knows nothing but the URL.
    let lost = ask(port, "/servers/a/mcp", &[], "tools/list", json!({}));
    let challenge = lost.header("www-authenticate").unwrap();
    let metadata = challenge.split("resource_metadata=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(metadata, house.url("/.well-known/oauth-protected-resource/servers/a/mcp"));
    let resource = house.get(metadata.strip_prefix(&house.url("")).unwrap()).json();
    assert_eq!(resource["authorization_servers"], json!([house.url("")]));
    let server = house.get("/.well-known/oauth-authorization-server").json();
    assert_eq!(server["issuer"], house.url(""));
    for (key, path) in [("authorization_endpoint", "/authorize"), ("token_endpoint", "/token"), ("registration_endpoint", "/register")] {
        assert_eq!(server[key], house.url(path));
    }
    assert_eq!(server["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(server["authorization_response_iss_parameter_supported"], true);

    let app = App::register(port, "Ada's <i>editor</i>");
    let mut browser = Browser::new(port);
    let path = app.ask(&[("resource", resource["resource"].as_str().unwrap())]);
    let page = browser.get(&path);
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    let cookie = page.header("set-cookie").unwrap();
    assert!(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax") && cookie.contains("; Path=/"), "{cookie}");
    let form = sheet(&page, "/login").with("user", "ada");
    let wrong = browser.send(&form.clone().with("password", "wrong"));
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains("he name or the password is wrong") && wrong.text().contains("value=\"ada\""));
    let nobody = browser.send(&form.clone().with("user", "eve").with("password", "wrong"));
    assert_eq!(nobody.status, 400);
    assert!(nobody.text().contains("he name or the password is wrong"));
    let before = browser.jar.clone();
    let signed_in = browser.send(&form.clone().with("password", PASSWORD));
    assert_eq!(signed_in.status, 303);
    assert_ne!(browser.jar, before, "whoever knew the cookie before knows nothing now");
    let consent = browser.get(signed_in.header("location").unwrap());
    let text = consent.text();
    for shown in ["Ada&#39;s &#60;i&#62;editor", "127.0.0.1:4711", &place(&house, "/servers/a/mcp"), "Read things", "Write things", ">ada<"]
    {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    assert!(!text.contains("<i>"));
    assert!(consent.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
    let decided = browser.send(&sheet(&consent, "/consent").with("decision", "allow"));
    assert_eq!(decided.header("referrer-policy"), Some("no-referrer"));
    let done = landed(&decided, &app.redirect);
    assert_eq!((done.get("state"), done.get("iss")), (Some("s & t"), Some(house.url("").as_str())));
    let tokens = Tokens::of(&app.redeem(done.get("code").unwrap()));
    assert_eq!(tokens.scope, "read write");

    // The very next request works, on every wire.
    assert_eq!(status(port, "/servers/a/mcp", &tokens.access), 200);
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let with = bearer(&tokens.access);
    let opened = house.wire().post("/servers/a/mcp", &[("authorization", &with)], &hello.to_string());
    assert_eq!(opened.status, 200);
    let next = Tokens::of(&app.refresh(&tokens.refresh));
    assert_ne!((&next.access, &next.refresh), (&tokens.access, &tokens.refresh));
    for token in [&tokens.access, &next.access] {
        assert_eq!(status(port, "/servers/a/mcp", token), 200);
    }
    // Given back, all of it is worth nothing.
    assert_eq!(app.post("/revoke", &[("token", &next.refresh)], &[]).status, 200);
    for token in [&tokens.access, &next.access] {
        assert_eq!(status(port, "/servers/a/mcp", token), 401);
    }
    refused(&app.refresh(&next.refresh), 400, "invalid_grant");
}

#[test]
fn a_server_with_habits_is_a_resource_where_its_clients_look_for_it() {
    let mut plan = crate::visitors::plan(CONFIG);
    plan.profile.paths = vec!["/".into(), "/mcp/oauth".into(), "/stream".into()];
    plan.profile.client_ids = Some(landbridge::embed::ClientIds { prefix: "mcp_", digits: 16 });
    plan.profile.issuer_says = vec![("mcp_endpoint", r#""{root}/stream""#), ("issuer", r#""https://evil.example""#)];
    let house = House::planned(plan);
    for path in ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"] {
        let document = house.get(path).json();
        assert_eq!((&document["mcp_endpoint"], &document["issuer"]), (&json!(house.url("/stream")), &json!(house.url(""))));
    }
    for (resource, there, elsewhere) in [("/mcp/oauth", "/mcp/oauth", "/stream"), ("/stream", "/stream", "/mcp/oauth")] {
        let app = App::register(house.port, "app");
        assert!(app.id.len() == 20 && app.id.starts_with("mcp_"), "{}", app.id);
        let mut browser = Browser::new(house.port);
        let consent = browser.sign_in(&app.ask(&[("resource", &house.url(resource))]), "ada", PASSWORD);
        let done = landed(&browser.send(&sheet(&consent, "/consent").with("decision", "allow")), &app.redirect);
        let token = Tokens::of(&app.redeem(done.get("code").unwrap())).access;
        assert_eq!((status(house.port, there, &token), status(house.port, elsewhere, &token)), (200, 401), "{resource}");
    }
}

#[test]
fn an_agreement_ends_however_often_its_tokens_are_refreshed() {
    let mut plan = crate::visitors::plan(CONFIG);
    let Mode::Own(own) = &mut plan.auth.mode else { unreachable!("a server of ours") };
    own.agreement_s = 3;
    let house = House::planned(plan);
    let app = App::register(house.port, "app");
    let done = Browser::new(house.port).agree(&app, "ada");
    let issued = app.redeem(done.get("code").unwrap());
    assert!(issued.json()["expires_in"].as_u64().is_some_and(|seconds| (1..=3).contains(&seconds)), "{}", issued.text());
    let mut tokens = vec![Tokens::of(&issued)];
    let mut last = None;
    wait_until("the end of an agreement", || {
        let response = app.refresh(&tokens[tokens.len() - 1].refresh);
        match response.status {
            200 => {
                tokens.push(Tokens::of(&response));
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
            _ => last = Some(response),
        }
        last.is_some()
    });
    refused(&last.unwrap(), 400, "invalid_grant");
    assert!(tokens.len() > 2, "refreshed before");
    for token in tokens {
        assert_eq!(status(house.port, "/mcp", &token.access), 401);
    }
    // Whoever agrees again is back.
    let done = Browser::new(house.port).agree(&app, "ada");
    assert_eq!(status(house.port, "/mcp", &Tokens::of(&app.redeem(done.get("code").unwrap())).access), 200);
}

#[test]
fn what_is_asked_for_again_is_asked_again() {
    let house = house();
    let (one, other) = (App::register(house.port, "One"), App::register(house.port, "Other"));
    let mut browser = Browser::new(house.port);
    browser.agree(&one, "ada");
    // Nobody signs in twice, and nobody is let in because somebody else was.
    let page = browser.get(&other.ask(&[]));
    assert_eq!(page.status, 302, "a GET is sent elsewhere plainly");
    let consent = browser.get(page.header("location").unwrap());
    assert!(consent.text().contains("Other") && !consent.text().contains("One<"));
    let again = browser.get(&one.ask(&[]));
    let again = browser.get(again.header("location").unwrap());
    sheet(&again, "/consent");
}

// --- registration -------------------------------------------------------------------------------

#[test]
fn registration_is_strict() {
    let house = house();
    let register = |media: &str, body: &str| house.wire().request("POST", "/register", &[("content-type", media)], Some(body));
    let good = r#"{"redirect_uris":["https://a.example/done"]}"#;
    for media in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        let made = register(media, good);
        assert_eq!(
            (made.status, made.header("cache-control"), made.header("access-control-allow-origin")),
            (201, Some("no-store"), Some("*"))
        );
        // Without a word of it, a client has a secret.
        assert!(made.json()["client_secret"].is_string(), "{}", made.text());
    }
    for media in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        refused(&register(media, good), 400, "invalid_client_metadata");
    }
    let many: Vec<String> = (0..33).map(|n| format!("https://a.example/{n}")).collect();
    for (body, error) in [
        ("".to_owned(), "invalid_client_metadata"),
        ("[]".into(), "invalid_client_metadata"),
        ("{".into(), "invalid_client_metadata"),
        ("{}".into(), "invalid_redirect_uri"),
        (r#"{"redirect_uris":[]}"#.into(), "invalid_redirect_uri"),
        (r#"{"redirect_uris":"https://a.example/"}"#.into(), "invalid_client_metadata"),
        (r#"{"redirect_uris":[1]}"#.into(), "invalid_client_metadata"),
        (json!({"redirect_uris": many}).to_string(), "invalid_redirect_uri"),
        (r#"{"redirect_uris":["https://a.example/"],"redirect_uris":["https://b.example/"]}"#.into(), "invalid_client_metadata"),
        (r#"{"redirect_uris":["https://a.example/"],"token_endpoint_auth_method":"private_key_jwt"}"#.into(), "invalid_client_metadata"),
        (r#"{"redirect_uris":["https://a.example/"],"application_type":"x"}"#.into(), "invalid_client_metadata"),
        (r#"{"redirect_uris":["https://a.example/"],"grant_types":["client_credentials"]}"#.into(), "invalid_client_metadata"),
        (r#"{"redirect_uris":["https://a.example/"],"response_types":["token"]}"#.into(), "invalid_client_metadata"),
        (r#"{"redirect_uris":["https://a.example/"],"scope":"a\"b"}"#.into(), "invalid_client_metadata"),
        (r#"{"redirect_uris":["http://127.0.0.1/"],"application_type":"web"}"#.into(), "invalid_redirect_uri"),
        (r#"{"redirect_uris":["com.example.app:/x"],"application_type":"web"}"#.into(), "invalid_redirect_uri"),
    ] {
        refused(&register("application/json", &body), 400, error);
    }
    for uri in [
        "http://a.example/",
        "https://a.example/#x",
        "https://u@a.example/",
        "javascript://x/%0aalert(1)",
        "data:text/html,x",
        "/x",
        "",
        "https://a.example/../x",
        "http://127.0.0.1.evil.example/",
        "http://localhost.evil.example/",
        "https://a.example\\@b.example/",
        "file:///x",
        "mailto:a@b",
        "intent://x",
        "https:a.example",
        "vbscript:x.y",
    ] {
        refused(
            &register("application/json", &json!({"redirect_uris": ["https://a.example/", uri]}).to_string()),
            400,
            "invalid_redirect_uri",
        );
    }
    for (uris, kind) in [
        (json!(["https://claude.ai/api/mcp/auth_callback"]), "web"),
        (json!(["http://localhost:6274/oauth/callback"]), "native"),
        (json!(["cursor://anysphere.cursor-mcp/oauth/callback", "https://a.example/"]), "native"),
    ] {
        assert_eq!(register("application/json", &json!({"redirect_uris": uris}).to_string()).json()["application_type"], kind);
    }
    assert_eq!(register("application/json", &"x".repeat(70_000)).status, 413);

    let closed = House::open("[auth]\nmode = \"oauth\"\nregistration = false\n");
    refused(&closed.wire().request("POST", "/register", &[], Some(good)), 400, "invalid_client_metadata");
    assert!(closed.get("/.well-known/oauth-authorization-server").json().get("registration_endpoint").is_none());
}

// --- the request of an application --------------------------------------------------------------

#[test]
fn who_is_not_certain_is_told_on_a_page_and_who_is_by_redirect() {
    let house = house();
    let app = App::register(house.port, "app");
    let mut browser = Browser::new(house.port);
    for (what, path) in [
        ("no client", app.ask(&[("client_id", "")])),
        ("an unknown one", app.ask(&[("client_id", "x")])),
        ("a document nowhere", app.ask(&[("client_id", "https://127.0.0.1/x")])),
        ("two clients", format!("{}&client_id=x", app.ask(&[]))),
        ("nowhere to go", app.ask(&[("redirect_uri", "")])),
        ("elsewhere", app.ask(&[("redirect_uri", "https://evil.example/done")])),
        ("another path", app.ask(&[("redirect_uri", "http://127.0.0.1:4711/done/x")])),
        ("a slash more", app.ask(&[("redirect_uri", "http://127.0.0.1:4711/done/")])),
        ("a query more", app.ask(&[("redirect_uri", "http://127.0.0.1:4711/done?x=1")])),
        ("a fragment", app.ask(&[("redirect_uri", "http://127.0.0.1:4711/done#x")])),
        ("a user", app.ask(&[("redirect_uri", "http://127.0.0.1:4711@evil.example/done")])),
        ("another loopback", app.ask(&[("redirect_uri", "http://localhost:4711/done")])),
        ("tls", app.ask(&[("redirect_uri", "https://127.0.0.1:4711/done")])),
        ("two places", format!("{}&redirect_uri=https%3A%2F%2Fevil.example", app.ask(&[]))),
        ("no form", "/authorize?client_id=%zz".into()),
        ("no UTF-8", "/authorize?client_id=%ff".into()),
        ("nothing", "/authorize".into()),
    ] {
        let page = browser.get(&path);
        assert_eq!(page.status, 400, "{what}");
        told(&page, 400);
        assert_eq!(page.header("set-cookie"), None, "{what}");
    }
    assert_eq!(house.count(Kind::Login), 0, "nothing is kept for whoever asks wrongly");
    for (what, path, error) in [
        ("no type", app.ask(&[("response_type", "")]), "invalid_request"),
        ("implicit", app.ask(&[("response_type", "token")]), "unsupported_response_type"),
        ("no challenge", app.ask(&[("code_challenge", "")]), "invalid_request"),
        ("a bad challenge", app.ask(&[("code_challenge", "short")]), "invalid_request"),
        ("plain", app.ask(&[("code_challenge_method", "plain")]), "invalid_request"),
        ("no method", app.ask(&[("code_challenge_method", "")]), "invalid_request"),
        ("a fragment for a mode", app.ask(&[("response_mode", "fragment")]), "invalid_request"),
        ("a strange resource", app.ask(&[("resource", "https://evil.example/mcp")]), "invalid_target"),
        ("no such server", app.ask(&[("resource", &house.url("/servers/zz/mcp"))]), "invalid_target"),
        ("no resource", app.ask(&[("resource", "x")]), "invalid_target"),
        ("two", format!("{}&resource={}", app.ask(&[("resource", &house.url("/mcp"))]), encode(&house.url("/sse"))), "invalid_target"),
        ("no scope of ours", app.ask(&[("scope", "openid email")]), "invalid_scope"),
        ("signed", app.ask(&[("request", "x")]), "request_not_supported"),
        ("pushed", app.ask(&[("request_uri", "https://a.example")]), "request_uri_not_supported"),
        ("twice", format!("{}&scope=a&scope=b", app.ask(&[])), "invalid_request"),
    ] {
        let sent = landed(&browser.get(&path), &app.redirect);
        assert_eq!(
            (sent.get("error"), sent.get("state"), sent.get("iss")),
            (Some(error), Some("s & t"), Some(house.url("").as_str())),
            "{what}"
        );
        assert_eq!(sent.get("code"), None);
    }
    // A state that came twice is nobody's.
    let sent = landed(&browser.get(&format!("{}&state=other", app.ask(&[]))), &app.redirect);
    assert_eq!((sent.get("error"), sent.get("state")), (Some("invalid_request"), None));
    // Any port of this machine will do, as the client learns it when it listens.
    let page = browser.get(&app.ask(&[("redirect_uri", "http://127.0.0.1:1/done")]));
    assert_eq!(page.status, 200);
}

/// Where the links of a page lead.
fn links(page: &Response) -> Vec<String> {
    let text = page.text();
    text.split(" href=\"").skip(1).map(|rest| rest.split('"').next().unwrap().replace("&#38;", "&")).collect()
}

#[test]
fn no_link_to_us_leads_to_a_stranger_by_itself() {
    let house = house();
    let web = |uri: &str| {
        App::registered(house.port, &json!({"client_name": "Your <b>bank", "redirect_uris": [uri], "token_endpoint_auth_method": "none"}))
    };
    let mut browser = Browser::new(house.port);
    for uri in ["https://evil.example/done?x=1&y", "com.evil.app:/done"] {
        let app = web(uri);
        for (changed, error) in [
            (("response_type", "token"), "unsupported_response_type"),
            (("scope", "openid"), "invalid_scope"),
            (("code_challenge", ""), "invalid_request"),
            (("resource", "https://evil.example"), "invalid_target"),
        ] {
            let page = browser.get(&app.ask(&[changed]));
            told(&page, 400);
            assert!(page.header("set-cookie").is_none() && page.header("refresh").is_none());
            let text = page.text();
            let shown =
                if uri.starts_with("https") { " at <bdi>evil.example</bdi>" } else { "whichever opens <bdi>com.evil.app:</bdi> links" };
            assert!(text.contains(shown) && text.contains("Go back to <bdi>Your &#60;b&#62;bank</bdi>"), "{text}");
            // Whoever wants to goes back, and it hears the same as by a redirect.
            let [link] = &links(&page)[..] else { panic!("{text}") };
            let said = Form::read(link.strip_prefix(uri).unwrap().trim_start_matches(['?', '&'])).unwrap();
            assert_eq!(
                (said.get("error"), said.get("state"), said.get("iss")),
                (Some(error), Some("s & t"), Some(house.url("").as_str())),
                "{link}"
            );
        }
        // Nobody gets an answer without a question, whatever they ask for (OpenID Connect Core §3.1.2.1).
        assert_eq!(browser.get(&app.ask(&[("prompt", "none")])).status, 200);
    }
    assert_eq!(house.count(Kind::Code), 0);
    // Who has said no here has done something.
    let app = web("https://evil.example/done");
    let consent = browser.sign_in(&app.ask(&[("prompt", "none")]), "ada", PASSWORD);
    let denied = landed(&browser.send(&sheet(&consent, "/consent").with("decision", "deny")), &app.redirect);
    assert_eq!(denied.get("error"), Some("access_denied"));
    // And who is signed in is asked all the same.
    let asked = browser.get(&app.ask(&[("prompt", "none")]));
    assert!(asked.header("location").unwrap().starts_with("/consent?request="), "{:?}", asked.header("location"));
    // A client of the operator's is told at once.
    let known = App { id: "known".into(), redirect: "https://known.example/done?a=1".into(), ..app };
    let sent = landed(&browser.get(&known.ask(&[("scope", "write")])), &known.redirect);
    assert_eq!(sent.get("error"), Some("invalid_scope"));
}

#[test]
fn a_no_that_a_provider_tells_of_leads_to_no_stranger_either() {
    let house = House::open("[auth.login]\nprovider = \"github\"\nclient_id = \"x\"\nclient_secret = \"x\"\nusers = [\"*\"]\n");
    let web = json!({"client_name": "Web", "redirect_uris": ["https://evil.example/done"], "token_endpoint_auth_method": "none"});
    for (app, leads) in [(App::registered(house.port, &web), false), (App::register(house.port, "here"), true)] {
        let mut browser = Browser::new(house.port);
        let there = browser.get(&app.ask(&[])).header("location").unwrap().to_owned();
        let state = Form::read(there.split_once('?').unwrap().1).unwrap().get("state").unwrap().to_owned();
        let back = browser.get(&format!("/callback?error=access_denied&state={state}"));
        if leads {
            assert_eq!(landed(&back, &app.redirect).get("error"), Some("access_denied"));
            continue;
        }
        told(&back, 200);
        assert!(back.text().contains("Nothing was allowed"), "{}", back.text());
        let [link] = &links(&back)[..] else { panic!("{}", back.text()) };
        assert!(link.starts_with("https://evil.example/done?error=access_denied&"), "{link}");
    }
}

#[test]
fn a_client_of_the_operator_gets_what_it_may() {
    let house = house();
    let known = App {
        port: house.port,
        id: "known".into(),
        secret: Some("a secret: of + the %C3%BC operator".into()),
        redirect: "https://known.example/done?a=1".into(),
        verifier: "v".repeat(43),
    };
    let mut browser = Browser::new(house.port);
    let consent = browser.sign_in(&known.ask(&[]), "ada", PASSWORD);
    assert!(consent.text().contains("Registered by whoever runs this server") && !consent.text().contains("Write things"));
    let answer = browser.send(&sheet(&consent, "/consent").with("decision", "allow"));
    assert!(answer.header("location").unwrap().starts_with("https://known.example/done?a=1&code="));
    let code = landed(&answer, &known.redirect).get("code").unwrap().to_owned();
    // The secret in the header, each half as a form has it.
    let basic = |secret: &str| format!("Basic {}", base64(&format!("known:{}", encode(secret))));
    let fields = [("grant_type", "authorization_code"), ("code", code.as_str()), ("code_verifier", &known.verifier)];
    let wrong = house.form_with("/token", &[("authorization", &basic("other"))], &fields);
    refused(&wrong, 401, "invalid_client");
    assert!(wrong.header("www-authenticate").unwrap().starts_with("Basic "));
    refused(&house.form("/token", &[&fields[..], &[("client_id", "known")]].concat()), 401, "invalid_client");
    refused(&house.form("/token", &[&fields[..], &[("client_id", "known"), ("client_secret", "x")]].concat()), 401, "invalid_client");
    let both = house.form_with("/token", &[("authorization", &basic("x"))], &[&fields[..], &[("client_secret", "x")]].concat());
    refused(&both, 400, "invalid_request");
    refused(&house.form_with("/token", &[("authorization", "Bearer x")], &fields), 401, "invalid_client");
    let got = house.form_with("/token", &[("authorization", &basic("a secret: of + the %C3%BC operator"))], &fields);
    assert_eq!(Tokens::of(&got).scope, "read");
}

fn base64(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for n in 0..4 {
            out.push(if n <= three.len() { LETTERS[(bits >> (18 - 6 * n)) as usize & 63] as char } else { '=' });
        }
    }
    out
}

// --- codes --------------------------------------------------------------------------------------

fn code(house: &House, app: &App) -> String {
    Browser::new(house.port).agree(app, "ada").get("code").unwrap().to_owned()
}

#[test]
fn a_code_is_for_who_has_its_verifier_and_its_redirect() {
    let house = house();
    let (app, other) = (App::register(house.port, "app"), App::register(house.port, "other"));
    let wrong = "w".repeat(43);
    for (what, fields) in [
        ("no verifier", vec![("code_verifier", "")]),
        ("another verifier", vec![("code_verifier", wrong.as_str())]),
        ("the challenge itself", vec![("code_verifier", "challenge")]),
        ("a short verifier", vec![("code_verifier", "short")]),
        ("another redirect", vec![("redirect_uri", "http://127.0.0.1:4712/done")]),
    ] {
        let code = code(&house, &app);
        let challenge = Hash::of(&app.verifier).to_string();
        let fields: Vec<(&str, &str)> =
            fields.into_iter().map(|(name, value)| (name, if value == "challenge" { challenge.as_str() } else { value })).collect();
        refused(&app.redeem_with(&code, &fields), 400, "invalid_grant");
        // Whoever had the code and not the rest had stolen it.
        refused(&app.redeem(&code), 400, "invalid_grant");
        assert!(!what.is_empty());
    }
    let stolen = code(&house, &app);
    refused(&other.redeem_with(&stolen, &[("code_verifier", &app.verifier)]), 400, "invalid_grant");
    refused(&app.redeem(&stolen), 400, "invalid_grant");
    // In OAuth 2.1 the redirect need not be repeated.
    Tokens::of(&app.redeem_with(&code(&house, &app), &[("redirect_uri", "")]));
    let late = code(&house, &app);
    house.rewrite(Kind::Code, |_, expires_s| *expires_s = Some(now_s()));
    refused(&app.redeem(&late), 400, "invalid_grant");
    for (fields, error) in [
        (vec![("grant_type", "")], "invalid_request"),
        (vec![("grant_type", "password")], "unsupported_grant_type"),
        (vec![("grant_type", "client_credentials")], "unsupported_grant_type"),
        (vec![("code", "")], "invalid_request"),
        (vec![("code", "x")], "invalid_grant"),
    ] {
        refused(&app.redeem_with("x", &fields), 400, error);
    }
    refused(&app.redeem_with("x", &[("client_id", "")]), 401, "invalid_client");
    refused(&app.redeem_with("x", &[("client_id", "y")]), 401, "invalid_client");
}

#[test]
fn a_code_shown_twice_withdraws_what_it_gave() {
    let house = house();
    let (app, other) = (App::register(house.port, "app"), App::register(house.port, "other"));
    let bystander = app.log_in("ada");
    let code = code(&house, &app);
    let tokens = Tokens::of(&app.redeem(&code));
    assert_eq!(status(house.port, "/mcp", &tokens.access), 200);
    // Another client cannot do it.
    refused(&other.redeem(&code), 400, "invalid_grant");
    assert_eq!(status(house.port, "/mcp", &tokens.access), 200);
    refused(&app.redeem(&code), 400, "invalid_grant");
    assert_eq!(status(house.port, "/mcp", &tokens.access), 401, "also what was seen a moment ago");
    refused(&app.refresh(&tokens.refresh), 400, "invalid_grant");
    assert_eq!(status(house.port, "/mcp", &bystander.access), 200, "another agreement stays");
}

#[test]
fn tokens_are_for_a_part_of_what_was_agreed_to_and_never_for_more() {
    let house = house();
    let app = App::register(house.port, "app");
    let url = |path: &str| house.url(path);
    let mut browser = Browser::new(house.port);
    let path = app.ask(&[("resource", &url("/servers/a")), ("scope", "write read openid read")]);
    let consent = browser.sign_in(&path, "ada", PASSWORD);
    // The user takes one away, and adds one that was never asked for.
    let form = sheet(&consent, "/consent").without("scope:write").with("scope:admin", "yes").with("decision", "allow");
    let code = landed(&browser.send(&form), &app.redirect).get("code").unwrap().to_owned();
    // A mistake about the resource costs nothing but another try.
    for wrong in ["/servers/ab/mcp", "/mcp", ""] {
        refused(&app.redeem_with(&code, &[("resource", &format!("{}{wrong}", url("")))]), 400, "invalid_target");
    }
    let tokens = Tokens::of(&app.redeem_with(&code, &[("resource", &url("/servers/a/mcp"))]));
    assert_eq!(tokens.scope, "read");
    assert_eq!((status(house.port, "/servers/a/mcp", &tokens.access), status(house.port, "/servers/ab/mcp", &tokens.access)), (200, 401));
    refused(&app.refresh_with(&tokens.refresh, &[("scope", "read write")]), 400, "invalid_scope");
    refused(&app.refresh_with(&tokens.refresh, &[("resource", &url("/mcp"))]), 400, "invalid_target");
    // The line itself is as wide as it was.
    let next = Tokens::of(&app.refresh_with(&tokens.refresh, &[("resource", &url("/servers/a/sse")), ("scope", "read")]));
    assert_eq!((status(house.port, "/servers/a/mcp", &next.access), next.scope.as_str()), (401, "read"));
    let next = Tokens::of(&app.refresh(&next.refresh));
    assert_eq!(status(house.port, "/servers/a/mcp", &next.access), 200);
    // Whoever leaves nothing has not agreed.
    let consent = browser.sign_in(&app.ask(&[]), "ada", PASSWORD);
    let nothing = sheet(&consent, "/consent").without("scope:write").without("scope:read").with("decision", "allow");
    assert_eq!(landed(&browser.send(&nothing), &app.redirect).get("error"), Some("access_denied"));
}

// --- refresh tokens -----------------------------------------------------------------------------

#[test]
fn a_refresh_token_leads_to_one_successor_for_a_minute_and_then_to_nothing() {
    let house = house();
    let app = App::register(house.port, "app");
    let first = app.log_in("ada");
    let second = Tokens::of(&app.refresh(&first.refresh));
    // An answer that was lost is given again.
    let again = Tokens::of(&app.refresh(&first.refresh));
    assert_eq!(again.refresh, second.refresh);
    assert_ne!(again.access, second.access);
    let third = Tokens::of(&app.refresh(&second.refresh));
    // Still, and it does not make the second young again.
    assert_eq!(Tokens::of(&app.refresh(&first.refresh)).refresh, second.refresh);
    let aged = |by_s: u64| {
        house.rewrite(Kind::Refresh, |value, _| {
            if let Some(used_s) = value["used_s"].as_u64() {
                value["used_s"] = (used_s - by_s).into();
            }
        });
    };
    aged(58);
    assert_eq!(Tokens::of(&app.refresh(&second.refresh)).refresh, third.refresh);
    aged(10);
    refused(&app.refresh(&first.refresh), 400, "invalid_grant");
    for token in [&first.access, &second.access, &third.access, &again.access] {
        assert_eq!(status(house.port, "/mcp", token), 401);
    }
    for token in [&first.refresh, &second.refresh, &third.refresh] {
        refused(&app.refresh(token), 400, "invalid_grant");
    }
    assert_eq!(house.count(Kind::Grant), 0);
}

#[test]
fn a_refresh_token_is_for_its_client_and_its_time() {
    let house = house();
    let (app, other) = (App::register(house.port, "app"), App::register(house.port, "other"));
    let tokens = app.log_in("ada");
    refused(&other.refresh(&tokens.refresh), 400, "invalid_grant");
    refused(&app.refresh(&tokens.access), 400, "invalid_grant");
    // It was not used up by that.
    let tokens = Tokens::of(&app.refresh(&tokens.refresh));
    assert_eq!(status(house.port, "/mcp", &tokens.refresh), 401, "it opens nothing itself");
    house.rewrite(Kind::Refresh, |_, expires_s| *expires_s = Some(now_s()));
    refused(&app.refresh(&tokens.refresh), 400, "invalid_grant");
    // A client that did not ask for them gets none.
    let once = App::registered(house.port, &json!({"redirect_uris": ["http://127.0.0.1/done"], "token_endpoint_auth_method": "none"}));
    assert_eq!(once.log_in("ada").refresh, "");
    // An access token ends with its time.
    let tokens = once.log_in("ada");
    house.rewrite(Kind::Access, |_, expires_s| *expires_s = Some(now_s()));
    assert_eq!(status(house.port, "/mcp", &tokens.access), 401);
}

// --- what else programs ask ---------------------------------------------------------------------

#[test]
fn tokens_are_given_back_and_explained_to_whom_they_belong() {
    let house = house();
    let body = json!({"redirect_uris": ["http://127.0.0.1/done"], "grant_types": ["authorization_code", "refresh_token"]});
    let (app, other) = (App::registered(house.port, &body), App::registered(house.port, &body));
    let public = App::register(house.port, "public");
    let tokens = app.log_in("ada");
    let about = |app: &App, token: &str| app.post("/introspect", &[("token", token)], &[]);
    let said = about(&app, &tokens.access).json();
    assert_eq!((&said["active"], &said["username"], &said["client_id"]), (&json!(true), &json!("ada"), &json!(app.id)));
    assert_eq!((&said["scope"], &said["aud"], &said["iss"]), (&json!("read write"), &json!(house.url("")), &json!(house.url(""))));
    assert_eq!(about(&app, &tokens.refresh).json()["token_type"], "refresh_token");
    for (who, token) in [(&other, tokens.access.as_str()), (&other, &tokens.refresh), (&app, "x"), (&app, &app.id)] {
        assert_eq!(about(who, token).json(), json!({"active": false}));
    }
    refused(&about(&public, &tokens.access), 401, "invalid_client");
    refused(&app.post("/introspect", &[("token", &tokens.access)], &[("client_secret", "x")]), 401, "invalid_client");
    refused(&app.post("/introspect", &[], &[]), 400, "invalid_request");
    refused(&app.post("/revoke", &[], &[]), 400, "invalid_request");
    // Nobody else can give them back, and is not told so.
    for token in [&tokens.access, &tokens.refresh] {
        assert_eq!(other.post("/revoke", &[("token", token)], &[]).status, 200);
    }
    assert_eq!(app.post("/revoke", &[("token", "unknown")], &[]).status, 200);
    assert_eq!(status(house.port, "/mcp", &tokens.access), 200);
    // An access token by itself leaves the rest.
    assert_eq!(app.post("/revoke", &[("token", &tokens.access)], &[("token_type_hint", "refresh_token")]).status, 200);
    assert_eq!(status(house.port, "/mcp", &tokens.access), 401);
    assert_eq!(about(&app, &tokens.access).json(), json!({"active": false}));
    let next = Tokens::of(&app.refresh(&tokens.refresh));
    // Also by one that was used: the line is one.
    assert_eq!(app.post("/revoke", &[("token", &tokens.refresh)], &[]).status, 200);
    assert_eq!(status(house.port, "/mcp", &next.access), 401);
    assert_eq!(about(&app, &next.refresh).json(), json!({"active": false}));
}

#[test]
fn endpoints_are_strict_about_methods_and_media_and_keep_nothing_anywhere() {
    let house = house();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for path in ["/token", "/revoke", "/introspect"] {
        for media in ["application/json", "text/plain", "multipart/form-data", "application/x-www-form-urlencodedx", ""] {
            let body = "grant_type=refresh_token&refresh_token=x&client_id=x&token=x";
            refused(&house.wire().request("POST", path, &[("content-type", media)], Some(body)), 400, "invalid_request");
        }
        for body in ["a=%zz", "a=%ff", "grant_type=a&grant_type=b&client_id=x", &"a=b&".repeat(100), &"x".repeat(20_000)] {
            let said = house.wire().request("POST", path, &form, Some(body));
            assert!(matches!(said.status, 400 | 401), "{path} {body} {}", said.text());
            assert!(said.json()["error"].is_string());
        }
        let utf8 = [("content-type", "application/x-www-form-urlencoded; charset=UTF-8")];
        refused(&house.wire().request("POST", path, &utf8, Some("client_id=x&token=y")), 401, "invalid_client");
        assert_eq!(house.wire().request("POST", path, &form, Some(&"x".repeat(70_000))).status, 413);
    }
    for (path, allowed) in [
        ("/authorize", "GET"),
        ("/login", "POST"),
        ("/logout", "POST"),
        ("/callback", "GET"),
        ("/consent", "GET, POST"),
        ("/token", "POST"),
        ("/register", "POST"),
        ("/revoke", "POST"),
        ("/introspect", "POST"),
        ("/jwks", "GET"),
    ] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let said = house.wire().request(method, path, &[], None);
            assert_eq!(said.header("cache-control"), Some("no-store"), "{method} {path}");
            if !allowed.split(", ").any(|allowed| allowed == method) {
                assert_eq!((said.status, said.header("allow")), (405, Some(allowed)), "{method} {path}");
            }
        }
        let head = house.wire().open("HEAD", path, &[], None);
        assert_eq!((head.status, head.header("cache-control")), (405, Some("no-store")));
        let page =
            [("origin", "https://page.example"), ("access-control-request-method", "POST"), ("access-control-request-headers", "x-a")];
        let said = house.wire().request("OPTIONS", path, &page, None);
        assert_eq!(said.header("cache-control"), Some("no-store"));
        let for_programs = matches!(path, "/token" | "/register" | "/revoke" | "/introspect" | "/jwks");
        assert_eq!(said.status, if for_programs { 204 } else { 405 }, "{path}");
        // Where there are cookies, no page may read what is answered.
        assert_eq!(said.header("access-control-allow-origin"), for_programs.then_some("*"), "{path}");
    }
    // A page of anywhere may be a client.
    let far = house.wire().request("POST", "/token", &[form[0], ("origin", "https://page.example")], Some("client_id=x"));
    assert_eq!((far.status, far.header("access-control-allow-origin")), (401, Some("*")));
    // But only by our own name.
    assert_eq!(house.wire().request("GET", "/authorize", &[("host", "evil.example")], None).status, 403);
    assert_eq!(house.wire().request("POST", "/token", &[("host", "evil.example")], Some("")).status, 403);
}

// --- forms that nobody filled in ----------------------------------------------------------------

/// A form as a page somewhere else would send it for us, and what belongs to whom.
#[test]
fn a_decision_counts_from_the_browser_and_the_page_that_it_was_made_on() {
    let house = house();
    let (app, evil) = (App::register(house.port, "app"), App::register(house.port, "evil"));
    let (mut ada, mut mallory) = (Browser::new(house.port), Browser::new(house.port));
    let allow = |page: &Response| sheet(page, "/consent").with("decision", "allow");
    let consent = allow(&ada.sign_in(&app.ask(&[]), "ada", PASSWORD));
    let theirs = allow(&mallory.sign_in(&evil.ask(&[]), "bob", PASSWORD));
    let again = ada.get(&evil.ask(&[]));
    let hers = allow(&ada.get(again.header("location").unwrap()));
    let token = |sheet: &crate::visitors::Sheet| sheet.field("csrf").to_owned();

    for (what, form) in [
        ("no token", consent.clone().without("csrf")),
        ("an empty one", consent.clone().with("csrf", "")),
        ("a made up one", consent.clone().with("csrf", &Hash::of("x").to_string())),
        ("that of another browser", consent.clone().with("csrf", &token(&theirs))),
        ("that of another request of hers", consent.clone().with("csrf", &token(&hers))),
        ("no request", consent.clone().without("request")),
        ("a request that is none", consent.clone().with("request", "x")),
        ("the request of another browser", consent.clone().with("request", theirs.field("request"))),
        ("all of another browser's", theirs.clone()),
        ("the other request of hers, with this token", hers.clone().with("csrf", &token(&consent))),
    ] {
        let response = ada.send(&form);
        assert!(response.status == 400 || what.contains("another browser"), "{what}: {}", response.status);
        nowhere(&response);
    }
    // Hers, from elsewhere.
    nowhere(&mallory.send(&consent));
    told(&Browser::new(house.port).send(&consent), 400);
    let cookie = format!("landbridge={}", ada.jar["landbridge"]);
    let fields: Vec<(&str, &str)> = consent.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // As JSON, as text, with two cookies of which one was planted.
    for (headers, body) in [
        (vec![("content-type", "text/plain"), ("cookie", &cookie)], written(&fields)),
        (vec![("content-type", "application/json"), ("cookie", &cookie)], written(&fields)),
        (vec![("content-type", "application/x-www-form-urlencoded"), ("cookie", &cookie), ("cookie", "landbridge=x")], written(&fields)),
    ] {
        told(&house.wire().request("POST", "/consent", &headers, Some(&body)), 400);
    }
    assert_eq!(house.count(Kind::Code) + house.count(Kind::Grant), 0);
    // A form that says neither is no yes.
    let shrug = ada.send(&hers.clone().without("decision"));
    assert_eq!(landed(&shrug, &evil.redirect).get("error"), Some("access_denied"));
    // None of it has used up her own, which counts once.
    let done = landed(&ada.send(&consent), &app.redirect);
    assert!(done.get("code").is_some());
    assert_eq!(landed(&ada.send(&consent), &app.redirect).get("code"), done.get("code"), "who presses twice is told the same");
    assert_eq!((house.count(Kind::Code), house.count(Kind::Grant)), (1, 1));
}

#[test]
fn the_same_form_from_many_at_once_makes_one_code() {
    let house = house();
    let app = App::register(house.port, "app");
    for _ in 0..5 {
        let before = house.count(Kind::Code);
        let mut ada = Browser::new(house.port);
        let form = sheet(&ada.sign_in(&app.ask(&[]), "ada", PASSWORD), "/consent").with("decision", "allow");
        let mut places: Vec<String> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| {
                    let (mut ada, form) = (ada.clone(), form.clone());
                    scope.spawn(move || ada.send(&form).header("location").map(str::to_owned))
                })
                .collect();
            all.into_iter().filter_map(|one| one.join().unwrap()).collect()
        });
        // Whoever is told where to go is told the same.
        places.dedup();
        assert_eq!((places.len(), house.count(Kind::Code) - before), (1, 1), "{places:?}");
    }
}

#[test]
fn a_cookie_that_somebody_planted_is_worth_nothing_after_the_login() {
    let house = house();
    let app = App::register(house.port, "app");
    let mut mallory = Browser::new(house.port);
    let begun = sheet(&mallory.get(&app.ask(&[])), "/login");
    // Ada's browser has Mallory's cookie, and she signs in with it: at the request of Mallory, or at her own.
    for own in [false, true] {
        let mut ada = mallory.clone();
        let form = if own { sheet(&ada.get(&app.ask(&[])), "/login") } else { begun.clone() };
        let signed_in = ada.send(&form.with("user", "ada").with("password", PASSWORD));
        assert_eq!(signed_in.status, 303);
        let to = signed_in.header("location").unwrap();
        assert_ne!(ada.jar, mallory.jar);
        assert_eq!(ada.get(to).status, 200);
        nowhere(&mallory.get(to));
        let page = mallory.get(&app.ask(&[]));
        sheet(&page, "/login");
    }
    // A cookie that is not one of ours is none.
    let mut odd = Browser::new(house.port);
    odd.jar.insert("landbridge".into(), "session=1".into());
    sheet(&odd.get(&app.ask(&[])), "/login");
    assert_ne!(odd.jar["landbridge"], "session=1");
}

#[test]
fn a_login_begins_and_ends_in_one_browser() {
    let house = house();
    let app = App::register(house.port, "app");
    let (mut ada, mut other) = (Browser::new(house.port), Browser::new(house.port));
    let form = sheet(&ada.get(&app.ask(&[])), "/login").with("user", "ada").with("password", PASSWORD);
    told(&other.send(&form), 400);
    other.get(&app.ask(&[]));
    nowhere(&other.send(&form));
    told(&ada.send(&form.clone().with("csrf", "x")), 400);
    let to = ada.send(&form).header("location").unwrap().to_owned();
    nowhere(&other.get(&to));
    // The form was for the cookie that is no more.
    nowhere(&ada.send(&form));
    // Too late is over.
    house.rewrite(Kind::Login, |value, expires_s| {
        if value["query"].is_string() {
            *expires_s = Some(now_s());
        }
    });
    told(&ada.get(&to), 400);
    for path in
        ["/consent", "/consent?request=", "/consent?request=x", "/consent?request=a&request=b", "/callback", "/callback?state=x&code=y"]
    {
        told(&ada.get(path), 400);
    }
}

#[test]
fn who_signs_out_is_asked_again_and_who_says_no_is_heard() {
    let house = house();
    let app = App::register(house.port, "app");
    let mut browser = Browser::new(house.port);
    let consent = browser.sign_in(&app.ask(&[]), "ada", PASSWORD);
    let (form, leave) = (sheet(&consent, "/consent"), sheet(&consent, "/logout"));
    let page = browser.send(&leave);
    let login = sheet(&page, "/login");
    // The page that is still open does nothing now, but sends to the login.
    let sent = browser.send(&form.clone().with("decision", "allow"));
    assert!(sent.header("location").unwrap().starts_with("/authorize?"), "{sent:?}");
    assert_eq!(house.count(Kind::Grant), 0);
    let to = browser.send(&login.with("user", "bob").with("password", PASSWORD)).header("location").unwrap().to_owned();
    let consent = browser.get(&to);
    assert!(consent.text().contains(">bob<"));
    // What Ada was shown is not what Bob agrees to.
    told(&browser.send(&form.with("decision", "allow")), 400);
    let no = landed(&browser.send(&sheet(&consent, "/consent").with("decision", "deny")), &app.redirect);
    assert_eq!((no.get("error"), no.get("state"), no.get("iss")), (Some("access_denied"), Some("s & t"), Some(house.url("").as_str())));
    assert_eq!((no.get("code"), house.count(Kind::Code)), (None, 0));
}

#[test]
fn an_account_that_is_gone_or_another_now_lets_nobody_in() {
    let house = house();
    let app = App::register(house.port, "app");
    let mut browser = Browser::new(house.port);
    let consent = browser.sign_in(&app.ask(&[]), "ada", PASSWORD);
    let form = sheet(&consent, "/consent").with("decision", "allow");
    let tokens = app.log_in("ada");
    let removed = |house: &House| {
        soon(async {
            let record = house.store().take(Kind::User, "ada", now_s()).await.unwrap().unwrap();
            let account = landbridge::login::local::Account::read(&record.value).unwrap();
            let whose = landbridge::authority::principal_of(&account);
            landbridge::authority::shut_out(house.store(), &whose, now_s()).await.unwrap()
        })
    };
    assert_eq!(removed(&house), 1);
    assert_eq!(status(house.port, "/mcp", &tokens.access), 401);
    refused(&app.refresh(&tokens.refresh), 400, "invalid_grant");
    assert!(browser.send(&form).header("location").unwrap().starts_with("/authorize?"));
    // Somebody else by that name comes: they are not who was signed in.
    let anew = landbridge::login::local::Account::new("ada", "quite another one", [9; 16], now_s()).unwrap();
    let put = |value: String| soon(house.store().put(Kind::User, "ada", Record { value, expires_s: None })).unwrap();
    put(anew.to_json());
    assert!(browser.send(&form).header("location").unwrap().starts_with("/authorize?"));
    sheet(&browser.get(&app.ask(&[])), "/login");
    assert_eq!(house.count(Kind::Grant), 0);
    // Another password signs out everybody who had the old one.
    put(account("ada").value);
    let mut browser = Browser::new(house.port);
    sheet(&browser.sign_in(&app.ask(&[]), "ada", PASSWORD), "/consent");
    put(anew.to_json());
    sheet(&browser.get(&app.ask(&[])), "/login");
}

// --- what is shown is what is granted -----------------------------------------------------------

#[test]
fn what_the_page_says_is_what_the_code_is_for() {
    let house = house();
    let mut browser = Browser::new(house.port);
    let apps: Vec<App> = ["One", "Two", "Three"].iter().map(|name| App::register(house.port, name)).collect();
    let names = ["One", "Two", "Three"];
    let mut pages = Vec::new();
    browser.sign_in(&apps[0].ask(&[]), "ada", PASSWORD);
    for (n, app) in apps.iter().enumerate() {
        for (resource, scope) in [("/mcp", "read"), ("/servers/ab/sse", "write read"), ("/servers/a", "write"), ("", "")] {
            let port = 1000 + pages.len();
            let redirect = format!("http://127.0.0.1:{port}/done");
            let path =
                app.ask(&[("resource", &house.url(resource)), ("scope", scope), ("redirect_uri", &redirect), ("state", &port.to_string())]);
            let to = browser.get(&path).header("location").unwrap().to_owned();
            let page = browser.get(&to);
            let text = page.text();
            assert!(text.contains(&format!("127.0.0.1:{port}<")) && text.contains(&format!(">{}<", names[n])), "{text}");
            assert!(text.contains(&format!("<bdi>{}</bdi>", place(&house, resource))), "{text}");
            let shown: Vec<String> =
                sheet(&page, "/consent").fields.iter().filter_map(|(name, _)| name.strip_prefix("scope:").map(str::to_owned)).collect();
            pages.push((app, house.url(resource), redirect, shown, page));
        }
    }
    // Sent in another order than they came.
    pages.reverse();
    for (app, resource, redirect, shown, page) in pages {
        let done = landed(&browser.send(&sheet(&page, "/consent").with("decision", "allow")), &redirect);
        let record = soon(house.store().get(Kind::Code, &Hash::of(done.get("code").unwrap()).to_string(), now_s())).unwrap().unwrap();
        let kept: Value = serde_json::from_str(&record.value).unwrap();
        assert_eq!((&kept["grant"]["client"], &kept["grant"]["resource"]), (&json!(app.id), &json!(resource)));
        assert_eq!((&kept["grant"]["scopes"], &kept["redirect_uri"]), (&json!(shown), &json!(redirect)));
        assert!(Form::read(done.get("state").unwrap()).is_ok() && redirect.contains(done.get("state").unwrap()));
        let tokens = Tokens::of(&app.redeem_with(done.get("code").unwrap(), &[("redirect_uri", &redirect)]));
        assert_eq!(tokens.scope, shown.join(" "));
    }
}
