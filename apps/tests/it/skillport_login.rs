//! The marketplace behind a login.

use landbridge_fixtures::idp::Kind;
use serde_json::{Value, json};

use crate::app::App;
use crate::skillport::skill_md;
use crate::skillport_house::{Browser, Client, House, asking, hello};

#[test]
fn s1_3_both_transports_have_the_same_tools_and_the_same_user() {
    let house = House::start(&[]);
    let token = house.token("ada", "");
    let who = house.whoami("/mcp", &token);
    assert_eq!(who, house.whoami("/sse", &token));
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(house.app.sse("/sse", &headers).tools(), house.app.http("/mcp", &headers).tools());
}

#[test]
fn s1_6_one_provider_guards_both_transports_and_nothing_else() {
    let house = House::start(&[]);
    assert_eq!((house.app.get("/sse").status, house.app.post("/mcp", &hello()).status), (401, 401));
    assert_eq!(house.app.post("/sse/message?sessionId=x", &hello()).status, 401);
    for path in ["/", "/install.sh", "/diagnostics", "/.well-known/oauth-authorization-server"] {
        assert_eq!(house.app.get(path).status, 200, "{path}");
    }
    assert_eq!(house.app.get("/nowhere").status, 404);
}

#[test]
fn s1_5_both_transports_are_guarded_and_where_messages_go() {
    let house = House::start(&[]);
    let (one, wrong) = (house.token("ada", ""), format!("Bearer {}", "x".repeat(43)));
    let good = format!("Bearer {one}");
    let mut stream = house.app.events("/sse", &[("authorization", &good)]);
    let endpoint = stream.event().unwrap().data;
    assert!(endpoint.starts_with("/sse/message?sessionId="));
    for path in ["/mcp", "/sse", endpoint.as_str(), "/servers/skillport/mcp", "/messages", "/message"] {
        for method in ["GET", "POST", "DELETE", "PUT"] {
            let body = (method != "GET").then(|| hello().to_string());
            for headers in [&[][..], &[("authorization", wrong.as_str())], &[("authorization", "Basic eDp5")]] {
                let refused = house.app.wire().request(method, path, headers, body.as_deref());
                assert_eq!(refused.status, 401, "{method} {path} {headers:?}");
                assert!(refused.header("www-authenticate").unwrap().contains("resource_metadata="), "{method} {path}");
            }
        }
    }
    // Whose stream it is, is nobody else's.
    let other = format!("Bearer {}", house.token("bob", ""));
    assert_eq!(house.app.wire().post(&endpoint, &[("authorization", &other)], &hello().to_string()).status, 404);
    assert_eq!(house.app.wire().post(&endpoint, &[("authorization", &good)], &hello().to_string()).status, 202);
    assert_eq!(stream.message().unwrap()["result"]["serverInfo"]["name"], "skillport");
}

#[test]
fn s1_7_a_token_counts_for_urls_that_have_a_path() {
    let house = House::start(&[]);
    let token = house.token("ada", &house.url("/mcp"));
    assert_eq!(house.status("/mcp", &token), 200);
}

#[test]
fn s1_8_a_resource_is_named_by_scheme_host_and_path() {
    let house = House::start(&[]);
    for path in ["/mcp", "/sse"] {
        let document = house.app.get(&format!("/.well-known/oauth-protected-resource{path}")).json();
        assert_eq!(document["resource"], house.url(path));
    }
    let token = house.token("ada", &house.url("/sse"));
    assert_eq!((house.status("/sse", &token), house.status("/mcp", &token)), (200, 401));
}

#[test]
fn s1_9_a_token_for_the_base_opens_both_paths() {
    let house = House::start(&[]);
    let token = house.token("ada", &house.url(""));
    assert_eq!((house.status("/mcp", &token), house.status("/sse", &token)), (200, 200));
}

#[test]
fn s1_10_a_token_for_the_base_is_accepted_at_mcp() {
    let house = House::start(&[]);
    // As it is written with a slash at its end, too.
    for base in ["", "/"] {
        let token = house.token("ada", &house.url(base));
        assert_eq!(house.status("/mcp", &token), 200, "{base:?}");
    }
}

#[test]
fn s1_12_nothing_has_to_be_patched_for_tokens_to_count() {
    // As it comes: no setting says anything of audiences, and a second start changes nothing.
    for _ in 0..2 {
        let house = House::start(&[]);
        let token = house.token("ada", &house.url(""));
        assert_eq!((house.status("/mcp", &token), house.status("/sse", &token)), (200, 200));
    }
}

