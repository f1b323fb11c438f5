//! Which tools of a server are there for clients: what was listed as allowed, less what was denied; and what
//! callers need for which.

/// A filter of tools, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolFilter {
    /// `None`: whatever the server has.
    allow: Option<Vec<Pattern>>,
    deny: Vec<Pattern>,
    /// A tool of our own.
    always: Option<String>,
}

/// A name in which `*` stands for any letters, or none.
#[derive(Clone, Debug, PartialEq)]
struct Pattern(String);

impl ToolFilter {
    /// From names and patterns as they were written.
    pub fn new(allow: Option<&[String]>, deny: &[String]) -> Result<ToolFilter, String> {
        let read = |all: &[String]| all.iter().map(|written| Pattern::read(written)).collect::<Result<Vec<_>, _>>();
        Ok(ToolFilter { allow: allow.map(read).transpose()?, deny: read(deny)?, always: None })
    }

    /// The same, with a tool of our own that is always there.
    pub fn and_always(self, tool: &str) -> ToolFilter {
        ToolFilter { always: Some(tool.to_owned()), ..self }
    }

    /// Whether clients may see and call this tool. What is denied stays denied, also where it is allowed.
    pub fn admits(&self, tool: &str) -> bool {
        if self.always.as_deref() == Some(tool) {
            return true;
        }
        self.allow.as_ref().is_none_or(|allow| allow.iter().any(|p| p.matches(tool))) && !self.deny.iter().any(|p| p.matches(tool))
    }

    /// Whether it keeps nothing back.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }
}

/// The scopes that callers of a server need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rights {
    /// For anything at all.
    pub scopes: Vec<String>,
    /// For calls of the tools that a pattern means, besides.
    tools: Vec<(Pattern, Vec<String>)>,
}

impl Rights {
    /// From scopes and patterns as they were written.
    pub fn new<'w>(scopes: &[String], tools: impl IntoIterator<Item = (&'w String, &'w Vec<String>)>) -> Result<Rights, String> {
        let tools = tools.into_iter().map(|(pattern, scopes)| Ok((Pattern::read(pattern)?, scopes.clone())));
        Ok(Rights { scopes: scopes.to_vec(), tools: tools.collect::<Result<_, String>>()? })
    }

    /// Whether any tool needs something of its own.
    pub fn has_tools(&self) -> bool {
        !self.tools.is_empty()
    }

    /// What a call of this tool needs; of one that is not known to be none of this server's, all that any needs.
    pub fn of_tool<'r>(&'r self, tool: Option<&'r str>) -> impl Iterator<Item = &'r str> {
        let meant = self.tools.iter().filter(move |(pattern, _)| tool.is_none_or(|tool| pattern.matches(tool)));
        meant.flat_map(|(_, scopes)| scopes).map(String::as_str)
    }

    /// Everything that anything needs.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(String::as_str).chain(self.of_tool(None))
    }
}

impl Pattern {
    fn read(written: &str) -> Result<Pattern, String> {
        let strange = |c: char| c.is_whitespace() || c.is_control();
        if written.is_empty() || written.contains(strange) {
            return Err(format!("{written:?} names no tool; write a name, or a pattern with `*`, such as \"read_*\""));
        }
        Ok(Pattern(written.into()))
    }

    /// Remembers the last star and what it took, and lets it take one more where the rest does not
    /// fit: no pattern takes longer than its length times that of the name.
    fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        let mut star = None;
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
                _ => {
                    let Some((at, taken)) = star else { return false };
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: Option<&[&str]>, deny: &[&str]) -> ToolFilter {
        let own = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        ToolFilter::new(allow.map(own).as_deref(), &own(deny)).unwrap()
    }

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, matches) in [
            ("read", "read", true),
            ("read", "reads", false),
            ("read", "Read", false),
            ("read_*", "read_file", true),
            ("read_*", "read_", true),
            ("read_*", "spread_file", false),
            ("*", "", true),
            ("*_file", "read_file_file", true),
            ("*_file", "read_files", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a**c", "abc", true),
            ("a?c", "abc", false),
            ("*ä", "bä", true),
        ] {
            assert_eq!(Pattern::read(pattern).unwrap().matches(name), matches, "{pattern} {name}");
        }
        let many = format!("{}b", "*a".repeat(200));
        assert!(!Pattern::read(&many).unwrap().matches(&"a".repeat(2_000)));
    }

    #[test]
    fn what_is_denied_stays_denied() {
        assert!(filter(None, &[]).is_open() && filter(None, &[]).admits("anything"));
        let some = filter(Some(&["read_*", "stat"]), &["read_secret*"]);
        assert!(some.admits("read_file") && some.admits("stat"));
        assert!(!some.admits("read_secrets") && !some.admits("write_file"));
        assert!(filter(None, &["rm"]).admits("ls") && !filter(None, &["rm"]).admits("rm"));
    }

    #[test]
    fn an_empty_list_of_what_is_allowed_allows_nothing() {
        assert!(!filter(Some(&[]), &[]).admits("read") && !filter(Some(&[]), &[]).is_open());
    }

    #[test]
    fn what_names_no_tool_is_refused() {
        for bad in ["", " ", "a b", "a\n"] {
            assert!(ToolFilter::new(None, &[bad.to_owned()]).unwrap_err().contains("names no tool"), "{bad:?}");
        }
    }
}
