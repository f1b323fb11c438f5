//! A request of 2026-07-28, checked in the order its faults take precedence.
//!
//! `_meta`, then the headers that repeat the body, then the version, then the method: the order
//! decides which fault a client is told, and the official suite tests it. The body stays the
//! source of truth; a header that disagrees is refused, so that nothing in front of us can be
//! led to route one call and let us run another. A pipe has no headers, and they are not missed there.

use std::sync::Arc;

use crate::call::{Call, Client, Level, Principal, Transport};
use crate::fault::{Fault, Kind as FaultKind};
use crate::front::streamable::{Field, Head, Refusal};
use crate::headers::{MirroredParam, check_param, decode_mirror};
use crate::json::Span;
use crate::message::{Kind, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL, META_REVISION, Message, Params};
use crate::methods::Mirrored;
use crate::version::{Era, Revision};

/// Checks everything about the request of `who` that needs no knowledge of the server. `head` is `None`
/// where there are no headers.
pub fn read(who: Principal, transport: Transport, head: Option<&Head<'_>>, message: Message, params: Params) -> Result<Call, Refusal> {
    let Kind::Request(id, method) = message.kind.clone() else {
        return Err(Fault::client(FaultKind::Invalid).tell("a request is needed here").into());
    };
    match check(head, &message, &params) {
        Err(fault) => Err(Refusal { fault, id: Some(id) }),
        Ok(log_level) => {
            let client = Arc::new(Client {
                revision: Revision::NEWEST,
                principal: who,
                transport,
                info: params.client_info.map(|at| message.slice(at)),
                capabilities: params.capabilities.map(|at| message.slice(at)).unwrap_or_default(),
            });
            Ok(Call { id, method, message, params, client, log_level })
        }
    }
}

fn check(head: Option<&Head<'_>>, message: &Message, params: &Params) -> Result<Option<Level>, Fault> {
    let Kind::Request(_, method) = &message.kind else { return Ok(None) };
    // 1. `_meta` says what it must.
    let envelope = |told: String| Err(Fault::client(FaultKind::Envelope).tell(told));
    let Some(version) = message.string_at(params.revision) else {
        return envelope(format!("`_meta` must hold {META_REVISION:?}, a string"));
    };
    let is_object = |at: Span| message.text(at).starts_with('{');
    if !params.capabilities.is_some_and(is_object) {
        return envelope(format!("`_meta` must hold {META_CAPABILITIES:?}, an object"));
    }
    if params.client_info.is_some_and(|at| !is_object(at)) {
        return envelope(format!("`_meta[{META_CLIENT_INFO:?}]` must be an object"));
    }

    // 2. The headers repeat the body.
    if let Some(head) = head {
        check_head(head, message, params, &version)?;
    }

    // 3. The version is one we serve.
    if version != Revision::NEWEST.as_str() {
        return Err(Fault::unsupported_revision(&version));
    }

    // 4. The method exists.
    if !method.exists_in(Era::Stateless) {
        return Err(Fault::client(FaultKind::UnknownMethod).tell(format!("Method not found: {}", method.as_str())));
    }

    // 5. The level is one.
    let Some(at) = params.log_level else { return Ok(None) };
    match message.string_at(Some(at)).as_deref().and_then(Level::parse) {
        Some(level) => Ok(Some(level)),
        None => Err(Fault::client(FaultKind::Params).tell(format!("`_meta[{META_LOG_LEVEL:?}]` is no log level"))),
    }
}

fn check_head(head: &Head<'_>, message: &Message, params: &Params, version: &str) -> Result<(), Fault> {
    let Kind::Request(_, method) = &message.kind else { return Ok(()) };
    mirror("MCP-Protocol-Version", head.revision, Some(version), true)?;
    mirror("Mcp-Method", head.method, Some(method.as_str()), true)?;
    let Some(mirrored) = method.mirrored() else { return Ok(()) };
    let (at, required) = match mirrored {
        Mirrored::Name => (params.name, true),
        Mirrored::Uri => (params.uri, true),
        Mirrored::TaskId => (params.task_id, false),
    };
    let name = match head.name {
        Field::One(coded) => match decode_mirror(coded) {
            Some(name) => Some(name),
            None => return Err(mismatch("Mcp-Name", "it is no valid base64 form")),
        },
        _ => None,
    };
    let field = match (&name, head.name) {
        (Some(name), _) => Field::One(name.as_ref()),
        (None, other) => other,
    };
    mirror("Mcp-Name", field, message.string_at(at).as_deref(), required)
}

fn mirror(name: &str, header: Field<'_>, body: Option<&str>, required: bool) -> Result<(), Fault> {
    match (header, body) {
        (Field::Bad, _) => Err(mismatch(name, "it appears more than once, or is no text")),
        (Field::Absent, Some(_)) if required => Err(mismatch(name, "the header is missing")),
        (Field::Absent, _) => Ok(()),
        (Field::One(header), Some(body)) if header == body => Ok(()),
        (Field::One(header), Some(body)) => Err(mismatch(name, &format!("the header says {header:?}, the body {body:?}"))),
        (Field::One(header), None) => Err(mismatch(name, &format!("the header says {header:?}, the body says nothing"))),
    }
}

