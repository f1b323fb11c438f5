//! A Rust program that serves itself: functions as tools, on every wire to clients of every era.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use landbridge::embed::{
    Answer as Reply, Call, Changes, Ctx, Embed, Error, Fault, Kind, Level, Method, Mounted, Service, ToolResult, Tools,
};
use serde_json::{Value, json};

use crate::asks::{Client, everything, yes};
use crate::children::text;
use crate::gateway::{Gateway, signal, wait_until};
use crate::pipe::initialize;

/// Something that serves in this process, until it is dropped.
pub(crate) struct Served {
    pub gateway: Gateway,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    /// Serves on a port of its own, by our own listener.
    pub fn start(embed: impl FnOnce() -> Embed + Send + 'static) -> Served {
        Served::begin(async move |told, stop| {
            let bound = embed().listen("127.0.0.1:0").bind().await.unwrap();
            let _ = told.send(bound.address().port());
            bound.run_until(async { drop(stop.await) }).await;
        })
    }

    /// Serves by axum, which knows nothing of us.
    pub fn by_axum(router: impl FnOnce() -> axum::Router + Send + 'static) -> Served {
        Served::begin(async move |told, stop| {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let _ = told.send(listener.local_addr().unwrap().port());
            let router = router();
            tokio::select! {
                ended = axum::serve(listener, router) => ended.unwrap(),
                _ = stop => {}
            }
        })
    }

    /// The same as [`Served::start`], with threads enough for a tool that keeps one.
    fn on_threads(embed: impl FnOnce() -> Embed + Send + 'static) -> Served {
        let (told, port) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
            runtime.block_on(async move {
                let bound = embed().listen("127.0.0.1:0").bind().await.unwrap();
                let _ = told.send(bound.address().port());
                bound.run_until(async { drop(stopped.await) }).await;
            });
        });
        Served { gateway: Gateway::at(port.recv().expect("it listens")), stop: Some(stop), thread: Some(thread) }
    }

    fn begin(serve: impl AsyncFnOnce(std::sync::mpsc::Sender<u16>, tokio::sync::oneshot::Receiver<()>) + Send + 'static) -> Served {
        let (told, port) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(told, stopped));
        });
        let gateway = Gateway::at(port.recv().expect("it listens"));
        Served { gateway, stop: Some(stop), thread: Some(thread) }
    }

    /// Tells it to stop, and waits until it has.
    fn stop(&mut self) {
        drop(self.stop.take());
        self.thread.take().expect("it runs").join().unwrap();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            thread.join().unwrap();
        }
    }
}

#[derive(serde::Deserialize)]
struct Whom {
    name: String,
}

fn schema() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})
}

/// One tool for each thing that a tool may do.
fn tools() -> Tools {
    let none = || json!({"type": "object"});
    Tools::new("greeter", "1.2.3")
        .instructions("Greet.")
        .tool("greet", "Greets somebody", schema(), |Whom { name }, _| async move { Ok(format!("Hello, {name}!")) })
        .tool("fail", "Fails", none(), |_: Value, _| async move { Err::<&str, _>("no such luck".into()) })
        .tool("parse", "Fails as libraries do", none(), |_: Value, _| async move { Ok("x".parse::<u8>()?.to_string()) })
        .tool("weigh", "Answers an object", none(), |_: Value, _| async move { Ok(json!({"kg": 3})) })
        .tool("draw", "Answers contents", none(), |_: Value, _| async move {
            Ok(ToolResult::content([json!({"type": "image", "data": "AAAA", "mimeType": "image/png"})]).with("_meta", json!({"a.b/c": 1})))
        })
        .tool("work", "Tells how far it is", none(), |_: Value, context: Ctx| async move {
            context.progress(1.0, 2.0, "half").await;
            context.log(Level::Warning, json!("hm")).await;
            Ok("done")
        })
        .tool("ask", "Asks who is greeted", none(), |_: Value, context: Ctx| async move {
            let answer = context.ask(Method::Elicitation, json!({"message": "Who?", "requestedSchema": schema()})).await?;
            Ok(format!("Hello, {}!", answer["content"]["name"]))
        })
        .define(json!({"name": "greet2", "title": "Greet again", "inputSchema": {"type": "object"}}), |_: Value, _| async move { Ok("Hi") })
}

fn greeter() -> Embed {
    Embed::new("greeter", tools())
}

