//! Every page of a login, written to files as it is served, for `interop/pages` to look at in a browser.
//!
//! The files are `target/tmp/pages/NAME.html`, and `NAME.headers` with a line per header.

use std::path::PathBuf;

use http_body_util::BodyExt as _;
use landbridge::login::pages::{Asking, Connect, Connection, Consent, Known, LocalForm, Offered, Page, Scope, SignIn, Stranger, Whose};
use landbridge::login::pages::{connect, connections, consent, done, error, first_account, offered, refused, sign_in, stranger, unknown};
use landbridge::login::{Blame, Trouble};
use landbridge_proto::oauth::admission::Identity;

const LONG: &str = "Averyveryverylongnamewithoutanyspaceinitwhichgoesonandonuntilitreachestheendofitsbox";
const SCOPES: &[Scope<'static>] = &[
    Scope { name: "tools:read", description: Some("Call tools that only look at things") },
    Scope { name: "tools:write", description: Some("Call tools that change things, such as files and calendars") },
    Scope { name: "offline_access", description: Some("Stay signed in until you sign out") },
];

fn gallery() -> Vec<(&'static str, Page)> {
    let ada = Identity { login: Some("ada".into()), ..Identity::default() };
    let octocat = Identity { login: Some("octocat".into()), name: Some("The Octocat".into()), ..Identity::default() };
    let mail = Identity { email: Some(format!("{LONG}@subdomain.of.a.company.example")), name: Some(LONG.into()), ..Identity::default() };
    let claude = Asking { name: "Claude", known: Known::Document("claude.ai") };
    let editor = Asking { name: "Cursor", known: Known::ByItself };
    let form = LocalForm { action: "/login", request: "r", token: "t", user: "", trouble: None };
    let both: &[(&str, &str)] = &[("GitHub", "/login/github"), ("Google", "/login/google")];
    let servers = ["files".to_owned(), "calendar".to_owned(), "search".to_owned()];
    let many: Vec<String> = (0..40).map(|n| format!("{LONG}-{n}")).collect();
    let long_scopes: Vec<Scope<'_>> =
        (0..8).map(|n| Scope { name: if n % 2 == 0 { LONG } else { "tools" }, description: (n % 3 > 0).then_some(LONG) }).collect();
    let asked = Consent {
        asking: claude,
        redirect_uri: "https://claude.ai/api/mcp/auth_callback",
        resource: "https://mcp.example.com/mcp",
        servers: &servers,
        scopes: SCOPES,
        account: &octocat,
        provider: Some("GitHub"),
        action: "/authorize",
        sign_out: "/logout",
        request: "r",
        token: "t",
    };
    let far = Whose::Foreign { subject: LONG.into(), issuer: "https://login.example.com/tenant".into() };
    let connecting = Connect {
        server: "notes",
        place: "https://notes.example.org/mcp",
        whose: &far,
        action: "/connect/notes",
        request: "r",
        token: "t",
    };
    let connection = |server: &str, is_connected| Connection {
        server: server.into(),
        place: format!("https://{server}.example.org/mcp"),
        action: format!("/connect/{server}"),
        token: "t".into(),
        is_connected,
    };
    let all = [connection("calendar", true), connection("notes", false), connection(LONG, true)];
    let back = Offered {
        asking: claude,
        told: Some("none of these scopes is granted here"),
        redirect_uri: "https://claude.ai/api/mcp/auth_callback",
        location: "https://claude.ai/api/mcp/auth_callback?error=invalid_scope&state=x",
    };
    let long_back = format!("https://{}.example/", LONG[..60].to_lowercase());
    let page = |asking, local, providers| sign_in(&SignIn { asking, local, providers, targets: &[] });
    let wrong = LocalForm { user: "ada", trouble: Some("the name or the password is wrong"), ..form };
    let trouble = |blame, told: &str| error(&Trouble::new(blame, told), Some("7f3a91c2"));
    vec![
        ("connect-signed-in", connect(&Connect { whose: &Whose::SignedIn("ada".into()), ..connecting })),
        ("connect-key", connect(&Connect { whose: &Whose::Key("ci/ada".into()), ..connecting })),
        ("connect-long", connect(&Connect { server: LONG, place: &format!("https://{LONG}.example/mcp"), whose: &far, ..connecting })),
        ("connect-stranger", stranger(&Stranger { server: "notes", whose: &far, action: "/logout", request: "r", token: "t" })),
        ("connections", connections(&Whose::SignedIn("ada".into()), &all)),
        ("connections-none", connections(&far, &[])),
        ("offered-document", offered(&back)),
        ("offered-app", offered(&Offered { asking: editor, redirect_uri: "cursor://x/cb", location: "cursor://x/cb?error=x", ..back })),
        ("offered-denied", offered(&Offered { told: None, ..back })),
        (
            "offered-long",
            offered(&Offered {
                asking: Asking { name: LONG, known: Known::Document(LONG) },
                told: Some(LONG),
                redirect_uri: &long_back,
                location: &long_back,
            }),
        ),
        ("signin-local", page(Some(claude), Some(form), &[])),
        ("signin-wrong", page(Some(claude), Some(wrong), &[])),
        ("signin-providers", page(Some(editor), None, both)),
        ("signin-both", page(None, Some(form), both)),
        ("signin-nothing", page(None, None, &[])),
        (
            "signin-long",
            page(
                Some(Asking { name: LONG, known: Known::Document(LONG) }),
                Some(LocalForm { trouble: Some(LONG), ..form }),
                &[(LONG, "/x")],
            ),
        ),
        ("consent-document", consent(&asked)),
        (
            "consent-here",
            consent(&Consent { asking: editor, redirect_uri: "http://127.0.0.1:33418/callback", account: &ada, provider: None, ..asked }),
        ),
        (
            "consent-app",
            consent(&Consent {
                asking: editor,
                redirect_uri: "cursor://anysphere.cursor-mcp/oauth/callback",
                servers: &[],
                scopes: &[],
                ..asked
            }),
        ),
        (
            "consent-operator",
            consent(&Consent {
                asking: Asking { name: "Accounting", known: Known::ByOperator },
                redirect_uri: "https://accounting.example/cb",
                ..asked
            }),
        ),
        (
            "consent-long",
            consent(&Consent {
                asking: Asking { name: LONG, known: Known::Document(LONG) },
                redirect_uri: &format!("https://{}.example/", LONG[..60].to_lowercase()),
                resource: &format!("https://{LONG}.example/{LONG}/{LONG}"),
                servers: &many,
                scopes: &long_scopes,
                account: &mail,
                ..asked
            }),
        ),
        (
            "consent-hostile",
            consent(&Consent {
                asking: Asking {
                    name: "\u{202e}<b>Claude</b>\u{2066} שלום e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\n&amp;",
                    known: Known::ByItself,
                },
                ..asked
            }),
        ),
        ("error-user", trouble(Blame::User, "the login took too long, or was finished once before")),
        ("error-list", trouble(Blame::Admission, "the account octocat is not among those who are let in here")),
        ("error-operator", trouble(Blame::Operator, "GitHub does not accept this server's `client_secret`: it is wrong, or was replaced")),
        ("error-provider", trouble(Blame::Provider, "Google did not answer")),
        ("error-later", trouble(Blame::Later, "that was wrong too often: try again in 30 s")),
        ("unknown", unknown()),
        ("refused", refused("the place to return to is not one that the client has registered (redirect_uri)")),
        ("done", done("you are signed out")),
        ("first-account", first_account()),
    ]
}

#[tokio::test]
async fn every_page_is_written_for_a_browser() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&dir).unwrap();
    for (name, page) in gallery() {
        let (head, body) = page.response(http::StatusCode::OK).into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let html = std::str::from_utf8(&body).unwrap();
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">") && html.trim_end().ends_with("</html>"), "{name}");
        assert_eq!(html.matches("<h1").count(), 1, "{name}");
        let headers: Vec<String> = head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        std::fs::write(dir.join(format!("{name}.html")), html).unwrap();
        std::fs::write(dir.join(format!("{name}.headers")), headers.join("\n")).unwrap();
    }
}
