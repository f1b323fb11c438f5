//! Servers in this process that speak lines: handlers of the official SDK, and one by hand that misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use landbridge::embed::{Embed, Isolation, Limits, Pipe, Protocol};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolRequestParams, CallToolResponse, ErrorData, InputRequiredResult, ServerCapabilities, ServerConfig};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, tool, tool_handler, tool_router};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};

use crate::asks::{Client, everything, yes};
use crate::children::text;
use crate::embed::Served;
use crate::gateway::wait_until;

// --- the official SDK ---------------------------------------------------------------------------

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Whom {
    name: String,
}

/// What the user is asked for.
#[derive(Debug, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
struct Name {
    name: String,
}
rmcp::elicit_safe!(Name);

/// It counts its calls.
#[derive(Default)]
struct Greeter {
    calls: AtomicUsize,
}

#[tool_router]
impl Greeter {
    #[tool(description = "Greets somebody")]
    async fn greet(&self, Parameters(Whom { name }): Parameters<Whom>) -> String {
        format!("Hello, {name}!")
    }

    #[tool(description = "Asks who is greeted")]
    async fn ask(&self, context: RequestContext<RoleServer>) -> Result<String, ErrorData> {
        match context.peer.elicit::<Name>("Who?").await {
            Ok(Some(Name { name })) => Ok(format!("Hello, {name}!")),
            other => Ok(format!("nobody: {other:?}")),
        }
    }

    #[tool(description = "Counts its calls")]
    async fn count(&self) -> String {
        (self.calls.fetch_add(1, Ordering::Relaxed) + 1).to_string()
    }

    #[tool(description = "Says that there are other tools now")]
    async fn change(&self, context: RequestContext<RoleServer>) -> String {
        format!("{:?}", context.peer.notify_tool_list_changed().await.is_ok())
    }
}

#[tool_handler]
impl ServerHandler for Greeter {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        ServerConfig::new(capabilities).with_instructions("Greet.")
    }
}

fn greeter() -> Embed {
    Embed::new("greeter", landbridge_rmcp::handler(Greeter::default))
}

#[test]
fn a_handler_serves_every_wire() {
    let served = Served::start(greeter);
    for mut client in Client::all(&served.gateway, "2025-03-26", &json!({})) {
        let never = |_: &Value| unreachable!();
        assert_eq!(client.tool("greet", json!({"name": "Adä"}), never).success(), "Hello, Adä!");
        let wrong = client.tool("greet", json!({"nam": 1}), never);
        assert!(wrong.last.to_string().contains("missing field `name`"), "{wrong:?}");
        let listed = client.request(1, "tools/list", json!({}), &mut |_: &Value| unreachable!()).last;
        assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(4), "{listed}");
    }
    assert_eq!(served.gateway.session("2024-11-05").hello["result"]["instructions"], "Greet.");
}

#[test]
fn a_handler_asks_clients_of_every_era() {
    let served = Served::start(greeter);
    for mut client in Client::all(&served.gateway, "2025-06-18", &everything()) {
        let talk = client.tool("ask", json!({}), |question| {
            assert_eq!((&question["method"], &question["params"]["message"]), (&json!("elicitation/create"), &json!("Who?")));
            yes(json!({"name": "Ada"}))
        });
        assert_eq!(talk.success(), "Hello, Ada!");
    }
}

#[test]
fn a_session_has_a_handler_of_its_own() {
    let served = Served::start(greeter);
    let count = |session: &crate::gateway::Session<'_>| text(&session.call(3, "tools/call", json!({"name": "count"}))).to_owned();
    let (one, other) = (served.gateway.session("2025-11-25"), served.gateway.session("2025-06-18"));
    assert_eq!([count(&one), count(&one), count(&other), count(&one)], ["1", "2", "1", "3"]);
    // Stateless clients share one.
    let stateless = || text(&served.gateway.stateless(1, "tools/call", json!({"name": "count", "arguments": {}})).json()).to_owned();
    assert_eq!([stateless(), stateless()], ["1", "2"]);
}

#[test]
fn a_handler_that_all_share_counts_for_all() {
    let served = Served::start(|| Embed::new("greeter", landbridge_rmcp::handler(Greeter::default).isolation(Isolation::None)));
    let count = |session: crate::gateway::Session<'_>| text(&session.call(3, "tools/call", json!({"name": "count"}))).to_owned();
    let (one, other) = (served.gateway.session("2025-11-25"), served.gateway.session("2025-06-18"));
    assert_eq!([count(one), count(other)], ["1", "2"]);
}

#[test]
fn a_handler_tells_changes() {
    let served = Served::start(greeter);
    let session = served.gateway.session("2025-11-25");
    let mut stream = session.get(None);
    assert_eq!(text(&session.call(3, "tools/call", json!({"name": "change"}))), "true");
    assert_eq!(stream.message().unwrap()["method"], "notifications/tools/list_changed");
}

