//! Lines to and from a handler, in place of the SDK's own: that one passes over a line which it cannot read, or finds too
//! long, and whoever has asked waits for ever. How long a line may be has been seen to before it comes here. And a
//! request whose parameters do not fit it takes for one of a method that nobody knows.

use std::io;

use rmcp::RoleServer;
use rmcp::model::{ClientRequest, ErrorData, JsonRpcMessage, RequestId};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::async_rw::AsyncRwTransport;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader, Empty, empty};

/// Methods whose parameters have a shape.
const SHAPED: [&str; 7] = [
    "completion/complete",
    "logging/setLevel",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "tools/call",
];

/// Both directions.
pub(crate) struct Lines<R, W: AsyncWrite> {
    read: BufReader<R>,
    line: Vec<u8>,
    write: AsyncRwTransport<RoleServer, Empty, W>,
}

/// What can be read of a request whatever its parameters are.
#[derive(Deserialize)]
struct Envelope {
    id: Option<RequestId>,
    method: Option<IgnoredAny>,
}

impl<R: AsyncRead + Send + Unpin, W: AsyncWrite + Send + Unpin + 'static> Lines<R, W> {
    pub(crate) fn new(read: R, write: W) -> Lines<R, W> {
        Lines { read: BufReader::new(read), line: Vec::new(), write: AsyncRwTransport::new(empty(), write) }
    }

    /// The answer to a request that cannot be read; whoever asked nothing is told nothing.
    fn refusal(&self, why: &serde_json::Error) -> Option<TxJsonRpcMessage<RoleServer>> {
        let envelope: Envelope = serde_json::from_slice(&self.line).ok()?;
        envelope.method?;
        // Not where in the line: it is not the one that the client has written.
        let why = why.to_string();
        let why = why.split(" at line ").next().unwrap_or_default();
        Some(refused(format!("the request cannot be read: {why}"), envelope.id))
    }
}

impl<R: AsyncRead + Send + Unpin + 'static, W: AsyncWrite + Send + Unpin + 'static> Transport<RoleServer> for Lines<R, W> {
    type Error = io::Error;

    fn send(&mut self, message: TxJsonRpcMessage<RoleServer>) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        self.write.send(message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            // What was read of a line stays when nobody waits for its rest.
            let read = self.read.read_until(b'\n', &mut self.line).await;
            if !matches!(read, Ok(1..)) {
                return None;
            }
            let message = serde_json::from_slice(&self.line);
            let refusal = match &message {
                Ok(message) => misfit(message),
                Err(why) => self.refusal(why),
            };
            self.line.clear();
            if self.line.capacity() > 1024 * 1024 {
                self.line = Vec::new();
            }
            match (refusal, message) {
                // By itself, as this may be given up at any time.
                (Some(refusal), _) => drop(tokio::spawn(self.write.send(refusal))),
                (None, Ok(message)) => return Some(message),
                (None, Err(_)) => {}
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.write.close().await
    }
}

/// The answer to a request whose parameters are not those of its method.
fn misfit(message: &RxJsonRpcMessage<RoleServer>) -> Option<TxJsonRpcMessage<RoleServer>> {
    match message {
        JsonRpcMessage::Request(request) => match &request.request {
            ClientRequest::CustomRequest(custom) if SHAPED.contains(&custom.method.as_str()) => {
                Some(refused(format!("`params` does not have the shape that `{}` wants", custom.method), Some(request.id.clone())))
            }
            _ => None,
        },
        _ => None,
    }
}

fn refused(why: String, id: Option<RequestId>) -> TxJsonRpcMessage<RoleServer> {
    TxJsonRpcMessage::<RoleServer>::error(ErrorData::invalid_params(why, None), id)
}
