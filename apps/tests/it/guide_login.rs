//! Rows S4 of the list: who may call the guide.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landbridge_proto::oauth::form::{Form, encode};
use serde_json::{Value, json};

use crate::app::{App, fresh_dir, run};
use crate::docs::landbridge;
use crate::guide::{guide, hello};
use crate::wire::Response;

const PASSWORD: &str = "correct horse battery";

/// Where a client of ours wants its users back.
const BACK: &str = "http://127.0.0.1:9/callback";

fn register(app: &App) -> String {
    let client = json!({"client_name": "test", "redirect_uris": [BACK], "token_endpoint_auth_method": "none"});
    let response = app.post("/register", &client);
    assert_eq!(response.status, 201, "{}", response.text());
    response.json()["client_id"].as_str().expect("an id").to_owned()
}

fn authorize_path(client: &str, more: &str) -> String {
    format!("/authorize?response_type=code&client_id={client}&redirect_uri={}&state=s{more}", encode(BACK))
}

fn authorize(app: &App, client: &str, more: &str) -> Response {
    app.get(&authorize_path(client, more))
}

/// What a refusal says, wherever it is.
fn refusal(response: &Response) -> String {
    format!("{} {}", response.header("location").unwrap_or_default(), response.text())
}

/// Its hash is the challenge.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

/// With accounts, of which there is one.
fn guarded() -> App {
    let dir = fresh_dir("accounts");
    std::fs::create_dir_all(dir.join("data/guide")).unwrap();
    let mut made = Command::new(landbridge());
    made.args(["user", "add", "ada", "--password-stdin", "--store", "sqlite:data/guide/accounts.db"]).current_dir(&dir);
    let mut made = made.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    made.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    assert!(made.wait().unwrap().success());
    App::start_in(&dir, "guide", &[], &[("GUIDE_AUTH", "oauth")])
}

/// Goes the whole way as an application and its user do, to a code.
fn log_in(app: &App, client: &str, resource: &str) -> String {
    let mut jar = BTreeMap::new();
    let mut browse = |method: &str, path: &str, body: Option<&str>| {
        let cookies = jar.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let headers = [("cookie", cookies.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let response = app.wire().request(method, path, &headers, body);
        for (_, set) in response.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
            jar.insert(name.to_owned(), value.to_owned());
        }
        response
    };
    let login = browse("GET", &authorize_path(client, &format!("{CHALLENGE}&resource={}", encode(resource))), None);
    assert_eq!(login.status, 200, "{}", refusal(&login));
    let body = filled(&login.text(), "/login", &[("user", "ada"), ("password", PASSWORD)]);
    let signed_in = browse("POST", "/login", Some(&body));
    assert_eq!(signed_in.status, 303, "{}", signed_in.text());
    let consent = browse("GET", signed_in.header("location").unwrap(), None);
    assert!(consent.text().contains(resource.trim_start_matches("http://")), "whoever agrees is told to what: {}", consent.text());
    let agreed = browse("POST", "/consent", Some(&filled(&consent.text(), "/consent", &[("decision", "allow")])));
    let to = agreed.header("location").unwrap_or_else(|| panic!("{}", agreed.text())).to_owned();
    let query = Form::read(to.strip_prefix(BACK).expect("our place").trim_start_matches('?')).unwrap();
    assert_eq!(query.get("state"), Some("s"));
    query.get("code").unwrap_or_else(|| panic!("{to}")).to_owned()
}

/// The form of a page that is sent there, filled in.
fn filled(page: &str, action: &str, with: &[(&str, &str)]) -> String {
    let form =
        page.split("<form ").find(|form| form.contains(&format!("action=\"{action}\""))).unwrap_or_else(|| panic!("no form: {page}"));
    let attribute = |tag: &str, name: &str| Some(tag.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.to_owned());
    let tags = form.split("</form>").next().unwrap().split("<input").skip(1).map(|tag| tag.split('>').next().unwrap());
    let hidden = tags.filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default())));
    let mut all: Vec<(String, String)> = hidden.filter(|(name, _)| !with.iter().any(|(other, _)| other == name)).collect();
    all.extend(with.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
}

/// What the token endpoint says.
fn redeem(app: &App, client: &str, code: &str, verifier: Option<&str>, resource: &str) -> Response {
    let verifier = verifier.map(|verifier| format!("&code_verifier={verifier}")).unwrap_or_default();
    let body = format!(
        "grant_type=authorization_code&code={}&redirect_uri={}&client_id={client}{verifier}&resource={}",
        encode(code),
        encode(BACK),
        encode(resource)
    );
    app.wire().request("POST", "/token", &[("content-type", "application/x-www-form-urlencoded")], Some(&body))
}

