//! `WWW-Authenticate`: what a client is told that may not come in, and what a server tells us.
//!
//! ```text
//!   Bearer resource_metadata="https://h/.well-known/…", scope="a b", error="invalid_token", error_description="…"
//! ```
//!
//! Written exactly, for clients compare strings; read liberally, for servers write everything: other
//! schemes before ours, several in one header, no quotes, no commas.

/// Why a request is not let in, and what may be said of it (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied<'a> {
    /// No credentials came: no `error` either, for the client did nothing wrong yet.
    Missing,
    /// What came is unknown, expired, withdrawn or meant for somebody else.
    Invalid(&'a str),
    /// Who comes is known, but lacks a scope that this operation needs.
    Scope(&'a str),
    /// Credentials came in a form that nobody can read, or twice.
    Malformed(&'a str),
}

impl Denied<'_> {
    /// The HTTP status (RFC 6750 §3.1).
    pub fn status(&self) -> u16 {
        match self {
            Denied::Missing | Denied::Invalid(_) => 401,
            Denied::Scope(_) => 403,
            Denied::Malformed(_) => 400,
        }
    }

    /// The value of `WWW-Authenticate`. `resource_metadata` is where the document of this mount lies
    /// (RFC 9728 §5.1); `scopes` are all that the operation needs, at best at once. What may not stand
    /// in a scope or a description (RFC 6750 §3) is left out.
    pub fn challenge(&self, resource_metadata: &str, scopes: &[&str]) -> String {
        let mut written = format!("Bearer resource_metadata={}", quote(resource_metadata));
        let scopes: Vec<&str> = scopes.iter().copied().filter(|scope| is_scope(scope)).collect();
        if !scopes.is_empty() {
            written.push_str(&format!(", scope={}", quote(&scopes.join(" "))));
        }
        let (error, description) = match self {
            Denied::Missing => return written,
            Denied::Invalid(description) => ("invalid_token", description),
            Denied::Scope(description) => ("insufficient_scope", description),
            Denied::Malformed(description) => ("invalid_request", description),
        };
        written.push_str(&format!(", error=\"{error}\""));
        let description = describe(description);
        if !description.is_empty() {
            written.push_str(&format!(", error_description=\"{description}\""));
        }
        written
    }
}

/// Whether `text` is one scope (RFC 6749 §3.3: visible ASCII but quote and backslash).
pub fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

/// `text` as it may stand in an `error_description` (RFC 6749 §5.2).
pub(super) fn describe(text: &str) -> String {
    let allowed = |c: &char| (*c == ' ' || c.is_ascii_graphic()) && *c != '"' && *c != '\\';
    text.chars().map(|c| if c == '"' { '\'' } else { c }).filter(allowed).collect()
}

/// A quoted string (RFC 9110 §5.6.4), without what no header may hold.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars().filter(|c| *c == ' ' || c.is_ascii_graphic()) {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// How many challenges are read, and how many parameters of each.
const MAX_CHALLENGES: usize = 16;
const MAX_PARAMS: usize = 32;

/// A challenge as a server wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// `bearer`, `basic`, …, in lower case.
    pub scheme: String,
    /// What stands behind the scheme where that is no parameter (RFC 9110 §11.2).
    pub token68: Option<String>,
    /// Names in lower case, values without their quotes, in order.
    pub params: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter; of one that is there twice the first.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The scopes that are asked for.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.param("scope").unwrap_or_default().split(' ').filter(|scope| is_scope(scope))
    }
}

/// The challenge for us among those of a response, one header after the other: the first that names
/// its metadata, else the first for a bearer.
pub fn bearer<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut all: Vec<Challenge> = headers.into_iter().flat_map(read).filter(|c| c.scheme == "bearer").collect();
    let at = all.iter().position(|c| c.param("resource_metadata").is_some()).unwrap_or(0);
    (at < all.len()).then(|| all.swap_remove(at))
}

/// Reads the challenges of one header (RFC 9110 §11.6.1). What is none is skipped.
pub fn read(header: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let name = &rest[..rest.find(|c: char| !is_token(c)).unwrap_or(rest.len())];
        if name.is_empty() {
            // Nothing that begins here can be understood; the next item may be.
            let Some(comma) = rest.find(',') else { return all };
            rest = &rest[comma..];
            continue;
        }
        rest = &rest[name.len()..];
        let behind = rest.trim_start_matches([' ', '\t']);
        if let (Some(value), Some(challenge)) = (behind.strip_prefix('='), all.last_mut()) {
            let value = value.trim_start_matches([' ', '\t']);
            let read;
            (read, rest) = read_value(value);
            if challenge.params.len() < MAX_PARAMS {
                challenge.params.push((name.to_ascii_lowercase(), read));
            }
            continue;
        }
        if all.len() == MAX_CHALLENGES {
            return all;
        }
        let mut challenge = Challenge { scheme: name.to_ascii_lowercase(), ..Challenge::default() };
        // Between a scheme and what belongs to it stands a space; a comma begins the next challenge.
        if behind.len() < rest.len() {
            let item = &behind[..behind.find([',', ' ', '\t']).unwrap_or(behind.len())];
            // `a=` is a token68, `a=b` and `a =b` and `a= b` are parameters.
            let follows = behind[item.len()..].trim_start_matches([' ', '\t']);
            let ends = follows.is_empty() || follows.starts_with(',');
            if is_token68(item) && (ends || !item.ends_with('=') && !follows.starts_with('=')) {
                challenge.token68 = Some(item.to_owned());
                rest = &behind[item.len()..];
            }
        }
        all.push(challenge);
    }
}

