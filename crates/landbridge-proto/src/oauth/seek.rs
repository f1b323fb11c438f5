//! Who issues tokens for a server of others: which document to fetch next, and what comes of it.
//!
//! ```text
//!   Resource ──it is there──▶ Issuer ──it is there──▶ Found
//!      │ it is nowhere           └ it is nowhere ──▶ Failed
//!      ▼
//!   Origin: as in 2025-03-26, the server issues its tokens itself ──▶ Found
//!      └ it is nowhere ──▶ Found, at the usual places
//! ```
//!
//! The addresses come from strangers: only `https` is fetched, or this machine where the server is on it too.
//! What is wrong with a document that is there ends the search, before anything is sent to anybody.

use std::collections::VecDeque;

use super::audience::Resource;
use super::challenge::Challenge;
use super::discovery::{Guarded, Issuer, issuer_urls, resource_urls};
use super::url::Url;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Fetch this, and say what is there.
    Fetch(String),
    /// The search is over.
    Found(Box<Found>),
    /// The search is over; why, to be told to the user.
    Failed(String),
}

/// Who issues tokens for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who it is.
    pub issuer: Issuer,
    /// What the tokens are asked for (RFC 8707); servers of 2025-03-26 have no such thing.
    pub resource: Option<String>,
    /// What tokens can hold, where the server says so.
    pub scopes: Vec<String>,
}

enum State {
    Resource,
    Issuer(Guarded),
    Origin,
    Over,
}

/// One search.
pub struct Seek {
    server: Resource,
    users: bool,
    state: State,
    places: VecDeque<String>,
    next: Option<Step>,
}

impl Seek {
    /// Begins a search for the server at `server`. `challenge`: what its refusal said; `users`: somebody can
    /// log in. The error fits after "the server's URL ".
    pub fn new(server: &str, challenge: Option<&Challenge>, users: bool) -> Result<Seek, &'static str> {
        let server = Resource::read(server)?;
        if !server.url().is_secure() {
            return Err("is not https, and tokens travel by nothing else");
        }
        let mut places = VecDeque::new();
        places.extend(challenge.and_then(|c| c.param("resource_metadata")).map(str::to_owned));
        for url in resource_urls(&server) {
            if !places.contains(&url) {
                places.push_back(url);
            }
        }
        let mut seek = Seek { server, users, state: State::Resource, places, next: None };
        seek.go_on();
        Ok(seek)
    }

    /// What to do next; `None`: it is over, or what was to be fetched was not told.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.next.take()
    }

    /// What was there; `None`: nothing, or no JSON. A place that does not answer is no place without a
    /// document: the caller ends the search then.
    pub fn handle_fetched(&mut self, document: Option<&str>) {
        let Some(text) = document else { return self.go_on() };
        match std::mem::replace(&mut self.state, State::Over) {
            State::Resource => match Guarded::read(text, &self.server) {
                Ok(guarded) => self.seek_issuer(guarded),
                Err(why) => self.fail(format!("the server's metadata (RFC 9728) cannot be used: {why}")),
            },
            State::Issuer(guarded) => {
                let name = &guarded.issuers[..1].concat();
                let read = if self.users { Issuer::read(text, name) } else { Issuer::read_without_users(text, name) };
                match read {
                    Ok(issuer) => self.find(issuer, Some(guarded)),
                    Err(why) => self.fail(format!("the metadata of the authorization server {name} cannot be used: {why}")),
                }
            }
            State::Origin => match Issuer::read_at_origin(text, self.server.url()) {
                Ok(issuer) => self.find(issuer, None),
                Err(why) => self.fail(format!("the metadata at the server's origin cannot be used: {why}")),
            },
            State::Over => {}
        }
    }

    /// The next place, or what it means that there is no other.
    fn go_on(&mut self) {
        if let Some(url) = self.places.pop_front() {
            return match may_fetch(&url, self.server.url()) {
                Ok(()) => self.next = Some(Step::Fetch(url)),
                Err(why) => self.fail(format!("the server's metadata is said to be at {url:?}, which {why}")),
            };
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Resource => {
                // 2025-03-26 knows no path (§2.3.1, "Authorization Base URL"); the first place is its own.
                let origin = self.server.url().origin();
                self.places.extend(issuer_urls(&origin).unwrap_or_default());
                self.state = State::Origin;
                self.go_on();
            }
            State::Issuer(guarded) => {
                let name = guarded.issuers[..1].concat();
                self.fail(format!("the authorization server {name} that the server names has no metadata"));
            }
            State::Origin => self.find(Issuer::at_usual_places(self.server.url()), None),
            State::Over => {}
        }
    }

    fn seek_issuer(&mut self, guarded: Guarded) {
        // More than one is the client's choice (RFC 9728 §7.6); the first is as good as any.
        match guarded.issuers.first().map(|issuer| issuer_urls(issuer)) {
            Some(Ok(urls)) => {
                self.places = urls.into();
                self.state = State::Issuer(guarded);
                self.go_on();
            }
            Some(Err(why)) => self.fail(format!("the issuer that the server names {why}")),
            None => self.fail("the server names nobody who issues its tokens".into()),
        }
    }

    fn find(&mut self, issuer: Issuer, guarded: Option<Guarded>) {
        let used = [Some(&issuer.authorization_endpoint), Some(&issuer.token_endpoint), issuer.registration_endpoint.as_ref()];
        for url in used.into_iter().flatten().filter(|url| !url.is_empty()) {
            if let Err(why) = may_fetch(url, self.server.url()) {
                return self.fail(format!("the authorization server has an endpoint at {url:?}, which {why}"));
            }
        }
        let (resource, scopes) = guarded.map_or((None, Vec::new()), |g| (Some(g.resource), g.scopes));
        self.next = Some(Step::Found(Box::new(Found { issuer, resource, scopes })));
    }

    fn fail(&mut self, why: String) {
        (self.state, self.next) = (State::Over, Some(Step::Failed(why)));
    }
}

