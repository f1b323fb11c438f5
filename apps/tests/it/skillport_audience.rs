//! What a token opens, at the marketplace itself: tokens of its own authorization server, by the resource that a client
//! asks for, and of another issuer, which can write into a token whatever it likes.

use landbridge_fixtures::idp::{self, Algorithm, Idp, Kind};
use serde_json::{Value, json};

use crate::app::App;
use crate::skillport_house::{House, asking, hello};

/// Everywhere; at Streamable HTTP only; at HTTP+SSE only; where its messages go only; nowhere.
const ALL: [u16; 3] = [200, 200, 202];
const MCP: [u16; 3] = [200, 401, 401];
const SSE: [u16; 3] = [401, 200, 202];
const MESSAGES: [u16; 3] = [401, 401, 202];
const NONE: [u16; 3] = [401, 401, 401];

/// The statuses of a token at `/mcp`, `/sse` and `/sse/message`, where the stream was opened by a `good` one of the same user.
fn statuses(app: &App, token: &str, good: &str, host: &str) -> [u16; 3] {
    let (bearer, good) = (format!("Bearer {token}"), format!("Bearer {good}"));
    let headers = [("host", host), ("authorization", bearer.as_str())];
    let mut stream = app.events("/sse", &[("host", host), ("authorization", &good)]);
    let endpoint = stream.event().unwrap().data;
    let post = |path: &str| {
        let response = app.wire().post(path, &headers, &hello().to_string());
        assert_eq!(response.status == 401, response.header("www-authenticate").is_some_and(|said| said.contains("invalid_token")));
        response.status
    };
    [post("/mcp"), app.events("/sse", &headers).status, post(&endpoint)]
}

