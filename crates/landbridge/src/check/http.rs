//! Requests as a client sends them, and everything that comes back, within bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::Instant;

use landbridge_proto::sse::{Decoded, Decoder};

use crate::backend::http::{AGENT, Http};
use crate::check::seen::{Came, Missed, Seen};

/// Largest body, or message on a stream.
const BODY: usize = 16 * 1024 * 1024;
/// Messages on one stream before its answer.
const MESSAGES: usize = 1_000;
/// How long what should have no body, or none that matters, may take to end.
const MOMENT: Duration = Duration::from_secs(2);

/// What a client accepts: both.
pub(super) const BOTH: &str = "application/json, text/event-stream";

/// A server at a URL, what every request to it carries, and how long each may take.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) http: Http,
    pub(super) url: Uri,
    pub(super) headers: HeaderMap,
    pub(super) patience: Duration,
}

impl Site {
    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        is_local(&self.url)
    }

    /// The same at another URL.
    pub(super) fn at(&self, url: Uri) -> Site {
        Site { url, ..self.clone() }
    }

    /// POSTs a message as a client does, and reads until every request in it is answered.
    pub(super) async fn post(&self, message: &Value, extra: &[(&str, &str)]) -> Came {
        let all = [&[("accept", BOTH), ("content-type", "application/json")], extra].concat();
        self.send(Method::POST, &all, message.to_string(), &ids(message)).await
    }

    /// Sends anything. What is listed twice in `headers` counts as it stands there last; an empty value
    /// takes the header away. Reads until `awaited` are answered, or for a moment if nobody is.
    pub(super) async fn send(&self, method: Method, headers: &[(&str, &str)], body: impl Into<Bytes>, awaited: &[Value]) -> Came {
        let began = Instant::now();
        let response = self.head(method, headers, body.into()).await?;
        let first_byte = began.elapsed();
        let mut seen =
            Seen { status: Some(response.status().as_u16()), headers: response.headers().clone(), first_byte, ..Seen::default() };
        let until = if awaited.is_empty() { (Instant::now() + MOMENT).min(began + self.patience) } else { began + self.patience };
        let read = async {
            if seen.is_stream() { read_stream(response, &mut seen, awaited).await } else { read_whole(response, &mut seen).await }
        };
        match tokio::time::timeout_at(until, read).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => seen.cut = Some(why),
            Err(_) if awaited.is_empty() => {}
            Err(_) => seen.cut = Some(format!("the answer did not come within {} s", self.patience.as_secs_f32())),
        }
        seen.whole = began.elapsed();
        Ok(seen)
    }

    /// Waits for the head of a response; the body is the caller's.
    pub(super) async fn head(&self, method: Method, headers: &[(&str, &str)], body: Bytes) -> Result<Response<Incoming>, Missed> {
        let mut all = self.headers.clone();
        all.entry(USER_AGENT).or_insert(AGENT);
        for (name, value) in headers {
            let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) else { continue };
            if value.is_empty() {
                all.remove(&name)
            } else {
                all.insert(name, value)
            };
        }
        let sent = tokio::time::timeout(self.patience, self.http.send(method, &self.url, |headers| headers.clone_from(&all), body)).await;
        match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(trouble)) => Err(Missed { ended: false, why: trouble.why }),
            Err(_) => Err(Missed { ended: false, why: format!("it did not answer within {} s", self.patience.as_secs_f32()) }),
        }
    }

    /// GETs a stream, of which only the head is looked at.
    pub(super) async fn get(&self, extra: &[(&str, &str)]) -> Came {
        let all = [&[("accept", "text/event-stream")], extra].concat();
        let began = Instant::now();
        let response = self.head(Method::GET, &all, Bytes::new()).await?;
        let mut seen = Seen {
            status: Some(response.status().as_u16()),
            headers: response.headers().clone(),
            first_byte: began.elapsed(),
            ..Seen::default()
        };
        if !seen.is_stream() {
            let _ = tokio::time::timeout(MOMENT, read_whole(response, &mut seen)).await;
        }
        seen.whole = began.elapsed();
        Ok(seen)
    }
}

/// Whether a URL leads to this machine.
pub(super) fn is_local(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The ids of the requests in a message or a batch.
fn ids(message: &Value) -> Vec<Value> {
    let one = |m: &Value| m.get("method").and(m.get("id")).cloned();
    match message {
        Value::Array(all) => all.iter().filter_map(one).collect(),
        one_message => one(one_message).into_iter().collect(),
    }
}

async fn read_whole(response: Response<Incoming>, seen: &mut Seen) -> Result<(), String> {
    let mut body = response.into_body();
    let mut all = BytesMut::new();
    let mut end = Ok(());
    while let Some(frame) = body.frame().await {
        let data = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(e) => {
                end = Err(format!("the body broke off: {e}"));
                break;
            }
        };
        if all.len() + data.len() > BODY {
            end = Err(format!("the body is larger than {BODY} bytes"));
            break;
        }
        all.extend_from_slice(&data);
    }
    seen.has_body = !all.is_empty();
    match serde_json::from_slice::<Value>(&all) {
        Ok(value) if is_message(&value) => keep(seen, value),
        _ => seen.text = String::from_utf8_lossy(&all[..all.len().min(1_000)]).into_owned(),
    }
    end
}

async fn read_stream(response: Response<Incoming>, seen: &mut Seen, awaited: &[Value]) -> Result<(), String> {
    let mut events = Events::new(response);
    seen.has_body = true;
    while awaited.iter().any(|id| seen.answer(id).is_none()) || awaited.is_empty() {
        let Some(event) = events.next().await? else { break };
        match event {
            Decoded::Event(event) if event.is_message() => match serde_json::from_slice(&event.data) {
                Ok(value) => keep(seen, value),
                Err(_) => return Err("an event holds no JSON".into()),
            },
            Decoded::Event(_) => {}
            Decoded::TooLong { .. } => return Err(format!("an event is larger than {BODY} bytes")),
        }
        if seen.messages.len() > MESSAGES {
            return Err(format!("more than {MESSAGES} messages came before the answer"));
        }
    }
    Ok(())
}

fn is_message(value: &Value) -> bool {
    match value {
        Value::Array(all) => !all.is_empty() && all.iter().all(|m| m.is_object()),
        other => other.get("jsonrpc").is_some() || other.get("error").is_some_and(Value::is_object),
    }
}

fn keep(seen: &mut Seen, value: Value) {
    match value {
        Value::Array(all) => seen.messages.extend(all),
        one => seen.messages.push(one),
    }
}

/// The events of one response.
pub(super) struct Events {
    decoder: Decoder,
    body: Incoming,
}

impl Events {
    pub(super) fn new(response: Response<Incoming>) -> Events {
        Events { decoder: Decoder::new(BODY), body: response.into_body() }
    }

    /// The next one; `None`: the stream ended. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Decoded>, String> {
        loop {
            if let Some(event) = self.decoder.next_event() {
                return Ok(Some(event));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.decoder.feed(&frame.into_data().unwrap_or_default()),
                Some(Err(e)) => return Err(format!("the stream broke: {e}")),
                None => return Ok(None),
            }
        }
    }
}
