//! A server of tools, each of them a function, on every transport to clients of every revision:
//! `cargo run --example tools`, then http://127.0.0.1:8808/mcp or /sse. With `--stdio` it speaks on its own
//! standard streams, for a client that starts it.

use landbridge::embed::{Embed, Error, Tools};
use schemars::{JsonSchema, schema_for};

#[derive(serde::Deserialize, JsonSchema)]
struct Whom {
    /// Who is greeted
    name: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let tools = Tools::new("greeter", "1.0.0")
        .tool("greet", "Greets somebody", schema_for!(Whom), |Whom { name }, _| async move { Ok(format!("Hello, {name}!")) });
    let server = Embed::new("greeter", tools);
    match std::env::args().nth(1).as_deref() {
        Some("--stdio") => server.stdio().await.map(|never| match never {}),
        address => server.listen(address.unwrap_or("127.0.0.1:8808")).run().await,
    }
}
