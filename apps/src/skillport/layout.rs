//! How a marketplace lies in its files, and what is read from them.
//!
//! ```text
//!   .claude-plugin/marketplace.json                      what is published: plugins[{name, source, version, …}]
//!   .skillport/access.json                               who may
//!   plugins/GROUP/.claude-plugin/plugin.json             a plugin: its version is the one that counts
//!   plugins/GROUP/skills/DIRECTORY/SKILL.md              a skill: front matter (name, description), and how it is used
//! ```

use serde_json::Value;

pub(super) const MARKETPLACE: &str = ".claude-plugin/marketplace.json";
pub(super) const ACCESS: &str = ".skillport/access.json";

/// The most characters of a name.
pub(super) const MAX_NAME: usize = 64;

pub(super) fn manifest(group: &str) -> String {
    format!("plugins/{group}/.claude-plugin/plugin.json")
}

pub(super) fn skills_of(group: &str) -> String {
    format!("plugins/{group}/skills/")
}

/// The group and the directory of a `SKILL.md`.
pub(super) fn place(path: &str) -> Option<(&str, &str)> {
    let (group, rest) = path.strip_prefix("plugins/")?.split_once('/')?;
    let (dir, file) = rest.strip_prefix("skills/")?.split_once('/')?;
    (file == "SKILL.md" && is_name(group)).then_some((group, dir))
}

/// Whether that can name a skill or a group.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// A path within a skill. The error fits after "the path ".
pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() || path.len() > 300 {
        return Err("is empty or longer than 300 bytes");
    }
    if path.starts_with('/') || path.contains('\\') || path.contains(':') {
        return Err("is not relative, or has a backslash or a colon");
    }
    if path.chars().any(char::is_control) {
        return Err("has control characters");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..") || part.ends_with([' ', '.'])) {
        return Err("has a part that is empty, is or ends in a dot, or ends in a space");
    }
    // What nobody sees is dropped by some file systems, so that the rest is another name.
    if path.chars().any(is_hidden) {
        return Err("has characters that nobody sees");
    }
    if path.split('/').any(|part| part.eq_ignore_ascii_case(".git") || part.eq_ignore_ascii_case("git~1") || part.len() > 100) {
        return Err("has a part that is `.git` or longer than 100 bytes");
    }
    Ok(())
}

/// Of no width, or turning the direction of what follows.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// What a skill says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
}

/// Reads the front matter of a `SKILL.md`: what stands between two lines of `---`, as `key: value`. Of YAML it knows
/// quotes, and texts over several lines.
pub(super) fn front(text: &str) -> Option<Front> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let mut all: Vec<(&str, String)> = Vec::new();
    let mut ended = false;
    for line in lines {
        if line.trim_end() == "---" {
            ended = true;
            break;
        }
        let is_more = line.starts_with([' ', '\t']) || line.trim().is_empty();
        match (is_more, line.split_once(':')) {
            (true, _) => {
                if let Some((_, value)) = all.last_mut()
                    && !line.trim().is_empty()
                {
                    let folded =
                        if matches!(value.as_str(), ">" | "|" | ">-" | "|-" | ">+" | "|+") { String::new() } else { value.clone() };
                    *value = format!("{folded} {}", line.trim()).trim().to_owned();
                }
            }
            (false, Some((key, value))) => all.push((key.trim(), value.trim().to_owned())),
            (false, None) => {}
        }
    }
    let find = |key: &str| {
        let value = all.iter().find(|(known, _)| *known == key).map(|(_, value)| unquote(value))?;
        (!value.is_empty()).then_some(value)
    };
    ended.then(|| Front { name: find("name"), description: find("description") })
}

fn unquote(value: &str) -> String {
    if let Some(inner) = value.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inner.replace("''", "'");
    }
    if value.len() >= 2 && value.starts_with('"') && value.ends_with('"') {
        // JSON's escapes are YAML's too.
        return serde_json::from_str(value).unwrap_or_else(|_| value[1..value.len() - 1].to_owned());
    }
    value.split_once(" #").map_or(value, |(value, _)| value).trim().to_owned()
}

