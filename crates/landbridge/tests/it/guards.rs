//! Who may call: host names, origins, CORS, public addresses; and the two URLs for probes.

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Command, Stdio};

use serde_json::json;

use crate::gateway::Gateway;
use crate::wire::{Response, Wire};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

fn post(gateway: &Gateway, headers: &[(&str, &str)]) -> Response {
    gateway.wire().post("/mcp", headers, PING)
}

/// Passed by the guard: what the endpoint itself says to a ping without a session.
#[track_caller]
fn assert_passes(gateway: &Gateway, headers: &[(&str, &str)]) {
    assert_eq!(post(gateway, headers).status, 400, "{headers:?}");
}

#[track_caller]
fn assert_forbidden(gateway: &Gateway, headers: &[(&str, &str)]) {
    for (method, path) in
        [("POST", "/mcp"), ("GET", "/sse"), ("POST", "/messages"), ("DELETE", "/mcp"), ("OPTIONS", "/mcp"), ("GET", "/"), ("GET", "/no")]
    {
        let said = gateway.wire().request(method, path, headers, (method == "POST").then_some(PING));
        assert_eq!((said.status, said.header("content-type")), (403, Some("application/json")), "{method} {path} {headers:?}");
        assert_eq!(said.json()["error"]["code"], -32000);
        assert_eq!(said.header("access-control-allow-origin"), None);
    }
}

#[test]
fn a_page_elsewhere_cannot_call() {
    let gateway = Gateway::start(&[]);
    for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "mcp.example.com"] {
        assert_forbidden(&gateway, &[("host", host)]);
    }
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1@evil.example", "file://localhost", ""]
    {
        assert_forbidden(&gateway, &[("origin", origin)]);
    }
    assert_forbidden(&gateway, &[("host", "localhost"), ("origin", "http://localhost"), ("origin", "https://evil.example")]);
    assert_forbidden(&gateway, &[("host", "localhost"), ("host", "evil.example")]);
}

#[test]
fn whoever_is_on_this_machine_can_call_by_any_of_its_names() {
    let gateway = Gateway::start(&[]);
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:65535", "127.1.2.3", "[::1]", "[::1]:8808"] {
        assert_passes(&gateway, &[("host", host)]);
    }
    for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5"] {
        assert_passes(&gateway, &[("origin", origin)]);
    }
}

#[test]
fn more_names_can_be_allowed() {
    let gateway = Gateway::start(&["--allow-host", "mcp.example.com", "--allow-host", "other.example:81"]);
    for host in ["mcp.example.com", "MCP.example.com:8443", "other.example:81", "localhost"] {
        assert_passes(&gateway, &[("host", host)]);
    }
    for host in ["sub.mcp.example.com", "mcp.example.com.evil", "other.example", "other.example:82"] {
        assert_forbidden(&gateway, &[("host", host)]);
    }
}

/// A Landbridge at an address of its own choice, ended when dropped.
struct At {
    child: std::process::Child,
    port: u16,
    page: String,
    /// Held open.
    _out: Option<BufReader<ChildStdout>>,
}

impl At {
    /// Starts `landbridge serve` at this address and reads the page it prints.
    fn address(address: &str, args: &[&str]) -> At {
        let mut at = At::unread(address, args);
        let mut out = BufReader::new(at.child.stdout.take().unwrap());
        while !at.page.contains("Stop with") && out.read_line(&mut at.page).unwrap() > 0 {}
        at._out = Some(out);
        at
    }

    /// The same, without reading what it prints.
    fn unread(address: &str, args: &[&str]) -> At {
        // Found beforehand: the page may name a public URL instead.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_landbridge"))
            .args(["serve", "--listen", &format!("{address}:{port}")])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        At { child, port, page: String::new(), _out: None }
    }

    fn status(&self, headers: &[(&str, &str)]) -> u16 {
        Wire::connect(self.port).post("/mcp", headers, PING).status
    }
}

