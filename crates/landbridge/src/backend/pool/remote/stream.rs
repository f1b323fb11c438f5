//! A stream of events, as it comes.

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use landbridge_proto::sse::{Decoded, Decoder};

/// Events of one stream, over as many connections as it takes.
pub(super) struct Stream {
    decoder: Decoder,
    body: Option<Incoming>,
}

impl Stream {
    /// A stream that is not open yet, whose events hold messages of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Stream {
        Stream { decoder: Decoder::new(limit), body: None }
    }

    /// It goes on with that response.
    pub(super) fn connect(&mut self, response: Response<Incoming>) {
        self.decoder.reconnected();
        self.body = Some(response.into_body());
    }

    /// The id to come back with.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.decoder.last_id()
    }

    /// How long the server wants us to wait before we come back.
    pub(super) fn retry_ms(&self) -> Option<u64> {
        self.decoder.retry_ms()
    }

    /// The next event that has arrived already.
    pub(super) fn next_here(&mut self) -> Option<Decoded> {
        self.decoder.next_event()
    }

    /// Waits for more to arrive; `Err` says how the connection ended.
    pub(super) async fn more(&mut self) -> Result<(), String> {
        let Some(body) = &mut self.body else { return Err("it is not open".into()) };
        let ended = match body.frame().await {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let data: &Bytes = data;
                    self.decoder.feed(data);
                }
                return Ok(());
            }
            Some(Err(e)) => format!("the connection broke: {e}"),
            None => "its stream ended".into(),
        };
        self.body = None;
        Err(ended)
    }

    /// Nothing more is expected: what is left is read, for a moment, so that the connection can be used
    /// again.
    pub(super) async fn drain(mut self) {
        const MOMENT: std::time::Duration = std::time::Duration::from_secs(1);
        const FRAMES: usize = 64;
        let _ = tokio::time::timeout(MOMENT, async {
            for _ in 0..FRAMES {
                if self.more().await.is_err() {
                    return;
                }
            }
        })
        .await;
    }
}
