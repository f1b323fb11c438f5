//! Requests to servers elsewhere: one client for all of them, which keeps connections open for the
//! next request.
//!
//! Proxies come from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`), authorities
//! from the system (or `SSL_CERT_FILE`, `SSL_CERT_DIR`). HTTP/2 is spoken where TLS agrees on it. A redirect
//! is followed within its origin only: headers with secrets in them go nowhere else.
//!
//! Over HTTP/1.1 a server closes a connection that is idle without a word, most of them after five seconds: a request that
//! meets that on its way is lost, and may not be sent again. We close it before.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tower_service::Service;

use landbridge_proto::back::endpoint;
use landbridge_proto::oauth::address::is_public;

/// For a connection to be there: name, TCP, proxy and TLS together.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection nobody uses is closed after this: one over HTTP/2, and one over HTTP/1.1, which Node, uvicorn and
/// Apache close after five seconds.
const IDLE: Duration = Duration::from_secs(60);
const IDLE_HTTP1: Duration = Duration::from_secs(4);
/// Origins of `https` URLs that are remembered to have no HTTP/2.
const ORIGINS: usize = 1024;
/// Headers that most requests have room for at once.
const HEADERS: usize = 12;
/// Redirects that are followed.
const REDIRECTS: usize = 5;
/// For the other end of an HTTP/2 connection to show that it is there.
const PING: Duration = Duration::from_secs(20);

/// Who we are, in `User-Agent`.
pub const AGENT: HeaderValue = HeaderValue::from_static(concat!("landbridge/", env!("CARGO_PKG_VERSION")));

/// Why a request got no response.
#[derive(Debug)]
pub struct Trouble {
    /// Whether the server may have read it.
    pub delivered: bool,
    /// It was not sent, or not again, for want of a token.
    pub barred: bool,
    /// And that can be had: its user is elsewhere, and has to log in.
    pub login: bool,
    /// What went wrong.
    pub why: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// The client for all servers elsewhere.
#[derive(Clone)]
pub struct Http {
    client: Client<Connector, Full<Bytes>>,
    /// The same for HTTP/1.1, and where that was spoken though HTTP/2 could have been.
    client_http1: Client<Connector, Full<Bytes>>,
    without_http2: Arc<RwLock<HashSet<Authority>>>,
    proxies: Arc<Matcher>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// A client. `tls`: some server is reached by `https`, so the system's authorities are read.
    pub fn new(tls: bool) -> Result<Http, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        if !tls {
            return Http::trusting(Vec::new());
        }
        Ok(Http::with(HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(unreadable)?, false))
    }

