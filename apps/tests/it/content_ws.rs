//! Row S2-57: the library of contents over WebSocket, by a client of somebody else's.

use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::HandshakeError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket, client};

use crate::app::{App, fresh_dir};
use crate::content::{ADA, BOB, KEYS, b64, start, web};

/// A client of its own.
struct Socket {
    socket: WebSocket<TcpStream>,
    protocol: Option<String>,
    next: u64,
}

/// Why there is none: status and body.
type Refused = (u16, String);

fn open(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Refused> {
    let mut request = format!("ws://127.0.0.1:{port}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    match client::client_with_config(request, stream, Some(WebSocketConfig::default().max_frame_size(None))) {
        Ok((socket, response)) => {
            let protocol = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
            Ok(Socket { socket, protocol, next: 0 })
        }
        Err(HandshakeError::Failure(Error::Http(response))) => {
            let body = response.body().clone().unwrap_or_default();
            Err((response.status().as_u16(), String::from_utf8_lossy(&body).into_owned()))
        }
        Err(other) => panic!("{other}"),
    }
}

/// One that has shaken hands.
fn connect(app: &App, headers: &[(&str, &str)]) -> Socket {
    let mut socket = open(app.port, "/ws", headers).unwrap();
    socket.shake_hands("2025-06-18");
    socket
}

impl Socket {
    fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// The next message; whatever keeps the connection alive is answered on the way.
    fn message(&mut self) -> Value {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => {
                    assert!(!text.contains('\n'));
                    return serde_json::from_str(&text).unwrap();
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}).to_string());
        let answer = self.message();
        assert_eq!(answer["id"], self.next, "{answer}");
        answer
    }

    fn shake_hands(&mut self, revision: &str) {
        let info = json!({"name": "t", "version": "1"});
        let hello = self.ask("initialize", json!({"protocolVersion": revision, "capabilities": {}, "clientInfo": info}));
        assert_eq!(hello["result"]["protocolVersion"], revision, "{hello}");
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
    }

    fn n_tools(&mut self) -> usize {
        self.ask("tools/list", json!({}))["result"]["tools"].as_array().unwrap().len()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    fn json(&mut self, tool: &str, arguments: Value) -> Value {
        serde_json::from_str(&self.call(tool, arguments)).unwrap()
    }

    /// The code that the other end closes with.
    fn closed(&mut self) -> u16 {
        loop {
            match self.socket.read() {
                Ok(Message::Close(frame)) => return frame.unwrap().code.into(),
                Ok(_) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
}

/// A key as a page shows it.
fn subprotocols(key: &str) -> String {
    format!("mcp, key.{}", BASE64_URL_SAFE_NO_PAD.encode(key))
}

#[test]
fn s2_57_a_message_a_frame_both_ways() {
    let app = start(&[]);
    let mut one = open(app.port, "/ws", &[("sec-websocket-protocol", "mcp")]).unwrap();
    assert_eq!(one.protocol.as_deref(), Some("mcp"));
    let mut two = open(app.port, "/ws", &[]).unwrap();
    assert_eq!(two.protocol, None, "nobody has asked for one");
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        one.shake_hands(revision);
    }
    // Each connection is a session of its own.
    assert!(two.ask("tools/list", json!({}))["error"]["message"].as_str().unwrap().contains("initialize"));
    two.shake_hands("2025-06-18");
    assert_eq!((one.n_tools(), two.n_tools()), (14, 14));
    let id = one.json("upload_content", json!({"owner_id": ADA, "name": "größe", "data": b64("over a wire of its own")}))["id"].clone();
    let told = two.json("download_content", json!({"content_id": id, "format": "base64"}));
    assert_eq!(told["data"], b64("over a wire of its own"));
    assert_eq!(app.sse("/sse", &[]).json("get_content", json!({"content_id": id}))["name"], "größe");
    // A message may be written on several lines, as the document writes its own, and in several frames.
    two.send("{\r\n  \"jsonrpc\": \"2.0\",\n  \"id\": \"a\",\n  \"method\": \"ping\"\n}\n");
    assert_eq!(two.message(), json!({"jsonrpc": "2.0", "id": "a", "result": {}}));
    // Several at once are answered as they are done.
    for n in 0..50 {
        two.send(
            &json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "get_content", "arguments": {"content_id": id}}})
                .to_string(),
        );
    }
    let mut ids: Vec<u64> = (0..50).map(|_| two.message()["id"].as_u64().unwrap()).collect();
    ids.sort();
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
}

