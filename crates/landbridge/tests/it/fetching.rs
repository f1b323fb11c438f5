//! Documents that strangers name: an Internet on loopback, where a host is at whatever address a test says, and every
//! connection ends at a real server over TLS.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use landbridge::fetch::documents::Documents;
use landbridge::fetch::{Bounds, Boxed, Fetcher, Host, Network, Reach, Trouble};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const NOW_S: u64 = 1_000_000;
const PUBLIC: &str = "93.184.216.34";

/// Hosts with their addresses, as the next lookups will say; the last stays.
#[derive(Debug)]
struct Internet {
    port: u16,
    hosts: Mutex<HashMap<String, Vec<Vec<&'static str>>>>,
    looked_up: Mutex<Vec<String>>,
    connected: Mutex<Vec<SocketAddr>>,
    heard: Mutex<Vec<String>>,
}

impl Network for Internet {
    fn resolve<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
        self.looked_up.lock().unwrap().push(host.to_owned());
        let mut hosts = self.hosts.lock().unwrap();
        let found = hosts.get_mut(host).map(|said| if said.len() > 1 { said.remove(0) } else { said[0].clone() });
        let found = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        Box::pin(async move { found.map(|all| all.iter().map(|address| address.parse().unwrap()).collect()) })
    }

    fn connect(&self, address: SocketAddr) -> Boxed<'_, io::Result<TcpStream>> {
        self.connected.lock().unwrap().push(address);
        match address.ip().to_string().as_str() {
            "1.1.1.1" => Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) }),
            "1.0.0.1" => Box::pin(std::future::pending()),
            _ => Box::pin(TcpStream::connect(("127.0.0.1", self.port))),
        }
    }
}

/// An Internet, and a client that believes its certificates.
struct World {
    internet: Arc<Internet>,
    tls: rustls::ClientConfig,
}