/// A handler of 2026-07-28: it does not ask, it answers that it needs to.
struct Stateless;

impl ServerHandler for Stateless {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(&self, request: CallToolRequestParams, _: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let answered =
            request.input_responses.as_ref().map(|answers| serde_json::to_value(answers).unwrap()["who"]["content"]["name"].clone());
        let said = match answered {
            Some(name) => json!({"content": [{"type": "text", "text": format!("Hello, {name}!")}]}),
            None => json!({"resultType": "input_required", "inputRequests": {"who": {"method": "elicitation/create", "params": {
                "mode": "form", "message": "Who?",
                "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}}}}}),
        };
        if said.get("resultType").is_some() {
            let needed: InputRequiredResult = serde_json::from_value(said).unwrap();
            return Ok(needed.into());
        }
        let result: rmcp::model::CallToolResult = serde_json::from_value(said).unwrap();
        Ok(result.into())
    }
}

#[test]
fn a_handler_without_a_handshake_asks_clients_of_every_era() {
    let served = Served::start(|| Embed::new("stateless", landbridge_rmcp::handler(|| Stateless).protocol(Protocol::Auto)));
    for mut client in Client::all(&served.gateway, "2025-06-18", &everything()) {
        let talk = client.tool("any", json!({}), |_| yes(json!({"name": "Ada"})));
        assert_eq!(talk.success(), "Hello, \"Ada\"!");
    }
}

// --- by hand ------------------------------------------------------------------------------------

/// A server of 2025-11-25 that answers every tool with its name, and knows three that it should not.
async fn lines(input: DuplexStream, mut output: DuplexStream) -> Result<(), String> {
    let mut lines = BufReader::new(input).lines();
    while let Some(line) = lines.next_line().await.map_err(|e| e.to_string())? {
        let message: Value = serde_json::from_str(&line).map_err(|e| e.to_string())?;
        let result = match message["method"].as_str() {
            Some("initialize") => {
                json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "x", "version": "1"}})
            }
            Some("tools/call") => match message["params"]["name"].as_str() {
                Some("panic") => panic!("as it was told"),
                Some("return") => return Ok(()),
                Some("fail") => return Err("out of paper".into()),
                name => json!({"content": [{"type": "text", "text": name}]}),
            },
            _ => continue,
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        output.write_all(format!("{answer}\n").as_bytes()).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[test]
fn one_that_ends_is_begun_again() {
    let served = Served::start(|| Embed::new("lines", Pipe::new(lines).protocol(Protocol::Legacy)));
    let session = served.gateway.session("2025-11-25");
    let call = |name: &str| session.call(3, "tools/call", json!({"name": name, "arguments": {}}));
    for (tool, why) in [("panic", "it panicked"), ("return", "it returned"), ("fail", "out of paper")] {
        let ended = call(tool);
        assert_eq!(ended["error"]["message"], format!("the server `lines` ended ({why})"), "{ended}");
        assert_eq!(text(&call("again")), "again");
    }
}

#[test]
fn one_that_cannot_be_met_says_why() {
    let served = Served::start(|| Embed::new("lines", Pipe::new(|_, _| async { Err::<(), _>("no database") }).protocol(Protocol::Legacy)));
    let refused = served.gateway.stateless(1, "tools/list", json!({})).json();
    let told = refused["error"]["message"].as_str().unwrap();
    assert!(told.contains("the server `lines` did not come up") && told.contains("(no database)"), "{told}");
}

/// Counts those that are there.
struct There(Arc<AtomicUsize>);

impl There {
    fn new(count: &Arc<AtomicUsize>) -> There {
        count.fetch_add(1, Ordering::Relaxed);
        There(count.clone())
    }
}

impl Drop for There {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn none_is_left_when_its_session_ends() {
    let count: Arc<AtomicUsize> = Arc::default();
    let counted = count.clone();
    let served = Served::start(move || {
        let serve = move |input, output| {
            let there = There::new(&counted);
            async move {
                let done = lines(input, output).await;
                // It does not return although its input has ended.
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                drop(there);
                done
            }
        };
        let limits = Limits { child_stop_ms: 300, ..Limits::default() };
        Embed::new("lines", Pipe::new(serve).protocol(Protocol::Legacy)).limits(limits)
    });
    for _ in 0..10 {
        let session = served.gateway.session("2025-11-25");
        assert_eq!(text(&session.call(3, "tools/call", json!({"name": "x", "arguments": {}}))), "x");
        assert_eq!(count.load(Ordering::Relaxed), 1);
        session.delete();
        wait_until("the server to be gone", || count.load(Ordering::Relaxed) == 0);
    }
    let _open = served.gateway.session("2025-11-25");
    assert_eq!(count.load(Ordering::Relaxed), 1);
    drop(served);
    assert_eq!(count.load(Ordering::Relaxed), 0);
}
