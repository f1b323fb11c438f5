//! Clients that are known by a document, from end to end: a real https server on loopback has it, our own `connect` names
//! it, and `serve` fetches it from there because its operator said so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use landbridge_proto::oauth::secret::Hash;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::gateway::{Gateway, wait_until};
use crate::guarded::fetch;
use crate::pipe::{Pipe, initialize};
use crate::secure::{Directory, Files};
use crate::visitors::{Browser, PASSWORD, sheet, written};
use crate::wire::Response;

/// An https server at a port of its own: what lies there, and which paths it was asked for. Ends with the test's process.
struct Site {
    port: u16,
    pages: Arc<Mutex<HashMap<String, String>>>,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// With that certificate, for `localhost` and `127.0.0.1`.
    fn start(files: &Files) -> Site {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pages, heard) = (Arc::<Mutex<HashMap<String, String>>>::default(), Arc::<Mutex<Vec<String>>>::default());
        let certificate = vec![CertificateDer::from_pem_file(files.cert()).unwrap()];
        let key = PrivateKeyDer::from_pem_file(files.key()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(certificate, key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (there, asked) = (pages.clone(), heard.clone());
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, there, asked) = (acceptor.clone(), there.clone(), asked.clone());
                    tokio::spawn(async move {
                        let Ok(mut stream) = acceptor.accept(stream).await else { return };
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n") {
                            let Ok(byte) = stream.read_u8().await else { return };
                            head.push(byte);
                        }
                        let head = String::from_utf8(head).unwrap();
                        let path = head.split(' ').nth(1).unwrap().to_owned();
                        let page = there.lock().unwrap().get(&path).cloned();
                        asked.lock().unwrap().push(path);
                        let _ = stream.write_all(page.unwrap_or_else(|| answer("404 X", "", "")).as_bytes()).await;
                        let _ = stream.shutdown().await;
                    });
                }
            });
        });
        Site { port, pages, heard }
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    fn put(&self, path: &str, response: String) {
        self.pages.lock().unwrap().insert(path.into(), response);
    }

    /// The document of a client that is called "Ada's editor", with something changed. Its URL.
    fn document(&self, path: &str, changed: Value) -> String {
        let url = self.url(path);
        let mut document = json!({"client_id": url, "client_name": "Ada's <i>editor</i>", "token_endpoint_auth_method": "none",
            "redirect_uris": ["http://127.0.0.1/callback"], "grant_types": ["authorization_code", "refresh_token"]});
        for (key, value) in changed.as_object().unwrap() {
            document[key] = value.clone();
        }
        self.put(path, answer("200 OK", "", &document.to_string()));
        url
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// `landbridge serve` with an account for Ada, that believes that certificate and fetches documents from those hosts.
fn serve(scratch: &Directory, files: &Files, hosts: &[String]) -> Gateway {
    let config = scratch.path("config.toml");
    std::fs::write(&config, format!("[auth]\ndocument_hosts = {hosts:?}\n[servers.demo]\ndemo = true\n")).unwrap();
    let (home, authorities) = (scratch.path("home"), files.cert());
    let env = [("LANDBRIDGE_HOME", home.as_str()), ("SSL_CERT_FILE", authorities.as_str())];
    let mut user = std::process::Command::new(env!("CARGO_BIN_EXE_landbridge"));
    let mut user = user.args(["user", "add", "ada", "--password-stdin"]).envs(env).stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut user.stdin.take().unwrap(), PASSWORD.as_bytes()).unwrap();
    assert!(user.wait().unwrap().success());
    Gateway::here(&["--auth", "local", "--config", &config], &env)
}