#[test]
fn s1_15_no_client_has_to_name_its_transport() {
    let house = House::start(&[]);
    let bearer = format!("Bearer {}", house.token("ada", ""));
    let headers = [("authorization", bearer.as_str())];
    // The URL is all that tells them apart; a new client that is given the old one is told at once.
    assert_eq!(house.app.sse("/sse", &headers).tools().len(), 1);
    assert_eq!(house.app.http("/mcp", &headers).tools().len(), 1);
    assert_eq!(house.app.wire().post("/sse", &headers, &hello().to_string()).status, 405);
}

#[test]
fn s1_16_clients_are_known_beforehand_or_register() {
    let house = House::start(&[]);
    assert_eq!(house.status("/mcp", &house.token("ada", "")), 200, "by the id and the secret of the operator");
    let wrong = "grant_type=authorization_code&code=x&client_id=claude&client_secret=wrong&redirect_uri=x&code_verifier=x";
    assert_eq!(house.browser().form("/token", wrong).status, 401);
    for method in ["none", "client_secret_post"] {
        let redirect = "https://new.example/cb";
        let new = json!({"client_name": "new", "redirect_uris": [redirect], "token_endpoint_auth_method": method});
        let registered = house.app.wire().post("/register", &[], &new.to_string());
        assert_eq!(registered.status, 201, "{}", registered.text());
        let told = registered.json();
        let client = Client { id: told["client_id"].as_str().unwrap(), secret: told["client_secret"].as_str(), redirect };
        assert_eq!(client.secret.is_some(), method != "none");
        let token = house.token_as(&client, "ada", &house.url(""));
        assert_eq!((house.status("/mcp", &token), house.status("/sse", &token)), (200, 200), "{method}");
    }
    // Beside it, the one that was known before still is.
    assert_eq!(house.status("/sse", &house.token("bob", "")), 200);
}

