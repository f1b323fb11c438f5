//! Certificates by ACME, from Pebble: an authority that really looks whether a name is ours, refuses half of the
//! numbers it gives, and is forgetful about the rest.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::gateway::{collect, wait_until};
use crate::secure::{Client, Directory, Files, shown};

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process that is ended by its pid.
struct Running {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let name = format!("{:?}", command.get_program());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{name} cannot be started ({e}); run `apt-get install pebble`"));
        let log = collect(child.stderr.take().unwrap());
        Running { child, log }
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority that looks for names at `port` of this machine.
struct Pebble {
    directory: u16,
    management: u16,
    files: Files,
    processes: Vec<Running>,
}

impl Pebble {
    fn start(port: u16) -> Pebble {
        Pebble::with(port, json!({}))
    }

    /// The same with more of its configuration.
    fn with(port: u16, more: serde_json::Value) -> Pebble {
        let (files, directory, management, dns, names) = (Files::new(), free_port(), free_port(), free_port(), free_port());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut config = json!({"pebble": {"listenAddress": at(directory), "managementListenAddress": at(management), "certificate": files.cert(),
            "privateKey": files.key(), "httpPort": 1, "tlsPort": port, "ocspResponderURL": "", "externalAccountBindingRequired": false}});
        for (key, value) in more.as_object().unwrap() {
            config["pebble"][key] = value.clone();
        }
        std::fs::write(files.directory.path("pebble.json"), config.to_string()).unwrap();
        let resolver = Running::start(Command::new("pebble-challtestsrv").args([
            "-dns01",
            &at(dns),
            "-management",
            &at(names),
            "-http01",
            "",
            "-https01",
            "",
            "-tlsalpn01",
            "",
            "-defaultIPv4",
            "127.0.0.1",
            "-defaultIPv6",
            "",
        ]));
        let authority = Running::start(
            Command::new("pebble").args(["-config", &files.directory.path("pebble.json"), "-dnsserver", &at(dns), "-strict"]).envs([
                ("PEBBLE_VA_NOSLEEP", "1"),
                ("PEBBLE_WFE_NONCEREJECT", "30"),
                ("PEBBLE_AUTHZREUSE", "50"),
            ]),
        );
        for port in [directory, management] {
            wait_until("pebble to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        Pebble { directory, management, files, processes: vec![resolver, authority] }
    }

    /// Its root, which it makes anew with each start.
    async fn root(&self) -> rustls::RootCertStore {
        use rustls::pki_types::pem::PemObject as _;
        let (_, pem) = Client::new(self.management, "http/1.1").await.ask("GET", "/roots/0", &[], "").await;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    /// The configuration of a gateway that has its certificate from here.
    fn config(&self, cache: &str, domains: &[&str]) -> String {
        format!(
            "[tls.acme]\ndomains = {domains:?}\ncontact = \"mailto:admin@example.com\"\ndirectory = \"https://localhost:{}/dir\"\ncache = {cache:?}\nca = {:?}\n",
            self.directory,
            self.files.cert(),
        )
    }
}

/// A gateway with that configuration at that port.
fn serve(directory: &Directory, config: &str, port: u16) -> Running {
    let file = directory.path(&format!("{port}.toml"));
    std::fs::write(&file, config).unwrap();
    Running::start(Command::new(env!("CARGO_BIN_EXE_landbridge")).args([
        "serve",
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--config",
        &file,
    ]))
}

async fn certificate(port: u16, name: &str, gateway: &Running) -> rustls::pki_types::CertificateDer<'static> {
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Ok(found) = shown(port, name).await {
            return found;
        }
        assert!(tokio::time::Instant::now() < until, "no certificate; it said:\n{}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_had_by_proof_and_a_restart_asks_for_nothing() {
    let (port, directory) = (free_port(), Directory::new());
    let mut pebble = Pebble::start(port);
    let cache = directory.path("state/acme");
    let config = pebble.config(&cache, &["mcp.example.com", "TWO.example.com"]);
    let gateway = serve(&directory, &config, port);
    let found = certificate(port, "mcp.example.com", &gateway).await;

    // As a client sees it that trusts this authority and nobody else.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trusting = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let trusting = trusting.with_root_certificates(pebble.root().await).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting));
    for name in ["mcp.example.com", "two.example.com"] {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        connector.connect(name.try_into().unwrap(), stream).await.unwrap();
    }
    let mut client = Client::new(port, "h2").await;
    assert_eq!(client.ask("GET", "/", &[("host", "mcp.example.com")], "").await.0, 200);
    assert!(gateway.log().contains("another certificate is shown"), "{}", gateway.log());
    for secret in ["PRIVATE KEY", "\"kid\"", "\"nonce\""] {
        assert!(!gateway.log().contains(secret), "{}", gateway.log());
    }

    // What is kept, nobody else can look into.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let within = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        assert_eq!((mode(cache.as_ref()), mode(&within)), (0o700, 0o700));
        let all: Vec<_> = std::fs::read_dir(within).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(all.len() == 2 && all.iter().all(|path| mode(path) == 0o600), "{all:?}");
    }

    // Nobody is there to be asked.
    drop(gateway);
    pebble.processes.clear();
    let again = serve(&directory, &config, port);
    assert_eq!(certificate(port, "mcp.example.com", &again).await, found);
    assert!(!again.log().contains("asking for a certificate"), "{}", again.log());
    // No challenge is open.
    assert!(crate::secure::connect(port, "mcp.example.com", &["acme-tls/1"]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_near_its_end_is_replaced_while_connections_go_on() {
    let (port, directory) = (free_port(), Directory::new());
    // As long as two thirds of that take.
    let pebble = Pebble::with(port, json!({"certificateValidityPeriod": 15}));
    let config = pebble.config(&directory.path("acme"), &["mcp.example.com"]);
    let gateway = serve(&directory, &config, port);
    let first = certificate(port, "mcp.example.com", &gateway).await;
    let (mut one, mut two) = (Client::new(port, "http/1.1").await, Client::new(port, "h2").await);
    let host = [("host", "mcp.example.com")];
    for client in [&mut one, &mut two] {
        assert_eq!(client.ask("GET", "/", &host, "").await.0, 200);
    }
    // Somebody begins before, and reads on behind.
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
    let opened = two.send("POST", "/mcp", &host, hello).await.unwrap();
    let session = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    drop(http_body_util::BodyExt::collect(opened.into_body()).await.unwrap());
    let session = [host[0], ("mcp-session-id", session.as_str())];
    let stream = two.send("GET", "/mcp", &[&session[..], &[("accept", "text/event-stream")]].concat(), "").await.unwrap();
    assert_eq!(stream.status(), 200);

    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut second = first.clone();
    while second == first {
        assert!(tokio::time::Instant::now() < until, "no other certificate; it said:\n{}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        // There is one at any time.
        second = shown(port, "mcp.example.com").await.unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trusting = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let trusting = trusting.with_root_certificates(pebble.root().await).with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let trusted = tokio_rustls::TlsConnector::from(Arc::new(trusting));
    trusted.connect("mcp.example.com".try_into().unwrap(), tcp).await.unwrap();

    // Those that were there are there, with all that is under way.
    for client in [&mut one, &mut two] {
        assert_eq!(client.ask("GET", "/", &host, "").await.0, 200);
    }
    let mut stream = stream.into_body();
    let ended = tokio::time::timeout(std::time::Duration::from_millis(100), async {
        while http_body_util::BodyExt::frame(&mut stream).await.is_some_and(|frame| frame.is_ok()) {}
    });
    assert!(ended.await.is_err(), "the stream has ended");
    let log = gateway.log();
    assert!(log.matches("another certificate is shown").count() >= 2 && log.matches("asking for a certificate").count() >= 2, "{log}");
    // And what was had is kept: whoever starts anew shows no older one.
    drop(gateway);
    let again = serve(&directory, &config, port);
    assert_ne!(certificate(port, "mcp.example.com", &again).await, first);
}

#[test]
fn a_name_that_leads_elsewhere_is_not_proven() {
    let (port, directory) = (free_port(), Directory::new());
    // At the port where the authority looks is somebody with another certificate.
    let pebble = Pebble::start(port);
    let files = Files::new();
    let listen = format!("127.0.0.1:{port}");
    let _elsewhere = Running::start(Command::new(env!("CARGO_BIN_EXE_landbridge")).args([
        "serve",
        "--listen",
        &listen,
        "--tls-cert",
        &files.cert(),
        "--tls-key",
        &files.key(),
    ]));
    wait_until("the other to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let gateway = serve(&directory, &pebble.config(&directory.path("cache"), &["mcp.example.com"]), free_port());
    wait_until("the refusal", || gateway.log().contains("mcp.example.com was not proven to be ours"));
    let log = gateway.log();
    assert!(log.contains("no certificate from https://localhost") && log.contains("trying again in 60 s"), "{log}");
}

#[test]
fn an_authority_that_cannot_be_trusted_is_asked_for_nothing() {
    let directory = Directory::new();
    let (pebble, other) = (Pebble::start(1), Files::new());
    let config = pebble.config(&directory.path("cache"), &["mcp.example.com"]);
    let gateway = serve(&directory, &config.replace(&pebble.files.cert(), &other.cert()), free_port());
    wait_until("the refusal", || gateway.log().contains("no certificate from"));
    assert!(gateway.log().contains("certificate") && gateway.log().contains("/dir: "), "{}", gateway.log());
    let none = serve(&directory, &config.replace(&pebble.files.cert(), &directory.path("no.pem")), free_port());
    wait_until("its end", || none.log().contains("no.pem cannot be read"));
}
