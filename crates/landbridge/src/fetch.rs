//! Fetches a document from a place that a stranger has named, so that the stranger learns nothing of the network
//! we are in, and reaches nothing there.
//!
//! ```text
//!   URL, read strictly ──▶ addresses, looked up once ──▶ every one public? ──▶ TCP to one of them ──▶ TLS by the name
//! ```
//!
//! What was checked is what is connected to: a name is never looked up twice. A redirect begins anew.
//! Nothing of us travels along: no cookies, no credentials, and no proxy of the environment unless asked for, as it
//! would look up the name itself. Also what an operator has named is fetched here, with
//! [`Reach::Anywhere`]: the bounds to size and time are the same. What a stranger names may be in a private network only
//! at a [`Host`] that an operator has named.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, DATE, EXPIRES, HOST, HeaderMap, HeaderName,
    HeaderValue, LOCATION, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::ConfigBuilderExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service as _;

use landbridge_proto::back::endpoint;
use landbridge_proto::oauth::address;
use landbridge_proto::oauth::freshness::{Keep, Said};
use landbridge_proto::oauth::url::Url;

use crate::backend::http::AGENT;

pub mod documents;
mod places;

use places::{Held, Places};

/// Addresses of one name that are tried, and how long each but the last is waited for.
const MAX_ADDRESSES: usize = 4;
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The most that the head of a response may have, in bytes and in headers.
const MAX_HEAD: usize = 32 * 1024;
const MAX_HEADERS: usize = 64;

/// Where documents may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// At `https` URLs, on hosts all of whose addresses are public.
    #[default]
    Public,
    /// Anywhere an operator may name: private addresses too, and `http` on this machine.
    Anywhere,
    /// The same hosts as of [`Reach::Public`], at `http` URLs too: for contents that nobody has to vouch for.
    Web,
}

/// A host whose documents may also be at private addresses ([`address::is_private`]), because an operator says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: u16,
}

impl Host {
    /// Reads `docs.corp.example` or `127.0.0.1:8443`; without a port it is 443. The error fits after "the host ".
    pub fn read(text: &str) -> Result<Host, &'static str> {
        let url = Url::read(&format!("https://{text}"))?;
        match url.path().is_empty() && url.query().is_none() {
            true => Ok(Host { name: url.host().to_owned(), port: url.port() }),
            false => Err("has more than a name and a port"),
        }
    }

    fn is_of(&self, url: &Url) -> bool {
        self.port == url.port() && self.name == url.host()
    }
}

/// Bounds to one fetch.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Most bytes of the document.
    pub max_bytes: usize,
    /// For all of it, redirects included.
    pub time: Duration,
    /// Redirects that are followed.
    pub n_redirects: usize,
    /// How long it may be kept.
    pub keep: Keep,
}

impl Bounds {
    /// 64 KiB in 5 s, no redirect (what the draft of client ID metadata documents wants), kept for a minute to
    /// a day, and five minutes where nothing is said.
    pub const DOCUMENT: Bounds = Bounds {
        max_bytes: 64 * 1024,
        time: Duration::from_secs(5),
        n_redirects: 0,
        keep: Keep { least_s: 60, most_s: 86_400, silent_s: 300 },
    };
}

/// A document.
#[derive(Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What is in it.
    pub text: String,
    /// How long it may be kept, in seconds.
    pub keep_s: u64,
}

/// What is at a URL, whatever it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Content {
    /// What is in it.
    pub bytes: Bytes,
    /// What the server calls it.
    pub media: Option<String>,
    keep_s: u64,
}

impl Content {
    fn text(self) -> Result<Fetched, Trouble> {
        let text = String::from_utf8(self.bytes.into()).map_err(|_| Trouble::Unusable("it is no UTF-8".into()))?;
        Ok(Fetched { text, keep_s: self.keep_s })
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes, {:?})", self.bytes.len(), self.media)
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetched({} bytes, {} s)", self.text.len(), self.keep_s)
    }
}

/// Why there is no document. All fit after "the document cannot be fetched: ", in the log or before an operator. A stranger
/// who named the place is told only that it failed: from the rest the names of our network could be learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It may not be fetched: the place is none that we go to.
    Forbidden(String),
    /// The server did not answer, or not in time.
    Silent(String),
    /// It answered with this status.
    Status(u16),
    /// It answered with something that is no document.
    Unusable(String),
    /// We have too much to do.
    Busy,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Forbidden(why) | Trouble::Silent(why) | Trouble::Unusable(why) => f.write_str(why),
            Trouble::Status(status) => write!(f, "the server answered HTTP {status}"),
            Trouble::Busy => f.write_str("too many documents are being fetched; try again later"),
        }
    }
}

