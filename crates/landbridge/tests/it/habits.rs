//! Servers with habits: what a profile changes of what is said, what is understood whatever it says, and pages of
//! somebody else's beside it.

use axum::Router;
use axum::extract::Extension;
use axum::routing::{get, post};
use landbridge::embed::{
    AuthConfig, Embed, Frames, Given, Inside, Keepalive, Left, Limits, Opening, Pages, Principal, Profile, Rates, Refusal, Tools,
    Transports, Visitor,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, duplex};

use crate::embed::Served;
use crate::wire::{Response, Stream, Wire};

fn greeter() -> Tools {
    let schema = json!({"type": "object"});
    Tools::new("greeter", "1.0.0").tool("greet", "Greets", schema, |_: Value, _| async { Ok("hello") })
}

fn serve(profile: impl FnOnce() -> Profile + Send + 'static) -> Served {
    Served::start(|| Embed::new("greeter", greeter()).profile(profile()))
}

impl Served {
    fn wire(&self) -> Wire {
        Wire::connect(self.gateway.port)
    }

    fn get(&self, path: &str) -> Response {
        self.wire().request("GET", path, &[], None)
    }

    fn events(&self, path: &str) -> Stream {
        self.wire().open("GET", path, &[("Accept", "text/event-stream")], None)
    }

    fn says(&self, path: &str, message: &Value) -> Response {
        self.wire().post(path, &[], &message.to_string())
    }
}

fn list(id: u64) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/list", "params": {}})
}

fn names_greet(message: &Value) {
    assert_eq!(message["result"]["tools"][0]["name"], "greet", "{message}");
}

fn next_data(stream: &mut Stream) -> String {
    stream.event().expect("an event").data
}

#[test]
fn a_transport_that_is_off_is_unknown_to_everybody() {
    let served = serve(|| Profile { transports: Transports::Http, paths: vec!["/both".into()], ..Profile::default() });
    for path in ["/sse", "/messages", "/message", "/sse/message", "/servers/greeter/sse"] {
        assert_eq!(served.get(path).status, 404, "{path}");
        assert_eq!(served.says(path, &list(1)).status, 404, "{path}");
    }
    for path in ["/mcp", "/both"] {
        assert_eq!(served.events(path).status, 405, "{path} opens no stream without a session");
    }
    let served = serve(|| Profile { transports: Transports::Sse, ..Profile::default() });
    let mut stream = served.events("/sse");
    let messages = next_data(&mut stream);
    assert_eq!(served.says(&messages, &list(1)).status, 202);
    names_greet(&stream.message().expect("an answer"));
    for path in ["/mcp", "/servers/greeter/mcp"] {
        assert_eq!((served.says(path, &list(1)).status, served.get(path).status), (404, 404), "{path}");
    }
}

#[test]
fn a_stream_begins_as_its_server_begins_it_and_its_messages_look_alike() {
    let served = serve(|| Profile {
        paths: vec!["/mcp/oauth".into()],
        messages: "/mcp/oauth?sessionId={id}".into(),
        dashes: true,
        preamble: vec![Opening::Comment("SSE connection established"), Opening::Session, Opening::Endpoint],
        frames: Frames::Bare,
        ..Profile::default()
    });
    let mut stream = served.events("/mcp/oauth");
    let begin = String::from_utf8(stream.piece().expect("the beginning")).unwrap();
    let id = begin.split("\"sessionId\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id").to_owned();
    assert_eq!(begin.lines().next(), Some(": SSE connection established"));
    assert!(begin.ends_with(&format!("event: endpoint\ndata: /mcp/oauth?sessionId={id}\n\n")), "{begin}");
    let dashes: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
    assert_eq!((id.len(), dashes, &id[14..15]), (36, vec![8, 13, 18, 23], "4"), "a UUID of version 4");

    assert_eq!(served.says(&format!("/mcp/oauth?sessionId={id}"), &list(1)).status, 202);
    let frame = String::from_utf8(stream.piece().expect("an answer")).unwrap();
    assert!(frame.starts_with("data: {") && frame.ends_with("}\n\n") && frame.lines().count() == 2, "{frame}");
}

