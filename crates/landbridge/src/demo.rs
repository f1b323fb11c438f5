//! The demonstration server: one of everything the protocol has.
//!
//! It runs when no other server is given, so that somebody who has just installed Landbridge can
//! connect a client and see each feature work, and so that tests have a server that needs no
//! child.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use landbridge_proto::call::{Call, Level};
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json as text;
use landbridge_proto::methods::Method;

use crate::backend::local::{Answer, Ctx, Service};

/// A one-pixel PNG.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
/// Eight silent samples of WAV.
const SILENCE: &str = "UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA==";
/// The resource whose updates can be subscribed to.
const COUNTER: &str = "demo://counter";

/// The server's state.
#[derive(Debug, Default)]
pub struct Demo {
    /// How often `touch` was called.
    counter: AtomicU64,
    /// Whether the tool that `toggle` adds is there.
    extra: AtomicBool,
}

impl Service for Demo {
    fn hello(&self) -> Value {
        json!({
            "capabilities": {
                "tools": {"listChanged": true},
                "prompts": {"listChanged": true},
                "resources": {"listChanged": true, "subscribe": true},
                "logging": {},
                "completions": {},
            },
            "serverInfo": {"name": "landbridge-demo", "title": "Landbridge demo", "version": env!("CARGO_PKG_VERSION")},
            "instructions": "A demonstration of every MCP feature. Call `echo` to begin with.",
        })
    }

    fn call(self: Arc<Self>, call: Call, context: Ctx) -> Answer {
        match call.method {
            Method::ToolsCall => self.call_tool(&call, context),
            Method::ToolsList => now(json!({"tools": self.tools()})),
            Method::PromptsList => now(json!({"prompts": prompts()})),
            Method::PromptsGet => Answer::Now(get_prompt(&arguments(&call), &name(&call)).map(bytes)),
            Method::ResourcesList => now(json!({"resources": resources()})),
            Method::TemplatesList => now(json!({"resourceTemplates": [
                {"uriTemplate": "demo://greeting/{name}", "name": "greeting", "description": "A greeting for somebody", "mimeType": "text/plain"},
            ]})),
            Method::ResourcesRead => {
                let uri = call.message.string_at(call.params.uri).unwrap_or_default().into_owned();
                Answer::Now(self.read(&uri).map(bytes))
            }
            Method::Complete => Answer::Now(complete(&call).map(bytes)),
            Method::Subscribe | Method::Unsubscribe | Method::SetLevel | Method::Ping => now(json!({})),
            ref other => Answer::Now(Err(Fault::client(Kind::UnknownMethod).tell(format!("Method not found: {}", other.as_str())))),
        }
    }
}

