//! Who can run tasks, and which tools may: as each kind says it.

use bytes::Bytes;

use super::{EXTENSION, dig, get, own, write};
use crate::bridge::write_object;
use crate::json;
use crate::version::Era;

/// Whether a client's capabilities declare the extension.
pub fn declares_tasks(capabilities: &[u8]) -> bool {
    dig(capabilities, &["extensions", EXTENSION]).is_some_and(|it| it.starts_with('{'))
}

/// Whether a server of that era runs calls of tools as tasks, in the kind of its era.
pub fn serves_tasks(capabilities: &[u8], era: Era) -> bool {
    match era {
        Era::Stateless => declares_tasks(capabilities),
        Era::Handshake => dig(capabilities, &["tasks", "requests", "tools", "call"]).is_some_and(|it| it.starts_with('{')),
    }
}

/// The `tasks` to offer a 2025-11-25 client of a server of the extension. No `list`: such a server
/// cannot list.
pub fn legacy_server_capability(capabilities: &[u8]) -> Option<&'static [u8]> {
    serves_tasks(capabilities, Era::Stateless).then_some(br#"{"cancel":{},"requests":{"tools":{"call":{}}}}"#)
}

/// The value of [`EXTENSION`] to offer stateless clients of a 2025-11-25 server.
pub fn extension_server_capability(capabilities: &[u8]) -> Option<&'static [u8]> {
    serves_tasks(capabilities, Era::Handshake).then_some(b"{}")
}

/// Capabilities, of either side, with the extension among them: a server of the extension begins a
/// task only for who declares it.
pub fn with_extension(capabilities: &[u8]) -> Bytes {
    let add = || {
        let members = json::members(std::str::from_utf8(capabilities).ok()?).ok()?;
        let extensions = json::members(get(&members, "extensions").unwrap_or("{}")).ok()?;
        let ours = (EXTENSION.to_owned(), b"{}".to_vec());
        let extensions = write_object(extensions.iter().filter(|(key, _)| *key != EXTENSION).map(own).chain([ours]));
        let rest = members.iter().filter(|(key, _)| *key != "extensions").map(own);
        Some(write(rest.chain([("extensions".to_owned(), extensions)])))
    };
    if declares_tasks(capabilities) { None } else { add() }.unwrap_or_else(|| Bytes::copy_from_slice(capabilities))
}

/// The result of `tools/list` of a server of the extension, for a 2025-11-25 client: any tool may
/// become a task there, and none must. What cannot be read passes.
pub fn legacy_tools(result: &Bytes) -> Bytes {
    rewritten_tools(result, offered)
}

/// The result of `tools/list` of a 2025-11-25 server, for a stateless client: there the server decides
/// by itself what becomes a task, and no tool says so.
pub fn extension_tools(result: Bytes) -> Bytes {
    if memchr::memmem::find(&result, b"execution").is_none() {
        return result;
    }
    rewritten_tools(&result, |tool| match json::members(tool) {
        Ok(members) if get(&members, "execution").is_some() => {
            let rest = write_object(members.iter().filter(|(key, _)| *key != "execution").map(own));
            String::from_utf8(rest).unwrap_or_default()
        }
        _ => tool.to_owned(),
    })
}

fn rewritten_tools(result: &Bytes, each: impl Fn(&str) -> String) -> Bytes {
    let rewrite = || {
        let text = std::str::from_utf8(result).ok()?;
        let mut tools = [None];
        json::fields(text, &["tools"], &mut tools).ok()?;
        let at = tools[0]?;
        let tools = json::elements(text.get(at.range())?, usize::MAX).ok()??;
        let tools: Vec<String> = tools.into_iter().map(each).collect();
        Some(Bytes::from(json::splice(result, &[(at, format!("[{}]", tools.join(",")).as_bytes())])))
    };
    rewrite().unwrap_or_else(|| result.clone())
}

