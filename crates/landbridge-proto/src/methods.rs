//! The methods the protocol names, and the facts about each that a gateway acts on.
//!
//! This is a table of facts, not a list of what may pass: a method that is not here passes.

use crate::version::Era;

/// A method by name. `Other` is anything the protocol does not (or not yet) name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Opens a handshake session.
    Initialize,
    /// Says that the handshake is done.
    Initialized,
    /// What a server is and can (2026-07-28).
    Discover,
    /// Are you there (until 2025-11-25).
    Ping,
    /// Lists tools.
    ToolsList,
    /// Calls a tool.
    ToolsCall,
    /// Lists prompts.
    PromptsList,
    /// Gets a prompt.
    PromptsGet,
    /// Lists resources.
    ResourcesList,
    /// Lists resource templates.
    TemplatesList,
    /// Reads a resource.
    ResourcesRead,
    /// Wants updates of a resource (until 2025-11-25).
    Subscribe,
    /// Wants them no more (until 2025-11-25).
    Unsubscribe,
    /// Completes an argument.
    Complete,
    /// Sets the session's log level (until 2025-11-25).
    SetLevel,
    /// Opens a stream of changes (2026-07-28).
    Listen,
    /// The first message of such a stream.
    Acknowledged,
    /// A request is not wanted any more.
    Cancelled,
    /// How far a request is.
    Progress,
    /// A log line.
    Log,
    /// The list of tools changed.
    ToolsChanged,
    /// The list of prompts changed.
    PromptsChanged,
    /// The list of resources changed.
    ResourcesChanged,
    /// A resource changed.
    ResourceUpdated,
    /// The client's roots changed.
    RootsChanged,
    /// The server asks for a completion of the client's model.
    Sampling,
    /// The server asks the user.
    Elicitation,
    /// The server asks for the client's roots.
    Roots,
    /// How a task is (2025-11-25, and the extension of 2026-07-28).
    TaskGet,
    /// What came of it (2025-11-25).
    TaskResult,
    /// Answers for it (the extension).
    TaskUpdate,
    /// It is not wanted any more.
    TaskCancel,
    /// All tasks (2025-11-25).
    TaskList,
    /// Not named by any revision.
    Other(Box<str>),
}

const NAMES: [(Method, &str); 33] = [
    (Method::Initialize, "initialize"),
    (Method::Initialized, "notifications/initialized"),
    (Method::Discover, "server/discover"),
    (Method::Ping, "ping"),
    (Method::ToolsList, "tools/list"),
    (Method::ToolsCall, "tools/call"),
    (Method::PromptsList, "prompts/list"),
    (Method::PromptsGet, "prompts/get"),
    (Method::ResourcesList, "resources/list"),
    (Method::TemplatesList, "resources/templates/list"),
    (Method::ResourcesRead, "resources/read"),
    (Method::Subscribe, "resources/subscribe"),
    (Method::Unsubscribe, "resources/unsubscribe"),
    (Method::Complete, "completion/complete"),
    (Method::SetLevel, "logging/setLevel"),
    (Method::Listen, "subscriptions/listen"),
    (Method::Acknowledged, "notifications/subscriptions/acknowledged"),
    (Method::Cancelled, "notifications/cancelled"),
    (Method::Progress, "notifications/progress"),
    (Method::Log, "notifications/message"),
    (Method::ToolsChanged, "notifications/tools/list_changed"),
    (Method::PromptsChanged, "notifications/prompts/list_changed"),
    (Method::ResourcesChanged, "notifications/resources/list_changed"),
    (Method::ResourceUpdated, "notifications/resources/updated"),
    (Method::RootsChanged, "notifications/roots/list_changed"),
    (Method::Sampling, "sampling/createMessage"),
    (Method::Elicitation, "elicitation/create"),
    (Method::Roots, "roots/list"),
    (Method::TaskGet, "tasks/get"),
    (Method::TaskResult, "tasks/result"),
    (Method::TaskUpdate, "tasks/update"),
    (Method::TaskCancel, "tasks/cancel"),
    (Method::TaskList, "tasks/list"),
];

impl Method {
    /// The method of that name.
    pub fn parse(name: &str) -> Method {
        match NAMES.iter().find(|(_, n)| *n == name) {
            Some((method, _)) => method.clone(),
            None => Method::Other(name.into()),
        }
    }

    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Other(name) => name,
            known => NAMES.iter().find(|(m, _)| m == known).map_or("", |(_, n)| n),
        }
    }

    /// Whether a client of that era may send this as a request. Methods nobody named may.
    pub fn exists_in(&self, era: Era) -> bool {
        match self {
            Method::Initialize | Method::Ping | Method::Subscribe | Method::Unsubscribe | Method::SetLevel => era == Era::Handshake,
            Method::TaskResult | Method::TaskList => era == Era::Handshake,
            Method::Discover | Method::Listen | Method::TaskUpdate => era == Era::Stateless,
            Method::Sampling | Method::Elicitation | Method::Roots => false,
            _ => true,
        }
    }

    /// Whether a server may ask its client something before it answers this (2026-07-28, MRTR).
    pub fn may_ask(&self) -> bool {
        matches!(self, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead)
    }

    /// Whether it is about one task, which its `taskId` names.
    pub fn is_of_task(&self) -> bool {
        matches!(self, Method::TaskGet | Method::TaskResult | Method::TaskUpdate | Method::TaskCancel)
    }

    /// The field of `params` that `Mcp-Name` mirrors (2026-07-28, basic/transports).
    pub fn mirrored(&self) -> Option<Mirrored> {
        match self {
            Method::ToolsCall | Method::PromptsGet => Some(Mirrored::Name),
            Method::ResourcesRead => Some(Mirrored::Uri),
            Method::TaskGet | Method::TaskUpdate | Method::TaskCancel => Some(Mirrored::TaskId),
            _ => None,
        }
    }

    /// Whether a complete result carries `ttlMs` and `cacheScope` (2026-07-28, caching).
    pub fn is_cacheable(&self) -> bool {
        matches!(
            self,
            Method::Discover
                | Method::ToolsList
                | Method::PromptsList
                | Method::ResourcesList
                | Method::TemplatesList
                | Method::ResourcesRead
        )
    }
}

/// What `Mcp-Name` repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// `params.name`
    Name,
    /// `params.uri`
    Uri,
    /// `params.taskId` (tasks extension: a missing header is tolerated, a wrong one is not)
    TaskId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for (method, name) in &NAMES {
            assert_eq!(&Method::parse(name), method);
            assert_eq!(method.as_str(), *name);
        }
        assert_eq!(Method::parse("x/y").as_str(), "x/y");
    }
}