#[test]
fn s1_18_who_polls_gets_a_challenge_and_no_session() {
    let house = House::start(&[]);
    for _ in 0..20 {
        let polled = house.app.get_with("/sse", &[("accept", "text/event-stream")]);
        assert!(polled.status == 401 && polled.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
    }
    assert_eq!(house.app.get("/diagnostics").json()["sessions"], 0);
}

#[test]
fn s1_19_the_first_request_after_the_login_works() {
    let house = House::start(&[]);
    for (user, path) in [("ada", "/mcp"), ("bob", "/sse")] {
        let token = house.token(user, &house.url(path));
        assert_eq!(house.status(path, &token), 200, "{path}");
    }
}

#[test]
fn s1_20_every_client_is_served_at_its_path() {
    let house = House::start(&[]);
    for (user, path) in [("ada", "/mcp"), ("bob", "/sse"), ("ada", "/sse")] {
        let who = house.whoami(path, &house.token(user, &house.url(path)));
        assert_eq!(who["email"], format!("{user}@example.com"), "{path}");
    }
}

/// What the page says of a door: came, refused.
fn door(page: &Value, name: &str) -> (u64, u64) {
    let door = page["doors"].as_array().unwrap().iter().find(|door| door["door"] == name).unwrap_or_else(|| panic!("{page}"));
    (door["came"].as_u64().unwrap(), door["refused"].as_u64().unwrap())
}

#[test]
fn s1_25_where_a_login_stops_can_be_seen() {
    let house = House::start(&[("SKILLPORT_REPORT_S", "1")]);
    let page = || house.app.get("/diagnostics").json();
    let finds = |said: &str| {
        let page = page();
        assert!(page["findings"].to_string().contains(said), "{said}: {page}");
        page
    };
    finds("no client has come here yet");
    // A client that opens a login of its own instead of ours has only knocked.
    assert_eq!((house.app.get("/sse").status, house.app.get("/.well-known/oauth-protected-resource/sse").status), (401, 200));
    let seen = finds("no login has begun");
    assert_eq!((door(&seen, "sse"), door(&seen, "discovery"), door(&seen, "authorize")), ((1, 1), (1, 0), (0, 0)));
    crate::skillport::said(&house.app, "findings=\"no login has begun");
    assert!(house.idp.seen().is_empty(), "nobody has come as far as the issuer");
    // One that begins it, whose user never comes back.
    let mut browser = house.browser();
    let back = house.begin(&mut browser, "ada", "");
    assert_eq!(door(&finds("nobody has come back"), "authorize"), (1, 0));
    // One whose user is sent away says so by itself.
    assert_eq!(browser.get("/callback?code=x&state=y").status, 400);
    assert_eq!(door(&finds("nobody has come back"), "callback"), (1, 1));
    assert_eq!(browser.follow(&back).status, 200);
    finds("no client has fetched its token");
    // One that has its token, and does not use it.
    let token = house.token("ada", "");
    finds("no request with one has come");
    assert_eq!(house.status("/mcp", &token), 200);
    assert!(!page()["findings"].to_string().contains("login"), "{}", page());
    // The page says how much, and never who.
    let text = house.app.get("/diagnostics").text();
    assert!(!text.contains("ada") && !text.contains(&token) && !text.contains("example.com"), "{text}");
}

#[test]
fn s1_27_a_token_counts_on_both_paths() {
    let house = House::start(&[]);
    let token = house.token("ada", "");
    for path in ["/mcp", "/sse", "/mcp", "/sse"] {
        assert_eq!(house.status(path, &token), 200, "{path}");
    }
}

#[test]
fn s1_32_the_documents_of_discovery_are_there_for_everybody() {
    let house = House::start(&[]);
    for (path, resource) in [("", ""), ("/mcp", "/mcp"), ("/sse", "/sse")] {
        let response = house.app.get(&format!("/.well-known/oauth-protected-resource{path}"));
        assert_eq!(response.status, 200);
        let document = response.json();
        assert_eq!(document["resource"].as_str().unwrap().trim_end_matches('/'), house.url(resource));
        assert_eq!(document["authorization_servers"], json!([house.url("")]));
        assert_eq!((&document["scopes_supported"], &document["bearer_methods_supported"]), (&json!(["mcp:read"]), &json!(["header"])));
    }
    let issuer = house.app.get("/.well-known/oauth-authorization-server").json();
    assert_eq!((&issuer["issuer"], &issuer["token_endpoint"]), (&json!(house.url("")), &json!(house.url("/token"))));
}

#[test]
fn s1_34_pages_may_read_the_challenge() {
    let house = House::start(&[("ALLOWED_ORIGINS", "https://claude.ai")]);
    let refused = house.app.wire().post("/mcp", &[("origin", "https://claude.ai")], &hello().to_string());
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("https://claude.ai")));
    assert!(refused.header("access-control-expose-headers").unwrap().contains("WWW-Authenticate"));
}

#[test]
fn s1_35_who_shows_nothing_gets_a_bare_challenge() {
    let house = House::start(&[]);
    let challenge = |headers: &[(&str, &str)]| {
        let refused = house.app.wire().post("/mcp", headers, &hello().to_string());
        assert_eq!(refused.status, 401);
        refused.header("www-authenticate").unwrap().to_owned()
    };
    let bare = challenge(&[]);
    let document = house.url("/.well-known/oauth-protected-resource/mcp");
    assert!(
        bare.starts_with("Bearer ") && bare.contains(&format!("resource_metadata=\"{document}\"")) && !bare.contains("error"),
        "{bare}"
    );
    assert!(challenge(&[("authorization", "Bearer wrong")]).contains("error=\"invalid_token\""));
}

#[test]
fn s1_38_tools_know_the_user_on_both_transports() {
    let house = House::start(&[]);
    let known = json!({"id": "google:1", "email": "ada@example.com", "name": "ADA", "provider": "google"});
    let (ada, bob) = (house.token("ada", ""), house.token("bob", ""));
    for path in ["/mcp", "/sse"] {
        assert_eq!(house.whoami(path, &ada), known, "{path}");
        assert_eq!(house.whoami(path, &bob)["id"], "google:2", "{path}");
    }
}

#[test]
fn users_of_another_issuer_log_in_too() {
    let house = House::at(Kind::Oidc, &[]);
    let token = house.token("ada", "");
    let known = json!({"id": "oidc:1", "email": "ada@example.com", "name": "ADA", "provider": "oidc"});
    assert_eq!((house.whoami("/mcp", &token), house.whoami("/sse", &token)), (known.clone(), known));
    assert_eq!(house.received("eve"), 403);
}

