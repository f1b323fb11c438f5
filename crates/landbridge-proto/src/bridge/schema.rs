//! Schemas of tools in `tools/list`: what the other era would read differently.
//!
//! Odd: a schema is walked by what its keywords mean, since `$ref` is no reference where it is the
//! name of a property or stands in an example.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::{holds, write_object};
use crate::call::object;
use crate::headers::{MirroredParam, mirrored_params};
use crate::json;

/// A stateless server's tools for a handshake client: every `outputSchema` has an object at its
/// root (2026-07-28 lifted that, SEP-2106).
///
/// A tool whose `x-mcp-header` is invalid stays: only who speaks HTTP to the server mirrors
/// parameters and would have to drop it, and we speak to ours over a pipe.
pub(super) fn with_object_roots(result: Bytes) -> Bytes {
    if !holds(&result, "outputSchema") {
        return result;
    }
    each_tool(result, "outputSchema", object_root)
}

/// A handshake server's tools for a stateless client: `x-mcp-header` stays only where the gateway
/// checks the header that it asks for, which are the places `mirrored_params` finds. To such a
/// server the word means nothing, and a client would drop a tool on which it stands wrongly.
pub(super) fn without_unchecked_mirrors(result: Bytes) -> Bytes {
    if !holds(&result, "x-mcp-header") {
        return result;
    }
    each_tool(result, "inputSchema", |schema| {
        let read = serde_json::from_str(schema).map_err(|e| e.to_string());
        let checked = read.and_then(|schema: Value| mirrored_params(&schema)).unwrap_or_default();
        match edit(&Edit::Unmirror(&checked), schema, &mut Vec::new()) {
            Some(Cow::Owned(new)) => Change::Put(new),
            // Nothing to take away; or nothing that can be read, which a client would not do either.
            _ => Change::Keep,
        }
    })
}

enum Change {
    Keep,
    Put(String),
    Drop,
}

/// The result of a `tools/list` with `change` made to the field `key` of each tool that has it.
fn each_tool(result: Bytes, key: &str, change: impl Fn(&str) -> Change) -> Bytes {
    let changed = |tool: &str| {
        let members = json::members(tool).ok()?;
        let (_, schema) = members.iter().find(|(k, _)| k == key)?;
        let new = match change(schema) {
            Change::Keep => return None,
            Change::Put(new) => Some(new),
            Change::Drop => None,
        };
        let members = members.into_iter().filter_map(|(k, value)| {
            let value = if k == key { new.clone()?.into_bytes() } else { value.as_bytes().to_vec() };
            Some((k.into_owned(), value))
        });
        String::from_utf8(write_object(members)).ok()
    };
    let rewrite = || {
        let message = object(result.clone()).ok()?;
        let [list] = message.params_fields(&["tools"]).ok()?;
        let list = list?;
        let tools = json::elements(message.text(list), usize::MAX).ok()??;
        let new: Vec<Cow<'_, str>> = tools.into_iter().map(|tool| changed(tool).map_or(Cow::Borrowed(tool), Cow::Owned)).collect();
        let any = new.iter().any(|tool| matches!(tool, Cow::Owned(_)));
        any.then(|| Bytes::from(json::splice(&result, &[(list, format!("[{}]", new.join(",")).as_bytes())])))
    };
    rewrite().unwrap_or_else(|| result.clone())
}

/// An `outputSchema` that has an object at its root, and says what comes with it: the value itself
/// where it is an object, otherwise `{"result": value}`.
fn object_root(schema: &str) -> Change {
    // It need not be there; better none than one the client stumbles over.
    let Ok(members) = json::members(schema) else { return Change::Drop };
    let find = |key: &str| members.iter().find(|(k, _)| k == key).map(|(_, value)| *value);
    if find("type").is_some_and(is_object) {
        return Change::Keep;
    }
    let either = may_be_object(schema, 0);
    let place = if either { "#/anyOf/0/properties/result" } else { "#/properties/result" };
    let Some(moved) = edit(&Edit::Move(place), schema, &mut Vec::new()) else { return Change::Drop };
    let dialect = find("$schema").map_or(String::new(), |dialect| format!("\"$schema\":{dialect},"));
    let wrapped = format!("\"properties\":{{\"result\":{moved}}},\"required\":[\"result\"]");
    Change::Put(if either {
        format!("{{{dialect}\"type\":\"object\",\"anyOf\":[{{{wrapped}}},{{\"$ref\":\"{place}\"}}]}}")
    } else {
        format!("{{{dialect}\"type\":\"object\",{wrapped}}}")
    })
}

fn is_object(kind: &str) -> bool {
    json::string(kind.as_bytes()).is_some_and(|kind| kind == "object")
}

