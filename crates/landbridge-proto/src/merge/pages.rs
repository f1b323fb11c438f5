//! One page of a listing, made of a page of each server.

use bytes::Bytes;

use crate::call::object;
use crate::json::{self, Span};
use crate::methods::Method;
use crate::version::Era;

/// A page of one server's, as it is in front.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    items: Vec<String>,
    /// Where it goes on.
    pub next: Option<String>,
    /// For how long, and by whom, it may be kept (2026-07-28).
    ttl_ms: u64,
    public: bool,
}

/// What names a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A tool's or a prompt's name.
    Name,
    /// A resource's URI.
    Uri,
}

/// What a listing lists: the key of the list, and that of a thing's name in it. `None`: it is no listing.
fn keys(method: &Method) -> Option<(&'static str, &'static str)> {
    Some(match method {
        Method::ToolsList => ("tools", "name"),
        Method::PromptsList => ("prompts", "name"),
        Method::ResourcesList => ("resources", "uri"),
        Method::TemplatesList => ("resourceTemplates", "uriTemplate"),
        _ => return None,
    })
}

/// Where a tool names the resource that shows it: MCP Apps, which had another key first, and those before them.
const SHOWN_BY: [&str; 2] = ["ui/resourceUri", "openai/outputTemplate"];

/// The capability of servers that have such a listing.
pub fn capability(method: &Method) -> &'static str {
    match method {
        Method::ToolsList => "tools",
        Method::PromptsList => "prompts",
        _ => "resources",
    }
}

impl Page {
    /// Reads a server's page; `called` says how what is named so is called in front, or that it is not there.
    /// `None`: it is no such listing.
    pub fn read(method: &Method, result: &Bytes, mut called: impl FnMut(By, &str) -> Option<String>) -> Option<Page> {
        let (list, name) = keys(method)?;
        let by = if name == "name" { By::Name } else { By::Uri };
        let message = object(result.clone()).ok()?;
        let [all, next, ttl, scope] = message.params_fields(&[list, "nextCursor", "ttlMs", "cacheScope"]).ok()?;
        let all = json::elements(message.text(all?), usize::MAX).ok()??;
        let renamed = |item: &str| {
            let whole = Span::whole(item.as_bytes());
            let mut called = |at: Span, by| Some((at, json::quote(&called(by, &json::string(at.of_bytes(item.as_bytes()))?)?)));
            let mut all = vec![called(field_at(item, whole, name)?, by)?];
            if *method == Method::ToolsList
                && let Some(meta) = field_at(item, whole, "_meta")
            {
                let app = field_at(item, meta, "ui").and_then(|ui| field_at(item, ui, "resourceUri"));
                let shown_by = SHOWN_BY.iter().filter_map(|key| field_at(item, meta, key));
                all.extend(app.into_iter().chain(shown_by).filter_map(|at| called(at, By::Uri)));
            }
            all.sort_by_key(|(at, _)| at.start());
            let edits: Vec<(Span, &[u8])> = all.iter().map(|(at, new)| (*at, new.as_bytes())).collect();
            String::from_utf8(json::splice(item.as_bytes(), &edits)).ok()
        };
        Some(Page {
            items: all.into_iter().filter_map(renamed).collect(),
            next: message.string_at(next).map(|next| next.into_owned()),
            ttl_ms: ttl.and_then(|at| message.text(at).parse().ok()).unwrap_or(0),
            public: message.string_at(scope).as_deref() == Some("public"),
        })
    }
}

/// The place of a field of the object that lies there.
fn field_at(text: &str, object: Span, key: &str) -> Option<Span> {
    let mut found = [None];
    json::fields(text.get(object.range())?, &[key], &mut found).ok()?;
    found[0].map(|at| at.within(object))
}

/// All of them as one, which goes on at `next`.
pub fn result(method: &Method, era: Era, pages: &[Page], next: Option<&str>) -> Bytes {
    let (list, _) = keys(method).unwrap_or(("items", ""));
    let mut out = String::from("{");
    if era == Era::Stateless {
        let ttl_ms = pages.iter().map(|page| page.ttl_ms).min().unwrap_or(0);
        let scope = if !pages.is_empty() && pages.iter().all(|page| page.public) { "public" } else { "private" };
        out.push_str(&format!("\"resultType\":\"complete\",\"ttlMs\":{ttl_ms},\"cacheScope\":\"{scope}\","));
    }
    out.push_str(&format!("\"{list}\":["));
    for (n, item) in pages.iter().flat_map(|page| &page.items).enumerate() {
        if n > 0 {
            out.push(',');
        }
        out.push_str(item);
    }
    out.push(']');
    if let Some(next) = next {
        out.push_str(&format!(",\"nextCursor\":{}", json::quote(next)));
    }
    out.push('}');
    out.into()
}

