//! A server made of functions, one for each tool.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use landbridge_proto::call::Call;
use landbridge_proto::fault::{Fault, Kind};
use landbridge_proto::json::quote;
use landbridge_proto::methods::Method;

use crate::backend::local::{Answer, Ctx, Service};

/// A server of tools, each of them a function.
///
/// A function gets its arguments as whatever serde reads, and a [`Ctx`] to tell how far it is, to log and to
/// ask its client. Arguments that do not fit are told to the model, which can mend them.
///
/// ```
/// use landbridge::embed::{Method, Tools};
/// use schemars::{JsonSchema, schema_for};
/// use serde_json::json;
///
/// #[derive(serde::Deserialize, JsonSchema)]
/// struct Sum {
///     /// The first one
///     a: f64,
///     /// The second one
///     b: f64,
/// }
///
/// let tools = Tools::new("calculator", "1.0.0")
///     .instructions("Adds, and asks before it forgets.")
///     .tool("add", "Adds two numbers", schema_for!(Sum), |Sum { a, b }, _| async move { Ok((a + b).to_string()) })
///     .tool("forget", "Forgets everything", json!({"type": "object"}), |_: serde_json::Value, context| async move {
///         let schema = json!({"type": "object", "properties": {"sure": {"type": "boolean"}}});
///         let answer = context.ask(Method::Elicitation, json!({"message": "Really?", "requestedSchema": schema})).await?;
///         Ok(if answer["content"]["sure"] == true { "forgotten" } else { "kept" })
///     });
/// ```
pub struct Tools {
    hello: Map<String, Value>,
    tools: BTreeMap<String, Tool>,
    listing: OnceLock<Bytes>,
}

struct Tool {
    /// Where it stands in the listing.
    place: usize,
    definition: Value,
    run: Run,
}

type Run = Box<dyn Fn(&Call, Ctx) -> Answer + Send + Sync>;

/// What went wrong in a tool, as the model is told: any error, or a text.
pub type ToolError = Box<dyn std::error::Error + Send + Sync>;

impl fmt::Debug for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tools").field("tools", &self.tools.keys()).finish_non_exhaustive()
    }
}

impl Tools {
    /// A server of that name and version, as clients show them, without tools.
    pub fn new(name: &str, version: &str) -> Tools {
        let hello = [
            ("capabilities".to_owned(), json!({"tools": {}, "logging": {}})),
            ("serverInfo".to_owned(), json!({"name": name, "version": version})),
        ];
        Tools { hello: hello.into_iter().collect(), tools: BTreeMap::new(), listing: OnceLock::new() }
    }

    /// What a model should know before it uses them.
    pub fn instructions(mut self, text: &str) -> Tools {
        self.hello.insert("instructions".into(), text.into());
        self
    }

    /// One more tool. `schema` is the JSON Schema of its arguments, an object: written by hand, or made by
    /// `schemars::schema_for!`.
    pub fn tool<A, R, F>(
        self,
        name: &str,
        description: &str,
        schema: impl Into<Value>,
        run: impl Fn(A, Ctx) -> F + Send + Sync + 'static,
    ) -> Tools
    where
        A: DeserializeOwned,
        R: Into<ToolResult>,
        F: Future<Output = Result<R, ToolError>> + Send + 'static,
    {
        self.define(json!({"name": name, "description": description, "inputSchema": schema.into()}), run)
    }

