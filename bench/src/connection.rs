//! One client connection: a socket, a buffer, and responses read out of it.
//!
//! Odd: there is no connection pool and no HTTP library. The generator shares the machine's
//! cores with the gateway, so each microsecond it wastes would be charged to the row.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::fault::Fault;
use crate::response::Response;

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Connection {
    /// `source` binds the near end, for runs with more connections than one address has ports.
    pub(crate) async fn open(address: SocketAddr, source: Option<Ipv4Addr>) -> Result<Self, Fault> {
        let opened = async {
            let socket = TcpSocket::new_v4()?;
            if let Some(source) = source {
                socket.bind(SocketAddr::from((source, 0)))?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = opened.await.map_err(|error| Fault::broken(format!("cannot connect to the server at {address}: {error}")))?;
        Ok(Connection { stream, buffer: vec![0; 8 * 1024], start: 0, end: 0 })
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes).await.map_err(|error| Fault::broken(format!("the server hung up on a request: {error}")))
    }

    /// Reads on until `response` has made some progress.
    pub(crate) async fn advance(&mut self, response: &mut Response) -> Result<(), Fault> {
        loop {
            let used = response.advance(&self.buffer[self.start..self.end])?;
            self.start += used;
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            }
            if used > 0 || response.is_done() {
                return Ok(());
            }
            if self.end == self.buffer.len() {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
                if self.end == self.buffer.len() {
                    self.buffer.resize(self.end * 2, 0);
                }
            }
            let read = self.stream.read(&mut self.buffer[self.end..]).await;
            match read {
                Ok(0) if response.closed() => return Ok(()),
                Ok(0) => {
                    return Err(Fault::broken("the server closed the connection in the middle of a response"));
                }
                Ok(read) => self.end += read,
                Err(error) => {
                    return Err(Fault::broken(format!("reading the response failed: {error}")));
                }
            }
        }
    }

    /// Sends `bytes` and reads the whole response to them.
    pub(crate) async fn exchange(&mut self, bytes: &[u8], response: &mut Response) -> Result<(), Fault> {
        response.reset();
        self.send(bytes).await?;
        while !response.is_done() {
            self.advance(response).await?;
        }
        Ok(())
    }

    /// Gives the socket up to be held open: out of the runtime, with its buffer freed.
    pub(crate) fn into_held(self) -> Result<std::net::TcpStream, Fault> {
        self.stream.into_std().map_err(|error| Fault::broken(format!("the runtime would not let go of a socket: {error}")))
    }
}
