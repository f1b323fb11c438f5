//! `application/x-www-form-urlencoded`: queries and the bodies of requests (RFC 6749, appendix B).
//!
//! Strict: a parameter twice is refused, whichever it is (RFC 6749 §3.1), and so is what is no UTF-8 once
//! it is decoded. A parameter without a value is the same as none.

use super::url::byte_of;

/// Longest form that is read, and most parameters in it.
const MAX_FORM: usize = 16 * 1024;
const MAX_PARAMS: usize = 256;

/// The parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a query or a body. The error fits after "the request ".
    pub fn read(text: &str) -> Result<Form, &'static str> {
        if text.len() > MAX_FORM {
            return Err("is too long");
        }
        let mut params = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else { return Err("is not encoded as a form") };
            if params.len() == MAX_PARAMS {
                return Err("has too many parameters");
            }
            params.push((name, value));
        }
        Ok(Form(params))
    }

    /// The value of a parameter that is there, and is not empty; of one that is there twice the first.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a parameter is there more than once.
    pub fn is_twice(&self, name: &str) -> bool {
        self.0.iter().filter(|(n, _)| n == name).count() > 1
    }

    /// The first parameter that is there more than once.
    pub fn twice(&self) -> Option<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).find(|name| self.is_twice(name))
    }
}

/// What a name or a value of a form stands for.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['%', '+']) {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        if rest.as_bytes()[at] == b'+' {
            bytes.push(b' ');
            rest = &rest[at + 1..];
        } else {
            bytes.push(byte_of(rest.get(at + 1..at + 3)?)?);
            rest = &rest[at + 3..];
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// Puts parameters behind a URL, which may have some.
pub fn with_params(url: &str, params: &[(&str, &str)]) -> String {
    let mut whole = url.to_owned();
    for (name, value) in params {
        whole.push(if whole.contains('?') { '&' } else { '?' });
        whole.push_str(&format!("{}={}", encode(name), encode(value)));
    }
    whole
}

/// `text` as a name or a value of a form.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => encoded.push(b.into()),
            b => encoded.push_str(&format!("%{b:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded_strictly() {
        let form = Form::read("a=1&b=x%20y+z&c=%C3%BC%3D&&d&e=&f=g=h&a=2").unwrap();
        assert_eq!(form.get("a"), Some("1"));
        assert_eq!(form.get("b"), Some("x y z"));
        assert_eq!(form.get("c"), Some("ü="));
        assert_eq!((form.get("d"), form.get("e"), form.get("x")), (None, None, None));
        assert_eq!(form.get("f"), Some("g=h"));
        assert_eq!(form.twice(), Some("a"));
        assert_eq!(Form::read("e=&f=&e=").unwrap().twice(), Some("e"));
        for bad in ["a=%", "a=%2", "a=%+1", "a=%zz", "a=%ff", "%c3=1", "a=%ü", &"x".repeat(MAX_FORM + 1), &"a&".repeat(MAX_PARAMS + 1)] {
            assert!(Form::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_go_behind_what_is_there() {
        assert_eq!(with_params("https://h/cb", &[("code", "a b"), ("state", "&=ü")]), "https://h/cb?code=a%20b&state=%26%3D%C3%BC");
        assert_eq!(with_params("https://h/cb?x=1", &[("code", "c")]), "https://h/cb?x=1&code=c");
        assert_eq!(with_params("app.x:/cb", &[]), "app.x:/cb");
    }
}