    /// One more tool, defined as `tools/list` shows it: with a title, annotations, an output schema. A tool of
    /// the same name gives way to it.
    pub fn define<A, R, F>(mut self, definition: Value, run: impl Fn(A, Ctx) -> F + Send + Sync + 'static) -> Tools
    where
        A: DeserializeOwned,
        R: Into<ToolResult>,
        F: Future<Output = Result<R, ToolError>> + Send + 'static,
    {
        let name = definition["name"].as_str().unwrap_or_default().to_owned();
        let told = name.clone();
        let run = move |call: &Call, context: Ctx| {
            let given = call.params.arguments.map_or("{}", |at| call.message.text(at));
            match serde_json::from_str(given) {
                Ok(arguments) => {
                    let running = run(arguments, context);
                    Answer::Later(Box::pin(async move {
                        Ok(running.await.map_or_else(|why| ToolResult::failed(&why.to_string()), Into::into).into_json())
                    }))
                }
                Err(why) => Answer::Now(Ok(ToolResult::failed(&format!("the arguments do not fit `{told}`: {why}")).into_json())),
            }
        };
        let place = self.tools.get(&name).map_or(self.tools.len(), |tool| tool.place);
        self.tools.insert(name, Tool { place, definition, run: Box::new(run) });
        self
    }

    fn listing(&self) -> Bytes {
        let listing = || {
            let mut tools: Vec<&Tool> = self.tools.values().collect();
            tools.sort_by_key(|tool| tool.place);
            json!({"tools": tools.into_iter().map(|tool| &tool.definition).collect::<Vec<_>>()}).to_string().into()
        };
        self.listing.get_or_init(listing).clone()
    }
}

impl Service for Tools {
    fn hello(&self) -> Value {
        self.hello.clone().into()
    }

    fn call(self: Arc<Self>, call: Call, context: Ctx) -> Answer {
        match &call.method {
            Method::ToolsCall => {
                let name = call.message.string_at(call.params.name).unwrap_or_default();
                match self.tools.get(&*name) {
                    Some(tool) => (tool.run)(&call, context),
                    None => Answer::Now(Err(Fault::client(Kind::Params).tell(format!("Unknown tool: {name}")))),
                }
            }
            Method::ToolsList => Answer::Now(Ok(self.listing())),
            Method::SetLevel | Method::Ping => Answer::Now(Ok(Bytes::from_static(b"{}"))),
            other => Answer::Now(Err(Fault::client(Kind::UnknownMethod).tell(format!("Method not found: {}", other.as_str())))),
        }
    }
}

/// What a tool answers: a text, a JSON object, or contents as the specification has them.
#[derive(Debug)]
pub struct ToolResult(Said);

#[derive(Debug)]
enum Said {
    Text(String),
    Fields(Map<String, Value>),
}

impl From<String> for ToolResult {
    fn from(text: String) -> ToolResult {
        ToolResult(Said::Text(text))
    }
}

impl From<&str> for ToolResult {
    fn from(text: &str) -> ToolResult {
        ToolResult::from(text.to_owned())
    }
}

/// An object is structured content, and a text for clients that know none; anything else is its JSON text.
impl From<Value> for ToolResult {
    fn from(value: Value) -> ToolResult {
        let text = ToolResult::content([json!({"type": "text", "text": value.to_string()})]);
        if value.is_object() { text.with("structuredContent", value) } else { text }
    }
}

impl ToolResult {
    /// Contents, such as `{"type": "image", "data": …, "mimeType": "image/png"}`.
    pub fn content(content: impl IntoIterator<Item = Value>) -> ToolResult {
        let content = ("content".to_owned(), content.into_iter().collect());
        ToolResult(Said::Fields([content].into_iter().collect()))
    }

    /// With one more field of the `CallToolResult`, such as `structuredContent` or `_meta`.
    pub fn with(self, field: &str, value: impl Into<Value>) -> ToolResult {
        let mut fields = match self.0 {
            Said::Fields(fields) => fields,
            Said::Text(text) => return ToolResult::content([json!({"type": "text", "text": text})]).with(field, value),
        };
        fields.insert(field.into(), value.into());
        ToolResult(Said::Fields(fields))
    }

    fn failed(why: &str) -> ToolResult {
        ToolResult::from(why).with("isError", true)
    }

    fn into_json(self) -> Bytes {
        match self.0 {
            Said::Text(text) => format!("{{\"content\":[{{\"type\":\"text\",\"text\":{}}}]}}", quote(&text)).into(),
            Said::Fields(fields) => Value::from(fields).to_string().into(),
        }
    }
}