#[test]
fn every_spelling_of_a_session_is_understood_at_every_path_of_messages() {
    let served = serve(Profile::default);
    let mut stream = served.events("/sse");
    let endpoint = next_data(&mut stream);
    let id = endpoint.rsplit('=').next().unwrap().to_owned();
    let dashed = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]].join("-");
    let ways = [
        format!("/messages?sessionId={id}"),
        format!("/messages/?session_id={id}"),
        format!("/message?sessionid={dashed}"),
        format!("/sse?sessionid={id}"),
        format!("/sse/message?sessionId={id}"),
        format!("/mcp?sessionid={id}"),
        format!("/servers/greeter/messages?sessionId={dashed}"),
        // What becomes of an endpoint that was written as JSON, and read as a URL.
        format!("/%22/messages?sessionId={id}%22"),
    ];
    for (n, path) in ways.iter().enumerate() {
        assert_eq!(served.says(path, &list(n as u64)).status, 202, "{path}");
        names_greet(&stream.message().expect("an answer"));
    }
    for path in ["/messages", "/sse", "/message"] {
        let response = served.wire().post(path, &[("Mcp-Session-Id", &id)], &list(9).to_string());
        assert_eq!(response.status, 202, "{path} by the header");
        names_greet(&stream.message().expect("an answer"));
    }
    let other = served.events("/sse").event().expect("an endpoint").data;
    let other = other.rsplit('=').next().unwrap();
    for path in [format!("/messages?sessionId={id}&session_id={other}"), format!("/messages?sessionId={id}")] {
        let header = if path.contains('&') { id.as_str() } else { other };
        let response = served.wire().post(&path, &[("Mcp-Session-Id", header)], &list(1).to_string());
        assert_eq!(response.status, 400, "{path}");
        assert!(response.text().contains("names two sessions"), "{}", response.text());
    }
    assert_eq!(served.says("/sse", &list(1)).status, 405, "the hint for newer clients");
}

#[test]
fn an_endpoint_can_be_had_as_json_and_a_session_as_a_message() {
    let served = serve(|| Profile {
        messages: "/message?sessionId={id}".into(),
        dashes: true,
        preamble: vec![Opening::JsonEndpoint, Opening::Initialized],
        frames: Frames::Numbered,
        ..Profile::default()
    });
    let mut stream = served.events("/sse");
    let endpoint: String = serde_json::from_str(&next_data(&mut stream)).expect("a string in JSON");
    let message = stream.message().expect("a message");
    assert_eq!(message["method"], "notifications/initialized");
    assert_eq!(endpoint, format!("/message?sessionId={}", message["params"]["sessionId"].as_str().unwrap()));
    let ids: Vec<u64> = (1..3)
        .map(|n| {
            assert_eq!(served.says(&endpoint, &list(n)).status, 202);
            let event = stream.event().expect("an answer");
            names_greet(&serde_json::from_str(&event.data).unwrap());
            event.id.expect("an id").parse().expect("a number")
        })
        .collect();
    assert!(ids[0] < ids[1], "{ids:?}");

    let usual = serve(Profile::default);
    let mut stream = usual.events("/sse?endpoint_format=json");
    let endpoint: String = serde_json::from_str(&next_data(&mut stream)).expect("a string in JSON");
    assert!(endpoint.starts_with("/messages?sessionId="), "{endpoint}");
}