#[test]
fn a_function_is_a_tool_on_every_wire() {
    let served = Served::start(greeter);
    for mut client in Client::all(&served.gateway, "2025-03-26", &json!({})) {
        let never = |_: &Value| unreachable!();
        assert_eq!(client.tool("greet", json!({"name": "Adä"}), never).success(), "Hello, Adä!");
        assert_eq!(client.tool("fail", json!({}), never).failure(), "no such luck");
        assert_eq!(client.tool("parse", json!({}), never).failure(), "invalid digit found in string");
        let wrong = client.tool("greet", json!({"nam": 1}), never);
        assert_eq!(wrong.failure(), "the arguments do not fit `greet`: missing field `name` at line 1 column 9");
        let unknown = client.tool("gret", json!({}), never);
        assert_eq!((&unknown.last["error"]["code"], &unknown.last["error"]["message"]), (&json!(-32602), &json!("Unknown tool: gret")));
        let drawn = client.tool("draw", json!({}), never).last;
        assert_eq!(drawn["result"]["content"], json!([{"type": "image", "data": "AAAA", "mimeType": "image/png"}]));
        assert_eq!(drawn["result"]["_meta"]["a.b/c"], 1);
        let weighed = client.tool("weigh", json!({}), never);
        assert_eq!(weighed.success(), r#"{"kg":3}"#);
        let none = &mut |_: &Value| unreachable!();
        let listed = client.request(1, "tools/list", json!({}), none).last;
        let names: Vec<&str> = listed["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["greet", "fail", "parse", "weigh", "draw", "work", "ask", "greet2"], "in the order they were given");
        assert_eq!(client.request(1, "prompts/list", json!({}), none).last["error"]["code"], -32601);
    }
}

#[test]
fn it_says_who_it_is() {
    let served = Served::start(greeter);
    let hello = &served.gateway.session("2025-06-18").hello["result"];
    assert_eq!(hello["serverInfo"], json!({"name": "greeter", "version": "1.2.3"}));
    assert_eq!(hello["instructions"], "Greet.");
    let discovered = served.gateway.stateless(1, "server/discover", json!({})).json();
    assert_eq!(discovered["result"]["instructions"], "Greet.", "{discovered}");
    let session = served.gateway.session("2025-11-25");
    let weighed = session.call(3, "tools/call", json!({"name": "weigh", "arguments": {}}));
    assert_eq!(weighed["result"]["structuredContent"], json!({"kg": 3}));
}

#[test]
fn a_tool_asks_clients_of_every_era() {
    let served = Served::start(greeter);
    for mut client in Client::all(&served.gateway, "2025-06-18", &everything()) {
        let talk = client.tool("ask", json!({}), |question| {
            assert_eq!((&question["method"], &question["params"]["message"]), (&json!("elicitation/create"), &json!("Who?")));
            yes(json!({"name": "Ada"}))
        });
        assert_eq!(talk.success(), "Hello, \"Ada\"!");
        assert_eq!(talk.asked.len(), 1);
    }
    let mut dumb = Client::streamable(&served.gateway, "2025-11-25", json!({}));
    let refused = dumb.tool("ask", json!({}), |_| unreachable!());
    assert!(refused.failure().starts_with("the client cannot be asked now: it did not declare"), "{refused:?}");
    let refused = served.gateway.stateless(4, "tools/call", json!({"name": "ask", "arguments": {}})).json();
    assert_eq!(refused["error"]["code"], -32021, "{refused}");
}

#[test]
fn a_tool_asks_several_things_at_once() {
    let ask = |context: Ctx, what: &'static str| async move {
        let params = json!({"message": what, "requestedSchema": schema()});
        Ok::<_, String>(context.ask(Method::Elicitation, params).await?["content"]["name"].clone())
    };
    let tool = move |_: Value, context: Ctx| async move {
        // Each in a task of its own, so that each waits by itself.
        let tasks = ["a", "b", "c"].map(|what| tokio::spawn(ask(context.clone(), what)));
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await??);
        }
        Ok(Value::from(answers).to_string())
    };
    let served = Served::start(move || Embed::new("asker", Tools::new("asker", "1").tool("ask", "", json!({"type": "object"}), tool)));
    for mut client in Client::all(&served.gateway, "2025-06-18", &everything()) {
        let talk = client.tool_asking(3, "ask", |question| yes(json!({"name": question["params"]["message"]})));
        assert_eq!(talk.success(), r#"["a","b","c"]"#);
    }
}

