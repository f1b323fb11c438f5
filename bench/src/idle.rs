//! Opens very many sessions, holds them, and says how fast that went and what they cost.
//!
//! Odd: a held socket is taken out of the runtime and its buffer freed, so that ten thousand of
//! them cost the generator nothing while it measures something else. Beyond twenty thousand
//! they come from further loopback addresses, as one has too few ports.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::call;
use crate::connection::Connection;
use crate::fault::Fault;
use crate::gateway::Gateway;
use crate::http_client::{handshake, refused, session_headers};
use crate::meter::Meter;
use crate::plan::Work;
use crate::response::Response;
use crate::session_server::{Seen, seen};
use crate::sse_client::open_session;
use crate::tally::Tally;
use crate::targets::Target;

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Kind {
    /// A GET that is answered with an open stream, without MCP: for the floor.
    Bare,
    Sse,
    Streamable,
    /// The same without a stream: nothing of it is open between the client and the gateway.
    Session,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Bare => "bare stream",
            Kind::Sse => "sse",
            Kind::Streamable => "streamable GET",
            Kind::Session => "streamable, no GET",
        }
    }
}

/// Sessions that are open and stay so until this is dropped.
pub(crate) struct Held {
    pub(crate) opened: usize,
    pub(crate) sockets: Vec<TcpStream>,
    pub(crate) seconds: f64,
    pub(crate) tally: Tally,
}

#[derive(Clone)]
pub(crate) struct IdleResult {
    pub(crate) target: &'static str,
    pub(crate) kind: Kind,
    pub(crate) wanted: usize,
    pub(crate) opened: usize,
    pub(crate) seconds: f64,
    pub(crate) kib_each: f64,
    pub(crate) child_kib_each: f64,
    pub(crate) errors: u64,
    pub(crate) example: Option<String>,
}

