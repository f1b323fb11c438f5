//! The rules, and how to tell from what came back whether one is kept.
//!
//! Each rule says what it demands, of which strength, and how to mend it; each judge is a function of
//! what was seen and nothing else. What the specification says a server MUST do and this one does not is
//! a failure; where it says SHOULD, or says nothing and clients suffer, it is a warning.

use std::collections::BTreeSet;

use serde_json::Value;

use landbridge_proto::version::{Era, Revision};

use crate::check::seen::{Came, Missed, Seen, quote, says};

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in a report; it does not change.
    pub id: &'static str,
    /// Whether to break it is a failure.
    pub must: bool,
    /// What it demands.
    pub what: &'static str,
    /// What to do where it is broken.
    pub mend: &'static str,
}

/// How a rule fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Kept.
    Ok,
    /// There is nothing it could apply to.
    NotApplicable,
    /// Something clients suffer from, though it is allowed.
    Warn,
    /// Broken.
    Fail,
}

impl Verdict {
    /// As it stands in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::NotApplicable => "not applicable",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// A verdict, and what it is based on.
pub type Finding = (Verdict, String);

const MUST: bool = true;
const SHOULD: bool = false;

macro_rules! rules {
    ($($name:ident $id:literal $must:ident $what:literal $mend:literal)*) => {
        $(
            #[doc = $what]
            pub static $name: Rule = Rule { id: $id, must: $must, what: $what, mend: $mend };
        )*
        /// All of them, in the order in which they are checked.
        pub static RULES: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    SPEAKS "speaks" MUST "some revision is spoken" "check the address or the command line; over HTTP, MCP is usually at /mcp or /sse"
    INITIALIZE "initialize" MUST "the result of initialize names protocolVersion, capabilities and serverInfo" "answer initialize with all three, and with a handshake revision the server supports"
    DISCOVER "discover" MUST "the result of server/discover has resultType, supportedVersions, capabilities, ttlMs and cacheScope" "add what is missing to the result; serverInfo belongs into its _meta"
    CONTENT_TYPE "content-type" MUST "a request is answered as application/json or text/event-stream" "set the Content-Type of answers"
    NOTIFICATION "notification" MUST "a notification is answered 202 without a body" "answer a POST that holds no request with 202 and nothing else"
    PING "ping" MUST "ping is answered at once, with the id it had" "answer ping with an empty result, and repeat the id as it was: a string stays a string"
    TOOLS "tools/list" MUST "each tool has a name of its own and an inputSchema of type object" "mend the tools named here; many clients drop the whole list for one of them"
    PROMPTS "prompts/list" MUST "prompts that are declared are listed" "answer prompts/list, or do not declare the capability"
    RESOURCES "resources/list" MUST "resources that are declared are listed" "answer resources/list, or do not declare the capability"
    CACHE_HINTS "cache-hints" MUST "listings have resultType, ttlMs and cacheScope" "add them to the result; ttlMs 0 and cacheScope private are always right"
    UNKNOWN_METHOD "unknown-method" MUST "an unknown method is refused with -32601; in 2026-07-28 with HTTP 404 too" "answer with the JSON-RPC error -32601, and with the status of the revision"
    REMOVED "removed-methods" MUST "initialize and ping are refused in 2026-07-28 as unknown (404, -32601)" "refuse what 2026-07-28 has removed when _meta names that revision"
    MALFORMED "malformed-json" MUST "a body that is no JSON is refused with an HTTP error" "answer 400 with the error -32700"
    BATCH_TAKEN "batch" MUST "2025-03-26: a batch is taken, and all of it answered" "answer each request of an array, or do not agree to 2025-03-26"
    BATCH_REFUSED "no-batch" SHOULD "since 2025-06-18 a body is a single message" "refuse arrays with 400 and -32600"
    META "meta" MUST "2026-07-28: a request without _meta is refused with 400 and -32602" "check that _meta holds protocolVersion and clientCapabilities before anything else"
    METHOD_HEADER "mcp-method" MUST "2026-07-28: an Mcp-Method that is missing or not that of the body is refused with 400 and -32020" "compare Mcp-Method with the body's method"
    NAME_HEADER "mcp-name" MUST "2026-07-28: an Mcp-Name that is not that of the body is refused with 400 and -32020" "compare Mcp-Name with params.name or params.uri before the call is run"
    VERSION_MISMATCH "version-mismatch" MUST "2026-07-28: header and _meta must name the same revision (400, -32020)" "compare MCP-Protocol-Version with _meta"
    VERSION_UNSUPPORTED "version-unsupported" MUST "2026-07-28: an unknown revision is refused with 400, -32022 and those that are supported" "answer with error.data.supported and error.data.requested"
    NO_QUESTIONS "no-requests" MUST "2026-07-28: a server sends no requests" "ask by input_required results"
    NO_SESSION "no-session" SHOULD "2026-07-28: there is no Mcp-Session-Id" "do not send the header"
    STATELESS_GET "get-405" SHOULD "2026-07-28: GET is answered 405" "answer 405 to whatever is no POST"
    LISTEN "listen" MUST "2026-07-28: subscriptions/listen is acknowledged before anything else, under its id" "send notifications/subscriptions/acknowledged first, with the subscriptionId"
    SESSION_ID "session-id" MUST "the name of a session is visible ASCII, and not to be guessed" "use 128 random bits, in hexadecimal"
    SESSION_MISSING "session-missing" SHOULD "a request without the session it needs is refused with 400" "answer 400"
    SESSION_UNKNOWN "session-unknown" SHOULD "a session nobody knows is answered 404" "answer 404: it is what tells clients to begin anew, after a restart too"
    SESSION_DELETE "session-delete" SHOULD "DELETE ends the session, or is answered 405" "answer 2xx, or 405 if clients cannot end sessions"
    SESSION_ENDED "session-ended" MUST "a session that was ended is answered 404" "forget the session on DELETE, and answer 404 to its id"
    VERSION_HEADER "version-header" MUST "since 2025-06-18: an invalid MCP-Protocol-Version is refused with 400" "compare the header with the revisions the server knows"
    VERSION_ABSENT "version-absent" SHOULD "a request without MCP-Protocol-Version is served all the same" "take the revision of the session, or 2025-03-26"
    GET "get" MUST "GET opens a stream of events or is answered 405" "answer 405 where no stream is offered"
    ACCEPT "accept" SHOULD "who accepts only JSON gets JSON, or a refusal" "answer as JSON, or 406"
    MEDIA_TYPE "media-type" SHOULD "a body that is not application/json is refused" "answer 415: text/plain is what any page may send without asking"
    ORIGIN "origin" MUST "a foreign Origin is refused; since 2025-11-25 with 403" "compare Origin with a list; else any web page can call this server through its visitor's browser"
    HOST "host" SHOULD "a foreign Host is refused, against DNS rebinding" "compare Host with the names the server is called by"
    CORS "cors" SHOULD "pages that may call may also send the headers of MCP and read the session's name" "complete Access-Control-Allow-Headers and Access-Control-Expose-Headers"
    FALLBACK "fallback" SHOULD "a server of the handshake era refuses server/discover so that clients go on to initialize" "answer 400 or -32601 at once, not with silence, 401, 403, 429 or 5xx, and do not end"
    AUTHORIZATION "authorization" SHOULD "whoever lacks the token that was given is refused with 401 and WWW-Authenticate" "answer 401, and say in WWW-Authenticate where a token is to be had"
    ENDPOINT "sse-endpoint" MUST "HTTP+SSE: the first event is `endpoint`" "send the event before any other"
    ENDPOINT_ORIGIN "sse-origin" SHOULD "HTTP+SSE: the endpoint is at the origin of the stream" "name it by its path; clients refuse other origins"
    SSE_CLOSED "sse-closed" SHOULD "HTTP+SSE: when the stream is closed its session ends" "forget the session when its stream ends, and refuse its messages with 404"
    STDOUT "stdout" MUST "stdio: there is nothing but messages on standard output" "write logs to standard error"
    STDIN_END "stdin-end" SHOULD "stdio: the server ends when its input does" "exit at the end of standard input; otherwise processes are left behind"
    STDIO_MALFORMED "malformed-line" SHOULD "stdio: a line that is no JSON does no harm" "answer -32700, and read on"
    CALL "call" SHOULD "the tool that was named can be called" "see what the server says"
}

// --- what both eras share --------------------------------------------------------------------------

/// `initialize`, offering some revision.
pub fn initialize(came: &Came, id: &Value) -> Finding {
    let Some(result) = came.as_ref().ok().and_then(|seen| seen.result(id)) else { return (Verdict::Fail, says(came)) };
    let info = &result["serverInfo"];
    let lacks = missing(&[
        ("protocolVersion", result["protocolVersion"].is_string()),
        ("capabilities", result["capabilities"].is_object()),
        ("serverInfo.name", info["name"].is_string()),
        ("serverInfo.version", info["version"].is_string()),
    ]);
    if let Some(lacks) = lacks {
        return (Verdict::Fail, lacks);
    }
    let version = result["protocolVersion"].as_str().unwrap_or_default();
    match Revision::parse(version).map(Revision::era) {
        Some(Era::Handshake) => (Verdict::Ok, version.into()),
        Some(Era::Stateless) => (Verdict::Fail, format!("{version}, which has no initialize")),
        None => (Verdict::Warn, format!("it answers with {}, which is no published revision", quote(version))),
    }
}

/// `server/discover`.
pub fn discover(came: &Came, id: &Value) -> Finding {
    let Some(result) = came.as_ref().ok().and_then(|seen| seen.result(id)) else { return (Verdict::Fail, says(came)) };
    let versions = &result["supportedVersions"];
    let lacks = missing(&[
        ("resultType", result["resultType"].is_string()),
        ("supportedVersions", versions.as_array().is_some_and(|v| v.iter().all(Value::is_string))),
        ("capabilities", result["capabilities"].is_object()),
        ("ttlMs", result["ttlMs"].as_u64().is_some()),
        ("cacheScope", is_scope(&result["cacheScope"])),
    ]);
    if let Some(lacks) = lacks {
        return (Verdict::Fail, lacks);
    }
    let named: Vec<&str> = versions.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !result["_meta"]["io.modelcontextprotocol/serverInfo"].is_object() {
        return (Verdict::Warn, "the result's _meta has no serverInfo".into());
    }
    (Verdict::Ok, named.join(", "))
}

/// Whether the answer has a media type that clients can read.
pub fn content_type(seen: &Seen) -> Finding {
    match seen.media().as_str() {
        media @ ("application/json" | "text/event-stream") => (Verdict::Ok, media.into()),
        "" => (Verdict::Fail, "no Content-Type".into()),
        other => (Verdict::Fail, other.into()),
    }
}

/// A notification, in the era of which `stateless` says which.
pub fn notification(came: &Came, stateless: bool) -> Finding {
    match came {
        Ok(seen) if seen.status == Some(202) && !seen.has_body => (Verdict::Ok, "HTTP 202, no body".into()),
        Ok(seen) if seen.status == Some(202) => (Verdict::Fail, "HTTP 202, with a body".into()),
        // There it may be refused.
        Ok(seen) if stateless && is_refused(seen) => (Verdict::Ok, seen.says()),
        _ => (Verdict::Fail, says(came)),
    }
}

/// `ping`, with an id that is a string.
pub fn ping(came: &Came, id: &Value) -> Finding {
    let Ok(seen) = came else { return (Verdict::Fail, says(came)) };
    match seen.answer(id) {
        Some(answer) if answer["result"].is_object() => (Verdict::Ok, "an empty result".into()),
        Some(_) => (Verdict::Fail, seen.says()),
        None => match seen.messages.iter().find(|m| m.get("method").is_none()) {
            Some(other) => (Verdict::Fail, format!("the id was {id} and is {} in the answer", other["id"])),
            None => (Verdict::Fail, seen.says()),
        },
    }
}

/// A listing: what its items are called in the result, and those of every page.
pub fn listing(came: &Came, id: &Value, key: &str) -> Finding {
    let Some(result) = came.as_ref().ok().and_then(|seen| seen.result(id)) else { return (Verdict::Fail, says(came)) };
    let Some(items) = result[key].as_array() else { return (Verdict::Fail, format!("the result has no array `{key}`")) };
    if key != "tools" {
        return (Verdict::Ok, items.len().to_string());
    }
    let mut names = BTreeSet::new();
    for tool in items {
        let Some(name) = tool["name"].as_str().filter(|name| !name.is_empty()) else {
            return (Verdict::Fail, format!("a tool has no name: {}", quote(&tool.to_string())));
        };
        if tool["inputSchema"]["type"] != "object" {
            return (Verdict::Fail, format!("the inputSchema of `{name}` is not of type object"));
        }
        if !names.insert(name) {
            return (Verdict::Warn, format!("two tools are called `{name}`"));
        }
    }
    (Verdict::Ok, items.len().to_string())
}

/// What 2026-07-28 wants to know of a listing.
pub fn cache_hints(result: &Value) -> Finding {
    let lacks = missing(&[
        ("resultType", result["resultType"] == "complete"),
        ("ttlMs", result["ttlMs"].as_u64().is_some()),
        ("cacheScope", is_scope(&result["cacheScope"])),
    ]);
    lacks.map_or_else(|| (Verdict::Ok, format!("ttlMs {}, {}", result["ttlMs"], result["cacheScope"])), |lacks| (Verdict::Fail, lacks))
}

/// A method nobody knows, in the handshake era.
pub fn unknown_method(came: &Came) -> Finding {
    let Ok(seen) = came else { return (Verdict::Fail, says(came)) };
    match (seen.code(), seen.status) {
        (Some(-32601), Some(404)) => (Verdict::Warn, "HTTP 404, -32601; with 404 clients take the session for lost".into()),
        (Some(-32601), _) => (Verdict::Ok, seen.says()),
        (Some(_), _) => (Verdict::Warn, seen.says()),
        (None, _) => (Verdict::Fail, seen.says()),
    }
}

/// A body that is no JSON.
pub fn malformed(came: &Came) -> Finding {
    match came {
        Ok(seen) if is_refused(seen) => (Verdict::Ok, seen.says()),
        Ok(seen) if seen.is_success() => (Verdict::Fail, seen.says()),
        Ok(seen) => (Verdict::Warn, seen.says()),
        Err(_) => (Verdict::Fail, says(came)),
    }
}

/// A batch, where there are some.
pub fn batch_taken(came: &Came, ids: &[Value]) -> Finding {
    match came {
        Ok(seen) if ids.iter().all(|id| seen.result(id).is_some()) => (Verdict::Ok, format!("{} of {0} answered", ids.len())),
        _ => (Verdict::Fail, says(came)),
    }
}

/// A batch, where there are none.
pub fn batch_refused(came: &Came) -> Finding {
    match came {
        Ok(seen) if seen.messages.iter().any(|m| m.get("result").is_some()) => (Verdict::Warn, "it was answered".into()),
        Ok(seen) if !seen.is_success() || seen.error().is_some() => (Verdict::Ok, seen.says()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// What a server of the handshake era says to `server/discover`.
pub fn fallback(came: &Came) -> Finding {
    match came {
        Ok(seen) if matches!(seen.code(), Some(-32020 | -32021)) => {
            (Verdict::Warn, format!("{}, which only a server of 2026-07-28 may say", seen.says()))
        }
        Ok(seen) if seen.cut.is_none() && seen.status.is_none_or(is_plain_refusal) => (Verdict::Ok, seen.says()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// Whoever refused us so says nothing of what the server speaks (2026-07-28, basic/versioning).
fn is_plain_refusal(status: u16) -> bool {
    !matches!(status, 300..=399 | 401 | 403 | 408 | 425 | 429 | 500..)
}

// --- 2026-07-28 ------------------------------------------------------------------------------------

/// A refusal of 2026-07-28: over HTTP with that status, and everywhere with that code.
pub fn refused_with(came: &Came, status: u16, code: i64) -> Finding {
    match came {
        Ok(seen) if seen.status.is_none_or(|s| s == status) && seen.code() == Some(code) => (Verdict::Ok, seen.says()),
        _ => (Verdict::Fail, says(came)),
    }
}

/// A revision nobody knows.
pub fn version_unsupported(came: &Came) -> Finding {
    let (verdict, said) = refused_with(came, 400, -32022);
    let data = came.as_ref().ok().and_then(Seen::error).map(|error| &error["data"]["supported"]);
    match (verdict, data.and_then(Value::as_array)) {
        (Verdict::Ok, Some(all)) if !all.is_empty() => (Verdict::Ok, said),
        (Verdict::Ok, _) => (Verdict::Fail, format!("{said}; error.data names no supported revisions")),
        (verdict, _) => (verdict, said),
    }
}

/// Whether it keeps from naming a session.
pub fn no_session(seen: &Seen) -> Finding {
    match seen.header("mcp-session-id") {
        None => (Verdict::Ok, "there is none".into()),
        Some(_) => (Verdict::Warn, "it names a session".into()),
    }
}

/// `GET`, where it has no meaning.
pub fn stateless_get(came: &Came) -> Finding {
    match came {
        Ok(seen) if seen.status == Some(405) => (Verdict::Ok, "HTTP 405".into()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// Whether nothing that was heard is a request.
pub fn no_requests(heard: &[Value]) -> Finding {
    match heard.iter().find(|m| m.get("method").is_some() && m.get("id").is_some()) {
        Some(request) => (Verdict::Fail, format!("it sent {}", request["method"])),
        None => (Verdict::Ok, "none came".into()),
    }
}

/// What came first on a `subscriptions/listen`.
pub fn listen(first: Result<&Value, &str>, id: &Value) -> Finding {
    match first {
        Ok(message) if message["method"] != "notifications/subscriptions/acknowledged" => (
            Verdict::Fail,
            message["error"].as_object().map_or_else(|| quote(&message.to_string()), |_| quote(&message["error"].to_string())),
        ),
        Ok(message) if message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] != *id => {
            (Verdict::Fail, format!("acknowledged, without its id {id}"))
        }
        Ok(_) => (Verdict::Ok, "acknowledged".into()),
        Err(why) => (Verdict::Fail, why.into()),
    }
}

// --- sessions --------------------------------------------------------------------------------------

/// The name of a session.
pub fn session_id(name: Option<&[u8]>) -> Finding {
    match name {
        None => (Verdict::NotApplicable, "it names none".into()),
        Some(name) if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) => {
            (Verdict::Fail, "it holds a character that is not visible ASCII".into())
        }
        Some(name) if name.len() < 16 => (Verdict::Warn, format!("it has {} characters only, and may be guessed", name.len())),
        Some(name) => (Verdict::Ok, format!("{} characters", name.len())),
    }
}

/// A request that names no session.
pub fn session_missing(came: &Came) -> Finding {
    match came {
        Ok(seen) if seen.status == Some(400) => (Verdict::Ok, seen.says()),
        Ok(seen) if seen.is_success() => (Verdict::Ok, "served: it does not need one".into()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// A request that names a session nobody knows, or (`ended`) one that has ended.
pub fn session_gone(came: &Came, ended: bool) -> Finding {
    match came {
        Ok(seen) if seen.status == Some(404) => (Verdict::Ok, seen.says()),
        _ => (if ended { Verdict::Fail } else { Verdict::Warn }, says(came)),
    }
}

/// `DELETE`.
pub fn session_delete(came: &Came) -> Finding {
    match came {
        Ok(seen) if seen.is_success() || seen.status == Some(405) => (Verdict::Ok, format!("HTTP {}", seen.status.unwrap_or_default())),
        _ => (Verdict::Warn, says(came)),
    }
}

/// A request under a revision that is none.
pub fn version_header(came: &Came) -> Finding {
    match came {
        Ok(seen) if seen.status == Some(400) => (Verdict::Ok, seen.says()),
        _ => (Verdict::Fail, says(came)),
    }
}

/// A request without the header.
pub fn version_absent(came: &Came, id: &Value) -> Finding {
    match came {
        Ok(seen) if seen.result(id).is_some() => (Verdict::Ok, "served".into()),
        _ => (Verdict::Warn, says(came)),
    }
}

// --- HTTP ------------------------------------------------------------------------------------------

/// `GET`, for a stream.
pub fn get(came: &Came) -> Finding {
    match came {
        Ok(seen) if seen.is_success() && seen.is_stream() => (Verdict::Ok, "a stream".into()),
        Ok(seen) if seen.status == Some(405) => (Verdict::Ok, "HTTP 405: none is offered".into()),
        Ok(seen) => (Verdict::Fail, seen.says()),
        // Some send the head with the first event, of which there may never be one.
        Err(missed) => (Verdict::Warn, missed.why.clone()),
    }
}

/// A request of somebody who accepts JSON alone.
pub fn accept(came: &Came) -> Finding {
    match came {
        Ok(seen) if seen.is_success() && seen.is_stream() => (Verdict::Warn, "it was answered with a stream".into()),
        Ok(seen) if seen.is_success() || is_refused(seen) => (Verdict::Ok, seen.says()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// A message that says to be text.
pub fn media_type(came: &Came) -> Finding {
    match came {
        Ok(seen) if is_refused(seen) => (Verdict::Ok, seen.says()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// A request from a foreign page. `exact`: the revision wants 403. `local`: the server is on this machine,
/// where every page's visitor can reach it.
pub fn origin(came: &Came, exact: bool, local: bool) -> Finding {
    match came {
        Ok(seen) if seen.status == Some(403) => (Verdict::Ok, "HTTP 403".into()),
        Ok(seen) if is_refused(seen) => (if exact { Verdict::Fail } else { Verdict::Ok }, seen.says()),
        Ok(seen) if seen.is_success() && local => (Verdict::Fail, "it was served".into()),
        // Its operator may want every page to call, and nobody can tell from outside.
        Ok(seen) if seen.is_success() => (Verdict::Warn, "it was served; good only if any page may call".into()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// A request to a foreign name.
pub fn host(came: &Came) -> Finding {
    match came {
        Ok(seen) if is_refused(seen) => (Verdict::Ok, seen.says()),
        Ok(seen) if seen.is_success() => (Verdict::Warn, "it was served".into()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// A request without the token that every other had.
pub fn authorization(came: &Came) -> Finding {
    match came {
        Ok(seen) if seen.status == Some(401) && seen.header("www-authenticate").is_some() => (Verdict::Ok, "HTTP 401".into()),
        Ok(seen) if seen.status == Some(401) => (Verdict::Warn, "HTTP 401, without WWW-Authenticate".into()),
        Ok(seen) if seen.is_success() => (Verdict::Warn, "it was served: the token is not needed".into()),
        _ => (Verdict::Warn, says(came)),
    }
}

/// What a page is allowed: what the preflight says to `wanted` headers, and what a response exposes.
/// `session`: there is one, whose name a page has to read.
pub fn cors(preflight: &Came, response: &Came, wanted: &[&str], session: bool) -> Finding {
    let Ok(seen) = preflight else { return (Verdict::Warn, says(preflight)) };
    if seen.header("access-control-allow-origin").is_none() || !seen.is_success() {
        return (Verdict::NotApplicable, "no page may call".into());
    }
    let list = |seen: &Seen, name: &str| -> Vec<String> {
        seen.header(name).unwrap_or_default().split(',').map(|h| h.trim().to_ascii_lowercase()).collect()
    };
    let allowed = list(seen, "access-control-allow-headers");
    let refused: Vec<&str> = wanted.iter().copied().filter(|h| !allowed.iter().any(|a| a == h || a == "*")).collect();
    if !refused.is_empty() {
        return (Verdict::Warn, format!("pages may call, and may not send {}", refused.join(", ")));
    }
    let exposed = response.as_ref().map(|seen| list(seen, "access-control-expose-headers")).unwrap_or_default();
    if session && !exposed.iter().any(|h| h == "mcp-session-id" || h == "*") {
        return (Verdict::Warn, "pages may call, and cannot read Mcp-Session-Id".into());
    }
    (Verdict::Ok, format!("pages of {} may call", seen.header("access-control-allow-origin").unwrap_or_default()))
}

// --- HTTP+SSE and stdio ----------------------------------------------------------------------------

/// A message to a session whose stream was closed.
pub fn sse_closed(came: &Came) -> Finding {
    match came {
        Ok(seen) if !seen.is_success() => (Verdict::Ok, seen.says()),
        Err(Missed { why, .. }) => (Verdict::Warn, why.clone()),
        Ok(seen) => (Verdict::Warn, format!("{}: its messages are still taken", seen.says())),
    }
}

/// What was on standard output and was no message.
pub fn stdout(noise: &[String]) -> Finding {
    match noise {
        [] => (Verdict::Ok, "nothing else came".into()),
        [first, ..] => (Verdict::Fail, format!("{} other lines, such as {}", noise.len(), quote(first))),
    }
}

/// What became of a line that is no JSON, and of a ping behind it.
pub fn stdio_malformed(came: &Came, id: &Value) -> Finding {
    match came {
        Ok(seen) if seen.result(id).is_none() => (Verdict::Warn, seen.says()),
        Ok(seen) if seen.code() == Some(-32700) => (Verdict::Ok, "-32700, and it reads on".into()),
        Ok(_) => (Verdict::Ok, "it reads on".into()),
        Err(missed) => (Verdict::Warn, missed.why.clone()),
    }
}

// --- helpers ---------------------------------------------------------------------------------------

fn is_refused(seen: &Seen) -> bool {
    seen.status.is_some_and(|status| (400..500).contains(&status))
}

fn is_scope(value: &Value) -> bool {
    value == "public" || value == "private"
}

fn missing(wanted: &[(&str, bool)]) -> Option<String> {
    let missing: Vec<&str> = wanted.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    (!missing.is_empty()).then(|| format!("missing or wrong: {}", missing.join(", ")))
}

#[cfg(test)]
mod tests;
