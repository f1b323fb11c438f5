//! Rows S4 of the list: who may call the guide.

use std::process::Command;

use serde_json::{Value, json};

use crate::app::{App, fresh_dir, run};
use crate::docs::landbridge;
use crate::guide::{guide, hello};
use crate::wire::Response;

/// Where a client of ours wants its users back.
const BACK: &str = "http://127.0.0.1:9/callback";

fn register(app: &App) -> String {
    let client = json!({"client_name": "test", "redirect_uris": [BACK], "token_endpoint_auth_method": "none"});
    let response = app.post("/register", &client);
    assert_eq!(response.status, 201, "{}", response.text());
    response.json()["client_id"].as_str().expect("an id").to_owned()
}

fn authorize(app: &App, client: &str, more: &str) -> Response {
    app.get(&format!("/authorize?response_type=code&client_id={client}&redirect_uri=http%3A%2F%2F127.0.0.1%3A9%2Fcallback&state=s{more}"))
}

/// What a refusal says, wherever it is.
fn refusal(response: &Response) -> String {
    format!("{} {}", response.header("location").unwrap_or_default(), response.text())
}

const CHALLENGE: &str = "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

/// With accounts, of which there is one.
fn guarded() -> App {
    let dir = fresh_dir("accounts");
    std::fs::create_dir_all(dir.join("data/guide")).unwrap();
    let made =
        Command::new(landbridge()).args(["user", "add", "ada", "--store", "sqlite:data/guide/accounts.db"]).current_dir(&dir).output();
    assert!(made.unwrap().status.success());
    App::start_in(&dir, "guide", &[], &[("GUIDE_AUTH", "oauth")])
}

#[test]
fn s4_15_nobody_logs_in_without_pkce() {
    let app = guarded();
    let document = app.get("/.well-known/oauth-authorization-server").json();
    assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
    let client = register(&app);
    assert!(refusal(&authorize(&app, &client, "")).contains("invalid_request"));
    let plain = "&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=plain";
    assert!(refusal(&authorize(&app, &client, plain)).contains("invalid_request"));
    let asked = authorize(&app, &client, CHALLENGE);
    assert!(asked.status < 400 && !refusal(&asked).contains("error="), "{}", refusal(&asked));
}

#[test]
fn s4_16_clients_register_themselves() {
    let app = guarded();
    let document = app.get("/.well-known/oauth-authorization-server").json();
    assert!(document["registration_endpoint"].as_str().unwrap().ends_with("/register"), "{document}");
    assert_ne!(register(&app), register(&app));
    let bad = app.post("/register", &json!({"redirect_uris": ["javascript:alert(1)"]}));
    assert_eq!(bad.status, 400, "{}", bad.text());
}

#[test]
fn s4_17_a_token_is_for_the_server_that_was_named() {
    let app = guarded();
    let document = app.get("/.well-known/oauth-protected-resource/mcp").json();
    assert_eq!(document["resource"], format!("http://127.0.0.1:{}/mcp", app.port));
    let client = register(&app);
    let ours = format!("{CHALLENGE}&resource=http%3A%2F%2F127.0.0.1%3A{}%2Fsse", app.port);
    let asked = authorize(&app, &client, &ours);
    assert!(asked.status < 400 && !refusal(&asked).contains("error="), "{}", refusal(&asked));
    let strange = format!("{CHALLENGE}&resource=https%3A%2F%2Felsewhere.example%2Fmcp");
    assert!(refusal(&authorize(&app, &client, &strange)).contains("invalid_target"));
}

#[test]
fn s4_18_a_token_and_a_session_go_together() {
    // As signed tokens look.
    let token = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
    let app = guide(&[("GUIDE_TOKENS", &format!("{token}:ada"))]);
    let bearer = format!("Bearer {token}");
    let opened = app.wire().post("/mcp", &[("Authorization", &bearer)], &hello("2025-06-18").to_string());
    let id = opened.header("mcp-session-id").expect("a session").to_owned();
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).to_string();
    let post = |headers: &[(&str, &str)]| app.wire().post("/mcp", headers, &list);
    assert_eq!(post(&[("Authorization", &bearer), ("Mcp-Session-Id", &id)]).messages()[0]["id"], 2);
    assert_eq!(post(&[("Mcp-Session-Id", &id)]).status, 401);
    assert_eq!(post(&[("Authorization", &bearer)]).status, 400);
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
    let wrong: [&[(&str, &str)]; 3] = [&[], &[("Authorization", "Bearer a-token-of-some-lengt")], &[("X-API-Key", "guide")]];
    for headers in wrong {
        for response in [
            app.wire().post("/mcp", headers, &hello),
            app.wire().request("GET", "/sse", headers, None),
            app.wire().post("/messages?sessionId=11b56c40dc7a4ce991278998bcace54f", headers, &hello),
        ] {
            assert_eq!(response.status, 401, "{headers:?}");
            assert!(response.header("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    assert_eq!(app.get("/health").json()["sessions"], Value::from(0), "and nothing was opened");
    let right = [("Authorization", "Bearer a-token-of-some-length")];
    for mut client in [app.sse("/sse", &right), app.http("/mcp", &right)] {
        assert_eq!(client.text("example-tool", json!({"message": "hi"})), "Echo: hi");
    }
    assert!(!app.said().contains("a-token-of-some"), "a token is in the log");
    let (well, said) = run(&app.dir, "guide", &["--port", "0"], &[("GUIDE_AUTH", "tokens")]);
    assert!(!well && said.contains("GUIDE_TOKENS"), "{said}");
}