/// Whether a value of that schema can be an object, as far as is easily seen. What cannot is
/// always wrapped, so its schema may say so.
fn may_be_object(schema: &str, depth: usize) -> bool {
    let Ok(members) = json::members(schema) else { return schema != "false" };
    if depth > MAX_DEPTH {
        return true;
    }
    members.iter().all(|(key, value)| {
        let all = || json::elements(value, usize::MAX).ok().flatten().unwrap_or_default().into_iter();
        match &**key {
            "type" if value.starts_with('[') => all().any(is_object),
            "type" => is_object(value),
            "const" => value.starts_with('{'),
            "enum" => all().any(|value| value.starts_with('{')),
            "anyOf" | "oneOf" => all().any(|schema| may_be_object(schema, depth + 1)),
            "allOf" => all().all(|schema| may_be_object(schema, depth + 1)),
            _ => true,
        }
    })
}

/// How deep a schema is read.
const MAX_DEPTH: usize = 64;

/// What is done to a schema and all within it.
enum Edit<'a> {
    /// It moves to this place in a larger schema, and its references with it.
    Move(&'a str),
    /// It loses every `x-mcp-header` that is not one of these.
    Unmirror(&'a [MirroredParam]),
}

/// The schema after the edit; borrowed where nothing changed, `None` where it is too deep or
/// cannot be read. `path` is how one came here from the root: keywords, and the names behind them.
fn edit<'s>(how: &Edit<'_>, schema: &'s str, path: &mut Vec<String>) -> Option<Cow<'s, str>> {
    if path.len() > MAX_DEPTH {
        return None;
    }
    let step = |name: String, schema: &'s str, path: &mut Vec<String>| {
        path.push(name);
        let new = edit(how, schema, path);
        path.pop();
        new
    };
    if schema.starts_with('[') {
        let all = json::elements(schema, usize::MAX).ok()??.into_iter().enumerate();
        let new = all.map(|(i, schema)| step(i.to_string(), schema, path)).collect::<Option<Vec<_>>>()?;
        let any = new.iter().any(|schema| matches!(schema, Cow::Owned(_)));
        return Some(if any { format!("[{}]", new.join(",")).into() } else { schema.into() });
    }
    if !schema.starts_with('{') {
        return Some(schema.into());
    }
    let members = json::members(schema).ok()?;
    if matches!(how, Edit::Move(_)) && members.iter().any(|(key, value)| key == "$id" && is_base(value)) {
        return Some(schema.into());
    }
    let mut new: Vec<(String, Cow<'s, str>)> = Vec::with_capacity(members.len());
    let mut changed = false;
    for (key, value) in members {
        let value = match (how, &*key) {
            (Edit::Move(place), "$ref" | "$dynamicRef") => moved(value, place).map_or(value.into(), Cow::Owned),
            // The dialect of the whole is said at its root.
            (Edit::Move(_), "$schema") if path.is_empty() => {
                changed = true;
                continue;
            }
            // 2019-09 allows it to mean nothing but the root, which is another one now.
            (Edit::Move(_), "$recursiveRef") => return None,
            (Edit::Unmirror(checked), "x-mcp-header") => {
                if checked.iter().any(|param| is_path_of(path, param)) {
                    value.into()
                } else {
                    changed = true;
                    continue;
                }
            }
            // Values, not schemas.
            (_, "const" | "enum" | "default" | "example" | "examples") => value.into(),
            // Schemas by name, whatever the name.
            (_, "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" | "dependencies")
                if value.starts_with('{') =>
            {
                path.push(key.to_string());
                let mut named = Vec::new();
                let mut any = false;
                for (name, schema) in json::members(value).ok()? {
                    let schema = step(name.to_string(), schema, path)?;
                    any |= matches!(schema, Cow::Owned(_));
                    named.push((name.into_owned(), schema.as_bytes().to_vec()));
                }
                path.pop();
                if any { String::from_utf8(write_object(named)).ok()?.into() } else { value.into() }
            }
            _ => step(key.to_string(), value, path)?,
        };
        changed |= matches!(value, Cow::Owned(_));
        new.push((key.into_owned(), value));
    }
    if !changed {
        return Some(schema.into());
    }
    let new = write_object(new.into_iter().map(|(key, value)| (key, value.as_bytes().to_vec())));
    String::from_utf8(new).ok().map(Cow::Owned)
}

/// Whether such an `$id` is what references below it are relative to. Until draft-07 one of a
/// fragment alone was a name.
fn is_base(id: &str) -> bool {
    json::string(id.as_bytes()).is_some_and(|id| !id.is_empty() && !id.starts_with('#'))
}

/// A reference from the root of a schema that is at `place` now. Others find their way themselves.
fn moved(reference: &str, place: &str) -> Option<String> {
    let to = json::string(reference.as_bytes())?;
    let pointer = match &*to {
        "" | "#" => "",
        to => to.strip_prefix('#').filter(|pointer| pointer.starts_with('/'))?,
    };
    Some(json::quote(&format!("{place}{pointer}")))
}

/// Whether the parameter lies at that path, which then has only `properties` and their names.
fn is_path_of(path: &[String], param: &MirroredParam) -> bool {
    path.len() == 2 * param.path.len() && path.chunks(2).zip(&param.path).all(|(step, name)| step[0] == "properties" && step[1] == *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(change: fn(Bytes) -> Bytes, text: &str) -> String {
        String::from_utf8(change(Bytes::copy_from_slice(text.as_bytes())).to_vec()).unwrap()
    }

    /// The `outputSchema` a handshake client gets for this one.
    fn output(schema: &str) -> String {
        let listed = tools(with_object_roots, &format!(r#"{{"tools":[{{"name":"x","outputSchema":{schema}}}]}}"#));
        let schema = listed.strip_prefix(r#"{"tools":[{"name":"x","outputSchema":"#).and_then(|l| l.strip_suffix("}]}"));
        schema.unwrap_or_else(|| panic!("{listed}")).to_owned()
    }

    fn wrapped(schema: &str) -> String {
        format!(r#"{{"type":"object","properties":{{"result":{schema}}},"required":["result"]}}"#)
    }

    #[test]
    fn what_has_an_object_at_its_root_stays_to_the_byte() {
        let listed =
            r##"{"tools":[ {"n":1.0,"outputSchema":{ "type" : "obj\u0065ct","$ref":"#" }},{"name":"y"},7 ],"nextCursor":"c","ttl":1e400}"##;
        assert_eq!(tools(with_object_roots, listed), listed);
        for odd in [r#"{"tools":{"outputSchema":1}}"#, r#"{"outputSchema":[]}"#, r#"["outputSchema"]"#] {
            assert_eq!(tools(with_object_roots, odd), odd);
        }
    }

    #[test]
    fn any_other_root_is_wrapped_and_the_rest_of_the_list_stays() {
        let listed =
            r#"{"tools":[{"name":"a","n":1.0,"outputSchema":{"type":"array","minItems":1.0},"_meta":{}}, {"name":"b" }],"x":2.50}"#;
        assert_eq!(
            tools(with_object_roots, listed),
            r#"{"tools":[{"name":"a","n":1.0,"outputSchema":{"type":"object","properties":{"result":{"type":"array","minItems":1.0}},"required":["result"]},"_meta":{}},{"name":"b" }],"x":2.50}"#
        );
        for never in [
            r#"{"type":"string"}"#,
            r#"{"type":["string","null"]}"#,
            r#"{"const":[{}]}"#,
            r#"{"enum":[1.0,"{"]}"#,
            r#"{"anyOf":[{"type":"array"},{"oneOf":[{"type":"null"},false]}]}"#,
            r#"{"allOf":[{},{"type":"number"}]}"#,
        ] {
            assert_eq!(output(never), wrapped(never));
        }
        assert_eq!(
            output(r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"array"}"#),
            r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"result":{"type":"array"}},"required":["result"]}"#
        );
    }

    /// A result tells by its value alone whether it was wrapped, so both must be allowed.
    #[test]
    fn what_may_be_an_object_may_come_as_it_is() {
        for maybe in ["{}", r#"{"type":["object","null"]}"#, r#"{"anyOf":[{"type":"null"},{"properties":{}}]}"#, r#"{"enum":[{},1]}"#] {
            assert_eq!(
                output(maybe),
                format!(
                    r##"{{"type":"object","anyOf":[{{"properties":{{"result":{maybe}}},"required":["result"]}},{{"$ref":"#/anyOf/0/properties/result"}}]}}"##
                )
            );
        }
        assert_eq!(
            output(r##"{"$defs":{"N":{"type":"object"}},"$ref":"#/$defs/N"}"##),
            r##"{"type":"object","anyOf":[{"properties":{"result":{"$defs":{"N":{"type":"object"}},"$ref":"#/anyOf/0/properties/result/$defs/N"}},"required":["result"]},{"$ref":"#/anyOf/0/properties/result"}]}"##
        );
    }

    #[test]
    fn references_follow_and_what_only_looks_like_one_stays() {
        for (before, after) in [
            (r##"{"$ref":"#"}"##, r##"{"$ref":"#/properties/result"}"##),
            (r##"{"$ref":""}"##, r##"{"$ref":"#/properties/result"}"##),
            (r##"{"$\u0072ef":"\u0023\/$defs\/a~1b%25"}"##, r##"{"$ref":"#/properties/result/$defs/a~1b%25"}"##),
            (r##"{"$dynamicRef":"#/$defs/X"}"##, r##"{"$dynamicRef":"#/properties/result/$defs/X"}"##),
            (r##"{"not":{"if":{"$ref":"#/items"}}}"##, r##"{"not":{"if":{"$ref":"#/properties/result/items"}}}"##),
            (r##"{"$defs":{"const":{"$ref":"#"}}}"##, r##"{"$defs":{"const":{"$ref":"#/properties/result"}}}"##),
            (r##"{"items":[{"$ref":"#"},{ }]}"##, r##"{"items":[{"$ref":"#/properties/result"},{ }]}"##),
            (
                r##"{"dependencies":{"a":["$ref"],"b":{"$ref":"#"}}}"##,
                r##"{"dependencies":{"a":["$ref"],"b":{"$ref":"#/properties/result"}}}"##,
            ),
            (r##"{"$id":"#name","not":{"$ref":"#/a"}}"##, r##"{"$id":"#name","not":{"$ref":"#/properties/result/a"}}"##),
            (
                r##"{"properties":{"$ref":{"$ref":"#"},"$id":{"type":"string"}}}"##,
                r##"{"properties":{"$ref":{"$ref":"#/properties/result"},"$id":{"type":"string"}}}"##,
            ),
        ] {
            let members = |schema: &str| schema[1..].to_owned();
            assert_eq!(
                output(&format!(r#"{{"type":"array",{}"#, members(before))),
                wrapped(&format!(r#"{{"type":"array",{}"#, members(after)))
            );
        }
        for stays in [
            r##"{"type":"array","items":{"$ref":"#name"}}"##,
            r##"{"type":"array","items":{"$ref":"other.json#/a"}}"##,
            r##"{"type":"array","items":{"$ref":"https://x/#"},"$anchor":"n","$dynamicAnchor":"m"}"##,
            r##"{"type":"array","const":{"$ref":"#/a"},"enum":[{"$ref":"#"}],"default":{"$ref":"#"},"examples":[{"$ref":"#"}]}"##,
            r##"{"$id":"https://x/y","$schema":"s","type":"array","items":{"$ref":"#/a"}}"##,
            r##"{"type":"array","items":{"$id":"https://x/y","not":{"$ref":"#/a"}}}"##,
            r##"{"type":"array","items":{"$ref":7, "x":1e400}}"##,
        ] {
            let dialect = if stays.contains("$schema") { r#"{"$schema":"s","# } else { "{" };
            assert_eq!(output(stays), wrapped(stays).replacen('{', dialect, 1));
        }
    }

    #[test]
    fn a_schema_that_cannot_be_moved_is_left_out() {
        let deep = format!("{}{{\"$ref\":\"#\"}}{}", "{\"not\":".repeat(200_000), "}".repeat(200_000));
        for bad in [
            r#"{"type":"array","type":"array"}"#,
            r#"{"type":"array","items":{"a":1,"a":2}}"#,
            r##"{"$recursiveRef":"#"}"##,
            "null",
            "true",
            &deep,
        ] {
            assert_eq!(
                tools(with_object_roots, &format!(r#"{{"tools":[{{"name":"x","outputSchema":{bad},"n":1.0}}]}}"#)),
                r#"{"tools":[{"name":"x","n":1.0}]}"#
            );
        }
    }

    #[test]
    fn mirrors_stay_where_they_are_checked() {
        let input = |schema: &str| format!(r#"{{"tools":[{{"name":"x","inputSchema":{schema},"n":1.0}}]}}"#);
        let stays = input(
            r#"{ "type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"properties":{"x-mcp-header":{"type":"integer","x-mcp-header":"B"}}}}}"#,
        );
        assert_eq!(tools(without_unchecked_mirrors, &stays), stays);
        for (before, after) in [
            // An invalid one: then none of the tool's is checked.
            (
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a b"},"c":{"default":{"x-mcp-header":1.0}}}}"#,
                r#"{"properties":{"a":{"type":"string"},"b":{"type":"string"},"c":{"default":{"x-mcp-header":1.0}}}}"#,
            ),
            // A valid one, and others where none may be: they spoil it.
            (
                r#"{"x-mcp-header":"R","properties":{"a":{"type":"string","x-mcp-header":"A","not":{"x\u002dmcp-header":1}}},"allOf":[{"properties":{"a":{"x-mcp-header":"B"}}}]}"#,
                r#"{"properties":{"a":{"type":"string","not":{}}},"allOf":[{"properties":{"a":{}}}]}"#,
            ),
        ] {
            assert_eq!(tools(without_unchecked_mirrors, &input(before)), input(after));
        }
    }
}
