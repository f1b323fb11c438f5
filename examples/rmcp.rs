//! A handler of the official Rust SDK, served on every transport to clients of every revision:
//! `cargo run -p landbridge-rmcp --example rmcp`, then http://127.0.0.1:8808/mcp or /sse.

use landbridge::embed::{Embed, Error};
use rmcp::{ServerHandler, handler::server::wrapper::Parameters, tool, tool_handler, tool_router};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Whom {
    /// Who is greeted
    name: String,
}

struct Greeter;

#[tool_router]
impl Greeter {
    #[tool(description = "Greets somebody")]
    async fn greet(&self, Parameters(Whom { name }): Parameters<Whom>) -> String {
        format!("Hello, {name}!")
    }
}

#[tool_handler]
impl ServerHandler for Greeter {}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8808".into());
    Embed::new("greeter", landbridge_rmcp::handler(|| Greeter)).listen(address).run().await
}
