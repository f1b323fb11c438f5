//! How a server introduces itself: in the words of the other era, and with our own versions.

use bytes::Bytes;

use super::{own, write_object};
use crate::call::{Server, object};
use crate::json::{self, Span};
use crate::message::META_SERVER_INFO;
use crate::tasks;
use crate::version::{Era, Revision};

/// The answer to `initialize`, for a client that gets `revision`; `shared` if it has the server not to
/// itself.
pub fn initialize_result(server: &Server, revision: Revision, shared: bool) -> Bytes {
    if server.era() == Era::Handshake {
        // Whatever else the server said of itself passes as it is.
        let asked = object(server.hello.clone()).and_then(|hello| {
            let [version, capabilities] = hello.params_fields(&["protocolVersion", "capabilities"]).map_err(|e| e.to_string())?;
            let version = (version.ok_or("no version")?, format!("\"{revision}\"").into_bytes());
            let offered = capabilities.filter(|_| shared && server.can.tasks).map(|at| (at, shared_tasks(&server.capabilities, revision)));
            let mut edits: Vec<_> = offered.into_iter().chain([version]).collect();
            edits.sort_by_key(|(at, _)| at.start());
            let edits: Vec<(Span, &[u8])> = edits.iter().map(|(at, new)| (*at, &new[..])).collect();
            Ok::<_, String>(json::splice(&hello.bytes, &edits))
        });
        if let Ok(result) = asked {
            return result.into();
        }
    }
    let mut out = format!("{{\"protocolVersion\":\"{revision}\",\"capabilities\":").into_bytes();
    let tasks = tasks::legacy_server_capability(&server.capabilities).filter(|_| revision == Revision::V2025_11_25);
    let tasks = tasks.map(|tasks| ("tasks".to_owned(), tasks.to_vec()));
    out.extend_from_slice(&write_object(without_tasks(&server.capabilities).into_iter().chain(tasks)));
    out.extend_from_slice(b",\"serverInfo\":");
    out.extend_from_slice(&server.info);
    if let Some(instructions) = &server.instructions {
        out.extend_from_slice(b",\"instructions\":");
        out.extend_from_slice(instructions);
    }
    out.push(b'}');
    out.into()
}

