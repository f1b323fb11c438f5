//! How often, and how much at once: each limit refuses, says when to come again, and lets in again; and whatever
//! becomes of a call or a session, its place is free afterwards.

use serde_json::{Value, json};

use crate::asks::{accept, retry};
use crate::audit::{Place, Web};
use crate::gateway::{Gateway, slow, stateless_request, tool, wait_until};
use crate::wire::{Response, Stream, Wire};

const ADA: &str = "sesame-of-ada-number-1";
const ADA_TOO: &str = "sesame-of-ada-number-2";
const BOB: &str = "sesame-of-bob-number-1";

/// With these keys of a configuration file, in front of a fixture of each era.
fn start(config: &str) -> Gateway {
    let place = Place::new();
    let binary = landbridge_fixtures::binary();
    let text = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n[auth]\nmode = \"keys\"\nstore = {:?}\n[servers.old]\ncommand = {binary:?}\nargs = [\"legacy\"]\n\
         [servers.new]\ncommand = {binary:?}\nargs = [\"modern\"]\n{config}\n",
        place.store()
    );
    let keys =
        [("MCP_API_KEY_1", format!("{ADA}:ada")), ("MCP_API_KEY_2", format!("{ADA_TOO}:ada")), ("MCP_API_KEY_3", format!("{BOB}:bob"))];
    let keys: Vec<(&str, &str)> = keys.iter().map(|(name, key)| (*name, key.as_str())).collect();
    Gateway::here(&["--config", &place.config(&text)], &keys)
}

/// A request of a stateless client at one of the servers.
fn send(gateway: &Gateway, server: &str, extra: &[(&str, &str)], method: &str, params: Value) -> Response {
    let (headers, body) = stateless_request(1, method, params);
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    headers.extend(extra);
    gateway.wire().post(&format!("/servers/{server}/mcp"), &headers, &body)
}

fn list(gateway: &Gateway, key: &str) -> Response {
    send(gateway, "new", &[("x-api-key", key)], "tools/list", json!({}))
}

/// Checks a refusal: which limit, and the seconds that both of its voices say.
#[track_caller]
fn refused(response: &Response, limit: &str) -> u64 {
    assert_eq!(response.status, 429, "{}", response.text());
    let error = &response.json()["error"];
    assert_eq!((error["code"].as_i64(), error["data"]["limit"].as_str()), (Some(-32000), Some(limit)), "{error}");
    let seconds: u64 = response.header("retry-after").expect("when to come again").parse().unwrap();
    assert_eq!(error["data"]["retryAfterSeconds"], seconds);
    assert!(error["message"].as_str().unwrap().contains(&format!("try again in {seconds} s")), "{error}");
    seconds
}

#[test]
fn nothing_is_limited_unless_it_is_said() {
    let gateway = start("");
    for _ in 0..150 {
        assert_eq!(list(&gateway, ADA).status, 200);
    }
}

#[test]
fn a_user_has_one_rate_with_all_keys() {
    let gateway = start("[rates]\nprincipal_per_minute = 3");
    for key in [ADA, ADA_TOO, ADA] {
        assert_eq!(list(&gateway, key).status, 200);
    }
    for key in [ADA, ADA_TOO] {
        assert!((1..=20).contains(&refused(&list(&gateway, key), "principal_per_minute")));
    }
    assert_eq!(list(&gateway, BOB).status, 200);
}

#[test]
fn a_client_has_a_rate_of_its_own() {
    let gateway = start("[rates]\nclient_per_minute = 60\nclient_burst = 2");
    for _ in 0..2 {
        assert_eq!(list(&gateway, ADA).status, 200);
    }
    let mut last = list(&gateway, ADA);
    while last.status == 200 {
        last = list(&gateway, ADA); // the machine is slow, and a second over
    }
    assert_eq!(refused(&last, "client_per_minute"), 1);
    assert_eq!(list(&gateway, ADA_TOO).status, 200);
    wait_until("the key to be let in again", || list(&gateway, ADA).status == 200);
}

