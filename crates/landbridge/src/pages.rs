//! Pages of somebody else's beside ours: what a program that embeds us serves at paths of its own, on the same
//! listener, behind the same bounds, and for the same callers.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tower_service::Service;

use landbridge_proto::call::{Principal, Transport};
use landbridge_proto::fault::{Fault, Kind};

use crate::backend::lock;
use crate::body::Body;
use crate::conversation::{Conversation, Visitor};
use crate::gateway::Gateway;
use crate::mcp::Arriving;
use crate::sessions::Live;
use crate::visits::Visits;

/// What goes wrong with a body.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// The body of a request for a page, and of its answer.
pub type PageBody = UnsyncBoxBody<Bytes, BodyError>;

type Answering = Pin<Box<dyn Future<Output = Response<PageBody>> + Send>>;

/// Pages, and where they are.
pub struct Pages {
    paths: Vec<(String, Access)>,
    answer: Box<dyn Fn(Request<PageBody>) -> Answering + Send + Sync>,
}

/// Who may see a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody, who may have a right of the page's own to show.
    Open,
    /// Whoever may use what it is beside.
    Guarded,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pages").field(&self.paths).finish()
    }
}

impl Pages {
    /// Pages that `service` answers, such as a router of axum's. It gets nothing until paths are named.
    ///
    /// Every request has passed the checks of Host and Origin. Its body has no bound but the service's own.
    pub fn new<S, F, B>(service: S) -> Pages
    where
        S: Service<Request<PageBody>, Response = Response<B>, Error = Infallible, Future = F> + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
    {
        let answer = move |request| -> Answering {
            // A clone of its own, which nobody has made wait.
            let mut service = service.clone();
            Box::pin(async move {
                let _ = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
                let Ok(response) = service.call(request).await;
                response.map(boxed)
            })
        };
        Pages { paths: Vec::new(), answer: Box::new(answer) }
    }

    /// At these paths for everybody. One that ends in `/*` stands for all below it.
    pub fn open<'p>(self, paths: impl IntoIterator<Item = &'p str>) -> Pages {
        self.at(paths, Access::Open)
    }

    /// At these paths for callers who may use every server here: whose request it is, is an extension of it, a
    /// [`Principal`](crate::embed::Principal), and as a [`Visitor`](crate::embed::Visitor) they can begin a conversation.
    pub fn guarded<'p>(self, paths: impl IntoIterator<Item = &'p str>) -> Pages {
        self.at(paths, Access::Guarded)
    }

    fn at<'p>(mut self, paths: impl IntoIterator<Item = &'p str>, access: Access) -> Pages {
        self.paths.extend(paths.into_iter().map(|path| (path.to_owned(), access)));
        self
    }

    /// Whether something is at this path, and for whom. The first that fits counts.
    pub(crate) fn find(&self, path: &str) -> Option<Access> {
        let fits = |ours: &str| match ours.strip_suffix('*') {
            Some(above) => path.starts_with(above),
            None => path == ours,
        };
        self.paths.iter().find(|(ours, _)| fits(ours)).map(|(_, access)| *access)
    }

    /// Answers a request.
    pub(crate) async fn answer<B: Arriving>(&self, request: Request<B>) -> Response<Body> {
        let request = request.map(|body| body.map_err(|e| BodyError::from(e.to_string())).boxed_unsync());
        (self.answer)(request).await.map(Body::Page)
    }
}

fn boxed<B>(body: B) -> PageBody
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A session, as those see it who look after it.
#[derive(Clone, Debug)]
pub struct Record {
    /// As its client knows it: see [`Inside::sessions`].
    pub id: String,
    /// Whose it is.
    pub principal: Principal,
    /// How they are connected.
    pub transport: Transport,
    /// What they may do; `None`: everything.
    pub scopes: Option<Vec<String>>,
    /// How long it has been there.
    pub age: Duration,
    /// How long ago its client did something.
    pub idle: Duration,
    /// Calls that run, or wait for their server.
    pub calls: usize,
    /// Events that wait for a reader, or are kept for one who comes back.
    pub events: usize,
}

