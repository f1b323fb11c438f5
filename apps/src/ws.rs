//! WebSocket: one connection, and one message of JSON-RPC in every frame of text. The protocol has no such transport, so
//! this is the least that a client can expect: the subprotocol `mcp`, and nothing else that is new.
//!
//! ```text
//!   frames ──▶ hear ──▶ lines ──▶ Conversation ──▶ lines ──▶ say ──▶ frames
//! ```
//!
//! Who may call, and from which pages, has been found out before the connection is ours. A page, which can send no header,
//! brings its key as a second subprotocol: `new WebSocket(url, ['mcp', 'key.' + base64url(key)])`. It is never told back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use landbridge::embed::{Conversation, Inside, Left, Visitor};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, duplex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// What a buffer of ours holds.
const BUFFER: usize = 64 * 1024;
/// How long the other end may take to say that it has read our last word.
const FAREWELL: Duration = Duration::from_secs(1);

/// Bounds to WebSockets.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many there are at once.
    pub connections: usize,
    /// How long a message may be.
    pub message_bytes: usize,
    /// How often the other end is asked whether it is there. Who says nothing for three times as long is not.
    pub keepalive: Duration,
    /// How long nobody may say anything.
    pub idle: Duration,
    /// How long a frame may take to be read by the other end.
    pub write: Duration,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Sockets {
    inside: Inside,
    places: Arc<Semaphore>,
    bounds: Bounds,
}

impl Sockets {
    /// None yet.
    pub fn new(inside: Inside, bounds: Bounds) -> Sockets {
        Sockets { inside, places: Arc::new(Semaphore::new(bounds.connections)), bounds }
    }

    /// Answers the request that opens one: at a path of guarded [`Pages`](landbridge::embed::Pages), for any method.
    pub fn open(&self, mut request: Request<Body>) -> Response {
        let headers = request.headers();
        if request.method() != Method::GET {
            return told(StatusCode::METHOD_NOT_ALLOWED, "a WebSocket is opened by GET");
        }
        if !has(headers, CONNECTION.as_str(), "upgrade") || !has(headers, UPGRADE.as_str(), "websocket") {
            let mut response = told(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket: connect by ws:// or wss://; programs may use /mcp");
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            return response;
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            let mut response = told(StatusCode::UPGRADE_REQUIRED, "Sec-WebSocket-Version must be 13");
            response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            return response;
        }
        let Some(accept) = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok())
        else {
            return told(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing");
        };
        let offers = headers.contains_key(SEC_WEBSOCKET_PROTOCOL);
        let speaks = has(headers, SEC_WEBSOCKET_PROTOCOL.as_str(), "mcp");
        if offers && !speaks {
            return told(StatusCode::BAD_REQUEST, "of the subprotocols that were offered, none is `mcp`");
        }
        let Some(visitor) = request.extensions().get::<Visitor>().cloned() else {
            return told(StatusCode::FORBIDDEN, "nobody may come in this way");
        };
        let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
            return told(StatusCode::UPGRADE_REQUIRED, "this connection cannot become a WebSocket: use HTTP/1.1");
        };
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return told(StatusCode::SERVICE_UNAVAILABLE, "too many WebSockets are open; try again later");
        };
        let conversation = match self.inside.begin(&visitor) {
            Ok(conversation) => conversation,
            Err(fault) => {
                let status = StatusCode::from_u16(fault.status(landbridge_proto::version::Era::Handshake));
                return told(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), &fault.told);
            }
        };
        drop(tokio::spawn(meet(upgrade, conversation, self.bounds, (visitor, place))));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let out = response.headers_mut();
        out.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        out.insert(UPGRADE, HeaderValue::from_static("websocket"));
        out.insert(SEC_WEBSOCKET_ACCEPT, accept);
        if speaks {
            out.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mcp"));
        }
        response
    }
}

fn told(status: StatusCode, why: &str) -> Response {
    let mut response = Response::new(Body::from(why.to_owned()));
    *response.status_mut() = status;
    response
}

/// Whether that is an item of a header that is a list.
fn has(headers: &HeaderMap, name: &str, item: &str) -> bool {
    let all = headers.get_all(name).iter().filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(','));
    all.map(str::trim).any(|one| one.eq_ignore_ascii_case(item))
}

