//! A client of the HTTP+SSE transport of 2024-11-05, one call at a time.
//!
//! Odd: it needs two connections, and the answer on the stream may overtake the 202 of the
//! POST that asked for it. Both are awaited together and a call is over when both have come;
//! its latency is that of the answer alone. Answers meant for other clients are counted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::answer::{Verdict, judge};
use crate::call::{self, Calls};
use crate::connection::Connection;
use crate::events::next_event;
use crate::fault::Fault;
use crate::http_client::refused;
use crate::plan::{Mode, Work};
use crate::response::Response;

const REVISION: &str = "2024-11-05";

/// The receiving half: the open GET.
pub(crate) struct Stream {
    pub(crate) connection: Connection,
    response: Response,
    /// Answers to ids that this client never sent, or sent long ago.
    strays: u64,
    stray: Option<String>,
}

pub(crate) struct SseClient {
    stream: Stream,
    post: Connection,
    posted: Response,
    request: Vec<u8>,
    calls: Calls,
}

impl SseClient {
    pub(crate) async fn open(address: SocketAddr, path: &str, work: Work, client: usize) -> Result<Self, Fault> {
        let mut post = Connection::open(address, None).await?;
        let mut posted = Response::default();
        let (stream, endpoint) = open_session(address, path, &mut post, &mut posted, None, work).await?;
        let calls = Calls::new(Mode::Sse, work, client, 2, call::post_head(&address.to_string(), &endpoint, &[]));
        Ok(SseClient { stream, post, posted, request: Vec::new(), calls })
    }

    pub(crate) async fn call(&mut self) -> Result<Duration, Fault> {
        self.calls.advance();
        self.request.clear();
        self.calls.write_request(&mut self.request);
        let sent = Instant::now();
        let posting = accepted(&mut self.post, &self.request, &mut self.posted);
        let answering = async {
            let verdict = self.stream.answer(self.calls.id(), Some(self.calls.message())).await?;
            Ok((sent.elapsed(), verdict))
        };
        let ((), (elapsed, verdict)) = tokio::try_join!(posting, answering)?;
        verdict.map(|()| elapsed)
    }

    /// How many answers came that belong to nobody here, and one of them.
    pub(crate) fn strays(&mut self) -> (u64, Option<String>) {
        (std::mem::take(&mut self.stream.strays), self.stream.stray.take())
    }
}

/// Opens one session up to and with `notifications/initialized`; answers where to POST.
pub(crate) async fn open_session(
    address: SocketAddr,
    path: &str,
    post: &mut Connection,
    posted: &mut Response,
    source: Option<std::net::Ipv4Addr>,
    work: Work,
) -> Result<(Stream, String), Fault> {
    let host = address.to_string();
    let mut connection = Connection::open(address, source).await?;
    connection.send(&call::get_stream(&host, path, &[])).await?;
    let mut stream = Stream { connection, response: Response::default(), strays: 0, stray: None };
    let endpoint = stream.endpoint().await?;
    let head = call::post_head(&host, &endpoint, &[]);
    let request = call::post(&head, &call::initialize(REVISION, work));
    let ((), verdict) = tokio::try_join!(accepted(post, &request, posted), stream.answer("1", None))?;
    verdict?;
    accepted(post, &call::post(&head, call::INITIALIZED), posted).await?;
    Ok((stream, endpoint))
}

async fn accepted(post: &mut Connection, request: &[u8], response: &mut Response) -> Result<(), Fault> {
    post.exchange(request, response).await?;
    if matches!(response.status, 200 | 202 | 204) { Ok(()) } else { Err(refused("a POST of a message", response)) }
}

impl Stream {
    /// Waits for the event that says where to POST, and takes the path out of its address.
    async fn endpoint(&mut self) -> Result<String, Fault> {
        loop {
            self.connection.advance(&mut self.response).await?;
            if self.response.has_head() && self.response.status != 200 {
                return Err(refused("the GET of the stream", &self.response));
            }
            while let Some((event, used)) = next_event(&self.response.body) {
                let endpoint = (event.name == b"endpoint").then(|| String::from_utf8_lossy(&event.data).into_owned());
                self.response.body.drain(..used);
                if let Some(endpoint) = endpoint {
                    let path = endpoint.strip_prefix("http://").and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()));
                    return Ok(path.unwrap_or(endpoint));
                }
            }
            self.end_is_a_fault()?;
        }
    }

    /// Waits for the answer to `id`. The outer error means the stream is gone.
    async fn answer(&mut self, id: &str, message: Option<&str>) -> Result<Result<(), Fault>, Fault> {
        loop {
            while let Some((event, used)) = next_event(&self.response.body) {
                let verdict =
                    if event.data.is_empty() || event.name != b"message" { Verdict::NoAnswer } else { judge(&event.data, id, message) };
                self.response.body.drain(..used);
                match verdict {
                    Verdict::NoAnswer => {}
                    Verdict::Right => return Ok(Ok(())),
                    Verdict::Wrong(text) => return Ok(Err(Fault::Wrong(text))),
                    Verdict::Stray(text) => {
                        self.strays += 1;
                        self.stray.get_or_insert(text);
                    }
                }
            }
            self.end_is_a_fault()?;
            self.connection.advance(&mut self.response).await?;
        }
    }

    fn end_is_a_fault(&self) -> Result<(), Fault> {
        if self.response.is_done() { Err(Fault::broken("the server ended the event stream")) } else { Ok(()) }
    }
}