/// A token for that, by the whole way.
fn token(app: &App, resource: &str) -> String {
    let client = register(app);
    let given = redeem(app, &client, &log_in(app, &client, resource), Some(VERIFIER), resource);
    assert_eq!(given.status, 200, "{}", given.text());
    assert_eq!((given.header("cache-control"), &given.json()["token_type"]), (Some("no-store"), &json!("Bearer")));
    given.json()["access_token"].as_str().unwrap().to_owned()
}

fn url(app: &App, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", app.port)
}

#[test]
fn s4_15_nobody_logs_in_without_pkce() {
    let app = guarded();
    let document = app.get("/.well-known/oauth-authorization-server").json();
    assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
    // Of every kind of client: those that have a secret too.
    let secret = json!({"client_name": "s", "redirect_uris": [BACK], "token_endpoint_auth_method": "client_secret_post"});
    let secret = app.post("/register", &secret).json()["client_id"].as_str().unwrap().to_owned();
    let client = register(&app);
    for client in [&client, &secret] {
        assert!(refusal(&authorize(&app, client, "")).contains("invalid_request"));
        let plain = "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=plain";
        assert!(refusal(&authorize(&app, client, plain)).contains("invalid_request"));
        let asked = authorize(&app, client, CHALLENGE);
        assert!(asked.status < 400 && !refusal(&asked).contains("error="), "{}", refusal(&asked));
    }
    // A code is worth nothing to who cannot show what it was asked for with, and nothing twice.
    let resource = url(&app, "/mcp");
    for wrong in [None, Some("another-verifier-of-at-least-forty-three-characters-01")] {
        let refused = redeem(&app, &client, &log_in(&app, &client, &resource), wrong, &resource);
        assert_eq!(refused.status, 400, "{}", refused.text());
        let error = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(matches!(error.as_str(), "invalid_grant" | "invalid_request"), "{error}");
    }
    let code = log_in(&app, &client, &resource);
    assert_eq!(redeem(&app, &client, &code, Some(VERIFIER), &resource).status, 200);
    assert_eq!(redeem(&app, &client, &code, Some(VERIFIER), &resource).json()["error"], "invalid_grant");
}

#[test]
fn s4_16_clients_register_themselves() {
    let app = guarded();
    let document = app.get("/.well-known/oauth-authorization-server").json();
    assert_eq!(document["registration_endpoint"], url(&app, "/register"));
    assert_ne!(register(&app), register(&app));
    for bad in ["javascript:alert(1)", "http://elsewhere.example/callback", "data:text/html,x", "/callback", ""] {
        let refused = app.post("/register", &json!({"redirect_uris": [bad]}));
        assert_eq!((refused.status, &refused.json()["error"]), (400, &json!("invalid_redirect_uri")), "{bad}");
    }
    for bad in [json!({}), json!({"redirect_uris": []}), json!({"redirect_uris": "x"}), json!([])] {
        assert_eq!(app.post("/register", &bad).status, 400, "{bad}");
    }
    // It is sent back to where it said, and nowhere else; who has not registered is nobody.
    let client = register(&app);
    let elsewhere = authorize_path(&client, CHALLENGE).replace("%3A9%2Fcallback", "%3A9%2Felsewhere");
    for refused in [app.get(&elsewhere), authorize(&app, "nobody", CHALLENGE)] {
        assert_eq!((refused.status, refused.header("location")), (400, None), "{}", refused.text());
    }
}

#[test]
fn s4_17_a_token_is_for_the_server_that_was_named() {
    let app = guarded();
    for path in ["/mcp", "/sse"] {
        let document = app.get(&format!("/.well-known/oauth-protected-resource{path}")).json();
        assert_eq!(document["resource"], url(&app, path));
        assert_eq!(document["authorization_servers"], json!([url(&app, "")]));
    }
    let client = register(&app);
    for strange in ["https://elsewhere.example/mcp", "http://127.0.0.1:1/mcp", "not a url", "http://127.0.0.1/mcp#x"] {
        let asked = authorize(&app, &client, &format!("{CHALLENGE}&resource={}", encode(strange)));
        assert!(refusal(&asked).contains("invalid_target"), "{strange}: {}", refusal(&asked));
    }
    // One for `/sse` is for that alone, whoever asks with it.
    let bearer = |token: &str| format!("Bearer {token}");
    let (sse, mcp) = (bearer(&token(&app, &url(&app, "/sse"))), bearer(&token(&app, &url(&app, "/mcp"))));
    let hello = hello("2025-06-18").to_string();
    let post = |token: &str| app.wire().post("/mcp", &[("Authorization", token)], &hello).status;
    let get = |token: &str| app.events("/sse", &[("Authorization", token)]).status;
    assert_eq!((get(&sse), post(&mcp)), (200, 200));
    assert_eq!((get(&mcp), post(&sse)), (401, 401));
    let wrong = app.wire().request("GET", "/sse", &[("Authorization", &mcp)], None);
    assert!(wrong.header("www-authenticate").unwrap().contains("error=\"invalid_token\""), "{wrong:?}");
    // Nor is one any good elsewhere, though it looks the same.
    let other = guarded();
    assert_eq!(other.events("/sse", &[("Authorization", &sse)]).status, 401);
    // Asked for one thing, redeemed for another.
    let code = log_in(&app, &client, &url(&app, "/mcp"));
    assert_eq!(redeem(&app, &client, &code, Some(VERIFIER), &url(&app, "/sse")).json()["error"], "invalid_target");
}

