//! One request to a provider, within bounds: ten seconds, half a megabyte, JSON.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Uri};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;

use landbridge_proto::oauth::form::encode;
use landbridge_proto::oauth::url::Url;

use crate::backend::http::{AGENT, Http};
use crate::login::{Blame, Trouble};

/// For one request and all of its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer. A page of a hundred organisations has some 100 KiB.
const MAX_BODY: usize = 512 * 1024;

/// A request under way, in the provider's name for whoever reads what goes wrong.
pub(super) struct Exchange<'a> {
    http: &'a Http,
    provider: &'a str,
    method: Method,
    url: &'a str,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer, whatever its status.
pub(super) struct Answer {
    pub(super) status: http::StatusCode,
    pub(super) headers: HeaderMap,
    body: Bytes,
    provider: String,
}

impl<'a> Exchange<'a> {
    pub(super) fn get(http: &'a Http, provider: &'a str, url: &'a str) -> Exchange<'a> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Exchange { http, provider, method: Method::GET, url, headers, body: Bytes::new() }
    }

    /// A POST of a form.
    pub(super) fn post(http: &'a Http, provider: &'a str, url: &'a str, params: &[(&str, &str)]) -> Exchange<'a> {
        let pairs: Vec<String> = params.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let mut exchange = Exchange::get(http, provider, url);
        exchange.method = Method::POST;
        exchange.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        exchange.body = pairs.join("&").into();
        exchange
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Exchange<'a> {
        self.headers.insert(name, value);
        self
    }

    /// With an `Authorization` header, which no log of a connection shows. What cannot stand in a header is
    /// nobody's token.
    pub(super) fn authorized(mut self, credentials: &str) -> Result<Exchange<'a>, Trouble> {
        let Ok(mut value) = HeaderValue::from_str(credentials) else {
            return Err(Trouble::new(Blame::Provider, format!("{} gave us a token that cannot be sent", self.provider)));
        };
        value.set_sensitive(true);
        self.headers.insert(AUTHORIZATION, value);
        Ok(self)
    }

    pub(super) async fn send(self) -> Result<Answer, Trouble> {
        let provider = self.provider;
        let unreachable = |why: String| Trouble::new(Blame::Provider, format!("{provider} did not answer")).because(why);
        // A configured URL and those in an issuer's document carry secrets.
        if !Url::read(self.url).is_ok_and(|url| url.is_secure()) {
            return Err(Trouble::new(Blame::Operator, format!("an address of {provider} is not https")).because(self.url));
        }
        let url: Uri = self.url.parse().map_err(|_| unreachable(format!("{} is no URL", self.url)))?;
        let exchange = async {
            let response = self.http.send(self.method, &url, |headers| headers.clone_from(&self.headers), self.body).await;
            let (head, body) = response.map_err(|trouble| unreachable(trouble.why))?.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|e| unreachable(e.to_string()))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body, provider: provider.to_owned() })
        };
        let late = || Err(unreachable(format!("no answer within {} s", PATIENCE.as_secs())));
        tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| late())
    }
}

impl Answer {
    /// The body. Only fields that are named are read, each once.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Trouble> {
        // What was wrong is told without the body, which may hold tokens.
        serde_json::from_slice(&self.body).map_err(|e| self.odd(format!("line {} column {}: {:?}", e.line(), e.column(), e.classify())))
    }

    /// An answer that is not as it should be.
    pub(super) fn odd(&self, why: impl Into<String>) -> Trouble {
        Trouble::new(Blame::Provider, format!("{} gave an answer that we do not understand", self.provider)).because(format!(
            "HTTP {}: {}",
            self.status.as_u16(),
            why.into()
        ))
    }

    /// The answer, if its status is a good one.
    pub(super) fn good(self) -> Result<Answer, Trouble> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(match self.status.as_u16() {
            429 | 500..=599 => Trouble::new(Blame::Provider, format!("{} is out of order or has too much to do", self.provider)),
            _ => Trouble::new(Blame::Provider, format!("{} refused a request of ours", self.provider)),
        }
        .because(format!("HTTP {}", self.status.as_u16())))
    }
}