    /// A client that connects to public addresses only, unless a proxy does it for us: for what a stranger has named.
    pub fn public() -> Result<Http, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(Http::with(HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).map_err(unreadable)?, true))
    }

    /// A client that trusts these authorities and no others.
    pub fn trusting(authorities: Vec<CertificateDer<'static>>) -> Result<Http, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|e| format!("an authority cannot be trusted: {e}"))?;
        }
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| e.to_string())?.with_root_certificates(roots);
        Ok(Http::with(HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth()), false))
    }

    fn with(builder: HttpsConnectorBuilder<WantsSchemes>, public: bool) -> Http {
        let proxies = Arc::new(Matcher::from_env());
        let mut tcp = HttpConnector::new_with_resolver(Names { system: GaiResolver::new(), public });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(IDLE));
        let plain = Plain { tcp, proxies: proxies.clone(), public };
        let connector = Connector(builder.https_or_http().enable_all_versions().wrap_connector(plain));
        let client = |idle: Duration| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .timer(TokioTimer::new())
                .pool_idle_timeout(idle)
                .http2_keep_alive_interval(PING)
                .http2_keep_alive_timeout(PING)
                .build(connector.clone())
        };
        Http { client: client(IDLE), client_http1: client(IDLE_HTTP1), without_http2: Arc::default(), proxies }
    }

    fn client_for(&self, url: &Uri) -> &Client<Connector, Full<Bytes>> {
        if self.may_have_http2(url).is_some() { &self.client } else { &self.client_http1 }
    }

    /// The origin of that URL, unless it is known to have no HTTP/2.
    fn may_have_http2<'u>(&self, url: &'u Uri) -> Option<&'u Authority> {
        let origin = url.authority().filter(|_| url.scheme_str() == Some("https"))?;
        let without = self.without_http2.read().unwrap_or_else(PoisonError::into_inner);
        (!without.contains(origin)).then_some(origin)
    }

    /// What was spoken there.
    fn learn(&self, url: &Uri, version: Version) {
        if version < Version::HTTP_2
            && let Some(origin) = self.may_have_http2(url)
        {
            let mut without = self.without_http2.write().unwrap_or_else(PoisonError::into_inner);
            if without.len() < ORIGINS {
                without.insert(origin.clone());
            }
        }
    }

    /// Sends a request with the headers that `head` writes, and waits for the head of its response. There is no
    /// limit of time to that but the caller's; to drop it gives the request up.
    pub async fn send(&self, method: Method, url: &Uri, head: impl Fn(&mut HeaderMap), body: Bytes) -> Result<Response<Incoming>, Trouble> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = url.clone();
            let headers = request.headers_mut();
            headers.reserve(HEADERS);
            head(headers);
            self.authenticate_at_proxy(&url, headers);
            let response = self.client_for(&url).request(request).await.map_err(|e| Trouble {
                delivered: !e.is_connect(),
                barred: false,
                login: false,
                why: describe(&e),
            })?;
            self.learn(&url, response.version());
            match redirected(&method, &url, &response)? {
                Some(next) => url = next,
                None => return Ok(response),
            }
        }
        Err(Trouble { delivered: false, barred: false, login: false, why: format!("it redirects more than {REDIRECTS} times") })
    }

    /// A tunnel's proxy is told when it is opened, any other with each request.
    fn authenticate_at_proxy(&self, url: &Uri, headers: &mut HeaderMap) {
        if url.scheme_str() == Some("http")
            && let Some(auth) = self.proxies.intercept(url).as_ref().and_then(|proxy| proxy.basic_auth())
        {
            headers.insert(PROXY_AUTHORIZATION, auth.clone());
        }
    }
}

/// Writes these headers to those, in place of any of the same name.
pub fn write_headers(headers: &mut HeaderMap, these: &HeaderMap) {
    let mut last = None;
    for (name, value) in these {
        if last.replace(name) == Some(name) {
            headers.append(name, value.clone());
        } else {
            headers.insert(name, value.clone());
        }
    }
}

/// Where a response sends us, if it does. Anywhere else than within its origin is an error, and so is a
/// redirect that would turn a POST into a GET.
fn redirected(method: &Method, from: &Uri, response: &Response<Incoming>) -> Result<Option<Uri>, Trouble> {
    let keeps = match response.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => *method == Method::GET,
        _ => return Ok(None),
    };
    let refuse = |why: String| Err(Trouble { delivered: false, barred: false, login: false, why });
    let Some(to) = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()) else {
        return refuse(format!("it redirects (HTTP {}) to nowhere", response.status().as_u16()));
    };
    if !keeps {
        return refuse(format!("it redirects (HTTP {}) to {to}; use that URL", response.status().as_u16()));
    }
    match endpoint::resolve(&from.to_string(), to).ok().filter(|next| endpoint::same_origin(&from.to_string(), next)) {
        Some(next) => next.parse().map(Some).or_else(|_| refuse(format!("it redirects to {to}, which is no URL"))),
        None => refuse(format!("it redirects to {to}, which is not at the same origin; use that URL")),
    }
}

/// What went wrong, in the words of whoever knows best: the causes, each said once.
fn describe(error: &dyn Error) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // The outermost says no more than that it did not work.
        if text != "client error (Connect)" && text != "client error (SendRequest)" && !said.iter().any(|s| s.contains(&text)) {
            said.push(text);
        }
        next = error.source();
    }
    if said.is_empty() { "no connection".into() } else { said.join(": ") }
}

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send>>;

/// TLS where the URL says so, and a limit to it all.
#[derive(Clone)]
struct Connector(HttpsConnector<Plain>);

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Via>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connecting = self.0.call(url);
        Box::pin(async move {
            let late = || format!("no connection within {} s", CONNECT.as_secs());
            tokio::time::timeout(CONNECT, connecting).await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, late()))?
        })
    }
}

/// The addresses of a host, or those of them that are public.
#[derive(Clone)]
struct Names {
    system: GaiResolver,
    public: bool,
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (found, public) = (self.system.call(name), self.public);
        Box::pin(async move {
            let all: Vec<SocketAddr> = found.await?.collect();
            // One that is not is enough: whoever owns the name may mean that one.
            if public && all.iter().any(|address| !is_public(address.ip())) {
                return Err(private());
            }
            Ok(all.into_iter())
        })
    }
}