fn mismatch(name: &str, what: &str) -> Fault {
    Fault::client(FaultKind::HeaderMismatch).tell(format!("Header mismatch: {name}: {what}"))
}

/// Checks the parameters that a tool's schema wants mirrored. `header` finds the value of
/// `Mcp-Param-{name}`.
pub fn check_params<'h>(call: &Call, mirrored: &[MirroredParam], header: impl Fn(&str) -> Field<'h>) -> Result<(), Fault> {
    let arguments = call.params.arguments.map_or("{}", |at| call.message.text(at));
    for param in mirrored {
        let field = header(&param.header);
        if field == Field::Bad {
            return Err(mismatch(&format!("Mcp-Param-{}", param.header), "it appears more than once, or is no text"));
        }
        check_param(param, field.value(), arguments)
            .map_err(|why| Fault::client(FaultKind::HeaderMismatch).tell(format!("Header mismatch: {why}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::streamable::{Incoming, classify};
    use bytes::Bytes;

    fn head<'a>(revision: &'a str, method: &'a str, name: Option<&'a str>) -> Head<'a> {
        Head {
            revision: if revision.is_empty() { Field::Absent } else { Field::One(revision) },
            method: if method.is_empty() { Field::Absent } else { Field::One(method) },
            name: name.map_or(Field::Absent, Field::One),
            content_type: Some("application/json"),
            ..Head::default()
        }
    }

    fn ask(head: Head<'_>, method: &str, version: &str, rest: &str, meta: &str) -> String {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{rest}"_meta":{{"io.modelcontextprotocol/protocolVersion":{version}{meta}}}}}}}"#
        );
        match classify(&head, Bytes::from(body)) {
            Ok(Incoming::Stateless(message, params)) => {
                match read(Principal::default(), Transport::Streamable, Some(&head), message, params) {
                    Ok(_) => "ok".into(),
                    Err(r) => {
                        assert!(r.id.is_some());
                        format!("{} {}", r.fault.status(Era::Stateless), r.fault.code())
                    }
                }
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn faults_come_in_order() {
        const NOW: &str = "2026-07-28";
        const V: &str = r#""2026-07-28""#;
        const CAPS: &str = r#","io.modelcontextprotocol/clientCapabilities":{}"#;
        let name = r#""name":"echo","#;
        for (what, head, method, version, rest, meta, expected) in [
            ("fine", head(NOW, "tools/call", Some("echo")), "tools/call", V, name, CAPS, "ok"),
            ("encoded name", head(NOW, "tools/call", Some("=?base64?ZWNobw==?=")), "tools/call", V, name, CAPS, "ok"),
            ("broken encoding", head(NOW, "tools/call", Some("=?base64?ZWNobw=?=")), "tools/call", V, name, CAPS, "400 -32020"),
            ("no capabilities", head(NOW, "tools/call", Some("echo")), "tools/call", V, name, "", "400 -32602"),
            ("version no string", head(NOW, "tools/call", Some("echo")), "tools/call", "1", name, CAPS, "400 -32602"),
            ("no version header", head("", "tools/call", Some("echo")), "tools/call", V, name, CAPS, "400 -32020"),
            ("no method header", head(NOW, "", Some("echo")), "tools/call", V, name, CAPS, "400 -32020"),
            ("no name header", head(NOW, "tools/call", None), "tools/call", V, name, CAPS, "400 -32020"),
            ("other name", head(NOW, "tools/call", Some("Echo")), "tools/call", V, name, CAPS, "400 -32020"),
            ("mismatch before unsupported", head(NOW, "tools/call", Some("echo")), "tools/call", r#""v999""#, name, CAPS, "400 -32020"),
            ("unsupported", head("v999", "tools/call", Some("echo")), "tools/call", r#""v999""#, name, CAPS, "400 -32022"),
            ("legacy claim", head("2025-11-25", "tools/call", Some("echo")), "tools/call", r#""2025-11-25""#, name, CAPS, "400 -32022"),
            ("removed method", head(NOW, "ping", None), "ping", V, "", CAPS, "404 -32601"),
            ("initialize", head(NOW, "initialize", None), "initialize", V, "", CAPS, "404 -32601"),
            (
                "bad level",
                head(NOW, "tools/list", None),
                "tools/list",
                V,
                "",
                r#","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":"loud""#,
                "400 -32602",
            ),
            ("task id may be missing", head(NOW, "tasks/get", None), "tasks/get", V, r#""taskId":"t","#, CAPS, "ok"),
            ("task id may not be wrong", head(NOW, "tasks/get", Some("u")), "tasks/get", V, r#""taskId":"t","#, CAPS, "400 -32020"),
            ("a method nobody named passes", head(NOW, "x/y", None), "x/y", V, "", CAPS, "ok"),
        ] {
            assert_eq!(ask(head, method, version, rest, meta), expected, "{what}");
        }
    }
}