#[test]
fn a_tool_that_panics_fails_its_call_alone() {
    let none = || json!({"type": "object"});
    let tools = move || {
        Tools::new("clumsy", "1")
            .tool("now", "", none(), |_: Value, _| -> std::future::Ready<Result<&str, _>> { panic!("as it was told") })
            .tool("later", "", none(), |_: Value, _| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if true {
                    panic!("as it was told")
                }
                Ok("")
            })
            .tool("slow", "", none(), |_: Value, _| async move {
                tokio::time::sleep(Duration::from_millis(300)).await;
                Ok("done")
            })
    };
    let served = Served::start(move || Embed::new("clumsy", tools()));
    for mut client in Client::all(&served.gateway, "2025-03-26", &json!({})) {
        for tool in ["now", "later"] {
            let failed = client.tool(tool, json!({}), |_| unreachable!());
            assert_eq!(failed.last["error"]["message"], "the server `clumsy` panicked in this call", "{failed:?}");
        }
    }
    // What else is under way for the same client is not harmed.
    let mut sse = served.gateway.sse("2024-11-05");
    sse.post(&crate::gateway::tool(2, "slow", json!({})));
    sse.post(&crate::gateway::tool(3, "later", json!({})));
    let (first, second) = (sse.next(), sse.next());
    assert_eq!((&first["id"], &second["id"], text(&second)), (&json!(3), &json!(2), "done"));
}

#[test]
fn a_call_that_is_withdrawn_while_its_tool_computes_ends_with_its_next_breath() {
    let (tell, computing) = std::sync::mpsc::channel();
    let over = Arc::new(AtomicUsize::new(0));
    let heard = over.clone();
    let tool = move |_: Value, context: Ctx| {
        let (tell, heard) = (tell.clone(), heard.clone());
        async move {
            // Somebody of its own who says things, beyond its end.
            tokio::spawn(async move {
                let refused = context.ask(Method::Elicitation, json!({"message": "?", "requestedSchema": schema()})).await.unwrap_err();
                assert_eq!(refused, "the call is over");
                heard.fetch_add(1, Ordering::Relaxed);
            });
            tell.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(400));
            std::future::pending::<()>().await;
            Ok("never")
        }
    };
    let embed = move || Embed::new("slow", Tools::new("slow", "1").tool("slow", "", json!({"type": "object"}), tool));
    let served = Served::on_threads(embed);
    let session = served.gateway.session_with("2025-11-25", everything());
    let mut stream = session.stream(&crate::gateway::tool(5, "slow", json!({})));
    computing.recv().unwrap();
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}});
    assert_eq!(session.send(&cancel).status, 202);
    while stream.message().is_some_and(|message| message["id"] != 5) {}
    wait_until("the tool's own task to hear of it", || over.load(Ordering::Relaxed) == 1);
}