/// Where each of several servers goes on, as a text to be sealed.
pub fn cursor<'c>(parts: impl IntoIterator<Item = (&'c str, &'c str)>) -> Option<Vec<u8>> {
    let members: Vec<(String, Vec<u8>)> =
        parts.into_iter().map(|(server, next)| (server.to_owned(), json::quote(next).into_bytes())).collect();
    (!members.is_empty()).then(|| crate::bridge::write_object(members))
}

/// What [`cursor`] wrote.
pub fn parts_of(cursor: &[u8]) -> Option<Vec<(String, String)>> {
    let members = json::members(std::str::from_utf8(cursor).ok()?).ok()?;
    members.into_iter().map(|(server, next)| Some((server.into_owned(), json::string(next.as_bytes())?.into_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(method: Method, text: &str) -> Option<Page> {
        Page::read(&method, &Bytes::copy_from_slice(text.as_bytes()), |by, name| {
            let front = if by == By::Name { "s__" } else { "s+" };
            (name != "gone").then(|| format!("{front}{name}"))
        })
    }

    #[test]
    fn pages_become_one_and_keep_their_letters() {
        let one = page(Method::ToolsList, r#"{"tools":[ {"x":1.0,"name":"a"},{"name":"gone"},{"n":1},7 ],"nextCursor":"c"}"#).unwrap();
        let two = page(Method::ToolsList, r#"{"tools":[{"name":"b"}],"ttlMs":5,"cacheScope":"public"}"#).unwrap();
        assert_eq!((one.next.as_deref(), two.next.as_deref()), (Some("c"), None));
        let said = |era, pages: &[Page], next| String::from_utf8(result(&Method::ToolsList, era, pages, next).to_vec()).unwrap();
        let both = [one, two];
        assert_eq!(said(Era::Handshake, &both, Some("n")), r#"{"tools":[{"x":1.0,"name":"s__a"},{"name":"s__b"}],"nextCursor":"n"}"#);
        assert_eq!(
            said(Era::Stateless, &both[1..], None),
            r#"{"resultType":"complete","ttlMs":5,"cacheScope":"public","tools":[{"name":"s__b"}]}"#
        );
        assert!(said(Era::Stateless, &both, None).contains(r#""ttlMs":0,"cacheScope":"private""#));
        assert_eq!(said(Era::Handshake, &[], None), r#"{"tools":[]}"#);
    }

    #[test]
    fn each_kind_of_listing_is_named_by_its_key() {
        let templates = page(Method::TemplatesList, r#"{"resourceTemplates":[{"name":"n","uriTemplate":"a:{b}"}]}"#).unwrap();
        assert_eq!(templates.items, [r#"{"name":"n","uriTemplate":"s+a:{b}"}"#]);
        assert!(page(Method::ResourcesList, r#"{"resources":[]}"#).is_some());
        for (method, other) in [(Method::ToolsList, r#"{"prompts":[]}"#), (Method::ToolsList, "5"), (Method::ToolsCall, r#"{"tools":[]}"#)]
        {
            assert_eq!(page(method, other), None);
        }
    }

    #[test]
    fn a_tool_names_what_shows_it_as_it_is_called_in_front() {
        let tool =
            r#"{"_meta":{"n":1.0,"ui/resourceUri":"u:1","ui":{"x":[],"resourceUri":"\u0075:2"},"openai/outputTemplate":"u:3"},"name":"a"}"#;
        let read = page(Method::ToolsList, &format!(r#"{{"tools":[{tool}]}}"#)).unwrap();
        let front = tool.replace("u:1", "s+u:1").replace("\\u0075:2", "s+u:2").replace("u:3", "s+u:3").replace("\"a\"", "\"s__a\"");
        assert_eq!(read.items, [front]);
        for odd in [r#""_meta":{"ui":5,"ui/resourceUri":null}"#, r#""_meta":{"ui":{"resourceUri":["u:1"]}}"#, r#""_meta":[]"#] {
            let read = page(Method::ToolsList, &format!(r#"{{"tools":[{{{odd},"name":"a"}}]}}"#)).unwrap();
            assert_eq!(read.items, [format!(r#"{{{odd},"name":"s__a"}}"#)]);
        }
        let prompt = r#"{"prompts":[{"name":"a","_meta":{"ui/resourceUri":"u:1"}}]}"#;
        assert!(page(Method::PromptsList, prompt).unwrap().items[0].contains("\"u:1\""), "only tools have apps");
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let parts = [("a", "1"), ("b.c", "\"{\n")];
        let read = parts_of(&cursor(parts).unwrap()).unwrap();
        assert_eq!(read.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>(), parts);
        assert_eq!(cursor([]), None);
        assert_eq!(parts_of(b"[]"), None);
    }
}