fn offered(tool: &str) -> String {
    match json::members(tool) {
        Ok(members) if get(&members, "execution").is_none() => {
            let comma = if members.is_empty() { "" } else { "," };
            let rest = tool.strip_prefix('{').unwrap_or_default();
            format!("{{\"execution\":{{\"taskSupport\":\"optional\"}}{comma}{rest}")
        }
        _ => tool.to_owned(),
    }
}

/// Whether a tool of a 2025-11-25 server runs as a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskSupport {
    /// It must not; what a tool says that says nothing.
    Forbidden,
    /// It may.
    Optional,
    /// It must.
    Required,
}

/// Reads `execution.taskSupport` of a tool.
pub fn task_support(tool: &[u8]) -> TaskSupport {
    match dig(tool, &["execution", "taskSupport"]).and_then(|it| json::string(it.as_bytes())).as_deref() {
        Some("optional") => TaskSupport::Optional,
        Some("required") => TaskSupport::Required,
        _ => TaskSupport::Forbidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: impl AsRef<[u8]>) -> String {
        String::from_utf8(bytes.as_ref().to_vec()).unwrap()
    }

    #[test]
    fn capabilities_say_who_can() {
        let new = br#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
        let old = br#"{"tasks":{"list":{},"requests":{"tools":{"call":{}}}}}"#;
        assert_eq!(legacy_server_capability(new), Some(&br#"{"cancel":{},"requests":{"tools":{"call":{}}}}"#[..]));
        assert_eq!(extension_server_capability(old), Some(&b"{}"[..]));
        assert!(serves_tasks(
            legacy_server_capability(new).map(|tasks| [br#"{"tasks":"#, tasks, b"}"].concat()).unwrap().as_slice(),
            Era::Handshake
        ));
        assert!(legacy_server_capability(old).is_none() && extension_server_capability(new).is_none());
        for none in [
            &b"{}"[..],
            b"",
            b"[]",
            br#"{"extensions":1}"#,
            br#"{"tasks":{"requests":{}}}"#,
            br#"{"extensions":{"io.modelcontextprotocol/tasks":null}}"#,
        ] {
            assert!(!declares_tasks(none) && !serves_tasks(none, Era::Handshake) && !serves_tasks(none, Era::Stateless));
        }
        assert_eq!(text(with_extension(br#"{"roots":{}}"#)), r#"{"roots":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#);
        assert_eq!(
            text(with_extension(br#"{"extensions":{"a/b":1.0}}"#)),
            r#"{"extensions":{"a/b":1.0,"io.modelcontextprotocol/tasks":{}}}"#
        );
        assert_eq!(text(with_extension(new)), text(new));
    }

    #[test]
    fn tools_may_become_tasks() {
        let tools = Bytes::from_static(br#"{"x":1.0,"tools":[ {"name":"a"}, {"execution":{"taskSupport":"forbidden"}},{ },7],"ttlMs":1}"#);
        assert_eq!(
            text(legacy_tools(&tools)),
            r#"{"x":1.0,"tools":[{"execution":{"taskSupport":"optional"},"name":"a"},{"execution":{"taskSupport":"forbidden"}},{"execution":{"taskSupport":"optional"} },7],"ttlMs":1}"#
        );
        for odd in [&b"{}"[..], br#"{"tools":7}"#, b"["] {
            assert_eq!(legacy_tools(&Bytes::from_static(odd)), odd);
        }
        for (tool, support) in [
            (&br#"{"execution":{"taskSupport":"optional"}}"#[..], TaskSupport::Optional),
            (br#"{"execution":{"taskSupport":"required"}}"#, TaskSupport::Required),
            (br#"{"execution":{"taskSupport":"whatever"}}"#, TaskSupport::Forbidden),
            (br#"{"execution":7}"#, TaskSupport::Forbidden),
            (b"{}", TaskSupport::Forbidden),
        ] {
            assert_eq!(task_support(tool), support);
        }
    }
}