#[test]
fn rules_of_access_are_kept() {
    let house = House::start(&[]);
    let api = |user: &str| {
        let bearer = format!("Bearer {}", house.token(user, ""));
        let mut client = house.app.http("/mcp", &[("authorization", &bearer)]);
        format!("Bearer {}", client.json("skillport_auth", json!({}))["token"].as_str().unwrap())
    };
    let (ada, bob) = (api("ada"), api("bob"));
    let ask = |who: &str, method: &str, path: &str, body: Option<&Value>| {
        house.app.wire().request(method, path, &[("authorization", who)], body.map(Value::to_string).as_deref())
    };
    let letters = "/api/skills/plain-letters";
    let change = json!({"files": [{"path": "SKILL.md", "content": skill_md("plain-letters")}]});
    // Without rules everybody reads and nobody writes.
    assert_eq!((ask(&ada, "GET", letters, None).status, ask(&ada, "POST", letters, Some(&change)).status), (200, 403));
    let rules = json!({"version": 1, "editors": [{"id": "google:1", "label": "Ada"}], "skills": {"skillport": {"read": "editors"}}});
    let file = house.app.dir.join("data/skillport/marketplace/.skillport/access.json");
    std::fs::write(&file, rules.to_string()).unwrap();
    assert_eq!((ask(&ada, "POST", letters, Some(&change)).status, ask(&bob, "POST", letters, Some(&change)).status), (200, 403));
    assert_eq!(ask(&bob, "GET", "/api/skills/skillport", None).status, 403);
    assert_eq!(ask(&bob, "GET", "/api/skills", None).json()["count"], 1);
    assert!(!ask(&bob, "GET", "/api/debug/plugins", None).text().contains("skillport/skills"));
    assert_eq!(ask(&bob, "GET", "/api/skills/plain-letters/edit", None).status, 403);
    // A token for a download is worth what its user may by now.
    let given = ask(&ada, "GET", "/api/skills/plain-letters/edit", None).json();
    std::fs::write(&file, "{").unwrap();
    assert_eq!(house.app.get(&format!("/api/edit/{}", given["edit_token"].as_str().unwrap())).status, 500, "broken rules let nobody in");
    std::fs::write(&file, rules.to_string().replace("google:1", "google:2")).unwrap();
    assert_eq!(house.app.get(&format!("/api/edit/{}", given["edit_token"].as_str().unwrap())).status, 403);
    assert_eq!(ask(&ada, "POST", "/api/skills/new", Some(&change)).status, 403);
}

#[test]
fn s1_29_every_way_that_works_works_with_a_login() {
    let house = House::start(&[]);
    for (client, path, resource) in [
        ("code", "/mcp", "/mcp"),
        ("web", "/sse", "/sse"),
        ("desktop", "/sse", ""),
        ("inspector", "/sse", "/sse"),
        ("audience", "/mcp", ""),
    ] {
        let bearer = format!("Bearer {}", house.token("ada", &house.url(resource)));
        let headers = [("authorization", bearer.as_str()), ("user-agent", client)];
        let mut client = if path == "/sse" { house.app.sse(path, &headers) } else { house.app.http(path, &headers) };
        assert!(client.json("skillport_auth", json!({}))["token"].is_string());
    }
}

#[test]
fn s1_30_a_strict_client_of_streamable_http_works() {
    let house = House::start(&[]);
    let bearer = format!("Bearer {}", house.token("ada", &house.url("/mcp")));
    let opened = house.app.wire().post("/mcp", &[("authorization", &bearer)], &hello().to_string());
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    let headers = [("authorization", bearer.as_str()), ("mcp-session-id", &session), ("mcp-protocol-version", "2025-06-18")];
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let taken = house.app.wire().post("/mcp", &headers, &initialized.to_string());
    assert_eq!((taken.status, taken.body.len()), (202, 0));
    let stream = house.app.events("/mcp", &headers);
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    let listed = house.app.wire().post("/mcp", &headers, &json!({"jsonrpc": "2.0", "id": "a", "method": "tools/list"}).to_string());
    assert_eq!(listed.messages()[0]["result"]["tools"][0]["name"], "skillport_auth");
    assert!(house.app.wire().request("DELETE", "/mcp", &headers, None).status < 300);
    assert_eq!(house.app.wire().post("/mcp", &headers, &json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}).to_string()).status, 404);
}

