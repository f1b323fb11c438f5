//! What must be translated between the eras, and between a server and an older client.
//!
//! Within an era everything passes untouched. Across, these are the differences in the letters
//! themselves; who is asked what, and how, is [`crossing`]'s.
//!
//! | what | handshake server, stateless client | stateless server, handshake client |
//! |---|---|---|
//! | hello | `discover_result` | `initialize_result` |
//! | result | + `resultType`, cache hints, `serverInfo` | − the same |
//! | schema | `x-mcp-header` stays where it is checked | an output has an object at its root |
//! | structured value | passes | is an object, and said as text too |
//! | error | codes of one hop become -32603 | likewise; -32021 of a tool becomes its result |
//! | content types | pass | a type the revision lacks becomes text |
//!
//! Between two revisions with a handshake, what an older client could not overlook is rewritten as
//! in the last column. Notes pass as they are, but for the mark of a subscription.

pub mod ask;
mod content;
pub mod crossing;
mod error;
pub mod following;
mod hello;
pub mod listing;
mod mark;
pub mod parked;
mod progress;
mod result;
pub mod rounds;
mod schema;

use crate::call::{Client, Outcome, Server};
use crate::json;
use crate::methods::Method;
use crate::tasks;
use crate::version::{Era, Revision};

pub use error::code_of;
pub use hello::{discover_result, initialize_result};
pub use mark::{tag, untag};
pub use progress::Increasing;

/// How a call ended, in the words of its client.
pub fn outcome(client: &Client, server: &Server, method: &Method, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Result(result) => match (server.era(), client.revision.era()) {
            (Era::Handshake, Era::Stateless) => {
                let result =
                    if *method == Method::ToolsList { tasks::extension_tools(schema::without_unchecked_mirrors(result)) } else { result };
                Outcome::Result(result::complete(server, method, result))
            }
            (Era::Stateless, Era::Handshake) => match (result::plain(result), method) {
                (Ok(result), Method::ToolsList) => {
                    let result = schema::with_object_roots(result);
                    // Of tasks only 2025-11-25 knows.
                    let offered = server.can.tasks && client.revision == Revision::V2025_11_25;
                    Outcome::Result(if offered { tasks::legacy_tools(&result) } else { result })
                }
                (Ok(result), Method::ToolsCall) => {
                    Outcome::Result(content::down_level(client.revision, method, content::with_object(result)))
                }
                (Ok(result), _) => Outcome::Result(content::down_level(client.revision, method, result)),
                (Err(fault), _) => Outcome::Fault(fault),
            },
            (Era::Handshake, Era::Handshake) => Outcome::Result(content::down_level(client.revision, method, result)),
            (Era::Stateless, Era::Stateless) => Outcome::Result(result),
        },
        Outcome::Error(error) => error::error(client.revision, server.era(), method, error),
        fault => fault,
    }
}

/// An object of these members, in this order.
pub fn write_object(members: impl IntoIterator<Item = (String, Vec<u8>)>) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (key, value) in members {
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend_from_slice(json::quote(&key).as_bytes());
        out.push(b':');
        out.extend_from_slice(&value);
    }
    out.push(b'}');
    out
}

/// Whether the text may hold that word: a look for it, or for an escape that may spell it, is much
/// cheaper than reading everything.
pub(crate) fn holds(text: &[u8], word: &str) -> bool {
    memchr::memmem::find(text, word.as_bytes()).is_some() || may_spell(text)
}

/// Whether the text may spell any word, by escapes.
pub(crate) fn may_spell(text: &[u8]) -> bool {
    memchr::memchr(b'\\', text).is_some_and(|at| memchr::memmem::find(&text[at..], b"\\u00").is_some())
}

fn own((key, value): (std::borrow::Cow<'_, str>, &str)) -> (String, Vec<u8>) {
    (key.into_owned(), value.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    pub(super) fn server(revision: Revision, hello: &str) -> Server {
        Server::read(revision, Bytes::copy_from_slice(hello.as_bytes()), "demo").unwrap()
    }

    pub(super) fn client(revision: Revision) -> Client {
        Client {
            revision,
            principal: Default::default(),
            transport: crate::call::Transport::Streamable,
            info: None,
            capabilities: Bytes::from_static(b"{}"),
        }
    }

    pub(super) fn result(c: Revision, s: &Server, method: Method, text: &str) -> String {
        match outcome(&client(c), s, &method, Outcome::Result(Bytes::copy_from_slice(text.as_bytes()))) {
            Outcome::Result(r) => String::from_utf8(r.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }
}