#[test]
fn an_address_is_limited_before_it_is_asked_who_it_is() {
    let gateway = start("[rates]\naddress_per_minute = 4\naddress_burst = 2");
    let from =
        |address: &str, key: &str| send(&gateway, "new", &[("x-forwarded-for", address), ("x-api-key", key)], "tools/list", json!({}));
    assert_eq!(from("203.0.113.7", "nobody").status, 401);
    assert_eq!(from("203.0.113.7", ADA).status, 200);
    assert!((1..=15).contains(&refused(&from("203.0.113.7", ADA), "address_per_minute")));
    assert_eq!(
        refused(&from("203.0.113.7", "nobody"), "address_per_minute").min(15),
        refused(&from("203.0.113.7", BOB), "address_per_minute").min(15)
    );
    assert_eq!(from("203.0.113.8", ADA).status, 200, "another address");
    // Of IPv6 whoever has one address has a /64.
    assert_eq!((from("2001:db8::1", ADA).status, from("2001:db8::2", ADA).status), (200, 200));
    refused(&from("2001:db8::3", ADA), "address_per_minute");
    assert_eq!(from("2001:db8:0:1::3", ADA).status, 200);
    // Probes have none.
    for _ in 0..5 {
        assert_eq!(gateway.wire().request("GET", "/healthz", &[("x-forwarded-for", "203.0.113.7")], None).status, 200);
    }
}

// --- ceilings -------------------------------------------------------------------------------------

/// A session of somebody's at one of the servers.
struct Session<'g> {
    gateway: &'g Gateway,
    id: String,
    key: &'static str,
}

impl<'g> Session<'g> {
    fn ask(gateway: &'g Gateway, key: &str) -> Response {
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
        gateway.wire().post("/servers/old/mcp", &[("x-api-key", key)], &hello.to_string())
    }

    fn open(gateway: &'g Gateway, key: &'static str) -> Session<'g> {
        let response = Session::ask(gateway, key);
        assert_eq!(response.status, 200, "{}", response.text());
        Session { gateway, id: response.header("mcp-session-id").unwrap().to_owned(), key }
    }

    fn headers(&self) -> [(&str, &str); 2] {
        [("mcp-session-id", &self.id), ("x-api-key", self.key)]
    }

    fn send(&self, message: &Value) -> Response {
        self.gateway.wire().post("/servers/old/mcp", &self.headers(), &message.to_string())
    }

    fn stream(&self, message: &Value) -> Stream {
        self.gateway.wire().open("POST", "/servers/old/mcp", &self.headers(), Some(&message.to_string()))
    }

    fn end(&self) {
        assert_eq!(self.gateway.wire().request("DELETE", "/servers/old/mcp", &self.headers(), None).status, 204);
    }
}

/// A stateless call that takes its time, once it has begun.
fn stream(gateway: &Gateway, key: &str, delay_ms: u64) -> Stream {
    let params = json!({"name": "slow", "arguments": {"steps": 2, "delay_ms": delay_ms}, "_meta": {"progressToken": 1}});
    let (headers, body) = stateless_request(1, "tools/call", params);
    let mut headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    headers.push(("x-api-key", key));
    let mut stream = gateway.wire().open("POST", "/servers/new/mcp", &headers, Some(&body));
    assert_eq!(stream.status, 200);
    assert!(stream.event().is_some());
    stream
}

#[test]
fn calls_under_way_are_counted_for_a_user() {
    let gateway = start("[rates]\nprincipal_calls = 1");
    let mut call = stream(&gateway, ADA, 2_000);
    assert_eq!(refused(&list(&gateway, ADA_TOO), "principal_calls"), 1);
    assert_eq!(list(&gateway, BOB).status, 200);
    // Of a session's calls too.
    let session = Session::open(&gateway, ADA);
    refused(&session.send(&tool(2, "echo", json!({"message": "x"}))), "principal_calls");
    while call.event().is_some() {}
    assert_eq!(list(&gateway, ADA_TOO).status, 200);
    assert_eq!(session.send(&tool(3, "echo", json!({"message": "x"}))).status, 200);
}

/// A call at a handshake server that asks, of a stateless client.
fn ask(gateway: &Gateway, key: &str, mut params: Value) -> Response {
    params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}, "url": {}}}});
    send(gateway, "old", &[("x-api-key", key)], "tools/call", params)
}

#[track_caller]
fn is_now(said: &Response, result: &str) -> Value {
    assert_eq!(said.status, 200, "{}", said.text());
    let said = said.messages().pop().unwrap();
    assert_eq!(said["result"]["resultType"], result, "{said}");
    said
}