#[test]
fn s2_57_clients_of_2026_07_28_need_no_session() {
    let app = start(&KEYS);
    let mut socket = open(app.port, "/ws", &[("x-api-key", "your-key")]).unwrap();
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"}, "io.modelcontextprotocol/clientCapabilities": {}});
    let listed = socket.ask("tools/list", json!({"_meta": meta}));
    assert_eq!(listed["result"]["tools"].as_array().unwrap().len(), 14);
    let mut call = |owner: &str| {
        let arguments = json!({"owner_id": owner, "name": "n", "data": "eA=="});
        socket.ask("tools/call", json!({"name": "upload_content", "arguments": arguments, "_meta": meta}))["result"].clone()
    };
    assert_ne!(call(ADA)["isError"], true);
    assert_eq!(call(BOB)["content"][0]["text"], "access denied", "whose key it was counts here too");
}

#[test]
fn s2_57_large_contents_fit() {
    let app = start(&[]);
    let mut socket = connect(&app, &[]);
    let bytes: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let id = socket.json("upload_content", json!({"owner_id": ADA, "name": "large", "data": b64(&bytes)}))["id"].clone();
    let told = socket.json("download_content", json!({"content_id": id, "format": "base64"}));
    assert!(told["data"] == b64(&bytes));
    let larger = json!({"owner_id": ADA, "name": "larger", "data": b64(vec![7; 20_000_000])});
    let id = socket.json("upload_content", larger)["id"].clone();
    assert_eq!(socket.json("get_content_details", json!({"content_id": id}))["file_size"], 20_000_000);
}

#[test]
fn s2_57_who_calls_is_asked_at_the_upgrade() {
    let app = start(&KEYS);
    let refused = |headers: &[(&str, &str)]| open(app.port, "/ws", headers).err().unwrap();
    assert_eq!(refused(&[]), (401, "API key required".into()));
    assert_eq!(refused(&[("x-api-key", "wrong")]), (401, "Invalid API key".into()));
    assert_eq!(refused(&[("sec-websocket-protocol", "mcp")]), (401, "API key required".into()));
    assert_eq!(refused(&[("sec-websocket-protocol", &subprotocols("wrong"))]), (401, "Invalid API key".into()));
    assert_eq!(refused(&[("sec-websocket-protocol", "mcp, key.%%%")]).0, 400);
    // Not in a URL, which ends up in logs.
    for path in ["/ws?key=your-key", "/ws?api_key=your-key", "/ws?X-API-Key=your-key"] {
        assert_eq!(open(app.port, path, &[]).err().unwrap().0, 401, "{path}");
    }
    // A subprotocol opens a WebSocket and nothing else.
    let plain = app.wire().post("/mcp", &[("sec-websocket-protocol", &subprotocols("your-key"))], "{}");
    assert_eq!(plain.status, 401);
    let id = {
        let mut ada = connect(&app, &[("x-api-key", "your-key")]);
        ada.json("upload_content", json!({"owner_id": ADA, "name": "ada's", "data": "eA=="}))["id"].clone()
    };
    let (bearer, page) = (("authorization", "Bearer the-key-of-bob-himself"), subprotocols("the-key-of-bob-himself"));
    for headers in [[bearer], [("sec-websocket-protocol", page.as_str())]] {
        let mut bob = connect(&app, &headers);
        assert!(bob.protocol.as_deref().is_none_or(|protocol| protocol == "mcp"), "the key is not told back");
        assert_eq!(bob.call("get_content", json!({"content_id": id})), format!("content not found: {}", id.as_str().unwrap()));
        assert_eq!(bob.call("list_content", json!({"owner_id": ADA})), "access denied");
        assert_eq!(bob.json("list_content", json!({"owner_id": BOB}))["total"], 0);
    }
    assert!(!app.said().contains(&BASE64_URL_SAFE_NO_PAD.encode("your-key")) && !app.said().contains("the-key-of-bob-himself"));
}

