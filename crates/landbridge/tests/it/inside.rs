//! Streams that are open when what let them in does not count any more: they end, and nobody else's do.
//!
//! No stream here waits for its next comment, which comes after a quarter of a minute at first.

use landbridge::jwt::own::Own;
use landbridge::store::Kind;
use landbridge_proto::oauth::jwt::Access;
use serde_json::{Value, json};

use crate::authority_races::Scratch;
use crate::foreign as far;
use crate::gateway::slow;
use crate::people::said;
use crate::visitors::{App, House, Tokens, ask, bearer, now_s, plan};
use crate::wire::{Response, Stream};

const CONFIG: &str = "[auth]\nmode = \"oauth\"\n[servers.a]\ndemo = true\n";

/// A gateway that takes nothing in but what it does itself, and what it knows beforehand.
fn house() -> House {
    House::open(&format!("[limits]\nrecheck_ms = 3600000\n{CONFIG}"))
}

/// One that shares its store with others, and looks there as often as it can.
fn shared(store: &Scratch) -> House {
    let mut plan = plan(&format!("[limits]\nrecheck_ms = 0\n{CONFIG}"));
    plan.auth.store = Some(store.url());
    House::planned(plan)
}

fn hello(revision: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": revision, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}}})
    .to_string()
}

/// One of each kind of stream, opened by one credential, for the changes of a server's list of tools.
struct Streams {
    port: u16,
    shown: (&'static str, String),
    session: String,
    get: Stream,
    sse: Stream,
    messages: String,
    listen: Stream,
}

impl Streams {
    fn open(house: &House, name: &'static str, value: &str) -> Streams {
        let shown = (name, value);
        let opened = house.wire().post("/mcp", &[shown], &hello("2025-11-25"));
        let session = opened.header("mcp-session-id").unwrap().to_owned();
        let get = get(house, shown, &session, None);
        let mut sse = house.wire().open("GET", "/sse", &[shown], None);
        let messages = sse.event().unwrap().data;
        assert_eq!(house.wire().post(&messages, &[shown], &hello("2025-06-18")).status, 202);
        assert_eq!(sse.message().unwrap()["id"], 1);
        let (headers, body) =
            crate::gateway::stateless_request(7, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        headers.push(shown);
        let mut listen = house.wire().open("POST", "/mcp", &headers, Some(&body));
        assert_eq!(listen.message().unwrap()["method"], "notifications/subscriptions/acknowledged");
        Streams { port: house.port, shown: (name, value.to_owned()), session, get, sse, messages, listen }
    }

    fn of_token(house: &House, token: &str) -> Streams {
        Streams::open(house, "authorization", &bearer(token))
    }

    fn of_key(house: &House, key: &str) -> Streams {
        Streams::open(house, "x-api-key", key)
    }

    fn all(&mut self) -> [&mut Stream; 3] {
        [&mut self.get, &mut self.sse, &mut self.listen]
    }

    /// Something changes, by the word of whoever this is; every stream of these hears of it.
    fn change(&mut self, others: &mut [&mut Streams]) {
        let shown = (self.shown.0, self.shown.1.as_str());
        assert_eq!(ask(self.port, "/mcp", &[shown], "tools/call", json!({"name": "toggle"})).status, 200);
        for streams in others.iter_mut().map(|streams| &mut **streams).chain([self]) {
            for stream in streams.all() {
                assert_eq!(stream.message().expect("a change")["method"], "notifications/tools/list_changed");
            }
        }
    }

    /// They end, without another word, and whoever comes back is told what to do.
    #[track_caller]
    fn have_ended(&mut self, house: &House) {
        for (number, stream) in self.all().into_iter().enumerate() {
            assert_eq!(stream.message(), None, "stream {number}");
        }
        let shown = (self.shown.0, self.shown.1.as_str());
        for said in [returned(house, shown, &self.session, "0-1"), house.wire().request("GET", "/sse", &[shown], None)] {
            let challenge = said.header("www-authenticate").unwrap();
            assert_eq!(said.status, 401, "{}", said.text());
            assert!(challenge.contains("resource_metadata=") && challenge.contains("error=\"invalid_token\""), "{challenge}");
        }
    }
}

/// The stream of a session.
fn get(house: &House, shown: (&str, &str), session: &str, last: Option<&str>) -> Stream {
    let mut headers = vec![shown, ("mcp-session-id", session), ("accept", "text/event-stream"), ("mcp-protocol-version", "2025-11-25")];
    headers.extend(last.map(|last| ("last-event-id", last)));
    house.wire().open("GET", "/mcp", &headers, None)
}

/// What somebody is told who takes it up again, and is not let in.
fn returned(house: &House, shown: (&str, &str), session: &str, last: &str) -> Response {
    let headers = [
        shown,
        ("mcp-session-id", session),
        ("accept", "text/event-stream"),
        ("mcp-protocol-version", "2025-11-25"),
        ("last-event-id", last),
    ];
    house.wire().request("GET", "/mcp", &headers, None)
}

fn revoke(app: &App, token: &str) {
    assert_eq!(app.post("/revoke", &[("token", token)], &[]).status, 200);
}

#[test]
fn streams_end_with_the_time_of_a_token_and_of_a_key() {
    let house = house();
    let app = App::register(house.port, "app");
    let ada_tokens = app.log_in("ada");
    let until_s = now_s() + 5;
    house.rewrite(Kind::Access, |_, expires_s| *expires_s = Some(until_s));
    let (bob, key) = (app.log_in("bob"), house.key("ci", None, None, Some(until_s)));
    let mut gone = [Streams::of_token(&house, &ada_tokens.access), Streams::of_key(&house, &key)];
    let mut bob = Streams::of_token(&house, &bob.access);
    let [ada, ci] = &mut gone;
    bob.change(&mut [ada, ci]);
    ci.have_ended(&house);
    assert_eq!((ada.get.message(), ada.listen.message()), (None, None));
    bob.change(&mut []);
    // What is a session by itself outlasts a token that could be refreshed, and nothing is to be had by the old one.
    assert_eq!(ada.sse.message().expect("a change")["method"], "notifications/tools/list_changed");
    let ping = |token: &str| ask(house.port, &ada.messages, &[("authorization", &bearer(token))], "ping", json!({})).status;
    assert_eq!(ping(&ada_tokens.access), 401);
    let next = Tokens::of(&app.refresh(&ada_tokens.refresh));
    // It ends with what its user has agreed to.
    revoke(&app, &next.refresh);
    assert_eq!(ada.sse.message(), None);
    bob.change(&mut []);
}

#[test]
fn streams_end_with_the_time_of_a_token_of_somebody_elses() {
    let own = Own::new(&Own::generate().unwrap(), &[]).unwrap();
    let jwks = own.jwks();
    let issuer = far::Foreign::start(move |_, reply| reply.whole(200, &[], &jwks));
    let name = issuer.url("");
    let house = House::open(&format!(
        "[limits]\nrecheck_ms = 0\n[auth]\nmode = \"jwt\"\nissuer = \"{name}\"\njwks_url = \"{name}/keys\"\n\
         audience = [\"api://landbridge\"]\nleeway_s = 0\n[servers.a]\ndemo = true\n"
    ));
    let token = |subject: &str, expires_s: u64| {
        let claims = Access {
            issuer: &name,
            subject,
            audience: "api://landbridge",
            client_id: "c",
            scopes: &[],
            id: subject,
            issued_s: now_s(),
            expires_s,
        };
        own.sign("at+jwt", &claims.claims()).unwrap()
    };
    let mut bob = Streams::of_token(&house, &token("bob", now_s() + 600));
    let mut ada = Streams::of_token(&house, &token("ada", now_s() + 5));
    bob.change(&mut [&mut ada]);
    ada.have_ended(&house);
    bob.change(&mut []);
}

#[test]
fn streams_end_with_what_is_withdrawn_here() {
    let house = house();
    let app = App::register(house.port, "app");
    let (ada, bob) = (app.log_in("ada"), app.log_in("bob"));
    let next = Tokens::of(&app.refresh(&ada.refresh));
    let mut first = Streams::of_token(&house, &ada.access);
    let mut second = Streams::of_token(&house, &next.access);
    let mut bob = Streams::of_token(&house, &bob.access);
    // One token of an agreement, and not the other.
    revoke(&app, &ada.access);
    first.have_ended(&house);
    bob.change(&mut [&mut second]);
    // All of the agreement.
    revoke(&app, &next.refresh);
    second.have_ended(&house);
    // And by somebody who shows a refresh token that was used long ago.
    let ada = app.log_in("ada");
    app.refresh(&ada.refresh);
    let mut third = Streams::of_token(&house, &ada.access);
    house.rewrite(Kind::Refresh, |value, _| {
        if let Some(used_s) = value["used_s"].as_u64() {
            value["used_s"] = (used_s - 100).into();
        }
    });
    assert_eq!(app.refresh(&ada.refresh).status, 400);
    third.have_ended(&house);
    bob.change(&mut []);
}

#[test]
fn streams_end_with_what_is_withdrawn_by_another_process() {
    let store = Scratch::new();
    let house = shared(&store);
    let app = App::register(house.port, "app");
    let key = said(&store, &["key", "add", "--owner", "ci", "--store", &store.url()], "").trim().to_owned();
    let other = said(&store, &["key", "add", "--owner", "ci", "--store", &store.url()], "").trim().to_owned();
    let (mut keyed, mut kept) = (Streams::of_key(&house, &key), Streams::of_key(&house, &other));
    let mut bob = Streams::of_token(&house, &app.log_in("bob").access);
    said(&store, &["key", "revoke", &key[4..16], "--store", &store.url()], "");
    keyed.have_ended(&house);

    let mut ada = Streams::of_token(&house, &app.log_in("ada").access);
    let principal = format!("landbridge:local#ada/{}", since_s(&crate::visitors::account("ada").value));
    let out = said(&store, &["user", "shut-out", &principal, "--store", &store.url()], "");
    assert!(out.starts_with('1'), "{out}");
    ada.have_ended(&house);

    let mut ada = Streams::of_token(&house, &app.log_in("ada").access);
    said(&store, &["user", "remove", "ada", "--store", &store.url()], "");
    ada.have_ended(&house);
    bob.change(&mut [&mut kept]);
}

fn since_s(account: &str) -> u64 {
    serde_json::from_str::<Value>(account).unwrap()["since_s"].as_u64().expect("a time")
}

#[test]
fn a_new_token_goes_on_with_the_session_and_misses_nothing() {
    let house = house();
    let app = App::register(house.port, "app");
    let ada = app.log_in("ada");
    let mut streams = Streams::of_token(&house, &ada.access);
    let mut bob = Streams::of_token(&house, &app.log_in("bob").access);
    assert_eq!(ask(house.port, "/mcp", &[("authorization", &bob.shown.1)], "tools/call", json!({"name": "toggle"})).status, 200);
    let seen = loop {
        let event = streams.get.event().expect("a change");
        if !event.data.is_empty() {
            break event.id.unwrap();
        }
    };
    drop(streams.sse.message());
    drop(streams.listen.message());
    revoke(&app, &ada.access);
    streams.have_ended(&house);
    for stream in bob.all() {
        drop(stream.message());
    }
    // Nobody reads, and things happen.
    for _ in 0..3 {
        bob.change(&mut []);
    }
    let next = Tokens::of(&app.refresh(&ada.refresh));
    let mut again = get(&house, ("authorization", &bearer(&next.access)), &streams.session, Some(&seen));
    bob.change(&mut []);
    let ids: Vec<u64> = (0..4)
        .map(|_| {
            let event = again.event().expect("a change");
            assert!(event.data.contains("list_changed"), "{event:?}");
            event.id.unwrap().strip_prefix("0-").unwrap().parse().unwrap()
        })
        .collect();
    let seen: u64 = seen.strip_prefix("0-").unwrap().parse().unwrap();
    assert_eq!(ids, (seen + 1..=seen + 4).collect::<Vec<_>>());
}

#[test]
fn a_call_that_was_let_in_is_answered() {
    let house = house();
    let app = App::register(house.port, "app");
    let ada = app.log_in("ada");
    let old = bearer(&ada.access);
    let mut streams = Streams::of_token(&house, &ada.access);
    // On the stream of its POST: one that waits for its client. And on one that broke, and was taken up again.
    let shown = [("authorization", old.as_str()), ("mcp-session-id", &streams.session), ("mcp-protocol-version", "2025-11-25")];
    let asking = |id: u64| {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "ask_user", "arguments": {}}});
        let mut stream = house.wire().open("POST", "/mcp", &shown, Some(&call.to_string()));
        let first = stream.event().unwrap().id.expect("an id to come back with");
        let question = stream.message().expect("a question");
        (stream, first, question["id"].clone())
    };
    let (post, _, one) = asking(2);
    let (broken, first, another) = asking(5);
    drop(broken);
    let mut again = get(&house, shown[0], &streams.session, Some(&first));
    assert_eq!(again.message().unwrap()["id"], another);
    // On the one stream of HTTP+SSE.
    assert_eq!(house.wire().post(&streams.messages, &[("authorization", &old)], &slow(3, 30, 100).to_string()).status, 202);
    assert_eq!(streams.sse.message().unwrap()["params"]["progress"], 1.0);
    revoke(&app, &ada.access);
    assert_eq!(streams.get.message(), None);
    let rest: Vec<Value> = std::iter::from_fn(|| streams.sse.message()).collect();
    assert_eq!((rest.len(), &rest.last().unwrap()["id"]), (30, &json!(3)), "{rest:?}");
    streams.have_ended(&house);
    // What it asked is answered with the next token.
    let next = bearer(&Tokens::of(&app.refresh(&ada.refresh)).access);
    for (mut stream, call, question) in [(post, 2, one), (again, 5, another)] {
        let answer = json!({"jsonrpc": "2.0", "id": question, "result": {"action": "accept", "content": {"answer": "Ada"}}});
        let headers = [("authorization", next.as_str()), ("mcp-session-id", &streams.session), ("mcp-protocol-version", "2025-11-25")];
        assert_eq!(house.wire().post("/mcp", &headers, &answer.to_string()).status, 202);
        assert_eq!(stream.message().expect("its answer")["id"], call);
        assert_eq!(stream.message(), None);
    }
}

#[test]
fn over_http_and_sse_a_new_token_keeps_the_stream() {
    let house = house();
    let app = App::register(house.port, "app");
    let ada = app.log_in("ada");
    let mut streams = Streams::of_token(&house, &ada.access);
    let next = Tokens::of(&app.refresh(&ada.refresh));
    let ping = |token: &str| {
        let ping = json!({"jsonrpc": "2.0", "id": 4, "method": "ping"}).to_string();
        house.wire().post(&streams.messages, &[("authorization", &bearer(token))], &ping).status
    };
    assert_eq!(ping(&next.access), 202);
    revoke(&app, &ada.access);
    assert_eq!(streams.get.message(), None);
    assert_eq!((ping(&ada.access), ping(&next.access)), (401, 202));
    for _ in 0..2 {
        assert_eq!(streams.sse.message().expect("it is there")["id"], 4);
    }
    // Until that is withdrawn, too.
    revoke(&app, &next.access);
    assert_eq!(streams.sse.message(), None);
}
