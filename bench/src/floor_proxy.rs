//! The third floor: a bare reverse proxy, which passes requests and responses on as they are.
//!
//! Odd: it reads no body and keeps no session. What a gateway in front of an HTTP server costs above
//! it is what it costs to know what is in the messages.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::fault::Fault;
use crate::floor_http::{Reply, listen_on, plain};

type Upstream = Client<HttpConnector, Incoming>;

pub(crate) async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<(), Fault> {
    let listener = listen_on(listen).await?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Upstream = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let client = client.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(pass_on(&client, upstream, request).await) });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn pass_on(client: &Upstream, upstream: SocketAddr, mut request: Request<Incoming>) -> Response<Either<Incoming, Reply>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("http://{upstream}{path}").parse::<Uri>() else {
        return plain(StatusCode::BAD_REQUEST, "".into()).map(Either::Right);
    };
    *request.uri_mut() = uri;
    request.headers_mut().remove(HOST);
    match client.request(request).await {
        Ok(response) => response.map(Either::Left),
        Err(_) => plain(StatusCode::BAD_GATEWAY, "".into()).map(Either::Right),
    }
}