#[test]
fn a_server_refuses_in_its_own_words() {
    let served = serve(|| {
        let refusal = |status, body| Some(Refusal { status: http::StatusCode::from_u16(status).unwrap(), media: "text/plain", body });
        Profile {
            no_session: refusal(400, "sessionid must be provided"),
            dead_session: refusal(404, "session not found"),
            bad_media: refusal(400, "say that it is JSON"),
            checks_revision: true,
            ..Profile::default()
        }
    });
    let nobody = "11b56c40dc7a4ce991278998bcace54f";
    for path in ["/messages", "/sse"] {
        let response = served.says(path, &list(1));
        assert_eq!((response.status, response.text().as_str()), (400, "sessionid must be provided"), "{path}");
        let response = served.says(&format!("{path}?sessionid={nobody}"), &list(1));
        assert_eq!((response.status, response.text().as_str()), (404, "session not found"), "{path}");
    }
    // An id that is empty is none.
    assert_eq!(served.says("/messages?sessionId=", &list(1)).text(), "sessionid must be provided");
    let mut stream = served.events("/sse");
    let path = next_data(&mut stream);
    let response = served.wire().post(&path, &[("content-type", "text/plain")], &list(1).to_string());
    assert_eq!((response.status, response.text().as_str()), (400, "say that it is JSON"));
    // At the endpoint of Streamable HTTP the protocol says how.
    assert_eq!(served.wire().post("/mcp", &[("content-type", "text/plain")], &list(1).to_string()).status, 415);
    let response = served.wire().post("/mcp", &[("Mcp-Session-Id", nobody)], &list(1).to_string());
    assert_eq!((response.status, response.json()["jsonrpc"].as_str()), (404, Some("2.0")));

    for (version, status) in [("2025-06-18", 200), ("2024-11-05", 200), ("2023-01-01", 400), ("latest", 400)] {
        let stream = served.wire().open("GET", "/sse", &[("MCP-Protocol-Version", version)], None);
        assert_eq!(stream.status, status, "{version}");
    }
}

#[test]
fn callers_without_a_key_are_refused_in_its_own_words_too() {
    let serve = |is_asked: bool| {
        Served::start(move || {
            let refusal = |body| Some(Refusal { status: http::StatusCode::UNAUTHORIZED, media: "text/plain", body });
            let profile = Profile { no_key: refusal("API key required"), bad_key: refusal("Invalid API key"), ..Profile::default() };
            let keys = vec![Given::read("a key", "a-key-of-some-length:ada").unwrap()];
            let auth = AuthConfig { mode: Some("keys".into()), store: Some("memory:".into()), keys, ..AuthConfig::default() };
            Embed::new("greeter", greeter()).profile(profile).auth(if is_asked { auth } else { AuthConfig::default() })
        })
    };
    let served = serve(true);
    for path in ["/mcp", "/sse"] {
        let refused = served.says(path, &list(1));
        assert_eq!((refused.status, refused.text().as_str()), (401, "API key required"), "{path}");
        assert_eq!((refused.header("cache-control"), refused.header("www-authenticate")), (Some("no-store"), Some("Bearer")));
        let refused = served.wire().post(path, &[("X-API-Key", "another")], &list(1).to_string());
        assert_eq!((refused.status, refused.text().as_str()), (401, "Invalid API key"), "{path}");
        let other = served.wire().post(path, &[("Authorization", "Basic abc")], &list(1).to_string());
        assert_eq!((other.status, other.text().as_str(), other.header("www-authenticate")), (401, "API key required", Some("Bearer")));
        let malformed = served.wire().post(path, &[("Authorization", "Bearer")], &list(1).to_string());
        assert!(malformed.text().contains("Bearer TOKEN"), "what is merely malformed is still told: {}", malformed.text());
    }
    assert_eq!(serve(false).says("/messages?sessionId=11b56c40dc7a4ce991278998bcace54f", &list(1)).status, 404, "nobody is asked");
}

#[test]
fn who_has_no_session_is_answered_by_itself_where_that_is_allowed() {
    let served = serve(|| Profile { paths: vec!["/".into()], lenient: true, ..Profile::default() });
    for path in ["/mcp", "/"] {
        let response = served.says(path, &list(1));
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")), "{path}");
        names_greet(&response.json());
        let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "greet", "arguments": {}}});
        assert_eq!(served.says(path, &call).json()["result"]["content"][0]["text"], "hello");
        assert!(served.says(path, &call).json()["result"].get("resultType").is_none(), "a letter of the handshake era");
        let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(served.says(path, &note).status, 202);
    }
    let strange = served.wire().post("/mcp", &[("MCP-Protocol-Version", "1999-01-01")], &list(1).to_string());
    assert_eq!(strange.status, 400);
    // Both transports at the root, and a page for who reads none.
    let mut stream = served.events("/");
    assert_eq!(stream.event().expect("an endpoint").name, "endpoint");
    assert!(served.get("/").text().contains("Landbridge"));
    // Whoever does not allow it wants a session.
    assert_eq!(serve(Profile::default).says("/mcp", &list(1)).status, 400);
}