#[test]
fn s2_57_pages_of_others_are_refused() {
    let app = start(&[("MCP_CORS_ORIGINS", "https://app.example.com")]);
    for origin in ["http://localhost.evil.com", "https://evil.example", "null"] {
        assert_eq!(open(app.port, "/ws", &[("origin", origin)]).err().unwrap().0, 403, "{origin}");
    }
    for origin in ["http://localhost:3000", "https://app.example.com"] {
        assert!(open(app.port, "/ws", &[("origin", origin)]).is_ok(), "{origin}");
    }
    assert_eq!(open(app.port, "/ws", &[("host", "evil.example")]).err().unwrap().0, 403, "by another name");
}

#[test]
fn s2_57_what_is_no_message_is_told_so() {
    let app = start(&[]);
    let mut socket = connect(&app, &[]);
    for (bad, code) in [
        ("{", -32700),
        ("", -32700),
        ("  \n ", -32700),
        ("no JSON", -32700),
        ("7", -32600),
        ("[]", -32600),
        (r#"{"id":1,"method":"tools/list"}"#, -32600),
        (r#"{"jsonrpc":"1.0","id":1,"method":"tools/list"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#, -32601),
    ] {
        socket.send(bad);
        let answer = socket.message();
        assert_eq!((&answer["jsonrpc"], &answer["error"]["code"]), (&json!("2.0"), &json!(code)), "{bad:?}: {answer}");
    }
    socket.socket.send(Message::binary(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#.to_vec())).unwrap();
    assert_eq!(socket.message()["error"]["code"], -32700, "text it has to be");
    assert_eq!(socket.n_tools(), 14, "and it goes on");
    // Over the limit of a message.
    let long = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(33 * 1024 * 1024));
    let _ = socket.socket.send(Message::text(long));
    let ended = loop {
        match socket.socket.read() {
            Ok(Message::Close(frame)) => break frame.map(|frame| u16::from(frame.code)),
            Ok(_) => {}
            // It was still being written when it was refused.
            Err(_) => break None,
        }
    };
    assert!(ended.is_none_or(|code| code == 1009), "{ended:?}");
    assert_eq!(connect(&app, &[]).n_tools(), 14, "nobody else has noticed");
}

#[test]
fn s2_57_only_a_websocket_is_let_through() {
    let app = start(&[]);
    let plain = app.get("/ws");
    assert_eq!((plain.status, plain.header("upgrade")), (426, Some("websocket")));
    assert_eq!(app.post("/ws", &json!({})).status, 405);
    let asks = |extra: &[(&str, &str)]| {
        let all = [&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")], extra].concat();
        app.get_with("/ws", &all)
    };
    let old = asks(&[("sec-websocket-version", "8"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]);
    assert_eq!((old.status, old.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(asks(&[("sec-websocket-version", "13")]).status, 400);
    let other =
        [("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("sec-websocket-protocol", "chat, soap")];
    assert_eq!(asks(&other).status, 400, "none of them is ours");
    // RFC 6455, section 1.3.
    let mut wire = app.wire();
    wire.send("GET", "/ws", &[("connection", "Upgrade"), ("upgrade", "websocket"), other[0], other[1]], None);
    let stream = wire.open("GET", "/ignored", &[], None);
    assert_eq!((stream.status, stream.header("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
}

#[test]
fn s2_57_so_many_and_no_more() {
    let app = start(&[("MCP_MAX_WEBSOCKETS", "2")]);
    let mut open_ones = [connect(&app, &[]), connect(&app, &[])];
    assert_eq!(open(app.port, "/ws", &[]).err().unwrap().0, 503);
    open_ones[0].socket.close(None).unwrap();
    let ended = std::iter::repeat_with(|| open_ones[0].socket.read()).find_map(Result::err);
    assert!(matches!(ended, Some(Error::ConnectionClosed)), "in good order: {ended:?}");
    until(|| open(app.port, "/ws", &[]).is_ok());

    let mut variables = KEYS.to_vec();
    variables.extend([("MCP_MAX_SESSIONS", "1"), ("MCP_RATE_PER_MINUTE", "20")]);
    let app = start(&variables);
    let mut ada = connect(&app, &[("x-api-key", "your-key")]);
    assert_eq!(open(app.port, "/ws", &[("x-api-key", "your-key")]).err().unwrap().0, 429, "of one owner");
    assert!(open(app.port, "/ws", &[("x-api-key", "the-key-of-bob-himself")]).is_ok(), "others may");
    let mut answers: Vec<Value> = (0..30).map(|_| ada.ask("tools/list", json!({}))).collect();
    let last = answers.pop().unwrap();
    assert!(last["error"]["message"].as_str().unwrap().contains("too many requests"), "messages count as requests do: {last}");
}

fn until(holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(30));
    }
}

#[test]
fn s2_57_who_is_there_is_asked_and_who_is_not_is_forgotten() {
    let app = start(&[("MCP_MAX_WEBSOCKETS", "1"), ("MCP_KEEPALIVE_MS", "60")]);
    let mut socket = connect(&app, &[]);
    let mut pings = 0;
    while pings < 100 {
        match socket.socket.read().unwrap() {
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
        socket.socket.flush().unwrap();
    }
    assert_eq!(socket.n_tools(), 14, "after a hundred pings");
    // From now on it reads nothing, and so answers none.
    until(|| open(app.port, "/ws", &[]).is_ok());
}

#[test]
fn s2_57_where_nobody_speaks_it_ends() {
    let app = start(&[("MCP_KEEPALIVE_MS", "50"), ("MCP_WEBSOCKET_IDLE_MS", "700")]);
    let mut socket = connect(&app, &[]);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert_eq!(socket.n_tools(), 14);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(socket.closed(), 1001);
}

#[test]
fn s2_57_who_does_not_read_makes_nobody_wait() {
    let app = start(&[]);
    let mut lazy = connect(&app, &[]);
    // More than all buffers in between hold.
    let bytes = vec![7; 1_000_000];
    let id = lazy.json("upload_content", json!({"owner_id": ADA, "name": "large", "data": b64(&bytes)}))["id"].clone();
    for n in 0..40 {
        let call = json!({"jsonrpc": "2.0", "id": n, "method": "tools/call",
            "params": {"name": "download_content", "arguments": {"content_id": id, "format": "base64"}}});
        lazy.send(&call.to_string());
    }
    let mut other = connect(&app, &[]);
    for _ in 0..10 {
        let began = Instant::now();
        assert_eq!(other.n_tools(), 14);
        assert!(began.elapsed() < Duration::from_secs(15));
    }
    // And it still gets what it has asked for.
    let mut ids: Vec<u64> = (0..40).map(|_| lazy.message()["id"].as_u64().unwrap()).collect();
    ids.sort();
    assert_eq!(ids, (0..40).collect::<Vec<_>>());
}

#[test]
fn s2_57_it_ends_with_the_key() {
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let key = format!("a-key-that-ends-very-soon:{ADA}::{end}");
    let app = start(&[("MCP_AUTH_ENABLED", "true"), ("MCP_API_KEY_1", &key)]);
    let mut socket = connect(&app, &[("x-api-key", "a-key-that-ends-very-soon")]);
    assert_eq!(socket.n_tools(), 14);
    assert_eq!(socket.closed(), 1008);
    assert_eq!(open(app.port, "/ws", &[("x-api-key", "a-key-that-ends-very-soon")]).err().unwrap().0, 401);
}

#[test]
fn s2_57_what_is_under_way_is_answered_before_the_end() {
    let slow = web(|_| {
        std::thread::sleep(Duration::from_millis(1500));
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow".to_vec()
    });
    let (dir, host) = (fresh_dir("content-ws-stop"), format!("127.0.0.1:{slow}"));
    let mut child = crate::app::command(&dir, "content", &[("CONTENT_FETCH_HOSTS", &host)])
        .args(["--mode", "sse", "--port", "0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let at = lines.find_map(|line| line.unwrap().split_once(" is at http://").map(|(_, at)| at.to_owned())).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    let port: u16 = at.split(':').nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let [mut idle, mut busy] = [0, 1].map(|_| open(port, "/ws", &[]).unwrap());
    idle.shake_hands("2025-06-18");
    busy.shake_hands("2025-06-18");
    let upload = json!({"owner_id": ADA, "name": "n", "data": format!("http://{host}/")});
    let call = json!({"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "upload_content", "arguments": upload}});
    busy.send(&call.to_string());
    std::thread::sleep(Duration::from_millis(300));
    std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(idle.closed(), 1001);
    let answer = busy.message();
    assert!(answer["id"] == 9 && answer["result"]["isError"] != true, "{answer}");
    assert_eq!(busy.closed(), 1001);
    assert!(child.wait().unwrap().success());
    std::fs::remove_dir_all(dir).unwrap();
}