/// A quoted string, or whatever stands before the next comma or space; and the rest.
fn read_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([',', ' ', '\t']).unwrap_or(text.len()));
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    // Never closed.
    (value, "")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn is_token68(text: &str) -> bool {
    let bare = text.trim_end_matches('=');
    !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = "https://h/.well-known/oauth-protected-resource/mcp";

    #[test]
    fn challenges_are_written_exactly() {
        let begin = format!("Bearer resource_metadata=\"{META}\"");
        for (denied, scopes, status, rest) in [
            (Denied::Missing, &["a", "b"][..], 401, ", scope=\"a b\""),
            (Denied::Missing, &[], 401, ""),
            (
                Denied::Invalid("the token has expired"),
                &["a"],
                401,
                ", scope=\"a\", error=\"invalid_token\", error_description=\"the token has expired\"",
            ),
            (Denied::Invalid(""), &[], 401, ", error=\"invalid_token\""),
            (
                Denied::Scope("files need more"),
                &["a", "b"],
                403,
                ", scope=\"a b\", error=\"insufficient_scope\", error_description=\"files need more\"",
            ),
            (Denied::Malformed("two tokens"), &[], 400, ", error=\"invalid_request\", error_description=\"two tokens\""),
            (
                Denied::Invalid("a \"b\"\\\r\nc: ü"),
                &["x\"y", "", "a b", "ok"],
                401,
                ", scope=\"ok\", error=\"invalid_token\", error_description=\"a 'b'c: \"",
            ),
        ] {
            assert_eq!(denied.challenge(META, scopes), format!("{begin}{rest}"));
            assert_eq!(denied.status(), status);
        }
        assert_eq!(Denied::Missing.challenge("a\"b\\c\r\nd", &[]), "Bearer resource_metadata=\"a\\\"b\\\\cd\"");
    }

    fn shown(header: &str) -> String {
        let all: Vec<String> = read(header)
            .into_iter()
            .map(|c| {
                let params: Vec<String> = c.params.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                format!("{}({}{})", c.scheme, c.token68.map(|t| format!("{t};")).unwrap_or_default(), params.join("|"))
            })
            .collect();
        all.join(" ")
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        for (header, expected) in [
            ("Bearer", "bearer()"),
            ("bearer resource_metadata=\"u\", scope=\"a b\"", "bearer(resource_metadata:u|scope:a b)"),
            ("BEARER Realm=\"x\",ERROR=invalid_token", "bearer(realm:x|error:invalid_token)"),
            ("Basic realm=\"a, b\", Bearer scope=\"c\"", "basic(realm:a, b) bearer(scope:c)"),
            ("Negotiate, Bearer scope=x", "negotiate() bearer(scope:x)"),
            ("Negotiate abc==, Bearer scope=x", "negotiate(abc==;) bearer(scope:x)"),
            ("Negotiate abc=, Bearer", "negotiate(abc=;) bearer()"),
            ("Negotiate abc/d, Bearer", "negotiate(abc/d;) bearer()"),
            (
                "Newauth realm=\"apps\", type=1, title=\"Login to \\\"apps\\\"\", Basic realm=\"simple\"",
                "newauth(realm:apps|type:1|title:Login to \"apps\") basic(realm:simple)",
            ),
            ("Bearer scope = \"a\" , error= b", "bearer(scope:a|error:b)"),
            ("Bearer resource_metadata=https://h/x?a=b, scope=c", "bearer(resource_metadata:https://h/x?a=b|scope:c)"),
            ("Bearer realm=\"a\" scope=\"b\"", "bearer(realm:a|scope:b)"),
            (", ,Bearer ,, scope=a,", "bearer(scope:a)"),
            ("Bearer scope=\"never closed", "bearer(scope:never closed)"),
            ("Bearer scope=\"a\\", "bearer(scope:a)"),
            ("Bearer scope=\"\", x=\"ü\\ü\"", "bearer(scope:|x:üü)"),
            ("(odd), Bearer a=b", "bearer(a:b)"),
            ("", ""),
            ("ü", ""),
            ("=", ""),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    #[test]
    fn ours_is_found_among_others() {
        let found =
            bearer(["Basic realm=\"x\"", "Bearer realm=\"y\", DPoP algs=\"ES256\"", "bearer resource_metadata=\"u\", scope=\"a  b\""])
                .unwrap();
        assert_eq!(found.param("resource_metadata"), Some("u"));
        assert_eq!(found.scopes().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(bearer(["Bearer realm=\"y\""]).unwrap().param("realm"), Some("y"));
        assert_eq!(bearer(["Basic realm=\"Bearer\""]), None);
        assert_eq!(bearer([]), None);
    }
}
