use super::*;

const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u{202e}\u{0}";

fn identity() -> Identity {
    Identity { issuer: "https://us".into(), subject: "ada".into(), login: Some("ada".into()), ..Identity::default() }
}

fn consent_of<'a>(account: &'a Identity, name: &'a str, redirect_uri: &'a str) -> Consent<'a> {
    Consent {
        asking: Asking { name, known: Known::ByItself },
        redirect_uri,
        resource: "https://h/mcp",
        servers: &[],
        scopes: &[Scope { name: "tools:read", description: Some("Look at things") }, Scope { name: "tools:write", description: None }],
        account,
        provider: None,
        action: "/authorize",
        sign_out: "/logout",
        request: "request-1",
        token: "token-1",
    }
}

/// What a browser would run, load or follow, and its attributes; nothing in a page may be of a stranger.
fn assert_harmless(html: &str) {
    let lower = html.to_lowercase();
    for bad in ["<script", "<img", "onerror=\"", "=\"javascript:", "=\"data:", "<iframe", "<link", "\u{202e}", "\0"] {
        assert!(!lower.contains(bad), "{bad} in {html}");
    }
    // Every tag that is there is one of ours: text has none that begins one.
    for tag in lower.split('<').skip(1) {
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || "/!".contains(*c)).collect();
        let known = [
            "!doctype", "html", "head", "meta", "title", "style", "body", "main", "p", "svg", "path", "h1", "strong", "bdi", "span",
            "form", "input", "label", "button", "ul", "li", "a", "dl", "dt", "dd", "small", "fieldset", "legend", "code", "div", "pre",
        ];
        assert!(known.contains(&name.trim_start_matches('/')), "<{name} in {html}");
    }
}

#[test]
fn what_strangers_write_stays_text() {
    let account = Identity { login: Some(EVIL.into()), name: Some(EVIL.into()), ..identity() };
    let servers = [EVIL.to_owned()];
    let scopes = [Scope { name: EVIL, description: Some(EVIL) }, Scope { name: EVIL, description: None }];
    for known in [Known::ByItself, Known::ByOperator, Known::Document(EVIL)] {
        for redirect_uri in [EVIL, "javascript:alert(1)", "data:text/html,x", "https://h/<b>", "http://127.0.0.1:1/\"x"] {
            let page = consent(&Consent {
                asking: Asking { name: EVIL, known },
                redirect_uri,
                resource: EVIL,
                servers: &servers,
                scopes: &scopes,
                account: &account,
                provider: Some(EVIL),
                action: "javascript:alert(1)",
                sign_out: "//evil.example",
                request: EVIL,
                token: EVIL,
            });
            // These three are escaped only: they are ours.
            assert_harmless(&page.html().replace(['\u{202e}', '\0'], ""));
            assert!(page.html().contains("action=\"/\"") && !page.html().contains("evil.example"));
        }
    }
    let page = sign_in(&SignIn {
        asking: Some(Asking { name: EVIL, known: Known::Document(EVIL) }),
        local: Some(LocalForm { action: "/login", request: "r", token: "t", user: EVIL, trouble: Some(EVIL) }),
        providers: &[(EVIL, "/login/x"), ("evil", "javascript:alert(1)"), ("evil", "//evil.example/"), ("evil", "/\\evil.example")],
        targets: &[],
    });
    assert_harmless(page.html());
    assert_eq!(page.html().matches("<a ").count(), 1, "links to elsewhere are left out");
    for page in [error(&Trouble::new(Blame::Provider, EVIL), Some(EVIL)), refused(EVIL), done(EVIL), first_account()] {
        assert_harmless(page.html());
    }
}

#[test]
fn long_names_end_and_empty_ones_are_said_to_be() {
    let account = identity();
    let long = "x".repeat(500);
    let page = consent(&consent_of(&account, &long, "https://h/cb"));
    assert!(page.html().contains(&format!("<bdi>{}…</bdi>", "x".repeat(79))) && !page.html().contains(&"x".repeat(81)));
    // Whose a host is stands at its end.
    let host = format!("accounts.google.com.{}.evil.example", "x".repeat(63));
    let page = consent(&Consent {
        asking: Asking { name: "x", known: Known::Document(&host) },
        ..consent_of(&account, "", &format!("https://{host}/cb"))
    });
    assert_eq!(page.html().matches(&format!("<bdi>{host}</bdi>")).count(), 2);
    let page = consent(&consent_of(&account, "\u{202e} \u{200b}", "https://h/cb"));
    assert!(page.html().contains("An application without a name"));
}