impl Demo {
    fn call_tool(self: Arc<Self>, call: &Call, context: Ctx) -> Answer {
        let tool = name(call);
        // The fast one: its text is passed on as it was written, without being read.
        if tool == "echo" {
            let field = call.params.arguments.and_then(|at| Some((at, call.message.fields_at(at, &["message"]).ok()?[0]?)));
            return match field.map(|(_, at)| call.message.text(at)) {
                Some(raw) if raw.starts_with('"') => Answer::Now(Ok(text_result(raw))),
                _ => wrong("echo needs `message`, a string"),
            };
        }
        let arguments = arguments(call);
        let of = |key: &str| arguments.get(key).cloned().unwrap_or(Value::Null);
        match tool.as_str() {
            "add" => match (of("a").as_f64(), of("b").as_f64()) {
                (Some(a), Some(b)) => say(&format!("{}", a + b)),
                _ => wrong("add needs `a` and `b`, numbers"),
            },
            "slow" => {
                let steps = of("steps").as_u64().unwrap_or(5).clamp(1, 1_000);
                let delay = Duration::from_millis(of("delay_ms").as_u64().unwrap_or(200).min(60_000));
                later(async move {
                    for step in 1..=steps {
                        tokio::time::sleep(delay).await;
                        context.progress(step as f64, steps as f64, &format!("step {step} of {steps}")).await;
                    }
                    done(&format!("{steps} steps done"))
                })
            }
            "long_task" => {
                let seconds = of("seconds").as_u64().unwrap_or(30).clamp(1, 3_600);
                later(async move {
                    for second in 1..=seconds {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        context.progress(second as f64, seconds as f64, "working").await;
                    }
                    done(&format!("worked for {seconds} s"))
                })
            }
            "log" => {
                let level = of("level").as_str().and_then(Level::parse).unwrap_or(Level::Info);
                let message = of("message").as_str().unwrap_or("hello from the demo").to_owned();
                later(async move {
                    context.log(level, Value::from(message)).await;
                    done("logged")
                })
            }
            "ask_user" => {
                let params = json!({
                    "message": of("question").as_str().unwrap_or("What is your name?"),
                    "requestedSchema": {"type": "object", "properties": {"answer": {"type": "string", "title": "Answer"}}, "required": ["answer"]},
                });
                later(async move { asked(context.ask(Method::Elicitation, params).await) })
            }
            "ask_model" => {
                let prompt = of("prompt").as_str().unwrap_or("Say hello.").to_owned();
                let params = json!({
                    "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
                    "maxTokens": 100,
                });
                later(async move { asked(context.ask(Method::Sampling, params).await) })
            }
            "list_roots" => later(async move { asked(context.ask(Method::Roots, json!({})).await) }),
            "image" => now(json!({"content": [{"type": "image", "data": PIXEL, "mimeType": "image/png"}]})),
            "audio" => now(json!({"content": [{"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}]})),
            "embedded_resource" => now(json!({"content": [
                {"type": "resource", "resource": {"uri": "demo://readme", "mimeType": "text/plain", "text": README}},
            ]})),
            "resource_link" => now(json!({"content": [
                {"type": "resource_link", "uri": "demo://readme", "name": "readme", "mimeType": "text/plain"},
            ]})),
            "weather" => {
                let report = json!({"city": of("city"), "celsius": 21.5, "sky": "clear"});
                now(json!({"content": [{"type": "text", "text": report.to_string()}], "structuredContent": report}))
            }
            "query_region" => {
                let region = of("region");
                match region.as_str() {
                    Some(region) => say(&format!("asked in {region}")),
                    None => wrong("query_region needs `region`, a string"),
                }
            }
            "touch" => {
                let count = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
                context.tell_all(Method::ResourceUpdated, Some(COUNTER));
                say(&format!("{COUNTER} is {count}"))
            }
            "toggle" => {
                let there = !self.extra.fetch_xor(true, Ordering::Relaxed);
                context.tell_all(Method::ToolsChanged, None);
                say(if there { "the tool `extra` is there now" } else { "the tool `extra` is gone" })
            }
            "extra" if self.extra.load(Ordering::Relaxed) => say("here I am"),
            "fail" => now(json!({"content": [{"type": "text", "text": "this tool always fails"}], "isError": true})),
            _ => Answer::Now(Err(Fault::client(Kind::Params).tell(format!("Unknown tool: {tool}")))),
        }
    }

    fn tools(&self) -> Vec<Value> {
        let string = |about: &str| json!({"type": "string", "description": about});
        let tool = |name: &str, about: &str, properties: Value, required: &[&str]| json!({"name": name, "description": about, "inputSchema": {"type": "object", "properties": properties, "required": required}});
        let mut tools = vec![
            tool("echo", "Says what you say", json!({"message": string("What to say")}), &["message"]),
            tool("add", "Adds two numbers", json!({"a": {"type": "number"}, "b": {"type": "number"}}), &["a", "b"]),
            tool(
                "slow",
                "Takes its time, and tells how far it is",
                json!({"steps": {"type": "integer", "minimum": 1, "maximum": 1000}, "delay_ms": {"type": "integer", "minimum": 0, "maximum": 60000}}),
                &[],
            ),
            tool("long_task", "Works for a while", json!({"seconds": {"type": "integer", "minimum": 1, "maximum": 3600}}), &[]),
            tool("log", "Writes a log line", json!({"level": string("A log level"), "message": string("What to log")}), &[]),
            tool("ask_user", "Asks the user a question (elicitation)", json!({"question": string("The question")}), &[]),
            tool("ask_model", "Asks the client's model (sampling)", json!({"prompt": string("The prompt")}), &[]),
            tool("list_roots", "Asks the client for its roots", json!({}), &[]),
            tool("image", "Answers with an image", json!({}), &[]),
            tool("audio", "Answers with sound", json!({}), &[]),
            tool("embedded_resource", "Answers with a resource inside", json!({}), &[]),
            tool("resource_link", "Answers with a link to a resource", json!({}), &[]),
            tool("touch", "Changes demo://counter, for those who subscribed", json!({}), &[]),
            tool("toggle", "Adds or removes the tool `extra`", json!({}), &[]),
            tool("fail", "Fails", json!({}), &[]),
        ];
        let mut weather = tool("weather", "Answers with structured content", json!({"city": string("Where")}), &["city"]);
        weather["outputSchema"] = json!({
            "type": "object",
            "properties": {"city": {"type": "string"}, "celsius": {"type": "number"}, "sky": {"type": "string"}},
            "required": ["city", "celsius", "sky"],
        });
        tools.push(weather);
        let mut region =
            tool("query_region", "Has a parameter that clients mirror in a header", json!({"region": string("Where to ask")}), &["region"]);
        region["inputSchema"]["properties"]["region"]["x-mcp-header"] = json!("Region");
        tools.push(region);
        if self.extra.load(Ordering::Relaxed) {
            tools.push(tool("extra", "Is not always there", json!({}), &[]));
        }
        tools
    }

    fn read(&self, uri: &str) -> Result<Value, Fault> {
        let content = match uri {
            "demo://readme" => json!({"uri": uri, "mimeType": "text/plain", "text": README}),
            "demo://pixel" => json!({"uri": uri, "mimeType": "image/png", "blob": PIXEL}),
            COUNTER => json!({"uri": uri, "mimeType": "text/plain", "text": self.counter.load(Ordering::Relaxed).to_string()}),
            _ => match uri.strip_prefix("demo://greeting/").filter(|n| !n.is_empty() && !n.contains('/')) {
                Some(name) => json!({"uri": uri, "mimeType": "text/plain", "text": format!("Hello, {name}!")}),
                None => {
                    return Err(Fault::client(Kind::Params)
                        .tell(format!("Resource not found: {uri}"))
                        .with_data(json!({"uri": uri}).to_string()));
                }
            },
        };
        Ok(json!({"contents": [content]}))
    }
}

const README: &str = "This is Landbridge's demonstration server. Every feature of the protocol has a tool, a resource or a prompt here.";

fn resources() -> Value {
    json!([
        {"uri": "demo://readme", "name": "readme", "description": "What this is", "mimeType": "text/plain"},
        {"uri": "demo://pixel", "name": "pixel", "description": "One pixel", "mimeType": "image/png"},
        {"uri": COUNTER, "name": "counter", "description": "How often `touch` was called", "mimeType": "text/plain"},
    ])
}

fn prompts() -> Value {
    json!([
        {"name": "greet", "description": "Greets somebody", "arguments": [
            {"name": "name", "description": "Whom", "required": true},
            {"name": "style", "description": "How: formal or friendly"},
        ]},
        {"name": "look", "description": "Shows an image and a resource"},
    ])
}

fn get_prompt(arguments: &Value, name: &str) -> Result<Value, Fault> {
    let message = |content: Value| json!({"role": "user", "content": content});
    match name {
        "greet" => {
            let whom = arguments.get("name").and_then(Value::as_str);
            let whom = whom.ok_or_else(|| Fault::client(Kind::Params).tell("the prompt `greet` needs the argument `name`"))?;
            let style = arguments.get("style").and_then(Value::as_str).unwrap_or("friendly");
            Ok(
                json!({"description": "A greeting", "messages": [message(json!({"type": "text", "text": format!("Write a {style} greeting for {whom}.")}))]}),
            )
        }
        "look" => Ok(json!({"messages": [
            message(json!({"type": "image", "data": PIXEL, "mimeType": "image/png"})),
            message(json!({"type": "resource", "resource": {"uri": "demo://readme", "mimeType": "text/plain", "text": README}})),
        ]})),
        _ => Err(Fault::client(Kind::Params).tell(format!("Unknown prompt: {name}"))),
    }
}

/// Completes the arguments of `greet` and of the greeting template.
fn complete(call: &Call) -> Result<Value, Fault> {
    let params: Value = serde_json::from_str(call.message.params_text()).unwrap_or_default();
    let argument = &params["argument"];
    let (Some(name), Some(begun)) = (argument["name"].as_str(), argument["value"].as_str()) else {
        return Err(Fault::client(Kind::Params).tell("completion needs `argument.name` and `argument.value`"));
    };
    let offered: &[&str] = match name {
        "style" => &["formal", "friendly"],
        "name" => &["Ada", "Alan", "Barbara", "Edsger", "Grace"],
        _ => &[],
    };
    let begun = begun.to_lowercase();
    let values: Vec<&&str> = offered.iter().filter(|o| o.to_lowercase().starts_with(&begun)).collect();
    Ok(json!({"completion": {"values": values, "total": values.len(), "hasMore": false}}))
}

fn name(call: &Call) -> String {
    call.message.string_at(call.params.name).unwrap_or_default().into_owned()
}

fn arguments(call: &Call) -> Value {
    call.params.arguments.and_then(|at| serde_json::from_str(call.message.text(at)).ok()).unwrap_or_default()
}

fn bytes(value: Value) -> Bytes {
    value.to_string().into()
}

fn now(value: Value) -> Answer {
    Answer::Now(Ok(bytes(value)))
}

fn later(tool: impl Future<Output = Result<Bytes, Fault>> + Send + 'static) -> Answer {
    Answer::Later(Box::pin(tool))
}

/// A result of one text, given as JSON string.
fn text_result(raw: &str) -> Bytes {
    let mut out = Vec::with_capacity(raw.len() + 44);
    out.extend_from_slice(b"{\"content\":[{\"type\":\"text\",\"text\":");
    out.extend_from_slice(raw.as_bytes());
    out.extend_from_slice(b"}]}");
    out.into()
}

fn done(said: &str) -> Result<Bytes, Fault> {
    Ok(text_result(&text::quote(said)))
}

fn say(said: &str) -> Answer {
    Answer::Now(done(said))
}

/// Wrong arguments are the model's to mend, so they are told to it (tools, "Error handling").
fn wrong(why: &str) -> Answer {
    now(json!({"content": [{"type": "text", "text": why}], "isError": true}))
}

/// What a client answered, or why it did not.
fn asked(answer: Result<Value, String>) -> Result<Bytes, Fault> {
    Ok(bytes(match answer {
        Ok(answer) => json!({"content": [{"type": "text", "text": format!("the client answered: {answer}")}]}),
        Err(why) => json!({"content": [{"type": "text", "text": format!("the client could not be asked: {why}")}], "isError": true}),
    }))
}