#[test]
fn calls_that_wait_for_answers_are_counted_for_a_user() {
    let gateway = start("[rates]\nprincipal_calls = 2\n[limits]\nask_timeout_ms = 90000");
    let asking = json!({"name": "test_elicitation", "arguments": {"message": "Who?"}});
    let first = is_now(&ask(&gateway, ADA, asking.clone()), "input_required");
    is_now(&ask(&gateway, ADA_TOO, asking.clone()), "input_required");
    let retry_s = refused(&ask(&gateway, ADA, asking.clone()), "principal_calls");
    assert!((60..=90).contains(&retry_s), "{retry_s}");
    is_now(&ask(&gateway, BOB, asking.clone()), "input_required");
    // They have places of their own: whoever calls meanwhile is not kept from it, nor whoever answers.
    assert_eq!(list(&gateway, ADA).status, 200);
    let answers = retry(&asking, &first, |_| Some(accept(json!({"username": "ada", "email": "a@b"}))));
    is_now(&ask(&gateway, ADA, answers), "complete");
    is_now(&ask(&gateway, ADA, asking.clone()), "input_required");
    refused(&ask(&gateway, ADA_TOO, asking), "principal_calls");
}

#[test]
fn what_waits_and_holds_nothing_gives_way() {
    let gateway = start("[rates]\nprincipal_calls = 2");
    let visits = |user: &str| json!({"name": "url_required", "arguments": {"user": user}});
    let call = |params: Value| ask(&gateway, ADA, params);
    // A page to visit is told however often somebody asks for it.
    let said: Vec<Value> = ["a", "b", "c"].into_iter().map(|user| is_now(&call(visits(user)), "input_required")).collect();
    let visited = |n: usize, user: &str| call(retry(&visits(user), &said[n], |_| Some(json!({"action": "accept"}))));
    assert_eq!(visited(0, "a").status, 400, "the oldest is sent again");
    is_now(&visited(2, "c"), "complete");
    // One of its places is free. A call that runs takes the other.
    let asking = json!({"name": "test_elicitation", "arguments": {"message": "Who?"}});
    for _ in 0..2 {
        is_now(&call(asking.clone()), "input_required");
    }
    assert_eq!(visited(1, "b").status, 400);
    refused(&call(asking), "principal_calls");
    refused(&call(visits("d")), "principal_calls");
}

/// With room for one call, a place that is not given back would be missed at once.
#[test]
fn however_a_call_ends_its_place_is_free() {
    let gateway = start("[rates]\nprincipal_calls = 1\n[limits]\ncall_timeout_ms = 1500");
    let call = |name: &str, arguments: Value| {
        send(&gateway, "new", &[("x-api-key", ADA)], "tools/call", json!({"name": name, "arguments": arguments}))
    };
    let free = |after: &str| wait_until(&format!("a free place after {after}"), || list(&gateway, ADA).status == 200);
    for _ in 0..3 {
        assert_eq!(call("echo", json!({"message": "x"})).status, 200);
        assert_eq!(call("test_error_handling", json!({})).json()["result"]["isError"], true);
        assert_eq!(call("no_such_tool", json!({})).status, 400);
        let unknown = send(&gateway, "new", &[("x-api-key", ADA)], "no/such", json!({}));
        assert!(unknown.json()["error"].is_object());
        assert_eq!(send(&gateway, "nowhere", &[("x-api-key", ADA)], "tools/list", json!({})).status, 404);
        free("answers");
        drop(stream(&gateway, ADA, 20_000));
        free("a client that left");
        let mut late = stream(&gateway, ADA, 20_000);
        while late.event().is_some() {}
        free("a call that took too long");
        call("die", json!({"code": 1}));
        free("a server that died");
    }
    for _ in 0..3 {
        let session = Session::open(&gateway, ADA);
        assert_eq!(session.send(&tool(2, "echo", json!({"message": "x"}))).status, 200);
        session.send(&tool(3, "no_such_tool", json!({})));
        free("answers to a session");
        let mut cancelled = session.stream(&slow(4, 100, 200));
        assert!(cancelled.event().is_some());
        let note = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4}});
        assert_eq!(session.send(&note).status, 202);
        free("a cancelled call");
        // Whose client has left, a call of a session runs on, and counts.
        let mut left = session.stream(&slow(5, 4, 250));
        assert!(left.event().is_some() && left.event().is_some());
        drop(left);
        refused(&list(&gateway, ADA), "principal_calls");
        free("a call that ran on by itself");
        let mut ended = session.stream(&slow(6, 100, 200));
        assert!(ended.event().is_some() && ended.event().is_some());
        session.end();
        free("a session that ended");
    }
    // Over HTTP+SSE.
    for n in 0..3 {
        let mut sse = gateway.wire().open("GET", "/servers/old/sse", &[("accept", "text/event-stream"), ("x-api-key", ADA)], None);
        let path = sse.event().unwrap().data;
        let post = |message: Value| assert_eq!(gateway.wire().post(&path, &[("x-api-key", ADA)], &message.to_string()).status, 202);
        post(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}));
        sse.message().unwrap();
        post(tool(2, "echo", json!({"message": "x"})));
        sse.message().unwrap();
        free("an answer on a stream");
        post(slow(3, 100, 200));
        sse.message().unwrap();
        post(tool(4, "echo", json!({"message": "x"})));
        let refused = crate::gateway::up_to_answer(&mut sse, 4).pop().unwrap();
        assert_eq!(refused["error"]["data"]["limit"], "principal_calls", "{n}: {refused}");
        drop(sse);
        free("a stream that was closed");
    }
}