/// A text of a JSON object.
pub(super) fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// The texts of a list in a JSON object.
pub(super) fn texts(value: &Value, key: &str) -> Vec<String> {
    let all = value.get(key).and_then(Value::as_array);
    all.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Where a skill is used.
const SURFACES: [&str; 5] = ["CC", "CD", "CAI", "CDAI", "CALL"];

/// The surfaces of a list with commas. The error is a sentence.
pub(super) fn surfaces(text: &str) -> Result<Vec<String>, String> {
    let all = text.split(',').map(|one| one.trim().to_ascii_uppercase()).filter(|one| !one.is_empty());
    all.map(|one| {
        if SURFACES.contains(&one.as_str()) { Ok(one) } else { Err(format!("{one:?} is no surface; there are {}", SURFACES.join(", "))) }
    })
    .collect()
}

/// The surfaces of tags.
pub(super) fn surface_tags(tags: &[String]) -> Vec<String> {
    tags.iter().filter_map(|tag| tag.strip_prefix("surface:")).map(str::to_owned).collect()
}

/// Whether a skill with these surfaces is for one of those that are asked for. Without any it is for all.
pub(super) fn is_for(tags: &[String], wanted: &[String]) -> bool {
    let spread = |one: &str| match one {
        "CDAI" => vec!["CD", "CAI"],
        "CALL" => vec!["CC", "CD", "CAI"],
        "CC" => vec!["CC"],
        "CD" => vec!["CD"],
        "CAI" => vec!["CAI"],
        _ => vec![],
    };
    let ours: Vec<&str> = tags.iter().flat_map(|tag| spread(tag)).collect();
    tags.is_empty() || wanted.iter().flat_map(|one| spread(one)).any(|one| ours.contains(&one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_is_read() {
        let read = |text: &str| front(text).map(|front| (front.name.unwrap_or_default(), front.description.unwrap_or_default()));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(read("---\nname: a-b\ndescription: What: it does\n---\nbody"), pair("a-b", "What: it does"));
        assert_eq!(read("---\r\nname: \"a\"\r\ndescription: 'it''s'\r\n---\r\n"), pair("a", "it's"));
        assert_eq!(read("---\nname: a # why\ndescription: >-\n  one\n  two\nother:\n  - x\n---\n"), pair("a", "one two"));
        assert_eq!(read("---\nname: a\n"), None);
        assert_eq!(read("# no front matter"), None);
        assert_eq!(read("---\n---\n"), pair("", ""));
    }

    #[test]
    fn paths_stay_within() {
        for good in ["SKILL.md", "scripts/run.sh", "a b/ü.txt", ".hidden"] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "./a",
            "a\\b",
            "C:x",
            "a\nb",
            ".git/config",
            "a/.GIT/x",
            "x.",
            "a/",
            "..",
            ".",
            "a/..",
            "a/./b",
            "...",
            ".. /x",
            "~/..",
            "..\\x",
            "a\0b",
            "GIT~1/config",
            ".g\u{200c}it/x",
            "a\u{202e}b",
            "//x",
            "file:x",
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        assert_eq!(place("plugins/g/skills/s/SKILL.md"), Some(("g", "s")));
        assert_eq!(place("plugins/g/skills/s/more/SKILL.md"), None);
        assert!(is_name("a-1") && !is_name("A") && !is_name("") && !is_name("a_b") && !is_name(&"a".repeat(65)));
    }

    #[test]
    fn surfaces_stand_for_others() {
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for (tags, wanted, fits) in [
            (&[][..], "CC", true),
            (&["CC"], "CC", true),
            (&["CC"], "CD", false),
            (&["CDAI"], "CD", true),
            (&["CDAI"], "CAI", true),
            (&["CDAI"], "CC", false),
            (&["CALL"], "CC", true),
            (&["CD"], "CDAI", true),
            (&["CC"], "CDAI", false),
            (&["CC"], "CALL", true),
        ] {
            assert_eq!(is_for(&list(tags), &surfaces(wanted).unwrap()), fits, "{tags:?} {wanted}");
        }
        assert!(surfaces("CC,XX").unwrap_err().contains("XX"));
    }
}