/// A future in a box: what a trait object can return.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Names and connections: the system's, or those of a test that plays the Internet.
pub trait Network: fmt::Debug + Send + Sync {
    /// The addresses of a host, asked for once per hop.
    fn resolve<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<IpAddr>>>;
    /// A connection to exactly this address.
    fn connect(&self, address: SocketAddr) -> Boxed<'_, io::Result<TcpStream>>;
}

/// The system's network.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Network for System {
    fn resolve<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|at| at.ip()).collect()) })
    }

    fn connect(&self, address: SocketAddr) -> Boxed<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

/// Fetches documents, a number of them at a time. Clones share that number.
#[derive(Clone)]
pub struct Fetcher {
    reach: Reach,
    tls: TlsConnector,
    network: Arc<dyn Network>,
    proxies: Option<Arc<Matcher>>,
    places: Places,
    private: Arc<[Host]>,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetcher({:?})", self.reach)
    }
}

/// One request, the same at every hop.
struct Asked<'a> {
    method: Method,
    authorization: Option<&'a HeaderValue>,
    form: Option<Bytes>,
    accept: &'static str,
}

const JSON: &str = "application/json";

impl Fetcher {
    /// Fetches what is within `reach`, and believes the certificate authorities of the system (or of
    /// `SSL_CERT_FILE`, `SSL_CERT_DIR`).
    pub fn new(reach: Reach) -> Result<Fetcher, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
        let config = config.with_native_roots().map_err(|e| format!("the system's certificate authorities cannot be read: {e}"))?;
        Ok(Fetcher::with_tls(reach, config.with_no_client_auth()))
    }

    /// The same, with other authorities.
    pub fn with_tls(reach: Reach, mut config: ClientConfig) -> Fetcher {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (tls, network) = (TlsConnector::from(Arc::new(config)), Arc::new(System));
        Fetcher { reach, tls, network, proxies: None, places: Places::of(reach), private: Arc::default() }
    }

    /// The same, on another network.
    pub fn on(mut self, network: Arc<dyn Network>) -> Fetcher {
        self.network = network;
        self
    }

    /// The same, by these proxies where they say so: those of the environment are `Matcher::from_env`. A proxy looks up
    /// names itself, so what is behind it is its own to protect.
    pub fn by(mut self, proxies: Arc<Matcher>) -> Fetcher {
        self.proxies = Some(proxies);
        self
    }

    /// The same, where these hosts may be at private addresses, too.
    pub fn or_private_at(mut self, hosts: &[Host]) -> Fetcher {
        self.private = hosts.into();
        self
    }

    /// Where its documents may be.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The document at `url`. `now_s` is for dates in its headers.
    pub async fn get(&self, url: &str, bounds: &Bounds, now_s: u64) -> Result<Fetched, Trouble> {
        self.ask(url, Asked { method: Method::GET, authorization: None, form: None, accept: JSON }, bounds, now_s).await?.text()
    }

    /// What is at `url`, of any type.
    pub async fn content(&self, url: &str, bounds: &Bounds) -> Result<Content, Trouble> {
        self.ask(url, Asked { method: Method::GET, authorization: None, form: None, accept: "*/*" }, bounds, 0).await
    }

    /// What is answered to a form (RFC 6749, appendix B), which `authorization` may go with. Never redirected: both may
    /// hold secrets.
    pub async fn post(
        &self,
        url: &str,
        authorization: Option<&HeaderValue>,
        form: String,
        bounds: &Bounds,
        now_s: u64,
    ) -> Result<Fetched, Trouble> {
        let bounds = Bounds { n_redirects: 0, ..*bounds };
        let asked = Asked { method: Method::POST, authorization, form: Some(form.into()), accept: JSON };
        self.ask(url, asked, &bounds, now_s).await?.text()
    }

    async fn ask(&self, url: &str, asked: Asked<'_>, bounds: &Bounds, now_s: u64) -> Result<Content, Trouble> {
        let whole = async {
            let mut at = url.to_owned();
            for _ in 0..=bounds.n_redirects {
                match self.hop(&at, &asked, bounds, now_s).await? {
                    Hop::There(fetched) => return Ok(fetched),
                    Hop::Elsewhere(next) => at = next,
                }
            }
            Err(Trouble::Unusable(match bounds.n_redirects {
                0 => "the server redirects, and no redirect may be followed".into(),
                n => format!("the server redirects more than {n} times"),
            }))
        };
        let late = || Trouble::Silent(format!("the server did not answer within {} ms", bounds.time.as_millis()));
        tokio::time::timeout(bounds.time, whole).await.map_err(|_| late())?
    }

    async fn hop(&self, text: &str, asked: &Asked<'_>, bounds: &Bounds, now_s: u64) -> Result<Hop, Trouble> {
        let url = Url::read(text).map_err(|e| Trouble::Forbidden(format!("the URL {e}")))?;
        // Checked again where the address is known: `localhost` is whatever the system says it is.
        let may = url.is_https() || self.reach == Reach::Web || (self.reach == Reach::Anywhere && url.is_loopback());
        if !may {
            return Err(Trouble::Forbidden("the URL is not https".into()));
        }
        let _place = self.places.host(url.host()).await?;
        let (tcp, _at) = self.connect(&url).await?;
        if !url.is_https() {
            return exchange(tcp, &url, asked, bounds, now_s).await;
        }
        let name = match literal(&url) {
            Some(address) => Ok(ServerName::from(address)),
            None => ServerName::try_from(url.host().to_owned()),
        };
        let name = name.map_err(|_| Trouble::Forbidden("the URL has a host that no certificate can be for".into()))?;
        let tls = self.tls.connect(name, tcp).await.map_err(|e| Trouble::Silent(format!("no TLS with {}: {e}", url.host())))?;
        exchange(tls, &url, asked, bounds, now_s).await
    }

    /// A connection to an address of the URL's host, or to the proxy for it.
    async fn connect(&self, url: &Url) -> Result<(TcpStream, Held), Trouble> {
        if let Some(proxy) = self.proxy(url)? {
            // An address needs no looking up.
            if literal(url).is_some() {
                self.addresses(url).await?;
            }
            return Ok((self.tunnel(url, &proxy).await?, Held::default()));
        }
        let (mut refused, mut is_busy) = (None, false);
        let addresses = self.addresses(url).await?;
        let last = addresses.len().min(MAX_ADDRESSES).saturating_sub(1);
        for (n, address) in addresses.into_iter().take(MAX_ADDRESSES).enumerate() {
            let Ok(place) = self.places.address(address) else {
                is_busy = true;
                continue;
            };
            let connecting = self.network.connect(SocketAddr::new(address, url.port()));
            let connected = match n == last {
                true => connecting.await,
                false => tokio::time::timeout(PATIENCE, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            };
            match connected {
                Ok(tcp) => {
                    let _ = tcp.set_nodelay(true);
                    return Ok((tcp, place));
                }
                Err(e) => refused = Some(e),
            }
        }
        if is_busy {
            return Err(Trouble::Busy);
        }
        let why = refused.map_or_else(|| "it has no address".into(), |e| e.to_string());
        Err(Trouble::Silent(format!("no connection to {}: {why}", url.host())))
    }

    /// The addresses of a host, each of which we may connect to. One that we may not spoils the others: a name that
    /// leads to both is made to.
    async fn addresses(&self, url: &Url) -> Result<Vec<IpAddr>, Trouble> {
        let host = url.host();
        let addresses = match literal(url) {
            Some(address) => vec![address],
            None => {
                let unknown = |e: io::Error| Trouble::Silent(format!("the host {host} is not known: {e}"));
                self.network.resolve(host).await.map_err(unknown)?
            }
        };
        let named = self.private.iter().any(|host| host.is_of(url));
        let may = |address: &IpAddr| match self.reach {
            Reach::Public | Reach::Web => address::is_public(*address) || (named && address::is_private(*address)),
            Reach::Anywhere => url.is_https() || address.is_loopback(),
        };
        if !addresses.iter().all(may) {
            // Not which address: the stranger would learn the names of our network from it.
            return Err(Trouble::Forbidden(match self.reach {
                Reach::Public | Reach::Web => format!("the host {host} is not on the public Internet"),
                Reach::Anywhere => format!("the host {host} is not this machine, which only https may leave"),
            }));
        }
        Ok(addresses)
    }

    fn proxy(&self, url: &Url) -> Result<Option<Intercept>, Trouble> {
        let Some(proxies) = self.proxies.as_ref().filter(|_| url.is_https()) else { return Ok(None) };
        Ok(proxies.intercept(&uri(url)?))
    }

    async fn tunnel(&self, url: &Url, proxy: &Intercept) -> Result<TcpStream, Trouble> {
        let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpConnector::new());
        if let Some(auth) = proxy.basic_auth() {
            let mut auth: HeaderValue = auth.clone();
            auth.set_sensitive(true);
            tunnel = tunnel.with_auth(auth);
        }
        let io = tunnel.call(uri(url)?).await.map_err(|e| Trouble::Silent(format!("no tunnel through the proxy: {e}")))?;
        Ok(io.into_inner())
    }
}