#[test]
fn sessions_are_counted_for_a_user() {
    let gateway = start("[rates]\nprincipal_sessions = 2");
    let (first, _second) = (Session::open(&gateway, ADA), Session::open(&gateway, ADA_TOO));
    assert_eq!(refused(&Session::ask(&gateway, ADA), "principal_sessions"), 60);
    assert_eq!(Session::ask(&gateway, BOB).status, 200);
    first.end();
    let third = Session::open(&gateway, ADA);
    refused(&Session::ask(&gateway, ADA), "principal_sessions");
    third.end();
    // HTTP+SSE, whose stream is the session; and a stream of changes.
    for _ in 0..3 {
        let open = || gateway.wire().open("GET", "/servers/old/sse", &[("accept", "text/event-stream"), ("x-api-key", ADA)], None);
        let mut sse = None;
        wait_until("a place for a stream", || {
            let opened = open();
            let let_in = opened.status == 200;
            sse = Some(opened);
            let_in
        });
        refused(&Session::ask(&gateway, ADA_TOO), "principal_sessions");
        drop(sse);
        let (headers, body) = stateless_request(1, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        headers.push(("x-api-key", ADA));
        let mut listen = None;
        wait_until("a place for a stream of changes", || {
            let opened = gateway.wire().open("POST", "/servers/new/mcp", &headers, Some(&body));
            let let_in = opened.status == 200;
            listen = Some(opened);
            let_in
        });
        refused(&Session::ask(&gateway, ADA_TOO), "principal_sessions");
        drop(listen);
    }
}

#[test]
fn an_abandoned_session_gives_way_to_its_own_user() {
    let gateway = start("[rates]\nprincipal_sessions = 1\n[limits]\nsession_abandoned_ms = 1");
    let of_bob = Session::open(&gateway, BOB);
    let first = Session::open(&gateway, ADA);
    let mut second = Session::ask(&gateway, ADA_TOO);
    wait_until("a millisecond to pass", || {
        let let_in = second.status == 200;
        if !let_in {
            second = Session::ask(&gateway, ADA_TOO);
        }
        let_in
    });
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    assert_eq!((first.send(&ping).status, of_bob.send(&ping).status), (404, 200));
}

// --- strangers ----------------------------------------------------------------------------------

const METADATA: &str = r#"{"redirect_uris":["http://127.0.0.1:7777/cb"],"client_name":"App"}"#;

fn slowed(response: &Response, page: bool) {
    assert_eq!(response.status, 429, "{}", response.text());
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    let text = response.text();
    assert!(text.contains(&format!("try again in {seconds} s")), "{text}");
    let media = response.header("content-type").unwrap();
    match page {
        true => assert!(media.starts_with("text/html"), "{media}"),
        false => assert_eq!(response.json()["error"], "temporarily_unavailable"),
    }
}

#[test]
fn what_strangers_can_cause_is_limited_by_their_address() {
    let web = Web::start(
        "trusted_proxies = [\"127.0.0.1\"]\n[rates]\nregistrations_per_minute = 2\ntoken_failures_per_minute = 2\nlogins_per_minute = 2",
    );
    let gateway = &web.gateway;
    let from = |address: &'static str| {
        move |method: &str, path: &str, media: &str, body: &str| {
            let headers = [("x-forwarded-for", address), ("content-type", media), ("accept", "*/*")];
            gateway.wire().request(method, path, &headers, Some(body))
        }
    };
    let (here, there) = (&from("203.0.113.7"), &from("203.0.113.8"));
    let register = |from: &dyn Fn(&str, &str, &str, &str) -> Response| from("POST", "/register", "application/json", METADATA);
    assert_eq!((register(here).status, register(here).status), (201, 201));
    slowed(&register(here), false);
    assert_eq!(register(there).status, 201);
    let token = |from: &dyn Fn(&str, &str, &str, &str) -> Response| {
        from("POST", "/token", "application/x-www-form-urlencoded", "grant_type=refresh_token&refresh_token=x&client_id=nobody")
    };
    assert_eq!((token(here).status, token(here).status), (401, 401));
    slowed(&token(here), false);
    let revoke = here("POST", "/revoke", "application/x-www-form-urlencoded", "token=x&client_id=nobody");
    slowed(&revoke, false);
    assert_eq!(token(there).status, 401);
    let authorize = |from: &dyn Fn(&str, &str, &str, &str) -> Response| from("GET", "/authorize?client_id=nobody", "", "");
    assert_eq!((authorize(here).status, authorize(here).status), (400, 400));
    slowed(&authorize(here), true);
    slowed(&here("POST", "/login", "application/x-www-form-urlencoded", "user=x"), true);
    assert_eq!(authorize(there).status, 400);
    // What everybody may read is not.
    assert_eq!(here("GET", "/.well-known/oauth-authorization-server", "", "").status, 200);
}