impl Drop for At {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn behind_a_proxy_the_public_url_is_known() {
    let gateway = At::address("127.0.0.1", &["--public-url", "https://mcp.example.com/"]);
    let page = &gateway.page;
    assert!(page.contains("https://mcp.example.com/mcp") && !page.contains(&gateway.port.to_string()), "{page}");
    assert_eq!(gateway.status(&[("host", "mcp.example.com")]), 400);
    assert_eq!(gateway.status(&[("host", "mcp.example.com"), ("origin", "https://mcp.example.com")]), 400);
    assert_eq!(gateway.status(&[("host", "mcp.example.com"), ("origin", "https://evil.example")]), 403);
    assert_eq!(gateway.status(&[("host", "evil.example")]), 403);
}

// --- CORS ---------------------------------------------------------------------------------------

const APP: &str = "https://app.example.com";

#[test]
fn a_page_that_may_call_can_read_answers_and_refusals() {
    let gateway = Gateway::start(&["--allow-origin", APP]);
    let readable = |said: &Response, what: &str| {
        assert_eq!(said.header("access-control-allow-origin"), Some(APP), "{what}");
        assert!(said.header("vary").is_some_and(|v| v.to_ascii_lowercase().contains("origin")), "{what}");
        assert!(said.header("access-control-expose-headers").unwrap().to_ascii_lowercase().contains("mcp-session-id"), "{what}");
    };
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let from = [("origin", APP)];
    let said = gateway.wire().post("/mcp", &from, &hello.to_string());
    assert_eq!(said.status, 200);
    readable(&said, "an answer");
    for (status, said) in [
        (400, post(&gateway, &from)),
        (404, post(&gateway, &[from[0], ("mcp-session-id", "gone")])),
        (400, gateway.wire().post("/mcp", &from, "{")),
        (415, post(&gateway, &[from[0], ("content-type", "text/plain")])),
        (404, gateway.wire().request("GET", "/no/such", &from, None)),
        (405, gateway.wire().request("PUT", "/mcp", &from, None)),
        (403, post(&gateway, &[from[0], ("host", "evil.example")])),
    ] {
        assert_eq!(said.status, status);
        readable(&said, &status.to_string());
    }
    let stream = gateway.wire().open("GET", "/sse", &[from[0], ("accept", "text/event-stream")], None);
    assert_eq!((stream.status, stream.header("access-control-allow-origin")), (200, Some(APP)));
}

#[test]
fn a_browser_asks_first_and_is_told_what_it_may_send() {
    let gateway = Gateway::start(&["--allow-origin", APP]);
    let asked = "content-type,mcp-session-id,mcp-protocol-version,mcp-method,mcp-name,last-event-id,Mcp-Param-Region";
    let headers = [("origin", APP), ("access-control-request-method", "POST"), ("access-control-request-headers", asked)];
    let said = gateway.wire().request("OPTIONS", "/mcp", &headers, None);
    assert_eq!((said.status, said.body.len()), (204, 0));
    assert_eq!(said.header("access-control-allow-origin"), Some(APP));
    let allowed = said.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
    let allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
    for header in asked.to_ascii_lowercase().split(',') {
        assert!(allowed.contains(&header), "{header} is missing: {allowed:?}");
    }
    assert_eq!(said.header("access-control-allow-methods"), Some("GET, POST, DELETE, OPTIONS"));
}

#[test]
fn where_every_page_may_call_that_is_what_they_are_told() {
    let gateway = Gateway::start(&["--allow-origin", "*"]);
    let preflight = [("origin", APP), ("access-control-request-method", "POST")];
    for said in [post(&gateway, &preflight[..1]), gateway.wire().request("OPTIONS", "/mcp", &preflight, None)] {
        assert_eq!(said.header("access-control-allow-origin"), Some("*"));
        assert_eq!((said.header("access-control-allow-credentials"), said.header("vary")), (None, None));
    }
    assert_eq!(post(&gateway, &[]).header("access-control-allow-origin"), None);
}

#[test]
fn a_page_that_was_not_named_reads_nothing() {
    let named = Gateway::start(&["--allow-origin", APP]);
    assert_forbidden(&named, &[("origin", "https://app.example.com:444")]);
    assert_forbidden(&named, &[("origin", "http://app.example.com")]);
    let plain = Gateway::start(&[]);
    for (gateway, origin) in [(&named, "http://localhost:3000"), (&plain, "http://localhost:3000")] {
        let said = post(gateway, &[("origin", origin)]);
        assert_eq!((said.status, said.header("access-control-allow-origin")), (400, None), "pages on loopback call, and read nothing");
        let said = gateway.wire().request("OPTIONS", "/mcp", &[("origin", origin), ("access-control-request-method", "POST")], None);
        assert_eq!(said.header("access-control-allow-origin"), None);
    }
    assert_eq!(post(&plain, &[]).header("access-control-allow-origin"), None);
}

// --- public addresses ---------------------------------------------------------------------------

#[test]
fn a_public_address_must_be_meant() {
    let refused = Command::new(env!("CARGO_BIN_EXE_landbridge")).args(["serve", "--listen", "0.0.0.0:0"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && refused.stdout.is_empty());
    assert!(said.contains("0.0.0.0:0") && said.contains("--insecure-public"), "{said}");

    let gateway = At::address("0.0.0.0", &["--insecure-public", "--allow-host", "mcp.example.com"]);
    assert_eq!(gateway.status(&[("host", "mcp.example.com")]), 400);
    assert_eq!(gateway.status(&[("host", "mcp.example.com"), ("origin", "https://evil.example")]), 403);
    assert_eq!(gateway.status(&[("host", "evil.example")]), 403);
    // By that name only: `localhost` is whoever a page's browser runs on.
    assert_eq!(gateway.status(&[("host", "localhost")]), 403);
}

#[test]
fn nobody_need_read_what_it_prints() {
    let mut gateway = At::unread("127.0.0.1", &[]);
    drop(gateway.child.stdout.take());
    crate::gateway::wait_until("the gateway to listen", || std::net::TcpStream::connect(("127.0.0.1", gateway.port)).is_ok());
    assert_eq!(Wire::connect(gateway.port).request("GET", "/healthz", &[], None).status, 200);
}

// --- probes -------------------------------------------------------------------------------------

#[test]
fn probes_come_by_any_name_and_learn_whether_it_is_up() {
    let gateway = Gateway::fixture(&[], &["legacy"]);
    for path in ["/healthz", "/readyz"] {
        let said = gateway.wire().request("GET", path, &[("host", "10.1.2.3:8808")], None);
        assert_eq!(said.status, 200, "{path}: {}", said.text());
    }
}

#[test]
fn a_server_that_cannot_start_is_not_ready_and_says_why() {
    let gateway = Gateway::fixture(&[], &["dies-at-once"]);
    assert_eq!(gateway.wire().request("GET", "/healthz", &[], None).status, 200);
    for _ in 0..2 {
        let said = gateway.wire().request("GET", "/readyz", &[], None);
        assert_eq!(said.status, 503);
        assert!(said.text().contains(landbridge_fixtures::STILLBORN_WORDS) && said.text().contains("mcp-fixture"), "{}", said.text());
    }
}
