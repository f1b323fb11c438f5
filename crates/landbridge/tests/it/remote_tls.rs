//! Servers elsewhere over TLS, with HTTP/1.1 and HTTP/2.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

use crate::foreign::discovered;
use crate::gateway::Gateway;

/// A stateless server over TLS, whose tool tells which version of HTTP it was called by.
struct Secure {
    port: u16,
    /// The certificate to trust, as a file.
    authority: PathBuf,
    /// Requests it heard.
    heard: Arc<Mutex<Vec<Version>>>,
}

impl Secure {
    fn start(protocol: &'static str) -> Secure {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let authority = std::env::temp_dir().join(format!("landbridge-it-{}-{port}.pem", std::process::id()));
        std::fs::write(&authority, key.cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], private).unwrap();
        config.alpn_protocols = vec![protocol.into()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let heard: Arc<Mutex<Vec<Version>>> = Arc::default();
        let all = heard.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, all) = (acceptor.clone(), all.clone());
                    tokio::spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let service = service_fn(move |request| answer(request, all.clone()));
                        let stream = TokioIo::new(stream);
                        if protocol == "h2" {
                            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
                        } else {
                            let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
                        }
                    });
                }
            });
        });
        Secure { port, authority, heard }
    }

    fn gateway(&self, env: &[(&str, &str)]) -> Gateway {
        Gateway::start_with(&["--server", &format!("far=https://localhost:{}/mcp", self.port)], env)
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.authority);
    }
}

async fn answer(request: Request<Incoming>, heard: Arc<Mutex<Vec<Version>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let version = request.version();
    heard.lock().unwrap().push(version);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message: Value = serde_json::from_slice(&body).unwrap();
    let result = match message["method"].as_str().unwrap() {
        "server/discover" => discovered(),
        _ => json!({"resultType": "complete", "messages": [{"role": "user", "content": {"type": "text", "text": format!("{version:?}")}}]}),
    };
    let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
    Ok(Response::builder().header("content-type", "application/json").body(Full::from(body)).unwrap())
}

#[test]
fn both_versions_of_http_are_spoken_over_tls() {
    for (protocol, version) in [("http/1.1", "HTTP/1.1"), ("h2", "HTTP/2.0")] {
        let far = Secure::start(protocol);
        let gateway = far.gateway(&[("SSL_CERT_FILE", far.authority.to_str().unwrap())]);
        std::thread::scope(|scope| {
            for id in 0..8 {
                let gateway = &gateway;
                scope.spawn(move || {
                    let answer = gateway.stateless(id, "prompts/get", json!({"name": "x"})).json();
                    assert_eq!(answer["result"]["messages"][0]["content"]["text"], version, "{answer}");
                });
            }
        });
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (far, other) = (Secure::start("h2"), Secure::start("h2"));
    let gateway = far.gateway(&[("SSL_CERT_FILE", other.authority.to_str().unwrap())]);
    let answer = gateway.stateless(2, "prompts/get", json!({"name": "x"})).json();
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("the server `far` cannot be reached") && message.contains("certificate"), "{message}");
    assert!(far.heard.lock().unwrap().is_empty());
}
