//! What a person reads on start: where things are, and what to paste into which client.

use landbridge_proto::json;

use crate::arrival::Reached;
use crate::gateway::{Gateway, Running};
use crate::plan::Tls;
use crate::plan::auth::Mode;

/// The base URL clients use.
fn base(running: &Running, listen: std::net::SocketAddr) -> String {
    running.plan.public_url.clone().unwrap_or_else(|| {
        let host = if listen.ip().is_unspecified() { "127.0.0.1".to_owned() } else { listen.ip().to_string() };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        match &running.plan.tls {
            None => format!("http://{host}:{}", listen.port()),
            Some(Tls::Files { .. }) => format!("https://{host}:{}", listen.port()),
            // By another name its certificate is no good. That name's port 443 leads here, or there would be none.
            Some(Tls::Acme(acme)) => format!("https://{}", acme.domains.first().unwrap_or(&host)),
        }
    })
}

/// The page shown on standard output. `listen` is the address we really got.
pub fn page(gateway: &Gateway, listen: std::net::SocketAddr) -> String {
    let running = gateway.running();
    let base = base(&running, listen);
    let mut out = String::from("\nLandbridge is ready.\n\n");
    let several = running.only_backend().is_none();
    let mut mount = |name: &str, at: &str| {
        out.push_str(&format!("  {name}\n    Streamable HTTP   {at}/mcp\n    HTTP+SSE          {at}/sse\n"));
    };
    if several {
        mount("all of them", &base);
    }
    for name in running.names() {
        let at = if several { format!("{base}/servers/{name}") } else { base.clone() };
        mount(name, &at);
    }
    out.push_str(match gateway.auth().plan.mode {
        Mode::None => "",
        Mode::Keys => "\nCallers send an API key: landbridge key add --owner NAME\n",
        Mode::Own(_) | Mode::Foreign(_) => "\nClients open a browser, where their users log in; those that cannot send an API key.\n",
    });
    let name = running.names().next().filter(|_| !several).unwrap_or("landbridge");
    let url = format!("{base}/mcp");
    // In full, for what is started from a desktop has a short PATH.
    let ourselves = std::env::current_exe().map_or_else(|_| "landbridge".into(), |path| path.display().to_string());
    let ourselves = json::quote(&ourselves);
    out.push_str(&format!(
        r#"
Paste this into your client:

  Claude Code      claude mcp add --transport http {name} {url}
  VS Code          .vscode/mcp.json            {{"servers": {{"{name}": {{"type": "http", "url": "{url}"}}}}}}
  Cursor           ~/.cursor/mcp.json          {{"mcpServers": {{"{name}": {{"url": "{url}"}}}}}}
  Codex            ~/.codex/config.toml        [mcp_servers.{name}]
                                               url = "{url}"
  Claude Desktop   claude_desktop_config.json  {{"mcpServers": {{"{name}": {{"command": {ourselves}, "args": ["connect", "{url}"]}}}}}}

Stop with Ctrl-C.
"#
    ));
    out
}

/// The text at `/`: where things are for whoever asks, and who that is.
pub fn root(gateway: &Gateway, reached: &Reached) -> String {
    let base = format!("{}{}", reached.base, gateway.plan.path);
    let running = gateway.running();
    let mut out = String::from("Landbridge: any MCP server, for any MCP client\n\n");
    // Who may not come in does not learn what there is.
    if gateway.auth().is_on() {
        out.push_str(&format!("MCP is at {base}/mcp (Streamable HTTP) and {base}/sse (HTTP+SSE), for those who may.\n"));
        return out;
    }
    let several = running.only_backend().is_none();
    // Who may not come in does not learn what there is.
    let secret = gateway.auth().is_on();
    if several || secret {
        out.push_str(&format!("all of them: {base}/mcp (Streamable HTTP), {base}/sse (HTTP+SSE)\n"));
    }
    for name in running.names().filter(|_| !secret) {
        let mount = if several { format!("{base}/servers/{name}") } else { base.clone() };
        out.push_str(&format!("{name}: {mount}/mcp (Streamable HTTP), {mount}/sse (HTTP+SSE)\n"));
    }
    if let Some(client) = reached.client {
        out.push_str(&format!("\nyou: {client}\n"));
    }
    out
}