/// What is served, for the pages beside it. Cheap to clone; it keeps nothing alive.
#[derive(Clone)]
pub struct Inside(Weak<Gateway>);

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inside")
    }
}

impl Inside {
    pub(crate) fn open(gateway: &Arc<Gateway>, pages: Option<impl FnOnce(Inside) -> Pages>) {
        if let Some(pages) = pages {
            let _ = gateway.pages.set(pages(Inside(Arc::downgrade(gateway))));
        }
    }

    /// The ids of all sessions, as their clients know them. Whoever knows one can send messages in its name where
    /// nobody is asked who they are: do not show them to strangers.
    pub fn sessions(&self) -> Vec<String> {
        let Some(gateway) = self.0.upgrade() else { return Vec::new() };
        gateway.sessions.ids().map(|id| gateway.plan.profile.id(id)).collect()
    }

    /// Lets a visitor speak over a connection of their own: a message a line, as over stdio. A fault says why they may
    /// not, as for a session over HTTP.
    pub fn begin(&self, visitor: &Visitor) -> Result<Conversation, Fault> {
        let Some(gateway) = self.0.upgrade() else { return Err(Fault::gateway(Kind::Busy).tell("it has ended")) };
        Conversation::begin(&gateway, visitor)
    }

    /// Where requests have come to since it began, and how they were received: every door, in the order in which a client
    /// comes to them.
    pub fn visits(&self) -> Vec<Visits> {
        self.0.upgrade().map_or_else(Vec::new, |gateway| gateway.visits.all())
    }

    /// What is kept of each, but for what is in it.
    pub fn records(&self) -> Vec<Record> {
        let Some(gateway) = self.0.upgrade() else { return Vec::new() };
        let record = |live: Arc<Live>| {
            let state = lock(&live.state);
            let (calls, events) = state.queued();
            Record {
                id: gateway.plan.profile.id(live.id),
                principal: live.who.clone(),
                transport: state.client().transport,
                scopes: live.scopes().map(<[String]>::to_vec),
                age: live.since.elapsed(),
                idle: state.last_used().elapsed(),
                calls,
                events,
            }
        };
        gateway.sessions.all().into_iter().map(record).collect()
    }

    /// How many there are.
    pub fn session_count(&self) -> usize {
        self.0.upgrade().map_or(0, |gateway| gateway.sessions.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stands_for_itself_or_for_all_below_it() {
        let nothing = tower(|_| async { Response::new(PageBody::default()) });
        let pages = Pages::new(nothing).open(["/health", "/files/*"]).guarded(["/api/*"]);
        let cases = [
            ("/health", Some(Access::Open)),
            ("/health/", None),
            ("/healthy", None),
            ("/files/a", Some(Access::Open)),
            ("/files", None),
            ("/api/a/b", Some(Access::Guarded)),
            ("/", None),
        ];
        for (path, access) in cases {
            assert_eq!(pages.find(path), access, "{path}");
        }
    }

    /// A function as a service.
    fn tower<F, A>(
        answer: F,
    ) -> impl Service<Request<PageBody>, Response = Response<PageBody>, Error = Infallible, Future: Send> + Clone + Send + Sync
    where
        F: Fn(Request<PageBody>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<PageBody>> + Send + 'static,
    {
        #[derive(Clone)]
        struct Answers<F>(F);
        impl<F, A> Service<Request<PageBody>> for Answers<F>
        where
            F: Fn(Request<PageBody>) -> A,
            A: Future<Output = Response<PageBody>> + Send + 'static,
        {
            type Response = Response<PageBody>;
            type Error = Infallible;
            type Future = Pin<Box<dyn Future<Output = Result<Response<PageBody>, Infallible>> + Send>>;
            fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
                std::task::Poll::Ready(Ok(()))
            }
            fn call(&mut self, request: Request<PageBody>) -> Self::Future {
                let answer = (self.0)(request);
                Box::pin(async move { Ok(answer.await) })
            }
        }
        Answers(answer)
    }
}