#[test]
fn registrations_are_limited_from_everywhere_and_failures_cost_nothing() {
    let web = Web::start("trusted_proxies = [\"127.0.0.1\"]\n[rates]\nall_registrations_per_minute = 2");
    let register = |n: u8, body: &str| {
        let address = format!("203.0.113.{n}");
        let headers = [("x-forwarded-for", address.as_str()), ("content-type", "application/json")];
        web.gateway.wire().request("POST", "/register", &headers, Some(body))
    };
    for n in 0..5 {
        assert_eq!(register(n, "{}").status, 400);
    }
    assert_eq!((register(6, METADATA).status, register(7, METADATA).status), (201, 201));
    slowed(&register(8, METADATA), false);
}

#[test]
fn who_tries_many_at_once_has_no_more_tries() {
    let web = Web::start("[rates]\ntoken_failures_per_minute = 3");
    let body = "grant_type=refresh_token&refresh_token=x&client_id=nobody";
    let form = ("content-type", "application/x-www-form-urlencoded");
    let token = || web.gateway.wire().request("POST", "/token", &[form], Some(body));
    // Three are under way: all is there but the last byte.
    let (rest, last) = body.split_at(body.len() - 1);
    let head = format!(
        "POST /token HTTP/1.1\r\nhost: 127.0.0.1:{}\r\n{}: {}\r\ncontent-length: {}\r\n\r\n{rest}",
        web.gateway.port,
        form.0,
        form.1,
        body.len()
    );
    let begun: Vec<Wire> = (0..3)
        .map(|_| {
            let mut wire = web.gateway.wire();
            wire.write(head.as_bytes());
            wire
        })
        .collect();
    // Looking does not count.
    let gets = || web.gateway.wire().request("GET", "/token", &[], None).status;
    assert_eq!((gets(), gets(), gets(), gets()), (405, 405, 405, 405));
    // They count as soon as they were heard; whoever comes before that is the third itself.
    let mut refused = token();
    let mut n_failed = 0;
    while refused.status == 401 {
        n_failed += 1;
        refused = token();
    }
    slowed(&refused, false);
    let answered: Vec<u16> = begun
        .into_iter()
        .map(|mut wire| {
            wire.write(last.as_bytes());
            wire.response().status
        })
        .collect();
    let n_tried = answered.iter().filter(|status| **status == 401).count() + n_failed;
    assert_eq!((n_tried, answered.iter().filter(|status| **status == 429).count()), (3, n_failed), "{answered:?}");
}

#[test]
fn tokens_that_are_granted_count_for_nothing() {
    let web = Web::start("[rates]\ntoken_failures_per_minute = 1");
    let mut tokens = web.log_in();
    for _ in 0..5 {
        tokens = web.refresh(&tokens);
    }
}