/// What came of one hop.
enum Hop {
    There(Content),
    Elsewhere(String),
}

/// The address that a host is, if it is one.
fn literal(url: &Url) -> Option<IpAddr> {
    url.host().trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn uri(url: &Url) -> Result<Uri, Trouble> {
    url.to_string().parse().map_err(|_| Trouble::Forbidden("the URL cannot be asked for".into()))
}

/// One request over a connection of its own, and its response.
async fn exchange<T>(io: T, url: &Url, asked: &Asked<'_>, bounds: &Bounds, now_s: u64) -> Result<Hop, Trouble>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |e: hyper::Error| Trouble::Silent(format!("the connection to {} broke: {e}", url.host()));
    let mut http = hyper::client::conn::http1::Builder::new();
    http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) = http.handshake(TokioIo::new(io)).await.map_err(broken)?;
    let request = request(url, asked)?;
    let whole = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        receive(response, url, bounds, now_s).await
    };
    // Both here, and nothing is left running when this is dropped.
    tokio::pin!(whole);
    tokio::select! {
        biased;
        done = &mut whole => return done,
        _ = connection => {}
    }
    // It is closed, and what it brought is still to be read.
    whole.await
}

fn request(url: &Url, asked: &Asked<'_>) -> Result<Request<Full<Bytes>>, Trouble> {
    let mut request = Request::new(Full::new(asked.form.clone().unwrap_or_default()));
    *request.method_mut() = asked.method.clone();
    let path = if url.path().is_empty() { "/" } else { url.path() };
    let target = url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let bad = || Trouble::Forbidden("the URL cannot be asked for".into());
    *request.uri_mut() = target.parse().map_err(|_| bad())?;
    let origin = url.origin();
    let host = origin.split_once("://").map_or("", |(_, host)| host);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| bad())?);
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT, HeaderValue::from_static(asked.accept));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if asked.form.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    if let Some(authorization) = asked.authorization {
        headers.insert(AUTHORIZATION, authorization.clone());
    }
    Ok(request)
}

