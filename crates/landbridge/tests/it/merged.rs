//! Several servers behind one endpoint, for clients of both eras, over every wire.

use serde_json::{Value, json};

use crate::asks::{Answer, accept, everything};
use crate::foreign::{Foreign, discovered};
use crate::gateway::{Gateway, Session, Sse, config_file, stateless_request, tool, up_to_answer, wait_until};
use crate::parked::Overheard;
use crate::tasks::{self, RELATED, SESSION, STATELESS, id_of, text_of};
use crate::wire::Stream;

/// `[servers.NAME]` with a fixture of that mode.
fn fixture(name: &str, mode: &str) -> String {
    format!("[servers.{name:?}]\ncommand = {:?}\nargs = [{mode:?}]\n", landbridge_fixtures::binary())
}

fn demo(name: &str) -> String {
    format!("[servers.{name:?}]\ndemo = true\n")
}

fn far(name: &str, server: &Foreign) -> String {
    format!("[servers.{name:?}]\nurl = {:?}\n", server.url("/mcp"))
}

/// In front of these.
fn serve(servers: &[String]) -> Gateway {
    let file = config_file(&servers.concat());
    let gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let _ = std::fs::remove_file(file);
    gateway
}

fn three() -> Gateway {
    serve(&[demo("show"), fixture("old", "legacy"), fixture("new", "modern")])
}