#[test]
fn s4_18_a_signed_token_and_a_session_go_together() {
    let app = guarded();
    let (token, other) = (token(&app, &url(&app, "/mcp")), token(&app, &url(&app, "/mcp")));
    // It is one that others can read, too: for whom, from whom, until when.
    let parts: Vec<&str> = token.split('.').collect();
    let read = |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON") };
    let (header, claims) = (read(parts[0]), read(parts[1]));
    assert_eq!((parts.len(), header["typ"].as_str()), (3, Some("at+jwt")), "{header}");
    assert_eq!((&claims["aud"], &claims["iss"]), (&json!(url(&app, "/mcp")), &json!(url(&app, ""))), "{claims}");
    assert!(claims["exp"].as_u64() > claims["iat"].as_u64(), "{claims}");

    let bearer = format!("Bearer {token}");
    let opened = app.wire().post("/mcp", &[("Authorization", &bearer)], &hello("2025-06-18").to_string());
    assert_eq!(opened.status, 200, "{}", opened.text());
    let id = opened.header("mcp-session-id").expect("a session").to_owned();
    let call = |id: u64| json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "example-tool", "arguments": {"message": "x"}}});
    let post = |headers: &[(&str, &str)]| app.wire().post("/mcp", headers, &call(2).to_string());
    let (authorization, session) = (("Authorization", bearer.as_str()), ("Mcp-Session-Id", id.as_str()));
    assert_eq!(post(&[authorization, session]).messages()[0]["result"]["content"][0]["text"], "Echo: x");
    assert_eq!(app.events("/mcp", &[authorization, session]).status, 200);
    // Neither stands for the other.
    assert_eq!(post(&[session]).status, 401);
    assert_eq!(post(&[authorization]).status, 400);
    assert_eq!(post(&[authorization, ("Mcp-Session-Id", "11b56c40dc7a4ce991278998bcace54f")]).status, 404);
    // Another token of the same user goes on with it; one that was changed, or says who signs it no more, does not.
    assert_eq!(post(&[("Authorization", &format!("Bearer {other}")), session]).status, 200);
    let mut claims = claims;
    claims["sub"] = json!("eve");
    let forged = format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]);
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"at+jwt"}"#), parts[1]);
    for wrong in [forged, unsigned, token[..token.len() - 4].to_owned()] {
        assert_eq!(post(&[("Authorization", &format!("Bearer {wrong}")), session]).status, 401, "{wrong}");
    }
    // Over the old transport as well, where the id is in the URL.
    let sse = format!("Bearer {}", self::token(&app, &url(&app, "/sse")));
    assert_eq!(app.sse("/sse", &[("Authorization", &sse)]).text("greet", json!({"name": "Ada"})), "Hello, Ada! Welcome to the SSE server.");
    assert!(!app.said().contains(&token), "a token is in the log");
}

#[test]
fn s4_18_any_token_that_looks_like_one_goes_with_a_session() {
    let token = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
    let app = guide(&[("GUIDE_TOKENS", &format!("{token}:ada,another-token-of-bob:bob"))]);
    let bearer = format!("Bearer {token}");
    let opened = app.wire().post("/mcp", &[("Authorization", &bearer)], &hello("2025-06-18").to_string());
    let id = opened.header("mcp-session-id").expect("a session").to_owned();
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).to_string();
    let post = |headers: &[(&str, &str)]| app.wire().post("/mcp", headers, &list);
    assert_eq!(post(&[("Authorization", &bearer), ("Mcp-Session-Id", &id)]).messages()[0]["id"], 2);
    assert_eq!(post(&[("Authorization", "Bearer another-token-of-bob"), ("Mcp-Session-Id", &id)]).status, 404, "it is not his");
}

