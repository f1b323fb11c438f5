//! What a client can be asked, and what a question needs of it.
//!
//! Of everything a client may declare, these few decide whether a server may ask it something, so
//! they are also what tells two clients of one shared server apart: a handshake says once, for the
//! whole session, what a client can, and clients that can the same may share one.

use crate::call::{Ask, Client, object};
use crate::json::Span;
use crate::message::Message;
use crate::methods::Method;
use crate::version::{Era, Revision};

/// A set of abilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Abilities(u8);

impl Abilities {
    /// None.
    pub const NONE: Abilities = Abilities(0);
    /// Can show a form (elicitation, 2025-06-18).
    pub const FORM: Abilities = Abilities(1);
    /// Can send its user to a URL (elicitation, 2025-11-25).
    pub const URL: Abilities = Abilities(2);
    /// Has a model to ask.
    pub const SAMPLING: Abilities = Abilities(4);
    /// Its model can use tools (2025-11-25).
    pub const SAMPLING_TOOLS: Abilities = Abilities(8);
    /// Can add context to what its model is asked.
    pub const SAMPLING_CONTEXT: Abilities = Abilities(16);
    /// Has roots.
    pub const ROOTS: Abilities = Abilities(32);
    /// Shows the user interfaces of MCP Apps. Nothing is asked for it, but a server may offer
    /// other tools to such a client.
    pub const APPS: Abilities = Abilities(64);

    /// What the client declared, as far as its revision has it.
    pub fn of(client: &Client) -> Abilities {
        if client.capabilities.len() <= 2 {
            return Abilities::NONE;
        }
        let Ok(declared) = object(client.capabilities.clone()) else { return Abilities::NONE };
        let [elicitation, sampling, roots, extensions] =
            declared.params_fields(&["elicitation", "sampling", "roots", "extensions"]).unwrap_or_default();
        let mut all = Abilities::NONE;
        if let Some(at) = elicitation.filter(|at| is_object(&declared, *at)) {
            let [form, url] = declared.fields_at(at, &["form", "url"]).unwrap_or_default();
            // Before there were two modes, and where neither is named, it is the form.
            if form.is_some() || url.is_none() {
                all = all.and(Abilities::FORM);
            }
            if url.is_some() && client.revision >= Revision::V2025_11_25 {
                all = all.and(Abilities::URL);
            }
        }
        if let Some(at) = sampling.filter(|at| is_object(&declared, *at)) {
            let [tools, context] = declared.fields_at(at, &["tools", "context"]).unwrap_or_default();
            all = all.and(Abilities::SAMPLING);
            if tools.is_some() && client.revision >= Revision::V2025_11_25 {
                all = all.and(Abilities::SAMPLING_TOOLS);
            }
            if context.is_some() {
                all = all.and(Abilities::SAMPLING_CONTEXT);
            }
        }
        if roots.is_some_and(|at| is_object(&declared, at)) {
            all = all.and(Abilities::ROOTS);
        }
        if let Some(at) = extensions.filter(|at| is_object(&declared, *at))
            && declared.fields_at(at, &["io.modelcontextprotocol/ui"]).is_ok_and(|[ui]| ui.is_some())
        {
            all = all.and(Abilities::APPS);
        }
        all
    }

    /// What a client needs to be asked this; `None` for a question nobody named.
    pub fn needed(method: &Method, ask: &Message) -> Option<Abilities> {
        Some(match method {
            Method::Elicitation => {
                let [mode] = ask.params_fields(&["mode"]).unwrap_or_default();
                if ask.string_at(mode).as_deref() == Some("url") { Abilities::URL } else { Abilities::FORM }
            }
            Method::Sampling => match ask.params_fields(&["tools", "toolChoice"]) {
                Ok([None, None]) | Err(_) => Abilities::SAMPLING,
                Ok(_) => Abilities::SAMPLING.and(Abilities::SAMPLING_TOOLS),
            },
            Method::Roots => Abilities::ROOTS,
            _ => return None,
        })
    }

    /// Both sets.
    pub const fn and(self, other: Abilities) -> Abilities {
        Abilities(self.0 | other.0)
    }

    /// Whether all of `other` is here.
    pub fn include(self, other: Abilities) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether a question of any kind can be answered.
    pub fn any_question(self) -> bool {
        self.0 & !Abilities::APPS.0 != 0
    }