#[test]
fn s1_11_a_token_of_ours_opens_what_it_was_asked_for() {
    let house = House::start(&[]);
    let host = format!("127.0.0.1:{}", house.app.port);
    let good = house.token("ada", &house.url(""));
    for (resource, expected) in [
        ("", ALL),
        ("/", ALL),
        ("/mcp", MCP),
        ("/mcp/", MCP),
        ("/sse", SSE),
        ("/sse/", SSE),
        ("/servers", NONE),
        ("/servers/skillport", NONE),
    ] {
        let token = house.token("ada", &house.url(resource));
        assert_eq!(statuses(&house.app, &token, &good, &host), expected, "{resource:?}");
    }
    let named = house.token("ada", &house.url("/servers/skillport"));
    assert_eq!(house.status("/servers/skillport/mcp", &named), 200);
    // What is not ours, nobody gets a token for.
    let port = house.app.port;
    for resource in [
        house.url("/api"),
        house.url("/api-v2"),
        house.url("/mcp-v2"),
        house.url("/mc"),
        house.url("/mcp/x"),
        house.url("/mcp?x=1"),
        house.url("?x=1"),
        house.url("/mcp#x"),
        house.url(".evil.example"),
        house.url("0"),
        format!("http://127.0.0.1:{port}@evil.example"),
        format!("https://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        "http://127.0.0.1".into(),
        "https://example.com".into(),
    ] {
        let asked = house.app.get(&asking(&resource));
        let location = asked.header("location").unwrap_or_default();
        assert!(asked.status == 302 && location.contains("error=invalid_target"), "{resource}: {} {location}", asked.status);
    }
}

/// The marketplace where another issuer's tokens count.
struct Foreign {
    app: App,
    idp: Idp,
}

impl Foreign {
    fn start(variables: &[(&str, &str)]) -> Foreign {
        let nobody = idp::App { client_id: "x".into(), client_secret: "x".into(), callback: "http://127.0.0.1:1/".into() };
        let idp = Idp::start(Kind::Oidc, Algorithm::Es256, 0, nobody, vec![]);
        let app = App::start("skillport", &[], &[&[("TOKEN_ISSUER", idp.url())], variables].concat());
        Foreign { app, idp }
    }

    fn token(&self, audience: Value) -> String {
        let now_s = landbridge::system::now_s();
        self.idp.sign(&json!({
            "iss": self.idp.url(), "sub": "7", "client_id": "app", "aud": audience, "iat": now_s, "exp": now_s + 300, "jti": audience.to_string(),
        }))
    }
}

#[test]
fn s1_11_a_token_of_somebody_else_opens_what_its_audience_says() {
    let there = Foreign::start(&[]);
    let host = format!("127.0.0.1:{}", there.app.port);
    let origin = format!("http://{host}");
    let ours = |path: &str| format!("{origin}{path}");
    let good = there.token(json!(origin));
    for (audience, expected) in [
        (ours(""), ALL),
        (ours("/"), ALL),
        (origin.replace("http", "HTTP"), ALL),
        (ours("/mcp"), MCP),
        (ours("/mcp/"), MCP),
        (ours("/sse"), SSE),
        (ours("/sse/"), SSE),
        (ours("/sse/message"), MESSAGES),
        (ours("/sse/message/"), MESSAGES),
        // Beside, above, below, and across a boundary.
        (ours("/api"), NONE),
        (ours("/api/"), NONE),
        (ours("/api-v2"), NONE),
        (ours("/mc"), NONE),
        (ours("/mcp-v2"), NONE),
        (ours("/mcp/x"), NONE),
        (ours("/s"), NONE),
        (ours("/sse-v2"), NONE),
        (ours("/sse/mess"), NONE),
        (ours("/MCP"), NONE),
        (ours("//mcp"), NONE),
        (ours("/api/../mcp"), NONE),
        (ours("/%6dcp"), NONE),
        // A query has to be that of the request.
        (ours("?x=1"), NONE),
        (ours("/mcp?x=1"), NONE),
        (ours("/sse?x=1"), NONE),
        (ours("/mcp#x"), NONE),
        // Origins that only begin alike, and others.
        (ours(".evil.example"), NONE),
        (ours(".evil.example/mcp"), NONE),
        (ours("@evil.example/mcp"), NONE),
        (ours("0"), NONE),
        (ours("0/mcp"), NONE),
        (origin.replace("http", "https"), NONE),
        (origin.replace("127.0.0.1", "localhost"), NONE),
        ("http://127.0.0.1".into(), NONE),
        ("https://evil.example/mcp".into(), NONE),
        ("127.0.0.1".into(), NONE),
        ("*".into(), NONE),
        (String::new(), NONE),
    ] {
        assert_eq!(statuses(&there.app, &there.token(json!(audience)), &good, &host), expected, "{audience:?}");
    }
    // One of several is enough.
    assert_eq!(statuses(&there.app, &there.token(json!(["account", ours("/mcp")])), &good, &host), MCP);
    assert_eq!(statuses(&there.app, &there.token(json!(["account", ours("/mcp-v2")])), &good, &host), NONE);
    for (audience, path, expected) in [
        ("/mcp?x=1", "/mcp?x=1", 200),
        ("/mcp?x=1", "/mcp?x=2", 401),
        ("/mcp?x=1", "/mcp?x=1&y=2", 401),
        ("/mcp?x=1", "/servers/skillport/mcp?x=1", 401),
        ("?x=1", "/mcp?x=1", 401),
        ("/mcp", "/mcp?x=1", 200),
        ("", "/mcp?x=1", 200),
        ("/servers", "/servers/skillport/mcp", 200),
        ("/servers/skillport", "/servers/skillport/mcp", 200),
        ("/servers/skill", "/servers/skillport/mcp", 401),
        ("/servers/skillport-v2", "/servers/skillport/mcp", 401),
    ] {
        let bearer = format!("Bearer {}", there.token(json!(ours(audience))));
        let status = there.app.wire().post(path, &[("authorization", &bearer)], &hello().to_string()).status;
        assert_eq!(status, expected, "{audience} at {path}");
    }
}

#[test]
fn s1_11_an_origin_that_only_begins_like_ours_is_another() {
    let there = Foreign::start(&[("CONNECTOR_URL", "https://mcp.example.com")]);
    let host = "mcp.example.com";
    let good = there.token(json!("https://mcp.example.com"));
    for (audience, expected) in [
        ("https://mcp.example.com", ALL),
        ("https://MCP.example.com:443/", ALL),
        ("https://mcp.example.com/mcp", MCP),
        ("https://mcp.example.com/sse", SSE),
        ("https://mcp.example.com.evil", NONE),
        ("https://mcp.example.com.evil/mcp", NONE),
        ("https://mcp.example.com.evil.example", NONE),
        ("https://mcp.example.comevil", NONE),
        ("https://mcp.example.co", NONE),
        ("https://mcp.example.com:8443", NONE),
        ("https://mcp.example.com@evil.example", NONE),
        ("https://evil.mcp.example.com", NONE),
        ("https://example.com", NONE),
        ("http://mcp.example.com", NONE),
    ] {
        assert_eq!(statuses(&there.app, &there.token(json!(audience)), &good, host), expected, "{audience}");
    }
}

#[test]
fn tokens_of_another_issuer_are_those_of_its_users() {
    let there = Foreign::start(&[]);
    let bearer = format!("Bearer {}", there.token(json!(format!("http://127.0.0.1:{}", there.app.port))));
    let headers = [("authorization", bearer.as_str())];
    let given = there.app.http("/mcp", &headers).json("skillport_auth", json!({}));
    let api = format!("Bearer {}", given["token"].as_str().unwrap());
    assert_eq!(there.app.get_with("/api/whoami", &[("authorization", &api)]).json()["id"], "oidc:7");
    let document = there.app.get("/.well-known/oauth-protected-resource/mcp").json();
    assert_eq!(document["authorization_servers"], json!([there.idp.url()]));
    assert_eq!(there.app.get("/authorize").status, 404, "nobody logs in here");
    assert_eq!(there.app.post("/mcp", &hello()).status, 401);
}
