//! Landbridge over TLS: files of certificates, a client of either version of HTTP, and a tunnel for clients that
//! speak no TLS themselves.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gateway::Gateway;

/// A directory of its own, removed with all that is in it.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Another process of that number may have left one.
        loop {
            let name = format!("landbridge-it-{}-tls-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => {
                    made.unwrap();
                    return Directory(path);
                }
            }
        }
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `cert.pem` and `key.pem`, for `localhost` and `127.0.0.1`.
pub struct Files {
    pub directory: Directory,
}

impl Files {
    pub fn new() -> Files {
        let files = Files { directory: Directory::new() };
        files.replace();
        files
    }

    /// Another certificate, with another key, in the same files. Returns it.
    pub fn replace(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        // The certificate may be seen first, and does not match then.
        for (name, text) in [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
            let next = self.directory.path(&format!("{name}.next"));
            std::fs::write(&next, text).unwrap();
            #[cfg(unix)]
            std::fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            std::fs::rename(next, self.directory.path(name)).unwrap();
        }
        made.cert.der().clone()
    }

    pub fn cert(&self) -> String {
        self.directory.path("cert.pem")
    }

    pub fn key(&self) -> String {
        self.directory.path("key.pem")
    }

    /// A gateway that shows them.
    pub fn gateway(&self, args: &[&str]) -> Gateway {
        let (cert, key) = (self.cert(), self.key());
        Gateway::start(&[&["--tls-cert", &cert, "--tls-key", &key], args].concat())
    }
}

/// Takes every certificate, and says which it was shown: for tests that look at it themselves.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let all = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, &all)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let all = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, &all)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection over TLS that offers these protocols, to `localhost` or whoever is meant.
pub async fn connect(port: u16, name: &str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// The certificate that is shown to that name.
pub async fn shown(port: u16, name: &str) -> std::io::Result<CertificateDer<'static>> {
    let stream = connect(port, name, &["http/1.1"]).await?;
    Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone())
}

/// A client on one connection.
pub enum Client {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// One that speaks `http/1.1` or `h2`.
    pub async fn new(port: u16, protocol: &str) -> Client {
        let stream = connect(port, "localhost", &[protocol]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
        if protocol == "h2" {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            return Client::Two(sender);
        }
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client::One(sender)
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> hyper::Result<Response<Incoming>> {
        match self {
            Client::One(sender) => sender.ready().await?,
            Client::Two(sender) => sender.ready().await?,
        }
        let host = headers.iter().find(|(name, _)| *name == "host").map_or("localhost", |(_, host)| host);
        let target = match self {
            Client::One(_) => path.to_owned(),
            Client::Two(_) => format!("https://{host}{path}"),
        };
        let mut request = Request::builder().method(method).uri(target);
        if let Client::One(_) = self {
            request = request.header("host", host);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json").header("accept", "application/json, text/event-stream");
        }
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body.to_owned())).unwrap();
        match self {
            Client::One(sender) => sender.send_request(request).await,
            Client::Two(sender) => sender.send_request(request).await,
        }
    }

    /// The status and the whole body.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let response = self.send(method, path, headers, body).await.unwrap();
        let status = response.status().as_u16();
        (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap())
    }
}

/// The next message of a stream of events; `None` at its end.
pub async fn message(stream: &mut Incoming, read: &mut String) -> Option<serde_json::Value> {
    loop {
        if let Some((event, rest)) = read.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
            *read = rest.to_owned();
            match data.filter(|data| data.starts_with('{')) {
                Some(data) => return Some(serde_json::from_str(&data).unwrap()),
                None => continue,
            }
        }
        let frame = stream.frame().await?.ok()?;
        read.push_str(std::str::from_utf8(&frame.into_data().ok()?).unwrap());
    }
}

/// A port where plain text goes on over TLS, for as long as this process runs.
pub fn tunnel(to: u16) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((mut plain, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let Ok(mut secure) = connect(to, "localhost", &["http/1.1"]).await else { return };
                    let _ = plain.set_nodelay(true);
                    let _ = tokio::io::copy_bidirectional(&mut plain, &mut secure).await;
                });
            }
        });
    });
    port
}