impl Held {
    /// How many of the sessions the gateway has closed by now, though nobody asked it to.
    pub(crate) fn lost(&self) -> u64 {
        let closed = |socket: &&TcpStream| match socket.peek(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        self.sockets.iter().filter(closed).count() as u64
    }
}

const OPENERS: usize = 64;
const PORTS_PER_ADDRESS: usize = 20_000;
const AT_MOST: Duration = Duration::from_secs(30);

pub(crate) async fn measure(target: &Target, kind: Kind, wanted: usize) -> Result<IdleResult, Fault> {
    let gateway = Gateway::start(target).await?;
    // One session first, so that what the gateway allocates once is not charged to the many.
    let first = hold(gateway.address, target, kind, 1).await;
    sleep(Duration::from_millis(200)).await;
    let before = Meter::new(gateway.processes());
    let (rss, child_rss) = (before.gateway_rss_kib(), before.servers_rss_kib());
    let mut held = hold(gateway.address, target, kind, wanted).await;
    if let Some(server) = gateway.behind_address() {
        let fault = all_listened_to(server, 1 + held.opened).await;
        fault.err().inspect(|fault| held.tally.fault(fault));
    }
    sleep(Duration::from_millis(300)).await;
    let after = Meter::new(gateway.processes());
    let opened = held.opened;
    let lost = held.lost();
    let result = IdleResult {
        target: target.key,
        kind,
        wanted,
        opened,
        seconds: held.seconds,
        kib_each: (after.gateway_rss_kib() - rss) / opened as f64,
        child_kib_each: (after.servers_rss_kib() - child_rss) / opened as f64,
        errors: held.tally.errors + first.tally.errors + lost,
        example: held
            .tally
            .example
            .clone()
            .or(first.tally.example.clone())
            .or_else(|| (lost > 0).then(|| "the gateway closed a session that was idle".into())),
    };
    drop((first, held));
    gateway.stop().await;
    Ok(result)
}

/// Waits until the gateway has that many sessions with the server, and listens in each of them.
async fn all_listened_to(server: SocketAddr, sessions: usize) -> Result<(), Fault> {
    let until = Instant::now() + AT_MOST;
    loop {
        let seen = seen(server).await?;
        if (seen.sessions, seen.streams) == (sessions as u64, sessions as u64) {
            return Ok(());
        }
        if Instant::now() > until {
            let Seen { sessions, streams, .. } = seen;
            return Err(Fault::wrong(format!("the server has {sessions} sessions, and streams of {streams} of them")));
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Opens `wanted` sessions, 64 at a time, and answers those that opened.
pub(crate) async fn hold(address: SocketAddr, target: &Target, kind: Kind, wanted: usize) -> Held {
    let began = Instant::now();
    let next = Rc::new(Cell::new(0));
    let openers = LocalSet::new();
    let path = if matches!(kind, Kind::Streamable | Kind::Session) { target.mcp_path } else { target.sse_path };
    let tasks: Vec<_> = (0..OPENERS.min(wanted))
        .map(|_| openers.spawn_local(open_many(address, path, kind, wanted, next.clone(), began + AT_MOST)))
        .collect();
    let mut held = Held { opened: 0, sockets: Vec::new(), seconds: 0.0, tally: Tally::default() };
    openers
        .run_until(async {
            for task in tasks {
                match task.await {
                    Ok((opened, sockets, tally)) => {
                        held.opened += opened;
                        held.sockets.extend(sockets);
                        held.tally.add(tally);
                    }
                    Err(error) => held.tally.fault(&Fault::setup(format!("an opener broke ({error}); this is a bug of the bench"))),
                }
            }
        })
        .await;
    held.seconds = began.elapsed().as_secs_f64();
    held
}

async fn open_many(
    address: SocketAddr,
    path: &'static str,
    kind: Kind,
    wanted: usize,
    next: Rc<Cell<usize>>,
    until: Instant,
) -> (usize, Vec<TcpStream>, Tally) {
    let mut opened = 0;
    let mut sockets = Vec::new();
    let mut tally = Tally::default();
    let mut post = None;
    while next.get() < wanted && !tally.gave_up() {
        let number = next.replace(next.get() + 1);
        match timeout_at(until, open_one(address, path, kind, source(number), &mut post)).await {
            Ok(Ok(socket)) => {
                opened += 1;
                sockets.extend(socket);
            }
            Ok(Err(fault)) => {
                tally.fault(&fault);
                post = None;
            }
            Err(_) => {
                tally.fault(&Fault::broken("the sessions were not open after 30 s"));
                break;
            }
        }
    }
    (opened, sockets, tally)
}

fn source(number: usize) -> Option<Ipv4Addr> {
    let address = number / PORTS_PER_ADDRESS;
    (address > 0).then(|| Ipv4Addr::new(127, 0, 0, 1 + address.min(250) as u8))
}

/// Opens one session, and answers its stream if it has one; `post` is the opener's connection for messages, kept for the next one.
async fn open_one(
    address: SocketAddr,
    path: &str,
    kind: Kind,
    source: Option<Ipv4Addr>,
    post: &mut Option<(Connection, Response)>,
) -> Result<Option<TcpStream>, Fault> {
    let host = address.to_string();
    if kind == Kind::Bare {
        return open_stream(address, &call::get_stream(&host, path, &[]), source).await.map(Some);
    }
    if post.is_none() {
        *post = Some((Connection::open(address, None).await?, Response::default()));
    }
    let Some((connection, response)) = post else {
        return Err(Fault::setup("no connection; this is a bug of the bench"));
    };
    if kind == Kind::Sse {
        let (stream, _) = open_session(address, path, connection, response, source, Work::Plain).await?;
        return stream.connection.into_held().map(Some);
    }
    let session = handshake(connection, response, &host, path, Work::Plain, None).await?;
    if kind == Kind::Session {
        return Ok(None);
    }
    open_stream(address, &call::get_stream(&host, path, &session_headers(session.as_deref())), source).await.map(Some)
}

async fn open_stream(address: SocketAddr, request: &[u8], source: Option<Ipv4Addr>) -> Result<TcpStream, Fault> {
    let mut connection = Connection::open(address, source).await?;
    connection.send(request).await?;
    let mut response = Response::default();
    while !response.has_head() {
        connection.advance(&mut response).await?;
    }
    if response.status != 200 || !response.event_stream {
        return Err(refused("the GET of the stream", &response));
    }
    connection.into_held()
}