#[test]
fn the_page_says_how_sure_it_is_and_where_it_leads() {
    let account = identity();
    for (redirect_uri, said, warns) in [
        ("https://claude.ai/api/mcp/auth_callback", "<bdi>claude.ai</bdi>", false),
        ("http://127.0.0.1:33418/cb", "at <bdi>127.0.0.1:33418</bdi>", true),
        ("http://localhost:1/cb", "An application on this computer", true),
        ("cursor://x/y", "whichever opens <bdi>cursor:</bdi> links", true),
    ] {
        let page = consent(&consent_of(&account, "Claude", redirect_uri));
        assert!(page.html().contains(said), "{redirect_uri}: {}", page.html());
        assert_eq!(page.html().contains("class=\"warning\""), warns, "{redirect_uri}");
    }
    for (known, said) in [
        (Known::ByItself, "nobody has checked it"),
        (Known::ByOperator, "Registered by whoever runs this server"),
        (Known::Document("client.example"), "This address is certain"),
    ] {
        let page = consent(&Consent { asking: Asking { name: "Claude", known }, ..consent_of(&account, "", "https://h/cb") });
        assert!(page.html().contains(said), "{known:?}");
    }
}

#[test]
fn a_user_may_leave_scopes_out() {
    let account = identity();
    let page = consent(&consent_of(&account, "Claude", "https://h/cb"));
    assert!(page.html().contains("name=\"scope:tools:read\" value=\"yes\" checked"));
    assert_eq!(page.html().matches("name=\"csrf\" value=\"token-1\"").count(), 2);
    // Enter in a checkbox presses the first button of a form.
    assert!(page.html().find("value=\"deny\"").unwrap() < page.html().find("value=\"allow\"").unwrap());
    let asked = ["tools:read".to_owned(), "tools:write".to_owned()];
    let form = Form::read("decision=allow&scope%3Atools%3Awrite=yes&scope%3Aadmin=yes").unwrap();
    assert_eq!(scopes_left(&form, &asked), ["tools:write"]);
    assert!(scopes_left(&Form::read("decision=allow").unwrap(), &asked).is_empty());
}

#[test]
fn the_policy_allows_what_the_page_needs_and_no_more() {
    let policy = |targets: &[&str]| headers(targets)[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    let form = |targets: &[&str]| policy(targets).split("; ").find_map(|d| d.strip_prefix("form-action ").map(str::to_owned)).unwrap();
    for (target, sources) in [
        ("https://claude.ai/cb", "'self' https:"),
        ("http://127.0.0.1:33418/cb", "'self' https: http://localhost:* http://127.0.0.1:*"),
        ("http://[::1]:1/cb", "'self' https: http:"),
        ("cursor://x/y", "'self' https: cursor:"),
        ("com.example.app:/cb", "'self' https: com.example.app:"),
        // What may be no redirect allows nothing.
        ("javascript:alert(1)", "'self' https:"),
        ("x:;script-src *", "'self' https:"),
        ("http://h/cb", "'self' https:"),
        ("a.b:/x\r\nx", "'self' https:"),
    ] {
        assert_eq!(form(&[target]), sources, "{target}");
    }
    assert_eq!(form(&[]), "'self'");
    let all = headers(&[]);
    assert!(policy(&[]).starts_with("default-src 'none'; style-src 'sha256-"));
    assert!(policy(&[]).ends_with("; frame-ancestors 'none'; base-uri 'none'"));
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(all[name], value);
    }
    let response = first_account().response(StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
}

#[test]
fn the_stylesheet_is_in_the_page_to_the_letter() {
    let page = first_account();
    let inside = page.html().split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    assert_eq!(inside, STYLE);
}

#[test]
fn messages_become_sentences() {
    for (text, said) in
        [("the name is wrong", "The name is wrong."), ("Done!", "Done!"), ("", ""), ("über", "Über."), ("`x` is wrong", "X is wrong.")]
    {
        assert_eq!(sentence(text), said);
    }
}