async fn receive(response: Response<Incoming>, url: &Url, bounds: &Bounds, now_s: u64) -> Result<Hop, Trouble> {
    let (head, body) = response.into_parts();
    let redirects = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::SEE_OTHER,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    if redirects.contains(&head.status) {
        let to = head.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
        let next = endpoint::resolve(&url.to_string(), to).map_err(|e| Trouble::Unusable(format!("the server redirects: {e}")))?;
        return Ok(Hop::Elsewhere(next));
    }
    if head.status != StatusCode::OK {
        return Err(Trouble::Status(head.status.as_u16()));
    }
    if head.headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(Trouble::Unusable("the server compressed what was not to be".into()));
    }
    let too_long = || Trouble::Unusable(format!("it is longer than {} bytes", bounds.max_bytes));
    let body = match Limited::new(body, bounds.max_bytes).collect().await {
        Ok(body) => body.to_bytes(),
        Err(e) if e.is::<http_body_util::LengthLimitError>() => return Err(too_long()),
        Err(e) => return Err(Trouble::Silent(format!("the connection to {} broke: {e}", url.host()))),
    };
    let media = head.headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).map(str::to_owned);
    Ok(Hop::There(Content { bytes: body, media, keep_s: keep_s(&head.headers, bounds, now_s) }))
}

fn keep_s(headers: &HeaderMap, bounds: &Bounds, now_s: u64) -> u64 {
    let one = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let all: Vec<&str> = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok()).collect();
    let cache_control = (!all.is_empty()).then(|| all.join(","));
    let said = Said { cache_control: cache_control.as_deref(), expires: one(EXPIRES), date: one(DATE), age: one(AGE) };
    bounds.keep.seconds(said, now_s)
}