#[test]
fn a_stream_is_kept_alive_by_events_where_its_server_does_so() {
    let served = Served::start(|| {
        let limits = Limits { keepalive_ms: 1_000, ..Limits::default() };
        Embed::new("greeter", greeter()).limits(limits).profile(Profile { keepalive: Keepalive::Ping, ..Profile::default() })
    });
    let mut stream = served.events("/sse");
    assert_eq!(stream.event().expect("an endpoint").name, "endpoint");
    let ping = stream.event().expect("a ping");
    assert_eq!((ping.name.as_str(), ping.data.starts_with("ping - 20") && ping.data.ends_with('Z')), ("ping", true), "{ping:?}");
}

#[test]
fn a_connection_is_kept_for_its_stream_unless_its_client_wants_it_closed() {
    let served = serve(Profile::default);
    assert_eq!(served.events("/sse").header("connection"), Some("keep-alive"));
    for said in ["close", "Upgrade, Close"] {
        let stream = served.wire().open("GET", "/sse", &[("Connection", said)], None);
        assert_ne!(stream.header("connection"), Some("keep-alive"), "{said}");
    }
    assert_eq!(served.get("/healthz").header("connection"), None, "no stream");
}

#[test]
fn how_much_one_may_ask_is_said_and_what_was_done_is_written_down() {
    let file = std::env::temp_dir().join(format!("landbridge-habits-{}.jsonl", std::process::id()));
    let into = file.clone();
    let served = Served::start(move || {
        let rates = Rates { address_per_minute: 3, address_burst: 3, ..Rates::default() };
        Embed::new("greeter", greeter()).rates(rates).audit(into).profile(Profile { lenient: true, ..Profile::default() })
    });
    let statuses: Vec<u16> = (0..4).map(|n| served.says("/mcp", &list(n)).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    drop(served);
    let written = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(written.lines().any(|line| line.contains("too_many")), "{written}");
}

fn with_pages(auth: impl FnOnce() -> AuthConfig + Send + 'static) -> Served {
    Served::start(|| {
        let pages = |inside: Inside| {
            let who = |Extension(who): Extension<Principal>| async move {
                who.person().map_or("nobody".to_owned(), |person| format!("{} of {:?}", person.subject, person.tenant))
            };
            let count = inside.clone();
            let router = Router::new()
                .route("/health", get(|| async { "OK" }))
                .route("/sessions", get(move || async move { inside.sessions().join(" ") }))
                .route("/count", get(move || async move { count.session_count().to_string() }))
                .route("/api/who", get(who))
                .route("/api/echo", post(|body: String| async move { body }))
                .route("/", get(|| async { "a page at the root" }));
            Pages::new(router).open(["/health", "/sessions", "/count", "/", "/nothing"]).guarded(["/api/*"])
        };
        let profile = Profile { paths: vec!["/".into()], dashes: true, ..Profile::default() };
        Embed::new("greeter", greeter()).auth(auth()).profile(profile).beside(pages)
    })
}

#[test]
fn pages_of_somebody_elses_are_beside_ours() {
    let served = with_pages(AuthConfig::default);
    assert_eq!(served.get("/health").text(), "OK");
    assert_eq!(served.get("/api/who").text(), "nobody");
    assert_eq!(served.get("/").text(), "a page at the root");
    assert_eq!(served.get("/nothing").status, 404, "the router has no such page");
    let long = "x".repeat(200_000);
    assert_eq!(served.wire().post("/api/echo", &[], &long).text(), long);
    // Ours are still there.
    assert_eq!(served.get("/healthz").text(), "ok\n");
    let mut stream = served.events("/");
    let endpoint = next_data(&mut stream);
    assert_eq!(endpoint.rsplit('=').next(), Some(served.get("/sessions").text().as_str()));
    assert_eq!(served.get("/count").text(), "1");
    // Nor does a page of a stranger get past the checks.
    let strange = served.wire().request("GET", "/health", &[("Origin", "https://evil.example")], None);
    assert_eq!(strange.status, 403);
    let strange = served.wire().request("GET", "/health", &[("Host", "evil.example")], None);
    assert_eq!(strange.status, 403, "a name that is not ours");
}

#[test]
fn guarded_pages_are_for_those_who_may_call_and_know_who_that_is() {
    let served = with_pages(|| {
        let key = |text| Given::read("a key", text).unwrap();
        AuthConfig {
            mode: Some("keys".into()),
            store: Some("memory:".into()),
            keys: vec![key("short:ada:acme:"), key("another-key-entirely:bob")],
            ..AuthConfig::default()
        }
    });
    assert_eq!(served.get("/health").text(), "OK");
    let refused = served.get("/api/who");
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").is_some());
    let who = |name: &str, value: &str| served.wire().request("GET", "/api/who", &[(name, value)], None).text();
    assert_eq!(who("X-API-Key", "short"), "ada of Some(\"acme\")");
    assert_eq!(who("Authorization", "Bearer another-key-entirely"), "bob of None");
    assert_eq!(served.wire().request("GET", "/api/who", &[("X-API-Key", "shor")], None).status, 401);
}

/// Serves the lines of a request for `/talk`, and answers with what was said to each. At `/open` nobody is a visitor.
fn that_talks(auth: impl FnOnce() -> AuthConfig + Send + 'static, rates: Rates) -> Served {
    Served::start(move || {
        let pages = |inside: Inside| {
            let talk = move |Extension(visitor): Extension<Visitor>, lines: String| async move {
                let conversation = match inside.begin(&visitor) {
                    Ok(conversation) => conversation,
                    Err(fault) => return fault.told,
                };
                let ((mut client, input), (output, said)) = (duplex(64 * 1024), duplex(64 * 1024));
                let running = tokio::spawn(conversation.run(input, output));
                client.write_all(lines.as_bytes()).await.unwrap();
                let (mut said, mut all) = (BufReader::new(said), String::new());
                for _ in lines.lines() {
                    said.read_line(&mut all).await.unwrap();
                }
                drop(client);
                assert_eq!(running.await.unwrap(), Left::Closed);
                all
            };
            let open = |visitor: Option<Extension<Visitor>>| async move { visitor.is_some().to_string() };
            Pages::new(Router::new().route("/talk", post(talk)).route("/open", get(open))).open(["/open"]).guarded(["/talk"])
        };
        Embed::new("greeter", greeter()).auth(auth()).rates(rates).beside(pages)
    })
}

#[test]
fn whoever_asks_for_a_guarded_page_may_speak_on_a_connection_of_their_own() {
    let keys = || AuthConfig {
        mode: Some("keys".into()),
        store: Some("memory:".into()),
        keys: vec![Given::read("a key", "a-key-of-ada-herself:ada").unwrap()],
        ..AuthConfig::default()
    };
    let served = that_talks(keys, Rates { principal_per_minute: 6, principal_sessions: 1, ..Rates::default() });
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}});
    let stateless = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}).to_string();
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let hello = json!({"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": hello}).to_string();
    let lines = [&stateless, &hello, "{", &stateless].join("\n") + "\n";
    assert_eq!(served.says("/talk", &json!({})).status, 401);
    let key = [("X-API-Key", "a-key-of-ada-herself")];
    let said = served.wire().post("/talk", &key, &lines).text();
    let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(said.iter().filter(|said| said["result"]["tools"][0]["name"] == "greet").count(), 2, "{said:?}");
    assert!(said.iter().any(|said| said["result"]["protocolVersion"] == "2025-06-18"), "{said:?}");
    assert!(said.iter().any(|said| said["error"]["code"] == -32700), "{said:?}");
    // Each request counted, as those over HTTP do.
    let said = served.wire().post("/talk", &key, &format!("{stateless}\n{stateless}\n")).text();
    assert!(said.contains("too many requests of this user"), "{said}");
    assert_eq!(served.get("/open").text(), "false", "who has shown nothing may not");
}