    /// The capabilities object that declares them.
    pub fn to_json(self) -> String {
        let has = |one: Abilities| self.include(one);
        let mut parts = Vec::new();
        match (has(Abilities::FORM), has(Abilities::URL)) {
            (true, true) => parts.push(r#""elicitation":{"form":{},"url":{}}"#),
            (true, false) => parts.push(r#""elicitation":{"form":{}}"#),
            (false, true) => parts.push(r#""elicitation":{"url":{}}"#),
            (false, false) => {}
        }
        match (has(Abilities::SAMPLING), has(Abilities::SAMPLING_TOOLS), has(Abilities::SAMPLING_CONTEXT)) {
            (true, true, true) => parts.push(r#""sampling":{"context":{},"tools":{}}"#),
            (_, true, _) => parts.push(r#""sampling":{"tools":{}}"#),
            (_, _, true) => parts.push(r#""sampling":{"context":{}}"#),
            (true, ..) => parts.push(r#""sampling":{}"#),
            _ => {}
        }
        if has(Abilities::ROOTS) {
            parts.push(r#""roots":{}"#);
        }
        if has(Abilities::APPS) {
            parts.push(r#""extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]}}"#);
        }
        format!("{{{}}}", parts.join(","))
    }
}

impl Client {
    /// What this client would have had to declare to be asked this, if it did not. Questions that no
    /// revision names may be an agreement between the two ends: within the handshake they pass.
    pub fn lacks(&self, ask: &Ask) -> Option<Abilities> {
        match Abilities::needed(&ask.method, &ask.message) {
            Some(needed) => (!Abilities::of(self).include(needed)).then_some(needed),
            None => (self.revision.era() == Era::Stateless).then_some(Abilities::NONE),
        }
    }
}

fn is_object(message: &Message, at: Span) -> bool {
    message.text(at).starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Principal;
    use bytes::Bytes;

    fn client(revision: Revision, capabilities: &str) -> Client {
        Client {
            revision,
            principal: Principal::default(),
            transport: crate::call::Transport::Streamable,
            info: None,
            capabilities: Bytes::copy_from_slice(capabilities.as_bytes()),
        }
    }

    fn ask(method: &str, params: &str) -> Ask {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        Ask { ticket: 1, method: Method::parse(method), message: Message::read(text.into()).unwrap() }
    }

    #[test]
    fn declared_is_what_the_revision_has() {
        let of = |revision, text: &str| Abilities::of(&client(revision, text)).to_json();
        let new = Revision::V2026_07_28;
        assert_eq!(of(new, "{}"), "{}");
        assert_eq!(of(new, r#"{"elicitation":{}}"#), r#"{"elicitation":{"form":{}}}"#);
        assert_eq!(of(new, r#"{"elicitation":{"url":{}}}"#), r#"{"elicitation":{"url":{}}}"#);
        assert_eq!(of(Revision::V2025_06_18, r#"{"elicitation":{"form":{},"url":{}}}"#), r#"{"elicitation":{"form":{}}}"#);
        assert_eq!(of(new, r#"{"x":1,"sampling":{"tools":{}},"roots":{"listChanged":true}}"#), r#"{"sampling":{"tools":{}},"roots":{}}"#);
        assert_eq!(of(new, r#"{"sampling":true,"elicitation":[]}"#), "{}");
        assert!(!Abilities::of(&client(new, r#"{"extensions":{"io.modelcontextprotocol/ui":{}}}"#)).any_question());
    }

    #[test]
    fn a_question_names_what_it_needs() {
        let lacks = |revision, capabilities: &str, method, params| client(revision, capabilities).lacks(&ask(method, params));
        let new = Revision::V2026_07_28;
        assert_eq!(lacks(new, r#"{"elicitation":{}}"#, "elicitation/create", r#"{"message":"?"}"#), None);
        assert_eq!(lacks(new, r#"{"elicitation":{}}"#, "elicitation/create", r#"{"mode":"url"}"#), Some(Abilities::URL));
        assert_eq!(lacks(new, r#"{"elicitation":{"url":{}}}"#, "elicitation/create", "{}"), Some(Abilities::FORM));
        assert_eq!(
            lacks(new, r#"{"sampling":{}}"#, "sampling/createMessage", r#"{"tools":[]}"#).unwrap().to_json(),
            r#"{"sampling":{"tools":{}}}"#
        );
        assert_eq!(lacks(new, "{}", "roots/list", "{}").unwrap().to_json(), r#"{"roots":{}}"#);
        assert!(lacks(new, "{}", "x/ask", "{}").is_some());
        assert_eq!(lacks(Revision::V2025_11_25, "{}", "x/ask", "{}"), None);
        assert_eq!(
            lacks(Revision::V2025_06_18, r#"{"elicitation":{"url":{}}}"#, "elicitation/create", r#"{"mode":"url"}"#),
            Some(Abilities::URL)
        );
    }
}