/// Whether a URL that a stranger named may be asked on behalf of `server`. The error fits after "which ".
pub fn may_fetch(url: &str, server: &Url) -> Result<(), &'static str> {
    match Url::read(url)? {
        url if url.is_https() => Ok(()),
        url if url.is_loopback() && server.is_loopback() => Ok(()),
        _ => Err("is not https"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::challenge;
    use super::*;

    const ISSUER: &str = r#"{"issuer":"ISS","authorization_endpoint":"https://as/a","token_endpoint":"https://as/t",
        "code_challenge_methods_supported":["S256"]}"#;

    /// What is fetched one after the other, and what comes of it, where only these documents are.
    fn search(server: &str, header: Option<&str>, there: &[(&str, &str)]) -> (Vec<String>, Step) {
        let challenge = header.and_then(|header| challenge::bearer([header]));
        let mut seek = Seek::new(server, challenge.as_ref(), true).unwrap();
        let mut fetched = Vec::new();
        loop {
            match seek.poll_step().unwrap() {
                Step::Fetch(url) => {
                    seek.handle_fetched(there.iter().find(|(at, _)| *at == url).map(|(_, text)| *text));
                    fetched.push(url);
                }
                end => return (fetched, end),
            }
        }
    }

    fn found(step: Step) -> Found {
        match step {
            Step::Found(found) => *found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn places_are_tried_in_order() {
        let guarded = r#"{"resource":"https://h/mcp","authorization_servers":["https://as/t"],"scopes_supported":["a","b"]}"#;
        let issuer = ISSUER.replace("ISS", "https://as/t");
        let (fetched, end) = search(
            "https://h/mcp",
            None,
            &[("https://h/.well-known/oauth-protected-resource", guarded), ("https://as/t/.well-known/openid-configuration", &issuer)],
        );
        assert_eq!(
            fetched,
            [
                "https://h/.well-known/oauth-protected-resource/mcp",
                "https://h/.well-known/oauth-protected-resource",
                "https://as/.well-known/oauth-authorization-server/t",
                "https://as/.well-known/openid-configuration/t",
                "https://as/t/.well-known/openid-configuration",
            ]
        );
        let end = found(end);
        assert_eq!((end.issuer.issuer.as_str(), end.resource.as_deref()), ("https://as/t", Some("https://h/mcp")));
        assert_eq!(end.scopes, ["a", "b"]);
    }

    #[test]
    fn what_the_challenge_names_comes_first() {
        let header = Some("Bearer resource_metadata=\"https://h/meta\"");
        let guarded = r#"{"resource":"https://h","authorization_servers":["https://as"]}"#;
        let issuer = ISSUER.replace("ISS", "https://as");
        let there = [("https://h/meta", guarded), ("https://as/.well-known/oauth-authorization-server", issuer.as_str())];
        let (fetched, end) = search("https://h/mcp", header, &there);
        assert_eq!(fetched.len(), 2);
        assert_eq!(found(end).resource.as_deref(), Some("https://h"));
        let (fetched, _) = search("https://h/mcp", header, &[]);
        assert_eq!(fetched[..2], ["https://h/meta", "https://h/.well-known/oauth-protected-resource/mcp"]);
    }

    #[test]
    fn servers_of_2025_03_26_issue_their_tokens_themselves() {
        let issuer = ISSUER.replace("ISS", "https://h").replace("https://as", "https://h/oauth");
        let (fetched, end) = search("https://h/mcp", None, &[("https://h/.well-known/oauth-authorization-server", &issuer)]);
        assert_eq!(fetched.len(), 3);
        let end = found(end);
        assert_eq!((end.issuer.token_endpoint.as_str(), end.resource), ("https://h/oauth/t", None));
        let (fetched, end) = search("https://h/mcp", None, &[]);
        assert_eq!(fetched.len(), 4);
        assert_eq!(found(end).issuer.registration_endpoint.as_deref(), Some("https://h/register"));
    }

    #[test]
    fn a_document_that_is_wrong_ends_the_search() {
        let guarded = |resource: &str| format!(r#"{{"resource":"{resource}","authorization_servers":["https://as"]}}"#);
        let at = "https://h/.well-known/oauth-protected-resource/mcp";
        let (good, evil) = (guarded("https://h/mcp"), guarded("https://evil/mcp"));
        let (other, rest) = (ISSUER.replace("ISS", "https://as/"), "https://as/.well-known/oauth-authorization-server");
        let inside = ISSUER.replace("ISS", "https://as").replace("https://as/t", "http://127.0.0.1/t");
        for (there, said) in [
            (&[(at, evil.as_str())][..], "it is about https://evil/mcp, and not about https://h/mcp"),
            (&[(at, "{}")], "`resource` is missing"),
            (&[(at, good.as_str())], "has no metadata"),
            (&[(at, good.as_str()), (rest, other.as_str())], "it is about the issuer \"https://as/\""),
            (&[(at, good.as_str()), (rest, inside.as_str())], "which is not https"),
        ] {
            let Step::Failed(why) = search("https://h/mcp", None, there).1 else { panic!("{said}") };
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn only_https_is_fetched_or_this_machine_from_itself() {
        let header = |url: &str| format!("Bearer resource_metadata=\"{url}\"");
        for (server, url, fetched) in [
            ("https://h/mcp", "https://elsewhere/x", true),
            ("https://h/mcp", "http://h/x", false),
            ("https://h/mcp", "http://127.0.0.1/x", false),
            ("https://h/mcp", "http://169.254.169.254/latest", false),
            ("https://h/mcp", "file:///etc/passwd", false),
            ("https://h/mcp", "https://u@h/x", false),
            ("http://127.0.0.1:1/mcp", "http://localhost:2/x", true),
            ("http://127.0.0.1:1/mcp", "http://10.0.0.1/x", false),
        ] {
            let (urls, _) = search(server, Some(&header(url)), &[]);
            assert_eq!(urls.first().is_some_and(|first| first == url), fetched, "{url}");
        }
        assert!(Seek::new("http://h/mcp", None, true).is_err());
    }
}