fn private() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "its address is none of the public Internet")
}

fn unreadable(e: io::Error) -> String {
    format!("the system's certificate authorities cannot be read: {e}")
}

/// TCP, to the server or to the proxy that the environment names for it.
#[derive(Clone)]
struct Plain {
    tcp: HttpConnector<Names>,
    proxies: Arc<Matcher>,
    /// Only to public addresses.
    public: bool,
}

impl Service<Uri> for Plain {
    type Response = Via;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Connecting<Via>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        let Some(proxy) = self.proxies.intercept(&url) else {
            // An address is not looked up.
            let literal = url.host().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
            if self.public && literal.is_some_and(|address| !is_public(address)) {
                return Box::pin(async { Err(private().into()) });
            }
            return Box::pin(async move { Ok(Via { io: tcp.call(url).await?, absolute: false }) });
        };
        let at = proxy.uri().clone();
        if url.scheme_str() != Some("https") {
            return Box::pin(async move { Ok(Via { io: tcp.call(at).await?, absolute: true }) });
        }
        let mut tunnel = Tunnel::new(at, tcp);
        if let Some(auth) = proxy.basic_auth() {
            let mut auth: HeaderValue = auth.clone();
            auth.set_sensitive(true);
            tunnel = tunnel.with_auth(auth);
        }
        Box::pin(async move { Ok(Via { io: tunnel.call(url).await?, absolute: false }) })
    }
}

/// A TCP connection, and whether requests on it name the whole URL, as a proxy wants.
struct Via {
    io: TokioIo<TcpStream>,
    absolute: bool,
}

impl Connection for Via {
    fn connected(&self) -> Connected {
        self.io.inner().connected().proxy(self.absolute)
    }
}

impl Read for Via {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Via {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_a_stranger_names_is_not_looked_for_in_our_own_network() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let http = Http::public().unwrap();
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"] {
            let url: Uri = format!("http://{host}:{port}/").parse().unwrap();
            let why = http.send(Method::GET, &url, |_| (), Bytes::new()).await.unwrap_err();
            assert!(why.why.contains("none of the public Internet") && !why.delivered, "{host}: {why}");
        }
        let nobody = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(nobody.is_err(), "nobody came");
    }
    /// Answers every request on a connection, and tells how many connections there were.
    async fn counts(connections: Arc<AtomicUsize>) -> Uri {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut read = [0; 4096];
                    while socket.read(&mut read).await.is_ok_and(|n| n > 0) {
                        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn a_connection_that_a_server_may_be_about_to_close_is_not_used() {
        let connections = Arc::new(AtomicUsize::new(0));
        let url = counts(connections.clone()).await;
        let http = Http::new(false).unwrap();
        let mut seen = Vec::new();
        for idle_ms in [0, 3_500, 4_500] {
            tokio::time::pause();
            tokio::time::advance(Duration::from_millis(idle_ms)).await;
            tokio::time::resume();
            let response = http.send(Method::GET, &url, |_| (), Bytes::new()).await.unwrap();
            response.into_body().collect().await.unwrap();
            // The connection goes back when its task has seen the end of the response.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            seen.push(connections.load(Ordering::Relaxed));
        }
        assert_eq!(seen, [1, 1, 2]);
    }

    #[test]
    fn only_what_speaks_http_2_is_kept_open_for_long() {
        let http = Http::new(false).unwrap();
        let url = |text: &str| text.parse::<Uri>().unwrap();
        let is_long = |text: &str| std::ptr::eq(http.client_for(&url(text)), &raw const http.client);
        assert!(!is_long("http://a.example/mcp") && is_long("https://a.example/mcp"));
        http.learn(&url("https://a.example/mcp"), Version::HTTP_2);
        http.learn(&url("http://b.example/mcp"), Version::HTTP_11);
        assert!(is_long("https://a.example/") && is_long("https://b.example/"));
        http.learn(&url("https://a.example/mcp"), Version::HTTP_11);
        assert!(!is_long("https://a.example/other") && is_long("https://a.example:8443/") && is_long("https://b.example/"));
        for n in 0..2 * ORIGINS {
            http.learn(&url(&format!("https://h{n}.example/")), Version::HTTP_11);
        }
        assert_eq!(http.without_http2.read().unwrap().len(), ORIGINS);
    }
}