#[test]
fn a_page_that_opens_a_websocket_may_show_its_key_as_a_subprotocol() {
    let served = with_pages(|| AuthConfig {
        mode: Some("keys".into()),
        store: Some("memory:".into()),
        keys: vec![Given::read("a key", "short?>:ada").unwrap()],
        ..AuthConfig::default()
    });
    let ask = |upgrade, protocols| {
        let asked = [("Connection", "upgrade"), ("Upgrade", upgrade), ("Sec-WebSocket-Protocol", protocols)];
        served.wire().request("GET", "/api/who", &asked, None)
    };
    assert_eq!(ask("websocket", "mcp, key.c2hvcnQ_Pg").text(), "ada of None");
    for (upgrade, protocols, status) in [
        ("websocket", "mcp", 401),
        ("websocket", "mcp, key.c2hvcnQ", 401),
        ("websocket", "key.c2hvcnQ_Pg, key.c2hvcnQ_Pg", 401),
        ("websocket", "mcp, key.", 400),
        ("websocket", "mcp, key.c2hvcnQ_Pg==", 400),
        ("h2c", "mcp, key.c2hvcnQ_Pg", 401),
    ] {
        assert_eq!(ask(upgrade, protocols).status, status, "{protocols}");
    }
}

#[test]
fn tokens_that_anybody_makes_up_are_for_tests_on_this_machine() {
    let auth = |insecure_test_tokens| AuthConfig {
        mode: Some("keys".into()),
        store: Some("memory:".into()),
        keys: vec![Given::read("a key", "another-key-entirely:bob").unwrap()],
        insecure_test_tokens,
        ..AuthConfig::default()
    };
    let (one, other) = ("0123456789abcdef0123456789ABCDEF", "0123456789abcdef0123456789abcde0");
    for allowed in [true, false] {
        let served = with_pages(move || auth(allowed));
        let who = |token: &str| served.wire().request("GET", "/api/who", &[("Authorization", &format!("Bearer {token}"))], None);
        assert_eq!((who(one).status, who(other).status), if allowed { (200, 200) } else { (401, 401) });
        assert_eq!(who("another-key-entirely").text(), "bob of None");
        for no_token in [&one[1..], &format!("{one}0"), &format!("{one}{other}"), "g123456789abcdef0123456789abcdef"] {
            assert_eq!(who(no_token).status, 401, "{no_token}");
        }
        if allowed {
            assert_ne!(who(one).text(), who(other).text(), "each is somebody else");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let public = Embed::new("greeter", greeter()).listen("0.0.0.0:0").auth(auth(true));
    let refused = runtime.block_on(public.bind()).err().map(|why| why.to_string()).unwrap_or_default();
    assert!(refused.contains("127.0.0.1"), "{refused}");
}

#[test]
fn pages_of_named_origins_may_bring_credentials_where_that_is_allowed() {
    let asked = |credentials, origin: &'static str| {
        let served = Served::start(move || {
            Embed::new("greeter", greeter()).allow_origin(origin).profile(Profile { credentials, ..Profile::default() })
        });
        let response = served.wire().request("GET", "/healthz", &[("Origin", "https://app.example.com")], None);
        let header = |name| response.header(name).map(str::to_owned);
        (header("access-control-allow-origin").is_some(), header("access-control-allow-credentials"))
    };
    assert_eq!(asked(true, "https://app.example.com"), (true, Some("true".into())));
    assert_eq!(asked(false, "https://app.example.com"), (true, None));
    assert_eq!(asked(true, "*").1, None, "whose cookies those are, nobody has thought of");
}