/// The answer to `server/discover`. The versions are those *we* serve on this endpoint.
pub fn discover_result(server: &Server) -> Bytes {
    let versions: Vec<String> = Revision::ALL.iter().rev().map(|r| format!("\"{r}\"")).collect();
    let versions = format!("[{}]", versions.join(","));
    if server.era() == Era::Stateless {
        let asked = object(server.hello.clone()).and_then(|hello| {
            let [supported] = hello.params_fields(&["supportedVersions"]).map_err(|e| e.to_string())?;
            let supported = supported.ok_or("no versions")?;
            Ok(json::splice(&hello.bytes, &[(supported, versions.as_bytes())]))
        });
        if let Ok(result) = asked {
            return result.into();
        }
    }
    let mut out = format!("{{\"resultType\":\"complete\",\"supportedVersions\":{versions},\"capabilities\":").into_bytes();
    let capabilities = write_object(without_tasks(&server.capabilities));
    let tasks = tasks::extension_server_capability(&server.capabilities);
    out.extend_from_slice(&if tasks.is_some() { tasks::with_extension(&capabilities) } else { capabilities.into() });
    if let Some(instructions) = &server.instructions {
        out.extend_from_slice(b",\"instructions\":");
        out.extend_from_slice(instructions);
    }
    out.extend_from_slice(b",\"ttlMs\":0,\"cacheScope\":\"private\",\"_meta\":{\"");
    out.extend_from_slice(META_SERVER_INFO.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(&server.info);
    out.extend_from_slice(b"}}");
    out.into()
}

/// The capabilities of a handshake server with tasks, for one of several clients: only 2025-11-25 has
/// them, and nobody lists those of others.
fn shared_tasks(capabilities: &[u8], revision: Revision) -> Vec<u8> {
    let members = json::members(std::str::from_utf8(capabilities).unwrap_or("{}")).unwrap_or_default();
    let kept = members.into_iter().filter(|(key, _)| key != "tasks" || revision == Revision::V2025_11_25);
    write_object(kept.map(|(key, value)| {
        let value = match json::members(value) {
            Ok(tasks) if key == "tasks" => write_object(tasks.into_iter().filter(|(key, _)| key != "list").map(own)),
            _ => value.as_bytes().to_vec(),
        };
        (key.into_owned(), value)
    }))
}

/// The capabilities without tasks: the two eras mean different methods by the word.
fn without_tasks(capabilities: &[u8]) -> Vec<(String, Vec<u8>)> {
    let members = json::members(std::str::from_utf8(capabilities).unwrap_or("{}")).unwrap_or_default();
    let kept = members.into_iter().filter(|(key, _)| key != "tasks").map(|(key, value)| {
        let value = if key == "extensions" {
            let kept = json::members(value).unwrap_or_default();
            write_object(kept.into_iter().filter(|(k, _)| k != tasks::EXTENSION).map(own))
        } else {
            value.as_bytes().to_vec()
        };
        (key.into_owned(), value)
    });
    // Where there was nothing else, nothing is left to say.
    kept.filter(|(key, value)| key != "extensions" || value != b"{}").collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::server;
    use super::*;

    #[test]
    fn hellos_cross() {
        let old = server(
            Revision::V2025_06_18,
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"tasks":{},"x":1.0},"serverInfo":{"name":"n","version":"1"},"instructions":"do","extra":2.50}"#,
        );
        assert!(old.can.tools_changed && old.can.tools && !old.can.subscribe);
        let said = String::from_utf8(initialize_result(&old, Revision::V2024_11_05, false).to_vec()).unwrap();
        assert!(said.contains(r#""protocolVersion":"2024-11-05""#) && said.contains("2.50"));
        let said = String::from_utf8(discover_result(&old).to_vec()).unwrap();
        assert!(said.contains(r#""capabilities":{"tools":{"listChanged":true},"x":1.0},"instructions":"do""#), "{said}");
        let new = server(
            Revision::V2026_07_28,
            r#"{"supportedVersions":["2026-07-28"],"capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{},"a/b":{}}}}"#,
        );
        let said = String::from_utf8(initialize_result(&new, Revision::V2025_11_25, true).to_vec()).unwrap();
        assert_eq!(
            said,
            r#"{"protocolVersion":"2025-11-25","capabilities":{"extensions":{"a/b":{}},"tasks":{"cancel":{},"requests":{"tools":{"call":{}}}}},"serverInfo":{"name":"demo","version":"0"}}"#
        );
        let said = String::from_utf8(initialize_result(&new, Revision::V2025_06_18, true).to_vec()).unwrap();
        assert!(said.contains(r#""capabilities":{"extensions":{"a/b":{}}}"#), "{said}");
        let tasking = server(
            Revision::V2025_11_25,
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tasks":{"list":{},"requests":{"tools":{"call":{}}}}},"serverInfo":{}}"#,
        );
        let offered = |revision, shared| String::from_utf8(initialize_result(&tasking, revision, shared).to_vec()).unwrap();
        assert!(offered(Revision::V2025_11_25, true).contains(r#""capabilities":{"tasks":{"requests":{"tools":{"call":{}}}}}"#));
        assert!(offered(Revision::V2025_06_18, true).contains(r#""capabilities":{}"#));
        assert!(offered(Revision::V2025_06_18, false).contains(r#""list":{}"#), "a server of its own");
        let said = String::from_utf8(discover_result(&tasking).to_vec()).unwrap();
        assert!(said.contains(r#""capabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#), "{said}");
        let said = String::from_utf8(discover_result(&new).to_vec()).unwrap();
        assert!(said.contains(r#"["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"]"#));
    }
}
