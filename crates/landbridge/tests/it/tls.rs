//! TLS at our own listener: both versions of HTTP, certificates that change, peers that are slow, and the end.

use std::io::Read as _;
use std::process::Command;
use std::time::Duration;

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::gateway::{Gateway, config_file, signal, slow, stateless_request, tool, up_to_answer, wait_until};
use crate::secure::{Client, Files, connect, message, shown, tunnel};

const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
const BOTH: [&str; 2] = ["http/1.1", "h2"];

/// A gateway with these limits that shows these files.
fn limited(files: &Files, limits: &str) -> Gateway {
    let file = config_file(&format!("[limits]\n{limits}\n"));
    let gateway = files.gateway(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    gateway
}

/// A session, initialized; its id.
async fn session(client: &mut Client) -> String {
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let response = client.send("POST", "/mcp", &[], &hello.to_string()).await.unwrap();
    assert_eq!(response.status(), 200);
    let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    response.into_body().collect().await.unwrap();
    let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string();
    assert_eq!(client.ask("POST", "/mcp", &of(&id), &done).await.0, 202);
    id
}

fn of(session: &str) -> [(&str, &str); 2] {
    [("mcp-session-id", session), ("mcp-protocol-version", "2025-06-18")]
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_served() {
    let gateway = Files::new().gateway(&[]);
    for protocol in BOTH {
        let mut client = Client::new(gateway.port, protocol).await;
        assert_eq!(client.ask("GET", "/healthz", &[], "").await, (200, "ok\n".into()));
        assert_eq!(client.ask("GET", "/readyz", &[], "").await.0, 200);
        let (_, page) = client.ask("GET", "/", &[], "").await;
        assert!(page.contains("demo: https://localhost/mcp (Streamable HTTP)") && page.contains("you: 127.0.0.1"), "{page}");
        // The host of the URL is judged, whichever way it is told.
        let (status, why) = client.ask("GET", "/", &[("host", "evil.example")], "").await;
        assert!(status == 403 && why.contains("evil.example"), "{protocol}: {status} {why}");
        let (headers, body) = stateless_request(7, "tools/call", json!({"name": "echo", "arguments": {"message": "hi"}}));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let (status, answer) = client.ask("POST", "/mcp", &headers, &body).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["result"]["content"][0]["text"]), (200, &json!("hi")), "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_its_streams_share_a_connection_of_http2() {
    let gateway = Files::new().gateway(&[]);
    let mut client = Client::new(gateway.port, "h2").await;
    let id = session(&mut client).await;
    let listening = [of(&id)[0], of(&id)[1], ("accept", "text/event-stream")];
    let get = client.send("GET", "/mcp", &listening, "").await.unwrap();
    assert_eq!(get.status(), 200);
    // Several calls at once, each with progress before its answer.
    let mut streams = Vec::new();
    for n in 10..14 {
        streams.push((n, client.send("POST", "/mcp", &of(&id), &slow(n, 3, 50).to_string()).await.unwrap().into_body()));
    }
    for (n, mut stream) in streams {
        let (mut read, mut notes) = (String::new(), 0);
        loop {
            let said = message(&mut stream, &mut read).await.expect("the answer");
            match said.get("result") {
                Some(_) => break assert_eq!((&said["id"], notes), (&json!(n), 3)),
                None => notes += 1,
            }
        }
    }
    // HTTP+SSE on the same connection.
    let mut sse = client.send("GET", "/sse", &[("accept", "text/event-stream")], "").await.unwrap().into_body();
    let first = sse.frame().await.unwrap().unwrap().into_data().unwrap();
    let path = String::from_utf8(first.to_vec()).unwrap().lines().find_map(|l| l.strip_prefix("data: ").map(str::to_owned)).unwrap();
    assert!(path.starts_with("/messages?"), "{path}");
    assert_eq!(client.ask("POST", &path, &[], PING).await.0, 202);
    assert_eq!(message(&mut sse, &mut String::new()).await.unwrap()["id"], 1);
    // One stream is given up, and the others go on.
    drop(get);
    assert_eq!(client.ask("DELETE", "/mcp", &of(&id), "").await.0, 204);
    assert_eq!(client.ask("POST", "/mcp", &of(&id), PING).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_changes_is_shown_and_nobody_is_dropped() {
    let files = Files::new();
    let gateway = files.gateway(&[]);
    let first = shown(gateway.port, "localhost").await.unwrap();
    let mut clients = [Client::new(gateway.port, BOTH[0]).await, Client::new(gateway.port, BOTH[1]).await];
    let second = files.replace();
    wait_until("the other certificate", || gateway.log().contains("another certificate is shown; it expires in"));
    assert!(first != second && shown(gateway.port, "localhost").await.unwrap() == second);
    for client in &mut clients {
        assert_eq!(client.ask("GET", "/healthz", &[], "").await.0, 200);
    }
    // One that is no good is refused, and told.
    std::fs::write(files.cert(), "no certificate").unwrap();
    gateway.wait_for_log("has no certificate in it");
    gateway.wait_for_log("the certificate that was shown before still is");
    assert_eq!(shown(gateway.port, "localhost").await.unwrap(), second);
    // So is a key of another one.
    let third = files.replace();
    wait_until("the third certificate", || gateway.log().matches("another certificate is shown").count() == 2);
    std::fs::write(files.key(), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    gateway.wait_for_log("does not belong to the key");
    assert_eq!(shown(gateway.port, "localhost").await.unwrap(), third);
    // Told to look, it looks.
    let said = gateway.log().matches("does not belong to the key").count();
    signal(gateway.pid(), "HUP");
    wait_until("another refusal", || gateway.log().matches("does not belong to the key").count() > said);
}

#[test]
fn nothing_starts_with_files_that_are_no_good() {
    let (files, other) = (Files::new(), Files::new());
    let run = |cert: &str, key: &str, more: &[&str]| {
        let mut all = vec!["serve", "--listen", "127.0.0.1:0", "--tls-cert", cert];
        all.extend(if key.is_empty() { vec![] } else { vec!["--tls-key", key] });
        let said = Command::new(env!("CARGO_BIN_EXE_landbridge")).args(all).args(more).output().unwrap();
        assert!(!said.status.success() && said.stdout.is_empty());
        String::from_utf8(said.stderr).unwrap()
    };
    for (cert, key, part) in [
        (files.directory.path("no.pem"), files.key(), "no.pem cannot be read: No such file"),
        (files.cert(), files.directory.path("no.pem"), "the key "),
        (files.key(), files.key(), "has no certificate in it"),
        (files.cert(), files.cert(), "has no private key in it"),
        (files.cert(), other.key(), "does not belong to the key"),
        (files.cert(), String::new(), "a certificate needs its key"),
    ] {
        let said = run(&cert, &key, &[]);
        assert!(said.contains(part) && said.lines().count() == 1, "{said}");
    }
    let said = Command::new(env!("CARGO_BIN_EXE_landbridge"))
        .args(["serve", "--listen", "0.0.0.0:0", "--tls-cert", &files.cert(), "--tls-key", &files.key()])
        .output()
        .unwrap();
    // TLS keeps secrets; it lets everybody in.
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("--insecure-public"));
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let files = Files::new();
    assert!(!files.gateway(&[]).log().contains("can be read by everybody"));
    std::fs::set_permissions(files.key(), std::fs::Permissions::from_mode(0o644)).unwrap();
    files.gateway(&[]).wait_for_log("key.pem can be read by everybody on this machine");
}

#[test]
fn a_certificate_that_expires_soon_is_told() {
    let files = Files::new();
    for (days, part) in [(-3, "the certificate expired 2 days ago"), (3, "the certificate expires in"), (40, "")] {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let midnight = Duration::from_secs(now.as_secs() / 86_400 * 86_400);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + midnight;
        params.not_after = if days < 0 {
            params.not_after - Duration::from_secs(86_400 * 2)
        } else {
            params.not_after + Duration::from_secs(86_400 * days as u64)
        };
        std::fs::write(files.cert(), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(files.key(), key.serialize_pem()).unwrap();
        let gateway = files.gateway(&[]);
        if part.is_empty() {
            assert!(!gateway.log().contains("expire"), "{}", gateway.log());
        } else {
            gateway.wait_for_log(part);
        }
    }
}

// --- peers that are slow --------------------------------------------------------------------------

#[test]
fn a_handshake_must_be_done_in_time() {
    let gateway = limited(&Files::new(), "header_timeout_ms = 300");
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut wire = gateway.wire();
        wire.write(bytes);
        assert!(wire.socket().read_to_end(&mut Vec::new()).is_ok(), "it is closed");
    }
    // Plain text is none.
    let mut wire = gateway.wire();
    wire.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut said = Vec::new();
    let _ = wire.socket().read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP/"), "{said:?}");
    gateway.wait_for_log("a handshake took too long");
    gateway.wait_for_log("a handshake failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_http2_that_nobody_uses_is_closed() {
    let gateway = limited(&Files::new(), "header_timeout_ms = 500");
    let mut idle = Client::new(gateway.port, "h2").await;
    let mut used = Client::new(gateway.port, "h2").await;
    let mut stream = used.send("GET", "/sse", &[("accept", "text/event-stream")], "").await.unwrap().into_body();
    let Client::Two(sender) = &mut idle else { unreachable!() };
    wait_until("the idle connection to be closed", || sender.is_closed());
    let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    let path = String::from_utf8(first.to_vec()).unwrap().lines().find_map(|l| l.strip_prefix("data: ").map(str::to_owned)).unwrap();
    assert_eq!(used.ask("POST", &path, &[], PING).await.0, 202);
    assert_eq!(message(&mut stream, &mut String::new()).await.unwrap()["id"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_is_gone_after_a_while() {
    let gateway = limited(&Files::new(), "write_timeout_ms = 500\nqueue_bytes = 100000000");
    let call = tool(2, "echo", json!({"message": "x".repeat(200_000)})).to_string();
    for protocol in BOTH {
        let mut unread = Client::new(gateway.port, protocol).await;
        let mut other = Client::new(gateway.port, protocol).await;
        let mut stream = unread.send("GET", "/sse", &[("accept", "text/event-stream")], "").await.unwrap().into_body();
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        let path = String::from_utf8(first.to_vec()).unwrap().lines().find_map(|l| l.strip_prefix("data: ").map(str::to_owned)).unwrap();
        let mut last = 202;
        for _ in 0..60 {
            last = other.ask("POST", &path, &[], &call).await.0;
        }
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        while last != 404 {
            assert!(tokio::time::Instant::now() < until, "{protocol}: the session outlives its connection");
            last = other.ask("POST", &path, &[], PING).await.0;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_may_be_so_large() {
    let gateway = limited(&Files::new(), "header_bytes = 8192");
    let mut client = Client::new(gateway.port, "h2").await;
    let filler = "x".repeat(12_000);
    let said = client.send("GET", "/healthz", &[("x-filler", &filler)], "").await;
    assert!(said.as_ref().map_or(true, |said| said.status() == 431), "{said:?}");
    assert_eq!(Client::new(gateway.port, "h2").await.ask("GET", "/healthz", &[], "").await.0, 200);
}

// --- the end --------------------------------------------------------------------------------------

#[test]
fn running_calls_are_done_before_the_end() {
    let mut gateway = limited(&Files::new(), "drain_ms = 20000");
    let plain = Gateway::at(tunnel(gateway.port));
    let (busy, idler) = (plain.session("2025-06-18"), plain.session("2025-06-18"));
    let mut running = busy.stream(&slow(2, 20, 50));
    running.message().unwrap();
    let mut get = idler.get(None);
    let mut sse = plain.sse("2024-11-05");
    signal(gateway.pid(), "TERM");
    assert!(get.is_over() && sse.stream.is_over());
    let left = up_to_answer(&mut running, 2);
    assert!(left.len() > 1 && left.last().unwrap().get("result").is_some(), "{left:?}");
    assert!(gateway.wait().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn running_calls_of_http2_are_done_before_the_end() {
    let mut gateway = limited(&Files::new(), "drain_ms = 20000");
    let mut client = Client::new(gateway.port, "h2").await;
    let id = session(&mut client).await;
    let listening = [of(&id)[0], of(&id)[1], ("accept", "text/event-stream")];
    let mut get = client.send("GET", "/mcp", &listening, "").await.unwrap().into_body();
    let mut running = client.send("POST", "/mcp", &of(&id), &slow(2, 20, 50).to_string()).await.unwrap().into_body();
    let mut read = String::new();
    message(&mut running, &mut read).await.unwrap();
    signal(gateway.pid(), "TERM");
    let mut last = Value::Null;
    while let Some(said) = message(&mut running, &mut read).await {
        last = said;
    }
    assert!(last["id"] == 2 && last.get("result").is_some(), "{last}");
    assert!(message(&mut get, &mut String::new()).await.is_none());
    assert!(tokio::task::spawn_blocking(move || gateway.wait()).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_http_is_agreed_on() {
    let gateway = Files::new().gateway(&[]);
    assert!(connect(gateway.port, "localhost", &["acme-tls/1"]).await.is_err(), "nobody asked for challenges");
    let silent = connect(gateway.port, "localhost", &[]).await.unwrap();
    assert_eq!(silent.get_ref().1.alpn_protocol(), None);
    let both = connect(gateway.port, "localhost", &["http/1.1", "h2"]).await.unwrap();
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}