#[test]
fn s1_23_behind_a_terminator_of_tls_urls_are_those_of_the_outside() {
    let house = House::start(&[("CONNECTOR_URL", "https://mcp.example.com")]);
    let forwarded = [("host", "mcp.example.com"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "mcp.example.com")];
    let document = house.app.get_with("/.well-known/oauth-protected-resource/sse", &forwarded).json();
    assert_eq!(
        (&document["resource"], &document["authorization_servers"]),
        (&json!("https://mcp.example.com/sse"), &json!(["https://mcp.example.com"]))
    );
    let refused = house.app.get_with("/sse", &forwarded);
    assert!(refused.header("www-authenticate").unwrap().contains("https://mcp.example.com/.well-known/"), "{:?}", refused.headers);
    assert!(house.app.get_with("/install.sh", &forwarded).text().contains("BASE='https://mcp.example.com'"));
    // The whole way, by that name: every URL that anybody is sent to is of the outside.
    let token = house.token("ada", &house.url("/mcp"));
    let bearer = format!("Bearer {token}");
    let mut client = house.app.http("/mcp", &[&forwarded[..], &[("authorization", &bearer)]].concat());
    assert_eq!(client.json("skillport_auth", json!({}))["base_url"], "https://mcp.example.com");
    // Whoever is no proxy that we know has no say in it.
    let lied = [("host", "mcp.example.com"), ("x-forwarded-host", "evil.example")];
    assert!(!house.app.get_with("/.well-known/oauth-protected-resource/mcp", &lied).text().contains("evil"));
}

#[test]
fn s1_23_a_proxy_that_is_trusted_says_by_which_url_and_for_whom() {
    let forwarded = [("x-forwarded-proto", "https"), ("x-forwarded-for", "203.0.113.7")];
    for (trusted, scheme, from) in [("127.0.0.1", "https", "203.0.113.7"), ("10.0.0.0/8", "http", "127.0.0.1"), ("", "http", "127.0.0.1")] {
        let house = House::start(&[("TRUSTED_PROXIES", trusted)]);
        let host = format!("127.0.0.1:{}", house.app.port);
        let document = house.app.get_with("/.well-known/oauth-protected-resource/sse", &forwarded).json();
        assert_eq!(document["resource"], format!("{scheme}://{host}/sse"), "{trusted:?}");
        let refused = house.app.get_with("/sse", &forwarded);
        assert_eq!(refused.status, 401);
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(challenge.contains(&format!("{scheme}://{host}/.well-known/")), "{trusted:?}: {challenge}");
        // Who it was, in the log.
        let said = crate::skillport::said(&house.app, "event=\"refusal\"");
        assert!(said.contains(&format!("from={from}")), "{trusted:?}: {said}");
        // A cookie of a login is for TLS only where the outside is.
        let begun = house.app.get_with(&asking(""), &forwarded);
        assert_eq!(begun.header("set-cookie").unwrap().contains("; Secure"), scheme == "https");
    }
    // Together with a URL of our own, a trusted proxy may name no other host than that.
    let house = House::start(&[("TRUSTED_PROXIES", "127.0.0.1"), ("CONNECTOR_URL", "https://mcp.example.com")]);
    for (host, status) in [("mcp.example.com", 200), ("evil.example", 403)] {
        let headers = [("host", "mcp.example.com"), ("x-forwarded-proto", "https"), ("x-forwarded-host", host)];
        assert_eq!(house.app.get_with("/.well-known/oauth-protected-resource/mcp", &headers).status, status, "{host}");
    }
}

#[test]
fn accounts_of_our_own_log_in() {
    use landbridge::store::{Kind as Record, Record as Kept};
    let app = App::start("skillport", &[], &[("SKILLPORT_LOGIN", "local"), ("OAUTH_CLIENT_ID", "claude")]);
    assert_eq!((app.get("/sse").status, app.post("/mcp", &hello()).status), (401, 401));
    let host = format!("127.0.0.1:{}", app.port);
    assert_eq!(Browser::new(app.port, &host).get(&asking("")).status, 503, "there is no account yet, and the page says how to make one");
    let account = landbridge::login::local::Account::new("ada", "correct horse battery", [7; 16], landbridge::system::now_s()).unwrap();
    let store = format!("sqlite:{}", app.dir.join("data/skillport/auth.db").display());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let store = landbridge::store::open(&store).await.unwrap();
        store.put(Record::User, "ada", Kept { value: account.to_json(), expires_s: None }).await.unwrap();
    });
    let page = Browser::new(app.port, &host).get(&asking(""));
    assert!(page.status == 200 && page.text().contains("action=\"/login\""), "{}", page.text());
}