/// Waits for the connection to be ours. `held` is given back when it has ended.
async fn meet(upgrade: OnUpgrade, conversation: Conversation, bounds: Bounds, held: (Visitor, OwnedSemaphorePermit)) {
    let connection = match upgrade.await {
        Ok(upgraded) => TokioIo::new(upgraded),
        Err(e) => return tracing::debug!(error = %e, "a connection has not become a WebSocket"),
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(0)
        .max_message_size(Some(bounds.message_bytes))
        .max_frame_size(Some(bounds.message_bytes));
    let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    talk(socket, conversation, bounds).await;
    drop(held);
}

/// Why a connection ends: what the other end is told. `None`: it is not there to be told.
type Why = Option<(CloseCode, &'static str)>;

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>, conversation: Conversation, bounds: Bounds) {
    let (mut sink, mut stream) = socket.split();
    let ((input, heard), (said, output)) = (duplex(BUFFER), duplex(BUFFER));
    let clock = Clock::new();
    let (mut left, mut why): (Option<Left>, Option<Why>) = (None, None);
    {
        let running = conversation.run(heard, said);
        let hearing = hear(&mut stream, input, &clock);
        let saying = say(&mut sink, output, &clock, bounds);
        tokio::pin!(running, hearing, saying);
        // Whichever half ends first ends the conversation, whose last words are still said.
        loop {
            tokio::select! {
                how = &mut running, if left.is_none() => left = Some(how),
                ended = &mut hearing, if left.is_none() && why.is_none() => why = Some(ended),
                ended = &mut saying => {
                    if let Some(ended) = ended {
                        why = Some(ended);
                    }
                    break;
                }
            }
        }
    }
    let why = match (left, why) {
        (_, Some(why)) => why,
        (Some(Left::Stopping), None) => Some((CloseCode::Away, "the server is being stopped")),
        (Some(Left::Expired), None) => Some((CloseCode::Policy, "the key is not valid any more")),
        _ => Some((CloseCode::Normal, "")),
    };
    let Some((code, reason)) = why else { return };
    let farewell = async {
        let _ = sink.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        let _ = sink.flush().await;
        while let Some(Ok(_)) = stream.next().await {}
    };
    let _ = timeout(FAREWELL, farewell).await;
}

/// Passes on what the other end says, until it has said enough, or what it must not.
async fn hear(stream: &mut (impl Stream<Item = Result<Message, Error>> + Unpin), mut input: impl AsyncWrite + Unpin, clock: &Clock) -> Why {
    while let Some(message) = stream.next().await {
        clock.heard.store(clock.now(), Ordering::Relaxed);
        let mut line = match message {
            Ok(Message::Text(text)) => {
                clock.spoken.store(clock.now(), Ordering::Relaxed);
                // A line ends where the message does: in JSON a line break is only space.
                text.as_str().replace(['\n', '\r'], " ")
            }
            // What is no text is answered as all text is that is no message.
            Ok(Message::Binary(_)) => "a binary frame".into(),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Ok(Message::Close(_)) => return Some((CloseCode::Normal, "")),
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => return Some((CloseCode::Size, "the message is too long")),
            Err(Error::Utf8(_)) => return Some((CloseCode::Invalid, "the message is no UTF-8")),
            Err(Error::Protocol(_)) => return Some((CloseCode::Protocol, "that is no WebSocket")),
            Err(_) => return None,
        };
        if line.trim().is_empty() {
            line = "an empty frame".into();
        }
        line.push('\n');
        // Nobody reads here while the other end does not read what it is told.
        if input.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    None
}

/// Says what there is to say, and asks now and then whether anybody is there. `None`: there is no more to say.
async fn say(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    output: impl AsyncRead + Unpin,
    clock: &Clock,
    bounds: Bounds,
) -> Option<Why> {
    let (mut lines, mut line) = (BufReader::with_capacity(BUFFER, output), Vec::new());
    let mut beats = interval_at(tokio::time::Instant::now() + bounds.keepalive, bounds.keepalive);
    loop {
        let message = tokio::select! {
            // What was read of a line stays in it when a beat comes in between.
            read = lines.read_until(b'\n', &mut line) => {
                if !matches!(read, Ok(1..)) {
                    return None;
                }
                clock.spoken.store(clock.now(), Ordering::Relaxed);
                let Ok(text) = String::from_utf8(std::mem::take(&mut line)) else { continue };
                Message::text(text.trim_end())
            }
            _ = beats.tick() => {
                if clock.since(&clock.heard) > bounds.keepalive * 3 {
                    return Some(None);
                }
                if clock.since(&clock.spoken) > bounds.idle {
                    return Some(Some((CloseCode::Away, "nothing was said for too long")));
                }
                Message::Ping(Default::default())
            }
        };
        if !matches!(timeout(bounds.write, sink.send(message)).await, Ok(Ok(()))) {
            return Some(None);
        }
    }
}

/// When something was last heard of the other end, and when a message last went either way, in milliseconds since it began.
struct Clock {
    began: Instant,
    heard: AtomicU64,
    spoken: AtomicU64,
}

impl Clock {
    fn new() -> Clock {
        Clock { began: Instant::now(), heard: AtomicU64::new(0), spoken: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, then: &AtomicU64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(then.load(Ordering::Relaxed)))
    }
}