#[test]
fn s4_41_over_a_network_there_are_tokens_origins_and_tls() {
    let app = guide(&[("GUIDE_TOKENS", "a-token-of-some-length"), ("CORS_ORIGIN", "https://app.example.com")]);
    let bearer = ("Authorization", "Bearer a-token-of-some-length");
    let page = ("Origin", "https://app.example.com");
    let stream = app.events("/sse", &[bearer, page]);
    assert_eq!((stream.status, stream.header("access-control-allow-origin")), (200, Some("https://app.example.com")));
    // A page may learn that it has to log in.
    let refused = app.wire().request("GET", "/sse", &[page], None);
    assert_eq!(refused.status, 401);
    assert!(refused.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
    let preflight = app.wire().request("OPTIONS", "/mcp", &[page, ("Access-Control-Request-Method", "POST")], None);
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
    // With tokens it may be reached from elsewhere; TLS is S4-59.
    let other = App::start("guide", &["--host", "0.0.0.0"], &[("GUIDE_TOKENS", "a-token-of-some-length")]);
    assert_eq!(other.wire().request("GET", "/health", &[("host", "127.0.0.1")], None).status, 403, "a name that is not ours");
}

#[test]
fn s4_51_who_has_no_token_stays_outside() {
    let app = guide(&[("GUIDE_TOKENS", "a-token-of-some-length:ada")]);
    let hello = hello("2025-06-18").to_string();
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}});
    let stateless = [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list")];
    // What is shown, and with which status it is refused: other schemes are no credentials, two of a kind are nobody's.
    let wrong: [(&[(&str, &str)], u16); 9] = [
        (&[], 401),
        (&[("Authorization", "Bearer a-token-of-some-lengt")], 401),
        (&[("Authorization", "bearer A-TOKEN-OF-SOME-LENGTH")], 401),
        (&[("Authorization", "Basic YWRhOmEtdG9rZW4tb2Ytc29tZS1sZW5ndGg=")], 401),
        (&[("Authorization", "Negotiate abc")], 401),
        (&[("Authorization", "")], 401),
        (&[("X-API-Key", "guide")], 401),
        (&[("Authorization", "Bearer")], 400),
        (&[("Authorization", "Bearer a-token-of-some-length"), ("Authorization", "Bearer a-token-of-some-length")], 400),
    ];
    for (headers, status) in wrong {
        for response in [
            app.wire().post("/mcp", headers, &hello),
            app.wire().post("/mcp", &[headers, &stateless].concat(), &list.to_string()),
            app.wire().request("GET", "/mcp", headers, None),
            app.wire().request("DELETE", "/mcp", headers, None),
            app.wire().request("GET", "/sse", headers, None),
            app.wire().post("/messages?sessionId=11b56c40dc7a4ce991278998bcace54f", headers, &hello),
            app.wire().post("/servers/guide/mcp", headers, &hello),
            app.wire().request("GET", "/metrics", headers, None),
            app.wire().request("GET", "/sessions", headers, None),
        ] {
            assert_eq!(response.status, status, "{headers:?}");
            assert!(response.header("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    assert_eq!(app.wire().post("/mcp?access_token=a-token-of-some-length", &[], &hello).status, 400, "URLs are written down");
    assert_eq!(app.get("/health").json()["sessions"], Value::from(0), "and nothing was opened");
    for right in [("Authorization", "Bearer a-token-of-some-length"), ("X-API-Key", "a-token-of-some-length")] {
        for mut client in [app.sse("/sse", &[right]), app.http("/mcp", &[right])] {
            assert_eq!(client.text("example-tool", json!({"message": "hi"})), "Echo: hi");
        }
    }
    assert!(!app.said().contains("a-token-of-some"), "a token is in the log");
    let (well, said) = run(&app.dir, "guide", &["--port", "0"], &[("GUIDE_AUTH", "tokens")]);
    assert!(!well && said.contains("GUIDE_TOKENS"), "{said}");
}

#[test]
fn s4_51_with_logins_a_client_is_told_where_to_log_in() {
    let app = guarded();
    for (path, refused) in [("/mcp", app.post("/mcp", &hello("2025-06-18"))), ("/sse", app.get("/sse"))] {
        let challenge = refused.header("www-authenticate").unwrap().to_owned();
        let document = format!("resource_metadata=\"{}\"", url(&app, &format!("/.well-known/oauth-protected-resource{path}")));
        assert!(refused.status == 401 && challenge.contains(&document) && !challenge.contains("error="), "{challenge}");
        let basic = app.wire().request("GET", path, &[("Authorization", "Basic YTpi")], None);
        assert_eq!((basic.status, basic.header("www-authenticate")), (401, Some(challenge.as_str())), "{path}");
    }
}