/// A client on one of the wires.
enum Client<'g> {
    Stateless(&'g Gateway),
    Session(Session<'g>),
    Sse(Sse<'g>),
}

impl<'g> Client<'g> {
    fn all(gateway: &'g Gateway) -> Vec<Client<'g>> {
        let session = |revision| Client::Session(gateway.session(revision));
        vec![Client::Stateless(gateway), session("2025-11-25"), session("2025-03-26"), Client::Sse(gateway.sse("2024-11-05"))]
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        match self {
            Client::Stateless(gateway) => gateway.stateless(7, method, params).messages().pop().unwrap(),
            Client::Session(session) => session.call(7, method, params),
            Client::Sse(sse) => sse.call(7, method, params),
        }
    }

    fn result(&mut self, method: &str, params: Value) -> Value {
        let said = self.call(method, params);
        assert!(said["result"].is_object(), "{method}: {said}");
        said["result"].clone()
    }

    fn tool(&mut self, name: &str, arguments: Value) -> Value {
        self.call("tools/call", json!({"name": name, "arguments": arguments}))
    }

    fn names(&mut self) -> Vec<String> {
        listed(&self.result("tools/list", json!({})), "tools", "name")
    }

    #[track_caller]
    fn is_refused(&mut self, method: &str, params: Value, code: i64, told: &str) {
        let said = self.call(method, params);
        assert_eq!(said["error"]["code"], code, "{said}");
        assert!(said["error"]["message"].as_str().unwrap().contains(told), "{said}");
    }
}

fn initialize() -> String {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string()
}

/// What is listed, by that key.
#[track_caller]
fn listed(listing: &Value, list: &str, key: &str) -> Vec<String> {
    let all = listing[list].as_array().unwrap_or_else(|| panic!("{listing}"));
    all.iter().map(|one| one[key].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn text(said: &Value) -> &str {
    said["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{said}"))
}

fn method(message: &Value) -> &str {
    message["method"].as_str().unwrap_or_default()
}

/// The next message of that method, or answer to that id.
fn next_of(stream: &mut Stream, what: &str) -> Value {
    loop {
        let message = stream.message().unwrap_or_else(|| panic!("no {what}"));
        if method(&message) == what {
            return message;
        }
    }
}

// --- tools --------------------------------------------------------------------------------------

#[test]
fn the_tools_of_all_servers_are_listed_and_called() {
    let gateway = three();
    for mut client in Client::all(&gateway) {
        let names = client.names();
        let of = |server: &str| names.iter().filter(|name| name.starts_with(server)).count();
        assert!(of("new__") > 5 && of("old__") > 5 && of("show__") > 5, "{names:?}");
        assert_eq!(of("new__") + of("old__") + of("show__"), names.len());
        assert!(names.is_sorted_by_key(|name| &name[..3]), "by server: {names:?}");
        for server in ["new", "old", "show"] {
            let said = client.tool(&format!("{server}__echo"), json!({"message": server, "text": server}));
            assert_eq!(text(&said), server);
        }
        for unknown in ["echo", "old__nothing", "other__echo", "old__", "x__gr__e_0123456789ab", "old__gr__e_0123456789ab"] {
            client.is_refused("tools/call", json!({"name": unknown}), -32602, "Unknown tool: ");
        }
        client.is_refused("tools/call", json!({"name": 5}), -32602, "`name` must be a string");
        client.is_refused("no/such", json!({}), -32601, "Method not found: no/such");
    }
}

#[test]
fn a_gateway_introduces_all_its_servers() {
    let gateway = three();
    let session = gateway.session("2025-06-18");
    let sse = gateway.wire().open("GET", "/sse", &[("accept", "text/event-stream")], None).event().unwrap();
    let discovered = gateway.stateless(2, "server/discover", json!({})).json();
    for hello in [&session.hello["result"], &discovered["result"]] {
        assert!(hello["instructions"].as_str().unwrap().contains("new, old, show"), "{hello}");
        for capability in ["tools", "prompts", "resources", "completions", "logging"] {
            assert!(hello["capabilities"][capability].is_object(), "{hello}");
        }
    }
    assert!(sse.data.starts_with("/messages?sessionId="), "{sse:?}");
    assert_eq!(session.call(3, "ping", json!({}))["result"], json!({}));
    // Who only says hello starts nobody.
    assert!(crate::gateway::descendants(gateway.pid()).is_empty());
}

#[test]
fn the_instructions_of_servers_that_were_met_are_told() {
    let dead = "[servers.dead]\ncommand = \"/no/such/program\"\n".to_owned();
    let gateway = serve(&[demo("show"), fixture("old", "legacy"), fixture("new", "modern"), dead]);
    let discovered = || gateway.stateless(2, "server/discover", json!({})).json()["result"]["instructions"].clone();
    let told = |name: &str| {
        let hello = gateway.wire().post(&format!("/servers/{name}/mcp"), &[], &initialize()).messages().pop().unwrap();
        format!("\n\n# {name}\n\n{}", hello["result"]["instructions"].as_str().unwrap().trim())
    };
    let show = told("show");
    let before = discovered().as_str().unwrap().to_owned();
    assert!(before.ends_with(&show) && before.matches("\n# ").count() == 1, "what is in this process is known: {before}");
    Client::Stateless(&gateway).names();
    let after = discovered().as_str().unwrap().to_owned();
    assert!(after.ends_with(&(told("new") + &told("old") + &show)) && !after.contains("# dead"), "{after}");
    assert_eq!(gateway.session("2025-06-18").hello["result"]["instructions"], after);
}

#[test]
fn names_that_do_not_fit_are_shortened_and_found_again() {
    let (long, strange) = ("x".repeat(100), "größe.1 x");
    let tools = json!([{"name": long, "inputSchema": {"type": "object"}}, {"name": strange, "inputSchema": {"type": "object"}}]);
    let answer = move |heard: &crate::foreign::Heard, reply: crate::foreign::Reply<'_>| match heard.what().as_str() {
        "tools/list" => reply.result(heard, json!({"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "private"})),
        _ => reply.result(heard, json!({"resultType": "complete", "content": [{"type": "text", "text": heard.json()["params"]["name"]}]})),
    };
    let (one, two) = (Foreign::sessions("2025-06-18", answer.clone()), Foreign::stateless(answer));
    let servers = [far("one", &one), far("two.2", &two)];
    let gateway = serve(&servers);
    let mut all: Vec<Vec<String>> = Vec::new();
    for mut client in Client::all(&gateway) {
        let names = client.names();
        assert!(names.iter().all(|name| name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')));
        for (name, own) in names.iter().zip([&*long, strange, &long, strange]) {
            assert_eq!(text(&client.tool(name, json!({}))), own);
        }
        all.push(names);
    }
    assert!(all.iter().all(|names| *names == all[0] && names.len() == 4), "{all:?}");
    // Nobody has to list before they call.
    let (first, second) = (serve(&servers), serve(&servers));
    for (name, own) in all[0].iter().zip([&*long, strange, &long, strange]) {
        assert_eq!(text(&Client::Stateless(&first).tool(name, json!({}))), own);
        assert_eq!(text(&Client::Session(second.session("2025-11-25")).tool(name, json!({}))), own);
    }
}

#[test]
fn what_is_kept_back_at_one_server_is_there_at_another() {
    let gateway = serve(&[fixture("a", "legacy") + "tools.allow = [\"echo\"]\n", fixture("b", "modern") + "tools.deny = [\"echo\"]\n"]);
    for mut client in Client::all(&gateway) {
        let names = client.names();
        assert_eq!(names.iter().filter(|name| name.starts_with("a__")).collect::<Vec<_>>(), ["a__echo"]);
        assert!(names.contains(&"b__add".into()) && !names.contains(&"b__echo".into()));
        client.is_refused("tools/call", json!({"name": "a__add", "arguments": {}}), -32602, "Unknown tool: ");
        client.is_refused("tools/call", json!({"name": "b__echo", "arguments": {}}), -32602, "Unknown tool: ");
        assert_eq!(text(&client.tool("a__echo", json!({"message": "hi"}))), "hi");
    }
}

#[test]
fn headers_that_mirror_arguments_are_checked_as_their_server_says() {
    let gateway = three();
    for (headers, status) in [(&[][..], 400), (&[("mcp-param-region", "north")], 200), (&[("mcp-param-region", "south")], 400)] {
        let params = json!({"name": "show__query_region", "arguments": {"region": "north"}});
        let (mut all, body) = stateless_request(3, "tools/call", params);
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let all: Vec<(&str, &str)> = all.iter().map(|(name, value)| (&**name, &**value)).collect();
        let said = gateway.wire().post("/mcp", &all, &body);
        assert_eq!(said.status, status, "{}", said.text());
    }
}

// --- prompts, resources, completion -------------------------------------------------------------

#[test]
fn prompts_are_listed_given_and_completed() {
    let gateway = three();
    for mut client in Client::all(&gateway) {
        let names = listed(&client.result("prompts/list", json!({})), "prompts", "name");
        assert!(names.contains(&"old__test_simple_prompt".into()) && names.contains(&"show__greet".into()), "{names:?}");
        let given = client.result(
            "prompts/get",
            json!({"name": "new__test_prompt_with_embedded_resource", "arguments": {"resourceUri": "test://static-text"}}),
        );
        assert_eq!(given["messages"][0]["content"]["resource"]["uri"], "new+test://static-text", "{given}");
        client.is_refused("prompts/get", json!({"name": "greet"}), -32602, "Unknown prompt: greet");
        let complete = |reference: Value| json!({"ref": reference, "argument": {"name": "arg1", "value": "par"}});
        for reference in [
            json!({"type": "ref/prompt", "name": "old__test_prompt_with_arguments"}),
            json!({"type": "ref/resource", "uri": "new+test://template/{id}/data"}),
        ] {
            let said = client.result("completion/complete", complete(reference));
            assert_eq!(said["completion"]["values"], json!(["paris", "park", "party"]), "{said}");
        }
        for unknown in [
            json!({"type": "ref/prompt", "name": "test_prompt_with_arguments"}),
            json!({"type": "ref/resource", "uri": "test://template/{id}/data"}),
            json!({"type": "ref/nothing"}),
        ] {
            client.is_refused("completion/complete", complete(unknown), -32602, "");
        }
    }
}

#[test]
fn resources_are_listed_and_read_under_a_name_that_says_whose_they_are() {
    let gateway = three();
    for mut client in Client::all(&gateway) {
        let uris = listed(&client.result("resources/list", json!({})), "resources", "uri");
        assert!(uris.contains(&"old+test://static-text".into()) && uris.contains(&"show+demo://readme".into()), "{uris:?}");
        for uri in uris {
            let read = client.result("resources/read", json!({"uri": uri}));
            assert_eq!(read["contents"][0]["uri"], *uri, "{read}");
        }
        let templates = listed(&client.result("resources/templates/list", json!({})), "resourceTemplates", "uriTemplate");
        assert!(templates.contains(&"new+test://template/{id}/data".into()), "{templates:?}");
        let read = client.result("resources/read", json!({"uri": "show+demo://greeting/Ada"}));
        assert_eq!(read["contents"][0], json!({"uri": "show+demo://greeting/Ada", "mimeType": "text/plain", "text": "Hello, Ada!"}));
        for unknown in ["test://static-text", "other+test://static-text"] {
            client.is_refused("resources/read", json!({"uri": unknown}), -32602, "Resource not found");
        }
        let embedded = client.tool("show__embedded_resource", json!({}));
        assert_eq!(embedded["result"]["content"][0]["resource"]["uri"], "show+demo://readme");
        assert!(client.tool("show__resource_link", json!({}))["result"].to_string().contains("show+demo://readme"));
    }
}

#[test]
fn what_shows_a_tool_is_read_by_the_name_that_the_tool_gives() {
    const APP: &str = "ui://clock/app.html";
    let answer = |heard: &crate::foreign::Heard, reply: crate::foreign::Reply<'_>| {
        let mut result = match heard.what().as_str() {
            "tools/list" => json!({"tools": [
                {"name": "new", "inputSchema": {"type": "object"}, "_meta": {"ui": {"resourceUri": APP, "visibility": ["app"]}}},
                {"name": "old", "inputSchema": {"type": "object"}, "_meta": {"ui/resourceUri": APP, "openai/outputTemplate": APP}}]}),
            "resources/read" if heard.json()["params"]["uri"] == APP => json!({"contents": [{"uri": APP, "text": "<html>"}]}),
            "resources/list" => json!({"resources": [{"uri": APP, "name": "app"}]}),
            what => panic!("{what}"),
        };
        result["resultType"] = "complete".into();
        (result["ttlMs"], result["cacheScope"]) = (0.into(), "private".into());
        reply.result(heard, result);
    };
    let (one, two) = (Foreign::sessions("2025-11-25", answer), Foreign::stateless(answer));
    let gateway = serve(&[far("one", &one), far("two", &two)]);
    for mut client in Client::all(&gateway) {
        let tools = client.result("tools/list", json!({}))["tools"].clone();
        for (at, server) in ["one", "two"].into_iter().enumerate() {
            let app = json!(format!("ui://{server}+clock/app.html"));
            assert_eq!(tools[2 * at]["_meta"], json!({"ui": {"resourceUri": app, "visibility": ["app"]}}));
            assert_eq!(tools[2 * at + 1]["_meta"], json!({"ui/resourceUri": app, "openai/outputTemplate": app}));
            let read = client.result("resources/read", json!({"uri": app}));
            assert_eq!((&read["contents"][0]["uri"], &read["contents"][0]["text"]), (&app, &json!("<html>")));
        }
    }
}

#[test]
fn a_session_hears_of_the_resources_it_subscribed_to() {
    let gateway = three();
    for (server, uri, touch) in [
        ("old", "test://watched-resource", "touch_watched"),
        ("new", "test://watched-resource", "touch_watched"),
        ("show", "demo://counter", "touch"),
    ] {
        let uri = json!({"uri": format!("{server}+{uri}")});
        let session = gateway.session("2025-11-25");
        let mut stream = session.get(None);
        assert_eq!(session.call(2, "resources/subscribe", uri.clone())["result"], json!({}));
        session.tool(3, &format!("{server}__{touch}"), json!({}));
        assert_eq!(next_of(&mut stream, "notifications/resources/updated")["params"]["uri"], uri["uri"]);
        assert_eq!(session.call(4, "resources/unsubscribe", uri.clone())["result"], json!({}));
        let mut sse = gateway.sse("2024-11-05");
        sse.call(2, "resources/subscribe", uri.clone());
        sse.post(&tool(3, &format!("{server}__{touch}"), json!({})));
        assert_eq!(next_of(&mut sse.stream, "notifications/resources/updated")["params"]["uri"], uri["uri"]);
    }
    let session = gateway.session("2025-11-25");
    assert_eq!(session.call(2, "resources/subscribe", json!({"uri": "demo://counter"}))["error"]["code"], -32602);
}

#[test]
fn a_listen_is_one_for_all_servers() {
    let gateway = three();
    let uris = ["new+test://watched-resource", "old+test://watched-resource", "show+demo://counter", "demo://counter"];
    let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": uris});
    let mut stream = gateway.stateless_stream(9, "subscriptions/listen", json!({"notifications": wanted}));
    let ack = stream.message().unwrap();
    assert_eq!(method(&ack), "notifications/subscriptions/acknowledged", "{ack}");
    assert_eq!(ack["params"]["notifications"], json!({"toolsListChanged": true, "resourceSubscriptions": uris[..3]}), "{ack}");
    for (server, touch, uri) in [("new", "touch_watched", uris[0]), ("old", "touch_watched", uris[1]), ("show", "touch", uris[2])] {
        Client::Stateless(&gateway).tool(&format!("{server}__{touch}"), json!({}));
        let updated = next_of(&mut stream, "notifications/resources/updated");
        assert_eq!(
            (&updated["params"]["uri"], &updated["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"]),
            (&json!(uri), &json!(9))
        );
    }
    for name in ["show__toggle", "old__test_trigger_tool_change", "new__test_trigger_tool_change"] {
        Client::Stateless(&gateway).tool(name, json!({}));
        next_of(&mut stream, "notifications/tools/list_changed");
    }
}

#[test]
fn a_session_hears_of_the_changes_of_every_server() {
    let gateway = three();
    let session = gateway.session("2025-11-25");
    session.call(2, "tools/list", json!({}));
    let mut stream = session.get(None);
    for name in ["show__toggle", "old__test_trigger_tool_change", "new__test_trigger_tool_change"] {
        session.tool(3, name, json!({}));
        next_of(&mut stream, "notifications/tools/list_changed");
    }
    assert!(Client::Session(session).names().contains(&"show__extra".into()));
}

// --- paging -------------------------------------------------------------------------------------

/// Has so many pages of two tools each.
fn pages(n: usize, era: &'static str) -> Foreign {
    let answer = move |heard: &crate::foreign::Heard, reply: crate::foreign::Reply<'_>| {
        let cursor = heard.json()["params"]["cursor"].clone();
        let page = match &cursor {
            Value::Null => 0,
            cursor => match cursor.as_str().and_then(|cursor| cursor.strip_prefix("page \"")?.parse::<usize>().ok()) {
                Some(page) => page,
                None => return reply.error(400, heard, -32602, "Invalid cursor"),
            },
        };
        let tools: Vec<Value> = (0..2).map(|at| json!({"name": format!("t{page}{at}"), "inputSchema": {"type": "object"}})).collect();
        let mut result = json!({"resultType": "complete", "tools": tools, "ttlMs": 5000, "cacheScope": "public"});
        if page + 1 < n {
            result["nextCursor"] = json!(format!("page \"{}", page + 1));
        }
        reply.result(heard, result);
    };
    if era == "stateless" { Foreign::stateless(answer) } else { Foreign::sessions("2025-11-25", answer) }
}

#[test]
fn the_pages_of_all_are_turned_together() {
    let (one, two) = (pages(3, "stateless"), pages(1, "handshake"));
    let gateway = serve(&[far("one", &one), far("two", &two), fixture("x", "dies-at-once")]);
    for mut client in Client::all(&gateway) {
        let (mut cursor, mut seen) = (json!({}), Vec::new());
        loop {
            let listing = client.result("tools/list", cursor);
            seen.push(listed(&listing, "tools", "name"));
            let Some(next) = listing["nextCursor"].as_str() else { break };
            assert!(!next.contains("page"), "{next}");
            // One listing's cursor is no other's.
            client.is_refused("prompts/list", json!({"cursor": next}), -32602, "Invalid cursor");
            cursor = json!({"cursor": next});
        }
        assert_eq!(
            seen,
            [vec!["one__t00", "one__t01", "two__t00", "two__t01"], vec!["one__t10", "one__t11"], vec!["one__t20", "one__t21"]]
        );
        for bad in [json!("page \"1"), json!(""), json!("x".repeat(10_000)), json!(5)] {
            client.is_refused("tools/list", json!({"cursor": bad}), -32602, "Invalid cursor");
        }
    }
}

#[test]
fn a_listing_is_kept_as_long_as_all_of_it_may_be() {
    let (one, two) = (pages(1, "stateless"), pages(1, "stateless"));
    let gateway = serve(&[far("one", &one), far("two", &two)]);
    let listing = Client::Stateless(&gateway).result("tools/list", json!({}));
    assert_eq!((&listing["ttlMs"], &listing["cacheScope"], &listing["resultType"]), (&json!(5000), &json!("public"), &json!("complete")));
    // Nor where somebody is missing.
    for other in [demo("two"), fixture("two", "dies-at-once")] {
        let gateway = serve(&[far("one", &one), other]);
        let listing = Client::Stateless(&gateway).result("tools/list", json!({}));
        assert_eq!((&listing["ttlMs"], &listing["cacheScope"]), (&json!(0), &json!("private")));
    }
    // Whoever has no such list is not missing.
    let gateway = serve(&[far("one", &one), fixture("two", "dies-at-once")]);
    assert_eq!(Client::Stateless(&gateway).result("prompts/list", json!({}))["prompts"], json!([]));
    assert_eq!(one.count("prompts/list"), 0);
}

// --- who is not there ---------------------------------------------------------------------------

#[test]
fn a_server_that_is_dead_hides_nothing_of_the_others() {
    let gateway = serve(&[demo("show"), fixture("dead", "dies-at-once"), "[servers.gone]\nurl = \"http://127.0.0.1:9/mcp\"\n".into()]);
    for mut client in Client::all(&gateway) {
        assert!(client.names().iter().all(|name| name.starts_with("show__")));
        assert_eq!(listed(&client.result("prompts/list", json!({})), "prompts", "name").len(), 2);
        assert_eq!(text(&client.tool("show__echo", json!({"message": "hi"}))), "hi");
        let said = client.tool("dead__echo", json!({}));
        assert!(said["error"]["message"].as_str().unwrap().contains("the server `dead`"), "{said}");
        let said = client.tool("gone__echo", json!({}));
        assert!(said["error"]["message"].as_str().unwrap().contains("the server `gone`"), "{said}");
    }
    let mut stream = gateway.stateless_stream(9, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    assert_eq!(stream.message().unwrap()["params"]["notifications"], json!({"toolsListChanged": true}));
    Client::Stateless(&gateway).tool("show__toggle", json!({}));
    next_of(&mut stream, "notifications/tools/list_changed");
}

#[test]
fn where_nobody_is_there_it_is_said_why() {
    let gateway = serve(&[fixture("a", "dies-at-once"), fixture("b", "dies-at-once")]);
    for mut client in Client::all(&gateway) {
        let said = client.call("tools/list", json!({}));
        assert!(said["error"]["message"].as_str().unwrap().contains("the server `a`"), "{said}");
    }
}

#[test]
fn a_server_that_comes_late_is_told_of() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gateway = serve(&[demo("show"), format!("[servers.late]\nurl = \"http://127.0.0.1:{port}/mcp\"\nprotocol = \"2026-07-28\"\n")]);
    let session = gateway.session("2025-11-25");
    let mut stream = session.get(None);
    assert!(!session.call(2, "tools/list", json!({})).to_string().contains("late__"));
    let mut listen = gateway.stateless_stream(9, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    listen.message().unwrap();
    let _late = Foreign::at(port, |heard, reply| match heard.what().as_str() {
        "server/discover" => reply.result(heard, discovered()),
        "tools/list" => reply.result(
            heard,
            json!({"resultType": "complete", "tools": [{"name": "t", "inputSchema": {}}], "ttlMs": 0, "cacheScope": "private"}),
        ),
        _ => reply.text(heard, "at last"),
    });
    wait_until("the late one", || session.tool(3, "late__t", json!({}))["result"].is_object());
    next_of(&mut stream, "notifications/tools/list_changed");
    assert!(session.call(4, "tools/list", json!({})).to_string().contains("late__t"));
}

#[test]
fn a_server_that_dies_is_started_again_and_hears_what_was_said() {
    let gateway = three();
    let session = gateway.session("2025-11-25");
    let mut stream = session.get(None);
    let uri = json!({"uri": "old+test://watched-resource"});
    assert_eq!(session.call(2, "resources/subscribe", uri.clone())["result"], json!({}));
    let died = session.tool(3, "old__die", json!({}));
    assert!(died["error"]["message"].as_str().unwrap().contains("the server `old`"), "{died}");
    assert_eq!(text(&session.tool(4, "show__echo", json!({"message": "I am not"}))), "I am not");
    session.tool(5, "old__touch_watched", json!({}));
    assert_eq!(next_of(&mut stream, "notifications/resources/updated")["params"], uri);
}

// --- while calls run ----------------------------------------------------------------------------

#[test]
fn every_server_may_ask_every_client() {
    let gateway = three();
    let given = accept(json!({"name": "ada", "answer": "ada", "username": "ada", "email": "a@b"}));
    for mut client in crate::asks::Client::all(&gateway, "2025-06-18", &everything()) {
        for name in ["old__test_input_required_result_elicitation", "new__test_input_required_result_elicitation", "show__ask_user"] {
            let talk = client.tool(name, json!({}), |_| Answer::Result(given.clone()));
            assert_eq!(talk.methods(), ["elicitation/create"], "{name}");
            assert!(talk.success().contains("ada"), "{name}: {talk:?}");
        }
        for name in ["old__test_input_required_result_sampling", "show__ask_model"] {
            let said = json!({"role": "assistant", "content": {"type": "text", "text": "model"}, "model": "m"});
            let talk = client.tool(name, json!({}), |_| Answer::Result(said.clone()));
            assert!(talk.success().contains("model"), "{name}: {talk:?}");
        }
    }
}

#[test]
fn questions_of_several_servers_at_once_find_back() {
    let gateway = three();
    let session = gateway.session_with("2025-11-25", everything());
    let calls =
        [(11, "old__test_input_required_result_elicitation"), (12, "new__test_input_required_result_elicitation"), (13, "show__ask_user")];
    let mut streams: Vec<Stream> = calls.iter().map(|(id, name)| session.stream(&tool(*id, name, json!({})))).collect();
    let questions: Vec<Value> = streams.iter_mut().map(|stream| next_of(stream, "elicitation/create")).collect();
    for ((question, (id, _)), stream) in questions.iter().zip(calls).zip(&mut streams).rev() {
        let given = accept(json!({"name": format!("ada {id}"), "answer": format!("ada {id}")}));
        assert_eq!(session.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": given})).status, 202);
        let last = up_to_answer(stream, id).pop().unwrap();
        assert!(text(&last).contains(&format!("ada {id}")), "{last}");
    }
}

#[test]
fn progress_and_logs_come_with_their_call() {
    let gateway = three();
    let slow = |server: &str| json!({"name": format!("{server}__slow"), "arguments": {"steps": 3, "delay_ms": 10}, "_meta": {"progressToken": "t"}});
    for server in ["old", "new", "show"] {
        let session = gateway.session("2025-11-25");
        let mut stream = session.stream(&json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": slow(server)}));
        let said = up_to_answer(&mut stream, 5);
        assert_eq!(said.iter().filter(|m| m["params"]["progressToken"] == "t").count(), 3, "{server}: {said:?}");
        let mut stream = gateway.stateless_stream(6, "tools/call", slow(server));
        let said = up_to_answer(&mut stream, 6);
        assert_eq!(said.iter().filter(|m| m["params"]["progressToken"] == "t").count(), 3, "{server}: {said:?}");
    }
    let session = gateway.session("2025-11-25");
    assert_eq!(session.call(2, "logging/setLevel", json!({"level": "loud"}))["error"]["code"], -32602);
    // Those that are open hear of it, and those that come later.
    session.tool(3, "show__echo", json!({"message": ""}));
    assert_eq!(session.call(4, "logging/setLevel", json!({"level": "debug"}))["result"], json!({}));
    for name in ["old__test_tool_with_logging", "new__test_tool_with_logging", "show__log"] {
        let said = up_to_answer(&mut session.stream(&tool(5, name, json!({"level": "debug"}))), 5);
        assert!(said.iter().any(|m| method(m) == "notifications/message"), "{name}: {said:?}");
    }
}

#[test]
fn a_call_that_is_withdrawn_ends_at_its_server() {
    for mode in ["legacy", "modern"] {
        let two = format!("two={} legacy", landbridge_fixtures::binary().display());
        let heard = Overheard::new("", &["--server", &two], mode);
        let gateway = &heard.gateway;
        let params = json!({"name": "sh__slow", "arguments": {"steps": 1000, "delay_ms": 20}, "_meta": {"progressToken": 1}});
        let session = gateway.session("2025-11-25");
        let mut stream = session.stream(&json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params}));
        next_of(&mut stream, "notifications/progress");
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}));
        let rest = up_to_answer(&mut stream, 5);
        assert!(rest.last().unwrap()["error"].is_object(), "{mode}: {rest:?}");
        heard.wait_for_cancel("slow", 1);
        assert_eq!(text(&session.tool(6, "sh__echo", json!({"message": "on"}))), "on");
        let mut stream = gateway.stateless_stream(6, "tools/call", params);
        next_of(&mut stream, "notifications/progress");
        drop(stream);
        heard.wait_for_cancel("slow", 2);
    }
}

#[test]
fn a_lost_connection_withdraws_nothing_of_a_session() {
    let two = format!("two={} legacy", landbridge_fixtures::binary().display());
    let gateway = Overheard::new("", &["--server", &two], "legacy").gateway;
    let session = gateway.session("2025-11-25");
    let mut call = tool(5, "sh__slow", json!({"steps": 10, "delay_ms": 30}));
    call["params"]["_meta"] = json!({"progressToken": 1});
    let mut stream = session.stream(&call);
    let id = loop {
        let event = stream.event().unwrap();
        if event.data.contains("notifications/progress") {
            break event.id.unwrap();
        }
    };
    drop(stream);
    let said = up_to_answer(&mut session.get(Some(&id)), 5);
    assert!(said.last().unwrap()["result"].is_object() && said.len() > 1, "{said:?}");
}

#[test]
fn what_a_client_tells_reaches_the_servers_it_uses() {
    let two = format!("two={} legacy", landbridge_fixtures::binary().display());
    let heard = Overheard::new("", &["--server", &two], "legacy");
    let session = heard.gateway.session_with("2025-11-25", everything());
    session.tool(2, "sh__echo", json!({"message": ""}));
    session.send(&json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}));
    wait_until("news of roots", || heard.count(|line| line["method"] == "notifications/roots/list_changed") == 1);
    // It shook hands as its client did.
    assert!(heard.count(|line| line["params"]["clientInfo"]["name"] == "test") >= 1);
}

// --- one, and none ------------------------------------------------------------------------------

#[test]
fn with_one_server_nothing_is_renamed_and_under_its_own_path_never() {
    let gateway = serve(&[fixture("old", "legacy")]);
    for mut client in Client::all(&gateway) {
        assert!(client.names().contains(&"echo".into()));
    }
    let gateway = three();
    let (headers, body) = stateless_request(3, "tools/list", json!({}));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    for server in ["old", "new", "show"] {
        let said = gateway.wire().post(&format!("/servers/{server}/mcp"), &headers, &body).json();
        assert!(listed(&said["result"], "tools", "name").contains(&"echo".into()));
    }
}

#[test]
fn servers_that_come_and_go_are_there_and_gone() {
    let file = config_file(&demo("show"));
    let gateway = Gateway::start(&["--config", file.to_str().unwrap()]);
    let change = |text: String| {
        let taken = || gateway.log().matches("the configuration has changed, and is served").count();
        let before = taken();
        std::fs::write(&file, text).unwrap();
        wait_until("the change", || taken() > before);
    };
    let alone = gateway.session("2025-11-25");
    change(demo("show") + &fixture("old", "legacy"));
    let both = gateway.session("2025-11-25");
    let mut listen = gateway.stateless_stream(9, "subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    listen.message().unwrap();
    // A session that was opened with one goes on with that one.
    assert_eq!(text(&alone.tool(2, "echo", json!({"message": "hi"}))), "hi");
    for mut client in Client::all(&gateway) {
        let names = client.names();
        assert!(names.contains(&"show__echo".into()) && names.contains(&"old__echo".into()), "{names:?}");
    }
    assert_eq!(text(&both.tool(2, "old__echo", json!({"message": "hi"}))), "hi");
    change(demo("show") + &fixture("old", "legacy") + &fixture("new", "modern"));
    // Its client begins anew, and sees what there is.
    wait_until("the end of the session", || both.send(&json!({"jsonrpc": "2.0", "id": 3, "method": "ping"})).status == 404);
    while listen.message().is_some() {}
    for mut client in Client::all(&gateway) {
        assert!(client.names().contains(&"new__echo".into()));
    }
    change(demo("show"));
    for mut client in Client::all(&gateway) {
        assert!(client.names().contains(&"echo".into()));
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_session_takes_its_servers_with_it() {
    let gateway = serve(&[fixture("a", "legacy"), fixture("b", "legacy")]);
    let session = gateway.session("2025-11-25");
    session.call(2, "tools/list", json!({}));
    wait_until("two servers", || crate::gateway::descendants(gateway.pid()).len() >= 4);
    assert_eq!(session.delete().status, 204);
    let sessions = || {
        let said = gateway.wire().request("GET", "/metrics", &[], None).text();
        said.lines().find_map(|line| line.strip_prefix("landbridge_sessions ")?.parse::<usize>().ok()).unwrap()
    };
    wait_until("no session", || sessions() == 0);
}

// --- tasks --------------------------------------------------------------------------------------

#[test]
fn tasks_of_every_server_are_asked_about_where_they_run() {
    let gateway = serve(&[fixture("a", "legacy"), fixture("b", "modern"), fixture("c", "legacy") + "isolation = \"none\"\n"]);
    for revision in [SESSION, STATELESS] {
        let client = tasks::Client::knowing(&gateway, revision);
        let begun: Vec<Value> = ["a", "b", "c"]
            .into_iter()
            .map(|server| client.begin(&format!("{server}__slow_compute"), json!({"seconds": 0.3, "label": server})))
            .collect();
        for (task, server) in begun.iter().zip(["a", "b", "c"]) {
            let outcome = client.outcome(id_of(task));
            assert!(text_of(&outcome["result"]).contains(server), "{revision} {server}: {outcome}");
            assert_eq!(client.ended(id_of(task))["status"], "completed");
        }
        for server in ["a", "b", "c"] {
            let task = client.begin(&format!("{server}__slow_compute"), json!({"seconds": 60}));
            client.result("tasks/cancel", json!({"taskId": id_of(&task)}));
            assert_eq!(client.ended(id_of(&task))["status"], "cancelled", "{revision} {server}");
        }
        for unknown in ["", "a", "a:nothing", "other:nothing"] {
            assert_eq!(client.refused("tasks/get", json!({"taskId": unknown})), -32602, "{revision}");
        }
        assert_eq!(client.refused("tasks/list", json!({})), -32601, "{revision}");
    }
}

#[test]
fn a_task_asks_its_client() {
    let gateway = serve(&[fixture("a", "legacy"), fixture("b", "modern"), fixture("c", "legacy") + "isolation = \"none\"\n"]);
    for server in ["a", "b", "c"] {
        let tool = format!("{server}__confirm_delete");
        let client = tasks::Client::knowing(&gateway, STATELESS);
        let task = client.begin(&tool, json!({"filename": "a.txt"}));
        assert!(client.wait_for(id_of(&task), &["input_required"])["inputRequests"]["confirm"].is_object());
        let answers = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
        client.result("tasks/update", json!({"taskId": id_of(&task), "inputResponses": answers}));
        assert_eq!(text_of(&client.outcome(id_of(&task))["result"]), "deleted a.txt", "{server}");

        // All on one stream: a server of its own asks at once, whether somebody waits for the result or not.
        let mut sse = crate::asks::sse_with(&gateway, SESSION, json!({"elicitation": {}}));
        let call = json!({"name": tool, "arguments": {"filename": "a.txt"}, "task": {}});
        sse.post(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}));
        let mut said = up_to_answer(&mut sse.stream, 2);
        let id = json!({"taskId": said.pop().unwrap()["result"]["task"]["taskId"]});
        sse.post(&json!({"jsonrpc": "2.0", "id": 3, "method": "tasks/result", "params": id}));
        let asked = said.into_iter().find(|m| method(m) == "elicitation/create");
        let asked = asked.unwrap_or_else(|| next_of(&mut sse.stream, "elicitation/create"));
        assert_eq!(asked["params"]["_meta"][RELATED], id, "{asked}");
        sse.post(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "content": {"confirm": true}}}));
        let last = up_to_answer(&mut sse.stream, 3).pop().unwrap();
        assert_eq!((text(&last), &last["result"]["_meta"][RELATED]), ("deleted a.txt", &id), "{server}");
    }
}

#[test]
fn who_knows_nothing_of_tasks_waits_for_the_result() {
    let gateway = serve(&[fixture("a", "legacy"), fixture("b", "modern"), demo("show")]);
    let sse = gateway.session("2025-06-18");
    assert_eq!(sse.hello["result"]["capabilities"].get("tasks"), None);
    for server in ["a", "b"] {
        let call = json!({"name": format!("{server}__slow_compute"), "arguments": {"seconds": 0.1, "label": "x"}});
        assert!(text(&gateway.stateless(3, "tools/call", call.clone()).messages().pop().unwrap()).contains('x'));
        assert!(text(&sse.call(3, "tools/call", call)).contains('x'));
    }
    // A server without tasks does not get the word.
    let client = tasks::Client::knowing(&gateway, SESSION);
    let said = client.result("tools/call", client.wanting("show__echo", json!({"message": "hi"})));
    assert_eq!(text_of(&said), "hi");
}
