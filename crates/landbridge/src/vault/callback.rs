//! Where the answer to a login comes: one path, on this machine, until it has come.
//!
//! Odd: it is served by hand. What may come there is one line, and everything else on this machine can send
//! another: nothing is kept of that, nothing is shown of it, and it cannot keep its place for long.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::debug;

use landbridge_proto::oauth::login::{Login, Unusable};
use landbridge_proto::oauth::secret::Secret;

/// The one path.
const PATH: &str = "/callback";
/// Connections at a time; browsers open some that they do not use.
const MOST: usize = 32;
/// Longest head of a request. Codes of some issuers have 2 KiB.
const MOST_BYTES: usize = 16 * 1024;
/// For a request to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// For the page to be taken.
const TAKEN: Duration = Duration::from_secs(2);

/// A place for an answer.
pub(super) struct Callback {
    listener: TcpListener,
    port: u16,
}

impl Callback {
    /// Listens on `port`, or on `rather` if that is free, or on any.
    pub(super) async fn bind(port: Option<u16>, rather: Option<u16>) -> Result<Callback, String> {
        let bind = |port| TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let listener = match (port, rather) {
            (Some(port), _) => bind(port).await,
            (None, Some(rather)) => match bind(rather).await {
                Ok(listener) => Ok(listener),
                Err(_) => bind(0).await, // somebody else has it
            },
            (None, None) => bind(0).await,
        };
        let listener =
            listener.map_err(|e| format!("we cannot listen for the end of the login on 127.0.0.1:{}: {e}", port.unwrap_or(0)))?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        Ok(Callback { listener, port })
    }

    /// Where the issuer sends the user back to (RFC 8252 §7.3).
    pub(super) fn redirect_uri(&self) -> String {
        format!("http://127.0.0.1:{}{PATH}", self.port)
    }

    /// Waits for the answer to that login. The caller limits the time.
    pub(super) async fn wait(self, login: &Login) -> Result<Secret, Unusable> {
        let mut reading: JoinSet<Option<(TcpStream, Option<String>)>> = JoinSet::new();
        loop {
            let (stream, query) = tokio::select! {
                accepted = self.listener.accept(), if reading.len() < MOST => {
                    match accepted {
                        Ok((stream, _)) => drop(reading.spawn(async move { tokio::time::timeout(PATIENCE, read(stream)).await.ok()? })),
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await, // no more files may be open
                    }
                    continue;
                }
                Some(read) = reading.join_next() => match read {
                    Ok(Some(read)) => read,
                    _ => continue,
                },
            };
            let answer = match query.as_deref().map(|query| login.handle_callback(query)) {
                None => Err(Unusable::NotOurs),
                Some(answer) => answer,
            };
            let (status, title, said) = match &answer {
                Ok(_) => ("200 OK", "You are logged in", "You can close this window and go back to your application."),
                Err(Unusable::Refused(_)) => ("200 OK", "The login did not succeed", "Your application can tell you why."),
                Err(Unusable::Forged) => {
                    ("400 Bad Request", "This is not the answer that was expected", "Nothing was done with it. Please begin again.")
                }
                Err(Unusable::NotOurs) if query.is_none() => ("404 Not Found", "There is nothing here", ""),
                Err(Unusable::NotOurs) => {
                    debug!("something came at the redirect URI that belongs to no login of ours");
                    ("400 Bad Request", "This belongs to no login that is under way", "Please begin again in your application.")
                }
            };
            let write = write(stream, status, page(title, said));
            if answer == Err(Unusable::NotOurs) {
                tokio::spawn(write);
                continue;
            }
            write.await;
            return answer;
        }
    }
}

/// The query of a request for the path, and whom to answer; `None`: whoever it is is not worth an answer.
async fn read(mut stream: TcpStream) -> Option<(TcpStream, Option<String>)> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() >= MOST_BYTES || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let line = std::str::from_utf8(head.split(|b| *b == b'\r').next()?).ok()?;
    let target = line.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    let query = target.strip_prefix(PATH).and_then(|rest| rest.strip_prefix('?')).map(str::to_owned);
    Some((stream, query))
}

async fn write(mut stream: TcpStream, status: &str, page: String) {
    let whole = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\n\
         content-security-policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'\r\n\
         referrer-policy: no-referrer\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    let written = async {
        stream.write_all(whole.as_bytes()).await?;
        stream.shutdown().await?;
        // Until it has closed, too: to be closed while it still sends would take the page from it.
        let mut rest = [0; 512];
        while stream.read(&mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(TAKEN, written).await; // nobody has to read it
}

/// A page without scripts, that loads nothing.
fn page(title: &str, said: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem;\
         color:#222;background:#fff}}@media(prefers-color-scheme:dark){{body{{color:#ddd;background:#111}}}}</style>\
         <h1>{title}</h1><p>{said}</p></html>\n"
    )
}
