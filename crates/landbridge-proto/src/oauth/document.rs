//! A JSON document that a stranger wrote, read field by field.
//!
//! Odd: a key that is there twice refuses the whole document, known or not, because two readers would
//! take two values. `null` is the same as not being there; what is of another type is an error.

use std::borrow::Cow;

use crate::json;

/// Longest document that is read. Those of the well-known servers have 2 to 6 KiB.
pub const MAX_DOCUMENT: usize = 64 * 1024;
/// Most elements of a list in it.
const MAX_ELEMENTS: usize = 256;

/// The members of the object.
#[derive(Debug)]
pub(super) struct Document<'t>(Vec<(Cow<'t, str>, &'t str)>);

impl<'t> Document<'t> {
    /// Reads an object.
    pub(super) fn read(text: &'t str) -> Result<Document<'t>, String> {
        if text.len() > MAX_DOCUMENT {
            return Err(format!("it is longer than {MAX_DOCUMENT} bytes"));
        }
        json::members(text).map(Document).map_err(|e| e.to_string())
    }

    /// The JSON text of a field.
    pub(super) fn raw(&self, key: &str) -> Option<&'t str> {
        self.0.iter().find(|(k, value)| k == key && *value != "null").map(|(_, value)| *value)
    }

    /// Whether a field is there at all, be it as `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// A string.
    pub(super) fn string(&self, key: &str) -> Result<Option<String>, String> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        match json::string(raw.as_bytes()) {
            Some(text) => Ok(Some(text.into_owned())),
            None => Err(format!("`{key}` is no string")),
        }
    }

    /// A string that must be there.
    pub(super) fn required(&self, key: &str) -> Result<String, String> {
        self.string(key)?.filter(|text| !text.is_empty()).ok_or_else(|| format!("`{key}` is missing"))
    }

    /// A list of strings.
    pub(super) fn strings(&self, key: &str) -> Result<Option<Vec<String>>, String> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        let bad = || format!("`{key}` is no list of strings");
        let Some(elements) = json::elements(raw, MAX_ELEMENTS).map_err(|_| bad())? else {
            return Err(format!("`{key}` has more than {MAX_ELEMENTS} elements"));
        };
        let strings: Option<Vec<String>> = elements.iter().map(|raw| json::string(raw.as_bytes()).map(Cow::into_owned)).collect();
        strings.map(Some).ok_or_else(bad)
    }

    /// A whole number, 0 or more. Some write it as a string.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(raw) = self.raw(key) else { return Ok(None) };
        raw.trim_matches('"').parse().map(Some).map_err(|_| format!("`{key}` is no whole number"))
    }

    /// Yes or no, where not being there is no.
    pub(super) fn flag(&self, key: &str) -> Result<bool, String> {
        match self.raw(key) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(format!("`{key}` is neither true nor false")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_their_types() {
        let read =
            Document::read(r#"{"s":"a\u0062","n":null,"l":["x","y"],"t":true,"f":false,"e":"","o":{"x":1},"i":7,"j":"8","k":-1}"#).unwrap();
        assert_eq!(read.string("s").unwrap().as_deref(), Some("ab"));
        assert_eq!(read.string("n").unwrap(), None);
        assert_eq!(read.strings("l").unwrap().unwrap(), ["x", "y"]);
        assert!(read.flag("t").unwrap() && !read.flag("f").unwrap() && !read.flag("x").unwrap());
        assert_eq!(read.raw("o"), Some(r#"{"x":1}"#));
        assert_eq!((read.number("i"), read.number("j"), read.number("x")), (Ok(Some(7)), Ok(Some(8)), Ok(None)));
        assert!(read.number("k").is_err() && read.number("s").is_err());
        assert!(read.has("n") && !read.has("x"));
        for missing in ["n", "e", "x"] {
            assert_eq!(read.required(missing).unwrap_err(), format!("`{missing}` is missing"));
        }
        assert!(read.string("l").is_err() && read.strings("s").is_err() && read.flag("s").is_err());
        for bad in ["", "[]", "{", r#"{"a":1,"a":2}"#, &format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_DOCUMENT))] {
            assert!(Document::read(bad).is_err());
        }
    }
}
