//! An MCP server among the routes of an axum application: `cargo run --example axum`, then
//! http://127.0.0.1:8808/tools/mcp or /tools/sse.

use axum::Router;
use axum::routing::get;
use landbridge::embed::{Embed, Tools};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8808".into());
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    let tools = Tools::new("greeter", "1.0.0").tool("greet", "Greets somebody", schema, |whom: Value, _| async move {
        Ok(format!("Hello, {}!", whom["name"].as_str().unwrap_or("stranger")))
    });
    let mcp = Embed::new("greeter", tools).path("/tools").mount()?;
    let closing = mcp.clone();
    let router = Router::new().route("/", get("The tools are at /tools/mcp.\n")).nest_service("/tools", mcp);
    let listener = tokio::net::TcpListener::bind(address).await?;
    // Streams stay open until they are told to end.
    let stop = async move {
        let _ = tokio::signal::ctrl_c().await;
        closing.close().await;
    };
    Ok(axum::serve(listener, router).with_graceful_shutdown(stop).await?)
}
