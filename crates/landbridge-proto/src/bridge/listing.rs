//! A listing from which some things are left out.

use bytes::Bytes;

use crate::call::object;
use crate::json::{self, Span};

/// The same tools/list result without the tools that are not admitted by name. What has no name is no
/// tool, and left out too. `None`: it is no listing of tools.
pub fn keep_tools(result: &Bytes, admits: impl Fn(&str) -> bool) -> Option<Bytes> {
    let message = object(result.clone()).ok()?;
    let [tools] = message.params_fields(&["tools"]).ok()?;
    let tools: Span = tools?;
    let all = json::elements(message.text(tools), usize::MAX).ok()??;
    let is_kept = |tool: &&str| json::field(tool.as_bytes(), "name").and_then(json::string).is_some_and(|name| admits(&name));
    let kept: Vec<&str> = all.iter().copied().filter(is_kept).collect();
    if kept.len() == all.len() {
        return Some(result.clone());
    }
    let kept = format!("[{}]", kept.join(","));
    Some(json::splice(result, &[(tools, kept.as_bytes())]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(result: &str, admitted: &[&str]) -> Option<String> {
        let kept = keep_tools(&Bytes::copy_from_slice(result.as_bytes()), |name| admitted.contains(&name));
        kept.map(|kept| String::from_utf8(kept.to_vec()).unwrap())
    }

    #[test]
    fn what_is_kept_keeps_its_letters() {
        let listing =
            r#"{"x":1.0,"tools":[ {"name":"a","z":1e3}, {"inputSchema":{"name":"b"},"name":"\u0062"},{"name":"c"} ],"nextCursor":"n"}"#;
        assert_eq!(kept(listing, &["a", "b", "c"]).unwrap(), listing);
        assert_eq!(kept(listing, &["a", "c"]).unwrap(), r#"{"x":1.0,"tools":[{"name":"a","z":1e3},{"name":"c"}],"nextCursor":"n"}"#);
        assert_eq!(kept(listing, &["b"]).unwrap(), r#"{"x":1.0,"tools":[{"inputSchema":{"name":"b"},"name":"\u0062"}],"nextCursor":"n"}"#);
        assert_eq!(kept(listing, &[]).unwrap(), r#"{"x":1.0,"tools":[],"nextCursor":"n"}"#);
    }

    #[test]
    fn what_has_no_name_is_left_out() {
        assert_eq!(kept(r#"{"tools":[{},{"name":1},5,null,{"name":"a"}]}"#, &["a", "1"]).unwrap(), r#"{"tools":[{"name":"a"}]}"#);
    }

    #[test]
    fn what_is_no_listing_is_nothing() {
        for other in ["{}", r#"{"tools":5}"#, r#"{"tools":{"a":1}}"#, "[]", "5"] {
            assert_eq!(kept(other, &["a"]), None, "{other}");
        }
    }
}