#[test]
fn a_tool_tells_how_far_it_is() {
    let served = Served::start(greeter);
    let session = served.gateway.session("2025-11-25");
    let call = json!({"name": "work", "arguments": {}, "_meta": {"progressToken": "p"}});
    let mut stream = session.stream(&json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": call}));
    let said = [stream.message().unwrap(), stream.message().unwrap(), stream.message().unwrap()];
    assert_eq!(said[0]["params"], json!({"progressToken": "p", "progress": 1, "total": 2, "message": "half"}));
    assert_eq!(said[1]["params"], json!({"level": "warning", "logger": "greeter", "data": "hm"}));
    assert_eq!(text(&said[2]), "done");
}

/// A service of its own kind: it counts, by itself.
struct Clock {
    ticks: Arc<AtomicUsize>,
}

impl Service for Clock {
    fn hello(&self) -> Value {
        json!({"capabilities": {"resources": {"listChanged": true, "subscribe": true}}, "serverInfo": {"name": "clock", "version": "1"}})
    }

    fn call(self: Arc<Self>, call: Call, _: Ctx) -> Reply {
        Reply::Now(match call.method {
            Method::ResourcesRead => {
                let text = self.ticks.load(Ordering::Relaxed).to_string();
                Ok(json!({"contents": [{"uri": "clock:now", "text": text}]}).to_string().into())
            }
            Method::ResourcesList => Ok(json!({"resources": [{"uri": "clock:now", "name": "now"}]}).to_string().into()),
            Method::Subscribe | Method::Unsubscribe => Ok("{}".into()),
            _ => Err(Fault::client(Kind::UnknownMethod).tell("a clock cannot do that")),
        })
    }

    fn served(&self, changes: Changes) {
        let ticks = self.ticks.clone();
        std::thread::spawn(move || {
            while Arc::strong_count(&ticks) > 1 {
                std::thread::sleep(Duration::from_millis(50));
                ticks.fetch_add(1, Ordering::Relaxed);
                changes.tell_all(Method::ResourceUpdated, Some("clock:now"));
                changes.tell_all(Method::ResourcesChanged, None);
            }
        });
    }
}

#[test]
fn a_service_tells_changes_by_itself() {
    let served = Served::start(|| Embed::new("clock", Clock { ticks: Arc::default() }));
    let session = served.gateway.session("2025-11-25");
    assert_eq!(session.call(2, "resources/subscribe", json!({"uri": "clock:now"}))["result"], json!({}));
    let mut stream = session.get(None);
    let mut until = |method: &str| while stream.message().unwrap()["method"] != method {};
    until("notifications/resources/updated");
    until("notifications/resources/list_changed");
    let wanted = json!({"notifications": {"resourceSubscriptions": ["clock:now"]}});
    let mut stream = served.gateway.stateless_stream(3, "subscriptions/listen", wanted);
    assert_eq!(stream.message().unwrap()["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(stream.message().unwrap()["params"]["uri"], "clock:now");
}

#[test]
fn several_are_one_and_each() {
    let served = Served::start(|| greeter().and("clock", Clock { ticks: Arc::default() }).and("other", tools()));
    let listed = served.gateway.stateless(1, "tools/list", json!({})).json();
    let names: Vec<&str> = listed["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"greeter__greet") && names.contains(&"other__greet") && names.len() == 16, "{names:?}");
    let call = served.gateway.stateless(2, "tools/call", json!({"name": "other__greet", "arguments": {"name": "x"}})).json();
    assert_eq!(text(&call), "Hello, x!");
    let alone = crate::asks::post(
        &served.gateway,
        "/servers/other/mcp",
        3,
        "tools/call",
        json!({"name": "greet", "arguments": {"name": "y"}}),
        &json!({}),
    );
    assert_eq!(text(&alone.json()), "Hello, y!");
}

#[test]
fn it_is_stopped_when_its_calls_have_ended() {
    let tool = |_: Value, _| async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        Ok("after all")
    };
    let mut served = Served::start(move || Embed::new("slow", Tools::new("slow", "1").tool("slow", "", json!({"type": "object"}), tool)));
    let port = served.gateway.port;
    let call =
        std::thread::spawn(move || Gateway::at(port).stateless(1, "tools/call", json!({"name": "slow", "arguments": {}})).messages());
    std::thread::sleep(Duration::from_millis(200));
    served.stop();
    assert_eq!(text(&call.join().unwrap()[0]), "after all");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens");
}

#[test]
fn who_is_dropped_serves_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bound = greeter().listen("127.0.0.1:0").bind().await.unwrap();
        let address = bound.address();
        tokio::select! {
            () = bound.run() => unreachable!(),
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        // What accepts has been told, and ends when it is looked at.
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(address).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("somebody still listens");
    });
}

// --- in a router of somebody else's -------------------------------------------------------------

fn mount() -> Mounted {
    greeter().path("/tools").mount().unwrap()
}

fn greet(gateway: &Gateway, path: &str) -> Value {
    crate::asks::post(gateway, path, 3, "tools/call", json!({"name": "greet", "arguments": {"name": "y"}}), &json!({})).json()
}

#[test]
fn a_router_has_it_among_its_routes() {
    type Routers = [fn() -> axum::Router; 2];
    // The one takes the path away, the other leaves it.
    let routers: Routers = [|| axum::Router::new().nest_service("/tools", mount()), || axum::Router::new().fallback_service(mount())];
    for router in routers {
        let served = Served::by_axum(router);
        let gateway = &served.gateway;
        assert_eq!(text(&greet(gateway, "/tools/mcp")), "Hello, y!");
        assert_eq!(text(&greet(gateway, "/tools/servers/greeter/mcp")), "Hello, y!");
        for (at, messages) in [("/tools/sse", "/tools/messages?"), ("/tools/servers/greeter/sse", "/tools/servers/greeter/messages?")] {
            let mut stream = gateway.wire().open("GET", at, &[("accept", "text/event-stream")], None);
            let endpoint = stream.event().unwrap().data;
            assert!(endpoint.starts_with(messages), "{endpoint}");
            let hello = initialize(1, "2024-11-05", &json!({}));
            assert_eq!(gateway.wire().post(&endpoint, &[], &hello.to_string()).status, 202);
            assert_eq!(stream.message().unwrap()["result"]["serverInfo"]["name"], "greeter");
        }
        let foreign =
            gateway.wire().request("POST", "/tools/mcp", &[("host", "evil.example"), ("content-type", "application/json")], Some("{}"));
        assert_eq!(foreign.status, 403, "{}", foreign.text());
    }
}

#[test]
fn what_is_closed_takes_nothing_new_and_what_is_dropped_ends_its_streams() {
    let (tell, told) = std::sync::mpsc::channel();
    let served = Served::by_axum(move || {
        let mounted = mount();
        tell.send(mounted.clone()).unwrap();
        axum::Router::new().fallback_service(mounted)
    });
    let mounted = told.recv().unwrap();
    let mut stream = served.gateway.wire().open("GET", "/sse", &[("accept", "text/event-stream")], None);
    assert!(stream.event().is_some());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(mounted.close());
    assert!(stream.is_over());
    assert_eq!(greet(&served.gateway, "/mcp")["error"]["message"], "the gateway is being stopped; try again later");
}

// --- what cannot be served ----------------------------------------------------------------------

#[test]
fn what_cannot_be_served_is_told() {
    let told = |embed: Embed| embed.mount().map(|_| ()).unwrap_err().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    assert!(told(Embed::new("a/b", tools())).contains("`a/b`: use up to 64 letters"));
    assert!(told(greeter().listen("0.0.0.0:80")).contains("would let everybody who reaches this machine"));
    assert!(told(greeter().path("tools")).contains("must begin with a slash"));
    for ours in ["/mcp", "/sse/", "/servers/x", "/messages"] {
        assert!(told(greeter().path(ours)).contains("which is a path of its own below it"), "{ours}");
    }
    assert!(greeter().path("/mcps").mount().is_ok());
    assert!(told(greeter().allow_origin("app.example.com")).contains("app.example.com"));
    assert!(greeter().listen("0.0.0.0:80").insecure_public().mount().is_ok());

    struct Mute;
    impl Service for Mute {
        fn hello(&self) -> Value {
            json!("hm")
        }
        fn call(self: Arc<Self>, _: Call, _: Ctx) -> Reply {
            unreachable!()
        }
    }
    assert_eq!(told(Embed::new("mute", Mute)), "what the server `mute` says of itself is no object");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error: Error = runtime.block_on(greeter().listen(taken.local_addr().unwrap().to_string()).bind()).unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"), "{error}");
    // Nor at one more port that is taken.
    let port = taken.local_addr().unwrap().port();
    let error: Error = runtime.block_on(greeter().listen("127.0.0.1:0").listen_too(port).bind()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")), "{error}");
}

#[test]
fn several_ports_are_one_server() {
    let (told, ports) = std::sync::mpsc::channel();
    let mut served = Served::begin(async move |first, stop| {
        let bound = greeter().listen("127.0.0.1:0").listen_too(0).listen_too(0).bind().await.unwrap();
        told.send(bound.addresses().to_vec()).unwrap();
        let _ = first.send(bound.address().port());
        bound.run_until(async { drop(stop.await) }).await;
    });
    let ports: Vec<u16> = ports.recv().unwrap().iter().map(std::net::SocketAddr::port).collect();
    assert_eq!((ports.len(), ports[0]), (3, served.gateway.port));
    // A stream at one of them is the session of messages at another.
    let mut stream = crate::wire::Wire::connect(ports[1]).open("GET", "/sse", &[("Accept", "text/event-stream")], None);
    let path = stream.event().expect("an endpoint").data;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    assert_eq!(crate::wire::Wire::connect(ports[2]).post(&path, &[], &ping).status, 202);
    assert_eq!(stream.message().expect("an answer")["id"], 1);
    served.stop();
    for port in ports {
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens at {port}");
    }
}

// --- the examples -------------------------------------------------------------------------------

/// A built example.
fn example(name: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is not built", path.display());
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_examples_greet() {
    for (name, path) in [("tools", ""), ("axum", "/tools"), ("rmcp", "")] {
        // Free a moment ago, which mostly suffices.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut process = Command::new(example(name)).arg(address.to_string()).stdout(Stdio::null()).spawn().unwrap();
        wait_until("it to listen", || std::net::TcpStream::connect(address).is_ok());
        let gateway = Gateway::at(address.port());
        assert_eq!(text(&greet(&gateway, &format!("{path}/mcp"))), "Hello, y!", "{name}");
        let page = gateway.wire().request("GET", "/", &[], None);
        assert_eq!(page.text().starts_with("The tools are"), name == "axum");
        signal(process.id(), "TERM");
        process.wait().unwrap();
    }
}

#[test]
fn an_example_speaks_on_its_streams() {
    let told = Command::new(env!("CARGO_BIN_EXE_landbridge"))
        .args(["call", &format!("{} --stdio", example("tools")), "greet", r#"{"name": "Ada"}"#])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "Hello, Ada!\n", "{}", String::from_utf8_lossy(&told.stderr));
    // It goes also where its input stays open.
    let mut process = Command::new(example("tools")).arg("--stdio").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    signal(process.id(), "TERM");
    assert!(process.wait().unwrap().success());
}