impl World {
    /// Every host that is asked for here has a certificate, but `unknown.example`.
    async fn new() -> World {
        let names = ["a.example", "b.example", "*.many.example", "localhost", PUBLIC, "127.0.0.1"].map(str::to_owned);
        let key = rcgen::generate_simple_self_signed(names).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(key.cert.der().clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(roots).with_no_client_auth();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let internet =
            Internet { port, hosts: Mutex::default(), looked_up: Mutex::default(), connected: Mutex::default(), heard: Mutex::default() };
        let internet = Arc::new(internet);
        tokio::spawn({
            let internet = internet.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, internet) = (acceptor.clone(), internet.clone());
                    tokio::spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let _ = answer(stream, &internet).await;
                    });
                }
            }
        });
        let world = World { internet, tls };
        for host in ["a.example", "b.example", "unknown.example"] {
            world.host(host, &[&[PUBLIC]]);
        }
        world
    }

    fn host(&self, name: &str, said: &[&[&'static str]]) {
        self.internet.hosts.lock().unwrap().insert(name.into(), said.iter().map(|all| all.to_vec()).collect());
    }

    fn fetcher(&self, reach: Reach) -> Fetcher {
        Fetcher::with_tls(reach, self.tls.clone()).on(self.internet.clone())
    }

    async fn get(&self, url: &str) -> Result<String, Trouble> {
        self.get_within(url, &Bounds::DOCUMENT).await
    }

    async fn get_within(&self, url: &str, bounds: &Bounds) -> Result<String, Trouble> {
        self.fetcher(Reach::Public).get(url, bounds, NOW_S).await.map(|fetched| fetched.text)
    }

    fn heard(&self) -> Vec<String> {
        self.internet.heard.lock().unwrap().clone()
    }

    fn connected(&self) -> Vec<String> {
        self.internet.connected.lock().unwrap().iter().map(SocketAddr::to_string).collect()
    }
}

/// What is at the URLs of every host.
async fn answer(mut stream: TlsStream<TcpStream>, internet: &Internet) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    internet.heard.lock().unwrap().push(format!("{head}{}", String::from_utf8(body).unwrap()));
    let path = head.split(' ').nth(1).unwrap().to_owned();

    let whole = |status: u16, headers: &str, body: &str| {
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
    };
    let response = match path.as_str() {
        "/kept" => whole(200, "cache-control: public\r\ncache-control: max-age=600\r\nage: 100\r\n", "{}"),
        "/never" => whole(200, "cache-control: no-store\r\n", "{}"),
        "/expires" => whole(200, "expires: Mon, 12 Jan 1970 14:46:40 GMT\r\ndate: Mon, 12 Jan 1970 13:46:40 GMT\r\n", "{}"),
        "/full" => whole(200, "", &" ".repeat(64 * 1024)),
        "/long" => whole(200, "", &" ".repeat(64 * 1024 + 1)),
        "/closing" => b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n{\"x\":1}".to_vec(),
        "/endless" | "/slow" => {
            stream.write_all(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                stream.write_all(format!("400\r\n{}\r\n", " ".repeat(1024)).as_bytes()).await?;
                stream.flush().await?;
                if path == "/slow" {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        "/stuck" => std::future::pending().await,
        "/packed" => whole(200, "content-encoding: gzip\r\n", "x"),
        "/bytes" => b"HTTP/1.1 200 X\r\ncontent-length: 1\r\n\r\n\xff".to_vec(),
        "/head" => whole(200, &format!("x: {}\r\n", "x".repeat(100_000)), "{}"),
        "/headers" => whole(200, &"x: y\r\n".repeat(200), "{}"),
        "/none" => whole(404, "", "no"),
        "/empty" => b"HTTP/1.1 204 X\r\n\r\n".to_vec(),
        "/cut" => b"HTTP/1.1 200 X\r\ncontent-length: 10\r\n\r\n{".to_vec(),
        "/garbage" => b"SSH-2.0-x\r\n\r\n".to_vec(),
        "/nowhere" => whole(302, "", ""),
        path => match path.strip_prefix("/to?") {
            Some(to) => whole(302, &format!("location: {to}\r\nset-cookie: a=b\r\n"), ""),
            None => whole(200, "", path),
        },
    };
    stream.write_all(&response).await?;
    stream.shutdown().await
}

fn is_forbidden(got: &Result<String, Trouble>) -> bool {
    matches!(got, Err(Trouble::Forbidden(_)))
}

#[tokio::test]
async fn a_document_is_fetched_and_nothing_of_us_with_it() {
    let world = World::new().await;
    assert_eq!(world.get("https://a.example/x/y").await, Ok("/x/y".into()));
    assert_eq!(world.get("https://a.example:8443").await, Ok("/".into()));
    assert_eq!(world.get("https://A.Example/closing").await, Ok("{\"x\":1}".into()));
    assert_eq!(world.get(&format!("https://{PUBLIC}/x")).await, Ok("/x".into()));
    assert_eq!(world.connected(), ["93.184.216.34:443", "93.184.216.34:8443", "93.184.216.34:443", "93.184.216.34:443"]);
    let heard = world.heard();
    assert!(heard[0].starts_with("GET /x/y HTTP/1.1\r\nhost: a.example\r\n"), "{heard:?}");
    assert!(heard[1].starts_with("GET / HTTP/1.1\r\nhost: a.example:8443\r\n"), "{heard:?}");
    assert!(heard[0].contains("accept: application/json\r\n"), "{heard:?}");
    for private in ["cookie", "authorization", "referer", "origin", "forwarded"] {
        assert!(!heard[0].contains(private), "{heard:?}");
    }
}

#[tokio::test]
async fn what_may_be_kept_is_said_by_its_headers() {
    let world = World::new().await;
    for (path, keep_s) in [("/kept", 500), ("/never", 60), ("/x", 300), ("/expires", 3600)] {
        let fetched = world.fetcher(Reach::Public).get(&format!("https://a.example{path}"), &Bounds::DOCUMENT, NOW_S).await.unwrap();
        assert_eq!(fetched.keep_s, keep_s, "{path}");
    }
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_connected_to_however_they_are_spelled() {
    let world = World::new().await;
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.01",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "172.16.0.1",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::169.254.169.254]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[fd00::1]",
        "user@127.0.0.1",
        "a.example@127.0.0.1",
        "127.0.0.1#@a.example",
        "127.0.0.1\\@a.example",
    ] {
        let got = world.get(&format!("https://{host}/x")).await;
        assert!(is_forbidden(&got), "{host}: {got:?}");
    }
    for url in ["http://a.example/x", "http://127.0.0.1/x", "file:///etc/passwd", "ftp://a.example", "a.example", "//a.example", ""] {
        let got = world.get(url).await;
        assert!(is_forbidden(&got), "{url}: {got:?}");
    }
    // A name leads there too: alone, and beside one that is public, whichever comes first.
    for said in [
        &["127.0.0.1"][..],
        &["10.1.2.3"],
        &["::1"],
        &["::ffff:169.254.169.254"],
        &["64:ff9b::a00:1"],
        &["fd12::1"],
        &[PUBLIC, "192.168.1.1"],
        &["192.168.1.1", PUBLIC],
    ] {
        world.host("inside.example", &[said]);
        let got = world.get("https://inside.example/x").await;
        assert!(is_forbidden(&got), "{said:?}: {got:?}");
    }
    world.host("localhost", &[&["127.0.0.1"]]);
    assert!(is_forbidden(&world.get("https://localhost/x").await));
    assert_eq!(world.connected(), [""; 0]);
}

#[tokio::test]
async fn a_name_is_looked_up_once() {
    let world = World::new().await;
    // What a rebinding name says: first something public, then what it is after.
    world.host("a.example", &[&[PUBLIC], &["127.0.0.1"]]);
    assert_eq!(world.get("https://a.example/x").await, Ok("/x".into()));
    assert_eq!(world.connected(), ["93.184.216.34:443"]);
    assert_eq!(*world.internet.looked_up.lock().unwrap(), ["a.example"]);
    assert!(is_forbidden(&world.get("https://a.example/x").await));
    // And across a redirect, which begins anew.
    world.host("a.example", &[&[PUBLIC], &["127.0.0.1"]]);
    let bounds = Bounds { n_redirects: 3, ..Bounds::DOCUMENT };
    assert!(is_forbidden(&world.get_within("https://a.example/to?/x", &bounds).await));
    assert_eq!(world.connected().len(), 2);
}

#[tokio::test]
async fn the_certificate_must_be_for_the_name() {
    let world = World::new().await;
    let got = world.get("https://unknown.example/x").await;
    assert!(matches!(&got, Err(Trouble::Silent(why)) if why.contains("TLS")), "{got:?}");
    let roots = rustls::RootCertStore::empty();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let strict = Fetcher::with_tls(Reach::Public, tls.with_root_certificates(roots).with_no_client_auth()).on(world.internet.clone());
    let got = strict.get("https://a.example/x", &Bounds::DOCUMENT, NOW_S).await;
    assert!(matches!(&got, Err(Trouble::Silent(why)) if why.contains("certificate")), "{got:?}");
    assert_eq!(world.heard(), [""; 0]);
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let world = World::new().await;
    world.host("a.example", &[&["1.1.1.1", "1.0.0.1", "2606:4700::1"]]);
    assert_eq!(world.get("https://a.example/x").await, Ok("/x".into()));
    assert_eq!(world.connected(), ["1.1.1.1:443", "1.0.0.1:443", "[2606:4700::1]:443"]);
    for said in [&["1.1.1.1"][..], &[]] {
        world.host("a.example", &[said]);
        assert!(matches!(world.get("https://a.example/x").await, Err(Trouble::Silent(_))));
    }
    assert!(matches!(world.get("https://nobody.example/x").await, Err(Trouble::Silent(_))));
}

#[tokio::test]
async fn redirects_are_followed_only_where_asked_for_and_each_is_checked() {
    let world = World::new().await;
    assert!(matches!(world.get("https://a.example/to?/x").await, Err(Trouble::Unusable(_))));
    assert_eq!(world.heard().len(), 1);
    let bounds = Bounds { n_redirects: 3, ..Bounds::DOCUMENT };
    for (to, expected) in [
        ("/x", Ok("/x")),
        ("https://b.example/y", Ok("/y")),
        ("//b.example/y", Ok("/y")),
        ("https://b.example/to?/z", Ok("/z")),
        ("http://b.example/y", Err("the URL is not https")),
        ("https://127.0.0.1/y", Err("the host 127.0.0.1 is not on the public Internet")),
        ("https://[::1]/y", Err("the host [::1] is not on the public Internet")),
        ("https://2130706433/y", Err("the URL has a host that is a number but no IPv4 address")),
        ("https://u@b.example/y", Err("the URL has a user name")),
    ] {
        let got = world.get_within(&format!("https://a.example/to?{to}"), &bounds).await;
        assert_eq!(got, expected.map(str::to_owned).map_err(|e| Trouble::Forbidden(e.to_owned())), "{to}");
    }
    for to in ["javascript:alert(1)", "file:///etc/passwd", ""] {
        let got = world.get_within(&format!("https://a.example/to?{to}"), &bounds).await;
        assert!(matches!(got, Err(Trouble::Unusable(_))), "{to}: {got:?}");
    }
    assert!(matches!(world.get_within("https://a.example/nowhere", &bounds).await, Err(Trouble::Unusable(_))));
    let before = world.heard().len();
    let round = format!("https://a.example/to?{}", "/to?".repeat(9));
    assert!(matches!(world.get_within(&round, &bounds).await, Err(Trouble::Unusable(_))));
    assert_eq!(world.heard().len(), before + 4);
    assert!(world.heard().iter().all(|heard| !heard.contains("cookie")));
}

#[tokio::test]
async fn what_is_too_long_too_slow_or_no_document_is_none() {
    let world = World::new().await;
    assert_eq!(world.get("https://a.example/full").await.map(|text| text.len()), Ok(64 * 1024));
    for path in ["long", "endless", "packed", "bytes"] {
        let got = world.get(&format!("https://a.example/{path}")).await;
        assert!(matches!(got, Err(Trouble::Unusable(_))), "{path}: {got:?}");
    }
    for path in ["head", "headers", "cut", "garbage"] {
        let got = world.get(&format!("https://a.example/{path}")).await;
        assert!(matches!(got, Err(Trouble::Silent(_))), "{path}: {got:?}");
    }
    assert_eq!(world.get("https://a.example/none").await, Err(Trouble::Status(404)));
    assert_eq!(world.get("https://a.example/empty").await, Err(Trouble::Status(204)));
    let bounds = Bounds { time: Duration::from_millis(300), ..Bounds::DOCUMENT };
    for path in ["slow", "stuck"] {
        let got = world.get_within(&format!("https://a.example/{path}"), &bounds).await;
        assert_eq!(got, Err(Trouble::Silent("the server did not answer within 300 ms".into())), "{path}");
    }
}

#[tokio::test]
async fn an_operator_may_name_private_hosts_and_http_only_on_this_machine() {
    let world = World::new().await;
    world.host("localhost", &[&["127.0.0.1"]]);
    world.host("a.example", &[&["10.0.0.1"]]);
    let anywhere = world.fetcher(Reach::Anywhere);
    for url in ["https://localhost/x", "https://127.0.0.1/x", "https://a.example/x"] {
        assert_eq!(anywhere.get(url, &Bounds::DOCUMENT, NOW_S).await.unwrap().text, "/x", "{url}");
    }
    for url in ["http://a.example/x", "http://10.0.0.1/x", "http://169.254.169.254/x"] {
        assert!(matches!(anywhere.get(url, &Bounds::DOCUMENT, NOW_S).await, Err(Trouble::Forbidden(_))), "{url}");
    }
    // A `localhost` that is elsewhere is not this machine.
    world.host("localhost", &[&["10.0.0.1"]]);
    assert!(matches!(anywhere.get("http://localhost/x", &Bounds::DOCUMENT, NOW_S).await, Err(Trouble::Forbidden(_))));
}

#[tokio::test]
async fn contents_of_the_web_are_at_http_too_and_only_on_the_public_internet() {
    let world = World::new().await;
    for (host, addresses) in [("localhost", &["127.0.0.1"][..]), ("in.example", &["10.0.0.1"]), ("both.example", &[PUBLIC, "10.0.0.1"])] {
        world.host(host, &[addresses]);
    }
    let web = world.fetcher(Reach::Web);
    assert_eq!(web.content("https://a.example/x", &Bounds::DOCUMENT).await.unwrap().bytes, "/x");
    assert!(world.heard().iter().any(|head| head.contains("accept: */*")), "{:?}", world.heard());
    let n_connected = world.connected().len();
    for url in ["http://localhost/x", "http://127.0.0.1/x", "http://in.example/x", "http://both.example/x", "http://169.254.169.254/x"] {
        assert!(matches!(web.content(url, &Bounds::DOCUMENT).await, Err(Trouble::Forbidden(_))), "{url}");
    }
    assert_eq!(world.connected().len(), n_connected);
    // Gone to, where this world speaks TLS only.
    assert!(matches!(web.content("http://a.example/x", &Bounds::DOCUMENT).await, Err(Trouble::Silent(_))));
    assert_eq!(world.connected().last(), Some(&format!("{PUBLIC}:80")));
}

#[tokio::test]
async fn private_networks_have_documents_only_at_the_hosts_that_are_named() {
    let world = World::new().await;
    let hosts = ["a.example", "127.0.0.1:8443"].map(|host| Host::read(host).unwrap());
    let fetcher = world.fetcher(Reach::Public).or_private_at(&hosts);
    let bounds = Bounds { n_redirects: 3, ..Bounds::DOCUMENT };
    let get = async |url: &str| fetcher.get(url, &bounds, NOW_S).await.map(|fetched| fetched.text);
    for addresses in [&["10.0.0.1"][..], &["192.168.1.1", "fd00::1"], &["127.0.0.1"], &[PUBLIC, "100.64.0.1"]] {
        world.host("a.example", &[addresses]);
        assert_eq!(get("https://a.example/x").await, Ok("/x".into()), "{addresses:?}");
    }
    assert_eq!(get("https://A.Example:443/x").await, Ok("/x".into()));
    assert_eq!(get("https://127.0.0.1:8443/x").await, Ok("/x".into()));
    for (host, address) in [("b.example", "10.0.0.1"), ("x.a.example", "10.0.0.1"), ("localhost", "127.0.0.1")] {
        world.host(host, &[&[address]]);
    }
    let n_connected = world.connected().len();
    for url in [
        "https://a.example:8443/x",
        "https://b.example/x",
        "https://x.a.example/x",
        "https://127.0.0.1/x",
        "https://127.0.0.1:8444/x",
        "https://localhost:8443/x",
        "https://[::1]:8443/x",
        "http://a.example/x",
        "http://127.0.0.1:8443/x",
    ] {
        assert!(is_forbidden(&get(url).await), "{url}");
    }
    // Where clouds keep their secrets is nobody's network.
    for address in ["169.254.169.254", "fe80::1", "0.0.0.0", "::ffff:127.0.0.1", "224.0.0.1"] {
        world.host("a.example", &[&[address]]);
        assert!(is_forbidden(&get("https://a.example/x").await), "{address}");
    }
    assert_eq!(world.connected().len(), n_connected);
    // A redirect leads from there to where everybody may go, and to hosts that are named.
    world.host("a.example", &[&["10.0.0.1"]]);
    for to in ["https://b.example/x", "https://127.0.0.1/x", "https://169.254.169.254/x", "http://a.example/x"] {
        assert!(is_forbidden(&get(&format!("https://a.example/to?{to}")).await), "{to}");
    }
    assert_eq!(get("https://a.example/to?https://127.0.0.1:8443/x").await, Ok("/x".into()));
    for wrong in ["", "https://a.example", "a.example/x", "a.example/", "*.a.example", "u@a.example", "a.example:0", "a b", "127.1"] {
        assert!(Host::read(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_proxy_is_used_only_where_asked_for_and_never_for_an_address_of_ours() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://user:pass@{}", listener.local_addr().unwrap());
    let (told, port) = (Arc::new(Mutex::new(Vec::new())), world.internet.port);
    tokio::spawn({
        let told = told.clone();
        async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                told.lock().unwrap().push(String::from_utf8(head).unwrap());
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        }
    });
    let proxies = Arc::new(Matcher::builder().all(proxy).no("b.example").build());
    let fetcher = world.fetcher(Reach::Public).by(proxies);
    assert_eq!(fetcher.get("https://a.example/x", &Bounds::DOCUMENT, NOW_S).await.unwrap().text, "/x");
    assert_eq!(world.connected(), [""; 0]);
    let head = told.lock().unwrap().remove(0);
    assert!(
        head.starts_with("CONNECT a.example:443 ") && head.to_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnz"),
        "{head}"
    );
    assert!(world.heard().iter().all(|heard| !heard.contains("proxy-authorization")));
    assert!(matches!(fetcher.get("https://10.0.0.1/x", &Bounds::DOCUMENT, NOW_S).await, Err(Trouble::Forbidden(_))));
    // One that is not meant for the proxy is looked up here, and checked.
    world.host("b.example", &[&["10.0.0.1"]]);
    assert!(matches!(fetcher.get("https://b.example/x", &Bounds::DOCUMENT, NOW_S).await, Err(Trouble::Forbidden(_))));
    assert_eq!(told.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_form_goes_with_its_secret_and_no_further() {
    let world = World::new().await;
    let fetcher = world.fetcher(Reach::Public);
    let secret = http::HeaderValue::from_static("Basic x");
    let bounds = Bounds { n_redirects: 3, ..Bounds::DOCUMENT };
    let sent = fetcher.post("https://a.example/x", Some(&secret), "token=a%20b".into(), &bounds, NOW_S).await;
    assert_eq!(sent.unwrap().text, "/x");
    let heard = world.heard();
    assert!(heard[0].starts_with("POST /x ") && heard[0].ends_with("\r\n\r\ntoken=a%20b"), "{heard:?}");
    assert!(heard[0].contains("authorization: Basic x\r\n") && heard[0].contains("application/x-www-form-urlencoded"), "{heard:?}");
    let sent = fetcher.post("https://a.example/to?https://b.example/x", Some(&secret), "token=a".into(), &bounds, NOW_S).await;
    assert!(matches!(sent, Err(Trouble::Unusable(_))));
    assert_eq!(world.heard().len(), 2);
}

#[tokio::test]
async fn documents_are_fetched_once_and_kept_as_long_as_they_say() {
    let world = World::new().await;
    let documents = Arc::new(Documents::new(world.fetcher(Reach::Public), Bounds::DOCUMENT, 64, 1024 * 1024));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let documents = documents.clone();
            tokio::spawn(async move { documents.get("https://a.example/kept", NOW_S).await.unwrap().text.clone() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), "{}");
    }
    assert_eq!(world.heard().len(), 1);
    documents.get("https://a.example/kept", NOW_S + 499).await.unwrap();
    assert_eq!(world.heard().len(), 1);
    documents.get("https://a.example/kept", NOW_S + 500).await.unwrap();
    assert_eq!(world.heard().len(), 2);
    // That there is none is remembered for a while.
    for (after_s, n_heard) in [(0, 3), (4, 3), (5, 4)] {
        assert_eq!(documents.get("https://a.example/none", NOW_S + after_s).await, Err(Trouble::Status(404)));
        assert_eq!(world.heard().len(), n_heard);
    }
}

/// Fetches that never end, each in a task, once their requests were heard.
async fn hold(world: &World, documents: &Arc<Documents>, urls: Vec<String>) -> tokio::task::JoinSet<()> {
    let mut stuck = tokio::task::JoinSet::new();
    let n_heard = world.heard().len() + urls.len();
    for url in urls {
        let documents = documents.clone();
        stuck.spawn(async move { drop(documents.get(&url, NOW_S).await) });
    }
    while world.heard().len() < n_heard {
        tokio::task::yield_now().await;
    }
    stuck
}

#[tokio::test]
async fn only_so_many_documents_are_fetched_at_once_and_no_host_has_the_places_of_others() {
    let world = World::new().await;
    let documents = Arc::new(Documents::new(world.fetcher(Reach::Public), Bounds::DOCUMENT, 64, 1024 * 1024));
    world.host("b.example", &[&["9.9.9.9"]]);
    // One host, however many ports and paths.
    let mut stuck = hold(&world, &documents, (9000..9002).map(|n| format!("https://a.example:{n}/stuck")).collect()).await;
    assert_eq!(documents.get("https://a.example/x", NOW_S).await, Err(Trouble::Busy));
    assert!(documents.get("https://b.example/x", NOW_S).await.is_ok());
    // One address, however many names.
    for n in 0..9 {
        world.host(&format!("{n}.many.example"), &[&[PUBLIC]]);
    }
    let more = hold(&world, &documents, (0..2).map(|n| format!("https://{n}.many.example/stuck")).collect()).await;
    assert_eq!(documents.get("https://2.many.example/x", NOW_S).await, Err(Trouble::Busy));
    assert!(documents.get("https://b.example/y", NOW_S).await.is_ok());
    stuck.shutdown().await;
    assert!(documents.get("https://2.many.example/x", NOW_S).await.is_ok(), "it was given back, and that it was busy is not kept");
    drop(more);
    // And all there are.
    let addresses: [&'static str; 4] = ["8.8.8.1", "8.8.8.2", "8.8.8.3", "8.8.8.4"];
    for n in 0..8 {
        world.host(&format!("{n}.many.example"), &[&addresses[n % 4..=n % 4]]);
    }
    let all = (0..16).map(|n| format!("https://{}.many.example:{}/stuck", n / 2, 9000 + n)).collect();
    let mut stuck = hold(&world, &documents, all).await;
    assert_eq!(documents.get("https://b.example/z", NOW_S).await, Err(Trouble::Busy));
    stuck.shutdown().await;
    assert!(documents.get("https://b.example/z", NOW_S).await.is_ok());
}