/// A request of the client with that id.
fn ask(gateway: &Gateway, id: &str, redirect: &str) -> (Browser, Response) {
    let challenge = Hash::of("a verifier").to_string();
    let query = [
        ("response_type", "code"),
        ("client_id", id),
        ("redirect_uri", redirect),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    let mut browser = Browser::new(gateway.port);
    let page = browser.get(&format!("/authorize?{}", written(&query)));
    (browser, page)
}

#[test]
fn our_own_client_logs_in_by_the_document_that_describes_it() {
    let (files, scratch) = (Files::new(), Directory::new());
    let site = Site::start(&files);
    let id = site.document("/apps/editor.json", json!({}));
    let gateway = serve(&scratch, &files, &[format!("127.0.0.1:{}", site.port)]);
    let (url, home) = (format!("http://127.0.0.1:{}/mcp", gateway.port), scratch.path("client"));
    let mut pipe = Pipe::start_with(&[&url, "--no-browser", "--client-metadata-url", &id], &[("LANDBRIDGE_HOME", &home)]);
    pipe.send(&initialize(1, "2025-11-25", &json!({})));
    let there = format!("http://127.0.0.1:{}/authorize?", gateway.port);
    let printed = || pipe.log().lines().map(str::trim).find(|line| line.starts_with(&there)).map(str::to_owned);
    wait_until("an address to log in at", || printed().is_some());
    let address = printed().unwrap();
    assert!(address.contains(&landbridge_proto::oauth::form::encode(&id)), "{address}");

    let mut browser = Browser::new(gateway.port);
    let path = address.split_once("/authorize?").unwrap().1;
    let consent = browser.sign_in(&format!("/authorize?{path}"), "ada", PASSWORD);
    let text = consent.text();
    // The host is certain, and the name is what the document says.
    let shown = ["<strong><bdi>127.0.0.1</bdi></strong>\n", "Ada&#39;s &#60;i&#62;editor&#60;/i&#62;", "This address is certain."];
    let flat = |text: &str| text.replace('\n', "");
    assert!(shown.iter().all(|shown| flat(&text).contains(&flat(shown))), "{text}");
    let decided = browser.send(&sheet(&consent, "/consent").with("decision", "allow"));
    let (status, page) = fetch(decided.header("location").unwrap());
    assert!(status == 200 && page.contains("You are logged in"), "{page}");
    assert_eq!(pipe.next()["id"], 1);
    pipe.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    pipe.echoes();
    // Nobody registered, and the document was fetched once.
    assert_eq!(site.heard(), ["/apps/editor.json"]);
}

#[test]
fn a_document_that_does_not_fit_or_lies_elsewhere_is_none() {
    let (files, scratch) = (Files::new(), Directory::new());
    let (site, other) = (Site::start(&files), Site::start(&files));
    let gateway = serve(&scratch, &files, &[format!("127.0.0.1:{}", site.port)]);
    let callback = "http://127.0.0.1:7/callback";
    // What is good is good, so that the rest fails for what is wrong with it.
    let good = site.document("/good", json!({}));
    let (mut browser, page) = ask(&gateway, &good, callback);
    sheet(&page, "/login");
    assert_eq!(site.heard(), ["/good"]);
    let web = site.document("/web", json!({"redirect_uris": ["https://evil.example/done"]}));
    assert_eq!(ask(&gateway, &web, "https://evil.example/done").1.status, 200);

    let long = "x".repeat(70_000);
    site.put("/text", answer("200 OK", "", "no JSON"));
    site.put("/moved", answer("302 Found", "location: /good\r\n", ""));
    site.put("/elsewhere", answer("302 Found", &format!("location: {}\r\n", other.url("/good")), ""));
    let named = |path: &str| site.url(path);
    for (what, id, is_asked) in [
        ("it is another's", site.document("/other", json!({"client_id": good})), true),
        ("it is nobody's", site.document("/nobody", json!({"client_id": null})), true),
        ("it has no name", site.document("/unnamed", json!({"client_name": null})), true),
        ("it has a secret", site.document("/secret", json!({"client_secret": "everybody's"})), true),
        ("it leads nowhere", site.document("/nowhere", json!({"redirect_uris": []})), true),
        ("it is too large", site.document("/long", json!({"client_name": long})), true),
        ("it is no JSON", named("/text"), true),
        ("there is none", named("/none"), true),
        ("it has moved", named("/moved"), true),
        ("it is said to be at another host", named("/elsewhere"), true),
        ("the host is not on the list", other.document("/good", json!({})), false),
        ("nor is its other name", site.document("/good", json!({})).replace("127.0.0.1", "localhost"), false),
        ("it is not https", site.url("/good").replace("https:", "http:"), false),
    ] {
        let n_heard = site.heard().len();
        let page = ask(&gateway, &id, callback).1;
        assert_eq!((page.status, page.header("location")), (400, None), "{what}: {}", page.text());
        assert!(!page.text().contains("<form") && !page.text().contains("href="), "{what}: {}", page.text());
        assert_eq!(site.heard().len() > n_heard, is_asked, "{what}: {:?}", site.heard());
    }
    assert_eq!(other.heard(), [""; 0], "nobody has asked there");
    // The redirect of a document that is good must be one of its own.
    for redirect in ["http://127.0.0.1:7/other", "http://localhost:7/callback", "https://evil.example/done", ""] {
        let page = ask(&gateway, &good, redirect).1;
        assert_eq!((page.status, page.header("location")), (400, None), "{redirect}: {}", page.text());
    }
    // Why is in the log, and not on a page of whoever asked.
    for why in
        ["client_id is not the URL it lies at", "longer than 65536 bytes", "not on the public Internet", "no redirect may be followed"]
    {
        gateway.wait_for_log(why);
    }
    // And whoever is known by a document is nobody to lead people to.
    let query = [("response_type", "token"), ("client_id", web.as_str()), ("redirect_uri", "https://evil.example/done")];
    let page = browser.get(&format!("/authorize?{}", written(&query)));
    assert_eq!((page.status, page.header("location")), (400, None));
    assert!(page.text().contains("Go back to") && page.text().contains("https://evil.example/done?error=unsupported_response_type"));
}

#[test]
fn without_the_list_nothing_on_this_machine_is_asked() {
    let (files, scratch) = (Files::new(), Directory::new());
    let site = Site::start(&files);
    let gateway = serve(&scratch, &files, &[]);
    let id = site.document("/good", json!({}));
    assert_eq!(ask(&gateway, &id, "http://127.0.0.1:7/callback").1.status, 400);
    assert_eq!(site.heard(), [""; 0]);
}
